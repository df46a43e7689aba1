"""From roles of mentions to effects: the part of reading that every reader shares.

A reader says of each number, moment and duration in a text what part it plays, and of each sentence what it states
without a number. What follows is grammar: which span belongs to which number, what lies in the past, what the words
stand for on the clock of the series.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from tsllm.context.capacities import find_capacities, is_of_capacity
from tsllm.context.effects import Effect
from tsllm.context.hours import find_hours
from tsllm.context.lexer import Mention, find_mentions, split_sentences
from tsllm.context.moments import has_date, resolve_moment
from tsllm.context.notes import Note, write_span
from tsllm.context.numbers import find_cut
from tsllm.context.spans import (
    Span,
    borrow_span,
    collect_span,
    find_absent,
    find_reason,
    join_returns,
    tells_of_past,
)
from tsllm.context.steps import find_start
from tsllm.context.stretches import resolve_span

NONE = "none"
# What a number, percentage or factor may be.
VALUES = ("multiply", "raise", "lower", "add", "subtract", "set", "cap", "floor")
# What a moment may be: `day` is a span of its own, as long as it is said (a day, a month, one step).
MOMENTS = ("start", "end", "day")
DURATIONS = ("length", "every", "delay")
ROLES = (NONE, *VALUES, *MOMENTS, *DURATIONS)
ALLOWED = {
    "number": (NONE, *VALUES), "percent": (NONE, "multiply", "raise", "lower", "set", "cap", "floor"),
    "factor": (NONE, "multiply", "raise", "lower"), "moment": (NONE, *MOMENTS), "duration": (NONE, *DURATIONS),
}  # fmt: skip
# What a sentence may state: nothing comes in; a stretch of the history misleads; a day off.
STATEMENTS = (NONE, "zero", "over", "holiday")
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
        unread: Numbers of sentences in which the reader knows to have read nothing, with the reason.
    """

    text: str
    mentions: list[Mention]
    roles: list[str]
    sentences: list[tuple[int, int]]
    statements: list[str]
    unread: tuple[tuple[int, str], ...] = ()

    @classmethod
    def open(cls, text: str) -> "Reading":
        """Returns the reading that finds nothing in a text."""
        mentions, sentences = find_mentions(text), split_sentences(text)
        return cls(text, mentions, [NONE] * len(mentions), sentences, [NONE] * len(sentences))


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
    reading: Reading, times: pd.DatetimeIndex, past_times: pd.DatetimeIndex, note: Note | None = None
) -> tuple[list[Effect], list[tuple[Effect | str, str]]]:
    """Returns what `assemble` does, and each effect that has no time ahead and sentence not read, with the reason.

    Args:
        reading: As in `assemble`.
        times: As in `assemble`.
        past_times: As in `assemble`.
        note: Says when the text was published, by which "tomorrow" is counted, and which times it is about: those of
            each sentence that says none. What a sentence says beyond them is not cut off here.
    """
    note = Note(reading.text) if note is None else note
    inside = [list_inside(reading, place) for place in reading.sentences]
    seen = [_see(reading, place, times, note) for place in reading.sentences]
    spans = [
        collect_span(reading.text, found, reading.mentions, place, view[0].year, statement == "zero")
        for found, place, view, statement in zip(inside, reading.sentences, seen, reading.statements, strict=True)
    ]
    values = [[(m, r) for m, r in found if r in VALUES] for found in inside]
    free = [not v and s == NONE for v, s in zip(values, reading.statements, strict=True)]
    spans = join_returns(spans, free, [reading.text[slice(*place)] for place in reading.sentences])
    step, first = _find_step(times, past_times), find_start(times, past_times)
    effects: list[Effect] = []
    idle: list[tuple[Effect | str, str]] = [
        (reading.text[slice(*reading.sentences[k])], why) for k, why in reading.unread if not spans[k].past
    ]
    for k, statement in enumerate(reading.statements):
        if free[k] and not spans[k].delay:
            continue
        keeps = spans[k] or spans[k].before or spans[k].vague
        span = spans[k] if keeps else borrow_span(spans, free, k)
        view = seen[next((j for j, other in enumerate(spans) if other.ranges is span.ranges), k)]
        if note.has_span and not span:
            span = replace(span, vague="", meanwhile="")  # its row says when that is
        kinds = [_make_effect(reading, mention, role) for mention, role in values[k]]
        if statement == "zero" and not any(e.kind == "set" for e in kinds):
            kinds.append(Effect("set", 0.0))
        if spans[k].delay and not kinds:
            mean = (times[-1] - times[0]) / max(1, len(times) - 1) if len(times) > 1 else pd.Timedelta(days=1)
            kinds.append(Effect("delay", round(pd.Timedelta(seconds=spans[k].delay) / mean)))
        said = {"over": [Effect("ignore")], "holiday": [Effect("like", None, "Sunday")]}.get(statement, kinds)
        reason = _find_reason(reading, k, span, said, view, step)
        if reason:
            # A limit takes no time from a sentence about something else.
            apart = [e for e in said if _is_bound(e) and span is not spans[k] and not span.texts and span.unread]
            effects += apart
            idle += [(e, reason) for e in said if e not in apart]
            continue
        stretches = _find_stretches(span, note, view, times, past_times, statement == "over", spans[k].length)
        absent = "" if stretches else find_absent(span, view)
        if absent:
            # A limit "until Friday" holds to the end of a horizon without one.
            open_start = not span.days and not span.past and not any(start for start, _ in span.ranges)
            lasting = [e for e in said if _is_bound(e) and open_start]
            effects += lasting
            idle += [(e, f"no {absent} is among the steps to forecast") for e in said if e not in lasting]
            continue
        if span.texts and not stretches:
            reason = _find_backwards(span, view)
            idle += [(e, reason) for e in said]
            continue
        if statement == "over":
            effects += [replace(s, kind="ignore") for s in stretches]
            continue
        if statement == "holiday":
            effects += [Effect("like", None, "Sunday", s.start, s.end) for s in stretches]
            continue
        told = spans[k].past or span.past
        for kind in kinds:
            placed, late = _place(kind, stretches, first, told)
            effects += placed
            idle += [(kind, _say_when(span, s)) for s in (late[:1] if not placed else ())]
    return effects, idle


def _see(reading: Reading, place: tuple[int, int], times: pd.DatetimeIndex, note: Note) -> pd.DatetimeIndex:
    """Returns the times by which what a sentence leaves open is completed."""
    sentence = reading.text[slice(*place)]
    past = tells_of_past(sentence, (note.published or times[0]).year)[0]
    return note.see_from(sentence, times, past)


def _find_stretches(
    span: Span, note: Note, view: pd.DatetimeIndex, times: pd.DatetimeIndex, past_times: pd.DatetimeIndex, over: bool,
    length: float,
) -> list[Effect]:  # fmt: skip
    """Returns the stretches of a span, or, where it says none, that of its row, from its start for so many seconds."""
    if not span and note.has_span and (over or not span.before):
        end = note.start + pd.Timedelta(seconds=length) if note.start is not None and length else note.end
        return [Effect("ignore", start=note.start, end=end)]
    stretches = resolve_span(note.spread(span, times, past_times, over), view, _find_step(times, past_times))
    # The first of such times is the instant behind a publication.
    return stretches if view is times else [replace(s, start=_floor(s.start), end=_floor(s.end)) for s in stretches]


def _floor(time: pd.Timestamp | None) -> pd.Timestamp | None:
    return None if time is None else time.floor("us")


def _find_backwards(span: Span, times: pd.DatetimeIndex) -> str:
    """Says why a span with moments is no stretch."""
    for first, last in span.ranges:
        start, end = (
            resolve_moment(text, times, past=span.past) if has_date(text) else None for text in (first, last)
        )
        if start is not None and end is not None and end.end == start.start:
            return f"it begins and ends at {first}, and so lasts no time"
        if start is not None and end is not None and end.end < start.start:
            return f"it ends at {last}, before it begins at {first}"
    return f"which time {' to '.join(span.texts)} is remains open; write dates and hours"


def _say_when(span: Span, stretch: Effect) -> str:
    """Says of a stretch which time its words mean, and that it is over or stands in the history."""
    own, said = write_span(stretch.start, stretch.end), " to ".join(span.texts)
    same = [text for text in span.texts if text not in own]
    last = "before the forecast" if stretch.end is not None else "since before the forecast: the history shows it"
    return f"{f'{said} = {own}' if same else own}, {'over ' if stretch.end is not None else ''}{last}"


def _find_reason(
    reading: Reading, k: int, span: Span, said: Sequence[Effect], times: pd.DatetimeIndex, step: pd.Timedelta
) -> str:
    """Says why the time of a sentence is not read; empty if it is."""
    sentence, first = reading.text[slice(*reading.sentences[k])], reading.sentences[k][0]
    kinds = [effect.kind for effect in said]
    values = [(m.start - first, m.end - first) for m, r in list_inside(reading, reading.sentences[k]) if r in VALUES]
    several = len(set(kinds)) < len(kinds) or ("set" in kinds and any(kind in _RELATIVE for kind in kinds))
    several |= len(kinds) > 1 and (reading.statements[k] == "zero" or _lie_between(reading, k))
    reason = _find_cut(reading, k) or find_reason(span, sentence, several, times) or _find_doubled(reading, k)
    hours = find_hours(sentence, values, reading.statements[k] == "zero")
    if reason or hours is None or (hours.pair and step < pd.Timedelta(days=1)):
        return reason
    place = hours.place
    if not hours.pair and _names_time(reading, first, place):
        return ""
    outside = [value for value in values if not place[0] <= value[0] < place[1]]
    if not outside and reading.statements[k] != "zero":
        return ""
    return f"{sentence[slice(*place)]!r} may be hours or amounts; write 08:00"


def _find_cut(reading: Reading, k: int) -> str:
    """Says that a value of a sentence is only a part of the number that stands there; empty if none is."""
    for mention, role in list_inside(reading, reading.sentences[k]):
        if role in VALUES and (fault := find_cut(reading.text, mention)):
            return fault
    return ""


def _lie_between(reading: Reading, k: int) -> bool:
    """Tells whether a value of a sentence stands between two of its times, and so belongs to one of them."""
    roles = [role for _, role in list_inside(reading, reading.sentences[k]) if role in (*VALUES, *MOMENTS)]
    moments = [i for i, role in enumerate(roles) if role in MOMENTS]
    return bool(moments) and any(role in VALUES for role in roles[moments[0] : moments[-1]])


def _find_doubled(reading: Reading, k: int) -> str:
    """Says that a share of a capacity may be one of several; empty if it is not."""
    shares = [
        m for m, r in list_inside(reading, reading.sentences[k]) if r == "multiply" and is_of_capacity(reading.text, m)
    ]
    capacities = find_capacities(reading.text, reading.mentions) if shares else []
    return f"the text states {len(capacities)} capacities; write the value itself" if len(capacities) > 1 else ""


def _names_time(reading: Reading, first: int, place: tuple[int, int]) -> bool:
    """Tells whether a moment stands in a place of the sentence that begins at `first`."""
    return any(
        m.kind == "moment" and place[0] < m.end - first and m.start - first < place[1] for m in reading.mentions
    )


def list_inside(reading: Reading, place: tuple[int, int]) -> list[tuple[Mention, str]]:
    """Returns the mentions of a sentence that play a part, with their roles."""
    pairs = zip(reading.mentions, reading.roles, strict=True)
    return [(m, r) for m, r in pairs if place[0] <= m.start and m.end <= place[1] and r != NONE]


def _find_step(times: pd.DatetimeIndex, past_times: pd.DatetimeIndex) -> pd.Timedelta:
    every = past_times.append(times)
    return every[-1] - every[-2]


def make_effect(mention: Mention, role: str) -> Effect:
    """Returns what a number, percentage or factor means in a role of `VALUES`, without a span.

    A factor multiplies; in a rise or a fall ("falls by a factor of 4", "rises by a third") it is one of that.

    Example:
        >>> fourth, third = Mention("factor", 0, 1, "4", 4.0), Mention("factor", 0, 7, "a third", 1 / 3)
        >>> [make_effect(m, role).number for m in (fourth, third) for role in ("multiply", "lower")]
        [4.0, 0.25, 0.3333333333333333, 0.6666666666666667]
    """
    value = mention.value
    if role in {"raise", "lower"} and mention.kind in _SHIFTS:
        return Effect("multiply", _SHIFTS[mention.kind](value, role == "raise"))
    if role == "raise":
        return Effect("add", value)
    if role == "lower":
        return Effect("add", -abs(value))
    if role == "subtract":
        return Effect("add", -abs(value))
    if role == "multiply":
        return Effect("multiply", value / 100 if mention.kind == "percent" else value)
    return Effect(role, value)


def _make_effect(reading: Reading, mention: Mention, role: str) -> Effect:
    """Returns what a value means, as `make_effect` does; a share of the only capacity of the text is a value."""
    effect = make_effect(mention, role)
    if role == "multiply" and is_of_capacity(reading.text, mention):
        capacities = find_capacities(reading.text, reading.mentions)
        if len(capacities) == 1:
            return Effect("set", float(effect.number or 0.0) * capacities[0])
    return effect


def _shift_by_percent(value: float, up: bool) -> float:
    return 1 + value / 100 if up else 1 - value / 100


def _shift_by_factor(value: float, up: bool) -> float:
    """Returns what "by a factor of 3" or "by a third" makes of 1: from 1 on a number is a factor, below it a share."""
    if value < 1:
        return 1 + value if up else 1 - value
    return value if up else 1 / value


_SHIFTS = {"percent": _shift_by_percent, "factor": _shift_by_factor}


def _is_bound(effect: Effect) -> bool:
    return effect.kind in {"cap", "floor"}


def _place(
    effect: Effect, stretches: list[Effect], first: pd.Timestamp, past: bool
) -> tuple[list[Effect], list[Effect]]:
    """Puts an effect on its stretches; returns it there, and those that are over when the forecast begins."""
    if not stretches:
        return ([effect] if _is_bound(effect) and not past else []), []
    placed, late = [], []
    for s in stretches:
        over = s.end is not None and s.end <= first and s.every is None
        # What fell "from March on" has fallen in the history already; a limit or a standstill may well last.
        since = past and s.end is None and s.start is not None and s.start < first and effect.kind in _RELATIVE
        if over or since:
            late.append(s)
        else:
            placed.append(replace(effect, start=s.start, end=s.end, every=s.every))
    return placed, late
