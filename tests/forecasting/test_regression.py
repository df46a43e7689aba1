"""The regression of all steps: exact on what it can express, causal, and honest about what it reads."""

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from tsllm.data.task import ForecastTask
from tsllm.forecasting.model_spec import ModelSpec
from tsllm.forecasting.regression import StepRegression, _read_calendar
from tsllm.forecasting.roster import build_forecaster
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
    model, ahead = build().fit(df), df.iloc[-6:].assign(ds=lambda d: d[TIME] + pd.Timedelta("1D"))
    with pytest.raises(ValueError, match="give X_df"):
        model.predict(df)
    with pytest.raises(ValueError, match=r"level 99.9 lies outside the calibrated range .* windows"):
        model.predict(df, level=[99.9], X_df=ahead)
    gap = df.copy()
    gap.loc[7, TARGET] = np.nan
    with pytest.raises(ValueError, match="StepRegression needs complete series"):
        build().fit(gap)
    with pytest.raises(ValueError, match="was not fitted on the series 'b'"):
        model.update(df.assign(**{ID: "b"}))
    with pytest.raises(ValueError, match="was not fitted on the series 'b'"):
        model.predict_rolling(df.assign(**{ID: "b"}), 6, 1, 6)


def kernel_frame(days: int) -> pd.DataFrame:
    """Six steps a day; warmth raises the load in spring and lowers it in autumn, which no sum of the two can say."""
    rng = np.random.default_rng(3)
    times = pd.date_range("2024-01-01", periods=6 * days, freq="4h")
    warm, off = rng.normal(size=days).repeat(6), (rng.random(days) < 0.4).astype(float).repeat(6)
    y = 10 + 3 * warm * np.sin(2 * np.pi * times.dayofyear / 365.25) + 0.05 * rng.normal(size=6 * days)
    return pd.DataFrame({ID: "a", TIME: times, TARGET: y, "warm": warm, "off": off})


def test_a_kernel_finds_what_a_sum_of_features_cannot_and_its_weight_zero_is_the_ridge():
    df = kernel_frame(900)
    errors = []
    for kernel in (0.0, 100.0):
        model = StepRegression(6, 6, covariates=["warm", "off"], ridge=0.01, kernel=kernel, holiday="off")
        rolled = model.fit(df.iloc[: 6 * 840]).predict_rolling(df, 6, 60, 6)
        errors.append(np.abs(rolled["StepRegression"] - df[TARGET].to_numpy()[-360:]).mean())
    assert errors[1] < 0.3 * errors[0]


def test_kernel_fits_are_the_closed_form_in_the_space_of_features_and_kernel():
    """Gram matrix of centred features and centred kernel, written out; leave-one-out against fits without a window."""
    df = kernel_frame(60)
    model = StepRegression(6, 6, covariates=["warm"], ridge=0.05, kernel=20.0).fit(df)
    fit = model._fits["a"]
    x, kinds, count = fit.x, fit.kinds, len(fit.x)
    distance = ((kinds[:, None] - kinds[None]) ** 2).sum(-1)
    centring = np.eye(count) - 1 / count
    gram = x @ x.T + centring @ (20 * np.exp(-distance / (2 * 1.5 * kinds.shape[1]))) @ centring
    np.testing.assert_allclose(fit.gram, gram, atol=1e-9)
    penalty = 0.05 * count
    weights = np.linalg.solve(gram + penalty * np.eye(count), fit.target - fit.target.mean(0))
    np.testing.assert_allclose(fit.predict(fit.features), fit.target.mean(0) + gram @ weights, rtol=1e-7)
    for i in (0, 11):
        kept = np.arange(count) != i
        system = np.block([[gram[kept][:, kept] + penalty * np.eye(count - 1), np.ones((count - 1, 1))],
                           [np.ones((1, count - 1)), np.zeros((1, 1))]])  # fmt: skip
        solved = np.linalg.solve(system, np.concatenate([fit.target[kept], np.zeros((1, 6))]))
        left = gram[i, kept] @ solved[:-1] + solved[-1]
        np.testing.assert_allclose(fit.leave_one_out()[i], fit.target[i] - left, rtol=1e-6, atol=1e-9)


def test_the_clock_of_a_time_zone_decides_the_weekday_and_marks_daylight_saving():
    """Middles of windows in UTC: late on Friday is Saturday in Melbourne, and October has summer time there."""
    times = pd.Series(pd.to_datetime(["2014-07-04 15:00", "2014-10-10 15:00"]))  # both Fridays
    plain = _read_calendar(times, np.array([0, 1]), None)
    local = _read_calendar(times, np.array([0, 1]), "Australia/Melbourne")
    assert plain.columns[:, :7].argmax(1).tolist() == [4, 4]
    assert local.columns[:, :7].argmax(1).tolist() == [5, 5]
    assert (plain.working[:, 0].tolist(), local.working[:, 0].tolist()) == ([1.0, 1.0], [0.0, 0.0])
    assert local.columns[:, -1].tolist() == [0.0, 1.0]
    assert local.columns.shape[1] == plain.columns.shape[1] + 1


def test_options_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match=r"time_zone is 'Melbourne'; give a name of the tz database"):
        StepRegression(6, 42, time_zone="Melbourne")
    with pytest.raises(ValueError, match=r"holiday is 'off', which is none of the covariates \['warm'\]"):
        StepRegression(6, 42, covariates=["warm"], holiday="off")
    with pytest.raises(ValueError, match=r"kernel \(-1\) at least 0"):
        StepRegression(6, 42, kernel=-1)


def test_leave_one_out_errors_are_those_of_fits_without_the_window():
    """The same regression, unpenalised intercept and the penalty of the whole, solved anew without each window."""
    model = build().fit(make_frame(60))
    fit = model._fits["a"]
    x = fit._expand(fit.features) - fit.mean
    design = np.concatenate([np.ones((len(x), 1)), x], 1)
    penalty = fit.penalised - x.T @ x
    full = np.zeros((len(penalty) + 1,) * 2)
    full[1:, 1:] = penalty
    for i in (0, 7, len(x) - 1):
        kept = np.arange(len(x)) != i
        slopes = np.linalg.solve(design[kept].T @ design[kept] + full, design[kept].T @ fit.target[kept])
        np.testing.assert_allclose(fit.leave_one_out()[i], fit.target[i] - design[i] @ slopes, rtol=1e-6, atol=1e-9)


def test_intervals_are_quantiles_of_leave_one_out_errors_and_cover_later_days():
    df = make_frame(500)
    df[TARGET] += np.random.default_rng(1).normal(0, 0.5, len(df))
    model = StepRegression(6, 42, covariates=["warm"], ridge=0.1).fit(df.iloc[: 6 * 420])
    rolled = model.predict_rolling(df, 6, 80, 6, level=[80])
    low, high = rolled["StepRegression-lo-80"], rolled["StepRegression-hi-80"]
    errors = np.sort(np.abs(model._fits["a"].leave_one_out()), 0)  # [N, h]
    width = errors[int(np.ceil((len(errors) + 1) * 0.8)) - 1]
    np.testing.assert_allclose((high - low).to_numpy().reshape(-1, 6), 2 * np.tile(width, (80, 1)), rtol=1e-5)
    truth = df[TARGET].to_numpy()[-480:]
    assert 0.72 < ((truth >= low) & (truth <= high)).mean() < 0.92


def test_update_takes_a_new_history_and_keeps_the_coefficients():
    df = make_frame()
    model = build().fit(df.iloc[:600])
    before = model.predict_rolling(df, 6, 1, 6)["StepRegression"]
    after = model.update(df.iloc[:-6]).predict(X_df=df.iloc[-6:].drop(columns=TARGET))["StepRegression"]
    np.testing.assert_allclose(after, before, rtol=1e-12)


def test_the_roster_builds_it_by_name_with_the_longest_season_as_period():
    task = ForecastTask(h=24, freq="h", season=24, context_length=168, covariates=("load",), past_covariates=("wind",))
    model = build_forecaster(ModelSpec("StepRegression"), task)
    assert (model.h, model.period, model.covariates, model.past_covariates) == (24, 168, ["load"], ["wind"])
    assert build_forecaster(ModelSpec("StepRegression", covariates=False), task).covariates == []
    assert build_forecaster(ModelSpec("StepRegression", options={"ridge": 0.1, "period": 48}), task).period == 48
    monthly = build_forecaster(ModelSpec("StepRegression"), ForecastTask(h=18, freq=1, season=12, context_length=36))
    assert monthly.period == 24


def test_a_comparison_and_a_back_test_know_it_by_name(tmp_path):
    from tsllm.cli.main import app

    make_frame(100).drop(columns="warm").to_csv(tmp_path / "days.csv", index=False)
    command = ["backtest", str(tmp_path / "days.csv"), "--models", "SeasonalNaive,StepRegression", "--h", "6"]
    result = CliRunner().invoke(app, [*command, "--n-windows", "3", "--level", "80"])
    assert result.exit_code == 0, result.output
    assert "StepRegression" in result.output
    assert "failed:" not in result.output
