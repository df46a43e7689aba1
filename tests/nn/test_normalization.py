import pytest
import torch

from tsllm.nn.normalization import InstanceNorm, compute_masked_moments


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=[{}, {"affine": True}, {"subtract_last": True}, {"affine": True, "subtract_last": True}])
def norm(request):
    norm = InstanceNorm(3, **request.param)
    if norm.weight is not None:
        torch.nn.init.normal_(norm.weight, 1.0, 0.2)
        torch.nn.init.normal_(norm.bias)
    return norm


def test_moments_equal_those_of_the_observed_entries():
    x, mask = 3 * draw(2, 20, 3) + 7, draw(2, 20, 3, seed=1) > 0
    mean, variance = compute_masked_moments(x, mask)
    for b in range(2):
        for c in range(3):
            seen = x[b, :, c][mask[b, :, c]]
            torch.testing.assert_close(mean[b, 0, c], seen.mean())
            torch.testing.assert_close(variance[b, 0, c], seen.var(unbiased=False))


def test_loc_and_scale_undo_the_whole_step(norm):
    x = 50 * draw(2, 20, 3) - 300
    normalised, loc, scale = norm(x)
    torch.testing.assert_close(normalised * scale + loc, x, rtol=1e-5, atol=1e-3)


def test_a_window_is_normalised_to_mean_zero_and_deviation_one():
    normalised, _, _ = InstanceNorm()(50 * draw(2, 20, 3) - 300)
    torch.testing.assert_close(normalised.mean(1), torch.zeros(2, 3), atol=1e-4, rtol=0)
    torch.testing.assert_close(normalised.var(1, unbiased=False), torch.ones(2, 3), atol=1e-4, rtol=0)


def test_scale_and_shift_of_the_input_disappear(norm):
    x = draw(2, 20, 3)
    first, loc, scale = norm(x)
    second, moved_loc, moved_scale = norm(4 * x + 9)
    torch.testing.assert_close(second, first, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(moved_scale, 4 * scale, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(moved_loc, 4 * loc + 9, rtol=1e-4, atol=1e-3)


def test_subtracting_the_last_value_centres_on_the_last_observed_step():
    x = torch.tensor([1.0, 5.0, 2.0, 9.0]).view(1, 4, 1)
    mask = torch.tensor([True, True, True, False]).view(1, 4, 1)
    assert InstanceNorm(subtract_last=True)(x)[1].item() == 9
    assert InstanceNorm(subtract_last=True)(x, mask)[1].item() == 2


def test_unobserved_entries_have_no_say_and_stand_at_the_centre():
    x, mask = draw(2, 20, 1), draw(2, 20, 1, seed=1) > 0
    first = InstanceNorm()(x, mask)
    second = InstanceNorm()(torch.where(mask, x, 1e6), mask)
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b)
    assert (first[0][~mask] == 0).all()


def test_a_constant_window_stays_finite():
    normalised, loc, scale = InstanceNorm()(torch.full((1, 10, 1), 3.0))
    assert (normalised == 0).all()
    assert loc.item() == 3
    assert scale.item() == pytest.approx(1e-5**0.5)


def test_the_input_stays_as_it_is_and_nothing_of_a_batch_is_kept():
    norm, x = InstanceNorm(), draw(2, 20, 3)
    copy, before = x.clone(), set(vars(norm))
    norm(x)
    assert torch.equal(x, copy)
    assert set(vars(norm)) == before
