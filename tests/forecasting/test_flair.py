"""FLAIR by name: quantiles of the package's own paths, one series like another; errors that name the way out."""

import sys

import numpy as np
import pandas as pd
import pytest

from tsllm.data.task import ForecastTask
from tsllm.forecasting.flair import FlairForecaster
from tsllm.forecasting.model_spec import ModelSpec
from tsllm.forecasting.roster import build_forecaster
from tsllm.types import FrameError


def make_frame(steps=48):
    rng = np.random.default_rng(0)
    months = pd.date_range("2020-01-01", periods=steps, freq="MS")
    wave = 5 * np.sin(np.arange(steps) * np.pi / 6)
    parts = [pd.DataFrame({"unique_id": n, "ds": months, "y": 50 + wave + rng.normal(size=steps)}) for n in "ab"]
    return pd.concat(parts, ignore_index=True)


def test_its_forecasts_are_quantiles_of_the_packages_paths():
    flaircast = pytest.importorskip("flaircast")
    frame = make_frame()
    model = build_forecaster(ModelSpec("FLAIR"), ForecastTask(h=6, freq="MS", season=12, context_length=36))
    found = model.fit(frame, 6).predict(level=[80])
    for name, rows in found.groupby("unique_id"):
        y = frame[frame["unique_id"] == name]["y"].to_numpy()
        paths = flaircast.forecast(y, 6, "M", 200, 0)
        expected = np.quantile(paths, [0.1, 0.5, 0.9], axis=0).T
        np.testing.assert_allclose(rows[["FLAIR-lo-80", "FLAIR", "FLAIR-hi-80"]], expected)


def test_missing_values_and_a_season_without_a_frequency_are_refused():
    pytest.importorskip("flaircast")
    with pytest.raises(ValueError, match="season is 13, but FLAIR knows seasons of 1, 4, 5"):
        FlairForecaster(13)
    frame = make_frame()
    frame.loc[3, "y"] = np.nan
    with pytest.raises(FrameError, match="series 'a' misses values, which FLAIR cannot read; interpolate them"):
        FlairForecaster(12).predict(frame, 6)


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "flaircast", None)
    with pytest.raises(ImportError, match="pip install flaircast"):
        FlairForecaster(12)
