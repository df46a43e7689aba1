"""What is wrong with the policies of a comparison, told before anything is forecast or trained."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, get_type_hints

import numpy as np
from torch import Tensor

from tsllm.decisions import DecisionProblem, Inventory
from tsllm.decisions.check import find_unreached
from tsllm.policies.learned import GRADIENT_METHODS, Training, check_method
from tsllm.policies.recourse import RecourseTraining
from tsllm.programs.decide_config import DecideConfig, PolicySpec
from tsllm.rl.objectives import build_objective
from tsllm.training.args import coerce

SERIES_KINDS = ("idle", "mean", "quantile", "independent", "saa", "learned")
STOCK_KINDS = (*SERIES_KINDS, "base_stock", "orders", "replan")
DEMAND_KINDS = ("idle", "mean", "quantile", "independent", "saa", "base_stock", "orders", "dynamic")


def check_policies(config: DecideConfig, problem: DecisionProblem) -> None:
    """Refuses policies that cannot run on this problem, and options that do not fit.

    Raises:
        ValueError: Naming the policy, the option and what would do.
    """
    kinds: tuple[str, ...] = SERIES_KINDS
    where = problem.name or type(problem).__name__
    if isinstance(problem, Inventory):
        kinds, where = (STOCK_KINDS, "inventory with data") if config.data else (DEMAND_KINDS, "simulated demand")
    for spec in config.policies:
        if spec.kind not in kinds:
            raise ValueError(f"policy {spec.kind!r} cannot run on {where}; leave it out, or take {', '.join(kinds)}")
        if spec.kind == "learned":
            _check_learned(spec, problem)
        elif spec.kind == "orders":
            settings = build_settings(RecourseTraining, spec.options, spec.label)
            build_objective(settings.method, **settings.objective)
        elif spec.kind == "quantile":
            read_levels(spec.options, ())


def solve_hindsight(problem: DecisionProblem, paths: Tensor) -> np.ndarray:
    """Returns the best cost of each path in hindsight [N].

    Args:
        problem: The problem.
        paths: Paths as it settles them [N, H].

    Raises:
        RuntimeError: If the action behind a cost does not have that cost; every regret would be wrong.
    """
    action, cost = problem.hindsight(paths)
    for fault in find_unreached(problem, paths, action, cost):
        raise RuntimeError(f"{problem.name or type(problem).__name__}: {fault}")
    return cost.numpy()


def _check_learned(spec: PolicySpec, problem: DecisionProblem) -> None:
    settings = read_training(spec)[0]
    if settings.method not in GRADIENT_METHODS:
        build_objective(settings.method, **settings.objective)
    elif settings.objective:
        raise ValueError(f"policy {spec.label!r}: method {settings.method!r} has no objective; leave that option out")
    check_method(problem, settings.method)


def read_training(spec: PolicySpec) -> tuple[Training, bool]:
    """Returns the training settings of a learned policy, and whether it learns on simulated paths too."""
    options = dict(spec.options)
    simulated = options.pop("simulated", False)
    if not isinstance(simulated, bool):
        raise ValueError(f"{spec.label}: simulated is {simulated!r}; it must be true or false")
    return build_settings(Training, options, spec.label), simulated


def build_settings(settings: type[Any], options: Mapping[str, Any], label: str) -> Any:
    """Builds training settings; an unknown option or one of another type is an error."""
    known, hints = [f.name for f in fields(settings)], get_type_hints(settings)
    wrong = sorted(set(options) - set(known))
    if wrong:
        raise ValueError(f"{label}: unknown option {wrong[0]!r}; known: {', '.join(known)}")
    return settings(**{name: coerce(value, hints[name], f"{label}: {name}") for name, value in options.items()})


def read_levels(options: Mapping[str, Any], usual: tuple[float, ...]) -> tuple[float, ...]:
    """Returns the levels of a quantile policy.

    Raises:
        ValueError: If there is another option, or a level outside (0, 1).
    """
    wrong = sorted(set(options) - {"levels"})
    if wrong:
        raise ValueError(f"quantile: unknown option {wrong[0]!r}; known: levels")
    levels = options.get("levels", usual)
    numbers = isinstance(levels, list | tuple) and all(
        isinstance(x, int | float) and not isinstance(x, bool) and 0 < x < 1 for x in levels
    )
    if not numbers or ("levels" in options and not levels):
        raise ValueError(f"quantile: levels are {levels!r}; give a list of numbers between 0 and 1, such as [.5, .8]")
    return tuple(levels)
