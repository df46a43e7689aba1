"""What `tsllm predict` shows on the screen, and what it advises."""

import re
import shlex

import numpy as np
import pandas as pd
import pytest
from typer.main import get_command

from tests.cli.test_commands import run
from tsllm.cli.main import app
from tsllm.cli.predict import pick_rows
from tsllm.forecasting.context import ContextForecaster
from tsllm.forecasting.saved import open_saved, take_season
from tsllm.forecasting.zero_shot import ZeroShotForecaster
from tsllm.hub.spec import ForecasterSpec
from tsllm.models import build_model


def forecasts(series, h):
    return pd.DataFrame({"unique_id": [f"s{k}" for k in range(series) for _ in range(h)], "ds": [*range(h)] * series})


@pytest.mark.parametrize(
    ("series", "h", "shown", "title"),
    [
        (1, 3, {"s0": 3}, "3 rows"),
        (1, 48, {"s0": 24}, "48 rows, the first 24"),
        (2, 12, {"s0": 12, "s1": 12}, "24 rows"),
        (2, 13, {"s0": 12, "s1": 12}, "26 rows, the first 12 of each series"),
        (3, 48, {"s0": 8, "s1": 8, "s2": 8}, "144 rows, the first 8 of each series"),
        (
            9,
            5,
            {f"s{k}": 4 for k in range(6)},
            "45 rows, the first 4 of each of the first 6 series; 3 more series not shown",
        ),
        (
            7,
            2,
            {f"s{k}": 2 for k in range(6)},
            "14 rows, the first 2 of each of the first 6 series; 1 more series not shown",
        ),
    ],
)
def test_some_rows_of_each_series_are_shown_and_what_is_not_is_said(series, h, shown, title):
    rows, said = pick_rows(forecasts(series, h))
    assert rows["unique_id"].value_counts(sort=False).to_dict() == shown
    assert said == title


def write_counted(folder, days=10):
    """A table whose times are whole numbers and whose season is 24 steps, and its path."""
    y = np.tile(np.arange(24.0), days)
    path = folder / "ints.csv"
    pd.DataFrame({"unique_id": "a", "ds": range(len(y)), "y": y}).to_csv(path, index=False)
    return path


def test_the_season_of_whole_numbers_is_given_as_the_warning_says(tmp_path, caplog):
    asked = ("predict", "SeasonalNaive", write_counted(tmp_path), "--h", 24, "--output", tmp_path / "f.csv")
    run(*asked)
    assert "times are whole numbers, which tell no season, so it is 1 step; give season= (--season)" in caplog.text
    assert pd.read_csv(tmp_path / "f.csv")["SeasonalNaive"].tolist() == [23.0] * 24
    caplog.clear()
    assert run(*asked, "--season", 24).exit_code == 0
    assert "season" not in caplog.text
    assert pd.read_csv(tmp_path / "f.csv")["SeasonalNaive"].tolist() == list(range(24))


def test_a_pretrained_model_is_told_the_season_of_whole_numbers_alike(tmp_path, caplog):
    sizes = {"d_model": 16, "num_layers": 1, "num_heads": 2, "d_ff": 16}
    model = build_model("patchcast", context_length=64, prediction_length=24, head="quantile", **sizes)
    ZeroShotForecaster(model, ForecasterSpec("Cast", "any", "univariate")).save_pretrained(tmp_path / "cast")
    data = write_counted(tmp_path)
    asked = ("predict", tmp_path / "cast", data, "--output", tmp_path / "f.csv")
    assert run(*asked).exit_code == 0
    assert "Cast: times are whole numbers, which tell no season" in caplog.text
    plain = pd.read_csv(tmp_path / "f.csv")
    caplog.clear()
    assert run(*asked, "--season", 24).exit_code == 0
    assert "season" not in caplog.text
    made = pd.read_csv(tmp_path / "f.csv")
    expected = ZeroShotForecaster.from_pretrained(tmp_path / "cast", season=24).predict(pd.read_csv(data), 24)
    np.testing.assert_allclose(made["Cast"], expected["Cast"], rtol=1e-6)
    assert not np.allclose(made["Cast"], plain["Cast"])
    told = ContextForecaster(open_saved(str(tmp_path / "cast")))
    take_season(told, 12)
    assert (told.season, told.base.season) == (12, 12)


FITTED = ("--model", "dlinear", "--h", 6, "--context-length", 24, "--steps", 1, "--set", "moving_average=5")


def test_a_model_of_certain_series_keeps_its_season_and_reads_no_further_columns(tmp_path):
    data = write_counted(tmp_path)
    pd.read_csv(data).assign(temp=1.0).to_csv(data, index=False)
    folder = tmp_path / "m"
    assert run("fit", data, *FITTED, "--season", 24, "--output-dir", folder).exit_code == 0
    refused = run("predict", folder, data, "--season", 12)
    assert "--season has no effect on DLinear: it keeps the season" in refused.output
    plain = run("predict", folder, data)
    assert plain.exit_code == 0
    assert plain.output.splitlines()[0] == "not read: temp"


def test_a_model_that_must_be_trained_first_is_trained_as_the_error_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table = pd.read_csv(write_counted(tmp_path)).rename(columns={"unique_id": "the shop", "ds": "hour"})
    table.to_csv("own.csv", index=False)
    told = run("predict", "dlinear", "own.csv", "--h", 6, "--id", "the shop", "--time", "hour", "--season", 24)
    way = re.search(r"trained first: tsllm (.*?); then give its folder", " ".join(told.output.split()))[1]
    assert way == "fit own.csv --model dlinear --h 6 --season 24 --id 'the shop' --time hour"
    assert run(*shlex.split(way), "--steps", 1).exit_code == 0
    made = run("predict", "runs/fit", "own.csv", "--output", "f.csv")
    assert made.exit_code == 0, made.output
    assert pd.read_csv("f.csv")["hour"].tolist() == list(range(240, 246))
    assert "--model dlinear --h 24;" in " ".join(run("predict", "dlinear", "own.csv").output.split())


@pytest.mark.parametrize("command", ["compare", "backtest"])
def test_the_season_of_whole_numbers_is_given_to_every_command_that_asks_for_it(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = write_counted(tmp_path)
    asked = (command, data.name, "--models", "SeasonalNaive", "--h", 24, "--n-windows", 2, "--season", 24)
    result = run(*asked, *(("--output-dir", "out") if command == "compare" else ()))
    assert result.exit_code == 0, result.output
    if command == "compare":
        assert "--season 24" in (tmp_path / "out" / "report.md").read_text()
    row = next(line for line in result.output.splitlines() if line.startswith("│ SeasonalNaive"))
    assert row.split("│")[2].strip() == "0"  # the error of a season of one step is 11.5


@pytest.mark.parametrize("command", ["predict", "fit", "backtest", "compare", "tune", "ablate"])
def test_every_command_on_data_takes_a_season(command):
    assert "--season" in {o for p in get_command(app).commands[command].params for o in p.opts}


@pytest.fixture
def loaded(tmp_path):
    """A table whose values follow a covariate, and the covariate's next day."""
    n = 24 * 15
    load = np.random.default_rng(0).normal(size=n + 24).cumsum()
    times = pd.date_range("2024-01-01", periods=n + 24, freq="h")
    daily = np.sin(np.arange(n + 24) * 2 * np.pi / 24)
    df = pd.DataFrame({"unique_id": "a", "ds": times, "y": 10 + 2 * load + daily, "load": load, "shop": "x"})
    df[:n].to_csv(tmp_path / "history.csv", index=False)
    df[n:].drop(columns="y").to_csv(tmp_path / "ahead.csv", index=False)
    return df[n:]["y"].to_numpy()


def test_a_model_that_needs_no_training_reads_the_covariates_that_are_named(loaded, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    base = ["predict", "ARIMAX", "history.csv", "--h", "24"]
    assert run(*base, "--covariates", "load", "--future", "ahead.csv", "--output", "told.csv").exit_code == 0
    assert pd.read_csv("told.csv")["ARIMAX"].to_numpy() == pytest.approx(loaded, abs=1e-6)
    run(*base, "--output", "blind.csv")
    assert np.abs(pd.read_csv("blind.csv")["ARIMAX"].to_numpy() - loaded).mean() > 1


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["ARIMAX", "--covariates", "load"], "with the columns unique_id, ds, load: --future FILE"),
        (["AutoETS", "--static", "shop"], "leave --static out"),
        (["ARIMAX", "--past-covariates", "load"], "leave --past-covariates out"),
        (["AutoETS", "--covariates", "load"], "AutoETS reads no regressors"),
        (["dlinear", "--covariates", "load"], "--h 24 --covariates load"),
    ],
)
def test_columns_that_a_model_cannot_read_are_refused(loaded, tmp_path, monkeypatch, asked, said):
    monkeypatch.chdir(tmp_path)
    name, *options = asked
    given = ["--future", "ahead.csv"] if name == "AutoETS" and "--covariates" in options else []
    refused = run("predict", name, "history.csv", "--h", 24, *options, *given)
    assert refused.exit_code == 2
    assert said in " ".join(refused.output.split())


def test_a_saved_model_knows_its_columns(loaded, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run("fit", "history.csv", "--model", "dlinear", "--h", 24, "--steps", 1, "--quiet", "--output-dir", "runs/own")
    same = ["predict", "runs/own", "history.csv", "--output", "f.csv"]
    refused = run(*same, "--covariates", "load")
    assert "runs/own was trained without any as --covariates" in " ".join(refused.output.split())
    assert run(*same).exit_code == 0
