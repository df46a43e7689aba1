"""Several seasons for statistical models: which take a list of them, and sines and cosines for those that do not."""

import inspect
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, get_args, get_origin

import numpy as np
import pandas as pd

from tsllm.forecasting.base import check_count
from tsllm.types import ID


def takes_several_seasons(model_class: Any) -> bool:
    """Tells whether a class of statsforecast takes a list of seasons."""
    parameter = inspect.signature(model_class).parameters.get("season_length")
    return parameter is not None and any(get_origin(kind) is list for kind in get_args(parameter.annotation))


def choose_harmonics(seasons: Sequence[int]) -> dict[int, int]:
    """Returns pairs of sines and cosines for seasons that each divide the next, such as a day and a week.

    Eight for the first and six for each later one, or as many as a season has.

    >>> choose_harmonics([24, 168]), choose_harmonics([12]), choose_harmonics([1])
    ({24: 8, 168: 6}, {12: 5}, {})
    """
    pairs = {season: min(6 if k else 8, (season - 1) // 2) for k, season in enumerate(sorted(seasons))}
    return {season: number for season, number in pairs.items() if number}


def check_harmonics(harmonics: Mapping[int, int]) -> dict[int, int]:
    """Refuses sines and cosines that repeat each other or vanish at whole steps.

    Args:
        harmonics: Season -> number of pairs.

    Raises:
        ValueError: Naming the season.
    """
    seen: dict[Fraction, int] = {}
    for season, pairs in harmonics.items():
        check_count("a season of harmonics", season)
        check_count(f"harmonics[{season}]", pairs)
        if 2 * pairs >= season:
            raise ValueError(
                f"harmonics[{season}] is {pairs}; a season of {season} steps has at most {(season - 1) // 2}"
            )
        for k in range(1, pairs + 1):
            other = seen.setdefault(Fraction(k, season), season)
            if other != season:
                raise ValueError(f"harmonic {k} of season {season} is one of season {other}, too; give {season} fewer")
    return dict(harmonics)


def add_harmonics(
    history: pd.DataFrame, ahead: pd.DataFrame, harmonics: Mapping[int, int]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Appends sines and cosines to both frames, counted from the first step of each series that the fit sees.

    Args:
        history: Steps up to the cutoff, sorted by series and time.
        ahead: The steps after it, the same series in the same order.
        harmonics: Season -> number of pairs.
    """
    step = history.groupby(ID, sort=False).cumcount()
    sizes = history.groupby(ID, sort=False).size()
    next_step = ahead.groupby(ID, sort=False).cumcount() + ahead[ID].map(sizes)
    waves = [(season, k) for season, pairs in harmonics.items() for k in range(1, pairs + 1)]
    made = []
    for frame, at in ((history, step), (ahead, next_step)):
        columns: dict[str, np.ndarray] = {}
        for season, k in waves:
            angle = 2 * np.pi * k * at.to_numpy() / season
            columns |= {f"sin_{season}_{k}": np.sin(angle), f"cos_{season}_{k}": np.cos(angle)}
        made.append(frame.assign(**columns))
    return made[0], made[1]
