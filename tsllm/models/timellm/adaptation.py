"""What of the backbone is trained: nothing, low-rank updates (LoRA), or layer norms and positions (GPT4TS)."""

import re
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from tsllm.models.timellm.config import LORA_OPTIONS, TimeLLMConfig

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
        trained = [p for name, p in llm.named_parameters() if _POSITIONS.search(name) or _is_norm(name)]
        if not trained:
            raise ValueError(f"{type(llm).__name__} has no layer norms or position embeddings to train")
        for parameter in trained:
            parameter.requires_grad_(True)


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
    matched = [m for name, m in llm.named_modules() if name.rpartition(".")[2] in targets]
    if not matched:
        raise ValueError(f"lora.target_modules {targets} match nothing in {type(llm).__name__}")
    layer = getattr(matched[0], "base_layer", matched[0])
    return LoraConfig(target_modules=list(targets), fan_in_fan_out=isinstance(layer, Conv1D), **options)


def inject_lora(llm: PreTrainedModel, options: dict[str, Any]) -> None:
    """Adds trainable low-rank updates to a frozen model, in place.

    Raises:
        ValueError: See `build_lora_config`.
    """
    from peft import inject_adapter_in_model

    inject_adapter_in_model(build_lora_config(llm, options), llm)
    for name, parameter in llm.named_parameters():
        parameter.requires_grad_("lora_" in name)


def merge_lora(llm: PreTrainedModel) -> int:
    """Adds the updates to the weights and removes the adapters, in place; returns how many layers had one."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    adapted = [(name, m) for name, m in llm.named_modules() if isinstance(m, BaseTunerLayer)]
    for name, module in adapted:
        module.merge(safe_merge=True)
        parent, _, leaf = name.rpartition(".")
        setattr(llm.get_submodule(parent), leaf, module.get_base_layer())
    if hasattr(llm, "peft_config"):
        del llm.peft_config
    llm.requires_grad_(False)
    return len(adapted)


def save_lora(
    llm: PreTrainedModel, folder: Path, config: TimeLLMConfig, state: dict[str, Tensor] | None = None
) -> None:
    """Writes the adapter in PEFT's own format: `adapter_config.json` and `adapter_model.safetensors`.

    Args:
        llm: The adapted model.
        folder: Is made.
        config: Gives LoRA's options and the backbone's name.
        state: The model's tensors, gathered where they are sharded; None = its own.
    """
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    settings = build_lora_config(llm, config.lora)
    settings.base_model_name_or_path = config.backbone
    settings.revision = config.backbone_revision or None
    settings.inference_mode = True
    settings.save_pretrained(folder)
    adapter = get_peft_model_state_dict(llm, state_dict=state, adapter_name="default")
    tensors = {f"base_model.model.{name}": t.detach().cpu().contiguous() for name, t in adapter.items()}
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
