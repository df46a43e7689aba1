"""How windows are cut into batches."""

import numpy as np
import pandas as pd
import pytest

from tsllm.forecasting.batching import split_batches
from tsllm.forecasting.neural import NeuralForecaster


def test_batches_hold_as_many_windows_as_have_the_series_asked_for():
    assert list(split_batches(7, 3, 9)) == [(0, 3), (3, 6), (6, 7)]


def test_a_window_with_more_series_than_a_batch_is_a_batch():
    assert list(split_batches(2, 50, 9)) == [(0, 1), (1, 2)]


def test_an_invariant_batch_is_one_window_whatever_the_size():
    assert list(split_batches(3, 1, 256, batch_invariant=True)) == [(0, 1), (1, 2), (2, 3)]


def test_no_windows_are_no_batches():
    assert list(split_batches(0, 1, 4)) == []


def test_a_batch_of_nothing_is_refused():
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        list(split_batches(3, 1, 0))


def _draw_series(count):
    steps = np.arange(60)
    drawn = np.random.default_rng(0).normal(size=(count, len(steps))).cumsum(1)
    times = pd.date_range("2024-01-01", periods=len(steps), freq="h")
    return pd.concat(pd.DataFrame({"unique_id": f"s{k}", "ds": times, "y": y}) for k, y in enumerate(drawn))


def _fit(batch_invariant):
    """A small forecaster whose sums are long enough to round, and the batch sizes that its model is given."""
    forecaster = NeuralForecaster(
        "unet_tsf",
        h=8,
        freq="h",
        layout="univariate",
        context_length=32,
        num_stages=2,
        val_size=0,
        batch_invariant=batch_invariant,
        training={"max_steps": 2},
    ).fit(_draw_series(5))
    sizes = []
    forecaster.model.register_forward_pre_hook(
        lambda _m, args, inputs: sizes.append(len(inputs["past_values"])), with_kwargs=True
    )
    return forecaster, sizes


def test_with_batch_invariant_a_forecast_does_not_depend_on_the_series_asked_for():
    df = _draw_series(5)
    forecaster, sizes = _fit(batch_invariant=True)
    together = forecaster.predict(df)
    assert sizes == [1] * 5
    for name, own in df.groupby("unique_id"):
        alone = forecaster.predict(own)
        pd.testing.assert_frame_equal(
            alone, together[together.unique_id == name].reset_index(drop=True), check_exact=True
        )


def test_without_it_all_series_share_a_batch():
    forecaster, sizes = _fit(batch_invariant=False)
    forecaster.predict(_draw_series(5))
    assert sizes == [5]
