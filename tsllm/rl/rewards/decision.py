"""Rewards of decisions that a forecast feeds: direction, the hour of the peak, stock, a battery."""

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from tsllm.rl.rewards.base import Problem, Reward, check_positive, compute_deviation, compute_seasonal_scale


class Direction(Reward):
    """Share of steps whose change has the sign of the true change (directional accuracy, Pesaran & Timmermann 1992).

    Range [0, 1], 1 for the truth. "No change" counts as a sign of its own, so that a flat forecast earns nothing where
    the truth moves. By definition blind to the size of a change.

    >>> import torch
    >>> samples = torch.tensor([[[2.0, 0.5, 1.0]]])  # from 1: up, down, none
    >>> Direction()(samples, torch.tensor([[3.0, 4.0, 1.0]]), torch.tensor([[0.0, 1.0]]))
    tensor([[0.6667]])
    >>> Direction(reference="previous")(samples, torch.tensor([[3.0, 4.0, 1.0]]), torch.tensor([[0.0, 1.0]]))
    tensor([[0.3333]])

    Args:
        reference: "last" compares each step with the last observed value (additive); "previous" compares with the
            step before, of the forecast or the truth itself.

    Raises:
        ValueError: If the reference is unknown.
    """

    def __init__(self, reference: str = "last") -> None:
        if reference not in ("last", "previous"):
            raise ValueError(f"direction: reference ({reference!r}) must be 'last' or 'previous'")
        self.reference, self.additive = reference, reference == "last"

    def _steps(self, problem: Problem) -> Tensor:
        last = problem.last_value()
        forecast = (problem.samples - last[:, None, None]).sign()  # [B, G, H]
        return (forecast == (problem.target - last[:, None]).sign()[:, None]).to(problem.samples.dtype)

    def _paths(self, problem: Problem) -> Tensor:
        last = problem.last_value()
        before = torch.cat(
            [last[:, None, None].expand(-1, problem.samples.shape[1], 1), problem.samples[..., :-1]], -1
        )
        before_truth = torch.cat([last[:, None], problem.target[:, :-1]], -1)  # [B, H]
        first = torch.ones_like(problem.observed[:, :1])
        both = (problem.observed & torch.cat([first, problem.observed[:, :-1]], -1))[:, None]  # [B, 1, H]
        hit = (problem.samples - before).sign() == (problem.target - before_truth).sign()[:, None]  # [B, G, H]
        return (hit & both).sum(-1) / both.sum(-1).clamp(min=1).to(problem.samples.dtype)


class PeakTiming(Reward):
    """Closeness of the forecast's peak to the true peak, by season (by day for hourly data).

    `1 - |argmax x - argmax y| / (steps - 1)`, averaged over the seasons in the horizon. Where several steps of a
    forecast share the maximum, their mean counts, so that a flat forecast earns what a random guess would; where
    several steps of the truth do, the nearest counts. Range [0, 1], 1 for the truth. Blind to level and size.

    >>> import torch
    >>> target = torch.tensor([[0.0, 5.0, 1.0]])
    >>> samples = torch.tensor([[[0.0, 9.0, 0.0], [0.0, 1.0, 2.0], [1.0, 1.0, 1.0]]])
    >>> PeakTiming()(samples, target, torch.zeros(1, 2))  # exact, one of two steps late, mean of 1/2, 0, 1/2
    tensor([[1.0000, 0.5000, 0.6667]])

    Args:
        kind: "max" for the peak, "min" for the trough.

    Raises:
        ValueError: If the kind is unknown.
    """

    def __init__(self, kind: str = "max") -> None:
        if kind not in ("max", "min"):
            raise ValueError(f"peak_timing: kind ({kind!r}) must be 'max' or 'min'")
        self.kind = kind

    def _paths(self, problem: Problem) -> Tensor:
        sign = 1.0 if self.kind == "max" else -1.0
        horizon = problem.samples.shape[-1]
        period = problem.season if 1 < problem.season < horizon else horizon
        forecast, truth = sign * problem.samples, (sign * problem.target)[:, None]  # [B, G, H], [B, 1, H]
        missing = ~problem.observed[:, None]
        at_peak = _mark_peaks(forecast.masked_fill(missing, -torch.inf), period)  # [B, G, N, period]
        truth_peak = _mark_peaks(truth.masked_fill(missing, -torch.inf), period)  # [B, 1, N, period]
        step = torch.arange(period, device=forecast.device)
        distance = (step[:, None] - step).abs().to(forecast.dtype)  # [period, period]
        far = distance.masked_fill(~truth_peak[..., None, :], torch.inf).amin(-1)  # [B, 1, N, period], to the nearest
        far = torch.where(at_peak, far, torch.zeros_like(far))
        counts = truth_peak.any(-1)  # [B, 1, N], a season without any known truth judges nothing
        reward = 1 - far.sum(-1) / at_peak.sum(-1).clamp(min=1) / max(period - 1, 1)  # [B, G, N]
        return torch.where(counts, reward, torch.zeros_like(reward)).sum(-1) / counts.sum(-1)


def _mark_peaks(value: Tensor, period: int) -> Tensor:
    padded = functional.pad(value, (0, -value.shape[-1] % period), value=-torch.inf)
    seasons = padded.unflatten(-1, (-1, period))  # [B, G, N, period]
    return (seasons == seasons.amax(-1, keepdim=True)) & (seasons > -torch.inf)


class Newsvendor(Reward):
    """Minus the cost of ordering the forecast when the truth is demanded (newsvendor; Arrow, Harris & Marschak 1951).

    `-(under * (y - x)+ + over * (x - y)+) / scale`, averaged over steps, with the seasonal naive error of the history
    as scale. Range [-bound, 0], 0 for the truth. The best single order is the under / (under + over) quantile.

    >>> import torch
    >>> history = torch.tensor([[0.0, 1.0, 0.0, 1.0]])  # naive error 1
    >>> samples = torch.tensor([[[1.0], [3.0]]])  # one short, one left over
    >>> Newsvendor(under=4.0, over=1.0)(samples, torch.tensor([[2.0]]), history)
    tensor([[-4., -1.]])

    Args:
        under: Cost of a unit too few.
        over: Cost of a unit too many.
        bound: Largest scaled cost that counts.
    """

    differentiable: ClassVar[bool] = True

    def __init__(self, under: float = 4.0, over: float = 1.0, bound: float = 200.0) -> None:
        check_positive("newsvendor", under=under, over=over, bound=bound)
        self.under, self.over, self.bound = under, over, bound
        self.low, self.high, self.additive = -float(bound), 0.0, True

    def _steps(self, problem: Problem) -> Tensor:
        scale = compute_seasonal_scale(problem.history, problem.history_observed, problem.season)[:, None, None]
        short = (problem.target[:, None] - problem.samples) / scale  # [B, G, H]
        return -torch.maximum(self.under * short, -self.over * short)


class BatteryProfit(Reward):
    """Profit of a battery that is scheduled on the forecast and settled at the true prices.

    The schedule charges in the cheapest and discharges in the dearest forecast hours, found exactly by dynamic
    programming over the state of charge (the storage arbitrage problem, e.g. Sioshansi et al. 2009): the battery
    begins empty, moves at most one unit of energy a step and holds `capacity` units. Storing a unit buys
    `1 / sqrt(e)`, giving it back sells `sqrt(e)`. Hours without a known price are not traded. The profit is given in
    units of what the capacity earns on one standard deviation of the history's prices: `profit / (capacity * std)`.

    Range [-bound, bound]. The schedule made from the truth is optimal, so that no forecast earns more. Between equal
    plans the battery prefers to wait, so that a flat forecast trades nothing and earns 0. Not differentiable.

    >>> import torch
    >>> history = torch.tensor([[0.0, 20.0, 0.0, 20.0]])  # standard deviation 10
    >>> target = torch.tensor([[10.0, 30.0, 20.0]])
    >>> samples = torch.tensor([[[1.0, 9.0, 5.0], [5.0, 1.0, 9.0], [7.0, 7.0, 7.0]]])
    >>> BatteryProfit(capacity=1, efficiency=0.81)(samples, target, history)
    tensor([[ 1.5889, -1.5333,  0.0000]])

    The first buys at 10 and sells at 30, `(0.9 * 30 - 10 / 0.9) / 10`; the second buys at 30 and sells at 20.

    Args:
        capacity: Energy that the battery holds, in units of what it moves in one step.
        efficiency: Round-trip efficiency in (0, 1].
        bound: Largest scaled profit or loss that counts.

    Raises:
        ValueError: If the capacity is not a whole number of steps or the efficiency not in (0, 1].
    """

    def __init__(self, capacity: int = 4, efficiency: float = 0.85, bound: float = 50.0) -> None:
        check_positive("battery_profit", capacity=capacity, efficiency=efficiency, bound=bound)
        if not isinstance(capacity, int):
            raise ValueError(f"battery_profit: capacity ({capacity!r}) must be a whole number of steps at full power")
        if efficiency > 1:
            raise ValueError(f"battery_profit: efficiency ({efficiency}) must lie in (0, 1]")
        self.capacity, self.efficiency, self.bound = capacity, efficiency, bound
        self.low, self.high = -float(bound), float(bound)

    def _paths(self, problem: Problem) -> Tensor:
        scale = compute_deviation(problem.history, problem.history_observed)[:, None]  # [B, 1]
        tradable = problem.observed[:, None].expand_as(problem.samples)
        moves = plan_battery(problem.samples.detach(), tradable, self.capacity, self.efficiency)  # [B, G, H]
        return settle_battery(moves, problem.target[:, None], self.efficiency) / (self.capacity * scale)


def plan_battery(prices: Tensor, tradable: Tensor, capacity: int, efficiency: float) -> Tensor:
    """Plans the most profitable charging of an empty battery under given prices, exactly.

    Backward induction over `value[t, s]`, the best profit from step t on with s stored units; ties wait.

    Args:
        prices: Prices that the plan believes, [..., H].
        tradable: Whether a step may be traded, [..., H].
        capacity: Units that the battery holds.
        efficiency: Round-trip efficiency in (0, 1].

    Returns:
        Units moved into the battery at each step, -1, 0 or 1, [..., H].
    """
    root = efficiency**0.5
    # float64: the comparison of plans decides, and prices of 1e9 beside prices of 10 must not round to a tie.
    prices = prices.double()
    value = torch.zeros(*prices.shape[:-1], capacity + 1, dtype=prices.dtype, device=prices.device)
    choices = []
    for step in reversed(range(prices.shape[-1])):
        price, may = prices[..., step, None], tradable[..., step, None]
        blocked = torch.full_like(price, -torch.inf)
        charge = torch.where(may, torch.cat([value[..., 1:] - price / root, blocked], -1), -torch.inf)
        discharge = torch.where(may, torch.cat([blocked, value[..., :-1] + price * root], -1), -torch.inf)
        value, choice = torch.stack([value, charge, discharge], -1).max(-1)  # [..., capacity + 1]
        choices.append(choice)
    stored = torch.zeros_like(choices[0][..., :1])  # [..., 1]
    moves = []
    for choice in reversed(choices):
        picked = choice.gather(-1, stored)  # 0 wait, 1 charge, 2 discharge
        move = torch.where(picked == 2, -1, picked)
        stored = stored + move
        moves.append(move)
    return torch.cat(moves, -1)  # [..., H]


def settle_battery(moves: Tensor, prices: Tensor, efficiency: float) -> Tensor:
    """Computes the profit of a plan at given prices.

    Args:
        moves: Units moved into the battery, -1, 0 or 1, [..., H].
        prices: True prices [..., H].
        efficiency: Round-trip efficiency in (0, 1].

    Returns:
        Profit [...], price times units.
    """
    root = efficiency**0.5
    cash = torch.where(moves > 0, -prices / root, prices * root)
    return torch.where(moves != 0, cash, torch.zeros_like(cash)).sum(-1)
