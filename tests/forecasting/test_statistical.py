import sys

import numpy as np
import pandas as pd
import pytest
from statsforecast import StatsForecast
from statsforecast import models as sf
from statsforecast.utils import ConformalIntervals

from tsllm.data.frame import future_frame
from tsllm.forecasting.base import Forecaster
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


def test_it_is_a_forecaster():
    assert isinstance(StatisticalForecaster("AutoETS"), Forecaster)
