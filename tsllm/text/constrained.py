"""Generating and scoring under a grammar."""

from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from tsllm.text.grammar import TokenGrammar


def score_constrained(
    grammar: TokenGrammar, logits: Tensor, tokens: Tensor, temperature: float = 1.0, prompts: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Computes log-probabilities of completions under a grammar: the softmax runs over the allowed tokens alone.

    Args:
        grammar: The grammar that the completions were sampled under.
        logits: Of the free model at each token of the completion, [B, T, V].
        tokens: The completions [B, T], anything after the end.
        temperature: Of the sampling.
        prompts: What the completions stand behind, [B, P] padded on the left.

    Returns:
        Log-probabilities and entropies in nats, [B, T]; 0 after the end.
    """
    allowed, taken, live = (x.to(logits.device) for x in grammar.trace(tokens, prompts))
    scores = logits[..., grammar.ids.to(logits.device)].float() / temperature  # [B, T, A]
    # After the end nothing counts; a finite row keeps NaN out of the gradient.
    free = scores.masked_fill(~(allowed | ~live[..., None]), -torch.inf).log_softmax(-1)
    chosen = free.gather(-1, taken[..., None])[..., 0]  # [B, T]
    spread = -(free.exp() * free.masked_fill(free.isinf(), 0.0)).sum(-1)  # [B, T]
    zero = torch.zeros_like(chosen)
    return torch.where(live, chosen, zero), torch.where(live, spread, zero)


class GrammarProcessor(LogitsProcessor):
    """Lets `generate` choose only tokens that the grammar allows.

    Args:
        grammar: The automaton; a processor serves one call of `generate`.

    Attributes:
        hurried: [B] bool: where the likeliest token was once left out because too few tokens remained behind it, so
            that a greedy completion says something else than it would have; None before the first step.
    """

    def __init__(self, grammar: TokenGrammar) -> None:
        self.grammar = grammar
        self.hurried: Tensor | None = None
        self._state: Any = None
        self._ended: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Returns scores [B, V] with everything else at minus infinity; finished rows may only end again."""
        ids = self.grammar.ids.to(scores.device)
        if self._state is None:
            self._state = self.grammar.open(input_ids)
            self._ended = torch.zeros(len(input_ids), dtype=torch.bool, device=scores.device)
        else:
            last = input_ids[:, -1]
            choice = (ids[None] == last[:, None]).long().argmax(1)
            assert self._ended is not None
            self._ended = self._ended | self.grammar.is_end(choice)
            # A finished row is padded with tokens outside the grammar, which must not move its state.
            self._state = self.grammar.advance(
                self._state, torch.where(self._ended, torch.full_like(choice, len(ids) - 1), choice)
            )
        allowed = self.grammar.compute_allowed(self._state).to(scores.device)  # [B, A]
        allowed = torch.where(self._ended[:, None], ids[None] == self.grammar.end_id, allowed)
        self._note_hurry(scores[:, ids], allowed)
        restricted = torch.full_like(scores, -torch.inf)
        restricted[:, ids] = torch.where(allowed, scores[:, ids], -torch.inf)
        return restricted

    def _note_hurry(self, scores: Tensor, allowed: Tensor) -> None:
        assert self._ended is not None
        barred = self.grammar.compute_barred(self._state)
        if self.hurried is None:
            self.hurried = torch.zeros_like(self._ended)
        if barred is None:
            return
        barred = barred.to(scores.device)
        likeliest = scores.masked_fill(~(allowed | barred), -torch.inf).argmax(1, keepdim=True)  # [B, 1]
        self.hurried = self.hurried | (barred.gather(1, likeliest)[:, 0] & ~self._ended)


def build_processors(grammar: TokenGrammar | None) -> LogitsProcessorList:
    """Returns what makes one call of `generate` follow a grammar; nothing for None."""
    return LogitsProcessorList([] if grammar is None else [GrammarProcessor(grammar)])
