"""From an entry of a comparison to series, windows and what forecasters are told; tasks of others included."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd

from tsllm.context.contract import TIMES, Context, load_texts
from tsllm.context.times import read_text_times
from tsllm.data.benchmarks import Task, gift_eval_task, load_fev_tasks
from tsllm.data.columns import is_table
from tsllm.data.frame import find_last_times
from tsllm.data.frequency import Freq
from tsllm.data.loading import LoadedData, load_task
from tsllm.data.splits import SplitRule, compute_borders
from tsllm.data.task import ForecastTask, build_task, load_data, load_given
from tsllm.evaluation.config import DataEntry
from tsllm.evaluation.windows import Windows
from tsllm.types import ID, TIME, FrameError


@dataclass(frozen=True)
class PreparedTask:
    """A data set with its windows.

    Attributes:
        entry: As asked for.
        loaded: Frame and source.
        task: What forecasters are told.
        windows: The test windows.
        fingerprint: Hash of the frame.
        name: Name in tables, unlike that of any other data set of the comparison.
        texts: What models with a reader are told; None = nothing.
        notes: Where the windows differ from those of a task of others, in sentences.
    """

    entry: DataEntry
    loaded: LoadedData
    task: ForecastTask
    windows: Windows
    fingerprint: str
    name: str
    notes: tuple[str, ...] = ()
    texts: Any = None

    @property
    def training(self) -> pd.DataFrame:
        """The steps before the first cutoff: all that may be learned from or tuned on."""
        return self.windows.history(0)


def prepare_tasks(entries: Sequence[DataEntry]) -> list[PreparedTask]:
    """Prepares all data sets of a comparison and gives those of the same name names of their own.

    Raises:
        ValueError: As `prepare_task`; also if two entries are the same.
    """
    prepared = [prepare_task(entry) for entry in entries]
    names = [_name_uniquely(p, [o for o in prepared if o is not p and o.name == p.name]) for p in prepared]
    return [replace(p, name=name) for p, name in zip(prepared, names, strict=True)]


def _name_uniquely(prepared: PreparedTask, others: Sequence[PreparedTask]) -> str:
    """Returns the name with as many of its settings as tell it from the others of that name."""
    if not others:
        return prepared.name
    own, theirs = _say_settings(prepared), [_say_settings(other) for other in others]
    for count in range(1, 4):
        if own[:count] not in [said[:count] for said in theirs]:
            return f"{prepared.name} ({', '.join(own[:count])})"
    if own in theirs:
        raise ValueError(f"the data entry {prepared.name!r} appears twice with the same settings; leave one out")
    # That the values differ follows from the rest, unless nothing else does.
    length = len(own) - 1 if own[:-1] not in [said[:-1] for said in theirs] else len(own)
    differing = [said for at, said in enumerate(own[:length]) if any(other[at] != said for other in theirs)]
    return f"{prepared.name} ({', '.join(differing)})"


def _say_settings(p: PreparedTask) -> list[str]:
    """Returns all settings in words, those that tell entries apart most often first."""
    task, entry = p.task, p.entry
    series = [str(name) for name in p.loaded.df[ID].unique()]
    columns = {"covariates": task.covariates, "past covariates": task.past_covariates, "static": sorted(task.static)}
    texts = entry.context if isinstance(entry.context, str) else None if entry.context is None else "as given"
    return [
        f"h {task.h}",
        f"context {task.context_length}",
        f"{p.windows.n_windows} windows",
        f"{p.windows.step} apart",
        f"season {task.season}",
        f"layout {task.layout}",
        f"val_size {'by default' if task.val_size is None else task.val_size}",
        f"{len(series)} series: {', '.join(series[:3])}{' ...' if len(series) > 3 else ''}",
        *(f"{what}: {', '.join(map(str, names)) or 'none'}" for what, names in columns.items()),
        "shared covariates" if task.share_covariates else "own covariates",
        f"tested by {entry.unit}",
        "no texts" if texts is None else f"texts {texts}{', undated ones too' if entry.timeless else ''}",
        f"data {p.fingerprint}",
    ]


def prepare_task(entry: DataEntry) -> PreparedTask:
    """Loads a data set, or a task that others define, and finds its windows.

    Raises:
        ValueError: If the horizon is known from nowhere, or a task is unknown or has windows that cannot be cut.
        FrameError: If the data break the contract or are too short.
    """
    asked = entry.asked()
    if entry.task:
        loaded = load_task(find_task(entry))
    elif entry.frame is not None:
        loaded = load_given(entry.frame, asked, entry.name, entry.targets)
    else:
        loaded = load_data(entry.name, asked, data_path=entry.data_path, targets=entry.targets)
    if entry.series is not None:
        names = loaded.df[ID].astype(str)
        absent = sorted(set(entry.series) - set(names))
        if absent or not entry.series:
            raise ValueError(
                f"{entry.name} has no series {absent or 'in an empty list'}; it has {sorted(set(names))[:20]}"
            )
        loaded = replace(loaded, df=loaded.df[names.isin(entry.series)].reset_index(drop=True))
    if entry.max_series is not None:
        df = loaded.df
        loaded = replace(loaded, df=df[df[ID].isin(df[ID].unique()[: entry.max_series])].reset_index(drop=True))
    notes: list[str] = []
    if entry.split:
        return _prepare_customary(entry, loaded)
    whole = loaded.df
    if loaded.task:
        df, step, notes = cut_to_task(loaded.df, loaded.task, loaded.freq)
        loaded = replace(loaded, df=df)
        assert loaded.task is not None
        windows = Windows.of(df, loaded.task.horizon, loaded.task.num_windows, step)
    else:
        h = build_task(loaded, asked).h
        windows = Windows.of(loaded.df, h, entry.n_windows, entry.step_size or h)
    # What is chosen by the data is chosen by the steps before the first cutoff alone.
    task = build_task(replace(loaded, df=windows.history(0)), asked)
    _check_season(windows, task.season)
    texts = _read_texts(entry, replace(loaded, df=whole), task.h)
    return PreparedTask(entry, loaded, task, windows, hash_frame(loaded.df), loaded.name, tuple(notes), texts)


def hash_frame(df: pd.DataFrame) -> str:
    """Returns a hash of a frame's values."""
    return hashlib.sha256(pd.util.hash_pandas_object(df, index=False).to_numpy().tobytes()).hexdigest()[:16]


def _prepare_customary(entry: DataEntry, loaded: LoadedData) -> PreparedTask:
    """Takes the cutoffs and the validation part from the data set's customary split."""
    asked = entry.asked()
    part = cut_customary(loaded, build_task(loaded, asked).split)
    h, step = build_task(loaded, asked).h, entry.step_size or build_task(loaded, asked).h
    if part.test < h:
        raise ValueError(f"{entry.name}: the test part has {part.test} steps, less than the horizon of {h}")
    whole, loaded = loaded.df, replace(loaded, df=part.df)
    windows = Windows.of(part.df, h, (part.test - h) // step + 1, step)
    task = build_task(replace(loaded, df=windows.history(0)), replace(asked, val_size=part.validation))
    _check_season(windows, task.season)
    texts = _read_texts(entry, replace(loaded, df=whole), task.h)
    return PreparedTask(entry, loaded, task, windows, hash_frame(part.df), loaded.name, part.notes, texts)


@dataclass(frozen=True)
class CustomaryPart:
    """A data set up to the end of its customary test part.

    Attributes:
        df: Long frame.
        validation: Steps of the validation part, of each series.
        test: Steps of the test part, of each series.
        notes: What is left out, in sentences.
    """

    df: pd.DataFrame
    validation: int
    test: int
    notes: tuple[str, ...] = ()


def cut_customary(loaded: LoadedData, split: SplitRule) -> CustomaryPart:
    """Cuts the series at the end of their test part.

    Raises:
        ValueError: If the data set has no name and so no custom, or parts differ in length between series.
    """
    if loaded.source is None:
        raise ValueError(f"{loaded.name or 'a frame'} is no named data set, so it has no customary split")
    borders = compute_borders(loaded.df, split)
    sizes = {(b.validation - b.train, b.test - b.validation) for b in borders.values()}
    if len(sizes) > 1:
        raise ValueError(
            f"{loaded.name}: series have validation and test parts of different lengths ({sorted(sizes)[:3]} ...), so "
            "they share no cutoffs; give n_windows and step_size instead"
        )
    ((validation, test),) = sizes
    kept = loaded.df.groupby(ID, sort=False).cumcount() < loaded.df[ID].map({k: b.test for k, b in borders.items()})
    unused = int((~kept).sum()) // len(borders)
    notes = (f"{loaded.name}: the customary split leaves the last {unused} steps of each series out.",) * bool(unused)
    return CustomaryPart(loaded.df[kept].reset_index(drop=True), validation, test, notes)


def _read_texts(entry: DataEntry, loaded: LoadedData, h: int) -> Any:
    """Returns the texts of an entry, checked against its series and the `h` steps after them.

    Raises:
        FrameError: If they do not fit the data, or one does not say when it was published.
        FileNotFoundError: If a table is not there.
    """
    texts = entry.context
    try:
        if isinstance(texts, str):
            texts = load_texts(texts, loaded.names, entry.day_first)
        elif is_table(texts):
            texts = read_text_times(loaded.names.read_texts(texts), TIMES, day_first=entry.day_first)
        last = None if texts is None else find_last_times(loaded.df, h, loaded.freq)
        Context.read(texts, loaded.df, last=last, timeless=entry.timeless).refuse_undated(loaded.df[TIME].max())
    except FrameError as error:
        raise FrameError(f"{entry.name}: {error}") from error
    return texts


def find_task(entry: DataEntry) -> Task:
    """Returns the task that an entry names: one of a fev file, or a GIFT-Eval folder with a term.

    Raises:
        ValueError: If the file has no such task.
        FileNotFoundError: If there is neither file nor folder.
    """
    path = Path(entry.name)
    if path.is_dir():
        return gift_eval_task(path, entry.task)
    if not path.is_file():
        raise FileNotFoundError(
            f"no file or folder {path}; task {entry.task!r} needs a fev file or a GIFT-Eval folder"
        )
    tasks = {known.name: known for known in load_fev_tasks(path)}
    if entry.task not in tasks:
        raise ValueError(f"{path} has no task {entry.task!r}; it has {', '.join(tasks)}")
    return tasks[entry.task]


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


def _check_season(windows: Windows, season: int) -> None:
    """Refuses early what the scaled errors would stumble over after all models have run."""
    sizes = windows.history(0).groupby(ID, sort=False).size()
    if sizes.min() <= season:
        raise FrameError(
            f"series {sizes.idxmin()!r} has {sizes.min()} steps before its first cutoff, not more than a season "
            f"({season}), so errors cannot be scaled; give a shorter season, fewer windows, or leave the series out"
        )
