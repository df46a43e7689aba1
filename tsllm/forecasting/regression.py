"""One ridge regression for all steps of the horizon: lags, calendar and covariates."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd

from tsllm.data.frame import future_frame, validate_future
from tsllm.forecasting.base import Forecaster, check_windows
from tsllm.types import CUTOFF, ID, TARGET, TIME

COARSE = 4  # covariates are read at every fourth step of the horizon


class StepRegression(Forecaster):
    """Ridge regression of the `h` steps ahead on what is known at the cutoff; closed form, a second to fit.

    The target is the difference to the same steps a period (a week) before. Features, all standardised: the last `h`
    values, those a period before and the mean of the period; weekday and season of the year; known covariates over the
    horizon, the `h` steps before and the steps a period before; past covariates over the last `h` steps. Covariates
    enter with their squares, and on working days with slopes of their own.

    Args:
        h: Steps ahead; training windows are `h` apart, ending at the end of the training data.
        period: Steps of the long season, such as a week.
        covariates: Columns known over the horizon.
        past_covariates: Columns known up to the cutoff.
        ridge: Penalty as a share of the number of windows; larger is smoother.
        alias: Name of the forecast column.
    """

    rolls_at_once = True

    def __init__(
        self,
        h: int,
        period: int,
        covariates: Sequence[str] = (),
        past_covariates: Sequence[str] = (),
        ridge: float = 0.3,
        alias: str = "StepRegression",
    ) -> None:
        if h < 1 or period < h:
            raise ValueError(f"period ({period}) must be at least h ({h}), and h at least 1 step")
        if not ridge > 0:
            raise ValueError(f"ridge ({ridge}) must be above 0")
        self.h, self.period, self.alias = h, period, alias
        self.covariates, self.past_covariates = list(covariates), list(past_covariates)
        self.ridge = ridge
        self._fits: dict[Any, _Fit] = {}
        self._history: pd.DataFrame | None = None

    @property
    def context_length(self) -> int:
        """Steps of history that a forecast reads."""
        return self.period + self.h

    def fit(self, df: pd.DataFrame, h: int | None = None) -> Self:
        """Fits one regression for each series of the long frame and remembers it as the history.

        Raises:
            ValueError: If `h` is another one, values are missing or a series has too few windows.
        """
        self._check_h(h)
        for name, part in df.groupby(ID, sort=False):
            starts = np.arange(len(part) - self.h, self.context_length - 1, -self.h)[::-1]
            if len(starts) < 10:
                raise ValueError(
                    f"{self.alias}: series {name!r} has {len(part)} steps, {len(starts)} training windows of {self.h} "
                    f"after a look-back of {self.context_length}; it needs 10"
                )
            features, base = self._read(part, part, starts)
            y = part[TARGET].to_numpy(dtype=float)
            self._fits[name] = _Fit(self.ridge, features, _take(y, starts, self.h) - base)
        self._history = df
        return self

    def predict(
        self,
        df: pd.DataFrame | None = None,
        h: int | None = None,
        level: Sequence[float] | None = None,
        X_df: pd.DataFrame | None = None,
    ) -> pd.DataFrame:
        """Forecasts the `h` steps after the end of each series; `X_df` holds the known covariates.

        Raises:
            ValueError: If there is no history, `level` is asked for (draw paths instead), or covariates are missing.
        """
        self._check_h(h)
        self._check_level(level)
        history = self._history if df is None else df
        if history is None:
            raise ValueError(f"{self.alias} has no history: call fit(df), or predict(df=...)")
        if self.covariates and X_df is None:
            raise ValueError(f"{self.alias} reads {', '.join(self.covariates)} over the horizon; give X_df")
        ahead = future_frame(history, self.h)
        if self.covariates:
            ahead = validate_future(X_df, ahead, self.covariates)
        futures = dict(iter(ahead.groupby(ID, sort=False)))
        parts = []
        for name, part in history.groupby(ID, sort=False):
            future = futures[name].reset_index(drop=True)
            whole = pd.concat([part, future], ignore_index=True)
            future[self.alias] = self._forecast(name, part, whole, np.array([len(part)]))[0]
            parts.append(future[[ID, TIME, self.alias]])
        return pd.concat(parts, ignore_index=True)

    def predict_rolling(
        self, df: pd.DataFrame, h: int, n_windows: int, step_size: int, level: Sequence[float] | None = None
    ) -> pd.DataFrame:
        """Forecasts from the last `n_windows` cutoffs of each series without fitting, all at once."""
        check_windows(df, h, n_windows, step_size)
        self._check_h(h)
        self._check_level(level)
        parts = []
        for name, part in df.groupby(ID, sort=False):
            starts = len(part) - self.h - step_size * np.arange(n_windows)[::-1]
            times = part[TIME].to_numpy()
            forecast = self._forecast(name, part, part, starts)
            parts.append(
                pd.DataFrame(
                    {
                        ID: name,
                        TIME: _take(times, starts, self.h).reshape(-1),
                        CUTOFF: np.repeat(times[starts - 1], self.h),
                        self.alias: forecast.reshape(-1),
                    }
                )
            )
        return pd.concat(parts, ignore_index=True)

    def _forecast(self, name: Any, history: pd.DataFrame, whole: pd.DataFrame, starts: np.ndarray) -> np.ndarray:
        if name not in self._fits:
            raise ValueError(f"{self.alias} was not fitted on the series {name!r}; fit it first")
        features, base = self._read(history, whole, starts)
        return base + self._fits[name].predict(features)

    def _read(self, history: pd.DataFrame, whole: pd.DataFrame, starts: np.ndarray) -> "tuple[_Features, np.ndarray]":
        """Returns features and the values a period before [N, h] of windows that start at `starts`."""
        if starts.min() < self.context_length:
            raise ValueError(
                f"{self.alias}: a window starts at step {starts.min()}, after less than its look-back of "
                f"{self.context_length} steps; give longer series"
            )
        y, h = history[TARGET].to_numpy(dtype=float), self.h
        last, base = _take(y, starts - h, h), _take(y, starts - self.period, h)
        week = _take(y, starts - self.period, self.period)
        mean = week[:, : self.period - self.period % h].reshape(len(starts), -1, h).mean(1)
        calendar, working = _read_calendar(whole[TIME], starts + h // 2)
        columns = [last, base, mean, calendar]
        curved = [working]
        for name in self.covariates:
            values = whole[name].to_numpy(dtype=float)
            curved += [_coarse(_take(values, starts - back, h)) for back in (0, h, self.period)]
        for name in self.past_covariates:
            curved.append(_coarse(_take(history[name].to_numpy(dtype=float), starts - h, h)))
        features = _Features(np.concatenate(columns, 1), np.concatenate(curved, 1))
        if np.isnan(features.plain).any() or np.isnan(features.curved).any():
            raise ValueError(f"{self.alias} reads missing values; fill gaps of series and covariates first")
        return features, base

    def _check_h(self, h: int | None) -> None:
        if h is not None and h != self.h:
            raise ValueError(f"{self.alias} was built for h={self.h}, asked for h={h}; build it anew")

    def _check_level(self, level: Sequence[float] | None) -> None:
        if level:
            raise ValueError(f"{self.alias} gives no intervals; draw paths with tsllm.forecasting.paths.simulate")


class _Features(NamedTuple):
    """Features that enter as they are [N, D], and those that enter with squares and by kind of day [N, 1 + K].

    The first column of `curved` is 1 on working days.
    """

    plain: np.ndarray
    curved: np.ndarray


class _Fit:
    """Coefficients of one series."""

    def __init__(self, ridge: float, features: _Features, target: np.ndarray) -> None:
        self.plain, self.curved = _Standard(features.plain), _Standard(features.curved[:, 1:])
        x = self._expand(features)
        self.offset = target.mean(0)
        self.mean = x.mean(0)
        x = x - self.mean
        penalty = ridge * len(x) * np.eye(x.shape[1])
        self.slopes = np.linalg.solve(x.T @ x + penalty, x.T @ (target - self.offset))  # [D, h]

    def predict(self, features: _Features) -> np.ndarray:
        return self.offset + (self._expand(features) - self.mean) @ self.slopes

    def _expand(self, features: _Features) -> np.ndarray:
        curved = self.curved.apply(features.curved[:, 1:])
        bent = np.concatenate([curved, (curved**2 - 1) / np.sqrt(2)], 1)
        working = features.curved[:, :1]
        return np.concatenate([self.plain.apply(features.plain), bent, bent * working], 1)


class _Standard:
    """Centre and unit of each column of the training windows; a constant column keeps its unit."""

    def __init__(self, values: np.ndarray) -> None:
        spread = values.std(0)
        self.mean, self.scale = values.mean(0), np.where(spread > 0, spread, 1.0)

    def apply(self, values: np.ndarray) -> np.ndarray:
        return (values - self.mean) / self.scale


def _take(values: np.ndarray, starts: np.ndarray, length: int) -> np.ndarray:
    """Returns the windows [N, length] that start at `starts`."""
    return values[starts[:, None] + np.arange(length)]


def _coarse(values: np.ndarray) -> np.ndarray:
    """Returns means over groups of steps, [N, h] -> [N, h / COARSE]."""
    edges = np.arange(0, values.shape[1], COARSE)
    return np.add.reduceat(values, edges, axis=1) / np.diff(np.append(edges, values.shape[1]))


def _read_calendar(times: pd.Series, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns weekday (one-hot) and season of the year of the windows' middles, and whether they are working days.

    Integer times have no calendar: no columns, and every window counts as a working day.
    """
    if not pd.api.types.is_datetime64_any_dtype(times):
        return np.zeros((len(at), 0)), np.ones((len(at), 1))
    middle = pd.DatetimeIndex(times.iloc[at])
    day = middle.dayofweek.to_numpy()[:, None]
    angle = 2 * np.pi * middle.dayofyear.to_numpy()[:, None] / 365.25 * np.array([1, 2])
    working = (day < 5).astype(float)
    return np.concatenate([day == np.arange(7), working, np.sin(angle), np.cos(angle)], 1), working
