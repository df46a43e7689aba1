"""Statistical and neural models of the Nixtla libraries behind the Forecaster protocol."""

import inspect
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd

from tsllm.data.frame import future_frame, infer_freq, list_covariates, validate_frame, validate_future
from tsllm.data.frequency import Freq, customary_seasons, normalize_freq
from tsllm.data.task import hold_for_validation
from tsllm.forecasting.base import (
    Forecaster,
    HistoryForecaster,
    check_count,
    check_refit,
    check_windows,
    compute_quantile_levels,
    count_torch_parameters,
    name_interval_columns,
    write_refit_rule,
)
from tsllm.forecasting.engine_options import check_engine_options
from tsllm.forecasting.seasons import add_harmonics, check_harmonics, takes_several_seasons
from tsllm.near import find_near
from tsllm.types import CUTOFF, ID, TARGET, TIME, FrameError

# AutoARIMA is opt-in: a minute for one hourly series of four weeks.
DEFAULT_MODELS = ("AutoETS", "DynamicOptimizedTheta")


class _Estimated(NamedTuple):
    """A model that was estimated once, and the time of the first step that it saw."""

    first: Any
    model: Any


class StatisticalForecaster(HistoryForecaster):
    """Any model of statsforecast, by class name; one fit a series, anew for every history.

    For these local models fitting and forecasting are one act, so `predict(df)` estimates on `df`, unless `refit` is
    False.

    Args:
        model: Class name in `statsforecast.models`, such as "AutoETS", "DynamicOptimizedTheta", "AutoARIMA".
        season: Steps in a season, or a list of them for a model that takes several, such as MSTL; handed over as
            `season_length` if the model has it. None = the customary ones of the frequency (a day and a week below
            days) for such a model, else 1.
        alias: Name of the forecast column; None takes the class name.
        freq: Frequency of the data; None infers it.
        input_size: How many last steps each fit sees; None = all. Bounds the time on long series.
        covariates: Columns handed over as regressors; needs a model that reads them, such as AutoARIMA.
        harmonics: Season -> pairs of a sine and a cosine handed over as regressors beside the covariates, so that a
            model of one season knows several: dynamic harmonic regression (Hyndman & Athanasopoulos, 2021, section
            12.1). `StatisticalForecaster("AutoARIMA", harmonics={24: 4, 168: 3}, covariates=["load"],
            options={"seasonal": False})` is an ARIMAX for hours, in seconds.
        refit: False estimates once, by `fit`; `predict(df)` then runs the same parameters over `df`, so that states
            and, of MSTL, the seasonal parts are up to date. The first states belong to the first step that `fit` saw,
            so `df` must reach back to it. For models that can do that (AutoETS, MSTL, Theta models).
        n_jobs: Processes of fits anew.
        transform: "log1p", "asinh" or "none": the scale on which it is estimated; see `scale_target`.
        non_negative: Whether forecasts below 0 become 0.
        integer: Whether forecasts are rounded to whole numbers.
        options: Further constructor arguments of the model.

    Raises:
        ImportError: If statsforecast is not installed.
        ValueError: If it has no such model, or the model does not take what is given.

    Example:
        >>> import pandas as pd, tsllm
        >>> df = pd.DataFrame({"unique_id": "a", "ds": range(12), "y": [float(t) for t in range(12)]})
        >>> drift = tsllm.StatisticalForecaster("RandomWalkWithDrift").fit(df, h=2)
        >>> drift.predict()["RandomWalkWithDrift"].round(6).tolist()
        [12.0, 13.0]
    """

    rolls_at_once = True

    def __init__(
        self,
        model: str,
        season: int | Sequence[int] | None = None,
        alias: str | None = None,
        *,
        freq: Freq | None = None,
        input_size: int | None = None,
        covariates: Sequence[str] = (),
        harmonics: Mapping[int, int] | None = None,
        refit: bool = True,
        n_jobs: int = 1,
        transform: str = "none",
        non_negative: bool = False,
        integer: bool = False,
        options: dict[str, Any] | None = None,
    ) -> None:
        self.scale_target(transform, non_negative=non_negative, integer=integer)
        if input_size is not None and input_size < 2:
            raise ValueError(f"input_size is {input_size}; a fit needs at least 2 steps")
        self.model_class = find_statistical(model)
        self.alias = model if alias is None else alias
        self.season, self.freq, self.input_size, self.n_jobs = season, freq, input_size, n_jobs
        self.covariates, self.harmonics = list_covariates(covariates), check_harmonics(harmonics or {})
        self.options = dict(options or {})
        self._check_season()
        if (self.covariates or self.harmonics) and not self.model_class.uses_exog:
            raise ValueError(f"{model} reads no regressors; leave covariates and harmonics out, or take AutoARIMA")
        check_refit(refit)
        self.refit = refit
        self._check_refit()
        self._build(2)  # wrong options raise here, not in the middle of a comparison

    @property
    def refit_rule(self) -> str:
        """When it is estimated and on what, as a sentence for reports."""
        return write_refit_rule(self.alias, self.input_size, self.refit)

    def predict(
        self,
        df: pd.DataFrame | None = None,
        h: int | None = None,
        level: Sequence[float] | None = None,
        X_df: pd.DataFrame | None = None,
    ) -> pd.DataFrame:
        """Estimates on the history and forecasts `h` steps; see `Forecaster.predict`.

        Raises:
            ValueError: If there is no history or no horizon, or the model gives no intervals.
            FrameError: If the history breaks the contract or misses values.
            FloatingPointError: If a forecast is not finite.
        """
        history, steps = self._recall(df, h)
        compute_quantile_levels(level)
        freq = self._find_freq(history)
        ahead = self._read_future(X_df, history, steps, freq)
        if not self.refit:
            return self._run_estimated(history, steps, level, freq)
        if self.input_size is not None:
            history = history.groupby(ID, sort=False).tail(self.input_size)
        if self.harmonics:
            ahead = future_frame(history, steps, freq) if ahead is None else ahead
            history, ahead = add_harmonics(history, ahead, self.harmonics)
        seasons = self._find_seasons(freq, history, history.groupby(ID, sort=False).size())
        out = self._call("forecast", history, freq, seasons, h=steps, level=_sorted(level) or None, X_df=ahead)
        return arrange_forecasts(out, self.alias, level, [ID, TIME])

    def predict_rolling(
        self, df: pd.DataFrame, h: int, n_windows: int, step_size: int, level: Sequence[float] | None = None
    ) -> pd.DataFrame:
        """Forecasts from the last `n_windows` cutoffs of each series, estimating anew at each.

        Args:
            df: Whole series; the last cutoff lies `h` steps before the end. Covariates are read from it.
            h: Steps ahead.
            n_windows: How many cutoffs.
            step_size: Steps between cutoffs.
            level: Coverage of central intervals in per cent.

        Returns:
            Frame `unique_id, ds, cutoff, <alias>, ...`, sorted by series, cutoff and time.

        Raises:
            FrameError: If a series is too short for the windows, or as in `predict`.
        """
        span = h + (n_windows - 1) * step_size
        df = validate_complete(df, self.freq, self.covariates, self.alias, self.input_size, span)
        compute_quantile_levels(level)
        check_windows(df, h, n_windows, step_size)
        if self.harmonics or not self.refit:
            return super().predict_rolling(df, h, n_windows, step_size, level)
        freq = self._find_freq(df)
        seasons = self._find_seasons(freq, df, df.groupby(ID, sort=False).size() - span)
        windows = {"n_windows": n_windows, "step_size": step_size, "input_size": self.input_size}
        out = self._call("cross_validation", df, freq, seasons, h=h, level=_sorted(level) or None, **windows)
        return arrange_forecasts(out, self.alias, level, [ID, TIME, CUTOFF])

    def _check_refit(self) -> None:
        """Refuses to estimate once what cannot be run over another history."""
        if self.refit:
            return
        if self.covariates or self.harmonics:
            raise ValueError(f"{self.alias} reads regressors, so it is estimated at each cutoff; leave refit out")
        if not hasattr(self.model_class, "forward"):
            raise ValueError(
                f"{self.model_class.__name__} cannot run its parameters over another history; leave refit out, or "
                "take AutoETS, MSTL or a Theta model"
            )
        if self.options.get("prediction_intervals") is not None:
            raise ValueError(
                f"{self.alias}: prediction_intervals are estimated anew with each forecast; leave them or refit out"
            )

    def _estimate(self, history: pd.DataFrame) -> dict[Any, "_Estimated"]:
        seen = history if self.input_size is None else history.groupby(ID, sort=False).tail(self.input_size)
        seasons = self._find_seasons(self._find_freq(history), seen, seen.groupby(ID, sort=False).size())
        return {
            name: _Estimated(group[TIME].iloc[0], self._build(seasons).fit(group[TARGET].to_numpy(dtype=float)))
            for name, group in seen.groupby(ID, sort=False)
        }

    def _run_estimated(self, history: pd.DataFrame, h: int, level: Sequence[float] | None, freq: Freq) -> pd.DataFrame:
        """Runs the parameters of `fit` over a history, from the first step that `fit` saw, and forecasts."""
        parts = []
        for name, group in history.groupby(ID, sort=False):
            first, model = self._find_estimates(name, freq)
            y = self._read_from(name, group, first)
            with self._telling_intervals():
                made = model.forward(y, h, level=_sorted(level) or None)
            columns = {"mean": self.alias} | {
                f"{side}-{lv}": f"{self.alias}-{side}-{lv}" for lv in _sorted(level) for side in ("lo", "hi")
            }
            parts.append(pd.DataFrame({column: made[key] for key, column in columns.items()}))
        out = future_frame(history, h, freq)
        out[list(parts[0].columns)] = pd.concat(parts, ignore_index=True).to_numpy()
        return arrange_forecasts(out, self.alias, level, [ID, TIME])

    def _read_from(self, name: Any, group: pd.DataFrame, first: Any) -> np.ndarray:
        """Returns the values of a series from a time on, where the states of its model begin.

        Raises:
            FrameError: If it begins later, has no such time, or misses a value.
        """
        times = group[TIME]
        start = int(times.searchsorted(first))
        if start == len(times) or times.iloc[start] != first:
            raise FrameError(
                f"series {name!r} runs from {times.iloc[0]} to {times.iloc[-1]}; {self.alias} was estimated from "
                f"{first} on, where its states begin, so give the history from there, or call fit(df) again"
            )
        y = group[TARGET].to_numpy(dtype=float)[start:]
        if np.isnan(y).any():
            when = times.iloc[start + int(np.isnan(y).argmax())]
            raise FrameError(
                f"series {name!r}: {TARGET!r} is missing at {when}, and {self.alias} runs over every step from "
                f"{first} on; interpolate them, or call fit(df) again"
            )
        return y

    def _check_season(self) -> None:
        """Refuses seasons that the model does not take.

        Raises:
            ValueError: Naming the season.
        """
        several = takes_several_seasons(self.model_class)
        name = self.model_class.__name__
        if isinstance(self.season, Sequence) and not several:
            raise ValueError(f"{name} has one season, season is {list(self.season)}; give one number, or take MSTL")
        given = [self.season] if isinstance(self.season, int) else self.season or ()
        for season in given:
            check_count("season", season)
            if several and season < 2:
                raise ValueError(f"season is {season}; {name} needs seasons of at least 2 steps")
        if len(set(given)) < len(given) or (self.season is not None and not given):
            raise ValueError(f"season is {self.season}; name each season once, and at least one")

    def _find_seasons(self, freq: Freq, df: pd.DataFrame, sizes: pd.Series) -> int | list[int]:
        """Returns what goes to the model as `season_length`, for series that a fit sees so many steps of.

        Raises:
            FrameError: If a series is too short for two of the longest season of a model that decomposes by several.
            ValueError: If the frequency has no customary season.
        """
        if not takes_several_seasons(self.model_class):
            return self.season if isinstance(self.season, int) else 1
        seasons = customary_seasons(freq) if self.season is None else self.season
        seasons = [seasons] if isinstance(seasons, int) else sorted(seasons)
        if seasons == [1]:
            raise ValueError(f"{self.alias} needs a season, and freq {freq!r} has no customary one; give season=...")
        seen = sizes if self.input_size is None else sizes.clip(upper=self.input_size)
        if seen.min() < 2 * seasons[-1]:
            raise FrameError(
                f"series {seen.idxmin()!r} gives {self.alias} {seen.min()} steps to fit; with a season of "
                f"{seasons[-1]} it needs at least {2 * seasons[-1]}; give more history, a larger input_size or "
                "shorter seasons"
            )
        return seasons

    def _read_future(
        self, X_df: pd.DataFrame | None, history: pd.DataFrame, h: int, freq: Freq
    ) -> pd.DataFrame | None:
        """Returns the covariates of the horizon, held to exactly the steps ahead."""
        if not self.covariates:
            return None
        if X_df is None:
            raise FrameError(f"{self.alias} reads {self.covariates}; give X_df with their values over the horizon")
        return validate_future(X_df, future_frame(history, h, freq), self.covariates)

    def _build(self, season: int | list[int]) -> Any:
        accepted = inspect.signature(self.model_class).parameters
        arguments = {"season_length": season, "alias": self.alias} | self.options
        unknown = sorted(set(self.options) - set(accepted))
        if unknown:
            raise ValueError(f"{self.model_class.__name__} has no option {unknown[0]!r}; it takes {list(accepted)}")
        return self.model_class(**{k: v for k, v in arguments.items() if k in accepted})

    def _call(
        self, method: str, df: pd.DataFrame, freq: Freq, seasons: int | list[int], **arguments: Any
    ) -> pd.DataFrame:
        from statsforecast import StatsForecast

        engine = StatsForecast(models=[self._build(seasons)], freq=freq, n_jobs=self.n_jobs)
        with self._telling_intervals():
            return getattr(engine, method)(df=df, **arguments)

    @contextmanager
    def _telling_intervals(self) -> Iterator[None]:
        """Says which way out there is of a model without intervals."""
        try:
            yield
        except Exception as error:
            # The library raises bare exceptions; this one has a way out that it does not name in full.
            if "prediction_intervals" in str(error):
                raise ValueError(
                    f"{self.alias} has no intervals of its own; ask for no level, or pass options="
                    "{'prediction_intervals': ConformalIntervals(n_windows=2, h=...)} from statsforecast.utils"
                ) from error
            raise

    def _validate(self, df: pd.DataFrame) -> pd.DataFrame:
        return validate_complete(df, self.freq, self.covariates, self.alias, self.input_size)


# What `NixtlaNeuralForecaster` gives a model itself.
_DECIDED = ("h", "input_size", "alias", "futr_exog_list", "hist_exog_list")


class NixtlaNeuralForecaster(Forecaster):
    """Any model of neuralforecast, by class name, trained on the data of `fit` (needs the package).

    Args:
        model: Class name in `neuralforecast.models`, such as "NHITS" or "TFT".
        h: Steps ahead, fixed by the training.
        input_size: Steps of history that the model reads.
        alias: Name of the forecast column; None takes the class name.
        freq: Frequency of the data; None infers it.
        level: Coverage in per cent of the intervals that `predict` will be asked for; given, the model learns
            quantiles (multi-quantile loss) and forecasts the median. A back-test fills in its own.
        covariates: Columns known over the horizon.
        past_covariates: Columns known up to the cutoff.
        val_size: Last steps of the training data kept for early stopping; None = a tenth of the shortest series, at
            least `h`.
        max_seconds: Training stops after so many seconds; None = no limit.
        options: Further constructor arguments of the model, such as max_steps, learning_rate, random_seed.

    Attributes:
        log: Losses of the last `fit` by training step: `step` with `loss` or `eval_loss`.
        seconds: What the last `fit` took.

    Raises:
        ImportError: If neuralforecast is not installed.
        ValueError: If it has no such model or option.
    """

    def __init__(
        self,
        model: str,
        h: int,
        input_size: int,
        alias: str | None = None,
        *,
        freq: Freq | None = None,
        level: Sequence[float] = (),
        covariates: Sequence[str] = (),
        past_covariates: Sequence[str] = (),
        val_size: int | None = 0,
        max_seconds: float | None = None,
        options: dict[str, Any] | None = None,
    ) -> None:
        try:
            from neuralforecast import models
        except ImportError as error:
            raise ImportError(
                f"{model} needs neuralforecast, which is large and therefore optional; pip install neuralforecast"
            ) from error
        compute_quantile_levels(level)
        self.model_class = _find(model, models, "neuralforecast")
        check_engine_options(self.model_class, options or {}, _DECIDED)
        self.alias = model if alias is None else alias
        self.h, self.input_size, self.freq, self.level, self.val_size = h, input_size, freq, _sorted(level), val_size
        self.covariates, self.past_covariates = list_covariates(covariates), list_covariates(past_covariates)
        self.options = dict(options or {})
        self.max_seconds = max_seconds
        self.log: list[dict[str, Any]] = []
        self.seconds = 0.0
        self._engine: Any = None
        self._history: Any = None

    def expect_levels(self, level: Sequence[float]) -> None:
        """Takes the levels of the loss, which decides what the model learns, unless some were given."""
        if not self.level:
            self.level = _sorted(level)

    def update(self, df: pd.DataFrame) -> Self:
        """Takes `df` as the new history; nothing is trained."""
        self._history = self._validate(df)
        return self

    def count_parameters(self) -> tuple[int | None, int | None]:
        """Returns trained and all parameters; None before `fit`."""
        return (None, None) if self.model is None else count_torch_parameters(self.model)

    @property
    def context_length(self) -> int:
        """Steps of history that it reads."""
        return self.input_size

    @property
    def model(self) -> Any:
        """The trained torch module; None before `fit`."""
        return None if self._engine is None else self._engine.models[0]

    def fit(self, df: pd.DataFrame, h: int | None = None) -> Self:
        """Trains a new model on `df`.

        Raises:
            ValueError: If `h` is not the forecaster's own.
            FrameError: If the data break the contract or miss values.
        """
        from neuralforecast import NeuralForecast

        self._check_horizon(h)
        df = self._validate(df)
        freq = normalize_freq(self.freq) if self.freq is not None else infer_freq(df)
        shortest = int(df.groupby(ID, sort=False).size().min())
        held = hold_for_validation(self.h, self.val_size, shortest)
        self._engine = NeuralForecast(models=[self._build()], freq=freq)
        started = time.perf_counter()
        self._engine.fit(df, val_size=held)
        self._history = df
        self.seconds = time.perf_counter() - started
        self.log = _read_trajectories(self.model)
        return self

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes the trained model in neuralforecast's own format, without the data.

        Raises:
            ValueError: If it was not fitted.
        """
        if self._engine is None:
            raise ValueError(f"{self.alias} is not trained: call fit(df) first")
        self._engine.save(path=str(folder), save_dataset=False, overwrite=True)

    def predict(
        self,
        df: pd.DataFrame | None = None,
        h: int | None = None,
        level: Sequence[float] | None = None,
        X_df: pd.DataFrame | None = None,
    ) -> pd.DataFrame:
        """Forecasts without training again; see `Forecaster.predict`.

        Quantiles that cross are put in order step by step (Chernozhukov et al., 2010).

        Raises:
            ValueError: If it was not fitted, or a level was not trained for.
            FrameError: If the known covariates of the horizon are missing.
            FloatingPointError: If a forecast is not finite.
        """
        if self._engine is None:
            raise ValueError(f"{self.alias} is not trained: call fit(df) first")
        steps = self._check_horizon(h)
        untrained = [lv for lv in level or () if lv not in self.level]
        if untrained:
            raise ValueError(f"{self.alias} was not trained for level {untrained[0]}; it knows {self.level}")
        history = self._history if df is None else self._validate(df)
        ahead = None
        if self.covariates:
            if X_df is None:
                raise FrameError(f"{self.alias} reads {self.covariates}; give X_df with their values over the horizon")
            freq = normalize_freq(self.freq) if self.freq is not None else infer_freq(history)
            ahead = validate_future(X_df, future_frame(history, self.h, freq), self.covariates)
        out = self._engine.predict(df=history, futr_df=ahead)
        if self.level:
            out = out.rename(columns={f"{self.alias}-median": self.alias})
            pairs = name_interval_columns(self.alias, self.level)
            ordered = [*pairs[-2::-2], self.alias, *pairs[1::2]]  # lowest bound, ..., median, ..., highest bound
            out[ordered] = np.sort(out[ordered].to_numpy(), axis=1)
        out = out.groupby(ID, sort=False).head(steps)
        return arrange_forecasts(out, self.alias, level, [ID, TIME])

    def _build(self) -> Any:
        arguments: dict[str, Any] = {
            "h": self.h,
            "input_size": self.input_size,
            "alias": self.alias,
            "futr_exog_list": self.covariates or None,
            "hist_exog_list": self.past_covariates or None,
            "logger": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "enable_checkpointing": False,
        }
        if self.level:
            from neuralforecast.losses.pytorch import MQLoss

            arguments["loss"] = MQLoss(level=_sorted(self.level))
        if self.max_seconds is not None:
            arguments["max_time"] = timedelta(seconds=self.max_seconds)
        return self.model_class(**arguments | self.options)

    def _validate(self, df: pd.DataFrame) -> pd.DataFrame:
        return validate_complete(df, self.freq, [*self.covariates, *self.past_covariates], self.alias)

    def _check_horizon(self, h: int | None) -> int:
        if h is not None and not 1 <= h <= self.h:
            raise ValueError(f"h is {h}, but {self.alias} forecasts 1 to {self.h} steps; build it with a larger h")
        return self.h if h is None else h


def _read_trajectories(model: Any) -> list[dict[str, Any]]:
    """Returns the losses that a neuralforecast model has kept, ordered by step."""
    found = [{"step": int(step), "loss": float(value)} for step, value in model.train_trajectories]
    found += [{"step": int(step), "eval_loss": float(value)} for step, value in model.valid_trajectories]
    return sorted(found, key=lambda entry: entry["step"])


def validate_complete(
    df: pd.DataFrame,
    freq: Freq | None,
    covariates: Sequence[str],
    alias: str,
    input_size: int | None = None,
    after: int = 0,
) -> pd.DataFrame:
    """Validates a frame for a model that cannot read missing values.

    Args:
        df: The frame.
        freq: Its frequency; None infers it.
        covariates: Columns that are read.
        alias: The model's name, for messages.
        input_size: How many steps up to a cutoff are read; None = all. What lies before may miss values.
        after: Steps of each series after the first cutoff.

    Raises:
        FrameError: If the frame breaks the contract, or a value that is read is missing.
    """
    df = validate_frame(df, freq=freq, covariates=covariates)
    read = df if input_size is None else df.groupby(ID, sort=False).tail(input_size + after)
    missing = read[TARGET].isna().to_numpy()
    if missing.any():
        row = read.iloc[int(missing.argmax())]
        where = "in the whole frame" if input_size is None else "among the steps that are read"
        raise FrameError(
            f"series {row[ID]!r}: {TARGET!r} is missing at {row[TIME]} ({int(missing.sum())} {where});"
            f" {alias} needs complete series: interpolate them, or leave the model out"
        )
    return df


def arrange_forecasts(out: pd.DataFrame, alias: str, level: Sequence[float] | None, keys: list[str]) -> pd.DataFrame:
    """Brings an engine's columns into our order and refuses forecasts that are not finite."""
    columns = [alias, *name_interval_columns(alias, level)]
    out = out[[*keys, *columns]].reset_index(drop=True)
    bad = ~np.isfinite(out[columns].to_numpy(dtype=float)).all(axis=1)
    if bad.any():
        row = out.iloc[int(bad.argmax())]
        raise FloatingPointError(
            f"{alias} forecasts a non-finite value for series {row[ID]!r} at {row[TIME]} ({int(bad.sum())} of"
            f" {len(out)} rows); the series may be too short for the season, or the training diverged"
        )
    return out.sort_values([ID, *[k for k in keys if k == CUTOFF], TIME], kind="stable", ignore_index=True)


def find_seasons(model: str, season: int, freq: Freq) -> int | list[int]:
    """Returns the seasons of a model for data of this main season: those of the frequency, too, if it takes several.

    Raises:
        ValueError: If statsforecast has no such model.
    """
    if not takes_several_seasons(find_statistical(model)):
        return season
    return sorted({season, *customary_seasons(freq)} - {1}) or season


def find_statistical(name: str) -> Any:
    """Returns a class of statsforecast by its name.

    Raises:
        ValueError: If there is none; the text lists the nearest names.
        ImportError: If the package is not installed.
    """
    return _find(name, _import_statsforecast(), "statsforecast")


def name_statistical() -> list[str]:
    """Returns the names of the models of statsforecast, sorted.

    Raises:
        ImportError: If statsforecast is not installed.
    """
    return sorted(_list_classes(_import_statsforecast()))


def _import_statsforecast() -> Any:
    try:
        from statsforecast import models
    except ImportError as error:
        raise ImportError("statistical models need statsforecast; pip install statsforecast") from error
    return models


def _list_classes(models: Any) -> list[str]:
    return [name for name in models.__all__ if inspect.isclass(getattr(models, name, None))]


def _find(name: str, models: Any, package: str) -> Any:
    known = _list_classes(models)
    if name not in known:
        near = find_near(name, known, cutoff=0.4)
        hint = f"did you mean {', '.join(near)}? " if near else ""
        raise ValueError(f"{package} has no model {name!r}; {hint}known: {', '.join(sorted(known))}")
    return getattr(models, name)


def _sorted(level: Sequence[float] | None) -> list[float]:
    # The engines name columns by str(level): 80.0 must read "80".
    return sorted(int(lv) if float(lv).is_integer() else lv for lv in level or ())
