"""What a training run leaves in its output folder besides checkpoints."""

import json
import math
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from tsllm.data.prepared import PreparedData
from tsllm.forecasting.neural import NeuralPredictor
from tsllm.forecasting.spec import ForecasterSpec
from tsllm.models.base import ForecastModel
from tsllm.types import ID

METRICS_FILE = "metrics.json"
HISTORY_FILE = "history.json"
_CALIBRATION_WINDOWS = 512


@dataclass
class TrainingRun:
    """A finished run.

    Attributes:
        model: The model with its best weights.
        spec: How it reads frames.
        data: What it was trained on.
        metrics: The content of `metrics.json`.
        history: Logged losses, rates and validation scores, by step.
        output_dir: Folder of the artefacts.
        is_main: Whether this process writes.
        predictor: The forecaster as loaded from the written artefact; None before, and where nothing is written.
    """

    model: ForecastModel
    spec: ForecasterSpec
    data: PreparedData
    metrics: dict[str, Any]
    history: list[dict[str, Any]]
    output_dir: Path
    is_main: bool
    predictor: NeuralPredictor | None = None

    def summary(self) -> str:
        """Returns the outcome in a line."""
        m = self.metrics
        return (
            f"{m['model']} on {m['dataset']} {m['context_length']} -> {m['prediction_length']}, seed {m['seed']}: "
            f"test MSE {m['test']['mse']:.4f}, MAE {m['test']['mae']:.4f} over {m['windows']} windows, "
            f"{m['steps']} steps (best {m['best_step']}) in {m['seconds']:.0f} s -> {self.output_dir}"
        )

    def tested_frame(self) -> pd.DataFrame:
        """Returns the series in original units up to the end of their test parts."""
        frame = self.data.loaded.df
        ends = {series: borders.test for series, borders in self.data.borders.items()}
        return frame[frame.groupby(ID, sort=False).cumcount() < frame[ID].map(ends)].reset_index(drop=True)


def write_artefacts(run: TrainingRun) -> None:
    """Writes `forecaster.json`, `metrics.json`, `history.json` and, for a point head, the conformal calibration.

    The model itself is written by the trainer, which knows how to gather sharded weights. It is loaded from there
    again, so that what the card shows comes from the artefact.
    """
    folder = run.output_dir
    run.spec.save(folder)
    write_json(folder / METRICS_FILE, run.metrics)
    write_json(folder / HISTORY_FILE, run.history)
    device = str(next(run.model.parameters()).device)
    run.predictor = NeuralPredictor.from_pretrained(folder, device=device, batch_size=64)
    validation = run.data.validation
    if not run.predictor.is_probabilistic and validation is not None and len(validation) > 1:
        run.predictor.calibrate(_Thinned(validation, _CALIBRATION_WINDOWS))  # type: ignore[arg-type]
        assert run.predictor.calibration is not None
        run.predictor.calibration.save(folder)


class _Thinned:
    """Evenly spaced windows of a set, the first and the last among them."""

    def __init__(self, windows: Any, limit: int) -> None:
        self.windows = windows
        self.indices = torch.linspace(0, len(windows) - 1, min(limit, len(windows))).round().long()

    def __len__(self) -> int:
        return len(self.indices)

    def gather(self, indices: torch.Tensor) -> Any:
        return self.windows.gather(self.indices[indices])


def prepare_output_dir(folder: str | Path, *, resume: bool, overwrite: bool) -> Path:
    """Makes the folder and looks after checkpoints of an earlier run.

    Raises:
        FileExistsError: If there are some and neither `resume` nor `overwrite` is set.
    """
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    checkpoints = sorted(path.glob("checkpoint-*"))
    if checkpoints and not resume:
        if not overwrite:
            raise FileExistsError(
                f"{path} holds {len(checkpoints)} checkpoint(s) of an earlier run; pass --resume_from_checkpoint to "
                "go on, --overwrite_output_dir to delete them, or choose another --output_dir"
            )
        for checkpoint in checkpoints:
            shutil.rmtree(checkpoint)
    return path


def count_parameters(model: torch.nn.Module) -> dict[str, int]:
    """Returns how many parameters the model has and how many of them are trained."""
    total = sum(p.numel() for p in model.parameters())
    return {"trainable": sum(p.numel() for p in model.parameters() if p.requires_grad), "total": total}


def describe_environment() -> dict[str, Any]:
    """Returns versions, hardware, command and commit, for the model card."""
    versions = {"python": platform.python_version()}
    for name in ("tsllm", "torch", "transformers", "peft", "trl", "accelerate"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    hardware = f"{os.cpu_count()} CPU cores ({platform.machine()})"
    if torch.cuda.is_available():
        hardware = f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    return {"versions": versions, "hardware": hardware, "command": describe_command(), "commit": find_commit()}


def describe_command() -> str:
    """Returns the command line of this program, with the program's path as seen from the project."""
    program = Path(sys.argv[0])
    shown = Path("recipes") / program.name if program.parent.name == "recipes" else Path(program.name)
    return " ".join(["accelerate launch", str(shown), *sys.argv[1:]])


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


def write_json(path: Path, content: Any) -> None:
    """Writes JSON; NaN and infinities become null."""
    text = json.dumps(_finite(content), indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def _finite(content: Any) -> Any:
    """Returns `content` with NaN and infinities as null: JSON has no such numbers."""
    if isinstance(content, dict):
        return {str(k): _finite(v) for k, v in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(v) for v in content]
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return content
