"""The advice of an error, followed literally, succeeds: the code in its text is run on the frame that was refused."""

import re
from fractions import Fraction

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from typer.testing import CliRunner

import tsllm.data.frame
from tsllm.cli.main import app
from tsllm.data.frame import fill_gaps, find_covariates, future_frame, infer_freq, to_long, validate_frame
from tsllm.types import FrameError


def long(n=30, freq="h", ids=("a", "b")):
    times = pd.date_range("2024-01-01", periods=n, freq=freq) if isinstance(freq, str) else np.arange(1, n + 1) * freq
    return pd.concat([pd.DataFrame({"unique_id": i, "ds": times, "y": np.arange(n) + 1.0}) for i in ids])


def wide(n=30, freq="h", time="date"):
    times = pd.date_range("2024-01-01", periods=n, freq=freq)
    return pd.DataFrame({time: times, "OT": np.arange(n) + 1.0, "HUFL": np.arange(n) + 2.0})


def follow(df, **options):
    """Runs the code of each refusal until the frame is taken; returns it and how many refusals there were."""
    for refusals in range(4):
        try:
            return validate_frame(df, **options), refusals
        except FrameError as error:
            code = re.search(
                r"\bdf(?:\[[^]]+\])? = .*?(?=[;:,]? (?:\(or|or|and|in UTC|which|\(save)|$|;|, (?:or|and|which)|: in)",
                str(error),
            )
            if code is None:
                raise AssertionError(f"no code in: {error}") from error
            names = {"df": df.copy(), "pd": pd, "np": np, "tsllm": tsllm}
            exec(code[0], names)
            df = names["df"]
    raise AssertionError("still refused after four rounds")


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (["126,5", "143,88", "7,0"], [126.5, 143.88, 7.0]),
        (["126,5", "143", "-7,125"], [126.5, 143.0, -7.125]),
        (["1.234,5", "1.000.000,25", "0,5"], [1234.5, 1000000.25, 0.5]),
        (["126,5", 143, None], [126.5, 143.0, np.nan]),
        (["0,125", "0,250", "0,500"], [0.125, 0.25, 0.5]),
    ],
)
@pytest.mark.parametrize("column", ["y", "price"])
def test_numbers_with_a_decimal_comma_are_read_as_the_error_says(written, read, column):
    df = pd.DataFrame({"unique_id": "a", "ds": [1, 2, 3], "y": 1.0}).assign(
        **{column: pd.Series(written, dtype=object)}
    )
    if column == "price" and None in written:
        written[2], read[2] = "2", 2.0
        df["price"] = pd.Series(written, dtype=object)
    options = {"covariates": ["price"]} if column == "price" else {}
    with pytest.raises(FrameError, match="it has a decimal comma; read it with"):
        validate_frame(df, **options)
    checked, refusals = follow(df, **options)
    assert refusals == 1
    np.testing.assert_array_equal(checked[column], read)


def test_a_comma_that_may_be_either_is_advised_both_ways_and_a_mix_none():
    df = pd.DataFrame({"unique_id": "a", "ds": [1, 2], "y": ["1,234", "56,789"]})
    with pytest.raises(FrameError, match=r"its comma may stand before decimals, .* or between thousands") as error:
        validate_frame(df)
    codes = re.findall(r"df\['y'\] = pd.to_numeric\(.*?regex=True\)\)", str(error.value))
    found = []
    for code in codes:
        names = {"df": df.copy(), "pd": pd}
        exec(code, names)
        found.append(names["df"]["y"].tolist())
    assert found == [[1.234, 56.789], [1234, 56789]]
    with pytest.raises(FrameError, match="some of its values have a comma and others a point"):
        validate_frame(df.assign(y=["126,5", "126.5"]))


HOLES = [3, 4, 9]


@pytest.mark.parametrize("freq", ["h", "D", "B", "MS", "W-WED", "QS-OCT", 1, 5])
def test_gaps_are_filled_as_the_error_says_in_long_frames(freq):
    whole = long(freq=freq).reset_index(drop=True)
    checked, refusals = follow(whole.drop(index=HOLES))
    assert refusals == 1
    assert checked["ds"].tolist() == whole["ds"].tolist()
    assert checked["y"].isna().to_numpy().nonzero()[0].tolist() == HOLES


@pytest.mark.parametrize("freq", ["h", "B", "MS"])
@pytest.mark.parametrize("time", ["date", "ds"])
def test_gaps_are_filled_as_the_error_says_in_wide_frames(freq, time):
    whole = wide(freq=freq, time=time)
    checked, refusals = follow(whole.drop(index=HOLES))
    assert refusals == 1
    filled = checked[checked["unique_id"] == "OT"].reset_index(drop=True)
    assert filled["ds"].tolist() == whole[time].tolist()
    assert filled["y"].isna().to_numpy().nonzero()[0].tolist() == HOLES


def test_gaps_of_months_written_as_integers_are_filled_after_the_dates_are_made():
    frame = pd.DataFrame({"unique_id": "a", "ds": [202310, 202311, 202312, 202401, 202403], "y": 1.0})
    checked, refusals = follow(frame)
    assert refusals == 2  # first the dates, then the gap
    assert checked["ds"].tolist() == list(pd.date_range("2023-10-01", periods=6, freq="MS"))
    with pytest.raises(FrameError, match="may be a month"):
        fill_gaps(frame)


def test_business_days_with_a_holiday_are_business_days():
    frame = long(freq="B", ids=("a",)).reset_index(drop=True).drop(index=7)
    assert infer_freq(frame) == "B"
    assert len(fill_gaps(frame)) == 30


@pytest.mark.parametrize(
    "spoil",
    [
        lambda df: df.assign(ds=df["ds"].dt.tz_localize("Europe/Paris")),
        lambda df: df.assign(ds=df["ds"].dt.strftime("%Y-%m-%d %H:%M+01")),
        lambda df: pd.concat([df, df.iloc[[2, 5]]]),
        lambda df: df.iloc[::-1],
        lambda df: df.assign(y=df["y"].astype(object).where(df["y"] != 3, "n/a")),
        lambda df: df.assign(y=df["y"] + 0j),
        lambda df: df.assign(y=df["y"].where(df["y"] != 3, np.inf)),
        lambda df: df.assign(y=df["y"].map(str)),
        lambda df: df.assign(y=df["y"].map(Fraction)),
        lambda df: df.assign(y=df["y"].astype("category")),
        lambda df: df.assign(y=df["y"].astype(object).where(df["y"] != 3, pd.NA)),
        lambda df: df.assign(y=df["y"].map(Fraction).where(df["y"] != 3, pd.NA)),
        lambda df: df.assign(ds=df["ds"].dt.strftime("%Y-%m-%d 00:00 UTC+1")),
        lambda df: df.assign(ds=df["ds"].dt.strftime("%Y%j").astype(int)),
        lambda df: df.assign(y=df["y"].astype(object).where(df["y"] != 3, 10**30)),
        lambda df: df.assign(ds=df["ds"].dt.strftime("%Y-%m-%d %H:%M CET")),
        lambda df: df.assign(ds=df["ds"].dt.strftime("%Y-%m-%dT%H:%M+01:00[Europe/Paris]")),
        lambda df: df.assign(ds=(df["ds"].dt.dayofyear + 100).astype(str)),
        lambda df: df.assign(**{"": 1.5}),
        lambda df: df.assign(x=1.5).set_axis(["unique_id", "ds", "y", None], axis=1),
        lambda df: df.assign(unique_id=[1, *df["unique_id"][1:]]),
        lambda df: df.assign(unique_id=[[i] for i in df["unique_id"]]),
        lambda df: df.assign(unique_id=df["unique_id"].map({"a": 1.5, "b": 2.5})),
        lambda df: df.assign(x=df["y"].where(df["y"] != 3)),
        lambda df: df.assign(ds=df["ds"].dt.strftime("%d/%m/%Y")).iloc[[*range(10), *range(30, 40)]],
    ],
)  # fmt: skip
def test_every_refusal_of_a_long_frame_tells_code_that_mends_it(spoil):
    daily = long(freq="D").reset_index(drop=True)
    checked, refusals = follow(spoil(daily))
    assert refusals >= 1
    assert checked["y"].isna().sum() <= 2  # a value of each series may be no number, never all of them
    assert set(checked.columns) >= {"unique_id", "ds", "y"}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda df: df.assign(date=df["date"].dt.tz_localize("UTC")),
        lambda df: pd.concat([df, df.iloc[[2, 5]]]),
        lambda df: df.iloc[::-1],
        lambda df: df.assign(OT=df["OT"].astype(object).where(df["OT"] != 3, "n/a")),
        lambda df: df.assign(OT=df["OT"].where(df["OT"] != 3, -np.inf)),
        lambda df: df.assign(comment="a text"),
        lambda df: df.assign(read=df["date"]),
        lambda df: df.set_index("date").rename_axis(None),
    ],
)
def test_every_refusal_of_a_wide_frame_speaks_of_its_own_columns(spoil):
    checked, refusals = follow(spoil(wide(freq="D")))
    assert refusals == 1
    assert len(checked) == 60


def test_keys_may_stand_in_the_index():
    df = long().reset_index(drop=True)
    expected = validate_frame(df)
    pd.testing.assert_frame_equal(validate_frame(df.set_index("unique_id")), expected)
    pd.testing.assert_frame_equal(validate_frame(df.set_index(["unique_id", "ds"])), expected)
    pd.testing.assert_frame_equal(validate_frame(wide().set_index("date")), validate_frame(wide()))


def test_tables_of_other_libraries_are_taken():
    df = long().reset_index(drop=True)
    expected = validate_frame(df)
    pd.testing.assert_frame_equal(validate_frame(pa.Table.from_pandas(df)), expected, check_dtype=False)
    polars = pytest.importorskip("polars")
    pd.testing.assert_frame_equal(validate_frame(polars.from_pandas(df)), expected, check_dtype=False)
    with pytest.raises(FrameError, match="collect it first"):
        validate_frame(polars.from_pandas(df).lazy())


@pytest.mark.parametrize("thing", [{"y": [1]}, [1, 2], "data.csv", None, 3])
def test_what_is_no_table_is_told(thing):
    with pytest.raises(FrameError, match="expected a table"):
        validate_frame(thing)


@pytest.mark.parametrize(("old", "new"), [("H", "h"), ("M", "ME"), ("T", "min"), ("Q", "QE-DEC"), ("A", "YE-DEC")])
def test_the_old_aliases_work_throughout(old, new):
    df = long(freq=new, n=12).reset_index(drop=True)
    checked = validate_frame(df, freq=old)
    pd.testing.assert_frame_equal(future_frame(checked, 3, old), future_frame(checked, 3, new))
    assert len(fill_gaps(df.drop(index=[3, 4]), old)) == 24


def test_covariates_that_cannot_be_are_refused_by_name():
    df = long().assign(x=1.0)
    for name in ("y", "ds", "unique_id"):
        with pytest.raises(FrameError, match=f"column '{name}' cannot be a covariate"):
            validate_frame(df, covariates=["x", name])
    with pytest.raises(FrameError, match="covariate 'x' is named twice"):
        validate_frame(df, covariates=["x", "x"])
    with pytest.raises(FrameError, match="covariates must be a list of columns, got 'x'"):
        validate_frame(df, covariates="x")


def test_doubled_columns_matter_only_where_they_are_read():
    df = long().assign(x=1.0).reset_index(drop=True)
    doubled = pd.concat([df, df[["x"]]], axis=1)
    assert list(validate_frame(doubled, covariates=[]).columns) == ["unique_id", "ds", "y"]
    with pytest.raises(FrameError, match="column 'x' appears twice"):
        validate_frame(doubled)
    assert find_covariates(doubled) == ([], {"x": "there are several of this name"})


def test_columns_that_are_equal_as_text_do_not_name_two_series():
    df = pd.DataFrame({"ds": [1, 2], 1: [1.0, 2.0], "1": [3.0, 4.0]})
    with pytest.raises(FrameError, match="do not tell the series apart"):
        to_long(df)


def test_a_text_column_of_a_wide_table_is_left_out_by_the_option_that_the_error_names(tmp_path):
    path = tmp_path / "wide.csv"
    frame = wide(n=60).assign(weekday=[f"day {k % 7}" for k in range(60)], more=[f"more {k % 5}" for k in range(60)])
    frame.to_csv(path, index=False)
    asked = ["predict", "SeasonalNaive", str(path), "--h", "2"]
    told = " ".join(CliRunner().invoke(app, asked).output.split())
    assert "name the columns that are series (targets=[...], --targets)" in told
    series = [c for c in frame.columns if c not in ("date", "weekday", "more")]
    done = CliRunner().invoke(app, [*asked, "--targets", ",".join(series), "--output", str(tmp_path / "f.csv")])
    assert done.exit_code == 0, done.output
    assert pd.read_csv(tmp_path / "f.csv")["unique_id"].unique().tolist() == sorted(series)
    with pytest.raises(FrameError, match=r"\(targets=\[\.\.\.\], --targets\)"):
        validate_frame(frame)
    assert validate_frame(frame, targets=series)["unique_id"].unique().tolist() == sorted(series)
