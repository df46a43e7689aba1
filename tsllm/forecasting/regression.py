"""One ridge regression for all steps of the horizon: lags, calendar and covariates."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
import torch

from tsllm.data.frame import future_frame, validate_future
from tsllm.data.frequency import Freq
from tsllm.forecasting.base import Forecaster, check_windows, compute_quantile_levels, name_interval_columns
from tsllm.forecasting.statistical import validate_complete
from tsllm.hub.spec import Calibration
from tsllm.types import CUTOFF, ID, TARGET, TIME

COARSE = 4  # covariates are read at every fourth step of the horizon


class StepRegression(Forecaster):
    """Ridge regression of the `h` steps ahead on what is known at the cutoff; closed form, a second to fit.

    The target is the difference to the same steps a period (a week) before. Features, all standardised: the last `h`
    values, those a period before and the mean of the period; weekday and season of the year; known covariates over the
    horizon, the `h` steps before and the steps a period before; past covariates over the last `h` steps. Covariates
    enter with their squares, and on working days with slopes of their own.

    Intervals are the point forecast plus and minus quantiles of the absolute leave-one-out errors of the training
    windows (jackknife; Barber et al. 2021), one width a step. The errors have a closed form, `e_i / (1 - h_ii)`, with
    centre, unit and penalty of the whole fit.

    Args:
        h: Steps ahead; training windows are `h` apart, ending at the end of the training data.
        period: Steps of the long season, such as a week; at least `h`.
        covariates: Columns known over the horizon.
        past_covariates: Columns known up to the cutoff.
        ridge: Penalty as a share of the number of windows; larger is smoother.
        alias: Name of the forecast column.
        freq: As in `validate_frame`; None infers it.
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
        freq: Freq | None = None,
    ) -> None:
        if h < 1 or period < h:
            raise ValueError(f"period ({period}) must be at least h ({h}), and h at least 1 step")
        if not ridge > 0:
            raise ValueError(f"ridge ({ridge}) must be above 0")
        self.h, self.period, self.alias = h, period, alias
        self.covariates, self.past_covariates = list(covariates), list(past_covariates)
        self.ridge, self.freq = ridge, freq
        self._fits: dict[Any, _Fit] = {}
        self._history: pd.DataFrame | None = None

    @property
    def context_length(self) -> int:
        """Steps of history that a forecast reads."""
        return self.period + self.h

    def fit(self, df: pd.DataFrame, h: int | None = None) -> Self:
        """Fits one regression for each series of the long frame and remembers it as the history.

        Raises:
            FrameError: If the frame breaks the contract, or values are missing.
            ValueError: If `h` is another one or a series has too few windows.
        """
        self._check_h(h)
        df = self._validate(df)
        self._fits = {}
        for name, part in df.groupby(ID, sort=False):
            starts = np.arange(len(part) - self.h, self.context_length - 1, -self.h)[::-1]
            if len(starts) < 10:
                raise ValueError(
                    f"{self.alias}: series {name!r} has {len(part)} steps, {len(starts)} training windows of {self.h} "
                    f"after a look-back of {self.context_length}; it needs 10: give longer series, a shorter "
                    "period or a shorter h"
                )
            features, base = self._read(part, part, starts)
            y = part[TARGET].to_numpy(dtype=float)
            self._fits[name] = _Fit(self.ridge, features, _take(y, starts, self.h) - base)
        self._history = df
        return self

    def update(self, df: pd.DataFrame) -> Self:
        """Takes `df` as the new history; the coefficients stay.

        Raises:
            ValueError: If it holds a series that was not fitted.
        """
        df = self._validate(df)
        for name in df[ID].unique():
            self._find(name)
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
            ValueError: If there is no history, a level is above what the training windows support, or covariates are
                missing.
        """
        self._check_h(h)
        compute_quantile_levels(level)
        history = self._history if df is None else self._validate(df)
        if history is None:
            raise ValueError(f"{self.alias} has no history: call fit(df), or predict(df=...)")
        if self.covariates and X_df is None:
            raise ValueError(f"{self.alias} reads {', '.join(self.covariates)} over the horizon; give X_df")
        ahead = future_frame(history, self.h, self.freq)
        if self.covariates:
            ahead = validate_future(X_df, ahead, self.covariates)
        futures = dict(iter(ahead.groupby(ID, sort=False)))
        parts = []
        for name, part in history.groupby(ID, sort=False):
            future = futures[name].reset_index(drop=True)
            whole = pd.concat([part, future], ignore_index=True)
            point = self._forecast(name, part, whole, np.array([len(part)]))
            columns = self._name_columns(name, point, level)
            parts.append(future[[ID, TIME]].assign(**columns))
        return pd.concat(parts, ignore_index=True)

    def predict_rolling(
        self, df: pd.DataFrame, h: int, n_windows: int, step_size: int, level: Sequence[float] | None = None
    ) -> pd.DataFrame:
        """Forecasts from the last `n_windows` cutoffs of each series without fitting, all at once."""
        check_windows(df, h, n_windows, step_size)
        self._check_h(h)
        compute_quantile_levels(level)
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
                        **self._name_columns(name, forecast, level),
                    }
                )
            )
        return pd.concat(parts, ignore_index=True)

    def _forecast(self, name: Any, history: pd.DataFrame, whole: pd.DataFrame, starts: np.ndarray) -> np.ndarray:
        fit = self._find(name)
        features, base = self._read(history, whole, starts)
        return base + fit.predict(features)

    def _name_columns(self, name: Any, point: np.ndarray, level: Sequence[float] | None) -> dict[str, np.ndarray]:
        """Returns the columns of point forecasts [N, h] and their intervals, each [N * h]."""
        columns = [point]
        for lv in level or ():
            width = self._find(name).half_width(lv)  # [h]
            columns += [point - width, point + width]
        names = [self.alias, *name_interval_columns(self.alias, level)]
        return {column: values.reshape(-1) for column, values in zip(names, columns, strict=True)}

    def _find(self, name: Any) -> "_Fit":
        if name not in self._fits:
            raise ValueError(f"{self.alias} was not fitted on the series {name!r}; fit it first")
        return self._fits[name]

    def _validate(self, df: pd.DataFrame) -> pd.DataFrame:
        return validate_complete(df, self.freq, [*self.covariates, *self.past_covariates], self.alias)

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
        self.features, self.target = features, target
        self.penalised = x.T @ x + ridge * len(x) * np.eye(x.shape[1])  # [D, D]
        self.slopes = np.linalg.solve(self.penalised, x.T @ (target - self.offset))  # [D, h]
        self._calibration: Calibration | None = None

    def predict(self, features: _Features) -> np.ndarray:
        return self.offset + (self._expand(features) - self.mean) @ self.slopes

    def leave_one_out(self) -> np.ndarray:
        """Returns the errors of each training window had it not been fitted on, [N, h]."""
        x = self._expand(self.features) - self.mean
        own = 1 / len(x) + (x * np.linalg.solve(self.penalised, x.T).T).sum(1)  # [N], the hat matrix's diagonal
        return (self.target - self.predict(self.features)) / (1 - own[:, None])

    def half_width(self, level: float) -> np.ndarray:
        """Returns the half-width [h] of a central interval in per cent."""
        if self._calibration is None:
            self._calibration = Calibration.from_residuals(torch.as_tensor(self.leave_one_out())[..., None])
        return self._calibration.half_width(level)[:, 0].double().numpy()

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
