"""Context is Key (Williams 2025, ICML, arXiv 2410.18959): forecasts that only a text makes possible.

A file holds one instance a line, as the benchmark's authors publish them; what a forecaster may see and what only the
score may see are kept apart here.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

PARTS = ("background", "scenario", "constraints")
_FIELDS = ("name", "seed", "past_time", "future_time", "metric_scaling", "weight")
MIN, MAX = "constraint_min", "constraint_max"
MAX_STEPS, MAX_VALUES = "constraint_variable_max_index", "constraint_variable_max_values"


@dataclass(frozen=True)
class Scoring:
    """What only the score may see.

    Attributes:
        truth: The values that came [H].
        region: Steps of special interest, counted from 0; may be empty.
        scaling: Factor that makes errors of different tasks comparable.
        low: Smallest value allowed; None = unbounded.
        high: Largest value allowed; None = unbounded.
        step_highs: Step -> largest value allowed there.
        weight: Share of the instance in the benchmark's mean.
    """

    truth: np.ndarray
    region: tuple[int, ...]
    scaling: float
    low: float | None
    high: float | None
    step_highs: dict[int, float]
    weight: Fraction


@dataclass(frozen=True)
class CikInstance:
    """One window to forecast, and how the forecast is scored.

    Attributes:
        name: The task.
        seed: Which of its instances.
        texts: The three texts `background`, `scenario`, `constraints`; each may be empty.
        past: History of the target, indexed by time [L].
        covariates: History of the other columns [L, C].
        future: Times to forecast [H].
        season: Steps in a season; 1 = none.
        scoring: Never shown to a forecaster.
    """

    name: str
    seed: int
    texts: dict[str, str]
    past: pd.Series
    covariates: pd.DataFrame
    future: pd.DatetimeIndex
    season: int
    scoring: Scoring

    @property
    def key(self) -> str:
        """Name of the instance in a file of forecasts: `NAME/SEED`."""
        return f"{self.name}/{self.seed}"

    @property
    def text(self) -> str:
        """The three texts in the benchmark's order, empty ones left out."""
        return "\n".join(self.texts[part].strip() for part in PARTS if self.texts[part].strip())


def load_cik(path: str | Path) -> list[CikInstance]:
    """Reads a file of instances, one JSON object a line.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a line is damaged or an instance occurs twice; the text names the line.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no file {path}; expected Context is Key's instances, one JSON object a line"
        )
    instances = list(_read_lines(path))
    if not instances:
        raise ValueError(f"{path} holds no instance")
    seen: set[str] = set()
    for instance in instances:
        if instance.key in seen:
            raise ValueError(f"{path} holds {instance.key} twice; keep one of the lines")
        seen.add(instance.key)
    return instances


def _read_lines(path: Path) -> Iterator[CikInstance]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                yield read_instance(json.loads(line))
            except (TypeError, ValueError, ArithmeticError) as error:
                raise ValueError(f"{path}, line {number}: {error}") from error


def read_instance(record: dict[str, Any]) -> CikInstance:
    """Builds an instance from one decoded line.

    Raises:
        ValueError: If a field is missing, or a value makes no sense.
    """
    missing = [name for name in _FIELDS if name not in record] if isinstance(record, dict) else _FIELDS
    if missing:
        raise ValueError(f"field {missing[0]!r} is missing")
    past, future = _read_table(record, "past_time"), _read_table(record, "future_time")
    target = past.columns[-1]
    if target not in future:
        raise ValueError(
            f"future_time holds {', '.join(map(str, future))}, but not the target {target!r} of past_time"
        )
    truth = future[target].to_numpy(float)
    if not len(truth) or not past[target].notna().all() or not np.isfinite(truth).all():
        raise ValueError(f"{record['name']}/{record['seed']}: the target {target!r} has missing values or no future")
    region = tuple(int(step) for step in record.get("region_of_interest") or ())
    step_highs = dict(zip(record.get(MAX_STEPS) or (), record.get(MAX_VALUES) or (), strict=True))
    steps = [*region, *map(int, step_highs)]
    if steps and not 0 <= min(steps) <= max(steps) < len(truth):
        raise ValueError(f"{record['name']}/{record['seed']}: step {max(steps)} lies outside the {len(truth)} to come")
    weight = _read_weight(record["weight"])
    scoring = Scoring(
        truth, region, float(record["metric_scaling"]), record.get(MIN), record.get(MAX),
        {int(step): float(value) for step, value in step_highs.items()}, weight,
    )  # fmt: skip
    texts = {part: record.get(part) or "" for part in PARTS}
    season = max(1, int(record.get("seasonal_period") or 1))
    covariates = past.drop(columns=target)
    return CikInstance(
        record["name"], int(record["seed"]), texts, past[target].astype(float), covariates,
        pd.DatetimeIndex(future.index), season, scoring,
    )  # fmt: skip


def _read_weight(value: Any) -> Fraction:
    try:
        weight = Fraction(str(value))
    except (ValueError, ZeroDivisionError):
        weight = Fraction(0)
    if weight <= 0:
        raise ValueError(f"weight is {value!r}; give a number or a fraction above 0, such as 1/3")
    return weight


def _read_table(record: dict[str, Any], field: str) -> pd.DataFrame:
    """Decodes column -> {time: value}, written as JSON text; the columns keep their order.

    Raises:
        ValueError: Naming the field.
    """
    try:
        columns = json.loads(record[field])
        frame = pd.DataFrame({name: pd.Series(values) for name, values in columns.items()})
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{field} is no JSON text column -> {{time: value}} ({error})") from error
    if frame.empty:
        raise ValueError(f"{field} holds no values")
    times = pd.to_datetime(pd.Series(frame.index.astype(str)), format="mixed", errors="coerce")
    if times.isna().any():
        raise ValueError(f"{field} has the time {frame.index[int(times.isna().argmax())]!r}; write 2024-01-31 12:00")
    frame.index = pd.DatetimeIndex(times)
    return frame.sort_index()
