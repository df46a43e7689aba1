"""A table with column names of its own is told which options read it, and they do."""

import ast
import re
import shlex

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import tsllm
from tsllm.cli.main import app
from tsllm.data.guess import guess_names
from tsllm.types import ID, TARGET, TIME, FrameError

ADVICE = r"; name its columns: (.*?); in Python (.*), or df = df.rename\(columns=(.*)\)"


def panel(names=("a", "b"), **columns):
    """Two series of unequal length."""
    parts = [
        pd.DataFrame({"series": name, "date": pd.date_range("2024", periods=20 + 3 * k, freq="h").astype(str)})
        for k, name in enumerate(names)
    ]
    df = pd.concat(parts, ignore_index=True)
    return df.assign(value=np.arange(len(df)) % 7 + 0.5, **columns)


NOTED = panel(note="text", temp=1.5)
TABLES = {
    "the commonest": panel(),
    "names that are numbers": panel((3, 17)),
    "an unused text": NOTED,
    "in capitals": panel().rename(columns=str.upper),
    "blanks in names": panel().rename(columns={"value": "units sold", "series": "the shop"}),
    "a time of another name": panel().rename(columns={"date": "timestamp"}),
    "names of nobody": panel().rename(columns={"series": "aa", "date": "bb", "value": "cc"}),
    "counted values": panel().assign(value=np.arange(43) % 5),
    "in another order": panel()[["value", "date", "series"]],
    "a constant name": panel(("a",)),
    "frames but the values": panel().rename(columns={"series": ID, "date": TIME}),
    "frames but the time": panel().rename(columns={"series": ID, "date": "timestamp", "value": TARGET}),
    "frames but the series": panel().rename(columns={"date": TIME, "value": TARGET}),
    "one series and a text": panel(("a",)).assign(note=[f"n{k}" for k in range(20)]).drop(columns="series"),
}


def predict(*words):
    return CliRunner().invoke(app, ["predict", "Naive", *words, "--h", "2"])


def told(df, **names):
    with pytest.raises(FrameError) as caught:
        tsllm.SeasonalNaive(2).fit(df.rename(columns=names), 2)
    return str(caught.value)


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_the_first_advice_names_the_columns_and_each_form_of_it_works(table, ending, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table.to_csv("own.csv", index=False) if ending == "csv" else table.to_parquet("own.parquet")
    result = predict(f"own.{ending}")
    assert result.exit_code == 2
    advised = re.search(ADVICE, result.output)
    assert advised, result.output
    assert "drop" not in result.output[: advised.start()]
    done = predict(f"own.{ending}", *shlex.split(advised[1]))
    assert done.exit_code == 0, done.output
    given = dict(pair.split("=", 1) for pair in re.split(r", (?=\w+_col=)", advised[2]))
    given = {name: ast.literal_eval(value) for name, value in given.items()}
    loaded = tsllm.load_frame(f"own.{ending}", covariates=[], **given)
    value, series = given.get("target_col", TARGET), given.get("id_col", ID)
    if series in table:
        key = lambda df: df.assign(**{series: df[series].astype(str)}).groupby(series)[value].sum()  # noqa: E731
        assert sorted(loaded.df.groupby(ID)[TARGET].sum()) == sorted(key(table))
    assert loaded.df[TARGET].sum() == pytest.approx(table[value].sum())
    renamed = table.rename(columns=ast.literal_eval(advised[3]))
    if ID in renamed:
        tsllm.SeasonalNaive(2).fit(renamed, 2)


def test_what_was_named_already_is_not_said_again(tmp_path, monkeypatch):
    assert "name its columns: --target value;" in told(panel(), series=ID)
    monkeypatch.chdir(tmp_path)
    panel().to_csv("own.csv", index=False)
    for options, advice in {
        ("--target", "value"): "holds several series; name the column that tells them apart: --id series",
        ("--id", "series"): "name its columns: --target value;",
        ("--id", "series", "--target", "value"): "",
    }.items():
        assert advice in predict("own.csv", *options).output


def test_values_that_several_columns_could_be_are_left_to_the_owner():
    text = told(panel(cost=1.5, gain=2.5).drop(columns="value"))
    assert "--id series --time date; " in text
    assert "and with --target (target_col) the column of the values, one of 'cost', 'gain'" in text


WIDE = pd.DataFrame({"date": pd.date_range("2024", periods=8), "a": range(8), "b": range(8)})


def test_a_wide_table_with_a_fault_is_not_taken_for_a_long_one():
    assert guess_names(WIDE) == {}
    doubled = pd.concat([WIDE.head(3), WIDE.iloc[2:].assign(a=range(1, 7), b=range(7, 13))])
    assert "appears twice (2 duplicate rows in all); keep one" in told(doubled)
    assert "column 'note' is not numeric" in told(WIDE.assign(note=[f"n{k}" for k in range(8)]))
    assert "column 'note' is not numeric" in told(WIDE.assign(note="text"))
    assert "targets" in told(WIDE.assign(note="text"))
    assert told(pd.DataFrame({"k": ["x", "y"], "a": [1, 2]})).endswith("found columns ['k', 'a']")


def test_values_that_are_no_numbers_here_and_there_do_not_hide_the_names():
    faulty = panel().assign(value=[*map(str, range(42)), "?"])
    assert "name its columns: --id series --time date --target value;" in told(faulty)
