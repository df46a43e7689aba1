"""Decisions under uncertainty: problems with an exact hindsight optimum, and policies that are compared on them."""

import importlib
from collections.abc import Mapping
from typing import Any

from tsllm.decisions.alarm import AnyHourAlarm
from tsllm.decisions.base import DecisionProblem
from tsllm.decisions.commitment import Commitment
from tsllm.decisions.inventory import DemandChain, Inventory, Stock, fit_base_stock, solve_dynamic
from tsllm.decisions.peak import PeakShaving
from tsllm.registry import Registry

PROBLEMS: Registry[type[DecisionProblem]] = Registry(
    "decision problem",
    {
        "peak_shaving": PeakShaving,
        "inventory": Inventory,
        "any_hour_alarm": AnyHourAlarm,
        "commitment": Commitment,
    },
)


def build_problem(name: str, options: Mapping[str, Any] | None = None) -> DecisionProblem:
    """Builds a problem by its name in `PROBLEMS`, or one's own by dotted path.

    Args:
        name: "peak_shaving", or "my_module.MyProblem" on the Python path.
        options: Arguments of its class.

    Raises:
        UnknownNameError: If there is no such name.
        ValueError: If a dotted path leads nowhere, is no `DecisionProblem`, or the options do not fit.
    """
    problem = PROBLEMS.get(name) if "." not in name else _import_problem(name)
    try:
        return problem(**dict(options or {}))
    except TypeError as error:
        raise ValueError(f"the options of {name} do not fit: {error}") from error


def _import_problem(path: str) -> type[DecisionProblem]:
    module, _, attribute = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"cannot find the decision problem {path!r}: {error}") from error
    if not (isinstance(found, type) and issubclass(found, DecisionProblem)):
        raise ValueError(f"{path} is no subclass of tsllm.decisions.DecisionProblem; derive it from that")
    return found


__all__ = [
    "PROBLEMS",
    "AnyHourAlarm",
    "Commitment",
    "DecisionProblem",
    "DemandChain",
    "Inventory",
    "PeakShaving",
    "Stock",
    "build_problem",
    "fit_base_stock",
    "solve_dynamic",
]
