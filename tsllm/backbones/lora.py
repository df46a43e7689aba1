"""Merging low-rank updates into the weights that they update."""

from transformers import PreTrainedModel


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
