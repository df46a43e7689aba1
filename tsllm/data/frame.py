"""Frames: what a table of series must look like, and how a table that does not is told.

One shape leaves this module: a long frame with the columns `unique_id`, `ds`, `y` and the covariates, sorted by
`unique_id` and `ds`, on a regular time axis. Time is dated (`freq` a pandas alias such as "h") or a plain integer
(`freq` an integer step). Missing targets are NaN in `y`; missing rows are an error, because a gap shifts every later
step of a window in silence.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from pandas.api import types as ptypes

from tsllm.data.columns import as_pandas, parse_time, read_ids, read_numbers, require_columns
from tsllm.data.frequency import Freq, find_fixed_step, future_times, infer_alias, normalize_freq
from tsllm.types import ID, TARGET, TIME, FrameError


def is_integer_time(df: pd.DataFrame) -> bool:
    """Tells whether the time column counts steps instead of naming dates."""
    return bool(ptypes.is_integer_dtype(df[TIME].dtype))


def to_long(
    df: pd.DataFrame, *, targets: Sequence[str] | None = None, covariates: Sequence[str] | None = None
) -> pd.DataFrame:
    """Brings a long or a wide table into long columns; nothing is checked yet beyond the columns.

    A table with `unique_id` is long. Any other is wide: a time column (`ds` or `date`) and one column a series, whose
    name becomes the `unique_id`; the columns named as covariates are repeated for every series.

    Args:
        df: The table.
        targets: Columns of a wide table that are series; None takes all that are not covariates.
        covariates: Columns that go along with every series; in a long table None keeps all further columns.

    Returns:
        A new frame `unique_id, ds, y, covariates...` in the given order of rows (series after series if wide).

    Raises:
        FrameError: If a column is missing, doubled or named twice.
    """
    df = as_pandas(df)
    doubled = df.columns[df.columns.duplicated()].tolist()
    if doubled:
        raise FrameError(f"column {doubled[0]!r} appears twice; rename or drop one")
    if TIME not in df.columns and "date" in df.columns:
        df = df.rename(columns={"date": TIME})
    if ID in df.columns:
        if targets is not None:
            raise FrameError(f"targets {list(targets)} name the series of a wide frame, but this one has {ID!r}")
        require_columns(df, [TIME, TARGET, *(covariates or ())], "a long frame")
        kept = [c for c in df.columns if c not in (ID, TIME, TARGET)] if covariates is None else list(covariates)
        return df[[ID, TIME, TARGET, *kept]].copy()
    kept = list(covariates or ())
    require_columns(df, [TIME, *kept, *(targets or ())], "a wide frame")
    if targets is None:
        targets = [c for c in df.columns if c != TIME and c not in kept]
    both = [c for c in targets if c in kept or c == TIME]
    if both:
        raise FrameError(f"column {both[0]!r} is named as target and as time or covariate; name it once")
    if not targets:
        raise FrameError(f"a wide frame needs at least one series besides {TIME!r}; found columns {list(df.columns)}")
    parts = [
        pd.DataFrame({ID: str(name), TIME: df[TIME], TARGET: df[name], **{c: df[c] for c in kept}}) for name in targets
    ]
    return pd.concat(parts, ignore_index=True)


def validate_frame(
    df: pd.DataFrame,
    *,
    freq: Freq | None = None,
    covariates: Sequence[str] | None = None,
    targets: Sequence[str] | None = None,
    min_length: int | None = None,
) -> pd.DataFrame:
    """Checks a long or wide table and returns the one long frame that everything else reads.

    Args:
        df: Long (`unique_id, ds, y, ...`) or wide (`ds` or `date`, one column a series) table.
        freq: pandas alias or integer step; None infers it.
        covariates: Covariate columns; None takes every further column of a long table and none of a wide one.
        targets: For a wide table: which columns are series; None takes all.
        min_length: Fewest steps that every series must have, usually context_length + prediction_length.

    Returns:
        A new frame with columns `unique_id, ds, y, covariates...`, sorted by `unique_id, ds`, with a fresh index;
        numbers are float64; missing targets stay NaN.

    Raises:
        FrameError: Naming series and row (position in `df`, from 0), for missing or non-numeric columns, an empty
            frame, unreadable or missing times, duplicates, unsorted time, mixed frequency, gaps, infinities, missing
            covariates, and series shorter than `min_length`.
    """
    df = as_pandas(df)
    if len(df) == 0:
        raise FrameError("the frame is empty; it needs at least one row per series")
    rows = np.arange(len(df))
    is_wide = ID not in df.columns
    long = to_long(df, targets=targets, covariates=covariates)
    if is_wide:
        rows = np.tile(rows, len(long) // len(df))
    long = long.reset_index(drop=True)
    long[ID] = read_ids(long[ID], rows)
    long[TIME] = parse_time(long[TIME], long[ID], rows)
    for column in long.columns.drop([ID, TIME]):
        # In a wide table the series' own name is the column that the user knows.
        long[column] = read_numbers(long[column], long[ID], rows)
    order = long[ID].argsort(kind="stable").to_numpy()
    long, rows = long.iloc[order].reset_index(drop=True), rows[order]
    _check_order(long, rows)
    used = normalize_freq(freq) if freq is not None else infer_freq(long)
    _check_grid(long, rows, used, inferred=freq is None)
    if min_length is not None:
        _check_length(long, min_length)
    return long


def infer_freq(df: pd.DataFrame) -> Freq:
    """Infers the frequency of a long frame whose times ascend within each series.

    Gaps are allowed here; a series that does not fit the frequency of the first is told by `validate_frame`.

    Returns:
        A pandas alias such as "h", "15min", "W-SUN", "MS", or an integer step for integer time.

    Raises:
        FrameError: If no series shows a regular step.
    """
    integer = is_integer_time(df)
    starts = _series_starts(df)
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
                f"{', '.join(str(t) for t in df[TIME].iloc[first : first + 4])}); mixed frequency? give freq=... or"
                " resample the series"
            )
        return found
    if integer:
        return 1
    raise FrameError("the frequency cannot be inferred: no series has two rows; give freq=...")


def fill_gaps(df: pd.DataFrame, freq: Freq | None = None) -> pd.DataFrame:
    """Inserts the missing rows of each series, from its own first to its own last time, with NaN.

    Args:
        df: Long frame, times ascending within each series.
        freq: As in `validate_frame`; None infers it.

    Returns:
        The frame with all rows; `y` and covariates of the new ones are NaN (`y` may stay so, covariates may not).
    """
    from utilsforecast.preprocessing import fill_gaps as insert_rows

    used = normalize_freq(freq) if freq is not None else infer_freq(df)
    filled = insert_rows(df, freq=used, start="per_serie", end="per_serie")
    return filled.sort_values([ID, TIME], kind="stable", ignore_index=True)


def series_bounds(df: pd.DataFrame) -> list[tuple[Any, int, int]]:
    """Returns (series, first row, row after the last) of each series of a validated frame, in its order.

    Cheaper than `groupby` by orders of magnitude on panels of thousands of series.

    Raises:
        FrameError: If the rows of a series do not lie together.
    """
    starts = _series_starts(df)
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
    """
    used = normalize_freq(freq) if freq is not None else infer_freq(df)
    lasts = df.groupby(ID, sort=False)[TIME].last()
    cache: dict[Any, np.ndarray] = {}
    for last in lasts.unique():
        cache[last] = future_times(last, h, used)
    times = np.concatenate([cache[last] for last in lasts])
    return pd.DataFrame({ID: lasts.index.repeat(h), TIME: times})


def validate_future(X_df: Any, keys: pd.DataFrame, covariates: Sequence[str]) -> pd.DataFrame:
    """Checks a later frame, such as the known covariates of the horizon, as strictly as the first one.

    The time column may be called `ds` or `date`. A table without `unique_id` holds for every series alike, as the
    covariates of a wide frame do. The order of rows does not matter, further columns are not read.

    Args:
        X_df: Table of the steps ahead: `unique_id, ds, covariates...`.
        keys: The wanted pairs `unique_id, ds`, each once, such as those of `future_frame`.
        covariates: The columns that are read.

    Returns:
        Frame `unique_id, ds, covariates...` with the rows of `keys` in their order, covariates float64.

    Raises:
        FrameError: Naming series and row (position in `X_df`, from 0), for missing columns, unreadable or zoned times,
            duplicates, pairs that are missing or not wanted, and values that are text, infinite or missing.
    """
    covariates = list(dict.fromkeys(covariates))
    df = as_pandas(X_df)
    if TIME not in df.columns and "date" in df.columns:
        df = df.rename(columns={"date": TIME})
    names = [ID] if ID in df.columns else []
    require_columns(df, [*names, TIME, *covariates], "the frame of the future")
    if len(df) == 0:
        raise FrameError(f"the frame of the future is empty; it needs the {len(keys)} rows of the steps ahead")
    df = df[[*names, TIME, *covariates]].reset_index(drop=True)
    rows = np.arange(len(df))
    ids = read_ids(df[ID], rows) if names else pd.Series("(all)", index=df.index)
    times = parse_time(df[TIME], ids, rows)
    values = {c: read_numbers(df[c], ids, rows) for c in covariates}
    if is_integer_time(keys) != ptypes.is_integer_dtype(times.dtype):
        kinds = ("integers", "dates") if is_integer_time(keys) else ("dates", "integers")
        raise FrameError(f"the frame of the future counts {TIME!r} in {kinds[1]}, the history in {kinds[0]}; use one")
    given = _key_index(ids if names else None, times)
    wanted = _key_index(keys[ID] if names else None, keys[TIME])
    repeated = given.duplicated()
    if repeated.any():
        at = int(repeated.argmax())
        raise FrameError(
            f"series {ids.iloc[at]!r}, row {at}: {TIME} {times.iloc[at]} appears twice in the frame of the future "
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


def _series_starts(df: pd.DataFrame) -> np.ndarray:
    ids = df[ID].to_numpy()
    return np.flatnonzero(np.r_[len(ids) > 0, ids[1:] != ids[:-1]])


def _check_order(df: pd.DataFrame, rows: np.ndarray) -> None:
    times = df[TIME].to_numpy()
    ids = df[ID].to_numpy()
    same = ids[1:] == ids[:-1]
    repeated = df.duplicated([ID, TIME]).to_numpy()
    if repeated.any():
        at = int(repeated.argmax())
        raise FrameError(
            f"series {ids[at]!r}, row {rows[at]}: {TIME} {df[TIME].iloc[at]} appears twice ({int(repeated.sum())} "
            f"duplicate rows in all); keep one, for example df.drop_duplicates(['{ID}', '{TIME}'])"
        )
    back = same & (times[1:] < times[:-1])
    if back.any():
        at = int(back.argmax()) + 1
        raise FrameError(
            f"series {ids[at]!r}, row {rows[at]}: time is not sorted, {df[TIME].iloc[at]} follows "
            f"{df[TIME].iloc[at - 1]}; sort with df.sort_values(['{ID}', '{TIME}'])"
        )


def _check_grid(df: pd.DataFrame, rows: np.ndarray, freq: Freq, *, inferred: bool) -> None:
    """Raises for a time that is off the axis (mixed frequency) or that leaves rows out (gap)."""
    if isinstance(freq, int) != is_integer_time(df):
        kind = "integer" if is_integer_time(df) else "dated"
        raise FrameError(f"freq {freq!r} does not fit the {kind} time in {TIME!r}; give a pandas alias for dates, an "
                         "integer step for integer time")  # fmt: skip
    steps, on_axis = _steps_from_start(df, freq)
    how = f"freq {freq!r}" + (" (inferred)" if inferred else "")
    if not on_axis.all():
        at = int((~on_axis).argmax())
        raise FrameError(
            f"series {df[ID].iloc[at]!r}, row {rows[at]}: mixed frequency, {TIME} {df[TIME].iloc[at]} is off the axis"
            f" of {how}; resample the series or give the right freq"
        )
    ids = df[ID].to_numpy()
    ahead = np.where(ids[1:] == ids[:-1], np.diff(steps), 1)
    if (ahead == 1).all():
        return
    at = int((ahead != 1).argmax()) + 1
    # Several equal long steps in a row are another sampling rate, not missing rows.
    run = ahead[at - 1 : at + 2]
    whole = ahead[np.flatnonzero(ids == ids[at])[:-1]]
    if (len(run) == 3 and (ids[at - 1 : at + 3] == ids[at]).all() and (run == run[0]).all()) or (
        len(whole) > 1 and (whole == whole[0]).all()
    ):
        raise FrameError(
            f"series {ids[at]!r}, row {rows[at]}: mixed frequency, it steps by {run[0]} times {how}; bring all series"
            " to one frequency first"
        )
    raise FrameError(
        f"series {ids[at]!r}, row {rows[at]}: gap, {ahead[at - 1] - 1} step(s) of {how} are missing between "
        f"{df[TIME].iloc[at - 1]} and {df[TIME].iloc[at]} ({int((ahead - 1).sum())} in the whole frame); insert them"
        f" as NaN with tsllm.data.frame.fill_gaps(df, freq={freq!r}), which calls"
        " utilsforecast.preprocessing.fill_gaps"
    )


def _check_length(df: pd.DataFrame, min_length: int) -> None:
    lengths = df.groupby(ID, sort=False).size()
    short = lengths[lengths < min_length]
    if len(short):
        raise FrameError(
            f"series {short.index[0]!r} has {short.iloc[0]} steps, context_length + prediction_length is {min_length} "
            f"({len(short)} of {len(lengths)} series are too short); lower one of the two or leave the series out"
        )


def _steps_from_start(df: pd.DataFrame, freq: Freq) -> tuple[np.ndarray, np.ndarray]:
    """Returns each row's position [rows] on its series' time axis, and whether it lies on that axis [rows]."""
    starts = _series_starts(df)
    lengths = np.diff(np.r_[starts, len(df)])
    times = df[TIME].to_numpy()
    first = np.repeat(times[starts], lengths)
    if isinstance(freq, int):
        return (times - first) // freq, (times - first) % freq == 0
    offset = pd.tseries.frequencies.to_offset(freq)
    assert offset is not None
    step = find_fixed_step(offset)
    if step is not None:
        on_axis = (times - first) % step == np.timedelta64(0)
        weekday = getattr(offset, "weekday", None)
        if isinstance(weekday, int):  # an anchored week
            on_axis &= df[TIME].dt.weekday.to_numpy() == weekday
        return (times - first) // step, on_axis
    # Calendar steps (months, quarters, business days) differ in length: look the times up on the axis itself.
    axis = pd.date_range(times.min(), times.max(), freq=offset.base).to_numpy().astype(times.dtype)
    position = np.searchsorted(axis, times)
    found = axis[np.minimum(position, len(axis) - 1)] == times if len(axis) else np.zeros(len(times), bool)
    position = position - np.repeat(position[starts], lengths)
    return position // offset.n, found & (position % offset.n == 0)
