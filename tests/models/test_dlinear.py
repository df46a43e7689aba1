import torch

from tests.models.properties import build, draw, forecast
from tsllm.nn.decomposition import SeriesDecomposition

DLINEAR = {"moving_average": 5}


def randomised(**options):
    model = build("dlinear", **(DLINEAR | options))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.2)
    return model


def test_the_forecast_is_affine_in_the_context():
    model, x, y = randomised(), draw(), draw(seed=1)
    mixed = forecast(model, 0.3 * x + 0.7 * y)
    torch.testing.assert_close(mixed, 0.3 * forecast(model, x) + 0.7 * forecast(model, y), atol=1e-5, rtol=1e-4)


def test_with_equal_weights_the_decomposition_is_irrelevant():
    model, x = randomised(), draw()
    model.season.weight.data.copy_(model.trend.weight.data)
    other = randomised(moving_average=25)
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(forecast(other, x), forecast(model, x), atol=1e-5, rtol=1e-4)


def test_shared_maps_follow_the_order_of_the_channels():
    model, x, order = randomised(), draw(), [2, 0, 1]
    torch.testing.assert_close(forecast(model, x[..., order]), forecast(model, x)[..., order])


def test_one_map_a_channel_equals_that_many_models():
    model, x = randomised(individual=True), draw()
    season, trend = SeriesDecomposition(5)(x)
    for c in range(3):
        expected = season[..., c] @ model.season.weight[c].T + model.season.bias[c]
        expected = expected + trend[..., c] @ model.trend.weight[c].T + model.trend.bias[c]
        torch.testing.assert_close(forecast(model, x)[..., c], expected, atol=1e-5, rtol=1e-4)


def test_a_fresh_model_forecasts_with_the_mean_of_the_context():
    model, x = build("dlinear", **DLINEAR), draw()
    for linear in (model.trend, model.season):
        torch.nn.init.zeros_(linear.bias)
    torch.testing.assert_close(forecast(model, x), x.mean(1, keepdim=True).expand(-1, 8, -1), atol=1e-5, rtol=1e-4)


def test_the_trend_branch_is_exposed():
    model, x = randomised(), draw()
    _, trend = SeriesDecomposition(5)(x)
    expected = model.trend(trend.transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(model(x).extras["trend"], expected)
