"""The finding in words, from the tables; never more than the tests say."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from tsllm.evaluation.backtest import Failure
from tsllm.evaluation.significance import AUTOCORRELATED, FEW_SEEDS

MANY_CUTOFFS = 50  # from so many on, simulated sizes hold up to an autocorrelation of .9
VERDICTS = ("better", "worse", "no difference shown", "not tested")


def describe_winner(
    table: pd.DataFrame,
    pairs: pd.DataFrame,
    metric: str = "mae",
    unit: str = "",
    tested: str = "",
    unconverged: Sequence[str] = (),
) -> list[str]:
    """Says who has the lowest error, and of whom that can be told apart.

    Args:
        table: From `score`.
        pairs: `compare_with_best(losses, best=winner)`: every model against the winner.
        metric: Column that ranks.
        unit: Unit of the metric, for the text.
        tested: Column whose differences are tested, if another one.
        unconverged: Models that did not converge, from `find_unconverged`.

    Returns:
        Sentences; the first is the headline.
    """
    complete = table[table["failed"] == 0].dropna(subset=[metric]).sort_values(metric, kind="stable")
    if complete.empty:
        return ["No model forecast every window, so none is ranked."]
    winner, error = complete["model"].iloc[0], complete[metric].iloc[0]
    said = f"{name_metric(metric)} {error:.3g}{' ' + unit if unit else ''}"
    rows = {row["model"]: row for row in read_rows(pairs)}
    others = [str(m) for m in complete["model"] if m != winner]
    verdicts = {m: rows[m]["verdict"] if m in rows else "not tested" for m in others}
    by_verdict = {v: [m for m in others if verdicts[m] == v] for v in VERDICTS}
    ahead, tied, untested = (by_verdict[v] for v in ("better", "no difference shown", "not tested"))
    if len(table) == 1:
        headline = f"{winner} was run alone ({said}), so there is nothing to compare."
    elif not others:
        headline = f"{winner} alone forecast every window ({said}), so there is nothing to rank it with."
    elif ahead:
        headline = (
            f"{winner} ranks first ({said}), but {join_words(ahead)} did significantly better in "
            f"{name_metric(tested or metric)}."
        )
    elif tied:
        headline = (
            f"{winner} has the lowest error ({said}), but the test, adjusted for all pairs, does not tell it from "
            f"{join_words(tied)}."
        )
    elif untested:
        reasons = _give_reasons([rows.get(m, {"model": m}) for m in untested])
        headline = f"{winner} has the lowest error ({said}); not tested against {reasons}."
    else:
        rest = "every other model" if len(complete) == len(table) else "every other model that forecast every window"
        headline = f"{winner} wins: {said}, significantly less than {rest}."
    if tied and untested:
        headline += f" Not tested: {_give_reasons([rows.get(m, {'model': m}) for m in untested])}."
    sentences = [headline + describe_unconverged(unconverged)]
    losers = pairs[(pairs["verdict"] == "worse") & pairs["model"].isin(others)] if len(pairs) else pairs
    if len(losers):
        parts = [
            f"{row['model']} (its error is {describe_ratio(row['skill'], row['low'], row['high'])}, "
            f"{write_p(row['p_holm'])})"
            for row in read_rows(losers.sort_values("skill", ascending=False))
        ]
        adjusted = "intervals and p adjusted for all pairs"
        sentences.append(f"Significantly better than {join_words(parts)}; {adjusted}.")
    for row in table[table["failed"] > 0].itertuples():
        sentences.append(
            f"{row.model} gave no forecast in {row.failed} windows (counted in each series); it is shown but not "
            "ranked."
        )
    return sentences


def describe_model(
    model: str,
    table: pd.DataFrame,
    pairs: pd.DataFrame,
    metric: str = "mae",
    unconverged: Sequence[str] = (),
    variants_apart: bool = False,
) -> str:
    """Says where one model stands against a reference: rank, skill, interval and verdict.

    Args:
        model: Alias.
        table: From `score`; a model that lacks windows has no rank and takes none from others.
        pairs: `compare_to(losses, reference)`.
        metric: Column that ranks.
        unconverged: As in `describe_winner`.
        variants_apart: Whether the report has variants of a model, which the table leaves out.
    """
    row = next((row for row in read_rows(pairs) if row["model"] == model), None)
    if row is None:
        raise ValueError(f"{model!r} is not among the models that were compared: {pairs['model'].tolist()}")
    if row["skill"] != row["skill"]:
        return f"{model} gave no forecast that could be compared with {row['reference']}."
    complete = table[table["failed"] == 0] if "failed" in table else table
    order = [str(m) for m in complete.sort_values(metric, kind="stable")["model"]]
    if model in order:
        place = f"{model} is number {order.index(model) + 1} of {len(order)}"
        place += " (variants are not ranked)" if variants_apart else ""
    else:
        lacking = int(table.loc[table["model"] == model, "failed"].iloc[0])
        place = (
            f"{model} has no rank, as it gave no forecast in {lacking} windows (counted in each series); on the "
            f"{row['n']} it shares"
        )
    amount = f"{abs(100 * row['skill']):.1f} % {'less' if row['skill'] >= 0 else 'more'} error than {row['reference']}"
    if row["verdict"] == "not tested":
        return f"{place}: {amount}, not tested: {row.get('note') or 'no reason known'}."
    interval = f"adjusted 95 % interval {write_interval(row['low'], row['high'], row['skill'])}"
    p = f"{write_p(row['p_holm'])}, adjusted for the comparisons with {row['reference']} alone"
    said = {
        "better": f"a significant gain ({p})",
        "worse": f"a significant loss ({p})",
        "no difference shown": f"which the test does not tell from no difference ({p})",
    }
    return f"{place}: {amount} ({interval}), {said[row['verdict']]}." + describe_unconverged(
        [m for m in unconverged if m in (model, row["reference"])]
    )


def describe_help(
    model: str,
    rows: Sequence[Mapping[str, Any]],
    explained: Mapping[str, str],
    not_run: Sequence[str] = (),
    unconverged: Sequence[str] = (),
) -> list[str]:
    """Answers whether the pretrained language model helps, as far as the paired tests go.

    Args:
        model: Alias of the whole model.
        rows: Of `compare_to(losses, model)`: the variants without a pretrained language model against the whole one;
            "worse" = the whole one is better.
        explained: Alias -> what the variant is.
        not_run: Variants of this kind that were not asked for.
        unconverged: As in `describe_winner`.

    Returns:
        Sentences; the first is the headline, which says yes only if every variant was tested and is worse.
    """
    if not rows:
        return ["No variant without a pretrained language model was run, so the question stays open."]
    tested = [r for r in rows if r["verdict"] != "not tested"]
    untested = [r for r in rows if r["verdict"] == "not tested"]
    better = [r["model"] for r in tested if r["verdict"] == "better"]
    tied = [r["model"] for r in tested if r["verdict"] == "no difference shown"]
    worse = [r["model"] for r in tested if r["verdict"] == "worse"]
    if not tested:
        headline = f"Open: no variant without a pretrained language model was tested: {_give_reasons(untested)}."
    elif better:
        headline = f"No: {join_words(better)}, without a pretrained language model, did significantly better here."
    elif tied:
        headline = (
            f"No help shown: the test does not tell {model} from {join_words(tied)}. That is no proof of equality; "
            "the intervals say how large a help could still hide."
        )
    elif untested:
        headline = (
            f"Open: {model} is significantly better than {join_words(worse)}, but not tested against "
            f"{_give_reasons(untested)}."
        )
    elif not_run:
        headline = (
            f"Yes, as far as was tried: {model} is significantly better than {join_words(worse)}; "
            f"{join_words(list(not_run))} {'was' if len(not_run) == 1 else 'were'} not run."
        )
    else:
        headline = (
            f"Yes, on these windows: {model} is significantly better than every variant without a pretrained one: "
            f"{join_words(worse)}."
        )
    lines = [headline + describe_unconverged([m for m in unconverged if m == model or m in explained])]
    return lines + _describe_rows(model, rows, explained)


def describe_variants(
    model: str, rows: Sequence[Mapping[str, Any]], explained: Mapping[str, str], unconverged: Sequence[str] = ()
) -> list[str]:
    """Says whether variants do better than the whole model, whatever they change in it.

    Args:
        model: Alias of the whole model.
        rows: Of `compare_to(losses, model)`; "worse" = the whole one is better.
        explained: Alias -> what the variant is.
        unconverged: As in `describe_winner`.

    Returns:
        Sentences; the first asks and answers.
    """
    named = join_words([f"{row['model']} ({explained.get(row['model'], '')})" for row in rows])
    asked = f"{'Does' if len(rows) == 1 else 'Do'} {named} do better than {model}?"
    words = {
        "better": "Yes: {} did significantly better here",
        "worse": "{} did significantly worse",
        "no difference shown": "the test does not tell {} from it, which is no proof of equality",
    }
    groups = {verdict: [str(r["model"]) for r in rows if r["verdict"] == verdict] for verdict in words}
    said = [words[verdict].format(join_words(models)) for verdict, models in groups.items() if models]
    untested = [row for row in rows if row["verdict"] == "not tested"]
    said += [f"not tested: {_give_reasons(untested)}"] if untested else []
    answer = "; ".join(said)
    lines = [f"{asked} {answer[:1].upper()}{answer[1:]}." + describe_unconverged(unconverged)]
    return lines + _describe_rows(model, rows, explained)


def _describe_rows(model: str, rows: Sequence[Mapping[str, Any]], explained: Mapping[str, str]) -> list[str]:
    """Returns a sentence for each variant: how much its error differs from the whole model's."""
    lines = []
    for row in (r for r in rows if r["verdict"] != "not tested"):
        gain = "less" if row["skill"] >= 0 else "more"
        lines.append(
            f"{row['model']} ({explained.get(row['model'], '')}): {abs(100 * row['skill']):.1f} % {gain} error than "
            f"{model} (adjusted 95 % interval {write_interval(row['low'], row['high'], row['skill'])}, adjusted "
            f"{write_p(row['p_holm'])}): {row['verdict']}."
        )
    return lines + [
        f"{row['model']} ({explained.get(row['model'], '')}): not tested, {_note(row)}."
        for row in rows
        if row["verdict"] == "not tested"
    ]


def describe_unconverged(models: Sequence[str]) -> str:
    """Returns the addition to a verdict that rests on models that had not converged; empty if none."""
    if not models:
        return ""
    verb = "has" if len(models) == 1 else "have"
    return f" Not converged: {join_words(list(models))} {verb} the best validation at the first or at the last step."


def describe_tests(
    pairs: pd.DataFrame, overlap: int | Sequence[int], tables: int = 1, trained: bool = True
) -> list[str]:
    """Says below a table of tests what stands in it: unit, number, variance, adjustment, seeds.

    Args:
        pairs: From `compare_to`, `compare_with_best` or `compare_in_rows`.
        overlap: How many consecutive windows share a target step; several numbers where rows differ.
        tables: Tables of tests in the same report.
        trained: Whether any model in it is trained here, so that its seed matters.
    """
    done = pairs[pairs["verdict"] != "not tested"] if len(pairs) else pairs
    if not len(done):
        return ["Nothing in this table was tested."]
    unit = done["unit"].iloc[0]
    units = f"{_spread(done['n'])} {'cutoffs' if unit == 'cutoff' else 'series'}"
    shared = pd.Series(overlap)
    if unit == "cutoff":
        what = f"Unit of the test: the cutoff, mean over its series and seeds; n = {units}"
        what += (
            f", of which {_spread(shared)} neighbours share steps"
            if shared.max() > 1
            else ", which share no target step"
        )
        variance = (
            f"Long-run variance from {_spread(done['terms'])} cosine terms (chosen by n, overlap and the "
            "autocorrelation of the differences), t critical values with as many degrees of freedom"
        )
    else:
        what = f"Unit of the test: the series, taken as independent of one another; n = {units}"
        variance = "Paired t-test"
    family = int(done["tests"].iloc[0])
    adjusted = f"p holm: adjusted by Holm over a family of {family} test{'s' if family > 1 else ''}"
    if family > len(done):
        adjusted += ", all pairs of models, because the reference was chosen by its error here"
    if tables > 1:
        adjusted += (
            f"; the {tables} tables of tests in this report are a family each, so 5 % holds for each table and not "
            "for all together"
        )
    intervals = "low, high: interval of the skill at the level of that adjustment; excludes zero where p holm < .05"
    lines = [f"{what}. {variance}.", f"p value: unadjusted. {adjusted}. {intervals}."]
    seeds = int(pairs["seeds"].max())
    if seeds > 1:
        lines.append(f"{seeds} seeds, as a random effect: differences between seeds count into variance and freedom.")
    elif trained:
        lines.append("One seed: the tests speak of these trained models, not of what training anew would give.")
    if unit == "cutoff" and done["n"].min() < MANY_CUTOFFS:
        lines.append(
            f"Fewer than {MANY_CUTOFFS} cutoffs: in simulations the size of 5 % holds up to an autocorrelation of .5 "
            "between cutoffs; so few of them do not tell a stronger one reliably."
        )
    few = list(dict.fromkeys(str(r["model"]) for r in read_rows(done) if FEW_SEEDS in str(r["note"])))
    if few:
        lines.append(
            f"Caution: two seeds tell little of how much training varies; against a model without seeds the test may "
            f"reject a true null in about 10 % of cases ({join_words(few)}). Three seeds or more would help."
        )
    persistent = list(dict.fromkeys(str(r["model"]) for r in read_rows(done) if AUTOCORRELATED in str(r["note"])))
    if persistent:
        lines.append(
            f"Caution: the differences of {join_words(persistent)} are so strongly autocorrelated that the test may "
            "reject a true null in more than 10 % of cases; more windows would help."
        )
    return lines


def describe_failures(failures: Sequence[Failure]) -> list[str]:
    """Says what raised, one sentence a failure, the same ones joined."""
    counts: dict[tuple[str, str, str], int] = {}
    for failure in failures:
        key = (failure.model, failure.stage, failure.error)
        counts[key] = counts.get(key, 0) + failure.windows
    return [
        f"{model} failed in {n} windows, counted in each series ({stage}): {error}"
        for (model, stage, error), n in counts.items()
    ]


def read_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Returns the rows of a frame as mappings."""
    return [{str(k): v for k, v in row.items()} for row in frame.to_dict("records")]


def describe_ratio(skill: float, low: float, high: float) -> str:
    """Writes a negative skill as "12.3 % higher [9.1, 15.2]"."""
    return f"{-100 * skill:.1f} % higher [{_bound(-high)}, {_bound(-low)}]"


def write_interval(low: float, high: float, skill: float = 0.0) -> str:
    """Writes an interval of skills in per cent, turned round if the skill is negative and told as "more error".

    A bound that the data do not give is "unbounded".
    """
    if skill < 0:
        low, high = -high, -low
    return f"{_bound(low)} to {_bound(high)} %"


def write_p(p_value: float) -> str:
    """Writes "p = .123", or "p < .001" below that."""
    return "p < .001" if p_value < 0.001 else f"p = {p_value:.3f}".replace("0.", ".")


def join_words(words: Sequence[str]) -> str:
    """Joins words with commas and a last "and"."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def name_metric(metric: str) -> str:
    """Writes a column's name as a metric's: "scaled_mae" as "scaled MAE"."""
    scaled, _, name = metric.rpartition("_")
    return f"{scaled} {name.upper()}".strip()


def _bound(value: float) -> str:
    return f"{100 * value:.1f}" if np.isfinite(value) else "unbounded"


def _spread(values: pd.Series) -> str:
    low, high = int(values.min()), int(values.max())
    return f"{low}" if low == high else f"{low} to {high}"


def _note(row: Mapping[str, Any]) -> str:
    return str(row.get("note") or "no reason known")


def _give_reasons(rows: Sequence[Mapping[str, Any]]) -> str:
    """Writes models with the reason why each was not tested, those of one reason together."""
    reasons: dict[str, list[str]] = {}
    for row in rows:
        reasons.setdefault(_note(row), []).append(str(row["model"]))
    return "; ".join(f"{join_words(models)} ({reason})" for reason, models in reasons.items())
