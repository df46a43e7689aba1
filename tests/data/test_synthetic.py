"""Synthetic series: reproducible, seasonal where told, finite, and cut as asked."""

import gc
import tracemalloc
import weakref

import numpy as np
import pytest
import torch
from datasets.distributed import split_dataset_by_node
from torch.utils.data import DataLoader

from tsllm.data.synthetic import (
    VALIDATION_SHARD,
    SyntheticConfig,
    SyntheticWindows,
    build_stream,
    draw_lengths,
    draw_series,
    draw_windows,
    order_shards,
)
from tsllm.data.synthetic_processes import FAMILIES, draw_arma_coefficients, draw_profile
from tsllm.registry import UnknownNameError

SMALL = SyntheticConfig(context_length=64, prediction_length=8, seed=3)


def share_at_season(series, season):
    """Share of the variance of each series, trend removed, that lies at the season and its multiples."""
    steps = np.arange(series.shape[1])
    centred = series - np.stack([np.polyval(np.polyfit(steps, y, 1), steps) for y in series])
    power = np.abs(np.fft.rfft(centred)) ** 2
    at = series.shape[1] // season * np.arange(1, season // 2 + 1)
    return power[:, at].sum(1) / power[:, 1:].sum(1)


@pytest.mark.parametrize("name", FAMILIES.names())
def test_every_family_is_finite_varied_and_follows_from_its_seed(name):
    draw = FAMILIES.get(name)
    for season in (1, 12):
        series = draw(np.random.default_rng(5), 16, 72, season)
        assert series.shape == (16, 72)
        assert np.isfinite(series).all()
        assert (series.std(1) > 0).mean() > 0.8
        assert len(np.unique(series, axis=0)) > 12
        assert np.array_equal(series, draw(np.random.default_rng(5), 16, 72, season))
        assert not np.array_equal(series, draw(np.random.default_rng(6), 16, 72, season))


@pytest.mark.parametrize("name", ["ets", "arima", "walk", "trend_season", "gp", "pulses"])
def test_a_season_stands_in_the_spectrum_only_where_it_was_asked_for(name):
    draw = FAMILIES.get(name)
    told = share_at_season(draw(np.random.default_rng(0), 128, 120, 12), 12)
    without = share_at_season(draw(np.random.default_rng(0), 128, 120, 1), 12)
    # Six of 60 frequencies hold a tenth of white noise.
    assert np.median(told) > 1.5 * np.median(without)
    assert np.mean(told) > np.mean(without) + 0.1


def test_profiles_have_mean_0_and_deviation_1_or_are_flat():
    profiles = draw_profile(np.random.default_rng(0), 200, 12)
    np.testing.assert_allclose(profiles.mean(1), 0, atol=1e-12)
    deviation = profiles.std(1)
    assert (np.isclose(deviation, 1) | (deviation == 0)).all()
    assert (deviation > 0).mean() > 0.8
    assert (draw_profile(np.random.default_rng(0), 3, 1) == 0).all()


@pytest.mark.parametrize("order", [1, 2, 3])
def test_autoregressive_polynomials_are_stable(order):
    rng = np.random.default_rng(order)
    for _ in range(50):
        polynomial = draw_arma_coefficients(rng, order)
        assert polynomial[0] == 1
        assert len(polynomial) == order + 1
        assert (np.abs(np.roots(polynomial)) < 1).all()


def test_series_are_finite_and_mostly_positive():
    config = SyntheticConfig(signed=0.0, outliers=0.0, shifts=0.0)
    series = draw_series(np.random.default_rng(0), config, 256, 100, 12)
    assert np.isfinite(series).all()
    assert ((series >= 0).all(1)).mean() > 0.97
    signed = draw_series(np.random.default_rng(0), SyntheticConfig(signed=1.0, multiplicative=0.0), 256, 100, 12)
    assert ((signed < 0).any(1)).mean() > 0.5


def test_a_batch_follows_from_seed_shard_and_index_alone():
    batch = draw_windows(SMALL, 40, shard=1, index=7)
    again = draw_windows(SMALL, 40, shard=1, index=7)
    assert all(torch.equal(batch[k].nan_to_num(nan=-1), again[k].nan_to_num(nan=-1)) for k in batch)
    for shard, index in ((1, 8), (2, 7), (VALIDATION_SHARD, 7)):
        other = draw_windows(SMALL, 40, shard, index)
        assert not torch.equal(batch["past_values"], other["past_values"])


def test_windows_have_their_shapes_and_miss_values_only_where_said():
    batch = draw_windows(SMALL, 70, 0, 0)
    assert batch["past_values"].shape == batch["past_observed_mask"].shape == (70, 64, 1)
    assert batch["future_values"].shape == (70, 8, 1)
    assert torch.isfinite(batch["past_values"]).all()
    assert batch["past_observed_mask"].any(1).all()
    assert (batch["past_values"][~batch["past_observed_mask"]] == 0).all()
    future = batch["future_values"][..., 0]
    assert not future[:, :2].isnan().any()  # the shortest horizon is a quarter
    # What is missing of a future is its end.
    assert (future.isnan().int().diff(dim=1) >= 0).all()


@pytest.mark.parametrize(("share", "gaps"), [(0.0, False), (1.0, True)])
def test_contexts_have_gaps_only_where_asked(share, gaps):
    mask = draw_windows(SyntheticConfig(64, 8, 0, missing=share), 64, 0, 0)["past_observed_mask"][..., 0]
    # Padding alone is a run of False in front: observed never goes back to missing.
    inner = (mask.int().diff(dim=1) < 0).any(1)
    assert (inner.float().mean() > 0.5) if gaps else not inner.any()


def test_lengths_lie_within_the_cap_and_mostly_hold_two_seasons():
    lengths = draw_lengths(np.random.default_rng(0), 2000, 64, 12)
    assert lengths.min() >= 1
    assert lengths.max() <= 64
    assert 0.88 < (lengths > 24).mean() < 1.0


def test_a_season_is_told_unless_it_is_kept_back():
    told = {
        s for k in range(6) for s in draw_windows(SyntheticConfig(64, 8, 0, untold=0.0), 64, 0, k)["season"].tolist()
    }
    assert len(told) > 3
    assert max(told) <= 32  # two seasons fit into the longest context
    hidden = draw_windows(SyntheticConfig(64, 8, 0, untold=1.0), 64, 0, 0)["season"]
    assert (hidden == 1).all()


def test_processes_read_different_series_and_a_stream_goes_on_where_it_stopped():
    stream = build_stream(SMALL, 8, num_shards=2)
    firsts = [next(iter(split_dataset_by_node(stream, rank=rank, world_size=2))) for rank in range(2)]
    assert not torch.equal(firsts[0]["past_values"], firsts[1]["past_values"])
    assert torch.equal(firsts[1]["past_values"], draw_windows(SMALL, 8, 1, 0)["past_values"])
    iterator = iter(build_stream(SMALL, 8))
    third = [next(iterator) for _ in range(3)][2]
    later = next(iter(build_stream(SMALL, 8, start=2)))
    assert torch.equal(third["past_values"], later["past_values"])


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("drawn", [0, 1, 2, 5])
def test_shards_go_on_in_the_order_in_which_they_were_left(workers, drawn):
    def read(order, process, count):
        own = order[process::2]
        return [(shard, first + k // workers) for k in range(count) for shard, first in [own[k % workers]]]

    for process in (0, 1):
        whole = read(order_shards(2, workers, 0), process, drawn + 7)
        assert read(order_shards(2, workers, drawn), process, 7) == whole[drawn:]
        assert len(set(whole)) == drawn + 7
    assert {shard for shard, _ in order_shards(2, workers, drawn)} == set(range(2 * workers))


def test_a_process_with_several_loader_workers_goes_on_where_it_stopped():
    def read(start, rank):
        stream = build_stream(SMALL, 4, 4, start, processes=2)
        own = split_dataset_by_node(stream, rank=rank, world_size=2)
        batches = iter(DataLoader(own, batch_size=None, num_workers=2))
        return [next(batches)["past_values"] for _ in range(6)]

    for rank in (0, 1):
        whole, rest = read(0, rank), read(3, rank)
        assert all(torch.equal(a, b) for a, b in zip(whole[3:], rest[:3], strict=True))
        expected = [draw_windows(SMALL, 4, 2 * (k % 2) + rank, k // 2)["past_values"] for k in range(6)]
        assert all(torch.equal(a, b) for a, b in zip(whole, expected, strict=True))
    with pytest.raises(ValueError, match="num_shards is 3, which 2 processes cannot share"):
        build_stream(SMALL, 4, 3, processes=2)


def test_a_stream_forgets_what_it_gave_so_that_its_memory_does_not_grow():
    stream = iter(build_stream(SMALL, 64))
    first = next(stream)
    size = sum(value.numpy().nbytes for value in first.values())
    given = [weakref.ref(next(stream)["past_values"]) for _ in range(10)]
    tracemalloc.start()
    try:
        held = []
        for _ in range(3):
            given += [weakref.ref(next(stream)["past_values"]) for _ in range(15)]
            gc.collect()
            held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert [tensor for ref in given[:-1] if (tensor := ref()) is not None] == []
    assert held[2] - held[0] < 5 * size  # of thirty that were drawn between


def test_held_out_windows_are_fixed_and_none_of_the_training_shards():
    windows = SyntheticWindows(SMALL, 10, batch_size=4)
    assert len(windows) == 10
    expected = draw_windows(SMALL, 4, VALIDATION_SHARD, 1)["past_values"]
    assert torch.equal(windows.gather(torch.arange(4, 8))["past_values"], expected)
    assert torch.equal(windows[5]["past_values"], expected[1])


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"context_length": 0}, "context_length is 0"),
        ({"missing": 1.5}, "missing is 1.5"),
        ({"families": {}}, "families is {}"),
        ({"seasons": {0: 1.0}}, "at least 1 step"),
    ],
)
def test_a_bad_value_is_named(changes, named):
    with pytest.raises(ValueError, match=named):
        SyntheticConfig(**changes)


def test_an_unknown_family_is_an_error_that_lists_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'arima'"):
        SyntheticConfig(families={"arimax": 1.0})
