"""Coordinate attention (Hou et al., CVPR 2021): a gate per row times a gate per column."""

import torch
import torch.nn.functional as F
from torch import Tensor

from tsllm.nn.channel_block import ChannelBlock, PointwiseLinear, PositionBatchNorm, hide_positions, pool_mean
from tsllm.nn.older_state import OlderState, fold_constant


class CoordinateAttention(ChannelBlock, OlderState):
    """Gates rows and columns of a map; on a period-folded map whole periods and phases within the period.

    Args:
        num_channels: Number of channels C.
        reduction: The inner width is max(min_hidden, C // reduction).
        min_hidden: See `reduction`.
    """

    ranks = frozenset({2})

    def __init__(self, num_channels: int, reduction: int = 32, min_hidden: int = 8) -> None:
        super().__init__()
        width = max(min_hidden, num_channels // reduction)
        self.squeeze = PointwiseLinear(num_channels, width, bias=False)
        self.norm = PositionBatchNorm(width)
        self.rows = PointwiseLinear(width, num_channels)
        self.columns = PointwiseLinear(width, num_channels)

    def compute_gate(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Returns the gate [B, C, H, W] in (0, 1), of rank one over (H, W) in every channel."""
        height, width = x.shape[2:]
        by_row = pool_mean(x, mask, axes=(3,))[..., 0]  # [B, C, H]
        by_column = pool_mean(x, mask, axes=(2,))[..., 0, :]  # [B, C, W]
        joint = F.hardswish(self.norm(self.squeeze(torch.cat([by_row, by_column], dim=2))))  # [B, m, H + W]
        rows, columns = joint.split([height, width], dim=2)
        return torch.sigmoid(self.rows(rows)).unsqueeze(3) * torch.sigmoid(self.columns(columns)).unsqueeze(2)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Gates a map x [B, C, H, W]; mask [B, H, W], True = real."""
        return hide_positions(x * self.compute_gate(x, mask), mask)

    def convert_state(self, state: dict[str, Tensor], prefix: str) -> None:
        """Folds the bias of the first map into the norm."""
        fold_constant(state, f"{prefix}squeeze.bias", f"{prefix}norm.norm")
