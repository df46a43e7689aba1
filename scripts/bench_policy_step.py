"""Measures an optimiser step of GRPO with G forecasts beside a supervised step of the same batch.

python scripts/bench_policy_step.py --model timellm --group 64
"""

import argparse
import json
import statistics
import tempfile
import time

import torch
from transformers import TrainerCallback
from tsllm.training.supervised import build_model

from tsllm.models import MODELS
from tsllm.programs.series import prepare_series
from tsllm.training.args import DataArguments, ModelArguments
from tsllm.training.policy.args import PolicyArguments, PolicyTrainingArguments
from tsllm.training.policy.trainer import PolicyTrainer
from tsllm.training.trainer import ForecastTrainer


class Clock(TrainerCallback):
    """Times each optimiser step in CPU seconds, which other programs on the machine do not disturb."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_step_begin(self, args, state, control, **kwargs):  # noqa: D102
        self.began = time.process_time()

    def on_step_end(self, args, state, control, **kwargs):  # noqa: D102
        self.seconds.append(time.process_time() - self.began)


def measure(make, steps: int) -> float:
    trainer = make()
    clock = Clock()
    trainer.add_callback(clock)
    trainer.train()
    return statistics.median(clock.seconds[steps // 4 :])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="timellm")
    parser.add_argument("--model_config", default="{}", help="JSON")
    parser.add_argument("--group", type=int, default=64)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rewards", nargs="+", default=["energy", "newsvendor", "battery_profit"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = prepare_series(MODELS.get("timellm"), DataArguments(dataset="epf-fr-be", context_length=168))
    config = json.loads(options.model_config) | {"head": "student_t"}
    model = build_model(ModelArguments(model=options.model, model_config=config), data)
    with tempfile.TemporaryDirectory() as folder:
        args = PolicyTrainingArguments(
            output_dir=folder,
            max_steps=options.steps,
            per_device_train_batch_size=options.batch,
            eval_strategy="no",
            save_strategy="no",
            use_cpu=True,
            disable_tqdm=True,
            logging_steps=1000,
        )
        supervised = measure(lambda: ForecastTrainer(model, args, data.train, None, data.scaler), options.steps)
        print(
            f"supervised: {1000 * supervised:.0f} ms a step, batch {options.batch} x {data.train.num_channels} series"
        )
        for reward in options.rewards:
            policy = PolicyArguments(objective="dr_grpo", reward=reward, num_samples=options.group)
            season = data.loaded.source.season if data.loaded.source else 1

            def make(policy=policy, season=season):
                return PolicyTrainer(model, args, policy, data.train, None, data.scaler, season)

            seconds = measure(make, options.steps)
            print(f"{reward}, G = {options.group}: {1000 * seconds:.0f} ms, {seconds / supervised:.2f} x supervised")


if __name__ == "__main__":
    main()
