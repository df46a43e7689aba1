"""From an entry of a comparison to series, windows and what forecasters are told; tasks of others included."""

import hashlib
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import pandas as pd

from tsllm.data.benchmarks import Task, gift_eval_task, load_fev_tasks
from tsllm.data.frequency import Freq
from tsllm.data.sources import LoadedData, load_frame, load_task
from tsllm.evaluation.backtest import Windows
from tsllm.evaluation.config import DataTask, TaskFacts
from tsllm.forecasting.spec import default_season
from tsllm.types import ID, TIME, FrameError


@dataclass(frozen=True)
class PreparedTask:
    """A data set with its windows.

    Attributes:
        task: As asked for.
        loaded: Frame and source.
        facts: What forecasters are told.
        windows: The test windows.
        fingerprint: Hash of the frame.
        notes: Where the windows differ from those of a task of others, in sentences.
    """

    task: DataTask
    loaded: LoadedData
    facts: TaskFacts
    windows: Windows
    fingerprint: str
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name in tables: that of a task of others, or as asked for."""
        return self.loaded.name if self.loaded.task else self.task.name

    @property
    def training(self) -> pd.DataFrame:
        """The steps before the first cutoff: all that may be learned from or tuned on."""
        return self.windows.history(0)


def prepare_task(task: DataTask) -> PreparedTask:
    """Loads a data set, or a task that others define, and finds its windows.

    Raises:
        ValueError: If the horizon is known from nowhere, or a task is unknown or has windows that cannot be cut.
        FrameError: If the data break the contract or are too short.
    """
    loaded = (
        load_task(find_task(task)) if task.task else load_frame(task.name, freq=task.freq, data_path=task.data_path)
    )
    if task.max_series is not None:
        df = loaded.df
        loaded = replace(loaded, df=df[df[ID].isin(df[ID].unique()[: task.max_series])].reset_index(drop=True))
    facts = _describe_known(loaded.task, loaded.freq, task) if loaded.task else _describe_own(loaded, task)
    notes: list[str] = []
    if loaded.task:
        df, step, notes = cut_to_task(loaded.df, loaded.task, loaded.freq)
        loaded = replace(loaded, df=df)
        windows = Windows.of(df, facts.h, loaded.task.num_windows, step)  # type: ignore[union-attr]
    else:
        windows = Windows.of(loaded.df, facts.h, task.n_windows, task.step_size or facts.h)
    _check_season(windows, facts.season)
    digest = hashlib.sha256(pd.util.hash_pandas_object(loaded.df, index=False).to_numpy().tobytes()).hexdigest()
    return PreparedTask(task, loaded, facts, windows, digest[:16], tuple(notes))


def find_task(task: DataTask) -> Task:
    """Returns the task that an entry names: one of a fev file, or a GIFT-Eval folder with a term.

    Raises:
        ValueError: If the file has no such task.
        FileNotFoundError: If there is neither file nor folder.
    """
    path = Path(task.name)
    if path.is_dir():
        return gift_eval_task(path, task.task)
    if not path.is_file():
        raise FileNotFoundError(f"no file or folder {path}; task {task.task!r} needs a fev file or a GIFT-Eval folder")
    tasks = {known.name: known for known in load_fev_tasks(path)}
    if task.task not in tasks:
        raise ValueError(f"{path} has no task {task.task!r}; it has {', '.join(tasks)}")
    return tasks[task.task]


def cut_to_task(df: pd.DataFrame, task: Task, freq: Freq) -> tuple[pd.DataFrame, int, list[str]]:
    """Cuts the series so that the last windows are those of a task.

    Args:
        df: Validated long frame.
        task: Its task.
        freq: Its frequency.

    Returns:
        The series up to the end of their last window, the steps between windows, and what differs from the task: fev
        leaves a series out of single windows, here it has all windows or none.

    Raises:
        ValueError: If windows lie different numbers of steps apart, or are shorter than the season for all series.
    """
    kept, steps, left_out = [], set(), []
    shortest = max(task.min_context_length, task.seasonality + 1)  # scaled errors need more than a season
    for name, group in df.groupby(ID, sort=False):
        cutoffs = task.cutoffs(group[TIME].to_numpy(), freq)
        if cutoffs[0] < shortest or len(group) - cutoffs[-1] < task.horizon:
            left_out.append(str(name))
            continue
        steps |= {later - earlier for earlier, later in pairwise(cutoffs)}
        kept.append(group.iloc[: cutoffs[-1] + task.horizon])
    if not kept:
        raise ValueError(
            f"task {task.name!r}: no series has {shortest} steps before its first and {task.horizon} after its last "
            "cutoff"
        )
    if len(steps) > 1:
        raise ValueError(
            f"task {task.name!r}: its windows lie {sorted(steps)} steps apart; give window_step_size in steps"
        )
    notes = []
    if left_out:
        shown = ", ".join(left_out[:5]) + (" ..." if len(left_out) > 5 else "")
        notes.append(
            f"{task.name}: {len(left_out)} of {len(left_out) + len(kept)} series are too short for some window (fewer "
            f"than {shortest} steps before, or {task.horizon} after the cutoff) and are left out: {shown}."
        )
    if task.max_context_length is not None:
        notes.append(
            f"{task.name}: the task allows {task.max_context_length} steps of history; it bounds the scaled errors, "
            "but models were given all steps."
        )
    return pd.concat(kept, ignore_index=True), steps.pop() if steps else task.horizon, notes


def _describe_known(task: Task, freq: Freq, asked: DataTask) -> TaskFacts:
    return TaskFacts(
        h=task.horizon,
        freq=freq,
        season=task.seasonality,
        context_length=asked.context_length or max(4 * task.seasonality, 2 * task.horizon, 16),
        val_size=asked.val_size,
        covariates=tuple(task.known_dynamic_columns),
        past_covariates=tuple(task.past_dynamic_columns),
    )


def _describe_own(loaded: LoadedData, asked: DataTask) -> TaskFacts:
    source = loaded.source
    h = asked.h or (source.prediction_length if source else None)
    if h is None:
        raise ValueError(f"{asked.name} is no named data set, so its entry needs h, the steps ahead")
    season = asked.season or (source.season if source else default_season(loaded.freq))
    return TaskFacts(
        h=h,
        freq=loaded.freq,
        season=season,
        context_length=asked.context_length or (source.context_length if source else max(4 * season, 2 * h, 16)),
        domain=source.domain if source else "",
        val_size=asked.val_size,
        covariates=source.covariates if source else (),
        past_covariates=source.past_covariates if source else (),
    )


def _check_season(windows: Windows, season: int) -> None:
    """Refuses early what the scaled errors would stumble over after all models have run."""
    sizes = windows.history(0).groupby(ID, sort=False).size()
    if sizes.min() <= season:
        raise FrameError(
            f"series {sizes.idxmin()!r} has {sizes.min()} steps before its first cutoff, not more than a season "
            f"({season}), so errors cannot be scaled; give a shorter season, fewer windows, or leave the series out"
        )
