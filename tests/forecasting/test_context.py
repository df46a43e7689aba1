"""A forecaster that is told something."""

import numpy as np
import pandas as pd
import pytest

from tsllm.context.effects import write_effects
from tsllm.forecasting.context import ContextForecaster, PoolForecaster, sample_paths
from tsllm.forecasting.naive import SeasonalNaive
from tsllm.types import FrameError

CLOSED = "The mill is closed from 2024-01-11 08:00 to 2024-01-11 14:00."


@pytest.fixture
def df():
    times = pd.date_range("2024-01-01", periods=240, freq="h")
    noise = np.random.default_rng(0).normal(size=240)
    wave = 10 + 5 * np.sin(np.arange(240) / 24 * 2 * np.pi) + noise
    return pd.concat([pd.DataFrame({"unique_id": k, "ds": times, "y": wave + i}) for i, k in enumerate("ab")])


def test_without_a_text_it_is_the_base_bit_for_bit(df):
    base = SeasonalNaive(24).fit(df, 24).predict(level=[80, 95])
    for context in (None, "", {"a": ""}, "The town has 12,000 inhabitants."):
        told = ContextForecaster(SeasonalNaive(24)).fit(df, 24, context).predict(level=[80, 95])
        assert list(told.columns) == [c.replace("SeasonalNaive", "SeasonalNaive+context") for c in base.columns]
        assert np.array_equal(told.iloc[:, 2:].to_numpy(), base.iloc[:, 2:].to_numpy())


def test_a_text_changes_its_series_and_its_span_only(df):
    base = SeasonalNaive(24).fit(df, 24).predict(level=[80])
    told = ContextForecaster(SeasonalNaive(24)).fit(df, 24).predict(level=[80], context={"a": CLOSED})
    inside = ((told["unique_id"] == "a") & told["ds"].between("2024-01-11 08:00", "2024-01-11 13:00")).to_numpy()
    assert inside.sum() == 6
    assert (told.loc[inside].iloc[:, 2:] == 0).all(axis=None)
    point = told["SeasonalNaive+context"].to_numpy()
    assert np.array_equal(point[~inside], base["SeasonalNaive"].to_numpy()[~inside])
    other = (told["unique_id"] == "b").to_numpy()
    assert np.array_equal(told.iloc[other, 2:].to_numpy(), base.iloc[other, 2:].to_numpy())
    width = told["SeasonalNaive+context-hi-80"] - told["SeasonalNaive+context-lo-80"]
    expected = base["SeasonalNaive-hi-80"] - base["SeasonalNaive-lo-80"]
    assert width[~inside].to_numpy() == pytest.approx(expected[~inside].to_numpy(), rel=0.02)


def test_an_artefact_of_the_history_is_taken_out_before_the_base_sees_it(df):
    spoiled = df.reset_index(drop=True)
    spoiled.loc[spoiled["ds"] == "2024-01-10 06:00", "y"] = 1e6
    text = "The sensor had a glitch from 2024-01-10 06:00 for 1 hour."
    told = ContextForecaster(SeasonalNaive(24)).fit(spoiled, 24, text).predict()
    at = told["ds"] == "2024-01-11 06:00"
    assert told.loc[at, "SeasonalNaive+context"].tolist() == df.loc[df["ds"] == "2024-01-09 06:00", "y"].tolist()


def test_a_back_test_reads_only_what_was_published(df):
    """The canary: a text that tells the future, published later, must not move any earlier forecast."""
    plain = SeasonalNaive(24).fit(df, 24).predict_rolling(df, 24, 3, 24)
    canary = "The output is held at 777 from 2024-01-08 00:00 to 2024-01-11 00:00."
    frame = pd.DataFrame({"unique_id": ["a"], "text": [canary], "published": ["2024-01-08 23:00"]})
    told = ContextForecaster(SeasonalNaive(24)).fit(df, 24, frame).predict_rolling(df, 24, 3, 24)
    assert told["cutoff"].tolist() == plain["cutoff"].tolist()
    late = ((told["unique_id"] == "a") & (told["cutoff"] >= "2024-01-08 23:00")).to_numpy()
    assert np.array_equal(told.loc[~late, "SeasonalNaive+context"], plain.loc[~late, "SeasonalNaive"])
    assert late.sum() == 48
    assert (told.loc[late, "SeasonalNaive+context"] == 777).all()
    without = ContextForecaster(SeasonalNaive(24)).fit(df, 24, {"a": CLOSED})
    with pytest.raises(FrameError, match="does not say when it was published"):
        without.predict_rolling(df, 24, 2, 24)


def test_predict_does_not_read_what_is_published_after_the_history(df):
    frame = pd.DataFrame({"unique_id": ["a"], "text": [CLOSED], "published": ["2024-02-01"]})
    base = SeasonalNaive(24).fit(df, 24).predict()
    told = ContextForecaster(SeasonalNaive(24)).fit(df, 24).predict(context=frame)
    assert np.array_equal(told["SeasonalNaive+context"], base["SeasonalNaive"])


def test_explaining_shows_text_effects_before_and_after(df):
    (shown,) = ContextForecaster(SeasonalNaive(24)).fit(df, 24, {"b": CLOSED}).explain_context()
    assert (shown.series, shown.text) == ("b", CLOSED)
    assert write_effects(shown.effects) == "set 0 from 2024-01-11 08:00 to 2024-01-11 14:00"
    changed = shown.forecast["before"] != shown.forecast["after"]
    assert shown.forecast.loc[changed, "ds"].dt.hour.tolist() == [8, 9, 10, 11, 12, 13]
    assert (shown.forecast.loc[changed, "after"] == 0).all()


def test_paths_have_the_quantiles_of_their_base(df):
    base = SeasonalNaive(24).fit(df, 24)
    paths = sample_paths(base, df, 24, None, 400, 0)["a"]
    wanted = base.predict(level=[80]).query("unique_id == 'a'")
    for column, q in (("lo", 0.1), ("hi", 0.9)):
        assert np.quantile(paths, q, axis=0) == pytest.approx(
            wanted[f"SeasonalNaive-{column}-80"].to_numpy(), abs=0.05
        )


def test_the_pool_is_a_forecaster(df):
    clean = df.assign(y=df["ds"].dt.hour.astype(float))
    out = PoolForecaster().fit(clean, 24).predict(level=[80])
    assert out["Pool"].tolist() == [*map(float, range(24))] * 2
    assert (out["Pool-lo-80"] <= out["Pool"]).all()


def test_texts_need_dates_and_a_horizon(df):
    counted = df.assign(ds=[*range(240)] * 2)
    with pytest.raises(FrameError, match="the data count their steps"):
        ContextForecaster(SeasonalNaive(24), freq=1).fit(counted, 24).predict(context="It is closed on Monday.")
    with pytest.raises(ValueError, match="has no history"):
        ContextForecaster(SeasonalNaive(24)).predict(context=CLOSED)
