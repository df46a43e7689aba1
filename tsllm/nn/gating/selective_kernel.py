"""Selective kernel (SKNet, Li et al., CVPR 2019): branches of different kernels, weighted per channel."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from tsllm.nn.channel_block import CONV, ChannelBlock, PositionBatchNorm, check_dims, hide_positions
from tsllm.nn.gating.fusion import SelectiveFusion


class KernelBranch(nn.Module):
    """Convolution, batch norm, ReLU at constant length: [B, C, *positions] -> [B, C', *positions]."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, dilation: int, groups: int, dims: int):
        super().__init__()
        padding = dilation * (kernel_size - 1) // 2
        self.conv = CONV[dims](
            in_channels, out_channels, kernel_size, padding=padding, dilation=dilation, groups=groups, bias=False
        )
        self.norm = PositionBatchNorm(out_channels)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Convolves x [B, C, *positions]; mask [B, *positions], True = real."""
        return F.relu(self.norm(self.conv(x), mask))


class SelectiveKernel(ChannelBlock):
    """Convolutions of several kernels whose outputs are fused by weights that sum to 1 per channel.

    Args:
        num_channels: Number of channels C.
        kernel_sizes: Odd kernel of each branch.
        dilated: Whether a kernel k > 3 becomes a kernel 3 with dilation (k - 1) / 2, of the same reach.
        split_input: Whether each branch sees its own share of the channels only.
        depthwise: Whether the convolutions keep channels apart; shorthand for groups = C.
        groups: Groups of the convolutions.
        d_hidden: Width of the descriptor; max(C // 16, 32) if None.
        num_outputs: Number of channels that come out; C if None.
        dims: 1 for series, 2 for maps.

    Raises:
        ValueError: If a kernel is even or the channels cannot be shared out.
    """

    def __init__(
        self,
        num_channels: int,
        kernel_sizes: Sequence[int] = (3, 5),
        dilated: bool = True,
        split_input: bool = False,
        depthwise: bool = False,
        groups: int = 1,
        dilation: int = 1,
        d_hidden: int | None = None,
        num_outputs: int | None = None,
        dims: int = 1,
    ) -> None:
        super().__init__()
        check_dims("selective_kernel", dims)
        self.ranks = frozenset({dims})
        if not kernel_sizes or any(kernel % 2 == 0 for kernel in kernel_sizes):
            raise ValueError(f"selective_kernel: kernel_sizes must be odd to stay centred, got {list(kernel_sizes)}")
        if split_input and num_channels % len(kernel_sizes):
            raise ValueError(
                f"selective_kernel: split_input needs num_channels ({num_channels}) divisible by the number of "
                f"kernels ({len(kernel_sizes)})"
            )
        self.split_input = split_input
        width = num_channels // len(kernel_sizes) if split_input else num_channels
        num_outputs = num_outputs or num_channels
        self.branches = nn.ModuleList(
            KernelBranch(
                width,
                num_outputs,
                3 if dilated else kernel,
                dilation * (kernel - 1) // 2 if dilated else dilation,
                width if depthwise else min(num_outputs, groups),
                dims,
            )
            for kernel in kernel_sizes
        )
        self.fusion = SelectiveFusion(num_outputs, len(kernel_sizes), d_hidden)

    def compute_branches(self, x: Tensor, mask: Tensor | None = None) -> list[Tensor]:
        """Returns the output [B, C, *positions] of every branch."""
        x = hide_positions(x, mask)
        count = len(self.branches)
        parts = x.chunk(count, dim=1) if self.split_input else [x] * count
        return [branch(part, mask) for branch, part in zip(self.branches, parts, strict=True)]

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Convolves and fuses x [B, C, *positions]; mask [B, *positions], True = real."""
        return self.fusion(self.compute_branches(x, mask), mask)
