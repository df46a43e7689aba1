"""Another series as a list of times and values in prose, for a reader that says no more than its name."""

import re

import pandas as pd

from tsllm.context.effects import NAME

_NUMBER = r"[-−]?\d+(?:\.\d+)?"
_TIME = r"\d{4}-\d{2}-\d{2}(?:[ T]\d{2}:\d{2}(?::\d{2})?)?"
_FORMS = (
    re.compile(rf"(?P<v>{_NUMBER}) at (?P<t>{_TIME})"),
    re.compile(rf"(?P<t>{_TIME})(?:=|: |, | )(?P<v>{_NUMBER})(?![\d:-])"),
)
_LEAST = 3  # points that are a list
_NEAR = 24  # words before a list, among which its name is looked for


def find_points(text: str) -> tuple[tuple[pd.Timestamp, float], ...]:
    """Returns the times and values of the longest list of a text, sorted; none where it has no three in a row.

    >>> find_points("Load follows wind: 2024-01-01=3, 2024-01-02=4.5, 2024-01-03=1")[1]
    (Timestamp('2024-01-02 00:00:00'), 4.5)
    """
    return tuple(sorted({pd.Timestamp(m["t"]): float(m["v"].replace("−", "-")) for m in _find(text)}.items()))


def find_names(text: str) -> tuple[str, ...]:
    """Returns the words before a list of times and values, of which some name what is listed; none without a list.

    >>> find_names("Load follows wind: 2024-01-01=3, 2024-01-02=4.5, 2024-01-03=1")
    ('Load', 'follows', 'wind')
    """
    found = _find(text)
    if not found:
        return ()
    words = [word.strip(".,:;()\"'") for word in text[: found[0].start()].split()][-_NEAR:]
    return tuple(word for word in words if re.fullmatch(NAME.pattern, word))


def drop_points(text: str) -> str:
    """Returns a text without the times and values of its list.

    >>> drop_points("Load follows wind: 2024-01-01=3, 2024-01-02=4.5, 2024-01-03=1. It rains.")
    'Load follows wind: . It rains.'
    """
    found = _find(text)
    return text if not found else text[: found[0].start()] + text[found[-1].end() :]


def _find(text: str) -> list[re.Match[str]]:
    for form in _FORMS:
        found = list(form.finditer(text))
        if len(found) >= _LEAST:
            return found
    return []
