"""From roles of mentions to effects: the part of reading that every reader shares.

A reader says of each number, moment and duration in a text what part it plays, and of each sentence what it states
without a number. What follows is grammar: which span belongs to which number, what lies in the past, what the words
stand for on the clock of the series.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pandas as pd

from tsllm.context.effects import Effect
from tsllm.context.lexer import Mention, Moment, find_mentions, resolve_moment, split_sentences

NONE = "none"
# What a number, percentage or factor may be.
VALUES = ("multiply", "raise", "lower", "add", "subtract", "set", "cap", "floor")
# What a moment may be: `day` is a span of its own, as long as it is said (a day, a month, one step).
MOMENTS = ("start", "end", "day")
DURATIONS = ("length", "every", "delay")
ROLES = (NONE, *VALUES, *MOMENTS, *DURATIONS)
ALLOWED = {
    "number": (NONE, *VALUES), "percent": (NONE, "multiply", "raise", "lower", "set", "cap", "floor"),
    "factor": (NONE, "multiply"), "moment": (NONE, *MOMENTS), "duration": (NONE, *DURATIONS),
}  # fmt: skip
# What a sentence may state: nothing comes in; a stretch of the history misleads; a day off.
STATEMENTS = (NONE, "zero", "over", "holiday")


@dataclass(frozen=True)
class Reading:
    """A text with the roles that a reader gave.

    Attributes:
        text: The text.
        mentions: What could be copied from it.
        roles: One of `ROLES` for each mention.
        sentences: Places of its sentences.
        statements: One of `STATEMENTS` for each sentence.
    """

    text: str
    mentions: list[Mention]
    roles: list[str]
    sentences: list[tuple[int, int]]
    statements: list[str]

    @classmethod
    def open(cls, text: str) -> "Reading":
        """Returns the reading that finds nothing in a text."""
        mentions, sentences = find_mentions(text), split_sentences(text)
        return cls(text, mentions, [NONE] * len(mentions), sentences, [NONE] * len(sentences))


@dataclass
class _Span:
    """The moments and durations of one sentence."""

    start: str = ""
    end: str = ""
    length: float = 0.0
    every: float = 0.0
    delay: float = 0.0
    days: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.start or self.end or self.days)


def assemble(reading: Reading, times: pd.DatetimeIndex, past_times: pd.DatetimeIndex) -> list[Effect]:
    """Builds effects from roles.

    A value or statement takes the span of its sentence; without one, that of the nearest sentence before, then behind,
    that has a span and no effect of its own. Only bounds may do without a span.

    Args:
        reading: Text and roles.
        times: The times of the horizon.
        past_times: The times of the history.
    """
    spans = [_collect(reading, place) for place in reading.sentences]
    values = [[(m, r) for m, r in _inside(reading, place) if r in VALUES] for place in reading.sentences]
    effects: list[Effect] = []
    for k, statement in enumerate(reading.statements):
        if not values[k] and statement == NONE and not spans[k].delay:
            continue
        span = spans[k] or _borrow(spans, values, reading.statements, k)
        stretches = _resolve(span, times, past_times)
        kinds = [_make(mention, role) for mention, role in values[k]]
        if statement == "zero" and not any(e.kind == "set" for e in kinds):
            kinds.append(Effect("set", 0.0))
        if spans[k].delay and not kinds:
            step = (times[-1] - times[0]) / max(1, len(times) - 1) if len(times) > 1 else pd.Timedelta(days=1)
            kinds.append(Effect("delay", round(pd.Timedelta(seconds=spans[k].delay) / step)))
        if statement == "over":
            effects += [replace(s, kind="ignore") for s in stretches]
            continue
        if statement == "holiday":
            effects += [Effect("like", None, "Sunday", s.start, s.end) for s in stretches]
            continue
        for kind in kinds:
            effects += _place(kind, stretches, times)
    return effects


def _inside(reading: Reading, place: tuple[int, int]) -> list[tuple[Mention, str]]:
    pairs = zip(reading.mentions, reading.roles, strict=True)
    return [(m, r) for m, r in pairs if place[0] <= m.start and m.end <= place[1] and r != NONE]


def _collect(reading: Reading, place: tuple[int, int]) -> _Span:
    span = _Span()
    for mention, role in _inside(reading, place):
        if role == "day":
            span.days.append(mention.text)
        elif role in DURATIONS:
            setattr(span, role, mention.value)
        elif role in MOMENTS and not getattr(span, role):
            setattr(span, role, mention.text)
    return span


def _borrow(spans: list[_Span], values: Sequence[Sequence[object]], statements: list[str], k: int) -> _Span:
    order = [*range(k - 1, -1, -1), *range(k + 1, len(spans))]
    free = [j for j in order if spans[j] and not values[j] and statements[j] == NONE]
    span = spans[free[0]] if free else _Span()
    if span and spans[k].length and not span.length and not span.end:
        return replace(span, length=spans[k].length)
    return span


def _resolve(span: _Span, times: pd.DatetimeIndex, past_times: pd.DatetimeIndex) -> list[Effect]:
    """Returns the stretches of a span as effects without a meaning (`ignore`)."""
    stretches = []
    for text in span.days:
        day = resolve_moment(text, times)
        if day is not None:
            until = day.end if day.end > day.start else day.start + _find_step(times, past_times)
            if span.length:
                until = day.start + pd.Timedelta(seconds=span.length)
            stretches.append(Effect("ignore", start=day.start, end=until))
    start = resolve_moment(span.start, times) if span.start else None
    end = resolve_moment(span.end, times, start.start if start else None) if span.end else None
    if (span.start and start is None) or (span.end and end is None):
        return stretches
    first, last = _join(start, end, span.length)
    if first is None and last is None:
        return stretches
    if first is not None and last is not None and last <= first:
        return stretches
    every = pd.Timedelta(seconds=span.every) if span.every and first is not None and last is not None else None
    return [*stretches, Effect("ignore", start=first, end=last, every=every)]


def _join(start: Moment | None, end: Moment | None, length: float) -> tuple[pd.Timestamp | None, pd.Timestamp | None]:
    first = start.start if start else None
    last = end.end if end else None
    if length and first is not None and last is None:
        last = first + pd.Timedelta(seconds=length)
    if length and first is None and last is not None:
        first = last - pd.Timedelta(seconds=length)
    return first, last


def _find_step(times: pd.DatetimeIndex, past_times: pd.DatetimeIndex) -> pd.Timedelta:
    every = past_times.append(times)
    return every[-1] - every[-2]


def _make(mention: Mention, role: str) -> Effect:
    value = mention.value
    if role == "raise":
        return Effect("multiply", 1 + value / 100) if mention.kind == "percent" else Effect("add", value)
    if role == "lower":
        return Effect("multiply", 1 - value / 100) if mention.kind == "percent" else Effect("add", -abs(value))
    if role == "subtract":
        return Effect("add", -abs(value))
    if role == "multiply":
        return Effect("multiply", value / 100 if mention.kind == "percent" else value)
    return Effect(role, value)


def _place(effect: Effect, stretches: list[Effect], times: pd.DatetimeIndex) -> list[Effect]:
    """Puts an effect on its stretches; one wholly in the past tells what to ignore of the history."""
    if not stretches:
        return [effect] if effect.kind in {"cap", "floor"} else []
    placed = []
    for s in stretches:
        past = s.end is not None and s.end <= times[0] and s.every is None
        kind = replace(s, kind="ignore") if past else replace(effect, start=s.start, end=s.end, every=s.every)
        placed.append(kind)
    return placed
