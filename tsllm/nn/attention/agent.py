"""Agent attention (Han et al., ECCV 2024): a few agents gather from all tokens and hand out to all tokens."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tsllm.nn.attention.base import TokenMixer, check_heads, hide_masked, merge_heads, split_heads
from tsllm.nn.attention.full import compute_scores, softmax_scores
from tsllm.nn.channel_block import CONV
from tsllm.nn.dropout import Dropout

BIASES = ("none", "resized", "full")
INITIAL_STD = 0.02  # of bias tables and learned agents


def resize(x: Tensor, grid: Sequence[int]) -> Tensor:
    """Interpolates x [B, C, *positions] linearly to another grid, [B, C, *grid]."""
    return F.interpolate(x, size=tuple(grid), mode="linear" if len(grid) == 1 else "bilinear", align_corners=False)


def _draw(*shape: int) -> nn.Parameter:
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(*shape), std=INITIAL_STD))


class AgentBias(nn.Module):
    """Position bias between agents and tokens: a small table resized to the tokens, plus one term per axis.

    Args:
        num_heads: Number of heads h.
        num_agents: Number of agents n.
        table_size: Side m of the table, which is [h, n, m] for a series and [h, n, m, m] for a map; or its size along
            each axis.
        grid: Number of tokens along each axis, for the terms per axis; None leaves those out and fits any length.
        num_axes: 1 for series, 2 for maps.
        num_class_tokens: Tokens in front of those on the grid; each has a bias of its own.
    """

    def __init__(
        self,
        num_heads: int,
        num_agents: int,
        table_size: int | Sequence[int],
        grid: Sequence[int] | None,
        num_axes: int,
        num_class_tokens: int = 0,
    ) -> None:
        super().__init__()
        table = [table_size] * num_axes if isinstance(table_size, int) else list(table_size)
        self.table = _draw(num_heads, num_agents, *table)
        self.axes = nn.ParameterList()
        for axis, size in enumerate(grid or ()):
            shape = [1] * num_axes
            shape[axis] = size
            self.axes.append(_draw(num_heads, num_agents, *shape))
        self.classes = _draw(num_heads, num_agents, num_class_tokens) if num_class_tokens else None

    def forward(self, grid: Sequence[int]) -> Tensor:
        """Returns the bias [h, n, k + N] for k class tokens and N tokens on a grid."""
        bias = resize(self.table, grid)  # [h, n, *grid]
        for term in self.axes:
            bias = bias + term
        bias = bias.flatten(2)  # [h, n, N]
        return bias if self.classes is None else torch.cat([self.classes, bias], dim=2)  # [h, n, k + N]


class GridReduction(nn.Module):
    """Joins neighbouring tokens: a convolution with stride = kernel over the grid, then a layer norm a token.

    A grid that the stride does not divide is filled up in front with masked tokens, so that the newest are whole.

    Args:
        d_model: Width D.
        ratio: Tokens joined along each axis.
        num_axes: 1 for series, 2 for maps.
    """

    def __init__(self, d_model: int, ratio: int, num_axes: int) -> None:
        super().__init__()
        self.ratio = ratio
        self.conv = CONV[num_axes](d_model, d_model, ratio, stride=ratio)
        self.norm = nn.LayerNorm(d_model)

    def shrink(self, grid: Sequence[int]) -> tuple[int, ...]:
        """Returns the grid of the joined tokens."""
        return tuple(-(-size // self.ratio) for size in grid)

    def forward(self, x: Tensor, mask: Tensor | None, grid: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        """Joins tokens x [B, L, D], mask [B, L]: [B, L', D] and [B, L'], True where one of the joined is real."""
        front = [n for size in reversed(grid) for n in (-size % self.ratio, 0)]
        on_grid = F.pad(hide_masked(x, mask).transpose(1, 2).unflatten(2, tuple(grid)), front)  # [B, D, *padded]
        joined = self.norm(self.conv(on_grid).flatten(2).transpose(1, 2))  # [B, L', D]
        if mask is None:
            return joined, None
        real = F.pad(mask.to(x.dtype).unsqueeze(1).unflatten(2, tuple(grid)), front)  # [B, 1, *padded]
        pool = F.max_pool1d if len(grid) == 1 else F.max_pool2d
        return joined, pool(real, self.ratio).flatten(1) > 0

    def restore(self, x: Tensor, grid: Sequence[int]) -> Tensor:
        """Interpolates joined tokens [B, L', D] back to all tokens on the grid: [B, D, *grid]."""
        small = self.shrink(grid)
        spread = resize(x.transpose(1, 2).unflatten(2, small), [size * self.ratio for size in small])
        for axis, size in enumerate(grid, start=2):
            spread = spread.narrow(axis, spread.shape[axis] - size, size)
        return spread  # [B, D, *grid]


class AgentAttention(TokenMixer):
    """Agents read all tokens, all tokens read the agents; a depth-wise convolution of the values restores detail.

    V_A = softmax(A K^T / sqrt(d) + B1) V, O = softmax(Q A^T / sqrt(d) + B2) V_A, y = W_o (O + DWC(V)). Linear in the
    number of tokens at a fixed number of agents.

    Args:
        d_model: Width D.
        num_heads: Number of heads.
        num_agents: Number of agents n; on a grid of two axes a square number, or the agents along each axis.
        agents: "pooled" averages the queries of n stretches of the series, "learned" keeps n parameters.
        bias: "none"; "resized", a table that is resized to any length; "full", the table plus a term per step, which
            ties the block to one length.
        table_size: Side of the bias table, or its size along each axis.
        kernel_size: Width of the depth-wise convolution, odd; 0 leaves it out.
        qkv_bias: Whether the query, key and value projections have biases.
        length: Number of tokens, for bias "full".
        grid: Rows and columns of the map that the tokens come from, row by row; None for a series.
        num_class_tokens: Tokens in front that stand at no place: no agent is pooled from them, they have biases of
            their own, and the convolution passes them by (the class token of DeiT).
        reduction: Tokens along each axis that share one key and one value, as in the pyramid vision transformer.
        dropout: Dropout rate on both attention maps.

    Raises:
        ValueError: If an option is unknown, the kernel even, or a length missing.
    """

    cost: Literal["linear", "loglinear", "quadratic"] = "linear"

    def __init__(
        self,
        d_model: int,
        num_heads: int = 4,
        num_agents: int | Sequence[int] = 16,
        agents: Literal["pooled", "learned"] = "pooled",
        bias: Literal["none", "resized", "full"] = "resized",
        table_size: int | Sequence[int] = 7,
        kernel_size: int = 3,
        qkv_bias: bool = True,
        length: int | None = None,
        grid: Sequence[int] | None = None,
        num_class_tokens: int = 0,
        reduction: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_heads("agent attention", d_model, num_heads)
        _check_options(agents, bias, kernel_size, num_class_tokens, reduction)
        if grid is None and bias == "full" and length is None:
            raise ValueError("agent attention: bias 'full' has a term per step and needs length; or use bias: resized")
        self.num_heads = num_heads
        self.num_class_tokens = num_class_tokens
        self.grid = None if grid is None else tuple(grid)
        self.agent_grid = _place_agents(num_agents, self.grid)
        self.num_agents = math.prod(self.agent_grid)
        self.length = length if grid is None and bias == "full" else None
        if self.grid is not None:
            self.length = math.prod(self.grid) + num_class_tokens
        self.dropout = Dropout(dropout)
        self.query = nn.Linear(d_model, d_model, bias=qkv_bias)
        self.key = nn.Linear(d_model, d_model, bias=qkv_bias)
        self.value = nn.Linear(d_model, d_model, bias=qkv_bias)
        self.out = nn.Linear(d_model, d_model)
        self.agents = _draw(self.num_agents, d_model) if agents == "learned" else None
        num_axes = len(self.agent_grid)
        self.reduce = GridReduction(d_model, reduction, num_axes) if reduction > 1 else None
        self.bias_gather: AgentBias | None = None
        self.bias_hand_out: AgentBias | None = None
        if bias != "none":
            fixed = (self.grid or (int(length or 0) - num_class_tokens,)) if bias == "full" else None
            small = fixed if fixed is None or self.reduce is None else self.reduce.shrink(fixed)
            shape = (num_heads, self.num_agents, table_size)
            self.bias_gather = AgentBias(*shape, small, num_axes, num_class_tokens)
            self.bias_hand_out = AgentBias(*shape, fixed, num_axes, num_class_tokens)
        self.conv: nn.Module | None = None
        if kernel_size:
            self.conv = CONV[num_axes](d_model, d_model, kernel_size, padding=kernel_size // 2, groups=d_model)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mixes tokens [B, L, D] -> [B, L, D]; mask [B, L], True = real token.

        Raises:
            ValueError: If L is not the length the block was built for.
        """
        return self.attend(x, mask)[0]

    def attend(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Like `forward`, but also returns both attention maps.

        Returns:
            Tokens [B, L, D], what each agent reads [B, h, n, L'] and which agents each token reads [B, h, L, n].

        Raises:
            ValueError: If L is not the length the block was built for.
        """
        source, real = x, mask
        if self.reduce is not None:
            source, real = self.reduce(x, mask, self._find_grid(x))  # [B, L', D], [B, L']
        mixed, gather, hand_out = self.mix(self.query(x), self.key(source), self.value(source), mask, real)
        return hide_masked(self.out(mixed), mask), gather, hand_out

    def mix(
        self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None, real: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What stands between the projections.

        Args:
            queries: [B, L, D].
            keys: [B, L', D]; L' is L unless tokens are joined.
            values: [B, L', D].
            mask: [B, L], True = real query.
            real: [B, L'], True = real key.

        Returns:
            [B, L, D], what each agent reads [B, h, n, L'] and which agents each token reads [B, h, L, n].
        """
        grid = self._find_grid(queries)
        values = hide_masked(values, real)
        agents, is_agent = self._build_agents(queries, mask, grid)  # [B, n, D], [B, n]
        q, k, v, a = (split_heads(part, self.num_heads) for part in (queries, keys, values, agents))
        gather = compute_scores(a, k)  # [B, h, n, L']
        hand_out = compute_scores(q, a)  # [B, h, L, n]
        if self.bias_gather is not None and self.bias_hand_out is not None:
            gather = gather + self.bias_gather(grid if self.reduce is None else self.reduce.shrink(grid))
            hand_out = hand_out + self.bias_hand_out(grid).transpose(1, 2)
        gather = softmax_scores(gather, None if real is None else real[:, None, None, :])
        hand_out = softmax_scores(hand_out, None if is_agent is None else is_agent[:, None, None, :])
        mixed = merge_heads(self.dropout(hand_out) @ (self.dropout(gather) @ v))  # [B, L, D]
        if self.conv is not None:
            mixed = mixed + self._convolve(values, grid)
        return mixed, gather, hand_out

    def _find_grid(self, x: Tensor) -> tuple[int, ...]:
        """Returns the grid of the tokens [B, L, D] without class tokens.

        Raises:
            ValueError: If L is not the length the block was built for, or holds nothing but class tokens.
        """
        length = x.shape[1]
        if self.length is not None and length != self.length:
            raise ValueError(f"agent attention was built for {self.length} tokens, got {length}; use bias: resized")
        if length <= self.num_class_tokens:
            raise ValueError(
                f"agent attention: {length} tokens are not more than {self.num_class_tokens} class tokens"
            )
        return self.grid or (length - self.num_class_tokens,)

    def _convolve(self, values: Tensor, grid: Sequence[int]) -> Tensor:
        """Depth-wise convolution of the values [B, L', D] on their grid: [B, L, D], zero at class tokens."""
        assert self.conv is not None
        if self.reduce is None:
            on_grid = values[:, self.num_class_tokens :].transpose(1, 2).unflatten(2, tuple(grid))  # [B, D, *grid]
        else:
            on_grid = self.reduce.restore(values, grid)
        return F.pad(self.conv(on_grid).flatten(2).transpose(1, 2), (0, 0, self.num_class_tokens, 0))  # [B, L, D]

    def _build_agents(self, queries: Tensor, mask: Tensor | None, grid: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        """Returns the agents [B, n, D] and which of them exist [B, n]; None if all do."""
        if self.agents is not None:
            return self.agents.expand(queries.shape[0], -1, -1), None
        first = self.num_class_tokens
        on_grid = hide_masked(queries, mask)[:, first:].transpose(1, 2).unflatten(2, tuple(grid))  # [B, D, *grid]
        pooled = self._pool(on_grid).transpose(1, 2)  # [B, n, D]
        if mask is None:
            return pooled, None
        real = mask[:, first:].to(queries.dtype).unsqueeze(1)  # [B, 1, N]
        share = self._pool(real.unflatten(2, tuple(grid)))[:, 0]  # [B, n]
        return pooled / share.clamp_min(torch.finfo(share.dtype).tiny).unsqueeze(-1), share > 0

    def _pool(self, on_grid: Tensor) -> Tensor:
        """Averages [B, C, *grid] to one value an agent: [B, C, n]."""
        if len(self.agent_grid) == 1:
            return F.adaptive_avg_pool1d(on_grid, self.agent_grid[0])
        rows, columns = self.agent_grid
        return F.adaptive_avg_pool2d(on_grid, (rows, columns)).flatten(2)


def _place_agents(num_agents: int | Sequence[int], grid: Sequence[int] | None) -> tuple[int, ...]:
    """Returns the number of agents along each axis.

    Raises:
        ValueError: If they do not fit the axes.
    """
    axes = 1 if grid is None else len(grid)
    if not isinstance(num_agents, int):
        if len(num_agents) != axes:
            raise ValueError(f"agent attention: num_agents {list(num_agents)} must name one number for {axes} axes")
        return tuple(num_agents)
    side = num_agents if axes == 1 else math.isqrt(num_agents)
    if side**axes != num_agents:
        raise ValueError(f"agent attention: on a grid num_agents must be a square number, got {num_agents}")
    return (side,) * axes


def _check_options(agents: str, bias: str, kernel_size: int, num_class_tokens: int, reduction: int) -> None:
    """Refuses options that are unknown or exclude each other.

    Raises:
        ValueError: Naming the option.
    """
    if agents not in ("pooled", "learned"):
        raise ValueError(f"agent attention: unknown agents {agents!r}; expected 'pooled' or 'learned'")
    if bias not in BIASES:
        raise ValueError(f"agent attention: unknown bias {bias!r}; expected one of {list(BIASES)}")
    if kernel_size and kernel_size % 2 == 0:
        raise ValueError(f"agent attention: kernel_size must be odd to stay centred (or 0), got {kernel_size}")
    if num_class_tokens < 0 or reduction < 1:
        raise ValueError(
            f"agent attention: num_class_tokens must be at least 0 and reduction at least 1, got "
            f"{num_class_tokens} and {reduction}"
        )
    if num_class_tokens and reduction > 1:
        raise ValueError(
            f"agent attention: {num_class_tokens} class tokens stand on no grid that a reduction ({reduction}) "
            "could join; use one of the two"
        )
