"""Carrying effects out on sample paths: history cleaned, base drawn, paths changed where the effects speak."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tsllm.context.blind import draw_blind
from tsllm.context.effects import MONTHS, WEEKDAYS, Effect
from tsllm.context.following import draw_following, draw_states

Base = Callable[[np.ndarray, int], np.ndarray]  # history [L], paths -> [paths, H]
REDRAW = ("follow", "states", "daylight", "total", "like")  # these put other paths in the place of the base's


@dataclass(frozen=True)
class Window:
    """A history and the times to forecast.

    Attributes:
        past: [L], no gaps.
        past_times: [L].
        future_times: [H].
        season: Steps in a season; 1 = none.
    """

    past: np.ndarray
    past_times: pd.DatetimeIndex
    future_times: pd.DatetimeIndex
    season: int = 1

    @property
    def times(self) -> pd.DatetimeIndex:
        """All times [L + H]."""
        return pd.DatetimeIndex(self.past_times.append(self.future_times))


def draw_with_effects(
    window: Window, effects: Sequence[Effect], n: int = 100, seed: int = 0, base: Base | None = None
) -> np.ndarray:
    """Draws sample paths that effects have changed.

    Args:
        window: History and times.
        effects: In the order in which they act on the forecast; bounds always act last.
        n: Paths.
        seed: Of all draws.
        base: Draws paths from a history; None = the pool of `tsllm.context.blind`.

    Returns:
        [n, H]; exactly what the base draws if there are no effects.
    """
    past = clean_history(window, effects)
    if base is None:
        paths = draw_blind(past, window.times, len(window.future_times), window.season, n, seed)
    else:
        paths = base(past, n)
    if not effects:
        return paths
    return apply_effects(Window(past, window.past_times, window.future_times, window.season), effects, paths, seed)


def clean_history(window: Window, effects: Sequence[Effect]) -> np.ndarray:
    """Fills in the steps of the history that effects say to ignore: [L].

    A step takes the nearest kept value of the same phase of the season, or the line between the nearest kept steps.
    An effect that would leave less than three steps is not carried out.
    """
    wrong = np.zeros(len(window.past), dtype=bool)
    for effect in effects:
        if effect.kind == "ignore":
            wrong |= effect.covers(window.past_times)
    good = ~wrong & np.isfinite(window.past)
    if not wrong.any() or good.sum() < 3:
        return window.past
    kept, past = np.flatnonzero(good), window.past.copy()
    line = np.interp(np.arange(len(past)), kept, past[kept])
    for step in np.flatnonzero(wrong):
        same = kept[(kept - step) % window.season == 0] if window.season > 1 else kept[:0]
        past[step] = window.past[same[np.argmin(np.abs(same - step))]] if len(same) else line[step]
    return past


def apply_effects(window: Window, effects: Sequence[Effect], paths: np.ndarray, seed: int = 0) -> np.ndarray:
    """Changes paths [n, H]; the paths given stay as they are.

    First come effects that put other paths in place (`follow`, `states`, `daylight`, `total`, `like`), then the
    arithmetic ones in their order, then `cap` and `floor`.

    Raises:
        ValueError: If an effect reads the history and that misses values.
    """
    if not effects:
        return paths
    if any(e.kind in REDRAW for e in effects) and not np.isfinite(window.past).all():
        kind = next(e.kind for e in effects if e.kind in REDRAW)
        raise ValueError(f"effect {kind!r} reads the history, which misses values; fill them in first")
    paths, rng = paths.copy(), np.random.default_rng(seed + 1)
    for kind in REDRAW:
        for effect in effects:
            if effect.kind == kind:
                drawn = _redraw(window, effect, effects, paths, rng)
                # The span of daylight is that of the sun.
                steps = effect.covers(window.future_times) | (kind == "daylight")
                paths = np.where(steps, drawn, paths)
    for effect in effects:
        steps = effect.covers(window.future_times)
        if effect.kind in _ARITHMETIC and steps.any():
            _ARITHMETIC[effect.kind](window, effect, steps, paths)
    for effect in effects:
        steps = effect.covers(window.future_times)
        if effect.kind == "cap":
            paths[:, steps] = np.minimum(paths[:, steps], float(effect.number or 0.0))
        elif effect.kind == "floor":
            paths[:, steps] = np.maximum(paths[:, steps], float(effect.number or 0.0))
    return paths


def _redraw(
    window: Window, effect: Effect, effects: Sequence[Effect], paths: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    if effect.kind == "follow":
        companions = [
            e.points for e in effects if e.kind == "follow" and (e.start, e.end) == (effect.start, effect.end)
        ]
        if effect.points is not companions[0]:
            return paths  # all of a span are followed together, at the first
        anchors = [(float(e.word), float(e.number or 0)) for e in effects if e.kind == "through"]
        return draw_following(window.past, window.times, companions, paths, rng, anchors)
    if effect.kind == "states":
        return draw_states(window.past, window.times, effect.points, window.season, paths, rng)
    if effect.kind == "daylight":
        return draw_daylight(window, effect, paths, rng)
    if effect.kind == "total":
        months = [e.word for e in effects if e.kind == "peak"]
        return draw_total(window, float(effect.number or 0.0), months[0] if months else "", paths, rng)
    return _draw_like(window, effect, paths, rng)


def _multiply(_: Window, effect: Effect, steps: np.ndarray, paths: np.ndarray) -> None:
    paths[:, steps] *= effect.number


def _add(_: Window, effect: Effect, steps: np.ndarray, paths: np.ndarray) -> None:
    paths[:, steps] += effect.number


def _set(_: Window, effect: Effect, steps: np.ndarray, paths: np.ndarray) -> None:
    paths[:, steps] = effect.number


def _slope(_: Window, effect: Effect, steps: np.ndarray, paths: np.ndarray) -> None:
    paths[:, steps] += float(effect.number or 0) * np.arange(1, steps.sum() + 1)


def _delay(window: Window, effect: Effect, steps: np.ndarray, paths: np.ndarray) -> None:
    """Moves what stands in the span to the right, or by less than nothing to the left; what is next to it fills in."""
    inside = np.flatnonzero(steps)
    lag = round(float(effect.number or 0))
    old = paths[:, inside].copy()
    before = paths[:, inside[0] - 1].copy() if inside[0] > 0 else np.full(len(paths), window.past[-1])
    behind = paths[:, inside[-1] + 1].copy() if inside[-1] + 1 < paths.shape[1] else old[:, -1]
    for k, step in enumerate(inside):
        at = k - lag
        paths[:, step] = before if at < 0 else behind if at >= len(inside) else old[:, at]


_ARITHMETIC = {"multiply": _multiply, "add": _add, "set": _set, "slope": _slope, "delay": _delay}


def _draw_like(window: Window, effect: Effect, paths: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draws steps of the span from the same clock time on a weekday or in a month, or else near it.

    Near a weekday is the same side of the week; of a month first come days on the same side of the week, then all.
    """
    clock, weekend = window.past_times.strftime("%H:%M:%S"), window.past_times.dayofweek.to_numpy() >= 5
    for step in map(int, np.flatnonzero(effect.covers(window.future_times))):
        time = window.future_times[step]
        now = clock == time.strftime("%H:%M:%S")
        if effect.word in MONTHS:
            near = now & (window.past_times.month.to_numpy() == MONTHS.index(effect.word) + 1)
            same = near & (weekend == (time.dayofweek >= 5))
        else:
            day = WEEKDAYS.index(effect.word)
            near = now & (weekend == (day >= 5))
            same = now & (window.past_times.dayofweek.to_numpy() == day)
        same = same if same.sum() >= 2 else near
        if same.any():
            spread = 0.5 * np.std(window.past[near]) if same.sum() < 4 else 0.0
            paths[:, step] = rng.choice(window.past[same], len(paths)) + spread * rng.standard_normal(len(paths))
    return np.maximum(paths, 0.0) if window.past.min() >= 0 else paths


def draw_total(window: Window, total: float, month: str, paths: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draws counts whose expectation over a year is `total`, as a gamma-Poisson mixture: [n, H].

    The expected share of a month follows a raised cosine around the month of the peak, or is flat if none is known.
    The level is a compromise between the total and what the history shows of the same curve. Where the history does
    not count (its values are no whole numbers of at least 0), a yearly figure is no total, and the paths stay.
    """
    if (window.past < 0).any() or (window.past % 1 != 0).any():
        return paths
    day = np.asarray(window.times.dayofyear)
    step = float(np.median(np.diff(window.times.to_numpy()) / np.timedelta64(1, "D")))  # days
    curve = np.ones(len(day))
    if month:
        middle = MONTHS.index(month) * 30.44 + 15
        curve = (1 + np.cos(2 * np.pi * (day + min(step, 31) / 2 - middle) / 365.25)) / 2
        curve = (0.08 + curve**1.5) / np.mean(0.08 + ((1 + np.cos(np.linspace(0, 2 * np.pi, 365))) / 2) ** 1.5)
    expected = total * step / 365.25 * curve  # [L + H]
    length = len(window.past)
    seen, hoped = window.past.sum(), expected[:length].sum()
    prior = max(1.0, total / 12)
    level = (seen + prior) / (hoped + prior)
    mean = level**0.5 * expected[length:]
    shape = 4.0
    drawn = rng.poisson(rng.gamma(shape, 1 / shape, (len(paths), 1)) * rng.gamma(6.0, 1 / 6.0, paths.shape) * mean)
    return drawn.astype(float)


def draw_daylight(window: Window, effect: Effect, paths: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draws the rest of a day under the sun: the history's share of a clear day's curve, resampled: [n, H].

    Sunrise is where the history of a day leaves zero, and noon lies at 12:20, unless the span says when the sun rises
    and sets; the curve is a cosine between them. Without a sunrise the paths stay as they are.
    """
    step = (window.times[1] - window.times[0]).total_seconds() / 3600
    if step > 1 or len(window.past) > 36 / step:
        return paths  # whole days in the history tell more than a curve
    hour = (window.times.hour + window.times.minute / 60 + window.times.second / 3600).to_numpy()
    length = len(window.past)
    light = np.flatnonzero(window.past > 0.01 * max(window.past.max(), 1e-9))
    if not len(light) or light[0] == 0 or not np.isclose(hour[light[0]], 7, atol=3.5):
        return paths
    sunrise, noon = hour[light[0]] - step, 12.3
    if effect.start is not None and effect.end is not None:
        sunrise, sunset = (t.hour + t.minute / 60 for t in (effect.start, effect.end))
        noon = (sunrise + sunset) / 2
    height = np.maximum(0, np.cos(np.pi / 2 * np.clip((hour - noon) / (noon - sunrise), -1, 1)))  # [L + H]
    used = np.flatnonzero(height[:length] > 0.1)
    if not len(used):
        return paths
    drawn = np.empty_like(paths)
    for row in range(len(paths)):
        # How steeply a morning rises depends on latitude, season and the tilt of a panel, which nobody told.
        curve = height ** rng.uniform(0.7, 1.2)
        share = window.past[used] / curve[used]
        level = rng.choice(share[-max(4, round(2 / step)) :])
        wobble = 0.6 * level + 0.4 * rng.choice(share[-max(8, round(4 / step)) :], paths.shape[1])
        drawn[row] = np.maximum(0.0, wobble * curve[length:])
    return drawn
