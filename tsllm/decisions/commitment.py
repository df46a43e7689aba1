"""Unit or crew commitment: how many units run at each step, with a cost to start one."""

import torch
from torch import Tensor

from tsllm.decisions.base import DecisionProblem, check_amounts, normalise_weights


class Commitment(DecisionProblem):
    """Choose how many of `units` equal units (generators, crews) are on at each step, before the day.

    Cost: `start_cost` for each unit that is switched on, `run_cost` a step for each unit on, `shortage_cost` for each
    unit of load above what is on. All are off before the first step. Exact by dynamic programming over the number of
    units, for a known path as for an average over paths. The plan's expected cost is a sum of functions of single
    steps, so right marginals suffice here; the start-up cost couples the actions, which no quantile of each step sees.

    >>> import torch
    >>> problem = Commitment(units=2, capacity=10.0, start_cost=5.0, run_cost=1.0, shortage_cost=1.0)
    >>> load = torch.tensor([8.0, 0.0, 9.0], dtype=torch.float64)
    >>> action, cost = problem.hindsight(load)  # one start and three steps; off in between would cost 5 more for 1
    >>> action.tolist(), cost.item()
    ([1.0, 1.0, 1.0], 8.0)
    >>> problem.cost(torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64), load).item()
    12.0

    Args:
        units: How many there are.
        capacity: What one of them serves at a step, in the load's unit.
        start_cost: Of a start.
        run_cost: Of a unit for a step.
        shortage_cost: Of a unit of load that is not served.
        unit: Unit of the costs.
    """

    name = "commitment"
    bounds_regret = True

    def __init__(
        self,
        units: int,
        capacity: float,
        start_cost: float,
        run_cost: float,
        shortage_cost: float,
        unit: str = "cost",
    ) -> None:
        check_amounts(
            self.name,
            units=units,
            capacity=capacity,
            start_cost=start_cost,
            run_cost=run_cost,
            shortage_cost=shortage_cost,
        )
        if not isinstance(units, int):
            raise ValueError(f"commitment: units is {units!r}; it must be a whole number")
        self.units, self.capacity, self.unit = units, capacity, unit
        self.start_cost, self.run_cost, self.shortage_cost = start_cost, run_cost, shortage_cost

    def is_feasible(self, action: Tensor) -> Tensor:
        """Tells which schedules [..., H] are whole numbers from 0 to `units`."""
        return ((action >= 0) & (action <= self.units) & (action == action.round())).all(-1)

    def _cost(self, action: Tensor, path: Tensor) -> Tensor:
        before = torch.cat([torch.zeros_like(action[..., :1]), action[..., :-1]], -1)
        started = (action - before).clamp(min=0)
        short = (path - self.capacity * action).clamp(min=0)
        own = (self.start_cost * started + self.run_cost * action).sum(-1)
        return own + self.shortage_cost * short.sum(-1)

    def hindsight(self, path: Tensor) -> tuple[Tensor, Tensor]:
        """Solves the dynamic programme for each known path."""
        self._check_path(path)
        return self._schedule(self._shortage(path))

    def spo_plus(self, forecast: Tensor, path: Tensor) -> Tensor:
        """Computes the SPO+ loss; as in the paper, the cost is linear in what is not known, the shortages.

        The maximum over schedules is the dynamic programme for `2 shortage(forecast) - shortage(path)`.

        >>> problem = Commitment(units=1, capacity=10.0, start_cost=5.0, run_cost=1.0, shortage_cost=1.0)
        >>> forecast, truth = torch.tensor([[4.0], [8.0]], dtype=torch.float64)  # off: 4 against 6; on: 6 against 8
        >>> problem.spo_plus(forecast, truth).item()  # off: 8 - 2 * 4 = 0, on: 6 - 2 * 6; 0 + 2 * 6 - 6
        6.0
        """
        lowest = self._schedule(2 * self._shortage(forecast) - self._shortage(path))[1]
        best, cost = self.hindsight(path)
        return 2 * self._cost(best, forecast) - cost - lowest

    def _shortage(self, path: Tensor) -> Tensor:
        """Returns what too few units cost, for each number of them: [..., H] -> [..., H, U + 1]."""
        count = torch.arange(self.units + 1, dtype=path.dtype, device=path.device)
        return self.shortage_cost * (path[..., None] - self.capacity * count).clamp(min=0)

    def solve(self, paths: Tensor, weights: Tensor | None = None) -> Tensor:
        """Solves the dynamic programme for the average shortage over paths; exact."""
        chances = normalise_weights(paths, weights)
        return self._schedule((chances[:, None, None] * self._shortage(paths)).sum(0))[0]  # of [S, H, U + 1]

    def _schedule(self, short: Tensor) -> tuple[Tensor, Tensor]:
        """Finds the cheapest schedule for shortage costs [..., H, U + 1]; ties keep fewer units on."""
        count = torch.arange(self.units + 1, dtype=short.dtype, device=short.device)
        start = self.start_cost * (count[None] - count[:, None]).clamp(min=0)  # [U + 1 before, U + 1 now]
        value = torch.zeros_like(short[..., 0, :])  # [..., U + 1], of what comes after
        choices = []
        for step in reversed(range(short.shape[-2])):
            now = value + short[..., step, :] + self.run_cost * count
            value, choice = (now[..., None, :] + start).min(-1)  # [..., U + 1 before]
            choices.append(choice)
        on = torch.zeros_like(choices[0][..., :1])
        schedule = []
        for choice in reversed(choices):
            on = choice.gather(-1, on)
            schedule.append(on)
        return torch.cat(schedule, -1).to(short.dtype), value[..., 0]
