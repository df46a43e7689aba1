"""`pretrain_series.py` as its users launch it: two processes, and a run that is killed."""

import json
import os
import signal
import time

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from tests.recipes.programs import ROOT, finish, launch, load_recipe
from tsllm.forecasting.zero_shot import ZeroShotForecaster
from tsllm.models.patchcast import PatchCast

pytestmark = pytest.mark.slow

MODEL = {"d_model": 16, "num_layers": 1, "num_heads": 2, "d_ff": 16, "head": "quantile"}
COMMON = [
    "model=patchcast", f"model_config={json.dumps(MODEL)}", "context_length=32", "prediction_length=8",
    "validation_windows=32", "learning_rate=1e-2", "eval_strategy=steps", "save_strategy=steps", "use_cpu=true",
    "early_stopping_patience=0", "seed=3", "logging_steps=1",
]  # fmt: skip


def read(folder):
    return load_file(folder / "model.safetensors")


def test_two_processes_read_different_series_and_learn_from_both(tmp_path):
    steps = ["max_steps=4", "eval_steps=2", "save_steps=2", "per_device_train_batch_size=8"]
    arguments = [*COMMON, *steps, f"output_dir={tmp_path / 'two'}"]
    told = finish(launch("pretrain_series", *arguments, config_file="cpu2.yaml"))
    assert "4 steps in " in told
    assert " on 2 processes -> " in told
    load_recipe("pretrain_series").main([*COMMON, *steps, f"output_dir={tmp_path / 'one'}"])
    one, two = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("one", "two"))
    assert (one["processes"], one["windows"]) == (1, 4 * 8)
    assert (two["processes"], two["windows"]) == (2, 2 * 4 * 8)
    assert one["seasonal_naive_mae"] == two["seasonal_naive_mae"]  # the same validation windows
    # Were both processes to read the first one's series, averaging their gradients would give its weights.
    assert not torch.allclose(read(tmp_path / "one")["head.weight"], read(tmp_path / "two")["head.weight"], atol=1e-4)


def test_two_processes_of_which_accelerate_would_start_one_are_refused_before_anything_is_written(tmp_path):
    """Without GPUs, accelerate leaves out all but one and says nothing."""
    folder = tmp_path / "two"
    process = launch("pretrain_series", *COMMON, "max_steps=4", f"output_dir={folder}", processes=2)
    told, _ = process.communicate(timeout=240)
    assert process.returncode != 0
    assert "error: accelerate launch was asked for 2 processes, but 1 runs" in told
    assert "with --config_file recipes/accelerate/cpu2.yaml" in told
    assert not folder.exists()


def test_a_killed_run_goes_on_and_ends_with_the_weights_of_one_that_was_not(tmp_path):
    steps = ["max_steps=60", "eval_steps=10", "save_steps=10", "per_device_train_batch_size=8"]
    load_recipe("pretrain_series").main([*COMMON, *steps, f"output_dir={tmp_path / 'whole'}"])
    process = launch("pretrain_series", *COMMON, *steps, f"output_dir={tmp_path / 'killed'}")
    deadline = time.monotonic() + 120
    while not list((tmp_path / "killed").glob("checkpoint-*/trainer_state.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    resumed = [*COMMON, *steps, f"output_dir={tmp_path / 'killed'}", "resume_from_checkpoint=true"]
    load_recipe("pretrain_series").main(resumed)
    whole, again = read(tmp_path / "whole"), read(tmp_path / "killed")
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_the_configuration_for_a_gpu_trains_and_forecasts_with_its_own_sizes_and_precision(tmp_path, monkeypatch):
    """On a CPU, with fewer and smaller steps and two loader workers in the place of eight; all else as it stands."""
    config = ROOT / "recipes" / "configs" / "pretrain_series" / "patchcast_gpu.yaml"
    small = ["max_steps=3", "eval_steps=1", "save_steps=1", "logging_steps=1", "per_device_train_batch_size=2"]
    small += ["per_device_eval_batch_size=4", "validation_windows=4", "dataloader_num_workers=2", "use_cpu=true"]
    precisions, forecast = [], PatchCast.forecast

    def watch(self, *inputs, **options):
        precisions.append(torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None)
        return forecast(self, *inputs, **options)

    monkeypatch.setattr(PatchCast, "forecast", watch)
    load_recipe("pretrain_series").main([f"--config={config}", *small, f"output_dir={tmp_path}"])
    assert set(precisions[:3]) == {torch.bfloat16}
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["parameters"] == {"trainable": 12_752_616, "total": 12_752_616}
    assert (metrics["context_length"], metrics["prediction_length"]) == (1024, 64)
    assert (metrics["steps"], metrics["windows"], metrics["validation"]["windows"]) == (3, 6, 4)
    assert metrics["learning_rate"] == 1e-3
    losses = [entry["loss"] for entry in json.loads((tmp_path / "history.json").read_text()) if "loss" in entry]
    assert [0 < loss < 100 for loss in losses] == [True] * 3
    assert {tensor.dtype for tensor in read(tmp_path).values()} == {torch.float32}  # only the passes are in bfloat16
    frame = pd.DataFrame({"unique_id": "a", "ds": np.arange(1500), "y": np.sin(np.arange(1500) / 4) + 5})
    forecaster = ZeroShotForecaster.from_pretrained(tmp_path)
    found = forecaster.predict(frame, 100, level=[95])
    pd.testing.assert_frame_equal(found, forecaster.predict(frame.tail(1024), 100, level=[95]))
    assert (found["PatchCast-hi-95"] >= found["PatchCast-lo-95"]).all()
    assert found["ds"].tolist() == list(range(1500, 1600))
