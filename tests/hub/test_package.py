"""Artefact folders before an upload: complete, whole, without pickles."""

import shutil

import pytest

from tests.fixtures.artefacts import make_artefact
from tsllm.hub.card import write_card
from tsllm.hub.package import PackageError, check_package


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = make_artefact(tmp_path_factory.mktemp("package"))
    write_card(folder, recipe="train_native")
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "copy")


def test_a_package_holds_the_artefacts_and_no_checkpoint(folder):
    assert list(folder.glob("checkpoint-*"))
    assert check_package(folder) == [
        "README.md",
        "calibration.safetensors",
        "config.json",
        "forecast.png",
        "forecaster.json",
        "history.json",
        "metrics.json",
        "model.safetensors",
    ]


def test_all_faults_are_listed_at_once(folder):
    (folder / "README.md").unlink()
    (folder / "config.json").write_text("{")
    (folder / "adapter.bin").write_bytes(b"x")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(PackageError) as caught:
        check_package(folder)
    for fault in (
        "README.md is missing",
        "config.json is damaged",
        "adapter.bin is a pickle",
        "model.safetensors is damaged",
    ):
        assert fault in str(caught.value)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(PackageError, match="no folder"):
        check_package(tmp_path / "nowhere")


def test_peft_s_own_format_travels_in_its_subfolder(folder):
    (folder / "lora").mkdir()
    shutil.copy(folder / "model.safetensors", folder / "lora" / "adapter_model.safetensors")
    (folder / "lora" / "adapter_config.json").write_text("{}")
    assert {"lora/adapter_config.json", "lora/adapter_model.safetensors"} <= set(check_package(folder))


def test_the_faults_of_a_told_forecaster_are_listed_with_their_part(folder, tmp_path):
    told = tmp_path / "told"
    shutil.copytree(folder, told / "base")
    (told / "context.json").write_text('{"readers": ["rules", "learned"]}')
    (told / "README.md").write_text("told")
    with pytest.raises(PackageError, match=r"reader/model.safetensors is missing; reader/reader.json is missing"):
        check_package(told)
    (told / "reader").mkdir()
    (told / "reader" / "reader.json").write_text("{")
    (told / "reader" / "model.safetensors").write_bytes(b"x")
    with pytest.raises(PackageError, match=r"reader/model.safetensors is damaged.*reader/reader.json is damaged"):
        check_package(told)
    (told / "context.json").write_text('{"readers": ["rules"]}')
    assert check_package(told) == sorted(["README.md", "context.json", *(f"base/{n}" for n in check_package(folder))])
    (told / "base" / "metrics.json").unlink()
    with pytest.raises(PackageError, match=r"its base: .*metrics.json is missing"):
        check_package(told)
    (told / "base" / "context.json").write_text("{}")
    with pytest.raises(PackageError, match="is told something itself"):
        check_package(told)
