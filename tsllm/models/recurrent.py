"""LSTM and GRU forecasters, the plainest baseline: one recurrent pass, the whole horizon from the last state."""

import torch
from torch import nn

from tsllm.models.base import ForecastModel
from tsllm.models.config import ForecastConfig, require_positive
from tsllm.models.inputs import Inputs, RawForecast
from tsllm.nn.dropout import Dropout
from tsllm.nn.normalization import InstanceNorm

CELLS: dict[str, type[nn.LSTM] | type[nn.GRU]] = {"lstm": nn.LSTM, "gru": nn.GRU}


class RecurrentConfig(ForecastConfig):
    """Configuration of the recurrent forecasters.

    Attributes:
        cell: `lstm` (Hochreiter 1997) or `gru` (Cho 2014).
        d_model: Width of the hidden state.
        num_layers: Number of recurrent layers.
        dropout: Dropout rate between layers and on the last state.
        instance_norm: Normalise every window and channel by its own mean and deviation.
    """

    model_type = "tsllm_recurrent"

    cell: str = "lstm"
    d_model: int = 128
    num_layers: int = 2
    dropout: float = 0.1
    instance_norm: bool = True

    def check(self) -> None:
        """Checks the values; see the base class."""
        super().check()
        for name in ("d_model", "num_layers"):
            require_positive(self, name)
        if self.cell not in CELLS:
            raise ValueError(f"unknown cell {self.cell!r}; expected one of {list(CELLS)}")


class Recurrent(ForecastModel):
    """Reads all channels and calendar features step by step and forecasts the whole horizon from the last state."""

    config_class = RecurrentConfig
    config: RecurrentConfig
    uses_time_features = True

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__(config)
        self.norm = InstanceNorm()
        self.rnn = CELLS[config.cell](
            config.num_channels + config.num_time_features,
            config.d_model,
            config.num_layers,
            batch_first=True,
            dropout=config.dropout if config.num_layers > 1 else 0.0,
        )
        self.dropout = Dropout(config.dropout)
        numbers = config.prediction_length * config.num_channels * self.output_head.num_parameters
        self.projection = nn.Linear(config.d_model, numbers)
        self.post_init()

    def forecast(self, inputs: Inputs) -> RawForecast:
        """Forecasts all steps and channels by one linear map of the last state."""
        config = self.config
        values, loc, scale = inputs.past_values, None, None
        if config.instance_norm:
            values, loc, scale = self.norm(values, inputs.past_observed_mask)
        if config.num_time_features:
            assert inputs.past_time_features is not None
            values = torch.cat([values, inputs.past_time_features], dim=2)  # [B, L, C + F]
        states, _ = self.rnn(values)  # [B, L, D]
        out = self.projection(self.dropout(states[:, -1]))  # [B, H * C * parameters]
        out = out.view(values.shape[0], config.prediction_length, config.num_channels, -1)
        return RawForecast(out, loc, scale)  # [B, H, C, parameters]
