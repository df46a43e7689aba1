"""The hand-computed cases that stand in the rewards' docstrings."""

import doctest
import importlib

import pytest

MODULES = ["accuracy", "scores", "decision", "shape", "text", "composite", "problem"]


@pytest.mark.parametrize("name", [f"tsllm.rl.rewards.{module}" for module in MODULES] + ["tsllm.rl.rewards"])
def test_docstring_examples_hold(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0
