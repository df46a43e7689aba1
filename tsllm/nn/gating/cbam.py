"""Convolutional block attention (CBAM, Woo et al., ECCV 2018) and its variant with an MLP as spatial gate."""

from typing import Literal

from torch import Tensor

from tsllm.nn.channel_block import ChannelBlock, hide_positions
from tsllm.nn.gating.channel import PooledChannelGate
from tsllm.nn.gating.spatial import SpatialGate


class Cbam(ChannelBlock):
    """A channel gate and a spatial gate, one after the other or side by side.

    Args:
        num_channels: Number of channels C.
        reduction: The channel gate's inner width is C // reduction.
        d_hidden: The channel gate's inner width itself.
        bias: Whether the channel gate's MLP has biases.
        spatial: "conv" or "mlp", see `SpatialGate`.
        kernel_size: Width of the spatial convolution.
        batch_norm: Whether a batch norm follows the spatial convolution.
        order: "cascade" computes the spatial gate from what the channel gate lets pass; "parallel" computes both
            gates from the input.
        dims: 1 for series, 2 for maps.

    Raises:
        ValueError: If an option is unknown or the reduction leaves no channel.
    """

    def __init__(
        self,
        num_channels: int,
        reduction: int = 4,
        d_hidden: int | None = None,
        bias: bool = False,
        spatial: Literal["conv", "mlp"] = "conv",
        kernel_size: int = 7,
        batch_norm: bool = True,
        order: Literal["cascade", "parallel"] = "cascade",
        dims: int = 1,
    ) -> None:
        super().__init__()
        if order not in ("cascade", "parallel"):
            raise ValueError(f"cbam: unknown order {order!r}; expected 'cascade' or 'parallel'")
        self.order = order
        self.ranks = frozenset({1, 2} if spatial == "mlp" else {dims})
        self.channel = PooledChannelGate(num_channels, reduction, d_hidden, bias)
        self.spatial = SpatialGate(spatial, kernel_size, batch_norm=batch_norm, dims=dims)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Rescales channels and positions of x [B, C, *positions]; mask [B, *positions], True = real."""
        passed = x * self.channel.compute_gate(x, mask)  # [B, C, *positions]
        seen = passed if self.order == "cascade" else x
        return hide_positions(passed * self.spatial.compute_gate(seen, mask), mask)


class CbamMlp(Cbam):
    """CBAM whose spatial gate looks at each position alone, by a small MLP instead of a convolution.

    Args:
        num_channels: Number of channels C.
        reduction: The channel gate's inner width is C // reduction.
        order: "cascade" or "parallel", see `Cbam`.
    """

    def __init__(
        self, num_channels: int, reduction: int = 4, order: Literal["cascade", "parallel"] = "cascade"
    ) -> None:
        super().__init__(num_channels, reduction, spatial="mlp", order=order)
