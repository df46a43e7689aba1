"""`tsllm demo`: a frozen language model, reprogrammed on real prices, against native forecasters, in some minutes."""

import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tsllm.cli.compare import run_config, write_command

if TYPE_CHECKING:
    from tsllm.evaluation.compare import TaskResult
    from tsllm.evaluation.config import CompareConfig

DATA = "epf-fr-be"
BACKBONE = "smollm2-135m"
DAYS, VAL_SIZE = 134, 1608  # all test days; half as many steps before them are held out for validation
BATCH = 16  # windows of a step
EVAL_WINDOWS = 800  # between validations
STATISTICAL_INPUT = 672  # four weeks


def demo(
    output_dir: Annotated[Path, typer.Option(help="Folder for report, forecasts and adapter.")] = Path("runs/demo"),
    steps: Annotated[int, typer.Option(min=1, help="Training steps of each trained model, of 16 windows.")] = 200,
    layers: Annotated[int, typer.Option(min=1, help="Layers of SmolLM2-135M that are kept.")] = 4,
    seed: Annotated[int, typer.Option(help="Seed of weights and order.")] = 0,
    picture: Annotated[Path | None, typer.Option(help="Also write the forecast picture as PNG.")] = None,
) -> None:
    """Reprogram a frozen SmolLM2 on electricity prices and compare it with native forecasters."""
    from tsllm.backbones.pretrained import find_pretrained
    from tsllm.files import check_file, check_folder

    check_folder(output_dir)
    if picture is not None:
        check_file(picture, (".png",))
    started = time.perf_counter()
    typer.echo("The language model (converted once, then cached)")
    find_pretrained(BACKBONE)
    config = build_config(output_dir, steps, layers, seed)
    command = write_command("tsllm demo", output_dir=output_dir, steps=steps, layers=layers, seed=seed)
    (result,) = run_config(config, command)
    save_outputs(result, output_dir, picture)
    typer.echo("Save the adapter, load it in a new process, forecast again")
    typer.echo(check_reload(output_dir / "adapter", result.prepared.loaded.df, output_dir))
    typer.echo("Tell it a sentence of new wording: read through SmolLM2, and through random weights of its spectrum")
    for line in tell_a_sentence(output_dir, result.prepared.loaded.df, seed):
        typer.echo(f"  {line}")
    typer.echo(f"\nforecasts  {output_dir / 'forecasts.csv'}\nadapter    {output_dir / 'adapter'}")
    typer.echo(f"told       {output_dir / 'told.png'}")
    typer.echo(f"time       {time.perf_counter() - started:.0f} s")


def build_config(output_dir: Path, steps: int, layers: int, seed: int) -> "CompareConfig":
    """Returns the comparison over all test days: no model reads covariates, and trained ones see as many windows."""
    from tsllm.evaluation.config import CompareConfig
    from tsllm.forecasting.model_spec import ModelSpec

    training = {"per_device_train_batch_size": BATCH, "learning_rate": 1e-3}
    windows = BATCH * steps
    llm = {"backbone": BACKBONE, "num_backbone_layers": layers, "prompt_statistics": "series"}
    return CompareConfig(
        data=[{"name": DATA, "n_windows": DAYS, "step_size": 24, "context_length": 168, "val_size": VAL_SIZE}],
        models=[
            "SeasonalNaive",
            ModelSpec("DynamicOptimizedTheta", options={"input_size": STATISTICAL_INPUT}),
            ModelSpec("dlinear", options={"head": "quantile"}, training=training),
            ModelSpec("timellm", options={"head": "quantile"} | llm, training=training),
        ],
        output_dir=str(output_dir),
        title="A frozen language model on electricity prices",
        focus="TimeLLM",
        seeds=[seed],
        budget={"kind": "windows", "windows": windows, "eval_every_windows": min(EVAL_WINDOWS, windows)},
    )


def save_outputs(result: "TaskResult", output_dir: Path, picture: Path | None) -> None:
    """Writes `forecasts.csv`, the adapter of the trained Time-LLM, and the picture if one is asked for."""
    frame = result.runs[0].frame
    frame.to_csv(output_dir / "forecasts.csv", index=False)
    adapter = output_dir / "adapter"
    if adapter.exists():
        shutil.rmtree(adapter)
    shutil.copytree(result.folders["TimeLLM"], adapter)
    if picture is not None:
        from tsllm.evaluation.figures import plot_forecasts

        picture.parent.mkdir(parents=True, exist_ok=True)
        shown = ["TimeLLM", "DLinear", "SeasonalNaive"]
        figure = plot_forecasts(result.prepared.loaded.df, frame, shown, context=48, level=80)
        figure.set_size_inches(4.2, 5.6)  # narrow, so that its letters are legible in the width of a phone
        figure.savefig(picture, dpi=200)


def tell_a_sentence(output_dir: Path, df: Any, seed: int) -> list[str]:
    """Has a sentence read for the saved adapter's forecast, and draws it into `told.png`.

    Returns:
        The sentence, and what each reader understood.
    """
    from tsllm.forecasting.neural import NeuralForecaster
    from tsllm.programs.context_demo import draw_told, say_effects, tell_twice

    told = tell_twice(NeuralForecaster.from_pretrained(output_dir / "adapter"), df, BACKBONE, seed)
    draw_told(df, told, output_dir / "told.png", "price, EUR/MWh")
    return [told[0].said.text, *(f"{one.weights}: {say_effects(one)} ({one.seconds:.0f} s)" for one in told)]


def check_reload(folder: Path, df: Any, output_dir: Path) -> str:
    """Forecasts with the saved adapter here and in a new process, and says whether the forecasts are the same.

    Raises:
        RuntimeError: If the new process fails or forecasts anything else.
    """
    import numpy as np
    import pandas as pd

    from tsllm.forecasting.neural import NeuralForecaster

    history, made = output_dir / "history.parquet", output_dir / "reloaded.parquet"
    df.to_parquet(history, index=False)
    command = [sys.executable, "-m", "tsllm.cli.main", "predict", str(folder), str(history)]
    done = subprocess.run([*command, "--level", "80", "--output", str(made)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the saved adapter could not be used in a new process: {done.stderr.strip()}")
    here, there = NeuralForecaster.from_pretrained(folder).predict(df, level=[80]), pd.read_parquet(made)
    columns = [c for c in here.columns if here[c].dtype.kind == "f"]
    gap = float(np.abs(here[columns].to_numpy() - there[columns].to_numpy()).max())
    if gap > 0:
        raise RuntimeError(f"the reloaded adapter forecasts differently, by up to {gap:g}")
    history.unlink()
    made.unlink()
    size = sum(p.stat().st_size for p in folder.iterdir() if p.is_file()) / 1e6
    return f"a new process forecasts the same numbers, to the last digit; the adapter is {size:.1f} MB"
