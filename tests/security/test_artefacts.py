"""Damaged and forged artefacts are refused before memory is taken, with an error that names the file."""

import json
import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from tests.fixtures.backbones import save_tiny_backbone
from tsllm.backbones.fingerprint import check_tokenizer, compute_fingerprint, compute_sampled_fingerprint
from tsllm.backbones.weights import read_header
from tsllm.hub.spec import CALIBRATION_FILE, Calibration
from tsllm.models import MODELS
from tsllm.models.timellm import TimeLLM, TimeLLMConfig
from tsllm.models.timellm.backbone import load_backbone
from tsllm.text.loading import load_language_model

SMALL = {"context_length": 24, "prediction_length": 4}
NATIVE = [name for name in MODELS if name != "timellm"]


def change_json(path, **fields):
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folders of every native model, small."""
    root = tmp_path_factory.mktemp("models")
    for name in NATIVE:
        model_class = MODELS.get(name)
        model_class(model_class.config_class(context_length=96, prediction_length=24)).save_pretrained(root / name)
    return root


@pytest.fixture
def copy(saved, tmp_path):
    def run(name="dlinear"):
        folder = tmp_path / name
        folder.mkdir()
        for file in (saved / name).iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        return folder

    return run


@pytest.mark.parametrize("name", NATIVE)
def test_a_small_file_that_asks_for_a_horizon_of_millions_is_refused_before_memory_is_taken(copy, name):
    folder = copy(name)
    change_json(folder / "config.json", prediction_length=10**7)
    before = peak_mb()
    with pytest.raises(ValueError, match=r"has shape|prediction_length 10000000"):
        MODELS.get(name).from_pretrained(folder)
    assert peak_mb() - before < 100


@pytest.mark.parametrize(
    ("name", "field"),
    [("patchtst", "d_model"), ("patchtst", "num_layers"), ("itransformer", "d_ff"), ("timesnet", "num_kernels"),
     ("pyraformer", "context_length"), ("timemixer", "downsampling_layers"), ("recurrent", "d_model")],
)  # fmt: skip
def test_so_is_any_other_size(copy, name, field):
    folder = copy(name)
    change_json(folder / "config.json", **{field: 10**6 if field == "num_layers" else 8 * 10**6})
    before = peak_mb()
    with pytest.raises(ValueError, match=rf"has shape|{field}|missing|must|exceeds"):
        MODELS.get(name).from_pretrained(folder)
    assert peak_mb() - before < 100


@pytest.mark.parametrize("name", NATIVE)
def test_honest_sizes_load(saved, name):
    assert MODELS.get(name).from_pretrained(saved / name).config.prediction_length == 24


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda t: t.fill_(float("nan")), "holds NaN or infinities"),
        (lambda t: t.fill_(float("inf")), "holds NaN or infinities"),
        (lambda t: t.long(), "holds int64, expected floating numbers"),
        (lambda t: t.bool(), "holds bool, expected floating numbers"),
        (lambda t: t.to(torch.float8_e4m3fn), "holds float8_e4m3fn, expected floating numbers"),
        (lambda t: t.to(torch.complex64), "holds complex64, expected floating numbers"),
    ],
)
def test_weights_that_are_no_finite_floating_numbers_are_refused(copy, spoil, told):
    folder = copy()
    state = load_file(folder / "model.safetensors")
    name = sorted(state)[0]
    state[name] = spoil(state[name].clone())
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=rf"{name} {told}"):
        MODELS.get("dlinear").from_pretrained(folder)


# Calibration


@pytest.mark.parametrize("size", [0, 4, 60, 200])
def test_a_cut_off_calibration_is_one_error_that_names_it(tmp_path, size):
    Calibration.from_residuals(torch.randn(20, 4, 2)).save(tmp_path)
    content = (tmp_path / CALIBRATION_FILE).read_bytes()
    (tmp_path / CALIBRATION_FILE).write_bytes(content[:size])
    with pytest.raises(OSError, match=r"calibration\.safetensors is damaged .*; calibrate and save"):
        Calibration.load(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"half_widths": torch.full((19, 4, 2), -1.0)},
        {"half_widths": torch.full((19, 4, 2), float("nan"))},
        {"half_widths": torch.ones(19, 4, 2, dtype=torch.int64)},
        {"half_widths": torch.ones(3, 4, 2)},
        {"levels": torch.zeros(19)},
    ],
)
def test_a_forged_calibration_is_refused(tmp_path, change):
    tensors = {"half_widths": torch.ones(19, 4, 2), "levels": torch.arange(1.0, 20.0)}
    save_file(tensors, tmp_path / CALIBRATION_FILE, metadata={"windows": "20"})
    assert Calibration.load(tmp_path).windows == 20
    save_file(tensors | change, tmp_path / CALIBRATION_FILE, metadata={"windows": "20"})
    with pytest.raises(OSError, match="is damaged"):
        Calibration.load(tmp_path)


# Backbones


@pytest.fixture(params=["gpt2", "llama"])
def base(request, tmp_path):
    return Path(save_tiny_backbone(tmp_path / "base", request.param))


def test_the_fingerprint_sees_every_single_weight(base):
    backbone = load_backbone(str(base))
    print_ = compute_fingerprint(backbone.llm, backbone.tokenizer)
    # 8 values of 300 x 32 are no sample's.
    rng = np.random.default_rng(0)
    weight = backbone.words.data.view(-1)
    for at in rng.integers(0, weight.numel(), 8):
        value = weight[at].item()
        weight[at] = value * 1.5 + 1
        assert compute_fingerprint(backbone.llm, backbone.tokenizer) != print_
        weight[at] = value
    assert compute_fingerprint(backbone.llm, backbone.tokenizer) == print_


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("gpt2", {"n_head": 2}),
        ("gpt2", {"activation_function": "relu"}),
        ("gpt2", {"layer_norm_epsilon": 1e-3}),
        ("llama", {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 4}),
        ("llama", {"hidden_act": "gelu"}),
        ("llama", {"rms_norm_eps": 1e-2}),
        ("llama", {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}),
    ],
)
def test_settings_that_change_what_is_computed_change_the_fingerprint(tmp_path, kind, change):
    folder = Path(save_tiny_backbone(tmp_path / "base", kind))
    before = compute_fingerprint(load_backbone(str(folder)).llm)
    change_json(folder / "config.json", **change)
    after = load_backbone(str(folder)).llm
    assert compute_fingerprint(after) != before
    change_json(folder / "config.json", use_cache=False, transformers_version="9")
    assert compute_fingerprint(load_backbone(str(folder)).llm) == compute_fingerprint(after)


def make_time_llm(base, folder, **options):
    config = TimeLLMConfig(**SMALL, backbone=str(base), num_backbone_layers=1, d_ff=8, num_prototypes=10, **options)
    TimeLLM(config).save_pretrained(folder)
    return folder


def test_another_tokenizer_or_another_activation_under_an_artefact_is_an_error(tmp_path):
    base = Path(save_tiny_backbone(tmp_path / "base", "gpt2"))
    folder = make_time_llm(base, tmp_path / "artefact")
    TimeLLM.from_pretrained(folder)
    words = (base / "tokenizer.json").read_text()
    state = json.loads(words)
    merges = state["model"]["merges"]
    state["model"]["merges"] = merges[1:]
    (base / "tokenizer.json").write_text(json.dumps(state))
    with pytest.raises(ValueError, match="its weights, settings or tokenizer are others"):
        TimeLLM.from_pretrained(folder)
    (base / "tokenizer.json").write_text(words)
    TimeLLM.from_pretrained(folder)
    change_json(base / "config.json", activation_function="relu")
    with pytest.raises(ValueError, match="its weights, settings or tokenizer are others"):
        TimeLLM.from_pretrained(folder)


def test_artefacts_with_the_fingerprint_of_samples_still_load_and_are_saved_with_the_new_one(tmp_path):
    base = save_tiny_backbone(tmp_path / "base", "gpt2")
    folder = make_time_llm(base, tmp_path / "artefact")
    new = json.loads((folder / "config.json").read_text())["backbone_fingerprint"]
    old = compute_sampled_fingerprint(load_backbone(base, num_layers=1).llm)
    assert old != new
    change_json(folder / "config.json", backbone_fingerprint=old)
    TimeLLM.from_pretrained(folder).save_pretrained(tmp_path / "again")
    assert json.loads((tmp_path / "again" / "config.json").read_text())["backbone_fingerprint"] == new
    change_json(folder / "config.json", backbone_fingerprint="0" * 16)
    with pytest.raises(ValueError, match="fingerprint"):
        TimeLLM.from_pretrained(folder)


def test_a_backbone_without_tokenizer_files_is_refused_unless_no_text_is_written(base):
    for file in base.glob("*token*"):
        file.unlink()
    with pytest.raises((ValueError, OSError), match="tokenizer"):
        load_backbone(str(base))
    assert load_backbone(str(base), with_tokenizer=False).tokenizer is None
    with pytest.raises(OSError, match="tokenizer"):
        load_language_model(base)


def test_a_tokenizer_of_another_model_is_refused(base):
    tokenizer = load_backbone(str(base)).tokenizer
    with pytest.raises(ValueError, match=r"writes token \d+, but the model has 40 tokens"):
        check_tokenizer(tokenizer, str(base), 40)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_cut_off_backbone_is_one_error_that_names_the_file(base, share):
    file = base / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    for load in (load_backbone, load_language_model):
        with pytest.raises(OSError, match=r"model\.safetensors is damaged"):
            load(str(base))


@pytest.mark.parametrize("name", ["n_layer", "vocab_size", "n_embd"])
def test_a_backbone_that_asks_for_millions_is_refused_before_memory_is_taken(tmp_path, name):
    folder = Path(save_tiny_backbone(tmp_path / "base", "gpt2"))
    change_json(folder / "config.json", **{name: 10**7})
    before = peak_mb()
    for load in (load_backbone, load_language_model):
        with pytest.raises((ValueError, OSError), match="but its weights have at most"):
            load(str(folder))
    assert peak_mb() - before < 100


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_backbone_with_weights_that_are_not_finite_is_refused(base, value):
    state = load_file(base / "model.safetensors")
    name = next(n for n in state if "embed" in n or "wte" in n)
    state[name][0, 0] = value
    save_file(state, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="hold NaN or infinities"):
        load_backbone(str(base))


# Adapters


@pytest.fixture
def adapter(tmp_path):
    base = save_tiny_backbone(tmp_path / "base", "llama")
    model, tokenizer = load_language_model(base)
    adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=2, init_lora_weights=False))
    adapted.save_pretrained(tmp_path / "adapter")
    tokenizer.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def change_weights(folder, change):
    state = load_file(folder / "adapter_model.safetensors")
    save_file(change(state), folder / "adapter_model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda s: {f"other.{k}": v for k, v in s.items()}, "missing"),
        (lambda s: dict(list(s.items())[1:]), "missing"),
        (lambda s: s | {"surplus": torch.zeros(2)}, "unexpected surplus"),
        (lambda s: {k: v * float("nan") for k, v in s.items()}, "is not finite"),
        (lambda s: {k: v.long() for k, v in s.items()}, "no floating numbers"),
        (lambda s: {k: v[:1] if "lora_A" in k else v[:, :1] for k, v in s.items()}, "has ranks"),
    ],
)
def test_an_adapter_whose_file_is_not_what_its_configuration_says_is_refused(adapter, change, told):
    load_language_model(adapter)
    change_weights(adapter, lambda s: {k: v.contiguous() for k, v in change(s).items()})
    with pytest.raises(ValueError, match=told):
        load_language_model(adapter)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"r": 10**7}, "has ranks"),
        ({"rank_pattern": {"q_proj": 10**7}}, "has ranks"),
        ({"r": "many"}, "has ranks"),
        ({"peft_type": "PREFIX_TUNING"}, "only LORA is loaded"),
        ({"peft_type": None}, "only LORA is loaded"),
        ({"megatron_config": {"a": 1}, "megatron_core": "os"}, "sets megatron_config"),
        ({"layer_replication": [[0, 3]] * 1000}, "sets layer_replication"),
        ({"corda_config": {"cache_file": "x.pt"}}, "sets corda_config"),
    ],
)
def test_an_adapter_configuration_that_asks_for_more_than_a_lora_is_refused(adapter, fields, told):
    change_json(adapter / "adapter_config.json", **fields)
    with pytest.raises(ValueError, match=told):
        load_language_model(adapter)


@pytest.mark.parametrize("text", ["", "[]", "{", '"x"', "\x00"])
def test_damaged_json_names_its_file(adapter, text):
    (adapter / "adapter_config.json").write_text(text)
    with pytest.raises(OSError, match=r"adapter_config\.json"):
        load_language_model(adapter)


def test_headers_are_read_without_the_numbers(tmp_path):
    save_file({"a": torch.zeros(3, 5), "b": torch.zeros(2, dtype=torch.int64)}, tmp_path / "x.safetensors")
    header = read_header(tmp_path / "x.safetensors")
    assert header.shapes == {"a": (3, 5), "b": (2,)}
    assert header.dtypes == {"a": "F32", "b": "I64"}
    assert (header.largest, header.numbers) == (5, 17)
