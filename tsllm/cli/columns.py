"""What the commands share about tables: the names of columns, the order of day and month, what is left out."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tsllm.escape import one_line

if TYPE_CHECKING:
    from tsllm.data.loading import LoadedData

IdColumn = Annotated[str | None, typer.Option("--id", help="Column that names the series; default: unique_id.")]
TimeColumn = Annotated[str | None, typer.Option("--time", help="Column of the times; default: ds or date.")]
TargetColumn = Annotated[str | None, typer.Option("--target", help="Column of the values; default: y.")]
DayFirst = Annotated[
    bool | None, typer.Option("--day-first/--month-first", help="03/04/2024 is the third of April, or of March.")
]
Season = Annotated[int | None, typer.Option(help="Steps in the main season; by frequency if left out.")]
Covariates = Annotated[str | None, typer.Option(help="Columns known over the horizon: a,b.")]
PastCovariates = Annotated[str | None, typer.Option(help="Columns known up to the cutoff only: a,b.")]
StaticColumns = Annotated[str | None, typer.Option("--static", help="Columns with one value a series: a,b.")]
Transform = Annotated[str | None, typer.Option(help="Scale that is forecast on: log1p, asinh or none.")]
NonNegative = Annotated[bool, typer.Option("--non-negative", help="Forecasts below 0 become 0.")]
Whole = Annotated[bool, typer.Option("--integer", help="Forecasts are rounded to whole numbers, for counts.")]


def read_scale(transform: str | None, non_negative: bool, integer: bool) -> dict[str, Any]:
    """Returns what was said about the target's scale, as options of a model."""
    given = {"transform": transform, "non_negative": non_negative, "integer": integer}
    return {name: value for name, value in given.items() if value}


def read_names(
    id_col: str | None, time_col: str | None, target_col: str | None, day_first: bool | None, saved: Any = None
) -> dict[str, Any]:
    """Returns the fields of `Asked` about the table.

    Args:
        id_col: Of the command line.
        time_col: Of the command line.
        target_col: Of the command line.
        day_first: Of the command line.
        saved: Names that a saved model remembers, for when none is given.
    """
    from tsllm.data.names import OWN, ColumnNames

    if (id_col, time_col, target_col) == (None, None, None):
        return {"names": saved or OWN, "remembered": bool(saved), "day_first": day_first}
    return {"names": ColumnNames.of(id_col, time_col, target_col), "day_first": day_first}


def tell_ignored(loaded: "LoadedData", options: bool = True) -> None:
    """Says which columns of a table are not read, and how to name them.

    Args:
        loaded: The data.
        options: Whether the command has the options that name covariates.
    """
    if loaded.ignored:
        names = ", ".join(map(one_line, loaded.ignored))
        way = " (--covariates, --past-covariates, --static name columns that count)" if options else ""
        typer.echo(f"not read: {names}{way}")
