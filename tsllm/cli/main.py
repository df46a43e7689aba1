"""The command `tsllm`. Commands import what they need when they run, so that `tsllm --help` is instant."""

import atexit
import gc
import importlib
import importlib.util

import typer
from typer.core import TyperCommand

from tsllm.cli.console import Command, explain_errors
from tsllm.imports import keep_imports

# One module a command in this order; each has a function of the command's name, or a Typer group called `app`.
COMMANDS = (
    "demo",
    "fit",
    "predict",
    "backtest",
    "compare",
    "ablate",
    "tune",
    "decide",
    "benchmark",
    "push",
    "convert",
    "reward",
    "doctor",
)

app = typer.Typer(
    name="tsllm",
    help="Turn a language model into a forecaster, and test honestly whether it wins.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def _main(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    if version:
        from tsllm import __version__

        typer.echo(__version__)
        raise typer.Exit


def _mount() -> None:
    for name in COMMANDS:
        path = f"tsllm.cli.{name}"
        if importlib.util.find_spec(path) is None:
            continue
        module = importlib.import_module(path)
        if hasattr(module, "app"):
            for command in module.app.registered_commands:
                command.callback = explain_errors(command.callback)
                command.cls = Command if command.cls in (None, TyperCommand) else command.cls
            app.add_typer(module.app, name=name)
        else:
            app.command(name, cls=Command)(explain_errors(getattr(module, name)))


_mount()
keep_imports()
# The end of the process frees all memory at once; Python need not look first which of a million objects are garbage.
atexit.register(gc.freeze)

if __name__ == "__main__":
    app()
