"""Tasks of others in a comparison: fev files and GIFT-Eval folders, with their windows and seasons."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from tests.data.test_benchmarks import save_gift, stamps
from tsllm.data.benchmarks import load_fev_tasks
from tsllm.data.loading import load_task
from tsllm.evaluation.compare import run_compare
from tsllm.evaluation.compare_report import build_compare_report
from tsllm.evaluation.config import CompareConfig, DataEntry
from tsllm.evaluation.fev_summary import compute_seasonal_errors
from tsllm.evaluation.prepare import prepare_task, prepare_tasks
from tsllm.types import FrameError


@pytest.fixture
def write_tasks(tmp_path):
    """Writes rows of series as fev keeps them and a file with one task on them."""
    rng = np.random.default_rng(0)
    lengths = [30, 40, 8]
    table = pa.table(
        {
            "id": ["b", "a", "short"],
            "timestamp": [stamps(n) for n in lengths],
            "target": [(50 + rng.normal(size=n)).tolist() for n in lengths],
            "promo": [[float(t % 2) for t in range(n)] for n in lengths],
        }
    )
    path = tmp_path / "shop" / "hourly" / "data.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(table, path)

    def write(**fields):
        task = {"dataset_path": str(path), "horizon": 4, "num_windows": 3, "window_step_size": 2, "seasonality": 6}
        file = tmp_path / "tasks.yaml"
        file.write_text(yaml.safe_dump({"tasks": [task | fields]}))
        return file

    return write


CUTS = [{}, {"initial_cutoff": -12}, {"initial_cutoff": 20}, {"initial_cutoff": "2024-01-01 19:00"}]


@pytest.mark.parametrize("fields", CUTS, ids=["end", "before-the-end", "position", "date"])
def test_windows_are_those_of_the_task(write_tasks, fields):
    file = write_tasks(known_dynamic_columns=["promo"], **fields)
    prepared = prepare_task(DataEntry(str(file), task="shop/hourly"))
    (task,) = load_fev_tasks(file)
    data = load_task(task)
    assert prepared.name == "shop/hourly"
    assert (prepared.task.h, prepared.task.season, prepared.task.covariates) == (4, 6, ("promo",))
    for k, window in enumerate(task.windows(data.df, data.freq)):
        past = window.past[window.past["unique_id"] != "short"].reset_index(drop=True)
        pd.testing.assert_frame_equal(prepared.windows.history(k), past, check_like=True)
        cutoff = prepared.windows.cutoff_times(k)
        keys = prepared.windows.keys
        own = keys[keys["cutoff"] == keys["unique_id"].map(cutoff)]
        future = window.future[window.future["unique_id"] != "short"]
        assert own["y"].tolist() == future["y"].tolist()
    assert "1 of 3 series are too short for some window" in prepared.notes[0]
    assert "left out: short." in prepared.notes[0]


def test_a_task_is_compared_and_written_as_fev_names_it(write_tasks, tmp_path):
    file = write_tasks(eval_metric="WQL", extra_metrics=["MASE"], quantile_levels=[0.1, 0.5, 0.9])
    data = [{"name": str(file), "task": "shop/hourly"}]
    config = CompareConfig(data, ["SeasonalNaive", "Naive"], level=[80], output_dir=str(tmp_path / "out"))
    results = run_compare(config)
    report, tables = build_compare_report(config, results, "command")
    summary = tables["fev_summary"].set_index("model_name")
    row = summary.loc["SeasonalNaive"]
    assert (row["task_name"], row["dataset_path"]) == ("shop/hourly", str(tmp_path / "shop/hourly/data.parquet"))
    assert (row["id_column"], row["num_windows"], row["initial_cutoff"]) == ("id", 3, -8)
    assert row["test_error"] == row["WQL"] > 0
    assert row["num_forecasts"] == 6
    assert "scores-shop-hourly" in tables
    assert "too short for some window" in report.to_markdown()


def test_scaled_errors_look_back_as_far_as_the_task_allows(write_tasks):
    whole = compute_seasonal_errors(prepare_task(DataEntry(str(write_tasks()), task="shop/hourly")))[0]
    prepared = prepare_task(DataEntry(str(write_tasks(max_context_length=9)), task="shop/hourly"))
    bounded = compute_seasonal_errors(prepared)[0]
    y = prepared.windows.history(1)
    past = y[y["unique_id"] == "b"]["y"].to_numpy()[-9:]
    at = list(prepared.windows.df["unique_id"].unique()).index("b")
    assert bounded[at, 1] == pytest.approx(np.abs(past[6:] - past[:-6]).mean())
    assert not np.allclose(whole, bounded)
    assert "allows 9 steps of history" in prepared.notes[1]


def test_gift_eval_folders_bring_horizon_windows_and_season(tmp_path):
    folder = save_gift(tmp_path / "solar", "H", [[float(t % 24) for t in range(n)] for n in (1000, 1500)])
    prepared = prepare_task(DataEntry(str(folder), task="short"))
    assert prepared.name == "solar/short"
    assert (prepared.task.h, prepared.task.season) == (48, 24)
    assert (prepared.windows.n_windows, prepared.windows.step) == (3, 48)  # ceil(0.1 * 1000 / 48)
    assert prepared.windows.history(0).groupby("unique_id").size().to_dict() == {"s0": 856, "s1": 1356}
    assert prepared.notes == ()


def test_what_does_not_fit_is_told(write_tasks, tmp_path):
    file = str(write_tasks())
    with pytest.raises(ValueError, match="has no task 'x'; it has shop/hourly"):
        prepare_task(DataEntry(file, task="x"))
    with pytest.raises(FileNotFoundError, match="needs a fev file or a GIFT-Eval folder"):
        prepare_task(DataEntry(str(tmp_path / "gone.yaml"), task="x"))
    with pytest.raises(ValueError, match="task 'x' brings its own h, n_windows; leave that out"):
        DataEntry(file, task="x", h=3, n_windows=2)
    with pytest.raises(ValueError, match="no series has 40 steps before its first"):
        prepare_task(DataEntry(str(write_tasks(min_context_length=40)), task="shop/hourly"))
    months = write_tasks(initial_cutoff="2024-01-01 10:00", window_step_size="D", num_windows=2, horizon=1)
    assert prepare_task(DataEntry(str(months), task="shop/hourly")).windows.step == 24


def test_a_season_longer_than_the_training_part_is_refused_before_anything_runs(tmp_path):
    path = tmp_path / "a.parquet"
    pd.DataFrame({"unique_id": "a", "ds": stamps(30), "y": range(30)}).to_parquet(path)
    with pytest.raises(FrameError, match=r"has 22 steps before its first cutoff, not more than a season \(24\)"):
        prepare_task(DataEntry(str(path), h=4, n_windows=2))
    assert prepare_task(DataEntry(str(path), h=4, n_windows=2, season=6)).task.season == 6


def test_two_data_sets_of_one_name_keep_two_tables(tmp_path):
    rng = np.random.default_rng(0)
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        frame = pd.DataFrame({"unique_id": "a", "ds": stamps(90), "y": rng.normal(size=90)})
        frame.to_parquet(tmp_path / folder / "load.parquet")
    data = [{"name": str(tmp_path / folder / "load.parquet"), "h": 4, "n_windows": 3} for folder in ("x", "y")]
    config = CompareConfig(data, ["SeasonalNaive", "Naive"], level=[80], output_dir=str(tmp_path / "out"))
    _, tables = build_compare_report(config, run_compare(config), "command")
    assert {"scores-load", "scores-load-2"} <= set(tables)
    assert tables["scores-load"]["mae"].tolist() != tables["scores-load-2"]["mae"].tolist()


def test_a_data_entry_may_name_the_series_that_it_takes():
    times = pd.date_range("2024-01-01", periods=40, freq="D")
    frame = pd.concat([pd.DataFrame({"unique_id": n, "ds": times, "y": float(k)}) for k, n in enumerate("abc")])
    prepared = prepare_task(DataEntry("three", h=2, series=["c", "a"], frame=frame))
    assert prepared.windows.df.groupby("unique_id")["y"].mean().to_dict() == {"a": 0.0, "c": 2.0}
    with pytest.raises(ValueError, match=r"three has no series \['d'\]; it has \['a', 'b', 'c'\]"):
        prepare_task(DataEntry("three", h=2, series=["a", "d"], frame=frame))
    with pytest.raises(ValueError, match="has no series in an empty list"):
        prepare_task(DataEntry("three", h=2, series=[], frame=frame))


def test_entries_of_one_data_set_are_told_apart_by_what_differs(tmp_path):
    path = tmp_path / "d.parquet"
    times = stamps(120)
    parts = [pd.DataFrame({"unique_id": n, "ds": times, "y": np.arange(120.0) + k}) for k, n in enumerate("ab")]
    pd.concat(parts).assign(promo=np.tile(np.arange(120) % 2, 2)).to_parquet(path)

    def name(*changes):
        common = {"name": str(path), "h": 4, "context_length": 24}
        return [p.name.removeprefix(str(path)) for p in prepare_tasks([DataEntry(**common | c) for c in changes])]

    assert name({"series": ["a"]}, {"series": ["b"]}) == [" (1 series: a)", " (1 series: b)"]
    assert name({}, {"covariates": ["promo"]}) == [" (covariates: none)", " (covariates: promo)"]
    assert name({"season": 6}, {"season": 12}) == [" (season 6)", " (season 12)"]
    layouts = [" (layout multivariate)", " (layout univariate)"]
    assert name({"layout": "multivariate"}, {"layout": "univariate"}) == layouts
    assert name({"val_size": 8}, {"val_size": 12}, {}) == [" (val_size 8)", " (val_size 12)", " (val_size by default)"]
    assert name({"h": 4}, {"h": 6}) == [" (h 4)", " (h 6)"]
    with pytest.raises(ValueError, match="appears twice with the same settings"):
        name({"season": 6}, {"season": 6})
