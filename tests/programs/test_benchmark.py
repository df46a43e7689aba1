"""Protocols have one name, on the command line and in Python."""

import inspect

import pytest

import tsllm
from tsllm.cli.benchmark import app
from tsllm.programs.benchmark import BENCHMARKS
from tsllm.registry import UnknownNameError


def test_python_has_every_protocol_of_the_command_line():
    assert set(BENCHMARKS.names()) == {command.name for command in app.registered_commands}
    for name in BENCHMARKS:
        assert "output_dir" in inspect.signature(tsllm.find_benchmark(name)).parameters or name == "long-term"


def test_an_unknown_protocol_is_told_with_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'gift-eval'"):
        tsllm.benchmark("gift_eval", "folder")
