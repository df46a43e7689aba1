"""Inception over maps: kernels of sizes 1, 3, 5, ... side by side (Wu 2023, TimesNet, section 3.2)."""

from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tsllm.nn.channel_block import ChannelBlock, hide_positions

INCEPTIONS = ("square", "cross")


class MapInception(ChannelBlock):
    """The mean of 2-D convolutions of several sizes with zeros around the map, computed as one convolution.

    A convolution is linear in its kernel, so the mean of the branches is one convolution with the mean of the kernels,
    each padded with zeros to the largest size. That needs less than half of the multiplications at six kernels.

    Args:
        num_channels: Number of channels C that come in.
        num_kernels: Number n, see `kind`.
        num_outputs: Number of channels that come out; C if None.
        kind: "square" has n square kernels of sizes 1, 3, ..., 2 n - 1; "cross" has a kernel along the rows and one
            along the columns for each of the sizes 3, 5, ..., 2 (n // 2) + 1, and one of size 1.

    Raises:
        ValueError: If there is no kernel or the kind is unknown.
    """

    ranks = frozenset({2})

    def __init__(
        self,
        num_channels: int,
        num_kernels: int = 6,
        num_outputs: int | None = None,
        kind: Literal["square", "cross"] = "square",
    ) -> None:
        super().__init__()
        if num_kernels < 1:
            raise ValueError(f"map inception needs at least one kernel, got num_kernels {num_kernels}")
        if kind not in INCEPTIONS:
            raise ValueError(f"unknown inception {kind!r}; expected one of {list(INCEPTIONS)}")
        if kind == "square":
            reaches = [(i, i) for i in range(num_kernels)]
        else:
            reaches = [axis for i in range(1, num_kernels // 2 + 1) for axis in ((0, i), (i, 0))] + [(0, 0)]
        outputs = num_outputs or num_channels
        self.branches = nn.ModuleList(
            nn.Conv2d(num_channels, outputs, (2 * rows + 1, 2 * columns + 1), padding=(rows, columns))
            for rows, columns in reaches
        )
        for branch in self.branches:
            assert isinstance(branch, nn.Conv2d)
            nn.init.kaiming_normal_(branch.weight, mode="fan_out", nonlinearity="relu")
            assert branch.bias is not None
            nn.init.zeros_(branch.bias)

    def merge(self) -> tuple[Tensor, Tensor]:
        """Returns the mean kernel [C', C, 2 r + 1, 2 r + 1], r the farthest reach, and the mean bias [C']."""
        branches = cast("list[nn.Conv2d]", list(self.branches))
        reach = max(max(branch.kernel_size) for branch in branches) // 2
        kernels = []
        for branch in branches:
            rows, columns = (reach - size // 2 for size in branch.kernel_size)
            kernels.append(F.pad(branch.weight, (columns, columns, rows, rows)))
        biases = [cast(Tensor, branch.bias) for branch in branches]
        return torch.stack(kernels).mean(0), torch.stack(biases).mean(0)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Convolves x [B, C, H, W] -> [B, C', H, W]; mask [B, H, W], True = real position."""
        return hide_positions(convolve_same(hide_positions(x, mask), *self.merge()), mask)


def convolve_same(x: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    """Convolves maps with an odd square kernel and zeros around, leaving out taps that no position can reach.

    Args:
        x: [B, C, H, W].
        kernel: [C', C, 2 r + 1, 2 r + 1].
        bias: [C'].

    Returns:
        [B, C', H, W].
    """
    reach = kernel.shape[-1] // 2
    rows, columns = min(reach, x.shape[2] - 1), min(reach, x.shape[3] - 1)
    kernel = kernel[:, :, reach - rows : reach + rows + 1, reach - columns : reach + columns + 1]
    return F.conv2d(x, kernel, bias, padding=(rows, columns))
