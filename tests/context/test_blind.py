"""The pool of simple forecasters."""

import numpy as np
import pandas as pd
import pytest

from tsllm.context.blind import History, draw_blind, fit_inside, weigh_members


def times(n, freq="h"):
    return pd.date_range("2024-01-01", periods=n, freq=freq)


@pytest.mark.parametrize(
    ("length", "h", "season", "freq"),
    [(3, 6, 1, "MS"), (6, 7, 12, "MS"), (26, 5, 24, "h"), (95, 58, 1, "s"), (168, 72, 24, "h"), (287, 18, 7, "D")],
)
def test_histories_of_all_lengths_give_finite_paths(length, h, season, freq):
    values = np.random.default_rng(1).normal(size=length).cumsum()
    paths = draw_blind(values, times(length + h, freq), h, season, n=50)
    assert paths.shape == (50, h)
    assert np.isfinite(paths).all()


def test_a_clean_season_is_repeated():
    values = np.tile(np.arange(24.0), 7)
    paths = draw_blind(values, times(168 + 24), 24, 24)
    assert np.array_equal(np.median(paths, 0), np.arange(24.0))


def test_the_back_test_prefers_what_did_well():
    y = np.tile(np.arange(24.0) ** 2, 7)
    shares = weigh_members(History(y, times(200), 24), 24, np.random.default_rng(0))
    assert sum(shares.values()) == pytest.approx(1.0)
    assert shares["season"] + shares["phase"] + shares["kind of day"] + shares["profile"] > 0.95


def test_a_series_that_was_never_negative_stays_so():
    assert (fit_inside(np.array([[-5.0, 99.0]]), np.array([0.0, 4.0])) == [[0.0, 8.0]]).all()
    assert (fit_inside(np.array([[-5.0, 2.0]]), np.array([-1.0, 4.0])) == [[-5.0, 2.0]]).all()


def test_equal_seeds_give_equal_paths_and_others_do_not():
    y = np.random.default_rng(0).normal(size=50)
    a, b, c = (draw_blind(y, times(60), 10, 1, n=20, seed=s) for s in (1, 1, 2))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_short_or_broken_histories_are_refused():
    with pytest.raises(ValueError, match="2 steps, 0 of them missing; 3 steps"):
        draw_blind(np.ones(2), times(4), 2)
    with pytest.raises(ValueError, match="1 of them missing"):
        draw_blind(np.array([1.0, np.nan, 2.0, 3.0]), times(6), 2)
    with pytest.raises(ValueError, match="5 times do not fit 4 steps"):
        draw_blind(np.ones(4), times(5), 2)
