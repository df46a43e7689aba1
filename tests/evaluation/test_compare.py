import contextlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import GPT2Config, GPT2Model

import tsllm
from tsllm.data.facts import DataRead, TrainingFacts, read_series
from tsllm.data.task import ForecastTask
from tsllm.evaluation.ablation import (
    PERTURBATIONS,
    InputShuffler,
    build_ablations,
    describe_verdict,
    perturb_forecaster,
)
from tsllm.evaluation.ablation import VARIANTS as VARIANT_CHANGES
from tsllm.evaluation.backtest import run_backtest
from tsllm.evaluation.compare import run_compare
from tsllm.evaluation.compare_report import build_compare_report, save_compare, summarise
from tsllm.evaluation.config import CompareConfig, DataEntry, TuneRule
from tsllm.evaluation.fits import Cuts, describe_days, describe_refits, find_anew, find_once
from tsllm.evaluation.leakage import LeakageError, check_saved_model, flag_pretraining
from tsllm.evaluation.prepare import prepare_task
from tsllm.evaluation.published import compare_with_published
from tsllm.evaluation.significance import COLUMNS
from tsllm.files import BusyFolderError
from tsllm.forecasting.base import Forecaster
from tsllm.forecasting.checks import check_forecaster
from tsllm.forecasting.model_spec import ModelSpec, reads_covariates
from tsllm.forecasting.naive import SeasonalNaive
from tsllm.forecasting.neural import NeuralForecaster
from tsllm.forecasting.roster import build_forecaster
from tsllm.hub.spec import ForecasterSpec
from tsllm.models import MODELS
from tsllm.models.base import ForecastModel
from tsllm.models.config import ForecastConfig
from tsllm.models.inputs import RawForecast
from tsllm.training.args import ForecastTrainingArguments
from tsllm.training.build import read_model_config

TINY = {"context_length": 12, "moving_average": 3}
QUICK = {"max_steps": 4, "eval_steps": 4, "per_device_train_batch_size": 4}


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(0)
    parts = []
    for k, name in enumerate(("a", "b")):
        y = 10 * (k + 1) + 3 * np.sin(np.arange(140) * 2 * np.pi / 24) + rng.normal(size=140)
        parts.append(pd.DataFrame({"unique_id": name, "ds": pd.date_range("2024", periods=140, freq="h"), "y": y}))
    path = tmp_path / "series.parquet"
    pd.concat(parts).to_parquet(path, index=False)
    return path


def make_config(data, tmp_path, models=None, **options):
    models = models or ["SeasonalNaive", "Naive", {"model": "dlinear", "options": TINY, "training": QUICK}]
    values = {"seeds": [0, 1], "level": [80], "output_dir": str(tmp_path / "out")} | options
    return CompareConfig([{"name": str(data), "h": 6, "n_windows": 4, "val_size": 18}], models, **values)


def read_tables(config, results):
    report, tables = build_compare_report(config, results, "command")
    timed = ["fit_seconds", "predict_seconds", "ms_per_window", "peak_memory_mb", "seconds"]
    scores = next(t for n, t in tables.items() if n.startswith("scores"))
    tests = next(t for n, t in tables.items() if n.startswith("tests"))
    return report, scores.drop(columns=timed), tests


class Broken(Forecaster):
    _alias = "Broken"

    def fit(self, df, h=None):
        raise RuntimeError("it cannot")


class Interrupting:
    """Builds forecasters, and stops the program at the n-th one, as a kill between two cells would."""

    def __init__(self, after):
        self.after, self.built = after, []

    def __call__(self, spec, task, seed):
        if len(self.built) == self.after:
            raise KeyboardInterrupt
        self.built.append((spec.name, seed))
        return build_forecaster(spec, task, seed)


def run_with(config, build):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tsllm.evaluation.compare.build_forecaster", build)
        return run_compare(config)


@pytest.mark.parametrize(("refit", "fits"), [(False, 1), (3, 2), (True, 4)])
def test_trained_models_are_fitted_anew_as_often_as_asked(data, tmp_path, refit, fits):
    config = make_config(data, tmp_path, refit=refit, seeds=[0])
    build = Interrupting(after=99)
    (result,) = results = run_with(config, build)
    assert build.built.count(("DLinear", 0)) == fits
    assert build.built.count(("Naive", 0)) == 4  # estimated anew at each window, whatever is asked
    task = result.prepared.task
    model = build_forecaster(config.models[-1], task, 0)
    expected = run_backtest(result.prepared.windows.df, [model], 6, 4, 6, [80], refit, task.freq).frame
    got = result.runs[0].frame[expected.columns]
    pd.testing.assert_frame_equal(got, expected.sort_values(["unique_id", "ds"], ignore_index=True))
    report, _, _ = read_tables(config, results)
    assert ("Training of the first of 2 fits" in str(report)) == (refit == 3)


def test_a_stopped_comparison_goes_on_and_gives_the_same_table(data, tmp_path):
    whole = make_config(data, tmp_path / "whole")
    _, expected, expected_tests = read_tables(whole, run_compare(whole))
    config = make_config(data, tmp_path)
    first = Interrupting(after=9)
    with pytest.raises(KeyboardInterrupt):
        run_with(config, first)
    second = Interrupting(after=99)
    results = run_with(config, second)
    # 4 windows of two local models, 2 seeds of one trained model; nothing is done twice.
    assert len(first.built) + len(second.built) == 4 + 4 + 2
    assert second.built == [("DLinear", 1)]
    _, table, tests = read_tables(config, results)
    pd.testing.assert_frame_equal(table, expected, check_exact=True)
    pd.testing.assert_frame_equal(tests, expected_tests, check_exact=True)


def test_one_more_model_costs_only_itself_and_other_options_are_another_cell(data, tmp_path):
    config = make_config(data, tmp_path)
    run_compare(config)
    more = make_config(
        data, tmp_path, [*config.models, {"model": "SeasonalNaive", "alias": "Half", "options": {"season": 12}}]
    )
    counted = Interrupting(after=99)
    run_with(more, counted)
    assert counted.built == [("Half", 0)] * 4
    changed = make_config(
        data,
        tmp_path,
        ["SeasonalNaive", "Naive", {"model": "dlinear", "options": TINY, "training": QUICK | {"learning_rate": 0.1}}],
    )
    counted = Interrupting(after=99)
    run_with(changed, counted)
    assert counted.built == [("DLinear", 0), ("DLinear", 1)]


def test_other_data_are_another_cell(data, tmp_path):
    config = make_config(data, tmp_path, ["SeasonalNaive"], seeds=[0])
    run_compare(config)
    frame = pd.read_parquet(data)
    frame.loc[0, "y"] += 1
    frame.to_parquet(data, index=False)
    counted = Interrupting(after=99)
    run_with(config, counted)
    assert len(counted.built) == 4


def test_scores_are_those_of_the_back_test_and_seeds_are_averaged(data, tmp_path):
    config = make_config(data, tmp_path)
    (result,) = run_compare(config)
    summary = summarise(result, "SeasonalNaive")
    frame = pd.read_parquet(data)
    naive = SeasonalNaive(24).predict_rolling(frame, 6, 4, 6).merge(frame, on=["unique_id", "ds"])
    table = summary.table.set_index("model")
    assert table.loc["SeasonalNaive", "mae"] == pytest.approx((naive["y"] - naive["SeasonalNaive"]).abs().mean())
    by_seed = [(run.frame["y"] - run.frame["DLinear"]).abs().mean() for run in result.runs]
    assert by_seed[0] != by_seed[1]
    assert table.loc["DLinear", "mae"] == pytest.approx(np.mean(by_seed))
    assert table.loc["DLinear", "mae_sd"] == pytest.approx(np.std(by_seed, ddof=1))
    assert np.isnan(table.loc["Naive", "mae_sd"])
    for column in ("peak_memory_mb", "artefact_mb", "trained_parameters"):
        assert table.loc["DLinear", column] > 0


def test_failures_are_counted_shown_and_tried_again_next_time(data, tmp_path):
    diverges = {"learning_rate": 1e30, "max_grad_norm": 0, "lr_scheduler_type": "constant"}
    broken = {"model": "dlinear", "alias": "Broken", "options": TINY, "training": QUICK | diverges}
    config = make_config(data, tmp_path, ["SeasonalNaive", "Naive", broken], seeds=[0])
    results = run_compare(config)
    report, table, _ = read_tables(config, results)
    assert table.set_index("model")["failed"].to_dict() == {"SeasonalNaive": 0, "Naive": 0, "Broken": 8}
    assert "Broken gave no forecast in 8 windows" in " ".join(report.finding)
    assert "Broken failed in 8 windows" in report.to_html()
    counted = Interrupting(after=99)
    run_with(config, counted)
    assert counted.built == [("Broken", 0)]


def test_look_back_is_chosen_without_any_test_value(data, tmp_path):
    options = {"look_backs": [6, 24], "seeds": [0]}
    model = {"model": "dlinear", "options": {"moving_average": 3}, "training": QUICK}
    config = make_config(data, tmp_path, ["SeasonalNaive", model], **options)
    (result,) = run_compare(config)
    chosen = result.facts["DLinear"][0]
    losses = chosen["look_back_losses"]
    assert chosen["look_back"] == int(min(losses, key=losses.get))
    frame = pd.read_parquet(data)
    frame = frame.reset_index(drop=True)
    last = frame.groupby("unique_id").tail(24).index
    frame.loc[last, "y"] += 1e3
    frame.to_parquet(data, index=False)
    (other,) = run_compare(
        make_config(data, tmp_path / "other", ["SeasonalNaive", model], **options),
    )
    assert other.facts["DLinear"][0]["look_back_losses"] == losses


def test_report_holds_finding_tables_tests_and_command(data, tmp_path):
    config = make_config(data, tmp_path, focus="DLinear")
    report, tables = build_compare_report(config, run_compare(config), "tsllm compare x.yaml")
    path = save_compare(report, tables, config.output_dir)
    html = path.read_text()
    assert html.index("Finding") < html.index("Accuracy") < html.index("tsllm compare x.yaml")
    assert "DLinear is number" in html
    assert "No critical-difference diagram" in html
    assert (path.parent / "fev_summary.csv").is_file()
    assert "Unit of the test: the cutoff" not in html  # four cutoffs are not tested
    assert html.count("Nothing in this table was tested.") == 2
    assert "4 cutoffs are too few to tell (10 needed)" in report.finding[0]
    assert "Diebold, F. X." in html
    (budgets,) = [t for n, t in tables.items() if n.startswith("budgets")]
    assert budgets[["model", "seed", "steps"]].to_numpy().tolist() == [["DLinear", 0, 4], ["DLinear", 1, 4]]
    assert budgets["converged"].tolist() == ["no, best at the last step"] * 2
    assert "Not converged: the best validation of DLinear (seeds 0, 1) was the last one" in html
    (seeds,) = [t for n, t in tables.items() if n.startswith("seeds")]
    assert seeds.set_index(["model", "seed"]).index.tolist()[-1] == ("DLinear", 1)
    assert seeds["seed"].isna().tolist() == [model != "DLinear" for model in seeds["model"]]
    (scores,) = [t.set_index("model") for n, t in tables.items() if n.startswith("scores")]
    for model, of_seeds in seeds.groupby("model"):
        assert of_seeds["mae"].mean() == pytest.approx(scores["mae"][model], rel=1e-12)
    assert len(seeds) == 4  # two seeds of DLinear, and one row of each other model
    summary = tables["fev_summary"]
    assert summary.set_index("model_name")["trained_on_this_dataset"].to_dict() == {
        "SeasonalNaive": False,
        "Naive": False,
        "DLinear": True,
    }


def test_a_model_alone_and_a_reference_that_failed_still_give_a_report(data, tmp_path):
    alone = make_config(data, tmp_path, ["SeasonalNaive"])
    report, _, tests = read_tables(alone, run_compare(alone))
    assert report.finding[0].startswith("SeasonalNaive was run alone (relative MAE 1)")
    assert tests.empty
    gone = {"model": f"{__name__}.Broken", "alias": "Gone"}
    config = make_config(data, tmp_path, ["SeasonalNaive", gone], reference="Gone", focus="Gone")
    report, table, _ = read_tables(config, run_compare(config))
    assert table["failed"].tolist() == [0, 8]
    assert "Gone gave no forecast in 8 windows" in report.to_html()
    focused = make_config(data, tmp_path, ["SeasonalNaive", gone], focus="Gone")
    report, _, _ = read_tables(focused, run_compare(focused))
    assert report.finding[-1] == "Gone gave no forecast that could be compared with SeasonalNaive."


def test_configurations_refuse_unknown_keys_and_names():
    with pytest.raises(ValueError, match=r"has unknown keys \['windows'\]; (did|known)"):
        DataEntry.parse({"name": "x", "windows": 3})
    with pytest.raises(ValueError, match="'AutoETS' is none of the models"):
        CompareConfig(["x"], ["Naive"], reference="AutoETS")
    with pytest.raises(ValueError, match="two models are called 'Naive'"):
        CompareConfig(["x"], ["Naive", "Naive"])
    with pytest.raises(ValueError, match="perturb needs variant_of"):
        ModelSpec("timellm", perturb="input")


@pytest.fixture
def backbone(tmp_path):
    torch.manual_seed(5)
    folder = tmp_path / "gpt"
    GPT2Model(GPT2Config(vocab_size=50, n_positions=64, n_embd=16, n_layer=1, n_head=2)).save_pretrained(folder)
    return str(folder)


def test_ablation_of_a_small_model_runs_every_variant_at_equal_budget(data, tmp_path, backbone):
    options = {
        "backbone": backbone,
        "num_backbone_layers": 1,
        "context_length": 24,
        "patch_length": 8,
        "patch_stride": 8,
        "d_model": 8,
        "num_heads": 2,
        "d_ff": 8,
        "num_prototypes": 10,
        "prompt": False,
    }
    whole = ModelSpec("timellm", "TimeLLM", options, QUICK)
    variants = build_ablations(whole)
    assert all(v.training == QUICK for v in variants)
    config = make_config(data, tmp_path, ["SeasonalNaive", whole, *variants], seeds=[0], focus="TimeLLM")
    results = run_compare(config)
    report, _, _ = read_tables(config, results)
    table = summarise(results[0], "SeasonalNaive").table.set_index("model")
    assert (table["failed"] == 0).all()
    maes = table.loc[[v.name for v in variants if v.name != "TimeLLM-noPrompt"], "mae"]
    assert maes.nunique() == len(maes)  # each one is another model
    assert (maes != table.loc["TimeLLM", "mae"]).all()
    assert table.loc["TimeLLM-noPrompt", "mae"] == table.loc["TimeLLM", "mae"]  # it had no prompt to begin with
    assert any(f.startswith("Does the pretrained language model of TimeLLM help?") for f in report.finding)
    assert "Does the language model help?" in report.to_html()
    (section,) = [s for s in report.sections if s.title == "Prototypes"]
    (picture,) = section.pictures  # of the whole model alone
    assert "Attention of 4 patches of TimeLLM over 10 prototypes" in picture.alt


def test_input_shuffler_permutes_steps_with_their_mask_and_keeps_the_values():
    past = torch.arange(24.0).reshape(2, 6, 2)
    mask = past % 5 != 0
    shuffled = InputShuffler(0)({"past_values": past, "past_observed_mask": mask})
    assert not torch.equal(shuffled["past_values"], past)
    assert torch.equal(shuffled["past_values"] % 5 != 0, shuffled["past_observed_mask"])
    assert torch.equal(shuffled["past_values"].sort(1).values, past)
    assert torch.equal(shuffled["past_values"][..., 1] - shuffled["past_values"][..., 0], torch.ones(2, 6))


def test_a_model_without_prototypes_cannot_have_them_shuffled(data):
    from tsllm.models import build_model

    predictor = NeuralForecaster.of_model(build_model("dlinear", context_length=12), ForecasterSpec("D", "h"))
    with pytest.raises(ValueError, match="no prototypes"):
        perturb_forecaster(predictor, "prototypes", 0)


def make_pairs(verdicts):
    rows = [
        (m, "TimeLLM", s, s - 0.1, s + 0.1, 0.01, 0.02, v, 20, "cutoff", 3, 1, 5, "") for m, (s, v) in verdicts.items()
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


VARIANT_NAMES = [*VARIANT_CHANGES, *PERTURBATIONS]
VARIANTS = build_ablations(ModelSpec("timellm", "TimeLLM"))


def test_verdict_follows_the_tests_and_no_difference_is_not_called_equality():
    without = ["noLLM", "attention", "block", "random", "spectrum"]
    pairs = make_pairs({f"TimeLLM-{name}": (-0.2, "worse") for name in without})
    helped = describe_verdict("TimeLLM", pairs, VARIANTS)
    assert helped[0].startswith("Yes, on these windows: TimeLLM is significantly better than every variant")
    fewer = describe_verdict("TimeLLM", pairs[pairs["model"] != "TimeLLM-block"], VARIANTS)
    assert fewer[0].startswith("Yes, as far as was tried")
    assert fewer[0].endswith("TimeLLM-block was not run.")
    late = describe_verdict("TimeLLM", pairs, VARIANTS, ["TimeLLM", "DLinear"])
    assert late[0].endswith("Not converged: TimeLLM has the best validation at the first or at the last step.")
    pairs = make_pairs({"TimeLLM-noLLM": (0.0, "no difference shown"), "TimeLLM-random": (-0.3, "worse")})
    tied = describe_verdict("TimeLLM", pairs, VARIANTS)
    assert tied[0].startswith("No help shown")
    assert "no proof of equality" in tied[0]
    hurt = describe_verdict("TimeLLM", make_pairs({"TimeLLM-block": (0.2, "better")}), VARIANTS)
    assert hurt[0].startswith("No: TimeLLM-block")
    # A variant that keeps the pretrained model says nothing about it.
    assert "open" in describe_verdict("TimeLLM", make_pairs({"TimeLLM-noPrompt": (0.2, "better")}), VARIANTS)[0]
    untested = describe_verdict("TimeLLM", make_pairs({"TimeLLM-noLLM": (0.2, "not tested")}), VARIANTS)
    assert untested[0].startswith("Open: no variant without a pretrained language model was tested: TimeLLM-noLLM (")
    # One that was not tested forbids the yes, whatever the others say.
    some = {"TimeLLM-noLLM": (-0.2, "worse"), "TimeLLM-random": (np.nan, "not tested")}
    assert describe_verdict("TimeLLM", make_pairs(some), VARIANTS)[0].startswith(
        "Open: TimeLLM is significantly better than TimeLLM-noLLM, but not tested against TimeLLM-random"
    )


def test_variants_that_were_not_asked_for_forbid_the_word_every():
    some = [spec for spec in VARIANTS if spec.variant in ("random", "spectrum", "noPrompt")]
    pairs = make_pairs({f"TimeLLM-{name}": (-0.2, "worse") for name in ("random", "spectrum", "noPrompt")})
    assert describe_verdict("TimeLLM", pairs, some)[0] == (
        "Yes, as far as was tried: TimeLLM is significantly better than TimeLLM-random and TimeLLM-spectrum; "
        "TimeLLM-noLLM, TimeLLM-attention and TimeLLM-block were not run."
    )


def test_a_variant_is_what_its_entry_says_whatever_its_name():
    own = ModelSpec("timellm", "Mine", {"reader": "none", "prompt": False}, variant="my idea", variant_of="TimeLLM")
    lines = describe_verdict("TimeLLM", make_pairs({"Mine": (0.2, "better")}), [own])
    assert lines[0].startswith("No: Mine")
    assert "Mine (my idea): 20.0 % less error" in lines[1]
    keeps = ModelSpec("timellm", "TimeLLM-noLLM", variant="looks like one", variant_of="TimeLLM")
    assert "stays open" in describe_verdict("TimeLLM", make_pairs({"TimeLLM-noLLM": (0.2, "better")}), [keeps])[0]
    with pytest.raises(ValueError, match="variant and variant_of belong together"):
        ModelSpec("timellm", variant="x")
    with pytest.raises(ValueError, match="'TimeLLM' is none of the models"):
        CompareConfig(["x"], ["SeasonalNaive", own])


def test_a_variant_of_a_model_without_a_language_model_is_asked_for_what_it_is(data, tmp_path):
    small = {"model": "dlinear", "alias": "S", "variant": "a wider average", "variant_of": "DLinear"}
    dlinear = {"model": "dlinear", "options": TINY, "training": QUICK | {"max_steps": 0}}
    del dlinear["training"]["eval_steps"]
    config = make_config(data, tmp_path, ["SeasonalNaive", dlinear, dlinear | small], seeds=[0])
    report, _ = build_compare_report(config, run_compare(config), "command")
    (asked,) = [line for line in report.finding if line.startswith("Does ")]
    assert asked.startswith("Does S (a wider average) do better than DLinear? ")
    html = report.to_html()
    assert "language model" not in html
    assert "Nothing was trained: max_steps is 0 for DLinear and S." in html
    assert "patience" not in html


def test_ablate_adds_the_standard_variants_and_keeps_those_that_stand_there():
    whole = {"model": "timellm", "alias": "Mine", "training": QUICK}
    own = {"model": "dlinear", "alias": "Mine-noLLM", "variant": "linear", "variant_of": "Mine"}
    config = CompareConfig(["x"], ["SeasonalNaive", whole, own], ablate="Mine")
    assert [m.name for m in config.models][:3] == ["SeasonalNaive", "Mine", "Mine-noLLM"]
    added = config.models[3:]
    assert {m.variant_of for m in config.models[2:]} == {"Mine"}
    assert all(m.training == QUICK for m in added)
    assert [m.variant for m in added] == [v for v in [*VARIANT_NAMES] if v != "noLLM"]
    with pytest.raises(ValueError, match="ablate names 'Other'"):
        CompareConfig(["x"], ["SeasonalNaive"], ablate=["Other"])


def facts_of(frame, last, name=""):
    kept = frame[frame["ds"] <= last].reset_index(drop=True)
    return TrainingFacts([DataRead(name=name, series=read_series(kept))])


def test_a_saved_model_that_was_trained_on_test_windows_is_refused(data):
    prepared = prepare_task(DataEntry(str(data), h=6, n_windows=4))
    windows, frame = prepared.windows, prepared.loaded.df
    first = windows.keys["cutoff"].min()
    later = first + pd.Timedelta("1h")
    assert check_saved_model("Saved", facts_of(frame, first), windows) == ""
    with pytest.raises(LeakageError, match=f"Saved was trained or chosen on data of series 'a' up to {later}"):
        check_saved_model("Saved", facts_of(frame, later), windows)
    # Under other names the values tell.
    renamed = frame.assign(unique_id="x" + frame["unique_id"])
    with pytest.raises(LeakageError, match="Saved was trained or chosen on data of series 'a'"):
        check_saved_model("Saved", facts_of(renamed, later), windows)
    # Other values at the same times are another series, whatever it is called.
    other = frame.assign(y=frame["y"] + 1)
    assert "trained on other series" in check_saved_model("Saved", facts_of(other, later), windows)
    assert check_saved_model("Saved", facts_of(other, first), windows) == ""
    assert "does not say" in check_saved_model("Saved", TrainingFacts(), windows)


def test_everything_that_was_ever_trained_on_counts(data):
    prepared = prepare_task(DataEntry(str(data), h=6, n_windows=4))
    windows, frame = prepared.windows, prepared.loaded.df
    first = windows.keys["cutoff"].min()
    early, late = facts_of(frame, first), facts_of(frame, first + pd.Timedelta("1h"))
    with pytest.raises(LeakageError):
        check_saved_model("Saved", late.extend(early.newest), windows)


def test_pretraining_that_may_contain_the_series_is_flagged():
    old = pd.DataFrame({"ds": pd.to_datetime(["2016-01-01"])})
    new = pd.DataFrame({"ds": pd.to_datetime(["2026-01-01"])})
    assert "may contain" in flag_pretraining("TimeLLM", "smollm2-135m", old)
    assert flag_pretraining("TimeLLM", "smollm2-135m", new) == ""
    assert "not known" in flag_pretraining("TimeLLM", "acme/model", new)
    assert "no dates" in flag_pretraining("TimeLLM", "gpt2", pd.DataFrame({"ds": [1, 2]}))


def test_published_figures_stand_beside_own_ones_and_differences_are_named():
    table = pd.DataFrame({"model": ["DLinear"], "scaled_mse": [0.38], "scaled_mae": [0.40]})
    setting = {"h": 96, "context_length": {"DLinear": 512}, "all_windows": True, "split": True}
    book = compare_with_published(table, "etth1", setting).set_index(["model", "metric", "published"])
    same = book.loc[("DLinear", "scaled_mse", 0.375)]
    assert (same["yours"], same["setting"]) == (0.38, "same")
    assert book.loc[("DLinear", "scaled_mse", 0.386), "setting"] == "look-back 512 instead of 96"
    assert pd.isna(book.loc[("TimeLLM", "scaled_mse", 0.362), "yours"])
    assert compare_with_published(table, "etth1", setting | {"h": 17}).empty


def test_the_comparison_with_covariates_has_both_usual_opponents_that_read_them():
    config = CompareConfig.load(next(path for path in CONFIGS if path.stem == "epf_covariates"))
    reading = {m.name for m in config.models if m.kind == "statistical" and reads_covariates(m)}
    assert reading == {"LEAR", "ARIMAX"}


CONFIGS = sorted((Path(__file__).parents[2] / "recipes/configs/compare").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_configuration_of_the_project_parses_strictly_and_its_models_can_be_built(path):
    assert path.read_text().startswith(f"# python recipes/compare.py recipes/configs/compare/{path.name}\n")
    config = CompareConfig.load(path)
    task = ForecastTask(h=24, freq="h", season=24, context_length=168, covariates=("load",))
    for spec in config.models:
        if spec.perturb:
            continue
        forecaster = build_forecaster(spec, task)
        if spec.is_trainable:
            model_class = MODELS.get(spec.model)
            values = read_model_config(model_class.config_class, forecaster.config)
            model_class.config_class(context_length=forecaster.context_length, **values)
            ForecastTrainingArguments(output_dir="unused", **forecaster.training)


def test_unknown_keys_of_a_file_are_refused(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("data: [etth1]\nmodels: [Naive]\nreference: Naive\nsedes: [1]\n")
    with pytest.raises(ValueError, match="unknown keys \\['sedes'\\]"):
        CompareConfig.load(path)


def test_every_entry_is_checked_before_the_first_step(data, tmp_path):
    models = [
        "SeasonalNaive",
        {"model": "dlinear", "options": TINY, "training": QUICK},
        {"model": "dlinear", "alias": "L", "options": TINY | {"loss": "nonsense"}},
        {"model": "patchtst", "alias": "N", "options": {"num_layers": 0}},
        {"model": "timexer", "alias": "C", "covariates": True},
        {"model": "AutoETZ"},
        {"model": str(tmp_path / "gone"), "alias": "G"},
    ]
    config = make_config(data, tmp_path, models)
    counted = Interrupting(after=99)
    with pytest.raises(ValueError, match="the comparison cannot be run") as caught:
        run_with(config, counted)
    told = str(caught.value)
    for fault in (
        "L: unknown loss 'nonsense'",
        "N: num_layers must be a positive integer, got 0",
        "C: C is to read covariates, but none are named for",
        "AutoETZ: unknown model 'AutoETZ'",
        f"G: no folder {tmp_path / 'gone'}",
    ):
        assert fault in told
    assert "DLinear:" not in told
    assert counted.built == []
    assert not (tmp_path / "out").exists()


def test_a_setting_to_search_that_a_model_lacks_is_told_before_the_first_step(data, tmp_path):
    models = ["SeasonalNaive", {"model": "dlinear", "options": TINY, "training": QUICK}]
    config = make_config(data, tmp_path, models)
    config.tune = TuneRule(2, {"d_modle": [8, 16]})
    counted = Interrupting(after=99)
    with pytest.raises(ValueError, match="DLinear has no setting 'd_modle' to tune"):
        run_with(config, counted)
    assert counted.built == []
    assert not (tmp_path / "out").exists()


def test_what_shows_only_on_the_data_is_told_before_the_first_step(data, tmp_path):
    frame = pd.read_parquet(data)
    late = frame.assign(ds=frame["ds"] + pd.to_timedelta((frame["unique_id"] == "b") * 30, unit="h"))
    late.to_parquet(tmp_path / "late.parquet", index=False)
    early = frame.groupby("unique_id").head(110)
    dlinear = {"training": {"max_steps": 0}, "layout": "multivariate"}
    NeuralForecaster("dlinear", 6, **dlinear, **TINY).fit(early).save_pretrained(tmp_path / "both")
    one = early[early["unique_id"] == "a"].assign(unique_id="c")
    NeuralForecaster("dlinear", 6, **dlinear | {"layout": "univariate"}, **TINY).fit(one).save_pretrained(
        tmp_path / "c"
    )
    models = [
        "Naive",
        {"model": "dlinear", "alias": "Long", "options": {"context_length": 500}},
        {"model": "dlinear", "alias": "Wide", "options": TINY | {"layout": "multivariate"}},
        {"model": "timellm", "alias": "N", "options": {"backbone": "no-such"}},
        {"model": "timellm", "alias": "F", "options": {"backbone": "./nope"}},
        {"model": "text", "alias": "T", "options": {"language_model": "no-such"}},
        {"model": "chronos:./nope", "alias": "Ch"},
        {"model": str(tmp_path / "both"), "alias": "Both"},
        {"model": str(tmp_path / "c"), "alias": "Other"},
        {"model": str(tmp_path / "c"), "alias": "S", "options": {"new_series": "foo"}},
        {"model": str(tmp_path / "c"), "alias": "B", "options": {"batch_size": 0}},
        {"model": str(tmp_path / "c"), "alias": "D", "options": {"device": "cudaX"}},
        {"model": "Naive", "alias": "Q", "perturb": "input", "variant": "v", "variant_of": "Naive"},
        {"model": "dlinear", "alias": "P", "perturb": "input", "variant": "v", "variant_of": "Late"},
        {"model": "dlinear", "alias": "Late", "options": TINY},
        {"model": "dlinear", "alias": "R", "perturb": "prototypes", "variant": "w", "variant_of": "Late"},
    ]
    entries = [{"name": str(tmp_path / "late.parquet"), "h": 6}, {"name": str(data), "h": 6, "series": ["a"]}]
    with pytest.raises(ValueError, match="the comparison cannot be run") as caught:
        run_compare(CompareConfig(entries, models, reference="Naive", output_dir=str(tmp_path / "out")))
    told = str(caught.value)
    for fault in (
        "Long: training part",
        "Wide: training part: series 'b' (121 steps",
        "N: backbone is 'no-such'",
        "F: backbone is './nope'",
        "T: language_model is 'no-such'",
        "Ch: chronos is './nope'",
        "Both: Both reads the aligned series ['a', 'b'] as channels of one sample, but the frame lacks ['b']",
        "Other: it never saw the series ['a']; set options: {new_series: history}",
        "S: new_series is 'foo'",
        "B: batch_size is 0",
        "D: device is 'cudaX'",
        "Q perturbs 'Naive', which is no model that is trained here (naive)",
        "P perturbs 'Late', which stands after it",
        "R: Late has no prototypes to shuffle",
    ):
        assert fault in told, told
    assert "Late: " not in told.replace("R: Late", "")
    assert not (tmp_path / "out").exists()


def test_the_faults_of_all_entries_are_listed():
    models = ["SeasonalNaive", *({"model": "dlinear", "training": t} for t in ({"optim": "foo"}, {"seed": -1}))]
    with pytest.raises(ValueError, match=r"(?s)training\.optim is 'foo'.*; training\.seed is -1"):
        CompareConfig(["x"], models)


@pytest.mark.parametrize(
    ("entry", "options", "message"),
    [
        ({"alias": "V", "variant": "v", "variant_of": "V"}, {}, "V is a variant of itself"),
        ({"training": {"seed": 5}}, {}, r"DLinear fixes its seed \(5\), so the seeds \[0, 1\] would be the same run"),
        ({}, {"budget": {"kind": "convergence"}, "data": [{"name": "x", "val_size": 0}]}, "budget ends by validation"),
    ],
)
def test_entries_that_cannot_mean_what_they_say_are_refused(entry, options, message):
    models = ["SeasonalNaive", {"model": "dlinear"} | entry]
    with pytest.raises(ValueError, match=message):
        CompareConfig(**({"data": ["x"], "models": models, "seeds": [0, 1]} | options))


@pytest.fixture(scope="module")
def saved_daily(tmp_path_factory):
    """A saved model of seven daily steps that reads a covariate."""
    ds = pd.date_range("2020", periods=90, freq="D")
    frame = pd.DataFrame({"unique_id": "a", "ds": ds, "y": np.sin(np.arange(90.0)), "load": np.arange(90) % 5})
    folder = tmp_path_factory.mktemp("saved") / "timexer"
    options = {"context_length": 14, "patch_length": 7, "d_model": 8, "num_heads": 2, "d_ff": 8, "num_layers": 1}
    made = NeuralForecaster("timexer", 7, covariates=["load"], training={"max_steps": 0}, **options).fit(frame)
    made.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        ({"freq": "h"}, {}, "trained on freq 'D', the data have 'h'"),
        ({"h": 14}, {}, "forecasts 1 to 7 steps, the comparison asks for 14"),
        ({"covariates": ()}, {}, "reads the covariates \\['load'\\], which are not named"),
        ({}, {"context_length": 7}, "option 'context_length' has no effect"),
        ({}, {"training": {"max_steps": 2}}, "option 'training' has no effect"),
        ({}, {"batch_size": 4, "pad_short": True}, ""),
    ],
)
def test_a_saved_model_is_checked_against_the_task_before_the_first_step(saved_daily, task, options, message):
    given = {"h": 7, "freq": "D", "season": 7, "context_length": 14, "covariates": ("load",)} | task
    spec = ModelSpec(saved_daily, "S", options)
    with pytest.raises(ValueError, match=message) if message else contextlib.nullcontext():
        check_forecaster(spec, ForecastTask(**given))


def test_covariates_that_a_saved_model_cannot_be_given_or_spared_are_refused(saved_daily, tmp_path):
    task = ForecastTask(h=7, freq="D", season=7, context_length=14, covariates=("load",))
    check_forecaster(ModelSpec(saved_daily, "S", covariates=True), task)
    with pytest.raises(ValueError, match=r"covariates is False, but a saved model reads what it was .* \(load\)"):
        check_forecaster(ModelSpec(saved_daily, "S", covariates=False), task)
    ds = pd.date_range("2020", periods=90, freq="D")
    frame = pd.DataFrame({"unique_id": "a", "ds": ds, "y": np.arange(90.0) % 7})
    NeuralForecaster("dlinear", 7, context_length=14, training={"max_steps": 0}).fit(frame).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"covariates is True, but a saved model .* \(no covariates\)"):
        check_forecaster(ModelSpec(str(tmp_path), "S", covariates=True), task)


def test_a_saved_model_with_covariates_is_trained_further_in_a_comparison(saved_daily, tmp_path):
    ds = pd.date_range("2020", periods=200, freq="D")
    frame = pd.DataFrame({"unique_id": "a", "ds": ds, "y": np.arange(200.0) % 7, "load": np.arange(200) % 5})
    entry = {"name": "own", "frame": frame, "h": 7, "covariates": ["load"]}
    few = {"model": f"few-shot:{saved_daily}", "training": {"max_steps": 1}}
    config = CompareConfig([entry], ["SeasonalNaive", few], seeds=[0], output_dir=str(tmp_path))
    (result,) = run_compare(config)
    assert not result.runs[0].failures
    assert np.isfinite(result.runs[0].frame["timexer-few-shot"]).all()
    task = ForecastTask(h=7, freq="D", season=7, context_length=14)
    with pytest.raises(ValueError, match=r"reads the covariates .*, which are not named"):
        check_forecaster(ModelSpec.parse(few), task)
    with pytest.raises(ValueError, match="covariates is False, but a saved model reads"):
        check_forecaster(ModelSpec.parse(few | {"covariates": False}), task)


def test_intervals_of_a_point_head_without_validation_are_refused_before_the_first_step(data, tmp_path):
    own = {"model": "dlinear", "options": TINY, "training": {"max_steps": 2}}
    options = {"data": [{"name": str(data), "h": 6, "val_size": 0}], "models": ["SeasonalNaive", own], "seeds": [0]}
    with pytest.raises(ValueError, match=r"cannot be run: .*DLinear has a point head and val_size is 0"):
        run_compare(CompareConfig(**options, output_dir=str(tmp_path / "a")))
    run_compare(CompareConfig(**options, level=[], output_dir=str(tmp_path / "b")))
    own["options"] = TINY | {"head": "quantile"}
    run_compare(CompareConfig(**options, output_dir=str(tmp_path / "c")))


def test_a_context_of_an_entrys_own_is_not_searched_and_pads_nothing(data, tmp_path):
    own = {"model": "dlinear", "options": TINY | {"context_length": 10}, "training": QUICK}
    config = make_config(data, tmp_path, ["SeasonalNaive", own], look_backs=[6, 12])
    facts = run_compare(config)[0].facts["DLinear"][0]
    assert facts["look_back"] == 10
    assert "look_back_losses" not in facts
    task = ForecastTask(h=4, freq="h", season=24, context_length=48, pads_short=True)
    assert build_forecaster(ModelSpec.parse(own), task).pad_short is None
    assert build_forecaster(ModelSpec("dlinear"), task).pad_short is True


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"model": "dlinear", "training": {"max_stepz": 3}}, "did you mean max_steps"),
        ({"model": "dlinear", "training": {"max_steps": "x"}}, "training.max_steps is 'x'"),
        ({"model": "dlinear", "options": None}, "model entry: options is null"),
        ({"model": None}, "model entry: model is null"),
        ({"model": "dlinear", "alias": "cutoff"}, "cannot name a forecast"),
        (7, "model entry is 7; it must be a mapping"),
    ],
)
def test_an_entry_of_the_wrong_form_is_told(entry, message):
    with pytest.raises(ValueError, match=message):
        ModelSpec.parse(entry)


def test_own_data_may_have_covariates_and_one_data_set_two_horizons(tmp_path):
    ds = pd.date_range("2024", periods=140, freq="h")
    frame = pd.DataFrame({"unique_id": "a", "ds": ds, "y": np.sin(np.arange(140.0)), "load": np.arange(140) % 7})
    frame.to_csv(tmp_path / "own.csv", index=False)
    entry = {"name": str(tmp_path / "own.csv"), "n_windows": 2, "covariates": ["load"], "val_size": 12}
    options = {"context_length": 12, "patch_length": 4, "d_model": 8, "num_heads": 2, "d_ff": 8, "num_layers": 1}
    reading = {"model": "timexer", "options": options, "training": QUICK}
    blind = reading | {"alias": "Blind", "covariates": False}
    data = [entry | {"h": h} for h in (4, 6)]
    config = CompareConfig(data, ["SeasonalNaive", reading, blind], output_dir=str(tmp_path / "out"), level=[50])
    results = run_compare(config)
    assert [r.prepared.name for r in results] == [f"{tmp_path / 'own.csv'} (h {h})" for h in (4, 6)]
    for result in results:
        assert not result.runs[0].failures
        assert NeuralForecaster.from_pretrained(result.folders["TimeXer"]).covariates == ["load"]
        assert not np.allclose(result.runs[0].frame["TimeXer"], result.runs[0].frame["Blind"])
    _, tables = build_compare_report(config, results, "command")
    assert len([name for name in tables if name.startswith("scores-")]) == 2
    with pytest.raises(ValueError, match="appears twice with the same settings"):
        run_compare(CompareConfig([data[0], data[0]], ["SeasonalNaive"], output_dir=str(tmp_path / "out")))


class Repeat(ForecastModel):
    """The last value plus a trained offset: the shortest model of one's own."""

    class Config(ForecastConfig):
        model_type = "test_repeat"

    config_class = Config

    def __init__(self, config):
        super().__init__(config)
        self.offset = torch.nn.Parameter(torch.zeros(config.prediction_length))
        self.post_init()

    def forecast(self, inputs):
        last = inputs.past_values[:, -1:] + self.offset[:, None]  # [B, H, C]
        return RawForecast(last[..., None])


def test_a_model_of_ones_own_is_named_by_its_dotted_path(data, tmp_path):
    own = {"model": f"{__name__}.Repeat", "training": QUICK | {"learning_rate": 0.1}}
    config = make_config(data, tmp_path, ["SeasonalNaive", own], seeds=[0])
    (result,) = run_compare(config)
    assert not result.runs[0].failures
    assert result.facts["Repeat"][0]["steps"] == 4
    again = NeuralForecaster.from_pretrained(result.folders["Repeat"])
    assert isinstance(again.model, Repeat)
    assert (again.model.offset != 0).all()
    with pytest.raises(ValueError, match=r"cannot build .*give the dotted path of a Forecaster"):
        build_forecaster(ModelSpec("tests.evaluation.test_compare.TINY"), ForecastTask(6, "h", 24, 12))


def test_a_model_with_one_easy_window_is_last_unmarked_and_not_in_the_figure_of_costs(data, tmp_path):
    config = make_config(data, tmp_path, ["SeasonalNaive", "Naive"])
    (result,) = results = run_compare(config)
    for run in result.runs:
        at = run.frame["cutoff"].isin([run.frame["cutoff"].iloc[0]]) & (run.frame["unique_id"] == "a")
        run.frame["Naive"] = (run.frame["y"] + 1e-6).where(at)  # all but perfect on one window, absent elsewhere
    report, tables = build_compare_report(config, results, "command")
    (scores,) = (table for name, table in tables.items() if name.startswith("scores-"))
    text = report.to_markdown()
    lines = [line for line in text.splitlines() if line.startswith(("| SeasonalNaive |", "| Naive |"))]
    assert [line.split(" |")[0] for line in lines[:2]] == ["| SeasonalNaive", "| Naive"]
    assert "**" in lines[0]
    assert "**" not in lines[1]
    assert "Last and without a rank, as windows lack a forecast: Naive." in text
    assert "Left out, as windows lack a forecast: Naive." in text
    lacking = scores.set_index("model").loc["Naive", "failed"]
    assert lacking == result.runs[0].frame.groupby(["unique_id", "cutoff"]).ngroups - 1


def test_python_compares_frames_and_asks_whether_the_language_model_helps(data, tmp_path, backbone):
    frame = pd.read_parquet(data)
    found = tsllm.compare(
        frame, ["SeasonalNaive", "Naive"], h=6, n_windows=4, level=[80], output_dir=tmp_path / "a", name="mine"
    )
    expected = SeasonalNaive(24).predict_rolling(frame, 6, 4, 6).merge(frame, on=["unique_id", "ds"])
    mae = (expected["y"] - expected["SeasonalNaive"]).abs().mean()
    assert found.scores.set_index("model").loc["SeasonalNaive", "mae"] == pytest.approx(mae)
    assert list(found.forecasts) == ["mine"]
    assert found.report.is_file()
    small = {"backbone": backbone, "num_backbone_layers": 1, "context_length": 24, "patch_length": 8, "d_model": 8}
    small |= {"num_heads": 2, "d_ff": 8, "num_prototypes": 10, "prompt": False}
    asked = tsllm.ablate(
        frame, h=6, n_windows=4, options=small, training=QUICK, seeds=[0], level=[80], output_dir=tmp_path / "b"
    )
    assert any("Does the pretrained language model of TimeLLM help?" in line for line in asked.finding)
    with pytest.raises(ValueError, match="are for one frame or one name"):
        tsllm.compare(["etth1", "etth2"], ["SeasonalNaive"], h=6)


def test_what_a_killed_run_left_is_cleaned_and_a_second_run_in_the_folder_is_refused(data, tmp_path):
    config = make_config(data, tmp_path, ["SeasonalNaive", "Naive"])
    left = tmp_path / "out" / "cells" / ".cell-abc"
    left.mkdir(parents=True)
    (left / "forecasts.parquet").write_bytes(b"half")
    run_compare(config)
    assert not left.exists()
    code = "import sys; from tsllm.files import lock_folder\nwith lock_folder(sys.argv[1]):\n    input(print('held'))"
    holder = subprocess.Popen(
        [sys.executable, "-u", "-c", code, config.output_dir], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline().strip() == "held"
    with pytest.raises(BusyFolderError, match="process or thread is writing"):
        run_compare(config)
    holder.communicate("\n")


def test_one_rule_gives_models_of_other_batches_the_same_windows_and_the_report_says_so(data, tmp_path):
    rule = {"kind": "windows", "windows": 324, "eval_every_windows": 162}
    one = {"model": "dlinear", "options": TINY, "training": {"per_device_train_batch_size": 16}}
    other = {"model": "dlinear", "alias": "Small", "options": TINY, "training": {"per_device_train_batch_size": 8}}
    config = make_config(data, tmp_path, ["SeasonalNaive", one, other], seeds=[0], budget=rule)
    assert config.find_unequal_budgets() == []
    (result,) = results = run_compare(config)
    budgets = {name: result.facts[name][0]["budget"] for name in ("DLinear", "Small")}
    # 81 training windows: four epochs are 24 steps of 16 or 44 of 8, the last of each epoch smaller.
    assert {name: b["stopped_by"] for name, b in budgets.items()} == {"DLinear": "steps", "Small": "steps"}
    assert {n: (b["steps"], b["windows_seen"]) for n, b in budgets.items()} == {
        "DLinear": (24, 324),
        "Small": (44, 324),
    }
    report, _ = build_compare_report(config, results, "command")
    assert "Every trainable model sees 324 training windows" in report.to_markdown()
    unequal = make_config(data, tmp_path, [one, other | {"training": {"max_steps": 9}}], reference="DLinear")
    assert any(note.startswith("unequal training windows") for note in unequal.find_unequal_budgets())
    with pytest.raises(ValueError, match="kind windows needs how many windows"):
        make_config(data, tmp_path, [one], reference="DLinear", budget={"kind": "windows"})


def test_trials_of_a_search_may_be_shorter_than_the_training_that_follows(data, tmp_path):
    pytest.importorskip("optuna", reason="optuna is optional")
    model = {"model": "dlinear", "options": TINY, "training": {"per_device_train_batch_size": 16}}
    given = {
        "seeds": [0],
        "budget": {"kind": "windows", "windows": 324, "eval_every_windows": 81},
        "tune": {"trials": 2, "windows": 100, "search": {"context_length": None, "dropout": None}},
    }
    config = make_config(data, tmp_path, ["SeasonalNaive", model], **given)
    (result,) = results = run_compare(config)
    trials = [json.loads(p.read_text()) for p in (tmp_path / "out" / "trials").glob("*.json")]
    assert [t["key"]["spec"]["training"]["max_steps"] for t in trials] == [12, 12]  # 162 windows, a whole validation
    assert result.facts["DLinear"][0]["budget"]["windows_seen"] == 324
    said = "by the validation loss before the first cutoff, each after at most 100 training windows."
    assert said in build_compare_report(config, results, "command")[0].to_markdown()
    short = given | {"tune": {"trials": 2, "windows": 80}}
    with pytest.raises(ValueError, match=r"windows is 80, less than the budget's eval_every_windows \(81\)"):
        make_config(data, tmp_path, [model], reference="DLinear", **short)
    with pytest.raises(ValueError, match="there is no budget; give one"):
        make_config(data, tmp_path, [model], reference="DLinear", tune=given["tune"])
    with pytest.raises(ValueError, match="windows is -1; give a count"):
        TuneRule(2, windows=-1)


def test_settings_are_searched_on_validation_alone_and_used(data, tmp_path):
    pytest.importorskip("optuna", reason="optuna is optional")
    model = {"model": "dlinear", "options": TINY, "training": QUICK}
    search = {"trials": 3, "sampler": "random", "search": {"context_length": [6, 12, 24]}}
    shuffled = {**model, "alias": "Shuffled", "perturb": "input", "variant": "shuffled", "variant_of": "DLinear"}
    config = make_config(data, tmp_path, ["SeasonalNaive", model, shuffled], seeds=[0], tune=search)
    (result,) = results = run_compare(config)
    facts = result.facts["DLinear"][0]
    assert facts["trials"] == 3
    trials = len(list((tmp_path / "out" / "trials").glob("*.json")))
    assert trials >= 1
    frame = pd.read_parquet(data)
    last = frame.groupby("unique_id").tail(24).index
    frame.loc[last, "y"] += 1e3
    frame.to_parquet(data, index=False)
    (other,) = run_compare(make_config(data, tmp_path / "b", ["SeasonalNaive", model], seeds=[0], tune=search))
    assert other.facts["DLinear"][0]["searched"] == facts["searched"]
    report = build_compare_report(config, results, "c")[0].to_markdown()
    assert "the best of 3 trials each, drawn at random" in report
    assert f"## What the search found\n\n{facts['searched']}" in report
    assert report.count(facts["searched"]) == 1  # what is shuffled was not searched again


def test_every_seed_is_trained_anew_on_all_steps_for_the_length_that_one_training_found(data, tmp_path):
    batch = {"per_device_train_batch_size": 16, "learning_rate": 0.05}
    model = {"model": "dlinear", "options": TINY | {"head": "quantile"}, "training": batch}
    shuffled = {**model, "alias": "Shuffled", "perturb": "input", "variant": "shuffled", "variant_of": "DLinear"}
    once = {"model": "AutoETS", "options": {"refit": False, "input_size": 48}}
    rule = {
        "patience_windows": 162,
        "decay_windows": 81,
        "cap_windows": 810,
        "eval_every_windows": 81,
        "retrain": True,
    }
    config = make_config(data, tmp_path, ["SeasonalNaive", model, shuffled, once, "HistoricAverage"], budget=rule)
    build = Interrupting(after=99)
    (result,) = results = run_with(config, build)
    # One training finds the length, each seed is one more; what is estimated once is built once.
    trained = [*[("DLinear", 0)] * 2, ("DLinear", 1)]
    anew = [[(name, 0)] * 4 for name in ("SeasonalNaive", "HistoricAverage")]
    assert build.built == [*anew[0], *trained, ("AutoETS", 0), *anew[1]]
    found, second = (facts.get("budget") for facts in result.facts["DLinear"])
    assert second is None
    assert result.facts["DLinear"][1]["steps"] == found["best_step"]
    assert found["steps"] > found["best_step"] > 0
    # The second seed by hand: all steps before the first cutoff, that many steps.
    windows = result.prepared.windows
    training = config.budget.retraining(config.budget.apply(batch, 81), result_log(config)) | {"seed": 1}
    made = NeuralForecaster(
        "dlinear",
        6,
        freq="h",
        season=24,
        val_size=0,
        training=training,
        layout=result.prepared.task.layout,
        **TINY,
        head="quantile",
    )
    made.fit(windows.history(0))
    expected = made.predict_rolling(windows.df, 6, 4, 6)["DLinear"]
    got = result.runs[1].frame.sort_values(["unique_id", "cutoff", "ds"])["DLinear"]
    np.testing.assert_allclose(got.to_numpy(), expected.to_numpy(), rtol=1e-5)
    report = build_compare_report(config, results, "command")[0].to_markdown()
    assert "every seed is then trained anew on all steps before the cutoff, the validation steps among them" in report
    assert "So is AutoETS, estimated where they are. HistoricAverage is estimated anew at each window." in report
    later = "HistoricAverage learns from later steps than the trained models, up to each cutoff."
    assert report.count(f"{later} AutoETS and the trained models learn from the same steps.") == 2  # and the methods
    assert "AutoETS was estimated once, on the steps before the first cutoff, and run on from there." in report
    assert "The training that found the length for all seeds, one of each model" in report
    told = "In the training that found the length, the one trained model"
    assert report.count(told) == 4  # wherever budgets are told
    assert "seconds of it: " in report
    assert "finds_length" not in report
    with pytest.raises(ValueError, match="look_backs are chosen seed by seed"):
        make_config(data, tmp_path, ["SeasonalNaive", model], budget=rule, look_backs=[6, 12])


def result_log(config):
    """Returns the log of the training that found the length, from its cell."""
    cells = [p.parent for p in Path(config.output_dir).rglob("cell.json") if '"length": true' in p.read_text()]
    (cell,) = cells
    return json.loads((cell / "cell.json").read_text())["log"]


def test_the_report_says_which_models_learn_from_later_steps():
    models = ["SeasonalNaive", {"model": "dlinear"}, "AutoETS", {"model": "MSTL", "options": {"refit": False}}]
    rule = {"patience_windows": 9, "cap_windows": 99, "eval_every_windows": 9}

    def say(models=models, n_windows=4, refit=False, **entry):
        data = [{"name": "epf-fr-be", "n_windows": n_windows, **entry}]
        config = CompareConfig(data, models, refit=refit, budget=rule | {"retrain": not entry})
        return describe_days(config, [Cuts(n_windows, True)])

    later = "AutoETS learns from later steps than the trained models, up to each cutoff."
    assert say() == f"{later} MSTL and the trained models learn from the same steps."
    assert say(refit=True) == say(n_windows=1) == "Trained and statistical models learn from the same steps."
    held = "The validation steps, the last ones before the cutoff, teach the trained models no weights."
    assert say(val_size=48) == f"{later} {held}"
    assert say(models[:2]) == say([models[0], models[2]]) == ""
    # What is trained by options of its own keeps its validation steps apart, whatever the budget says.
    own = {"model": "neuralforecast:NHITS"}
    apart = "The validation steps, the last ones before the cutoff, teach NHITS no weights."
    assert say([*models, own]) == f"{later} {apart}"
    assert say([models[0], models[1], models[3], own]) == apart
    # One cutoff of a data set is not several, whatever its task is called.
    config = CompareConfig(["a.csv", "b.csv"], models, budget=rule | {"retrain": True})
    ends = "MSTL and the trained models learn from the same steps."
    assert describe_days(config, [Cuts(1, True), Cuts(3, True)]) == f"Where there are several cutoffs, {later} {ends}"
    assert describe_days(config, [Cuts(1, True)] * 2) == "Trained and statistical models learn from the same steps."


def test_members_of_an_ensemble_are_named_by_when_they_are_estimated():
    once = {"model": "MSTL", "options": {"refit": False}}
    kept = ModelSpec("ensemble", alias="Kept", options={"members": [once, "AutoETS"]})
    trained = ModelSpec("ensemble:AutoETS+dlinear", alias="Trained")
    anew = ModelSpec("ensemble:AutoETS+Naive", alias="Anew")
    assert kept.keeps_estimates
    assert not anew.keeps_estimates
    assert find_anew([kept, trained, anew]) == ["AutoETS in Kept", "AutoETS in Trained", "Anew"]
    assert find_once([kept, trained, anew]) == ["MSTL in Kept"]


@pytest.mark.parametrize(
    ("refit", "said"), [(1, "anew at each window"), (2, "anew at each 2nd window"), (12, "anew at each 12th window")]
)
def test_each_how_many_windows_is_said_in_english(refit, said):
    assert describe_refits(CompareConfig(["a.csv"], ["SeasonalNaive"], refit=refit)) == said


def test_a_point_head_that_retraining_could_not_calibrate_is_told_before_the_first_step(data, tmp_path):
    rule = {"patience_windows": 9, "cap_windows": 99, "eval_every_windows": 9, "retrain": True}
    config = make_config(data, tmp_path, ["SeasonalNaive", {"model": "dlinear", "options": TINY}], budget=rule)
    with pytest.raises(ValueError, match="DLinear has a point head and retrain holds no steps to calibrate on"):
        run_compare(config)
    quantile = {"model": "dlinear", "options": TINY | {"head": "quantile"}}
    search = {"trials": 2, "search": {"head": ["quantile", "point"]}}
    config = make_config(data, tmp_path, ["SeasonalNaive", quantile], budget=rule, tune=search)
    with pytest.raises(ValueError, match="DLinear has a point head and retrain"):
        run_compare(config)
