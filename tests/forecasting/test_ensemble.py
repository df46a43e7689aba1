import numpy as np
import pandas as pd
import pytest

import tsllm
from tsllm.data.task import Asked, build_task, load_given
from tsllm.forecasting.checks import check_forecaster
from tsllm.forecasting.model_spec import ModelSpec
from tsllm.forecasting.roster import build_forecaster


def waves(count=60, noise=0.0):
    rng = np.random.default_rng(0)
    t = np.arange(count)
    parts = {"a": np.sin(t * np.pi / 3), "b": 100 * np.cos(t * np.pi / 3)}
    return pd.concat(
        [pd.DataFrame({"unique_id": s, "ds": t, "y": y + noise * rng.normal(size=count)}) for s, y in parts.items()],
        ignore_index=True,
    )


class Shifted(tsllm.Forecaster):
    """Forecasts the truth plus a shift for series a and a hundred times that for b."""

    def __init__(self, alias, shift):
        self.alias, self.shift = alias, shift

    def fit(self, df, h=None):
        self.history = df
        return self

    def predict(self, df=None, h=None, level=None, X_df=None):
        history = self.history if df is None else df
        parts = []
        for name, group in history.groupby("unique_id", sort=False):
            at = group["ds"].iloc[-1] + 1 + np.arange(h)
            truth = {"a": np.sin(at * np.pi / 3), "b": 100 * np.cos(at * np.pi / 3)}[name]
            part = pd.DataFrame({"unique_id": name, "ds": at})
            part[self.alias] = truth + self.shift * {"a": 1, "b": 100}[name]
            for lv in level or ():
                part[f"{self.alias}-lo-{lv:g}"] = part[self.alias] - 1
                part[f"{self.alias}-hi-{lv:g}"] = part[self.alias] + self.shift
            parts.append(part)
        return pd.concat(parts, ignore_index=True)


def test_weights_are_inverse_to_the_squared_error_and_no_series_counts_for_its_size():
    """Shifts of 1 and 3 in units of each series: errors 0.5 and 1.5 of their mean, so weights 0.9 and 0.1."""
    made = tsllm.Ensemble([Shifted("near", 1.0), Shifted("far", 3.0)]).fit(waves(), 6)
    assert made.errors == pytest.approx({"near": 0.5, "far": 1.5})
    assert made.weights == pytest.approx({"near": 0.9, "far": 0.1})
    out = made.predict(level=[80])
    truth = Shifted("t", 0.0).fit(waves()).predict(h=6)["t"]
    units = np.repeat([1.0, 100.0], 6)
    np.testing.assert_allclose(out["Ensemble"], truth + units * (0.9 * 1 + 0.1 * 3))
    np.testing.assert_allclose(out["Ensemble-lo-80"], out["Ensemble"] - 1)
    np.testing.assert_allclose(out["Ensemble-hi-80"], out["Ensemble"] + 0.9 * 1 + 0.1 * 3)


def test_the_weights_are_of_windows_before_the_end_and_the_members_see_all():
    seen = []

    class Watched(Shifted):
        def fit(self, df, h=None):
            seen.append(df["ds"].max())
            return super().fit(df, h)

    tsllm.Ensemble([Watched("one", 1.0), Watched("two", 2.0)], n_windows=2).fit(waves(), 6)
    assert seen == [47, 47, 59, 59]


@pytest.mark.parametrize(("weights", "expected"), [("equal", 0.5), ([3, 1], 0.75)])
def test_weights_can_be_given(weights, expected):
    made = tsllm.Ensemble([Shifted("one", 1.0), Shifted("two", 2.0)], weights=weights).fit(waves(), 6)
    assert made.weights["one"] == expected
    assert made.errors == {}


def test_rolling_forecasts_are_the_weighted_ones_of_the_members():
    members = [tsllm.SeasonalNaive(6), tsllm.SeasonalNaive(1, "Naive")]
    df = waves(noise=0.3)
    made = tsllm.Ensemble(members, n_windows=1).fit(df, 6)
    rolled = made.predict_rolling(df, 6, 2, 6, [80])
    parts = [m.predict_rolling(df, 6, 2, 6, [80]) for m in members]
    for end in ("", "-lo-80", "-hi-80"):
        expected = sum(made.weights[m.alias] * part[m.alias + end] for m, part in zip(members, parts, strict=True))
        np.testing.assert_allclose(rolled["Ensemble" + end], expected)


def test_members_by_name_stand_in_a_backtest_and_a_comparison(tmp_path):
    asked = Asked(h=6, season=6)
    task = build_task(load_given(waves(), asked), asked)
    by_name = build_forecaster(ModelSpec("ensemble:SeasonalNaive+AutoTheta"), task)
    assert [m.alias for m in by_name.members] == ["SeasonalNaive", "AutoTheta"]
    windows = tsllm.backtest(waves(noise=0.1), [by_name, tsllm.SeasonalNaive(6)], 6, 2)
    assert np.isfinite(windows["Ensemble"]).all()
    both = ModelSpec("ensemble", options={"members": ["SeasonalNaive", "Naive"], "weights": "equal"})
    found = tsllm.compare(waves(), ["SeasonalNaive", "Naive", both], h=6, season=6, n_windows=2, output_dir=tmp_path)
    frame = found.forecasts["frame"]
    np.testing.assert_allclose(frame["Ensemble"], (frame["SeasonalNaive"] + frame["Naive"]) / 2)


def test_members_are_built_by_fit_when_they_are_named():
    made = tsllm.Ensemble(["Naive", "HistoricAverage"], freq=1).fit(waves(noise=0.1), 6)
    assert set(made.weights) == {"Naive", "HistoricAverage"}


def test_a_saved_member_is_not_weighed_by_what_it_was_trained_on(tmp_path):
    options = {"context_length": 12, "moving_average": 3, "training": {"max_steps": 1}}
    saved = tsllm.NeuralForecaster("dlinear", 6, **options).fit(waves())
    saved.save_pretrained(tmp_path)
    loaded = tsllm.NeuralForecaster.from_pretrained(tmp_path, training={"max_steps": 0})
    with pytest.raises(ValueError, match="DLinear was trained on series 'a' up to 59, which the validation"):
        tsllm.Ensemble([loaded, tsllm.SeasonalNaive(6)]).fit(waves(), 6)
    made = tsllm.Ensemble([loaded, tsllm.SeasonalNaive(6)], weights="equal").fit(waves(), 6)
    assert len(made.trained_on.reads) == 1


@pytest.mark.parametrize(
    ("members", "options", "text"),
    [
        ([], {}, "give a list of forecasters"),
        ("AutoETS", {}, "give a list of forecasters"),
        ([tsllm.SeasonalNaive(2), tsllm.SeasonalNaive(3)], {}, "two members have the alias 'SeasonalNaive'"),
        ([tsllm.SeasonalNaive(2)], {"weights": "best"}, "weights is 'best'"),
        ([tsllm.SeasonalNaive(2)], {"weights": [1, 2]}, "give 1 numbers from 0"),
    ],
)
def test_what_is_no_ensemble_is_told(members, options, text):
    with pytest.raises(ValueError, match=text):
        tsllm.Ensemble(members, **options)


def test_an_entry_is_checked_with_its_members():
    asked = Asked(h=6, season=6)
    task = build_task(load_given(waves(), asked), asked)
    for spec, text in (
        (ModelSpec("ensemble"), "an ensemble has members"),
        (ModelSpec("ensemble:SeasonalNaive+Naiv"), "unknown model 'Naiv'"),
        (ModelSpec("ensemble:Naive", options={"weight": 1}), "ensemble has no option 'weight'"),
    ):
        with pytest.raises(ValueError, match=text):
            check_forecaster(spec, task)
    assert ModelSpec("ensemble:AutoETS+dlinear").is_seeded
    assert not ModelSpec("ensemble:AutoETS+Naive").is_seeded


def test_a_horizon_is_needed():
    with pytest.raises(ValueError, match="needs a horizon"):
        tsllm.Ensemble([tsllm.SeasonalNaive(2)]).fit(waves())
    with pytest.raises(ValueError, match="is not fitted"):
        tsllm.Ensemble([tsllm.SeasonalNaive(2)]).predict(waves(), 6)


def test_an_ensemble_reads_the_columns_that_its_members_were_told():
    own = pd.DataFrame({"shop": "A", "day": pd.date_range("2024", periods=40), "sold": np.arange(40) % 7 + 1.0})
    plain = own.set_axis(["unique_id", "ds", "y"], axis=1)
    members = [tsllm.SeasonalNaive(7).name_columns("shop", "day", "sold"), tsllm.SeasonalNaive(1, "Naive")]
    forecast = tsllm.Ensemble(members, n_windows=2).fit(own, h=3).predict()
    expected = (
        tsllm.Ensemble([tsllm.SeasonalNaive(7), tsllm.SeasonalNaive(1, "Naive")], n_windows=2)
        .fit(plain, h=3)
        .predict()
    )
    assert list(forecast.columns) == ["shop", "day", "Ensemble"]
    np.testing.assert_array_equal(forecast["Ensemble"], expected["Ensemble"])
