import logging
import re

import numpy as np
import pandas as pd
import pytest

import tsllm
from tsllm.data.frame import validate_frame
from tsllm.data.names import ColumnNames
from tsllm.evaluation.config import CompareConfig
from tsllm.types import FrameError

SHOP = ColumnNames("shop", "day", "sold")


def sales(count=28, **more):
    days = pd.date_range("2024", periods=count)
    shops = {"A": np.arange(count), "B": 2 * np.arange(count)}
    parts = [pd.DataFrame({"shop": s, "day": days, "sold": sold, **more}) for s, sold in shops.items()]
    return pd.concat(parts, ignore_index=True)


def own(df):
    return df.rename(columns={"shop": "unique_id", "day": "ds", "sold": "y"})


def test_a_table_comes_in_under_the_names_of_frames_and_leaves_under_its_own():
    pd.testing.assert_frame_equal(SHOP.read(sales()), own(sales()))
    pd.testing.assert_frame_equal(SHOP.write(own(sales())), sales())
    pd.testing.assert_frame_equal(SHOP.read(own(sales())), own(sales()))


def test_a_further_column_with_a_name_of_frames_is_left_out_aloud(caplog):
    read = SHOP.read(sales(y=9.0))
    assert read["y"].tolist() == sales()["sold"].tolist()
    assert "'y' is left out: 'sold' was named in its place" in caplog.text


def test_a_table_without_series_is_one_series_called_like_its_target():
    one = sales().query("shop == 'A'")[["day", "sold"]]
    read = ColumnNames.of(time_col="day", target_col="sold").read(one)
    assert read["unique_id"].unique().tolist() == ["sold"]
    assert read["y"].tolist() == one["sold"].tolist()


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ({"id_col": "shops"}, "no column 'shops' (id_col, --id); found columns ['shop', 'day', 'sold']; did you mean"),
        ({"time_col": "date"}, "no column 'date' (time_col, --time)"),
        ({"target_col": "sold_", "id_col": "shop"}, "did you mean 'sold'?"),
        ({"id_col": "shop", "time_col": "shop"}, "'shop' is named for two of"),
        ({"id_col": "cutoff"}, "'cutoff', which forecasts need"),
        ({"id_col": " "}, "give the name of a column"),
    ],
)
def test_a_name_that_cannot_be_is_told_with_the_nearest(names, text):
    with pytest.raises(FrameError) as error:
        tsllm.backtest(sales(), [tsllm.SeasonalNaive(7)], 7, **names)
    assert text in str(error.value)


def test_errors_speak_of_the_columns_of_the_table():
    doubled = pd.concat([sales(), sales().tail(1)], ignore_index=True)
    with pytest.raises(
        FrameError, match=r"day 2024-01-28 00:00:00 appears twice .*drop_duplicates\(\['shop', 'day'\]\)"
    ):
        tsllm.SeasonalNaive(7).name_columns("shop", "day", "sold").fit(doubled, 7)
    text = sales().astype({"sold": object})
    text.loc[3, "sold"] = "closed"
    with pytest.raises(FrameError, match=r"column 'sold' is not numeric .* df\['sold'\] = pd.to_numeric"):
        tsllm.backtest(text, [tsllm.SeasonalNaive(7)], 7, id_col="shop", time_col="day", target_col="sold")


def holed():
    return sales().drop(index=[3, 4, 40]).reset_index(drop=True)


def follow_gaps(error, df):
    """The table after the call that the error advises."""
    advised = re.search(r"df = (tsllm\.data\.frame\.fill_gaps\(.*\))", str(error.value))[1]
    return eval(advised, {"tsllm": tsllm, "df": df})


NAMED = {"id_col": "shop", "time_col": "day", "target_col": "sold"}


@pytest.mark.parametrize(
    "use",
    [
        lambda df: tsllm.NeuralForecaster("dlinear", h=7, context_length=7, **NAMED).fit(df),
        lambda df: tsllm.backtest(df, [tsllm.SeasonalNaive(7)], 7, **NAMED),
        lambda df: tsllm.SeasonalNaive(7).name_columns(*NAMED.values()).fit(df, 7),
    ],
)
def test_the_gaps_of_a_table_with_names_of_its_own_are_filled_as_the_error_says(use):
    with pytest.raises(FrameError, match=r"series 'A', row 3: gap, 2 step.*id_col='shop', time_col='day'") as error:
        use(holed())
    whole = follow_gaps(error, holed())
    assert whole.columns.tolist() == ["shop", "day", "sold"]
    pd.testing.assert_frame_equal(whole[["shop", "day"]], sales()[["shop", "day"]], check_dtype=False)
    assert whole["sold"].isna().to_numpy().nonzero()[0].tolist() == [3, 4, 40]
    assert whole["sold"].drop([3, 4, 40]).tolist() == holed()["sold"].tolist()
    use(whole)


def test_gaps_of_one_series_without_a_name_are_filled_under_the_names_of_the_table():
    one = holed().query("shop == 'A'")[["day", "sold"]]
    forecaster = tsllm.SeasonalNaive(7).name_columns(time_col="day", target_col="sold")
    with pytest.raises(FrameError, match="gap, 2 step") as error:
        forecaster.fit(one, 7)
    whole = follow_gaps(error, one)
    assert whole.columns.tolist() == ["day", "sold"]
    assert whole["sold"].isna().to_numpy().nonzero()[0].tolist() == [3, 4]
    assert forecaster.fit(whole, 7).predict()["SeasonalNaive"].tolist() == list(range(21, 28))


def test_the_order_of_day_and_month_is_in_the_advice_on_gaps():
    written = own(holed()).assign(ds=holed()["day"].dt.strftime("%d/%m/%Y"))[lambda df: df["unique_id"] == "A"]
    with pytest.raises(FrameError, match="gap, 2 step") as error:
        validate_frame(written.head(8), day_first=True)
    assert follow_gaps(error, written.head(8))["ds"].tolist() == list(pd.date_range("2024", periods=10))


@pytest.mark.parametrize("renamed", [{"shop": "series", "day": "date", "sold": "value"}, {"day": "time"}])
def test_filling_gaps_asks_for_the_names_of_a_long_table_before_it_calls_rows_doubled(renamed):
    df = holed().rename(columns=renamed)
    with pytest.raises(FrameError, match="name its columns: ") as error:
        tsllm.fill_gaps(df, "D")
    assert "drop_duplicates" not in str(error.value)
    options = re.search(r"in Python (.*), or df =", str(error.value))[1]
    whole = eval(f"tsllm.fill_gaps(df, 'D', {options})", {"tsllm": tsllm, "df": df})
    assert whole.columns.tolist() == df.columns.tolist()
    assert len(whole) == len(sales())


@pytest.mark.parametrize(
    ("spoil", "followed"),
    [(lambda df: pd.concat([df, df.tail(1)]), "drop_duplicates"), (lambda df: df.iloc[::-1], "sort_values")],
)
def test_an_order_that_filling_gaps_cannot_take_is_mended_in_the_names_of_the_table(spoil, followed):
    df = spoil(holed().rename(columns={"day": "date"}))
    with pytest.raises(FrameError, match=rf"df = df.{followed}\(\['shop', 'date'\]\)") as error:
        tsllm.fill_gaps(df, "D", id_col="shop", target_col="sold")
    mended = eval(re.search(rf"df\.{followed}\(.*?\)", str(error.value))[0], {"df": df})
    whole = tsllm.fill_gaps(mended, "D", id_col="shop", target_col="sold")
    assert whole["date"].tolist() == sales()["day"].tolist()


def test_a_table_that_already_has_the_names_of_frames_is_told_of_in_these():
    forecaster = tsllm.SeasonalNaive(7).name_columns("shop", "day", "sold").fit(sales(), 7)
    with pytest.raises(FrameError, match=r"fill_gaps\(df, freq='D'\)$"):
        forecaster.predict(own(holed()))


def test_the_name_of_a_series_is_not_translated():
    assert (
        SHOP.translate("series 'y', row 3: 'y' is missing at ds 4") == "series 'y', row 3: 'sold' is missing at day 4"
    )


def test_every_forecaster_takes_and_gives_the_names_and_forecasts_what_it_would_without():
    plain = tsllm.SeasonalNaive(7).fit(own(sales()), 7)
    named = tsllm.SeasonalNaive(7).name_columns("shop", "day", "sold").fit(sales(), 7)
    expected = SHOP.write(plain.predict(level=[80]))
    pd.testing.assert_frame_equal(named.predict(level=[80]), expected)
    pd.testing.assert_frame_equal(named.predict(sales(), level=[80]), expected)
    # Frames that have the names of frames come back as they were.
    pd.testing.assert_frame_equal(named.predict(own(sales()), level=[80]), plain.predict(level=[80]))
    paths = named.simulate(sales(), 3, n_windows=2)
    assert list(paths.columns) == ["shop", "day", "sample", "SeasonalNaive"]
    pd.testing.assert_frame_equal(tsllm.simulate(named, sales(), 3, n_windows=2), paths)


def test_a_forecaster_of_ones_own_sees_the_names_of_frames():
    class Last(tsllm.Forecaster):
        alias = "Last"

        def fit(self, df, h=None):
            assert list(df.columns) == ["unique_id", "ds", "y"]
            self.seen, self.h = df, h
            return self

        def predict(self, df=None, h=None, level=None, X_df=None):
            out = self.seen.groupby("unique_id").tail(self.h)
            return out.rename(columns={"y": self.alias}).reset_index(drop=True)

    made = Last().name_columns("shop", "day", "sold").fit(sales(), 2).predict()
    assert made.columns.tolist() == ["shop", "day", "Last"]
    assert made["Last"].tolist() == [26, 27, 52, 54]


def test_a_backtest_its_scores_and_its_picture_speak_of_the_columns():
    columns = {"id_col": "shop", "time_col": "day", "target_col": "sold"}
    models = [tsllm.SeasonalNaive(7)]
    windows = tsllm.backtest(sales(), models, 7, 2, **columns)
    expected = tsllm.backtest(own(sales()), models, 7, 2)
    assert windows.columns.tolist() == ["shop", "day", "cutoff", "sold", "SeasonalNaive"]
    pd.testing.assert_frame_equal(own(windows), expected)
    scores = tsllm.evaluate(windows, train=sales(), season=7, **columns)
    pd.testing.assert_frame_equal(scores, tsllm.evaluate(expected, train=own(sales()), season=7))
    assert scores["mae"].tolist() == [(7 + 14) / 2]
    figure = tsllm.plot(sales(), windows, **columns)
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["A", "B"]


def test_a_saved_model_remembers_the_names(tmp_path):
    options = {"h": 7, "context_length": 7, "moving_average": 3, "training": {"max_steps": 2}, "val_size": 7}
    made = tsllm.NeuralForecaster("dlinear", id_col="shop", time_col="day", target_col="sold", **options).fit(sales())
    assert made.history.columns.tolist()[:3] == ["unique_id", "ds", "y"]
    made.save_pretrained(tmp_path)
    loaded = tsllm.NeuralForecaster.from_pretrained(tmp_path)
    forecasts = loaded.predict(sales(), level=[50])
    assert forecasts.columns.tolist() == ["shop", "day", "DLinear", "DLinear-lo-50", "DLinear-hi-50"]
    pd.testing.assert_frame_equal(forecasts, made.predict(level=[50]))
    with pytest.raises(FrameError, match="no column 'day'"):
        loaded.predict(sales().rename(columns={"day": "week"}))


def test_a_named_date_column_is_given_back(tmp_path):
    path = tmp_path / "sales.csv"
    table = sales(note="x").replace({"A": "007", "B": "08"}).rename(columns={"day": "date", "shop": "series"})
    table.to_csv(path, index=False)
    loaded = tsllm.load_frame(path, id_col="series", target_col="sold", covariates=[])
    assert loaded.df["unique_id"].unique().tolist() == ["007", "08"]
    assert loaded.ignored == ("note",)
    assert loaded.names.write(loaded.df).columns.tolist() == ["series", "date", "sold"]


def test_a_text_column_of_a_wide_table_hints_at_names(tmp_path):
    path = tmp_path / "sales.csv"
    sales().rename(columns={"day": "date"}).to_csv(path, index=False)
    with pytest.raises(
        FrameError, match=r"column 'shop' holds text; name its columns: --id shop --time date --target sold"
    ):
        tsllm.load_frame(path)


def test_a_named_data_set_refuses_names():
    with pytest.raises(FrameError, match="m1-yearly is a data set by name, whose columns are known; leave id_col out"):
        tsllm.load_frame("m1-yearly", id_col="shop")


def test_a_comparison_gives_forecasts_under_the_names(tmp_path, caplog):
    caplog.set_level(logging.ERROR)
    found = tsllm.compare(
        sales(),
        ["SeasonalNaive", "Naive"],
        output_dir=tmp_path,
        h=7,
        n_windows=2,
        **{"id_col": "shop", "time_col": "day", "target_col": "sold"},
    )
    frame = found.forecasts["frame"]
    # The report links to the forecasts under these names, and to a configuration that reads back.
    kept = pd.read_parquet(tmp_path / "forecasts-frame-0.parquet")
    pd.testing.assert_frame_equal(kept, frame, check_dtype=False)
    again = CompareConfig.load(tmp_path / "config.yaml")
    assert [m.name for m in again.models] == ["SeasonalNaive", "Naive"]
    assert (again.data[0].h, again.data[0].n_windows, again.data[0].id_col) == (7, 2, "shop")
    assert frame.columns.tolist()[:4] == ["shop", "day", "cutoff", "sold"]
    assert frame["Naive"].tolist()[:7] == [13.0] * 7
