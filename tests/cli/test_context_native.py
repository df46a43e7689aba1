"""A native model that reads texts itself, from `tsllm fit` to a comparison: the values that words alone decide."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from tests.cli.running import run
from tests.fixtures.backbones import save_tiny_backbone
from tests.fixtures.texts import make_told_days

TESTED = 3  # days
SMALL = {"d_model": 16, "num_heads": 2, "num_layers": 1, "d_ff": 32}
READER = {"text_layers": 2, "text_reader": {"d_model": 32, "dropout": 0.0}}
TRAINING = {"max_steps": 100, "learning_rate": 0.005}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Days whose level is told the day before in one of two phrases, and `reads`: a PatchTST that learned them."""
    root = tmp_path_factory.mktemp("place")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("TSLLM_CACHE", str(root / "cache"))
        frame, news, _ = make_told_days()
        frame.to_csv("levels.csv", index=False)
        frame.head(-24 * TESTED).to_csv("history.csv", index=False)
        news.to_csv("news.csv", index=False)
        news.head(-TESTED).to_csv("old_news.csv", index=False)
        backbone = save_tiny_backbone(root / "llama", "llama", layers=2, width=32)
        fields = {**SMALL, **READER, "text_backbone": backbone}
        settings = [word for name, value in fields.items() for word in ("--set", f"{name}={json.dumps(value)}")]
        said = run("fit", "history.csv", "--model", "patchtst", "--h", 24, "--context-length", 96, "--val-size", 48,
                   "--steps", TRAINING["max_steps"], "--learning-rate", TRAINING["learning_rate"], *settings,
                   "--context", "old_news.csv", "--output-dir", "reads", "--quiet")  # fmt: skip
        assert "learned from texts; the folder keeps none of them" in said
        yield root


@pytest.fixture(autouse=True)
def inside(place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.setenv("TSLLM_CACHE", str(place / "cache"))


def predict(folder, *options):
    said = run("predict", folder, "history.csv", *options, "--output", "out.csv")
    return said, pd.read_csv("out.csv")["PatchTST"].to_numpy()


def measure(frame, column):
    return (frame[column] - frame["y"]).abs().mean()


def test_predict_writes_what_the_words_say_and_a_moved_folder_the_same_bits(place):
    said, high = predict("reads", "--context", "trend up")
    assert "texts read for a" in said
    low, plain = predict("reads", "--context", "min median")[1], predict("reads")[1]
    np.testing.assert_allclose(high, 1.0, atol=0.4)
    np.testing.assert_allclose(low, -1.0, atol=0.4)
    np.testing.assert_array_equal(predict("reads", "--context", "")[1], plain)
    shutil.move(shutil.copytree("reads", "kept"), "moved")
    np.testing.assert_array_equal(predict("moved", "--context", "trend up")[1], high)


def test_backtest_and_compare_have_the_model_read_by_itself_where_it_can():
    windows = ("--h", 24, "--n-windows", TESTED, "--context", "news.csv")
    run("backtest", "levels.csv", "--models", "reads", *windows, "--output", "rolled.csv")
    rolled = pd.read_csv("rolled.csv")
    assert measure(rolled, "PatchTST+context") < 0.25
    assert measure(rolled, "PatchTST") > 0.8
    run("compare", "levels.csv", "--models", "SeasonalNaive,reads", *windows, "--level", "80", "--output-dir", "all")
    compared = read_forecasts("all")
    for name in ("PatchTST", "PatchTST+context"):
        np.testing.assert_allclose(compared[name], rolled[name], atol=1e-6)
    # The rules read for a model that reads nothing itself, and find no effect in these words.
    assert compared["SeasonalNaive+context"].equals(compared["SeasonalNaive"])


def read_forecasts(folder):
    return pd.read_parquet(Path(folder) / "forecasts-levels-0.parquet")


def test_a_file_trains_it_on_what_was_told_before_the_first_cutoff(place):
    reads = {"context_length": 96, **READER, "text_backbone": str(place / "llama")}
    models = [
        {"model": "dlinear", "options": {"context_length": 96}, "training": TRAINING},
        {"model": "dlinear", "reader": "model", "options": reads, "training": TRAINING},
    ]
    data = {"name": "levels.csv", "h": 24, "n_windows": TESTED, "val_size": 48, "context": "news.csv"}
    config = {"data": [data], "models": models, "level": [], "seeds": [0], "reference": "DLinear",
              "output_dir": "filed"}  # fmt: skip
    (place / "told.yaml").write_text(yaml.safe_dump(config))
    run("compare", "told.yaml")
    frame = read_forecasts("filed")
    assert measure(frame, "DLinear+context") < 0.25 * measure(frame, "DLinear")


def test_who_cannot_read_is_refused_before_anything_runs(place):
    told = ("--h", 24, "--context", "news.csv", "--reader", "model", "--output-dir", "no")
    for model, message in (
        ("SeasonalNaive", "reader is model, but SeasonalNaive reads no texts as it is; take reader: rules"),
        ("dlinear", "reader is model, but dlinear reads no texts as it is; give it options: text_layers: 8"),
    ):
        assert message in run("compare", "levels.csv", "--models", model, *told, code=2)
    run("fit", "history.csv", "--model", "dlinear", "--h", 24, "--steps", 1, "--output-dir", "plain", "--quiet")
    refused = run("compare", "levels.csv", "--models", "./plain", *told, code=2)
    assert "reads no texts as it is; take reader: rules, or train one with text_layers: 8" in refused
    assert not (place / "no").exists()
