"""How a language model is asked what a text means for a forecast, and what it may call a moment."""

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from tsllm.context.applying import Window
from tsllm.context.effects import Effect, parse_effects, shorten, write_duration, write_number, write_time
from tsllm.context.listed import drop_points, find_points
from tsllm.context.mentioned import find_lengths, find_percent

NOTHING = "none"  # what is written where a text says nothing
MOST = 8  # lines of an answer
_FOLLOWED = re.compile(r"follow [^:]+")


def write_request(window: Window, text: str) -> str:
    """Returns the prompt behind which a language model writes effects, one a line, or `none`.

    It says which times are forecast and between which values the last season lay, and then the text as it is.

    Args:
        window: History and times.
        text: What is told.

    Example:
        >>> times = pd.date_range("2024-01-01", periods=6, freq="h")
        >>> print(write_request(Window(np.array([10.0, 14.0, 10.5, 14.0]), times[:4], times[4:], 2), "Closed."))
        Monday 2024-01-01 04:00 to 05:00, values 10 to 14.
        Text: Closed.
        Effects:
    """
    first, last = window.future_times[0], window.future_times[-1]
    names = list(name_times(window.future_times))
    recent = window.past[-max(window.season, 1) :]
    recent = recent[np.isfinite(recent)]
    low, high = (recent.min(), recent.max()) if len(recent) else (np.nan, np.nan)
    until = names[-1] if first.normalize() == last.normalize() else f"{last.day_name()} {_write(last)}"
    return (
        f"{first.day_name()} {_write(first)} to {until}, values {low:.2g} to {high:.2g}.\n"
        f"Text: {' '.join(text.split())}\nEffects:"
    )


def write_answer(said: str) -> str:
    """Returns the completion of a prompt: what is to be said, behind a space."""
    return f" {said}"


def name_times(times: pd.DatetimeIndex) -> dict[str, pd.Timestamp]:
    """Returns what the moments of a horizon are called, without what all of them share: `08:00`, `28 08:00`, `05-28`.

    Example:
        >>> list(name_times(pd.date_range("2024-01-01 22:00", periods=3, freq="h")))
        ['01 22:00', '01 23:00', '02 00:00']
    """
    written = [_write(t, bool((times != times.normalize()).any())) for t in times]
    # The year; with a time of day the month and the day too.
    places = (0, 5, 8, 11) if len(written[0]) > 10 else (0, 5)
    cut = max(k for k in places if len({text[:k] for text in written}) == 1)
    return {text[cut:]: t for text, t in zip(written, times, strict=True)}


def align(effects: Sequence[Effect], window: Window) -> list[Effect]:
    """Returns effects with spans between steps of a window, which change the same steps.

    A span that comes again and again becomes one for each time, and one that holds no step is left out. What begins
    with the horizon has no start, what lasts to its end no end. Numbers have six significant digits.
    """
    return [stretch for effect in effects for stretch in _align(effect, window)]


def read_said(said: str, window: Window, most: int = MOST, text: str = "") -> list[Effect] | None:
    """Returns the effects that a language model wrote; None if a line is none, or there are more than `most`.

    A line `follow NAME` takes the times and values that the text lists.

    Example:
        >>> times = pd.date_range("2024-01-01", periods=6, freq="h")
        >>> window = Window(np.ones(4), times[:4], times[4:])
        >>> read_said("none", window), read_said("half of it", window)
        ([], None)
        >>> [str(e) for e in read_said("cap 60 from 05:00", window)]
        ['cap 60 from 2024-01-01 05:00']
    """
    said = said.strip()
    if said == NOTHING:
        return []
    points = ", ".join(f"{write_time(t)}={write_number(v)}" for t, v in find_points(text)) if "follow" in said else ""
    if points:
        said = "\n".join(f"{line}: {points}" if _FOLLOWED.fullmatch(line) else line for line in said.splitlines())
    try:
        effects = parse_effects(said, name_times(window.future_times))
    except (ValueError, OverflowError):
        return None
    return effects if 0 < len(effects) <= most else None


def write_said(effects: Sequence[Effect], window: Window, text: str = "") -> str:
    """Returns what a language model is to write: effects on the steps of the window, one a line, or `none`.

    Percentages and durations of the text are written as they are, so that nothing has to be calculated; a list of the
    text is not repeated.

    Args:
        effects: What is meant.
        window: History and times.
        text: What is told.

    Example:
        >>> times = pd.date_range("2024-01-01", periods=9, freq="h")
        >>> window = Window(np.ones(4), times[:4], times[4:])
        >>> told = parse_effects("multiply 0.45 from 2024-01-01 05:00 to 2024-01-01 07:00")
        >>> write_said(told, window), write_said(told, window, "It falls by 55 % for two hours.")
        ('multiply 0.45 from 05:00 to 07:00', 'lower 55 % from 05:00 for 2 h')
    """
    names = {t: name for name, t in name_times(window.future_times).items()}
    points, text = find_points(text), drop_points(text)
    lines = []
    for effect in effects:
        stretches = align([effect], window)
        length = (
            write_duration(effect.end - effect.start) if effect.start is not None and effect.end is not None else ""
        )
        known = effect.start in names or effect.kind == "ignore"
        lasts = effect.every is None and len(stretches) == 1 and known and length in find_lengths(text)
        for stretch in stretches:
            shown = replace(stretch, end=None) if lasts else stretch
            if stretch.start is None and effect.start in names and effect.every is None:
                shown = replace(shown, start=effect.start)  # as the text says it, although it goes without saying
            line = shown.write(names) + (f" for {length}" if lasts else "")
            percent = find_percent(stretch.number, text) if stretch.kind == "multiply" and stretch.number else None
            if percent is not None:
                line = line.replace(
                    f"multiply {write_number(stretch.number or 0)}", f"{percent[0]} {percent[1]:g} %", 1
                )
            lines.append(line.split(":")[0] if effect.points and effect.points == points else line)
    return "\n".join(lines) or NOTHING


def _align(effect: Effect, window: Window) -> list[Effect]:
    if effect.kind == "daylight":
        return [effect]  # its span says when the sun rises and sets
    times = window.past_times if effect.kind == "ignore" else window.future_times
    covered = np.concatenate([[False], effect.covers(times), [False]])
    starts = np.flatnonzero(covered[1:] & ~covered[:-1]).tolist()
    ends = np.flatnonzero(covered[:-1] & ~covered[1:]).tolist()
    following = window.future_times[0] if effect.kind == "ignore" else None
    return [
        replace(
            effect,
            number=None if effect.number is None else shorten(effect.number),
            start=times[first] if first or effect.kind == "ignore" else None,
            end=times[end] if end < len(times) else following,
            every=None,
        )
        for first, end in zip(starts, ends, strict=True)
    ]


def _write(time: pd.Timestamp, clock: bool = True) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S}".removesuffix(":00") if clock else f"{time:%Y-%m-%d}"
