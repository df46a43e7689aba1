"""Times as they stand in tables: what is read, and what is refused because it can be read in two ways."""

import re

import numpy as np
import pandas as pd
import pytest

from tsllm.data.dates import parse_time, read_later_times
from tsllm.data.frame import validate_frame
from tsllm.data.origin import Origin
from tsllm.types import FrameError


def read(times, freq="D", **options):
    frame = pd.DataFrame({"unique_id": "a", "ds": times, "y": 1.0})
    return validate_frame(frame, freq=freq, **options)["ds"].tolist()


def error_of(times, freq=None, **options):
    with pytest.raises(FrameError) as caught:
        read(times, freq, **options)
    return str(caught.value)


@pytest.mark.parametrize(
    "texts",
    [
        ["2024-03-01", "2024-03-02"],
        ["2024/03/01", "2024/03/02"],
        ["2024-03-01 00:00", "2024-03-02T00:00:00"],
        ["1 March 2024", "2 March 2024"],
        ["Mar 1, 2024", "Mar 2, 2024"],
        ["2024-3-1", "2024-3-2"],
    ],
)
def test_dates_with_their_year_are_read(texts):
    assert read(texts) == [pd.Timestamp("2024-03-01"), pd.Timestamp("2024-03-02")]


def test_dates_that_a_row_settles_are_read_and_others_are_refused():
    day = [pd.Timestamp("2024-02-12"), pd.Timestamp("2024-02-13")]
    assert read(["12/02/2024", "13/02/2024"]) == day
    assert read(["2.12.2024", "2.13.2024"]) == day
    assert read(["02/12/2024", "02/13/2024 00:00"]) == day
    message = error_of(["11/02/2024", "12/02/2024"])
    assert "'ds' is ambiguous: '11/02/2024' may put the day or the month first" in message
    assert "pd.to_datetime(df['ds'], dayfirst=True)" in message
    # 13 in both places of one column is neither.
    assert "ambiguous" in error_of(["13/02/2024", "02/14/2024"])


@pytest.mark.parametrize(
    "style", ["{:%d %m %Y}", "{:%a %d/%m/%Y}", "{:%A, %d.%m.%Y}", "{:%d / %m / %Y}", "{:%a %d-%m-%Y %H:%M}"]
)
def test_weekdays_and_blanks_do_not_hide_that_a_date_is_ambiguous(style):
    days = pd.date_range("2024-01-10", periods=5)
    assert read([style.format(t) for t in days]) == days.tolist()  # the 13th settles it
    texts = [style.format(t) for t in days[:3]]
    message = error_of(texts)
    assert "'ds' is ambiguous" in message
    assert read(texts, day_first=True) == days[:3].tolist()
    advised = pd.to_datetime(pd.Series(texts), dayfirst=True)  # as the message says
    assert advised.tolist() == days[:3].tolist()


@pytest.mark.parametrize("text", ["10:00 01/02/2024", "at 1.2.2024", "Q1, 01/02/2024", "01/02-2024", "01,02,2024"])
def test_other_ways_to_write_day_and_month_as_numbers_are_refused(text):
    assert "may put the day or the month first" in error_of([text, text])


def test_ambiguous_dates_are_read_as_told():
    texts = ["01/02/2024", "02/02/2024"]
    assert read(texts, day_first=True) == [pd.Timestamp("2024-02-01"), pd.Timestamp("2024-02-02")]
    assert read(["01/02/2024", "01/03/2024"], day_first=False) == [
        pd.Timestamp("2024-01-02"),
        pd.Timestamp("2024-01-03"),
    ]
    assert "row 1: ds '02/13/2024' is no date with the day first" in error_of(
        ["01/02/2024", "02/13/2024"], day_first=True
    )


def test_times_of_day_are_read_with_such_dates():
    assert read(["13/02/2024 9:00", "13/02/2024 10:00"], "h")[1] == pd.Timestamp("2024-02-13 10:00")
    assert read(["2/13/2024 11:00 AM", "2/13/2024 12:00 PM"], "h")[1] == pd.Timestamp("2024-02-13 12:00")


def test_years_of_two_digits_and_mixtures_are_refused():
    assert "has a year of two digits" in error_of(["13/02/24", "14/02/24"])
    assert "row 1: ds '2024-02-14' is written in another way" in error_of(["13/02/2024", "2024-02-14"])


@pytest.mark.parametrize("text", ["10:00", "today", "now", "5", "Monday", "0.5", "-2024-01-01", "", "2024-13-01"])
def test_what_is_no_date_is_told_and_never_completed_from_the_clock(text):
    assert "is neither an integer nor a date" in error_of(["2024-01-01", text])


@pytest.mark.parametrize("zone", ["+01", "+0100", "+01:00", "-05", "Z", " UTC", "z"])
def test_every_way_to_write_a_zone_is_a_zone(zone):
    told = error_of([f"2024-01-01 00:00{zone}", f"2024-01-01 01:00{zone}"])
    assert f"carries UTC offsets (2024-01-01 00:00{zone}); drop them with" in told


@pytest.mark.parametrize("kind", ["int64", "float64", "str"])
def test_months_and_days_without_dashes_are_refused_with_advice_that_works(kind):
    frame = pd.DataFrame({"unique_id": "a", "ds": [202311, 202312, 202401], "y": 1.0}).astype({"ds": kind})
    if kind == "float64":
        assert "such as 202311" in error_of([202311.0, 202312.0])
        return
    with pytest.raises(FrameError, match="each of which may be a month such as 2023-01") as caught:
        validate_frame(frame)
    assert "df['ds'] = pd.to_datetime(df['ds'].astype(str), format='%Y%m')" in str(caught.value)
    frame["ds"] = pd.to_datetime(frame["ds"].astype(str), format="%Y%m")
    assert validate_frame(frame)["ds"].tolist()[-1] == pd.Timestamp("2024-01-01")
    assert "may be a day such as 2023-01-31" in error_of([20231130, 20231201])


@pytest.mark.parametrize(
    ("style", "freq", "meaning"),
    [
        ("{:%Y%m}", "MS", "a month"),
        ("{:%Y%m%d}", "D", "a day such"),
        ("{:%Y%m%d%H}", "h", "an hour"),
        ("{:%Y%m%d%H%M}", "15min", "a minute"),
        ("{:%Y%m%d%H%M%S}", "15min", "a second"),
        ("{0:%Y}{0.quarter}", "QS", "a quarter"),
        ("{:%G%V}", "W-MON", "a week"),
        ("{:%Y%j}", "D", "a day of a year"),
    ],
)
@pytest.mark.parametrize("kind", ["int64", "str"])
def test_every_compact_date_is_refused_with_advice_that_works(style, freq, meaning, kind):
    times = pd.date_range("2023-10-02", periods=120, freq=freq)
    df = pd.DataFrame({"unique_id": "a", "ds": [style.format(t) for t in times], "y": 1.0}).astype({"ds": kind})
    with pytest.raises(FrameError, match=f"each of which may be {meaning}") as caught:
        validate_frame(df)
    code = re.search(r"with (df\['ds'\] = .*), or give an integer", str(caught.value)).group(1)
    exec(code, {"df": df, "pd": pd})
    assert validate_frame(df, freq=freq)["ds"].tolist() == times.tolist()


def test_an_offset_behind_the_name_of_a_zone_is_refused_with_advice_that_keeps_its_sign():
    for written in ("UTC+1", " GMT+01:00", "[UTC+01]"):
        df = pd.DataFrame({"unique_id": "a", "ds": [f"2024-01-01 0{h}:00 {written}" for h in (5, 6)], "y": 1.0})
        with pytest.raises(FrameError, match="whose sign is read in two ways") as caught:
            validate_frame(df)
        assert "str.replace(r' *[[]?(UTC|GMT) *', '', regex=True)" in str(caught.value)
    df["ds"] = [f"2024-01-01 0{h}:00 UTC+1" for h in (5, 6)]
    df["ds"] = df["ds"].str.replace(r" *[[]?(UTC|GMT) *", "", regex=True)
    with pytest.raises(FrameError, match="carries UTC offsets"):
        validate_frame(df)
    df["ds"] = pd.to_datetime(df["ds"], utc=True).dt.tz_localize(None)
    assert validate_frame(df)["ds"].tolist() == [pd.Timestamp("2024-01-01 04:00"), pd.Timestamp("2024-01-01 05:00")]


def test_counters_are_no_months():
    assert read([202301, 202302], 1) == [202301, 202302]  # told by an integer freq
    assert read([202300, 202301], None) == [202300, 202301]  # there is no month 0
    assert read([2023, 2024], None) == [2023, 2024]


@pytest.mark.parametrize("text", ["3000-01-01", "1500-06-01", "9999-12-31", "0001-01-01"])
def test_dates_beyond_the_range_are_told_as_such(text):
    assert "lies beyond the dates that can be computed with (1677-09-21 to 2262-04-11)" in error_of([text, text])


def test_stored_dates_beyond_the_range_are_told_too():
    times = np.array(["2999-12-31", "3000-01-01"], dtype="datetime64[s]")
    assert "2999-12-31 00:00:00 lies beyond" in error_of(times)


@pytest.mark.parametrize(
    ("times", "told"),
    [
        ([1 + 2j, 2 + 0j], "complex"),
        ([1.5, 2.5], "fractions"),
        ([True, False], "holds True"),
        ([2**60, 2**60 + 1], "count integer steps from a number near 0"),
        ([1e300, 2e300], "count integer steps from a number near 0"),
        ([1.0, np.nan], "is missing"),
    ],
)
def test_numbers_that_are_no_times_are_told(times, told):
    assert told in error_of(times)


def test_the_offsets_of_a_place_with_summer_time_are_dropped_as_the_error_says():
    berlin = pd.date_range("2024-03-30", periods=72, freq="h", tz="Europe/Berlin")
    df = pd.DataFrame({"unique_id": "a", "ds": [str(t) for t in berlin], "y": 1.0})
    assert df["ds"].str[-6:].unique().tolist() == ["+01:00", "+02:00"]
    with pytest.raises(FrameError, match=r"'ds' carries UTC offsets \(2024-03-30 00:00:00\+01:00\)") as caught:
        validate_frame(df)
    way = re.search(r"df\['ds'\] = (pd\.to_datetime.*?tz_localize\(None\))", str(caught.value))[1]
    df["ds"] = eval(way, {"pd": pd, "df": df})
    assert validate_frame(df)["ds"].tolist() == list(pd.date_range("2024-03-29 23:00", periods=72, freq="h"))


@pytest.mark.parametrize("values", [[], [None, None]])
@pytest.mark.parametrize("day_first", [True, False])
def test_a_column_without_dates_stays_empty(values, day_first):
    for column in (pd.Series(values, dtype="float64"), pd.Series(values, dtype="object")):
        table = pd.DataFrame({"unique_id": "a", "start": column})
        assert read_later_times(table, day_first, ("start",))["start"].isna().all()
    empty = pd.Series([], dtype="int64")
    assert parse_time(empty, empty, Origin(np.arange(0))).empty
