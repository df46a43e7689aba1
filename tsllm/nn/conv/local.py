"""Local representation (SwiftFormer, Shaker et al., ICCV 2023): depth-wise then pointwise convolutions."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tsllm.nn.channel_block import (
    CONV,
    ChannelBlock,
    PointwiseLinear,
    PositionBatchNorm,
    check_dims,
    hide_positions,
)
from tsllm.nn.older_state import OlderState, fold_constant


class LocalRepresentation(ChannelBlock, OlderState):
    """Depth-wise convolution, batch norm, pointwise, GELU, pointwise, layer scale, residual.

    Args:
        num_channels: Number of channels C.
        kernel_size: Width of the depth-wise convolution, odd.
        d_hidden: Width between the pointwise maps; C if None.
        layer_scale: Whether each channel of the branch has a learned factor.
        dims: 1 for series, 2 for maps.

    Raises:
        ValueError: If the kernel is even.
    """

    def __init__(
        self,
        num_channels: int,
        kernel_size: int = 3,
        d_hidden: int | None = None,
        layer_scale: bool = True,
        dims: int = 1,
    ) -> None:
        super().__init__()
        check_dims("local", dims)
        if kernel_size % 2 == 0:
            raise ValueError(f"local: kernel_size must be odd to stay centred, got {kernel_size}")
        self.ranks = frozenset({dims})
        self.depthwise = CONV[dims](
            num_channels, num_channels, kernel_size, padding=kernel_size // 2, groups=num_channels, bias=False
        )
        self.norm = PositionBatchNorm(num_channels)
        self.up = PointwiseLinear(num_channels, d_hidden or num_channels)
        self.down = PointwiseLinear(d_hidden or num_channels, num_channels)
        self.scale = nn.Parameter(torch.ones(num_channels, *[1] * dims)) if layer_scale else None

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Convolves x [B, C, *positions]; mask [B, *positions], True = real."""
        x = hide_positions(x, mask)
        branch = self.down(F.gelu(self.up(self.norm(self.depthwise(x), mask))))  # [B, C, *positions]
        return hide_positions(x + (branch if self.scale is None else self.scale * branch), mask)

    def convert_state(self, state: dict[str, Tensor], prefix: str) -> None:
        """Folds the bias of the depth-wise convolution into the norm."""
        fold_constant(state, f"{prefix}depthwise.bias", f"{prefix}norm.norm")
