"""Which columns of a table name the series, the time and the values, where they have not the names of frames.

Nothing is read by a guess: it is told in an error, as the options that would read the table.
"""

import re
import shlex
from collections.abc import Sequence
from typing import Any

import pandas as pd
from pandas.api import types as ptypes

from tsllm.data.columns import WIDE_TIME_NAMES, is_real, try_numbers
from tsllm.types import ID, TARGET, TIME

_TIMES = {*WIDE_TIME_NAMES, "datetime", "timestamp", "time", "day", "month", "week", "year", "period", "step", "t"}
_IDS = {ID, "series", "series_id", "item_id", "item", "id", "name", "store", "shop", "product", "sku", "sensor", "key"}
_TARGETS = {TARGET, "value", "values", "target", "sales", "sold", "demand", "load", "price", "count", "quantity"}
_OPTIONS = {ID: ("--id", "id_col"), TIME: ("--time", "time_col"), TARGET: ("--target", "target_col")}
_DATE = re.compile(r"\s*\d{1,4}([-/.]\d{1,2}){1,2}\b|\s*\d{8}\b|\s*\d{4}[Qq-]")


def advise_names(df: pd.DataFrame, covariates: Sequence[Any] = ()) -> str:
    """Returns the options that would read a table as a long one; empty if it does not look like one.

    Args:
        df: A table, or one of which some columns have the names of frames already.
        covariates: Columns that were named for something else.

    Example:
        >>> table = pd.DataFrame({"series": ["a", "b"], "date": ["2024-01-01"] * 2, "value": [1.5, 2.0]})
        >>> advise_names(table).split(";")[0]
        'name its columns: --id series --time date --target value'
    """
    roles = guess_names(df, covariates)
    if not roles:
        return ""
    named = {own: column for own, column in roles.items() if column != own}
    if not named:
        return ""
    options = " ".join(f"{_OPTIONS[own][0]} {shlex.quote(str(column))}" for own, column in named.items())
    python = ", ".join(f"{_OPTIONS[own][1]}={column!r}" for own, column in named.items())
    renamed = {column: own for own, column in named.items()}
    told = f"name its columns: {options}; in Python {python}, or df = df.rename(columns={renamed})"
    if TARGET not in roles:
        numbers = ", ".join(repr(str(c)) for c in _numbers(df, roles, covariates))
        told += f", and with --target (target_col) the column of the values, one of {numbers}"
    return told


def guess_names(df: pd.DataFrame, covariates: Sequence[Any] = ()) -> dict[str, Any]:
    """Returns name of frames -> column; empty if the table does not look long.

    A table is long if its times repeat and a further column tells the rows of one time apart, or if there is one
    column of numbers beside a text. The values are left out where several columns could be them.

    Args:
        df: A table.
        covariates: Columns that were named for something else.
    """
    time = _find_time(df)
    if time is None:
        return {}
    others = [c for c in df.columns if c != time and c not in covariates]
    if len({*map(str, df.columns)}) < df.shape[1]:
        return {}
    roles = {TIME: time}
    if ID in others:
        roles = {ID: ID} | roles
    elif df[time].duplicated().any():
        named = [c for c in others if _may_name(df, c, time)]
        if not named:
            return {}
        roles = {ID: min(named, key=lambda c: (_known(c, _IDS), is_real(df.loc[:, c]), df[c].nunique()))} | roles
    else:
        same = [c for c in others if not looks_numeric(df[c]) and df[c].nunique(dropna=False) == 1]
        roles = ({ID: same[0]} if same and _known(same[0], _IDS) == 0 else {}) | roles
    numbers = _numbers(df, roles, covariates)
    likely = [c for c in numbers if _known(c, _TARGETS) == 0]
    if len(numbers) == 1 or len(likely) == 1:
        return roles | {TARGET: (likely or numbers)[0]}
    return roles if numbers and ID in roles else {}


def _numbers(df: pd.DataFrame, roles: dict[str, Any], covariates: Sequence[Any]) -> list[Any]:
    taken = [*roles.values(), *covariates]
    return [c for c in df.columns if c not in taken and looks_numeric(df[c])]


def looks_numeric(column: pd.Series) -> bool:
    """Tells whether a column holds numbers, though a few of its cells may be none."""
    if ptypes.is_bool_dtype(column.dtype) or ptypes.is_datetime64_any_dtype(column.dtype):
        return False
    return is_real(column) or bool(try_numbers(column).notna().mean() > 0.5)


def _find_time(df: pd.DataFrame) -> Any:
    known = [c for c in df.columns if c in (TIME, "date")] or [c for c in df.columns if _known(c, _TIMES) == 0]
    dated = [c for c in df.columns if ptypes.is_datetime64_any_dtype(df[c].dtype) or _reads_as_dates(df[c])]
    return next(iter([c for c in known if c in dated] or dated or known), None)


def _reads_as_dates(column: pd.Series) -> bool:
    if is_real(column):
        return False
    first = column.dropna().head(50)
    return len(first) > 0 and all(isinstance(value, str) and _DATE.match(value) for value in first)


def _may_name(df: pd.DataFrame, column: Any, time: Any) -> bool:
    """Tells whether a column could name series: texts or whole numbers, each with any time at most once.

    Without a customary name it must look like one, not like values in a table with a doubled row: every second row at
    least shares its time with another, and a name has two rows.
    """
    values = df[column]
    if values.isna().any() or df.duplicated([column, time]).any():
        return False
    if ptypes.is_float_dtype(values.dtype) and (values % 1 != 0).any():
        return False
    shared = df[time].duplicated(keep=False).mean() >= 0.5 and values.nunique() <= len(df) / 2
    return _known(column, _IDS) == 0 or shared


def _known(column: Any, names: set[str]) -> int:
    """Returns 0 for a customary name and 1 for any other, to sort by."""
    return int(str(column).strip().lower().replace(" ", "_") not in names)
