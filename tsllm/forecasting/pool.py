"""A pool of simple forecasters, weighed by back-test, as a forecaster."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from tsllm.context.blind import draw_blind
from tsllm.data.frame import future_frame, infer_freq, validate_frame
from tsllm.data.frequency import Freq, default_season
from tsllm.forecasting.base import HistoryForecaster, name_interval_columns
from tsllm.forecasting.base_paths import iterate_windows, summarise
from tsllm.types import FrameError


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
            parts.append(summarise(paths, level))
        out[[self.alias, *name_interval_columns(self.alias, level)]] = np.concatenate(parts)
        return out

    def _validate(self, df: pd.DataFrame) -> pd.DataFrame:
        return validate_frame(df, freq=self.freq, covariates=[])
