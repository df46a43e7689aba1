"""Which windows make up each training batch, on any number of processes."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers.trainer_pt_utils import get_length_grouped_indices

from tsllm.data.windows import collate_windows
from tsllm.types import Batch

FILLER = -1  # stands for a window that is none


class GlobalBatches(Sampler[list[int]]):
    """This process's share of each global batch of a shuffled epoch.

    The order depends on seed and epoch alone, and a global batch holds the same windows on any number of processes:
    so two processes train as one with twice the batch, and a resumed run goes on in the same order. Every window comes
    exactly once an epoch; where a last batch leaves nothing for a process, its share is the empty list.

    Args:
        length: Windows in the set.
        batch_size: Windows a process and batch.
        seed: Of the order.
        world_size: Processes.
        rank: Which of them this is.
        order: Gives each epoch's windows instead of a permutation, the same on every process (`GroupSampler`).
        lengths: Cost of each window [length]; global batches then hold windows of like cost, in random order else.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        seed: int,
        world_size: int = 1,
        rank: int = 0,
        order: Sampler[int] | None = None,
        lengths: np.ndarray | None = None,
    ) -> None:
        if length < 1:
            raise ValueError("the training set has no window")
        self.length = length if order is None else len(order)  # type: ignore[arg-type]
        self.order = order
        self.lengths = lengths
        self.batch_size = batch_size
        self.seed = seed
        self.world_size = world_size
        self.rank = rank
        self.epoch = 0

    def __len__(self) -> int:
        per_step = self.batch_size * self.world_size
        return -(-self.length // per_step)

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self._draw().split(self.batch_size * self.world_size):
            yield batch[self.rank :: self.world_size].tolist()

    def _draw(self) -> torch.Tensor:
        if self.order is not None:
            return torch.tensor(list(self.order))
        # Mixing by a large odd number keeps (seed, epoch) pairs apart: seed 1 epoch 0 is not seed 0 epoch 1.
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        if self.lengths is not None:
            size = self.batch_size * self.world_size
            return torch.tensor(get_length_grouped_indices(self.lengths.tolist(), size, generator=generator))
        return torch.randperm(self.length, generator=generator)


class OrderedBatches(Sampler[list[int]]):
    """This process's share of each global batch of a set read in order.

    All processes get shares of one size, as gathering needs; where the last ones lack windows, they get `FILLER`.
    What is gathered is in the set's order, with all fillers at the end.

    Args:
        length: Windows in the set.
        batch_size: Windows a process and batch.
        world_size: Processes.
        rank: Which of them this is.
    """

    def __init__(self, length: int, batch_size: int, world_size: int = 1, rank: int = 0) -> None:
        self.length, self.batch_size, self.world_size, self.rank = length, batch_size, world_size, rank

    def __len__(self) -> int:
        return -(-self.length // (self.batch_size * self.world_size))

    def __iter__(self) -> Iterator[list[int]]:
        step = self.batch_size * self.world_size
        for start in range(0, self.length, step):
            count = min(step, self.length - start)
            share = -(-count // self.world_size)
            first = start + self.rank * share
            indices = range(first, first + share)
            yield [i if i < self.length else FILLER for i in indices]


class PaddedWindows(Dataset[Batch]):
    """A window set that answers a filler, or an empty share, with a window without targets, which nothing counts.

    Args:
        windows: The set; it must offer `gather(indices)` as `WindowDataset` does.
    """

    def __init__(self, windows: Any) -> None:
        self.windows = windows

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> Batch:
        return self.windows[index]

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Gathers one batch."""
        wanted = torch.as_tensor(list(indices) or [FILLER])
        batch = self.windows.gather(wanted.clamp_min(0))
        if (wanted == FILLER).any():
            batch["future_values"] = batch["future_values"].clone()
            batch["future_values"][wanted == FILLER] = torch.nan
        return batch


class BatchCollator:
    """Passes on the tensors that a model reads, of a batch that the window set gathered.

    Args:
        keys: Names of the tensors.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        self.keys = frozenset(keys)

    def __call__(self, items: Any) -> dict[str, torch.Tensor]:
        """Collates one batch."""
        batch: dict[str, Any] = dict(collate_windows(items))
        return {key: value for key, value in batch.items() if key in self.keys}


def build_loader(
    windows: PaddedWindows, batches: Sampler[list[int]], collator: BatchCollator, **options: Any
) -> DataLoader:
    """Builds the loader of one process; it needs no further sharding."""
    return DataLoader(windows, batch_sampler=batches, collate_fn=collator, **options)
