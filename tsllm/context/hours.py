"""Hours without a sign of the clock ("from 8 to 14"), where the sentence leaves no doubt that they are hours."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tsllm.context.vocabulary import FALLS, MONTH, RISES, WEEKDAY

_HOUR = r"(?:[01]?\d|2[0-4])"
_SIDE = r"(?: in the (?:morning|afternoon|evening)| at night)"
_SIGN = r"(?: ?h\b| hours\b| o'clock\b)"
_JOIN = r"(?: ?[-–—] ?| (?:to|and|until|till?) )"
_NAMED = r"(?:noon|midday|midnight|\d{1,2} o'clock)"
_END = (
    r"(?=\s*(?:$|[.,;:!?)])|\s+(?:on|every|each|daily|this|next|today|tomorrow|because|due|since|and|but|the|while|"
    rf"all|{WEEKDAY}|\d{{1,2}} (?:{MONTH})|(?:{MONTH}) \d{{1,2}}|\d{{4}}-)\b)"
)
_BARE = re.compile(
    rf"\b(?:from|between) {_HOUR}(?: ?[-–—] ?| (?:to|and|until|till) ){_HOUR}\b(?![\d%]|[.:]\d| %)"
    rf"|\b(?:at|from|until|till|after|before) {_HOUR}(?= on\b| onwards?\b|,|\.?$)",
    re.IGNORECASE,
)
_SPAN = re.compile(
    rf"\b(?:from|between) (?P<first>{_HOUR})(?P<side>{_SIDE})?{_JOIN}"
    rf"(?:(?P<named>{_NAMED})|(?P<last>{_HOUR})(?P<end>{_SIDE})?(?P<sign>{_SIGN})?)(?![\d%]|[.:/]\d| ?%|"
    rf" ?[ap]\.?m\b){_END}"
    rf"|(?:(?<=, )|(?<=\()|(?<=^)|(?<=[a-z] ))(?P<from>{_HOUR}) ?[-–—] ?(?P<to>{_HOUR})(?P<h>{_SIGN}){_END}"
    rf"|\b(?:{WEEKDAY}|tomorrow|today),? (?P<since>{_HOUR}){_JOIN}(?P<till>{_HOUR})(?![\d%]|[.:/]\d| ?%|"
    rf" ?[ap]\.?m\b){_END}",
    re.IGNORECASE,
)
# What in front of them makes them amounts.
_AMOUNTS = re.compile(
    r"\b(?:is|are|be|lies?|lie|var(?:y|ies)|ranges?|stays?|remains?|values?|prices?|of|to|by|at|with|ages?|aged|"
    r"children|people|lines?|(?<!\d )units?|sections?|numbers?|rooms?|pages?|for|lasts?|takes?|about|within|go|goes|"
    r"moves?|changes?|"
    rf"costs?|fluctuat\w+|shifts?|{RISES}|{FALLS}) $", re.IGNORECASE,
)  # fmt: skip
_LEFT = re.compile(r"\bto [\d.,]+ ?\w* $", re.IGNORECASE)
_CHANGES = re.compile(rf"\b(?:{RISES}|{FALLS}|goes|go|moves?|changes?|var(?:y|ies)|ranges?)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Hours:
    """Bare numbers that look like hours.

    Attributes:
        place: In the sentence.
        pair: The times of day, as they are understood; empty = they may be amounts, or name no half of the day.
    """

    place: tuple[int, int]
    pair: tuple[str, str] | None = None


def find_hours(sentence: str, values: Sequence[tuple[int, int]] = (), states: bool = False) -> Hours | None:
    """Finds the first span of bare numbers that may be hours of a day.

    They are hours where one of them is over 12, or says which half of the day it is of, and nothing makes them
    amounts: no unit behind, and no verb of change whose amount they could be.

    Args:
        sentence: One sentence.
        values: Places of the numbers that play a part.
        states: Whether the sentence states something without a number.

    Example:
        >>> find_hours("It is closed from 8 to 14.").pair
        ('8:00', '14:00')
        >>> find_hours("It is closed from 8 to 10.").pair, find_hours("It falls from 14 to 8.").pair
        (None, None)
    """
    found, bare = _SPAN.search(sentence), _BARE.search(sentence)
    if bare is not None and _LEFT.search(sentence[: bare.start()]):
        bare = None  # "drops to 14 from 20"
    if found is None:
        return Hours(bare.span()) if bare is not None else None
    place = (found.start("since") if found["since"] else found.start(), found.end())
    front = sentence[: place[0]]
    inside = any(place[0] <= first < place[1] for first, _ in values)
    told = states or any(not place[0] <= first < place[1] for first, _ in values)
    clause = re.split(r"[;:]", front)[-1]
    amounts = _AMOUNTS.search(front) or inside or (_CHANGES.search(clause) and not told)
    pair = None if amounts else _read(found)
    if pair is None and bare is None and not found["named"] and not found["since"]:
        return None
    return Hours(place, pair)


def _read(found: re.Match[str]) -> tuple[str, str] | None:
    """Returns the times of day of a span; None where the half of the day remains open."""
    if found["since"]:
        return _order(f"{found['since']}:00", f"{found['till']}:00", False)
    if found["h"]:
        return _order(f"{found['from']}:00", f"{found['to']}:00", True)
    first = f"{found['first']}:00{found['side'] or ''}"
    if found["named"]:
        sure = found["side"] or found["named"].lower() != "midnight" or int(found["first"]) > 12
        return (first, found["named"]) if sure else None
    last = f"{found['last']}:00{found['end'] or ''}"
    if found["side"] or found["end"]:
        return (first, last) if (found["side"] or int(found["first"]) > 12) and found["end"] else None
    return _order(first, last, bool(found["sign"]) or found["first"].startswith("0"))


def _order(first: str, last: str, sure: bool) -> tuple[str, str] | None:
    """Returns hours of the 24-hour clock, which one over 12 or a sign shows; "8 to 5 h" may end in the afternoon."""
    start, end = int(first.split(":")[0]), int(last.split(":")[0])
    if start == end or (max(start, end) <= 12 and not (sure and start < end)):
        return None
    return first, last
