"""From an entry of the roster to a forecaster: one builder a kind of model."""

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any

from tsllm.data.static import name_static
from tsllm.data.target import TargetScale
from tsllm.data.task import ForecastTask
from tsllm.forecasting.base import Forecaster
from tsllm.forecasting.model_spec import FLAIR, OPPONENTS, STEP_REGRESSION, ModelSpec, check_known
from tsllm.forecasting.saved import open_saved
from tsllm.hub.spec import ANY_FREQ, ForecasterSpec
from tsllm.hub.told import ITSELF
from tsllm.models import find_model_class

Builder = Callable[[ModelSpec, ForecastTask, int], Forecaster]

SCALE_OPTIONS = tuple(field.name for field in fields(TargetScale))
# Options of a text model that say which language model it is, and where that runs.
_LANGUAGE = ("language_model", "adapter", "revision", "device", "engine")
# What a neuralforecast model gets unless the options say otherwise: what the native ones have, too.
NEURALFORECAST_DEFAULTS = {"scaler_type": "standard", "val_check_steps": 50, "early_stop_patience_steps": 4}


def build_spec(spec: ModelSpec, task: ForecastTask, seed: int, build_ensemble: Builder) -> Forecaster:
    """Builds the forecaster of a specification.

    Args:
        spec: What is built.
        task: What it is built for.
        seed: Of what is drawn.
        build_ensemble: Builds an ensemble, whose members are built in this way again.

    Raises:
        ValueError: If the name is nothing known, or options do not fit.
        ImportError: If the package behind it is not installed.
        OSError: If a saved or pretrained model cannot be loaded.
    """
    if spec.reader:
        return _build_told(spec, task, seed, build_ensemble)
    spec, scale = take_scale(spec)
    if spec.kind == "ensemble":
        with _naming_options(spec):
            made = build_ensemble(spec, task, seed)
    else:
        made = build_single(spec, task, seed)
    # A saved model remembers its scale.
    return made.scale_target(**made.target_scale.to_dict() | scale) if scale else made


def take_scale(spec: ModelSpec) -> tuple[ModelSpec, dict[str, Any]]:
    """Returns the specification without the options about the target's scale, and these."""
    scale = {name: spec.options[name] for name in SCALE_OPTIONS if name in spec.options}
    TargetScale(**scale)
    return replace(spec, options={k: v for k, v in spec.options.items() if k not in scale}), scale


@contextmanager
def _naming_options(spec: ModelSpec) -> Iterator[None]:
    """Blames the options for a TypeError, where there are some."""
    try:
        yield
    except TypeError as error:
        if not spec.options:
            raise
        raise ValueError(f"{spec.name} cannot be built with options {spec.options}: {error}") from error


def build_single(spec: ModelSpec, task: ForecastTask, seed: int = 0) -> Forecaster:
    """Builds any model but an ensemble; readers and the target's scale are not looked at.

    Raises:
        As `build_spec`.
    """
    with _naming_options(spec):
        match spec.kind:
            case "native":
                return _build_native(spec, task, seed)
            case "neuralforecast":
                return _build_neuralforecast(spec, task, seed)
            case "naive":
                return _build_naive(spec, task)
            case "text":
                return build_text(spec, task, load_written(spec))
            case "chronos":
                return _build_chronos(spec, task)
            case "saved":
                return _load_saved(spec, task)
            case "few-shot":
                return _build_few_shot(spec, task, seed)
            case "own":
                return _build_own(spec)
        return _build_statistical(spec, task)


def _build_told(spec: ModelSpec, task: ForecastTask, seed: int, build_ensemble: Builder) -> Forecaster:
    """Builds a model whose texts are read; the comparison, or whoever has them, gives it the texts."""
    from tsllm.forecasting.context import ContextForecaster
    from tsllm.forecasting.readers import open_reader

    if spec.reader == ITSELF:
        made = build_spec(replace(spec, reader=""), task, seed, build_ensemble)
        if not made.reads_texts:
            made.refuse_context(f"reader: {ITSELF}")
        made.alias = spec.name
        return made
    reader = open_reader(spec.reader)
    base = build_spec(replace(spec, reader="", alias=""), task, seed, build_ensemble)
    options: dict[str, Any] = {"freq": task.freq, "season": task.season, "check_length": reader.check_length}
    return ContextForecaster(base, reader.read, spec.name, **options)


def _build_native(spec: ModelSpec, task: ForecastTask, seed: int) -> Forecaster:
    from tsllm.forecasting.neural import NeuralForecaster

    _refuse_decided(spec, ("h", "alias", "freq", "season", "val_size", "training"))
    model_class = find_model_class(spec.model)
    options: dict[str, Any] = {"layout": task.layout}
    if "prompt_domain" in model_class.config_class.own_fields() and task.domain:
        options["prompt_domain"] = task.domain
    reads = model_class.reads_covariates(spec.options) if spec.covariates is None else spec.covariates
    if reads:
        _require_covariates(spec, task)
        options |= {"covariates": list(task.covariates), "past_covariates": list(task.past_covariates)}
        options["share_covariates"] = task.share_covariates
    if task.pads_short and not spec.fixes_context:
        options["pad_short"] = True
    made = NeuralForecaster(
        spec.model,
        task.h,
        alias=spec.alias or None,
        freq=task.freq,
        season=task.season,
        val_size=task.val_size,
        training={"seed": seed} | spec.training,
        **({"context_length": task.context_length} | options | spec.options),
    )
    made.static = dict(task.static) if reads else {}
    return made


def _build_neuralforecast(spec: ModelSpec, task: ForecastTask, seed: int) -> Forecaster:
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


def _build_naive(spec: ModelSpec, task: ForecastTask) -> Forecaster:
    from tsllm.forecasting.naive import Naive, SeasonalNaive

    _refuse_covariates(spec)
    _refuse_decided(spec, ("alias", "freq") if spec.model == "Naive" else ())
    if spec.model == "Naive":
        return Naive(spec.name, freq=task.freq, **spec.options)
    options: dict[str, Any] = {"season": task.season, "alias": spec.name, "freq": task.freq} | spec.options
    if spec.model == "Naive2":
        from tsllm.forecasting.naive2 import Naive2

        return Naive2(**options)
    return SeasonalNaive(**options)


def load_written(spec: ModelSpec) -> tuple[Any, Any]:
    """Loads the language model of a text model and its tokenizer, as `build_text` takes them.

    Raises:
        ValueError: If vLLM cannot do what the options ask for.
        ImportError: If vLLM is asked for and not installed.
        OSError: If the language model cannot be loaded.
    """
    from tsllm.text.loading import load_language_model
    from tsllm.text.served import TRANSFORMERS, VLLM, check_engine, load_served_model

    where = {name: spec.options[name] for name in ("adapter", "revision", "device") if name in spec.options}
    name, engine = spec.options["language_model"], spec.options.get("engine", TRANSFORMERS)
    check_engine(engine, constrained=spec.options.get("constrained", True), adapter=where.get("adapter"))
    if engine == VLLM:
        return load_served_model(name, revision=where.get("revision"))
    model, tokenizer = load_language_model(name, **where)
    model.requires_grad_(False)  # nothing is trained, so no parameter counts as trained
    return model, tokenizer


def build_text(spec: ModelSpec, task: ForecastTask, language: tuple[Any, Any]) -> Forecaster:
    """Builds a text model for a task on a language model and its tokenizer, which several tasks may share.

    Raises:
        ValueError: If it takes no such options.
    """
    from tsllm.forecasting.text import TextForecaster
    from tsllm.text.generate import SamplingOptions

    options = {k: v for k, v in spec.options.items() if k not in _LANGUAGE}
    sampling = {f.name: options.pop(f.name) for f in fields(SamplingOptions) if f.name in options}
    given: dict[str, Any] = {
        "alias": spec.name,
        "freq": task.freq,
        "context_length": task.context_length,
        "season": task.season,
        "domain": f"Data: {task.domain}." if task.domain else "",
        "covariates": task.covariates if spec.covariates else (),
    }
    try:
        return TextForecaster(*language, h=task.h, options=SamplingOptions(**sampling), **(given | options))
    except TypeError as error:
        raise ValueError(f"{spec.name}: {error}; options are language_model and those of TextForecaster") from error


def _build_chronos(spec: ModelSpec, task: ForecastTask) -> Forecaster:
    from tsllm.forecasting.chronos import ChronosForecaster

    _refuse_covariates(spec)
    # The seed of the draws is an option: one that changed with the comparison's would leave stale results behind.
    return ChronosForecaster(spec.source, spec.name, freq=task.freq, **spec.options)


def _load_saved(spec: ModelSpec, task: ForecastTask) -> Forecaster:
    opened = open_saved(spec.model, **spec.options)
    _use_as_it_is(opened, task)
    if spec.alias:
        opened.alias = spec.alias
    return opened  # type: ignore[no-any-return]


def _use_as_it_is(opened: Forecaster, task: ForecastTask) -> None:
    """Lets `fit` of a saved forecaster only take the history, without a step of training."""
    from tsllm.forecasting.context import ContextForecaster
    from tsllm.forecasting.neural import NeuralForecaster
    from tsllm.forecasting.text import TextForecaster
    from tsllm.forecasting.weighted import WeightedMean
    from tsllm.forecasting.zero_shot import ZeroShotForecaster

    if isinstance(opened, ContextForecaster):
        _use_as_it_is(opened.base, task)
    if isinstance(opened, WeightedMean):
        for member in opened.keep_weights().members:
            _use_as_it_is(member, task)
    if isinstance(opened, NeuralForecaster):
        opened.training["max_steps"] = 0
    if isinstance(opened, ZeroShotForecaster):
        opened.freq, opened.season = opened.freq or task.freq, opened.season or task.season
    if isinstance(opened, TextForecaster):
        # Of an adapter only its own tensors were trained.
        partly = any("lora_" in name for name, _ in opened.model.named_parameters())
        for name, parameter in opened.model.named_parameters():
            parameter.requires_grad_(not partly or "lora_" in name)


def _build_few_shot(spec: ModelSpec, task: ForecastTask, seed: int) -> Forecaster:
    """Loads a saved model as where a training starts; one for every series takes the task's horizon and season."""
    from tsllm.forecasting.neural import NeuralForecaster

    _refuse_decided(spec, ("training",))
    options: dict[str, Any] = {"alias": spec.name, "h": task.h, "val_size": task.val_size}
    if ForecasterSpec.load(spec.source).freq == ANY_FREQ:
        options |= {"freq": task.freq, "season": task.season}
        options |= {"new_series": "history", "pad_short": True}
    return NeuralForecaster.from_pretrained(
        spec.source, training={"seed": seed} | spec.training, **options | spec.options
    )


def _build_own(spec: ModelSpec) -> Forecaster:
    made = check_own(spec.model, spec.options)(**spec.options)
    if spec.alias:
        made.alias = spec.alias
    return made


def check_own(path: str, options: Mapping[str, Any] | None = None) -> type[Forecaster]:
    """Returns the class behind a dotted path, if it takes the options; nothing else is ever called by its path.

    Raises:
        ValueError: If there is none, it is no `Forecaster`, or it takes other options.
    """
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
        if not (isinstance(found, type) and issubclass(found, Forecaster)):
            raise TypeError(
                "it is none: inherit from tsllm.Forecaster, with alias, fit(df, h) and predict(df, h, level, X_df)"
            )
        inspect.signature(found).bind(**(options or {}))
    except (ImportError, AttributeError, TypeError) as error:
        raise ValueError(f"cannot build {path!r} ({error}); give the dotted path of a Forecaster") from error
    return found


def _build_statistical(spec: ModelSpec, task: ForecastTask) -> Forecaster:
    from tsllm.forecasting.statistical import StatisticalForecaster, find_seasons

    if spec.model == STEP_REGRESSION:
        return _build_step_regression(spec, task)
    if spec.covariates:
        _require_covariates(spec, task, known=True)
    reads = spec.model in OPPONENTS if spec.covariates is None else spec.covariates
    options: dict[str, Any] = {
        "alias": spec.name,
        "freq": task.freq,
        # Each series is estimated by itself, where a constant tells nothing.
        "covariates": [c for c in task.covariates if c not in name_static(task.static)] if reads else [],
    }
    if spec.model in OPPONENTS:
        return _build_opponent(spec, task, options)
    if spec.model == FLAIR:
        from tsllm.forecasting.flair import FlairForecaster

        given: dict[str, Any] = {"season": task.season, "alias": spec.name, "freq": task.freq}
        return FlairForecaster(**given | spec.options)
    check_known(spec.model)
    options["season"] = find_seasons(spec.model, task.season, task.freq)
    return StatisticalForecaster(spec.model, **options | spec.options)


def _build_opponent(spec: ModelSpec, task: ForecastTask, options: dict[str, Any]) -> Forecaster:
    """Builds one of `OPPONENTS`, which read covariates wherever the data offer some."""
    from tsllm.forecasting.lear import LEAR
    from tsllm.forecasting.seasons import choose_harmonics
    from tsllm.forecasting.statistical import StatisticalForecaster, find_seasons

    if spec.model == "LEAR":
        # A calendar tells how many steps a day has; of integer time the season says it.
        season = {"season": task.season} if isinstance(task.freq, int) else {}
        return LEAR(**options | season | spec.options)
    seasons = find_seasons("MSTL", task.season, task.freq)
    harmonics = choose_harmonics(seasons if isinstance(seasons, list) else [seasons])
    # Sines and cosines are its seasons, so the search for orders need not have one: seconds instead of minutes.
    fixed = {"harmonics": harmonics, "options": {"seasonal": False}}
    return StatisticalForecaster("AutoARIMA", **options | fixed | spec.options)


def _build_step_regression(spec: ModelSpec, task: ForecastTask) -> Forecaster:
    """Builds a `StepRegression` whose period is the longest customary season, as often as the horizon needs."""
    from tsllm.forecasting.regression import StepRegression
    from tsllm.forecasting.statistical import find_seasons

    _require_covariates(spec, task)
    found = find_seasons("MSTL", task.season, task.freq)
    longest = max(found) if isinstance(found, list) else found
    options: dict[str, Any] = {"alias": spec.name, "freq": task.freq, "period": longest * -(-task.h // longest)}
    if spec.covariates is not False:
        options |= {"covariates": list(task.covariates), "past_covariates": list(task.past_covariates)}
    return StepRegression(task.h, **options | spec.options)


def _require_covariates(spec: ModelSpec, task: ForecastTask, known: bool = False) -> None:
    """Refuses `covariates: true` where the data offer none."""
    offered = task.covariates if known else (*task.covariates, *task.past_covariates)
    if spec.covariates and not offered:
        raise ValueError(
            f"{spec.name} is to read covariates, but none are named for {task.name or 'the data'}; name columns "
            "in the data entry (covariates: [...], past_covariates: [...]), or leave covariates out of the model's"
        )


def _refuse_decided(spec: ModelSpec, decided: Sequence[str]) -> None:
    """Refuses options that an entry has another place for.

    Raises:
        ValueError: Naming the option and its place.
    """
    for name in decided:
        if name in spec.options:
            own = name in ("alias", "training")
            where = f"the model's entry, beside options ({name}: ...)" if own else "the data, which all models share"
            raise ValueError(f"{spec.name}: {name} is no option of a model here; give it for {where}")


def _refuse_covariates(spec: ModelSpec) -> None:
    if spec.covariates:
        raise ValueError(f"{spec.name} reads no covariates; leave covariates: true out of its entry")
