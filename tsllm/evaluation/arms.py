"""Arms of an experiment compared on the same test windows: paired tests, a table, a curve."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tsllm.evaluation.figures import find_reward_curves, plot_rewards
from tsllm.paired import LEAST_WINDOWS, adjust_holm, diebold_mariano

LOWER_IS_BETTER = ("mae", "crps")
NOT_TESTED = ("pit", "coverage_80")

Scores = Mapping[str, np.ndarray]


def compare_arms(
    arms: Mapping[str, Sequence[Scores]], treated: str, overlap: int = 1, tested: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """Tests one arm against every other on every score, paired by test window.

    A window's score is its mean over seeds and channels, so that windows stay the unit of the test; the test is
    `tsllm.paired.diebold_mariano`, two-sided, which counts the correlation of neighbouring windows. With two or more
    seeds, which arms share one by one, the variance of the gain between seeds counts too. Holm's correction runs over
    all rows.

    Args:
        arms: Arm -> one mapping of scores a seed, each [N, C], larger is better but for `mae` and `crps`.
        treated: The arm that is judged.
        overlap: How many consecutive windows share a target step.
        tested: Scores to test; None = all.

    Returns:
        A row a score and other arm: `score`, `against`, `treated` and `other` (means), `gain` (positive = the treated
        arm is better), `seeds_better` (seeds of which it is better on average), `seeds`, `p_value` and `p_adjusted`
        (NaN where there are too few windows to tell), `terms` (cosine terms of the long-run variance; 0 = not tested),
        `windows`, `dropped` (windows without target).

    Raises:
        ValueError: If arms differ in seeds or windows.
    """
    sizes = {name: len(seeds) for name, seeds in arms.items()}
    if len(set(sizes.values())) != 1:
        raise ValueError(f"arms have different numbers of seeds: {sizes}")
    rows: list[dict[str, Any]] = []
    for score in tested or [name for name in arms[treated][0] if name not in NOT_TESTED]:
        ours = [_by_window(seed[score]) for seed in arms[treated]]
        sign = 1.0 if score.split("@")[0] in LOWER_IS_BETTER else -1.0
        for other, seeds in arms.items():
            if other == treated:
                continue
            theirs = [_by_window(seed[score]) for seed in seeds]
            a, b = np.mean(ours, axis=0), np.mean(theirs, axis=0)
            if a.shape != b.shape:
                raise ValueError(f"{treated} has {len(a)} test windows, {other} has {len(b)}")
            kept = np.isfinite(a) & np.isfinite(b)
            by_seed = sign * np.array([[x[kept].mean(), y[kept].mean()] for x, y in zip(ours, theirs, strict=True)])
            gains = by_seed[:, 1] - by_seed[:, 0]  # [seeds]
            test = None
            if kept.sum() >= max(LEAST_WINDOWS, 2 * overlap + 1):
                test = diebold_mariano(sign * a[kept], sign * b[kept], overlap, seeds=by_seed, same_seeds=True)
            rows.append(
                {
                    "score": score,
                    "against": other,
                    "treated": float(a[kept].mean()),
                    "other": float(b[kept].mean()),
                    "gain": float(gains.mean()),
                    "seeds_better": int((gains > 0).sum()),
                    "seeds": len(gains),
                    "p_value": test.p_value if test else float("nan"),
                    "terms": test.terms if test else 0,
                    "windows": int(kept.sum()),
                    "dropped": int((~kept).sum()),
                }
            )
    for row, adjusted in zip(rows, adjust_holm([row["p_value"] for row in rows]), strict=True):
        row["p_adjusted"] = float(adjusted)
    return rows


def _by_window(values: np.ndarray) -> np.ndarray:
    observed = np.isfinite(values)
    total = np.where(observed, values, 0.0).sum(1)
    with np.errstate(invalid="ignore"):
        return total / observed.sum(1)  # [N], NaN without any target


def format_arms(
    arms: Mapping[str, Sequence[Scores]],
    rows: Sequence[Mapping[str, Any]],
    treated: str,
    legend: Sequence[str] = (),
) -> str:
    """Returns a Markdown table: a line a score, a column an arm, with the p-value of the treated arm against it.

    Below it stand the legend, then the unit of the test, its number, and what was adjusted.
    """
    names = list(arms)
    lines = ["| score | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for score in [name for name in arms[treated][0] if name != "pit"]:
        cells = []
        for name in names:
            mean = np.mean([np.nanmean(seed[score]) for seed in arms[name]])
            found = [row for row in rows if row["score"] == score and row["against"] == name]
            tested = found and found[0]["p_value"] == found[0]["p_value"]
            cells.append(f"{mean:.4f}" + (f" (p {found[0]['p_adjusted']:.2g})" if tested else ""))
        lines.append(f"| {score} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *legend, *([""] if legend else []), *describe_arms(rows, treated)])


def describe_arms(rows: Sequence[Mapping[str, Any]], treated: str) -> list[str]:
    """Says how the rows of `compare_arms` were tested."""
    if not rows:
        return ["Nothing was tested."]
    windows, seeds = sorted({row["windows"] for row in rows}), rows[0]["seeds"]
    terms = sorted({row["terms"] for row in rows} - {0})
    spread = f"{windows[0]}" if len(windows) == 1 else f"{windows[0]} to {windows[-1]}"
    if not terms:
        return [f"Not tested: {spread} windows are too few to tell."]
    used = f"{terms[0]}" if len(terms) == 1 else f"{terms[0]} to {terms[-1]}"
    variation = (
        f"{seeds} seeds, whose spread counts"
        if seeds > 1
        else "one seed, so p speaks of these trained weights and not of training anew"
    )
    tests = sum(row["p_value"] == row["p_value"] for row in rows)
    return [
        f"p in a column: {treated} against that arm, two-sided test over {spread} windows (mean over channels and "
        f"seeds), long-run variance from {used} cosine terms, t critical values; adjusted by Holm over the {tests} "
        f"tests of this table; {variation}."
    ]


def plot_reward_curve(history: Sequence[Mapping[str, Any]], path: str | Path) -> bool:
    """Draws the reward of training groups and of validation decisions over steps.

    Returns:
        Whether there was anything to draw.
    """
    if not find_reward_curves(history):
        return False
    plot_rewards({"": history}).savefig(path, dpi=120)
    return True
