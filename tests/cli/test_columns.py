"""Files with columns of their own, through every command."""

import html
import json

import numpy as np
import pandas as pd
import pytest

from tests.cli.test_commands import run
from tsllm.types import ID, TARGET, TIME

NAMES = ("--id", "shop", "--time", "when", "--target", "sold")
SMALL = ("--h", 6, "--context-length", 24)
TIMEXER = ("--set", "patch_length=6", "--set", "d_model=16", "--set", "num_heads=2", "--set", "num_layers=1")


def write(path, first="2024-02-01", periods=240, order="%d/%m/%Y %H:%M", **columns):
    times = pd.date_range(first, periods=periods, freq="h")
    rng = np.random.default_rng(0)
    parts = []
    for name, region in (("007", "north"), ("12", "south")):
        sold = 20 + 5 * np.sin(np.arange(periods) * np.pi / 12) + rng.normal(size=periods)
        table = {"shop": name, "when": times.strftime(order), "sold": sold, "note": "shut", "region": region}
        parts.append(pd.DataFrame(table | {"temp": np.linspace(0, 1, periods)} | columns))
    pd.concat(parts).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("columns")
    data = write(folder / "sales.csv")
    told = ("--day-first", "--covariates", "temp", "--static", "region")
    result = run(
        "fit", data, "--model", "timexer", *NAMES, *told, *SMALL, *TIMEXER, "--steps", 2, "--output-dir", folder / "m"
    )
    assert result.exit_code == 0, result.output
    return folder, data, result.output


def test_fit_says_what_it_does_not_read_and_the_model_remembers_the_columns(fitted):
    folder, _, output = fitted
    assert "not read: note (" in output
    assert "--level 80 --day-first" in output
    spec = json.loads((folder / "m" / "forecaster.json").read_text())
    assert spec["names"] == {"id_col": "shop", "time_col": "when", "target_col": "sold"}
    assert spec["static"] == {"region": ["north", "south"]}
    assert spec["covariates"] == ["temp", "region=north", "region=south"]


def test_predict_needs_no_names_and_writes_those_of_the_table(fitted, tmp_path):
    folder, data, _ = fitted
    later = write(tmp_path / "later.csv", "2024-02-11", 6)
    told = ("--day-first", "--future", later, "--level", 80)
    result = run("predict", folder / "m", data, *told, "--output", tmp_path / "out.csv")
    assert result.exit_code == 0, result.output
    made = pd.read_csv(tmp_path / "out.csv", dtype={"shop": str})
    assert made.columns.tolist() == ["shop", "when", "TimeXer", "TimeXer-lo-80", "TimeXer-hi-80"]
    assert made["shop"].tolist() == ["007"] * 6 + ["12"] * 6
    assert made["when"].iloc[0] == "2024-02-11 00:00:00"


def test_predict_reads_a_table_with_the_names_of_frames_too(fitted, tmp_path):
    folder, data, _ = fitted
    later = write(tmp_path / "later.csv", "2024-02-11", 6)
    plain = pd.read_csv(data, dtype={"shop": str}).rename(columns={"shop": ID, "when": TIME, "sold": TARGET})
    plain.to_csv(tmp_path / "plain.csv", index=False)
    ahead = pd.read_csv(later, dtype={"shop": str}).rename(columns={"shop": ID, "when": TIME})
    ahead.to_csv(tmp_path / "ahead.csv", index=False)
    outs = []
    for table, future, key in ((data, later, "when"), (tmp_path / "plain.csv", tmp_path / "ahead.csv", TIME)):
        out = tmp_path / "out.csv"
        result = run("predict", folder / "m", table, "--day-first", "--future", future, "--output", out)
        assert result.exit_code == 0, result.output
        assert key in pd.read_csv(out)
        outs.append(pd.read_csv(out)["TimeXer"])
    pd.testing.assert_series_equal(*outs)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            ("--day-first",),
            "TimeXer reads temp over the horizon; give a table of the steps ahead with the columns shop, when, temp",
        ),
        ((), "'when' is ambiguous"),
        (("--day-first", "--id", "store"), "no column 'store' (id_col, --id)"),
    ],
)
def test_what_is_wrong_is_told_in_the_columns_of_the_table(fitted, tmp_path, words, text):
    folder, _, _ = fitted
    result = run("predict", folder / "m", write(tmp_path / "short.csv", periods=216), *words)
    assert result.exit_code == 2, result.output
    assert text in result.output


def test_dates_that_no_row_settles_are_refused_until_somebody_says(tmp_path):
    data = write(tmp_path / "early.csv", periods=200)
    common = ("backtest", data, *NAMES, "--models", "SeasonalNaive", "--h", 6, "--n-windows", 2)
    assert "'when' is ambiguous: '01/02/2024 00:00'" in run(*common).output
    out = tmp_path / "out.csv"
    assert run(*common, "--day-first", "--output", out).exit_code == 0
    frame = pd.read_csv(out)
    assert frame.columns.tolist() == ["shop", "when", "cutoff", "sold", "SeasonalNaive"]
    assert frame["when"].iloc[-1] == "2024-02-09 07:00:00"


def test_compare_and_tune_take_the_columns(tmp_path):
    data = write(tmp_path / "sales.csv", order="%Y-%m-%d %H:%M")
    common = (*NAMES, "--h", 6, "--n-windows", 2, "--output-dir", tmp_path / "out")
    result = run("compare", data, *common, "--models", "SeasonalNaive,Naive")
    assert result.exit_code == 0, result.output
    assert "--id shop --time when --target sold" in (tmp_path / "out" / "report.html").read_text()
    # Another run takes the cells that fit; --overwrite computes them anew.
    cells = [*common, "--models", "SeasonalNaive,Naive"]
    assert "window 1/2" not in run("compare", data, *cells).stdout
    assert "Naive, window 1/2" in run("compare", data, *cells, "--overwrite").stdout
    told = ("--context", "It is closed from 2024-02-10 08:00 to 2024-02-10 14:00.", "--timeless")
    result = run("compare", data, *cells, *told)
    assert "Naive, window 1/2" not in result.stdout
    assert "Naive+context, window 1/2" in result.stdout
    made = pd.read_csv(next((tmp_path / "out").glob("scores*.csv")))
    assert made["model"].tolist() == ["SeasonalNaive", "SeasonalNaive+context", "Naive", "Naive+context"]
    assert "--context 'It is closed" in html.unescape((tmp_path / "out" / "report.html").read_text())
    assert "--timeless has no effect here: there is no --context" in run("compare", data, *cells, "--timeless").output
    result = run("compare", tmp_path / "some.yaml", "--id", "shop")
    assert "--id has no effect here" in result.output
    result = run("tune", data, *common, "--id", "store", "--models", "dlinear", "--trials", 1)
    assert "no column 'store' (id_col, --id)" in result.output
