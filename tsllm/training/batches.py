"""Which windows make up each training batch, on any number of processes."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from tsllm.data.windows import collate_windows
from tsllm.types import Batch


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
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        seed: int,
        world_size: int = 1,
        rank: int = 0,
        order: Sampler[int] | None = None,
    ) -> None:
        if length < 1:
            raise ValueError("the training set has no window")
        self.length = length if order is None else len(order)  # type: ignore[arg-type]
        self.order = order
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
        return torch.randperm(self.length, generator=generator)


class TrainingWindows(Dataset[Batch]):
    """A window set that answers an empty share with one window without targets, which no loss counts.

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
        if len(indices):
            return self.windows.gather(torch.as_tensor(indices))
        filler = self.windows.gather(torch.tensor([0]))
        return Batch(**(filler | {"future_values": torch.full_like(filler["future_values"], torch.nan)}))


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


def build_train_loader(windows: Any, batches: GlobalBatches, collator: BatchCollator, **options: Any) -> DataLoader:
    """Builds the loader of one process; it needs no further sharding."""
    return DataLoader(TrainingWindows(windows), batch_sampler=batches, collate_fn=collator, **options)
