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


class AgentBias(nn.Module):
    """Position bias between agents and tokens: a small table resized to the tokens, plus one term per axis.

    Args:
        num_heads: Number of heads h.
        num_agents: Number of agents n.
        table_size: Side m of the table, which is [h, n, m] for a series and [h, n, m, m] for a map.
        grid: Number of tokens along each axis, for the terms per axis; None leaves those out and fits any length.
        num_axes: 1 for series, 2 for maps.
    """

    def __init__(
        self, num_heads: int, num_agents: int, table_size: int, grid: Sequence[int] | None, num_axes: int
    ) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty(num_heads, num_agents, *[table_size] * num_axes))
        nn.init.trunc_normal_(self.table, std=INITIAL_STD)
        self.axes = nn.ParameterList()
        for axis, size in enumerate(grid or ()):
            shape = [1] * num_axes
            shape[axis] = size
            term = nn.Parameter(torch.empty(num_heads, num_agents, *shape))
            nn.init.trunc_normal_(term, std=INITIAL_STD)
            self.axes.append(term)

    def forward(self, grid: Sequence[int]) -> Tensor:
        """Returns the bias [h, n, N] for N tokens on a grid."""
        mode = "linear" if len(grid) == 1 else "bilinear"
        bias = F.interpolate(self.table, size=tuple(grid), mode=mode, align_corners=False)  # [h, n, *grid]
        for term in self.axes:
            bias = bias + term
        return bias.flatten(2)  # [h, n, N]


class AgentAttention(TokenMixer):
    """Agents read all tokens, all tokens read the agents; a depth-wise convolution of the values restores detail.

    V_A = softmax(A K^T / sqrt(d) + B1) V, O = softmax(Q A^T / sqrt(d) + B2) V_A, y = W_o (O + DWC(V)). Linear in the
    number of tokens at a fixed number of agents.

    Args:
        d_model: Width D.
        num_heads: Number of heads.
        num_agents: Number of agents n; on a grid of two axes a square number.
        agents: "pooled" averages the queries of n stretches of the series, "learned" keeps n parameters.
        bias: "none"; "resized", a table that is resized to any length; "full", the table plus a term per step, which
            ties the block to one length.
        table_size: Side of the bias table.
        kernel_size: Width of the depth-wise convolution, odd; 0 leaves it out.
        qkv_bias: Whether the query, key and value projections have biases.
        length: Number of tokens, for bias "full".
        grid: Rows and columns of the map that the tokens come from, row by row; None for a series.
        dropout: Dropout rate on both attention maps.

    Raises:
        ValueError: If an option is unknown, the kernel even, or a length missing.
    """

    cost: Literal["linear", "loglinear", "quadratic"] = "linear"

    def __init__(
        self,
        d_model: int,
        num_heads: int = 4,
        num_agents: int = 16,
        agents: Literal["pooled", "learned"] = "pooled",
        bias: Literal["none", "resized", "full"] = "resized",
        table_size: int = 7,
        kernel_size: int = 3,
        qkv_bias: bool = True,
        length: int | None = None,
        grid: Sequence[int] | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_heads("agent attention", d_model, num_heads)
        if agents not in ("pooled", "learned"):
            raise ValueError(f"agent attention: unknown agents {agents!r}; expected 'pooled' or 'learned'")
        if bias not in BIASES:
            raise ValueError(f"agent attention: unknown bias {bias!r}; expected one of {list(BIASES)}")
        if kernel_size and kernel_size % 2 == 0:
            raise ValueError(f"agent attention: kernel_size must be odd to stay centred (or 0), got {kernel_size}")
        if grid is None and bias == "full" and length is None:
            raise ValueError("agent attention: bias 'full' has a term per step and needs length; or use bias: resized")
        if grid is not None and math.isqrt(num_agents) ** 2 != num_agents:
            raise ValueError(f"agent attention: on a grid num_agents must be a square number, got {num_agents}")
        self.num_heads = num_heads
        self.num_agents = num_agents
        self.grid = None if grid is None else tuple(grid)
        self.length = math.prod(grid) if grid is not None else (length if bias == "full" else None)
        self.dropout = Dropout(dropout)
        self.query = nn.Linear(d_model, d_model, bias=qkv_bias)
        self.key = nn.Linear(d_model, d_model, bias=qkv_bias)
        self.value = nn.Linear(d_model, d_model, bias=qkv_bias)
        self.out = nn.Linear(d_model, d_model)
        self.agents = nn.Parameter(torch.empty(num_agents, d_model)) if agents == "learned" else None
        if self.agents is not None:
            nn.init.trunc_normal_(self.agents, std=INITIAL_STD)
        num_axes = 1 if grid is None else len(self.grid or ())
        fixed = (self.grid or (length,)) if bias == "full" else None
        self.bias_gather: AgentBias | None = None
        self.bias_hand_out: AgentBias | None = None
        if bias != "none":
            self.bias_gather = AgentBias(num_heads, num_agents, table_size, fixed, num_axes)  # type: ignore[arg-type]
            self.bias_hand_out = AgentBias(num_heads, num_agents, table_size, fixed, num_axes)  # type: ignore[arg-type]
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
            Tokens [B, L, D], what each agent reads [B, h, n, L] and which agents each token reads [B, h, L, n].

        Raises:
            ValueError: If L is not the length the block was built for.
        """
        length = x.shape[1]
        if self.length is not None and length != self.length:
            raise ValueError(f"agent attention was built for {self.length} tokens, got {length}; use bias: resized")
        grid = self.grid or (length,)
        queries, values = self.query(x), hide_masked(self.value(x), mask)
        agents, is_agent = self._build_agents(queries, mask, grid)  # [B, n, D], [B, n]
        q, k, v, a = (split_heads(part, self.num_heads) for part in (queries, self.key(x), values, agents))
        gather = compute_scores(a, k)  # [B, h, n, L]
        hand_out = compute_scores(q, a)  # [B, h, L, n]
        if self.bias_gather is not None and self.bias_hand_out is not None:
            gather = gather + self.bias_gather(grid)
            hand_out = hand_out + self.bias_hand_out(grid).transpose(1, 2)
        gather = softmax_scores(gather, None if mask is None else mask[:, None, None, :])
        hand_out = softmax_scores(hand_out, None if is_agent is None else is_agent[:, None, None, :])
        mixed = merge_heads(self.dropout(hand_out) @ (self.dropout(gather) @ v))  # [B, L, D]
        if self.conv is not None:
            on_grid = values.transpose(1, 2).unflatten(2, grid)  # [B, D, *grid]
            mixed = mixed + self.conv(on_grid).flatten(2).transpose(1, 2)  # [B, L, D]
        return hide_masked(self.out(mixed), mask), gather, hand_out

    def _build_agents(self, queries: Tensor, mask: Tensor | None, grid: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        """Returns the agents [B, n, D] and which of them exist [B, n]; None if all do."""
        if self.agents is not None:
            return self.agents.expand(queries.shape[0], -1, -1), None
        on_grid = hide_masked(queries, mask).transpose(1, 2).unflatten(2, tuple(grid))  # [B, D, *grid]
        side = self.num_agents if len(grid) == 1 else math.isqrt(self.num_agents)
        pool = F.adaptive_avg_pool1d if len(grid) == 1 else F.adaptive_avg_pool2d
        pooled = pool(on_grid, side).flatten(2).transpose(1, 2)  # [B, n, D]
        if mask is None:
            return pooled, None
        share = pool(mask.to(queries.dtype).unsqueeze(1).unflatten(2, tuple(grid)), side).flatten(1)  # [B, n]
        return pooled / share.clamp_min(torch.finfo(share.dtype).tiny).unsqueeze(-1), share > 0
