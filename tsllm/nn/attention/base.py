"""The contract of the token mixers and the handling of masks that they share."""

from typing import Literal

import torch
from torch import Tensor, nn

from tsllm.nn.channel_block import normalize_rows

TIME = "time"
CHANNEL = "channel"


class TokenMixer(nn.Module):
    """A block [B, L, D] -> [B, L, D] that lets the tokens of one sample exchange information.

    `forward(x, mask=None)` takes tokens [B, L, D] and a mask [B, L] that is True at real tokens. A masked token
    influences no other token, and the output at a masked token is zero. Samples of a batch never mix.

    Attributes:
        mixes: What the block mixes: "time" if an output token depends on other tokens, "channel" if an output
            feature depends on other features.
        causal: Whether an output token depends on itself and earlier tokens only.
        cost: How time and memory grow with L: "linear", "loglinear" (L log L) or "quadratic".
    """

    mixes: frozenset[str] = frozenset({TIME, CHANNEL})
    causal: bool = False
    cost: Literal["linear", "loglinear", "quadratic"] = "quadratic"

    def __call__(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Checks the shapes, then runs `forward`.

        Raises:
            ValueError: If `x` is not [B, L, D], or `mask` is not a bool tensor [B, L].
        """
        check_tokens(type(self).__name__, x, mask)
        result: Tensor = super().__call__(x, mask)
        return result


def check_tokens(name: str, x: Tensor, mask: Tensor | None) -> None:
    """Refuses tokens that are not [B, L, D] and masks that are not bool [B, L].

    Raises:
        ValueError: With the shape that was found and the one expected.
    """
    if x.dim() != 3:
        raise ValueError(f"{name} expects tokens [batch, length, d_model], got shape {tuple(x.shape)}")
    if mask is None:
        return
    if mask.dtype != torch.bool or tuple(mask.shape) != tuple(x.shape[:2]):
        raise ValueError(
            f"{name} expects a bool mask {list(x.shape[:2])} (True = real token), got {mask.dtype} {list(mask.shape)}"
        )


def check_heads(name: str, d_model: int, num_heads: int) -> int:
    """Returns the width of one head.

    Raises:
        ValueError: If `num_heads` does not divide `d_model`.
    """
    if num_heads < 1 or d_model % num_heads:
        raise ValueError(
            f"{name}: num_heads ({num_heads}) must divide d_model ({d_model}); "
            f"possible here: {[n for n in range(1, min(d_model, 64) + 1) if d_model % n == 0]}"
        )
    return d_model // num_heads


def hide_masked(x: Tensor, mask: Tensor | None) -> Tensor:
    """Sets masked tokens to zero: x [B, L, D], mask [B, L] (True = real) or None."""
    return x if mask is None else x.masked_fill(~mask.unsqueeze(-1), 0.0)


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """Splits the features into heads: [B, L, h * d] -> [B, h, L, d]."""
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)  # [B, h, L, d]


def merge_heads(x: Tensor) -> Tensor:
    """Joins the heads again: [B, h, L, d] -> [B, L, h * d]."""
    return x.transpose(1, 2).flatten(2)  # [B, L, h * d]


class TokenBatchNorm(nn.Module):
    """Batch norm of every feature over all real tokens of the batch.

    Args:
        d_model: Width D of the tokens.
        affine: Whether each feature is scaled and shifted afterwards.
    """

    def __init__(self, d_model: int, affine: bool = True) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(d_model, affine=affine)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Normalises x [B, L, D]; masked tokens stay out of the statistics and come back as 0."""
        if mask is None:
            return normalize_rows(self.norm, x.flatten(0, 1)).view(x.shape)  # [B, L, D]
        rows = normalize_rows(self.norm, x[mask])  # [real tokens, D]
        return x.new_zeros(x.shape).masked_scatter(mask.unsqueeze(-1), rows)  # [B, L, D]
