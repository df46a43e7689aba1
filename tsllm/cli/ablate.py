"""`tsllm ablate`: does the pretrained language model help, on this data?"""

from pathlib import Path
from typing import Annotated, Any

import typer

from tsllm.cli.columns import DayFirst, IdColumn, Season, TargetColumn, TimeColumn
from tsllm.cli.console import parse_counts, parse_freq, parse_levels, parse_settings


def ablate(
    data: Annotated[str, typer.Argument(help="CSV, Parquet or Arrow file, a named data set, or a Hub id.")],
    backbone: Annotated[str, typer.Option(help="Language model: packaged name, folder or Hub id.")] = "smollm2-135m",
    layers: Annotated[int, typer.Option(help="Layers kept; 0 = all.")] = 4,
    h: Annotated[int | None, typer.Option("--h", help="Steps ahead; a named data set brings its own.")] = None,
    n_windows: Annotated[int, typer.Option(help="Cutoffs.")] = 20,
    step_size: Annotated[int | None, typer.Option(help="Steps between cutoffs; default: h.")] = None,
    steps: Annotated[int, typer.Option(min=0, help="Training steps of each variant and seed.")] = 200,
    seeds: Annotated[str, typer.Option(help="Seeds: 0,1,2.")] = "0,1,2",
    level: Annotated[str, typer.Option(help="Intervals in per cent.")] = "20,40,60,80",
    freq: Annotated[str | None, typer.Option(help="Frequency; inferred by default.")] = None,
    season: Season = None,
    id_col: IdColumn = None,
    time_col: TimeColumn = None,
    target_col: TargetColumn = None,
    day_first: DayFirst = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="Field of TimeLLM: patch_length=12.")] = None,
    output_dir: Annotated[Path | None, typer.Option(help="Folder for cells, tables and report.")] = None,
) -> None:
    """Change the language model and what it reads in eight ways, at equal budgets, and test what is missed."""
    from tsllm.cli.compare import run_config, write_columns, write_command
    from tsllm.evaluation.config import CompareConfig
    from tsllm.forecasting.model_spec import ModelSpec

    options: dict[str, Any] = {"backbone": backbone, "num_backbone_layers": layers, "head": "quantile"}
    whole = ModelSpec("timellm", "TimeLLM", options | parse_settings(settings), {"max_steps": steps})
    table: dict[str, Any] = {"id_col": id_col, "time_col": time_col, "target_col": target_col, "day_first": day_first}
    table |= {"freq": parse_freq(freq), "season": season}
    config = CompareConfig(
        data=[{"name": data, "h": h, "n_windows": n_windows, "step_size": step_size} | table],
        models=["SeasonalNaive", whole],
        ablate=["TimeLLM"],
        seeds=parse_counts("--seeds", seeds),
        level=parse_levels(level),
        focus="TimeLLM",
        title=f"Does {backbone} help to forecast {data}?",
        output_dir=str(output_dir or f"runs/ablate_{Path(data).stem}"),
    )
    shape = {"h": h, "n_windows": n_windows, "step_size": step_size, "steps": steps, "seeds": seeds, "level": level}
    shape |= {"freq": freq, "season": season} | write_columns(id_col, time_col, target_col, day_first)
    command = write_command(
        "tsllm ablate", data, backbone=backbone, layers=layers, **shape, set=settings, output_dir=output_dir
    )
    run_config(config, command)
