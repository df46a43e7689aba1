"""A data set of the long-term protocol: cut by its customary split, its test windows forecast and scored."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from tsllm.data.loading import LoadedData
from tsllm.data.task import ForecastTask, build_task
from tsllm.evaluation.prepare import cut_customary, hash_frame
from tsllm.evaluation.protocol import LongTermConfig
from tsllm.forecasting.base import Forecaster
from tsllm.forecasting.neural import NeuralForecaster
from tsllm.types import CUTOFF, ID, TARGET, TIME

LOSSES = ("mse", "mae")
_MOST_ROWS = 400_000  # of a frame of forecasts held at once


@dataclass(frozen=True)
class Stretch:
    """A data set at one horizon, up to the end of its customary test part.

    Attributes:
        name: Of the data set.
        task: What forecasters are told; `val_size` is the validation part.
        df: Long frame.
        test: Steps of the test part.
        stride: Steps between cutoffs.
        deviation: series -> standard deviation of its training part, what errors are divided by.
        digest: Hash of the frame.
        notes: What is left out, in sentences.
    """

    name: str
    task: ForecastTask
    df: pd.DataFrame = field(repr=False)
    test: int
    stride: int
    deviation: dict[Any, float] = field(repr=False)
    digest: str
    notes: tuple[str, ...] = ()

    @property
    def n_windows(self) -> int:
        """Cutoffs of the test part, the last one `h` steps before its end."""
        return (self.test - self.task.h) // self.stride + 1

    @property
    def history(self) -> pd.DataFrame:
        """Training and validation part."""
        return self.df.groupby(ID, sort=False).head(-self.test).reset_index(drop=True)


def prepare_stretch(config: LongTermConfig, loaded: LoadedData, h: int) -> Stretch:
    """Cuts a data set by its customary split.

    Raises:
        ValueError: If it has no name and so no custom, or its test part is shorter than the horizon.
    """
    entry = config.find_entry(loaded.name)
    asked = replace(entry.asked(), h=h, context_length=config.context_length, layout=config.layout)
    part = cut_customary(loaded, build_task(loaded, asked).split)
    if part.test < h:
        raise ValueError(f"{loaded.name}: the test part has {part.test} steps, less than the horizon of {h}")
    cut = replace(loaded, df=part.df)
    groups = part.df.groupby(ID, sort=False)
    task = build_task(replace(cut, df=groups.head(-part.test)), replace(asked, val_size=part.validation))
    train = groups.head(-part.test - part.validation).groupby(ID, sort=False)[TARGET]
    deviation = {name: float(value) for name, value in train.std(ddof=0).items()}
    constant = [str(name) for name, value in deviation.items() if not value > 0]
    notes = part.notes
    if constant:
        notes += (f"{loaded.name}: {constant} do not vary in the training part and count in their own units.",)
        deviation = {name: value if value > 0 else 1.0 for name, value in deviation.items()}
    return Stretch(loaded.name, task, part.df, part.test, config.test_stride, deviation, hash_frame(part.df), notes)


def score_windows(model: Forecaster, stretch: Stretch) -> pd.DataFrame:
    """Forecasts every window of the test part and returns the losses of each.

    Returns:
        `unique_id, cutoff, mse, mae, count`: means over the observed steps in units of the training part's standard
        deviation, and how many these are; NaN where the forecast is not finite.
    """
    if isinstance(model, NeuralForecaster) and not model.is_zero_shot:
        found = model.cut_rolling(stretch.df, stretch.task.h, stretch.n_windows, stretch.stride)
        if found is not None:
            return _score_batches(model, *found, stretch)
    return pd.concat([_score_frame(part, stretch) for part in _forecast_frames(model, stretch)], ignore_index=True)


def _score_batches(model: NeuralForecaster, windows: Any, scaler: Any, stretch: Stretch) -> pd.DataFrame:
    """Scores windows as tensors, in batches."""
    frame = windows.window_frame()[[ID, CUTOFF]]
    parts = []
    for predictions, targets in model.forecast_windows(windows):
        error = (predictions.double() - targets.double())[:, : stretch.task.h]  # [B, h, C]
        rows = error.permute(0, 2, 1).flatten(0, 1).numpy()  # [B * C, h]
        observed = ~np.isnan(targets[:, : stretch.task.h].permute(0, 2, 1).flatten(0, 1).numpy())
        parts.append(_reduce(rows, observed))
    factor = scaler.loc_scale(frame[ID])[1] / frame[ID].map(stretch.deviation).to_numpy()
    mse, mae, count = np.concatenate(parts).T
    return frame.assign(mse=mse * factor**2, mae=mae * factor, count=count.astype(int))


def _forecast_frames(model: Forecaster, stretch: Stretch) -> Iterator[pd.DataFrame]:
    """Yields forecasts beside the truth, some cutoffs at a time, so that memory stays bounded."""
    h, step, total = stretch.task.h, stretch.stride, stretch.n_windows
    size = max(1, _MOST_ROWS // (h * len(stretch.deviation)))
    truth = stretch.df[[ID, TIME, TARGET]]
    for start in range(0, total, size):
        count = min(size, total - start)
        behind = (total - start - count) * step
        df = stretch.df.groupby(ID, sort=False).head(-behind) if behind else stretch.df
        made = model.predict_rolling(df.reset_index(drop=True), h, count, step)
        due = count * h * len(stretch.deviation)
        if len(made) != due:
            raise ValueError(f"{model.alias} gave {len(made)} rows, {due} were due")
        made = made.rename(columns={model.alias: "forecast"})[[ID, TIME, CUTOFF, "forecast"]]
        yield made.merge(truth, on=[ID, TIME], how="left", validate="many_to_one")


def _score_frame(frame: pd.DataFrame, stretch: Stretch) -> pd.DataFrame:
    h = stretch.task.h
    frame = frame.sort_values([ID, CUTOFF, TIME], kind="stable")
    scale = frame[ID].map(stretch.deviation).to_numpy()
    truth = (frame[TARGET].to_numpy(dtype=float) / scale).reshape(-1, h)
    error = (frame["forecast"].to_numpy(dtype=float) / scale).reshape(-1, h) - truth  # [N, h]
    mse, mae, count = _reduce(error, ~np.isnan(truth)).T
    keys = frame[[ID, CUTOFF]].iloc[::h].reset_index(drop=True)
    return keys.assign(mse=mse, mae=mae, count=count.astype(int))


def _reduce(error: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Returns mean square, mean absolute value and number of the observed errors of [N, h]: [N, 3]."""
    count = observed.sum(1)
    kept = np.where(observed, error, 0.0)
    most = np.maximum(count, 1)
    return np.stack([(kept**2).sum(1) / most, np.abs(kept).sum(1) / most, count], 1)


def average(losses: pd.DataFrame) -> dict[str, float]:
    """Returns `mse` and `mae` over all observed steps.

    Raises:
        ValueError: If a forecast is not finite, or no step is observed.
    """
    weight = losses["count"].to_numpy(dtype=float)
    if not weight.sum() > 0:
        raise ValueError("no target of the test part is observed")
    found = {name: float((losses[name].to_numpy() * weight).sum() / weight.sum()) for name in LOSSES}
    if not np.isfinite(list(found.values())).all():
        raise ValueError("a forecast is missing or not finite")
    return found
