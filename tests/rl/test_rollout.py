"""The policy that a distribution becomes: nearer to the point forecast, with or without a trained spread."""

import pytest
import torch
from torch.distributions import Gamma, Normal, StudentT

from tsllm.nn.distributions import AutoregressiveNormal, Binned
from tsllm.rl.rollout import build_policy
from tsllm.rl.windows import fold_channels

SHAPE = (2, 5, 3)


def make(name):
    generator = torch.Generator().manual_seed(0)
    loc, scale = torch.randn(SHAPE, generator=generator), 0.5 + torch.rand(SHAPE, generator=generator)
    loc.requires_grad_()
    scale.requires_grad_()
    if name == "normal":
        return Normal(loc, scale), loc, scale
    if name == "student_t":
        return StudentT(torch.full(SHAPE, 5.0), loc, scale), loc, scale
    return AutoregressiveNormal(loc, scale, torch.full(SHAPE, 0.6)), loc, scale


@pytest.mark.parametrize("name", ["normal", "student_t", "ar"])
def test_temperature_scales_the_distance_from_the_point_forecast(name):
    plain, loc, _ = make(name)
    torch.manual_seed(0)
    wide = plain.sample((4,))
    torch.manual_seed(0)
    near = build_policy(plain, temperature=0.25).sample((4,))
    torch.testing.assert_close(near - loc, 0.25 * (wide - loc))


@pytest.mark.parametrize("name", ["normal", "student_t", "ar"])
def test_fixed_spread_trains_the_location_alone(name):
    plain, loc, scale = make(name)
    policy = build_policy(plain, temperature=0.5, fixed_spread=True)
    policy.log_prob(policy.sample((4,))).sum().backward()
    assert loc.grad.abs().sum() > 0
    assert scale.grad is None


def test_plain_policy_is_the_distribution_itself():
    plain, _, _ = make("normal")
    assert build_policy(plain) is plain


def test_colder_bins_are_more_certain():
    logits = torch.randn(2, 5, 3, 8, generator=torch.Generator().manual_seed(0))
    bins = Binned(logits, torch.linspace(-1, 1, 7), torch.zeros(()), torch.ones(()), tail=1.0)
    cold = build_policy(bins, temperature=0.5)
    torch.testing.assert_close(cold.log_weights, (logits / 0.5).log_softmax(-1))
    with pytest.raises(ValueError, match="no spread apart"):
        build_policy(bins, fixed_spread=True)
    with pytest.raises(ValueError, match="Gamma"):
        build_policy(Gamma(torch.ones(SHAPE), torch.ones(SHAPE)), temperature=0.5)


def test_folding_keeps_windows_channels_and_steps_apart():
    values = torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)  # [G, B, H, C]
    rows = fold_channels(values)
    assert rows.shape == (15, 2, 4)
    for b in range(3):
        for c in range(5):
            assert torch.equal(rows[b * 5 + c], values[:, b, :, c])
            assert torch.equal(fold_channels(values[0])[b * 5 + c], values[0, b, :, c])
