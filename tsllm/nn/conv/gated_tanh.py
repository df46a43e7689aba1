"""Gated tanh unit and its multi-scale form (DSTAGNN, Lan et al., ICML 2022)."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tsllm.nn.channel_block import ChannelBlock, hide_positions
from tsllm.nn.conv.padded import PaddedConv, Padding
from tsllm.nn.dropout import Dropout


class GatedTanh(ChannelBlock):
    """GTU: tanh(E) * sigmoid(F) with [E; F] one convolution; values in (-1, 1).

    Args:
        num_channels: Number of channels C.
        kernel_size: Number of taps k.
        dilation: Steps between two taps.
        padding: "causal" and "same" keep the length; "none" shortens it by (k - 1) * dilation.
    """

    ranks = frozenset({1})

    def __init__(
        self, num_channels: int, kernel_size: int = 3, dilation: int = 1, padding: Padding = "causal"
    ) -> None:
        super().__init__()
        self.causal = padding == "causal"
        self.trims = padding == "none"
        self.shortening = (kernel_size - 1) * dilation if self.trims else 0
        self.conv = PaddedConv(num_channels, 2 * num_channels, kernel_size, dilation, padding)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Convolves x [B, C, L]; mask [B, L], True = real step. Returns [B, C, L], or shorter for "none".

        Raises:
            ValueError: If the series is too short for an unpadded kernel, or masked while the length changes.
        """
        if x.shape[-1] <= self.shortening:
            raise ValueError(
                f"a gated tanh unit without padding needs at least {self.shortening + 1} steps, got {x.shape[-1]}"
            )
        if self.trims and mask is not None:
            raise ValueError("a gated tanh unit without padding changes the length and takes no mask")
        extract, select = self.conv(hide_positions(x, mask)).chunk(2, dim=1)  # two [B, C, L']
        return hide_positions(torch.tanh(extract) * torch.sigmoid(select), mask)


class MultiScaleGatedTanh(ChannelBlock):
    """M-GTU: gated tanh units of several kernels side by side in time, a linear map back to L, y = relu(x + .).

    The linear map reaches over all steps, so the block is not causal, belongs to one length, and costs L^2.

    Args:
        num_channels: Number of channels C.
        length: Number of steps L.
        kernel_sizes: Kernel of each unit.
        dilation: Steps between two taps.
        pool: Window of a max pool after each unit, or None (the public code builds the paper's pool and leaves it
            out).
        residual: Whether the input is added before the ReLU.
        times_input: Whether the result is multiplied by the input at the end.
        dropout: Dropout rate after the linear map.

    Raises:
        ValueError: If a unit has no output at this length.
    """

    ranks = frozenset({1})
    cost: Literal["linear", "loglinear", "quadratic"] = "quadratic"

    def __init__(
        self,
        num_channels: int,
        length: int,
        kernel_sizes: Sequence[int] = (3, 5, 7),
        dilation: int = 1,
        pool: int | None = None,
        residual: bool = True,
        times_input: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        lengths = [(length - (kernel - 1) * dilation) // (pool or 1) for kernel in kernel_sizes]
        if min(lengths) < 1:
            raise ValueError(
                f"mgtu: kernels {list(kernel_sizes)} with dilation {dilation} and pool {pool} leave {lengths} steps "
                f"of {length}; use smaller kernels or a longer series"
            )
        self.length = length
        self.pool = pool
        self.residual = residual
        self.times_input = times_input
        self.units = nn.ModuleList(GatedTanh(num_channels, kernel, dilation, "none") for kernel in kernel_sizes)
        self.linear = nn.Linear(sum(lengths), length)
        self.dropout = Dropout(dropout)

    def compute_scales(self, x: Tensor) -> list[Tensor]:
        """Returns what each unit makes of x [B, C, L]: [B, C, L_k], after the pool if there is one."""
        scales = [unit(x) for unit in self.units]
        return scales if self.pool is None else [F.max_pool1d(scale, self.pool) for scale in scales]

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mixes x [B, C, L]; mask [B, L], True = real step.

        Raises:
            ValueError: If the series has another length than the block was built for.
        """
        if x.shape[-1] != self.length:
            raise ValueError(f"mgtu was built for length {self.length}, got a series of {x.shape[-1]} steps")
        x = hide_positions(x, mask)
        joined = self.dropout(self.linear(torch.cat(self.compute_scales(x), dim=-1)))  # [B, C, L]
        result = F.relu(x + joined if self.residual else joined)
        return hide_positions(result * x if self.times_input else result, mask)
