"""Forecasting with a companion: another series, or a state, that a text gives for the past and for the horizon."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from tsllm.context.blind import _compute_crps, fit_inside

Points = Sequence[tuple[pd.Timestamp, float | str]]
Member = Callable[[np.ndarray, np.ndarray, int, np.random.Generator], np.ndarray]
_LAGS = 3


def spread_points(points: Points, times: pd.DatetimeIndex) -> np.ndarray:
    """Returns the companion's value at each time: [T].

    Points on most times hold until the next one; points that skip times at a regular distance are joined by lines. The
    first and the last point reach to the ends.
    """
    at = pd.DatetimeIndex([time for time, _ in points])
    values = np.array([float(value) for _, value in points])
    gaps = np.diff(at.asi8)
    step = np.median(np.diff(times.asi8))
    if len(gaps) > 2 and (gaps == gaps[0]).all() and gaps[0] > step:
        return np.interp(times.asi8.astype(float), at.asi8.astype(float), values)
    position = np.searchsorted(at.asi8, times.asi8, side="right") - 1
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


def draw_lagged(y: np.ndarray, x: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Simulates a linear model of the last values of both series: [n, H]."""
    columns = [np.ones(len(y) - _LAGS)]
    columns += [y[_LAGS - k : len(y) - k] for k in range(1, _LAGS + 1)]
    columns += [x[_LAGS - k : len(y) - k] for k in range(_LAGS + 1)]
    rows = np.stack(columns, 1)  # [L - 3, 8]
    weights = np.linalg.lstsq(rows, y[_LAGS:], rcond=1e-10)[0]
    errors = y[_LAGS:] - rows @ weights
    bound = 20 * np.abs(y).max() + 1e-9
    paths = np.concatenate([np.tile(y, (n, 1)), np.empty((n, len(x) - len(y)))], 1)  # [n, L + H]
    for t in range(len(y), len(x)):
        own = paths[:, [t - k for k in range(1, _LAGS + 1)]] @ weights[1 : 1 + _LAGS]
        other = x[[t - k for k in range(_LAGS + 1)]] @ weights[1 + _LAGS :]
        paths[:, t] = np.clip(weights[0] + own + other + rng.choice(errors, n), -bound, bound)
    return paths[:, len(y) :]


def find_members(y: np.ndarray, x: np.ndarray) -> dict[str, Member]:
    """Returns the ways to follow `x` that a history allows."""
    members: dict[str, Member] = {"gap": draw_gap}
    if np.ptp(x[: len(y)]) > 0:
        members |= {"line": draw_line}
    if (x >= 0).all() and (y >= 0).all() and x[: len(y)].max() > 0:
        members |= {"ratio": draw_ratio, "relative": draw_relative}
    if len(y) >= 6 * _LAGS and np.ptp(x[: len(y)]) > 0:
        members |= {"lagged": draw_lagged}
    return members


def draw_following(
    y: np.ndarray,
    times: pd.DatetimeIndex,
    points: Points,
    paths: np.ndarray,
    rng: np.random.Generator,
    anchors: Sequence[tuple[float, float]] = (),
) -> np.ndarray:
    """Draws paths that follow a companion, by the ways that did best on the end of the history.

    Args:
        y: History [L].
        times: [L + H].
        points: The companion's times and values.
        paths: The base's paths [n, H]; only their number is read.
        rng: Source of randomness.
        anchors: Pairs (companion, series) that hold beyond what the history shows.
    """
    x = spread_points(points, times)
    if anchors and not (x[: len(y)].min() <= x[len(y) :].min() and x[len(y) :].max() <= x[: len(y)].max()):
        return draw_anchored(y, x, anchors, len(paths), rng)
    members = find_members(y, x)
    shares = _weigh(y, x, members, rng)
    n = len(paths)
    counts = np.floor(np.array(list(shares.values())) * n).astype(int)
    counts[int(np.argmax(counts))] += n - counts.sum()
    drawn = np.concatenate([members[k](y, x, c, rng) for k, c in zip(shares, counts, strict=True) if c])
    if (y >= 0).all():
        drawn = np.maximum(drawn, 0.0)
    return np.minimum(drawn, x[len(y) :]) if is_ceiling(y, x) else drawn


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
    """Draws around what the history shows at the companion's value, and beyond it around the line to the anchor: [n, H].

    Where the companion leaves the history's range, the series is proportional to it through the anchor, and never
    nearer to zero than the history's value at the end of that range.
    """
    past, ahead = x[: len(y)], x[len(y) :]
    seen = {value: float(np.median(y[past == value])) for value in np.unique(past)}
    at, top = anchors[0]
    spread = np.std(y - np.array([seen[value] for value in past]))
    middle = np.interp(ahead, list(seen), list(seen.values()))
    beyond = (ahead > max(seen)) | (ahead < min(seen))
    scaled = top * ahead / at if at else np.full(len(ahead), top)
    edge = np.where(ahead > max(seen), seen[max(seen)], seen[min(seen)])
    middle[beyond] = np.where(np.abs(scaled) > np.abs(edge), scaled, edge)[beyond]
    width = spread + np.where(beyond, 0.06 * np.abs(middle), 0.0)
    return middle + width * (0.8 * rng.standard_normal((n, 1)) + 0.6 * rng.standard_normal((n, len(ahead))))


def _weigh(y: np.ndarray, x: np.ndarray, members: dict[str, Member], rng: np.random.Generator) -> dict[str, float]:
    """Back-tests the ways to follow on the last third of the history; returns their shares."""
    length = len(y)
    ahead = max(1, length // 4)
    first = length - ahead if length < 24 else length - 2 * ahead
    scores = {name: 0.0 for name in find_members(y[:first], x[: first + ahead])}
    for cutoff in sorted({first, length - ahead}):
        for name in scores:
            drawn = members[name](y[:cutoff], x[: cutoff + ahead], 40, rng)
            scores[name] += _compute_crps(drawn, y[cutoff : cutoff + ahead])
    best = max(min(scores.values()), 1e-12)
    shares = {name: float(np.exp(-2.5 * min(50.0, score / best - 1))) for name, score in scores.items()}
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
    state = words[np.maximum(np.searchsorted(at.asi8, times.asi8, side="right") - 1, 0)]  # [L + H]
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
