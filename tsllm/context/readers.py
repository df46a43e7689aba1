"""From a text to effects: what is given as data is read by its form, the prose by a reader of one's choice."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np

from tsllm.context.applying import Window
from tsllm.context.effects import Effect
from tsllm.context.parser import read_by_rules
from tsllm.context.reading import NONE, Reading, sort_reading
from tsllm.context.structure import read_structure

logger = logging.getLogger(__name__)

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


def read_effects(text: str, window: Window, prose: ProseReader | None = read_by_rules) -> list[Effect]:
    """Reads what a text says about a window.

    Args:
        text: Any text; an empty one says nothing.
        window: History and times.
        prose: Gives roles to the mentions of a text, or says effects; None reads tables and statistics only.

    Returns:
        Effects in the order of the text, tables first; nothing is said twice, and nothing whose span holds no step
        that it could change.
    """
    return sort_effects(text, window, prose)[0]


def sort_effects(
    text: str, window: Window, prose: ProseReader | None = read_by_rules
) -> tuple[list[Effect], list[tuple[Effect, str]]]:
    """Reads what a text says about a window, and what of it changes nothing.

    Args:
        text: As in `read_effects`.
        window: As in `read_effects`.
        prose: As in `read_effects`.

    Returns:
        What `read_effects` returns, and each effect that is left out, with the reason; one of a weekday that is not
        ahead has no span.
    """
    if not text.strip():
        return [], []
    effects, rest = read_structure(text, window.future_times, window.past_times)
    idle: list[tuple[Effect, str]] = []
    if isinstance(prose, EffectSpeaker):
        effects += prose.speak(rest, window) if rest.strip() else []
    elif prose is not None:
        read, idle = sort_reading(prose(rest), window.future_times, window.past_times)
        effects += read
    told = []
    for effect in dict.fromkeys(effects):
        if not acts_on(effect, window):
            what = "value of the history" if effect.kind == "ignore" else "step to forecast"
            idle.append((effect, f"no {what} lies in that time"))
        elif doubt := find_doubt(effect, window):
            idle.append((effect, doubt))
            logger.warning("%s is left out: %s", *idle[-1])
        else:
            told.append(effect)
    return told, idle


def acts_on(effect: Effect, window: Window) -> bool:
    """Tells whether the span of an effect holds a step to forecast, or, for `ignore`, one of the history."""
    if effect.kind == "daylight":
        return True  # its span says when the sun rises and sets
    times = window.past_times if effect.kind == "ignore" else window.future_times
    return bool(effect.covers(times).any())


def find_doubt(effect: Effect, window: Window) -> str:
    """Returns why an effect is more likely misread than meant; empty if nothing speaks against it.

    A bound of the whole horizon must leave a twentieth of the history's values as they are, and one of a span may not
    force the forecast to ten times the largest value of the history.
    """
    if effect.kind not in {"cap", "floor"}:
        return ""
    number = float(effect.number or 0.0)
    if effect.start is None and effect.end is None:
        kept = window.past <= number if effect.kind == "cap" else window.past >= number
        return "" if kept.mean() >= 0.05 else "it would cut off almost all of the history"
    largest = float(np.nanmax(np.abs(window.past), initial=0.0))
    forced = number if effect.kind == "floor" else -number
    if largest > 0 and forced > FARTHEST * largest:
        return f"it is more than {FARTHEST} times as large as any value of the history"
    return ""


class ReadInTurn:
    """A reader that takes, sentence by sentence, the first of its readers that finds something there.

    Args:
        readers: In their order.
    """

    def __init__(self, readers: Sequence[Callable[[str], Reading]]) -> None:
        self.readers = tuple(readers)

    def __call__(self, text: str) -> Reading:
        """Gives roles to the mentions of a text."""
        readings = [reader(text) for reader in self.readers]
        first = readings[0]
        roles, statements = list(first.roles), list(first.statements)
        for k, (start, end) in enumerate(first.sentences):
            inside = [j for j, m in enumerate(first.mentions) if start <= m.start and m.end <= end]
            for other in readings:
                if other.statements[k] != NONE or any(other.roles[j] != NONE for j in inside):
                    statements[k] = other.statements[k]
                    for j in inside:
                        roles[j] = other.roles[j]
                    break
        return Reading(first.text, first.mentions, roles, first.sentences, statements)


def read_in_turn(*readers: Callable[[str], Reading]) -> "ReadInTurn":
    """Returns a reader that takes, sentence by sentence, the first reader that finds something there."""
    return ReadInTurn(readers)
