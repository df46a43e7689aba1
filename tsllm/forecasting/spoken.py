"""A language model that says what a text means for a forecast, as a reader of `ContextForecaster`."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tsllm.backbones.trust import check_json
from tsllm.context.applying import Window
from tsllm.context.effects import Effect
from tsllm.context.gain import read_said
from tsllm.context.readers import EffectSpeaker
from tsllm.context.spoken import write_request
from tsllm.files import write_json
from tsllm.hub.told import SPOKEN_FILE
from tsllm.text.loading import fetch_folder, load_language_model
from tsllm.training.args import read_dataclass

logger = logging.getLogger(__name__)
_LONGEST = 1024


@dataclass(frozen=True)
class SpokenSettings:
    """What a folder says of a language model that was trained to say effects.

    Attributes:
        max_tokens: Tokens that an answer may have.
        format: Version of the request.
    """

    max_tokens: int
    format: int = 1

    def __post_init__(self) -> None:
        if self.format != 1:
            raise ValueError(f"{SPOKEN_FILE} has format {self.format}, this version reads 1; update tsllm")
        if not 1 <= self.max_tokens <= _LONGEST:
            raise ValueError(f"{SPOKEN_FILE} has max_tokens {self.max_tokens}; it must lie in 1 to {_LONGEST}")

    def save(self, folder: Path) -> None:
        """Writes `effects.json`."""
        write_json(folder / SPOKEN_FILE, {"max_tokens": self.max_tokens, "format": self.format})


class SpokenReader(EffectSpeaker):
    """Asks a language model for effects, one a line, and takes its likeliest answer.

    An answer that cannot be read is warned about and changes nothing.

    Args:
        model: A causal language model.
        tokenizer: Its tokenizer.
        max_tokens: Tokens that an answer may have.
    """

    def __init__(self, model: Any, tokenizer: Any, max_tokens: int) -> None:
        self.model, self.tokenizer, self.max_tokens = model, tokenizer, max_tokens

    @classmethod
    def from_pretrained(cls, source: str | Path, **options: Any) -> "SpokenReader":
        """Loads what `recipes/sft_text.py` or `grpo_text.py` wrote with `writes: effects`.

        Args:
            source: Folder or Hub id.
            **options: `device` of `load_language_model`.

        Raises:
            FileNotFoundError: If it holds no `effects.json`.
            OSError: If the adapter or its base model cannot be loaded.
            ValueError: If settings are impossible, or the base has other weights.
        """
        folder = fetch_folder(source)
        given = check_json(folder / SPOKEN_FILE)
        if given is None:
            raise FileNotFoundError(
                f"{folder} holds no {SPOKEN_FILE}; train with recipes/sft_text.py, writes: effects"
            )
        settings = read_dataclass(SpokenSettings, given, str(folder / SPOKEN_FILE), "max_tokens")
        model, tokenizer = load_language_model(str(folder), **options)
        return cls(model, tokenizer, settings.max_tokens)

    def speak(self, text: str, window: Window) -> list[Effect]:
        """Returns what the model understood.

        Raises:
            ValueError: If the text is longer than the model can read.
        """
        (said,) = self.say([write_request(window, text)])
        effects = read_said(said)
        if effects is None:
            logger.warning("the language model wrote %r, which is no list of effects; nothing is changed", said)
            return []
        return effects

    @torch.inference_mode()
    def say(self, requests: Sequence[str], batch_size: int = 16) -> list[str]:
        """Returns the likeliest answer to each request.

        Raises:
            ValueError: If a request and its answer do not fit the model.
        """
        self.model.eval()
        answers, side = [], self.tokenizer.padding_side
        self.tokenizer.padding_side = "left"  # answers begin at the same place
        try:
            for start in range(0, len(requests), batch_size):
                part = list(requests[start : start + batch_size])
                inputs = self.tokenizer(part, return_tensors="pt", padding=True, add_special_tokens=False)
                length = inputs["input_ids"].shape[1]
                self._check_length(length)
                out = self.model.generate(
                    input_ids=inputs["input_ids"].to(self.model.device),
                    attention_mask=inputs["attention_mask"].to(self.model.device),
                    max_new_tokens=self.max_tokens,
                    do_sample=False,
                    pad_token_id=self.tokenizer.pad_token_id,
                )
                answers += self.tokenizer.batch_decode(out[:, length:], skip_special_tokens=True)
        finally:
            self.tokenizer.padding_side = side
        return [answer.strip() for answer in answers]

    def _check_length(self, tokens: int) -> None:
        limit = getattr(self.model.config, "max_position_embeddings", None)
        if limit is not None and tokens + self.max_tokens > limit:
            raise ValueError(
                f"a text with its request has {tokens} tokens and the answer up to {self.max_tokens}, but the model "
                f"reads {limit}; give a shorter text"
            )
