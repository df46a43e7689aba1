import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from tests.fixtures.backbones import save_tiny_backbone
from tsllm.models.timellm import TimeLLM

FORECAST = """
import sys, torch
torch.set_num_threads(1)
from transformers import AutoModel
import tsllm.models
windows = torch.load(sys.argv[1])
for folder in sys.argv[2:]:
    model = AutoModel.from_pretrained(folder)
    torch.save(model(past_values=windows).predictions.detach(), f"{folder}.pt")
"""


@pytest.fixture
def artefact(gpt2, build, tmp_path):
    """A saved model and its folder."""
    model = build(gpt2)
    model.save_pretrained(tmp_path / "artefact")
    return model, tmp_path / "artefact"


def change_config(folder: Path, **fields):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.parametrize("mode", ["mapping", "direct", "gram"])
def test_only_trained_tensors_are_saved(mode, gpt2, build, tmp_path):
    model = build(gpt2, prototype_mode=mode)
    model.save_pretrained(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    names = set(load_file(tmp_path / "model.safetensors"))
    assert not [n for n in names if n.startswith("backbone.")]
    own = {
        "mapping": {"mapping.weight", "mapping.bias"},
        "direct": {"prototypes"},
        "gram": {"coefficients", "initial"},
    }
    assert {n.removeprefix("prototypes.") for n in names if n.startswith("prototypes.")} == own[mode]


def test_forecasts_in_a_new_process_are_identical(gpt2, llama, build, windows, tmp_path):
    """Of each backbone with each kind of prototypes; one process, whose start costs most, loads them all."""
    models = {}
    for backbone, mode in itertools.product((gpt2, llama), ("mapping", "direct", "gram")):
        model = build(backbone, prototype_mode=mode, backbone_mode="lora" if mode == "direct" else "frozen")
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.05 * torch.randn_like(parameter))
        folder = str(tmp_path / f"{Path(backbone).name}-{mode}")
        model.save_pretrained(folder)
        models[folder] = model
    torch.save(windows, tmp_path / "windows.pt")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", FORECAST, str(tmp_path / "windows.pt"), *models]
    subprocess.run(command, check=True, env=environment)
    for folder, model in models.items():
        assert torch.equal(torch.load(f"{folder}.pt"), model(past_values=windows).predictions), folder
    assert len(models) == 6


def test_what_loading_found_out_is_pinned(artefact):
    _, folder = artefact
    saved = json.loads((folder / "config.json").read_text())
    assert saved["backbone_hidden_size"] == 32
    assert len(saved["backbone_fingerprint"]) == 16
    assert saved["backbone_fingerprint"] == TimeLLM.from_pretrained(folder).config.backbone_fingerprint


def test_another_backbone_under_the_same_name_is_an_error(artefact, tmp_path):
    _, folder = artefact
    change_config(folder, backbone=save_tiny_backbone(tmp_path / "other", "gpt2", seed=1))
    with pytest.raises(ValueError, match=r"fingerprint [0-9a-f]{16}, but the artefact was trained with [0-9a-f]{16}"):
        TimeLLM.from_pretrained(folder)


def test_a_backbone_of_another_width_is_an_error(artefact, tmp_path):
    _, folder = artefact
    change_config(folder, backbone=save_tiny_backbone(tmp_path / "other", "gpt2", width=64))
    with pytest.raises(ValueError, match="has hidden size 64, but the artefact was trained with 32"):
        TimeLLM.from_pretrained(folder)


def test_a_missing_backbone_is_an_error(artefact, tmp_path):
    _, folder = artefact
    change_config(folder, backbone=str(tmp_path / "gone"))
    with pytest.raises(OSError, match=r"gone' cannot be loaded(.|\n)*local folder"):
        TimeLLM.from_pretrained(folder)


def test_another_number_of_layers_is_an_error(artefact):
    _, folder = artefact
    change_config(folder, num_backbone_layers=3)
    with pytest.raises(ValueError, match="fingerprint"):
        TimeLLM.from_pretrained(folder)


def test_missing_unexpected_and_misshapen_tensors_are_listed(artefact):
    _, folder = artefact
    state = load_file(folder / "model.safetensors")
    state["head.wait"] = state.pop("head.bias")
    state["prototypes.prototypes"] = state["prototypes.prototypes"][:3].clone()
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        ValueError, match=r"missing head\.bias; unexpected head\.wait; prototypes\.prototypes has shape"
    ):
        TimeLLM.from_pretrained(folder)


def test_a_truncated_file_is_an_error(artefact):
    _, folder = artefact
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(OSError, match="is damaged"):
        TimeLLM.from_pretrained(folder)


def test_automodel_knows_the_type(artefact, windows):
    model, folder = artefact
    again = AutoModel.from_pretrained(folder)
    assert isinstance(again, TimeLLM)
    assert torch.equal(again(past_values=windows).predictions, model(past_values=windows).predictions)


def test_series_texts_and_scaling_travel_with_the_configuration(gpt2, build, windows, tmp_path):
    model = build(gpt2, prompt_statistics="series", series_loc=[1.0, 2.0], series_scale=[3.0, 4.0])
    model.describe_series(torch.randn(100, 2))
    model.save_pretrained(tmp_path)
    again = TimeLLM.from_pretrained(tmp_path)
    assert again.config.prompt_series == model.config.prompt_series
    assert torch.equal(again(past_values=windows).predictions, model(past_values=windows).predictions)
