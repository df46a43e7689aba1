"""Rewards of forecasts as reward functions of TRL: parse each completion, score groups, never raise on bad text."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from tsllm.rl.rewards import Reward, score_completions
from tsllm.text.codec import NumberCodec
from tsllm.training.text.data import TextWindows
from tsllm.types import ID, TARGET, TIME


def build_reward_rows(df: pd.DataFrame, windows: TextWindows) -> Iterator[dict[str, Any]]:
    """Yields rows `prompt, history, target, unique_id, cutoff`: a window's text and the numbers that rewards need.

    Args:
        df: Validated long frame.
        windows: How to cut and write.
    """
    places = {
        str(series): ({str(time): k for k, time in enumerate(group[TIME].to_numpy())}, group[TARGET].to_numpy())
        for series, group in df.groupby(ID, sort=False)
    }
    for row in windows.rows(df):
        index, values = places[row["unique_id"]]
        cut = index[row["cutoff"]] + 1
        yield {
            "prompt": row["prompt"],
            "history": values[cut - windows.context_length : cut].tolist(),
            "target": values[cut : cut + windows.h].tolist(),
            "unique_id": row["unique_id"],
            "cutoff": row["cutoff"],
        }


class TextReward:
    """A reward of forecasts as TRL calls it: `f(prompts, completions, completion_ids, **columns) -> list[float]`.

    Args:
        reward: The reward; groups are the neighbouring completions of one window.
        codec: Reads numbers, at the scale that the history fixes.
        season: Steps in a season.
        max_tokens: Longest completion that the sampler allows.
        name: Under which TRL logs it.
    """

    def __init__(self, reward: Reward, codec: NumberCodec, season: int, max_tokens: int, name: str) -> None:
        self.reward, self.codec, self.season, self.max_tokens = reward, codec, season, max_tokens
        self.__name__ = name

    def __call__(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        completion_ids: Sequence[Sequence[int]],
        history: Sequence[Sequence[float]],
        target: Sequence[Sequence[float]],
        **columns: Any,
    ) -> list[float]:
        """Scores completions, one number each.

        Raises:
            ValueError: If windows come with different numbers of completions, so that groups cannot be told.
        """
        del columns
        groups = find_groups(prompts, history)
        parsed = [self.parse(text, past, len(y)) for text, past, y in zip(completions, history, target, strict=True)]
        tokens = torch.tensor([[len(completion_ids[k]) for k in group] for group in groups])
        first = [group[0] for group in groups]
        scores = score_completions(
            self.reward,
            [[parsed[k] for k in group] for group in groups],
            torch.tensor([list(target[k]) for k in first], dtype=torch.float64),
            torch.tensor([list(history[k]) for k in first], dtype=torch.float64),
            self.season,
            num_tokens=tokens,
            max_tokens=self.max_tokens,
        )
        return [float(score) for score in scores.flatten()]

    def parse(self, text: str, history: Sequence[float], horizon: int) -> list[float] | None:
        """Returns the numbers of a completion, as many placeholders for a wrong length, or None if it is no list."""
        found = self.codec.decode(text, horizon, self.codec.fit(np.asarray(history, dtype=float)))
        if found.values is not None:
            return found.values.tolist()
        return None if found.num_found == horizon else [0.0] * found.num_found


def find_groups(prompts: Sequence[str], history: Sequence[Sequence[float]]) -> list[list[int]]:
    """Returns the positions of neighbouring completions of one window.

    Raises:
        ValueError: If groups differ in size.
    """
    groups: list[list[int]] = []
    for k, prompt in enumerate(prompts):
        if groups and prompts[groups[-1][0]] == prompt and list(history[groups[-1][0]]) == list(history[k]):
            groups[-1].append(k)
        else:
            groups.append([k])
    sizes = {len(group) for group in groups}
    # The same window may follow itself: the smallest run then says how large a group is.
    size = min(sizes)
    if any(length % size for length in sizes):
        raise ValueError(
            f"windows come with {sorted(sizes)} completions on this process; make per_device_train_batch_size a "
            "multiple of num_generations, so that no group is split"
        )
    return [group[k : k + size] for group in groups for k in range(0, len(group), size)]
