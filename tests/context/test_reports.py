"""Dated reports: what is read, and by whom."""

import doctest

import numpy as np
import pandas as pd
import pytest

import tsllm.context.reports
from tsllm.context.reports import load_reports
from tsllm.evaluation.backtest import backtest
from tsllm.forecasting.context import ContextForecaster
from tsllm.forecasting.naive import SeasonalNaive
from tsllm.types import FrameError

TABLE = pd.DataFrame(
    {
        "start_date": ["2024-01-08", "2024-01-01", "2024-01-15"],
        "end_date": ["2024-01-14", "2024-01-07", "2024-01-21"],
        "fact": ["Stocks fell. ", "Stocks rose.", "NA"],
        "preds": [None, "More is expected.", "nan"],
    }
)


def test_the_example_runs():
    assert doctest.testmod(tsllm.context.reports, extraglobs={"pd": pd}).failed == 0


def test_a_report_is_out_a_delay_after_its_period_and_empty_ones_are_counted(tmp_path, caplog):
    TABLE.to_csv(tmp_path / "reports.csv", index=False)
    with caplog.at_level("INFO"):
        found = load_reports(tmp_path / "reports.csv", 7, delay="3 D", columns=("fact", "preds"))
    assert found.to_dict("list") == {
        "unique_id": [7, 7],
        "text": ["Stocks rose.\nMore is expected.", "Stocks fell."],
        "published": [pd.Timestamp("2024-01-11"), pd.Timestamp("2024-01-18")],
    }
    assert "1 of 3 reports say nothing and are left out" in caplog.text


def test_a_back_test_reads_a_report_only_once_it_was_out():
    """The canary: the report about the days up to the 11th tells what comes on the 12th, and is out on the 14th."""
    df = pd.DataFrame({"unique_id": "oil", "ds": pd.date_range("2024-01-01", periods=15), "y": np.arange(15.0)})
    table = {"start_date": ["2024-01-05"], "end_date": ["2024-01-11"]}
    table |= {"fact": ["The price is held at 777 from 2024-01-12 to 2024-01-20."]}
    for delay, known in (("2 D", 1), ("0 D", 3)):
        news = load_reports(pd.DataFrame(table), "oil", delay=delay)
        out = backtest(df, [ContextForecaster(SeasonalNaive(1), context=news)], 1, 6)
        assert (out["SeasonalNaive+context"] == 777).tolist() == [False] * (6 - known) + [True] * known


@pytest.mark.parametrize(
    ("changes", "options", "error", "message"),
    [
        ({}, {"delay": "-1 D"}, ValueError, "delay is '-1 D'"),
        ({}, {"delay": None}, ValueError, "delay is None"),
        ({}, {"delay": 7}, ValueError, "delay is 7; .* with its unit, such as '7 D'"),
        ({}, {"delay": "7"}, ValueError, "delay is '7'; .* with its unit"),
        ({}, {"delay": "soon"}, ValueError, "delay is 'soon'"),
        ({}, {"delay": "1 D", "columns": "fact"}, ValueError, r"columns is 'fact'; give a list: columns=\['fact'\]"),
        ({"end_date": [20240107] * 3}, {"delay": "1 D"}, FrameError, "report row 0: end_date is 20240107, a number"),
        ({"end_date": ["2024-02-01", None, "2024-02-01"]}, {"delay": "1 D"}, FrameError, "row 1: end_date is missing"),
        ({"end_date": ["2024-02-01T00:00Z"] * 3}, {"delay": "1 D"}, FrameError, "row 0: end_date has a time zone"),
        (
            {"end_date": ["01/05/2024", "02/05/2024", "03/05/2024"]},
            {"delay": "1 D"},
            FrameError,
            r"'end_date' is ambiguous: .*pd.to_datetime\(reports\['end_date'\], dayfirst=True\)",
        ),
        (
            {"end_date": ["2024-01-07"] * 3},
            {"delay": "1 D"},
            FrameError,
            "row 0 ends on 2024-01-07 .* before it starts",
        ),
        ({"start_date": ["x"] * 3}, {"delay": "1 D"}, FrameError, "row 0: start_date is 'x', which is no time"),
        ({}, {"delay": "1 D", "columns": ("news",)}, FrameError, "they need start_date, end_date, news"),
    ],
)
def test_bad_reports_are_named(changes, options, error, message):
    with pytest.raises(error, match=message):
        load_reports(TABLE.assign(**changes), "oil", **options)


def test_reports_are_read_in_the_order_of_day_and_month_that_is_said_or_that_a_row_settles():
    table = TABLE.head(2).assign(start_date=["01/05/2024", "01/05/2024"], end_date=["02/05/2024", "03/05/2024"])
    told = load_reports(table, "oil", delay="1 D", day_first=True)["published"]
    assert told.tolist() == [pd.Timestamp("2024-05-04"), pd.Timestamp("2024-05-05")]
    settled = table.assign(end_date=["14/05/2024", "02/05/2024"], start_date="2024-04-30")
    told = load_reports(settled, "oil", delay="1 D")["published"]
    assert told.tolist() == [pd.Timestamp("2024-05-04"), pd.Timestamp("2024-05-16")]
    numbers = TABLE.head(2).assign(end_date=[20240114, 20240107])
    advised = numbers.assign(end_date=pd.to_datetime(numbers["end_date"].astype(str), format="%Y%m%d"))  # as it says
    assert load_reports(advised, "oil", delay="3 D")["published"].tolist() == [
        pd.Timestamp("2024-01-11"), pd.Timestamp("2024-01-18"),
    ]  # fmt: skip


def test_a_period_that_ends_on_a_date_is_over_when_the_day_is_and_one_with_a_time_at_that_time():
    table = pd.DataFrame(
        {"start_date": ["2024-01-01"] * 2, "end_date": ["2024-01-07", "2024-01-07 18:00"], "fact": ["a", "b"]}
    )
    assert load_reports(table, "oil", delay="0 D")["published"].tolist() == [
        pd.Timestamp("2024-01-07 18:00"),
        pd.Timestamp("2024-01-08"),
    ]
