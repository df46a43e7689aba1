"""Is a hindsight what it says? Every regret is counted from it, so one that lies makes every comparison wrong."""

from collections.abc import Iterator

import torch
from torch import Tensor

from tsllm.decisions.base import DecisionProblem

SLACK = 1e-4  # relative; what a solver leaves


def find_hindsight_faults(problem: DecisionProblem, paths: Tensor) -> list[str]:
    """Checks that the hindsight's own action costs what it says on each path, and that no other action costs less.

    The others are the plans for all given paths and for changed ones (reversed, shifted, scaled, flat), doing nothing,
    and small changes of the hindsight's own action.

    Args:
        problem: The problem.
        paths: Paths [N, H], finite.

    Returns:
        What is wrong, in words; empty if nothing was found.

    Example:
        >>> from tsllm.decisions import PeakShaving
        >>> find_hindsight_faults(PeakShaving(energy=3.0, power=5.0), torch.rand(4, 6).double())
        []
    """
    paths = problem.discretise(paths.double())
    action, said = problem.hindsight(paths)
    faults = find_unreached(problem, paths, action, said)
    cheapest, best = torch.full_like(said, torch.inf), ""
    for name, candidate in _make_candidates(problem, paths, action):
        cost = problem.cost(candidate, paths)
        if bool((_lead(said, cost) > _lead(said, cheapest)).any()):
            best = name
        cheapest = torch.minimum(cheapest, cost)
    lead = _lead(said, cheapest)
    if (lead > 0).any():
        faults.append(
            f"hindsight is beaten on {int((lead > 0).sum())} of {len(paths)} paths, by up to {float(lead.max()):.4g} "
            f"(by {best}); it must return the cheapest action and its cost"
        )
    return faults


def find_unreached(problem: DecisionProblem, paths: Tensor, action: Tensor, said: Tensor) -> list[str]:
    """Tells in words on which paths a hindsight's own action does not have the cost that it says; empty if on none.

    Args:
        problem: The problem.
        paths: Paths [N, H] as the problem settles them.
        action: Actions of the hindsight [N, A].
        said: Their costs, as the hindsight says [N].
    """
    own = problem.cost(action, paths)
    near = (own - said).abs() <= SLACK * torch.maximum(own.abs(), said.abs())
    missed = ~(near & own.isfinite() & said.isfinite())
    if not missed.any():
        return []
    at = int(missed.long().argmax())
    return [
        f"hindsight says a cost of {float(said[at]):.4g}, but its own action costs {float(own[at]):.4g}, on "
        f"{int(missed.sum())} of {len(paths)} paths; it must return the cheapest action and its cost"
    ]


def _lead(said: Tensor, cost: Tensor) -> Tensor:
    """Returns by how much a cost lies below what hindsight says, beyond the slack; 0 where it does not, [N]."""
    gap = said - cost
    beyond = cost.isfinite() & ~(gap <= SLACK * torch.maximum(said.abs(), cost.abs()))
    beyond |= cost.isfinite() & said.isinf()
    return torch.where(beyond, gap, torch.zeros_like(gap))


def _make_candidates(problem: DecisionProblem, paths: Tensor, action: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yields actions [N, A] under a name; those beyond the limits cost infinity, so they need not be sorted out."""
    idle = problem.idle(paths.shape[-1]).to(action)
    yield "doing nothing", idle.expand_as(action)
    plans = problem.plan(paths)
    for k in range(len(paths)):
        yield "the plan for another path", plans.roll(k, 0)
    changed = [paths.flip(-1), paths.roll(1, -1), paths.roll(-1, -1), 2 * paths, paths / 2]
    changed.append(paths.mean(-1, keepdim=True).expand_as(paths))
    for path in changed:
        yield "the plan for a changed path", problem.plan(problem.discretise(path))
    for share in (0.5, 0.9, 0.99, 1.01, 1.1, 2.0):
        yield "a change of its own action", idle + share * (action - idle)
    for step in range(action.shape[-1]):
        for change in (-1.0, -0.1, 0.1, 1.0):
            moved = action.clone()
            moved[..., step] += change
            yield "a change of its own action", moved
        emptied = action.clone()
        emptied[..., step] = idle[step]
        yield "a change of its own action", emptied
