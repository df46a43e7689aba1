"""`tsllm demo`: a frozen language model, reprogrammed on real prices, against native forecasters, in some minutes."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tsllm.cli.console import print_table, quiet_libraries

if TYPE_CHECKING:
    import pandas as pd

    from tsllm.evaluation.backtest import BacktestResult
    from tsllm.training.fit import NeuralForecaster

DATA = "epf-fr-be"
BACKBONE = "smollm2-135m"
LEVELS = (20.0, 40.0, 60.0, 80.0)
# Every fifth day of the test part: all weekdays come, and AutoETS stays affordable.
STEP_DAYS = 5
STATISTICAL_INPUT = 672  # four weeks; more makes AutoETS slow and no better


def demo(
    output_dir: Annotated[Path, typer.Option(help="Folder for report, forecasts and adapter.")] = Path("runs/demo"),
    steps: Annotated[int, typer.Option(help="Training steps of the reprogrammed language model.")] = 200,
    layers: Annotated[int, typer.Option(help="Layers of SmolLM2-135M that are kept.")] = 4,
    seed: Annotated[int, typer.Option(help="Seed of weights and order.")] = 0,
    picture: Annotated[Path | None, typer.Option(help="Also write the forecast picture as PNG.")] = None,
) -> None:
    """Reprogram a frozen SmolLM2 on electricity prices and compare it with native forecasters."""
    from tsllm.backbones.pretrained import find_pretrained
    from tsllm.data.sources import load_frame
    from tsllm.data.splits import compute_borders
    from tsllm.evaluation.backtest import run_backtest
    from tsllm.types import ID

    started = time.perf_counter()
    quiet_libraries()
    say = _Teller(started)
    say("1/5  The language model (converted once, then cached)")
    find_pretrained(BACKBONE)
    say("2/5  The data: day-ahead electricity prices of France and Belgium, hourly, 2015 to 2016")
    loaded = load_frame(DATA, covariates=[])
    source, df = loaded.source, loaded.df
    assert source is not None
    h = source.prediction_length
    border = next(iter(compute_borders(df, source.split).values()))
    n_windows = (border.test - border.validation - h) // (STEP_DAYS * 24) + 1
    say(
        f"3/5  Train and forecast {n_windows} days, {df[ID].nunique()} series each: every {STEP_DAYS}th day of the "
        "last fifth, which no model is trained or tuned on"
    )
    models = build_models(source.domain, h, layers, steps, seed, border.validation - border.train)
    for model in models:
        if hasattr(model, "progress"):
            model.progress = say.training
    result = run_backtest(df, models, h, n_windows, STEP_DAYS * 24, LEVELS, progress=say.stage)
    say("4/5  Save the adapter, load it in a new process, forecast again")
    forecaster: Any = result.fitted["TimeLLM"]
    reloaded = check_reload(forecaster, df, output_dir)
    say(f"     {reloaded}")
    say("5/5  Report")
    table = write_outputs(df, result, output_dir, reloaded, {"layers": layers, "steps": steps, "seed": seed}, picture)
    shown = ["model", "mae", "rmse", "mase", "wql", "coverage", "skill", "seconds", "failed"]
    print_table(table[shown].sort_values("mae"), f"{n_windows * df[ID].nunique()} days that no model had seen")
    for sentence in table.attrs["finding"]:
        typer.echo(sentence)
    typer.echo(f"\nreport     {output_dir / 'report.html'}\nforecasts  {output_dir / 'forecasts.csv'}")
    typer.echo(f"adapter    {output_dir / 'adapter'}\ntime       {time.perf_counter() - started:.0f} s")


class _Teller:
    """Says what happens, with the seconds since the start.

    Args:
        started: `time.perf_counter()` at the start.
    """

    def __init__(self, started: float) -> None:
        self.started = started

    def __call__(self, text: str) -> None:
        typer.echo(f"[{time.perf_counter() - self.started:4.0f} s] {text}")

    def stage(self, text: str) -> None:
        self(f"     {text}")

    def training(self, step: int, total: int, values: dict[str, float]) -> None:
        if "eval_loss" in values:
            self(f"       step {step} of {total}: validation loss {values['eval_loss']:.4f}")


def build_models(domain: str, h: int, layers: int, steps: int, seed: int, val_size: int) -> list[Any]:
    """Builds the five forecasters; none reads covariates, and both trained ones share look-back, loss and data."""
    from tsllm.forecasting.naive import SeasonalNaive
    from tsllm.forecasting.statistical import StatisticalForecaster
    from tsllm.training.fit import NeuralForecaster

    common: dict[str, Any] = {"context_length": 168, "head": "quantile", "val_size": val_size}
    training = {"seed": seed, "per_device_train_batch_size": 16, "eval_steps": 50}
    return [
        NeuralForecaster(
            "timellm",
            h,
            backbone=BACKBONE,
            num_backbone_layers=layers,
            prompt_domain=domain,
            prompt_statistics="series",
            training=training | {"max_steps": steps, "learning_rate": 1e-3},
            **common,
        ),
        NeuralForecaster(
            "dlinear", h, training=training | {"max_steps": 1000, "eval_steps": 100, "learning_rate": 1e-3}, **common
        ),
        SeasonalNaive(24),
        StatisticalForecaster("AutoETS", 24, input_size=STATISTICAL_INPUT),
        StatisticalForecaster("DynamicOptimizedTheta", 24, input_size=STATISTICAL_INPUT),
    ]


def check_reload(forecaster: "NeuralForecaster", df: "pd.DataFrame", output_dir: Path) -> str:
    """Saves the adapter, forecasts with it in a new process, and says whether the forecasts are the same.

    Raises:
        RuntimeError: If the new process fails or forecasts anything else.
    """
    import subprocess
    import sys

    import numpy as np
    import pandas as pd

    folder, history, made = output_dir / "adapter", output_dir / "history.parquet", output_dir / "reloaded.parquet"
    forecaster.save_pretrained(folder)
    df.to_parquet(history, index=False)
    command = [sys.executable, "-m", "tsllm.cli.main", "predict", str(folder), str(history)]
    done = subprocess.run([*command, "--level", "80", "--output", str(made)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the saved adapter could not be used in a new process: {done.stderr.strip()}")
    here, there = forecaster.predict(df, level=[80]), pd.read_parquet(made)
    columns = [c for c in here.columns if here[c].dtype.kind == "f"]
    gap = float(np.abs(here[columns].to_numpy() - there[columns].to_numpy()).max())
    if gap > 0:
        raise RuntimeError(f"the reloaded adapter forecasts differently, by up to {gap:g}")
    history.unlink()
    made.unlink()
    size = sum(p.stat().st_size for p in folder.iterdir()) / 1e6
    return f"a new process forecasts the same numbers, to the last digit; the adapter is {size:.1f} MB"


def write_outputs(
    df: "pd.DataFrame",
    result: "BacktestResult",
    output_dir: Path,
    reloaded: str,
    settings: dict[str, int],
    picture: Path | None,
) -> "pd.DataFrame":
    """Writes `forecasts.csv`, `scores.csv` and `report.html`; returns the scores with the finding in `attrs`."""
    import numpy as np

    from tsllm.evaluation.backtest import read_costs
    from tsllm.evaluation.figures import plot_forecasts
    from tsllm.evaluation.findings import describe_model, describe_winner
    from tsllm.evaluation.significance import compare_to
    from tsllm.evaluation.tables import SeriesScales, WindowArrays, compute_window_losses, score, training_part

    output_dir.mkdir(parents=True, exist_ok=True)
    result.frame.to_csv(output_dir / "forecasts.csv", index=False)
    table = score(result, SeriesScales.from_training(training_part(df, result), 24))
    table = table.merge(read_costs(result.costs), on="model")
    table["seconds"] = table["fit_seconds"] + table["predict_seconds"]
    table.to_csv(output_dir / "scores.csv", index=False)
    arrays = WindowArrays.of(result.frame, result.models, result.h, result.level)
    losses = compute_window_losses(arrays)
    winner = table.sort_values("mae")["model"].iloc[0]
    rng = np.random.default_rng(settings["seed"])
    against_winner = compare_to(losses, winner, rng)
    against_naive = compare_to(losses, "SeasonalNaive", rng)
    finding = describe_winner(table, against_winner, unit="EUR/MWh")
    finding += [describe_model(m, table, against_naive) for m in ("TimeLLM", "DLinear")]
    table.attrs["finding"] = finding
    report = build_report(df, result, table, arrays, against_naive, reloaded, settings)
    report.save(output_dir / "report.html")
    if picture is not None:
        picture.parent.mkdir(parents=True, exist_ok=True)
        shown = ["TimeLLM", "DLinear", "SeasonalNaive"]
        plot_forecasts(df, result.frame, shown, context=72, level=80).savefig(picture, dpi=110)
    return table


def build_report(
    df: "pd.DataFrame",
    result: "BacktestResult",
    table: "pd.DataFrame",
    arrays: Any,
    pairs: "pd.DataFrame",
    reloaded: str,
    settings: dict[str, int],
) -> Any:
    """Puts the report together."""
    from tsllm.evaluation import figures
    from tsllm.evaluation.report import Report, Section, TableBlock, describe_environment
    from tsllm.evaluation.tables import COST_FORMATS, LEGEND, compute_step_skill
    from tsllm.types import CUTOFF

    accuracy = ["model", "mae", "rmse", "mase", "smape", "wql", "coverage", "width", "skill", "win_rate", "failed"]
    cost = ["model", "fit_seconds", "predict_seconds", "ms_per_window", "trained_parameters", "total_parameters"]
    ordered = table.sort_values("mae")
    cutoffs = result.frame[CUTOFF]
    logs = {m: result.fitted[m].log for m in ("TimeLLM", "DLinear")}  # type: ignore[attr-defined]
    best = {c: LEGEND[c][1] for c in ("mae", "rmse", "mase", "smape", "wql", "skill", "win_rate")}
    setting = (
        "Day-ahead electricity prices of France and Belgium in EUR/MWh, hourly. Each window forecasts 24 hours from "
        f"the 168 before; {cutoffs.nunique()} windows a series from {cutoffs.min()} to {cutoffs.max()}. Models are "
        "fitted once, on the data before the first window; AutoETS and Theta are estimated anew at each window on the "
        f"last {STATISTICAL_INPUT} hours. No model reads covariates. SmolLM2-135M keeps its first "
        f"{settings['layers']} layers, all frozen: only patch embedding, prototypes, reprogramming attention and head "
        "are trained."
    )
    return Report(
        title="A frozen language model on electricity prices",
        finding=table.attrs["finding"],
        sections=[
            Section("Setting", [setting]),
            Section(
                "Accuracy",
                tables=[
                    TableBlock(
                        ordered[accuracy],
                        "Scores over all windows",
                        best,
                        {"skill": ".1%", "win_rate": ".0%", "coverage": ".1%"},
                        {c: LEGEND[c][0] for c in accuracy[1:]} | {"coverage": "share inside the 80 % interval"},
                    )
                ],
                pictures=[figures.draw_skill_intervals(pairs)],
            ),
            Section(
                "Forecasts",
                pictures=[
                    figures.draw_forecasts(df, result.frame, ["TimeLLM", "DLinear", "SeasonalNaive"], 72, 80),
                    figures.draw_step_skill(compute_step_skill(arrays, "SeasonalNaive"), "SeasonalNaive"),
                ],
            ),
            Section(
                "Cost",
                tables=[TableBlock(ordered[cost], "What it took", formats=COST_FORMATS)],
                pictures=[figures.draw_cost(table), figures.draw_training(logs)],
            ),
            Section("The saved adapter", [f"Check: {reloaded}."]),
            Section(
                "How to repeat it",
                code=f"tsllm demo --steps {settings['steps']} --layers {settings['layers']} --seed {settings['seed']}",
            ),
        ],
        facts=describe_environment([settings["seed"]]),
    )
