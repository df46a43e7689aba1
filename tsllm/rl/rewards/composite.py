"""Rewards made of others: weighted sums from configuration, and functions of the user's own."""

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tsllm.decisions import PROBLEMS, DecisionProblem, build_problem
from tsllm.registry import Registry
from tsllm.rl.rewards.base import Completions, Problem, Reward
from tsllm.rl.rewards.known import FACTS, Known
from tsllm.rl.rewards.problem import build_problem_reward

ARGUMENTS = ("samples", "target", "history", "season")


class WrongShapeError(ValueError):
    """A user's function returned something else than a tensor of the shape that is due; the text names it."""


class WeightedReward(Reward):
    """Weighted sum of rewards. Range: the weighted sum of the ranges; a negative weight turns a range round.

    Additive, group-wise, differentiable by its terms: additive and differentiable if all are, group-wise if any is.

    >>> from tsllm.rl.rewards.accuracy import NegativeMAE
    >>> from tsllm.rl.rewards.shape import Correlation
    >>> reward = WeightedReward([(2.0, NegativeMAE()), (1.0, Correlation())])
    >>> samples = torch.tensor([[[1.0, 2.0], [2.0, 1.0]]])
    >>> reward(samples, torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 2.0]]))  # 2 * 0 + 1 and 2 * -1 - 1
    tensor([[ 1., -3.]])

    Args:
        terms: Pairs (weight, reward).

    Raises:
        ValueError: If there is no term or a weight is zero or not finite.
    """

    def __init__(self, terms: Sequence[tuple[float, Reward]]) -> None:
        if not terms:
            raise ValueError("a weighted reward needs at least one term")
        for weight, reward in terms:
            if not isinstance(weight, int | float) or weight == 0 or not abs(weight) < float("inf"):
                raise ValueError(f"the weight of {reward!r} must be a finite number other than 0, found {weight!r}")
        self.terms = [(float(weight), reward) for weight, reward in terms]
        ends = [sorted((weight * reward.low, weight * reward.high)) for weight, reward in self.terms]
        self.low, self.high = sum(low for low, _ in ends), sum(high for _, high in ends)
        self.additive = all(reward.additive for _, reward in self.terms)

    @property
    def group_wise(self) -> bool:  # type: ignore[override]  # decided by the terms
        """Whether any term compares the forecasts of a group."""
        return any(reward.group_wise for _, reward in self.terms)

    @property
    def differentiable(self) -> bool:  # type: ignore[override]  # decided by the terms
        """Whether every term has a useful gradient."""
        return all(reward.differentiable for _, reward in self.terms)

    @property
    def scores_text(self) -> bool:  # type: ignore[override]  # decided by the terms
        """Whether any term judges the text."""
        return any(reward.scores_text for _, reward in self.terms)

    @property
    def asks(self) -> frozenset[str]:  # type: ignore[override]  # decided by the terms
        """What any term asks for."""
        return frozenset().union(*(reward.asks for _, reward in self.terms))

    @property
    def optional(self) -> frozenset[str]:  # type: ignore[override]  # decided by the terms
        """What no term needs."""
        return self.asks - frozenset().union(*(reward.asks - reward.optional for _, reward in self.terms))

    def __call__(
        self,
        samples: Tensor,
        target: Tensor,
        history: Tensor,
        season: int = 1,
        completions: Completions | None = None,
        known: Known | None = None,
    ) -> Tensor:
        """Returns the weighted sum of the terms' rewards, [B, G]; see `Reward.__call__`."""
        problem = (samples, target, history, season, completions)
        return torch.stack([weight * reward(*problem, **reward.tell(known)) for weight, reward in self.terms]).sum(0)

    def per_step(
        self,
        samples: Tensor,
        target: Tensor,
        history: Tensor,
        season: int = 1,
        completions: Completions | None = None,
        known: Known | None = None,
    ) -> Tensor:
        """Returns the weighted sum of the terms' rewards by step, [B, G, H]; see `Reward.per_step`."""
        if not self.additive:
            names = [type(reward).__name__ for _, reward in self.terms if not reward.additive]
            raise TypeError(f"{', '.join(names)} judge whole forecasts; the sum has no reward by step")
        problem = (samples, target, history, season, completions)
        return torch.stack(
            [weight * reward.per_step(*problem, **reward.tell(known)) for weight, reward in self.terms]
        ).sum(0)

    def utility(
        self, samples: Tensor, target: Tensor, history: Tensor, season: int = 1, known: Known | None = None
    ) -> Tensor:
        """Returns the weighted sum of the terms' utilities, [B]."""
        problem = (samples, target, history, season)
        return torch.stack(
            [weight * reward.utility(*problem, **reward.tell(known)) for weight, reward in self.terms]
        ).sum(0)


class FunctionReward(Reward):
    """A user's function `f(samples, target, history, season, *, unique_id, ds, ...) -> [B, G]` as a reward.

    The function sees samples without NaN (invalid forecasts are 0 throughout and get `low` afterwards) and a target
    and history with NaN where missing. Of the facts in `tsllm.rl.rewards.known.Known` it gets those that its signature
    names; one with a default may be unknown, `**facts` gets all that are known. Pickles if the function does, that is
    if it lives at the top of a module.

    Args:
        function: The function.
        low: The least reward; results are cut there.
        high: The largest reward; results are cut there.
        additive: Whether the function returns rewards by step, [B, G, H].
        differentiable: Whether its gradient is useful.

    Raises:
        ValueError: If the signature is another or the range is empty.
        WrongShapeError: When called, if the function returns something of another shape.
    """

    def __init__(
        self,
        function: Callable[..., Tensor],
        low: float = -1.0,
        high: float = 1.0,
        additive: bool = False,
        differentiable: bool = False,
    ) -> None:
        self.asks, self.optional = read_signature(function)
        if not -float("inf") < low < high < float("inf"):
            raise ValueError(f"low ({low}) must be below high ({high}), both finite: rewards are bounded")
        self.function, self.low, self.high, self.additive = function, float(low), float(high), additive
        self.differentiable = differentiable  # type: ignore[misc]  # the user's word for one instance

    def _steps(self, problem: Problem) -> Tensor:
        return self._evaluate(problem, list(problem.samples.shape))

    def _paths(self, problem: Problem) -> Tensor:
        return self._evaluate(problem, list(problem.samples.shape[:2]))

    def _evaluate(self, problem: Problem, shape: list[int]) -> Tensor:
        target = problem.target.masked_fill(~problem.observed, torch.nan)
        history = problem.history.masked_fill(~problem.history_observed, torch.nan)
        facts = problem.known.get(self.asks)
        value = self.function(problem.samples, target, history, problem.season, **facts)
        if not isinstance(value, Tensor) or list(value.shape) != shape:
            found = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
            name = _name_of(self.function)
            raise WrongShapeError(f"{name} must return a tensor of shape {shape}, found {found}")
        return value.to(problem.samples.dtype)


def build_reward(spec: str | Mapping[str, Any] | Sequence[Any], table: Registry[type[Reward]]) -> Reward:
    """Builds a reward from a configuration.

    A name of the table ("energy"); a decision problem ("peak_shaving", or the dotted path of one's own) with its
    options and `bound`; a dotted path to a user's own function or class ("shop.rewards:margin" or
    "shop.rewards.margin"); a mapping `{name: ..., weight: ..., **options}`; or a list of such, which is summed.

    Args:
        spec: The configuration, as YAML gives it.
        table: Name -> class.

    Raises:
        UnknownNameError: If a name without a dot is not in the table.
        ValueError: If options do not fit, a path leads nowhere, or a signature is another.
    """
    if isinstance(spec, str):
        spec = {"name": spec}
    if isinstance(spec, Mapping):
        weight, reward = _build_term(spec, table)
        return reward if weight == 1.0 else WeightedReward([(weight, reward)])
    if not isinstance(spec, Sequence) or not spec:
        raise ValueError(f"a reward is a name, a mapping with a name, or a list of such, found {spec!r}")
    return WeightedReward([_build_term({"name": term} if isinstance(term, str) else term, table) for term in spec])


def _build_term(spec: Mapping[str, Any], table: Registry[type[Reward]]) -> tuple[float, Reward]:
    if not isinstance(spec, Mapping) or not isinstance(spec.get("name"), str):
        raise ValueError(f"a reward term needs a name, found {spec!r}")
    name, weight = spec["name"], spec.get("weight", 1.0)
    options = {key: value for key, value in spec.items() if key not in ("name", "weight")}
    if name not in table and name in PROBLEMS:
        return weight, _build_problem_term(name, options)
    if name not in table and ("." in name or ":" in name):
        thing = load_dotted(name)
        if inspect.isclass(thing) and issubclass(thing, DecisionProblem):
            return weight, _build_problem_term(name.replace(":", "."), options)
        if not (inspect.isclass(thing) and issubclass(thing, Reward)):
            options, thing = {"function": thing, **options}, FunctionReward
    else:
        thing = table.get(name)
    try:
        inspect.signature(thing).bind(**options)
    except TypeError as error:
        known = [key for key in inspect.signature(thing).parameters if key != "function"]
        raise ValueError(f"reward {name!r}: {error}; its options are {known or 'none'}") from error
    return weight, thing(**options)


def _build_problem_term(name: str, options: dict[str, Any]) -> Reward:
    bound = options.pop("bound", None)
    return build_problem_reward(name, build_problem(name, options), bound)


def load_dotted(path: str) -> Any:
    """Loads the object at a dotted path, "package.module:name" or "package.module.name".

    Raises:
        ValueError: If the module cannot be imported or lacks the name.
    """
    module_name, _, attribute = path.rpartition(":" if ":" in path else ".")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except ImportError as error:
        raise ValueError(f"reward {path!r}: cannot import {module_name!r} ({error}); is it on PYTHONPATH?") from error
    except AttributeError as error:
        raise ValueError(f"reward {path!r}: {module_name!r} has no {attribute!r}") from error


def read_signature(function: Callable[..., Any]) -> tuple[frozenset[str], frozenset[str]]:
    """Returns the facts that a function asks for besides its four arguments, and those of them that have a default.

    Raises:
        ValueError: If the function cannot be called as `f(samples, target, history, season, *, <facts>)`.
    """
    name = _name_of(function)
    if not callable(function):
        raise ValueError(f"{name} is not callable; a reward is a function or a Reward class")
    parameters = inspect.signature(function).parameters
    if list(parameters)[: len(ARGUMENTS)] != list(ARGUMENTS):
        raise ValueError(
            f"{name} must take ({', '.join(ARGUMENTS)}): tensors [B, G, H], [B, H], [B, L] and an int, and may ask "
            f"for {', '.join(FACTS)} by keyword; found ({', '.join(parameters)})"
        )
    bound = getattr(function, "keywords", {})  # of functools.partial: options that the user has filled in
    more = {key: p for key, p in list(parameters.items())[len(ARGUMENTS) :] if key not in bound}
    if any(p.kind is p.VAR_KEYWORD for p in more.values()):
        return frozenset(FACTS), frozenset(FACTS) - {k for k, p in more.items() if p.default is p.empty}
    unknown = [key for key in more if key not in FACTS]
    if unknown:
        raise ValueError(
            f"{name} asks for {', '.join(unknown)}, which no reward can have; besides {', '.join(ARGUMENTS)} it may "
            f"ask for {', '.join(FACTS)} (fill in options of your own with functools.partial)"
        )
    return frozenset(more), frozenset(key for key, p in more.items() if p.default is not p.empty)


def _name_of(function: object) -> str:
    return getattr(function, "__qualname__", repr(function))
