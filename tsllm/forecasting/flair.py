"""FLAIR, a statistical forecaster of the package flaircast, behind the Forecaster base class."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from tsllm.data.frame import future_frame, infer_freq, validate_frame
from tsllm.data.frequency import Freq
from tsllm.forecasting.base import HistoryForecaster, compute_quantile_levels, name_interval_columns
from tsllm.types import ID, TARGET, FrameError

# Steps in a season -> a frequency of which the package takes that season.
_OF_SEASON = {1: "Y", 4: "Q", 5: "B", 7: "D", 12: "M", 24: "H", 48: "30T", 52: "W", 96: "15T", 288: "5T"}


class FlairForecaster(HistoryForecaster):
    """Level x shape with a ridge regression (flaircast 0.6), estimated with each forecast.

    Args:
        season: Steps in a season; one that the package has a frequency for.
        alias: Name of the forecast column.
        freq: Frequency of the data; None infers it.
        num_samples: Paths drawn for the quantiles.
        seed: Of the draws.

    Raises:
        ImportError: If flaircast is not installed.
        ValueError: If the package has no frequency of this season.
    """

    def __init__(
        self,
        season: int = 1,
        alias: str = "FLAIR",
        *,
        freq: Freq | None = None,
        num_samples: int = 200,
        seed: int = 0,
    ) -> None:
        try:
            import flaircast
        except ImportError as error:
            raise ImportError("FLAIR needs flaircast, which is optional; pip install flaircast") from error
        if season not in _OF_SEASON:
            raise ValueError(f"season is {season}, but FLAIR knows seasons of {', '.join(map(str, _OF_SEASON))} steps")
        self.package, self.season, self.alias, self.freq = flaircast, season, alias, freq
        self.num_samples, self.seed = num_samples, seed

    def predict(
        self,
        df: pd.DataFrame | None = None,
        h: int | None = None,
        level: Sequence[float] | None = None,
        X_df: pd.DataFrame | None = None,
    ) -> pd.DataFrame:
        """Estimates on the history and forecasts `h` steps (the median of the paths); see `Forecaster.predict`.

        Raises:
            ValueError: If there is no history or no horizon.
            FrameError: If a series misses values.
        """
        history, steps = self._recall(df, h)
        out = future_frame(history, steps, self.freq if self.freq is not None else infer_freq(history))
        levels = [0.5, *compute_quantile_levels(level)]
        parts = []
        for name, y in history.groupby(ID, sort=False)[TARGET]:
            if y.isna().any():
                raise FrameError(f"series {name!r} misses values, which FLAIR cannot read; interpolate them")
            paths = self.package.forecast(y.to_numpy(), steps, _OF_SEASON[self.season], self.num_samples, self.seed)
            parts.append(np.quantile(paths, levels, axis=0).T)  # [h, Q]
        out[[self.alias, *name_interval_columns(self.alias, level)]] = np.concatenate(parts)
        return out

    def _validate(self, df: pd.DataFrame) -> pd.DataFrame:
        return validate_frame(df, freq=self.freq, covariates=[])
