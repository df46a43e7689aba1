"""The finding in words, from the tables; never more than the tests say."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from tsllm.evaluation.backtest import Failure


def describe_winner(table: pd.DataFrame, pairs: pd.DataFrame, metric: str = "mae", unit: str = "") -> list[str]:
    """Says who has the lowest error, and of whom that can be told apart.

    Args:
        table: From `score`.
        pairs: `compare_to(losses, winner)`: every model against the winner.
        metric: Column that ranks.
        unit: Unit of the metric, for the text.

    Returns:
        Sentences; the first is the headline.
    """
    complete = table[table["failed"] == 0].dropna(subset=[metric]).sort_values(metric, kind="stable")
    if complete.empty:
        return ["No model forecast every window, so none is ranked."]
    winner, error = complete["model"].iloc[0], complete[metric].iloc[0]
    said = f"{name_metric(metric)} {error:.3g}{' ' + unit if unit else ''}"
    losers = list(pairs.loc[pairs["verdict"] == "worse", "model"])
    tied = list(pairs.loc[pairs["verdict"] == "no difference shown", "model"])
    untested = list(pairs.loc[pairs["verdict"] == "not tested", "model"])
    if len(table) == 1:
        headline = f"{winner} was run alone ({said}), so there is nothing to compare."
    elif tied:
        headline = f"{winner} has the lowest error ({said}), but the test does not tell it from {join_words(tied)}."
    elif untested or not losers:
        headline = f"{winner} has the lowest error ({said}); too few windows to test the differences."
    else:
        headline = f"{winner} wins: {said}, significantly less than every other model."
    sentences = [headline]
    if losers:
        parts = [
            f"{row['model']} (its error is {describe_ratio(row['skill'], row['low'], row['high'])}, "
            f"{write_p(row['p_holm'])})"
            for row in read_rows(pairs[pairs["verdict"] == "worse"].sort_values("skill", ascending=False))
        ]
        sentences.append(f"Significantly better than {join_words(parts)}.")
    failed = table[table["failed"] > 0]
    for row in failed.itertuples():
        sentences.append(f"{row.model} gave no forecast in {row.failed} windows; it is shown but not ranked.")
    return sentences


def describe_model(model: str, table: pd.DataFrame, pairs: pd.DataFrame) -> str:
    """Says where one model stands against a reference: skill, interval and verdict.

    Args:
        model: Alias.
        table: From `score`, with `skill`.
        pairs: `compare_to(losses, reference)`.
    """
    row = next(row for row in read_rows(pairs) if row["model"] == model)
    if row["skill"] != row["skill"]:
        return f"{model} gave no forecast that could be compared with {row['reference']}."
    rank = int(table.sort_values("mae", kind="stable")["model"].tolist().index(model)) + 1
    place = f"{model} is number {rank} of {len(table)}"
    amount = f"{abs(100 * row['skill']):.1f} % {'less' if row['skill'] >= 0 else 'more'} error than {row['reference']}"
    interval = f"95 % interval {write_interval(row['low'], row['high'])}"
    said = {
        "better": f"a significant gain ({write_p(row['p_holm'])})",
        "worse": f"a significant loss ({write_p(row['p_holm'])})",
        "no difference shown": f"which the test does not tell from no difference ({write_p(row['p_holm'])})",
        "not tested": "with too few windows to test",
    }
    return f"{place}: {amount} ({interval}), {said[row['verdict']]}."


def describe_failures(failures: Sequence[Failure]) -> list[str]:
    """Says what raised, one sentence a failure, the same ones joined."""
    counts: dict[tuple[str, str, str], int] = {}
    for failure in failures:
        key = (failure.model, failure.stage, failure.error)
        counts[key] = counts.get(key, 0) + failure.windows
    return [f"{model} failed in {n} windows ({stage}): {error}" for (model, stage, error), n in counts.items()]


def read_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Returns the rows of a frame as mappings."""
    return [{str(k): v for k, v in row.items()} for row in frame.to_dict("records")]


def describe_ratio(skill: float, low: float, high: float) -> str:
    """Writes a negative skill as "12.3 % higher [9.1, 15.2]"."""
    return f"{-100 * skill:.1f} % higher [{-100 * high:.1f}, {-100 * low:.1f}]"


def write_interval(low: float, high: float) -> str:
    """Writes an interval of skills in per cent."""
    return f"{100 * low:.1f} to {100 * high:.1f} %"


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
