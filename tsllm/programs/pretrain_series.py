"""Pre-training of one model on an endless stream of synthetic series: what `recipes/pretrain_series.py` runs."""

import contextlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import set_seed
from transformers.trainer import TRAINER_STATE_NAME

from tsllm.data.facts import DataRead, TrainingFacts
from tsllm.data.panels import RealPanels, load_panels
from tsllm.data.synthetic import SyntheticConfig, SyntheticWindows, build_stream
from tsllm.files import replace_folder, staging_folder
from tsllm.forecasting.base import count_torch_parameters
from tsllm.hub.artefacts import OWNED, describe_environment, write_description
from tsllm.hub.spec import ANY_FREQ, ForecasterSpec
from tsllm.models import find_model_class
from tsllm.models.base import ForecastModel
from tsllm.nn.seasonal import view_seasons
from tsllm.programs.artefacts import prepare_output_dir
from tsllm.training.args import ArgumentsError, ForecastTrainingArguments, ModelArguments, build_arguments
from tsllm.training.build import read_model_config
from tsllm.training.trainer import ForecastTrainer, find_checkpoint

RECIPE = "pretrain_series"
TARGET_LIMIT = 100.0  # seasonal changes; a window whose future lies further away teaches nothing but its own size


@dataclass
class StreamArguments:
    """Which synthetic series are drawn.

    Attributes:
        series: Fields of `SyntheticConfig` that differ from the defaults.
        context_length: L, the longest context, steps.
        prediction_length: H, steps forecast at once.
        series_seed: Of the series; None = `seed`.
        validation_windows: Windows held out of training that choose the best checkpoint.
        alias: Name of the forecast column; empty = the model's class.
        real_data: Named data sets whose training parts are read beside the synthetic series (`tsllm.data.panels`);
            `packaged` = all that need no file. Empty = synthetic series alone.
        held_out: Named data sets of which nothing may be read; the card names them.
        real_share: Share of real windows where `real_data` is given.
    """

    series: dict[str, Any] = field(default_factory=dict, metadata={"help": "fields of SyntheticConfig"})
    context_length: int = 512
    prediction_length: int = 32
    series_seed: int | None = None
    validation_windows: int = 2048
    alias: str = ""
    real_data: list[str] = field(default_factory=list, metadata={"help": "named data sets, or packaged"})
    held_out: list[str] = field(default_factory=list, metadata={"help": "named data sets that are never read"})
    real_share: float = 0.5

    def load_panels(self) -> RealPanels | None:
        """Returns the real series to draw from; None if there are none.

        Raises:
            ArgumentsError: If names and what is held out do not fit one another.
        """
        try:
            return load_panels(self.real_data, self.held_out, self.real_share)
        except ValueError as error:
            raise ArgumentsError(str(error)) from error

    def build_config(self, seed: int) -> SyntheticConfig:
        """Returns the configuration of the stream.

        Raises:
            ArgumentsError: If `series` has unknown fields or values of another type.
        """
        taken = sorted({"context_length", "prediction_length", "seed"} & set(self.series))
        if taken:
            raise ArgumentsError(f"series sets {taken}, which have arguments of their own; leave them out there")
        (config,) = build_arguments((SyntheticConfig,), self.series)
        fields = {name: getattr(config, name) for name in self.series}
        chosen = seed if self.series_seed is None else self.series_seed
        return SyntheticConfig(self.context_length, self.prediction_length, chosen, **fields)


class StreamCollator:
    """Gives each window the unit that its loss counts in, and passes on what the model reads.

    The unit is the window's own mean seasonal change, the denominator of MASE; the centre its last level. Models
    that normalise every window forecast the same in any unit.

    Args:
        keys: Names of the tensors that the model reads.
    """

    def __init__(self, keys: list[str]) -> None:
        self.keys = frozenset(keys)

    def __call__(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Scales one batch; a future further away than `TARGET_LIMIT` becomes missing."""
        values, mask = batch["past_values"].squeeze(-1), batch["past_observed_mask"].squeeze(-1)
        view = view_seasons(values, mask, batch["season"], 1, 1)
        loc, scale = view.loc.unsqueeze(-1), view.scale.unsqueeze(-1)  # [B, 1, 1]
        future = (batch["future_values"] - loc) / scale
        far = (future.abs() > TARGET_LIMIT).any(1, keepdim=True)
        scaled = batch | {
            "past_values": torch.where(batch["past_observed_mask"], (batch["past_values"] - loc) / scale, 0.0),
            "future_values": future.masked_fill(far, torch.nan),
        }
        return {key: value for key, value in scaled.items() if key in self.keys}


class _StreamedSet:
    """Stands where a trainer asks for the size of its training set.

    Args:
        length: Windows that the planned steps draw.
    """

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length


class StreamTrainer(ForecastTrainer):
    """A `ForecastTrainer` whose training windows come from a stream that each process has a shard of.

    A resumed run goes on with the batch after the last trained one; nothing is drawn twice.

    Args:
        model: The model.
        args: Training arguments; `max_steps` says how long.
        config: What is drawn.
        validation: Held-out windows.
        panels: Real series among the synthetic ones; None = none.
    """

    def __init__(
        self,
        model: ForecastModel,
        args: ForecastTrainingArguments,
        config: SyntheticConfig,
        validation: SyntheticWindows | None,
        panels: RealPanels | None = None,
    ) -> None:
        if args.max_steps < 1:
            raise ArgumentsError(f"max_steps is {args.max_steps}; a stream has no end, so say how many steps to train")
        args.ignore_data_skip = True  # the stream itself starts where the checkpoint ended
        self.stream_config, self.panels, self._start = config, panels, 0
        windows = args.per_device_train_batch_size * args.world_size * args.gradient_accumulation_steps
        super().__init__(model, args, _StreamedSet(args.max_steps * windows), validation)  # type: ignore[arg-type]
        self.collator = self.data_collator = StreamCollator(model.input_keys())  # type: ignore[assignment]
        self._windows, self._logged = windows, (0, 0.0)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Adds the step and `windows_per_second` over all processes to each logged loss.

        The epoch is the share of the planned steps, also after a resumption.
        """
        if self.state.max_steps > 0:
            self.state.epoch = self.state.global_step / self.state.max_steps
        if "loss" in logs:
            logs["step"] = self.state.global_step
            (step, seconds), now = self._logged, (self.state.global_step, self.stopwatch.seconds)
            if now[0] > step >= 0 and now[1] > seconds:
                logs["windows_per_second"] = round((now[0] - step) * self._windows / (now[1] - seconds), 1)
            self._logged = now
        super().log(logs, *args, **kwargs)

    def get_train_dataloader(self) -> DataLoader:
        """Returns the loader of this process's shards."""
        from datasets.distributed import split_dataset_by_node

        args = self.args
        count = args.world_size * max(1, args.dataloader_num_workers)
        size, processes = args.per_device_train_batch_size, args.world_size
        stream = build_stream(self.stream_config, size, count, self._start, self.panels, processes)
        own = split_dataset_by_node(stream, rank=args.process_index, world_size=processes)
        return DataLoader(own, batch_size=None, num_workers=args.dataloader_num_workers, collate_fn=self.collator)

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """Trains, or goes on from a checkpoint."""
        checkpoint = resume_from_checkpoint or None
        if checkpoint is True:
            checkpoint = str(find_checkpoint(self.args.output_dir or ".", self.args.world_size))
        if checkpoint is not None:
            state = json.loads((Path(checkpoint) / TRAINER_STATE_NAME).read_text(encoding="utf-8"))
            self._start = state["global_step"] * self.args.gradient_accumulation_steps
        return super().train(checkpoint, *args, **kwargs)


@dataclass
class PretrainedRun:
    """A finished pre-training.

    Attributes:
        metrics: The content of `metrics.json`.
        output_dir: Folder of the artefacts.
        is_main: Whether this process writes.
    """

    metrics: dict[str, Any]
    output_dir: Path
    is_main: bool

    def summary(self) -> str:
        """Returns the outcome in a line."""
        m = self.metrics
        scores, count = m["validation"] or {}, m["processes"]
        return (
            f"{m['model']} on synthetic series, seed {m['seed']}: validation loss "
            f"{scores.get('loss', float('nan')):.4f} "
            f"({m['seasonal_naive_mae']:.4f} MAE of the seasonal naive, {scores.get('mae', float('nan')):.4f} own), "
            f"{m['steps']} steps in {m['seconds']:.0f} s on {count} process{'es' if count > 1 else ''} "
            f"-> {self.output_dir}"
        )


def run_pretrain_series(
    stream: StreamArguments, model_args: ModelArguments, args: ForecastTrainingArguments
) -> PretrainedRun:
    """Trains a univariate model on synthetic series and writes an artefact that forecasts any series.

    Raises:
        ArgumentsError: If the arguments do not fit one another.
        FileExistsError: If the output folder holds another run.
    """
    resume = bool(args.resume_from_checkpoint)
    with args.main_process_first(desc="preparing the output folder"):
        folder = prepare_output_dir(
            args.output_dir or ".", resume=resume or not args.should_save, overwrite=args.overwrite_output_dir
        )
    config = stream.build_config(args.seed if args.data_seed is None else args.data_seed)
    panels = stream.load_panels()
    validation = SyntheticWindows(config, stream.validation_windows)
    set_seed(args.seed)
    model = build_model(stream, model_args)
    evaluated = str(args.eval_strategy) != "no"
    trainer = StreamTrainer(model, args, config, validation if evaluated else None, panels)
    trainer.train(args.resume_from_checkpoint)
    run = PretrainedRun(
        describe_run(trainer, stream, model_args.model, validation), folder, trainer.is_world_process_zero()
    )
    write_run(run, trainer, describe_forecaster(stream, model, config, run.metrics["windows"], panels))
    return run


def describe_run(
    trainer: StreamTrainer, stream: StreamArguments, model_name: str, validation: SyntheticWindows
) -> dict[str, Any]:
    """Returns the content of `metrics.json`: validation scores and facts; there is no test part."""
    args, state, real = trainer.args, trainer.state, trainer.panels
    scores = trainer.evaluate(validation)  # type: ignore[arg-type]
    trained, total = count_torch_parameters(trainer.accelerator.unwrap_model(trainer.model))
    batch = args.per_device_train_batch_size * args.world_size * args.gradient_accumulation_steps
    return {
        "test": None,
        "validation": {k.removeprefix("eval_"): v for k, v in scores.items() if k.startswith("eval_")},
        "seasonal_naive_mae": score_naive(validation),
        "unit": "mean seasonal change of the window, as in MASE",
        "scaled": True,
        "windows": state.global_step * batch,
        "seconds": round(trainer.stopwatch.seconds, 3),
        "processor_seconds": round(trainer.stopwatch.processor_seconds, 3),
        "test_seconds": 0.0,
        "steps": state.global_step,
        "best_step": state.best_global_step,
        "seed": args.seed,
        "series_seed": trainer.stream_config.seed,
        "model": model_name,
        "dataset": "synthetic",
        "real_data": [panel.name for panel in real.panels] if real is not None else [],
        "held_out": list(real.held_out) if real is not None else [],
        "real_share": real.share if real is not None else 0.0,
        "series": stream.series,
        "context_length": stream.context_length,
        "prediction_length": stream.prediction_length,
        "parameters": {"trainable": trained, "total": total},
        "global_batch_size": batch,
        "learning_rate": args.learning_rate,
        "processes": args.world_size,
        "environment": describe_environment(),
    }


def write_run(run: PretrainedRun, trainer: StreamTrainer, spec: ForecasterSpec) -> None:
    """Writes the artefact, whole or not at all; every process takes part, the first one writes."""
    staging = staging_folder(run.output_dir)
    with replace_folder(run.output_dir, OWNED) if run.is_main else contextlib.nullcontext():
        trainer.save_model(str(staging))
        if run.is_main:
            write_description(
                staging, spec=spec, metrics=run.metrics, history=trainer.state.log_history, recipe=RECIPE
            )


def build_model(stream: StreamArguments, args: ModelArguments) -> ForecastModel:
    """Builds the univariate model, or loads `pretrained` to go on with.

    Raises:
        ArgumentsError: If `model_config` names unknown fields, or a prompt that speaks of a data set's series.
    """
    model_class = find_model_class(args.model)
    values = read_model_config(model_class.config_class, args.model_config)
    if values.get("prompt_domain") or values.get("prompt_statistics") == "series":
        raise ArgumentsError(
            "prompt_domain and prompt_statistics: series describe one data set, and this model is for all; leave them "
            "out, or set prompt: false"
        )
    if args.pretrained is not None:
        if values:
            raise ArgumentsError(f"pretrained brings its own configuration; leave out {sorted(values)}")
        return model_class.from_pretrained(args.pretrained)
    sizes: dict[str, Any] = {"context_length": stream.context_length, "prediction_length": stream.prediction_length}
    return model_class(model_class.config_class(**values, **sizes, num_channels=1))


def describe_forecaster(
    stream: StreamArguments,
    model: ForecastModel,
    config: SyntheticConfig,
    windows: int,
    panels: RealPanels | None = None,
) -> ForecasterSpec:
    """Returns what the artefact says of itself: any frequency, no scaler, and all data that it read."""
    read = DataRead(
        name="synthetic",
        origin=f"synthetic series of tsllm.data.synthetic, seed {config.seed}; {describe_panels(panels)}",
        domain="series of every kind",
        windows={"train": windows, "validation": stream.validation_windows},
    )
    return ForecasterSpec(
        alias=stream.alias or type(model).__name__,
        freq=ANY_FREQ,
        layout="univariate",
        data=TrainingFacts([*(panel.read for panel in panels.panels), read] if panels is not None else [read]),
        new_series="history",
        pad_short=True,
    )


def describe_panels(panels: RealPanels | None) -> str:
    """Says which real data are read and which are held out.

    >>> describe_panels(None)
    'no real data'
    """
    if panels is None:
        return "no real data"
    names = ", ".join(panel.name for panel in panels.panels)
    held_out = ", ".join(panels.held_out) or "nothing"
    return f"{panels.share:.0%} of the groups of windows from the training parts of {names}; held out: {held_out}"


@torch.no_grad()
def score_naive(windows: SyntheticWindows) -> float:
    """Returns the mean absolute error of the seasonal naive on synthetic windows, in units of their loss."""
    batch = windows.gather(torch.arange(len(windows)))
    scaled = StreamCollator(["past_values", "past_observed_mask", "future_values", "season"])(batch)
    values, mask = scaled["past_values"].squeeze(-1), scaled["past_observed_mask"].squeeze(-1)
    naive = view_seasons(values, mask, scaled["season"], windows.prediction_length).naive
    return float((scaled["future_values"].squeeze(-1) - naive).abs().nanmean())
