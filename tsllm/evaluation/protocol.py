"""What the long-term protocol is asked for: data sets, horizons, models, seeds, few-shot and transfer."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from tsllm.data.sources import DATASETS
from tsllm.data.task import Asked
from tsllm.data.windows import check_share
from tsllm.evaluation.budget import BudgetRule
from tsllm.evaluation.config import shorten, write_yaml
from tsllm.forecasting.base import check_count, check_seconds
from tsllm.forecasting.model_spec import ModelSpec
from tsllm.hub.spec import check_alias
from tsllm.training.args import load_yaml, read_dataclass


@dataclass(frozen=True)
class ProtocolData:
    """A data set of the protocol.

    Attributes:
        name: A name of `DATASETS`, because only named data sets have a customary split.
        data_path: Its file, or a folder that holds it; None = the folder TSLLM_DATA, or the Hub.
        covariates: Columns known over the horizon; None = the data set's own.
        past_covariates: Columns known up to the cutoff only; None = the data set's own.
    """

    name: str
    data_path: str | None = None
    covariates: list[str] | None = None
    past_covariates: list[str] | None = None

    def __post_init__(self) -> None:
        DATASETS.get(self.name)  # raises with the nearest names

    def asked(self) -> Asked:
        """Returns what is asked of the data."""
        return Asked(covariates=self.covariates, past_covariates=self.past_covariates)

    @classmethod
    def parse(cls, given: "str | Mapping[str, Any] | ProtocolData") -> "ProtocolData":
        """Reads a name or a mapping."""
        if isinstance(given, ProtocolData):
            return given
        return cls(given) if isinstance(given, str) else read_dataclass(cls, given, "data entry", "name")


@dataclass
class LongTermConfig:
    """A whole run of the protocol, as a YAML file or `tsllm.long_term` gives it.

    Attributes:
        data: Data sets that models are trained and tested on.
        models: Models, as in a comparison.
        horizons: Steps ahead; empty = the customary ones of each data set.
        seeds: Of the trainable models.
        transfer: Pairs "source:target": trained on the first, tested on the second.
        few_shot: Share of the training windows that models are trained on, the first ones.
        data_path: Folder of the data sets' files, or the file of the one data set; None = the folder TSLLM_DATA, or
            the Hub. An entry's own wins.
        context_length: Look-back of models that do not name their own; None = the data set's custom.
        layout: "multivariate" or "univariate"; None = by the data.
        test_stride: Steps between test windows; published results count every window (1).
        reference: Alias that paired tests refer to; empty = the first model.
        budget: One rule for how long each trainable model trains (`BudgetRule`); None = as its entry says.
        max_seconds: Training seconds of each trainable model and seed; None = no limit.
        output_dir: Folder for cells, tables and report; empty = by what is run: "runs/long_term", "runs/few_shot",
            "runs/transfer" (nothing but transfers) or "runs/few_shot_transfer".
        title: Heading of the report.
    """

    data: list[Any] = field(default_factory=list)
    models: list[Any] = field(default_factory=list)
    horizons: list[int] = field(default_factory=list)
    seeds: list[int] = field(default_factory=lambda: [0])
    transfer: list[str] = field(default_factory=list)
    few_shot: float = 1.0
    data_path: str | None = None
    context_length: int | None = None
    layout: str | None = None
    test_stride: int = 1
    reference: str = ""
    budget: Any = None
    max_seconds: float | None = None
    output_dir: str = ""
    title: str = "Long-term forecasting"

    def __post_init__(self) -> None:
        self.data = [ProtocolData.parse(d) for d in self.data]
        self.models = [ModelSpec.parse(m) for m in self.models]
        if isinstance(self.budget, dict):
            self.budget = read_dataclass(BudgetRule, self.budget, "budget")
        if not isinstance(self.budget, (BudgetRule, type(None))):
            raise ValueError(f"budget is {self.budget!r}; it must be a mapping")
        if not (self.data or self.transfer) or not self.models or not self.seeds:
            raise ValueError("the protocol needs at least one data set (or transfer), one model and one seed")
        check_share("few_shot", self.few_shot)
        check_seconds(self.max_seconds)
        for name in ("test_stride", "context_length"):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name))
        for h in self.horizons:
            check_count("a horizon", h)
        if self.layout not in (None, "multivariate", "univariate"):
            raise ValueError(f"layout is {self.layout!r}; choose multivariate or univariate, or leave it out")
        self._check_names()
        self._trained = [entry.name for entry in self.data]
        self._routes = [self._read_route(text) for text in self.transfer]
        for name in dict.fromkeys(n for route in self._routes for n in route):
            if name not in [entry.name for entry in self.data]:
                self.data.append(ProtocolData(name))
        self._give_path()
        self.output_dir = self.output_dir.strip() or self._name_folder()

    def _name_folder(self) -> str:
        """Returns the folder of a run that names none, so that runs of different kinds keep their reports."""
        parts = ["few_shot"] if self.few_shot < 1 else []
        parts += ["transfer"] if not self._trained else []
        return f"runs/{'_'.join(parts) or 'long_term'}"

    def _give_path(self) -> None:
        """Gives the common path to the entries without one of their own."""
        if self.data_path is None:
            return
        lacking = [entry for entry in self.data if entry.data_path is None]
        if len(lacking) > 1 and not Path(self.data_path).is_dir():
            raise ValueError(
                f"data_path is {self.data_path!r}, which is no folder, but {len(lacking)} data sets are named; give "
                "the folder of their files"
            )
        self.data = [replace(e, data_path=e.data_path or self.data_path) for e in self.data]

    def _check_names(self) -> None:
        names = [m.name for m in self.models]
        for kind, values in (("models", names), ("data sets", [d.name for d in self.data])):
            doubled = sorted({v for v in values if values.count(v) > 1})
            if doubled:
                raise ValueError(f"two {kind} are called {doubled[0]!r}; name each once (models by an alias)")
        for kind, numbers in (("seeds", self.seeds), ("horizons", self.horizons)):
            if len(set(numbers)) < len(numbers) or any(n < 0 for n in numbers):
                raise ValueError(f"{kind} are {numbers}; give different numbers of at least 0")
        for spec in self.models:
            check_alias(spec.name)
            if spec.perturb:
                raise ValueError(f"{spec.name}: perturb is for comparisons; leave it out")
        self.reference = self.reference or names[0]
        if self.reference not in names:
            raise ValueError(f"reference {self.reference!r} is none of the models {names}")

    @staticmethod
    def _read_route(text: str) -> tuple[str, str]:
        source, _, target = text.partition(":")
        if not source or not target or source == target:
            raise ValueError(f"transfer is {text!r}; write source:target, such as etth1:etth2")
        return source, target

    def pairs(self) -> list[tuple[str, str]]:
        """Returns (trained on, tested on) of each row: the data sets themselves, then the transfers."""
        return [(name, name) for name in self._trained] + self._routes

    def find_entry(self, name: str) -> ProtocolData:
        """Returns the entry of a data set."""
        return next(entry for entry in self.data if entry.name == name)

    def to_yaml(self) -> str:
        """Returns the file that `load` reads back."""
        given = {f.name: getattr(self, f.name) for f in fields(self)}
        # Data sets that stand in a transfer alone come from there.
        given["data"] = [shorten(self.find_entry(name)) for name in self._trained]
        given["models"] = [shorten(entry) for entry in self.models]
        given["budget"] = None if self.budget is None else shorten(self.budget)
        return write_yaml(given)

    @classmethod
    def load(cls, path: str | Path, overrides: Mapping[str, Any] | None = None) -> "LongTermConfig":
        """Reads a YAML file; `overrides` replace its top-level keys.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it holds unknown keys or lacks models.
        """
        return read_dataclass(cls, load_yaml(path) | dict(overrides or {}), str(path), "models")
