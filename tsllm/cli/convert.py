"""`tsllm convert`: a checkpoint of public reference code becomes one of our folders."""

from pathlib import Path
from typing import Annotated

import typer


def convert(
    checkpoint: Annotated[Path, typer.Argument(help="The reference's .pth (tensors only) or .safetensors file.")],
    model: Annotated[str, typer.Option(help="DLinear, PatchTST, PatchTST-ssl, iTransformer, TimesNet, TimeLLM ...")],
    args: Annotated[Path, typer.Option(help="The reference's own arguments (seq_len, pred_len ...): JSON or YAML.")],
    output_dir: Annotated[Path, typer.Option("--output-dir", "-o", help="Folder to write; must be new or empty.")],
) -> None:
    """Turn a checkpoint of Time-Series-Library, PatchTST, UNetTSF, Pyraformer or Time-LLM into a folder of ours."""
    from tsllm.cli.console import quiet_libraries
    from tsllm.hub.convert import describe_reference, from_reference, load_arguments, load_checkpoint
    from tsllm.models.base import ForecastModel

    quiet_libraries()
    if output_dir.exists() and (not output_dir.is_dir() or any(output_dir.iterdir())):
        raise FileExistsError(f"{output_dir} is not empty; give a new folder with -o")
    converted = from_reference(describe_reference(model, load_arguments(args)), load_checkpoint(checkpoint))
    assert isinstance(converted, ForecastModel)
    converted.save_pretrained(output_dir)
    name, numbers = type(converted).__name__, sum(t.numel() for t in converted.trained_state().values())
    typer.echo(f"{name}: {numbers:,} numbers from {checkpoint}, saved in {output_dir}")
    typer.echo(f'load with: {type(converted).__module__}.{name}.from_pretrained("{output_dir}")')
