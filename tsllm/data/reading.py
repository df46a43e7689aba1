"""Readers of tables: CSV, Parquet, Arrow, folders of `datasets`, data sets of the Hub."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from tsllm.data.names import OWN, ColumnNames
from tsllm.data.rows import has_series_rows, read_arrow, read_folder, read_parquet, rows_to_long
from tsllm.data.tables import read_csv
from tsllm.near import find_near
from tsllm.types import FrameError

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = (".csv", ".parquet", ".pq", ".arrow", ".feather")


def read_table(
    path: str | os.PathLike[str],
    *,
    targets: Sequence[str] | None = None,
    covariates: Sequence[str] | None = None,
    names: ColumnNames = OWN,
) -> pd.DataFrame:
    """Reads a CSV, Parquet or Arrow (IPC file or stream, also Feather) file, or a folder that `datasets` saved.

    Args:
        path: File or folder.
        targets: Target columns of a file whose rows are whole series; other files are read as they are.
        covariates: Covariate columns of such a file.
        names: What the keys and the target are called.

    Returns:
        The table as it is, under its own names; rows that are whole series become a long frame (`tsllm.data.rows`).

    Raises:
        FileNotFoundError: If there is no such file; the text names files nearby.
        ValueError: If the ending is none of the known ones.
    """
    file = Path(path)
    if file.is_dir():
        return as_frame(read_folder(file), targets, covariates, names)
    if file.suffix.lower() == ".csv":
        _check_file(file)
        return read_csv(file, names)
    return as_frame(read_arrow_file(file), targets, covariates, names)


def read_arrow_file(file: Path) -> "pa.Table":
    """Reads a Parquet or Arrow file as it is.

    Raises:
        FileNotFoundError: If there is no such file; the text names files nearby.
        ValueError: If the ending is none of the known ones.
    """
    _check_file(file)
    suffix = file.suffix.lower()
    if suffix in (".parquet", ".pq"):
        return read_parquet(file)
    if suffix in (".arrow", ".feather"):
        return read_arrow(file)
    raise ValueError(f"{file} has the ending {suffix!r}; expected one of {', '.join(SUFFIXES)}")


def _check_file(file: Path) -> None:
    if file.is_file():
        return
    near: list[str] = []
    if file.parent.is_dir():
        near = find_near(file.name, [p.name for p in file.parent.iterdir()], cutoff=0.5)
    hint = f"; did you mean {', '.join(near)}?" if near else ""
    raise FileNotFoundError(f"no file {file}{hint}")


def as_frame(
    table: "pa.Table", targets: Sequence[str] | None, covariates: Sequence[str] | None, names: ColumnNames
) -> pd.DataFrame:
    """Returns a table as a frame; rows that are whole series become a long one.

    Args:
        table: As it was read.
        targets: Target columns, where rows are whole series.
        covariates: Covariate columns of such a table.
        names: What the keys and the target are called.

    Raises:
        FrameError: If targets are named twice, or as columns of a table that is long.
    """
    if has_series_rows(table):
        given = names.to_dict()
        if "target_col" in given:
            if targets is not None:
                raise FrameError(f"target_col {names.target_col!r} and targets {list(targets)} both name targets")
            targets = [names.target_col]
        frame = rows_to_long(
            table,
            id_column=given.get("id_col"),
            time_column=given.get("time_col"),
            targets=targets,
            covariates=covariates or (),
        )
        return names.write(frame)
    frame = table.to_pandas()
    if targets is not None and names.id_col in frame.columns:
        raise FrameError(
            f"targets {list(targets)} name the series of a wide table, but this one is long (it has {names.id_col!r})"
        )
    return frame


def fetch_hub(repo: str, config: str | None) -> "pa.Table":
    """Loads the training part of a data set of the Hub.

    Raises:
        ImportError: If the package `datasets` is not installed.
    """
    try:
        import datasets
    except ImportError as error:
        raise ImportError(f"loading {repo!r} from the Hub needs the package datasets; pip install datasets") from error
    from tsllm.backbones.reach import reach_hub

    reason = reach_hub(tell=False)
    try:
        table = _load_dataset(datasets, repo, config)
    except OSError as error:
        if not reason:
            raise
        raise FileNotFoundError(f"{repo!r} is no file and was not downloaded before; {reason}") from error
    reach_hub()
    return table


def _load_dataset(datasets: Any, repo: str, config: str | None) -> "pa.Table":
    return datasets.load_dataset(repo, config, split="train", trust_remote_code=False).data.table
