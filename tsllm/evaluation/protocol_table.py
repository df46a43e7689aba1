"""The paper's table: rows data x horizon, columns models, best and second marked, seeds, published figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from tsllm.escape import escape_cell
from tsllm.evaluation.long_term import ProtocolCell
from tsllm.evaluation.protocol_data import LOSSES
from tsllm.evaluation.published import PUBLISHED
from tsllm.evaluation.report import TableBlock

BEST, SECOND = "best", "second"
AVERAGE = "average"
_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_LATEX |= {c: f"\\{c}" for c in "&%$#_{}"} | {"±": r"$\pm$", "–": "--"}


def tabulate(cells: Sequence[ProtocolCell], published: bool = True) -> pd.DataFrame:
    """Returns one row a data set, horizon and model: means over seeds, their deviation, what is published.

    Args:
        cells: Of all seeds.
        published: Whether the setting is that of published results (all windows, all training data).

    Returns:
        `data, h, model, mse, mae, mse_sd, mae_sd, seeds, failed, look_back, windows, fit_seconds, predict_seconds,
        published_mse, published_mae`. The deviation is that of a sample and NaN for one seed; a model that failed with
        any seed has no scores, and `failed` counts the seeds.
    """
    rows = []
    groups: dict[tuple[str, int, str], list[ProtocolCell]] = {}
    for cell in cells:
        groups.setdefault((cell.data, cell.h, cell.model), []).append(cell)
    for (data, h, model), own in groups.items():
        failed = sum(bool(cell.error) for cell in own)
        row: dict[str, object] = {"data": data, "h": h, "model": model}
        for name in LOSSES:
            values = [cell.scores[name] for cell in own if not cell.error]
            row[name] = float(np.mean(values)) if not failed else np.nan
            row[f"{name}_sd"] = float(np.std(values, ddof=1)) if len(values) > 1 and not failed else np.nan
        row |= {"seeds": len(own), "failed": failed}
        for name in ("look_back", "windows", "fit_seconds", "predict_seconds"):
            known = [float(cell.facts[name]) for cell in own if cell.facts.get(name) is not None]
            row[name] = float(np.mean(known)) if known else np.nan
        book = find_published(data, h, model, row["look_back"]) if published else {}
        rows.append(row | {f"published_{name}": book.get(name, np.nan) for name in LOSSES})
    names = ["data", "h", "model", *LOSSES, *(f"{n}_sd" for n in LOSSES), "seeds", "failed", "look_back", "windows"]
    names += ["fit_seconds", "predict_seconds", *(f"published_{n}" for n in LOSSES)]
    return pd.DataFrame(rows).reindex(columns=names)


def find_published(data: str, h: int, model: str, look_back: object) -> dict[str, float]:
    """Returns the published scores of the same data, horizon, model and look-back, by `LOSSES`; empty if none are."""
    found = {}
    for cell in PUBLISHED:
        same = (cell.data, cell.h, cell.model, cell.context) == (data, h, model, look_back)
        if same and cell.metric.removeprefix("scaled_") in LOSSES:
            found[cell.metric.removeprefix("scaled_")] = cell.value
    return found


def list_published(scores: pd.DataFrame) -> pd.DataFrame:
    """Returns every published figure of the rows of a table, own scores beside it where look-back and model agree."""
    own = scores.set_index(["data", "h", "model"])
    rows = []
    for data, h in dict.fromkeys(zip(scores["data"], scores["h"], strict=True)):
        for cell in PUBLISHED:
            metric = cell.metric.removeprefix("scaled_")
            if (cell.data, cell.h) != (data, h) or metric not in LOSSES:
                continue
            key = (data, h, cell.model)
            yours = own.loc[key, metric] if key in own.index and own.loc[key, "look_back"] == cell.context else np.nan
            rows.append(
                {
                    "data": data,
                    "h": h,
                    "look_back": cell.context,
                    "model": cell.model,
                    "metric": metric,
                    "yours": yours,
                    "published": cell.value,
                    "source": cell.source,
                }
            )
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class WideTable:
    """The table as it is printed.

    Attributes:
        texts: Data and horizon, then one column for each model and loss; rows of averages where a data set has
            several horizons.
        marks: (row, column) -> "best" or "second" of its row and loss.
    """

    texts: pd.DataFrame
    marks: Mapping[tuple[int, str], str] = field(default_factory=dict)

    def to_block(self, caption: str, below: Sequence[str] = ()) -> TableBlock:
        """Returns the table for the report."""
        return _MarkedBlock(self.texts, caption, below=below, marks=self.marks)

    def to_markdown(self) -> str:
        """Returns Markdown: the best in bold, the second in italics."""
        sign = {BEST: "**", SECOND: "*", None: ""}
        lines = [_join(self.texts.columns), _join(["---"] * len(self.texts.columns))]
        for k, row in enumerate(self.texts.itertuples(index=False)):
            marks = [sign[self.marks.get((k, column))] for column in self.texts.columns]
            lines.append(_join(f"{m}{escape_cell(text)}{m}" for m, text in zip(marks, row, strict=True)))
        return "\n".join(lines) + "\n"

    def to_latex(self, caption: str) -> str:
        """Returns a LaTeX table for the package booktabs: the best in bold, the second underlined."""
        sign = {BEST: r"\textbf{%s}", SECOND: r"\underline{%s}", None: "%s"}
        columns = list(self.texts.columns)
        lines = [r"\begin{table}", r"\centering", rf"\caption{{{_escape_latex(caption)}}}"]
        lines += [rf"\begin{{tabular}}{{ll{'r' * (len(columns) - 2)}}}", r"\toprule"]
        lines += [" & ".join(map(_escape_latex, columns)) + r" \\", r"\midrule"]
        for k, row in enumerate(self.texts.itertuples(index=False)):
            cells = [
                sign[self.marks.get((k, column))] % _escape_latex(text)
                for column, text in zip(columns, row, strict=True)
            ]
            lines.append(" & ".join(cells) + r" \\")
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"]) + "\n"


@dataclass(frozen=True)
class _MarkedBlock(TableBlock):
    """A table whose best and second cells are those of their rows."""

    marks: Mapping[tuple[int, str], str] = field(default_factory=dict)

    def rows(self) -> list[list[tuple[str, bool | str]]]:  # type: ignore[override]
        """Returns the cells as (text, mark): True = best, "second", or False."""
        words: dict[str | None, bool | str] = {BEST: True, SECOND: SECOND, None: False}
        return [
            [(str(text), words[self.marks.get((k, c))]) for c, text in zip(self.frame.columns, row, strict=True)]
            for k, row in enumerate(self.frame.itertuples(index=False))
        ]


def widen(scores: pd.DataFrame) -> WideTable:
    """Lays out a table of `tabulate` as papers do.

    A cell reads "mean ± deviation / published", as far as there are seeds and figures; "failed" counts seeds.
    """
    models = list(dict.fromkeys(scores["model"]))
    rows: list[dict[str, str]] = []
    marks: dict[tuple[int, str], str] = {}
    for data, own in scores.groupby("data", sort=False):
        blocks = [(str(h), part.set_index("model")) for h, part in own.groupby("h", sort=False)]
        if len(blocks) > 1:
            blocks.append((AVERAGE, _average_horizons([part for _, part in blocks], models)))
        for h, part in blocks:
            texts = {"data": str(data), "h": h}
            for loss in LOSSES:
                for model in models:
                    texts[f"{model} {loss.upper()}"] = _write(part, model, loss)
                ranked = part[loss].dropna().sort_values(kind="stable")
                for value, mark in zip(ranked.unique()[:2], (BEST, SECOND), strict=False):
                    for model in ranked.index[ranked == value]:
                        marks[len(rows), f"{model} {loss.upper()}"] = mark
            rows.append(texts)
    columns = ["data", "h", *(f"{m} {loss.upper()}" for m in models for loss in LOSSES)]
    return WideTable(pd.DataFrame(rows)[columns], marks)


def _mean_of_all(column: pd.Series) -> float:
    return float(column.mean(skipna=False))


def _average_horizons(parts: Sequence[pd.DataFrame], models: Sequence[str]) -> pd.DataFrame:
    """Returns the mean over horizons of the models that forecast all of them."""
    names = [*LOSSES, *(f"published_{n}" for n in LOSSES)]
    complete = [part.reindex(list(models)) for part in parts]
    stacked = pd.concat([part[names] for part in complete]).groupby(level=0, sort=False)
    table = stacked.agg(_mean_of_all)
    missing = sum(part["failed"].fillna(0) for part in complete)
    return table.assign(failed=missing, seeds=np.nan, **{f"{n}_sd": np.nan for n in LOSSES})


def _write(part: pd.DataFrame, model: str, loss: str) -> str:
    if model not in part.index:
        return "–"
    row = part.loc[model]
    if not np.isfinite(row[loss]):
        of = f" of {row['seeds']:.0f}" if np.isfinite(row["seeds"]) else ""
        return f"failed ({row['failed']:.0f}{of})"
    text = f"{row[loss]:.3f}"
    if np.isfinite(row[f"{loss}_sd"]):
        text += f" ± {row[f'{loss}_sd']:.3f}"
    if np.isfinite(row[f"published_{loss}"]):
        text += f" / {row[f'published_{loss}']:.3f}"
    return text


def _join(cells: object) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"  # type: ignore[call-overload]


def _escape_latex(text: object) -> str:
    return "".join(_LATEX.get(c, c) for c in str(text)).replace("->", r"$\to$")
