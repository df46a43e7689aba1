"""Series never seen: any ids and frequencies, equivariance, rolled horizons, errors that say why."""

import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from tsllm.data.task import ForecastTask
from tsllm.forecasting.model_spec import ModelSpec
from tsllm.forecasting.roster import build_forecaster
from tsllm.forecasting.saved import open_saved
from tsllm.forecasting.zero_shot import ZeroShotForecaster
from tsllm.hub.spec import ForecasterSpec
from tsllm.models import build_model
from tsllm.types import FrameError

RECIPE = Path(__file__).resolve().parents[2] / "recipes/configs/pretrain_series/patchcast.yaml"
LEVELS = [0.1, 0.3, 0.5, 0.7, 0.9]


@pytest.fixture
def forecaster():
    torch.manual_seed(0)
    sizes = {"d_model": 16, "num_layers": 1, "num_heads": 2, "d_ff": 16}
    model = build_model(
        "patchcast", context_length=64, prediction_length=8, head="quantile", quantile_levels=LEVELS, **sizes
    )
    return ZeroShotForecaster(model, ForecasterSpec(alias="Cast", freq="any", layout="univariate"))


def make_frame(freq="MS", steps=40, names=("a", "b"), start="2015-01-01"):
    rng = np.random.default_rng(0)
    times = pd.date_range(start, periods=steps, freq=freq)
    parts = [pd.DataFrame({"unique_id": n, "ds": times, "y": 50 + rng.standard_normal(steps).cumsum()}) for n in names]
    return pd.concat(parts, ignore_index=True)


def load_recipe_model():
    """The model of the recipe's sizes with random weights."""
    recipe = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    lengths = {name: recipe[name] for name in ("context_length", "prediction_length")}
    torch.manual_seed(0)
    model = build_model("patchcast", **lengths, **recipe["model_config"])
    return ZeroShotForecaster(model, ForecasterSpec(alias="Cast", freq="any", layout="univariate"))


@pytest.mark.parametrize(("freq", "season"), [("MS", 12), ("QS-JAN", 4), ("h", 24), ("D", 7), ("YS-JAN", 1)])
def test_any_frequency_is_read_with_its_customary_season(forecaster, freq, season):
    frame = make_frame(freq)
    found = forecaster.predict(frame, 5, level=[40, 80])
    assert found.groupby("unique_id").size().tolist() == [5, 5]
    assert (found.groupby("unique_id")["ds"].first() > frame["ds"].max()).all()
    columns = ["Cast-lo-80", "Cast-lo-40", "Cast", "Cast-hi-40", "Cast-hi-80"]
    assert (found[columns].diff(axis=1).iloc[:, 1:] >= 0).all(axis=None)
    forecaster.season = season
    pd.testing.assert_frame_equal(found, forecaster.predict(frame, 5, level=[40, 80]))
    forecaster.season = season + 2
    assert not np.allclose(found["Cast"], forecaster.predict(frame, 5)["Cast"])


def test_a_series_is_forecast_alike_alone_and_among_others(forecaster):
    frame = pd.concat([make_frame(names=("a",), steps=20), make_frame(names=("b",), steps=60)], ignore_index=True)
    together = forecaster.predict(frame, 8)
    for name in ("a", "b"):
        alone = forecaster.predict(frame[frame["unique_id"] == name], 8)
        mine = together[together["unique_id"] == name].reset_index(drop=True)
        np.testing.assert_allclose(alone["Cast"], mine["Cast"], rtol=1e-5)


@pytest.mark.parametrize("factor", [1e-6, 3.0, 1e8])
def test_forecasts_follow_the_unit_of_the_series(forecaster, factor):
    frame = make_frame()
    plain = forecaster.predict(frame, 12, level=[80])
    scaled = forecaster.predict(frame.assign(y=frame["y"] * factor), 12, level=[80])
    columns = ["Cast", "Cast-lo-80", "Cast-hi-80"]
    np.testing.assert_allclose(scaled[columns] / factor, plain[columns], rtol=1e-4)


def test_only_the_last_steps_of_a_long_history_count(forecaster):
    frame = make_frame("h", steps=200)
    cut = frame.groupby("unique_id").tail(64)
    pd.testing.assert_frame_equal(forecaster.predict(frame, 8), forecaster.predict(cut, 8))


def test_a_longer_horizon_begins_with_the_short_one_and_widens(forecaster):
    frame = make_frame()
    short, long = forecaster.predict(frame, 8, level=[80]), forecaster.predict(frame, 30, level=[80])
    firsts = long.groupby("unique_id").head(8).reset_index(drop=True)
    pd.testing.assert_frame_equal(firsts, short)
    assert len(long) == 60
    width = (long["Cast-hi-80"] - long["Cast-lo-80"]).to_numpy().reshape(2, 30)
    blocks = np.stack([width[:, k : k + 8].mean(1) for k in (0, 8, 16, 24)], axis=1)
    assert (blocks[:, 1:] > 1.05 * blocks[:, :1]).all()


def test_the_second_block_pools_the_forecasts_that_follow_each_quantile_path(forecaster):
    """A slow loop: each quantile of the first block becomes history of its own."""
    frame, names = make_frame(names=("a",)), ["Cast-lo-80", "Cast-lo-40", "Cast", "Cast-hi-40", "Cast-hi-80"]
    long = forecaster.predict(frame, 16, level=[40, 80])
    first = long.head(8)
    after = []
    for name in names:
        path = pd.DataFrame({"unique_id": "a", "ds": first["ds"], "y": first[name]})
        grown = pd.concat([frame, path], ignore_index=True)
        after.append(forecaster.predict(grown, 8, level=[40, 80])[names].to_numpy())
    values = np.stack(after)  # [path, step, quantile]
    share = np.diff([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    weight = np.outer(share, share).ravel()
    for step in range(8):
        pool = values[:, step].ravel()
        order = pool.argsort(kind="stable")
        middle = np.cumsum(weight[order]) - weight[order] / 2
        expected = np.interp(LEVELS, middle, pool[order])
        np.testing.assert_allclose(long[names].iloc[8 + step], expected, rtol=1e-5)


def test_contexts_of_any_length_up_to_that_of_the_recipe_are_masked_and_longer_ones_cut():
    forecaster = load_recipe_model()
    assert forecaster.context_length == 512
    long = make_frame("h", steps=700, names=("all",))
    parts = [long.tail(n).assign(unique_id=f"last {n}") for n in (3, 100, 511, 512, 700)]
    together = forecaster.predict(pd.concat(parts, ignore_index=True), 40, level=[80]).set_index("unique_id")
    columns = ["Cast", "Cast-lo-80", "Cast-hi-80"]
    for part in parts:
        alone = forecaster.predict(part, 40, level=[80])
        mine = together.loc[part["unique_id"].iloc[0], columns]
        np.testing.assert_allclose(mine, alone[columns], rtol=1e-4)
    whole, longer, shorter = (together.loc[f"last {n}", columns].to_numpy() for n in (512, 700, 511))
    np.testing.assert_allclose(longer, whole, rtol=1e-4)
    assert not np.allclose(shorter, whole, rtol=1e-4)


def test_pooled_quantiles_are_those_of_the_weighted_values(forecaster):
    # Equal paths: pooling must give the common quantiles back, up to the grid.
    common = torch.tensor([-3.0, -1.0, 0.0, 1.0, 3.0], dtype=torch.float64)
    pooled = forecaster._pool(common.repeat(1, 1, 5))[0, 0]
    np.testing.assert_allclose(pooled, common, atol=1e-9)
    values = torch.randn(1, 1, 25, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = forecaster._pool(values)[0, 0]
    assert (found.diff() >= 0).all()
    edges = np.array([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    weight = np.outer(np.diff(edges), np.diff(edges)).ravel()
    order = values[0, 0].argsort().numpy()
    middle = np.cumsum(weight[order]) - weight[order] / 2
    np.testing.assert_allclose(found, np.interp(LEVELS, middle, values[0, 0].numpy()[order]), rtol=1e-9)


def test_missing_values_are_no_obstacle_but_an_empty_history_is(forecaster):
    frame = make_frame()
    frame.loc[[3, 10, 39], "y"] = np.nan
    assert np.isfinite(forecaster.predict(frame, 4)["Cast"]).all()
    frame.loc[frame["unique_id"] == "b", "y"] = np.nan
    with pytest.raises(FrameError, match="series 'b' has no observed value"):
        forecaster.predict(frame, 4)


def test_a_wider_interval_than_trained_is_refused(forecaster):
    with pytest.raises(ValueError, match=r"outside the trained range \[0.1, 0.9\]"):
        forecaster.predict(make_frame(), 4, level=[95])


def test_a_saved_one_is_opened_by_name_and_told_the_task(forecaster, tmp_path):
    forecaster.save_pretrained(tmp_path)
    frame = make_frame()
    opened = open_saved(str(tmp_path))
    assert isinstance(opened, ZeroShotForecaster)
    pd.testing.assert_frame_equal(opened.predict(frame, 4), forecaster.predict(frame, 4))
    numbered = frame.assign(ds=frame.groupby("unique_id").cumcount() + 1)
    task = ForecastTask(h=4, freq=1, season=12, context_length=36)
    built = build_forecaster(ModelSpec(str(tmp_path), alias="Mine"), task)
    found = built.fit(numbered, 4).predict()
    np.testing.assert_allclose(found["Mine"], forecaster.predict(frame, 4)["Cast"], rtol=1e-6)


def test_an_artefact_of_certain_series_is_refused(forecaster, tmp_path):
    forecaster.save_pretrained(tmp_path)
    ForecasterSpec(alias="X", freq="h").save(tmp_path)
    with pytest.raises(ValueError, match="trained on series of freq 'h'"):
        ZeroShotForecaster.from_pretrained(tmp_path)


def test_a_point_head_is_refused():
    model = build_model("dlinear", context_length=64, prediction_length=8)
    with pytest.raises(ValueError, match="head 'point'"):
        ZeroShotForecaster(model, ForecasterSpec(alias="X", freq="any"))


def test_a_thousand_series_of_a_hundred_steps_take_less_than_a_minute_at_the_sizes_of_the_recipe():
    forecaster = load_recipe_model()
    frame = make_frame(steps=100, names=[f"item{k}" for k in range(1000)])
    began = time.process_time()  # of all cores: other programs on the machine do not count
    found = forecaster.predict(frame, 24, level=[80])
    assert time.process_time() - began < 60
    assert found.groupby("unique_id").size().tolist() == [24] * 1000
    assert np.isfinite(found[["Cast", "Cast-lo-80", "Cast-hi-80"]]).all(axis=None)
