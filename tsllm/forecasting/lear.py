"""LEAR, the LASSO-estimated autoregression that price forecasting measures itself against (Lago et al., 2021)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from tsllm.data.frame import future_frame, list_covariates, validate_future
from tsllm.data.frequency import Freq, find_fixed_step
from tsllm.forecasting.base import (
    HistoryForecaster,
    check_count,
    check_refit,
    compute_quantile_levels,
    name_interval_columns,
    write_refit_rule,
)
from tsllm.forecasting.statistical import arrange_forecasts, validate_complete
from tsllm.hub.spec import Calibration
from tsllm.types import ID, TARGET, TIME, FrameError

DAYS_A_WEEK = 7
# Fewer rows than two weeks and the weekday dummies alone explain every day.
LEAST_DAYS = 14
MOST_CALIBRATION_DAYS = 56
# The standard deviation of a normal variable is its median absolute deviation times this.
_MAD_TO_STD = 1.4826022185056018
_PATH_STEPS = 64


class LEAR(HistoryForecaster):
    """One LASSO for each step of the day, on the whole days before it (Lago, Marcjasz, De Schutter & Weron, 2021).

    "Forecasting day-ahead electricity prices", Applied Energy 293, section 4.2. The regressors of a step are all steps
    of the days 1, 2, 3 and 7 before, the known covariates of all steps of its own day and of the days 1 and 7 before,
    and weekday dummies. Regressors and target are centred by their median, divided by their median absolute deviation
    and transformed by asinh (Uniejewski, Weron & Ziel, 2018); the penalty minimises the AIC along the LARS path, with
    the variance of the target as that of the noise, as the authors' program does.

    It is estimated anew at each cutoff, on `input_size` steps up to it, unless `refit` is False. A day is the steps
    that follow the cutoff, so a cutoff in the middle of a day is no worse than one at midnight. Beyond the paper: any
    number of steps a day, no or many covariates, and horizons of several days, where forecasts stand in for the days
    that have not been. Intervals are split-conformal: the model is estimated on all but the last days, whose absolute
    errors give the half-width of each step ahead; the forecast itself is then estimated on all days.

    Args:
        season: Steps in a day; None = by frequency. Integer time has no days of its own, so it must be given there;
            the weekday is then the day of a cycle of seven that begins at time 0.
        alias: Name of the forecast column.
        freq: Frequency of the data, a whole number of steps a day; None infers it.
        covariates: Columns known over the horizon.
        lags: Days before whose targets are read.
        covariate_lags: Days before whose covariates are read, besides those of the day itself.
        input_size: How many last steps each fit sees; None = all.
        calibration_days: Last days that the intervals are calibrated on; None = a fifth of all, at most 56.
        refit: False estimates once, on the data of `fit`, and calibrates there; later histories give the lags alone.
            For cutoffs at other times of day the same data are cut into other days.

    Raises:
        ImportError: If scikit-learn is not installed.
        ValueError: If a number is no count.
    """

    def __init__(
        self,
        season: int | None = None,
        alias: str = "LEAR",
        *,
        freq: Freq | None = None,
        covariates: Sequence[str] = (),
        lags: Sequence[int] = (1, 2, 3, 7),
        covariate_lags: Sequence[int] = (1, 7),
        input_size: int | None = None,
        calibration_days: int | None = None,
        refit: bool = True,
    ) -> None:
        _require_sklearn()
        counts = {"season": season, "input_size": input_size, "calibration_days": calibration_days}
        for name, value in counts.items():
            if value is not None:
                check_count(name, value)
        for name, days in (("lags", lags), ("covariate_lags", covariate_lags)):
            for day in days:
                check_count(f"each of {name}", day)
        if not lags:
            raise ValueError("lags names no day; give some, such as (1, 2, 3, 7)")
        self.alias, self.season, self.freq, self.input_size = alias, season, freq, input_size
        self.covariates, self.calibration_days = list_covariates(covariates), calibration_days
        check_refit(refit)
        self.refit = refit
        self.lags = Lags(tuple(lags), tuple(covariate_lags) if covariates else ())

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
            ValueError: If there is no history or no horizon, the frequency has no whole steps a day, or there are too
                few calibration days for a level.
            FrameError: If the history breaks the contract, misses values or is too short.
            FloatingPointError: If a forecast is not finite.
        """
        history, steps = self._recall(df, h)
        compute_quantile_levels(level)
        freq = self._find_freq(history)
        season = self._find_season(freq)
        out = future_frame(history, steps, freq)
        future = self._read_future(X_df, out)
        if self.input_size is not None:
            history = history.groupby(ID, sort=False).tail(self.input_size)
        made = []
        for name, group in history.groupby(ID, sort=False):
            days = self._cut_days(group, future[future[ID] == name], season, freq)
            kept = None if self.refit else self._find_kept(name, group, season, freq)
            self._check_days(name, days, season, fits=kept is None)
            made.append(self._forecast(days, steps, level, kept))
        out[[self.alias, *name_interval_columns(self.alias, level)]] = np.concatenate(made)  # [series * h, columns]
        return arrange_forecasts(out, self.alias, level, [ID, TIME])

    def _validate(self, df: pd.DataFrame) -> pd.DataFrame:
        return validate_complete(df, self.freq, list(self.covariates), self.alias, self.input_size)

    def _estimate(self, history: pd.DataFrame) -> dict[Any, "Estimated"]:
        freq = self._find_freq(history)
        season = self._find_season(freq)
        seen = history if self.input_size is None else history.groupby(ID, sort=False).tail(self.input_size)
        made = {name: Estimated(group, {}) for name, group in seen.groupby(ID, sort=False)}
        for name, estimated in made.items():
            estimated.kept[0] = self._keep_days(name, estimated.group, season, freq)
        return made

    def _find_kept(self, name: Any, group: pd.DataFrame, season: int, freq: Freq) -> "Kept":
        """Returns what was estimated of days that begin at the same time of day as those after a history."""
        data, kept = self._find_estimates(name, freq)
        behind = -count_steps_between(data[TIME].to_numpy()[-1], group[TIME].to_numpy()[-1], freq) % season
        if behind not in kept:
            kept[behind] = self._keep_days(name, data.iloc[: len(data) - behind], season, freq)
        return kept[behind]  # type: ignore[no-any-return]

    def _keep_days(self, name: Any, data: pd.DataFrame, season: int, freq: Freq) -> "Kept":
        days = self._cut_days(data, data.iloc[:0], season, freq)
        self._check_days(name, days, season)
        return Kept(days, {}, {})

    def _find_season(self, freq: Freq) -> int:
        """Returns the steps of a day."""
        if isinstance(freq, int):
            if self.season is None:
                raise ValueError(f"{self.alias} forecasts day by day, and integer time has no days; give season=24")
            return self.season
        found = count_steps_a_day(freq)
        if found is None:
            raise ValueError(
                f"{self.alias} forecasts day by day, but a day is no whole number of steps of freq {freq!r}; leave it "
                "out, or resample the data"
            )
        if self.season not in (None, found):
            raise ValueError(
                f"season is {self.season}, but a day has {found} steps of freq {freq!r}; leave season out"
            )
        return found

    def _read_future(self, X_df: pd.DataFrame | None, keys: pd.DataFrame) -> pd.DataFrame:
        if not self.covariates:
            return keys
        if X_df is None:
            raise FrameError(f"{self.alias} reads {self.covariates}; give X_df with their values over the horizon")
        return validate_future(X_df, keys, self.covariates)

    def _cut_days(self, group: pd.DataFrame, future: pd.DataFrame, season: int, freq: Freq) -> "Days":
        """Cuts a series and its horizon into days that meet at the cutoff; an incomplete first day is not read."""
        both = pd.concat([group, future])
        start, ahead = len(group) % season, -len(future) % season
        times = both[TIME].to_numpy()[start:]
        columns = both[list(self.covariates)].to_numpy(dtype=float)[start:]  # [T + h, K]
        weekdays = find_weekdays(times, season, freq)
        # The last day of the horizon may be cut short; nothing reads the steps that fill it up.
        columns = np.pad(columns, ((0, ahead), (0, 0)), constant_values=np.nan)
        weekdays = np.pad(weekdays, (0, ahead), mode="edge")
        y, shape = group[TARGET].to_numpy(dtype=float)[start:], (len(weekdays) // season, season)
        return Days(y.reshape(-1, season), columns.reshape(*shape, columns.shape[1]), weekdays.reshape(shape))

    def _check_days(self, name: Any, days: "Days", season: int, fits: bool = True) -> None:
        """Refuses fewer days than a fit needs, or the lags of a forecast."""
        if not fits and len(days.y) < self.lags.longest:
            raise FrameError(
                f"series {name!r} has {len(days.y)} whole days of {season} steps; {self.alias} reads up to "
                f"{self.lags.longest} days before; give more history, a larger input_size or shorter lags"
            )
        needed = self.lags.longest + LEAST_DAYS
        if fits and len(days.y) < needed:
            raise FrameError(
                f"series {name!r} has {len(days.y)} whole days of {season} steps to fit; {self.alias} with lags up to "
                f"{self.lags.longest} days needs at least {needed}; give more history, a larger input_size or "
                "shorter lags"
            )

    def _forecast(self, days: "Days", h: int, level: Sequence[float] | None, kept: "Kept | None") -> np.ndarray:
        """Returns the point forecast and the interval bounds [h, 1 + 2 * levels] of one series."""
        kept = Kept(days, {}, {}) if kept is None else kept
        fits = DayFits(kept.days, self.lags, len(kept.days.y), kept.models)
        point = _forecast_from(days, np.array([len(days.y)]), h, fits)[0]  # [h]
        columns = [point]
        if level:
            if h not in kept.calibrations:
                kept.calibrations[h] = self._calibrate(kept.days, h)
            calibration = kept.calibrations[h]
            for lv in level:
                half = calibration.half_width(lv)[:, 0].double().numpy()  # [h]
                columns += [point - half, point + half]
        return np.stack(columns, axis=1)

    def _calibrate(self, days: "Days", h: int) -> Calibration:
        """Computes conformal half-widths of each step ahead from the last days of the history.

        Raises:
            ValueError: If the history has too few days for it.
        """
        num_days, season = days.y.shape
        held = self.calibration_days
        if held is None:
            held = min(MOST_CALIBRATION_DAYS, num_days // 5)
        fitted, blocks = num_days - held, -(-h // season)
        if fitted < self.lags.longest + LEAST_DAYS or held < blocks + 1:
            raise ValueError(
                f"{self.alias} has {num_days} days and keeps {held} of them to calibrate intervals; it needs at least "
                f"{blocks + 1} there and {self.lags.longest + LEAST_DAYS} to fit; give more history, or no level"
            )
        origins = np.arange(fitted, num_days - blocks + 1)
        forecasts = _forecast_from(days, origins, h, DayFits(days, self.lags, fitted, {}))  # [N, h]
        actual = np.stack([days.y[t : t + blocks].reshape(-1)[:h] for t in origins])  # [N, h]
        return Calibration.from_residuals(torch.from_numpy(actual - forecasts)[..., None])  # [N, h, 1]


class Lags(NamedTuple):
    """Days before the forecast one.

    Attributes:
        target: Whose targets are read.
        covariates: Whose covariates are read.
    """

    target: tuple[int, ...]
    covariates: tuple[int, ...]

    @property
    def longest(self) -> int:
        """The furthest day."""
        return max((*self.target, *self.covariates))


class Days(NamedTuple):
    """A series and its horizon, cut into days.

    Attributes:
        y: Target [days, steps of a day].
        covariates: Known covariates, the horizon's days included [days + ahead, steps of a day, K].
        weekdays: 0 to 6 [days + ahead, steps of a day].
    """

    y: np.ndarray
    covariates: np.ndarray
    weekdays: np.ndarray


@dataclass(frozen=True)
class AsinhScaler:
    """asinh((x - median) / MAD) for each column, the MAD scaled to a normal's standard deviation.

    A column whose MAD is 0, such as holidays, is divided by its standard deviation, a constant one by 1.

    Attributes:
        centre: Medians [F].
        scale: [F].
    """

    centre: np.ndarray
    scale: np.ndarray

    @classmethod
    def fit(cls, values: np.ndarray) -> "AsinhScaler":
        """Takes the statistics of `values` [N, F].

        >>> scaler = AsinhScaler.fit(np.array([[1.0], [2.0], [4.0]]))
        >>> scaler.centre.tolist(), scaler.scale.round(4).tolist()
        ([2.0], [1.4826])
        """
        centre = np.median(values, axis=0)
        scale = np.median(np.abs(values - centre), axis=0) * _MAD_TO_STD
        scale = np.where(scale > 0, scale, values.std(axis=0))
        return cls(centre, np.where(scale > 0, scale, 1.0))

    def transform(self, values: np.ndarray) -> np.ndarray:
        """Returns the values [N, F] in the transformed scale."""
        return np.arcsinh((values - self.centre) / self.scale)

    def inverse(self, values: np.ndarray) -> np.ndarray:
        """Returns transformed values [N, F] in their own scale."""
        return np.sinh(values) * self.scale + self.centre


def count_steps_a_day(freq: str) -> int | None:
    """Returns how many steps of a calendar frequency a day has; None if no whole number.

    >>> count_steps_a_day("h"), count_steps_a_day("30min"), count_steps_a_day("D"), count_steps_a_day("7h")
    (24, 48, 1, None)
    """
    step = find_fixed_step(pd.tseries.frequencies.to_offset(freq))
    if step is None:
        return None
    steps, rest = divmod(np.timedelta64(1, "D").astype("timedelta64[ns]"), step.astype("timedelta64[ns]"))
    return int(steps) if steps >= 1 and rest == np.timedelta64(0, "ns") else None


def count_steps_between(first: Any, last: Any, freq: Freq) -> int:
    """Returns how many steps of a fixed length lie between two times.

    >>> count_steps_between(np.datetime64("2024-01-01"), np.datetime64("2024-01-02T06"), "h")
    30
    """
    step = freq if isinstance(freq, int) else find_fixed_step(pd.tseries.frequencies.to_offset(freq))
    return int((last - first) // step)


def find_weekdays(times: np.ndarray, season: int, freq: Freq) -> np.ndarray:
    """Returns the weekday (0 = Monday) of each time [T]; of integer time, the day of a cycle of seven from time 0."""
    if isinstance(freq, int):
        return (times // (freq * season)) % DAYS_A_WEEK
    return pd.DatetimeIndex(times).dayofweek.to_numpy()


def build_regressors(past: np.ndarray, covariates: np.ndarray, lags: Lags, steps: int) -> np.ndarray:
    """Returns the regressors of a day [N, F]: lagged targets, its covariates, lagged covariates, each step by step.

    Args:
        past: Targets of the days before, the last one next to the forecast day [N, days before, S].
        covariates: The same days' and the forecast day's covariates [N, days before + 1, S, K].
        lags: Days that are read.
        steps: Steps of the forecast day that are forecast, so that their covariates are known.
    """
    number = len(past)
    parts = [past[:, -lag] for lag in lags.target]
    parts.append(covariates[:, -1, :steps].reshape(number, -1))
    parts += [covariates[:, -1 - lag].reshape(number, -1) for lag in lags.covariates]
    return np.concatenate(parts, axis=1)  # [N, F]


class DayModel:
    """The regressions of one day, one for each of its steps.

    Args:
        regressors: [N, F].
        targets: [N, steps].
        weekdays: [N, steps].
    """

    def __init__(self, regressors: np.ndarray, targets: np.ndarray, weekdays: np.ndarray) -> None:
        self.inputs, self.outputs = AsinhScaler.fit(regressors), AsinhScaler.fit(targets)
        scaled, wanted = self.inputs.transform(regressors), self.outputs.transform(targets)
        self.fits = [
            fit_lasso(np.concatenate([scaled, _dummies(weekdays[:, k])], axis=1), wanted[:, k])
            for k in range(targets.shape[1])
        ]

    def predict(self, regressors: np.ndarray, weekdays: np.ndarray) -> np.ndarray:
        """Returns the forecasts [N, steps] for `regressors` [N, F] and `weekdays` [N, steps]."""
        scaled = self.inputs.transform(regressors)
        made = [
            np.concatenate([scaled, _dummies(weekdays[:, k])], axis=1) @ weights + intercept
            for k, (weights, intercept) in enumerate(self.fits)
        ]
        return self.outputs.inverse(np.stack(made, axis=1))


def fit_lasso(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, float]:
    """Returns weights [F] and intercept of the LASSO on the LARS path whose AIC is least (Zou et al., 2007).

    The criterion is N mse / var(y) + 2 (number of weights). The path is left where the weights alone cost more than
    the best point so far. Columns that are constant or repeat an earlier one, such as a holiday that holds for the
    whole day, say nothing more and get no weight.
    """
    linear_model = _require_sklearn()
    weights, noise = np.zeros(x.shape[1]), float(np.var(y))
    if noise == 0:
        return weights, float(y.mean())
    _, first = np.unique(x, axis=1, return_index=True)
    kept = np.sort(first[np.ptp(x[:, first], axis=0) > 0])
    steps = _PATH_STEPS
    while True:
        model = linear_model.LassoLarsIC(criterion="aic", noise_variance=noise, max_iter=steps).fit(x[:, kept], y)
        best = model.criterion_.min() - len(y) * np.log(2 * np.pi * noise)  # without what is the same for all
        # One weight comes or goes a step, so a path of n steps has at most n weights; it has nearly as many.
        if model.n_iter_ < steps or 2 * steps >= best:
            break
        steps *= 2
    weights[kept] = model.coef_
    return weights, float(model.intercept_)


class DayFits(NamedTuple):
    """Where the regressions of a day come from.

    Attributes:
        days: They are estimated on the first of these.
        lags: What they read.
        fitted: On how many.
        models: Steps of the forecast day -> regressions; those that are missing are estimated and kept.
    """

    days: Days
    lags: Lags
    fitted: int
    models: dict[int, DayModel]

    def of(self, steps: int) -> DayModel:
        """Returns the regressions of the first `steps` steps of a day."""
        if steps not in self.models:
            self.models[steps] = _fit_day(self.days, self.lags, self.fitted, steps)
        return self.models[steps]


class Kept(NamedTuple):
    """What is estimated once of a series.

    Attributes:
        days: The days of `fit`.
        models: As in `DayFits`.
        calibrations: Horizon -> conformal half-widths from these days.
    """

    days: Days
    models: dict[int, DayModel]
    calibrations: dict[int, Calibration]


class Estimated(NamedTuple):
    """A series that was estimated once.

    Attributes:
        group: Its data of `fit`.
        kept: Last steps that are left out, so that days begin at another time -> what is estimated of those days.
    """

    group: pd.DataFrame
    kept: dict[int, Kept]


def _forecast_from(days: Days, origins: np.ndarray, h: int, fits: DayFits) -> np.ndarray:
    """Returns forecasts [N, h] of the days from `origins` on.

    Day by day: a day that lies after the origin is read as it was forecast.
    """
    lags = fits.lags
    longest, season = lags.longest, days.y.shape[1]
    past = _windows(days.y, origins, longest)  # [N, longest, S]
    made = []
    for block in range(-(-h // season)):
        steps = min(season, h - block * season)
        now = origins + block
        covariates = _windows(days.covariates, now + 1, longest + 1)  # [N, longest + 1, S, K]
        regressors = build_regressors(past, covariates, lags, steps)
        forecast = fits.of(steps).predict(regressors, days.weekdays[now][:, :steps])  # [N, steps]
        made.append(forecast)
        if steps == season:
            past = np.concatenate([past[:, 1:], forecast[:, None]], axis=1)
    return np.concatenate(made, axis=1)


def _fit_day(days: Days, lags: Lags, fitted: int, steps: int) -> DayModel:
    """Estimates the first `steps` regressions of a day on the first `fitted` days."""
    rows = np.arange(lags.longest, fitted)
    covariates = _windows(days.covariates, rows + 1, lags.longest + 1)
    regressors = build_regressors(_windows(days.y, rows, lags.longest), covariates, lags, steps)
    return DayModel(regressors, days.y[rows, :steps], days.weekdays[rows, :steps])


def _windows(values: np.ndarray, ends: np.ndarray, length: int) -> np.ndarray:
    """Returns the `length` days before each of `ends` [N, length, ...]."""
    return values[ends[:, None] - length + np.arange(length)]


def _dummies(weekdays: np.ndarray) -> np.ndarray:
    return np.eye(DAYS_A_WEEK)[weekdays]  # [N, 7]


def _require_sklearn() -> Any:
    try:
        from sklearn import linear_model
    except ImportError as error:
        raise ImportError("LEAR needs scikit-learn; pip install 'tsllm[opponents]'") from error
    return linear_model
