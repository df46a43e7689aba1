import sys

import numpy as np
import pandas as pd
import pytest

from tsllm.forecasting import lear
from tsllm.forecasting.base import Forecaster
from tsllm.forecasting.lear import LEAR, AsinhScaler, DayModel, Days, Lags, build_regressors, fit_lasso
from tsllm.types import FrameError

STEPS = 4  # of a day of six-hour steps


def frame(y, name="a", start="2024-01-01", freq="6h", **covariates):
    y = np.asarray(y, dtype=float).reshape(-1)
    times = pd.date_range(start, periods=len(y), freq=freq) if isinstance(freq, str) else np.arange(len(y)) * freq
    columns = {k: np.asarray(v, dtype=float).reshape(-1) for k, v in covariates.items()}
    return pd.DataFrame({"unique_id": name, "ds": times, "y": y, **columns})


def noisy_days(number=80, seed=0):
    rng = np.random.default_rng(seed)
    return 10 + np.array([0.0, 2.0, 5.0, 1.0]) + rng.normal(0, 1, (number, STEPS))


def split(df, h):
    return df.iloc[:-h], df.iloc[-h:].drop(columns="y")


def test_the_regressors_are_those_of_a_table_made_by_hand():
    # Two steps a day, one covariate; day 3 is forecast, its last step is not asked for.
    past = np.array([[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]])  # days 0, 1, 2
    covariates = np.array([[[10.0, 20.0], [30.0, 40.0], [50.0, 60.0], [70.0, 80.0]]])[..., None]
    made = build_regressors(past, covariates, Lags((1, 3), (2,)), steps=1)
    assert made.tolist() == [[5.0, 6.0, 1.0, 2.0, 70.0, 30.0, 40.0]]
    whole = build_regressors(past, covariates, Lags((2,), (1, 3)), steps=2)
    assert whole.tolist() == [[3.0, 4.0, 70.0, 80.0, 50.0, 60.0, 10.0, 20.0]]


def test_the_paper_has_247_regressors():
    # Section 4.2: 96 prices, 2 x 72 of two exogenous series, 7 dummies.
    made = build_regressors(np.zeros((1, 7, 24)), np.zeros((1, 8, 24, 2)), Lags((1, 2, 3, 7), (1, 7)), 24)
    assert made.shape[1] + lear.DAYS_A_WEEK == 247


def test_the_lasso_finds_the_weights_of_a_sparse_process():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 40))
    y = 1.5 + 2 * x[:, 3] - x[:, 17] + 0.1 * rng.normal(size=500)
    weights, intercept = fit_lasso(x, y)
    # The penalty pulls weights towards 0, by a few hundredths here.
    assert weights[[3, 17]] == pytest.approx([2, -1], abs=0.06)
    assert np.flatnonzero(np.abs(weights) > 0.02).tolist() == [3, 17]
    assert intercept == pytest.approx(1.5, abs=0.02)


def test_the_penalty_minimises_the_criterion_over_the_whole_path():
    from sklearn.linear_model import lars_path

    rng = np.random.default_rng(1)
    x = rng.normal(size=(300, 120))
    for noise in (0.1, 3.0):  # a short best path and a long one
        y = x[:, :90] @ rng.normal(size=90) + noise * rng.normal(size=300)
        centred, wanted = x - x.mean(0), y - y.mean()
        path = lars_path(centred, wanted, method="lasso")[2].T  # [points, F]
        error = ((wanted - path @ centred.T) ** 2).sum(1)
        best = np.argmin(error / y.var() + 2 * (path != 0).sum(1))
        assert fit_lasso(x, y)[0] == pytest.approx(path[best], abs=1e-8)


def test_columns_that_say_nothing_more_change_nothing():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(100, 5))
    y = x[:, 1] - x[:, 4] + 0.1 * rng.normal(size=100)
    plain, intercept = fit_lasso(x, y)
    weights, same = fit_lasso(np.column_stack([np.full(100, 3.0), x, x[:, 1]]), y)
    assert weights == pytest.approx([0.0, *plain, 0.0], abs=1e-12)
    assert same == pytest.approx(intercept, abs=1e-12)
    assert fit_lasso(x, np.full(100, 2.5)) == (pytest.approx(np.zeros(5)), 2.5)


def test_the_transformation_is_undone_and_knows_columns_without_spread():
    rng = np.random.default_rng(3)
    values = np.column_stack([rng.normal(5, 3, 50), np.full(50, 7.0), np.r_[1.0, np.zeros(49)]])
    scaler = AsinhScaler.fit(values)
    assert scaler.scale[1] == 1
    assert scaler.scale[2] == pytest.approx(values[:, 2].std())
    assert scaler.inverse(scaler.transform(values)) == pytest.approx(values, abs=1e-12)
    # One median absolute deviation above the median, in units of a standard deviation.
    assert AsinhScaler.fit(np.array([[0.0], [1.0], [2.0]])).transform(np.array([[2.0]]))[0, 0] == pytest.approx(
        np.arcsinh(0.6744897501960817)
    )


def test_it_recovers_a_process_that_depends_on_the_week_before_and_a_forecast_covariate():
    rng = np.random.default_rng(4)
    x = rng.normal(size=(200, STEPS))
    y = rng.normal(size=(200, STEPS))
    for day in range(7, 200):
        y[day] = 0.5 * y[day - 7] + x[day] + 0.02 * rng.normal(size=STEPS)
    df = frame(y, x=x)
    errors, errors_without = [], []
    for end in range(180 * STEPS, 200 * STEPS, STEPS):
        history, ahead = df.iloc[:end], df.iloc[end : end + STEPS]
        out = LEAR(covariates=["x"]).fit(history, h=STEPS).predict(X_df=ahead.drop(columns="y"))
        errors.append(out["LEAR"].to_numpy() - ahead["y"].to_numpy())
        errors_without.append(LEAR().predict(history, h=STEPS)["LEAR"].to_numpy() - ahead["y"].to_numpy())
    # asinh bends the straight line a little; without x its standard deviation of 1 stays.
    assert np.abs(errors).mean() < 0.2
    assert np.abs(errors_without).mean() > 0.6


def test_each_step_has_its_own_weekday():
    # Levels that the weekday alone knows; a cutoff at 06:00, so that the last step lies in the next day.
    times = pd.date_range("2024-01-01 06:00", periods=100 * STEPS, freq="6h")
    y = np.array([0.0, 3.0, 1.0, 8.0, 4.0, 12.0, 6.0])[times.dayofweek] + np.random.default_rng(5).normal(0, 0.05, 400)
    df = frame(y, start="2024-01-01 06:00")
    out = LEAR(lags=[1]).predict(df.iloc[:-STEPS], h=STEPS)
    assert out["LEAR"].to_numpy() == pytest.approx(y[-STEPS:], abs=0.6)
    assert times[-1].dayofweek != times[-2].dayofweek


def test_it_follows_scale_and_shift():
    df = frame(noisy_days())
    plain = LEAR().predict(df, h=6, level=[50])
    moved = LEAR().predict(df.assign(y=df["y"] * 1000 - 400), h=6, level=[50])
    columns = ["LEAR", "LEAR-lo-50", "LEAR-hi-50"]
    assert moved[columns].to_numpy() == pytest.approx(plain[columns].to_numpy() * 1000 - 400, rel=1e-5)


def test_days_ahead_read_the_days_that_were_forecast():
    y = noisy_days(60, seed=6)
    one_day = LEAR(lags=[1, 2]).predict(frame(y), h=STEPS)["LEAR"].to_numpy()
    three = LEAR(lags=[1, 2]).predict(frame(y), h=2 * STEPS + 1)["LEAR"].to_numpy()
    assert three[:STEPS] == pytest.approx(one_day, abs=1e-12)
    days = Days(y, np.zeros((63, STEPS, 0)), np.arange(63)[:, None].repeat(STEPS, 1) % 7)
    lags = Lags((1, 2), ())
    rows = np.arange(2, 60)
    table = np.concatenate([y[rows - 1], y[rows - 2]], axis=1)
    model = DayModel(table, y[rows], days.weekdays[rows])
    second = model.predict(np.concatenate([one_day, y[-1]])[None], days.weekdays[[61]])[0]
    assert three[STEPS : 2 * STEPS] == pytest.approx(second, abs=1e-9)
    third = model.predict(np.concatenate([second, one_day])[None], days.weekdays[[62]])[0]
    assert three[2 * STEPS :] == pytest.approx(third[:1], abs=1e-9)
    fits = lear.DayFits(days, lags, 60, {})
    assert lear._forecast_from(days, np.array([60]), 9, fits)[0] == pytest.approx(three, abs=1e-9)


def test_intervals_are_nested_and_cover_about_their_level():
    inside = []
    for seed in range(12):
        df = frame(noisy_days(120, seed))
        history, _ = split(df, 2 * STEPS)
        out = LEAR(lags=[1], calibration_days=40).predict(history, h=2 * STEPS, level=[50, 80])
        actual = df["y"].to_numpy()[-2 * STEPS :]
        low, high = out["LEAR-lo-80"].to_numpy(), out["LEAR-hi-80"].to_numpy()
        inside += ((low <= actual) & (actual <= high)).tolist()
        assert (low < out["LEAR-lo-50"]).all()
        assert (out["LEAR-hi-50"] < high).all()
    assert len(inside) == 96
    assert 0.7 <= np.mean(inside) <= 0.9  # 80 % nominal; one standard error is 4 points


def test_the_half_width_is_an_order_statistic_of_the_errors_of_the_last_days():
    y = noisy_days(70, seed=7)
    out = LEAR(lags=[1], calibration_days=9).predict(frame(y), h=STEPS, level=[90])
    days = Days(y, np.zeros((71, STEPS, 0)), np.arange(71)[:, None].repeat(STEPS, 1) % 7)
    fits = lear.DayFits(days, Lags((1,), ()), 61, {})
    made = lear._forecast_from(days, np.arange(61, 70), STEPS, fits)
    widest = np.abs(y[61:] - made).max(0)  # of nine errors the ninth covers nine of ten
    assert (out["LEAR-hi-90"] - out["LEAR"]).to_numpy() == pytest.approx(widest, rel=1e-6)
    # The future stays unknown to the fit: estimated on days 0 to 60 alone.
    changed = y.copy()
    changed[61:] += 100
    changed_days = days._replace(y=changed)
    fits = lear.DayFits(changed_days, Lags((1,), ()), 61, {})
    again = lear._forecast_from(changed_days, np.array([61]), STEPS, fits)
    assert again[0] == pytest.approx(made[0], abs=1e-12)


def test_rolling_forecasts_equal_single_ones_and_input_size_bounds_what_is_read():
    rng = np.random.default_rng(8)
    df = pd.concat([frame(noisy_days(50, k), f"s{k}", x=rng.normal(size=200)) for k in range(2)], ignore_index=True)
    model = LEAR(covariates=["x"], input_size=30 * STEPS)
    rolled = model.predict_rolling(df, h=3, n_windows=2, step_size=5)
    for back, ahead in ((8, 3), (3, 3)):
        history = df.groupby("unique_id").head(-back)
        future = df.groupby("unique_id").tail(back).groupby("unique_id").head(ahead).drop(columns="y")
        single = model.predict(history, X_df=future, h=3)
        cutoff = history["ds"].max()
        part = rolled[rolled["cutoff"] == cutoff].drop(columns="cutoff").reset_index(drop=True)
        pd.testing.assert_frame_equal(part, single)
    older = df.copy()
    older.loc[:19, "y"] += 50  # before the last 30 days of the first series
    pd.testing.assert_frame_equal(
        model.predict_rolling(older, h=3, n_windows=1, step_size=1).iloc[:3],
        model.predict_rolling(df, h=3, n_windows=1, step_size=1).iloc[:3],
    )


def test_estimated_once_it_reads_later_days_with_the_weights_of_before():
    df = frame(noisy_days(90))
    history, later = df.iloc[: -STEPS * 4], df.iloc[: -STEPS * 2]
    once = LEAR(refit=False).fit(history, h=2 * STEPS)
    first = once.predict(level=[80])
    pd.testing.assert_frame_equal(first, LEAR().predict(history, h=2 * STEPS, level=[80]))
    rolled = once.predict_rolling(df, h=2 * STEPS, n_windows=3, step_size=STEPS, level=[80])
    width = (rolled["LEAR-hi-80"] - rolled["LEAR-lo-80"]).to_numpy().reshape(3, 2 * STEPS)
    np.testing.assert_allclose(width, width[[0, 0, 0]], atol=1e-9)  # calibrated once
    # The weights are those of `fit`: forgetting all but the days that the lags read changes nothing.
    last = rolled["LEAR"].to_numpy()[-2 * STEPS :]
    np.testing.assert_allclose(once.predict(later.tail(STEPS * 25))["LEAR"].to_numpy(), last, rtol=1e-9)
    assert abs(LEAR().predict(later, h=2 * STEPS)["LEAR"].to_numpy() - last).max() > 1e-3
    assert once.refit_rule == "LEAR is estimated once, by fit, on all steps of each series."
    with pytest.raises(FrameError, match="series 'b' was not in the data of fit; LEAR has no parameters for it"):
        once.predict(df.assign(unique_id="b"))


def test_estimated_once_its_hours_stay_hours_at_cutoffs_within_a_day():
    df = frame(noisy_days(60))
    once = LEAR(refit=False).fit(df.iloc[: -STEPS * 4], h=STEPS)
    cutoff = len(df) - STEPS * 4 + 3
    made = once.predict(df.iloc[:cutoff], level=[80])["LEAR"].to_numpy()
    # The same as the weights of the last fit whose days begin at that time.
    earlier = LEAR(refit=False).fit(df.iloc[: cutoff - STEPS], h=STEPS)
    np.testing.assert_allclose(made, earlier.predict(df.iloc[:cutoff])["LEAR"].to_numpy(), rtol=1e-9)
    # The lags alone are read.
    needed = df.iloc[cutoff - 7 * STEPS : cutoff]
    np.testing.assert_allclose(once.predict(needed)["LEAR"].to_numpy(), made, rtol=1e-9)
    with pytest.raises(FrameError, match=r"has 6 whole days of .* LEAR reads up to 7 days before"):
        once.predict(needed.iloc[1:])
    with pytest.raises(ValueError, match=r"LEAR is estimated once, by fit: call fit\(df\) first"):
        LEAR(refit=False).predict(df, h=STEPS)


def test_daily_half_hourly_and_integer_time_have_days_too():
    rng = np.random.default_rng(9)
    y = np.tile([1.0, 2.0, 4.0, 3.0, 5.0, 9.0, 7.0], 20) + 0.01 * rng.normal(size=140)
    daily = LEAR().predict(frame(y, freq="D"), h=3)["LEAR"].to_numpy()
    assert daily == pytest.approx([1, 2, 4], abs=0.3)
    whole = LEAR(season=1).predict(frame(y, freq=1), h=3)["LEAR"].to_numpy()
    assert whole == pytest.approx([1, 2, 4], abs=0.3)
    assert lear.count_steps_a_day("15min") == 96
    assert lear.count_steps_a_day("MS") is None
    assert lear.find_weekdays(np.array([0, 5, 10, 70]), 2, 5).tolist() == [0, 0, 1, 0]


def test_bad_input_is_told():
    df = frame(noisy_days(30))
    broken = df.copy()
    broken.loc[5, "y"] = np.nan
    with pytest.raises(FrameError, match="series 'a': 'y' is missing at 2024-01-02 06:00:00"):
        LEAR().fit(broken)
    LEAR(input_size=112).fit(broken)  # it lies before the 28 days that are read
    with pytest.raises(FrameError, match=r"LEAR reads \['x'\]; give X_df"):
        LEAR(covariates=["x"]).predict(df.assign(x=1.0), h=2)
    with pytest.raises(
        FrameError, match="has 20 whole days of 4 steps to fit; LEAR with lags up to 7 days needs at least 21"
    ):
        LEAR().predict(df.iloc[:83], h=2)
    with pytest.raises(ValueError, match="a day is no whole number of steps of freq 'MS'"):
        LEAR().predict(frame(np.arange(40.0), freq="MS"), h=2)
    with pytest.raises(ValueError, match="integer time has no days; give season=24"):
        LEAR().predict(frame(np.arange(40.0), freq=1), h=2)
    with pytest.raises(ValueError, match="season is 24, but a day has 4 steps of freq '6h'"):
        LEAR(season=24).predict(df, h=2)
    with pytest.raises(ValueError, match="LEAR has 30 days and keeps 10 of them to calibrate intervals"):
        LEAR(calibration_days=10).predict(df, h=2, level=[80])
    with pytest.raises(ValueError, match="level 95 lies outside the calibrated range"):
        LEAR(lags=[1], calibration_days=12).predict(df, h=2, level=[95])
    with pytest.raises(ValueError, match="each of lags is 0"):
        LEAR(lags=[0])
    with pytest.raises(ValueError, match="lags names no day"):
        LEAR(lags=[])
    with pytest.raises(ValueError, match="has no history"):
        LEAR().predict(h=2)


def test_a_missing_package_is_an_import_error_that_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match=r"pip install 'tsllm\[opponents\]'"):
        LEAR()


def test_it_is_a_forecaster():
    assert isinstance(LEAR(alias="mine"), Forecaster)
    assert LEAR(alias="mine").alias == "mine"
