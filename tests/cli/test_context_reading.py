"""`--context` of the commands with a saved Time-LLM that reads texts itself."""

import numpy as np
import pandas as pd
import pytest

from tests.cli.running import run
from tests.fixtures.backbones import save_tiny_backbone

SIZES = ("context_length=24", "patch_length=8", "patch_stride=8", "d_model=8", "num_heads=2", "d_ff=8",
         "num_prototypes=10", "num_backbone_layers=1", "reader=horizon", "text_layers=2", "prompt=false")  # fmt: skip
ENDS = "2024-01-10 23:00"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with data, texts, and a model that was trained on them: `told`; and one that was not: `mute`."""
    root = tmp_path_factory.mktemp("place")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("TSLLM_CACHE", str(root / "cache"))
        y = 20 + 5 * np.sin(np.arange(240) * 2 * np.pi / 24) + np.random.default_rng(0).normal(size=240)
        times = pd.date_range("2024", periods=240, freq="h")
        pd.DataFrame({"date": times, "north": y, "south": 2 * y}).to_csv("load.csv", index=False)
        rows = pd.DataFrame({"unique_id": ["north", "south"], "text": ["trend up", "median 2"]})
        rows.assign(published="2024-01-01").to_csv("news.csv", index=False)
        backbone = save_tiny_backbone(root / "llama", "llama", layers=2, width=32)
        fit = ["fit", "load.csv", "--model", "timellm", "--h", 6, "--steps", 4, "--learning-rate", 0.01]
        for setting in (*SIZES, f"backbone={backbone}", "layout=univariate"):
            fit += ["--set", setting] if not setting.startswith("layout") else ["--layout", "univariate"]
        learned = run(*fit, "--context", "news.csv", "--output-dir", "told")
        assert "learned from texts; the folder keeps none of them" in learned
        mute = run(*fit, "--output-dir", "mute")
        assert "trained without --context, so that no text will change" in mute
        assert "does not say when it was published" in run(*fit, "--context", "up", "--output-dir", "x", code=2)
        yield root


@pytest.fixture(autouse=True)
def inside(place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.setenv("TSLLM_CACHE", str(place / "cache"))


def predict(folder, *options):
    said = run("predict", folder, "load.csv", *options, "--output", "out.csv")
    return said, pd.read_csv("out.csv")


def test_a_saved_model_reads_a_text_itself_and_an_empty_one_changes_no_bit():
    plain = predict("told")[1]
    said, silent = predict("told", "--context", "")
    assert "no text is read: the forecast is the plain one" in said
    pd.testing.assert_frame_equal(silent, plain, check_exact=True)
    said, read = predict("told", "--context", "trend up")
    assert "texts read for north, south" in said
    assert list(read.columns) == list(plain.columns)
    assert (read["TimeLLM"] != plain["TimeLLM"]).all()


def test_a_table_is_read_by_its_series_times_and_publication():
    plain = predict("told")[1]
    news = pd.DataFrame(
        [
            {"unique_id": "south", "text": "trend up", "published": ENDS, "start": "2024-01-11 02:00", "end": ""},
            {"unique_id": "north", "text": "trend up", "published": "2024-01-11 00:00", "start": "", "end": ""},
        ]
    )
    news.to_csv("later.csv", index=False)
    said, read = predict("told", "--context", "later.csv")
    assert "texts read for south\n1 of 2 texts not read: published later, about other times, or over" in said
    moved = read["TimeLLM"] != plain["TimeLLM"]
    assert read.loc[moved, "unique_id"].unique().tolist() == ["south"]
    assert read.loc[moved, "ds"].tolist() == [f"2024-01-11 0{hour}:00:00" for hour in (2, 3, 4, 5)]
    assert "series 'west', which the data do not hold" in _refuse("west", "up")
    assert "tokens, but the model reads 512" in _refuse("north", "up " * 600)


def _refuse(name, text):
    pd.DataFrame({"unique_id": [name], "text": [text]}).to_csv("wrong.csv", index=False)
    return run("predict", "told", "load.csv", "--context", "wrong.csv", code=2)


def test_effects_are_read_instead_where_a_reader_is_named():
    text = "The output is held at 777 from 2024-01-11 00:00 to 2024-01-11 02:00."
    said, read = predict("told", "--context", text, "--reader", "rules")
    assert "-> set 777 from 2024-01-11 to 2024-01-11 02:00" in said
    assert (read["TimeLLM+context"] == 777).sum() == 4


def test_a_model_that_was_trained_without_texts_says_so(caplog):
    plain = predict("mute")[1]
    read = predict("mute", "--context", "trend up")[1]
    pd.testing.assert_frame_equal(read, plain, check_exact=True)
    assert "TimeLLM was trained without texts, so that none changes its forecast" in caplog.text
    assert "--reader rules" in caplog.text


def test_a_back_test_has_it_twice_and_reads_what_was_published():
    news = pd.DataFrame({"unique_id": ["north"], "text": ["trend up"], "published": ["2024-01-10 15:00"]})
    news.to_csv("dated.csv", index=False)
    y = pd.read_csv("load.csv")
    more = pd.date_range("2024-01-11", periods=18, freq="h")
    y = pd.concat([y, pd.DataFrame({"date": more.astype(str), "north": 20.0, "south": 40.0})])
    y.to_csv("longer.csv", index=False)
    roll = ("backtest", "longer.csv", "--models", "told", "--h", 6, "--n-windows", 3, "--output", "out.csv")
    run(*roll, "--context", "dated.csv")
    out = pd.read_csv("out.csv", parse_dates=["cutoff"])
    knows = (out["unique_id"] == "north") & (out["cutoff"] >= "2024-01-10 15:00")
    assert knows.sum() == 18
    moved = out["TimeLLM+context"] != out["TimeLLM"]
    assert moved.tolist() == knows.tolist()
    assert "does not say when it was published" in run(*roll, "--context", "trend up", code=2)
