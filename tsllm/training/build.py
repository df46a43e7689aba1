"""Where a configuration meets the data: sizes, units and prompts; and one training of a model in memory."""

import inspect
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, PrinterCallback

from tsllm.backbones.pretrained import check_pretrained
from tsllm.data.prepared import PreparedData
from tsllm.models import find_model_class, name_model_class
from tsllm.models.base import ForecastModel
from tsllm.models.config import ForecastConfig
from tsllm.progress import Bar
from tsllm.training.args import ArgumentsError, ForecastTrainingArguments, coerce
from tsllm.training.callbacks import Progress, ProgressLine, TimeLimit, TrainingBar
from tsllm.training.in_memory import complete_training
from tsllm.training.trainer import ForecastTrainer
from tsllm.types import FrameError

FROM_DATA = (
    "context_length",
    "prediction_length",
    "num_channels",
    "num_time_features",
    "num_covariates",
    "num_known_covariates",
)
UNTRAINED = "untrained"  # how a training ends that was asked for no step


def build_for_data(
    name: str, given: Mapping[str, Any], data: PreparedData, *, pretrained: str | Path | None = None
) -> ForecastModel:
    """Builds a model for the data, or loads `pretrained` and fits it to them.

    Args:
        name: Of the table, or the dotted path of a class.
        given: Fields of the configuration, without those that the data decide. What is not given is the model's
            `default_config_for` these data, else the configuration's own default.
        data: What it will be trained on.
        pretrained: Folder or Hub id of a model to start from. Of a forecaster `given` may change what
            `NeuralForecaster.from_pretrained` may; of an encoder that was only pre-trained, everything.

    Raises:
        ArgumentsError: If `given` names unknown fields or such that the data decide, or `pretrained` is another model.
        ValueError: If `given` would change what a saved forecaster fixes, or the data have other sizes.
        FrameError: As `check_calibration`.
    """
    model_class = find_model_class(name)
    asked = read_model_config(model_class.config_class, given)
    values = model_class.config_for(data) | asked
    if asked.get("loss") == "smape" and data.scaler.name != "none":
        raise ArgumentsError(
            f"loss smape is relative to the level of a series, which scaler {data.scaler.name!r} takes away; set "
            "scaler: none"
        )
    if pretrained is None:
        values = model_class.default_config_for(data, asked) | values
        model = model_class(model_class.config_class(**values))
    else:
        model = _start_from(str(pretrained), model_class, asked, data)
    model.describe_data(data)
    check_calibration(data, model.config)
    return model


def check_calibration(data: PreparedData, config: ForecastConfig) -> None:
    """Refuses before training what could not be calibrated after it: intervals of a point forecast come from
    validation, so every step ahead of every channel needs an observed value there.

    Raises:
        FrameError: Naming the series.
    """
    if data.validation is None or config.head != "point":
        return
    counts = data.validation.count_targets()  # [H, C]
    step, channel = (int(i) for i in np.unravel_index(int(counts.argmin()), counts.shape))
    if counts[step, channel]:
        return
    whose = f"series {data.channels[channel]!r}" if data.channels else "the series"
    raise FrameError(
        f"{whose}: no validation window has an observed value {step + 1} step(s) ahead, so intervals cannot be "
        "calibrated; end the series where its values end, leave it out, hold more steps for validation, or train a "
        "head that knows its intervals (head: quantile)"
    )


def _start_from(
    pretrained: str, model_class: type[ForecastModel], asked: dict[str, Any], data: PreparedData
) -> ForecastModel:
    config = AutoConfig.from_pretrained(pretrained, trust_remote_code=False)
    if not isinstance(config, model_class.config_class):
        raise ArgumentsError(
            f"{pretrained} holds a {config.model_type} model, but model is {name_model_class(model_class)}"
        )
    if config.model_type != model_class.config_class.model_type:
        # A pre-training's configuration knows nothing of forecasting losses and heads.
        own = {name: getattr(config, name) for name in model_class.config_class.own_fields()}
        made = model_class.config_class(**own | model_class.config_for(data) | asked)
        return model_class.from_pretrained(pretrained, config=made)
    model = model_class.from_pretrained(pretrained)
    model.change(asked)
    lengths = (data.train.context_length, data.train.prediction_length)
    if lengths != (model.config.context_length, model.config.prediction_length):
        model.resize(*lengths)
    if data.time_features:  # by default as the saved model has it
        data.time_features = bool(model.config.num_time_features)
    model.adopt(data)
    return model


def read_model_config(config_class: type[ForecastConfig], given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `given` with each value held to its field's type.

    Raises:
        ArgumentsError: For unknown fields, wrong types and fields that the data decide.
    """
    taken = sorted(set(given) & set(FROM_DATA))
    if taken:
        raise ArgumentsError(f"model_config sets {taken}, which follow from the data arguments; leave them out there")
    known = config_class.own_fields() - set(FROM_DATA)
    unknown = sorted(set(given) - known)
    if unknown:
        raise ArgumentsError(f"model_config has unknown fields {unknown}; known: {', '.join(sorted(known))}")
    hints: dict[str, Any] = {}
    for cls in reversed(config_class.__mro__):
        if issubclass(cls, ForecastConfig):  # the library's own annotations do not all resolve
            hints |= inspect.get_annotations(cls, eval_str=True)
    return {name: coerce(value, hints[name], f"model_config.{name}") for name, value in given.items()}


def check_model_config(
    name: str,
    given: Mapping[str, Any],
    context_length: int | None = None,
    h: int | None = None,
    named: bool = False,
) -> None:
    """Checks the fields of a configuration before any data are there, as far as that goes.

    Args:
        name: Of the model.
        given: Fields without those that the data decide.
        context_length: L, if it is known already.
        h: H, if it is known already.
        named: Whether somebody named covariates that it is to read.

    Raises:
        ValueError: Naming the field, its value and what is allowed.
    """
    model_class = find_model_class(name)
    config_class = model_class.config_class
    values = model_class.default_fields(given, named) | read_model_config(config_class, given)
    for field in ("backbone", "text_backbone"):
        if values.get(field):
            check_pretrained(values[field], field)
    lengths = {"prediction_length": h, "context_length": context_length}
    # Without a length, one that leaves room for every patch.
    config_class(**({"context_length": 4096} | {k: v for k, v in lengths.items() if v is not None} | values))


def train_model(
    model: ForecastModel,
    data: PreparedData,
    training: Mapping[str, Any],
    progress: Progress | None = None,
    max_seconds: float | None = None,
    label: str = "",
) -> list[dict[str, Any]]:
    """Trains `model` in place, ends with the weights of the best validation loss, and returns the log.

    Args:
        model: The model.
        data: Its windows; without a validation part there is no early stopping, and the last weights stay.
        training: Fields of `ForecastTrainingArguments`.
        progress: Is told each logged step.
        max_seconds: Training stops after so many seconds, after one last validation; None = no limit.
        label: What a bar on the terminal says; empty = no bar.
    """
    options: dict[str, Any] = {
        "disable_tqdm": True,
        "save_only_model": True,
        "logging_steps": 50,
        "dataloader_pin_memory": torch.cuda.is_available(),
    } | dict(training)
    options = complete_training(options, validates=data.validation is not None)
    with tempfile.TemporaryDirectory() as folder:
        options.setdefault("output_dir", folder)
        trainer = ForecastTrainer(model, ForecastTrainingArguments(**options), data.train, data.validation)
        trainer.remove_callback(PrinterCallback)
        if max_seconds is not None:
            trainer.add_callback(TimeLimit(max_seconds))
        if progress is not None:
            trainer.add_callback(ProgressLine(progress))
        with Bar(label, verbose=bool(label)) as bar:
            trainer.add_callback(TrainingBar(bar))
            trainer.train()
    model.eval()
    return [*trainer.state.log_history, describe_end(trainer)]


def describe_end(trainer: ForecastTrainer) -> dict[str, Any]:
    """Returns the last entry of a training log: `step`, `windows_seen` (repeats counted) and `stopped_by`.

    `stopped_by` is "time", "steps" (the limit of steps or epochs), "patience", or "untrained" where there was no step.
    """
    steps = trainer.state.global_step
    if trainer.args.max_steps == 0:
        return {"step": 0, "windows_seen": 0, "stopped_by": UNTRAINED}
    windows, batches = len(trainer.padded_train()), len(trainer.batches)
    epochs, rest = divmod(steps * trainer.args.gradient_accumulation_steps, batches)
    seen = epochs * windows + min(rest * trainer.batches.batch_size * trainer.args.world_size, windows)
    callbacks = trainer.callback_handler.callbacks
    late = any(isinstance(c, TimeLimit) and c.is_over for c in callbacks)
    stopped_by = "time" if late else "steps" if steps >= trainer.planned_steps() else "patience"
    return {"step": steps, "windows_seen": seen, "stopped_by": stopped_by}
