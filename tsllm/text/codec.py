"""Numbers to text and back: a series scaled by its own history, written as integers of fixed resolution.

The scheme follows Gruver 2023 (LLMTime): scale each series, keep a fixed number of digits, separate the numbers so
that the tokenizer never merges two of them. Here the scale is affine, so that typical values are short and positive.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

MAX_ABS = 1e300
MAX_LEVEL = 10**15
SEPARATORS = (",", " ", ";", "\n")


class ParseFailure(StrEnum):
    """Why a completion is no forecast."""

    EMPTY = "empty"
    NOT_A_NUMBER = "not_a_number"
    MISSING_VALUE = "missing_value"
    TOO_SHORT = "too_short"
    TOO_LONG = "too_long"
    NO_THOUGHT = "no_thought"
    NO_ANSWER = "no_answer"
    WRONG_TIME = "wrong_time"


@dataclass(frozen=True)
class SeriesScale:
    """How one series is written: level = round((value - offset) / resolution).

    Attributes:
        offset: The value of level 0, in the series' units.
        resolution: Units of the series per level; the quantisation error is at most half of it.
    """

    offset: float
    resolution: float


@dataclass(frozen=True)
class ParsedCompletion:
    """A completion read as numbers.

    Attributes:
        values: The h numbers in the series' units, or None if reading failed.
        failure: Why it failed, or None.
        num_found: Numbers found before the first thing that is none.
        num_extra: Numbers beyond the h asked for (only with `allow_extra`, else they are a failure).
        detail: The offending piece of text, for messages.
    """

    values: np.ndarray | None
    failure: ParseFailure | None
    num_found: int
    num_extra: int = 0
    detail: str = ""


@dataclass(frozen=True)
class NumberCodec:
    """Writes and reads series as integers.

    Attributes:
        digits: The central span of the history (1 % to 99 % quantile) is written with this many digits.
        separator: Stands between two numbers.
        missing: Stands for a missing value.
        margin: Room below and above the central span, as a share of it, before a number turns negative or longer.
    """

    digits: int = 3
    separator: str = "\n"
    missing: str = "?"
    margin: float = 0.25

    def __post_init__(self) -> None:
        if not 1 <= self.digits <= 9:
            raise ValueError(f"digits must lie in 1..9, got {self.digits}")
        if not self.separator or re.search(r"[\d+\-.]", self.separator):
            raise ValueError(f"separator must be text without digits, signs and points, got {self.separator!r}")
        if not self.missing or self.missing.strip() != self.missing or re.search(r"[\d+\-.,;\s]", self.missing):
            raise ValueError(f"missing must be a mark without digits, signs and separators, got {self.missing!r}")
        if self.margin < 0:
            raise ValueError(f"margin must not be negative, got {self.margin}")

    @property
    def thought_tokens(self) -> int:
        """Tokens that may stand before the numbers."""
        return 0

    def fit(self, history: Sequence[float] | np.ndarray) -> SeriesScale:
        """Chooses offset and resolution from the observed part of `history` [L].

        Raises:
            ValueError: If nothing was observed, or a value is infinite or beyond 1e300.
        """
        values = np.asarray(history, dtype=np.float64)
        observed = values[~np.isnan(values)]
        if observed.size == 0:
            raise ValueError("the history holds no observed value; nothing tells the scale of the series")
        self._check_range(observed)
        low, high = np.quantile(observed, [0.01, 0.99])
        if high <= low:
            low, high = float(observed.min()), float(observed.max())
        span = high / 2 - low / 2  # half the span: the whole may overflow
        if span <= 0:
            span = max(abs(low), 1e-280) / 2
        room = 1 + 2 * self.margin
        resolution = max(span * (2 * room / 10**self.digits), 1e-290, np.spacing(max(abs(low), abs(high))) * 4)
        return SeriesScale(float(low - 2 * self.margin * span), float(resolution))

    def encode(self, values: Sequence[float] | np.ndarray, scale: SeriesScale) -> str:
        """Writes `values`; NaN becomes the missing mark.

        Raises:
            ValueError: If a value is infinite, or so far away that its level has more than 15 digits.
        """
        array = np.asarray(values, dtype=np.float64)
        self._check_range(array[~np.isnan(array)])
        return self.separator.join(self._write(v, i, scale) for i, v in enumerate(array))

    def decode(
        self, text: str, h: int, scale: SeriesScale, allow_extra: bool = False, times: Sequence[str] = ()
    ) -> ParsedCompletion:
        """Reads exactly `h` numbers; never raises on bad text.

        Separators of any usual kind, spaces around numbers, plus signs and decimal points are tolerated.

        Args:
            text: The completion.
            h: How many numbers are wanted.
            scale: The scale that wrote the prompt.
            allow_extra: Take the first `h` numbers of a longer list, counting the rest, instead of failing.
            times: Those asked for, for answers that name them; these do not.
        """
        del times
        pieces = [p for p in re.split(r"[,;\s]+", text.strip()) if p]
        if not pieces:
            return ParsedCompletion(None, ParseFailure.EMPTY, 0)
        levels: list[float] = []
        stopper = ""
        for piece in pieces:
            level = self._read(piece)
            if level is None:
                stopper = piece[:40]
                break
            levels.append(level)
        found = len(levels)
        failure = self._judge(levels, h, stopper, allow_extra)
        if failure is not None:
            return ParsedCompletion(None, failure, found, detail=stopper)
        values = scale.offset + np.asarray(levels[:h]) * scale.resolution
        return ParsedCompletion(values, None, found, num_extra=found - h, detail=stopper)

    def _judge(self, levels: list[float], h: int, stopper: str, allow_extra: bool) -> ParseFailure | None:
        if len(levels) < h:
            return ParseFailure.NOT_A_NUMBER if stopper else ParseFailure.TOO_SHORT
        if not allow_extra and stopper:
            return ParseFailure.NOT_A_NUMBER
        if not allow_extra and len(levels) > h:
            return ParseFailure.TOO_LONG
        return ParseFailure.MISSING_VALUE if any(map(math.isnan, levels[:h])) else None

    def _write(self, value: float, index: int, scale: SeriesScale) -> str:
        if math.isnan(value):
            return self.missing
        level = float(np.rint(value / scale.resolution - scale.offset / scale.resolution))
        if math.isfinite(level) and abs(level) < 2**52:
            level = float(np.rint((value - scale.offset) / scale.resolution))
        if not abs(level) < MAX_LEVEL:
            raise ValueError(
                f"value {value:g} at step {index} lies more than {MAX_LEVEL:.0e} resolutions ({scale.resolution:g}) "
                f"from the offset {scale.offset:g}; mend the outlier or fit the scale on a history that contains it"
            )
        return str(int(level))

    def _read(self, piece: str) -> float | None:
        if piece == self.missing:
            return math.nan
        if re.fullmatch(r"[+-]?\d{1,15}(\.\d{0,15})?", piece, flags=re.ASCII) is None:
            return None
        return float(piece)

    @staticmethod
    def _check_range(values: np.ndarray) -> None:
        if values.size and not np.all(np.abs(values) <= MAX_ABS):
            bad = values[~(np.abs(values) <= MAX_ABS)][0]
            raise ValueError(f"value {bad:g} cannot be written; values must be finite and within {MAX_ABS:g}")


def choose_separator(tokenizer: Any, candidates: Sequence[str] = SEPARATORS, missing: str = "?") -> str:
    """Returns the first separator that `tokenizer` never merges with a digit, a sign or the missing mark.

    Raises:
        ValueError: If none of the candidates is kept apart.
    """
    for separator in candidates:
        probe = separator.join(["0", "12", "345", "-6", "-78", missing, "-901", missing, "2345"])
        pieces = [tokenizer.decode([i]) for i in tokenizer(probe, add_special_tokens=False)["input_ids"]]
        if "".join(pieces) == probe and all(p == separator or separator not in p for p in pieces):
            return separator
    raise ValueError(f"the tokenizer merges every separator of {list(candidates)} with its neighbours; name another")
