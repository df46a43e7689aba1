"""DLinear: one linear map over time for the trend and one for the season (Zeng 2023, AAAI)."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from tsllm.models.base import ForecastModel
from tsllm.models.config import ForecastConfig
from tsllm.models.inputs import Inputs, RawForecast
from tsllm.models.losses import Loss, compute_dlinear_trend
from tsllm.nn.decomposition import SeriesDecomposition
from tsllm.nn.linear import ChannelLinear

if TYPE_CHECKING:
    from tsllm.data.prepared import PreparedData


class DLinearConfig(ForecastConfig):
    """DLinear's configuration.

    Attributes:
        moving_average: Odd window of the trend in steps.
        individual: One pair of maps a channel instead of a shared pair.
        subtract_last: Takes each channel's last value from the window before the maps and adds it to the forecasts, as
            NLinear of the same paper does, so that the level of a series may move. Forecasters, recipes and
            comparisons set it unless somebody says otherwise; the published DLinear goes without.
    """

    model_type = "tsllm_dlinear"
    own_losses = {"dlinear_trend": Loss(compute_dlinear_trend)}

    moving_average: int = 25
    individual: bool = False
    subtract_last: bool = False

    def check(self) -> None:
        """Checks the values; see the base class."""
        super().check()
        if self.moving_average < 1 or self.moving_average % 2 == 0:
            raise ValueError(f"moving_average must be odd and positive, got {self.moving_average}")


class DLinear(ForecastModel):
    """Forecasts all steps at once from trend and season; channels are mapped independently."""

    config_class = DLinearConfig
    config: DLinearConfig
    published_config = {"subtract_last": False}

    def __init__(self, config: DLinearConfig) -> None:
        super().__init__(config)
        out_length = config.prediction_length * self.output_head.num_parameters
        channels = config.num_channels if config.individual else None
        self.decomposition = SeriesDecomposition(config.moving_average)
        # All weights start as the mean over the context, as in the reference.
        self.trend = ChannelLinear(config.context_length, out_length, channels, initial="mean")
        self.season = ChannelLinear(config.context_length, out_length, channels, initial="mean")
        self.post_init()

    @classmethod
    def default_config_for(cls, data: "PreparedData", given: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG003
        """Returns `subtract_last`: on sets whose levels move, the validation loss is up to a quarter lower with it."""
        return {"subtract_last": True}

    def forecast(self, inputs: Inputs) -> RawForecast:
        """Returns the sum of both branches; `extras["trend"]` [B, H, C] is the trend branch's own forecast."""
        past = inputs.past_values  # [B, L, C]
        last = past[:, -1:] if self.config.subtract_last else None  # [B, 1, C]
        season, trend = self.decomposition(past if last is None else past - last)
        from_trend = self._map(self.trend, trend)  # [B, H, C, parameters]
        parameters = from_trend + self._map(self.season, season)
        own = from_trend[..., 0] if last is None else from_trend[..., 0] + last
        return RawForecast(parameters, loc=last, extras={"trend": own})

    def _map(self, linear: ChannelLinear, x: Tensor) -> Tensor:
        out = linear(x.transpose(1, 2))  # [B, C, H * parameters]
        out = out.unflatten(-1, (self.config.prediction_length, -1))  # [B, C, H, parameters]
        return out.transpose(1, 2)  # [B, H, C, parameters]
