import math

import pytest
import torch

from tsllm.nn.decomposition import FourierDecomposition, MovingAverage, SeriesDecomposition


def draw(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("part", [SeriesDecomposition(7), SeriesDecomposition(1), FourierDecomposition(3)])
def test_season_and_trend_add_up_to_the_series(part):
    x = draw(2, 30, 3)
    season, trend = part(x)
    torch.testing.assert_close(season + trend, x, atol=1e-6, rtol=0)


def test_the_average_repeats_the_ends():
    x = torch.tensor([1.0, 2.0, 6.0, 4.0]).view(1, 4, 1)
    expected = torch.tensor([(1 + 1 + 2) / 3, 3.0, 4.0, (6 + 4 + 4) / 3])
    torch.testing.assert_close(MovingAverage(3)(x).flatten(), expected)


def test_a_line_is_all_trend_away_from_the_ends():
    x = torch.arange(30.0).view(1, 30, 1)
    season, _ = SeriesDecomposition(5)(x)
    assert season[:, 2:-2].abs().max() < 1e-5


@pytest.mark.parametrize("size", [0, 4, -3])
def test_an_even_window_is_refused(size):
    with pytest.raises(ValueError, match=f"got {size}"):
        SeriesDecomposition(size)


def test_the_strongest_waves_are_the_season_and_the_level_stays_in_the_trend():
    steps = torch.arange(48.0)
    wave = 2 * torch.sin(2 * math.pi * steps / 8)
    x = (wave + 5).view(1, 48, 1)
    season, trend = FourierDecomposition(1)(x)
    torch.testing.assert_close(season.flatten(), wave, atol=1e-4, rtol=0)
    torch.testing.assert_close(trend, torch.full_like(x, 5.0), atol=1e-4, rtol=0)


def test_a_fourier_season_does_not_depend_on_batch_mates_or_channels():
    x = draw(4, 32, 3)
    season, _ = FourierDecomposition(2)(x)
    alone, _ = FourierDecomposition(2)(x[2:3, :, 1:2])
    torch.testing.assert_close(season[2:3, :, 1:2], alone, atol=1e-6, rtol=0)


def test_more_waves_than_frequencies_are_refused():
    with pytest.raises(ValueError, match=r"top_k \(9\) exceeds the 8 frequencies of 16 steps"):
        FourierDecomposition(9)(draw(1, 16, 1))
