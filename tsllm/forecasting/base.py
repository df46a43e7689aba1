"""The Forecaster protocol: fit on a long frame, predict a long frame, whatever stands behind it."""

from collections.abc import Sequence
from typing import Protocol, Self, runtime_checkable

import pandas as pd

from tsllm.types import CUTOFF, ID, TIME


@runtime_checkable
class Forecaster(Protocol):
    """What the back-test, the comparison and users call.

    Attributes:
        alias: The name of the forecast column.
    """

    alias: str

    def fit(self, df: pd.DataFrame, h: int | None = None) -> "Forecaster":
        """Learns from a long frame `unique_id, ds, y` (and covariates) and remembers it as the history.

        Args:
            df: Training data, validated here.
            h: Steps that will be asked for; models of fixed horizon check it.

        Returns:
            Itself.
        """
        ...

    def predict(
        self,
        df: pd.DataFrame | None = None,
        h: int | None = None,
        level: Sequence[float] | None = None,
        X_df: pd.DataFrame | None = None,
    ) -> pd.DataFrame:
        """Forecasts the `h` steps after the end of each series.

        Args:
            df: History to forecast from, without fitting again; None = the data of `fit`.
            h: Steps ahead; None = the horizon of `fit`.
            level: Coverage of central intervals in per cent, e.g. [80].
            X_df: Future values of covariates that are known ahead: `unique_id, ds, ...`.

        Returns:
            Frame `unique_id, ds, <alias>` and, for each level, `<alias>-lo-80`, `<alias>-hi-80`; h rows a series.
        """
        ...


class HistoryForecaster:
    """What forecasters share that are estimated with the forecast: they remember the history and the horizon of `fit`.

    A subclass sets `alias` and implements `_validate`.
    """

    alias: str
    _history: pd.DataFrame | None = None
    _h: int | None = None

    def fit(self, df: pd.DataFrame, h: int | None = None) -> Self:
        """Remembers the history and the horizon; everything else happens with the forecast."""
        self._history, self._h = self._validate(df), h
        return self

    def _validate(self, df: pd.DataFrame) -> pd.DataFrame:
        raise NotImplementedError

    def _recall(self, df: pd.DataFrame | None, h: int | None) -> tuple[pd.DataFrame, int]:
        """Returns history and horizon of a call of `predict`, those of `fit` where it leaves them out.

        Raises:
            ValueError: If there is no history or no horizon.
        """
        history = self._validate(df) if df is not None else self._history
        if history is None:
            raise ValueError(f"{self.alias} has no history: call fit(df), or predict(df=...)")
        steps = h if h is not None else self._h
        if steps is None:
            raise ValueError(f"{self.alias} does not know how far to forecast: give h to fit or to predict")
        return history, steps


def name_interval_columns(alias: str, level: Sequence[float] | None) -> list[str]:
    """Returns the interval columns in the order lo, hi for each level: `TimeLLM-lo-80`, `TimeLLM-hi-80`."""
    return [f"{alias}-{side}-{format_level(lv)}" for lv in level or () for side in ("lo", "hi")]


def format_level(level: float) -> str:
    """Writes a level as statsforecast does: 80 -> "80", 97.5 -> "97.5"."""
    return f"{level:g}"


def compute_quantile_levels(level: Sequence[float] | None) -> list[float]:
    """Returns the two quantile levels of each central interval, in the order of `name_interval_columns`.

    Raises:
        ValueError: If a level lies outside (0, 100).
    """
    bad = [lv for lv in level or () if not 0 < lv < 100]
    if bad:
        raise ValueError(f"level must lie between 0 and 100 per cent, got {bad}")
    return [round(0.5 + sign * lv / 200, 6) for lv in level or () for sign in (-1, 1)]


def forecast_columns(frame: pd.DataFrame) -> list[str]:
    """Returns the columns of a forecast frame that are forecasts (not keys, not `y`)."""
    return [c for c in frame.columns if c not in {ID, TIME, CUTOFF, "y"}]
