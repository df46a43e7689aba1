"""Cells of a comparison on disk, and what is measured while one is computed.

A cell is (data, model, seed) and, where each window is estimated anew, one window. It is written to a folder of its
own, complete or not at all; its name is a hash of everything that its content depends on.
"""

import hashlib
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from tsllm.evaluation.backtest import Cost, Failure
from tsllm.evaluation.saved import list_files


@dataclass
class CellResult:
    """What a cell holds.

    Attributes:
        frame: `unique_id, ds, cutoff` and the model's columns.
        cost: What it took.
        failures: What raised.
        facts: Chosen look-back, steps trained, peak memory, artefact size, what is said of its training data.
        log: Training log.
        folder: Where the trained or saved model lies; None if there is none.
    """

    frame: pd.DataFrame
    cost: Cost
    failures: list[Failure]
    facts: dict[str, Any]
    log: list[dict[str, Any]]
    folder: Path | None = None


class CellStore:
    """Cells on disk; one that was interrupted while being written does not exist.

    Args:
        folder: Where they lie.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def clean(self) -> None:
        """Takes away what killed runs left while they were writing; nobody else may be writing."""
        for left in self.folder.glob(".cell-*"):
            shutil.rmtree(left)

    def clear(self) -> None:
        """Takes away all cells of earlier runs."""
        if self.folder.is_dir():
            shutil.rmtree(self.folder)

    def path(self, key: dict[str, Any]) -> Path:
        """Returns the folder of a cell."""
        text = json.dumps(key, sort_keys=True, default=str)
        return self.folder / hashlib.sha256(text.encode()).hexdigest()[:20]

    def model_folder(self, key: dict[str, Any]) -> Path:
        """Returns where a trained model of a cell lies."""
        return self.path(key) / "model"

    def load(self, key: dict[str, Any]) -> CellResult | None:
        """Returns a cell, or None if it is not there.

        Raises:
            OSError: If one of its files is damaged; the text names it.
        """
        folder = self.path(key)
        if not (folder / "cell.json").is_file():
            return None
        file = folder / "cell.json"
        try:
            state = json.loads(file.read_text(encoding="utf-8"))
            cost, facts, log = Cost(**state["cost"]), state["facts"], state["log"]
            file = folder / "forecasts.parquet"
            frame = pd.read_parquet(file)
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise OSError(
                f"{file} is damaged ({error}); remove its folder {folder} and start again, then it is computed anew"
            ) from error
        return CellResult(frame, cost, [], facts, log)

    def save(self, key: dict[str, Any], cell: CellResult, fitted: Any) -> None:
        """Writes a cell and its trained model, and moves it into place when it is complete."""
        self.folder.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=".cell-", dir=self.folder))
        try:
            if fitted is not None:
                fitted.save_pretrained(made / "model")
                cell.facts["artefact_mb"] = measure_files(list_files(made / "model"))
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


def measure_files(paths: Any) -> float:
    """Returns the size of the files among `paths` in megabytes."""
    return sum(p.stat().st_size for p in paths if p.is_file()) / 1e6


def join_cells(parts: Sequence[CellResult]) -> CellResult:
    """Joins the windows of one model: forecasts one after another, costs summed, the largest memory."""
    sizes = [p.cost for p in parts if p.cost.total_parameters is not None] or [parts[0].cost]
    cost = Cost(
        sum(p.cost.fit_seconds for p in parts),
        sum(p.cost.predict_seconds for p in parts),
        sum(p.cost.windows for p in parts),
        sizes[0].trained_parameters,
        sizes[0].total_parameters,
    )
    frames = [p.frame for p in parts if len(p.frame)] or [parts[0].frame]
    facts = {name: value for p in reversed(parts) for name, value in p.facts.items()}
    peaks = [p.facts["peak_memory_mb"] for p in parts if "peak_memory_mb" in p.facts]
    facts |= {"peak_memory_mb": max(peaks)} if peaks else {}
    failures = [f for p in parts for f in p.failures]
    return CellResult(pd.concat(frames, ignore_index=True), cost, failures, facts, parts[0].log)


class MemoryMeter:
    """The largest memory of this process above what it had at first, sampled; `peak_mb` is in megabytes."""

    def __init__(self) -> None:
        self.before = self.peak = _resident_bytes()

    @property
    def peak_mb(self) -> float:
        """Peak above the start."""
        return (self.peak - self.before) / 1e6


@contextmanager
def measure_memory(interval: float = 0.05) -> Iterator[MemoryMeter]:
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
