"""Finds what can be copied from a text: numbers, moments and durations, each with its place.

A range that says a half of the day, a month or a year only once ("8 to 10 pm", "from 3 to 5 May") is two moments, each
with what the other says of it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from tsllm.context.effects import MONTHS
from tsllm.context.moments import MOMENT, SMALL, UNITS

_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
WORDS: dict[str, float] = {word: float(k) for k, word in enumerate(SMALL)}
WORDS |= {word: 10.0 * k for k, word in enumerate(_TENS, 2)}
WORDS |= {f"{t}-{s}": WORDS[t] + WORDS[s] for t in _TENS for s in SMALL[1:10]}
WORDS |= {"a hundred": 100.0, "one hundred": 100.0, "a thousand": 1000.0, "a dozen": 12.0, "half a dozen": 6.0}
FACTORS: dict[str, float] = {
    "double": 2, "doubled": 2, "doubles": 2, "doubling": 2, "twice": 2, "twofold": 2, "triple": 3, "tripled": 3,
    "triples": 3, "tripling": 3, "threefold": 3, "thrice": 3, "treble": 3, "trebled": 3, "trebles": 3, "trebling": 3,
    "quadruple": 4, "quadrupled": 4, "quadruples": 4, "quadrupling": 4, "fourfold": 4, "quintuple": 5, "quintupled": 5,
    "quintuples": 5, "fivefold": 5, "sixfold": 6, "sevenfold": 7, "eightfold": 8, "ninefold": 9, "tenfold": 10,
    "hundredfold": 100, "half": 0.5, "halve": 0.5, "halved": 0.5, "halves": 0.5, "halving": 0.5,
    "a third": 1 / 3,
    "one third": 1 / 3, "two thirds": 2 / 3, "a quarter": 0.25, "three quarters": 0.75, "a fifth": 0.2, "a tenth": 0.1,
    "one fifth": 0.2, "two fifths": 0.4, "three fifths": 0.6, "four fifths": 0.8, "a sixth": 1 / 6, "one sixth": 1 / 6,
    "an eighth": 0.125, "one eighth": 0.125, "one tenth": 0.1,
}  # fmt: skip
_COUNT = "|".join(sorted(map(re.escape, WORDS), key=len, reverse=True))
_DIGITS = r"[-−]?\d{1,3}(?:,\d{3})+(?:\.\d+)?|[-−]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?"
_HALF = r" ?(?P<half>[ap])\.?m\b\.?"
_TIME = r"\d{1,2}(?:[:.]\d{2})?"
_NTH = r"\d{1,2}(?:st|nd|rd|th)?"
_JOIN = r"(?: ?[-–—] ?| (?:to|until|till|and|through) (?:the )?)"
_MONTH = rf"(?-i:{'|'.join(MONTHS)}|(?:{'|'.join(m[:3] for m in MONTHS if m != 'May')}|Sept)\b\.?)"
_ENDS = r"(?=\s*[.;:)](?!\d)|,(?! ?\d)|\s*$| (?:from|for|at|because|due|owing)\b)"
_AND_HALF = " and a half"
_ALONE = r"(?<!\d)(?<!\d[.,:-])"
# What makes a number a factor: words behind it, unless they count how often something is, or in front of it.
_TIMES = re.compile(
    r"[- ]?fold\b|x\b| ?×(?! ?\d)| ?times\b(?! (?:an?|per|each|every|daily|weekly|monthly|in)\b)", re.IGNORECASE
)
_FACTOR_OF = re.compile(
    r"(?:\ba factor(?: of)?|\bmultipl(?:y|ies|ied|ying)(?: \w+){0,3} by)(?: about| around| roughly| exactly)? $",
    re.IGNORECASE,
)
# Ranges and lists of which each part leaves out what another one says.
_HOURS = re.compile(rf"{_ALONE}(?P<parts>{_TIME}{_JOIN})(?P<last>{_TIME}){_HALF}", re.IGNORECASE)
_HOURS_OF_24 = re.compile(rf"{_ALONE}(?P<parts>\d{{1,2}}{_JOIN})(?P<last>\d{{1,2}}:\d{{2}})", re.IGNORECASE)
_DAYS = re.compile(
    rf"{_ALONE}(?P<parts>(?:{_NTH}, )*{_NTH}(?:,?{_JOIN}))(?P<last>{_NTH})"
    rf"(?P<month> (?:of )?{_MONTH}(?:,? \d{{4}}\b)?)",
    re.IGNORECASE,
)
_DAYS_OF_MONTH = re.compile(
    rf"\b(?P<month>{_MONTH} )(?P<first>{_NTH})(?P<parts>(?:, {_NTH})*,?{_JOIN}{_NTH})(?P<year>,? \d{{4}}\b)?{_ENDS}",
    re.IGNORECASE,
)
_LEADS = {
    "to": "".join(rf"(?<!\b{w} )" for w in ("at", "of", "by", "is", "to", "than", "most", "least", "below", "above"))
    + "$",
    "and": r"(?:^|[.;:(] ?|\b(?:between|on|the) )(?:the )?$",
    "": r"(?:^|[.;:(] ?|\b(?:from|between|on|the) )(?:the )?$",
}  # what must stand before a range for its first number to be no amount
_TOKEN = re.compile(
    rf"(?P<moment>{MOMENT}(?! ?%))"
    rf"|(?P<duration>\b(?:{_DIGITS}|{_COUNT}|an?|half an|a full|the whole)[ -](?:further |more |full |consecutive )?"
    rf"(?:{'|'.join(UNITS)})s?\b)"
    rf"|(?P<percent>(?:(?<![\w.])(?:{_DIGITS})|\b(?:{_COUNT})) ?(?:%|per ?cent\b))"
    rf"|(?P<factor>\b(?:{_COUNT}|\d+){_AND_HALF}(?=[ -]times\b|-fold\b)"
    rf"|\b(?:{'|'.join(sorted(FACTORS, key=len, reverse=True))})\b)"
    rf"|(?P<number>(?<![\w.])(?:{_DIGITS})(?:(?=x\b)|(?![\w%]|\.\d))|\b(?:{_COUNT})\b)",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"(?<=[.!?;])\s+(?=[A-Z\"'(*\d])|\n+")


@dataclass(frozen=True)
class Mention:
    """Something in a text that an effect may copy.

    Attributes:
        kind: `number`, `percent`, `factor` ("double", "half", the 3 of "3 times" or of "a factor of 3"), `moment` or
            `duration`.
        start: Place of its first character.
        end: Place behind its last character.
        text: As it stands.
        value: Number; percent as it is said (75 for 75 %); seconds of a duration. 0 for a moment.
        completed: A moment with what its neighbour says of it: `8 pm` for the first of "8 to 10 pm"; else empty.
    """

    kind: str
    start: int
    end: int
    text: str
    value: float = 0.0
    completed: str = ""

    @property
    def meaning(self) -> str:
        """The words to be understood."""
        return self.completed or self.text


def find_mentions(text: str) -> list[Mention]:
    """Returns what can be copied from a text, in order, without overlaps."""
    return list(_search(text))


@lru_cache(maxsize=256)  # a text is looked through for sentences, by rules and for analogies
def _search(text: str) -> tuple[Mention, ...]:
    found: list[Mention] = []
    parts, place = sorted(_find_parts(text), key=lambda m: m.start), 0
    while match := _TOKEN.search(text, place):
        part = next((p for p in parts if place <= p.start <= match.start()), None)
        if part is not None:
            found.append(part)
        else:
            kind = str(match.lastgroup)
            kind = "factor" if kind == "number" and _is_factor(text, match) else kind
            value = _READ[kind](match[0].lower()) if kind in _READ else 0.0
            found.append(Mention(kind, match.start(), match.end(), match[0], value))
        place = found[-1].end
    return tuple(found)


def _is_factor(text: str, match: re.Match[str]) -> bool:
    """Tells whether the words around a number make it a factor."""
    return bool(_TIMES.match(text, match.end()) or _FACTOR_OF.search(text[: match.start()]))


def _find_parts(text: str) -> Iterator[Mention]:
    """Yields the parts of ranges and lists that say half of a moment; the other half is found as it stands."""
    for match in _HOURS.finditer(text):
        if _leads(text, match, "to"):
            first = re.match(_TIME, match["parts"])
            assert first is not None
            if ":" in first[0] and not re.search("[-–—]", match["parts"]):
                continue  # "from 07:00 until 3 am"
            turned = _hour(first[0]) % 12 > _hour(match["last"]) % 12  # "11 to 2 pm"
            half = match["half"].lower() if not turned else "a" if match["half"].lower() == "p" else "p"
            yield _take(match.start(), first[0], f"{first[0]} {half}m")
    for match in _HOURS_OF_24.finditer(text):
        if _leads(text, match, ""):
            first = re.match(_TIME, match["parts"])
            assert first is not None
            yield _take(match.start(), first[0], f"{first[0]}:00")
    for match in _DAYS.finditer(text):
        if _leads(text, match, ""):
            for part in re.finditer(_NTH, match["parts"]):
                yield _take(match.start() + part.start(), part[0], f"{part[0]}{match['month']}")
    for match in _DAYS_OF_MONTH.finditer(text):
        yield _take(
            match.start(),
            f"{match['month']}{match['first']}",
            f"{match['month']}{match['first']}{match['year'] or ''}",
        )
        year, parts = match["year"] or "", list(re.finditer(_NTH, match["parts"]))
        for part in parts:
            text = part[0] + (year if part is parts[-1] else "")
            yield _take(match.start("parts") + part.start(), text, f"{match['month']}{part[0]}{year}")


def _leads(text: str, match: re.Match[str], word: str) -> bool:
    """Tells by what stands before it whether a range is one of moments; `word` may join it after other words too."""
    join = re.sub(r"\W|\d|the\b|st\b|nd\b|rd\b|th\b", " ", match["parts"]).split()
    if not join or re.match(r"\d{1,2}(?:st|nd|rd|th)", match["parts"]):
        return True  # a dash, or "the 3rd"
    wanted = _LEADS["and"] if join[-1] == "and" else _LEADS[word if join[-1] == word else ""]
    return re.search(wanted, text[: match.start()], re.IGNORECASE) is not None


def _take(start: int, text: str, meaning: str) -> Mention:
    return Mention("moment", start, start + len(text), text, 0.0, meaning)


def _hour(text: str) -> int:
    return int(re.split("[:.]", text)[0])


def split_sentences(text: str) -> list[tuple[int, int]]:
    """Returns the places (first, behind the last character) of the sentences and lines of a text."""
    places, start = [], 0
    inside = [m for m in find_mentions(text) if m.kind == "moment"]
    for match in _SENTENCE.finditer(text):
        if any(m.start < match.start() < m.end for m in inside):
            continue  # "Dec. 25"
        places.append((start, match.start()))
        start = match.end()
    return [(a, b) for a, b in [*places, (start, len(text))] if text[a:b].strip()]


def read_number(word: str) -> float:
    """Reads digits or a number word; "a" and "an" are 1."""
    word = word.strip().lower().replace(",", "").replace("−", "-")
    if word in {"a", "an", "a full", "the whole"}:
        return 1.0
    return 0.5 if word == "half an" else WORDS[word] if word in WORDS else float(word)


def _read_duration(text: str) -> float:
    words = re.split(r"[ -](?=[a-z]+$)", re.sub(r" (further|more|full|consecutive) ", " ", text))
    unit = words[1]
    return read_number(words[0]) * UNITS[unit if unit in UNITS else unit.removesuffix("s")]


def _read_factor(text: str) -> float:
    whole = text.removesuffix(_AND_HALF)
    return float(FACTORS[text]) if text in FACTORS else read_number(whole) + (0.5 if whole != text else 0.0)


_READ = {
    "number": read_number,
    "percent": lambda text: read_number(re.split(r" ?(?:%|per ?cent)", text)[0]),
    "factor": _read_factor,
    "duration": _read_duration,
}
