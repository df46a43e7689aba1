"""What the adapters of single blocks share: arguments, renamed weights, nodes as batch."""

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
    result = {k: v for k, v in state.items() if not k.startswith(name + ".")}
    for kind in ("weight", "bias"):
        if f"{name}.{kind}" in state:
            for part, tensor in zip((query, key, value), state[f"{name}.{kind}"].chunk(3), strict=True):
                result[f"{part}.{kind}"] = tensor
    return result


def fold_nodes(x: Tensor) -> Tensor:
    """[B, C, nodes, T] -> [B * nodes, C, T]."""
    return x.transpose(1, 2).flatten(0, 1)


def unfold_nodes(x: Tensor, nodes: int) -> Tensor:
    """[B * nodes, C, T] -> [B, C, nodes, T]."""
    return x.unflatten(0, (-1, nodes)).transpose(1, 2)
