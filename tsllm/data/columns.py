"""The columns of a table, read once and in one way: names of series and numbers (times are in `tsllm.data.dates`).

Every frame that comes from outside passes here, the first one (`tsllm.data.frame.validate_frame`) and all later ones
(`tsllm.data.frame.validate_future`), so that a fault is told in the same words wherever it stands.
"""

import logging
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
import pandas as pd
import pyarrow as pa
from pandas.api import types as ptypes
from pandas.api.extensions import ExtensionDtype

from tsllm.data.origin import Origin, name_of
from tsllm.types import ID, TARGET, TIME, FrameError

logger = logging.getLogger(__name__)

WIDE_TIME_NAMES = (TIME, "date")
_RESET_INDEX = ("index", "level_0")  # what `DataFrame.reset_index` calls an index without a name


def as_pandas(df: Any) -> pd.DataFrame:
    """Returns a table of any eager kind (pandas, polars, Arrow) as pandas; an index named as a key becomes a column.

    Columns that pandas stores by Arrow or with a mask come out as numpy stores them, a missing value as NaN, NaT or
    None: the same table gives the same frame, whoever read it.

    Raises:
        FrameError: If it is no table, or a lazy one.
    """
    if not isinstance(df, pd.DataFrame):
        df = _to_pandas(df)
    if any(isinstance(name, tuple) for name in df.columns):
        raise FrameError(f"the columns have several levels ({df.columns[0]}, ...); give each one name")
    keys = [name for name in df.index.names if name in (ID, *WIDE_TIME_NAMES) and name not in df.columns]
    df = df.reset_index(level=keys) if keys else df
    if not any(_is_foreign(dtype) for dtype in df.dtypes):
        return df
    columns = [_store_by_numpy(df.iloc[:, k]) for k in range(df.shape[1])]  # by place: names may be doubled
    return pd.concat(columns, axis=1).set_axis(df.columns, axis=1)


def _is_foreign(dtype: Any) -> bool:
    """Tells whether values are stored by Arrow or with a mask; the text of pandas 3 is neither."""
    return isinstance(dtype, ExtensionDtype) and dtype.na_value is pd.NA


def _store_by_numpy(column: pd.Series) -> pd.Series:
    """Returns the same values as numpy stores them."""
    if not _is_foreign(column.dtype):
        return column
    stored = pa.array(column, from_pandas=True)
    if pa.types.is_date(stored.type):
        stored = stored.cast(pa.timestamp("s" if pa.types.is_date32(stored.type) else "ms"))
    elif pa.types.is_decimal(stored.type) or (pa.types.is_boolean(stored.type) and stored.null_count):
        stored = stored.cast(pa.float64())
    return stored.to_pandas().set_axis(column.index).rename(column.name)


def is_table(thing: Any) -> bool:
    """Tells whether `as_pandas` takes it."""
    import narwhals.stable.v1 as nw

    if isinstance(thing, pd.DataFrame):
        return True
    return isinstance(nw.from_native(thing, eager_only=True, pass_through=True), nw.DataFrame)


def _to_pandas(df: Any) -> pd.DataFrame:
    import narwhals.stable.v1 as nw

    try:
        return nw.from_native(df, eager_only=True).to_pandas()
    except TypeError:
        given = "None" if df is None else type(df).__name__
        lazy = "; collect it first, df.collect()" if hasattr(df, "collect") else ""
        raise FrameError(f"expected a table (pandas, polars or Arrow), got {given}{lazy}") from None


def require_columns(df: pd.DataFrame, columns: Sequence[str], what: str, hint: str = "") -> None:
    """Raises a FrameError for the first of `columns` that is missing, with a hint, and for any that is there twice."""
    missing = [c for c in dict.fromkeys(columns) if c not in df.columns]
    if missing:
        raise FrameError(f"{what} needs column {missing[0]!r}; found columns {[str(c) for c in df.columns]}{hint}")
    doubled = [c for c in dict.fromkeys(columns) if isinstance(df[c], pd.DataFrame)]
    if doubled:
        raise FrameError(f"column {doubled[0]!r} appears twice; rename or drop one")


def drop_saved_index(df: pd.DataFrame, asked: Sequence[str]) -> pd.DataFrame:
    """Leaves out, with a warning, a column that counts the rows: a nameless one, which pandas writes without
    `index=False`, or one that `reset_index` called so.

    Args:
        df: The table.
        asked: Columns that were asked for by name, which are never left out.

    Raises:
        FrameError: If a column has no name and does not count the rows.
    """
    nameless = [c for c in df.columns if (pd.isna(c) or re.fullmatch(r"|Unnamed: \d+", str(c))) and c not in asked]
    reset = [c for c in df.columns if c in _RESET_INDEX and c not in asked and _counts_rows(df[c])]
    for column in [*nameless, *reset]:
        if not _counts_rows(df[column]):
            way = "df = df.loc[:, df.columns.notna()]" if pd.isna(column) else f"df = df.drop(columns={column!r})"
            raise FrameError(
                f"column {column!r} has no name in its header, and it does not count the rows either; name it, or "
                f"drop it with {way}"
            )
        logger.warning("Column %r counts the rows, a saved index; it is left out (save with index=False)", column)
    return df.drop(columns=[*nameless, *reset]) if nameless or reset else df


def _counts_rows(values: pd.Series | pd.DataFrame) -> bool:
    if isinstance(values, pd.DataFrame):  # doubled, which is told elsewhere
        return False
    return bool(ptypes.is_numeric_dtype(values.dtype)) and values.to_numpy().tolist() == list(range(len(values)))


def read_ids(ids: pd.Series, origin: Origin) -> pd.Series:
    """Returns the names of the series without categories.

    Raises:
        FrameError: If one is missing, or names are of several types.
    """
    missing = ids.isna().to_numpy()
    if missing.any():
        raise FrameError(
            f"row {origin.rows[missing.argmax()]}: {ID!r} is missing; give every row the name of its series"
        )
    if isinstance(ids.dtype, pd.CategoricalDtype):
        ids = ids.astype(ids.cat.categories.dtype)
    if ids.dtype == object:
        kinds = {type(i) for i in ids}
        if len(kinds) > 1:
            raise FrameError(f"{ID!r} mixes types; convert it with df[{ID!r}] = df[{ID!r}].astype(str)")
        if not kinds <= {str, int}:
            raise FrameError(
                f"{ID!r} holds {kinds.pop().__name__}; names are text or integers: convert it with df[{ID!r}] = "
                f"df[{ID!r}].astype(str)"
            )
    elif not ptypes.is_string_dtype(ids.dtype) and not ptypes.is_integer_dtype(ids.dtype):
        raise FrameError(
            f"{ID!r} has dtype {ids.dtype}; names are text or integers: convert it with df[{ID!r}] = "
            f"df[{ID!r}].astype(str)"
        )
    return ids


def read_numbers(values: pd.Series, ids: pd.Series, origin: Origin) -> pd.Series:
    """Returns a column as float64; NaN is allowed in the target alone.

    Args:
        values: The column, under its name in the long frame.
        ids: The series of each row.
        origin: Where the rows come from.

    Raises:
        FrameError: Naming series, row and column, for text, complex numbers, infinities and missing covariates.
    """
    is_target, table = values.name == TARGET, origin.table
    if not is_real(values) and not values.isna().all():
        _refuse_kind(values, ids, origin)
    values = values.astype("float64")
    infinite = np.isinf(values.to_numpy())
    if infinite.any():
        at, column = _fault(infinite, values, ids, origin)
        raise FrameError(
            f"{origin.place(ids, at)}: column {column!r} is infinite ({values.iloc[at]}); mend it, or mark a missing "
            f"target with NaN: {table}[{column!r}] = {table}[{column!r}].replace([np.inf, -np.inf], np.nan)"
        )
    if not is_target and values.isna().any():
        at, column = _fault(values.isna().to_numpy(), values, ids, origin)
        group = "" if origin.wide else f".groupby({ID!r})"
        raise FrameError(
            f"{origin.place(ids, at)}: covariate {column!r} is missing; only {TARGET!r} may be NaN: fill the covariate"
            f" (for example {table}[{column!r}] = {table}{group}[{column!r}].ffill(), and .bfill() for the first rows"
            ") or leave it out"
        )
    return values


def _refuse_kind(values: pd.Series, ids: pd.Series, origin: Origin) -> NoReturn:
    """Raises the FrameError of a column that does not hold numbers, with the way that fits what it holds."""
    is_target, table = values.name == TARGET, origin.table
    numbers = try_numbers(values)
    bad = (values.notna() & numbers.isna()).to_numpy()
    at, column = _fault(bad, values, ids, origin)
    own = (ids == ids.iloc[at]) if origin.wide else pd.Series(True, index=ids.index)
    found = values.iloc[at] if not isinstance(values.iloc[at], np.generic) else values.iloc[at].item()
    leave = "" if is_target else ", or leave it out (covariates=[...] names the columns to keep)"
    if ptypes.is_complex_dtype(values.dtype):
        way = f"keep its real part, {table}[{column!r}] = {table}[{column!r}].to_numpy().real"
    elif bad.any() and (comma := _advise_comma(values, bad, f"{table}[{column!r}]")):
        way, leave = comma, ""
    elif not bad.any():
        # Decimals and the missing value of pandas need a way each that the other does not take.
        missing = f".where({table}[{column!r}].notna(), float('nan'))" if values.isna().any() else ""
        way = f"convert it with {table}[{column!r}] = {table}[{column!r}]{missing}.astype(float)"
    elif is_target and numbers[own].notna().any():
        way = (
            f"convert it with {table}[{column!r}] = pd.to_numeric({table}[{column!r}], errors='coerce'), which marks "
            "what is no number as missing"
        )
    elif is_target and origin.wide:
        way = (
            f"drop it with {table} = {table}.drop(columns={column!r}), or name the columns that are series "
            "(targets=[...], --targets), or, in a long table, its columns: id_col=..., target_col=... (--id, --target)"
        )
    elif is_target:
        way = f"none of its values is a number; name the column of numbers {column!r}"
    elif ptypes.is_datetime64_any_dtype(values.dtype) or (table != Origin.table and numbers.isna().all()):
        way = "give numbers in its place, as the history has them"
    elif numbers.notna().any():
        way = f"mend that value, and convert the column with {table}[{column!r}] = pd.to_numeric({table}[{column!r}])"
    else:
        way = f"write a number for each value, as {advise_encoding(values)}"
    raise FrameError(
        f"{origin.place(ids, at)}: column {column!r} is not numeric (found {_shorten(found)}, dtype {values.dtype}); "
        f"{way}{leave}"
    )


def _advise_comma(values: pd.Series, bad: np.ndarray, column: str) -> str:
    """Returns the way of a column whose values are numbers with a comma; empty if they are something else.

    Args:
        values: The column.
        bad: Which of them are no numbers.
        column: The column in Python.
    """
    written = values[bad].astype(str).str.strip()
    if not written.str.fullmatch(r"[-+]?(?:\d+|\d{1,3}(?:\.\d{3})+),\d+").all():
        return ""
    if any(isinstance(value, str) and "." in value for value in values[~bad]):
        return "some of its values have a comma and others a point before their decimals; write all with a point"
    points = written.str.contains(".", regex=False).any()
    text = column + (r".replace(r'\.', '', regex=True)" if points else "")
    decimal = f"{column} = pd.to_numeric({text}.replace(',', '.', regex=True))"
    if not points and written.str.fullmatch(r"[-+]?[1-9]\d{0,2},\d{3}").all():
        thousands = f"{column} = pd.to_numeric({column}.replace(',', '', regex=True))"
        return f"its comma may stand before decimals, {decimal}, or between thousands, {thousands}"
    return f"it has a decimal comma; read it with {decimal}, or save the file with decimal points"


def advise_encoding(values: pd.Series) -> str:
    """Returns the code that turns a column of names into columns of 0 and 1, in a table and alike in a later one.

    >>> advise_encoding(pd.Series(["b", "a"], name="kind"))[-48:]
    "X_df), and name the columns ['kind_a', 'kind_b']"
    """
    found = sorted(map(str, values.dropna().unique()))
    names = [f"{values.name}_{value}" for value in found[:5]]
    shown = f"{names}" if len(found) <= 5 else f"{names[:-1]} ... ({len(found)} in all)"
    column = values.name
    return (
        f"kinds = pd.CategoricalDtype(sorted(df[{column!r}].unique())); df = pd.get_dummies(df.astype({{{column!r}: "
        f"kinds}}), columns=[{column!r}], dtype=float) (the same kinds for df and X_df), and name the columns {shown}"
    )


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:50]}... of {len(text)} characters"


def try_numbers(values: pd.Series) -> pd.Series:
    """Returns the values as floats, NaN where one is no real number (text that is none, a time, a complex number)."""
    if ptypes.is_complex_dtype(values.dtype):
        return pd.Series(np.nan, index=values.index)
    try:
        # The missing value of pandas is no number; NaN is.
        return values.astype(object).where(values.notna(), np.nan).astype("float64")
    except (TypeError, ValueError, OverflowError):
        plain = values.astype(object).where(values.map(_may_be_number))
        return pd.to_numeric(plain, errors="coerce")


def _may_be_number(value: Any) -> bool:
    if isinstance(value, int) and abs(value) > sys.float_info.max:
        return False
    return isinstance(value, (str, int, float, np.number))


def is_real(values: pd.Series) -> bool:
    """Tells whether a column holds numbers of the real line (or truth values), whatever their storage."""
    return bool(ptypes.is_numeric_dtype(values.dtype)) and not ptypes.is_complex_dtype(values.dtype)


def _fault(bad: np.ndarray, values: pd.Series, ids: pd.Series, origin: Origin) -> tuple[int, Any]:
    """Returns the first bad row, and what its column is called in the user's table."""
    at = int(bad.argmax()) if bad.any() else 0
    return at, origin.column(values.name, name_of(ids, at))
