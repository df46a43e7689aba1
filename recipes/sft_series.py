"""Reprograms a frozen (or LoRA-adapted) language model into a forecaster of series; trains any entry of MODELS.

accelerate launch recipes/sft_series.py --config recipes/configs/sft_series/etth1_smollm2.yaml

One step of the algorithm:

    batch      tsllm.training.trainer.ForecastTrainer.get_train_dataloader   windows [B, L, C], targets [B, H, C]
    model      tsllm.models.timellm.model.TimeLLM.forecast    patches onto words, the language model, a head
    loss       tsllm.training.trainer.ForecastTrainer.compute_loss   of the head; missing steps do not count
    update     transformers.Trainer.training_step             of the trained weights (or LoRA's) alone
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
