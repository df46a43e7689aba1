"""From a name, a file or a Hub id to a validated long frame."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from tsllm.data.benchmarks import Task
from tsllm.data.columns import WIDE_TIME_NAMES
from tsllm.data.frame import infer_freq, usable_covariates, validate_frame
from tsllm.data.frequency import Freq, normalize_freq
from tsllm.data.names import OWN, ColumnNames
from tsllm.data.reading import SUFFIXES, as_frame, fetch_hub, read_arrow_file, read_table
from tsllm.data.rows import read_folder
from tsllm.data.sources import DATASETS, Source
from tsllm.data.static import Static, encode_static, name_static
from tsllm.types import ID, FrameError


@dataclass(frozen=True)
class LoadedData:
    """A validated frame and what is known about it.

    Attributes:
        name: Name or path that it was asked for by.
        df: Validated long frame.
        freq: Its frequency.
        source: The table entry of a named data set; None for one's own.
        task: Horizon, windows and metrics of a task that others define (fev, GIFT-Eval); None for other data.
        names: What the columns are called in the table that it was read from.
        ignored: Columns of that table that nobody asked for.
        static: The static covariates and how they are encoded (`tsllm.data.static`).
    """

    name: str
    df: pd.DataFrame
    freq: Freq
    source: Source | None = None
    task: Task | None = None
    names: ColumnNames = OWN
    ignored: tuple[str, ...] = ()
    static: Static = field(default_factory=dict)


def load_frame(
    name_or_path: str | os.PathLike[str],
    *,
    freq: Freq | None = None,
    targets: Sequence[str] | None = None,
    covariates: Sequence[str] | None = None,
    static: Sequence[str] | Mapping[str, Any] = (),
    data_path: str | None = None,
    min_length: int | None = None,
    day_first: bool | None = None,
    id_col: str | None = None,
    time_col: str | None = None,
    target_col: str | None = None,
) -> LoadedData:
    """Loads a named data set, a local file, or a data set of the Hub as a validated long frame.

    Args:
        name_or_path: A name of `DATASETS`; a CSV, Parquet or Arrow file, or a folder of such that `datasets` saved;
            or a Hub id "owner/name" or "owner/name:config". Rows may be single steps or whole series.
        freq: As in `validate_frame`; None takes the table's or infers it.
        targets: Columns of a wide table that are series.
        covariates: Covariate columns; None takes the named data set's, or of one's own long table all further columns
            that hold a finite number in every row. A column that nobody asked for never matters: the others are left
            out, and the log says which.
        static: Columns of a long table with one value a series, numbers or texts; they are encoded as covariates that
            are known ahead (`tsllm.data.static`).
        data_path: For a named data set: a file to read it from.
        min_length: As in `validate_frame`.
        day_first: As in `validate_frame`.
        id_col: Column that names the series, if not `unique_id`; its cells stay text.
        time_col: Column of the times, if not `ds` or `date`.
        target_col: Column of the values, if not `y`. Without a column of series, the table is then one series.

    Returns:
        The series under the names of frames, `unique_id, ds, y`; `names` remembers those of the table, and
        `names.write(forecasts)` gives them back. `ignored` names the columns that were not read.

    Raises:
        FileNotFoundError: If a path does not exist or a named data set's file is nowhere.
        UnknownNameError: If the name is unknown; the text lists the nearest ones.
        ImportError: If the package that holds the data is not installed; the text names the extra.
        FrameError: If the frame breaks the contract.

    Example:
        >>> import pandas as pd, tsllm
        >>> table = pd.DataFrame({"series": "007", "date": pd.date_range("2024", periods=3), "value": [1, 2, 3]})
        >>> table.to_csv("sales.csv", index=False)
        >>> loaded = tsllm.load_frame("sales.csv", id_col="series", target_col="value")
        >>> loaded.freq, loaded.df["unique_id"].iloc[0], list(loaded.names.write(loaded.df).columns)
        ('D', '007', ['series', 'date', 'value'])
    """
    names = ColumnNames.of(id_col, time_col, target_col)
    return load_source(
        name_or_path,
        names,
        freq=freq,
        targets=targets,
        covariates=covariates,
        static=static,
        data_path=data_path,
        min_length=min_length,
        day_first=day_first,
    )


def load_source(
    name_or_path: str | os.PathLike[str],
    names: ColumnNames,
    *,
    remembered: bool = False,
    freq: Freq | None = None,
    targets: Sequence[str] | None = None,
    covariates: Sequence[str] | None = None,
    static: Sequence[str] | Mapping[str, Any] = (),
    data_path: str | None = None,
    min_length: int | None = None,
    day_first: bool | None = None,
) -> LoadedData:
    """Does what `load_frame` does.

    Args:
        name_or_path: As in `load_frame`.
        names: What the columns are called.
        remembered: Whether the names are those of a saved model, so that tables with the names of frames are read too.
        freq: As in `load_frame`.
        targets: As in `load_frame`.
        covariates: As in `load_frame`.
        static: As in `load_frame`.
        data_path: As in `load_frame`.
        min_length: As in `load_frame`.
        day_first: As in `load_frame`.

    Raises:
        As `load_frame`.
    """
    name = os.fspath(name_or_path) if isinstance(name_or_path, str | os.PathLike) else name_or_path
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"the data are named {name!r}; give a file, a Hub id or one of {', '.join(sorted(DATASETS))}")
    checks: dict[str, Any] = {"targets": targets, "min_length": min_length, "day_first": day_first}
    if name in DATASETS:
        if names and not remembered:
            raise FrameError(
                f"{name} is a data set by name, whose columns are known; leave {', '.join(names.to_dict())} out"
            )
        source = DATASETS.get(name)
        raw = source.load(data_path)
        kept = [*source.covariates, *source.past_covariates] if covariates is None else list(covariates)
        used = normalize_freq(source.freq if freq is None else freq)
        raw, encoded = encode_static(raw, static)
        df = validate_frame(raw, freq=used, covariates=[*kept, *name_static(encoded)], **checks)
        return LoadedData(name, df, used, source, static=encoded)
    if data_path is not None:
        raise ValueError(f"data_path is for named data sets, and {name!r} is none; pass the path alone")
    if Path(name).suffix.lower() in SUFFIXES or Path(name).exists():
        raw = read_table(name, targets=targets, covariates=covariates, names=names)
    elif "/" in name and not name.startswith((".", "/")):
        repo, _, config = name.partition(":")
        raw = as_frame(fetch_hub(repo, config or None), targets, covariates, names)
    else:
        DATASETS.get(name)  # raises with the nearest names
        raise AssertionError
    names = OWN if remembered and not names.describes(raw) else names.resolve(raw)
    raw = names.read(raw, strict=True)
    if not name.lower().endswith(".csv") and ID in raw.columns:
        checks["targets"] = None  # used up or refused on reading
    if covariates is None and ID in raw.columns:
        covariates = usable_covariates(raw, name)
    with names.speaking():
        raw, encoded = encode_static(raw, static)
        if encoded:
            covariates = list(dict.fromkeys([*(covariates or ()), *name_static(encoded)]))
        df = validate_frame(raw, freq=freq, covariates=covariates, **checks)
    used = normalize_freq(freq) if freq is not None else infer_freq(df)
    ignored = find_ignored(raw, df, targets, encoded)
    return LoadedData(name, df, used, names=names, ignored=ignored, static=encoded)


def find_ignored(
    raw: pd.DataFrame, df: pd.DataFrame, targets: Sequence[str] | None, static: Static
) -> tuple[str, ...]:
    """Returns the columns of a table that did not enter its long frame."""
    read = {*df.columns, *WIDE_TIME_NAMES, *static}
    if ID not in raw.columns:
        read |= set(raw.columns if targets is None else targets)
    return tuple(str(column) for column in raw.columns if column not in read)


def load_task(task: Task) -> LoadedData:
    """Loads the data of a task that others define; `LoadedData.task` then gives its windows.

    Raises:
        FileNotFoundError: If the file or folder is not there.
        FrameError: If the data break the contract of frames.
    """
    path = Path(task.dataset_path)
    if task.dataset_config is not None:
        table = fetch_hub(task.dataset_path, task.dataset_config)
    elif path.is_dir():
        table = read_folder(path)
    else:
        table = read_arrow_file(path)
    df = validate_frame(task.to_long(table), covariates=task.covariates)
    return LoadedData(task.name, df, infer_freq(df), task=task)
