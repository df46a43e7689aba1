"""What a comparison reads of a saved or pretrained model besides its weights."""

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from tsllm.forecasting.model_spec import ModelSpec
from tsllm.forecasting.text import SETTINGS
from tsllm.hub.ensemble import EnsembleSpec
from tsllm.hub.licence import find_language_model
from tsllm.hub.record import HISTORY_FILE, METRICS_FILE
from tsllm.hub.spec import SPEC_FILE, find_file, is_hub_id
from tsllm.hub.told import BASE, CONTEXT_FILE, READER
from tsllm.models.patchcast import PatchCastConfig
from tsllm.models.timellm.config import TimeLLMConfig

BASE_KEY = "base_model_name_or_path"


def read_history(spec: ModelSpec) -> list[dict[str, Any]]:
    """Returns the training log of a saved model; empty if it kept none."""
    return _read_json(spec, HISTORY_FILE) or []


def find_pretrained_base(spec: ModelSpec) -> str:
    """Returns the name of the language or foundation model behind a model; empty if there is none.

    A backbone with random weights, or one that is taken away, has read nothing and does not count.
    """
    found = _find_base(spec)
    # The folder of a local model tells nothing but where this machine keeps it.
    return Path(found).name if Path(found).is_absolute() else found


def _find_base(spec: ModelSpec) -> str:
    if spec.kind == "text":
        return str(spec.options["language_model"])
    if spec.kind == "chronos":
        return spec.source
    if spec.kind == "native":
        published = {"backbone": TimeLLMConfig.backbone} if spec.model == "timellm" else {}
        return find_language_model({**published, **spec.options})
    if spec.kind not in ("saved", "few-shot"):
        return ""
    if _find(spec, CONTEXT_FILE) is not None and Path(spec.source).is_dir():
        return _find_base(replace(spec, model=str(Path(spec.source) / BASE)))
    several = EnsembleSpec.find(spec.source) if Path(spec.source).is_dir() else None
    if several is not None:
        bases = (_find_base(replace(spec, model=str(Path(spec.source) / part))) for part in several.parts)
        return next(filter(None, bases), "")
    adapter = _read_json(spec, "adapter_config.json") or {}
    if adapter.get(BASE_KEY):
        return str(adapter[BASE_KEY])
    config = _read_json(spec, "config.json") or {}
    if _find(spec, SETTINGS) is not None:
        return str(config.get("_name_or_path") or spec.name)
    return find_language_model(config)


def is_reprogrammed(folder: Path) -> bool:
    """Tells whether a folder holds a Time-LLM, whose patches attend to prototypes.

    PatchCast has the field too, but prototypes only where a language model is put within it, and no picture of them.
    """
    path = folder / "config.json"
    if not path.is_file():
        return False
    config = json.loads(path.read_text(encoding="utf-8"))
    return "num_prototypes" in config and config.get("model_type") != PatchCastConfig.model_type


def fingerprint(spec: ModelSpec) -> str:
    """Returns a hash of a saved model's files, or the commit of its Hub repository; empty for other kinds.

    A folder's name stays when it is trained again; this is how its old results are told from new ones.
    """
    if spec.kind not in ("saved", "few-shot"):
        return ""
    folder = Path(spec.source)
    if not folder.is_dir():
        found = [_find(spec, name) for name in (SPEC_FILE, SETTINGS)]
        commits = [re.search(r"snapshots[/\\]([0-9a-f]{40})", str(path)) for path in found if path is not None]
        return next((match[1][:16] for match in commits if match), "")
    digest = hashlib.sha256()
    for path in list_files(folder):
        digest.update(path.name.encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def list_files(folder: Path) -> list[Path]:
    """Returns the files that make up a saved model: settings and weights, without logs, checkpoints and pictures."""
    aside = (HISTORY_FILE, METRICS_FILE)
    told = (folder / CONTEXT_FILE).is_file()
    several = EnsembleSpec.find(folder) if folder.is_dir() else None
    parts = [BASE, READER] if told else several.parts if several is not None else []
    own = [p for p in sorted(folder.glob("*")) if p.suffix in (".json", ".safetensors") and p.name not in aside]
    return [*own, *(p for part in parts for p in list_files(folder / part))]


def _find(spec: ModelSpec, name: str) -> Path | None:
    if not (Path(spec.source).is_dir() or is_hub_id(spec.source)):
        return None
    return find_file(spec.source, name, spec.options.get("revision"))


def _read_json(spec: ModelSpec, name: str) -> Any:
    path = _find(spec, name)
    return None if path is None else json.loads(path.read_text(encoding="utf-8"))
