"""From roles of mentions to effects: the part of reading that every reader shares.

A reader says of each number, moment and duration in a text what part it plays, and of each sentence what it states
without a number. What follows is grammar: which span belongs to which number, what lies in the past, what the words
stand for on the clock of the series.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pandas as pd

from tsllm.context.effects import MONTHS, WEEKDAYS, Effect
from tsllm.context.lexer import Mention, Moment, find_mentions, is_clock, resolve_moment, split_sentences

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
_WEEKDAY, _MONTH = "|".join(WEEKDAYS), "|".join(MONTHS)
# Words and verbs that tell of the past, unless a verb of the sentence speaks of now or later.
_BEFORE = re.compile(
    rf"\byesterday\b|\bago\b|\b(?:last|previous) (?:week|month|year|night|time|spring|summer|autumn|fall|winter|"
    rf"{_WEEKDAY}|{_MONTH})\b|\bearlier (?:this|in)\b|\bformerly\b|\bin the past\b|\bhistorically\b", re.IGNORECASE,
)  # fmt: skip
_WAS = re.compile(
    r"\b(?:was|were|had|did|fell|rose|grew|sank|shrank|went|came|saw|took|dropped|declined|climbed|jumped|surged|slumped|"
    r"reached|amounted|occurred|happened|lasted|doubled|halved|tripled)\b", re.IGNORECASE,
)  # fmt: skip
_IS = re.compile(
    r"\b(?:is|are|be|has|have|will|shall|can|cannot|may|must|would|should|expect(?:ed)?|planned|scheduled|tomorrow|next|"
    r"consider|suppose|assume|imagine)\b|\w+ing to\b", re.IGNORECASE,
)  # fmt: skip
_YEAR = re.compile(r"\b(?:in|during|of|since) ((?:19|20)\d\d)\b(?!-)", re.IGNORECASE)
_LAST = re.compile(r"\b(?:last|previous|past) $", re.IGNORECASE)
_RELATIVE = ("multiply", "add")


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
    past: bool = False  # the sentence tells of the past
    before: bool = False  # by a word that says when, so that it takes no span from its neighbours
    ago: float = 0.0  # days since then, where the sentence counts them

    def __bool__(self) -> bool:
        return bool(self.start or self.end or self.days or self.ago)


def assemble(reading: Reading, times: pd.DatetimeIndex, past_times: pd.DatetimeIndex) -> list[Effect]:
    """Builds effects from roles.

    A value or statement takes the span of its sentence; without one, that of the nearest sentence before, then behind,
    that has a span and no effect of its own. Only bounds may do without a span. What a sentence tells of the past (by
    its date, or by its words where it has none) has happened and is in the history: it changes nothing, unless the
    sentence says that the history misleads.

    Args:
        reading: Text and roles.
        times: The times of the horizon.
        past_times: The times of the history.
    """
    return sort_reading(reading, times, past_times)[0]


def sort_reading(
    reading: Reading, times: pd.DatetimeIndex, past_times: pd.DatetimeIndex
) -> tuple[list[Effect], list[tuple[Effect, str]]]:
    """Returns what `assemble` does, and each effect of a weekday that is not ahead, with the reason.

    Args:
        reading: As in `assemble`.
        times: As in `assemble`.
        past_times: As in `assemble`.
    """
    spans = [_collect(reading, place, times[0].year) for place in reading.sentences]
    values = [[(m, r) for m, r in _inside(reading, place) if r in VALUES] for place in reading.sentences]
    effects: list[Effect] = []
    idle: list[tuple[Effect, str]] = []
    for k, statement in enumerate(reading.statements):
        if not values[k] and statement == NONE and not spans[k].delay:
            continue
        span = spans[k] if spans[k] or spans[k].before else _borrow(spans, values, reading.statements, k)
        stretches = _resolve(span, times, past_times)
        kinds = [make_effect(mention, role) for mention, role in values[k]]
        if statement == "zero" and not any(e.kind == "set" for e in kinds):
            kinds.append(Effect("set", 0.0))
        if spans[k].delay and not kinds:
            step = (times[-1] - times[0]) / max(1, len(times) - 1) if len(times) > 1 else pd.Timedelta(days=1)
            kinds.append(Effect("delay", round(pd.Timedelta(seconds=spans[k].delay) / step)))
        absent = "" if stretches else _find_absent(span, times)
        if absent:
            said = {"over": [Effect("ignore")], "holiday": [Effect("like", None, "Sunday")]}.get(statement, kinds)
            # A limit "until Friday" holds to the end of a horizon without one.
            lasting = [e for e in said if _is_bound(e) and not (span.days or span.start or span.past)]
            effects += lasting
            idle += [(e, f"no {absent} is among the steps to forecast") for e in said if e not in lasting]
            continue
        if statement == "over":
            effects += [replace(s, kind="ignore") for s in stretches]
            continue
        if statement == "holiday":
            effects += [Effect("like", None, "Sunday", s.start, s.end) for s in stretches]
            continue
        told = spans[k].past or span.past
        for kind in kinds:
            effects += _place(kind, stretches, times, told)
    return effects, idle


def _find_absent(span: _Span, times: pd.DatetimeIndex) -> str:
    """Returns the first weekday of a span that is none of the horizon's days; empty if each is there."""
    for text in (*span.days, span.start, span.end):
        named = re.search(_WEEKDAY, text)
        if named and resolve_moment(text, times, past=span.past) is None:
            return named[0].capitalize()
    return ""


def _inside(reading: Reading, place: tuple[int, int]) -> list[tuple[Mention, str]]:
    pairs = zip(reading.mentions, reading.roles, strict=True)
    return [(m, r) for m, r in pairs if place[0] <= m.start and m.end <= place[1] and r != NONE]


def _collect(reading: Reading, place: tuple[int, int], year: int) -> _Span:
    sentence = reading.text[place[0] : place[1]]
    past, before = tells_of_past(sentence, year)
    span = _Span(past=past, before=before, ago=_count_days(reading, place))
    for mention, role in _inside(reading, place):
        if role in DURATIONS:
            setattr(span, role, mention.value)
        elif role in MOMENTS:
            last = _LAST.search(reading.text[place[0] : mention.start])
            text = f"last {mention.text}" if last else mention.text
            if role == "day":
                span.days.append(text)
            elif not getattr(span, role):
                setattr(span, role, text)
    return span


def _borrow(spans: list[_Span], values: Sequence[Sequence[object]], statements: list[str], k: int) -> _Span:
    order = [*range(k - 1, -1, -1), *range(k + 1, len(spans))]
    free = [j for j in order if spans[j] and not values[j] and statements[j] == NONE]
    span = spans[free[0]] if free else _Span()
    if span and spans[k].length and not span.length and not span.end:
        return replace(span, length=spans[k].length)
    return span


def tells_of_past(sentence: str, year: int) -> tuple[bool, bool]:
    """Tells by its words whether a sentence is about what has been, and whether it says when ("last week", "in 2019").

    Args:
        sentence: One sentence.
        year: Of the forecast; an earlier one lies in the past.
    """
    if _IS.search(sentence):
        return False, False
    before = bool(_BEFORE.search(sentence)) or any(int(y) < year for y in _YEAR.findall(sentence))
    return before or bool(_WAS.search(sentence)), before


def _count_days(reading: Reading, place: tuple[int, int]) -> float:
    """Returns the days of "three days ago"; 0 where a sentence says none, or weeks and more, which name no day."""
    for m in reading.mentions:
        inside = m.kind == "duration" and place[0] <= m.start and m.end <= place[1]
        if (
            inside
            and re.match(r" ago\b", reading.text[m.end : place[1]])
            and m.value % 86400 == 0
            and m.value < 604800
        ):
            return m.value / 86400
    return 0.0


def _resolve(span: _Span, times: pd.DatetimeIndex, past_times: pd.DatetimeIndex) -> list[Effect]:
    """Returns the stretches of a span as effects without a meaning (`ignore`)."""
    found = [resolve_moment(text, times, past=span.past) for text in span.days]
    days = [day for day in found if day is not None]
    if span.ago:
        first = times[0].normalize() - pd.Timedelta(days=span.ago)
        days.append(Moment(first, first + pd.Timedelta(days=1)))
    clocks = [text for text in (span.start, span.end) if text]
    if days and clocks and all(map(is_clock, clocks)):
        return [s for day in days for s in _stretch(span, times, day)]
    if span.days and not days and clocks and all(map(is_clock, clocks)):
        return []  # "on Monday from 8 to 12" where no Monday is ahead is not 8 to 12 of another day
    stretches = []
    for day in days:
        until = day.end if day.end > day.start else day.start + _find_step(times, past_times)
        if span.length:
            until = day.start + pd.Timedelta(seconds=span.length)
        stretches.append(Effect("ignore", start=day.start, end=until))
    return [*stretches, *_stretch(span, times)]


def _stretch(span: _Span, times: pd.DatetimeIndex, day: Moment | None = None) -> list[Effect]:
    """Returns the stretch between start and end; with a day, both are times of that day."""
    on = None if day is None else day.start
    start = resolve_moment(span.start, times, on=on, past=span.past) if span.start else None
    end = None
    if span.end:
        end = resolve_moment(span.end, times, start.start if start else None, on=on, past=span.past)
    if (span.start and start is None) or (span.end and end is None):
        return []
    first, last = _join(start, end, span.length)
    if first is None and last is None:
        return []
    if span.past and first and last and last > times[0] and re.search(_WEEKDAY, span.end):
        first, last = first - pd.Timedelta(days=7), last - pd.Timedelta(days=7)  # a past span ends before the forecast
    if day is not None:
        first, last = first if first is not None else day.start, last if last is not None else day.end
    if first is not None and last is not None and last <= first:
        return []
    every = pd.Timedelta(seconds=span.every) if span.every and first is not None and last is not None else None
    return [Effect("ignore", start=first, end=last, every=every)]


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


def make_effect(mention: Mention, role: str) -> Effect:
    """Returns what a number, percentage or factor means in a role of `VALUES`, without a span."""
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


def _is_bound(effect: Effect) -> bool:
    return effect.kind in {"cap", "floor"}


def _place(effect: Effect, stretches: list[Effect], times: pd.DatetimeIndex, past: bool) -> list[Effect]:
    """Puts an effect on its stretches; one that is over by the time of the forecast is left out."""
    if not stretches:
        return [effect] if _is_bound(effect) and not past else []
    placed = []
    for s in stretches:
        over = s.end is not None and s.end <= times[0] and s.every is None
        # What fell "from March on" has fallen in the history already; a limit or a standstill may well last.
        since = past and s.end is None and s.start is not None and s.start < times[0] and effect.kind in _RELATIVE
        if not over and not since:
            placed.append(replace(effect, start=s.start, end=s.end, every=s.every))
    return placed
