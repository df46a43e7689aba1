"""Shares of a capacity that the text states: "a capacity of 500 MW ... at 20 % of its capacity" is 100 MW."""

import re

from tsllm.context.lexer import Mention

_BEFORE = re.compile(r"\bcapacity\b(?: of| is|:| =|,)?(?: (?:about|around|roughly|is|of))? $", re.IGNORECASE)
_BEHIND = re.compile(
    r" ?[A-Za-z/]{0,5}(?: of)? (?:(?:installed|rated|nominal|full|total|maximum) )?capacity\b", re.IGNORECASE
)
_SHARE = re.compile(
    r"(?: of)?(?: (?:its|the|their|our|full|total|installed|rated|nominal|maximum|max))* capacity\b", re.IGNORECASE
)


def is_of_capacity(text: str, mention: Mention) -> bool:
    """Tells whether a percentage or a factor is a share of a capacity."""
    return mention.kind in {"percent", "factor"} and _SHARE.match(text, mention.end) is not None


def find_capacities(text: str, mentions: list[Mention]) -> list[float]:
    """Returns the capacities that a text states, each once.

    Example:
        >>> find_capacities("It has a capacity of 500 MW.", [Mention("number", 21, 24, "500", 500.0)])
        [500.0]
    """
    found = [
        m.value
        for m in mentions
        if m.kind == "number" and (_BEFORE.search(text[: m.start]) or _BEHIND.match(text, m.end))
    ]
    return list(dict.fromkeys(found))
