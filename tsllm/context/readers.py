"""From a text to effects: what is given as data is read by its form, the prose by a reader of one's choice."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from tsllm.context.analogies import read_analogies
from tsllm.context.applying import Window
from tsllm.context.dated import write_dates
from tsllm.context.effects import Effect
from tsllm.context.lexer import split_sentences
from tsllm.context.notes import Note
from tsllm.context.parser import read_by_rules
from tsllm.context.reading import NONE, VALUES, Reading, sort_reading
from tsllm.context.steps import settle
from tsllm.context.structure import read_structure

_TELLING = (*VALUES, "delay")  # roles that say what happens, and not only when
FARTHEST = 10  # times the largest value of the history, beyond which a bound is taken for a misreading


class EffectSpeaker(ABC):
    """A reader that says effects outright, such as a language model, instead of giving roles to mentions."""

    @abstractmethod
    def speak(self, text: str, window: Window) -> list[Effect]:
        """Returns what a text says about a window.

        Args:
            text: Prose, without tables.
            window: History and times.
        """


ProseReader = Callable[[str], Reading] | EffectSpeaker
Idle = tuple[Effect | str, str]  # what changes nothing (an effect, or a sentence that was not read), and why


def read_effects(text: str | Note, window: Window, prose: ProseReader | None = read_by_rules) -> list[Effect]:
    """Reads what a text says about a window.

    Args:
        text: Any text; an empty one says nothing. A `Note` says when it was published and what it is about, too.
        window: History and times.
        prose: Gives roles to the mentions of a text, or says effects; None reads tables and statistics only.

    Returns:
        Effects in the order of the text, tables first; nothing is said twice, and nothing whose span holds no step
        that it could change.
    """
    return sort_effects(text, window, prose)[0]


def sort_effects(
    text: str | Note, window: Window, prose: ProseReader | None = read_by_rules
) -> tuple[list[Effect], list[Idle]]:
    """Reads what a text says about a window, and what of it changes nothing.

    Args:
        text: As in `read_effects`.
        window: As in `read_effects`.
        prose: As in `read_effects`.

    Returns:
        What `read_effects` returns, and what is left out, with the reason; an effect of a weekday that is not ahead
        has no span.
    """
    return sort_notes([Note(text) if isinstance(text, str) else text], window, prose)


def sort_notes(
    notes: Sequence[Note], window: Window, prose: ProseReader | None = read_by_rules
) -> tuple[list[Effect], list[Idle]]:
    """Returns what `sort_effects` does, of several notes: each is read by itself, and they act in their order.

    A note says nothing outside the times that it is about, and takes no time from another.
    """
    effects: list[Effect] = []
    idle: list[Idle] = []
    for note in notes:
        said, left = _read_note(note, window, prose)
        effects += said
        idle += left
    told = []
    for effect in dict.fromkeys(effects):
        if not acts_on(effect, window):
            what = "value of the history" if effect.kind == "ignore" else "step to forecast"
            idle.append((effect, f"no {what} lies in that time"))
        else:
            told.append(effect)
    return told, list(dict.fromkeys(idle))


def _read_note(note: Note, window: Window, prose: ProseReader | None) -> tuple[list[Effect], list[Idle]]:
    """Reads one note; its effects are clipped to the times that it is about."""
    if not note.text.strip():
        return [], []
    times, past_times = window.future_times, window.past_times
    effects, rest = read_structure(note.text, times, past_times)
    found: list[Effect] = []
    idle: list[Idle] = []
    if isinstance(prose, EffectSpeaker):
        told, over = write_dates(replace(note, text=rest), times, past_times)
        idle += over
        found = prose.speak(str(told), window) if told.text.strip() else []
    elif prose is not None:
        likes, unread, rest = read_analogies(rest, times, past_times)
        read, left = sort_reading(prose(rest), times, past_times, note)
        found, idle = [*likes, *read], [*unread, *left]
    if getattr(prose, "reader", prose) is not read_by_rules:  # what was trained can misread
        doubts = [(effect, find_doubt(effect, window)) for effect in found]
        found = [effect for effect, doubt in doubts if not doubt]
        idle += [(effect, doubt) for effect, doubt in doubts if doubt]
    effects += found
    kept = []
    for effect in effects:
        parts, reason = note.clip(effect, window.times)
        idle += [(replace(effect, start=None, end=None, every=None), reason)] if reason else []
        for part in parts:
            settled, reason = settle(part, window.times, len(window.past_times))
            kept += settled
            idle += [(part, reason)] if reason else []
    return kept, idle


def acts_on(effect: Effect, window: Window) -> bool:
    """Tells whether the span of an effect holds a step to forecast, or, for `ignore`, one of the history."""
    if effect.kind == "daylight":
        return True  # its span says when the sun rises and sets
    times = window.past_times if effect.kind == "ignore" else window.future_times
    return bool(effect.covers(times).any())


def find_doubt(effect: Effect, window: Window) -> str:
    """Returns why an effect is more likely misread than meant; empty if nothing speaks against it.

    A bound of the whole horizon must leave a twentieth of the history's values as they are, and one of a span may not
    force the forecast to more than ten times the largest value of the history.
    """
    if effect.kind not in {"cap", "floor"}:
        return ""
    number = float(effect.number or 0.0)
    if effect.start is None and effect.end is None:
        kept = window.past <= number if effect.kind == "cap" else window.past >= number
        doubt = "" if kept.mean() >= 0.05 else "it would cut off almost all of the history"
    else:
        largest = float(np.nanmax(np.abs(window.past), initial=0.0))
        forced = number if effect.kind == "floor" else -number
        far = forced > FARTHEST * largest
        doubt = f"it is more than {FARTHEST} times as large as any value of the history" if far else ""
    return f"{doubt}, so a trained reader may have misread it; the rules take it as it is said" if doubt else ""


class ReadOnce:
    """A reader that reads a text once; the cutoffs of a back-test read the same notes again and again.

    Args:
        reader: Whose readings are kept.
        most: How many; the oldest goes first.
    """

    def __init__(self, reader: Callable[[str], Reading], most: int = 4096) -> None:
        self.reader, self.most = reader, most
        self._kept: dict[str, Reading] = {}

    def __call__(self, text: str) -> Reading:
        """Gives roles to the mentions of a text."""
        if text not in self._kept:
            if len(self._kept) >= self.most:
                del self._kept[next(iter(self._kept))]
            self._kept[text] = self.reader(text)
        return self._kept[text]


class ReadInTurn:
    """A reader that takes, sentence by sentence, the first of its readers that finds what happens there.

    A sentence in which none does keeps the times of the first that finds some: it may say when another is.

    Args:
        readers: In their order.
    """

    def __init__(self, readers: Sequence[Callable[[str], Reading]]) -> None:
        self.readers = tuple(readers)

    def __call__(self, text: str) -> Reading:
        """Gives roles to the mentions of a text."""
        readings = [reader(text) for reader in self.readers]
        first = readings[0]
        roles, statements, unread = list(first.roles), [], []
        places: list[tuple[int, int]] = []
        for start, end in split_sentences(text):
            inside = [j for j, m in enumerate(first.mentions) if start <= m.start and m.end <= end]
            # The rules take some sentences apart.
            parts = [[k for k, (a, b) in enumerate(r.sentences) if start <= a and b <= end] for r in readings]
            tells = [
                (r, own)
                for r, own in zip(readings, parts, strict=True)
                if any(r.statements[k] != NONE for k in own) or any(r.roles[j] in _TELLING for j in inside)
            ]
            times = [(r, p) for r, p in zip(readings, parts, strict=True) if any(r.roles[j] != NONE for j in inside)]
            taken, own = [*tells, *times, (first, parts[0])][0]
            unread += _list_unread(*((taken, own) if tells else (first, parts[0])), len(places), len(own))
            places += [taken.sentences[k] for k in own]
            statements += [taken.statements[k] for k in own]
            for j in inside:
                roles[j] = taken.roles[j]
        return Reading(first.text, first.mentions, roles, places, statements, tuple(unread))


def _list_unread(reading: Reading, own: Sequence[int], first: int, number: int) -> list[tuple[int, str]]:
    """Returns what a reading has not read in some of its sentences, which are then `number` ones from `first` on."""
    return [(first + min(own.index(at), number - 1), why) for at, why in reading.unread if at in own]


def read_in_turn(*readers: Callable[[str], Reading]) -> "ReadInTurn":
    """Returns a reader that takes, sentence by sentence, the first reader that finds something there."""
    return ReadInTurn(readers)
