"""What a text mentions, as numbers and moments that an effect may take from it."""

import re
from collections.abc import Iterator

import pandas as pd

from tsllm.context.applying import Window
from tsllm.context.effects import MONTHS, PERCENT, WEEKDAYS, rise, shorten, write_duration, write_number
from tsllm.context.lexer import Mention, find_mentions
from tsllm.context.moments import Moment, is_clock, resolve_moment
from tsllm.context.reading import ALLOWED, VALUES, make_effect


def find_numbers(text: str, window: Window | None = None) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Returns for each kind of effect the numbers that a text offers, as they are written; nothing comes in as 0.

    A percentage is offered as such for a rise or a fall, and as a factor; with a window, durations as steps of a
    delay, and numbers as what comes in an hour or a day.

    Example:
        >>> found = dict(find_numbers("Sales fall by 20 %"))
        >>> found["lower"], found["multiply"], found["set"]
        (('20',), ('0.2',), ('0', '20'))
    """
    found: dict[str, list[str]] = {"set": ["0"]}
    for mention in find_mentions(text):
        if mention.kind == "percent":
            for kind in PERCENT:
                found.setdefault(kind, []).append(write_number(shorten(mention.value)))
        for role in ALLOWED[mention.kind]:
            if role in VALUES and not (mention.kind == "percent" and role in PERCENT):
                effect = make_effect(mention, role)
                found.setdefault(effect.kind, []).append(write_number(shorten(float(effect.number or 0.0))))
    for kind, number in _find_of_steps(text, window) if window is not None else ():
        found.setdefault(kind, []).append(write_number(number))
    return tuple((kind, tuple(dict.fromkeys(numbers))) for kind, numbers in sorted(found.items()))


def _find_of_steps(text: str, window: Window) -> Iterator[tuple[str, float]]:
    """Yields delays and slopes, which are counted in steps of a window."""
    step = (window.times[-1] - window.times[-2]).total_seconds()
    for mention in find_mentions(text):
        if mention.kind == "duration" and 0 < mention.value < _LONGEST and mention.value % step == 0:
            yield "delay", mention.value / step
        if mention.kind == "number":
            for unit in (3600, 86400):
                yield "slope", shorten(mention.value * (step / unit))
                yield "slope", shorten(-mention.value * (step / unit))


def find_percent(factor: float, text: str) -> tuple[str, float] | None:
    """Returns the rise or fall by a percentage of a text that a factor stands for, as `raise` or `lower` and a number.

    >>> find_percent(0.45, "It falls by 55 %."), find_percent(0.45, "It falls to 45 %.")
    (('lower', 55.0), None)
    """
    for mention in find_mentions(text):
        for kind in PERCENT if mention.kind == "percent" else ():
            if rise(kind, shorten(mention.value)) == shorten(factor):
                return kind, shorten(mention.value)
    return None


def find_lengths(text: str) -> tuple[str, ...]:
    """Returns the durations of a text, as they are written.

    >>> find_lengths("Two days, or ninety minutes")
    ('2 d', '90 min')
    """
    found = [m for m in find_mentions(text) if m.kind == "duration" and 1 <= m.value < _LONGEST]
    return tuple(dict.fromkeys(write_duration(pd.Timedelta(round(m.value), "s")) for m in found))


def find_likes(text: str) -> tuple[str, ...]:
    """Returns the weekdays and months of a text; Sunday always, for holidays are like one.

    >>> find_likes("As in June, on a Monday")
    ('Sunday', 'Monday', 'June')
    """
    named = [name for name in (*WEEKDAYS, *MONTHS) if re.search(rf"\b{name}\b", text)]
    return tuple(dict.fromkeys(["Sunday", *named]))


def find_times(text: str, window: Window) -> set[pd.Timestamp]:
    """Returns the steps of a window at which a span may begin or end, by the moments and durations of a text."""
    mentions, times = find_mentions(text), window.times
    said = [m for m in mentions if m.kind == "moment"]
    told = [moment for m in said for moment in _resolve(m, window)]
    if _AGAIN.search(text):
        rhythms = {_RHYTHM[word] for word in _RHYTHM if re.search(rf"\b{word} day\b", text)} | {7}
        told += [m.shift(days * k * _DAY) for m in told for days in rhythms
                 for k in range(-1, int((times[-1] - times[0]) / (days * _DAY)) + 1)]  # fmt: skip
    behind = [resolve_moment(m.meaning, window.future_times, after=first.start) for m in said for first in told]
    told += [moment for moment in behind if moment is not None]  # "from Thursday until Tuesday"
    lengths = {pd.Timedelta(seconds=m.value) for m in mentions if m.kind == "duration" and 0 < m.value < _LONGEST}
    moments = {t for moment in told for t in (moment.start, moment.end)}
    shifted = {t - length for t in moments for length in lengths}  # `for` says what lies behind
    if _LATER.search(text):
        shifted |= {t + length for t in moments for length in lengths}
    if _AGAIN.search(text):
        shifted |= {t + length for t in moments for length in lengths}
        most = int((times[-1] - times[0]) / min(lengths, default=pd.Timedelta.max)) + 1
        shifted |= {t + k * length for t in moments | shifted for length in lengths for k in range(1, min(most, 1000))}
    step = times[-1] - times[-2]
    instants = {moment.start + step for moment in told if moment.start == moment.end}
    places = times.searchsorted(pd.DatetimeIndex(sorted(moments | shifted | instants))).tolist()
    return {times[k] for k in places if k < len(times)}


_AGAIN = re.compile(r"\b(?:every|each)\b", re.IGNORECASE)
_DAY = pd.Timedelta(days=1)
_RHYTHM = {"other": 2, "second": 2, "third": 3}  # days from one time to the next
_LATER = re.compile(r"\b(?:later|after|behind|delay|lag|wait|takes|until|count)\b", re.IGNORECASE)
_LONGEST = 10 * 365 * 86400  # seconds; a longer time reaches beyond any window


def _resolve(mention: Mention, window: Window) -> list[Moment]:
    """Returns what a moment may mean: a time of day on each day of the window, a day ahead or behind, a date."""
    times = window.times
    if is_clock(mention.meaning):
        days = pd.date_range(times[0].normalize(), times[-1].normalize())
        found = [resolve_moment(mention.meaning, window.future_times, on=day) for day in days]
    else:
        found = [resolve_moment(mention.meaning, window.future_times, past=past) for past in (False, True)]
    return [moment for moment in found if moment is not None]
