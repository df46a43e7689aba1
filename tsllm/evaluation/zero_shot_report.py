"""What `tsllm benchmark zero-shot` runs: scores, tables on disk, sentences about what they mean."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from tsllm.evaluation.yardsticks import BASELINE, SOURCE, ZERO_SHOT_SETS, SetScore, run_zero_shot, summarise, tabulate


@dataclass
class ZeroShotReport:
    """The outcome of a benchmark.

    Attributes:
        summary: One row a model, published ones included, best WQL first.
        table: One row a set and model.
        notes: What a reader must know besides the numbers.
        folder: Where `summary.csv`, `scores.csv` and `report.md` lie.
    """

    summary: pd.DataFrame
    table: pd.DataFrame
    notes: list[str]
    folder: Path


def run_benchmark_zero_shot(
    models: Sequence[str],
    sets: Sequence[str] = ZERO_SHOT_SETS,
    output_dir: str | Path = "runs/zero_shot",
    tell: Callable[[str], None] = lambda _: None,
) -> ZeroShotReport:
    """Scores the models, beside the published figures, and writes the tables.

    Args:
        models: See `run_zero_shot`.
        sets: Names of `ZERO_SHOT_SETS`.
        output_dir: Folder of cells and tables; an earlier run there is gone on with.
        tell: Hears what happens.
    """
    scores = run_zero_shot(models, sets, output_dir, tell)
    folder = Path(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    report = ZeroShotReport(summarise(scores), tabulate(scores), describe_caveats(scores), folder)
    report.summary.to_csv(folder / "summary.csv", index=False)
    report.table.to_csv(folder / "scores.csv", index=False)
    (folder / "report.md").write_text(write_report(report), encoding="utf-8")
    return report


def describe_caveats(scores: Sequence[SetScore]) -> list[str]:
    """Returns what failed, what a model was trained on, and what stands where, in sentences."""
    sets = list(dict.fromkeys(s.data for s in scores))
    notes = [
        f"Relative to the seasonal naive, geometric mean over {len(sets)} set(s): {', '.join(sets)}. Published: "
        f"{SOURCE}, relative to the published {BASELINE}; whether a published model was trained on these sets is as "
        "its authors say.",
    ]
    notes += describe_failures([(s.model, s.data, s.error) for s in scores if s.error], len(sets), "set")
    for model in dict.fromkeys(s.model for s in scores if s.trained_on_it):
        read = [s.data for s in scores if s.model == model and s.trained_on_it]
        notes.append(f"{model} was trained on {', '.join(read)}: no zero-shot forecasts.")
    return notes


def describe_failures(failures: Sequence[tuple[str, str, str]], total: int, what: str) -> list[str]:
    """Returns one sentence for each model and reason: where it failed, and on how many of all.

    Args:
        failures: Model, name of the data, reason.
        total: How many data sets there are.
        what: One of them is called so.

    >>> describe_failures([("A", "x", "no"), ("A", "y", "no")], 3, "set")
    ['A failed on x, y (2 of 3 sets), each counted as the seasonal naive: no']
    """
    found: dict[tuple[str, str], list[str]] = {}
    for model, data, reason in failures:
        found.setdefault((model, " ".join(reason.split())), []).append(data)
    things = f"{total} {what}{'s' if total > 1 else ''}"
    return [
        f"{model} failed on {', '.join(data)} ({len(data)} of {things}), each counted as the seasonal naive: {reason}"
        for (model, reason), data in found.items()
    ]


def write_report(report: ZeroShotReport) -> str:
    """Returns the report as Markdown."""
    columns = ["model", "rel_mase", "rel_wql", "failed", "trained_on", "seconds", "source"]
    lines = ["# Zero-shot benchmark", "", *(f"- {note}" for note in report.notes), ""]
    lines += [*write_table(report.summary[columns]), ""]
    lines += write_table(report.table.drop(columns=["error"]))
    return "\n".join(lines) + "\n"


def write_table(table: pd.DataFrame) -> list[str]:
    """Returns the lines of a Markdown table; numbers with four digits, missing ones empty."""

    def cell(value: object) -> str:
        if isinstance(value, float):
            return "" if value != value else f"{value:.4g}"
        return str(value)

    rows = [[cell(v) for v in row] for row in table.itertuples(index=False)]
    header = [str(c) for c in table.columns]
    return ["| " + " | ".join(r) + " |" for r in (header, ["---"] * len(header), *rows)]
