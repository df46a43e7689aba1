"""Tables, tests and report of a comparison."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tsllm.evaluation import figures
from tsllm.evaluation.ablation import describe_verdict, explain_variant
from tsllm.evaluation.backtest import read_costs
from tsllm.evaluation.compare import TaskResult
from tsllm.evaluation.config import CompareConfig
from tsllm.evaluation.fev_summary import write_fev_summary
from tsllm.evaluation.findings import describe_failures, describe_model, describe_winner, join_words
from tsllm.evaluation.leakage import find_flags
from tsllm.evaluation.prototypes import compute_prototype_attention
from tsllm.evaluation.published import compare_with_published
from tsllm.evaluation.report import Report, Section, TableBlock, describe_environment
from tsllm.evaluation.saved import is_reprogrammed, read_history
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
from tsllm.types import CUTOFF, ID, TIME

logger = logging.getLogger(__name__)

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
COST_NOTES = {
    "ms_per_window": "forecast of one window, batched as here",
    "peak_memory_mb": "growth of the process while the model ran; memory that earlier models freed is used again, so "
    "this is a lower bound",
    "artefact_mb": "files that a saved model takes, without a frozen backbone",
}
MIN_BLOCKS = 5  # fewer blocks give a Friedman test no power
MAX_LINES = 6  # more lines in one picture cannot be told apart


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
    scales = SeriesScales.from_training(prepared.training, prepared.task.season)
    arrays = [WindowArrays.of(run.frame, run.models, run.h, run.level) for run in result.runs]
    losses = [compute_window_losses(_in_scaled_units(one, scales)) for one in arrays]
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
    overlap = -(-prepared.task.h // prepared.windows.step)
    return TaskSummary(result, table, joined, arrays[0], overlap)


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
    main = [m.name for m in config.models if not m.variant]
    wholes = list(dict.fromkeys(m.variant_of for m in config.models if m.variant))
    finding: list[str] = []
    sections: list[Section] = []
    tables: dict[str, pd.DataFrame] = {}
    for summary, slug in zip(summaries, _name_files(summaries), strict=True):
        part = _TaskPart(config, summary, main, several=len(summaries) > 1)
        finding += part.describe_finding()
        sections += part.build_sections()
        tables[f"scores-{slug}"] = summary.table
        tables[f"tests-{slug}"] = part.pairs
        for whole in wholes:
            section, verdict, ablation_pairs = _describe_ablation(config, summary, whole)
            finding.append(verdict)
            sections.append(section)
            tables[f"ablation-{slug}" + (f"-{whole}" if len(wholes) > 1 else "")] = ablation_pairs
    sections.append(_describe_ranks(summaries, main))
    sections += _describe_saved(config)
    flags = find_flags(results, config.models)
    if flags:
        sections.append(Section("Could the answers have been known?", flags))
    sections.append(_describe_setting(config, results))
    sections.append(Section("How to repeat it", code=command))
    tables["fev_summary"] = write_fev_summary(results)
    return Report(config.title, finding, sections, describe_environment(config.seeds)), tables


def save_compare(report: Report, tables: dict[str, pd.DataFrame], output_dir: str | Path) -> Path:
    """Writes `report.html`, `report.md` and the tables as CSV."""
    folder = Path(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False)
    return report.save(folder / "report.html")


class _TaskPart:
    """What the report says of the models on one data set, ablations apart."""

    def __init__(self, config: CompareConfig, summary: TaskSummary, main: Sequence[str], several: bool) -> None:
        self.config, self.summary, self.result = config, summary, summary.result
        self.prepared = summary.result.prepared
        self.title = f" on {summary.name}" if several else ""
        self.table = summary.table[summary.table["model"].isin(main)].sort_values("scaled_mae")
        self.losses = summary.losses[[ID, CUTOFF, *main]]
        self.pairs = self._compare_to(config.reference)
        self.models = [str(m) for m in self.table["model"]]
        self.level = max(config.level) if config.level else None

    def _compare_to(self, reference: str) -> pd.DataFrame:
        rng = np.random.default_rng(self.config.seeds[0])
        return compare_to(self.losses, reference, rng, self.summary.overlap)

    def describe_finding(self) -> list[str]:
        """Says who wins, and where the model in question stands."""
        config = self.config
        complete = self.table[self.table["failed"] == 0]
        winner = complete["model"].iloc[0] if len(complete) else config.reference
        said = describe_winner(self.table, self._compare_to(winner), metric="scaled_mae")
        if self.title:
            said[0] = f"{self.summary.name}: {said[0]}"
        if config.focus and config.focus != config.reference:
            said.append(describe_model(config.focus, self.table.assign(mae=self.table["scaled_mae"]), self.pairs))
        return said

    def build_sections(self) -> list[Section]:
        """Returns accuracy, forecasts, cost, prototypes and published figures, those that there are."""
        made = [self._describe_accuracy(), self._describe_forecasts(), self._describe_costs()]
        made += self._describe_prototypes()
        book = _read_published(self.summary)
        if len(book):
            made.append(
                Section(f"Published figures{self.title}", tables=[TableBlock(book, "Yours beside the published")])
            )
        return made

    def _describe_accuracy(self) -> Section:
        known = [c for c in [*SHOWN, "mae_sd", "failed"] if c in self.table and self.table[c].notna().any()]
        notes = {c: LEGEND[c][0] for c in known if c in LEGEND} | {"mae_sd": "standard deviation of mae over seeds"}
        notes["coverage"] = f"share inside the {self.level:g} % interval" if self.level else ""
        scores = TableBlock(
            self.table[["model", *known]],
            f"Scores on {self.summary.name}, mean over seeds",
            best={c: LEGEND[c][1] for c in known if c in LEGEND and c not in ("coverage", "width", "failed")},
            formats={"skill": ".1%", "win_rate": ".0%", "coverage": ".1%", "failed": ".0f"},
            notes={k: v for k, v in notes.items() if k in known},
        )
        tests = TableBlock(
            self.pairs.drop(columns="reference", errors="ignore"),
            f"Paired tests against {self.config.reference}",
            formats=dict.fromkeys(("skill", "low", "high"), ".1%") | {"p_value": ".4f", "p_holm": ".4f"},
        )
        failures = describe_failures([f for run in self.result.runs[:1] for f in run.failures])
        return Section(f"Accuracy{self.title}", failures, [scores, tests], _draw_pairs(self.pairs))

    def _describe_forecasts(self) -> Section:
        config, frame = self.config, self.result.runs[0].frame
        first = list(dict.fromkeys(filter(None, [config.focus, self.models[0], config.reference])))
        usable = [m for m in first if frame[m].notna().all()]
        pictures = []
        if usable:
            context = 4 * self.prepared.task.season
            pictures.append(figures.draw_forecasts(self.prepared.loaded.df, frame, usable, context, self.level))
        steps = compute_step_skill(self.summary.arrays, config.reference)
        drawn = list(dict.fromkeys([*first, *self.models]))[:MAX_LINES]
        steps = steps[["step", *drawn]].dropna(axis=1, how="all")
        if set(steps.columns) - {"step", config.reference}:
            pictures.append(figures.draw_step_skill(steps, config.reference))
        return Section(f"Forecasts{self.title}", pictures=pictures)

    def _describe_costs(self) -> Section:
        known = [c for c in [*COSTS, "look_back", "steps"] if self.table[c].notna().any()]
        logs = {m: log for m, log in self.result.logs.items() if m in self.models}
        return Section(
            f"Cost{self.title}",
            tables=[
                TableBlock(
                    self.table[["model", *known]],
                    "What each took, mean over seeds",
                    formats=COST_FORMATS,
                    notes={k: v for k, v in COST_NOTES.items() if k in known},
                )
            ],
            pictures=[
                figures.draw_cost(self.table, "scaled_mae"),
                *([figures.draw_training(logs)] if logs else []),
            ],
        )

    def _describe_prototypes(self) -> list[Section]:
        """Draws what the patches of each reprogrammed model attend to; one that cannot be loaded is named."""
        pictures, lost = [], []
        windows = self.prepared.windows
        for spec in self.config.models:
            folder = self.result.folders.get(spec.name)
            if folder is None or spec.name not in self.models or not is_reprogrammed(folder):
                continue
            try:
                found = compute_prototype_attention(folder, windows.df, windows.h, windows.n_windows, windows.step)
            except Exception as error:
                logger.warning("%s: no picture of its prototypes: %s", spec.name, error)
                lost.append(f"No picture of {spec.name}: {type(error).__name__}: {error}")
                continue
            pictures.append(figures.draw_prototypes(spec.name, found))
        return [Section(f"Prototypes{self.title}", lost, pictures=pictures)] if pictures or lost else []


def _draw_pairs(pairs: pd.DataFrame) -> list[figures.Picture]:
    tested = pairs.dropna(subset=["skill"]) if len(pairs) else pairs
    return [figures.draw_skill_intervals(tested)] if len(tested) else []


def _describe_saved(config: CompareConfig) -> list[Section]:
    """Draws how the saved models of a comparison were trained, where their folders say so."""
    logs = {spec.name: read_history(spec) for spec in config.models if spec.kind == "saved"}
    rewarded = {name: log for name, log in logs.items() if figures.find_reward_curves(log)}
    losses = {name: log for name, log in logs.items() if any("eval_loss" in entry for entry in log)}
    pictures = [figures.draw_rewards(rewarded)] if rewarded else []
    pictures += [figures.draw_training(losses)] if losses else []
    return [Section("How the saved models were trained", pictures=pictures)] if pictures else []


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
    setting = {"h": prepared.task.h, "context_length": looked, "all_windows": every, "split": every or is_m3}
    return compare_with_published(summary.table, summary.name, setting)


def _describe_ablation(config: CompareConfig, summary: TaskSummary, whole: str) -> tuple[Section, str, pd.DataFrame]:
    variants = [m for m in config.models if m.variant_of == whole]
    ablated = [m.name for m in variants]
    losses = summary.losses[[ID, CUTOFF, whole, *ablated]]
    pairs = compare_to(losses, whole, np.random.default_rng(config.seeds[0]), summary.overlap)
    verdict = describe_verdict(whole, pairs, variants)
    table = summary.table[summary.table["model"].isin([whole, *ablated])].sort_values("scaled_mae")
    columns = ["model", "scaled_mae", "mae", "wql", "fit_seconds", "trained_parameters", "failed"]
    shown = table[[c for c in columns if c in table]]
    said = {m.name: explain_variant(m) for m in variants}
    shown = shown.assign(variant=[said.get(m, "the whole model") for m in shown["model"]])
    return (
        Section(
            "Does the language model help?",
            verdict,
            [TableBlock(shown, f"Variants of {whole}, equal budgets", {"scaled_mae": True})],
            _draw_pairs(pairs),
        ),
        f"Does the pretrained language model of {whole} help? {verdict[0]}",
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
            f"{p.name}: {p.windows.num_series} series, {p.windows.n_windows} windows of {p.task.h} steps, "
            f"{p.windows.step} apart, cutoffs from {cutoffs.min()} to {cutoffs.max()}. Everything that is learned, "
            "scaled or chosen uses the steps before the first cutoff."
        )
        lines += p.notes
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


def _name_files(summaries: Sequence[TaskSummary]) -> list[str]:
    """Returns what the tables of each data set are called: its file or task, numbered if it comes twice."""
    names: list[str] = []
    for summary in summaries:
        name = summary.name if summary.result.prepared.loaded.task else Path(summary.name).stem
        name = "".join(c if c.isalnum() or c in "-_" else "-" for c in name)
        names.append(name if name not in names else f"{name}-{len(names) + 1}")
    return names
