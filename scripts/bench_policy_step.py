"""Measures an optimiser step of a reward objective with G forecasts beside a supervised step of the same batch.

python scripts/bench_policy_step.py --config recipes/configs/dapo_series/epf_smollm2.yaml --group 64

Model, data and batch are those of the recipe's YAML. Seconds are those of this process's CPU on one thread, which
other programs disturb less than wall time; supervised and policy steps take turns, and the ratio is taken within each
turn.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch
import yaml
from transformers import TrainerCallback

from tsllm.models import find_model_class
from tsllm.programs.series import prepare_series
from tsllm.training.args import DataArguments
from tsllm.training.build import build_for_data
from tsllm.training.policy.args import PolicyArguments, PolicyTrainingArguments
from tsllm.training.policy.trainer import PolicyTrainer
from tsllm.training.trainer import ForecastTrainer

WARM_UP = 2  # steps of a turn that do not count
REWARDS = {
    "energy": "energy",
    "newsvendor": "newsvendor",
    "battery_profit": "battery_profit",
    "peak_shaving": {"name": "peak_shaving", "energy": 60, "power": 20, "bound": 10000},
    "commitment": {
        "name": "commitment", "units": 4, "capacity": 20, "start_cost": 20, "run_cost": 5, "shortage_cost": 2,
        "bound": 100000,
    },
}  # fmt: skip


class Clock(TrainerCallback):
    """Notes the CPU seconds of each optimiser step."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: D102
        self.began = time.process_time()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: D102
        self.seconds.append(time.process_time() - self.began)


def measure(make: Callable[[], Any]) -> float:
    """Returns the median CPU seconds of a step."""
    trainer, clock = make(), Clock()
    trainer.add_callback(clock)
    trainer.train()
    return statistics.median(clock.seconds[WARM_UP:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="recipes/configs/dapo_series/epf_smollm2.yaml")
    parser.add_argument("--group", type=int, default=64)
    parser.add_argument("--objective", default="dr_grpo")
    parser.add_argument("--steps", type=int, default=10, help="of a turn, after the warm-up")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--rewards", nargs="+", default=list(REWARDS), choices=list(REWARDS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    with open(options.config, encoding="utf-8") as file:
        recipe = yaml.safe_load(file)
    data = prepare_series(find_model_class(recipe["model"]), DataArguments(dataset=recipe["dataset"]))
    model = build_for_data(recipe["model"], recipe["model_config"], data)
    season = data.loaded.source.season if data.loaded.source else 1
    with tempfile.TemporaryDirectory() as folder:
        args = PolicyTrainingArguments(
            output_dir=folder,
            max_steps=options.steps + WARM_UP,
            per_device_train_batch_size=recipe["per_device_train_batch_size"],
            eval_strategy="no",
            save_strategy="no",
            use_cpu=True,
            disable_tqdm=True,
            logging_steps=10**6,
        )

        def supervised() -> Any:
            return ForecastTrainer(model, args, data.train, None, data.scaler)

        def policy(reward: Any) -> Callable[[], Any]:
            given = PolicyArguments(objective=options.objective, reward=reward, num_samples=options.group)
            return lambda: PolicyTrainer(model, args, given, data.train, None, data.scaler, season)

        turns = [
            {"supervised": measure(supervised)} | {name: measure(policy(REWARDS[name])) for name in options.rewards}
            for _ in range(options.turns)
        ]
    report = {"supervised": {"ms": 1e3 * statistics.median(t["supervised"] for t in turns)}}
    for name in options.rewards:
        ratios = sorted(turn[name] / turn["supervised"] for turn in turns)
        report[name] = {
            "ms": 1e3 * statistics.median(t[name] for t in turns),
            "ratio": statistics.median(ratios),
            "least": ratios[0],
            "largest": ratios[-1],
        }
    print(json.dumps({"config": options.config, "group": options.group, "turns": options.turns} | report, indent=1))


if __name__ == "__main__":
    main()
