"""Constrained decoding: which tokens may follow so that a completion is exactly h integers."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tsllm.text.codec import NumberCodec


@dataclass
class GrammarState:
    """Where each completion of a batch stands; all tensors are [B]."""

    digits: Tensor  # digits of the number being written
    signed: Tensor  # bool, the number has a minus
    done: Tensor  # numbers finished by a separator


class NumberGrammar:
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

    def trace(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Follows whole completions.

        Args:
            tokens: Token ids [B, T], anything after the end.

        Returns:
            Which of `ids` were allowed at each step [B, T, A], which was taken [B, T], and whether the completion had
            not ended before that step [B, T].

        Raises:
            ValueError: If a completion takes a token that was not allowed: it was not sampled under this grammar.
        """
        ids = self.ids.to(tokens.device)
        state = self.start(len(tokens), tokens.device)
        live = torch.ones(len(tokens), dtype=torch.bool, device=tokens.device)
        allowed, taken, alive = [], [], []
        for step, token in enumerate(tokens.unbind(1)):
            may = self.compute_allowed(state)  # [B, A]
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

    def is_end(self, choice: Tensor) -> Tensor:
        """Returns [B] bool: the completion ended with this choice."""
        return choice == len(self._lengths) + 2


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
