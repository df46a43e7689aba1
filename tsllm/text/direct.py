"""The direct prompt: history and forecast as (time, value) pairs, in the units of the data, beside what is known.

The form is that of Williams 2025 (arXiv 2410.18959, "direct prompt"), in our own words: the published baseline of
large models on Context is Key. Small models rarely keep to it; what they write is then counted as unreadable. As
there, values count for the times that they are written with; each time asked for must stand once, in its order.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tsllm.text.codec import NumberCodec, ParsedCompletion, ParseFailure, SeriesScale
from tsllm.text.prompt import TextPrompt

_ANSWER = re.compile(r"<forecast>(.*?)</forecast>", re.DOTALL)
_PAIR = re.compile(r"\(\s*([^(),]+?)\s*,\s*([-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)\s*\)")
_DATE = re.compile(r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d)(?::(\d\d)(?:\.(\d+))?)?)?")
_PAIR_TOKENS, _TAG_TOKENS = 36, 24


@dataclass(frozen=True)
class DirectCodec(NumberCodec):
    """Reads (time, value) pairs between `<forecast>` and `</forecast>`.

    Attributes:
        h: Steps asked for, which decide how long an answer may be.
    """

    h: int = 1

    @property
    def thought_tokens(self) -> int:
        """Tokens beyond those of the numbers: times, brackets, tags."""
        return _PAIR_TOKENS * self.h + _TAG_TOKENS

    def decode(
        self, text: str, h: int, scale: SeriesScale, allow_extra: bool = False, times: Sequence[str] = ()
    ) -> ParsedCompletion:
        """Reads exactly the `h` pairs of the times asked for, in their order; values are in the series' units.

        Never raises on bad text. Quotes around a time, the spaces in it, a T before the time of day, seconds of 0 and
        midnight may be written or not.

        Raises:
            ValueError: If there is not one time for each step.
        """
        del scale, allow_extra
        if len(times) != h:
            raise ValueError(f"there are {len(times)} times for {h} steps; say which were asked for")
        answer = _ANSWER.search(text)
        if answer is None:
            return ParsedCompletion(None, ParseFailure.NO_ANSWER, 0, detail=text[-40:])
        pairs, rest = _PAIR.findall(answer[1]), _PAIR.sub("", answer[1]).strip(" \n,")
        values = np.array([float(value) for _, value in pairs])
        failure = None
        if rest:
            failure = ParseFailure.NOT_A_NUMBER
        elif len(pairs) != h:
            failure = ParseFailure.TOO_SHORT if len(pairs) < h else ParseFailure.TOO_LONG
        elif not np.isfinite(values).all():
            failure = ParseFailure.NOT_A_NUMBER
        else:
            other = [
                f"{given} for {asked}"
                for (given, _), asked in zip(pairs, times, strict=True)
                if _normalise(given) != _normalise(asked)
            ]
            failure, rest = (ParseFailure.WRONG_TIME, other[0]) if other else (None, "")
        return ParsedCompletion(None if failure else values, failure, len(pairs), detail=rest[:80])


@dataclass(frozen=True)
class DirectPrompt(TextPrompt):
    """Gives what is known and the history as pairs, and asks for the pairs of the times to come."""

    def build(
        self,
        history: Sequence[float] | np.ndarray,
        h: int,
        scale: SeriesScale,
        start: str = "",
        future_covariates: Mapping[str, Sequence[float] | np.ndarray] | None = None,
        context: str = "",
        times: Sequence[str] = (),
    ) -> str:
        """Writes the prompt; see `TextPrompt.build`. Covariates stand as pairs of past and future.

        Raises:
            ValueError: If there is not one time for each of the [L + h] steps.
        """
        del scale, start
        length = len(np.asarray(history))
        if len(times) != length + h:
            raise ValueError(f"there are {len(times)} times, expected {length} + {h}")
        known = "\n".join(
            filter(None, (self.domain, f"The season is {self.season} steps." if self.season else "", context))
        )
        lines = ["Forecast a time series. Use what is known about it: facts, limits, and what is said of the future."]
        lines += ["<context>", known or "Nothing is known.", "</context>"]
        for name, values in (future_covariates or {}).items():
            lines += [f"<covariate {name}>", *_pair(times, values), "</covariate>"]
        lines += ["The history, as (time, value):", "<history>", *_pair(times, history), "</history>"]
        lines += [f"Forecast the values at these {h} times: {', '.join(times[length:])}."]
        lines += ["Answer with one (time, value) a line between <forecast> and </forecast>, and nothing else.", ""]
        return self.before + "\n".join(lines) + self.after

    def build_completion(
        self,
        future: Sequence[float] | np.ndarray,
        scale: SeriesScale,
        history: Sequence[float] | np.ndarray | None = None,
    ) -> str:
        """This prompt is a baseline for models as they are.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError("the direct prompt is for models as they are; train with style: numbers")


def _normalise(time: str) -> str:
    """Returns a time in the one form in which it is compared."""
    time = " ".join(time.strip("\"' ").split())
    date = _DATE.fullmatch(time)
    if date is None:
        return time
    day, clock, seconds, fraction = date.groups("")
    return f"{day} {clock or '00:00'}:{seconds or '00'}.{fraction.rstrip('0')}"


def _pair(times: Sequence[str], values: Sequence[float] | np.ndarray) -> list[str]:
    """Writes pairs, one a line, with six significant digits; missing values are left out."""
    return [f"({t}, {v:.6g})" for t, v in zip(times, np.asarray(values, float), strict=False) if np.isfinite(v)]
