"""Linear maps over the last axis, shared by the channels or one a channel."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Initial = Literal["uniform", "mean"]


class ChannelLinear(nn.Module):
    """A linear map over the last axis, shared by the channels or one a channel.

    Args:
        in_features: Input size.
        out_features: Output size.
        num_channels: C for one map a channel, None for a shared one.
        bias: Whether the map has a bias.
        initial: "uniform" draws weights as `nn.Linear` does; "mean" starts every weight at 1 / in_features.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        num_channels: int | None = None,
        bias: bool = True,
        initial: Initial = "uniform",
    ) -> None:
        super().__init__()
        lead = () if num_channels is None else (num_channels,)
        bound = 1 / math.sqrt(in_features)
        weight = torch.empty(*lead, out_features, in_features)
        if initial == "mean":
            weight.fill_(1 / in_features)
        else:
            weight.uniform_(-bound, bound)
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.empty(*lead, out_features).uniform_(-bound, bound)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Maps x [B, C, ..., in_features] to [B, C, ..., out_features]."""
        if self.weight.dim() == 2:
            return F.linear(x, self.weight, self.bias)
        mapped = torch.einsum("bc...i,coi->bc...o", x, self.weight)  # [B, C, ..., out_features]
        if self.bias is None:
            return mapped
        ones = [1] * (x.dim() - 3)
        return mapped + self.bias.view(self.bias.shape[0], *ones, -1)
