"""The program of `tsllm decide`: policies side by side on one decision problem, from a YAML file to tables."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pandas as pd

from tsllm.evaluation.significance import Unit, compare_to
from tsllm.files import telling_damage
from tsllm.forecasting.paths import Method
from tsllm.registry import refuse_unknown
from tsllm.training.args import coerce, load_yaml, read_dataclass
from tsllm.types import CUTOFF, ID

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


def run_decide(config: DecideConfig, say: Say = lambda _: None) -> dict[str, Any]:
    """Runs all policies with all seeds, writes `decide.json` and `decide.md`, and returns the content of the former.

    A policy and seed that the output folder holds from the same configuration is not run again.
    """
    from tsllm.programs.decide_build import build_bench

    folder = Path(config.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    key = _fingerprint(config)
    bench = build_bench(config, folder, say)
    outcomes: dict[str, dict[int, Outcome]] = {}
    scores = {seed: _resume(folder / f"scores-{seed}.json", key, partial(bench.score, seed)) for seed in config.seeds}
    for spec in config.policies:
        for seed in config.seeds:
            started = time.perf_counter()
            path = folder / f"{spec.label}-{seed}.json"
            state = _resume(path, key + _digest(asdict(spec)), partial(_run, bench, spec, seed))
            outcome = Outcome(**{**state, "cost": np.asarray(state["cost"])})
            outcomes.setdefault(spec.label, {})[seed] = outcome
            share = _share(outcome.cost, bench.hindsight, bench.idle)
            seconds = time.perf_counter() - started
            say(f"  {spec.label}, seed {seed}: regret {share:.1%} of the saving ({seconds:.0f} s)")
    report = {
        "title": config.title,
        "problem": config.problem,
        "unit": bench.unit,
        "windows": len(bench.hindsight),
        "seeds": list(config.seeds),
        "hindsight": float(bench.hindsight.mean()),
        "idle": float(bench.idle.mean()),
        "table": _tabulate(config, bench, outcomes),
        "scores": scores,
        "notes": {label: {str(s): o.notes for s, o in by.items()} for label, by in outcomes.items()},
    }
    _write(folder / "decide.json", json.dumps(report, indent=1))
    _write(folder / "decide.md", render(report))
    return report


def _tabulate(config: DecideConfig, bench: Bench, outcomes: dict[str, dict[int, Outcome]]) -> list[dict[str, Any]]:
    """Returns one row a policy: regret, intervals, the test against the reference, times."""
    frames = []
    for seed in config.seeds:
        losses = bench.windows.copy()
        for label, by in outcomes.items():
            losses[label] = by[seed].cost - bench.hindsight
        frames.append(losses)
    tested = _test(frames, config)
    table = []
    for label, by in outcomes.items():
        costs = np.stack([o.cost for o in by.values()])  # [seeds, N]
        shares = [_share(c, bench.hindsight, bench.idle) for c in costs]
        row: dict[str, Any] = {
            "policy": label,
            "cost": float(costs.mean()),
            "regret": float((costs - bench.hindsight).mean()),
            "regret_of_saving": float(np.mean(shares)),
            "regret_of_saving_by_seed": shares,
            "regret_of_optimum": float((costs - bench.hindsight).mean() / abs(bench.hindsight.mean()))
            if bench.hindsight.mean()
            else None,
            "ms_per_decision": float(np.mean([o.seconds for o in by.values()]) / len(bench.hindsight) * 1000),
            "training_seconds": float(np.mean([o.training for o in by.values()])),
        }
        table.append(row | tested.get(label, {}))
    return sorted(table, key=lambda r: r["regret"])


def _test(frames: list[pd.DataFrame], config: DecideConfig) -> dict[str, dict[str, Any]]:
    """Tests every policy against the reference: over all seeds, and each seed alone (`p_holm_by_seed`)."""
    mean = frames[0].copy()
    columns = [c for c in mean.columns if c not in (ID, CUTOFF)]
    mean[columns] = np.mean([frame[columns].to_numpy() for frame in frames], axis=0)
    if not mean[config.reference].any():
        return {}  # a reference without any regret: there is no skill against it
    seeds = frames if len(frames) > 1 else ()
    tested = compare_to(mean, config.reference, alpha=config.alpha, unit=config.unit, seeds=seeds).set_index("model")
    alone = [
        compare_to(frame, config.reference, alpha=config.alpha, unit=config.unit).set_index("model")["p_holm"]
        for frame in frames
    ]
    kept = ["p_holm", "skill", "low", "high", "verdict", "note"]
    rows = {str(label): {k: row[k] for k in kept} for label, row in tested.iterrows()}
    return {label: row | {"p_holm_by_seed": [float(p[label]) for p in alone]} for label, row in rows.items()}


def render(report: Mapping[str, Any]) -> str:
    """Writes a report as Markdown."""
    lines = [
        f"# {report['title']}",
        "",
        f"{report['windows']} test windows, seeds {', '.join(map(str, report['seeds']))}. Mean cost in hindsight "
        f"{report['hindsight']:.4g} {report['unit']}, of doing nothing {report['idle']:.4g}. Regret as a share of the "
        "saving (doing nothing minus hindsight) and of the hindsight cost. Skill, its interval and p (Holm) "
        "over all seeds against the reference: below 0 is worse than it. Milliseconds of one core.",
        "",
        "| policy | cost | regret of saving | of optimum | skill [interval] | p | verdict | ms each | training s |",
        "|---|---:|---:|---:|---:|---:|---|---:|---:|",
    ]
    for row in report["table"]:
        skill = f"{row['skill']:.3f} [{row['low']:.3f}, {row['high']:.3f}]" if "skill" in row else "reference"
        p_value = f"{row['p_holm']:.2g}" if "p_holm" in row else "–"
        optimum = f"{row['regret_of_optimum']:.1%}" if row["regret_of_optimum"] is not None else "–"
        lines.append(
            f"| {row['policy']} | {row['cost']:.5g} | {row['regret_of_saving']:.1%} | {optimum} | {skill} | "
            f"{p_value} | {row.get('verdict', '–')} | {row['ms_per_decision']:.3g} | {row['training_seconds']:.0f} |"
        )
    scores = [s for s in report["scores"].values() if s]
    if scores:
        lines += [
            "",
            "Accuracy and calibration on the test part, mean over the seeds:",
            "",
            "| score | value |",
            "|---|---:|",
        ]
        for name in scores[0]:
            lines.append(f"| {name} | {np.mean([s[name] for s in scores]):.4g} |")
    return "\n".join(lines) + "\n"


def _share(cost: np.ndarray, hindsight: np.ndarray, idle: np.ndarray) -> float:
    """Returns the regret as a share of what perfect foresight saves against doing nothing; NaN where that is 0."""
    saving = float((idle - hindsight).mean())
    return float((cost - hindsight).mean() / saving) if saving > 0 else float("nan")


def _resume(path: Path, key: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Returns what the file holds for this configuration, else computes and writes it."""
    if path.is_file():
        with telling_damage(path, "remove it, then it is computed anew"):
            held = json.loads(path.read_text(encoding="utf-8"))
            if held["key"] == key:
                return dict(held["value"])
    value = compute()
    _write(path, json.dumps({"key": key, "value": value}))
    return value


def _write(path: Path, text: str) -> None:
    part = path.with_name(f"{path.name}.{os.getpid()}.part")  # two runs may share the folder
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def _run(bench: Bench, spec: PolicySpec, seed: int) -> dict[str, Any]:
    outcome = bench.run(spec, seed)
    return {**asdict(outcome), "cost": outcome.cost.tolist()}


def _fingerprint(config: DecideConfig) -> str:
    kept = ("problem", "data", "forecaster", "demand", "n_samples", "method", "similar", "pool")
    return _digest({name: getattr(config, name) for name in kept})


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]
