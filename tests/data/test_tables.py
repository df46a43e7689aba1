"""CSV text: what comes back is what was written, and what cannot be read is told."""

import numpy as np
import pandas as pd
import pytest

from tsllm.data.frame import validate_frame
from tsllm.data.loading import load_frame
from tsllm.data.reading import read_table
from tsllm.types import FrameError

LONG = "unique_id,ds,y\n"


@pytest.fixture
def write(tmp_path):
    def run(text, encoding="utf-8"):
        path = tmp_path / "own.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
        return path

    return run


def error_of(path, **options):
    with pytest.raises(FrameError) as caught:
        load_frame(path, **options)
    return str(caught.value)


@pytest.mark.parametrize("name", ["007", "1e5", "NA", "nan", "None", "True", "1.0", " a ", "=cmd|' /C calc'!A0", "-3"])
def test_names_of_series_come_back_as_they_went_in(name, tmp_path):
    frame = pd.DataFrame({"unique_id": name, "ds": [1, 2, 3], "y": [1.5, np.nan, -2.0]})
    frame.to_csv(tmp_path / "own.csv", index=False)
    again = load_frame(tmp_path / "own.csv").df
    assert again["unique_id"].tolist() == [name] * 3
    assert again["ds"].tolist() == [1, 2, 3]
    np.testing.assert_array_equal(again["y"], frame["y"])


def test_names_with_commas_quotes_and_line_breaks_come_back(tmp_path):
    names = ['a,"b"', "two\nlines", "Ünïcödé 温度"]
    pd.DataFrame({"unique_id": names, "ds": 1, "y": [1.0, 2.0, 3.0]}).to_csv(tmp_path / "own.csv", index=False)
    assert load_frame(tmp_path / "own.csv").df["unique_id"].tolist() == sorted(names)


@pytest.mark.parametrize("text", ["0.1", "1e-320", "123456789.123456789", "0.30000000000000004", "+5", " 7 ", "5."])
def test_numbers_are_rounded_correctly(text, write):
    assert load_frame(write(f"{LONG}a,1,{text}\n")).df["y"].tolist() == [float(text)]


def test_a_missing_name_is_told_and_a_missing_target_stays_missing(write):
    assert "row 1: 'unique_id' is missing" in error_of(write(f"{LONG}a,1,1\n,2,2\n"))
    values = load_frame(write(f"{LONG}a,1,\na,2,NA\na,3,null\na,4,4\n")).df["y"]
    assert values.isna().tolist() == [True, True, True, False]


def test_a_column_that_nobody_asked_for_never_matters(write, caplog):
    path = write('unique_id,ds,y,note,x,late,note2\na,1,1,rain,5,,1+2j\na,2,2,"sun, wind",6,7,inf\n')
    loaded = load_frame(path)
    assert list(loaded.df.columns) == ["unique_id", "ds", "y", "x"]
    assert loaded.df["x"].tolist() == [5.0, 6.0]
    for column in ("note", "late", "note2"):
        assert f"column '{column}' of" in caplog.text
    assert list(load_frame(path, covariates=[]).df.columns) == ["unique_id", "ds", "y"]
    assert "series 'a', row 0: column 'note' is not numeric (found 'rain'" in error_of(path, covariates=["note"])
    assert "series 'a', row 0: covariate 'late' is missing" in error_of(path, covariates=["late"])


def test_an_index_that_was_saved_by_accident_is_left_out_aloud(tmp_path, caplog):
    frame = pd.DataFrame({"unique_id": "a", "ds": [1, 2], "y": [3.0, 4.0]})
    frame.to_csv(tmp_path / "own.csv")
    assert list(load_frame(tmp_path / "own.csv").df.columns) == ["unique_id", "ds", "y"]
    assert "'Unnamed: 0' counts the rows" in caplog.text
    frame.drop(columns="unique_id").to_csv(tmp_path / "own.csv")
    assert load_frame(tmp_path / "own.csv").df["unique_id"].unique().tolist() == ["y"]


@pytest.mark.parametrize("name", ["index", "level_0"])
def test_an_index_that_was_reset_is_no_series_unless_it_is_asked_for(tmp_path, caplog, name):
    frame = pd.DataFrame({name: range(6), "ds": range(1, 7), "y": 3.0})
    frame.to_csv(tmp_path / "own.csv", index=False)
    assert load_frame(tmp_path / "own.csv").df["unique_id"].unique().tolist() == ["y"]
    assert f"{name!r} counts the rows" in caplog.text
    loaded = load_frame(tmp_path / "own.csv", targets=["y"], covariates=[name]).df
    assert loaded[name].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert load_frame(tmp_path / "own.csv", targets=[name]).df["y"].tolist() == loaded[name].tolist()
    prices = frame.assign(**{name: [101.5, 103.0, 99.0, 98.5, 97.0, 99.5]})
    prices.to_csv(tmp_path / "own.csv", index=False)  # an index of prices is a series
    assert load_frame(tmp_path / "own.csv").df["unique_id"].unique().tolist() == [name, "y"]


def test_a_number_too_large_for_any_machine_is_told_with_its_place():
    frame = pd.DataFrame({"unique_id": "a", "ds": [1, 2], "y": pd.Series([1, 10**400], dtype=object)})
    with pytest.raises(FrameError, match=r"series 'a', row 1: column 'y' is not numeric \(found 1000.* of 401 char"):
        validate_frame(frame)


def test_a_nameless_column_that_is_no_index_is_refused(write):
    assert "column 'Unnamed: 0' has no name in its header" in error_of(write(",ds,y\n5,1,1\n1,2,2\n"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"{LONG}a,1,1,9\na,2,2,9\n", "Row #2: Expected 3 columns, got 4"),
        (f"{LONG}a,1,1\na,2,2,9\n", "Row #3: Expected 3 columns, got 4"),
        (f"{LONG}a,1,1\na,2\n", "Row #3: Expected 3 columns, got 2"),
        ("unique_id;ds;y\na;1;1\n", "separated by semicolons"),
        ("unique_id\tds\ty\na\t1\t1\n", "separated by tabs"),
        ("ds,v,v\n1,2,3\n", "column 'v' appears twice in the header"),
        ('ds,v\n1,"2\n2,3\n', "a quote that is not closed"),
        ("", "is empty"),
        ("\n\n", "is empty"),
        (LONG, "the frame is empty"),
        (b"PK\x03\x04\x00\x00", "holds zero bytes"),
        ("ds,v\n1,1+2j\n", "column 'v' is not numeric (found '1+2j'"),
        ("ds,v\n1,inf\n", "column 'v' is infinite"),
        ('ds,v\n1,"1,5"\n', "column 'v' is not numeric (found '1,5'"),
    ],
)
def test_what_is_no_table_is_told(text, told, write):
    assert told in error_of(write(text))


@pytest.mark.parametrize(("encoding", "told"), [("latin1", "no UTF-8 text (byte 0xfc"), ("utf-16", "is UTF-16 text")])
def test_other_encodings_are_told_with_the_way_out(encoding, told, write):
    message = error_of(write("ds,Zürich\n1,2\n", encoding))
    assert told in message
    assert "iconv -f " in message
    assert load_frame(write("ds,Zürich\n1,2\n", "utf-8-sig")).df["unique_id"].tolist() == ["Zürich"]


@pytest.mark.parametrize("name", ["", "  "])
def test_data_without_a_name_are_refused(name):
    with pytest.raises(ValueError, match="give a file, a Hub id or one of"):
        load_frame(name)


def test_forecasts_keep_names_that_a_spreadsheet_would_run_as_text(tmp_path):
    frame = pd.DataFrame({"unique_id": ["=1+1"], "ds": [pd.Timestamp("2024-01-01")], "DLinear": [0.5]})
    frame.to_csv(tmp_path / "forecasts.csv", index=False)
    assert read_table(tmp_path / "forecasts.csv")["unique_id"].tolist() == ["=1+1"]
