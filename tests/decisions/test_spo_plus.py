"""The SPO+ loss of the problems that have one: worked by hand, against enumeration, and above every regret."""

import doctest
import importlib

import pytest
import torch

from tsllm.decisions import Commitment, PeakShaving
from tsllm.decisions.base import DecisionProblem


def draw(count: int, horizon: int, seed: int) -> torch.Tensor:
    return 8 * torch.rand(count, horizon, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_enumeration(problem: DecisionProblem, actions: torch.Tensor, forecast: torch.Tensor, path: torch.Tensor):
    """Equation 10 of the paper, written out over a table of actions [N, A]; forecast and path [H]."""
    gap = problem.cost(actions, path) - 2 * problem.cost(actions, forecast)
    best, cost = problem.hindsight(path)
    return gap.max() + 2 * problem.cost(best, forecast) - cost


def test_peak_shaving_worked_by_hand():
    problem = PeakShaving(energy=3.0, power=5.0)
    forecast, truth = torch.tensor([2.0, 5.0, 6.0, 1.0]).double(), torch.tensor([2.0, 6.0, 5.0, 1.0]).double()
    # Planned 0, 1, 2, 0 for a level of 4: leaves 5 of the truth, whose best is 4. The other way round the same.
    assert problem.regret(problem.plan(forecast), truth) == 1.0
    assert problem.spo_plus(forecast, truth) == 3.0
    # A forecast that is 1 too high everywhere decides rightly, and both regrets are 0.
    assert problem.spo_plus(truth + 1, truth) == 0.0


def test_the_gradient_worked_by_hand():
    """Forecast [2, 5, 6, 1], truth [2, 6, 5, 1]: 5 - (x_1 - V)+ ... with V = (x_1 + x_2 - 3) / 2."""
    problem = PeakShaving(energy=3.0, power=5.0)
    forecast = torch.tensor([2.0, 5.2, 6.0, 1.0], dtype=torch.float64, requires_grad=True)
    problem.spo_plus(forecast, torch.tensor([2.0, 6.0, 5.0, 1.0]).double()).backward()
    # 6 - (x_1 - V) - 2 V + 2 (x_2 - 1) = 6 - x_1 - (x_1 + x_2 - 3) / 2 + 2 x_2 - 2: slopes -3/2 and 3/2.
    assert forecast.grad.tolist() == pytest.approx([0.0, -1.5, 1.5, 0.0])


def test_commitment_is_equation_10_over_all_schedules():
    problem = Commitment(2, 3.0, 2.0, 1.0, 1.5)
    every = torch.cartesian_prod(*[torch.arange(3).double()] * 4)
    for forecast, path in zip(draw(20, 4, 0), draw(20, 4, 1), strict=True):
        expected = by_enumeration(problem, every, forecast, path)
        torch.testing.assert_close(problem.spo_plus(forecast, path), expected)


def test_peak_shaving_is_equation_10_over_a_grid_that_holds_its_best_action():
    problem = PeakShaving(energy=4.0, power=3.0)
    grid = torch.cartesian_prod(*[torch.linspace(0, 3, 16).double()] * 3)
    for forecast, path in zip(draw(20, 3, 2), draw(20, 3, 3), strict=True):
        actions = torch.cat([grid[grid.sum(-1) <= 4.0], problem.plan(forecast)[None]])
        torch.testing.assert_close(problem.spo_plus(forecast, path), by_enumeration(problem, actions, forecast, path))


@pytest.mark.parametrize("problem", [PeakShaving(5.0, 2.0, step_hours=0.5), Commitment(3, 3.0, 2.0, 1.0, 1.5)])
def test_it_bounds_the_regret_and_is_zero_for_the_truth(problem):
    forecast, path = draw(200, 7, 4), draw(200, 7, 5)
    loss, regret = problem.spo_plus(forecast, path), problem.regret(problem.plan(forecast), path)
    assert (loss >= regret - 1e-9).all()
    assert (loss > regret + 1e-3).any()
    torch.testing.assert_close(problem.spo_plus(path, path), torch.zeros(200).double(), rtol=0, atol=1e-9)
    one = problem.spo_plus(forecast[:5, None], path[None, :5])  # [5, 5]
    torch.testing.assert_close(one[3, 1], problem.spo_plus(forecast[3], path[1]))


def test_commitment_is_convex_in_the_shortages():
    """Where forecasts never lie below what can be on, shortages are linear in the load, and so the loss is convex."""
    problem = Commitment(2, 1.0, 2.0, 1.0, 1.5)
    left, right, path = draw(50, 5, 6) + 2, draw(50, 5, 7) + 2, draw(50, 5, 8)
    between = problem.spo_plus((left + right) / 2, path)
    assert (between <= (problem.spo_plus(left, path) + problem.spo_plus(right, path)) / 2 + 1e-9).all()


@pytest.mark.parametrize("name", ["alarm", "commitment", "inventory", "peak"])
def test_docstring_examples_hold(name):
    result = doctest.testmod(importlib.import_module(f"tsllm.decisions.{name}"))
    assert result.attempted > 0
    assert result.failed == 0
