"""What a training run leaves in its output folder besides checkpoints."""

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from tsllm.data.facts import TrainingFacts
from tsllm.data.prepared import PreparedData
from tsllm.files import replace_folder, staging_folder
from tsllm.forecasting.base import count_torch_parameters, name_interval_columns
from tsllm.forecasting.neural import NeuralForecaster
from tsllm.hub.artefacts import OWNED, describe_environment, write_description
from tsllm.hub.card import PLOT_FILE
from tsllm.hub.plot import draw_forecast
from tsllm.hub.spec import ForecasterSpec
from tsllm.models.base import ForecastModel
from tsllm.types import ID, TARGET, TIME

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
    """

    model: ForecastModel
    spec: ForecasterSpec
    data: PreparedData
    metrics: dict[str, Any]
    history: list[dict[str, Any]]
    output_dir: Path
    is_main: bool

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


def describe_run(trainer: Any, data: PreparedData, model_name: str) -> dict[str, Any]:
    """Returns what `metrics.json` holds of every run on series besides its scores."""
    args, config = trainer.args, trainer.accelerator.unwrap_model(trainer.model).config
    trained, total = count_torch_parameters(trainer.model)
    return {
        "windows": 0 if data.test is None else len(data.test),
        "seconds": round(trainer.stopwatch.seconds, 3),
        "steps": trainer.state.global_step,
        "best_step": trainer.state.best_global_step,
        "epochs": trainer.state.epoch,
        "seed": args.seed,
        "model": model_name,
        "dataset": data.loaded.name,
        "context_length": config.context_length,
        "prediction_length": config.prediction_length,
        "parameters": {"trainable": trained, "total": total},
        "global_batch_size": args.per_device_train_batch_size * args.world_size * args.gradient_accumulation_steps,
        "learning_rate": args.learning_rate,
        "processes": args.world_size,
        "environment": describe_environment(),
    }


def describe_spec(data: PreparedData, alias: str, *, pad_short: bool) -> ForecasterSpec:
    """Returns what a saved forecaster needs to read frames and to give forecasts in original units."""
    task = data.task
    return ForecasterSpec(
        alias=alias,
        freq=task.freq,
        layout=task.layout,
        season=task.season,
        channels=data.channels,
        covariates=list(task.covariates),
        past_covariates=list(task.past_covariates),
        static=data.loaded.static,
        share_covariates=task.share_covariates,
        scaler=data.scaler.to_dict(),
        data=TrainingFacts([data.describe()]),
        pad_short=pad_short,
        names=data.loaded.names.to_dict(),
        target_scale=data.target_scale.to_dict(),
    )


def write_run(run: TrainingRun, trainer: Any, recipe: str) -> None:
    """Writes the artefact of a run, whole or not at all; every process takes part, the first one writes.

    The trainer writes the model, because it knows how to gather sharded weights. It is loaded from there again, so
    that calibration and picture come from the artefact.
    """
    with writing(trainer, OWNED) as staging:
        trainer.save_model(str(staging))
        if not run.is_main:
            return
        run.spec.save(staging)
        device = str(next(run.model.parameters()).device)
        forecaster = NeuralForecaster.from_pretrained(staging, device=device, batch_size=64)
        validation = run.data.validation
        if not forecaster.is_probabilistic and validation is not None and len(validation) > 1:
            forecaster.calibrate(_Thinned(validation, _CALIBRATION_WINDOWS))
        plot_forecast(forecaster, run.tested_frame(), staging / PLOT_FILE)
        write_description(
            staging,
            spec=run.spec,
            metrics=run.metrics,
            history=run.history,
            calibration=forecaster.calibration,
            recipe=recipe,
        )


@contextlib.contextmanager
def writing(trainer: Any, owned: Sequence[str]) -> Iterator[Path]:
    """Gives every process the folder in which the artefact is put together; it appears whole when the block ends.

    Args:
        trainer: Of the run; its first process writes.
        owned: As in `replace_folder`.
    """
    folder = str(trainer.args.output_dir)
    with replace_folder(folder, owned) if trainer.is_world_process_zero() else contextlib.nullcontext():
        yield staging_folder(folder)


def plot_forecast(forecaster: NeuralForecaster, frame: pd.DataFrame, path: str | Path) -> None:
    """Draws the last horizon of up to three series: history, forecast with its 80 % band, what happened.

    Args:
        forecaster: The forecaster.
        frame: Long frame in original units; its last horizon is forecast from what lies before.
        path: PNG to write.
    """
    h = forecaster.prediction_length
    groups = frame.groupby(ID, sort=False)
    history, ahead = groups.head(-h), groups.tail(h)
    level = [80] if forecaster.is_probabilistic or forecaster.calibration is not None else None
    covariates = list(forecaster.covariates)
    known = ahead[[ID, TIME, *covariates]] if covariates else None
    tail = history.groupby(ID, sort=False).tail(forecaster.context_length).reset_index(drop=True)
    forecast = forecaster.predict(tail, h, level=level, X_df=known)
    band = name_interval_columns(forecaster.alias, level) if level else None
    draw_forecast(tail, forecast.merge(ahead[[ID, TIME, TARGET]], on=[ID, TIME]), path, forecaster.alias, band)


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
