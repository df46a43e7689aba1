"""Frames: what a table of series must look like, and how a table that does not is told.

One shape leaves this module: a long frame with the columns `unique_id`, `ds`, `y` and the covariates, sorted by
`unique_id` and `ds`, on a regular time axis. Time is dated (`freq` a pandas alias such as "h") or a plain integer
(`freq` an integer step). Missing targets are NaN in `y`; missing rows are an error, because a gap shifts every later
step of a window in silence.
"""

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from pandas.api import types as ptypes

from tsllm.data.columns import (
    WIDE_TIME_NAMES,
    as_pandas,
    drop_saved_index,
    is_real,
    read_ids,
    read_numbers,
    require_columns,
)
from tsllm.data.dates import parse_time
from tsllm.data.frequency import Freq, future_times, infer_alias, normalize_freq
from tsllm.data.grid import check_grid, check_length, check_order, is_integer_time, series_starts, steps_from_start
from tsllm.data.names import ColumnNames
from tsllm.data.origin import Origin
from tsllm.types import ID, TARGET, TIME, FrameError

logger = logging.getLogger(__name__)


def to_long(df: Any, *, targets: Sequence[str] | None = None, covariates: Sequence[str] | None = None) -> pd.DataFrame:
    """Brings a long or a wide table into long columns; nothing is checked yet beyond the columns that are read.

    A table with `unique_id` is long. Any other is wide: a time column (`ds` or `date`) and one column a series, whose
    name becomes the `unique_id`; the columns named as covariates are repeated for every series.

    Args:
        df: The table (pandas, polars or Arrow); keys may stand in its index.
        targets: Columns of a wide table that are series; None takes all that are not covariates.
        covariates: Columns that go along with every series; in a long table None keeps all further columns.

    Returns:
        A new frame `unique_id, ds, y, covariates...` in the given order of rows (series after series if wide).

    Raises:
        FrameError: If a column is missing, doubled or named twice.
    """
    df = as_pandas(df)
    _check_names(covariates, "covariate")
    _check_names(targets, "target")
    given = df
    if TIME not in df.columns and "date" in df.columns:
        df = df.rename(columns={"date": TIME})
    if ID in df.columns:
        return _long_columns(df, targets, covariates)
    kept = list(covariates or ())
    if TIME not in df.columns and isinstance(df.index, pd.DatetimeIndex):
        raise FrameError(
            f"the times stand in the index; make a column of them: df = df.rename_axis({TIME!r}).reset_index()"
        )
    require_columns(df, [TIME, *kept, *(targets or ())], "a wide frame", _advise(given, kept, targets))
    if targets is None:
        df = drop_saved_index(df, kept)
        targets = [c for c in df.columns if c != TIME and c not in kept]
        require_columns(df, targets, "a wide frame")
        _refuse_long(df, targets, given.drop(columns=[c for c in given if c not in df and c != "date"]), kept)
    both = [c for c in targets if c in kept or c == TIME]
    if both:
        raise FrameError(f"column {both[0]!r} is named as target and as time or covariate; name it once")
    if not targets:
        raise FrameError(f"a wide frame needs at least one series besides {TIME!r}; found columns {list(df.columns)}")
    if len({str(name) for name in targets}) < len(targets):
        raise FrameError(f"columns {[str(c) for c in targets]} do not tell the series apart as text; rename one")
    parts = [
        pd.DataFrame({ID: str(name), TIME: df[TIME], TARGET: df[name], **{c: df[c] for c in kept}}) for name in targets
    ]
    return pd.concat(parts, ignore_index=True)


def _long_columns(df: pd.DataFrame, targets: Sequence[str] | None, covariates: Sequence[str] | None) -> pd.DataFrame:
    if targets is not None:
        raise FrameError(f"targets {list(targets)} name the series of a wide frame, but this one has {ID!r}")
    if covariates is None:
        df = drop_saved_index(df, ())
        covariates = [c for c in df.columns if c not in (ID, TIME, TARGET)]
    columns = [ID, TIME, TARGET, *covariates]
    require_columns(df, columns, "a long frame", _advise(df, covariates, None))
    return df[columns].copy()


def _advise(df: pd.DataFrame, covariates: Sequence[str], targets: Sequence[str] | None) -> str:
    """Returns the end of an error about a table that lacks a column of frames: what to name, if that can be told."""
    if targets is not None or {TIME, TARGET} <= set(df.columns):
        return ""
    from tsllm.data.guess import advise_names

    advice = advise_names(df, [c for c in covariates if c in df.columns] if ID not in df.columns else ())
    return f"; {advice}" if advice else ""


def _refuse_long(df: pd.DataFrame, targets: Sequence[str], given: pd.DataFrame, covariates: Sequence[str]) -> None:
    """Refuses a table without names of series that is not wide but long, and says what to name.

    Args:
        df: The table, its time under the name of frames.
        targets: The columns that would be series.
        given: The table as its owner knows it.
        covariates: Columns that go along.

    Raises:
        FrameError: With the options that read it.
    """
    odd = [c for c in targets if not is_real(df[c]) and not df[c].isna().all()]
    repeated = df[TIME].duplicated()
    if not odd and not repeated.any():
        return
    from tsllm.data.guess import advise_names, looks_numeric

    texts = [c for c in odd if not looks_numeric(df[c])]
    if not texts and not repeated.any():
        return
    advice = advise_names(given, covariates)
    if advice:
        what = f"column {str(texts[0])!r} holds text" if texts else f"time {df[TIME][repeated].iloc[0]} appears twice"
        raise FrameError(f"the table has no {ID!r}, and is not wide (one column a series) either: {what}; {advice}")


def _check_names(columns: Sequence[str] | None, what: str) -> None:
    """Raises a FrameError unless `columns` is a list of names, each once and none of a key."""
    if columns is None:
        return
    if isinstance(columns, str) or not isinstance(columns, Sequence):
        raise FrameError(f"{what}s must be a list of columns, got {columns!r}")
    reserved = [c for c in columns if c in (ID, TIME, TARGET)]
    if what == "covariate" and reserved:
        raise FrameError(f"column {reserved[0]!r} cannot be a covariate: it is a key or the target; rename the column")
    doubled = [c for c in columns if list(columns).count(c) > 1]
    if doubled:
        raise FrameError(f"{what} {doubled[0]!r} is named twice; name it once")


def list_covariates(columns: Iterable[str]) -> list[str]:
    """Returns the names of covariates as a list.

    Raises:
        FrameError: If one is named twice, or is a key or the target.
    """
    named = columns if isinstance(columns, str) else list(columns)
    _check_names(named, "covariate")  # type: ignore[arg-type]
    return named  # type: ignore[return-value]


def find_covariates(df: Any) -> tuple[list[str], dict[str, str]]:
    """Returns the further columns of a long table that can be covariates, and why each of the others cannot.

    Args:
        df: A long or a wide table; a wide one has no further columns.
    """
    df = as_pandas(df)
    if ID not in df.columns:
        return [], {}
    df = drop_saved_index(df, ())
    usable, others = [], {}
    for column in dict.fromkeys(df.columns):
        values = df[column]
        if column in (ID, TARGET, *WIDE_TIME_NAMES):
            continue
        if isinstance(values, pd.DataFrame):
            others[column] = "there are several of this name"
        elif not is_real(values):
            others[column] = f"not numeric ({values.dtype})"
        elif not np.isfinite(values.astype("float64").to_numpy()).all():
            others[column] = "missing or infinite in some rows"
        else:
            usable.append(column)
    return usable, others


def usable_covariates(df: Any, name: str = "the frame") -> list[str]:
    """Returns the columns of `find_covariates`; the log says which others of `name` are left out, and why."""
    usable, others = find_covariates(df)
    for column, why in others.items():
        logger.warning("column %r of %s is left out: %s", column, name, why)
    return usable


def validate_frame(
    df: Any,
    *,
    freq: Freq | None = None,
    covariates: Sequence[str] | None = None,
    targets: Sequence[str] | None = None,
    min_length: int | None = None,
    day_first: bool | None = None,
    keep_others: bool = False,
) -> pd.DataFrame:
    """Checks a long or wide table and returns the one long frame that everything else reads.

    Columns that are neither keys nor asked for are not looked at.

    Args:
        df: Long (`unique_id, ds, y, ...`) or wide (`ds` or `date`, one column a series) table: pandas, polars or
            Arrow. The keys may stand in the index of a pandas frame.
        freq: pandas alias or integer step; None infers it.
        covariates: Covariate columns; None takes every further column of a long table and none of a wide one.
        targets: For a wide table: which columns are series; None takes all.
        min_length: Fewest steps that every series must have, usually context_length + prediction_length.
        day_first: Whether a date written as 03/04/2024 is the third of April; None refuses a column of such dates
            unless some row settles it.
        keep_others: Whether the further columns of a long table go along as they are, for those who read them.

    Returns:
        A new frame with columns `unique_id, ds, y, covariates...`, sorted by `unique_id, ds`, with a fresh index;
        numbers are float64; missing targets stay NaN.

    Raises:
        FrameError: Naming series and row (position in `df`, from 0), for missing or non-numeric columns, an empty
            frame, unreadable, ambiguous or missing times, duplicates, unsorted time, mixed frequency, gaps,
            infinities, missing covariates, and series shorter than `min_length`.
    """
    df = as_pandas(df)
    if len(df) == 0:
        raise FrameError("the frame is empty; it needs at least one row per series")
    whole = keep_others and ID in df.columns
    asked = [c for c in covariates or () if c in df.columns] if whole else None
    long = to_long(df, targets=targets, covariates=None if whole else covariates)
    rows = np.tile(np.arange(len(df)), len(long) // len(df))
    origin = Origin(rows, TIME if TIME in df.columns else "date", ID not in df.columns)
    long = long.reset_index(drop=True)
    long[ID] = read_ids(long[ID], origin)
    long[TIME] = parse_time(long[TIME], long[ID], origin, day_first=day_first, counted=_is_count(freq))
    for column in long.columns.drop([ID, TIME]) if asked is None else [TARGET, *asked]:
        long[column] = read_numbers(long[column], long[ID], origin)
    order = long[ID].argsort(kind="stable").to_numpy()
    long, origin = long.iloc[order].reset_index(drop=True), origin.take(order)
    check_order(long, origin)
    used = normalize_freq(freq) if freq is not None else infer_freq(long)
    check_grid(long, origin, used, inferred=freq is None, day_first=day_first)
    if min_length is not None:
        check_length(long, min_length)
    return long


def _is_count(freq: Freq | None) -> bool:
    return isinstance(freq, (int, np.integer)) and not isinstance(freq, bool)


def infer_freq(df: pd.DataFrame) -> Freq:
    """Infers the frequency of a long frame whose times ascend within each series.

    Gaps are allowed here; a series that does not fit the frequency of the first is told by `validate_frame`.

    Returns:
        A pandas alias such as "h", "15min", "W-SUN", "MS", or an integer step for integer time.

    Raises:
        FrameError: If no series shows a regular step.
    """
    integer = is_integer_time(df)
    starts = series_starts(df)
    times = df[TIME].to_numpy()
    for first, last in zip(starts, [*starts[1:], len(df)], strict=True):
        if last - first < 2:
            continue
        if integer:
            return int(np.diff(times[first:last]).min())
        found = infer_alias(pd.DatetimeIndex(times[first:last]))
        if found is None:
            name = df[ID].iloc[first]
            raise FrameError(
                f"series {name!r}: its time steps fit no frequency (first times: "
                f"{', '.join(str(t) for t in df[TIME].iloc[first : first + 4])}); mixed frequency? give freq=..."
                " (--freq) or resample the series"
            )
        return found
    if integer:
        return 1
    raise FrameError("the frequency cannot be inferred: no series has two rows; give freq=... (--freq)")


def fill_gaps(
    df: Any,
    freq: Freq | None = None,
    *,
    day_first: bool | None = None,
    id_col: str | None = None,
    time_col: str | None = None,
    target_col: str | None = None,
) -> pd.DataFrame:
    """Inserts the missing rows of each series, from its own first to its own last time, with NaN.

    Args:
        df: Long or wide table as `validate_frame` takes it, times ascending within each series.
        freq: As in `validate_frame`; None infers it.
        day_first: As in `validate_frame`.
        id_col: Column that names the series, if not `unique_id`.
        time_col: Column of the times, if not `ds` or `date`.
        target_col: Column of the values, if not `y`.

    Returns:
        The table, long or wide as it was and under its own names, with all rows; whatever is not a key is missing in
        the new ones (targets may stay so, covariates may not). Where no column is named, `date` becomes `ds`.

    Raises:
        FrameError: If a named column is not there, the table looks long and its series are not named, or a time
            cannot be read or does not lie on the axis of `freq`.

    Example:
        >>> import pandas as pd, tsllm
        >>> df = pd.DataFrame({"shop": "a", "day": [1, 2, 5], "sold": [1.0, 2.0, 5.0]})
        >>> tsllm.fill_gaps(df, freq=1, id_col="shop", time_col="day", target_col="sold")["day"].tolist()
        [1, 2, 3, 4, 5]
    """
    names = ColumnNames.of(id_col, time_col, target_col).resolve(df)
    read = names.read(df, strict=True)
    unnamed = ID in read.columns and not names.names_series(df)
    with names.speaking():
        filled = _insert_rows(read.reset_index(drop=True), freq, day_first)
    return names.write(filled.drop(columns=ID) if unnamed else filled)


def _insert_rows(df: pd.DataFrame, freq: Freq | None, day_first: bool | None) -> pd.DataFrame:
    """Does what `fill_gaps` does, for a table under the names of frames."""
    from utilsforecast.preprocessing import fill_gaps as insert_rows

    if len(df) == 0:
        raise FrameError("the frame is empty; it needs at least one row per series")
    wide, given = ID not in df.columns, df
    time = TIME if TIME in df.columns else "date"
    df = df.rename(columns={time: TIME})
    require_columns(df, [TIME], "a frame", _advise(given, (), None))
    if wide and df[TIME].duplicated().any():
        _refuse_long(df, [], given, ())
    origin = Origin(np.arange(len(df)), time, wide)
    ids = pd.Series("all", index=df.index) if wide else read_ids(df[ID], origin)
    times = parse_time(df[TIME], ids, origin, day_first=day_first, counted=_is_count(freq))
    df = df.assign(**{ID: ids, TIME: times})
    order = df[ID].argsort(kind="stable").to_numpy()
    df, origin = df.iloc[order].reset_index(drop=True), origin.take(order)
    check_order(df, origin)
    used = normalize_freq(freq) if freq is not None else infer_freq(df)
    off = ~steps_from_start(df, used)[1] if _is_count(used) == is_integer_time(df) else np.ones(len(df), bool)
    if off.any():
        at = int(off.argmax())
        raise FrameError(
            f"series {df[ID].iloc[at]!r}: {time} {df[TIME].iloc[at]} is off the axis of freq {used!r}; resample the "
            "series or give the right freq"
        )
    filled = insert_rows(df, freq=used, start="per_serie", end="per_serie")
    filled = filled.sort_values([ID, TIME], kind="stable", ignore_index=True)
    return filled.drop(columns=ID) if wide else filled


def check_contexts(df: pd.DataFrame, context_length: int, ahead: Sequence[int] = (0,)) -> None:
    """Refuses contexts without a single observed value: nothing could be said of what follows them.

    Args:
        df: Validated long frame.
        context_length: Steps read before a cutoff.
        ahead: How many steps before the end of each series its cutoffs lie; 0 = the end.

    Raises:
        FrameError: Naming series and cutoff.
    """
    observed = df[TARGET].notna().to_numpy()
    total = np.concatenate([[0], np.cumsum(observed)])  # observed values before each row
    for name, first, last in series_bounds(df):
        for steps in ahead:
            cutoff = last - steps
            start = max(first, cutoff - context_length)
            if cutoff > first and total[cutoff] == total[start]:
                raise FrameError(
                    f"series {name!r}: none of the {cutoff - start} values up to {df[TIME].iloc[cutoff - 1]} is "
                    "observed, so there is nothing to forecast from; leave the series out, end it where its values "
                    "end, or read a longer context"
                )


def series_bounds(df: pd.DataFrame) -> list[tuple[Any, int, int]]:
    """Returns (series, first row, row after the last) of each series of a validated frame, in its order.

    Cheaper than `groupby` by orders of magnitude on panels of thousands of series.

    Raises:
        FrameError: If the rows of a series do not lie together.
    """
    starts = series_starts(df)
    names = df[ID].iloc[starts].tolist()
    if len(set(names)) < len(names):
        raise FrameError(f"the rows of a series do not lie together; sort with df.sort_values(['{ID}', '{TIME}'])")
    return list(zip(names, starts.tolist(), [*starts[1:].tolist(), len(df)], strict=True))


def future_frame(df: pd.DataFrame, h: int, freq: Freq | None = None) -> pd.DataFrame:
    """Returns `unique_id, ds` of the `h` steps after the last row of each series, in the order of `df`.

    Args:
        df: Validated long frame.
        h: Steps ahead.
        freq: As in `validate_frame`; None infers it.

    Example:
        >>> import pandas as pd, tsllm
        >>> tsllm.future_frame(pd.DataFrame({"unique_id": "a", "ds": [1, 2], "y": [0.0, 1.0]}), 2)["ds"].tolist()
        [3, 4]
    """
    used = normalize_freq(freq) if freq is not None else infer_freq(df)
    lasts = df.groupby(ID, sort=False)[TIME].last()
    cache: dict[Any, np.ndarray] = {}
    for last in lasts.unique():
        cache[last] = future_times(last, h, used)
    times = np.concatenate([cache[last] for last in lasts])
    return pd.DataFrame({ID: lasts.index.repeat(h), TIME: times})


def find_last_times(df: pd.DataFrame, h: int, freq: Freq | None = None) -> dict[Any, Any]:
    """Returns for each series the last of the `h` steps after it; arguments as in `future_frame`."""
    ahead = future_frame(df, h, freq)
    return ahead.groupby(ID, sort=False)[TIME].last().to_dict()


def validate_future(
    X_df: Any, keys: pd.DataFrame, covariates: Sequence[str], *, day_first: bool | None = None
) -> pd.DataFrame:
    """Checks a later frame, such as the known covariates of the horizon, as strictly as the first one.

    The time column may be called `ds` or `date`. A table without `unique_id` holds for every series alike, as the
    covariates of a wide frame do. The order of rows does not matter, further columns are not read.

    Args:
        X_df: Table of the steps ahead: `unique_id, ds, covariates...`.
        keys: The wanted pairs `unique_id, ds`, each once, such as those of `future_frame`.
        covariates: The columns that are read.
        day_first: As in `validate_frame`.

    Returns:
        Frame `unique_id, ds, covariates...` with the rows of `keys` in their order, covariates float64.

    Raises:
        FrameError: Naming series and row (position in `X_df`, from 0), for missing columns, unreadable or zoned times,
            duplicates, pairs that are missing or not wanted, and values that are text, infinite or missing.
    """
    covariates = list(dict.fromkeys(covariates))
    df = as_pandas(X_df)
    time = TIME if TIME in df.columns else "date"
    if TIME not in df.columns and "date" in df.columns:
        df = df.rename(columns={"date": TIME})
    names = [ID] if ID in df.columns else []
    require_columns(df, [*names, TIME, *covariates], "the frame of the future")
    if len(df) == 0:
        raise FrameError(f"the frame of the future is empty; it needs the {len(keys)} rows of the steps ahead")
    df = df[[*names, TIME, *covariates]].reset_index(drop=True)
    origin = Origin(np.arange(len(df)), time, not names, "X_df")
    ids = read_ids(df[ID], origin) if names else pd.Series("(all)", index=df.index)
    times = parse_time(df[TIME], ids, origin, day_first=day_first, counted=is_integer_time(keys))
    values = {c: read_numbers(df[c], ids, origin) for c in covariates}
    if is_integer_time(keys) != ptypes.is_integer_dtype(times.dtype):
        kinds = ("integers", "dates") if is_integer_time(keys) else ("dates", "integers")
        raise FrameError(f"the frame of the future counts {TIME!r} in {kinds[1]}, the history in {kinds[0]}; use one")
    given = _key_index(ids if names else None, times)
    wanted = _key_index(keys[ID] if names else None, keys[TIME])
    repeated = given.duplicated()
    if repeated.any():
        at = int(repeated.argmax())
        raise FrameError(
            f"series {ids.iloc[at]!r}, row {at}: {time} {times.iloc[at]} appears twice in the frame of the future "
            f"({int(repeated.sum())} duplicate rows in all); keep one"
        )
    position = given.get_indexer(wanted)
    _check_future_keys(position, ids, times, keys)
    out = keys[[ID, TIME]].reset_index(drop=True)
    return out.assign(**{c: v.to_numpy()[position] for c, v in values.items()})


def _key_index(ids: pd.Series | None, times: pd.Series) -> pd.Index:
    """Returns (series, time) of each row, or the time alone, in a form that does not depend on storage types."""
    moments = pd.Index(times if ptypes.is_integer_dtype(times.dtype) else times.astype("datetime64[ns]"))
    return moments if ids is None else pd.MultiIndex.from_arrays([ids.astype(object), moments])


def _check_future_keys(position: np.ndarray, ids: pd.Series, times: pd.Series, keys: pd.DataFrame) -> None:
    """Raises for pairs of `keys` that were not found (position -1) and for rows that are no wanted pair."""
    extra = np.ones(len(ids), dtype=bool)
    extra[position[position >= 0]] = False
    told = []
    if (position < 0).any():
        row = keys.iloc[int((position < 0).argmax())]
        told.append(
            f"it lacks {int((position < 0).sum())} of {len(keys)} rows, first series {row[ID]!r} at {row[TIME]}"
        )
    if extra.any():
        at = int(extra.argmax())
        told.append(
            f"{int(extra.sum())} of its rows are no step to forecast, first row {at}: series {ids.iloc[at]!r} at "
            f"{times.iloc[at]}"
        )
    if not told:
        return
    hint = ""
    own, theirs = (type(column.astype(object).iloc[0]).__name__ for column in (ids, keys[ID]))
    if own != theirs and ids.iloc[0] != "(all)":
        hint = f"; its {ID!r} are {own}, those of the history {theirs}: convert them"
    first = keys[keys[ID] == keys[ID].iloc[0]][TIME]
    raise FrameError(
        f"the frame of the future does not fit the horizon: {'; '.join(told)}; it must hold exactly the steps ahead "
        f"of each series, for series {keys[ID].iloc[0]!r} the {len(first)} from {first.iloc[0]} to {first.iloc[-1]}"
        + hint
    )
