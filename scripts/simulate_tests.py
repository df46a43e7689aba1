"""Measures how often the tests of a comparison reject a true null, and how often its intervals hold the truth.

    python scripts/simulate_tests.py --runs 2000 --seed 0 --output runs/simulated_tests.md

Each row draws losses of models that are equally good (or, for intervals, differ by a known share) and asks the
package for its verdict, beside that of the classical test: autocovariances of overlapping windows only with the
correction of Harvey et al. (1997), units chosen by their number, percentile intervals of a block bootstrap, Holm over
the pairs with the winner. Nominal is 5 % (95 %); the error is that of the simulation, one standard error.
"""

import argparse
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from tsllm.evaluation.arms import compare_arms
from tsllm.evaluation.significance import compare_to, compare_with_best
from tsllm.paired import adjust_holm, diebold_mariano

ALPHA = 0.05
Draw = Callable[[np.random.Generator], Any]
Judge = Callable[[Any, np.random.Generator], float]


@dataclass(frozen=True)
class Case:
    """A row of the table.

    Attributes:
        fault: What is simulated.
        setting: Its sizes.
        goal: Largest size, or smallest coverage if it is above a half.
        draw: Makes data.
        before: What the classical way says of them: 1 = rejects (or covers), 0 = not.
        after: What the package says; NaN = it does not test.
    """

    fault: str
    setting: str
    goal: float
    draw: Draw
    before: Judge
    after: Judge

    @property
    def name(self) -> str:
        """Fault and setting."""
        return f"{self.fault}, {self.setting}"


@dataclass(frozen=True)
class Row:
    """What came out: shares of all runs, the larger simulation error of the two, share of runs not tested."""

    case: Case
    before: float
    after: float
    error: float
    untested: float

    @property
    def holds(self) -> bool:
        """Whether the goal is met as it stands, without allowance for the error of the simulation."""
        return self.after >= self.case.goal if self.case.goal > 0.5 else self.after <= self.case.goal


# What is drawn ------------------------------------------------------------------------------------------------------


def autoregression(rng: np.random.Generator, n: int, coefficient: float, *shape: int) -> np.ndarray:
    """Unit variance, mean zero: [*shape, n]."""
    shocks = rng.normal(size=(*shape, n))
    values = np.empty_like(shocks)
    values[..., 0] = shocks[..., 0]
    for t in range(1, n):
        values[..., t] = coefficient * values[..., t - 1] + np.sqrt(1 - coefficient**2) * shocks[..., t]
    return values


def overlapping(rng: np.random.Generator, n: int, h: int, *shape: int) -> np.ndarray:
    """Sums of the h shocks that windows of h steps at every step see; unit variance: [*shape, n]."""
    sums = np.cumsum(rng.normal(size=(*shape, n + h)), axis=-1)
    return (sums[..., h:] - sums[..., :-h]) / np.sqrt(h)


def overlapping_steps(rng: np.random.Generator, n: int, h: int, coefficient: float) -> np.ndarray:
    """Means over h steps, one step apart, of steps that are autocorrelated themselves: [n]."""
    steps = autoregression(rng, n + h - 1, coefficient)
    return np.convolve(steps, np.full(h, 1 / h), mode="valid")


def skewed(rng: np.random.Generator, n: int, coefficient: float) -> np.ndarray:
    """Log-normal differences of mean zero: [n]."""
    return np.exp(autoregression(rng, n, coefficient)) - np.exp(0.5)


def shocked(rng: np.random.Generator, series: int, cutoffs: int, share: float) -> np.ndarray:
    """Loss differences whose variance is due to a common shock of the cutoff by `share`: [series, cutoffs]."""
    return np.sqrt(share) * rng.normal(size=cutoffs) + np.sqrt(1 - share) * rng.normal(size=(series, cutoffs))


def frame_of(differences: np.ndarray, **models: np.ndarray) -> pd.DataFrame:
    """Losses of two models whose difference is [series, cutoffs], as `compute_window_losses` gives them."""
    series, cutoffs = differences.shape
    frame = pd.DataFrame({"unique_id": np.repeat(np.arange(series), cutoffs), "cutoff": [*range(cutoffs)] * series})
    return frame.assign(Ref=20.0, Model=20.0 + differences.ravel(), **models)


# The classical way --------------------------------------------------------------------------------------------------


def classical_p(differences: np.ndarray, overlap: int = 1) -> float:
    """Diebold & Mariano (1995) with rectangular weights up to the overlap, corrected by Harvey et al. (1997)."""
    n = len(differences)
    centred = differences - differences.mean()
    covariances = np.array([centred[k:] @ centred[: n - k] / n for k in range(overlap)])
    variance = covariances[0] + 2 * covariances[1:].sum()
    if variance <= 0:
        variance = covariances[0] + 2 * ((1 - np.arange(1, overlap) / overlap) * covariances[1:]).sum()
    correction = np.sqrt((n + 1 - 2 * overlap + overlap * (overlap - 1) / n) / n)
    statistic = correction * differences.mean() / np.sqrt(variance / n)
    return float(2 * stats.t.sf(abs(statistic), n - 1))


def bootstrap_interval(
    a: np.ndarray, b: np.ndarray, rng: np.random.Generator, overlap: int = 1, samples: int = 500
) -> tuple[float, float]:
    """Percentile interval of the skill by a circular moving-block bootstrap (Politis & Romano 1992)."""
    n = len(a)
    block = min(n, max(overlap, int(np.ceil(n ** (1 / 3)))))
    starts = rng.integers(0, n, size=(samples, -(-n // block)))
    at = (starts[:, :, None] + np.arange(block)).reshape(samples, -1)[:, :n] % n
    low, high = np.quantile(1 - a[at].mean(1) / b[at].mean(1), [ALPHA / 2, 1 - ALPHA / 2])
    return float(low), float(high)


def classical_unit(differences: np.ndarray) -> float:
    """Cutoffs or series, whichever are more, taken as independent."""
    series, cutoffs = differences.shape
    return float(classical_p(differences.mean(0) if cutoffs >= series else differences.mean(1)) < ALPHA)


# The rows -----------------------------------------------------------------------------------------------------------


def build_cases() -> Iterator[Case]:
    """Yields the rows of the table, in its order."""
    yield from _size_cases()
    yield from _panel_cases()
    yield from _interval_cases()
    yield from _family_cases()
    yield from _run_cases()
    yield from _limit_cases()


def _size_cases() -> Iterator[Case]:
    def rejects(d: np.ndarray, overlap: int) -> float:
        return float(diebold_mariano(d, np.zeros(len(d)), overlap).p_value < ALPHA)

    for n in (20, 50, 134):
        for coefficient, goal in ((0.0, 0.07), (0.3, 0.07), (0.5, 0.07), (0.9, 0.10)):
            if coefficient == 0.9 and n < 50:
                continue
            yield Case(
                "autocorrelated differences",
                f"AR {coefficient:g}, n {n}",
                goal,
                lambda rng, n=n, c=coefficient: autoregression(rng, n, c),
                lambda d, _: float(classical_p(d) < ALPHA),
                lambda d, _: rejects(d, 1),
            )
    for n in (50, 150):
        yield Case(
            "overlapping windows",
            f"overlap 24, n {n}",
            0.08,
            lambda rng, n=n: overlapping(rng, n, 24),
            lambda d, _: float(classical_p(d, 24) < ALPHA),
            lambda d, _: rejects(d, 24),
        )


def _panel_cases() -> Iterator[Case]:
    def judge(d: np.ndarray, _: Any) -> float:
        row = compare_to(frame_of(d), "Ref").iloc[0]
        return float("nan") if row["verdict"] == "not tested" else float(row["p_value"] < ALPHA)

    sizes = [(8, 7, share) for share in (0.1, 0.3, 0.6)] + [(50, 7, share) for share in (0.1, 0.3, 0.6)]
    for series, cutoffs, share in [*sizes, (50, 20, 0.3), (50, 20, 0.6)]:
        yield Case(
            "common shocks",
            f"share {share:g}, {series} series x {cutoffs} cutoffs",
            0.07,
            lambda rng, s=series, c=cutoffs, share=share: shocked(rng, s, c, share),
            lambda d, _: classical_unit(d),
            judge,
        )


def _interval_cases() -> Iterator[Case]:
    skill = 0.2

    def losses(common: np.ndarray, own: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return (1 - skill) * np.exp(0.4 * (common + own)), np.exp(0.4 * (common + other))

    settings: list[tuple[str, int, int, Draw]] = [
        ("iid, n 20", 20, 1, lambda rng: losses(*autoregression(rng, 20, 0.0, 3))),
        ("iid, n 27", 27, 1, lambda rng: losses(*autoregression(rng, 27, 0.0, 3))),
        ("AR 0.5, n 20", 20, 1, lambda rng: losses(*autoregression(rng, 20, 0.5, 3))),
        ("AR 0.5, n 27", 27, 1, lambda rng: losses(*autoregression(rng, 27, 0.5, 3))),
        ("overlap 24, n 50", 50, 24, lambda rng: losses(*overlapping(rng, 50, 24, 3))),
        ("overlap 24, n 150", 150, 24, lambda rng: losses(*overlapping(rng, 150, 24, 3))),
    ]
    for setting, _, overlap, draw in settings:

        def before(data: Any, rng: np.random.Generator, overlap: int = overlap) -> float:
            low, high = bootstrap_interval(*data, rng, overlap)
            return float(low <= skill <= high)

        def after(data: Any, _: Any, overlap: int = overlap) -> float:
            interval = diebold_mariano(*data, overlap).skill_interval(ALPHA)
            return float(interval.low <= skill <= interval.high)

        yield Case("coverage of the interval", setting, 0.93, draw, before, after)


def _family_cases() -> Iterator[Case]:
    def draw(rng: np.random.Generator, k: int, n: int = 50) -> pd.DataFrame:
        frame = pd.DataFrame({"unique_id": "s", "cutoff": range(n)})
        frame[[f"M{j}" for j in range(k)]] = 20 + rng.normal(size=(n, 1)) + rng.normal(size=(n, k))
        return frame

    def with_winner(frame: pd.DataFrame, _: Any) -> float:
        values = frame.iloc[:, 2:].to_numpy()
        best = values.mean(0).argmin()
        p_values = [classical_p(values[:, k] - values[:, best]) for k in range(values.shape[1]) if k != best]
        return float((adjust_holm(p_values) < ALPHA).any())

    yield Case(
        "winner chosen on the same data",
        "10 equal models, n 50",
        0.05,
        lambda rng: draw(rng, 10),
        with_winner,
        lambda frame, _: float((compare_with_best(frame)["p_holm"] < ALPHA).any()),
    )

    def disagrees(low: np.ndarray, high: np.ndarray, p_holm: np.ndarray) -> float:
        return float((((low > 0) | (high < 0)) != (p_holm < ALPHA)).any())

    def old(frame: pd.DataFrame, rng: np.random.Generator) -> float:
        values = frame.iloc[:, 2:].to_numpy()
        reference = values[:, 0]
        bounds = [bootstrap_interval(values[:, k], reference, rng) for k in range(1, values.shape[1])]
        p_values = [classical_p(values[:, k] - reference) for k in range(1, values.shape[1])]
        return disagrees(*np.array(bounds).T, adjust_holm(p_values))

    def new(frame: pd.DataFrame, _: Any) -> float:
        table = compare_to(frame, "M0")
        return disagrees(table["low"].to_numpy(), table["high"].to_numpy(), table["p_holm"].to_numpy())

    yield Case("interval and adjusted p disagree", "6 models, n 27", 0.0, lambda rng: draw(rng, 6, 27), old, new)


def _run_cases() -> Iterator[Case]:
    def text(d: np.ndarray, _: Any) -> float:
        row = compare_to(frame_of(d), "Ref").iloc[0]
        return float("nan") if row["verdict"] == "not tested" else float(row["p_value"] < ALPHA)

    yield Case(
        "text runs, start against end",
        "share 0.3, 4 series x 20 days",
        0.07,
        lambda rng: shocked(rng, 4, 20, 0.3),
        lambda d, _: float(stats.ttest_1samp(d.ravel(), 0.0).pvalue < ALPHA),
        text,
    )

    def policy(d: np.ndarray, _: Any) -> float:
        arms = {"start": [{"profit": np.zeros_like(d)}], "policy": [{"profit": d}]}
        return float(compare_arms(arms, "policy")[0]["p_value"] < ALPHA)

    yield Case(
        "policy against its start",
        "AR 0.4, 2 channels x 140 days",
        0.07,
        lambda rng: autoregression(rng, 140, 0.4, 2).T,
        lambda d, _: float(classical_p(d.mean(1)) < ALPHA),
        policy,
    )
    for seeds in (2, 3, 5):
        yield Case(
            "trained against a model without seeds",
            f"{seeds} seeds, spread 0.3, n 60",
            0.07,
            lambda rng, k=seeds: _draw_against_fixed(rng, k, 0.3),
            lambda data, _: float(classical_p(data[0].mean(0) - data[1].mean(0)) < ALPHA),
            _judge_seeds,
        )
    for seeds in (2, 3, 5):
        for spread in (0.0, 0.3):
            yield Case(
                "runs of one algorithm (A/A)",
                f"{seeds} seeds, spread {spread:g}, n 60",
                0.05,
                lambda rng, k=seeds, s=spread: _draw_seeds(rng, k, s),
                lambda data, _: float(classical_p(data[0].mean(0) - data[1].mean(0)) < ALPHA),
                _judge_seeds,
            )


def _limit_cases() -> Iterator[Case]:
    """What the test is not made for; the goal is missed here."""
    settings: list[tuple[str, int, Draw]] = [
        (f"log-normal, AR {c:g}, n {n}", 1, lambda rng, c=c, n=n: skewed(rng, n, c))
        for n, c in ((20, 0.0), (50, 0.0), (50, 0.5), (134, 0.5))
    ]
    settings.append(("steps of AR 0.9, overlap 24, n 150", 24, lambda rng: overlapping_steps(rng, 150, 24, 0.9)))
    for setting, overlap, draw in settings:
        yield Case(
            "limits",
            setting,
            0.07,
            draw,
            lambda d, _, o=overlap: float(classical_p(d, o) < ALPHA),
            lambda d, _, o=overlap: float(diebold_mariano(d, np.zeros(len(d)), o).p_value < ALPHA),
        )


def _draw_seeds(rng: np.random.Generator, seeds: int, spread: float, n: int = 60) -> np.ndarray:
    """Losses of two arms [2, seeds, n]: the day, the seed, and what the seed does on that day."""
    day = 5 + rng.normal(size=n)
    return day + spread * rng.normal(size=(2, seeds, 1)) + 0.3 * rng.normal(size=(2, seeds, n))


def _draw_against_fixed(rng: np.random.Generator, seeds: int, spread: float, n: int = 60) -> np.ndarray:
    """Losses as `_draw_seeds` gives them, the second arm the same with every seed."""
    day = 5 + rng.normal(size=n)
    trained = day + spread * rng.normal(size=(seeds, 1)) + 0.3 * rng.normal(size=(seeds, n))
    fixed = np.broadcast_to(day + 0.3 * rng.normal(size=n), (seeds, n))
    return np.stack([trained, fixed])


def _judge_seeds(data: np.ndarray, _: Any) -> float:
    frames = [frame_of(np.zeros((1, data.shape[2]))).assign(Model=a, Ref=b) for a, b in zip(*data, strict=True)]
    mean = frames[0].assign(Model=data[0].mean(0), Ref=data[1].mean(0))
    return float(compare_to(mean, "Ref", seeds=frames)["p_value"].iloc[0] < ALPHA)


# Running ------------------------------------------------------------------------------------------------------------


def simulate(case: Case, runs: int, seed: int) -> Row:
    """Draws `runs` data sets of a case, the same ones whatever other cases there are, and judges them both ways."""
    rng = np.random.default_rng([seed, zlib.crc32(case.name.encode())])
    found = np.array(
        [(case.before(data, rng), case.after(data, rng)) for data in (case.draw(rng) for _ in range(runs))]
    )
    untested = float(np.isnan(found[:, 1]).mean())
    before, after = np.nan_to_num(found).mean(0)  # what is not tested rejects nothing
    error = float(np.sqrt(max(before * (1 - before), after * (1 - after)) / runs))
    return Row(case, float(before), float(after), error, untested)


def write_table(rows: list[Row], runs: int, seed: int) -> str:
    """Returns a Markdown table."""
    lines = [
        f"{runs} runs a row, seed {seed}; nominal 5 % (95 %).",
        "",
        "| fault | setting | classical | package | goal | error | goal met |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    for row in rows:
        sign = ">=" if row.case.goal > 0.5 else "<="
        met = "yes" if row.holds else "no"
        met += f" ({100 * row.untested:.0f} % not tested: too few cutoffs)" if row.untested else ""
        lines.append(
            f"| {row.case.fault} | {row.case.setting} | {row.before:.3f} | {row.after:.3f} | {sign} "
            f"{row.case.goal:.2f} | {row.error:.3f} | {met} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000, help="data sets a row")
    parser.add_argument("--seed", type=int, default=0, help="of all draws")
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--output", type=Path, default=None, help="file for the table")
    options = parser.parse_args()
    cases = [case for case in build_cases() if options.only in case.name]
    if not cases:
        parser.error(f"no row contains {options.only!r}; the rows are: {'; '.join(c.name for c in build_cases())}")
    rows = []
    for case in cases:
        rows.append(simulate(case, options.runs, options.seed))
        print(f"{case.name}: {rows[-1].before:.3f} -> {rows[-1].after:.3f}", flush=True)
    table = write_table(rows, options.runs, options.seed)
    print(table)
    if options.output is not None:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(table + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
