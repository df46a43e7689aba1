"""Blocks made of blocks: in a row, side by side, gated, with a residual; for token mixers and for channel blocks."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from tsllm.nn.attention.base import TokenMixer, hide_masked
from tsllm.nn.channel_block import ChannelBlock, hide_positions
from tsllm.nn.gating.fusion import Fusion

Combine = Literal["add", "multiply"]
COMBINES = ("add", "multiply")
COSTS = ("linear", "loglinear", "quadratic")


def inherit(block: Any, parts: Sequence[Any]) -> None:
    """Sets what a composition mixes, whether it is causal, what it costs and takes, from what its parts declare."""
    block.mixes = frozenset().union(*(part.mixes for part in parts))
    block.causal = all(part.causal for part in parts)
    costs = [part.cost for part in parts if hasattr(part, "cost")]
    block.cost = max(costs, key=COSTS.index) if costs else "linear"
    ranks = [part.ranks for part in parts if hasattr(part, "ranks")]
    if ranks:
        block.ranks = frozenset.intersection(*ranks)


def check_combine(combine: str) -> None:
    """Refuses ways to combine other than those in `COMBINES`.

    Raises:
        ValueError: If `combine` is unknown.
    """
    if combine not in COMBINES:
        raise ValueError(f"residual: unknown combine {combine!r}; expected one of {list(COMBINES)}")


class ChannelMixer(TokenMixer):
    """A channel block as a token mixer: the features of the tokens are its channels.

    Args:
        block: A block that takes a series [B, C, L].
    """

    def __init__(self, block: ChannelBlock) -> None:
        super().__init__()
        self.block = block
        self.mixes, self.causal, self.cost = block.mixes, block.causal, block.cost

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mixes tokens [B, L, D] -> [B, L, D]; mask [B, L], True = real token."""
        return self.block(x.transpose(1, 2), mask).transpose(1, 2)


class TokenBlock(ChannelBlock):
    """A token mixer as a channel block: the positions, of a map row by row, are its tokens.

    On a map folded by a period that is the order of time.

    Args:
        mixer: A token mixer whose parameters fit any length.
    """

    def __init__(self, mixer: TokenMixer) -> None:
        super().__init__()
        self.mixer = mixer
        self.mixes, self.causal, self.cost = mixer.mixes, mixer.causal, mixer.cost

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mixes the positions of x [B, C, *positions]; mask [B, *positions], True = real."""
        tokens = self.mixer(x.flatten(2).transpose(1, 2), None if mask is None else mask.flatten(1))  # [B, N, C]
        return tokens.transpose(1, 2).unflatten(2, x.shape[2:])  # [B, C, *positions]


class _InARow(nn.Module):
    """Parts one after the other.

    Args:
        blocks: The parts, first one first.
    """

    def __init__(self, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        inherit(self, blocks)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Maps x to the same shape; mask: True = real."""
        for block in self.blocks:
            x = block(x, mask)
        return x


class _Gated(nn.Module):
    """One part gated by another: y = f(x) * sigmoid(g(x)).

    Args:
        value: f.
        gate: g.
    """

    hide: Callable[[Tensor, Tensor | None], Tensor]

    def __init__(self, value: nn.Module, gate: nn.Module) -> None:
        super().__init__()
        self.value = value
        self.gate = gate
        inherit(self, [value, gate])

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Maps x to the same shape; mask: True = real."""
        return self.hide(self.value(x, mask) * torch.sigmoid(self.gate(x, mask)), mask)


class _Residual(nn.Module):
    """A part and its input: x + f(x), or x * f(x).

    Args:
        block: f.
        combine: "add" or "multiply".

    Raises:
        ValueError: If `combine` is unknown.
    """

    hide: Callable[[Tensor, Tensor | None], Tensor]

    def __init__(self, block: nn.Module, combine: Combine = "add") -> None:
        super().__init__()
        check_combine(combine)
        self.block = block
        self.combine = combine
        inherit(self, [block])

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Maps x to the same shape; mask: True = real."""
        mixed = self.block(x, mask)
        return self.hide(x + mixed if self.combine == "add" else x * mixed, mask)


class SequenceMixer(_InARow, TokenMixer):
    """Token mixers one after the other, on [B, L, D]."""


class GatedMixer(_Gated, TokenMixer):
    """One token mixer gated by another, on [B, L, D]."""

    hide = staticmethod(hide_masked)


class ResidualMixer(_Residual, TokenMixer):
    """A token mixer with a residual, on [B, L, D]."""

    hide = staticmethod(hide_masked)


class SequenceBlock(_InARow, ChannelBlock):
    """Channel blocks one after the other, on [B, C, *positions]."""


class GatedBlock(_Gated, ChannelBlock):
    """One channel block gated by another, on [B, C, *positions]."""

    hide = staticmethod(hide_positions)


class ResidualBlock(_Residual, ChannelBlock):
    """A channel block with a residual, on [B, C, *positions]."""

    hide = staticmethod(hide_positions)


class ParallelMixer(TokenMixer):
    """Token mixers side by side on the same tokens, joined by a fusion.

    Args:
        blocks: The mixers.
        fusion: Joins their outputs as channels first.
    """

    def __init__(self, blocks: Sequence[TokenMixer], fusion: Fusion) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.fusion = fusion
        inherit(self, [*blocks, fusion])

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mixes tokens [B, L, D] -> [B, L, D]; mask [B, L], True = real token."""
        outputs = [block(x, mask).transpose(1, 2) for block in self.blocks]  # [B, D, L] each
        return cast(Tensor, self.fusion(outputs, mask)).transpose(1, 2)


class ParallelBlock(ChannelBlock):
    """Channel blocks side by side on the same input, joined by a fusion.

    Args:
        blocks: The blocks.
        fusion: Joins their outputs.
    """

    def __init__(self, blocks: Sequence[ChannelBlock], fusion: Fusion) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.fusion = fusion
        inherit(self, [*blocks, fusion])

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Maps x [B, C, *positions] to the same shape; mask [B, *positions], True = real."""
        return self.fusion([block(x, mask) for block in self.blocks], mask)
