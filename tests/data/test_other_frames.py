"""A table says the same whichever library holds it: pandas by numpy, by Arrow or with masks, Arrow, polars."""

from datetime import date

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import tsllm
from tsllm.data.columns import as_pandas, is_table
from tsllm.data.frame import fill_gaps, future_frame, validate_frame, validate_future

STEPS = 60


def long():
    times = pd.date_range("2024-01-01", periods=STEPS, freq="h")
    values = np.where(np.arange(STEPS) == 7, np.nan, 5.0 + np.arange(STEPS) % 24)
    parts = [pd.DataFrame({"unique_id": name, "ds": times, "y": values * k, "x": values.round() > 9, "n": 3})
             for k, name in ((1, "007"), (2, "b"))]  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def to_polars(df):
    return pytest.importorskip("polars").from_pandas(df)


def to_polars_categories(df):
    polars = pytest.importorskip("polars")
    return polars.from_pandas(df).with_columns(polars.col("unique_id").cast(polars.Categorical))


STORES = {
    "arrow columns": lambda df: df.convert_dtypes(dtype_backend="pyarrow"),
    "masked columns": lambda df: df.convert_dtypes(),
    "arrow": lambda df: pa.Table.from_pandas(df, preserve_index=False),
    "polars": to_polars,
    "polars categories": to_polars_categories,
}


@pytest.fixture(params=STORES)
def store(request):
    """Puts a table into the keeping of another library."""
    return STORES[request.param]


def test_it_is_read_as_the_same_frame_with_the_same_dtypes(store):
    df = long()
    pd.testing.assert_frame_equal(validate_frame(store(df)), validate_frame(df))
    holes = df.drop(index=[3, 4, 90])
    pd.testing.assert_frame_equal(fill_gaps(store(holes), "h")[["unique_id", "ds", "y"]], fill_gaps(holes, "h")[["unique_id", "ds", "y"]])  # fmt: skip  # noqa: E501
    keys = future_frame(validate_frame(df), 2)
    later = keys.assign(x=[1.0, 2.0, 3.0, 4.0])
    pd.testing.assert_frame_equal(validate_future(store(later), keys, ["x"]), validate_future(later, keys, ["x"]))


def test_it_is_forecast_scored_drawn_and_told_of_the_same(store):
    df = long()[["unique_id", "ds", "y"]]
    model = tsllm.SeasonalNaive(season=24)
    expected = tsllm.backtest(df, [model], h=4, n_windows=2, level=[80])
    windows = tsllm.backtest(store(df), [model], h=4, n_windows=2, level=[80])
    pd.testing.assert_frame_equal(windows, expected)
    scores = tsllm.evaluate(expected, train=df, season=24)
    pd.testing.assert_frame_equal(tsllm.evaluate(store(expected), train=store(df), season=24), scores)
    assert len(tsllm.plot(store(df), store(expected)).axes) == 2
    texts = pd.DataFrame({"unique_id": ["b"], "text": ["All values are 25% higher from 2024-01-03 12:00 on."]})
    told = [
        tsllm.ContextForecaster(model, context=t, timeless=True).fit(df, 4).predict() for t in (texts, store(texts))
    ]
    pd.testing.assert_frame_equal(*told)
    assert not np.allclose(told[0].iloc[-4:, -1], model.fit(df, 4).predict().iloc[-4:, -1])  # it was read


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        (pa.date32(), [date(1970, 1, 1), date(1971, 1, 2)], np.array(["1970-01-01", "1971-01-02"], "datetime64[s]")),
        (pa.date64(), [date(1970, 1, 1), None], np.array(["1970-01-01", "NaT"], "datetime64[ms]")),
        (pa.timestamp("us"), [5, None], np.array([5, "NaT"], "datetime64[us]")),
        (pa.decimal128(6, 2), ["1.25", None], np.array([1.25, np.nan])),
        (pa.bool_(), [True, None], np.array([1.0, np.nan])),
        (pa.bool_(), [True, False], np.array([True, False])),
        (pa.int32(), [1, 2], np.array([1, 2], "int32")),
        (pa.int32(), [1, None], np.array([1, np.nan])),
        (pa.float32(), [1.5, None], np.array([1.5, np.nan], "float32")),
    ],
)
def test_columns_of_arrow_come_out_as_numpy_stores_them(kind, values, expected):
    column = pa.array(values).cast(kind).to_pandas(types_mapper=pd.ArrowDtype)
    read = as_pandas(pd.DataFrame({"a": column, 0: [1, 2]}).set_axis([5, 3]))
    assert read.columns.tolist() == ["a", 0]
    assert read.index.tolist() == [5, 3]
    assert read["a"].dtype == expected.dtype
    np.testing.assert_array_equal(read["a"].to_numpy(), expected)


def test_the_table_that_was_given_is_not_changed_and_doubled_columns_stay():
    df = pd.concat([long(), long()[["n"]]], axis=1).convert_dtypes()
    before = df.copy(deep=True)
    assert as_pandas(df).columns.tolist() == [*long().columns, "n"]
    pd.testing.assert_frame_equal(df, before)


@pytest.mark.parametrize(("thing", "expected"), [({"y": [1]}, False), ("a.csv", False), (None, False), ([1], False)])
def test_what_is_a_table_is_known(thing, expected):
    assert is_table(thing) is expected
    assert is_table(pd.DataFrame({"y": [1]}))
    assert is_table(pa.table({"y": [1]}))
