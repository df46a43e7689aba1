"""Whatever a user types or puts into a file is answered by one line: `error: ...`, exit code 2, never a traceback."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from huggingface_hub.utils import _http as hub_http
from typer.testing import CliRunner

from tsllm.cli.console import describe_error, parse_settings, print_table, run_main
from tsllm.cli.main import app
from tsllm.forecasting.builders import build_single
from tsllm.forecasting.roster import build_forecaster

FIT = ("fit", "good.csv", "--model", "dlinear", "--h", "2")
# The library that huggingface_hub speaks HTTP with; its name differs between versions.
hub_client = getattr(hub_http, "httpx2", None) or hub_http.httpx
NAIVE = ("--models", "SeasonalNaive", "--h", "2", "--n-windows", "2")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a good CSV file, in which the commands run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TSLLM_DEBUG", raising=False)
    rows = {"unique_id": "a", "ds": pd.date_range("2024-01-01", periods=48, freq="h"), "y": np.arange(48) % 5 + 0.5}
    pd.DataFrame(rows).assign(x=1.0, note="text").to_csv("good.csv", index=False)
    (tmp_path / "a_folder").mkdir()
    (tmp_path / "a_file").write_text("x")
    (tmp_path / "broken.yaml").write_text("reward: [")
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def is_told(result):
    """The text of an error that was told in one piece; Typer's own usage errors count, they are no tracebacks."""
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    assert "error: " in result.output or "Usage:" in result.output, result.output
    return result.output


def test_the_good_file_is_good_and_its_text_column_does_not_matter(place):
    assert run("backtest", "good.csv", *NAIVE).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("backtest", "", *NAIVE), "give a file"),
        (("backtest", "a_folder", *NAIVE), "holds no Arrow or Parquet files"),
        (("backtest", "a_file", *NAIVE), "ending"),
        (("backtest", "gone.csv", *NAIVE), "no file"),
        (("backtest", "good.csv/x", *NAIVE), ""),
        (("backtest", "good.csv", "--models", "", "--h", "2"), ""),
        (("backtest", "good.csv", "--models", "NoSuchModel", "--h", "2"), "NoSuchModel"),
        (("backtest", "good.csv", "--models", "a_file", "--h", "2"), "a_file"),
        (("backtest", "good.csv", "--models", "Naive"), "--h"),
        (("backtest", "good.csv", "--models", "Naive", "--h", "0"), "h is 0"),
        (("backtest", "good.csv", "--models", "Naive", "--h", "-3"), "h is -3"),
        (("backtest", "good.csv", "--models", "Naive", "--h", "2.5"), ""),
        (("backtest", "good.csv", "--models", "Naive", "--h", "1000000"), ""),
        (("backtest", "good.csv", *NAIVE[:4], "--n-windows", "0"), "n_windows"),
        (("backtest", "good.csv", *NAIVE[:4], "--n-windows", "-1"), "n_windows"),
        (("backtest", "good.csv", *NAIVE, "--step-size", "0"), "step_size"),
        (("backtest", "good.csv", *NAIVE, "--level", "0.8"), "per cent"),
        (("backtest", "good.csv", *NAIVE, "--level", "80;95"), "no list of numbers"),
        (("backtest", "good.csv", *NAIVE, "--level", "nan"), "level"),
        (("backtest", "good.csv", *NAIVE, "--freq", "fortnight"), "fortnight"),
        (("backtest", "good.csv", *NAIVE, "--freq", "0"), "freq"),
        (("backtest", "good.csv", *NAIVE, "--season", "0"), "season"),
        (("backtest", "good.csv", *NAIVE, "--train", "max_steps=2"), "--train has no effect"),
        (("backtest", "good.csv", *NAIVE, "--context-length", "9"), "--context-length has no effect"),
        (("backtest", "good.csv", *NAIVE, "--input-size", "9"), "--input-size has no effect"),
        (("backtest", "good.csv", *NAIVE, "--covariates", "x"), "--covariates has no effect"),
        (("predict", "Naive", "good.csv", "--h", "2", "--future", "good.csv"), "--future"),
        (("fit", "good.csv", "--model", "Naive", "--h", "2"), "no model that tsllm trains"),
        (("fit", "good.csv", "--model", "text", "--h", "2"), "no model that tsllm trains"),
        (("fit", "good.csv", "--model", "tsllm.models.dlinear.DLinaer", "--h", "2"), "DLinaer"),
        (("compare", "good.csv", *NAIVE, "--covariates", "x"), "none of the models reads any"),
        (("compare", "good.csv", *NAIVE, "--backbone", "gpt2"), "--backbone has no effect"),
        (("backtest", "good.csv", *NAIVE, "--targets", "y"), "targets"),
        (("backtest", "good.csv", *NAIVE, "--train", "max_steps"), "key=value"),
        (("backtest", "good.csv", *NAIVE, "--output", "out.xlsx"), "cannot write"),
        (("backtest", "good.csv", *NAIVE, "--output", "a_file/out.csv"), ""),
        (("predict", "gone", "good.csv", "--h", "2"), "gone"),
        (("predict", "a_folder", "good.csv"), "a_folder"),
        (("predict", "a_file", "good.csv", "--h", "2"), "a_file"),
        (("predict", "Naive", "good.csv", "--h", "2", "--future", "gone.csv"), "gone.csv"),
        (("predict", "", "good.csv", "--h", "2"), ""),
        (("predict", "dlinear", "good.csv", "--h", "2"), "must be trained first"),
        (("predict", "dlinear", "good.csv"), "must be trained first"),
        (("predict", "NoSuchModel", "good.csv"), "unknown model 'NoSuchModel'"),
        (("predict", "autoets", "good.csv"), "did you mean AutoETS"),
        (("predict", "no_user/gone", "good.csv"), "there is no folder no_user/gone"),
        (("fit", "good.csv", "--model", "dliner", "--h", "2"), "did you mean dlinear"),
        (("fit", "good.csv", "--model", "dlinear", "--h", "2", "--context-length", "60"), "--pad-short"),
        (("fit", "good.csv", "--model", "dlinear", "--h", "2", "--covariates", "y"), "'y'"),
        (("fit", "good.csv", "--model", "timexer", "--h", "2", "--covariates", "ds"), "'ds'"),
        (("fit", "good.csv", "--model", "timexer", "--h", "2", "--covariates", "x,x"), "'x' is named twice"),
        (("fit", "good.csv", "--model", "timexer", "--h", "2", "--covariates", "note"), "'note' is not numeric"),
        (("fit", "good.csv", "--model", "timexer", "--h", "2", "--covariates", "gone"), "gone"),
        (("fit", "good.csv", "--model", "dlinear", "--h", "2", "--steps", "-1"), ""),
        (("fit", "good.csv", "--model", "dlinear", "--h", "2", "--learning-rate", "-1"), ""),
        (("fit", "good.csv", "--model", "dlinear", "--h", "2", "--context-length", "0"), "context_length"),
        (("fit", "good.csv", "--model", "dlinear", "--h", "2", "--val-size", "-1"), "val_size"),
        (("fit", "good.csv", "--model", "dlinear", "--h", "2", "--layout", "round"), "round"),
        (("fit", "good.csv", "--model", "dlinear", "--h", "2", "--set", "nonsense=1"), "nonsense"),
        (("fit", "good.csv", "--model", "dlinear", "--h", "2", "--set", "moving_average=[1"), "cannot read the value"),
        (("fit", "good.csv", "--model", "dlinear", "--h", "2", "--set", "moving_average=!!python/none"), "cannot"),
        (("fit", "good.csv", "--model", "dlinear", "--h", "2", "--set", "head=3"), "3"),
        ((*FIT, "--steps", "5", "--train", "max_steps=2"), "max_steps is 5 by its own option and 2 by --train"),
        ((*FIT, "--seed", "3", "--train", "seed=4"), "seed is 3 by its own option and 4 by --train"),
        ((*FIT, "--steps", "5", "--epochs", "2"), "num_train_epochs has no effect"),
        ((*FIT, "--context-length", "9", "--set", "context_length=8"), "context_length is 9 by its own option and 8"),
        (("backtest", "good.csv", "--models", "dlinear", "--h", "2", "--seed", "3", "--train", "seed=4"), "seed is 3"),
        (("fit", "good.csv", "--model", "dlinear", "--h", "2", "--set", "moving_average=null"), "moving_average"),
        (("fit", "good.csv", "--model", "dlinear", "--h", "2", "--set", "moving_average=-5"), "moving_average"),
        (("fit", "good.csv", "--model", "dlinear", "--h", "2", "--output-dir", "a_file"), "a_file"),
        (("compare", "gone.yaml"), "gone.yaml"),
        (("convert", "gone.pth", "DLinear"), ""),
        (("reward", "audit", "no_such_reward"), "no_such_reward"),
        (("ablate", "gone.csv"), "gone.csv"),
        (("doctor", "--model", "nothing"), "nothing"),
        (("decide", "gone.yaml"), "gone.yaml"),
        (("decide", "good.csv"), "mapping"),
        (("benchmark", "zero-shot", "--models", "AutoThetta", "--sets", "m3-yearly"), "AutoThetta"),
        (("backtest", "good.csv", *NAIVE, "--input-size", "0"), "input_size is 0"),
        (("backtest", "good.csv", *NAIVE, "--seed", "3"), "--seed has no effect"),
        (("backtest", "good.csv", *NAIVE, "--output", "a_folder"), "cannot write"),
        (("compare", "good.csv", *NAIVE, "--seeds", "x"), "--seeds is 'x'; give whole numbers"),
        (("compare", "good.csv", *NAIVE, "--seeds", ""), "--seeds is ''"),
        (("ablate", "good.csv", "--h", "2", "--seeds", "0;1"), "--seeds is '0;1'"),
        (("ablate", "good.csv", "--h", "2", "--steps", "-1"), "--steps"),
        (("demo", "--steps", "-1"), "--steps"),
        (("demo", "--layers", "0"), "--layers"),
        (("demo", "--output-dir", "a_file"), "a_file is a file"),
        (("doctor", "--model", "dlinear", "--batch-size", "0"), "--batch-size"),
        (("doctor", "--model", "dlinear", "--steps", "-1"), "--steps"),
        (("doctor", "--set", "head=point"), "--set is about a model to estimate"),
        (("doctor", "--steps", "3"), "--steps is about a model to estimate"),
        (("reward", "audit", "mae", "--set", "a=[1"), "cannot read the value"),
        (("reward", "audit", "mae", "--set", "x"), "write key=value"),
        (("reward", "audit", "mae", "--cases", "0"), "--cases"),
        (("reward", "audit", "mae", "--season", "0"), "--season"),
        (("reward", "audit", "mae", "--horizon", "1"), "--horizon"),
        (("reward", "audit", "a_folder.yaml"), "a_folder.yaml"),
        (("reward", "audit", "broken.yaml"), "broken.yaml is no valid YAML"),
        (("nothing",), "nothing"),
        (("fit", "--nothing"), "nothing"),
    ],
)  # fmt: skip
def test_what_can_be_typed_is_answered_in_one_line(place, arguments, told):
    output = is_told(run(*arguments))
    assert told in output
    assert "not foreseen" not in output


@pytest.mark.parametrize("place_of_results", ["a_file", "a_file/x", "/proc/none"])
@pytest.mark.parametrize(
    "command",
    [
        ("fit", "good.csv", "--model", "dlinear", "--h", "2", "--context-length", "8", "--steps", "1", "--output-dir"),
        ("compare", "good.csv", *NAIVE, "--output-dir"),
        ("tune", "good.csv", "--models", "dlinear", "--h", "2", "--n-windows", "2", "--trials", "1", "--output-dir"),
        ("backtest", "good.csv", *NAIVE, "--output"),
        ("predict", "Naive", "good.csv", "--h", "2", "--output"),
    ],
)
def test_a_place_that_cannot_be_written_is_told_before_anything_is_computed(place, command, place_of_results):
    name = place_of_results + ("/f.csv" if command[-1] == "--output" else "")
    output = is_told(run(*command, name))
    assert "is a file; give the name of a folder" in output or "cannot be written" in output
    assert not re.search("trained in|window 1|forecast 2 windows|trial 1", output), output


GOOD = {
    "data": [{"name": "good.csv", "h": 2, "n_windows": 2}],
    "models": ["SeasonalNaive"],
    "output_dir": "out",
    "seeds": [0],
}


def change(**fields):
    return yaml.safe_dump(GOOD | fields)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "just text",
        "data: [",
        "a: &x [*x]",
        "models: !!python/object/apply:os.system ['true']",
        "models: !unknown 3",
        "\x00",
        "? {a: b} : c",
        change(nonsense=1),
        change(data=None),
        change(data=3),
        change(data=[]),
        change(data=[3]),
        change(data=[None]),
        change(data=[{"name": "good.csv", "h": "two"}]),
        change(data=[{"name": "good.csv", "h": 0}]),
        change(data=[{"name": "good.csv", "h": -1}]),
        change(data=[{"name": "good.csv", "h": 2, "n_windows": 0}]),
        change(data=[{"name": "good.csv", "h": 2, "nonsense": 0}]),
        change(data=[{"name": None, "h": 2}]),
        change(data=[{"name": 3, "h": 2}]),
        change(data=[{"h": 2}]),
        change(data=[{"name": "good.csv", "h": 2, "covariates": "x"}]),
        change(data=[{"name": "good.csv", "h": 2, "freq": []}]),
        change(models=None),
        change(models=[]),
        change(models=3),
        change(models=[3]),
        change(models=[None]),
        change(models=[{"model": None}]),
        change(models=[{"nonsense": 1}]),
        change(models=[{"model": "dlinear", "options": 3}]),
        change(models=[{"model": "dlinear", "training": [1]}]),
        change(models=["SeasonalNaive", "SeasonalNaive"]),
        change(models=[{"model": "SeasonalNaive", "alias": "y"}]),
        change(seeds=None),
        change(seeds="abc"),
        change(seeds=[]),
        change(seeds=["a"]),
        change(output_dir=3),
        change(output_dir=""),
        change(output_dir="a_file"),
        change(level=["a"]),
        change(level=[0.8]),
        change(level=5),
        change(reference="Nobody"),
        change(seeds=[0, 0]),
        change(seeds=[-1]),
        change(refit=0),
        change(look_backs=[0]),
        change(look_backs=[4, 4]),
        change(max_seconds=0),
        change(data=[GOOD["data"][0] | {"covariates": ["x"]}]),
        change(data=[GOOD["data"][0] | {"past_covariates": ["x"]}]),
        change(models=["SeasonalNaive", {"model": "nowhere.Forecaster"}]),
        change(models=["SeasonalNaive", {"model": "json.JSONDecoder"}]),
        change(models=["SeasonalNaive", {"model": "tsllm.forecasting.naive.Naive", "options": {"colour": 1}}]),
        change(models=["SeasonalNaive", {"model": "Naive", "options": {"colour": 1}}]),
        change(models=["SeasonalNaive", {"model": "Naive", "options": {"alias": "x"}}]),
        change(models=["SeasonalNaive", {"model": "AutoETS", "options": {"colour": 1}}]),
        change(models=["SeasonalNaive", {"model": "AutoETS", "options": {"input_size": "a"}}]),
        change(models=["SeasonalNaive", {"model": "AutoETS", "options": {"options": 3}}]),
        change(models=["SeasonalNaive", {"model": "AutoETS", "options": {"season": "day"}}]),
        change(models=["SeasonalNaive", {"model": "LEAR", "options": {"colour": 1}}]),
        change(models=["SeasonalNaive", {"model": "dlinear", "options": {"freq": "h"}}]),
        change(models=["SeasonalNaive", {"model": "dlinear", "options": {"season": "day"}}]),
        change(models=[{"model": "SeasonalNaive", "options": {"season": "day"}}]),
        change(models=[{"model": "SeasonalNaive", "options": {"season": 0}}]),
        change(models=["SeasonalNaive", {"model": "text", "options": {"language_model": "./gone"}}]),
        change(models=["SeasonalNaive", "ensemble:Naive+Naive"]),
        change(models=["SeasonalNaive", "ensemble:Naive+"]),
        change(models=["SeasonalNaive", "ensemble:"]),
        change(models=["SeasonalNaive", {"model": "text", "options": {"language_model": "gpt2", "num_sample": 3}}]),
    ],
)
def test_what_can_stand_in_a_yaml_is_answered_in_one_line(place, text):
    (place / "c.yaml").write_text(text)
    assert "not foreseen" not in is_told(run("compare", "c.yaml"))


@pytest.mark.parametrize(
    "option",
    ["--h=3", "--models=Naive", "--n-windows=7", "--step-size=2", "--level=50", "--freq=h", "--covariates=x"],
)
def test_what_a_yaml_says_itself_cannot_be_said_beside_it(place, option):
    (place / "c.yaml").write_text(change())
    assert f"{option.partition('=')[0]} has no effect here" in is_told(run("compare", "c.yaml", option))
    assert not (place / "out").exists()


def test_a_backtest_decides_as_a_comparison_does_by_the_steps_before_the_first_cutoff(place, monkeypatch):
    asked = []

    def watch(build):
        def watched(spec, task, *rest):
            asked.append(task.context_length)
            return build(spec, task, *rest)

        return watched

    monkeypatch.setattr("tsllm.forecasting.checks.build_single", watch(build_single))
    for where in ("tsllm.forecasting.roster", "tsllm.evaluation.checks", "tsllm.evaluation.compare"):
        monkeypatch.setattr(f"{where}.build_forecaster", watch(build_forecaster))
    windows = ("--h", "2", "--n-windows", "8")
    run("backtest", "good.csv", "--models", "dlinear", *windows, "--train", "max_steps=0")
    run("compare", "good.csv", "--models", "dlinear", *windows, "--max-seconds", "0.1", "--output-dir", "out")
    # Two thirds of the 32 - 2 steps before the first cutoff; the whole 48 would bear 24, a day.
    assert asked == [20] * 5  # each checks, then builds; a comparison checks its data with one more


def test_a_backtest_in_which_a_model_fails_ends_with_one(place, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("no")

    monkeypatch.setattr("tsllm.forecasting.naive.Naive.fit", fail)
    result = run("backtest", "good.csv", "--models", "SeasonalNaive,Naive", "--h", "2", "--n-windows", "2")
    assert result.exit_code == 1
    assert "failed: Naive" in result.output


@pytest.fixture
def odd(place):
    """A file with a good series, one of zeros and one whose values end before its rows do."""
    times = pd.date_range("2024-01-01", periods=120, freq="h")
    values = {"good": np.arange(120) % 7 + 0.5, "zero": 0.0, "ended": np.where(np.arange(120) < 70, 1.0, np.nan)}
    pd.concat([pd.DataFrame({"unique_id": n, "ds": times, "y": y}) for n, y in values.items()]).to_csv("odd.csv")
    return place


def test_a_backtest_names_the_series_that_its_averages_leave_out(odd):
    output = " ".join(run("backtest", "odd.csv", *NAIVE).output.split())
    assert "MASE leaves out 2 of 3 series" in output
    assert "scaled by it: ended, zero." in output
    assert "leave out 2 of 6 windows (counted in each series) without an observed target, of series: ended." in output


def test_a_comparison_with_a_series_that_ended_is_drawn_and_says_so(odd):
    result = run(
        "compare", "odd.csv", "--models", "SeasonalNaive", "--h", "2", "--n-windows", "2", "--output-dir", "out"
    )
    assert result.exit_code == 0, result.output
    assert "without an observed target, of series: ended." in (odd / "out" / "report.md").read_text()


def test_a_comparison_whose_reference_is_never_wrong_is_reported(place):
    rows = {"ds": pd.date_range("2024-01-01", periods=72, freq="h"), "y": np.arange(72) % 24 + 1.0}
    pd.DataFrame(rows).to_csv("exact.csv", index=False)
    exact = ("compare", "exact.csv", "--models", "SeasonalNaive,Naive", "--h", "2", "--n-windows", "2")
    result = run(*exact, "--output-dir", "out")
    assert result.exit_code == 0, result.output
    assert "SeasonalNaive has the lowest error" in result.output
    assert (place / "out" / "report.html").is_file()


def test_what_could_not_be_calibrated_is_told_before_training(odd):
    fit = ("fit", "odd.csv", "--model", "dlinear", "--h", "2", "--context-length", "8", "--steps", "1")
    told = is_told(run(*fit, "--output-dir", "out"))
    assert "series 'ended': no validation window has an observed value 1 step(s) ahead" in " ".join(told.split())
    assert "step 1/1" not in told
    assert run(*fit, "--set", "head=quantile", "--output-dir", "out").exit_code == 0  # as the error says


def test_a_yaml_in_another_encoding_or_a_folder_of_that_name_is_told(place):
    (place / "c.yaml").write_bytes("models: [Zürich]".encode("latin1"))
    assert "c.yaml is no UTF-8 text (byte 10); save it as UTF-8" in is_told(run("compare", "c.yaml"))
    (place / "c.yaml").write_text("models: [Zürich]", encoding="utf-8")
    assert "UTF-8" not in is_told(run("compare", "c.yaml"))  # as the error says; now the models are read
    (place / "d.yaml").mkdir()
    assert "d.yaml is a folder; give the YAML file itself" in is_told(run("compare", "d.yaml"))


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("h is 0"), "h is 0"),
        (KeyError("x"), "KeyError: 'x' (not foreseen"),
        (TypeError("no"), "TypeError: no (not foreseen"),
        (AssertionError(), "AssertionError: no details (not foreseen"),
        (MemoryError(), "not enough memory"),
        (hub_client.ConnectError("Name unknown"), "no connection to the Hugging Face Hub (Name unknown)"),
        (yaml.YAMLError("line 3"), "cannot read the YAML: line 3"),
    ],
)
def test_errors_are_described_for_somebody_who_did_not_write_the_program(error, text):
    assert describe_error(error).startswith(text)


@pytest.mark.parametrize("error", [ValueError("h is 0"), TypeError("no"), KeyError("x"), RecursionError("deep")])
def test_a_recipe_that_fails_says_so_in_one_line(error, capsys, monkeypatch):
    monkeypatch.delenv("TSLLM_DEBUG", raising=False)

    def main():
        raise error

    with pytest.raises(SystemExit) as caught:
        run_main(main)
    assert caught.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert "Traceback" not in told
    monkeypatch.setenv("TSLLM_DEBUG", "1")
    with pytest.raises(type(error)):
        run_main(main)


def test_every_recipe_ends_so():
    for file in sorted((Path(__file__).parents[2] / "recipes").glob("*.py")):
        assert "    run_main(main)\n" in file.read_text(), file


def test_settings_that_are_set_twice_are_refused():
    with pytest.raises(ValueError, match="'a' is set twice"):
        parse_settings(["a=1", "a=2"])


def test_the_console_shows_names_as_they_are(capsys):
    print_table(pd.DataFrame({"[kW]": ["[/bold]", "[red]x", "a\nb"], "y": [1.0, 2.0, 3.0]}), "[b]title")
    shown = capsys.readouterr().out
    for text in ("[kW]", "[/bold]", "[red]x", "a b", "[b]title"):
        assert text in shown


def test_a_pipe_that_has_read_enough_is_no_error(place, monkeypatch):
    def enough(*_, **__):
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr("tsllm.cli.predict.print_table", enough)
    result = run("predict", "Naive", "good.csv", "--h", "2")
    assert result.exit_code == 1
    assert "error" not in result.output


def test_a_saved_model_whose_covariates_are_not_named_says_how_and_that_works(place):
    fitted = run(
        "fit", "good.csv", "--model", "timexer", "--h", "2", "--covariates", "x", "--context-length", "8", "--steps",
        "1", "--set", "patch_length=4", "--set", "d_model=8", "--set", "num_heads=1", "--output-dir", "saved",
    )  # fmt: skip
    assert fitted.exit_code == 0, fitted.output
    asked = ("backtest", "good.csv", "--models", "saved", "--h", "2", "--n-windows", "1")
    told = " ".join(is_told(run(*asked)).split())
    assert "it reads the covariates ['x'], which are not named for" in told
    assert "name them (--covariates, --past-covariates on the command line" in told
    assert "LeakageError" not in told
    named = run(*asked, "--covariates", "x")
    assert "it reads the covariates" not in named.output
