"""Synthetic texts with the roles of everything in them: what a reader of texts is trained on.

A text is put together from the stock of `tsllm.context.wordings`: subjects x causes x clauses x sentence forms x ways
to say a span x ways to write moments, durations and numbers, between sentences that say nothing. Every fifth wording
of each list is held out for validation; what `tsllm.context.wordings_more` and `wordings_composed` add is for training
alone.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pandas as pd

from tsllm.context import wordings as stock
from tsllm.context import wordings_composed as composed
from tsllm.context import wordings_more as more
from tsllm.context.lexer import find_mentions, split_sentences
from tsllm.context.reading import NONE, Reading

T = TypeVar("T")
_SLOT = re.compile(r"\{(\w+)\}")
_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_VERB_FACTORS = ("double", "triple", "quadruple", "halve")
_NOUN_FACTORS = ("double", "twice", "half", "triple", "a third of", "a quarter of", "two thirds of")
KINDS = ("multiply", "multiply", "factor", "raise", "lower", "set", "cap", "floor", "zero", "zero", "zero", "over",
         "over")  # fmt: skip
_CLAUSES = ("multiply", "factor", "raise", "raise", "lower", "lower", "set", "cap", "cap", "floor", "floor", "zero",
            "zero")  # fmt: skip
FOLDS = (3, 4)
_UNITS = ("second", "minute", "hour", "hour", "hour", "day", "day", "day", "week", "month")
_EXTRA = {
    name: getattr(more, name) + getattr(composed, name)
    for name in ("SPAN_FORMS", "OPENERS", "BACKGROUND", "DISTRACTORS", "DENIALS")
}


@dataclass
class Piece:
    """A stretch of text with the places of its mentions' roles, and what its sentences state."""

    text: str
    roles: list[tuple[int, int, str]]
    statement: str = NONE


class PairWriter:
    """Writes texts and their readings.

    Args:
        seed: Of all choices.
        held_out: Whether wordings come from the validation part of the stock instead of the training part.
        wide: Whether those of `tsllm.context.wordings_more` and `wordings_composed` come in too.
        fold: Which fifth is held out: 4, or 3 for development, where the training part leaves both out.
        old_forms: Whether words alone are held out, in the forms of sentences and spans of the training part.

    Raises:
        ValueError: If held out and wide are both asked for, or there is no such fold.
    """

    def __init__(
        self, seed: int, held_out: bool = False, wide: bool = False, fold: int = 4, old_forms: bool = False
    ) -> None:
        if held_out and wide:
            raise ValueError("what is held out has no further wordings; leave wide out")
        if fold not in FOLDS:
            raise ValueError(f"fold is {fold!r}; choose 4, the one to test on, or 3 for development")
        self.rng = np.random.default_rng(seed)
        self.held_out, self.wide, self.fold, self.old_forms = held_out, wide, fold, old_forms

    def write(self) -> Reading:
        """Returns one text with its roles."""
        self.entity, self.quantity = self._pick(stock.SUBJECTS, free=True)
        pieces = [self._write_background() for _ in range(self.rng.choice([0, 1, 2, 3], p=[0.35, 0.4, 0.17, 0.08]))]
        draw = self.rng.random()
        number = 0 if draw < 0.12 else 1 if draw < 0.82 else 2
        told = [piece for _ in range(number) for piece in self._write_effect()]
        wrong = [self._write_distractor() for _ in range(self.rng.choice([0, 1, 2], p=[0.6, 0.3, 0.1]))]
        behind = [self._write_background() for _ in range(self.rng.choice([0, 1], p=[0.8, 0.2]))]
        flat = pieces + ([*wrong, *told] if self.rng.random() < 0.5 else [*told, *wrong])
        flat += behind
        return self._join(flat or [self._write_background()])

    def write_clause(self) -> Reading:
        """Returns one short sentence about an effect, at times with its span, or one that takes an effect back."""
        subject = self._pick(stock.SUBJECTS, free=True) if self.rng.random() < 0.7 else ("the market", "price")
        self.entity, self.quantity = subject
        kind = _CLAUSES[int(self.rng.integers(len(_CLAUSES)))]
        slots = self._make_values(kind)
        main, participle, noun = self._pick_words(kind)
        if self.wide and self.rng.random() < 0.12:
            frame = self._pick(_EXTRA["DENIALS"], True).replace(" {span}", "").replace("{main}", main)
            return self._join([self._fill(frame, {name: (text, NONE) for name, (text, _) in slots.items()})])
        lead = self._pick(("we expect", "there will be", "the plan speaks of", "so much is sure:"), True)
        form = self._pick((main, main, main, main, f"{lead} {noun}", f"{{c}} comes, {participle}"), True)
        if self.rng.random() < 0.35:
            slots |= self._make_span()
            span = self._pick_span(kind)[0]
            form = self._pick((f"{form} {span}", f"{form} {span}", f"{span}, {form}"), True)
        opener = self._pick(stock.OPENERS, extra=_EXTRA["OPENERS"], form=True) if self.rng.random() < 0.2 else ""
        piece = self._fill(f"{opener}{form}.", slots)
        return self._join([self._state(piece, kind if kind == "zero" else NONE)])

    def _join(self, pieces: list[Piece]) -> Reading:
        text = ""
        roles: list[tuple[int, int, str]] = []
        statements: list[tuple[int, int, str]] = []
        for piece in pieces:
            if text:
                text += "\n" if self.rng.random() < 0.2 else " "
            places = [(len(text) + a, len(text) + b, role) for a, b, role in piece.roles]
            statements.append((len(text), len(text) + len(piece.text), piece.statement))
            text, roles = text + piece.text, roles + places
        mentions, sentences = find_mentions(text), split_sentences(text)
        given = [next((r for a, b, r in roles if a < m.end and m.start < b), NONE) for m in mentions]
        stated = []
        for first, last in sentences:
            told = [s for a, b, s in statements if a < last and first < b and s != NONE]
            stated.append(told[0] if told else NONE)
        return Reading(text, mentions, given, sentences, stated)

    def _pick(self, options: Sequence[T], free: bool = False, extra: Sequence[T] = (), form: bool = False) -> T:
        """Picks an option; from the part of the stock that this writer may use, unless `free`.

        Args:
            options: Of which every fifth is held out, unless there are less than five.
            free: Whether nothing is held out.
            extra: More of them, for training alone; what `options` have, held out or not, is no more.
            form: Whether they are forms of sentences or of spans rather than words.
        """
        part = list(options)
        if not free and len(options) >= 5:
            new = self.held_out and not (form and self.old_forms)
            part = [o for k, o in enumerate(options) if (k % 5 == self.fold if new else k % 5 < self.fold)]
        if self.wide:
            part += [option for option in extra if option not in options]
        return part[int(self.rng.integers(len(part)))]

    def _fill(self, template: str, slots: dict[str, tuple[str, str]], capital: bool = True) -> Piece:
        """Fills a template; a slot is its text and its role (`none` for plain words)."""
        parts, roles, length, last = [], [], 0, 0
        for match in _SLOT.finditer(template):
            plain = template[last : match.start()]
            text, role = slots[match[1]] if match[1] in slots else self._invent(match[1])
            if role != NONE:
                roles.append((length + len(plain), length + len(plain) + len(text), role))
            parts += [plain, text]
            length, last = length + len(plain) + len(text), match.end()
        text = "".join([*parts, template[last:]])
        if capital and text:
            text = text[0].upper() + text[1:]
        return Piece(text, roles)

    def _invent(self, name: str) -> tuple[str, str]:
        """Returns words for slots that play no part."""
        rng = self.rng
        if name in {"c", "C"}:
            cause = self._pick(stock.CAUSES, extra=composed.CAUSES)
            return (cause if name == "c" else cause[0].upper() + cause[1:]), NONE
        options = {
            "q": lambda: self.quantity,
            "e": lambda: self.entity,
            "E": lambda: self.entity[0].upper() + self.entity[1:],
            "year": lambda: str(rng.integers(1900, 2024)),
            "n": lambda: str(
                self._pick(
                    (rng.integers(2, 100), rng.integers(100, 9999), f"{rng.integers(1, 99)},{rng.integers(100, 999)}"),
                    True,
                )
            ),
            "dec": lambda: f"{rng.random():.{rng.integers(2, 5)}f}",
            "small": lambda: self._write_number(int(rng.integers(2, 12))),
            "x": lambda: self._write_number(int(rng.integers(2, 15))),
            "dur": self._write_duration,
            "moment": lambda: self._write_moment(self._draw_time()),
            "pct": self._write_percent,
        }
        return str(options[name]()), NONE

    def _draw_time(self) -> pd.Timestamp:
        day = pd.Timestamp("1995-01-01") + pd.Timedelta(days=int(self.rng.integers(0, 12000)))
        hour = int(self.rng.choice([0, 0, 6, 8, 9, 12, 14, 18, 22, int(self.rng.integers(24))]))
        return day + pd.Timedelta(hours=hour, minutes=int(self.rng.choice([0, 0, 0, 15, 30, 45])))

    def _write_moment(self, t: pd.Timestamp, kind: str = "") -> str:
        kind = kind or self._pick(
            (
                "iso",
                "iso",
                "iso_seconds",
                "iso_seconds",
                "date",
                "long",
                "long",
                "short",
                "weekday",
                "clock",
                "relative",
            ),
            True,
        )
        clock = self._pick(
            (f"{t:%H:%M}", f"{t:%H:%M:%S}", f"{t.hour % 12 or 12} {'pm' if t.hour >= 12 else 'am'}", f"{t:%H:%M}"),
            True,
        )
        if (t.hour, t.minute) == (12, 0) and self.rng.random() < 0.3:
            clock = "noon"
        month = str(t.month_name())
        date = self._pick(
            (
                f"{t.day} {month} {t.year}",
                f"{month} {t.day}, {t.year}",
                f"{month} {t.day}",
                f"{t.day} {month}",
                f"{t.day} {month[:3] if month != 'May' else 'May'} {t.year}",
            ),
            True,
        )
        return {
            "iso": f"{t:%Y-%m-%d %H:%M}", "iso_seconds": f"{t:%Y-%m-%d %H:%M:%S}", "date": f"{t:%Y-%m-%d}",
            "long": f"{date}{self._pick((' at ', ', ', ' '), True)}{clock}", "short": date,
            "weekday": f"{t.day_name()}{self._pick(('', ' at ' + clock), True)}", "clock": clock,
            "relative": f"tomorrow{self._pick(('', ' at ' + clock), True)}",
        }[kind]  # fmt: skip

    def _write_duration(self) -> str:
        unit = self._pick(_UNITS, True)
        number = int(self.rng.choice([1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 20, 30, 45, 90]))
        if number == 1 and self.rng.random() < 0.5:
            return f"an {unit}" if unit == "hour" else f"a {unit}"
        return f"{self._write_number(number)} {unit}{'' if number == 1 else 's'}"

    def _write_number(self, number: int) -> str:
        return _WORDS[number] if number < len(_WORDS) and self.rng.random() < 0.35 else str(number)

    def _write_percent(self) -> str:
        number = self._pick(
            (str(self.rng.integers(1, 100)), str(5 * self.rng.integers(1, 20)), f"{100 * self.rng.random():.1f}"), True
        )
        return f"{number}{self._pick(('%', '%', ' %', ' per cent', ' percent'), True)}"

    def _write_value(self, role: str) -> tuple[str, str]:
        rng = self.rng
        if role == "multiply":
            return self._pick((self._write_number(int(rng.integers(2, 13))), f"{rng.uniform(0.1, 6):.1f}"), True), role
        if role in {"raise", "lower"} and rng.random() < 0.75:
            return self._write_percent(), role
        number = self._pick(
            (
                f"{rng.uniform(0, 10):.2f}",
                f"{rng.uniform(0, 100):.1f}",
                str(rng.integers(1, 1000)),
                f"{rng.integers(1, 99)},{rng.integers(100, 999)}",
                f"{rng.random():.3f}",
            ),
            True,
        )
        return f"{number}{self._pick(('', '', '', ' units', ' kW', ' MW', ' items'), True)}", role

    def _make_span(self) -> dict[str, tuple[str, str]]:
        start = self._draw_time()
        kind = self._pick(("iso", "iso_seconds", "iso_seconds", "date", "long", "short", "weekday", "clock"), True)
        end = (
            start + pd.Timedelta(hours=int(self.rng.integers(1, 24)))
            if kind not in {"date", "short", "weekday"}
            else start + pd.Timedelta(days=int(self.rng.integers(1, 14)))
        )
        same = kind if self.rng.random() < 0.8 or kind != "long" else "clock"
        day = self._write_moment(start, self._pick(("date", "short", "weekday", "relative", "iso"), True))
        return self._write_hours(start, end) | {
            "start": (self._write_moment(start, kind), "start"), "end": (self._write_moment(end, same), "end"),
            "day": (day, "day"), "length": (self._write_duration(), "length"),
            "every": (self._write_duration(), "every"), "delay": (self._write_duration(), "delay"),
        }  # fmt: skip

    def _write_hours(self, start: pd.Timestamp, end: pd.Timestamp) -> dict[str, tuple[str, str]]:
        """Returns a day and two times of that day, for forms that name the day once."""
        if not self.wide:
            return {}
        kind = self._pick(("date", "short", "weekday"), True)
        date = f"{start.day_name()}" if kind == "weekday" else self._write_moment(start, kind)
        clocks = [self._write_moment(t, "clock") for t in (start, end)]
        return {"date": (date, "day"), "open": (clocks[0], "start"), "close": (clocks[1], "end")}

    def _write_effect(self) -> list[Piece]:
        """Writes an effect as one sentence or two."""
        draw = self.rng.random()
        if draw < 0.05:
            return [self._state(self._fill(self._pick(stock.HOLIDAYS), self._make_span()), "holiday")]
        if draw < 0.08:
            span = self._pick(stock.SPAN_FORMS, form=True)
            return [self._fill(self._open(self._pick(stock.DELAYS).replace("{span}", span)) + ".", self._make_span())]
        kind = KINDS[self.rng.integers(len(KINDS))]
        slots = self._make_span() | self._make_values(kind)
        return self._arrange(kind, slots)

    def _make_values(self, kind: str) -> dict[str, tuple[str, str]]:
        """Returns the number that a kind of effect takes, or the words for a factor."""
        if kind == "factor":
            verb, noun = self._pick(_VERB_FACTORS, True), self._pick(_NOUN_FACTORS, True)
            return {"f": (verb, "multiply"), "g": (noun, "multiply")}
        return {} if kind in {"zero", "over"} else {"v": self._write_value(kind)}

    def _arrange(self, kind: str, slots: dict[str, tuple[str, str]]) -> list[Piece]:
        main, participle, noun = self._pick_words(kind)
        span, verb = self._pick_span(kind)
        cause = self._pick(stock.CAUSES, extra=composed.CAUSES)
        if kind in {"zero", "over"} and self.rng.random() < 0.2 and "{day}" not in span:
            span += self._pick(stock.ZERO_PERIODIC, form=True)
        if kind in {"cap", "floor"} and self.rng.random() < 0.55:
            return self._write_bound(main, noun, slots)
        if kind == "multiply" and self.rng.random() < 0.2:
            correction = self._pick(stock.CORRECTIONS, form=True).replace("{main}", main)
            first = self._fill(self._open(f"there is {cause} {span}") + ".", slots)
            return [first, self._fill(correction, slots)]
        statement = kind if kind in {"zero", "over"} else NONE
        was = "was" if kind == "over" else "will be"
        now = self._pick(("During this time", "Meanwhile", "For its duration", "Then", "In that time"), form=True)
        seen = "there was" if kind == "over" else "we expect"
        forms = (
            [f"there {was} {cause} {span}, {participle}."],
            [f"{span}, {main}."],
            [f"{main} {span}."],
            [f"{main} {span} because of {cause}."],
            [f"{cause} {span} means that {main}."],
            [f"{cause} {verb}.", f"{now}, {main}."],
            [f"{main} during {cause}.", f"It {verb}."],
            [f"{seen} {noun} {span}."],
            [f"due to {cause}, {main} {span}."],
            [f"{noun}, {span}."],
            [f"{cause} hit {{e}}, which {verb}, {participle}."],
            [f"{cause} {verb}, {participle}."],
            [f"{span}: {main}."],
            [f"owing to {cause}, there {was} {noun} {span}."],
            [f"{cause} struck the area and {verb}.", f"According to the operator, {main}."],
            [f"as a result of {cause}, {main} {span}."],
            [f"because {cause} {verb}, {main}."],
            [f"{main}, {span}, owing to {cause}."],
        )
        words = {"main": main, "noun": noun, "participle": participle, "cause": cause, "span": span, "verb": verb}
        filled = [[sentence.format(**words) for sentence in form] for form in more.FORMS] if self.wide else []
        sentences = self._pick(forms, extra=filled, form=True)
        stated = len(sentences) - 1 if "It " not in sentences[-1] else 0
        pieces = []
        for k, sentence in enumerate(sentences):
            piece = self._fill(self._open(sentence) if k == 0 else sentence, slots)
            pieces.append(self._state(piece, statement if k == stated else NONE))
        if kind == "over" and self.rng.random() < 0.6:
            pieces.append(Piece(self._pick(stock.OVER_ENDS), []))
        return pieces

    def _pick_span(self, kind: str) -> tuple[str, str]:
        """Returns a way to say when something is, and a verb that says so."""
        span = self._pick(stock.SPAN_FORMS, extra=_EXTRA["SPAN_FORMS"], form=True)
        return span, self._pick(stock.SPAN_VERBS, extra=more.SPAN_VERBS, form=True)

    def _pick_words(self, kind: str) -> tuple[str, str, str]:
        """Returns a main clause, a participle and a noun phrase of a kind of effect."""
        if self.wide and self.rng.random() < 0.5:
            main, participle, noun = (self._pick(words, True) for words in composed.EFFECTS[kind])
            return main, participle, noun
        main, participle, noun = (
            self._pick(words, extra=added)
            for words, added in zip(stock.EFFECTS[kind], more.EFFECTS[kind], strict=True)
        )
        return main, participle, noun

    def _write_bound(self, main: str, noun: str, slots: dict[str, tuple[str, str]]) -> list[Piece]:
        """Writes a bound without a span, or a lower and an upper one in one sentence."""
        if self.rng.random() < 0.35:
            low, high = self._pick(stock.EFFECTS["floor"][0]), self._pick(stock.EFFECTS["cap"][0])
            a, b = self._write_value("floor"), self._write_value("cap")
            first, second = low.replace("{v}", "{low}"), high.replace("{v}", "{high}")
            if self.rng.random() < 0.5:
                first, second = second, first
            joined = self._pick(
                (
                    f"{first} and {second}.",
                    f"{first}, {second}.",
                    f"{first}, while {second}.",
                    "values lie between {low} and {high}.",
                    "{q} ranges from {low} to {high}.",
                ),
                form=True,
            )
            return [self._fill(self._open(joined), {"low": a, "high": b})]
        form = self._pick(
            (
                f"{main}.",
                f"in the forecast, {main}.",
                f"there is {noun}.",
                f"{main} at all times.",
                f"at any time {main}.",
            ),
            form=True,
        )
        return [self._fill(self._open(form), slots)]

    def _open(self, sentence: str) -> str:
        return self._pick(stock.OPENERS, extra=_EXTRA["OPENERS"], form=True) + sentence

    def _state(self, piece: Piece, statement: str) -> Piece:
        return Piece(piece.text, piece.roles, statement)

    def _write_background(self) -> Piece:
        return self._fill(self._pick(stock.BACKGROUND, extra=_EXTRA["BACKGROUND"]), {})

    def _write_distractor(self) -> Piece:
        if self.wide and self.rng.random() < 0.5:
            return self._write_denial()
        return self._fill(self._pick(stock.DISTRACTORS, extra=_EXTRA["DISTRACTORS"]), {})

    def _write_denial(self) -> Piece:
        """Writes that an effect does not come, in the very words of one that does; nothing in it plays a part."""
        kind = self._pick(KINDS, True)
        slots = self._make_span() | self._make_values(kind)
        main, span = self._pick_words(kind)[0], self._pick(stock.SPAN_FORMS, extra=_EXTRA["SPAN_FORMS"], form=True)
        frame = self._pick(_EXTRA["DENIALS"], True).replace("{main}", main).replace("{span}", span)
        return self._fill(frame, {name: (text, NONE) for name, (text, _) in slots.items()})


def write_pairs(number: int, seed: int, held_out: bool = False, wide: bool = False, fold: int = 4) -> list[Reading]:
    """Writes `number` texts with their roles; equal arguments give equal texts."""
    writer = PairWriter(seed, held_out, wide, fold)
    return [writer.write() for _ in range(number)]


def write_clauses(number: int, seed: int, wide: bool = False, fold: int = 4) -> list[Reading]:
    """Writes `number` short sentences, each about one effect; equal arguments give equal texts."""
    writer = PairWriter(seed, wide=wide, fold=fold)
    return [writer.write_clause() for _ in range(number)]
