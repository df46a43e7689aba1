"""What a text says to be as on a weekday or in a month ("as in June", "like on a Sunday"), read by its words."""

import re

import pandas as pd

from tsllm.context.effects import Effect
from tsllm.context.lexer import split_sentences
from tsllm.context.parser import SKIPPED, read_by_rules
from tsllm.context.reading import NONE, VALUES
from tsllm.context.spans import collect_span, find_reason, tells_of_past
from tsllm.context.stretches import resolve_span
from tsllm.context.vocabulary import DAY_OR_MONTH

_LIKE = re.compile(
    r"\b(?:as (?:on|in|if it were)|as it (?:is|does)(?: usually)? (?:on|in)|like (?:on|in|that of|those of)|"
    r"like(?= an? ))"
    rf" ?(?:an? |the )?((?-i:{DAY_OR_MONTH}))\b(?! (?:night|morning|afternoon|evening))",
    re.IGNORECASE,
)  # fmt: skip
Idle = list[tuple[Effect, str]]


def read_analogies(text: str, times: pd.DatetimeIndex, past_times: pd.DatetimeIndex) -> tuple[list[Effect], Idle, str]:
    """Reads sentences that say what it will be like; without a time they are about the whole horizon.

    Args:
        text: Prose.
        times: The times of the horizon.
        past_times: The times of the history.

    Returns:
        Effects `like`, those that are left out with the reason, and the text without what was read.

    Example:
        >>> hours = pd.date_range("2024-01-01", periods=200, freq="h")
        >>> effects, _, rest = read_analogies("On 8 January it is as on a Sunday. Rain.", hours[150:], hours[:150])
        >>> str(effects[0]), rest
        ('like Sunday from 2024-01-08 to 2024-01-09', ' Rain.')
    """
    effects: list[Effect] = []
    idle: Idle = []
    for first, last in reversed(split_sentences(text)):
        sentence = text[first:last]
        found = _LIKE.search(sentence)
        if found is None or tells_of_past(sentence, times[0].year)[0] or SKIPPED.search(sentence):
            continue
        rest = sentence[: found.start()] + "so" + sentence[found.end() :]
        reading = read_by_rules(rest)
        if any(role in VALUES for role in reading.roles) or reading.statements != [NONE]:
            continue  # "as in June, output is capped at 9" is about the cap
        used = [(m, r) for m, r in zip(reading.mentions, reading.roles, strict=True) if r != NONE]
        span = collect_span(rest, used, reading.mentions, (0, len(rest)), times[0].year)
        whole, step = past_times.append(times), Effect("like", None, found[1])
        reason = find_reason(span, rest, False, times)
        stretches = [] if reason else resolve_span(span, times, whole[-1] - whole[-2])
        if reason or (span.texts and not stretches):
            idle.insert(0, (step, reason or f"which time {' to '.join(span.texts)} is remains open; write dates"))
        effects[:0] = [Effect("like", None, found[1], s.start, s.end, s.every) for s in stretches]
        if not span:
            effects.insert(0, step)
        text = text[:first] + text[last:]
    return effects, idle, text
