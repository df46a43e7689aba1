"""Context is Key (Williams 2025, ICML, arXiv 2410.18959): forecasts that only a text makes possible.

A file holds one instance a line, as the benchmark's authors publish them; what a forecaster may see and what only the
score may see are kept apart here.
"""

import json
import math
from collections.abc import Iterator, Mapping
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
_REGION, _SEASON = "region_of_interest", "seasonal_period"
LARGEST = 1e100  # up to which numbers can be multiplied and squared
# Year first, so that day and month are told apart: 2024, 2024Q1, 2024-01, 2024-01-31, 2024-01-31T12:00:00.000.
_TIME = r"\d{4}(?:[Q/-]\d{1,2}(?:[/-]\d{1,2}(?:[T ]\d{1,2}(?::\d\d){1,2}(?:\.\d+)?)?)?)?"


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

    Raises:
        ValueError: If a value is impossible: a scaling or weight that is not above 0, a number that is not finite, a
            step outside the horizon, bounds that leave no value.
    """

    truth: np.ndarray
    region: tuple[int, ...]
    scaling: float
    low: float | None
    high: float | None
    step_highs: dict[int, float]
    weight: Fraction

    def __post_init__(self) -> None:
        if not len(self.truth) or not _all_usable(self.truth):
            raise ValueError(f"the target has missing, infinite or no values to come, or some beyond {LARGEST:g}")
        if not 1 / LARGEST <= self.scaling <= LARGEST:
            raise ValueError(f"metric_scaling is {self.scaling}; give a number above 0, at most {LARGEST:g}")
        if not 1 / LARGEST <= self.weight <= LARGEST:
            raise ValueError(f"weight is {self.weight}; give a number or a fraction above 0, such as 1/3")
        bounds = {MIN: self.low, MAX: self.high} | {f"{MAX_VALUES} at {k}": v for k, v in self.step_highs.items()}
        for name, bound in bounds.items():
            if bound is not None and not _all_usable(bound):
                raise ValueError(f"{name} is {bound}; give a finite number up to {LARGEST:g}")
        highs = [bound for name, bound in bounds.items() if name != MIN and bound is not None]
        if self.low is not None and highs and self.low > min(highs):
            raise ValueError(f"{MIN} is {self.low}, above the largest value allowed, {min(highs)}")
        for step in (*self.region, *self.step_highs):
            if not 0 <= step < len(self.truth):
                raise ValueError(f"step {step} lies outside the {len(self.truth)} to come; they count from 0")


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

    Raises:
        ValueError: If the history holds values that are not finite, times are not in order, the history reaches into
            the future, or there is not one truth for each time to come.
    """

    name: str
    seed: int
    texts: dict[str, str]
    past: pd.Series
    covariates: pd.DataFrame
    future: pd.DatetimeIndex
    season: int
    scoring: Scoring

    def __post_init__(self) -> None:
        if not len(self.past) or not _all_usable(self.past.to_numpy(float)):
            raise ValueError(f"the target has missing, infinite or no past values, or some beyond {LARGEST:g}")
        if len(self.future) != len(self.scoring.truth):
            raise ValueError(f"there are {len(self.scoring.truth)} values for the {len(self.future)} times to come")
        if self.season < 1:
            raise ValueError(f"seasonal_period is {self.season}; give the steps of a season, or -1 for none")
        for name, times in (("past_time", self.past.index), ("future_time", self.future)):
            if not times.is_unique:
                raise ValueError(f"{name} holds the time {times[times.duplicated()][0]} twice; keep one")
            if not times.is_monotonic_increasing:
                raise ValueError(f"the times of {name} are not in their order")
        if self.past.index[-1] >= self.future[0]:
            raise ValueError(
                f"past_time reaches to {self.past.index[-1]}, but future_time begins at {self.future[0]}; the history "
                "must end before what is forecast"
            )

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
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        try:
            yield read_instance(_decode(line))
        except (TypeError, ValueError, ArithmeticError) as error:
            raise ValueError(f"{path}, line {number}: {error}") from error


def _decode(text: str | bytes) -> Any:
    """Decodes JSON in which no name stands twice."""

    def read_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            raise ValueError(f"{next(n for n in names if names.count(n) > 1)!r} stands there twice; keep one")
        return found

    return json.loads(text, object_pairs_hook=read_once)


def read_instance(record: dict[str, Any]) -> CikInstance:
    """Builds an instance from one decoded line.

    Raises:
        ValueError: If a field is missing, or a value makes no sense; the text names instance and field.
    """
    missing = [name for name in _FIELDS if name not in record] if isinstance(record, dict) else _FIELDS
    if missing:
        raise ValueError(f"field {missing[0]!r} is missing")
    name = _read_text(record["name"], "name")
    if not name or not name.isprintable():
        raise ValueError(f"name is {name!r}; give the name of the task, in one line")
    seed = _read_whole(record["seed"], "seed")
    try:
        return _build(record, name, seed)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise ValueError(f"{name}/{seed}: {error}") from error


def _build(record: dict[str, Any], name: str, seed: int) -> CikInstance:
    past, future = _read_table(record, "past_time"), _read_table(record, "future_time")
    target = past.columns[-1]
    if target not in future:
        raise ValueError(
            f"future_time holds {', '.join(map(str, future))}, but not the target {target!r} of past_time"
        )
    covariates = past.drop(columns=target).infer_objects()
    if np.isinf(covariates.select_dtypes("number").to_numpy(float)).any():
        raise ValueError("past_time holds an infinite value in a column beside the target; give a number or null")
    history, truth = (_read_values(table[target], field) for field, table in (("past", past), ("future", future)))
    steps = [_read_whole(step, MAX_STEPS) for step in _read_list(record, MAX_STEPS)]
    highs = [_read_number(high, MAX_VALUES) for high in _read_list(record, MAX_VALUES)]
    if len(steps) != len(highs) or len(set(steps)) < len(steps):
        raise ValueError(f"{MAX_STEPS} holds {steps} and {MAX_VALUES} {highs}; give one value for each step, once")
    scoring = Scoring(
        truth=truth.to_numpy(),
        region=tuple(_read_whole(step, _REGION) for step in _read_list(record, _REGION)),
        scaling=_read_number(record["metric_scaling"], "metric_scaling"),
        low=None if record.get(MIN) is None else _read_number(record[MIN], MIN),
        high=None if record.get(MAX) is None else _read_number(record[MAX], MAX),
        step_highs=dict(zip(steps, highs, strict=True)),
        weight=_read_weight(record["weight"]),
    )
    texts = {part: "" if record.get(part) is None else _read_text(record[part], part) for part in PARTS}
    season = -1 if record.get(_SEASON) is None else _read_whole(record[_SEASON], _SEASON)
    return CikInstance(
        name, seed, texts, history, covariates, pd.DatetimeIndex(future.index), 1 if season == -1 else season, scoring
    )


def _read_text(value: Any, field: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{field} is {value!r}, a {type(value).__name__}; give a text")
    if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError(f"{field} holds half of a character, {value[:40]!r}; write the file as UTF-8")
    return value


def _read_number(value: Any, field: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{field} is {value!r}, a {type(value).__name__}; give a number")
    return float(value)


def _read_whole(value: Any, field: str) -> int:
    number = _read_number(value, field)
    if not number.is_integer():
        raise ValueError(f"{field} is {value}; give a whole number")
    return int(value)


def _read_list(record: Mapping[str, Any], field: str) -> list[Any]:
    values = record.get(field)
    if not isinstance(values, list | None):
        raise ValueError(f"{field} is {values!r}, a {type(values).__name__}; give a list")
    return values or []


def _read_values(values: pd.Series, field: str) -> pd.Series:
    """Returns numbers, each under its time; a missing one is NaN."""
    read = [math.nan if value is None else _read_number(value, f"{field}_time at {t}") for t, value in values.items()]
    return pd.Series(read, index=values.index, name=values.name, dtype=float)


def _read_weight(value: Any) -> Fraction:
    try:
        return Fraction(value if isinstance(value, str) else str(_read_number(value, "weight")))
    except (ValueError, ZeroDivisionError, OverflowError):
        raise ValueError(f"weight is {value!r}; give a number or a fraction above 0, such as 1/3") from None


def _all_usable(values: float | np.ndarray) -> bool:
    """Tells whether numbers are finite, and small enough for the score to be computed."""
    return bool((np.abs(values) <= LARGEST).all())


def _read_table(record: dict[str, Any], field: str) -> pd.DataFrame:
    """Decodes column -> {time: value}, written as JSON text; the columns keep their order.

    Raises:
        ValueError: Naming the field.
    """
    try:
        columns = _decode(record[field])
        frame = pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in columns.items()})
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{field} is no JSON text column -> {{time: value}} ({error})") from error
    if frame.empty:
        raise ValueError(f"{field} holds no values")
    written = pd.Series(frame.index.astype(str))
    times = pd.to_datetime(written.where(written.str.fullmatch(_TIME)), format="mixed", errors="coerce")
    if times.isna().any():
        raise ValueError(f"{field} has the time {frame.index[int(times.isna().argmax())]!r}; write 2024-01-31 12:00")
    frame.index = pd.DatetimeIndex(times)
    return frame.sort_index()
