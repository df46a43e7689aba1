"""A note: one row of what is told, with when it was published and the times that it is about."""

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from tsllm.context.effects import Effect, write_time

if TYPE_CHECKING:
    from tsllm.context.spans import Span

_ONE, _INSTANT = pd.Timedelta(days=1), pd.Timedelta("1ns")
# What is said from where the speaker stands; other times that are left open are completed by those of the row.
_FROM_NOW = re.compile(
    r"\b(?:today|tonight|tomorrow|yesterday|ago|(?:next|this|last|past|coming|previous) [a-z\d]+)\b", re.IGNORECASE
)
_PERIOD = re.compile(r"\b(?:next|this) (?:week|month)\b", re.IGNORECASE)
_HORIZON = re.compile(r"\b(?:forecast|horizon|period)\b", re.IGNORECASE)
_WHOLE = ("daylight", "through", "peak")  # what is said of a whole horizon, or has its span by another effect


@dataclass(frozen=True)
class Note:
    """One text as it is told.

    Attributes:
        text: Itself.
        published: When; None = not said.
        start: First moment that it is about; None = open.
        end: First moment that it is not about any more; None = open.
    """

    text: str
    published: pd.Timestamp | None = None
    start: pd.Timestamp | None = None
    end: pd.Timestamp | None = None

    @classmethod
    def read(cls, text: str, *times: Any) -> "Note":
        """Returns a row of a table as a note: `published`, `start` and `end`, each perhaps NaT."""
        return cls(text, *(None if pd.isna(time) else pd.Timestamp(time) for time in times))

    @property
    def has_span(self) -> bool:
        """Whether it says outright which times it is about."""
        return self.start is not None or self.end is not None

    def __str__(self) -> str:
        if not self.has_span:
            return self.text
        first = f"From {self.start:%Y-%m-%d %H:%M:%S}" if self.start is not None else ""
        last = f"{'until' if first else 'Until'} {self.end:%Y-%m-%d %H:%M:%S}" if self.end is not None else ""
        return f"{' '.join(filter(None, (first, last)))}: {self.text}"

    def is_about(self, first: pd.Timestamp, last: pd.Timestamp) -> bool:
        """Tells whether it may be about one of the steps of a horizon."""
        return (self.start is None or self.start <= last) and (self.end is None or self.end > first)

    def see_from(self, sentence: str, times: pd.DatetimeIndex, past: bool) -> pd.DatetimeIndex:
        """Returns the times by which what a sentence leaves open is completed.

        They begin with the publication, not with the forecast; a weekday and the like begin with what the row is
        about. What speaks of the forecast itself is seen from there.

        Args:
            sentence: One sentence of the text.
            times: The times of the horizon.
            past: Whether it tells of the past.
        """
        if _HORIZON.search(sentence):
            return times
        base = self.published
        if not _FROM_NOW.search(sentence):
            if past and self.end is not None:
                base = self.end if base is None else min(base, self.end)
            elif not past and self.start is not None and self.start > (times[0] if base is None else base):
                base = self.start
        if base is None:
            return times
        # The next week is seen from the day before the first of the times.
        first = base.normalize() + _ONE if _PERIOD.search(sentence) else base + _INSTANT
        return pd.DatetimeIndex([first, *times[times > first]])

    def lies_within(self, start: pd.Timestamp, end: pd.Timestamp) -> bool:
        """Tells whether it says outright that it is about no time outside a stretch."""
        return self.start is not None and self.end is not None and start <= self.start and self.end <= end

    def is_daily(self, span: "Span") -> bool:
        """Tells whether a span names times of day and no day, in a row that says which days it is about."""
        from tsllm.context.moments import is_clock  # a forecast without texts reads no times

        plain = not (span.ago or span.again or (span.days and span.ranges))
        return self.has_span and plain and bool(span.texts) and all(map(is_clock, span.texts))

    def spread(self, span: "Span", times: pd.DatetimeIndex, past_times: pd.DatetimeIndex, over: bool) -> "Span":
        """Returns a span whose times of day are those of each day that the row is about, if they name no day.

        Args:
            span: Of one sentence.
            times: The times of the horizon.
            past_times: The times of the history.
            over: Whether the history is meant.
        """
        if not self.is_daily(span):
            return span
        first = self.start if self.start is not None else past_times[0]
        last = self.end if self.end is not None else max(times[-1] + _INSTANT, first + _INSTANT)
        days = pd.date_range(first.normalize(), last - _INSTANT)
        if not over:
            days = days[(days >= times[0].normalize() - _ONE) & (days <= times[-1])].union(days[-1:])
        dates = [f"{day:%Y-%m-%d}" for day in days]
        if span.days:
            return replace(span, days=[f"{date} {clock}" for date in dates for clock in span.days])
        return replace(span, days=dates)

    def clip(self, effect: Effect, times: pd.DatetimeIndex) -> tuple[list[Effect], str]:
        """Returns an effect within the times that the row is about.

        Args:
            effect: As the text says it.
            times: Of history and horizon.

        Returns:
            What is left of it, and why nothing is; empty if something is.
        """
        inside = (self.start is None or self.start <= times[0]) and (self.end is None or self.end > times[-1])
        if not self.has_span or inside or effect.kind in _WHOLE:
            return [effect], ""
        parts = [effect] if effect.every is None else _list_parts(effect, times)
        left = [kept for part in parts if (kept := self._cut(part)) is not None]
        own = write_span(effect.start, effect.end)
        return (
            left,
            "" if left else f"its time, {own}, lies outside that of its row, {write_span(self.start, self.end)}",
        )

    def _cut(self, effect: Effect) -> Effect | None:
        start = max((t for t in (effect.start, self.start) if t is not None), default=None)
        end = min((t for t in (effect.end, self.end) if t is not None), default=None)
        return (
            None if start is not None and end is not None and end <= start else replace(effect, start=start, end=end)
        )


def write_span(start: pd.Timestamp | None, end: pd.Timestamp | None) -> str:
    """Writes a span: `2024-01-04` for a day, `2024-01-04 08:00 to 2024-01-04 10:00`."""
    if start is not None and end is not None and start == start.normalize() and end == start + _ONE:
        return write_time(start)
    said = [f"from {write_time(start)}"] if start is not None and end is None else []
    if end is not None:
        said = [f"{write_time(start)} to" if start is not None else "to", write_time(end)]
    return " ".join(said)


def _list_parts(effect: Effect, times: pd.DatetimeIndex) -> list[Effect]:
    """Returns each time that an effect comes again within some times."""
    assert effect.start is not None
    assert effect.end is not None
    assert effect.every is not None
    first = max(0, (times[0] - effect.end) // effect.every)
    last = (times[-1] - effect.start) // effect.every
    moves = [k * effect.every for k in range(first, last + 1)]
    return [replace(effect, start=effect.start + by, end=effect.end + by, every=None) for by in moves]
