"""Softmax attention of every token to every token (Vaswani et al., 2017), and its cross form."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tsllm.nn.attention.base import TokenMixer, check_heads, hide_masked, merge_heads, split_heads
from tsllm.nn.dropout import drop_out


def build_allowed(length: int, mask: Tensor | None, causal: bool, device: torch.device) -> Tensor | None:
    """Says which query may read which key, so that no query is left without any.

    A masked query may read itself, and in a non-causal sample without one real token all keys stay open: both rows
    are thrown away afterwards, but an empty softmax would turn their gradients into NaN.

    Args:
        length: Number of tokens L.
        mask: [B, L], True = real token, or None.
        causal: Whether keys after the query are closed.
        device: Where the result lives.

    Returns:
        Bool, broadcastable to [B, h, L, L], True = may read; None if everything is open.
    """
    if causal:
        past = torch.ones(length, length, dtype=torch.bool, device=device).tril()  # [L, L]
        if mask is None:
            return past[None, None]  # [1, 1, L, L]
        itself = torch.eye(length, dtype=torch.bool, device=device)
        return ((past & mask[:, None, :]) | itself).unsqueeze(1)  # [B, 1, L, L]
    if mask is None:
        return None
    return (mask | ~mask.any(dim=1, keepdim=True))[:, None, None, :]  # [B, 1, 1, L]


def compute_scores(queries: Tensor, keys: Tensor) -> Tensor:
    """Scaled dot products: [B, h, Lq, d], [B, h, Lk, d] -> [B, h, Lq, Lk]."""
    return torch.matmul(queries * queries.shape[-1] ** -0.5, keys.transpose(-1, -2))


def softmax_scores(scores: Tensor, allowed: Tensor | None) -> Tensor:
    """Softmax over keys, exactly 0 at closed keys; a row without an open key becomes uniform.

    Args:
        scores: [B, h, Lq, Lk].
        allowed: Bool, broadcastable to `scores`, True = open; None opens all.

    Returns:
        Attention maps [B, h, Lq, Lk], rows sum to 1.
    """
    if allowed is not None:
        scores = scores.masked_fill(~allowed, torch.finfo(scores.dtype).min)
    return torch.softmax(scores, dim=-1)


def mix_values(
    queries: Tensor, keys: Tensor, values: Tensor, allowed: Tensor | None = None, dropout: float = 0.0
) -> Tensor:
    """Softmax attention without its maps, by the fastest way at hand.

    Args:
        queries: [B, h, Lq, d].
        keys: [B, h, Lk, d].
        values: [B, h, Lk, dv].
        allowed: Bool, broadcastable to [B, h, Lq, Lk], True = may read; None opens all.
        dropout: Dropout rate on the maps, 0 outside training.

    Returns:
        [B, h, Lq, dv].
    """
    if dropout and queries.device.type == "cpu":  # no fused kernel there has dropout
        maps = softmax_scores(compute_scores(queries, keys), allowed)
        return torch.matmul(drop_out(maps, dropout), values)
    return F.scaled_dot_product_attention(queries, keys, values, attn_mask=allowed, dropout_p=dropout)


class FullAttention(TokenMixer):
    """Multi-head self-attention over all tokens; can return its softmax maps.

    Without maps it runs `mix_values`, fused where possible; with them an explicit softmax, since fused kernels keep
    no map.

    Args:
        d_model: Width D of the tokens.
        num_heads: Number of heads.
        dropout: Dropout rate on the attention maps.
        causal: Whether a token may read only itself and earlier tokens.
        bias: Whether the four projections have biases.

    Raises:
        ValueError: If `num_heads` does not divide `d_model`.
    """

    cost: Literal["linear", "loglinear", "quadratic"] = "quadratic"

    def __init__(
        self, d_model: int, num_heads: int = 4, dropout: float = 0.0, causal: bool = False, bias: bool = True
    ) -> None:
        super().__init__()
        check_heads("full attention", d_model, num_heads)
        self.num_heads = num_heads
        self.dropout = dropout
        self.causal = causal
        self.query = nn.Linear(d_model, d_model, bias=bias)
        self.key = nn.Linear(d_model, d_model, bias=bias)
        self.value = nn.Linear(d_model, d_model, bias=bias)
        self.out = nn.Linear(d_model, d_model, bias=bias)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mixes tokens [B, L, D] -> [B, L, D]; mask [B, L], True = real token."""
        q, k, v = (split_heads(project(x), self.num_heads) for project in (self.query, self.key, self.value))
        rate = self.dropout if self.training else 0.0
        if self.causal and mask is None and not rate:  # the flag lets the kernel skip the upper triangle
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)  # [B, h, L, d]
        else:
            mixed = mix_values(q, k, v, build_allowed(x.shape[1], mask, self.causal, x.device), rate)  # [B, h, L, d]
        return hide_masked(self.out(merge_heads(mixed)), mask)

    def attend(
        self, x: Tensor, mask: Tensor | None = None, previous_scores: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Mixes tokens and returns what happened inside.

        Args:
            x: Tokens [B, L, D].
            mask: [B, L], True = real token.
            previous_scores: Scores [B, h, L, L] of the layer below, added before the softmax (residual attention,
                RealFormer, He et al., 2021).

        Returns:
            Tokens [B, L, D], attention maps [B, h, L, L] (rows sum to 1, before dropout) and scores [B, h, L, L]
            before masking.
        """
        q, k, v = (split_heads(project(x), self.num_heads) for project in (self.query, self.key, self.value))
        scores = compute_scores(q, k)  # [B, h, L, L]
        if previous_scores is not None:
            scores = scores + previous_scores
        maps = softmax_scores(scores, build_allowed(x.shape[1], mask, self.causal, x.device))
        mixed = torch.matmul(drop_out(maps, self.dropout, self.training), v)  # [B, h, L, d]
        return hide_masked(self.out(merge_heads(mixed)), mask), maps, scores


class CrossAttention(nn.Module):
    """Multi-head attention of tokens to the tokens of another sequence.

    Args:
        d_model: Width D of queries and result.
        num_heads: Number of heads.
        d_context: Width of the tokens that are read; `d_model` if None.
        dropout: Dropout rate on the attention maps.
        bias: Whether the four projections have biases.

    Raises:
        ValueError: If `num_heads` does not divide `d_model`.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int = 4,
        d_context: int | None = None,
        dropout: float = 0.0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        check_heads("cross attention", d_model, num_heads)
        self.num_heads = num_heads
        self.dropout = dropout
        self.query = nn.Linear(d_model, d_model, bias=bias)
        self.key = nn.Linear(d_context or d_model, d_model, bias=bias)
        self.value = nn.Linear(d_context or d_model, d_model, bias=bias)
        self.out = nn.Linear(d_model, d_model, bias=bias)

    def forward(self, x: Tensor, context: Tensor, context_mask: Tensor | None = None) -> Tensor:
        """Reads `context` [B, Lk, Dc] at tokens [B, Lq, D] -> [B, Lq, D].

        Args:
            x: [B, Lq, D].
            context: [B, Lk, Dc].
            context_mask: [B, Lk], True = real; or [B, Lq, Lk], True = this query may read it. Where nothing may be
                read, everything is, and the caller throws the result away.
        """
        q = split_heads(self.query(x), self.num_heads)
        k, v = split_heads(self.key(context), self.num_heads), split_heads(self.value(context), self.num_heads)
        allowed: Tensor | None
        if context_mask is not None and context_mask.dim() == 3:
            allowed = (context_mask | ~context_mask.any(dim=2, keepdim=True)).unsqueeze(1)  # [B, 1, Lq, Lk]
        else:
            allowed = build_allowed(context.shape[1], context_mask, causal=False, device=x.device)
        rate = self.dropout if self.training else 0.0
        mixed = mix_values(q, k, v, allowed, rate)  # [B, h, Lq, d]
        return self.out(merge_heads(mixed))

    def attend(self, x: Tensor, context: Tensor, context_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Like `forward`, but also returns the softmax maps [B, h, Lq, Lk] (before dropout)."""
        q = split_heads(self.query(x), self.num_heads)
        k, v = split_heads(self.key(context), self.num_heads), split_heads(self.value(context), self.num_heads)
        allowed = build_allowed(context.shape[1], context_mask, causal=False, device=x.device)
        maps = softmax_scores(compute_scores(q, k), allowed)  # [B, h, Lq, Lk]
        mixed = torch.matmul(drop_out(maps, self.dropout, self.training), v)  # [B, h, Lq, d]
        return self.out(merge_heads(mixed)), maps
