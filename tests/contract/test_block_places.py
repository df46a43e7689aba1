"""Every block in every place of the models: builds from YAML, trains a step, comes back from its folder the same."""

import pytest
import torch
import yaml

from tests.fixtures.backbones import save_tiny_backbone
from tsllm.models.itransformer import ITransformer, ITransformerConfig
from tsllm.models.patchtst import PatchTST, PatchTSTConfig
from tsllm.models.timellm import TimeLLM, TimeLLMConfig
from tsllm.models.timesnet import TimesNet, TimesNetConfig
from tsllm.nn.attention import ATTENTION
from tsllm.nn.composition import ParallelMixer
from tsllm.nn.conv import CONVS
from tsllm.nn.gating import GATES

SMALL = {"context_length": 64, "prediction_length": 4, "d_model": 8, "num_layers": 1, "d_ff": 8}
SERIES_GATES = [name for name in GATES if name not in ("coordinate", "triplet")]
MAPS = [*GATES, "local", "full", "agent", "relu_linear", "additive", "trend_aware", "window", "lstm", "pooling"]
NEEDS = {"pyramidal": {"window_sizes": [2]}}


def _round_trip(cls, config_class, text, channels, tmp_path):
    """Builds from YAML, takes one step, saves, loads, compares."""
    config = config_class(num_channels=channels, **SMALL, **yaml.safe_load(text))
    model = cls(config)
    past, future = torch.randn(2, 64, channels), torch.randn(2, 4, channels)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    loss = model(past, future_values=future).loss
    loss.backward()
    unused = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not unused, "the forward pass goes past them"
    optimizer.step()
    assert loss.isfinite()
    moved = [name for name, p in model.named_parameters() if not torch.equal(p, before[name])]
    assert moved, "the step changed nothing"
    model.eval()
    model.save_pretrained(tmp_path)
    torch.testing.assert_close(
        cls.from_pretrained(tmp_path)(past).predictions, model(past).predictions, atol=0.0, rtol=0.0
    )
    return model


def _holds(module, kind):
    return any(isinstance(part, kind) for part in module.modules())


def _spec(name):
    return yaml.safe_dump({"type": name, **NEEDS.get(name, {})}, default_flow_style=True).strip()


@pytest.mark.parametrize("name", ATTENTION)
def test_every_mixer_serves_as_attention_of_patchtst(name, tmp_path):
    text = f"attention: {_spec(name)}\nnum_heads: 2\npatch_length: 16\n"
    model = _round_trip(PatchTST, PatchTSTConfig, text, 2, tmp_path)
    assert isinstance(model.backbone.encoder.layers[0].mixer, ATTENTION.get(name))


@pytest.mark.parametrize("name", ATTENTION)
def test_every_mixer_serves_as_attention_of_itransformer(name, tmp_path):
    model = _round_trip(ITransformer, ITransformerConfig, f"attention: {_spec(name)}\nnum_heads: 2\n", 5, tmp_path)
    assert isinstance(model.encoder.layers[0].mixer, ATTENTION.get(name))


@pytest.mark.parametrize("name", [*SERIES_GATES, *CONVS])
def test_every_gate_and_convolution_stands_in_the_patch_encoder(name, tmp_path):
    place, table = ("gate", GATES) if name in GATES else ("conv", CONVS)
    text = f"{place}: {name}\nnum_heads: 2\npatch_length: 16\n"
    model = _round_trip(PatchTST, PatchTSTConfig, text, 2, tmp_path)
    assert _holds(model.backbone.encoder.layers[0].mixer, table.get(name))


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return save_tiny_backbone(tmp_path_factory.mktemp("backbone"), layers=1)


@pytest.mark.parametrize(("place", "name"), [("attention", n) for n in ATTENTION] + [("gate", "se"), ("conv", "gtu")])
def test_every_mixer_serves_in_front_of_the_reprogramming(place, name, backbone, tmp_path):
    torch.manual_seed(0)
    encoder = {"num_heads": 2, "d_ff": 8, place: {"type": name, **NEEDS.get(name, {})}}
    config = TimeLLMConfig(
        backbone=backbone, num_backbone_layers=1, context_length=64, prediction_length=4, num_channels=2, d_model=8,
        d_ff=4, num_heads=2, num_prototypes=6, prompt_statistics="none", patch_encoder=encoder, dropout=0.0,
    )  # fmt: skip
    model = TimeLLM(config)
    past, future = torch.randn(2, 64, 2), torch.randn(2, 4, 2)
    before = {n: p.detach().clone() for n, p in model.patch_encoder.named_parameters()}
    model(past, future_values=future).loss.backward()
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0).step()
    assert any(not torch.equal(p, before[n]) for n, p in model.patch_encoder.named_parameters()) or not before
    model.eval().save_pretrained(tmp_path)
    again = TimeLLM.from_pretrained(tmp_path)
    torch.testing.assert_close(again(past).predictions, model(past).predictions, atol=0.0, rtol=0.0)


def test_unknown_options_of_the_patch_encoder_are_refused():
    with pytest.raises(ValueError, match=r"does not know \['layers'\]"):
        TimeLLMConfig(patch_encoder={"layers": 2})


@pytest.mark.parametrize("position", ["after", "instead"])
@pytest.mark.parametrize("name", MAPS)
def test_every_map_block_stands_in_the_folded_maps_of_timesnet(name, position, tmp_path):
    text = f"map_block: {name}\nmap_block_position: {position}\ntop_k: 2\nnum_kernels: 2\n"
    model = _round_trip(TimesNet, TimesNetConfig, text, 2, tmp_path)
    table = next(table for table in (GATES, CONVS, ATTENTION) if name in table)
    assert _holds(model.blocks[0].map_block, table.get(name))


@pytest.mark.parametrize(
    ("cls", "config_class", "text", "reason"),
    [
        (PatchTST, PatchTSTConfig, "attention: coordinate\n", "map block"),
        (PatchTST, PatchTSTConfig, "gate: triplet\n", "map block"),
        (TimesNet, TimesNetConfig, "map_block: gtu\n", "one time axis"),
        (TimesNet, TimesNetConfig, "map_block: growing_windows\n", "length"),
    ],
)
def test_combinations_without_a_meaning_are_refused_when_the_model_is_built(cls, config_class, text, reason):
    with pytest.raises(ValueError, match=reason):
        cls(config_class(num_channels=2, **SMALL, **yaml.safe_load(text)))


def test_a_composition_is_a_few_lines_of_yaml(tmp_path):
    text = """
    num_heads: 2
    patch_length: 16
    attention:
      type: parallel
      fuse: convex
      blocks:
        - {type: window, window_size: 4}
        - {type: relu_linear, scales: [3, 5]}
    """
    model = _round_trip(PatchTST, PatchTSTConfig, text, 2, tmp_path)
    mixer = model.backbone.encoder.layers[0].mixer
    assert all(_holds(mixer, kind) for kind in (ParallelMixer, ATTENTION.get("window"), ATTENTION.get("relu_linear")))
