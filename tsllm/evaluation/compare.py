"""The comparison: every model on the same windows, in cells that are kept, so that a stopped run goes on."""

import hashlib
import json
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tsllm.data.prepared import hold_out_end
from tsllm.data.task import ForecastTask
from tsllm.evaluation.ablation import perturb_forecaster
from tsllm.evaluation.backtest import BacktestResult, Cost, Failure, run_backtest
from tsllm.evaluation.budgets import read_budget
from tsllm.evaluation.cells import CellResult, CellStore, join_cells, measure_files, measure_memory
from tsllm.evaluation.checks import check_models
from tsllm.evaluation.config import CompareConfig
from tsllm.evaluation.leakage import check_saved_model, is_trained_on
from tsllm.evaluation.prepare import PreparedTask, prepare_tasks
from tsllm.evaluation.saved import fingerprint, list_files
from tsllm.evaluation.space import apply_params
from tsllm.files import lock_folder
from tsllm.forecasting.base import Forecaster, name_interval_columns
from tsllm.forecasting.context import ContextForecaster
from tsllm.forecasting.context_folder import write_texts
from tsllm.forecasting.model_spec import ModelSpec
from tsllm.forecasting.neural import NeuralForecaster
from tsllm.forecasting.readers import split_reader
from tsllm.forecasting.roster import build_forecaster
from tsllm.types import CUTOFF, ID, TIME

logger = logging.getLogger(__name__)

Tell = Callable[[str], None]
CELL_FORMAT = 2
# Kinds whose weights stay as they are and are large: loaded once, used at every window.
FROZEN = ("saved", "text", "chronos")


@dataclass
class TaskResult:
    """All models on one data set.

    Attributes:
        prepared: The data set.
        runs: One back-test result for each seed; a model without seed is the same in all of them.
        facts: Model -> facts of its cells, seed by seed.
        logs: Model -> training log of the first seed.
        folders: Model -> folder of the trained or saved model, of the first seed.
    """

    prepared: PreparedTask
    runs: list[BacktestResult]
    facts: dict[str, list[dict[str, Any]]]
    logs: dict[str, list[dict[str, Any]]]
    folders: dict[str, Path] = field(default_factory=dict)


def run_compare(config: CompareConfig, tell: Tell = lambda _: None, *, overwrite: bool = False) -> list[TaskResult]:
    """Runs every cell that is not there yet and returns all of them.

    Every data set is loaded and every model's entry is checked before the first step of training.

    Args:
        config: The comparison.
        tell: Hears what happens.
        overwrite: Whether the cells of earlier runs in the folder are removed first; else those that fit are used.

    Raises:
        ValueError: If an entry of the configuration cannot be run; all faults are listed.
        BusyFolderError: If another comparison writes into the same folder.
    """
    tasks = prepare_tasks(config.data)
    check_models(config, tasks)
    with lock_folder(config.output_dir):
        store = CellStore(Path(config.output_dir) / "cells")
        store.clear() if overwrite else store.clean()
        results = []
        for prepared in tasks:
            per_model = {
                spec.name: _ModelRun(config, prepared, spec, store, tell).run_seeds() for spec in config.models
            }
            results.append(_join(config, prepared, per_model))
    return results


class _ModelRun:
    """One model on one data set: its cells, those that are there and those that have to be computed."""

    def __init__(
        self,
        config: CompareConfig,
        prepared: PreparedTask,
        spec: ModelSpec,
        store: CellStore,
        tell: Tell,
    ) -> None:
        self.config, self.prepared, self.spec, self.store = config, prepared, spec, store
        # What is perturbed is the trained model of another entry.
        self.base = next((m for m in config.models if spec.perturb and m.name == spec.variant_of), spec)
        self.tell: Tell = lambda text: tell(f"{prepared.name}: {spec.name}, {text}")
        self.searched: dict[str, Any] = {}
        # Of the training that found the length, where there is one: its budget and its log.
        self.measured: dict[str, Any] = {}
        self.measured_log: list[dict[str, Any]] = []
        self.files = fingerprint(spec)
        self._frozen: Any = None
        self._said: set[str] = set()

    def run_seeds(self) -> list[CellResult]:
        """Returns the result of each seed; a model that draws nothing has one for all."""
        seeded = self.spec.is_seeded or self.spec.perturb
        if self.base.kind == "native":
            try:
                self._settle()
            except Exception as error:
                return [self._fail(error, range(self.prepared.windows.n_windows))]
        return [self._run_seed(seed) for seed in (self.config.seeds if seeded else self.config.seeds[:1])]

    def _settle(self) -> None:
        """Gives a model that is trained here the settings of its search and the training of the budget's rule."""
        was_base = self.base is self.spec
        settled = self.base
        if self.config.tune is not None:
            settled = self._search_settings(settled)
        if self.config.budget is not None:
            context = settled.options.get("context_length", self.prepared.task.context_length)
            windows = count_training_windows(self.prepared, settled, context)
            validates = self.prepared.task.val_size != 0
            training = self.config.budget.apply(settled.training, windows, validates=validates)
            settled = replace(settled, training=training)
            if self.config.budget.retrain:
                settled = self._find_length(settled)
        self.base = settled
        if was_base:
            self.spec = settled

    def _search_settings(self, spec: ModelSpec) -> ModelSpec:
        from tsllm.evaluation.tune import tune_for_task

        rule = self.config.tune
        tuned = spec
        if self.config.budget is not None:
            # Trials keep the same rule as the training that follows, but for what the search says of their length.
            context = spec.options.get("context_length", self.prepared.task.context_length)
            windows = count_training_windows(self.prepared, spec, context)
            training = self.config.budget.apply(spec.training, windows, trial_windows=rule.windows)
            tuned = replace(spec, training=training)
        result = tune_for_task(
            tuned,
            self.prepared,
            rule.trials,
            rule.seed,
            Path(self.config.output_dir),
            rule.search,
            sampler=rule.sampler,
            tell=self.tell,
        )
        self.searched = {"searched": result.describe(), "trials": rule.trials}
        return apply_params(spec, result.best.params)

    def _find_length(self, spec: ModelSpec) -> ModelSpec:
        """Trains with validation, once, and returns the entry with as many steps as led to the best validation."""
        task, seed = self.prepared.task, self.config.seeds[0]
        key = self._describe_cell(spec, task, seed, []) | {"length": True}
        found = self.store.load(key)
        if found is None:
            self.tell("length of training on validation")
            model = self._prepare(build_forecaster(spec, task, seed))
            model.fit(self.prepared.training, task.h)
            found = CellResult(pd.DataFrame({ID: []}), Cost(model.seconds), [], {}, list(model.log))
            self.store.save(key, found, None)
        self.measured = {"seed": spec.training.get("seed", seed), "finds_length": True}
        self.measured |= read_budget(found.log, found.cost.fit_seconds)
        self.measured_log = found.log
        return replace(spec, training=self.config.budget.retraining(spec.training, found.log))

    def _run_seed(self, seed: int) -> CellResult:
        n_windows, spec = self.prepared.windows.n_windows, self.spec
        task = self.prepared.task
        chosen: dict[str, Any] = {}
        if self.base.is_trainable and self.config.look_backs and not self.base.fixes_context:
            try:
                chosen = self._search_look_back()
            except RuntimeError as error:
                return self._fail(error, range(n_windows))
            task = replace(task, context_length=chosen["look_back"], pads_short=False)
        if self.measured:
            task = replace(task, val_size=0)
        trained = spec.is_seeded or spec.perturb
        size = (int(self.config.refit) or n_windows) if trained or spec.keeps_estimates else 1
        blocks = [list(range(first, min(first + size, n_windows))) for first in range(0, n_windows, size)]
        parts = []
        for block in blocks:
            key = self._describe_cell(spec, task, seed, block)
            found = self.store.load(key)
            if found is None or found.facts.get("files", self.files) != self.files:
                where = [f"seed {seed}"] if trained else []
                where += [f"window {block[0] + 1}/{n_windows}"] if len(blocks) > 1 else []
                self.tell(", ".join(where))
                found = self._run_cell(task, seed, block, key)
            parts.append(found)
        joined = join_cells(parts)
        joined.facts |= chosen | self.searched
        if self.measured and spec.is_trainable:
            joined.facts |= {"budget": self.measured} if seed == self.config.seeds[0] else {}
            joined.log = self.measured_log
        elif spec.is_trainable and joined.log:
            joined.facts["budget"] = {"seed": spec.training.get("seed", seed)} | read_budget(
                joined.log, parts[0].cost.fit_seconds
            )
        folder = Path(spec.source) if spec.kind == "saved" else self.store.model_folder(key)
        joined.folder = folder if folder.is_dir() else None
        return joined

    def _describe_cell(self, spec: ModelSpec, task: ForecastTask, seed: int, block: Sequence[int]) -> dict[str, Any]:
        """Returns everything that a cell's content depends on; its hash names the folder."""
        config, windows = self.config, self.prepared.windows
        trained = spec.is_seeded or bool(spec.perturb)
        return {
            "format": CELL_FORMAT,
            "data": self.prepared.fingerprint,
            "spec": _describe_spec(spec),
            "base": _describe_spec(self.base) if spec.perturb else None,
            "task": {k: v for k, v in asdict(task).items() if k not in ("name", "split") and (v or k != "static")},
            "seed": seed if trained else None,
            "windows": [windows.n_windows, windows.step, list(block)],
            "level": list(config.level),
            "refit": config.refit,
            "max_seconds": config.max_seconds if trained else None,
        } | self._describe_told()

    def _describe_told(self) -> dict[str, Any]:
        """Returns what a told model's content depends on: the texts and who reads them."""
        if not self.spec.reader:
            return {}
        entry = self.prepared.entry
        told = json.dumps([write_texts(self.prepared.texts), entry.timeless], default=str)
        reader = Path(split_reader(self.spec.reader)[1])
        files = [path.read_bytes() for path in list_files(reader)] if reader != Path() and reader.is_dir() else []
        return {"told": hashlib.sha256(b"\0".join([told.encode(), *files])).hexdigest()[:16]}

    def _run_cell(self, task: ForecastTask, seed: int, block: Sequence[int], key: dict[str, Any]) -> CellResult:
        config, windows, spec = self.config, self.prepared.windows, self.spec
        behind = (windows.n_windows - 1 - block[-1]) * windows.step
        df = windows.df.groupby(ID, sort=False).head(-behind).reset_index(drop=True) if behind else windows.df
        found: dict[str, Any] = {}
        with measure_memory() as memory:
            try:
                model = self._make(task, seed, block)
                found |= self._examine(model)
                copies = spec.kind not in FROZEN
                result = run_backtest(
                    df,
                    [model],
                    task.h,
                    len(block),
                    windows.step,
                    config.level,
                    config.refit,
                    task.freq,
                    copies=copies,
                    guard=False,  # `_examine` did
                )
            except Exception as error:
                # Failures are not kept: the next run tries again.
                return self._fail(error, block)
        fitted = result.fitted[spec.name]
        log = list(fitted.log)
        found["peak_memory_mb"] = memory.peak_mb
        if log:
            found |= {"steps": max(int(e.get("step", 0)) for e in log), "look_back": fitted.context_length}
        frame = result.frame[[ID, TIME, CUTOFF, *self._columns()]]
        cell = CellResult(frame, result.costs[spec.name], result.failures, found, log)
        if not result.failures:
            # Of a told model its base is what was trained.
            trained = fitted.base if isinstance(fitted, ContextForecaster) else fitted
            self.store.save(key, cell, trained if spec.is_trainable else None)
        return cell

    def _make(self, task: ForecastTask, seed: int, block: Sequence[int]) -> Any:
        """Builds the forecaster of a cell; a large one that nothing trains is built once, and fails once."""
        if self.spec.perturb:
            source = self.store.model_folder(self._describe_cell(self.base, task, seed, block))
            return load_perturbed(self.spec, source, seed)
        if self.spec.kind not in FROZEN:
            return self._prepare(build_forecaster(self.spec, task, seed))
        if self._frozen is None:
            try:
                self._frozen = self._prepare(build_forecaster(self.spec, task, seed))
            except Exception as error:
                self._frozen = error
        if isinstance(self._frozen, Exception):
            raise self._frozen
        return self._frozen

    def _prepare(self, model: Any) -> Any:
        """Gives a forecaster the name of its column and its budget."""
        model.alias = self.spec.name
        if self.spec.reader:
            model.tell(self.prepared.texts, self.prepared.entry.timeless)
        if self.config.max_seconds is not None:
            model.max_seconds = self.config.max_seconds
        return model

    def _examine(self, model: Any) -> dict[str, Any]:
        """Returns what is known of a saved model's files and training data.

        Raises:
            LeakageError: If it was trained on test windows.
        """
        if self.spec.kind not in ("saved", "few-shot"):
            return {}
        windows, name, facts = self.prepared.windows, self.prepared.loaded.name, model.trained_on
        folder = Path(self.spec.source)
        found: dict[str, Any] = {"artefact_mb": measure_files(list_files(folder))} if folder.is_dir() else {}
        return found | {
            "files": self.files,
            "leakage": check_saved_model(model.alias, facts, windows, name),
            "trained_on": is_trained_on(facts, windows, name),
        }

    def _fail(self, error: Exception, block: Sequence[int]) -> CellResult:
        """Returns an empty cell that says what raised."""
        said = f"{type(error).__name__}: {error}"
        if said not in self._said:
            self._said.add(said)
            logger.warning("%s: %s failed: %s", self.prepared.name, self.spec.name, said)
        windows = self.prepared.windows
        failure = Failure(self.spec.name, "run", None, said, windows.num_series * len(block))
        empty = windows.keys[[ID, TIME, CUTOFF]].iloc[:0].assign(**dict.fromkeys(self._columns(), np.nan))
        return CellResult(empty, Cost(), [failure], {}, [])

    def _columns(self) -> list[str]:
        return [self.spec.name, *name_interval_columns(self.spec.name, sorted(self.config.level))]

    def _search_look_back(self) -> dict[str, Any]:
        """Chooses the context length by the best validation loss before the first cutoff; the test part is not seen.

        A length that fails, because the series are too short for it for example, is left out and named.

        Raises:
            RuntimeError: If every length fails.
        """
        losses: dict[str, float] = {}
        failed: dict[str, str] = {}
        for length in self.config.look_backs:
            try:
                losses[str(length)] = self._validate_look_back(length)
            except Exception as error:
                failed[str(length)] = f"{type(error).__name__}: {error}"
                logger.warning(
                    "%s: %s failed with look-back %d: %s", self.prepared.name, self.spec.name, length, error
                )
        if not losses:
            raise RuntimeError(f"no look-back of {self.config.look_backs} could be validated: {failed}")
        best = min(losses, key=losses.__getitem__)
        return {"look_back": int(best), "look_back_losses": losses, "look_back_failures": failed}

    def _validate_look_back(self, length: int) -> float:
        spec, seed = self.base, self.config.seeds[0]
        task = replace(self.prepared.task, context_length=length, pads_short=False)
        key = self._describe_cell(spec, task, seed, []) | {"search": True}
        found = self.store.load(key)
        if found is None:
            self.tell(f"look-back {length} on validation")
            model = self._prepare(build_forecaster(spec, task, seed))
            model.fit(self.prepared.training, task.h)
            best = min((e["eval_loss"] for e in model.log if "eval_loss" in e), default=math.nan)
            found = CellResult(pd.DataFrame({ID: []}), Cost(model.seconds), [], {"eval_loss": best}, list(model.log))
            self.store.save(key, found, None)
        loss = float(found.facts["eval_loss"])
        if math.isnan(loss):
            raise ValueError("training gave no validation loss; give val_size")
        return loss


def count_training_windows(prepared: PreparedTask, spec: ModelSpec, context_length: int) -> int:
    """Returns how many windows the training part of a model has, before its validation part.

    Args:
        prepared: The data set.
        spec: The model's entry, which may choose its layout.
        context_length: Steps read.
    """
    task = prepared.task
    sizes = prepared.training.groupby(ID, sort=False).size()
    held = hold_out_end(prepared.training, replace(task, val_size=spec.options.get("val_size", task.val_size)))
    counts = (sizes - held.validation - context_length - task.h + 1).clip(lower=1)
    layout = spec.options.get("layout", task.layout)
    return int(counts.iloc[0] if layout == "multivariate" else counts.sum())


def load_perturbed(spec: ModelSpec, source: Path, seed: int) -> Forecaster:
    """Loads the trained model that `spec.variant_of` names and perturbs what it reads.

    Raises:
        FileNotFoundError: If that model was not trained.
    """
    if not source.is_dir():
        raise FileNotFoundError(
            f"{spec.name} perturbs {spec.variant_of!r}, which has no trained model; name it before"
        )
    # As it is: nothing is trained.
    forecaster = NeuralForecaster.from_pretrained(source, alias=spec.name, training={"max_steps": 0})
    return perturb_forecaster(forecaster, spec.perturb, seed)


def _describe_spec(spec: ModelSpec) -> dict[str, Any]:
    """Returns what a cell's content depends on; which model it is a variant of is not among it."""
    idle = ("variant", "variant_of") if spec.reader else ("variant", "variant_of", "reader")
    return {k: v for k, v in asdict(spec).items() if k not in idle}


def _join(config: CompareConfig, prepared: PreparedTask, per_model: dict[str, list[CellResult]]) -> TaskResult:
    """Puts the cells of each seed side by side on the windows."""
    keys = prepared.windows.keys
    level = sorted(config.level)
    runs = []
    for position in range(len(config.seeds)):
        run = BacktestResult(keys, list(per_model), prepared.task.h, level)
        made = [keys]
        for name, cells in per_model.items():
            cell = cells[min(position, len(cells) - 1)]
            columns = [name, *name_interval_columns(name, level)]
            own = keys[[ID, TIME, CUTOFF]].merge(cell.frame, on=[ID, TIME, CUTOFF], how="left", validate="one_to_one")
            made.append(own.reindex(columns=columns))
            run.costs[name] = cell.cost
            run.failures += cell.failures
        run.frame = pd.concat(made, axis=1)
        runs.append(run)
    return TaskResult(
        prepared,
        runs,
        facts={name: [cell.facts for cell in cells] for name, cells in per_model.items()},
        logs={name: cells[0].log for name, cells in per_model.items() if cells[0].log},
        folders={name: cells[0].folder for name, cells in per_model.items() if cells[0].folder is not None},
    )
