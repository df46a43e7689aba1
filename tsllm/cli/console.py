"""What the commands share: readable errors, quiet libraries, tables, options that repeat."""

import contextlib
import functools
import os
from collections.abc import Callable
from typing import Any, TypeVar

import typer

F = TypeVar("F", bound=Callable[..., Any])


def explain_errors(command: F) -> F:
    """Turns an expected error into one line and exit code 2; TSLLM_DEBUG=1 shows the traceback."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except (ValueError, KeyError, OSError, ImportError, RuntimeError, ArithmeticError) as error:
            if os.environ.get("TSLLM_DEBUG"):
                raise
            typer.secho(f"error: {error}", fg=typer.colors.RED, err=True)
            raise typer.Exit(2) from error

    return run  # type: ignore[return-value]


def quiet_libraries() -> None:
    """Silences progress bars and notices of the libraries; what matters is told by the commands."""
    import warnings

    from transformers.utils import logging as library_logging

    library_logging.set_verbosity_error()
    library_logging.disable_progress_bar()
    warnings.filterwarnings("ignore", message=".*pin_memory.*")


def parse_list(text: str | None) -> list[str]:
    """Splits "a,b, c" into its parts; None and "" give none."""
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def name_list(text: str | None) -> list[str] | None:
    """Splits "a,b" into its parts; None stays None, which means that nobody said."""
    return None if text is None else parse_list(text)


def parse_freq(text: str | None) -> str | int | None:
    """Reads a frequency: digits are an integer step."""
    return int(text) if text is not None and text.isdigit() else text


def parse_levels(text: str | None) -> list[float]:
    """Reads levels such as "80,95".

    Raises:
        ValueError: If one is no number.
    """
    try:
        return [float(part) for part in parse_list(text)]
    except ValueError:
        raise ValueError(f"level {text!r} is no list of numbers such as 80,95") from None


def parse_settings(pairs: list[str] | None) -> dict[str, Any]:
    """Reads repeated `key=value` settings; values are read as YAML, and 1e-3 as a number.

    Raises:
        ValueError: If one has no `=`.
    """
    import yaml

    settings = {}
    for pair in pairs or []:
        key, sign, value = pair.partition("=")
        if not sign or not key.strip():
            raise ValueError(f"cannot read {pair!r}; write key=value, such as num_backbone_layers=4")
        parsed = yaml.safe_load(value)
        if isinstance(parsed, str):
            with contextlib.suppress(ValueError):
                parsed = float(parsed)
        settings[key.strip()] = parsed
    return settings


def print_table(table: Any, title: str = "", formats: dict[str, str] | None = None) -> None:
    """Prints a pandas table with rich; numbers to three significant digits unless `formats` says otherwise."""
    from rich.console import Console
    from rich.table import Table

    grid = Table(title=title or None, header_style="bold", title_justify="left")
    for column in table.columns:
        numeric = table[column].dtype.kind in "if"
        grid.add_column(str(column).replace("_", " "), justify="right" if numeric else "left")
    for row in table.itertuples(index=False):
        cells = [
            format_cell(value, (formats or {}).get(column)) for column, value in zip(table.columns, row, strict=True)
        ]
        grid.add_row(*cells)
    console = Console()
    # Files and pipes have no width of their own.
    (console if console.is_terminal else Console(width=140)).print(grid)


def format_cell(value: Any, style: str | None = None) -> str:
    """Writes a cell; a missing number as a dash."""
    if value is None or (isinstance(value, float) and value != value):
        return "–"
    if style is not None:
        return format(value, style)
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return str(value)
