"""Loading a causal language model and its tokenizer: by name, from a folder or the Hub, with or without an adapter."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM

from tsllm.backbones.adapters import PEFT_PREFIX, check_adapter, find_public_name
from tsllm.backbones.fingerprint import check_tokenizer, compute_fingerprint, is_same_model
from tsllm.backbones.pretrained import MANIFEST, SMOLLM2, find_pretrained, resolve_commit
from tsllm.backbones.quantization import build_quantization
from tsllm.backbones.reach import reach_hub
from tsllm.backbones.trust import ADAPTER_CONFIG, check_folder, check_json, load_config, load_tokenizer, refuse_code
from tsllm.backbones.weights import read_header
from tsllm.escape import first_line
from tsllm.progress import quiet_bars
from tsllm.text.settings import SETTINGS as SETTINGS
from tsllm.text.settings import SPOKEN_SETTINGS

ADAPTER_WEIGHTS = "adapter_model.safetensors"
_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]  # never a pickle, never code


@dataclass(frozen=True)
class BaseModel:
    """The weights that an adapter was trained on.

    Attributes:
        name: A packaged name, a folder or a Hub id.
        revision: Commit of the Hub repository; empty for a local folder.
        fingerprint: Tells these weights from others (`compute_fingerprint`); empty = not recorded.
        load_in_4bit: Whether they were packed into four bits.
    """

    name: str
    revision: str = ""
    fingerprint: str = ""
    load_in_4bit: bool = False


def load_language_model(
    name: str | Path,
    *,
    adapter: str | Path | None = None,
    revision: str | None = None,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    load_in_4bit: bool = False,
) -> tuple[Any, Any]:
    """Loads a causal language model in eval mode, and its tokenizer; from safetensors only.

    Args:
        name: A packaged name (`smollm2-135m`), a folder or a Hub id; a folder that holds a PEFT adapter loads its base
            model too, at the recorded revision.
        adapter: A PEFT adapter (folder or Hub id) to put on top.
        revision: Branch, tag or commit of the base model's Hub repository.
        dtype: Weights' dtype; float32 is the right one on a CPU.
        device: Where to put the model.
        load_in_4bit: Pack the base model's matrices into four bits (extra `quantization`, CUDA only); an adapter that
            was trained so loads so.

    Raises:
        OSError: If the model, the adapter or the tokenizer cannot be loaded; the text says how to go on.
        ValueError: If the adapter was trained on other weights.
        ImportError: If 4-bit weights are asked for without bitsandbytes.
        RuntimeError: If 4-bit weights are asked for without a CUDA device.
    """
    source = find_pretrained(str(name))
    base = None
    if adapter is None and (Path(source) / ADAPTER_CONFIG).is_file():
        base = read_base_model(Path(source))
        adapter, source, revision = source, find_pretrained(base.name), revision or base.revision
    elif adapter is not None:
        adapter = fetch_folder(adapter)
        base = read_base_model(adapter)
    packed = load_in_4bit or (base is not None and base.load_in_4bit)
    model, tokenizer = _load_base(source, revision or "", dtype, device, packed)
    if base is not None:
        check_base(base, model, source, tokenizer)
        model = _put_on(model, Path(str(adapter)))
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.eval()
    return model if packed else model.to(device), tokenizer


def _load_base(
    source: str, revision: str, dtype: torch.dtype, device: str | torch.device, packed: bool
) -> tuple[Any, Any]:
    options: dict[str, Any] = {}
    if packed:
        options = {"quantization_config": build_quantization(torch.bfloat16), "device_map": {"": device}}
    try:
        commit = resolve_commit(source, revision)
        options["revision"] = commit or "main"
        config = load_config(source, revision=options["revision"])
        check_folder(source, config)
        with refuse_code(source), quiet_bars():
            model: Any = AutoModelForCausalLM.from_pretrained(
                source, config=config, dtype=dtype, use_safetensors=True, trust_remote_code=False, **options
            )
        model.config._commit_hash = commit or None  # no longer kept by the library itself; never saved
        tokenizer = load_tokenizer(source, revision=options["revision"])
        check_tokenizer(tokenizer, source, model.get_input_embeddings().weight.shape[0])
        return model, tokenizer
    except (OSError, ValueError) as error:
        raise OSError(
            f"cannot load the language model {source!r} (revision {revision or 'main'}): {first_line(error)}; "
            "give a local folder, `smollm2-135m`, or a Hub id while the Hub can be reached (HF_HUB_OFFLINE unset)"
        ) from error


def _put_on(model: Any, adapter: Path) -> Any:
    from peft import PeftModel

    if not (adapter / ADAPTER_WEIGHTS).is_file():
        pickles = sorted(p.name for p in adapter.glob("*.bin"))
        found = f"; it holds {pickles}, but pickles are refused" if pickles else ""
        raise OSError(f"{adapter} holds no {ADAPTER_WEIGHTS}{found}")
    check_adapter(adapter)
    try:
        adapted = PeftModel.from_pretrained(model, str(adapter))
    except SafetensorError as error:
        raise OSError(f"{adapter / ADAPTER_WEIGHTS} is damaged ({error}); download or train it again") from error
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"the adapter in {adapter} does not fit its base model: {error}") from error
    check_adapter_keys(adapted, adapter)
    return adapted


def check_adapter_keys(adapted: Any, folder: Path) -> None:
    """Refuses an adapter whose file does not hold exactly the tensors that its configuration asks for.

    Raises:
        ValueError: Naming tensors that are missing, unexpected or not finite.
    """
    from peft import get_peft_model_state_dict

    wanted = get_peft_model_state_dict(adapted)
    found = read_header(folder / ADAPTER_WEIGHTS).shapes
    # An adapter of a series model holds every tensor under the bare decoder's name too.
    prefix = adapted.get_base_model().base_model_prefix
    twins = {name.replace(f"{PEFT_PREFIX}{prefix}.", PEFT_PREFIX, 1) for name in wanted}
    faults = [f"missing {name}" for name in wanted if name not in found]
    faults += [f"unexpected {name}" for name in found if name not in wanted and name not in twins]
    faults += [f"{name} is not finite" for name, tensor in wanted.items() if not torch.isfinite(tensor.float()).all()]
    if faults:
        more = f" ... ({len(faults)} in all)" if len(faults) > 6 else ""
        raise ValueError(f"{folder / ADAPTER_WEIGHTS} does not fit its configuration: {'; '.join(faults[:6])}{more}")


def fetch_folder(name: str | Path, revision: str | None = None, token: str | bool | None = None) -> Path:
    """Returns the folder of an artefact: `name` itself, or a downloaded Hub repository without code and pickles.

    Raises:
        OSError: If there is neither a folder nor a repository of this name that can be read.
    """
    if Path(name).is_dir():
        return Path(name)
    reach_hub()
    try:
        return Path(snapshot_download(str(name), revision=revision, token=token, allow_patterns=_FILES))
    except (OSError, ValueError) as error:
        raise OSError(
            f"{str(name)!r} (revision {revision or 'main'}) is no folder, and cannot be had from the Hub: "
            f"{first_line(error)}; check the name, your access (token) and whether the Hub can be reached "
            "(HF_HUB_OFFLINE unset)"
        ) from error


def describe_base(model: Any, tokenizer: Any = None) -> BaseModel:
    """Returns what an adapter on `model` must remember of the weights under it, and of its tokenizer."""
    name = str(model.config._name_or_path)
    if Path(name).name == SMOLLM2 and (Path(name) / MANIFEST).is_file():
        name = SMOLLM2  # the packaged model's folder depends on the machine; its name does not
    packed = bool(getattr(model, "is_loaded_in_4bit", False))
    return BaseModel(name, read_commit(model) or "", compute_fingerprint(model, tokenizer), packed)


def read_commit(model: Any) -> str | None:
    """Returns the Hub commit that `model` was loaded from; None for a local folder."""
    return getattr(model.config, "_commit_hash", None)


def read_base_model(folder: Path) -> BaseModel:
    """Returns what the PEFT adapter in `folder` was trained on, as far as its files say.

    Raises:
        OSError: If the adapter names no base model.
    """
    if not (folder / ADAPTER_CONFIG).is_file():
        raise OSError(f"{folder} holds no {ADAPTER_CONFIG}, so it is no PEFT adapter")
    config = check_json(folder / ADAPTER_CONFIG)
    settings = check_json(folder / SETTINGS) or check_json(folder / SPOKEN_SETTINGS) or {}
    recorded = settings.get("base") or {}
    name = config.get("base_model_name_or_path") or recorded.get("name")
    here = recorded.get("name", "")
    # The adapter names what others can load; what it was trained on stands in our own settings.
    if here and name == find_public_name(here)[0] and (here == SMOLLM2 or Path(here).exists()):
        name = here
    if not name:
        raise OSError(f"{folder / ADAPTER_CONFIG} names no base model; load the base and pass adapter={str(folder)!r}")
    if not Path(name).exists() and Path(name).name == SMOLLM2:
        name = SMOLLM2
    revision = config.get("revision") or recorded.get("revision", "")
    return BaseModel(name, revision, recorded.get("fingerprint", ""), recorded.get("load_in_4bit", False))


def check_base(base: BaseModel, model: Any, source: str, tokenizer: Any = None) -> None:
    """Compares the weights, settings and tokenizer of `model` with those that an adapter was trained on.

    Raises:
        ValueError: If they are others.
    """
    if not base.fingerprint:
        return
    found = compute_fingerprint(model, tokenizer)
    if not is_same_model(base.fingerprint, model, found):
        raise ValueError(
            f"the adapter was trained on {base.name!r} (revision {base.revision or 'not recorded'}, fingerprint "
            f"{base.fingerprint}, load_in_4bit {base.load_in_4bit}), but {source!r} has fingerprint {found}: the "
            "weights are others. Load that revision or a copy of it, or train a new adapter on these weights"
        )
