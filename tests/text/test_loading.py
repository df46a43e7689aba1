"""Language models and adapters from folders: what is pinned, what is refused. Over HTTP: hub/test_transport.py."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
from transformers.utils import is_bitsandbytes_available

from tests.fixtures.backbones import save_tiny_backbone
from tsllm.backbones import quantization
from tsllm.forecasting.text import TextForecaster
from tsllm.text.loading import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    SETTINGS,
    describe_base,
    load_language_model,
    read_base_model,
)

IDS = torch.tensor([[5, 6, 7, 8, 9]])


def save_adapter(folder, base, **options):
    """Writes an adapter of random updates and the settings of its forecaster; returns the adapted model."""
    model, tokenizer = load_language_model(base, **options)
    model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=2, init_lora_weights=False))
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    TextForecaster(model, tokenizer, h=3, context_length=12, digits=1, num_samples=2).save(folder)
    return model


def change_json(path, **fields):
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def compute_logits(model):
    with torch.no_grad():
        return model(IDS).logits


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def base(request, tmp_path_factory):
    return save_tiny_backbone(tmp_path_factory.mktemp("base") / request.param, request.param)


@pytest.fixture
def adapter(base, tmp_path):
    """An adapter's folder and the logits of the model that was saved."""
    model = save_adapter(tmp_path / "adapter", base)
    return tmp_path / "adapter", compute_logits(model)


def test_a_folder_with_an_adapter_brings_its_base_model(adapter):
    folder, logits = adapter
    model, _ = load_language_model(folder)
    assert isinstance(model, PeftModel)
    assert torch.equal(compute_logits(model), logits)
    assert torch.equal(compute_logits(TextForecaster.from_pretrained(folder).model), logits)


def test_an_adapter_can_be_put_on_a_copy_of_its_base_model(adapter, base, tmp_path):
    folder, logits = adapter
    copy = shutil.copytree(base, tmp_path / "copy")
    change_json(folder / ADAPTER_CONFIG, base_model_name_or_path="/moved/away")
    with pytest.raises(OSError, match=r"cannot load the language model '/moved/away'"):
        load_language_model(folder)
    assert torch.equal(compute_logits(load_language_model(copy, adapter=folder)[0]), logits)


def test_other_weights_under_an_adapter_are_an_error_that_names_both(adapter, base, tmp_path):
    folder, _ = adapter
    recorded = read_base_model(folder).fingerprint
    kind = Path(base).name
    other = save_tiny_backbone(tmp_path / "other", kind, seed=1)
    text = rf"fingerprint {recorded}(.|\n)*but '{other}' has fingerprint [0-9a-f]{{16}}: the weights are others"
    with pytest.raises(ValueError, match=text):
        load_language_model(other, adapter=folder)
    change_json(folder / ADAPTER_CONFIG, base_model_name_or_path=other)
    with pytest.raises(ValueError, match=text):
        TextForecaster.from_pretrained(folder)


def test_another_width_is_told_before_peft_meets_it(adapter, base, tmp_path):
    folder, _ = adapter
    wide = save_tiny_backbone(tmp_path / "wide", Path(base).name, width=64)
    with pytest.raises(ValueError, match="the weights are others"):
        load_language_model(wide, adapter=folder)


def test_the_base_is_described_alike_with_and_without_its_adapter(adapter, base):
    folder, _ = adapter
    plain = describe_base(*load_language_model(base))
    assert asdict(plain) == json.loads((folder / SETTINGS).read_text())["base"]
    assert plain == describe_base(*load_language_model(folder))
    assert (plain.name, plain.revision, plain.load_in_4bit) == (base, "", False)
    half = describe_base(*load_language_model(base, dtype=torch.bfloat16))
    assert half.fingerprint == plain.fingerprint


def test_an_adapter_that_names_no_base_model_is_an_error(adapter):
    folder, _ = adapter
    change_json(folder / ADAPTER_CONFIG, base_model_name_or_path=None)
    (folder / SETTINGS).unlink()
    with pytest.raises(OSError, match=r"names no base model; load the base and pass adapter="):
        load_language_model(folder)


def test_the_packaged_model_is_found_wherever_its_folder_was(adapter):
    folder, _ = adapter
    change_json(folder / ADAPTER_CONFIG, base_model_name_or_path="/home/someone/.cache/tsllm/smollm2-135m")
    assert read_base_model(folder).name == "smollm2-135m"


def test_pickles_are_refused_for_base_and_adapter(adapter, base, tmp_path):
    folder, _ = adapter
    copy = Path(shutil.copytree(base, tmp_path / "pickled"))
    torch.save(load_file(copy / "model.safetensors"), copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    with pytest.raises(OSError, match="cannot load the language model"):
        load_language_model(copy)
    torch.save(load_file(folder / ADAPTER_WEIGHTS), folder / "adapter_model.bin")
    (folder / ADAPTER_WEIGHTS).unlink()
    with pytest.raises(OSError, match=r"it holds \['adapter_model\.bin'\], but pickles are refused"):
        load_language_model(folder)


def test_a_truncated_adapter_is_an_error(adapter):
    folder, _ = adapter
    weights = folder / ADAPTER_WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(OSError, match=r"adapter_model\.safetensors is damaged"):
        load_language_model(folder)


def test_code_beside_a_model_is_never_run(base, tmp_path):
    copy = Path(shutil.copytree(base, tmp_path / "code"))
    (copy / "modeling.py").write_text("raise SystemExit('code of the repository was run')\n")
    change_json(copy / "config.json", auto_map={"AutoModelForCausalLM": "modeling.Model"})
    assert type(load_language_model(copy)[0]).__module__.startswith("transformers.")


def test_what_is_nowhere_is_an_error_with_the_way_out(tmp_path):
    with pytest.raises(OSError, match=r"neither-here/nor-there(.|\n)*HF_HUB_OFFLINE unset"):
        load_language_model("neither-here/nor-there")
    with pytest.raises(OSError, match=r"'neither-here/nor-there' .* is no folder(.|\n)*HF_HUB_OFFLINE unset"):
        TextForecaster.from_pretrained("neither-here/nor-there")
    with pytest.raises(OSError, match=r"holds no text_forecaster\.json"):
        TextForecaster.from_pretrained(tmp_path)


@pytest.mark.skipif(is_bitsandbytes_available(), reason="bitsandbytes is installed")
def test_four_bits_without_bitsandbytes_say_what_to_install(base):
    with pytest.raises(ImportError, match=r"tsllm\[quantization\](.|\n)*load_in_4bit: false"):
        load_language_model(base, load_in_4bit=True)


@pytest.mark.skipif(not is_bitsandbytes_available(), reason="bitsandbytes is not installed")
def test_an_adapter_of_packed_weights_loads_on_packed_weights(tmp_path, monkeypatch):
    if not torch.cuda.is_available():  # see quantization.require_cuda: reading is right on a CPU, training is not
        monkeypatch.setattr(quantization, "require_cuda", lambda: None)
        monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: False)
    base = save_tiny_backbone(tmp_path / "base", "llama", width=64)
    logits = compute_logits(save_adapter(tmp_path / "adapter", base, load_in_4bit=True))
    assert read_base_model(tmp_path / "adapter").load_in_4bit
    model, _ = load_language_model(tmp_path / "adapter")
    assert model.is_loaded_in_4bit
    assert torch.equal(compute_logits(model), logits)
    whole = AutoModelForCausalLM.from_pretrained(base)
    assert compute_logits(whole).shape == logits.shape
    assert not torch.allclose(compute_logits(whole), logits, atol=1e-3)
