"""Supervised fine-tuning on number text: what is trained, on which tokens, and that it goes on exactly."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from tests.fixtures.artefacts import make_text_artefact
from tests.fixtures.backbones import save_tiny_backbone
from tsllm.text.codec import NumberCodec
from tsllm.text.loading import load_language_model
from tsllm.text.prompt import TextPrompt
from tsllm.training.args import ArgumentsError
from tsllm.training.text.data import TextWindows
from tsllm.training.text.supervised import (
    TextModelArguments,
    TextTrainingArguments,
    choose_windows,
    merge_adapter,
    save_adapter,
    train_text,
)

WINDOWS = TextWindows(TextPrompt(NumberCodec(digits=1, separator=",")), context_length=6, h=2)


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        yield


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return save_tiny_backbone(tmp_path_factory.mktemp("llm") / "llama", "llama", layers=2)


def make_frame(length=40):
    ds = pd.date_range("2024-01-01", periods=length, freq="h")
    return pd.DataFrame({"unique_id": "a", "ds": ds, "y": np.sin(np.arange(length) / 2)})


def make_arguments(folder, **changes):
    values = {
        "output_dir": str(folder), "use_cpu": True, "max_steps": 6, "save_strategy": "steps", "save_steps": 3,
        "save_total_limit": 5, "per_device_train_batch_size": 2, "learning_rate": 1e-2, "logging_steps": 1,
        "disable_tqdm": True, "seed": 3, "data_seed": 3,
    }  # fmt: skip
    return TextTrainingArguments(**(values | changes))


def train(folder, source, model_arguments=None, df=None, **changes):
    """Runs a training in this process and returns its trainer; the adapter stands in `folder`."""
    model, tokenizer = load_language_model(source)
    arguments = make_arguments(folder, **changes)
    dataset, _ = choose_windows(make_frame() if df is None else df, WINDOWS, arguments, model, tokenizer)
    trainer = train_text(model, tokenizer, dataset, model_arguments or TextModelArguments(lora_r=2), arguments)
    save_adapter(trainer, tokenizer, folder)
    return trainer


def read(folder):
    return load_file(folder / "adapter_model.safetensors")


def assert_equal(left, right, tolerance=0.0):
    assert left.keys() == right.keys()
    for name in left:
        torch.testing.assert_close(left[name], right[name], atol=tolerance, rtol=tolerance, msg=name)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, llama):
    folder = tmp_path_factory.mktemp("trained")
    return train(folder, llama), folder


def test_the_loss_reads_the_answer_and_its_end_alone(trained, llama):
    trainer, _ = trained
    tokenizer = load_language_model(llama)[1]
    rows = {row["prompt"]: row["completion"] for row in WINDOWS.rows(make_frame())}
    batch = next(iter(trainer.get_train_dataloader()))
    for ids, labels, mask in zip(batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True):
        read_tokens = ids[mask.bool()].tolist()
        counted = labels[labels != -100].tolist()
        answer = tokenizer.decode(counted[:-1])
        assert counted[-1] == tokenizer.eos_token_id
        assert read_tokens[-len(counted) :] == counted
        assert rows[tokenizer.decode(read_tokens[: -len(counted)])] == answer
    assert (batch["labels"][:, 0] == -100).all()


def test_only_lora_is_trained_and_goes_to_query_and_value(trained, llama):
    trainer, folder = trained
    names = {n for n, p in trainer.model.named_parameters() if p.requires_grad}
    assert names
    assert all("lora_" in n and ("q_proj" in n or "v_proj" in n) for n in names)
    whole = load_language_model(llama)[0].state_dict()
    state = {n.replace(".base_layer", ""): t for n, t in trainer.model.get_base_model().state_dict().items()}
    assert_equal(whole, {n: t for n, t in state.items() if "lora_" not in n})
    config = json.loads((folder / "adapter_config.json").read_text())
    assert (config["r"], config["base_model_name_or_path"], config["revision"]) == (2, llama, None)
    assert not [p for p in folder.iterdir() if p.suffix in {".bin", ".pt"}]


def test_a_resumed_run_ends_with_the_weights_of_a_whole_one(trained, llama, tmp_path):
    whole, folder = trained
    assert (folder / "checkpoint-3").is_dir()
    # Another seed draws other initial updates, so that a run from the beginning would end elsewhere.
    again = train(tmp_path, llama, seed=9, resume_from_checkpoint=str(folder / "checkpoint-3"))
    assert again.state.global_step == whole.state.global_step == 6
    assert_equal(read(folder), read(tmp_path))


def test_an_adapter_is_trained_further(trained, tmp_path):
    _, folder = trained
    trainer = train(tmp_path, folder, learning_rate=0.0)
    assert_equal(read(folder), read(tmp_path))
    assert {n for n, p in trainer.model.named_parameters() if p.requires_grad} == {
        n for n, _ in trainer.model.named_parameters() if "lora_" in n
    }


def test_recomputed_layers_give_the_same_adapter(trained, llama, tmp_path):
    _, folder = trained
    train(tmp_path, llama, gradient_checkpointing=True)
    assert_equal(read(folder), read(tmp_path), 1e-5)


def test_streamed_windows_are_the_same_but_shuffled_and_train(llama, tmp_path):
    model, tokenizer = load_language_model(llama)
    arguments = make_arguments(tmp_path, streaming=True, max_steps=2)
    dataset, facts = choose_windows(make_frame(), WINDOWS, arguments, model, tokenizer)
    streamed, ordered = list(dataset), list(WINDOWS.rows(make_frame()))
    assert streamed != ordered
    assert sorted(streamed, key=lambda r: r["cutoff"]) == ordered
    assert (facts["windows"], "trained_on" in facts) == (33, False)
    trainer = train(tmp_path, llama, streaming=True, max_steps=2)
    assert trainer.state.global_step == 2
    assert (tmp_path / "adapter_model.safetensors").is_file()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"packing": True}, "packing lets windows read one another"),
        ({"padding_free": True}, "packing lets windows read one another"),
        ({"completion_only_loss": False}, "would train the history too"),
        ({"focus": "easy"}, "choose one of all, hard_cases"),
        ({"streaming": True, "focus": "hard_cases"}, "cannot stream"),
        ({"streaming": True, "max_windows": 5}, "use max_steps instead"),
        ({"streaming": True, "max_steps": -1}, "give max_steps"),
    ],
)
def test_settings_that_would_train_something_else_are_refused(changes, text, tmp_path):
    with pytest.raises(ArgumentsError, match=text):
        make_arguments(tmp_path, **changes)


def test_an_adapter_of_packed_weights_is_not_merged(trained, tmp_path, llama):
    folder = tmp_path / "packed"
    folder.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (folder / name).write_bytes((trained[1] / name).read_bytes())
    (folder / "text_forecaster.json").write_text(json.dumps({"base": {"load_in_4bit": True}}))
    with pytest.raises(ValueError, match="was trained on 4-bit weights; merged into whole ones"):
        merge_adapter(folder, tmp_path / "merged")
    with pytest.raises(ValueError, match="holds no adapter; there is nothing to merge"):
        merge_adapter(llama, tmp_path / "merged")


def test_an_adapter_names_a_hub_id_and_never_the_cache_of_this_machine(tmp_path):
    """The base lies in a Hub cache; the adapter asks others for the repository and its commit, and loads here."""
    commit = "0123456789" * 4
    cached = tmp_path / "models--someone--tiny" / "snapshots" / commit
    save_tiny_backbone(cached, "llama", layers=1)
    folder = make_text_artefact(tmp_path, str(cached), test_windows=0)
    settings = json.loads((folder / "adapter_config.json").read_text())
    assert (settings["base_model_name_or_path"], settings["revision"]) == ("someone/tiny", commit)
    assert str(tmp_path) not in (folder / "adapter_config.json").read_text()
    model, _ = load_language_model(folder)
    plain, _ = load_language_model(cached)
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        assert (model(input_ids=ids).logits - plain(input_ids=ids).logits).abs().max() > 1e-6


def test_one_word_of_the_command_line_names_all_layers():
    assert TextModelArguments(lora_target_modules=["all-linear"]).lora_target_modules == "all-linear"
    assert TextModelArguments(lora_target_modules=["q_proj"]).lora_target_modules == ["q_proj"]
