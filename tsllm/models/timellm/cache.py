"""Keys and values of prompt tokens: how they are collected from a language model and how they enter it again.

Both classes stand where transformers expects a `Cache`, and neither changes when a layer reads it, so that a layer may
be run again (gradient checkpointing).
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache


@dataclass(frozen=True)
class KeyValues:
    """Keys and values of T tokens in every layer.

    Attributes:
        keys: One [N, heads, T, width] a layer.
        values: One [N, heads, T, width] a layer.
    """

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]

    @property
    def num_tokens(self) -> int:
        """T."""
        return self.keys[0].shape[-2]

    @property
    def num_bytes(self) -> int:
        """Memory of all tensors."""
        return sum(t.numel() * t.element_size() for t in (*self.keys, *self.values))

    def select(self, rows: Tensor) -> "KeyValues":
        """Returns the rows [N'] of all layers."""
        return KeyValues(
            tuple(k.index_select(0, rows) for k in self.keys), tuple(v.index_select(0, rows) for v in self.values)
        )


def join(parts: list[KeyValues], num_rows: int) -> KeyValues:
    """Puts the tokens of `parts` behind one another; a part with one row serves all rows."""
    if len(parts) == 1 and parts[0].keys[0].shape[0] == num_rows:
        return parts[0]

    def tokens(tensors: list[Tensor]) -> Tensor:
        return torch.cat([t.expand(num_rows, -1, -1, -1) for t in tensors], -2)  # [N, heads, T, width]

    layers = range(len(parts[0].keys))
    return KeyValues(
        tuple(tokens([p.keys[k] for p in parts]) for k in layers),
        tuple(tokens([p.values[k] for p in parts]) for k in layers),
    )


class PromptCache(Cache):
    """Puts the prompt's keys and values in front of those that a layer computes.

    Args:
        prompt: What precedes; parts with one row serve all rows.
    """

    def __init__(self, prompt: list[KeyValues]) -> None:
        super().__init__(layers=[])
        self.prompt = prompt

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Returns the joined keys and values [N, heads, T + P, width]; nothing is kept."""
        rows = key_states.shape[0]
        keys = [part.keys[layer_idx].expand(rows, -1, -1, -1) for part in self.prompt]
        values = [part.values[layer_idx].expand(rows, -1, -1, -1) for part in self.prompt]
        return torch.cat([*keys, key_states], -2), torch.cat([*values, value_states], -2)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Returns the number of prompt tokens."""
        return sum(part.num_tokens for part in self.prompt)


class LastLayerReached(Exception):  # a signal, not an error
    """Raised once the last layer's keys and values are collected: what it would do next, nobody reads."""


class CollectingCache(PromptCache):
    """Collects the keys and values of the tokens that are run, and ends the run in the last layer.

    Args:
        prompt: What precedes these tokens.
        num_layers: Layers of the model.
    """

    def __init__(self, prompt: list[KeyValues], num_layers: int) -> None:
        super().__init__(prompt)
        self._collected: dict[int, tuple[Tensor, Tensor]] = {}
        self._num_layers = num_layers

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Keeps this layer's keys and values, then does as `PromptCache`.

        Raises:
            LastLayerReached: In the last layer.
        """
        self._collected[layer_idx] = key_states, value_states
        if layer_idx == self._num_layers - 1:
            raise LastLayerReached
        return super().update(key_states, value_states, layer_idx)

    def collected(self) -> KeyValues:
        """Returns what was collected.

        Raises:
            RuntimeError: If a layer did not hand over its keys and values.
        """
        missing = [k for k in range(self._num_layers) if k not in self._collected]
        if missing:
            raise RuntimeError(f"layers {missing} gave no keys and values; this architecture cannot cache a prompt")
        pairs = [self._collected[k] for k in range(self._num_layers)]
        return KeyValues(tuple(k for k, _ in pairs), tuple(v for _, v in pairs))
