"""Forecasts with a thought before them: `<think>...</think><answer>...</answer>` (DeepSeek-R1, Guo 2025).

The thought of a warm-up example says what the history shows and how it is carried on; it never sees the future.
Whether a language model forecasts better for it is for a comparison to say: nothing is claimed here.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tsllm.text.codec import NumberCodec, ParsedCompletion, ParseFailure, SeriesScale
from tsllm.text.prompt import TextPrompt
from tsllm.text.tokens import find_opening

_TAGS = ("<think>", "</think>", "<answer>", "</answer>")
_WHOLE = re.compile(r"\s*<think>(?P<thought>.*?)</think>\s*<answer>(?P<answer>.*?)</answer>\s*", re.DOTALL)
_TOKENS_A_WORD, _TAG_TOKENS = 4, 24
_MARK = "\u241fnumbers\u241f"


@dataclass(frozen=True)
class Reasoned:
    """The two parts of a completion.

    Attributes:
        thought: What stands between the first tags; None if there is no thought that ends.
        answer: What stands between the others; None if there is no answer that ends.
    """

    thought: str | None
    answer: str | None

    @property
    def num_words(self) -> int:
        """Words of the thought."""
        return len((self.thought or "").split())


def split_reasoning(text: str) -> Reasoned:
    """Splits a completion into thought and answer; never raises on bad text.

    Each tag must stand once, in order, with nothing before, between and after but spaces. Where the chat template has
    opened the thought already, the first tag may be missing.

    >>> split_reasoning("<think>rises</think> <answer>1,2</answer>")
    Reasoned(thought='rises', answer='1,2')
    >>> split_reasoning("rises</think><answer>1,2</answer>")
    Reasoned(thought='rises', answer='1,2')
    >>> split_reasoning("<think>rises</think> so it is <answer>1,2</answer>")
    Reasoned(thought='rises', answer=None)
    >>> split_reasoning("<answer>1,2</answer>")
    Reasoned(thought=None, answer=None)
    """
    if "<think>" not in text and text.count("</think>") == 1:
        text = "<think>" + text
    whole = _WHOLE.fullmatch(text)
    if whole and all(text.count(tag) == 1 for tag in _TAGS):
        return Reasoned(whole["thought"].strip(), whole["answer"].strip())
    thought = re.match(r"\s*<think>(.*?)</think>", text, re.DOTALL)
    return Reasoned(thought[1].strip() if thought else None, None)


@dataclass(frozen=True)
class ReasoningCodec(NumberCodec):
    """Writes numbers as `NumberCodec`, and reads them from the answer that follows a thought.

    Attributes:
        thought_words: Budget of the thought.
    """

    thought_words: int = 100

    @property
    def thought_tokens(self) -> int:
        """Tokens that thought and tags may take."""
        return _TOKENS_A_WORD * self.thought_words + _TAG_TOKENS

    def decode(
        self, text: str, h: int, scale: SeriesScale, allow_extra: bool = False, times: Sequence[str] = ()
    ) -> ParsedCompletion:
        """Reads exactly `h` numbers from the answer; never raises on bad text."""
        del allow_extra, times  # an answer has an end of its own
        parts = split_reasoning(text)
        if parts.answer is None:
            failure = ParseFailure.NO_THOUGHT if parts.thought is None else ParseFailure.NO_ANSWER
            return ParsedCompletion(None, failure, 0, detail=text[-40:])
        return super().decode(parts.answer, h, scale)


@dataclass(frozen=True)
class ReasoningPrompt(TextPrompt):
    """Asks for a thought and an answer, in the words of the model's chat template.

    Attributes:
        thought_words: Budget of the thought, told to the model.
    """

    thought_words: int = 100

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
        """Writes the prompt; see `TextPrompt.build`."""
        plain = TextPrompt(self.codec, self.domain, self.season)
        asked = plain.build(history, h, scale, start, future_covariates, context, times)
        request = asked.removesuffix("Forecast:\n")
        return (
            f"{self.before}{request}First think between <think> and </think>, in at most {self.thought_words} words. "
            f"Then write the {h} numbers, and nothing else, between <answer> and </answer>.\n{self.after}"
        )

    def build_completion(
        self,
        future: Sequence[float] | np.ndarray,
        scale: SeriesScale,
        history: Sequence[float] | np.ndarray | None = None,
    ) -> str:
        """Writes a warm-up answer [h]: a thought about the history alone, and the true numbers.

        Raises:
            ValueError: If no history is given.
        """
        if history is None:
            raise ValueError("a thought is about the history; give history")
        thought = " ".join(write_rationale(history, scale, self.season).split()[: self.thought_words])
        opened = "" if self.after.rstrip().endswith("<think>") else "<think>"
        return f"{opened}{thought}</think>\n<answer>{self.codec.encode(future, scale)}</answer>"


def write_rationale(history: Sequence[float] | np.ndarray, scale: SeriesScale, season: int = 0) -> str:
    """Writes what a history shows, in the written numbers: range, level, change, peak, and how to carry it on.

    Args:
        history: [L], NaN where missing.
        scale: The scale of the series.
        season: Steps in a season; 0 = none.
    """
    levels = np.rint((np.asarray(history, dtype=np.float64) - scale.offset) / scale.resolution)
    length = season if 1 < season <= len(levels) // 2 else max(len(levels) // 2, 1)
    last, before = levels[-length:], levels[-2 * length : -length]
    name = "season" if length == season else "half"
    texts = [f"The last {name} of {length} steps"]
    if np.isnan(last).all():
        return f"{texts[0]} is not known. The level before it is the best guess."
    low, high, mean = (int(f(last)) for f in (np.nanmin, np.nanmax, lambda x: np.rint(np.nanmean(x))))
    texts[0] += f" runs from {low} to {high}, with mean {mean}."
    peak, trough = int(np.nanargmax(last)) + 1, int(np.nanargmin(last)) + 1
    texts.append(f"Its peak stands at step {peak}, its low at step {trough}.")
    if len(before) and not np.isnan(before).all():
        change = mean - int(np.rint(np.nanmean(before)))
        said = f"{abs(change)} {'higher' if change > 0 else 'lower'} than" if change else "the same as"
        texts.append(f"The mean is {said} in the one before.")
    missing = int(np.isnan(levels).sum())
    if missing:
        texts.append(f"{missing} values are missing.")
    pattern = "the shape of the last season" if name == "season" else "the last level"
    texts.append(f"I carry {pattern} on from the last value, {_last(levels)}.")
    return " ".join(texts)


def _last(levels: np.ndarray) -> int:
    return int(levels[~np.isnan(levels)][-1])


def find_chat_frame(tokenizer: Any) -> tuple[str, str]:
    """Returns what a tokenizer's chat template writes before and after a user's message; empty without a template.

    Without the opening (BOS) that the tokenizer puts in front of any text, so that it stands there once.

    Raises:
        ValueError: If the template changes the message.
    """
    if not getattr(tokenizer, "chat_template", None):
        return "", ""
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": _MARK}], tokenize=False, add_generation_prompt=True
    )
    before, mark, after = str(text).partition(_MARK)
    if not mark:
        raise ValueError("the tokenizer's chat template changes the user's message; give a plain tokenizer")
    return before.removeprefix(tokenizer.decode(find_opening(tokenizer))), after


def build_prompt(codec: NumberCodec, tokenizer: Any, domain: str, season: int, thought_words: int) -> TextPrompt:
    """Returns the prompt that asks for an answer alone, or for a thought first.

    Args:
        codec: Writes the numbers.
        tokenizer: Gives the chat template.
        domain: One sentence about the data.
        season: Steps of a season.
        thought_words: Budget of the thought; 0 = none.
    """
    if thought_words < 0:
        raise ValueError(f"thought_words must be at least 0, got {thought_words}")
    if not thought_words:
        return TextPrompt(codec, domain, season)
    reader = ReasoningCodec(codec.digits, codec.separator, codec.missing, codec.margin, thought_words)
    before, after = find_chat_frame(tokenizer)
    return ReasoningPrompt(reader, domain, season, before, after, thought_words)
