"""What a comparison of policies is asked (`DecideConfig`), and what it runs on (`Bench`)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pandas as pd

from tsllm.evaluation.significance import Unit
from tsllm.forecasting.paths import Method
from tsllm.registry import refuse_unknown
from tsllm.training.args import coerce, load_yaml, read_dataclass

Say = Callable[[str], None]
KINDS = ("mean", "quantile", "independent", "saa", "learned", "idle", "dynamic", "base_stock", "orders", "replan")
DEFAULT_POLICIES: tuple[Any, ...] = ("idle", "mean", "quantile", "independent", "saa")


@dataclass(frozen=True)
class PolicySpec:
    """A policy of a comparison.

    Attributes:
        kind: "idle" (do nothing), "mean" (plug-in), "quantile" (the best one on validation), "independent" (SAA on
            paths whose steps were permuted), "saa" (sample average over joint paths), "learned" (a network,
            `tsllm.policies.learned`); for the inventory problem also "base_stock" ((s, S) chosen on simulated paths),
            "orders" (a network with recourse, `tsllm.policies.recourse`), "replan" (SAA anew at each stage, on data)
            and "dynamic" (the optimum, for simulated demand).
        name: In the tables; empty = kind, or the training method.
        options: Training options of "learned" and "orders"; `levels` of "quantile".
    """

    kind: str
    name: str = ""
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"policy {self.kind!r} must be one of {', '.join(KINDS)}")
        if self.options and self.kind not in ("learned", "orders", "quantile"):
            raise ValueError(f"policy {self.kind!r} takes no options, found {', '.join(self.options)}")

    @property
    def label(self) -> str:
        """Name in the tables."""
        return self.name or str(self.options.get("method", self.kind))


@dataclass(frozen=True)
class DecideConfig:
    """A comparison of policies.

    Attributes:
        title: Of the report.
        output_dir: Folder of results and report.
        problem: `name` (of `PROBLEMS`, or a dotted path) and its options.
        data: `name` (as for `tsllm fit`), `h`, `step_size`, `train`, `validation`, `test` (windows, counted from the
            end), `covariates`, `past_covariates`; of a panel `min_length` (shorter series are left out), `series`
            (so many, evenly spaced in their order) and `units` (each window is counted in units of which so many are
            its mean over `units_over` steps before the cutoff, by default `h`); or None for simulated demand.
        forecaster: `model` ("StepRegression" or a name of the roster) and its options; `refit` windows between fits.
        demand: For "inventory" without data: `transition`, `means` (Poisson demand of each regime), `start`, `stages`,
            `paths` (simulated ones that policies may use), `test` (paths).
        n_samples: Paths that SAA sees.
        method: "bootstrap", "schaake" or "gaussian".
        similar: Width of `weigh_similar`: errors of windows with a similar forecast are drawn more often; None = all
            alike.
        pool: Draw paths from the errors of all series, each in units of its own mean absolute error; for short series.
        unit: What the tests pair: "cutoff", or "series" where series are independent of one another.
        policies: Names or mappings of `PolicySpec`.
        reference: Label of the policy that the others are tested against.
        seeds: Of paths and networks.
        alpha: Level of tests and intervals.
    """

    problem: dict[str, Any]
    title: str = "Decisions"
    output_dir: str = "runs/decide"
    data: dict[str, Any] | None = None
    forecaster: dict[str, Any] = field(default_factory=dict)
    demand: dict[str, Any] | None = None
    n_samples: int = 200
    method: Method = "bootstrap"
    similar: float | None = None
    pool: bool = False
    unit: Unit = "cutoff"
    policies: tuple[PolicySpec, ...] = ()
    reference: str = "saa"
    seeds: tuple[int, ...] = (0,)
    alpha: float = 0.05

    def __post_init__(self) -> None:
        if (self.data is None) == (self.demand is None):
            raise ValueError("give either data (a real series) or demand (simulated, for the inventory problem)")
        labels = [p.label for p in self.policies]
        if len(set(labels)) != len(labels):
            raise ValueError(f"policies need different names, found {', '.join(labels)}; give some a name")
        if self.reference not in labels:
            raise ValueError(f"reference {self.reference!r} is none of the policies {', '.join(labels)}")
        if self.pool and self.similar is not None:
            raise ValueError("pool shares errors between series, similar weighs a series' own; give one of them")
        if self.unit not in get_args(Unit):
            raise ValueError(f"unit {self.unit!r} must be one of {', '.join(get_args(Unit))}")
        if not self.seeds:
            raise ValueError("seeds is empty; give at least one")
        if len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise ValueError(f"seeds are {list(self.seeds)}; give different numbers of at least 0")
        if self.n_samples < 1:
            raise ValueError(f"n_samples is {self.n_samples}; it must be at least 1")
        if not 0 < self.alpha < 1:
            raise ValueError(f"alpha is {self.alpha}; it must lie between 0 and 1")
        if self.similar is not None and self.similar <= 0:
            raise ValueError(f"similar is {self.similar}; it must be above 0, or null")


def load_config(path: str | Path, overrides: Mapping[str, Any] | None = None) -> DecideConfig:
    """Reads a comparison from YAML; unknown keys are errors.

    Raises:
        ValueError: If a key is unknown or a value does not fit.
        FileNotFoundError: If there is no such file.
    """
    given = load_yaml(path) | dict(overrides or {})
    refuse_unknown(given, DecideConfig, str(path), "problem")
    hints = get_type_hints(DecideConfig)
    read = {key: coerce(value, hints[key], f"{path}: {key}") for key, value in given.items() if key != "policies"}
    if "name" not in read["problem"]:
        raise ValueError(f"{path}: problem needs a name, such as problem: {{name: peak_shaving, energy: 4, power: 2}}")
    policies = coerce(given.get("policies", list(DEFAULT_POLICIES)), list[Any], f"{path}: policies")
    specs = [p if isinstance(p, dict) else {"kind": p} for p in policies]
    read["policies"] = tuple(
        read_dataclass(PolicySpec, s, f"{path}: policies[{k}]", "kind") for k, s in enumerate(specs)
    )
    return DecideConfig(**(read | {"seeds": tuple(read.get("seeds", (0,)))}))


@dataclass
class Outcome:
    """What one policy did with one seed on the test part.

    Attributes:
        cost: Of each test window [N].
        seconds: Deciding, all windows together; of this process's CPU.
        training: Seconds of training or choosing; 0 where there is none.
        notes: What was chosen or logged.
    """

    cost: np.ndarray
    seconds: float
    training: float = 0.0
    notes: dict[str, Any] = field(default_factory=dict)


class Bench:
    """What policies are run on; one subclass for real series, one for simulated demand.

    Attributes:
        hindsight: Best cost of each test window [N].
        idle: Cost of doing nothing [N].
        windows: Frame `unique_id, cutoff` of the test windows.
        unit: Of the costs.
    """

    hindsight: np.ndarray
    idle: np.ndarray
    windows: pd.DataFrame
    unit: str

    def run(self, spec: PolicySpec, seed: int) -> Outcome:
        """Chooses, trains and decides; the test part is only settled."""
        raise NotImplementedError

    def score(self, seed: int) -> dict[str, Any]:
        """Returns accuracy and calibration of forecasts and paths on the test part."""
        return {}
