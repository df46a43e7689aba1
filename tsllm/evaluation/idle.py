"""Why a text changed no forecast of a back-test."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from tsllm.context.applying import Window
from tsllm.context.contract import END, PUBLISHED, START, TEXT
from tsllm.context.effects import Effect
from tsllm.context.lexer import find_mentions
from tsllm.context.notes import Note, write_span
from tsllm.context.readers import Idle, ProseReader, sort_effects
from tsllm.escape import one_line
from tsllm.forecasting.base_paths import iterate_windows
from tsllm.types import CUTOFF, ID, TIME

_READ, _SERIES, _LENGTH = 3, 3, 80  # windows that a text is read in, series that are named, characters of a text
Horizons = dict[Any, list[tuple[Any, pd.Series]]]  # series -> cutoffs and the times of their horizons
Sorted = tuple[list[Effect], list[Idle]]
Reads = Callable[["Place"], Sorted]  # what a text says at a place, and what of it does nothing


@dataclass(frozen=True)
class Place:
    """A row with a text at one cutoff.

    Attributes:
        row: `unique_id, text, published, start, end`.
        cutoff: Last time of the history.
        times: Of the horizon.
    """

    row: Mapping[str, Any]
    cutoff: Any
    times: pd.Series

    @property
    def note(self) -> Note:
        """The row as it is read."""
        return Note.read(self.row[TEXT], self.row[PUBLISHED], self.row[START], self.row[END])

    def open_window(self, df: pd.DataFrame, season: int) -> Window:
        """Returns history and times of the series.

        Args:
            df: The data of the back-test.
            season: Steps in a season.
        """
        own = df[(df[ID] == self.row[ID]) & (df[TIME] <= self.cutoff)]
        ((_, window),) = iterate_windows(own, pd.DataFrame({ID: self.row[ID], TIME: self.times.to_numpy()}), season)
        return window

    def sort(self, df: pd.DataFrame, season: int, reader: ProseReader | None) -> Sorted:
        """Returns what a reader finds in the text, and what of it changes nothing, with the reasons."""
        return sort_effects(self.note, self.open_window(df, season), reader)


def list_horizons(frame: pd.DataFrame) -> Horizons:
    """Returns for each series of a back-test its cutoffs in their order, each with the times that follow."""
    horizons: Horizons = {}
    for (series, cutoff), times in frame.groupby([ID, CUTOFF])[TIME]:
        horizons.setdefault(series, []).append((cutoff, times))
    return horizons


def find_places(row: Mapping[str, Any], horizons: Horizons) -> list[Place]:
    """Returns the cutoffs at which a row may be read.

    Args:
        row: As in `Place`.
        horizons: Of the back-test.
    """
    return [Place(row, cutoff, times) for cutoff, times in horizons[row[ID]] if not row[PUBLISHED] > cutoff]


def explain_silence(rows: Iterable[Mapping[str, Any]], horizons: Horizons, reads: Reads | None) -> str:
    """Says why a text changed no forecast, with the series.

    Args:
        rows: All rows with the text.
        horizons: Of the back-test.
        reads: Reads the text; None = the model does it itself and says no effects.

    Returns:
        The reasons, each behind the series that it holds for; of rows with the same kind of reason the first one's.
    """
    kinds: dict[str, list[tuple[str, str]]] = {}
    for row in rows:
        kind, why = _explain(row, horizons, reads)
        kinds.setdefault(kind, []).append((str(row[ID]), why))
    return "; ".join(map(_join, kinds.values()))


def _join(reasons: Sequence[tuple[str, str]]) -> str:
    """Says one kind of reason of several rows, each with its series."""
    series, why = reasons[0]
    if len({why for _, why in reasons}) > 1:
        return f"{len(reasons)} rows, the first of {one_line(series)}: {why}"
    distinct = list(dict.fromkeys(name for name, _ in reasons))
    more = f" and {len(distinct) - _SERIES} more series" if len(distinct) > _SERIES else ""
    return f"{', '.join(map(one_line, distinct[:_SERIES]))}{more}: {why}"


def _explain(row: Mapping[str, Any], horizons: Horizons, reads: Reads | None) -> tuple[str, str]:
    """Returns the kind of reason, and the reason."""
    places = find_places(row, horizons)
    if not places:
        last = horizons[row[ID]][-1][0]
        return "late", f"published at {row[PUBLISHED]}, after the last cutoff, {last}"
    about = [place for place in places if place.note.is_about(place.times.iloc[0], place.times.iloc[-1])]
    if not about:
        span = write_span(places[0].note.start, places[0].note.end)
        return "elsewhere", f"its row is about {span}, which no window that may read it forecasts; {_describe(places)}"
    if reads is None:
        return "same", "the model read it, and forecast the same"
    read = [reads(place) for place in about[:_READ]]
    effects = next((effects for effects, _ in read if effects), [])
    if effects:
        said = "; ".join(map(str, effects))
        return "fulfilled", f"understood as {shorten(said)}, which the forecast fulfilled without it"
    idle = next((idle for _, idle in read if idle), [])
    if idle:
        left = "; ".join(f"{shorten(str(what))}: {why}" for what, why in idle)
        return "left out", f"{left}; {_describe(about)}"
    named = [mention.text for mention in find_mentions(row[TEXT])]
    if named:
        words = ", ".join(map(repr, named[:_SERIES]))
        why = f"not understood: it names {words}, but no sentence that says what changes, how and when was read"
        return "not understood", why
    return "no news", "no news in it: it names no number and no time, and nothing was read"


def _describe(places: Sequence[Place]) -> str:
    """Says which windows may read a row."""
    first, last = places[0].times, places[-1].times
    if len(places) == 1:
        return f"the one window that may read it is {first.iloc[0]} to {first.iloc[-1]}"
    return f"the {len(places)} windows that may read it are {first.iloc[0]} to {first.iloc[-1]} and later ones, " + (
        f"the last to {last.iloc[-1]}"
    )


def shorten(text: str, length: int = _LENGTH) -> str:
    """Returns a text in one line of at most so many characters."""
    line = one_line(text)
    return line if len(line) <= length else f"{line[: length - 3]}..."
