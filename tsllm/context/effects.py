"""Effects: what a text says about a series, as a short list that people and programs can read, edit and apply.

One effect a line:

    multiply 4 from 2013-05-28 12:00 to 2013-05-28 14:00
    set 0 from 2024-01-18 08:00 to 2024-01-18 14:00 every 7 d
    cap 13.2
    ignore from 2024-01-16 06:00 to 2024-01-16 07:00
    like Sunday from 2024-07-04 to 2024-07-05
    follow load: 2024-01-01=0.1, 2024-01-02=0.4

`from` belongs to the span, `to` is the first moment after it; without them an effect is about the whole horizon. The
empty list changes nothing. `from ... for 2 h` is read as well, and `raise 20 %` and `lower 20 %` for `multiply 1.2`
and `multiply 0.8`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tsllm.context.language import DIGIT, Chars, Many, Maybe, OneOf, Part, Seq, Text, Word

# kind -> (needs a number, needs a word, what it does)
KINDS: dict[str, tuple[bool, bool, str]] = {
    "multiply": (True, False, "the forecast times the number"),
    "add": (True, False, "the forecast plus the number"),
    "set": (True, False, "the number instead of the forecast"),
    "cap": (True, False, "nothing above the number"),
    "floor": (True, False, "nothing below the number"),
    "delay": (True, False, "what would come in the span comes so many steps later; the last value before it fills in"),
    "slope": (True, False, "the number added for every step since the start, on top of the forecast"),
    "total": (True, False, "steps of a year sum up to about the number"),
    "peak": (False, True, "the month in which most of a year's total falls"),
    "like": (False, True, "as on that weekday, or in that month, of the history"),
    "ignore": (False, False, "the span of the history misleads: fill it in before forecasting"),
    "daylight": (False, False, "nothing before sunrise and after sunset, most around noon"),
    "follow": (False, True, "moves with another series, given as time=value"),
    "through": (True, True, "what the series comes to when the series followed has the value of the word"),
    "states": (False, True, "depends on a state, given as time=word"),
}
POINTED = ("follow", "states")  # kinds that come with points time=value
PERCENT = {"raise": 1, "lower": -1}  # other words for `multiply`, with a percentage
SAYABLE = (*KINDS, *PERCENT)
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
          "December")  # fmt: skip
_UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86400}
# A line is its kind and then, in this order, those of these fields that it has.
FIELDS = {
    "number": " {}", "word": " {}", "start": " from {}", "end": " to {}", "length": " for {}", "every": " every {}",
    "points": ": {}",
}  # fmt: skip
NUMBER = Seq(
    Maybe(Text("-")),
    OneOf(
        Seq(Many(DIGIT, 1, 17), Maybe(Seq(Text("."), Many(DIGIT, 0, 21)))),
        Seq(Text("."), Many(DIGIT, 1, 21)),
    ),
    # Not further than every such number is finite.
    Maybe(Seq(Text("e"), OneOf(Seq(Maybe(Text("+")), OneOf(Many(DIGIT, 1, 2), Seq(Text("1"), Many(DIGIT, 2, 2)),
                                                          Seq(Text("2"), Chars("01234567", "[0-7]"), DIGIT))),
                               Seq(Text("-"), Many(DIGIT, 1, 3))))),
)  # fmt: skip
_NOT_ZERO = Chars("123456789", "[1-9]")
_FRACTION = Seq(Text("."), Many(DIGIT, 1, 6))
DURATION = OneOf(
    # More digits than these a `Timedelta` does not hold.
    *(Seq(_NOT_ZERO, Many(DIGIT, 0, most - 1), Text(f" {unit}")) for unit, most in (("min", 8), ("h", 6), ("d", 5))),
    Seq(_NOT_ZERO, Many(DIGIT, 0, 8), Maybe(_FRACTION), Text(" s")),
    *(Seq(Text(f"0.{'0' * k}"), _NOT_ZERO, Many(DIGIT, 0, 5 - k), Text(" s")) for k in range(6)),
)
_NAME_WORD = Word(":=,", ("from", "to", "for", "every"))  # the words that follow a name
NAME = Seq(_NAME_WORD, Many(Seq(Text(" "), _NAME_WORD), 0, 7))
STATE = Seq(Word("=,", ()), Many(Seq(Text(" "), Word("=,", ())), 0, 7))
WORDS: dict[str, Part] = {
    "like": OneOf(*map(Text, (*WEEKDAYS, *MONTHS))), "peak": OneOf(*map(Text, MONTHS)), "through": NUMBER,
    "follow": NAME, "states": NAME,
}  # fmt: skip
_WANTED = {
    "like": f"one of {', '.join((*WEEKDAYS, *MONTHS))}", "peak": f"one of {', '.join(MONTHS)}",
    "through": "a number behind its number",
    "follow": "a name of at most eight words, none of them `from`, `to`, `for` or `every`, without `:`, `=` and `,`",
    "states": "a name of at most eight words, none of them `from`, `to`, `for` or `every`, without `:`, `=` and `,`",
}  # fmt: skip
_PERCENT = re.compile(rf"(?P<kind>{'|'.join(PERCENT)}) (?P<number>{NUMBER.pattern}) ?%(?P<rest> .*)?")
_TIME = re.compile(r"\d{4}(?:-\d\d?(?:-\d\d?(?:[ T]\d\d?:\d\d(?::\d\d(?:\.\d{1,9})?)?)?)?)?")
_CAUGHT = {
    "number": NUMBER.pattern + r"(?![\w.-])", "word": "(?!from |to |for |every )[^:=]+?", "start": r"[\d:. T-]+?",
    "end": r"[\d:. T-]+?", "length": r"[\d.]+ (?:s|min|h|d)", "every": r"[\d.]+ (?:s|min|h|d)", "points": ".+",
}  # fmt: skip


def _write_line_pattern(numbered: bool) -> re.Pattern[str]:
    """Returns what takes a line apart; where a kind has no number, digits may be a name."""
    fields = [f.format(f"(?P<{name}>{_CAUGHT[name] if name != 'number' or numbered else '(?!)'})")
              for name, f in FIELDS.items()]  # fmt: skip
    return re.compile("(?P<kind>[a-z]+)" + "".join(f"(?:{field})?" for field in fields))


_LINES = {numbered: _write_line_pattern(numbered) for numbered in (True, False)}


@dataclass(frozen=True)
class Effect:
    """One thing that a text says.

    Attributes:
        kind: One of `KINDS`.
        number: In the units of the series, or a factor; None where the kind has none.
        word: A weekday, a month, or the name of another series; empty where the kind has none.
        start: First moment of the span; None = from the start of the horizon.
        end: First moment after the span; None = to its end.
        every: The span comes again after this time, and again; None = once.
        points: Times and values of `follow` and `states`, sorted; a value holds until the next point.
    """

    kind: str
    number: float | None = None
    word: str = ""
    start: pd.Timestamp | None = None
    end: pd.Timestamp | None = None
    every: pd.Timedelta | None = None
    points: tuple[tuple[pd.Timestamp, float | str], ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"there is no effect {self.kind!r}; known: {', '.join(KINDS)}")
        needs_number, needs_word, _ = KINDS[self.kind]
        if needs_number != (self.number is not None) or needs_word != bool(self.word):
            raise ValueError(
                f"effect {self.kind!r} takes {'a' if needs_number else 'no'} number and {'a' if needs_word else 'no'} "
                f"word, got number {self.number} and word {self.word!r}"
            )
        if self.number is not None and not np.isfinite(self.number):
            raise ValueError(f"effect {self.kind!r} has the number {self.number}; it must be finite")
        if self.number is not None and re.fullmatch(NUMBER.pattern, write_number(self.number)) is None:
            raise ValueError(f"effect {self.kind!r} has the number {self.number}; it must be below 1e280 in size")
        if self.kind in WORDS and re.fullmatch(WORDS[self.kind].pattern, self.word) is None:
            raise ValueError(f"effect {self.kind!r} takes {_WANTED[self.kind]}, got {self.word!r}")
        if self.start is not None and self.end is not None and self.end <= self.start:
            raise ValueError(f"effect {self.kind!r} ends ({self.end}) before it starts ({self.start})")
        if self.every is not None and (self.start is None or self.end is None or self.every <= pd.Timedelta(0)):
            raise ValueError(
                f"effect {self.kind!r} comes every {self.every}, so it needs `from`, `to` and a positive time"
            )
        if self.every is not None:
            written = write_duration(self.every)
            if re.fullmatch(DURATION.pattern, written) is None or parse_duration(written) != self.every:
                raise ValueError(
                    f"effect {self.kind!r} comes every {self.every}, which is too long or too fine to be written "
                    "down; give whole microseconds, and at most 99999 d, 999999 h or 999999999 s"
                )
        if bool(self.points) != (self.kind in POINTED):
            raise ValueError(
                f"effect {self.kind!r} got {len(self.points)} points time=value; only `follow` and `states` have them"
            )
        for _, value in self.points:
            wanted = STATE if self.kind == "states" else NUMBER
            if re.fullmatch(wanted.pattern, _write_value(value)) is None:
                raise ValueError(
                    f"effect {self.kind!r} has the value {value!r}; it must be "
                    + ("words without `,` and `=`" if self.kind == "states" else "a finite number")
                )

    def covers(self, times: pd.DatetimeIndex) -> np.ndarray:
        """Tells for each time whether the span holds it: [H] of bool."""
        inside = np.ones(len(times), dtype=bool)
        if self.every is not None and self.start is not None and self.end is not None:
            since = times - self.start
            return np.asarray((since >= pd.Timedelta(0)) & (since % self.every < self.end - self.start))
        if self.start is not None:
            inside &= np.asarray(times >= self.start)
        if self.end is not None:
            inside &= np.asarray(times < self.end)
        return inside

    def __str__(self) -> str:
        return self.write()

    def write(self, names: Mapping[pd.Timestamp, str] | None = None) -> str:
        """Returns the line.

        Args:
            names: How moments are called; those without a name, and all of them for None, are written out.
        """

        def say(time: pd.Timestamp) -> str:
            return (names or {}).get(time) or write_time(time)

        written = {
            "number": None if self.number is None else write_number(self.number),
            "word": self.word or None,
            "start": None if self.start is None else say(self.start),
            "end": None if self.end is None else say(self.end),
            "length": None,
            "every": None if self.every is None else write_duration(self.every),
            "points": ", ".join(f"{write_time(t)}={_write_value(v)}" for t, v in self.points) or None,
        }
        return self.kind + "".join(f.format(written[name]) for name, f in FIELDS.items() if written[name] is not None)


def write_effects(effects: Sequence[Effect]) -> str:
    """Writes effects, one a line; the empty list becomes the empty text."""
    return "\n".join(map(str, effects))


def parse_effects(text: str, names: Mapping[str, pd.Timestamp] | None = None) -> list[Effect]:
    """Reads what `write_effects` writes, or a person.

    Args:
        text: Effects, one a line.
        names: What else moments are called behind `from` and `to`.

    Raises:
        ValueError: If a line is no effect; the text names the line.
    """
    effects = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            effects.append(_parse_line(line.strip(), names or {}))
        except ValueError as error:
            raise ValueError(f"line {number} ({line.strip()!r}) is no effect: {error}") from error
    return effects


def _parse_line(line: str, names: Mapping[str, pd.Timestamp]) -> Effect:
    percent = _PERCENT.fullmatch(line)
    if percent:
        line = f"multiply {write_number(rise(percent['kind'], float(percent['number'])))}{percent['rest'] or ''}"
    if (kind := line.split(" ")[0]) in PERCENT:
        given = re.search(rf"(?<![\w.]){NUMBER.pattern}(?![\w.])", line)
        number = float(given[0]) if given else 20.0
        amount = write_number(PERCENT[kind] * number)
        raise ValueError(
            f"`{kind}` takes a percentage; write `{kind} {write_number(number)} %`, or `add {amount}` for an amount"
        )
    needs_number, needs_word, _ = KINDS.get(line.split(" ")[0], (True, False, ""))
    match = _LINES[needs_number or not needs_word].fullmatch(line)
    if match is None:
        raise ValueError(
            "expected `kind [number] [word] [from TIME] [to TIME | for N h] [every N h] [: TIME=value, ...]`"
        )
    points = []
    for item in (match["points"] or "").split(", ") if match["points"] else ():
        time, sign, value = item.partition("=")
        if not sign:
            raise ValueError(f"{item!r} is not TIME=value")
        points.append((_parse_time(time, {}), value if match["kind"] == "states" else float(value)))
    start, end = (None if match[name] is None else _parse_time(match[name], names) for name in ("start", "end"))
    if match["length"] is not None:
        if start is None or end is not None:
            raise ValueError("`for` says how long from the start on: give `from` with it, and no `to`")
        end = start + parse_duration(match["length"])
    return Effect(
        match["kind"],
        None if match["number"] is None else float(match["number"]),
        match["word"] or "",
        start,
        end,
        None if match["every"] is None else parse_duration(match["every"]),
        tuple(points),
    )


def _parse_time(text: str, names: Mapping[str, pd.Timestamp]) -> pd.Timestamp:
    if text in names:
        return names[text]
    if _TIME.fullmatch(text) is None:  # pandas would take a clock alone for one of today
        raise ValueError(f"{text!r} is no time; write 2024-01-18 or 2024-01-18 08:00")
    return pd.Timestamp(text)


def rise(kind: str, percent: float) -> float:
    """Returns the factor of `raise` or `lower` by a percentage.

    >>> rise("lower", 55)
    0.45
    """
    return shorten(1 + PERCENT[kind] * percent / 100)


def write_number(number: float) -> str:
    """Writes a number in the shortest way that is read as the same: `60`, `0.1`, `1e-05`."""
    return repr(float(number)).removesuffix(".0")


def shorten(number: float) -> float:
    """Returns a number with six significant digits, as many as are said of it."""
    return float(f"{number:.6g}")


def write_duration(duration: pd.Timedelta) -> str:
    """Writes a duration in its largest whole unit: `90 min`, `15 d`."""
    seconds = duration.total_seconds()
    unit = next((u for u in ("d", "h", "min") if seconds % _UNITS[u] == 0), "s")
    return f"{write_number(seconds / _UNITS[unit])} {unit}"


def parse_duration(text: str) -> pd.Timedelta:
    """Reads `90 min`, `15 d`."""
    number, unit = text.split(" ")
    return pd.Timedelta(round(float(number) * _UNITS[unit] * 1e6), "us")


def write_time(time: pd.Timestamp) -> str:
    """Writes a moment without what is zero in it: `2024-01-18`, `2024-01-18 08:00`."""
    if time.nanosecond or time.microsecond or time.second:
        return time.isoformat(" ")
    return f"{time:%Y-%m-%d}" if time == time.normalize() else f"{time:%Y-%m-%d %H:%M}"


def _write_value(value: float | str) -> str:
    return value if isinstance(value, str) else write_number(value)
