"""The metrics of a back-test frame in one call: `tsllm.evaluate`."""

import logging
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from pandas.api import types as ptypes

from tsllm import metrics
from tsllm.data.columns import require_columns
from tsllm.data.frame import validate_frame
from tsllm.data.names import ColumnNames
from tsllm.evaluation.backtest import BacktestResult
from tsllm.evaluation.tables import SeriesScales, WindowArrays, describe_unobserved, score, training_part
from tsllm.forecasting.base import check_count, forecast_columns, format_level, name_interval_columns, read_levels
from tsllm.types import CUTOFF, ID, TARGET, TIME, FrameError

logger = logging.getLogger(__name__)

_BOUND = re.compile(r"(?P<alias>.+)-(?P<side>lo|hi)-(?P<level>\d+(?:\.\d+)?)")


def evaluate(
    windows: Any,
    *,
    train: Any = None,
    season: int | None = None,
    level: Sequence[float] | None = None,
    id_col: str | None = None,
    time_col: str | None = None,
    target_col: str | None = None,
) -> pd.DataFrame:
    """Computes the metrics of every model in a back-test frame, over all its windows.

    A window (series and cutoff) without a complete forecast counts as failed, and the model is scored on the others:
    rank such a row only among models that failed nowhere else.

    Args:
        windows: Table `unique_id, ds, cutoff, y`, one column a model and its interval bounds (`AutoETS-lo-80`), as
            `tsllm.backtest` gives; rows in any order, the same number in each window.
        train: Long or wide frame with the history of the series, for MASE. Only its steps up to the first cutoff of
            each series are read, so it may be the whole frame.
        season: Steps in a season, for MASE; given with `train`.
        level: Intervals that are scored, in per cent; None = all that the frame holds.
        id_col: Column that names the series in both frames, if not `unique_id`.
        time_col: Column of the times, if not `ds`.
        target_col: Column of the values, if not `y`.

    Returns:
        One row a model in the order of the columns: `model`, `mae`, `rmse`, `smape`; `mase` with `train`; `wql` (from
        the point forecast and the intervals) and `coverage-80` for each level, where there are intervals, NaN for a
        model without them; `failed` (windows).

    Raises:
        FrameError: If a column is missing or not numeric, windows differ in length or repeat a time, or `train` lacks
            a series.
        ValueError: If only one of `train` and `season` is given, or no model has the intervals asked for.

    Example:
        >>> import pandas as pd, tsllm
        >>> windows = pd.DataFrame({"unique_id": "a", "ds": [3, 4], "cutoff": 2, "y": [5.0, 7.0], "Mine": [4.0, 9.0]})
        >>> tsllm.evaluate(windows)[["model", "mae", "failed"]].to_dict("records")
        [{'model': 'Mine', 'mae': 1.5, 'failed': 0}]
    """
    if (train is None) != (season is None):
        given, lacking = ("train", "season") if season is None else ("season", "train")
        raise ValueError(f"{given} is given without {lacking}; MASE needs both: train=df, season=24")
    if season is not None:
        check_count("season", season)
    names = ColumnNames.of(id_col, time_col, target_col)
    with names.speaking():
        past = None if train is None else names.read(train)
        return _evaluate(names.read(windows, strict=True), past, season, level)


def _evaluate(windows: pd.DataFrame, train: Any, season: int | None, level: Sequence[float] | None) -> pd.DataFrame:
    hint = "; where they have other names, say id_col=..., time_col=... and target_col=..."
    require_columns(windows, [ID, TIME, CUTOFF, TARGET], "a back-test frame", hint)
    offered = find_models(windows)
    asked = _choose_levels(offered, level)
    frame, h = _sort_windows(windows, list(offered))
    scales = _find_scales(frame, h, train, season)
    for sentence in describe_unobserved(frame):
        logger.warning("%s", sentence)
    rows = [_evaluate_model(frame, h, alias, own, asked, scales) for alias, own in offered.items()]
    table = pd.DataFrame(rows)
    names = ["model", "mae", "rmse", "smape"]
    names += [] if train is None else ["mase"]
    names += ["wql", *(f"coverage-{format_level(lv)}" for lv in asked)] if asked else []
    return table.reindex(columns=[*names, "failed"])


def find_models(frame: pd.DataFrame) -> dict[str, list[float]]:
    """Returns the models of a forecast frame and the levels of their intervals, in per cent and ascending.

    Raises:
        FrameError: If there is no model, a bound stands without the other one, or a column is not numeric.
    """
    columns = forecast_columns(frame)
    models: dict[str, list[float]] = {}
    for column in columns:
        found = _BOUND.fullmatch(str(column))
        if found is None or found["alias"] not in columns:
            models[column] = []
        elif found["side"] == "lo":
            models.setdefault(found["alias"], []).append(float(found["level"]))
        if not ptypes.is_numeric_dtype(frame[column].dtype):
            raise FrameError(
                f"column {column!r} is not numeric (dtype {frame[column].dtype}), so it is no forecast; drop it with "
                f"df.drop(columns={column!r})"
            )
    if not models:
        raise FrameError(f"the frame holds no forecasts; found columns {list(frame.columns)}")
    return {alias: _check_bounds(frame, alias, levels) for alias, levels in models.items()}


def _check_bounds(frame: pd.DataFrame, alias: str, levels: Sequence[float]) -> list[float]:
    ordered = sorted(levels)
    expected = name_interval_columns(alias, ordered)
    found = [c for c in frame.columns if (m := _BOUND.fullmatch(str(c))) and m["alias"] == alias]
    odd = sorted(set(expected) ^ set(found))
    if odd:
        raise FrameError(f"the interval of {alias!r} is not complete: {odd[0]!r} has no partner; give lo and hi")
    return ordered


def _choose_levels(offered: dict[str, list[float]], level: Sequence[float] | None) -> list[float]:
    """Returns the levels that are scored, ascending.

    Raises:
        ValueError: If a level is asked for that no model has.
    """
    known = sorted({lv for levels in offered.values() for lv in levels})
    absent = [lv for lv in read_levels(level) if lv not in known]
    if absent:
        raise ValueError(f"no model has an interval of {absent[0]:g} %; the frame holds the levels {known}")
    return known if level is None else sorted(set(level))


def _sort_windows(windows: pd.DataFrame, models: Sequence[str]) -> tuple[pd.DataFrame, int]:
    """Returns the rows by series, cutoff and time, forecasts that are not finite as NaN; and the rows of a window."""
    frame = windows.sort_values([ID, CUTOFF, TIME], kind="stable").reset_index(drop=True)
    doubled = frame.duplicated([ID, CUTOFF, TIME])
    if doubled.any():
        row = frame[doubled].iloc[0]
        raise FrameError(f"series {row[ID]!r}, cutoff {row[CUTOFF]}: time {row[TIME]} appears twice; keep one row")
    counts = frame.groupby([ID, CUTOFF], sort=False, dropna=False).size()
    h = int(counts.max()) if len(counts) else 0
    if h == 0:
        raise FrameError("the back-test frame is empty; it needs at least one window")
    if (counts < h).any():
        name, cutoff = counts.index[int((counts < h).argmax())]
        raise FrameError(
            f"series {name!r}, cutoff {cutoff}: {counts.min()} rows, but other windows have {h}; score windows of one "
            "length at a time"
        )
    unbounded = np.isinf(frame[TARGET].to_numpy(dtype=np.float64))
    if unbounded.any():
        row = frame.iloc[int(unbounded.argmax())]
        raise FrameError(
            f"series {row[ID]!r}, {row[TIME]}: {TARGET!r} is infinite; mend it, or mark it missing with NaN"
        )
    for alias in models:
        values = frame[alias].astype("float64")
        frame[alias] = values.where(np.isfinite(values))
    return frame, h


def _find_scales(frame: pd.DataFrame, h: int, train: Any, season: int | None) -> SeriesScales:
    """Returns the scales from the steps up to the first cutoff; without `train` there are none."""
    names = frame[ID].unique()
    nothing = dict.fromkeys(names, np.nan)
    if train is None or season is None:
        return SeriesScales(nothing, nothing)
    past = training_part(validate_frame(train, covariates=[]), BacktestResult(frame, [], h, []))
    absent = [name for name in names if name not in set(past[ID])]
    if absent:
        raise FrameError(
            f"train has no steps up to the first cutoff of series {absent[0]!r}; give the history of every series"
        )
    errors = SeriesScales.from_training(past, season).seasonal_error
    for sentence in SeriesScales({}, errors).describe_left_out():
        logger.warning("%s", sentence)
    return SeriesScales(nothing, errors)


def _evaluate_model(
    frame: pd.DataFrame, h: int, alias: str, own: Sequence[float], asked: Sequence[float], scales: SeriesScales
) -> dict[str, Any]:
    levels = [lv for lv in own if lv in asked]
    scores = score(BacktestResult(frame, [alias], h, levels), scales, baseline=None)
    row: dict[str, Any] = {str(name): scores[name].iloc[0] for name in scores.columns}
    arrays = WindowArrays.of(frame, [alias], h, levels)
    done = ~np.isnan(arrays.forecasts[alias]).any(axis=1)  # [N]
    for k, lv in enumerate(sorted(levels, reverse=True)):  # the widest interval is the outermost pair of quantiles
        if done.any():
            low, high = arrays.quantiles[alias][done, :, k], arrays.quantiles[alias][done, :, -1 - k]  # [N, H]
            row[f"coverage-{format_level(lv)}"] = float(metrics.coverage(arrays.y[done], low, high))
    return row
