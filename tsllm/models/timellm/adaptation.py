"""What of the backbone is trained: nothing, low-rank updates (LoRA), or layer norms and positions (GPT4TS)."""

import re
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from tsllm.backbones.adapters import ADAPTER_WEIGHTS, find_public_name, name_for_both
from tsllm.backbones.lora import merge_lora
from tsllm.models.timellm.config import LORA_OPTIONS

__all__ = ["adapt", "build_lora_config", "find_adapted", "inject_lora", "merge_lora", "save_lora"]

# The attention's input projections, where Hu 2021 (LoRA) put the updates, by architecture.
LORA_TARGETS = {
    "gpt2": ["c_attn"],
    "gpt_neox": ["query_key_value"],
    "opt": ["q_proj", "v_proj"],
    "llama": ["q_proj", "v_proj"],
    "mistral": ["q_proj", "v_proj"],
    "qwen2": ["q_proj", "v_proj"],
    "qwen3": ["q_proj", "v_proj"],
    "gemma": ["q_proj", "v_proj"],
    "phi": ["q_proj", "v_proj"],
    "bert": ["query", "value"],
}
ALL_LINEAR = "all-linear"
_POSITIONS = re.compile(r"(^|\.)(wpe|embed_positions|position_embeddings)\.weight$")
_NORMS = re.compile(r"(^|[._])(ln|norm|layernorm|LayerNorm|ln_[0-9a-z]+)(\.|$)|layernorm", re.IGNORECASE)


def adapt(llm: PreTrainedModel, mode: str, lora: dict[str, Any]) -> None:
    """Prepares a frozen model for training in `mode`: `frozen`, `lora` or `norms`.

    Raises:
        ValueError: If the architecture has no default LoRA targets and none are given, or nothing matches.
    """
    if mode == "lora":
        inject_lora(llm, lora)
    elif mode == "norms":
        trained = find_adapted(llm, mode)
        if not trained:
            raise ValueError(f"{type(llm).__name__} has no layer norms or position embeddings to train")
        for name, parameter in llm.named_parameters():
            parameter.requires_grad_(name in trained)


def find_adapted(llm: PreTrainedModel, mode: str) -> set[str]:
    """Returns the names of the parameters that training in `mode` changes, also where further training freezes them.

    >>> from transformers import GPT2Config, GPT2Model
    >>> sorted(find_adapted(GPT2Model(GPT2Config(n_embd=8, n_layer=1, n_head=1)), "norms"))[:2]
    ['h.0.ln_1.bias', 'h.0.ln_1.weight']
    """
    names = [name for name, _ in llm.named_parameters()]
    if mode == "lora":
        return {name for name in names if "lora_" in name}
    if mode == "norms":
        return {name for name in names if _POSITIONS.search(name) or _is_norm(name)}
    return set()


def _is_norm(name: str) -> bool:
    module = name.rpartition(".")[0]
    return bool(_NORMS.search(module))


def build_lora_config(llm: PreTrainedModel, options: dict[str, Any]) -> Any:
    """Returns PEFT's configuration for `llm`, with the targets of its architecture unless given.

    Raises:
        ValueError: If the architecture has no default targets and none are given.
    """
    from peft import LoraConfig

    options = LORA_OPTIONS | options
    architecture = llm.config.model_type
    targets = options.pop("target_modules") or LORA_TARGETS.get(architecture)
    if targets is None:
        raise ValueError(
            f"no LoRA targets are known for architecture {architecture!r}; name them in lora.target_modules "
            f"(known: {', '.join(sorted(LORA_TARGETS))})"
        )
    plain = {name: getattr(m, "base_layer", m) for name, m in llm.named_modules()}
    if isinstance(targets, str) and targets.lower() == ALL_LINEAR:
        matched = [m for m in plain.values() if isinstance(m, Conv1D | nn.Linear)]
    elif isinstance(targets, str):  # a regular expression over whole names, as PEFT reads one
        matched = [m for name, m in plain.items() if re.fullmatch(targets, name)]
    else:
        targets = list(targets)
        matched = [m for name, m in plain.items() if any(f".{name}".endswith(f".{target}") for target in targets)]
    if not matched:
        raise ValueError(f"lora.target_modules {targets} match nothing in {type(llm).__name__}")
    return LoraConfig(target_modules=targets, fan_in_fan_out=isinstance(matched[0], Conv1D), **options)


def inject_lora(llm: PreTrainedModel, options: dict[str, Any]) -> None:
    """Adds trainable low-rank updates to a frozen model, in place.

    Raises:
        ValueError: See `build_lora_config`.
    """
    from peft import inject_adapter_in_model

    inject_adapter_in_model(build_lora_config(llm, options), llm)
    for name, parameter in llm.named_parameters():
        parameter.requires_grad_("lora_" in name)


def save_lora(llm: PreTrainedModel, folder: Path, config: Any, state: dict[str, Tensor] | None = None) -> None:
    """Writes the adapter in PEFT's own format: `adapter_config.json` and `adapter_model.safetensors`.

    `PeftModel.from_pretrained` puts it on `AutoModel` and on `AutoModelForCausalLM` of the base model alike.

    Args:
        llm: The adapted model.
        folder: Is made.
        config: Gives LoRA's options (`lora`) and the backbone's name (`backbone`, `backbone_revision`).
        state: The model's tensors, gathered where they are sharded; None = its own.
    """
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    settings = build_lora_config(llm, config.lora)
    name, revision = find_public_name(config.backbone)
    settings.base_model_name_or_path = name
    settings.revision = revision or config.backbone_revision or None
    settings.inference_mode = True
    # Whole names: on the full model, layers that this one has dropped get no update.
    settings.target_modules = sorted(n for n, m in llm.named_modules() if hasattr(m, "lora_A"))
    settings.save_pretrained(folder)
    adapter = get_peft_model_state_dict(llm, state_dict=state, adapter_name="default")
    tensors = name_for_both(adapter, llm.base_model_prefix)
    save_file(tensors, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
