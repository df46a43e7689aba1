import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsforecast import StatsForecast
from statsforecast import models as sf

from tsllm.forecasting.base import Forecaster
from tsllm.forecasting.naive import Naive, SeasonalNaive
from tsllm.types import FrameError


def panel(lengths=(50, 37), freq="h", seed=0):
    rng = np.random.default_rng(seed)
    parts = []
    for k, n in enumerate(lengths):
        times = pd.date_range("2024-01-01", periods=n, freq=freq) if isinstance(freq, str) else np.arange(n)
        parts.append(pd.DataFrame({"unique_id": f"s{k}", "ds": times, "y": rng.normal(50, 10, n)}))
    return pd.concat(parts, ignore_index=True)


def test_values_worked_by_hand():
    df = pd.DataFrame({"unique_id": "a", "ds": range(1, 6), "y": [1.0, 2.0, 3.0, 5.0, 7.0]})
    out = SeasonalNaive(2).fit(df, h=3).predict(level=[80])
    # Last season 5, 7; seasonal differences 2, 3, 4: sigma = sqrt(29 / 3); the third step lies two seasons ahead.
    assert out["ds"].tolist() == [6, 7, 8]
    assert out["SeasonalNaive"].tolist() == [5.0, 7.0, 5.0]
    half = 1.2815515655446004 * np.sqrt(29 / 3) * np.sqrt([1, 1, 2])
    assert out["SeasonalNaive-hi-80"].to_numpy() == pytest.approx(np.array([5, 7, 5]) + half)
    assert out["SeasonalNaive-lo-80"].to_numpy() == pytest.approx(np.array([5, 7, 5]) - half)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (SeasonalNaive(7), sf.SeasonalNaive(season_length=7)),
        (SeasonalNaive(24), sf.SeasonalNaive(season_length=24)),
        (Naive(), sf.Naive()),
    ],
)
@pytest.mark.parametrize("freq", ["h", "MS", 1])
def test_forecasts_equal_those_of_statsforecast(ours, theirs, freq):
    df = panel(freq=freq)
    expected = StatsForecast([theirs], freq=freq).forecast(df=df, h=30, level=[80, 97.5])
    got = ours.fit(df, h=30).predict(level=[80, 97.5])
    assert set(got.columns) == set(expected.columns)
    assert got[ours.alias].tolist() == expected[ours.alias].tolist()
    pd.testing.assert_frame_equal(got, expected[got.columns], rtol=1e-12)


@pytest.mark.parametrize("step_size", [1, 6, 11])
def test_rolling_forecasts_equal_the_cross_validation_of_statsforecast(step_size):
    df = panel((60, 45))
    expected = StatsForecast([sf.SeasonalNaive(season_length=6)], freq="h").cross_validation(
        df=df, h=6, n_windows=3, step_size=step_size, level=[80]
    )
    got = SeasonalNaive(6).predict_rolling(df, h=6, n_windows=3, step_size=step_size, level=[80])
    assert got["SeasonalNaive"].tolist() == expected["SeasonalNaive"].tolist()
    pd.testing.assert_frame_equal(got, expected[got.columns], rtol=1e-12)


@settings(max_examples=30, deadline=None)
@given(n=st.integers(2, 40), season=st.integers(1, 12), h=st.integers(1, 30))
def test_each_step_repeats_the_last_season_or_says_that_it_cannot(n, season, h):
    df = pd.DataFrame({"unique_id": "a", "ds": range(n), "y": np.arange(float(n))})
    model = SeasonalNaive(season)
    if n < season and h > 0:
        with pytest.raises(FrameError, match="no observed value to repeat"):
            model.predict(df, h=h)
        return
    expected = [float(n - season + k % season) for k in range(h)]
    assert model.predict(df, h=h)["SeasonalNaive"].tolist() == expected


def test_a_missing_value_gives_way_to_the_season_before_with_a_wider_interval():
    df = pd.DataFrame({"unique_id": "a", "ds": range(6), "y": [1.0, 2.0, 3.0, 5.0, np.nan, 7.0]})
    out = SeasonalNaive(2).predict(df, h=2, level=[80])
    assert out["SeasonalNaive"].tolist() == [3.0, 7.0]
    # Seasonal differences 2, 3, 2 (one is missing): sigma = sqrt(17 / 3); the first source lies two seasons back.
    widths = out["SeasonalNaive-hi-80"] - out["SeasonalNaive"]
    assert widths.to_numpy() == pytest.approx(1.2815515655446004 * np.sqrt(17 / 3) * np.sqrt([2, 1]))


def test_what_cannot_be_forecast_is_told():
    df = pd.DataFrame({"unique_id": "a", "ds": range(4), "y": [np.nan, 2.0, np.nan, 5.0]})
    with pytest.raises(FrameError, match=r"series 'a' \(4 steps\) has no observed value to repeat 1 steps ahead"):
        SeasonalNaive(2).predict(df, h=2)
    with pytest.raises(FrameError, match="no two values a season"):
        SeasonalNaive(4).predict(df.assign(y=1.0), h=2, level=[80])
    with pytest.raises(ValueError, match="has no history"):
        SeasonalNaive(2).predict(h=2)
    with pytest.raises(ValueError, match="how far"):
        SeasonalNaive(2).fit(df).predict()
    for season in (2.5, "24", None, True):
        with pytest.raises(ValueError, match=f"season is {season!r}; it must be a whole number"):
            SeasonalNaive(season)
    with pytest.raises(ValueError, match="season is 0"):
        SeasonalNaive(0)
    with pytest.raises(FrameError, match="has 4 steps; 2 windows of 3 steps, 1 apart, need at least 5"):
        SeasonalNaive(1).predict_rolling(df, h=3, n_windows=2, step_size=1)
    with pytest.raises(ValueError, match="level must lie"):
        SeasonalNaive(1).predict(df.assign(y=1.0), h=1, level=[100])


def test_both_are_forecasters_and_predict_leaves_the_fitted_history():
    df, other = panel(), panel(seed=1)
    for model in (SeasonalNaive(24), Naive(alias="RW")):
        assert isinstance(model, Forecaster)
        first = model.fit(df, h=3).predict()
        model.predict(other)
        pd.testing.assert_frame_equal(model.predict(), first)
        assert list(first.columns) == ["unique_id", "ds", model.alias]
