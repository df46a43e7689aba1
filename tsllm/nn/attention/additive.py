"""Efficient additive attention (SwiftFormer, Shaker et al., ICCV 2023)."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tsllm.nn.attention.base import TokenMixer, hide_masked


class AdditiveAttention(TokenMixer):
    """One global query, a weighted sum of all queries, scales the keys; there are no values and no L x L matrix.

    q, k are L2-normalised per token, a = q w, alpha = a / ||a|| over the tokens, g = sum alpha_i q_i,
    y_i = W_f (W_p (g * k_i) + q_i). The weights have unit sum of squares, not unit sum; the length of w is without
    effect, and so is the 1/sqrt(d) of the paper, which is left out.

    Args:
        d_model: Width D.
        expansion: Width of queries and keys in multiples of the output width (the code's number of heads).
        num_outputs: Width that comes out; D if None.
    """

    cost: Literal["linear", "loglinear", "quadratic"] = "linear"

    def __init__(self, d_model: int, expansion: int = 1, num_outputs: int | None = None) -> None:
        super().__init__()
        outputs = num_outputs or d_model
        width = outputs * expansion
        self.query = nn.Linear(d_model, width)
        self.key = nn.Linear(d_model, width)
        self.weight = nn.Parameter(torch.randn(width))
        self.mix = nn.Linear(width, width)
        self.out = nn.Linear(width, outputs)

    def compute_weights(self, queries: Tensor, mask: Tensor | None = None) -> Tensor:
        """Returns the weights [B, L] of normalised queries [B, L, D]; their squares sum to 1."""
        logits = queries @ self.weight  # [B, L]
        return F.normalize(logits if mask is None else logits.masked_fill(~mask, 0.0), dim=1)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mixes tokens [B, L, D] -> [B, L, D']; mask [B, L], True = real token."""
        queries = F.normalize(self.query(x), dim=-1)  # [B, L, D'']
        keys = F.normalize(self.key(x), dim=-1)
        summary = torch.einsum("bl,bld->bd", self.compute_weights(queries, mask), queries)  # [B, D'']
        return hide_masked(self.out(self.mix(summary.unsqueeze(1) * keys) + queries), mask)
