import numpy as np
import pandas as pd
import torch

from tests.models.properties import build, draw, forecast
from tsllm.forecasting.neural import NeuralForecaster
from tsllm.models.dlinear import DLinearConfig
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


def test_taking_off_the_last_value_lets_the_level_move():
    model, x = randomised(subtract_last=True), draw()
    level = torch.tensor([100.0, -7.0, 0.5])
    torch.testing.assert_close(forecast(model, x + level), forecast(model, x) + level, atol=1e-4, rtol=1e-4)
    plain = randomised()
    plain.load_state_dict(model.state_dict())
    last = x[:, -1:]
    torch.testing.assert_close(forecast(model, x), forecast(plain, x - last) + last, atol=1e-5, rtol=1e-4)


def test_every_level_of_a_quantile_head_moves_with_the_last_value():
    model, x = randomised(subtract_last=True, head="quantile"), draw()
    moved, still = model(x + 3.0), model(x)
    torch.testing.assert_close(moved.quantiles, still.quantiles + 3.0, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(moved.extras["trend"], still.extras["trend"] + 3.0, atol=1e-4, rtol=1e-4)


def test_new_forecasters_take_off_the_last_value_unless_told_otherwise():
    y = np.random.default_rng(0).normal(size=60)
    df = pd.DataFrame({"unique_id": "a", "ds": pd.date_range("2024", periods=60), "y": y})
    given = {"max_steps": 1}
    default = NeuralForecaster("dlinear", h=2, context_length=8, training=given).fit(df)
    told = NeuralForecaster("dlinear", h=2, context_length=8, subtract_last=False, training=given).fit(df)
    assert default.model.config.subtract_last
    assert not told.model.config.subtract_last
    assert not DLinearConfig().subtract_last
