import numpy as np
import pandas as pd
import pytest

from tsllm.evaluation.backtest import BacktestResult
from tsllm.evaluation.tables import (
    SeriesScales,
    WindowArrays,
    compute_relative,
    compute_step_skill,
    compute_window_losses,
    describe_incomparable,
    describe_unobserved,
    find_incomparable,
    find_incomplete,
    find_ruling_series,
    rank_rows,
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


def make_training():
    """A series that varies, one that repeats its two values exactly, a constant one, one of zeros."""
    varied = [1.0, 3, 1, 5, 1, 3, 2, 4]
    values = {"a": varied, "b": [2.0, 6] * 4, "c": [7.0] * 8, "d": [0.0] * 8}
    return pd.DataFrame(
        [(name, k, y) for name, ys in values.items() for k, y in enumerate(ys)], columns=["unique_id", "ds", "y"]
    )


def test_series_without_variation_have_no_scale_and_are_counted():
    scales = SeriesScales.from_training(make_training(), season=2)
    assert scales.deviation["b"] == 2.0
    assert np.isnan([scales.deviation["c"], scales.deviation["d"]]).all()
    assert np.isnan([scales.seasonal_error[name] for name in "bcd"]).all()
    assert scales.seasonal_error["a"] == pytest.approx((0 + 2 + 0 + 2 + 1 + 1) / 6)
    said = scales.describe_left_out()
    assert said[0].startswith("Scaled errors and tests leave out 2 of 4 series, whose training part is constant")
    assert said[0].endswith(": c, d.")
    assert said[1].startswith("MASE leaves out 3 of 4 series")
    assert SCALES.describe_left_out() == []
    # Rounding of a mean is no variation.
    noisy = pd.DataFrame({"unique_id": "e", "ds": range(3), "y": [0.1 + 0.2, 0.3, 0.3]})
    assert np.isnan(SeriesScales.from_training(noisy, 1).deviation["e"])


def test_windows_without_an_observed_target_are_counted():
    frame = pd.DataFrame(
        {"unique_id": list("aabb"), "ds": [1, 2, 1, 2], "cutoff": [0, 1, 0, 1], "y": [1.0, np.nan] * 2}
    )
    assert describe_unobserved(frame) == [
        "All metrics leave out 2 of 4 windows (counted in each series) without an observed target, of series: a, b."
    ]
    assert describe_unobserved(frame.assign(y=0.0)) == []


def test_scaled_averages_leave_out_what_cannot_be_scaled_and_nothing_else():
    frame = pd.DataFrame({"unique_id": list("abcd"), "ds": 9, "cutoff": 8, "y": [1.0, 2.0, 7.0, 0.0]})
    frame["M"] = frame["y"] + [1.0, 2.0, 300.0, 4.0]
    scales = SeriesScales.from_training(make_training(), season=2)
    row = score(BacktestResult(frame, ["M"], 1, []), scales, None).iloc[0]
    assert row["mae"] == pytest.approx(307 / 4)
    assert row["mase"] == pytest.approx(1 / scales.seasonal_error["a"])
    assert row["scaled_mae"] == pytest.approx((1 / scales.deviation["a"] + 2 / 2) / 2)
    assert row["scaled_mse"] == pytest.approx((1 / scales.deviation["a"] ** 2 + 4 / 4) / 2)
    arrays = WindowArrays.of(frame, ["M"], 1).in_scaled_units(scales)
    assert arrays.series.tolist() == ["a", "b"]
    assert compute_window_losses(arrays)["M"].tolist() == pytest.approx([1 / scales.deviation["a"], 1.0])


def test_relative_error_is_the_geometric_mean_over_series_whatever_their_units():
    arrays = WindowArrays.of(make_result().frame, ["SeasonalNaive", "Good"], 2)
    assert compute_relative(arrays, "SeasonalNaive") == {"SeasonalNaive": 1.0, "Good": pytest.approx(0.5)}
    frame = pd.DataFrame({"unique_id": list("abcd"), "ds": 1, "cutoff": 0, "y": 0.0})
    frame["Base"], frame["M"] = [1.0, 100.0, 0.0, 0.0], [0.5, 25.0, 0.0, 9.0]
    # Ratios .5 and .25; where the baseline is perfect there is none.
    found = compute_relative(WindowArrays.of(frame, ["Base", "M"], 1), "Base")
    assert found == {"Base": 1.0, "M": pytest.approx((0.5 * 0.25) ** 0.5)}
    with pytest.raises(ValueError, match="'Nobody' is none of"):
        compute_relative(WindowArrays.of(frame, ["M"], 1), "Nobody")


def test_a_series_without_error_of_the_reference_or_constant_in_training_ranks_nobody_and_is_counted():
    frame = pd.DataFrame({"unique_id": list("abcd"), "ds": 9, "cutoff": 8, "y": [1.0, 2.0, 0.3, 5.0]})
    frame["SeasonalNaive"] = frame["y"] + [1.0, 1.0, 4e-17, 1.0]  # c: rounding only
    frame["M"] = frame["y"] + [0.5, 0.25, 300.0, 40.0]  # d: constant in training
    scales = SeriesScales({"a": 1.0, "b": 1.0, "c": 1.0, "d": np.nan}, dict.fromkeys("abcd", 1.0))
    arrays = WindowArrays.of(frame, ["SeasonalNaive", "M"], 1)
    assert find_incomparable(arrays, "SeasonalNaive", scales) == ["c", "d"]
    assert describe_incomparable(arrays, "SeasonalNaive", scales) == [
        "The relative MAE leaves out 2 of 4 series, where SeasonalNaive makes no error or the training part is "
        "constant: c, d."
    ]
    table = score(BacktestResult(frame, ["SeasonalNaive", "M"], 1, []), scales).set_index("model")
    assert table.loc["M", "relative_mae"] == pytest.approx((0.5 * 0.25) ** 0.5)
    assert table.loc["SeasonalNaive", "relative_mae"] == 1.0
    plain = WindowArrays.of(make_result().frame, ["SeasonalNaive", "Good"], 2)
    assert describe_incomparable(plain, "SeasonalNaive", SCALES) == []
    constant = SeriesScales(dict.fromkeys("abcd", np.nan), {})
    assert np.isnan(
        compute_relative(arrays, "SeasonalNaive", find_incomparable(arrays, "SeasonalNaive", constant))["M"]
    )


def test_a_model_that_lacks_windows_stands_last_and_saves_only_on_what_it_shares():
    result = make_result()
    result.frame["SeasonalNaive"] += np.repeat(
        [96.0, 0.0, 0.0, 0.0], 2
    )  # 100 off at the first window, 4 at the others
    result.frame["Good"] = result.frame["y"] + 1.0
    result.frame.loc[:1, "Good"] = np.nan
    table = score(result, SCALES)
    assert table.set_index("model").loc["Good", "skill"] == 0.75  # 1 - 1 / 4, not 1 - 1 / 28
    ranked = rank_rows(table, "mae")
    assert ranked["model"].tolist() == ["SeasonalNaive", "Good"]
    assert ranked["mae"].tolist() == [28.0, 1.0]
    assert find_incomplete(ranked) == ["Good"]
    assert ranked.columns.tolist() == table.columns.tolist()


def test_one_series_that_rules_the_scaled_errors_is_named():
    losses = pd.DataFrame({"unique_id": list("abcd") * 2, "cutoff": [0] * 4 + [1] * 4})
    losses["M"] = [1.0, 1, 1, 9, 1, 1, 1, 9]
    assert find_ruling_series(losses) == ("d", pytest.approx(0.75))
    assert find_ruling_series(losses.assign(M=1.0)) is None
    assert find_ruling_series(losses[losses["unique_id"] > "b"]) is None
