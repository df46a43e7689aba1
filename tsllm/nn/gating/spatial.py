"""Spatial gates: one number per position, shared by all channels."""

from typing import Literal

import torch
from torch import Tensor, nn

from tsllm.nn.channel_block import CONV, ChannelBlock, PointwiseLinear, PositionBatchNorm, check_dims, hide_positions

SPATIAL_KINDS = ("conv", "mlp")


class SpatialGate(ChannelBlock):
    """The spatial half of CBAM: the mean and the maximum over channels become one gate per position.

    Args:
        kind: "conv" lets neighbouring positions speak by a convolution (the paper); "mlp" looks at each position
            alone, which makes the gate equivariant to any permutation of positions (and causal).
        kernel_size: Width of the convolution, odd; for "conv".
        d_hidden: Inner width m of the MLP 2 -> m -> 1; for "mlp".
        batch_norm: Whether a batch norm follows the convolution; for "conv".
        dims: 1 for series, 2 for maps; for "conv".

    Raises:
        ValueError: If the kind is unknown or the kernel is even.
    """

    def __init__(
        self,
        kind: Literal["conv", "mlp"] = "conv",
        kernel_size: int = 7,
        d_hidden: int = 8,
        batch_norm: bool = True,
        dims: int = 1,
    ) -> None:
        super().__init__()
        check_dims("spatial gate", dims)
        if kind not in SPATIAL_KINDS:
            raise ValueError(f"unknown spatial gate {kind!r}; expected one of {list(SPATIAL_KINDS)}")
        if kernel_size % 2 == 0:
            raise ValueError(f"spatial gate: kernel_size must be odd to stay centred, got {kernel_size}")
        self.mixes = frozenset({"channel"}) if kind == "mlp" else frozenset({"time", "channel"})
        self.causal = kind == "mlp"
        self.ranks = frozenset({1, 2} if kind == "mlp" else {dims})
        self.conv = self.norm = self.mlp = None
        if kind == "mlp":
            self.mlp = nn.Sequential(PointwiseLinear(2, d_hidden), nn.ReLU(), PointwiseLinear(d_hidden, 1))
        else:
            self.conv = CONV[dims](2, 1, kernel_size, padding=kernel_size // 2, bias=not batch_norm)
            self.norm = PositionBatchNorm(1) if batch_norm else None

    def compute_gate(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Returns the gate [B, 1, *positions] in (0, 1) for x [B, C, *positions]."""
        x = hide_positions(x, mask)
        pooled = torch.cat([x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)], dim=1)  # [B, 2, *positions]
        if self.mlp is not None:
            return torch.sigmoid(self.mlp(pooled))
        assert self.conv is not None
        logits = self.conv(pooled)  # [B, 1, *positions]
        return torch.sigmoid(logits if self.norm is None else self.norm(logits, mask))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Rescales the positions of x [B, C, *positions]; mask [B, *positions], True = real."""
        return hide_positions(x * self.compute_gate(x, mask), mask)
