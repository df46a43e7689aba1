"""The roster: from a name in Python, a command line or a YAML file to a forecaster."""

import contextlib
import importlib
import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch

from tsllm.backbones.pretrained import check_pretrained
from tsllm.data.static import name_static
from tsllm.data.target import TargetScale
from tsllm.data.task import ForecastTask
from tsllm.forecasting.base import Forecaster, check_count
from tsllm.forecasting.loading import check_hub_options
from tsllm.hub.spec import ANY_FREQ, SPEC_FILE, ForecasterSpec, check_alias, check_saved, find_file
from tsllm.hub.told import BASE, CONTEXT_FILE, RULES
from tsllm.models import find_model_class, is_model_name
from tsllm.text.settings import SETTINGS
from tsllm.training.options import check_options

NAIVE = ("SeasonalNaive", "Naive", "Naive2")
STEP_REGRESSION = "StepRegression"
OPPONENTS = ("LEAR", "ARIMAX", STEP_REGRESSION)  # statistical models that read covariates where there are some
FLAIR = "FLAIR"
SCALE_OPTIONS = tuple(field.name for field in fields(TargetScale))
PACKAGED = ("neuralforecast", "chronos", "few-shot")  # kinds written "kind:model"
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
            LEAR, ARIMAX and StepRegression do.
        variant: What it changes in another model, for the ablation table; empty = it stands for itself.
        variant_of: Alias of the model that it is a variant of; goes with `variant`.
        reader: Who reads the texts of the data (`context` of a data entry): "rules", or the folder of a trained
            reader; empty = nobody, the model forecasts by numbers alone.
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
    reader: str = ""

    def __post_init__(self) -> None:
        if self.perturb not in ("", "input", "prototypes"):
            raise ValueError(f"perturb is {self.perturb!r}; choose input or prototypes")
        if bool(self.variant) != bool(self.variant_of):
            raise ValueError(f"{self.alias or self.model}: variant and variant_of belong together; give both or none")
        if self.perturb and not self.variant_of:
            raise ValueError(f"{self.alias or self.model}: perturb needs variant_of, the model that is perturbed")
        if self.perturb and self.reader:
            raise ValueError(f"{self.alias or self.model}: a perturbed model reads no texts; leave reader out")
        if self.kind == "text" and not self.options.get("language_model"):
            raise ValueError("model text needs options: {language_model: ...}, a packaged name, a folder or a Hub id")
        if self.alias:
            check_alias(self.alias)
        check_options(self.training)
        if self.training and self.kind not in ("native", "few-shot"):
            raise ValueError(f"{self.name}: training is for models of tsllm; a {self.kind} model takes options alone")

    @property
    def kind(self) -> str:
        """What `model` stands for.

        - native: a name of `tsllm.models.MODELS` ("timellm") or the dotted path of a model class of one's own,
          trained here.
        - neuralforecast: "neuralforecast:NHITS", a class of that package, trained here.
        - naive: "SeasonalNaive", "Naive", "Naive2".
        - text: a causal language model that reads and writes numbers, as it is.
        - few-shot: "few-shot:FOLDER", a saved model that is trained further here, from its weights; options are those
          of `NeuralForecaster.from_pretrained` (`fine_tune` ...).
        - chronos: "chronos:amazon/chronos-bolt-small", a pretrained Chronos model, as it is.
        - saved: a folder or Hub id ("user/name") that a recipe, `tsllm fit` or `save_pretrained` wrote. A folder that
          is called like a model is given as a path: "./dlinear".
        - own: a dotted path to a `Forecaster` class of one's own ("my_module.MyForecaster").
        - ensemble: "ensemble:AutoETS+dlinear", or "ensemble" with the option `members`, a list of names and entries;
          `weights` and `n_windows` are further options (`tsllm.Ensemble`).
        - statistical: a class of statsforecast.models ("AutoETS"), "LEAR", "ARIMAX" (AutoARIMA with sines and cosines
          for every customary season), "StepRegression" (one ridge regression of all steps), or "FLAIR" of the package
          flaircast.
        """
        package, _, rest = self.model.partition(":")
        if rest and package in PACKAGED:
            return package
        if package == "ensemble":
            return "ensemble"
        if self.model in NAIVE:
            return "naive"
        if self.model == "text":
            return "text"
        if "/" in self.model:
            return "saved"
        if is_model_name(self.model):
            return "native"
        if Path(self.model).is_dir() and not _is_statistical(self.model):
            return "saved"
        return "own" if "." in self.model else "statistical"

    @property
    def members(self) -> "list[ModelSpec]":
        """The members of an ensemble, in order; empty for any other model."""
        if self.kind != "ensemble":
            return []
        listed = self.model.partition(":")[2]
        named = [part.strip() for part in listed.split("+")] if listed else self.options.get("members", ())
        if "" in named:
            raise ValueError(f"{self.model!r} names a member that is empty; write ensemble:AutoETS+dlinear")
        return [ModelSpec.parse(member) for member in named]

    @property
    def is_seeded(self) -> bool:
        """Whether it draws something, so that each seed is a run of its own."""
        return self.is_trainable or any(member.is_seeded for member in self.members)

    @property
    def is_trainable(self) -> bool:
        """Whether it is trained here, so that seed, look-back search and budget apply to it."""
        return self.kind in ("native", "neuralforecast", "few-shot") and not self.perturb

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
        if self.reader:
            return f"{replace(self, reader='').name}+context"
        if self.kind == "native":
            return find_model_class(self.model).__name__
        if self.kind == "ensemble":
            return "Ensemble"
        if self.kind == "text":
            return f"{Path(self.options['language_model']).name}-text"
        if self.kind == "few-shot":
            return f"{Path(self.source).name}-few-shot"
        return self.source.rpartition(".")[2] if self.kind == "own" else Path(self.source).name

    @classmethod
    def parse(cls, given: "str | Mapping[str, Any] | ModelSpec") -> "ModelSpec":
        """Reads a name or a mapping.

        Raises:
            ValueError: If it is neither, or a mapping has unknown keys, values of the wrong type, or no model.
        """
        if isinstance(given, ModelSpec):
            return given
        if isinstance(given, str):
            return cls(given)
        from tsllm.training.args import read_dataclass

        return read_dataclass(cls, given, "model entry", "model")


def name_saved(specs: Sequence[ModelSpec]) -> list[ModelSpec]:
    """Calls saved models what they were saved as, unless an alias is given; where two have one name, by their folders.

    Args:
        specs: Models that stand side by side.
    """
    found = [_read_alias(spec) if spec.kind == "saved" and not spec.alias else "" for spec in specs]
    names = [alias or spec.name for alias, spec in zip(found, specs, strict=True)]
    return [
        replace(spec, alias=alias if names.count(alias) == 1 else spec.name) if alias else spec
        for alias, spec in zip(found, specs, strict=True)
    ]


def _read_alias(spec: ModelSpec) -> str:
    """Returns the alias that a model was saved with; empty if it cannot be read, which `check_forecaster` tells."""
    revision = spec.options.get("revision")
    for name in (CONTEXT_FILE, SETTINGS, SPEC_FILE):
        with contextlib.suppress(OSError, ValueError):
            path = find_file(spec.source, name, revision)
            if path is not None:
                alias = json.loads(path.read_text(encoding="utf-8")).get("alias")
                check_alias(alias)
                return f"{alias}+context" if spec.reader else str(alias)
    return ""


def build_forecaster(spec: ModelSpec, task: ForecastTask, seed: int = 0) -> Forecaster:
    """Builds the forecaster of a specification for a task.

    The options `transform`, `non_negative` and `integer` are for every kind of model (`Forecaster.scale_target`).

    Raises:
        ValueError: If the name is nothing known, or options do not fit.
        ImportError: If the package behind it is not installed.
        OSError: If a saved or pretrained model cannot be loaded.
    """
    if spec.reader:
        return _build_told(spec, task, seed)
    spec, scale = _take_scale(spec)
    try:
        made = _build(spec, task, seed)
    except TypeError as error:
        if not spec.options:
            raise
        raise ValueError(f"{spec.name} cannot be built with options {spec.options}: {error}") from error
    # A saved model remembers its scale.
    return made.scale_target(**made.target_scale.to_dict() | scale) if scale else made


def _take_scale(spec: ModelSpec) -> tuple[ModelSpec, dict[str, Any]]:
    """Returns the specification without the options about the target's scale, and these."""
    scale = {name: spec.options[name] for name in SCALE_OPTIONS if name in spec.options}
    TargetScale(**scale)
    return replace(spec, options={k: v for k, v in spec.options.items() if k not in scale}), scale


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
        case "few-shot":
            return _build_few_shot(spec, task, seed)
        case "own":
            return _build_own(spec)
        case "ensemble":
            return _build_ensemble(spec, task, seed)
    return _build_statistical(spec, task)


def _build_told(spec: ModelSpec, task: ForecastTask, seed: int) -> Forecaster:
    """Builds a model whose texts are read; the comparison, or whoever has them, gives it the texts."""
    from tsllm.forecasting.context import ContextForecaster
    from tsllm.forecasting.readers import open_reader

    reader = open_reader(spec.reader)
    base = build_forecaster(replace(spec, reader="", alias=""), task, seed)
    options: dict[str, Any] = {"freq": task.freq, "season": task.season, "check_length": reader.check_length}
    return ContextForecaster(base, reader.read, spec.name, **options)


def check_forecaster(spec: ModelSpec, task: ForecastTask) -> None:
    """Checks an entry for a task, as far as that goes without loading weights or data.

    Raises:
        ValueError: If it could not be built, or its configuration does not fit the task.
        FileNotFoundError: If its reader's folder holds none.
    """
    spec = _take_scale(spec)[0]
    if spec.reader not in ("", RULES):
        from tsllm.context.reader import LearnedReader

        LearnedReader.load_head(spec.reader)
    if spec.kind == "saved":
        check_saved(spec.source)
        _check_saved_for(spec, task)
        return
    if spec.kind == "few-shot":
        check_saved(spec.source)
    if spec.kind == "own":
        check_own(spec.model, spec.options)
        return
    if spec.kind == "text":
        _check_text(spec)
        return
    if spec.kind == "ensemble":
        _check_ensemble(spec, task)
        return
    if spec.kind == "chronos":
        check_pretrained(spec.source, "chronos")
        check_device(spec.options.get("device"))
        return  # it loads what it is made of
    build_forecaster(replace(spec, reader=""), task)
    if spec.kind == "native":
        given = {k: v for k, v in spec.options.items() if k in find_model_class(spec.model).config_class.own_fields()}
        context = given.pop("context_length", task.context_length)
        from tsllm.training.build import check_model_config

        check_model_config(spec.model, given, context, task.h)


def _check_saved_for(spec: ModelSpec, task: ForecastTask) -> None:
    """Checks a saved model's description against a task.

    Raises:
        ValueError: If it is of another frequency, forecasts fewer steps, or reads covariates that are not named.
        OSError: If it has no description.
    """
    revision = spec.options.get("revision")
    check_hub_options(spec.source, revision, spec.options.get("token"))
    if find_file(spec.source, CONTEXT_FILE, revision) is not None:
        if spec.reader:
            raise ValueError(f"{spec.source} brings its own reader; leave `reader` out, or name {spec.source}/{BASE}")
        from tsllm.text.loading import fetch_folder

        base = find_base(fetch_folder(spec.source, revision))
        options = {name: value for name, value in spec.options.items() if name not in ("revision", "token")}
        _check_saved_for(replace(spec, model=base, options=options), task)
        return
    if find_file(spec.source, SETTINGS, revision) is not None:
        return
    saved = ForecasterSpec.load(spec.source, revision)
    known: tuple[str, ...] = ("revision", "token", "device", "batch_size")
    known += ("freq", "season") if saved.freq == ANY_FREQ else ("batch_invariant", "new_series", "pad_short")
    idle = sorted(set(spec.options) - set(known))
    if idle:
        raise ValueError(f"option {idle[0]!r} has no effect on a saved model that is used as it is; it takes {known}")
    if "batch_size" in spec.options:
        check_count("batch_size", spec.options["batch_size"])
    if spec.options.get("new_series") not in (None, "raise", "history"):
        raise ValueError(f"new_series is {spec.options['new_series']!r}; choose 'raise' or 'history'")
    if spec.options.get("new_series") == "history" and saved.layout == "multivariate":
        raise ValueError("new_series has no effect: its series are the channels of one sample; leave it out")
    for name in ("batch_invariant", "pad_short"):
        if not isinstance(spec.options.get(name, False), bool):
            raise ValueError(f"{name} is {spec.options[name]!r}; it must be true or false")
    check_device(spec.options.get("device"))
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


def check_device(device: Any) -> None:
    """Refuses what is no device of this machine; None = not said.

    Raises:
        ValueError: Naming it.
    """
    if device is None:
        return
    try:
        torch.empty(0, device=device)
    except (RuntimeError, TypeError, AssertionError) as error:
        said = str(error).splitlines()[0]
        raise ValueError(f"device is {device!r}, which cannot be used here ({said}); cpu can") from error


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
        if spec.options.get(name):
            check_pretrained(str(spec.options[name]), name)
    check_device(spec.options.get("device"))


def _check_ensemble(spec: ModelSpec, task: ForecastTask) -> None:
    """Checks an ensemble and each of its members.

    Raises:
        ValueError: If it has no members, an unknown option, or a member that could not be built.
    """
    if not spec.members:
        raise ValueError("an ensemble has members: ensemble:AutoETS+dlinear, or options: {members: [A, B]}")
    known = {"members", "weights", "n_windows"}
    unknown = sorted(set(spec.options) - known)
    if unknown:
        raise ValueError(f"ensemble has no option {unknown[0]!r}; it has {', '.join(sorted(known))}")
    names = [member.name for member in spec.members]
    doubled = [name for name in names if names.count(name) > 1]
    if doubled:
        raise ValueError(f"two members have the alias {doubled[0]!r}; give each its own, or name it once")
    for member in spec.members:
        check_forecaster(member, task)


def _build_ensemble(spec: ModelSpec, task: ForecastTask, seed: int) -> Forecaster:
    from tsllm.forecasting.ensemble import Ensemble

    _check_ensemble(spec, task)
    options = {name: value for name, value in spec.options.items() if name != "members"}
    members = [build_forecaster(member, task, seed) for member in spec.members]
    return Ensemble(members, spec.name, freq=task.freq, **options)


def give_named_covariates(specs: Sequence[ModelSpec]) -> list[ModelSpec]:
    """Has models read the covariates that somebody named for them, where they can but do not by themselves."""

    def can_read(spec: ModelSpec) -> bool:
        return spec.kind == "native" and find_model_class(spec.model).reads_covariates(spec.options, named=True)

    return [replace(s, covariates=True) if can_read(s) and not reads_covariates(s) else s for s in specs]


def reads_covariates(spec: ModelSpec) -> bool:
    """Tells whether a model of a comparison reads covariates of the data; True where that shows only when it runs."""
    if spec.kind == "ensemble":
        return any(map(reads_covariates, spec.members))
    if spec.covariates is not None:
        return spec.covariates
    if spec.kind == "native":
        return find_model_class(spec.model).reads_covariates(spec.options)
    return spec.model in OPPONENTS or spec.kind in ("saved", "own")


def reads_static(spec: ModelSpec) -> bool:
    """Tells whether a model reads static covariates; one that is estimated series by series has no use for them."""
    if spec.kind == "ensemble":
        return any(map(reads_static, spec.members))
    return reads_covariates(spec) and spec.kind != "statistical"


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
    return source != "text" and ModelSpec(source).kind == "saved"


def write_folder(folder: str | Path) -> str:
    """Returns a folder as it is named where a model is asked for: as a path if it is called like a model."""
    return str(folder) if Path(folder).is_absolute() or is_saved(str(folder)) else f"./{folder}"


def _is_statistical(name: str) -> bool:
    """Tells whether a name is one of the statistical models; the library is read for what could be a class alone."""
    if name in (*OPPONENTS, FLAIR):
        return True
    if not (name.isidentifier() and name[:1].isupper()):
        return False
    from tsllm.forecasting.statistical import find_statistical

    try:
        find_statistical(name)
    except ValueError:
        return False
    return True


def open_saved(source: str, **options: Any) -> Any:
    """Loads a saved forecaster: of series (`NeuralForecaster`), of all series (`ZeroShotForecaster`), of text, or one
    of these with what it is told (`ContextForecaster`).

    Args:
        source: A folder or a Hub id.
        **options: Of `from_pretrained`; of the base's for one that is told something.

    Raises:
        FileNotFoundError: If there is no such folder and it is no Hub id.
        ValueError: If a folder of a told forecaster holds another one as its base.
    """
    check_saved(source)
    check_hub_options(source, options.get("revision"), options.get("token"))
    if find_file(source, CONTEXT_FILE, options.get("revision"), options.get("token")) is not None:
        from tsllm.forecasting.context import ContextForecaster
        from tsllm.text.loading import fetch_folder

        folder = fetch_folder(source, options.pop("revision", None), options.pop("token", None))
        return ContextForecaster.load(folder, open_saved(find_base(folder), **options))
    if find_file(source, SETTINGS, options.get("revision"), options.get("token")) is not None:
        from tsllm.forecasting.text import TextForecaster

        return TextForecaster.from_pretrained(source, **options)
    if ForecasterSpec.load(source, options.get("revision"), options.get("token")).freq == ANY_FREQ:
        from tsllm.forecasting.zero_shot import ZeroShotForecaster

        return ZeroShotForecaster.from_pretrained(source, **options)
    from tsllm.forecasting.neural import NeuralForecaster

    return NeuralForecaster.from_pretrained(source, **options)


def find_base(folder: Path) -> str:
    """Returns the folder of the base in that of a told forecaster.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If the base is a told forecaster itself.
    """
    base = folder / BASE
    if not base.is_dir():
        raise FileNotFoundError(f"{folder} holds no {BASE}/, the forecaster that is told something; save it again")
    if (base / CONTEXT_FILE).is_file():
        raise ValueError(f"{base} is told something itself; a told forecaster's base must be a plain one")
    return str(base)


def _load_saved(spec: ModelSpec, task: ForecastTask) -> Forecaster:
    from tsllm.forecasting.context import ContextForecaster
    from tsllm.forecasting.neural import NeuralForecaster
    from tsllm.forecasting.text import TextForecaster
    from tsllm.forecasting.zero_shot import ZeroShotForecaster

    # It is used as it is: without a step of training, `fit` only takes the history.
    opened = open_saved(spec.model, **spec.options)
    loaded = opened.base if isinstance(opened, ContextForecaster) else opened
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
        opened.alias = spec.alias
    return opened  # type: ignore[no-any-return]


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


def check_known(model: str) -> None:
    """Refuses a name that no model bears; names of packages, folders and dotted paths are looked up when built.

    Raises:
        ValueError: Naming the nearest models, and all of them.
    """
    import difflib

    from tsllm.forecasting.statistical import name_statistical
    from tsllm.models import MODELS

    if model == "text" or ModelSpec(model).kind != "statistical" or model in (*OPPONENTS, FLAIR):
        return
    classes = name_statistical()
    if model in classes:
        return
    ours = [*NAIVE, *OPPONENTS, *MODELS.names()]
    folded = {name.lower(): name for name in [*ours, *classes]}
    near = [folded[name] for name in difflib.get_close_matches(model.lower(), folded, n=3)]
    hint = f"did you mean {', '.join(near)}? " if near else ""
    raise ValueError(
        f"unknown model {model!r}; {hint}known: {', '.join(ours)}, text, ensemble:A+B, neuralforecast:NHITS, "
        "chronos:amazon/chronos-bolt-small, a saved folder, or a class of statsforecast (AutoETS, AutoTheta ...)"
    )


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
