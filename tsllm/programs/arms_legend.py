"""What stands in `arms.md`: its columns, its rows and their units, in sentences below the table."""

from collections.abc import Mapping, Sequence
from typing import Any

# Arm -> what it is.
ARMS = {
    "start": "the supervised start",
    "supervised": "the start trained for as many more supervised steps",
    "direct": "the start trained by gradient ascent on the reward itself",
    "policy": "the start trained by this recipe, the model that is kept",
}
# Score -> what it is and which way is better.
SCORES = {
    "mae": "mean absolute error of the point forecast, in units of the data, lower is better",
    "crps": "continuous ranked probability score from quantiles, in units of the data, lower is better",
    "coverage_80": "share of targets inside the 80 % interval, .8 is right",
}


def describe_table(
    arms: Sequence[str], scores: Sequence[str], decisions: Sequence[str], quantiles: Mapping[str, float]
) -> list[str]:
    """Returns a list in Markdown: each column and each row of the table of arms.

    Args:
        arms: The columns.
        scores: The rows.
        decisions: Rewards besides the trained one (`decisions`), by name.
        quantiles: `decision_quantiles`, name -> level.
    """
    lines = [f"- {arm}: {ARMS[arm]}." for arm in arms if arm in ARMS]
    for score in scores:
        name, _, cut = score.partition("@")
        if score in SCORES:
            lines.append(f"- {score}: {SCORES[score]}.")
        elif cut in quantiles:
            lines.append(f"- {score}: {name} where the decision is the quantile {write_level(quantiles[cut])}.")
        elif name == "reward":
            lines.append("- reward: what was trained on, of the test part's forecasts, larger is better.")
        elif name in decisions:
            lines.append(f"- {score}: a further reward (`decisions`) of the same forecasts, larger is better.")
    return lines


def write_level(level: Any) -> str:
    """Writes a share below one without its leading zero."""
    return f"{level:g}".removeprefix("0")
