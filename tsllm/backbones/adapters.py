"""PEFT adapters of backbones: found by name, merged into a decoder, written so that others load them."""

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import cached_file

from tsllm.backbones.pretrained import MANIFEST, SMOLLM2, find_pretrained, resolve_commit
from tsllm.backbones.reach import reach_hub
from tsllm.backbones.trust import ADAPTER_CONFIG, check_json, load_config
from tsllm.backbones.weights import check_floating, read_header

logger = logging.getLogger(__name__)

ADAPTER_WEIGHTS = "adapter_model.safetensors"
SMOLLM2_ON_HUB = "HuggingFaceTB/SmolLM2-135M-Instruct"
_CACHED = re.compile(r"models--(?P<owner>[^/\\]+?)--(?P<name>[^/\\]+)[/\\]snapshots[/\\](?P<commit>[0-9a-f]{40})")
# Settings of PEFT that import modules, read further files or build layers anew.
_FOREIGN = ("megatron_config", "layer_replication", "corda_config", "lora_ga_config", "eva_config", "arrow_config")
PEFT_PREFIX = "base_model.model."


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter in PEFT's format.

    Attributes:
        folder: Where its files are.
        base: The model that it was trained on.
        base_revision: Commit of that model; empty = not recorded.
        commit: Commit of its own Hub repository; empty for a local folder.
    """

    folder: Path
    base: str
    base_revision: str = ""
    commit: str = ""


def find_public_name(name: str) -> tuple[str, str]:
    """Returns the name and revision under which others find a model: a Hub id, never the cache of this machine.

    The packaged SmolLM2 holds the Hub's weights rounded to four bits, so that an adapter fits both.

    Args:
        name: A packaged name, a folder or a Hub id.
    """
    if name == SMOLLM2 or (Path(name) / MANIFEST).is_file():
        return SMOLLM2_ON_HUB, ""
    cached = _CACHED.search(str(name))
    return (f"{cached['owner']}/{cached['name']}", cached["commit"]) if cached else (str(name), "")


def find_adapter(name: str, revision: str = "") -> Adapter | None:
    """Returns the adapter that a folder or Hub id holds; None if it holds a model.

    Raises:
        OSError: If the adapter names no base model.
    """
    folder, commit = Path(name), ""
    if not folder.is_dir():
        reach_hub()
        try:
            found = cached_file(
                name,
                ADAPTER_CONFIG,
                revision=revision or "main",
                _raise_exceptions_for_gated_repo=False,
                _raise_exceptions_for_missing_entries=False,
                _raise_exceptions_for_connection_errors=False,
            )
        except (OSError, ValueError):
            return None  # neither folder nor repository: loading it as a model says so, and what to do
        if found is None:
            return None
        commit = find_public_name(str(found))[1]
        files = [ADAPTER_CONFIG, ADAPTER_WEIGHTS]
        folder = Path(snapshot_download(name, revision=commit or revision or "main", allow_patterns=files))
    if not (folder / ADAPTER_CONFIG).is_file():
        return None
    config = check_json(folder / ADAPTER_CONFIG) or {}
    base = config.get("base_model_name_or_path")
    if not base:
        raise OSError(f"{folder / ADAPTER_CONFIG} names no base model; write base_model_name_or_path into it")
    return Adapter(folder, str(base), config.get("revision") or "", commit)


def load_decoder_config(name: str, revision: str = "") -> PreTrainedConfig:
    """Loads the configuration of a decoder, or of the one that an adapter was trained on; no weights are read.

    Args:
        name: A packaged name, a folder or a Hub id, of a model or of a PEFT adapter on one.
        revision: Hub revision; empty = main.

    Raises:
        OSError: If it is not there or damaged.
        ValueError: If its type is unknown, or it asks for code of its own.
    """
    where = find_pretrained(name)
    adapter = find_adapter(where, revision)
    if adapter is not None:
        where, revision = find_pretrained(adapter.base), adapter.base_revision
    commit = resolve_commit(where, revision)
    return load_config(where, **({"revision": commit} if commit else {}))


def check_adapter(folder: Path) -> None:
    """Checks the files of a LoRA adapter before anything is built from them.

    Raises:
        OSError: If a file is damaged.
        ValueError: If it is no LoRA, asks for modules of others or layers that the base model lacks, has weights that
            are not finite, or sizes that they do not have.
    """
    config = check_json(folder / ADAPTER_CONFIG) or {}
    if config.get("peft_type") != "LORA":
        raise ValueError(f"{folder / ADAPTER_CONFIG} has peft_type {config.get('peft_type')!r}; only LORA is loaded")
    asked = [key for key in _FOREIGN if config.get(key)]
    if asked:
        raise ValueError(
            f"{folder / ADAPTER_CONFIG} sets {asked[0]} to {config[asked[0]]!r}, which is not loaded here"
        )
    header = read_header(folder / ADAPTER_WEIGHTS)
    check_floating(header, str(folder))
    ranks = {shape[0] for name, shape in header.shapes.items() if ".lora_A." in name or "lora_embedding_A" in name}
    wanted = [config.get("r", 0), *(config.get("rank_pattern") or {}).values()]
    if not all(isinstance(r, int) and r <= max(ranks, default=0) for r in wanted):
        raise ValueError(
            f"{folder / ADAPTER_CONFIG} has ranks {wanted}, but its weights have {sorted(ranks) or 'none'}: they do "
            "not belong together, or one is damaged"
        )


def merge_adapter(llm: PreTrainedModel, adapter: Adapter) -> None:
    """Adds an adapter's updates to the weights of a decoder, in place; the decoder may have lost its last layers.

    Raises:
        OSError: If the adapter has no safetensors.
        ValueError: If it is no LoRA, brings whole modules, or does not fit the decoder.
    """
    from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model
    from peft import set_peft_model_state_dict as set_state

    from tsllm.backbones.lora import merge_lora

    if not (adapter.folder / ADAPTER_WEIGHTS).is_file():
        raise OSError(f"{adapter.folder} holds no {ADAPTER_WEIGHTS}; pickles are refused")
    check_adapter(adapter.folder)
    config: Any = LoraConfig.from_pretrained(str(adapter.folder))
    if config.modules_to_save:
        raise ValueError(
            f"{adapter.folder} has modules_to_save {config.modules_to_save}; a backbone starts from plain LoRA only"
        )
    state = _rename(load_file(adapter.folder / ADAPTER_WEIGHTS), llm, adapter)
    config.target_modules = sorted({name.split(".lora_")[0] for name in state})
    config.layers_to_transform = config.exclude_modules = config.layers_pattern = None
    prefix = f"{llm.base_model_prefix}."
    config.rank_pattern = {k.removeprefix(prefix): v for k, v in (config.rank_pattern or {}).items()}
    config.alpha_pattern = {k.removeprefix(prefix): v for k, v in (config.alpha_pattern or {}).items()}
    inject_adapter_in_model(config, llm)
    wanted = set(get_peft_model_state_dict(llm, adapter_name="default"))
    if wanted != set(state):
        missing, more = sorted(wanted - set(state)), sorted(set(state) - wanted)
        raise ValueError(f"{adapter.folder} does not fit {adapter.base!r}: missing {missing[:3]}, unknown {more[:3]}")
    set_state(llm, state, adapter_name="default")
    merge_lora(llm)


def _rename(state: dict[str, Tensor], llm: PreTrainedModel, adapter: Adapter) -> dict[str, Tensor]:
    """Returns the tensors under the decoder's own names, without those of layers that it has lost.

    Raises:
        ValueError: If nothing is left, or a tensor belongs to a module that the decoder does not have.
    """
    modules = {name for name, _ in llm.named_modules()}
    kept: dict[str, Tensor] = {}
    dropped = []
    for full, tensor in state.items():
        name = full.removeprefix(PEFT_PREFIX)
        name = name if name.split(".lora_")[0] in modules else name.removeprefix(f"{llm.base_model_prefix}.")
        if name.split(".lora_")[0] in modules:
            kept[name] = tensor
            continue
        layer = re.search(r"\.(\d+)\.", name)
        is_head = name.startswith("lm_head")
        if not is_head and (layer is None or int(layer[1]) < llm.config.num_hidden_layers):
            raise ValueError(f"{adapter.folder} adapts {full}, which {type(llm).__name__} does not have")
        dropped.append(name)
    if not kept:
        raise ValueError(f"{adapter.folder} holds nothing for {type(llm).__name__}: found {sorted(state)[:3]}")
    if dropped:
        logger.warning("%d tensors of %s lie beyond the kept layers and are left out", len(dropped), adapter.folder)
    return kept


def name_for_both(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Returns a decoder's adapter under the names of `AutoModel` and of `AutoModelForCausalLM`.

    PEFT looks tensors up by name and passes over what it did not ask for: with both names in the file every tensor is
    found, whichever class the adapter is put on.

    Args:
        state: Tensors under the decoder's own names.
        prefix: Of the decoder in its causal model, `base_model_prefix`.
    """
    decoder = {f"{PEFT_PREFIX}{name}": t.detach().cpu().contiguous() for name, t in state.items()}
    return decoder | {
        f"{PEFT_PREFIX}{prefix}.{name.removeprefix(PEFT_PREFIX)}": t.clone() for name, t in decoder.items()
    }
