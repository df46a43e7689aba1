"""What the runs of a comparison say of one data set: scores, losses, budgets; and ranks over data sets."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tsllm.evaluation.backtest import read_costs
from tsllm.evaluation.budgets import BudgetRow
from tsllm.evaluation.compare import TaskResult
from tsllm.evaluation.significance import FriedmanNemenyi, Unit, compare_to, compare_with_best, friedman_nemenyi
from tsllm.evaluation.tables import SeriesScales, WindowArrays, compute_window_losses, score
from tsllm.types import CUTOFF, ID

RANKING = ("relative_mae", "scaled_mae", "mae")  # the first that every complete model has
MIN_BLOCKS = 5  # fewer blocks give a Friedman test no power


@dataclass
class TaskSummary:
    """What one data set says.

    Attributes:
        result: All runs.
        table: Scores (mean over seeds), spread over seeds, cost; one row a model.
        losses: Scaled absolute error of each window, mean over seeds, without series that cannot be scaled.
        seed_losses: The same for each seed.
        seed_tables: Scores of each seed; one row a model.
        arrays: Windows of the first seed.
        scales: What errors are scaled by.
        overlap: How many consecutive windows share a step.
        unit: What tests pair.
        metric: Column that ranks.
        budgets: What training each model and seed got.
    """

    result: TaskResult
    table: pd.DataFrame
    losses: pd.DataFrame
    seed_losses: list[pd.DataFrame]
    seed_tables: list[pd.DataFrame]
    arrays: WindowArrays
    scales: SeriesScales
    overlap: int
    unit: Unit
    metric: str
    budgets: list[BudgetRow]

    @property
    def name(self) -> str:
        """Data set."""
        return self.result.prepared.name

    def tabulate_seeds(self, seeds: Sequence[int]) -> pd.DataFrame:
        """Returns one row a model and seed; a model that draws nothing has one row, without a seed."""
        drawn = {model: len(cells) > 1 for model, cells in self.result.facts.items()}
        rows = []
        for number, (seed, table) in enumerate(zip(seeds, self.seed_tables, strict=True)):
            chosen = table[[number == 0 or drawn[model] for model in table["model"]]]
            numbers = [seed if drawn[model] else None for model in chosen["model"]]
            rows.append(chosen.assign(seed=pd.array(numbers, dtype="Int64")))
        joined = pd.concat(rows, ignore_index=True)
        return joined[["model", "seed", *joined.columns.drop(["model", "seed"])]]

    def compare_to(self, reference: str, models: Sequence[str]) -> pd.DataFrame:
        """Tests `models` against one that was named beforehand."""
        columns = [ID, CUTOFF, *dict.fromkeys([reference, *models])]
        seeds = [frame[columns] for frame in self.seed_losses]
        return compare_to(self.losses[columns], reference, self.overlap, unit=self.unit, seeds=seeds)

    def compare_with_best(self, best: str, models: Sequence[str]) -> pd.DataFrame:
        """Tests `models` against the one that these data ranked first."""
        columns = [ID, CUTOFF, *models]
        seeds = [frame[columns] for frame in self.seed_losses]
        return compare_with_best(self.losses[columns], self.overlap, unit=self.unit, seeds=seeds, best=best)


def summarise(result: TaskResult, reference: str) -> TaskSummary:
    """Scores all seeds of a data set and averages them."""
    prepared = result.prepared
    scales = SeriesScales.from_training(prepared.training, prepared.task.season)
    arrays = [WindowArrays.of(run.frame, run.models, run.h, run.level) for run in result.runs]
    losses = [compute_window_losses(one.in_scaled_units(scales)) for one in arrays]
    tables = [score(run, scales, reference).merge(read_costs(run.costs), on="model") for run in result.runs]
    stacked = pd.concat(tables)
    numeric = [c for c in stacked.columns if c != "model"]
    by_model = stacked.groupby("model", sort=False)
    table = by_model[numeric].mean().reset_index()
    # A failure in one seed must show, not average to a fraction.
    table["failed"] = by_model["failed"].max().to_numpy()
    trained = [len(result.facts[m]) > 1 for m in table["model"]]
    table["mae_sd"] = np.where(trained, by_model["mae"].std(ddof=1).to_numpy(), np.nan)
    for name in ("peak_memory_mb", "artefact_mb", "look_back", "steps"):
        values = [[f[name] for f in result.facts[m] if name in f] for m in table["model"]]
        table[name] = [float(np.mean(v)) if v else np.nan for v in values]
    table["seconds"] = table["fit_seconds"] + table["predict_seconds"]
    models = [c for c in losses[0].columns if c not in (ID, CUTOFF)]
    mean = np.mean([frame[models].to_numpy() for frame in losses], axis=0)
    joined = losses[0][[ID, CUTOFF]].join(pd.DataFrame(mean, columns=models))
    return TaskSummary(
        result=result,
        table=table,
        losses=joined,
        seed_losses=losses,
        seed_tables=tables,
        arrays=arrays[0],
        scales=scales,
        overlap=-(-prepared.task.h // prepared.windows.step),
        unit="series" if prepared.entry.unit == "series" else "cutoff",
        metric=_find_ranking(table),
        budgets=_read_budgets(result),
    )


def _find_ranking(table: pd.DataFrame) -> str:
    complete = table[table["failed"] == 0]
    return next((name for name in RANKING if name in table and complete[name].notna().all()), "mae")


def _read_budgets(result: TaskResult) -> list[BudgetRow]:
    """Returns the budgets that the cells of trained models tell, one row a model and seed."""
    return [
        BudgetRow(model, **facts["budget"])
        for model, per_seed in result.facts.items()
        for facts in per_seed
        if "budget" in facts
    ]


def rank_blocks(summaries: Sequence[TaskSummary], models: Sequence[str]) -> tuple[FriedmanNemenyi | None, str]:
    """Ranks the models over data sets, or over series that are independent; None with the reason if that cannot be."""
    tables = [s.table.set_index("model") for s in summaries]
    complete = [m for m in models if all(t["failed"].get(m, 1) == 0 for t in tables)]
    if len(complete) < 3:
        return None, "fewer than three models forecast every window"
    if len(summaries) >= MIN_BLOCKS:
        blocks = pd.DataFrame([t.loc[complete, s.metric] for t, s in zip(tables, summaries, strict=True)])
        return friedman_nemenyi(blocks), "data sets"
    if not all(s.unit == "series" for s in summaries):
        return None, (
            f"{len(summaries)} data set{'s are' if len(summaries) > 1 else ' is'} too few blocks ({MIN_BLOCKS} "
            "needed), and series at the same cutoffs are no independent ones"
        )
    per_series = pd.concat([s.losses.groupby(ID, sort=False)[complete].mean() for s in summaries])
    if len(per_series) < MIN_BLOCKS:
        return None, f"{len(per_series)} series are too few blocks; it takes {MIN_BLOCKS}"
    return friedman_nemenyi(per_series), "series"
