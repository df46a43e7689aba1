"""The comparison: every model on the same windows, in cells that are kept, so that a stopped run goes on.

A cell is (data, model, seed) and, where each window is estimated anew, one window. It is written to a folder of its
own, complete or not at all; its name is a hash of everything that its content depends on.
"""

import hashlib
import json
import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tsllm.data.sources import LoadedData, load_frame
from tsllm.evaluation.ablation import perturb_predictor
from tsllm.evaluation.backtest import BacktestResult, Cost, Failure, Windows, run_backtest
from tsllm.evaluation.leakage import check_saved_model
from tsllm.evaluation.tasks import CompareConfig, DataTask, ModelSpec, TaskFacts
from tsllm.forecasting.base import Forecaster, name_interval_columns
from tsllm.forecasting.neural import NeuralPredictor
from tsllm.forecasting.spec import default_season
from tsllm.types import CUTOFF, ID, TIME

logger = logging.getLogger(__name__)

Build = Callable[[ModelSpec, TaskFacts, int], Forecaster]
Tell = Callable[[str], None]
CELL_FORMAT = 1


@dataclass(frozen=True)
class PreparedTask:
    """A data set with its windows.

    Attributes:
        task: As asked for.
        loaded: Frame and source.
        facts: What forecasters are told.
        windows: The test windows.
        fingerprint: Hash of the frame.
    """

    task: DataTask
    loaded: LoadedData
    facts: TaskFacts
    windows: Windows
    fingerprint: str

    @property
    def name(self) -> str:
        """Name in tables."""
        return self.task.name

    @property
    def training(self) -> pd.DataFrame:
        """The steps before the first cutoff: all that may be learned from or tuned on."""
        return self.windows.history(0)


@dataclass
class CellResult:
    """What a cell holds.

    Attributes:
        frame: `unique_id, ds, cutoff` and the model's columns.
        cost: What it took.
        failures: What raised.
        facts: Chosen look-back, validation loss, steps trained, peak memory, artefact size.
        log: Training log.
    """

    frame: pd.DataFrame
    cost: Cost
    failures: list[Failure]
    facts: dict[str, Any]
    log: list[dict[str, Any]]


@dataclass
class TaskResult:
    """All models on one data set.

    Attributes:
        prepared: The data set.
        runs: One back-test result for each seed; a model without seed is the same in all of them.
        facts: Model -> facts of its cells, seed by seed.
        logs: Model -> training log of the first seed.
    """

    prepared: PreparedTask
    runs: list[BacktestResult]
    facts: dict[str, list[dict[str, Any]]]
    logs: dict[str, list[dict[str, Any]]]


def prepare_task(task: DataTask) -> PreparedTask:
    """Loads a data set and finds its windows.

    Raises:
        ValueError: If the horizon is known from nowhere.
        FrameError: If the data break the contract or are too short.
    """
    loaded = load_frame(task.name, freq=task.freq, data_path=task.data_path)
    df, source = loaded.df, loaded.source
    if task.max_series is not None:
        df = df[df[ID].isin(df[ID].unique()[: task.max_series])].reset_index(drop=True)
        loaded = replace(loaded, df=df)
    h = task.h or (source.prediction_length if source else None)
    if h is None:
        raise ValueError(f"{task.name} is no named data set, so its entry needs h, the steps ahead")
    season = task.season or (source.season if source else default_season(loaded.freq))
    facts = TaskFacts(
        h=h,
        freq=loaded.freq,
        season=season,
        context_length=task.context_length or (source.context_length if source else max(4 * season, 2 * h, 16)),
        domain=source.domain if source else "",
        val_size=task.val_size,
        covariates=source.covariates if source else (),
        past_covariates=source.past_covariates if source else (),
    )
    windows = Windows.of(df, h, task.n_windows, task.step_size or h)
    digest = hashlib.sha256(pd.util.hash_pandas_object(df, index=False).to_numpy().tobytes()).hexdigest()
    return PreparedTask(task, loaded, facts, windows, digest[:16])


def run_compare(config: CompareConfig, build: Build, tell: Tell = lambda _: None) -> list[TaskResult]:
    """Runs every cell that is not there yet and returns all of them.

    Args:
        config: The comparison.
        build: Makes a forecaster; injected because the command line knows more kinds than this layer.
        tell: Hears what happens.
    """
    results = []
    for task in config.data:
        prepared = prepare_task(task)
        store = CellStore(Path(config.output_dir) / "cells")
        per_model: dict[str, list[CellResult]] = {}
        for spec in config.models:
            seeds = config.seeds if spec.is_trainable or spec.perturb else config.seeds[:1]
            per_model[spec.name] = [_run_model(config, prepared, spec, seed, store, build, tell) for seed in seeds]
        results.append(_join(config, prepared, per_model))
    return results


def _run_model(
    config: CompareConfig,
    prepared: PreparedTask,
    spec: ModelSpec,
    seed: int,
    store: "CellStore",
    build: Build,
    tell: Tell,
) -> CellResult:
    facts = prepared.facts
    chosen: dict[str, Any] = {}
    base = next((m for m in config.models if m.name == spec.of), spec)
    if base.is_trainable and config.look_backs:
        chosen = _search_look_back(config, prepared, base, store, build, tell)
        facts = replace(facts, context_length=chosen["look_back"])
    anew = not (spec.is_trainable or spec.perturb) or config.refit is not False
    blocks = [[k] for k in range(prepared.windows.n_windows)] if anew else [list(range(prepared.windows.n_windows))]
    parts = []
    for block in blocks:
        key = _describe_cell(config, prepared, spec, base, facts, seed, block)
        found = store.load(key)
        if found is None:
            label = f"window {block[0] + 1}/{prepared.windows.n_windows}" if anew else f"seed {seed}"
            tell(f"{prepared.name}: {spec.name}, {label}")
            source = None
            if spec.perturb:
                source = store.model_folder(_describe_cell(config, prepared, base, base, facts, seed, block))
            found = _run_cell(config, prepared, spec, facts, seed, block, build, source, store, key)
        parts.append(found)
    joined = _concat(parts)
    joined.facts |= chosen
    return joined


def _describe_cell(
    config: CompareConfig,
    prepared: PreparedTask,
    spec: ModelSpec,
    base: ModelSpec,
    facts: TaskFacts,
    seed: int,
    block: Sequence[int],
) -> dict[str, Any]:
    """Returns everything that a cell's content depends on; its hash names the folder."""
    trained = spec.is_trainable or bool(spec.perturb)
    return {
        "format": CELL_FORMAT,
        "data": prepared.fingerprint,
        "spec": {k: v for k, v in asdict(spec).items() if k != "role"},
        "base": {k: v for k, v in asdict(base).items() if k != "role"} if spec.perturb else None,
        "facts": asdict(facts),
        "seed": seed if trained else None,
        "windows": [prepared.windows.n_windows, prepared.windows.step, list(block)],
        "level": list(config.level),
        "refit": config.refit,
        "max_seconds": config.max_seconds if trained else None,
    }


def _run_cell(
    config: CompareConfig,
    prepared: PreparedTask,
    spec: ModelSpec,
    facts: TaskFacts,
    seed: int,
    block: Sequence[int],
    build: Build,
    source: Path | None,
    store: "CellStore",
    key: dict[str, Any],
) -> CellResult:
    windows = prepared.windows
    behind = (windows.n_windows - 1 - block[-1]) * windows.step
    df = windows.df.groupby(ID, sort=False).head(-behind).reset_index(drop=True) if behind else windows.df
    empty = prepared.windows.keys[[ID, TIME, CUTOFF]]
    columns = [spec.name, *name_interval_columns(spec.name, sorted(config.level))]
    with measure_memory() as memory:
        try:
            model = load_perturbed(spec, source, seed) if spec.perturb else build(spec, facts, seed)
            if config.max_seconds is not None and hasattr(model, "max_seconds"):
                model.max_seconds = config.max_seconds
            result = run_backtest(
                df, [model], facts.h, len(block), windows.step, config.level, config.refit, facts.freq
            )
        except Exception as error:
            wanted = sorted(windows.keys[CUTOFF].unique())
            lost = empty[empty[CUTOFF].isin([wanted[k] for k in block])] if windows.num_series == 1 else empty
            said = f"{type(error).__name__}: {error}"
            logger.warning("%s: %s failed: %s", prepared.name, spec.name, said)
            failure = Failure(spec.name, "run", None, said, windows.num_series * len(block))
            frame = lost.assign(**dict.fromkeys(columns, np.nan)) if len(block) == windows.n_windows else lost.iloc[:0]
            # Failures are not kept: the next run tries again.
            return CellResult(frame, Cost(), [failure], {}, [])
    fitted = result.fitted[spec.name]
    log = list(getattr(fitted, "log", []))
    found: dict[str, Any] = {"peak_memory_mb": memory.peak_mb}
    if isinstance(fitted, NeuralPredictor) and not spec.perturb:
        found["leakage"] = check_saved_model(fitted.spec, result.frame)
    if log:
        predictor = getattr(fitted, "predictor", None)
        length = facts.context_length if predictor is None else predictor.model.config.context_length
        found |= {"steps": max(int(e.get("step", 0)) for e in log), "look_back": length}
    cell = CellResult(result.frame[[ID, TIME, CUTOFF, *columns]], result.costs[spec.name], result.failures, found, log)
    if not result.failures:
        store.save(key, cell, fitted if spec.is_trainable else None)
    return cell


def _search_look_back(
    config: CompareConfig, prepared: PreparedTask, spec: ModelSpec, store: "CellStore", build: Build, tell: Tell
) -> dict[str, Any]:
    """Chooses the context length by the best validation loss before the first cutoff; the test part is not seen."""
    losses: dict[str, float] = {}
    for length in config.look_backs:
        facts = replace(prepared.facts, context_length=length)
        key = _describe_cell(config, prepared, spec, spec, facts, config.seeds[0], []) | {"search": True}
        found = store.load(key)
        if found is None:
            tell(f"{prepared.name}: {spec.name}, look-back {length} on validation")
            model: Any = build(spec, facts, config.seeds[0])
            if config.max_seconds is not None:
                model.max_seconds = config.max_seconds
            model.fit(prepared.training, facts.h)
            best = min((e["eval_loss"] for e in model.log if "eval_loss" in e), default=float("nan"))
            found = CellResult(pd.DataFrame({ID: []}), Cost(model.seconds), [], {"eval_loss": best}, model.log)
            store.save(key, found, None)
        losses[str(length)] = found.facts["eval_loss"]
    best_length = min(losses, key=lambda k: losses[k])
    return {"look_back": int(best_length), "look_back_losses": losses}


class CellStore:
    """Cells on disk; one that was interrupted while being written does not exist.

    Args:
        folder: Where they lie.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, key: dict[str, Any]) -> Path:
        """Returns the folder of a cell."""
        text = json.dumps(key, sort_keys=True, default=str)
        return self.folder / hashlib.sha256(text.encode()).hexdigest()[:20]

    def model_folder(self, key: dict[str, Any]) -> Path:
        """Returns where a trained model of a cell lies."""
        return self.path(key) / "model"

    def load(self, key: dict[str, Any]) -> CellResult | None:
        """Returns a cell, or None if it is not there."""
        folder = self.path(key)
        if not (folder / "cell.json").is_file():
            return None
        state = json.loads((folder / "cell.json").read_text(encoding="utf-8"))
        frame = pd.read_parquet(folder / "forecasts.parquet")
        return CellResult(frame, Cost(**state["cost"]), [], state["facts"], state["log"])

    def save(self, key: dict[str, Any], cell: CellResult, fitted: Any) -> None:
        """Writes a cell and its trained model, and moves it into place when it is complete."""
        self.folder.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=".cell-", dir=self.folder))
        try:
            if fitted is not None:
                fitted.save_pretrained(made / "model")
                size = sum(p.stat().st_size for p in (made / "model").rglob("*") if p.is_file())
                cell.facts["artefact_mb"] = size / 1e6
            cell.frame.to_parquet(made / "forecasts.parquet", index=False)
            state = {"key": key, "cost": asdict(cell.cost), "facts": cell.facts, "log": cell.log}
            (made / "cell.json").write_text(json.dumps(state, indent=1, default=float), encoding="utf-8")
            target = self.path(key)
            if target.exists():
                shutil.rmtree(target)
            made.rename(target)
        finally:
            if made.exists():
                shutil.rmtree(made)


def load_perturbed(spec: ModelSpec, source: Path | None, seed: int) -> Forecaster:
    """Loads the trained model that `spec.of` names and perturbs what it reads.

    Raises:
        FileNotFoundError: If that model was not trained.
    """
    if source is None or not source.is_dir():
        raise FileNotFoundError(f"{spec.name} perturbs {spec.of!r}, which has no trained model; name it before")
    predictor = NeuralPredictor.from_pretrained(source)
    predictor.alias = spec.name
    return perturb_predictor(predictor, spec.perturb, seed)


def _concat(parts: Sequence[CellResult]) -> CellResult:
    cost = Cost(
        sum(p.cost.fit_seconds for p in parts),
        sum(p.cost.predict_seconds for p in parts),
        sum(p.cost.windows for p in parts),
        parts[0].cost.trained_parameters,
        parts[0].cost.total_parameters,
    )
    frames = [p.frame for p in parts if len(p.frame)] or [parts[0].frame]
    peaks = [p.facts["peak_memory_mb"] for p in parts if "peak_memory_mb" in p.facts]
    facts = dict(parts[0].facts) | ({"peak_memory_mb": max(peaks)} if peaks else {})
    failures = [f for p in parts for f in p.failures]
    return CellResult(pd.concat(frames, ignore_index=True), cost, failures, facts, parts[0].log)


def _join(config: CompareConfig, prepared: PreparedTask, per_model: dict[str, list[CellResult]]) -> TaskResult:
    """Puts the cells of each seed side by side on the windows."""
    keys = prepared.windows.keys
    level = sorted(config.level)
    runs = []
    for position in range(len(config.seeds)):
        run = BacktestResult(keys, list(per_model), prepared.facts.h, level)
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
    facts = {name: [cell.facts for cell in cells] for name, cells in per_model.items()}
    return TaskResult(prepared, runs, facts, {name: cells[0].log for name, cells in per_model.items() if cells[0].log})


class MemoryMeter:
    """The largest memory of this process above what it had at first, sampled; `peak_mb` is in megabytes."""

    def __init__(self) -> None:
        self.before = self.peak = _resident_bytes()

    @property
    def peak_mb(self) -> float:
        """Peak above the start."""
        return (self.peak - self.before) / 1e6


@contextmanager
def measure_memory(interval: float = 0.05) -> Any:
    """Samples the resident memory in a thread while the block runs."""
    meter, done = MemoryMeter(), threading.Event()

    def sample() -> None:
        while not done.wait(interval):
            meter.peak = max(meter.peak, _resident_bytes())

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield meter
    finally:
        done.set()
        thread.join()


def _resident_bytes() -> int:
    statm = Path("/proc/self/statm")
    if statm.is_file():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
