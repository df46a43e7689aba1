"""Scores of a language model that says effects: event by event, their means, and beside its start and the rules."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd

from tsllm.context.effects import Effect
from tsllm.context.events import Event
from tsllm.context.gain import EffectsGain
from tsllm.context.rcrps import compute_difference, compute_p_value
from tsllm.context.readers import read_effects
from tsllm.context.spoken import align, read_said, write_said
from tsllm.forecasting.spoken import SpokenReader
from tsllm.training.text.effects import EffectsReward

DAY, REWARD, RULES = "day", "reward", "rules"  # columns of the scores of events


@dataclass(frozen=True)
class ReaderScores:
    """How a reader did on events.

    Attributes:
        events: How many.
        readable: Share of answers that could be read.
        exact: Share that say what was written.
        kinds: Share of the told events (not quiet) whose answer has the kinds of effects that were written.
        numbers: The same with their numbers.
        spans: The same with their spans, whatever the numbers.
        silent: Share of answers that say nothing; 1 = training has learned to keep silent, and `quiet` is blind to it.
        reward: Mean reward; what cannot be read has the floor.
        used: The same where what cannot be read changes nothing, as in a forecast.
        written: Mean reward of the effects that the texts were written from.
        rules: Mean reward of what the regular expressions read.
        quiet: Mean reward on events that say nothing; 0 is best.
        told: Mean reward on the others.
    """

    events: int
    readable: float
    exact: float
    kinds: float
    numbers: float
    spans: float
    silent: float
    reward: float
    used: float
    written: float
    rules: float
    quiet: float
    told: float


def score_reader(reader: SpokenReader, events: list[Event], gain: EffectsGain) -> tuple[dict[str, Any], pd.DataFrame]:
    """Scores answers to the texts of events, in units of the seasonal scale.

    Returns:
        The fields of `ReaderScores`, means over the events; and a row for each event: `day` (its first moment),
        `text`, `meant` and `said` (lines joined by `; `), and the rewards `reward`, `written` and `rules`.
    """
    said = reader.say([reader.ask(e.window, e.text) for e in events])
    judge = EffectsReward(gain, events)
    meant = [write_said(e.effects, e.window, e.text) for e in events]
    by_rules = [write_said(read_effects(e.text, e.window), e.window) for e in events]
    rewards, written, rules = (
        np.array([judge.score(k, answer) for k, answer in enumerate(answers)]) for answers in (said, meant, by_rules)
    )
    read = [read_said(answer, e.window, text=e.text) for answer, e in zip(said, events, strict=True)]
    readable = np.array([effects is not None for effects in read])
    pairs = [(align(found or (), e.window), align(e.effects, e.window)) for found, e in zip(read, events, strict=True)]
    exact = [set(found) == set(effects) for found, effects in pairs]
    used = np.where(readable, rewards, 0.0)
    quiet = np.array([not e.effects for e in events])
    scores = ReaderScores(
        len(events), float(readable.mean()), float(np.mean(readable & np.array(exact))),
        share_right(pairs, lambda e: (e.kind,)), share_right(pairs, lambda e: (e.kind, e.number)),
        share_right(pairs, lambda e: (e.kind, e.start, e.end)),
        float(np.mean([found == [] for found in read])), float(rewards.mean()),
        float(used.mean()), float(written.mean()), float(rules.mean()),
        float(used[quiet].mean()) if quiet.any() else 0.0, float(used[~quiet].mean()) if (~quiet).any() else 0.0,
    )  # fmt: skip
    rows = {
        DAY: [str(e.window.future_times[0]) for e in events], "text": [e.text for e in events],
        "meant": ["; ".join(lines.splitlines()) for lines in meant],
        "said": ["; ".join(lines.splitlines()) for lines in said],
        REWARD: rewards, "written": written, RULES: rules,
    }  # fmt: skip
    return asdict(scores), pd.DataFrame(rows)


def share_right(pairs: list[tuple[list[Effect], list[Effect]]], part: Callable[[Effect], tuple[Any, ...]]) -> float:
    """Returns in which share of the pairs (said, meant) that mean something a part of the effects is the same."""
    right = [set(map(part, said)) == set(map(part, meant)) for said, meant in pairs if meant]
    return float(np.mean(right)) if right else 1.0


def compare_rewards(ours: pd.DataFrame, others: pd.DataFrame, column: str = REWARD) -> dict[str, Any]:
    """Compares two readers on the same events, those of a day together, for they share a market and a season.

    Args:
        ours: Rows of `score_reader`.
        others: Rows about the same events.
        column: Whose rewards of the others count.

    Returns:
        Mean reward of ours less that of the others (`difference`), its 95 % interval from resampled days (`low`,
        `high`), `p` of the two-sided test that flips the signs of days, and how many `events` and `days` it is over.

    Raises:
        ValueError: If the events are others.
    """
    for part in (DAY, "text"):
        if ours[part].tolist() != others[part].tolist():
            raise ValueError("two readers can be compared on the same events alone, in the same order")
    keys = [f"{day}/{k}" for k, day in enumerate(ours[DAY])]
    weights = dict.fromkeys(keys, Fraction(1, len(keys)))
    a, b = (dict(zip(keys, values, strict=True)) for values in (ours[REWARD], others[column]))
    difference, low, high = compute_difference(a, b, weights, keys)
    return {
        "difference": difference, "low": low, "high": high, "p": compute_p_value(a, b, weights, keys),
        "events": len(keys), "days": ours[DAY].nunique(),
    }  # fmt: skip


def compare(
    results: dict[str, dict[str, Any]], rows: dict[str, dict[str, pd.DataFrame]]
) -> dict[str, dict[str, Any]] | None:
    """Returns what training changed on each set of events: the scores at the end less those at the start.

    Args:
        results: "start" and "test" -> name of the events -> scores.
        rows: The same with the rows of the events, of which `paired` tests the rewards.
    """
    if len(results) < 2:
        return None
    keys = ("readable", "exact", "silent", "reward", "used", "quiet", "told")
    return {
        name: {key: end[key] - results["start"][name][key] for key in keys}
        | {"paired": compare_rewards(rows["test"][name], rows["start"][name])}
        for name, end in results["test"].items()
    }


def compare_with_rules(rows: dict[str, pd.DataFrame]) -> dict[str, dict[str, Any]]:
    """Returns for each set of events how the rewards lie beside those of the regular expressions."""
    return {name: compare_rewards(found, found, RULES) for name, found in rows.items()}
