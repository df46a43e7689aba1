"""What a comparison is asked for: data sets, models, budgets; and what each forecaster is told about its task."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from tsllm.data.frequency import Freq
from tsllm.models import MODELS

NAIVE = ("SeasonalNaive", "Naive")
_OF_TASKS = ("data_path", "h", "season", "n_windows", "step_size", "freq")  # what a task of others fixes
PACKAGED = ("neuralforecast", "chronos")  # kinds written "package:model"


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
        model: What it is; see `kind`.
        alias: Name of its column; empty = the model's own.
        options: Constructor options: the model configuration's fields for native models, those of `TextForecaster`
            with `language_model` for text, those of the class in neuralforecast or statsforecast.
        training: Training options of native models.
        covariates: Whether it is given the task's covariates.
        perturb: "input" or "prototypes": the model called `of` with its history or its prototypes shuffled when it
            forecasts; nothing is trained.
        of: Alias of the model that is perturbed.
        role: "ablation" puts it into the ablation table; empty otherwise.
    """

    model: str
    alias: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    covariates: bool = False
    perturb: str = ""
    of: str = ""
    role: str = ""

    def __post_init__(self) -> None:
        if self.perturb not in ("", "input", "prototypes"):
            raise ValueError(f"perturb is {self.perturb!r}; choose input or prototypes")
        if bool(self.perturb) != bool(self.of):
            raise ValueError(f"{self.alias or self.model}: perturb and of belong together; give both or none")
        if self.kind == "text" and not self.options.get("language_model"):
            raise ValueError("model text needs options: {language_model: ...}, a packaged name, a folder or a Hub id")
        if self.training and self.kind != "native":
            raise ValueError(f"{self.name}: training is for models of tsllm; a {self.kind} model takes options alone")

    @property
    def kind(self) -> str:
        """What `model` stands for.

        - native: a name of `tsllm.models.MODELS` ("timellm"), trained here.
        - neuralforecast: "neuralforecast:NHITS", a class of that package, trained here.
        - naive: "SeasonalNaive", "Naive".
        - text: a causal language model that reads and writes numbers, as it is.
        - chronos: "chronos:amazon/chronos-bolt-small", a pretrained Chronos model, as it is.
        - saved: a folder or Hub id ("user/name") that a recipe, `tsllm fit` or `save_pretrained` wrote.
        - own: a dotted path to a class of one's own ("my_module.MyForecaster").
        - statistical: a class of statsforecast.models ("AutoETS").
        """
        package, _, rest = self.model.partition(":")
        if rest and package in PACKAGED:
            return package
        if self.model in MODELS:
            return "native"
        if self.model in NAIVE:
            return "naive"
        if self.model == "text":
            return "text"
        if "/" in self.model or Path(self.model).is_dir():
            return "saved"
        return "own" if "." in self.model else "statistical"

    @property
    def is_trainable(self) -> bool:
        """Whether it is trained here, so that seed, look-back search and budget concern it."""
        return self.kind in ("native", "neuralforecast") and not self.perturb

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
            return MODELS.get(self.model).__name__
        if self.kind == "text":
            return f"{Path(self.options['language_model']).name}-text"
        return self.source.rpartition(".")[2] if self.kind == "own" else Path(self.source).name

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
        _refuse_unknown(given, cls, f"model entry {dict(given)!r}", "model")
        return cls(**given)


@dataclass(frozen=True)
class DataTask:
    """A data set of a comparison.

    Attributes:
        name: A name of `DATASETS`, a file, or a Hub id.
        data_path: File of a named data set.
        h: Steps ahead; None = the data set's custom.
        context_length: Look-back; None = the data set's custom.
        season: Steps in a season; None = the data set's, or by frequency.
        n_windows: Cutoffs, the last ones of each series.
        step_size: Steps between cutoffs; None = h.
        val_size: Steps before the first cutoff that are held for early stopping and look-back search.
        freq: Frequency; None = the data set's, or inferred.
        max_series: Only the first so many series; None = all.
        task: A task of others, which brings its own horizon, windows and season: `name` is then a fev file and this
            the name of one of its tasks, or `name` is a folder of GIFT-Eval and this a term ("short", "medium",
            "long"). Empty = no such task.
    """

    name: str
    data_path: str | None = None
    h: int | None = None
    context_length: int | None = None
    season: int | None = None
    n_windows: int = 1
    step_size: int | None = None
    val_size: int | None = None
    freq: str | int | None = None
    max_series: int | None = None
    task: str = ""

    def __post_init__(self) -> None:
        given = [f.name for f in fields(self) if f.name in _OF_TASKS and getattr(self, f.name) != f.default]
        if self.task and given:
            raise ValueError(f"{self.name}: task {self.task!r} brings its own {', '.join(given)}; leave that out")

    @classmethod
    def parse(cls, given: "str | Mapping[str, Any] | DataTask") -> "DataTask":
        """Reads a name or a mapping.

        Raises:
            ValueError: If a mapping has unknown keys or no name.
        """
        if isinstance(given, DataTask):
            return given
        if isinstance(given, str):
            return cls(given)
        _refuse_unknown(given, cls, f"data entry {dict(given)!r}", "name")
        return cls(**given)


@dataclass
class CompareConfig:
    """A whole comparison, as a YAML file gives it.

    Attributes:
        data: Data sets.
        models: Models.
        output_dir: Folder for cells, tables and report.
        title: Heading of the report.
        reference: Alias that skill and tests refer to.
        seeds: Of the trainable models.
        level: Levels of the intervals.
        refit: As in `backtest`.
        look_backs: Context lengths among which each trainable model chooses by its validation loss; empty = as given.
        max_seconds: Training seconds of each trainable model and seed; None = no limit.
        focus: Alias that the finding also speaks of, the language model's usually; empty = none.
    """

    data: list[Any]
    models: list[Any]
    output_dir: str = "runs/compare"
    title: str = "Comparison"
    reference: str = "SeasonalNaive"
    seeds: list[int] = field(default_factory=lambda: [0])
    level: list[float] = field(default_factory=lambda: [20, 40, 60, 80])
    refit: bool | int = False
    look_backs: list[int] = field(default_factory=list)
    max_seconds: float | None = None
    focus: str = ""

    def __post_init__(self) -> None:
        self.data = [DataTask.parse(d) for d in self.data]
        self.models = [ModelSpec.parse(m) for m in self.models]
        names = [m.name for m in self.models]
        doubled = sorted({n for n in names if names.count(n) > 1})
        if doubled:
            raise ValueError(f"two models are called {doubled[0]!r}; give each its own alias")
        for wanted in filter(None, [self.reference, self.focus, *(m.of for m in self.models)]):
            if wanted not in names:
                raise ValueError(f"{wanted!r} is none of the models {names}")
        if not self.seeds or not self.data:
            raise ValueError("a comparison needs at least one data set and one seed")
        if self.look_backs and any(task.val_size == 0 for task in self.data):
            raise ValueError("look_backs are chosen by validation loss, but val_size is 0; leave one of them out")

    @classmethod
    def load(cls, path: str | Path, overrides: Mapping[str, Any] | None = None) -> "CompareConfig":
        """Reads a YAML file; `overrides` replace its top-level keys.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it holds unknown keys or lacks data or models.
        """
        import yaml

        file = Path(path)
        if not file.is_file():
            raise FileNotFoundError(f"no configuration {file}; the project's stand under recipes/configs/compare")
        given = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
        given |= dict(overrides or {})
        _refuse_unknown(given, cls, str(file), "data", "models")
        return cls(**given)


def _refuse_unknown(given: Mapping[str, Any], cls: type[Any], what: str, *needed: str) -> None:
    known: Sequence[str] = [f.name for f in fields(cls)]
    unknown = sorted(set(given) - set(known))
    missing = [n for n in needed if n not in given]
    if unknown or missing:
        raise ValueError(f"{what} has unknown keys {unknown} and lacks {missing}; known keys: {', '.join(known)}")
