"""`tsllm benchmark`: public benchmarks, run whole and written down."""

from pathlib import Path
from typing import Annotated

import typer

from tsllm.cli.console import explain_errors, parse_list, quiet_libraries

app = typer.Typer(help="Run a public benchmark whole.", no_args_is_help=True)


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
