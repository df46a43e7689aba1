"""Parts of a sentence that are read by themselves: "closed on Wednesday, and sales double on Friday" tells twice.

A sentence is taken apart at commas, semicolons and words that join ("and", "but", "while") into the most parts that
each have an effect and a time of their own. Where that can be done in several ways, it stays whole.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

from tsllm.context.lexer import Mention

Place = tuple[int, int]
_JOIN = re.compile(
    r"\s*;\s*(?:(?:and|but|while|whereas) )?|,\s+(?:(?:and|but|while|whereas) )?|\s+(?:and|but|while|whereas)\s+",
    re.IGNORECASE,
)
_BETWEEN = re.compile(r"\bbetween (?:(?! and )[^,;])*$", re.IGNORECASE)
_BARE = re.compile(
    r"(?:and|also|again|on|at|in|from|to|until|till|between|the|all|day|too|as|well|both|of|onwards?|\W)*",
    re.IGNORECASE,
)
# When all is as usual belongs to no effect.
_USUAL = re.compile(
    r"\b(?:open(?!ing)(?:s|ed)?|as (?:usual|always|normal)|normal(?:ly)?|unchanged|(?:un|not )affected|"
    r"regular(?:ly)?)\b",
    re.IGNORECASE,
)
# A clause with a verb of its own may be about something else at another time.
_VERB = re.compile(
    r"\b(?:is|are|will|has|have|there['’]s|takes? place|comes?|arrives?|visits?|starts?|begins?|ends?)\b",
    re.IGNORECASE,
)
_SUBORDINATE = re.compile(
    r"(?:which|when|where|who|whose|that|because|as|since|due|if|until|till|after|before|during|so)\b", re.IGNORECASE
)
_TIMES, _VALUES = ("moment", "duration"), ("number", "percent", "factor")
_MOST = 10  # parts that are tried in all ways


@dataclass(frozen=True)
class Part:
    """A part of a sentence.

    Attributes:
        place: In the text.
        tells: Whether it says what happens.
        timed: Whether it says when.
        returns: Whether it says no more than when all is as before.
        lasts: Whether its time has no end.
    """

    place: Place
    tells: bool
    timed: bool
    returns: bool = False
    lasts: bool = False


def list_parts(text: str, place: Place, mentions: Sequence[Mention], names: Sequence[Place] = ()) -> list[Place]:
    """Returns the parts between the joins of a sentence, each without them; moments and names in a row stay together.

    Args:
        text: The whole text.
        place: Of the sentence.
        mentions: Of the text.
        names: Places of what is called by a name.

    Example:
        >>> said = "Closed today, and sales double tomorrow."
        >>> [said[a:b] for a, b in list_parts(said, (0, len(said)), ())]
        ['Closed today', 'sales double tomorrow.']
    """
    starts = {m.start for m in mentions if m.kind == "moment"}
    ends = {m.end for m in mentions if m.kind == "moment"}
    parts, start = [], place[0]
    for join in _JOIN.finditer(text, *place):
        if any(m.start < join.end() and join.start() < m.end for m in mentions):
            continue
        article = re.compile("(?:the )?", re.IGNORECASE).match(text, join.end())
        behind = article.end() if article else join.end()
        row = join.start() in ends and behind in starts
        row |= any(b == join.start() for _, b in names) and any(a == behind for a, _ in names)
        if row or _BETWEEN.search(text[start : join.start()]) or start == join.start():
            continue
        parts.append((start, join.start()))
        start = join.end()
    return [*parts, (start, place[1])]


def split_clauses(
    text: str, place: Place, mentions: Sequence[Mention], look: Callable[[Place], Part]
) -> tuple[list[Place], str]:
    """Returns the parts of a sentence that are read by themselves, and why it is not read at all; empty if it is.

    Args:
        text: The whole text.
        place: Of the sentence.
        mentions: Of the text.
        look: Says of a place what it tells.
    """
    places = list_parts(text, place, mentions)
    if len(places) < 2:
        return [place], ""
    parts = [look(part) for part in places]
    if sum(part.timed for part in parts) < 2 or not any(part.tells for part in parts):
        return [place], ""
    owns = any(part.tells and part.timed for part in parts)
    if owns and any(not part.tells and _is_value(text, part, mentions) for part in parts):
        return [place], "several values at several times in one sentence; write a sentence for each"
    usual = [_says_usual(text, part) or (owns and _is_apart(text, part, mentions, place[0])) for part in parts]
    groups = _group(text, parts, usual, mentions)
    if len(groups) > 1:
        whole = [look((group[0].place[0], group[-1].place[1])) for group in groups]
        apart = all(part.tells or _has_usual(group, parts, usual) for part, group in zip(whole, groups, strict=True))
        ends = any(usual) and any(part.lasts for part in whole)
        if apart and not ends:
            return [part.place for part in whole], ""
    if any(usual):
        return [place], "it also says what is at another time; write a sentence for each"
    return [place], ""


def _says_usual(text: str, part: Part) -> bool:
    """Tells whether a part says that all is as usual, and nothing else."""
    return not part.tells and not part.returns and _USUAL.search(text[slice(*part.place)]) is not None


def _is_apart(text: str, part: Part, mentions: Sequence[Mention], first: int) -> bool:
    """Tells whether a part that tells nothing is about another time than the rest of its sentence."""
    said = text[slice(*part.place)]
    if part.tells or part.returns or not part.timed or _is_bare(text, part, mentions) or _SUBORDINATE.match(said):
        return False
    return _VERB.search(said) is not None or ";" in text[max(first, part.place[0] - 6) : part.place[0]]


def _has_usual(group: Sequence[Part], parts: Sequence[Part], usual: Sequence[bool]) -> bool:
    return any(usual[parts.index(part)] for part in group)


def _group(text: str, parts: Sequence[Part], usual: Sequence[bool], mentions: Sequence[Mention]) -> list[list[Part]]:
    """Returns the most groups of neighbours that each tell something of a time; one group where that is left open."""
    groups: list[list[int]] = []
    for k, part in enumerate(parts):
        alone = k + 1 < len(parts) and parts[k + 1].tells and not parts[k + 1].timed
        more = part.returns or (not alone and not part.tells and not usual[k] and _is_bare(text, part, mentions))
        empty = not part.tells and not part.timed
        if groups and (empty or (part.timed and not part.tells and more) or _is_empty(parts, groups[-1])):
            groups[-1].append(k)
        else:
            groups.append([k])
    if len(groups) > _MOST:
        return [list(parts)]
    for number in range(len(groups), 1, -1):
        ways = [way for way in _list_ways(groups, number) if all(_is_whole(part, parts, usual) for part in way)]
        if ways:
            return [[parts[k] for k in part] for part in ways[0]] if len(ways) == 1 else [list(parts)]
    return [list(parts)]


def _is_empty(parts: Sequence[Part], group: Sequence[int]) -> bool:
    return all(not parts[k].tells and not parts[k].timed for k in group)


def _list_ways(groups: Sequence[list[int]], number: int) -> list[list[list[int]]]:
    """Returns all ways to cut a row into so many runs."""
    ways = []
    for cuts in combinations(range(1, len(groups)), number - 1):
        edges = (0, *cuts, len(groups))
        ways.append([[k for part in groups[a:b] for k in part] for a, b in pairwise(edges)])
    return ways


def _is_whole(group: Sequence[int], parts: Sequence[Part], usual: Sequence[bool]) -> bool:
    return any(parts[k].timed for k in group) and any(parts[k].tells or usual[k] for k in group)


def _is_value(text: str, part: Part, mentions: Sequence[Mention]) -> bool:
    """Tells whether a part is nothing but a value and a time, whose verb is that of another part ("60 on Friday")."""
    kinds = [m.kind for m in mentions if part.place[0] <= m.start and m.end <= part.place[1]]
    values = [kind for kind in kinds if kind in _VALUES]
    return len(values) == 1 and "moment" in kinds and _is_bare(text, part, mentions, (*_TIMES, *_VALUES))


def _is_bare(text: str, part: Part, mentions: Sequence[Mention], kinds: Sequence[str] = _TIMES) -> bool:
    """Tells whether a part is nothing but a time ("on Friday"), or mentions of some kinds."""
    first, last = part.place
    rest, behind = "", first
    for m in mentions:
        if m.kind in kinds and first <= m.start and m.end <= last:
            rest, behind = rest + text[behind : m.start], m.end
    return _BARE.fullmatch(rest + text[behind:last]) is not None
