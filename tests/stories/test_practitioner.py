"""A practitioner with a table of her own: from the file to a forecaster on the Hub, by what the docs say."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import tsllm
from tests.hub.fake_hub import WRITER, serve

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = {"id_col": "series", "time_col": "date", "target_col": "value"}
# Elsewhere: another process, which knows the repository's name and has the table, and nothing else.
PUSH = """
import json, sys, tsllm
forecaster = tsllm.NeuralForecaster.from_pretrained(sys.argv[1])
print(json.dumps({"commit": forecaster.push_to_hub("me/meters", private=True, licence="cc-by-4.0")}))
"""
LOAD = """
import json, sys, pandas as pd, tsllm
table = pd.read_csv(sys.argv[1], dtype={"series": str})
forecaster = tsllm.NeuralForecaster.from_pretrained("me/meters", new_series="history")
forecaster.predict(table, level=[80]).to_csv(sys.argv[2], index=False)
print(json.dumps({"licence": forecaster.licence}))
"""


def make_table(names, first="2024-03-01", shortest=300):
    """Half-hourly meters of unequal length that end together, with a text column that nobody needs."""
    rng = np.random.default_rng(0)
    end = pd.Timestamp(first) + pd.Timedelta("14D")
    parts = []
    for k, name in enumerate(names):
        steps = shortest + 20 * k
        times = pd.date_range(end=end, periods=steps, freq="30min")
        phase = 2 * np.pi * (times.hour * 2 + times.minute // 30) / 48
        value = (5 + k) * (2 + np.sin(phase)) + rng.normal(0, 0.2, steps)
        parts.append(pd.DataFrame({"series": name, "date": times, "value": value.round(3), "comment": "ok, checked"}))
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    folder = tmp_path_factory.mktemp("story")
    names = [f"{k:03d}" for k in range(10)]
    table = make_table(names)
    table[table["series"] < "008"].to_csv(folder / "meters.csv", index=False)
    table.to_csv(folder / "later.csv", index=False)
    loaded = tsllm.load_frame(folder / "meters.csv", **COLUMNS)
    training = {"max_steps": 40, "learning_rate": 0.01}
    options = {"context_length": 96, "moving_average": 25, "training": training, "freq": "30min"}
    forecaster = tsllm.NeuralForecaster("dlinear", h=48, non_negative=True, **COLUMNS, **options)
    past = loaded.names.write(loaded.df)
    windows = tsllm.backtest(past, [tsllm.SeasonalNaive(48), forecaster], h=48, n_windows=2, level=[80], **COLUMNS)
    forecaster.fit(past).save_pretrained(folder / "meters")
    return folder, loaded, windows, forecaster


def test_the_file_is_read_and_what_nobody_needs_is_named(story):
    _, loaded, _, _ = story
    assert loaded.ignored == ("comment",)
    assert loaded.freq == "30min"
    assert loaded.df.groupby("unique_id").size().tolist() == [300 + 20 * k for k in range(8)]
    assert loaded.df["unique_id"].iloc[0] == "000"


def test_the_backtest_is_scored_and_drawn_under_her_columns(story):
    _, loaded, windows, _ = story
    assert windows.columns[:4].tolist() == ["series", "date", "cutoff", "value"]
    assert len(windows) == 8 * 2 * 48
    scores = tsllm.evaluate(windows, train=loaded.names.write(loaded.df), season=48, **COLUMNS)
    assert scores["model"].tolist() == ["SeasonalNaive", "DLinear"]
    assert scores["failed"].tolist() == [0, 0]
    assert (scores["mase"] < 2).all()
    picture = tsllm.plot(loaded.names.write(loaded.df), windows, models=["DLinear"], **COLUMNS)
    assert isinstance(picture, Figure)
    assert [ax.get_title(loc="left") for ax in picture.axes] == ["000", "001", "002", "003"]


def test_two_series_that_are_new_are_refused_with_the_way_out_that_works(story):
    folder, _, _, forecaster = story
    table = pd.read_csv(folder / "later.csv", dtype={"series": str})
    with pytest.raises(ValueError, match=r"was not trained on series 008, 009 \(2 new of 10\); pass new_series='hist"):
        forecaster.predict(table)
    again = tsllm.NeuralForecaster.from_pretrained(folder / "meters", new_series="history")
    forecasts = again.predict(table, level=[80])
    assert forecasts.columns.tolist() == ["series", "date", "DLinear", "DLinear-lo-80", "DLinear-hi-80"]
    assert forecasts.groupby("series").size().tolist() == [48] * 10
    assert (forecasts.iloc[:, 2:] >= 0).all(axis=None)
    # The new ones are forecast at their own level: meter k swings around 2 (5 + k).
    level = forecasts.groupby("series")["DLinear"].mean()
    assert level["009"] == pytest.approx(28, rel=0.2)


def run(code, hub, cache, *words):
    environment = os.environ | {
        "HF_ENDPOINT": hub.url, "HF_HOME": str(cache), "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1",
        "HF_TOKEN": WRITER, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    command = [sys.executable, "-c", code, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_what_was_pushed_forecasts_the_same_elsewhere(story, tmp_path):
    folder, _, _, _ = story
    with serve() as hub:
        assert "me/meters" in run(PUSH, hub, tmp_path / "here", folder / "meters")["commit"]
        assert hub.repositories["me/meters"].private
        found = run(LOAD, hub, tmp_path / "elsewhere", folder / "later.csv", tmp_path / "out.csv")
    assert found["licence"] == "cc-by-4.0"
    table = pd.read_csv(folder / "later.csv", dtype={"series": str})
    here = tsllm.NeuralForecaster.from_pretrained(folder / "meters", new_series="history").predict(table, level=[80])
    there = pd.read_csv(tmp_path / "out.csv", dtype={"series": str})
    np.testing.assert_allclose(there.iloc[:, 2:], here.iloc[:, 2:], rtol=1e-6)
