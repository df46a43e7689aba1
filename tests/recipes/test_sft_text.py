import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from peft import AutoPeftModelForCausalLM
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from tests.recipes.programs import finish, launch, launch_sharded, load_recipe
from tests.text.conftest import tokenizer  # noqa: F401
from tsllm.forecasting.text import TextForecaster
from tsllm.training.text.supervised import merge_adapter

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def run(tmp_path_factory, tokenizer):  # noqa: F811
    """A finished run of the recipe on a sine, with a tiny language model from a folder."""
    folder = tmp_path_factory.mktemp("sft_text")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, initializer_range=0.2, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder / "llm")
    tokenizer.save_pretrained(folder / "llm")
    ds = pd.date_range("2024-01-01", periods=240, freq="h")
    pd.DataFrame({"unique_id": "a", "ds": ds, "y": np.sin(np.arange(240) * 2 * np.pi / 6)}).to_csv(
        folder / "series.csv", index=False
    )
    command = [
        sys.executable, "-m", "accelerate.commands.launch", "--num_processes=1", "--cpu", "recipes/sft_text.py",
        "--config", "recipes/configs/sft_text/epf_smollm2_hard_cases.yaml", "--language_model", str(folder / "llm"),
        "--dataset", str(folder / "series.csv"), "--output_dir", str(folder / "out"), "--context_length", "12",
        "--prediction_length", "3", "--train_stride", "1", "--num_samples", "4", "--test_windows", "6",
        "--max_steps", "40", "--save_steps", "40", "--learning_rate", "0.02", "--lora_r", "4", "--digits", "1",
        "--lora_target_modules", "q_proj", "v_proj", "up_proj", "down_proj",
    ]  # fmt: skip
    environment = os.environ | {"HF_DATASETS_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


def test_it_learns_and_says_by_how_much(run):
    metrics = json.loads((run / "out" / "metrics.json").read_text())
    assert metrics["steps"] == 40
    assert np.mean(metrics["loss"][-2:]) < 0.8 * metrics["loss"][0]
    assert metrics["training"]["mean_score_chosen"] > metrics["training"]["mean_score"]
    assert metrics["test"]["windows"] == metrics["start"]["windows"] == 6
    assert metrics["test"]["parse_failures"] == {}
    gain = metrics["start"]["crps"] - metrics["test"]["crps"]
    assert metrics["comparison"]["crps"]["gain"] == pytest.approx(gain)


def test_the_folder_is_a_plain_peft_adapter_that_forecasts(run):
    out = run / "out"
    assert {"adapter_config.json", "adapter_model.safetensors", "text_forecaster.json"} <= {
        p.name for p in out.iterdir()
    }
    assert not list(out.glob("*.bin"))
    plain = AutoPeftModelForCausalLM.from_pretrained(out)
    forecaster = TextForecaster.from_pretrained(out)
    ids = torch.arange(20)[None]
    torch.testing.assert_close(plain.eval()(ids).logits, forecaster.model(ids).logits)
    df = pd.read_csv(run / "series.csv", parse_dates=["ds"])
    assert len(forecaster.predict(df, level=[80])) == 3


def test_it_remembers_its_training_part_and_its_losses(run):
    metrics = json.loads((run / "out" / "metrics.json").read_text())
    series = pd.read_csv(run / "series.csv", parse_dates=["ds"])
    data = TextForecaster.from_pretrained(run / "out").trained_on.newest
    assert data.first == str(series["ds"].min())
    # Six test windows of three steps follow the training part.
    assert pd.Timestamp(data.last) <= series["ds"].iloc[-6 * 3 - 1]
    history = json.loads((run / "out" / "history.json").read_text())
    assert [entry["loss"] for entry in history if "loss" in entry] == metrics["loss"]


def test_merging_leaves_the_logits(run, tmp_path):
    merge_adapter(run / "out", tmp_path / "merged")
    merged = LlamaForCausalLM.from_pretrained(tmp_path / "merged").eval()
    adapted = TextForecaster.from_pretrained(run / "out").model
    ids = torch.arange(30)[None]
    # In double precision, so that only the rounding of the merged weights is left.
    torch.testing.assert_close(merged.double()(ids).logits, adapted.double()(ids).logits, atol=1e-5, rtol=1e-5)
    forecaster = TextForecaster.from_pretrained(tmp_path / "merged")
    assert (forecaster.h, forecaster.context_length, forecaster.codec.digits) == (3, 12, 1)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["data parallel", "sharded"])
def test_two_processes_write_the_adapter_of_one(how, run, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    shared = [
        f"language_model={run / 'llm'}", f"dataset={run / 'series.csv'}", "context_length=12", "prediction_length=3",
        "train_stride=3", "digits=1", "lora_r=2", "num_samples=3", "test_windows=2", "max_steps=6", "seed=3",
        "save_strategy=no", "learning_rate=0.01", "optim=sgd", "use_cpu=true", "disable_tqdm=true", "logging_steps=1",
    ]  # fmt: skip
    two = [*shared, "per_device_train_batch_size=2", f"output_dir={tmp_path / 'two'}"]
    if how == "sharded":
        assert "DistributedType.FSDP" in finish(launch_sharded(tmp_path, "sft_text", *two))
    else:
        finish(launch("sft_text", *two, config_file="cpu2.yaml"))
    load_recipe("sft_text").main([*shared, "per_device_train_batch_size=4", f"output_dir={tmp_path / 'one'}"])
    one, both = (load_file(tmp_path / n / "adapter_model.safetensors") for n in ("one", "two"))
    assert one.keys() == both.keys()
    for name in one:
        torch.testing.assert_close(both[name], one[name], atol=1e-6, rtol=1e-5, msg=name)
    assert max(tensor.abs().max() for name, tensor in one.items() if "lora_B" in name) > 1e-4
    first, second = (json.loads((tmp_path / n / "metrics.json").read_text()) for n in ("one", "two"))
    assert (first["processes"], second["processes"]) == (1, 2)
    assert first["global_batch_size"] == second["global_batch_size"] == 4
    assert second["loss"] == pytest.approx(first["loss"], rel=1e-4)
    assert second["test"]["windows"] == first["test"]["windows"]
    TextForecaster.from_pretrained(tmp_path / "two")


@pytest.mark.slow
def test_rewards_on_two_sharded_processes_write_whole_tensors(run, tmp_path):
    options = [
        f"adapter={run / 'out'}", f"dataset={run / 'series.csv'}",
        "context_length=12", "prediction_length=3", "train_stride=3", "digits=1", "num_samples=3", "test_windows=2",
        "max_steps=3", "seed=3", "algorithm=grpo", "reward=mae", "constrained=true", "num_generations=4",
        "per_device_train_batch_size=4", "max_completion_length=12", "save_strategy=no", "learning_rate=0.01",
        "use_cpu=true", "disable_tqdm=true", "logging_steps=1",
    ]  # fmt: skip
    output = finish(launch_sharded(tmp_path, "grpo_text", *options, f"output_dir={tmp_path / 'two'}"), 480)
    assert "DistributedType.FSDP" in output
    start, trained = (load_file(folder / "adapter_model.safetensors") for folder in (run / "out", tmp_path / "two"))
    assert {name: t.shape for name, t in trained.items()} == {name: t.shape for name, t in start.items()}
    assert all(not torch.equal(trained[name], start[name]) for name in start if "lora_B" in name)
    metrics = json.loads((tmp_path / "two" / "metrics.json").read_text())
    assert metrics["processes"] == 2
    assert len(metrics["rewards"]) == 3
    TextForecaster.from_pretrained(tmp_path / "two")
