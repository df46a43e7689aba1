"""UNetTSF: linear forecasts at several pooled resolutions, joined from coarse to fine (Chu 2024, arXiv 2401.03001)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tsllm.models.base import ForecastModel
from tsllm.models.config import ForecastConfig, require_positive
from tsllm.models.inputs import Inputs, RawForecast
from tsllm.nn.linear import ChannelLinear
from tsllm.nn.normalization import InstanceNorm

_MOST_STAGES = 64


def compute_pooled_lengths(length: int, num_stages: int, kernel: int, stride: int, padding: int) -> list[int]:
    """Returns the lengths of all stages, the finest first: floor((n + 2 padding - kernel) / stride) + 1 each."""
    lengths = [length]
    for _ in range(num_stages - 1):
        lengths.append((lengths[-1] + 2 * padding - kernel) // stride + 1)
    return lengths


class UNetTSFConfig(ForecastConfig):
    """UNetTSF's configuration.

    Attributes:
        num_stages: Resolutions, the full one included.
        pool_kernel: Window of the average pooling in steps.
        pool_stride: Its stride.
        pool_padding: Zeros in front and behind it.
        individual: One linear map a channel instead of shared ones.
    """

    model_type = "tsllm_unet_tsf"

    num_stages: int = 4
    pool_kernel: int = 3
    pool_stride: int = 2
    pool_padding: int = 0
    individual: bool = False

    def check(self) -> None:
        """Checks the values; see the base class."""
        super().check()
        for name in ("num_stages", "pool_kernel", "pool_stride"):
            require_positive(self, name)
        if self.num_stages > _MOST_STAGES:
            raise ValueError(f"num_stages is {self.num_stages}; at most {_MOST_STAGES} resolutions can be told apart")
        if not 0 <= self.pool_padding <= self.pool_kernel // 2:
            raise ValueError(
                f"pool_padding ({self.pool_padding}) must lie in 0 .. pool_kernel // 2 ({self.pool_kernel // 2})"
            )
        for name in ("context_length", "prediction_length"):
            lengths = self.lengths(getattr(self, name))
            if min(lengths) < 1:
                raise ValueError(
                    f"num_stages ({self.num_stages}) pools {name} ({lengths[0]}) down to lengths {lengths}; every one "
                    "must be at least 1: lower num_stages or raise the length"
                )

    def lengths(self, length: int) -> list[int]:
        """Returns the length of each stage, the finest first."""
        return compute_pooled_lengths(length, self.num_stages, self.pool_kernel, self.pool_stride, self.pool_padding)


class UNetTSF(ForecastModel):
    """Forecasts each resolution by one linear map and joins neighbours by another; channels are independent."""

    config_class = UNetTSFConfig
    config: UNetTSFConfig

    def __init__(self, config: UNetTSFConfig) -> None:
        super().__init__(config)
        channels = config.num_channels if config.individual else None
        past, future = config.lengths(config.context_length), config.lengths(config.prediction_length)
        # The last map, which sees all others, emits the head's parameters.
        emitted = config.prediction_length * self.output_head.num_parameters
        outs = future if config.num_stages > 1 else [emitted]
        joined = [emitted, *future[1:-1]]
        self.norm = InstanceNorm(config.num_channels, affine=True)
        self.down = nn.ModuleList(ChannelLinear(n, m, channels) for n, m in zip(past, outs, strict=True))
        self.up = nn.ModuleList(
            ChannelLinear(future[i] + future[i + 1], joined[i], channels) for i in range(config.num_stages - 1)
        )
        self.post_init()

    def forecast(self, inputs: Inputs) -> RawForecast:
        """Forecasts from the coarsest stage up."""
        config = self.config
        values, loc, scale = self.norm(inputs.past_values, inputs.past_observed_mask)
        level = values.transpose(1, 2)  # [B, C, L]
        stages: list[Tensor] = []
        for stage, linear in enumerate(self.down):
            if stage:
                level = F.avg_pool1d(level, config.pool_kernel, config.pool_stride, config.pool_padding)  # [B, C, L_i]
            stages.append(linear(level))  # [B, C, H_i]
        out = stages[-1]
        for stage in range(config.num_stages - 2, -1, -1):
            out = self.up[stage](torch.cat([stages[stage], out], dim=2))  # [B, C, H_i]
        out = out.unflatten(-1, (config.prediction_length, -1))  # [B, C, H, parameters]
        return RawForecast(out.transpose(1, 2), loc, scale)
