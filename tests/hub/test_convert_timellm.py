"""Checkpoints of the official Time-LLM, rebuilt here with random weights for each of its three backbones."""

import pytest
import torch
from transformers import BertConfig, BertModel, GPT2Config, GPT2Model, LlamaConfig, LlamaModel

from tests.fixtures.backbones import build_tokenizer
from tsllm.hub.convert_timellm import convert_timellm
from tsllm.models.timellm import TimeLLM
from tsllm.models.timellm.prompt import Prompt
from tsllm.models.timellm.reference import DEFAULT_DOMAIN, tokenize_reference_prompts, write_reference_prompts

SIZES = {"vocab_size": 300, "bos_token_id": None, "eos_token_id": None, "initializer_range": 0.2}
BLOCKS = SIZES | {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
OPTIONS = {
    "task_name": "long_term_forecast",
    "seq_len": 48,
    "pred_len": 12,
    "patch_len": 8,
    "stride": 4,
    "d_model": 16,
    "n_heads": 2,
    "d_ff": 24,
    "llm_dim": 32,
    "llm_layers": 2,
    "enc_in": 2,
    "dropout": 0.1,
    "prompt_domain": 0,
    "content": "",
}


def build_llm(kind):
    torch.manual_seed(0)
    if kind == "GPT2":
        return GPT2Model(GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=512, **SIZES))
    if kind == "LLAMA":
        return LlamaModel(LlamaConfig(num_key_value_heads=2, max_position_embeddings=512, **BLOCKS))
    return BertModel(BertConfig(max_position_embeddings=512, **BLOCKS))


def checkpoint(kind, prototypes=30):
    """Returns what `torch.save(model.state_dict())` of the official code holds."""
    state = {f"llm_model.{k}": v for k, v in build_llm(kind).eval().state_dict().items()}
    shapes = {
        "mapping_layer": (prototypes, 300),
        "reprogramming_layer.query_projection": (48, 16),
        "reprogramming_layer.key_projection": (48, 32),
        "reprogramming_layer.value_projection": (48, 32),
        "reprogramming_layer.out_projection": (32, 48),
        "output_projection.linear": (12, 24 * 12),
    }
    for name, shape in shapes.items():
        state[f"{name}.weight"] = 0.2 * torch.randn(shape)
        state[f"{name}.bias"] = 0.2 * torch.randn(shape[0])
    state["patch_embedding.value_embedding.tokenConv.weight"] = torch.randn(16, 8, 3)
    return state


def convert(kind, state=None, **options):
    heads = {"GPT2": {"n_head": 4}, "LLAMA": {"num_attention_heads": 4}, "BERT": {"num_attention_heads": 4}}
    constructor = {"configs": OPTIONS | {"llm_model": kind} | options, kind.lower(): heads[kind]}
    return convert_timellm({"constructor": constructor}, state or checkpoint(kind), build_tokenizer())


@pytest.mark.parametrize("kind", ["GPT2", "LLAMA", "BERT"])
@torch.no_grad()
def test_the_hidden_states_are_those_of_one_padded_sequence_without_a_mask(kind):
    model = convert(kind)
    ids = torch.randint(0, 300, (4, 9))
    tokens = torch.randn(4, 12, 32)
    llm = build_llm(kind).eval()
    sequence = torch.cat([llm.get_input_embeddings()(ids), tokens], 1)
    expected = llm(inputs_embeds=sequence).last_hidden_state[:, -12:]
    found = model.backbone(tokens, Prompt((), tuple(map(tuple, ids.tolist())), (0, 1, 2, 3)))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["GPT2", "LLAMA", "BERT"])
def test_a_converted_model_forecasts_with_the_official_prompt(kind):
    model = convert(kind)
    values = torch.randn(2, 48, 2).cumsum(1)
    rows = model.norm(values)[0].transpose(1, 2).flatten(0, 1)
    texts = write_reference_prompts(rows, DEFAULT_DOMAIN, 12)
    prompt = tokenize_reference_prompts(model.backbone.tokenizer, texts)
    assert len({len(t) for t in prompt.tails}) == 1
    with torch.no_grad():
        parameters = model.read(rows, prompt)
        forecast = model(past_values=values)
    expected = parameters.squeeze(-1).unflatten(0, (2, 2)).transpose(1, 2)
    _, loc, scale = model.norm(values)
    torch.testing.assert_close(forecast.predictions, expected * scale + loc)


def test_the_official_prompt_word_by_word():
    rows = torch.tensor([[2.0, -1.0, 0.5, 1.0, 0.25, -0.5, 0.0, 1.5]])
    text = write_reference_prompts(rows, "Prices.", 3)[0]
    assert text.startswith(
        "<|start_prompt|>Dataset description: Prices.Task description: forecast the next 3 steps given the previous 8 "
        "steps information; Input statistics: min value -1.0, max value 2.0, median value 0.25, the trend of input is "
        "downward, top 5 lags are : [0, "
    )
    assert text.endswith("]<|<end_prompt>|>")


def test_a_domain_of_ones_own_is_taken_over():
    assert convert("GPT2").config.prompt_domain == DEFAULT_DOMAIN
    assert convert("GPT2", prompt_domain=1, content="Own data.").config.prompt_domain == "Own data."


def test_fewer_prototypes_and_layers_follow_the_checkpoint():
    state = {k: v for k, v in checkpoint("GPT2", prototypes=11).items() if ".h.1." not in k}
    model = convert("GPT2", state, llm_layers=1)
    assert (model.config.num_prototypes, model.backbone.num_layers) == (11, 1)


def test_sizes_of_the_backbone_are_read_off_the_tensors():
    constructor = {"configs": OPTIONS | {"llm_model": "LLAMA"}, "llama": {"num_attention_heads": 4}}
    config = convert_timellm({"constructor": constructor}, checkpoint("LLAMA")).backbone.llm.config
    assert (config.hidden_size, config.intermediate_size, config.num_key_value_heads) == (32, 48, 2)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda s: s.pop("mapping_layer.weight"), "lacks mapping_layer.weight"),
        (lambda s: s.pop("output_projection.linear.bias"), "missing head.bias"),
        (lambda s: s.pop("llm_model.h.1.ln_1.bias"), r"missing \['h\.1\.ln_1\.bias'\]"),
        (lambda s: s.update({"llm_model.h.2.ln_1.bias": torch.ones(32)}), r"unexpected \['h\.2\.ln_1\.bias'\]"),
        (lambda s: s.update({"extra": torch.ones(1)}), "unexpected extra"),
    ],
)
def test_checkpoints_that_do_not_fit_are_refused(change, text):
    state = checkpoint("GPT2")
    change(state)
    with pytest.raises(ValueError, match=text):
        convert("GPT2", state)


@pytest.mark.parametrize(("key", "value"), [("llm_model", "T5"), ("task_name", "classification")])
def test_unknown_options_are_refused(key, value):
    constructor = {"configs": OPTIONS | {"llm_model": "GPT2", key: value}}
    with pytest.raises(ValueError, match=f"{key} '{value}'"):
        convert_timellm({"constructor": constructor}, checkpoint("GPT2"))


def test_a_converted_model_can_be_saved_small(tmp_path):
    model = convert("GPT2")
    model.save_pretrained(tmp_path)
    assert isinstance(model, TimeLLM)
    assert (tmp_path / "model.safetensors").stat().st_size < 4 * 1.1 * sum(
        t.numel() for t in model.trained_state().values()
    )
