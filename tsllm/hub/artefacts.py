"""What an artefact folder of a forecaster holds, and the one writer of all of it but the model."""

import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from tsllm.hub.card import PLOT_FILE, write_card
from tsllm.hub.record import CARD_FILE, HISTORY_FILE, METRICS_FILE, write_history, write_metrics
from tsllm.hub.spec import CALIBRATION_FILE, SPEC_FILE, Calibration, ForecasterSpec
from tsllm.nn.matmul import describe_matmul

# What belongs to an artefact; a new one in the same folder replaces all of it. The last lines are a text forecaster's
# and a told forecaster's, whose settings would make their folder out of any other.
OWNED = (
    "config.json",
    "model.safetensors",
    SPEC_FILE,
    CALIBRATION_FILE,
    CARD_FILE,
    PLOT_FILE,
    METRICS_FILE,
    HISTORY_FILE,
    "lora",
    "text_forecaster.json",
    "adapter_*",
    "model-*.safetensors",
    "model.safetensors.index.json",
    "generation_config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template*",
    "context.json",
)


def write_description(
    folder: Path,
    *,
    spec: ForecasterSpec,
    metrics: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    calibration: Calibration | None = None,
    recipe: str = "",
) -> None:
    """Writes everything but the model: `forecaster.json`, `metrics.json`, `history.json`, calibration, card.

    Args:
        folder: Folder that holds the model already.
        spec: How frames become its batches.
        metrics: Scores and facts of the training; `test` is None where there was no test part.
        history: What training logged.
        calibration: Conformal half-widths; None = none.
        recipe: Name of the recipe, for the card; empty = `NeuralForecaster.fit`.
    """
    spec.save(folder)
    write_metrics(folder, metrics)
    write_history(folder, history)
    if calibration is not None:
        calibration.save(folder)
    write_card(folder, recipe=recipe)


def describe_environment() -> dict[str, Any]:
    """Returns versions, hardware, what computes matrix products, command and commit, for the model card."""
    versions = {"python": platform.python_version()}
    for name in ("tsllm", "torch", "transformers", "peft", "trl", "accelerate"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    hardware = f"{os.cpu_count()} CPU cores ({platform.machine()})"
    if torch.cuda.is_available():
        hardware = f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    found = {"versions": versions, "hardware": hardware, "products": describe_matmul()}
    return found | {"command": describe_command(), "commit": find_commit()}


def describe_command() -> str:
    """Returns the command line of this program, with the program's path as seen from the project."""
    program = Path(sys.argv[0])
    if program.parent.name == "recipes":
        return " ".join(["accelerate launch", str(Path("recipes") / program.name), *sys.argv[1:]])
    return " ".join([program.name, *sys.argv[1:]])


def find_commit() -> str | None:
    """Returns the commit of the checkout that the package runs from; None for an installed package."""
    try:
        found = subprocess.run(
            ["git", "-C", str(Path(__file__).resolve().parent), "rev-parse", "--short=12", "HEAD"],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except OSError:
        return None
    return found.stdout.strip() or None
