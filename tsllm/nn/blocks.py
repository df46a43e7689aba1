"""Builds blocks from configurations.

A specification is a name, or a mapping with the key `type` and the block's own arguments.
"""

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

from tsllm.nn.attention import ATTENTION, TokenMixer

Spec = str | Mapping[str, Any]


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
        offered: What the surroundings know (width, heads, length, dropout); used where not given.

    Raises:
        ValueError: If an argument is unknown, or one that the block needs is missing.
    """
    known = inspect.signature(cls.__init__).parameters
    names = [key for key in known if key != "self"]
    unknown = sorted(set(given) - set(names))
    if unknown:
        raise ValueError(f"{kind} {name!r} has no argument {', '.join(unknown)}; it takes {', '.join(names)}")
    arguments = {key: value for key, value in offered.items() if key in names and value is not None} | given
    missing = [key for key in names if key not in arguments and known[key].default is inspect.Parameter.empty]
    if missing:
        raise ValueError(
            f"{kind} {name!r} needs {', '.join(missing)}, which is not known here; "
            "give it in the specification, or use a block whose parameters do not depend on it"
        )
    return cls(**arguments)


def build_mixer(
    spec: Spec, d_model: int, num_heads: int = 4, length: int | None = None, *, dropout: float = 0.0
) -> TokenMixer:
    """Builds a token mixer [B, L, D] -> [B, L, D].

    Args:
        spec: Specification.
        d_model: Width D.
        num_heads: Number of heads, for blocks that have heads.
        length: Number of tokens L, for blocks whose parameters depend on it; None if it varies.
        dropout: Dropout rate, for blocks that have one.

    Raises:
        ValueError: If the specification does not fit; the text says why.
    """
    name, given = split_spec(spec)
    offered = {"d_model": d_model, "num_heads": num_heads, "length": length, "dropout": dropout}
    mixer: TokenMixer = construct("attention", name, ATTENTION.get(name), given, offered)
    return mixer
