"""Frequencies: pandas aliases or integer steps, the times that follow a time, and what times ascend by."""

import logging
import re
from typing import Any

import numpy as np
import pandas as pd

from tsllm.types import FrameError

logger = logging.getLogger(__name__)

Freq = str | int

# Aliases that pandas 2.2 deprecated and pandas 3 refuses.
_ALIASES = {
    "H": "h",
    "BH": "bh",
    "T": "min",
    "S": "s",
    "L": "ms",
    "U": "us",
    "N": "ns",
    "M": "ME",
    "BM": "BME",
    "CBM": "CBME",
    "SM": "SME",
    "Q": "QE",
    "BQ": "BQE",
    "Y": "YE",
    "A": "YE",
    "BY": "BYE",
    "BA": "BYE",
    "AS": "YS",
    "BAS": "BYS",
    "d": "D",
}
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")


def normalize_freq(freq: Freq) -> Freq:
    """Returns `freq` in today's pandas aliases (`"15T"` -> `"15min"`, `"M"` -> `"ME"`); integers stay.

    Raises:
        ValueError: If it is no frequency.
    """
    if isinstance(freq, (int, np.integer)) and not isinstance(freq, bool):
        if freq < 1:
            raise ValueError(f"freq is {freq}; an integer frequency is a step of at least 1")
        return int(freq)
    alias = str(freq).strip()
    match = re.fullmatch(r"(\d*)([A-Za-z]+)(-[A-Za-z]+)?", alias)
    if match:
        count, unit, anchor = match.groups()
        alias = f"{count}{_ALIASES.get(unit, unit)}{(anchor or '').upper()}"
    try:
        offset = pd.tseries.frequencies.to_offset(alias)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"freq {freq!r} is no pandas frequency; give one such as 'h', '15min', 'D', 'W-SUN', 'MS', or an integer"
            " step for integer time"
        ) from error
    if offset is None or offset.n < 1:
        raise ValueError(f"freq {freq!r} does not step forward in time")
    return str(offset.freqstr)


def check_horizon(h: Any) -> int:
    """Returns a horizon as an integer.

    Raises:
        ValueError: If it is no whole number of at least 1 step.
    """
    if isinstance(h, bool) or not isinstance(h, (int, np.integer)):
        raise ValueError(f"h is {h!r}; a horizon is a whole number of steps, such as 24")
    if h < 1:
        raise ValueError(f"h is {h}; a horizon has at least 1 step")
    return int(h)


def future_times(last: Any, h: int, freq: Freq) -> np.ndarray:
    """Returns the `h` times that follow `last` [h]; `last` itself must lie on the axis of `freq`.

    Raises:
        ValueError: If `h` is no whole number of at least 1.
        FrameError: If `last` is off the axis, or the times leave the range of dates.
    """
    h = check_horizon(h)
    if isinstance(freq, int):
        return last + freq * np.arange(1, h + 1)
    offset = pd.tseries.frequencies.to_offset(freq)
    assert offset is not None
    last = pd.Timestamp(last)
    try:
        end = last + h * offset
        end.as_unit("ns")
    except (OverflowError, ValueError) as error:
        raise FrameError(
            f"{h} steps of freq {freq!r} after {last} leave the dates that can be computed with (up to "
            f"{pd.Timestamp.max:%Y-%m-%d}); ask for fewer"
        ) from error
    step = find_fixed_step(offset)
    if step is not None:
        return (np.datetime64(last.to_datetime64()) + step * np.arange(1, h + 1)).astype(last.to_datetime64().dtype)
    times = pd.date_range(last, periods=h + 1, freq=offset)
    if times[0] != last:
        raise FrameError(f"time {last} does not lie on frequency {freq!r} (next: {times[0]}); give the right freq")
    return times[1:].to_numpy().astype(last.to_datetime64().dtype)


def find_fixed_step(offset: Any) -> np.timedelta64 | None:
    """Returns the length of an offset that is the same everywhere, else None."""
    if isinstance(offset, pd.offsets.Week):
        return np.timedelta64(7 * offset.n, "D")
    if isinstance(offset, pd.offsets.Day):
        return np.timedelta64(offset.n, "D")
    if isinstance(offset, pd.offsets.Tick):
        return np.timedelta64(offset.nanos, "ns")
    return None


def infer_alias(times: pd.DatetimeIndex) -> str | None:
    """Infers the alias of one ascending series, allowing for gaps; None if nothing regular fits."""
    found = pd.infer_freq(times) if len(times) >= 3 else None
    if found is not None:
        # pandas 2 and 3 name the same quarters differently.
        calendar = _infer_calendar(times) if found.startswith("Q") else None
        return calendar or str(normalize_freq(found))
    diffs = np.diff(times.to_numpy()).astype("timedelta64[ns]").astype("int64")
    smallest = int(diffs.min())
    if smallest == pd.Timedelta(days=1).value and _skips_weekends(times):
        return "B"
    if smallest >= pd.Timedelta(days=28).value:
        calendar = _infer_calendar(times)
        if calendar is not None:
            return calendar
    if (diffs % smallest == 0).all():
        if smallest % pd.Timedelta(days=7).value == 0:
            weeks = smallest // pd.Timedelta(days=7).value
            return str(normalize_freq(f"{weeks}W-{times[0].strftime('%a').upper()}"))
        days, rest = divmod(smallest, pd.Timedelta(days=1).value)
        if rest == 0:
            return str(normalize_freq(f"{days}D"))
        return str(pd.tseries.frequencies.to_offset(pd.Timedelta(smallest, unit="ns")).freqstr)
    return None


def _skips_weekends(times: pd.DatetimeIndex) -> bool:
    """Tells whether at least two weekends lie between the first and the last time, and none of the times on one."""
    weekends = (times[-1] - times[0]) // pd.Timedelta(weeks=1)
    return weekends >= 2 and bool((times.dayofweek < 5).all())


def _infer_calendar(times: pd.DatetimeIndex) -> str | None:
    """Returns the month, quarter or year alias whose axis holds all times, the widest first."""
    if times.is_month_start.all():
        side = "S"
    elif times.is_month_end.all():
        side = "E"
    else:
        return None
    months = times.year * 12 + times.month
    gaps = np.diff(months)
    anchor = _MONTHS[times[0].month - 1]
    if (gaps % 12 == 0).all():
        return f"Y{side}-{anchor}"
    if (gaps % 3 == 0).all():
        # January, April, July and October are one axis; pandas names it by its last month of the year.
        return f"Q{side}-{_MONTHS[9 + (times[0].month - 1) % 3]}"
    return f"M{side}"


def default_season(freq: Freq) -> int:
    """Returns the customary season of a frequency in steps: a day below days, a week, a year above; else 1.

    Integer time has no calendar: its season is 1 unless the user gives one.
    """
    return customary_seasons(freq)[0]


def tell_no_season(what: str) -> None:
    """Logs that integer times tell no season, so that none is taken, and how to give one.

    Args:
        what: The data, or who forecasts them.
    """
    logger.warning(
        "%s: times are whole numbers, which tell no season, so it is 1 step; give season= (--season) if it is not",
        what,
    )


def customary_seasons(freq: Freq) -> list[int]:
    """Returns the customary seasons of a frequency in steps, ascending: a day and a week below days, else one.

    >>> customary_seasons("h"), customary_seasons("30min"), customary_seasons("D"), customary_seasons("MS")
    ([24, 168], [48, 336], [7], [12])
    """
    if isinstance(freq, int):
        return [1]
    offset = pd.tseries.frequencies.to_offset(freq)
    name = type(offset).__name__
    if isinstance(offset, pd.tseries.offsets.Tick) and name != "Day":
        steps = pd.Timedelta("1D") / pd.Timedelta(offset.nanos, unit="ns")
        return [int(steps), 7 * int(steps)] if steps >= 1 and steps == int(steps) else [1]
    for prefix, season in (("Day", 7), ("Business", 5), ("Week", 52), ("Month", 12), ("Quarter", 4), ("Q", 4)):
        if name.startswith(prefix) and "Month" not in name[len(prefix) :]:
            return [max(1, season // offset.n)]
    return [12 if "Month" in name else 1]
