"""What is special about PatchCast: padding, seasons, units, the language model in it."""

import pytest
import torch

from tests.fixtures.backbones import save_tiny_backbone
from tsllm.models import build_model

SIZES = {"d_model": 16, "num_layers": 2, "num_heads": 2, "d_ff": 16, "head": "quantile"}


def build(**options):
    torch.manual_seed(0)
    return build_model("patchcast", **({"context_length": 64, "prediction_length": 8} | SIZES | options)).eval()


def draw(length=64, rows=2):
    return torch.randn(rows, length, 1, generator=torch.Generator().manual_seed(1)).cumsum(1)


@pytest.mark.parametrize("with_language_model", [False, True])
def test_a_short_series_is_forecast_alike_whatever_stands_beside_it(with_language_model, tmp_path):
    backbone = save_tiny_backbone(tmp_path / "llm", "llama", layers=1, width=16) if with_language_model else ""
    model = build(backbone=backbone, num_backbone_layers=1, num_prototypes=8, head_width=4)
    values = draw(rows=2)
    mask = torch.ones_like(values, dtype=torch.bool)
    mask[0, :43] = False  # 21 steps, which do not fill their patches
    with torch.no_grad():
        together = model(past_values=values, past_observed_mask=mask).quantiles[0]
        alone = model(past_values=values[:1], past_observed_mask=mask[:1]).quantiles[0]
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=1e-5)


def test_forecasts_follow_the_scale_exactly_and_the_season_row_by_row():
    model, values = build(), draw()
    seasons = torch.tensor([4, 12])
    with torch.no_grad():
        both = model(past_values=values, season=seasons).quantiles
        alone = torch.cat([model(past_values=values[k : k + 1], season=seasons[k : k + 1]).quantiles for k in (0, 1)])
        scaled = model(past_values=64 * values, season=seasons).quantiles
        other = model(past_values=values, season=torch.tensor([12, 4])).quantiles
    torch.testing.assert_close(both, alone, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(scaled, 64 * both, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(both, other)


def test_a_batch_without_seasons_has_the_configured_one():
    values = draw()
    with torch.no_grad():
        told = build(season=7)(past_values=values).quantiles
        given = build()(past_values=values, season=torch.tensor([7, 7])).quantiles
    assert torch.equal(told, given)


def test_a_silent_network_forecasts_the_seasonal_naive():
    model, values = build(), draw()
    torch.nn.init.zeros_(model.head.weight)
    torch.nn.init.zeros_(model.head.bias)
    with torch.no_grad():
        found = model(past_values=values, season=torch.tensor([3, 3])).predictions[..., 0]
    torch.testing.assert_close(found, values[:, [61, 62, 63, 61, 62, 63, 61, 62], 0])


def test_only_the_weights_around_the_language_model_are_trained_and_saved(tmp_path):
    backbone = save_tiny_backbone(tmp_path / "llm", "llama", layers=1, width=16)
    model = build(backbone=backbone, num_backbone_layers=1, num_prototypes=8, head_width=4)
    assert not [n for n, p in model.named_parameters() if p.requires_grad and ".llm." in n]
    model.save_pretrained(tmp_path / "saved")
    loaded = type(model).from_pretrained(tmp_path / "saved")
    with torch.no_grad():
        assert torch.equal(loaded(past_values=draw()).predictions, model(past_values=draw()).predictions)
    save_tiny_backbone(tmp_path / "llm", "llama", layers=1, width=16, seed=5)
    with pytest.raises(ValueError, match="the weights are others"):
        type(model).from_pretrained(tmp_path / "saved")


def build_reading(folder, **options):
    backbone = save_tiny_backbone(folder / "llm", "llama", layers=1, width=16)
    return build(backbone=backbone, num_backbone_layers=1, num_prototypes=8, head_width=4, **options)


def read(model):
    with torch.no_grad():
        return model(past_values=draw()).quantiles


def inner(model):
    return {name: tensor for name, tensor in model.state_dict().items() if ".llm." in name}


@pytest.mark.parametrize(("mode", "part"), [("lora", "lora_"), ("norms", "norm")])
def test_what_is_adapted_of_the_language_model_is_trained_and_saved_and_the_rest_is_not(mode, part, tmp_path):
    model = build_reading(tmp_path)
    frozen, before = read(model), inner(model)
    model.change({"backbone_mode": mode})
    assert torch.equal(read(model), frozen)
    trained = [n for n, p in model.named_parameters() if p.requires_grad and ".llm." in n]
    assert trained
    assert all(part in n for n in trained)
    assert set(trained) == {n for n in model.trained_state() if ".llm." in n}
    with torch.no_grad():
        for name in trained:
            model.get_parameter(name).add_(0.3)
    assert not torch.allclose(read(model), frozen)
    model.save_pretrained(tmp_path / "saved")
    loaded = type(model).from_pretrained(tmp_path / "saved")
    assert torch.equal(read(loaded), read(model))
    kept = [n for n in before if n.replace(".weight", ".base_layer.weight") in inner(model)]
    assert len(kept) > 1 if mode == "lora" else not kept
    assert all(torch.equal(inner(loaded)[n.replace(".weight", ".base_layer.weight")], before[n]) for n in kept)


def test_its_lora_is_an_adapter_that_peft_reads(tmp_path):
    from peft import PeftModel
    from transformers import AutoModel

    model = build_reading(tmp_path)
    model.change({"backbone_mode": "lora", "lora": {"r": 2, "target_modules": ["q_proj", "o_proj"]}})
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.add_(0.3)
    model.save_pretrained(tmp_path / "saved")
    other = PeftModel.from_pretrained(AutoModel.from_pretrained(tmp_path / "llm"), tmp_path / "saved" / "lora").eval()
    tokens = torch.randn(1, 5, 16)
    with torch.no_grad():
        mine = model.reader.backbone.llm(inputs_embeds=tokens).last_hidden_state
        theirs = other(inputs_embeds=tokens).last_hidden_state
    torch.testing.assert_close(mine, theirs)


def test_a_saved_one_changes_nothing_else(tmp_path):
    model = build_reading(tmp_path)
    with pytest.raises(ValueError, match="d_model cannot be changed in a saved PatchCast"):
        model.change({"d_model": 32})
    with pytest.raises(ValueError, match="lora options are given but backbone_mode is 'frozen'"):
        model.change({"lora": {"r": 2}})
    with pytest.raises(ValueError, match=r"lora does not know \['rank'\]"):
        model.change({"backbone_mode": "lora", "lora": {"rank": 2}})
    with pytest.raises(ValueError, match="match nothing"):
        model.change({"backbone_mode": "lora", "lora": {"target_modules": ["gone"]}})
    assert (model.config.backbone_mode, model.config.lora) == ("frozen", {})
    model.change({"backbone_mode": "lora"})
    with pytest.raises(ValueError, match="cannot become 'norms'"):
        model.change({"backbone_mode": "norms"})
    with pytest.raises(ValueError, match="no language model inside"):
        build().change({"backbone_mode": "lora"})
