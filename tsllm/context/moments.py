"""Moments: the ways in which people name a day, a time of day or a stretch of time, and what that is for a horizon.

A moment is a mention of a text (`tsllm.context.lexer`). It is taken apart into what stands in front ("the end of",
"the first two hours of"), a time of day, a part of the day and a day, in whichever order they stand; what it leaves
open (year, month, date of a weekday) is completed by the times of the horizon. What names no exact time (tonight,
Christmas, 3/4/2024), or contradicts itself (Friday, 21 December 2024), is no moment: `find_fault` says why.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from tsllm.context.effects import MONTHS, WEEKDAYS
from tsllm.context.holidays import NAMES, find_holiday
from tsllm.context.vocabulary import MONTH, WEEKDAY

SMALL = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
         "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen")  # fmt: skip
UNITS = {"second": 1, "sec": 1, "minute": 60, "min": 60, "hour": 3600, "hr": 3600, "h": 3600, "day": 86400,
         "night": 86400, "week": 604800, "fortnight": 1209600, "month": 2629800, "year": 31557600}  # fmt: skip
_ONE = pd.Timedelta(days=1)
_SPELLED = {"may", "march"}  # months that are words of another meaning too, unless they begin with a capital
_FULL = "|".join(m for m in MONTHS if m.lower() not in _SPELLED)
_CAPITAL = "(?-i:May|MAY|March|MARCH)"
_SHORT = r"(?:jan|feb|(?-i:Mar)|apr|jun|jul|aug|sept?|oct|nov|dec)\b\.?"
_MONTH = rf"(?:(?:{_FULL})\b|{_CAPITAL}\b|{_SHORT})"
_BRIEF = r"(?-i:Mon|Tues?|Thu(?:rs?)?|Fri|(?:Wed|Sat|Sun)(?=\.?,? \d))\b\.?"
_HOURS = "|".join(SMALL[1:13])
_HALF = r"(?: ?(?:[ap]m\b|[ap]\.m\b\.?))"
_SIDE = r"(?: in the (?:morning|afternoon|evening)| at night)"
CLOCK = (
    rf"\d{{1,2}}:\d{{2}}(?::\d{{2}})?(?:\.\d+)?(?:{_HALF}|{_SIDE})?|\d{{1,2}}\.\d{{2}}{_HALF}"
    rf"|(?:\d{{1,2}}|\b(?:{_HOURS})){_HALF}|(?:\d{{1,2}}|\b(?:{_HOURS})) o'clock{_SIDE}?"
    rf"|\b(?:half|(?:a )?quarter|five|ten|twenty|twenty-five)(?: minutes)? past (?:(?:{_HOURS})\b|\d{{1,2}}\b)"
    rf"(?:{_HALF}|{_SIDE})?|\b(?:a )?quarter to (?:(?:{_HOURS})\b|\d{{1,2}}\b)(?:{_HALF}|{_SIDE})?"
    r"|\bnoon\b|\bmidday\b|\bmidnight\b"
)
_NUMBER = r"(?<!\d)(?<!\d[.,:/])\d{1,2}(?:st|nd|rd|th)?"
_YEAR = r"(?:,? \d{4}\b(?![:.]\d))"
DATE = (
    rf"\d{{4}}-\d{{2}}-\d{{2}}|\d{{4}}/\d{{1,2}}/\d{{1,2}}|\b\d{{1,2}}[./]\d{{1,2}}[./]\d{{4}}\b"
    rf"|{_NUMBER}(?: of)? {_MONTH}{_YEAR}?|\b{_MONTH} (?:the )?\d{{1,2}}(?:st|nd|rd|th)?\b(?![:.]\d){_YEAR}?"
    rf"|\b(?:{'|'.join(NAMES)})\b{_YEAR}?"
)
_NAMED_DAY = rf"\b(?:(?:next|this|coming|this coming) )?(?:(?:{WEEKDAY})s?\b|{_BRIEF})"
_AHEAD = r"(?= (?:to|until|till|through|and|at|from|for|on|onwards?|because|due|with)\b| ?[-–,;:)]|\.?$|\.\s)"
_THAT = rf"(?<=\bthe )\d{{1,2}}(?:st|nd|rd|th)\b{_AHEAD}"  # "the 3rd", and not "the 3rd unit"
_RELATIVE = r"\bday after tomorrow\b|\bday before yesterday\b|\btomorrow\b|\btoday\b|\byesterday\b"
DAY = (
    rf"(?:{_NAMED_DAY},? \(?(?:the )?(?:{DATE})\)?|{_NAMED_DAY} the \d{{1,2}}(?:st|nd|rd|th)\b"
    rf"|(?:{DATE}) \({_NAMED_DAY}\)|{DATE}|{_NAMED_DAY}|{_RELATIVE}|{_THAT})"
)
_PART = r"(?:early |late )?(?:morning|afternoon|evening|night)\b"
_PERIOD = r"(?:forecast|horizon|period)\b"
_BEHIND = "|".join(rf"(?<=\b{w} )" for w in ("in", "during", "throughout", "from", "until", "till", "through", "since",
                                             "between", "and", "to", "before", "after", "by"))  # fmt: skip
_WHOLE_MONTH = rf"(?:{_BEHIND})(?:(?-i:{MONTH})\b|{_MONTH} (?=\d{{4}}\b))(?! ?\d{{1,2}}\b)(?: ?\d{{4}}\b)?"
_WEEK = r"\b(?:next|this) (?:week|month)\b|\b(?:(?:this|next) weekend|(?<=the )weekend|weekends)\b"
_AROUND = "|".join(rf"(?<=\b{w} )" for w in ("at", "over", "during", "around", "before", "after", "until", "till",
                                             "since", "from", "between"))  # fmt: skip
_LOOSE = (
    rf"\btonight\b|\b(?:Black|Cyber|Super|Giving|Shrove|Holy) (?:{WEEKDAY})\b"
    rf"|(?:{_AROUND})(?:Christmas\b(?! (?:Day|Eve))|Easter\b(?! (?:Sun|Mon)day)|New Year\b(?!'s))"
    rf"|\b{_NAMED_DAY} (?:week|next week|after next)\b"
)
_COUNTS = "|".join(sorted((*SMALL, "twenty", "thirty", "a dozen"), key=len, reverse=True))
_LENGTH = rf"(?:\b(?:\d+(?:\.\d+)?|{_COUNTS}|an?|half an) (?:{'|'.join(UNITS)})s?\b)"
_PLACE = rf"(?:{DAY}|{_PERIOD})"
_WHEN = (
    rf"(?:{DAY}(?:T|,? (?:at )?)(?:{CLOCK})"
    rf"|(?:{CLOCK})(?:,? on (?:the )?|,? (?:the )?){DAY}|{DAY}|{CLOCK})"
)
_EDGE = (
    rf"\b(?:start|beginning|end|close) of (?:(?:the )?{_PLACE}|(?:the )?(?:day|week|month|year)\b"
    rf"|{_MONTH}(?: \d{{4}}\b)?)"
)
_HEAD = rf"\b(?:first|last) (?:{_LENGTH}|(?:minute|hour|day|week)\b) of (?:the )?{_PLACE}"
# "The next 3 days", but not "the next 3 days after Friday", a length that counts from there.
_NEXT = rf"\b(?:next|coming) {_LENGTH}(?! (?:after|from|following|beginning|starting)\b)"
_OFFSET = rf"(?<!\bthe )(?<!\bby )(?<!\bnext )(?<!\bcoming ){_LENGTH} (?:before|after) (?:the )?(?:{_EDGE}|{_WHEN})"
_PARTS = (
    rf"(?:{DAY},? (?:in the |at )?{_PART}|(?<=the ){_PART} of (?:the )?{DAY}|(?<=in ){_PART} of {DAY}"
    r"|\bthis (?:morning|afternoon|evening)\b)"
)
MOMENT = (
    rf"(?:{_HEAD}|{_NEXT}|{_OFFSET}|{_EDGE}|{_LOOSE}|{_PARTS}|{_WHEN}|{_WEEK}|{_WHOLE_MONTH}|\b\d{{4}}-\d{{2}}\b(?!-))"
)
_HOUR_OF_PART = {"morning": 6, "afternoon": 12, "evening": 18}  # six hours each


@dataclass(frozen=True)
class Moment:
    """A moment, and how long it lasts if it is said as a day or a month: then its end is meant where a span ends."""

    start: pd.Timestamp
    end: pd.Timestamp

    def shift(self, by: pd.Timedelta) -> "Moment":
        """Returns the moment so much later."""
        return Moment(self.start + by, self.end + by)


def is_clock(text: str) -> bool:
    """Tells whether a mention of a moment gives the time of day alone."""
    return re.fullmatch(CLOCK, text.strip(), re.IGNORECASE) is not None


def is_edge(text: str) -> bool:
    """Tells whether a mention only says where a span begins or ends ("the end of Friday", "an hour before noon")."""
    return re.match(rf"(?:before |after )|{_EDGE}|{_OFFSET}", text, re.IGNORECASE) is not None


def counts_ahead(text: str) -> bool:
    """Tells whether a mention is of so much time from the start of the horizon on ("next two hours")."""
    return re.match(_NEXT, text, re.IGNORECASE) is not None


def has_date(text: str) -> bool:
    """Tells whether a mention names a day, by its date, its weekday or a word such as tomorrow."""
    return not is_clock(text) and _search(DAY, f"the {text}") is not None


def resolve_moment(
    text: str,
    times: pd.DatetimeIndex,
    after: pd.Timestamp | None = None,
    *,
    before: pd.Timestamp | None = None,
    on: pd.Timestamp | None = None,
    past: bool = False,
) -> Moment | None:
    """Turns a mention into a moment.

    A morning is from 06:00 to 12:00, an afternoon from 12:00 to 18:00, an evening from 18:00 to 24:00.

    Args:
        text: A `moment` as `find_mentions` returns it, perhaps behind "last", "before" or "after".
        times: The times of the horizon, for what the text leaves open: year, date, weekday.
        after: The moment that it must lie behind, such as the start of the span that it ends.
        before: The moment that it must lie before, such as the end of the span that it starts.
        on: The day that a time of day is of; None = the text does not say.
        past: Whether the text tells of the past: a weekday or a time of day is then the last one before the horizon.

    Returns:
        None if no moment of the horizon fits a text without a date, or the text names no exact time.
    """
    return _Frame(times, after, before, on, past or _is_last(text)).resolve(
        text.removeprefix("last ") if _is_last(text) else text
    )


def find_fault(text: str, times: pd.DatetimeIndex) -> str:
    """Says why a mention names no exact time, whatever the horizon; empty if it does.

    Example:
        >>> times = pd.date_range("2024-12-20", periods=48, freq="h")
        >>> find_fault("Saturday, 20 December 2024", times), find_fault("Monday", times)
        ("'Saturday, 20 December 2024' is a Friday", '')
    """
    if _search(_LOOSE, f"at {text}") or re.search(r"\bnext weekend|\b(?:early|late) \w+|\bnight\b", text.lower()):
        return f"{text!r} names no exact time; write its date and hours"
    date = _search(DATE, f"the {text}")
    if date is not None:
        found, named = _read_date(date[0], times), _search(rf"{WEEKDAY}|{_BRIEF}", text)
        readings = _list_readings(date[0])
        if found is None and len(readings) == 2:
            return f"{text!r} may be one of two days; write {' or '.join(readings)}"
        year = re.search(r"\d{4}", date[0])
        if found is None and year and int(year[0]) > pd.Timestamp.max.year:
            return f"{date[0]!r} is beyond the times that can be computed with"
        if found is None:
            return f"there is no day {date[0]!r}".replace("'the ", "'")
        if named and not re.search(named[0], date[0]) and _number_day(named[0]) != found.dayofweek:
            return f"{text!r} is a {found.day_name()}"
    clock = _search(CLOCK, text)
    if clock is not None and _read_clock(clock[0].lower()) is None:
        return f"there is no time of day {clock[0]!r}"
    return ""


@dataclass(frozen=True)
class _Frame:
    """What completes a moment; see `resolve_moment`."""

    times: pd.DatetimeIndex
    after: pd.Timestamp | None
    before: pd.Timestamp | None
    on: pd.Timestamp | None
    past: bool

    def resolve(self, text: str) -> Moment | None:
        if find_fault(text, self.times):
            return None
        side = re.match(r"(before|after) ", text)
        if side is not None:
            inner = self.resolve(text[side.end() :])
            return None if inner is None else _cut(inner, "start" if side[1] == "before" else "end")
        for pattern, read in (
            (_HEAD, self._read_head), (_NEXT, self._read_next), (_OFFSET, self._read_offset), (_EDGE, self._read_edge),
        ):  # fmt: skip
            if re.match(pattern, text, re.IGNORECASE):
                return read(text)
        return self._read_when(text)

    def _read_head(self, text: str) -> Moment | None:
        head, _, inner = text.partition(" of ")
        side, said = head.split(" ", 1)
        span, length = self._read_place(inner), read_length(said)
        if span is None:
            return None
        if side.lower() == "first":
            return Moment(span.start, min(span.start + length, span.end))
        return Moment(max(span.end - length, span.start), span.end)

    def _read_next(self, text: str) -> Moment:
        return Moment(self.times[0], self.times[0] + read_length(text.split(" ", 1)[1]))

    def _read_offset(self, text: str) -> Moment | None:
        match = re.match(rf"({_LENGTH}) (before|after) (?:the )?", text, re.IGNORECASE)
        assert match is not None
        inner, length = self.resolve(text[match.end() :]), read_length(match[1])
        if inner is None:
            return None
        if inner.end > inner.start and length % _ONE != pd.Timedelta(0):
            inner = _cut(inner, "start" if match[2].lower() == "before" else "end")
        return inner.shift(-length if match[2].lower() == "before" else length)

    def _read_edge(self, text: str) -> Moment | None:
        side, _, inner = text.partition(" of ")
        span = self._read_place(inner)
        return None if span is None else _cut(span, "end" if side.lower() in {"end", "close"} else "start")

    def _read_place(self, text: str) -> Moment | None:
        text = re.sub(r"^the ", "", text, flags=re.IGNORECASE)
        if re.match(_PERIOD, text, re.IGNORECASE):
            step = self.times[-1] - self.times[-2] if len(self.times) > 1 else _ONE
            return Moment(self.times[0], self.times[-1] + step)
        today = self.times[0].normalize()
        if text.lower() == "day":
            day = (self.on or self.after or today).normalize()
            return Moment(day, day + _ONE)
        if text.lower() in {"week", "month", "year"}:
            return _find_period(text.lower(), today)
        return self._read_when(text)

    def _read_when(self, text: str) -> Moment | None:
        """Reads a day, a time of day, or both, in either order."""
        if text.lower().startswith("this ") and text[5:].lower() in _HOUR_OF_PART:
            return _take_part(self._find_day("today"), text[5:].lower())
        clock = _search(rf"(?<![\d-])(?:{CLOCK})", text)
        rest = text if clock is None else f"{text[: clock.start()]} {text[clock.end() :]}"
        offset = None if clock is None else _read_clock(clock[0].lower())
        part = re.search(r"\b(?:morning|afternoon|evening)\b", rest.lower())
        span = self._read_span(rest)
        if span is None:
            if offset is None or has_date(rest):
                return None
            moment = self._place_clock(offset)
            return None if moment is None else Moment(moment, moment)
        if offset is not None:
            moment = span.start + offset
            return Moment(moment, moment)
        return span if part is None else _take_part(span, part[0])

    def _read_span(self, text: str) -> Moment | None:
        """Reads a day, a week or a month."""
        period = re.search(r"\b(next|this) (week|month)\b", text.lower())
        if period:
            # What comes is seen from the day before the horizon.
            found = _find_period(period[2], self.times[0].normalize() - pd.Timedelta("1ns"))
            return found if period[1] == "this" else _find_period(period[2], found.end)
        if "weekend" in text.lower():
            day = self._find_day("Saturday")
            return None if day is None else Moment(day.start, day.end + _ONE)
        if _search(DATE, text):
            date = _read_date(text, self.times, self.before, self.after)
            return None if date is None else Moment(date, date + _ONE)
        month = _read_month(text, self.times, self.past, self.after)
        return month or self._find_day(text)

    def _place_clock(self, offset: pd.Timedelta) -> pd.Timestamp | None:
        """Finds the day of a time of day: the one that is said, else the nearest behind `after`, else next ahead."""
        if self.on is not None:
            moment = self.on.normalize() + offset
            return moment + _ONE if self.after is not None and moment <= self.after else moment
        if self.before is not None:
            moment = (self.before - pd.Timedelta("1ns")).normalize() + offset
            return moment if moment < self.before else None
        first = self.after if self.after is not None else self.times[0]
        moment = first.normalize() + offset
        if self.past and self.after is None:
            return moment if moment < self.times[0] else moment - _ONE
        return moment + _ONE if moment < first or (self.after is not None and moment <= self.after) else moment

    def _find_day(self, text: str) -> Moment | None:
        today = self.times[0].normalize()
        tomorrow = today if self.times[0] == today else today + _ONE
        for word, day in {
            "day after tomorrow": tomorrow + _ONE, "day before yesterday": today - 2 * _ONE, "tomorrow": tomorrow,
            "today": today, "yesterday": today - _ONE,
        }.items():  # fmt: skip
            if word in text.lower():
                return Moment(day, day + _ONE)
        name, number = _search(rf"\b(?:{WEEKDAY})|\b{_BRIEF}", text), re.search(r"(\d{1,2})(?:st|nd|rd|th)", text)
        if name is None and number is None:
            return None
        for day in self._list_days(number is not None):
            fits = name is None or day.dayofweek == _number_day(name[0])
            if fits and (number is None or day.day == int(number[1])):
                return Moment(day, day + _ONE)
        return None

    def _list_days(self, dated: bool) -> Iterator[pd.Timestamp]:
        """Returns days that a weekday or the number of a day may mean, the likeliest first."""
        today, last = self.times[0].normalize(), self.times[-1].normalize()
        reach = 31 if dated else 6
        if self.after is not None:
            first = self.after.normalize()
            return iter(pd.date_range(first, max(last, first + reach * _ONE)))
        if self.before is not None:
            end = self.before.normalize()
            return iter(pd.date_range(end, end - reach * _ONE, freq="-1D"))
        if self.past:
            return iter(pd.date_range(today - _ONE, today - (reach + 1) * _ONE, freq="-1D"))
        return iter(pd.date_range(today, last))


def _is_last(text: str) -> bool:
    return text.startswith("last ") and re.match(_HEAD, text, re.IGNORECASE) is None


def _search(pattern: str, text: str) -> re.Match[str] | None:
    return re.search(pattern, text, re.IGNORECASE)


def _cut(moment: Moment, side: str) -> Moment:
    """Returns the first or the last instant of a moment."""
    instant = moment.start if side == "start" else moment.end
    return Moment(instant, instant)


def _take_part(day: Moment | None, part: str) -> Moment | None:
    if day is None:
        return None
    start = day.start + pd.Timedelta(hours=_HOUR_OF_PART[part])
    return Moment(start, start + pd.Timedelta(hours=6))


def _find_period(unit: str, day: pd.Timestamp) -> Moment:
    """Returns the week (from Monday on), month or year that holds a day."""
    day = day.normalize()
    if unit == "week":
        start = day - day.dayofweek * _ONE
        return Moment(start, start + 7 * _ONE)
    start = day.replace(day=1) if unit == "month" else day.replace(month=1, day=1)
    return Moment(start, start + (pd.DateOffset(months=1) if unit == "month" else pd.DateOffset(years=1)))


def _number_day(name: str) -> int:
    return next(k for k, day in enumerate(WEEKDAYS) if day.lower().startswith(name[:3].lower()))


def _number_month(name: str) -> int:
    return next(k for k, month in enumerate(MONTHS, 1) if month.lower().startswith(name[:3].lower()))


def _read_month(text: str, times: pd.DatetimeIndex, past: bool, after: pd.Timestamp | None) -> Moment | None:
    """Reads a month: the one of its year, else the one that holds the horizon's start, else the next or the last."""
    iso = re.fullmatch(r"\s*(\d{4})-(\d{2})\s*", text)
    named = re.fullmatch(rf"\s*({MONTH}|{_SHORT})(?: (\d{{4}}))?\s*", text, re.IGNORECASE)
    if iso is None and named is None:
        return None
    number = int(iso[2]) if iso else _number_month(named[1]) if named else 0
    year = int(iso[1]) if iso else int(named[2]) if named and named[2] else 0
    if not 1 <= number <= 12:
        return None
    here = after or times[0]
    firsts = [_make_date(y, number, 1) for y in ([year] if year else range(here.year - 1, here.year + 2))]
    found = [_find_period("month", first) for first in firsts if first is not None]
    if year:
        return found[0] if found else None
    if past:
        return next((m for m in reversed(found) if m.start < here), None)
    return next(m for m in found if m.end > here)


def _read_date(
    text: str, times: pd.DatetimeIndex, before: pd.Timestamp | None = None, after: pd.Timestamp | None = None
) -> pd.Timestamp | None:
    digits = re.search(r"\d{4}[-/]\d{1,2}[-/]\d{1,2}|\d{1,2}([./])\d{1,2}\1\d{4}", text)
    if digits:
        return _read_digits(*re.split("[-./]", digits[0]), ambiguous=digits[1] == "/")
    year = re.search(r"\b(\d{4})\b", text)
    holiday = _search("|".join(NAMES), text)
    month = _search(_MONTH, text)
    rest = text.replace(year[0], "") if year else text
    number = re.search(r"(?<![\d:])(\d{1,2})(?:st|nd|rd|th)?(?![\d:])", rest)
    if holiday is None and (month is None or number is None):
        return None

    def place(at: int) -> pd.Timestamp | None:
        if holiday is not None:
            return find_holiday(holiday[0], at)
        return _make_date(at, _number_month(month[0]), int(number[1])) if month and number else None

    if year:
        return place(int(year[1]))
    middle = after or before or times[0]
    dates = [d for d in map(place, (middle.year, middle.year + 1, middle.year - 1)) if d is not None]
    if after is not None:
        return min((d for d in dates if d >= after.normalize()), default=None)
    if before is not None:
        return max((d for d in dates if d < before), default=None)
    return next((d for d in dates if abs(d - middle) < pd.Timedelta(days=183)), None)


def _read_digits(first: str, second: str, third: str, *, ambiguous: bool) -> pd.Timestamp | None:
    """Reads a date in digits; None where one country's month may be another's day."""
    if len(first) == 4:
        return _make_date(int(first), int(second), int(third))
    day, month = int(first), int(second)
    if ambiguous and day <= 12 and month <= 12 and day != month:
        return None
    if ambiguous and month > 12:
        day, month = month, day
    return _make_date(int(third), month, day)


def _list_readings(text: str) -> list[str]:
    """Returns the days that a date such as 03/04/2024 may be, the day first and the month first."""
    digits = re.search(r"(?<!\d)(\d{1,2})/(\d{1,2})/(\d{4})", text)
    if digits is None:
        return []
    first, second, year = map(int, digits.groups())
    days = (_make_date(year, month, day) for day, month in ((first, second), (second, first)))
    return list(dict.fromkeys(f"{day:%Y-%m-%d}" for day in days if day is not None))


def _make_date(year: int, month: int, day: int) -> pd.Timestamp | None:
    try:
        return pd.Timestamp(year, month, day).as_unit("ns")
    except ValueError:
        return None


def read_length(text: str) -> pd.Timedelta:
    """Reads `two hours`, `an hour`, `90 minutes`, `hour`."""
    *count, unit = text.lower().split(" ")
    said = " ".join(count)
    number = 1.0 if said in {"", "a", "an"} else 0.5 if said == "half an" else 12.0 if said == "a dozen" else 0.0
    if not number:
        known = {word: float(k) for k, word in enumerate(SMALL)} | {"twenty": 20.0, "thirty": 30.0}
        number = known[said] if said in known else float(said)
    return pd.Timedelta(seconds=number * UNITS[unit if unit in UNITS else unit.removesuffix("s")])


def _read_clock(text: str) -> pd.Timedelta | None:
    """Reads a time of day; None if a clock has none such."""
    if "past" not in text and "quarter" not in text:
        for word, hour in {"noon": 12, "midday": 12, "midnight": 0}.items():
            if word in text and "after" not in text:
                return pd.Timedelta(hours=hour)
    half = re.search(r"([ap])\.?m\b|in the (morning)|in the (afternoon|evening)|at (night)", text)
    bare = text if half is None else text[: half.start()]
    fraction = re.match(r"(?:a )?(half|quarter|five|ten|twenty-five|twenty)(?: minutes)? (past|to) (.+)", bare)
    if fraction:
        away = {"half": 30.0, "quarter": 15.0, "five": 5.0, "ten": 10.0, "twenty": 20.0, "twenty-five": 25.0}[
            fraction[1]
        ]
        parts = [_read_hour(fraction[3]), away if fraction[2] == "past" else -away]
    else:
        numbers = re.split(r"[:.]", bare.replace("o'clock", "").strip(), maxsplit=2)
        parts = [_read_hour(numbers[0]), *map(float, numbers[1:])]
    if half is not None and parts[0] <= 12:
        early = half[1] == "a" or half[2] or (half[4] and parts[0] in (12, 1, 2, 3, 4, 5))
        parts[0] = parts[0] % 12 + (0 if early else 12)
    hours, minutes, seconds = [*parts, 0.0, 0.0][:3]
    offset = pd.Timedelta(hours=hours, minutes=minutes, seconds=seconds)
    return offset if minutes < 60 and seconds < 60 and pd.Timedelta(0) <= offset <= _ONE else None


def _read_hour(text: str) -> float:
    text = text.strip()
    return float(SMALL.index(text)) if text in SMALL else float(text)
