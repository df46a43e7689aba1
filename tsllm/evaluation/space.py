"""What a search may set: the kinds of setting, the space that follows from a model's configuration, draws from it."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from tsllm.data.task import ForecastTask
from tsllm.forecasting.model_spec import ModelSpec
from tsllm.models import find_model_class
from tsllm.near import find_near
from tsllm.training.args import ForecastTrainingArguments
from tsllm.training.build import check_model_config
from tsllm.training.options import DEFAULT_TRAINING

logger = logging.getLogger(__name__)

Value = float | int | str | bool | None
Params = dict[str, Value]
# Multiples of a model's own value that are tried; what a configuration refuses is left out.
_FACTORS = {"d_model": (0.5, 1, 2), "context_length": (0.5, 1, 2)}
_DROPOUTS = (0.0, 0.1, 0.3)
_SEARCHED = ("learning_rate", "d_model", "context_length", "dropout")  # without changes
_TRAINING = frozenset(f.name for f in fields(ForecastTrainingArguments))


@dataclass(frozen=True)
class Choice:
    """One of some values.

    Attributes:
        values: At least two, each once.
    """

    values: tuple[Value, ...]

    def __post_init__(self) -> None:
        if len(self.values) < 2 or len({repr(v) for v in self.values}) < len(self.values):
            raise ValueError(f"{list(self.values)} is no choice; give at least two values, each once")

    def holds(self, value: Value) -> bool:
        """Whether a value can be chosen."""
        return value in self.values

    def at(self, share: float) -> Value:
        """Returns the value at a share of the way, 0 to 1."""
        return self.values[min(int(share * len(self.values)), len(self.values) - 1)]

    def is_border(self, value: Value) -> bool:
        """Whether a number is the least or the largest."""
        numbers = [v for v in self.values if isinstance(v, int | float) and not isinstance(v, bool)]
        return len(numbers) == len(self.values) > 2 and value in (min(numbers), max(numbers))


@dataclass(frozen=True)
class Range:
    """A real number between two.

    Attributes:
        low: Least.
        high: Largest.
        log: Whether its logarithm is drawn.
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError(f"low {self.low} and high {self.high}{' (log)' if self.log else ''} are no range")

    def holds(self, value: Value) -> bool:
        """Whether a value lies inside."""
        return isinstance(value, int | float) and not isinstance(value, bool) and self.low <= value <= self.high

    def at(self, share: float) -> Value:
        """Returns the number at a share of the way, 0 to 1."""
        if not self.log:
            return self.low + share * (self.high - self.low)
        return math.exp(math.log(self.low) + share * (math.log(self.high) - math.log(self.low)))

    def is_border(self, value: Value) -> bool:
        """Whether a number lies within a twentieth of an end."""
        if not isinstance(value, int | float):
            return False
        low, high, at = (
            (math.log(self.low), math.log(self.high), math.log(value)) if self.log else (self.low, self.high, value)
        )
        return not 0.05 <= (at - low) / (high - low) <= 0.95


Space = dict[str, Choice | Range]


def draw_spread(space: Space, count: int, seed: int) -> list[Params]:
    """Draws settings that are spread over a space: the first points of a scrambled Sobol sequence.

    Of one value after another its share of the unit interval is taken, so that four draws of three values reach at
    least the first and the last. More draws begin with the same ones.

    Args:
        space: Name -> what it may be.
        count: How many.
        seed: Of the scrambling.

    >>> [p["rate"] < 1 for p in draw_spread({"rate": Range(0.1, 10, log=True)}, 4, seed=0)].count(True)
    2
    """
    from scipy.stats import qmc

    names = sorted(space)
    sequence = qmc.Sobol(len(names), scramble=True, rng=np.random.default_rng(seed))
    points = sequence.random_base2(max(0, math.ceil(math.log2(max(1, count)))))[:count]  # [count, settings]
    return [{name: space[name].at(float(u)) for name, u in zip(names, point, strict=True)} for point in points]


def build_space(
    spec: ModelSpec,
    task: ForecastTask,
    changes: Mapping[str, Any] | None = None,
) -> Space:
    """Derives what is searched for a model: learning rate, width, dropout and look-back, as far as it has them.

    Args:
        spec: The model's entry; its own values are in the middle of what is tried.
        task: What is forecast.
        changes: Name -> a list of values, a mapping `{low, high, log}`, or None to leave it out; names are fields of
            the model's configuration (`loss` too) or training options.

    Raises:
        ValueError: If the model is not trained by tsllm, or a change names nothing that could be tuned.
    """
    if spec.kind != "native" or not spec.is_trainable:
        raise ValueError(f"{spec.name} is no model that tsllm trains, so there is nothing to tune")
    config_class = find_model_class(spec.model).config_class
    known = config_class.own_fields()
    rate = float(spec.training.get("learning_rate", DEFAULT_TRAINING["learning_rate"]))
    space: Space = {"learning_rate": Range(rate / 10, rate * 10, log=True)}
    for name in ("d_model", "context_length"):
        if name in known:
            own = task.context_length if name == "context_length" else getattr(config_class, name)
            own = int(spec.options.get(name, own))
            values = [max(1, round(own * f)) for f in _FACTORS[name]]
            space |= _keep_valid(spec, task, name, values)
    if "dropout" in known:
        space |= _keep_valid(spec, task, "dropout", _DROPOUTS)
    for name, change in (changes or {}).items():
        if change is None and name in (*_SEARCHED, *known, *_TRAINING):
            space.pop(name, None)  # one rule for all models leaves out what some of them lack anyway
        elif name not in known and name not in _TRAINING:
            near = find_near(name, sorted(known | _TRAINING), cutoff=0.5)
            said = f"did you mean {', '.join(near)}?" if near else f"of its own it has {', '.join(sorted(known))}"
            raise ValueError(f"{spec.name} has no setting {name!r} to tune; {said}")
        else:
            space[name] = read_kind(name, change)
    return space


def read_kind(name: str, given: Any) -> Choice | Range:
    """Reads what a setting may be from plain types.

    Raises:
        ValueError: If it is neither a list nor a mapping of low and high.
    """
    if isinstance(given, Sequence) and not isinstance(given, str):
        return Choice(tuple(given))
    if isinstance(given, Mapping) and {"low", "high"} <= set(given) <= {"low", "high", "log"}:
        return Range(float(given["low"]), float(given["high"]), bool(given.get("log", False)))
    raise ValueError(f"{name} is {given!r}; give a list of values, {{low, high, log}}, or null to leave it out")


def apply_params(spec: ModelSpec, params: Mapping[str, Any]) -> ModelSpec:
    """Returns the entry with these settings: fields of the configuration as options, the others for training."""
    known = find_model_class(spec.model).config_class.own_fields()
    options = {k: v for k, v in params.items() if k in known}
    training = {k: v for k, v in params.items() if k not in known}
    return replace(spec, options=spec.options | options, training=spec.training | training)


def find_first(spec: ModelSpec, task: ForecastTask, space: Space) -> Params:
    """Returns the settings of the entry as it is, where the space holds them; others are drawn."""
    config_class = find_model_class(spec.model).config_class
    own = DEFAULT_TRAINING | {"context_length": task.context_length} | spec.options | spec.training
    values = {name: own.get(name, getattr(config_class, name, None)) for name in space}
    return {name: value for name, value in values.items() if space[name].holds(value)}


def _keep_valid(spec: ModelSpec, task: ForecastTask, name: str, values: Sequence[Any]) -> Space:
    """Returns a choice among the values that the model's configuration takes; nothing if that leaves no choice."""
    kept = []
    for value in dict.fromkeys(values):
        options = spec.options | {name: value}
        context = options.pop("context_length", task.context_length)
        known = find_model_class(spec.model).config_class.own_fields()
        try:
            given = {k: v for k, v in options.items() if k in known}
            check_model_config(spec.model, given, context, task.h, named=bool(spec.covariates))
        except ValueError as error:
            logger.info("%s: %s %r is not tried: %s", spec.name, name, value, error)
            continue
        kept.append(value)
    return {name: Choice(tuple(kept))} if len(kept) > 1 else {}
