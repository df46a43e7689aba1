"""Rewards of forecasts as reward functions of TRL: parse each completion, score groups, never raise on bad text."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from tsllm.rl.rewards import Known, Reward, score_completions
from tsllm.text.codec import NumberCodec
from tsllm.text.reasoning import Reasoned, ReasoningCodec, split_reasoning
from tsllm.training.text.data import TextWindows
from tsllm.types import ID, TARGET, TIME


def build_reward_rows(df: pd.DataFrame, windows: TextWindows) -> Iterator[dict[str, Any]]:
    """Yields a window's text and what rewards need: `prompt, history, target, unique_id, cutoff, ds, covariates`.

    `ds` are the L + H times of history and horizon, `covariates` name -> L + H values of columns known over both.

    Args:
        df: Validated long frame.
        windows: How to cut and write.
    """
    groups = {str(series): group for series, group in df.groupby(ID, sort=False)}
    places = {series: {str(time): k for k, time in enumerate(g[TIME].to_numpy())} for series, g in groups.items()}
    for row in windows.rows(df):
        group = groups[row["unique_id"]]
        cut = places[row["unique_id"]][row["cutoff"]] + 1
        span = slice(cut - windows.context_length, cut + windows.h)
        values = group[TARGET].to_numpy()
        times = group[TIME].to_numpy()[span]
        yield {
            "prompt": row["prompt"],
            "history": values[cut - windows.context_length : cut].tolist(),
            "target": values[cut : cut + windows.h].tolist(),
            "unique_id": row["unique_id"],
            "cutoff": row["cutoff"],
            "ds": times.tolist() if times.dtype.kind in "iu" else [str(time) for time in times],
            "covariates": {name: group[name].to_numpy()[span].tolist() for name in windows.covariates},
        }


class TextReward:
    """A reward of forecasts as TRL calls it: `f(prompts, completions, completion_ids, **columns) -> list[float]`.

    Args:
        reward: The reward; groups are the neighbouring completions of one window.
        codec: Reads numbers, at the scale that the history fixes.
        season: Steps in a season.
        max_tokens: Longest completion that the sampler allows.
        name: Under which TRL logs it.
        group_size: G, completions of a window, in a row.
    """

    def __init__(
        self, reward: Reward, codec: NumberCodec, season: int, max_tokens: int, name: str, group_size: int
    ) -> None:
        self.reward, self.codec, self.season, self.max_tokens = reward, codec, season, max_tokens
        self.group_size = group_size
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
            ValueError: If the completions are no whole groups.
        """
        groups = find_groups(len(prompts), self.group_size)
        if isinstance(self.codec, ReasoningCodec):
            log_thoughts([split_reasoning(text) for text in completions], columns)
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
            known=self.find_known({"history": history, **columns}, first) if self.reward.asks else None,
        )
        return [float(score) for score in scores.flatten()]

    def find_known(self, columns: Mapping[str, Sequence[Any]], rows: Sequence[int]) -> Known:
        """Returns the facts about some rows of the columns that `build_reward_rows` writes."""
        facts: dict[str, Any] = {}

        def pick(name: str) -> list[Any]:
            return [columns[name][k] for k in rows]

        length = len(columns["history"][0])
        if "unique_id" in columns:
            facts["unique_id"] = np.array(pick("unique_id"), dtype=object)
        if "ds" in columns:
            times = np.array(pick("ds"))
            times = times if times.dtype.kind in "iu" else times.astype("datetime64[ns]")
            facts |= {"history_ds": times[:, :length], "ds": times[:, length:], "cutoff": times[:, length - 1]}
        if columns.get("covariates") and columns["covariates"][0]:
            names = columns["covariates"][0]
            facts["covariates"] = {
                name: torch.tensor([row[name] for row in pick("covariates")], dtype=torch.float64) for name in names
            }
        if "context" in columns:
            facts["context"] = np.array(pick("context"), dtype=object)
        scales = [self.codec.fit(np.asarray(past, dtype=float)) for past in pick("history")]
        facts["loc"] = torch.tensor([scale.offset for scale in scales], dtype=torch.float64)
        facts["scale"] = torch.tensor([scale.resolution for scale in scales], dtype=torch.float64)
        return Known(**facts)

    def parse(self, text: str, history: Sequence[float], horizon: int) -> list[float] | None:
        """Returns the numbers of a completion, as many placeholders for a wrong length, or None if it is no list."""
        found = self.codec.decode(text, horizon, self.codec.fit(np.asarray(history, dtype=float)))
        if found.values is not None:
            return found.values.tolist()
        return None if found.num_found == horizon else [0.0] * found.num_found


class ThoughtBudget:
    """Penalty on thoughts beyond their budget, as TRL calls rewards: 0 within it, falling to -1 at twice its words.

    Args:
        words: The budget.
    """

    def __init__(self, words: int) -> None:
        self.words = words
        self.__name__ = "thought_budget"

    def __call__(self, completions: Sequence[str], **columns: Any) -> list[float]:
        """Scores completions; one whose thought has no end counts all its words."""
        del columns
        parts = [split_reasoning(text) for text in completions]
        words = [
            len(text.split()) if part.thought is None else part.num_words
            for text, part in zip(completions, parts, strict=True)
        ]
        return [-min(max(count - self.words, 0) / self.words, 1.0) for count in words]


def log_thoughts(parts: Sequence[Reasoned], columns: Mapping[str, Any]) -> None:
    """Logs both parts of completions where TRL offers to: texts, words of the thought, shares that are well formed."""
    if log_extra := columns.get("log_extra"):
        log_extra("thought", [part.thought or "" for part in parts])
        log_extra("answer", [part.answer or "" for part in parts])
    if log_metric := columns.get("log_metric"):
        log_metric("thought/words", float(np.mean([part.num_words for part in parts])))
        log_metric("thought/ended", float(np.mean([part.thought is not None for part in parts])))
        log_metric("thought/answered", float(np.mean([part.answer is not None for part in parts])))


def find_groups(count: int, group_size: int) -> list[range]:
    """Returns the positions of the completions of each window, as the trainer repeats windows: G in a row.

    Neither the text nor the numbers of a window tell where it ends: other windows may have the same.

    Raises:
        ValueError: If the completions are no whole groups.
    """
    if group_size < 1 or count % group_size:
        raise ValueError(
            f"{count} completions on this process are no whole groups of {group_size}; make "
            "per_device_train_batch_size a multiple of num_generations, so that no group is split"
        )
    return [range(start, start + group_size) for start in range(0, count, group_size)]
