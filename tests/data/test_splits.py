import numpy as np
import pandas as pd
import pytest

from tsllm.data.splits import (
    Borders,
    ByCounts,
    ByDates,
    ByFractions,
    ByLastSteps,
    by_last_windows,
    compute_borders,
    ett_rule,
    split_frame,
)


def series(n, name="a", dated=False):
    times = pd.date_range("2024-01-01", periods=n, freq="h") if dated else np.arange(1, n + 1)
    return pd.DataFrame({"unique_id": name, "ds": times, "y": np.arange(float(n))})


def test_ett_borders_are_those_of_the_field():
    hourly = ett_rule().borders(np.arange(17420))
    assert hourly == Borders(train=8640, validation=11520, test=14400)
    assert ett_rule(4).borders(np.arange(69680)) == Borders(34560, 46080, 57600)


def test_ett_parts_begin_with_the_context_before_them():
    parts = split_frame(series(17420), ett_rule(), context_length=512)
    assert (len(parts.train), len(parts.validation), len(parts.test)) == (8640, 2880 + 512, 2880 + 512)
    assert parts.validation["y"].iloc[0] == 8640 - 512
    assert parts.test["y"].iloc[0] == 11520 - 512
    assert parts.test["y"].iloc[-1] == 14399
    assert parts.unused == 17420 - 14400


@pytest.mark.parametrize("n", [10, 11, 26304, 52696, 7588, 17544, 966])
def test_fractions_round_as_time_series_library_does(n):
    # int(n * 0.7), int(n * 0.2), the rest validation.
    borders = ByFractions(0.7, 0.1, 0.2).borders(np.arange(n))
    train, test = int(n * 0.7), int(n * 0.2)
    assert borders == Borders(train, n - test, n)


def test_whole_products_stay_whole():
    assert ByFractions(0.7, 0.1, 0.2).borders(np.arange(170)) == Borders(119, 136, 170)


def test_fractions_without_validation_leave_nothing_between():
    assert ByFractions(0.8, 0.0, 0.2).borders(np.arange(13)) == Borders(11, 11, 13)


def test_dates_cut_at_the_first_step_not_before_them():
    df = series(48, dated=True)
    times = df["ds"].to_numpy()
    assert ByDates("2024-01-02", "2024-01-02 12:00").borders(times) == Borders(24, 36, 48)
    assert ByDates("2024-01-01 23:30", "2024-01-02 12:00", "2024-01-02 18:00").borders(times) == Borders(24, 36, 42)
    assert ByDates(5, 8).borders(np.arange(1, 11)) == Borders(4, 7, 10)


def test_last_steps_count_from_the_end_of_each_series():
    df = pd.concat([series(10, "a"), series(7, "b")], ignore_index=True)
    parts = split_frame(df, ByLastSteps(test=2, validation=1), context_length=3)
    assert parts.borders == {"a": Borders(7, 8, 10), "b": Borders(4, 5, 7)}
    assert parts.train.groupby("unique_id")["y"].agg(list).to_dict() == {
        "a": [0, 1, 2, 3, 4, 5, 6],
        "b": [0, 1, 2, 3],
    }
    assert parts.validation.groupby("unique_id")["y"].agg(list).to_dict() == {"a": [4, 5, 6, 7], "b": [1, 2, 3, 4]}
    assert parts.test.groupby("unique_id")["y"].agg(list).to_dict() == {"a": [5, 6, 7, 8, 9], "b": [2, 3, 4, 5, 6]}


def test_a_series_with_less_than_the_context_brings_all_it_has():
    parts = split_frame(series(6), ByLastSteps(test=2), context_length=100)
    assert parts.test["y"].tolist() == [0, 1, 2, 3, 4, 5]
    assert parts.validation.empty


def test_rolling_origins_take_exactly_the_steps_they_need():
    assert by_last_windows(3, h=24) == ByLastSteps(test=72)
    assert by_last_windows(3, h=24, step_size=1, validation=5) == ByLastSteps(test=26, validation=5)


def test_targets_of_the_parts_never_overlap_and_no_part_looks_ahead():
    df = series(100)
    for rule in (ByCounts(50, 20, 30), ByFractions(), ByLastSteps(10, 10), ByDates(61, 81)):
        parts = split_frame(df, rule, context_length=0)
        joined = pd.concat([parts.train, parts.validation, parts.test])
        assert joined["y"].tolist() == sorted(joined["y"].tolist())
        assert len(joined) + parts.unused == 100
        assert parts.train["ds"].max() < parts.validation["ds"].min() < parts.test["ds"].min()


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (ByCounts(8, 2, 2), "series 'a': the split needs 8 \\+ 2 \\+ 2 = 12 steps, the series has 10"),
        (ByLastSteps(8, 2), "series 'a': the last 2 \\+ 8 steps .* only 10"),
        (ByDates(8, 5), "series 'a': validation from 8, test from 5"),
        (ByDates(20, 30), "leave parts of 10, 0 and 0 steps"),
    ],
)
def test_a_series_that_cannot_be_split_is_named(rule, text):
    with pytest.raises(ValueError, match=text):
        compute_borders(series(10), rule)


def test_fractions_must_add_up():
    with pytest.raises(ValueError, match="add up to 1"):
        ByFractions(0.7, 0.2, 0.2)
