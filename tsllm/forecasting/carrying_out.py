"""Effects carried out on the forecasts of a base: on its point and bounds where they can be, on drawn paths else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tsllm.context.applying import REDRAW, Window, apply_effects, clean_history
from tsllm.context.effects import Effect, parse_effects
from tsllm.forecasting.base import Forecaster, name_interval_columns
from tsllm.forecasting.base_paths import PathSource, summarise
from tsllm.types import ID, TARGET, FrameError

Effects = str | Sequence[Effect] | Mapping[Any, str | Sequence[Effect]]  # lines, or what is written in them


@dataclass(frozen=True)
class Draws:
    """How many paths of a series are drawn, from where, with which seed."""

    paths: PathSource
    samples: int
    seed: int


def carry_out(
    base: Forecaster,
    history: pd.DataFrame,
    before: pd.DataFrame,
    windows: Mapping[Any, Window],
    changed: Mapping[Any, Sequence[Effect]],
    draws: Draws,
    level: Sequence[float] = (),
    X_df: pd.DataFrame | None = None,
) -> dict[Any, np.ndarray]:
    """Returns for each series with effects its point forecast and interval bounds [h, 1 + 2 * levels].

    The base sees all series, because it may forecast them together. What acts on each step alone acts on the
    base's own point and bounds; paths are drawn only for what puts others in place, and count where they differ.

    Args:
        base: Fitted.
        history: What it forecasts from.
        before: Its forecast of that, with the intervals of `level`.
        windows: Series -> history and times.
        changed: Series -> its effects, at least one.
        draws: How paths are drawn.
        level: Coverage of intervals in per cent.
        X_df: Future values of covariates.

    Raises:
        FrameError: If an effect cannot be carried out on a series.
    """
    cleaned, h = clean_histories(history, windows, changed), len(windows[next(iter(changed))].future_times)
    same = cleaned[TARGET].equals(history[TARGET])
    base_forecast = before if same else base.predict(cleaned, h, level, X_df)
    columns = [base.alias, *name_interval_columns(base.alias, level)]
    drawn: dict[Any, np.ndarray] = {}
    if any(e.kind in REDRAW for found in changed.values() for e in found):
        drawn = draws.paths(base, cleaned, h, X_df, draws.samples, draws.seed, level)
    result = {}
    for name, found in changed.items():
        window = renew_window(windows[name], cleaned, name)
        own = base_forecast.loc[(base_forecast[ID] == name).to_numpy(), columns].to_numpy(float)  # [h, columns]
        steady = [e for e in found if e.kind not in REDRAW]
        told = order_bounds(apply_to_series(name, window, steady, own.T, draws.seed).T)
        if len(steady) < len(found):
            paths = drawn[name]
            put = apply_to_series(name, window, found, paths, draws.seed)
            moved = (put != apply_to_series(name, window, steady, paths, draws.seed)).any(axis=0)  # [h]
            told[moved] = summarise(put, level)[moved]
        result[name] = told
    return result


def order_bounds(columns: np.ndarray) -> np.ndarray:
    """Puts lower bounds [h, 1 + 2 * levels] below upper ones, which a negative factor turns round."""
    low, high = columns[:, 1::2], columns[:, 2::2]
    columns[:, 1::2], columns[:, 2::2] = np.minimum(low, high), np.maximum(low, high)
    return columns


def spread_effects(effects: Effects, names: Sequence[Any]) -> dict[Any, list[Effect]]:
    """Returns series -> the effects that a user gives for it."""
    given = effects if isinstance(effects, Mapping) else dict.fromkeys(names, effects)
    unknown = [name for name in given if name not in names]
    if unknown:
        raise FrameError(
            f"effects are about series {unknown[0]!r}, which the data do not hold; they hold "
            f"{', '.join(map(repr, names[:5]))}{' ...' if len(names) > 5 else ''}"
        )
    return {name: parse_effects(own) if isinstance(own, str) else list(own) for name, own in given.items()}


def clean_histories(
    history: pd.DataFrame, windows: Mapping[Any, Window], changed: Mapping[Any, Sequence[Effect]]
) -> pd.DataFrame:
    """Returns the history without the artefacts that texts tell of."""
    cleaned = history.copy()
    for name, found in changed.items():
        cleaned.loc[(cleaned[ID] == name).to_numpy(), TARGET] = clean_history(windows[name], found)
    return cleaned


def renew_window(window: Window, cleaned: pd.DataFrame, name: Any) -> Window:
    """Returns the window with the past of the cleaned history."""
    past = cleaned.loc[(cleaned[ID] == name).to_numpy(), TARGET].to_numpy(float)
    return Window(past, window.past_times, window.future_times, window.season)


def apply_to_series(name: Any, window: Window, found: Sequence[Effect], paths: np.ndarray, seed: int) -> np.ndarray:
    """Carries out effects on paths [n, h]; an error names the series."""
    try:
        return apply_effects(window, found, paths, seed)
    except ValueError as error:
        raise FrameError(f"series {name!r}: {error}") from error
