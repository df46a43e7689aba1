"""What training each model got, and what may be said of it: equality in words only where the numbers are equal."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from tsllm.evaluation.findings import join_words

# Why a training ended -> in words.
STOPPED_BY = {
    "patience": "validation patience",
    "steps": "its limit of steps",
    "time": "its limit of seconds",
    "untrained": "nothing was trained",
    "": "not known",
}


@dataclass(frozen=True)
class BudgetRow:
    """The training of one model with one seed.

    Attributes:
        model: Alias.
        seed: Of training.
        steps: Optimiser steps made.
        windows_seen: Training windows seen, repeats counted: steps times windows in a step; None = not known.
        seconds: Of training.
        best_step: Step of the best validation, whose weights are kept; None = nothing was validated.
        last_step: Step of the last validation; None = nothing was validated.
        stopped_by: "patience", "steps", "time", "untrained" or "" (not known).
        first_step: Step of the first validation; None = not known.
        finds_length: Whether this training only found the length for all seeds, which were then trained anew.
    """

    model: str
    seed: int
    steps: int
    windows_seen: int | None
    seconds: float
    best_step: int | None
    last_step: int | None
    stopped_by: str = ""
    first_step: int | None = None
    finds_length: bool = False

    def __post_init__(self) -> None:
        if self.stopped_by not in STOPPED_BY:
            raise ValueError(f"{self.model}: stopped_by is {self.stopped_by!r}; choose one of {sorted(STOPPED_BY)}")
        if (self.best_step is None) != (self.last_step is None):
            raise ValueError(f"{self.model}: best_step and last_step belong together; give both or none")

    @property
    def has_converged(self) -> bool | None:
        """Whether validation improved and then no more; None where nothing was validated.

        It does not where the best validation was the last one, nor where it was the first of several: training never
        made that model better, so it was too fast for it.
        """
        if self.best_step is None or self.last_step is None:
            return None
        return self.best_step < self.last_step and not self.was_best_at_first

    @property
    def was_best_at_first(self) -> bool:
        """Whether no later validation was better than the first one."""
        return self.best_step is not None and self.best_step == self.first_step != self.last_step


def read_budget(log: Sequence[Mapping[str, Any]], seconds: float) -> dict[str, Any]:
    """Returns what a training log says of its budget: the fields of `BudgetRow` but model and seed.

    Args:
        log: Entries with `step`, and `eval_loss` where it was validated; `windows_seen` and `stopped_by` in the last
            entry that has them.
        seconds: Of training.
    """
    found: dict[str, Any] = {"windows_seen": None, "stopped_by": ""}
    for entry in log:
        found |= {name: entry[name] for name in ("windows_seen", "stopped_by") if entry.get(name) is not None}
    validated = [(float(e["eval_loss"]), int(e["step"])) for e in log if "eval_loss" in e and "step" in e]
    best = min(validated)[1] if validated else None
    return found | {
        "steps": max((int(e["step"]) for e in log if "step" in e), default=0),
        "seconds": seconds,
        "best_step": best,
        "last_step": max(step for _, step in validated) if validated else None,
        "first_step": min(step for _, step in validated) if validated else None,
    }


def tabulate_budgets(rows: Sequence[BudgetRow]) -> pd.DataFrame:
    """Returns one row a model and seed: the fields of `BudgetRow` and `converged`, in words."""
    table = pd.DataFrame([asdict(row) for row in rows])
    if len(table):
        table["stopped_by"] = [STOPPED_BY[row.stopped_by] for row in rows]
        table["converged"] = [_say_converged(row) for row in rows]
        table = table.drop(columns="finds_length")  # the sentences and the caption say it
    return table


def _say_converged(row: BudgetRow) -> str:
    if row.has_converged is None:
        return "not validated"
    if row.was_best_at_first:
        return "no, best at the first validation"
    return "yes" if row.has_converged else "no, best at the last step"


def find_unconverged(rows: Sequence[BudgetRow]) -> list[str]:
    """Returns the models of which some seed did not converge, in the order of the rows."""
    return list(dict.fromkeys(row.model for row in rows if row.has_converged is False))


def are_equal(rows: Sequence[BudgetRow]) -> bool:
    """Tells whether budgets are equal: all saw the same number of windows, or patience ended each."""
    seen = {row.windows_seen for row in rows}
    return (len(seen) == 1 and None not in seen) or all(row.stopped_by == "patience" for row in rows)


def describe_budgets(rows: Sequence[BudgetRow]) -> list[str]:
    """Says in words what the models got: whether it was equal, how much it was, who had not converged.

    Args:
        rows: One for each trained model and seed.

    Returns:
        Sentences, the first on equality; empty without rows.
    """
    untrained = list(dict.fromkeys(row.model for row in rows if row.stopped_by == "untrained"))
    rows = [row for row in rows if row.model not in untrained]
    idle = [f"Nothing was trained: max_steps is 0 for {join_words(untrained)}."] if untrained else []
    if not rows:
        return idle
    models = list(dict.fromkeys(row.model for row in rows))
    finds = all(row.finds_length for row in rows)
    first = _describe_equality(rows, models)
    said = [f"In the training that found the length, {first[:1].lower()}{first[1:]}" if finds else first]
    steps = [row.steps for row in rows]
    seconds = {m: float(np.mean([row.seconds for row in rows if row.model == m])) for m in models}
    slow, fast = max(seconds, key=seconds.__getitem__), min(seconds, key=seconds.__getitem__)
    amount = f"{min(steps):,}" if min(steps) == max(steps) else f"{min(steps):,} to {max(steps):,}"
    took = f"{seconds[fast]:,.0f}"
    if len(models) > 1:
        took += f" ({fast}) to {seconds[slow]:,.0f} ({slow})"
    what = "seconds of it" if finds else "seconds of training for a seed, on average"
    said.append(f"Optimiser steps: {amount}; {what}: {took}.")
    early = _name_runs([row for row in rows if row.was_best_at_first])
    late = _name_runs([row for row in rows if row.has_converged is False and not row.was_best_at_first])
    if early:
        said.append(
            f"Not converged: the best validation of {join_words(early)} was the first one, so a lower learning rate "
            f"may help {'it' if len(early) == 1 else 'them'}."
        )
    if late:
        said.append(
            f"Not converged: the best validation of {join_words(late)} was the last one, so more training may help "
            f"{'it' if len(late) == 1 else 'them'}."
        )
    unknown = [m for m in models if any(r.model == m and r.has_converged is None for r in rows)]
    if unknown:
        said.append(f"Without validation, so convergence is not known: {join_words(unknown)}.")
    if not early and not late and not unknown:
        said.append("Every trained model had its best validation after its first and before its last one.")
    return said + idle


def _name_runs(rows: Sequence[BudgetRow]) -> list[str]:
    """Returns each model once, with its seeds."""
    seeds: dict[str, list[int]] = {}
    for row in rows:
        seeds.setdefault(row.model, []).append(row.seed)
    return [f"{m} (seed{'s' if len(s) > 1 else ''} {', '.join(map(str, s))})" for m, s in seeds.items()]


def sentence_budgets(name: str, rows: Sequence[BudgetRow]) -> str:
    """Says in one sentence what the models got on a data set: equality, amount, convergence; empty without rows.

    Args:
        name: Data set.
        rows: One for each trained model and seed.
    """
    parts = [part.removesuffix(".") for part in describe_budgets(rows)]
    return f"On {name}: {'; '.join(part[:1].lower() + part[1:] for part in parts)}." if parts else ""


def _describe_equality(rows: Sequence[BudgetRow], models: Sequence[str]) -> str:
    count = "The one trained model" if len(models) == 1 else f"The {len(models)} trained models"
    if all(row.stopped_by == "patience" for row in rows):
        return f"{count} trained until validation had not improved for the patience given; no limit cut in."
    known = {m: [r.windows_seen for r in rows if r.model == m] for m in models}
    missing = [m for m, values in known.items() if None in values]
    if missing:
        return f"Budgets cannot be compared: how many windows {join_words(missing)} saw is not known."
    means = {m: sum(v for v in values if v is not None) / len(values) for m, values in known.items()}
    if are_equal(rows):
        return f"{count} saw the same number of training windows, {rows[0].windows_seen:,} for each seed."
    least, most = min(means, key=means.__getitem__), max(means, key=means.__getitem__)
    reasons = sorted({STOPPED_BY[row.stopped_by] for row in rows})
    if least == most:
        return f"{count} saw {means[most]:,.0f} training windows on average; what ended it: {join_words(reasons)}."
    return (
        f"Budgets are not equal: {least} saw {means[least]:,.0f} training windows, {most} {means[most]:,.0f}, "
        f"{means[most] / max(1.0, means[least]):.1f} times as many; what ended training: {join_words(reasons)}."
    )
