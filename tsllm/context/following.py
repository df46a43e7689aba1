"""Forecasting with a companion: another series, or a state, that a text gives for the past and for the horizon."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pandas as pd

from tsllm.context.blind import SHARPNESS, _compute_crps, draw_blind, fit_inside

Points = Sequence[tuple[pd.Timestamp, float | str]]
Member = Callable[[np.ndarray, np.ndarray, int, np.random.Generator], np.ndarray]
_LAGS = 3
_BASE = "base"


def spread_points(points: Points, times: pd.DatetimeIndex) -> np.ndarray:
    """Returns the companion's value at each time: [T].

    Points on most times hold until the next one; points that skip times at a regular distance are joined by lines. The
    first and the last point reach to the ends.
    """
    at, times = pd.DatetimeIndex([time for time, _ in points]).as_unit("ns"), times.as_unit("ns")
    values = np.array([float(value) for _, value in points])
    gaps = np.diff(at.asi8)
    step = np.median(np.diff(times.asi8))
    if len(gaps) > 2 and (gaps == gaps[0]).all() and gaps[0] > step:
        return np.interp(times.asi8.astype(float), at.asi8.astype(float), values)
    position = at.searchsorted(times, side="right") - 1
    return values[np.maximum(position, 0)]


def draw_ratio(y: np.ndarray, x: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Multiplies the companion by resampled ratios of the history: [n, H]."""
    past, ahead = x[: len(y)], x[len(y) :]
    used = np.abs(past) > 0.05 * np.abs(past).max()
    ratio = y[used] / past[used]
    level = rng.choice(ratio[-max(3, len(ratio) // 2) :], (n, 1))
    return (0.5 * level + 0.5 * rng.choice(ratio, (n, len(ahead)))) * ahead


def draw_gap(y: np.ndarray, x: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Moves the last distance from the companion along, by resampled changes of that distance: [n, H]."""
    gap = y - x[: len(y)]
    change = np.diff(gap)
    steps = rng.choice(change - change.mean(), (n, len(x) - len(y))).cumsum(1)
    return x[len(y) :] + gap[-1] + 0.5 * steps


def draw_relative(y: np.ndarray, x: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Moves as the companion moves, relative to the last values: [n, H]."""
    last = x[len(y) - 1]
    noise = rng.choice(y - y.mean(), (n, len(x) - len(y))) * 0.3
    return y[-1] * x[len(y) :] / (last if abs(last) > 1e-9 else 1.0) + noise


def draw_line(y: np.ndarray, x: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Regresses on the companion, and resamples the errors: [n, H]."""
    past = x[: len(y)]
    slope = np.cov(past, y, bias=True)[0, 1] / max(past.var(), 1e-12)
    level = y.mean() - slope * past.mean()
    return level + slope * x[len(y) :] + rng.choice(y - level - slope * past, (n, len(x) - len(y)))


def draw_lagged(y: np.ndarray, x: np.ndarray, n: int, rng: np.random.Generator, lags: int = _LAGS) -> np.ndarray:
    """Simulates a linear model of the last values of the series and of its companions [C, L + H]: [n, H]."""
    x = np.atleast_2d(x)
    length = len(y)
    columns = [np.ones(length - lags), *(y[lags - k : length - k] for k in range(1, lags + 1))]
    columns += [row[lags - k : length - k] for row in x for k in range(lags + 1)]
    rows = np.stack(columns, 1)  # [L - lags, 1 + lags + C * (lags + 1)]
    weights = np.linalg.lstsq(rows, y[lags:], rcond=1e-10)[0]
    errors = y[lags:] - rows @ weights
    bound = 20 * np.abs(y).max() + 1e-9
    paths = np.concatenate([np.tile(y, (n, 1)), np.empty((n, x.shape[1] - length))], 1)  # [n, L + H]
    for t in range(length, x.shape[1]):
        own = paths[:, [t - k for k in range(1, lags + 1)]] @ weights[1 : 1 + lags]
        other = x[:, [t - k for k in range(lags + 1)]].ravel() @ weights[1 + lags :]
        paths[:, t] = np.clip(weights[0] + own + other + rng.choice(errors, n), -bound, bound)
    return paths[:, length:]


def find_members(y: np.ndarray, x: np.ndarray) -> dict[str, Member]:
    """Returns the ways to follow the companions `x` [C, L + H] that a history allows; each takes all of them."""
    members: dict[str, Member] = {}
    length = len(y)
    for k, row in enumerate(x):
        ways: dict[str, Member] = {"gap": draw_gap}
        if np.ptp(row[:length]) > 0:
            ways["line"] = draw_line
        if (row >= 0).all() and (y >= 0).all() and row[:length].max() > 0:
            ways |= {"ratio": draw_ratio, "relative": draw_relative}
        members |= {f"{name} {k}": _take(way, k) for name, way in ways.items()}
    if np.ptp(x[:, :length]) > 0:
        for lags in (_LAGS, 2 * _LAGS):
            if length >= 2 * (1 + lags + len(x) * (lags + 1)):
                members[f"lagged {lags}"] = partial(draw_lagged, lags=lags)
    return members


def _take(way: Member, k: int) -> Member:
    return lambda y, x, n, rng: way(y, x[k], n, rng)


def draw_following(
    y: np.ndarray,
    times: pd.DatetimeIndex,
    companions: Sequence[Points],
    paths: np.ndarray,
    rng: np.random.Generator,
    anchors: Sequence[tuple[float, float]] = (),
) -> np.ndarray:
    """Draws paths that follow companions, by the ways that did best on the end of the history.

    Args:
        y: History [L].
        times: [L + H].
        companions: Times and values of each.
        paths: The base's paths [n, H]; only their number is read.
        rng: Source of randomness.
        anchors: Pairs (companion, series) that hold beyond what the history shows.
    """
    x = np.stack([spread_points(points, times) for points in companions])  # [C, L + H]
    first, length = x[0], len(y)
    if anchors:
        return draw_anchored(y, first, anchors, len(paths), rng)
    members = find_members(y, x)
    shares = _weigh(y, x, times, members, rng)
    n = len(paths)
    members[_BASE] = lambda _y, _x, count, rng: paths[rng.choice(n, count, replace=False)]
    weights = np.array(list(shares.values()))
    counts = np.floor(weights * n).astype(int)
    counts[int(np.argmax(counts if counts.any() else weights))] += n - counts.sum()
    drawn = np.concatenate([members[k](y, x, c, rng) for k, c in zip(shares, counts, strict=True) if c])
    if (y >= 0).all():
        drawn = np.maximum(drawn, 0.0)
    ceilings = [row[length:] for row in x if is_ceiling(y, row)]
    return np.minimum(drawn, np.min(ceilings, 0)) if ceilings else drawn


def is_ceiling(y: np.ndarray, x: np.ndarray) -> bool:
    """Tells whether the companion has been the most that was possible: nine steps in ten below 1.1 times it."""
    past = x[: len(y)]
    used = past > 0
    if used.sum() <= 8 or (x < 0).any() or len(np.unique(past)) <= 5:
        return False
    ratio = y[used] / past[used]
    return bool((ratio <= 1.1).mean() > 0.9 and np.median(ratio) < 1.02)


def draw_anchored(
    y: np.ndarray, x: np.ndarray, anchors: Sequence[tuple[float, float]], n: int, rng: np.random.Generator
) -> np.ndarray:
    """Draws around what the history shows at the companion's value, beyond it on the line to the anchor: [n, H].

    Where the companion leaves the history's range, the series is proportional to it through the anchor, and never
    nearer to zero than the history's value at the end of that range.
    """
    past, ahead = x[: len(y)], x[len(y) :]
    values, counts = np.unique(past, return_counts=True)
    settled = values[counts >= min(5, counts.max())]  # a value just reached says nothing yet
    seen = {float(value): float(np.median(y[past == value])) for value in settled}
    at, top = anchors[0]
    spread = np.mean([np.std(y[past == value]) for value in settled])
    middle = np.interp(ahead, list(seen), list(seen.values()))
    beyond = (ahead > max(seen)) | (ahead < min(seen))
    scaled = top * ahead / at if at else np.full(len(ahead), top)
    edge = np.where(ahead > max(seen), seen[max(seen)], seen[min(seen)])
    middle[beyond] = np.where(np.abs(scaled) > np.abs(edge), scaled, edge)[beyond]
    width = spread + np.where(beyond, 0.06 * np.abs(middle), 0.0)
    return middle + width * (0.8 * rng.standard_normal((n, 1)) + 0.6 * rng.standard_normal((n, len(ahead))))


def _weigh(
    y: np.ndarray, x: np.ndarray, times: pd.DatetimeIndex, members: dict[str, Member], rng: np.random.Generator
) -> dict[str, float]:
    """Back-tests the ways to follow, and the pool that follows nothing, on the end of the history; returns shares.

    The pool has to be better by a quarter, because a text that gives a companion gives it for a reason.
    """
    length = len(y)
    ahead = max(1, length // 4)
    first = length - ahead if length < 24 else length - 2 * ahead
    early = find_members(y[:first], x[:, : first + ahead])
    scores = dict.fromkeys((name for name in early if name in members), 0.0)  # the whole may allow fewer ways
    pool = 0.0
    for cutoff in sorted({first, length - ahead}):
        for name in scores:
            drawn = members[name](y[:cutoff], x[:, : cutoff + ahead], 40, rng)
            scores[name] += _compute_crps(drawn, y[cutoff : cutoff + ahead])
        blind = draw_blind(y[:cutoff], times[: cutoff + ahead], ahead, n=40) if cutoff >= 3 else None
        pool += 1.25 * _compute_crps(blind, y[cutoff : cutoff + ahead]) if blind is not None else np.inf
    scores[_BASE] = pool
    best = max(min(scores.values()), 1e-12)
    sharpness = SHARPNESS * min(1.0, ahead / 6)  # a step or two prove little
    shares = {name: float(np.exp(-sharpness * min(200.0, score / best - 1))) for name, score in scores.items()}
    return {name: share / sum(shares.values()) for name, share in shares.items()}


def draw_states(
    y: np.ndarray, times: pd.DatetimeIndex, points: Points, season: int, paths: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Draws from what each state did to the history, relative to the best of the same phase: [n, H].

    A state's step is the largest value seen at its phase of the season, times a ratio to it resampled from the past
    steps in the same state.
    """
    at = pd.DatetimeIndex([time for time, _ in points])
    words = np.array([str(word) for _, word in points])
    state = words[np.maximum(at.searchsorted(times, side="right") - 1, 0)]  # [L + H]
    length = len(y)
    phase = np.arange(len(times)) % season
    top = np.array([y[phase[:length] == k].max(initial=0.0) for k in range(season)])
    top = np.maximum(top, 1e-9)
    ratio, drawn = y / top[phase[:length]], paths.copy()
    lit = top[phase[:length]] > 0.05 * top.max()
    for step in range(len(times) - length):
        same = lit & (state[:length] == state[length + step])
        if same.sum() >= 3:
            drawn[:, step] = top[phase[length + step]] * rng.choice(ratio[same], len(drawn))
    return fit_inside(drawn, y)
