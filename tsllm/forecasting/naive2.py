"""Naive2, the benchmark of the M competitions: the naive forecast of the seasonally adjusted series."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm

from tsllm.data.frame import future_frame, infer_freq, validate_frame
from tsllm.data.frequency import Freq
from tsllm.forecasting.base import HistoryForecaster, check_count, compute_quantile_levels, name_interval_columns
from tsllm.types import ID, TARGET, FrameError

CRITICAL = 1.645  # two-sided 10 %, the competition's


class Naive2(HistoryForecaster):
    """Repeats the last seasonally adjusted value and puts the season on again; plain naive where no season is found.

    As in the M4 competition (Makridakis, Spiliotis & Assimakopoulos 2020): a series is seasonal if its
    autocorrelation at lag m differs from zero at 10 % (Bartlett's bound) and it has three seasons; it is adjusted by
    the classical multiplicative decomposition. Intervals are normal around the adjusted random walk.

    Args:
        season: m, steps in a season; 1 gives the naive forecast.
        alias: Name of the forecast column.
        freq: Frequency of the data; None infers it.
    """

    def __init__(self, season: int, alias: str = "Naive2", *, freq: Freq | None = None) -> None:
        check_count("season", season)
        self.season, self.alias, self.freq = season, alias, freq

    def predict(
        self,
        df: pd.DataFrame | None = None,
        h: int | None = None,
        level: Sequence[float] | None = None,
        X_df: pd.DataFrame | None = None,
    ) -> pd.DataFrame:
        """Forecasts the `h` steps after each series; see `Forecaster.predict`. `X_df` is not read.

        Raises:
            FrameError: If a value is missing, or a seasonal series has values that are not above zero.
        """
        history, steps = self._recall(df, h)
        out = future_frame(history, steps, self.freq if self.freq is not None else infer_freq(history))
        made = [
            self._forecast(name, y.to_numpy(float), steps, level)
            for name, y in history.groupby(ID, sort=False)[TARGET]
        ]
        out[[self.alias, *name_interval_columns(self.alias, level)]] = np.concatenate(made)
        return out

    def _forecast(self, name: Any, y: np.ndarray, h: int, level: Sequence[float] | None) -> np.ndarray:
        """Returns point forecast and bounds [h, 1 + 2 * levels]."""
        if np.isnan(y).any():
            raise FrameError(f"series {name!r} has missing values, which Naive2 cannot adjust; fill them first")
        factors = np.ones(max(self.season, 1))
        if is_seasonal(y, self.season):
            factors = find_seasonal_factors(y, self.season)
            if not (factors > 0).all():
                raise FrameError(
                    f"series {name!r} has seasonal factors that are not above zero, so it cannot be adjusted by "
                    "division; use SeasonalNaive, or shift the series"
                )
        position = np.arange(len(y))
        adjusted = y / factors[position % len(factors)]
        ahead = factors[(len(y) + np.arange(h)) % len(factors)]  # [h]
        columns = [adjusted[-1] * ahead]
        if level:
            spread = np.sqrt(np.mean(np.diff(adjusted) ** 2)) if len(y) > 1 else 0.0
            sigma = spread * np.sqrt(np.arange(1, h + 1)) * ahead
            columns += [columns[0] + norm.ppf(q) * sigma for q in compute_quantile_levels(level)]
        return np.stack(columns, axis=1)

    def _validate(self, df: pd.DataFrame) -> pd.DataFrame:
        return validate_frame(df, freq=self.freq, covariates=[])


def is_seasonal(y: np.ndarray, season: int) -> bool:
    """Tells whether a series [time] has a season of so many steps: the test of the M4 competition.

    Its program computes autocorrelations up to lag 10 log10(n), so longer seasons count as none.
    """
    n = len(y)
    if season < 2 or n < 3 * season or season > int(10 * np.log10(n)):
        return False
    centred = y - y.mean()
    total = centred @ centred
    if total == 0:
        return False
    r = np.array([centred[k:] @ centred[:-k] for k in range(1, season + 1)]) / total
    bound = CRITICAL / np.sqrt(n) * np.sqrt(1 + 2 * (r[:-1] ** 2).sum())
    return bool(abs(r[-1]) > bound)


def find_seasonal_factors(y: np.ndarray, season: int) -> np.ndarray:
    """Returns the factor of each step of the season [season], of mean 1: the classical multiplicative decomposition.

    The trend is a centred moving average over a season (of two averages if it is even); a step's factor is the mean of
    its ratios to the trend.
    """
    weights = np.full(season, 1.0 / season)
    if season % 2 == 0:
        weights = np.convolve(weights, [0.5, 0.5])
    margin = len(weights) // 2
    trend = np.convolve(y, weights, mode="valid")  # [time - 2 * margin]
    ratio = y[margin : len(y) - margin] / trend
    step = np.arange(margin, len(y) - margin) % season
    factors = np.array([ratio[step == k].mean() for k in range(season)])
    return factors / factors.mean()
