"""The score of Context is Key: CRPS over a region of interest, scaled, with a penalty for broken bounds."""

from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np

from tsllm.data.cik import Scoring
from tsllm.metrics import crps_samples

PENALTY = 10.0
CAP = 5.0


def compute_violation(samples: np.ndarray, scoring: Scoring) -> np.ndarray:
    """Computes how far each sample lies outside the bounds, as a mean over the steps: [S, H] -> [S], scaled."""
    total = np.zeros(len(samples))
    if scoring.low is not None:
        total += np.maximum(scoring.low - samples, 0).mean(1)
    if scoring.high is not None:
        total += np.maximum(samples - scoring.high, 0).mean(1)
    if scoring.step_highs:
        steps, highs = list(scoring.step_highs), np.array(list(scoring.step_highs.values()))
        total += np.maximum(samples[:, steps] - highs, 0).mean(1)
    return scoring.scaling * total


def compute_rcrps(samples: np.ndarray, scoring: Scoring) -> float:
    """Computes the region-of-interest CRPS of one instance (Williams 2025, section 4), cut at 5; smaller is better.

    Args:
        samples: Sample paths [S, H], S at least 2.
        scoring: Truth [H], region, scaling and bounds.

    Raises:
        ValueError: If the samples have another shape or are not finite.
    """
    samples = np.asarray(samples, float)
    horizon = len(scoring.truth)
    if samples.ndim != 2 or samples.shape[1] != horizon or len(samples) < 2:
        raise ValueError(f"samples have shape {list(samples.shape)}; expected [at least 2, {horizon}]")
    if not np.isfinite(samples).all():
        raise ValueError(f"{int((~np.isfinite(samples)).sum())} of {samples.size} sampled values are not finite")
    inside = np.zeros(horizon, dtype=bool)
    inside[list(scoring.region)] = True
    halves = [crps_samples(scoring.truth[p], samples.T[p], fair=True) for p in (inside, ~inside) if p.any()]
    penalty = crps_samples(np.zeros(1), PENALTY * compute_violation(samples, scoring)[None], fair=True)
    return float(min(CAP, scoring.scaling * np.mean(halves) + penalty))


def average(scores: Mapping[str, float], weights: Mapping[str, Fraction]) -> float:
    """Returns the benchmark's figure: the mean of instances weighted by their tasks."""
    total = sum(weights[key] for key in scores)
    return float(sum(float(weights[key]) * score for key, score in scores.items()) / float(total))


def compute_difference(
    scores: Mapping[str, float], others: Mapping[str, float], weights: Mapping[str, Fraction], keys: Sequence[str]
) -> tuple[float, float, float]:
    """Compares two forecasters on the same instances, resampling whole tasks (their instances are alike).

    Returns:
        Weighted mean of `scores - others`, and the bounds of its 95 % interval from 2,000 bootstrap samples of tasks.
    """
    gain, weight = _sum_by_task(scores, others, weights, keys)
    drawn = np.random.default_rng(0).integers(len(gain), size=(2000, len(gain)))
    means = gain[drawn].sum(1) / weight[drawn].sum(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(gain.sum() / weight.sum()), float(low), float(high)


def compute_p_value(
    scores: Mapping[str, float], others: Mapping[str, float], weights: Mapping[str, Fraction], keys: Sequence[str]
) -> float:
    """Tests whether two forecasters are equally good: the two-sided sign-flip test over tasks (Fisher 1935).

    If they are, the difference of a task is as likely with the other sign. All flips are counted of up to 12 tasks,
    10,000 drawn ones of more, the data's own among them. Tasks, not instances, because those of a task are alike.

    Returns:
        The share of flips whose weighted sum is at least as far from zero: 0 to 1.
    """
    gain, _ = _sum_by_task(scores, others, weights, keys)
    number = len(gain)
    if number <= 12:
        signs = 1 - 2 * (np.arange(2**number)[:, None] >> np.arange(number) & 1)
    else:
        signs = np.random.default_rng(0).choice([-1, 1], size=(10_000, number))
        signs[0] = 1
    sums = np.abs(signs @ gain)
    return float((sums >= abs(gain.sum()) * (1 - 1e-9)).mean())


def _sum_by_task(
    scores: Mapping[str, float], others: Mapping[str, float], weights: Mapping[str, Fraction], keys: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the weighted differences and the weights, summed over the instances of each task."""
    tasks = sorted({key.rsplit("/", 1)[0] for key in keys})
    at = {task: k for k, task in enumerate(tasks)}
    gain, weight = np.zeros(len(tasks)), np.zeros(len(tasks))
    for key in keys:
        share = float(weights[key])
        gain[at[key.rsplit("/", 1)[0]]] += share * (scores[key] - others[key])
        weight[at[key.rsplit("/", 1)[0]]] += share
    return gain, weight
