"""`tsllm benchmark`: protocols of others, by one command each."""

from pathlib import Path
from typing import Annotated

import typer

from tsllm.cli.console import explain_errors, parse_list, print_table, quiet_libraries

app = typer.Typer(
    help="Run published protocols: series never seen, long horizons, forecasts that need a text.", no_args_is_help=True
)


@app.command("zero-shot")
@explain_errors
def zero_shot(
    models: Annotated[
        str, typer.Option(help="Saved folders, AutoTheta, AutoETS, FLAIR, chronos:ID, separated by commas.")
    ] = "AutoTheta,AutoETS",
    sets: Annotated[str | None, typer.Option(help="Some of the eight sets: m3-monthly,m3-yearly.")] = None,
    output_dir: Annotated[Path, typer.Option(help="Folder of cells and tables; a stopped run goes on.")] = Path(
        "runs/zero_shot"
    ),
) -> None:
    """Score models on eight sets of Chronos' zero-shot benchmark, beside published figures."""
    from tsllm.evaluation.yardsticks import ZERO_SHOT_SETS
    from tsllm.evaluation.zero_shot_report import run_benchmark_zero_shot

    quiet_libraries()
    report = run_benchmark_zero_shot(parse_list(models), parse_list(sets) or ZERO_SHOT_SETS, output_dir, typer.echo)
    print_table(report.summary, "relative to the seasonal naive", {"rel_mase": ".3f", "rel_wql": ".3f"})
    for note in report.notes:
        typer.echo(note)
    typer.echo(f"tables in {report.folder}")
    if (report.summary["failed"] > 0).any():
        raise typer.Exit(1)


@app.command("cik")
@explain_errors
def cik(
    file: Annotated[Path, typer.Argument(help="Context is Key: one instance a line (JSON).")],
    output_dir: Annotated[Path, typer.Option(help="Folder for forecasts, scores and report.")],
    arms: Annotated[
        str,
        typer.Option(
            help="What reads the text, the one that counts first: none, data, rules, learned, rules+learned, "
            "learned+rules, swapped, spectrum."
        ),
    ] = "rules,none,data,swapped",
    reader: Annotated[Path | None, typer.Option(help="Folder of a trained reader, for `learned`.")] = None,
    control: Annotated[Path | None, typer.Option(help="Folder of one on random weights, for `spectrum`.")] = None,
    samples: Annotated[int, typer.Option(help="Sample paths an instance.")] = 100,
    seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 0,
) -> None:
    """Context is Key: forecasts that need their text."""
    from tsllm.programs.benchmark_cik import run_cik

    quiet_libraries()
    run_cik(
        file, output_dir, arms=parse_list(arms), reader=reader, control=control, samples=samples, seed=seed,
        tell=typer.echo,
    )  # fmt: skip
    typer.echo((output_dir / "report.md").read_text(encoding="utf-8"))
