"""Artefact folders that travel: what belongs in them, checks before an upload."""

import json
import re
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard
from safetensors import SafetensorError, safe_open
from transformers.utils import SAFE_WEIGHTS_NAME

from tsllm.backbones.reach import reach_hub
from tsllm.hub.ensemble import EnsembleSpec, write_ensemble_card
from tsllm.hub.licence import check_licence
from tsllm.hub.record import CARD_FILE, HISTORY_FILE, METRICS_FILE, write_card_file
from tsllm.hub.spec import SPEC_FILE
from tsllm.hub.told import BASE, CONTEXT_FILE, LEARNED, READER, READER_FILES, SPOKEN
from tsllm.text.settings import SETTINGS, SPOKEN_SETTINGS

ARTEFACTS = (
    "config.json",
    "model.safetensors",
    "forecaster.json",
    "calibration.safetensors",
    CARD_FILE,
    "forecast.png",
    METRICS_FILE,
    HISTORY_FILE,
    "lora/*",
)
REQUIRED = ("config.json", "model.safetensors", CARD_FILE, METRICS_FILE)
TEXT_ARTEFACTS = (
    "adapter_config.json",
    "adapter_model.safetensors",
    SETTINGS,
    SPOKEN_SETTINGS,
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "chat_template.*",
    CARD_FILE,
    "forecast.png",
    METRICS_FILE,
    HISTORY_FILE,
)
TEXT_REQUIRED = (
    "adapter_config.json",
    "adapter_model.safetensors",
    CARD_FILE,
    METRICS_FILE,
)
_PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl"}


class PackageError(ValueError):
    """An artefact folder that is not complete or not whole; the text lists what is wrong."""


def check_package(folder: str | Path) -> list[str]:
    """Checks the folder of a saved forecaster of any sort, or of a text adapter, and returns the files of an upload.

    Raises:
        PackageError: If a file is missing, damaged or a pickle; all faults are listed.
    """
    path = Path(folder)
    if not path.is_dir():
        raise PackageError(f"no folder {path}; give the output folder of a recipe")
    if (path / CONTEXT_FILE).is_file():
        return _check_told(path)
    several = EnsembleSpec.find(path)
    if several is not None:
        return _check_ensemble(path, several)
    is_text = (path / "adapter_config.json").is_file()
    wanted, required = (TEXT_ARTEFACTS, list(TEXT_REQUIRED)) if is_text else (ARTEFACTS, list(REQUIRED))
    if is_text and not (path / SPOKEN_SETTINGS).is_file():
        required.append(SETTINGS)
    faults = [f"{name} is missing" for name in required if not (path / name).is_file()]
    for weights in sorted(path.glob("**/*.safetensors")):
        if not any(part.startswith("checkpoint-") for part in weights.parts):
            faults += _check_weights(weights)
    for name in ("config.json", METRICS_FILE, "forecaster.json", "adapter_config.json", SETTINGS, SPOKEN_SETTINGS):
        if (path / name).is_file():
            faults += _check_json(path / name)
    faults += [f"{p.name} is a pickle; only safetensors travel" for p in path.iterdir() if p.suffix in _PICKLES]
    if faults:
        raise PackageError(f"{path} cannot be packaged: {'; '.join(faults)}; run the recipe again")
    return sorted({str(p.relative_to(path)) for pattern in wanted for p in path.glob(pattern) if p.is_file()})


def _check_told(path: Path) -> list[str]:
    """Checks the folder of a forecaster that is told something: settings, base, and a trained reader if it has one."""
    faults = [f"{name} is missing" for name in (CARD_FILE,) if not (path / name).is_file()]
    faults += _check_json(path / CONTEXT_FILE)
    files, base = [CONTEXT_FILE, CARD_FILE], path / BASE
    if (base / CONTEXT_FILE).is_file():
        faults.append(f"{BASE}/ is told something itself; a told forecaster's base must be a plain one")
    else:
        _add_part(path, BASE, files, faults)
    readers = [] if faults else json.loads((path / CONTEXT_FILE).read_text(encoding="utf-8"))["readers"]
    if SPOKEN in readers and not (path / READER / SPOKEN_SETTINGS).is_file():
        faults.append(f"{READER}/{SPOKEN_SETTINGS} is missing")
    elif SPOKEN in readers:
        _add_part(path, READER, files, faults)
    for name in READER_FILES if LEARNED in readers else ():
        file = path / READER / name
        if not file.is_file():
            faults.append(f"{READER}/{name} is missing")
        else:
            faults += [f"{READER}/{f}" for f in (_check_json if file.suffix == ".json" else _check_weights)(file)]
            files.append(f"{READER}/{name}")
    if faults:
        raise PackageError(f"{path} cannot be packaged: {'; '.join(faults)}; save it again")
    return sorted(files)


def _check_ensemble(path: Path, spec: EnsembleSpec) -> list[str]:
    """Checks the folder of an ensemble: description, card, and every member."""
    files, faults = [SPEC_FILE, CARD_FILE], []
    if not (path / CARD_FILE).is_file():
        faults.append(f"{CARD_FILE} is missing")
    for part in spec.parts:
        _add_part(path, part, files, faults)
    if faults:
        raise PackageError(f"{path} cannot be packaged: {'; '.join(faults)}; save it again")
    return sorted(files)


def _add_part(path: Path, part: str, files: list[str], faults: list[str]) -> None:
    """Adds the files of a folder within, or what is wrong with them."""
    try:
        files += [f"{part}/{name}" for name in check_package(path / part)]
    except PackageError as error:
        faults.append(f"its {part}: {error}")


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
    reason = reach_hub(tell=False)
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

    The card is written anew for its place on the Hub; checkpoints stay behind. The texts that a told forecaster keeps
    travel with it, and so do all members of an ensemble.

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


def write_card_for(folder: Path, repo_id: str | None, licence: str) -> None:
    """Writes the card of a package for its place on the Hub; a folder without a description keeps its own."""
    from tsllm.hub.card import write_card
    from tsllm.hub.spec import ForecasterSpec
    from tsllm.hub.text_card import write_text_card

    if (folder / CONTEXT_FILE).is_file():
        from tsllm.hub.told_card import write_told_card

        if licence:
            write_card_for(folder / BASE, None, licence)
        write_told_card(folder, repo_id)
        return
    several = EnsembleSpec.find(folder)
    if several is not None:
        for part in several.parts if licence else ():
            write_card_for(folder / part, None, licence)
        write_ensemble_card(folder, repo_id)
        return
    recipe = _find_recipe(folder)
    if (folder / SPOKEN_SETTINGS).is_file():
        if licence:
            _license_card(folder, licence)
    elif (folder / SETTINGS).is_file():
        write_text_card(folder, recipe=recipe or "sft_text", repo_id=repo_id, licence=licence or None)
    elif (folder / SPEC_FILE).is_file():
        if licence:
            replace(ForecasterSpec.load(folder), licence=licence).save(folder)
        write_card(folder, recipe=recipe, repo_id=repo_id)


def _license_card(folder: Path, licence: str) -> None:
    """Writes a licence into a card that is not made from the folder's files."""
    card = ModelCard.load(str(folder / CARD_FILE), ignore_metadata_errors=True)
    card.data.license = licence
    write_card_file(folder, f"---\n{card.data.to_yaml()}\n---\n\n{card.text.lstrip()}")


def _find_recipe(folder: Path) -> str:
    """Returns the recipe that a card names; empty if it names none."""
    found = re.search(r"recipe(?:\*\*)?:? `(\w+)`", (folder / CARD_FILE).read_text(encoding="utf-8"))
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
