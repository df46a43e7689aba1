"""The regression of all steps: exact on what it can express, causal, and honest about what it reads."""

import numpy as np
import pandas as pd
import pytest

from tsllm.forecasting.regression import StepRegression
from tsllm.types import CUTOFF, ID, TARGET, TIME


def make_frame(days: int = 120) -> pd.DataFrame:
    """Six steps a day, a weekly pattern, a covariate that bends, in 4 h steps."""
    rng = np.random.default_rng(0)
    times = pd.date_range("2024-01-01", periods=6 * days, freq="4h")
    warm = rng.normal(size=days).repeat(6)
    y = np.sin(np.arange(6 * days) * 2 * np.pi / 6) + (times.dayofweek < 5) * 2.0 + warm**2
    return pd.DataFrame({ID: "a", TIME: times, TARGET: y, "warm": warm})


def build(**options) -> StepRegression:
    return StepRegression(6, 42, covariates=["warm"], ridge=1e-4, **options)


def test_a_bent_covariate_and_a_weekly_pattern_are_found():
    df = make_frame()
    rolled = build().fit(df.iloc[: 6 * 100]).predict_rolling(df, 6, 20, 6)
    truth = df[TARGET].to_numpy()[-120:]
    assert np.abs(rolled["StepRegression"] - truth).mean() < 0.05 * truth.std()


def test_predict_and_predict_rolling_agree():
    df = make_frame()
    model = build().fit(df.iloc[: 6 * 100])
    rolled = model.predict_rolling(df, 6, 3, 6)
    history, future = df.iloc[:-12], df.iloc[-12:-6]
    single = model.predict(history, X_df=future.drop(columns=TARGET))
    part = rolled[rolled[CUTOFF] == history[TIME].iloc[-1]]
    np.testing.assert_allclose(single["StepRegression"], part["StepRegression"], rtol=1e-12)
    assert single[TIME].tolist() == part[TIME].tolist() == future[TIME].tolist()


def test_what_comes_after_the_cutoff_is_not_read():
    df = make_frame()
    model = build().fit(df.iloc[: 6 * 100])
    changed = df.copy()
    changed.loc[changed.index[-6:], TARGET] += 100
    before, after = (model.predict_rolling(d, 6, 1, 6)["StepRegression"] for d in (df, changed))
    np.testing.assert_array_equal(before, after)


def test_scale_and_shift_of_the_series_pass_through():
    df = make_frame()
    small = build().fit(df.iloc[:600]).predict_rolling(df, 6, 5, 6)["StepRegression"]
    large = df.assign(**{TARGET: 1000 * df[TARGET] + 7})
    np.testing.assert_allclose(
        build().fit(large.iloc[:600]).predict_rolling(large, 6, 5, 6)["StepRegression"], 1000 * small + 7, rtol=1e-8
    )


def test_short_series_missing_covariates_and_other_horizons_are_refused():
    df = make_frame()
    with pytest.raises(ValueError, match="it needs 10"):
        build().fit(df.iloc[:60])
    with pytest.raises(ValueError, match="built for h=6"):
        build().fit(df, 12)
    model = build().fit(df)
    with pytest.raises(ValueError, match="give X_df"):
        model.predict(df)
    with pytest.raises(ValueError, match="no intervals"):
        model.predict(df, level=[80])
    with pytest.raises(ValueError, match="was not fitted on the series 'b'"):
        model.predict_rolling(df.assign(**{ID: "b"}), 6, 1, 6)
