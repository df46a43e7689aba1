"""A name that there is not is answered with the one that was meant."""

import pytest
from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import CliRunner

import tsllm
from tsllm.cli.main import app
from tsllm.near import SYNONYMS, find_near

GROUP = get_command(app)


def list_commands(group=GROUP, words=()):
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup) or hasattr(command, "commands"):
            yield from list_commands(command, (*words, name))
        else:
            yield (*words, name), command


COMMANDS = dict(list_commands())


@pytest.mark.parametrize(
    ("command", "typed", "meant"),
    [
        ("fit", "--horizon", "--h"),
        ("backtest", "--horizon", "--h"),
        ("predict", "--prediction-length", "--h"),
        ("fit", "--frequency", "--freq"),
        ("fit", "--id-col", "--id"),
        ("fit", "--id_col", "--id"),
        ("backtest", "--target-col", "--target"),
        ("fit", "--max-steps", "--steps"),
        ("fit", "--num-epochs", "--epochs"),
        ("fit", "--lr", "--learning-rate"),
        ("fit", "--lookback", "--context-length"),
        ("doctor", "--batch", "--batch-size"),
        ("backtest", "--model", "--models"),
        ("fit", "--models", "--model"),
        ("compare", "--seed", "--seeds"),
        ("fit", "--seeds", "--seed"),
        ("predict", "--quantiles", "--level"),
        ("predict", "--out", "--output"),
        ("fit", "--output", "--output-dir"),
        ("backtest", "--windows", "--n-windows"),
        ("fit", "-h", "--h"),
        ("fit", "--covariate", "--covariates"),
        ("benchmark long-term", "--horizon", "--horizons"),
        ("reward audit", "--h", "--horizon"),
    ],
)
def test_an_option_of_another_name_is_answered_with_ours(command, typed, meant):
    result = CliRunner().invoke(app, [*command.split(), typed, "3"], env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert f"No such option: {typed}" in result.output
    offered = result.output.split("No such option")[1]
    assert meant in offered.replace(")", " ").replace(",", " ").split()


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_option_that_there_is_counts_as_a_mistake(command):
    options = [name for param in COMMANDS[command].params for name in param.opts if name.startswith("--")]
    for option in options:
        assert find_near(option, options)[0] == option


def test_a_synonym_goes_before_what_is_written_alike_and_counts_only_where_it_is_known():
    assert find_near("horizon", ["horizons", "h"]) == ["h"]
    assert find_near("horizon", ["horizons"]) == ["horizons"]
    assert find_near("steps", ["max_steps", "steps_done"]) == ["max_steps"]
    assert find_near("autoets", ["AutoETS", "AutoARIMA"]) == ["AutoETS"]
    assert find_near("zzz", ["a", "b"]) == []
    assert find_near("quantiles", ["quantile", "gaussian"]) == ["quantile"]
    assert find_near("patch_size", ["batch_size"]) == []  # it has a meaning, and that is another


def test_no_synonym_stands_for_itself():
    assert [name for name, others in SYNONYMS.items() if name in others] == []


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (
            lambda: tsllm.NeuralForecaster("dlinear", horizon=3),
            "option 'horizon' of DLinear; did you mean 'h'",
        ),
        (lambda: tsllm.NeuralForecaster("dlinear", 3, frequency="h"), "did you mean 'freq'"),
        (lambda: tsllm.NeuralForecaster("dlinear", 3, lookback=3), "did you mean 'context_length'"),
        (lambda: tsllm.NeuralForecaster("dlinear", 3, id="a"), "did you mean 'id_col'"),
        (lambda: tsllm.NeuralForecaster("dlinear", 3, training={"steps": 1}), "did you mean max_steps?"),
        (lambda: tsllm.NeuralForecaster("dlinear", 3, training={"batch": 1}), "did you mean per_device_train_batch_"),
        (lambda: tsllm.NeuralForecaster("dlinear", 3, training={"lr": 1}), "did you mean learning_rate"),
        (
            lambda: tsllm.compare("etth1", ["Naive"], horizon=3),
            "has no option 'horizon'; did you mean 'h'",
        ),
    ],
)
def test_an_option_of_another_name_in_python(call, told):
    with pytest.raises(ValueError, match=r"unknown|no option") as caught:
        call()
    assert told in str(caught.value)
