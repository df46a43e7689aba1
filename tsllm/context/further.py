"""Further kinds of events than those that a reader's roles can say: sums, bounds, delays, trends and others.

The effects come from the writer and not from the text, as in `tsllm.context.foreign`. Wordings are picked, held out
and put together as in `tsllm.context.pairs`; moments are written so that they are exact within the window.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from tsllm.context import wordings as stock
from tsllm.context import wordings_further as words
from tsllm.context import wordings_related as related
from tsllm.context.applying import Window
from tsllm.context.effects import MONTHS, WEEKDAYS, Effect, rise, shorten, write_time
from tsllm.context.following import is_ceiling
from tsllm.context.holidays import name_holiday
from tsllm.context.pairs import PairWriter, Piece

_DAY, _HOUR, _MINUTE = pd.Timedelta(days=1), pd.Timedelta("1h"), pd.Timedelta("1min")
_COUNTS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
# What says that it has begun already, or leaves out the moments that it names.
_INEXACT = (
    "after {start} and before {end}", "since {start} until {end}",
    "started on {start} and went on for about {length}", "kicked off at {start} and continued for {length}",
)  # fmt: skip
_LOOSE = ("{dur}", "{moment}", "{pct}")  # slots of sentences that could deny what an event says
_AGAIN = "again "  # before a kind whose span comes again and again
_MOST_POINTS = 240  # of another series that a text lists
_OPEN = ("delay", "rising", "falling")
_YEARLESS = pd.Timedelta(days=150)  # a date that is nearer than this needs no year
_OF_DAYS = {"like": (words.DAY_SPANS, words.DAY_VERBS), "holiday": (words.HOLIDAY_SPANS, words.HOLIDAY_VERBS)}
Slots = dict[str, tuple[str, str]]
Told = tuple[list[Piece], list[Effect]]


class FurtherWriter(PairWriter):
    """Writes one event of a further kind.

    Args:
        seed: Of all choices.
        held_out: Whether wordings come from the validation part of the stock.
        window: With a fixed step of at most a day.
        step: Its step.
        future: What came, without the event [H]; an event told by another series moves with it.

    Attributes:
        window: As given; an event that is a fault in the history replaces it.

    Example:
        >>> times = pd.date_range("2024-01-01", periods=72, freq="h")
        >>> window = Window(np.arange(48.0), times[:48], times[48:], 24)
        >>> text, effects = FurtherWriter(3, False, window, pd.Timedelta("1h"), np.ones(24)).write_kind("sum")
        >>> [e.kind for e in effects]
        ['add']
    """

    def __init__(self, seed: int, held_out: bool, window: Window, step: pd.Timedelta, future: np.ndarray) -> None:
        super().__init__(seed, held_out)
        self.window, self.step, self.future = window, step, future
        self.times = window.future_times
        self.entity, self.quantity = "the market", "price"

    def write_kind(self, kind: str) -> tuple[str, list[Effect]]:
        """Returns a text about an event of one of `KINDS`, and its effects.

        Raises:
            ValueError: If the kind has no place in the window; `find_kinds` tells.
        """
        if not self.find_kinds([kind]):
            raise ValueError(f"an event of kind {kind!r} has no place in this window; ask find_kinds first")
        before = [self._write_background() for _ in range(self.rng.integers(2))]
        pieces, effects = _WRITERS[kind](self)
        behind = [self._write_distractor() for _ in range(self.rng.integers(2))]
        return self._glue([*before, *pieces, *behind]), effects

    def write_quiet(self) -> str:
        """Returns a text that says nothing about the future."""
        return self._glue([self._write_background(), *(self._write_distractor() for _ in range(self.rng.integers(3)))])

    def find_kinds(self, kinds: Sequence[str]) -> list[str]:
        """Returns those of the kinds that have a place in the window."""
        return [kind for kind in kinds if kind not in _NEEDS or _NEEDS[kind](self)]

    def _glue(self, pieces: list[Piece]) -> str:
        return " ".join(piece.text for piece in pieces)

    # Wordings

    def _pick_words(self, kind: str) -> tuple[str, str, str]:
        kind = "like" if kind == "holiday" else kind.removeprefix(_AGAIN)
        source = words.EFFECTS if kind in words.EFFECTS else stock.EFFECTS
        main, participle, noun = (self._pick(options) for options in source[kind])
        return main, participle, noun

    def _pick_span(self, kind: str) -> tuple[str, str]:
        if kind in _OPEN:
            return self._pick(words.OPEN_SPANS), self._pick(words.OPEN_VERBS)
        if kind.startswith(_AGAIN):
            daily = self.step == _DAY
            spans = words.REPEATED_DAYS if daily else words.REPEATED_SPANS
            verbs = words.REPEATED_DAY_VERBS if daily else words.REPEATED_VERBS
            rhythm = self._pick(words.OFTEN)
            return self._pick(spans).replace("{rhythm}", rhythm), self._pick(verbs).replace("{rhythm}", rhythm)
        if kind in _OF_DAYS:
            spans, verbs = _OF_DAYS[kind]
            return self._pick(spans), self._pick(verbs)
        if kind == "bounds" and self.rng.random() < 0.4:
            return self._pick(words.ALWAYS), self._pick(words.ALWAYS_VERBS)
        return self._pick_exact(stock.SPAN_FORMS), self._pick_exact(stock.SPAN_VERBS)

    def _pick_exact(self, options: Sequence[str]) -> str:
        picked = self._pick(options)
        while picked in _INEXACT:
            picked = self._pick(options)
        return picked

    def _write_background(self) -> Piece:
        picked = self._pick(stock.BACKGROUND)
        while any(slot in picked for slot in _LOOSE):
            picked = self._pick(stock.BACKGROUND)
        return self._fill(picked, {})

    def _write_distractor(self) -> Piece:
        return self._fill(self._pick(words.ELSEWHERE), {})

    # Moments, durations and amounts

    def _draw_time(self) -> pd.Timestamp:
        return self.times[int(self.rng.integers(len(self.times)))]

    def _write_moment(self, t: pd.Timestamp, kind: str = "") -> str:
        """Writes a moment of the window so that it can be none other; `kind` plays no part."""
        if self.step == _DAY:
            return self._write_day(t)
        ahead, clock = t - self.times[0], self._write_clock(t)
        options = [f"{t:%Y-%m-%d %H:%M}", f"{t:%Y-%m-%d %H:%M:%S}"]
        options += [f"{self._write_day(t)} at {clock}", f"{clock} on {self._write_day(t)}"]
        if pd.Timedelta(0) <= ahead < _DAY:
            options += [clock, clock]
        if pd.Timedelta(0) < ahead and self.rng.random() < 0.3:
            options.append(f"{self._write_length(ahead)} after the start of the forecast")
        return self._pick(options, True)

    def _write_clock(self, t: pd.Timestamp) -> str:
        options = [f"{t:%H:%M}", f"{t:%H:%M}", f"{t.hour % 12 or 12}:{t.minute:02d} {'pm' if t.hour >= 12 else 'am'}"]
        if t.minute == 0:
            options.append(f"{t.hour % 12 or 12} {'pm' if t.hour >= 12 else 'am'}")
        if (t.hour, t.minute) == (12, 0):
            options.append("noon")
        return self._pick(options, True)

    def _write_day(self, t: pd.Timestamp) -> str:
        month, day = str(t.month_name()), t.normalize()
        options = [f"{t:%Y-%m-%d}", f"{t.day} {month} {t.year}", f"{month} {t.day}, {t.year}"]
        if abs(day - self.times[0]) < _YEARLESS:
            options += [f"{t.day} {month}", f"{month} {t.day}", f"{t.day_name()}, {t.day} {month}"]
        if pd.Timedelta(0) <= day - self.times[0].normalize() < 7 * _DAY:
            options += [str(t.day_name())] * 2
        return self._pick(options, True)

    def _write_length(self, length: pd.Timedelta) -> str:
        """Writes a duration in its largest whole unit: `90 minutes`, `two days`, `an hour`."""
        for unit, size in (("day", _DAY), ("hour", _HOUR), ("minute", _MINUTE)):
            if length % size == pd.Timedelta(0):
                number = int(length // size)
                if number == 1:
                    return self._pick((f"{'an' if unit == 'hour' else 'a'} {unit}", f"one {unit}", f"1 {unit}"), True)
                return f"{self._write_number(number)} {unit}s"
        raise ValueError(f"a duration of {length} is no whole number of minutes")

    def _write_number(self, number: int) -> str:
        return _COUNTS[number - 1] if 1 <= number <= 12 and self.rng.random() < 0.4 else str(number)

    def _measure_spread(self) -> float:
        """Returns how far the history usually moves; never zero."""
        low, high = np.quantile(self.window.past, [0.1, 0.9])
        return float(high - low) or 0.1 * abs(float(high)) or 1.0

    def _draw_amount(self, least: float, most: float) -> tuple[float, str]:
        """Returns a positive number between about these, and how it is written."""
        drawn = float(self.rng.uniform(least, most))
        digits = max(int(self.rng.integers(3)), 1 - int(np.floor(np.log10(drawn))))
        number = round(drawn, digits)
        written = f"{number:.{digits}f}"
        if digits == 0 and number <= 12:
            written = self._write_number(int(number))
        elif number >= 1000 and self.rng.random() < 0.5:
            written = f"{number:,.{digits}f}"
        return number, written

    # Spans

    def _draw_span(self) -> tuple[Slots, pd.Timestamp, pd.Timestamp]:
        """Returns words for a span of the horizon, its start and the first moment behind it."""
        steps = len(self.times)
        first = int(self.rng.integers(0, steps - 4))
        count = int(self.rng.integers(2, min(13, steps - first)))
        start, end = self.times[first], self.times[first] + count * self.step
        until = end - _DAY if self.step == _DAY else end  # a day that ends a span belongs to it
        return {
            "start": (self._write_moment(start), "start"), "end": (self._write_moment(until), "end"),
            "day": (self._write_day(start), "day"), "length": (self._write_length(end - start), "length"),
        }, start, end  # fmt: skip

    def _tell(self, kind: str, slots: Slots) -> tuple[list[Piece], pd.Timestamp | None, pd.Timestamp | None]:
        """Returns sentences about an effect, and from when up to when it is by these sentences."""
        span, start, end = self._draw_span()
        pieces = self._arrange(kind, span | slots)
        roles = {role for piece in pieces for _, _, role in piece.roles}
        if "day" in roles:
            return pieces, start.normalize(), start.normalize() + _DAY
        if "start" not in roles:
            return pieces, None, None
        return pieces, start, None if kind in _OPEN else end

    # Kinds

    def _write_sum(self) -> Told:
        number, written = self._draw_amount(0.1 * self._measure_spread(), self._measure_spread())
        kind = self._pick(("add", "subtract"), True)
        pieces, start, end = self._tell(kind, {"v": (written, "add")})
        return pieces, [Effect("add", number if kind == "add" else -number, "", start, end)]

    def _write_bounds(self) -> Told:
        past = self.window.past
        while True:
            share = self.rng.uniform([0.05, 0.55], [0.45, 0.95])
            digits = int(self.rng.integers(3)) if self._measure_spread() > 5 else 3
            low, high = (f"{np.quantile(past, q):.{digits}f}" for q in share)
            if float(low) < float(high):
                break
        pieces, start, end = self._tell("bounds", {"low": (low, "floor"), "high": (high, "cap")})
        return pieces, [Effect("floor", float(low), "", start, end), Effect("cap", float(high), "", start, end)]

    def _write_delay(self) -> Told:
        lag = int(self.rng.integers(1, max(2, min(7, len(self.times) // 4))))
        pieces, start, end = self._tell("delay", {"delay": (self._write_length(lag * self.step), "delay")})
        return pieces, [Effect("delay", float(lag), "", start, end)]

    def _write_trend(self) -> Told:
        kind = self._pick(("rising", "falling"), True)
        unit = _DAY if self.step == _DAY else _HOUR
        # Over a day of hours, or a fortnight of days, such a trend adds up to the usual spread or less.
        amount = self._measure_spread() * (unit / self.step) / len(self.times)
        number, written = self._draw_amount(0.2 * amount, amount)
        said = self._pick(("a day", "per day", "every day") if unit == _DAY else ("an hour", "per hour", "every hour"),
                          True)  # fmt: skip
        pieces, start, end = self._tell(kind, {"v": (written, "add"), "unit": (said, "none")})
        number = shorten(number * (self.step / unit))
        return pieces, [Effect("slope", number if kind == "rising" else -number, "", start, end)]

    def _write_periodic(self) -> Told:
        start, length, every, often = self._draw_rhythm()
        kind = self._pick(("zero", "zero", "raise", "lower", "multiply"), True)
        slots: Slots = {
            "often": (often, "none"), "length": (self._write_length(length), "none"),
            "open": (self._write_clock(start), "none"), "close": (self._write_clock(start + length), "none"),
        }  # fmt: skip
        effect = Effect("set", 0.0)
        if kind == "multiply":
            tenths = int(self._pick([k for k in range(2, 31) if k != 10], True))
            effect, slots["v"] = Effect("multiply", tenths / 10), (f"{tenths / 10:.1f}", "none")
        elif kind != "zero":
            percent, written = self._draw_percent()
            effect, slots["v"] = Effect("multiply", rise(kind, percent)), (written, "none")
        return self._arrange(_AGAIN + kind, slots), [replace(effect, start=start, end=start + length, every=every)]

    def _draw_rhythm(self) -> tuple[pd.Timestamp, pd.Timedelta, pd.Timedelta, str]:
        """Returns when something begins, how long it lasts, after what time it comes again, and how that is said."""
        start, length = self._draw_time(), _DAY
        if self.step < _DAY:
            most = self._count_left(start)
            while not most:
                start = self._draw_time()
                most = self._count_left(start)
            length = int(self.rng.integers(1, min(most, 8) + 1)) * self.step
        options = [(7, str(start.day_name()))] * 2 + [(2, f"second day from {self._write_day(start)} on")]
        options += [(1, "day")] * 2 if self.step < _DAY else [(3, f"third day from {self._write_day(start)} on")]
        days, often = options[int(self.rng.integers(len(options)))]
        while days in (1, 7) and start - days * _DAY + length > self.times[0]:
            start -= days * _DAY  # said without a first time, it holds from the first step on
        return start, length, days * _DAY, often

    def _count_left(self, start: pd.Timestamp) -> int:
        """Returns the steps after one that begin on its day."""
        return int((start.normalize() + _DAY - _MINUTE - start) // self.step)

    def _draw_percent(self) -> tuple[int, str]:
        number = int(self.rng.integers(5, 96))
        return number, f"{number}{self._pick(('%', '%', ' %', ' per cent', ' percent'), True)}"

    def _write_fault(self) -> Told:
        past, steps = self.window.past.copy(), len(self.window.past)
        count = int(self.rng.integers(2, min(12, steps // 8) + 1))
        first = int(self.rng.integers(1, steps - count + 1))
        span = slice(first, first + count)
        shapes = ["spike", "stuck"] if np.ptp(past[first - 1 : first + count]) > 0 else ["spike"]
        shape = self._pick([*shapes, "outage"] if past[span].min() > 0 else shapes, True)
        if shape == "spike":
            past[span] += self._measure_spread() * self.rng.uniform(1.5, 5, count)
        else:
            past[span] = 0.0 if shape == "outage" else past[first - 1]
        self.window = replace(self.window, past=past)
        start, end = self.window.times[first], self.window.times[first + count]
        until = end - _DAY if self.step == _DAY else end
        slots = {
            "start": (self._write_moment(start), "start"), "end": (self._write_moment(until), "end"),
            "length": (self._write_length(end - start), "length"),
        }  # fmt: skip
        form = self._pick(words.FAULT_FORMS).replace("{main}", self._pick(words.FAULTS[shape]))
        pieces = [self._fill(self._open(form.replace("{span}", self._pick(words.FAULT_SPANS))), slots)]
        ends = self._pick(words.FAULT_ENDS)
        return [*pieces, Piece(ends, [])], [Effect("ignore", start=start, end=end)]

    def find_similar(self) -> list[tuple[pd.Timestamp, str]]:
        """Returns days of the horizon with another weekday of which the history holds every step twice."""
        past = self.window.past_times
        seen = Counter(zip(past.dayofweek, past - past.normalize(), strict=True))
        found = []
        for day in self.times.normalize().unique():
            clocks = (self.times - day)[self.times.normalize() == day]
            for number, name in enumerate(WEEKDAYS):
                if number != day.dayofweek and all(seen[number, clock] >= 2 for clock in clocks):
                    found.append((day, name))
        return found

    def find_holidays(self) -> list[pd.Timestamp]:
        """Returns holidays of the horizon on other days than a Sunday, where the history holds two Sundays."""
        return [day for day, name in self.find_similar() if name == "Sunday" and name_holiday(day)]

    def _write_like(self) -> Told:
        options = self.find_similar()
        day, name = options[int(self.rng.integers(len(options)))]
        slots = {"day": (self._write_day(day), "day"), "w": (name, "none")}
        return self._arrange("like", slots), [Effect("like", None, name, day, day + _DAY)]

    def find_months(self) -> list[str]:
        """Returns months other than the horizon's that hold every step twice, on each side of the week."""
        past, found = self.window.past_times, []
        seen = Counter(zip(past.month, past.dayofweek >= 5, past - past.normalize(), strict=True))
        wanted = set(zip(self.times.dayofweek >= 5, self.times - self.times.normalize(), strict=True))
        for number, name in enumerate(MONTHS, 1):
            if number not in self.times.month and all(seen[number, *place] >= 2 for place in wanted):
                found.append(name)
        return found

    def _write_month(self) -> Told:
        name = str(self._pick(self.find_months(), True))
        pieces, start, end = self._tell("month", {"m": (name, "none")})
        return pieces, [Effect("like", None, name, start, end)]

    def _write_holiday(self) -> Told:
        options = self.find_holidays()
        day = options[int(self.rng.integers(len(options)))]
        slots = {"day": (self._write_day(day), "day"), "w": ("Sunday", "none"), "h": (str(name_holiday(day)), "none")}
        effects = [Effect("like", None, "Sunday", day, day + _DAY)]
        if self.rng.random() < 0.4:
            return [self._fill(self._open(self._pick(words.HOLIDAYS)), slots)], effects
        return self._arrange("holiday", slots), effects

    def _write_follow(self) -> Told:
        series = np.r_[self.window.past, self.future]
        first, steps = len(self.window.past), len(self.times)
        begins = int(self.rng.integers(0, steps // 2))
        lasts = int(self.rng.integers(2, steps - begins + 1))
        moved = self.rng.uniform(0.3, 1.2) * self._measure_spread() * self._pick((-1, 1), True)
        series[first + begins : first + begins + lasts] += moved
        if self.window.past.min() >= 0:
            series = np.maximum(series, 0.0)  # as a forecast that follows is kept from going below
        for _ in range(20):
            name, low, high, digits = self._pick(related.COMPANIONS)
            share = (series - series.min()) / np.ptp(series)
            if self.rng.random() < 0.4:
                share = 1 - share  # the more of it, the less
            values = [f"{low + (high - low) * s:.{digits}f}" for s in share]
            x = np.array(values, float)
            # What looks like the most that was possible would hold the series down.
            if not (is_ceiling(self.window.past, x) and (x < series)[first:].any()):
                break
        times = self.window.times
        form = self._pick(related.POINTS)
        points = (", " if "," not in form else "; ").join(
            form.format(t=write_time(t), v=v) for t, v in zip(times, values, strict=True)
        )
        frame = self._open(self._pick(related.FOLLOWS)) + "."
        told = tuple((t, float(v)) for t, v in zip(times, values, strict=True))
        named = name.removeprefix("the ")
        return [self._fill(frame, {"x": (name, "none"), "points": (points, "none")})], [
            Effect("follow", None, named, points=told)
        ]

    def _write_lagged(self) -> Told:
        steps = len(self.times)
        lag = int(self.rng.integers(1, max(2, min(7, steps // 4))))
        at = int(self.rng.integers(0, steps - lag - 2))
        count = int(self.rng.integers(2, min(13, steps - at - lag + 1)))
        start, length = self.times[at + lag], count * self.step
        kind = self._pick(("add", "subtract", "raise", "lower"), True)
        if kind in {"raise", "lower"}:
            percent, written = self._draw_percent()
            effect = Effect("multiply", rise(kind, percent))
        else:
            number, written = self._draw_amount(0.1 * self._measure_spread(), self._measure_spread())
            effect = Effect("add", number if kind == "add" else -number)
        waited = self._write_length(lag * self.step)
        slots = {
            "v": (written, "none"), "moment": (self._write_moment(self.times[at]), "none"), "lag": (waited, "none"),
            "Lag": (waited[0].upper() + waited[1:], "none"), "length": (self._write_length(length), "none"),
        }  # fmt: skip
        frame = self._pick(related.LAGGED).replace("{lasting}", self._pick(related.LASTING))
        frame = frame.replace("{main}", self._pick_words(kind)[0]).replace("{cause}", self._pick(stock.CAUSES))
        return [self._fill(self._open(frame), slots)], [replace(effect, start=start, end=start + length)]

    def _write_place(self) -> Told:
        kind = self._pick(("raise", "lower", "multiply"), True)
        if kind == "multiply":
            tenths = int(self._pick([k for k in range(2, 41) if k != 10], True))
            effect, written = Effect("multiply", tenths / 10), f"{tenths / 10:.1f}"
        else:
            percent, written = self._draw_percent()
            effect = Effect("multiply", rise(kind, percent))
        span, start, end = self._draw_span()
        form = self._pick_exact(stock.SPAN_FORMS)
        if "{day}" in form:
            start, end = start.normalize(), start.normalize() + _DAY
        frame = self._pick(related.PLACES).replace("{told}", self._pick(related.TOLD[kind])).replace("{span}", form)
        frame = frame.replace("{place}", self._pick(related.PLACE_NAMES)).replace("{cause}", self._pick(stock.CAUSES))
        return [self._fill(self._open(frame), span | {"v": (written, "none")})], [
            replace(effect, start=start, end=end)
        ]


def _varies(writer: FurtherWriter) -> bool:
    """Tells whether two bounds can be drawn apart."""
    low, high = np.quantile(writer.window.past, [0.1, 0.9])
    return bool(high - low > 0.01)


def _lists(writer: FurtherWriter) -> bool:
    """Tells whether another series can be listed that moves as the history does."""
    return (
        len(writer.window.times) <= _MOST_POINTS and len(writer.window.past) >= 24 and np.ptp(writer.window.past) > 0
    )


_WRITERS: dict[str, Callable[[FurtherWriter], Told]] = {
    "sum": FurtherWriter._write_sum,
    "bounds": FurtherWriter._write_bounds,
    "delay": FurtherWriter._write_delay,
    "trend": FurtherWriter._write_trend,
    "periodic": FurtherWriter._write_periodic,
    "fault": FurtherWriter._write_fault,
    "like": FurtherWriter._write_like,
    "month": FurtherWriter._write_month,
    "holiday": FurtherWriter._write_holiday,
    "follow": FurtherWriter._write_follow,
    "lagged": FurtherWriter._write_lagged,
    "place": FurtherWriter._write_place,
}
# What a kind asks of a window, where it asks anything.
_NEEDS: dict[str, Callable[[FurtherWriter], bool]] = {
    "bounds": _varies,
    "fault": lambda writer: len(writer.window.past) >= 16,
    "like": lambda writer: bool(writer.find_similar()),
    "month": lambda writer: bool(writer.find_months()),
    "holiday": lambda writer: bool(writer.find_holidays()),
    "follow": _lists,
}
FURTHER = tuple(_WRITERS)
# What is said of each kind, beside the effects of every language model (`tsllm.context.grammar.TAUGHT`).
SAID = {
    "delay": "delay",
    "trend": "slope",
    "fault": "ignore",
    "like": "like",
    "month": "like",
    "holiday": "like",
    "follow": "follow",
}
