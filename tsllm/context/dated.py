"""Notes for a reader that counts no times: what they leave open is written out, and what is over is left out."""

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

import pandas as pd

from tsllm.context.effects import MONTHS, write_time
from tsllm.context.lexer import Mention
from tsllm.context.moments import Moment, find_fault, has_date, is_clock, resolve_moment
from tsllm.context.notes import Note, write_span
from tsllm.context.parser import read_by_rules
from tsllm.context.reading import NONE, VALUES, Reading, list_inside
from tsllm.context.spans import (
    LAST,
    Span,
    borrow_span,
    collect_span,
    comes_again,
    join_returns,
    tells_of_past,
)
from tsllm.context.stretches import resolve_span
from tsllm.context.vocabulary import WEEKDAY

_ONE = pd.Timedelta(days=1)
_REACH = pd.Timedelta(days=62)  # the next 31st of a month is that far away at most
_NIGHT = pd.Timedelta(hours=12)  # how far behind its day a time such as "Friday night" may reach
_DAY = re.compile(
    rf"\b(?:day after tomorrow|day before yesterday|tomorrow|today|yesterday|tonight|{WEEKDAY})\b",
    re.IGNORECASE,
)
_LOOSE = re.compile(r"\b(?:tonight|night|early|late)\b", re.IGNORECASE)
_UNIT = (
    r"(?:(?:second|minute|hour|day|night|morning|afternoon|evening|week|weekend|fortnight|month|quarter|season|year)s?"
    r"|spring|summer|autumn|fall|winter)"
)
# What is said from where the speaker stands.
_RELATIVE = re.compile(
    r"\b(?:today|tonight|tomorrow|yesterday|ago|(?:next|this|last|past|coming|previous) (?:few |[\w.]+ )?"
    rf"{_UNIT})\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Version:
    """What a note says to some of the forecasts that may read it.

    Attributes:
        text: What they read.
        since: The first step of the first of them; None = open.
        until: A first step at which it is over; None = open.
    """

    text: str
    since: pd.Timestamp | None = None
    until: pd.Timestamp | None = None


@dataclass(frozen=True)
class _Said:
    """A sentence: `text` with its dates, from `end` on over, and `when` that was, in words."""

    gap: str
    old: str
    text: str
    end: pd.Timestamp | None
    when: str


def write_dates(
    note: Note, times: pd.DatetimeIndex, past_times: pd.DatetimeIndex
) -> tuple[Note, list[tuple[str, str]]]:
    """Writes "tomorrow" and the like as dates where they count from the publication, and leaves out what is over.

    What names no date ("in two days") stands behind the time at which it was said.

    Args:
        note: What is told.
        times: The times of the horizon.
        past_times: The times of the history.

    Returns:
        The note, and the sentences that are left out, with the reason.

    Example:
        >>> times = pd.date_range("2024-01-10", periods=24, freq="h")
        >>> note = Note("It is closed tomorrow. It opens on Wednesday.", pd.Timestamp("2024-01-04"))
        >>> told, over = write_dates(note, times, times[:0])
        >>> told.text, over
        ('It opens on 2024-01-10.', [('It is closed tomorrow.', 'tomorrow = 2024-01-05, over before the forecast')])
    """
    every = past_times.append(times)
    said = _date(note, times, every[-1] - every[-2])
    over = [s for s in said if s.end is not None and s.end <= times[0]]
    text = "".join(s.gap + s.text for s in said if s not in over).strip()
    return replace(note, text=text), [(s.old, f"{s.when}, over before the forecast") for s in over]


@lru_cache(maxsize=1 << 14)
def list_versions(note: Note, step: pd.Timedelta) -> tuple[Version, ...]:
    """Returns what `write_dates` writes for any forecast, by the first step of it.

    Words that say no more than the row ("tomorrow" in one about that day) stay, so that the same message of many days
    is the same text; and so does a note without a publication.

    Args:
        note: What is told.
        step: From one time to the next.

    Returns:
        Versions one behind the other in time, without those that say nothing.

    Example:
        >>> note = Note("It is closed tomorrow. It snows.", pd.Timestamp("2024-01-04"))
        >>> [(version.text, str(version.until)) for version in list_versions(note, pd.Timedelta("1h"))]
        [('It is closed 2024-01-05. It snows.', '2024-01-06 00:00:00'), ('It snows.', 'None')]
    """
    if note.published is None:
        return (Version(note.text),)
    said = _date(note, pd.DatetimeIndex([note.published]), step, keeps=True)
    made = []
    for since, until in pairwise([None, *sorted({s.end for s in said if s.end is not None}), None]):
        kept = [s for s in said if s.end is None or since is None or s.end > since]
        text = "".join(s.gap + s.text for s in kept)
        made.append(Version(text if len(kept) == len(said) else text.strip(), since, until))
    return tuple(version for version in made if version.text.strip())


def _date(note: Note, times: pd.DatetimeIndex, step: pd.Timedelta, keeps: bool = False) -> list[_Said]:
    """Dates the sentences of a note.

    Args:
        note: What is told.
        times: The times of the horizon; only the first counts, and only for a note without a publication.
        step: From one time to the next.
        keeps: Whether words stay that say no more than the row.
    """
    reading = read_by_rules(note.text, apart=False)
    inside = [list_inside(reading, place) for place in reading.sentences]
    views, spans = [], []
    for place, found, statement in zip(reading.sentences, inside, reading.statements, strict=True):
        old = note.text[slice(*place)]
        past = tells_of_past(old, (note.published or times[0]).year)[0]
        seen = note.see_from(old, times, past)
        views.append(None if seen is times else pd.DatetimeIndex([seen[0], seen[0] + _REACH]))
        spans.append(collect_span(note.text, found, reading.mentions, place, seen[0].year, statement == "zero"))
    free = [s == NONE and all(r not in VALUES for _, r in f) for s, f in zip(reading.statements, inside, strict=True)]
    spans = join_returns(spans, free, [note.text[slice(*place)] for place in reading.sentences])
    said, behind = [], 0
    for k, (first, last) in enumerate(reading.sentences):
        sentence = _Sentence(note, note.text[first:last], _list_moments(reading, first, last), spans[k], views[k])
        # A sentence that says no time is over with the one that it takes its time from.
        own = spans[k] if spans[k] or spans[k].before else borrow_span(spans, free, k)
        lender = next((j for j, span in enumerate(spans) if span.ranges is own.ranges), k)
        place = reading.sentences[lender]
        end, when = _find_end(note, own, views[lender], step, _list_moments(reading, *place))
        past = spans[k].past or views[k] is None
        said.append(_Said(note.text[behind:first], sentence.old, sentence.write(keeps), None if past else end, when))
        behind = last
    return said


def _list_moments(reading: Reading, first: int, last: int) -> list[tuple[Mention, str]]:
    """Returns the moments of a sentence with their roles, their places counted from its start."""
    pairs = zip(reading.mentions, reading.roles, strict=True)
    return [
        (replace(m, start=m.start - first, end=m.end - first), role)
        for m, role in pairs
        if m.kind == "moment" and first <= m.start and m.end <= last
    ]


def _find_end(
    note: Note, span: Span, view: pd.DatetimeIndex | None, step: pd.Timedelta, moments: list[tuple[Mention, str]]
) -> tuple[pd.Timestamp | None, str]:
    """Returns from when on what a span is about is over, and which time that is; None if it says no end."""
    lasts = span.again and any(not end for _, end in span.ranges)
    hours = any(is_clock(text) for pair in span.ranges for text in pair if text) and span.loose
    if view is None or span.past or span.unread or lasts or note.is_daily(span) or (hours and step >= _ONE):
        return None, ""
    stretches = resolve_span(span, view, step)
    ends = [None if s.every is not None else s.end for s in stretches]
    for mention, role in moments:
        day = _find_loose(mention, view)
        if day is not None and role != NONE:
            ends.append(None if role == "start" else day.end + _NIGHT)
    known = [end for end in ends if end is not None]
    if not ends or len(known) < len(ends):
        return None, ""
    end = max(known).floor("us")
    start = None if not stretches or stretches[0].start is None else stretches[0].start.floor("us")
    return end, " = ".join(filter(None, (" to ".join(span.texts), write_span(start, end))))


def _find_loose(mention: Mention, view: pd.DatetimeIndex) -> Moment | None:
    """Returns the day of what names a day and no exact time ("tonight", "early on Friday"); else None."""
    day = _DAY.search(mention.text)
    if day is None or not _LOOSE.search(mention.text) or not find_fault(mention.meaning, view):
        return None
    return resolve_moment("today" if day[0].lower() == "tonight" else day[0], view)


@dataclass(frozen=True)
class _Sentence:
    """A sentence of a note, its moments, what it says of times, and the times by which it is completed, if any."""

    note: Note
    old: str
    moments: list[tuple[Mention, str]]
    span: Span
    view: pd.DatetimeIndex | None

    def write(self, keeps: bool) -> str:
        """Returns it with dates, or else behind the time at which it was said; `keeps` as in `_date`."""
        if self.view is None:
            return self.old
        parts, rest, last, after = [], [], 0, None
        dated = any(has_date(m.meaning) for m, _ in self.moments)
        daily = self.span.again or self.note.is_daily(self.span)
        open_ = bool(self.span.soon or (self.span.loose and not dated and not daily))
        for mention, role in self.moments:
            front = LAST.search(self.old[: mention.start])
            first = mention.start if front is None else front.start()
            meant = mention.meaning if front is None else f"last {mention.meaning}"
            rest.append(self.old[last:first])
            text, found = self._name(mention, meant, role, after, keeps)
            after = found.start if found is not None and role == "start" else None
            open_ |= found is None and text == mention.text and _RELATIVE.search(text) is not None
            parts += [self.old[last:first], self.old[first : mention.start] if text == mention.text else "", text]
            last = mention.end
        rest.append(self.old[last:])
        text = "".join([*parts, self.old[last:]])
        if self.note.published is not None and (open_ or _RELATIVE.search(" ".join(rest))):
            return f"Said on {write_time(self.note.published)}: {text}"
        return text

    def _name(
        self, mention: Mention, meant: str, role: str, after: pd.Timestamp | None, keeps: bool
    ) -> tuple[str, Moment | None]:
        """Returns a moment as it is to stand in the text, and what it means; None if that is left open."""
        assert self.view is not None
        dated = any(has_date(m.meaning) for m, _ in self.moments)
        apart = is_clock(mention.meaning) and (dated or self.span.again or self.note.is_daily(self.span))
        apart |= is_clock(mention.meaning) and mention.text in self.span.loose  # "from 8 till noon"
        if re.search(r"\d{4}", mention.text) or apart:
            return mention.text, None
        if comes_again(mention, self.old[: mention.start]):
            return mention.text, None
        loose = _find_loose(mention, self.view)
        if loose is not None:
            if keeps and self.note.lies_within(loose.start, loose.end + _NIGHT):
                return mention.text, loose
            date = f"{loose.start:%Y-%m-%d}"
            return _DAY.sub(
                lambda m: f"in the night of {date}" if m[0].lower() == "tonight" else date, mention.text
            ), loose
        found = resolve_moment(meant, self.view, after if role == "end" else None, past=self.span.past)
        if found is None or (keeps and self.note.lies_within(found.start, found.end)):
            return mention.text, found
        return _write_moment(Moment(found.start.floor("us"), found.end.floor("us")), mention.text, role), found


def _write_moment(moment: Moment, said: str, role: str) -> str:
    """Writes a moment: its first day or time where something starts, its last where it ends, else all of it."""
    start, end = moment.start, moment.end
    whole = end > start and start == start.normalize() and end == end.normalize()
    if end == start or (role == "start" and not whole):
        return f"{start:%Y-%m-%d %H:%M}"
    if role == "end" and not whole:
        return f"{end:%Y-%m-%d %H:%M}"
    if any(month.lower() in said.lower() for month in MONTHS) and end - start > _ONE:
        return f"{start:%B %Y}"
    if not whole:
        return f"{start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M}"
    first, last = f"{start:%Y-%m-%d}", f"{end - _ONE:%Y-%m-%d}"
    return first if first == last or role == "start" else last if role == "end" else f"{first} to {last}"
