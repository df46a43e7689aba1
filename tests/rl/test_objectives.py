"""Objectives and advantages: worked by hand, against TRL's own loss, and as Monte-Carlo gradients."""

import itertools
from collections import defaultdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tsllm.registry import UnknownNameError
from tsllm.rl.advantages import (
    ADVANTAGES,
    compute_centered,
    compute_effective_sample_size,
    compute_leave_one_out,
    compute_preference,
    compute_preference_weights,
    compute_zscore,
)
from tsllm.rl.objectives import OBJECTIVES, build_objective, compute_policy_loss

TRL_LOSSES = {
    "grpo": ("clip", "sequence"),
    "bnpo": ("clip", "token"),
    "dr_grpo": ("clip", "constant"),
    "dapo": ("clip", "total"),
    "cispo": ("capped", "total"),
}
PINNED_TRL = "1.16"


def find_trl():
    try:
        return version("trl")
    except PackageNotFoundError:
        return "none"


needs_pinned_trl = pytest.mark.skipif(
    not find_trl().startswith(PINNED_TRL), reason=f"parity is with trl {PINNED_TRL}, found {find_trl()}"
)


def make_tensors(seed=0, sequences=6, tokens=5):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    log_probs = -1 + 0.5 * draw(sequences, tokens)
    mask = torch.ones(sequences, tokens, dtype=torch.float64)
    mask[1, 3:] = mask[4, 1:] = 0
    return SimpleNamespace(
        log_probs=log_probs,
        old=log_probs + 0.4 * draw(sequences, tokens),
        reference=log_probs + 0.4 * draw(sequences, tokens),
        by_sequence=draw(sequences),
        by_token=draw(sequences, tokens),
        mask=mask,
    )


class ModuleDict(torch.nn.Module):
    """What the stub passes for a model: only its training flag is read."""


def trl_loss(tensors, log_probs, advantages, loss_type, beta, level, epsilon_high, delta):
    """Runs TRL's loss, unbound, on fixed log-probabilities."""
    from trl import GRPOTrainer

    class Accelerator:
        num_processes = 1
        sync_gradients = True

        def gather(self, value):
            return value

        def gather_for_metrics(self, value):
            return value

        def reduce(self, value, reduction):
            return value

    stub = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *_, **__: (log_probs, torch.zeros_like(log_probs), None),
        aux_loss_enabled=False,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        importance_sampling_level=level,
        beta=beta,
        loss_type=loss_type,
        epsilon_low=0.2,
        epsilon_high=epsilon_high,
        use_vllm=False,
        vllm_importance_sampling_correction=False,
        _entropy_bonus_enabled=False,
        current_gradient_accumulation_steps=1,
        max_completion_length=7,
        accelerator=Accelerator(),
        model=ModuleDict().train(),
        _metrics={"train": defaultdict(list)},
        args=SimpleNamespace(delta=delta, use_bias_correction_kl=False, steps_per_generation=1),
    )
    batch = {
        "prompt_ids": torch.zeros(len(log_probs), 1),
        "prompt_mask": torch.ones(len(log_probs), 1),
        "completion_ids": torch.zeros_like(tensors.mask),
        "completion_mask": tensors.mask,
        "advantages": advantages,
        "old_per_token_logps": tensors.old,
        "ref_per_token_logps": tensors.reference,
        "num_items_in_batch": tensors.mask.sum(),
    }
    loss = GRPOTrainer._compute_loss(stub, None, batch)
    return loss, stub._metrics["train"]


@needs_pinned_trl
@pytest.mark.parametrize("loss_type", list(TRL_LOSSES))
@pytest.mark.parametrize("level", ["token", "sequence"])
def test_loss_and_gradient_equal_trls(loss_type, level):
    surrogate, aggregation = TRL_LOSSES[loss_type]
    tensors = make_tensors()
    grid = itertools.product([0.0, 0.04, 1.0], [0.2, 0.28, 5.0], ["by_sequence", "by_token"], [None, 1.5])
    for beta, epsilon_high, credit, delta in grid:
        advantages = getattr(tensors, credit)
        theirs = tensors.log_probs.clone().requires_grad_()
        expected, logged = trl_loss(tensors, theirs, advantages, loss_type, beta, level, epsilon_high, delta)
        expected.backward()
        ours = tensors.log_probs.clone().requires_grad_()
        found = compute_policy_loss(
            ours,
            tensors.old,
            advantages,
            tensors.mask,
            surrogate=surrogate,
            aggregation=aggregation,
            epsilon_low=0.2,
            epsilon_high=epsilon_high,
            ratio_cap=epsilon_high,
            level=level,
            beta=beta,
            reference_log_probs=tensors.reference,
            delta=delta,
            max_length=7,
            total_tokens=tensors.mask.sum(),
        )
        found.loss.backward()
        torch.testing.assert_close(found.loss, expected, atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-6, rtol=1e-6)
        if beta:
            assert float(found.kl) == pytest.approx(logged["kl"][0], abs=1e-9)
        if surrogate == "clip" and level == "token":
            if delta is None:
                assert float(found.clip_fraction) == pytest.approx(logged["clip_ratio/region_mean"][0], abs=1e-9)
        elif level == "token":
            assert float(found.clip_fraction) == pytest.approx(logged["cispo_clip_ratio"][0], abs=1e-9)


@needs_pinned_trl
def test_zscore_equals_trls_group_scaling():
    from trl.trainer import grpo_trainer

    source = Path(grpo_trainer.__file__).read_text(encoding="utf-8")
    assert "/ (std_rewards + 1e-4)" in source  # the formula that the next line restates
    rewards = torch.tensor([[1.0, 2.0, 6.0]])
    expected = (rewards - 3.0) / (7.0**0.5 + 1e-4)
    torch.testing.assert_close(compute_zscore(rewards), expected)


def test_clipped_loss_worked_by_hand():
    log_probs = torch.tensor([[0.0, 0.0]]).double()
    old = torch.tensor([[-0.5, 0.5]]).double()  # ratios 1.6487 and 0.6065
    for advantage, expected in [(1.0, -(1.28 + 0.6065307) / 2), (-2.0, 2 * (1.6487213 + 0.8) / 2)]:
        found = compute_policy_loss(
            log_probs, old, torch.tensor([advantage]).double(), torch.ones(1, 2), epsilon_high=0.28
        )
        assert float(found.loss) == pytest.approx(expected, abs=1e-6)
        assert float(found.clip_fraction) == 0.5
        assert float(found.ratio_max) == pytest.approx(1.6487213, abs=1e-6)


def test_aggregations_worked_by_hand():
    log_probs = torch.zeros(2, 3)
    advantages = torch.tensor([1.0, 4.0])  # ratio 1: token losses -1 and -4
    mask = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]])

    def loss(aggregation, **options):
        return float(
            compute_policy_loss(log_probs, log_probs, advantages, mask, aggregation=aggregation, **options)[0]
        )

    assert loss("sequence") == pytest.approx(-(1 + 4) / 2)
    assert loss("token") == pytest.approx(-(3 + 4) / 4)
    assert loss("constant", max_length=10) == pytest.approx(-(3 + 4) / 20)
    assert loss("total", total_tokens=14) == pytest.approx(-(3 + 4) / 14)


def test_kl_estimate_worked_by_hand():
    log_probs, reference = torch.tensor([[-1.0]]), torch.tensor([[-1.5]])
    found = compute_policy_loss(
        log_probs,
        log_probs,
        torch.zeros(1),
        torch.ones(1, 1),
        beta=0.1,
        reference_log_probs=reference,
    )
    estimate = 0.6065307 + 0.5 - 1
    assert float(found.kl) == pytest.approx(estimate, abs=1e-6)
    assert float(found.loss) == pytest.approx(0.1 * estimate, abs=1e-6)


def test_advantages_worked_by_hand():
    rewards = torch.tensor([[1.0, 2.0, 6.0]])
    assert compute_centered(rewards).tolist() == [[-2.0, -1.0, 3.0]]
    assert compute_leave_one_out(rewards).tolist() == [[-3.0, -1.5, 4.5]]
    weights = compute_preference_weights(torch.tensor([[0.0, 3.0]]).log1p(), 1.0)  # proportional to 1 and 4
    torch.testing.assert_close(weights, torch.tensor([[0.2, 0.8]]))
    torch.testing.assert_close(
        compute_preference(torch.tensor([[0.0, 3.0]]).log1p(), 1.0), torch.tensor([[-0.6, 0.6]])
    )
    assert float(compute_effective_sample_size(weights)) == pytest.approx(1 / 0.68)


def test_preference_tends_to_centred_rewards_for_large_temperature():
    rewards = torch.randn(4, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(1e4 * compute_preference(rewards, 1e4), compute_centered(rewards), atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", sorted(ADVANTAGES))
def test_constant_groups_have_no_advantage_and_hence_no_gradient(name):
    rewards = torch.full((3, 5, 2), 0.7)
    advantages = ADVANTAGES.get(name)(rewards, 1.0)
    torch.testing.assert_close(advantages, torch.zeros_like(rewards), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", sorted(ADVANTAGES))
def test_advantages_by_step_are_those_of_each_step_alone(name):
    rewards = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    found = ADVANTAGES.get(name)(rewards, 0.5)
    for step in range(4):
        torch.testing.assert_close(found[..., step], ADVANTAGES.get(name)(rewards[..., step], 0.5))


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_new_policy_equal_to_old_has_ratio_one_and_nothing_clipped(name):
    objective = OBJECTIVES.get(name)
    tensors = make_tensors()
    found = objective.compute_loss(
        tensors.old, tensors.old, tensors.by_token, tensors.mask, reference_log_probs=tensors.old
    )
    assert float(found.ratio_max) == 1.0
    assert float(found.clip_fraction) == 0.0
    assert float(found.kl) == 0.0


def gaussian_gradient(objective, group, rows, seed=0):
    """Per-row gradient of the objective in the mean of N(m, 1) for the reward -(x - 2)^2, at m = 0.5."""
    generator = torch.Generator().manual_seed(seed)
    mean = torch.tensor(0.5, dtype=torch.float64)
    samples = mean + torch.randn(rows, group, generator=generator, dtype=torch.float64)
    advantages = objective.compute_advantages(-((samples - 2) ** 2))
    center = mean.expand(rows).clone().requires_grad_()
    policy = torch.distributions.Normal(center[:, None], torch.ones((), dtype=torch.float64))
    log_probs = policy.log_prob(samples)  # [rows, group], each sample one sequence of one token
    found = objective.compute_loss(
        log_probs.flatten()[:, None],
        log_probs.detach().flatten()[:, None],
        advantages.flatten(),
        torch.ones(rows * group, 1),
        reference_log_probs=log_probs.detach().flatten()[:, None],
    )
    found.loss.backward()
    return -rows * center.grad  # one estimate a row


@pytest.mark.parametrize("name", ["rloo", "dr_grpo"])
def test_monte_carlo_gradient_agrees_with_the_analytic_one(name):
    """J(m) = -E(x - 2)^2 = -(m - 2)^2 - 1, so dJ/dm = 2 (2 - m) = 3 at m = 0.5."""
    group = 16
    estimates = gaussian_gradient(build_objective(name, beta=0.0), group, rows=20_000)
    shrink = (group - 1) / group if name == "dr_grpo" else 1.0  # the group's own mean as baseline costs 1/G
    error = float(estimates.std() / len(estimates) ** 0.5)
    assert error < 0.05
    assert abs(float(estimates.mean()) - 3.0 * shrink) < 4 * error


@pytest.mark.parametrize("name", ["rloo", "dr_grpo", "grpo", "dapo", "cispo", "reward_preference"])
def test_with_a_large_group_the_gradient_is_the_exact_score_function_gradient(name):
    """All advantages tend to (r - E r) / c: c = 1, or std of r for the z-score; for the softmax see below."""
    objective = build_objective(name, **({"beta": 0.0} if "beta" in OBJECTIVES.get(name).knobs else {}))
    found = float(gaussian_gradient(objective, group=1_000_000, rows=1)[0])
    expected = 3.0
    if objective.advantage == "zscore":
        # r = -(1.5 - z)^2: variance 2 + 4 * 1.5^2 = 11
        expected = 3.0 / 11**0.5
    if objective.advantage == "preference":
        # weights exp(-(x - 2)^2) tilt N(0.5, 1) to mean (0.5 + 2 * 2) / 3 = 1.5: E_w[x - m] = 1
        expected = 1.0
    assert found == pytest.approx(expected, abs=0.02)


def test_preference_has_less_variance_than_its_uncentred_form():
    generator = torch.Generator().manual_seed(0)
    samples = torch.randn(20_000, 8, generator=generator, dtype=torch.float64)
    weights = compute_preference_weights(-((samples - 1) ** 2), 5.0)
    plain = (8 * weights * samples).mean(1)
    centred = ((8 * weights - 1) * samples).mean(1)
    assert abs(float(plain.mean() - centred.mean())) < 4 * float(plain.std()) / 20_000**0.5
    assert float(centred.var()) < 0.5 * float(plain.var())


def test_names_cannot_mean_another_algorithm():
    assert build_objective("grpo", epsilon_high=0.3, beta=None).beta == OBJECTIVES.get("grpo").beta
    with pytest.raises(ValueError, match="another algorithm"):
        build_objective("dapo", beta=0.1)
    with pytest.raises(ValueError, match="another algorithm"):
        build_objective("grpo", advantage="center")
    with pytest.raises(ValueError, match="another algorithm"):
        build_objective("grpo", dynamic_sampling=True)
    with pytest.raises(UnknownNameError, match="grpo"):
        build_objective("gpro")
    assert OBJECTIVES.get("dapo").epsilon_high == 0.28
    assert OBJECTIVES.get("dapo").beta == 0


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"surrogate": "trpo"}, "surrogate"),
        ({"aggregation": "mean"}, "aggregation"),
        ({"level": "word"}, "level"),
        ({"beta": 0.1}, "reference_log_probs"),
        ({"aggregation": "constant"}, "max_length"),
        ({"aggregation": "total"}, "total_tokens"),
    ],
)
def test_bad_arguments_say_what_is_wrong(change, match):
    tensors = make_tensors()
    with pytest.raises(ValueError, match=match):
        compute_policy_loss(tensors.log_probs, tensors.old, tensors.by_sequence, tensors.mask, **change)
    with pytest.raises(ValueError, match="one shape"):
        compute_policy_loss(tensors.log_probs, tensors.old[:, :2], tensors.by_sequence, tensors.mask)


def fit_preference(surrogate, inner, temperature=1.0, group=20_000):
    """Moves the mean of N(m, 1) from 0 for the reward -(x - 2)^2 / 2 by inner iterations on one rollout."""
    objective = build_objective("reward_preference", temperature=temperature)
    samples = torch.randn(1, group, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    advantages = objective.compute_advantages(-((samples - 2) ** 2) / 2).flatten()
    mean = torch.zeros((), dtype=torch.float64, requires_grad=True)
    normal = torch.distributions.Normal
    old = normal(0.0, 1.0).log_prob(samples).flatten()[:, None]
    optimizer = torch.optim.SGD([mean], lr=0.1)
    for _ in range(inner):
        log_probs = normal(mean, 1.0).log_prob(samples).flatten()[:, None]
        found = compute_policy_loss(
            log_probs, old, advantages, torch.ones_like(old), surrogate=surrogate, epsilon_low=0.99, epsilon_high=1e6
        )
        optimizer.zero_grad()
        found.loss.backward()
        optimizer.step()
    return mean.item()


def test_preference_ends_at_its_projection_however_many_inner_iterations():
    """N(0, 1) tilted by exp(-(x - 2)^2 / 2) has mean 1. As a ratio objective the same weights run past it."""
    assert OBJECTIVES.get("reward_preference").surrogate == "projection"
    assert fit_preference("projection", 100) == pytest.approx(1.0, abs=0.03)
    assert fit_preference("projection", 400) == pytest.approx(1.0, abs=0.03)
    assert fit_preference("clip", 100) > 1.2


@pytest.mark.parametrize("unbiased", [False, True])
def test_k3_pulls_towards_covering_the_reference_and_unbiased_towards_its_modes(unbiased):
    """Exact over five tokens: the gradient is that of KL(ref || pi), and with the ratio that of KL(pi || ref)."""
    logits = torch.tensor([0.3, -1.0, 2.0, 0.0, -0.4], dtype=torch.float64, requires_grad=True)
    reference = torch.tensor([1.0, 0.5, -0.5, 0.2, 0.0], dtype=torch.float64).log_softmax(0)
    policy = logits.log_softmax(0)
    found = compute_policy_loss(
        policy[:, None], policy.detach()[:, None], torch.zeros(5), policy.detach().exp()[:, None],
        aggregation="total", total_tokens=1.0, beta=1.0, reference_log_probs=reference[:, None], unbiased_kl=unbiased,
    )  # fmt: skip
    (got,) = torch.autograd.grad(found.loss, logits, retain_graph=True)
    reverse = (policy.exp() * (policy - reference)).sum()
    forward = (reference.exp() * (reference - policy)).sum()
    (expected,) = torch.autograd.grad(reverse if unbiased else forward, logits)
    torch.testing.assert_close(got, expected)
    assert found.loss.item() == pytest.approx(reverse.item(), rel=1e-9)  # the value is KL(pi || ref) either way


def test_unbiased_kl_is_a_knob_of_objectives_with_a_kl():
    assert build_objective("grpo", unbiased_kl=True).unbiased_kl
    with pytest.raises(ValueError, match="another algorithm"):
        build_objective("dapo", unbiased_kl=True)
    with pytest.raises(ValueError, match="changes nothing"):
        build_objective("dr_grpo", unbiased_kl=True)
