"""The regular time axis of long frames: order, gaps, mixed frequencies, lengths."""

import numpy as np
import pandas as pd
from pandas.api import types as ptypes

from tsllm.data.frequency import Freq, find_fixed_step
from tsllm.data.origin import Origin
from tsllm.types import ID, TIME, FrameError


def is_integer_time(df: pd.DataFrame) -> bool:
    """Tells whether the time column counts steps instead of naming dates."""
    return bool(ptypes.is_integer_dtype(df[TIME].dtype))


def series_starts(df: pd.DataFrame) -> np.ndarray:
    """Returns the first row of each series of a frame whose series lie together."""
    ids = df[ID].to_numpy()
    return np.flatnonzero(np.r_[len(ids) > 0, ids[1:] != ids[:-1]])


def check_order(df: pd.DataFrame, origin: Origin) -> None:
    """Raises a FrameError for a repeated (series, time) and for times that do not ascend."""
    times = df[TIME].to_numpy()
    ids = df[ID].to_numpy()
    same = ids[1:] == ids[:-1]
    repeated = df.duplicated([ID, TIME]).to_numpy()
    if repeated.any():
        at = int(repeated.argmax())
        raise FrameError(
            f"{origin.place(df[ID], at)}: {origin.time} {df[TIME].iloc[at]} appears twice ({int(repeated.sum())} "
            f"duplicate rows in all); keep one, for example df = df.drop_duplicates({origin.keys})"
        )
    back = same & (times[1:] < times[:-1])
    if back.any():
        at = int(back.argmax()) + 1
        raise FrameError(
            f"{origin.place(df[ID], at)}: time is not sorted, {df[TIME].iloc[at]} follows "
            f"{df[TIME].iloc[at - 1]}; sort with df = df.sort_values({origin.keys})"
        )


def check_grid(df: pd.DataFrame, origin: Origin, freq: Freq, *, inferred: bool, day_first: bool | None = None) -> None:
    """Raises for a time that is off the axis (mixed frequency) or that leaves rows out (gap)."""
    if isinstance(freq, int) != is_integer_time(df):
        kind = "integer" if is_integer_time(df) else "dated"
        raise FrameError(
            f"freq {freq!r} does not fit the {kind} time in {origin.time!r}; give a pandas alias for dates, an"
            " integer step for integer time"
        )
    steps, on_axis = steps_from_start(df, freq)
    how = f"freq {freq!r}" + (" (inferred)" if inferred else "")
    if not on_axis.all():
        at = int((~on_axis).argmax())
        raise FrameError(
            f"{origin.place(df[ID], at)}: mixed frequency, {origin.time} {df[TIME].iloc[at]} is off the axis"
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
            f"{origin.place(df[ID], at)}: mixed frequency, it steps by {run[0]} times {how}; bring all series"
            " to one frequency first"
        )
    order = "" if day_first is None else f", day_first={day_first}"
    raise FrameError(
        f"{origin.place(df[ID], at)}: gap, {ahead[at - 1] - 1} step(s) of {how} are missing between "
        f"{df[TIME].iloc[at - 1]} and {df[TIME].iloc[at]} ({int((ahead - 1).sum())} in the whole frame); insert them"
        f" as NaN with df = tsllm.data.frame.fill_gaps(df, freq={freq!r}{order})"
    )


def check_length(df: pd.DataFrame, min_length: int) -> None:
    """Raises a FrameError if a series has fewer steps."""
    lengths = df.groupby(ID, sort=False).size()
    short = lengths[lengths < min_length]
    if len(short):
        raise FrameError(
            f"series {short.index[0]!r} has {short.iloc[0]} steps, context_length + prediction_length is {min_length} "
            f"({len(short)} of {len(lengths)} series are too short); lower one of the two or leave the series out"
        )


def steps_from_start(df: pd.DataFrame, freq: Freq) -> tuple[np.ndarray, np.ndarray]:
    """Returns each row's position [rows] on its series' time axis, and whether it lies on that axis [rows]."""
    starts = series_starts(df)
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
