"""Masked pre-training of PatchTST (Nie 2023, section 3.2): its arguments, its model and its trainer."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from tsllm.data.prepared import PreparedData
from tsllm.models.base import ForecastModel
from tsllm.models.patchtst import PatchTST, PatchTSTPretraining, PatchTSTPretrainingConfig
from tsllm.training.build import read_model_config
from tsllm.training.trainer import ForecastTrainer

# What a configuration says about forecasting, which the pre-training does not read.
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


def build_pretraining(model_config: dict[str, Any], data: PreparedData, mask_ratio: float) -> ForecastModel:
    """Builds the model to pre-train from PatchTST's own configuration fields and the sizes of the data.

    Raises:
        ArgumentsError: If `model_config` names unknown fields or such that the data decide.
    """
    given = read_model_config(PatchTST.config_class, model_config)
    fields: dict[str, Any] = {k: v for k, v in given.items() if k not in _OF_THE_FORECAST}
    fields |= PatchTST.config_for(data)
    return PatchTSTPretraining(PatchTSTPretrainingConfig(**fields, mask_ratio=mask_ratio))
