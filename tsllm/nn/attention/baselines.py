"""What attention has to beat: pooling (MetaFormer, Yu et al., CVPR 2022) and a linear map over time."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tsllm.nn.attention.base import TokenMixer, hide_masked


class Pooling(TokenMixer):
    """The mean over neighbouring tokens minus the token itself; no parameters.

    Args:
        d_model: Width D; nothing depends on it, every mixer takes it.
        window_size: Number of tokens averaged, odd; tokens that are missing or masked do not count.

    Raises:
        ValueError: If the window is even.
    """

    mixes = frozenset({"time"})
    cost: Literal["linear", "loglinear", "quadratic"] = "linear"

    def __init__(self, d_model: int, window_size: int = 3) -> None:
        super().__init__()
        if window_size % 2 == 0:
            raise ValueError(f"pooling: window_size must be odd to stay centred, got {window_size}")
        self.window_size = window_size

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mixes tokens [B, L, D] -> [B, L, D]; mask [B, L], True = real token."""
        real = x.new_ones(x.shape[:2]) if mask is None else mask.to(x.dtype)  # [B, L]
        reach = self.window_size // 2
        sums, counts = (
            F.avg_pool1d(part, self.window_size, stride=1, padding=reach)
            for part in (hide_masked(x, mask).transpose(1, 2), real.unsqueeze(1))
        )  # [B, D, L], [B, 1, L]
        mean = sums / counts.clamp_min(torch.finfo(x.dtype).tiny)
        return hide_masked(mean.transpose(1, 2) - x, mask)


class TimeLinear(TokenMixer):
    """One linear map over the time axis, the same for every feature.

    Its weights are an L x L matrix by design, so its cost is quadratic.

    Args:
        d_model: Width D; nothing depends on it, every mixer takes it.
        length: Number of tokens L.
    """

    mixes = frozenset({"time"})

    def __init__(self, d_model: int, length: int) -> None:
        super().__init__()
        self.linear = nn.Linear(length, length)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mixes tokens [B, L, D] -> [B, L, D]; mask [B, L], True = real token.

        Raises:
            ValueError: If L is not the length the block was built for.
        """
        if x.shape[1] != self.linear.in_features:
            raise ValueError(f"linear was built for {self.linear.in_features} tokens, got {x.shape[1]}")
        return hide_masked(self.linear(hide_masked(x, mask).transpose(1, 2)).transpose(1, 2), mask)
