"""Runs a command of `tsllm` in this process."""

from typer.testing import CliRunner

from tsllm.cli.main import app


def run(*arguments, code=0):
    """Returns what a command printed, and insists on its exit code."""
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result.output
