"""The roster: from a name in Python, a command line or a YAML file to a forecaster."""

import importlib
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from tsllm.data.task import ForecastTask
from tsllm.forecasting.base import Forecaster
from tsllm.hub.spec import ANY_FREQ, ForecasterSpec, check_alias, find_file, is_hub_id
from tsllm.models import find_model_class, is_model_name
from tsllm.text.loading import SETTINGS
from tsllm.training.args import check_training, read_dataclass
from tsllm.training.build import check_model_config

NAIVE = ("SeasonalNaive", "Naive")
OPPONENTS = ("LEAR", "ARIMAX")  # statistical models that read known covariates where there are some
FLAIR = "FLAIR"
PACKAGED = ("neuralforecast", "chronos")  # kinds written "package:model"
# What a neuralforecast model gets unless the options say otherwise: what the native ones have, too.
NEURALFORECAST_DEFAULTS = {"scaler_type": "standard", "val_check_steps": 50, "early_stop_patience_steps": 4}


@dataclass(frozen=True)
class ModelSpec:
    """A model of a comparison.

    Attributes:
        model: What it is; see `kind`.
        alias: Name of its column; empty = the model's own.
        options: Constructor options: the model configuration's fields for native models, those of `TextForecaster`
            with `language_model` for text, those of the class in neuralforecast or statsforecast.
        training: Training options of native models.
        covariates: Whether it is given the data's covariates; None = if it is a model of tsllm that reads them, which
            LEAR and ARIMAX do.
        variant: What it changes in another model, for the ablation table; empty = it stands for itself.
        variant_of: Alias of the model that it is a variant of; goes with `variant`.
        perturb: "input" or "prototypes": the model called `variant_of` with its history or its prototypes shuffled
            when it forecasts; nothing is trained.
    """

    model: str
    alias: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    covariates: bool | None = None
    variant: str = ""
    variant_of: str = ""
    perturb: str = ""

    def __post_init__(self) -> None:
        if self.perturb not in ("", "input", "prototypes"):
            raise ValueError(f"perturb is {self.perturb!r}; choose input or prototypes")
        if bool(self.variant) != bool(self.variant_of):
            raise ValueError(f"{self.alias or self.model}: variant and variant_of belong together; give both or none")
        if self.perturb and not self.variant_of:
            raise ValueError(f"{self.alias or self.model}: perturb needs variant_of, the model that is perturbed")
        if self.kind == "text" and not self.options.get("language_model"):
            raise ValueError("model text needs options: {language_model: ...}, a packaged name, a folder or a Hub id")
        if self.alias:
            check_alias(self.alias)
        check_training(self.training)
        if self.training and self.kind != "native":
            raise ValueError(f"{self.name}: training is for models of tsllm; a {self.kind} model takes options alone")

    @property
    def kind(self) -> str:
        """What `model` stands for.

        - native: a name of `tsllm.models.MODELS` ("timellm") or the dotted path of a model class of one's own,
          trained here.
        - neuralforecast: "neuralforecast:NHITS", a class of that package, trained here.
        - naive: "SeasonalNaive", "Naive".
        - text: a causal language model that reads and writes numbers, as it is.
        - chronos: "chronos:amazon/chronos-bolt-small", a pretrained Chronos model, as it is.
        - saved: a folder or Hub id ("user/name") that a recipe, `tsllm fit` or `save_pretrained` wrote.
        - own: a dotted path to a `Forecaster` class of one's own ("my_module.MyForecaster").
        - statistical: a class of statsforecast.models ("AutoETS"), "LEAR", "ARIMAX" (AutoARIMA with sines and cosines
          for every customary season), or "FLAIR" of the package flaircast.
        """
        package, _, rest = self.model.partition(":")
        if rest and package in PACKAGED:
            return package
        if self.model in NAIVE:
            return "naive"
        if self.model == "text":
            return "text"
        if "/" in self.model or Path(self.model).is_dir():
            return "saved"
        if is_model_name(self.model):
            return "native"
        return "own" if "." in self.model else "statistical"

    @property
    def is_trainable(self) -> bool:
        """Whether it is trained here, so that seed, look-back search and budget apply to it."""
        return self.kind in ("native", "neuralforecast") and not self.perturb

    @property
    def fixes_context(self) -> bool:
        """Whether its options name its context, so that nothing else decides it."""
        return "context_length" in self.options or "input_size" in self.options

    @property
    def source(self) -> str:
        """What `model` names within its kind: a class of neuralforecast, a Hub id or folder of Chronos, itself."""
        return self.model.partition(":")[2] if self.kind in PACKAGED else self.model

    @property
    def name(self) -> str:
        """The column's name: the alias, or what the model is called."""
        if self.alias:
            return self.alias
        if self.kind == "native":
            return find_model_class(self.model).__name__
        if self.kind == "text":
            return f"{Path(self.options['language_model']).name}-text"
        return self.source.rpartition(".")[2] if self.kind == "own" else Path(self.source).name

    @classmethod
    def parse(cls, given: "str | Mapping[str, Any] | ModelSpec") -> "ModelSpec":
        """Reads a name or a mapping.

        Raises:
            ValueError: If it is neither, or a mapping has unknown keys, values of the wrong type, or no model.
        """
        if isinstance(given, ModelSpec):
            return given
        return cls(given) if isinstance(given, str) else read_dataclass(cls, given, "model entry", "model")


def build_forecaster(spec: ModelSpec, task: ForecastTask, seed: int = 0) -> Forecaster:
    """Builds the forecaster of a specification for a task.

    Raises:
        ValueError: If the name is nothing known, or options do not fit.
        ImportError: If the package behind it is not installed.
        OSError: If a saved or pretrained model cannot be loaded.
    """
    try:
        return _build(spec, task, seed)
    except TypeError as error:
        if not spec.options:
            raise
        raise ValueError(f"{spec.name} cannot be built with options {spec.options}: {error}") from error


def _build(spec: ModelSpec, task: ForecastTask, seed: int) -> Forecaster:
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
            return _load_saved(spec, task)
        case "own":
            return _build_own(spec)
    return _build_statistical(spec, task)


def check_forecaster(spec: ModelSpec, task: ForecastTask) -> None:
    """Checks an entry for a task, as far as that goes without loading weights or data.

    Raises:
        ValueError: If it could not be built, or its configuration does not fit the task.
    """
    if spec.kind == "saved":
        check_saved(spec.source)
        _check_saved_for(spec, task)
        return
    if spec.kind == "own":
        check_own(spec.model, spec.options)
        return
    if spec.kind == "text":
        _check_text(spec)
        return
    if spec.kind == "chronos":
        return  # it loads what it is made of
    build_forecaster(spec, task)
    if spec.kind == "native":
        given = {k: v for k, v in spec.options.items() if k in find_model_class(spec.model).config_class.own_fields()}
        context = given.pop("context_length", task.context_length)
        check_model_config(spec.model, given, context, task.h)


def _check_saved_for(spec: ModelSpec, task: ForecastTask) -> None:
    """Checks a saved model's description against a task.

    Raises:
        ValueError: If it is of another frequency, forecasts fewer steps, or reads covariates that are not named.
        OSError: If it has no description.
    """
    revision = spec.options.get("revision")
    if find_file(spec.source, SETTINGS, revision) is not None:
        return
    saved = ForecasterSpec.load(spec.source, revision)
    known: tuple[str, ...] = ("revision", "token", "device", "batch_size")
    known += ("freq", "season") if saved.freq == ANY_FREQ else ("batch_invariant", "new_series", "pad_short")
    idle = sorted(set(spec.options) - set(known))
    if idle:
        raise ValueError(f"option {idle[0]!r} has no effect on a saved model that is used as it is; it takes {known}")
    if saved.freq == ANY_FREQ:
        return
    if saved.freq != task.freq:
        raise ValueError(f"it was trained on freq {saved.freq!r}, the data have {task.freq!r}; leave it out")
    config = find_file(spec.source, "config.json", revision)
    longest = None if config is None else json.loads(config.read_text(encoding="utf-8")).get("prediction_length")
    if longest is not None and longest < task.h:
        raise ValueError(f"it forecasts 1 to {longest} steps, the comparison asks for {task.h}; train with a larger h")
    offered = {*task.covariates, *task.past_covariates}
    lacking = [name for name in (*saved.covariates, *saved.past_covariates) if name not in offered]
    if lacking:
        raise ValueError(
            f"it reads the covariates {lacking}, which are not named for {task.name or 'the data'}; name them in the "
            "data entry (covariates: [...], past_covariates: [...])"
        )


def _check_text(spec: ModelSpec) -> None:
    """Checks the options of a text model before its language model is loaded.

    Raises:
        ValueError: If an option is unknown, or the language model is a folder that is not there.
    """
    from tsllm.forecasting.text import TextForecaster
    from tsllm.text.generate import SamplingOptions

    known = {f.name for f in fields(SamplingOptions)} | {"language_model", "adapter", "revision", "device"}
    known |= set(inspect.signature(TextForecaster).parameters) - {"model", "tokenizer", "h", "options", "facts"}
    unknown = sorted(set(spec.options) - known)
    if unknown:
        raise ValueError(f"text has no option {unknown[0]!r}; it has {', '.join(sorted(known))}")
    for name in ("language_model", "adapter"):
        source = str(spec.options.get(name) or "")
        if source.startswith((".", "/", "~")) and not Path(source).is_dir():
            raise ValueError(f"{name} is {source!r}, but there is no such folder")


def reads_covariates(spec: ModelSpec) -> bool:
    """Tells whether a model of a comparison reads covariates of the data; True where that shows only when it runs."""
    if spec.covariates is not None:
        return spec.covariates
    if spec.kind == "native":
        return find_model_class(spec.model).uses_covariates
    return spec.model in OPPONENTS or spec.kind in ("saved", "own")


def check_saved(source: str) -> None:
    """Refuses a name that is neither a folder nor could be a Hub id.

    Raises:
        FileNotFoundError: Naming it.
    """
    if not (Path(source).is_dir() or is_hub_id(source)):
        raise FileNotFoundError(f"no folder {source}; give the output folder of a run, or a Hub id user/name")


def _build_naive(spec: ModelSpec, task: ForecastTask) -> Forecaster:
    from tsllm.forecasting.naive import Naive, SeasonalNaive

    _refuse_covariates(spec)
    if spec.model == "Naive":
        return Naive(spec.name, freq=task.freq, **spec.options)
    options: dict[str, Any] = {"season": task.season, "alias": spec.name, "freq": task.freq} | spec.options
    return SeasonalNaive(**options)


def _build_native(spec: ModelSpec, task: ForecastTask, seed: int) -> Forecaster:
    from tsllm.forecasting.neural import NeuralForecaster

    model_class = find_model_class(spec.model)
    options: dict[str, Any] = {"layout": task.layout}
    if "prompt_domain" in model_class.config_class.own_fields() and task.domain:
        options["prompt_domain"] = task.domain
    reads = model_class.uses_covariates if spec.covariates is None else spec.covariates
    if reads:
        _require_covariates(spec, task)
        options |= {"covariates": list(task.covariates), "past_covariates": list(task.past_covariates)}
        options["share_covariates"] = task.share_covariates
    if task.pads_short and not spec.fixes_context:
        options["pad_short"] = True
    return NeuralForecaster(
        spec.model,
        task.h,
        alias=spec.alias or None,
        freq=task.freq,
        season=task.season,
        val_size=task.val_size,
        training={"seed": seed} | spec.training,
        **({"context_length": task.context_length} | options | spec.options),
    )


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


def _build_text(spec: ModelSpec, task: ForecastTask) -> Forecaster:
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


def _build_chronos(spec: ModelSpec, task: ForecastTask) -> Forecaster:
    from tsllm.forecasting.chronos import ChronosForecaster

    _refuse_covariates(spec)
    # The seed of the draws is an option: one that changed with the comparison's would leave stale results behind.
    return ChronosForecaster(spec.source, spec.name, freq=task.freq, **spec.options)


def is_saved(source: str) -> bool:
    """Tells whether a name is a saved forecaster: a folder or a Hub id, not a model of the roster."""
    return Path(source).is_dir() or ("/" in source and ":" not in source)


def open_saved(source: str, **options: Any) -> Any:
    """Loads a saved forecaster: of series (`NeuralForecaster`), of all series (`ZeroShotForecaster`) or of text.

    Args:
        source: A folder or a Hub id.
        **options: Of `from_pretrained`.

    Raises:
        FileNotFoundError: If there is no such folder and it is no Hub id.
    """
    from tsllm.forecasting.neural import NeuralForecaster
    from tsllm.forecasting.text import TextForecaster
    from tsllm.forecasting.zero_shot import ZeroShotForecaster

    check_saved(source)
    if find_file(source, SETTINGS, options.get("revision")) is not None:
        return TextForecaster.from_pretrained(source, **options)
    if ForecasterSpec.load(source, options.get("revision"), options.get("token")).freq == ANY_FREQ:
        return ZeroShotForecaster.from_pretrained(source, **options)
    return NeuralForecaster.from_pretrained(source, **options)


def _load_saved(spec: ModelSpec, task: ForecastTask) -> Forecaster:
    from tsllm.forecasting.neural import NeuralForecaster
    from tsllm.forecasting.text import TextForecaster
    from tsllm.forecasting.zero_shot import ZeroShotForecaster

    # It is used as it is: without a step of training, `fit` only takes the history.
    loaded = open_saved(spec.model, **spec.options)
    if isinstance(loaded, NeuralForecaster):
        loaded.training["max_steps"] = 0
    if isinstance(loaded, ZeroShotForecaster):
        loaded.freq, loaded.season = loaded.freq or task.freq, loaded.season or task.season
    if isinstance(loaded, TextForecaster):
        # Of an adapter only its own tensors were trained.
        partly = any("lora_" in name for name, _ in loaded.model.named_parameters())
        for name, parameter in loaded.model.named_parameters():
            parameter.requires_grad_(not partly or "lora_" in name)
    if spec.alias:
        loaded.alias = spec.alias
    return loaded  # type: ignore[no-any-return]


def _build_own(spec: ModelSpec) -> Forecaster:
    made = check_own(spec.model, spec.options)(**spec.options)
    if not isinstance(made, Forecaster):
        raise ValueError(_say_no_forecaster(spec.model))
    if spec.alias:
        made.alias = spec.alias
    return made


def check_own(path: str, options: Mapping[str, Any] | None = None) -> Callable[..., Any]:
    """Returns the class or function behind a dotted path, if it takes the options.

    Raises:
        ValueError: If there is none, it makes no forecaster, or it takes other options.
    """
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
        if isinstance(found, type) and not issubclass(found, Forecaster):
            raise ValueError(_say_no_forecaster(path))
        inspect.signature(found).bind(**(options or {}))
    except (ImportError, AttributeError, TypeError) as error:
        raise ValueError(f"cannot build {path!r} ({error}); give the dotted path of a Forecaster") from error
    return found  # type: ignore[no-any-return]


def _say_no_forecaster(path: str) -> str:
    return (
        f"{path} is no Forecaster: let the class inherit from tsllm.Forecaster and give it alias, fit(df, h) and "
        "predict(df, h, level, X_df)"
    )


def _build_statistical(spec: ModelSpec, task: ForecastTask) -> Forecaster:
    from tsllm.forecasting.statistical import StatisticalForecaster, find_seasons
    from tsllm.models import MODELS

    if spec.covariates:
        _require_covariates(spec, task, known=True)
    reads = spec.model in OPPONENTS if spec.covariates is None else spec.covariates
    options: dict[str, Any] = {
        "alias": spec.name,
        "freq": task.freq,
        "covariates": list(task.covariates) if reads else [],
    }
    if spec.model in OPPONENTS:
        return _build_opponent(spec, task, options)
    if spec.model == FLAIR:
        from tsllm.forecasting.flair import FlairForecaster

        given: dict[str, Any] = {"season": task.season, "alias": spec.name, "freq": task.freq}
        return FlairForecaster(**given | spec.options)
    try:
        options["season"] = find_seasons(spec.model, task.season, task.freq)
        return StatisticalForecaster(spec.model, **options | spec.options)
    except ValueError as error:
        if "has no model" not in str(error):
            raise
        known = (
            f"SeasonalNaive, Naive, LEAR, ARIMAX, {', '.join(MODELS.names())}, text, neuralforecast:NHITS, "
            "chronos:amazon/chronos-bolt-small, a saved folder, or a class of statsforecast"
        )
        raise ValueError(f"unknown model {spec.model!r}; known: {known} ({error})") from error


def _build_opponent(spec: ModelSpec, task: ForecastTask, options: dict[str, Any]) -> Forecaster:
    """Builds one of `OPPONENTS`, which read known covariates wherever the data offer some."""
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


def _require_covariates(spec: ModelSpec, task: ForecastTask, known: bool = False) -> None:
    """Refuses `covariates: true` where the data offer none."""
    offered = task.covariates if known else (*task.covariates, *task.past_covariates)
    if spec.covariates and not offered:
        raise ValueError(
            f"{spec.name} is to read covariates, but none are named for {task.name or 'the data'}; name columns "
            "in the data entry (covariates: [...], past_covariates: [...]), or leave covariates out of the model's"
        )


def _refuse_covariates(spec: ModelSpec) -> None:
    if spec.covariates:
        raise ValueError(f"{spec.name} reads no covariates; leave covariates: true out of its entry")
