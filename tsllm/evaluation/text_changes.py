"""What texts did in a back-test: each by itself at one cutoff, its effects, its words, and another in its place."""

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tsllm.context.contract import END, PUBLISHED, START, TEXT, Context
from tsllm.context.effects import write_effects
from tsllm.data.frequency import default_season
from tsllm.evaluation.idle import Place, Sorted, explain_silence, list_horizons
from tsllm.evaluation.windows import Windows
from tsllm.forecasting.base import Forecaster
from tsllm.forecasting.context import ContextForecaster
from tsllm.forecasting.text import TextForecaster
from tsllm.forecasting.words import weigh_words
from tsllm.types import CUTOFF, ID, TARGET, TIME

MOST = 5  # texts that are looked at closely
ITS_OWN = "(the model reads it itself)"
# Says nothing about any series; it is cut to the length of the text that it replaces.
FILLER = "This passage stands here to be as long as the other and speaks of old books, of music and of long walks. "


@dataclass(frozen=True)
class TextChange:
    """What one text did to the forecast of a series from one cutoff, read by itself.

    Attributes:
        series: Name of the series.
        cutoff: Last time of the history: the one with the largest change.
        text: The whole text.
        effects: What was understood, one effect a line; `ITS_OWN` if the model reads without saying effects.
        forecast: Columns `ds, before, after`.
        words: As `weigh_words` returns it, one row a sentence.
        swapped: Mean absolute difference between the forecasts with the text and with `other` in its place.
        other: What was put in its place: another text of the back-test, else words that say nothing, of its length.
        other_effects: What was understood of that there, as `effects`; empty = nothing.
    """

    series: Any
    cutoff: Any
    text: str
    effects: str
    forecast: pd.DataFrame
    words: pd.DataFrame
    swapped: float
    other: str
    other_effects: str

    @property
    def change(self) -> float:
        """Mean absolute difference that the text makes, in the units of the series."""
        return float((self.forecast["after"] - self.forecast["before"]).abs().mean())


@dataclass(frozen=True)
class TextChanges:
    """What the texts of a back-test did to one model.

    Attributes:
        model: Its name.
        changes: Of the texts that changed most, the largest change first; at most `MOST`.
        changed: How many different texts changed a forecast.
        idle: Text that changed none -> why.
        scores: Mean absolute errors over the windows that the texts changed: how many windows, with and without the
            texts; None if there are none, or the plain model does not stand beside it.
        lost: Texts that could not be looked at, with the error.
        beside: Whether the plain model stands beside it.
    """

    model: str
    changes: list[TextChange]
    changed: int
    idle: dict[str, str]
    scores: tuple[int, float, float] | None
    lost: list[str]
    beside: bool = True


class _Remembering(Forecaster):
    """A base that forecasts the same history once, because only the texts change between its forecasts."""

    def __init__(self, base: Forecaster) -> None:
        self.base, self.alias = base, base.alias
        self.covariates, self.past_covariates = base.covariates, base.past_covariates
        self._made: dict[Any, pd.DataFrame] = {}

    def predict(
        self,
        df: pd.DataFrame | None = None,
        h: int | None = None,
        level: Sequence[float] | None = None,
        X_df: pd.DataFrame | None = None,
    ) -> pd.DataFrame:
        """Returns the base's forecast."""
        values = b"" if df is None else pd.util.hash_pandas_object(df, index=False).to_numpy().tobytes()
        key = (values, h, tuple(level or ()))
        if key not in self._made:
            self._made[key] = self.base.predict(df, h, level, X_df)
        return self._made[key].copy()


@dataclass(frozen=True)
class _Place:
    """A text at a window.

    Attributes:
        series: Of the text.
        text: Itself.
        published: When; NaT = not given.
        start: From when it is about; NaT = not given.
        end: Until when.
        number: Of the window, 0 = the first.
        cutoff: Of the window.
        times: Of the window's horizon.
        moved: Mean absolute difference between the told and the plain forecast there.
    """

    series: Any
    text: str
    published: Any
    start: Any
    end: Any
    number: int
    cutoff: Any
    times: pd.Series
    moved: float

    def table(self, text: str) -> pd.DataFrame:
        """Returns a text in its place as a table that a forecaster takes."""
        row = {ID: self.series, TEXT: text, PUBLISHED: self.published, START: self.start, END: self.end}
        return pd.DataFrame([row])


def examine_texts(model: Any, frame: pd.DataFrame, windows: Windows, freq: Any, plain: str = "") -> TextChanges:
    """Looks at what the standing texts of a model did in a back-test.

    Args:
        model: A forecaster that reads texts, ready to forecast.
        frame: Result of the back-test, with a column of the model.
        windows: The windows of the back-test.
        freq: Frequency of the data.
        plain: Column of the same model without texts; empty = it is not there, and the first cutoff at which a text
            acts is looked at instead of that of the largest change.

    Raises:
        FrameError: If the texts do not fit the data.
    """
    return _Examination(model, frame, windows, freq, plain).run()


class _Examination:
    """The texts of one model in one back-test."""

    def __init__(self, model: Any, frame: pd.DataFrame, windows: Windows, freq: Any, plain: str) -> None:
        self.frame, self.windows, self.freq, self.plain = frame, windows, freq, plain
        table = Context.read(model.context, windows.df, timeless=model.timeless).table
        self.table = table[table[TEXT] != ""]
        self.model = copy(model)
        if isinstance(model, ContextForecaster) and not model.base.reads_texts:
            self.model.base = _Remembering(model.base)
        self.moves = self._measure_moves()

    def run(self) -> TextChanges:
        """Returns what there is to say."""
        acting, idle = self._find_acting()
        acting.sort(key=lambda place: -place.moved)
        most = 1 if isinstance(self.model, TextForecaster) else MOST  # many long completions a forecast
        changes, lost = [], []
        for place in acting[:most]:
            try:
                changes.append(self._look(place))
            except Exception as error:
                lost.append(f"{place.text!r} (series {place.series}): {type(error).__name__}: {error}")
        changes.sort(key=lambda change: -change.change)
        return TextChanges(self.model.alias, changes, len(acting), idle, self._score(), lost, bool(self.plain))

    def _measure_moves(self) -> pd.Series:
        """Returns by series and cutoff how far the told forecast and its bounds lie from the plain; 0 without one."""
        alias, frame = self.model.alias, self.frame
        keys = [frame[ID], frame[CUTOFF]]
        if not self.plain:
            return pd.Series(0.0, index=frame.index).groupby(keys, sort=False).mean()
        ours = [c for c in frame.columns if c == alias or str(c).startswith((f"{alias}-lo-", f"{alias}-hi-"))]
        theirs = [f"{self.plain}{str(c)[len(alias) :]}" for c in ours]
        away = np.abs(frame[ours].to_numpy(float) - frame[theirs].to_numpy(float))
        return pd.Series(np.nan_to_num(away).mean(1), index=frame.index).groupby(keys, sort=False).mean()

    def _find_acting(self) -> tuple[list[_Place], dict[str, str]]:
        """Returns for each text that acts the window that it changed most, and for the others why there is none."""
        acting, idle = [], {}
        horizons = list_horizons(self.frame)
        reads = self._read if isinstance(self.model, ContextForecaster) else None
        for text, rows in self.table.groupby(TEXT, sort=False):
            places = sorted(self._find_readable(rows), key=lambda place: -place.moved)
            first = next((p for p in places if (p.moved > 0 or not self.plain) and self._acts(p)), None)
            if first is not None:
                acting.append(first)
            else:
                told: Any = rows.to_dict("records")
                idle[str(text)] = explain_silence(told, horizons, reads)
        return acting, idle

    def _find_readable(self, rows: pd.DataFrame) -> Iterator[_Place]:
        """Yields the windows at which a text may be read and whose horizon is not wholly before what it is about."""
        for row in rows.to_dict("records"):
            own = self.frame[self.frame[ID] == row[ID]]
            for number, (cutoff, times) in enumerate(own.groupby(CUTOFF)[TIME]):
                known = pd.isna(row[PUBLISHED]) or row[PUBLISHED] <= cutoff
                if known and not row[START] > times.iloc[-1]:
                    moved = float(self.moves[row[ID], cutoff])
                    told = (row[PUBLISHED], row[START], row[END])
                    yield _Place(row[ID], row[TEXT], *told, number, cutoff, times, moved)

    def _acts(self, place: _Place) -> bool:
        """Tells whether a text by itself says something; a model that reads by itself knows what its horizon tells."""
        if not isinstance(self.model, ContextForecaster):
            return bool(pd.isna(place.end) or place.end > place.times.iloc[0])
        row: Any = place.table(place.text).iloc[0].to_dict()
        return bool(self._read(Place(row, place.cutoff, place.times))[0])

    def _read(self, place: Place) -> Sorted:
        """Returns what the reader of the model finds in a text alone, and what of it does nothing."""
        return place.sort(self.windows.df, self.model.season or default_season(self.freq), self.model.reader)

    def _look(self, place: _Place) -> TextChange:
        """Forecasts without the text, with it, with parts of it, and with another in its place."""
        history, h = self.windows.history(place.number), self.windows.h
        future = self.windows.future(place.number) if self.model.known_ahead else None
        after, effects = self._forecast(place, place.text, history, future)
        before, _ = self._forecast(place, "", history, future)
        other = self._find_other(place)
        swapped, understood = self._forecast(place, other, history, future)
        words = weigh_words(self.model, history, place.table(place.text), "sentence", h, future)
        forecast = pd.DataFrame({TIME: place.times.to_numpy(), "before": before, "after": after})
        cutoff = history.loc[history[ID] == place.series, TIME].iloc[-1]
        away = float(np.abs(after - swapped).mean())
        return TextChange(place.series, cutoff, place.text, effects, forecast, words, away, other, understood)

    def _forecast(
        self, place: _Place, text: str, history: pd.DataFrame, future: pd.DataFrame | None
    ) -> tuple[np.ndarray, str]:
        """Returns the forecast of the series [h] when it is told a text, and the effects that were understood."""
        asked: dict[str, Any] = {"h": self.windows.h, "X_df": future, "context": place.table(text)}
        effects = ITS_OWN
        if isinstance(self.model, ContextForecaster):
            made, explained = self.model.predict_and_explain(history, **asked)
            effects = write_effects(next((e.effects for e in explained if e.series == place.series), []))
        else:
            made = self.model.predict(history, **asked)
        return made.loc[made[ID] == place.series, self.model.alias].to_numpy(float), effects

    def _find_other(self, place: _Place) -> str:
        """Returns another text, of another series if there is one, as long as this one as near as may be."""
        others = self.table[self.table[TEXT] != place.text]
        apart = others[others[ID] != place.series]
        candidates = list((apart if len(apart) else others)[TEXT].unique())
        if candidates:
            return str(min(candidates, key=lambda text: abs(len(text) - len(place.text))))
        return (FILLER * (len(place.text) // len(FILLER) + 1))[: len(place.text)].strip()

    def _score(self) -> tuple[int, float, float] | None:
        """Returns how many windows the texts changed, and the mean absolute errors there, with and without them."""
        changed = self.moves[self.moves > 0]
        if not self.plain or changed.empty:
            return None
        inside = self.frame.set_index([ID, CUTOFF]).index.isin(changed.index)
        rows = self.frame[inside]
        told, plain = ((rows[name] - rows[TARGET]).abs().mean() for name in (self.model.alias, self.plain))
        return len(changed), float(told), float(plain)
