"""Constrained decoding: which tokens may follow so that a completion is exactly h integers, or a sentence."""

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from tsllm.text.codec import NumberCodec


@dataclass
class GrammarState:
    """Where each completion of a batch stands; all tensors are [B]."""

    digits: Tensor  # digits of the number being written
    signed: Tensor  # bool, the number has a minus
    done: Tensor  # numbers finished by a separator


class TokenGrammar(ABC):
    """An automaton over the tokens of one tokenizer.

    Attributes:
        ids: [A] tokens that are allowed anywhere at all; the last of them ends a completion.
        end_id: The token that ends a completion.
    """

    ids: Tensor
    end_id: int

    @abstractmethod
    def open(self, prompts: Tensor) -> Any:
        """Returns the state behind some prompts, token ids [B, P] padded on the left."""

    @abstractmethod
    def compute_allowed(self, state: Any) -> Tensor:
        """Returns [B, A] bool: which of `ids` may come next."""

    @abstractmethod
    def advance(self, state: Any, choice: Tensor) -> Any:
        """Follows one step; `choice` are [B] indices into `ids`."""

    def compute_barred(self, state: Any) -> Tensor | None:
        """Returns [B, A] bool: which of `ids` might come next, were there more tokens left; None = never any."""
        del state
        return None

    def is_end(self, choice: Tensor) -> Tensor:
        """Returns [B] bool: the completion ended with this choice."""
        return choice == len(self.ids) - 1

    def trace(self, tokens: Tensor, prompts: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Follows whole completions.

        Args:
            tokens: Token ids [B, T], anything after the end.
            prompts: What they stand behind, [B, P] padded on the left; None where a grammar asks nothing of them.

        Returns:
            Which of `ids` were allowed at each step [B, T, A], which was taken [B, T], and whether the completion had
            not ended before that step [B, T].

        Raises:
            ValueError: If a completion takes a token that was not allowed: it was not sampled under this grammar.
        """
        ids = self.ids.to(tokens.device)
        state = self.open(tokens if prompts is None else prompts)
        live = torch.ones(len(tokens), dtype=torch.bool, device=tokens.device)
        allowed, taken, alive = [], [], []
        for step, token in enumerate(tokens.unbind(1)):
            may = self.compute_allowed(state).to(tokens.device)  # [B, A]
            match = ids == token[:, None]  # [B, A]
            wrong = live & ~(match & may).any(1)
            if bool(wrong.any()):
                row = int(wrong.nonzero()[0, 0])
                raise ValueError(
                    f"completion {row} takes token {int(token[row])} at step {step}, which the grammar does not "
                    "allow; it was not sampled under this grammar"
                )
            choice = torch.where(live, match.long().argmax(1), len(ids) - 1)
            allowed.append(may)
            taken.append(choice)
            alive.append(live)
            state = self.advance(state, choice)
            live = live & ~self.is_end(choice)
        return torch.stack(allowed, 1), torch.stack(taken, 1), torch.stack(alive, 1)


class NumberGrammar(TokenGrammar):
    """The automaton `[-]digits (separator [-]digits){h-1} end` over the tokens of one tokenizer.

    Tokens of several digits are allowed as long as the number stays within `max_digits`.

    Args:
        tokenizer: Its tokens are classified once.
        codec: Gives separator and digits.
        h: Numbers wanted.
        extra_digits: Digits allowed beyond the codec's own, for values outside the span of the history.

    Raises:
        ValueError: If the tokenizer has no token for the separator, the minus or some digit.
    """

    def __init__(self, tokenizer: Any, codec: NumberCodec, h: int, extra_digits: int = 1) -> None:
        self.h = h
        self.max_digits = codec.digits + extra_digits
        self.end_id = tokenizer.eos_token_id
        self.separator_id = _single_token(tokenizer, codec.separator)
        self.minus_id = _single_token(tokenizer, "-")
        digit_ids, lengths = _find_digit_tokens(tokenizer)
        self.ids = torch.tensor([*digit_ids, self.separator_id, self.minus_id, self.end_id])  # [A] allowed at all
        self._lengths = torch.tensor(lengths)  # [A - 3]

    def open(self, prompts: Tensor) -> GrammarState:
        """Returns the state before the first token, whatever was asked."""
        return self.start(len(prompts), prompts.device)

    def start(self, batch_size: int, device: torch.device | str = "cpu") -> GrammarState:
        """Returns the state before the first token."""
        zeros = torch.zeros(batch_size, dtype=torch.long, device=device)
        return GrammarState(zeros, zeros.bool(), zeros.clone())

    def compute_allowed(self, state: GrammarState) -> Tensor:
        """Returns [B, A] bool: which of `ids` may come next."""
        device = state.digits.device
        digits = state.digits.unsqueeze(1) + self._lengths.to(device) <= self.max_digits  # [B, A - 3]
        has_digits = state.digits > 0
        last = state.done == self.h - 1
        rest = torch.stack([has_digits & ~last, ~has_digits & ~state.signed, has_digits & last], 1)  # [B, 3]
        return torch.cat([digits, rest], 1)

    def advance(self, state: GrammarState, choice: Tensor) -> GrammarState:
        """Follows one step.

        Args:
            state: The state before.
            choice: [B] indices into `ids`.
        """
        num_digit_tokens = len(self._lengths)
        lengths = torch.cat([self._lengths, torch.zeros(3, dtype=torch.long)]).to(choice.device)
        separator = choice == num_digit_tokens
        return GrammarState(
            torch.where(separator, 0, state.digits + lengths[choice]),
            (state.signed | (choice == num_digit_tokens + 1)) & ~separator,
            state.done + separator.long(),
        )


class Language(Protocol):
    """Sentences, read character by character; a place is where one stands."""

    def start(self) -> Any:
        """Returns where a sentence begins."""

    def follow(self, place: Any, char: str) -> Any:
        """Returns where a character leads."""

    def shortest(self, place: Any) -> int:
        """Returns how many characters a sentence needs at least from here; 0 = whole, beyond `_NEVER` = no way."""


@dataclass(frozen=True)
class Standing:
    """Where one completion stands.

    Attributes:
        language: Of its prompt.
        place: In the language.
        left: Tokens that may still come, the end among them.
    """

    language: Language
    place: Any
    left: int


@dataclass(frozen=True)
class _Steps:
    """What may follow at a place: positions in `ids`, the places behind them, and the characters these still need."""

    positions: np.ndarray
    places: dict[int, Any]
    needed: np.ndarray


@dataclass
class _Node:
    """A node of the tree of all tokens: those that end here, and the characters that go on."""

    positions: list[int] = field(default_factory=list)
    children: dict[str, "_Node"] = field(default_factory=dict)


class SentenceGrammar(TokenGrammar):
    """Lets through the tokens that lead to a sentence of the language of each prompt, within a number of tokens.

    A completion under it is always whole: where few tokens are left, only those are allowed from which the end can be
    reached, one character a token at worst. `work` counts the nodes of the tree of tokens that were looked at; what
    was found at a place is kept, for the `kept` languages that were used last.

    Args:
        tokenizer: Its tokens are read once.
        max_tokens: Of a completion, with its end.
        alphabet: Characters that sentences are made of, each of which must be a token; None = those of all tokens.
        kept: Languages.

    Raises:
        ValueError: If the tokenizer has no token for a character of the alphabet.
    """

    def __init__(self, tokenizer: Any, max_tokens: int, alphabet: Iterable[str] | None = None, kept: int = 64) -> None:
        self.tokenizer, self.max_tokens, self.kept, self.work = tokenizer, max_tokens, kept, 0
        self.end_id = tokenizer.eos_token_id
        texts = _read_tokens(tokenizer, None if alphabet is None else frozenset(alphabet))
        absent = sorted(set(alphabet or ()) - set(texts.values()))
        if absent:
            raise ValueError(f"the tokenizer has no token for {absent}; turn constrained decoding off")
        self.ids = torch.tensor([*texts, self.end_id])
        self._root = _Node()
        for position, text in enumerate(texts.values()):
            node = self._root
            for char in text:
                node = node.children.setdefault(char, _Node())
            node.positions.append(position)
        self._asked: dict[str, Callable[[], Language]] = {}
        self._found: OrderedDict[Language, dict[Any, _Steps]] = OrderedDict()

    def expect(self, prompt: str, language: Callable[[], Language]) -> None:
        """Says what may stand behind a prompt; the language is opened when it is needed."""
        self._asked[self._decode(self.tokenizer(prompt)["input_ids"])] = language

    def forget(self) -> None:
        """Forgets all prompts."""
        self._asked.clear()

    def open(self, prompts: Tensor) -> list[Standing]:
        """Returns the state behind some prompts, token ids [B, P] padded on the left.

        Raises:
            ValueError: For a prompt that was not expected, or a language without a sentence of so few tokens.
        """
        return [self._open(self._decode(row)) for row in prompts.tolist()]

    def _open(self, prompt: str) -> Standing:
        if prompt not in self._asked:
            raise ValueError(
                f"the grammar was not told what may stand behind the prompt {prompt!r}; call expect first"
            )
        language = self._asked[prompt]()
        place = language.start()
        if language.shortest(place) + 1 > self.max_tokens:
            raise ValueError(
                f"no sentence that may stand behind {prompt!r} is surely shorter than {self.max_tokens} tokens; raise "
                "max_tokens"
            )
        return Standing(language, place, self.max_tokens)

    def compute_allowed(self, state: list[Standing]) -> Tensor:
        """Returns [B, A] bool: which of `ids` may come next."""
        allowed = np.zeros((len(state), len(self.ids)), dtype=bool)
        for row, standing in zip(allowed, state, strict=True):
            steps = self._find_steps(standing)
            row[steps.positions[steps.needed + 2 <= standing.left]] = True  # this token, and the end
            row[-1] = standing.language.shortest(standing.place) == 0
        return torch.from_numpy(allowed)

    def compute_barred(self, state: list[Standing]) -> Tensor:
        """Returns [B, A] bool: which of `ids` the language lets through and the number of tokens does not."""
        barred = np.zeros((len(state), len(self.ids)), dtype=bool)
        for row, standing in zip(barred, state, strict=True):
            steps = self._find_steps(standing)
            row[steps.positions[steps.needed + 2 > standing.left]] = True
        return torch.from_numpy(barred)

    def advance(self, state: list[Standing], choice: Tensor) -> list[Standing]:
        """Follows one step; behind its end a completion stays where it is."""
        end = len(self.ids) - 1
        return [
            standing
            if k == end
            else Standing(standing.language, self._find_steps(standing).places[k], standing.left - 1)
            for standing, k in zip(state, choice.tolist(), strict=True)
        ]

    def _find_steps(self, standing: Standing) -> _Steps:
        language = standing.language
        found = self._found.setdefault(language, {})
        self._found.move_to_end(language)
        while len(self._found) > self.kept:
            self._found.popitem(last=False)
        if standing.place not in found:
            found[standing.place] = self._walk(language, standing.place)
        return found[standing.place]

    def _walk(self, language: Language, place: Any) -> _Steps:
        """Walks the tree of tokens as far as the language goes."""
        places: dict[int, Any] = {}
        needed: list[int] = []
        waiting = [(self._root, place)]
        while waiting:
            node, here = waiting.pop()
            for char, child in node.children.items():
                self.work += 1
                there = language.follow(here, char)
                need = language.shortest(there)
                if need < _NEVER:
                    waiting.append((child, there))
                    places |= dict.fromkeys(child.positions, there)
                    needed += [need] * len(child.positions)
        return _Steps(np.array(list(places), dtype=int), places, np.array(needed, dtype=int))

    def _decode(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))


_NEVER = 10**9


def _read_tokens(tokenizer: Any, alphabet: frozenset[str] | None) -> dict[int, str]:
    """Returns the text of each token as it stands behind others; those of half a character or with others left out."""
    anchor = tokenizer("a", add_special_tokens=False)["input_ids"][-1:]
    before, special = len(tokenizer.decode(anchor)), set(tokenizer.all_special_ids)
    ids = sorted(k for k in set(tokenizer.get_vocab().values()) if k not in special)
    texts = {
        k: text[before:] for k, text in zip(ids, tokenizer.batch_decode([[*anchor, k] for k in ids]), strict=True)
    }
    return {
        k: text
        for k, text in texts.items()
        if text and "\ufffd" not in text and (alphabet is None or alphabet.issuperset(text))
    }


def _single_token(tokenizer: Any, text: str) -> int:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    if len(ids) != 1:
        raise ValueError(f"the tokenizer writes {text!r} with {len(ids)} tokens; constrained decoding needs one")
    return int(ids[0])


def _find_digit_tokens(tokenizer: Any) -> tuple[list[int], list[int]]:
    found = {i: text for text, i in tokenizer.get_vocab().items() if text.isascii() and text.isdigit()}
    absent = set("0123456789") - set(found.values())
    if absent:
        raise ValueError(f"the tokenizer has no token for the digits {sorted(absent)}; turn constrained decoding off")
    ids = sorted(found)
    return ids, [len(found[i]) for i in ids]
