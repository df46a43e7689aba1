"""Multi-scale ReLU linear attention (EfficientViT, Cai et al., ICCV 2023)."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tsllm.nn.attention.base import TokenBatchNorm, TokenMixer, check_heads, hide_masked
from tsllm.nn.channel_block import CONV
from tsllm.nn.older_state import OlderState, fold_constant

CHUNK = 64  # tokens whose similarities are written out in the causal form
EPS = 1e-15  # a query that is clipped everywhere gets exactly 0 instead of 0 / 0


class Aggregation(nn.Module):
    """Queries, keys and values of another scale: depth-wise convolution, then a pointwise map within each head's part.

    Args:
        num_heads: Number of heads.
        head_dim: Width of a head.
        kernel_size: Width of the convolution, odd.
        causal: Whether it looks back only; for series.
        bias: Whether both maps have biases.
        num_axes: 1 for series, 2 for maps.
    """

    def __init__(
        self, num_heads: int, head_dim: int, kernel_size: int, causal: bool, bias: bool, num_axes: int
    ) -> None:
        super().__init__()
        width = 3 * num_heads * head_dim
        reach = kernel_size // 2
        self.pads = (2 * reach, 0) if causal else (reach, reach) * num_axes
        self.depthwise = CONV[num_axes](width, width, kernel_size, groups=width, bias=bias)
        self.pointwise = CONV[num_axes](width, width, 1, groups=3 * num_heads, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [B, 3 h d, *grid] to the same shape."""
        return self.pointwise(self.depthwise(F.pad(x, self.pads)))


def attend_linear(queries: Tensor, keys: Tensor, values: Tensor, causal: bool = False, eps: float = EPS) -> Tensor:
    """Attention with the similarity relu(q) . relu(k), K^T V first, so that no L x L matrix exists.

    Args:
        queries: [B, h, L, d].
        keys: [B, h, L, d].
        values: [B, h, L, d]; those of masked tokens and the keys there must be zero.
        causal: Whether token t reads tokens up to t only, by running sums over chunks.
        eps: What is added to the sum of similarities.

    Returns:
        [B, h, L, d]; exactly 0 where all similarities are 0.
    """
    queries, keys = F.relu(queries), F.relu(keys)
    values = F.pad(values, (0, 1), value=1.0)  # [B, h, L, d + 1], the last column sums up the similarities
    sums = _sum_past(queries, keys, values) if causal else queries @ (keys.transpose(-1, -2) @ values)
    numerator, denominator = sums.split([values.shape[-1] - 1, 1], dim=-1)  # [B, h, L, d], [B, h, L, 1]
    return numerator / (denominator + eps)


def _sum_past(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Sum over j <= i of (q_i . k_j) v_j, chunk by chunk: the chunk itself by a small matrix, all before by one sum.

    A running sum at every token would hold d numbers for each number of the input; one a chunk keeps that small.

    Args:
        queries: [B, h, L, d].
        keys: [B, h, L, d].
        values: [B, h, L, e].

    Returns:
        [B, h, L, e].
    """
    length = queries.shape[2]
    missing = -length % CHUNK
    q, k, v = (
        F.pad(part, (0, 0, 0, missing)).unflatten(2, (-1, CHUNK)) for part in (queries, keys, values)
    )  # [B, h, n, c, d or e]
    near = (q @ k.transpose(-1, -2)).tril() @ v  # [B, h, n, c, e]
    states = (k.transpose(-1, -2) @ v).cumsum(dim=2)  # [B, h, n, d, e], each with its own chunk
    before = F.pad(states[:, :, :-1], (0, 0, 0, 0, 1, 0))  # [B, h, n, d, e], each without
    return (near + q @ before).flatten(2, 3)[:, :, :length]  # [B, h, L, e]


class ReluLinearAttention(TokenMixer, OlderState):
    """Linear attention over several scales at once, joined by a projection and a batch norm.

    Args:
        d_model: Width D.
        num_heads: Number of heads; ignored if `head_dim` says otherwise.
        head_dim: Width of a head; `d_model // num_heads` if None.
        scales: Kernels of the further scales, odd; the scale without convolution is always there.
        causal: Whether a token reads only itself and earlier tokens (running sums, causal convolutions).
        qkv_bias: Whether projections and convolutions of queries, keys and values have biases.
        out_bias: Whether the output projection has a bias; only without the batch norm, which would take it away.
        batch_norm: Whether a batch norm follows the output projection.
        num_outputs: Width that comes out; D if None.
        grid: Rows and columns of the map that the tokens come from, row by row; None for a series.
        eps: What is added to the sum of similarities.

    Raises:
        ValueError: If heads do not fit, a scale is even, a causal form of a map is asked for, or a bias that the batch
            norm would take away.
    """

    cost: Literal["linear", "loglinear", "quadratic"] = "linear"

    def __init__(
        self,
        d_model: int,
        num_heads: int = 4,
        head_dim: int | None = None,
        scales: Sequence[int] = (5,),
        causal: bool = False,
        qkv_bias: bool = False,
        out_bias: bool = False,
        batch_norm: bool = True,
        num_outputs: int | None = None,
        grid: Sequence[int] | None = None,
        eps: float = EPS,
    ) -> None:
        super().__init__()
        if head_dim is None:
            head_dim = check_heads("relu_linear attention", d_model, num_heads)
        if any(scale % 2 == 0 for scale in scales):
            raise ValueError(f"relu_linear attention: scales must be odd to stay centred, got {list(scales)}")
        if causal and grid is not None:
            raise ValueError("relu_linear attention: a map has no order of time; causal needs a series (grid: null)")
        if out_bias and batch_norm:
            raise ValueError(
                "relu_linear attention: out_bias has no effect in front of the batch norm; leave it out or set "
                "batch_norm: false"
            )
        self.causal = causal
        self.eps = eps
        self.num_heads = num_heads
        self.head_dim = head_dim
        self.grid = None if grid is None else tuple(grid)
        num_axes = 1 if self.grid is None else len(self.grid)
        width = num_heads * head_dim
        self.qkv = nn.Linear(d_model, 3 * width, bias=qkv_bias)
        self.scales = nn.ModuleList(
            Aggregation(num_heads, head_dim, scale, causal, qkv_bias, num_axes) for scale in scales
        )
        outputs = num_outputs or d_model
        self.out = nn.Linear(width * (1 + len(scales)), outputs, bias=out_bias)
        self.norm = TokenBatchNorm(outputs) if batch_norm else None

    def compute_qkv(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Returns queries, keys and values [B, (1 + S) h, L, d] of all scales, before the ReLU."""
        grid = self.grid or (x.shape[1],)
        base = hide_masked(self.qkv(x), mask).transpose(1, 2).unflatten(2, grid)  # [B, 3 h d, *grid]
        sets = torch.cat([base, *(scale(base) for scale in self.scales)], dim=1).flatten(2)  # [B, (1+S) 3 h d, L]
        per_head = sets.unflatten(1, (-1, 3, self.head_dim)).transpose(-1, -2)  # [B, (1+S) h, 3, L, d]
        queries, keys, values = per_head.unbind(dim=2)
        if mask is not None:
            real = mask[:, None, :, None]
            keys, values = keys.masked_fill(~real, 0.0), values.masked_fill(~real, 0.0)
        return queries, keys, values

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mixes tokens [B, L, D] -> [B, L, D']; mask [B, L], True = real token."""
        mixed = attend_linear(*self.compute_qkv(x, mask), self.causal, self.eps)  # [B, (1+S) h, L, d]
        joined = self.out(mixed.transpose(1, 2).flatten(2))  # [B, L, D']
        return hide_masked(joined if self.norm is None else self.norm(joined, mask), mask)

    def convert_state(self, state: dict[str, Tensor], prefix: str) -> None:
        """Folds the bias of the output projection into the batch norm, if there is one."""
        if self.norm is not None:
            fold_constant(state, f"{prefix}out.bias", f"{prefix}norm.norm")
