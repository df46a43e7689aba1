"""When the sentences of a text say that something is: their moments and durations as stretches of time.

What cannot be read exactly ("at night", "every second week", "all days but Friday", two values at two times in one
sentence) has a fault, in words: nothing is better than a wrong stretch.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pandas as pd

from tsllm.context.hours import find_hours
from tsllm.context.lexer import Mention
from tsllm.context.moments import counts_ahead, find_fault, has_date, is_clock, is_edge, resolve_moment
from tsllm.context.returns import returns_at, speaks_of_it
from tsllm.context.vague import MEANWHILE, VAGUE
from tsllm.context.vocabulary import MONTH, WEEKDAY

Range = tuple[str, str]  # the moments at which a stretch begins and ends; empty = it is open
_ONE = pd.Timedelta(days=1)
# Words and verbs that tell of the past, unless a verb of the sentence speaks of now or later.
_BEFORE = re.compile(
    rf"\byesterday\b|\bago\b|\b(?:last|previous) (?:week|month|year|night|time|spring|summer|autumn|fall|winter|"
    rf"{WEEKDAY}|{MONTH})\b|\bearlier (?:this|in)\b|\bformerly\b|\bin the past\b|\bhistorically\b", re.IGNORECASE,
)  # fmt: skip
_WAS = re.compile(
    r"\b(?:was|were|had|did|fell|rose|grew|sank|shrank|went|came|saw|took|dropped|declined|climbed|jumped|surged|"
    r"slumped|"
    r"reached|amounted|occurred|happened|lasted|doubled|halved|tripled)\b", re.IGNORECASE,
)  # fmt: skip
_IS = re.compile(
    r"\b(?:is|are|be|has|have|will|shall|can|cannot|may|must|would|should|expect(?:ed)?|planned|scheduled|"
    r"tomorrow|next|"
    r"consider|suppose|assume|imagine)\b|\w+ing to\b", re.IGNORECASE,
)  # fmt: skip
_YEAR = re.compile(r"\b(?:in|during|of|since) ((?:19|20)\d\d)\b(?!-)", re.IGNORECASE)
LAST = re.compile(r"\b(?:last|previous|past) $", re.IGNORECASE)
_SIDE = re.compile(r"\b(?:(?P<before>before|prior to)|after)(?: the)? $", re.IGNORECASE)
_EVERY = re.compile(r"\b(?:every|each) $", re.IGNORECASE)
_PLURAL = re.compile(rf"(?:{WEEKDAY})s|weekends", re.IGNORECASE)
_DAILY = re.compile(
    r"\b(?:every|each) day\b(?! (?:from|since|until) \x01$)|\bdaily(?=,| (?:from|between|at|for)\b|\.?$)|"
    r"\bday (?:by|after) day\b", re.IGNORECASE,
)  # fmt: skip
# What says when something is, beside moments (\x01) and durations (\x02, or \x03 where none plays a part), unread.
_UNREAD = re.compile(
    r"\b(?:every|each) (?:other|second|third|fourth|fifth|few|hour|minute|week|weekend|month|quarter|year|morning|"
    r"afternoon|evening|night)\b"
    r"|\b(?:overnight|nightly|(?:at|by) night|during the (?:day|night)|mornings|afternoons|evenings|nights|"
    r"(?:in|during|throughout) the (?:early |late )?(?:morning|afternoon|evening|night)|(?:day|night)-?time)\b"
    r"|\b(?:on |during |at )?(?:weekdays|workdays|(?:working|business|school) days)\b"
    r"|\b(?:on|during) (?:public |bank )?holidays\b"
    r"|\brest of the (?:morning|afternoon|evening|week|month|year|night)\b"
    r"|\b(?:after|before|around|during|at|over|until|till|from|since) (?:breakfast|lunch(?:time)?|dinner|sunrise|"
    r"sunset|dawn|"
    r"dusk|closing time)\b|\b(?:business|working|office|opening|peak|off-peak|rush) hours?\b"
    r"|(?<!\w)\x01(?: ?[-–—] ?| to | until | till | through )\d[\d:]*\b(?! ?%)"
    r"|\b(?:except|excepting|excluding|apart from|other than|but not|but)(?: for| on| in| at| the)* \x01"
    r"|\b(?:early|late|mid|some ?time|shortly|just)[ -](?:on |in |before |after |the )*\x01"
    r"|(?:\x03|hours?|days?|weeks?|months?) (?:before|after) (?:the )?\x01|\x03 from (?:the )?\x01"
    r"|\x01(?: ?[-–—] ?| (?:to|until|till|through) )\x01(?: ?[-–—] ?| (?:to|until|till|through) )\x01"
    r"|\b(?:first|second|third|last|latter) (?:half|third|quarter|part|days?|weeks?|hours?) of\b",
    re.IGNORECASE,
)  # fmt: skip
_WHOLE = re.compile(
    r"\bfrom now on(?:wards?)?\b|\bas of now\b|\bwith immediate effect\b|\buntil further notice\b|\bpermanently\b|"
    r"\bindefinitely\b|\bfor good\b|\b(?:the )?whole time\b|"
    r"\b(?:during|over|for|throughout) the (?:(?:whole|entire|full) )?(?:forecast(?:ing)? )?(?:horizon|forecast|"
    r"period)\b",
    re.IGNORECASE,
)  # fmt: skip
_WEEKEND = re.compile(r"\b(?:(?:all|the (?:whole|entire)) |all of the )weekend\b", re.IGNORECASE)
_REST = re.compile(r"\brest of the day\b", re.IGNORECASE)
_HEAD = re.compile(r"\b(first|last|final) $", re.IGNORECASE)
_SOON = re.compile(r"\b(?:in|within|after) \x03(?! of\b)", re.IGNORECASE)


@dataclass
class Span:
    """The moments and durations of one sentence, as they are said.

    Attributes:
        ranges: Where stretches begin and end.
        days: Moments that are stretches of their own.
        length: Seconds that it lasts.
        every: Seconds after which it comes again, by a duration.
        again: Days after which it comes again, by words ("every Monday", "daily").
        delay: Seconds that something comes late.
        past: Whether the sentence tells of the past.
        before: The same by a word that says when, so that it takes no span from its neighbours.
        ago: Days since then, where the sentence counts them.
        unread: What says when, and was not read; empty = nothing.
        soon: The same, of words that may well say how fast ("within two days").
        vague: A season, holidays and the like, which have no dates of their own; a date beside them says which time is
            meant.
        meanwhile: The same of what the text may have dated before ("during the fair").
        whole: Whether it says outright that it is about all of the time ("until further notice").
        loose: What of its times is no moment of the text ("from 8 to 14"); empty = nothing.
        back: Whether it says no more than when all is as before.
    """

    ranges: list[Range] = field(default_factory=list)
    days: list[str] = field(default_factory=list)
    length: float = 0.0
    every: float = 0.0
    again: int = 0
    delay: float = 0.0
    past: bool = False
    before: bool = False
    ago: float = 0.0
    unread: str = ""
    soon: str = ""
    vague: str = ""
    meanwhile: str = ""
    whole: bool = False
    loose: str = ""
    back: bool = False

    def __bool__(self) -> bool:
        return bool(self.ranges or self.days or self.ago or self.unread or self.whole)

    @property
    def texts(self) -> list[str]:
        """Its moments."""
        return [*self.days, *(text for pair in self.ranges for text in pair if text)]


def collect_span(
    text: str, inside: Sequence[tuple[Mention, str]], mentions: Sequence[Mention], place: tuple[int, int], year: int,
    states: bool = False,
) -> Span:  # fmt: skip
    """Returns what a sentence says of when something is.

    Args:
        text: The whole text.
        inside: The sentence's mentions that play a part, with their roles.
        mentions: All of its mentions.
        place: Of the sentence.
        year: Of the forecast.
        states: Whether the sentence states something without a number.
    """
    sentence = text[place[0] : place[1]]
    past, before = tells_of_past(sentence, year)
    span = Span(past=past, before=before, ago=_count_days(text, mentions, place))
    values = [(m.start - place[0], m.end - place[0]) for m, _ in inside if m.kind not in {"moment", "duration"}]
    hours = find_hours(sentence, values, states)
    clear = (0, 0) if hours is None or not hours.pair else (place[0] + hours.place[0], place[0] + hours.place[1])
    masked = _mask(text, mentions, place, [m for m, _ in inside], clear)
    for mention, role in inside:
        if clear[0] <= mention.start < clear[1]:
            continue
        if mention.kind == "duration":
            setattr(span, role, mention.value)
        elif mention.kind == "moment":
            front = text[place[0] : mention.start]
            if comes_again(mention, front):
                span.again = 7
            back = role == "end" and returns_at(text, mention, place)
            span.back |= back
            _add_moment(span, f"last {mention.meaning}" if LAST.search(front) else mention.meaning, role, front, back)
    if hours is not None and hours.pair:
        # "From 6 in the morning until noon on Friday" ends with a moment of its own.
        ends = [m.meaning for m, _ in inside if m.kind == "moment" and clear[0] <= m.start < clear[1] < m.end]
        span.ranges.append((hours.pair[0], ends[0]) if ends else hours.pair)
        span.loose = sentence[slice(*hours.place)]
    span.back &= not span.days and len(span.ranges) == 1 and not span.ranges[0][0] and not values and not states
    _add_unsaid(span, text, mentions, place, bool(values) or states)
    if span.again and any(_PLURAL.search(t) for pair in span.ranges for t in pair):
        span.unread = "Mondays to Fridays"
    if _DAILY.search(masked):
        span.again = span.again or 1
    if found := _UNREAD.search(masked):
        span.unread = _unmask(found, mentions, place)
    if found := _SOON.search(masked):
        span.soon = _unmask(found, mentions, place)
    if found := VAGUE.search(masked):
        span.vague = _unmask(found, mentions, place)
    elif found := MEANWHILE.search(masked):
        span.meanwhile = _unmask(found, mentions, place)
    return span


def comes_again(mention: Mention, front: str) -> bool:
    """Tells whether a moment is meant again and again ("Mondays", "every Monday"); `front` stands before it."""
    return bool(_PLURAL.fullmatch(mention.text) or _EVERY.search(front))


def _add_unsaid(span: Span, text: str, mentions: Sequence[Mention], place: tuple[int, int], acts: bool) -> None:
    """Adds what says when without a moment of its own: "all weekend", "the first three hours", "until further notice".

    Where a sentence has no effect itself (`acts`), "the first 128 days" may be those of anything, and are not read.
    """
    sentence = text[place[0] : place[1]]
    for m in [m for m in mentions if acts and m.kind == "duration" and place[0] <= m.start and m.end <= place[1]]:
        head = _HEAD.search(text[place[0] : m.start])
        if head and not re.match(r" (?:of|before|after)\b", text[m.end : place[1]]):
            _add_head(span, head[1].lower().replace("final", "last"), m.text)
    if found := _WEEKEND.search(sentence):
        span.days.append("weekend")
        span.loose = found[0]
    if found := _REST.search(sentence):
        span.loose = found[0]
        open_ = len(span.ranges) == 1 and not span.ranges[0][1] and is_clock(span.ranges[0][0])
        if not span.texts:
            span.ranges.append(("", "end of the day"))
        elif open_ and not span.days:
            span.ranges = [(span.ranges[0][0], "end of the day")]
        elif not open_:
            span.unread = found[0]
    span.whole = acts and not span.past and not span.texts and _WHOLE.search(sentence) is not None


def _add_head(span: Span, side: str, length: str) -> None:
    """Adds "the first three hours", of the day that the sentence names, else of the forecast."""
    if side == "last" and span.past:
        return  # "in the last three hours" has been
    span.loose = f"{side} {length}"
    if len(span.days) == 1 and not span.ranges and has_date(span.days[0]) and not is_edge(span.days[0]):
        span.days = [f"{side} {length} of {span.days[0]}"]
    elif not span.texts and side == "first":
        span.days = [f"first {length} of the forecast"]
    else:
        span.unread = span.loose


def _add_moment(span: Span, said: str, role: str, front: str, back: bool) -> None:
    side = _SIDE.search(front)
    if role == "day":
        span.days.append(said)
        return
    if back and not is_clock(said):
        said = f"before {said}"
    elif side is not None and not is_clock(said):
        said = f"{'before' if side['before'] else 'after'} {said}"
    if role == "start":
        span.ranges.append((said, ""))
    elif span.ranges and not span.ranges[-1][1]:
        span.ranges[-1] = (span.ranges[-1][0], said)
    else:
        span.ranges.append(("", said))


def _mask(
    text: str, mentions: Sequence[Mention], place: tuple[int, int], used: Sequence[Mention], clear: tuple[int, int]
) -> str:
    """Returns a sentence with a character for each moment (1) and duration (2, or 3 where it plays no part).

    What is `clear` is read already, and blank but for its first word.
    """
    first = re.match(r"[a-z]*", text[slice(*clear)], re.IGNORECASE)
    kept = clear[0] + (first.end() if first else 0)
    text = text[:kept] + re.sub(r"\S", "_", text[kept : clear[1]]) + text[clear[1] :]
    parts, last = [], place[0]
    for m in mentions:
        if m.kind in {"moment", "duration"} and place[0] <= m.start and m.end <= place[1]:
            parts += [text[last : m.start], "\x01" if m.kind == "moment" else "\x02" if m in used else "\x03"]
            last = m.end
    return "".join([*parts, text[last : place[1]]])


def _unmask(match: re.Match[str], mentions: Sequence[Mention], place: tuple[int, int]) -> str:
    """Returns the words that a match in a masked sentence stands for."""
    said = [m.text for m in mentions if m.kind in {"moment", "duration"} and place[0] <= m.start and m.end <= place[1]]
    words = iter(said[len(re.findall("[\x01-\x03]", match.string[: match.start()])) :])
    return re.sub("[\x01-\x03]", lambda _: next(words), match[0]).strip()


def borrow_span(spans: Sequence[Span], free: Sequence[bool], k: int) -> Span:
    """Returns the span that a sentence without one takes: of the nearest before, then behind, that is free.

    "The next two days" are about what their own sentence says.
    """
    order = [j for j in [*range(k - 1, -1, -1), *range(k + 1, len(spans))] if spans[j] and free[j]]
    order = [j for j in order if not spans[j].texts or not all(map(counts_ahead, spans[j].texts))]
    span = spans[order[0]] if order else Span(soon=spans[k].soon, meanwhile=spans[k].meanwhile)
    if span and spans[k].length and not span.length and not any(end for _, end in span.ranges):
        span = replace(span, length=spans[k].length)
    if not span and spans[k].again:
        return spans[k]
    return span


def join_returns(spans: Sequence[Span], free: Sequence[bool], sentences: Sequence[str]) -> list[Span]:
    """Ends what a sentence tells where the next one says that all is as before ("It reopens on Sunday.").

    A return that is about something else ("The boss is back on Sunday.") says nothing of the times of others.

    Args:
        spans: Of the sentences.
        free: Whether a sentence has no effect of its own.
        sentences: As they stand.
    """
    joined = list(spans)
    for k in [k for k, span in enumerate(spans) if span.back and free[k] and len(spans) > 1]:
        around = " ".join(sentences[j] for j in (k - 1, k + 1) if 0 <= j < len(sentences))
        if not speaks_of_it(sentences[k], around):
            joined[k] = Span(past=joined[k].past)
            continue
        before, end = joined[k - 1], joined[k].ranges[-1][1]
        if k == 0 or free[k - 1] or before.again or before.length or before.unread:
            continue
        if len(before.ranges) == 1 and not before.ranges[0][1]:
            joined[k - 1] = replace(before, ranges=[(before.ranges[0][0], end)])
        elif len(before.days) == 1 and not before.ranges:
            joined[k - 1] = replace(before, days=[], ranges=[(before.days[0], end)])
    return joined


def tells_of_past(sentence: str, year: int) -> tuple[bool, bool]:
    """Tells by its words whether a sentence is about what has been, and whether it says when ("last week", "in 2019").

    Args:
        sentence: One sentence.
        year: Of the forecast; an earlier one lies in the past.
    """
    if _IS.search(sentence):
        return False, False
    before = bool(_BEFORE.search(sentence)) or any(int(y) < year for y in _YEAR.findall(sentence))
    return before or bool(_WAS.search(sentence)), before


def _count_days(text: str, mentions: Sequence[Mention], place: tuple[int, int]) -> float:
    """Returns the days of "three days ago"; 0 where a sentence says none, or weeks and more, which name no day."""
    for m in mentions:
        inside = m.kind == "duration" and place[0] <= m.start and m.end <= place[1]
        if inside and re.match(r" ago\b", text[m.end : place[1]]) and m.value % 86400 == 0 and m.value < 604800:
            return m.value / 86400
    return 0.0


def find_reason(span: Span, sentence: str, several: bool, times: pd.DatetimeIndex) -> str:
    """Says why a span is not read, or not at this horizon; empty if it is.

    Args:
        span: Of the sentence.
        sentence: The sentence.
        several: Whether it gives several values of a kind, or states something without one.
        times: The times of the horizon.
    """
    unread = span.unread or (span.soon or span.vague or span.meanwhile if not span else "")
    if unread:
        return f"{unread!r} names no exact time; write dates and hours"
    for text in span.texts:
        if fault := find_fault(text, times):
            return fault
    for text in span.days:
        if is_edge(text):
            return f"how long it is at {text!r} is left open; write from when until when"
    years = [int(year) for year in _YEAR.findall(sentence)]
    if years and not span.texts and min(years) > times[-1].year:
        return f"no time of {min(years)} is among the steps to forecast"
    if years and not span and times[0].year < times[-1].year and times[0].year <= years[0] <= times[-1].year:
        return f"{years[0]} is a part of the steps to forecast; write from {years[0]}-01-01 to {years[0]}-12-31"
    if several and len(span.days) + len(span.ranges) > 1 and not _is_of_days(span):
        return "several values at several times in one sentence; write a sentence for each"
    return ""


def find_absent(span: Span, times: pd.DatetimeIndex) -> str:
    """Returns the first weekday of a span that is none of the horizon's days; empty if each is there."""
    for text in span.texts:
        named = re.search(WEEKDAY, text, re.IGNORECASE)
        if named and resolve_moment(text, times, past=span.past) is None:
            return named[0].capitalize()
    return ""


def _is_of_days(span: Span) -> bool:
    """Tells whether days and times of day are said apart, each once."""
    clocks = [pair for pair in span.ranges if is_of_clocks(pair)]
    return len(clocks) == 1 and len(span.days) + len(span.ranges) == 2


def is_of_clocks(pair: Range) -> bool:
    """Tells whether a stretch begins and ends at times of day alone."""
    return all(is_clock(text) for text in pair if text)
