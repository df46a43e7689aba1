"""Triplet attention (Misra et al., WACV 2021): gates on three faces of the cube channels x rows x columns."""

import torch
from torch import Tensor, nn

from tsllm.nn.channel_block import ChannelBlock, PositionBatchNorm, hide_positions


class FaceGate(nn.Module):
    """A convolutional gate on one face of the cube, computed from maximum and mean over the axis across it.

    Args:
        kernel_size: Width of the convolution, odd.
    """

    def __init__(self, kernel_size: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.norm = PositionBatchNorm(1, momentum=0.01)

    def forward(self, x: Tensor, real: Tensor | None = None) -> Tensor:
        """Gates x [B, across, U, V]; `real` like x, True = real. Returns the same shape."""
        if real is None:
            pooled = torch.stack([x.amax(dim=1), x.mean(dim=1)], dim=1)  # [B, 2, U, V]
        else:
            found = real.any(dim=1)  # [B, U, V]
            highest = x.masked_fill(~real, torch.finfo(x.dtype).min).amax(dim=1).masked_fill(~found, 0.0)
            mean = x.masked_fill(~real, 0.0).sum(dim=1) / real.sum(dim=1).clamp_min(1)
            pooled = torch.stack([highest, mean], dim=1)  # [B, 2, U, V]
        return x * torch.sigmoid(self.norm(self.conv(pooled)))


class TripletAttention(ChannelBlock):
    """The mean of the map gated on its faces (channels, columns), (channels, rows) and (rows, columns).

    The number of parameters depends on no size of the map.

    Args:
        num_channels: Number of channels C; nothing depends on it, every block of the family takes it.
        kernel_size: Width of the convolutions, odd.
        spatial: Whether the face (rows, columns) takes part.

    Raises:
        ValueError: If the kernel is even.
    """

    ranks = frozenset({2})

    def __init__(self, num_channels: int, kernel_size: int = 7, spatial: bool = True) -> None:
        super().__init__()
        if kernel_size % 2 == 0:
            raise ValueError(f"triplet: kernel_size must be odd to stay centred, got {kernel_size}")
        self.across_rows = FaceGate(kernel_size)
        self.across_columns = FaceGate(kernel_size)
        self.across_channels = FaceGate(kernel_size) if spatial else None

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Gates a map x [B, C, H, W]; mask [B, H, W], True = real."""
        x = hide_positions(x, mask)
        real = None if mask is None else mask.unsqueeze(1).expand_as(x)
        turned = []
        for gate, axis in ((self.across_rows, 2), (self.across_columns, 3)):
            face = gate(x.transpose(1, axis), None if real is None else real.transpose(1, axis))
            turned.append(face.transpose(1, axis))  # [B, C, H, W]
        if self.across_channels is not None:
            turned.append(self.across_channels(x, real))
        return hide_positions(sum(turned, torch.zeros_like(x)) / len(turned), mask)
