"""Real series to pre-train on beside synthetic ones: training parts of named data sets, cut into pieces and mixed."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tsllm.data.facts import DataRead, read_series
from tsllm.data.frame import series_bounds
from tsllm.data.sources import DATASETS
from tsllm.data.task import Asked, build_task, load_data
from tsllm.types import ID, TARGET, TIME

logger = logging.getLogger(__name__)

PACKAGED = "packaged"
LEAST_PAST = 6  # steps before a cutoff


@dataclass(frozen=True)
class Panel:
    """The training part of a real data set.

    Attributes:
        name: In `DATASETS`.
        season: Steps in its season.
        series: Values of each series [time], NaN = missing.
        cutoffs: How many steps of each series may come before a cutoff [K]; the last of them is observed.
        read: What the artefact says of it.
    """

    name: str
    season: int
    series: tuple[np.ndarray, ...]
    cutoffs: tuple[np.ndarray, ...]
    read: DataRead

    def cut(self, rng: np.random.Generator, count: int, context: int, horizon: int) -> np.ndarray:
        """Cuts pieces [count, context + horizon] around random cutoffs of random series; NaN = not known."""
        pieces = np.full((count, context + horizon), np.nan)
        for row, k in enumerate(rng.integers(0, len(self.series), count)):
            values, cutoff = self.series[k], int(rng.choice(self.cutoffs[k]))
            past, future = values[max(0, cutoff - context) : cutoff], values[cutoff : cutoff + horizon]
            pieces[row, context - len(past) : context] = past
            pieces[row, context : context + len(future)] = future
        return pieces


@dataclass(frozen=True)
class RealPanels:
    """Real data sets that a stream draws from.

    Attributes:
        panels: The data sets; each is drawn equally often.
        share: Share of the groups of windows that are real.
        held_out: Names of the data sets that nothing was read of.
    """

    panels: tuple[Panel, ...]
    share: float
    held_out: tuple[str, ...] = ()

    def draw(
        self, rng: np.random.Generator, count: int, context: int, horizon: int, mixed: float
    ) -> tuple[np.ndarray, int] | None:
        """Draws pieces of one data set and their season, or None where synthetic series are to be drawn.

        A data set of which the context does not hold two seasons is not drawn.

        Args:
            rng: Source of chance.
            count: Pieces.
            context: Steps before the cutoff.
            horizon: Steps after it.
            mixed: Share of pieces that are convex mixtures of two scaled ones (TSMixup, Ansari 2024).

        Returns:
            Pieces [count, context + horizon] whose step before the cutoff is observed, and the steps in a season.
        """
        fitting = [panel for panel in self.panels if panel.season == 1 or 2 * panel.season <= context]
        if rng.random() >= self.share or not fitting:
            return None
        panel = fitting[rng.integers(len(fitting))]
        pieces = panel.cut(rng, count, context, horizon)
        chosen = np.flatnonzero(rng.random(count) < mixed)
        if len(chosen):
            other = panel.cut(rng, len(chosen), context, horizon)
            weight = rng.uniform(0.2, 0.8, (len(chosen), 1))
            pieces[chosen] = weight * _scale(pieces[chosen], context) + (1 - weight) * _scale(other, context)
        return pieces, panel.season


def _scale(pieces: np.ndarray, context: int) -> np.ndarray:
    """Divides pieces [count, time] by the mean absolute value of their context."""
    return pieces / (np.nanmean(np.abs(pieces[:, :context]), 1, keepdims=True) + 1e-9)


def load_panels(names: Sequence[str], held_out: Sequence[str], share: float) -> RealPanels | None:
    """Loads the training parts of real data sets, up to where their customary validation part begins.

    Args:
        names: Names of `DATASETS`; `packaged` = all that need no file, without those held out. None = no real data.
        held_out: Names of data sets of which nothing may be read.
        share: Share of the groups of windows that are real.

    Raises:
        ValueError: If a data set is both named and held out, or an option has no effect.
        UnknownNameError: If a name is unknown.

    Example:
        >>> load_panels([], [], 0.5) is None
        True
    """
    for name in (*held_out, *(name for name in names if name != PACKAGED)):
        DATASETS.get(name)  # raises with the nearest names
    if not names:
        if held_out:
            raise ValueError(
                f"held_out names {list(held_out)}, but no real data are read; leave it out, or set real_data"
            )
        return None
    if not 0 < share <= 1:
        raise ValueError(f"real_share is {share}; a share of real windows lies in (0, 1]")
    chosen = [name for name in DATASETS if not DATASETS.get(name).horizons] if PACKAGED in names else []
    named = [name for name in names if name != PACKAGED]
    both = sorted(set(named) & set(held_out))
    if both:
        raise ValueError(f"{both[0]} is named in real_data and held out; leave it out of one of them")
    read = [name for name in dict.fromkeys([*chosen, *named]) if name not in held_out]
    if not read:
        raise ValueError("every data set of real_data is held out; hold out fewer, or leave real_data out")
    return RealPanels(tuple(load_panel(name) for name in read), share, tuple(held_out))


def load_panel(name: str) -> Panel:
    """Loads the training part of a named data set; series too short to be cut are left out and counted.

    Raises:
        ValueError: If no series is long enough.
    """
    loaded = load_data(name, Asked())
    task = build_task(loaded)
    df = loaded.df
    times, values = df[TIME].to_numpy(), df[TARGET].to_numpy(dtype=np.float64)
    ends, series, cutoffs = {}, [], []
    for key, start, stop in series_bounds(df):
        end = task.split.borders(times[start:stop]).train
        part = values[start : start + end]
        places = np.flatnonzero(~np.isnan(part[:-1])) + 1
        places = places[places >= LEAST_PAST]
        if len(places):
            ends[key] = end
            series.append(part)
            cutoffs.append(places)
    total = df[ID].nunique()
    if not series:
        raise ValueError(
            f"no series of {name} has {LEAST_PAST + 1} steps in its training part; leave it out of real_data"
        )
    if len(series) < total:
        logger.warning("%s: %d of %d series are too short to be cut and left out", name, total - len(series), total)
    source = DATASETS.get(name)
    kept = df[df[ID].isin(ends)]
    read = DataRead(
        name=name, series=read_series(kept, ends), licence=source.licence, origin=source.origin, domain=source.domain
    )
    return Panel(name, task.season, tuple(series), tuple(cutoffs), read)
