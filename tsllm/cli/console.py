"""What the commands share: readable errors, quiet libraries, tables, options that repeat."""

import contextlib
import functools
import os
import shlex
from collections.abc import Callable
from typing import Any, TypeVar

import click
import typer
import yaml
from typer.core import TyperCommand

from tsllm.escape import one_line

F = TypeVar("F", bound=Callable[..., Any])


# Errors whose text was written for the user; any other is told with its kind.
_EXPECTED = (ValueError, LookupError, OSError, ImportError, RuntimeError, ArithmeticError)


def explain_errors(command: F) -> F:
    """Turns any error into one line and exit code 2; TSLLM_DEBUG=1 shows the traceback."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except (typer.Exit, typer.Abort, click.ClickException, BrokenPipeError):
            raise  # Typer ends quietly where `| head` has read enough
        except Exception as error:
            if os.environ.get("TSLLM_DEBUG"):
                raise
            typer.secho(f"error: {describe_error(error)}", fg=typer.colors.RED, err=True)
            raise typer.Exit(2) from error

    return run  # type: ignore[return-value]


class Command(TyperCommand):
    """A command that offers the option which somebody meant, not merely one that is written alike."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Reads the options; an unknown one is told with the nearest ones that there are."""
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            # By its attributes, because the class of the error differs between versions of Typer.
            if hasattr(error, "possibilities") and hasattr(error, "option_name"):
                from tsllm.near import find_near

                known = [name for param in self.params if param.param_type_name == "option" for name in param.opts]
                error.possibilities = find_near(error.option_name, known)
            raise


def write_call(ctx: typer.Context) -> str:
    """Writes the command line of the running command as it can be pasted; what was left out is left out."""
    words = ["tsllm", str(ctx.info_name)]
    for param in ctx.command.params:
        source = ctx.get_parameter_source(str(param.name))
        if source is None or source.name != "COMMANDLINE":
            continue
        value = ctx.params[str(param.name)]
        if param.param_type_name == "argument":
            words.append(shlex.quote(str(value)))
        elif isinstance(value, bool):
            words.append((param.opts if value else param.secondary_opts)[0])
        else:
            for one in value if isinstance(value, list | tuple) else [value]:
                words += [param.opts[0], shlex.quote(str(one))]
    return " ".join(words)


def run_main(main: Callable[[], Any]) -> None:
    """Runs the main function of a recipe; any error becomes one line and exit code 2, as in a command.

    A recipe that was launched for more processes than run is refused.
    """
    from tsllm.cli.launched import check_processes

    try:
        check_processes()
        main()
    except Exception as error:
        if os.environ.get("TSLLM_DEBUG"):
            raise
        typer.secho(f"error: {describe_error(error)}", fg=typer.colors.RED, err=True)
        raise SystemExit(2) from None


def describe_error(error: Exception) -> str:
    """Writes an error for somebody who did not write the program."""
    text = str(error).strip()
    if isinstance(error, yaml.YAMLError):
        return f"cannot read the YAML: {text}"
    if isinstance(error, MemoryError):
        return f"not enough memory ({text or 'no details'}); take fewer series, a shorter context or a smaller model"
    if any(base.__name__ == "TransportError" and base.__module__.startswith("httpx") for base in type(error).__mro__):
        return f"no connection to the Hugging Face Hub ({text}); check the network, or work with local folders"
    bare = isinstance(error, LookupError) and type(error) in (KeyError, IndexError)
    if text and isinstance(error, _EXPECTED) and not bare:
        return text
    return f"{type(error).__name__}: {text or 'no details'} (not foreseen; TSLLM_DEBUG=1 shows where)"


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


def parse_counts(option: str, text: str) -> list[int]:
    """Reads whole numbers such as "0,1,2".

    Args:
        option: What they were given with (`--seeds`).
        text: Numbers, separated by commas.

    Raises:
        ValueError: If one is no whole number, or there is none.
    """
    try:
        numbers = [int(part) for part in parse_list(text)]
    except ValueError:
        numbers = []
    if not numbers:
        raise ValueError(f"{option} is {text!r}; give whole numbers, separated by commas: {option} 0,1,2")
    return numbers


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
    settings: dict[str, Any] = {}
    for pair in pairs or []:
        key, sign, value = pair.partition("=")
        if not sign or not key.strip():
            raise ValueError(f"cannot read {pair!r}; write key=value, such as num_backbone_layers=4")
        try:
            parsed = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ValueError(f"cannot read the value of {pair!r}: {error}") from error
        if key.strip() in settings:
            raise ValueError(f"{key.strip()!r} is set twice; set it once")
        if isinstance(parsed, str):
            with contextlib.suppress(ValueError):
                parsed = float(parsed)
        settings[key.strip()] = parsed
    return settings


def join_settings(flags: dict[str, Any], settings: dict[str, Any], option: str) -> dict[str, Any]:
    """Returns what flags and settings say together.

    Args:
        flags: Name -> value of an option of its own (`--context-length`), None = not given.
        settings: From `parse_settings`, of which some may say the same.
        option: What the settings were given with (`--set`).

    Raises:
        ValueError: If both say different things.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    for name, value in given.items():
        if name in settings and settings[name] != value:
            raise ValueError(
                f"{name} is {value} by its own option and {settings[name]} by {option} {name}=...; give it once"
            )
    return given | settings


def print_table(table: Any, title: str = "", formats: dict[str, str] | None = None) -> None:
    """Prints a pandas table with rich; numbers to three significant digits unless `formats` says otherwise."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # Texts, because a name such as [kW] or [/bold] is markup to the console otherwise.
    grid = Table(title=Text(one_line(title)) if title else None, header_style="bold", title_justify="left")
    for column in table.columns:
        numeric = table[column].dtype.kind in "if"
        grid.add_column(Text(one_line(column).replace("_", " ")), justify="right" if numeric else "left")
    for row in table.itertuples(index=False):
        cells = [
            format_cell(value, (formats or {}).get(column)) for column, value in zip(table.columns, row, strict=True)
        ]
        grid.add_row(*[Text(one_line(cell)) for cell in cells])
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
