"""`tsllm fit`: train a model on a table of series."""

from pathlib import Path
from typing import Annotated

import typer

from tsllm.cli.console import parse_list, parse_settings, quiet_libraries


def fit(
    data: Annotated[str, typer.Argument(help="CSV, Parquet or Arrow file, a named data set, or a Hub id.")],
    model: Annotated[str, typer.Option(help="timellm, dlinear ..., or a saved folder to go on from.")] = "timellm",
    h: Annotated[int | None, typer.Option("--h", help="Steps ahead; a named data set brings its own.")] = None,
    output_dir: Annotated[Path, typer.Option(help="Folder for the artefact.")] = Path("runs/fit"),
    context_length: Annotated[int | None, typer.Option(help="Look-back, steps.")] = None,
    freq: Annotated[str | None, typer.Option(help="Frequency such as h, 15min, D, MS; inferred by default.")] = None,
    steps: Annotated[int | None, typer.Option(help="Most training steps.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Learning rate.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights and order.")] = 0,
    targets: Annotated[str | None, typer.Option(help="Columns of a wide table that are series: a,b.")] = None,
    covariates: Annotated[str | None, typer.Option(help="Columns known over the horizon: a,b.")] = None,
    past_covariates: Annotated[str | None, typer.Option(help="Columns known up to now only: a,b.")] = None,
    val_size: Annotated[int | None, typer.Option(help="Last steps of each series kept for validation.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Field of the model: backbone=smollm2-135m, head=quantile.")
    ] = None,
) -> None:
    """Train a model on your data and save it."""
    from tsllm.cli.task import describe_task, load_data
    from tsllm.forecasting.roster import ModelSpec, build_forecaster
    from tsllm.training.fit import NeuralForecaster

    quiet_libraries()
    known, past = parse_list(covariates), parse_list(past_covariates)
    loaded = load_data(data, freq=freq, targets=parse_list(targets) or None, covariates=known + past)
    task = describe_task(loaded, h=h, context_length=context_length, val_size=val_size, covariates=(known, past))
    training = {"max_steps": steps, "learning_rate": learning_rate}
    spec = ModelSpec(
        model,
        options=parse_settings(settings),
        training={k: v for k, v in training.items() if v is not None},
        covariates=bool(known or past),
    )
    forecaster = NeuralForecaster(model) if Path(model).is_dir() else build_forecaster(spec, task, seed)
    if not isinstance(forecaster, NeuralForecaster):
        raise ValueError(f"{model} needs no training: use `tsllm predict` or `tsllm backtest` with it directly")
    forecaster.progress = lambda step, total, values: typer.echo(
        f"  step {step}/{total}  " + "  ".join(f"{k} {v:.4f}" for k, v in values.items())
    )
    typer.echo(f"{forecaster.alias}: {loaded.df['unique_id'].nunique()} series, {len(loaded.df)} rows, h={task.h}")
    forecaster.fit(loaded.df, task.h)
    forecaster.save_pretrained(output_dir)
    typer.echo(f"trained in {forecaster.seconds:.0f} s, saved in {output_dir}")
    typer.echo(f"forecast with: tsllm predict {output_dir} {data} --level 80")
