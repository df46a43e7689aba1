"""Seasonal lags and scales: worked numbers, a slow loop, equivariance."""

import torch

from tsllm.nn.seasonal import view_seasons


def view(values, season, horizon=3, mask=None, num_lags=2):
    values = torch.as_tensor(values, dtype=torch.float64)
    mask = torch.ones_like(values, dtype=torch.bool) if mask is None else torch.as_tensor(mask)
    return view_seasons(values, mask, torch.as_tensor(season), horizon, num_lags)


def test_the_naive_repeats_the_last_season_of_each_row():
    found = view([[1.0, 2, 3, 4, 5, 6], [1.0, 2, 3, 4, 5, 6]], [2, 1])
    assert found.naive.tolist() == [[5.0, 6.0, 5.0], [6.0, 6.0, 6.0]]
    assert found.loc.tolist() == [[5.5], [6.0]]


def test_lags_equal_a_slow_loop():
    torch.manual_seed(0)
    values, mask = torch.randn(3, 14, dtype=torch.float64), torch.rand(3, 14) > 0.2
    seasons, horizon = [1, 3, 5], 7
    found = view(values, seasons, horizon, mask, num_lags=3)
    for row, season in enumerate(seasons):
        for step in range(14 + horizon):
            inside = max(step - 14, 0) // season
            for k in range(3):
                at = step - (inside + k + 1) * season
                known = at >= 0 and bool(mask[row, at])
                assert bool(found.lags_observed[row, step, k]) == known
                assert found.lags[row, step, k] == (values[row, at] if known else 0.0)


def test_the_scale_is_the_mean_seasonal_change_and_a_fiftieth_of_the_deviation():
    found = view([[0.0, 10, 2, 10, 4, 13]], [2])
    # Changes over a season: 2, 0, 2, 3. Deviations from 6.5: 6.5, 3.5, 4.5, 3.5, 2.5, 6.5.
    assert torch.isclose(found.scale, torch.tensor([[7 / 4 + 0.02 * 27 / 6]], dtype=torch.float64)).all()


def test_missing_values_are_looked_past():
    mask = [[True, True, True, True, False, True]]
    found = view([[1.0, 2, 3, 4, 99, 6]], [2], mask=mask)
    assert found.naive.tolist() == [[3.0, 6.0, 3.0]]
    nothing = view([[5.0, 5, 5]], [1], mask=[[False, False, False]])
    assert nothing.naive.tolist() == [[0.0, 0.0, 0.0]]
    assert nothing.scale.item() == 1.0


def test_a_window_shorter_than_a_season_falls_back_to_neighbours():
    found = view([[1.0, 3.0, 6.0]], [12])
    assert torch.isclose(found.scale, torch.tensor([[2.5 + 0.02 * 16 / 9]], dtype=torch.float64)).all()
    assert found.naive.tolist() == [[6.0, 6.0, 6.0]]


def test_all_follows_scale_and_shift():
    torch.manual_seed(1)
    values = torch.randn(2, 20, dtype=torch.float64)
    plain, moved = view(values, [4, 1]), view(3 * values + 7, [4, 1])
    torch.testing.assert_close(moved.naive, 3 * plain.naive + 7)
    torch.testing.assert_close(moved.loc, 3 * plain.loc + 7)
    torch.testing.assert_close(moved.scale, 3 * plain.scale)


def test_a_constant_window_has_the_size_of_its_level_as_scale():
    assert view([[4.0] * 8], [2]).scale.item() == 4.0
    assert view([[0.0] * 8], [2]).scale.item() == 1.0
