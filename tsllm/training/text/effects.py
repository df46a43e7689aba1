"""Training a language model to say what a text means for a forecast: its data, and its reward as TRL calls it."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from datasets import Dataset

from tsllm.context.applying import Window
from tsllm.context.events import KINDS, Event, write_events
from tsllm.context.gain import EffectsGain
from tsllm.context.spoken import read_said, write_answer, write_request, write_said
from tsllm.training.args import ArgumentsError
from tsllm.types import ID, TARGET, TIME

GAIN = "effects_gain"


def names_gain(reward: Any) -> bool:
    """Tells whether a setting `reward` asks for the gain of spoken effects."""
    return reward == GAIN or (isinstance(reward, Mapping) and reward.get("name") == GAIN)


def build_gain(reward: Any) -> EffectsGain:
    """Builds `effects_gain`, or `{name: effects_gain, bound: ..., cost: ..., most: ..., samples: ..., silence: ...}`.

    Raises:
        ArgumentsError: For an option that there is not, or an impossible value.
    """
    options = {} if isinstance(reward, str) else {k: v for k, v in reward.items() if k != "name"}
    known = ("bound", "cost", "most", "samples", "silence")
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ArgumentsError(f"reward {GAIN} has no option {unknown[0]!r}; it has {', '.join(known)}")
    try:
        return EffectsGain(**options)
    except ValueError as error:
        raise ArgumentsError(str(error)) from error


def collect_events(
    df: pd.DataFrame, context: int, h: int, season: int, *, stride: int, most: int, seed: int,
    held_out: bool = False, last: int = 0, languages: Sequence[str] = ("en",),
    kinds: Sequence[str] = KINDS,
) -> list[Event]:  # fmt: skip
    """Writes events about the windows of a frame.

    Args:
        df: Validated long frame of series with dates and a fixed step.
        context: L, steps of history.
        h: Steps ahead.
        season: Steps in a season.
        stride: Steps between windows.
        most: At most so many events, drawn at random; 0 = all.
        seed: Of texts and draws.
        held_out: Whether wordings come from the part that no training sees.
        languages: Of the texts, one drawn for each window.
        kinds: Of events, as in `tsllm.context.events.write_event`.
        last: The last so many windows of each series alone, `h` apart; 0 = all, `stride` apart.

    Raises:
        ArgumentsError: If the data have no dates or another step, or there is no window.
    """
    if not pd.api.types.is_datetime64_any_dtype(df[TIME]):
        raise ArgumentsError("writes: effects needs dates in the data, which count their steps; give dates")
    events: list[Event] = []
    for number, (_, group) in enumerate(df.groupby(ID, sort=False)):
        y, times = group[TARGET].to_numpy(float), pd.DatetimeIndex(group[TIME])
        ends = list(range(context, len(y) - h + 1, stride))
        if last:
            ends = [end for end in range(len(y) - last * h, len(y) - h + 1, h) if end >= context]
        try:
            here = (y, times, ends, context, h, season, seed + 1000 * number, held_out)
            events += write_events(*here, languages=languages, kinds=kinds)
        except ValueError as error:
            raise ArgumentsError(f"writes: effects: {error}") from error
    if not events:
        raise ArgumentsError(
            f"no series has a window of {context} + {h} steps without gaps in which an event of the kinds "
            f"{', '.join(kinds)} has a place; change context_length, or name other kinds"
        )
    if most and len(events) > most:
        chosen = np.random.default_rng(seed).choice(len(events), most, replace=False)
        events = [events[int(k)] for k in np.sort(chosen)]
    return events


def build_effects_dataset(events: Sequence[Event], ask: Callable[[Window, str], str] = write_request) -> Dataset:
    """Returns rows `prompt, completion, event` (its place).

    Args:
        events: What is told, and what it means.
        ask: Writes the request about a text.
    """
    rows = [
        {"prompt": ask(event.window, event.text), "completion": write_event_answer(event), "event": k}
        for k, event in enumerate(events)
    ]
    return Dataset.from_list(rows)


def write_event_answer(event: Event) -> str:
    """Returns the completion that an event's text asks for."""
    return write_answer(write_said(event.effects, event.window, event.text))


class EffectsReward:
    """`EffectsGain` as TRL calls rewards: `f(prompts, completions, event, **columns) -> list[float]`.

    Args:
        gain: The reward.
        events: What the column `event` points at; the paths of the base are drawn once for each.
        ends: Tokens that end an answer. One without such an end was cut off, and has the least reward although what is
            left of it may be read; empty = every answer is whole.
    """

    def __init__(self, gain: EffectsGain, events: Sequence[Event], ends: Collection[int] = ()) -> None:
        self.gain, self.events, self.ends = gain, events, frozenset(ends)
        self._drawn: dict[int, np.ndarray] = {}
        self.__name__ = "task"

    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], event: Sequence[int], **columns: Any
    ) -> list[float]:
        """Scores completions, one number each, silence where something is told as well; logs which could be read."""
        ids = columns.get("completion_ids") if self.ends else None
        whole = [True] * len(completions) if ids is None else [bool(row) and row[-1] in self.ends for row in ids]
        places = [int(k) for k in event]
        if log_metric := columns.get("log_metric"):
            readable = [
                ended and read_said(said, self.events[k].window, text=self.events[k].text) is not None
                for k, said, ended in zip(places, completions, whole, strict=True)
            ]
            log_metric("effects/readable", float(np.mean(readable)))
        return [
            self.score(k, said, told=bool(self.events[k].effects)) if ended else self.gain.low
            for k, said, ended in zip(places, completions, whole, strict=True)
        ]

    def score(self, place: int, said: str, told: bool = False) -> float:
        """Scores what was said of an event; where something is `told`, silence has its cost."""
        event = self.events[place]
        if place not in self._drawn:
            self._drawn[place] = self.gain.draw(event.window)
        return self.gain(event.window, event.truth, said, self._drawn[place], told, event.text)
