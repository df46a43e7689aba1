"""What the prompt says of each training window: tokenised once, kept in a memory-mapped Arrow file.

A step then computes no statistics and reads nothing back from the device, and the lengths are known beforehand.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tsllm.models.base import ForecastModel
from tsllm.models.inputs import Inputs, fill_missing
from tsllm.models.timellm import TimeLLM
from tsllm.models.timellm.prompt import Prompt, build_prompt
from tsllm.training.args import ArgumentsError
from tsllm.training.batches import PaddedWindows
from tsllm.types import Batch

FILE = "prompts.arrow"


class PromptStore:
    """Reads the file of `write_prompts`; its memory does not grow with the windows.

    Args:
        path: The file.
        prefix: Token ids that all prompts share.

    Attributes:
        lengths: Tokens of the longest tail of each window [windows].
    """

    def __init__(self, path: Path, prefix: tuple[int, ...]) -> None:
        from datasets import Dataset

        self._rows = Dataset.from_file(str(path))
        self.prefix = prefix
        self.lengths = np.asarray(self._rows.with_format("numpy")["length"][:])

    def __len__(self) -> int:
        return len(self._rows)

    def gather(self, indices: Sequence[int]) -> Prompt:
        """Returns the prompts of windows, one a channel, in the order in which a model folds a batch."""
        found = self._rows[list(indices)]["tails"]
        return build_prompt(self.prefix, [tuple(tail) for channels in found for tail in channels])


def write_prompts(model: ForecastModel, windows: Any, path: Path, batch_size: int = 512) -> None:
    """Tokenises the prompts of all windows, a row a window, in bounded memory.

    Args:
        model: Whose prompts.
        windows: A `WindowDataset`.
        path: The Arrow file; what is there is replaced.
        batch_size: Windows at a time.

    Raises:
        ArgumentsError: If the model's prompt does not speak of the window.
    """
    from datasets import Features, List, Value
    from datasets.arrow_writer import ArrowWriter

    writer = check_prompted(model)
    features = Features({"tails": List(List(Value("int32"))), "length": Value("int32")})
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    with ArrowWriter(path=str(unfinished), features=features) as file:
        for indices in torch.arange(len(windows)).split(batch_size):
            batch = windows.gather(indices)
            values, mask = fill_missing(batch["past_values"], batch.get("past_observed_mask"))
            prompt = writer.write_prompt(Inputs(values, mask, None, None, None, None))
            assert prompt is not None
            assert prompt.rows is not None
            tails = [list(prompt.tails[k]) for k in prompt.rows]
            channels = len(tails) // len(indices)
            for start in range(0, len(tails), channels):
                own = tails[start : start + channels]
                file.write({"tails": own, "length": max(map(len, own))})
        file.finalize()
    unfinished.replace(path)


def open_store(model: ForecastModel, windows: Any, args: Any) -> PromptStore:
    """Writes the store in the first process and opens it in all.

    Args:
        model: Whose prompts.
        windows: The training windows.
        args: Training arguments; the file lies in `output_dir`.

    Raises:
        ArgumentsError: If the model's prompt does not speak of the window.
    """
    prefix = check_prompted(model).prompt_prefix()
    path = Path(args.output_dir or ".") / FILE
    with args.main_process_first(desc="tokenising prompts"):
        if args.process_index == 0:
            write_prompts(model, windows, path)
    return PromptStore(path, prefix)


def check_prompted(model: ForecastModel) -> TimeLLM:
    """Returns the model if its prompt speaks of each window.

    Raises:
        ArgumentsError: If it does not.
    """
    if not isinstance(model, TimeLLM) or not model.config.prompt or model.config.prompt_statistics != "window":
        raise ArgumentsError(
            "prompt_store and train_sampling_strategy: group_by_length are for models whose prompt speaks of each "
            "window (timellm with prompt: true and prompt_statistics: window); leave them out"
        )
    return model


class PromptedWindows(PaddedWindows):
    """A window set whose batches bring their prompts along.

    Args:
        windows: The set.
        store: The prompts of its windows.
    """

    def __init__(self, windows: Any, store: PromptStore) -> None:
        super().__init__(windows)
        self.store = store

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Gathers one batch; a filler has the first window's prompt."""
        batch: Any = super().__getitems__(indices)
        batch["prompt"] = self.store.gather([max(index, 0) for index in indices] or [0])
        return batch  # type: ignore[no-any-return]
