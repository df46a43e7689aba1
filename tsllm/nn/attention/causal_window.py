"""Causal windows (CT-MSA of AirFormer, Liang et al., AAAI 2023), single and growing with depth."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tsllm.nn.attention.base import TokenMixer, check_heads, hide_masked, merge_heads, split_heads
from tsllm.nn.attention.full import build_allowed, mix_values
from tsllm.nn.dropout import Dropout, drop_out


def fold_windows(x: Tensor, window_size: int, dilation: int) -> Tensor:
    """Cuts x [B, L, ...] into windows [B * n, w, ...]; L must be a multiple of window_size * dilation.

    With dilation r a window holds every r-th step, so r windows interleave.
    """
    blocks = x.unflatten(1, (-1, window_size, dilation)).transpose(2, 3)  # [B, n / r, r, w, ...]
    return blocks.flatten(0, 2)  # [B * n, w, ...]


def unfold_windows(x: Tensor, batch: int, dilation: int) -> Tensor:
    """Undoes `fold_windows`: [B * n, w, ...] -> [B, L, ...]."""
    return x.unflatten(0, (batch, -1, dilation)).transpose(2, 3).flatten(1, 3)  # [B, L, ...]


class WindowAttention(TokenMixer):
    """Attention inside windows of fixed width, counted from the first token.

    A series that does not fill its last window is padded and the padding masked.

    Args:
        d_model: Width D.
        num_heads: Number of heads.
        window_size: Tokens per window w.
        dilation: Steps between two tokens of a window.
        causal: Whether a token reads only itself and earlier tokens of its window.
        qkv_bias: Whether the query, key and value projections have biases.
        dropout: Dropout rate on the attention maps and after the output projection.

    Raises:
        ValueError: If window or dilation is smaller than 1 or the heads do not fit.
    """

    cost: Literal["linear", "loglinear", "quadratic"] = "linear"

    def __init__(
        self,
        d_model: int,
        num_heads: int = 4,
        window_size: int = 8,
        dilation: int = 1,
        causal: bool = True,
        qkv_bias: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_heads("window attention", d_model, num_heads)
        if window_size < 1 or dilation < 1:
            raise ValueError(
                f"window attention: window_size ({window_size}) and dilation ({dilation}) must be at least 1"
            )
        self.num_heads = num_heads
        self.window_size = window_size
        self.dilation = dilation
        self.causal = causal
        self.dropout = dropout
        self.query = nn.Linear(d_model, d_model, bias=qkv_bias)
        self.key = nn.Linear(d_model, d_model, bias=qkv_bias)
        self.value = nn.Linear(d_model, d_model, bias=qkv_bias)
        self.out = nn.Linear(d_model, d_model)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mixes tokens [B, L, D] -> [B, L, D]; mask [B, L], True = real token."""
        batch, length, _ = x.shape
        missing = -length % (self.window_size * self.dilation)
        padded, real = x, mask
        if missing:
            padded = F.pad(x, (0, 0, 0, missing))  # [B, L', D]
            real = x.new_ones(batch, length, dtype=torch.bool) if mask is None else mask
            real = F.pad(real, (0, missing), value=False)  # [B, L']
        windows = fold_windows(padded, self.window_size, self.dilation)  # [B * n, w, D]
        real = None if real is None else fold_windows(real, self.window_size, self.dilation)  # [B * n, w]
        q, k, v = (split_heads(project(windows), self.num_heads) for project in (self.query, self.key, self.value))
        allowed = build_allowed(self.window_size, real, self.causal, x.device)
        rate = self.dropout if self.training else 0.0
        mixed = mix_values(q, k, v, allowed, rate)  # [B * n, h, w, d]
        mixed = drop_out(self.out(merge_heads(mixed)), self.dropout, self.training)  # [B * n, w, D]
        return hide_masked(unfold_windows(mixed, batch, self.dilation)[:, :length], mask)


class GrowingWindows(TokenMixer):
    """Window attention layers whose windows grow, with a table of positions: after 2, 4, 8 the last of 8 sees all.

    Each layer: x = x + attention(x), x = x + FF(LN(x)).

    Args:
        d_model: Width D.
        length: Number of tokens L, for the table of positions.
        num_heads: Number of heads.
        window_sizes: Window of each layer.
        d_ff: Inner width of the feed-forward parts; 2 D if None.
        dilation: Steps between two tokens of a window.
        causal: Whether a token reads only itself and earlier tokens.
        qkv_bias: Whether the query, key and value projections have biases.
        dropout: Dropout rate.
    """

    cost: Literal["linear", "loglinear", "quadratic"] = "linear"

    def __init__(
        self,
        d_model: int,
        length: int,
        num_heads: int = 4,
        window_sizes: Sequence[int] = (2, 4, 8),
        d_ff: int | None = None,
        dilation: int = 1,
        causal: bool = True,
        qkv_bias: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.causal = causal
        self.positions = nn.Parameter(torch.randn(length, d_model))
        self.attentions = nn.ModuleList(
            WindowAttention(d_model, num_heads, size, dilation, causal, qkv_bias, dropout) for size in window_sizes
        )
        width = d_ff or 2 * d_model
        self.feed_forwards = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(d_model),
                nn.Linear(d_model, width),
                nn.GELU(),
                Dropout(dropout),
                nn.Linear(width, d_model),
                Dropout(dropout),
            )
            for _ in window_sizes
        )

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mixes tokens [B, L, D] -> [B, L, D]; mask [B, L], True = real token.

        Raises:
            ValueError: If L is not the length of the table of positions.
        """
        if x.shape[1] != len(self.positions):
            raise ValueError(f"growing windows were built for {len(self.positions)} tokens, got {x.shape[1]}")
        x = x + self.positions
        for attention, feed_forward in zip(self.attentions, self.feed_forwards, strict=True):
            x = attention(x, mask) + x
            x = feed_forward(x) + x
        return hide_masked(x, mask)
