import pytest
import torch

from tests.models.properties import build, check_channel_independence, check_equivariance, draw, forecast
from tsllm.models.unet_tsf import compute_pooled_lengths
from tsllm.nn.normalization import InstanceNorm

VARIANTS = [{"num_stages": 1}, {"num_stages": 3}, {"num_stages": 3, "individual": True}, {"pool_padding": 1}]


@pytest.mark.parametrize("options", VARIANTS)
def test_channels_are_independent_and_scale_and_shift_carry_over(options):
    model = build("unet_tsf", **({"num_stages": 2} | options))
    with torch.no_grad():
        model.norm.weight.normal_(1, 0.2)
        model.norm.bias.normal_()
    check_channel_independence(model)
    check_equivariance(model)


def test_one_stage_is_one_linear_map():
    model, x = build("unet_tsf", num_stages=1), draw()
    normalised, loc, scale = InstanceNorm()(x)
    expected = model.down[0](normalised.transpose(1, 2)).transpose(1, 2) * scale + loc
    torch.testing.assert_close(forecast(model, x), expected, atol=1e-5, rtol=1e-5)


def test_the_forecast_is_affine_at_fixed_statistics():
    model, x, y = build("unet_tsf", num_stages=3), draw(), draw(seed=1)
    x, y = (InstanceNorm()(z)[0] for z in (x, y))
    model.norm.forward = lambda values, mask=None: (values, None, None)
    mixed = forecast(model, 0.3 * x + 0.7 * y)
    torch.testing.assert_close(mixed, 0.3 * forecast(model, x) + 0.7 * forecast(model, y), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 2, 0), (3, 2, 1), (5, 3, 2), (2, 1, 0)])
def test_the_lengths_are_those_of_average_pooling(kernel, stride, padding):
    x, lengths = torch.zeros(1, 1, 40), [40]
    for _ in range(2):
        x = torch.nn.functional.avg_pool1d(x, kernel, stride, padding)
        lengths.append(x.shape[-1])
    assert compute_pooled_lengths(40, 3, kernel, stride, padding) == lengths


def test_too_many_stages_for_a_horizon_are_refused_with_all_lengths():
    with pytest.raises(ValueError, match=r"num_stages \(5\) pools prediction_length \(8\).*\[8, 3, 1, 0, "):
        build("unet_tsf", num_stages=5, context_length=336)


def test_a_padding_that_pooling_cannot_take_is_refused():
    with pytest.raises(ValueError, match=r"pool_padding \(2\)"):
        build("unet_tsf", pool_padding=2)
