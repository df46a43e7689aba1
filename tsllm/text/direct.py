"""The direct prompt: history and forecast as (time, value) pairs, in the units of the data, beside what is known.

The form is that of Williams 2025 (arXiv 2410.18959, "direct prompt"), in our own words: the published baseline of
large models on Context is Key. Small models rarely keep to it; what they write is then counted as unreadable.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tsllm.text.codec import NumberCodec, ParsedCompletion, ParseFailure, SeriesScale
from tsllm.text.prompt import TextPrompt

_ANSWER = re.compile(r"<forecast>(.*?)</forecast>", re.DOTALL)
_PAIR = re.compile(r"\(\s*([^(),]+?)\s*,\s*([-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)\s*\)")
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

    def decode(self, text: str, h: int, scale: SeriesScale, allow_extra: bool = False) -> ParsedCompletion:
        """Reads exactly `h` pairs, in their order; values are in the series' units. Never raises on bad text."""
        del scale, allow_extra
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
        return ParsedCompletion(None if failure else values, failure, len(pairs), detail=rest[:40])


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


def _pair(times: Sequence[str], values: Sequence[float] | np.ndarray) -> list[str]:
    """Writes pairs, one a line, with six significant digits; missing values are left out."""
    return [f"({t}, {v:.6g})" for t, v in zip(times, np.asarray(values, float), strict=False) if np.isfinite(v)]
