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

from tsllm.data.frequency import Freq, find_fixed_step, future_times, infer_alias, normalize_freq
from tsllm.types import ID, TARGET, TIME, FrameError

WIDE_TIME_NAMES = (TIME, "date")


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
    doubled = df.columns[df.columns.duplicated()].tolist()
    if doubled:
        raise FrameError(f"column {doubled[0]!r} appears twice; rename or drop one")
    if TIME not in df.columns and "date" in df.columns:
        df = df.rename(columns={"date": TIME})
    if ID in df.columns:
        if targets is not None:
            raise FrameError(f"targets {list(targets)} name the series of a wide frame, but this one has {ID!r}")
        _require(df, [TIME, TARGET, *(covariates or ())], "a long frame")
        kept = [c for c in df.columns if c not in (ID, TIME, TARGET)] if covariates is None else list(covariates)
        return df[[ID, TIME, TARGET, *kept]].copy()
    kept = list(covariates or ())
    _require(df, [TIME, *kept, *(targets or ())], "a wide frame")
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
    if len(df) == 0:
        raise FrameError("the frame is empty; it needs at least one row per series")
    rows = np.arange(len(df))
    is_wide = ID not in df.columns
    long = to_long(df, targets=targets, covariates=covariates)
    if is_wide:
        rows = np.tile(rows, len(long) // len(df))
    long = long.reset_index(drop=True)
    _check_ids(long, rows)
    long[TIME] = _parse_time(long, rows)
    for column in long.columns.drop([ID, TIME]):
        # In a wide table the series' own name is the column that the user knows.
        long[column] = _to_numbers(long, column, rows)
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


def _require(df: pd.DataFrame, columns: Sequence[str], what: str) -> None:
    missing = [c for c in dict.fromkeys(columns) if c not in df.columns]
    if missing:
        raise FrameError(f"{what} needs column {missing[0]!r}; found columns {[str(c) for c in df.columns]}")


def _check_ids(df: pd.DataFrame, rows: np.ndarray) -> None:
    missing = df[ID].isna().to_numpy()
    if missing.any():
        raise FrameError(f"row {rows[missing.argmax()]}: {ID!r} is missing; give every row the name of its series")
    if isinstance(df[ID].dtype, pd.CategoricalDtype):
        df[ID] = df[ID].astype(df[ID].cat.categories.dtype)
    if df[ID].dtype == object and len({type(i) for i in df[ID].unique()}) > 1:
        raise FrameError(f"{ID!r} mixes types; convert it with df[{ID!r}] = df[{ID!r}].astype(str)")


def _parse_time(df: pd.DataFrame, rows: np.ndarray) -> pd.Series:
    times = df[TIME]
    if isinstance(times.dtype, pd.PeriodDtype):
        times = times.dt.to_timestamp()
    if ptypes.is_float_dtype(times.dtype) and times.notna().all() and (times % 1 == 0).all():
        times = times.astype("int64")
    if ptypes.is_integer_dtype(times.dtype):
        return times.astype("int64") if not times.isna().any() else _raise_missing_time(df, times, rows)
    if ptypes.is_numeric_dtype(times.dtype):
        raise FrameError(f"{TIME!r} holds fractions ({times.iloc[0]}); give dates or integer steps")
    if not ptypes.is_datetime64_any_dtype(times.dtype):
        times = _read_dates(df, times, rows)
    if times.isna().any():
        _raise_missing_time(df, times, rows)
    if times.dt.tz is not None:
        raise FrameError(
            f"{TIME!r} carries the time zone {times.dt.tz}; drop it with "
            f"df[{TIME!r}] = pd.to_datetime(df[{TIME!r}], utc=True).dt.tz_localize(None): in UTC, clock changes leave"
            " neither gap nor duplicate"
        )
    return times


def _read_dates(df: pd.DataFrame, times: pd.Series, rows: np.ndarray) -> pd.Series:
    # ISO first: files write midnight without its hour, which breaks a format guessed from the first row.
    parsed = pd.to_datetime(times, format="ISO8601", errors="coerce", utc=True)
    if (parsed.isna() & times.notna()).any():
        parsed = pd.to_datetime(times, errors="coerce", utc=True)
    bad = (parsed.isna() & times.notna()).to_numpy()
    if bad.any():
        at = int(bad.argmax())
        raise FrameError(
            f"series {df[ID].iloc[at]!r}, row {rows[at]}: {TIME} {times.iloc[at]!r} is neither an integer nor a date"
            f" in the format of the first row ({times.iloc[0]!r})"
        )
    text = times.dropna().astype(str)
    if text.str.contains(r":.*(?:Z|[+-]\d\d:?\d\d)$").any():
        return parsed  # aware, refused below with the way out
    return parsed.dt.tz_localize(None)


def _raise_missing_time(df: pd.DataFrame, times: pd.Series, rows: np.ndarray) -> pd.Series:
    at = int(times.isna().to_numpy().argmax())
    raise FrameError(f"series {df[ID].iloc[at]!r}, row {rows[at]}: {TIME!r} is missing; every row needs its time")


def _to_numbers(df: pd.DataFrame, column: str, rows: np.ndarray) -> pd.Series:
    values = df[column]
    if not ptypes.is_numeric_dtype(values.dtype) and not values.isna().all():
        numbers = pd.to_numeric(values, errors="coerce")
        bad = (numbers.isna() & values.notna()).to_numpy()
        at = int(bad.argmax()) if bad.any() else 0
        raise FrameError(
            f"series {df[ID].iloc[at]!r}, row {rows[at]}: column {column!r} is not numeric (found "
            f"{values.iloc[at]!r}, dtype {values.dtype}); convert it with pd.to_numeric, or leave it out"
            " (covariates=[...] names the columns to keep)"
        )
    values = values.astype("float64")
    infinite = np.isinf(values.to_numpy())
    if infinite.any():
        at = int(infinite.argmax())
        raise FrameError(
            f"series {df[ID].iloc[at]!r}, row {rows[at]}: column {column!r} is infinite ({values.iloc[at]}); mend it,"
            " or mark a missing target with NaN"
        )
    if column != TARGET and values.isna().any():
        at = int(values.isna().to_numpy().argmax())
        raise FrameError(
            f"series {df[ID].iloc[at]!r}, row {rows[at]}: covariate {column!r} is missing; only {TARGET!r} may be NaN:"
            " fill the covariate (for example df.groupby('unique_id')[...].ffill()) or leave it out"
        )
    return values


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
