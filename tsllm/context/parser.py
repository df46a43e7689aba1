"""A reader of regular expressions: the control that a language model has to beat, and a reader that needs none."""

import re
from itertools import pairwise

from tsllm.context.lexer import Mention
from tsllm.context.reading import NONE, Reading

_ZERO = re.compile(
    r"\bno (?!longer\b|change|effect|impact)\w+|closed|closure|shut ?down|offline|depleted|blackout|"
    r"out of (?:service|order|stock|use)|zero (?:readings|values|output|production)|unavailable|suspended|outage|"
    r"under maintenance|not operat", re.IGNORECASE,
)  # fmt: skip
_OVER = re.compile(
    r"glitch|spike|malfunction|anomal|recording error|faulty|artefact|artifact|"
    r"\b(?:was|were) (?:under|in) maintenance|\bwas (?:closed|offline|out of)|miscalibrat|erroneous", re.IGNORECASE,
)  # fmt: skip
_FUTURE = re.compile(
    r"\bwill\b|\bexpected\b|\bplanned\b|\bscheduled\b|\bconsider\b|\bsuppose\b|\bassume\b", re.IGNORECASE
)
SKIPPED = re.compile(
    # "Will not exceed 60" is a limit.
    r"not expected|(?:will not|won['’]t)(?! (?:exceed|(?:fall|drop|go) below|(?:go|rise) above)\b)|"
    r"would (?:typically|normally|usually)|historically|previous years|in other years|"
    r"years? ago|weeks? ago|months? ago|cancel|\bcalled off\b|"
    # What is denied, or was once intended, or depends on something, is no effect.
    r"(?:\bnot|n't|n’t|\bno longer|\bnever) (?:(?:be|been|being|going|to|get|yet|fully|completely|now|any more) ){0,3}"
    r"(?:closed|shut ?down|offline|depleted|unavailable|suspended|under maintenance|"
    r"out of (?:service|order|stock|use))|"
    r"\b(?:was|were|had been) (?:supposed |meant |due |planned |expected )?to (?:be|have been|close|shut|halt|stop)\b|"
    r"\b(?:unless|whether|if|might(?! (?:expect|have|think|say)))\b", re.IGNORECASE,
)  # fmt: skip
_HOLIDAY = re.compile(r"\bis a (?:public |bank |national )?holiday", re.IGNORECASE)
_CAP = re.compile(
    r"bounded above|at most|no more than|(?:not|won['’]t) exceed|maximum|upper (?:limit|bound)|capped|"
    r"cannot (?:be )?(?:exceed|above)|(?:stay|remain)s? (?:below|under)|less than or equal|"
    r"ceiling|(?:not|won['’]t) (?:go|rise) above", re.IGNORECASE,
)  # fmt: skip
_FLOOR = re.compile(
    r"bounded below|at least|no less than|(?:not|won['’]t) (?:fall|drop|go) below|minimum|lower (?:limit|bound)|"
    r"(?:stay|remain)s? above|greater than or equal", re.IGNORECASE,
)  # fmt: skip
_RISE = re.compile(r"increas|rise|rose|grow|higher|more|up\b|surge|jump|gain", re.IGNORECASE)
_FALL = re.compile(r"decreas|fall|fell|drop|lower|less|down\b|reduc|decline|dip|cut\b", re.IGNORECASE)
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
_BACK = re.compile(
    r"\b(?:(?:return|go)(?:s|es|ing)? (?:back )?to normal|back to normal|re-?open(?:s|ing)?|resum(?:es?|ing))"
    r"(?: on| at| from)?\s*$", re.IGNORECASE,
)  # fmt: skip
_LOST = re.compile(
    r"\b(?:los(?:es?|t|ing)|shed(?:s|ding)?|lack(?:s|ing)?|without) (?:about |around |roughly )?$", re.IGNORECASE
)
_WON = re.compile(r"\bgain(?:s|ed|ing)? (?:about |around |roughly )?$", re.IGNORECASE)
_SET = re.compile(r"(?:set to|fixed at|held at|constant at|exactly|equal to)\s*$", re.IGNORECASE)


def read_by_rules(text: str) -> Reading:
    """Gives roles by key words around each mention, sentence by sentence."""
    reading = Reading.open(text)
    for k, (first, last) in enumerate(reading.sentences):
        sentence = text[first:last]
        inside = [i for i, m in enumerate(reading.mentions) if first <= m.start and m.end <= last]
        over = bool(_OVER.search(sentence)) and not _FUTURE.search(sentence)
        skip_all = bool(SKIPPED.search(sentence)) and not over
        for i in inside:
            mention = reading.mentions[i]
            before, behind = text[first : mention.start], text[mention.end : last]
            if mention.kind == "moment":
                reading.roles[i] = _read_moment(before, behind)
            elif mention.kind == "duration":
                reading.roles[i] = _read_duration(before, behind)
            elif not skip_all and not over:
                reading.roles[i] = _read_value(mention, before, behind)
        _join_ranges(reading, inside)
        _end_returns(reading, inside)
        if skip_all:
            for i in inside:
                reading.roles[i] = NONE
        if over:
            reading.statements[k] = "over"
        elif _HOLIDAY.search(sentence):
            reading.statements[k] = "holiday"
        elif not skip_all and _ZERO.search(sentence):
            reading.statements[k] = "zero"
    return reading


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


def _end_returns(reading: Reading, inside: list[int]) -> None:
    """Takes from the effect the day on which all is as before ("closed on Monday and reopens on Tuesday")."""
    for i in inside:
        mention = reading.mentions[i]
        if mention.kind == "moment" and _BACK.search(reading.text[: mention.start][-40:]):
            days = any(reading.roles[k] == "day" for k in inside if k != i)
            reading.roles[i] = NONE if days else "end"


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
    near = re.split(r"[,;]", before)[-1]
    around = near[-50:] + " " + behind[:25]
    if mention.kind in ("factor", "percent"):
        if _LOST.search(near):
            return "lower"
        if _WON.search(near):
            return "raise"
    if mention.kind == "factor":
        if not _BY.search(near) and not _COMPARED.match(behind):
            return "multiply"
        return "lower" if _FALL.search(around) else "raise" if _RISE.search(around) else "multiply"
    if mention.kind == "percent":
        if _FALL.search(around):
            return "lower"
        return "raise" if _RISE.search(around) else NONE
    if _SET.search(before[-20:]):
        return "set"
    if re.search(r"\b(?:by|of|to|below|above|than|is|exceed|at|most|least|limit|=|≤|≥)\s*$", near):
        if _CAP.search(near):
            return "cap"
        if _FLOOR.search(near):
            return "floor"
    return NONE
