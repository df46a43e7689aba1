"""A researcher with a table to reproduce: Time-LLM on two data sets, two horizons, two seeds, in the paper's form."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from tests.fixtures.backbones import save_tiny_backbone
from tsllm.cli.main import app
from tsllm.forecasting.saved import open_saved

DATA, HORIZONS, SEEDS = ["etth1", "exchange"], [96, 192], [0, 1]
# Jin (2024), look-back 512: MSE and MAE; nothing is published of exchange rates with that look-back.
PUBLISHED = {("etth1", 96, "TimeLLM"): (0.362, 0.392), ("etth1", 192, "TimeLLM"): (0.398, 0.418)}
PUBLISHED |= {("etth1", 96, "DLinear"): (0.375, 0.399), ("etth1", 192, "DLinear"): (0.405, 0.416)}
TIMELLM = {"num_backbone_layers": 1, "d_model": 8, "num_heads": 2, "d_ff": 8, "num_prototypes": 5, "num_lags": 2}
TIMELLM |= {"patch_length": 64, "patch_stride": 64}
LATEX = {"±": r"$\pm$", "–": "--"}


def write_series(folder):
    """Two short data sets under published names, of one series each; the split of `etth1` counts months."""
    rng = np.random.default_rng(0)
    for stem, freq, rows in (("ETTh1", "h", 14400), ("exchange_rate", "D", 2000)):
        wave = 4 * np.sin(np.arange(rows) * 2 * np.pi / 24) + rng.normal(size=rows)
        times = pd.date_range("2016-07-01", periods=rows, freq=freq)
        pd.DataFrame({"date": times, "OT": wave.round(3)}).to_csv(folder / f"{stem}.csv", index=False)


def run(folder):
    words = ["benchmark", "long-term", "table.yaml", "--data", *DATA, "--horizons", *map(str, HORIZONS), "--seeds"]
    result = CliRunner().invoke(app, [*words, *map(str, SEEDS), "--context-length", "512", "--data-path", str(folder)])
    assert result.exit_code == 0, result.output
    return result.output


def read_cells(folder):
    """Returns (data, h, model, seed) -> (folder, losses of each window) of the cells on disk."""
    found = {}
    for path in (folder / "runs" / "long_term" / "cells").glob("*/cell.json"):
        key = json.loads(path.read_text())["key"]
        losses = pd.read_parquet(path.parent / "forecasts.parquet")
        model = {"timellm": "TimeLLM", "dlinear": "DLinear"}[key["spec"]["model"]]
        windows = losses["cutoff"].diff().dropna().unique()
        assert len(windows) == 1, "every window counts"
        data = "etth1" if windows[0] == pd.Timedelta("1h") else "exchange"
        found[data, key["target"]["task"]["h"], model, key["seed"]] = (path.parent, losses)
    return found


def compute_loss(model, folder, window):
    """Returns MSE and MAE of one window by hand: forecast again, in units of the training part's deviation."""
    table = pd.read_csv(folder / "exchange_rate.csv", parse_dates=["date"])
    values = table["OT"].to_numpy()
    end = int(np.flatnonzero(table["date"] == window["cutoff"])[0]) + 1
    history = pd.DataFrame({"unique_id": "OT", "ds": table["date"][:end], "y": values[:end]})
    forecaster = open_saved(str(model))
    made = forecaster.predict(history)[forecaster.alias].to_numpy()
    error = (made - values[end : end + len(made)]) / values[: int(0.7 * len(values))].std()
    return (error**2).mean(), np.abs(error).mean()


@pytest.mark.slow
def test_time_llm_on_two_data_sets_two_horizons_and_two_seeds_makes_the_table_of_the_paper(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_series(tmp_path)
    backbone = save_tiny_backbone(tmp_path / "backbone", layers=1, width=16)
    quick = {"max_steps": 3, "eval_steps": 3, "per_device_train_batch_size": 16, "per_device_eval_batch_size": 256}
    models = [
        {"model": "timellm", "options": {"backbone": backbone} | TIMELLM, "training": quick},
        {"model": "dlinear", "training": quick},
    ]
    (tmp_path / "table.yaml").write_text(yaml.safe_dump({"models": models}))

    shown = run(tmp_path)

    cells = read_cells(tmp_path)
    rows = [(data, h) for data in DATA for h in HORIZONS]
    assert set(cells) == {(*row, model, seed) for row in rows for model in ("TimeLLM", "DLinear") for seed in SEEDS}
    assert [len(cells["etth1", h, "TimeLLM", 0][1]) for h in HORIZONS] == [2880 - h + 1 for h in HORIZONS]

    # What a cell holds is what its model forecasts.
    path, losses = cells["exchange", 96, "TimeLLM", 1]
    window = losses.iloc[-1]
    assert (window["mse"], window["mae"]) == pytest.approx(compute_loss(path / "model", tmp_path, window), rel=1e-3)

    # What the table says is made of the cells: mean and deviation over seeds, and what is published.
    out = tmp_path / "runs" / "long_term"
    wide = pd.read_csv(out / "table.csv", dtype=str).set_index(["data", "h"])
    assert wide.index.tolist() == [
        *((d, str(h)) for d, h in rows[:2]), ("etth1", "average"), *((d, str(h)) for d, h in rows[2:]),
        ("exchange", "average"),
    ]  # fmt: skip
    scores = pd.read_csv(out / "scores.csv").set_index(["data", "h", "model"])
    markdown, latex = (out / "table.md").read_text(), (out / "table.tex").read_text()
    for row in rows:
        line = next(text for text in markdown.splitlines() if text.startswith(f"| {row[0]} | {row[1]} |"))
        in_latex = next(text for text in latex.splitlines() if text.startswith(f"{row[0]} & {row[1]} &"))
        for model in ("TimeLLM", "DLinear"):
            for k, loss in enumerate(("mse", "mae")):
                seeds = [np.average(f[loss], weights=f["count"]) for _, f in (cells[*row, model, s] for s in SEEDS)]
                mean, deviation = np.mean(seeds), np.std(seeds, ddof=1)
                assert deviation > 0
                assert scores.loc[(*row, model), [loss, f"{loss}_sd"]].tolist() == pytest.approx([mean, deviation])
                text = f"{mean:.3f} ± {deviation:.3f}"
                text += f" / {PUBLISHED[*row, model][k]:.3f}" if (*row, model) in PUBLISHED else ""
                assert wide.loc[(row[0], str(row[1])), f"{model} {loss.upper()}"] == text
                assert text in line
                assert re.sub("[±–]", lambda m: LATEX[m[0]], text) in in_latex
    for data in DATA:
        mean = np.mean([scores.loc[(data, h, "TimeLLM"), "mse"] for h in HORIZONS])
        assert wide.loc[(data, "average"), "TimeLLM MSE"].split(" / ")[0] == f"{mean:.3f}"
    assert markdown.strip() in shown

    # Once more: everything is there, and the table is the same.
    written = {path: path.stat().st_mtime_ns for path, _ in cells.values()}
    run(tmp_path)
    assert {path: path.stat().st_mtime_ns for path, _ in read_cells(tmp_path).values()} == written
    assert (out / "table.md").read_text() == markdown
