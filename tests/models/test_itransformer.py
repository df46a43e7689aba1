import pytest
import torch

from tests.models.properties import CHANNELS, LENGTH, NARROW, build, check_equivariance, draw, forecast
from tsllm.models.inputs import Inputs


def marks(batch=2, features=4):
    return torch.rand(batch, LENGTH, features, generator=torch.Generator().manual_seed(7)) - 0.5


@pytest.mark.parametrize("features", [0, 4])
def test_permuting_the_channels_permutes_the_forecast(features):
    model, x, order = build("itransformer", **NARROW, num_time_features=features), draw(), [2, 0, 1]
    more = {"past_time_features": marks()} if features else {}
    torch.testing.assert_close(
        forecast(model, x[..., order], **more), forecast(model, x, **more)[..., order], atol=1e-5, rtol=1e-5
    )


def test_scale_and_shift_carry_over():
    check_equivariance(build("itransformer", **NARROW))


def test_channels_read_one_another_and_the_calendar():
    model, x = build("itransformer", **NARROW, num_time_features=4), draw()
    changed = x.clone()
    changed[..., 1] += 3 * torch.randn(2, LENGTH)
    base = forecast(model, x, past_time_features=marks())
    assert not torch.allclose(base[..., 0], forecast(model, changed, past_time_features=marks())[..., 0])
    assert not torch.allclose(base, forecast(model, x, past_time_features=-marks()))


def test_the_weights_forecast_another_number_of_channels():
    model, wide = build("itransformer", **NARROW), build("itransformer", **NARROW, num_channels=7)
    wide.load_trained_state(model.trained_state())
    assert forecast(wide, draw(channels=7)).shape == (2, 8, 7)


def test_there_is_one_token_a_channel_and_maps_between_them_whose_rows_sum_to_one():
    model = build("itransformer", **NARROW, num_time_features=4, loss="itransformer_orthogonal")
    output = model(draw(), past_time_features=marks())
    assert output.extras["tokens"].shape == (2, CHANNELS, 8)
    maps = model.compute_attention_maps(Inputs(draw(), None, marks(), None, None, None))
    assert [m.shape for m in maps] == [(2, 2, CHANNELS + 4, CHANNELS + 4)] * 2
    for layer in maps:
        torch.testing.assert_close(layer.sum(-1), torch.ones(2, 2, CHANNELS + 4))
    assert build("itransformer", **NARROW)(draw()).extras == {}


@pytest.mark.parametrize("attention", ["additive", {"type": "gated", "value": "full", "gate": "time_linear"}])
def test_any_token_mixer_may_stand_in_for_attention(attention):
    model = build("itransformer", **NARROW, attention=attention)
    assert torch.isfinite(forecast(model, draw())).all()
