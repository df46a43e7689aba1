"""The long-term protocol: scores worked by a slow loop, kept cells, few-shot, transfer, the paper's table."""

import json
import sys

import numpy as np
import pandas as pd
import pytest

import tsllm
from tsllm.backbones import pretrained
from tsllm.evaluation import protocol_data
from tsllm.evaluation.budgets import BudgetRow
from tsllm.evaluation.config import DataEntry
from tsllm.evaluation.long_term import ProtocolCell
from tsllm.evaluation.long_term_report import _show_tests, compare_rows, report_long_term
from tsllm.evaluation.prepare import prepare_task
from tsllm.evaluation.protocol import LongTermConfig
from tsllm.evaluation.protocol_budgets import warn_of_budgets
from tsllm.evaluation.protocol_table import find_published, list_published, tabulate, widen
from tsllm.forecasting.neural import NeuralForecaster
from tsllm.types import FrameError

QUICK = {"max_steps": 4, "eval_steps": 2, "per_device_train_batch_size": 8}
DLINEAR = {"model": "dlinear", "options": {"moving_average": 3}, "training": QUICK}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files under the names of published data sets, much shorter: 160 days and hours of two series."""
    path = tmp_path_factory.mktemp("csv")
    rng = np.random.default_rng(0)
    for stem, freq, scale in (("exchange_rate", "D", 1.0), ("electricity", "h", 50.0), ("traffic", "h", 0.1)):
        walk = scale * (5 + rng.standard_normal((160, 2)).cumsum(0))
        times = pd.date_range("2020-01-01", periods=160, freq=freq)
        pd.DataFrame({"date": times, "a": walk[:, 0], "OT": walk[:, 1]}).to_csv(path / f"{stem}.csv", index=False)
    return path


def run(folder, tmp_path, data=("exchange",), models=("Naive", DLINEAR), **options):
    told = []
    settings = {"horizons": [4], "context_length": 12, "seeds": [0, 1], "output_dir": str(tmp_path / "out")}
    found = tsllm.benchmark(
        "long-term", list(data), list(models), data_path=str(folder), tell=told.append, **settings | options
    )
    return found, told


def test_a_validation_part_shorter_than_the_horizon_is_told_before_anything_is_trained(folder, tmp_path):
    with pytest.raises(ValueError, match="cannot be run: exchange 20: val_size is 16, less than the horizon of 20"):
        run(folder, tmp_path, horizons=[4, 20])
    assert not (tmp_path / "out").exists()
    found, _ = run(folder, tmp_path, models=["Naive"], horizons=[20])
    assert not found.failures, "what nothing trains needs no validation part"


def read_columns(folder, stem):
    return pd.read_csv(folder / f"{stem}.csv")[["a", "OT"]].to_numpy()


def test_scores_are_those_of_a_loop_over_every_test_window_in_units_of_the_training_part(folder, tmp_path):
    found, _ = run(folder, tmp_path, models=["Naive"])
    values = read_columns(folder, "exchange_rate")
    train, first = 112, 128  # 70 and 80 % of 160 rows
    scaled = values / values[:train].std(0)
    errors = []
    for end in range(first, 160 - 4 + 1):
        errors.append(scaled[end : end + 4] - scaled[end - 1])
    errors = np.stack(errors)
    row = found.scores.iloc[0]
    assert row["windows"] == len(errors) == 29
    assert row["mse"] == pytest.approx((errors**2).mean())
    assert row["mae"] == pytest.approx(np.abs(errors).mean())


def test_batches_of_tensors_and_frames_of_forecasts_give_the_same_losses(folder, tmp_path, monkeypatch):
    found, _ = run(folder, tmp_path, models=[DLINEAR], seeds=[0])
    (cell,) = (tmp_path / "out" / "cells").glob("*/model")
    model = NeuralForecaster.from_pretrained(cell)
    config = LongTermConfig(["exchange"], [DLINEAR], [4], context_length=12, data_path=str(folder))
    stretch = protocol_data.prepare_stretch(config, protocol_data_of(config), 4)
    monkeypatch.setattr(protocol_data, "_MOST_ROWS", 100)  # several blocks
    slow = pd.concat([protocol_data._score_frame(p, stretch) for p in protocol_data._forecast_frames(model, stretch)])
    keys = ["unique_id", "cutoff"]
    both = found.cells[0].losses.merge(slow, on=keys, validate="one_to_one")
    assert len(both) == len(slow) == 58
    np.testing.assert_allclose(both["mse_x"], both["mse_y"], rtol=1e-4)
    np.testing.assert_allclose(both["mae_x"], both["mae_y"], rtol=1e-4)


def protocol_data_of(config):
    from tsllm.data.task import load_data

    entry = config.find_entry("exchange")
    return load_data(entry.name, entry.asked(), data_path=entry.data_path)


def test_one_more_model_and_one_more_horizon_cost_only_themselves(folder, tmp_path):
    first, told = run(folder, tmp_path)
    assert told == ["exchange 4: Naive", "exchange 4: DLinear, seed 0", "exchange 4: DLinear, seed 1"]
    second, told = run(folder, tmp_path, models=["Naive", DLINEAR, "SeasonalNaive"])
    assert told == ["exchange 4: SeasonalNaive"]
    pd.testing.assert_frame_equal(first.scores, second.scores[second.scores["model"] != "SeasonalNaive"])
    _, told = run(folder, tmp_path, horizons=[4, 5])
    assert told[0].endswith("replaces (other models); give another output_dir to keep both"), "a column goes"
    assert told[1:] == ["exchange 5: Naive", "exchange 5: DLinear, seed 0", "exchange 5: DLinear, seed 1"]


def test_few_shot_trains_on_the_first_windows_and_scales_by_all(folder, tmp_path):
    run(folder, tmp_path, models=[DLINEAR], seeds=[0], few_shot=0.1)
    (few,) = (tmp_path / "out" / "cells").glob("*/model")
    run(folder, tmp_path / "whole", models=[DLINEAR], seeds=[0])
    (whole,) = (tmp_path / "whole" / "out" / "cells").glob("*/model")
    read = [json.loads((path / "forecaster.json").read_text()) for path in (few, whole)]
    assert read[0]["scaler"] == read[1]["scaler"]
    assert json.loads((few / "config.json").read_text())["subtract_last"] is False  # as published, not our default
    windows = [state["data"]["reads"][0]["windows"] for state in read]
    assert windows[1]["train"] == 112 - 12 - 4 + 1
    assert windows[0]["train"] == 9  # a tenth of 97, rounded down
    assert windows[0]["validation"] == windows[1]["validation"]


def test_transfer_trains_on_the_source_alone_and_scales_by_the_target(folder, tmp_path):
    found, told = run(
        folder, tmp_path, data=(), models=["Naive", DLINEAR], seeds=[0], transfer=["electricity:traffic"]
    )
    assert told == [
        "electricity -> traffic 4: Naive",
        "electricity -> traffic 4: DLinear, seed 0",
        "electricity -> traffic 4: DLinear, seed 0, transfer",
    ]
    own, _ = run(folder, tmp_path / "own", data=["traffic"], models=["Naive"])
    assert found.scores["mse"][0] == pytest.approx(own.scores["mse"][0])
    # The source's own cell is there already, so its row costs nothing; and the weights are its.
    both, told = run(folder, tmp_path, data=["electricity"], models=[DLINEAR], seeds=[0])
    assert told == [
        f"{tmp_path / 'out'} holds the report of another run, which this one replaces (other models, reference, "
        "transfer); give another output_dir to keep both"
    ]
    # The transferred model's budget is that of its training on the source.
    columns = ["model", "seed", "steps", "windows_seen", "best_step", "stopped_by"]
    assert found.budgets[["data", "h"]].to_numpy().tolist() == [["electricity -> traffic", 4]]
    pd.testing.assert_frame_equal(found.budgets[columns], both.budgets[columns])
    assert found.budgets.loc[0, ["steps", "windows_seen"]].tolist() == [4, 32]
    (saved,) = (tmp_path / "out" / "cells").glob("*/model")
    model = NeuralForecaster.from_pretrained(saved)
    values = read_columns(folder, "traffic")
    scale = values[:112].std(0)
    loc = values[:112].mean(0)
    errors = []
    import torch

    order = ["a", "OT"] if list(model.spec.channels) == ["a", "OT"] else ["OT", "a"]
    index = [["a", "OT"].index(name) for name in order]
    scaled = ((values - loc) / scale)[:, index]
    for end in range(128, 157):
        with torch.no_grad():
            made = model.model(past_values=torch.tensor(scaled[None, end - 12 : end]).float()).predictions[0]
        errors.append(made.numpy() - scaled[end : end + 4])
    transferred = found.scores.set_index("model").loc["DLinear"]
    assert transferred["mse"] == pytest.approx((np.stack(errors) ** 2).mean(), rel=1e-4)
    assert both.scores["data"].tolist() == ["electricity"]


def test_what_cannot_run_is_told_before_anything_is_trained(folder, tmp_path):
    with pytest.raises(ValueError, match=r"exchange has freq 'D', traffic 'h'; no model goes over"):
        run(folder, tmp_path, data=(), transfer=["exchange:traffic"])
    with pytest.raises(ValueError, match="the test part has 32 steps, less than the horizon of 40"):
        run(folder, tmp_path, horizons=[40])
    with pytest.raises(ValueError, match="few_shot is 10"):
        run(folder, tmp_path, few_shot=10)
    with pytest.raises(ValueError, match="transfer is 'etth1'; write source:target"):
        run(folder, tmp_path, transfer=["etth1"])
    with pytest.raises(ValueError, match="epf-fr-be has no customary horizons"):
        tsllm.benchmark("long-term", "epf-fr-be", ["Naive"], output_dir=str(tmp_path / "epf"))
    with pytest.raises(ValueError, match="NHITS: few-shot is for models of tsllm"):
        run(folder, tmp_path, models=["neuralforecast:NHITS"], few_shot=0.5)
    with pytest.raises(ValueError, match="unknown model 'dlinaer'"):
        run(folder, tmp_path, models=["dlinaer"])


def test_a_failure_is_counted_and_tried_again(folder, tmp_path):
    models = ["Naive", {"model": "dlinear", "options": {"context_length": 120}, "training": QUICK}]
    found, _ = run(folder, tmp_path, models=models)
    assert found.scores["failed"].tolist() == [0, 2]
    assert found.table.texts["DLinear MSE"].tolist() == ["failed (2 of 2)"]
    assert len(found.failures) == 2
    assert "failed (2 of 2)" in found.report.read_text()
    _, told = run(folder, tmp_path, models=models)
    assert told == ["exchange 4: DLinear, seed 0", "exchange 4: DLinear, seed 1"]


def test_an_opponent_whose_weights_cannot_be_had_is_counted_and_the_others_run(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "reach_hub", lambda tell=True: "the Hub cannot be reached")
    monkeypatch.setitem(sys.modules, "chronos", None)
    found, _ = run(folder, tmp_path, models=["Naive", "chronos:amazon/chronos-bolt-nowhere"])
    assert found.scores["failed"].tolist() == [0, 1]
    assert found.table.texts["chronos-bolt-nowhere MSE"].tolist() == ["failed (1 of 1)"]
    assert "pip install chronos-forecasting" in str(found.failures)


def make_cell(data, h, model, seed, mse, look_back=512):
    scores = {"mse": mse, "mae": mse / 2}
    return ProtocolCell(data, h, model, seed, scores, pd.DataFrame(), {"look_back": look_back})


def test_the_table_marks_best_and_second_of_each_row_and_shows_spread_and_published_figures():
    cells = [
        make_cell("etth1", 96, "DLinear", 0, 0.37),
        make_cell("etth1", 96, "DLinear", 1, 0.39),
        make_cell("etth1", 96, "PatchTST", None, 0.36),
        make_cell("etth1", 96, "Naive", None, 0.5),
        make_cell("etth1", 192, "DLinear", 0, 0.4, 96),
        make_cell("etth1", 192, "DLinear", 1, 0.4, 96),
        make_cell("etth1", 192, "PatchTST", None, 0.44),
        make_cell("etth1", 192, "Naive", None, 0.4),
    ]
    scores = tabulate(cells)
    first = scores.iloc[0]
    assert first["mse"] == pytest.approx(0.38)
    assert first["mse_sd"] == pytest.approx(np.sqrt(0.0002))
    assert (first["published_mse"], first["published_mae"]) == (0.375, 0.399)
    table = widen(scores)
    assert table.texts["DLinear MSE"].tolist() == ["0.380 ± 0.014 / 0.375", "0.400 ± 0.000 / 0.437", "0.390 / 0.406"]
    assert table.texts["h"].tolist() == ["96", "192", "average"]
    marked = {k: v for k, v in table.marks.items() if k[1].endswith("MSE")}
    assert marked == {
        (0, "PatchTST MSE"): "best",
        (0, "DLinear MSE"): "second",
        (1, "DLinear MSE"): "best",
        (1, "Naive MSE"): "best",
        (1, "PatchTST MSE"): "second",
        (2, "DLinear MSE"): "best",
        (2, "PatchTST MSE"): "second",
    }
    latex = table.to_latex("A & B")
    assert r"\caption{A \& B}" in latex
    assert r"\textbf{0.360 / 0.370}" in latex
    assert r"\underline{0.380 $\pm$ 0.014 / 0.375}" in latex
    assert "| etth1 | 96 | *0.380 ± 0.014 / 0.375* |" in table.to_markdown()
    assert find_published("etth1", 96, "DLinear", 336) == {}
    book = list_published(scores)
    assert len(book.query("h == 96 and metric == 'mse'")) == 11
    assert book.query("h == 96 and metric == 'mse' and model == 'DLinear' and look_back == 96")["yours"].isna().all()


def test_a_comparison_can_take_the_customary_split(folder):
    prepared = prepare_task(DataEntry("exchange", str(folder / "exchange_rate.csv"), h=4, split="customary"))
    assert prepared.windows.n_windows == 8
    assert prepared.task.val_size == 16
    assert len(prepared.training) == 2 * 128
    every = DataEntry("exchange", str(folder / "exchange_rate.csv"), h=4, step_size=1, split="customary")
    assert prepare_task(every).windows.n_windows == 29
    with pytest.raises(ValueError, match="brings its own windows"):
        DataEntry("exchange", h=4, split="customary", n_windows=3)
    with pytest.raises((ValueError, FrameError), match="no named data set"):
        prepare_task(DataEntry(str(folder / "exchange_rate.csv"), h=4, split="customary"))


def test_etth1_leaves_what_its_custom_leaves_out(data_folder, monkeypatch):
    monkeypatch.setenv("TSLLM_DATA", str(data_folder))
    prepared = prepare_task(DataEntry("etth1", h=96, split="customary", step_size=96))
    assert len(prepared.loaded.df) == 7 * 14400
    assert prepared.windows.n_windows == 30  # 2880 steps of test
    assert prepared.task.val_size == 2880
    assert "leaves the last 3020 steps" in prepared.notes[0]


def make_losses(data, h, model, seed, errors):
    losses = pd.DataFrame(
        {"unique_id": "a", "cutoff": range(len(errors)), "mse": errors**2, "mae": errors, "count": 1}
    )
    return ProtocolCell(data, h, model, seed, {"mse": 1.0, "mae": 1.0}, losses, {})


def test_holm_runs_over_all_rows_and_the_report_says_so():
    rng = np.random.default_rng(3)
    cells = []
    for data, h, gain in (("etth1", 1, 0.2), ("etth1", 2, 0.1), ("ettm1", 1, 0.0)):
        errors = rng.uniform(1, 2, 60)
        cells.append(make_losses(data, h, "Naive", None, errors))
        cells.append(make_losses(data, h, "DLinear", 0, errors - gain + rng.normal(0, 0.4, 60)))
    config = LongTermConfig(["etth1", "ettm1"], ["Naive", "dlinear"], [1, 2])
    tests = compare_rows(cells, config)
    assert tests[["data", "h"]].to_numpy().tolist() == [["etth1", 1], ["etth1", 2], ["ettm1", 1]]
    assert tests["tests"].tolist() == [3, 3, 3]
    ordered = sorted(tests["p_value"])
    by_hand = [3 * ordered[0], max(3 * ordered[0], 2 * ordered[1]), max(3 * ordered[0], 2 * ordered[1], ordered[2])]
    assert sorted(tests["p_holm"]) == pytest.approx(np.minimum(by_hand, 1))
    assert ((tests["p_holm"] < 0.05) == ((tests["low"] > 0) | (tests["high"] < 0))).all()
    below = " ".join(_show_tests(config, tests).below)
    assert "Unit of the test: the cutoff" in below
    assert "n = 60 cutoffs, of which 1 to 2 neighbours share steps" in below
    assert "a family of 3 tests. low, high: interval of the skill at the level of that adjustment" in below
    assert "The family: every model against the reference, on every data set and horizon of this report." in below


def test_the_report_says_what_training_the_models_got(folder, tmp_path):
    once = DLINEAR | {"training": QUICK | {"eval_steps": 4}}  # its one validation is the last
    found, _ = run(folder, tmp_path, models=["Naive", once], seeds=[0], horizons=[4, 5])
    assert found.budgets[["data", "h", "model"]].to_numpy().tolist() == [["exchange", h, "DLinear"] for h in (4, 5)]
    assert found.budgets["windows_seen"].tolist() == [32, 32]  # four steps of eight windows
    assert found.budgets["stopped_by"].unique().tolist() == ["its limit of steps"]
    text = found.report.with_suffix(".md").read_text().replace("\\", "")
    assert found.notes == [
        "Not converged: DLinear on exchange 4; DLinear on exchange 5; the best validation was the last one, so more "
        "training may help."
    ]
    assert found.notes[0] in text
    assert "exchange, 4 steps ahead: The one trained model saw the same number of training windows, 32" in text
    cut = {"DLinear": ["time"]}
    rows = {("etth1", 96): [BudgetRow(m, 0, 3, 24, 1.0, 1, 2, why) for m, (why,) in cut.items()]}
    assert warn_of_budgets(rows) == ["The limit of seconds ended the training of DLinear on etth1 96."]


def test_each_kind_of_run_has_a_folder_and_the_written_file_repeats_it(folder, tmp_path):
    def name(**options):
        return LongTermConfig(models=["Naive"], **options).output_dir

    assert name(data=["etth1"]) == "runs/long_term"
    assert name(data=["etth1"], few_shot=0.1) == "runs/few_shot"
    assert name(transfer=["etth1:etth2"]) == "runs/transfer"
    assert name(transfer=["etth1:etth2"], few_shot=0.1) == "runs/few_shot_transfer"
    found, told = run(folder, tmp_path, data=["electricity"], models=["Naive"], transfer=["electricity:traffic"])
    assert len(told) == 2
    code = found.report.with_suffix(".md").read_text().split("How to repeat it")[1].split("```")[1]
    command = code.strip().split()
    assert command == ["tsllm", "benchmark", "long-term", str(tmp_path / "out" / "config.yaml")]
    again = LongTermConfig.load(command[-1])
    assert again.pairs() == [("electricity", "electricity"), ("electricity", "traffic")]
    told.clear()
    repeated = report_long_term(again, "", told.append)
    assert told == []
    pd.testing.assert_frame_equal(repeated.scores, found.scores)
