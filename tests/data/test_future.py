"""Frames of the future are checked like the first frame: `validate_future`."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tsllm.data.frame import future_frame, validate_future
from tsllm.types import FrameError


def wanted(ids=("a", "b"), h=3, start="2024-01-01", freq="h"):
    times = pd.date_range(start, periods=h, freq=freq) if isinstance(freq, str) else np.arange(1, h + 1) * freq
    return pd.concat([pd.DataFrame({"unique_id": i, "ds": times}) for i in ids], ignore_index=True)


def future(**kwargs):
    keys = wanted(**kwargs)
    return keys.assign(x=np.arange(len(keys), dtype=float), z=[10.0 * k for k in range(len(keys))])


def error_of(frame, keys=None, covariates=("x",)):
    with pytest.raises(FrameError) as caught:
        validate_future(frame, wanted() if keys is None else keys, covariates)
    return str(caught.value)


def test_the_rows_come_in_the_order_of_the_keys_whatever_theirs():
    mixed = future().sample(frac=1, random_state=1)
    out = validate_future(mixed, wanted(), ["z", "x"])
    assert list(out.columns) == ["unique_id", "ds", "z", "x"]
    assert out["x"].tolist() == [0.0, 1, 2, 3, 4, 5]
    assert out["z"].tolist() == [0.0, 10, 20, 30, 40, 50]
    pd.testing.assert_frame_equal(out[["unique_id", "ds"]], wanted())


@settings(max_examples=25, deadline=None)
@given(order=st.permutations(range(6)), freq=st.sampled_from(["h", "ME", "B", 1, 5]))
def test_any_order_of_rows_gives_the_same_frame(order, freq):
    whole = future(freq=freq)
    out = validate_future(whole.iloc[list(order)], wanted(freq=freq), ["x"])
    pd.testing.assert_frame_equal(out, whole[["unique_id", "ds", "x"]])


def test_the_frame_given_is_not_changed():
    frame = future().iloc[::-1]
    before = frame.copy()
    validate_future(frame, wanted(), ["x"]).loc[:, "x"] = 9.0
    pd.testing.assert_frame_equal(frame, before)


def test_columns_that_nobody_reads_do_not_matter():
    frame = future().assign(note="text", y=np.nan, w=np.inf)
    frame = pd.concat([frame, frame[["note"]]], axis=1)  # not even twice
    assert validate_future(frame, wanted(), ["x"])["x"].tolist() == [0.0, 1, 2, 3, 4, 5]


def test_text_dates_and_a_column_called_date_are_read_as_in_the_first_frame():
    frame = future().rename(columns={"ds": "date"})
    frame["date"] = frame["date"].astype(str)
    out = validate_future(frame, wanted(), ["x"])
    pd.testing.assert_frame_equal(out, future()[["unique_id", "ds", "x"]])


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_the_resolution_of_times_does_not_matter(unit):
    frame = future()
    frame["ds"] = frame["ds"].astype(f"datetime64[{unit}]")
    assert validate_future(frame, wanted(), ["x"])["x"].tolist() == [0.0, 1, 2, 3, 4, 5]


def test_a_table_without_series_holds_for_all_of_them():
    frame = future(ids=("a",)).drop(columns="unique_id").iloc[::-1]
    assert validate_future(frame, wanted(), ["x"])["x"].tolist() == [0.0, 1, 2] * 2
    assert "lacks 2 of 6 rows, first series 'a' at 2024-01-01 01:00:00" in error_of(frame.drop(index=1))


def test_keys_of_a_panel_that_ends_at_different_times():
    history = pd.concat([wanted(ids=("a",), h=4), wanted(ids=("b",), h=9)], ignore_index=True).assign(y=0.0)
    keys = future_frame(history, 2, "h")
    frame = keys.assign(x=[1.0, 2, 3, 4])
    assert validate_future(frame.iloc[[3, 0, 2, 1]], keys, ["x"])["x"].tolist() == [1.0, 2, 3, 4]
    common = frame.drop(columns="unique_id")
    assert validate_future(common, keys, ["x"])["x"].tolist() == [1.0, 2, 3, 4]


def test_duplicates_name_series_and_row():
    frame = pd.concat([future(), future().iloc[[4]]], ignore_index=True)
    assert error_of(frame).startswith("series 'b', row 6: ds 2024-01-01 01:00:00 appears twice in the frame of the")


def test_missing_rows_are_named():
    message = error_of(future().drop(index=[4, 5]))
    assert "lacks 2 of 6 rows, first series 'b' at 2024-01-01 01:00:00" in message
    assert "for series 'a' the 3 from 2024-01-01 00:00:00 to 2024-01-01 02:00:00" in message


def test_rows_too_many_are_named():
    message = error_of(future(h=4))
    assert "2 of its rows are no step to forecast, first row 3: series 'a' at 2024-01-01 03:00:00" in message
    assert "lacks" not in message
    assert "series 'c' at" in error_of(future(ids=("a", "b", "c")))


def test_steps_beside_the_axis_are_missing_and_too_many():
    frame = future()
    frame["ds"] += pd.Timedelta("1min")
    message = error_of(frame)
    assert "lacks 6 of 6 rows" in message
    assert "6 of its rows are no step" in message


def test_names_of_another_type_are_told_as_such():
    frame = future(ids=(1, 2))
    assert "its 'unique_id' are int, those of the history str: convert them" in error_of(frame, wanted(ids=("1", "2")))


def test_zoned_unreadable_missing_and_mistyped_times_are_told():
    frame = future()
    zoned = frame.assign(ds=frame["ds"].dt.tz_localize("UTC"))
    assert "carries the time zone UTC" in error_of(zoned)
    told = error_of(frame.assign(ds=frame["ds"].astype(str) + "+01:00"))
    assert "carries UTC offsets (2024-01-01 00:00:00+01:00); drop them" in told
    assert "series 'b', row 4: ds 'soon' is neither" in error_of(
        frame.assign(ds=[*frame["ds"].astype(str)[:4], "soon", "2024-01-01 02:00:00"])
    )
    late = frame.copy()
    late.loc[2, "ds"] = pd.NaT
    assert "series 'a', row 2: 'ds' is missing" in error_of(late)
    assert "counts 'ds' in integers, the history in dates" in error_of(future(freq=1))
    assert "counts 'ds' in dates, the history in integers" in error_of(frame, wanted(freq=1))


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (np.inf, "series 'b', row 4: column 'x' is infinite (inf)"),
        (np.nan, "series 'b', row 4: covariate 'x' is missing"),
        ("n/a", "series 'b', row 4: column 'x' is not numeric (found 'n/a'"),
        (2 + 1j, "column 'x' is not numeric"),
    ],
)
def test_values_that_are_no_numbers_name_series_row_and_column(value, told):
    frame = future()
    frame["x"] = [*frame["x"][:4], value, 5.0] if not isinstance(value, complex) else frame["x"] + 1j
    assert told in error_of(frame)


def test_missing_columns_empty_tables_and_no_tables_are_told():
    assert "the frame of the future needs column 'x'" in error_of(future().drop(columns="x"))
    assert "the frame of the future needs column 'ds'" in error_of(future().drop(columns="ds"))
    assert "is empty; it needs the 6 rows" in error_of(future().iloc[:0])
    assert "expected a table (pandas, polars or Arrow), got dict" in error_of({"x": [1]})
    doubled = pd.concat([future(), future()[["x"]]], axis=1)
    assert "column 'x' appears twice" in error_of(doubled)
