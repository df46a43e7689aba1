"""`tsllm predict`: forecast the steps after the end of each series."""

from pathlib import Path
from typing import Annotated, Any

import typer

from tsllm.cli.console import parse_levels, parse_list, print_table, quiet_libraries


def predict(
    model: Annotated[str, typer.Argument(help="Saved folder or Hub id, or a model that needs no training (AutoETS).")],
    data: Annotated[str, typer.Argument(help="CSV, Parquet or Arrow file, a named data set, or a Hub id.")],
    h: Annotated[int | None, typer.Option("--h", help="Steps ahead; None = as trained.")] = None,
    level: Annotated[str | None, typer.Option(help="Intervals in per cent: 80 or 80,95.")] = None,
    future: Annotated[Path | None, typer.Option(help="Table with the known covariates of the horizon.")] = None,
    freq: Annotated[str | None, typer.Option(help="Frequency; inferred by default.")] = None,
    targets: Annotated[str | None, typer.Option(help="Columns of a wide table that are series: a,b.")] = None,
    output: Annotated[Path | None, typer.Option(help="CSV or Parquet file for the forecasts.")] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a Hub repository.")] = None,
    new_series: Annotated[bool, typer.Option(help="Scale series that training never saw by their history.")] = False,
) -> None:
    """Forecast with a saved model, in the units and dates of the data."""
    from tsllm.cli.task import describe_task, load_data
    from tsllm.data.sources import read_table
    from tsllm.forecasting.base import Forecaster
    from tsllm.forecasting.neural import NeuralPredictor
    from tsllm.forecasting.roster import ModelSpec, build_forecaster, open_saved

    quiet_libraries()
    forecaster: Forecaster
    columns = None
    if Path(model).is_dir() or "/" in model:
        forecaster = open_saved(model, "history" if new_series else "raise", revision=revision)
        trained: Any = forecaster.spec if isinstance(forecaster, NeuralPredictor) else forecaster
        columns = [*trained.covariates, *getattr(trained, "past_covariates", ())]
        freq = freq or (None if trained.freq is None else str(trained.freq))
    loaded = load_data(data, freq=freq, targets=parse_list(targets) or None, covariates=columns)
    if columns is None:
        forecaster = build_forecaster(ModelSpec(model), describe_task(loaded, h=h))
        h = describe_task(loaded, h=h).h
    table = None if future is None else read_table(future)
    out = forecaster.predict(loaded.df, h, parse_levels(level) or None, _dated(table))
    if output is None:
        print_table(out.head(24), f"{forecaster.alias}: {len(out)} rows" + (", the first 24" if len(out) > 24 else ""))
        typer.echo("write all of them with --output forecasts.csv")
    else:
        write_frame(out, output)
        typer.echo(f"{len(out)} rows in {output}")


def _dated(table):  # type: ignore[no-untyped-def]
    """Parses the dates of a future table if they are text."""
    import pandas as pd

    if table is not None and not pd.api.types.is_numeric_dtype(table["ds"]):
        table["ds"] = pd.to_datetime(table["ds"])
    return table


def write_frame(frame, path: Path) -> None:  # type: ignore[no-untyped-def]
    """Writes a table as CSV or Parquet, by the ending.

    Raises:
        ValueError: For another ending.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    elif path.suffix in (".parquet", ".pq"):
        frame.to_parquet(path, index=False)
    else:
        raise ValueError(f"cannot write {path}: give a name that ends in .csv or .parquet")
