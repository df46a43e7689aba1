"""Times that leave open which one is meant: seasons, holidays, quarters, "during the fair", corrections."""

import re

from tsllm.context.vocabulary import MONTH, WEEKDAY

_IN = r"(?:in|during|over|throughout|for|until|till|from|since|before|after|by|through|across|around|at|on)"
_THE = r"(?:(?:the|all|this|next|every|each|early|late|mid|whole|entire|coming|following|rest of|all of|end of)[ -])*"
_END = (
    r"(?=\s*(?:$|[.,;:!?)])|\s+(?:and|or|of|until|till|because|due|owing|the|we|it|they|sales|output|"
    r"demand|load|prices?|production|months?|season|term|\d{4}\b))"
)
# \x01 stands for a moment.
VAGUE = re.compile(
    rf"\b(?:{_IN}|this|next|all|every|each|coming|whole) {_THE}(?:spring|summer|autumn|winter)(?:time| months?| term| "
    r"season| holidays?| break)?\b(?:,? \d{4}\b)?"
    rf"|\b(?:{_IN}|this|next) {_THE}fall{_END}(?: \d{{4}}\b)?"
    rf"|\b{_IN} {_THE}(?:[\w-]+ )?(?:holidays|holiday (?:period|season|time)|vacations?|half-?term|"
    r"(?:semester|school) (?:break|year)|(?:off-?)?season|harvest(?: time)?|term(?:-?time)?|Ramadan|"
    r"Lent|Advent|carnival|Hanukkah|Diwali|"
    r"monsoon)\b"
    rf"|\b(?:{_IN}|this|next) {_THE}(?:first|second|third|fourth|last|1st|2nd|3rd|4th|following|coming) "
    r"(?:half(?:-year)?|quarter|trimester|semester)\b"
    rf"|\b{_IN} {_THE}[QH][1-4]\b(?:,? (?:of )?\d{{4}}\b)?|\bQ[1-4] (?:of )?\d{{4}}\b|\b(?:this|next) quarter\b"
    rf"|\b{_IN} {_THE}(?:calendar |iso )?weeks? \d{{1,2}}\b(?!:)|\bCW ?\d+\b"
    r"|\b(?:in|during|over|within|for) (?:the )?(?:(?:next|coming|following|first|last) )?(?:few|some|several|coming|"
    r"following|next) (?:hours|days|weeks|months|quarters|years)\b"
    rf"|\bon (?:(?!\x01|the\b)\w+ ){{1,2}}days\b|\bin (?:(?!\x01|the\b|other\b|recent\b|previous\b|past\b|earlier\b)"
    r"\w+ ){1,2}(?:months|weeks|quarters|years)\b"
    r"|\b(?:at|during|in) (?:peak|off-peak|busy|quiet|rush|certain|some|these|those) (?:times|periods|hours)\b"
    r"|\bat the turn of the year\b|\bat year-?end\b|\bmid-?year\b"
    rf"|\b(?:early|late|mid)[ -](?:in )?(?:{MONTH})\b"
    r"|\b(?:whenever|when it (?:is|rains|snows|freezes)|when the (?:sun|wind|rain)\b)",
    re.IGNORECASE,
)
# What the text may have dated before; and how often or how soon, which a date beside it makes exact.
MEANWHILE = re.compile(
    r"\b(?:during|throughout) (?![\x01-\x03]|(?:this|that|the) (?:\w+ )?(?:horizon|forecast\w*|periods?|time|window|"
    r"prediction|whole|entire|next|coming|year|day|week|month|country|region|city|area|plant|network|series|data|"
    r"future)\b)(?:(?:the|this|that|our|its|an?) )?\w+"
    r"|\b(?:soon|shortly|temporarily|occasionally|sometimes|at times|from time to time|for a while)\b",
    re.IGNORECASE,
)
_DAYS_OF_A_MONTH = rf"\b(?:(?:{WEEKDAY})s|weekends?|weekdays)\b[^.;]*\b(?:in|of|during|throughout) (?:{MONTH})\b"
_COUNTED_DAYS = rf"\b(?:next|first|last|coming|following) (?:two|three|four|five|[2-9]) (?:(?:{WEEKDAY})s|weekends)\b"
_CORRECTION = (
    rf"\bnot (?:on )?(?:{WEEKDAY})\b|\b(?:instead of|rather than) (?:on )?(?:{WEEKDAY})\b|"
    r"\b(?:moved|postponed|rescheduled|shifted|brought forward|put off) (?:from|to|until) "
    rf"(?:{WEEKDAY}|today|tomorrow)\b"
)
_ENDED = (
    r"\b(?:outages?|closures?|strikes?|maintenance|shut ?downs?|repairs?|works?)(?: \w+){0,3}? "
    r"(?:is|are|has been|have been) (?:over|ended|finished|lifted|resolved|completed)\b"
)
# What is said of time in a way that would be read as another one, and why it is not read.
_UNCLEAR = {
    re.compile(pattern, re.IGNORECASE): why
    for pattern, why in (
        (_CORRECTION, "which of the days is meant is not read from a correction; write the one that holds"),
        (_DAYS_OF_A_MONTH, "weekdays of a month are not read; write the dates, or give the row `start` and `end`"),
        (_COUNTED_DAYS, "so many weekdays are not read; write the dates"),
        (_ENDED, "what is over changes nothing"),
        (r"\brespectively\b", "what belongs to which is not read; write a sentence for each"),
        (
            r"\b(?:slowly|gradually|bit by bit|step by step)\b",
            "a gradual change is not read; write a value for each time",
        ),
        (r"\b\d{1,2}h(?:\d\d)?\b(?! ?[-–])", "an hour with h is not read as a time of day; write it as 14:00"),
        (r"\b\d{1,2}\.\d\d ?[-–] ?\d{1,2}\.\d\d\b", "hours or amounts may be meant; write times as 14:00"),
    )
}


def find_unclear(sentence: str) -> str:
    """Says why the time of a sentence is not read; empty if nothing speaks against it.

    Example:
        >>> find_unclear("Closed on Friday instead of Saturday.")
        'which of the days is meant is not read from a correction; write the one that holds'
        >>> find_unclear("Closed on Friday.")
        ''
    """
    return next((why for pattern, why in _UNCLEAR.items() if pattern.search(sentence)), "")
