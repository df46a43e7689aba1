"""A convolution over time that keeps the length, looking back only or to both sides."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from tsllm.nn.channel_block import ChannelBlock, hide_positions

Padding = Literal["causal", "same", "none"]
PADDINGS = ("causal", "same", "none")


class PaddedConv(nn.Module):
    """Conv1d with zeros around the series: [B, C, L] -> [B, C', L].

    Args:
        in_channels: Channels that come in.
        out_channels: Channels that go out.
        kernel_size: Number of taps k.
        dilation: Steps between two taps.
        padding: "causal" pads on the left only, "same" on both sides (odd kernels only), "none" not at all, which
            shortens the series by (k - 1) * dilation.
        groups: Groups of the convolution.

    Raises:
        ValueError: If the padding is unknown, or "same" is asked of an even kernel.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        dilation: int = 1,
        padding: Padding = "causal",
        groups: int = 1,
    ) -> None:
        super().__init__()
        if padding not in PADDINGS:
            raise ValueError(f"unknown padding {padding!r}; expected one of {list(PADDINGS)}")
        if padding == "same" and kernel_size % 2 == 0:
            raise ValueError(f"padding 'same' needs an odd kernel_size to stay centred, got {kernel_size}")
        reach = (kernel_size - 1) * dilation
        self.pads = {"causal": (reach, 0), "same": (reach // 2, reach // 2), "none": (0, 0)}[padding]
        self.conv = nn.Conv1d(in_channels, out_channels, kernel_size, dilation=dilation, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        """Convolves x [B, C, L] -> [B, C', L]."""
        return self.conv(F.pad(x, self.pads))


class Conv(ChannelBlock):
    """A plain convolution over time.

    Args:
        num_channels: Number of channels C.
        kernel_size: Number of taps.
        dilation: Steps between two taps.
        padding: "causal" or "same".
        depthwise: Whether every channel has its own kernel and sees no other channel.

    Raises:
        ValueError: If the padding would change the length or does not fit the kernel.
    """

    ranks = frozenset({1})

    def __init__(
        self,
        num_channels: int,
        kernel_size: int = 3,
        dilation: int = 1,
        padding: Padding = "causal",
        depthwise: bool = False,
    ) -> None:
        super().__init__()
        if padding == "none":
            raise ValueError("conv: padding 'none' would shorten the series; use 'causal' or 'same'")
        self.causal = padding == "causal"
        mixed = {"time"} if kernel_size > 1 else set()
        self.mixes = frozenset(mixed if depthwise else mixed | {"channel"})
        groups = num_channels if depthwise else 1
        self.conv = PaddedConv(num_channels, num_channels, kernel_size, dilation, padding, groups)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Convolves x [B, C, L]; mask [B, L], True = real step."""
        return hide_positions(self.conv(hide_positions(x, mask)), mask)
