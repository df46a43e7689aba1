"""`tsllm decide`: policies side by side on one decision problem."""

from pathlib import Path
from typing import Annotated, Any

import typer

from tsllm.cli.console import parse_settings, print_table


def decide(
    source: Annotated[Path, typer.Argument(help="YAML file, such as recipes/configs/decide/peak_shaving_vic.yaml.")],
    output_dir: Annotated[Path | None, typer.Option(help="Folder for results; the file's own by default.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Key of the file: seeds=[0], n_samples=50.")
    ] = None,
) -> None:
    """Compare policies on a decision: regret against hindsight, paired tests, time to decide; resumable."""
    import pandas as pd

    from tsllm.programs.decide import run_decide
    from tsllm.programs.decide_config import load_config

    overrides: dict[str, Any] = parse_settings(settings)
    if output_dir is not None:
        overrides["output_dir"] = str(output_dir)
    config = load_config(source, overrides)
    typer.echo(f"{config.title}: {len(config.policies)} policies, seeds {', '.join(map(str, config.seeds))}")
    report = run_decide(config, typer.echo)
    columns = ["policy", "cost", "regret_of_saving", "regret_of_hindsight", "p_holm", "verdict", "ms_per_decision"]
    table = pd.DataFrame(report["table"]).reindex(columns=columns)
    tested = {"p_holm": f"p_holm against {config.reference}"}
    formats = {"regret_of_saving": ".1%", "regret_of_hindsight": ".1%"}
    print_table(table.rename(columns=tested), title=config.title, formats=formats)
    typer.echo(f"written to {Path(config.output_dir) / 'decide.md'} and decide.json")
