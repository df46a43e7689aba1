"""Regular languages, defined once: a pattern that `re` reads them with, and an automaton that says what may come next.

>>> number = Seq(Maybe(Text("-")), Many(DIGIT, 1, 3))
>>> [bool(re.fullmatch(number.pattern, text)) for text in ("42", "-7", "4711")]
[True, True, False]
>>> machine = Automaton(); machine.close(number.build(machine, machine.first))
>>> [machine.shortest(machine.read(text)) for text in ("", "-", "-4")]  # characters still needed
[1, 1, 0]
>>> machine.read("-a")  # refused
frozenset()
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable

States = frozenset[int]


class AllBut(frozenset[str]):
    """All characters but some."""

    def __contains__(self, char: object) -> bool:
        return not frozenset.__contains__(self, char)


WHITE = "".join(filter(str.isspace, map(chr, range(0x3001))))  # what `re` calls \\s
NEVER = 10**9  # more characters than any sentence has


class Automaton:
    """A nondeterministic automaton over characters; a set of its states is where a sentence stands.

    `work` counts the sets of states that were followed anew; what was followed before is looked up.
    """

    def __init__(self) -> None:
        self.first, self.last, self.work = 0, -1, 0
        self._edges: list[list[tuple[frozenset[str], int]]] = [[]]
        self._free: list[list[int]] = [[]]
        self._followed: dict[tuple[States, str], States] = {}
        self._distances: list[int] = []

    def add(self) -> int:
        """Returns a new state."""
        self._edges.append([])
        self._free.append([])
        return len(self._edges) - 1

    def link(self, start: int, end: int, chars: Iterable[str] = ()) -> int:
        """Lets one of some characters lead from a state to another; without any, nothing at all leads there."""
        allowed = chars if isinstance(chars, frozenset) else frozenset(chars)
        if allowed:
            self._edges[start].append((allowed, end))
        else:
            self._free[start].append(end)
        return end

    def close(self, last: int) -> None:
        """Ends the definition: a sentence is whole in the state `last`."""
        self.last = last
        back: list[list[tuple[int, int]]] = [[] for _ in self._edges]
        for state, edges in enumerate(self._edges):
            for _, end in edges:
                back[end].append((state, 1))
            for end in self._free[state]:
                back[end].append((state, 0))
        self._distances = [NEVER] * len(self._edges)
        self._distances[last] = 0
        level = [last]
        while level:  # breadth first; a step that takes no character stays on its level
            nearer: list[int] = []
            for state in level:
                for start, cost in back[state]:
                    if self._distances[state] + cost < self._distances[start]:
                        self._distances[start] = self._distances[state] + cost
                        (nearer if cost else level).append(start)
            level = nearer

    def start(self) -> States:
        """Returns where a sentence begins."""
        return self._spread({self.first})

    def follow(self, states: States, char: str) -> States:
        """Returns where a character leads; the empty set = it is refused."""
        key = (states, char)
        if key not in self._followed:
            self.work += 1
            self._followed[key] = self._spread(
                {end for state in states for chars, end in self._edges[state] if char in chars}
            )
        return self._followed[key]

    def read(self, text: str) -> States:
        """Returns where a whole text leads from the start."""
        states = self.start()
        for char in text:
            states = self.follow(states, char)
        return states

    def shortest(self, states: States) -> int:
        """Returns how many characters a sentence needs at least from here; 0 = it is whole."""
        return min((self._distances[state] for state in states), default=NEVER)

    def accepts(self, text: str) -> bool:
        """Tells whether a text is a sentence."""
        return self.shortest(self.read(text)) == 0

    def _spread(self, states: set[int]) -> States:
        waiting = list(states)
        while waiting:
            fresh = set(self._free[waiting.pop()]) - states
            states |= fresh
            waiting += fresh
        return frozenset(states)


class Part(ABC):
    """A language as a part of others.

    Attributes:
        pattern: The same for `re`, without groups that it would number.
    """

    pattern: str

    @abstractmethod
    def build(self, machine: Automaton, start: int) -> int:
        """Adds it to an automaton behind a state, and returns the state at its end."""


class Text(Part):
    """One text."""

    def __init__(self, text: str) -> None:
        self.text, self.pattern = text, re.escape(text)

    def build(self, machine: Automaton, start: int) -> int:  # noqa: D102  # as in `Part`
        for char in self.text:
            start = machine.link(start, machine.add(), char)
        return start


class Chars(Part):
    """One of some characters; `pattern` is a set of `re`, in brackets."""

    def __init__(self, chars: Iterable[str], pattern: str) -> None:
        self.chars, self.pattern = frozenset(chars), pattern

    def build(self, machine: Automaton, start: int) -> int:  # noqa: D102  # as in `Part`
        return machine.link(start, machine.add(), self.chars)


class Seq(Part):
    """One behind the other."""

    def __init__(self, *parts: Part) -> None:
        self.parts, self.pattern = parts, "".join(part.pattern for part in parts)

    def build(self, machine: Automaton, start: int) -> int:  # noqa: D102  # as in `Part`
        for part in self.parts:
            start = part.build(machine, start)
        return start


class OneOf(Part):
    """Any of some."""

    def __init__(self, *parts: Part) -> None:
        self.parts, self.pattern = parts, f"(?:{'|'.join(part.pattern for part in parts)})"

    def build(self, machine: Automaton, start: int) -> int:  # noqa: D102  # as in `Part`
        end = machine.add()
        for part in self.parts:
            machine.link(part.build(machine, start), end)
        return end


class Maybe(Part):
    """One, or nothing."""

    def __init__(self, part: Part) -> None:
        self.part, self.pattern = part, f"(?:{part.pattern})?"

    def build(self, machine: Automaton, start: int) -> int:  # noqa: D102  # as in `Part`
        end = machine.add()
        machine.link(start, end)
        machine.link(self.part.build(machine, start), end)
        return end


class Many(Part):
    """One, `least` to `most` times."""

    def __init__(self, part: Part, least: int, most: int) -> None:
        self.part, self.least, self.most = part, least, most
        simple = isinstance(part, Chars)
        self.pattern = f"{part.pattern if simple else f'(?:{part.pattern})'}{{{least},{most}}}"

    def build(self, machine: Automaton, start: int) -> int:  # noqa: D102  # as in `Part`
        end = machine.add()
        for number in range(self.most + 1):
            if number >= self.least:
                machine.link(start, end)
            if number < self.most:
                start = self.part.build(machine, start)
        return end


class Word(Part):
    """Characters of a word, at least one, no white space and nothing of `ends`, and together none of some words.

    Args:
        ends: What no word holds.
        words: What is no word.
    """

    def __init__(self, ends: str, words: Iterable[str]) -> None:
        self.ends, self.words = ends + WHITE, tuple(words)
        char, refused = f"[^\\s{re.escape(ends)}]", "|".join(map(re.escape, self.words))
        self.pattern = (f"(?!(?:{refused})(?!{char}))" if words else "") + f"{char}+"

    def build(self, machine: Automaton, start: int) -> int:  # noqa: D102  # as in `Part`
        end, other = machine.add(), machine.add()
        machine.link(other, end)
        machine.link(other, other, AllBut(self.ends))
        places = {"": start}
        begun = sorted({"", *(word[:k] for word in self.words for k in range(len(word) + 1))}, key=len)
        for text in begun[1:]:
            places[text] = machine.link(places[text[:-1]], machine.add(), text[-1])
        for text in begun:
            going_on = "".join(longer[-1] for longer in begun if longer and longer[:-1] == text)
            machine.link(places[text], other, AllBut(self.ends + going_on))
            if text and text not in self.words:
                machine.link(places[text], end)
        return end


def any_of(texts: Iterable[str]) -> OneOf:
    """Returns one of some texts."""
    return OneOf(*map(Text, texts))


DIGIT = Chars("0123456789", "[0-9]")
