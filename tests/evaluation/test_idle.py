"""Why a text changed no forecast: each of the reasons by its own words, with the series."""

import pandas as pd
import pytest

import tsllm
from tsllm.evaluation.backtest import run_backtest
from tsllm.evaluation.idle import explain_silence, list_horizons
from tsllm.evaluation.told import describe_idle_texts
from tsllm.evaluation.told_report import build_told_section, examine_told
from tsllm.evaluation.windows import Windows

# Three windows of a day, every second day: 2024-01-15, 17 and 19.
TIMES = pd.date_range("2024-01-01", periods=19 * 24, freq="h")
DF = pd.concat([pd.DataFrame({"unique_id": name, "ds": TIMES, "y": 10.0}) for name in ("north", "south")])
DF = DF.reset_index(drop=True)
COLUMNS = ["unique_id", "text", "published", "start", "end"]
MAY_READ = "the 3 windows that may read it are 2024-01-15 00:00:00 to 2024-01-15 23:00:00 and later ones, the last to "
MAY_READ += "2024-01-19 23:00:00"
REASONS = {
    "not understood": (
        ("south", "The town has 12,000 inhabitants.", "2024-01-01", None, None),
        "south: not understood: it names '12,000', but no sentence that says what changes, how and when was read",
    ),
    "no news": (
        ("south", "The mayor was pleased.", "2024-01-01", None, None),
        "south: no news in it: it names no number and no time, and nothing was read",
    ),
    "another day": (
        ("north", "The mill is closed on 2024-01-16.", "2024-01-01", None, None),
        f"north: set 0 from 2024-01-16 to 2024-01-17: no step to forecast lies in that time; {MAY_READ}",
    ),
    "over": (
        ("north", "The mill is closed on 2024-01-16.", "2024-01-15", None, None),
        "north: set 0: 2024-01-16, over before the forecast; the 2 windows that may read it are 2024-01-17 00:00:00 "
        "to 2024-01-17 23:00:00 and later ones, the last to 2024-01-19 23:00:00",
    ),
    "open": (
        ("north", "The mill is closed on 3/1/2024.", "2024-01-01", None, None),
        f"north: set 0: '3/1/2024' may be one of two days; write 2024-01-03 or 2024-03-01; {MAY_READ}",
    ),
    "late": (
        ("north", "The mill is closed tomorrow.", "2024-01-19", None, None),
        "north: published at 2024-01-19 00:00:00, after the last cutoff, 2024-01-18 23:00:00",
    ),
    "row elsewhere": (
        ("north", "The mill is closed.", "2024-01-01", "2024-01-16", "2024-01-17"),
        f"north: its row is about 2024-01-16, which no window that may read it forecasts; {MAY_READ}",
    ),
    "fulfilled": (
        ("south", "The output is capped at 5000.", "2024-01-01", None, None),
        "south: understood as cap 5000, which the forecast fulfilled without it",
    ),
}


def told(*rows):
    news = pd.DataFrame(rows, columns=COLUMNS)
    news[COLUMNS[2:]] = news[COLUMNS[2:]].apply(pd.to_datetime)
    naive = tsllm.SeasonalNaive(24)
    result = run_backtest(DF, [naive, tsllm.ContextForecaster(naive, context=news)], 24, 3, 48)
    return result, Windows.of(DF, 24, 3, 48)


@pytest.mark.parametrize("kind", REASONS)
def test_the_reason_is_said_with_the_series(kind):
    row, reason = REASONS[kind]
    result, windows = told(row)
    (found,), lost = examine_told(result.fitted, result.frame, windows, "h")
    assert (found.idle, found.changed, lost) == ({row[1]: reason}, 0, [])
    model = result.fitted["SeasonalNaive+context"]
    said = describe_idle_texts(result.frame, [model], DF, "h")
    assert said.endswith(f"({reason})")


def test_series_with_the_same_reason_are_named_together_and_others_apart():
    late = ("2024-02-01", None, None)
    result, windows = told(("north", "Closed.", *late), ("south", "Closed.", *late))
    (found,), _ = examine_told(result.fitted, result.frame, windows, "h")
    assert found.idle["Closed."].startswith("north, south: published at 2024-02-01 00:00:00")
    dates = {"north": pd.Timestamp("2024-02-01"), "south": pd.Timestamp("2024-01-01")}
    rows = [dict(zip(COLUMNS, (name, "x", day, pd.NaT, pd.NaT), strict=True)) for name, day in dates.items()]
    said = explain_silence(rows, list_horizons(result.frame), None)
    assert said.split("; ")[1] == "south: the model read it, and forecast the same"
    days = pd.date_range("2024-02-01", periods=50)
    rows = [dict(zip(COLUMNS, ("south", "x", day, pd.NaT, pd.NaT), strict=True)) for day in days]
    said = explain_silence(rows, list_horizons(result.frame), None)
    assert said == (
        "50 rows, the first of south: published at 2024-02-01 00:00:00, after the last cutoff, 2024-01-18 23:00:00"
    )


def test_the_legend_stands_once_below_the_last_table():
    result, windows = told(("north", "The mill is closed on 2024-01-17.", "2024-01-01", None, None))
    (found,), _ = examine_told(result.fitted, result.frame, windows, "h")
    (section,) = build_told_section([found, found], DF, 24)
    assert [bool(table.notes) for table in section.tables] == [False, True]
    assert [bool(table.below) for table in section.tables] == [False, True]
