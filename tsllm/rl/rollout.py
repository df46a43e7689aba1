"""Groups of forecasts sampled from one forward pass: their rewards and the credit of each step."""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution, Normal, StudentT

from tsllm.nn.distributions import AutoregressiveNormal, Binned
from tsllm.rl.advantages import compute_effective_sample_size, compute_preference_weights, compute_spread
from tsllm.rl.objectives import Objective
from tsllm.rl.rewards.base import Reward
from tsllm.rl.rewards.known import Known

CREDITS = ("auto", "step", "path")


@dataclass(frozen=True)
class Scored:
    """The rewards of a rollout. R rows are windows times channels.

    Attributes:
        rewards: [R, G]; 0 for rows without any observed target.
        advantages: [R, G, H], the same along H where whole paths get the credit.
        mask: Steps that count: target observed and group kept, [R, H].
        spread: Unbiased standard deviation of each group's rewards, [R].
        known: Rows with an observed target, [R].
        effective_size: Mean effective sample size of the preference weights; None for other objectives.
    """

    rewards: Tensor
    advantages: Tensor
    mask: Tensor
    spread: Tensor
    known: Tensor
    effective_size: Tensor | None


def build_policy(distribution: Distribution, temperature: float = 1.0, fixed_spread: bool = False) -> Distribution:
    """Returns the distribution that forecasts are sampled from and whose log-probabilities are trained.

    A lower temperature samples nearer to the point forecast, so that the expected reward of samples comes nearer to
    the reward of the decision made from the point forecast. With a fixed spread only the location learns: a reward
    then cannot raise itself by collapsing the distribution.

    Args:
        distribution: A model's, with batch shape [B, H, C].
        temperature: Factor of the scale; of bins, divisor of the logits.
        fixed_spread: Whether scale, degrees of freedom and correlation get no gradient; bins have no such parts.

    Raises:
        ValueError: If the distribution is none of `tsllm.nn.heads`, or bins are asked for a fixed spread.
    """
    if temperature == 1.0 and not fixed_spread:
        return distribution

    def hold(value: Tensor) -> Tensor:
        return value.detach() if fixed_spread else value

    if isinstance(distribution, AutoregressiveNormal):
        return AutoregressiveNormal(
            distribution.loc, hold(distribution.scale) * temperature, hold(distribution.correlation)
        )
    if isinstance(distribution, Normal):
        return Normal(distribution.loc, hold(distribution.scale) * temperature, validate_args=False)
    if isinstance(distribution, StudentT):
        scale = hold(distribution.scale) * temperature
        return StudentT(hold(distribution.df), distribution.loc, scale, validate_args=False)
    if isinstance(distribution, Binned) and not fixed_spread:
        logits = distribution.log_weights / temperature
        return Binned(logits, distribution.edges, distribution.loc, distribution.scale, distribution.tail)
    raise ValueError(f"{type(distribution).__name__} has no spread apart from its location; set fixed_spread: false")


def has_dependent_steps(distribution: Distribution) -> bool:
    """Tells whether steps depend on earlier steps of a path, so that credit must reach back."""
    return isinstance(distribution, AutoregressiveNormal)


@contextmanager
def seeded(*keys: int) -> Iterator[None]:
    """Draws from a stream that the keys alone decide, and leaves the global streams as they were.

    The same keys give the same draws after a resumption; other keys (step, slot, rank, round) give other streams.
    """
    seed = int(np.random.SeedSequence([key & 0xFFFFFFFF for key in keys]).generate_state(1)[0])
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


def score_rollout(
    runner: "RewardRunner",
    objective: Objective,
    samples: Tensor,
    target: Tensor,
    history: Tensor,
    season: int,
    *,
    credit: str = "auto",
    dependent: bool = False,
    min_spread: float = 0.0,
    known: Known | None = None,
) -> Scored:
    """Scores sampled forecasts and computes advantages.

    Credit by step uses that step's own reward where steps are drawn independently, and the sum of rewards from that
    step on where a step moves the later ones; whole paths get their reward at every step.

    Args:
        runner: Computes rewards.
        objective: Computes advantages.
        samples: [R, G, H], original units.
        target: [R, H], NaN where missing.
        history: [R, L], NaN where missing.
        season: Steps in a season.
        credit: "step", "path", or "auto" = by step where the reward is additive.
        dependent: Whether steps depend on earlier steps of their path.
        min_spread: Groups whose rewards spread by no more than this do not count.
        known: Facts about the rows, for rewards that ask for some.
    """
    rows, group, horizon = samples.shape
    observed = ~target.isnan()  # [R, H]
    judged = observed.any(1)
    rewards = samples.new_zeros(rows, group)
    credits_ = samples.new_zeros(rows, group, horizon)
    by_step = credit == "step" or (credit == "auto" and runner.reward.additive)
    if bool(judged.any()):
        kept = (samples[judged], target[judged], history[judged], season)
        told = None if known is None else known.take(judged)
        if by_step:
            steps = runner.score(*kept, by_step=True, known=told)  # [R, G, H]
            rewards[judged] = steps.sum(-1) / observed[judged].sum(-1)[:, None]
            credits_[judged] = steps.flip(-1).cumsum(-1).flip(-1) if dependent else steps
        else:
            rewards[judged] = runner.score(*kept, by_step=False, known=told)
    credit_of = credits_ if by_step else rewards[..., None]  # [R, G, H] or [R, G, 1]
    spread = compute_spread(rewards)
    effective = None
    if objective.advantage == "preference":
        weights = compute_preference_weights(credit_of, objective.temperature)
        effective = compute_effective_sample_size(weights).mean()
    mask = observed & judged[:, None] & (spread > min_spread)[:, None]
    advantages = objective.compute_advantages(credit_of).expand(rows, group, horizon)
    return Scored(rewards, advantages, mask, spread, judged, effective)


class RewardRunner:
    """Computes a reward in this process, or in worker processes that share the rows.

    Args:
        reward: The reward; it must pickle if there are workers.
        workers: Processes; 0 = this one. Worth it only for rewards of plain Python.
    """

    def __init__(self, reward: Reward, workers: int = 0) -> None:
        if workers < 0:
            raise ValueError(f"reward_workers ({workers}) must be at least 0")
        self.reward, self.workers = reward, workers
        self._pool: ProcessPoolExecutor | None = None

    def score(
        self,
        samples: Tensor,
        target: Tensor,
        history: Tensor,
        season: int,
        *,
        by_step: bool,
        known: Known | None = None,
    ) -> Tensor:
        """Returns rewards [R, G], or [R, G, H] by step."""
        if self.workers == 0:
            return _score(self.reward, by_step, season, samples, target, history, known)
        if self._pool is None:
            self._pool = ProcessPoolExecutor(self.workers, mp_context=get_context("spawn"))
        jobs = []
        for rows in torch.arange(len(samples)).chunk(self.workers):
            arrays = (x.detach()[rows.to(x.device)].cpu().numpy() for x in (samples, target, history))
            told = None if known is None else known.take(rows)
            jobs.append(self._pool.submit(_score_part, self.reward, by_step, season, told, *arrays))
        return torch.cat([torch.from_numpy(job.result()) for job in jobs]).to(samples)

    def close(self) -> None:
        """Ends the worker processes."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None


def _score(
    reward: Reward, by_step: bool, season: int, samples: Tensor, target: Tensor, history: Tensor, known: Known | None
) -> Tensor:
    function = reward.per_step if by_step else reward
    return function(samples, target, history, season, **reward.tell(known))


def _score_part(reward: Reward, by_step: bool, season: int, known: Known | None, *arrays: Any) -> np.ndarray:
    samples, target, history = (torch.from_numpy(np.ascontiguousarray(array)) for array in arrays)
    return _score(reward, by_step, season, samples, target, history, known).numpy()
