"""Reprograms a frozen (or LoRA-adapted) language model into a forecaster of series; trains any entry of MODELS.

accelerate launch recipes/sft_series.py --config recipes/configs/sft_series/etth1_smollm2.yaml
"""

from collections.abc import Sequence

from tsllm.cli.console import run_main
from tsllm.programs.series import run_supervised
from tsllm.programs.told import ContextArguments
from tsllm.training.args import DataArguments, ForecastTrainingArguments, ModelArguments, parse_arguments


def main(argv: Sequence[str] | None = None) -> None:
    classes = (ModelArguments, DataArguments, ForecastTrainingArguments, ContextArguments)
    model_args, data_args, args, told = parse_arguments(classes, argv)
    run = run_supervised(model_args, data_args, args, recipe="sft_series", told=told)
    if run.is_main:
        print(run.summary())


if __name__ == "__main__":
    run_main(main)
