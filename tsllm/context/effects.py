"""Effects: what a text says about a series, as a short list that people and programs can read, edit and apply.

One effect a line:

    multiply 4 from 2013-05-28 12:00 to 2013-05-28 14:00
    set 0 from 2024-01-18 08:00 to 2024-01-18 14:00 every 7 d
    cap 13.2
    ignore from 2024-01-16 06:00 to 2024-01-16 07:00
    like Sunday from 2024-07-04 to 2024-07-05
    follow load: 2024-01-01=0.1, 2024-01-02=0.4

`from` belongs to the span, `to` is the first moment after it; without them an effect is about the whole horizon. The
empty list changes nothing.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

# kind -> (needs a number, needs a word, what it does)
KINDS: dict[str, tuple[bool, bool, str]] = {
    "multiply": (True, False, "the forecast times the number"),
    "add": (True, False, "the forecast plus the number"),
    "set": (True, False, "the number instead of the forecast"),
    "cap": (True, False, "nothing above the number"),
    "floor": (True, False, "nothing below the number"),
    "delay": (True, False, "what would come in the span comes so many steps later; the last value before it fills in"),
    "slope": (True, False, "the number added for every step since the start, on top of the forecast"),
    "total": (True, False, "steps of a year sum up to about the number"),
    "peak": (False, True, "the month in which most of a year's total falls"),
    "like": (False, True, "as on that weekday in the history"),
    "ignore": (False, False, "the span of the history misleads: fill it in before forecasting"),
    "daylight": (False, False, "nothing before sunrise and after sunset, most around noon"),
    "follow": (False, True, "moves with another series, given as time=value"),
    "through": (True, True, "what the series comes to when the series followed has the value of the word"),
    "states": (False, True, "depends on a state, given as time=word"),
}
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
          "December")  # fmt: skip
_UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86400}
_LINE = re.compile(
    r"(?P<kind>[a-z]+)(?: (?P<number>-?[\d.]+(?:e[+-]?\d+)?)(?![\w-]))?(?: (?P<word>(?!from |to |every )[^:=]+?))?"
    r"(?: from (?P<start>[\d:. T-]+?))?(?: to (?P<end>[\d:. T-]+?))?(?: every (?P<every>[\d.]+ (?:s|min|h|d)))?"
    r"(?:: (?P<points>.+))?$"
)


@dataclass(frozen=True)
class Effect:
    """One thing that a text says.

    Attributes:
        kind: One of `KINDS`.
        number: In the units of the series, or a factor; None where the kind has none.
        word: A weekday, a month, or the name of another series; empty where the kind has none.
        start: First moment of the span; None = from the start of the horizon.
        end: First moment after the span; None = to its end.
        every: The span comes again after this time, and again; None = once.
        points: Times and values of `follow` and `states`, sorted; a value holds until the next point.
    """

    kind: str
    number: float | None = None
    word: str = ""
    start: pd.Timestamp | None = None
    end: pd.Timestamp | None = None
    every: pd.Timedelta | None = None
    points: tuple[tuple[pd.Timestamp, float | str], ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"there is no effect {self.kind!r}; known: {', '.join(KINDS)}")
        needs_number, needs_word, _ = KINDS[self.kind]
        if needs_number != (self.number is not None) or needs_word != bool(self.word):
            raise ValueError(
                f"effect {self.kind!r} takes {'a' if needs_number else 'no'} number and {'a' if needs_word else 'no'} "
                f"word, got number {self.number} and word {self.word!r}"
            )
        if self.number is not None and not np.isfinite(self.number):
            raise ValueError(f"effect {self.kind!r} has the number {self.number}; it must be finite")
        if self.kind == "through":
            float(self.word)
        known = {"like": WEEKDAYS, "peak": MONTHS}.get(self.kind)
        if known and self.word not in known:
            raise ValueError(f"effect {self.kind!r} takes one of {', '.join(known)}, got {self.word!r}")
        if self.start is not None and self.end is not None and self.end <= self.start:
            raise ValueError(f"effect {self.kind!r} ends ({self.end}) before it starts ({self.start})")
        if self.every is not None and (self.start is None or self.end is None or self.every <= pd.Timedelta(0)):
            raise ValueError(
                f"effect {self.kind!r} comes every {self.every}, so it needs `from`, `to` and a positive time"
            )
        if bool(self.points) != (self.kind in {"follow", "states"}):
            raise ValueError(
                f"effect {self.kind!r} got {len(self.points)} points time=value; only `follow` and `states` have them"
            )

    def covers(self, times: pd.DatetimeIndex) -> np.ndarray:
        """Tells for each time whether the span holds it: [H] of bool."""
        inside = np.ones(len(times), dtype=bool)
        if self.every is not None and self.start is not None and self.end is not None:
            since = times - self.start
            return np.asarray((since >= pd.Timedelta(0)) & (since % self.every < self.end - self.start))
        if self.start is not None:
            inside &= np.asarray(times >= self.start)
        if self.end is not None:
            inside &= np.asarray(times < self.end)
        return inside

    def __str__(self) -> str:
        parts = [self.kind]
        if self.number is not None:
            parts.append(f"{self.number!r}".removesuffix(".0"))
        if self.word:
            parts.append(self.word)
        parts += [f"{name} {_write_time(t)}" for name, t in (("from", self.start), ("to", self.end)) if t is not None]
        if self.every is not None:
            parts.append(f"every {write_duration(self.every)}")
        line = " ".join(parts)
        if self.points:
            line += ": " + ", ".join(
                f"{_write_time(t)}={v if isinstance(v, str) else repr(v)}" for t, v in self.points
            )
        return line


def write_effects(effects: Sequence[Effect]) -> str:
    """Writes effects, one a line; the empty list becomes the empty text."""
    return "\n".join(map(str, effects))


def parse_effects(text: str) -> list[Effect]:
    """Reads what `write_effects` writes, or a person.

    Raises:
        ValueError: If a line is no effect; the text names the line.
    """
    effects = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            effects.append(_parse_line(line.strip()))
        except ValueError as error:
            raise ValueError(f"line {number} ({line.strip()!r}) is no effect: {error}") from error
    return effects


def _parse_line(line: str) -> Effect:
    match = _LINE.fullmatch(line)
    if match is None:
        raise ValueError("expected `kind [number] [word] [from TIME] [to TIME] [every N h] [: TIME=value, ...]`")
    points = []
    for item in (match["points"] or "").split(", ") if match["points"] else ():
        time, sign, value = item.partition("=")
        if not sign:
            raise ValueError(f"{item!r} is not TIME=value")
        points.append((pd.Timestamp(time), value if match["kind"] == "states" else float(value)))
    return Effect(
        match["kind"],
        None if match["number"] is None else float(match["number"]),
        match["word"] or "",
        None if match["start"] is None else pd.Timestamp(match["start"]),
        None if match["end"] is None else pd.Timestamp(match["end"]),
        None if match["every"] is None else parse_duration(match["every"]),
        tuple(points),
    )


def write_duration(duration: pd.Timedelta) -> str:
    """Writes a duration in its largest whole unit: `90 min`, `15 d`."""
    seconds = duration.total_seconds()
    unit = next((u for u in ("d", "h", "min") if seconds % _UNITS[u] == 0), "s")
    return f"{seconds / _UNITS[unit]:g} {unit}"


def parse_duration(text: str) -> pd.Timedelta:
    """Reads `90 min`, `15 d`."""
    number, unit = text.split(" ")
    return pd.Timedelta(seconds=float(number) * _UNITS[unit])


def _write_time(time: pd.Timestamp) -> str:
    if time.microsecond or time.second:
        return time.isoformat(" ")
    return f"{time:%Y-%m-%d}" if time == time.normalize() else f"{time:%Y-%m-%d %H:%M}"
