"""The columns of a table, read once and in one way: names of series, times, numbers.

Every frame that comes from outside passes here, the first one (`tsllm.data.frame.validate_frame`) and all later ones
(`tsllm.data.frame.validate_future`), so that a fault is told in the same words wherever it stands.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from pandas.api import types as ptypes

from tsllm.types import ID, TARGET, TIME, FrameError

WIDE_TIME_NAMES = (TIME, "date")
# An hour, and behind it Z, +01, +0100 or +01:00; a date alone may end in "-01" too.
_ZONE = r"(?:[T ]\d{1,2}.*[+-]\d\d(?::?\d\d)?|Z|UTC|GMT)$"


def as_pandas(df: Any) -> pd.DataFrame:
    """Returns a table of any eager kind (pandas, polars, Arrow) as pandas; an index named as a key becomes a column.

    Raises:
        FrameError: If it is no table, or a lazy one.
    """
    if not isinstance(df, pd.DataFrame):
        df = _to_pandas(df)
    keys = [name for name in df.index.names if name in (ID, *WIDE_TIME_NAMES) and name not in df.columns]
    return df.reset_index(level=keys) if keys else df


def _to_pandas(df: Any) -> pd.DataFrame:
    import narwhals.stable.v1 as nw

    try:
        return nw.from_native(df, eager_only=True).to_pandas()
    except TypeError:
        lazy = "; collect it first, df.collect()" if hasattr(df, "collect") else ""
        raise FrameError(f"expected a table (pandas, polars or Arrow), got {type(df).__name__}{lazy}") from None


def require_columns(df: pd.DataFrame, columns: Sequence[str], what: str) -> None:
    """Raises a FrameError for the first of `columns` that is missing, and for any that is there twice."""
    missing = [c for c in dict.fromkeys(columns) if c not in df.columns]
    if missing:
        raise FrameError(f"{what} needs column {missing[0]!r}; found columns {[str(c) for c in df.columns]}")
    doubled = [c for c in dict.fromkeys(columns) if isinstance(df[c], pd.DataFrame)]
    if doubled:
        raise FrameError(f"column {doubled[0]!r} appears twice; rename or drop one")


def read_ids(ids: pd.Series, rows: np.ndarray) -> pd.Series:
    """Returns the names of the series without categories.

    Args:
        ids: The column.
        rows: Where each row stands in the table of the user [rows].

    Raises:
        FrameError: If one is missing, or names are of several types.
    """
    missing = ids.isna().to_numpy()
    if missing.any():
        raise FrameError(f"row {rows[missing.argmax()]}: {ID!r} is missing; give every row the name of its series")
    if isinstance(ids.dtype, pd.CategoricalDtype):
        ids = ids.astype(ids.cat.categories.dtype)
    if ids.dtype == object and len({type(i) for i in ids.unique()}) > 1:
        raise FrameError(f"{ID!r} mixes types; convert it with df[{ID!r}] = df[{ID!r}].astype(str)")
    return ids


def parse_time(times: pd.Series, ids: pd.Series, rows: np.ndarray) -> pd.Series:
    """Returns times as int64 steps or as dates without a zone.

    Args:
        times: The column: integers, dates, periods, or dates as text.
        ids: The series of each row, for the text of an error.
        rows: Where each row stands in the table of the user [rows].

    Raises:
        FrameError: For missing, unreadable, fractional or zoned times.
    """
    if isinstance(times.dtype, pd.PeriodDtype):
        times = times.dt.to_timestamp()
    if ptypes.is_float_dtype(times.dtype) and times.notna().all() and (times % 1 == 0).all():
        times = times.astype("int64")
    if times.isna().any():
        at = int(times.isna().to_numpy().argmax())
        raise FrameError(f"series {ids.iloc[at]!r}, row {rows[at]}: {TIME!r} is missing; every row needs its time")
    if ptypes.is_integer_dtype(times.dtype):
        return times.astype("int64")
    if ptypes.is_numeric_dtype(times.dtype):
        raise FrameError(f"{TIME!r} holds fractions ({times.iloc[0]}); give dates or integer steps")
    if not ptypes.is_datetime64_any_dtype(times.dtype):
        times = _read_dates(times, ids, rows)
    if times.dt.tz is not None:
        raise FrameError(
            f"{TIME!r} carries the time zone {times.dt.tz}; drop it with "
            f"df[{TIME!r}] = pd.to_datetime(df[{TIME!r}], utc=True).dt.tz_localize(None): in UTC, clock changes leave"
            " neither gap nor duplicate"
        )
    return times


def _read_dates(times: pd.Series, ids: pd.Series, rows: np.ndarray) -> pd.Series:
    # ISO first: files write midnight without its hour, which breaks a format guessed from the first row.
    parsed = pd.to_datetime(times, format="ISO8601", errors="coerce", utc=True)
    if parsed.isna().any():
        parsed = pd.to_datetime(times, errors="coerce", utc=True)
    if parsed.isna().any():
        at = int(parsed.isna().to_numpy().argmax())
        raise FrameError(
            f"series {ids.iloc[at]!r}, row {rows[at]}: {TIME} {times.iloc[at]!r} is neither an integer nor a date"
            f" in the format of the first row ({times.iloc[0]!r})"
        )
    if times.astype(str).str.contains(_ZONE).any():
        return parsed  # aware, refused by the caller with the way out
    return parsed.dt.tz_localize(None)


def read_numbers(values: pd.Series, ids: pd.Series, rows: np.ndarray) -> pd.Series:
    """Returns a column as float64; NaN is allowed in the target alone.

    Args:
        values: The column, under its name.
        ids: The series of each row, for the text of an error.
        rows: Where each row stands in the table of the user [rows].

    Raises:
        FrameError: Naming series, row and column, for text, complex numbers, infinities and missing covariates.
    """
    column = values.name

    def place(bad: np.ndarray) -> tuple[int, str]:
        at = int(bad.argmax())
        return at, f"series {ids.iloc[at]!r}, row {rows[at]}"

    is_real = ptypes.is_numeric_dtype(values.dtype) and not ptypes.is_complex_dtype(values.dtype)
    if not is_real and not values.isna().all():
        bad = (pd.to_numeric(values, errors="coerce").isna() | ptypes.is_complex_dtype(values.dtype)) & values.notna()
        at, where = place(bad.to_numpy())
        raise FrameError(
            f"{where}: column {column!r} is not numeric (found {values.iloc[at]!r}, dtype {values.dtype}); convert it"
            " with pd.to_numeric, or leave it out (covariates=[...] names the columns to keep)"
        )
    values = values.astype("float64")
    infinite = np.isinf(values.to_numpy())
    if infinite.any():
        at, where = place(infinite)
        raise FrameError(
            f"{where}: column {column!r} is infinite ({values.iloc[at]}); mend it, or mark a missing target with NaN"
        )
    if column != TARGET and values.isna().any():
        _, where = place(values.isna().to_numpy())
        raise FrameError(
            f"{where}: covariate {column!r} is missing; only {TARGET!r} may be NaN: fill the covariate (for example "
            "df.groupby('unique_id')[...].ffill()) or leave it out"
        )
    return values
