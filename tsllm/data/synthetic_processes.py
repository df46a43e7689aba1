"""Families of synthetic series, each a function that draws many at once.

Every family is `draw(rng, count, length, season) -> [count, length]`: series of about unit noise around no particular
level. `season` is the number of steps in a season, 1 for none. The stream (`tsllm.data.synthetic`) mixes families and
gives them levels, signs, breaks and gaps.
"""

from collections.abc import Callable

import numpy as np
from scipy.signal import lfilter

from tsllm.registry import Registry

Draw = Callable[[np.random.Generator, int, int, int], np.ndarray]


def draw_log_uniform(rng: np.random.Generator, low: float, high: float, size: int | tuple[int, ...]) -> np.ndarray:
    """Draws numbers whose logarithm is uniform between those of `low` and `high`."""
    return np.exp(rng.uniform(np.log(low), np.log(high), size))


def draw_noise(rng: np.random.Generator, count: int, length: int) -> np.ndarray:
    """Draws unit white noise [count, length]: normal, or with the tails of Student's t of 3 to 10 degrees."""
    normal = rng.standard_normal((count, length))
    degrees = rng.uniform(3, 10, (count, 1))
    tails = np.sqrt((degrees - 2) / rng.chisquare(degrees, (count, length)))
    return np.where(rng.random((count, 1)) < 0.3, normal * tails, normal)


def draw_profile(rng: np.random.Generator, count: int, season: int) -> np.ndarray:
    """Draws seasonal profiles [count, season] of mean 0 and deviation 1: smooth waves, rough ones, and peaks.

    A season of 1 has none: zeros.
    """
    if season == 1:
        return np.zeros((count, 1))
    phase = 2 * np.pi * np.arange(season) / season
    orders = np.arange(1, season // 2 + 1)
    decay = orders ** -rng.uniform(0.5, 2.5, (count, 1)) * (rng.random((count, len(orders))) < 0.7)  # [count, K]
    angles = rng.uniform(0, 2 * np.pi, (count, len(orders), 1))
    waves = (decay[:, :, None] * np.cos(orders[:, None] * phase + angles)).sum(1)  # [count, season]
    rough = rng.standard_normal((count, season))
    peaks = np.where(rng.random((count, season)) < 0.15, rng.exponential(1.0, (count, season)), 0.0)
    kind = rng.random((count, 1))
    profile = np.where(kind < 0.55, waves, np.where(kind < 0.85, rough, peaks))
    profile = profile - profile.mean(1, keepdims=True)
    deviation = profile.std(1, keepdims=True)
    return np.where(deviation > 1e-6, profile / np.maximum(deviation, 1e-6), 0.0)


def draw_exponential_smoothing(rng: np.random.Generator, count: int, length: int, season: int) -> np.ndarray:
    """Innovations state space models of ETS (Hyndman 2008, chapter 2): level, damped slope, season, one error."""
    errors = draw_noise(rng, count, length)
    alpha = np.where(rng.random(count) < 0.15, 0.0, rng.beta(1.0, 1.3, count))
    beta = np.where(rng.random(count) < 0.4, alpha * rng.uniform(0, 0.4, count), 0.0)
    damping = np.where(rng.random(count) < 0.5, 1.0, rng.uniform(0.8, 0.99, count))
    gamma = np.where(rng.random(count) < 0.5, 0.0, (1 - alpha) * rng.uniform(0, 0.4, count))
    level = np.zeros(count)
    slope = np.where(rng.random(count) < 0.65, rng.standard_normal(count) * draw_log_uniform(rng, 0.01, 1, count), 0)
    slope = np.where(damping < 1, slope * draw_log_uniform(rng, 1, 5, count), slope)
    states = draw_profile(rng, count, season) * draw_log_uniform(rng, 0.2, 12, (count, 1))
    states = np.where(rng.random((count, 1)) < 0.15, 0.0, states)
    gamma = gamma * (season > 1)
    series = np.empty((count, length))
    for t in range(length):
        at = t % season
        error = errors[:, t]
        drift = damping * slope
        series[:, t] = level + drift + states[:, at] + error
        level = level + drift + alpha * error
        slope = drift + beta * error
        states[:, at] += gamma * error
    return series


def draw_arma_coefficients(rng: np.random.Generator, order: int) -> np.ndarray:
    """Draws a stable AR polynomial [order + 1], beginning with 1, from partial autocorrelations (Monahan 1984)."""
    polynomial = np.ones(1)
    for partial in rng.uniform(-0.5, 0.95, 1) if order == 1 else rng.uniform(-0.85, 0.9, order):
        extended = np.append(polynomial, 0.0)
        polynomial = extended - partial * extended[::-1]
    return polynomial


def draw_arima(rng: np.random.Generator, count: int, length: int, season: int) -> np.ndarray:
    """Seasonal ARIMA processes with drift (Box & Jenkins 1970), started well before their first step."""
    burn = 4 * season + 50
    errors = draw_noise(rng, count, burn + length)
    series = np.empty((count, length))
    for k in range(count):
        ar = draw_arma_coefficients(rng, int(rng.integers(0, 4)))
        ma = draw_arma_coefficients(rng, int(rng.integers(0, 3)))
        if season > 1:
            seasonal_ar, seasonal_ma = np.zeros(season + 1), np.zeros(season + 1)
            seasonal_ar[0] = seasonal_ma[0] = 1.0
            seasonal_ar[-1] = -rng.uniform(0, 0.9) * (rng.random() < 0.4)
            seasonal_ma[-1] = -rng.uniform(0, 0.9) * (rng.random() < 0.6)
            ar, ma = np.convolve(ar, seasonal_ar), np.convolve(ma, seasonal_ma)
        stationary = lfilter(ma, ar, errors[k])
        stationary /= max(float(stationary.std()), 1e-6)
        steady = stationary[burn:]
        drift = rng.standard_normal() * draw_log_uniform(rng, 0.003, 0.5, 1)[0] * (rng.random() < 0.6)
        if season > 1 and rng.random() < 0.5:
            seasonal = lfilter([1.0], np.concatenate([[1.0], np.zeros(season - 1), [-1.0]]), stationary)[burn:]
            ratio = draw_log_uniform(rng, 0.3, 3, 1)[0]
            profile = draw_profile(rng, 1, season)[0] * draw_log_uniform(rng, 0.5, 12, 1)[0]
            steady = seasonal * ratio + profile[np.arange(length) % season]
        kind = rng.random()
        if kind < (0.65 if season == 1 else 0.5):
            steady = np.cumsum(steady) if season == 1 or kind < 0.1 else steady + np.cumsum(errors[k, burn:]) * 0.5
        elif kind < 0.72 and season == 1:
            steady = np.cumsum(np.cumsum(steady) * 0.2)
        series[k] = steady + drift * np.arange(length)
    return series


def draw_walk(rng: np.random.Generator, count: int, length: int, season: int) -> np.ndarray:
    """Random walks, mean-reverting diffusions and local trends under changing volatility, with a profile in some."""
    volatility = np.exp(lfilter([0.15], [1, -0.98], rng.standard_normal((count, length)), axis=1))
    steps = draw_noise(rng, count, length)
    steps = np.where(rng.random((count, 1)) < 0.35, steps * volatility, steps)
    series = np.empty((count, length))
    for k in range(count):
        pull = 0.0 if rng.random() < 0.6 else draw_log_uniform(rng, 0.01, 0.5, 1)[0]
        series[k] = lfilter([1.0], [1.0, pull - 1.0], steps[k])
    drift = rng.standard_normal((count, 1)) * draw_log_uniform(rng, 0.01, 0.8, (count, 1))
    series += drift * (rng.random((count, 1)) < 0.6) * np.arange(length)
    series += draw_noise(rng, count, length) * rng.uniform(0, 2, (count, 1)) * (rng.random((count, 1)) < 0.5)
    profile = draw_profile(rng, count, season) * draw_log_uniform(rng, 0.5, 10, (count, 1))
    profile *= rng.random((count, 1)) < 0.6
    return series + profile[:, np.arange(length) % season]


def draw_trend(rng: np.random.Generator, count: int, length: int) -> np.ndarray:
    """Draws trends [count, length] that range over about 1: none, straight, bent, saturating, quadratic."""
    time = np.linspace(0, 1, length)
    straight = rng.standard_normal((count, 1)) * time
    bends = np.zeros((count, length))
    for _ in range(3):
        at, turn = rng.uniform(0, 1, (count, 1)), rng.standard_normal((count, 1)) * (rng.random((count, 1)) < 0.6)
        bends += turn * np.maximum(time - at, 0)
    middle, rate = rng.uniform(-0.2, 1.2, (count, 1)), draw_log_uniform(rng, 2, 20, (count, 1))
    logistic = rng.choice([-1.0, 1.0], (count, 1)) / (1 + np.exp(-rate * (time - middle)))
    quadratic = rng.standard_normal((count, 1)) * (time - rng.uniform(0, 1, (count, 1))) ** 2
    kinds = np.stack([np.zeros_like(straight), straight, straight + bends, logistic, quadratic])  # [5, count, length]
    chosen = rng.choice(5, count, p=[0.15, 0.3, 0.3, 0.15, 0.1])
    return kinds[chosen, np.arange(count)]


def draw_trend_season(rng: np.random.Generator, count: int, length: int, season: int) -> np.ndarray:
    """Trend x season x noise: products or sums, the season's size drifting, the noise with memory."""
    trend = draw_trend(rng, count, length) * draw_log_uniform(rng, 1, 40, (count, 1))
    profile = draw_profile(rng, count, season)[:, np.arange(length) % season]
    size = draw_log_uniform(rng, 0.3, 15, (count, 1)) * (rng.random((count, 1)) < 0.85)
    drifting = np.exp(rng.standard_normal((count, 1)) * 0.5 * np.linspace(-1, 1, length))
    size = np.where(rng.random((count, 1)) < 0.4, size * drifting, np.broadcast_to(size, (count, length)))
    spread = np.abs(trend).max(1, keepdims=True) + 1e-6
    growing = np.where(rng.random((count, 1)) < 0.4, 1 + 0.7 * trend / spread, 1.0)
    noise = draw_noise(rng, count, length)
    for k in np.flatnonzero(rng.random(count) < 0.5):
        memory = rng.uniform(0, 0.9)
        noise[k] = lfilter([np.sqrt(1 - memory**2)], [1, -memory], noise[k])
    return trend + growing * (size * profile + noise)


def draw_gaussian_process(rng: np.random.Generator, count: int, length: int, season: int) -> np.ndarray:
    """KernelSynth (Ansari 2024, algorithm 2): sums and products of kernels; eight series share a composition."""
    parts = []
    steps = np.arange(length, dtype=float)
    gaps = np.abs(steps[:, None] - steps)  # [length, length]
    for _ in range(-(-count // 8)):
        kernel = _draw_kernel(rng, steps, gaps, season)
        for _ in range(int(rng.integers(0, 4))):
            other = _draw_kernel(rng, steps, gaps, season)
            kernel = kernel + other if rng.random() < 0.6 else kernel * other
        variance = np.trace(kernel) / length
        kernel = kernel / max(float(variance), 1e-9)
        nugget = draw_log_uniform(rng, 1e-4, 0.3, 1)[0]
        root = np.linalg.cholesky(kernel + (nugget + 1e-6) * np.eye(length))
        parts.append(rng.standard_normal((8, length)) @ root.T)
    return np.concatenate(parts)[:count] * 3


def _draw_kernel(rng: np.random.Generator, steps: np.ndarray, gaps: np.ndarray, season: int) -> np.ndarray:
    """Draws one kernel matrix [length, length] of unit order: smooth, rough, periodic, linear or constant."""
    length = len(steps)
    scale = draw_log_uniform(rng, 2, 2 * length, 1)[0]
    kind = rng.choice(5, p=[0.25, 0.15, 0.35, 0.2, 0.05] if season > 1 else [0.4, 0.25, 0.05, 0.25, 0.05])
    if kind == 0:
        return np.exp(-0.5 * (gaps / scale) ** 2)
    if kind == 1:
        mixture = draw_log_uniform(rng, 0.1, 3, 1)[0]
        return (1 + gaps**2 / (2 * mixture * scale**2)) ** -mixture
    if kind == 2:
        period = season if season > 1 else draw_log_uniform(rng, 3, length, 1)[0]
        width = draw_log_uniform(rng, 0.3, 2, 1)[0]
        return np.exp(-2 * np.sin(np.pi * gaps / period) ** 2 / width**2)
    if kind == 3:
        centred = (steps - rng.uniform(0, length)) / length
        return np.outer(centred, centred) * 3
    return np.ones_like(gaps)


def draw_intermittent(rng: np.random.Generator, count: int, length: int, season: int) -> np.ndarray:
    """Counts that are often 0: occurrences and sizes follow a rate with a season and slow changes."""
    profile = draw_profile(rng, count, season)[:, np.arange(length) % season]
    slow = lfilter([0.1], [1, -0.99], rng.standard_normal((count, length)), axis=1)
    logits = rng.uniform(-2.5, 1.5, (count, 1)) + rng.uniform(0, 1.2, (count, 1)) * profile + slow
    happens = rng.random((count, length)) < 1 / (1 + np.exp(-logits))
    mean = draw_log_uniform(rng, 0.5, 30, (count, 1)) * np.exp(0.3 * profile * rng.uniform(0, 1, (count, 1)))
    shape = draw_log_uniform(rng, 0.5, 20, (count, 1))
    sizes = 1 + rng.poisson(mean * rng.gamma(shape, 1 / shape, (count, length)))
    return np.where(happens, sizes, 0.0)


def draw_pulses(rng: np.random.Generator, count: int, length: int, season: int) -> np.ndarray:
    """Steps and spikes: a level that jumps now and then, spikes at random or at one phase of the season, noise."""
    jumps = (rng.random((count, length)) < draw_log_uniform(rng, 0.002, 0.05, (count, 1))) * rng.standard_normal(
        (count, length)
    )
    level = np.cumsum(jumps, 1) * draw_log_uniform(rng, 1, 20, (count, 1))
    phase = (np.arange(length) + rng.integers(0, season, (count, 1))) % season == 0
    random = rng.random((count, length)) < 0.05
    where = np.where((rng.random((count, 1)) < 0.7) & (season > 1), phase, random)
    heights = rng.gamma(4.0, 0.25, (count, length)) * draw_log_uniform(rng, 2, 20, (count, 1))
    noise = draw_noise(rng, count, length) * rng.uniform(0.1, 1.5, (count, 1))
    return level + where * heights + noise


FAMILIES: Registry[Draw] = Registry(
    "family of synthetic series",
    {
        "ets": draw_exponential_smoothing,
        "arima": draw_arima,
        "walk": draw_walk,
        "trend_season": draw_trend_season,
        "gp": draw_gaussian_process,
        "intermittent": draw_intermittent,
        "pulses": draw_pulses,
    },
)
