"""Notes for a reader that knows no other times than those of the forecast: what they leave open is written out."""

import re

import pandas as pd

from tsllm.context.lexer import Mention, find_mentions, split_sentences
from tsllm.context.moments import Moment, has_date, is_clock, resolve_moment
from tsllm.context.notes import Note, write_span
from tsllm.context.parser import read_by_rules
from tsllm.context.reading import NONE
from tsllm.context.spans import collect_span, resolve_span, tells_of_past

_ONE = pd.Timedelta(days=1)


def write_dates(
    note: Note, times: pd.DatetimeIndex, past_times: pd.DatetimeIndex
) -> tuple[Note, list[tuple[str, str]]]:
    """Writes "tomorrow" and the like as dates where they count from the publication, and leaves out what is over.

    Args:
        note: What is told.
        times: The times of the horizon.
        past_times: The times of the history.

    Returns:
        The note, and the sentences that are left out, with the reason.

    Example:
        >>> times = pd.date_range("2024-01-10", periods=24, freq="h")
        >>> note = Note("It is closed tomorrow. It opens next Friday.", pd.Timestamp("2024-01-04"))
        >>> told, over = write_dates(note, times, times[:0])
        >>> told.text, over
        ('It opens 2024-01-05.', [('It is closed tomorrow.', 'tomorrow = 2024-01-05, over before the forecast')])
    """
    parts, over, last = [], [], 0
    for place in split_sentences(note.text):
        sentence = note.text[slice(*place)]
        past = tells_of_past(sentence, (note.published or times[0]).year)[0]
        seen = note.see_from(sentence, times, past)
        reason = "" if seen is times or past else _find_over(sentence, seen, times, past_times)
        if reason:
            over.append((sentence, reason))
        else:
            parts.append(note.text[last : place[0]] + (sentence if seen is times else _write(sentence, seen, past)))
        last = place[1]
    return Note("".join(parts).strip(), note.published, note.start, note.end), over


def _find_over(sentence: str, seen: pd.DatetimeIndex, times: pd.DatetimeIndex, past_times: pd.DatetimeIndex) -> str:
    """Says which time a sentence is about if that is over by the forecast; else empty."""
    reading = read_by_rules(sentence)
    found = [(m, r) for m, r in zip(reading.mentions, reading.roles, strict=True) if r != NONE]
    span = collect_span(sentence, found, reading.mentions, (0, len(sentence)), seen[0].year)
    every = past_times.append(times)
    stretches = resolve_span(span, seen, every[-1] - every[-2])
    if not stretches or any(s.end is None or s.end > times[0] or s.every is not None for s in stretches):
        return ""
    start = None if stretches[0].start is None else stretches[0].start.floor("us")
    return f"{' to '.join(span.texts)} = {write_span(start, stretches[0].end)}, over before the forecast"


def _write(sentence: str, seen: pd.DatetimeIndex, past: bool) -> str:
    moments = [m for m in find_mentions(sentence) if m.kind == "moment"]
    dated = any(has_date(m.meaning) for m in moments)
    for mention in reversed(moments):
        open_ = re.search(r"\d{4}", mention.text) is None and not (is_clock(mention.meaning) and dated)
        found = resolve_moment(mention.meaning, seen, past=past) if open_ else None
        if found is not None:
            sentence = f"{sentence[: mention.start]}{_name(found, mention)}{sentence[mention.end :]}"
    return sentence


def _name(moment: Moment, mention: Mention) -> str:
    start, end = moment.start.floor("us"), moment.end.floor("us")
    if end == start:
        return f"{start:%Y-%m-%d %H:%M}"
    if start == start.normalize() and end == end.normalize():
        return f"{start:%Y-%m-%d}" if end - start == _ONE else f"{start:%Y-%m-%d} to {end - _ONE:%Y-%m-%d}"
    return mention.text
