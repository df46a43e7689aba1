"""A language model that says what a text means for a forecast, as a reader of `ContextForecaster`."""

import logging
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from tsllm.backbones.control import refuse_control
from tsllm.backbones.trust import ADAPTER_CONFIG, check_json
from tsllm.context.applying import Window
from tsllm.context.effects import SAYABLE, Effect
from tsllm.context.grammar import TAUGHT, Answers, find_alphabet, open_answers
from tsllm.context.readers import EffectSpeaker
from tsllm.context.spoken import MOST, read_said, write_request
from tsllm.files import write_json
from tsllm.hub.package import check_package
from tsllm.text.constrained import build_processors
from tsllm.text.grammar import SentenceGrammar
from tsllm.text.loading import describe_base, fetch_folder, load_language_model
from tsllm.text.settings import SPOKEN_SETTINGS
from tsllm.training.args import read_dataclass

logger = logging.getLogger(__name__)
CUT = "\n..."  # a last line that is no effect, behind an answer that was cut off, so that it cannot be read
_LONGEST = 1024
_FORMAT = 2


@dataclass(frozen=True)
class SpokenSettings:
    """What a folder says of a language model that was trained to say effects.

    Attributes:
        max_tokens: Tokens that an answer may have.
        base: What the adapter was trained on (`tsllm.text.loading.BaseModel`).
        constrained: Whether answers follow the grammar of effects.
        copies: Whether the grammar holds numbers and moments to those of the text.
        kinds: Effects that it was taught.
        format: Version of the request.
    """

    max_tokens: int
    base: dict[str, Any] = field(default_factory=dict)
    constrained: bool = True
    copies: bool = True
    kinds: tuple[str, ...] = TAUGHT
    format: int = _FORMAT

    def __post_init__(self) -> None:
        object.__setattr__(self, "kinds", tuple(self.kinds))  # JSON makes a list of it
        if self.format > _FORMAT:
            raise ValueError(f"{SPOKEN_SETTINGS} has format {self.format}, this version reads {_FORMAT}; update tsllm")
        if self.format < _FORMAT:
            raise ValueError(
                f"{SPOKEN_SETTINGS} has format {self.format}, which asks in other words than this version "
                f"({_FORMAT}); train the adapter again with recipes/sft_text.py, writes: effects"
            )
        unknown = sorted(set(self.kinds) - set(SAYABLE))
        if unknown:
            raise ValueError(f"{SPOKEN_SETTINGS} has the kind {unknown[0]!r}; known: {', '.join(SAYABLE)}")
        if not 1 <= self.max_tokens <= _LONGEST:
            raise ValueError(f"{SPOKEN_SETTINGS} has max_tokens {self.max_tokens}; it must lie in 1 to {_LONGEST}")

    def save(self, folder: Path) -> None:
        """Writes `effects.json`."""
        write_json(folder / SPOKEN_SETTINGS, asdict(self))


class EffectGrammar(SentenceGrammar):
    """The grammar of effects over the tokens of a tokenizer; each request brings its own language.

    Args:
        tokenizer: Its tokens are read once.
        max_tokens: Tokens that an answer may have, with its end.
        kinds: Effects that may be said.
        copies: Whether numbers and moments are held to those of the text.
    """

    def __init__(self, tokenizer: Any, max_tokens: int, kinds: Sequence[str] = TAUGHT, copies: bool = True) -> None:
        super().__init__(tokenizer, max_tokens, find_alphabet(kinds))
        self.kinds, self.copies = tuple(kinds), copies

    def ask(self, window: Window, text: str) -> str:
        """Returns the request about a text, whose answers the grammar knows from now on."""
        request = write_request(window, text)
        self.expect(request, partial(self.open_answers, window, text))
        return request

    def open_answers(self, window: Window, text: str) -> Answers:
        """Returns what may be said of a text."""
        return open_answers(window, text if self.copies else None, self.kinds)


_OTHERWISE = {
    True: "%s was trained without the grammar of effects and is now held to it, numbers and moments to those that the "
    "English rules find where copies is true; its answers may be worse than they were in its test",
    False: "%s was trained under the grammar of effects and is now free of it; it learned nothing where the grammar "
    "left it no choice, so that its answers may not be readable, and those then change nothing",
}


class SpokenReader(EffectSpeaker):
    """Asks a language model for effects, one a line, and takes its likeliest answer.

    Under the grammar every answer can be read; where one had to end because its tokens ran out, that is warned about.
    An answer that cannot be read, because it is none or was cut off, is warned about and changes nothing.

    Args:
        model: A causal language model.
        tokenizer: Its tokenizer.
        max_tokens: Tokens that an answer may have.
        constrained: Whether answers follow the grammar of effects.
        copies: Whether the grammar holds numbers and moments to those of the text.
        kinds: Effects that may be said under the grammar.

    Attributes:
        source: The folder that it was loaded from; None = it was not.
    """

    def __init__(
        self, model: Any, tokenizer: Any, max_tokens: int, constrained: bool = True, copies: bool = True,
        kinds: Sequence[str] = TAUGHT,
    ) -> None:  # fmt: skip
        self.model, self.tokenizer, self.max_tokens = model, tokenizer, max_tokens
        self.source: Path | None = None
        self.constrained, self.copies, self.kinds = constrained, copies, tuple(kinds)
        self._grammar: EffectGrammar | None = None

    @classmethod
    def from_pretrained(cls, source: str | Path, constrained: bool | None = None, **options: Any) -> "SpokenReader":
        """Loads what `recipes/sft_text.py` or `grpo_text.py` wrote with `writes: effects`.

        Args:
            source: Folder or Hub id.
            constrained: Whether answers follow the grammar; None = as it was trained, another choice is warned about.
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
        held = settings.constrained if constrained is None else constrained
        if held != settings.constrained:
            logger.warning(_OTHERWISE[held], source)
        made = cls(model, tokenizer, settings.max_tokens, held, settings.copies, settings.kinds)
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
        self.describe().save(Path(folder))  # `constrained` may be another than it was trained with

    def describe(self) -> SpokenSettings:
        """Returns what its folder says of it."""
        base = asdict(describe_base(self.model, self.tokenizer))
        return SpokenSettings(self.max_tokens, base, self.constrained, self.copies, self.kinds)

    @property
    def grammar(self) -> EffectGrammar | None:
        """The grammar of its answers, built when it is first needed; None = they are free."""
        if self.constrained and self._grammar is None:
            self._grammar = EffectGrammar(self.tokenizer, self.max_tokens, self.kinds, self.copies)
        return self._grammar

    @property
    def ends(self) -> frozenset[int]:
        """The tokens at which the model ends an answer."""
        ends = self.model.generation_config.eos_token_id
        more = [] if ends is None else [ends] if isinstance(ends, int) else ends
        return frozenset({self.tokenizer.eos_token_id, *more})

    def ask(self, window: Window, text: str) -> str:
        """Returns the request about a text, which `say` answers.

        Raises:
            ValueError: If the text holds a control token of the language model.
        """
        refuse_control(self.tokenizer, text, "the text")
        return write_request(window, text) if self.grammar is None else self.grammar.ask(window, text)

    def speak(self, text: str, window: Window) -> list[Effect]:
        """Returns what the model understood.

        Raises:
            ValueError: If the text is longer than the model can read, or holds a control token.
        """
        (said,) = self.say([self.ask(window, text)])
        if self.grammar is not None:
            self.grammar.forget()
        effects = read_said(said, window, text=text)
        if effects is None:
            logger.warning("the language model wrote %r, which is no list of effects; nothing is changed", said)
            return []
        return effects

    def say(self, requests: Sequence[str], batch_size: int = 16) -> list[str]:
        """Returns the likeliest answer to each request of `ask`; one that was cut off ends with `CUT`.

        An answer under the grammar is always whole. Where it says something else than it would have with more tokens,
        a warning says of which text.

        Raises:
            ValueError: If a request and its answer do not fit the model, or was not asked with `ask` while answers
                follow the grammar.
        """
        self.model.eval()
        answers: list[str] = []
        hurried: list[str] = []
        for start in range(0, len(requests), batch_size):
            part = list(requests[start : start + batch_size])
            said, short = self._answer(part)
            answers += said
            hurried += [request for request, late in zip(part, short, strict=True) if late]
        if hurried:
            logger.warning(
                "%d of %d answers had to end within %d tokens, so that what the text says further on may be missing; "
                "give its sentences as texts (rows) of their own. The first is that to %r",
                len(hurried), len(requests), self.max_tokens, hurried[0],
            )  # fmt: skip
        full = [a for a in answers if self.grammar is not None and len(a.splitlines()) >= MOST]
        if full:
            logger.warning(
                "%d of %d answers have %d effects, as many as one may have, so that what the text says further on may "
                "be missing; give its sentences as texts (rows) of their own. The first is %r",
                len(full), len(requests), MOST, full[0],
            )  # fmt: skip
        return answers

    @torch.inference_mode()
    def _answer(self, requests: list[str]) -> tuple[list[str], list[bool]]:
        """Returns answers to one batch of requests, and which had to end sooner than they would have."""
        side = self.tokenizer.padding_side
        self.tokenizer.padding_side = "left"  # answers begin at the same place
        try:
            # With what the tokenizer puts in front of a text (BOS), as TRL's trainers do.
            inputs = self.tokenizer(requests, return_tensors="pt", padding=True)
        finally:
            self.tokenizer.padding_side = side
        length = inputs["input_ids"].shape[1]
        self._check_length(length)
        processors = build_processors(self.grammar)
        out = self.model.generate(
            input_ids=inputs["input_ids"].to(self.model.device),
            attention_mask=inputs["attention_mask"].to(self.model.device),
            max_new_tokens=self.max_tokens,
            do_sample=False,
            pad_token_id=self.tokenizer.pad_token_id,
            logits_processor=processors,
        )[:, length:]
        said = [answer.strip() for answer in self.tokenizer.batch_decode(out, skip_special_tokens=True)]
        if self.grammar is not None:
            return said, processors[0].hurried.tolist()
        padded = self.ends | {self.tokenizer.pad_token_id}  # behind an end
        cut = [int(row[-1]) not in padded for row in out]
        return [f"{answer}{CUT}" if off else answer for answer, off in zip(said, cut, strict=True)], [False] * len(cut)

    def _check_length(self, tokens: int) -> None:
        limit = getattr(self.model.config, "max_position_embeddings", None)
        if limit is not None and tokens + self.max_tokens > limit:
            raise ValueError(
                f"a text with its request has {tokens} tokens and the answer up to {self.max_tokens}, but the model "
                f"reads {limit}; give a shorter text"
            )
