"""Dated reports, as Time-MMD (Liu 2024, arXiv 2406.08627) keeps them: texts about periods, with their publication."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from tsllm.context.contract import PUBLISHED, TEXT
from tsllm.data.reading import read_table
from tsllm.types import ID, FrameError

logger = logging.getLogger(__name__)
START_DATE, END_DATE = "start_date", "end_date"
FACT, PREDS = "fact", "preds"
_NOTHING = {"", "na", "nan", "none", "n/a", "null"}


def load_reports(
    reports: str | Path | pd.DataFrame, unique_id: Any, *, delay: str | pd.Timedelta, columns: Sequence[str] = (FACT,)
) -> pd.DataFrame:
    """Reads reports as texts that a back-test may read, once they were out.

    A report about the week up to Sunday is not out on Sunday, and may quote what came after it. The tables do not say
    when it was published, so `delay` must: count it from the end of the period, and rather too long than too short.

    Args:
        reports: A table, or the path of one, with `start_date`, `end_date`, `fact`, and perhaps `preds` (what the
            report expects).
        unique_id: The series that the reports are about.
        delay: From the end of a period to its publication, at least 0: "7 D".
        columns: The texts that are read, in this order; rows without any are left out, and their number is logged.

    Returns:
        Frame `unique_id, text, published`, for `context`.

    Raises:
        FrameError: If a column is missing, a date cannot be read, or a period ends before it starts.
        ValueError: If the delay is none, or negative.

    Example:
        >>> table = {"start_date": ["2024-01-01"], "end_date": ["2024-01-07"], "fact": ["Prices rose."]}
        >>> load_reports(pd.DataFrame(table), "oil", delay="3 D").iloc[0].tolist()
        ['oil', 'Prices rose.', Timestamp('2024-01-10 00:00:00')]
    """
    after = pd.Timedelta(delay)
    if pd.isna(after) or after < pd.Timedelta(0):
        raise ValueError(f"delay is {delay!r}; give the time from the end of a period to its publication, such as 7 D")
    table = reports if isinstance(reports, pd.DataFrame) else read_table(reports)
    wanted = (START_DATE, END_DATE, *columns)
    missing = [name for name in wanted if name not in table]
    if missing or not columns:
        raise FrameError(f"the reports have columns {list(table.columns)}; they need {', '.join(wanted)}")
    starts, ends = (_read_dates(table[name]) for name in (START_DATE, END_DATE))
    early = (ends < starts).to_numpy()
    if early.any():
        row = int(early.argmax())
        raise FrameError(f"report row {row} ends on {ends.iloc[row]}, before it starts on {starts.iloc[row]}")
    texts = ["\n".join(t for t in map(_clean, row) if t) for row in table[list(columns)].itertuples(index=False)]
    made = pd.DataFrame({ID: [unique_id] * len(table), TEXT: texts, PUBLISHED: (ends + after).to_numpy()})
    empty = made[TEXT] == ""
    if empty.any():
        logger.info("%d of %d reports say nothing and are left out", int(empty.sum()), len(made))
    return made[~empty].sort_values(PUBLISHED, kind="stable", ignore_index=True)


def _read_dates(column: pd.Series) -> pd.Series:
    dates = pd.to_datetime(column, errors="coerce", format="mixed")
    if dates.isna().any():
        row = int(dates.isna().to_numpy().argmax())
        raise FrameError(f"report row {row}: {column.name} is {column.iloc[row]!r}, which is no date")
    return dates


def _clean(text: Any) -> str:
    """Returns a text without spaces around it; empty for what stands for nothing."""
    found = "" if pd.isna(text) else str(text).strip()
    return "" if found.lower() in _NOTHING else found
