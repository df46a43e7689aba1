"""`tsllm push`: upload a saved forecaster."""

from pathlib import Path
from typing import Annotated

import typer


def push(
    folder: Annotated[Path, typer.Argument(help="Folder of `tsllm fit`, a recipe or save_pretrained.")],
    repo_id: Annotated[str, typer.Argument(help="Where on the Hub: user/name.")],
    private: Annotated[bool, typer.Option("--private", help="A new repository is private.")] = False,
    licence: Annotated[
        str | None, typer.Option(help="Of the weights: apache-2.0, mit ...; default: by backbone and data.")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Branch to commit to; default: main.")] = None,
) -> None:
    """Upload a saved forecaster to the Hugging Face Hub, with the token of `hf auth login` or HF_TOKEN."""
    from tsllm.cli.console import quiet_libraries
    from tsllm.hub.package import push_to_hub
    from tsllm.hub.told_card import count_texts

    quiet_libraries()
    if number := count_texts(folder):
        typer.echo(f"{number} text{'s' * (number > 1)} of context.json {'go' if number > 1 else 'goes'} with it")
    typer.echo(push_to_hub(folder, repo_id, private=private, revision=revision, licence=licence))
