import json

import numpy as np
import pandas as pd
import pytest
import torch

from tsllm.data.frame import future_frame
from tsllm.data.frequency import default_season
from tsllm.data.scaling import StandardScaler
from tsllm.forecasting.base import Forecaster
from tsllm.forecasting.neural import NeuralForecaster
from tsllm.hub.spec import Calibration, ForecasterSpec
from tsllm.models import build_model
from tsllm.types import FrameError

LEVELS = [0.1, 0.5, 0.9]


def make_frame(n=60, series=("a", "b"), start="2024-01-01", drop=0):
    rng = np.random.default_rng(0)
    parts = []
    for k, name in enumerate(series):
        size = n - drop * k
        y = 100.0 * (k + 1) + np.sin(np.arange(size) * 2 * np.pi / 24) * 5 + rng.normal(size=size)
        times = pd.date_range(start, periods=size, freq="h")
        parts.append(pd.DataFrame({"unique_id": name, "ds": times, "y": y}))
    return pd.concat(parts, ignore_index=True)


def make_predictor(df, layout="multivariate", context=12, horizon=4, head="point", **options):
    torch.manual_seed(1)
    channels = df["unique_id"].unique().tolist()
    model = build_model(
        "dlinear",
        context_length=context,
        prediction_length=horizon,
        num_channels=len(channels) if layout == "multivariate" else 1,
        moving_average=5,
        head=head,
        quantile_levels=LEVELS,
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    spec = ForecasterSpec(
        alias="Tiny",
        freq="h",
        layout=layout,
        season=24,
        channels=channels if layout == "multivariate" else [],
        scaler=StandardScaler().fit(df).to_dict(),
    )
    return NeuralForecaster.of_model(model, spec, **options)


def predict_by_hand(predictor, df, end):
    """Scales, forwards and un-scales the window that ends before row `end` of each series, in plain numpy."""
    stats = predictor.spec.load_scaler().stats["y"]
    names = list(df["unique_id"].unique())
    scaled = np.stack(
        [(g["y"].to_numpy() - stats[n].loc) / stats[n].scale for n, g in df.groupby("unique_id", sort=False)], -1
    )
    past = torch.tensor(scaled[end - predictor.context_length : end], dtype=torch.float32)[None]
    with torch.no_grad():
        out = predictor.model(past_values=past).predictions[0].double().numpy()
    return {n: out[:, k] * stats[n].scale + stats[n].loc for k, n in enumerate(names)}


def test_predict_equals_scaling_forwarding_and_unscaling_by_hand():
    df = make_frame()
    predictor = make_predictor(df)
    out = predictor.update(df).predict()
    assert out.columns.tolist() == ["unique_id", "ds", "Tiny"]
    for name, expected in predict_by_hand(predictor, df, 60).items():
        np.testing.assert_allclose(out.loc[out["unique_id"] == name, "Tiny"], expected, rtol=1e-5)
    expected_times = future_frame(df, 4, "h")
    assert out["ds"].tolist() == expected_times["ds"].tolist()
    assert isinstance(predictor, Forecaster)


@pytest.mark.parametrize("layout", ["multivariate", "univariate"])
@pytest.mark.parametrize("h", [4, 3])
def test_rolling_forecasts_equal_single_predicts_at_every_cutoff(layout, h):
    df = make_frame()
    predictor = make_predictor(df, layout, batch_size=2)
    rolling = predictor.predict_rolling(df, h, n_windows=5, step_size=2)
    assert rolling.groupby("unique_id")["cutoff"].nunique().tolist() == [5, 5]
    for k in range(5):
        history = df.groupby("unique_id").head(60 - h - (4 - k) * 2)
        alone = predictor.predict(history, h)
        cutoff = history["ds"].max()
        part = rolling[rolling["cutoff"] == cutoff]
        assert part["ds"].tolist() == alone["ds"].tolist()
        np.testing.assert_allclose(part["Tiny"], alone["Tiny"], rtol=1e-5)


def test_a_rolling_forecast_does_not_see_what_follows_its_cutoff():
    df = make_frame()
    predictor = make_predictor(df)
    before = predictor.predict_rolling(df, 4, 3, 4)
    changed = df.copy()
    last = changed.groupby("unique_id").tail(4).index
    changed.loc[last, "y"] += 1000
    after = predictor.predict_rolling(changed, 4, 3, 4)
    np.testing.assert_array_equal(before["Tiny"], after["Tiny"])


def test_univariate_panels_may_have_different_lengths():
    df = make_frame(drop=9)
    predictor = make_predictor(df, "univariate")
    out = predictor.predict_rolling(df, 4, 2, 4)
    assert out.groupby("unique_id")["cutoff"].max().tolist() == [
        df.loc[df["unique_id"] == name, "ds"].iloc[-5] for name in ("a", "b")
    ]


def test_missing_history_gives_finite_forecasts_that_differ_from_zero_filling():
    df = make_frame()
    df.loc[55:57, "y"] = np.nan
    predictor = make_predictor(df)
    out = predictor.predict(df)
    assert np.isfinite(out["Tiny"]).all()
    zeroed = df.copy()
    loc = predictor.spec.load_scaler().stats["y"]["a"].loc
    zeroed.loc[55:57, "y"] = loc  # 0 in scaled units
    assert not np.allclose(out["Tiny"], predictor.predict(zeroed)["Tiny"])


def test_series_shorter_than_the_context_is_an_error_that_names_it_unless_padding_is_asked_for():
    df = make_frame(n=20, drop=10)
    predictor = make_predictor(df, "univariate")
    with pytest.raises(FrameError, match="series 'b' has 10 steps, the context needs 12"):
        predictor.predict(df)
    predictor.pad_short = True
    out = predictor.predict(df)
    assert np.isfinite(out["Tiny"]).all()
    assert len(predictor.predict_rolling(df, 4, 2, 1)) == 2 * 2 * 4


def test_a_series_that_the_scaler_never_saw_is_an_error_or_scaled_by_its_own_history():
    df = make_frame()
    predictor = make_predictor(df, "univariate")
    new = make_frame(series=("c",))
    with pytest.raises(ValueError, match=r"Tiny was not trained on series c .* pass new_series='history'"):
        predictor.predict(new)
    predictor.new_series = "history"
    stats = StandardScaler().fit(new).stats["y"]["c"]
    scaled = torch.tensor(((new["y"] - stats.loc) / stats.scale).to_numpy()[-12:], dtype=torch.float32)
    with torch.no_grad():
        expected = predictor.model(past_values=scaled[None, :, None]).predictions[0, :, 0] * stats.scale + stats.loc
    np.testing.assert_allclose(predictor.predict(new)["Tiny"], expected, rtol=1e-5)


def test_quantile_head_gives_its_own_intervals():
    df = make_frame()
    predictor = make_predictor(df, head="quantile")
    out = predictor.predict(df, level=[80])
    assert out.columns.tolist() == ["unique_id", "ds", "Tiny", "Tiny-lo-80", "Tiny-hi-80"]
    assert (out["Tiny-lo-80"] <= out["Tiny"]).all()
    assert (out["Tiny"] <= out["Tiny-hi-80"]).all()
    with pytest.raises(ValueError, match="outside the trained range"):
        predictor.predict(df, level=[95])


def test_point_head_without_calibration_refuses_intervals_and_says_what_to_do():
    df = make_frame()
    with pytest.raises(ValueError, match="call calibrate"):
        make_predictor(df).predict(df, level=[80])


def test_conformal_half_width_is_the_order_statistic_worked_by_hand():
    residuals = torch.tensor([3.0, -1.0, 2.0, -5.0, 4.0, 6.0, -7.0, 8.0, 9.0]).reshape(9, 1, 1)
    calibration = Calibration.from_residuals(residuals)
    # Nine residuals: ceil(10 * .8) = 8th smallest of 1..9 without 10 = 8; ceil(10 * .85) = 9th = 9.
    assert calibration.half_width(80).item() == 8
    assert calibration.half_width(85).item() == 9
    assert calibration.half_width(50).item() == 5
    with pytest.raises(ValueError, match=r"calibrated range \[1, 90\] \(9 validation windows\)"):
        calibration.half_width(95)


def test_conformal_intervals_cover_new_windows_as_promised():
    generator = torch.Generator().manual_seed(0)
    covered = []
    for _ in range(400):
        residuals = torch.randn(40, 1, 1, generator=generator)
        new = torch.randn(50, generator=generator).abs()
        covered.append((new <= Calibration.from_residuals(residuals).half_width(80).item()).float().mean())
    assert 0.79 < torch.stack(covered).mean() < 0.83


def test_missing_validation_targets_leave_the_half_width_of_the_observed_ones():
    residuals = torch.arange(1.0, 10).reshape(9, 1, 1)
    with_gaps = torch.cat([residuals, torch.full((4, 1, 1), torch.nan)])
    assert Calibration.from_residuals(with_gaps).half_width(80) == Calibration.from_residuals(residuals).half_width(80)


def test_saved_and_loaded_forecaster_gives_identical_forecasts_and_intervals(tmp_path):
    df = make_frame()
    predictor = make_predictor(df)
    predictor.calibration = Calibration.from_residuals(torch.randn(30, 4, 2))
    predictor.save_pretrained(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {
        "config.json",
        "model.safetensors",
        "forecaster.json",
        "calibration.safetensors",
        "metrics.json",
        "history.json",
        "README.md",
    }
    again = NeuralForecaster.from_pretrained(tmp_path)
    pd.testing.assert_frame_equal(again.predict(df, level=[80]), predictor.predict(df, level=[80]), check_exact=True)


def test_a_damaged_or_missing_description_is_an_error_that_says_which_file(tmp_path):
    df = make_frame()
    make_predictor(df).save_pretrained(tmp_path)
    spec = tmp_path / "forecaster.json"
    text = spec.read_text()
    spec.write_text(text[:50])
    with pytest.raises(ValueError, match=r"forecaster\.json is damaged"):
        NeuralForecaster.from_pretrained(tmp_path)
    spec.write_text(text.replace('"season"', '"saison"'))
    with pytest.raises(ValueError, match="unknown keys \\['saison'\\]"):
        NeuralForecaster.from_pretrained(tmp_path)
    for name in ("channels", "covariates", "past_covariates"):
        for value in ([[]], [None], [True], [1.5], {"a": 1}, "x"):
            spec.write_text(json.dumps(json.loads(text) | {name: value}))
            with pytest.raises(ValueError, match=rf"forecaster\.json has .*{name}"):
                NeuralForecaster.from_pretrained(tmp_path)
    spec.unlink()
    with pytest.raises(OSError, match=r"holds no forecaster\.json"):
        NeuralForecaster.from_pretrained(tmp_path)


def test_horizon_beyond_the_model_and_missing_history_are_errors():
    df = make_frame()
    predictor = make_predictor(df)
    with pytest.raises(ValueError, match="h is 9, but Tiny forecasts 1 to 4 steps"):
        predictor.predict(df, h=9)
    with pytest.raises(ValueError, match="has no history"):
        predictor.predict()


def test_constant_series_gives_finite_forecasts():
    df = make_frame()
    df["y"] = df["unique_id"].map({"a": 3.0, "b": 0.0})
    out = make_predictor(df).predict(df)
    assert np.isfinite(out["Tiny"]).all()


def test_diverged_weights_raise_instead_of_giving_nan():
    df = make_frame()
    predictor = make_predictor(df)
    with torch.no_grad():
        predictor.model.trend.bias.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="non-finite"):
        predictor.predict(df)


def record_batches(predictor):
    """Returns a list to which each forward pass adds the series that it reads (windows times channels)."""
    sizes = []
    predictor.model.register_forward_pre_hook(
        lambda module, args, inputs: sizes.append(inputs["past_values"].shape[0] * inputs["past_values"].shape[2]),
        with_kwargs=True,
    )
    return sizes


def test_a_thousand_series_stream_through_the_model_in_batches_of_one_size():
    df = make_frame(n=14, series=[f"s{k:04d}" for k in range(1000)])
    predictor = make_predictor(df, "univariate", batch_size=64)
    expected = make_predictor(df, "univariate", batch_size=1000).predict(df)
    told = []
    predictor.told = lambda done, total: told.append((done, total))
    sizes = record_batches(predictor)
    out = predictor.predict(df)
    assert sizes == [64] * 15 + [40]
    assert told == [(min(64 * k, 1000), 1000) for k in range(1, 17)]
    assert out["unique_id"].unique().tolist() == df["unique_id"].unique().tolist()
    np.testing.assert_allclose(out["Tiny"], expected["Tiny"], rtol=1e-5)


@pytest.mark.parametrize(("batch_size", "sizes"), [(64, [57]), (7, [6] * 9 + [3]), (1, [3] * 19)])
def test_a_batch_counts_the_channels_of_its_windows(batch_size, sizes):
    df = make_frame(series=("a", "b", "c"))
    predictor = make_predictor(df, batch_size=batch_size)
    seen = record_batches(predictor)
    predictor.predict_rolling(df, 4, n_windows=19, step_size=1)
    assert seen == sizes


def test_predict_copies_no_more_than_the_contexts(monkeypatch):
    df = make_frame(n=500)
    predictor = make_predictor(df)
    scaled = []
    transform = StandardScaler.transform
    monkeypatch.setattr(
        StandardScaler,
        "transform",
        lambda self, frame, *args: scaled.append(len(frame)) or transform(self, frame, *args),
    )
    predictor.predict(df)
    assert scaled == [2 * 12]


@pytest.mark.parametrize(
    ("freq", "season"),
    [("h", 24), ("30min", 48), ("D", 7), ("W-SUN", 52), ("MS", 12), ("QE-DEC", 4), ("YE-DEC", 1), (1, 1)],
)
def test_default_seasons(freq, season):
    assert default_season(freq) == season
