"""Reward optimisation with a small linear model: gradients, groups, inner iterations, refills, resumption."""

import copy

import numpy as np
import pytest
import torch
from transformers import TrainerCallback

from tsllm.models import MODELS
from tsllm.models.dlinear import DLinear, DLinearConfig
from tsllm.programs.series import prepare_series
from tsllm.rl.objectives import build_objective
from tsllm.rl.rewards import build_reward
from tsllm.rl.rollout import RewardRunner, score_rollout, seeded
from tsllm.rl.windows import ScaledWindows, unfold_problem
from tsllm.training.args import ArgumentsError, DataArguments
from tsllm.training.batches import GlobalBatches
from tsllm.training.policy.args import PolicyArguments, PolicyTrainingArguments
from tsllm.training.policy.scores import score_decisions
from tsllm.training.policy.trainer import PolicyTrainer, RepeatedBatches


def never_spread(samples, target, history, season):
    """A reward that tells no two forecasts apart."""
    del target, history, season
    return 0.0 * samples.mean(-1)


def flat_where_low(samples, target, history, season):
    """A reward without spread where the truth is below zero on average."""
    del history, season
    low = target.nanmean(-1, keepdim=True) < 0
    return torch.where(low, 0.0, -(samples - target.nan_to_num()[:, None]).abs().mean(-1).clamp(max=1e3) / 1e3)


def pay_by_series(samples, target, history, season, *, unique_id, cutoff, scale):
    """Pays nothing for the first series, and for the other by model units and hour."""
    assert samples.shape[0] == len(unique_id) == len(cutoff) == len(scale)
    hours = torch.tensor([int(str(x)[11:13]) for x in cutoff], dtype=samples.dtype)
    mine = torch.tensor([float(name == "s1") for name in unique_id])
    error = ((samples - target.nan_to_num()[:, None]).abs().mean(-1) / scale[:, None]).clamp(max=10)
    return -error * (mine * (1 + hours / 24))[:, None] / 20


def cut_everywhere(samples, target, history, season):
    """In real units, far below -1."""
    return -1e4 - (samples - target.nan_to_num()[:, None]).abs().mean(-1)


@pytest.fixture(scope="module")
def data(series_csv):
    arguments = DataArguments(
        dataset=str(series_csv), freq="h", context_length=24, prediction_length=6, split=[0.6, 0.2, 0.2]
    )
    return prepare_series(MODELS.get("dlinear"), arguments)


@pytest.fixture
def model(data):
    torch.manual_seed(0)
    return make_model("gaussian")


def make_model(head):
    config = DLinearConfig(context_length=24, prediction_length=6, num_channels=2, head=head)
    return DLinear(config)


def make_trainer(model, data, folder, validation=False, **options):
    policy_fields = set(PolicyArguments.__dataclass_fields__)
    policy = PolicyArguments(**{k: v for k, v in options.items() if k in policy_fields})
    training = {
        "output_dir": str(folder),
        "max_steps": 4,
        "per_device_train_batch_size": 8,
        "learning_rate": 1e-3,
        "logging_steps": 1,
        "eval_strategy": "steps" if validation else "no",
        "save_strategy": "steps" if validation else "no",
        "use_cpu": True,
        "disable_tqdm": True,
        **{k: v for k, v in options.items() if k not in policy_fields},
    }
    return PolicyTrainer(
        model,
        PolicyTrainingArguments(**training),
        policy,
        data.train,
        data.validation if validation else None,
        data.scaler,
        season=24,
    )


def run_steps(trainer):
    trainer.train()
    return [entry for entry in trainer.state.log_history if "loss" in entry]


def test_policy_gradient_of_a_large_group_is_the_direct_gradient(data, model, tmp_path):
    """E[r grad log p] = grad E[r]: both estimators of one gradient must agree, here to 3 % of its norm."""
    found = {}
    for objective in ("rloo", "direct"):
        copied = copy.deepcopy(model)
        trainer = make_trainer(
            copied,
            data,
            tmp_path,
            objective=objective,
            beta=0.0 if objective == "rloo" else None,
            reward="mse",
            num_samples=20_000,
            learning_rate=0.0,
            max_grad_norm=0.0,
        )
        batch = trainer.collator(trainer.units.gather(torch.arange(4)))
        trainer.current_gradient_accumulation_steps = 1
        trainer.compute_loss(copied, batch).backward()
        found[objective] = torch.cat([p.grad.flatten() for p in copied.parameters()])
    policy, direct = found["rloo"], found["direct"]
    assert float((policy - direct).norm() / direct.norm()) < 0.03


def test_first_inner_iteration_has_ratio_one_and_the_second_has_not(data, model, tmp_path):
    logs = run_steps(make_trainer(model, data, tmp_path, num_iterations=2, num_samples=8, max_steps=4))
    assert [entry["ratio_max"] == 1.0 for entry in logs] == [True, False, True, False]
    assert logs[0]["clip_fraction"] == 0.0
    assert all("reward" in entry for entry in logs[::2])


def test_a_step_needs_one_forward_pass(data, model, tmp_path):
    calls = []
    model.register_forward_hook(lambda *_: calls.append(1))
    trainer = make_trainer(model, data, tmp_path, objective="dapo", num_samples=8, max_steps=3)
    trainer.train()
    assert len(calls) == 3


def test_training_raises_the_decision_reward(data, model, tmp_path):
    reward = {"name": "newsvendor", "under": 4.0, "over": 1.0}
    trainer = make_trainer(
        model,
        data,
        tmp_path,
        validation=True,
        objective="dr_grpo",
        reward=reward,
        num_samples=32,
        max_steps=60,
        learning_rate=1e-2,
        eval_steps=30,
        save_steps=30,
    )
    before = trainer.evaluate()["eval_reward"]
    trainer.train()
    after = trainer.evaluate()["eval_reward"]
    assert after > before + 0.2 * abs(before)
    assert {"eval_mae", "eval_crps", "eval_coverage_80"} <= set(trainer.state.log_history[-1])


def test_two_halves_with_a_resumption_equal_the_whole(data, model, tmp_path):
    options = {
        "validation": True,
        "objective": "dapo",
        "num_samples": 8,
        "num_iterations": 2,
        "eval_steps": 2,
        "save_steps": 2,
        "save_total_limit": None,
        "load_best_model_at_end": False,
    }
    whole = copy.deepcopy(model)
    make_trainer(whole, data, tmp_path / "whole", max_steps=4, **options).train()
    resumed = copy.deepcopy(model)
    again = make_trainer(resumed, data, tmp_path / "whole", max_steps=4, **options)
    again.train(str(tmp_path / "whole" / "checkpoint-2"))
    for mine, theirs in zip(resumed.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, atol=0, rtol=0)


def test_kl_to_the_start_is_zero_at_first_and_needs_no_second_model(data, model, tmp_path):
    next(model.parameters()).requires_grad_(False)
    trainer = make_trainer(model, data, tmp_path, objective="grpo", beta=0.1, num_samples=8, learning_rate=1e-2)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert sum(p.numel() for p in trainer.reference.values()) == trained
    logs = run_steps(trainer)
    assert logs[0]["kl"] == pytest.approx(0.0, abs=1e-6)
    assert logs[-1]["kl"] > 1e-4


def test_reward_that_tells_nothing_apart_moves_nothing(data, model, tmp_path):
    before = copy.deepcopy(model.state_dict())
    reward = {"name": "tests.training.policy.test_trainer:never_spread", "low": -1.0, "high": 1.0}
    trainer = make_trainer(model, data, tmp_path, objective="dapo", reward=reward, num_samples=4, max_refills=2)
    logs = run_steps(trainer)
    assert [entry["flat_groups"] for entry in logs] == [1.0] * 4
    assert [entry["refills"] for entry in logs] == [2.0] * 4
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name], atol=0, rtol=0)


def test_flat_groups_are_counted_without_dynamic_sampling_too(data, model, tmp_path):
    reward = {"name": "tests.training.policy.test_trainer:flat_where_low", "low": -1.0, "high": 1.0}
    trainer = make_trainer(model, data, tmp_path, objective="grpo", reward=reward, num_samples=4)
    inputs = trainer.collator(trainer.units.gather(torch.arange(0, 64, 8)))
    target = inputs["future_values"] * inputs["series_scale"] + inputs["series_loc"]
    low = target.mean(1) < 0  # [B, C]
    trainer.current_gradient_accumulation_steps = 1
    trainer.compute_loss(model, inputs)
    (found,) = trainer._record["flat_groups"]
    assert 0 < float(found) < 1
    assert float(found) == pytest.approx(float(low.float().mean()))


@pytest.mark.parametrize(
    ("reward", "reason"), [("never_spread", "earn the same reward"), ("cut_everywhere", "it is cut")]
)
def test_a_run_without_any_gradient_stops_with_the_reason(data, model, tmp_path, reward, reason):
    spec = {"name": f"tests.training.policy.test_trainer:{reward}", "low": -1.0, "high": 1.0}
    trainer = make_trainer(model, data, tmp_path, objective="grpo", beta=0.0, reward=spec, num_samples=4, max_steps=40)
    with pytest.raises(RuntimeError, match=f"nothing was learned in 10 steps: in all 160 groups .*{reason}"):
        trainer.train()
    assert trainer.state.global_step == 9  # the tenth was not made


def test_a_run_that_learned_once_may_stand_still_later(data, model, tmp_path):
    trainer = make_trainer(model, data, tmp_path, objective="grpo", beta=0.0, num_samples=4, max_steps=14)
    watch = trainer.idle
    original = watch.note
    watch.note = lambda rewards, flat: original(0 * rewards, flat | (trainer.state.global_step > 0))
    trainer.train()
    assert watch.learned


def test_rewards_are_told_the_series_and_times_of_their_rows(data, model, tmp_path):
    spec = {"name": "tests.training.policy.test_trainer:pay_by_series", "low": -1.0, "high": 0.0}
    trainer = make_trainer(model, data, tmp_path, validation=True, objective="dapo", reward=spec, num_samples=4)
    inputs = trainer.collator(trainer.units.gather(torch.tensor([5, 2, 30])))
    trainer.current_gradient_accumulation_steps = 1
    trainer.compute_loss(model, inputs)
    rollout = trainer._rollouts[0]
    # Rows are windows times channels: s0 earns nothing in all windows.
    assert (rollout.scored.rewards[::2] == 0).all()
    error = (rollout.samples - rollout.inputs["future_values"]).abs().mean(2)[..., 1]  # [G, B], model's units
    hours = (rollout.inputs["window"] + 23) % 24  # the series begins at midnight and the context has 24 steps
    expected = -error.clamp(max=10) * (1 + hours / 24) / 20
    torch.testing.assert_close(rollout.scored.rewards[1::2], expected.T, rtol=1e-4, atol=1e-6)
    assert np.isfinite(trainer.evaluate()["eval_reward"])
    direct = make_trainer(
        model, data, tmp_path / "direct", objective="direct",
        reward=[spec | {"differentiable": True}], num_samples=4, max_steps=1,
    )  # fmt: skip
    direct.train()


def accumulated_gradients(model, data, folder, accumulation, **options):
    """Returns the gradient of one step over 12 windows, some of whose groups are flat, and its loss."""
    reward = {"name": "tests.training.policy.test_trainer:flat_where_low", "low": -1.0, "high": 1.0}
    trainer = make_trainer(
        model, data, folder, reward=reward, num_samples=6, max_steps=2, learning_rate=0.0, max_grad_norm=0.0,
        per_device_train_batch_size=12 // accumulation, gradient_accumulation_steps=accumulation, **options,
    )  # fmt: skip
    gradients, losses, masks = [], [], []

    class Keep(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
            gradients.append(torch.cat([p.grad.flatten().clone() for p in model.parameters()]))
            masks.append([rollout.scored.mask.clone() for _, rollout in sorted(trainer._rollouts.items())])

    trainer.add_callback(Keep())
    draw = trainer._sample
    noise = torch.randn(6, len(data.train), 6, 2, generator=torch.Generator().manual_seed(1))

    class Fixed:
        """A distribution whose draws depend on the windows alone, not on how they are batched."""

        def __init__(self, inner, windows):
            self.inner, self.windows = inner, windows

        def sample(self, shape):
            return self.inner.loc + self.inner.scale * noise[:, self.windows]

        def __getattr__(self, name):
            return getattr(self.inner, name)

    trainer._sample = lambda distribution, inputs: draw(Fixed(distribution, inputs["window"]), inputs)
    losses = [entry["loss"] for entry in run_steps(trainer)]
    return gradients, losses, masks


@pytest.mark.parametrize("iterations", [1, 2])
def test_tokens_are_counted_over_the_accumulated_batch(data, model, tmp_path, iterations):
    """DAPO's loss by token: a micro-batch with few tokens that count must not weigh as much as a full one."""
    options = {"objective": "dapo", "max_refills": 0, "num_iterations": iterations}
    whole, whole_loss, masks = accumulated_gradients(copy.deepcopy(model), data, tmp_path / "a", 1, **options)
    parts, parts_loss, part_masks = accumulated_gradients(copy.deepcopy(model), data, tmp_path / "b", 4, **options)
    counts = [int(mask.sum()) for mask in part_masks[0]]
    assert len(set(counts)) > 1
    assert sum(counts) == int(masks[0][0].sum())
    assert whole[0].abs().max() > 0
    for mine, theirs in zip(parts, whole, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-7)
    assert parts_loss == pytest.approx(whole_loss, abs=1e-5)


def test_flat_windows_are_replaced_and_the_rest_is_kept(data, model, tmp_path):
    reward = {"name": "tests.training.policy.test_trainer:flat_where_low", "low": -1.0, "high": 1.0}
    trainer = make_trainer(model, data, tmp_path, objective="dapo", reward=reward, num_samples=4, max_refills=8)
    inputs = trainer.collator(trainer.units.gather(torch.arange(8)))
    inputs["future_values"] = inputs["future_values"].clone()
    inputs["future_values"][2:4] = -50.0  # far below zero in original units: no spread
    trainer.current_gradient_accumulation_steps = 1
    trainer.compute_loss(model, inputs)
    rollout = trainer._rollouts[0]
    assert rollout.refills >= 1
    kept = torch.tensor([0, 1, 4, 5, 6, 7])
    torch.testing.assert_close(rollout.inputs["past_values"][kept], inputs["past_values"][kept])
    assert (rollout.inputs["future_values"][2:4] > -50.0).all()
    assert rollout.scored.mask.any(1).unflatten(0, (8, 2)).any(1).all()
    with torch.no_grad():
        log_probs = model(**{k: v for k, v in rollout.inputs.items() if k in trainer.keys}).distribution.log_prob(
            rollout.samples
        )
    torch.testing.assert_close(log_probs.permute(1, 3, 0, 2).flatten(0, 2), rollout.old_log_probs)


@pytest.mark.parametrize("head", ["gaussian", "student_t", "ar_gaussian", "bins"])
@pytest.mark.parametrize("reward", ["energy", "battery_profit"])
def test_every_head_is_a_policy(data, tmp_path, head, reward):
    torch.manual_seed(0)
    model = make_model(head)
    logs = run_steps(
        make_trainer(
            model,
            data,
            tmp_path,
            reward=reward,
            num_samples=8,
            max_steps=2,
            entropy_coef=0.01,
            nll_coef=0.1,
            objective="reward_preference",
        )
    )
    for name in ("loss", "reward", "reward_spread", "effective_sample_size", "entropy", "nll", "sample_crps"):
        assert all(torch.isfinite(torch.tensor(entry[name])) for entry in logs)
    assert 1.0 <= logs[0]["effective_sample_size"] <= 8.0


def test_credit_reaches_back_only_where_steps_depend_on_each_other():
    samples = torch.tensor([[[0.0, 1.0], [2.0, 5.0]]])
    target, history = torch.zeros(1, 2), torch.tensor([[0.0, 2.0, 0.0, 2.0]])
    runner, objective = RewardRunner(build_reward("mae")), build_objective("dr_grpo")
    alone = score_rollout(runner, objective, samples, target, history, 1)
    # rewards by step (0, -1) and (-2, -5)
    assert alone.advantages.tolist() == [[[1.0, 2.0], [-1.0, -2.0]]]
    back = score_rollout(runner, objective, samples, target, history, 1, dependent=True)
    assert back.advantages.tolist() == [[[3.0, 2.0], [-3.0, -2.0]]]
    path = score_rollout(runner, objective, samples, target, history, 1, credit="path")
    assert path.advantages.tolist() == [[[1.5, 1.5], [-1.5, -1.5]]]


def test_windows_without_any_target_count_for_nothing():
    samples = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    target = torch.stack([torch.zeros(3), torch.full((3,), torch.nan)])
    history = torch.tensor([[0.0, 2.0, 0.0, 2.0]]).expand(2, 4)
    scored = score_rollout(RewardRunner(build_reward("mae")), build_objective("dapo"), samples, target, history, 1)
    assert scored.known.tolist() == [True, False]
    assert not scored.mask[1].any()
    assert scored.mask[0].all()


@pytest.mark.slow  # two processes import torch
def test_worker_processes_are_told_the_facts_of_their_rows(data):
    windows = ScaledWindows(data.train, data.scaler)
    chosen = torch.tensor([0, 7, 13])
    spec = {"name": "tests.training.policy.test_trainer:pay_by_series", "low": -1.0, "high": 0.0}
    reward = build_reward(spec)
    known = windows.find_known(chosen, reward.asks)
    target, history = unfold_problem(windows.gather(chosen))
    samples = target[:, None] + torch.randn(6, 4, 6, generator=torch.Generator().manual_seed(0))
    runner = RewardRunner(reward, workers=2)
    try:
        found = runner.score(samples, target, history, 24, by_step=False, known=known)
    finally:
        runner.close()
    torch.testing.assert_close(found, reward(samples, target, history, 24, known=known))
    assert (found[1::2] < 0).all()


@pytest.mark.slow  # two processes import torch
def test_worker_processes_give_the_same_rewards():
    generator = torch.Generator().manual_seed(0)
    samples, target = torch.randn(5, 4, 3, generator=generator), torch.randn(5, 3, generator=generator)
    history = torch.randn(5, 9, generator=generator)
    reward = build_reward(["energy", {"name": "direction", "weight": 0.5}])
    runner = RewardRunner(reward, workers=2)
    try:
        for by_step in (False, True):
            found = runner.score(samples, target, history, 3, by_step=by_step)
            expected = RewardRunner(reward).score(samples, target, history, 3, by_step=by_step)
            torch.testing.assert_close(found, expected)
    finally:
        runner.close()


def test_repeated_batches_keep_a_steps_batches_together():
    batches = GlobalBatches(length=10, batch_size=2, seed=0)
    order = list(batches)
    repeated = RepeatedBatches(batches, accumulation=2, iterations=2)
    found = list(repeated)
    assert found == [*order[0:2] * 2, *order[2:4] * 2, *[order[4], order[0]] * 2]
    assert len(repeated) == len(found)


def test_seeded_streams_repeat_and_differ():
    before = torch.random.get_rng_state()
    draws = []
    for keys in [(1, 2), (1, 2), (1, 3)]:
        with seeded(*keys):
            draws.append(torch.rand(3))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert torch.equal(torch.random.get_rng_state(), before)


def test_decisions_are_scored_in_original_units_by_a_slow_loop(data, model):
    windows = ScaledWindows(data.test, data.scaler)
    keys = frozenset({"past_values", "past_observed_mask", "future_values"})
    rewards = {"newsvendor": build_reward("newsvendor")}
    found = score_decisions(model, windows, rewards, 24, keys=keys, batch_size=5, quantiles={"q80": 0.8})
    assert found["mae"].shape == (len(data.test), 2)
    assert found["pit"].sum(-1) == pytest.approx(1.0, abs=1e-6)
    batch = windows.gather(torch.tensor([3]))
    with torch.no_grad():
        output = model(past_values=batch["past_values"], past_observed_mask=batch["past_observed_mask"])
    for channel in range(2):
        loc, scale = batch["series_loc"][0, 0, channel], batch["series_scale"][0, 0, channel]
        truth = batch["future_values"][0, :, channel] * scale + loc
        point = output.predictions[0, :, channel] * scale + loc
        history = batch["past_values"][0, :, channel] * scale + loc
        assert found["mae"][3, channel] == pytest.approx(float((truth - point).abs().mean()), rel=1e-4)
        cut = output.distribution.icdf(torch.tensor(0.8))[0, :, channel] * scale + loc
        for name, decision in (("newsvendor", point), ("newsvendor@q80", cut)):
            expected = rewards["newsvendor"](decision[None, None], truth[None], history[None], 24)
            assert found[name][3, channel] == pytest.approx(float(expected), rel=1e-3)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"objective": "dapo", "beta": 0.1}, "another algorithm"),
        ({"objective": "direct", "reward": "battery_profit"}, "no useful gradient"),
        ({"reward": "format"}, "judges text"),
        ({"reward": "battery_profit", "credit": "step"}, "whole paths"),
        ({"credit": "token"}, "credit"),
        ({"num_samples": 1}, "num_samples"),
        ({"num_iterations": 3, "max_steps": 4}, "multiple of num_iterations"),
        ({"lr_schedule": "type1"}, "lr_schedule"),
    ],
)
def test_bad_arguments_say_what_is_wrong(data, model, tmp_path, options, match):
    with pytest.raises((ArgumentsError, ValueError), match=match):
        make_trainer(model, data, tmp_path, **options)


def test_heads_without_distribution_are_refused(data, tmp_path):
    with pytest.raises(ArgumentsError, match="no distribution"):
        make_trainer(make_model("point"), data, tmp_path)
    with pytest.raises(ArgumentsError, match="bins do not allow"):
        make_trainer(make_model("bins"), data, tmp_path, objective="direct")
