"""Upload and download over HTTP, against a Hub on the loopback interface and in processes of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.hub.fake_hub import Repository, serve
from tsllm.models import build_model

ROOT = Path(__file__).resolve().parents[2]


def run_client(hub, cache, *scenarios):
    """Runs the scenarios one after another in a new process and returns what happened in each."""
    environment = os.environ | {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(cache),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "tests.hub.hub_client", *scenarios]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def save_dlinear(folder, seed):
    torch.manual_seed(seed)
    build_model("dlinear", context_length=48, prediction_length=12).save_pretrained(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def happened(tmp_path_factory):
    """What happened in the scenarios that share a Hub, and that Hub; one process, whose start costs most, runs all."""
    folder = tmp_path_factory.mktemp("hub")
    with serve() as hub:
        files = save_dlinear(folder / "dlinear", 0)
        config, weights = files["config.json"], files["model.safetensors"]
        truncated = {"config.json": config, "model.safetensors": weights[:-100]}
        text_pickles = {
            "adapter_config.json": b'{"base_model_name_or_path": "user/tiny-llm", "peft_type": "LORA"}',
            "adapter_model.bin": b"pickle",
            "text_forecaster.json": b'{"options": {}}',
        }
        hub.repositories |= {
            "user/pickles": Repository(commits=[{"config.json": config, "pytorch_model.bin": b"pickle"}]),
            "user/truncated": Repository(commits=[truncated]),
            "user/text-pickles": Repository(commits=[text_pickles]),
        }
        yield run_client(hub, folder / "cache", "models", "text", "forecasters"), hub


@pytest.fixture(scope="module")
def outcome(happened):
    found, hub = happened
    uploaded = {name: sorted(r.commits[-1]) for name, r in hub.repositories.items()}
    return found["models"] | {"uploaded": uploaded, "private": hub.repositories["user/dlinear"].private}


def test_a_revision_brings_the_weights_of_that_commit(outcome):
    found = outcome["revisions"]
    assert (found["newest"], found["old"], found["auto"]) == (0.0, 0.0, 0.0)
    assert found["differ"] > 0.01
    assert outcome["private"] is True


@pytest.mark.parametrize(
    ("case", "texts"),
    [
        ("missing_repository", ["OSError", "user/nowhere"]),
        ("missing_revision", ["OSError", "v9"]),
        ("no_token", ["OSError", "user/dlinear"]),
        ("read_only_push", ["403"]),
        ("pickle_only", ["OSError", "model.safetensors", "user/pickles"]),
        ("truncated_file", ["OSError", "damaged"]),
    ],
)
def test_what_goes_wrong_is_an_error_that_names_it(outcome, case, texts):
    message = outcome["errors"][case]
    assert message is not None
    assert all(text in message for text in texts), message


def test_only_artefacts_travel(outcome):
    assert outcome["package"]["difference"] == 0.0
    assert outcome["package"]["files"] == ["README.md", "config.json", "metrics.json", "model.safetensors"]
    assert outcome["uploaded"]["user/package"] == outcome["package"]["files"]
    assert "README.md is missing" in outcome["package"]["incomplete"]


def test_an_adapter_gets_the_commit_of_its_backbone(outcome):
    pinned = outcome["pinned"]
    assert pinned["pinned"]
    assert pinned["difference"] == 0.0
    assert outcome["uploaded"]["user/adapter"] == ["README.md", "config.json", "model.safetensors"]
    assert "ValueError" in pinned["moved"] or "OSError" in pinned["moved"], pinned["moved"]
    assert "user/no-such-model" in pinned["gone"]


@pytest.mark.slow
def test_a_download_that_breaks_off_goes_on_and_one_that_always_breaks_leaves_nothing_wrong(tmp_path):
    with serve() as hub:
        hub.repositories["user/flaky"] = Repository(commits=[save_dlinear(tmp_path / "dlinear", 2)])
        hub.break_after, hub.breaks_left = 1000, 10**6
        given_up = run_client(hub, tmp_path / "cache", "gives_up")["gives_up"]["given_up"]
        assert given_up is not None
        assert "OSError" in given_up, given_up
        hub.breaks_left = 1
        assert run_client(hub, tmp_path / "cache", "interrupted")["interrupted"] == {"recovered": 0.0}
        assert hub.breaks_left == 0


@pytest.fixture(scope="module")
def text(happened):
    found, hub = happened
    kept = hub.repositories["user/text"]
    asked = [request for request in hub.requests if request.startswith("GET") and "resolve" in request]
    return found["text"] | {"uploaded": sorted(kept.commits[-1]), "private": kept.private, "asked": asked}


def test_a_text_adapter_travels_with_its_settings_and_card(text):
    assert text["private"] is True
    assert text["uploaded"] == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "history.json",
        "metrics.json",
        "text_forecaster.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


def test_a_text_adapter_gets_the_commit_of_its_language_model_also_by_peft_alone(text):
    assert text["pinned"]
    assert text["differences"] == {"newest": 0.0, "of_commit": 0.0, "peft": 0.0}
    assert text["size"] > 0.1


@pytest.mark.parametrize(
    ("case", "texts"),
    [
        ("moved_base", ["ValueError", "user/tiny-llm", "the weights are others"]),
        ("missing_repository", ["OSError", "user/nowhere", "check the name, your access"]),
        ("missing_revision", ["OSError", "user/text", "revision v9"]),
        ("no_token", ["OSError", "user/secret", "token"]),
        ("read_only_push", ["403"]),
        ("no_adapter", ["OSError", "holds no text_forecaster.json"]),
        ("pickle_only", ["OSError", "holds no adapter_model.safetensors"]),
    ],
)
def test_what_goes_wrong_with_a_text_adapter_is_an_error_that_names_it(text, case, texts):
    message = text["errors"][case]
    assert message is not None
    assert all(part in message for part in texts), message


def test_pickles_of_a_repository_are_not_even_downloaded(text):
    assert any("user/text-pickles" in request for request in text["asked"])
    assert not [request for request in text["asked"] if request.endswith(".bin")]


@pytest.mark.slow
def test_a_text_adapter_whose_download_breaks_off_is_whole_afterwards(tmp_path):
    files = {"adapter_model.safetensors": bytes(range(256)) * 64, "adapter_config.json": b"{}"}
    with serve() as hub:
        hub.repositories["user/flaky-text"] = Repository(commits=[files])
        hub.break_after, hub.breaks_left = 1000, 1
        found = run_client(hub, tmp_path / "cache", "interrupted_text")["interrupted_text"]
        assert hub.breaks_left == 0
        assert found["files"] == {name: len(content) for name, content in files.items()}


@pytest.fixture(scope="module")
def pushed(happened):
    found, hub = happened
    kept = {name: repository.commits[-1] for name, repository in hub.repositories.items()}
    return found["forecasters"] | {
        "files": {name: sorted(files) for name, files in kept.items()},
        "cards": {name: files["README.md"].decode() for name, files in kept.items() if "README.md" in files},
        "private": hub.repositories["user/neural"].private,
    }


def test_every_forecaster_that_can_be_saved_can_be_pushed_and_forecasts_the_same(pushed):
    assert pushed["private"] is True
    assert (pushed["neural"], pushed["zero"], pushed["text"]) == (0.0, 0.0, 0.0)
    assert pushed["columns"] == ["shop", "day", "DLinear"]
    described = {"README.md", "config.json", "forecaster.json", "history.json", "metrics.json", "model.safetensors"}
    for name in ("neural", "saved", "zero"):
        assert described <= set(pushed["files"][f"user/{name}"]), name
    assert {"README.md", "adapter_model.safetensors", "text_forecaster.json"} <= set(pushed["files"]["user/words"])


def test_a_card_on_the_hub_names_its_place_and_its_licence(pushed):
    for name, licence in (("neural", "cc-by-4.0"), ("saved", "cc-by-4.0"), ("zero", "unknown"), ("words", "mit")):
        assert f"license: {licence}\n" in pushed["cards"][f"user/{name}"], name
    assert pushed["licence"] == "cc-by-4.0"
    assert 'NeuralForecaster.from_pretrained("user/saved")' in pushed["cards"]["user/saved"]
    assert "from tsllm import ZeroShotForecaster" in pushed["cards"]["user/zero"]


def test_what_cannot_be_pushed_or_loaded_says_so(pushed):
    assert "OSError" in pushed["no_token"]
    assert "NotImplementedError: SeasonalNaive" in pushed["naive"]
    assert "licence is 'Apache 2.0'; write it as the Hub does" in pushed["wrong_licence"]


def test_an_ensemble_travels_with_all_its_members(pushed):
    assert pushed["ensemble"] == 0.0
    kept = pushed["files"]["user/both"]
    assert {"forecaster.json", "README.md", "members/0/model.safetensors", "members/0/README.md"} <= set(kept)
    assert not [name for name in kept if not name.startswith("members/0/") and "/" in name]
    card = pushed["cards"]["user/both"]
    assert "license: mit\n" in card
    assert "tsllm predict user/both data.csv" in card


def test_a_told_forecaster_travels_with_base_reader_and_texts(pushed):
    assert pushed["told"] == {"told": 0.0, "told-folder": 0.0}
    assert pushed["told_zeros"] == 1
    base = {"README.md", "config.json", "forecaster.json", "history.json", "metrics.json", "model.safetensors"}
    files = {"README.md", "context.json", "reader/model.safetensors", "reader/reader.json"}
    for name, licence in (("told", "cc-by-4.0"), ("told-folder", "mit")):
        kept = set(pushed["files"][f"user/{name}"])
        assert kept - {"base/calibration.safetensors"} == files | {f"base/{file}" for file in base}, name
        card = pushed["cards"][f"user/{name}"]
        assert f"license: {licence}\n" in card
        assert f"tsllm predict user/{name} data.csv --context" in card
        assert "Texts kept in `context.json`: 1." in card
    assert pushed["told_said"].startswith("1 text of context.json goes with it\nhttp://127.0.0.1")
    assert "OSError" in pushed["told_stranger"] or "FileNotFoundError" in pushed["told_stranger"]


def test_a_language_model_that_says_effects_travels_in_the_told_forecaster_and_alone(pushed):
    assert pushed["spoken"] == {"spoken": 0.0, "speaks": 0.0}
    assert pushed["spoken_adapts"] > 0
    assert pushed["spoken_said"][0] == pushed["spoken_said"][1] == pushed["spoken_said"][2]
    assert pushed["spoken_forecast"] == 0.0
    own = {"adapter_config.json", "adapter_model.safetensors", "effects.json", "metrics.json", "README.md"}
    assert own <= set(pushed["files"]["user/speaks"])
    assert {f"reader/{name}" for name in own} | {"context.json", "base/config.json"} <= set(
        pushed["files"]["user/spoken"]
    )
    assert "text_forecaster.json" not in pushed["files"]["user/speaks"]
    card = pushed["cards"]["user/spoken"]
    assert "Reader: spoken." in card
    assert "`reader/README.md` says what the language model that reads was trained on." in card
    assert "license: apache-2.0\n" in pushed["cards"]["user/speaks"]
