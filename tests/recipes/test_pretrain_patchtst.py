"""The two stages of the PatchTST pre-training recipe, in this process."""

import json

import pytest
import torch
from safetensors.torch import load_file

from tests.recipes.programs import RECIPES, load_recipe
from tsllm.models.patchtst import PatchTST, PatchTSTConfig, PatchTSTPretraining
from tsllm.training.args import (
    ArgumentsError,
    DataArguments,
    ForecastTrainingArguments,
    ModelArguments,
    parse_arguments,
)
from tsllm.training.build import read_model_config
from tsllm.training.pretraining import PretrainingArguments

CONFIGS = sorted((RECIPES / "configs" / "pretrain_patchtst").glob("*.yaml"))
SMALL = ["model=patchtst", "model_config.patch_length=4", "model_config.patch_stride=4", "model_config.d_model=8"]
SMALL += ["model_config.num_heads=2", "model_config.d_ff=8", "model_config.num_layers=1", "max_steps=4"]
SMALL += ["eval_steps=2", "save_steps=2"]


def run(tiny, folder, *more):
    load_recipe("pretrain_patchtst").main([*tiny, *SMALL, f"output_dir={folder}", *more])


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.name)
def test_a_configuration_parses_strictly(path):
    classes = (PretrainingArguments, ModelArguments, DataArguments, ForecastTrainingArguments)
    stage, model, data, args = parse_arguments(classes, [f"--config={path}", "--use_cpu"])
    values = read_model_config(PatchTSTConfig, model.model_config)
    PatchTSTConfig(**values, context_length=data.context_length, prediction_length=data.prediction_length)
    assert 0 < stage.mask_ratio < 1
    assert args.output_dir.startswith("runs/")


@pytest.fixture(scope="module")
def probed(tmp_path_factory, tiny):
    folder = tmp_path_factory.mktemp("ssl") / "run"
    run(tiny, folder, "model_config.linear_probe=true")
    return folder


def test_both_stages_leave_their_artefacts_and_history(probed):
    names = {p.name for p in probed.iterdir()}
    assert names >= {"README.md", "config.json", "metrics.json", "model.safetensors", "forecaster.json", "pretraining"}
    assert json.loads((probed / "metrics.json").read_text())["test"]["mse"] > 0
    assert isinstance(PatchTSTPretraining.from_pretrained(probed / "pretraining"), PatchTSTPretraining)
    assert PatchTST.from_pretrained(probed).config.linear_probe
    state = json.loads((next((probed / "pretraining").glob("checkpoint-4")) / "trainer_state.json").read_text())
    evaluated = [entry for entry in state["log_history"] if "eval_loss" in entry]
    assert [entry["step"] for entry in evaluated] == [2, 4]
    assert evaluated[0]["eval_loss"] == evaluated[0]["eval_mse"] != evaluated[1]["eval_loss"]


def test_a_loss_of_the_forecast_belongs_to_the_second_stage(tiny, tmp_path):
    run(tiny, tmp_path / "run", "model_config.loss=patchtst_uniform")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["loss"] == "patchtst_uniform"
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    # Absolute error + a divergence that is never negative, and not the squared error of the first stage.
    assert metrics["test"]["loss"] > metrics["test"]["mae"]
    assert metrics["start"] is None


def test_a_linear_probe_keeps_the_pretrained_encoder_to_the_bit(probed):
    before, after = load_file(probed / "pretraining" / "model.safetensors"), load_file(probed / "model.safetensors")
    shared = [name for name in after if name.startswith("backbone.")]
    assert len(shared) > 10
    assert all(torch.equal(before[name], after[name]) for name in shared)


def test_resuming_a_finished_pretraining_trains_the_forecaster_only(probed, tiny, tmp_path):
    (tmp_path / "pretraining").mkdir()
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "pretraining" / name).write_bytes((probed / "pretraining" / name).read_bytes())
    run(tiny, tmp_path, "model_config.linear_probe=true", "--resume_from_checkpoint")
    first, second = load_file(probed / "model.safetensors"), load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not list((tmp_path / "pretraining").glob("checkpoint-*"))


def test_other_models_are_refused(tiny, tmp_path):
    with pytest.raises(ArgumentsError, match="got model 'dlinear'"):
        run(tiny, tmp_path, "model=dlinear")
