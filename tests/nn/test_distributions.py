"""The distributions that serve as policies: densities that integrate to one, samples that follow them."""

import pytest
import torch

from tsllm.nn.distributions import AutoregressiveNormal, Binned
from tsllm.nn.heads import build_output


@pytest.fixture
def binned():
    logits = torch.randn(2, 3, 1, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    edges = torch.linspace(-2, 2, 7, dtype=torch.float64)
    loc, scale = torch.tensor([[[1.0]], [[5.0]]]).double(), torch.tensor([[[2.0]], [[0.5]]]).double()
    return Binned(logits, edges, loc, scale, tail=0.7)


def test_binned_density_integrates_to_one_and_gives_mean_and_entropy(binned):
    grid = torch.linspace(-25, 25, 500_001, dtype=torch.float64)
    log_density = binned.log_prob(grid[:, None, None, None].expand(-1, 2, 3, 1)[:, :, :1])[:, :, 0, 0]
    density = log_density.exp()
    step = 1e-4
    torch.testing.assert_close(density.sum(0) * step, torch.ones(2, dtype=torch.float64), atol=1e-3, rtol=0)
    torch.testing.assert_close((density * grid[:, None]).sum(0) * step, binned.mean[:, 0, 0], atol=1e-3, rtol=0)
    entropy = -(density * log_density).sum(0) * step
    torch.testing.assert_close(entropy, binned.entropy()[:, 0, 0], atol=1e-3, rtol=0)


def test_binned_quantiles_invert_the_density(binned):
    levels = torch.tensor([0.03, 0.3, 0.5, 0.9, 0.99], dtype=torch.float64)
    found = binned.icdf(levels[:, None, None, None].expand(-1, 2, 3, 1))
    grid = torch.linspace(-25, 25, 500_001, dtype=torch.float64)
    density = binned.log_prob(grid[:, None, None, None].expand(-1, 2, 3, 1)[:, :, :1]).exp()[:, :, 0, 0]
    for row in range(2):
        mass = torch.stack([density[grid <= cut, row].sum() * 1e-4 for cut in found[:, row, 0, 0]])
        torch.testing.assert_close(mass, levels, atol=1e-3, rtol=0)


def test_binned_samples_follow_the_density(binned):
    torch.manual_seed(0)
    samples = binned.sample((40_000,))
    assert samples.shape == (40_000, 2, 3, 1)
    error = samples.std(0) / 200
    assert ((samples.mean(0) - binned.mean).abs() < 4 * error).all()
    estimate = -binned.log_prob(samples)
    assert ((estimate.mean(0) - binned.entropy()).abs() < 4 * estimate.std(0) / 200 + 1e-6).all()


def test_binned_score_has_mean_zero():
    """The identity that policy gradients rest on: E grad log p = 0."""
    torch.manual_seed(0)
    logits = torch.randn(1, 1, 1, 6, dtype=torch.float64).requires_grad_()
    zero, one = torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
    policy = Binned(logits, torch.linspace(-1, 1, 5), zero, one, tail=1.0)
    policy.log_prob(policy.sample((100_000,))).mean().backward()
    assert logits.grad.abs().max() < 0.01


def make_autoregressive():
    generator = torch.Generator().manual_seed(0)
    loc = torch.randn(1, 5, 1, generator=generator, dtype=torch.float64)
    scale = 0.5 + torch.rand(1, 5, 1, generator=generator, dtype=torch.float64)
    phi = torch.tensor([0.3, 0.9, -0.5, 0.7, 0.0], dtype=torch.float64)[None, :, None]
    return AutoregressiveNormal(loc, scale, phi)


def joint_of(policy):
    phi, size = policy.correlation[0, :, 0], policy.loc.shape[1]
    covariance = torch.eye(size, dtype=torch.float64)
    for i in range(size):
        for j in range(i + 1, size):
            covariance[i, j] = covariance[j, i] = phi[i + 1 : j + 1].prod()
    scale = policy.scale[0, :, 0]
    return torch.distributions.MultivariateNormal(policy.loc[0, :, 0], covariance * scale[:, None] * scale)


def test_autoregressive_log_probs_sum_to_the_joint_density():
    policy = make_autoregressive()
    value = torch.randn(7, 1, 5, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = policy.log_prob(value).sum((-1, -2))[:, 0]
    torch.testing.assert_close(found, joint_of(policy).log_prob(value[:, 0, :, 0]))
    torch.testing.assert_close(policy.entropy().sum(), joint_of(policy).entropy())


def test_autoregressive_paths_have_the_joint_covariance():
    torch.manual_seed(0)
    policy = make_autoregressive()
    samples = policy.sample((50_000,))[:, 0, :, 0]
    torch.testing.assert_close(samples.T.cov(), joint_of(policy).covariance_matrix, atol=0.04, rtol=0)
    torch.testing.assert_close(samples.mean(0), policy.loc[0, :, 0], atol=0.03, rtol=0)


@pytest.mark.parametrize("head", ["bins", "ar_gaussian"])
def test_heads_are_equivariant_under_scale_and_shift(head):
    output = build_output(head, [0.5])
    parameters = torch.randn(2, 4, 3, output.num_parameters, generator=torch.Generator().manual_seed(0))
    loc, scale = torch.tensor([[[1.0, -2.0, 0.0]]]), torch.tensor([[[2.0, 0.5, 9.0]]])
    plain, moved = output.to_output(parameters, None, None), output.to_output(parameters, loc, scale)
    torch.testing.assert_close(moved.predictions, plain.predictions * scale + loc)
    levels = [0.1, 0.5, 0.9]
    torch.testing.assert_close(
        output.compute_quantiles(moved, levels),
        output.compute_quantiles(plain, levels) * scale[..., None] + loc[..., None],
        atol=1e-4,
        rtol=1e-4,
    )
    value = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        moved.distribution.log_prob(value * scale + loc), plain.distribution.log_prob(value) - scale.log()
    )
