"""LogSparse convolutional self-attention (Li et al., NeurIPS 2019)."""

from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor, nn

from tsllm.nn.attention.base import TokenMixer, check_heads, hide_masked, merge_heads, split_heads
from tsllm.nn.attention.full import softmax_scores
from tsllm.nn.conv.padded import PaddedConv
from tsllm.nn.dropout import Dropout


@lru_cache(maxsize=64)
def _visible(length: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Whom step t reads: t, t-1, t-2, t-4, ... as indices [L, K], and which of them exist [L, K]."""
    steps = [0]
    while (step := 2 ** (len(steps) - 1)) < length:
        steps.append(step)
    index = torch.arange(length, device=device).unsqueeze(1) - torch.tensor(steps, device=device)  # [L, K]
    return index.clamp_min(0), index >= 0


class LogSparseAttention(TokenMixer):
    """Causal attention with convolved queries and keys, where step t reads t, t-1, t-2, t-4, t-8, ...

    Time and memory grow with L log L. The dense form is `trend_aware` with causal convolutions and `causal: true`.

    Args:
        d_model: Width D.
        num_heads: Number of heads.
        kernel_size: Number of taps of the causal convolutions; 1 compares single values.
        dropout: Dropout rate on the attention weights.
    """

    causal = True
    cost: Literal["linear", "loglinear", "quadratic"] = "loglinear"

    def __init__(self, d_model: int, num_heads: int = 4, kernel_size: int = 3, dropout: float = 0.0) -> None:
        super().__init__()
        check_heads("log_sparse attention", d_model, num_heads)
        self.num_heads = num_heads
        self.query = PaddedConv(d_model, d_model, kernel_size)
        self.key = PaddedConv(d_model, d_model, kernel_size)
        self.value = nn.Linear(d_model, d_model)
        self.out = nn.Linear(d_model, d_model)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mixes tokens [B, L, D] -> [B, L, D]; mask [B, L], True = real token."""
        x = hide_masked(x, mask)
        series = x.transpose(1, 2)  # [B, D, L]
        q = split_heads(self.query(series).transpose(1, 2), self.num_heads)  # [B, h, L, d]
        k = split_heads(self.key(series).transpose(1, 2), self.num_heads)
        v = split_heads(self.value(x), self.num_heads)
        index, valid = _visible(x.shape[1], x.device)  # [L, K]
        open_keys = valid if mask is None else valid & mask[:, index].unsqueeze(1)  # [B or 1, 1, L, K]
        scores = torch.einsum("bhld,bhlkd->bhlk", q, k[:, :, index]) * q.shape[-1] ** -0.5
        weights = self.dropout(softmax_scores(scores, open_keys))  # [B, h, L, K]
        mixed = torch.einsum("bhlk,bhlkd->bhld", weights, v[:, :, index])
        return hide_masked(self.out(merge_heads(mixed)), mask)
