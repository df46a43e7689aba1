"""How windows are cut into batches."""

import pytest

from tsllm.forecasting.batching import split_batches


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
