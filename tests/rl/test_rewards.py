"""Rewards against slow loops, brute force and proper-score theory; composites; rewards of one's own."""

import itertools

import pytest
import torch

from tsllm.registry import UnknownNameError
from tsllm.rl.audit import audit_reward
from tsllm.rl.rewards import REWARDS, FunctionReward, Reward, WeightedReward, build_reward
from tsllm.rl.rewards.decision import plan_battery, settle_battery
from tsllm.rl.rewards.scores import Energy, IntervalScore
from tsllm.rl.rewards.shape import NegativeDTW


def margin(samples, target, history, season):
    del history, season
    return -(samples - target[:, None]).abs().nan_to_num().mean(-1).clamp(max=1)


def no_season(samples, target, history):
    return samples


def wrong_shape(samples, target, history, season):
    return samples.mean()


def pay_for_movement(samples, target, history, season):
    """A reward with a fault: it also pays for a spread of the forecast's own."""
    del history, season
    error = (samples - target.nan_to_num()[:, None]).abs().mean(-1)
    return samples.std(-1).clamp(max=1e3) - error.clamp(max=10)


def test_energy_equals_a_slow_loop_over_pairs():
    generator = torch.Generator().manual_seed(0)
    samples = torch.randn(2, 6, 3, generator=generator, dtype=torch.float64)
    samples[1, 2] = torch.nan
    target = torch.randn(2, 3, generator=generator, dtype=torch.float64)
    history = torch.tensor([[0.0, 1.0, 0.0], [0.0, 2.0, 0.0]], dtype=torch.float64)
    found = Energy().per_step(samples, target, history)
    for b, i, h in itertools.product(range(2), range(6), range(3)):
        others = [j for j in range(6) if j != i and (b, j) != (1, 2)]
        x, scale = samples[b, :, h], b + 1
        expected = -abs(x[i] - target[b, h]) + sum(abs(x[i] - x[j]) for j in others) / len(others)
        expected = torch.tensor(-50.0) if (b, i) == (1, 2) else expected / scale
        assert float(found[b, i, h]) == pytest.approx(float(expected), abs=1e-12)


def test_energy_utility_is_minus_the_fair_crps():
    from tsllm import metrics

    generator = torch.Generator().manual_seed(0)
    samples = torch.randn(4, 9, 5, generator=generator, dtype=torch.float64)
    target = torch.randn(4, 5, generator=generator, dtype=torch.float64)
    history = torch.tensor([[0.0, 1.0]], dtype=torch.float64).expand(4, 2)
    found = Energy().utility(samples, target, history)
    expected = [-float(metrics.crps_samples(y, x.T, fair=True)) for x, y in zip(samples, target, strict=True)]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_no_forecast_of_any_group_scores_above_the_truth_under_energy_and_interval_score():
    generator = torch.Generator().manual_seed(0)
    for reward in (Energy(bound=3.0), IntervalScore(0.8)):
        samples = 5 * torch.randn(200, 7, 4, generator=generator)
        target = torch.randn(200, 4, generator=generator)
        samples[:, 0] = target
        steps = reward.per_step(samples, target, torch.randn(200, 9, generator=generator))
        assert (steps[:, :1] >= steps - 1e-5).all()


def gaussian_credit(reward, deviation, centre, size=400_000):
    """Mean of reward times score of a Gaussian policy with truth ~ N(0, 1): gradient in centre and log deviation."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(size // 400, 400, 1, generator=generator, dtype=torch.float64)
    target = torch.randn(size // 400, 1, generator=generator, dtype=torch.float64)
    history = torch.tensor([[0.0, 1.0]], dtype=torch.float64).expand(len(target), 2)
    credit = reward(centre + deviation * noise, target, history)
    credit = credit - credit.mean(1, keepdim=True)
    by_centre = (credit * noise[..., 0] / deviation).mean(1)
    by_deviation = (credit * (noise[..., 0] ** 2 - 1)).mean(1)
    rows = torch.stack([by_centre, by_deviation], -1)
    return rows.mean(0), rows.std(0) / len(rows) ** 0.5


@pytest.mark.parametrize("reward", [Energy(), IntervalScore(0.8)])
def test_proper_rewards_have_no_gradient_at_the_true_distribution(reward):
    gradient, error = gaussian_credit(reward, deviation=1.0, centre=0.0)
    assert (gradient.abs() < 4 * error + 2e-3).all()


@pytest.mark.parametrize("reward", [Energy(), IntervalScore(0.8)])
@pytest.mark.parametrize(("deviation", "sign"), [(0.5, 1), (2.0, -1)])
def test_proper_rewards_widen_narrow_forecasts_and_narrow_wide_ones(reward, deviation, sign):
    gradient, error = gaussian_credit(reward, deviation, centre=0.0)
    assert sign * float(gradient[1]) > 10 * float(error[1])


def test_energy_credit_is_the_exact_gradient_of_the_crps():
    """For truth N(0, 1) and forecast N(m, s): E CRPS has the closed derivative 2 phi-terms of N(m, 1 + s^2)."""
    centre, deviation = 0.7, 1.6
    gradient, error = gaussian_credit(Energy(), deviation, centre)
    m = torch.tensor([centre, 0.0], dtype=torch.float64).requires_grad_()
    s = m.new_tensor(deviation) * m[1].exp()
    # E|N(mu, v)| in closed form: v sqrt(2/pi) exp(-mu^2/2v^2) + mu erf(mu / v sqrt 2).
    v = (1 + s**2).sqrt()
    first = v * (2 / torch.pi) ** 0.5 * (-(m[0] ** 2) / (2 * v**2)).exp() + m[0] * torch.erf(m[0] / (v * 2**0.5))
    crps = first - s / torch.pi**0.5
    crps.backward()
    assert ((gradient + m.grad).abs() < 4 * error + 3e-3).all()  # 1/400 of it is lost to the group's own mean


def test_battery_plan_equals_brute_force():
    generator = torch.Generator().manual_seed(0)
    prices = 10 * torch.randn(20, 6, generator=generator)
    capacity, efficiency = 2, 0.8
    moves = plan_battery(prices, torch.ones_like(prices, dtype=torch.bool), capacity, efficiency)
    assert ((moves.cumsum(-1) >= 0) & (moves.cumsum(-1) <= capacity)).all()
    plans = torch.tensor(list(itertools.product((-1, 0, 1), repeat=6)))
    level = plans.cumsum(-1)
    plans = plans[((level >= 0) & (level <= capacity)).all(-1)]
    best = settle_battery(plans[None], prices[:, None], efficiency).amax(-1)
    torch.testing.assert_close(settle_battery(moves, prices, efficiency), best)


def test_battery_never_trades_an_hour_without_price():
    prices = torch.tensor([[1.0, 50.0, 2.0, 99.0]])
    moves = plan_battery(prices, torch.tensor([[True, True, True, False]]), 1, 1.0)
    assert moves.tolist() == [[1, -1, 0, 0]]


def test_dtw_equals_the_textbook_recursion():
    generator = torch.Generator().manual_seed(0)
    samples, target = torch.randn(2, 3, 7, generator=generator), torch.randn(2, 7, generator=generator)
    history = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    found = NegativeDTW(band=2)(samples, target, history)
    for b, g in itertools.product(range(2), range(3)):
        table = {(-1, -1): 0.0}
        for i, j in itertools.product(range(7), range(7)):
            if abs(i - j) <= 2:
                before = min(table.get(key, float("inf")) for key in [(i - 1, j), (i, j - 1), (i - 1, j - 1)])
                table[i, j] = float(abs(samples[b, g, i] - target[b, j])) + before
        assert float(found[b, g]) == pytest.approx(-table[6, 6] / 7, abs=1e-5)


def test_scale_ignores_missing_history():
    target, samples = torch.tensor([[1.0]]), torch.tensor([[[3.0]]])
    whole = torch.tensor([[0.0, 2.0, 0.0, 2.0]])
    holes = torch.tensor([[0.0, 2.0, torch.nan, torch.nan, 0.0, 2.0]])
    for name in ("mae", "mase"):
        reward = REWARDS.get(name)()
        torch.testing.assert_close(reward(samples, target, holes), reward(samples, target, whole))


def test_weighted_sum_comes_from_yaml_like_values():
    reward = build_reward(["mae", {"name": "newsvendor", "weight": 0.5, "under": 2.0, "over": 2.0, "bound": 10.0}])
    assert isinstance(reward, WeightedReward)
    assert reward.additive
    assert (reward.low, reward.high) == (-55.0, 0.0)
    samples, target, history = torch.tensor([[[1.0, 2.0]]]), torch.tensor([[3.0, 2.0]]), torch.tensor([[0.0, 2.0] * 2])
    # mae: 2 / std 1, halved over two steps; newsvendor: 2 * 2 / naive error 2, halved over two steps
    torch.testing.assert_close(reward(samples, target, history), torch.tensor([[-1.0 - 0.5 * 1.0]]))
    torch.testing.assert_close(reward.per_step(samples, target, history).mean(-1), torch.tensor([[-1.5]]))


def test_a_sum_with_a_path_reward_gives_no_credit_by_step():
    reward = build_reward(["mae", "battery_profit"])
    assert not reward.additive
    with pytest.raises(TypeError, match="BatteryProfit"):
        reward.per_step(torch.zeros(1, 2, 3), torch.zeros(1, 3), torch.zeros(1, 4))


def test_own_function_comes_by_dotted_path():
    reward = build_reward({"name": "tests.rl.test_rewards:margin", "low": -1.0, "high": 0.0})
    assert isinstance(reward, FunctionReward)
    value = reward(torch.tensor([[[1.0, 1.5], [torch.nan, 1.0]]]), torch.tensor([[1.0, 1.0]]), torch.zeros(1, 2))
    assert value.tolist() == [[-0.25, -1.0]]
    assert audit_reward(reward).passed


def test_audit_finds_the_reward_that_pays_for_spread():
    audit = audit_reward(FunctionReward(pay_for_movement, low=-10.0, high=1e3))
    assert not audit.passed
    assert any("trailing_spike: beats the truth" in problem for problem in audit.problems)


def test_audit_reports_a_reward_of_another_shape():
    audit = audit_reward(FunctionReward(wrong_shape))
    assert not audit.passed
    (problem,) = audit.problems
    assert problem == "every forecast: wrong_shape must return a tensor of shape [8, 8], found []"


def test_audit_says_where_a_reward_raised():
    def divide(samples, target, history, season):
        return samples.mean(-1) / {}["price"]

    (problem,) = audit_reward(FunctionReward(divide)).problems
    assert problem.startswith("every forecast: raised KeyError: 'price'")
    assert problem.endswith('return samples.mean(-1) / {}["price"])')


@pytest.mark.parametrize(
    ("spec", "error", "match"),
    [
        ("bateries", UnknownNameError, "did you mean"),
        ({"name": "battery_profit", "capcity": 3}, ValueError, "capacity"),
        ({"name": "battery_profit", "efficiency": 1.5}, ValueError, "efficiency"),
        ({"name": "pinball", "quantile": 1.0}, ValueError, "quantile"),
        ({"weight": 1.0}, ValueError, "needs a name"),
        ([], ValueError, "a reward is a name"),
        ({"name": "mae", "weight": 0}, ValueError, "weight"),
        ("tests.rl.test_rewards:no_season", ValueError, "samples, target, history, season"),
        ("tests.rl.test_rewards:nothing", ValueError, "has no 'nothing'"),
        ("no_such_package.rewards:nothing", ValueError, "cannot import"),
    ],
)
def test_bad_configurations_say_what_is_wrong(spec, error, match):
    with pytest.raises(error, match=match):
        build_reward(spec)


def test_reward_class_of_ones_own_needs_no_table_entry():
    class Own(Reward):
        """Pays for being low."""

        low, high = -1.0, 1.0

        def _paths(self, problem):
            return -problem.samples.mean(-1)

    assert Own()(torch.tensor([[[0.5], [9.0]]]), torch.zeros(1, 1), torch.zeros(1, 1)).tolist() == [[-0.5, -1.0]]
