import numpy as np
import pandas as pd
import pytest

import tsllm
from tsllm.data.target import TargetScale
from tsllm.data.task import Asked, build_task, load_given
from tsllm.forecasting.model_spec import ModelSpec
from tsllm.forecasting.roster import build_forecaster
from tsllm.types import FrameError

LOG = TargetScale("log1p", non_negative=True, integer=True)


def growth(count=48, base=1.1, offset=0.0):
    """Values whose logarithm grows by one step a step: log(1 + y) is a straight line."""
    y = base ** np.arange(1, count + 1) - 1 + offset
    return pd.DataFrame({"unique_id": "a", "ds": np.arange(count), "y": y})


@pytest.mark.parametrize("transform", ["none", "log1p", "asinh"])
def test_a_transform_is_taken_back_exactly(transform):
    y = np.array([0.0, 0.5, 3.0, 1e6, np.nan])
    scale = TargetScale(transform)
    np.testing.assert_allclose(scale.backward_values(scale.transform_values(y)), y, rtol=1e-12)


def test_the_transforms_are_what_their_names_say():
    y = np.array([0.0, 2.0])
    np.testing.assert_allclose(TargetScale("log1p").transform_values(y), [0, np.log(3)])
    np.testing.assert_allclose(TargetScale("asinh").transform_values(-y), [0, -np.log(2 + np.sqrt(5))])


def test_forecasts_are_cut_at_zero_and_rounded():
    assert TargetScale(non_negative=True).backward_values(np.array([-3.0, 0.4])).tolist() == [0, 0.4]
    made = TargetScale(non_negative=True, integer=True).backward_values(np.array([-0.4, 0.4, 1.6]))
    assert made.tolist() == [0, 0, 2]
    assert not np.signbit(TargetScale(integer=True).backward_values(np.array([-0.4])))[0]


@pytest.mark.parametrize(
    ("scale", "y", "text"),
    [
        ({"transform": "log1p"}, -1.0, "'y' is -1 at 2, but log1p takes values above -1"),
        ({"non_negative": True}, -0.5, "'y' is -0.5 at 2, but non_negative says"),
        ({"integer": True}, 0.5, "'y' is 0.5 at 2, but integer says"),
    ],
)
def test_a_history_that_forecasts_could_not_be_is_refused(scale, y, text):
    df = growth(4).assign(y=[0.0, 1.0, y, np.nan])
    with pytest.raises(FrameError, match=text):
        tsllm.SeasonalNaive(1).scale_target(**scale).fit(df, 1)
    with pytest.raises(FrameError, match=text):
        tsllm.NeuralForecaster("dlinear", 1, context_length=2, val_size=0, **scale).fit(df)


def test_a_wrong_transform_is_told():
    with pytest.raises(ValueError, match="transform is 'log'; choose one of none, log1p, asinh"):
        tsllm.NeuralForecaster("dlinear", 1, transform="log")


def test_what_overflows_is_told():
    frame = pd.DataFrame({"unique_id": "a", "ds": [1], "m": [1e4]})
    with pytest.raises(FloatingPointError, match="series 'a' at 1 is too large to take log1p back"):
        TargetScale("log1p").backward(frame, ["m"])


def test_a_statistical_model_is_estimated_on_the_scale():
    """A random walk with drift on a straight line goes on along it, so the forecast is the exponential, exactly."""
    made = tsllm.StatisticalForecaster("RandomWalkWithDrift", transform="log1p").fit(growth(), 3)
    np.testing.assert_allclose(made.predict()["RandomWalkWithDrift"], 1.1 ** np.arange(49, 52) - 1, rtol=1e-9)
    rolled = made.predict_rolling(growth(), 2, 2, 2)
    np.testing.assert_allclose(rolled["RandomWalkWithDrift"], 1.1 ** np.arange(45, 49) - 1, rtol=1e-9)
    linear = tsllm.StatisticalForecaster("RandomWalkWithDrift").fit(growth(), 3).predict()
    assert (linear["RandomWalkWithDrift"] < made.predict()["RandomWalkWithDrift"]).all()


def test_intervals_and_paths_are_on_the_scale_too():
    rng = np.random.default_rng(0)
    df = growth(60).assign(y=rng.poisson(0.7, 60).astype(float))
    made = tsllm.SeasonalNaive(6).scale_target(non_negative=True, integer=True).fit(df, 6)
    forecasts = made.predict(level=[90])
    plain = tsllm.SeasonalNaive(6).fit(df, 6).predict(level=[90])
    assert (plain["SeasonalNaive-lo-90"] < 0).any()
    values = plain.iloc[:, 2:].to_numpy()
    np.testing.assert_array_equal(forecasts.iloc[:, 2:], np.rint(np.maximum(values, 0)))
    for paths in (made.simulate(df, 20, level=[50, 90]), tsllm.simulate(made, df, 20)):
        drawn = paths["SeasonalNaive"].to_numpy()
        assert (drawn >= 0).all()
        assert (drawn % 1 == 0).all()
        assert drawn.max() > 0


def test_the_errors_of_paths_are_those_of_the_scale():
    """Of a line on the log scale, the naive is off by the same there at each cutoff, so every path is the same."""
    made = tsllm.SeasonalNaive(1).scale_target("log1p").fit(growth(), 1)
    paths = made.simulate(growth(), 5)["SeasonalNaive"]
    np.testing.assert_allclose(paths, 1.1**49 - 1, rtol=1e-9)


@pytest.fixture(scope="module")
def fitted():
    rng = np.random.default_rng(0)
    y = np.rint(np.exp(3 + np.sin(np.arange(160) * np.pi / 6) + 0.1 * rng.normal(size=160)))
    df = pd.DataFrame({"unique_id": "a", "ds": np.arange(160), "y": y})
    options = {"context_length": 24, "moving_average": 5, "training": {"max_steps": 30, "learning_rate": 0.01}}
    scale = {"transform": "log1p", "non_negative": True, "integer": True}
    return df, options, tsllm.NeuralForecaster("dlinear", 12, **scale, **options).fit(df)


def test_a_neural_model_learns_on_the_scale(fitted):
    """It equals the model that is given logarithms, taken back by hand: weights, forecasts and bounds."""
    df, options, made = fitted
    logs = tsllm.NeuralForecaster("dlinear", 12, **options).fit(df.assign(y=np.log1p(df["y"])))
    theirs = logs.predict(level=[80]).iloc[:, 2:].to_numpy()
    np.testing.assert_array_equal(made.predict(level=[80]).iloc[:, 2:], np.rint(np.maximum(np.expm1(theirs), 0)))
    np.testing.assert_array_equal(
        made.predict_rolling(df, 12, 2, 12)["DLinear"], np.rint(np.expm1(logs.predict_rolling(
            df.assign(y=np.log1p(df["y"])), 12, 2, 12)["DLinear"]))
    )  # fmt: skip


def test_the_scale_is_saved_and_the_history_told_in_its_own_units(fitted, tmp_path):
    df, _, made = fitted
    made.save_pretrained(tmp_path)
    loaded = tsllm.NeuralForecaster.from_pretrained(tmp_path)
    assert loaded.target_scale == LOG
    pd.testing.assert_frame_equal(loaded.predict(df, level=[80]), made.predict(level=[80]))
    assert "log1p(y) per series" in (tmp_path / "README.md").read_text()
    assert "never below 0, whole numbers" in (tmp_path / "README.md").read_text()
    # The guard against leakage knows the series by its values in their own units.
    with pytest.raises(ValueError, match="trained"):
        tsllm.backtest(df, [loaded], 12, 1)
    assert tsllm.NeuralForecaster.from_pretrained(tmp_path, integer=False).target_scale.integer is False
    with pytest.raises(ValueError, match="transform is fixed by the artefact"):
        tsllm.NeuralForecaster.from_pretrained(tmp_path, transform="asinh")
    with pytest.raises(ValueError, match="was trained with transform 'log1p'"):
        loaded.scale_target("none")


def test_going_on_trains_on_the_scale(fitted, tmp_path):
    df, _, made = fitted
    made.save_pretrained(tmp_path)
    further = tsllm.NeuralForecaster.from_pretrained(tmp_path, training={"max_steps": 2}).fit(df)
    assert further.target_scale == LOG
    assert further.spec.scaler["stats"]["y"] == made.spec.scaler["stats"]["y"]


def test_a_model_of_the_roster_takes_the_scale_whatever_its_kind():
    asked = Asked(h=2, season=2)
    task = build_task(load_given(growth(), asked), asked)
    for name in ("SeasonalNaive", "AutoTheta", "dlinear", "LEAR"):
        made = build_forecaster(ModelSpec(name, options={"transform": "log1p"}), task)
        assert made.target_scale == TargetScale("log1p")
