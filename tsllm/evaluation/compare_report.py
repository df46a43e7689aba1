"""Tables, tests and report of a comparison."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from tsllm.evaluation import figures
from tsllm.evaluation.ablation import describe_verdict, explain_variant
from tsllm.evaluation.budgets import describe_budgets, find_unconverged, sentence_budgets, tabulate_budgets
from tsllm.evaluation.compare import TaskResult
from tsllm.evaluation.config import CompareConfig
from tsllm.evaluation.fev_summary import write_fev_summary
from tsllm.evaluation.findings import (
    describe_failures,
    describe_model,
    describe_tests,
    describe_variants,
    describe_winner,
    join_words,
    read_rows,
)
from tsllm.evaluation.fits import Cuts, describe_days, describe_refits, describe_selection, find_anew, find_once
from tsllm.evaluation.leakage import find_flags
from tsllm.evaluation.methods import DataFacts, MethodFacts, write_methods
from tsllm.evaluation.prepare import PreparedTask
from tsllm.evaluation.prototypes import compute_prototype_attention
from tsllm.evaluation.published import compare_with_published
from tsllm.evaluation.report import TEST_FORMATS, TEST_LABELS, Report, Section, TableBlock, describe_environment
from tsllm.evaluation.saved import find_pretrained_base, is_reprogrammed, read_history
from tsllm.evaluation.significance import FriedmanNemenyi
from tsllm.evaluation.summary import TaskSummary, rank_blocks, summarise
from tsllm.evaluation.tables import (
    COST_FORMATS,
    LEGEND,
    compute_step_skill,
    describe_incomparable,
    describe_unobserved,
    find_incomplete,
    find_ruling_series,
    rank_rows,
)
from tsllm.evaluation.told_report import build_told_section, examine_compared, tabulate_changes
from tsllm.types import CUTOFF, ID, TIME

logger = logging.getLogger(__name__)

SHOWN = [
    "relative_mae",
    "mae",
    "rmse",
    "mase",
    "smape",
    "scaled_mse",
    "scaled_mae",
    "wql",
    "coverage",
    "width",
    "skill",
    "win_rate",
]
TESTED = ["model", "skill", "low", "high", "p_value", "p_holm", "verdict", "n", "terms", "note"]
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
MAX_LINES = 6  # more lines in one picture cannot be told apart


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
    # A table against the reference, one against the best, and one for each model that was taken apart.
    count = len(summaries) * (2 + len(wholes))
    finding: list[str] = []
    sections: list[Section] = []
    tables: dict[str, pd.DataFrame] = {}
    for summary, slug in zip(summaries, _name_files(summaries), strict=True):
        part = _TaskPart(config, summary, main, several=len(summaries) > 1, count=count)
        finding += part.describe_finding()
        sections += part.build_sections()
        tables[f"scores-{slug}"] = summary.table
        tables[f"seeds-{slug}"] = summary.tabulate_seeds(config.seeds)
        tables[f"tests-{slug}"] = part.pairs
        tables[f"best-{slug}"] = part.against_best
        if len(part.told):
            tables[f"texts-{slug}"] = part.told
        tables[f"budgets-{slug}"] = tabulate_budgets(summary.budgets)
        for whole in wholes:
            section, verdict, ablation_pairs = _describe_ablation(config, summary, whole, count)
            finding.append(verdict)
            sections.append(section)
            tables[f"ablation-{slug}" + (f"-{whole}" if len(wholes) > 1 else "")] = ablation_pairs
    ranks, said = rank_blocks(summaries, main)
    sections.append(_describe_ranks(ranks, said))
    sections += _describe_saved(config)
    flags = find_flags(results, config.models)
    if flags:
        sections.append(Section("Could the answers have been known?", flags))
    sections.append(_describe_setting(config, results))
    sections.append(Section("Methods, to be quoted", _write_methods(config, summaries, wholes, ranks is not None)))
    sections.append(Section("How to repeat it", code=command))
    tables["fev_summary"] = write_fev_summary(results)
    attached = _attach(config, summaries)
    files = {name: what for name, (what, _) in attached.items()}
    files |= {f"{name}.csv": "table of this report" for name in tables}
    made = Report(
        config.title,
        finding,
        sections,
        describe_environment(config.seeds),
        files,
        {name: content for name, (_, content) in attached.items()},
    )
    return made, tables


def _attach(config: CompareConfig, summaries: Sequence[TaskSummary]) -> dict[str, tuple[str, Any]]:
    """Returns the configuration and the forecasts of each data set: file -> what it is, and its content."""
    attached: dict[str, tuple[str, Any]] = {
        "config.yaml": ("the configuration: tsllm compare config.yaml", config.to_yaml())
    }
    for summary, slug in zip(summaries, _name_files(summaries), strict=True):
        for seed, run in zip(config.seeds, summary.result.runs, strict=True):
            frame = summary.result.prepared.loaded.names.write(run.frame)
            attached[f"forecasts-{slug}-{seed}.parquet"] = (f"forecasts on {summary.name}, seed {seed}", frame)
    return attached


def save_compare(report: Report, tables: dict[str, pd.DataFrame], output_dir: str | Path) -> Path:
    """Writes `report.html`, `report.md` and the tables as CSV."""
    folder = Path(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False)
    return report.save(folder / "report.html")


class _TaskPart:
    """What the report says of the models on one data set, ablations apart."""

    def __init__(
        self, config: CompareConfig, summary: TaskSummary, main: Sequence[str], several: bool, count: int
    ) -> None:
        self.config, self.summary, self.result = config, summary, summary.result
        self.prepared = summary.result.prepared
        self.title = f" on {summary.name}" if several else ""
        self.table = rank_rows(summary.table[summary.table["model"].isin(main)], summary.metric)
        self.pairs = summary.compare_to(config.reference, main)
        self.models = [str(m) for m in self.table["model"]]
        self.level = max(config.level) if config.level else None
        self.count = count
        self.budgets = [row for row in summary.budgets if row.model in self.models]
        self.unconverged = find_unconverged(self.budgets)
        complete = self.table[self.table["failed"] == 0]
        self.winner = str(complete["model"].iloc[0]) if len(complete) else config.reference
        self.against_best = summary.compare_with_best(self.winner, main)
        self.told = pd.DataFrame()

    def describe_finding(self) -> list[str]:
        """Says who wins, where the model in question stands, and whether budgets were equal."""
        config, metric = self.config, self.summary.metric
        said = describe_winner(
            self.table, self.against_best, metric, tested="scaled_mae", unconverged=self.unconverged
        )
        if self.title:
            said[0] = f"{self.summary.name}: {said[0]}"
        if config.focus and config.focus != config.reference:
            apart = any(m.variant for m in config.models)
            said.append(describe_model(config.focus, self.table, self.pairs, metric, self.unconverged, apart))
        return said + describe_budgets(self.budgets)[:1]

    def build_sections(self) -> list[Section]:
        """Returns accuracy, forecasts, cost, prototypes and published figures, those that there are."""
        made = [self._describe_accuracy(), self._describe_forecasts(), self._describe_costs()]
        made += self._describe_budgets()
        made += self._describe_searches()
        made += self._describe_prototypes()
        found, lost = examine_compared(self.config.models, self.result, self.config.seeds[0])
        made += build_told_section(found, self.prepared.loaded.df, self.prepared.task.season, self.title, lost)
        self.told = tabulate_changes(found)
        book = _read_published(self.summary)
        if len(book):
            made.append(
                Section(f"Published figures{self.title}", tables=[TableBlock(book, "Yours beside the published")])
            )
        return made

    def _describe_accuracy(self) -> Section:
        known = [c for c in [*SHOWN, "mae_sd", "failed"] if c in self.table and self.table[c].notna().any()]
        notes = {c: LEGEND[c][0] for c in known if c in LEGEND} | {"mae_sd": "standard deviation of mae over seeds"}
        notes["skill"] = f"share of the MAE of {self.config.reference} that is saved"
        notes["coverage"] = f"share inside the {self.level:g} % interval" if self.level else ""
        scores = TableBlock(
            self.table[["model", *known]],
            f"Scores on {self.summary.name}, mean over seeds",
            best={c: LEGEND[c][1] for c in known if c in LEGEND and c not in ("coverage", "width", "failed")},
            formats={"skill": ".1%", "win_rate": ".0%", "coverage": ".1%", "failed": ".0f"},
            notes={k: v for k, v in notes.items() if k in known},
            below=[self._describe_ranking(), *self._describe_scaling()],
            unranked=find_incomplete(self.table),
        )
        tables = [scores, self._show_tests(self.pairs, f"Paired tests against {self.config.reference}")]
        if len(self.against_best):
            tables.append(self._show_tests(self.against_best, f"Paired tests against the best model, {self.winner}"))
        failures = describe_failures([f for run in self.result.runs[:1] for f in run.failures])
        return Section(f"Accuracy{self.title}", failures, tables, _draw_pairs(self.pairs))

    def _describe_ranking(self) -> str:
        lost = find_incomplete(self.table)
        said = f"Models are ranked by {self.summary.metric.replace('_', ' ')}."
        return f"{said} Last and without a rank, as windows lack a forecast: {join_words(lost)}." if lost else said

    def _show_tests(self, pairs: pd.DataFrame, caption: str) -> TableBlock:
        return _show_tests(pairs, caption, self.summary.overlap, self.count, bool(self.budgets))

    def _describe_scaling(self) -> list[str]:
        ruling = find_ruling_series(self.summary.losses)
        said = self.summary.scales.describe_left_out() + describe_unobserved(self.result.runs[0].frame)
        said += describe_incomparable(self.summary.arrays, self.config.reference, self.summary.scales)
        if ruling is not None:
            said.append(
                f"Series {ruling[0]} alone makes up {100 * ruling[1]:.0f} % of the scaled errors of all models, so "
                "the tests speak mostly of it."
            )
        return said

    def _describe_budgets(self) -> list[Section]:
        if not self.budgets:
            return []
        size = int(self.config.refit) or self.prepared.windows.n_windows
        fits = -(-self.prepared.windows.n_windows // size)
        which = f"the first of {fits} fits of " if fits > 1 else ""
        caption = f"Training of {which}each model and seed"
        if self.config.budget is not None and self.config.budget.retrain:
            caption = "The training that found the length for all seeds, one of each model"
            if any(m.is_trainable and m.kind != "native" for m in self.config.models):
                caption += " that the budget reaches; of others that of each seed"
        table = TableBlock(tabulate_budgets(self.budgets), caption)
        return [Section(f"Training budgets{self.title}", describe_budgets(self.budgets), [table])]

    def _describe_searches(self) -> list[Section]:
        """Says what the search found for each model, once; what perturbs another's model has the other's sentence."""
        facts = [runs[0] for runs in self.result.facts.values() if runs]
        said = list(dict.fromkeys(str(one["searched"]) for one in facts if "searched" in one))
        return [Section(f"What the search found{self.title}", said)] if said else []

    def _describe_forecasts(self) -> Section:
        config, frame = self.config, self.result.runs[0].frame
        first = list(dict.fromkeys(filter(None, [config.focus, self.models[0], config.reference])))
        usable = [m for m in first if frame[m].notna().all()]
        order = list(
            dict.fromkeys([*map(str, self.table["model"]), *first, *self.models])
        )  # as in the figure of costs
        pictures = []
        if usable:
            context = 4 * self.prepared.task.season
            pictures.append(figures.draw_forecasts(self.prepared.loaded.df, frame, usable, context, self.level, order))
        steps = compute_step_skill(self.summary.arrays, config.reference)
        drawn = list(dict.fromkeys([*first, *self.models]))[:MAX_LINES]
        steps = steps[["step", *drawn]].dropna(axis=1, how="all")
        if set(steps.columns) - {"step", config.reference}:
            pictures.append(figures.draw_step_skill(steps, config.reference, order))
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
                *([figures.draw_cost(self.table, "scaled_mae")] if (self.table["failed"] == 0).any() else []),
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


def _show_tests(pairs: pd.DataFrame, caption: str, overlap: int, count: int, trained: bool) -> TableBlock:
    shown = pairs[[c for c in TESTED if c != "note" or pairs["note"].astype(bool).any()]]
    below = describe_tests(pairs, overlap, count, trained)
    if len(pairs) and pairs["skill"].notna().any():
        below.append("skill here: of the scaled absolute error, which is tested; that of the scores is of the MAE.")
    return TableBlock(shown, caption, formats=TEST_FORMATS, labels=TEST_LABELS, below=below)


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
        times = windows.df[TIME].to_numpy()[: int(windows.df.groupby(ID).size().iloc[0])]
        border = customary.borders(times)
        whole = windows.n_windows == border.test - border.validation - windows.h + 1
        every = windows.step == 1 and whole and len(times) == border.test
    is_m3 = summary.name.startswith("m3") and windows.n_windows == 1
    setting = {"h": prepared.task.h, "context_length": looked, "all_windows": every, "split": every or is_m3}
    return compare_with_published(summary.table, summary.name, setting)


def _describe_ablation(
    config: CompareConfig, summary: TaskSummary, whole: str, count: int
) -> tuple[Section, str, pd.DataFrame]:
    variants = [m for m in config.models if m.variant_of == whole]
    ablated = [m.name for m in variants]
    pairs = summary.compare_to(whole, ablated)
    budgets = [row for row in summary.budgets if row.model in (whole, *ablated)]
    said = {m.name: explain_variant(m) for m in variants}
    if _has_language_model(config, whole):
        title = "Does the language model help?"
        verdict = describe_verdict(whole, pairs, variants, find_unconverged(budgets))
        finding = f"Does the pretrained language model of {whole} help? {verdict[0]}"
    else:
        title = f"Do the variants of {whole} do better?"
        verdict = describe_variants(whole, read_rows(pairs), said, find_unconverged(budgets))
        finding = verdict[0]
    table = rank_rows(summary.table[summary.table["model"].isin([whole, *ablated])], "scaled_mae")
    columns = ["model", "scaled_mae", "mae", "wql", "fit_seconds", "trained_parameters", "failed"]
    shown = table[[c for c in columns if c in table]]
    shown = shown.assign(variant=[said.get(m, "the whole model") for m in shown["model"]])
    return (
        Section(
            title,
            verdict,
            [
                TableBlock(
                    shown,
                    f"Variants of {whole}",
                    {"scaled_mae": True},
                    below=describe_budgets(budgets),
                    unranked=find_incomplete(table),
                ),
                _show_tests(pairs, f"Paired tests against {whole}", summary.overlap, count, bool(budgets)),
            ],
            _draw_pairs(pairs),
        ),
        finding,
        pairs,
    )


def _has_language_model(config: CompareConfig, name: str) -> bool:
    """Tells whether a model of the comparison reads with a pretrained language model."""
    return any(bool(find_pretrained_base(m)) for m in config.models if m.name == name)


def _describe_ranks(ranks: FriedmanNemenyi | None, blocks: str) -> Section:
    if ranks is None:
        return Section("Ranks", [f"No critical-difference diagram: {blocks}."])
    said = f"Mean ranks over {ranks.blocks} {blocks}; Friedman p = {ranks.p_value:.2g}."
    return Section("Ranks", [said], pictures=[figures.draw_critical_difference(ranks)])


def _write_methods(
    config: CompareConfig, summaries: Sequence[TaskSummary], wholes: Sequence[str], ranked: bool
) -> list[str]:
    data = []
    for summary in summaries:
        p = summary.result.prepared
        cutoffs = p.windows.keys[CUTOFF]
        sizes = (p.windows.num_series, p.windows.n_windows, p.task.h, p.windows.step)
        data.append(DataFacts(summary.name, *sizes, str(cutoffs.min()), str(cutoffs.max()), summary.unit))
    budgets = describe_budgets(summaries[0].budgets)
    if len(summaries) > 1:
        budgets = [sentence_budgets(summary.name, summary.budgets) for summary in summaries if summary.budgets]
    return write_methods(
        MethodFacts(
            data=data,
            models=len(config.models),
            trained=sum(m.is_trainable for m in config.models),
            reference=config.reference,
            seeds=config.seeds,
            refit=describe_refits(config),
            selection=describe_selection(config),
            anew=find_anew(config.models),
            once=find_once(config.models),
            days=describe_days(config, [_describe_cuts(summary.result.prepared) for summary in summaries]),
            budgets=budgets,
            level=max(config.level) if config.level else None,
            ablated=[name for name in wholes if _has_language_model(config, name)],
            ranked=ranked,
        )
    )


def _describe_setting(config: CompareConfig, results: Sequence[TaskResult]) -> Section:
    lines = []
    for result in results:
        p = result.prepared
        cutoffs = p.windows.keys[CUTOFF]
        lines.append(
            f"{p.name}: {p.windows.num_series} series, {p.windows.n_windows} windows of {p.task.h} steps, "
            f"{p.windows.step} apart, cutoffs from {cutoffs.min()} to {cutoffs.max()}. Everything that is "
            "scaled or chosen uses the steps before the first cutoff."
        )
        lines += p.notes
    lines.append(_describe_fits(config, [_describe_cuts(result.prepared) for result in results]))
    lines += [chosen] if (chosen := describe_selection(config)) else []
    return Section("Setting", lines)


def _describe_cuts(prepared: PreparedTask) -> Cuts:
    return Cuts(prepared.windows.n_windows, prepared.task.val_size != 0)


def _describe_fits(config: CompareConfig, cuts: Sequence[Cuts]) -> str:
    refits = describe_refits(config)
    said = [f"Trained models are fitted {refits}."]
    if once := find_once(config.models):
        said.append(f"So {'is' if len(once) == 1 else 'are'} {join_words(once)}, estimated where they are.")
    if anew := find_anew(config.models):
        said.append(f"{join_words(anew)} {'is' if len(anew) == 1 else 'are'} estimated anew at each window.")
    return " ".join([*said, *filter(None, [describe_days(config, cuts)])])


def _name_files(summaries: Sequence[TaskSummary]) -> list[str]:
    """Returns what the tables of each data set are called: its file or task, numbered if it comes twice."""
    names: list[str] = []
    for summary in summaries:
        name = summary.name if summary.result.prepared.loaded.task else Path(summary.name).stem
        name = "".join(c if c.isalnum() or c in "-_" else "-" for c in name)
        names.append(name if name not in names else f"{name}-{len(names) + 1}")
    return names
