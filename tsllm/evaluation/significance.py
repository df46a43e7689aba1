"""Which differences are more than luck? Pairs of models over cutoffs, all pairs at once, ranks over data sets.

Losses of series at the same cutoff share what happened on that day, so they are averaged over series first and the
cutoff is the unit of every test; `tsllm.paired` counts the correlation of neighbouring cutoffs. Ten series at seven
cutoffs are seven observations, not seventy. Only where a comparison says beforehand that its series are independent
(competitions of unrelated series with one cutoff each) are they the unit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import stats

from tsllm.paired import LEAST_WINDOWS, DieboldMariano, adjust_holm, diebold_mariano
from tsllm.types import CUTOFF, ID

Unit = Literal["cutoff", "series"]
LEAST_SERIES = 5  # independent series below which no test is made
LEAST_SEEDS = 3  # of a model against one without seeds, below which the simulated size of a nominal 5 % is about 10 %
AUTOCORRELATED = "strongly autocorrelated: rejects too often"
FEW_SEEDS = "two seeds against a model without seeds: rejects too often"

COLUMNS = [
    "model",
    "reference",
    "skill",
    "low",
    "high",
    "p_value",
    "p_holm",
    "verdict",
    "n",
    "unit",
    "terms",
    "seeds",
    "tests",
    "note",
]


@dataclass(frozen=True)
class PairedRow:
    """The losses of one row of a table of scores.

    Attributes:
        losses: As in `compare_to`.
        overlap: ceil(h / step_size) of this row.
        seeds: As in `compare_to`.
    """

    losses: pd.DataFrame
    overlap: int = 1
    seeds: Sequence[pd.DataFrame] = ()


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


def number_cutoffs(losses: pd.DataFrame) -> pd.Series:
    """Returns the number of each row's cutoff, 0 = the first, so that rows of one number belong together.

    Cutoffs are matched by time where series share their calendar, or have different numbers of them. Series of equal
    numbers at times of their own (counted steps, or ends that differ) are matched by position. Call it on all rows:
    on what a model left over, positions would shift.
    """
    if losses.empty:
        return pd.Series(dtype=int)
    sizes = losses.groupby(ID, sort=False).size()
    distinct = losses[CUTOFF].nunique()
    if distinct <= sizes.max() or sizes.nunique() > 1:
        return losses[CUTOFF].rank(method="dense").astype(int) - 1
    position = losses.sort_values([ID, CUTOFF], kind="stable").groupby(ID, sort=False).cumcount()
    return position.reindex(losses.index)


def average_over(
    losses: pd.DataFrame, models: Sequence[str], unit: Unit = "cutoff", numbers: pd.Series | None = None
) -> pd.DataFrame:
    """Averages window losses to one row a unit, in the order of time or of series.

    Args:
        losses: From `compute_window_losses`: `unique_id, cutoff` and the models.
        models: Columns.
        unit: "cutoff": mean over the series at each cutoff; "series": mean over cutoffs.
        numbers: From `number_cutoffs` of all rows, if `losses` is a part of them.
    """
    if unit == "series":
        return losses.groupby(ID, sort=False)[list(models)].mean()
    found = number_cutoffs(losses) if numbers is None else numbers.loc[losses.index]
    return losses[list(models)].groupby(found).mean()


def compare_to(
    losses: pd.DataFrame,
    reference: str,
    overlap: int = 1,
    alpha: float = 0.05,
    unit: Unit = "cutoff",
    seeds: Sequence[pd.DataFrame] = (),
) -> pd.DataFrame:
    """Compares every model with a reference that was named beforehand, with Holm's correction over the rows.

    Each pair is tested on the windows that both forecast. A reference that was chosen because it did best here makes
    these tests reject too often; use `compare_with_best` for it.

    Args:
        losses: From `compute_window_losses`, in scaled units if there are several series; mean over seeds.
        reference: Alias that the others are compared with.
        overlap: ceil(h / step_size).
        alpha: Level of test and interval.
        unit: What is paired. "series" takes series as independent of one another, and is right only where they are.
        seeds: The losses of each seed, rows and columns as in `losses`; with two or more, seeds count as random.

    Returns:
        One row a model, `COLUMNS`. `skill` is the share of the reference's loss that is saved; `low` to `high` is its
        interval at the level of Holm's step of this row, at least 1 - alpha, so that it excludes zero exactly if
        `p_holm` is below alpha. `verdict` is "better", "worse" or "no difference shown", or "not tested" with the
        reason in `note`. `terms`: cosine terms of the long-run variance. `tests`: tests that Holm's correction counts.

    Raises:
        ValueError: If the reference is none of the models.
    """
    models = _find_models(losses)
    if reference not in models:
        raise ValueError(f"reference {reference!r} is none of {models}")
    tester = _Tester(losses, overlap, unit, seeds)
    return _judge([tester.test(model, reference) for model in models if model != reference], alpha)


def compare_in_rows(rows: Sequence[PairedRow], reference: str, alpha: float = 0.05) -> list[pd.DataFrame]:
    """Compares models with a reference in each row of a table; Holm's correction runs over all rows together.

    Args:
        rows: The losses of each row, such as a data set and horizon; each holds the reference.
        reference: Alias that the others are compared with, named beforehand.
        alpha: Level of test and interval.

    Returns:
        One frame a row, as `compare_to`; `tests` counts the tests of all rows.

    Raises:
        ValueError: If the reference is none of the models of a row.
    """
    tested: list[_Tested] = []
    sizes = []
    for row in rows:
        models = _find_models(row.losses)
        if reference not in models:
            raise ValueError(f"reference {reference!r} is none of {models}")
        tester = _Tester(row.losses, row.overlap, "cutoff", row.seeds)
        others = [model for model in models if model != reference]
        tested += [tester.test(model, reference) for model in others]
        sizes.append(len(others))
    judged = _judge(tested, alpha)
    ends = np.cumsum(sizes)
    return [judged.iloc[end - n : end].reset_index(drop=True) for n, end in zip(sizes, ends, strict=True)]


def compare_with_best(
    losses: pd.DataFrame,
    overlap: int = 1,
    alpha: float = 0.05,
    unit: Unit = "cutoff",
    seeds: Sequence[pd.DataFrame] = (),
    best: str | None = None,
) -> pd.DataFrame:
    """Compares every model with the one that has the lowest mean loss here, which the same data have chosen.

    Holm's correction runs over all pairs of models, so the chance of any false difference stays at `alpha` whichever
    model happens to win. The models that are not "worse" are those that the data leave in the running.

    Args:
        losses: As in `compare_to`.
        overlap: As in `compare_to`.
        alpha: As in `compare_to`.
        unit: As in `compare_to`.
        seeds: As in `compare_to`.
        best: The winner by another measure; None = the lowest mean loss among models that forecast every window.

    Returns:
        As `compare_to` with the winner as reference; empty if no model forecast every window.
    """
    models = _find_models(losses)
    complete = [m for m in models if len(losses) and losses[m].notna().all()]
    if best is None and not complete:
        return pd.DataFrame(columns=COLUMNS)
    winner = str(losses[complete].mean().idxmin()) if best is None else best
    tester = _Tester(losses, overlap, unit, seeds)
    ordered = [m for m in models if m != winner]
    rows = [tester.test(model, winner) for model in ordered]
    rows += [tester.test(one, other) for one, other in combinations(ordered, 2)]
    return _judge(rows, alpha).iloc[: len(ordered)].reset_index(drop=True)


@dataclass
class _Tested:
    row: dict[str, Any]
    result: DieboldMariano | None


class _Tester:
    """Tests pairs of models on the windows that both forecast."""

    def __init__(self, losses: pd.DataFrame, overlap: int, unit: Unit, seeds: Sequence[pd.DataFrame]) -> None:
        self.overlap, self.unit = overlap, unit
        self.columns = {name: k for k, name in enumerate(_find_models(losses))}
        names = list(self.columns)
        self.losses = losses[names].to_numpy(dtype=float)  # [N, models]
        self.seeds = [frame[names].to_numpy(dtype=float) for frame in seeds]
        wrong = [len(values) for values in self.seeds if len(values) != len(self.losses)]
        if wrong:
            raise ValueError(f"a seed has losses of {wrong[0]} windows, the mean of {len(self.losses)}; give the same")
        numbers = number_cutoffs(losses) if unit == "cutoff" else pd.Series(pd.factorize(losses[ID])[0])
        self.units = numbers.to_numpy(dtype=int)  # [N]

    def test(self, model: str, reference: str) -> _Tested:
        """Tests one model against another; the row says why where it cannot."""
        pair = [self.columns[model], self.columns[reference]]
        both = np.isfinite(self.losses[:, pair]).all(1)
        a, b = _average(self.losses[both][:, pair], self.units[both]).T
        row: dict[str, Any] = dict.fromkeys(COLUMNS, np.nan) | {
            "model": model,
            "reference": reference,
            "n": len(a),
            "unit": self.unit,
            "seeds": 1,
            "note": "",
        }
        if not len(a):
            return _Tested(row | {"note": "no window that both forecast"}, None)
        if b.mean() == 0:
            return _Tested(row | {"note": f"{reference} makes no error at all"}, None)
        row["skill"] = 1 - a.mean() / b.mean()
        reason = self._find_reason(len(a))
        if reason:
            return _Tested(row | {"note": reason}, None)
        by_seed = [_average(values[both][:, pair], self.units[both]).mean(0) for values in self.seeds]
        seeds = np.array(by_seed) if by_seed else None  # [seeds, 2]
        if self.unit == "series":
            result = diebold_mariano(a, b, terms=len(a) - 1, seeds=seeds)
        else:
            result = diebold_mariano(a, b, self.overlap, seeds=seeds)
        notes = [AUTOCORRELATED] if self.unit == "cutoff" and result.is_persistent else []
        if seeds is not None and np.ptp(seeds, axis=0).any():
            row["seeds"] = result.seeds
            # One variance of two seeds has one degree of freedom; where both models have seeds, they have two.
            notes += [FEW_SEEDS] if len(seeds) < LEAST_SEEDS and not np.ptp(seeds, axis=0).all() else []
        return _Tested(row | {"p_value": result.p_value, "terms": result.terms, "note": "; ".join(notes)}, result)

    def _find_reason(self, n: int) -> str:
        """Returns why a pair is not tested; empty if it is."""
        if self.unit == "series":
            return "" if n >= LEAST_SERIES else f"{n} series are too few to tell ({LEAST_SERIES} needed)"
        if n < LEAST_WINDOWS:
            return f"{n} cutoffs are too few to tell ({LEAST_WINDOWS} needed)"
        if n <= 2 * self.overlap:
            return f"{n} cutoffs are too few where {self.overlap} windows share a step ({2 * self.overlap + 1} needed)"
        return ""


def _average(values: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Averages rows [N, k] of the same unit [N]: [units, k], in their order."""
    _, at = np.unique(units, return_inverse=True)
    counts = np.bincount(at)
    return np.stack([np.bincount(at, column) / counts for column in values.T], 1)


def _find_models(losses: pd.DataFrame) -> list[str]:
    return [c for c in losses.columns if c not in (ID, CUTOFF)]


def _judge(tested: Sequence[_Tested], alpha: float) -> pd.DataFrame:
    """Adjusts the p-values of a family, gives each interval the level of its step, and says what follows."""
    adjusted = adjust_holm([one.row["p_value"] for one in tested])
    family = int(np.isfinite(adjusted).sum())
    rows = []
    for one, p_holm in zip(tested, adjusted, strict=True):
        row = one.row | {"p_holm": p_holm, "tests": family, "verdict": "not tested"}
        if one.result is not None:
            step = one.result.p_value / p_holm if p_holm > 0 else 1.0
            interval = one.result.skill_interval(alpha * step)
            row |= {"low": interval.low, "high": interval.high, "verdict": "no difference shown"}
            if p_holm < alpha:
                row["verdict"] = "better" if row["skill"] > 0 else "worse"
        rows.append(row)
    return pd.DataFrame(rows, columns=COLUMNS)
