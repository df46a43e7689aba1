import copy
import json
import shutil
import warnings

import pytest
import torch
from peft import PeftModel
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

from tests.models.timellm.test_backbone import RAGGED, slow_loop
from tsllm.backbones.adapters import find_public_name
from tsllm.models.timellm import TimeLLM
from tsllm.models.timellm.adaptation import adapt, merge_lora
from tsllm.models.timellm.backbone import load_backbone


def train_a_little(model, windows, steps=3):
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(steps):
        loss = model(past_values=windows, future_values=windows[:, -12:]).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def trained_names(model):
    return {n for n, p in model.backbone.llm.named_parameters() if p.requires_grad}


def test_lora_goes_where_the_architecture_wants_it(gpt2, llama, build):
    names = trained_names(build(gpt2, backbone_mode="lora", lora={"r": 4}))
    assert names == {f"h.{k}.attn.c_attn.lora_{ab}.default.weight" for k in range(2) for ab in "AB"}
    names = trained_names(build(llama, backbone_mode="lora"))
    assert names == {
        f"layers.{k}.self_attn.{p}_proj.lora_{ab}.default.weight" for k in range(2) for p in "qv" for ab in "AB"
    }


def test_rank_and_targets_can_be_chosen(llama, build):
    model = build(llama, backbone_mode="lora", lora={"r": 3, "target_modules": ["down_proj"]})
    shapes = {tuple(p.shape) for p in model.backbone.llm.parameters() if p.requires_grad}
    assert shapes == {(3, 64), (32, 3)}
    with pytest.raises(ValueError, match="match nothing"):
        build(llama, backbone_mode="lora", lora={"target_modules": ["c_attn"]})


def test_fresh_lora_changes_nothing(backbone, build, windows):
    torch.testing.assert_close(
        build(backbone, backbone_mode="lora")(past_values=windows).predictions,
        build(backbone)(past_values=windows).predictions,
        atol=1e-5,
        rtol=1e-5,
    )


@pytest.mark.parametrize("mode", ["lora", "norms"])
def test_gradients_through_the_prompt_equal_full_autograd(mode, backbone):
    reader = load_backbone(backbone, num_layers=2)
    adapt(reader.llm, mode, {})
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in reader.llm.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    trained = [p for p in reader.llm.parameters() if p.requires_grad]
    patches, weight = torch.randn(4, 6, 32), torch.randn(4, 6, 32)
    ours = torch.autograd.grad((reader(patches, RAGGED) * weight).sum(), trained, allow_unused=True)
    full = torch.autograd.grad((slow_loop(reader, patches, RAGGED) * weight).sum(), trained, allow_unused=True)
    frozen_prompt = torch.autograd.grad((_without_prompt_gradient(reader, patches) * weight).sum(), trained)
    scale = max(g.abs().max() for g in full)
    for got, want in zip(ours, full, strict=True):
        torch.testing.assert_close(got / scale, want / scale, atol=1e-5, rtol=1e-4)
    assert any((a - b).abs().max() > 1e-3 * scale for a, b in zip(frozen_prompt, full, strict=True))


def _without_prompt_gradient(reader, patches):
    prefix = reader._prefix_key_values(RAGGED.prefix, differentiate=False)
    tail = reader._run_tails(RAGGED.tails, [prefix], differentiate=False)
    rows = torch.tensor(RAGGED.rows)
    lengths = torch.tensor([len(t) for t in RAGGED.tails])[rows]
    return reader._read_patches(patches, [prefix, tail.select(rows)], lengths, len(RAGGED.prefix))


def test_norms_mode_trains_norms_and_positions_alone(gpt2, llama, build, windows):
    names = trained_names(build(gpt2, backbone_mode="norms"))
    norms = {f"h.{k}.ln_{j}.{p}" for k in range(2) for j in (1, 2) for p in ("weight", "bias")}
    assert names == norms | {"ln_f.weight", "ln_f.bias", "wpe.weight"}
    names = trained_names(build(llama, backbone_mode="norms"))
    layers = {f"layers.{k}.{n}_layernorm.weight" for k in range(2) for n in ("input", "post_attention")}
    assert names == layers | {"norm.weight"}


@pytest.mark.parametrize("mode", ["lora", "norms"])
def test_trained_backbone_parts_learn_and_forecasts_follow_them_at_once(mode, gpt2, build, windows):
    model = build(gpt2, backbone_mode=mode, prompt_statistics="none", dropout=0.0)
    with torch.no_grad():
        before = model(past_values=windows).predictions
    before_weights = {n: p.clone() for n, p in model.backbone.named_parameters()}
    train_a_little(model, windows)
    moved = {n for n, p in model.backbone.named_parameters() if not torch.equal(p, before_weights[n])}
    assert moved == {f"llm.{n}" for n in trained_names(model)}
    with torch.no_grad():
        cached = model(past_values=windows).predictions
        model.backbone.inline = True
        inline = model(past_values=windows).predictions
    assert (cached - before).abs().max() > 1e-3
    torch.testing.assert_close(cached, inline, atol=1e-2, rtol=1e-5)


def test_merged_forecasts_equal_those_with_the_adapter(backbone, build, windows):
    model = train_a_little(build(backbone, backbone_mode="lora", lora={"r": 4}), windows / 250)
    with torch.no_grad():
        before = model(past_values=windows / 250).predictions
        plain = model.merge_lora()
        after = plain(past_values=windows / 250).predictions
    assert not [n for n, _ in model.named_parameters() if "lora_" in n]
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="nothing to merge"):
        model.merge_lora()


def test_a_merged_model_refuses_to_be_saved_without_its_updates(gpt2, build, tmp_path):
    model = build(gpt2, backbone_mode="lora").merge_lora()
    with pytest.raises(ValueError, match=r"save the model before merge_lora\(\)"):
        model.save_pretrained(tmp_path)


def test_lora_dropout_is_active_in_training_only(gpt2, build, windows):
    model = build(gpt2, backbone_mode="lora", lora={"lora_dropout": 0.5})
    drops = [
        m for n, m in model.backbone.llm.named_modules() if "lora_dropout" in n and isinstance(m, torch.nn.Dropout)
    ]
    model.train()
    assert drops
    assert all(m.training for m in drops)
    assert not model.backbone.llm.h[0].training
    model.eval()
    assert not any(m.training for m in drops)


def test_the_adapter_travels_in_pefts_own_format(backbone, build, windows, tmp_path):
    model = train_a_little(build(backbone, backbone_mode="lora", lora={"r": 4, "lora_alpha": 8}), windows)
    model.save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "lora" / "adapter_config.json").read_text())
    assert (settings["r"], settings["lora_alpha"], settings["base_model_name_or_path"]) == (4, 8, backbone)
    bare = AutoModel.from_pretrained(backbone, num_hidden_layers=2, dtype=torch.float32)
    peft = PeftModel.from_pretrained(bare, tmp_path / "lora").eval()
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        ours = model.backbone.llm(input_ids=ids).last_hidden_state
        theirs = peft(input_ids=ids).last_hidden_state
        fresh = AutoModel.from_pretrained(backbone, num_hidden_layers=2)(input_ids=ids).last_hidden_state
    torch.testing.assert_close(theirs, ours)
    assert (ours - fresh).abs().max() > 1e-4


@pytest.mark.parametrize("auto", [AutoModel, AutoModelForCausalLM])
@pytest.mark.parametrize("lora", [{"r": 4}, {"r": 3, "target_modules": "all-linear"}, {"r": 2, "use_dora": True}])
def test_the_adapter_is_taken_whole_by_either_class_of_the_full_model(auto, lora, backbone, build, windows, tmp_path):
    """Three layers there, two here: every tensor finds its place, and the third layer gets none."""
    model = train_a_little(build(backbone, backbone_mode="lora", lora=lora), windows)
    model.save_pretrained(tmp_path)
    bare = auto.from_pretrained(backbone, dtype=torch.float32)
    before = {name: value.clone() for name, value in bare.named_parameters()}
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # PEFT only warns where tensors are missing
        peft = PeftModel.from_pretrained(bare, tmp_path / "lora").eval()
    ours = {n: p for n, p in model.backbone.llm.named_parameters() if "lora_" in n}
    theirs = {n: p for n, p in peft.named_parameters() if "lora_" in n}
    assert len(theirs) == len(ours) > 0
    prefix = "base_model.model." + ("" if auto is AutoModel else f"{bare.base_model_prefix}.")
    for name, value in ours.items():
        torch.testing.assert_close(theirs[prefix + name], value, atol=0, rtol=0)
    merged = peft.merge_and_unload()
    moved = {n for n, p in merged.named_parameters() if not torch.equal(p, before[n])}
    updated = {n.split(".lora_")[0] for n in ours}
    inner = "" if auto is AutoModel else f"{bare.base_model_prefix}."
    assert moved == {f"{inner}{name}.weight" for name in updated}


def test_all_linear_is_every_linear_layer_of_the_decoder(backbone, build):
    model = build(backbone, backbone_mode="lora", lora={"target_modules": "all-linear"})
    leaves = {n.split(".lora_")[0].rpartition(".")[2] for n in trained_names(model)}
    if "gpt2" in backbone:
        assert leaves == {"c_attn", "c_proj", "c_fc"}
    else:
        assert leaves == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert model.config.lora == {"target_modules": "all-linear"}


def test_rank_stabilised_and_decomposed_lora_are_what_they_say(llama, build):
    plain, stable = (build(llama, backbone_mode="lora", lora={"r": 16, "use_rslora": on}) for on in (False, True))
    scalings = [m.backbone.llm.layers[0].self_attn.q_proj.scaling["default"] for m in (plain, stable)]
    assert scalings == [16 / 16, 16 / 16**0.5]
    dora = build(llama, backbone_mode="lora", lora={"use_dora": True})
    weight = dora.backbone.llm.layers[0].self_attn.q_proj
    magnitude = weight.lora_magnitude_vector["default"].weight
    torch.testing.assert_close(magnitude, weight.base_layer.weight.norm(dim=1))
    assert magnitude.requires_grad


@pytest.mark.parametrize("lora", [{"use_dora": True}, {"target_modules": "all-linear", "use_rslora": True}])
def test_every_kind_of_lora_is_saved_and_loaded(lora, backbone, build, windows, tmp_path):
    model = train_a_little(build(backbone, backbone_mode="lora", lora=lora), windows)
    model.save_pretrained(tmp_path)
    again = TimeLLM.from_pretrained(tmp_path)
    assert torch.equal(again(past_values=windows).predictions, model(past_values=windows).predictions)


def test_an_adapter_can_be_the_start_of_a_backbone(backbone, build, windows, tmp_path):
    """Whether it was trained on the causal model or came out of a series artefact, its updates are in the weights."""
    series = train_a_little(build(backbone, backbone_mode="lora", lora={"r": 4}), windows)
    series.save_pretrained(tmp_path / "series")
    causal = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(backbone), tmp_path / "series" / "lora")
    causal.save_pretrained(tmp_path / "text")
    expected = {n: p.clone() for n, p in merge_lora_into_copy(series).items()}
    for folder in (tmp_path / "series" / "lora", tmp_path / "text"):
        found = build(str(folder))
        assert found.backbone.num_layers == 2
        assert trained_names(found) == set()
        for name, value in found.backbone.llm.named_parameters():
            torch.testing.assert_close(value, expected[name], atol=1e-6, rtol=1e-6)
        assert found.config.backbone_fingerprint != build(backbone).config.backbone_fingerprint
    again = build(str(tmp_path / "text"), backbone_mode="lora", lora={"r": 2})
    again.save_pretrained(tmp_path / "again")
    TimeLLM.from_pretrained(tmp_path / "again")


def merge_lora_into_copy(model):
    llm = copy.deepcopy(model.backbone.llm)
    merge_lora(llm)
    return dict(llm.named_parameters())


def test_an_adapter_that_does_not_fit_is_refused(gpt2, llama, build, windows, tmp_path):
    build(gpt2, backbone_mode="lora").save_pretrained(tmp_path)
    path = tmp_path / "lora" / "adapter_config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps(settings | {"base_model_name_or_path": llama}))
    with pytest.raises(ValueError, match="which LlamaModel does not have"):
        build(str(tmp_path / "lora"))
    path.write_text(json.dumps(settings | {"modules_to_save": ["wte"]}))
    with pytest.raises(ValueError, match="plain LoRA only"):
        build(str(tmp_path / "lora"))


def test_a_merged_model_is_a_full_one_and_forecasts_as_before(backbone, build, windows, tmp_path):
    windows = windows / 250
    model = train_a_little(build(backbone, backbone_mode="lora", lora={"r": 4}), windows)
    with torch.no_grad():
        before = model(past_values=windows).predictions
    model.save_merged(tmp_path / "merged")
    moved = shutil.move(tmp_path / "merged", tmp_path / "elsewhere")  # a folder that travels
    again = TimeLLM.from_pretrained(moved).eval()
    with torch.no_grad():
        torch.testing.assert_close(again(past_values=windows).predictions, before, atol=1e-5, rtol=1e-5)
        assert torch.equal(model(past_values=windows).predictions, before)
    assert again.config.backbone_mode == "frozen"
    full, info = AutoModel.from_pretrained(moved / "backbone", output_loading_info=True)
    assert not info["missing_keys"]
    for name, value in merge_lora_into_copy(model).items():
        torch.testing.assert_close(full.get_parameter(name), value)
    assert AutoTokenizer.from_pretrained(moved / "backbone")("1")["input_ids"]
    with pytest.raises(ValueError, match="nothing to merge"):
        again.save_merged(tmp_path / "twice")


def test_adapters_name_what_others_can_load():
    cache = "/home/me/.cache/huggingface/hub/models--openai-community--gpt2/snapshots/" + "0123456789" * 4
    assert find_public_name(cache) == ("openai-community/gpt2", "0123456789" * 4)
    assert find_public_name("smollm2-135m") == ("HuggingFaceTB/SmolLM2-135M-Instruct", "")
    assert find_public_name("gpt2") == ("gpt2", "")
    assert find_public_name("/data/my-model") == ("/data/my-model", "")


@pytest.mark.parametrize("mode", ["lora", "norms"])
def test_what_was_trained_in_the_backbone_is_saved_and_loaded(mode, backbone, build, windows, tmp_path):
    model = train_a_little(build(backbone, backbone_mode=mode), windows)
    model.save_pretrained(tmp_path)
    again = TimeLLM.from_pretrained(tmp_path)
    assert torch.equal(again(past_values=windows).predictions, model(past_values=windows).predictions)


def test_an_unknown_architecture_must_name_its_targets(gpt2):
    reader = load_backbone(gpt2)
    reader.llm.config.model_type = "novel"
    with pytest.raises(ValueError, match=r"no LoRA targets are known for architecture 'novel'"):
        adapt(reader.llm, "lora", {})
