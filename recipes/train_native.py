"""Trains a native forecaster on a data set, tests it on every test window and writes a loadable artefact.

accelerate launch recipes/train_native.py --config recipes/configs/train_native/dlinear.yaml

One step of the algorithm:

    batch      tsllm.training.trainer.ForecastTrainer.get_train_dataloader   windows [B, L, C], targets [B, H, C]
    model      tsllm.models.dlinear.DLinear.forecast                         or any other of `tsllm.MODELS`
    loss       tsllm.training.trainer.ForecastTrainer.compute_loss           of the head against what followed
    update     transformers.Trainer.training_step                            of all weights
"""

from collections.abc import Sequence

from tsllm.cli.console import run_main
from tsllm.programs.series import run_supervised
from tsllm.programs.told import ContextArguments
from tsllm.training.args import DataArguments, ForecastTrainingArguments, ModelArguments, parse_arguments


def main(argv: Sequence[str] | None = None) -> None:
    classes = (ModelArguments, DataArguments, ForecastTrainingArguments, ContextArguments)
    model_args, data_args, args, told = parse_arguments(classes, argv)
    run = run_supervised(model_args, data_args, args, recipe="train_native", told=told)
    if run.is_main:
        print(run.summary())


if __name__ == "__main__":
    run_main(main)
