"""Splitting a series into trend and season."""

import torch.nn.functional as F
from torch import Tensor, nn


class MovingAverage(nn.Module):
    """Centred moving average whose ends repeat the first and the last value (Wu 2021, Autoformer, eq. 1).

    Args:
        kernel_size: Odd window in steps.
    """

    def __init__(self, kernel_size: int) -> None:
        super().__init__()
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd and positive so that the length is kept, got {kernel_size}")
        self.kernel_size = kernel_size

    def forward(self, x: Tensor) -> Tensor:
        """Smooths x [B, L, C] over time; the shape stays."""
        side = (self.kernel_size - 1) // 2
        padded = F.pad(x.transpose(1, 2), (side, side), mode="replicate")  # [B, C, L + 2 side]
        return F.avg_pool1d(padded, self.kernel_size, stride=1).transpose(1, 2)  # [B, L, C]


class SeriesDecomposition(nn.Module):
    """season = x - trend, trend = moving average; the two add up to x exactly.

    Args:
        kernel_size: Odd window of the average in steps.
    """

    def __init__(self, kernel_size: int) -> None:
        super().__init__()
        self.average = MovingAverage(kernel_size)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns season and trend of x [B, L, C], each [B, L, C]."""
        trend = self.average(x)
        return x - trend, trend
