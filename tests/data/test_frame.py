import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from utilsforecast.processing import make_future_dataframe

from tsllm.data.frame import check_contexts, fill_gaps, future_frame, infer_freq, to_long, validate_frame
from tsllm.data.frequency import future_times, normalize_freq
from tsllm.types import FrameError


def panel(freq="h", n=6, ids=("a", "b"), start="2024-01-01"):
    """Two series, the second offset by 100."""
    times = pd.date_range(start, periods=n, freq=freq) if isinstance(freq, str) else np.arange(1, n + 1) * freq
    return pd.concat(
        [pd.DataFrame({"unique_id": i, "ds": times, "y": np.arange(n) + 100.0 * k}) for k, i in enumerate(ids)],
        ignore_index=True,
    )


def error_of(df, **kwargs):
    with pytest.raises(FrameError) as caught:
        validate_frame(df, **kwargs)
    return str(caught.value)


@pytest.mark.parametrize(
    ("given_alias", "expected"),
    [("H", "h"), ("15T", "15min"), ("M", "ME"), ("Q", "QE-DEC"), ("A", "YE-DEC"), ("Y", "YE-DEC"),
     ("AS-JUL", "YS-JUL"), ("S", "s"), ("W", "W-SUN"), ("MS", "MS"), ("30min", "30min"), (1, 1), (np.int64(7), 7)],
)  # fmt: skip
def test_old_aliases_become_todays(given_alias, expected):
    assert normalize_freq(given_alias) == expected


@pytest.mark.parametrize("wrong", ["fortnight", "-1h", 0, "", "1.5x"])
def test_what_is_no_frequency_is_refused(wrong):
    with pytest.raises(ValueError, match="freq"):
        normalize_freq(wrong)


@pytest.mark.parametrize(
    "freq", ["h", "15min", "30min", "D", "W-WED", "MS", "ME", "QS-OCT", "QE-DEC", "YS-JAN", "YE-JUN", "B", "2h", "s"]
)
def test_regular_series_give_their_frequency_and_pass(freq):
    df = panel(freq, n=40)
    assert infer_freq(df) == freq
    checked = validate_frame(df)
    pd.testing.assert_frame_equal(checked, df)


@pytest.mark.parametrize("freq", ["h", "D", "W-WED", "MS", "ME", "QS-OCT", "YS-JAN"])
def test_frequency_is_inferred_in_spite_of_gaps_and_the_gap_is_told(freq):
    df = panel(freq, n=12).drop(index=[3, 4, 8]).reset_index(drop=True)
    assert infer_freq(df) == freq
    message = error_of(df)
    assert "series 'a', row 3: gap, 2 step(s)" in message
    assert "(3 in the whole frame)" in message
    assert "fill_gaps(df, freq=" in message


def test_filling_the_gaps_as_the_message_says_gives_a_valid_frame():
    whole = panel("h", n=12)
    holed = whole.drop(index=[3, 4, 8]).reset_index(drop=True)
    filled = validate_frame(fill_gaps(holed))
    expected = whole.copy()
    expected.loc[[3, 4, 8], "y"] = np.nan
    pd.testing.assert_frame_equal(filled, expected, check_dtype=False)


def test_integer_time_with_a_step():
    df = panel(freq=5, n=4)
    assert infer_freq(df) == 5
    assert "gap, 1 step(s) of freq 5 (inferred)" in error_of(df.drop(index=1))
    assert validate_frame(df, freq=5)["ds"].tolist() == [5, 10, 15, 20] * 2


def test_rows_are_sorted_by_series_and_time_stays_as_given():
    df = panel(ids=("b", "a"))
    checked = validate_frame(df)
    assert checked["unique_id"].tolist() == ["a"] * 6 + ["b"] * 6
    assert checked["y"].tolist() == [100.0, 101, 102, 103, 104, 105, 0, 1, 2, 3, 4, 5]
    interleaved = df.sort_values("ds", kind="stable")
    pd.testing.assert_frame_equal(validate_frame(interleaved), checked)


def test_the_frame_given_is_not_changed():
    df = panel()
    before = df.copy()
    checked = validate_frame(df)
    checked.loc[:, "y"] = 0
    pd.testing.assert_frame_equal(df, before)


def test_wide_frames_with_date_become_long():
    wide = pd.DataFrame({"date": ["2024-01-01 00:00", "2024-01-01 01:00"], "OT": [1, 2], "HUFL": [3, 4]})
    long = validate_frame(wide, freq="H")
    assert long["unique_id"].tolist() == ["HUFL", "HUFL", "OT", "OT"]
    assert long["y"].tolist() == [3.0, 4.0, 1.0, 2.0]
    assert long["ds"].tolist() == [pd.Timestamp("2024-01-01 00:00"), pd.Timestamp("2024-01-01 01:00")] * 2


def test_wide_covariates_go_along_with_every_series():
    wide = pd.DataFrame({"ds": [1, 2], "a": [1.0, 2.0], "b": [3.0, 4.0], "x": [5.0, 6.0]})
    long = to_long(wide, covariates=["x"])
    assert long.to_numpy().tolist() == [["a", 1, 1.0, 5.0], ["a", 2, 2.0, 6.0], ["b", 1, 3.0, 5.0], ["b", 2, 4.0, 6.0]]
    assert to_long(wide, targets=["b"])["y"].tolist() == [3.0, 4.0]


def test_a_long_frame_keeps_named_covariates_only_or_all():
    df = panel().assign(x=1.0, z=2.0)
    assert list(validate_frame(df).columns) == ["unique_id", "ds", "y", "x", "z"]
    assert list(validate_frame(df, covariates=["z"]).columns) == ["unique_id", "ds", "y", "z"]


def test_missing_targets_and_constant_series_are_allowed():
    df = panel()
    df["y"] = 7.0
    df.loc[2, "y"] = np.nan
    assert validate_frame(df)["y"].isna().tolist() == [False, False, True] + [False] * 9


def test_duplicates_name_series_and_row():
    df = pd.concat([panel(), panel().iloc[[8]]], ignore_index=True)
    assert "series 'b', row 12: ds 2024-01-01 02:00:00 appears twice (1 duplicate rows in all)" in error_of(df)


def test_unsorted_time_names_series_and_row():
    df = panel()
    df.loc[[7, 8]] = df.loc[[8, 7]].to_numpy()
    message = error_of(df)
    assert message.startswith("series 'b', row 8: time is not sorted, 2024-01-01 01:00:00 follows 2024-01-01 02:00:00")
    assert "sort_values" in message
    assert len(validate_frame(df.sort_values(["unique_id", "ds"]))) == 12


def test_mixed_frequency_between_series():
    a, b = panel("h", ids=("a",)), panel("30min", ids=("b",))
    message = error_of(pd.concat([a, b], ignore_index=True))
    assert (
        "series 'b', row 7: mixed frequency, ds 2024-01-01 00:30:00 is off the axis of freq 'h' (inferred)" in message
    )
    a, b = panel("30min", ids=("a",)), panel("h", ids=("b",))
    message = error_of(pd.concat([a, b], ignore_index=True))
    assert "series 'b', row 7: mixed frequency, it steps by 2 times freq '30min' (inferred)" in message


def test_mixed_frequency_within_a_series():
    times = [
        *pd.date_range("2024-01-01", periods=5, freq="30min"),
        *pd.date_range("2024-01-01 03:00", periods=5, freq="h"),
    ]
    df = pd.DataFrame({"unique_id": "a", "ds": times, "y": 1.0})
    assert "series 'a', row 5: mixed frequency, it steps by 2" in error_of(df)
    uneven = pd.DataFrame({"unique_id": "a", "ds": ["2024-01-01", "2024-01-02 01:00", "2024-01-09"], "y": 1.0})
    assert "fit no frequency" in error_of(uneven)


def test_a_frequency_that_does_not_fit_is_told():
    assert "row 1: mixed frequency" in error_of(panel("h"), freq="D")
    assert "steps by 2 times freq 'h'" in error_of(panel("2h"), freq="h")
    assert "dated time" in error_of(panel("h"), freq=1)
    assert "integer time" in error_of(panel(1), freq="h")
    assert "off the axis of freq 'W-SUN'" in error_of(panel("W-MON"), freq="W-SUN")
    assert "off the axis of freq 'MS'" in error_of(panel("ME"), freq="MS")


def test_infinities_and_text_and_missing_covariates_name_series_row_and_column():
    df = panel().assign(x=1.0)
    df.loc[9, "y"] = -np.inf
    assert "series 'b', row 9: column 'y' is infinite (-inf)" in error_of(df)
    df = panel().assign(x=1.0)
    df.loc[4, "x"] = np.nan
    assert "series 'a', row 4: covariate 'x' is missing" in error_of(df)
    df = panel().astype({"y": object})
    df.loc[7, "y"] = "n/a"
    assert "series 'b', row 7: column 'y' is not numeric (found 'n/a'" in error_of(df)
    assert "column 'x' is not numeric" in error_of(panel().assign(x="Monday"))


def test_missing_and_doubled_columns_are_told():
    assert "a long frame needs column 'y'; found columns ['unique_id', 'ds', 'value']" in error_of(
        panel().rename(columns={"y": "value"})
    )
    assert "needs column 'ds'" in error_of(pd.DataFrame({"timestamp": [1, 2], "a": [1, 2]}))
    assert "column 'y' appears twice" in error_of(pd.concat([panel(), panel()[["y"]]], axis=1))
    assert "needs column 'wind'" in error_of(panel(), covariates=["wind"])
    assert "but this one has 'unique_id'" in error_of(panel(), targets=["y"])
    assert "at least one series" in error_of(pd.DataFrame({"ds": [1, 2]}))


def test_empty_frames_missing_ids_and_missing_times_are_told():
    assert "empty" in error_of(panel().iloc[:0])
    df = panel()
    df.loc[3, "unique_id"] = None
    assert "row 3: 'unique_id' is missing" in error_of(df)
    df = panel()
    df.loc[8, "ds"] = pd.NaT
    assert "series 'b', row 8: 'ds' is missing" in error_of(df)


def test_short_series_are_told_with_what_they_have():
    df = pd.concat([panel(n=10, ids=("a",)), panel(n=7, ids=("b",))])
    message = error_of(df, min_length=8)
    assert "series 'b' has 7 steps, context_length + prediction_length is 8 (1 of 2 series" in message
    assert len(validate_frame(df, min_length=7)) == 17


def test_text_dates_are_read_and_unreadable_ones_told():
    df = panel("12h", n=3, ids=("a",))
    df["ds"] = ["2024-01-01", "2024-01-01 12:00:00", "2024-01-02"]
    assert validate_frame(df)["ds"].tolist() == list(pd.date_range("2024-01-01", periods=3, freq="12h"))
    df["ds"] = ["2024-01-01", "soon", "2024-01-02"]
    assert "series 'a', row 1: ds 'soon' is neither an integer nor a date" in error_of(df)


def test_time_zones_are_refused_with_the_way_out():
    df = panel()
    df["ds"] = df["ds"].dt.tz_localize("Europe/Paris")
    assert "carries the time zone Europe/Paris" in error_of(df)
    df["ds"] = pd.to_datetime(df["ds"], utc=True).dt.tz_localize(None)  # as the message says
    assert validate_frame(df)["ds"].iloc[0] == pd.Timestamp("2023-12-31 23:00")


def test_one_row_needs_a_frequency():
    one = panel(n=1, ids=("a",))
    assert "give freq" in error_of(one)
    assert len(validate_frame(one, freq="h")) == 1
    assert len(validate_frame(panel(1, n=1, ids=("a",)))) == 1


@pytest.mark.parametrize("freq", ["h", "15min", "D", "W-SUN", "MS", "ME", "QE-DEC", "YS-JAN", "B", "2MS", 1, 3])
def test_future_frame_equals_that_of_utilsforecast(freq):
    df = pd.concat([panel(freq, n=9, ids=("a",)), panel(freq, n=9, ids=("b",)).head(6)], ignore_index=True)
    ours = future_frame(validate_frame(df), h=5)
    lasts = df.groupby("unique_id")["ds"].last()
    theirs = make_future_dataframe(pd.Series(lasts.index), lasts.reset_index(drop=True), freq=freq, h=5)
    pd.testing.assert_frame_equal(ours, theirs[["unique_id", "ds"]], check_dtype=False)


def test_future_times_refuse_a_start_off_the_axis():
    with pytest.raises(FrameError, match=re.escape("2024-01-15 00:00:00 does not lie on frequency 'MS'")):
        future_times(pd.Timestamp("2024-01-15"), 2, "MS")
    with pytest.raises(ValueError, match="at least 1 step"):
        future_times(5, 0, 1)


@settings(max_examples=25, deadline=None)
@given(
    freq=st.sampled_from(["h", "15min", "D", "W-TUE", "MS", "ME", "QS-JAN", "YE-DEC", "B"]),
    n=st.integers(4, 30),
    drop=st.data(),
)
def test_any_hole_is_found_and_mended(freq, n, drop):
    whole = panel(freq, n=n, ids=("a",))
    hole = drop.draw(st.integers(1, n - 2))
    holed = whole.drop(index=hole).reset_index(drop=True)
    with pytest.raises(FrameError, match=rf"series 'a', row {hole}: gap, 1 step\(s\)"):
        validate_frame(holed, freq=freq)
    assert validate_frame(fill_gaps(holed, freq))["ds"].tolist() == whole["ds"].tolist()


def test_a_context_without_any_value_names_series_and_cutoff():
    df = panel(n=6)
    df.loc[[9, 10], "y"] = np.nan
    check_contexts(df, 2)
    check_contexts(df, 2, ahead=(0, 3))
    with pytest.raises(FrameError, match="series 'b': none of the 2 values up to 2024-01-01 04:00:00 is observed"):
        check_contexts(df, 2, ahead=(0, 1))
    check_contexts(df, 3, ahead=(0, 1))
    df.loc[6:, "y"] = np.nan
    with pytest.raises(FrameError, match="series 'b': none of the 6 values up to 2024-01-01 05:00:00"):
        check_contexts(df, 96)  # a short series has no more than its own


@pytest.mark.parametrize("h", [2.5, True, "3", None])
def test_a_horizon_is_a_whole_number(h):
    with pytest.raises(ValueError, match="a horizon is a whole number of steps"):
        future_frame(panel(), h, "h")


def test_times_that_leave_the_range_of_dates_are_told():
    for freq in ("h", "MS", "D"):
        with pytest.raises(FrameError, match="leave the dates that can be computed with"):
            future_times(pd.Timestamp("2262-04-01"), 400, freq)
    with pytest.raises(FrameError, match="leave the dates"):
        future_times(pd.Timestamp("2024-01-01"), 10**12, "D")
