"""Rewards on the text of a forecast, and the adapter that scores parsed completions with any reward.

A parsed completion is the list of numbers that a text held, or None if it could not be parsed. A completion with
another number of values than the horizon, or with a non-finite one, is invalid: numeric rewards give it their `low`.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tsllm.rl.rewards.base import Completions, Problem, Reward, check_positive
from tsllm.rl.rewards.known import Known


class FormatValidity(Reward):
    """1 if a completion parses into exactly as many finite numbers as asked for, else 0 (format reward, DeepSeek-R1).

    Range [0, 1]. Blind to the numbers.

    >>> score_completions(FormatValidity(), [[[1.0, 2.0], [1.0], None]], torch.zeros(1, 2), torch.zeros(1, 3))
    tensor([[1., 0., 0.]])
    """

    scores_text = True

    def _paths(self, problem: Problem) -> Tensor:
        return problem.valid.to(problem.samples.dtype)


class Length(Reward):
    """Closeness of the number of values to the horizon: `min(n, H) / max(n, H)`.

    Range [0, 1], 1 for the exact length, 0 for an empty completion. A finer slope towards valid answers than
    `format`; like it, blind to the numbers. Completions with non-finite values get 0.

    >>> score_completions(Length(), [[[1.0, 2.0], [1.0], [1.0] * 8, []]], torch.zeros(1, 2), torch.zeros(1, 3))
    tensor([[1.0000, 0.5000, 0.2500, 0.0000]])
    """

    scores_text = True

    def _bound(self, value: Tensor, valid: Tensor) -> Tensor:
        del valid  # a wrong length is what this reward grades; it must not fall to `low` as a whole
        return value.clamp(self.low, self.high) + 0.0

    def _paths(self, problem: Problem) -> Tensor:
        horizon = problem.samples.shape[-1]
        if problem.completions is None:
            return problem.valid.to(problem.samples.dtype)  # tensors have the exact length by construction
        count = problem.completions.num_values.to(problem.samples.dtype)
        return count.clamp(max=horizon) / count.clamp(min=horizon)


class SoftOverlong(Reward):
    """Soft overlong punishment of DAPO (Yu et al. 2025, eq. 13).

    0 up to `max_tokens - cache` tokens, then linearly down to -1 at `max_tokens`. Range [-1, 0].

    >>> reward = SoftOverlong(cache=4)
    >>> texts = [[[1.0], [1.0], [1.0]]]
    >>> tokens = torch.tensor([[6, 8, 12]])
    >>> score_completions(reward, texts, torch.zeros(1, 1), torch.zeros(1, 3), num_tokens=tokens, max_tokens=10)
    tensor([[ 0.0000, -0.5000, -1.0000]])

    Args:
        cache: Tokens over which the penalty grows.
    """

    scores_text = True
    low, high = -1.0, 0.0

    def __init__(self, cache: int = 16) -> None:
        check_positive("soft_overlong", cache=cache)
        self.cache = cache

    def _bound(self, value: Tensor, valid: Tensor) -> Tensor:
        del valid  # length in tokens is judged apart from what the text says
        return value.clamp(self.low, self.high) + 0.0

    def _paths(self, problem: Problem) -> Tensor:
        if problem.completions is None:
            raise ValueError("soft_overlong judges texts; pass completions=Completions(...) or leave this reward out")
        limit = problem.completions.max_tokens
        if self.cache >= limit:
            raise ValueError(f"soft_overlong: cache ({self.cache}) must be below max_tokens ({limit})")
        over = problem.completions.num_tokens.to(problem.samples.dtype) - (limit - self.cache)
        return -(over / self.cache).clamp(0, 1)


def score_completions(
    reward: Reward,
    values: Sequence[Sequence[Sequence[float] | None]],
    target: Tensor,
    history: Tensor,
    season: int = 1,
    num_tokens: Tensor | None = None,
    max_tokens: int | None = None,
    known: Known | None = None,
) -> Tensor:
    """Scores groups of parsed completions with any reward; a bad completion never raises.

    Args:
        reward: The reward.
        values: For each of B series, G parsed completions: the numbers found, or None if nothing could be parsed.
        target: Truth [B, H], NaN where missing.
        history: Context [B, L], NaN where missing.
        season: Steps in a season.
        num_tokens: Tokens of each completion, [B, G]; needed by rewards on token counts.
        max_tokens: Largest number of tokens that the sampler allows; goes with `num_tokens`.
        known: Facts about the series, for rewards that ask for some.

    Returns:
        Rewards [B, G].

    Raises:
        ValueError: If the groups differ in size, or only one of `num_tokens` and `max_tokens` is given.
    """
    sizes = {len(group) for group in values}
    if len(values) != target.shape[0] or len(sizes) != 1:
        raise ValueError(
            f"expected {target.shape[0]} groups of one size, found {len(values)} with sizes {sorted(sizes)}"
        )
    if (num_tokens is None) != (max_tokens is None):
        raise ValueError("num_tokens and max_tokens go together; give both or neither")
    horizon, size = target.shape[1], sizes.pop()
    samples = torch.full((len(values), size, horizon), torch.nan, dtype=target.dtype)
    counts = torch.zeros(len(values), size, dtype=torch.long)
    for row, group in enumerate(values):
        for column, numbers in enumerate(group):
            found = [] if numbers is None else [_to_float(number) for number in numbers]
            finite = all(math.isfinite(number) for number in found)
            counts[row, column] = len(found) if finite else 0
            if finite and len(found) == horizon:
                samples[row, column] = torch.tensor(found, dtype=target.dtype)
    tokens = counts if num_tokens is None else num_tokens
    limit = torch.iinfo(torch.long).max if max_tokens is None else max_tokens
    completions = Completions(counts, tokens, limit)
    if num_tokens is None and isinstance(reward, SoftOverlong):
        raise ValueError("soft_overlong judges tokens; pass num_tokens and max_tokens")
    return reward(samples, target, history, season, completions, **reward.tell(known))


def _to_float(number: object) -> float:
    try:
        return float(number)  # type: ignore[arg-type]  # anything may come out of a parser
    except (TypeError, ValueError, OverflowError):
        return math.nan
