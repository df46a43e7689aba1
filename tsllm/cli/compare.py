"""`tsllm compare`: all models on the same windows, with costs, tests and a report."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tsllm.cli.columns import (
    DayFirst,
    IdColumn,
    NonNegative,
    Season,
    StaticColumns,
    TargetColumn,
    TimeColumn,
    Transform,
    Whole,
    read_scale,
)
from tsllm.cli.console import (
    name_list,
    parse_counts,
    parse_freq,
    parse_levels,
    parse_list,
    print_table,
    quiet_libraries,
)

if TYPE_CHECKING:
    from tsllm.evaluation.compare import TaskResult
    from tsllm.evaluation.config import CompareConfig


def compare(
    ctx: typer.Context,
    source: Annotated[str, typer.Argument(help="YAML file, or the data: a file, a named data set, a Hub id.")],
    models: Annotated[
        str, typer.Option(help="For data: AutoETS, dlinear, text, neuralforecast:NHITS, chronos:ID, folders, Hub ids.")
    ] = "SeasonalNaive,AutoETS,DynamicOptimizedTheta,dlinear,timellm",
    h: Annotated[int | None, typer.Option("--h", help="For data: steps ahead.")] = None,
    n_windows: Annotated[int, typer.Option(help="For data: cutoffs.")] = 7,
    step_size: Annotated[int | None, typer.Option(help="For data: steps between cutoffs.")] = None,
    season: Season = None,
    level: Annotated[str, typer.Option(help="For data: intervals in per cent.")] = "20,40,60,80",
    backbone: Annotated[str, typer.Option(help="For data: language model of timellm and text.")] = "smollm2-135m",
    covariates: Annotated[str | None, typer.Option(help="For data: columns known over the horizon: a,b.")] = None,
    past_covariates: Annotated[str | None, typer.Option(help="For data: columns known up to the cutoff.")] = None,
    static: StaticColumns = None,
    context: Annotated[
        str | None,
        typer.Option(
            help="For data: what each model is told beside itself, a text or a table unique_id, text, published."
        ),
    ] = None,
    reader: Annotated[
        str | None,
        typer.Option(
            help="For data: who reads the texts, `rules`, a trained FOLDER, `rules+FOLDER` or `model`; default: "
            "a model that reads texts does so itself, the rules read for the others."
        ),
    ] = None,
    timeless: Annotated[
        bool, typer.Option("--timeless", help="For data: texts without `published` count at every cutoff.")
    ] = False,
    transform: Transform = None,
    non_negative: NonNegative = False,
    integer: Whole = False,
    id_col: IdColumn = None,
    time_col: TimeColumn = None,
    target_col: TargetColumn = None,
    day_first: DayFirst = None,
    freq: Annotated[str | None, typer.Option(help="For data: frequency; inferred by default.")] = None,
    max_seconds: Annotated[float | None, typer.Option(help="Training seconds of each model and seed.")] = None,
    seeds: Annotated[str | None, typer.Option(help="Seeds: 0,1,2.")] = None,
    output_dir: Annotated[Path | None, typer.Option(help="Folder for cells, tables and report.")] = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Remove results of earlier runs in the folder; else those that fit are used."
        ),
    ] = False,
) -> None:
    """Compare models fairly: same windows, several seeds, paired tests, cost; resumable."""
    overrides: dict[str, Any] = {"max_seconds": max_seconds}
    overrides["seeds"] = None if seeds is None else parse_counts("--seeds", seeds)
    overrides["output_dir"] = str(output_dir) if output_dir else None
    given = {k: v for k, v in overrides.items() if v is not None}
    common: dict[str, Any] = {"max_seconds": max_seconds, "seeds": seeds, "output_dir": output_dir}
    if source.endswith((".yaml", ".yml")):
        refuse_given(ctx, OF_DATA, f"it is for data, and stands in the file {source}")
        run_file(source, given, write_command("tsllm compare", source, **common), overwrite)
        return
    from tsllm.evaluation.config import CompareConfig, DataEntry
    from tsllm.forecasting.model_spec import ModelSpec, give_named_covariates, name_saved, tell_spec

    options: dict[str, dict[str, Any]] = {
        "timellm": {"backbone": backbone, "num_backbone_layers": 4, "head": "quantile"},
        "text": {"language_model": backbone},
    }
    scale = read_scale(transform, non_negative, integer)
    specs = [ModelSpec(m, options=options.get(m, {}) | scale) for m in parse_list(models)]
    if covariates or past_covariates or static:
        specs = give_named_covariates(specs)
    if context is None:
        refuse_given(ctx, ("reader", "timeless"), "there is no --context")
    else:
        specs = name_saved(specs)
        specs = [one for spec in specs for one in (spec, tell_spec(spec, reader))]
    if not specs:
        raise ValueError("--models names no model; give some, such as SeasonalNaive,AutoETS,dlinear")
    names = [spec.name for spec in specs]
    if not {"timellm", "text"} & {spec.model for spec in specs}:
        refuse_given(ctx, ("backbone",), "neither timellm nor text is among --models")
    config = CompareConfig(
        data=[
            DataEntry(
                source,
                h=h,
                n_windows=n_windows,
                step_size=step_size,
                freq=parse_freq(freq),
                season=season,
                covariates=name_list(covariates),
                past_covariates=name_list(past_covariates),
                static=name_list(static),
                context=context,
                timeless=timeless,
                id_col=id_col,
                time_col=time_col,
                target_col=target_col,
                day_first=day_first,
            )
        ],
        models=specs,
        level=parse_levels(level),
        reference="SeasonalNaive" if "SeasonalNaive" in names else names[0],
        focus="TimeLLM" if "TimeLLM" in names else "",
        **({"output_dir": f"runs/compare_{Path(source).stem}", "title": f"Comparison on {source}"} | given),
    )
    columns: dict[str, Any] = {
        "covariates": covariates,
        "past_covariates": past_covariates,
        "static": static,
        "freq": freq,
        "season": season,
    }
    columns |= write_columns(id_col, time_col, target_col, day_first) | scale
    if context is not None:
        columns |= {"context": context} | ({"reader": reader} if reader else {})
        columns |= {"timeless": True} if timeless else {}
    shape = columns | {"h": h, "n_windows": n_windows, "step_size": step_size, "level": level, "backbone": backbone}
    run_config(config, write_command("tsllm compare", source, models=models, **shape, **common), overwrite)


# What a YAML file says itself.
OF_DATA = (
    "models",
    "h",
    "n_windows",
    "step_size",
    "level",
    "backbone",
    "covariates",
    "past_covariates",
    "static",
    "context",
    "reader",
    "timeless",
    "transform",
    "non_negative",
    "integer",
    "freq",
    "season",
    "id_col",
    "time_col",
    "target_col",
    "day_first",
)
# Options that are not called as the parameter is.
_SPELLED = {"id_col": "id", "time_col": "time", "target_col": "target"}


def refuse_given(context: typer.Context, names: Sequence[str], why: str) -> None:
    """Refuses options that were given and would have no effect.

    Raises:
        ValueError: Naming the option.
    """
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name != "DEFAULT":
            option = _SPELLED.get(name, name).replace("_", "-")
            raise ValueError(f"--{option} has no effect here: {why}; leave it out")


def write_columns(
    id_col: str | None, time_col: str | None, target_col: str | None, day_first: bool | None
) -> dict[str, Any]:
    """Returns the options about a table as `write_command` takes them."""
    order = {} if day_first is None else {"day_first" if day_first else "month_first": True}
    return {"id": id_col, "time": time_col, "target": target_col} | order


def write_command(program: str, *arguments: str, **options: Any) -> str:
    """Writes a command line that can be pasted; options that are None are left out, a list repeats its option."""
    words = [program, *(shlex.quote(argument) for argument in arguments)]
    for name, value in options.items():
        for one in value if isinstance(value, list) else [value]:
            if one is True:
                words.append(f"--{name.replace('_', '-')}")
            elif one is not None:
                words += [f"--{name.replace('_', '-')}", shlex.quote(str(one))]
    return " ".join(words)


def run_file(path: str, overrides: dict[str, Any], command: str, overwrite: bool = False) -> "list[TaskResult]":
    """Runs the comparison of a YAML file and returns its results."""
    from tsllm.evaluation.config import CompareConfig

    return run_config(CompareConfig.load(path, overrides), command, overwrite)


def run_config(config: "CompareConfig", command: str, overwrite: bool = False) -> "list[TaskResult]":
    """Runs a comparison, writes the report, prints the scores and the finding, and returns the results.

    Raises:
        typer.Exit: With status 1, after the report is written, if a model failed anywhere.
    """
    import time

    from tsllm.evaluation.budget import describe_own_budgets
    from tsllm.evaluation.compare import run_compare
    from tsllm.evaluation.compare_report import build_compare_report, save_compare

    quiet_libraries()
    for note in config.find_unequal_budgets():
        typer.secho(f"warning: {note}; give one rule for all (budget: {{kind: convergence}})", fg="yellow", err=True)
    if own := describe_own_budgets(config.models):
        typer.secho(f"warning: {own}", fg="yellow", err=True)
    started = time.perf_counter()
    results = run_compare(
        config, lambda text: typer.echo(f"[{time.perf_counter() - started:5.0f} s] {text}"), overwrite=overwrite
    )
    report, tables = build_compare_report(config, results, command)
    path = save_compare(report, tables, config.output_dir)
    for name, table in tables.items():
        if name.startswith("scores-"):
            shown = ["model", "mae", "scaled_mae", "mase", "wql", "coverage", "skill", "win_rate", "seconds", "failed"]
            kept = [c for c in shown if c in table]
            title = f"{name.removeprefix('scores-')}, skill against {config.reference}"
            print_table(table[kept].sort_values("scaled_mae"), title)
    for sentence in report.finding:
        typer.echo(sentence)
    typer.echo(f"report in {path}")
    failed = {failure.model: failure.error for result in results for run in result.runs for failure in run.failures}
    for model, error in failed.items():
        typer.secho(f"failed: {model}: {error}", fg=typer.colors.RED, err=True)
    if failed:
        raise typer.Exit(1)
    return results
