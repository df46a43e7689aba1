"""Competitions of many short series (M4): sMAPE, MASE and OWA against Naive2, group by group and over all series."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tsllm.evaluation.compare import Tell, run_compare
from tsllm.evaluation.compare_report import build_compare_report, save_compare
from tsllm.evaluation.config import CompareConfig, DataEntry
from tsllm.evaluation.summary import summarise
from tsllm.evaluation.zero_shot_report import write_table
from tsllm.forecasting.model_spec import ModelSpec
from tsllm.types import ID, TARGET, TIME, FrameError

BASELINE = "Naive2"
ALL = "all"
SEASONS = {"yearly": 1, "quarterly": 4, "monthly": 12, "weekly": 1, "daily": 1, "hourly": 24}  # as M4 counts them


@dataclass(frozen=True)
class ShortTermReport:
    """The outcome of a competition.

    Attributes:
        table: One row a group and model, and over all groups; see `tabulate_owa`.
        failures: What failed, in sentences.
        report: Path of the comparison's HTML report; `table.csv` and `table.md` lie beside it.
    """

    table: pd.DataFrame
    failures: list[str]
    report: Path


@dataclass(frozen=True)
class Group:
    """The series of one frequency.

    Attributes:
        name: "Monthly".
        df: Long frame, training and test steps, integer time.
        h: Steps of the test part.
        season: Steps in a season.
    """

    name: str
    df: pd.DataFrame
    h: int
    season: int


def load_competition(folder: str | Path, season: int | None = None, max_series: int | None = None) -> list[Group]:
    """Reads `<Group>-train.csv` and `<Group>-test.csv`, as M4 was published: one series a row, its name first.

    Args:
        folder: Holds the files itself or in folders of it (`Train`, `Test`).
        season: Steps in a season of every group; None = M4's by the group's name.
        max_series: Only the first so many series of each group; None = all.

    Raises:
        FileNotFoundError: If there is no training file, or one without its test file.
        ValueError: If a group's season is not known.
        FrameError: If rows do not belong together, or a value is missing inside a series.
    """
    root = Path(folder)
    found = sorted(root.rglob("*-train.csv"))
    if not found:
        raise FileNotFoundError(f"{root} holds no files like Monthly-train.csv and Monthly-test.csv")
    groups = []
    for train in found:
        name = train.name.removesuffix("-train.csv")
        test = next(iter(sorted(root.rglob(f"{name}-test.csv"))), None)
        if test is None:
            raise FileNotFoundError(f"{train} has no {name}-test.csv in {root}")
        steps = SEASONS.get(name.lower()) if season is None else season
        if steps is None:
            raise ValueError(f"group {name!r} is none of M4's ({', '.join(SEASONS)}); say its season: --season 12")
        past, future = _read_rows(train, max_series), _read_rows(test, max_series)
        groups.append(_join_group(name, past, future, steps))
    return groups


def _read_rows(path: Path, max_series: int | None) -> dict[str, np.ndarray]:
    """Returns series -> values; empty cells after the last one are no values."""
    raw = pd.read_csv(path, nrows=max_series)
    names = raw.iloc[:, 0].astype(str)
    if names.duplicated().any():
        raise FrameError(f"{path}: series {names[names.duplicated()].iloc[0]!r} appears twice; keep one row")
    try:
        values = raw.iloc[:, 1:].to_numpy(dtype=float)
    except ValueError as error:
        raise FrameError(f"{path}: a value is no number ({error})") from None
    rows = {}
    for name, row in zip(names, values, strict=True):
        kept = row[: int(np.flatnonzero(~np.isnan(row))[-1]) + 1] if (~np.isnan(row)).any() else row[:0]
        if np.isnan(kept).any() or not len(kept):
            raise FrameError(f"{path}: series {name!r} has no values, or one is missing between others; fill it first")
        rows[name] = kept
    return rows


def _join_group(name: str, past: dict[str, np.ndarray], future: dict[str, np.ndarray], season: int) -> Group:
    if list(past) != list(future):
        odd = sorted(set(past) ^ set(future))
        raise FrameError(f"group {name}: training and test files hold other series or another order ({odd[:3]})")
    lengths = {len(y) for y in future.values()}
    if len(lengths) > 1:
        raise FrameError(f"group {name}: test parts have {sorted(lengths)} steps; they must have one length")
    joined = {key: np.concatenate([y, future[key]]) for key, y in past.items()}
    sizes = [len(y) for y in joined.values()]
    df = pd.DataFrame(
        {
            ID: np.repeat(list(joined), sizes),
            TIME: np.concatenate([np.arange(1, n + 1) for n in sizes]),
            TARGET: np.concatenate(list(joined.values())),
        }
    )
    return Group(name, df, lengths.pop(), season)


def short_term(
    folder: str | Path,
    models: Sequence[Any] = ("SeasonalNaive", "AutoTheta"),
    *,
    season: int | None = None,
    max_series: int | None = None,
    smape_loss: bool = False,
    seeds: Sequence[int] = (0,),
    output_dir: str | Path = "runs/short_term",
    command: str = 'tsllm.benchmark("short-term", ...)',
    tell: Tell = lambda _: None,
) -> ShortTermReport:
    """Runs models on a competition like M4: sMAPE, MASE and OWA against Naive2; a stopped run goes on.

    Args:
        folder: As in `load_competition`.
        models: Names, saved folders, mappings as in a YAML file, or `ModelSpec`s.
        season: Of every group; None = M4's by the group's name.
        max_series: Only the first so many series of each group; None = all.
        smape_loss: Whether models of tsllm train on sMAPE in original units.
        seeds: Of the trainable models.
        output_dir: Folder of cells, tables and report.
        command: What the report says how to repeat it.
        tell: Hears what happens.

    Raises:
        FileNotFoundError: If the folder holds no such files.
        ValueError: If a group's season is not known, or an entry cannot be run.

    Example:
        ```python
        found = tsllm.benchmark("short-term", "m4", ["AutoTheta", "dlinear"], max_series=50)
        print(found.table[["group", "model", "owa"]])
        ```
    """
    if isinstance(models, str):
        raise ValueError(f"models is {models!r}; give a list: [{models!r}]")
    specs = [ModelSpec.parse(model) for model in models]
    if smape_loss:
        own = {"loss": "smape", "scaler": "none"}
        specs = [replace(s, options=own | s.options) if s.kind == "native" else s for s in specs]
    return run_short_term(load_competition(folder, season, max_series), specs, output_dir, seeds, command, tell)


def run_short_term(
    groups: Sequence[Group],
    models: Sequence[str | ModelSpec],
    output_dir: str | Path,
    seeds: Sequence[int] = (0,),
    command: str = "",
    tell: Tell = lambda _: None,
) -> ShortTermReport:
    """Runs models on the last part of every series, in cells that are kept; Naive2 is always among them.

    Args:
        groups: From `load_competition`.
        models: As in a comparison; `options: {loss: smape, scaler: none}` trains a point head on the competition's
            own error, in original units.
        output_dir: Folder of cells, tables and report.
        seeds: Of the trainable models.
        command: What the report says how to repeat it.
        tell: Hears what happens.
    """
    specs = [ModelSpec.parse(m) for m in models]
    if BASELINE not in [spec.name for spec in specs]:
        specs.insert(0, ModelSpec(BASELINE))
    entries = [
        DataEntry(g.name, frame=g.df, h=g.h, season=g.season, layout="univariate", unit="series") for g in groups
    ]
    config = CompareConfig(
        data=entries,
        models=specs,
        output_dir=str(output_dir),
        title="Short-term forecasting",
        reference=BASELINE,
        seeds=list(seeds),
        level=[],
    )
    results = run_compare(config, tell)
    report, tables = build_compare_report(config, results, command)
    path = save_compare(report, tables, output_dir)
    parts = [
        summarise(r, BASELINE).table.assign(group=r.prepared.name, series=r.prepared.windows.num_series)
        for r in results
    ]
    table = tabulate_owa(pd.concat(parts, ignore_index=True))
    table.to_csv(Path(output_dir) / "table.csv", index=False)
    (Path(output_dir) / "table.md").write_text("\n".join(write_table(table)) + "\n", encoding="utf-8")
    failures = {f"{f.model} on {r.prepared.name}: {f.error}" for r in results for run in r.runs for f in run.failures}
    return ShortTermReport(table, sorted(failures), path)


def tabulate_owa(scores: pd.DataFrame) -> pd.DataFrame:
    """Returns sMAPE, MASE and OWA of each group and over all series.

    OWA is the mean of sMAPE and MASE, each over that of Naive2 (Makridakis, Spiliotis & Assimakopoulos 2020). Over
    all groups sMAPE and MASE are means over series, and OWA is made of these. A model that lacks windows has no
    scores in that group and none over all.

    Args:
        scores: `group, model, series, smape, mase, failed`, one row a group and model, Naive2 among them.

    Returns:
        `group, model, smape` (0 to 200), `mase, owa, series, failed`; the rows "all" come last.
    """
    columns = ["group", "model", "smape", "mase", "series", "failed"]
    table = scores[columns].copy()
    table.loc[table["failed"] > 0, ["smape", "mase"]] = np.nan
    if table["group"].nunique() > 1:
        rows = []
        for model, own in table.groupby("model", sort=False):
            weight = own["series"].to_numpy(dtype=float)
            means: dict[str, Any] = {
                name: float((own[name].to_numpy() * weight).sum() / weight.sum()) for name in ("smape", "mase")
            }
            rows.append({"group": ALL, "model": model} | means | own[["series", "failed"]].sum().to_dict())
        table = pd.concat([table, pd.DataFrame(rows)], ignore_index=True)
    base = table[table["model"] == BASELINE].set_index("group")
    relative = [table[name] / table["group"].map(base[name]) for name in ("smape", "mase")]
    table.insert(4, "owa", (relative[0] + relative[1]) / 2)
    return table
