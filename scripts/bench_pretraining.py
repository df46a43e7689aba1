"""Measures a training step of several pre-trainings on synthetic series, in turn.

python scripts/bench_pretraining.py recipes/configs/pretrain_series/patchcast_{smollm2,spectrum,two_layers}.yaml

Model, series and batch are those of each recipe's YAML; a step draws its windows, too. Seconds are those of this
process's CPU on one thread, which other programs disturb less than wall time; the recipes take turns, and the ratio is
taken within each turn. "Equal time" is then a number of steps.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from tsllm.programs.pretrain_series import StreamArguments, StreamTrainer, build_model
from tsllm.training.args import ForecastTrainingArguments, ModelArguments, parse_arguments

WARM_UP = 2  # turns that do not count


def build_step(path: str, folder: str) -> Callable[[], None]:
    """Returns what makes one training step of a recipe's configuration: draw, forward, backward, update."""
    options = ["--config", path, "eval_strategy=no", "save_strategy=no", "use_cpu=true", f"output_dir={folder}"]
    stream, model_args, args = parse_arguments((StreamArguments, ModelArguments, ForecastTrainingArguments), options)
    torch.manual_seed(args.seed)
    model = build_model(stream, model_args)
    trainer = StreamTrainer(model, args, stream.build_config(args.seed), None, stream.load_panels())
    trainer.create_optimizer_and_scheduler(args.max_steps)
    batches, optimizer = iter(trainer.get_train_dataloader()), trainer.optimizer
    model.train()

    def step() -> None:
        trainer.training_step(model, next(batches))
        torch.nn.utils.clip_grad_norm_(model.parameters(), args.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()

    return step


def measure(steps: Sequence[Callable[[], None]], turns: int) -> list[list[float]]:
    """Returns the CPU seconds of each step in each turn, without those of the warm-up."""
    seconds: list[list[float]] = []
    for _ in range(turns + WARM_UP):
        turn = []
        for step in steps:
            began = time.process_time()
            step()
            turn.append(time.process_time() - began)
        seconds.append(turn)
    return seconds[WARM_UP:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="+", help="YAML files of recipes/configs/pretrain_series")
    parser.add_argument("--turns", type=int, default=12)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        turns = measure([build_step(path, folder) for path in asked.configs], asked.turns)
    names = [Path(path).stem for path in asked.configs]
    for k, name in enumerate(names):
        ratios = [turn[k] / turn[0] for turn in turns]
        median, low, high = statistics.median(ratios), min(ratios), max(ratios)
        seconds = statistics.median(turn[k] for turn in turns)
        print(f"{name}: {seconds:.3f} s a step, {median:.3f} of {names[0]}'s ({low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main()
