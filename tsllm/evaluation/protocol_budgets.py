"""What training the models of the long-term protocol got: one row of budgets a data set, horizon, model and seed."""

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from tsllm.evaluation.budgets import BudgetRow, describe_budgets, find_unconverged, tabulate_budgets
from tsllm.evaluation.findings import join_words
from tsllm.evaluation.long_term import BUDGET_FACTS, ProtocolCell

Budgets = Mapping[tuple[str, int], Sequence[BudgetRow]]


def group_budgets(cells: Iterable[ProtocolCell]) -> Budgets:
    """Returns (data, h) -> the budgets of the models trained there; a transferred model has those of its source."""
    found: dict[tuple[str, int], list[BudgetRow]] = {}
    for cell in cells:
        if cell.seed is None or "steps" not in cell.facts:
            continue
        budget = {name: cell.facts[name] for name in BUDGET_FACTS}
        found.setdefault((cell.data, cell.h), []).append(BudgetRow(cell.model, cell.seed, **budget))
    return found


def tabulate_rows(budgets: Budgets) -> pd.DataFrame:
    """Returns `data, h` and the columns of `tabulate_budgets`."""
    parts = [tabulate_budgets(rows) for rows in budgets.values()]
    for (data, h), part in zip(budgets, parts, strict=True):
        part.insert(0, "h", h)
        part.insert(0, "data", data)
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def describe_rows(budgets: Budgets) -> list[str]:
    """Says for each data set and horizon whether budgets were equal and how much they were, one paragraph each."""
    several = len(budgets) > 1
    return [
        (f"{data}, {h} steps ahead: " if several else "") + " ".join(describe_budgets(rows))
        for (data, h), rows in budgets.items()
    ]


def warn_of_budgets(budgets: Budgets) -> list[str]:
    """Says which trainings had not converged, and which the limit of seconds cut; empty if all went to their end."""
    late = {place: find_unconverged(rows) for place, rows in budgets.items()}
    cut = {
        place: list(dict.fromkeys(row.model for row in rows if row.stopped_by == "time"))
        for place, rows in budgets.items()
    }
    said = []
    if any(late.values()):
        said.append(
            f"Not converged: {_name_places(late)}; the best validation was the last one, so more training may help."
        )
    if any(cut.values()):
        said.append(f"The limit of seconds ended the training of {_name_places(cut)}.")
    return said


def _name_places(models: Mapping[tuple[str, int], Sequence[str]]) -> str:
    return "; ".join(f"{join_words(names)} on {data} {h}" for (data, h), names in models.items() if names)
