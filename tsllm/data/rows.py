"""Tables with one row a series, its values in lists: fev and chronos data sets, GIFT-Eval folders.

Two ways to write time: a list of time stamps beside the values (`id, timestamp, target, ...`), or a start and a
frequency (`item_id, start, freq, target`). Both become long frames here.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from tsllm.data.frequency import normalize_freq
from tsllm.types import ID, TARGET, TIME, FrameError

ID_NAMES = ("id", "item_id", ID)
TIME_NAMES = ("timestamp", TIME)
START, FREQ = "start", "freq"


def has_series_rows(table: pa.Table) -> bool:
    """Tells whether the rows of a table are whole series (a list in some column), not single steps."""
    return any(_is_list(field.type) for field in table.schema)


def read_arrow(path: str | Path) -> pa.Table:
    """Reads an Arrow file, IPC file or stream alike (`datasets` writes streams).

    Raises:
        FrameError: If it is damaged; the text names the file.
    """
    with _naming(path), pa.memory_map(str(path)) as mapped:
        try:
            table = pa.ipc.open_file(mapped).read_all()
        except pa.ArrowInvalid:
            mapped.seek(0)
            table = pa.ipc.open_stream(mapped).read_all()
        table.validate(full=True)  # offsets that point outside the file are read otherwise
        return table


def read_parquet(path: str | Path) -> pa.Table:
    """Reads a Parquet file.

    Raises:
        FrameError: If it is damaged; the text names the file.
    """
    import pyarrow.parquet as pq

    with _naming(path):
        table = pq.ParquetFile(path, memory_map=False).read()
        table.validate(full=True)
        return table


@contextmanager
def _naming(path: str | Path) -> Iterator[None]:
    try:
        yield
    except FrameError:
        raise
    except (pa.ArrowException, ValueError, TypeError, OSError) as error:
        raise FrameError(f"{path} is damaged or no file of its kind ({error}); copy or write it again") from error


def read_folder(folder: str | Path) -> pa.Table:
    """Reads a folder that `datasets` saved (`state.json` names its files), or all Arrow or Parquet files in it.

    Raises:
        FileNotFoundError: If there are no such files, or one that `state.json` names is missing.
        FrameError: If `state.json` is damaged or names a file outside the folder, or a file is damaged.
    """
    folder = Path(folder)
    state = folder / "state.json"
    if state.is_file():
        files = [folder / name for name in _read_state(state)]
    else:
        files = sorted(folder.glob("*.arrow")) or sorted(folder.glob("*.parquet"))
    for file in files:
        # By name or through a link: what a stranger's folder points at is not the stranger's.
        if not file.resolve().is_relative_to(folder.resolve()):
            raise FrameError(f"{file} lies outside the folder {folder}; a data set holds its own files: copy it there")
    missing = [file for file in files if not file.is_file()]
    if missing or not files:
        raise FileNotFoundError(
            f"{missing[0]} is named in {state} but is not there; copy the folder again"
            if missing
            else f"{folder} holds no Arrow or Parquet files; expected a folder that `datasets` saved"
        )
    tables = [read_arrow(file) if file.suffix == ".arrow" else read_parquet(file) for file in files]
    try:
        return pa.concat_tables(tables)
    except pa.ArrowException as error:
        raise FrameError(f"the files of {folder} do not hold the same columns ({error})") from error


def _read_state(state: Path) -> list[str]:
    try:
        names = [entry["filename"] for entry in json.loads(state.read_text(encoding="utf-8"))["_data_files"]]
        if not all(isinstance(name, str) for name in names):
            raise TypeError("a file name is no text")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FrameError(f"{state} is damaged ({error!r}); copy the folder again") from error
    return names


def rows_to_long(
    table: pa.Table,
    *,
    id_column: str | None = None,
    time_column: str | None = None,
    targets: Sequence[str] | None = None,
    covariates: Sequence[str] = (),
) -> pd.DataFrame:
    """Turns a table with one row a series into long columns; nothing is checked yet beyond shapes.

    A row with several targets gives one series each: `<id>_<column>` for named target columns (as fev names them) and
    `<id>_dim<k>` for a target that is a list of lists (as GIFT-Eval names them).

    Args:
        table: The rows.
        id_column: Column of names; None finds `id`, `item_id` or `unique_id`.
        time_column: Column of time stamp lists; None finds `timestamp` or `ds`, else uses `start` and `freq`.
        targets: Target columns; None takes `target`, or else every list of numbers that is no covariate.
        covariates: List columns that go along with every series of the row.

    Returns:
        Frame `unique_id, ds, y, covariates...`, row after row.

    Raises:
        FrameError: If a column is missing, or the lists of a row differ in length.
    """
    try:
        return _to_long(table, id_column, time_column, targets, covariates)
    except (pa.ArrowException, pd.errors.OutOfBoundsDatetime) as error:
        raise FrameError(f"the rows cannot be read as series of numbers and times ({error})") from error


def _to_long(
    table: pa.Table,
    id_column: str | None,
    time_column: str | None,
    targets: Sequence[str] | None,
    covariates: Sequence[str],
) -> pd.DataFrame:
    id_column = id_column or _find(table, ID_NAMES, "names of the series")
    if time_column is None:
        time_column = next((name for name in TIME_NAMES if name in table.column_names), None)
    used = [id_column, *([time_column] if time_column else [START, FREQ]), *covariates, *(targets or ())]
    absent = [name for name in used if name not in table.column_names]
    if absent:
        raise FrameError(f"the rows need column {absent[0]!r}; found columns {table.column_names}")
    if targets is None:
        targets = ["target"] if "target" in table.column_names else number_lists(table, [time_column, *covariates])
    if not targets:
        raise FrameError(f"no column of number lists to forecast; found columns {table.column_names}")
    names = table.column(id_column).cast(pa.string()).to_pylist()
    lengths = _lengths(table, time_column or targets[0])
    times = _flat_times(table, time_column) if time_column else _start_times(table, lengths)
    extra = {name: _flat(table, name, lengths, names) for name in covariates}
    parts = []
    for column in targets:
        if _is_list(table.schema.field(column).type.value_type):
            parts += _split_dimensions(table, column, names, lengths)
        else:
            ids = names if list(targets) == ["target"] or len(targets) == 1 else [f"{name}_{column}" for name in names]
            parts.append((ids, _flat(table, column, lengths, names)))
    frames = [
        pd.DataFrame({ID: np.repeat(np.array(ids, dtype=object), lengths), TIME: times, TARGET: values, **extra})
        for ids, values in parts
    ]
    return pd.concat(frames, ignore_index=True)


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _find(table: pa.Table, names: Sequence[str], what: str) -> str:
    for name in names:
        if name in table.column_names:
            return name
    raise FrameError(f"no column with the {what}: looked for {', '.join(names)}; found {table.column_names}")


def number_lists(table: pa.Table, excluded: Sequence[str | None] = ()) -> list[str]:
    """Returns the columns that hold a list of numbers in each row, but for the excluded ones."""

    def is_number(kind: pa.DataType) -> bool:
        return pa.types.is_floating(kind) or pa.types.is_integer(kind)

    return [
        field.name
        for field in table.schema
        if field.name not in excluded and _is_list(field.type) and is_number(field.type.value_type)
    ]


def _lengths(table: pa.Table, column: str) -> np.ndarray:
    """Returns how many steps each row has [rows]; for a list of lists, those of its first dimension."""
    values = table.column(column)
    if _is_list(values.type.value_type):
        values = pc.list_element(values, 0)
    return pc.fill_null(pc.list_value_length(values), 0).to_numpy()


def _flat(table: pa.Table, column: str, lengths: np.ndarray, names: Sequence[Any]) -> np.ndarray:
    own = _lengths(table, column)
    if (own != lengths).any():
        at = int((own != lengths).argmax())
        raise FrameError(f"series {names[at]!r}: column {column!r} has {own[at]} steps, expected {lengths[at]}")
    return _numbers(pc.list_flatten(table.column(column)))


def _numbers(values: pa.ChunkedArray) -> np.ndarray:
    return values.cast(pa.float64()).to_numpy()  # null becomes NaN


def _flat_times(table: pa.Table, column: str) -> np.ndarray:
    return pc.list_flatten(table.column(column)).to_pandas().to_numpy()


def _split_dimensions(
    table: pa.Table, column: str, names: Sequence[str], lengths: np.ndarray
) -> list[tuple[list[str], np.ndarray]]:
    count = int(pc.max(pc.list_value_length(table.column(column))).as_py())
    parts = []
    for k in range(count):
        values = pc.list_element(table.column(column), k)
        own = pc.list_value_length(values).to_numpy()
        if (own != lengths).any():
            at = int((own != lengths).argmax())
            raise FrameError(
                f"series {names[at]!r}: dimension {k} of {column!r} has {own[at]} steps, expected {lengths[at]}"
            )
        parts.append(([f"{name}_dim{k}" for name in names], _numbers(pc.list_flatten(values))))
    return parts


def _start_times(table: pa.Table, lengths: np.ndarray) -> np.ndarray:
    """Returns the times of all rows, one after another, from their start and frequency."""
    starts = table.column(START).to_pylist()
    freqs = table.column(FREQ).to_pylist()
    return np.concatenate(
        [series_times(start, freq, int(n)) for start, freq, n in zip(starts, freqs, lengths, strict=True)]
    )


def series_times(start: Any, freq: str, length: int) -> np.ndarray:
    """Returns `length` times from `start` on; a period (week, month, quarter, year) is dated by its first day."""
    if isinstance(start, (list, tuple)):
        start = start[0]
    alias = str(normalize_freq(freq))
    offset = pd.tseries.frequencies.to_offset(alias)
    if isinstance(offset, (pd.offsets.MonthEnd, pd.offsets.QuarterEnd, pd.offsets.YearEnd, pd.offsets.Week)):
        periods = pd.period_range(pd.Period(start, freq=_period_alias(alias)), periods=length)
        return periods.to_timestamp(how="start").to_numpy().astype("datetime64[ns]")
    return pd.date_range(start, periods=length, freq=alias).to_numpy().astype("datetime64[ns]")


def _period_alias(alias: str) -> str:
    """Turns the alias of an offset into that of a period ("ME" -> "M", "QE-DEC" -> "Q-DEC")."""
    count = alias[: len(alias) - len(alias.lstrip("0123456789"))]
    unit, _, anchor = alias[len(count) :].partition("-")
    unit = {"ME": "M", "QE": "Q", "YE": "Y"}.get(unit, unit)
    return f"{count}{unit}{'-' + anchor if anchor else ''}"
