"""The reward of spoken effects: how much of the base's CRPS they take away, on a future that is known."""

import math

import numpy as np

from tsllm import metrics
from tsllm.context.applying import Base, Window, apply_effects, clean_history
from tsllm.context.blind import draw_blind
from tsllm.context.spoken import MOST, read_said


class EffectsGain:
    """CRPS that effects gain over the base forecast, a verifiable reward (RLVR, Lambert 2024; GRPO, Shao 2024).

    The CRPS (Gneiting & Raftery 2007, eq. 20) is taken of sample paths without and with the effects, and averaged over
    the horizon: `r = (CRPS(base) - CRPS(effects(base))) / s - cost * n`, with s the mean absolute seasonal difference
    of the history (the scale of MASE, Hyndman & Koehler 2006) and n the number of effects. Range [-bound, bound]: 0
    for writing `none`, above it for what brings the paths nearer to what came, below it for what leads away. What
    cannot be read, is longer than `most` lines, or cannot be carried out gets -bound, so that silence is better than
    noise. The cost of a line makes edits that repair the base a little, whatever the text says, not worth it.

    Where a wrong answer costs more than a right one gains, the best that a beginner finds is to say nothing at all.
    With `silence`, `none` costs that much where the text is known to say something, so that trying is worth it. (What
    the base loses, or what the right answer would gain, is the same for all answers to a text: taken off, it cancels
    within a group.)

    Args:
        bound: Largest gain and loss, in units of s.
        cost: Of a line, in units of s.
        most: Lines that are read.
        silence: What `none` costs, in units of s, where a call says that the text tells something.
        samples: Paths of the base.
        seed: Of its draws.
        base: Draws paths from a history; None = the pool of `tsllm.context.blind`.

    Raises:
        ValueError: If bound or samples are not above 0, cost is below 0, or silence is not in 0 to bound.

    Example:
        >>> import numpy as np, pandas as pd
        >>> times = pd.date_range("2024-01-01", periods=6, freq="h")
        >>> window = Window(np.array([10.0, 14.0, 10.0, 14.0]), times[:4], times[4:])  # steps of 4 on the average
        >>> reward = EffectsGain(cost=0.125, base=lambda past, n: np.full((n, 2), 12.0))
        >>> truth = np.array([6.0, 6.0])  # errors of 6 without effects, of 0 and of 2 with them
        >>> [reward(window, truth, said) for said in ("set 6", "add -4", "none", "multiply 2", "half")]
        [1.375, 0.875, 0.0, -3.0, -3.0]
    """

    def __init__(
        self,
        bound: float = 3.0,
        cost: float = 0.02,
        most: int = MOST,
        silence: float = 0.0,
        samples: int = 50,
        seed: int = 0,
        base: Base | None = None,
    ) -> None:
        for name, value in {"bound": bound, "samples": samples, "most": most}.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
                raise ValueError(f"effects_gain: {name} ({value!r}) must be a finite number above 0")
        if isinstance(cost, bool) or not isinstance(cost, int | float) or not 0 <= cost < math.inf:
            raise ValueError(f"effects_gain: cost ({cost!r}) must be a finite number, at least 0")
        if isinstance(silence, bool) or not isinstance(silence, int | float) or not 0 <= silence <= bound:
            raise ValueError(f"effects_gain: silence ({silence!r}) must lie in 0 to bound ({bound})")
        self.silence = float(silence)
        self.bound, self.cost, self.most, self.samples, self.seed = float(bound), float(cost), most, samples, seed
        self.low, self.high = -self.bound, self.bound
        self.base = base

    def __call__(
        self, window: Window, truth: np.ndarray, said: str, drawn: np.ndarray | None = None, told: bool = False,
        text: str = "",
    ) -> float:  # fmt: skip
        """Scores what was said of a window.

        Args:
            window: History and times.
            truth: What came [H], without gaps.
            said: Effects, one a line, or `none`.
            drawn: Paths of the base [n, H] where the caller has them (`draw`); None draws them.
            told: Whether the text says something that changes the future, so that silence costs.
            text: What was read, for effects that take a list from it.

        Returns:
            The reward, in [-bound, bound].

        Raises:
            ValueError: If the truth has gaps or another length than the horizon.
        """
        if truth.shape != (len(window.future_times),) or not np.isfinite(truth).all():
            raise ValueError(
                f"truth has shape {truth.shape} and {int((~np.isfinite(truth)).sum())} gaps; expected "
                f"{len(window.future_times)} steps without gaps"
            )
        effects = read_said(said, window, self.most, text)
        if effects is None:
            return self.low
        if told and not effects:
            return -self.silence
        before = self.draw(window) if drawn is None else drawn
        try:
            cleaned = clean_history(window, effects)
            paths = before if cleaned is window.past else self.draw(window, cleaned)
            renewed = Window(cleaned, window.past_times, window.future_times, window.season)
            with np.errstate(all="ignore"):
                after = apply_effects(renewed, effects, paths, self.seed)
        except (ValueError, OverflowError, ArithmeticError):
            return self.low  # a language model's answer must not stop its training
        if not np.isfinite(after).all():
            return self.low
        gain = _compute_crps(truth, before) - _compute_crps(truth, after)
        reward = gain / _compute_scale(window) - self.cost * len(effects)
        return float(np.clip(reward, self.low, self.high)) if math.isfinite(reward) else self.low

    def draw(self, window: Window, past: np.ndarray | None = None) -> np.ndarray:
        """Draws the base's paths [n, H].

        Args:
            window: History and times.
            past: A history in its place [L]; None = the window's own.
        """
        past = window.past if past is None else past
        if self.base is not None:
            return self.base(past, self.samples)
        return draw_blind(past, window.times, len(window.future_times), window.season, self.samples, self.seed)


def _compute_crps(truth: np.ndarray, paths: np.ndarray) -> float:
    return float(metrics.crps_samples(truth, paths.T))  # type: ignore[arg-type]  # a mean over all steps


def _compute_scale(window: Window) -> float:
    """Returns the mean absolute seasonal difference; for a constant history its size, or 1."""
    lag = window.season if len(window.past) > window.season else 1
    scale = float(np.abs(window.past[lag:] - window.past[:-lag]).mean())
    size = float(np.abs(window.past).max())
    return scale if scale > 16 * np.finfo(float).eps * size else size or 1.0
