"""The model card, from the files of a folder that a small run left."""

import json

import pytest
import yaml
from huggingface_hub import ModelCard

from tests.fixtures.artefacts import make_artefact
from tsllm.hub.card import build_card, check_card, write_card


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_artefact(tmp_path_factory.mktemp("card"))


def test_the_card_holds_the_scores_as_a_model_index(folder):
    write_card(folder, recipe="train_native", repo_id="someone/dlinear-demo")
    card = check_card(folder / "README.md")
    metrics = json.loads((folder / "metrics.json").read_text())
    results = {r.metric_type: r for r in card.data.eval_results}
    assert results["mse"].metric_value == pytest.approx(metrics["test"]["mse"], abs=1e-6)
    assert results["mae_original"].metric_value == pytest.approx(metrics["test"]["mae_original"], abs=1e-6)
    assert results["mse"].dataset_args == {"context_length": 24, "prediction_length": 6, "windows": 43}
    assert card.data.model_name == "someone/dlinear-demo"


def test_the_card_says_what_a_reader_must_know(folder):
    text = str(build_card(folder, recipe="train_native"))
    metrics = json.loads((folder / "metrics.json").read_text())
    for fact in (
        'NeuralForecaster.from_pretrained(".")',
        "43 rolling windows of the test part",
        f"{metrics['parameters']['trainable']:,} trained of",
        "training 2024-01-07 23:00:00, validation 2024-01-08 23:00:00, test 2024-01-10 23:00:00",
        "standard per series, fitted on the training part only",
        f"seed: {metrics['seed']}",
        "torch 2.",
        "seasonal naive, test",
        "AAAI 2023",
    ):
        assert fact in text, fact
    assert "{{" not in text
    assert "None" not in text


def test_the_metadata_is_yaml_that_the_hub_reads(folder):
    text = str(build_card(folder, recipe="train_native"))
    header = yaml.safe_load(text.split("---")[1])
    assert header["library_name"] == "tsllm"
    assert header["pipeline_tag"] == "time-series-forecasting"
    assert header["model-index"][0]["results"][0]["dataset"]["split"] == "test"
    assert "base_model" not in header


def test_a_reprogrammed_model_names_its_backbone_and_its_doubts(folder, tmp_path):
    for file in folder.iterdir():
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"model_type": "tsllm_timellm", "backbone": "openai-community/gpt2", "backbone_revision": "abc123"}
    config |= {"lora": {"r": 8, "lora_alpha": 16}, "num_prototypes": 1000}
    (tmp_path / "config.json").write_text(json.dumps(config))
    card = build_card(tmp_path, recipe="sft_series")
    assert card.data.base_model == "openai-community/gpt2"
    text = str(card)
    for fact in ("`abc123`", '"r": 8', "num_prototypes: `1000`", "pretraining of openai-community/gpt2 may have seen"):
        assert fact in text, fact


def test_a_folder_of_another_kind_is_an_error(tmp_path):
    with pytest.raises(OSError, match=r"holds no config\.json"):
        build_card(tmp_path, recipe="x")


def test_a_card_without_results_is_refused(tmp_path):
    file = tmp_path / "README.md"
    ModelCard("---\nlibrary_name: tsllm\n---\n# x\n").save(file)
    with pytest.raises(ValueError, match=r"lacks .*model-index"):
        check_card(file)


def test_a_local_backbone_folder_is_no_base_model_of_the_hub(folder, tmp_path):
    for file in folder.iterdir():
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text()) | {"backbone": "/models/mine", "lora": {}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert build_card(tmp_path, recipe="sft_series").data.base_model is None
