"""Trains one model on an endless stream of synthetic series, to forecast series that it has never seen.

accelerate launch recipes/pretrain_series.py --config recipes/configs/pretrain_series/patchcast.yaml

One step of the algorithm:

    batch      tsllm.programs.pretrain_series.StreamTrainer.get_train_dataloader   series drawn anew [B, L], [B, H]
    model      tsllm.models.patchcast.PatchCast.forecast                           all patches ahead in one pass
    loss       tsllm.training.trainer.ForecastTrainer.compute_loss                 quantile loss against what was drawn
    update     transformers.Trainer.training_step                                  of all weights
"""

from collections.abc import Sequence

from tsllm.cli.console import run_main
from tsllm.programs.pretrain_series import StreamArguments, run_pretrain_series
from tsllm.programs.told import ContextArguments, refuse_told
from tsllm.training.args import ForecastTrainingArguments, ModelArguments, parse_arguments


def main(argv: Sequence[str] | None = None) -> None:
    classes = (StreamArguments, ModelArguments, ForecastTrainingArguments, ContextArguments)
    *arguments, told = parse_arguments(classes, argv)
    refuse_told(told, "nothing is told of synthetic series")
    run = run_pretrain_series(*arguments)
    if run.is_main:
        print(run.summary())


if __name__ == "__main__":
    run_main(main)
