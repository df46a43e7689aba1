"""Pre-trains PatchTST by reconstructing hidden patches, swaps the head and trains the forecaster.

accelerate launch recipes/pretrain_patchtst.py --config recipes/configs/pretrain_patchtst/etth1.yaml

One step of the first stage (the second is recipes/train_native.py from these weights):

    batch      tsllm.training.trainer.ForecastTrainer.get_train_dataloader   windows [B, L, C]
    mask       tsllm.models.patchtst.mask_patches                            a share of the patches is hidden
    model      tsllm.models.patchtst.PatchTSTPretraining.reconstruct         the hidden patches, from the others
    loss       tsllm.models.patchtst.compute_reconstruction_loss             squared error on the hidden patches alone
    head       tsllm.models.patchtst.PatchTST.from_pretraining               takes the encoder over, with a new head
"""

from collections.abc import Sequence

from tsllm.cli.console import run_main
from tsllm.programs.series import run_pretraining
from tsllm.programs.told import ContextArguments, refuse_told
from tsllm.training.args import DataArguments, ForecastTrainingArguments, ModelArguments, parse_arguments
from tsllm.training.pretraining import PretrainingArguments


def main(argv: Sequence[str] | None = None) -> None:
    classes = (PretrainingArguments, ModelArguments, DataArguments, ForecastTrainingArguments, ContextArguments)
    *arguments, told = parse_arguments(classes, argv)
    refuse_told(told, "PatchTST reads no texts")
    run = run_pretraining(*arguments, recipe="pretrain_patchtst")
    if run.is_main:
        print(run.summary())


if __name__ == "__main__":
    run_main(main)
