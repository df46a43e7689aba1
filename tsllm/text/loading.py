"""Loading a causal language model and its tokenizer: by name, from a folder or the Hub, with or without an adapter."""

import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tsllm.nn.pretrained import find_pretrained

ADAPTER_CONFIG = "adapter_config.json"


def load_language_model(
    name: str | Path,
    *,
    adapter: str | Path | None = None,
    revision: str | None = None,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
) -> tuple[Any, Any]:
    """Loads a causal language model in eval mode, and its tokenizer.

    Args:
        name: A packaged name (`smollm2-135m`), a folder or a Hub id; a folder that holds a PEFT adapter loads its base
            model too.
        adapter: A PEFT adapter (folder or Hub id) to put on top.
        revision: Branch, tag or commit of a Hub repository.
        dtype: Weights' dtype; float32 is the right one on a CPU.
        device: Where to put the model.

    Raises:
        OSError: If the model or the tokenizer cannot be loaded; the text says how to go on.
    """
    source = find_pretrained(str(name))
    if adapter is None and (Path(source) / ADAPTER_CONFIG).is_file():
        adapter, source = source, read_base_model(Path(source))
    try:
        model = AutoModelForCausalLM.from_pretrained(source, revision=revision or "main", dtype=dtype)
        tokenizer = AutoTokenizer.from_pretrained(source, revision=revision or "main")
    except (OSError, ValueError) as error:
        raise OSError(
            f"cannot load the language model {str(name)!r} (revision {revision or 'main'}): {error}\n"
            "Give a local folder, `smollm2-135m`, or a Hub id while the Hub can be reached (HF_HUB_OFFLINE unset)."
        ) from error
    if adapter is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, str(adapter))  # type: ignore[assignment]
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model.eval().to(device), tokenizer


def read_base_model(folder: Path) -> str:
    """Returns where the base model of the PEFT adapter in `folder` is: its path or id, or a packaged name.

    Raises:
        OSError: If the adapter names none.
    """
    base = json.loads((folder / ADAPTER_CONFIG).read_text()).get("base_model_name_or_path")
    if not base:
        raise OSError(f"{folder / ADAPTER_CONFIG} names no base model; load the base and pass adapter={str(folder)!r}")
    # The packaged model's folder depends on the machine; its name does not.
    if not Path(base).exists() and Path(base).name == "smollm2-135m":
        base = "smollm2-135m"
    return find_pretrained(base)
