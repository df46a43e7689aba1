"""What a report says of the texts: effects, words, swapped texts and idle ones, by values worked by hand."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import tsllm
from tests.fixtures.texts import save_told_timellm
from tsllm.cli.main import app
from tsllm.context.applying import Window
from tsllm.context.readers import read_effects
from tsllm.evaluation.backtest import run_backtest
from tsllm.evaluation.text_changes import FILLER, ITS_OWN, examine_texts
from tsllm.evaluation.told_report import build_told_section, examine_told, tabulate_changes
from tsllm.evaluation.windows import Windows

H = 24
TIMES = pd.date_range("2024-01-01", periods=240, freq="h")  # up to 2024-01-10 23:00
CLOSED = "It is cold. The mill is closed from 2024-01-09 06:00 to 2024-01-09 12:00."
CAPPED = "The output is capped at 7 from 2024-01-10 00:00."
NEWS = pd.DataFrame(
    [
        ("south", CLOSED, "2024-01-08 23:00"),
        ("north", CAPPED, "2024-01-09"),
        ("north", "The mayor was pleased.", "2024-01-01"),
        ("south", "Closed in February.", "2024-02-01"),
    ],
    columns=["unique_id", "text", "published"],
)


def make_frame(value=10.0):
    """Two constant series, so that a seasonal naive forecasts 10 in the north and 20 in the south."""
    return pd.concat(
        [pd.DataFrame({"unique_id": n, "ds": TIMES, "y": value * k}) for n, k in (("north", 1), ("south", 2))]
    )


@pytest.fixture
def examined():
    df = make_frame().reset_index(drop=True)
    naive = tsllm.SeasonalNaive(24)
    result = run_backtest(df, [naive, tsllm.ContextForecaster(naive, context=NEWS)], H, 3)
    return df, result, Windows.of(df, H, 3, H)


def test_each_text_is_looked_at_by_itself_where_it_changed_most(examined):
    _, result, windows = examined
    (found,), lost = examine_told(result.fitted, result.frame, windows, "h")
    assert lost == found.lost == []
    closed, capped = found.changes
    assert (closed.series, closed.cutoff, closed.text) == ("south", pd.Timestamp("2024-01-08 23:00"), CLOSED)
    assert closed.effects == "set 0 from 2024-01-09 06:00 to 2024-01-09 12:00"
    assert closed.change == pytest.approx(6 * 20 / 24)
    assert closed.forecast["before"].tolist() == [20.0] * 24
    assert closed.forecast["after"].tolist() == [20.0] * 6 + [0.0] * 6 + [20.0] * 12
    assert closed.words["share"].tolist() == [0.0, 1.0]
    # The text of the other series speaks of another day, so that nothing is left of the change.
    assert closed.other in (CAPPED, "The mayor was pleased.")
    assert closed.swapped == pytest.approx(5.0)
    assert (capped.change, capped.cutoff) == (3.0, pd.Timestamp("2024-01-09 23:00"))
    assert found.changed == 2
    assert found.idle == {
        "The mayor was pleased.": "north: no news in it: it names no number and no time, and nothing was read",
        "Closed in February.": "south: published at 2024-02-01 00:00:00, after the last cutoff, 2024-01-09 23:00:00",
    }
    assert found.scores == (2, pytest.approx((5.0 + 3.0) / 2), 0.0)


def test_the_section_says_it_and_the_table_holds_the_whole_texts(examined):
    df, result, windows = examined
    found = examine_told(result.fitted, result.frame, windows, "h")[0]
    (section,) = build_told_section(found, df, 24, lost=["No look at X."])
    assert section.title == "What the texts changed"
    assert section.paragraphs[0] == (
        "SeasonalNaive+context: 2 of 4 texts changed a forecast. Over the 2 windows with a change (each of one "
        "series, from one cutoff) its mean absolute error is 4 with the texts and 0 without them."
    )
    assert (
        "2 of 4 texts changed no forecast of this back-test: 'The mayor was pleased.' (north: no news in it"
        in (section.paragraphs[1])
    )
    assert section.paragraphs[2] == "No look at X."
    again = replace(found[0], model="Naive+context")
    (both,) = build_told_section([found[0], again], df, 24)
    assert [p.split(":")[0] for p in both.paragraphs] == [
        "SeasonalNaive+context", "Naive+context", "SeasonalNaive+context, Naive+context",
    ]  # fmt: skip
    shown = section.tables[0].frame
    assert shown["understood"].tolist()[1] == "cap 7 from 2024-01-10"
    # Each stands in for the other; at the earlier cutoff the limit is of a day that is not forecast.
    assert shown["in its place"].tolist()[0] == f"{CAPPED[:37]}... (nothing was read in it)"
    assert shown["weightiest"].tolist()[0].endswith("to 2024-01-09 12:00. (100%)")
    assert section.pictures[0].alt == (
        "SeasonalNaive+context forecasts south from 2024-01-08 23:00:00: 20 on the average without the text, 15 with "
        "it."
    )
    table = tabulate_changes(found)
    assert table["sentence"].dropna().tolist() == ["It is cold.", CLOSED[12:], CAPPED]
    assert len(table) == 5
    assert build_told_section([], df, 24) == []


def test_a_text_alone_is_swapped_for_words_that_say_nothing(examined):
    df, _, windows = examined
    told = tsllm.ContextForecaster(tsllm.SeasonalNaive(24), context=NEWS.iloc[:1])
    result = run_backtest(df, [told], H, 3)
    found = examine_texts(result.fitted[told.alias], result.frame, windows, "h")
    (change,) = found.changes
    (section,) = build_told_section([found], df, 24)
    assert section.tables[0].frame["in its place"].tolist() == ["words that say nothing"]
    assert "not known: the model does not stand here without texts" in section.paragraphs[0]
    assert change.other == FILLER[: len(CLOSED)].strip()
    assert change.swapped == change.change == pytest.approx(5.0)
    assert found.scores is None
    past = Window(np.ones(48), TIMES[:48], TIMES[48:72], 24)
    assert read_effects(FILLER, past) == []


def test_the_base_forecasts_each_window_once_however_many_texts_are_looked_at(examined, monkeypatch):
    _, result, windows = examined
    told, asked = result.fitted["SeasonalNaive+context"], []
    forecast = type(told.base).predict

    def count(self, df=None, h=None, level=None, X_df=None):
        asked.append((len(df), h, tuple(level or ())))
        return forecast(self, df, h, level, X_df)

    monkeypatch.setattr(type(told.base), "predict", count)
    assert len(examine_texts(told, result.frame, windows, "h").changes) == 2  # in two windows
    assert sorted(set(asked)) == sorted(asked)


def test_what_cannot_be_looked_at_is_named(examined, monkeypatch):
    _, result, windows = examined
    told = result.fitted["SeasonalNaive+context"]

    def fail(text):
        if "cap" in text:
            raise ValueError("no capital today")
        return read(text)

    read = told.reader
    monkeypatch.setattr(told, "reader", fail)
    found, lost = examine_told({told.alias: told}, result.frame, windows, "h")
    assert found == []
    assert lost == ["No look at the texts of SeasonalNaive+context: ValueError: no capital today"]


def test_a_comparison_opens_trained_models_again_and_a_model_that_reads_by_itself(tmp_path, monkeypatch):
    monkeypatch.setenv("TSLLM_CACHE", str(tmp_path))
    sizes = save_told_timellm(tmp_path)
    training = {"max_steps": 3, "learning_rate": 0.05}
    timellm = {"model": "timellm", "options": sizes, "training": training}
    dlinear = {"model": "dlinear", "options": {"context_length": 24, "moving_average": 3}, "training": training}
    df = make_frame()
    df["y"] += np.random.default_rng(0).normal(size=len(df))
    news = pd.concat([NEWS, NEWS.iloc[[2]].assign(text="trend up")])
    made = tsllm.compare(
        df, [dlinear, dlinear | {"reader": "rules"}, timellm, timellm | {"reader": "model"}], h=H, n_windows=3,
        val_size=24, context=news, seeds=[0], level=[], output_dir=tmp_path / "out",
    )  # fmt: skip
    said = made.report.with_suffix(".md").read_text()
    assert "## What the texts changed" in said
    assert "No look" not in said
    table = made.tables["texts-frame"]
    ruled = table[table["model"] == "DLinear+context"].set_index("sentence")
    assert ruled.loc[CAPPED, "effects"] == "cap 7 from 2024-01-10"
    frame = made.forecasts["frame"]
    rows = frame[(frame["unique_id"] == "north") & (frame["cutoff"] == "2024-01-09 23:00")]
    assert ruled.loc[CAPPED, "change"] == pytest.approx((rows["DLinear+context"] - rows["DLinear"]).abs().mean())
    own = table[(table["model"] == "TimeLLM+context") & table["sentence"].notna()]
    assert set(own["effects"]) == {ITS_OWN}
    assert (own["change"] > 0).any()


def test_the_page_of_a_back_test_has_the_section_and_the_texts_beside_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_frame().to_csv("load.csv", index=False)
    NEWS.to_csv("news.csv", index=False)
    words = [
        "backtest",
        "load.csv",
        "--models",
        "SeasonalNaive",
        "--h",
        "24",
        "--n-windows",
        "3",
        "--report",
        "page.html",
    ]
    result = CliRunner().invoke(app, [*words, "--context", "news.csv"])
    assert result.exit_code == 0, result.output
    html, markdown = (tmp_path / "page.html").read_text(), (tmp_path / "page.md").read_text()
    for page in (html, markdown):
        assert "What the texts changed" in page
        assert "set 0 from 2024-01-09 06:00 to 2024-01-09 12:00" in page
    assert html.count("<svg") == 3  # forecasts, error by step, the text
    texts = pd.read_csv("page-texts.csv")
    assert set(texts["text"]) == set(NEWS["text"])
    plain = CliRunner().invoke(app, words)
    assert plain.exit_code == 0
    assert "What the texts changed" not in (tmp_path / "page.md").read_text()
