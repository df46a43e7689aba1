"""Trend-aware attention (ASTGNN, Guo et al., TKDE 2021): queries and keys are shapes, not single values.

The causal flavour with its mask is also the convolutional self-attention of LogSparse (Li et al., NeurIPS 2019), whose
sparse form is in `log_sparse`.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from tsllm.nn.attention.base import TokenMixer, check_heads, hide_masked, merge_heads, split_heads
from tsllm.nn.attention.full import build_allowed, compute_scores, mix_values, softmax_scores
from tsllm.nn.conv.padded import PaddedConv, Padding
from tsllm.nn.dropout import drop_out

CONVOLUTIONS: dict[str, tuple[Padding, Padding]] = {  # of queries, of keys
    "centred": ("same", "same"),
    "causal": ("causal", "causal"),
    "causal_query": ("causal", "same"),
}


class TrendAwareAttention(TokenMixer):
    """Softmax attention whose queries and keys come from convolutions over time.

    Args:
        d_model: Width D.
        num_heads: Number of heads.
        kernel_size: Number of taps k; 1 is ordinary attention.
        dilation: Steps between two taps.
        convolution: "centred" looks to both sides; "causal" looks back; "causal_query" looks back for queries and to
            both sides for keys (the decoder's cross-attention).
        causal: Whether a token reads only itself and earlier tokens; needs causal convolutions.
        segments: Lengths of the blocks that the series is made of (last weeks, last days, last hours): each is
            convolved alone, all are attended jointly. None for one block of any length.
        dropout: Dropout rate on the attention maps.

    Raises:
        ValueError: If an option is unknown, the kernel is even for a centred convolution, or `causal` is asked of
            convolutions that look ahead.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int = 4,
        kernel_size: int = 3,
        dilation: int = 1,
        convolution: Literal["centred", "causal", "causal_query"] = "centred",
        causal: bool = False,
        segments: Sequence[int] | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_heads("trend_aware attention", d_model, num_heads)
        if convolution not in CONVOLUTIONS:
            raise ValueError(
                f"trend_aware attention: unknown convolution {convolution!r}; expected one of {list(CONVOLUTIONS)}"
            )
        if causal and convolution != "causal":
            raise ValueError(
                f"trend_aware attention: causal needs convolution 'causal'; {convolution!r} convolutions look ahead, "
                "so the past would change with the future in spite of the mask"
            )
        self.num_heads = num_heads
        self.causal = causal
        self.segments = None if segments is None else tuple(segments)
        self.dropout = dropout
        of_query, of_key = CONVOLUTIONS[convolution]
        self.query = PaddedConv(d_model, d_model, kernel_size, dilation, of_query)
        self.key = PaddedConv(d_model, d_model, kernel_size, dilation, of_key)
        self.value = nn.Linear(d_model, d_model)
        self.out = nn.Linear(d_model, d_model)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mixes tokens [B, L, D] -> [B, L, D]; mask [B, L], True = real token."""
        x = hide_masked(x, mask)
        q, k, v = self._project(x, x, x, self.segments, self.segments)
        allowed = build_allowed(x.shape[1], mask, self.causal, x.device)
        rate = self.dropout if self.training else 0.0
        mixed = mix_values(q, k, v, allowed, rate)  # [B, h, L, d]
        return hide_masked(self.out(merge_heads(mixed)), mask)

    def attend(
        self,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        allowed: Tensor | None = None,
        query_segments: Sequence[int] | None = None,
        key_segments: Sequence[int] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Attention between different sequences, with its maps.

        Args:
            queries: [B, Lq, D].
            keys: [B, Lk, D].
            values: [B, Lk, D].
            allowed: Bool, broadcastable to [B, h, Lq, Lk], True = may read; None opens all.
            query_segments: Lengths of the blocks of the queries; None for one block.
            key_segments: Lengths of the blocks of the keys; None for one block.

        Returns:
            [B, Lq, D] and the attention maps [B, h, Lq, Lk], rows sum to 1.
        """
        q, k, v = self._project(queries, keys, values, query_segments, key_segments)
        maps = softmax_scores(compute_scores(q, k), allowed)  # [B, h, Lq, Lk]
        mixed = drop_out(maps, self.dropout, self.training) @ v  # [B, h, Lq, d]
        return self.out(merge_heads(mixed)), maps

    def _project(
        self,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        query_segments: Sequence[int] | None,
        key_segments: Sequence[int] | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Convolves and projects: three tensors [B, h, L, d]."""
        q = convolve_segments(self.query, queries, query_segments)  # [B, Lq, D]
        k = convolve_segments(self.key, keys, key_segments)  # [B, Lk, D]
        return (
            split_heads(q, self.num_heads),
            split_heads(k, self.num_heads),
            split_heads(self.value(values), self.num_heads),
        )


def convolve_segments(conv: nn.Module, x: Tensor, segments: Sequence[int] | None) -> Tensor:
    """Convolves each segment of x [B, L, D] alone.

    Args:
        conv: [B, D, n] -> [B, D, n].
        x: Tokens.
        segments: Lengths of the segments, which must sum to L; None for one.

    Raises:
        ValueError: If the lengths do not sum to L.
    """
    if segments is not None and sum(segments) != x.shape[1]:
        raise ValueError(f"segments {list(segments)} sum to {sum(segments)}, but there are {x.shape[1]} tokens")
    parts = x.transpose(1, 2).split(list(segments or (x.shape[1],)), dim=2)  # [B, D, n] each
    convolved = torch.cat([conv(part) for part in parts if part.shape[2]], dim=2)  # [B, D, L]
    # fused attention falls back to an explicit L x L matrix unless features lie next to each other
    return convolved.transpose(1, 2).contiguous()  # [B, L, D]
