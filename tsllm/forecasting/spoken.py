"""A language model that says what a text means for a forecast, as a reader of `ContextForecaster`."""

import logging
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from tsllm.backbones.trust import ADAPTER_CONFIG, check_json
from tsllm.context.applying import Window
from tsllm.context.effects import Effect
from tsllm.context.gain import read_said
from tsllm.context.readers import EffectSpeaker
from tsllm.context.spoken import write_request
from tsllm.files import write_json
from tsllm.hub.package import check_package
from tsllm.text.loading import describe_base, fetch_folder, load_language_model
from tsllm.text.settings import SPOKEN_SETTINGS
from tsllm.training.args import read_dataclass

logger = logging.getLogger(__name__)
_LONGEST = 1024


@dataclass(frozen=True)
class SpokenSettings:
    """What a folder says of a language model that was trained to say effects.

    Attributes:
        max_tokens: Tokens that an answer may have.
        base: What the adapter was trained on (`tsllm.text.loading.BaseModel`).
        format: Version of the request.
    """

    max_tokens: int
    base: dict[str, Any] = field(default_factory=dict)
    format: int = 1

    def __post_init__(self) -> None:
        if self.format != 1:
            raise ValueError(f"{SPOKEN_SETTINGS} has format {self.format}, this version reads 1; update tsllm")
        if not 1 <= self.max_tokens <= _LONGEST:
            raise ValueError(f"{SPOKEN_SETTINGS} has max_tokens {self.max_tokens}; it must lie in 1 to {_LONGEST}")

    def save(self, folder: Path) -> None:
        """Writes `effects.json`."""
        write_json(folder / SPOKEN_SETTINGS, asdict(self))


class SpokenReader(EffectSpeaker):
    """Asks a language model for effects, one a line, and takes its likeliest answer.

    An answer that cannot be read is warned about and changes nothing.

    Args:
        model: A causal language model.
        tokenizer: Its tokenizer.
        max_tokens: Tokens that an answer may have.

    Attributes:
        source: The folder that it was loaded from; None = it was not.
    """

    def __init__(self, model: Any, tokenizer: Any, max_tokens: int) -> None:
        self.model, self.tokenizer, self.max_tokens = model, tokenizer, max_tokens
        self.source: Path | None = None

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
        given = check_json(folder / SPOKEN_SETTINGS)
        if given is None:
            raise FileNotFoundError(
                f"{folder} holds no {SPOKEN_SETTINGS}; train with recipes/sft_text.py, writes: effects"
            )
        settings = read_dataclass(SpokenSettings, given, str(folder / SPOKEN_SETTINGS), "max_tokens")
        model, tokenizer = load_language_model(str(folder), **options)
        made = cls(model, tokenizer, settings.max_tokens)
        made.source = folder
        return made

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes the adapter as it was loaded, with its settings, tokenizer, metrics and card.

        Raises:
            NotImplementedError: If it was not loaded with `from_pretrained`, or is a whole language model.
            PackageError: If a file of its folder is missing or damaged.
        """
        if self.source is None or not (self.source / ADAPTER_CONFIG).is_file():
            raise NotImplementedError(
                "a SpokenReader can be kept where it is an adapter of recipes/sft_text.py or grpo_text.py, loaded by "
                "SpokenReader.from_pretrained(folder); save the base alone (forecaster.base.save_pretrained) and give "
                "it the reader again (--reader FOLDER)"
            )
        Path(folder).mkdir(parents=True, exist_ok=True)
        for name in check_package(self.source):
            shutil.copy(self.source / name, Path(folder) / name)

    def describe(self) -> SpokenSettings:
        """Returns what its folder says of it."""
        return SpokenSettings(self.max_tokens, asdict(describe_base(self.model, self.tokenizer)))

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
