import time

import numpy as np
import pandas as pd
import pytest
import torch

from tsllm.data.scaling import StandardScaler
from tsllm.data.task import choose_layout
from tsllm.forecasting.base import Forecaster
from tsllm.forecasting.neural import NeuralForecaster
from tsllm.registry import UnknownNameError
from tsllm.types import FrameError

QUICK = {"max_steps": 6, "eval_steps": 3, "per_device_train_batch_size": 8}
TINY = {"context_length": 12, "moving_average": 3}


def make_frame(n=120, series=("a", "b"), shorter=0):
    rng = np.random.default_rng(0)
    parts = []
    for k, name in enumerate(series):
        size = n - k * shorter
        x = rng.normal(size=size)
        y = 20.0 * (k + 1) + 4 * np.sin(np.arange(size) * 2 * np.pi / 24) + x
        ds = pd.date_range("2024", periods=size, freq="h")
        parts.append(pd.DataFrame({"unique_id": name, "ds": ds, "y": y, "x": x}))
    return pd.concat(parts, ignore_index=True)


def make(model="dlinear", h=4, **options):
    return NeuralForecaster(model, h, **({"training": QUICK} | (TINY if model == "dlinear" else {}) | options))


def test_fit_scales_on_the_training_part_only_and_remembers_everything():
    df = make_frame()
    forecaster = make(val_size=20).fit(df)
    assert isinstance(forecaster, Forecaster)
    expected = StandardScaler().fit(df.groupby("unique_id").head(100)).stats["y"]
    assert forecaster.spec.load_scaler().stats["y"] == expected
    assert forecaster.spec.channels == ["a", "b"]
    out = forecaster.predict(level=[50])
    assert out["ds"].min() == df["ds"].max() + pd.Timedelta("1h")
    assert len(out) == 8


def test_changing_the_validation_part_does_not_change_the_scaler_nor_the_first_weights():
    df = make_frame()
    changed = df.copy()
    changed.loc[changed.groupby("unique_id").tail(20).index, "y"] += 100
    one = make(val_size=20, training=QUICK | {"max_steps": 3}).fit(df)
    other = make(val_size=20, training=QUICK | {"max_steps": 3}).fit(changed)
    assert one.spec.scaler == other.spec.scaler
    for a, b in zip(one.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_best_validation_weights_are_kept():
    df = make_frame()
    training = QUICK | {"max_steps": 6, "eval_steps": 2, "learning_rate": 0.3, "lr_scheduler_type": "constant"}
    forecaster = make(val_size=20, training=training | {"early_stopping_patience": 0}).fit(df)
    losses = [entry["eval_loss"] for entry in forecaster.log if "eval_loss" in entry]
    predictor = forecaster
    scaled = predictor.spec.load_scaler().transform(df)
    from tsllm.data.windows import WindowDataset

    validation = WindowDataset(scaled.groupby("unique_id").tail(32).reset_index(drop=True), 12, 4, freq="h")
    with torch.no_grad():
        batch = validation.gather(torch.arange(len(validation)))
        loss = predictor.model(batch["past_values"], future_values=batch["future_values"]).loss.item()
    assert loss == pytest.approx(min(losses), rel=1e-5)
    assert losses[-1] > min(losses)


def test_seed_decides_the_weights():
    df = make_frame()
    first, again, other = (
        make(training=QUICK | {"seed": s}).fit(df).predict()["DLinear"].to_numpy() for s in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_layout_is_multivariate_for_aligned_series_and_univariate_for_a_panel():
    assert choose_layout(make_frame()) == "multivariate"
    assert choose_layout(make_frame(shorter=7)) == "univariate"
    forecaster = make(val_size=8).fit(make_frame(shorter=7))
    assert forecaster.model.config.num_channels == 1
    assert len(forecaster.predict()) == 8


def test_known_covariates_must_be_given_and_are_read():
    df = make_frame(n=160)
    options = {"d_model": 8, "num_heads": 2, "d_ff": 8, "num_layers": 1, "context_length": 16, "patch_length": 4}
    forecaster = make("timexer", covariates=["x"], **options).fit(df)
    assert forecaster.model.config.num_known_covariates == 2
    with pytest.raises(FrameError, match="must be known over the horizon"):
        forecaster.predict()
    ahead = pd.concat(
        [
            pd.DataFrame({"unique_id": s, "ds": pd.date_range(df["ds"].max(), periods=5, freq="h")[1:], "x": 0.0})
            for s in "ab"
        ]
    )
    calm = forecaster.predict(X_df=ahead)
    assert len(calm) == 8
    changed = df.assign(x=df["x"] + 1.0)
    assert not np.allclose(calm["TimeXer"], forecaster.predict(changed, X_df=ahead)["TimeXer"])
    with pytest.raises(ValueError, match="reads no covariates"):
        make(covariates=["x"]).fit(df)


def test_a_saved_folder_is_where_training_goes_on(tmp_path):
    df = make_frame()
    first = make().fit(df)
    first.save_pretrained(tmp_path)
    second = NeuralForecaster(str(tmp_path), training=QUICK | {"max_steps": 0 + 1, "learning_rate": 0.0})
    pd.testing.assert_frame_equal(second.predict(df), first.predict(df))
    second.fit(df)
    pd.testing.assert_frame_equal(second.predict(df), first.predict(df))
    third = NeuralForecaster(str(tmp_path), training=QUICK | {"learning_rate": 0.1}).fit(df)
    assert not np.allclose(third.predict(df)["DLinear"], first.predict(df)["DLinear"])
    pd.testing.assert_frame_equal(NeuralForecaster.from_pretrained(tmp_path).predict(df), first.predict(df))
    with pytest.raises(ValueError, match="moving_average cannot be changed in a saved DLinear"):
        NeuralForecaster(str(tmp_path), moving_average=5)


def test_without_validation_the_last_weights_stay_and_intervals_are_refused():
    training = {name: value for name, value in QUICK.items() if not name.startswith("eval")}
    forecaster = make(val_size=0, training=training).fit(make_frame())
    assert not any("eval_loss" in entry for entry in forecaster.log)
    assert len(forecaster.predict()) == 8
    with pytest.raises(ValueError, match="gives no intervals"):
        forecaster.predict(level=[80])


def test_max_seconds_ends_training_and_the_log_says_where():
    started = time.perf_counter()
    training = {"max_steps": 100_000, "eval_steps": 50_000, "early_stopping_patience": 0}
    forecaster = make(max_seconds=1.0, training=training).fit(make_frame())
    assert time.perf_counter() - started < 60
    last = max(entry["step"] for entry in forecaster.log)
    assert 0 < last < 100_000
    assert any("eval_loss" in entry for entry in forecaster.log)


def test_progress_hears_validation_losses():
    heard = []
    forecaster = make()
    forecaster.progress = lambda step, total, values: heard.append((step, total, values))
    forecaster.fit(make_frame())
    assert [(s, t) for s, t, v in heard if "eval_loss" in v] == [(3, 6), (6, 6)]


def test_wrong_requests_are_errors_that_name_the_way_out():
    df = make_frame()
    with pytest.raises(UnknownNameError, match="did you mean 'dlinear'"):
        NeuralForecaster("dlinar")
    with pytest.raises(ValueError, match="needs a horizon"):
        NeuralForecaster("dlinear").fit(df)
    with pytest.raises(ValueError, match="fit is asked for h=9, but DLinear is made for h=4"):
        make().fit(df, h=9)
    with pytest.raises(ValueError, match="val_size is 2, less than the horizon of 4"):
        make(val_size=2).fit(df)
    with pytest.raises(ValueError, match=r"unknown option 'patch_size' of DLinear; known: h, .*moving_average"):
        make(patch_size=3).fit(df)
    with pytest.raises(ValueError, match="follow from the data"):
        make(num_channels=3).fit(df)
    with pytest.raises(ValueError, match="DLinear is not trained"):
        make().predict(df)
    with pytest.raises(FrameError, match="context_length \\+ prediction_length is 16"):
        make().fit(make_frame(n=18))


def test_a_reader_that_reads_no_covariates_is_named_and_leaving_it_out_reads_them():
    with pytest.raises(ValueError, match=r"timellm with reader: llm reads no covariates, but \['x'\] .* reader out"):
        NeuralForecaster("timellm", 4, covariates=["x"], reader="llm")
    assert NeuralForecaster("timellm", 4, covariates=["x"]).covariates == ["x"]
    with pytest.raises(ValueError, match=r"dlinear reads no covariates, .* or choose a model that reads them"):
        NeuralForecaster("dlinear", 4, covariates=["x"], moving_average=3)
