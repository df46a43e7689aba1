"""Arms of an experiment compared on the same test windows: paired tests, a table, a curve."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tsllm.evaluation.figures import find_reward_curves, plot_rewards
from tsllm.evaluation.significance import adjust_holm, diebold_mariano

LOWER_IS_BETTER = ("mae", "crps")
NOT_TESTED = ("pit", "coverage_80")

Scores = Mapping[str, np.ndarray]


def compare_arms(
    arms: Mapping[str, Sequence[Scores]], treated: str, overlap: int = 1, tested: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """Tests one arm against every other on every score, paired by test window.

    A window's score is its mean over seeds and channels, so that windows stay the unit of the test; the test is that
    of Diebold & Mariano with the small-sample correction, two-sided. Holm's correction runs over all rows.

    Args:
        arms: Arm -> one mapping of scores a seed, each [N, C], larger is better but for `mae` and `crps`.
        treated: The arm that is judged.
        overlap: How many consecutive windows share a target step.
        tested: Scores to test; None = all.

    Returns:
        A row a score and other arm: `score`, `against`, `treated` and `other` (means), `gain` (positive = the treated
        arm is better), `seeds_better` (seeds of which it is better on average), `seeds`, `p_value`, `p_adjusted`,
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
            test = diebold_mariano(sign * a[kept], sign * b[kept], overlap)
            gains: list[float] = [float(np.nanmean(sign * (y - x))) for x, y in zip(ours, theirs, strict=True)]
            rows.append(
                {
                    "score": score,
                    "against": other,
                    "treated": float(a[kept].mean()),
                    "other": float(b[kept].mean()),
                    "gain": float(np.mean(gains)),
                    "seeds_better": sum(gain > 0 for gain in gains),
                    "seeds": len(gains),
                    "p_value": test.p_value,
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


def format_arms(arms: Mapping[str, Sequence[Scores]], rows: Sequence[Mapping[str, Any]], treated: str) -> str:
    """Returns a Markdown table: a line a score, a column an arm, with the p-value of the treated arm against it."""
    names = list(arms)
    lines = ["| score | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for score in [name for name in arms[treated][0] if name != "pit"]:
        cells = []
        for name in names:
            mean = np.mean([np.nanmean(seed[score]) for seed in arms[name]])
            found = [row for row in rows if row["score"] == score and row["against"] == name]
            cells.append(f"{mean:.4f}" + (f" (p {found[0]['p_adjusted']:.2g})" if found else ""))
        lines.append(f"| {score} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plot_reward_curve(history: Sequence[Mapping[str, Any]], path: str | Path) -> bool:
    """Draws the reward of training groups and of validation decisions over steps.

    Returns:
        Whether there was anything to draw.
    """
    if not find_reward_curves(history):
        return False
    plot_rewards({"": history}).savefig(path, dpi=120)
    return True
