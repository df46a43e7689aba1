"""Finds what can be copied from a text: numbers, moments and durations, each with its place.

A moment without a date ("at noon", "from 8 am", "on Monday") is completed by the forecast's own times: the first
moment of the horizon that fits.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from tsllm.context.effects import MONTHS, WEEKDAYS

_SMALL = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
          "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen")  # fmt: skip
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
WORDS: dict[str, float] = {word: float(k) for k, word in enumerate(_SMALL)}
WORDS |= {word: 10.0 * k for k, word in enumerate(_TENS, 2)}
WORDS |= {f"{t}-{s}": WORDS[t] + WORDS[s] for t in _TENS for s in _SMALL[1:10]}
WORDS |= {"a hundred": 100.0, "one hundred": 100.0, "a thousand": 1000.0, "a dozen": 12.0, "half a dozen": 6.0}
FACTORS: dict[str, float] = {
    "double": 2, "doubled": 2, "doubles": 2, "doubling": 2, "twice": 2, "twofold": 2, "triple": 3, "tripled": 3,
    "triples": 3, "tripling": 3, "threefold": 3, "quadruple": 4, "quadrupled": 4, "quadruples": 4, "fourfold": 4,
    "fivefold": 5, "tenfold": 10, "half": 0.5, "halve": 0.5, "halved": 0.5, "halves": 0.5, "halving": 0.5,
    "a third": 1 / 3,
    "one third": 1 / 3, "two thirds": 2 / 3, "a quarter": 0.25, "three quarters": 0.75, "a fifth": 0.2, "a tenth": 0.1,
}  # fmt: skip
_UNIT = {"second": 1, "sec": 1, "minute": 60, "min": 60, "hour": 3600, "hr": 3600, "h": 3600, "day": 86400,
         "night": 86400, "week": 604800, "fortnight": 1209600, "month": 2629800, "year": 31557600}  # fmt: skip
_MONTH = "|".join(f"{m}|{m[:3]}\\." for m in MONTHS) + "|" + "|".join(m[:3] for m in MONTHS if m != "May")
_DAY = "|".join(WEEKDAYS)
_COUNT = "|".join(sorted(map(re.escape, WORDS), key=len, reverse=True))
_DIGITS = r"[-−]?\d{1,3}(?:,\d{3})+(?:\.\d+)?|[-−]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?"
_CLOCK = (
    r"\d{1,2}:\d{2}(?::\d{2})?(?:\.\d+)?(?: ?(?:[ap]m\b|[ap]\.m\.))?|\d{1,2} ?(?:[ap]m\b|[ap]\.m\.)"
    r"|\d{1,2} o'clock|noon|midday|midnight"
)
_RELATIVE = "tomorrow|today|yesterday"
_DATE = (
    rf"\d{{4}}-\d{{2}}-\d{{2}}|\d{{1,2}}(?:st|nd|rd|th)?(?: of)? (?:{_MONTH})(?:,? \d{{4}})?"
    rf"|(?:{_MONTH}) \d{{1,2}}(?:st|nd|rd|th)?\b(?:,? \d{{4}})?"
)
_TOKEN = re.compile(
    rf"(?P<moment>(?:{_DATE})(?:(?:[ T]|,? (?:at )?)(?:{_CLOCK}))?|(?:{_CLOCK}) on (?:the )?(?:{_DATE}|{_DAY})"
    rf"|\b(?:{_DAY})\b(?:,? (?:at )?(?:{_CLOCK}))?|\b(?:{_RELATIVE})\b(?:,? (?:at )?(?:{_CLOCK}))?"
    rf"|\b\d{{4}}-\d{{2}}\b(?!-)|\b(?:{_CLOCK})(?! ?%))"
    rf"|(?P<duration>\b(?:{_DIGITS}|{_COUNT}|an?|half an|a full|the whole)[ -](?:further |more |full |consecutive )?"
    rf"(?:{'|'.join(_UNIT)})s?\b)"
    rf"|(?P<percent>(?:(?<![\w.])(?:{_DIGITS})|\b(?:{_COUNT})) ?(?:%|per ?cent\b))"
    rf"|(?P<factor>\b(?:{'|'.join(sorted(FACTORS, key=len, reverse=True))})\b)"
    rf"|(?P<number>(?<![\w.])(?:{_DIGITS})(?![\w%]|\.\d)|\b(?:{_COUNT})\b)",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"(?<=[.!?;])\s+(?=[A-Z\"'(*\d])|\n+")


@dataclass(frozen=True)
class Mention:
    """Something in a text that an effect may copy.

    Attributes:
        kind: `number`, `percent`, `factor` (a number said as "double", "half"), `moment` or `duration`.
        start: Place of its first character.
        end: Place behind its last character.
        text: As it stands.
        value: Number; percent as it is said (75 for 75 %); seconds of a duration. 0 for a moment.
    """

    kind: str
    start: int
    end: int
    text: str
    value: float = 0.0


def find_mentions(text: str) -> list[Mention]:
    """Returns what can be copied from a text, in order, without overlaps."""
    found = []
    for match in _TOKEN.finditer(text):
        kind = str(match.lastgroup)
        value = _READ[kind](match[0].lower()) if kind in _READ else 0.0
        found.append(Mention(kind, match.start(), match.end(), match[0], value))
    return found


def split_sentences(text: str) -> list[tuple[int, int]]:
    """Returns the places (first, behind the last character) of the sentences and lines of a text."""
    places, start = [], 0
    for match in _SENTENCE.finditer(text):
        places.append((start, match.start()))
        start = match.end()
    return [(a, b) for a, b in [*places, (start, len(text))] if text[a:b].strip()]


def read_number(word: str) -> float:
    """Reads digits or a number word; "a" and "an" are 1."""
    word = word.strip().lower().replace(",", "").replace("−", "-")
    if word in {"a", "an", "a full", "the whole"}:
        return 1.0
    return 0.5 if word == "half an" else WORDS[word] if word in WORDS else float(word)


def _read_duration(text: str) -> float:
    words = re.split(r"[ -](?=[a-z]+$)", re.sub(r" (further|more|full|consecutive) ", " ", text))
    unit = words[1]
    return read_number(words[0]) * _UNIT[unit if unit in _UNIT else unit.removesuffix("s")]


_READ = {
    "number": read_number,
    "percent": lambda text: read_number(re.split(r" ?(?:%|per ?cent)", text)[0]),
    "factor": lambda text: float(FACTORS[text]),
    "duration": _read_duration,
}


@dataclass(frozen=True)
class Moment:
    """A moment, and how long it lasts if it is said as a day or a month: then its end is meant where a span ends."""

    start: pd.Timestamp
    end: pd.Timestamp


def is_clock(text: str) -> bool:
    """Tells whether a mention of a moment gives the time of day alone."""
    return re.fullmatch(_CLOCK, text.strip(), re.IGNORECASE) is not None


def resolve_moment(
    text: str,
    times: pd.DatetimeIndex,
    after: pd.Timestamp | None = None,
    *,
    on: pd.Timestamp | None = None,
    past: bool = False,
) -> Moment | None:
    """Turns a mention into a moment.

    Args:
        text: A `moment` as `find_mentions` returns it, perhaps behind "last".
        times: The times of the horizon, for what the text leaves open: year, date, weekday.
        after: The moment that it must lie behind, such as the start of the span that it ends.
        on: The day that a time of day is of; None = the text does not say.
        past: Whether the text tells of the past: a weekday or a time of day is then the last one before the horizon.

    Returns:
        None if no moment of the horizon fits a text without a date.
    """
    past = past or text.startswith("last ")
    clock = re.search(rf"(?<![\d-])(?:{_CLOCK})", text, re.IGNORECASE)
    date = _read_date(text, times)
    if re.search(rf"\b(?:{_DAY}|{_RELATIVE})\b", text, re.IGNORECASE) and date is None:
        date = _find_day(text.lower(), times, after, past)
        if date is None:
            return None
    offset = None if clock is None else _read_clock(clock[0].lower())
    if date is not None:
        if offset is not None:
            return Moment(date + offset, date + offset)
        month = re.fullmatch(r"\d{4}-\d{2}", text.strip()) is not None
        return Moment(date, date + (pd.DateOffset(months=1) if month else pd.Timedelta(days=1)))
    if offset is None:
        return None
    moment = _place_clock(offset, times[0], after, on, past)
    return Moment(moment, moment)


def _place_clock(
    offset: pd.Timedelta, ahead: pd.Timestamp, after: pd.Timestamp | None, on: pd.Timestamp | None, past: bool
) -> pd.Timestamp:
    """Finds the day of a time of day: the one that is said, else the nearest behind `after`, else next to `ahead`."""
    one = pd.Timedelta(days=1)
    if on is not None:
        moment = on.normalize() + offset
        return moment + one if after is not None and moment <= after else moment
    first = after if after is not None else ahead
    moment = first.normalize() + offset
    if past and after is None:
        return moment if moment < ahead else moment - one
    return moment + one if moment < first or (after is not None and moment <= after) else moment


def _find_day(text: str, times: pd.DatetimeIndex, after: pd.Timestamp | None, past: bool) -> pd.Timestamp | None:
    today, one = times[0].normalize(), pd.Timedelta(days=1)
    if "today" in text:
        return today
    if "yesterday" in text:
        return today - one
    if "tomorrow" in text:
        return today if times[0] == today else today + one
    name = next(w for w in WEEKDAYS if w.lower() in text)
    if after is not None:
        days = pd.date_range(after.normalize(), max(times[-1].normalize(), after.normalize() + 6 * one))
    elif past:
        days = pd.date_range(today - one, today - 7 * one, freq="-1D")
    else:
        days = pd.date_range(today, times[-1].normalize())
    fitting = [day for day in days if day.day_name() == name]
    return fitting[0] if fitting else None


def _read_date(text: str, times: pd.DatetimeIndex) -> pd.Timestamp | None:
    iso = re.search(r"(\d{4})-(\d{2})(?:-(\d{2}))?", text)
    if iso:
        try:
            return pd.Timestamp(int(iso[1]), int(iso[2]), int(iso[3] or 1))
        except ValueError:
            return None
    month = re.search(rf"(?:{_MONTH})", text)
    day = re.search(r"(?<![\d:])(\d{1,2})(?:st|nd|rd|th)?(?![\d:])", text)
    if month is None or day is None:
        return None
    number = next(k for k, name in enumerate(MONTHS, 1) if name.startswith(month[0][:3]))
    year = re.search(r"\b(\d{4})\b", text)
    middle = times[0]
    years = [int(year[1])] if year else [middle.year, middle.year + 1, middle.year - 1]
    for candidate in years:
        try:
            date = pd.Timestamp(candidate, number, int(day[1]))
        except ValueError:
            return None
        if year or abs(date - middle) < pd.Timedelta(days=183):
            return date
    return None


def _read_clock(text: str) -> pd.Timedelta:
    if text in {"noon", "midday"}:
        return pd.Timedelta(hours=12)
    if text == "midnight":
        return pd.Timedelta(0)
    parts = [float(part) for part in re.findall(r"[\d.]*\d", re.split(r" ?[ap]\.?m| o'clock", text)[0])]
    if re.search(r"[ap]\.?m", text):
        parts[0] = parts[0] % 12 + (12 if "p" in text else 0)
    hours, minutes, seconds = [*parts, 0.0, 0.0][:3]
    return pd.Timedelta(hours=hours, minutes=minutes, seconds=seconds)


def iterate_inside(mentions: list[Mention], place: tuple[int, int]) -> Iterator[Mention]:
    """Yields the mentions within a place."""
    return (m for m in mentions if place[0] <= m.start and m.end <= place[1])
