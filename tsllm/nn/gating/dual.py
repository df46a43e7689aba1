"""Dual attention (DANet, Fu et al., CVPR 2019): attention over positions and attention over channels."""

from typing import Literal

import torch
from torch import Tensor, nn

from tsllm.nn.channel_block import ChannelBlock, PointwiseLinear, hide_positions


class PositionAttention(ChannelBlock):
    """Self-attention over positions with thin queries: gamma * softmax(Q^T K) V + x, without a scale.

    Args:
        num_channels: Number of channels C.
        d_query: Width of queries and keys; max(1, C // 8) if None.
        gamma: Initial weight of the attention; at 0 the block is the identity.
    """

    cost: Literal["linear", "loglinear", "quadratic"] = "quadratic"

    def __init__(self, num_channels: int, d_query: int | None = None, gamma: float = 0.0) -> None:
        super().__init__()
        width = max(1, num_channels // 8) if d_query is None else d_query
        self.query = PointwiseLinear(num_channels, width)
        self.key = PointwiseLinear(num_channels, width)
        self.value = PointwiseLinear(num_channels, num_channels)
        self.gamma = nn.Parameter(torch.tensor([gamma]))

    def compute_map(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Returns the attention map [B, N, N] over the N positions of x [B, C, *positions]; rows sum to 1."""
        queries, keys = self.query(x).flatten(2), self.key(x).flatten(2)  # [B, d, N]
        energy = queries.transpose(1, 2) @ keys  # [B, N, N]
        if mask is not None:
            energy = energy.masked_fill(~mask.flatten(1).unsqueeze(1), torch.finfo(x.dtype).min)
        return torch.softmax(energy, dim=-1)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mixes the positions of x [B, C, *positions]; mask [B, *positions], True = real."""
        mixed = self.value(x).flatten(2) @ self.compute_map(x, mask).transpose(1, 2)  # [B, C, N]
        return hide_positions(self.gamma * mixed.unflatten(2, x.shape[2:]) + x, mask)


class ChannelAffinity(ChannelBlock):
    """Attention over channels by their Gram matrix G: gamma * softmax(rowmax(G) - G) X + x.

    Subtracting from the row's maximum favours the least similar channel, as the public code does; the paper's formula
    is usually read as softmax(G).

    Args:
        num_channels: Number of channels C; there is no projection, every block of the family takes it.
        favour: "different" as in the code, "similar" as in the paper.
        gamma: Initial weight of the attention; at 0 the block is the identity.

    Raises:
        ValueError: If `favour` is unknown.
    """

    def __init__(
        self, num_channels: int, favour: Literal["different", "similar"] = "different", gamma: float = 0.0
    ) -> None:
        super().__init__()
        if favour not in ("different", "similar"):
            raise ValueError(f"channel_affinity: unknown favour {favour!r}; expected 'different' or 'similar'")
        self.favour = favour
        self.gamma = nn.Parameter(torch.tensor([gamma]))

    def compute_map(self, x: Tensor) -> Tensor:
        """Returns the attention map [B, C, C] between the channels of x [B, C, *positions]; rows sum to 1."""
        flat = x.flatten(2)  # [B, C, N]
        gram = flat @ flat.transpose(1, 2)  # [B, C, C]
        if self.favour == "different":
            gram = gram.amax(dim=-1, keepdim=True) - gram
        return torch.softmax(gram, dim=-1)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mixes the channels of x [B, C, *positions]; mask [B, *positions], True = real."""
        x = hide_positions(x, mask)
        mixed = (self.compute_map(x) @ x.flatten(2)).unflatten(2, x.shape[2:])  # [B, C, *positions]
        return hide_positions(self.gamma * mixed + x, mask)
