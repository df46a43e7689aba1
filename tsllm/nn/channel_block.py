"""The contract of gates, map blocks and convolutions, which put channels first, and what they share."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CONV = {1: nn.Conv1d, 2: nn.Conv2d}


class ChannelBlock(nn.Module):
    """A block over channels and positions that keeps its input's shape.

    It takes a series [B, C, L], a map [B, C, H, W], or both, and a mask [B, L] or [B, H, W] that is True at real
    positions. A masked position influences no other position, and the output there is zero. Samples never mix.

    Attributes:
        mixes: What the block mixes: "time" if an output position depends on other positions, "channel" if an output
            channel depends on other channels.
        causal: Whether, on a series, an output step depends on itself and earlier steps only.
        cost: How time and memory grow with the number of positions.
        ranks: Number of position axes that it takes: 1 for a series, 2 for a map.
    """

    mixes: frozenset[str] = frozenset({"time", "channel"})
    causal: bool = False
    cost: Literal["linear", "loglinear", "quadratic"] = "linear"
    ranks: frozenset[int] = frozenset({1, 2})

    def __call__(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Checks the shapes, then runs `forward`.

        Raises:
            ValueError: If `x` has another number of axes than the block takes, or the mask does not fit.
        """
        name = type(self).__name__
        if x.dim() - 2 not in self.ranks:
            shapes = {1: "a series [batch, channels, length]", 2: "a map [batch, channels, rows, columns]"}
            expected = " or ".join(shapes[rank] for rank in sorted(self.ranks))
            raise ValueError(f"{name} expects {expected}, got shape {tuple(x.shape)}")
        positions = (x.shape[0], *x.shape[2:])
        if mask is not None and (mask.dtype != torch.bool or tuple(mask.shape) != positions):
            raise ValueError(
                f"{name} expects a bool mask {list(positions)} (True = real), got {mask.dtype} {list(mask.shape)}"
            )
        result: Tensor = super().__call__(x, mask)
        return result


def check_dims(name: str, dims: int) -> None:
    """Refuses a number of position axes other than 1 (series) and 2 (map).

    Raises:
        ValueError: If `dims` is neither.
    """
    if dims not in CONV:
        raise ValueError(f"{name}: dims must be 1 (series) or 2 (map), got {dims}")


def hide_positions(x: Tensor, mask: Tensor | None) -> Tensor:
    """Sets masked positions to zero: x [B, C, *positions], mask [B, *positions] (True = real) or None."""
    return x if mask is None else x.masked_fill(~mask.unsqueeze(1), 0.0)


def pool_mean(x: Tensor, mask: Tensor | None = None, axes: Sequence[int] | None = None) -> Tensor:
    """Mean over real positions.

    Args:
        x: [B, C, *positions].
        mask: [B, *positions], True = real.
        axes: Axes of x to pool, kept with length 1; all positions if None.

    Returns:
        The means; 0 where no position is real.
    """
    axes = tuple(axes or range(2, x.dim()))
    if mask is None:
        return x.mean(dim=axes, keepdim=True)
    real = mask.unsqueeze(1).to(x.dtype)  # [B, 1, *positions]
    count = real.sum(dim=axes, keepdim=True).clamp_min(1.0)
    return (x * real).sum(dim=axes, keepdim=True) / count


def pool_max(x: Tensor, mask: Tensor | None = None, axes: Sequence[int] | None = None) -> Tensor:
    """Maximum over real positions; arguments and result as in `pool_mean`."""
    axes = tuple(axes or range(2, x.dim()))
    if mask is None:
        return x.amax(dim=axes, keepdim=True)
    real = mask.unsqueeze(1)  # [B, 1, *positions]
    highest = x.masked_fill(~real, torch.finfo(x.dtype).min).amax(dim=axes, keepdim=True)
    return highest.masked_fill(~real.any(dim=axes, keepdim=True), 0.0)


def normalize_rows(norm: nn.BatchNorm1d, rows: Tensor) -> Tensor:
    """Batch norm of rows [n, C]; fewer than two rows have no variance and are measured by the running statistics.

    A descriptor of one sample (a channel gate in training, batch of one) is such a case.

    Args:
        norm: The norm, with its parameters and running statistics.
        rows: [n, C].

    Returns:
        [n, C].
    """
    if norm.training and len(rows) < 2:
        return F.batch_norm(rows, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.0, norm.eps)
    return norm(rows)


class PositionBatchNorm(nn.Module):
    """Batch norm of every channel over all real positions of a series or a map.

    Args:
        num_channels: Number of channels C.
        momentum: Weight of a batch in the running statistics.
    """

    def __init__(self, num_channels: int, momentum: float = 0.1) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(num_channels, momentum=momentum)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Normalises x [B, C, *positions]; masked positions stay out of the statistics and come back as 0."""
        if mask is None and x.numel() > x.shape[1]:
            return self.norm(x.flatten(2)).unflatten(2, x.shape[2:])  # [B, C, *positions]
        last = x.movedim(1, -1)  # [B, *positions, C]
        if mask is None:
            return normalize_rows(self.norm, last.flatten(0, -2)).view(last.shape).movedim(-1, 1)
        hidden = last.new_zeros(last.shape).masked_scatter(mask.unsqueeze(-1), normalize_rows(self.norm, last[mask]))
        return hidden.movedim(-1, 1)  # [B, C, *positions]


class PointwiseLinear(nn.Linear):
    """A linear map of the channels, the same at every position: [B, C, *positions] -> [B, C', *positions]."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps the channels of x."""
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)  # [B, C', *positions]
