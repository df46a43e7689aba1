"""Any-hour alarm: act if the path may exceed a threshold at any step."""

from math import isfinite

from torch import Tensor

from tsllm.decisions.base import DecisionProblem, check_amounts, normalise_weights


class AnyHourAlarm(DecisionProblem):
    """Act (1) or not (0) before the day; an event is `max_t y_t > threshold`.

    Acting costs `act_cost`; an event without action costs `miss_cost`. The best action is to act if
    `P(max_t y_t > threshold) > act_cost / miss_cost`, a probability of the whole path that marginals do not give.

    >>> import torch
    >>> problem = AnyHourAlarm(threshold=10.0, act_cost=1.0, miss_cost=5.0)
    >>> paths = torch.tensor([[8.0, 12.0], [9.0, 9.0], [7.0, 8.0], [6.0, 11.0]], dtype=torch.float64)
    >>> problem.hindsight(paths)[1].tolist()
    [1.0, 0.0, 0.0, 1.0]
    >>> problem.probability(paths).item(), problem.solve(paths).tolist()  # .5 > 1 / 5
    (0.5, [1.0])
    >>> problem.cost(torch.tensor([0.0]), paths).tolist()
    [5.0, 0.0, 0.0, 5.0]

    Args:
        threshold: In the unit of the series.
        act_cost: Cost of acting, below `miss_cost`.
        miss_cost: Cost of an event without action.
        unit: Unit of the costs.

    Raises:
        ValueError: If acting costs as much as a miss, so that there is nothing to decide, or the threshold is no
            number.
    """

    name = "any_hour_alarm"

    def __init__(self, threshold: float, act_cost: float = 1.0, miss_cost: float = 10.0, unit: str = "cost") -> None:
        if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not isfinite(threshold):
            raise ValueError(f"any_hour_alarm: threshold is {threshold!r}; it must be a number")
        check_amounts(self.name, act_cost=act_cost, miss_cost=miss_cost)
        if act_cost >= miss_cost:
            raise ValueError(f"any_hour_alarm: act_cost ({act_cost}) must lie below miss_cost ({miss_cost})")
        self.threshold, self.act_cost, self.miss_cost, self.unit = threshold, act_cost, miss_cost, unit

    def horizon_action(self, horizon: int) -> int:
        """Returns 1: one decision for the whole path."""
        return 1

    def is_feasible(self, action: Tensor) -> Tensor:
        """Tells which actions [..., 1] are 0 or 1."""
        return ((action == 0) | (action == 1)).all(-1)

    def event(self, path: Tensor) -> Tensor:
        """Tells which paths [..., H] exceed the threshold at any step, bool [...]."""
        return path.amax(-1) > self.threshold

    def _cost(self, action: Tensor, path: Tensor) -> Tensor:
        missed = self.event(path).to(path.dtype) * (1 - action[..., 0])
        return self.act_cost * action[..., 0] + self.miss_cost * missed

    def hindsight(self, path: Tensor) -> tuple[Tensor, Tensor]:
        """Acts where there is an event."""
        self._check_path(path)
        event = self.event(path).to(path.dtype)
        return event[..., None], self.act_cost * event

    def probability(self, paths: Tensor, weights: Tensor | None = None) -> Tensor:
        """Computes the share of paths [S, H] with an event, a scalar."""
        return (normalise_weights(paths, weights) * self.event(paths)).sum()

    def independent_probability(self, paths: Tensor) -> Tensor:
        """Computes `1 - prod_t P(y_t <= threshold)` from paths [S, H]: right marginals, steps taken as independent."""
        return 1 - (paths <= self.threshold).to(paths.dtype).mean(0).prod()

    def solve(self, paths: Tensor, weights: Tensor | None = None) -> Tensor:
        """Acts if the event's probability is above the cost ratio; exact."""
        act = self.probability(paths, weights) > self.act_cost / self.miss_cost
        return act.to(paths.dtype)[None]
