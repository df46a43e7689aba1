import numpy as np
import pandas as pd
import pytest

from tsllm.data.timefeatures import MARK_NAMES, calendar_marks, feature_names, time_features


def test_values_worked_by_hand():
    # Thursday 2024-02-29, 18:30: day 60 of the year, ISO week 9.
    at = pd.DatetimeIndex(["2024-02-29 18:30:15"])
    minute, hour, weekday, day, year_day = 30 / 59 - 0.5, 18 / 23 - 0.5, 3 / 6 - 0.5, 28 / 30 - 0.5, 59 / 365 - 0.5
    expected = {
        "s": [15 / 59 - 0.5, minute, hour, weekday, day, year_day],
        "15min": [minute, hour, weekday, day, year_day],
        "h": [hour, weekday, day, year_day],
        "D": [weekday, day, year_day],
        "B": [weekday, day, year_day],
        "W-SUN": [day, 8 / 52 - 0.5],
        "MS": [1 / 11 - 0.5],
        "QE-DEC": [1 / 11 - 0.5],
        "YS-JAN": [],
    }
    for freq, values in expected.items():
        assert time_features(at, freq)[0] == pytest.approx(values, abs=1e-6), freq
    assert feature_names("h") == ("hour_of_day", "day_of_week", "day_of_month", "day_of_year")


@pytest.mark.parametrize("freq", ["s", "min", "h", "D", "W-SUN", "ME", "QS-OCT"])
def test_features_reach_from_minus_a_half_to_a_half_and_no_further(freq):
    step = {"s": "7s", "min": "17min", "h": "7h"}.get(freq, freq)
    times = pd.date_range("2000-01-01", "2004-12-31" if freq != "s" else "2000-01-03", freq=step)
    features = time_features(times, freq)
    assert features.dtype == np.float32
    assert features.shape == (len(times), len(feature_names(freq)))
    assert features.min() >= -0.5
    assert features.max() <= 0.5
    assert features[:, 0].min() < -0.45


def test_integer_time_has_zero_width():
    assert time_features(np.arange(5), 1).shape == (5, 0)
    assert calendar_marks(np.arange(5), 1).shape == (5, 0)
    assert feature_names(7) == ()


def test_marks_are_the_calendar_itself():
    assert MARK_NAMES == ("month", "day", "weekday", "hour", "minute")
    times = pd.Series(pd.to_datetime(["2024-02-29 18:30", "2023-12-31 00:00"]))
    assert calendar_marks(times, "30min").tolist() == [[2, 29, 3, 18, 30], [12, 31, 6, 0, 0]]


def test_old_aliases_work():
    assert feature_names("H") == feature_names("h")
    assert feature_names("15T") == feature_names("min")
