"""The naive and the seasonal naive forecaster: the baseline that everything else is measured against."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm

from tsllm.data.frame import future_frame, infer_freq, validate_frame
from tsllm.data.frequency import Freq
from tsllm.forecasting.base import (
    HistoryForecaster,
    check_count,
    check_windows,
    compute_quantile_levels,
    name_interval_columns,
)
from tsllm.types import CUTOFF, ID, TARGET, TIME, FrameError


class SeasonalNaive(HistoryForecaster):
    """Repeats the last observed season; intervals are normal with the variance of the seasonal differences.

    Hyndman & Athanasopoulos (2021), section 5.2 and 5.5: the forecast k seasons after its source has the standard
    deviation sigma sqrt(k). On complete series it equals statsforecast's model. Where the last season misses a value,
    the same step of an earlier season stands in for it, with the k that belongs to it.

    Args:
        season: Steps in a season; 1 gives the naive forecast.
        alias: Name of the forecast column.
        freq: Frequency of the data; None infers it.

    Example:
        >>> import pandas as pd, tsllm
        >>> df = pd.DataFrame({"unique_id": "a", "ds": range(6), "y": [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]})
        >>> tsllm.SeasonalNaive(3).fit(df, h=4).predict()["SeasonalNaive"].tolist()
        [1.0, 2.0, 3.0, 1.0]
    """

    rolls_at_once = True

    def __init__(self, season: int, alias: str = "SeasonalNaive", *, freq: Freq | None = None) -> None:
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
            ValueError: If there is no history or no horizon.
            FrameError: If a series has no observed value to repeat, or no pair of seasons for intervals.
        """
        history, steps = self._recall(df, h)
        out = future_frame(history, steps, self.freq if self.freq is not None else infer_freq(history))
        forecasts = [
            self._forecast(name, y.to_numpy(), steps, level) for name, y in history.groupby(ID, sort=False)[TARGET]
        ]
        columns = [self.alias, *name_interval_columns(self.alias, level)]
        out[columns] = np.concatenate(forecasts)  # [series * h, columns]
        return out

    def predict_rolling(
        self, df: pd.DataFrame, h: int, n_windows: int, step_size: int, level: Sequence[float] | None = None
    ) -> pd.DataFrame:
        """Forecasts from the last `n_windows` cutoffs of each series, each from all steps up to it.

        Args:
            df: Whole series; the last cutoff lies `h` steps before the end.
            h: Steps ahead.
            n_windows: How many cutoffs.
            step_size: Steps between cutoffs.
            level: Coverage of central intervals in per cent.

        Returns:
            Frame `unique_id, ds, cutoff, <alias>, ...`, sorted by series, cutoff and time.

        Raises:
            FrameError: If a series is too short for the windows.
        """
        df = self._validate(df)
        check_windows(df, h, n_windows, step_size)
        span = h + (n_windows - 1) * step_size
        columns = [self.alias, *name_interval_columns(self.alias, level)]
        parts = []
        for name, group in df.groupby(ID, sort=False):
            times, y = group[TIME].to_numpy(), group[TARGET].to_numpy()
            first = len(y) - span
            for end in range(first, len(y) - h + 1, step_size):
                part = pd.DataFrame({ID: name, TIME: times[end : end + h], CUTOFF: times[end - 1]})
                part[columns] = self._forecast(name, y[:end], h, level)
                parts.append(part)
        return pd.concat(parts, ignore_index=True)

    def _validate(self, df: pd.DataFrame) -> pd.DataFrame:
        return validate_frame(df, freq=self.freq, covariates=[])

    def _forecast(self, name: Any, y: np.ndarray, h: int, level: Sequence[float] | None) -> np.ndarray:
        """Returns the point forecast and the interval bounds [h, 1 + 2 * levels] of one series [time]."""
        steps = np.arange(h)
        source, seasons = self._find_sources(name, y, steps)
        point = y[source]
        columns = [point]
        if level:
            # Residuals of the one-season-ahead forecasts, pairs with a missing value skipped.
            differences = y[self.season :] - y[: -self.season]
            observed = int((~np.isnan(differences)).sum())
            if observed == 0:
                raise FrameError(
                    f"series {name!r} has no two values a season ({self.season} steps) apart, so intervals have no"
                    " spread to go by; give a longer history or no level"
                )
            sigma = np.sqrt(np.nansum(differences**2) / observed) * np.sqrt(seasons)
            columns += [point + norm.ppf(q) * sigma for q in compute_quantile_levels(level)]
        return np.stack(columns, axis=1)

    def _find_sources(self, name: Any, y: np.ndarray, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns for each step [h] the position that it repeats and how many seasons lie between."""
        ahead = steps % self.season
        source = len(y) - self.season + ahead
        seasons = steps // self.season + 1
        empty = (source < 0) | np.isnan(y[np.maximum(source, 0)])
        while empty.any():
            source = np.where(empty, source - self.season, source)
            seasons = np.where(empty, seasons + 1, seasons)
            if (source < 0).any():
                at = int((source < 0).argmax())
                raise FrameError(
                    f"series {name!r} ({len(y)} steps) has no observed value to repeat {at + 1} steps ahead with a"
                    f" season of {self.season}; give a longer history or a shorter season"
                )
            empty = np.isnan(y[source])
        return source, seasons


class Naive(SeasonalNaive):
    """Repeats the last observed value; intervals grow with the square root of the steps since it.

    Args:
        alias: Name of the forecast column.
        freq: Frequency of the data; None infers it.
    """

    def __init__(self, alias: str = "Naive", *, freq: Freq | None = None) -> None:
        super().__init__(1, alias, freq=freq)
