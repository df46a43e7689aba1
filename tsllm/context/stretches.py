"""The stretches of time that a span means on the clock of a horizon."""

import re
from dataclasses import replace

import pandas as pd

from tsllm.context.effects import Effect
from tsllm.context.moments import DATE, Moment, has_date, is_clock, is_edge, resolve_moment
from tsllm.context.spans import Range, Span, is_of_clocks
from tsllm.context.vocabulary import WEEKDAY

_ONE = pd.Timedelta(days=1)


def resolve_span(span: Span, times: pd.DatetimeIndex, step: pd.Timedelta) -> list[Effect]:
    """Returns the stretches of a span as effects without a meaning (`ignore`).

    Args:
        span: As collected.
        times: The times of the horizon.
        step: From one time to the next.
    """
    if span.whole:
        return [Effect("ignore")]
    span = _join_day(span)
    ranges = _merge_open(span, times)
    clocks = [pair for pair in ranges if is_of_clocks(pair)]
    others = [pair for pair in ranges if not is_of_clocks(pair)]
    found = [resolve_moment(text, times, past=span.past) for text in span.days]
    days = [day for day in found if day is not None]
    if span.ago:
        first = times[0].normalize() - pd.Timedelta(days=span.ago)
        days.append(Moment(first, first + _ONE))
    if span.again and others:
        return _repeat_within(span, others, clocks, times)
    if clocks and others and all(all(pair) for pair in others):
        days += [day for pair in others for day in _list_days(_resolve_range(span, pair, times))]
        others = []
    if clocks and others:
        return []  # "from 3 May on from 8 to 10 am": on that day, or on each?
    if span.days and not days and clocks:
        return []  # "on Monday from 8 to 12" where no Monday is ahead is not 8 to 12 of another day
    if days and clocks:
        stretches = [s for day in days for pair in clocks for s in _resolve_range(span, pair, times, day)]
    else:
        stretches = [_last(day, span, step) for day in days]
        stretches += [s for pair in ranges for s in _resolve_range(span, pair, times)]
    return [_repeat(s, span.again, times) for s in stretches] if span.again else stretches


def _merge_open(span: Span, times: pd.DatetimeIndex) -> list[Range]:
    """Joins an end with the start behind it ("until 14:00 from 08:00")."""
    if len(span.ranges) == 2 and not span.ranges[0][0] and not span.ranges[1][1]:
        pair = (span.ranges[1][0], span.ranges[0][1])
        start, end = (resolve_moment(text, times, past=span.past) for text in pair)
        if start is not None and end is not None and start.start < end.end:
            return [pair]
    return span.ranges


def _join_day(span: Span) -> Span:
    """Joins a day with the time of day behind it where the end has its own date ("on Friday from 22:00 to Sunday")."""
    if len(span.days) != 1 or len(span.ranges) != 1 or not has_date(span.days[0]) or is_edge(span.days[0]):
        return span
    start, end = span.ranges[0]
    if not start or not is_clock(start) or not has_date(end.removeprefix("before ")) or span.again:
        return span
    return replace(span, days=[], ranges=[(f"{span.days[0]} {start}", end)])


def _last(day: Moment, span: Span, step: pd.Timedelta) -> Effect:
    until = day.end if day.end > day.start else day.start + step
    if span.length:
        until = day.start + pd.Timedelta(seconds=span.length)
    return Effect("ignore", start=day.start, end=until)


def _list_days(stretches: list[Effect]) -> list[Moment]:
    """Returns the days of stretches with a start and an end."""
    days = []
    for s in stretches:
        if s.start is not None and s.end is not None and s.end - s.start < 4000 * _ONE:
            days += [Moment(d, d + _ONE) for d in pd.date_range(s.start.normalize(), s.end - pd.Timedelta("1ns"))]
    return days


def _repeat(stretch: Effect, days: int, times: pd.DatetimeIndex) -> Effect:
    """Lets a stretch come again after some days, from the start of the horizon on."""
    if stretch.start is None or stretch.end is None or stretch.every is not None:
        return stretch
    every, start, end = days * _ONE, stretch.start, stretch.end
    if end - every > times[0]:
        start, end = start - every, end - every
    return replace(stretch, start=start, end=end, every=every)


def _repeat_within(span: Span, others: list[Range], clocks: list[Range], times: pd.DatetimeIndex) -> list[Effect]:
    """Returns each time that something comes again within a range of days."""
    if len(others) > 1 or len(clocks) > 1:
        return []
    stretches = []
    for limit in _resolve_range(replace(span, length=0.0), others[0], times):
        first = limit.start if limit.start is not None else times[0]
        last = limit.end if limit.end is not None else times[-1] + _ONE
        for day in _list_days([Effect("ignore", start=first, end=min(last, times[-1] + _ONE))]):
            if span.days and not any(d.lower().startswith(str(day.start.day_name()).lower()) for d in span.days):
                continue
            stretches += (
                _resolve_range(span, clocks[0], times, day)
                if clocks
                else [Effect("ignore", start=day.start, end=day.end)]
            )
    return stretches


def _resolve_range(span: Span, pair: Range, times: pd.DatetimeIndex, day: Moment | None = None) -> list[Effect]:
    """Returns the stretch between start and end; with a day, both are times of that day."""
    start, end = _resolve_ends(span, pair, times, None if day is None else day.start)
    if (pair[0] and start is None) or (pair[1] and end is None):
        return []
    first, last = _join(start, end, span.length)
    if first is None and last is None:
        return []
    if span.past and first and last and last > times[0] and re.search(WEEKDAY, pair[1]):
        first, last = first - 7 * _ONE, last - 7 * _ONE  # a past span ends before the forecast
    if day is not None:
        first, last = first if first is not None else day.start, last if last is not None else day.end
    if first is not None and last is not None and last <= first:
        return []
    every = pd.Timedelta(seconds=span.every) if span.every and first is not None and last is not None else None
    return [Effect("ignore", start=first, end=last, every=every)]


def _resolve_ends(
    span: Span, pair: Range, times: pd.DatetimeIndex, on: pd.Timestamp | None
) -> tuple[Moment | None, Moment | None]:
    """Resolves start and end, the one that says more first."""
    if pair[0] and pair[1] and on is None and _says_more(pair[1], pair[0]):
        end = _end(pair[1], times, None, None, span.past)
        if end is None:
            return None, None
        limit = end.start if end.end == end.start else end.end - pd.Timedelta("1ns")
        return resolve_moment(pair[0], times, before=limit, past=span.past), end
    start = resolve_moment(pair[0], times, on=on, past=span.past) if pair[0] else None
    if not pair[1]:
        return start, None
    return start, _end(pair[1], times, start.start if start else None, on, span.past)


def _end(
    text: str, times: pd.DatetimeIndex, after: pd.Timestamp | None, on: pd.Timestamp | None, past: bool
) -> Moment | None:
    end = resolve_moment(text, times, after, on=on, past=past)
    if end is not None and re.search(r"\bmidnight\b", text, re.IGNORECASE) and has_date(text):
        return end.shift(_ONE)  # until midnight on Friday: the whole of it
    return end


def _says_more(end: str, start: str) -> bool:
    """Tells whether an end has the day or the year that its start leaves out: "from 8 am to 10 am on Friday"."""
    if is_clock(start):
        return (
            has_date(end) and re.search(r"\d:\d|\b[ap]\.?m\b|o'clock|noon|midday|midnight|\bpast\b", end) is not None
        )
    dates = [re.search(DATE, text, re.IGNORECASE) for text in (start, end)]
    if dates[1] is None:
        return False
    if dates[0] is None:
        return (
            re.search(WEEKDAY, start, re.IGNORECASE) is not None and re.search(WEEKDAY, end, re.IGNORECASE) is not None
        )
    return re.search(r"\d{4}", dates[0][0]) is None and re.search(r"\d{4}", dates[1][0]) is not None


def _join(start: Moment | None, end: Moment | None, length: float) -> tuple[pd.Timestamp | None, pd.Timestamp | None]:
    first = start.start if start else None
    last = end.end if end else None
    if length and first is not None and last is None:
        last = first + pd.Timedelta(seconds=length)
    if length and first is None and last is not None:
        first = last - pd.Timedelta(seconds=length)
    return first, last
