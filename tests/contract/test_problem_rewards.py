"""What holds for every decision problem as a reward: no attack beats the truth, and it is minus the regret."""

import re
import sys
import types

import pytest
import torch

from tsllm.decisions import PROBLEMS, PeakShaving, build_problem
from tsllm.decisions.check import find_hindsight_faults
from tsllm.rl.audit import audit_reward, make_series
from tsllm.rl.rewards import build_reward

OPTIONS = {
    "peak_shaving": {"energy": 60.0, "power": 20.0, "step_hours": 0.5, "bound": 1e4},
    "inventory": {"lead_time": 2, "order_cost": 5.0, "capacity": 60, "start": 10, "bound": 1e5},
    "any_hour_alarm": {"threshold": 30.0, "act_cost": 1.0, "miss_cost": 5.0, "bound": 5.0},
    "commitment": {
        "units": 4, "capacity": 10.0, "start_cost": 5.0, "run_cost": 1.0, "shortage_cost": 1.5, "bound": 1e4,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", PROBLEMS.names())
@pytest.mark.parametrize(("horizon", "season"), [(24, 24), (7, 1)])
def test_no_attack_beats_the_truth(name, horizon, season):
    audit = audit_reward(build_reward({"name": name, **OPTIONS[name]}), horizon=horizon, season=season, cases=6)
    assert audit.problems == []
    assert len(audit.results) >= 20


@pytest.mark.parametrize("name", PROBLEMS.names())
def test_the_reward_is_minus_the_regret_of_the_plan_row_by_row(name):
    options = dict(OPTIONS[name])
    bound = options.pop("bound")
    problem, reward = build_problem(name, options), build_reward({"name": name, **OPTIONS[name]})
    history, target = make_series(4, 48, 12, 12, torch.Generator().manual_seed(3))
    samples = target[:, None] + 5 * torch.randn(4, 6, 12, generator=torch.Generator().manual_seed(4))
    value = reward(samples, target, history, 12)
    assert (value.std(1) > 0).any()
    for row in range(4):
        truth = target[row].double()
        if name == "inventory":
            truth = truth.round().clamp(min=0)
        best = problem.hindsight(truth)[1]
        for column in range(6):
            cost = problem.cost(problem.plan(samples[row, column].double()), truth)
            assert float(value[row, column]) == pytest.approx(-min(float(cost - best), bound), abs=1e-4)


@pytest.mark.parametrize("name", PROBLEMS.names())
def test_a_window_with_a_gap_judges_nothing_and_a_forecast_that_is_not_finite_loses_most(name):
    reward = build_reward({"name": name, **OPTIONS[name]})
    history, target = make_series(3, 48, 12, 12, torch.Generator().manual_seed(3))
    samples = target[:, None] + 5 * torch.randn(3, 6, 12, generator=torch.Generator().manual_seed(4))
    whole = reward(samples, target, history, 12)
    gap, broken = target.clone(), samples.clone()
    gap[1, 4] = torch.nan
    broken[2, 0, 3] = torch.inf
    value = reward(broken, gap, history, 12)
    assert value[1].tolist() == [0.0] * 6
    assert value[2, 0] == reward.low
    torch.testing.assert_close(value[0], whole[0], rtol=0, atol=0)
    torch.testing.assert_close(value[2, 1:], whole[2, 1:], rtol=0, atol=0)


def test_a_problem_with_a_gradient_pushes_forecasts_towards_a_better_decision():
    reward = build_reward({"name": "peak_shaving", **OPTIONS["peak_shaving"]})
    history, target = make_series(4, 48, 12, 12, torch.Generator().manual_seed(3))
    samples = target[:, None] + torch.randn(4, 5, 12, generator=torch.Generator().manual_seed(4))
    samples.requires_grad_()
    reward.utility(samples, target, history, 12).sum().backward()
    moved = samples.detach() + 1e-2 * samples.grad / samples.grad.norm()
    before = reward.utility(samples.detach(), target, history, 12).sum()
    assert reward.differentiable
    assert reward.utility(moved, target, history, 12).sum() > before


def test_a_problem_of_ones_own_is_a_reward_by_its_dotted_path(monkeypatch):
    module = types.ModuleType("plant")

    class Half(PeakShaving):
        def _cost(self, action, path):
            return super()._cost(action, path) / 2

        def hindsight(self, path):
            action, cost = super().hindsight(path)
            return action, cost / 2

    module.Half = Half
    monkeypatch.setitem(sys.modules, "plant", module)
    history, target = make_series(2, 48, 12, 12, torch.Generator().manual_seed(3))
    samples = target[:, None] + 5 * torch.randn(2, 6, 12, generator=torch.Generator().manual_seed(4))
    own = build_reward({"name": "plant.Half", "energy": 60.0, "power": 20.0, "bound": 1e4})
    full = build_reward({"name": "peak_shaving", "energy": 60.0, "power": 20.0, "bound": 1e4})
    torch.testing.assert_close(2 * own(samples, target, history), full(samples, target, history))
    assert audit_reward(own, horizon=12, cases=2).passed
    weighted = build_reward([{"name": "plant:Half", "weight": 2.0, "energy": 60.0, "power": 20.0, "bound": 1e4}])
    torch.testing.assert_close(weighted(samples, target, history), full(samples, target, history))


def test_a_problem_without_a_bound_or_with_wrong_options_is_refused_with_the_way_out():
    with pytest.raises(ValueError, match=r"'peak_shaving' needs bound, the largest regret that counts in MW"):
        build_reward({"name": "peak_shaving", "energy": 1.0, "power": 1.0})
    with pytest.raises(ValueError, match=r"peak_shaving: bound \(0\) must be a finite number above 0"):
        build_reward({"name": "peak_shaving", "energy": 1.0, "power": 1.0, "bound": 0})
    with pytest.raises(ValueError, match="options of peak_shaving do not fit"):
        build_reward({"name": "peak_shaving", "enrgy": 1.0, "power": 1.0, "bound": 1.0})


class Lying(PeakShaving):
    """Shaves a peak; its hindsight says or does what it should not."""

    lie = "none"

    def hindsight(self, path):
        action, cost = super().hindsight(path)
        if self.lie == "too dear":
            return action, cost + 1.0
        if self.lie == "too cheap":
            return action, cost - 1.0
        if self.lie == "idle":
            return 0 * action, self.cost(0 * action, path)
        if self.lie == "half":
            return action / 2, self.cost(action / 2, path)
        if self.lie == "beyond the limits":
            return action * 100, cost
        if self.lie == "nan":
            return action, cost * torch.nan
        return action, cost

    def plan(self, path):
        return PeakShaving.hindsight(self, path)[0] if self.lie == "idle" else super().plan(path)


@pytest.mark.parametrize(
    ("lie", "told"),
    [
        ("too dear", "hindsight says a cost of .*, but its own action costs .* on 4 of 4 paths"),
        ("too cheap", "but its own action costs"),
        ("idle", "hindsight is beaten on . of 4 paths, by up to .* it must return the cheapest action"),
        ("half", "hindsight is beaten on . of 4 paths"),
        ("beyond the limits", "but its own action costs inf"),
        ("nan", "hindsight says a cost of nan"),
    ],
)
@pytest.mark.parametrize("weighted", [False, True])
def test_the_audit_catches_a_hindsight_that_lies(lie, told, weighted, monkeypatch):
    monkeypatch.setattr(Lying, "lie", lie)
    spec = {"name": f"{__name__}.Lying", "energy": 60.0, "power": 20.0, "bound": 1e3}
    audit = audit_reward(build_reward([spec, "mae"] if weighted else spec), horizon=12, cases=4)
    assert not audit.passed
    assert any(re.search(told, problem) for problem in audit.problems), audit.problems


@pytest.mark.parametrize("name", PROBLEMS.names())
@pytest.mark.parametrize("horizon", [1, 5, 24])
def test_no_candidate_of_the_audit_beats_an_honest_hindsight(name, horizon):
    options = {key: value for key, value in OPTIONS[name].items() if key != "bound"}
    paths = make_series(6, 8, horizon, 6, torch.Generator().manual_seed(horizon))[1]
    assert find_hindsight_faults(build_problem(name, options), paths) == []
