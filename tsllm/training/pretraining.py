"""Masked pre-training of PatchTST (Nie 2023, section 3.2): the trainer and the program of its recipe."""

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import set_seed
from transformers.utils import SAFE_WEIGHTS_NAME

from tsllm.data.prepared import prepare_data
from tsllm.models.base import ForecastModel
from tsllm.models.patchtst import PatchTST, PatchTSTPretraining, PatchTSTPretrainingConfig
from tsllm.programs.artefacts import TrainingRun, prepare_output_dir
from tsllm.training.args import ArgumentsError, DataArguments, ForecastTrainingArguments, ModelArguments
from tsllm.training.supervised import find_sizes, read_model_config, run_supervised
from tsllm.training.trainer import ForecastTrainer, find_checkpoint

FOLDER = "pretraining"
# What a configuration says about forecasting, of no concern to the pre-training.
_OF_THE_FORECAST = ("head", "head_kwargs", "quantile_levels", "loss", "loss_kwargs", "individual_head", "linear_probe")


@dataclass
class PretrainingArguments:
    """How the encoder is pre-trained before it is trained to forecast.

    Attributes:
        mask_ratio: Share of patches that are hidden.
        pretraining_epochs: Epochs of pre-training.
        pretraining_learning_rate: Its learning rate; None = that of the forecasting stage.
    """

    mask_ratio: float = field(default=0.4, metadata={"help": "share of patches that are hidden"})
    pretraining_epochs: float = field(default=10.0, metadata={"help": "epochs of pre-training"})
    pretraining_learning_rate: float | None = field(default=None, metadata={"help": "None = learning_rate"})


class PretrainingTrainer(ForecastTrainer):
    """Trains a `PatchTSTPretraining`; evaluation hides the same patches every time."""

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """Scores reconstructions of all windows of the loader's set."""
        self._generator = torch.Generator().manual_seed(self.args.seed + self.args.process_index)
        return super().evaluation_loop(*args, **kwargs)

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[None, Tensor, Tensor]:
        """Returns count, loss, squared and absolute errors summed over hidden entries [B, C, 4], and a placeholder."""
        config = self.accelerator.unwrap_model(self.model).config
        inputs = self._prepare_inputs(inputs)
        shape = (len(inputs["past_values"]), config.num_channels, config.num_patches)
        noise = torch.rand(shape, generator=self._generator).to(inputs["past_values"].device)
        with torch.no_grad(), self.compute_loss_context_manager():
            output = model(**inputs, noise=noise)
        extras = output.extras
        error = torch.where(extras["counted"], extras["reconstruction"] - extras["patches"], 0.0).float().flatten(2)
        count = extras["counted"].flatten(2).sum(2).float()  # [B, C]
        squares = error.square().sum(2)
        scores = torch.stack([count, squares, squares, error.abs().sum(2)], dim=-1)  # [B, C, 4]
        return None, scores, scores.new_zeros(len(scores))


def run_pretraining(
    pretraining: PretrainingArguments,
    model_args: ModelArguments,
    data_args: DataArguments,
    args: ForecastTrainingArguments,
) -> TrainingRun:
    """Pre-trains the encoder into `<output_dir>/pretraining`, then trains and tests the forecaster in `output_dir`.

    With `resume_from_checkpoint` a finished pre-training is used as it is, an unfinished one goes on.

    Raises:
        ArgumentsError: If the model is not PatchTST, or the arguments do not fit one another.
        FileExistsError: If the output folder holds another run.
    """
    if model_args.model != "patchtst" or model_args.pretrained:
        raise ArgumentsError(
            f"this recipe pre-trains patchtst from scratch, got model {model_args.model!r} and pretrained "
            f"{model_args.pretrained!r}; use train_native for these"
        )
    folder = Path(args.output_dir or ".") / FOLDER
    resume = bool(args.resume_from_checkpoint)
    if not (resume and (folder / SAFE_WEIGHTS_NAME).is_file()):
        _pretrain(pretraining, model_args, data_args, args, folder)
    forecaster_args = args
    if resume and not _has_checkpoint(args):
        forecaster_args = copy.copy(args)
        forecaster_args.resume_from_checkpoint = None
    tuned = ModelArguments(model="patchtst", model_config=model_args.model_config, pretrained=str(folder))
    # Its head is new, so a score of the start would say nothing.
    return run_supervised(tuned, data_args, forecaster_args, score_start=False)


def _pretrain(
    pretraining: PretrainingArguments,
    model_args: ModelArguments,
    data_args: DataArguments,
    args: ForecastTrainingArguments,
    folder: Path,
) -> None:
    """Pre-trains and writes the model with the best validation loss."""
    stage = copy.copy(args)
    stage.output_dir = str(folder)
    stage.num_train_epochs = pretraining.pretraining_epochs
    stage.learning_rate = pretraining.pretraining_learning_rate or args.learning_rate
    stage.resume_from_checkpoint = bool(args.resume_from_checkpoint) and _has_checkpoint(stage)
    with args.main_process_first(desc="preparing the output folder"):
        prepare_output_dir(
            folder,
            resume=bool(args.resume_from_checkpoint) or not args.should_save,
            overwrite=args.overwrite_output_dir,
        )
    data = prepare_data(data_args)
    set_seed(args.seed)
    model = build_pretraining(model_args.model_config, data.train, pretraining.mask_ratio)
    trainer = PretrainingTrainer(model, stage, data.train, data.validation)
    trainer.train(stage.resume_from_checkpoint)
    trainer.save_model(str(folder))


def build_pretraining(model_config: dict[str, Any], windows: Any, mask_ratio: float) -> ForecastModel:
    """Builds the model to pre-train from PatchTST's own configuration fields and the sizes of the windows.

    Raises:
        ArgumentsError: If `model_config` names unknown fields or such that the data decide.
    """
    given = read_model_config(PatchTST.config_class, model_config)
    fields: dict[str, Any] = {k: v for k, v in given.items() if k not in _OF_THE_FORECAST}
    fields |= find_sizes(PatchTST, windows)
    return PatchTSTPretraining(PatchTSTPretrainingConfig(**fields, mask_ratio=mask_ratio))


def _has_checkpoint(args: ForecastTrainingArguments) -> bool:
    try:
        find_checkpoint(args.output_dir or ".", args.world_size)
    except FileNotFoundError:
        return False
    return True
