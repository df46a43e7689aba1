"""The examples of the modules that the rules are made of."""

import doctest

import pytest

from tsllm.context import amounts, capacities, clauses, hours, numbers, returns, steps, stops, vague

MODULES = (amounts, capacities, clauses, hours, numbers, returns, steps, stops, vague)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rpartition(".")[2])
def test_the_examples_hold(module):
    found = doctest.testmod(module)
    assert (found.failed, found.attempted > 0) == (0, True)
