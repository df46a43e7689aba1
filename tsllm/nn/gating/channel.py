"""Channel gates: one number per channel decides how much of it passes."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tsllm.nn.channel_block import ChannelBlock, PointwiseLinear, hide_positions, pool_max, pool_mean


def choose_hidden(name: str, num_channels: int, reduction: int, d_hidden: int | None) -> int:
    """Returns the width between the two maps of a channel gate.

    Raises:
        ValueError: If the reduction leaves no channel.
    """
    width = num_channels // reduction if d_hidden is None else d_hidden
    if width < 1:
        raise ValueError(
            f"{name}: reduction ({reduction}) leaves nothing of num_channels ({num_channels}); "
            "lower reduction or give d_hidden"
        )
    return width


class SqueezeExcitation(ChannelBlock):
    """Squeeze-and-excitation (Hu et al., CVPR 2018): y = x * sigmoid(W2 relu(W1 mean(x))).

    Args:
        num_channels: Number of channels C.
        reduction: The inner width is C // reduction (16 in the paper, whose maps are wider than a series).
        d_hidden: The inner width itself, instead of a reduction.
        bias: Whether the two maps have biases.

    Raises:
        ValueError: If the reduction leaves no channel.
    """

    def __init__(self, num_channels: int, reduction: int = 4, d_hidden: int | None = None, bias: bool = False) -> None:
        super().__init__()
        width = choose_hidden("se", num_channels, reduction, d_hidden)
        self.squeeze = PointwiseLinear(num_channels, width, bias=bias)
        self.excite = PointwiseLinear(width, num_channels, bias=bias)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Rescales the channels of x [B, C, *positions]; mask [B, *positions], True = real."""
        gate = torch.sigmoid(self.excite(F.relu(self.squeeze(pool_mean(x, mask)))))  # [B, C, 1...]
        return hide_positions(x * gate, mask)


class PooledChannelGate(ChannelBlock):
    """The channel half of CBAM: sigmoid(MLP(mean x) + MLP(max x)) with one MLP for both.

    The light form, half the work, is sigmoid(MLP((mean x + max x) / 2)).

    Args:
        num_channels: Number of channels C.
        reduction: The inner width is C // reduction.
        d_hidden: The inner width itself, instead of a reduction.
        bias: Whether the MLP has biases.
        light: Whether the MLP sees the mean of both pools instead of one after the other.

    Raises:
        ValueError: If the reduction leaves no channel.
    """

    def __init__(
        self,
        num_channels: int,
        reduction: int = 4,
        d_hidden: int | None = None,
        bias: bool = False,
        light: bool = False,
    ) -> None:
        super().__init__()
        self.light = light
        width = choose_hidden("cbam", num_channels, reduction, d_hidden)
        self.mlp = nn.Sequential(
            PointwiseLinear(num_channels, width, bias=bias), nn.ReLU(), PointwiseLinear(width, num_channels, bias=bias)
        )

    def compute_gate(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Returns the gate [B, C, 1...] in (0, 1) for x [B, C, *positions]."""
        mean, highest = pool_mean(x, mask), pool_max(x, mask)  # [B, C, 1...]
        if self.light:
            return torch.sigmoid(self.mlp(0.5 * (mean + highest)))
        return torch.sigmoid(self.mlp(mean) + self.mlp(highest))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Rescales the channels of x [B, C, *positions]; mask [B, *positions], True = real."""
        return hide_positions(x * self.compute_gate(x, mask), mask)
