"""Calendar features of dated time; integer time has none.

The definitions are those that the field shares (GluonTS, Informer, Time-Series-Library): each calendar part is mapped
linearly onto [-0.5, 0.5], and the frequency decides which parts a series gets.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from tsllm.data.frequency import Freq, normalize_freq

MARK_NAMES = ("month", "day", "weekday", "hour", "minute")

# name -> (part of the calendar counted from 0, its largest value)
_PARTS: dict[str, tuple[Callable[[pd.DatetimeIndex], Any], int]] = {
    "second_of_minute": (lambda t: t.second, 59),
    "minute_of_hour": (lambda t: t.minute, 59),
    "hour_of_day": (lambda t: t.hour, 23),
    "day_of_week": (lambda t: t.weekday, 6),
    "day_of_month": (lambda t: t.day - 1, 30),
    "day_of_year": (lambda t: t.dayofyear - 1, 365),
    "week_of_year": (lambda t: t.isocalendar().week.to_numpy().astype("int64") - 1, 52),
    "month_of_year": (lambda t: t.month - 1, 11),
}
_DAILY = ("day_of_week", "day_of_month", "day_of_year")


def feature_names(freq: Freq) -> tuple[str, ...]:
    """Returns which calendar features a frequency has, finest first; none for integer time and for years.

    Raises:
        ValueError: If the frequency is of a kind that has no definition here.
    """
    freq = normalize_freq(freq)
    if isinstance(freq, int):
        return ()
    offset = pd.tseries.frequencies.to_offset(freq)
    kinds: list[tuple[tuple[str, ...], tuple[str, ...]]] = [
        (("YearEnd", "YearBegin", "BYearEnd", "BYearBegin"), ()),
        (("QuarterEnd", "QuarterBegin", "BQuarterEnd", "BQuarterBegin"), ("month_of_year",)),
        (("MonthEnd", "MonthBegin", "BusinessMonthEnd", "BusinessMonthBegin"), ("month_of_year",)),
        (("Week",), ("day_of_month", "week_of_year")),
        (("Day", "BusinessDay"), _DAILY),
        (("Hour", "BusinessHour"), ("hour_of_day", *_DAILY)),
        (("Minute",), ("minute_of_hour", "hour_of_day", *_DAILY)),
        (("Second", "Milli", "Micro", "Nano"), ("second_of_minute", "minute_of_hour", "hour_of_day", *_DAILY)),
    ]
    for names, features in kinds:
        if isinstance(offset, tuple(getattr(pd.offsets, name) for name in names)):
            return features
    raise ValueError(f"freq {freq!r} has no calendar features; use seconds to years, or integer time")


def time_features(times: pd.Series | pd.DatetimeIndex | np.ndarray, freq: Freq) -> np.ndarray:
    """Computes the calendar features of `times` [time].

    Returns:
        float32 [time, features] in [-0.5, 0.5]; the columns are `feature_names(freq)`, zero-width for integer time.
    """
    names = feature_names(freq)
    if not names:
        return np.zeros((len(times), 0), dtype=np.float32)
    index = pd.DatetimeIndex(times)
    columns = []
    for name in names:
        part, largest = _PARTS[name]
        columns.append(np.asarray(part(index), dtype=np.float64) / largest - 0.5)
    return np.stack(columns, axis=-1).astype(np.float32)  # [time, F]


def calendar_marks(times: pd.Series | pd.DatetimeIndex | np.ndarray, freq: Freq) -> np.ndarray:
    """Returns the integer marks month (1-12), day (1-31), weekday (0 = Monday), hour, minute of `times` [time].

    Returns:
        int64 [time, 5] in the order of `MARK_NAMES`, zero-width for integer time.
    """
    if isinstance(normalize_freq(freq), int):
        return np.zeros((len(times), 0), dtype=np.int64)
    index = pd.DatetimeIndex(times)
    parts = (index.month, index.day, index.weekday, index.hour, index.minute)
    return np.stack([np.asarray(part, dtype=np.int64) for part in parts], axis=-1)  # [time, 5]
