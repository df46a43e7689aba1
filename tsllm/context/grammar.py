"""The grammar of spoken effects: what a language model may write about a window, and about a text.

It is built from the definition of effects themselves (`effects.FIELDS`, `KINDS`, `WORDS`), so that whatever it lets
through can be read. Moments are those of the window; numbers and moments may be held to what the text mentions.
"""

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
from tsllm.context.language import Automaton, Part, States, Text, any_of
from tsllm.context.mentioned import find_lengths, find_numbers, find_times
from tsllm.context.spoken import MOST, NOTHING, name_times

TAUGHT = ("multiply", "raise", "lower", "add", "set", "cap", "floor")  # what `tsllm.context.events` writes about
Numbers = tuple[tuple[str, tuple[str, ...]], ...]  # kind -> the numbers that it may have
Place = tuple[int, States]  # lines that may follow, and where the automaton stands


def find_alphabet(kinds: Sequence[str] = TAUGHT) -> str | None:
    """Returns the characters that answers of some kinds are made of; None = any, as in names."""
    if set(kinds) & {"follow", "states"}:
        return None
    words = {"like": WEEKDAYS, "peak": MONTHS}
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
        text: Hold numbers and moments to what it mentions; None = any number, any moment of the window.
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
    numbers: Numbers | None = None
    lengths: tuple[str, ...] | None = None
    if text is not None:
        told = find_times(text, window)
        named, past = ({name: t for name, t in names.items() if t in told} for names in (named, past))
        numbers, lengths = find_numbers(text), find_lengths(text)
    points = tuple(map(write_time, window.times)) if set(kinds) & set(POINTED) else ()
    first = next(iter(name_times(window.future_times)))
    return _build((tuple(named), tuple(past), points), first, numbers, lengths, tuple(dict.fromkeys(kinds)), most)


@lru_cache(maxsize=64)
def _build(
    times: tuple[tuple[str, ...], ...], first: str, numbers: Numbers | None, lengths: tuple[str, ...] | None,
    kinds: tuple[str, ...], most: int,
) -> Answers:  # fmt: skip
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
            number = NUMBER if numbers is None else any_of(dict(numbers).get(kind, ()))
            place = _add_field(machine, place, "number", number)
        if kind in PERCENT:
            place = Text(" %").build(machine, place)
        if needs_word:
            place = _add_field(machine, place, "word", WORDS[kind])
        family = kind if kind in POINTED else "past" if kind == "ignore" else "future"
        if family not in spans:
            spans[family] = machine.add()
            closed = _add_span(machine, spans[family], past if kind == "ignore" else named, first, lengths)
            if kind in POINTED:
                closed = _add_points(machine, closed, points, STATE if kind == "states" else NUMBER)
            machine.link(closed, end)
            machine.link(closed, line, "\n")
        machine.link(place, spans[family])
    machine.close(end)
    return Answers(machine, most)


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
