"""Names of series, models and data sets in Markdown, tables and figures: shown as they are, never interpreted."""

import re
from typing import Any


def one_line(value: Any) -> str:
    """Returns a text on one line: line breaks and control characters become spaces."""
    return "".join(c if c.isprintable() else " " for c in str(value))


def first_line(value: Any) -> str:
    """Returns the first line of a text that says anything, without its full stop: for the middle of a sentence."""
    lines = [line for line in str(value).splitlines() if line.strip()]
    return one_line(lines[0]).strip().removesuffix(".") if lines else ""


def escape_markdown(value: Any) -> str:
    """Returns a text for Markdown in which no HTML, link or picture begins; line breaks become spaces."""
    text = re.sub(r"<(?=[A-Za-z/!?])", "&lt;", one_line(value))
    return text.replace("](", r"]\(")


def escape_cell(value: Any) -> str:
    """Returns a text for a cell of a Markdown table, which a bar would end."""
    return escape_markdown(value).replace("|", r"\|")


def escape_fenced(value: Any) -> str:
    """Returns a text for a block between fences, which three backticks would end."""
    return str(value).replace("```", "'''")


def escape_label(value: Any, longest: int = 80) -> str:
    """Returns a text for a matplotlib figure: no formula at a dollar, no entry hidden by an underscore."""
    text = one_line(value)
    text = text if len(text) <= longest else text[: longest - 1] + "…"
    return (" " if text.startswith("_") else "") + text.replace("$", r"\$")
