"""fev's evaluation summary: its columns by name, and its metrics against a loop over windows and series.

Columns and values were compared with fev 0.10.0 itself, which pins another version of datasets.
"""

import ast
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from tsllm.data.benchmarks import Task
from tsllm.evaluation.backtest import BacktestResult, Cost
from tsllm.evaluation.compare import TaskResult
from tsllm.evaluation.config import DataEntry
from tsllm.evaluation.fev_summary import FEV_VERSION, METRICS, write_fev_summary
from tsllm.evaluation.prepare import prepare_task

# evaluation_summary of fev 0.10: the model, the fields of the task, the results, the metrics.
COLUMNS = [
    "model_name",
    "dataset_path",
    "dataset_config",
    "horizon",
    "num_windows",
    "initial_cutoff",
    "window_step_size",
    "min_context_length",
    "max_context_length",
    "seasonality",
    "eval_metric",
    "extra_metrics",
    "quantile_levels",
    "id_column",
    "timestamp_column",
    "target",
    "generate_univariate_targets_from",
    "known_dynamic_columns",
    "past_dynamic_columns",
    "static_columns",
    "task_name",
    "test_error",
    "training_time_s",
    "inference_time_s",
    "num_forecasts",
    "dataset_fingerprint",
    "trained_on_this_dataset",
    "fev_version",
]
H, SEASON, WINDOWS, STEP = 3, 4, 3, 2


@pytest.fixture
def result(tmp_path):
    """Two models on two series of different lengths; one of them a constant at first, so its seasonal error is 0."""
    rng = np.random.default_rng(0)
    flat = np.r_[np.full(20, 7.0), rng.normal(7, 1, 7)]
    values = {"a": rng.normal(10, 3, 25), "b": flat}
    parts = [
        pd.DataFrame({"unique_id": n, "ds": pd.date_range("2024", periods=len(y), freq="h"), "y": y})
        for n, y in values.items()
    ]
    path = tmp_path / "series.parquet"
    pd.concat(parts).to_parquet(path, index=False)
    prepared = prepare_task(DataEntry(str(path), h=H, season=SEASON, n_windows=WINDOWS, step_size=STEP))
    runs = []
    for seed in (0, 1):
        frame = prepared.windows.keys.copy()
        rng = np.random.default_rng(seed)
        for model in ("A", "B"):
            frame[model] = frame["y"] + rng.normal(size=len(frame))
            frame[f"{model}-lo-80"], frame[f"{model}-hi-80"] = frame[model] - 1.0, frame[model] + 2.0
        costs = {"A": Cost(1.0 + seed, 4.0, 6), "B": Cost(0.0, 2.0, 6)}
        runs.append(BacktestResult(frame, ["A", "B"], H, [80], costs=costs))
    facts = {"A": [{"steps": 3}, {"steps": 3}], "B": [{}]}
    return TaskResult(prepared, runs, facts, {})


def loop(result, model, metric, epsilon=0.0):
    """Scores as fev defines them: window by window, series by series, then the mean over windows and seeds."""
    df = result.prepared.loaded.df
    scores = []
    for run in result.runs:
        for k in range(WINDOWS):
            errors, squares, scaled, losses, scaled_losses, targets = [], [], [], [], [], []
            for _, part in run.frame.groupby("unique_id"):
                cutoff = sorted(part["cutoff"].unique())[k]
                window = part[part["cutoff"] == cutoff]
                past = df[(df["unique_id"] == part["unique_id"].iloc[0]) & (df["ds"] <= cutoff)]["y"].to_numpy()
                seasonal = np.mean([abs(past[t] - past[t - SEASON]) for t in range(SEASON, len(past))])
                seasonal = max(seasonal, epsilon)
                for _, row in window.iterrows():
                    error = abs(row["y"] - row[model])
                    errors.append(error)
                    squares.append(error**2)
                    targets.append(abs(row["y"]))
                    loss = 0.0
                    for q, name in ((0.1, f"{model}-lo-80"), (0.5, model), (0.9, f"{model}-hi-80")):
                        gap = row["y"] - row[name]
                        loss += 2 * max(q * gap, (q - 1) * gap) / 3
                    losses.append(loss)
                    if seasonal > 0:  # what cannot be scaled is left out
                        scaled.append(error / seasonal)
                        scaled_losses.append(loss / seasonal)
            scores.append(
                {
                    "MASE": np.mean(scaled),
                    "SQL": np.mean(scaled_losses),
                    "WQL": np.mean(losses) / max(np.mean(targets), epsilon),
                    "MQL": np.mean(losses),
                    "WAPE": np.mean(errors) / max(np.mean(targets), epsilon),
                    "MAE": np.mean(errors),
                    "MSE": np.mean(squares),
                    "RMSE": np.mean(squares) ** 0.5,
                }[metric]
            )
    return np.mean(scores)


def set_task(result, **fields):
    """Makes the data a task of fev's own."""
    task = Task("shop/hourly.parquet", horizon=H, num_windows=WINDOWS, window_step_size=STEP, **fields)
    result.prepared = replace(result.prepared, loaded=replace(result.prepared.loaded, task=task))


def test_columns_are_those_of_fev_in_their_order_and_survive_a_csv(result, tmp_path):
    table = write_fev_summary([result])
    assert table.columns.tolist() == [*COLUMNS, "MASE", "WQL", "SQL"]
    table.to_csv(tmp_path / "summary.csv", index=False)
    row = pd.read_csv(tmp_path / "summary.csv").iloc[0]
    assert (row["model_name"], row["horizon"], row["num_windows"], row["window_step_size"]) == ("A", 3, 3, 2)
    assert row["initial_cutoff"] == -(H + (WINDOWS - 1) * STEP)
    # fev reads lists from text and refuses tuples.
    assert ast.literal_eval(row["quantile_levels"]) == [0.1, 0.5, 0.9]
    assert ast.literal_eval(row["extra_metrics"]) == ["WQL", "SQL"]
    assert (row["eval_metric"], row["seasonality"], row["fev_version"]) == ("MASE", SEASON, FEV_VERSION)
    assert (row["training_time_s"], row["inference_time_s"], row["num_forecasts"]) == (1.5, 4.0, 6)
    assert table.set_index("model_name")["trained_on_this_dataset"].to_dict() == {"A": True, "B": False}


def test_ranked_and_extra_metrics_equal_a_loop(result):
    table = write_fev_summary([result]).set_index("model_name")
    for model in ("A", "B"):
        for metric in ("MASE", "WQL", "SQL"):
            assert table.loc[model, metric] == pytest.approx(loop(result, model, metric))
    assert (table["test_error"] == table["MASE"]).all()


def test_a_task_of_fev_brings_its_own_metrics_levels_and_names(result):
    extra = ["MAE", "MSE", "RMSE", "WAPE", "MQL", {"name": "SQL", "epsilon": 0.5}]
    set_task(result, eval_metric="WQL", extra_metrics=extra, quantile_levels=[0.9, 0.5, 0.1], seasonality=SEASON)
    row = write_fev_summary([result]).iloc[0]
    assert (row["dataset_path"], row["task_name"], row["id_column"]) == ("shop/hourly.parquet", "shop", "id")
    assert row["test_error"] == row["WQL"] == pytest.approx(loop(result, "A", "WQL"))
    for metric in ("MAE", "MSE", "RMSE", "WAPE", "MQL"):
        assert row[metric] == pytest.approx(loop(result, "A", metric))
    assert row["SQL"] == pytest.approx(loop(result, "A", "SQL", epsilon=0.5))
    assert row["SQL"] != pytest.approx(loop(result, "A", "SQL"))


def test_what_cannot_be_had_is_missing_and_not_made_up(result):
    for run in result.runs:
        run.frame.loc[0, "B"] = np.nan
    table = write_fev_summary([result]).set_index("model_name")
    assert table.loc["B", ["test_error", "MASE", "WQL", "SQL"]].isna().all()
    assert table.loc["A", "test_error"] == pytest.approx(loop(result, "A", "MASE"))
    set_task(result, quantile_levels=[0.25], extra_metrics=["WQL", "MYSTERY"], target=["y", "z"])
    table = write_fev_summary([result]).set_index("model_name")
    assert table.loc["A", ["WQL", "MYSTERY"]].isna().all()  # that level was not forecast, that metric is unknown
    assert table.loc["A", "MASE"] > 0
    set_task(result, eval_metric="WAPE", target=["y", "z"])
    assert write_fev_summary([result])["test_error"].isna().all()  # fev takes it target by target


def test_percentage_and_squared_scaled_metrics_by_hand():
    from tsllm.evaluation.fev_summary import FevWindow

    window = FevWindow(
        y=np.array([[2.0, 4.0]]),
        point=np.array([[1.0, 6.0]]),
        quantiles=np.empty((1, 2, 0)),
        levels=np.empty(0),
        seasonal=np.array([2.0]),
        seasonal_squared=np.array([5.0]),
    )
    assert METRICS["MAPE"](window) == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert METRICS["SMAPE"](window) == pytest.approx((2 * 1 / 3 + 2 * 2 / 10) / 2)
    assert METRICS["RMSSE"](window) == pytest.approx(((1 + 4) / 2 / 5) ** 0.5)
