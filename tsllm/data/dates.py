"""Times as they stand in tables: integers, dates, dates as text. What can be read in two ways is refused."""

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
from pandas.api import types as ptypes

from tsllm.data.origin import Origin
from tsllm.types import ID, TIME, FrameError

# The span of nanoseconds since 1970 in 64 bits, in which numpy and the libraries behind compute.
EARLIEST, LATEST = pd.Timestamp.min, pd.Timestamp.max
_LARGEST_STEP = 2**53  # beyond it, neighbouring integers are equal in float64, and differences overflow int64
# An hour with +01, +0100 or +01:00 behind it, or a letter; a date alone may end in "-01" too.
_ZONE = r"(?i)(?:[T ]\d{1,2}.*[+-]\d\d(?::?\d\d)?|\d\s*(?:Z|UTC|GMT))$"
# A zone by its name behind a time of day: "00:00 CET", "00:00:00[Europe/Paris]"; AM and PM are none.
_NAMED_ZONE = r"(?<=\d)\s*(?:\[?[A-Za-z]+/[A-Za-z_/]+\]?|(?!(?i:am|pm)$)[A-Za-z]{2,5})$"
_LETTERS = "[^0-9]+$"
# UTC+1, GMT-03:00: POSIX reads the sign the other way round, and so do libraries.
_NAMED_OFFSET = r"(?i)\d\s*\[?(?:UTC|GMT)\s*[+-]\d"
_WEEKDAY = r"^[^\W\d_]{2,}\.?,?\s+"
# 03/04/2024, 3.4.2024, 03-04-24, 03 04 2024, with or without a time of day.
_NUMBERS = r"^(\d{1,2})\s*([/. -])\s*(\d{1,2})\s*\2\s*"
_TWO_NUMBERS_AND_YEAR = _NUMBERS + r"(\d{4}|\d{2})(?:[T ,].*)?$"
# The same elsewhere in the text, as in 10:00 03/04/2024.
_TWO_NUMBERS_WITHIN = r"(?<!\d)\d{1,2}[^\w:]+\d{1,2}[^\w:]+\d{4}(?!\d)"
_YEAR = r"(?:19|20)\d\d"
_YEAR_MONTH = _YEAR + r"(?:0[1-9]|1[0-2])"
_DAY, _HOUR, _SIXTY = r"(?:0[1-9]|[12]\d|3[01])", r"(?:[01]\d|2[0-3])", r"[0-5]\d"
# Pattern, what it may mean, and code that reads it.
_COMPACT = (
    (_YEAR_MONTH, "a month such as 2023-01", "pd.to_datetime({text}, format='%Y%m')"),
    (_YEAR_MONTH + _DAY, "a day such as 2023-01-31", "pd.to_datetime({text}, format='%Y%m%d')"),
    (_YEAR_MONTH + _DAY + _HOUR, "an hour such as 2023-01-31 23:00", "pd.to_datetime({text}, format='%Y%m%d%H')"),
    (
        _YEAR_MONTH + _DAY + _HOUR + _SIXTY,
        "a minute such as 2023-01-31 23:59",
        "pd.to_datetime({text}, format='%Y%m%d%H%M')",
    ),
    (
        _YEAR_MONTH + _DAY + _HOUR + _SIXTY + _SIXTY,
        "a second such as 2023-01-31 23:59:59",
        "pd.to_datetime({text}, format='%Y%m%d%H%M%S')",
    ),
    (
        _YEAR + "[1-4]",
        "a quarter such as 2023Q1",
        "pd.PeriodIndex({text}.str[:4] + 'Q' + {text}.str[4], freq='Q').to_timestamp()",
    ),
    (
        _YEAR + r"(?:0[1-9]|[1-4]\d|5[0-3])",
        "a week such as the first one of 2023",
        "pd.to_datetime({text} + '1', format='%G%V%u')",
    ),
    (
        _YEAR + r"(?:00[1-9]|0[1-9]\d|[12]\d\d|3[0-5]\d|36[0-6])",
        "a day of a year such as the first one of 2023",
        "pd.to_datetime({text}, format='%Y%j')",
    ),
)


def parse_time(
    times: pd.Series, ids: pd.Series, origin: Origin, *, day_first: bool | None = None, counted: bool = False
) -> pd.Series:
    """Returns times as int64 steps or as dates without a zone.

    Args:
        times: The column: integers, dates, periods, or dates as text.
        ids: The series of each row, for the text of an error.
        origin: Where the rows come from, for the text of an error.
        day_first: Whether 03/04/2024 is the third of April; None refuses such dates unless another row settles it.
        counted: Whether integers are known to count steps, even if they look like 202301.

    Raises:
        FrameError: For missing, unreadable, ambiguous, fractional or zoned times, and for dates beyond pandas' range.
    """
    if isinstance(times.dtype, pd.PeriodDtype):
        times = times.dt.to_timestamp()
    if times.empty and not (ptypes.is_integer_dtype(times.dtype) or ptypes.is_datetime64_any_dtype(times.dtype)):
        return times.astype("datetime64[ns]")
    if times.isna().any():
        at = int(times.isna().to_numpy().argmax())
        raise FrameError(f"{origin.place(ids, at)}: {origin.time!r} is missing; every row needs its time")
    if ptypes.is_bool_dtype(times.dtype):
        raise FrameError(f"{origin.time!r} holds {times.iloc[0]}; give dates or integer steps")
    if ptypes.is_complex_dtype(times.dtype):
        raise FrameError(f"{origin.time!r} holds complex numbers ({times.iloc[0]}); give dates or integer steps")
    if ptypes.is_numeric_dtype(times.dtype) and (times.astype("float64").abs() > _LARGEST_STEP).any():
        raise FrameError(f"{origin.time!r} reaches {times.abs().max()}; count integer steps from a number near 0")
    if ptypes.is_float_dtype(times.dtype) and (times % 1 == 0).all():
        times = times.astype("int64")
    if ptypes.is_integer_dtype(times.dtype):
        if not counted and len(times):
            _refuse_compact_dates(times, origin)
        return times.astype("int64")
    if ptypes.is_numeric_dtype(times.dtype):
        raise FrameError(f"{origin.time!r} holds fractions ({times.iloc[0]}); give dates or integer steps")
    given = times
    if not ptypes.is_datetime64_any_dtype(times.dtype):
        times = _read_text(times.astype(str), ids, origin, day_first)
    if times.dt.tz is not None:
        name = origin.time
        what = f"the time zone {times.dt.tz}; drop it"
        if not ptypes.is_datetime64_any_dtype(given.dtype):
            zoned = given.astype(str).str.strip().str.contains(_ZONE)
            what = f"UTC offsets ({(given[zoned] if zoned.any() else given).iloc[0]}); drop them"
        raise FrameError(
            f"{name!r} carries {what} with {origin.times} = pd.to_datetime({origin.times}, "
            "utc=True).dt.tz_localize(None): in UTC, clock changes leave neither gap nor duplicate"
        )
    beyond = ((times < EARLIEST) | (times > LATEST)).to_numpy()
    if beyond.any():
        _raise_beyond(times, ids, origin, beyond)
    return times


def read_later_times(
    df: pd.DataFrame, day_first: bool | None, columns: Sequence[str] = (TIME, "date")
) -> pd.DataFrame:
    """Returns a table under the names of frames with its dates read, where the order of day and month was said.

    Args:
        df: A table of the horizon, or of texts.
        day_first: As in `parse_time`; None leaves the table as it is.
        columns: Where dates stand, if the table has the column; missing ones stay missing.

    Raises:
        FrameError: As `parse_time`.
    """
    for column in [name for name in columns if name in df.columns and day_first is not None]:
        there = df[column].notna().to_numpy()
        ids = df[ID][there] if ID in df.columns else pd.Series("(all)", index=df.index[there])
        origin = Origin(np.flatnonzero(there), column)
        df = df.assign(**{column: parse_time(df[column][there], ids, origin, day_first=day_first)})
    return df


def find_order(text: str) -> bool | None:
    """Tells whether the day comes first in a date as text; None if it may be either, or the date is written otherwise.

    Example:
        >>> [find_order(text) for text in ("13/05/2024", "05/13/2024 10:00", "01/05/2024", "2024-05-13")]
        [True, False, None, None]
    """
    numbers = re.match(_TWO_NUMBERS_AND_YEAR, re.sub(_WEEKDAY, "", text.strip()))
    if numbers is None:
        return None
    first, second = int(numbers[1]) > 12, int(numbers[3]) > 12
    return None if first == second else first


def _refuse_compact_dates(times: pd.Series, origin: Origin) -> None:
    """Refuses integers that all look like 202301 or 20230131: counted as steps, December and January lie 89 apart."""
    text = times.astype(str)
    for pattern, meaning, code in _COMPACT:
        if text.str.fullmatch(pattern).all():
            name = origin.time
            way = code.format(text=f"{origin.times}.astype(str)")
            raise FrameError(
                f"{name!r} holds integers such as {times.iloc[0]}, each of which may be {meaning}; write them as dates"
                f" with {origin.times} = {way}, or give an integer freq if they count steps"
            )


def _read_text(times: pd.Series, ids: pd.Series, origin: Origin, day_first: bool | None) -> pd.Series:
    stripped = times.str.strip()
    signed = stripped.str.contains(_NAMED_OFFSET)
    if signed.any():
        at, name = int(signed.to_numpy().argmax()), origin.time
        raise FrameError(
            f"{origin.place(ids, at)}: {name} {times.iloc[at]!r} ends in a zone whose sign is read in two ways; write "
            f"+01:00 for an hour ahead of UTC: {origin.times} = {origin.times}.str.replace(r' *[[]?(UTC|GMT) *', '', "
            "regex=True)"
        )
    if stripped.str.contains(_ZONE).any():
        return pd.to_datetime(stripped, format="mixed", errors="coerce", utc=True)  # refused by the caller
    named = stripped.str.contains(":") & stripped.str.contains(_NAMED_ZONE)
    if named.any():
        at, name = int(named.to_numpy().argmax()), origin.time
        raise FrameError(
            f"{origin.place(ids, at)}: {name} {times.iloc[at]!r} ends in the name of a time zone, which does not tell "
            f"its offset; keep the local times with {origin.times} = {origin.times}.str.replace({_LETTERS!r}, '', "
            "regex=True), or write the offset, +01:00"
        )
    bare = stripped.str.replace(_WEEKDAY, "", regex=True)
    parts = bare.str.extract(_TWO_NUMBERS_AND_YEAR)
    alike = parts[0].notna()
    if alike.all():
        return _read_two_numbers(bare, parts, ids, origin, day_first)
    if alike.any():
        at = int((alike != alike.iloc[0]).to_numpy().argmax())
        raise FrameError(
            f"{origin.place(ids, at)}: {origin.time} {times.iloc[at]!r} is written in another way than that of the "
            f"first row ({times.iloc[0]!r}); write all alike, such as 2024-03-04"
        )
    within = stripped.str.contains(_TWO_NUMBERS_WITHIN)
    if within.any():
        at = int(within.to_numpy().argmax())
        raise FrameError(
            f"{origin.place(ids, at)}: {origin.time} {times.iloc[at]!r} may put the day or the month first; write the "
            "date first, as 2024-03-04 10:00"
        )
    if stripped.str.fullmatch(r"-?\d{1,15}").all():
        _refuse_compact_dates(stripped.astype("int64"), origin)
        if not stripped.str.fullmatch(r"\d{4}").all():  # four digits are years
            name = origin.time
            raise FrameError(
                f"{name!r} holds integers written as text ({times.iloc[0]!r}); if they count steps, convert them with "
                f"{origin.times} = {origin.times}.astype(int)"
            )
    # What names no year is completed from the clock by the parser ("10:00", "today"), so it is no date here.
    dated = stripped.where(stripped.str.contains(r"^\w.*\d{4}|^\d{4}"))
    # ISO first: files write midnight without its hour, which breaks a format guessed from the first row.
    parsed = pd.to_datetime(dated, format="ISO8601", errors="coerce")
    if parsed.isna().any() and dated.notna().all():
        parsed = pd.to_datetime(dated, format="mixed", errors="coerce")
    unread = parsed.isna().to_numpy()
    if not unread.any():
        return parsed
    years = stripped.str.extract(r"^(\d{4,})\D")[0].astype(float).to_numpy()
    beyond = unread & ((years <= EARLIEST.year) | (years >= LATEST.year))
    if beyond.any():
        _raise_beyond(times, ids, origin, beyond)
    at = int(unread.argmax())
    raise FrameError(
        f"{origin.place(ids, at)}: {origin.time} {times.iloc[at]!r} is neither an integer nor a date"
        f" in the format of the first row ({times.iloc[0]!r})"
    )


def _read_two_numbers(
    times: pd.Series, parts: pd.DataFrame, ids: pd.Series, origin: Origin, day_first: bool | None
) -> pd.Series:
    """Reads dates such as 03/04/2024, of which the first number is the day or the month."""
    name = origin.time
    first, second = parts[0].astype(int), parts[2].astype(int)
    short = parts[3].str.len() == 2
    if short.any():
        at = int(short.to_numpy().argmax())
        raise FrameError(
            f"{origin.place(ids, at)}: {name} {times.iloc[at]!r} has a year of two digits; write it as 2024-03-04"
        )
    if day_first is None:
        days_ahead, months_ahead = bool((first > 12).any()), bool((second > 12).any())
        if days_ahead == months_ahead:
            raise FrameError(
                f"{name!r} is ambiguous: {times.iloc[0]!r} may put the day or the month first, and no row tells; say "
                f"which with {origin.times} = pd.to_datetime({origin.times}, dayfirst=True) (or False; on the "
                "command line --day-first or --month-first, in a file day_first), or write 2024-03-04"
            )
        day_first = days_ahead
    day, month = (first, second) if day_first else (second, first)
    rest = times.str.replace(_NUMBERS + r"\d{4}", "", regex=True)
    written = parts[3] + "-" + month.map("{:02d}".format) + "-" + day.map("{:02d}".format) + rest
    parsed = pd.to_datetime(written, format="mixed", errors="coerce")  # only the time of day is open here
    if parsed.isna().any():
        at = int(parsed.isna().to_numpy().argmax())
        order = "day first" if day_first else "month first"
        raise FrameError(f"{origin.place(ids, at)}: {name} {times.iloc[at]!r} is no date with the {order}")
    return parsed


def _raise_beyond(times: pd.Series, ids: pd.Series, origin: Origin, beyond: np.ndarray) -> None:
    at = int(beyond.argmax())
    raise FrameError(
        f"{origin.place(ids, at)}: {origin.time} {times.iloc[at]} lies beyond the dates that can be computed with "
        f"({EARLIEST:%Y-%m-%d} to {LATEST:%Y-%m-%d}); mend it, or count the steps as integers"
    )
