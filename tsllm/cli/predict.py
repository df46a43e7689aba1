"""`tsllm predict`: forecast the steps after the end of each series."""

from pathlib import Path
from typing import Annotated, Any

import typer

from tsllm.cli.console import parse_freq, parse_levels, parse_list, print_table, quiet_libraries


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
    batch_invariant: Annotated[
        bool, typer.Option(help="Compute each window by itself: the same bits whichever other series are asked for.")
    ] = False,
    pad_short: Annotated[bool, typer.Option(help="Pad series that are shorter than the look-back.")] = False,
) -> None:
    """Forecast with a saved model, in the units and dates of the data."""
    from tsllm.data.sources import read_table
    from tsllm.data.task import Asked, build_task, load_data
    from tsllm.forecasting.base import Forecaster
    from tsllm.forecasting.roster import ModelSpec, build_forecaster, is_saved, open_saved

    quiet_libraries()
    forecaster: Forecaster
    if is_saved(model):
        changes: dict[str, Any] = {"new_series": "history"} if new_series else {}
        changes |= {"pad_short": True} if pad_short else {}
        changes |= {"batch_invariant": True} if batch_invariant else {}
        forecaster = open_saved(model, revision=revision, **changes)
        known, past = forecaster.covariates, forecaster.past_covariates
        asked = Asked(freq=parse_freq(freq), covariates=known, past_covariates=past)
        loaded = load_data(data, asked, targets=parse_list(targets) or None)
    else:
        unused = {"--revision": revision, "--new-series": new_series, "--pad-short": pad_short}
        unused |= {"--batch-invariant": batch_invariant}
        given = [name for name, value in unused.items() if value]
        if given:
            raise ValueError(f"{', '.join(given)} is for saved models, and {model} is none; leave it out")
        asked = Asked(h=h, freq=parse_freq(freq), covariates=(), past_covariates=())
        loaded = load_data(data, asked, targets=parse_list(targets) or None)
        task = build_task(loaded, asked)
        spec = ModelSpec(model)
        if spec.is_trainable:
            raise ValueError(f"{model} must be trained first: tsllm fit {data} --model {model}; then give its folder")
        forecaster, h = build_forecaster(spec, task), task.h
    if future is not None and not forecaster.covariates:
        raise ValueError(f"--future {future} holds known covariates, and {forecaster.alias} reads none; leave it out")
    table = None if future is None else read_table(future)
    out = forecaster.predict(loaded.df, h, parse_levels(level) or None, table)
    if output is None:
        print_table(out.head(24), f"{forecaster.alias}: {len(out)} rows" + (", the first 24" if len(out) > 24 else ""))
        typer.echo("write all of them with --output forecasts.csv")
    else:
        write_frame(out, output)
        typer.echo(f"{len(out)} rows in {output}")


def write_frame(frame, path: Path) -> None:  # type: ignore[no-untyped-def]
    """Writes a table as CSV or Parquet, by the ending.

    Raises:
        ValueError: For another ending.
    """
    if path.suffix not in (".csv", ".parquet", ".pq"):
        raise ValueError(f"cannot write {path}: give a name that ends in .csv or .parquet")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path, index=False)
