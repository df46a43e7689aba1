"""What a name in Python, a command line or a YAML file stands for: the kind of model and its options."""

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tsllm.hub.spec import SPEC_FILE, check_alias, find_file
from tsllm.hub.told import CONTEXT_FILE, ITSELF, RULES
from tsllm.models import find_model_class, is_model_name
from tsllm.near import find_near
from tsllm.text.settings import SETTINGS
from tsllm.training.options import check_options

NAIVE = ("SeasonalNaive", "Naive", "Naive2")
STEP_REGRESSION = "StepRegression"
OPPONENTS = ("LEAR", "ARIMAX", STEP_REGRESSION)  # statistical models that read covariates where there are some
FLAIR = "FLAIR"
PACKAGED = ("neuralforecast", "chronos", "few-shot")  # kinds written "kind:model"


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
        reader: Who reads the texts of the data (`context` of a data entry): "rules", the folder of a trained reader,
            "rules+FOLDER" (the rules, and where they find nothing, a trained reader), or "model", the model itself (a
            neural model with text_layers, text); empty = nobody, the model forecasts by numbers alone.
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
            check_known(self.model)  # a name that is misspelt is no statistical model
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
    def keeps_estimates(self) -> bool:
        """Whether a statistical model, or a member, is estimated once and reads later windows with its parameters."""
        if self.kind == "ensemble":
            return any(member.keeps_estimates for member in self.members)
        return self.kind == "statistical" and self.options.get("refit") is False

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
    return spec.model in OPPONENTS or spec.kind in ("saved", "few-shot", "own")


def reads_static(spec: ModelSpec) -> bool:
    """Tells whether a model reads static covariates; one that is estimated series by series has no use for them."""
    if spec.kind == "ensemble":
        return any(map(reads_static, spec.members))
    return reads_covariates(spec) and spec.kind != "statistical"


def reads_texts(spec: ModelSpec) -> bool:
    """Tells whether a model of a comparison reads texts itself; True where that shows only when it runs.

    Raises:
        OSError: If a saved model cannot be looked up.
    """
    if spec.kind in ("text", "own"):
        return True
    if spec.kind == "native":
        return bool(spec.options.get("text_layers"))
    if spec.kind not in ("saved", "few-shot"):
        return False
    revision = spec.options.get("revision")
    if spec.kind == "saved" and find_file(spec.source, SETTINGS, revision) is not None:
        return True
    config = find_file(spec.source, "config.json", revision)
    return config is not None and bool(json.loads(config.read_text(encoding="utf-8")).get("text_layers"))


def tell_spec(spec: ModelSpec, reader: str | None = None) -> ModelSpec:
    """Returns a model that is told the texts of the data, as `NAME+context`.

    Args:
        spec: The model without them.
        reader: Who reads them; None = the model itself if it can, else the rules.
    """
    # Whether a class of one's own reads texts shows only when it runs; the rules read for any.
    itself = spec.kind != "own" and reads_texts(spec)
    return replace(spec, alias=f"{spec.name}+context", reader=reader or (ITSELF if itself else RULES))


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


def check_known(model: str) -> None:
    """Refuses a name that no model bears; names of packages, folders and dotted paths are looked up when built.

    Raises:
        ValueError: Naming the nearest models, and all of them.
    """
    from tsllm.forecasting.statistical import name_statistical
    from tsllm.models import MODELS

    if model == "text" or ModelSpec(model).kind != "statistical" or model in (*OPPONENTS, FLAIR):
        return
    classes = name_statistical()
    if model in classes:
        return
    ours = [*NAIVE, *OPPONENTS, *MODELS.names()]
    near = find_near(model, [*ours, *classes])
    hint = f"did you mean {', '.join(near)}? " if near else ""
    raise ValueError(
        f"unknown model {model!r}; {hint}known: {', '.join(ours)}, text, ensemble:A+B, neuralforecast:NHITS, "
        "chronos:amazon/chronos-bolt-small, a saved folder, or a class of statsforecast (AutoETS, AutoTheta ...)"
    )
