"""Every output head: exact de-normalisation, ordered quantiles, values by hand."""

import math

import pytest
import torch
from scipy import stats

from tsllm.nn.heads import OUTPUTS, HeadOutput, build_output

LEVELS = [0.1, 0.25, 0.5, 0.75, 0.9]
DISTRIBUTIONAL = [name for name in OUTPUTS.names() if name != "point"]


def draw(head, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 4, 3, head.num_parameters, generator=generator)


def build(name):
    return build_output(name, LEVELS)


@pytest.mark.parametrize("name", OUTPUTS.names())
def test_loc_and_scale_move_forecast_and_quantiles_exactly(name):
    head = build(name)
    loc, scale = torch.randn(2, 1, 3), torch.rand(2, 1, 3) + 0.5
    plain, moved = head.to_output(draw(head), None, None), head.to_output(draw(head), loc, scale)
    torch.testing.assert_close(moved.predictions, plain.predictions * scale + loc, atol=1e-5, rtol=1e-5)
    if name in DISTRIBUTIONAL:
        before, after = head.compute_quantiles(plain, LEVELS), head.compute_quantiles(moved, LEVELS)
        expected = before * scale.unsqueeze(-1) + loc.unsqueeze(-1)
        torch.testing.assert_close(after, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", DISTRIBUTIONAL)
def test_quantiles_ascend_and_the_forecast_lies_among_them(name):
    head = build(name)
    output = head.to_output(draw(head), torch.zeros(2, 1, 3), torch.full((2, 1, 3), 7.0))
    quantiles = head.compute_quantiles(output, LEVELS)
    assert quantiles.shape == (2, 4, 3, 5)
    assert (quantiles.diff(dim=-1) >= 0).all()
    torch.testing.assert_close(quantiles[..., 2], output.predictions, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", [n for n in DISTRIBUTIONAL if n != "quantile"])
def test_a_negative_scale_keeps_deviations_positive(name):
    head = build(name)
    output = head.to_output(draw(head), torch.zeros(2, 1, 3), torch.full((2, 1, 3), -2.0))
    assert (head.compute_quantiles(output, LEVELS).diff(dim=-1) > 0).all()


@pytest.mark.parametrize("name", [n for n in DISTRIBUTIONAL if n != "quantile"])
def test_the_share_of_samples_below_a_quantile_is_its_level(name):
    head = build(name)
    output = head.to_output(draw(head)[:1, :1, :1], None, None)
    torch.manual_seed(0)
    samples = output.distribution.sample((20_000,)).flatten()
    for level, quantile in zip(LEVELS, head.compute_quantiles(output, LEVELS).flatten(), strict=True):
        assert (samples <= quantile).float().mean().item() == pytest.approx(level, abs=0.02)


def test_a_gaussian_has_the_deviation_of_its_softplus():
    output = build("gaussian").to_output(
        torch.tensor([[[[1.0, 0.0]]]]), torch.tensor([[[5.0]]]), torch.tensor([[[2.0]]])
    )
    assert output.distribution.mean.item() == 7
    assert output.distribution.stddev.item() == pytest.approx(2 * (math.log(2) + 1e-3))


def test_a_students_quantiles_are_scipys():
    head = build("student_t")
    output = head.to_output(draw(head), None, None)
    d = output.distribution
    expected = stats.t.ppf(0.9, d.df.numpy(), d.loc.numpy(), d.scale.numpy())
    torch.testing.assert_close(head.compute_quantiles(output, [0.9])[..., 0], torch.tensor(expected).float())
    assert (d.df > 2).all()


def test_crossing_quantiles_are_put_in_order():
    parameters = torch.tensor([3.0, 1.0, 2.0]).view(1, 1, 1, 3)
    output = build_output("quantile", [0.1, 0.5, 0.9]).to_output(parameters, None, None)
    assert output.quantiles.flatten().tolist() == [1, 2, 3]
    assert output.predictions.item() == 2


def test_a_level_between_trained_ones_is_interpolated_and_one_outside_refused():
    head = build_output("quantile", [0.1, 0.5, 0.9])
    output = HeadOutput(torch.zeros(1, 1, 1), torch.tensor([0.0, 4.0, 5.0]).view(1, 1, 1, 3))
    found = head.compute_quantiles(output, [0.1, 0.2, 0.5, 0.7, 0.9]).flatten()
    torch.testing.assert_close(found, torch.tensor([0.0, 1.0, 4.0, 4.5, 5.0]))
    with pytest.raises(ValueError, match=r"\[0.95\] lie outside the trained range"):
        head.compute_quantiles(output, [0.95])


@pytest.mark.parametrize("levels", [[], [0.5, 0.1], [0.1, 0.9], [0.0, 0.5], [0.5, 0.5]])
def test_levels_that_make_no_head_are_refused(levels):
    with pytest.raises(ValueError, match="quantile_levels must ascend"):
        build_output("quantile", levels)


def test_a_point_head_says_how_to_get_quantiles():
    head = build("point")
    with pytest.raises(ValueError, match="head: quantile"):
        head.compute_quantiles(head.to_output(draw(head), None, None), [0.1])


def test_an_option_that_a_head_does_not_have_is_an_error():
    with pytest.raises(TypeError, match="min_sigma"):
        build_output("gaussian", LEVELS, {"min_sigma": 0.1})
