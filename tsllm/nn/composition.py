"""Blocks made of blocks: in a row, side by side, gated, with a residual; for token mixers and for channel blocks."""

from collections.abc import Sequence
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


class SequenceMixer(TokenMixer):
    """Token mixers one after the other.

    Args:
        blocks: The mixers, first one first.
    """

    def __init__(self, blocks: Sequence[TokenMixer]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        inherit(self, blocks)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mixes tokens [B, L, D] -> [B, L, D]; mask [B, L], True = real token."""
        for block in self.blocks:
            x = block(x, mask)
        return x


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


class GatedMixer(TokenMixer):
    """One mixer gated by another: y = f(x) * sigmoid(g(x)).

    Args:
        value: f.
        gate: g.
    """

    def __init__(self, value: TokenMixer, gate: TokenMixer) -> None:
        super().__init__()
        self.value = value
        self.gate = gate
        inherit(self, [value, gate])

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mixes tokens [B, L, D] -> [B, L, D]; mask [B, L], True = real token."""
        return hide_masked(self.value(x, mask) * torch.sigmoid(self.gate(x, mask)), mask)


class ResidualMixer(TokenMixer):
    """A mixer and its input: x + f(x), or x * f(x).

    Args:
        block: f.
        combine: "add" or "multiply".

    Raises:
        ValueError: If `combine` is unknown.
    """

    def __init__(self, block: TokenMixer, combine: Combine = "add") -> None:
        super().__init__()
        check_combine(combine)
        self.block = block
        self.combine = combine
        inherit(self, [block])

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mixes tokens [B, L, D] -> [B, L, D]; mask [B, L], True = real token."""
        mixed = self.block(x, mask)
        return hide_masked(x + mixed if self.combine == "add" else x * mixed, mask)


class SequenceBlock(ChannelBlock):
    """Channel blocks one after the other.

    Args:
        blocks: The blocks, first one first.
    """

    def __init__(self, blocks: Sequence[ChannelBlock]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        inherit(self, blocks)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Maps x [B, C, *positions] to the same shape; mask [B, *positions], True = real."""
        for block in self.blocks:
            x = block(x, mask)
        return x


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


class GatedBlock(ChannelBlock):
    """One channel block gated by another: y = f(x) * sigmoid(g(x)).

    Args:
        value: f.
        gate: g.
    """

    def __init__(self, value: ChannelBlock, gate: ChannelBlock) -> None:
        super().__init__()
        self.value = value
        self.gate = gate
        inherit(self, [value, gate])

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Maps x [B, C, *positions] to the same shape; mask [B, *positions], True = real."""
        return hide_positions(self.value(x, mask) * torch.sigmoid(self.gate(x, mask)), mask)


class ResidualBlock(ChannelBlock):
    """A channel block and its input: x + f(x), or x * f(x).

    Args:
        block: f.
        combine: "add" or "multiply".

    Raises:
        ValueError: If `combine` is unknown.
    """

    def __init__(self, block: ChannelBlock, combine: Combine = "add") -> None:
        super().__init__()
        check_combine(combine)
        self.block = block
        self.combine = combine
        inherit(self, [block])

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Maps x [B, C, *positions] to the same shape; mask [B, *positions], True = real."""
        mixed = self.block(x, mask)
        return hide_positions(x + mixed if self.combine == "add" else x * mixed, mask)
