"""Spans on steps of a month, a quarter or a year: a step counts where at least half of it lies in the span.

A time of such steps is a label, the first day of its step ("MS", "QS", "YS") or its last ("ME", "QE", "YE"). Shorter
steps count where their time lies in the span (`Effect.covers`), and are left alone.
"""

from dataclasses import replace

import numpy as np
import pandas as pd

from tsllm.context.effects import Effect, write_time

_ONE = pd.Timedelta(days=1)
_LONG = 27 * _ONE  # shorter than any month, longer than four weeks but for a day
_KINDS = ("multiply", "add", "set", "cap", "floor", "delay", "slope", "like", "ignore")


def are_long(times: pd.DatetimeIndex) -> bool:
    """Tells whether steps are months or longer; steps of four weeks are not."""
    if len(times) < 2:
        return False
    steps = times[1:] - times[:-1]
    return bool(steps.min() > _LONG and (steps.min() < steps.max() or steps.min() > 28 * _ONE))


def find_start(times: pd.DatetimeIndex, past_times: pd.DatetimeIndex) -> pd.Timestamp:
    """Returns when a horizon begins: at its first time, which may be the last day of a long step.

    Example:
        >>> months = pd.date_range("2024-05-31", periods=4, freq="ME")
        >>> find_start(months[2:], months[:2])
        Timestamp('2024-07-01 00:00:00')
    """
    every = pd.DatetimeIndex(past_times.append(times))
    return _find_edges(every)[len(past_times)] if are_long(every) else times[0]


def settle(effect: Effect, times: pd.DatetimeIndex, past: int) -> tuple[list[Effect], str]:
    """Returns an effect on the whole steps that it covers at least half of, and what of it changes nothing.

    Args:
        effect: As a text says it.
        times: Of history and horizon.
        past: How many of them are the history's.

    Returns:
        An effect for each run of steps, from the first of its times to the one behind its last; and why nothing, or a
        part of it, is left: empty if all of it is.

    Example:
        >>> months = pd.date_range("2024-05-01", periods=4, freq="MS")
        >>> june = Effect("set", 0.0, "", pd.Timestamp("2024-06-10"), pd.Timestamp("2024-07-11"))
        >>> effects, why = settle(june, months, 1)
        >>> str(effects[0]), why
        ('set 0 from 2024-06-01 to 2024-07-01', '10 of the 31 days of the step 2024-07-01 are less than half of it')
    """
    if effect.kind not in _KINDS or (effect.start is None and effect.end is None) or not are_long(times):
        return [effect], ""
    edges = _find_edges(times)
    wanted = range(past) if effect.kind == "ignore" else range(past, len(times))
    shares = [_find_share(effect, edges[k], edges[k + 1]) for k in wanted]
    labels = [times[k] for k in wanted] + [times[wanted[-1] + 1] if wanted[-1] + 1 < len(times) else _follow(times)]
    found = [k for k, share in enumerate(shares) if share >= 0.5]
    runs = [run for run in np.split(found, np.flatnonzero(np.diff(found) > 1) + 1) if len(run)] if found else []
    placed = [replace(effect, start=labels[int(run[0])], end=labels[int(run[-1]) + 1], every=None) for run in runs]
    placed = [_open(effect, part, labels[0], labels[-1]) for part in placed]
    parts = [k for k, share in enumerate(shares) if 0 < share < 0.5]
    if not parts:
        return placed, "" if placed else "no step to forecast lies in that time"
    k = parts[int(np.argmax([shares[k] for k in parts]))]
    days = (edges[wanted[k] + 1] - edges[wanted[k]]) / _ONE
    said = (
        f"{shares[k] * days:.3g} of the {days:.0f} days of the step {write_time(labels[k])} are less than half of it"
    )
    return placed, said if placed else f"{said}; say what happens to the whole step"


def _find_edges(times: pd.DatetimeIndex) -> pd.DatetimeIndex:
    """Returns where each step begins, and where the last one ends [L + H + 1]."""
    days = times.normalize()
    if (days.day >= 26).all():  # labels of the last day, or the last business day
        ends = pd.DatetimeIndex([day + pd.offsets.MonthEnd(0) for day in days]) + _ONE
        return ends.insert(0, ends[0] - pd.DateOffset(months=_count_months(times)))
    if (days.day <= 3).all():
        days = pd.DatetimeIndex([day.replace(day=1) for day in days])
    return days.insert(len(days), days[-1] + pd.DateOffset(months=_count_months(times)))


def _count_months(times: pd.DatetimeIndex) -> int:
    return round(float(np.median(np.diff(times.to_numpy()) / np.timedelta64(1, "D"))) / 30.44)


def _follow(times: pd.DatetimeIndex) -> pd.Timestamp:
    """Returns the label behind the last one."""
    behind = times[-1] + pd.DateOffset(months=_count_months(times))
    ends = bool((times.day >= 26).all() and times.is_month_end.all())
    return behind + pd.offsets.MonthEnd(0) if ends else behind


def _find_share(effect: Effect, start: pd.Timestamp, end: pd.Timestamp) -> float:
    """Returns the share of a step's hours that an effect covers."""
    return float(effect.covers(pd.date_range(start, end, freq="h", inclusive="left")).mean())


def _open(effect: Effect, part: Effect, first: pd.Timestamp, last: pd.Timestamp) -> Effect:
    """Leaves open what an effect leaves open, where it holds to that end of the horizon."""
    start = None if effect.start is None and part.start == first else part.start
    end = None if effect.end is None and part.end == last else part.end
    return replace(part, start=start, end=end)
