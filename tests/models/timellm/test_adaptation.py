import json

import pytest
import torch
from peft import PeftModel
from transformers import AutoModel

from tests.models.timellm.test_backbone import RAGGED, slow_loop
from tsllm.models.timellm import TimeLLM
from tsllm.models.timellm.adaptation import adapt
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
