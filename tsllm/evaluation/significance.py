"""Is a difference more than luck? Paired tests over windows and series, with confidence intervals.

Losses of windows that overlap are correlated, and losses of series at the same cutoff are too. So losses are averaged
over series first, which leaves one difference a cutoff, and the variance of their mean counts the correlation of
overlapping windows. With few cutoffs and many series (the M competitions) the roles are swapped.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import stats

from tsllm.types import CUTOFF, ID

Unit = Literal["cutoff", "series"]


@dataclass(frozen=True)
class DieboldMariano:
    """Result of a test of equal accuracy.

    Attributes:
        mean: Mean difference loss_a - loss_b; negative = a is better.
        statistic: Corrected statistic, referred to Student's t with n - 1 degrees of freedom.
        p_value: Two-sided.
        n: Differences.
        lags: Autocovariances counted.
        kernel: "rectangular", or "bartlett" where the rectangular variance was not positive.
    """

    mean: float
    statistic: float
    p_value: float
    n: int
    lags: int
    kernel: str


def diebold_mariano(loss_a: np.ndarray, loss_b: np.ndarray, overlap: int = 1) -> DieboldMariano:
    """Tests equal accuracy (Diebold & Mariano 1995) with the small-sample correction of Harvey et al. (1997).

    The long-run variance is g_0 + 2 sum_{k<overlap} g_k, the exact one for forecasts that overlap so; where it is not
    positive, Bartlett weights 1 - k / overlap take the place of 1. The statistic is multiplied by
    sqrt((n + 1 - 2 o + o (o - 1) / n) / n) for o = overlap.

    Args:
        loss_a: Losses [n] in the order of time.
        loss_b: Losses of the other model on the same windows [n].
        overlap: How many consecutive windows share a target step: ceil(h / step_size); 1 = none.

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
    d = a - b
    mean = float(d.mean())
    if np.ptp(d) == 0:
        # All differences equal: no noise. Zero is a tie, anything else is certain.
        return DieboldMariano(
            mean, 0.0 if mean == 0 else float(np.sign(mean) * np.inf), float(mean == 0), n, 0, "none"
        )
    centred = d - mean
    covariances = np.array([centred[k:] @ centred[: n - k] / n for k in range(overlap)])
    variance, kernel = covariances[0] + 2 * covariances[1:].sum(), "rectangular"
    if variance <= 0:
        weights = 1 - np.arange(1, overlap) / overlap
        variance, kernel = covariances[0] + 2 * (weights * covariances[1:]).sum(), "bartlett"
    correction = np.sqrt((n + 1 - 2 * overlap + overlap * (overlap - 1) / n) / n)
    statistic = float(correction * mean / np.sqrt(variance / n))
    return DieboldMariano(mean, statistic, float(2 * stats.t.sf(abs(statistic), n - 1)), n, overlap - 1, kernel)


@dataclass(frozen=True)
class Interval:
    """A confidence interval: estimate and bounds at `level` (0 to 1)."""

    estimate: float
    low: float
    high: float
    level: float


def bootstrap_skill(
    loss_a: np.ndarray,
    loss_b: np.ndarray,
    rng: np.random.Generator,
    overlap: int = 1,
    level: float = 0.95,
    n_samples: int = 2000,
) -> Interval:
    """Computes a confidence interval of the skill 1 - mean(a) / mean(b) by a circular moving-block bootstrap.

    Politis & Romano (1992): blocks of consecutive windows, wrapped around the end, are drawn for both models together.
    The block is the larger of the overlap and the cube root of n, so that overlapping windows stay together.

    Args:
        loss_a: Losses [n] in the order of time.
        loss_b: Losses of the reference on the same windows [n].
        rng: Source of randomness.
        overlap: As in `diebold_mariano`.
        level: Confidence, 0 to 1.
        n_samples: Bootstrap samples.

    Raises:
        ValueError: If sizes differ or the reference's loss is zero.
    """
    a, b = np.asarray(loss_a, dtype=float), np.asarray(loss_b, dtype=float)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise ValueError(f"losses have shapes {a.shape} and {b.shape}; both must be [n] with n > 0")
    if b.mean() == 0:
        raise ValueError("the reference has no error at all, so no skill against it is defined")
    n = len(a)
    block = min(n, max(overlap, int(np.ceil(n ** (1 / 3)))))
    starts = rng.integers(0, n, size=(n_samples, -(-n // block)))
    at = (starts[:, :, None] + np.arange(block)).reshape(n_samples, -1)[:, :n] % n  # [samples, n]
    skills = 1 - a[at].mean(1) / b[at].mean(1)
    tail = (1 - level) / 2
    low, high = np.quantile(skills, [tail, 1 - tail])
    return Interval(float(1 - a.mean() / b.mean()), float(low), float(high), level)


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


@dataclass(frozen=True)
class FriedmanNemenyi:
    """Ranks of k models over N blocks (data sets or series).

    Attributes:
        mean_ranks: Model -> mean rank; 1 = best.
        statistic: Friedman's chi-square, corrected for ties.
        p_value: Of the hypothesis that all models are alike.
        critical_difference: Mean ranks that differ by less are not told apart at `alpha` (Nemenyi 1963; Demsar 2006).
        p_pairs: Nemenyi p-value of each pair [model, model].
        blocks: N.
        alpha: Level.
    """

    mean_ranks: dict[str, float]
    statistic: float
    p_value: float
    critical_difference: float
    p_pairs: pd.DataFrame
    blocks: int
    alpha: float

    def groups(self) -> list[list[str]]:
        """Returns the largest sets of neighbouring models that are not told apart, best first; for the diagram."""
        order = sorted(self.mean_ranks, key=self.mean_ranks.__getitem__)
        found: list[list[str]] = []
        for i, first in enumerate(order):
            limit = self.mean_ranks[first] + self.critical_difference
            members = [m for m in order[i:] if self.mean_ranks[m] <= limit]
            if len(members) > 1 and not (found and members[-1] == found[-1][-1]):
                found.append(members)
        return found


def friedman_nemenyi(losses: pd.DataFrame, alpha: float = 0.05) -> FriedmanNemenyi:
    """Ranks models within each block and tests whether the mean ranks differ.

    Args:
        losses: One row a block (data set or series), one column a model; lower is better; complete.
        alpha: Level of the critical difference.

    Raises:
        ValueError: If there are fewer than three models or two blocks, or values are missing.
    """
    blocks, k = losses.shape
    if k < 3 or blocks < 2:
        raise ValueError(f"{k} models on {blocks} blocks: the Friedman test takes at least 3 models and 2 blocks")
    if losses.isna().to_numpy().any():
        raise ValueError("losses hold NaN; leave out models that failed, and say so")
    ranks = stats.rankdata(losses.to_numpy(), axis=1)  # [N, k]
    means = ranks.mean(0)
    statistic, p_value = (0.0, 1.0)
    if np.ptp(ranks):
        statistic, p_value = stats.friedmanchisquare(*losses.to_numpy().T)
    spread = np.sqrt(k * (k + 1) / (6 * blocks))
    critical = stats.studentized_range.ppf(1 - alpha, k, np.inf) / np.sqrt(2) * spread
    gaps = np.abs(means[:, None] - means) / spread * np.sqrt(2)
    pairs = pd.DataFrame(stats.studentized_range.sf(gaps, k, np.inf), losses.columns, losses.columns)
    return FriedmanNemenyi(
        dict(zip(losses.columns, means.tolist(), strict=True)),
        float(statistic),
        float(p_value),
        float(critical),
        pairs,
        blocks,
        alpha,
    )


def choose_unit(losses: pd.DataFrame) -> Unit:
    """Returns what is averaged away last: "cutoff" if there are at least as many cutoffs as series, else "series"."""
    per_series = losses.groupby(ID, sort=False).size()
    return "cutoff" if per_series.max() >= len(per_series) else "series"


def average_over(losses: pd.DataFrame, models: Sequence[str], unit: Unit) -> pd.DataFrame:
    """Averages window losses to one row a unit, in the order of time or of series.

    Args:
        losses: From `compute_window_losses`: `unique_id, cutoff` and the models.
        models: Columns.
        unit: "cutoff": mean over series at each position from the first cutoff on; "series": mean over cutoffs.
    """
    if unit == "series":
        return losses.groupby(ID, sort=False)[list(models)].mean()
    position = losses.sort_values([ID, CUTOFF], kind="stable").groupby(ID, sort=False).cumcount()
    return losses[list(models)].groupby(position.reindex(losses.index)).mean()


def compare_to(
    losses: pd.DataFrame,
    reference: str,
    rng: np.random.Generator,
    overlap: int = 1,
    alpha: float = 0.05,
    unit: Unit | None = None,
) -> pd.DataFrame:
    """Compares every model with a reference, pairwise over the windows that both forecast, with Holm's correction.

    Args:
        losses: From `compute_window_losses`, in scaled units if there are several series.
        reference: Alias that the others are compared with.
        rng: For the bootstrap.
        overlap: ceil(h / step_size).
        alpha: Level of test and interval.
        unit: What is paired; None = `choose_unit`.

    Returns:
        One row a model: `model, reference, skill, low, high, p_value, p_holm, verdict, n, unit`; the verdict is
        "better", "worse" or "no difference shown", and "not tested" where there is too little to test.

    Raises:
        ValueError: If the reference is none of the models.
    """
    models = [c for c in losses.columns if c not in (ID, CUTOFF)]
    if reference not in models:
        raise ValueError(f"reference {reference!r} is none of {models}")
    chosen = choose_unit(losses) if unit is None else unit
    rows: list[dict[str, Any]] = []
    for model in models:
        if model == reference:
            continue
        both = losses.dropna(subset=[model, reference])
        units = average_over(both, [model, reference], chosen)
        a, b = units[model].to_numpy(), units[reference].to_numpy()
        row: dict[str, Any] = {"model": model, "reference": reference, "n": len(units), "unit": chosen}
        shared = overlap if chosen == "cutoff" else 1
        row |= _test_pair(a, b, rng, shared, 1 - alpha)
        rows.append(row)
    columns = ["model", "reference", "skill", "low", "high", "p_value", "p_holm", "verdict", "n", "unit"]
    if not rows:
        return pd.DataFrame(columns=columns)
    table = pd.DataFrame(rows)
    table["p_holm"] = adjust_holm(table["p_value"].to_numpy())
    table["verdict"] = [_judge(p, skill, alpha) for p, skill in zip(table["p_holm"], table["skill"], strict=True)]
    return table[columns]


def _test_pair(a: np.ndarray, b: np.ndarray, rng: np.random.Generator, overlap: int, level: float) -> dict[str, float]:
    if not len(a) or b.mean() == 0:
        return {"skill": np.nan, "low": np.nan, "high": np.nan, "p_value": np.nan}
    interval = bootstrap_skill(a, b, rng, overlap, level)
    enough = len(a) > 2 * overlap and len(a) >= 3
    p_value = diebold_mariano(a, b, overlap).p_value if enough else np.nan
    return {"skill": interval.estimate, "low": interval.low, "high": interval.high, "p_value": p_value}


def _judge(p_value: float, skill: float, alpha: float) -> str:
    if np.isnan(p_value):
        return "not tested"
    if p_value >= alpha:
        return "no difference shown"
    return "better" if skill > 0 else "worse"
