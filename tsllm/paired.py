"""Is a mean difference of losses more than luck? One paired test whose size holds when differences are correlated.

Losses of consecutive windows are correlated: windows overlap, a hard week is hard for all its days. The classical
estimate of Diebold & Mariano (1995) counts the overlap only and rejects a true null of 5 % in 26 of 100 cases if
differences have an autocorrelation of .5. Here the long-run variance is the equal-weighted mean of the first few
cosine transforms, and the statistic is referred to Student's t with as many degrees of freedom (Mueller 2007; Lazarus,
Lewis, Stock & Watson 2018, "HAR Inference: Recommendations for Practice"). Few terms leave little bias and a wide t;
how many is their rule, made smaller by the data. `scripts/simulate_tests.py` measures the sizes.

The interval of the skill inverts the same test, so that the two never disagree.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

# The least average of the expected spectrum over the terms, as a share of that at frequency zero.
LEAST_SPECTRUM = 0.5
# How far above its estimate the persistence is taken to be, in standard errors.
CAUTION = 0.5
# Beyond this autocorrelation the simulated size of a nominal 5 % leaves 10 % behind with some 50 windows.
PERSISTENT = 0.9
# Fewer windows give the test so few terms that hardly any difference could be shown.
LEAST_WINDOWS = 10


@dataclass(frozen=True)
class Interval:
    """A confidence interval: estimate and bounds at `level` (0 to 1); infinite where the data bound nothing."""

    estimate: float
    low: float
    high: float
    level: float


@dataclass(frozen=True)
class DieboldMariano:
    """Result of a test of equal accuracy.

    Attributes:
        mean: Mean difference loss_a - loss_b; negative = a is better.
        statistic: The mean over its standard error.
        p_value: Two-sided, by Student's t with `freedom` degrees.
        n: Differences.
        terms: Cosine terms of the long-run variance.
        freedom: Degrees of freedom: the terms, or by Satterthwaite's rule if seeds count too.
        autocorrelation: Of the differences, at the first lag beyond the overlap, taken cautiously (0 to .97).
        seeds: Seeds that the variance counts; 1 = the result speaks of these trained models only.
        means: Mean losses of a and b.
        covariance: Of these two means, [2, 2].
    """

    mean: float
    statistic: float
    p_value: float
    n: int
    terms: int
    freedom: float
    autocorrelation: float
    seeds: int
    means: tuple[float, float]
    covariance: np.ndarray

    @property
    def is_persistent(self) -> bool:
        """Whether differences are so autocorrelated that the test may reject too often all the same."""
        return self.autocorrelation >= PERSISTENT

    def skill_interval(self, alpha: float = 0.05) -> Interval:
        """Returns the interval of the skill 1 - mean(a) / mean(b): all ratios that the test does not reject.

        Fieller (1954): the ratios r for which mean(a) - r mean(b) lies within its critical value. It excludes zero
        exactly if `p_value < alpha`. Where the mean of b itself is not told from zero, it is not bounded.

        Raises:
            ValueError: If b has no loss at all.
        """
        a, b = self.means
        if b == 0:
            raise ValueError("the reference has no error at all, so no skill against it is defined")
        ratio = a / b
        low, high = _invert_fieller(self.means, self.covariance, float(stats.t.isf(alpha / 2, self.freedom)))
        return Interval(1 - ratio, 1 - high, 1 - low, 1 - alpha)


def diebold_mariano(
    loss_a: np.ndarray,
    loss_b: np.ndarray,
    overlap: int = 1,
    *,
    terms: int | None = None,
    seeds: np.ndarray | None = None,
    same_seeds: bool = False,
) -> DieboldMariano:
    """Tests equal accuracy (Diebold & Mariano 1995) with a long-run variance from cosine terms.

    With d_t = a_t - b_t, t = 1 ... n, the variance of their mean is S / n,
    S = sum_j (sqrt(2 / n) sum_t d_t cos(pi j (t - 1/2) / n))^2 / B over the terms j = 1 ... B, divided by the mean of
    the expected spectrum over the terms (`choose_terms`), a bias correction. With B = n - 1 and no correction this is
    the paired t-test exactly.

    Models that were trained several times differ between seeds too, which the variance over time does not see. With
    `seeds` the variance of each model's mean over its seeds is added and the degrees of freedom follow from
    Satterthwaite (1946), so that the result speaks of the algorithm instead of the weights. Part of the noise is then
    counted twice, on the safe side.

    Args:
        loss_a: Losses [n] in the order of time, averaged over seeds.
        loss_b: Losses of the other model on the same windows [n].
        overlap: How many consecutive windows share a target step: ceil(h / step_size); 1 = none.
        terms: B; None = `choose_terms`. n - 1 for differences that are known to be independent.
        seeds: Mean loss of a and b for each seed [seeds, 2]; a model that draws nothing repeats its own. None or one
            row: the seeds do not count.
        same_seeds: Whether a and b of one seed belong together (a policy and its own start), so that their difference
            varies between seeds; otherwise each varies on its own.

    Raises:
        ValueError: If sizes differ, values are missing or there are too few windows.
    """
    a, b = np.asarray(loss_a, dtype=float), np.asarray(loss_b, dtype=float)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"losses have shapes {a.shape} and {b.shape}; both must be [n]")
    if np.isnan(a).any() or np.isnan(b).any():
        raise ValueError("losses hold NaN; test the windows that both models forecast")
    n = len(a)
    if overlap < 1 or n <= 2 * overlap or n < 3:
        raise ValueError(
            f"{n} windows are too few for windows of which {overlap} overlap; it takes more than twice as many, and 3"
        )
    if terms is not None and not 1 <= terms < n:
        raise ValueError(f"terms is {terms}; {n} windows have 1 to {n - 1}")
    d = a - b
    chosen, spectrum, autocorrelation = choose_terms(d, overlap)
    if terms is not None:
        chosen, spectrum = terms, 1.0
    transformed = transform(np.stack([a, b]), chosen)  # [2, B]
    covariance = transformed @ transformed.T / (chosen * spectrum * n)  # [2, 2]
    contrast = np.array([1.0, -1.0])
    parts = [(float(contrast @ covariance @ contrast), float(chosen))]
    count = 1 if seeds is None else len(seeds)
    if seeds is not None and count > 1:
        between, of_seeds = _count_seeds(np.asarray(seeds, dtype=float), same_seeds)
        covariance = covariance + between
        parts += of_seeds
    variance = sum(v for v, _ in parts)
    freedom = variance**2 / sum(v**2 / f for v, f in parts) if variance > 0 else float(chosen)
    mean = float(d.mean())
    means = (float(a.mean()), float(b.mean()))
    if np.ptp(d) == 0 and len(parts) == 1:
        # All differences equal: no noise. Zero is a tie, anything else is certain.
        statistic = 0.0 if mean == 0 else float(np.sign(mean) * np.inf)
        p_value, chosen, autocorrelation = float(mean == 0), n - 1, 0.0
    else:
        statistic = float(mean / np.sqrt(variance)) if variance > 0 else float(np.sign(mean) * np.inf)
        p_value = float(2 * stats.t.sf(abs(statistic), freedom))
    return DieboldMariano(mean, statistic, p_value, n, chosen, freedom, autocorrelation, count, means, covariance)


def choose_terms(differences: np.ndarray, overlap: int = 1) -> tuple[int, float, float]:
    """Chooses how many cosine terms estimate the long-run variance.

    At most .4 n^(2/3), the rule of Lazarus et al. (2018), and no more than leave the expected spectrum, averaged over
    the terms, at half of its value at zero. Expected is that of an autoregression of order one, seen through windows
    that overlap: (sin(o w / 2) / (o sin(w / 2)))^2 (1 - r)^2 / (1 - 2 r cos(o w) + r^2) with o the overlap and r the
    autocorrelation at lag o. Without overlap r is corrected for its bias (Marriott & Pope 1954) and raised by half a
    standard error, so that persistence is not understated. At least two terms.

    Args:
        differences: [n].
        overlap: As in `diebold_mariano`.

    Returns:
        The terms, the expected spectrum averaged over them (0 to 1), and r (0 to .97).
    """
    n = len(differences)
    centred = differences - differences.mean()
    total = centred @ centred
    r = float(centred[overlap:] @ centred[:-overlap] / total) if total > 0 else 0.0
    if overlap == 1:
        r += (1 + 4 * r) / n + CAUTION * np.sqrt(max(0.0, 1 - r**2) / n)
    r = float(np.clip(r, 0.0, 0.97))
    most = min(n - 1, max(2, round(0.4 * n ** (2 / 3))))
    number = np.arange(1, most + 1)
    w = np.pi * number / n  # frequencies of the cosines, radians a window
    windows = (np.sin(overlap * w / 2) / (overlap * np.sin(w / 2))) ** 2
    persistence = (1 - r) ** 2 / (1 - 2 * r * np.cos(overlap * w) + r**2)
    average = np.cumsum(windows * persistence) / number
    terms = max(min(2, most), int((average >= LEAST_SPECTRUM).sum()))
    return terms, float(average[terms - 1]), r


def transform(losses: np.ndarray, terms: int) -> np.ndarray:
    """Returns the first cosine transforms of series [..., n], orthonormal, without the constant: [..., terms]."""
    n = losses.shape[-1]
    angles = np.pi * np.arange(1, terms + 1)[:, None] * (np.arange(n) + 0.5) / n  # [B, n]
    return losses @ (np.sqrt(2 / n) * np.cos(angles)).T


def _count_seeds(seeds: np.ndarray, same: bool) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """Returns the covariance [2, 2] of the means that seeds [K, 2] cause, and the parts (variance, freedom) of it."""
    k = len(seeds)
    covariance = np.atleast_2d(np.cov(seeds.T)) / k
    if same:
        differences = seeds[:, 0] - seeds[:, 1]
        return covariance, [(float(differences.var(ddof=1)) / k, k - 1.0)]
    own = np.diag(np.diag(covariance))
    return own, [(float(v), k - 1.0) for v in np.diag(own) if v > 0]


def _invert_fieller(means: tuple[float, float], covariance: np.ndarray, critical: float) -> tuple[float, float]:
    """Returns the ratios r >= 0 with (a - r b)^2 <= critical^2 Var(a - r b), as one interval that holds a / b."""
    (a, b), c = means, critical**2 * covariance
    ratio = a / b
    square, half, constant = b * b - c[1, 1], a * b - c[0, 1], a * a - c[0, 0]
    root = float(np.sqrt(max(0.0, half * half - square * constant)))
    if square > 0:
        return max(0.0, (half - root) / square), (half + root) / square
    # The denominator is not told from zero: everything, or everything but a gap between the roots.
    if constant + square - 2 * half > 0:  # the test rejects a ratio of one, which then lies in the gap
        ends = sorted(((half - root) / square, (half + root) / square))
        return (0.0, ends[0]) if ratio < 1 else (ends[1], np.inf)
    return 0.0, np.inf


def adjust_holm(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Adjusts p-values for their number (Holm 1979), in the given order; NaN = not tested, and not counted."""
    p = np.asarray(p_values, dtype=float)
    adjusted = np.full_like(p, np.nan)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    running = 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(order) - rank) * p[index]))
        adjusted[index] = running
    return adjusted
