"""Sample paths of a base forecaster, from its quantiles, and back: what texts are carried out on."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from tsllm.context.applying import Window
from tsllm.forecasting.base import Forecaster, compute_quantile_levels, name_interval_columns
from tsllm.forecasting.paths import sample_marginals, shuffle_by_template
from tsllm.types import ID, TARGET, TIME

# base, history, h, X_df, paths, seed, levels that it has -> series -> [paths, h]
PathSource = Callable[
    [Forecaster, pd.DataFrame, int, pd.DataFrame | None, int, int, Sequence[float]], dict[Any, np.ndarray]
]
_LEVELS = (20, 40, 60, 80, 90)


def summarise(paths: np.ndarray, level: Sequence[float] | None) -> np.ndarray:
    """Returns the median and the bounds of central intervals [h, 1 + 2 * levels] of paths [n, h]."""
    return np.quantile(paths, [0.5, *compute_quantile_levels(level)], axis=0).T


def iterate_windows(history: pd.DataFrame, future: pd.DataFrame, season: int) -> list[tuple[Any, Window]]:
    """Returns name and window of each series of a validated history."""
    ahead = dict(iter(future.groupby(ID, sort=False)[TIME]))
    windows = []
    for name, group in history.groupby(ID, sort=False):
        past = group[TARGET].to_numpy(float)
        windows.append((name, Window(past, pd.DatetimeIndex(group[TIME]), pd.DatetimeIndex(ahead[name]), season)))
    return windows


def sample_paths(
    base: Forecaster,
    history: pd.DataFrame,
    h: int,
    X_df: pd.DataFrame | None,
    n: int,
    seed: int,
    level: Sequence[float] = (),
) -> dict[Any, np.ndarray]:
    """Draws paths from the base's own quantiles: each path keeps a smoothly wandering rank over the steps.

    The widest intervals that the base has are taken, and those of `level`, for which it was calibrated if no others;
    one without any gives its point forecast n times.

    Returns:
        Series -> [n, h].
    """
    for count in range(len(_LEVELS), -1, -1):
        asked = sorted({*_LEVELS[:count], *level})
        try:
            frame = base.predict(history, h, asked or None, X_df)
            break
        except (ValueError, NotImplementedError):
            if count == 0:
                raise
    columns = name_interval_columns(base.alias, asked)
    levels = np.array([0.5, *compute_quantile_levels(asked)])
    order = np.argsort(levels)
    rng = np.random.default_rng(seed)
    paths = {}
    for name, rows in frame.groupby(ID, sort=False):
        values = rows[[base.alias, *columns]].to_numpy(float)[:, order]  # [h, quantiles]
        if len(levels) == 1:
            paths[name] = np.tile(values.T, (n, 1))
        else:
            paths[name] = shuffle_by_template(
                sample_marginals(values, levels[order].tolist(), n), _draw_walks(n, h, rng)
            )
    return paths


def _draw_walks(n: int, h: int, rng: np.random.Generator) -> np.ndarray:
    """Draws standard normal paths [n, h] whose steps are dependent: autoregressive with .8."""
    walk = rng.standard_normal((n, h))
    for t in range(1, h):
        walk[:, t] = 0.8 * walk[:, t - 1] + 0.6 * walk[:, t]
    return walk
