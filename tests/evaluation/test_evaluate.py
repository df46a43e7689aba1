import doctest

import numpy as np
import pandas as pd
import pytest

import tsllm
from tsllm.evaluation import evaluate as module
from tsllm.types import FrameError


def make_windows():
    """Two series, one window of two steps each; small enough for a hand."""
    frame = pd.DataFrame(
        {
            "unique_id": ["a", "a", "b", "b"],
            "ds": [5, 6, 5, 6],
            "cutoff": 4,
            "y": [10.0, 20.0, 100.0, 300.0],
            "Good": [11.0, 17.0, 102.0, 300.0],  # off by 1, 3, 2, 0
            "Plain": [10.0, 20.0, 100.0, 304.0],
        }
    )
    for level, width in ((80, 2.0), (95, 3.0)):
        frame[f"Good-lo-{level}"], frame[f"Good-hi-{level}"] = frame["Good"] - width, frame["Good"] + width
    return frame


def make_history():
    # Seasonal differences (season 2) up to the cutoff 4: a: 2, 4 -> 3; b: 10, 10 -> 10. Later steps must not count.
    rows = {"a": [1.0, 2.0, 3.0, 6.0, 10.0, 20.0], "b": [10.0, 20.0, 20.0, 30.0, 100.0, 300.0]}
    return pd.concat([pd.DataFrame({"unique_id": k, "ds": np.arange(1, 7), "y": v}) for k, v in rows.items()])


def pinball(error, q):
    """Loss of a quantile that lies `error` below the target."""
    return q * error if error > 0 else (q - 1) * error


def test_metrics_equal_values_worked_by_hand():
    table = tsllm.evaluate(make_windows(), train=make_history(), season=2)
    assert list(table.columns) == [
        *("model", "mae", "rmse", "smape", "mase", "wql", "coverage-80", "coverage-95", "failed")
    ]
    assert list(table["model"]) == ["Good", "Plain"]
    good, plain = table.iloc[0], table.iloc[1]
    assert good["mae"] == 1.5
    assert good["rmse"] == pytest.approx((14 / 4) ** 0.5)
    assert good["smape"] == pytest.approx(200 * (1 / 21 + 3 / 37 + 2 / 202) / 4)
    assert good["mase"] == pytest.approx((1 / 3 + 3 / 3 + 2 / 10 + 0) / 4)
    assert good["coverage-80"] == 0.75  # all but the one that is off by 3
    assert good["coverage-95"] == 1.0
    levels = {0.025: -3.0, 0.1: -2.0, 0.5: 0.0, 0.9: 2.0, 0.975: 3.0}  # quantile -> distance from the forecast
    errors = (-1.0, 3.0, -2.0, 0.0)  # target minus forecast
    losses = [pinball(e - shift, q) for e in errors for q, shift in levels.items()]
    assert good["wql"] == pytest.approx(2 * sum(losses) / len(levels) / 430)
    assert plain["mae"] == 1.0
    assert plain["mase"] == pytest.approx(0.4 / 4)
    assert plain[["wql", "coverage-80", "coverage-95"]].isna().all()
    assert list(table["failed"]) == [0, 0]


def test_the_order_of_rows_does_not_matter():
    frame = make_windows()
    pd.testing.assert_frame_equal(tsllm.evaluate(frame.iloc[[3, 0, 2, 1]]), tsllm.evaluate(frame))


def test_only_the_levels_asked_for_are_scored():
    table = tsllm.evaluate(make_windows(), level=[80])
    assert list(table.columns) == ["model", "mae", "rmse", "smape", "wql", "coverage-80", "failed"]
    levels = {0.1: -2.0, 0.5: 0.0, 0.9: 2.0}
    losses = [pinball(e - shift, q) for e in (-1.0, 3.0, -2.0, 0.0) for q, shift in levels.items()]
    assert table["wql"].iloc[0] == pytest.approx(2 * sum(losses) / 3 / 430)
    assert "wql" not in tsllm.evaluate(make_windows(), level=[])


def test_coverage_is_the_same_upside_down():
    """Both ends of each interval count: here a target lies below one, not above."""
    frame = make_windows()
    mirrored = frame.copy()
    for column in frame.columns.drop(["unique_id", "ds", "cutoff"]):
        swapped = column.replace("-lo-", "-@-").replace("-hi-", "-lo-").replace("-@-", "-hi-")
        mirrored[swapped] = -frame[column]
    columns = ["mae", "wql", "coverage-80", "coverage-95"]
    pd.testing.assert_frame_equal(tsllm.evaluate(mirrored)[columns], tsllm.evaluate(frame)[columns])


@pytest.mark.parametrize("lost", [np.nan, np.inf])
def test_a_window_without_a_complete_forecast_counts_as_failed_and_the_others_are_scored(lost):
    frame = make_windows()
    frame.loc[1, "Good"] = lost
    row = tsllm.evaluate(frame).iloc[0]
    assert (row["failed"], row["mae"], row["coverage-80"]) == (1, 1.0, 1.0)  # series b alone: off by 2 and 0
    frame["Good"] = lost
    row = tsllm.evaluate(frame).iloc[0]
    assert row["failed"] == 2
    assert row[["mae", "wql", "coverage-80"]].isna().all()


def test_series_without_seasonal_differences_are_left_out_of_mase_aloud(caplog):
    history = make_history()
    history.loc[history["unique_id"] == "a", "y"] = 5.0
    table = tsllm.evaluate(make_windows(), train=history, season=2)
    assert table["mase"].iloc[0] == pytest.approx(0.1)  # b: (2 + 0) / 2 / 10
    assert "MASE leaves out 1 of 2 series" in caplog.text


def test_a_back_test_is_scored_as_it_comes():
    y = np.tile([1.0, 5.0], 10) + np.repeat([0.0, 1.0], 10)
    df = pd.DataFrame({"unique_id": "a", "ds": pd.date_range("2024", periods=20, freq="D"), "y": y})
    windows = tsllm.backtest(df, [tsllm.SeasonalNaive(2)], h=2, n_windows=5, level=[80])
    table = tsllm.evaluate(windows, train=df, season=2)
    assert table["mae"].iloc[0] == 0.2  # the rise by 1 at the first cutoff: 1 in one window of five
    assert np.isnan(table["mase"].iloc[0])  # the training part repeats itself exactly


def drop_bound(frame):
    return frame.drop(columns="Good-hi-95")


def repeat_row(frame):
    return pd.concat([frame, frame.tail(1)])


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda f: f.drop(columns="cutoff"), {}, "a back-test frame needs column 'cutoff'"),
        (lambda f: f.rename(columns={"unique_id": "shop"}), {}, "where they have other names, say id_col="),
        (lambda f: f.iloc[:0], {}, "the back-test frame is empty"),
        (lambda f: f[["unique_id", "ds", "cutoff", "y"]], {}, "holds no forecasts"),
        (lambda f: f.assign(note="x"), {}, r"'note' is not numeric .* df.drop\(columns='note'\)"),
        (drop_bound, {}, "the interval of 'Good' is not complete: 'Good-hi-95'"),
        (repeat_row, {}, "series 'b', cutoff 4: time 6 appears twice"),
        (lambda f: f.head(3), {}, "series 'b', cutoff 4: 1 rows, but other windows have 2"),
        (lambda f: f, {"level": [50]}, r"no model has an interval of 50 %; the frame holds the levels \[80.0, 95.0\]"),
        (lambda f: f, {"level": 80}, "level is 80; give a list"),
        (lambda f: f, {"level": ["80"]}, "level holds '80'"),
        (lambda f: f.assign(y=[1.0, np.inf, 2.0, 3.0]), {}, "series 'a', 6: 'y' is infinite"),
        (lambda f: f, {"train": make_history(), "season": "day"}, "season is 'day'"),
        (lambda f: f, {"season": 2}, "season is given without train"),
        (lambda f: f, {"train": make_history()}, "train is given without season"),
        (
            lambda f: f,
            {"train": make_history().query("unique_id == 'a'"), "season": 2},
            "up to the first cutoff of series 'b'",
        ),
    ],
)
def test_what_cannot_be_scored_is_refused(change, options, message):
    with pytest.raises((FrameError, ValueError), match=message):
        tsllm.evaluate(change(make_windows()), **options)


def test_the_example_holds():
    assert doctest.testmod(module).failed == 0
