"""A decision problem as a reward: the forecast is acted on, and the action is settled on the truth."""

import torch
from torch import Tensor

from tsllm.decisions.base import DecisionProblem
from tsllm.rl.rewards.base import Problem, Reward, check_positive


class ProblemReward(Reward):
    """Minus the regret, in the problem's own unit, of the action that a forecast leads to.

    The problem plans on the forecast as if it were certain (`DecisionProblem.plan`), and its action is settled on the
    truth: `-(cost(plan(x), y) - cost of the best action in hindsight)`. Range [-bound, 0], 0 for the truth and for
    every forecast that leads to a best action. Forecasts and truth are in the unit of the series, as the problem's
    limits are. A window with a missing target judges nothing: all its forecasts earn 0, a flat group.

    >>> from tsllm.decisions import PeakShaving
    >>> reward = ProblemReward(PeakShaving(energy=3.0, power=5.0), bound=10.0)
    >>> samples = torch.tensor([[[2.0, 6.0, 5.0, 1.0], [2.0, 5.0, 6.0, 1.0], [6.0, 0.0, 0.0, 0.0]]])
    >>> reward(samples, torch.tensor([[2.0, 6.0, 5.0, 1.0]]), torch.zeros(1, 2))  # peaks of 4, 5 and 6, the best is 4
    tensor([[ 0., -1., -2.]])

    Args:
        problem: The problem.
        bound: Largest regret that counts, in the problem's unit; a forecast that is not finite loses so much.

    Raises:
        ValueError: If the bound is not above 0.
    """

    def __init__(self, problem: DecisionProblem, bound: float) -> None:
        check_positive(problem.name, bound=bound)
        self.problem, self.bound = problem, float(bound)
        self.low, self.high = -self.bound, 0.0
        self.differentiable = problem.differentiable  # type: ignore[misc]  # the problem's word for one instance

    def _paths(self, problem: Problem) -> Tensor:
        whole = problem.observed.all(1)  # [B]
        truth = self.problem.discretise(problem.target.double())[:, None]  # [B, 1, H]
        regret = self.problem.regret(self.problem.plan(problem.samples.double()), truth)  # [B, G]
        return torch.where(whole[:, None], 0.0 - regret, torch.zeros_like(regret)).to(problem.samples.dtype)


def build_problem_reward(name: str, problem: DecisionProblem, bound: float | None) -> ProblemReward:
    """Builds the reward of a configuration `{name: peak_shaving, energy: ..., power: ..., bound: ...}`.

    Raises:
        ValueError: If there is no bound: rewards are bounded.
    """
    if bound is None:
        raise ValueError(
            f"reward {name!r} needs bound, the largest regret that counts in {problem.unit}; take a generous one, the "
            "dry run measures what regrets there are"
        )
    return ProblemReward(problem, bound)
