"""A pool of simple forecasters that read numbers only: sample paths by whichever did well on the history's own end.

Every member takes a history of three steps or more, and draws paths around what it expects by resampling its own past
errors. The pool is the base that texts are applied to where no other forecaster is given.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

Draw = Callable[["History", int, int, np.random.Generator], np.ndarray]
SHARPNESS = 2.5  # how fast a member's share falls with its relative back-test error
_CYCLES = 10
_SHORTEST = 3


@dataclass(frozen=True)
class History:
    """What a member reads.

    Attributes:
        values: [L], no gaps.
        times: Times of the history and of the steps to come, [L + H or more].
        season: Steps in a season; 1 = none.
    """

    values: np.ndarray
    times: pd.DatetimeIndex
    season: int

    def cut(self, length: int) -> "History":
        """Returns the history as it stood after `length` steps."""
        return History(self.values[:length], self.times, self.season)


def draw_walk(history: History, h: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """Continues the last value by resampled differences without drift: [n, h]."""
    steps = np.diff(history.values)
    steps = steps - steps.mean()
    return history.values[-1] + rng.choice(steps, (n, h)).cumsum(1)


def draw_last(history: History, h: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """Keeps the last value, off by what it would have been off before, at each distance: [n, h]."""
    y = history.values
    paths = np.empty((n, h))
    for step in range(h):
        lag = min(step + 1, max(1, len(y) // 2))
        paths[:, step] = y[-1] + rng.choice(y[lag:] - y[:-lag], n)
    return paths


def draw_past(history: History, h: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """Draws from all past values alike: [n, h]."""
    return rng.choice(history.values, (n, h))


def draw_recent(history: History, h: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """Draws from the last values, as many as there are steps to come: [n, h]."""
    return rng.choice(history.values[-max(h, 2 * history.season, 8) :], (n, h))


def draw_season(history: History, h: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """Repeats the last season with resampled seasonal differences of the same phase: [n, h]."""
    y, m = history.values, history.season
    steps = np.arange(h)
    last = y[len(y) - m + steps % m]  # [h]
    change = y[m:] - y[:-m]
    paths = np.empty((n, h))
    for step in steps:
        same = change[(len(y) - m + step) % m :: m][-_CYCLES:] if len(change) >= 2 * m else change
        paths[:, step] = last[step] + rng.choice(same, n)
    return paths


def draw_phase(history: History, h: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """Draws from past values of the same phase of the season: [n, h]."""
    y, m = history.values, history.season
    return np.stack([rng.choice(y[(len(y) + s) % m :: m][-_CYCLES:], n) for s in range(h)], 1)


def draw_kind_of_day(history: History, h: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """Draws from past values of the same time of day and the same kind of day, working day or weekend: [n, h]."""
    y, length = history.values, len(history.values)
    paths = draw_phase(history, h, n, rng)
    times = history.times[: length + h]
    clock, weekend = _read_clock(times), times.dayofweek.to_numpy() >= 5
    for step, now in enumerate(range(length, len(times))):
        same = (clock[:length] == clock[now]) & (weekend[:length] == weekend[now])
        if same.sum() >= 2:
            paths[:, step] = rng.choice(y[same], n)
    return paths


def draw_profile(history: History, h: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """Adds an autoregressive remainder to the mean season: [n, h]."""
    y, m = history.values, history.season
    phase = np.arange(len(y)) % m
    profile = np.array([y[phase == k][-_CYCLES:].mean() for k in range(m)])
    rest = y - profile[phase]
    slope = _fit_slope(rest)
    errors = rest[1:] - slope * rest[:-1]
    state, paths = np.full(n, rest[-1]), np.empty((n, h))
    for step in range(h):
        state = slope * state + rng.choice(errors, n)
        paths[:, step] = profile[(len(y) + step) % m] + state
    return paths


def draw_autoregression(history: History, h: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """Simulates a ridge autoregression on the last steps and the last seasons: [n, h]."""
    y, m = history.values, history.season
    lags = sorted({1, 2, 3, *([m, m + 1, 2 * m] if m > 1 else [])})
    lags = [lag for lag in lags if lag <= len(y) // 3]
    level, scale = y.mean(), y.std() or 1.0
    z = (y - level) / scale
    rows = np.stack([z[max(lags) - lag : len(z) - lag] for lag in lags], 1)  # [rows, lags]
    target = z[max(lags) :]
    weights = np.linalg.solve(rows.T @ rows + 0.5 * np.eye(len(lags)), rows.T @ target)
    errors = target - rows @ weights
    paths = np.concatenate([np.tile(z[-max(lags) :], (n, 1)), np.empty((n, h))], 1)
    bound = np.abs(z).max() + 2
    for step in range(max(lags), max(lags) + h):
        value = paths[:, [step - lag for lag in lags]] @ weights + rng.choice(errors, n)
        paths[:, step] = np.clip(value, -bound, bound)
    return level + scale * paths[:, max(lags) :]


def _fit_slope(rest: np.ndarray) -> float:
    energy = float(rest[:-1] @ rest[:-1])
    return float(np.clip(rest[1:] @ rest[:-1] / energy, 0, 0.99)) if energy > 0 else 0.0


def _read_clock(times: pd.DatetimeIndex) -> np.ndarray:
    """Returns the second of the day of each time."""
    return (times.hour * 3600 + times.minute * 60 + times.second).to_numpy()


def find_members(history: History) -> dict[str, Draw]:
    """Returns the members that can read a history of this length and frequency."""
    members: dict[str, Draw] = {"walk": draw_walk, "last": draw_last, "past": draw_past, "recent": draw_recent}
    length, m = len(history.values), history.season
    if m > 1 and length >= m + 2:
        members |= {"season": draw_season}
    if m > 1 and length >= 2 * m:
        members |= {"phase": draw_phase, "profile": draw_profile}
    step = (history.times[1] - history.times[0]).total_seconds()
    if m > 1 and m * step == 86400 and length >= 3 * m:
        members["kind of day"] = draw_kind_of_day
    if length >= 12:
        members["autoregression"] = draw_autoregression
    return members


def weigh_members(history: History, h: int, rng: np.random.Generator) -> dict[str, float]:
    """Back-tests the members on the end of the history; returns their shares, which sum to 1.

    A member's error is its mean CRPS relative to that of drawing from the past, over the cutoffs at which it could
    have been used; its share falls exponentially with its error relative to the best one's. A member that could not
    be used at any cutoff is left out.
    """
    length, m = len(history.values), history.season
    first = max(_SHORTEST + 2, 2 * m if length >= 3 * m else m + 2 if 4 * (length - m - 2) >= length else 0)
    ahead = min(h, max(1, length // 3), length - first)
    members = find_members(history)
    if ahead < 1:
        return {name: 1 / len(members) for name in members}
    cutoffs = np.unique(np.linspace(max(first, length - 3 * ahead), length - ahead, 4).astype(int))
    scores = {name: np.zeros(2) for name in members}  # the member's own, and that of the yardstick at the same cutoffs
    for cutoff in map(int, cutoffs):
        truth, known = history.values[cutoff : cutoff + ahead], history.cut(cutoff)
        now = {name: _compute_crps(draw(known, ahead, 40, rng), truth) for name, draw in find_members(known).items()}
        for name, score in now.items():
            scores[name] += score, now["past"]
    errors = {name: own / max(past, 1e-12) for name, (own, past) in scores.items() if past > 0 or name == "past"}
    best = max(min(errors.values()), 1e-12)
    shares = {name: float(np.exp(-SHARPNESS * min(50.0, error / best - 1))) for name, error in errors.items()}
    return {name: share / sum(shares.values()) for name, share in shares.items()}


def _compute_crps(samples: np.ndarray, truth: np.ndarray) -> float:
    """Mean CRPS of samples [n, h], biased spread term."""
    number = len(samples)
    ranks = (2.0 * np.arange(number) - number + 1)[:, None]
    spread = (ranks * np.sort(samples, 0)).sum(0) / number**2
    return float((np.abs(samples - truth).mean(0) - spread).mean())


def fit_inside(paths: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Keeps paths within the history's range widened by itself on both sides, and at 0 or above if it always was."""
    low, high = values.min(), values.max()
    width = max(high - low, 1e-9)
    return np.clip(paths, 0.0 if low >= 0 else low - width, high + width)


def draw_blind(
    values: np.ndarray, times: pd.DatetimeIndex, h: int, season: int = 1, n: int = 100, seed: int = 0
) -> np.ndarray:
    """Draws sample paths from the pool.

    Args:
        values: History [L], no gaps.
        times: Times of the history and of the steps to come [L + h].
        h: Steps ahead.
        season: Steps in a season; 1 = none.
        n: Paths.
        seed: Of all draws.

    Returns:
        [n, h].

    Raises:
        ValueError: If the history is too short, has gaps, or does not fit its times.
    """
    values = np.asarray(values, float)
    if len(values) < _SHORTEST or not np.isfinite(values).all():
        raise ValueError(f"the history has {len(values)} steps, {int((~np.isfinite(values)).sum())} of them missing; "
                         f"{_SHORTEST} steps without gaps are needed")  # fmt: skip
    if len(times) != len(values) + h:
        raise ValueError(f"{len(times)} times do not fit {len(values)} steps of history and {h} steps to come")
    rng = np.random.default_rng(seed)
    history = History(values, times, season if season > 1 and len(values) >= season + 2 else 1)
    members = find_members(history)
    shares = weigh_members(history, h, rng)
    counts = _apportion(list(shares.values()), n)
    parts = [members[name](history, h, count, rng) for name, count in zip(shares, counts, strict=True) if count]
    return fit_inside(np.concatenate(parts), values)


def _apportion(shares: list[float], n: int) -> list[int]:
    """Splits n into whole numbers by largest remainders."""
    exact = np.array(shares) * n
    counts = np.floor(exact).astype(int)
    counts[np.argsort(counts - exact, kind="stable")[: n - counts.sum()]] += 1
    return [int(count) for count in counts]
