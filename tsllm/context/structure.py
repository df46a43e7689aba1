"""Reads what texts give as data rather than prose: tables, histories of a companion, states, yearly statistics.

No language model is needed for these forms, so they are read the same way whoever reads the sentences.
"""

import re

import numpy as np
import pandas as pd
from pandas.tseries.holiday import USFederalHolidayCalendar

from tsllm.context.effects import MONTHS, Effect
from tsllm.context.vocabulary import MONTH

_NUMBER = r"[-−]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?"
_DATE = r"\d{4}-\d{2}-\d{2}(?:[ T]\d{2}:\d{2}(?::\d{2})?)?"
_CLOCK = r"\d{1,2}:\d{2}(?::\d{2})?"
_MOMENT = rf"(?:{_DATE}|{_CLOCK})"
_PAIR = re.compile(rf"^[(\[*\-• ]*({_DATE}|\d{{4}}-\d{{2}})[,:;=| \t]+\s*({_NUMBER})\s*[)\]]?,?$", re.MULTILINE)
_PIECE = re.compile(
    rf"({_NUMBER})(?: (?:from|between) ({_MOMENT}))? (?:until|to|till|and) ({_MOMENT})", re.IGNORECASE
)  # fmt: skip
_STATE = re.compile(
    rf"^(?:At|From|On|Since) ({_DATE}),? .*?"
    r"\b(?:became|become|turned|turn|is|was|switched to|be)\b ([a-z][a-z -]*?)\.?$",
    re.MULTILINE,
)  # fmt: skip
_FIRST_STATE = re.compile(r"At the (?:beginning|start)[^.\n]*?\b(?:was|is)\b ([a-z][a-z -]*?)\.", re.IGNORECASE)
_YEARLY = (
    re.compile(rf"yearly average[^.]*?\b(?:was|is|of) ({_NUMBER})", re.IGNORECASE),
    re.compile(rf"average(?: of)?[^.]*?({_NUMBER})[^.\d]*?(?:per|a|each|every) year", re.IGNORECASE),
    re.compile(rf"({_NUMBER})[^.\d]*?(?:per|a|each) year on average", re.IGNORECASE),
)
_PEAK = re.compile(
    rf"month with (?:the )?(?:most|highest|largest)[^.]*?({MONTH})|"
    rf"(?:peaks?|most (?:often|frequent)[^.]*?|highest)[^.]*? in ({MONTH})", re.IGNORECASE,
)  # fmt: skip
_ANCHOR = re.compile(
    rf"\b(?:at|with) (?:full|maximum|max|maximal|100 ?%)[^.]*?\(?= ?({_NUMBER})\)?[^.]*?({_NUMBER})(?=[^.\d]*\.)",
    re.IGNORECASE,
)  # fmt: skip
_MONTHLY = re.compile(rf"\b({MONTH})\b ?[:=(\-] ?({_NUMBER})\)?", re.IGNORECASE)
_VARIABLE = re.compile(r"\b[A-Za-z]+_\d+\b|\b(?:covariate|variable) [A-Z]\b")
_SUNRISE = re.compile(rf"(?:sunrise|sun (?:will )?rises?)[^.\d]*({_CLOCK})", re.IGNORECASE)
_SUNSET = re.compile(rf"(?:sunset|(?:sun (?:will )?|and )sets?)[^.\d]*({_CLOCK})", re.IGNORECASE)
_SUN = re.compile(r"sunlight|solar|irradiance|photovoltaic|\bPV\b", re.IGNORECASE)
_LESS_ON_HOLIDAYS = re.compile(r"(?:reduc|drop|fall|lower|less|decreas)\w*[^.]*\bholidays?\b", re.IGNORECASE)
_US = re.compile(
    r"\bU\.?S\.?A?\b|United States|America|California|San Francisco|New York|Texas|Florida", re.IGNORECASE
)


def read_structure(text: str, times: pd.DatetimeIndex, past_times: pd.DatetimeIndex) -> tuple[list[Effect], str]:
    """Reads tables and statistics.

    Args:
        text: The text.
        times: The times of the horizon.
        past_times: The times of the history.

    Returns:
        Their effects, and the text without the lines and pieces that were read, for a reader of prose.
    """
    effects: list[Effect] = []
    whole = pd.DatetimeIndex(past_times.append(times))
    for reader in (_read_pairs, _read_states, _read_pieces, _read_months):
        found, text = reader(text, whole, times[0])
        effects += found
    effects += _read_yearly(text)
    if _SUN.search(text) and not effects:
        rise, fall = _SUNRISE.search(text), _SUNSET.search(text)
        span = [_find_moment(m[1], times) for m in (rise, fall) if m is not None]
        known = len(span) == 2 and span[0] < span[1]
        effects.append(Effect("daylight", start=span[0], end=span[1]) if known else Effect("daylight"))
    if _LESS_ON_HOLIDAYS.search(text) and _US.search(text):
        days = USFederalHolidayCalendar().holidays(times[0].normalize(), times[-1].normalize())
        effects += [Effect("like", None, "Sunday", day, day + pd.Timedelta(days=1)) for day in days]
    return effects, text


def _read_pairs(text: str, times: pd.DatetimeIndex, ahead: pd.Timestamp) -> tuple[list[Effect], str]:
    """Reads lines `(time, value)`: a new table begins where time goes back; older tables are moved."""
    tables: list[list[tuple[pd.Timestamp, float | str]]] = []
    for time, value in _PAIR.findall(text):
        point = (pd.Timestamp(time), float(value.replace("−", "-")))
        if not tables or point[0] <= tables[-1][-1][0]:
            tables.append([])
        tables[-1].append(point)
    moved = [_move(table, times, ahead) for table in tables if len(table) >= 3]
    effects = [Effect("follow", None, f"table {k}", points=tuple(t)) for k, t in enumerate(moved, 1) if t]
    return (effects, _PAIR.sub("", text)) if effects else ([], text)


def _move(
    points: list[tuple[pd.Timestamp, float | str]], times: pd.DatetimeIndex, ahead: pd.Timestamp
) -> list[tuple[pd.Timestamp, float | str]]:
    """Returns points about the horizon, moved by whole days or years if they are of earlier ones."""
    gap = (points[-1][0] - points[0][0]) / (len(points) - 1)
    last = times[-1]
    if points[-1][0] + gap > ahead + (last - ahead) / 2 and points[0][0] < last:
        return points
    if points[0][0] > last:
        return []
    if gap < pd.Timedelta(days=1):
        offset = pd.DateOffset(days=-((points[-1][0].normalize() - last.normalize()).days))
    else:
        offset = pd.DateOffset(years=max(1, round((last - points[-1][0]).days / 365.25)))
    moved = [(time + offset, value) for time, value in points]
    return moved if moved[0][0] <= ahead and moved[-1][0] + gap >= last else []


def _read_months(text: str, times: pd.DatetimeIndex, _: pd.Timestamp) -> tuple[list[Effect], str]:
    """Reads lists `January: 12, February: 9, ...` of at least half a year as a curve over the year."""
    found = {month.capitalize(): float(value) for month, value in _MONTHLY.findall(text)}
    if len(found) < 6 or len({t.month for t in times} - {MONTHS.index(m) + 1 for m in found}) > 0:
        return [], text
    points = tuple((time, found[MONTHS[time.month - 1]]) for time in times)
    return [Effect("follow", None, "months", points=points)], _MONTHLY.sub("", text)


def _read_pieces(text: str, times: pd.DatetimeIndex, ahead: pd.Timestamp) -> tuple[list[Effect], str]:
    """Reads lists `0.1 from A until B, 0.2 from B until C`, one for each variable that is named before them."""
    groups: dict[str, list[tuple[pd.Timestamp, float | str]]] = {}
    found = list(_PIECE.finditer(text))
    if len(found) < 2:
        return [], text
    for match in found:
        named = _VARIABLE.findall(text[: match.start()])
        start = times[0] if match[2] is None else _find_moment(match[2], times)
        groups.setdefault(named[-1] if named else "covariate", []).append((start, float(match[1].replace("−", "-"))))
    effects = []
    for name, points in groups.items():
        ordered = sorted(dict(points).items())
        if len(ordered) >= 2 and ordered[-1][0] >= ahead - (ahead - times[0]) / 2:
            effects.append(Effect("follow", None, name, points=tuple(ordered)))
    return ([*effects, *_read_anchor(text)], _PIECE.sub("", text)) if effects else ([], text)


def _read_anchor(text: str) -> list[Effect]:
    """Reads what the series comes to at the companion's own largest value: `at full load (=1) ... of 3000`."""
    match = _ANCHOR.search(text)
    return [] if match is None else [Effect("through", float(match[2]), str(float(match[1])))]


def _find_moment(text: str, times: pd.DatetimeIndex) -> pd.Timestamp:
    if re.fullmatch(_CLOCK, text):
        moment = times[0].normalize() + pd.Timedelta(text if text.count(":") == 2 else f"{text}:00")
        return moment if moment >= times[0] else moment + pd.Timedelta(days=1)
    return pd.Timestamp(text)


def _read_states(text: str, times: pd.DatetimeIndex, _: pd.Timestamp) -> tuple[list[Effect], str]:
    """Reads lines `At TIME, the weather became WORD`."""
    points: list[tuple[pd.Timestamp, float | str]] = [
        (pd.Timestamp(t), " ".join(w.split())) for t, w in _STATE.findall(text)
    ]
    if len(points) < 2:
        return [], text
    first = _FIRST_STATE.search(text)
    if first is not None:
        points.insert(0, (times[0], " ".join(first[1].split())))
    points = sorted(dict(points).items())
    return [Effect("states", None, "state", points=tuple(points))], _STATE.sub("", text)


def _read_yearly(text: str) -> list[Effect]:
    matches = [pattern.search(text) for pattern in _YEARLY]
    found = next((m for m in matches if m is not None), None)
    if found is None or not np.isfinite(float(found[1])):
        return []
    peak = _PEAK.search(text)
    effects = [Effect("total", float(found[1]))]
    if peak is not None:
        effects.append(Effect("peak", None, str(peak[1] or peak[2]).capitalize()))
    return effects
