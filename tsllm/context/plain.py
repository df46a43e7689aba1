r"""Sentences in which the mentions of a kind read alike, so that a language model sees wordings and not numbers.

>>> from tsllm.context.reading import Reading
>>> [s.text for s in simplify(Reading.open("Capped at 12.5 from 2024-01-11 08:00 for two hours. Sales fall 7 %."))]
['\nCapped at 40 from Monday 9:00 for 3 hours.', '\nSales fall 40%.']

Each begins with a line break: the first token of a text draws the attention of a language model and means nothing
else.
"""

import re
from dataclasses import dataclass

from tsllm.context.lexer import FACTORS, Mention
from tsllm.context.moments import is_clock
from tsllm.context.reading import Reading

_YEAR = re.compile(r"(?:18|19|20)\d\d")
_CLOCK = re.compile(r"\d:\d\d|\d ?[ap]\.?m|o'clock|noon|midday|midnight", re.IGNORECASE)
_RELATIVE = re.compile(r"tomorrow|today|yesterday", re.IGNORECASE)


@dataclass(frozen=True)
class PlainSentence:
    """A sentence in which numbers and moments are all alike.

    Attributes:
        text: The sentence.
        places: First character and the one behind the last of each of its mentions in `text`.
        kinds: Kind of each mention.
    """

    text: str
    places: tuple[tuple[int, int], ...]
    kinds: tuple[str, ...]


def simplify(reading: Reading) -> list[PlainSentence]:
    """Returns each sentence of a text with its mentions put alike; its mentions keep their order."""
    return [_simplify(reading, place) for place in reading.sentences]


def _simplify(reading: Reading, place: tuple[int, int]) -> PlainSentence:
    text, last = "\n", place[0]
    places, kinds = [], []
    for mention in reading.mentions:
        if mention.start < place[0] or place[1] < mention.end:
            continue
        text += reading.text[last : mention.start]
        said = _say(mention)
        places.append((len(text), len(text) + len(said)))
        kinds.append(mention.kind)
        text, last = text + said, mention.end
    return PlainSentence(text + reading.text[last : place[1]], tuple(places), tuple(kinds))


def _say(mention: Mention) -> str:
    """Returns what stands for a mention; words that say more than a number ("double", "tomorrow") stay."""
    if mention.kind == "moment":
        return _say_moment(mention.meaning)
    if mention.kind == "number":
        return "1990" if _YEAR.fullmatch(mention.text) else "40"
    if mention.kind == "factor":
        return mention.text if mention.text.lower() in FACTORS else "3"  # of "3 times"
    return {"percent": "40%", "duration": "3 hours"}.get(mention.kind, mention.text)


def _say_moment(text: str) -> str:
    if is_clock(text):
        return "9:00"
    relative = _RELATIVE.search(text)
    day = relative[0] if relative else "Monday"
    return f"{day} 9:00" if _CLOCK.search(text) else day
