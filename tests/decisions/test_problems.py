"""Every problem: hindsight is never beaten, units scale, batch mates do not meet, solvers match enumeration."""

import itertools

import pytest
import torch

from tsllm.decisions import PROBLEMS, AnyHourAlarm, Commitment, Inventory, PeakShaving, build_problem
from tsllm.decisions.base import DecisionProblem
from tsllm.decisions.inventory import Stock, base_stock, fit_base_stock, replan
from tsllm.registry import UnknownNameError


def make_problem(name: str, unit: float = 1.0) -> DecisionProblem:
    """One problem of each kind; `unit` rescales everything that is measured in the series' unit."""
    return {
        "peak_shaving": lambda: PeakShaving(energy=6.0 * unit, power=2.0 * unit, step_hours=0.5),
        "inventory": lambda: Inventory(lead_time=1, order_cost=3.0, unit_cost=0.5, capacity=20, start=4),
        "any_hour_alarm": lambda: AnyHourAlarm(threshold=6.0 * unit, act_cost=1.0, miss_cost=4.0),
        "commitment": lambda: Commitment(3, 3.0 * unit, 2.0, 1.0, 1.5 / unit),
    }[name]()


def draw_paths(count: int, horizon: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 9, (count, horizon), generator=generator).double()


def draw_actions(problem: DecisionProblem, path: torch.Tensor, count: int) -> torch.Tensor:
    """Attacks: plans for other paths (extreme, reversed, permuted, shifted, scaled) and random feasible actions."""
    generator = torch.Generator().manual_seed(1)
    horizon = path.shape[-1]
    others = [path.flip(-1), path.roll(1, -1), 2 * path, 0 * path, path * 1e3, path.mean(-1, keepdim=True) + 0 * path]
    others += [path[..., torch.randperm(horizon, generator=generator)] for _ in range(3)]
    plans = [problem.plan(other) for other in others] + [problem.idle(horizon).expand(*path.shape[:-1], -1)]
    noise = draw_paths(count * len(path), horizon, 7).reshape(count, *path.shape)
    return torch.stack([*plans, *problem.plan(noise)])


@pytest.mark.parametrize("name", PROBLEMS.names())
def test_no_attack_beats_hindsight_and_hindsight_costs_what_it_says(name):
    problem, paths = make_problem(name), draw_paths(40, 7)
    action, best = problem.hindsight(paths)
    torch.testing.assert_close(problem.cost(action, paths), best, rtol=0, atol=1e-9)
    attacks = draw_actions(problem, paths, 50)
    assert (problem.cost(attacks, paths) >= best - 1e-9).all()
    assert (problem.regret(attacks, paths) >= -1e-9).all()
    torch.testing.assert_close(problem.reward(attacks, paths), best - problem.cost(attacks, paths))


@pytest.mark.parametrize("name", PROBLEMS.names())
def test_an_action_beyond_the_limits_or_with_nan_costs_infinity(name):
    problem, path = make_problem(name), draw_paths(1, 5)[0]
    size = problem.horizon_action(5)
    for value in (-1.0, 1e6, float("nan"), float("inf")):
        assert problem.cost(torch.full((size,), value).double(), path) == torch.inf


@pytest.mark.parametrize("name", PROBLEMS.names())
def test_batch_mates_are_independent_and_leading_dimensions_broadcast(name):
    problem, paths = make_problem(name), draw_paths(6, 5)
    actions, best = problem.hindsight(paths)
    for i, path in enumerate(paths):
        alone, cost = problem.hindsight(path)
        torch.testing.assert_close(alone, actions[i], rtol=0, atol=0)
        torch.testing.assert_close(cost, best[i], rtol=0, atol=0)
    table = problem.cost(actions[:, None], paths[None])  # [action, path]
    assert table.shape == (6, 6)
    for i, j in itertools.product(range(6), range(6)):
        assert table[i, j] == problem.cost(actions[i], paths[j])
    assert (table.diagonal() <= table.amin(0) + 1e-9).all()


@pytest.mark.parametrize(
    ("name", "cost_scale"), [("peak_shaving", 1000.0), ("any_hour_alarm", 1.0), ("commitment", 1.0)]
)
def test_units_of_the_series_scale_the_cost_and_nothing_else(name, cost_scale):
    paths = draw_paths(20, 6)
    small, large = make_problem(name), make_problem(name, 1000.0)
    torch.testing.assert_close(large.hindsight(1000 * paths)[1], cost_scale * small.hindsight(paths)[1])


@pytest.mark.parametrize("name", PROBLEMS.names())
def test_a_wrong_size_and_a_path_with_gaps_are_refused(name):
    problem = make_problem(name)
    with pytest.raises(ValueError, match=r"has .* entries, found 9"):
        problem.cost(torch.zeros(9).double(), draw_paths(1, 5)[0])
    with pytest.raises(ValueError, match="finite"):
        problem.hindsight(torch.tensor([1.0, torch.nan]))


def test_peak_shaving_sample_average_is_the_linear_programmes_optimum():
    problem, paths = PeakShaving(energy=4.0, power=2.0), draw_paths(15, 4, 3)
    action = problem.solve(paths)
    grid = torch.cartesian_prod(*[torch.linspace(0, 2, 9).double()] * 4)
    grid = grid[grid.sum(-1) <= 4.0]
    best = problem.cost(grid[:, None], paths).mean(1).min()
    assert problem.cost(action, paths).mean() <= best + 1e-9
    assert problem.is_feasible(action)


def test_peak_shaving_weights_count_as_copies():
    problem, paths = PeakShaving(energy=4.0, power=2.0), draw_paths(4, 6, 3)
    copies = paths.repeat_interleave(torch.tensor([3, 1, 2, 2]), 0)
    weighted = problem.solve(paths, torch.tensor([3.0, 1.0, 2.0, 2.0]).double())
    expected = problem.cost(problem.solve(copies), copies).mean()
    torch.testing.assert_close(problem.cost(weighted, copies).mean(), expected, rtol=1e-7, atol=1e-7)


def test_peak_shaving_hindsight_carries_the_gradient_of_the_level():
    path = torch.tensor([2.0, 6.0, 5.0, 1.0], dtype=torch.float64, requires_grad=True)
    PeakShaving(energy=3.0, power=5.0).hindsight(path)[1].backward()
    assert path.grad.tolist() == [0.0, 0.5, 0.5, 0.0]  # c = (6 + 5 - 3) / 2


def test_commitment_hindsight_and_sample_average_match_enumeration():
    problem, paths = make_problem("commitment"), draw_paths(12, 4, 5)
    every = torch.cartesian_prod(*[torch.arange(4).double()] * 4)
    table = problem.cost(every[:, None], paths)  # [actions, paths]
    torch.testing.assert_close(problem.hindsight(paths)[1], table.amin(0))
    torch.testing.assert_close(problem.cost(problem.solve(paths), paths).mean(), table.mean(1).min())


@pytest.mark.parametrize("lead_time", [0, 1, 2, 5])
def test_inventory_hindsight_matches_enumeration(lead_time):
    problem = Inventory(lead_time, holding=1.0, shortage=3.0, order_cost=2.5, unit_cost=0.5, capacity=4, start=1)
    paths = draw_paths(12, 4, 2).clamp(max=4)
    every = torch.cartesian_prod(*[torch.arange(5).double()] * 4)
    torch.testing.assert_close(problem.hindsight(paths)[1], problem.cost(every[:, None], paths).amin(0))


def test_inventory_sample_average_is_within_a_percent_of_enumeration():
    problem = Inventory(1, holding=1.0, shortage=4.0, order_cost=2.0, capacity=6, start=2)
    every = torch.cartesian_prod(*[torch.arange(7).double()] * 4)
    for seed in range(5):
        paths = draw_paths(20, 4, seed).clamp(max=6)
        best = problem.cost(every[:, None], paths).mean(1).min()
        assert problem.cost(problem.solve(paths), paths).mean() <= 1.01 * best


def test_inventory_policies_see_only_what_has_come_true():
    problem = Inventory(lead_time=2, capacity=20, start=5)
    seen: list[Stock] = []

    def decide(stock: Stock) -> torch.Tensor:
        seen.append(stock)
        return torch.full_like(stock.on_hand, 3.0)

    demand = torch.tensor([[2.0, 4.0, 1.0, 9.0]], dtype=torch.float64)
    orders = problem.run(decide, demand)
    assert orders.tolist() == [[3.0] * 4]
    assert [s.on_hand.item() for s in seen] == [5.0, 3.0, 3.0, 5.0]  # the first order arrives in stage 2
    assert [s.pipeline.tolist() for s in seen] == [[[0.0]], [[3.0]], [[3.0]], [[3.0]]]
    assert [s.seen.tolist() for s in seen] == [[[]], [[2.0]], [[2.0, 4.0]], [[2.0, 4.0, 1.0]]]
    costs = problem.stage_costs(orders, demand)
    assert costs.tolist() == [[3.0, 9.0, 2.0, 36.0]]
    torch.testing.assert_close(costs.sum(-1), problem.cost(orders, demand))


def test_base_stock_pairs_are_all_tried():
    problem = Inventory(lead_time=1, shortage=6.0, order_cost=2.0, capacity=6, start=3)
    paths = draw_paths(30, 6, 4).clamp(max=4)
    costs = {
        (s, top): problem.cost(problem.run(base_stock(s, top), paths), paths).mean().item()
        for top in range(7)
        for s in range(top)
    }
    assert fit_base_stock(problem, paths) == min(costs, key=costs.__getitem__)


def test_alarm_probability_of_joint_paths_differs_from_that_of_independent_steps():
    problem = AnyHourAlarm(threshold=1.0, act_cost=1.0, miss_cost=4.0)
    together = torch.tensor([[2.0, 2.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    assert problem.probability(together) == 0.25
    assert problem.independent_probability(together) == 1 - 0.75**2
    assert problem.solve(together).tolist() == [0.0]  # 1/4 is not above 1/4


def test_the_default_sample_average_picks_the_best_candidate():
    class Toy(AnyHourAlarm):
        solve = DecisionProblem.solve

    problem, paths = Toy(threshold=5.0, act_cost=1.0, miss_cost=3.0), draw_paths(20, 3)
    assert problem.solve(paths).tolist() == AnyHourAlarm.solve(problem, paths).tolist()


def test_problems_are_built_by_name_or_dotted_path_and_wrong_ones_are_refused():
    assert build_problem("peak_shaving", {"energy": 2.0, "power": 1.0}).energy == 2.0
    built = build_problem("tsllm.decisions.alarm.AnyHourAlarm", {"threshold": 3.0})
    assert isinstance(built, AnyHourAlarm)
    with pytest.raises(UnknownNameError, match="peak_shaving"):
        build_problem("peak_shave")
    with pytest.raises(ValueError, match="no subclass"):
        build_problem("tsllm.registry.Registry")
    with pytest.raises(ValueError, match="options of peak_shaving do not fit"):
        build_problem("peak_shaving", {"enrgy": 2.0})
    for wrong in (0, -1.0, float("inf"), True):
        with pytest.raises(ValueError, match="energy"):
            PeakShaving(energy=wrong, power=1.0)


def test_planning_anew_reads_no_demand_to_come_and_gains_where_the_start_tells_the_rest():
    problem = Inventory(lead_time=1, holding=1.0, shortage=9.0, order_cost=1.0, capacity=12, start=6)
    generator = torch.Generator().manual_seed(0)
    level = torch.where(torch.rand(120, 1, generator=generator) < 0.5, 2.0, 7.0).double()  # a quiet or a busy season
    paths = level + torch.randint(0, 2, (120, 5), generator=generator)
    told, once = [], problem.solve(paths[:60])
    for path in paths[60:80]:
        orders = replan(problem, paths[:60], path)
        told.append(problem.cost(orders, path))
        changed = path.clone()
        changed[3:] = 0.0
        assert replan(problem, paths[:60], changed)[:4].tolist() == orders[:4].tolist()
    assert torch.stack(told).mean() < 0.9 * problem.cost(once, paths[60:80]).mean()


def test_improving_leaves_what_has_been_placed():
    problem = Inventory(lead_time=0, holding=1.0, shortage=5.0, capacity=8, start=0)
    paths = torch.tensor([[3.0, 4.0, 2.0]]).double()
    assert problem.improve(torch.zeros(3).double(), paths).tolist() == [3.0, 4.0, 2.0]
    assert problem.improve(torch.zeros(3).double(), paths, first=1).tolist() == [0.0, 4.0, 2.0]
    weighted = problem.improve(
        torch.zeros(1).double(), torch.tensor([[2.0], [6.0]]).double(), torch.tensor([9.0, 1.0])
    )
    assert weighted.tolist() == [2.0]  # 1 of 10 is below 1 / 6, what a unit left over costs against one that is lost


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    "problem", [PeakShaving(3.0, 2.0), AnyHourAlarm(5.0), Commitment(2, 3.0, 1.0, 1.0, 2.0), Inventory()]
)
def test_no_problem_plans_on_paths_that_are_not_finite(problem, bad):
    paths = torch.tensor([[2.0, bad], [2.0, 6.0]]).double()
    with pytest.raises(ValueError, match="1 of 2 paths have values that are not finite"):
        problem.solve(paths)


@pytest.mark.parametrize("threshold", [float("nan"), "6000", None, True])
def test_a_threshold_is_a_number(threshold):
    with pytest.raises(ValueError, match=r"threshold is .*; it must be a number"):
        AnyHourAlarm(threshold)


class _Own(DecisionProblem):
    """Gives what `wrong` makes of a right cost."""

    def __init__(self, wrong):
        self.wrong = wrong

    def is_feasible(self, action):
        return (action >= 0).all(-1)

    def _cost(self, action, path):
        return self.wrong((path - action).abs())

    def hindsight(self, path):
        return path, path.sum(-1) * 0


@pytest.mark.parametrize(
    ("wrong", "found"), [(lambda gap: gap, r"\[5, 4\]"), (lambda gap: gap.sum(-1) * float("nan"), "NaN")]
)
def test_a_cost_of_ones_own_is_a_number_for_each_action_and_path(wrong, found):
    with pytest.raises(ValueError, match=rf"_Own: _cost must return .*, \[5\]; found {found}"):
        _Own(wrong).cost(torch.zeros(4).double(), torch.ones(5, 4).double())
    assert _Own(lambda gap: gap.sum(-1)).cost(torch.zeros(4).double(), torch.ones(5, 4).double()).tolist() == [4.0] * 5
