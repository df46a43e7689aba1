"""Attacks on rewards: forecasts that know nothing of the future, or are no forecasts, must not beat the truth."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tsllm.decisions.base import DecisionProblem
from tsllm.decisions.check import find_hindsight_faults
from tsllm.rl.dry_run import name_place
from tsllm.rl.rewards.base import Reward
from tsllm.rl.rewards.composite import WeightedReward, WrongShapeError
from tsllm.rl.rewards.known import make_known
from tsllm.rl.rewards.problem import ProblemReward
from tsllm.rl.rewards.text import score_completions

Values = list[float]

_TOKENS_A_VALUE = 4


def make_attacks(target: Tensor, history: Tensor, generator: torch.Generator) -> dict[str, Values | None]:
    """Makes the completions of all attacks; an attack may know the truth and keep a part of it.

    Args:
        target: Truth [H].
        history: Context [L], L >= H.
        generator: Of the permutation.

    Returns:
        Name -> the numbers of a completion, None for one that cannot be parsed.
    """
    horizon, truth = len(target), target.tolist()
    return {
        "zeros": [0.0] * horizon,
        "history_mean": [float(history.mean())] * horizon,
        "truth_mean": [float(target.mean())] * horizon,
        "last_value": [float(history[-1])] * horizon,
        "copied_history": history[-horizon:].tolist(),
        "permuted": target[torch.randperm(horizon, generator=generator)].tolist(),
        "reversed": truth[::-1],
        "negated": (-target).tolist(),
        "doubled": (2 * target).tolist(),
        "shifted_a_step": target.roll(1).tolist(),
        "extreme_high": [1e9] * horizon,
        "extreme_low": [-1e9] * horizon,
        "largest_float": [3e38] * horizon,
        "trailing_spike": [0.0] * (horizon - 1) + [1e9],
        "alternating_extremes": [1e9 if step % 2 else -1e9 for step in range(horizon)],
        "nan": [math.nan] * horizon,
        "one_nan": [*truth[:-1], math.nan],
        "infinite": [math.inf] * horizon,
        "too_long": truth * 2,
        "too_short": truth[:-1],
        "empty": [],
        "unparsable": None,
    }


@dataclass(frozen=True)
class AttackResult:
    """How one attack fared over all cases.

    Attributes:
        attack: Its name.
        reward: Mean reward of the attack.
        truth: Mean reward of the truth in the same groups.
        margin: Least lead of the truth; below 0 the attack won somewhere.
        tied: Share of cases in which the attack earned as much as the truth.
    """

    attack: str
    reward: float
    truth: float
    margin: float
    tied: float


@dataclass(frozen=True)
class Audit:
    """The outcome of an audit.

    Attributes:
        results: One entry an attack.
        problems: What is wrong with the reward, in words; empty if it passed.
    """

    results: list[AttackResult]
    problems: list[str]

    @property
    def passed(self) -> bool:
        """Whether nothing beat the truth and every reward was finite and in its declared range."""
        return not self.problems


def audit_reward(
    reward: Reward, *, horizon: int = 24, season: int = 24, cases: int = 8, honest: int = 6, seed: int = 0
) -> Audit:
    """Attacks a reward with everything that `make_attacks` makes; of a decision problem, its hindsight too.

    Each attack stands in a group with the truth and some honest noisy forecasts, on made seasonal series with trend,
    noise and spikes.

    Args:
        reward: The reward.
        horizon: Steps to forecast, at least 2.
        season: Steps in a season.
        cases: Series.
        honest: Noisy forecasts in each group.
        seed: Of series and noise.

    Raises:
        ValueError: If the horizon is below 2.
    """
    if horizon < 2:
        raise ValueError(f"horizon ({horizon}) must be at least 2 steps, so that a forecast can be too short")
    generator = torch.Generator().manual_seed(seed)
    history, target = make_series(cases, 4 * max(horizon, season), horizon, season, generator)
    noise = torch.randn(cases, honest, horizon, generator=generator) * history.std(1)[:, None, None] / 2
    friends = target[:, None] + noise  # [cases, honest, H]
    known = make_known(cases, history.shape[1], horizon)
    results, problems = [], []
    attacks = [make_attacks(target[row], history[row], generator) for row in range(cases)]
    for name in attacks[0]:
        groups = [
            [target[row].tolist(), attacks[row][name], *friends[row].tolist()] for row in range(cases)
        ]  # the truth first, the attack second
        tokens = torch.tensor([[_TOKENS_A_VALUE * len(values or ()) for values in group] for group in groups])
        limit = 4 * _TOKENS_A_VALUE * horizon
        try:
            scores = score_completions(reward, groups, target, history, season, tokens, limit, known)
        except WrongShapeError as error:
            problems.append(f"{name}: {error}")
            continue
        except Exception as error:  # an audit reports whatever a reward does; it must outlive it
            problems.append(f"{name}: raised {type(error).__name__}: {error}{name_place(error)}")
            continue
        found, faults = _judge(name, scores, reward)
        results.append(found)
        problems += faults
    terms = [term for _, term in reward.terms] if isinstance(reward, WeightedReward) else [reward]
    for term in terms:
        if isinstance(term, ProblemReward):
            problems = _check_hindsight(term.problem, target) + problems
    said = {problem.partition(": ")[2] for problem in problems}
    if not results and len(said) == 1:
        problems = [f"every forecast: {said.pop()}"]  # broken, not gamed: told once
    return Audit(results, problems)


def _check_hindsight(problem: DecisionProblem, target: Tensor) -> list[str]:
    try:
        return find_hindsight_faults(problem, target)
    except Exception as error:  # a problem of one's own may raise anything, which the attacks tell as well
        return [f"hindsight: raised {type(error).__name__}: {error}{name_place(error)}"]


def _judge(name: str, scores: Tensor, reward: Reward) -> tuple[AttackResult, list[str]]:
    truth, attack = scores[:, 0].double(), scores[:, 1].double()
    tolerance = 1e-6 * max(1.0, abs(reward.low), abs(reward.high))
    margin = float((truth - attack).min())
    problems = []
    if not bool(scores.isfinite().all()):
        problems.append(f"{name}: a reward is not finite")
    elif bool((scores < reward.low - tolerance).any() or (scores > reward.high + tolerance).any()):
        problems.append(f"{name}: a reward lies outside the declared range [{reward.low:g}, {reward.high:g}]")
    if margin < -tolerance:
        problems.append(f"{name}: beats the truth by up to {-margin:.4g}")
    tied = float(((truth - attack).abs() <= tolerance).double().mean())
    return AttackResult(name, float(attack.mean()), float(truth.mean()), margin, tied), problems


def make_series(
    rows: int, length: int, horizon: int, season: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Makes seasonal series with level, trend, noise and rare spikes.

    Returns:
        History [rows, length] and what follows it [rows, horizon].
    """
    step = torch.arange(length + horizon, dtype=torch.float32)
    phase = 2 * torch.pi * (step / max(season, 2) + torch.rand(rows, 1, generator=generator))
    size = 1 + 9 * torch.rand(rows, 1, generator=generator)
    trend = 0.02 * torch.randn(rows, 1, generator=generator) * step
    noise = torch.randn(rows, length + horizon, generator=generator)
    spikes = 8 * (torch.rand(rows, length + horizon, generator=generator) > 0.98)
    series = 20 + size * (phase.sin() + 0.5 * (2 * phase).cos() + trend + 0.3 * noise + spikes)
    return series[:, :length], series[:, length:]
