"""The CSV files of the long-term protocol (Zhou 2021, Wu 2021): ETT, Weather, Electricity, Traffic, Exchange, ILI.

One row is one step there, whatever the calendar says: published results count rows. A file whose times skip or repeat
steps gets the times of its rows counted from the first one, and the log says how many of them moved.
"""

import logging
import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from tsllm.types import TIME

logger = logging.getLogger(__name__)

FOLDER = "TSLLM_DATA"  # of the environment: where the files lie
HUB_ID = "thuml/Time-Series-Library"


def load_rows(
    data_path: str | None,
    stem: str,
    freq: str,
    read: Callable[[str | Path], pd.DataFrame],
    fetch: Callable[[str, str], pd.DataFrame],
) -> pd.DataFrame:
    """Reads `<stem>.csv` from a path, the folder TSLLM_DATA or the Hub, in this order; its rows are consecutive steps.

    Args:
        data_path: The file, or a folder that holds it itself or one folder further down; None = look elsewhere.
        stem: Name of the file without ".csv".
        freq: Its unit of time.
        read: Reads a table.
        fetch: Reads a data set and configuration of the Hub.

    Raises:
        FileNotFoundError: If the file is nowhere.
    """
    folder = os.environ.get(FOLDER)
    if data_path is not None:
        raw = read(find_csv(data_path, stem) if Path(data_path).is_dir() else data_path)
    elif folder and (file := _look(Path(folder), stem)) is not None:
        raw = read(file)
    else:
        try:
            raw = fetch(HUB_ID, stem)
        except Exception as error:
            raise FileNotFoundError(
                f"{stem}.csv is neither given by --data-path nor in the folder {FOLDER} ({folder or 'not set'}), and "
                f"the Hub could not give {HUB_ID} ({type(error).__name__}: {error}); download it (ETT: "
                "https://github.com/zhouhaoyi/ETDataset; the others: https://github.com/thuml/Time-Series-Library) "
                "and pass its path"
            ) from error
    return count_rows(raw, freq, stem)


def find_csv(folder: str | Path, stem: str) -> Path:
    """Returns the file of a folder, or of the folders in it (`ETT-small/ETTh1.csv`).

    Raises:
        FileNotFoundError: If there is none.
    """
    found = _look(Path(folder), stem)
    if found is None:
        raise FileNotFoundError(f"no {stem}.csv in {folder} or in a folder of it; give the file itself")
    return found


def _look(folder: Path, stem: str) -> Path | None:
    direct = folder / f"{stem}.csv"
    return direct if direct.is_file() else next(iter(sorted(folder.glob(f"*/{stem}.csv"))), None)


def count_rows(raw: pd.DataFrame, freq: str, name: str) -> pd.DataFrame:
    """Returns a wide table whose rows are consecutive steps: times that skip or repeat steps are counted anew.

    Args:
        raw: Table with a column `date` or `ds`; a long one (`unique_id`) is returned as it is.
        freq: Its unit of time.
        name: Of the data, for the log.
    """
    column = next((c for c in ("date", TIME) if c in raw.columns), None)
    if column is None or "unique_id" in raw.columns or len(raw) == 0:
        return raw
    times = pd.to_datetime(raw[column], errors="coerce")
    if times.isna().any():
        return raw  # the reader's checks say which row
    counted = pd.Series(pd.date_range(times.iloc[0], periods=len(raw), freq=freq), index=raw.index)
    moved = int((times != counted).sum())
    if moved and counted.iloc[0] == times.iloc[0]:
        at = int((times != counted).to_numpy().argmax())
        logger.warning(
            "%s: times skip or repeat steps of %s (first at row %d: %s); rows are counted as steps, as published "
            "results do, so %d of %d times are nominal",
            name, freq, at + 1, times.iloc[at], moved, len(raw),
        )  # fmt: skip
        return raw.assign(**{column: counted})
    return raw
