import numpy as np
import pandas as pd
import pytest

from tsllm.evaluation.backtest import BacktestResult
from tsllm.evaluation.tables import (
    SeriesScales,
    WindowArrays,
    compute_step_skill,
    compute_window_losses,
    score,
    training_part,
)


def make_result(h=2, level=()):
    """Two series, two windows each, targets and forecasts small enough for a hand."""
    rows = []
    values = {"a": ([10, 12], [11, 9]), "b": ([100, 120], [110, 90])}
    for name, windows in values.items():
        for k, window in enumerate(windows):
            rows += [(name, 10 * k + s + 1, 10 * k, float(y)) for s, y in enumerate(window)]
    frame = pd.DataFrame(rows, columns=["unique_id", "ds", "cutoff", "y"])
    frame["SeasonalNaive"] = frame["y"] + 4
    frame["Good"] = frame["y"] + np.tile([1.0, -3.0], 4)
    for alias in ("SeasonalNaive", "Good") if level else ():
        frame[f"{alias}-lo-80"], frame[f"{alias}-hi-80"] = frame[alias] - 2, frame[alias] + 2
    return BacktestResult(frame, ["SeasonalNaive", "Good"], h, list(level))


SCALES = SeriesScales({"a": 2.0, "b": 20.0}, {"a": 1.0, "b": 10.0})


def test_scores_equal_values_worked_by_hand():
    table = score(make_result(level=[80]), SCALES).set_index("model")
    good = table.loc["Good"]
    assert good["mae"] == 2  # |1|, |-3|
    assert good["mse"] == 5
    assert good["rmse"] == pytest.approx(5**0.5)
    assert good["mase"] == pytest.approx((2 / 1 + 2 / 10) / 2)
    assert good["scaled_mae"] == pytest.approx((2 / 2 + 2 / 20) / 2)
    assert good["scaled_mse"] == pytest.approx((5 / 4 + 5 / 400) / 2)
    assert good["skill"] == 0.5  # 1 - 2 / 4
    assert good["coverage"] == 0.5  # off by 1 inside +-2, off by 3 outside
    assert good["width"] == 4
    assert good["win_rate"] == 1
    assert table.loc["SeasonalNaive", "skill"] == 0
    assert table.loc["SeasonalNaive", "coverage"] == 0
    # Quantiles at 0.1, 0.5, 0.9 around a forecast that is off by 1: pinball .1 * 1, .5 * 1, .1 * 3 -> by hand below.
    off_by_1 = (0.1 * 1 + 0.5 * 1 + 0.1 * 3) / 3
    off_by_3 = (0.1 * 5 + 0.5 * 3 + 0.9 * 1) / 3
    assert good["crps"] == pytest.approx(2 * (off_by_1 + off_by_3) / 2)


def test_failed_windows_are_counted_and_the_rest_is_scored():
    result = make_result()
    result.frame.loc[:1, "Good"] = np.nan
    table = score(result, SCALES).set_index("model")
    assert table.loc["Good", "failed"] == 1
    assert table.loc["Good", "mae"] == 2
    assert table.loc["SeasonalNaive", "failed"] == 0


def test_a_model_that_failed_everywhere_keeps_its_row():
    result = make_result()
    result.frame["Good"] = np.nan
    table = score(result, SCALES).set_index("model")
    assert table.loc["Good", "failed"] == 4
    assert np.isnan(table.loc["Good", "mae"])


def test_step_skill_and_window_losses_by_hand():
    result = make_result()
    arrays = WindowArrays.of(result.frame, result.models, 2)
    steps = compute_step_skill(arrays, "SeasonalNaive")
    assert steps["Good"].tolist() == [0.75, 0.25]
    losses = compute_window_losses(arrays, "mse")
    assert losses["Good"].tolist() == [5.0] * 4
    assert losses["cutoff"].tolist() == [0, 10, 0, 10]
    with pytest.raises(ValueError, match="needs forecasts with intervals"):
        compute_window_losses(arrays, "crps")


def test_rows_in_another_order_are_refused():
    result = make_result()
    with pytest.raises(ValueError, match="sort it by series"):
        WindowArrays.of(result.frame.iloc[[0, 2, 1, 3, 4, 5, 6, 7]], result.models, 2)


def test_scales_come_from_steps_before_the_first_cutoff_only():
    df = pd.DataFrame({"unique_id": "a", "ds": range(1, 9), "y": [1.0, 3, 1, 3, 1, 3, 500, 900]})
    frame = pd.DataFrame({"unique_id": "a", "ds": [7, 8], "cutoff": 6, "y": [500.0, 900], "M": [0.0, 0]})
    train = training_part(df, BacktestResult(frame, ["M"], 2, []))
    scales = SeriesScales.from_training(train, season=1)
    assert scales.deviation == {"a": 1.0}
    assert scales.seasonal_error == {"a": 2.0}
