"""Peak shaving: a battery lowers the highest load of a day."""

import numpy as np
import torch
from scipy.optimize import linprog
from scipy.sparse import coo_array
from torch import Tensor

from tsllm.decisions.base import FEASIBLE, DecisionProblem, check_amounts, normalise_weights


class PeakShaving(DecisionProblem):
    """Discharge `b_t` so that the peak `max_t (L_t - b_t)` is low: a demand charge.

    `0 <= b_t <= power` and `step_hours * sum b_t <= energy`; the plan is made before the day and kept. The best
    action in expectation depends on the joint distribution: the maximum of a path is not the maximum of quantiles.

    In hindsight the load is cut at the level `c = max(max L - power, max_k (S_k - energy / step_hours) / k)` with
    `S_k` the sum of the k highest loads: water-filling, exact.

    >>> import torch
    >>> day = torch.tensor([2.0, 6.0, 5.0, 1.0], dtype=torch.float64)
    >>> problem = PeakShaving(energy=3.0, power=5.0)
    >>> action, cost = problem.hindsight(day)  # 3 units flatten 6 and 5 to 4
    >>> action.tolist(), cost.item()
    ([0.0, 2.0, 1.0, 0.0], 4.0)
    >>> problem.cost(torch.tensor([0.0, 0.0, 3.0, 0.0], dtype=torch.float64), day).item()  # the wrong hour
    6.0
    >>> PeakShaving(energy=3.0, power=1.0).hindsight(day)[1].item()  # power allows 1
    5.0

    Args:
        energy: What the battery gives in all, load times hours (MWh for loads in MW).
        power: Most that it gives in a step, in the load's unit.
        step_hours: Length of a step, hours.
        unit: Unit of load and cost.
    """

    name = "peak_shaving"
    differentiable = True
    bounds_regret = True

    def __init__(self, energy: float, power: float, step_hours: float = 1.0, unit: str = "MW") -> None:
        check_amounts(self.name, energy=energy, power=power, step_hours=step_hours)
        self.energy, self.power, self.step_hours, self.unit = energy, power, step_hours, unit

    def is_feasible(self, action: Tensor) -> Tensor:
        """Tells which discharges [..., H] keep power and energy, up to a solver's slack of 1e-6 of each limit."""
        within = (action >= -FEASIBLE * self.power) & (action <= self.power * (1 + FEASIBLE))
        return within.all(-1) & (action.sum(-1) * self.step_hours <= self.energy * (1 + FEASIBLE))

    def _cost(self, action: Tensor, path: Tensor) -> Tensor:
        return (path - action).amax(-1)

    def hindsight(self, path: Tensor) -> tuple[Tensor, Tensor]:
        """Cuts each path at the lowest level that power and energy allow; with a gradient."""
        self._check_path(path)
        sums = path.sort(-1, descending=True).values.cumsum(-1)  # [..., H]
        steps = torch.arange(1, path.shape[-1] + 1, dtype=path.dtype, device=path.device)
        level = ((sums - self.energy / self.step_hours) / steps).amax(-1)  # [...]
        level = torch.maximum(level, path.amax(-1) - self.power)
        return (path - level[..., None]).clamp(min=0), level

    def spo_plus(self, forecast: Tensor, path: Tensor) -> Tensor:
        """Computes the SPO+ loss: the regret plus twice that of the truth's plan, were the forecast to come true.

        The maximum over w is at `plan(forecast)`: for each step t, `L_t - w_t - 2 max_s (forecast_s - w_s)` falls with
        the level that the forecast is cut at faster than w_t does, so that the lowest level is best for all t at once.

        >>> forecast = torch.tensor([2.0, 5.0, 6.0, 1.0], dtype=torch.float64)
        >>> truth = torch.tensor([2.0, 6.0, 5.0, 1.0], dtype=torch.float64)
        >>> problem = PeakShaving(energy=3.0, power=5.0)  # plans 0, 1, 2, 0 and leaves a peak of 5, where 4 was best
        >>> problem.spo_plus(forecast, truth).item()  # 1 + 2 * 1: the other way round 1 is lost as well
        3.0
        """
        action, level = self.hindsight(forecast)
        best, lowest = self.hindsight(path)
        return self._cost(action, path) - lowest + 2 * (self._cost(best, forecast) - level)

    def solve(self, paths: Tensor, weights: Tensor | None = None) -> Tensor:
        """Solves the sample average exactly as a linear programme (HiGHS).

        Variables are the discharge and each path's peak `m_s >= L_st - b_t`. As `m_s >= max_t L_st - power` whatever
        is done, steps below that level bind nothing and are left out.

        Raises:
            RuntimeError: If the solver fails.
        """
        chances = normalise_weights(paths, weights).numpy()
        load = paths.numpy()
        count, horizon = load.shape
        floor = load.max(1) - self.power  # [S]
        path, step = np.nonzero(load > floor[:, None])
        rows = np.arange(len(path))
        at = np.concatenate([rows, rows, np.full(horizon, len(path))])
        column = np.concatenate([step, horizon + path, np.arange(horizon)])
        entry = np.concatenate([np.full(2 * len(path), -1.0), np.full(horizon, self.step_hours)])
        matrix = coo_array((entry, (at, column)), shape=(len(path) + 1, horizon + count)).tocsr()
        limits = np.append(-load[path, step], self.energy)
        bounds = np.concatenate(
            [np.tile([0.0, self.power], (horizon, 1)), np.stack([floor, np.full(count, np.inf)], 1)]
        )
        found = linprog(np.append(np.zeros(horizon), chances), matrix, limits, bounds=bounds, method="highs-ipm")
        if found.x is None:
            raise RuntimeError(f"peak_shaving: the linear programme was not solved: {found.message}")
        return torch.as_tensor(found.x[:horizon]).clamp(0, self.power)
