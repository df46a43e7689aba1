"""Dated reports, as Time-MMD (Liu 2024, arXiv 2406.08627) keeps them: texts about periods, with their publication."""

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tsllm.context.contract import PUBLISHED, TEXT
from tsllm.context.times import read_text_times
from tsllm.data.reading import read_table
from tsllm.types import ID, FrameError

logger = logging.getLogger(__name__)
START_DATE, END_DATE = "start_date", "end_date"
FACT, PREDS = "fact", "preds"
_NOTHING = {"", "na", "nan", "none", "n/a", "null"}


def load_reports(
    reports: str | Path | pd.DataFrame,
    unique_id: Any,
    *,
    delay: str | pd.Timedelta,
    columns: Sequence[str] = (FACT,),
    day_first: bool | None = None,
) -> pd.DataFrame:
    """Reads reports as texts that a back-test may read, once they were out.

    A report about the week up to Sunday is not out on Sunday, and may quote what came after it. The tables do not say
    when it was published, so `delay` must: count it from the end of the period, and rather too long than too short. An
    `end_date` without a time of day is a whole day of the period.

    Args:
        reports: A table, or the path of one, with `start_date`, `end_date`, `fact`, and perhaps `preds` (what the
            report expects).
        unique_id: The series that the reports are about.
        delay: From the end of a period to its publication, with its unit, at least 0: "7 D".
        columns: The texts that are read, in this order; rows without any are left out, and their number is logged.
        day_first: Whether 03/04/2024 is the third of April; None refuses such dates unless another row settles it.

    Returns:
        Frame `unique_id, text, published`, for `context`.

    Raises:
        FrameError: If a column is missing, a date cannot be read or can be read in two ways, or a period ends before
            it starts.
        ValueError: If the delay is none, negative or without a unit, or the columns are no list.

    Example:
        >>> table = {"start_date": ["2024-01-01"], "end_date": ["2024-01-07"], "fact": ["Prices rose."]}
        >>> load_reports(pd.DataFrame(table), "oil", delay="3 D").iloc[0].tolist()
        ['oil', 'Prices rose.', Timestamp('2024-01-11 00:00:00')]
    """
    after = _read_delay(delay)
    if isinstance(columns, str):
        raise ValueError(f"columns is {columns!r}; give a list: columns=[{columns!r}]")
    table = reports if isinstance(reports, pd.DataFrame) else read_table(reports)
    wanted = (START_DATE, END_DATE, *columns)
    missing = [name for name in wanted if name not in table]
    if missing or not columns:
        raise FrameError(f"the reports have columns {list(table.columns)}; they need {', '.join(wanted)}")
    named = table[[START_DATE, END_DATE]].assign(**{ID: [unique_id] * len(table)})
    dates = read_text_times(named, (START_DATE, END_DATE), day_first=day_first, name="reports", row="report row")
    for name in (START_DATE, END_DATE):
        if dates[name].isna().any():
            raise FrameError(
                f"report row {int(dates[name].isna().to_numpy().argmax())}: {name} is missing; fill it in"
            )
    starts, ends = dates[START_DATE], dates[END_DATE]
    early = (ends < starts).to_numpy()
    if early.any():
        row = int(early.argmax())
        raise FrameError(
            f"report row {row} ends on {ends.iloc[row]}, before it starts on {starts.iloc[row]}; correct its dates or "
            f"leave the row out ({int(early.sum())} such row{'s' if early.sum() > 1 else ''})"
        )
    texts = ["\n".join(t for t in map(_clean, row) if t) for row in table[list(columns)].itertuples(index=False)]
    over = ends + pd.Timedelta(days=1) * (ends == ends.dt.normalize())  # a date is over when its day is
    made = pd.DataFrame({ID: [unique_id] * len(table), TEXT: texts, PUBLISHED: (over + after).to_numpy()})
    empty = made[TEXT] == ""
    if empty.any():
        logger.info("%d of %d reports say nothing and are left out", int(empty.sum()), len(made))
    return made[~empty].sort_values(PUBLISHED, kind="stable", ignore_index=True)


def _read_delay(delay: Any) -> pd.Timedelta:
    """Returns a delay; a number alone would count nanoseconds."""
    try:
        bare = isinstance(delay, int | float | np.number) or re.fullmatch(r"\s*[-+]?[\d.]+\s*", str(delay))
        after = pd.NaT if bare else pd.Timedelta(delay)
    except ValueError:
        after = pd.NaT
    if pd.isna(after) or after < pd.Timedelta(0):
        raise ValueError(
            f"delay is {delay!r}; give the time from the end of a period to its publication with its unit, such as "
            "'7 D'"
        )
    return after


def _clean(text: Any) -> str:
    """Returns a text without spaces around it; empty for what stands for nothing."""
    found = "" if pd.isna(text) else str(text).strip()
    return "" if found.lower() in _NOTHING else found
