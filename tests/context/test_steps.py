"""Spans on steps of a month and longer: half of a step decides."""

import numpy as np
import pandas as pd
import pytest

from tsllm.context import steps
from tsllm.context.applying import Window
from tsllm.context.readers import sort_effects


def read(text, freq, periods=12):
    times = pd.date_range("2022-01-01", periods=24 + periods, freq=freq)
    window = Window(np.arange(24.0), times[:24], times[24:], 1)
    effects, idle = sort_effects(text, window)
    steps = [t for t in window.future_times if any(e.covers(pd.DatetimeIndex([t]))[0] for e in effects)]
    return " | ".join(map(str, effects)), [f"{t:%Y-%m-%d}" for t in steps], "; ".join(why for _, why in idle)


@pytest.mark.parametrize(
    ("freq", "june", "july"), [("MS", "2024-06-01", "2024-07-01"), ("ME", "2024-06-30", "2024-07-31")]
)
def test_the_month_of_which_half_is_meant_is_meant(freq, june, july):
    for text in ("Closed from 2024-06-10 to 2024-07-10.", "Closed from 10 June to 10 July."):
        effects, covered, why = read(text, freq)
        assert effects == f"set 0 from {june} to {july}"
        assert covered == [june]
        assert why == f"10 of the 31 days of the step {july} are less than half of it"
    assert read("Closed from 2024-06-16 to 2024-07-16.", freq)[1] == [june, july]  # 15 of 30, 16 of 31
    assert read("Closed from 2024-06-17 to 2024-07-15.", freq)[1] == []  # 14 of 30, 15 of 31
    assert read("Closed in June.", freq) == (f"set 0 from {june} to {july}", [june], "")


@pytest.mark.parametrize(("freq", "july"), [("MS", "2024-07-01"), ("ME", "2024-07-31")])
def test_a_span_of_half_of_no_month_changes_nothing_and_that_is_said(freq, july):
    effects, covered, why = read("Closed from 2024-07-01 to 2024-07-02.", freq)
    assert (effects, covered) == ("", [])
    assert why == f"2 of the 31 days of the step {july} are less than half of it; say what happens to the whole step"
    assert read("Closed from 2024-06-30 to 2024-07-01.", freq)[:2] == ("", [])
    assert read("Closed every Monday.", freq)[1] == []


def test_what_is_over_is_told_from_the_first_day_of_the_first_month():
    assert read("Closed from 2024-01-02 to 2024-01-25.", "ME")[1] == ["2024-01-31"]
    assert read("Closed from 2024-01-02 to 2024-01-25.", "MS")[1] == ["2024-01-01"]
    assert read("Closed from 2023-12-02 to 2023-12-25.", "ME")[2].endswith("over before the forecast")


def test_an_open_span_holds_from_the_month_of_which_half_is_left():
    assert read("Output is capped at 9 from 2024-06-20.", "MS")[0] == "cap 9 from 2024-07-01"
    assert read("Output is capped at 9 from 2024-06-10.", "ME")[0] == "cap 9 from 2024-06-30"
    assert read("Output is capped at 9 until 2024-03-20.", "MS")[0] == "cap 9 to 2024-04-01"
    assert read("Output is capped at 9.", "MS")[0] == "cap 9"


@pytest.mark.parametrize(
    ("freq", "text", "covered"),
    [
        ("QS", "Closed from 2024-05-01 to 2024-06-30.", ["2024-04-01"]),
        ("QE", "Closed from 2024-05-01 to 2024-06-30.", ["2024-06-30"]),
        ("QS", "Closed from 2024-05-20 to 2024-06-30.", []),
        ("YS", "Closed from 2026-07-01 to 2027-06-30.", ["2026-01-01"]),
        ("YE", "Closed from 2026-07-01 to 2027-06-30.", ["2026-12-31"]),
    ],
)
def test_quarters_and_years_count_alike(freq, text, covered):
    times = pd.date_range("2016-01-01", periods=44, freq=freq) if freq[0] == "Q" else None
    if times is None:
        times = pd.date_range("1990-01-01", periods=44, freq=freq)
    window = Window(np.arange(32.0), times[:32], times[32:], 1)
    effects, _ = sort_effects(text, window)
    found = [t for t in window.future_times if any(e.covers(pd.DatetimeIndex([t]))[0] for e in effects)]
    assert [f"{t:%Y-%m-%d}" for t in found] == covered


@pytest.mark.parametrize("freq", ["h", "D", "W-SUN", "28D"])
def test_shorter_steps_stay_as_they_are(freq):
    times = pd.date_range("2024-01-01", periods=20, freq=freq)
    assert not steps.are_long(times)
    effects, _ = sort_effects(
        "Closed from 2024-01-01 to 2026-01-01.", Window(np.arange(10.0), times[:10], times[10:], 1)
    )
    assert list(map(str, effects)) == ["set 0 from 2024-01-01 to 2026-01-02"]
