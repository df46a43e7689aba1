"""Any forecaster, told what is known: its forecasts changed where a text speaks, untouched where it is silent."""

import contextlib
import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd

from tsllm.context.applying import REDRAW, Window, apply_effects, clean_history
from tsllm.context.blind import draw_blind
from tsllm.context.contract import END, PUBLISHED, START, TEXT, Context
from tsllm.context.effects import Effect, write_effects
from tsllm.context.parser import read_by_rules
from tsllm.context.readers import ProseReader, read_effects
from tsllm.data.columns import as_pandas, is_table
from tsllm.data.facts import TrainingFacts
from tsllm.data.frame import future_frame, infer_freq, validate_frame
from tsllm.data.frequency import Freq, default_season
from tsllm.forecasting.base import (
    Forecaster,
    HistoryForecaster,
    check_windows,
    compute_quantile_levels,
    name_interval_columns,
)
from tsllm.forecasting.paths import sample_marginals, shuffle_by_template
from tsllm.types import CUTOFF, ID, TARGET, TIME, FrameError

# base, history, h, X_df, paths, seed -> series -> [paths, h]
PathSource = Callable[[Forecaster, pd.DataFrame, int, pd.DataFrame | None, int, int], dict[Any, np.ndarray]]
_LEVELS = (20, 40, 60, 80, 90)


class PoolForecaster(HistoryForecaster):
    """The pool of simple forecasters of `tsllm.context.blind`: medians and quantiles of its sample paths.

    Args:
        season: Steps in a season; None = by frequency.
        alias: Name of the forecast column.
        freq: Frequency of the data; None infers it.
        samples: Paths a series.
        seed: Of the draws.
    """

    def __init__(
        self,
        season: int | None = None,
        alias: str = "Pool",
        *,
        freq: Freq | None = None,
        samples: int = 200,
        seed: int = 0,
    ) -> None:
        self.season, self.alias, self.freq, self.samples, self.seed = season, alias, freq, samples, seed

    def predict(
        self,
        df: pd.DataFrame | None = None,
        h: int | None = None,
        level: Sequence[float] | None = None,
        X_df: pd.DataFrame | None = None,
    ) -> pd.DataFrame:
        """Forecasts the `h` steps after each series; see `Forecaster.predict`. `X_df` is not read.

        Raises:
            FrameError: If a series counts its steps, misses values, or is shorter than three steps.
            ValueError: If there is no history or no horizon.
        """
        history, steps = self._recall(df, h)
        freq = self.freq if self.freq is not None else infer_freq(history)
        out = future_frame(history, steps, freq)
        parts = []
        for name, window in iterate_windows(history, out, self.season or default_season(freq)):
            try:
                paths = draw_blind(window.past, window.times, steps, window.season, self.samples, self.seed)
            except ValueError as error:
                raise FrameError(f"series {name!r}: {error}") from error
            parts.append(_summarise(paths, level))
        out[[self.alias, *name_interval_columns(self.alias, level)]] = np.concatenate(parts)
        return out

    def _validate(self, df: pd.DataFrame) -> pd.DataFrame:
        return validate_frame(df, freq=self.freq, covariates=[])


@dataclass(frozen=True)
class Explanation:
    """What a text did to the forecast of a series.

    Attributes:
        series: Its name.
        text: What was read.
        effects: What was understood; `write_effects` writes it, `parse_effects` reads it back.
        forecast: Columns `ds, before, after`.
    """

    series: Any
    text: str
    effects: list[Effect]
    forecast: pd.DataFrame

    def __str__(self) -> str:
        told = write_effects(self.effects) or "(nothing that changes the forecast)"
        return f"{self.series}: {self.text}\n{told}\n{self.forecast.to_string(index=False)}"


class ContextForecaster(Forecaster):
    """Wraps a forecaster, and changes its forecasts by what a text says.

    A series without a text, or with one that says nothing about it, gets exactly what the base forecasts.

    Args:
        base: Any forecaster.
        reader: Gives roles to the prose of a text, such as `LearnedReader.read`; None takes the regular expressions.
        alias: Name of the forecast column; None = the base's with `+context`.
        freq: Frequency of the data; None infers it.
        season: Steps in a season; None = by frequency.
        context: Texts for every `fit` that is given none, so that it can stand among the models of a back-test; as in
            `predict`. A text without `published` is refused here unless `timeless`.
        timeless: Whether a text without `published` may be read at every cutoff of a back-test.
        check_length: Refuses texts that the reader cannot take in, such as `TextEncoder.check_length`.
        paths: How sample paths come out of the base; None = from its quantiles.
        samples: Paths a series.
        seed: Of the draws.
    """

    rolls_at_once: ClassVar[bool] = True

    def __init__(
        self,
        base: Forecaster,
        reader: ProseReader | None = None,
        alias: str | None = None,
        *,
        freq: Freq | None = None,
        season: int | None = None,
        context: Any = None,
        timeless: bool = False,
        check_length: Callable[[str, str], None] | None = None,
        paths: PathSource | None = None,
        samples: int = 200,
        seed: int = 0,
    ) -> None:
        self.base, self.reader = base, reader or read_by_rules
        self.alias = f"{base.alias}+context" if alias is None else alias
        self.freq, self.season, self.timeless, self.check_length = freq, season, timeless, check_length
        self.paths = paths or sample_paths
        self.samples, self.seed = samples, seed
        self.covariates, self.past_covariates = base.covariates, base.past_covariates
        self._history: pd.DataFrame | None = None
        self._h: int | None = None
        self.context = self._context = context

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Copies all but the reader, which is frozen and may hold a language model."""
        made = type(self).__new__(type(self))
        memo[id(self)] = made
        memo |= {id(shared): shared for shared in (self.reader, self.check_length)}
        made.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return made

    def fit(self, df: pd.DataFrame, h: int | None = None, context: Any = None) -> Self:
        """Fits the base, and remembers the texts for `predict` and `predict_rolling`; None = the constructor's.

        Raises:
            FrameError: If the texts do not fit the data (see `Context.read`), or one of the constructor's does not say
                when it was published.
        """
        history = validate_frame(df, freq=self.freq)
        given = self.context if context is None else context
        self._check(given, history)
        self.base.fit(df, h)
        self._history, self._h, self._context = history, h, given
        return self

    def update(self, df: pd.DataFrame) -> Self:
        """Takes `df` as the new history; the texts stay."""
        history = validate_frame(df, freq=self.freq)
        self.base.update(df)
        self._history = history
        return self

    def expect_levels(self, level: Sequence[float]) -> None:
        """Tells the base."""
        self.base.expect_levels(level)

    def count_parameters(self) -> tuple[int | None, int | None]:
        """Returns those of the base."""
        return self.base.count_parameters()

    @property
    def context_length(self) -> int | None:
        """Steps of history that the base reads."""
        return self.base.context_length

    @property
    def trained_on(self) -> TrainingFacts:
        """What the base was trained on, so that a back-test finds leakage in it."""
        return self.base.trained_on

    def predict(
        self,
        df: pd.DataFrame | None = None,
        h: int | None = None,
        level: Sequence[float] | None = None,
        X_df: pd.DataFrame | None = None,
        context: Any = None,
    ) -> pd.DataFrame:
        """Forecasts as the base does, and applies what the texts say.

        Args:
            df: As in `Forecaster.predict`.
            h: As in `Forecaster.predict`.
            level: As in `Forecaster.predict`.
            X_df: As in `Forecaster.predict`.
            context: One text, a mapping series -> text or a frame (see `Context.read`); None = that of `fit`. A row
                with `published` is read only by series that end at or after it.

        Raises:
            FrameError: If the texts do not fit the data.
            ValueError: If there is no history or no horizon, or a text is too long for the reader.
        """
        return self.predict_and_explain(df, h, level, X_df, context)[0]

    def predict_and_explain(
        self,
        df: pd.DataFrame | None = None,
        h: int | None = None,
        level: Sequence[float] | None = None,
        X_df: pd.DataFrame | None = None,
        context: Any = None,
    ) -> tuple[pd.DataFrame, list[Explanation]]:
        """Returns what `predict` and `explain_context` return, of one forecast."""
        history = validate_frame(df, freq=self.freq) if df is not None else self._history
        if history is None:
            raise ValueError(f"{self.alias} has no history: call fit(df, h) first")
        before = self.base.predict(history, h if h is not None else self._h, level, X_df)
        given = self._context if context is None else context
        texts = self._read(given, history, before[TIME].max())
        after, effects = self._change(history, before, level, X_df, texts)
        explained = []
        for name, found in effects.items():
            rows = (after[ID] == name).to_numpy()
            frame = pd.DataFrame({TIME: after.loc[rows, TIME].to_numpy()})
            frame["before"] = before.loc[rows, self.base.alias].to_numpy()
            frame["after"] = after.loc[rows, self.alias].to_numpy()
            explained.append(Explanation(name, texts[name], found, frame))
        return after, explained

    def predict_rolling(
        self, df: pd.DataFrame, h: int, n_windows: int, step_size: int, level: Sequence[float] | None = None
    ) -> pd.DataFrame:
        """Forecasts from the last cutoffs with the texts of `fit`; a cutoff reads what was published by then.

        Raises:
            FrameError: If a series is too short, or a text does not say when it was published.
        """
        check_windows(df, h, n_windows, step_size)
        whole = validate_frame(df, freq=self.freq)
        told = Context.read(self._context, whole, timeless=self.timeless, check_length=self.check_length)
        rolled, parts = self.base.predict_rolling(whole, h, n_windows, step_size, level), []
        for k in range(n_windows):
            ahead = h + (n_windows - 1 - k) * step_size
            history = whole.groupby(ID, sort=False).head(-ahead).reset_index(drop=True)
            steps = whole.groupby(ID, sort=False).tail(ahead).groupby(ID, sort=False).head(h)
            known = steps.drop(columns=TARGET) if self.covariates else None
            cutoffs = history.groupby(ID, sort=False)[TIME].last()
            texts = {name: told.texts_at(cutoff).get(name, "") for name, cutoff in cutoffs.items()}
            here = rolled[CUTOFF] == rolled[ID].map(cutoffs)
            before = rolled[here].drop(columns=CUTOFF).reset_index(drop=True)
            part = self._change(history, before, level, known, texts)[0]
            part.insert(2, CUTOFF, part[ID].map(cutoffs))
            parts.append(part)
        return pd.concat(parts).sort_values([ID, CUTOFF, TIME], kind="stable", ignore_index=True)

    def explain_context(
        self,
        df: pd.DataFrame | None = None,
        h: int | None = None,
        X_df: pd.DataFrame | None = None,
        context: Any = None,
    ) -> list[Explanation]:
        """Returns for each series with a text: the text, the effects, and the forecast before and after them."""
        return self.predict_and_explain(df, h, None, X_df, context)[1]

    def check_context(self, df: pd.DataFrame) -> None:
        """Looks whether the constructor's texts fit the data, as `fit` does, without fitting.

        Raises:
            FrameError: If they do not, or one does not say when it was published.
            ValueError: If a text is too long for the reader.
        """
        self._check(self.context, validate_frame(df, freq=self.freq))

    def _check(self, context: Any, history: pd.DataFrame, last: Any = None) -> Context:
        """Reads texts; those of the constructor serve many cutoffs, so they may lie ahead and must be dated."""
        standing = context is not None and context is self.context
        _check_times(context)
        told = Context.read(
            context, history, last=None if standing else last, timeless=self.timeless or not standing,
            check_length=self.check_length,
        )  # fmt: skip
        told.texts_at(history[TIME].max())
        if (told.table[TEXT].str.strip() != "").any():
            _require_dates(history)
        return told

    def _read(self, context: Any, history: pd.DataFrame, last: Any) -> dict[Any, str]:
        """Returns series -> text that a forecast from the end of the history to `last` may read."""
        told = self._check(context, history, last)
        if told.table.empty:
            return {}
        ends = history.groupby(ID, sort=False)[TIME].last()
        return {name: told.texts_at(end).get(name, "") for name, end in ends.items()}

    def _change(
        self,
        history: pd.DataFrame,
        before: pd.DataFrame,
        level: Sequence[float] | None,
        X_df: pd.DataFrame | None,
        texts: dict[Any, str],
    ) -> tuple[pd.DataFrame, dict[Any, list[Effect]]]:
        """Returns the base's forecast as the texts change it, and the effects of each series with a text."""
        columns = name_interval_columns(self.base.alias, level)
        names = dict(
            zip([self.base.alias, *columns], [self.alias, *name_interval_columns(self.alias, level)], strict=True)
        )
        out, effects = before.rename(columns=names), {}
        told = {name: text for name, text in texts.items() if text.strip()}
        if not told:
            return out, {}
        _require_dates(history)
        freq = self.freq if self.freq is not None else infer_freq(history)
        windows = dict(iterate_windows(history, before, self.season or default_season(freq)))
        for name, text in told.items():
            effects[name] = read_effects(text, windows[name], self.reader)
        changed = {name: found for name, found in effects.items() if found}
        if changed:
            part = self._redraw(history, before, level, X_df, windows, changed)
            rows = out[ID].isin(changed).to_numpy()
            out.loc[rows, list(names.values())] = np.concatenate([part[name] for name in out.loc[rows, ID].unique()])
        return out, effects

    def _redraw(
        self, history: pd.DataFrame, before: pd.DataFrame, level: Sequence[float] | None, X_df: pd.DataFrame | None,
        windows: dict[Any, Window], changed: dict[Any, list[Effect]],
    ) -> dict[Any, np.ndarray]:  # fmt: skip
        """Returns for each series with effects its point forecast and interval bounds [h, 1 + 2 * levels].

        The base sees all series, because it may forecast them together.
        """
        cleaned, h = history.copy(), len(windows[next(iter(changed))].future_times)
        for name, found in changed.items():
            cleaned.loc[(cleaned[ID] == name).to_numpy(), TARGET] = clean_history(windows[name], found)
        same = cleaned[TARGET].equals(history[TARGET])
        points = before if same else self.base.predict(cleaned, h, None, X_df)
        paths = self.paths(self.base, cleaned, h, X_df, self.samples, self.seed)
        result = {}
        for name, found in changed.items():
            old = windows[name]
            past = cleaned.loc[(cleaned[ID] == name).to_numpy(), TARGET].to_numpy(float)
            window = Window(past, old.past_times, old.future_times, old.season)
            point = points.loc[(points[ID] == name).to_numpy(), self.base.alias].to_numpy(float)
            try:
                drawn = apply_effects(window, found, np.concatenate([point[None], paths[name]]), self.seed)
            except ValueError as error:
                raise FrameError(f"series {name!r}: {error}") from error
            # Where only arithmetic acts, the base's own point goes through it; a redrawn one is one path of many.
            redrawn = any(e.kind in REDRAW for e in found)
            summary = _summarise(drawn[1:], level)
            if not redrawn:
                summary[:, 0] = drawn[0]
            result[name] = summary
        return result


def _check_times(context: Any) -> None:
    """Refuses numbers, which would count as nanoseconds since 1970, and time zones, which the data do not have."""
    if not is_table(context):
        return
    context = as_pandas(context)
    for column in [name for name in (PUBLISHED, START, END) if name in context]:
        given = context[column].dropna()
        numbers = [value for value in given if isinstance(value, int | float | np.number)]
        if numbers:
            raise FrameError(f"context: {column} is {numbers[0]}, a number; write times as 2024-01-31 12:00")
        if isinstance(pd.to_datetime(given, errors="coerce", format="mixed").dtype, pd.DatetimeTZDtype):
            raise FrameError(f"context: {column} has a time zone; give the times as the data have them, without one")


def _require_dates(history: pd.DataFrame) -> None:
    if not pd.api.types.is_datetime64_any_dtype(history[TIME]):
        raise FrameError("texts speak of dates, but the data count their steps; give dates in `ds`, or no context")


def _summarise(paths: np.ndarray, level: Sequence[float] | None) -> np.ndarray:
    """Returns the median and the bounds of central intervals [h, 1 + 2 * levels] of paths [n, h]."""
    return np.quantile(paths, [0.5, *compute_quantile_levels(level)], axis=0).T


def iterate_windows(history: pd.DataFrame, future: pd.DataFrame, season: int) -> list[tuple[Any, Window]]:
    """Returns name and window of each series of a validated history."""
    ahead = dict(iter(future.groupby(ID, sort=False)[TIME]))
    windows = []
    for name, group in history.groupby(ID, sort=False):
        past = group[TARGET].to_numpy(float)
        windows.append((name, Window(past, pd.DatetimeIndex(group[TIME]), pd.DatetimeIndex(ahead[name]), season)))
    return windows


def sample_paths(
    base: Forecaster, history: pd.DataFrame, h: int, X_df: pd.DataFrame | None, n: int, seed: int
) -> dict[Any, np.ndarray]:
    """Draws paths from the base's own quantiles: each path keeps a smoothly wandering rank over the steps.

    The widest intervals that the base has are taken; one without any gives its point forecast n times.

    Returns:
        Series -> [n, h].
    """
    for count in range(len(_LEVELS), 0, -1):
        asked = list(_LEVELS[:count])
        with contextlib.suppress(ValueError, NotImplementedError):
            frame = base.predict(history, h, asked, X_df)
            break
    else:
        asked, frame = [], base.predict(history, h, None, X_df)
    columns = name_interval_columns(base.alias, asked)
    levels = np.array([0.5, *compute_quantile_levels(asked)])
    order = np.argsort(levels)
    rng = np.random.default_rng(seed)
    paths = {}
    for name, rows in frame.groupby(ID, sort=False):
        values = rows[[base.alias, *columns]].to_numpy(float)[:, order]  # [h, quantiles]
        if len(levels) == 1:
            paths[name] = np.tile(values.T, (n, 1))
        else:
            paths[name] = shuffle_by_template(
                sample_marginals(values, levels[order].tolist(), n), _draw_walks(n, h, rng)
            )
    return paths


def _draw_walks(n: int, h: int, rng: np.random.Generator) -> np.ndarray:
    """Draws standard normal paths [n, h] whose steps are dependent: autoregressive with .8."""
    walk = rng.standard_normal((n, h))
    for t in range(1, h):
        walk[:, t] = 0.8 * walk[:, t - 1] + 0.6 * walk[:, t]
    return walk
