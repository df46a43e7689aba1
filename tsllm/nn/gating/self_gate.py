"""Self-gate (gated linear unit, Dauphin et al., ICML 2017): y = f(x) * sigmoid(g(x))."""

from typing import Literal

import torch
from torch import Tensor

from tsllm.nn.channel_block import ChannelBlock, PointwiseLinear, hide_positions


class SelfGate(ChannelBlock):
    """Two pointwise branches of one input, a sigmoid on the second.

    For branches that are blocks of their own use the composition `gated`.

    Args:
        num_channels: Number of channels C.
        branches: "both" projects value and gate; "gate" projects the gate only, y = x * sigmoid(W x + b); "none" has
            no parameters, y = x * sigmoid(x), which is SiLU.

    Raises:
        ValueError: If `branches` is unknown.
    """

    causal = True

    def __init__(self, num_channels: int, branches: Literal["both", "gate", "none"] = "both") -> None:
        super().__init__()
        if branches not in ("both", "gate", "none"):
            raise ValueError(f"self_gate: unknown branches {branches!r}; expected 'both', 'gate' or 'none'")
        self.mixes = frozenset() if branches == "none" else frozenset({"channel"})
        self.value = PointwiseLinear(num_channels, num_channels) if branches == "both" else None
        self.gate = PointwiseLinear(num_channels, num_channels) if branches != "none" else None

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Gates x [B, C, *positions]; mask [B, *positions], True = real."""
        value = x if self.value is None else self.value(x)
        gate = x if self.gate is None else self.gate(x)
        return hide_positions(value * torch.sigmoid(gate), mask)
