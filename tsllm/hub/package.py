"""Artefact folders that travel: what belongs in them, checks before an upload."""

import json
import re
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from transformers.utils import SAFE_WEIGHTS_NAME

from tsllm.backbones.reach import reach_hub
from tsllm.hub.licence import check_licence

ARTEFACTS = (
    "config.json",
    "model.safetensors",
    "forecaster.json",
    "calibration.safetensors",
    "README.md",
    "forecast.png",
    "metrics.json",
    "history.json",
    "lora/*",
)
REQUIRED = ("config.json", "model.safetensors", "README.md", "metrics.json")
TEXT_ARTEFACTS = (
    "adapter_config.json",
    "adapter_model.safetensors",
    "text_forecaster.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "chat_template.*",
    "README.md",
    "forecast.png",
    "metrics.json",
    "history.json",
)
TEXT_REQUIRED = (
    "adapter_config.json",
    "adapter_model.safetensors",
    "text_forecaster.json",
    "README.md",
    "metrics.json",
)
_PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl"}


class PackageError(ValueError):
    """An artefact folder that is not complete or not whole; the text lists what is wrong."""


def check_package(folder: str | Path) -> list[str]:
    """Checks the folder of a forecaster or of a text adapter and returns the files that an upload takes.

    Raises:
        PackageError: If a file is missing, damaged or a pickle; all faults are listed.
    """
    path = Path(folder)
    if not path.is_dir():
        raise PackageError(f"no folder {path}; give the output folder of a recipe")
    is_text = (path / "adapter_config.json").is_file()
    wanted, required = (TEXT_ARTEFACTS, TEXT_REQUIRED) if is_text else (ARTEFACTS, REQUIRED)
    faults = [f"{name} is missing" for name in required if not (path / name).is_file()]
    for weights in sorted(path.glob("**/*.safetensors")):
        if not any(part.startswith("checkpoint-") for part in weights.parts):
            faults += _check_weights(weights)
    for name in ("config.json", "metrics.json", "forecaster.json", "adapter_config.json", "text_forecaster.json"):
        if (path / name).is_file():
            faults += _check_json(path / name)
    faults += [f"{p.name} is a pickle; only safetensors travel" for p in path.iterdir() if p.suffix in _PICKLES]
    if faults:
        raise PackageError(f"{path} cannot be packaged: {'; '.join(faults)}; run the recipe again")
    return sorted({str(p.relative_to(path)) for pattern in wanted for p in path.glob(pattern) if p.is_file()})


def push_package(
    folder: str | Path, repo_id: str, *, private: bool = False, token: str | None = None, revision: str | None = None
) -> str:
    """Uploads the artefacts of a folder, without its checkpoints, in one commit.

    Args:
        folder: Output folder of a recipe; of a text recipe, the adapter with its tokenizer and settings travels.
        repo_id: "owner/name"; made if it does not exist.
        private: Whether a new repository is private.
        token: Access token; None = the stored one.
        revision: Branch to commit to; None = main.

    Returns:
        The commit's address.

    Raises:
        PackageError: As `check_package`.
        huggingface_hub.errors.HfHubHTTPError: If the Hub refuses.
    """
    from huggingface_hub import HfApi

    files = check_package(folder)
    reason = reach_hub()
    if reason:
        raise ConnectionError(f"nothing was pushed: {reason}")
    api = HfApi(token=token)
    api.create_repo(repo_id, private=private, exist_ok=True)
    commit = api.upload_folder(
        repo_id=repo_id,
        folder_path=str(folder),
        allow_patterns=files,
        commit_message="Upload forecaster",
        revision=revision,
    )
    return str(commit.commit_url)


def push_to_hub(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool = False,
    token: str | None = None,
    revision: str | None = None,
    licence: str | None = None,
) -> str:
    """Uploads a saved forecaster, whatever wrote it, in one commit, and returns the commit's address.

    The card is written anew for its place on the Hub; checkpoints stay behind.

    Args:
        folder: Output folder of `save_pretrained`, `tsllm fit` or a recipe.
        repo_id: "owner/name"; made if it does not exist.
        private: Whether a new repository is private.
        token: Access token; None = the stored one.
        revision: Branch to commit to; None = main.
        licence: Of the weights, as the Hub abbreviates it ("apache-2.0"); None = what was said when it was saved, else
            what backbone and data allow to say.

    Raises:
        PackageError: As `check_package`.
        ValueError: If the licence is no abbreviation.
        huggingface_hub.errors.HfHubHTTPError: If the Hub refuses.

    Example:
        ```python
        tsllm.push_to_hub("runs/fit", "me/prices", private=True, licence="cc-by-4.0")
        ```
    """
    said = check_licence(licence)
    files = check_package(folder)
    with tempfile.TemporaryDirectory() as place:
        made = Path(place) / "package"
        for name in files:
            (made / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(Path(folder) / name, made / name)
        write_card_for(made, repo_id, said)
        return push_package(made, repo_id, private=private, token=token, revision=revision)


def write_card_for(folder: Path, repo_id: str, licence: str) -> None:
    """Writes the card of a package for its place on the Hub; a folder without a description keeps its own."""
    from tsllm.hub.card import write_card
    from tsllm.hub.spec import SPEC_FILE, ForecasterSpec
    from tsllm.hub.text_card import write_text_card

    recipe = _find_recipe(folder)
    if (folder / "text_forecaster.json").is_file():
        write_text_card(folder, recipe=recipe or "sft_text", repo_id=repo_id, licence=licence or None)
    elif (folder / SPEC_FILE).is_file():
        if licence:
            replace(ForecasterSpec.load(folder), licence=licence).save(folder)
        write_card(folder, recipe=recipe, repo_id=repo_id)


def _find_recipe(folder: Path) -> str:
    """Returns the recipe that a card names; empty if it names none."""
    found = re.search(r"recipe(?:\*\*)?:? `(\w+)`", (folder / "README.md").read_text(encoding="utf-8"))
    return found[1] if found else ""


def _check_weights(path: Path) -> list[str]:
    try:
        with safe_open(path, framework="pt") as file:
            empty = not list(file.keys())
    except (SafetensorError, OSError) as error:
        return [f"{path.name} is damaged ({error})"]
    is_model = path.name in (SAFE_WEIGHTS_NAME, "adapter_model.safetensors")
    return [f"{path.name} holds no tensor"] if empty and is_model else []


def _check_json(path: Path) -> list[str]:
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        return [f"{path.name} is damaged ({error})"]
    return [] if isinstance(content, dict) else [f"{path.name} holds no object"]
