"""A reader of regular expressions: the control that a language model has to beat, and a reader that needs none."""

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise

from tsllm.context.amounts import (
    ELSEWHEN,
    counts_another,
    is_change,
    is_of_another,
    is_range,
    leads_to,
    read_amount,
    read_share,
    say_unread,
)
from tsllm.context.clauses import Part, list_parts, split_clauses
from tsllm.context.hours import find_hours
from tsllm.context.lexer import Mention
from tsllm.context.moments import has_date, is_clock
from tsllm.context.reading import NONE, VALUES, Reading, list_inside
from tsllm.context.returns import returns_at
from tsllm.context.spans import collect_span, tells_of_past
from tsllm.context.stops import NOT_AT_WORK, find_stop, say_elsewhere
from tsllm.context.vague import find_unclear
from tsllm.context.vocabulary import FALLS, RISES

_OVER = re.compile(
    r"glitch|spike|malfunction|anomal|recording error|faulty|artefact|artifact|"
    r"\b(?:was|were) (?:under|in) maintenance|\bwas (?:closed|offline|out of)|miscalibrat|erroneous", re.IGNORECASE,
)  # fmt: skip
_FUTURE = re.compile(
    r"\bwill\b|\bexpected\b|\bplanned\b|\bscheduled\b|\bconsider\b|\bsuppose\b|\bassume\b", re.IGNORECASE
)
SKIPPED = re.compile(
    # "Will not exceed 60" is a limit.
    r"not expected|(?:will not|won['’]t)(?! (?:exceed|(?:fall|drop|go) below|(?:go|rise) above|"
    r"(?:be|go|rise|climb|fall|drop|sink) (?:any )?(?:higher|lower|more|less|fewer|greater) than)\b)|"
    r"would (?:typically|normally|usually)|historically|previous years|in other years|"
    r"years? ago|weeks? ago|months? ago|cancel|\bcalled off\b|"
    # What is denied, or was once intended, or depends on something, is no effect.
    r"(?:\bnot|n't|n’t|\bno longer|\bnever) (?:(?:be|been|being|going|to|get|yet|fully|completely|now|any more) ){0,3}"
    r"(?:closed|shut ?down|offline|depleted|unavailable|suspended|under maintenance|"
    r"out of (?:service|order|stock|use))|"
    r"\b(?:was|were|had been) (?:supposed |meant |due |planned |expected )?to (?:be|have been|close|shut|halt|stop)\b|"
    r"\bas long as\b|\bin case\b|\bprovided\b|\bdepend(?:s|ing) on\b|"
    r"\b(?:unless|whether|if|might(?! (?:expect|have|think|say)))\b", re.IGNORECASE,
)  # fmt: skip
_HOLIDAY = re.compile(r"\bis a (?:public |bank |national )?holiday", re.IGNORECASE)
_CAP = re.compile(
    r"bounded above|at most|no more than|(?:not|won['’]t) exceed|maximum|upper (?:limit|bound)|capped|"
    r"(?:limited|restricted) to|cannot (?:be )?(?:exceed|above)|(?:stay|remain)s? (?:below|under)|less than or equal|"
    r"(?:kept|held|keep(?:s|ing)?|hold(?:s|ing)?)(?: \w+){0,2} (?:below|under)|never (?:exceeds?|(?:goes|"
    r"rises) above)|"
    r"(?:\bno|(?:not|n['’]t|never) (?:be|goes?|rises?|climbs?)(?: any)?) (?:higher|more|greater) than|"
    r"ceiling|(?:not|won['’]t) (?:go|rise) above", re.IGNORECASE,
)  # fmt: skip
_FLOOR = re.compile(
    r"bounded below|at least|no less than|(?:not|won['’]t) (?:fall|drop|go) below|minimum|lower (?:limit|bound)|"
    r"(?:stay|remain)s? (?:above|over)|greater than or equal|"
    r"(?:kept|held|keep(?:s|ing)?|hold(?:s|ing)?)(?: \w+){0,2} (?:above|over)|never (?:falls|drops|goes) below|"
    r"\bfloor of|"
    r"(?:\bno|(?:not|n['’]t|never) (?:be|goes?|falls?|drops?|sinks?)(?: any)?) (?:lower|less|fewer) than",
    re.IGNORECASE,
)  # fmt: skip
_CHANGE = re.compile(
    rf"\b(?:(?P<up>{RISES}|growth|upwards?|higher|greater|more)|(?P<down>{FALLS}|downwards?|lower|smaller|less|fewer))\b",
    re.IGNORECASE,
)
_COMPARES = re.compile(r" (?:(?P<up>higher|greater|more)|(?P<down>lower|smaller|less|fewer))\b", re.IGNORECASE)
# "A third fewer guests", "a quarter above normal"; "half as many" is a factor.
_SHARE = re.compile(
    r" (?:[a-z]+ )??(?:(?P<up>higher|greater|more|(?:above|over) (?:the )?(?:usual|normal|average|expected))|"
    r"(?P<down>lower|smaller|less|fewer|(?:below|under) (?:the )?(?:usual|normal|average|expected)))\b",
    re.IGNORECASE,
)
# "Sales fall a third", "are up a quarter", without a word between.
_CHANGES_STRAIGHT = re.compile(
    rf"\b(?:(?P<up>{RISES})|(?P<down>{FALLS})) (?:by )?(?:about |around |roughly |almost )?$", re.IGNORECASE
)
# "Half as many again."
_AGAIN = re.compile(r" (?:again as|as \w+(?: \w+)? again)\b", re.IGNORECASE)
_SIGNED = re.compile(r"(?:(?<!\w)\+ ?|\bplus )$", re.IGNORECASE)
_MINUS = re.compile(r"(?:(?<![\w+−-])[-−] ?|\bminus )$", re.IGNORECASE)
_BY = re.compile(r"\bby (?:about |around |roughly )?(?:a factor(?: of)? )?$", re.IGNORECASE)
_COMPARED = re.compile(
    r"(?:-fold| times|x) (?:higher|lower|more|less|rise|fall|increase|decrease|drop|jump)\b", re.IGNORECASE
)
_TO = re.compile(
    r" ?[-–—] ?|,? (?:to|until|till?|through|thru|up to|up until)(?: and including)? (?:the )?", re.IGNORECASE
)
_END = re.compile(
    r"(?:\b(?:until|till?|(?<!due )(?<!owing )(?<!thanks )(?<!according )to|through|thru|up to|including|ending|ends?|"
    r"by|before|prior to|no later than)(?: on| at)?|\band (?:ending|ends)(?: on| at)?)\s*$"
)
_START = re.compile(
    r"\b(?:from|between|since|as of|after|that follow|(?:starting|started|starts?|began|begins?|beginning|"
    r"kicks? off|sets? in)(?: on| at| from)?)\s*$"
)
_LOST = re.compile(
    r"\b(?:los(?:es?|t|ing)|shed(?:s|ding)?|lack(?:s|ing)?|without|cost(?:s|ing)? (?:us|them|it)) "
    r"(?:about |around |roughly )?$",
    re.IGNORECASE,
)
_WON = re.compile(r"\bgain(?:s|ed|ing)? (?:about |around |roughly )?$", re.IGNORECASE)
_AMOUNTS = ("number", "percent")
_REACH, _AHEAD = 50, 25  # letters before and behind a value within which a word of change is its own
_POSSIBLE = re.compile(r"\b(?:(?-i:may)|could|would|maybe|perhaps|possibly|rumou?rs?)\b", re.IGNORECASE)
_SUPPOSED = re.compile(r"\b(?:suppos(?:e|ing)|assum(?:e|ing)|imagin(?:e|ing)|consider)\b", re.IGNORECASE)
_ONLY_POSSIBLE = "it only says what may or would be; write what you expect"
_TWO_LIMITS = "a limit of two values is not read; write one"
_BY_AT_MOST = re.compile(
    r"\bby (?:about )?(?:no more than|no less than|at most|at least|up to|more than|less than) $", re.IGNORECASE
)
_LIMITED = re.compile(r"\b(?:by|of|to|below|above|under|over|than|is|exceeds?|at|most|least|limit|=|≤|≥)\s*$")
_OR_OTHER = re.compile(r" ?(?:[-–—] ?| (?:to|or) )\d")  # a limit of two values
_CHANGED_BY = re.compile(rf"\b(?:{RISES}|{FALLS}) (?:\w+ ){{0,3}}?by $", re.IGNORECASE)
_SPAN_OPEN = re.compile(r"\b(?:from|between) \d[\d.:]* (?:to|and|until|till) $", re.IGNORECASE)
_SET = re.compile(r"(?:set to|fixed at|held at|constant at|exactly|equal to)\s*$", re.IGNORECASE)
# "Stays between 20 and 40"; "is held between 9 and 17" may be hours.
_BAND = (
    r"\b(?:stay(?:s|ing)?|remain(?:s|ing)?|(?:is|are|be) kept|keeps?|(?:is|are|be) (?:limited|restricted|confined) to|"
    r"(?:must|has to|have to|can only) (?:be|lie))(?: (?:always|strictly|well|somewhere))? "
    r"(?:between|within|in the range (?:of|from)) "
)
_BAND_OPENS = re.compile(rf"{_BAND}$", re.IGNORECASE)
_BAND_CLOSES = re.compile(rf"{_BAND}(-?[\d.,]*\d)(?: \w+)? (?:and|to) $", re.IGNORECASE)
_BAND_GOES_ON = re.compile(r"(?: \w+)? (?:and|to) (-?[\d.,]*\d)(?![\d:])")
_USUALLY = re.compile(r"\b(?:usual|normal|typical|general|most)(?:ly)?\b", re.IGNORECASE)


def read_by_rules(text: str, apart: bool = True) -> Reading:
    """Gives roles by key words around each mention, sentence by sentence.

    Args:
        text: Any text.
        apart: Whether parts of a sentence that each tell something of a time count as sentences of their own.
    """
    reading = Reading.open(text)
    places, unread = reading.sentences, []
    if apart:
        split = [_split(reading, place) for place in places]
        places = [part for parts, _ in split for part in parts]
        whole = {parts[0]: why for parts, why in split if why}
        reading = replace(reading, sentences=places, statements=[NONE] * len(places))
    for k, place in enumerate(places):
        found = _read_sentence(reading, k)
        if apart and place in whole and _silence(reading, k):
            found = [whole[place]]
        unread += [(k, why) for why in found]
    return replace(reading, unread=tuple(dict.fromkeys(unread)))


def _split(reading: Reading, place: tuple[int, int]) -> tuple[list[tuple[int, int]], str]:
    """Returns the clauses of a sentence; one that tells of the past, or depends on something, stays whole."""
    sentence = reading.text[slice(*place)]
    if tells_of_past(sentence, 0)[0] or SKIPPED.search(NOT_AT_WORK.sub("", sentence)):
        return [place], ""
    parts, why = split_clauses(reading.text, place, reading.mentions, partial(look_at, reading.text, reading.mentions))
    # "Perhaps it is closed today and open tomorrow": both are only possible.
    hedged = any(
        _POSSIBLE.search(reading.text[slice(*part)]) and reading.text[part[1] : behind[0]].strip().lower() == "and"
        for part, behind in pairwise(parts)
    )
    return ([place], why) if hedged else (parts, why)


def look_at(text: str, mentions: list[Mention], place: tuple[int, int]) -> Part:
    """Says of a place of a text what it tells, as the rules read it by itself."""
    part = Reading(text, mentions, [NONE] * len(mentions), [place], [NONE])
    told = _read_sentence(part, 0)
    inside = list_inside(part, place)
    span = collect_span(text, inside, mentions, place, 0, part.statements[0] == "zero")
    tells = bool(told) or part.statements[0] != NONE or any(role in (*VALUES, "delay") for _, role in inside)
    moments = [m for m in mentions if m.kind == "moment" and place[0] <= m.start and m.end <= place[1]]
    returns = not tells and any(returns_at(text, m, place) for m in moments)
    lasts = any(not last for _, last in span.ranges) and not span.length
    return Part(place, tells, bool(span or moments or span.vague), returns, lasts)


def list_told(text: str, names: Sequence[tuple[int, int]]) -> list[tuple[tuple[int, int], bool]]:
    """Returns the parts of all sentences, and whether each says what happens, or when.

    Args:
        text: Any text.
        names: Places of names; those in a row stay together.
    """
    reading = Reading.open(text)
    places = [p for place in reading.sentences for p in list_parts(text, place, reading.mentions, names)]
    parts = [look_at(text, reading.mentions, place) for place in places]
    return [(part.place, part.tells or part.timed) for part in parts]


def _silence(reading: Reading, k: int) -> bool:
    """Takes back what a sentence does; returns whether there was anything."""
    first, last = reading.sentences[k]
    acts = reading.statements[k] == "zero"
    reading.statements[k] = NONE if acts else reading.statements[k]
    for i, mention in enumerate(reading.mentions):
        if first <= mention.start and mention.end <= last and reading.roles[i] in VALUES:
            reading.roles[i], acts = NONE, True
    return acts


def _read_sentence(reading: Reading, k: int) -> list[str]:
    """Gives the roles of one sentence; returns why something in it is not read."""
    text, (first, last) = reading.text, reading.sentences[k]
    unread: list[str] = []
    beside: list[tuple[int, str]] = []  # mention, why it plays no part
    sentence = text[first:last]
    inside = [i for i, m in enumerate(reading.mentions) if first <= m.start and m.end <= last]
    over = bool(_OVER.search(sentence)) and not _FUTURE.search(sentence)
    # "Will not run" denies nothing: it says that all stands still.
    skip_all = bool(SKIPPED.search(NOT_AT_WORK.sub("", sentence))) and not over
    if not over and (unclear := find_unclear(sentence)):
        return [unclear]
    for i in inside:
        mention = reading.mentions[i]
        before, behind = text[first : mention.start], text[mention.end : last]
        if mention.kind == "moment":
            reading.roles[i] = _read_moment(before, behind)
        elif mention.kind == "duration":
            reading.roles[i] = _read_duration(before, behind)
        elif not skip_all and not over:
            role = _read_value(mention, before, behind)
            sure = role in (NONE, "cap", "floor") or not _is_only_possible(sentence, before, behind)
            reading.roles[i] = role if sure else NONE
            why = say_unread(_find_clause(before), behind) if role == NONE and mention.kind in _AMOUNTS else ""
            why = why or (_TWO_LIMITS if _is_double_limit(mention, before, behind) else "")
            beside += [(i, why)] if why else []
            unread += [] if sure else [_ONLY_POSSIBLE]
    _place_starts(reading, inside)
    _join_ranges(reading, inside)
    _end_returns(reading, inside)
    if skip_all:
        for i in inside:
            reading.roles[i] = NONE
    if over:
        reading.statements[k] = "over"
    elif _HOLIDAY.search(sentence):
        reading.statements[k] = "holiday"
    elif not skip_all and (stop := find_stop(sentence)) and not _has_cause(reading, inside):
        sure = not _is_only_possible(sentence, sentence[: stop.start()], sentence[stop.start() :])
        reading.statements[k] = "zero" if sure else NONE
        unread += [] if sure else [_ONLY_POSSIBLE]
    elif not skip_all and not any(reading.roles[i] in VALUES for i in inside) and (why := say_elsewhere(sentence)):
        unread.append(why)
    return [*_leave_hours(reading, k, inside, beside), *unread]


def _leave_hours(reading: Reading, k: int, inside: list[int], beside: list[tuple[int, str]]) -> list[str]:
    """Returns the reasons of numbers that are no hours of the day ("from 8 to 14")."""
    first, last = reading.sentences[k]
    values = [(reading.mentions[i].start - first, reading.mentions[i].end - first) for i in inside
              if reading.roles[i] in VALUES]  # fmt: skip
    hours = find_hours(reading.text[first:last], values, reading.statements[k] == "zero")
    place = hours.place if hours is not None and hours.pair else (0, 0)
    return [why for i, why in beside if not place[0] <= reading.mentions[i].start - first < place[1]]


def _is_only_possible(sentence: str, before: str, behind: str) -> bool:
    """Tells whether the clause between `before` and `behind` says what may or would be, and not what is supposed."""
    clause = _find_clause(before) + re.split(r"[,;](?!\d)", behind)[0]
    hedged = _POSSIBLE.search(clause) or re.search(rf"{_POSSIBLE.pattern},", before, re.IGNORECASE)
    return bool(hedged and not _SUPPOSED.search(sentence))


def _read_moment(before: str, behind: str) -> str:
    near = re.sub(r"(?:the|about|around|roughly) $", "", before[-40:].lower())
    if _END.search(near) or re.search(r"between[^.]*and\s*$", before[-60:].lower()):
        return "end"
    if _START.search(near) or re.match(r",? for\b|,? and last", behind.lower()):
        return "start"
    return "day"


def _join_ranges(reading: Reading, inside: list[int]) -> None:
    """Gives roles to moments with nothing but `to` or a dash between them ("Monday to Friday", "8-10 am")."""
    moments = [i for i in inside if reading.mentions[i].kind == "moment"]
    for i, k in pairwise(moments):
        between = reading.text[reading.mentions[i].end : reading.mentions[k].start]
        again = re.search(r"\b(?:every|each) $", reading.text[: reading.mentions[i].start], re.IGNORECASE)
        if _TO.fullmatch(between) and not again:
            reading.roles[i], reading.roles[k] = "start", "end"


def _has_cause(reading: Reading, inside: list[int]) -> bool:
    """Tells whether a standstill is only why something changes ("with the mill closed, load falls by 5 %")."""
    roles = [reading.roles[i] for i in inside]
    changes = any(role in ("multiply", "raise", "lower") for role in roles)
    return changes and roles.count("day") + max(roles.count("start"), roles.count("end")) <= 1


def _place_starts(reading: Reading, inside: list[int]) -> None:
    """Makes a day of what only seems to start ("on Friday for 3 hours from 08:00")."""
    starts = [i for i in inside if reading.mentions[i].kind == "moment" and reading.roles[i] == "start"]
    clocks = [i for i in starts if is_clock(reading.mentions[i].meaning)]
    for i in starts:
        behind = reading.text[reading.mentions[i].end :]
        if clocks and has_date(reading.mentions[i].meaning) and re.match(r",? for\b", behind):
            reading.roles[i] = "day"


def _end_returns(reading: Reading, inside: list[int]) -> None:
    """Ends an effect where all is as before ("closed on Monday and reopens on Tuesday", "back on Sunday").

    What is closed on one day is so from then on; where an end is said already, or several days are, the return adds
    nothing.
    """
    moments = [i for i in inside if reading.mentions[i].kind == "moment"]
    first, last = (reading.mentions[i] for i in (inside[0], inside[-1])) if inside else (None, None)
    place = next((p for p in reading.sentences if first and last and p[0] <= first.start and last.end <= p[1]), (0, 0))
    for i in moments:
        if not returns_at(reading.text, reading.mentions[i], place):
            continue
        others = [k for k in moments if k != i and reading.roles[k] != NONE]
        days = [k for k in others if reading.roles[k] == "day"]
        starts = [k for k in others if reading.roles[k] == "start"]
        ended = any(reading.roles[k] == "end" for k in others) or len(days) > 1
        reading.roles[i] = NONE if ended else "end"
        if not ended and len(days) == 1 and not starts:
            reading.roles[days[0]] = "start"


def _read_duration(before: str, behind: str) -> str:
    near = before[-30:].lower()
    if re.search(r"\b(?:for|over|during|in) (?:the |about |all of )?$", near) and re.match(
        r",? (?:from|starting|beginning|that follow|after)\b", behind.lower()
    ):
        return "length"
    if re.search(r"every\s*$", near):
        return "every"
    if re.search(r"\b(?:for|lasts?|lasted|lasting)\s*(?:about|approximately|around|roughly)?\s*$", near):
        return "length"
    return NONE


def _read_value(mention: Mention, before: str, behind: str) -> str:
    near = _find_clause(before)
    if mention.kind == "number":
        return _read_number(mention, before, near, behind)
    if ELSEWHEN.search(near + behind) or is_range(near, behind):
        return NONE
    if mention.kind not in ("factor", "percent"):
        return NONE
    if _LOST.search(near):
        return "lower"
    if _WON.search(near):
        return "raise"
    return _read_factor(mention, near, behind) if mention.kind == "factor" else _read_percent(mention, near, behind)


def _read_factor(mention: Mention, near: str, behind: str) -> str:
    part = mention.value < 1
    if _AGAIN.match(behind):
        return "raise"
    if part and is_of_another(behind):
        return NONE
    found = _SHARE.match(behind) or _CHANGES_STRAIGHT.search(near) if part else None
    if found:
        return "raise" if found["up"] else "lower"
    if not _BY.search(near) and not _COMPARED.match(behind):
        return "multiply"
    return _find_turn(near, behind) or "multiply"


def _read_percent(mention: Mention, near: str, behind: str) -> str:
    share = read_share(mention, near, behind)
    if share != NONE or leads_to(near):
        return share
    turn = _find_turn(near, behind)
    if not turn and is_change(near, behind):
        return "raise" if mention.value < 0 or _SIGNED.search(near) else "lower" if _MINUS.search(near) else NONE
    return turn if mention.value >= 0 and turn else NONE


def _find_turn(near: str, behind: str) -> str:
    """Returns `raise` or `lower` by the word of change next to a value; empty if there is none."""
    before = [m for m in _CHANGE.finditer(near) if len(near) - m.start() <= _REACH]
    found = _COMPARES.match(behind) or (before[-1] if before else None)
    if found is None:
        found = _CHANGE.search(re.sub(r"\w*$", "", behind[:_AHEAD]) if len(behind) > _AHEAD else behind)
    return "" if found is None else "raise" if found["up"] else "lower"


def _is_double_limit(mention: Mention, before: str, behind: str) -> bool:
    near = _find_clause(before)
    bounded = _LIMITED.search(near) and (_CAP.search(near) or _FLOOR.search(near))
    return bool(mention.kind == "number" and bounded and _OR_OTHER.match(behind))


def _find_clause(before: str) -> str:
    return re.split(r"[,;](?!\d)", before)[-1]


def _read_number(mention: Mention, before: str, near: str, behind: str) -> str:
    if _USUALLY.search(near) is None and (_BAND_OPENS.search(near) or _BAND_CLOSES.search(near)):
        return _read_band(mention, near, behind)
    if _BY_AT_MOST.search(near) or _SPAN_OPEN.search(near):
        return NONE if _BY_AT_MOST.search(near) else read_amount(mention, near, behind)
    if _SET.search(before[-20:]):
        return "set"
    if _LIMITED.search(near):
        limit = "cap" if _CAP.search(near) else "floor" if _FLOOR.search(near) else NONE
        if limit != NONE and (_OR_OTHER.match(behind) or is_range(near, "")):
            return NONE
        if limit != NONE:
            return NONE if _CHANGED_BY.search(near) else limit  # "The limit rises by 5."
    return read_amount(mention, near, behind)


def _read_band(mention: Mention, near: str, behind: str) -> str:
    """Reads "stays between 20 and 40": a lower and an upper limit, where the second is the larger one."""
    closes, goes_on = _BAND_CLOSES.search(near), _BAND_GOES_ON.match(behind)
    if counts_another(near, behind[goes_on.end() :] if goes_on else behind):
        return NONE
    if closes:
        return "cap" if float(closes[1].replace(",", "")) < mention.value else NONE
    return "floor" if goes_on and mention.value < float(goes_on[1].replace(",", "")) else NONE
