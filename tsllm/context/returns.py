"""Moments from which on all is as before: "reopens on Sunday", "is back at 14:00", "from Sunday on all is normal"."""

import re

from tsllm.context.effects import MONTHS, WEEKDAYS
from tsllm.context.lexer import Mention

_AGAIN = (
    r"(?:re-?open(?:s|ing|ed)?|resum(?:es?|ed|ing)|re-?start(?:s|ed|ing)?|re-?commenc(?:es?|ed|ing)|"
    r"(?:opens?|open|starts?|runs?|works?|operates?|produces?|running|working|operating|available|up) again|"
    r"(?:(?:is|are|be|comes?|coming|goes|going|gets?) )?back(?: (?:to (?:normal|work|usual|full \w+)|"
    r"in (?:service|operation|use|business|stock)|on ?line|on the grid|at work|open|up|running|working))?|"
    r"(?:recovers?|recovering)(?: to normal)?|(?:returns?|returning)(?: to (?:normal|work|service|operation|usual|"
    r"full \w+|(?:its|the|their) (?:usual|normal) \w+))?|(?:is|are|be) (?:open|normal|as usual) again)"
)
_IT = re.compile(
    r"\b(?:it|they|this|these|all|everything|normal|usual|operations?|work|production|service|business)\b",
    re.IGNORECASE,
)
_COMMON = {"the", "and", "from", "for", "with", "will", "are", "has", "back", "until", "again", "its", "our", "there",
           *(day.lower() for day in (*WEEKDAYS, *MONTHS))}  # fmt: skip
_JOINS = (
    r"(?: (?:work|operations?|production|service|business|normally|as usual|fully|again))?"
    r"(?: (?:on|at|from|as of|in|by))?"
)
_IN_FRONT = re.compile(rf"\b(?<!\bits )(?<!\bthe )(?<!\bfeed){_AGAIN}{_JOINS}(?: the)? ?$", re.IGNORECASE)
_BEHIND = re.compile(
    rf"(?: on\b| onwards?\b)?,? (?:[A-Za-z]+ ){{0,4}}?(?:(?:is|are|will be) back\b|{_AGAIN}\b)(?! (?:in|on|at|from|"
    rf"to) \d)",
    re.IGNORECASE,
)
_FROM_IT_ON = re.compile(r"^(?:and |then |but )*(?:(?:from|on|as of|starting|after)(?: the)? )?$", re.IGNORECASE)


def speaks_of_it(sentence: str, before: str) -> bool:
    """Tells whether a sentence is about what the one before it is about: "it", "all", or a noun of that one.

    Example:
        >>> before = "The mill is closed from Friday on."
        >>> [speaks_of_it(said, before) for said in ("The mill reopens on Sunday.", "The boss is back on Sunday.")]
        [True, False]
    """
    told = {word.lower() for word in re.findall(r"[A-Za-z]{3,}", before)} - _COMMON
    return bool(_IT.search(sentence) or told & {word.lower() for word in re.findall(r"[A-Za-z]{3,}", sentence)})


def returns_at(text: str, mention: Mention, place: tuple[int, int]) -> bool:
    """Tells whether all is as before from a moment on.

    Args:
        text: The whole text.
        mention: A moment.
        place: Of its sentence.

    Example:
        >>> text = "It reopens on Sunday."
        >>> returns_at(text, Mention("moment", 14, 20, "Sunday"), (0, 21))
        True
    """
    front, behind = text[place[0] : mention.start], text[mention.end : place[1]]
    if _IN_FRONT.search(front):
        return True
    clause = re.split(r"[,;]|\b(?:and|but)\b", front)[-1].lstrip()
    return bool(_FROM_IT_ON.match(clause) and _BEHIND.match(behind))
