"""A recipe that starts from a saved forecaster gives the same answers as further training in Python."""

import numpy as np
import pandas as pd
import pytest

from tests.recipes.programs import load_recipe
from tsllm.data.task import TaskError
from tsllm.forecasting.neural import NeuralForecaster
from tsllm.training.args import ArgumentsError
from tsllm.types import FrameError

QUICK = {"max_steps": 1, "eval_steps": 1, "per_device_train_batch_size": 8}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A CSV of two daily series and a forecaster that was trained on their first half."""
    folder = tmp_path_factory.mktemp("going_on")
    ds = pd.date_range("2024-01-01", periods=160, freq="D")
    y = np.sin(np.arange(160) * 2 * np.pi / 7)
    frame = pd.concat([pd.DataFrame({"unique_id": k, "ds": ds, "y": y * s}) for k, s in (("a", 1.0), ("b", 3.0))])
    frame.to_csv(folder / "data.csv", index=False)
    half = frame.groupby("unique_id").head(80).reset_index(drop=True)
    options = {"context_length": 21, "moving_average": 5, "new_series": "history", "pad_short": True}
    NeuralForecaster("dlinear", 7, training=QUICK, **options).fit(half).save_pretrained(folder / "saved")
    NeuralForecaster.from_pretrained(folder / "saved", h=3, alias="Mine").save_pretrained(folder / "short")
    NeuralForecaster.from_pretrained(folder / "saved", non_negative=True).save_pretrained(folder / "above")
    log = NeuralForecaster("dlinear", 7, training=QUICK, transform="asinh", **options).fit(half)
    log.save_pretrained(folder / "log")
    return folder


def run(place, *arguments):
    given = [f"dataset={place / 'data.csv'}", "model=dlinear", f"pretrained={place / 'saved'}", "--use_cpu"]
    given += [f"output_dir={place / 'out'}", "eval_strategy=no", "save_strategy=no", "load_best_model_at_end=false"]
    load_recipe("train_native").main([*given, "max_steps=1", "disable_tqdm=true", *arguments])


def test_what_nobody_asks_for_is_as_the_saved_model_has_it(place):
    run(place)
    found = NeuralForecaster.from_pretrained(place / "out")
    assert (found.context_length, found.prediction_length) == (21, 7)
    assert (found.spec.layout, found.new_series, found.pad_short) == ("multivariate", "history", True)
    firsts = [read.series["a"].steps for read in found.trained_on.reads]
    assert firsts == [80, 128]  # the half, and training and validation part of the whole


def test_a_series_that_was_trained_on_keeps_its_scale_and_another_gets_its_own(place):
    run(place, f"output_dir={place / 'known'}")
    saved = NeuralForecaster.from_pretrained(place / "saved").spec.load_scaler().stats["y"]
    assert NeuralForecaster.from_pretrained(place / "known").spec.load_scaler().stats["y"] == saved
    frame = pd.read_csv(place / "data.csv")
    frame.assign(y=frame["y"] + 100).to_csv(place / "other.csv", index=False)
    run(place, f"output_dir={place / 'new'}", f"dataset={place / 'other.csv'}")
    own = NeuralForecaster.from_pretrained(place / "new").spec.load_scaler().stats["y"]
    assert own["a"].loc == pytest.approx(frame.query("unique_id == 'a'")["y"].head(112).mean() + 100)


def test_a_test_part_that_was_trained_on_is_refused(place):
    split = "split={train: 40, validation: 20, test: 60}"
    with pytest.raises(TaskError, match=r"trained or chosen on series 'a' up to 2024-03-20.*begins after 2024-02-29"):
        run(place, split)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("context_length=28", "context_length is 28, but .* was trained with 21"),
        ("prediction_length=3", "prediction_length is 3, but .* was trained with 7"),
        ("layout=univariate", "trained with layout 'multivariate', the data have 'univariate'"),
        ("season=30", "trained with season 7, the data have 30"),
        ("transform=log1p", "transform is 'log1p', but .* was trained with 'none'"),
        ("share_covariates=true", "share_covariates is true, but .* was trained without"),
        ("model_config.moving_average=9", "moving_average cannot be changed in a saved DLinear"),
        ("model_config.loss=mae", "loss cannot be changed in a saved DLinear"),
        ("pretrained=nofolder", "no folder nofolder; give the output folder of a run"),
    ],
)
def test_what_the_saved_model_fixes_is_refused_by_name(place, argument, message):
    with pytest.raises((ValueError, OSError), match=message):
        run(place, argument)


def test_the_name_the_horizon_and_the_scale_of_a_saved_model_stay(place):
    run(place, f"pretrained={place / 'short'}", f"output_dir={place / 'again'}")
    found = NeuralForecaster.from_pretrained(place / "again")
    frame = pd.read_csv(place / "data.csv", parse_dates=["ds"])
    forecast = found.predict(frame)
    assert (found.alias, len(forecast), found.prediction_length) == ("Mine", 2 * 3, 7)
    with pytest.raises(FrameError, match="non_negative says that none is below 0"):
        run(place, f"pretrained={place / 'above'}", f"output_dir={place / 'other'}")


def test_a_transformed_target_goes_on_on_its_scale(place):
    run(place, f"pretrained={place / 'log'}", f"output_dir={place / 'further'}", "non_negative=false", "integer=false")
    found, start = (NeuralForecaster.from_pretrained(place / name) for name in ("further", "log"))
    assert found.target_scale.to_dict() == {"transform": "asinh"}
    assert found.spec.load_scaler().stats["y"] == start.spec.load_scaler().stats["y"]
    frame = pd.read_csv(place / "data.csv", parse_dates=["ds"])
    assert list(found.trained_on.find("a"))[-1].steps == 128
    made, before = found.predict(frame)["DLinear"], start.predict(frame)["DLinear"]
    assert 0 < np.abs(made - before).max() < 2  # one step of training, in units of the data


def test_a_policy_is_not_trained_on_another_scale(place):
    given = [f"dataset={place / 'data.csv'}", "model=dlinear", "--use_cpu", f"output_dir={place / 'policy'}"]
    given += ["max_steps=1", "disable_tqdm=true", "reward={name: mase}"]
    with pytest.raises(ArgumentsError, match="transform is 'log1p', but a policy is trained on the values as"):
        load_recipe("grpo_series").main([*given, "transform=log1p"])
    with pytest.raises(ArgumentsError, match=r"learned its target on the scale 'asinh'.*trained without transform"):
        load_recipe("grpo_series").main([*given, f"pretrained={place / 'log'}"])


@pytest.mark.parametrize("argument", ["transform=asinh", "integer=true"])
def test_a_language_model_refuses_another_scale(place, argument):
    given = [f"dataset={place / 'data.csv'}", "language_model=nothing", "--use_cpu", f"output_dir={place / 'text'}"]
    with pytest.raises(ArgumentsError, match=r"(transform|integer) is .*, but a language model writes the values"):
        load_recipe("sft_text").main([*given, argument])


def test_the_covariates_of_a_saved_model_are_read_without_being_named(place):
    frame = pd.read_csv(place / "data.csv", parse_dates=["ds"]).assign(load=lambda f: f["y"] * 2 + 1)
    frame.to_csv(place / "load.csv", index=False)
    small = {"context_length": 21, "patch_length": 7, "d_model": 8, "num_heads": 2, "num_layers": 1, "d_ff": 8}
    half = frame.groupby("unique_id").head(80).reset_index(drop=True)
    made = NeuralForecaster("timexer", 7, layout="univariate", covariates=["load"], training=QUICK, **small).fit(half)
    made.save_pretrained(place / "reads")
    given = [f"dataset={place / 'load.csv'}", "model=timexer", f"pretrained={place / 'reads'}"]
    run(place, *given, f"output_dir={place / 'read'}")
    assert NeuralForecaster.from_pretrained(place / "read").covariates == ["load"]
