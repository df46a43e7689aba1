import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tsllm.data.benchmarks import Task, gift_eval_task, load_fev_tasks, season_of
from tsllm.data.loading import load_frame, load_task
from tsllm.data.rows import rows_to_long, series_times
from tsllm.data.splits import by_last_windows
from tsllm.types import FrameError


def stamps(n, start="2024-01-01", freq="h"):
    return list(pd.date_range(start, periods=n, freq=freq))


@pytest.fixture
def fev_rows():
    """Three series of 30, 20 and 6 hours; targets count up from 0, 100, 200; one known, one past covariate."""
    lengths = [30, 20, 6]
    return pa.table(
        {
            "id": ["b", "a", "c"],
            "timestamp": [stamps(n) for n in lengths],
            "target": [[100.0 * k + t for t in range(n)] for k, n in enumerate(lengths)],
            "promo": [[float(t % 2) for t in range(n)] for n in lengths],
            "stock": [[float(-t) for t in range(n)] for n in lengths],
            "city": ["X", "Y", "Z"],
        }
    )


@pytest.fixture
def fev_file(fev_rows, tmp_path):
    path = tmp_path / "shop" / "hourly" / "data.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(fev_rows, path)
    return path


def save_gift(folder, freq, targets, starts=None):
    """Writes rows as `datasets.save_to_disk` does: an Arrow stream named by state.json."""
    folder.mkdir(parents=True)
    table = pa.table(
        {
            "item_id": [f"s{k}" for k in range(len(targets))],
            "start": pa.array(starts or [pd.Timestamp("2020-01-01")] * len(targets), type=pa.timestamp("s")),
            "freq": [freq] * len(targets),
            "target": targets,
        }
    )
    with pa.ipc.new_stream(folder / "data-00000-of-00001.arrow", table.schema) as sink:
        sink.write_table(table)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
    return folder


def test_rows_of_series_become_a_long_frame(fev_file):
    data = load_frame(fev_file, targets=["target"], covariates=["promo"])
    assert data.freq == "h"
    assert data.df.groupby("unique_id").size().to_dict() == {"a": 20, "b": 30, "c": 6}
    a = data.df[data.df["unique_id"] == "a"]
    assert a["y"].tolist() == [100.0 + t for t in range(20)]
    assert a["promo"].tolist() == [float(t % 2) for t in range(20)]
    assert a["ds"].tolist() == stamps(20)


def test_several_targets_of_a_row_become_series_of_their_own(fev_rows):
    long = rows_to_long(fev_rows.drop_columns(["target"]))
    assert long["unique_id"].unique().tolist() == [
        "b_promo", "a_promo", "c_promo", "b_stock", "a_stock", "c_stock"
    ]  # fmt: skip
    assert long[long["unique_id"] == "c_stock"]["y"].tolist() == [0, -1, -2, -3, -4, -5]


def test_missing_values_of_rows_stay_missing_and_ragged_rows_are_told():
    table = pa.table({"id": ["a"], "timestamp": [stamps(3)], "target": [[1.0, None, 3.0]]})
    assert rows_to_long(table)["y"].isna().tolist() == [False, True, False]
    ragged = pa.table({"id": ["a", "b"], "timestamp": [stamps(3), stamps(3)], "target": [[1.0, 2, 3], [1.0, 2]]})
    with pytest.raises(FrameError, match="series 'b': column 'target' has 2 steps, expected 3"):
        rows_to_long(ragged)
    with pytest.raises(FrameError, match="need column 'wind'"):
        rows_to_long(table, covariates=["wind"])
    with pytest.raises(FrameError, match="names of the series"):
        rows_to_long(table.rename_columns(["name", "timestamp", "target"]))


def test_windows_of_a_task_are_those_of_fev(fev_file):
    task = Task(
        dataset_path=str(fev_file),
        horizon=4,
        num_windows=3,
        window_step_size=2,
        min_context_length=5,
        max_context_length=7,
        known_dynamic_columns=["promo"],
        past_dynamic_columns=["stock"],
    )
    data = load_task(task)
    assert data.name == task.name == "shop/hourly"
    assert list(data.df.columns) == ["unique_id", "ds", "y", "promo", "stock"]
    windows = list(task.windows(data.df, data.freq))
    # By hand: cutoffs at 8, 6, 4 steps before the end; c has 6 steps and is too short for all of them.
    assert [w.left_out for w in windows] == [("c",)] * 3
    ends = [w.past.groupby("unique_id")["y"].last().to_dict() for w in windows]
    assert ends == [{"a": 111.0, "b": 21.0}, {"a": 113.0, "b": 23.0}, {"a": 115.0, "b": 25.0}]
    for window in windows:
        assert window.past.groupby("unique_id").size().to_dict() == {"a": 7, "b": 7}
        first = window.future.groupby("unique_id")["y"].agg(list)["a"]
        assert first == [window.past.groupby("unique_id")["y"].last()["a"] + k for k in (1, 2, 3, 4)]
    assert windows[-1].future.groupby("unique_id")["y"].last().to_dict() == {"a": 119.0, "b": 29.0}


def test_a_cutoff_may_be_a_position_or_a_date(fev_file):
    path = str(fev_file)
    df, freq = load_task(Task(dataset_path=path)).df, "h"
    by_position = Task(dataset_path=path, horizon=2, num_windows=2, initial_cutoff=3)
    sizes = [w.past.groupby("unique_id").size().to_dict() for w in by_position.windows(df, freq)]
    assert sizes == [{"a": 3, "b": 3, "c": 3}, {"a": 5, "b": 5}]
    by_date = Task(
        dataset_path=path, horizon=2, num_windows=2, initial_cutoff="2024-01-01 09:00", window_step_size="3h"
    )
    ends = [w.past.groupby("unique_id")["ds"].last().dt.hour.to_dict() for w in by_date.windows(df, freq)]
    assert ends == [{"a": 9, "b": 9}, {"a": 12, "b": 12}]
    stepped = Task(dataset_path=path, horizon=2, num_windows=2, initial_cutoff="2024-01-01 09:00", window_step_size=3)
    assert [w.past["ds"].max() for w in stepped.windows(df, freq)] == [
        w.past["ds"].max() for w in by_date.windows(df, freq)
    ]


def test_anchored_steps_leave_the_first_cutoff_where_it_is():
    task = Task("x.parquet", horizon=1, num_windows=3, initial_cutoff="2020-01-15", window_step_size="ME")
    times = np.array(pd.date_range("2020-01-01", "2020-12-31", freq="D"))
    assert task.cutoffs(times, "D") == [15, 31, 60]


def test_fev_files_are_read_with_their_defaults_and_old_names(tmp_path):
    path = tmp_path / "tasks.yaml"
    path.write_text(
        """
tasks:
- dataset_path: autogluon/chronos_datasets
  dataset_config: monash_traffic
  horizon: 24
  seasonality: 24
  eval_metric: MASE
  extra_metrics: [{name: WQL, epsilon: 1.0}]
  quantile_levels: [0.1, 0.9]
- dataset_path: data/shop/data.parquet
  horizon: 3
  num_rolling_windows: 2
  rolling_step_size: 1
  target_column: sales
"""
    )
    first, second = load_fev_tasks(path)
    assert (first.name, first.horizon, first.step, first.num_windows) == ("monash_traffic", 24, 24, 1)
    assert first.extra_metrics == [{"name": "WQL", "epsilon": 1.0}]
    assert (second.name, second.num_windows, second.step, second.target) == ("data/shop", 2, 1, "sales")
    assert second.cutoffs(np.arange(10), 1) == [6, 7]
    path.write_text("tasks: [{dataset_path: a.parquet, horizonn: 3}]")
    with pytest.raises(ValueError, match="task 0: unknown key 'horizonn'"):
        load_fev_tasks(path)
    path.write_text("horizon: 3")
    with pytest.raises(ValueError, match="a list under the key 'tasks'"):
        load_fev_tasks(path)


def test_a_multivariate_task_gives_one_series_a_target(fev_file):
    task = Task(dataset_path=str(fev_file), target=["target", "stock"], known_dynamic_columns=["promo"], horizon=2)
    df = load_task(task).df
    assert df["unique_id"].unique().tolist() == ["a_stock", "a_target", "b_stock", "b_target", "c_stock", "c_target"]
    generated = Task(dataset_path=str(fev_file), generate_univariate_targets_from="__ALL__")
    assert load_task(generated).df["unique_id"].nunique() == 9


def test_a_long_file_is_a_task_too(tmp_path):
    long = pd.DataFrame({"id": [1] * 4 + [2] * 4, "timestamp": stamps(4) * 2, "sales": range(8), "price": 2.0})
    long.to_parquet(tmp_path / "long.parquet")
    task = Task(dataset_path=str(tmp_path / "long.parquet"), target="sales", known_dynamic_columns=["price"])
    df = load_task(task).df
    assert df["unique_id"].tolist() == ["1"] * 4 + ["2"] * 4
    assert df["y"].tolist() == list(range(8))
    both = Task(dataset_path=str(tmp_path / "long.parquet"), target=["sales", "price"])
    assert load_task(both).df["unique_id"].unique().tolist() == ["1_price", "1_sales", "2_price", "2_sales"]


@pytest.mark.parametrize(
    ("freq", "name", "term", "length", "horizon", "windows", "season"),
    [
        ("H", "electricity", "short", 5000, 48, 11, 24),
        ("H", "electricity", "medium", 50000, 480, 11, 24),
        ("15T", "ett1", "short", 60000, 48, 20, 96),
        ("15T", "ett1", "long", 60000, 720, 9, 96),
        ("D", "us_births", "short", 7305, 30, 20, 1),
        ("W-SUN", "saugeen", "short", 300, 8, 4, 1),
        ("M", "hospital", "short", 84, 12, 1, 12),
        ("10S", "bizitobs_service", "short", 8835, 60, 15, 360),
        ("H", "m4_hourly", "short", 748, 48, 1, 24),
        ("A-DEC", "m4_yearly", "short", 19, 6, 1, 1),
        ("Q-DEC", "m4_quarterly", "short", 24, 8, 1, 4),
    ],
)
def test_gift_eval_rules(tmp_path, freq, name, term, length, horizon, windows, season):
    folder = save_gift(tmp_path / name, freq, [[float(t) for t in range(length)]])
    task = gift_eval_task(folder, term)
    assert (task.horizon, task.num_windows, task.seasonality) == (horizon, windows, season)
    assert task.name == f"{name}/{term}"
    data = load_task(task)
    assert data.task is task
    last = list(task.windows(data.df, data.freq))[-1]
    assert len(last.future) == horizon
    assert last.future["y"].iloc[-1] == length - 1


def test_gift_eval_windows_follow_one_another_to_the_end(tmp_path):
    folder = save_gift(tmp_path / "solar", "H", [[float(t) for t in range(1000)], [float(-t) for t in range(1500)]])
    task = gift_eval_task(folder)
    data = load_task(task)
    # ceil(0.1 * 1000 / 48) = 3 windows by the shorter series, in both.
    windows = list(task.windows(data.df, data.freq))
    assert len(windows) == 3
    pasts = [w.past.groupby("unique_id").size().to_dict() for w in windows]
    assert pasts == [{"s0": 1000 - 48 * k, "s1": 1500 - 48 * k} for k in (3, 2, 1)]
    rule = by_last_windows(task.num_windows, task.horizon, task.step)
    assert rule.borders(np.arange(1000)).validation == 1000 - 144


def test_multivariate_gift_eval_targets_become_dimensions(tmp_path):
    folder = save_gift(tmp_path / "ett1", "H", [[[1.0, 2.0, None], [4.0, 5.0, 6.0]]])
    df = load_frame(folder).df
    assert df["unique_id"].tolist() == ["s0_dim0"] * 3 + ["s0_dim1"] * 3
    assert df["y"].isna().tolist() == [False, False, True, False, False, False]
    assert df["ds"].dt.hour.tolist() == [0, 1, 2] * 2


@pytest.mark.parametrize(
    ("freq", "start", "expected"),
    [
        ("M", "2020-01-31", ["2020-01-01", "2020-02-01", "2020-03-01"]),
        ("Q-DEC", "2020-02-15", ["2020-01-01", "2020-04-01", "2020-07-01"]),
        ("A-DEC", "2019-12-31", ["2019-01-01", "2020-01-01", "2021-01-01"]),
        ("W-SUN", "2020-01-05", ["2019-12-30", "2020-01-06", "2020-01-13"]),
        ("D", "2020-02-28", ["2020-02-28", "2020-02-29", "2020-03-01"]),
    ],
)
def test_periods_are_dated_by_their_first_day(freq, start, expected):
    assert [str(t)[:10] for t in series_times(pd.Timestamp(start), freq, 3)] == expected


def test_what_gift_eval_does_not_define_is_told(tmp_path):
    folder = save_gift(tmp_path / "odd", "A-DEC", [[1.0] * 30])
    with pytest.raises(ValueError, match="no horizon for frequency 'A-DEC' of 'odd'"):
        gift_eval_task(folder)
    with pytest.raises(ValueError, match="term 'tiny' is unknown"):
        gift_eval_task(folder, "tiny")
    (folder / "data-00000-of-00001.arrow").unlink()
    with pytest.raises(FileNotFoundError, match=r"is named in .*state.json but is not there"):
        gift_eval_task(folder)


def test_tasks_that_cannot_be_are_told(fev_file):
    with pytest.raises(ValueError, match="it must be at most -6"):
        Task("a/b/x.parquet", horizon=4, num_windows=2, window_step_size=2, initial_cutoff=-5)
    with pytest.raises(ValueError, match="initial_cutoff must be a date"):
        Task("a/b/x.parquet", window_step_size="D")
    with pytest.raises(ValueError, match="horizon is 0"):
        Task("a/b/x.parquet", horizon=0)
    task = Task(dataset_path=str(fev_file), horizon=40)
    data = load_task(task)
    with pytest.raises(FrameError, match="no series has 1 steps before and 40 after the cutoff of window 0"):
        list(task.windows(data.df, data.freq))


def test_customary_seasons():
    expected = {"h": 24, "15min": 96, "30min": 48, "D": 1, "W-SUN": 1, "MS": 12, "QS-OCT": 4, "YS-JAN": 1, "B": 5}
    expected |= {"10s": 360, "7min": 1}
    assert {freq: season_of(freq) for freq in expected} == expected
    assert season_of(1) == 1
