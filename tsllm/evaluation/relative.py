"""Benchmarks of many tasks that others define: scores relative to the seasonal naive, failures counted.

Tasks run as in a comparison (`run_compare`), so cells are kept and windows are those of the task; this module sums up.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tsllm.data.benchmarks import load_fev_tasks
from tsllm.evaluation.compare import Tell, run_compare
from tsllm.evaluation.compare_report import build_compare_report, save_compare
from tsllm.evaluation.config import CompareConfig, DataEntry
from tsllm.evaluation.zero_shot_report import describe_failures, write_table
from tsllm.forecasting.model_spec import ModelSpec

BASELINE = "SeasonalNaive"
LEVEL = [20.0, 40.0, 60.0, 80.0]  # with the median, the nine deciles
METRICS = ("test_error", "MASE", "WQL")
# fev bounds relative scores so, that one task cannot rule a mean.
_LEAST, _MOST = 0.01, 100.0

# Relative CRPS over the 97 configurations of GIFT-Eval, its leaderboard of August 2026.
PUBLISHED_GIFT_EVAL = {
    "Chronos-2": 0.485,
    "Chronos-2, synthetic data alone": 0.496,
    "FlowState (9 M)": 0.502,
    "Toto (4 M)": 0.524,
    "TempoPFN": 0.533,
    "PatchTST": 0.587,
    "DLinear": 0.846,
}
# Skill on fev-bench (one minus the relative scaled quantile loss, over 100 tasks), its leaderboard of August 2026.
PUBLISHED_FEV_SKILL = {"Chronos-2": 0.473, "Toto (4 M)": 0.407, "Chronos-Bolt": 0.389, "PatchTST": 0.301}


@dataclass(frozen=True)
class RelativeReport:
    """The outcome of a benchmark.

    Attributes:
        summary: One row a model, best ranking metric first; see `summarise_relative`.
        table: One row a task and model, in the columns of fev's evaluation summary.
        notes: What a reader must know besides the numbers.
        report: Path of the comparison's HTML report; `summary.csv` and `summary.md` lie beside it.
    """

    summary: pd.DataFrame
    table: pd.DataFrame
    notes: list[str]
    report: Path


def find_gift_folders(folder: str | Path) -> list[Path]:
    """Returns the data sets of GIFT-Eval in a folder, or the folder if it is one itself.

    Raises:
        FileNotFoundError: If there are none.
    """
    root = Path(folder)
    found = sorted({path.parent for path in root.rglob("*.arrow")})
    if not found:
        raise FileNotFoundError(f"{root} holds no data set of GIFT-Eval (folders with .arrow files); download some")
    return found


def list_gift_entries(folder: str | Path, terms: Sequence[str]) -> list[DataEntry]:
    """Returns the tasks of GIFT-Eval's data sets: each with each term."""
    return [DataEntry(str(path), task=term) for path in find_gift_folders(folder) for term in terms]


def list_fev_entries(path: str | Path, names: Sequence[str] = ()) -> list[DataEntry]:
    """Returns the tasks of a fev file, all or some.

    Raises:
        ValueError: If the file has no such task.
    """
    known = [task.name for task in load_fev_tasks(path)]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"{path} has no task {unknown[0]!r}; it has {', '.join(known)}")
    return [DataEntry(str(path), task=name) for name in (names or known)]


def gift_eval(
    folder: str | Path,
    models: Sequence[Any] = ("AutoETS",),
    *,
    terms: Sequence[str] = ("short",),
    seeds: Sequence[int] = (0,),
    output_dir: str | Path = "runs/gift_eval",
    command: str = 'tsllm.benchmark("gift-eval", ...)',
    tell: Tell = lambda _: None,
) -> RelativeReport:
    """Runs models by GIFT-Eval's rules on its data; a stopped run goes on.

    Args:
        folder: A data set as downloaded, or a folder of several.
        models: Names, saved folders, mappings as in a YAML file, or `ModelSpec`s.
        terms: "short", "medium", "long".
        seeds: Of the trainable models.
        output_dir: Folder of cells, tables and report.
        command: What the report says how to repeat it.
        tell: Hears what happens.

    Raises:
        FileNotFoundError: If the folder holds no data set.
        ValueError: If an entry cannot be run; all faults are listed before anything is trained.

    Example:
        ```python
        found = tsllm.benchmark("gift-eval", "gift_eval", ["AutoETS", "runs/pretrain_series/patchcast"])
        print(found.summary[["model", "rel_WQL", "source"]])
        ```
    """
    return run_relative(
        list_gift_entries(folder, _list("terms", terms)),
        _list("models", models),
        output_dir,
        "GIFT-Eval",
        command,
        ("rel_WQL", PUBLISHED_GIFT_EVAL),
        seeds,
        tell,
    )


def fev(
    file: str | Path,
    models: Sequence[Any] = ("AutoETS",),
    *,
    tasks: Sequence[str] = (),
    seeds: Sequence[int] = (0,),
    output_dir: str | Path = "runs/fev",
    command: str = 'tsllm.benchmark("fev", ...)',
    tell: Tell = lambda _: None,
) -> RelativeReport:
    """Runs models on the tasks of a fev file; a stopped run goes on.

    Args:
        file: Tasks of fev (YAML).
        models: As in `gift_eval`.
        tasks: Some of its tasks by name; empty = all.
        seeds: Of the trainable models.
        output_dir: Folder of cells, tables and report.
        command: What the report says how to repeat it.
        tell: Hears what happens.

    Raises:
        ValueError: If the file has no such task, or an entry cannot be run.

    Example:
        ```python
        found = tsllm.benchmark("fev", "tasks.yaml", ["AutoETS"], tasks=["shop"])
        print(found.summary[["model", "skill", "source"]])
        ```
    """
    return run_relative(
        list_fev_entries(file, _list("tasks", tasks)),
        _list("models", models),
        output_dir,
        f"fev, {Path(file).name}",
        command,
        ("rel_test_error", {model: round(1 - skill, 3) for model, skill in PUBLISHED_FEV_SKILL.items()}),
        seeds,
        tell,
    )


def _list(name: str, given: Sequence[Any]) -> list[Any]:
    """Refuses one name where a list is due, which would be read letter by letter."""
    if isinstance(given, str):
        raise ValueError(f"{name} is {given!r}; give a list: [{given!r}]")
    return list(given)


def run_relative(
    entries: Sequence[DataEntry],
    models: Sequence[str | ModelSpec],
    output_dir: str | Path,
    title: str,
    command: str = "",
    published: tuple[str, dict[str, float]] | None = None,
    seeds: Sequence[int] = (0,),
    tell: Tell = lambda _: None,
) -> RelativeReport:
    """Runs models on tasks and sums up relative to the seasonal naive, which is always among them.

    Args:
        entries: Tasks.
        models: As in a comparison.
        output_dir: Folder of cells, tables and report.
        title: Of the report.
        command: What the report says how to repeat it.
        published: Column of the summary and published figures, model -> value.
        seeds: Of the trainable models.
        tell: Hears what happens.
    """
    specs = [ModelSpec.parse(m) for m in models]
    if BASELINE not in [spec.name for spec in specs]:
        specs.insert(0, ModelSpec(BASELINE))
    config = CompareConfig(
        data=list(entries), models=specs, output_dir=str(output_dir), title=title, seeds=list(seeds), level=LEVEL
    )
    results = run_compare(config, tell)
    report, tables = build_compare_report(config, results, command)
    path = save_compare(report, tables, output_dir)
    table = tables["fev_summary"]
    summary = summarise_relative(table)
    notes = _describe(table, results)
    if published is not None:
        column, figures = published
        rows = [{"model": model, column: value, "source": "published"} for model, value in figures.items()]
        summary = pd.concat([summary, pd.DataFrame(rows)], ignore_index=True)
        summary = summary.sort_values(column, kind="stable", ignore_index=True)
        notes.append(
            "Published rows are of the whole benchmark with its own seasonal naive; they compare with yours only if "
            "you run all of its tasks."
        )
    summary.to_csv(Path(output_dir) / "summary.csv", index=False)
    lines = [f"# {title}", "", *(f"- {note}" for note in notes), "", *write_table(summary)]
    (Path(output_dir) / "summary.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return RelativeReport(summary, table, notes, path)


def summarise_relative(table: pd.DataFrame) -> pd.DataFrame:
    """Returns one row a model: geometric means over tasks of its scores relative to the seasonal naive's.

    A task without a score of the model (it failed somewhere) counts as the seasonal naive, 1, as in fev; ratios are
    taken within .01 and 100. Tasks where the seasonal naive itself has no score, or one of zero, are left out.

    Args:
        table: From `write_fev_summary`.

    Returns:
        `model, rel_test_error, rel_MASE, rel_WQL, skill, tasks, failed, trained_on, seconds, source`; `test_error` is
        each task's own metric, skill one minus its mean. A metric that no task asks for is missing.
    """
    base = table[table["model_name"] == BASELINE].set_index("task_name")
    rows = []
    for model, own in table.groupby("model_name", sort=False):
        own = own.set_index("task_name")
        row: dict[str, Any] = {"model": model}
        for metric in METRICS:
            row[f"rel_{metric}"] = _relate(own, base, metric) if metric in table else np.nan
        row["skill"] = 1 - row["rel_test_error"]
        row |= {"tasks": len(base), "failed": int(own["test_error"].isna().sum())}
        row |= {"trained_on": int(own["trained_on_this_dataset"].sum())}
        row["seconds"] = float((own["training_time_s"] + own["inference_time_s"]).sum())
        rows.append(row | {"source": "here"})
    return pd.DataFrame(rows).sort_values("rel_test_error", kind="stable", ignore_index=True)


def _relate(own: pd.DataFrame, base: pd.DataFrame, metric: str) -> float:
    reference = base[metric].astype(float)
    usable = reference[reference > 0].index
    ratio = (own[metric].astype(float).reindex(usable) / reference[usable]).clip(_LEAST, _MOST).fillna(1.0)
    return float(np.exp(np.log(ratio).mean())) if len(ratio) else float("nan")


def _describe(table: pd.DataFrame, results: Sequence[Any]) -> list[str]:
    tasks = table["task_name"].nunique()
    notes = [
        f"Relative to the seasonal naive of this run (its intervals are normal), geometric mean over {tasks} "
        f"task{'s' if tasks > 1 else ''}; a task that a model failed on counts as the seasonal naive."
    ]
    failed: list[tuple[str, str, str]] = []
    for result in results:
        notes += result.prepared.notes
        failures = dict.fromkeys((f.model, result.prepared.name, f.error) for run in result.runs for f in run.failures)
        failed += failures
    notes += describe_failures(failed, tasks, "task")
    base = table[table["model_name"] == BASELINE]
    lost = base.loc[~(base["test_error"].astype(float) > 0), "task_name"].tolist()
    if lost:
        notes.append(f"The seasonal naive has no score, or none above zero, on {', '.join(lost)}; left out.")
    for model, own in table[table["trained_on_this_dataset"].astype(bool)].groupby("model_name", sort=False):
        notes.append(f"{model} was trained on {', '.join(own['task_name'])}: no zero-shot forecasts there.")
    return [re.sub(r"\s+", " ", note) for note in notes]
