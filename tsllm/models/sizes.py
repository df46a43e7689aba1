"""Compares the sizes in a model's configuration with its weights file, before memory is taken for them."""

import math
import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from tsllm.backbones.weights import Header
from tsllm.nn.older_state import convert_state

# Sizes that repeat parts of a model; each repetition has tensors of its own.
_REPEATS = re.compile(r"layers|stages|kernels|window_sizes|scales|top_k")
# What is no size of the model's own tensors.
_ELSEWHERE = re.compile(r"^(backbone|num_backbone|prompt|series_|lora|num_channels)|seed")


def check_sizes(model_class: type, config: Any, header: Header, origin: str) -> None:
    """Refuses a configuration whose sizes are not those of its weights, which a small file can set to millions.

    First no size may be far above all that the weights hold; then the model is laid out without memory (on torch's
    meta device) and every shape compared. A model that cannot be laid out so (it reads a backbone, or computes tables
    of its own) is held to the first alone.

    Args:
        model_class: The class.
        config: Its configuration.
        header: Names, shapes and dtypes of the stored tensors.
        origin: Where they come from, for the text of an error.

    Raises:
        ValueError: Naming the size that does not fit, or the tensors.
    """
    layable = model_class.can_be_laid_out  # type: ignore[attr-defined]
    for name, value in _sizes(config):
        limit = max(100, len(header.shapes)) if _REPEATS.search(name) else max(10_000, 8 * header.largest)
        if value > limit and (_REPEATS.search(name) or not layable):
            raise ValueError(
                f"{origin}: the configuration has {name} {value}, but the weights are {len(header.shapes)} tensors of "
                f"at most {header.largest} rows or columns: they do not belong together, or one is damaged"
            )
    if layable:
        with torch.device("meta"):
            model = model_class(config)
        wanted = {k: tuple(v.shape) for k, v in model.trained_state().items()}
        problems = compare_shapes(_convert_shapes(model, header.shapes), wanted)
        if problems:
            raise ValueError(
                f"{origin} does not fit {model_class.__name__} with its configuration: {'; '.join(problems)}"
            )


def _convert_shapes(model: nn.Module, shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Returns the shapes that a state has once what older states hold beyond `model`'s is turned into its own."""
    if any(math.prod(max(size, 1) for size in shape) >= 2**62 for shape in shapes.values()):
        return shapes  # torch cannot count the elements of such a tensor, not even of one without memory
    with torch.device("meta"):
        stored = convert_state(model, {name: torch.empty(shape) for name, shape in shapes.items()})
    return {name: tuple(tensor.shape) for name, tensor in stored.items()}


def compare_shapes(found: dict[str, tuple[int, ...]], wanted: dict[str, tuple[int, ...]]) -> list[str]:
    """Returns what is missing, unexpected or of another shape, each as a text."""
    problems = [f"missing {name}" for name in wanted if name not in found]
    problems += [f"unexpected {name}" for name in found if name not in wanted]
    problems += [
        f"{name} has shape {list(found[name])}, expected {list(shape)}"
        for name, shape in wanted.items()
        if name in found and tuple(found[name]) != shape
    ]
    return problems


def find_damaged(module: nn.Module, state: dict[str, torch.Tensor]) -> list[str]:
    """Returns which tensors of `state` cannot be parameters of `module`: integers, 8 bits, NaN, infinities."""
    problems = []
    for name, own in module.named_parameters():
        given = state.get(name)
        if given is None or not own.is_floating_point():
            continue
        if not given.is_floating_point() or given.itemsize < 2:  # torch cannot compute in 8 bits
            problems.append(f"{name} holds {str(given.dtype).removeprefix('torch.')}, expected floating numbers")
        elif not torch.isfinite(given).all():
            problems.append(f"{name} holds NaN or infinities")
    return problems


def _sizes(config: Any) -> Iterator[tuple[str, int]]:
    """Yields name and value of every integer of a configuration's own fields, those in lists and options too."""
    pending = [(n, getattr(config, n)) for n in sorted(type(config).own_fields()) if not _ELSEWHERE.search(n)]
    while pending:
        name, value = pending.pop()
        if isinstance(value, bool):
            continue
        if isinstance(value, int):
            yield name, value
        elif isinstance(value, dict):
            pending += [(f"{name}.{k}", v) for k, v in value.items()]
        elif isinstance(value, list | tuple):
            pending += [(name, v) for v in value]
