"""`tsllm tune`: search settings of trainable models by validation loss, the same number of trials for each."""

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
    tell_ignored,
)
from tsllm.cli.console import (
    join_settings,
    name_list,
    parse_freq,
    parse_list,
    parse_settings,
    print_table,
    quiet_libraries,
)


def tune(
    data: Annotated[str, typer.Argument(help="CSV, Parquet or Arrow file, a named data set, or a Hub id.")],
    models: Annotated[str, typer.Option(help="Models of tsllm: timellm,dlinear,patchtst.")] = "dlinear,patchtst",
    trials: Annotated[int, typer.Option(help="Trials of each model.")] = 20,
    h: Annotated[int | None, typer.Option("--h", help="Steps ahead; a named data set brings its own.")] = None,
    n_windows: Annotated[int, typer.Option(help="Test cutoffs, as in the comparison; nothing after is seen.")] = 7,
    step_size: Annotated[int | None, typer.Option(help="Steps between test cutoffs; default: h.")] = None,
    context_length: Annotated[int | None, typer.Option(help="Look-back in the middle of the search, steps.")] = None,
    val_size: Annotated[int | None, typer.Option(help="Validation steps; default: a tenth, at least h.")] = None,
    freq: Annotated[str | None, typer.Option(help="Frequency; inferred by default.")] = None,
    season: Season = None,
    id_col: IdColumn = None,
    time_col: TimeColumn = None,
    target_col: TargetColumn = None,
    day_first: DayFirst = None,
    covariates: Covariates = None,
    past_covariates: PastCovariates = None,
    static: StaticColumns = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="Field of the models: head=quantile.")] = None,
    training: Annotated[list[str] | None, typer.Option("--train", help="Training option: max_steps=200.")] = None,
    search: Annotated[
        list[str] | None, typer.Option("--search", help="What is tried: 'dropout=[0,0.2]', dropout=null.")
    ] = None,
    sampler: Annotated[str, typer.Option(help="tpe or random.")] = "tpe",
    seed: Annotated[int | None, typer.Option(help="Seed of draws and weights; 0 if left out.")] = None,
    output_dir: Annotated[Path | None, typer.Option(help="Folder for trials; a stopped search goes on.")] = None,
) -> None:
    """Search learning rate, width, look-back and dropout before the first test cutoff; resumable."""
    import yaml

    from tsllm.data.task import Asked
    from tsllm.evaluation.config import DataEntry
    from tsllm.evaluation.prepare import prepare_task
    from tsllm.evaluation.space import apply_params
    from tsllm.evaluation.tune import check_equal_search, tune_for_task
    from tsllm.files import check_folder
    from tsllm.forecasting.model_spec import ModelSpec

    quiet_libraries()
    given: dict[str, Any] = {"h": h, "context_length": context_length, "val_size": val_size, "freq": parse_freq(freq)}
    given |= {"covariates": name_list(covariates), "past_covariates": name_list(past_covariates)}
    given |= {"static": name_list(static), "season": season}
    Asked(**given)
    given |= {"id_col": id_col, "time_col": time_col, "target_col": target_col, "day_first": day_first}
    prepared = prepare_task(DataEntry(data, n_windows=n_windows, step_size=step_size, **given))
    tell_ignored(prepared.loaded)
    options, train = parse_settings(settings), parse_settings(training)
    join_settings({"seed": seed}, train, "--train")
    join_settings({"context_length": context_length}, options, "--set")
    specs = [ModelSpec(name, options=options, training=train) for name in parse_list(models)]
    if not specs:
        raise ValueError("--models names no model; give some, such as --models dlinear,patchtst")
    names = [spec.name for spec in specs]
    doubled = [name for name in names if names.count(name) > 1]
    if doubled:
        raise ValueError(f"--models names {doubled[0]} twice; name it once")
    folder = output_dir or Path(f"runs/tune_{Path(data).stem}")
    check_folder(folder)
    results, entries = [], []
    for spec in specs:
        changes = parse_settings(search)
        result = tune_for_task(spec, prepared, trials, seed or 0, folder, changes, sampler=sampler, tell=typer.echo)
        best = apply_params(spec, result.best.params)
        results.append(result)
        entries.append({"model": best.model, "options": best.options, "training": best.training})
        print_table(result.to_frame().sort_values("loss").drop(columns="error"), result.name)
    for result in results:
        typer.echo(result.describe())
    for note in check_equal_search(results):
        typer.secho(note, fg=typer.colors.YELLOW, err=True)
    path = folder / "best.yaml"
    path.write_text(yaml.safe_dump({"models": entries}, sort_keys=False), encoding="utf-8")
    typer.echo(f"entries for a comparison in {path}")
