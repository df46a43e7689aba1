import numpy as np
import pytest
import torch

from tsllm.data.loading import load_frame
from tsllm.data.scaling import StandardScaler
from tsllm.data.windows import WindowDataset
from tsllm.models import build_model
from tsllm.training.scores import (
    COLUMNS,
    CRPS_LEVELS,
    QUANTILE_COLUMNS,
    compute_scores,
    find_window_scales,
    reduce_scores,
    score_seasonal_naive,
)


def forecast(head="point", batch=3, length=8, horizon=4, channels=2):
    model = build_model(
        "dlinear", context_length=length, prediction_length=horizon, num_channels=channels, moving_average=3, head=head
    ).eval()
    target = torch.randn(batch, horizon, channels)
    target[0, 1, 0] = torch.nan
    with torch.no_grad():
        return model, model(torch.randn(batch, length, channels), target), target


def test_sums_agree_with_a_slow_loop_over_windows_channels_and_steps():
    model, output, target = forecast()
    scores = compute_scores(model, output, target).numpy()
    scale = np.array([[2.0, 5.0]] * 3)
    found = reduce_scores(scores, scale)
    squared, absolute, squared_original, absolute_original = [], [], [], []
    for b in range(3):
        for c in range(2):
            for h in range(4):
                if not np.isnan(float(target[b, h, c])):
                    error = float(output.predictions[b, h, c]) - float(target[b, h, c])
                    squared.append(error**2)
                    absolute.append(abs(error))
                    squared_original.append((error * scale[b, c]) ** 2)
                    absolute_original.append(abs(error * scale[b, c]))
    assert len(squared) == 23
    assert found["mse"] == pytest.approx(np.mean(squared), rel=1e-6)
    assert found["mae"] == pytest.approx(np.mean(absolute), rel=1e-6)
    assert found["mse_original"] == pytest.approx(np.mean(squared_original), rel=1e-6)
    assert found["mae_original"] == pytest.approx(np.mean(absolute_original), rel=1e-6)
    assert found["loss"] == pytest.approx(float(output.loss), rel=1e-6)


def test_distributional_heads_add_crps_and_coverage():
    model, output, target = forecast("gaussian")
    found = reduce_scores(compute_scores(model, output, target).numpy())
    quantiles = model.compute_quantiles(output, list(CRPS_LEVELS)).double()
    seen = ~torch.isnan(target)
    error = target.double()[..., None] - quantiles
    tau = torch.tensor(CRPS_LEVELS, dtype=torch.float64)
    pinball = torch.maximum(tau * error, (tau - 1) * error).mean(-1)[seen]
    assert found["crps"] == pytest.approx(2 * float(pinball.mean()), rel=1e-6)
    inside = (target >= quantiles[..., 0]) & (target <= quantiles[..., -1])
    assert found["coverage_80"] == pytest.approx(float(inside[seen].double().mean()), rel=1e-6)
    assert compute_scores(model, output, target).shape == (3, 2, len(COLUMNS) + len(QUANTILE_COLUMNS))


def test_a_part_without_targets_cannot_be_scored():
    with pytest.raises(ValueError, match="no target"):
        reduce_scores(np.zeros((2, 1, len(COLUMNS))))


def test_a_forecast_that_is_no_number_shows_in_the_score():
    model, output, target = forecast()
    output.predictions[1, 0, 0] = torch.nan
    assert np.isnan(reduce_scores(compute_scores(model, output, target).numpy())["mse"])


def test_seasonal_naive_repeats_the_last_season(series_csv):
    df = load_frame(series_csv).df
    scaler = StandardScaler().fit(df)
    windows = WindowDataset(scaler.transform(df), 48, 30, stride=7)
    found = score_seasonal_naive(windows, 24, scaler)
    errors, original = [], []
    for window in range(len(windows)):
        item = windows[window]
        for h in range(30):
            error = item["past_values"][24 + h % 24] - item["future_values"][h]
            errors += error.tolist()
            original += (error.numpy() * scaler.loc_scale(["s0", "s1"])[1]).tolist()
    assert found["mse"] == pytest.approx(np.mean(np.square(errors)), rel=1e-5)
    assert found["mae_original"] == pytest.approx(np.mean(np.abs(original)), rel=1e-5)
    assert score_seasonal_naive(windows, 49, scaler) is None


def test_each_series_of_a_univariate_set_has_its_own_scale(series_csv):
    df = load_frame(series_csv).df
    scaler = StandardScaler().fit(df)
    windows = WindowDataset(scaler.transform(df), 48, 12, layout="univariate")
    scales = find_window_scales(windows, scaler)
    half = len(windows) // 2
    s0, s1 = scaler.loc_scale(["s0", "s1"])[1]
    assert scales.shape == (len(windows), 1)
    assert np.allclose(scales[:half], s0)
    assert np.allclose(scales[half:], s1)
