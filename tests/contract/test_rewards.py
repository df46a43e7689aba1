"""What holds for every reward of the table."""

import pickle

import pytest
import torch

from tsllm.rl.audit import audit_reward, make_series
from tsllm.rl.rewards import REWARDS, Completions

NAMES = sorted(REWARDS)


@pytest.fixture
def problem():
    generator = torch.Generator().manual_seed(1)
    history, target = make_series(3, 48, 12, 6, generator)
    samples = target[:, None] + 3 * torch.randn(3, 5, 12, generator=generator)
    return samples, target, history


@pytest.fixture
def completions():
    counts = torch.full((3, 5), 12)
    return Completions(num_values=counts, num_tokens=4 * counts, max_tokens=60)


@pytest.mark.parametrize("name", NAMES)
def test_no_attack_beats_the_truth(name):
    audit = audit_reward(REWARDS.get(name)(), horizon=24, season=24, cases=6)
    assert audit.problems == []
    assert len(audit.results) >= 20


@pytest.mark.parametrize("name", NAMES)
def test_no_attack_beats_the_truth_without_a_season(name):
    assert audit_reward(REWARDS.get(name)(), horizon=7, season=1, cases=6, seed=3).problems == []


@pytest.mark.parametrize("name", NAMES)
def test_reward_lies_in_its_range_and_has_one_number_a_forecast(name, problem, completions):
    reward = REWARDS.get(name)()
    value = reward(*problem, 6, completions)
    assert value.shape == (3, 5)
    assert reward.low < reward.high
    assert ((value >= reward.low) & (value <= reward.high)).all()


@pytest.mark.parametrize("name", NAMES)
def test_mean_over_observed_steps_is_the_reward_where_it_is_additive(name, problem, completions):
    reward = REWARDS.get(name)()
    samples, target, history = problem
    target = target.clone()
    target[1, 3:5] = torch.nan
    if not reward.additive:
        with pytest.raises(TypeError, match="whole forecasts"):
            reward.per_step(samples, target, history, 6, completions)
        return
    steps = reward.per_step(samples, target, history, 6, completions)
    assert steps.shape == samples.shape
    assert (steps[1, :, 3:5] == 0).all()
    expected = steps.sum(-1) / target.isfinite().sum(-1)[:, None]
    torch.testing.assert_close(reward(samples, target, history, 6, completions), expected)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_forecast_at_a_missing_step_does_not_matter(name, problem, completions):
    reward = REWARDS.get(name)()
    samples, target, history = problem
    target = target.clone()
    target[:, 4] = torch.nan
    changed = samples.clone()
    changed[:, :, 4] += 100.0
    if name in ("direction", "dtw"):
        return  # direction from the step before and warping look at neighbours; see their own tests
    torch.testing.assert_close(
        reward(samples, target, history, 6, completions), reward(changed, target, history, 6, completions)
    )


@pytest.mark.parametrize("name", NAMES)
def test_reward_of_a_batch_row_does_not_depend_on_its_mates(name, problem, completions):
    reward = REWARDS.get(name)()
    samples, target, history = problem
    alone = Completions(completions.num_values[1:2], completions.num_tokens[1:2], completions.max_tokens)
    torch.testing.assert_close(
        reward(samples, target, history, 6, completions)[1:2],
        reward(samples[1:2], target[1:2], history[1:2], 6, alone),
    )


@pytest.mark.parametrize("name", NAMES)
def test_reward_does_not_depend_on_the_unit_of_the_series(name, problem, completions):
    reward = REWARDS.get(name)()
    samples, target, history = (7.0 * part for part in problem)
    torch.testing.assert_close(
        reward(samples, target, history, 6, completions), reward(*problem, 6, completions), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("name", NAMES)
def test_invalid_forecast_gets_the_least_reward_and_leaves_its_group_alone(name, problem, completions):
    reward = REWARDS.get(name)()
    samples, target, history = problem
    broken = samples.clone()
    broken[0, 2, 5] = torch.inf
    value = reward(broken, target, history, 6, completions)
    assert value.isfinite().all()
    if not reward.scores_text or name == "format":
        assert value[0, 2] == pytest.approx(reward.low)
    if not reward.group_wise:
        kept = torch.tensor([0, 1, 3, 4])
        torch.testing.assert_close(value[0, kept], reward(*problem, 6, completions)[0, kept])


@pytest.mark.parametrize("name", NAMES)
def test_reward_survives_pickling(name, problem, completions):
    reward = REWARDS.get(name)()
    copy = pickle.loads(pickle.dumps(reward))
    torch.testing.assert_close(copy(*problem, 6, completions), reward(*problem, 6, completions))


@pytest.mark.parametrize("name", NAMES)
def test_differentiable_rewards_push_samples_towards_the_truth(name, problem):
    reward = REWARDS.get(name)()
    if not reward.differentiable:
        return
    samples, target, history = problem
    samples = samples.clone().requires_grad_()
    reward.utility(samples, target, history, 6).sum().backward()
    assert samples.grad.isfinite().all()
    moved = samples.detach() + 1e-2 * samples.grad / samples.grad.norm()
    before = reward.utility(samples.detach(), target, history, 6).sum()
    assert reward.utility(moved, target, history, 6).sum() > before


@pytest.mark.parametrize("name", NAMES)
def test_wrong_shapes_raise_with_both_shapes(name, problem, completions):
    samples, target, history = problem
    with pytest.raises(ValueError, match=r"another\s+length|never cut or padded"):
        REWARDS.get(name)()(samples[..., :-1], target, history, 6, completions)
    with pytest.raises(ValueError, match="no observed step"):
        REWARDS.get(name)()(samples, torch.full_like(target, torch.nan), history, 6, completions)
    with pytest.raises(ValueError, match="season"):
        REWARDS.get(name)()(samples, target, history, 0, completions)


@pytest.mark.parametrize("name", NAMES)
def test_docstring_names_range_and_has_a_worked_case(name):
    text = REWARDS.get(name).__doc__
    assert "Range" in text
    assert ">>>" in text
