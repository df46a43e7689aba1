"""Tensors of older artefacts and of reference code that our modules do without.

A constant added in front of a batch norm has no effect in training, where the norm subtracts the mean of the batch. In
evaluation it counts, because the running mean was estimated with it: leaving the constant out is exact only if it is
taken off the running mean too.
"""

from typing import Any

import torch
from torch import Tensor, nn


class OlderState(nn.Module):
    """A module that reads states with tensors it does without; `load_state_dict` turns them into its own."""

    def convert_state(self, state: dict[str, Tensor], prefix: str) -> None:
        """Replaces, in `state`, what the module does without; tensors of its own stay as they are.

        Args:
            state: Tensors by name, changed in place (the dictionary, never a tensor).
            prefix: What stands in front of the module's own names.
        """
        raise NotImplementedError

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        self.convert_state(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)


def convert_state(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Returns a state of `model` with what its modules do without turned into their own tensors."""
    converted = dict(state)
    for name, module in model.named_modules():
        if isinstance(module, OlderState):
            module.convert_state(converted, f"{name}." if name else "")
    return converted


def fold_constant(state: dict[str, Tensor], source: str, norm: str, factor: Tensor | None = None) -> None:
    """Takes a constant in front of a batch norm out of a state: (x + c - m) / s = (x - (m - c)) / s.

    Args:
        state: Tensors by name, changed in place; it stays as it is, for the reader of states to complain of, if the
            constant or the norm's running mean is not there, of another shape or no finite floating number.
        source: Name of the constant [C0].
        norm: Name of the batch norm over C channels.
        factor: [C, C0], what turns the constant into the one in front of the norm; None if it stands there itself.
    """
    mean = f"{norm}.running_mean"
    names = [name for name in (source, mean) if name in state]
    if len(names) < 2 or not _are_numbers(*(state[name] for name in names)):
        return
    shape = tuple(state[mean].shape)
    expected = shape if factor is None else (factor.shape[1],)
    if tuple(state[source].shape) != expected or (factor is not None and (factor.shape[0],) != shape):
        return
    constant = state.pop(source).to(state[mean])
    state[mean] = state[mean] - (constant if factor is None else factor.to(constant) @ constant)


def fold_affine(state: dict[str, Tensor], source: str, norm: str, eps: float) -> None:
    """Takes a scale and a shift a channel in front of a batch norm out of a state.

    With scale g, shift c, running mean m and variance v, the norm measures g x + c. Without them it measures x, whose
    mean is (m - c) / g and whose variance v / g^2; what was small against `eps` keeps its size by the norm's weight.

    Args:
        state: Tensors by name, changed in place; it stays as it is if one of the six is not there, of another shape
            or no finite floating number.
        source: Name of what holds `weight` [C] and `bias` [C].
        norm: Name of the batch norm.
        eps: The batch norm's.
    """
    names = [f"{source}.weight", f"{source}.bias"]
    names += [f"{norm}.{kind}" for kind in ("running_mean", "running_var", "weight", "bias")]
    if not all(name in state for name in names):
        return
    tensors = [state[name] for name in names]
    if not _are_numbers(*tensors) or len({tuple(tensor.shape) for tensor in tensors}) > 1:
        return
    scale, shift, mean, variance, weight, bias = (tensor.double() for tensor in tensors)
    used = scale.abs() > 1e-6  # a channel without scale is constant: its part of the output goes into the norm's bias
    safe = torch.where(used, scale, 1.0)
    rate = (variance + eps).rsqrt()
    new_variance = torch.where(used, variance / safe.square(), 1.0)
    values = (
        torch.where(used, (mean - shift) / safe, 0.0),
        new_variance,
        weight * torch.where(used, scale, 0.0) * rate * (new_variance + eps).sqrt(),
        torch.where(used, bias, bias + (shift - mean) * rate * weight),
    )
    for name, value in zip(names[2:], values, strict=True):
        state[name] = value.to(state[name].dtype)
    del state[names[0]], state[names[1]]


def _are_numbers(*tensors: Tensor) -> bool:
    """Tells whether all are finite floating numbers; of tensors without memory, only whether they are floating."""
    return all(t.is_floating_point() and (t.is_meta or bool(torch.isfinite(t).all())) for t in tensors)
