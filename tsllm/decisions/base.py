"""What every decision problem is: actions, their cost on a path, and the best that hindsight could have done."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

FEASIBLE = 1e-6  # relative slack of limits: what a solver leaves, far below what would pay


class DecisionProblem(ABC):
    """A decision on the steps ahead whose cost depends on the path that comes true.

    A problem of one's own implements `horizon_action`, `is_feasible`, `_cost` and `hindsight`, and `idle` where doing
    nothing is more than a row of zeros. Everything is batched over leading dimensions, which broadcast.

    Attributes:
        name: As in `PROBLEMS`.
        unit: Unit of a cost.
        differentiable: Whether the cost of `hindsight(path)[0]` has a useful gradient in the path.
        bounds_regret: Whether `spo_plus` is there.
    """

    name: ClassVar[str] = ""
    unit: str = "cost"
    differentiable: ClassVar[bool] = False
    bounds_regret: ClassVar[bool] = False

    def horizon_action(self, horizon: int) -> int:
        """Returns the length A of an action over `horizon` steps; here one entry a step."""
        return horizon

    @abstractmethod
    def is_feasible(self, action: Tensor) -> Tensor:
        """Tells which actions keep all limits, [..., A] -> bool [...]."""

    @abstractmethod
    def _cost(self, action: Tensor, path: Tensor) -> Tensor:
        """Computes the cost of feasible actions, [..., A] and [..., H] -> [...]."""

    @abstractmethod
    def hindsight(self, path: Tensor) -> tuple[Tensor, Tensor]:
        """Computes the cheapest action for a known path, exactly.

        Args:
            path: [..., H].

        Returns:
            Action [..., A] and its cost [...].
        """

    def discretise(self, path: Tensor) -> Tensor:
        """Returns the path that the problem settles, [..., H]: in whole units where it counts units; here as it is."""
        return path

    def plan(self, path: Tensor) -> Tensor:
        """Returns the action for a forecast taken as certain, [..., H] -> [..., A]; here that of `hindsight`."""
        return self.hindsight(path)[0]

    def idle(self, horizon: int) -> Tensor:
        """Returns the action of doing nothing, [A]."""
        return torch.zeros(self.horizon_action(horizon), dtype=torch.float64)

    def cost(self, action: Tensor, path: Tensor) -> Tensor:
        """Computes the cost of actions on paths; an action beyond the limits, or with NaN, costs infinity.

        Args:
            action: [..., A].
            path: [..., H], finite; leading dimensions broadcast against those of `action`.

        Returns:
            Cost [...], in `unit`; lower is better.

        Raises:
            ValueError: If the sizes do not fit or the path is not finite.
        """
        self._check_path(path)
        expected = self.horizon_action(path.shape[-1])
        if action.shape[-1] != expected:
            raise ValueError(
                f"{self.name}: an action over {path.shape[-1]} steps has {expected} entries, found "
                f"{action.shape[-1]}; actions are [..., {expected}]"
            )
        allowed = self.is_feasible(action)
        safe = torch.where(allowed[..., None], action, self.idle(path.shape[-1]).to(action))
        value = self._cost(safe, path)
        shape = torch.broadcast_shapes(allowed.shape, path.shape[:-1])
        if value.shape != shape or bool(value.isnan().any()):
            found = list(value.shape) if value.shape != shape else "NaN"
            raise ValueError(
                f"{self.name or type(self).__name__}: _cost must return a number for each action and path, "
                f"{list(shape)}; found {found}"
            )
        return torch.where(allowed, value, torch.full_like(value, torch.inf))

    def regret(self, action: Tensor, path: Tensor) -> Tensor:
        """Computes what an action costs more than the best in hindsight, [...]; 0 is perfect, in `unit`."""
        return self.cost(action, path) - self.hindsight(path)[1]

    def reward(self, action: Tensor, path: Tensor) -> Tensor:
        """Returns minus the regret, [...]: at most 0, which only a best action earns."""
        return -self.regret(action, path)

    def spo_plus(self, forecast: Tensor, path: Tensor) -> Tensor:
        """Computes the SPO+ loss (Elmachtoub & Grigas 2022, eq. 10), with a gradient in the forecast.

        `max_w [cost(w, path) - 2 cost(w, forecast)] + 2 cost(w*(path), forecast) - cost(w*(path), path)`, over all
        feasible actions w. It bounds the regret of `plan(forecast)` from above and is 0 for the truth. The paper has
        costs that are linear in what is forecast; the bound itself holds for any cost.

        Args:
            forecast: [..., H].
            path: [..., H]; broadcasts against it.

        Returns:
            Loss [...], in `unit`.

        Raises:
            NotImplementedError: If the problem does not offer it (`bounds_regret`).
        """
        raise NotImplementedError(f"{self.name or type(self).__name__} has no SPO+ loss; implement spo_plus")

    def solve(self, paths: Tensor, weights: Tensor | None = None) -> Tensor:
        """Finds the action that is cheapest on average over paths (sample average approximation).

        Here it is the best among the paths' own best actions, that of their mean, and doing nothing: feasible for
        every problem, but not exact. Problems that can do better override it.

        Args:
            paths: Equally likely paths [S, H].
            weights: Their probabilities [S], if they are not.

        Returns:
            Action [A].
        """
        chances = normalise_weights(paths, weights)
        mean = (chances[:, None] * paths).sum(0, keepdim=True)
        candidates = torch.cat([self.plan(torch.cat([paths, mean])), self.idle(paths.shape[-1])[None]])
        expected = torch.stack([(chances * self.cost(action, paths)).sum() for action in candidates])
        return candidates[expected.argmin()]

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in sorted(vars(self).items()))
        return f"{type(self).__name__}({options})"

    def _check_path(self, path: Tensor) -> None:
        if path.shape[-1] == 0 or not torch.isfinite(path).all():
            name = self.name or type(self).__name__
            raise ValueError(f"{name}: a path needs at least one step and finite values; leave out gaps first")


def normalise_weights(paths: Tensor, weights: Tensor | None) -> Tensor:
    """Returns probabilities of paths [S, H] that sum to 1, [S].

    Raises:
        ValueError: If there is no path, one is not finite, or weights are negative, of another number or all 0.
    """
    if paths.ndim != 2 or not paths.numel():
        raise ValueError(f"expected paths [S, H] with S > 0 and H > 0, found {list(paths.shape)}")
    broken = int((~torch.isfinite(paths)).any(1).sum())
    if broken:
        raise ValueError(f"{broken} of {len(paths)} paths have values that are not finite; leave them out first")
    if weights is None:
        return torch.full((len(paths),), 1 / len(paths), dtype=paths.dtype)
    if weights.shape != paths.shape[:1] or not (weights >= 0).all() or not weights.sum() > 0:
        raise ValueError(f"weights must be {len(paths)} numbers of at least 0 that are not all 0")
    return weights / weights.sum()


def check_amounts(problem: str, **amounts: float) -> None:
    """Refuses settings that are not positive and finite.

    Raises:
        ValueError: Naming the setting.
    """
    for name, value in amounts.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
            raise ValueError(f"{problem}: {name} is {value!r}; it must be a number above 0")
