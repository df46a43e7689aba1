"""Tables, tests and report of a comparison."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tsllm.evaluation import figures
from tsllm.evaluation.ablation import describe_verdict, explain_variant
from tsllm.evaluation.backtest import read_costs
from tsllm.evaluation.compare import TaskResult
from tsllm.evaluation.findings import describe_failures, describe_model, describe_winner, join_words
from tsllm.evaluation.leakage import find_flags
from tsllm.evaluation.published import compare_with_published
from tsllm.evaluation.report import Report, Section, TableBlock, describe_environment
from tsllm.evaluation.significance import FriedmanNemenyi, compare_to, friedman_nemenyi
from tsllm.evaluation.tables import (
    COST_FORMATS,
    LEGEND,
    SeriesScales,
    WindowArrays,
    compute_step_skill,
    compute_window_losses,
    score,
)
from tsllm.evaluation.tasks import CompareConfig
from tsllm.types import CUTOFF, ID, TIME

SHOWN = ["mae", "rmse", "mase", "smape", "scaled_mse", "scaled_mae", "wql", "coverage", "width", "skill", "win_rate"]
COSTS = [
    "fit_seconds",
    "predict_seconds",
    "ms_per_window",
    "peak_memory_mb",
    "artefact_mb",
    "trained_parameters",
    "total_parameters",
]
MIN_BLOCKS = 5  # fewer blocks give a Friedman test no power


@dataclass
class TaskSummary:
    """What one data set says.

    Attributes:
        result: All runs.
        table: Scores (mean over seeds), spread over seeds, cost; one row a model.
        losses: Scaled absolute error of each window, mean over seeds.
        arrays: Windows of the first seed.
        overlap: How many consecutive windows share a step.
    """

    result: TaskResult
    table: pd.DataFrame
    losses: pd.DataFrame
    arrays: WindowArrays
    overlap: int

    @property
    def name(self) -> str:
        """Data set."""
        return self.result.prepared.name


def summarise(result: TaskResult, reference: str) -> TaskSummary:
    """Scores all seeds of a data set and averages them."""
    prepared = result.prepared
    scales = SeriesScales.from_training(prepared.training, prepared.facts.season)
    tables, losses = [], []
    for run in result.runs:
        table = score(run, scales, reference)
        costs = read_costs(run.costs)
        tables.append(table.merge(costs, on="model"))
        arrays = WindowArrays.of(run.frame, run.models, run.h, run.level)
        losses.append(compute_window_losses(_in_scaled_units(arrays, scales)))
    stacked = pd.concat(tables)
    numeric = [c for c in stacked.columns if c != "model"]
    table = stacked.groupby("model", sort=False)[numeric].mean().reset_index()
    # A failure in one seed must show, not average to a fraction.
    table["failed"] = stacked.groupby("model", sort=False)["failed"].max().to_numpy()
    spread = stacked.groupby("model", sort=False)["mae"].std(ddof=1).to_numpy()
    trained = [len(result.facts[m]) > 1 for m in table["model"]]
    table["mae_sd"] = np.where(trained, spread, np.nan)
    for name in ("peak_memory_mb", "artefact_mb", "look_back", "steps"):
        values = [[f[name] for f in result.facts[m] if name in f] for m in table["model"]]
        table[name] = [float(np.mean(v)) if v else np.nan for v in values]
    table["seconds"] = table["fit_seconds"] + table["predict_seconds"]
    keys = losses[0][[ID, CUTOFF]]
    models = [c for c in losses[0].columns if c not in (ID, CUTOFF)]
    mean = np.mean([frame[models].to_numpy() for frame in losses], axis=0)
    overlap = -(-prepared.facts.h // prepared.windows.step)
    first = WindowArrays.of(result.runs[0].frame, result.runs[0].models, result.runs[0].h, result.runs[0].level)
    return TaskSummary(result, table, keys.join(pd.DataFrame(mean, columns=models)), first, overlap)


def _in_scaled_units(arrays: WindowArrays, scales: SeriesScales) -> WindowArrays:
    """Divides targets and forecasts by the deviation of their series, so that every series counts alike."""
    deviation = arrays.scale_of(scales.deviation)  # [N, 1]
    forecasts = {k: v / deviation for k, v in arrays.forecasts.items()}
    return WindowArrays(arrays.series, arrays.cutoffs, arrays.y / deviation, forecasts, {}, [])


def rank_blocks(summaries: Sequence[TaskSummary], models: Sequence[str]) -> tuple[FriedmanNemenyi | None, str]:
    """Ranks the models over data sets, or over series; None with the reason if there are too few blocks."""
    complete = [m for m in models if all(s.losses[m].notna().all() for s in summaries)]
    if len(complete) < 3:
        return None, "fewer than three models forecast every window"
    if len(summaries) >= MIN_BLOCKS:
        blocks = pd.DataFrame([s.losses[complete].mean() for s in summaries])
        return friedman_nemenyi(blocks), "data sets"
    per_series = pd.concat([s.losses.groupby(ID, sort=False)[complete].mean() for s in summaries])
    if len(per_series) < MIN_BLOCKS:
        return None, f"{len(per_series)} series are too few blocks; it takes {MIN_BLOCKS}"
    return friedman_nemenyi(per_series), "series"


def build_compare_report(
    config: CompareConfig, results: Sequence[TaskResult], command: str
) -> tuple[Report, dict[str, pd.DataFrame]]:
    """Puts tables, tests and pictures together.

    Args:
        config: The comparison.
        results: From `run_compare`.
        command: What repeats it.

    Returns:
        The report, and the tables by file name.
    """
    summaries = [summarise(result, config.reference) for result in results]
    ablated = [m.name for m in config.models if m.role == "ablation"]
    main = [m.name for m in config.models if m.role != "ablation"]
    finding: list[str] = []
    sections: list[Section] = []
    tables: dict[str, pd.DataFrame] = {}
    for summary in summaries:
        said, made, pairs = _describe_task(config, summary, main, several=len(summaries) > 1)
        finding += said
        sections += made
        tables[f"scores-{_slug(summary.name)}"] = summary.table
        tables[f"tests-{_slug(summary.name)}"] = pairs
        if ablated:
            section, verdict, ablation_pairs = _describe_ablation(config, summary, ablated)
            finding.append(verdict)
            sections.append(section)
            tables[f"ablation-{_slug(summary.name)}"] = ablation_pairs
    sections.append(_describe_ranks(summaries, main))
    flags = find_flags(results, config.models)
    if flags:
        sections.append(Section("Could the answers have been known?", flags))
    sections.append(_describe_setting(config, results))
    sections.append(Section("How to repeat it", code=command))
    tables["fev_summary"] = write_fev_summary(summaries)
    return Report(config.title, finding, sections, describe_environment(config.seeds)), tables


def save_compare(report: Report, tables: dict[str, pd.DataFrame], output_dir: str | Path) -> Path:
    """Writes `report.html`, `report.md` and the tables as CSV."""
    folder = Path(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False)
    return report.save(folder / "report.html")


def _describe_task(
    config: CompareConfig, summary: TaskSummary, main: Sequence[str], several: bool
) -> tuple[list[str], list[Section], pd.DataFrame]:
    result, prepared = summary.result, summary.result.prepared
    table = summary.table[summary.table["model"].isin(main)]
    losses = summary.losses[[ID, CUTOFF, *main]]
    rng = np.random.default_rng(config.seeds[0])
    pairs = compare_to(losses, config.reference, rng, summary.overlap)
    complete = table[table["failed"] == 0]
    winner = complete.sort_values("scaled_mae")["model"].iloc[0] if len(complete) else config.reference
    against = compare_to(losses, winner, np.random.default_rng(config.seeds[0]), summary.overlap)
    said = describe_winner(table, against, metric="scaled_mae")
    if several:
        said[0] = f"{summary.name}: {said[0]}"
    if config.focus and config.focus != config.reference:
        ranked = table.assign(mae=table["scaled_mae"])
        said.append(describe_model(config.focus, ranked, pairs))
    title = f" on {summary.name}" if several else ""
    ordered = table.sort_values("scaled_mae")
    columns = ["model", *[c for c in [*SHOWN, "mae_sd", "failed"] if c in ordered and ordered[c].notna().any()]]
    best = {c: LEGEND[c][1] for c in columns if c in LEGEND and c not in ("coverage", "width", "failed")}
    level = max(config.level) if config.level else None
    notes = {c: LEGEND[c][0] for c in columns if c in LEGEND} | {"mae_sd": "standard deviation of mae over seeds"}
    notes["coverage"] = f"share inside the {level:g} % interval" if level else ""
    formats = {"skill": ".1%", "win_rate": ".0%", "coverage": ".1%", "failed": ".0f"}
    models = [str(m) for m in ordered["model"]]
    shown = list(dict.fromkeys([*([config.focus] if config.focus else []), models[0], config.reference]))
    accuracy = Section(
        f"Accuracy{title}",
        describe_failures([f for run in result.runs[:1] for f in run.failures]),
        [
            TableBlock(
                ordered[columns],
                f"Scores on {summary.name}, mean over seeds",
                best,
                formats,
                {k: v for k, v in notes.items() if k in columns},
            ),
            TableBlock(
                pairs.drop(columns=["reference"]),
                f"Paired tests against {config.reference}",
                formats=dict.fromkeys(("skill", "low", "high"), ".1%") | {"p_value": ".4f", "p_holm": ".4f"},
            ),
        ],
        [figures.draw_skill_intervals(pairs.dropna(subset=["skill"]))],
    )
    run = result.runs[0]
    usable = [m for m in shown if run.frame[m].notna().all()]
    steps = compute_step_skill(summary.arrays, config.reference)
    # More lines than six cannot be told apart; the best ones, the reference and the one in question stay.
    drawn = list(dict.fromkeys([*shown, *models]))[:6]
    steps = steps[["step", *drawn]]
    forecasts = Section(
        f"Forecasts{title}",
        pictures=[
            figures.draw_forecasts(prepared.loaded.df, run.frame, usable, 4 * prepared.facts.season, level),
            figures.draw_step_skill(steps.dropna(axis=1, how="all"), config.reference),
        ],
    )
    costs = ordered[["model", *[c for c in [*COSTS, "look_back", "steps"] if ordered[c].notna().any()]]]
    logs = {m: log for m, log in result.logs.items() if m in main}
    cost = Section(
        f"Cost{title}",
        tables=[TableBlock(costs, "What each took, mean over seeds", formats=COST_FORMATS)],
        pictures=[figures.draw_cost(table, "scaled_mae"), *([figures.draw_training(logs)] if logs else [])],
    )
    sections = [accuracy, forecasts, cost]
    book = _read_published(summary)
    if len(book):
        sections.append(Section(f"Published figures{title}", tables=[TableBlock(book, "Yours beside the published")]))
    return said, sections, pairs


def _read_published(summary: TaskSummary) -> pd.DataFrame:
    prepared = summary.result.prepared
    looked = {m: int(v) for m, v in zip(summary.table["model"], summary.table["look_back"], strict=True) if v == v}
    windows = prepared.windows
    customary = prepared.loaded.source.split if prepared.loaded.source else None
    every = False
    if customary is not None:
        border = customary.borders(windows.df[TIME].to_numpy()[: int(windows.df.groupby(ID).size().iloc[0])])
        every = windows.step == 1 and windows.n_windows == border.test - border.validation - windows.h + 1
    is_m3 = summary.name.startswith("m3") and windows.n_windows == 1
    setting = {"h": prepared.facts.h, "context_length": looked, "all_windows": every, "split": every or is_m3}
    return compare_with_published(summary.table, summary.name, setting)


def _describe_ablation(
    config: CompareConfig, summary: TaskSummary, ablated: Sequence[str]
) -> tuple[Section, str, pd.DataFrame]:
    whole = ablated[0].rpartition("-")[0]
    losses = summary.losses[[ID, CUTOFF, whole, *ablated]]
    pairs = compare_to(losses, whole, np.random.default_rng(config.seeds[0]), summary.overlap)
    verdict = describe_verdict(whole, pairs)
    table = summary.table[summary.table["model"].isin([whole, *ablated])].sort_values("scaled_mae")
    shown = table[["model", "scaled_mae", "mae", "wql", "fit_seconds", "trained_parameters", "failed"]]
    shown = shown.assign(variant=[explain_variant(m) or "the whole model" for m in shown["model"]])
    return (
        Section(
            "Does the language model help?",
            verdict,
            [TableBlock(shown, f"Variants of {whole}, equal budgets", {"scaled_mae": True})],
            [figures.draw_skill_intervals(pairs.dropna(subset=["skill"]))],
        ),
        f"Does the pretrained language model help? {verdict[0]}",
        pairs,
    )


def _describe_ranks(summaries: Sequence[TaskSummary], main: Sequence[str]) -> Section:
    ranks, blocks = rank_blocks(summaries, main)
    if ranks is None:
        return Section("Ranks", [f"No critical-difference diagram: {blocks}."])
    said = f"Mean ranks over {ranks.blocks} {blocks}; Friedman p = {ranks.p_value:.2g}."
    return Section("Ranks", [said], pictures=[figures.draw_critical_difference(ranks)])


def _describe_setting(config: CompareConfig, results: Sequence[TaskResult]) -> Section:
    lines = []
    for result in results:
        p = result.prepared
        cutoffs = p.windows.keys[CUTOFF]
        lines.append(
            f"{p.name}: {p.windows.num_series} series, {p.windows.n_windows} windows of {p.facts.h} steps, "
            f"{p.windows.step} apart, cutoffs from {cutoffs.min()} to {cutoffs.max()}. Everything that is learned, "
            "scaled or chosen uses the steps before the first cutoff."
        )
    refit = "anew at each window" if config.refit is True else "once, before the first window"
    lines.append(f"Trained models are fitted {refit}; local statistical models are estimated anew at each window.")
    if config.look_backs:
        lengths = join_words([str(n) for n in config.look_backs])
        lines.append(f"Look-back of every trained model: the best on validation among {lengths} steps.")
    if config.max_seconds:
        lines.append(f"Training budget: {config.max_seconds:g} seconds for each model and seed.")
    lines.append(
        "Tests are two-sided at 5 %: Diebold-Mariano with the small-sample correction on the scaled absolute error of "
        "each cutoff (mean over series and seeds), or of each series where there are more series than cutoffs; "
        "p-values adjusted by Holm; intervals by moving-block bootstrap."
    )
    return Section("Setting", lines)


def write_fev_summary(summaries: Sequence[TaskSummary]) -> pd.DataFrame:
    """Returns the scores in the columns of fev's evaluation summary, one row a model and data set."""
    rows: list[dict[str, Any]] = []
    for summary in summaries:
        prepared = summary.result.prepared
        for row in summary.table.to_dict("records"):
            rows.append(
                {
                    "model_name": row["model"],
                    "dataset_path": prepared.name,
                    "dataset_config": None,
                    "horizon": prepared.facts.h,
                    "num_windows": prepared.windows.n_windows,
                    "window_step_size": prepared.windows.step,
                    "seasonality": prepared.facts.season,
                    "eval_metric": "MASE",
                    "test_error": row.get("mase"),
                    "MASE": row.get("mase"),
                    "WQL": row.get("wql"),
                    "training_time_s": row["fit_seconds"],
                    "inference_time_s": row["predict_seconds"],
                    "dataset_fingerprint": prepared.fingerprint,
                    "trained_on_this_dataset": len(summary.result.facts[row["model"]]) > 0
                    and "steps" in summary.result.facts[row["model"]][0],
                }
            )
    return pd.DataFrame(rows)


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in Path(name).stem if c)
