"""One ridge regression for all steps of the horizon: lags, calendar and covariates."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pandas as pd
import torch

from tsllm.data.frame import future_frame, list_covariates, validate_future
from tsllm.data.frequency import Freq
from tsllm.forecasting.base import Forecaster, check_windows, compute_quantile_levels, name_interval_columns
from tsllm.forecasting.statistical import validate_complete
from tsllm.hub.spec import Calibration
from tsllm.types import CUTOFF, ID, TARGET, TIME

COARSE = 4  # covariates are read at every fourth step of the horizon
CALENDAR = 1.5  # distance of a working day and a day off in the kernel, in standard deviations of a covariate
KERNEL_WIDTH = 1.5  # mean squared distance of features, in standard deviations, at which the kernel falls to exp(-1/2)


class StepRegression(Forecaster):
    """Ridge regression of the `h` steps ahead on what is known at the cutoff; closed form, a second to fit.

    The target is the difference to the same steps a period (a week) before. Features, all standardised: the last `h`
    values, those a period before and the mean of the period; weekday and season of the year; known covariates over the
    horizon, the `h` steps before and the steps a period before; past covariates over the last `h` steps. Covariates
    enter with their squares, and on working days with slopes of their own. With `kernel` the regression is one in the
    space of these features and of a radial kernel on covariates and calendar (kernel ridge regression; Saunders et al.
    1998), which bends freely: hot days on holidays in autumn follow days of that kind.

    Intervals are the point forecast plus and minus quantiles of the absolute leave-one-out errors of the training
    windows (jackknife; Barber et al. 2021), one width a step. The errors have a closed form, `e_i / (1 - h_ii)`, with
    centre, unit and penalty of the whole fit.

    Args:
        h: Steps ahead; training windows are `h` apart, ending at the end of the training data.
        period: Steps of the long season, such as a week; at least `h`.
        covariates: Columns known over the horizon.
        past_covariates: Columns known up to the cutoff.
        ridge: Penalty as a share of the number of windows; larger is smoother.
        kernel: Weight of the kernel, in units of one standardised feature; 0 = none. It takes windows by the hundred,
            and memory for their number squared.
        holiday: The one of `covariates` that is 1 on days off; these count as no working days.
        time_zone: The clock that people keep, such as "Australia/Melbourne", where times are UTC; None = as given.
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
        kernel: float = 0.0,
        time_zone: str | None = None,
        holiday: str | None = None,
        alias: str = "StepRegression",
        freq: Freq | None = None,
    ) -> None:
        if h < 1 or period < h:
            raise ValueError(f"period ({period}) must be at least h ({h}), and h at least 1 step")
        if not ridge > 0 or not kernel >= 0:
            raise ValueError(f"ridge ({ridge}) must be above 0, and kernel ({kernel}) at least 0")
        self.h, self.period, self.alias = h, period, alias
        self.covariates, self.past_covariates = list_covariates(covariates), list_covariates(past_covariates)
        if time_zone is not None:
            check_time_zone(time_zone)
        if holiday is not None and holiday not in covariates:
            raise ValueError(
                f"holiday is {holiday!r}, which is none of the covariates {list(covariates)}; name it there"
            )
        self.holiday = holiday
        self.ridge, self.kernel, self.time_zone, self.freq = ridge, kernel, time_zone, freq
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
            target = _take(y, starts, self.h) - base
            kernel = _KernelFit(self.ridge, self.kernel, features, target) if self.kernel else None
            self._fits[name] = kernel or _Fit(self.ridge, features, target)
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
        calendar = _read_calendar(whole[TIME], starts + h // 2, self.time_zone)
        columns = [last, base, mean]
        if self.holiday is not None:
            off = whole[self.holiday].to_numpy(dtype=float)
            days = np.stack([off[starts + h // 2 - back] for back in (0, h, self.period)], 1)  # [N, 3]
            calendar = calendar.take_off(days)
        columns.append(calendar.columns)
        named = [name for name in self.covariates if name != self.holiday]
        known = {name: whole[name].to_numpy(dtype=float) for name in named}
        curved = [_coarse(_take(known[name], starts, h)) for name in named]
        ahead = sum(part.shape[1] for part in curved)
        for name in named:
            curved += [_coarse(_take(known[name], starts - back, h)) for back in (h, self.period)]
        for name in self.past_covariates:
            curved.append(_coarse(_take(history[name].to_numpy(dtype=float), starts - h, h)))
        none = np.zeros((len(starts), 0))
        curves = np.concatenate([none, *curved], 1)
        features = _Features(np.concatenate(columns, 1), curves, calendar, ahead)
        if np.isnan(features.plain).any() or np.isnan(features.curved).any():
            raise ValueError(f"{self.alias} reads missing values; fill gaps of series and covariates first")
        return features, base

    def _check_h(self, h: int | None) -> None:
        if h is not None and h != self.h:
            raise ValueError(f"{self.alias} was built for h={self.h}, asked for h={h}; build it anew")


class _Calendar(NamedTuple):
    """What the date of N windows says.

    Attributes:
        columns: Weekday (one-hot), working day, two waves over the year, what else is known [N, 12 + K]; nothing for
            integer times.
        working: 1 on working days [N, 1].
    """

    columns: np.ndarray
    working: np.ndarray

    def take_off(self, days: np.ndarray) -> "_Calendar":
        """Returns the calendar with days off: of the window, the one before and the one a period before [N, 3]."""
        working = self.working * (days[:, :1] != 1)
        return _Calendar(np.concatenate([self.columns, days, working], 1), working)


class _Features(NamedTuple):
    """Features of N windows.

    Attributes:
        plain: Those that enter as they are [N, D].
        curved: Those of covariates, which enter with squares and by kind of day [N, K].
        calendar: Dates.
        ahead: How many of `curved`, the first ones, are of the horizon.
    """

    plain: np.ndarray
    curved: np.ndarray
    calendar: _Calendar
    ahead: int


class _Fit:
    """Coefficients of one series."""

    def __init__(self, ridge: float, features: _Features, target: np.ndarray) -> None:
        self.features, self.target = features, target
        self.plain, self.curved = _Standard(features.plain), _Standard(features.curved)
        x = self._expand(features)
        self.offset, self.mean = target.mean(0), x.mean(0)
        self._calibration: Calibration | None = None
        self._solve(ridge, x - self.mean)

    def _solve(self, ridge: float, x: np.ndarray) -> None:
        self.penalised = x.T @ x + ridge * len(x) * np.eye(x.shape[1])  # [D, D]
        self.slopes = np.linalg.solve(self.penalised, x.T @ (self.target - self.offset))  # [D, h]

    def predict(self, features: _Features) -> np.ndarray:
        """Returns what is added to the values a period before, [N, h]."""
        return self.offset + (self._expand(features) - self.mean) @ self.slopes

    def leave_one_out(self) -> np.ndarray:
        """Returns the errors of each training window had it not been fitted on, [N, h]."""
        return (self.target - self.predict(self.features)) / (1 - 1 / len(self.target) - self._own_share()[:, None])

    def half_width(self, level: float) -> np.ndarray:
        """Returns the half-width [h] of a central interval in per cent."""
        if self._calibration is None:
            self._calibration = Calibration.from_residuals(torch.as_tensor(self.leave_one_out())[..., None])
        return self._calibration.half_width(level)[:, 0].double().numpy()

    def _own_share(self) -> np.ndarray:
        """Returns how much of each training window's fit comes from itself, the hat matrix's diagonal [N]."""
        x = self._expand(self.features) - self.mean
        return (x * np.linalg.solve(self.penalised, x.T).T).sum(1)

    def _expand(self, features: _Features) -> np.ndarray:
        curved = self.curved.apply(features.curved)
        bent = np.concatenate([curved, (curved**2 - 1) / np.sqrt(2)], 1)
        return np.concatenate([self.plain.apply(features.plain), bent, bent * features.calendar.working], 1)


class _KernelFit(_Fit):
    """The same in the space of the features and a radial kernel: weights of training windows."""

    def __init__(self, ridge: float, weight: float, features: _Features, target: np.ndarray) -> None:
        self.weight = weight
        super().__init__(ridge, features, target)

    def _solve(self, ridge: float, x: np.ndarray) -> None:
        self.x, self.kinds = x, self._describe(self.features)
        raw = self._compare(self.kinds)
        self.centre = raw.mean(0)
        self.gram = x @ x.T + self._centre(raw)  # [N, N]
        self.penalised = self.gram + ridge * len(x) * np.eye(len(x))
        self.slopes = np.linalg.solve(self.penalised, self.target - self.offset)  # [N, h]

    def predict(self, features: _Features) -> np.ndarray:
        """Returns what is added to the values a period before, [N, h]."""
        x = self._expand(features) - self.mean
        near = self._centre(self._compare(self._describe(features)))
        return self.offset + (x @ self.x.T + near) @ self.slopes

    def _own_share(self) -> np.ndarray:
        return np.linalg.solve(self.penalised, self.gram).diagonal()

    def _describe(self, features: _Features) -> np.ndarray:
        """Returns what the kernel compares, [N, J]: covariates over the horizon, and the calendar."""
        covariates = self.curved.apply(features.curved)[:, : features.ahead]
        return np.concatenate([covariates, CALENDAR * features.calendar.columns], 1)

    def _compare(self, kinds: np.ndarray) -> np.ndarray:
        """Returns the kernel between windows [M, J] and the training windows, [M, N]."""
        squares = (kinds**2).sum(1)[:, None] + (self.kinds**2).sum(1) - 2 * kinds @ self.kinds.T
        return self.weight * np.exp(-squares / (2 * KERNEL_WIDTH * kinds.shape[1]))

    def _centre(self, raw: np.ndarray) -> np.ndarray:
        """Returns the kernel of functions without a mean over the training windows, so that the offset is theirs."""
        return raw - raw.mean(1, keepdims=True) - self.centre + self.centre.mean()


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


def check_time_zone(name: str) -> None:
    """Refuses a name that is no time zone.

    Raises:
        ValueError: Naming it.
    """
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError(
            f"time_zone is {name!r}; give a name of the tz database such as Australia/Melbourne"
        ) from error


def _read_calendar(times: pd.Series, at: np.ndarray, time_zone: str | None) -> _Calendar:
    """Reads the dates of the windows' middles; integer times have none, and every window counts as a working day."""
    if not pd.api.types.is_datetime64_any_dtype(times):
        return _Calendar(np.zeros((len(at), 0)), np.ones((len(at), 1)))
    middle, more = pd.DatetimeIndex(times.iloc[at]), []
    if time_zone is not None:
        local = middle.tz_localize("UTC").tz_convert(time_zone)
        more = [np.array([[float(bool(time.dst()))] for time in local])]
        middle = local.tz_localize(None)
    day = middle.dayofweek.to_numpy()[:, None]
    angle = 2 * np.pi * middle.dayofyear.to_numpy()[:, None] / 365.25 * np.array([1, 2])
    working = (day < 5).astype(float)
    return _Calendar(np.concatenate([day == np.arange(7), working, np.sin(angle), np.cos(angle), *more], 1), working)
