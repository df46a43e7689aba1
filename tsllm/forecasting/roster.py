"""From a name in a command line or a YAML file to a forecaster."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from tsllm.evaluation.config import ModelSpec, TaskFacts
from tsllm.forecasting.base import Forecaster

__all__ = ["ModelSpec", "TaskFacts", "build_forecaster"]

# What a neuralforecast model gets unless the options say otherwise: what the native ones have, too.
NEURALFORECAST_DEFAULTS = {"scaler_type": "standard", "val_check_steps": 50, "early_stop_patience_steps": 4}


def build_forecaster(spec: ModelSpec, task: TaskFacts, seed: int = 0) -> Forecaster:
    """Builds the forecaster of a specification for a task.

    Raises:
        ValueError: If the name is nothing known, or options do not fit.
        ImportError: If the package behind it is not installed.
        OSError: If a saved or pretrained model cannot be loaded.
    """
    match spec.kind:
        case "native":
            return _build_native(spec, task, seed)
        case "neuralforecast":
            return _build_neuralforecast(spec, task, seed)
        case "naive":
            return _build_naive(spec, task)
        case "text":
            return _build_text(spec, task)
        case "chronos":
            return _build_chronos(spec, task)
        case "saved":
            return _load_saved(spec)
        case "own":
            return _build_own(spec)
    return _build_statistical(spec, task)


def _build_naive(spec: ModelSpec, task: TaskFacts) -> Forecaster:
    from tsllm.forecasting.naive import Naive, SeasonalNaive

    _refuse_covariates(spec)
    if spec.model == "Naive":
        return Naive(spec.name, freq=task.freq, **spec.options)
    options: dict[str, Any] = {"season": task.season, "alias": spec.name, "freq": task.freq} | spec.options
    return SeasonalNaive(**options)


def _build_native(spec: ModelSpec, task: TaskFacts, seed: int) -> Forecaster:
    from tsllm.models import MODELS
    from tsllm.training.fit import NeuralForecaster

    config_fields = MODELS.get(spec.model).config_class.own_fields()
    options: dict[str, Any] = {"context_length": task.context_length}
    if "prompt_domain" in config_fields and task.domain:
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


def _build_neuralforecast(spec: ModelSpec, task: TaskFacts, seed: int) -> Forecaster:
    from tsllm.forecasting.statistical import NixtlaNeuralForecaster

    options: dict[str, Any] = NEURALFORECAST_DEFAULTS | {"random_seed": seed} | spec.options
    if task.val_size == 0 and "early_stop_patience_steps" not in spec.options:
        options["early_stop_patience_steps"] = -1  # the package's "never", which it demands without validation
    return NixtlaNeuralForecaster(
        spec.source,
        task.h,
        options.pop("input_size", task.context_length),
        spec.name,
        freq=task.freq,
        level=options.pop("level", ()),
        covariates=task.covariates if spec.covariates else (),
        past_covariates=task.past_covariates if spec.covariates else (),
        val_size=task.val_size,
        options=options,
    )


def _build_text(spec: ModelSpec, task: TaskFacts) -> Forecaster:
    from tsllm.forecasting.text import TextForecaster
    from tsllm.text.generate import SamplingOptions
    from tsllm.text.loading import load_language_model

    options = dict(spec.options)
    sampling = {f.name: options.pop(f.name) for f in fields(SamplingOptions) if f.name in options}
    where = {name: options.pop(name) for name in ("adapter", "revision", "device") if name in options}
    given: dict[str, Any] = {
        "alias": spec.name,
        "freq": task.freq,
        "context_length": task.context_length,
        "season": task.season,
        "domain": f"Data: {task.domain}." if task.domain else "",
        "covariates": task.covariates if spec.covariates else (),
    }
    model, tokenizer = load_language_model(options.pop("language_model"), **where)
    model.requires_grad_(False)  # nothing is trained, so no parameter counts as trained
    try:
        return TextForecaster(model, tokenizer, h=task.h, options=SamplingOptions(**sampling), **(given | options))
    except TypeError as error:
        raise ValueError(f"{spec.name}: {error}; options are language_model and those of TextForecaster") from error


def _build_chronos(spec: ModelSpec, task: TaskFacts) -> Forecaster:
    from tsllm.forecasting.chronos import ChronosForecaster

    _refuse_covariates(spec)
    # The seed of the draws is an option: one that changed with the comparison's would leave stale results behind.
    return ChronosForecaster(spec.source, spec.name, freq=task.freq, **spec.options)


def open_saved(source: str, new_series: str | None = None, **options: Any) -> Any:
    """Loads a saved forecaster, one of series (`NeuralPredictor`) or one that writes numbers (`TextForecaster`).

    Args:
        source: A folder or a Hub id.
        new_series: Of `NeuralPredictor`; a text forecaster reads any series.
        **options: Of `from_pretrained`.

    Raises:
        FileNotFoundError: If there is no such folder and it is no Hub id.
    """
    from tsllm.evaluation.saved import is_hub_id
    from tsllm.forecasting.neural import NeuralPredictor
    from tsllm.forecasting.spec import find_file
    from tsllm.forecasting.text import SETTINGS, TextForecaster

    if not (Path(source).is_dir() or is_hub_id(source)):
        raise FileNotFoundError(f"no folder {source}; give the output folder of a run, or a Hub id user/name")
    if find_file(source, SETTINGS, options.get("revision")) is not None:
        return TextForecaster.from_pretrained(source, **options)
    return NeuralPredictor.from_pretrained(source, **({"new_series": new_series} if new_series else {}), **options)


def _load_saved(spec: ModelSpec) -> Forecaster:
    from tsllm.forecasting.text import TextForecaster

    loaded = open_saved(spec.model, **spec.options)
    if isinstance(loaded, TextForecaster):
        # Of an adapter only its own tensors were trained.
        partly = any("lora_" in name for name, _ in loaded.model.named_parameters())
        for name, parameter in loaded.model.named_parameters():
            parameter.requires_grad_(not partly or "lora_" in name)
    if spec.alias:
        loaded.alias = spec.alias
    return loaded  # type: ignore[no-any-return]


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

    options: dict[str, Any] = {"season": task.season, "alias": spec.name, "freq": task.freq}
    if spec.covariates:
        options["covariates"] = list(task.covariates)
    try:
        return StatisticalForecaster(spec.model, **options | spec.options)
    except ValueError as error:
        if "has no model" not in str(error):
            raise
        known = (
            f"SeasonalNaive, Naive, {', '.join(MODELS.names())}, text, neuralforecast:NHITS, "
            "chronos:amazon/chronos-bolt-small, a saved folder, or a class of statsforecast"
        )
        raise ValueError(f"unknown model {spec.model!r}; known: {known} ({error})") from error


def _refuse_covariates(spec: ModelSpec) -> None:
    if spec.covariates:
        raise ValueError(f"{spec.name} reads no covariates; leave covariates: true out of its entry")
