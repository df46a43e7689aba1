import sys
import types

import numpy as np
import pandas as pd
import pytest
from statsforecast import StatsForecast
from statsforecast import models as sf
from statsforecast.utils import ConformalIntervals

from tsllm.data.frame import future_frame
from tsllm.data.task import ForecastTask
from tsllm.forecasting.base import Forecaster
from tsllm.forecasting.checks import check_forecaster
from tsllm.forecasting.model_spec import ModelSpec
from tsllm.forecasting.roster import build_forecaster
from tsllm.forecasting.statistical import DEFAULT_MODELS, NixtlaNeuralForecaster, StatisticalForecaster
from tsllm.types import FrameError


def panel(lengths=(60, 48), freq="MS", seed=0):
    rng = np.random.default_rng(seed)
    parts = []
    for k, n in enumerate(lengths):
        times = pd.date_range("2015-01-01", periods=n, freq=freq) if isinstance(freq, str) else np.arange(n)
        y = 50 + np.arange(n) * 0.3 + 8 * np.sin(2 * np.pi * np.arange(n) / 12) + rng.normal(0, 1, n)
        parts.append(pd.DataFrame({"unique_id": f"s{k}", "ds": times, "y": y}))
    return pd.concat(parts, ignore_index=True)


def test_the_default_models_are_those_that_are_cheap():
    assert DEFAULT_MODELS == ("AutoETS", "DynamicOptimizedTheta")


@pytest.mark.parametrize("name", [*DEFAULT_MODELS, "HistoricAverage"])
@pytest.mark.parametrize("freq", ["MS", 1])
def test_forecasts_equal_those_of_statsforecast(name, freq):
    df = panel(freq=freq)
    model = getattr(sf, name)
    plain = model() if name == "HistoricAverage" else model(season_length=12)
    expected = StatsForecast([plain], freq=freq).forecast(df=df, h=7, level=[80, 95])
    got = StatisticalForecaster(name, season=12).fit(df, h=7).predict(level=[95, 80.0])
    assert list(got.columns) == [
        "unique_id",
        "ds",
        name,
        f"{name}-lo-95",
        f"{name}-hi-95",
        f"{name}-lo-80",
        f"{name}-hi-80",
    ]
    pd.testing.assert_frame_equal(got, expected[got.columns])


def test_rolling_forecasts_equal_single_ones_at_each_cutoff():
    df = panel()
    model = StatisticalForecaster("SeasonalExponentialSmoothingOptimized", season=12, alias="SES")
    rolled = model.predict_rolling(df, h=4, n_windows=3, step_size=2)
    for back in (8, 6, 4):
        history = df.groupby("unique_id").head(-back)
        single = model.predict(history, h=4)
        cutoffs = history.groupby("unique_id")["ds"].last()
        part = rolled[rolled["cutoff"] == rolled["unique_id"].map(cutoffs)].reset_index(drop=True)
        pd.testing.assert_frame_equal(part[["unique_id", "ds", "SES"]], single)
    assert len(rolled) == 2 * 3 * 4


def test_input_size_bounds_what_a_fit_sees():
    df = panel()
    short = StatisticalForecaster("HistoricAverage", input_size=10).predict(df, h=1)
    expected = df.groupby("unique_id").tail(10).groupby("unique_id")["y"].mean()
    assert short["HistoricAverage"].to_numpy() == pytest.approx(expected.to_numpy())
    rolled = StatisticalForecaster("HistoricAverage", input_size=10).predict_rolling(df, h=1, n_windows=2, step_size=1)
    last = df[df["unique_id"] == "s0"]["y"].to_numpy()
    assert rolled["HistoricAverage"].iloc[0] == pytest.approx(last[-12:-2].mean())


def test_regressors_reach_the_model():
    rng = np.random.default_rng(0)
    x = rng.normal(size=64)
    df = pd.DataFrame({"unique_id": "a", "ds": range(64), "y": 5 * x + 0.01 * rng.normal(size=64), "x": x})
    model = StatisticalForecaster(
        "AutoARIMA", covariates=["x"], options={"max_p": 1, "max_q": 0, "max_d": 0, "max_order": 1}
    )
    out = model.fit(df[:60], h=4).predict(X_df=df[60:].drop(columns="y"))
    assert out["AutoARIMA"].to_numpy() == pytest.approx(5 * x[60:], abs=0.1)
    with pytest.raises(FrameError, match=r"AutoARIMA reads \['x'\]; give X_df"):
        model.predict()


def test_unknown_models_and_options_are_told_at_once():
    with pytest.raises(ValueError, match="statsforecast has no model 'AutoETSS'; did you mean AutoETS"):
        StatisticalForecaster("AutoETSS")
    with pytest.raises(ValueError, match="AutoETS has no option 'seasonality'"):
        StatisticalForecaster("AutoETS", options={"seasonality": 12})
    with pytest.raises(ValueError, match="input_size is 1"):
        StatisticalForecaster("AutoETS", input_size=1)


def test_missing_values_missing_intervals_and_short_series_are_told():
    df = panel()
    df.loc[5, "y"] = np.nan
    with pytest.raises(FrameError, match="series 's0': 'y' is missing at 2015-06-01"):
        StatisticalForecaster("AutoETS", season=12).fit(df, h=3)
    with pytest.raises(FrameError, match="series 's1' has 48 steps; 20 windows of 12 steps, 12 apart"):
        StatisticalForecaster("AutoETS", season=12).predict_rolling(panel(), h=12, n_windows=20, step_size=12)
    with pytest.raises(FloatingPointError, match="non-finite value for series 's0'"):
        StatisticalForecaster("NaNModel").predict(panel(), h=2)
    with pytest.raises(ValueError, match="has no history"):
        StatisticalForecaster("AutoETS").predict(h=2)


@pytest.mark.parametrize("harmonics", [None, {12: 2}])
def test_a_value_that_no_fit_reads_may_be_missing(harmonics):
    df = panel(lengths=(80, 80))
    holed = df.copy()
    holed.loc[19, "y"] = np.nan  # 80 - 20 = 60 steps from the end: outside 48 + 4 + 2 * 4 = 60
    model = StatisticalForecaster(
        "ARIMA", input_size=48, harmonics=harmonics, options={"order": (1, 0, 0)}, alias="AR", freq="MS"
    )
    windows = {"h": 4, "n_windows": 3, "step_size": 4}
    pd.testing.assert_frame_equal(model.predict_rolling(holed, **windows), model.predict_rolling(df, **windows))
    pd.testing.assert_frame_equal(model.predict(holed, h=4), model.predict(df, h=4))
    holed.loc[20, "y"] = np.nan
    with pytest.raises(FrameError, match=r"missing at .*1 among the steps that are read"):
        model.predict_rolling(holed, **windows)
    model.predict(holed, h=4)  # one cutoff, at the end


def test_a_model_without_intervals_takes_conformal_ones():
    options = {"window_size": 3}
    with pytest.raises(ValueError, match="WindowAverage has no intervals of its own"):
        StatisticalForecaster("WindowAverage", options=options).predict(panel(), h=2, level=[80])
    conformal = options | {"prediction_intervals": ConformalIntervals(n_windows=3, h=2)}
    out = StatisticalForecaster("WindowAverage", options=conformal).predict(panel(), h=2, level=[80])
    assert (out["WindowAverage-lo-80"] < out["WindowAverage"]).all()


def test_a_missing_package_is_an_import_error_that_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "statsforecast", None)
    with pytest.raises(ImportError, match="pip install statsforecast"):
        StatisticalForecaster("AutoETS")


def test_neuralforecast_is_optional_and_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "neuralforecast", None)
    with pytest.raises(ImportError, match=r"NHITS needs neuralforecast.*pip install neuralforecast"):
        NixtlaNeuralForecaster("NHITS", h=2, input_size=4)


class FakeNet:
    """A model as neuralforecast has them: what it does not know itself goes to the trainer."""

    def __init__(
        self,
        h,
        input_size,
        max_steps=9,
        hidden_size=9,
        alias=None,
        random_seed=1,
        scaler_type="",
        val_check_steps=9,
        early_stop_patience_steps=-1,
        **trainer_kwargs,
    ):
        self.given = {"h": h, **trainer_kwargs}


class FakeTrainer:
    def __init__(self, *, accelerator="auto", gradient_clip_val=None):
        self.given = accelerator, gradient_clip_val


@pytest.fixture
def engine(monkeypatch):
    """The two packages behind a neuralforecast model, as far as building one goes."""
    models = types.ModuleType("neuralforecast.models")
    models.FakeNet, models.__all__ = FakeNet, ["FakeNet"]
    package, lightning = types.ModuleType("neuralforecast"), types.ModuleType("pytorch_lightning")
    package.models, lightning.Trainer = models, FakeTrainer
    for module in (package, models, lightning):
        monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"max_stepz": 3}, "FakeNet has no option 'max_stepz'; did you mean max_steps?"),
        ({"hiden_size": 3}, "did you mean hidden_size?"),
        ({"gradient_clip": 3}, "did you mean gradient_clip_val?"),
        ({"zzz": 3}, "it takes accelerator, early_stop_patience_steps, gradient_clip_val, hidden_size, max_steps"),
        ({"h": 9}, "FakeNet: h is no option here"),
        ({"futr_exog_list": []}, "the data and the entry decide it"),
    ],
)
def test_a_misspelt_option_of_a_neuralforecast_model_is_told_before_the_first_step(engine, options, told):
    spec = ModelSpec("neuralforecast:FakeNet", options={"max_steps": 2} | options)
    with pytest.raises(ValueError, match="FakeNet") as caught:
        check_forecaster(spec, ForecastTask(2, "h", 4, 24))
    assert told in str(caught.value)


def test_options_of_the_model_and_of_its_trainer_are_taken(engine):
    options = {"hidden_size": 8, "accelerator": "cpu", "gradient_clip_val": 1.0}
    model = NixtlaNeuralForecaster("FakeNet", h=2, input_size=4, options=options)
    assert model.options == options


def test_a_neuralforecast_model_trains_once_and_forecasts_any_history():
    pytest.importorskip("neuralforecast", reason="neuralforecast is optional")
    df = panel()
    options = {"max_steps": 3, "hidden_size": 8, "random_seed": 1}
    model = NixtlaNeuralForecaster("MLP", h=3, input_size=6, level=[80, 97.5], options=options).fit(df)
    out = model.predict(level=[80, 97.5])
    names = ["MLP-lo-97.5", "MLP-lo-80", "MLP", "MLP-hi-80", "MLP-hi-97.5"]
    assert (np.diff(out[names].to_numpy(), axis=1) >= 0).all()
    assert out["ds"].tolist() == future_frame(df, 3)["ds"].tolist()
    pd.testing.assert_frame_equal(
        model.predict(df, h=2), out.groupby("unique_id").head(2)[["unique_id", "ds", "MLP"]].reset_index(drop=True)
    )
    earlier = df.groupby("unique_id").head(30)
    assert model.predict(earlier)["ds"].tolist() == future_frame(earlier, 3)["ds"].tolist()
    assert isinstance(model, Forecaster)
    with pytest.raises(ValueError, match="was not trained for level 90"):
        model.predict(level=[90])
    with pytest.raises(ValueError, match="h is 9, but MLP forecasts 1 to 3 steps"):
        model.predict(h=9)
    with pytest.raises(ValueError, match="neuralforecast has no model 'MLPP'; did you mean MLP"):
        NixtlaNeuralForecaster("MLPP", h=3, input_size=6)


def test_a_neuralforecast_model_logs_its_losses_keeps_a_time_limit_and_is_saved(tmp_path):
    pytest.importorskip("neuralforecast", reason="neuralforecast is optional")
    options = {"max_steps": 20, "val_check_steps": 10, "hidden_size": 8}
    model = NixtlaNeuralForecaster("MLP", h=3, input_size=6, val_size=None, options=options)
    assert model.model is None
    with pytest.raises(ValueError, match="MLP is not trained"):
        model.save_pretrained(tmp_path)
    model.fit(panel())
    assert [e["step"] for e in model.log if "eval_loss" in e] == [0, 10, 20]
    assert len([e for e in model.log if "loss" in e]) == 20
    assert model.seconds > 0
    model.save_pretrained(tmp_path / "model")
    assert [p.suffix for p in sorted((tmp_path / "model").iterdir())] == [".safetensors", ".json"]
    limited = NixtlaNeuralForecaster("MLP", h=3, input_size=6, max_seconds=0.5, options=options | {"max_steps": 10**6})
    limited.fit(panel())
    assert 0 < limited.log[-1]["step"] < 10**6


def hours(days=30, seed=0, name="a"):
    """Hourly values with a day and a week: level 10 at weekends, 20 else, and a wave over the day."""
    times = pd.date_range("2024-01-01", periods=24 * days, freq="h")
    y = np.where(times.dayofweek >= 5, 10.0, 20.0) + 3 * np.sin(2 * np.pi * times.hour / 24)
    y = y + np.random.default_rng(seed).normal(0, 0.1, len(times))
    return pd.DataFrame({"unique_id": name, "ds": times, "y": y})


def test_mstl_knows_the_day_and_the_week_of_hours_without_being_told():
    df = hours()  # ends with a Tuesday
    history, ahead = df.iloc[: -24 * 3], df.iloc[-24 * 3 :]  # the last day that is seen is a Saturday
    assert history["ds"].iloc[-1].dayofweek == 5
    alone = StatisticalForecaster("MSTL")
    named = StatisticalForecaster("MSTL", season=[168, 24], freq="h")
    day = StatisticalForecaster("MSTL", season=24)
    expected = StatsForecast([sf.MSTL([24, 168])], freq="h").forecast(df=history, h=72, level=[80])
    for model in (alone, named):
        out = model.predict(history, h=72, level=[80])
        pd.testing.assert_frame_equal(out, expected[out.columns])
    errors = [np.abs(m.predict(history, h=72)["MSTL"].to_numpy() - ahead["y"].to_numpy()) for m in (alone, day)]
    assert errors[0][24:].mean() < 1  # Monday and Tuesday after the weekend
    assert errors[1][24:].mean() > 5


def test_input_size_bounds_what_mstl_sees_at_each_cutoff():
    df = hours(days=32)
    model = StatisticalForecaster("MSTL", input_size=24 * 21)
    rolled = model.predict_rolling(df, h=24, n_windows=2, step_size=24)
    earlier = df.copy()
    earlier.loc[: 24 * 9 - 1, "y"] = 1000.0  # 21 days before the first of the two cutoffs
    pd.testing.assert_frame_equal(model.predict_rolling(earlier, h=24, n_windows=2, step_size=24), rolled)
    assert model.refit_rule == "MSTL is estimated anew at each cutoff, on the last 504 steps of each series."
    assert "on all steps of" in StatisticalForecaster("MSTL").refit_rule


@pytest.mark.parametrize("model", ["AutoETS", "DynamicOptimizedTheta", "MSTL"])
def test_a_model_estimated_once_keeps_its_parameters_and_reads_later_histories(model):
    df = hours(days=24)
    season = {} if model == "MSTL" else {"season": 24}
    history, size = df.iloc[: -24 * 3], 24 * 15
    once = StatisticalForecaster(model, refit=False, input_size=size, **season).fit(history, h=24)
    anew = StatisticalForecaster(model, input_size=size, **season)
    # On the data of fit both are the same; later, one is the library's forward pass with the parameters of before,
    # from the step where the states of `fit` begin.
    first = once.predict(level=[80])
    pd.testing.assert_frame_equal(first, anew.predict(history, h=24, level=[80]), rtol=1e-6)
    rolled = once.predict_rolling(df, h=24, n_windows=3, step_size=24, level=[80])
    pd.testing.assert_frame_equal(rolled.iloc[:24].drop(columns="cutoff"), first, rtol=1e-6)
    values = df["y"].to_numpy()
    estimated = once._build([24, 168] if model == "MSTL" else 24).fit(history["y"].to_numpy()[-size:])
    expected = estimated.forward(values[-24 * 3 - size : -24], 24)["mean"]
    np.testing.assert_allclose(rolled[model].to_numpy()[48:], expected, rtol=1e-6)
    # Later values change later forecasts, but no parameter.
    jump = df.assign(y=np.where(np.arange(len(df)) >= len(history), values + 50, values))
    again = once.predict_rolling(jump, h=24, n_windows=3, step_size=24)
    assert abs(again[model].to_numpy()[24:] - rolled[model].to_numpy()[24:]).mean() > 2
    pd.testing.assert_frame_equal(once.predict(history, level=[80]), first)
    assert once.refit_rule == f"{model} is estimated once, by fit, on the last 360 steps of each series."


def test_states_of_a_model_estimated_once_stay_with_their_steps_whatever_the_cutoff():
    rng = np.random.default_rng(0)
    steps = np.arange(24 * 12)
    y = 10 + 5 * np.sin(2 * np.pi * steps / 24) + 0.1 * rng.normal(size=len(steps))
    df = pd.DataFrame({"unique_id": "a", "ds": pd.date_range("2024", periods=len(y), freq="h"), "y": y})
    once = StatisticalForecaster("AutoETS", season=24, refit=False, input_size=24 * 6, options={"model": "ANA"})
    once.fit(df.iloc[:200], h=24)
    for cutoff in (200, 206, 217):  # not whole days apart: the seasons must not be turned
        made = once.predict(df.iloc[:cutoff])["AutoETS"].to_numpy()
        assert abs(made - y[cutoff : cutoff + 24]).mean() < 0.2
        whole = once.predict(df.iloc[200 - 24 * 6 : cutoff])["AutoETS"].to_numpy()
        np.testing.assert_allclose(whole, made, rtol=1e-9)  # what lies before is not read
    with pytest.raises(
        FrameError, match=r"runs from 2024-01-03 09:00:00 to .* estimated from 2024-01-03 08:00:00 on, "
    ):
        once.predict(df.iloc[200 - 24 * 6 + 1 : 210])
    holey = df.assign(y=df["y"].where(df.index != 60))
    with pytest.raises(
        FrameError, match=r"'y' is missing at 2024-01-03 12:00:00, and AutoETS runs over every step from"
    ):
        once.predict(holey)


def test_estimates_of_other_data_are_not_used_in_silence():
    df = hours(days=10)
    once = StatisticalForecaster("Naive", refit=False)
    with pytest.raises(ValueError, match=r"Naive is estimated once, by fit: call fit\(df\) first"):
        once.predict(df, h=2)
    with pytest.raises(ValueError, match=r"Naive is estimated once, by fit: call fit\(df\) first"):
        once.update(df).predict(h=2)
    once.fit(df, h=2)
    days = df.assign(ds=pd.date_range("2024", periods=len(df), freq="D"))
    with pytest.raises(FrameError, match="Naive was fitted on data of freq 'h', not 'D'"):
        once.predict(days)
    with pytest.raises(ValueError, match="Naive was fitted on another scale"):
        once.scale_target("asinh").predict(df)
    for wrong in (0, 45, "false", None):
        with pytest.raises(ValueError, match=r"it must be True .* or False"):
            StatisticalForecaster("Naive", refit=wrong)
    with pytest.raises(ValueError, match="prediction_intervals are estimated anew with each forecast"):
        StatisticalForecaster("AutoETS", refit=False, options={"prediction_intervals": object()})


def test_a_fit_that_fails_keeps_history_and_parameters_of_before():
    df = hours(days=16)
    once = StatisticalForecaster("MSTL", refit=False).fit(df, h=3)
    before = once.predict()
    with pytest.raises(FrameError, match="needs at least 336"):
        once.fit(df.iloc[:100], h=2)
    pd.testing.assert_frame_equal(once.predict(), before)


@pytest.mark.parametrize("scale", [{"transform": "log1p"}, {"non_negative": True, "integer": True}])
def test_a_model_estimated_once_keeps_the_scale_of_its_target(scale):
    df = hours(days=10).assign(y=lambda d: d["y"].abs().round())
    once = StatisticalForecaster("HoltWinters", season=24, refit=False, **scale).fit(df.iloc[:-24], h=5)
    anew = StatisticalForecaster("HoltWinters", season=24, **scale).fit(df.iloc[:-24], h=5)
    pd.testing.assert_frame_equal(once.predict(level=[80]), anew.predict(level=[80]), rtol=1e-6)
    rolled = once.predict_rolling(df, 5, 2, 7, level=[80])
    single = once.predict(df.iloc[:-5], level=[80])
    pd.testing.assert_frame_equal(rolled.iloc[5:].drop(columns="cutoff").reset_index(drop=True), single)


def test_what_cannot_be_estimated_once_is_told():
    with pytest.raises(ValueError, match="CrostonClassic cannot run its parameters over another history; leave refit"):
        StatisticalForecaster("CrostonClassic", refit=False)
    with pytest.raises(ValueError, match="AutoARIMA reads regressors, so it is estimated at each cutoff"):
        StatisticalForecaster("AutoARIMA", refit=False, harmonics={24: 2})
    once = StatisticalForecaster("Naive", refit=False).fit(hours(days=8), h=2)
    with pytest.raises(FrameError, match="series 'new' was not in the data of fit; Naive has no parameters for it"):
        once.predict(hours(days=8, name="new"))


def test_seasons_that_do_not_fit_are_told():
    with pytest.raises(ValueError, match=r"AutoETS has one season, season is \[24, 168\]"):
        StatisticalForecaster("AutoETS", season=[24, 168])
    with pytest.raises(ValueError, match="season is 1; MSTL needs seasons of at least 2 steps"):
        StatisticalForecaster("MSTL", season=[1, 24])
    with pytest.raises(ValueError, match=r"season is \[24, 24\]; name each season once"):
        StatisticalForecaster("MSTL", season=[24, 24])
    with pytest.raises(ValueError, match=r"season is \[\]; name each season once, and at least one"):
        StatisticalForecaster("MSTL", season=[])
    with pytest.raises(ValueError, match="season is 0"):
        StatisticalForecaster("AutoETS", season=0)
    with pytest.raises(ValueError, match="MSTL needs a season, and freq 1 has no customary one"):
        StatisticalForecaster("MSTL").predict(panel(freq=1), h=2)
    with pytest.raises(
        FrameError, match="'a' gives MSTL 240 steps to fit; with a season of 168 it needs at least 336"
    ):
        StatisticalForecaster("MSTL").predict(hours(days=10), h=2)
    with pytest.raises(FrameError, match="'a' gives MSTL 300 steps to fit"):
        StatisticalForecaster("MSTL", input_size=300).predict(hours(), h=2)
    with pytest.raises(FrameError, match="'a' gives MSTL 334 steps to fit"):
        StatisticalForecaster("MSTL").predict_rolling(hours(days=14), h=2, n_windows=1, step_size=1)


def test_harmonics_let_an_arimax_know_two_seasons():
    rng = np.random.default_rng(1)
    at, x = np.arange(600), rng.normal(size=600)
    y = 4 * np.sin(2 * np.pi * at / 24) + 2 * np.cos(2 * np.pi * 2 * at / 168) + 3 * x + 0.01 * rng.normal(size=600)
    df = pd.concat(
        [pd.DataFrame({"unique_id": name, "ds": at, "y": y + shift, "x": x}) for name, shift in (("a", 0), ("b", 50))]
    )
    model = StatisticalForecaster(
        "ARIMA",
        alias="ARIMAX",
        harmonics={24: 1, 168: 2},
        covariates=["x"],
        input_size=400,
        options={"order": (1, 0, 0)},
    )
    rolled = model.predict_rolling(df, h=30, n_windows=2, step_size=35)
    joined = rolled.merge(df, on=["unique_id", "ds"])
    assert len(joined) == 120
    assert joined["ARIMAX"].to_numpy() == pytest.approx(joined["y"].to_numpy(), abs=0.05)
    history = df.groupby("unique_id").head(-30)
    single = model.predict(history, h=30, X_df=df.groupby("unique_id").tail(30).drop(columns="y"))
    last = rolled[rolled["cutoff"] == 569].drop(columns="cutoff").reset_index(drop=True)
    pd.testing.assert_frame_equal(single, last)


def test_harmonics_that_vanish_or_repeat_are_refused():
    with pytest.raises(ValueError, match=r"harmonics\[24\] is 12; a season of 24 steps has at most 11"):
        StatisticalForecaster("AutoARIMA", harmonics={24: 12})
    # The seventh wave of a week is the first of a day.
    with pytest.raises(ValueError, match="harmonic 7 of season 168 is one of season 24, too"):
        StatisticalForecaster("AutoARIMA", harmonics={24: 3, 168: 7})
    assert StatisticalForecaster("AutoARIMA", harmonics={24: 3, 168: 6}).harmonics == {24: 3, 168: 6}
    with pytest.raises(ValueError, match=r"harmonics\[24\] is 0"):
        StatisticalForecaster("AutoARIMA", harmonics={24: 0})


@pytest.mark.parametrize("given", [{"covariates": ["x"]}, {"harmonics": {24: 2}}])
def test_regressors_for_a_model_that_reads_none_are_refused(given):
    with pytest.raises(ValueError, match="AutoETS reads no regressors; leave covariates and harmonics out"):
        StatisticalForecaster("AutoETS", **given)


def test_the_roster_gives_each_model_the_seasons_that_it_takes():
    task = ForecastTask(h=24, freq="h", season=24, context_length=168, covariates=("load",))
    assert build_forecaster(ModelSpec("MSTL"), task).season == [24, 168]
    assert build_forecaster(ModelSpec("MSTL", options={"season": [24]}), task).season == [24]
    assert build_forecaster(ModelSpec("AutoETS"), task).season == 24
    monthly = ForecastTask(h=12, freq="MS", season=12, context_length=36)
    assert build_forecaster(ModelSpec("MSTL"), monthly).season == [12]
    counted = ForecastTask(h=12, freq=1, season=12, context_length=36)
    assert build_forecaster(ModelSpec("MSTL"), counted).season == [12]
    lear = build_forecaster(ModelSpec("LEAR", covariates=True, options={"input_size": 2400}), task)
    assert (lear.alias, lear.covariates, lear.input_size, lear.season) == ("LEAR", ["load"], 2400, None)
    assert build_forecaster(ModelSpec("LEAR", alias="own"), counted).season == 12
    assert build_forecaster(ModelSpec("LEAR"), task).covariates == ["load"]
    assert build_forecaster(ModelSpec("LEAR", covariates=False), task).covariates == []
    assert build_forecaster(ModelSpec("LEAR"), monthly).covariates == []


def test_the_roster_builds_an_arimax_with_every_customary_season():
    task = ForecastTask(h=24, freq="30min", season=48, context_length=336, covariates=("load",))
    model = build_forecaster(ModelSpec("ARIMAX", options={"input_size": 1344}), task)
    assert (model.model_class.__name__, model.alias, model.input_size) == ("AutoARIMA", "ARIMAX", 1344)
    assert model.harmonics == {48: 8, 336: 6}
    assert model.covariates == ["load"]
    assert model.options == {"seasonal": False}
    plain = build_forecaster(ModelSpec("ARIMAX", alias="ARIMA", covariates=False), task)
    assert (plain.alias, plain.covariates) == ("ARIMA", [])
    monthly = build_forecaster(ModelSpec("ARIMAX"), ForecastTask(h=12, freq=1, season=12, context_length=36))
    assert monthly.harmonics == {12: 5}
    assert monthly.covariates == []
    yearly = build_forecaster(ModelSpec("ARIMAX"), ForecastTask(h=6, freq=1, season=1, context_length=12))
    assert yearly.harmonics == {}


def test_it_is_a_forecaster():
    assert isinstance(StatisticalForecaster("AutoETS"), Forecaster)
