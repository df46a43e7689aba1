"""The backbone in four bits: its error without bitsandbytes; with it the real thing, also on a CPU."""

import pytest
import torch
from safetensors.torch import load_file
from transformers.utils import is_bitsandbytes_available

from tests.fixtures.backbones import save_tiny_backbone
from tests.models.timellm.test_adaptation import train_a_little, trained_names
from tests.models.timellm.test_backbone import RAGGED
from tsllm.backbones import quantization
from tsllm.models.timellm import TimeLLM, TimeLLMConfig
from tsllm.models.timellm.backbone import load_backbone

needs_bitsandbytes = pytest.mark.skipif(not is_bitsandbytes_available(), reason="bitsandbytes is not installed")
PACKED = {"backbone_quantization": "4bit"}


@pytest.fixture(params=["gpt2", "llama"])
def wide(request, tmp_path_factory, monkeypatch):
    """A backbone wide enough for blocks of 64 weights; a CPU is let in, without the repacking that loses gradients."""
    if is_bitsandbytes_available() and not torch.cuda.is_available():
        monkeypatch.setattr(quantization, "require_cuda", lambda: None)
        monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: False)
    return save_tiny_backbone(tmp_path_factory.mktemp("wide"), request.param, layers=2, width=64)


@pytest.mark.skipif(is_bitsandbytes_available(), reason="bitsandbytes is installed")
def test_without_bitsandbytes_building_the_model_says_what_to_install(gpt2, build):
    with pytest.raises(ImportError, match=r"4-bit weights need bitsandbytes(.|\n)*backbone_quantization: null"):
        build(gpt2, **PACKED)


def test_only_pretrained_weights_can_be_packed():
    with pytest.raises(ValueError, match="backbone_quantization must be null or 4bit, got '8bit'"):
        TimeLLMConfig(backbone_quantization="8bit")
    with pytest.raises(ValueError, match="packs pretrained weights, but backbone_weights is 'random'"):
        TimeLLMConfig(backbone_weights="random", **PACKED)


@needs_bitsandbytes
def test_packed_weights_are_near_the_whole_ones_and_take_an_eighth(wide):
    whole, packed = load_backbone(wide), load_backbone(wide, quantization="4bit")
    matrices = [n for n, p in packed.llm.named_parameters() if p.dtype == torch.uint8]
    assert len(matrices) == (8 if "c_attn" in matrices[0] else 14)
    for name in matrices:
        assert packed.llm.get_parameter(name).numel() == whole.llm.get_parameter(name).numel() / 2  # two in a byte
    patches = torch.randn(4, 6, 64)
    with torch.no_grad():
        left, right = whole(patches), packed(patches)
    assert torch.nn.functional.cosine_similarity(left.flatten(), right.flatten(), dim=0) > 0.9
    assert not torch.equal(left, right)


@needs_bitsandbytes
@pytest.mark.parametrize("mode", ["frozen", "lora"])
def test_a_packed_backbone_trains_saves_and_loads_identically(mode, wide, build, windows, tmp_path):
    model = build(wide, backbone_mode=mode, **PACKED)
    packed = {n: p.clone() for n, p in model.backbone.llm.named_parameters() if p.dtype == torch.uint8}
    names = trained_names(model)
    assert bool(names) == (mode == "lora")
    before = {n: model.backbone.llm.get_parameter(n).clone() for n in names}
    train_a_little(model, windows)
    assert all(not torch.equal(model.backbone.llm.get_parameter(n), before[n]) for n in names)
    assert all(torch.equal(model.backbone.llm.get_parameter(n), p) for n, p in packed.items())
    model.save_pretrained(tmp_path)
    saved = {n.removeprefix("backbone.llm.") for n in load_file(tmp_path / "model.safetensors") if "backbone" in n}
    assert saved == names
    again = TimeLLM.from_pretrained(tmp_path)
    assert again.config.backbone_quantization == "4bit"
    with torch.no_grad():
        assert torch.equal(again(past_values=windows).predictions, model(past_values=windows).predictions)


@needs_bitsandbytes
def test_what_four_bits_cannot_do_is_an_error(wide, build, tmp_path):
    model = build(wide, backbone_mode="lora", **PACKED)
    with pytest.raises(ValueError, match="LoRA cannot be merged into 4-bit weights"):
        model.merge_lora()
    model.save_pretrained(tmp_path)
    config = TimeLLMConfig.from_pretrained(tmp_path)
    config.backbone_quantization = None
    with pytest.raises(ValueError, match=r"fingerprint(.|\n)*backbone_quantization"):
        TimeLLM.from_pretrained(tmp_path, config=config)


@needs_bitsandbytes
def test_gradients_of_the_patches_equal_those_of_the_unpacked_weights(wide):
    import bitsandbytes

    packed, whole = load_backbone(wide, quantization="4bit"), load_backbone(wide)
    for name, module in packed.llm.named_modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            weight = bitsandbytes.functional.dequantize_4bit(module.weight.data, module.weight.quant_state)
            target = whole.llm.get_submodule(name).weight.data
            target.copy_(weight if weight.shape == target.shape and "c_" not in name else weight.T)
    gradients = []
    for reader in (packed, whole):
        patches = torch.randn(4, 6, 64, generator=torch.Generator().manual_seed(1)).requires_grad_()
        with torch.no_grad():
            reader(patches)  # reading without gradients first must not lose later ones
        reader(patches, RAGGED).square().sum().backward()
        gradients.append(patches.grad)
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-4, rtol=1e-3)
