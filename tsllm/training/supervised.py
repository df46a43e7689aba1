"""The program that the supervised recipes share: read, build, train, test, write."""

import inspect
import time
from typing import Any

import torch
from transformers import AutoConfig, set_seed
from transformers.utils import logging as library_logging

from tsllm.data.prepared import PreparedData, describe_data, prepare_data
from tsllm.data.windows import WindowDataset
from tsllm.models import MODELS
from tsllm.models.base import ForecastConfig, ForecastModel
from tsllm.programs.artefacts import (
    TrainingRun,
    count_parameters,
    describe_environment,
    prepare_output_dir,
    write_artefacts,
)
from tsllm.training.args import ArgumentsError, DataArguments, ForecastTrainingArguments, ModelArguments, coerce
from tsllm.training.scores import score_seasonal_naive
from tsllm.training.trainer import ForecastTrainer

_FROM_DATA = (
    "context_length",
    "prediction_length",
    "num_channels",
    "num_time_features",
    "num_covariates",
    "num_known_covariates",
)


def run_supervised(
    model_args: ModelArguments,
    data_args: DataArguments,
    args: ForecastTrainingArguments,
    score_start: bool = True,
) -> TrainingRun:
    """Trains a model on a data set, tests it once and writes all artefacts but the model card.

    Args:
        model_args: Which model.
        data_args: Which data.
        args: How it is trained.
        score_start: Whether a `pretrained` start is tested too, before the first step.

    Raises:
        ArgumentsError: If the arguments do not fit one another.
        FileExistsError: If the output folder holds another run.
    """
    library_logging.enable_progress_bar()
    model_class = MODELS.get(model_args.model)
    resume = bool(args.resume_from_checkpoint)
    with args.main_process_first(desc="preparing the output folder"):
        folder = prepare_output_dir(
            args.output_dir or ".", resume=resume or not args.should_save, overwrite=args.overwrite_output_dir
        )
    data = prepare_data(data_args, reads_covariates=model_class.uses_covariates)
    # The model's initial weights and the order of batches follow from the seed alone.
    set_seed(args.seed)
    model = build_model(model_args, data)
    spec = describe_data(data_args, data, alias=type(model).__name__)
    trainer = ForecastTrainer(model, args, data.train, data.validation, data.scaler)
    start = None if model_args.pretrained is None or not score_start else _score(trainer, data.test, "start")
    trainer.train(args.resume_from_checkpoint)
    began = time.monotonic()
    test = _score(trainer, data.test, "test")
    metrics = {
        "test": test,
        "start": start,
        "validation": _score(trainer, data.validation, "validation") if data.validation is not None else None,
        "seasonal_naive": score_seasonal_naive(data.test, spec.season, data.scaler),
        "scaled": data_args.scaler != "none",
        "windows": len(data.test),
        "seconds": round(trainer.stopwatch.seconds, 3),
        "test_seconds": round(time.monotonic() - began, 3),
        "steps": trainer.state.global_step,
        "best_step": trainer.state.best_global_step,
        "epochs": trainer.state.epoch,
        "seed": args.seed,
        "model": model_args.model,
        "dataset": data.loaded.name,
        "context_length": model.config.context_length,
        "prediction_length": model.config.prediction_length,
        "parameters": count_parameters(model),
        "global_batch_size": args.per_device_train_batch_size * args.world_size * args.gradient_accumulation_steps,
        "learning_rate": args.learning_rate,
        "processes": args.world_size,
        "environment": describe_environment(),
    }
    trainer.save_model(str(folder))
    run = TrainingRun(
        model=trainer.accelerator.unwrap_model(trainer.model),
        spec=spec,
        data=data,
        metrics=metrics,
        history=trainer.state.log_history,
        output_dir=folder,
        is_main=trainer.is_world_process_zero(),
    )
    if run.is_main:
        write_artefacts(run)
    return run


def build_model(args: ModelArguments, data: PreparedData) -> ForecastModel:
    """Builds the model of the arguments for the data's sizes, or loads `pretrained`.

    Raises:
        ArgumentsError: If `model_config` names unknown fields or such that the data decide.
    """
    model_class = MODELS.get(args.model)
    values = find_units(model_class, data) | read_model_config(model_class.config_class, args.model_config)
    values |= find_sizes(model_class, data.train, time_features=data.time_features)
    if args.pretrained is None:
        model = model_class(model_class.config_class(**values))
        if values.get("prompt_statistics") == "series":
            model.describe_series(torch.from_numpy(data.train_values()).float())  # type: ignore[operator]
        return model
    config = AutoConfig.from_pretrained(args.pretrained, trust_remote_code=False)
    if not isinstance(config, model_class.config_class):
        raise ArgumentsError(f"{args.pretrained} holds a {config.model_type} model, but model is {args.model}")
    if config.model_type != model_class.config_class.model_type:
        # A pre-training's configuration knows nothing of forecasting losses and heads.
        own = {name: getattr(config, name) for name in model_class.config_class.own_fields()}
        config = model_class.config_class(**own)
    mode = values.get("backbone_mode", "frozen")
    unfrozen = mode != "frozen" and getattr(config, "backbone_mode", mode) == "frozen"
    lora = values.pop("lora", {}) if unfrozen else {}
    for name, value in values.items():
        if not (unfrozen and name == "backbone_mode"):
            setattr(config, name, value)
    config.check()
    model = model_class.from_pretrained(args.pretrained, config=config)
    if unfrozen:
        model.unfreeze(mode, lora)  # type: ignore[operator]
    return model


def read_model_config(config_class: type[ForecastConfig], given: dict[str, Any]) -> dict[str, Any]:
    """Returns `model_config` with each value held to its field's type.

    Raises:
        ArgumentsError: For unknown fields, wrong types and fields that the data decide.
    """
    taken = sorted(set(given) & set(_FROM_DATA))
    if taken:
        raise ArgumentsError(f"model_config sets {taken}, which follow from the data arguments; leave them out there")
    known = config_class.own_fields() - set(_FROM_DATA)
    unknown = sorted(set(given) - known)
    if unknown:
        raise ArgumentsError(f"model_config has unknown fields {unknown}; known: {', '.join(sorted(known))}")
    hints: dict[str, Any] = {}
    for cls in reversed(config_class.__mro__):
        if issubclass(cls, ForecastConfig):  # the library's own annotations do not all resolve
            hints |= inspect.get_annotations(cls, eval_str=True)
    return {name: coerce(value, hints[name], f"model_config.{name}") for name, value in given.items()}


def find_sizes(
    model_class: type[ForecastModel], windows: WindowDataset, *, time_features: bool = True
) -> dict[str, int]:
    """Returns the configuration fields that the windows decide; `time_features` False leaves the calendar out."""
    reads_time = model_class.uses_time_features and time_features
    return {
        "context_length": windows.context_length,
        "prediction_length": windows.prediction_length,
        "num_channels": windows.num_channels,
        "num_time_features": windows.num_time_features if reads_time else 0,
        "num_covariates": len(windows.covariate_names),
        "num_known_covariates": windows.num_known_covariates,
    }


def find_units(model_class: type[ForecastModel], data: PreparedData) -> dict[str, Any]:
    """Returns what a model that speaks of its series must know: their domain and their original units."""
    own, source = model_class.config_class.own_fields(), data.loaded.source
    values: dict[str, Any] = {}
    if "prompt_domain" in own and source is not None:
        values["prompt_domain"] = source.domain
    if {"series_loc", "series_scale"} <= own and data.train.layout == "multivariate":
        loc, scale = data.scaler.loc_scale(data.train.segments[0].series)
        values |= {"series_loc": loc.tolist(), "series_scale": scale.tolist()}
    return values


def _score(trainer: ForecastTrainer, windows: Any, prefix: str) -> dict[str, float]:
    found = trainer.evaluate(windows, metric_key_prefix=prefix)
    names = ("runtime", "samples_per_second", "steps_per_second", "model_preparation_time")
    scores = {k.removeprefix(f"{prefix}_"): v for k, v in found.items() if k.startswith(f"{prefix}_")}
    return {k: v for k, v in scores.items() if k not in names}
