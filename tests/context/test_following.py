"""Following another series: which way is taken, and with what the companion may do ahead."""

import numpy as np
import pandas as pd
import pytest

from tsllm.context.following import draw_following


def test_one_path_goes_the_way_that_did_best():
    """The history is a line of the companion; of several ways without a whole path each, the first is not taken."""
    rng = np.random.default_rng(0)
    x = rng.uniform(1, 9, 140).round(2)
    times = pd.date_range("2024-01-01", periods=140, freq="h")
    points = tuple(zip(times, x.tolist(), strict=True))
    drawn = draw_following(100 - 3 * x[:120], times, [points], np.zeros((1, 20)), np.random.default_rng(0))
    assert drawn[0] == pytest.approx(100 - 3 * x[120:])


def test_a_companion_that_turns_negative_ahead_is_followed_all_the_same():
    x = np.r_[np.random.default_rng(0).uniform(1, 9, 120).round(2), np.linspace(5, -5, 20)]
    times = pd.date_range("2024-01-01", periods=140, freq="h")
    points = tuple(zip(times, x.tolist(), strict=True))
    drawn = draw_following(50 + 3 * x[:120], times, [points], np.zeros((1, 20)), np.random.default_rng(0))
    assert drawn[0] == pytest.approx(50 + 3 * x[120:])
