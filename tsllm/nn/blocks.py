"""Builds blocks from configurations.

A specification is a name, or a mapping with the key `type` and the block's own arguments. Besides the names of the
tables there are four compositions, whose parts are specifications again:

    {"type": "sequence", "blocks": [...]}
    {"type": "parallel", "blocks": [...], "fuse": "mean" | "convex" | "selective" | "sigmoid_softmax" | {...}}
    {"type": "gated", "value": ..., "gate": ...}              f(x) * sigmoid(g(x))
    {"type": "residual", "block": ..., "combine": "add" | "multiply"}

Where tokens [B, L, D] are mixed, gates and convolutions may stand too; the features of the tokens are their channels.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from tsllm.near import find_near
from tsllm.nn.attention import ATTENTION, TokenMixer
from tsllm.nn.channel_block import ChannelBlock
from tsllm.nn.composition import (
    ChannelMixer,
    GatedBlock,
    GatedMixer,
    ParallelBlock,
    ParallelMixer,
    ResidualBlock,
    ResidualMixer,
    SequenceBlock,
    SequenceMixer,
    TokenBlock,
)
from tsllm.nn.conv import CONVS
from tsllm.nn.gating import FUSIONS, GATES, Fusion
from tsllm.registry import UnknownNameError

Spec = str | Mapping[str, Any]
COMPOSITIONS = ("sequence", "parallel", "gated", "residual")


@dataclass(frozen=True)
class Surroundings:
    """What the place where a block is plugged in knows about itself.

    Attributes:
        width: Number of features or channels.
        num_heads: Number of heads, for blocks that have heads.
        length: Number of tokens or steps; None if it varies.
        dims: Number of position axes: 0 for tokens [B, L, D], 1 for a series [B, C, L], 2 for a map [B, C, H, W].
        dropout: Dropout rate.
    """

    width: int
    num_heads: int
    length: int | None
    dims: int
    dropout: float

    @property
    def offered(self) -> dict[str, Any]:
        """The arguments that a block gets unless its specification says otherwise."""
        return {
            "d_model": self.width,
            "num_channels": self.width,
            "num_heads": self.num_heads,
            "length": self.length,
            "dims": max(self.dims, 1),
            "dropout": self.dropout,
        }


def split_spec(spec: Spec) -> tuple[str, dict[str, Any]]:
    """Splits a specification into the block's name and its arguments.

    Raises:
        ValueError: If it is neither a name nor a mapping with the key `type`.
    """
    if isinstance(spec, str):
        return spec, {}
    if not isinstance(spec, Mapping) or not isinstance(spec.get("type"), str):
        raise ValueError(f"a block is specified by a name or by a mapping with the key 'type', got {spec!r}")
    return spec["type"], {key: value for key, value in spec.items() if key != "type"}


def construct(kind: str, name: str, cls: type[nn.Module], given: dict[str, Any], offered: dict[str, Any]) -> Any:
    """Constructs a block from the arguments that were given and those of the offered ones that it takes.

    Args:
        kind: Family, for messages.
        name: Name of the block, for messages.
        cls: Its class.
        given: Arguments of the specification; all must be known to the class.
        offered: What the surroundings know; used where not given.

    Raises:
        ValueError: If an argument is unknown, or one that the block needs is missing.
    """
    known = inspect.signature(cls.__init__).parameters
    names = [key for key in known if key not in ("self", "args", "kwargs")]
    unknown = sorted(set(given) - set(names))
    if unknown:
        raise ValueError(f"{kind} {name!r} has no argument {', '.join(unknown)}; it takes {', '.join(names)}")
    arguments = {key: value for key, value in offered.items() if key in names and value is not None} | given
    missing = [key for key in names if key not in arguments and known[key].default is inspect.Parameter.empty]
    if missing:
        raise ValueError(
            f"{kind} {name!r} needs {', '.join(missing)}, which is not known here (a length that varies cannot be); "
            "use a block whose parameters do not depend on it"
        )
    return cls(**arguments)


def build_fusion(spec: Spec, num_channels: int, num_inputs: int) -> Fusion:
    """Builds a fusion of inputs of one shape.

    Args:
        spec: A name of `FUSIONS` or a mapping with the key `type`.
        num_channels: Number of channels C.
        num_inputs: Number of inputs.

    Raises:
        ValueError: If the specification does not fit; the text says why.
    """
    name, given = split_spec(spec)
    offered = {"num_channels": num_channels, "num_inputs": num_inputs}
    fusion: Fusion = construct("fusion", name, FUSIONS.get(name), given, offered)
    return fusion


def build_mixer(
    spec: Spec, d_model: int, num_heads: int = 4, length: int | None = None, *, dropout: float = 0.0
) -> TokenMixer:
    """Builds a token mixer [B, L, D] -> [B, L, D].

    Args:
        spec: Specification; gates and convolutions may stand in it too.
        d_model: Width D.
        num_heads: Number of heads, for blocks that have heads.
        length: Number of tokens L, for blocks whose parameters depend on it; None if it varies.
        dropout: Dropout rate, for blocks that have one.

    Raises:
        ValueError: If the specification does not fit; the text says why.
    """
    mixer: TokenMixer = _build(spec, Surroundings(d_model, num_heads, length, 0, dropout))
    return mixer


def build_gate(spec: Spec, num_channels: int, length: int | None = None) -> ChannelBlock:
    """Builds a gate or convolution over a series [B, C, L] -> [B, C, L].

    Args:
        spec: Specification; token mixers may stand in it too.
        num_channels: Number of channels C.
        length: Number of steps L, for blocks whose parameters depend on it; None if it varies.

    Raises:
        ValueError: If the specification does not fit; the text says why.
    """
    gate: ChannelBlock = _build(spec, Surroundings(num_channels, 1, length, 1, 0.0))
    return gate


def build_conv(spec: Spec, num_channels: int, length: int | None = None) -> ChannelBlock:
    """Builds a convolution over a series [B, C, L] -> [B, C, L]; the same language as `build_gate`."""
    return build_gate(spec, num_channels, length)


def build_map_block(spec: Spec, num_channels: int) -> ChannelBlock:
    """Builds a block over maps [B, C, H, W] -> [B, C, H, W] of any size.

    Args:
        spec: Specification; token mixers whose parameters fit any length may stand in it, the positions row by row
            are their tokens.
        num_channels: Number of channels C.

    Raises:
        ValueError: If the specification does not fit; the text says why.
    """
    block: ChannelBlock = _build(spec, Surroundings(num_channels, 1, None, 2, 0.0))
    return block


def _build(spec: Spec, around: Surroundings) -> Any:
    """Builds a block or a composition for the place described by `around`."""
    name, given = split_spec(spec)
    if name in COMPOSITIONS:
        return _compose(name, given, around)
    if name in ATTENTION:
        mixer = construct("attention", name, ATTENTION.get(name), given, around.offered)
        return mixer if around.dims == 0 else TokenBlock(mixer)
    for kind, table in (("gate", GATES), ("convolution", CONVS)):
        if name in table:
            block = construct(kind, name, table.get(name), given, around.offered)
            _refuse_wrong_rank(kind, name, block, around.dims)
            return ChannelMixer(block) if around.dims == 0 else block
    names = [*ATTENTION.names(), *GATES.names(), *CONVS.names(), *COMPOSITIONS]
    near = find_near(name, names, cutoff=0.4)
    hint = f"did you mean {', '.join(map(repr, near))}? " if near else ""
    raise UnknownNameError(f"unknown block {name!r}; {hint}known: {', '.join(names)}")


def _refuse_wrong_rank(kind: str, name: str, block: ChannelBlock, dims: int) -> None:
    """Refuses a map block on a series and a series block on a map, with the reason."""
    if max(dims, 1) in block.ranks:
        return
    if dims == 2:
        raise ValueError(
            f"{kind} {name!r} works along one time axis [B, C, L]; a folded map [B, C, rows, columns] has two, so "
            "it cannot stand in map_block; use it as gate: or conv: of an encoder"
        )
    raise ValueError(
        f"{kind} {name!r} is a map block [B, C, rows, columns]; a sequence of tokens or steps has no rows and "
        "columns; use it as map_block: of TimesNet, or take 'se' or 'cbam' here"
    )


def _compose(name: str, given: dict[str, Any], around: Surroundings) -> Any:
    """Builds one of the compositions; `around` decides whether of token mixers or of channel blocks."""
    keys = {
        "sequence": ("blocks",),
        "parallel": ("blocks", "fuse"),
        "gated": ("value", "gate"),
        "residual": ("block", "combine"),
    }[name]
    unknown = sorted(set(given) - set(keys))
    missing = sorted(set(keys) - set(given) - {"combine", "fuse"})
    if unknown or missing:
        raise ValueError(f"composition {name!r} takes {', '.join(keys)}; unknown: {unknown}, missing: {missing}")
    tokens = around.dims == 0
    if name == "gated":
        return (GatedMixer if tokens else GatedBlock)(_build(given["value"], around), _build(given["gate"], around))
    if name == "residual":
        combine = given.get("combine", "add")
        return (ResidualMixer if tokens else ResidualBlock)(_build(given["block"], around), combine)
    if not isinstance(given["blocks"], list | tuple) or not given["blocks"]:
        raise ValueError(f"composition {name!r} needs a list of at least one block, got {given['blocks']!r}")
    blocks = [_build(part, around) for part in given["blocks"]]
    if name == "sequence":
        return (SequenceMixer if tokens else SequenceBlock)(blocks)
    fusion = build_fusion(given.get("fuse", "mean"), around.width, len(blocks))
    return (ParallelMixer if tokens else ParallelBlock)(blocks, fusion)
