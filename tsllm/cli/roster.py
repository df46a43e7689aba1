"""From a name in a command line or a YAML file to a forecaster."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tsllm.data.frame import Freq
from tsllm.forecasting.base import Forecaster


@dataclass(frozen=True)
class TaskFacts:
    """What every forecaster of a task is told.

    Attributes:
        h: Steps ahead.
        freq: Frequency of the data.
        season: Steps in a season.
        context_length: Look-back of trainable models, steps.
        domain: What the data are, for prompts; empty = not said.
        val_size: Steps held for validation; None = the default.
        covariates: Columns known over the horizon.
        past_covariates: Columns known up to the cutoff only.
    """

    h: int
    freq: Freq
    season: int
    context_length: int
    domain: str = ""
    val_size: int | None = None
    covariates: tuple[str, ...] = ()
    past_covariates: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelSpec:
    """A model of a comparison.

    Attributes:
        model: "SeasonalNaive", "Naive", a class of statsforecast.models ("AutoETS"), a name of `tsllm.models.MODELS`
            ("timellm"), a saved folder or Hub id, or a dotted path to a class of one's own ("my_module.MyForecaster").
        alias: Name of its column; empty = the model's own.
        options: Constructor options: the model configuration's fields for neural models.
        training: Training options of neural models.
        covariates: Whether it is given the task's covariates.
    """

    model: str
    alias: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    covariates: bool = False

    @classmethod
    def parse(cls, given: "str | Mapping[str, Any] | ModelSpec") -> "ModelSpec":
        """Reads a name or a mapping.

        Raises:
            ValueError: If a mapping has unknown keys or no model.
        """
        if isinstance(given, ModelSpec):
            return given
        if isinstance(given, str):
            return cls(given)
        unknown = sorted(set(given) - set(cls.__dataclass_fields__))
        if unknown or "model" not in given:
            raise ValueError(
                f"model entry {dict(given)!r} has unknown keys {unknown} or no 'model'; known keys: "
                f"{', '.join(cls.__dataclass_fields__)}"
            )
        return cls(**given)


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
