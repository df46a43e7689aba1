"""What the adapters of single blocks share: arguments, renamed weights, nodes as batch."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from tests.parity.golden import Case
from tsllm.nn.older_state import convert_state

State = dict[str, Tensor]
Outputs = dict[str, Tensor]


def read_kwargs(case: Case, **defaults):
    """The constructor arguments of the case over the reference's defaults."""
    return {**defaults, **case.meta["constructor"].get("kwargs", {})}


def load_renamed(block: nn.Module, state: State, names: dict[str, str]) -> nn.Module:
    """Loads the reference's tensors under our names (their prefix -> ours); every one of ours must be met."""
    found = {}
    for key, tensor in state.items():
        prefix = max((p for p in names if key == p or key.startswith(p + ".")), key=len, default=None)
        if prefix is not None:
            found[names[prefix] + key[len(prefix) :]] = tensor
    own, found = block.state_dict(), convert_state(block, found)
    missing = sorted(key for key in own if key not in found and not key.endswith("num_batches_tracked"))
    assert not missing, f"no reference tensor for {missing}; the case holds {sorted(state)}"
    extra = sorted(set(found) - set(own))
    assert not extra, f"the reference has {extra}, ours has not"
    block.load_state_dict({key: tensor.reshape(own[key].shape) for key, tensor in found.items()}, strict=False)
    return block.eval()


def split_qkv(state: State, name: str, query: str = "query", key: str = "key", value: str = "value") -> State:
    """Splits one joint projection into three."""
    return split_parts(state, name, (query, key, value))


def split_parts(state: State, name: str, parts: Sequence[str]) -> State:
    """Splits one joint projection into as many as there are names."""
    result = {k: v for k, v in state.items() if not k.startswith(name + ".")}
    for kind in ("weight", "bias"):
        if f"{name}.{kind}" in state:
            for part, tensor in zip(parts, state[f"{name}.{kind}"].chunk(len(parts)), strict=True):
                result[f"{part}.{kind}"] = tensor
    return result


def find_option(meta: object, name: str) -> Any:
    """An argument of the recorded call, wherever the case states it: under its name, or in a text as `name=value`.

    Returns:
        The value; from a text a bool or an integer; None if it stands nowhere. Inputs of that name do not count.
    """
    if isinstance(meta, Mapping):
        if name in meta and not isinstance(meta[name], Mapping):
            return _read_value(meta[name])
        found = (find_option(value, name) for key, value in meta.items() if key not in ("inputs", "outputs"))
    elif isinstance(meta, list):
        found = (find_option(value, name) for value in meta)
    elif isinstance(meta, str):
        # one value may serve several names: a=b=True
        match = re.search(rf"\b{name}[\"']?\s*[=:]\s*(?:\w+\s*=\s*)*(True|False|\d+)\b", meta, re.IGNORECASE)
        return None if match is None else _read_value(match[1])
    else:
        return None
    return next((value for value in found if value is not None), None)


def _read_value(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    named = {"true": True, "false": False}
    return named.get(value.lower(), int(value) if value.isdecimal() else value)


def fold_nodes(x: Tensor) -> Tensor:
    """[B, C, nodes, T] -> [B * nodes, C, T]."""
    return x.transpose(1, 2).flatten(0, 1)


def unfold_nodes(x: Tensor, nodes: int) -> Tensor:
    """[B * nodes, C, T] -> [B, C, nodes, T]."""
    return x.unflatten(0, (-1, nodes)).transpose(1, 2)
