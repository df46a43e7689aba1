"""Inception over maps: square kernels of sizes 1, 3, 5, ... side by side (Wu 2023, TimesNet, section 3.2)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tsllm.nn.channel_block import ChannelBlock, hide_positions


class MapInception(ChannelBlock):
    """The mean of 2-D convolutions of sizes 1, 3, ..., 2 n - 1 with zeros around the map, computed as one convolution.

    A convolution is linear in its kernel, so the mean of the branches is one convolution with the mean of the kernels,
    each padded with zeros to the largest size. That needs less than half of the multiplications at six kernels.

    Args:
        num_channels: Number of channels C that come in.
        num_kernels: Number of branches n.
        num_outputs: Number of channels that come out; C if None.

    Raises:
        ValueError: If there is no kernel.
    """

    ranks = frozenset({2})

    def __init__(self, num_channels: int, num_kernels: int = 6, num_outputs: int | None = None) -> None:
        super().__init__()
        if num_kernels < 1:
            raise ValueError(f"map inception needs at least one kernel, got num_kernels {num_kernels}")
        outputs = num_outputs or num_channels
        self.branches = nn.ModuleList(
            nn.Conv2d(num_channels, outputs, 2 * i + 1, padding=i) for i in range(num_kernels)
        )
        for branch in self.branches:
            assert isinstance(branch, nn.Conv2d)
            nn.init.kaiming_normal_(branch.weight, mode="fan_out", nonlinearity="relu")
            assert branch.bias is not None
            nn.init.zeros_(branch.bias)

    def merge(self) -> tuple[Tensor, Tensor]:
        """Returns the mean kernel [C', C, 2 n - 1, 2 n - 1] and the mean bias [C']."""
        reach = len(self.branches) - 1
        kernels = [F.pad(branch.weight, [reach - i] * 4) for i, branch in enumerate(self.branches)]  # type: ignore[arg-type]
        biases = [branch.bias for branch in self.branches]
        return torch.stack(kernels).mean(0), torch.stack(biases).mean(0)  # type: ignore[arg-type]

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
