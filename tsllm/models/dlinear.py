"""DLinear: one linear map over time for the trend and one for the season (Zeng 2023, AAAI)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tsllm.models.base import ForecastConfig, ForecastModel, Inputs, RawForecast
from tsllm.nn.decomposition import SeriesDecomposition


class DLinearConfig(ForecastConfig):
    """DLinear's configuration.

    Attributes:
        moving_average: Odd window of the trend in steps.
        individual: One pair of maps a channel instead of a shared pair.
    """

    model_type = "tsllm_dlinear"

    moving_average: int = 25
    individual: bool = False

    def check(self) -> None:
        """Checks the values; see the base class."""
        super().check()
        if self.moving_average < 1 or self.moving_average % 2 == 0:
            raise ValueError(f"moving_average must be odd and positive, got {self.moving_average}")


class ChannelLinear(nn.Module):
    """A linear map over the last axis, shared by the channels or one a channel.

    Args:
        in_length: Input size.
        out_length: Output size.
        num_channels: C for one map a channel, None for a shared one.
    """

    def __init__(self, in_length: int, out_length: int, num_channels: int | None = None) -> None:
        super().__init__()
        lead = () if num_channels is None else (num_channels,)
        # All weights start as the mean over the context, as in the reference.
        self.weight = nn.Parameter(torch.full((*lead, out_length, in_length), 1.0 / in_length))
        bound = in_length**-0.5
        self.bias = nn.Parameter(torch.empty(*lead, out_length).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """Maps x [B, C, in_length] to [B, C, out_length]."""
        if self.weight.dim() == 2:
            return F.linear(x, self.weight, self.bias)
        return torch.einsum("bci,coi->bco", x, self.weight) + self.bias


class DLinear(ForecastModel):
    """Forecasts all steps at once from trend and season; channels are mapped independently."""

    config_class = DLinearConfig

    def __init__(self, config: DLinearConfig) -> None:
        super().__init__(config)
        out_length = config.prediction_length * self.output_head.num_parameters
        channels = config.num_channels if config.individual else None
        self.decomposition = SeriesDecomposition(config.moving_average)
        self.trend = ChannelLinear(config.context_length, out_length, channels)
        self.season = ChannelLinear(config.context_length, out_length, channels)
        self.post_init()

    def forecast(self, inputs: Inputs) -> RawForecast:
        """Returns the sum of both branches; `extras["trend"]` [B, H, C] is the trend branch's own forecast."""
        season, trend = self.decomposition(inputs.past_values)  # [B, L, C]
        from_trend = self._map(self.trend, trend)  # [B, H, C, parameters]
        parameters = from_trend + self._map(self.season, season)
        return RawForecast(parameters, extras={"trend": from_trend[..., 0]})

    def _map(self, linear: ChannelLinear, x: Tensor) -> Tensor:
        out = linear(x.transpose(1, 2))  # [B, C, H * parameters]
        out = out.unflatten(-1, (self.config.prediction_length, -1))  # [B, C, H, parameters]
        return out.transpose(1, 2)  # [B, H, C, parameters]
