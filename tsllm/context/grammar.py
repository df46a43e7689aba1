"""The grammar of spoken effects: what a language model may write about a window, and about a text.

It is built from the definition of effects themselves (`effects.FIELDS`, `KINDS`, `WORDS`), so that whatever it lets
through can be read. Moments are those of the window; numbers and moments may be held to what the text mentions.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from tsllm.context.applying import Window
from tsllm.context.effects import (
    DURATION,
    FIELDS,
    KINDS,
    MONTHS,
    NUMBER,
    PERCENT,
    POINTED,
    SAYABLE,
    STATE,
    WEEKDAYS,
    WORDS,
    write_time,
)
from tsllm.context.further import SAID
from tsllm.context.language import Automaton, Part, States, Text, any_of
from tsllm.context.listed import drop_points, find_names
from tsllm.context.mentioned import find_lengths, find_likes, find_numbers, find_times
from tsllm.context.spoken import MOST, NOTHING, name_times

TAUGHT = ("multiply", "raise", "lower", "add", "set", "cap", "floor")  # what every kind of event may be said with
Numbers = tuple[tuple[str, tuple[str, ...]], ...]  # kind -> the numbers that it may have
Place = tuple[int, States]  # lines that may follow, and where the automaton stands


def name_effects(events: Sequence[str]) -> tuple[str, ...]:
    """Returns the effects that kinds of events are said with.

    >>> name_effects(["sum", "trend"])
    ('multiply', 'raise', 'lower', 'add', 'set', 'cap', 'floor', 'slope')
    """
    return (*TAUGHT, *dict.fromkeys(SAID[kind] for kind in events if kind in SAID))


def find_alphabet(kinds: Sequence[str] = TAUGHT) -> str | None:
    """Returns the characters that answers of some kinds are made of; None = any, as in names."""
    if set(kinds) & {"follow", "states"}:
        return None
    words = {"like": WEEKDAYS + MONTHS, "peak": MONTHS}
    texts = [
        NOTHING,
        *FIELDS.values(),
        *kinds,
        *(word for kind in kinds for word in words.get(kind, ())),
        "smindh",
        "%" if set(kinds) & set(PERCENT) else "",
    ]
    return "".join(sorted({*"".join(texts), *"\n-.:+e0123456789"} - {*"{}"}))


@dataclass(frozen=True)
class Answers:
    """A language of answers behind a request: ` none`, or lines of effects.

    Attributes:
        machine: Reads lines without counting them.
        most: Lines.
    """

    machine: Automaton
    most: int

    def start(self) -> Place:
        """Returns where an answer begins."""
        return self.most - 1, self.machine.start()

    def follow(self, place: Place, char: str) -> Place:
        """Returns where a character leads; `shortest` of a place that it may not lead to is `NEVER`."""
        left, states = place
        if char != "\n":
            return left, self.machine.follow(states, char)
        return (left - 1, self.machine.follow(states, char)) if left else (0, frozenset())

    def shortest(self, place: Place) -> int:
        """Returns how many characters an answer needs at least from here; 0 = it is whole."""
        return self.machine.shortest(place[1])

    def accepts(self, text: str) -> bool:
        """Tells whether a text is an answer."""
        place = self.start()
        for char in text:
            place = self.follow(place, char)
        return self.shortest(place) == 0


def open_answers(window: Window, text: str | None = None, kinds: Sequence[str] = TAUGHT, most: int = MOST) -> Answers:
    """Returns what may be said about a window.

    Args:
        window: Its times are those that may be named: of the horizon, for `ignore` of the history.
        text: Hold numbers, moments and names to what it mentions, and leave out what it lists (the points of `follow`,
            which `read_said` takes from it); None = any number, any moment of the window.
        kinds: Effects that may be said.
        most: Lines of an answer.

    Raises:
        ValueError: If there is no such kind.

    Example:
        >>> import numpy as np, pandas as pd
        >>> times = pd.date_range("2024-01-01", periods=6, freq="h")
        >>> window = Window(np.ones(2), times[:2], times[2:])
        >>> answers = open_answers(window, "Output is capped at 9 from 3 am on.")
        >>> [answers.accepts(said) for said in (" none", " cap 9", " cap 9 from 03:00", " cap 8", " cap 9 from 05:00")]
        [True, True, True, False, False]
    """
    unknown = sorted(set(kinds) - set(SAYABLE))
    if unknown:
        raise ValueError(f"there is no effect {unknown[0]!r}; known: {', '.join(SAYABLE)}")
    named = name_times(window.future_times)
    past = {write_time(t): t for t in window.past_times} if "ignore" in kinds else {}
    told = None
    if text is not None:
        names, text = find_names(text) if "follow" in kinds else (), drop_points(text)
        known = find_times(text, window)
        named, past = ({name: t for name, t in names.items() if t in known} for names in (named, past))
        told = Told(find_numbers(text, window), find_lengths(text), names, find_likes(text))
        kinds = [kind for kind in kinds if kind not in POINTED or (kind == "follow" and told.names)]
    points = tuple(map(write_time, window.times)) if set(kinds) & set(POINTED) and told is None else ()
    first = next(iter(name_times(window.future_times)))
    return _build((tuple(named), tuple(past), points), first, told, tuple(dict.fromkeys(kinds)), most)


@dataclass(frozen=True)
class Told:
    """What a text offers to be copied.

    Attributes:
        numbers: Kind -> its numbers.
        lengths: Durations.
        names: Words, in their order, of which some in a row name a series that is listed.
        likes: Weekdays and months.
    """

    numbers: Numbers
    lengths: tuple[str, ...]
    names: tuple[str, ...]
    likes: tuple[str, ...]


@lru_cache(maxsize=64)
def _build(
    times: tuple[tuple[str, ...], ...], first: str, told: Told | None, kinds: tuple[str, ...], most: int
) -> Answers:
    """Builds the automaton; windows whose moments have the same names share it, and what was found out on it."""
    named, past, points = times
    machine = Automaton()
    begun = Text(" ").build(machine, machine.first)
    line, end = machine.add(), machine.add()
    machine.link(begun, line)
    machine.link(Text(NOTHING).build(machine, begun), end)
    spans: dict[str, int] = {}
    for kind in kinds:
        place = Text(kind).build(machine, line)
        needs_number, needs_word, _ = KINDS["multiply" if kind in PERCENT else kind]
        if needs_number:
            number = NUMBER if told is None else any_of(dict(told.numbers).get(kind, ()))
            place = _add_field(machine, place, "number", number)
        if kind in PERCENT:
            place = Text(" %").build(machine, place)
        if needs_word:
            word = WORDS[kind]
            if told is not None and kind in {"follow", "like"}:
                word = _Row(told.names) if kind == "follow" else any_of(told.likes)
            place = _add_field(machine, place, "word", word)
        family = kind if kind in POINTED else "past" if kind == "ignore" else "future"
        if family not in spans:
            spans[family] = machine.add()
            closed = _add_span(
                machine,
                spans[family],
                past if kind == "ignore" else named,
                first,
                None if told is None else told.lengths,
            )
            if kind in POINTED and told is None:
                closed = _add_points(machine, closed, points, STATE if kind == "states" else NUMBER)
            machine.link(closed, end)
            machine.link(closed, line, "\n")
        machine.link(place, spans[family])
    machine.close(end)
    return Answers(machine, most)


class _Row(Part):
    """At most eight words in a row, of some that follow each other."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words = tuple(words)
        self.pattern = "|".join(
            re.escape(" ".join(words[k:n]))
            for k in range(len(words))
            for n in range(k + 1, min(k + 8, len(words)) + 1)
        )

    def build(self, machine: Automaton, start: int) -> int:
        end = machine.add()
        for k in range(len(self.words)):
            place = start
            for word in self.words[k : k + 8]:
                place = Text(word if place == start else f" {word}").build(machine, place)
                machine.link(place, end)
        return end


def _add_field(machine: Automaton, place: int, name: str, part: Part) -> int:
    before, after = FIELDS[name].split("{}")
    return Text(after).build(machine, part.build(machine, Text(before).build(machine, place)))


def _open_field(machine: Automaton, place: int, name: str) -> int:
    return Text(FIELDS[name].removesuffix("{}")).build(machine, place)


def _add_span(
    machine: Automaton, place: int, names: tuple[str, ...], first: str, lengths: tuple[str, ...] | None
) -> int:
    """Adds `[from TIME] [to TIME | for TIME] [every TIME]`; the end lies behind the start and the first moment.

    Lengths are those of a text, or any (None). What a text says to come again is written once for each time
    (`spoken.align`), so that `every` is only there where anything may be said.
    """
    closed, both = machine.add(), machine.add()
    machine.link(place, closed)
    machine.link(both, closed)
    if lengths is None:
        machine.link(_add_field(machine, both, "every", DURATION), closed)
    if not names:
        return closed
    alone = _add_later(machine, tuple(name for name in names if name != first), closed)
    machine.link(_open_field(machine, place, "end"), alone[0])
    later = _add_later(machine, names, both)
    begun, lasting = _open_field(machine, place, "start"), machine.add()
    machine.link(_add_field(machine, lasting, "length", DURATION if lengths is None else any_of(lengths)), both)
    for k, name in enumerate(names):
        started = Text(name).build(machine, begun)
        machine.link(started, closed)
        machine.link(started, lasting)
        machine.link(_open_field(machine, started, "end"), later[k + 1])
    return closed


def _add_later(machine: Automaton, names: tuple[str, ...], end: int) -> list[int]:
    """Adds for each place in `names` a state from which any name from there on leads to `end`."""
    states = [machine.add() for _ in range(len(names) + 1)]
    for k, name in enumerate(names):
        machine.link(states[k], states[k + 1])
        machine.link(Text(name).build(machine, states[k]), end)
    return states


def _add_points(machine: Automaton, place: int, names: tuple[str, ...], value: Part) -> int:
    """Adds `: TIME=value, TIME=value`, in the order of time."""
    closed = machine.add()
    states = [machine.add() for _ in range(len(names) + 1)]
    machine.link(_open_field(machine, place, "points"), states[0])
    for k, name in enumerate(names):
        machine.link(states[k], states[k + 1])
        given = value.build(machine, Text(f"{name}=").build(machine, states[k]))
        machine.link(given, closed)
        machine.link(Text(", ").build(machine, given), states[k + 1])
    return closed
