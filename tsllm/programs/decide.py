"""The program of `tsllm decide`: policies side by side on one decision problem, from a YAML file to tables."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tsllm.evaluation.significance import compare_to
from tsllm.files import telling_damage
from tsllm.programs.decide_build import build_bench
from tsllm.programs.decide_config import Bench, DecideConfig, Outcome, PolicySpec, Say
from tsllm.types import CUTOFF, ID


def run_decide(config: DecideConfig, say: Say = lambda _: None) -> dict[str, Any]:
    """Runs all policies with all seeds, writes `decide.json` and `decide.md`, and returns the content of the former.

    A policy and seed that the output folder holds from the same configuration is not run again.
    """
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
            _check_hindsight(spec.label, outcome.cost, bench.hindsight)
            outcomes.setdefault(spec.label, {})[seed] = outcome
            share = _share(outcome.cost, bench.hindsight, bench.idle)
            seconds = time.perf_counter() - started
            say(f"  {spec.label}, seed {seed}: regret {share:.1%} of the saving ({seconds:.0f} s)")
    report = {
        "title": config.title,
        "reference": config.reference,
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
            "regret_of_hindsight": float((costs - bench.hindsight).mean() / abs(bench.hindsight.mean()))
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
        f"{report['hindsight']:.4g} {report['unit']}, of doing nothing {report['idle']:.4g}. Regret is "
        "the cost above that in hindsight, which perfect foresight alone reaches: as a share of the saving (doing "
        "nothing minus hindsight) and of the hindsight cost. Skill, its interval and p (Holm) over all seeds against "
        f"{report['reference']}: below 0 is worse than it. Milliseconds of one core.",
        "",
        "| policy | cost | regret of saving | of hindsight | skill [interval] | "
        f"p against {report['reference']} | verdict | ms each | training s |",
        "|---|---:|---:|---:|---:|---:|---|---:|---:|",
    ]
    for row in report["table"]:
        skill = f"{row['skill']:.3f} [{row['low']:.3f}, {row['high']:.3f}]" if "skill" in row else "reference"
        p_value = f"{row['p_holm']:.2g}" if "p_holm" in row else "–"
        hindsight = f"{row['regret_of_hindsight']:.1%}" if row["regret_of_hindsight"] is not None else "–"
        lines.append(
            f"| {row['policy']} | {row['cost']:.5g} | {row['regret_of_saving']:.1%} | {hindsight} | {skill} | "
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


def _check_hindsight(label: str, cost: np.ndarray, hindsight: np.ndarray) -> None:
    """Refuses a hindsight that a policy beats, beyond a solver's slack; every regret would be wrong.

    Raises:
        RuntimeError: Naming the policy and by how much.
    """
    lead = hindsight - cost
    beaten = lead > 1e-4 * np.maximum(np.abs(hindsight), np.abs(cost))
    if beaten.any():
        raise RuntimeError(
            f"policy {label!r} costs less than the hindsight optimum in {beaten.sum()} of {len(cost)} windows, by up "
            f"to {lead.max():.4g}; the problem's hindsight(path) must return the cheapest action and its cost"
        )


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
