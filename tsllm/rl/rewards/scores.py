"""Probabilistic scores turned into rewards of single samples. All are additive over steps."""

from typing import ClassVar

import torch
from torch import Tensor

from tsllm.rl.rewards.base import Problem, Reward, check_positive, compute_seasonal_scale
from tsllm.rl.rewards.known import Known


class Energy(Reward):
    r"""Leave-one-out energy reward: policy gradient on the CRPS (Gneiting & Raftery 2007, eq. 21).

    `r_i = -(|x_i - y| - mean over j != i of |x_i - x_j|) / scale`. The coefficient of the second term is 1, not the
    1/2 of the CRPS itself: the score-function gradient of `E|X - X'| / 2` passes through both samples, so that
    `sum_i r_i grad log p(x_i)` estimates `-grad CRPS` without bias. The mean of r over a group is therefore *not* the
    CRPS (it grows with the spread); `utility` is.

    Range [-bound, bound]; within any group no forecast scores above the truth (triangle inequality). Errors are cut at
    `bound` scales around the truth before distances are taken, which keeps them a metric. Invalid forecasts are no
    one's neighbour. The scale is the seasonal naive error of the history.

    >>> import torch
    >>> history = torch.tensor([[0.0, 1.0, 0.0, 1.0]])  # naive error 1
    >>> samples = torch.tensor([[[2.0], [4.0], [1.0]]])
    >>> Energy()(samples, torch.tensor([[2.0]]), history)  # 0 + (2+1)/2, -2 + (2+3)/2, -1 + (1+3)/2
    tensor([[1.5000, 0.5000, 1.0000]])
    >>> Energy().utility(samples, torch.tensor([[2.0]]), history)  # -(3/3 - (3 + 5 + 4) / 2 / 3 / 2) = 0
    tensor([0.])

    Args:
        bound: Largest scaled error that counts.
    """

    group_wise: ClassVar[bool] = True
    differentiable: ClassVar[bool] = True

    def __init__(self, bound: float = 50.0) -> None:
        check_positive("energy", bound=bound)
        self.bound, self.low, self.high, self.additive = bound, -float(bound), float(bound), True

    def _parts(self, problem: Problem) -> tuple[Tensor, Tensor]:
        scale = compute_seasonal_scale(problem.history, problem.history_observed, problem.season)[:, None, None]
        error = ((problem.samples - problem.target[:, None]) / scale).clamp(-self.bound, self.bound)  # [B, G, H]
        weight = problem.valid[..., None].to(error.dtype).expand_as(error)  # [B, G, H]
        # Sorting gives all G mean distances in G log G instead of G^2: sum_j w_j |u_k - u_j| for u in rising order.
        order = error.argsort(dim=1)
        ranked, weights = error.gather(1, order), weight.gather(1, order)
        below, mass = (weights * ranked).cumsum(1), weights.cumsum(1)
        total = ranked * (2 * mass - mass[:, -1:]) + below[:, -1:] - 2 * below
        others = (mass[:, -1:] - weights).clamp(min=1)
        spread = torch.zeros_like(total).scatter(1, order, total / others)  # [B, G, H]
        return error.abs(), spread

    def _steps(self, problem: Problem) -> Tensor:
        error, spread = self._parts(problem)
        return spread - error

    def utility(
        self, samples: Tensor, target: Tensor, history: Tensor, season: int = 1, known: Known | None = None
    ) -> Tensor:
        """Returns minus the fair sample CRPS (Ferro 2014) of each group, scaled, [B]."""
        reward = self(samples, target, history, season).mean(1)
        half = _NegativeDistance(self.bound)(samples, target, history, season).mean(1)
        return (reward + half) / 2  # -(d - s) / 2 - d / 2 = -(d - s / 2)


class _NegativeDistance(Energy):
    """The first term of the energy reward alone."""

    group_wise: ClassVar[bool] = False

    def _steps(self, problem: Problem) -> Tensor:
        return -self._parts(problem)[0]


class Pinball(Reward):
    """Minus the pinball loss of a sample read as a statement of one quantile (Koenker & Bassett 1978), times 2.

    Range [-bound, 0], 0 for the truth. At quantile 0.5 it is minus the MASE. A policy that maximises it collapses onto
    that quantile.

    >>> import torch
    >>> history = torch.tensor([[0.0, 1.0, 0.0, 1.0]])  # naive error 1
    >>> samples = torch.tensor([[[1.0], [3.0]]])  # one below, one above
    >>> Pinball(quantile=0.9)(samples, torch.tensor([[2.0]]), history)  # -2 * 0.9 * 1, -2 * 0.1 * 1
    tensor([[-1.8000, -0.2000]])

    Args:
        quantile: Level in (0, 1).
        bound: Largest scaled loss that counts.

    Raises:
        ValueError: If the quantile is not inside (0, 1).
    """

    differentiable: ClassVar[bool] = True

    def __init__(self, quantile: float = 0.5, bound: float = 50.0) -> None:
        check_positive("pinball", quantile=quantile, bound=bound)
        if quantile >= 1:
            raise ValueError(f"pinball: quantile ({quantile}) must lie inside (0, 1)")
        self.quantile, self.bound, self.low, self.high, self.additive = quantile, bound, -float(bound), 0.0, True

    def _steps(self, problem: Problem) -> Tensor:
        scale = compute_seasonal_scale(problem.history, problem.history_observed, problem.season)[:, None, None]
        error = (problem.target[:, None] - problem.samples) / scale  # [B, G, H]
        return -2 * torch.maximum(self.quantile * error, (self.quantile - 1) * error)


class IntervalScore(Reward):
    r"""Interval score of the central interval (Gneiting & Raftery 2007, eq. 43), as credit for single samples.

    The score `S = (u - l) + 2/a (l - y)+ + 2/a (y - u)+` judges two quantiles of the policy, not a path. Its
    score-function gradient follows from the influence function of a quantile,
    `IF(x; q_t) = (t - [x <= q_t]) / f(q_t)`, and from `dS/dq_t = 2/a ([y <= q_t] - t)`: the credit of a sample is
    `sum over t in {a/2, 1 - a/2} of (t - [y <= q_t]) (t - [x_i <= q_t])`. The positive factors `2 / (a f(q_t))` are
    left out, as the density at a quantile cannot be estimated from a small group: for a distribution symmetric about
    its centre the gradient is that of the interval score times a constant. q_t are the group's empirical quantiles
    (linear interpolation).

    Range [-2 t (1 - t), 2 (1 - t)^2] with t = a/2; no forecast of a group scores above the truth. Free of units, so
    that no scale is needed.

    >>> import torch
    >>> samples = torch.tensor([[[0.0], [1.0], [2.0], [3.0], [9.0]]])  # quartiles 1 and 3
    >>> IntervalScore(level=0.5)(samples, torch.tensor([[2.5]]), torch.zeros(1, 4))
    tensor([[-0.1250, -0.1250,  0.1250,  0.1250, -0.1250]])

    The truth lies above the lower and not above the upper quartile, so that the factors of y are 0.25 and -0.25. Those
    of the first sample are -0.75 and -0.25: 0.25 * -0.75 + -0.25 * -0.25 = -0.125.

    Args:
        level: Coverage of the interval, in (0, 1).

    Raises:
        ValueError: If the level is not inside (0, 1).
    """

    group_wise: ClassVar[bool] = True

    def __init__(self, level: float = 0.8) -> None:
        check_positive("interval_score", level=level)
        if level >= 1:
            raise ValueError(f"interval_score: level ({level}) must lie inside (0, 1)")
        tail = (1 - level) / 2
        self.level, self.additive = level, True
        self.low, self.high = -2 * tail * (1 - tail), 2 * (1 - tail) ** 2

    def _steps(self, problem: Problem) -> Tensor:
        tail = (1 - self.level) / 2
        value = torch.zeros_like(problem.samples)
        for quantile in (tail, 1 - tail):
            cut = compute_group_quantile(problem.samples, problem.valid, quantile)[:, None]  # [B, 1, H]
            truth = quantile - (problem.target[:, None] <= cut).to(value.dtype)  # [B, 1, H]
            value = value + truth * (quantile - (problem.samples <= cut).to(value.dtype))
        return value


def compute_group_quantile(samples: Tensor, valid: Tensor, quantile: float) -> Tensor:
    """Computes the linear-interpolation quantile of the valid samples of each group, at each step.

    Unlike `torch.quantile` it has no limit on the number of elements.

    Args:
        samples: [B, G, H], finite.
        valid: [B, G].
        quantile: Level in [0, 1].

    Returns:
        [B, H]; 0 where a group holds no valid sample.
    """
    infinity = torch.full_like(samples, torch.inf)
    ranked = torch.where(valid[..., None], samples, infinity).sort(dim=1).values  # [B, G, H], invalid ones last
    count = valid.sum(1)[:, None, None].expand(-1, 1, samples.shape[2])  # [B, 1, H]
    position = (count - 1).clamp(min=0).to(samples.dtype) * quantile
    low = ranked.gather(1, position.floor().long())
    high = ranked.gather(1, position.ceil().long())
    value = low + (high - low) * (position - position.floor())
    return torch.where(count > 0, value, torch.zeros_like(value))[:, 0]  # [B, H]
