"""Pyramidal attention (Pyraformer, Liu et al., ICLR 2022): tokens at several scales, each reading a few neighbours.

The pyramid puts the L finest tokens first, then the coarser levels: [L, L // c1, L // c1 // c2, ...]. A node reads
itself and its neighbours on the same level, its children and its parent; the last parent adopts left-over children.
The same computation comes in two forms: as a mask on an N x N matrix (the reading of the paper's naive version) and
as a gather of the few open keys of every node, whose time and memory are linear in the number of nodes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tsllm.nn.attention.base import TokenMixer, check_heads, hide_masked, merge_heads, split_heads
from tsllm.nn.attention.full import compute_scores, softmax_scores
from tsllm.nn.dropout import Dropout, drop_out
from tsllm.nn.older_state import OlderState, fold_constant

Construction = Literal["bottleneck", "conv", "max", "average"]
CONSTRUCTIONS = ("bottleneck", "conv", "max", "average")
NORM_EPS = 1e-6  # of the norms inside a pyramidal layer


@dataclass(frozen=True)
class Pyramid:
    """The shape of a pyramid of tokens: which nodes exist and who reads whom.

    Attributes:
        sizes: Number of nodes per level, finest first.
        window_sizes: Children per parent, for each level above the finest.
        inner_size: Width of the window on the same level; `inner_size // 2` neighbours on each side.
    """

    sizes: tuple[int, ...]
    window_sizes: tuple[int, ...]
    inner_size: int

    @property
    def num_nodes(self) -> int:
        """Number of nodes N over all levels."""
        return sum(self.sizes)

    def start(self, level: int) -> int:
        """Index of the first node of a level."""
        return sum(self.sizes[:level])

    def parents(self, level: int) -> Tensor:
        """Position within `level + 1` of the parent of each node of `level`: [sizes[level]]."""
        own = torch.arange(self.sizes[level])
        return (own // self.window_sizes[level]).clamp_max(self.sizes[level + 1] - 1)

    def neighbours(self, level: int) -> tuple[Tensor, Tensor]:
        """Lists whom each node of a level reads.

        Returns:
            Node indices [n, K] and a bool [n, K], True where the entry exists (others point at node 0).
        """
        n, reach = self.sizes[level], self.inner_size // 2
        own = torch.arange(n).unsqueeze(1)  # [n, 1]
        beside = own + torch.arange(-reach, reach + 1)  # [n, inner]
        index, valid = [self.start(level) + beside], [(beside >= 0) & (beside < n)]
        if level > 0:
            below, window = self.sizes[level - 1], self.window_sizes[level - 1]
            left_over = below - n * window
            child = own * window + torch.arange(window + left_over)  # [n, window + left over]
            is_child = (torch.arange(window + left_over) < window) | (own == n - 1)
            index.append(self.start(level - 1) + child)
            valid.append(is_child)
        if level + 1 < len(self.sizes):
            parent = self.start(level + 1) + self.parents(level).unsqueeze(1)  # [n, 1]
            index.append(parent)
            valid.append(torch.ones_like(parent, dtype=torch.bool))
        is_valid = torch.cat(valid, dim=1)  # [n, K]
        return torch.cat(index, dim=1).masked_fill(~is_valid, 0), is_valid

    def allowed(self) -> Tensor:
        """Dense form: bool [N, N], True where the row's node reads the column's node; symmetric, open diagonal."""
        result = torch.zeros(self.num_nodes, self.num_nodes, dtype=torch.bool)
        for level in range(len(self.sizes)):
            index, valid = self.neighbours(level)
            rows = (self.start(level) + torch.arange(len(index))).unsqueeze(1).expand_as(index)  # [n, K]
            result[rows[valid], index[valid]] = True
        return result

    def ancestors(self) -> Tensor:
        """Node index of each finest token at every level, itself first: [L, levels]."""
        position = torch.arange(self.sizes[0])
        columns = [position]
        for level in range(len(self.sizes) - 1):
            position = self.parents(level)[position]
            columns.append(self.start(level + 1) + position)
        return torch.stack(columns, dim=1)  # [L, levels]


def build_pyramid(length: int, window_sizes: Sequence[int], inner_size: int) -> Pyramid:
    """Computes the shape of the pyramid over `length` tokens.

    Args:
        length: Number of finest tokens L.
        window_sizes: Children per parent, for each level above the finest.
        inner_size: Width of the window on the same level.

    Raises:
        ValueError: If a window is smaller than 1 or a level would have no node.
    """
    if inner_size < 1:
        raise ValueError(f"inner_size must be at least 1 (a node reads itself), got {inner_size}")
    sizes = [length]
    for window in window_sizes:
        if window < 1:
            raise ValueError(f"window_sizes must be positive, got {list(window_sizes)}")
        sizes.append(sizes[-1] // window)
    if sizes[-1] < 1:
        raise ValueError(
            f"a pyramid with window_sizes {list(window_sizes)} over {length} tokens has levels of {sizes} nodes; "
            "use fewer or smaller windows, or more tokens"
        )
    return Pyramid(tuple(sizes), tuple(window_sizes), inner_size)


@lru_cache(maxsize=64)
def _neighbours_on(pyramid: Pyramid, device: torch.device) -> tuple[tuple[Tensor, Tensor], ...]:
    """`Pyramid.neighbours` of all levels on one device; depends on nothing but the shape, hence kept."""
    # Tensors made under inference mode could not be used in training afterwards.
    with torch.inference_mode(False):
        found = (pyramid.neighbours(level) for level in range(len(pyramid.sizes)))
        return tuple((index.to(device), valid.to(device)) for index, valid in found)


def build_node_mask(mask: Tensor, pyramid: Pyramid) -> Tensor:
    """Extends a token mask to the pyramid: a parent is real if a child, adopted ones included, is real.

    Args:
        mask: [B, L] bool, True = real token.
        pyramid: The shape.

    Returns:
        [B, N] bool.
    """
    levels = [mask]
    for size, window in zip(pyramid.sizes[1:], pyramid.window_sizes, strict=True):
        own, adopted = levels[-1].tensor_split([size * window], dim=1)
        parents = own.unflatten(1, (size, window)).any(dim=-1)  # [B, size]
        last = parents[:, -1:] | adopted.any(dim=1, keepdim=True)  # [B, 1]
        levels.append(torch.cat([parents[:, :-1], last], dim=1))  # [B, size]
    return torch.cat(levels, dim=1)  # [B, N]


class CoarsenConv(OlderState):
    """One step up the pyramid: convolution with stride = kernel, batch norm, ELU; [B, D, n] -> [B, D, n // window]."""

    def __init__(self, num_channels: int, window_size: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(num_channels, num_channels, window_size, stride=window_size, bias=False)
        self.norm = nn.BatchNorm1d(num_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Coarsens x [B, D, n] -> [B, D, n // window]."""
        return F.elu(self.norm(self.conv(x)))

    def convert_state(self, state: dict[str, Tensor], prefix: str) -> None:
        """Folds the convolution's bias into the norm."""
        fold_constant(state, f"{prefix}conv.bias", f"{prefix}norm")


class CoarseScaleConstruction(OlderState):
    """Builds the pyramid from its finest level (CSCM): [B, L, D] -> [B, N, D], layer norm over all.

    Args:
        d_model: Width D.
        window_sizes: Children per parent, for each level above the finest.
        kind: "bottleneck" convolves in a narrower space between two linear maps that the finest level does not pass;
            "conv" convolves at full width; "max" and "average" pool without parameters.
        d_bottleneck: Width of the narrower space, for "bottleneck" only; `d_model // 4` if None.

    Raises:
        ValueError: If the kind is unknown or `d_bottleneck` is given to another kind.
    """

    def __init__(
        self,
        d_model: int,
        window_sizes: Sequence[int],
        kind: Construction = "bottleneck",
        d_bottleneck: int | None = None,
    ) -> None:
        super().__init__()
        if kind not in CONSTRUCTIONS:
            raise ValueError(f"unknown construction {kind!r}; expected one of {list(CONSTRUCTIONS)}")
        if d_bottleneck is not None and kind != "bottleneck":
            raise ValueError(f"d_bottleneck ({d_bottleneck}) has no meaning for construction {kind!r}; leave it out")
        self.kind = kind
        self.window_sizes = tuple(window_sizes)
        width = (d_bottleneck or max(1, d_model // 4)) if kind == "bottleneck" else d_model
        narrows = kind == "bottleneck" and bool(self.window_sizes)
        # The first convolution turns a bias into one number a channel, which its batch norm takes away.
        self.down = nn.Linear(d_model, width, bias=False) if narrows else None
        self.up = nn.Linear(width, d_model) if narrows else None
        convolves = kind in ("bottleneck", "conv")
        self.convs = nn.ModuleList(CoarsenConv(width, size) for size in self.window_sizes if convolves)
        self.norm = nn.LayerNorm(d_model)

    def forward(self, x: Tensor) -> Tensor:
        """Builds the pyramid [B, N, D] over tokens [B, L, D].

        Raises:
            ValueError: If L is too short for the windows.
        """
        build_pyramid(x.shape[1], self.window_sizes, inner_size=1)  # refuses lengths that leave a level empty
        coarse = (x if self.down is None else self.down(x)).transpose(1, 2)  # [B, d, L]
        levels = []
        for index, window in enumerate(self.window_sizes):
            if self.kind == "max":
                coarse = F.max_pool1d(coarse, window)  # [B, d, n // window]
            elif self.kind == "average":
                coarse = F.avg_pool1d(coarse, window)
            else:
                coarse = self.convs[index](coarse)
            levels.append(coarse)
        if not levels:
            return self.norm(x)
        above = torch.cat(levels, dim=2).transpose(1, 2)  # [B, N - L, d]
        nodes = torch.cat([x, above if self.up is None else self.up(above)], dim=1)  # [B, N, D]
        return self.norm(nodes)

    def convert_state(self, state: dict[str, Tensor], prefix: str) -> None:
        """Folds the bias of the map into the narrower space into the first norm."""
        kernel = state.get(f"{prefix}convs.0.conv.weight")  # [d, d, window]
        if kernel is not None and kernel.dim() == 3:
            fold_constant(state, f"{prefix}down.bias", f"{prefix}convs.0.norm", kernel.sum(dim=2))


def attend_pyramid(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    pyramid: Pyramid,
    node_mask: Tensor | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Pyramidal attention by gathering the open keys of every node; linear in the number of nodes.

    Args:
        queries: [B, h, N, dk].
        keys: [B, h, N, dk].
        values: [B, h, N, dv].
        pyramid: Who reads whom.
        node_mask: [B, N], True = real node; None = all real.
        dropout: Dropout rate on the weights.

    Returns:
        [B, h, N, dv].
    """
    results = []
    for level, (index, valid) in enumerate(_neighbours_on(pyramid, queries.device)):
        own = slice(pyramid.start(level), pyramid.start(level) + len(index))
        near_keys = keys[:, :, index]  # [B, h, n, K, dk]
        scores = torch.einsum("bhnd,bhnkd->bhnk", queries[:, :, own], near_keys) * queries.shape[-1] ** -0.5
        open_keys = valid if node_mask is None else valid & node_mask[:, index].unsqueeze(1)  # [B or 1, 1, n, K]
        weights = drop_out(softmax_scores(scores, open_keys), dropout, dropout > 0)  # [B, h, n, K]
        results.append(torch.einsum("bhnk,bhnkd->bhnd", weights, values[:, :, index]))  # [B, h, n, dv]
    return torch.cat(results, dim=2)  # [B, h, N, dv]


class PyramidalHeads(nn.Module):
    """Multi-head attention whose open keys are given by a pyramid (gather form) or by a mask (dense form).

    Args:
        d_model: Width D.
        num_heads: Number of heads.
        d_key: Width of queries and keys per head; `d_model // num_heads` if None.
        d_value: Width of values per head; `d_model // num_heads` if None.
        dropout: Dropout rate on the attention weights.
        qkv_bias: Whether the query, key and value projections have biases (the output projection always has).

    Raises:
        ValueError: If a head width is not given and `num_heads` does not divide `d_model`.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        d_key: int | None = None,
        d_value: int | None = None,
        dropout: float = 0.0,
        qkv_bias: bool = False,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        d_key = d_key or check_heads("pyramidal attention", d_model, num_heads)
        d_value = d_value or check_heads("pyramidal attention", d_model, num_heads)
        self.query = nn.Linear(d_model, num_heads * d_key, bias=qkv_bias)
        self.key = nn.Linear(d_model, num_heads * d_key, bias=qkv_bias)
        self.value = nn.Linear(d_model, num_heads * d_value, bias=qkv_bias)
        self.out = nn.Linear(num_heads * d_value, d_model)

    def forward(self, queries: Tensor, context: Tensor, pyramid: Pyramid, node_mask: Tensor | None = None) -> Tensor:
        """Gather form: queries and context [B, N, D] -> [B, N, D]; node_mask [B, N], True = real node."""
        q, k, v = self._project(queries, context)
        rate = self.dropout if self.training else 0.0
        return self.out(merge_heads(attend_pyramid(q, k, v, pyramid, node_mask, rate)))

    def attend(self, queries: Tensor, context: Tensor, allowed: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Dense form over any mask.

        Args:
            queries: [B, Nq, D].
            context: [B, Nk, D], source of keys and values.
            allowed: Bool [Nq, Nk] or [B, Nq, Nk], True = may read; None opens all.

        Returns:
            [B, Nq, D] and the attention maps [B, h, Nq, Nk].
        """
        q, k, v = self._project(queries, context)
        if allowed is not None:
            allowed = allowed[None, None] if allowed.dim() == 2 else allowed.unsqueeze(1)  # [B or 1, 1, Nq, Nk]
        maps = softmax_scores(compute_scores(q, k), allowed)  # [B, h, Nq, Nk]
        mixed = torch.matmul(drop_out(maps, self.dropout, self.training), v)  # [B, h, Nq, dv]
        return self.out(merge_heads(mixed)), maps

    def _project(self, queries: Tensor, context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Projects and splits into heads: three tensors [B, h, N, d]."""
        q = split_heads(self.query(queries), self.num_heads)
        return q, split_heads(self.key(context), self.num_heads), split_heads(self.value(context), self.num_heads)


class PyramidalLayer(nn.Module):
    """Pyramidal attention and a feed-forward part over the nodes of a pyramid.

    With the defaults it is the layer of the official code. The port in the Time-Series-Library is
    `attention_residual=False, qkv_bias=True`: neither residual nor norm around the attention.

    Args:
        d_model: Width D.
        num_heads: Number of heads.
        d_ff: Inner width of the feed-forward part.
        d_key: Width of queries and keys per head; `d_model // num_heads` if None.
        d_value: Width of values per head; `d_model // num_heads` if None.
        dropout: Dropout rate.
        norm_position: "post" normalises after each residual sum, "pre" what enters a sublayer, "query" like "pre" but
            only the queries of the attention (the official code's pre-norm).
        attention_residual: Whether the attention has a residual and a norm.
        qkv_bias: Whether query, key and value projections have biases.

    Raises:
        ValueError: If the norm position is unknown.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        d_ff: int,
        *,
        d_key: int | None = None,
        d_value: int | None = None,
        dropout: float = 0.0,
        norm_position: Literal["post", "pre", "query"] = "post",
        attention_residual: bool = True,
        qkv_bias: bool = False,
    ) -> None:
        super().__init__()
        if norm_position not in ("post", "pre", "query"):
            raise ValueError(f"unknown norm_position {norm_position!r}; expected 'post', 'pre' or 'query'")
        self.norm_position = norm_position
        self.attention = PyramidalHeads(d_model, num_heads, d_key, d_value, dropout, qkv_bias)
        self.norm_attention = nn.LayerNorm(d_model, eps=NORM_EPS) if attention_residual else None
        self.up = nn.Linear(d_model, d_ff)
        self.down = nn.Linear(d_ff, d_model)
        self.norm_feed_forward = nn.LayerNorm(d_model, eps=NORM_EPS)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, pyramid: Pyramid, node_mask: Tensor | None = None) -> Tensor:
        """Encodes nodes [B, N, D] -> [B, N, D] at linear cost; node_mask [B, N], True = real node."""
        queries, context = self._enter(x)
        return self._finish(x, self.attention(queries, context, pyramid, node_mask))

    def attend(self, x: Tensor, allowed: Tensor | None = None, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Dense form over any mask, also for a decoder that reads another sequence.

        Args:
            x: [B, Nq, D].
            allowed: Bool [Nq, Nk] or [B, Nq, Nk], True = may read; None opens all.
            context: [B, Nk, D], what is read; `x` itself if None.

        Returns:
            [B, Nq, D] and the attention maps [B, h, Nq, Nk].
        """
        queries, own = self._enter(x)
        mixed, maps = self.attention.attend(queries, own if context is None else context, allowed)
        return self._finish(x, mixed), maps

    def _enter(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns what gives the queries and what gives keys and values."""
        if self.norm_attention is None or self.norm_position == "post":
            return x, x
        normalised = self.norm_attention(x)
        return normalised, normalised if self.norm_position == "pre" else x

    def _finish(self, x: Tensor, mixed: Tensor) -> Tensor:
        """Residual and norm of the attention, then the feed-forward sublayer: [B, N, D] -> [B, N, D]."""
        if self.norm_attention is not None:
            mixed = self.dropout(mixed) + x
            if self.norm_position == "post":
                mixed = self.norm_attention(mixed)
        post = self.norm_position == "post"
        entering = mixed if post else self.norm_feed_forward(mixed)
        hidden = self.dropout(F.gelu(self.up(entering)))  # [B, N, d_ff]
        result = self.dropout(self.down(hidden)) + mixed
        return self.norm_feed_forward(result) if post else result


class PyramidalAttention(TokenMixer):
    """Token mixer: builds a pyramid over the tokens, attends once along it and reads the tokens off again.

    A token reads its neighbours and its parent, a summary of a window; its ancestors read theirs.

    Args:
        d_model: Width D.
        num_heads: Number of heads.
        window_sizes: Children per parent, for each level above the finest.
        inner_size: Width of the window on the same level.
        construction: How the coarser levels are made, see `CoarseScaleConstruction`.
        readout: "ancestors" maps each token's node at every level, concatenated, back to D; "finest" returns the
            finest nodes alone, which in one attention see their parents but nothing above.
        dropout: Dropout rate on the attention weights.
        dense: Whether to compute by an N x N mask instead of by gathering; same numbers at quadratic cost.

    Raises:
        ValueError: If an option is unknown, `num_heads` does not divide `d_model`, or levels would go unread.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int = 4,
        window_sizes: Sequence[int] = (4, 4),
        inner_size: int = 5,
        construction: Construction = "bottleneck",
        readout: Literal["ancestors", "finest"] = "ancestors",
        dropout: float = 0.0,
        dense: bool = False,
    ) -> None:
        super().__init__()
        check_heads("pyramidal attention", d_model, num_heads)
        if readout not in ("finest", "ancestors"):
            raise ValueError(f"unknown readout {readout!r}; expected 'ancestors' or 'finest'")
        if readout == "finest" and len(window_sizes) > 1:
            raise ValueError(
                f"pyramidal attention: readout 'finest' never sees above the first of {len(window_sizes)} coarse "
                "levels; use readout: ancestors or one window size"
            )
        self.window_sizes = tuple(window_sizes)
        self.inner_size = inner_size
        self.dense = dense
        self.cost = "quadratic" if dense else "linear"
        self.construct = CoarseScaleConstruction(d_model, self.window_sizes, construction)
        self.attention = PyramidalHeads(d_model, num_heads, dropout=dropout, qkv_bias=True)
        levels = len(self.window_sizes) + 1
        self.join = nn.Linear(levels * d_model, d_model) if readout == "ancestors" else None

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mixes tokens [B, L, D] -> [B, L, D]; mask [B, L], True = real token.

        Raises:
            ValueError: If L is too short for the windows.
        """
        length = x.shape[1]
        pyramid = build_pyramid(length, self.window_sizes, self.inner_size)
        nodes = self.construct(hide_masked(x, mask))  # [B, N, D]
        node_mask = None if mask is None else build_node_mask(mask, pyramid)
        if self.dense:
            allowed = pyramid.allowed().to(x.device)
            open_keys = allowed if node_mask is None else allowed & node_mask.unsqueeze(1)  # [B, N, N]
            mixed, _ = self.attention.attend(nodes, nodes, open_keys)
        else:
            mixed = self.attention(nodes, nodes, pyramid, node_mask)
        if self.join is None:
            return hide_masked(mixed[:, :length], mask)
        index = pyramid.ancestors().to(x.device)  # [L, levels]
        return hide_masked(self.join(mixed[:, index].flatten(2)), mask)
