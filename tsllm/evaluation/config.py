"""What a comparison is asked for: data sets, models, budgets."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import yaml

from tsllm.data.columns import is_table
from tsllm.data.frequency import Freq
from tsllm.data.names import ColumnNames
from tsllm.data.task import Asked
from tsllm.evaluation.ablation import build_ablations
from tsllm.evaluation.budget import BudgetRule, check_budgets, collect_budgets
from tsllm.forecasting.base import check_seconds, compute_quantile_levels
from tsllm.forecasting.context_folder import write_texts
from tsllm.forecasting.model_spec import ModelSpec, name_saved
from tsllm.hub.spec import check_alias
from tsllm.training.args import load_yaml, read_dataclass

T = TypeVar("T")
_OF_TASKS = (
    "data_path",
    "h",
    "season",
    "n_windows",
    "step_size",
    "freq",
    "id_col",
    "time_col",
    "target_col",
)  # what a task of others fixes


@dataclass(frozen=True)
class DataEntry:
    """A data set of a comparison.

    Attributes:
        name: A name of `DATASETS`, a file, or a Hub id.
        data_path: File of a named data set.
        h: Steps ahead; None = the data set's custom.
        context_length: Look-back; None = the data set's custom, or by frequency.
        season: Steps in a season; None = the data set's, or by frequency.
        n_windows: Cutoffs, the last ones of each series.
        step_size: Steps between cutoffs; None = h.
        val_size: Steps before the first cutoff that are held for early stopping and look-back search.
        split: "customary" = the cutoffs are those of the named data set's own test part, `step_size` apart, and the
            validation part is its own too; empty = the last `n_windows` cutoffs.
        freq: Frequency; None = the data set's, or inferred.
        layout: "auto", "multivariate" or "univariate"; None = auto.
        covariates: Columns known over the horizon; None = the data set's own.
        past_covariates: Columns known up to the cutoff only; None = the data set's own.
        static: Columns with one value a series; None = none.
        share_covariates: As in `WindowDataset`.
        targets: Columns of a wide table that are series; None = all.
        series: Only the series of these names; None = all.
        max_series: Only the first so many series; None = all.
        unit: What tests pair: "cutoff", the mean over series at each; or "series", where series are independent of one
            another, as in competitions of unrelated series with one cutoff each.
        task: A task of others, which brings its own horizon, windows and season: `name` is then a fev file and this
            the name of one of its tasks, or `name` is a folder of GIFT-Eval and this a term ("short", "medium",
            "long"). Empty = no such task.
        id_col: Column that names the series, if not `unique_id`.
        time_col: Column of the times, if not `ds` or `date`.
        target_col: Column of the values, if not `y`.
        day_first: As in `validate_frame`.
        context: What was known of these series, for models with a `reader`: a text, or the path of a table `unique_id,
            text, published[, start, end]`, or of a JSON file series -> text; a cutoff reads what was published by
            then. A mapping is taken too, in Python also a frame.
        timeless: Whether texts without `published` may be read at every cutoff.
        frame: The series themselves, in Python only; `name` is then what tables call them.
    """

    name: str
    data_path: str | None = None
    h: int | None = None
    context_length: int | None = None
    season: int | None = None
    n_windows: int = 1
    step_size: int | None = None
    val_size: int | None = None
    split: str = ""
    freq: Freq | None = None
    layout: str | None = None
    covariates: list[str] | None = None
    past_covariates: list[str] | None = None
    static: list[str] | None = None
    share_covariates: bool = False
    targets: list[str] | None = None
    series: list[str] | None = None
    max_series: int | None = None
    unit: str = "cutoff"
    task: str = ""
    id_col: str | None = None
    time_col: str | None = None
    target_col: str | None = None
    day_first: bool | None = None
    context: Any = None
    timeless: bool = False
    frame: pd.DataFrame | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("a data entry has an empty name; give a name of a data set, a file or a Hub id")
        for name in ("n_windows", "step_size", "max_series"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{self.name}: {name} is {value}; it must be at least 1")
        if self.unit not in ("cutoff", "series"):
            raise ValueError(f"{self.name}: unit is {self.unit!r}; choose cutoff or series")
        if self.split not in ("", "customary"):
            raise ValueError(f"{self.name}: split is {self.split!r}; choose customary, or leave it out")
        if self.split and (self.n_windows != 1 or self.val_size is not None or self.task):
            raise ValueError(
                f"{self.name}: split: customary brings its own windows and validation part; leave out n_windows, "
                "val_size and task (step_size says how far apart the cutoffs are)"
            )
        if self.timeless and self.context is None:
            raise ValueError(f"{self.name}: timeless has no effect without context; leave it out")
        self.asked()
        given = [f.name for f in fields(self) if f.name in _OF_TASKS and getattr(self, f.name) != f.default]
        if self.task and given:
            raise ValueError(f"{self.name}: task {self.task!r} brings its own {', '.join(given)}; leave that out")

    def asked(self) -> Asked:
        """Returns what is asked of the data.

        Raises:
            TaskError: For an impossible value.
        """
        return Asked(
            h=self.h,
            context_length=self.context_length,
            freq=self.freq,
            season=self.season,
            layout=self.layout,
            covariates=self.covariates,
            past_covariates=self.past_covariates,
            static=self.static,
            share_covariates=self.share_covariates,
            val_size=self.val_size,
            names=ColumnNames.of(self.id_col, self.time_col, self.target_col),
            day_first=self.day_first,
        )

    @classmethod
    def parse(cls, given: "str | Mapping[str, Any] | DataEntry") -> "DataEntry":
        """Reads a name or a mapping.

        Raises:
            ValueError: If it is neither, or a mapping has unknown keys, values of the wrong type, or no name.
        """
        if isinstance(given, DataEntry):
            return given
        return cls(given) if isinstance(given, str) else read_dataclass(cls, given, "data entry", "name")


# Samplers of a search -> how they draw, in words after "drawn".
SAMPLERS = {
    "tpe": "by a tree-structured Parzen estimator",
    "random": "at random",
    "sobol": "from a scrambled Sobol sequence",
}


@dataclass(frozen=True)
class TuneRule:
    """How settings are searched, the same for every model that is trained here.

    Attributes:
        trials: Of each model and data set, on the validation part before the first cutoff; the first one is the entry
            as it is.
        search: Changes of what is tried, as in `tsllm.evaluation.tune.build_space`.
        sampler: "tpe", "random" or "sobol", as in `tsllm.evaluation.tune.tune_model`.
        seed: Of the draws and of the weights.
        windows: Training windows that a trial sees at most; 0 = as many as the budget gives.
    """

    trials: int
    search: dict[str, Any] = field(default_factory=dict)
    sampler: str = "tpe"
    seed: int = 0
    windows: int = 0

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise ValueError(f"tune: trials is {self.trials}; it must be at least 1")
        if self.sampler not in SAMPLERS:
            raise ValueError(f"tune: sampler is {self.sampler!r}; choose {', '.join(SAMPLERS)}")
        if self.windows < 0:
            raise ValueError(f"tune: windows is {self.windows}; give a count, or 0 for as many as the budget gives")

    def describe(self) -> str:
        """Returns the rule as a sentence."""
        drawn = SAMPLERS[self.sampler]
        return (
            f"Settings of every trainable model: the best of {self.trials} trials each, drawn {drawn} (seed "
            f"{self.seed}), by the validation loss before the first cutoff"
            + (f", each after at most {self.windows:,} training windows." if self.windows else ".")
        )


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
        budget: How long each trainable model trains, one rule for all (`tsllm.evaluation.budget.BudgetRule`); None =
            as its entry says. What an entry gives itself wins, and is told.
        tune: How settings are searched (`TuneRule`); None = not at all.
        focus: Alias that the finding also speaks of, the language model's usually; empty = none.
        ablate: Aliases of Time-LLM models whose standard variants are compared, too.
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
    budget: Any = None
    tune: Any = None
    focus: str = ""
    ablate: str | list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.data = _parse_all(DataEntry.parse, self.data)
        self.models = name_saved(_parse_all(ModelSpec.parse, self.models))
        for name, value, rule in (("budget", self.budget, BudgetRule), ("tune", self.tune, TuneRule)):
            if not isinstance(value, (dict, rule, type(None))):
                raise ValueError(f"{name} is {value!r}; it must be a mapping")
        if isinstance(self.budget, dict):
            self.budget = read_dataclass(BudgetRule, self.budget, "budget")
        if isinstance(self.tune, dict):
            self.tune = read_dataclass(TuneRule, self.tune, "tune", "trials")
        self._check_trials()
        self.ablate = [self.ablate] if isinstance(self.ablate, str) else self.ablate
        for name in self.ablate:
            whole = next((m for m in self.models if m.name == name), None)
            if whole is None:
                raise ValueError(f"ablate names {name!r}, which is none of the models {[m.name for m in self.models]}")
            known = {m.name for m in self.models}
            self.models += [m for m in build_ablations(whole) if m.name not in known]
        names = [m.name for m in self.models]
        doubled = sorted({n for n in names if names.count(n) > 1})
        if doubled:
            raise ValueError(f"two models are called {doubled[0]!r}; give each its own alias")
        for spec in self.models:
            if spec.variant_of == spec.name:
                raise ValueError(f"{spec.name} is a variant of itself; variant_of names another model")
        for wanted in filter(None, [self.reference, self.focus, *(m.variant_of for m in self.models)]):
            if wanted not in names:
                raise ValueError(f"{wanted!r} is none of the models {names}")
        if not self.seeds or not self.data or not self.models:
            raise ValueError("a comparison needs at least one data set, one model and one seed")
        if len(set(self.seeds)) < len(self.seeds) or any(seed < 0 for seed in self.seeds):
            raise ValueError(f"seeds are {self.seeds}; give different numbers of at least 0")
        if len(set(self.look_backs)) < len(self.look_backs) or any(length < 1 for length in self.look_backs):
            raise ValueError(f"look_backs are {self.look_backs}; give different numbers of at least 1 step")
        if not isinstance(self.refit, bool) and self.refit < 1:
            raise ValueError(f"refit is {self.refit}; give true, false, or each how many cutoffs (at least 1)")
        self._check_texts()
        check_seconds(self.max_seconds)
        compute_quantile_levels(self.level)
        if not self.output_dir.strip():
            raise ValueError("output_dir is empty; name the folder for cells, tables and report")
        for spec in self.models:
            check_alias(spec.name)
        if self.look_backs and any(entry.val_size == 0 for entry in self.data):
            raise ValueError("look_backs are chosen by validation loss, but val_size is 0; leave one of them out")
        converges = isinstance(self.budget, BudgetRule) and self.budget.kind == "convergence"
        if converges and any(entry.val_size == 0 for entry in self.data):
            raise ValueError("the budget ends by validation loss, but val_size is 0; give val_size, or kind: windows")
        if isinstance(self.budget, BudgetRule) and self.budget.retrain and self.look_backs:
            raise ValueError("look_backs are chosen seed by seed, which retrain does not wait for; use tune: instead")
        self._check_retraining()
        self._check_seeds()

    def _check_trials(self) -> None:
        windows = 0 if self.tune is None else self.tune.windows
        if windows and not isinstance(self.budget, BudgetRule):
            raise ValueError("tune: windows shortens the budget's training, but there is no budget; give one")
        every = self.budget.eval_every_windows if windows else 0
        if windows < every:
            raise ValueError(f"tune: windows is {windows}, less than the budget's eval_every_windows ({every})")

    def _check_retraining(self) -> None:
        """Refuses what a training for a number of steps that another one found could not repeat."""
        if not (isinstance(self.budget, BudgetRule) and self.budget.retrain):
            return
        if self.max_seconds is not None:
            raise ValueError(
                f"max_seconds is {self.max_seconds:g}, which may end a training before the length that retrain found; "
                "leave one of them out"
            )
        searched = [] if self.tune is None else [name for name, tried in self.tune.search.items() if tried is not None]
        for spec in self.models:
            if spec.kind == "native" and spec.is_trainable:
                self.budget.check_repeatable(spec.name, spec.training, searched)

    def _check_seeds(self) -> None:
        """Refuses several seeds for a model whose entry fixes its own: its runs would all be the same."""
        for spec in (one for model in self.models for one in (model, *model.members)):
            own = spec.training.get("seed", spec.options.get("random_seed"))
            if own is not None and len(self.seeds) > 1:
                raise ValueError(
                    f"{spec.name} fixes its seed ({own}), so the seeds {self.seeds} would be the same run "
                    f"{len(self.seeds)} times; leave it out of the entry, or give one seed"
                )

    def _check_texts(self) -> None:
        """Refuses texts that nobody reads, and readers without texts."""
        told = [entry.name for entry in self.data if entry.context is not None]
        readers = [model.name for model in self.models if model.reader]
        if told and not readers:
            raise ValueError(
                f"{told[0]} has context, but no model has a reader; give one `reader: rules`, a folder, or "
                "`reader: model` where it reads texts itself"
            )
        if readers and not told:
            raise ValueError(f"{readers[0]} has a reader, but no data entry has context; give texts or leave it out")

    def to_yaml(self) -> str:
        """Returns the file that `load` reads back; of series that were given in Python only the name stands in it."""
        given = {f.name: getattr(self, f.name) for f in fields(self)}
        for name in ("data", "models"):
            given[name] = [shorten(entry) for entry in given[name]]
        for name in ("budget", "tune"):
            given[name] = None if given[name] is None else shorten(given[name])
        return write_yaml(given)

    def find_unequal_budgets(self) -> list[str]:
        """Returns a sentence for each way in which trainable models get unequal budgets; none if they are equal."""
        specs = collect_budgets(self.models)
        if isinstance(self.budget, BudgetRule):
            rule = self.budget
            specs = [(name, rule.apply(training, 100_000), batch) for name, training, batch in specs]
        return check_budgets(specs, self.max_seconds)

    @classmethod
    def load(cls, path: str | Path, overrides: Mapping[str, Any] | None = None) -> "CompareConfig":
        """Reads a YAML file; `overrides` replace its top-level keys.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it holds unknown keys or lacks data or models.
        """
        given = load_yaml(path) | dict(overrides or {})
        return read_dataclass(cls, given, str(path), "data", "models")


def _parse_all(parse: Callable[[Any], T], entries: Sequence[Any]) -> list[T]:
    """Reads every entry.

    Raises:
        ValueError: Listing the faults of all entries.
    """
    made, faults = [], []
    for entry in entries:
        try:
            made.append(parse(entry))
        except ValueError as error:
            faults.append(str(error))
    if faults:
        raise ValueError("; ".join(dict.fromkeys(faults)))
    return made


def write_yaml(given: Mapping[str, Any]) -> str:
    """Writes a mapping as YAML of plain types, without what is empty."""
    kept = {name: value for name, value in given.items() if value not in (None, [], "", False)}
    return str(yaml.safe_dump(json.loads(json.dumps(kept, default=str)), sort_keys=False, allow_unicode=True))


def shorten(entry: Any) -> dict[str, Any]:
    """Returns the fields of a dataclass that differ from their defaults, as plain types."""
    blank = {
        f.name: f.default_factory() if f.default is MISSING and f.default_factory is not MISSING else f.default
        for f in fields(entry)
    }
    values = {f.name: getattr(entry, f.name) for f in fields(entry) if f.name != "frame"}
    if is_table(values.get("context")):
        values["context"] = write_texts(ColumnNames.of(entry.id_col).read_texts(values["context"]))
    return {name: value for name, value in values.items() if value != blank[name]}
