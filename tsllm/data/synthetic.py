"""Endless synthetic series to pre-train on: families mixed, given levels, breaks and gaps, cut into windows; with
real ones among them if asked for.

Batch k of shard j follows from `(seed, j, k)` alone, so a stream goes on where it stopped without drawing what came
before, and processes that read different shards never see the same series.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tsllm.data.panels import RealPanels
from tsllm.data.synthetic_processes import FAMILIES, draw_log_uniform, draw_profile

VALIDATION_SHARD = 1_000_003  # a shard that no process reads, for series held out of training

DEFAULT_FAMILIES = {
    "ets": 0.30,
    "arima": 0.18,
    "walk": 0.12,
    "trend_season": 0.22,
    "gp": 0.10,
    "intermittent": 0.04,
    "pulses": 0.04,
}
# Season in steps -> its share; a batch draws only seasons of which its contexts hold two.
DEFAULT_SEASONS = {1: 0.26, 4: 0.19, 12: 0.28, 7: 0.07, 24: 0.08, 52: 0.03, 48: 0.02, 96: 0.02, 5: 0.02, 6: 0.03}


@dataclass(frozen=True)
class SyntheticConfig:
    """What the series are like.

    Attributes:
        context_length: Longest context, steps; shorter ones are padded on the left with unobserved steps.
        prediction_length: Longest horizon, steps; targets beyond a shorter one are NaN.
        seed: Of everything.
        families: Names of `FAMILIES` and their shares.
        seasons: Steps in a season and their shares.
        group_size: Series of a batch that share a season.
        mixed: Share of series that are sums of two families.
        multiplicative: Share of series whose logarithm is drawn, so that they are positive.
        signed: Share of series that may be negative; the rest is positive.
        untold: Share of seasonal series whose season is not told (1 instead).
        outliers: Share of series with outliers.
        shifts: Share of series whose level jumps.
        censored: Share of series cut off at a quantile.
        rounded: Share of series rounded to whole numbers.
        missing: Share of series with gaps in the context.
        whole_context: Share of the batches whose contexts may have any length up to `context_length`; the others draw
            a lower cap, because short series are common and cost little.
    """

    context_length: int = 512
    prediction_length: int = 32
    seed: int = 0
    families: Mapping[str, float] = field(default_factory=lambda: dict(DEFAULT_FAMILIES))
    seasons: Mapping[int, float] = field(default_factory=lambda: dict(DEFAULT_SEASONS))
    group_size: int = 32
    mixed: float = 0.15
    multiplicative: float = 0.45
    signed: float = 0.12
    untold: float = 0.08
    outliers: float = 0.15
    shifts: float = 0.1
    censored: float = 0.04
    rounded: float = 0.15
    missing: float = 0.08
    whole_context: float = 0.03

    def __post_init__(self) -> None:
        for name in ("context_length", "prediction_length", "group_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in SHARES:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; a share lies in [0, 1]")
        for name in self.families:
            FAMILIES.get(name)
        for name, shares in (("families", self.families), ("seasons", self.seasons)):
            if not shares or min(shares.values()) < 0 or not sum(shares.values()):
                raise ValueError(f"{name} is {dict(shares)}; give names with shares of at least 0, not all 0")
        if any(season < 1 for season in self.seasons):
            raise ValueError(f"seasons is {dict(self.seasons)}; a season has at least 1 step")


SHARES = (
    "mixed",
    "multiplicative",
    "signed",
    "untold",
    "outliers",
    "shifts",
    "censored",
    "rounded",
    "missing",
    "whole_context",
)


def draw_windows(
    config: SyntheticConfig, batch_size: int, shard: int, index: int, panels: RealPanels | None = None
) -> dict[str, Tensor]:
    """Draws batch `index` of a shard.

    Args:
        config: What the series are like.
        batch_size: Windows.
        shard: Which of the independent streams.
        index: Position in it.
        panels: Real series that a share of the groups is cut from; None = all are synthetic.

    Returns:
        `past_values` [B, L, 1] (0 where unobserved), `past_observed_mask` [B, L, 1], `future_values` [B, H, 1] (NaN
        beyond the window's own horizon) and `season` [B], the steps in a season as told.
    """
    rng = np.random.default_rng([config.seed, shard, index])
    context, horizon = config.context_length, config.prediction_length
    cap = _draw_cap(rng, config)
    past = np.full((batch_size, context), np.nan)
    future = np.full((batch_size, horizon), np.nan)
    seasons = np.ones(batch_size, dtype=np.int64)
    for start in range(0, batch_size, config.group_size):
        rows = slice(start, min(start + config.group_size, batch_size))
        count = rows.stop - rows.start
        real = None if panels is None else panels.draw(rng, count, cap, horizon, config.mixed)
        if real is None:
            season = _draw_season(rng, config, cap)
            series = draw_series(rng, config, count, cap + horizon, season)
        else:
            series, season = real
        seasons[rows] = np.where(rng.random(count) < config.untold, 1, season)
        lengths = draw_lengths(rng, count, cap, season)
        kept = np.arange(cap) >= cap - lengths[:, None]  # [count, cap]
        kept &= ~draw_gaps(rng, count, cap, config.missing)
        kept &= ~np.isnan(series[:, :cap])
        kept[:, -1] |= ~kept.any(1)
        past[rows, context - cap :] = np.where(kept, series[:, :cap], np.nan)
        steps = np.ceil(horizon * rng.choice([0.25, 0.5, 0.75, 1.0], (count, 1)))
        future[rows] = np.where(np.arange(horizon) < steps, series[:, cap:], np.nan)
    values = torch.from_numpy(past).float().unsqueeze(-1)  # [B, L, 1]
    observed = ~values.isnan()
    return {
        "past_values": values.nan_to_num(nan=0.0),
        "past_observed_mask": observed,
        "future_values": torch.from_numpy(future).float().unsqueeze(-1),  # [B, H, 1]
        "season": torch.from_numpy(seasons),
    }


def draw_series(rng: np.random.Generator, config: SyntheticConfig, count: int, length: int, season: int) -> np.ndarray:
    """Draws `count` series [count, length] of one season, finite everywhere."""
    series = _draw_families(rng, config, count, length, season)
    mixed = np.flatnonzero(rng.random(count) < config.mixed)
    if len(mixed):
        other = _draw_families(rng, config, len(mixed), length, season)
        weight = rng.uniform(0.2, 0.8, (len(mixed), 1))
        series[mixed] = weight * _standardise(series[mixed]) + (1 - weight) * _standardise(other)
    week = 7 * season
    if season in (24, 48) and length >= 2 * week:
        inner = draw_profile(rng, count, 7)[:, (np.arange(length) // season) % 7]
        series += inner * series.std(1, keepdims=True) * rng.uniform(0, 1, (count, 1))
    return _decorate(rng, config, _give_level(rng, config, series))


def draw_lengths(rng: np.random.Generator, count: int, cap: int, season: int) -> np.ndarray:
    """Draws observed context lengths [count] up to `cap`; nine in ten hold two seasons if `cap` does."""
    low = np.where(rng.random(count) < 0.9, min(cap, max(6, 2 * season + 1, cap // 3)), min(cap, 6))
    return np.exp(rng.uniform(np.log(low), np.log(cap + 0.999))).astype(int).clip(1, cap)


def draw_gaps(rng: np.random.Generator, count: int, length: int, share: float) -> np.ndarray:
    """Draws which steps are missing [count, length]: none in most series, single ones or one stretch in others."""
    affected = rng.random((count, 1)) < share
    scattered = rng.random((count, length)) < rng.uniform(0.02, 0.3, (count, 1))
    begin = rng.integers(0, length, (count, 1))
    stretch = (np.arange(length) >= begin) & (np.arange(length) < begin + rng.integers(1, max(2, length // 4)))
    return affected & np.where(rng.random((count, 1)) < 0.5, scattered, stretch)


def _draw_cap(rng: np.random.Generator, config: SyntheticConfig) -> int:
    """Draws the longest context of a batch: halvings of `context_length`, the middle ones most often."""
    if rng.random() < config.whole_context:
        return config.context_length
    caps = [config.context_length // 2**k for k in range(1, 6) if config.context_length // 2**k >= 16]
    if not caps:
        return config.context_length
    weights = np.array([0.07, 0.22, 0.3, 0.28, 0.13])[: len(caps)]
    return int(rng.choice(caps, p=weights / weights.sum()))


def _draw_season(rng: np.random.Generator, config: SyntheticConfig, cap: int) -> int:
    """Draws a season of which `cap` steps hold two; 1 if there is none such. One in twenty is of unusual length."""
    fitting = {s: w for s, w in config.seasons.items() if 2 * s <= cap and w > 0}
    if not fitting:
        return 1
    if max(fitting) > 1 and rng.random() < 0.05:
        return int(rng.integers(2, min(30, cap // 2) + 1))
    weights = np.array(list(fitting.values()))
    return int(rng.choice(list(fitting), p=weights / weights.sum()))


def _draw_families(
    rng: np.random.Generator, config: SyntheticConfig, count: int, length: int, season: int
) -> np.ndarray:
    shares = np.array(list(config.families.values()), dtype=float)
    counts = rng.multinomial(count, shares / shares.sum())
    parts = [
        FAMILIES.get(name)(rng, int(n), length, season) for name, n in zip(config.families, counts, strict=True) if n
    ]
    return rng.permutation(np.concatenate(parts))


def _standardise(series: np.ndarray) -> np.ndarray:
    return (series - series.mean(1, keepdims=True)) / (series.std(1, keepdims=True) + 1e-9)


def _give_level(rng: np.random.Generator, config: SyntheticConfig, series: np.ndarray) -> np.ndarray:
    """Makes most series positive, by an exponential or by a level above their lowest value; counts stay counts."""
    count = len(series)
    low, high = series.min(1, keepdims=True), series.max(1, keepdims=True)
    span = np.maximum(high - low, 1e-6)
    rate = np.minimum(draw_log_uniform(rng, 0.005, 0.4, (count, 1)), rng.uniform(0.2, 4, (count, 1)) / span)
    multiplied = np.exp(rate * (series - low)) / rate
    lifted = series - low + span * draw_log_uniform(rng, 0.01, 20, (count, 1))
    signs = rng.choice([-1.0, 1.0], (count, 1))
    kind = rng.random((count, 1))
    levelled = np.where(
        kind < config.multiplicative,
        multiplied,
        np.where(kind < 1 - config.signed, lifted, signs * series),
    )
    counts = (series == 0).mean(1, keepdims=True) > 0.02
    return np.where(counts, series, levelled)


def _decorate(rng: np.random.Generator, config: SyntheticConfig, series: np.ndarray) -> np.ndarray:
    """Adds outliers and shifts, cuts off and rounds a share of the series each."""
    count, length = series.shape
    spread = np.abs(np.diff(series, axis=1)).mean(1, keepdims=True) + 1e-9

    def some(share: float) -> np.ndarray:
        return rng.random((count, 1)) < share

    hit = some(config.outliers) & (rng.random((count, length)) < rng.uniform(0.005, 0.04, (count, 1)))
    series = series + hit * rng.standard_t(3, (count, length)) * 4 * spread
    begin = rng.integers(0, length, (count, 1))
    jump = some(config.shifts) * rng.standard_normal((count, 1)) * draw_log_uniform(rng, 1, 15, (count, 1)) * spread
    series = series + jump * (np.arange(length) >= begin)
    low, high = np.quantile(series, [0.15, 0.9], axis=1, keepdims=True)
    cut = rng.random((count, 1)) < 0.5
    clipped = np.where(cut, np.maximum(series, low), np.minimum(series, high))
    series = np.where(some(config.censored), clipped, series)
    unit = spread * draw_log_uniform(rng, 0.02, 1.5, (count, 1))
    return np.where(some(config.rounded), np.round(series / unit) * unit, series)


def yield_batches(
    shards: list[tuple[int, int]], config: SyntheticConfig, batch_size: int, panels: RealPanels | None = None
) -> Iterator[dict[str, Tensor]]:
    """Yields one batch of each shard in turn, without end; a shard is its number and its first batch."""
    turn = 0
    while True:
        for shard, first in shards:
            yield draw_windows(config, batch_size, shard, first + turn, panels)
        turn += 1


def order_shards(processes: int, each: int, drawn: int) -> list[tuple[int, int]]:
    """Returns the shards of all processes in the order in which they go on, each with its first batch.

    Process `p` has every `processes`-th entry from the `p`-th on, and reads its shards in turn.

    Args:
        processes: How many.
        each: Shards of each process, one for each of its loader workers.
        drawn: Batches that each process has drawn already, from its shards in turn.

    >>> order_shards(1, 3, 4)
    [(1, 1), (2, 1), (0, 2)]
    """
    turns = range(drawn, drawn + each)
    return [(turn % each * processes + process, turn // each) for turn in turns for process in range(processes)]


def build_stream(
    config: SyntheticConfig,
    batch_size: int,
    num_shards: int = 1,
    start: int = 0,
    panels: RealPanels | None = None,
    processes: int = 1,
) -> Any:
    """Builds an endless `datasets.IterableDataset` whose examples are whole batches, see `draw_windows`.

    Args:
        config: What the series are like.
        batch_size: Windows in a batch.
        num_shards: Independent parts, for `datasets.distributed.split_dataset_by_node` and loader workers.
        start: Batches that each process has drawn already, to go on after them.
        panels: As in `draw_windows`.
        processes: Among which the shards are split evenly.

    Raises:
        ValueError: If they cannot be.
    """
    from datasets import IterableDataset

    if num_shards % processes:
        raise ValueError(f"num_shards is {num_shards}, which {processes} processes cannot share; take a multiple")
    shards = order_shards(processes, num_shards // processes, start)
    options = {"config": config, "batch_size": batch_size, "panels": panels}
    return IterableDataset.from_generator(yield_batches, gen_kwargs={"shards": shards, **options})


class SyntheticWindows:
    """A fixed set of synthetic windows in memory, such as the validation part; training never draws these.

    Args:
        config: What the series are like.
        num_windows: How many.
        batch_size: Windows drawn together; they share the longest context.
    """

    def __init__(self, config: SyntheticConfig, num_windows: int, batch_size: int = 64) -> None:
        if num_windows < 1:
            raise ValueError(f"num_windows is {num_windows}; give at least 1")
        self.config = config
        self.context_length, self.prediction_length = config.context_length, config.prediction_length
        self.num_channels = 1
        parts = [draw_windows(config, batch_size, VALIDATION_SHARD, k) for k in range(-(-num_windows // batch_size))]
        self._tensors = {key: torch.cat([part[key] for part in parts])[:num_windows] for key in parts[0]}

    def __len__(self) -> int:
        return len(self._tensors["season"])

    def gather(self, indices: Tensor) -> dict[str, Tensor]:
        """Returns the windows `indices` [B] as one batch."""
        return {key: value[indices] for key, value in self._tensors.items()}

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {key: value[index] for key, value in self._tensors.items()}
