"""The measurement of dated reports: nothing is read before it is out, and the errors are those of the cutoffs."""

import numpy as np
import pandas as pd
import pytest

from tsllm.forecasting.naive import SeasonalNaive

DAY = pd.Timedelta(days=1)


@pytest.fixture
def time_mmd(load_script):
    return load_script("time_mmd")


@pytest.fixture
def folder(tmp_path):
    weeks = pd.date_range("2020-01-06", periods=8, freq="7D")
    numbers = pd.DataFrame({"date": weeks[::-1], "OT": [8.0, 7, 6, 5, 4, 3, 2, 1], "start_date": weeks[::-1]})
    reports = {
        "start_date": ["2020-01-13", "2020-01-06", "2020-02-10"],
        "end_date": ["2020-01-17", "2020-01-10", "2020-02-03"],
        "fact": ["Prices fell.", "Prices rose.", "Wrong dates."],
        "preds": ["They rise.", None, None],
    }
    for part, name, table in (
        ("numerical", "Fuel.csv", numbers),
        ("textual", "Fuel_report.csv", pd.DataFrame(reports)),
    ):
        (tmp_path / part / "Fuel").mkdir(parents=True)
        table.to_csv(tmp_path / part / "Fuel" / name, index=False)
    return tmp_path


def test_a_series_is_read_in_order_and_its_rhythm_found(time_mmd, folder):
    df, rhythm = time_mmd.load_series(folder, "Fuel")
    assert rhythm == "W"
    assert df["y"].tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert df["ds"].is_monotonic_increasing


def test_a_report_is_out_a_period_after_its_end_and_about_what_follows(time_mmd, folder):
    texts = time_mmd.load_texts(folder, "Fuel", "7 D", 14 * DAY)
    assert texts["text"].tolist() == ["Prices rose.", "Prices fell.\nThey rise."]
    assert texts["published"].tolist() == [pd.Timestamp("2020-01-18"), pd.Timestamp("2020-01-25")]
    assert (texts["start"] == texts["published"]).all()
    assert (texts["end"] - texts["start"] == 14 * DAY).all()


def test_swapping_changes_the_words_and_no_date(time_mmd, folder):
    texts = time_mmd.load_texts(folder, "Fuel", "7 D", 14 * DAY)
    orders = {tuple(time_mmd.swap(texts, seed)["text"]) for seed in range(20)}
    assert orders == {tuple(texts["text"]), tuple(texts["text"][::-1])}
    assert time_mmd.swap(texts, 0)["published"].equals(texts["published"])


def test_errors_are_those_of_every_cutoff(time_mmd, folder):
    df, _ = time_mmd.load_series(folder, "Fuel")
    found = time_mmd.roll(SeasonalNaive(1).fit(df[:4], 2), df, 2, 3, unit=0.5)
    np.testing.assert_allclose(found["mae"], [[3.0], [3.0], [3.0]])  # 1 and 2 too low, in halves
