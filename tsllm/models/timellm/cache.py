"""Keys and values of prompt tokens: how they are collected from a language model and how they enter it again.

Both classes stand where transformers expects a `Cache`, and neither changes when a layer reads it, so that a layer may
be run again (gradient checkpointing).
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
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

    def select(self, rows: Tensor) -> "KeyValues":
        """Returns the rows [N'] of all layers."""
        return KeyValues(
            tuple(k.index_select(0, rows) for k in self.keys), tuple(v.index_select(0, rows) for v in self.values)
        )


def stack_rows(parts: list[KeyValues]) -> KeyValues:
    """Puts the rows of `parts` below one another, padded on the right to the longest with zeros."""
    if len(parts) == 1:
        return parts[0]
    width = max(part.num_tokens for part in parts)

    def stack(tensors: list[Tensor]) -> Tensor:
        return torch.cat([F.pad(t, (0, 0, 0, width - t.shape[-2])) for t in tensors])  # [N, heads, T, width]

    layers = range(len(parts[0].keys))
    return KeyValues(
        tuple(stack([part.keys[k] for part in parts]) for k in layers),
        tuple(stack([part.values[k] for part in parts]) for k in layers),
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


class TailStore:
    """Keys and values of tails seen before, up to a number of bytes.

    A full store gives up entries at random (from its own generator): windows come back in shuffled epochs, where
    dropping the oldest would always drop what is needed next.

    Args:
        capacity: Bytes; 0 = nothing is kept.
    """

    def __init__(self, capacity: float = 0) -> None:
        self.capacity = capacity
        self.num_bytes = 0
        self._entries: dict[tuple[int, ...], Tensor] = {}
        self._order: list[tuple[int, ...]] = []
        self._random = random.Random(0)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, tail: tuple[int, ...]) -> bool:
        return tail in self._entries

    def clear(self) -> None:
        """Forgets everything."""
        self._entries.clear()
        self._order.clear()
        self.num_bytes = 0

    def put(self, tails: Sequence[tuple[int, ...]], computed: KeyValues) -> None:
        """Keeps the rows [len(tails), heads, T, width] of `computed`, without their padding, as far as they fit."""
        for row, tail in enumerate(tails):
            entry = torch.stack([t[row, :, : len(tail)] for t in (*computed.keys, *computed.values)])
            size = entry.numel() * entry.element_size()
            if size > self.capacity:
                continue
            while self.num_bytes + size > self.capacity:
                self._drop_one()
            self._entries[tail] = entry  # [2 * layers, heads, len(tail), width]
            self._order.append(tail)
            self.num_bytes += size

    def get(self, tails: Sequence[tuple[int, ...]]) -> KeyValues:
        """Returns the kept rows of `tails`, padded on the right with zeros."""
        entries = [self._entries[tail] for tail in tails]
        width = max(e.shape[2] for e in entries)
        sides, heads, _, size = entries[0].shape
        joined = entries[0].new_zeros(sides, len(entries), heads, width, size)
        for row, entry in enumerate(entries):
            joined[:, row, :, : entry.shape[2]] = entry
        layers = joined.unbind(0)
        return KeyValues(layers[: sides // 2], layers[sides // 2 :])

    def _drop_one(self) -> None:
        position = self._random.randrange(len(self._order))
        self._order[position], self._order[-1] = self._order[-1], self._order[position]
        entry = self._entries.pop(self._order.pop())
        self.num_bytes -= entry.numel() * entry.element_size()
