"""Benchmarks of others: tasks found in folders and files, scores relative to the seasonal naive."""

import json
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

import tsllm
from tsllm.backbones import pretrained
from tsllm.cli.main import app
from tsllm.evaluation.relative import find_gift_folders, list_fev_entries, list_gift_entries, summarise_relative


def save_gift(folder, freq="D", series=2, steps=120):
    """Writes rows as `datasets.save_to_disk` does: an Arrow stream named by state.json."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(series)
    table = pa.table(
        {
            "item_id": [f"s{k}" for k in range(series)],
            "start": pa.array([pd.Timestamp("2020-01-01")] * series, type=pa.timestamp("s")),
            "freq": [freq] * series,
            "target": [(50 + rng.normal(size=steps).cumsum()).tolist() for _ in range(series)],
        }
    )
    with pa.ipc.new_stream(folder / "data-00000-of-00001.arrow", table.schema) as sink:
        sink.write_table(table)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
    return folder


def run(*words):
    return CliRunner().invoke(app, ["benchmark", *map(str, words)])


def test_data_sets_of_gift_eval_are_found_and_named_with_their_frequency(tmp_path):
    save_gift(tmp_path / "solar" / "D")
    save_gift(tmp_path / "bike")
    assert find_gift_folders(tmp_path) == [tmp_path / "bike", tmp_path / "solar" / "D"]
    assert find_gift_folders(tmp_path / "bike") == [tmp_path / "bike"]
    assert [(e.name, e.task) for e in list_gift_entries(tmp_path / "bike", ["short", "long"])] == [
        (str(tmp_path / "bike"), "short"),
        (str(tmp_path / "bike"), "long"),
    ]
    with pytest.raises(FileNotFoundError, match="holds no data set of GIFT-Eval"):
        find_gift_folders(tmp_path / "none")


def test_gift_eval_from_the_command_line(tmp_path):
    save_gift(tmp_path / "data" / "solar" / "D")
    save_gift(tmp_path / "data" / "wind" / "D", series=3)
    words = ["gift-eval", tmp_path / "data", "--models", "Naive", "--output-dir", tmp_path / "out"]
    result = run(*words)
    assert result.exit_code == 0, result.output
    summary = pd.read_csv(tmp_path / "out" / "summary.csv").set_index("model")
    table = pd.read_csv(tmp_path / "out" / "fev_summary.csv").set_index(["task_name", "model_name"])
    assert sorted({name for name, _ in table.index}) == ["solar/D/short", "wind/D/short"]
    # A day has no season in GIFT-Eval, so the seasonal naive is the naive.
    assert summary.loc["Naive", "rel_MASE"] == pytest.approx(1)
    assert summary.loc["SeasonalNaive", "rel_WQL"] == 1
    assert summary.loc["Chronos-2", ["source", "rel_WQL"]].tolist() == ["published", 0.485]
    assert "only if" in (tmp_path / "out" / "summary.md").read_text()
    assert run(*words).output.count("window 1/") == 0  # all cells are kept
    told = []
    found = tsllm.benchmark("gift-eval", tmp_path / "data", ["Naive"], output_dir=tmp_path / "out", tell=told.append)
    assert told == [], "Python asks for the same cells"
    pd.testing.assert_frame_equal(found.summary.set_index("model"), summary)
    assert 'tsllm.benchmark("gift-eval", ...)' in found.report.with_suffix(".md").read_text()
    with pytest.raises(ValueError, match=r"models is 'Naive'; give a list: \['Naive'\]"):
        tsllm.benchmark("gift-eval", tmp_path / "data", "Naive")


def test_an_opponent_whose_weights_cannot_be_had_is_counted_on_each_task_and_told_once(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "reach_hub", lambda tell=True: "the Hub cannot be reached")
    monkeypatch.setitem(sys.modules, "chronos", None)
    for name in ("solar", "wind"):
        save_gift(tmp_path / "data" / name / "D")
    models = ["Naive", "chronos:amazon/chronos-bolt-nowhere"]
    found = tsllm.benchmark("gift-eval", tmp_path / "data", models, output_dir=tmp_path / "out")
    row = found.summary.set_index("model").loc["chronos-bolt-nowhere"]
    assert row[["failed", "tasks", "rel_WQL"]].tolist() == [2, 2, 1.0]
    assert found.summary.set_index("model").loc["Naive", "failed"] == 0
    (note,) = [note for note in found.notes if note.startswith("chronos-bolt-nowhere")]
    assert "failed on solar/D/short, wind/D/short (2 of 2 tasks), each counted as the seasonal naive: " in note
    assert note.endswith("needs chronos-forecasting, which is optional; pip install chronos-forecasting")


def test_fev_tasks_from_the_command_line_and_failures_that_count(tmp_path):
    rng = np.random.default_rng(0)
    rows = pa.table(
        {
            "id": ["a", "b"],
            "timestamp": [pd.date_range("2020-01-01", periods=60, freq="D").to_list()] * 2,
            "target": [(9 + rng.normal(size=60)).tolist() for _ in range(2)],
        }
    )
    pq.write_table(rows, tmp_path / "data.parquet")
    task = {"dataset_path": str(tmp_path / "data.parquet"), "horizon": 5, "num_windows": 2, "eval_metric": "SQL"}
    task |= {"extra_metrics": ["MASE"], "quantile_levels": [0.1, 0.5, 0.9]}
    tasks = [task | {"task_name": name, "seasonality": s} for name, s in (("one", 1), ("seven", 7))]
    (tmp_path / "tasks.yaml").write_text(yaml.safe_dump({"tasks": tasks}))
    assert [e.task for e in list_fev_entries(tmp_path / "tasks.yaml")] == ["one", "seven"]
    with pytest.raises(ValueError, match="has no task 'two'"):
        list_fev_entries(tmp_path / "tasks.yaml", ["two"])
    options = ["--models", "Naive", "--tasks", "seven", "--output-dir", tmp_path / "out"]
    result = run("fev", tmp_path / "tasks.yaml", *options)
    assert result.exit_code == 0, result.output
    summary = pd.read_csv(tmp_path / "out" / "summary.csv").set_index("model")
    table = pd.read_csv(tmp_path / "out" / "fev_summary.csv").set_index("model_name")
    expected = table.loc["Naive", "SQL"] / table.loc["SeasonalNaive", "SQL"]
    assert summary.loc["Naive", "rel_test_error"] == pytest.approx(expected)
    assert summary.loc["Naive", "skill"] == pytest.approx(1 - expected)
    assert summary.loc["PatchTST", "rel_test_error"] == pytest.approx(0.699)
    told = []
    again = {"tasks": ["seven"], "output_dir": tmp_path / "out", "tell": told.append}
    found = tsllm.benchmark("fev", tmp_path / "tasks.yaml", ["Naive"], **again)
    assert told == []
    pd.testing.assert_frame_equal(found.summary.set_index("model"), summary)


def make_rows(**errors):
    rows = []
    for model, values in errors.items():
        for task, value in zip(("x", "y", "z"), values, strict=True):
            rows.append({"model_name": model, "task_name": task, "test_error": value, "MASE": value})
    extra = {"training_time_s": 1.0, "inference_time_s": 0.5, "trained_on_this_dataset": False}
    return pd.DataFrame(rows).assign(**extra)


def test_relative_scores_are_bounded_geometric_means_and_failures_count_as_the_naive():
    table = make_rows(SeasonalNaive=(2.0, 4.0, 0.0), A=(1.0, np.nan, 7.0), B=(1000.0, 4.0, 0.0))
    found = summarise_relative(table).set_index("model")
    assert found.loc["A", "rel_test_error"] == pytest.approx(np.sqrt(0.5))
    assert found.loc["A", "failed"] == 1
    assert found.loc["B", "rel_test_error"] == pytest.approx(10.0)  # 500 counts as 100
    assert np.isnan(found.loc["A", "rel_WQL"])
    assert found.loc["SeasonalNaive", "rel_test_error"] == 1
    assert found.loc["A", "seconds"] == pytest.approx(4.5)
