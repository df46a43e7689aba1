"""`tsllm backtest`: forecast the past with several models and score them."""

from collections.abc import Sequence
from dataclasses import replace
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
from tsllm.cli.console import (
    join_settings,
    name_list,
    parse_freq,
    parse_levels,
    parse_list,
    parse_settings,
    print_table,
    quiet_libraries,
    write_call,
)


def backtest(
    ctx: typer.Context,
    data: Annotated[str, typer.Argument(help="CSV, Parquet or Arrow file, a named data set, or a Hub id.")],
    models: Annotated[
        str, typer.Option(help="Names, saved folders or Hub ids: SeasonalNaive,AutoETS,dlinear,runs/fit.")
    ] = "SeasonalNaive,AutoETS,DynamicOptimizedTheta,dlinear",
    h: Annotated[int | None, typer.Option("--h", help="Steps ahead; a named data set brings its own.")] = None,
    n_windows: Annotated[int, typer.Option(help="Cutoffs.")] = 7,
    step_size: Annotated[int | None, typer.Option(help="Steps between cutoffs; default: h.")] = None,
    level: Annotated[str | None, typer.Option(help="Intervals in per cent: 80 or 80,95.")] = None,
    refit: Annotated[bool, typer.Option(help="Train anew at each cutoff instead of once.")] = False,
    season: Season = None,
    context_length: Annotated[int | None, typer.Option(help="Look-back of trained models, steps.")] = None,
    input_size: Annotated[int | None, typer.Option(help="Last steps that statistical models see.")] = None,
    freq: Annotated[str | None, typer.Option(help="Frequency; inferred by default.")] = None,
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
    seed: Annotated[int | None, typer.Option(help="Seed of trained models; 0 if left out.")] = None,
    training: Annotated[list[str] | None, typer.Option("--train", help="Training option: max_steps=200.")] = None,
    output: Annotated[Path | None, typer.Option(help="CSV or Parquet file for the forecasts.")] = None,
    report: Annotated[
        Path | None, typer.Option(help="HTML file for scores and pictures; Markdown and tables lie beside it.")
    ] = None,
    context: Annotated[
        str | None,
        typer.Option(
            help="What was known: a table unique_id, text, published[, start, end], or a text. Each model then stands "
            "there twice, without and with it."
        ),
    ] = None,
    reader: Annotated[Path | None, typer.Option(help="Who reads: `rules`, FOLDER, `rules+FOLDER`.")] = None,
    timeless: Annotated[
        bool, typer.Option(help="Texts without `published` may be read at every cutoff; else they are refused.")
    ] = False,
) -> None:
    """Forecast the last windows with several models; print the scores."""
    from tsllm.cli.predict import TABLES, read_texts, write_frame
    from tsllm.data.task import Asked, build_task, load_data
    from tsllm.evaluation.backtest import read_costs, run_backtest
    from tsllm.evaluation.tables import SeriesScales, describe_unobserved, score, training_part
    from tsllm.evaluation.told import describe_idle_texts, tell_models
    from tsllm.evaluation.windows import Windows
    from tsllm.files import check_file
    from tsllm.forecasting.base import check_count
    from tsllm.forecasting.context import ContextForecaster
    from tsllm.forecasting.model_spec import ModelSpec, give_named_covariates, name_saved

    quiet_libraries()
    if output is not None:
        check_file(output, TABLES)
    if report is not None:
        check_file(report, (".html",))
    if input_size is not None:
        check_count("input_size", input_size)
    asked = Asked(
        h=h,
        context_length=context_length,
        freq=parse_freq(freq),
        season=season,
        covariates=name_list(covariates),
        past_covariates=name_list(past_covariates),
        static=name_list(static),
        **read_names(id_col, time_col, target_col, day_first),
    )
    loaded = load_data(data, asked, targets=parse_list(targets) or None)
    tell_ignored(loaded)
    texts = read_texts(context, reader, timeless, loaded.names, day_first)
    ahead = build_task(loaded, asked).h
    # As in a comparison, what the data decide is decided by the steps before the first cutoff.
    windows = Windows.of(loaded.df, ahead, n_windows, ahead if step_size is None else step_size)
    task = build_task(replace(loaded, df=windows.history(0)), asked)
    options = parse_settings(training)
    join_settings({"seed": seed}, options, "--train")
    scale = read_scale(transform, non_negative, integer)
    specs = name_saved([ModelSpec(name, options=dict(scale)) for name in parse_list(models)])
    if asked.names_covariates:
        specs = give_named_covariates(specs)
    given: dict[str, Any] = {
        "--train": options,
        "--context-length": context_length,
        "--input-size": input_size,
        "--seed": seed,
    }
    given |= {"--covariates": covariates, "--past-covariates": past_covariates, "--static": static}
    _refuse_unused(given, specs)
    roster = _build_roster(specs, task, options, seed or 0, input_size)
    if context is not None:
        roster = tell_models(
            roster, loaded.df, texts, timeless=timeless, reader=reader, freq=loaded.freq, season=task.season, h=task.h
        )
    levels = parse_levels(level)
    result = run_backtest(
        loaded.df, roster, task.h, n_windows, step_size, levels, refit, loaded.freq, progress=typer.echo
    )
    train = training_part(loaded.df, result)
    scales = SeriesScales.from_training(train, task.season)
    table = score(result, scales)
    table = table.merge(read_costs(result.costs), on="model")
    windows_said = f"{n_windows} window{'s' if n_windows != 1 else ''} of {task.h} steps"
    _show_scores(table, f"{loaded.name}: {windows_said}, {result.frame['unique_id'].nunique()} series")
    # MASE is the only scaled error that is shown.
    said = [*SeriesScales({}, scales.seasonal_error).describe_left_out(), *describe_unobserved(result.frame)]
    told = [model for model in roster if isinstance(model, ContextForecaster) and model.context is not None]
    idle = describe_idle_texts(result.frame, told, loaded.df, loaded.freq) if context is not None else ""
    failed = [f"failed: {one.model} ({one.stage}): {one.error}" for one in result.failures]
    for sentence in [*said, *filter(None, [idle]), *failed]:
        typer.secho(sentence, fg=typer.colors.YELLOW, err=True)
    if output is not None:
        write_frame(loaded.names.write(result.frame), output)
        typer.echo(f"forecasts in {output}")
    if report is not None:
        from tsllm.evaluation.backtest_report import build_backtest_report

        options_of_report: dict[str, Any] = {"stem": report.stem, "season": task.season, "said": said}
        options_of_report["windows"] = windows
        build_backtest_report(result, table, loaded, command=write_call(ctx), **options_of_report).save(report)
        typer.echo(f"report in {report}; {report.stem}.md, scores and forecasts beside it")
    if result.failures:
        raise typer.Exit(1)


def _refuse_unused(given: dict[str, Any], specs: Sequence[Any]) -> None:
    """Refuses options that no model of the roster has a use for.

    Args:
        given: Option -> what it was given; None, "" and {} are nothing.
        specs: The roster.

    Raises:
        ValueError: Naming the option and the models.
    """
    from tsllm.forecasting.model_spec import reads_covariates, reads_static

    kinds = {spec.kind for spec in specs}
    trained = kinds & {"native", "neuralforecast"}
    covariates = any(map(reads_covariates, specs))
    used = {
        "--train": "native" in kinds,
        "--context-length": trained or "text" in kinds,
        "--input-size": "statistical" in kinds,
        "--covariates": covariates,
        "--past-covariates": covariates,
        "--static": any(map(reads_static, specs)),
        "--seed": kinds & {"native", "neuralforecast", "few-shot", "ensemble"},
    }
    for option, value in given.items():
        if value not in (None, "", {}) and not used[option]:
            raise ValueError(f"{option} has no effect on any of {', '.join(s.name for s in specs)}; leave it out")


def _build_roster(
    specs: Sequence[Any], task: Any, training: dict[str, Any], seed: int, input_size: int | None
) -> list[Any]:
    """Returns the forecasters, after all of them were checked."""
    from tsllm.forecasting.checks import check_forecaster
    from tsllm.forecasting.lear import LEAR
    from tsllm.forecasting.roster import build_forecaster
    from tsllm.forecasting.statistical import StatisticalForecaster

    for spec in specs:
        check_forecaster(spec, task)
    roster: list[Any] = []
    for spec in specs:
        made = build_forecaster(replace(spec, training=training) if spec.kind == "native" else spec, task, seed)
        if isinstance(made, StatisticalForecaster | LEAR):
            made.input_size = input_size
        roster.append(made)
    return roster


def _show_scores(table: Any, title: str) -> None:
    shown = ["model", "mae", "mase", "skill", "wql", "coverage", "win_rate", "failed", "fit_seconds", "ms_per_window"]
    print_table(table[[c for c in shown if c in table]].sort_values("mae"), title)
