"""The report: one self-contained HTML file, and the same as Markdown."""

import datetime
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from tsllm.escape import escape_cell, escape_fenced, escape_markdown
from tsllm.evaluation.figures import Picture

PACKAGES = (
    "tsllm",
    "torch",
    "transformers",
    "peft",
    "trl",
    "accelerate",
    "statsforecast",
    "utilsforecast",
    "numpy",
    "pandas",
    "scipy",
)

# How a table of paired tests is written.
TEST_FORMATS = dict.fromkeys(("skill", "low", "high"), ".1%") | {"p_value": "p", "p_holm": "p", "terms": ".0f"}
TEST_LABELS = {"low": "low (adjusted)", "high": "high (adjusted)", "p_value": "p value (not adjusted)"}
TEST_LABELS |= {"p_holm": "p holm (adjusted)"}

# How Markdown marks the best cell, and the second where a table tells it.
_MARKS: dict[bool | str, str] = {True: "**%s**", "second": "*%s*", False: "%s"}


@dataclass(frozen=True)
class TableBlock:
    """A table of a section.

    Attributes:
        frame: Rows and columns; the first column names the row.
        caption: Text above it.
        best: Columns -> whether lower is better; the best cell of each is marked (bold and a star).
        formats: Column -> format of its numbers as in `write_cell`; default three significant digits.
        notes: Column -> what it means, for the legend below.
        below: Sentences below the legend: how it was tested, what is left out.
        labels: Column -> what stands above it; default its name.
        unranked: Names of rows, as in the first column, that are never marked, and take no mark from others.
    """

    frame: pd.DataFrame
    caption: str
    best: Mapping[str, bool] = field(default_factory=dict)
    formats: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    below: Sequence[str] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    unranked: Sequence[str] = ()

    def label(self, column: Any) -> str:
        """Returns what stands above a column."""
        return self.labels.get(column, str(column).replace("_", " "))

    def rows(self) -> list[list[tuple[str, bool]]]:
        """Returns the cells as (text, whether it is the best of its column)."""
        winners = {}
        out = self.frame.iloc[:, 0].astype(str).isin(self.unranked)
        ranked = self.frame[~out]
        for column, lower in self.best.items():
            values = pd.to_numeric(ranked[column], errors="coerce") if column in ranked else pd.Series(dtype=float)
            if values.notna().any():
                winners[column] = values.min() if lower else values.max()
        return [
            [
                (
                    write_cell(row[column], self.formats.get(column)),
                    column in winners and not lost and row[column] == winners[column],
                )
                for column in self.frame.columns
            ]
            for (_, row), lost in zip(self.frame.iterrows(), out, strict=True)
        ]

    def is_numeric(self, column: str) -> bool:
        """Tells whether a column is set flush right."""
        return self.frame[column].dtype.kind in "iuf"


@dataclass(frozen=True)
class Section:
    """A part of the report: a heading, paragraphs, tables, pictures, commands."""

    title: str
    paragraphs: Sequence[str] = ()
    tables: Sequence[TableBlock] = ()
    pictures: Sequence[Picture] = ()
    code: str = ""


@dataclass(frozen=True)
class Report:
    """What the report says.

    Attributes:
        title: Heading.
        finding: Who wins, by how much, how certain; one paragraph each, the first in large type.
        sections: The rest.
        facts: Name -> value, for the last section: versions, seeds, dates.
        files: Name of a file beside the report -> what it holds; the report links to it.
        attachments: Those of them that are written with it: a table (Parquet) or a text.
    """

    title: str
    finding: Sequence[str]
    sections: Sequence[Section]
    facts: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    attachments: Mapping[str, Any] = field(default_factory=dict)

    def to_html(self) -> str:
        """Renders one HTML page that loads nothing from elsewhere."""
        from jinja2 import Environment, PackageLoader, StrictUndefined

        environment = Environment(
            loader=PackageLoader("tsllm.evaluation", "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        return environment.get_template("report.html.j2").render(report=self)

    def to_markdown(self) -> str:
        """Renders the same without pictures; their alternative text stands instead."""
        lines = [f"# {escape_markdown(self.title)}", "", *_spread(self.finding)]
        for section in self.sections:
            lines += [f"## {escape_markdown(section.title)}", "", *_spread(section.paragraphs)]
            for table in section.tables:
                lines += [f"**{escape_markdown(table.caption)}**", "", *_write_markdown_table(table), ""]
            lines += _spread([f"*Figure.* {p.alt} {p.caption}" for p in section.pictures])
            if section.code:
                lines += ["```", escape_fenced(section.code), "```", ""]
        if self.files:
            lines += ["## Files of this run", ""]
            lines += [
                f"- [{escape_markdown(name)}]({quote(name)}): {escape_markdown(what)}"
                for name, what in self.files.items()
            ]
            lines += [""]
        facts = [f"- {escape_markdown(k)}: {escape_markdown(v)}" for k, v in self.facts.items()]
        lines += ["## Versions and seeds", "", *facts, ""]
        return "\n".join(lines)

    def save(self, path: str | Path) -> Path:
        """Writes the HTML file, and beside it the Markdown and what is attached."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        for name, content in self.attachments.items():
            if isinstance(content, pd.DataFrame):
                content.to_parquet(target.with_name(name), index=False)
            else:
                target.with_name(name).write_text(content, encoding="utf-8")
        target.write_text(self.to_html(), encoding="utf-8")
        target.with_suffix(".md").write_text(self.to_markdown(), encoding="utf-8")
        return target


def write_cell(value: Any, style: str | None = None) -> str:
    """Writes a cell; a missing number as a dash.

    Args:
        value: What it holds.
        style: A format of numbers, or "p" for p-values, which are never written as zero.
    """
    if value is None or (isinstance(value, float) and value != value):
        return "–"
    if isinstance(value, float) and abs(value) == float("inf"):
        return "unbounded"
    if style == "p" and isinstance(value, float):
        return "< 0.0001" if value < 1e-4 else f"{value:.4f}"
    if style is not None and not isinstance(value, str):
        return format(value, style)
    if isinstance(value, float):
        return f"{value:.3g}" if 1e-3 <= abs(value) < 1000 or value == 0 else f"{value:,.3g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)


def describe_environment(seeds: Sequence[int] = ()) -> dict[str, str]:
    """Returns versions, machine, date and seeds for `Report.facts`."""
    facts = {"date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")}
    if seeds:
        facts["seeds"] = ", ".join(map(str, seeds))
    facts["python"] = platform.python_version()
    for name in PACKAGES:
        try:
            facts[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            facts[name] = "not installed"
    facts["machine"] = f"{platform.machine()}, {platform.system()}, {_count_cores()} cores"
    return facts


def _count_cores() -> int:
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _spread(paragraphs: Sequence[str]) -> list[str]:
    return [line for paragraph in paragraphs for line in (escape_markdown(paragraph), "")]


def _write_markdown_table(table: TableBlock) -> list[str]:
    columns = list(table.frame.columns)
    lines = ["| " + " | ".join(escape_cell(table.label(c)) for c in columns) + " |"]
    lines.append("|" + "|".join("---:" if table.is_numeric(c) else "---" for c in columns) + "|")
    for row in table.rows():
        lines.append("| " + " | ".join(_MARKS[best] % escape_cell(text) for text, best in row) + " |")
    lines += [""] + [f"- {table.label(k)}: {escape_markdown(v)}" for k, v in table.notes.items()]
    return lines + [line for sentence in table.below for line in ("", escape_markdown(sentence))]
