"""Converts checkpoints of the official Time-LLM code (KimMeen/Time-LLM, `models.TimeLLM.Model`)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModel, AutoTokenizer, BertConfig, GPT2Config, LlamaConfig, PreTrainedConfig

from tsllm.models.timellm import TimeLLM, TimeLLMConfig
from tsllm.models.timellm.backbone import Backbone
from tsllm.models.timellm.reference import DEFAULT_DOMAIN

_BACKBONES = {
    "GPT2": "openai-community/gpt2",
    "LLAMA": "huggyllama/llama-7b",
    "BERT": "google-bert/bert-base-uncased",
}
_NAMES = {
    "patch_embedding.value_embedding.tokenConv.": "patch_embedding.conv.",
    "mapping_layer.": "prototypes.mapping.",
    "reprogramming_layer.query_projection.": "reprogramming.query.",
    "reprogramming_layer.key_projection.": "reprogramming.key.",
    "reprogramming_layer.value_projection.": "reprogramming.value.",
    "reprogramming_layer.out_projection.": "reprogramming.out.",
    "output_projection.linear.": "head.",
}
_LLM = "llm_model."
_COPIES = ("word_embeddings",)  # the backbone's own table under a second name
_NO_ENDS = {"bos_token_id": None, "eos_token_id": None}  # unused here, and checked against the vocabulary
_TASKS = ("long_term_forecast", "short_term_forecast")


def convert_timellm(meta: dict[str, Any], state: Mapping[str, Tensor], tokenizer: Any = None) -> TimeLLM:
    """Builds the model that a checkpoint of the official code holds, its prompt and its faults included.

    Args:
        meta: `constructor.configs` holds the official options; `constructor.gpt2`, `.llama` or `.bert` the options of
            a backbone that is not the published one.
        state: All its tensors, those of the backbone under `llm_model.` included; without these, the published
            backbone is loaded by name.
        tokenizer: The tokenizer of the backbone; None = that of the published one, loaded when a prompt is needed.

    Raises:
        ValueError: If an option is unknown, or tensors are missing or left over.
    """
    constructor = meta["constructor"]
    options = constructor["configs"]
    kind = options["llm_model"]
    if kind not in _BACKBONES:
        raise ValueError(f"llm_model {kind!r} is unknown; the official code has {', '.join(_BACKBONES)}")
    if options.get("task_name", _TASKS[0]) not in _TASKS:
        raise ValueError(f"task_name {options['task_name']!r} is no forecasting task; expected one of {_TASKS}")
    llm_state = {k.removeprefix(_LLM): v for k, v in state.items() if k.startswith(_LLM)}
    backbone = None
    if llm_state:
        backbone = _build_backbone(kind, constructor.get(kind.lower(), {}), options, llm_state, tokenizer)
    mapped = _rename({k: v for k, v in state.items() if not k.startswith(_LLM) and k not in _COPIES})
    config = TimeLLMConfig(
        context_length=options["seq_len"],
        prediction_length=options["pred_len"],
        num_channels=options["enc_in"],
        backbone=_BACKBONES[kind],
        num_backbone_layers=options["llm_layers"],
        patch_length=options["patch_len"],
        patch_stride=options["stride"],
        d_model=options["d_model"],
        num_heads=options["n_heads"],
        d_ff=options["d_ff"],
        num_prototypes=mapped["prototypes.mapping.weight"].shape[0],
        prototype_mode="mapping",
        dropout=options.get("dropout", 0.1),
        attention_dropout=0.1,
        prompt_domain=options.get("content", "") if options.get("prompt_domain") else DEFAULT_DOMAIN,
        reference_quirks=True,
    )
    model = TimeLLM(config, backbone)
    model.load_trained_state(mapped, origin="the checkpoint")
    return model.eval()


def _rename(state: dict[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for name, tensor in state.items():
        prefix = next((p for p in _NAMES if name.startswith(p)), None)
        renamed[name if prefix is None else _NAMES[prefix] + name.removeprefix(prefix)] = tensor.float()
    if "prototypes.mapping.weight" not in renamed:
        raise ValueError("the checkpoint lacks mapping_layer.weight; is it one of the official Time-LLM?")
    return renamed


def _build_backbone(
    kind: str, given: dict[str, Any], options: dict[str, Any], state: dict[str, Tensor], tokenizer: Any
) -> Backbone:
    """Builds the backbone around the checkpoint's own weights."""
    config = _BUILDERS[kind](state, given)
    config.num_hidden_layers = options["llm_layers"]
    llm = AutoModel.from_config(config, attn_implementation="sdpa", dtype=torch.float32, trust_remote_code=False)
    expected = llm.state_dict()
    # Old checkpoints carry buffers that later versions of the library compute on the fly.
    buffers = ("attn.bias", "attn.masked_bias", "rotary_emb.inv_freq", "embeddings.position_ids")
    state = {k: v for k, v in state.items() if k in expected or not k.endswith(buffers)}
    missing, unexpected = sorted(set(expected) - set(state)), sorted(set(state) - set(expected))
    if missing or unexpected:
        raise ValueError(
            f"the {kind} weights of the checkpoint do not fit: missing {missing[:5]}, unexpected {unexpected[:5]} "
            f"({len(missing)} and {len(unexpected)} tensors); llm_layers is {options['llm_layers']}"
        )
    llm.load_state_dict(state)
    return Backbone(llm, tokenizer if tokenizer is not None else _LazyTokenizer(_BACKBONES[kind]))


def _gpt2_config(state: dict[str, Tensor], given: dict[str, Any]) -> PreTrainedConfig:
    vocabulary, width = state["wte.weight"].shape
    sizes = {"vocab_size": vocabulary, "n_embd": width, "n_positions": state["wpe.weight"].shape[0], **_NO_ENDS}
    return GPT2Config(
        **({"n_head": max(1, width // 64), "n_inner": state["h.0.mlp.c_fc.bias"].shape[0]} | sizes | given)
    )


def _llama_config(state: dict[str, Tensor], given: dict[str, Any]) -> PreTrainedConfig:
    vocabulary, width = state["embed_tokens.weight"].shape
    keys = state["layers.0.self_attn.k_proj.weight"].shape[0]
    heads = given.get("num_attention_heads", max(1, width // 128))
    sizes = {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": state["layers.0.mlp.gate_proj.weight"].shape[0],
        "num_attention_heads": heads,
        "num_key_value_heads": max(1, keys * heads // width),
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": 2048,
        **_NO_ENDS,
    }
    return LlamaConfig(**(sizes | given))


def _bert_config(state: dict[str, Tensor], given: dict[str, Any]) -> PreTrainedConfig:
    vocabulary, width = state["embeddings.word_embeddings.weight"].shape
    sizes = {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "num_attention_heads": max(1, width // 64),
        "intermediate_size": state["encoder.layer.0.intermediate.dense.bias"].shape[0],
        "max_position_embeddings": state["embeddings.position_embeddings.weight"].shape[0],
        "type_vocab_size": state["embeddings.token_type_embeddings.weight"].shape[0],
    }
    return BertConfig(**(sizes | given))


_BUILDERS = {"GPT2": _gpt2_config, "LLAMA": _llama_config, "BERT": _bert_config}


class _LazyTokenizer:
    """Loads the published tokenizer on first use, so that converting alone needs no Hub."""

    is_lazy = True

    def __init__(self, name: str) -> None:
        self._name = name
        self._tokenizer: Any = None

    def _load(self) -> Any:
        if self._tokenizer is None:
            self._tokenizer = AutoTokenizer.from_pretrained(self._name, trust_remote_code=False)
        return self._tokenizer

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._load()(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._load(), name)
