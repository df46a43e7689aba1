"""Fine-tuning by the series recipe from a frozen artefact, as the LoRA and layer-norm configurations do."""

import json

import pytest
from safetensors.torch import load_file

from tests.recipes.programs import finish, launch, load_recipe
from tests.recipes.test_programs import TIMELLM, steps
from tsllm.hub.card import check_card
from tsllm.training.args import ArgumentsError


def read_metrics(folder):
    return json.loads((folder / "metrics.json").read_text())


@pytest.fixture(scope="module")
def frozen(tmp_path_factory, tiny, backbone):
    """Folder of a finished run with a frozen backbone."""
    folder = tmp_path_factory.mktemp("frozen") / "run"
    own = [*TIMELLM, f"model_config.backbone={backbone}", "model_config.prompt_statistics=series"]
    load_recipe("sft_series").main([*tiny, *own, f"output_dir={folder}", *steps(4, 2)])
    return folder


@pytest.fixture(scope="module")
def tuned(tmp_path_factory, tiny, frozen):
    """Folder of a run that goes on from it with LoRA."""
    folder = tmp_path_factory.mktemp("tuned") / "run"
    own = ["model=timellm", f"pretrained={frozen}", "model_config.backbone_mode=lora", "model_config.lora.r=2"]
    load_recipe("sft_series").main([*tiny, *own, f"output_dir={folder}", *steps(4, 2)])
    return folder


def test_the_start_of_fine_tuning_scores_as_the_artefact_did(frozen, tuned):
    before, after = read_metrics(frozen), read_metrics(tuned)
    assert before["start"] is None
    assert after["start"] == before["test"]
    assert after["test"] != after["start"]
    assert after["parameters"]["trainable"] > before["parameters"]["trainable"]


def test_the_tuned_artefact_holds_lora_and_its_card_both_scores(tuned):
    names = load_file(tuned / "model.safetensors")
    assert sum("lora_" in name for name in names) == 2
    assert {p.name for p in (tuned / "lora").iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    check_card(tuned / "README.md")
    text = (tuned / "README.md").read_text()
    metrics = read_metrics(tuned)
    assert f"| what it started from, test | {metrics['start']['mse']:.4g} |" in text
    assert f"| this model, test | {metrics['test']['mse']:.4g} |" in text


@pytest.mark.parametrize("mode", ["norms", "frozen"])
def test_other_modes_start_from_the_same_score(mode, frozen, tiny, tmp_path):
    own = ["model=timellm", f"pretrained={frozen}", f"model_config.backbone_mode={mode}"]
    load_recipe("sft_series").main([*tiny, *own, f"output_dir={tmp_path / 'run'}", *steps(1, 1)])
    assert read_metrics(tmp_path / "run")["start"] == read_metrics(frozen)["test"]
    assert json.loads((tmp_path / "run" / "config.json").read_text())["backbone_mode"] == mode


def test_an_artefact_of_another_model_is_refused(frozen, tiny, tmp_path):
    with pytest.raises(ArgumentsError, match="holds a tsllm_timellm model, but model is dlinear"):
        load_recipe("sft_series").main([*tiny, "model=dlinear", f"pretrained={frozen}", f"output_dir={tmp_path}"])


@pytest.mark.slow
def test_bfloat16_with_recomputed_layers_trains_nearly_as_float32(frozen, tuned, tiny, tmp_path):
    own = ["model=timellm", f"pretrained={frozen}", "model_config.backbone_mode=lora", "model_config.lora.r=2"]
    half = ["bf16=true", "model_config.gradient_checkpointing=true", f"output_dir={tmp_path / 'half'}"]
    finish(launch("sft_series", *tiny, *own, *half, *steps(4, 2)))
    whole, found = read_metrics(tuned), read_metrics(tmp_path / "half")
    assert found["start"]["mse"] == pytest.approx(whole["start"]["mse"], rel=0.02)
    assert found["test"]["mse"] == pytest.approx(whole["test"]["mse"], rel=0.05)
    assert found["test"]["mse"] != whole["test"]["mse"]
    assert {str(t.dtype) for t in load_file(tmp_path / "half" / "model.safetensors").values()} == {"torch.float32"}
