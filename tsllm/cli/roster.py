"""From a name in a command line or a YAML file to a forecaster."""

from pathlib import Path
from typing import Any

from tsllm.evaluation.tasks import ModelSpec, TaskFacts
from tsllm.forecasting.base import Forecaster

__all__ = ["ModelSpec", "TaskFacts", "build_forecaster"]


def build_forecaster(spec: ModelSpec, task: TaskFacts, seed: int = 0) -> Forecaster:
    """Builds the forecaster of a specification for a task.

    Raises:
        ValueError: If the name is nothing known, or options do not fit.
    """
    from tsllm.models import MODELS

    name = spec.model
    if name in ("SeasonalNaive", "Naive"):
        return _build_naive(spec, task)
    if name in MODELS:
        return _build_neural(spec, task, seed)
    if Path(name).is_dir() or "/" in name:
        return _load_saved(spec)
    if "." in name:
        return _build_own(spec)
    return _build_statistical(spec, task)


def _build_naive(spec: ModelSpec, task: TaskFacts) -> Forecaster:
    from tsllm.forecasting.naive import Naive, SeasonalNaive

    alias = spec.alias or spec.model
    if spec.model == "Naive":
        return Naive(alias, freq=task.freq, **spec.options)
    options: dict[str, Any] = {"season": task.season, "alias": alias, "freq": task.freq} | spec.options
    return SeasonalNaive(**options)


def _build_neural(spec: ModelSpec, task: TaskFacts, seed: int) -> Forecaster:
    from tsllm.models import MODELS
    from tsllm.training.fit import NeuralForecaster

    fields = MODELS.get(spec.model).config_class.own_fields()
    options: dict[str, Any] = {"context_length": task.context_length}
    if "prompt_domain" in fields and task.domain:
        options["prompt_domain"] = task.domain
    if spec.covariates:
        options |= {"covariates": list(task.covariates), "past_covariates": list(task.past_covariates)}
    options |= spec.options
    return NeuralForecaster(
        spec.model,
        task.h,
        alias=spec.alias,
        freq=task.freq,
        season=task.season,
        val_size=task.val_size,
        training={"seed": seed} | spec.training,
        **options,
    )


def _load_saved(spec: ModelSpec) -> Forecaster:
    from tsllm.forecasting.neural import NeuralPredictor

    predictor = NeuralPredictor.from_pretrained(spec.model, **spec.options)
    if spec.alias:
        predictor.spec.alias = spec.alias
    return predictor


def _build_own(spec: ModelSpec) -> Forecaster:
    import importlib

    module, _, name = spec.model.rpartition(".")
    try:
        made = getattr(importlib.import_module(module), name)(**spec.options)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"cannot import {spec.model!r} ({error}); give the dotted path of a Forecaster") from error
    if not isinstance(made, Forecaster):
        raise ValueError(f"{spec.model} is no Forecaster: it needs alias, fit(df, h) and predict(df, h, level, X_df)")
    if spec.alias:
        made.alias = spec.alias
    return made


def _build_statistical(spec: ModelSpec, task: TaskFacts) -> Forecaster:
    from tsllm.forecasting.statistical import StatisticalForecaster
    from tsllm.models import MODELS

    try:
        return StatisticalForecaster(
            spec.model, **{"season": task.season, "alias": spec.alias or None, "freq": task.freq} | spec.options
        )
    except ValueError as error:
        if "has no model" not in str(error):
            raise
        known = f"SeasonalNaive, Naive, {', '.join(MODELS.names())}, a saved folder, or a class of statsforecast"
        raise ValueError(f"unknown model {spec.model!r}; known: {known} ({error})") from error
