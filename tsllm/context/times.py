"""When texts were published and what times they are about, read by the rule of the data's own dates."""

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from tsllm.data.dates import EARLIEST, LATEST, find_order, parse_time
from tsllm.data.origin import Origin, name_of
from tsllm.types import ID, FrameError

WRITE = "write times as 2024-01-31 12:00"


@dataclass(frozen=True)
class _Row(Origin):
    """Where a time stands in a table of texts."""

    row: str = "context row"

    def place(self, ids: pd.Series, at: int) -> str:
        """Names the row, and the series that it is about."""
        return f"{self.row} {self.rows[at]} (series {name_of(ids, at)!r})"


def read_text_times(
    table: pd.DataFrame,
    columns: Sequence[str],
    *,
    day_first: bool | None = None,
    name: str = "context",
    row: str = "context row",
) -> pd.DataFrame:
    """Returns a table of texts with its times read; one that is missing is NaT.

    Args:
        table: One text a row, with the name of its series.
        columns: Where times stand; those that the table lacks are passed over.
        day_first: Whether 03/04/2024 is the third of April; None refuses such dates unless another row or column
            settles it.
        name: What the table is called in advice.
        row: What a row is called in errors.

    Raises:
        FrameError: Naming the row: a number, a time zone, a time of day without its date, what is no time, a
            date that can be read in two ways, or two of which one puts the day first and the other the month.

    Example:
        >>> table = pd.DataFrame({"unique_id": "a", "text": "x", "published": ["13/05/2024", "01/05/2024"]})
        >>> read_text_times(table, ["published"])["published"].dt.month.tolist()
        [5, 5]
    """
    refuse_doubled(table, name)
    ids = table[ID] if ID in table.columns else pd.Series("(all)", index=table.index)
    columns = [column for column in columns if column in table.columns]
    if day_first is None:
        day_first = _settle_order(table, columns, ids, _Row(np.arange(len(table)), table=name, row=row))
    for column in columns:
        table = table.assign(
            **{column: _read_column(table[column], ids, _Row(np.arange(0), column, False, name, row), day_first)}
        )
    return table


def _settle_order(table: pd.DataFrame, columns: Sequence[str], ids: pd.Series, origin: _Row) -> bool | None:
    """Returns whether the day comes first in a table's dates; None if no date tells.

    Raises:
        FrameError: If one date tells this and another that, naming both.
    """
    told: dict[bool, str] = {}
    for column in columns:
        for at, value in enumerate(table[column]):
            order = find_order(value) if isinstance(value, str) else None
            if order is not None:
                told.setdefault(order, f"{origin.place(ids, at)}: {column} {value!r}")
    if len(told) == 2:
        raise FrameError(
            f"{told[True]} puts the day first, but {told[False]} puts the month first; a table has one order: mend "
            f"one of them, or {WRITE}"
        )
    return next(iter(told), None)


def refuse_doubled(table: pd.DataFrame, name: str = "context") -> None:
    """Refuses a table that has a column twice.

    Raises:
        FrameError: Naming the column, and how to keep the first.
    """
    doubled = table.columns[table.columns.duplicated()]
    if len(doubled):
        raise FrameError(
            f"the table {name} has the column {doubled[0]!r} twice; keep the first with "
            f"{name} = {name}.loc[:, ~{name}.columns.duplicated()]"
        )


def _read_column(times: pd.Series, ids: pd.Series, origin: _Row, day_first: bool | None) -> np.ndarray:
    """Returns times as datetime64[ns] [R]."""
    values = times.reset_index(drop=True)
    if values.dtype != "datetime64[ns]":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of the order of day and month, which is settled below
            for at, value in enumerate(values):
                _refuse_no_time(value, f"{origin.row} {at}: {origin.time}", origin.times)
    written = values.map(lambda value: isinstance(value, str)).to_numpy(bool)
    plain = ~written & values.notna().to_numpy()
    found = pd.Series(pd.NaT, index=values.index, dtype="datetime64[ns]")
    found[plain] = pd.to_datetime(list(values[plain])).as_unit("ns")
    rows = np.flatnonzero(written)
    read = parse_time(values[written], ids.iloc[rows], replace(origin, rows=rows), day_first=day_first)
    found[written] = read.to_numpy()
    return found.to_numpy()


def _refuse_no_time(value: Any, place: str, column: str) -> None:
    """Refuses what no order of day and month makes a time; numbers would count as nanoseconds since 1970."""
    if pd.isna(value):
        return
    if isinstance(value, int | float | np.number) or (isinstance(value, str) and value.strip().isdecimal()):
        day = isinstance(value, int | np.integer | str) and re.fullmatch(r"(?:19|20)\d{6}", str(value).strip())
        way = (
            f", or say what it means: {column} = pd.to_datetime({column}.astype(str), format='%Y%m%d')" if day else ""
        )
        raise FrameError(f"{place} is {value}, a number; {WRITE}{way}")
    time = pd.to_datetime(value, errors="coerce")
    if _is_beyond(value, time):
        raise FrameError(
            f"{place} is {value}, beyond the times that can be computed with; leave it empty if it is open"
        )
    # What names no year is completed from the clock by the parser ("12:00", "today").
    if pd.isna(time) or (isinstance(value, str) and not re.search(r"(?<!\d)\d{4}(?!\d)", value)):
        raise FrameError(f"{place} is {value!r}, which is no time with its day and its year of four digits; {WRITE}")
    if time.tzinfo is not None:
        raise FrameError(f"{place} has a time zone ({value}); give the times as the data have them, without one")


def _is_beyond(value: Any, time: pd.Timestamp) -> bool:
    """Tells whether a time lies before or behind those that pandas computes with, for which `time` may be NaT."""
    if not pd.isna(time):
        return not EARLIEST <= time.tz_localize(None) <= LATEST
    year = re.search(r"(?<!\d)\d{4}(?!\d)", value) if isinstance(value, str) else None
    number = int(year[0]) if year else int(getattr(value, "year", EARLIEST.year))
    return not EARLIEST.year <= number <= LATEST.year
