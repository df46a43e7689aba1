"""What an adapter of GPT-2's shape weighs: a file that travels by mail, not a checkpoint of the language model."""

import pytest
import torch
from transformers import GPT2Config, GPT2Model

from tests.recipes.programs import RECIPES
from tsllm.models.timellm import TimeLLM, TimeLLMConfig
from tsllm.models.timellm.backbone import Backbone
from tsllm.training.args import ModelArguments, load_yaml
from tsllm.training.build import read_model_config

CONFIG = RECIPES / "configs" / "sft_series" / "etth1_gpt2_lora.yaml"


def save(folder, vocabulary, **changes):
    """Saves the configured model on a GPT-2 of random weights and returns each file's bytes."""
    given = ModelArguments(model_config=load_yaml(CONFIG)["model_config"] | {"prompt": False} | changes).model_config
    values = read_model_config(TimeLLMConfig, given)
    with torch.device("meta"):
        llm = GPT2Model(
            GPT2Config(n_layer=values["num_backbone_layers"], vocab_size=vocabulary, bos_token_id=0, eos_token_id=0)
        )
    backbone = Backbone(llm.to_empty(device="cpu"))
    for parameter in llm.parameters():
        parameter.data.zero_()
    config = TimeLLMConfig(**values, context_length=512, prediction_length=96)
    TimeLLM(config, backbone).save_pretrained(folder)
    return {str(p.relative_to(folder)): p.stat().st_size for p in folder.rglob("*") if p.is_file()}


def test_an_adapter_of_gpt2_stays_below_ten_megabytes(tmp_path):
    values = load_yaml(CONFIG)["model_config"]
    assert (values["num_backbone_layers"], values["lora"]["r"], values["num_prototypes"]) == (12, 8, 1000)
    sizes = save(tmp_path, 2000)
    total = sum(sizes.values())
    print(f"artefact of GPT-2's shape: {total / 1e6:.2f} MB, {sizes}")
    assert total < 10e6, sizes
    heads = values["num_heads"] * values["d_ff"]
    wanted = {
        "prototypes": 1000 * 768,
        "reprogramming": (32 + 1) * heads + 2 * (768 + 1) * heads + (heads + 1) * 768,
        "head": (values["d_ff"] * 64 + 1) * 96,
        "lora": 12 * 8 * (768 + 2304),
    }
    rest = sizes["model.safetensors"] - 4 * sum(wanted.values())
    assert 0 < rest < 30_000, rest  # patch embedding and the file's own header
    # Every tensor stands there twice: under the names of AutoModel and of AutoModelForCausalLM.
    assert sizes["lora/adapter_model.safetensors"] == pytest.approx(2 * 4 * wanted["lora"], abs=20_000)


def test_its_size_does_not_depend_on_the_vocabulary(tmp_path):
    assert save(tmp_path / "small", 1500, num_backbone_layers=1) == save(
        tmp_path / "large", 6000, num_backbone_layers=1
    )
