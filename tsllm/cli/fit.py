"""`tsllm fit`: train a model on a table of series, or go on from a saved one."""

from pathlib import Path
from typing import Annotated, Any

import typer

from tsllm.cli.columns import (
    Covariates,
    DayFirst,
    IdColumn,
    NonNegative,
    PastCovariates,
    Season,
    StaticColumns,
    TargetColumn,
    TimeColumn,
    Transform,
    Whole,
    read_names,
    read_scale,
    tell_ignored,
)
from tsllm.cli.console import join_settings, name_list, parse_freq, parse_list, parse_settings, quiet_libraries

_LEVEL = 80  # per cent, of the interval that is offered


def fit(
    data: Annotated[str, typer.Argument(help="CSV, Parquet or Arrow file, a named data set, or a Hub id.")],
    model: Annotated[
        str, typer.Option(help="timellm, dlinear ..., a dotted path, or a saved folder or Hub id to go on from.")
    ] = "timellm",
    h: Annotated[int | None, typer.Option("--h", help="Steps ahead; a named data set brings its own.")] = None,
    output_dir: Annotated[Path, typer.Option(help="Folder for the artefact.")] = Path("runs/fit"),
    context_length: Annotated[int | None, typer.Option(help="Look-back, steps; by frequency if left out.")] = None,
    freq: Annotated[str | None, typer.Option(help="Frequency such as h, 15min, D, MS; inferred by default.")] = None,
    season: Season = None,
    layout: Annotated[str | None, typer.Option(help="auto, multivariate or univariate.")] = None,
    steps: Annotated[int | None, typer.Option(min=0, help="Most training steps; 0 trains nothing.")] = None,
    epochs: Annotated[float | None, typer.Option(min=0, help="Training epochs, instead of steps.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Learning rate.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of weights and order; 0 if left out.")] = None,
    targets: Annotated[str | None, typer.Option(help="Columns of a wide table that are series: a,b.")] = None,
    id_col: IdColumn = None,
    time_col: TimeColumn = None,
    target_col: TargetColumn = None,
    day_first: DayFirst = None,
    covariates: Covariates = None,
    past_covariates: PastCovariates = None,
    static: StaticColumns = None,
    transform: Transform = None,
    non_negative: NonNegative = False,
    integer: Whole = False,
    val_size: Annotated[int | None, typer.Option(help="Last steps of each series kept for validation.")] = None,
    new_series: Annotated[bool, typer.Option(help="The artefact takes series that it never saw.")] = False,
    pad_short: Annotated[bool, typer.Option(help="Pad series that are shorter than the look-back.")] = False,
    revision: Annotated[str | None, typer.Option(help="Of a Hub repository to go on from.")] = None,
    licence: Annotated[
        str | None, typer.Option(help="Of the weights, for the card: apache-2.0 ...; default: by backbone and data.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No bar.")] = False,
    options_of_training: Annotated[
        list[str] | None, typer.Option("--train", help="Training option: per_device_train_batch_size=16.")
    ] = None,
    context: Annotated[
        str | None,
        typer.Option(
            help="Texts to keep in the folder, or to learn from where the model reads them: a table unique_id, text, "
            "published[, start, end], or a text. `predict` and `backtest` read what was published by their cutoff."
        ),
    ] = None,
    reader: Annotated[
        Path | None,
        typer.Option(help="Who reads, kept in the folder: `rules`, FOLDER of a trained reader, `rules+FOLDER`."),
    ] = None,
    timeless: Annotated[
        bool, typer.Option(help="Texts without `published` may be read at every cutoff; else they are refused.")
    ] = False,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Field of the model: backbone=smollm2-135m, head=quantile.")
    ] = None,
) -> None:
    """Train a model on your data and save it."""
    from tsllm.cli.predict import read_told
    from tsllm.data.task import Asked, build_task, load_data
    from tsllm.files import check_folder
    from tsllm.forecasting.context import ContextForecaster
    from tsllm.forecasting.model_spec import ModelSpec, is_saved
    from tsllm.forecasting.roster import build_forecaster
    from tsllm.hub.spec import SPEC_FILE
    from tsllm.hub.told import CONTEXT_FILE

    quiet_libraries()
    training: dict[str, Any] = {"max_steps": steps, "num_train_epochs": epochs, "learning_rate": learning_rate}
    training = join_settings(training | {"seed": seed}, parse_settings(options_of_training), "--train")
    table = read_names(id_col, time_col, target_col, day_first)
    asked = Asked(
        h=h,
        context_length=context_length,
        freq=parse_freq(freq),
        season=season,
        layout=layout,
        covariates=name_list(covariates),
        past_covariates=name_list(past_covariates),
        static=name_list(static),
        val_size=val_size,
        **table,
    )
    options: dict[str, Any] = parse_settings(settings)
    join_settings({"context_length": context_length}, options, "--set")
    options |= {"new_series": "history"} if new_series else {}
    options |= {"pad_short": True} if pad_short else {}
    options |= read_scale(transform, non_negative, integer)
    wide = parse_list(targets) or None
    if is_saved(model):
        forecaster: Any
        horizon: int | None
        forecaster, horizon = _open(model, revision, training, _given(asked) | options), None
        asked = Asked(
            h=forecaster.prediction_length,
            covariates=forecaster.known_ahead,
            past_covariates=forecaster.past_covariates,
            static=forecaster.static,
            **read_names(id_col, time_col, target_col, day_first, forecaster.names),
        )
        loaded = load_data(data, asked, targets=wide)
    else:
        _check_trainable(model, revision)
        loaded = load_data(data, asked, targets=wide)
        task = build_task(loaded, asked)
        named = asked.names_covariates or None
        forecaster = build_forecaster(ModelSpec(model, options=options, training=training, covariates=named), task)
        horizon = task.h
    forecaster.names = loaded.names or forecaster.names
    tell_ignored(loaded)
    texts, told = read_told(context, reader, timeless, loaded.names, day_first)
    forecaster.verbose = not quiet
    rows = f"{loaded.df['unique_id'].nunique()} series, {len(loaded.df)} rows"
    check_folder(output_dir)
    replaces = any((output_dir / file).is_file() for file in (SPEC_FILE, CONTEXT_FILE))
    typer.echo(f"{forecaster.alias}: {rows}, h={h or horizon or forecaster.prediction_length}")
    learns = forecaster.reads_texts and reader is None
    if told is None or learns:
        forecaster.timeless = timeless
        forecaster.fit(loaded.df, horizon, context=texts)
        forecaster.save_pretrained(output_dir, licence=licence)
    else:
        made = ContextForecaster(forecaster, freq=loaded.freq, context=texts, **told)
        made.check_context(loaded.df)
        made.fit(loaded.df, horizon)
        made.save_pretrained(output_dir, licence=licence)
    if replaces:
        typer.echo(f"replaced the model in {output_dir}")
    typer.echo(f"trained in {forecaster.seconds:.0f} s, saved in {output_dir}")
    if learns:
        typer.echo(
            "the model learned from texts; the folder keeps none of them: tell it others by `predict --context`"
            if told is not None
            else "it was trained without --context, so that no text will change its forecasts"
        )
    _say_next(forecaster, output_dir, data, day_first)


def _open(model: str, revision: str | None, training: dict[str, Any], changes: dict[str, Any]) -> Any:
    """Opens a saved model to go on from.

    Raises:
        ValueError: If it is told something, or fixes what is to change.
    """
    from tsllm.forecasting.neural import NeuralForecaster
    from tsllm.hub.spec import find_file
    from tsllm.hub.told import BASE, CONTEXT_FILE

    if find_file(model, CONTEXT_FILE, revision) is not None:
        raise ValueError(
            f"{model} is told something; training goes on from its base: --model {model}/{BASE}, with --context "
            "and --reader anew"
        )
    return NeuralForecaster.from_pretrained(model, revision=revision, training=training, **changes)


def _check_trainable(model: str, revision: str | None) -> None:
    """Refuses names of models that are not trained here."""
    from tsllm.forecasting.builders import check_own
    from tsllm.forecasting.model_spec import ModelSpec, check_known

    if revision is not None:
        raise ValueError(f"--revision is for a Hub id to go on from, but {model} is a model to train; leave it out")
    kind = ModelSpec(model).kind if model != "text" else "text"
    if kind == "own":
        check_own(model)
    check_known(model)
    if kind != "native":
        raise ValueError(
            f"{model} is no model that tsllm trains ({kind}); use `tsllm predict` or `tsllm backtest` with it"
        )


def _say_next(forecaster: Any, folder: Path, data: str, day_first: bool | None) -> None:
    """Says which command forecasts with what was saved, and what it needs."""
    from tsllm.forecasting.model_spec import write_folder

    if not forecaster.is_probabilistic and forecaster.calibration and forecaster.calibration.levels[-1] < _LEVEL:
        bound = forecaster.calibration.describe_bound()
        typer.echo(f"{bound}; keep more steps with --val-size, or learn intervals with --set head=quantile")
    ahead = forecaster.known_ahead
    order = "" if day_first is None else " --day-first" if day_first else " --month-first"
    order = _offer_level(forecaster) + order + (" --future FILE" if ahead else "")
    typer.echo(f"forecast with: tsllm predict {write_folder(folder)} {data}{order}")
    if ahead:
        columns = ", ".join([forecaster.names.id_col, forecaster.names.time_col, *ahead])
        typer.echo(f"FILE is a table of the {forecaster.prediction_length} steps ahead with the columns {columns}")


def _given(asked: Any) -> dict[str, Any]:
    """Returns what was said on the command line, as options of the constructor."""
    names = ("h", "context_length", "freq", "season", "layout", "covariates", "past_covariates", "static", "val_size")
    return {name: getattr(asked, name) for name in names if getattr(asked, name) is not None}


def _offer_level(forecaster: Any) -> str:
    """Returns the option of an interval that the forecaster can give; "" for a point head that was not calibrated."""
    if forecaster.is_probabilistic:
        return f" --level {_LEVEL}"
    if forecaster.calibration is None:
        return ""
    return f" --level {min(_LEVEL, forecaster.calibration.levels[-1]):g}"  # few windows calibrate low levels alone
