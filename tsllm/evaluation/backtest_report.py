"""The report of `tsllm backtest --report`: scores, forecasts, error by step and cost of one back-test."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from tsllm.data.loading import LoadedData
from tsllm.evaluation import figures
from tsllm.evaluation.backtest import BacktestResult
from tsllm.evaluation.report import Report, Section, TableBlock, describe_environment, write_cell
from tsllm.evaluation.tables import (
    COST_FORMATS,
    LEGEND,
    WindowArrays,
    compute_step_skill,
    find_incomplete,
    rank_rows,
)
from tsllm.evaluation.text_changes import TextChanges
from tsllm.evaluation.told_report import build_told_section, examine_told, tabulate_changes
from tsllm.evaluation.windows import Windows
from tsllm.types import CUTOFF, ID

BASELINE = "SeasonalNaive"
SCORES = ("mae", "rmse", "mase", "smape", "wql", "coverage", "width", "skill", "win_rate", "failed")
COSTS = ("fit_seconds", "predict_seconds", "ms_per_window", "trained_parameters", "total_parameters")
MAX_LINES = 6  # more lines in one picture cannot be told apart
MAX_DRAWN = 3  # forecasts in one panel, the best ones, besides the baseline


def build_backtest_report(
    result: BacktestResult,
    table: pd.DataFrame,
    loaded: LoadedData,
    *,
    stem: str,
    season: int,
    said: Sequence[str] = (),
    command: str = "",
    windows: Windows | None = None,
) -> Report:
    """Puts the report of a back-test together.

    Args:
        result: The back-test.
        table: One row a model: `model`, scores as `score` gives them, costs as `read_costs` does.
        loaded: The data; forecasts are attached under its column names.
        stem: Name of the report's file without ending; what lies beside it begins with this.
        season: Steps in a season; four of them are drawn before each forecast.
        said: What a reader must know besides the numbers.
        command: What repeats it.
        windows: The windows of the back-test, by which it is seen what texts changed; None = no look at them.
    """
    table = rank_rows(table, "mae").reset_index(drop=True)
    name = loaded.name or "the data"
    sections = [_show_scores(result, table, said), _show_forecasts(result, table, loaded.df, season)]
    sections.append(_show_costs(table))
    told: list[TextChanges] = []
    if windows is not None:
        told, lost = examine_told(result.fitted, result.frame, windows, loaded.freq)
        sections += build_told_section(told, loaded.df, season, lost=lost)
    if command:
        sections.append(Section("How to repeat it", code=command))
    forecasts, scores = f"{stem}-forecasts.parquet", f"{stem}-scores.csv"
    files = {forecasts: "forecasts beside what happened", scores: "scores and costs of this report"}
    attached: dict[str, Any] = {forecasts: loaded.names.write(result.frame), scores: table.to_csv(index=False)}
    if told:
        files[f"{stem}-texts.csv"] = "the texts, what was understood, and the weight of each sentence"
        attached[f"{stem}-texts.csv"] = tabulate_changes(told).to_csv(index=False)
    return Report(
        f"Back-test on {name}",
        describe_best(result, table),
        [section for section in sections if section.tables or section.pictures or section.code or section.paragraphs],
        describe_environment(),
        files,
        attached,
    )


def describe_best(result: BacktestResult, table: pd.DataFrame) -> list[str]:
    """Says which model has the least error, how much less than the seasonal naive, and what that does not say."""
    windows = int(result.frame.groupby(ID, sort=False)[CUTOFF].nunique().max())
    series = result.frame[ID].nunique()
    over = f"over {windows} window{'s' * (windows > 1)} of {result.h} step{'s' * (result.h > 1)}, {series} series"
    ranked = table[(table["failed"] == 0) & table["mae"].notna()].sort_values("mae", kind="stable")
    if ranked.empty:
        return [f"No model forecast all windows ({over}), so none is ranked."]
    best = ranked.iloc[0]
    sentence = f"{best['model']} has the least mean absolute error, {write_cell(float(best['mae']))}, {over}"
    if "skill" in ranked and best["model"] != BASELINE and pd.notna(best["skill"]):
        much = abs(float(best["skill"]))
        sentence += f"; that is {much:.1%} {'less' if best['skill'] >= 0 else 'more'} than the seasonal naive's"
    found = [f"{sentence}."]
    if len(ranked) > 1:
        found.append("Whether a difference is more than chance is not tested here; tsllm compare tests it.")
    if len(ranked) < len(table):
        lost = ", ".join(map(str, table.loc[~table["model"].isin(ranked["model"]), "model"]))
        found.append(f"Not ranked, because windows have no forecast: {lost}.")
    return found


def _show_scores(result: BacktestResult, table: pd.DataFrame, said: Sequence[str]) -> Section:
    shown = [c for c in SCORES if c in table and table[c].notna().any()]
    notes = {c: LEGEND[c][0] for c in shown}
    if result.level and "coverage" in notes:
        notes["coverage"] = f"share inside the {max(result.level):g} % interval"
    scores = TableBlock(
        table[["model", *shown]],
        "Scores, mean over all windows",
        best={c: LEGEND[c][1] for c in shown if c not in ("coverage", "width", "failed")},
        formats={"skill": ".1%", "win_rate": ".0%", "coverage": ".1%", "failed": ".0f"},
        notes=notes,
        below=said,
        unranked=find_incomplete(table),
    )
    failures = [f"{f.model} failed ({f.stage}): {f.error}" for f in result.failures]
    return Section("Accuracy", failures, [scores])


def _show_forecasts(result: BacktestResult, table: pd.DataFrame, df: pd.DataFrame, season: int) -> Section:
    order = [str(m) for m in table["model"]]
    complete = [m for m in order if result.frame[m].notna().all()]
    pictures: list[Any] = []
    if complete:
        chosen = list(dict.fromkeys([*complete[:MAX_DRAWN], *(m for m in complete if m == BASELINE)]))
        widest = max(result.level) if result.level else None
        pictures.append(figures.draw_forecasts(df, result.frame, chosen, 4 * season, widest, order))
    if BASELINE in complete and len(complete) > 1:
        drawn = [m for m in complete if m != BASELINE][: MAX_LINES - 1]
        arrays = WindowArrays.of(result.frame, [BASELINE, *drawn], result.h, [])
        pictures.append(figures.draw_step_skill(compute_step_skill(arrays, BASELINE), BASELINE, order))
    return Section("Forecasts", pictures=pictures)


def _show_costs(table: pd.DataFrame) -> Section:
    known = [c for c in COSTS if c in table and table[c].notna().any()]
    block = TableBlock(
        table[["model", *known]],
        "What each took",
        formats=COST_FORMATS,
        notes={"ms_per_window": "forecast of one window, batched as here"} if "ms_per_window" in known else {},
    )
    return Section("Cost", tables=[block] if known else [])
