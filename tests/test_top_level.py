"""`dir(tsllm)` is the table of contents: each name says what it is, with an example that runs."""

import doctest
import re
import sys

import pytest

import tsllm
from tests.fixtures.backbones import save_tiny_backbone

# Their examples need a Hub (tests/hub has one) or a data set of others (tests/evaluation).
ELSEWHERE = {"push_to_hub"}
SLOW = {"ablate"}
NAMES = [name for name in dir(tsllm) if name not in {"__version__", *ELSEWHERE}]
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.IGNORE_EXCEPTION_DETAIL


def test_the_table_of_contents_is_whole():
    wanted = (
        "load_frame NeuralForecaster StatisticalForecaster SeasonalNaive TextForecaster Ensemble backtest evaluate "
        "plot compare ablate simulate build_reward push_to_hub benchmark"
    )
    assert set(wanted.split()) <= set(dir(tsllm))
    assert set(dir(tsllm)) == set(tsllm.__all__)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in NAMES]
)
def test_each_name_has_an_example_that_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    thing = getattr(tsllm, name)
    names = {"language_model": ""}
    if "language_model" in (thing.__doc__ or ""):
        names["language_model"] = str(save_tiny_backbone(tmp_path / "llm", "llama"))
    test = doctest.DocTestParser().get_doctest(thing.__doc__ or "", names, name, None, 0)
    assert test.examples, f"tsllm.{name} has no example"
    said = []
    runner = doctest.DocTestRunner(optionflags=OPTIONS, verbose=False)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "argv", ["tsllm"])
        runner.run(test, out=said.append)
    assert not runner.summarize(verbose=False).failed, "".join(said)


@pytest.mark.parametrize("name", sorted(ELSEWHERE))
def test_a_name_that_needs_more_has_an_example_too(name):
    assert re.search(r"```python\n.*?tsllm\.", getattr(tsllm, name).__doc__, re.DOTALL)
