"""Fine-tuning that starts from a frozen artefact: nothing moves before the first step, and what is trained travels."""

import pytest
import torch
from safetensors.torch import load_file

from tests.models.timellm.test_adaptation import train_a_little, trained_names
from tsllm.models.timellm import TimeLLM

LORA = {"r": 4, "lora_alpha": 8}


def forecast(model, windows):
    with torch.no_grad():
        return model(past_values=windows).predictions


@pytest.mark.parametrize(("mode", "lora"), [("lora", LORA), ("norms", None)])
@pytest.mark.parametrize("statistics", ["window", "series"])
def test_forecasts_are_bit_equal_before_the_first_step(mode, lora, statistics, backbone, build, windows):
    model = build(backbone, prompt_statistics=statistics)
    if statistics == "series":
        model.describe_series(torch.randn(100, 2))
    before = forecast(model, windows)
    assert trained_names(model) == set()
    assert model.unfreeze(mode, lora) is model
    assert trained_names(model)
    assert torch.equal(forecast(model, windows), before)


def test_gradients_are_those_of_a_model_that_had_lora_from_the_start(backbone, build, windows):
    late = build(backbone, dropout=0.0).unfreeze("lora", LORA)
    early = build(backbone, dropout=0.0, backbone_mode="lora", lora=LORA)
    assert late.trained_state().keys() == early.trained_state().keys()
    drawn = {n: 0.1 * torch.randn_like(t) for n, t in early.trained_state().items() if "lora_" in n}
    gradients = []
    for model in (late, early):
        model.load_state_dict(drawn, strict=False)
        model.train()
        model(past_values=windows, future_values=windows[:, -12:]).loss.backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.requires_grad})
    assert gradients[0].keys() == gradients[1].keys()
    reached = [n for n, g in gradients[0].items() if "lora_" in n and g is not None and g.abs().max() > 0]
    assert len(reached) == len(drawn) > 0
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], msg=name)


@pytest.mark.parametrize(("mode", "lora"), [("lora", LORA), ("norms", None)])
def test_what_was_trained_afterwards_is_saved_and_loads_identically(mode, lora, backbone, build, windows, tmp_path):
    build(backbone).save_pretrained(tmp_path / "frozen")
    model = TimeLLM.from_pretrained(tmp_path / "frozen").unfreeze(mode, lora)
    before = forecast(model, windows)
    train_a_little(model, windows)
    after = forecast(model, windows)
    assert (after - before).abs().max() > 1e-3
    model.save_pretrained(tmp_path / "tuned")
    saved = {n.removeprefix("backbone.llm.") for n in load_file(tmp_path / "tuned" / "model.safetensors")}
    assert trained_names(model)
    assert trained_names(model) == {n for n in saved if n in dict(model.backbone.llm.named_parameters())}
    assert (tmp_path / "tuned" / "lora" / "adapter_model.safetensors").is_file() == (mode == "lora")
    again = TimeLLM.from_pretrained(tmp_path / "tuned")
    assert (again.config.backbone_mode, again.config.lora) == (mode, lora or {})
    assert torch.equal(forecast(again, windows), after)


def test_the_frozen_artefact_stays_as_it_was(gpt2, build, windows, tmp_path):
    model = build(gpt2)
    model.save_pretrained(tmp_path)
    files = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    train_a_little(TimeLLM.from_pretrained(tmp_path).unfreeze("lora", LORA), windows)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == files
    assert torch.equal(forecast(TimeLLM.from_pretrained(tmp_path), windows), forecast(model, windows))


def test_only_a_frozen_backbone_can_be_unfrozen(gpt2, build):
    model = build(gpt2).unfreeze("lora", LORA)
    with pytest.raises(ValueError, match=r"backbone_mode is 'lora', merged False; only a frozen backbone"):
        model.unfreeze("norms")
    model.merge_lora()
    with pytest.raises(ValueError, match=r"backbone_mode is 'lora', merged True; only a frozen backbone"):
        model.unfreeze("lora", LORA)


@pytest.mark.parametrize(
    ("mode", "lora", "text"),
    [
        ("norms", LORA, "lora options are given but backbone_mode is 'norms'"),
        ("lora", {"rank": 4}, r"lora does not know \['rank'\]"),
        ("lora", {"target_modules": ["q_proj"]}, r"lora.target_modules \['q_proj'\] match nothing"),
        ("all", None, "backbone_mode must be one of"),
    ],
)
def test_options_that_do_not_fit_leave_the_model_frozen(mode, lora, text, gpt2, build, windows, tmp_path):
    model = build(gpt2)
    before = forecast(model, windows)
    with pytest.raises(ValueError, match=text):
        model.unfreeze(mode, lora)
    assert (model.config.backbone_mode, model.config.lora) == ("frozen", {})
    assert torch.equal(forecast(model, windows), before)
    model.save_pretrained(tmp_path)
    assert TimeLLM.from_pretrained(tmp_path).config.backbone_mode == "frozen"
