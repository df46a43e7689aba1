"""The long-term protocol: data sets x horizons x models x seeds on the customary splits, in cells that are kept.

Every window of the customary test part counts; errors are in units of the training part's standard deviation. With
`few_shot` models train on the first share of the training windows (Zhou 2023, Jin 2024), with `transfer` on another
data set; scaler, validation and test stay as they are.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from tsllm.data.loading import LoadedData
from tsllm.data.prepared import hold_out_end
from tsllm.data.task import load_data
from tsllm.evaluation.backtest import Cost
from tsllm.evaluation.budgets import read_budget
from tsllm.evaluation.cells import CellResult, CellStore
from tsllm.evaluation.checks import Faults
from tsllm.evaluation.leakage import check_saved_model, is_trained_on
from tsllm.evaluation.protocol import LongTermConfig
from tsllm.evaluation.protocol_data import Stretch, average, prepare_stretch, score_windows
from tsllm.evaluation.saved import fingerprint
from tsllm.evaluation.windows import Windows
from tsllm.files import lock_folder
from tsllm.forecasting.checks import check_forecaster, is_absent
from tsllm.forecasting.model_spec import ModelSpec
from tsllm.forecasting.neural import NeuralForecaster
from tsllm.forecasting.roster import build_forecaster
from tsllm.models import find_model_class
from tsllm.types import ID

logger = logging.getLogger(__name__)

Tell = Callable[[str], None]
CELL_FORMAT = 1
BUDGET_FACTS = ("steps", "windows_seen", "seconds", "best_step", "last_step", "stopped_by")  # of `read_budget`


@dataclass
class ProtocolCell:
    """One model with one seed in one row of the table.

    Attributes:
        data: Name of the row's data: "etth1", or "etth1 -> etth2".
        h: Steps ahead.
        model: Name of the model.
        seed: Of training; None for a model that draws nothing.
        scores: `mse`, `mae` in scaled units; empty if it failed.
        losses: `unique_id, cutoff, mse, mae, count`, one row a series and cutoff.
        facts: Look-back, steps and seconds of training, windows.
        error: What it failed with; empty = it did not.
    """

    data: str
    h: int
    model: str
    seed: int | None
    scores: dict[str, float]
    losses: pd.DataFrame
    facts: dict[str, Any]
    error: str = ""


def run_long_term(config: LongTermConfig, tell: Tell = lambda _: None) -> list[ProtocolCell]:
    """Runs every cell that is not there yet and returns all of them, row by row.

    Args:
        config: What is run.
        tell: Hears what happens.

    Raises:
        ValueError: If an entry cannot be run; all faults are listed before anything is trained.
        BusyFolderError: If another run writes into the same folder.
    """
    loaded = {entry.name: load_data(entry.name, entry.asked(), data_path=entry.data_path) for entry in config.data}
    rows = [
        (source, target, h)
        for source, target in config.pairs()
        for h in config.horizons or _find_horizons(loaded[target])
    ]
    check_rows(config, loaded, rows)
    with lock_folder(config.output_dir):
        store = CellStore(Path(config.output_dir) / "cells")
        store.clean()
        cells = []
        for source, target, h in rows:
            own = prepare_stretch(config, loaded[target], h)
            first = own if source == target else prepare_stretch(config, loaded[source], h)
            for spec in config.models:
                run = _RowRun(config, spec, first, own, store, tell)
                cells += [run.run_seed(seed) for seed in (config.seeds if spec.is_trainable else config.seeds[:1])]
    return cells


def check_rows(
    config: LongTermConfig, loaded: dict[str, LoadedData], rows: Sequence[tuple[str, str, int]]
) -> list[Stretch]:
    """Checks all data sets, horizons and models, as far as that goes without training.

    Raises:
        ValueError: Listing all faults.
    """
    faults: list[str] = []
    of_models = Faults()
    if config.few_shot < 1 or config.transfer:
        asked = "few-shot" if config.few_shot < 1 else "transfer"
        faults += [f"{m.name}: {asked} is for models of tsllm" for m in config.models if m.kind == "neuralforecast"]
    found = []
    for source, target, h in rows:
        try:
            own = prepare_stretch(config, loaded[target], h)
            first = own if source == target else prepare_stretch(config, loaded[source], h)
        except ValueError as error:
            faults.append(str(error))
            continue
        try:
            if any(spec.is_trainable for spec in config.models):
                hold_out_end(first.history, first.task)
        except ValueError as error:
            faults.append(f"{first.name} {h}: {error}")
        if first.task.freq != own.task.freq:
            faults.append(f"{source} has freq {first.task.freq!r}, {target} {own.task.freq!r}; no model goes over")
        many = [len(s.deviation) for s in (first, own)]
        if first.task.layout == "multivariate" and many[0] != many[1]:
            faults.append(
                f"{source} has {many[0]} series, {target} {many[1]}, so channels do not match; set layout univariate"
            )
        found.append(own)
        for spec in config.models:
            try:
                check_forecaster(spec, own.task)
            except (ImportError, ValueError, KeyError, TypeError, OSError) as error:
                if not is_absent(spec, error):
                    of_models.add(f"{target} {h}", spec.name, error)
    of_models.refuse("protocol", faults)
    return found


def _find_horizons(loaded: LoadedData) -> list[int]:
    """Returns the customary horizons of a data set.

    Raises:
        ValueError: If it is none of the protocol's.
    """
    if loaded.source is None or not loaded.source.horizons:
        raise ValueError(f"{loaded.name} has no customary horizons of the long-term protocol; give --horizons")
    return list(loaded.source.horizons)


@contextmanager
def _timing(cost: Cost, name: str) -> Iterator[None]:
    """Writes how long the block took into a field of the cost."""
    started = time.perf_counter()
    try:
        yield
    finally:
        setattr(cost, name, time.perf_counter() - started)


class _RowRun:
    """One model in one row: the cells of its seeds, those that are there and those that have to be computed."""

    def __init__(
        self, config: LongTermConfig, spec: ModelSpec, source: Stretch, target: Stretch, store: CellStore, tell: Tell
    ) -> None:
        self.config, self.spec, self.store = config, spec, store
        self.source, self.target = source, target
        self.is_transfer = source is not target
        self.data = f"{source.name} -> {target.name}" if self.is_transfer else target.name
        self.tell: Tell = lambda text: tell(f"{self.data} {target.task.h}: {spec.name}{text}")

    def run_seed(self, seed: int) -> ProtocolCell:
        """Returns the cell of a seed; a failure is told and not kept, so that the next run tries again."""
        shown = seed if self.spec.is_trainable else None
        made = ProtocolCell(self.data, self.target.task.h, self.spec.name, shown, {}, pd.DataFrame(), {})
        try:
            cell = self._load_or_run(seed)
            made.scores, made.losses, made.facts = average(cell.frame), cell.frame, cell.facts
            made.facts |= self._read_source_budget(seed)
            made.facts |= {"fit_seconds": cell.cost.fit_seconds, "predict_seconds": cell.cost.predict_seconds}
        except Exception as error:
            made.error = f"{type(error).__name__}: {error}"
            logger.warning("%s %d: %s failed: %s", self.data, self.target.task.h, self.spec.name, made.error)
        return made

    def _load_or_run(self, seed: int) -> CellResult:
        key = self._describe(self.source, self.target, seed)
        found = self.store.load(key)
        if found is not None:
            return found
        trained = self.spec.is_trainable
        if not (trained and self.is_transfer):
            return self._fit_and_score(seed, key, self.target)
        # A model for the source is a cell of its own, which may be there already.
        source_key = self._describe(self.source, self.source, seed)
        if self.store.load(source_key) is None:
            self._fit_and_score(seed, source_key, self.source)
        self.tell(f", seed {seed}, transfer")
        return self._transfer(self.store.model_folder(source_key), key)

    def _read_source_budget(self, seed: int) -> dict[str, Any]:
        """Returns the budget of the training on the source that a transferred model rests on; else nothing."""
        if not (self.spec.is_trainable and self.is_transfer):
            return {}
        kept = self.store.load(self._describe(self.source, self.source, seed))
        return {} if kept is None else {name: kept.facts[name] for name in BUDGET_FACTS if name in kept.facts}

    def _fit_and_score(self, seed: int, key: dict[str, Any], stretch: Stretch) -> CellResult:
        self.tell(f", seed {seed}" if self.spec.is_trainable else "")
        spec = self._settle(stretch)
        model: Any = build_forecaster(spec, stretch.task, seed)
        model.alias = spec.name
        if self.config.max_seconds is not None:
            model.max_seconds = self.config.max_seconds
        facts = self._examine(model, stretch)
        cost = Cost()
        with _timing(cost, "fit_seconds"):
            model.fit(stretch.history, stretch.task.h)
        return self._score(model, stretch, cost, key, facts, keep=spec.is_trainable)

    def _transfer(self, folder: Path, key: dict[str, Any]) -> CellResult:
        model = NeuralForecaster.from_pretrained(folder, alias=self.spec.name, training={"max_steps": 0})
        facts = self._examine(model, self.target)
        model.transfer(self.target.history, self.target.task.val_size)
        return self._score(model, self.target, Cost(), key, facts, keep=False)

    def _score(
        self, model: Any, stretch: Stretch, cost: Cost, key: dict[str, Any], facts: dict[str, Any], keep: bool
    ) -> CellResult:
        with _timing(cost, "predict_seconds"):
            losses = score_windows(model, stretch)
        average(losses)  # refuses what is not finite before it is kept
        cost.windows = len(losses)
        cost.trained_parameters, cost.total_parameters = model.count_parameters()
        log = list(model.log)
        facts |= {"look_back": model.context_length, "windows": stretch.n_windows, "series": len(stretch.deviation)}
        facts |= read_budget(log, cost.fit_seconds) if log else {}
        cell = CellResult(losses, cost, [], facts, log)
        self.store.save(key, cell, model if keep else None)
        return cell

    def _settle(self, stretch: Stretch) -> ModelSpec:
        """Returns the entry, configured as published, with the share of windows and the budget of the run."""
        spec = self.spec
        if spec.kind not in ("native", "few-shot"):
            return spec
        options: dict[str, Any] = {"train_share": self.config.few_shot} if self.config.few_shot < 1 else {}
        if spec.kind == "native":
            options |= find_model_class(spec.model).published_config
        training = spec.training
        if self.config.budget is not None:
            validates = stretch.task.val_size != 0
            training = self.config.budget.apply(training, self._count_windows(stretch), validates=validates)
        return replace(spec, options=options | spec.options, training=training)

    def _count_windows(self, stretch: Stretch) -> int:
        """Returns how many windows a native model trains on."""
        options = self.spec.options
        context = options.get("context_length", stretch.task.context_length)
        sizes = stretch.history.groupby(ID, sort=False).size()
        counts = (sizes - hold_out_end(stretch.history, stretch.task).validation - context - stretch.task.h + 1).clip(
            1
        )
        counts = (counts * self.config.few_shot + 1e-9).astype(int).clip(1)
        one = options.get("layout", stretch.task.layout) == "multivariate" and self.spec.kind == "native"
        return int(counts.iloc[0] if one else counts.sum())

    def _examine(self, model: Any, stretch: Stretch) -> dict[str, Any]:
        """Returns what is said of the data that a saved model was trained on before.

        Raises:
            LeakageError: If it was trained on test windows.
        """
        if self.spec.kind not in ("saved", "few-shot"):
            return {}
        windows = Windows(stretch.df, stretch.task.h, stretch.n_windows, stretch.stride, stretch.df.head(0))
        return {
            "leakage": check_saved_model(model.alias, model.trained_on, windows, stretch.name),
            "trained_on": is_trained_on(model.trained_on, windows, stretch.name),
        }

    def _describe(self, source: Stretch, target: Stretch, seed: int) -> dict[str, Any]:
        """Returns everything that a cell's content depends on; its hash names the folder."""
        config, spec = self.config, self.spec

        def say(stretch: Stretch) -> dict[str, Any]:
            task = {k: v for k, v in asdict(stretch.task).items() if k not in ("name", "split")}
            return {"data": stretch.digest, "task": task, "test": stretch.test}

        trained = spec.is_trainable
        return {
            "format": CELL_FORMAT,
            "protocol": "long-term",
            "source": say(source),
            "target": say(target),
            "stride": target.stride,
            "spec": {k: v for k, v in asdict(spec).items() if k not in ("variant", "variant_of")},
            "files": fingerprint(spec),
            "seed": seed if trained else None,
            "few_shot": config.few_shot if trained else 1.0,
            "budget": asdict(config.budget) if config.budget is not None and trained else None,
            "max_seconds": config.max_seconds if trained else None,
        }
