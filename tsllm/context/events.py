"""Synthetic events on real series: a window, a text about its horizon, and the future as the text changes it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tsllm.context.applying import Window, apply_effects
from tsllm.context.effects import Effect
from tsllm.context.foreign import TONGUES, ForeignWriter
from tsllm.context.further import FURTHER, FurtherWriter
from tsllm.context.pairs import PairWriter
from tsllm.context.reading import Reading, assemble

KINDS = ("multiply", "factor", "raise", "lower", "set", "cap", "floor", "zero")
SHORTEST = 8  # steps of a horizon in which a span of some steps finds room
_DAY = pd.Timedelta(days=1)


@dataclass(frozen=True)
class Event:
    """A window that something is said about.

    Attributes:
        window: History and times; with a fault in its history where the text tells of one.
        text: What is said.
        effects: What it means; empty = nothing.
        truth: The future as it comes [H].
        kind: Which of `KINDS` it is; empty where nothing is told, or in another way.
    """

    window: Window
    text: str
    effects: list[Effect]
    truth: np.ndarray
    kind: str = ""


class EventWriter(PairWriter):
    """Writes events that lie inside a window's horizon.

    Args:
        seed: Of all choices.
        held_out: Whether wordings come from the validation part of the stock.
        window: Of data with a fixed step, of at most a day.
        kinds: Of `KINDS`, one of which is drawn.
        fold: As in `PairWriter`.
        old_forms: As in `PairWriter`.

    Raises:
        ValueError: If the step is another, or the horizon is too short.
    """

    def __init__(
        self, seed: int, held_out: bool, window: Window, kinds: Sequence[str] = KINDS, fold: int = 4,
        old_forms: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(seed, held_out, fold=fold, old_forms=old_forms)
        self.kinds, self.kind = tuple(kinds), ""
        times = window.future_times
        steps = set(times[1:] - times[:-1])
        self.step = min(steps, default=pd.Timedelta(0))
        if (
            len(times) < SHORTEST
            or len(steps) != 1
            or not pd.Timedelta("1min") <= self.step <= _DAY
            or _DAY % self.step
        ):
            raise ValueError(
                f"events are written for at least {SHORTEST} steps ahead, all of the same minutes, hours or a day; "
                f"the window has {len(times)} steps from {times[0]} to {times[-1]}"
            )
        self.window = window

    def _draw_time(self) -> pd.Timestamp:
        return self.window.future_times[int(self.rng.integers(len(self.window.future_times)))]

    def _make_span(self) -> dict[str, tuple[str, str]]:
        steps = len(self.window.future_times)
        first = int(self.rng.integers(0, steps - 4))
        count = int(self.rng.integers(2, min(13, steps - first)))
        start, length = self.window.future_times[first], count * self.step
        daily = self.step == _DAY
        kind = self._pick(
            ("date", "date", "short", "weekday") if daily else ("iso", "iso_seconds", "long", "clock"), True
        )
        end = start + length - (_DAY if daily else pd.Timedelta(0))  # a day that ends a span belongs to it
        return (
            super()._make_span()
            | ({} if daily else self._write_hours(start, end))
            | {
                "start": (self._write_moment(start, kind), "start"),
                "end": (self._write_moment(end, kind), "end"),
                "day": (self._write_moment(start, self._pick(("date", "short", "weekday"), True)), "day"),
                "length": (self._write_length(length), "length"),
            }
        )

    def _write_length(self, length: pd.Timedelta) -> str:
        """Writes a duration in its largest whole unit."""
        for unit, size in (("days", _DAY), ("hours", pd.Timedelta("1h")), ("minutes", pd.Timedelta("1min"))):
            if length % size == pd.Timedelta(0) and length >= 2 * size:
                return f"{self._write_number(length // size)} {unit}"
        return f"{length // pd.Timedelta('1min')} minutes"

    def _write_value(self, role: str) -> tuple[str, str]:
        """Writes a value that the series may take."""
        if role == "multiply":
            return f"{self.rng.uniform(0.2, 3):.1f}", role
        if role in {"raise", "lower"}:
            return self._write_percent(), role
        low, high = np.quantile(self.window.past, [0.1, 0.9])
        return f"{self.rng.uniform(low, high):.{self.rng.integers(3)}f}", role

    def write_day(self, quiet: bool) -> Reading:
        """Returns a text about the horizon with its roles: one event, or none."""
        self.entity, self.quantity = "the market", "price"
        pieces = [self._write_background() for _ in range(self.rng.integers(2))]
        if not quiet:
            kind = self.kind = self.kinds[int(self.rng.integers(len(self.kinds)))]
            slots = self._make_span()
            if kind == "factor":
                slots |= {"f": (self._pick(("double", "triple", "halve")), "multiply"), "g": ("twice", "multiply")}
            elif kind != "zero":
                slots["v"] = self._write_value(kind)
            pieces += self._arrange(kind, slots)
        pieces += [self._write_distractor() for _ in range(self.rng.integers(2))]
        return self._join(pieces or [self._write_background()])


def write_event(
    window: Window, future: np.ndarray, seed: int, held_out: bool, quiet: bool, language: str = "en",
    kinds: Sequence[str] = KINDS, fold: int = 4, old_forms: bool = False,
) -> Event | None:  # fmt: skip
    """Writes one event.

    Args:
        window: Of data with a fixed step, of at most a day.
        future: What came, without the event [H].
        seed: Of the text.
        held_out: Whether wordings come from the validation part.
        quiet: Whether nothing is said that would change the future.
        language: `en`, or one of `tsllm.context.foreign.TONGUES`, whose few wordings are all alike.
        kinds: What may be told, of `KINDS` and of `tsllm.context.further.FURTHER`; one that has a place in the window
            is drawn. Other languages have those of `KINDS` alone.
        fold: As in `PairWriter`; further kinds and other languages know 4 alone.
        old_forms: As in `PairWriter`, likewise.

    Returns:
        None where the grammar cannot place the event, such as a weekday on another day, or a quiet text says one, or
        no kind has a place in the window, such as a holiday where there is none.

    Raises:
        ValueError: As `EventWriter`, for a kind or language that there is not, or further kinds in other languages.
    """
    check_kinds(kinds, [language])
    if set(kinds) & set(FURTHER):
        return _write_of(kinds, window, future, seed, held_out, quiet)
    writer = EventWriter(seed, held_out, window, kinds, fold, old_forms)
    if language == "en":
        reading = writer.write_day(quiet)
        text, effects = reading.text, assemble(reading, window.future_times, window.past_times)
    else:
        text, effects = ForeignWriter(writer.rng, language, window).write(quiet)
    if quiet == bool(effects):
        return None
    return Event(window, text, effects, apply_effects(window, effects, future[None])[0], writer.kind)


def check_kinds(kinds: Sequence[str], languages: Sequence[str] = ("en",)) -> None:
    """Checks that kinds and languages of events exist, and go together.

    Args:
        kinds: Of `KINDS` and of `tsllm.context.further.FURTHER`.
        languages: In which they are to be told.

    Raises:
        ValueError: If they do not.
    """
    unknown = [kind for kind in kinds if kind not in (*KINDS, *FURTHER)]
    if unknown or not kinds:
        named = f"events have no kind {unknown[0]!r}" if unknown else "no kind of event is asked for"
        raise ValueError(f"{named}; choose of {', '.join((*KINDS, *FURTHER))}")
    foreign = [language for language in languages if language != "en"]
    for language in foreign:
        if language not in TONGUES:
            raise ValueError(f"events are not written in {language!r}; choose one of {', '.join(['en', *TONGUES])}")
    if foreign and tuple(kinds) != KINDS:
        raise ValueError(f"kinds of events are chosen in English alone; leave kinds out, or {', '.join(foreign)}")


def _write_of(
    kinds: Sequence[str], window: Window, future: np.ndarray, seed: int, held_out: bool, quiet: bool
) -> Event | None:
    """Writes an event of kinds of which some are further ones."""
    step = EventWriter(seed, held_out, window).step
    writer = FurtherWriter(seed, held_out, window, step, future)
    possible = writer.find_kinds(kinds)
    if not possible:
        return None
    kind = possible[int(np.random.default_rng([seed, len(possible)]).integers(len(possible)))]
    if kind in KINDS:
        return write_event(window, future, seed, held_out, quiet, kinds=(kind,))
    if quiet:
        return Event(window, writer.write_quiet(), [], future)
    text, effects = writer.write_kind(kind)
    return Event(writer.window, text, effects, apply_effects(writer.window, effects, future[None])[0])


def write_events(
    y: np.ndarray, times: pd.DatetimeIndex, ends: list[int], context: int, h: int, season: int, seed: int,
    held_out: bool = False, quiet: float = 0.2, languages: Sequence[str] = ("en",),
    kinds: Sequence[str] = KINDS,
) -> Iterator[Event]:  # fmt: skip
    """Writes an event for each window without gaps.

    Args:
        y: A series [T].
        times: Its times [T].
        ends: First steps of the horizons.
        context: L, steps of history.
        h: Steps ahead.
        season: Steps in a season.
        seed: Of texts and of which windows are quiet; equal arguments give equal events.
        held_out: Whether wordings come from the validation part.
        quiet: Share of the windows of which nothing is told.
        languages: One of them, drawn, for each window; all but English are held out unless they are named.
        kinds: As `write_event`.

    Raises:
        ValueError: As `write_event`.
    """
    for end in ends:
        past, future = y[end - context : end], y[end : end + h]
        if not (np.isfinite(past).all() and np.isfinite(future).all()):
            continue
        window = Window(past, times[end - context : end], times[end : end + h], season)
        rng = np.random.default_rng([seed, end])
        event_seed, is_quiet = int(rng.integers(2**31)), bool(rng.random() < quiet)
        language = languages[int(rng.integers(len(languages)))]
        event = write_event(window, future, event_seed, held_out, is_quiet, language, kinds)
        if event is not None:
            yield event
