"""`tsllm predict`: forecast the steps after the end of each series."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from tsllm.cli.columns import (
    Covariates,
    DayFirst,
    IdColumn,
    PastCovariates,
    Season,
    StaticColumns,
    TargetColumn,
    TimeColumn,
    read_names,
    tell_ignored,
)
from tsllm.cli.console import name_list, parse_freq, parse_levels, parse_list, print_table, quiet_libraries
from tsllm.escape import one_line

TABLES = (".csv", ".parquet", ".pq")  # what forecasts are written as


def predict(
    model: Annotated[str, typer.Argument(help="Saved folder or Hub id, or a model that needs no training (AutoETS).")],
    data: Annotated[str, typer.Argument(help="CSV, Parquet or Arrow file, a named data set, or a Hub id.")],
    h: Annotated[int | None, typer.Option("--h", help="Steps ahead; None = as trained.")] = None,
    level: Annotated[str | None, typer.Option(help="Intervals in per cent: 80 or 80,95.")] = None,
    future: Annotated[Path | None, typer.Option(help="Table with the known covariates of the horizon.")] = None,
    freq: Annotated[str | None, typer.Option(help="Frequency; inferred by default.")] = None,
    season: Season = None,
    targets: Annotated[str | None, typer.Option(help="Columns of a wide table that are series: a,b.")] = None,
    id_col: IdColumn = None,
    time_col: TimeColumn = None,
    target_col: TargetColumn = None,
    day_first: DayFirst = None,
    covariates: Covariates = None,
    past_covariates: PastCovariates = None,
    static: StaticColumns = None,
    output: Annotated[Path | None, typer.Option(help="CSV or Parquet file for the forecasts.")] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a Hub repository.")] = None,
    new_series: Annotated[bool, typer.Option(help="Scale series that training never saw by their history.")] = False,
    batch_invariant: Annotated[
        bool, typer.Option(help="Compute each window by itself: the same bits whichever other series are asked for.")
    ] = False,
    pad_short: Annotated[bool, typer.Option(help="Pad series that are shorter than the look-back.")] = False,
    context: Annotated[
        str | None, typer.Option(help="What is known: a text, or a table unique_id, text[, published, start, end].")
    ] = None,
    reader: Annotated[
        Path | None,
        typer.Option(
            help="Who reads: `rules`, a trained FOLDER, `rules+FOLDER`; default: the model if it can, else rules."
        ),
    ] = None,
    effects: Annotated[
        str | None,
        typer.Option(help="In place of what would be read: effects, split by `;`, or a file with their lines."),
    ] = None,
) -> None:
    """Forecast with a saved model, in the units and dates of the data."""
    from tsllm.files import check_file
    from tsllm.forecasting.model_spec import is_saved

    quiet_libraries()
    if output is not None:
        check_file(output, TABLES)
    named = {"covariates": covariates, "past_covariates": past_covariates, "static": static}
    columns = (id_col, time_col, target_col, day_first)
    table: dict[str, Any] = {"freq": freq, "season": season, "targets": targets, "columns": columns}
    if is_saved(model):
        changes: dict[str, Any] = {"new_series": "history"} if new_series else {}
        changes |= {"pad_short": True} if pad_short else {}
        changes |= {"batch_invariant": True} if batch_invariant else {}
        opened = open_folder(model, data, named, revision=revision, changes=changes, **table)
        if reader is not None and opened.told:
            raise ValueError(f"{model} brings its own reader of texts; leave --reader out")
    else:
        unused = {"--revision": revision, "--new-series": new_series, "--pad-short": pad_short}
        unused |= {"--batch-invariant": batch_invariant}
        given = [name for name, value in unused.items() if value]
        if given:
            raise ValueError(f"{', '.join(given)} is for saved models, and {model} is none; leave it out")
        opened = build_untrained(model, data, named, h=h, **table)
        h = opened.h
    forecaster, loaded, told = opened.forecaster, opened.loaded, opened.told
    tell_ignored(loaded, options=False)
    known_texts, reading = read_context(context, reader, names=loaded.names, day_first=day_first)
    X_df = read_ahead(future, opened, day_first)
    levels = parse_levels(level) or None
    reads = not told and reader is None and getattr(forecaster, "reads_texts", False)
    if not told and (effects is not None or (context is not None and not reads)):
        from tsllm.forecasting.context import ContextForecaster

        forecaster, told = ContextForecaster(forecaster, freq=loaded.freq, season=season, **reading), True
    with loaded.names.speaking():
        if told:
            stated = None if effects is None else load_effects(effects)
            out, explained = forecaster.predict_and_explain(loaded.df, h, levels, X_df, known_texts, stated)
            print_effects(explained, forecaster.texts if known_texts is None else known_texts)
        elif reads and context is not None:
            out = forecaster.predict(loaded.df, h, levels, X_df, context=known_texts)
            print_read(known_texts, loaded.df, out)
        else:
            out = forecaster.predict(loaded.df, h, levels, X_df)
    if output is None:
        shown, title = pick_rows(out)
        print_table(loaded.names.write(shown), f"{forecaster.alias}: {title}")
        typer.echo("write all of them with --output forecasts.csv")
    else:
        write_frame(loaded.names.write(out), output)
        typer.echo(f"{len(out)} rows in {output}")


def load_effects(effects: str) -> str:
    """Returns lines of effects: those of a file, or what is said, split by `;`."""
    if os.path.isfile(effects):
        return Path(effects).read_text(encoding="utf-8")
    return "\n".join(part.strip() for part in effects.split(";"))


@dataclass(frozen=True)
class Opened:
    """What forecasts, and what it forecasts.

    Attributes:
        forecaster: The model.
        loaded: The data.
        ahead: Covariates that it reads over the horizon.
        told: Whether it brings texts or a reader of its own.
        h: Steps ahead; None = as trained.
    """

    forecaster: Any
    loaded: Any
    ahead: list[str]
    told: bool = False
    h: int | None = None


def open_folder(
    model: str,
    data: str,
    named: dict[str, str | None],
    *,
    freq: str | None,
    season: int | None,
    targets: str | None,
    columns: tuple[Any, Any, Any, Any],
    revision: str | None,
    changes: dict[str, Any],
) -> Opened:
    """Opens a saved model, and the data in the columns that it was trained on.

    Args:
        model: Folder or Hub id.
        data: File, or name of a data set.
        named: Options that name covariates, as given.
        freq: Frequency.
        season: Steps in a season.
        targets: Columns of a wide table that are series.
        columns: Names of the columns of ids, times and values, and whether the day stands first.
        revision: Of a Hub repository.
        changes: Options of the forecaster that an artefact lets change.

    Raises:
        ValueError: If it cannot take an option.
    """
    from tsllm.data.task import Asked, load_data
    from tsllm.forecasting.saved import open_saved, take_season
    from tsllm.hub.spec import find_file
    from tsllm.hub.told import CONTEXT_FILE

    forecaster: Any = open_saved(model, revision=revision, **changes)
    if season is not None:
        take_season(forecaster, season)
    told = find_file(model, CONTEXT_FILE, revision) is not None
    plain = forecaster.base if told else forecaster
    check_columns(model, read_lists(named), plain)
    asked = Asked(
        freq=parse_freq(freq),
        covariates=plain.known_ahead,
        past_covariates=plain.past_covariates,
        static=plain.static,
        **read_names(*columns, plain.names),
    )
    loaded = load_data(data, asked, targets=parse_list(targets) or None)
    return Opened(forecaster, loaded, list(plain.known_ahead), told)


def build_untrained(
    model: str,
    data: str,
    named: dict[str, str | None],
    *,
    h: int | None,
    freq: str | None,
    season: int | None,
    targets: str | None,
    columns: tuple[Any, Any, Any, Any],
) -> Opened:
    """Builds a model that needs no training, and reads the data; arguments as `open_folder`, and h, steps ahead.

    Raises:
        ValueError: If the model must be trained first, or cannot read what is named.
    """
    from tsllm.cli.compare import write_columns, write_command
    from tsllm.data.sources import DATASETS
    from tsllm.data.task import Asked, build_task, load_data
    from tsllm.forecasting.model_spec import ModelSpec, check_known, reads_static, write_folder

    check_known(model)
    lists = read_lists(named)
    spec = ModelSpec(model, covariates=True if lists else None)
    if spec.is_trainable:
        folder = f", {write_folder(model)}" if Path(model).is_dir() else ""
        known = {"h": h if h or data in DATASETS else 24, "freq": freq, "season": season, "targets": targets}
        known |= write_columns(*columns) | named
        way = write_command("tsllm fit", data, model=model, **known)
        raise ValueError(f"{model} must be trained first: {way}; then give its folder{folder}")
    idle = [f"--{name.replace('_', '-')}" for name in ("past_covariates", "static") if lists.get(name)]
    if idle and not reads_static(spec):
        raise ValueError(f"{model} reads known covariates alone (--covariates); leave {' and '.join(idle)} out")
    lists = {"covariates": [], "past_covariates": []} | lists
    asked = Asked(h=h, freq=parse_freq(freq), season=season, **lists, **read_names(*columns))
    loaded = load_data(data, asked, targets=parse_list(targets) or None)
    task = build_task(loaded, asked)
    from tsllm.forecasting.checks import check_forecaster  # not before the data are known to be right
    from tsllm.forecasting.roster import build_forecaster

    check_forecaster(spec, task)
    return Opened(build_forecaster(spec, task), loaded, list(task.covariates), h=task.h)


def read_lists(named: dict[str, str | None]) -> dict[str, Any]:
    """Returns the lists of columns that were given; an option that was left out is not among them."""
    return {name: name_list(text) for name, text in named.items() if text is not None}


def read_ahead(future: Path | None, opened: Opened, day_first: bool | None) -> Any:
    """Returns the table of known covariates; None for a model that reads none.

    Raises:
        ValueError: If it is missing, or there is no use for it.
    """
    alias, ahead, names = opened.forecaster.alias, opened.ahead, opened.loaded.names
    if future is not None and not ahead:
        raise ValueError(f"--future {future} holds known covariates, and {alias} reads none; leave it out")
    if ahead and future is None:
        raise ValueError(
            f"{alias} reads {', '.join(ahead)} over the horizon; give a table of the steps ahead with the columns "
            f"{', '.join([names.id_col, names.time_col, *ahead])}: --future FILE"
        )
    return None if future is None else read_future(future, names, day_first)


def check_columns(model: str, columns: dict[str, Any], forecaster: Any) -> None:
    """Refuses columns that a saved model was not trained with; it knows its own.

    Raises:
        ValueError: If some are named that are not its own.
    """
    own = {
        "covariates": forecaster.known_ahead,
        "past_covariates": forecaster.past_covariates,
        "static": forecaster.static,
    }
    for name, given in columns.items():
        trained = list(own[name] or [])
        if set(given or []) != set(trained):
            option = f"--{name.replace('_', '-')}"
            with_these = f"with {', '.join(trained)}" if trained else "without any"
            raise ValueError(
                f"{model} was trained {with_these} as {option}, and knows so by itself; leave {option} out"
            )


def pick_rows(out: Any, rows: int = 24, series: int = 6) -> tuple[Any, str]:
    """Returns rows of a forecast for the screen, some of each series as far as there is room, and what they are.

    Args:
        out: Forecasts, long.
        rows: How many are shown about.
        series: Of how many series at most.
    """
    from tsllm.types import ID

    names = out[ID].unique()
    few = max(1, rows // min(len(names), series))
    shown = out[out[ID].isin(names[:series])].groupby(ID, sort=False).head(few)
    told = [f"{len(out)} rows"]
    if len(out) > len(shown):
        told.append(f"the first {few} of each series" if len(names) > 1 else f"the first {few}")
    if len(names) > series:
        left = len(names) - series
        steps = min(few, len(shown) // series)
        told[-1] = f"the first {steps} of each of the first {series} series; {left} more series not shown"
    return shown, ", ".join(told)


def read_future(path: Path, names: Any, day_first: bool | None) -> Any:
    """Reads the table of the horizon under the names of frames, its dates by the order of day and month.

    Raises:
        FileNotFoundError: If there is no such file.
        FrameError: If a date can be read in two ways, or a column is missing.
    """
    from tsllm.data.dates import read_later_times
    from tsllm.data.reading import read_table

    read = names.read_later(read_table(path, names=names))
    with names.speaking():
        return read_later_times(read, day_first)


def read_texts(
    context: str | None, reader: Path | None, timeless: bool, names: Any = None, day_first: bool | None = None
) -> Any:
    """Returns the texts of the options about texts; None if there are none.

    Raises:
        FileNotFoundError: If a table is not there.
        FrameError: If a table has no column of texts or series.
        ValueError: If there is a reader, or `timeless`, and no text.
    """
    from tsllm.context.contract import load_texts

    if context is None:
        given = [name for name, value in {"--reader": reader, "--timeless": timeless}.items() if value]
        if given:
            raise ValueError(f"{' and '.join(given)} without --context; give a text or a table, or leave it out")
        return None
    return load_texts(context, names, day_first)


def read_context(
    context: str | None,
    reader: Path | None,
    timeless: bool = False,
    names: Any = None,
    day_first: bool | None = None,
) -> tuple[Any, dict[str, Any]]:
    """Reads the options about texts.

    Args:
        context: A text, or the path of a table.
        reader: As `open_reader` takes it.
        timeless: Whether texts without `published` may be read at every cutoff.
        names: What the columns of the data are called; None = as in frames.
        day_first: Whether 03/04/2024 is the third of April.

    Returns:
        The texts as `ContextForecaster` takes them, and its options `reader`, `check_length` and `timeless`.

    Raises:
        FileNotFoundError: If a table or a reader is not there.
        FrameError: If a table has no column of texts or series.
        ValueError: If there is a reader, or `timeless`, and no text.
    """
    texts = read_texts(context, reader, timeless, names, day_first)
    return texts, {} if context is None else {"timeless": timeless} | _open(reader)


def read_told(
    context: str | None, reader: Path | None, timeless: bool, names: Any = None, day_first: bool | None = None
) -> tuple[Any, dict[str, Any] | None]:
    """Reads the options of a command that keeps texts or a reader for later; a reader may be kept without texts.

    Returns:
        The texts, and the options of `ContextForecaster`; None if nothing is to be kept.

    Raises:
        ValueError: If there is `timeless` and no text.
        FileNotFoundError: As `read_context`.
    """
    if context is None and reader is not None and not timeless:
        return None, _open(reader)
    texts, options = read_context(context, reader, timeless, names=names, day_first=day_first)
    return texts, None if context is None else options


def _open(reader: Path | None) -> dict[str, Any]:
    """Returns the reader as options of `ContextForecaster`; none for the rules."""
    if reader is None:
        return {}
    from tsllm.forecasting.readers import open_reader

    opened = open_reader(reader)
    return {"reader": opened.read, "check_length": opened.check_length}


def print_effects(explained: list[Any], texts: Any) -> None:
    """Prints what was understood of each text, series with the same together, and how many texts were not read."""
    from tsllm.context.contract import TEXT
    from tsllm.types import ID

    told: dict[tuple[str, str], list[str]] = {}
    for e in explained:
        if e.unread:
            continue
        told.setdefault((e.text, e.describe()), []).append(one_line(e.series))
    for (text, effects), names in told.items():
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        typer.echo(f"{', '.join(names[:5])}{more}: {one_line(text) or 'effects as given'}")
        typer.echo("\n".join(f"  -> {line}" for line in effects.splitlines()))
    if texts is None or isinstance(texts, str):
        return
    given = texts.items() if isinstance(texts, dict) else zip(texts[ID], texts[TEXT], strict=True)
    count = sum(isinstance(text, str) and bool(text.strip()) for _, text in given)
    unread = sum(bool(e.unread) for e in explained)
    if unread:
        typer.echo(f"{unread} of {count} texts not read: published after the end of the data")


def print_read(context: Any, df: Any, out: Any) -> None:
    """Prints which series a model read texts for, and how many texts of how many it did not.

    Args:
        context: The texts, as `predict` took them.
        df: The history.
        out: The forecast; a text is read if it was published by the end of the history and about a time in it.
    """
    from tsllm.context.contract import TEXT, Context
    from tsllm.types import ID, TIME

    table = Context.read(context, df, timeless=True)
    told, read, names = table.table[table.table[TEXT] != ""], 0, []
    for name, ahead in out.groupby(ID, sort=False)[TIME]:
        past, times = df.loc[df[ID] == name, TIME].to_numpy(), ahead.to_numpy()
        step = times[0] - past[-1]
        reads = table.rows_of_windows(name, past[-1:], times[:1], times[-1:], step)[1] if len(told) else None
        if reads is not None and reads.any():
            read += int(reads.sum())
            names.append(one_line(name))
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    typer.echo(
        f"texts read for {', '.join(names[:5])}{more}" if names else "no text is read: the forecast is the plain one"
    )
    if read < len(told):
        typer.echo(f"{len(told) - read} of {len(told)} texts not read: published later, about other times, or over")


def write_frame(frame, path: Path) -> None:  # type: ignore[no-untyped-def]
    """Writes a table as CSV or Parquet, by the ending.

    Raises:
        ValueError: For another ending.
    """
    from tsllm.files import check_file

    check_file(path, TABLES)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path, index=False)
