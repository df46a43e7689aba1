import warnings

import numpy as np
import pandas as pd
import pytest

from tsllm.data.frame import future_frame
from tsllm.evaluation.backtest import backtest, run_backtest
from tsllm.evaluation.evaluate import evaluate
from tsllm.forecasting.base import Forecaster
from tsllm.forecasting.naive import SeasonalNaive
from tsllm.forecasting.neural import NeuralForecaster
from tsllm.types import FrameError


def make_frame(n=120, series=("a", "b"), shorter=0):
    rng = np.random.default_rng(0)
    parts = []
    for k, name in enumerate(series):
        size = n - k * shorter
        y = 50.0 * (k + 1) + 5 * np.sin(np.arange(size) * 2 * np.pi / 24) + rng.normal(size=size)
        ds = pd.date_range("2024-01-01", periods=size, freq="h")
        parts.append(pd.DataFrame({"unique_id": name, "ds": ds, "y": y, "x": y * 2}))
    return pd.concat(parts, ignore_index=True)


class LastValue(Forecaster):
    """A plug-in forecaster without rolling forecasts, which remembers what it saw."""

    def __init__(self, alias="Last", fail_at=None):
        self.alias, self.fail_at, self.fits, self.seen = alias, fail_at, [], []

    def fit(self, df, h=None):
        self.fits.append(df["ds"].max())
        return self

    def predict(self, df=None, h=None, level=None, X_df=None):
        self.seen.append((df["ds"].max(), X_df["ds"].min(), "y" in X_df.columns, len(X_df)))
        if self.fail_at is not None and len(self.seen) == self.fail_at:
            raise ArithmeticError("no convergence")
        out = future_frame(df, h, "h")
        out[self.alias] = out["unique_id"].map(df.groupby("unique_id")["y"].last())
        return out


@pytest.mark.parametrize(("h", "n_windows", "step"), [(24, 3, 24), (6, 5, 1), (12, 4, 7)])
def test_seasonal_naive_equals_statsforecasts_cross_validation_exactly(h, n_windows, step):
    from statsforecast import StatsForecast
    from statsforecast.models import SeasonalNaive as Reference

    df = make_frame(shorter=11)
    ours = backtest(df, [SeasonalNaive(24)], h, n_windows, step, level=[80, 95])
    engine = StatsForecast(models=[Reference(24)], freq="h")
    reference = engine.cross_validation(
        df=df[["unique_id", "ds", "y"]], h=h, n_windows=n_windows, step_size=step, level=[80, 95]
    ).sort_values(["unique_id", "cutoff", "ds"], ignore_index=True)
    assert ours[["unique_id", "ds", "cutoff"]].equals(reference[["unique_id", "ds", "cutoff"]])
    np.testing.assert_array_equal(ours["y"], reference["y"])
    np.testing.assert_array_equal(ours["SeasonalNaive"], reference["SeasonalNaive"])
    for column in ("lo-80", "hi-80", "lo-95", "hi-95"):
        np.testing.assert_allclose(ours[f"SeasonalNaive-{column}"], reference[f"SeasonalNaive-{column}"], rtol=1e-12)


def test_columns_and_rows_follow_the_contract():
    out = backtest(make_frame(), [SeasonalNaive(24), LastValue()], 4, 3, 2)
    assert out.columns.tolist() == ["unique_id", "ds", "cutoff", "y", "SeasonalNaive", "Last"]
    assert len(out) == 2 * 3 * 4
    assert ((out["ds"] - out["cutoff"]) / pd.Timedelta("1h")).tolist() == [1, 2, 3, 4] * 6
    assert out["ds"].max() == make_frame()["ds"].max()


def test_plug_in_model_sees_only_the_past_and_covariates_of_the_future():
    df = make_frame()
    result = run_backtest(df, [LastValue()], 4, 3, 4)
    model = result.fitted["Last"]
    cutoffs = sorted(result.frame["cutoff"].unique())
    assert model.fits == [cutoffs[0]]
    for (last, first_future, has_target, rows), cutoff in zip(model.seen, cutoffs, strict=True):
        assert last == cutoff
        assert first_future == cutoff + pd.Timedelta("1h")
        assert not has_target
        assert rows == 8
    by_hand = df.set_index(["unique_id", "ds"])["y"]
    for row in result.frame.itertuples():
        assert row.Last == by_hand[row.unique_id, row.cutoff]


@pytest.mark.parametrize(("refit", "fits"), [(False, 1), (True, 4), (2, 2)])
def test_refit_fits_as_often_as_asked(refit, fits):
    result = run_backtest(make_frame(), [LastValue()], 4, 4, 4, refit=refit)
    assert len(result.fitted["Last"].fits) == fits
    assert len(set(result.fitted["Last"].fits)) == fits


def test_the_given_models_are_not_touched():
    model = LastValue()
    backtest(make_frame(), [model], 4, 2)
    assert model.fits == []


def test_a_failed_window_is_counted_and_shown_and_the_others_stay():
    with pytest.warns(UserWarning, match="Last failed in 2 of 6 windows .*no convergence"):
        result = run_backtest(make_frame(), [LastValue(fail_at=2), SeasonalNaive(24)], 4, 3, 4)
    assert result.count_failed("Last") == 2  # two series at one cutoff
    assert result.count_failed("SeasonalNaive") == 0
    (failure,) = result.failures
    assert (failure.model, failure.stage, failure.windows) == ("Last", "predict", 2)
    assert failure.cutoff == sorted(result.frame["cutoff"].unique())[1]
    lost = result.frame[result.frame["Last"].isna()]
    assert lost["cutoff"].unique().tolist() == [failure.cutoff]


def test_a_failed_fit_leaves_all_windows_empty_and_counted():
    class Broken(LastValue):
        def fit(self, df, h=None):
            raise MemoryError("too large")

    with pytest.warns(UserWarning, match="failed in 6 of 6"):
        out = backtest(make_frame(), [Broken("Broken"), SeasonalNaive(24)], 4, 3, 4)
    assert out["Broken"].isna().all()
    assert out.attrs["failures"][0]["error"] == "MemoryError: too large"
    with pytest.raises(RuntimeError, match=r"every model failed: Broken: MemoryError: too large"):
        backtest(make_frame(), [Broken("Broken")], 4, 3, 4)


def test_a_model_that_gives_too_few_rows_has_failed():
    class Short(LastValue):
        def predict(self, df=None, h=None, level=None, X_df=None):
            return super().predict(df, h, level, X_df).iloc[:-1]

    with pytest.warns(UserWarning, match="gave 7 rows, 8 were due"):
        backtest(make_frame(), [Short("Short"), SeasonalNaive(24)], 4, 2)


def test_a_point_forecaster_takes_part_where_intervals_are_asked_for():
    models = [LastValue(), SeasonalNaive(24)]
    with pytest.warns(UserWarning, match="Last gives no intervals; its bounds are NaN"):
        result = run_backtest(make_frame(), models, 4, 2, level=[80])
    assert result.failures == []
    assert result.frame[["Last-lo-80", "Last-hi-80"]].isna().all(axis=None)
    assert result.frame[["SeasonalNaive-lo-80", "SeasonalNaive-hi-80"]].notna().all(axis=None)
    table = evaluate(result.frame).set_index("model")
    assert table.loc["Last", ["wql", "coverage-80"]].isna().all()
    assert table.loc["Last", "mae"] == (result.frame["y"] - result.frame["Last"]).abs().mean()
    assert table.loc["SeasonalNaive", ["wql", "coverage-80"]].notna().all()


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda out: out.rename(columns={"Own": "Others"}), "which lack 'Own'; a forecast is named by its alias"),
        (lambda out: out.assign(**{"Own-lo-80": 0.0}), "which lack 'Own-hi-80'"),
        (lambda out: out.assign(ds=out["ds"].astype(str)), "merge"),
        (lambda out: pd.concat([out.iloc[:1], out.iloc[:-1]]), "not unique"),
        (lambda out: out.assign(Own="high", **{"Own-lo-80": 0.0, "Own-hi-80": 1.0}), "could not convert string"),
    ],
)
def test_a_forecast_of_another_form_is_a_counted_failure_and_costs_no_other_model(change, error):
    class Own(LastValue):
        def predict(self, df=None, h=None, level=None, X_df=None):
            return change(super().predict(df, h, None, X_df))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = run_backtest(make_frame(), [Own("Own"), SeasonalNaive(24)], 4, 2, level=[80])
    assert [failure.windows for failure in result.failures] == [2, 2]
    assert all(error in failure.error for failure in result.failures)
    assert result.frame["Own"].isna().all()
    assert result.count_failed("SeasonalNaive") == 0


def test_neural_model_rolling_frozen_equals_window_by_window():
    df = make_frame()
    options = {"context_length": 12, "moving_average": 5, "training": {"max_steps": 5, "eval_steps": 5}}
    with warnings.catch_warnings():
        warnings.simplefilter("error", category=UserWarning)
        result = run_backtest(df, [NeuralForecaster("dlinear", 4, **options)], 4, 3, 4, level=[50])
    model = result.fitted["DLinear"]
    for k, (cutoff, part) in enumerate(result.frame.groupby("cutoff")):
        alone = model.predict(df[df["ds"] <= cutoff], level=[50])
        np.testing.assert_allclose(part["DLinear"], alone["DLinear"], rtol=1e-6, err_msg=str(k))
        np.testing.assert_allclose(part["DLinear-lo-50"], alone["DLinear-lo-50"], rtol=1e-6)
    cost = result.costs["DLinear"]
    assert cost.trained_parameters == 2 * (12 * 4 + 4)
    assert cost.windows == 6


def test_two_models_of_one_name_and_short_series_are_errors():
    with pytest.raises(ValueError, match="two models have the alias 'SeasonalNaive'"):
        backtest(make_frame(), [SeasonalNaive(24), SeasonalNaive(12)], 4)
    with pytest.raises(FrameError, match="'b' has 20 steps; 4 windows of 5 steps, 5 apart, need more than 20"):
        backtest(make_frame(n=120, shorter=100), [SeasonalNaive(1)], 5, 4)


def test_integer_time_works():
    df = make_frame()
    df["ds"] = df.groupby("unique_id").cumcount() + 1
    out = backtest(df, [SeasonalNaive(24)], 3, 2)
    assert out["cutoff"].unique().tolist() == [114, 117]
    assert out["ds"].max() == 120


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_forecast_that_is_not_finite_is_a_counted_failure(value):
    class Hollow(LastValue):
        def predict(self, df=None, h=None, level=None, X_df=None):
            out = super().predict(df, h, level, X_df)
            return out.assign(**{self.alias: out[self.alias].where(out["unique_id"] != "a", value)})

    with pytest.warns(UserWarning, match=r"Hollow failed in 3 of 6 windows .*missing or not finite in 3 windows"):
        result = run_backtest(make_frame(), [Hollow("Hollow"), SeasonalNaive(24)], 4, 3, 4)
    (failure,) = result.failures
    assert (failure.model, failure.stage, failure.windows) == ("Hollow", "predict", 3)
    assert result.count_failed("Hollow") == 3


def test_all_models_failing_is_told_with_each_reason():
    class Broken(Forecaster):
        _alias = "Broken"

        def fit(self, df, h=None):
            raise RuntimeError("it cannot")

    class Empty(LastValue):
        def predict(self, df=None, h=None, level=None, X_df=None):
            return super().predict(df, h, level, X_df).assign(Empty=np.nan)

    with pytest.raises(
        RuntimeError, match=r"every model failed: Broken: RuntimeError: it cannot; Empty: .*not finite"
    ):
        backtest(make_frame(), [Broken(), Empty("Empty")], 4, 2)


@pytest.mark.parametrize(
    ("models", "options", "told"),
    [
        ([], {}, "models is empty"),
        (SeasonalNaive(24), {}, "models is one forecaster, SeasonalNaive; give a list"),
        (["Nave"], {}, "unknown model 'Nave'; did you mean Naive"),
        ([SeasonalNaive], {}, "is no forecaster; give built ones"),
        ([SeasonalNaive(24)], {"level": 80}, "level is 80; give a list"),
        ([SeasonalNaive(24)], {"level": "80"}, "level is '80'; give a list"),
        ([SeasonalNaive(24)], {"level": [None]}, "level holds None"),
        ([SeasonalNaive(24)], {"level": [0.8]}, "write 80 for 0.8"),
        ([SeasonalNaive(24)], {"refit": 0}, "refit is 0"),
        ([SeasonalNaive(24)], {"refit": "x"}, "refit is 'x'"),
        ([SeasonalNaive(24)], {"refit": 2.5}, "refit is 2.5"),
    ],
)
def test_what_makes_no_sense_is_told_before_anything_runs(models, options, told):
    with pytest.raises(ValueError, match=told):
        backtest(make_frame(), models, 4, 2, **options)
