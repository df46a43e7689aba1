"""From a frame and a task to the windows that a model is trained, chosen and tested on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tsllm.data.facts import DataRead, read_series, write_time
from tsllm.data.loading import LoadedData
from tsllm.data.scaling import StandardScaler, build_scaler
from tsllm.data.splits import Borders, ByLastSteps, SplitRule, split_frame
from tsllm.data.target import AS_IT_IS, TargetScale
from tsllm.data.task import ForecastTask, TaskError
from tsllm.data.windows import WindowDataset
from tsllm.types import ID, TARGET, TIME, FrameError


@dataclass
class PreparedData:
    """Windows in scaled units and what is needed to leave them.

    Attributes:
        task: What is forecast from what.
        loaded: The frame in original units and its source.
        train: Training windows.
        validation: Validation windows; None if the split has no validation part.
        test: Test windows; None if the split has no test part.
        scaler: Fitted on the training part.
        borders: series -> ends of its parts, in steps.
        unused: Steps after the test part, over all series.
        train_frame: The training part in scaled units.
        time_features: Whether models may read calendar features.
        target_scale: What was done to the target before it was scaled.
    """

    task: ForecastTask
    loaded: LoadedData
    train: WindowDataset
    validation: WindowDataset | None
    test: WindowDataset | None
    scaler: StandardScaler
    borders: dict[Any, Borders]
    unused: int
    train_frame: pd.DataFrame
    time_features: bool = True
    target_scale: TargetScale = AS_IT_IS

    @property
    def channels(self) -> list[Any]:
        """The series of each channel in the multivariate layout; empty in the univariate one."""
        return list(self.train.segments[0].series) if self.train.layout == "multivariate" else []

    def train_values(self) -> np.ndarray:
        """Returns the training part of the multivariate layout in scaled units [T, C], missing steps as NaN."""
        groups = dict(iter(self.train_frame.groupby(ID, sort=False)))
        return np.stack([groups[name][TARGET].to_numpy() for name in self.channels], axis=1)

    def describe(self) -> DataRead:
        """Returns what training and choosing read of these data."""
        source, sizes = self.loaded.source, {"train": len(self.train)}
        sizes |= {} if self.validation is None else {"validation": len(self.validation)}
        sizes |= {} if self.test is None else {"test": len(self.test)}
        return DataRead(
            name=self.loaded.name,
            series=read_series(self.loaded.df, {name: b.validation for name, b in self.borders.items()}),
            licence=source.licence if source else "",
            origin=source.origin if source else "",
            domain=self.task.domain,
            cutoffs=find_cutoffs(self.loaded.df, self.borders),
            windows=sizes,
        )


@dataclass(frozen=True)
class Strides:
    """Steps from one window's start to the next, by part.

    Attributes:
        train: Of training.
        validation: Of validation; None = so that there are at most `max_validation` windows.
        test: Of test.
        max_validation: See `validation`.
    """

    train: int = 1
    validation: int | None = 1
    test: int = 1
    max_validation: int = 256


def prepare_data(
    loaded: LoadedData,
    task: ForecastTask,
    *,
    split: SplitRule | None = None,
    scaler: str | StandardScaler = "standard",
    strides: Strides | None = None,
    channels: Sequence[Any] | None = None,
    pad_short: bool = False,
    time_features: bool = True,
    train_share: float = 1.0,
    target_scale: TargetScale = AS_IT_IS,
) -> PreparedData:
    """Splits, scales and cuts the series.

    Args:
        loaded: Validated frame and its source.
        task: What is forecast from what.
        split: Where the parts end; None = the task's.
        scaler: Name of a scaler to fit on the training part, or a fitted one.
        strides: Steps between windows.
        channels: As in `WindowDataset`.
        pad_short: As in `WindowDataset`, for every part.
        time_features: Whether models may read calendar features.
        train_share: Share of the training windows that is kept, the first of each series; the scaler is fitted on
            the whole training part all the same (few-shot, Zhou 2023).
        target_scale: How the target is transformed before it is scaled; what was read is told in its own units.

    Raises:
        FrameError: As `WindowDataset`, naming the part.
        ValueError: If the split does not fit a series.
    """
    strides = Strides() if strides is None else strides
    splits = split_frame(target_scale.forward(loaded.df), task.split if split is None else split, task.context_length)
    if isinstance(scaler, str):
        scaler = build_scaler(scaler).fit(splits.train, (TARGET, *task.covariates, *task.past_covariates))
    common: dict[str, Any] = {
        "layout": task.layout,
        "freq": task.freq,
        "covariates": task.covariates,
        "past_covariates": task.past_covariates,
        "share_covariates": task.share_covariates,
        "channels": channels,
        "pad_short": pad_short,
    }

    def cut(part: pd.DataFrame, name: str, stride: int) -> WindowDataset | None:
        """Scales a part of the split and cuts it into windows; an error names the part."""
        if not len(part):
            return None
        try:
            return WindowDataset(scaler.transform(part), task.context_length, task.h, stride=stride, **common)
        except FrameError as error:
            raise FrameError(f"{name} part: {error}") from error

    spread = strides.validation or _spread(splits.borders, task, strides.max_validation)
    train = cut(splits.train, "training", strides.train)
    if train is None:
        raise TaskError("the split leaves no training part; give it some steps")
    return PreparedData(
        task=task,
        loaded=loaded,
        train=train if train_share == 1 else train.keep_first(train_share),
        validation=cut(splits.validation, "validation", spread),
        test=cut(splits.test, "test", strides.test),
        scaler=scaler,
        borders=splits.borders,
        unused=splits.unused,
        train_frame=scaler.transform(splits.train),
        time_features=time_features,
        target_scale=target_scale,
    )


def hold_out_end(df: pd.DataFrame, task: ForecastTask) -> ByLastSteps:
    """Returns the split of a fit: all but the last steps of each series, which are validation.

    Raises:
        TaskError: If fewer steps than a horizon were asked for.
    """
    shortest = int(df.groupby(ID, sort=False).size().min())
    return ByLastSteps(test=0, validation=task.held_for_validation(shortest))


def find_cutoffs(df: pd.DataFrame, borders: dict[Any, Borders]) -> dict[str, str]:
    """Returns the last times of the parts of the first series, for the model card."""
    name, border = next(iter(borders.items()))
    times = df.loc[df[ID] == name, TIME].to_numpy()
    ends = {"train_end": border.train, "validation_end": border.validation, "test_end": border.test}
    return {part: write_time(times[end - 1]) for part, end in ends.items()} | {"of_series": str(name)}


def _spread(borders: dict[Any, Borders], task: ForecastTask, most: int) -> int:
    """Returns the stride with which the validation part has at most `most` windows."""
    counts = [max(1, b.validation - b.train - task.h + 1) for b in borders.values()]
    windows = counts[0] if task.layout == "multivariate" else sum(counts)
    return max(1, -(-windows // most))
