"""Rollouts of an optimiser step: what is kept of sampled forecasts, and which batches come again for it."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.utils.data import Sampler

from tsllm.rl.rewards.scores import Energy, compute_group_quantile
from tsllm.rl.rollout import Scored
from tsllm.rl.windows import fold_channels
from tsllm.training.batches import GlobalBatches


class RepeatedBatches(Sampler[list[int]]):
    """Repeats the batches of each optimiser step for the inner iterations on one rollout.

    Where the last step of an epoch lacks batches, the epoch's first ones come again.

    Args:
        batches: This process's share of the global batches.
        accumulation: Batches of an optimiser step.
        iterations: Optimiser steps on each rollout.
    """

    def __init__(self, batches: GlobalBatches, accumulation: int, iterations: int) -> None:
        self.batches, self.accumulation, self.iterations = batches, accumulation, iterations

    def __len__(self) -> int:
        return -(-len(self.batches) // self.accumulation) * self.accumulation * self.iterations

    def __iter__(self) -> Iterator[list[int]]:
        order = list(self.batches)
        wanted = -(-len(order) // self.accumulation) * self.accumulation
        order = [order[k % len(order)] for k in range(wanted)]
        for start in range(0, wanted, self.accumulation):
            for _ in range(self.iterations):
                yield from order[start : start + self.accumulation]


@dataclass
class Rollout:
    """What a step keeps of its sampled forecasts for the inner iterations.

    Attributes:
        inputs: The batch, after replacements.
        samples: [G, B, H, C] in the model's units.
        old_log_probs: Of the policy that sampled, [R * G, H].
        reference_log_probs: Of the supervised start, [R * G, H], or None.
        scored: Rewards and advantages.
        refills: Rounds of replacement.
    """

    inputs: dict[str, Tensor]
    samples: Tensor
    old_log_probs: Tensor
    reference_log_probs: Tensor | None
    scored: Scored
    refills: int


def compute_log_probs(distribution: Distribution, samples: Tensor) -> Tensor:
    """Returns the log-densities of samples [G, B, H, C] as sequences [B * C * G, H]."""
    return fold_channels(distribution.log_prob(samples)).flatten(0, 1)


def compute_sample_scores(rollout: Rollout) -> dict[str, Tensor]:
    """Returns MAE of the median, fair CRPS and 80 % coverage of the samples, in the windows' units."""
    target = fold_channels(rollout.inputs["future_values"])  # [R, H]
    known = ~target.isnan().all(1)
    samples, target = fold_channels(rollout.samples)[known], target[known]  # [R, G, H]
    if not len(target):
        return {}
    valid = torch.ones_like(samples[..., 0], dtype=torch.bool)
    low, middle, high = (compute_group_quantile(samples, valid, level) for level in (0.1, 0.5, 0.9))
    observed = ~target.isnan()
    inside = (target >= low) & (target <= high)
    # A history of one step has scale 1, so that the reward's unit is the windows'.
    crps = -Energy(bound=1e6).utility(samples, target, torch.zeros_like(target[:, :1]))
    return {
        "sample_mae": (target - middle).abs()[observed].mean(),
        "sample_crps": crps.mean(),
        "sample_coverage_80": inside[observed].float().mean(),
    }


def merge_inputs(whole: dict[str, Tensor], part: dict[str, Tensor], replaced: Tensor) -> dict[str, Tensor]:
    """Returns the inputs with the windows marked in `replaced` [B] taken from `part`, in order.

    Texts differ in number and length between batches, and a batch of which nothing is told has none: what is missing
    is filled up with zeros, which no mask marks as told.
    """
    merged = {}
    for name in whole | part:
        old, new = whole.get(name), part.get(name)
        if name.startswith("text_"):
            shape = (old if new is None else new).shape  # type: ignore[union-attr]
            sizes = [max(x.shape[k] for x in (old, new) if x is not None) for k in range(1, len(shape))]
            like = old if old is not None else new
            old, new = (
                _fill(x, like, count, sizes) for x, count in ((old, len(replaced)), (new, int(replaced.sum())))
            )
        assert old is not None
        assert new is not None
        merged[name] = _put(old, new, replaced)
    return merged


def _fill(values: Tensor | None, like: Tensor | None, count: int, sizes: list[int]) -> Tensor:
    assert like is not None
    filled = like.new_zeros(count, *sizes)
    if values is not None:
        filled[tuple(slice(size) for size in values.shape)] = values
    return filled


def _put(whole: Tensor, new: Tensor, at: Tensor) -> Tensor:
    whole = whole.clone()
    whole[at] = new
    return whole


def merge_rollouts(rollout: Rollout, part: Rollout, replaced: Tensor) -> Rollout:
    """Returns `rollout` with the windows marked in `replaced` [B] taken from `part`, in order."""
    batch, group = replaced.shape[0], rollout.samples.shape[0]

    channels = rollout.scored.rewards.shape[0] // batch
    rows = replaced.repeat_interleave(channels)  # [R]
    scored = {
        field.name: _put(getattr(rollout.scored, field.name), getattr(part.scored, field.name), rows)
        for field in fields(Scored)
        if field.name != "effective_size"
    }
    return replace(
        rollout,
        inputs=merge_inputs(rollout.inputs, part.inputs, replaced),
        samples=_put(rollout.samples.transpose(0, 1), part.samples.transpose(0, 1), replaced).transpose(0, 1),
        old_log_probs=_put(rollout.old_log_probs, part.old_log_probs, rows.repeat_interleave(group)),
        scored=Scored(**scored, effective_size=rollout.scored.effective_size),
    )
