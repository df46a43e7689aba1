"""Pools runs of grpo_series or dapo_series over seeds and tests the arms on the same test windows.

python scripts/compare_policy_runs.py runs/epf/dapo_0 runs/epf/dapo_1 runs/epf/dapo_2

Arms that a run lacks (controls: false) are taken from the run of the same position in --controls.
"""

import argparse
from pathlib import Path

import numpy as np

from tsllm.evaluation.arms import compare_arms, format_arms
from tsllm.programs.series_policy import POLICY, SCORES_FILE, START

ORDER = (START, "supervised", "direct", POLICY)


def load(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    arms = {}
    for arm in ORDER:
        path = (folder if arm == POLICY else folder / arm) / SCORES_FILE
        if path.is_file():
            with np.load(path) as loaded:
                arms[arm] = dict(loaded)
    return arms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="output folders, one a seed")
    parser.add_argument("--controls", nargs="*", type=Path, default=[], help="folders of the same seeds with controls")
    parser.add_argument("--overlap", type=int, default=1, help="how many test windows share a target step")
    parser.add_argument("--tested", nargs="*", default=None, help="scores to test; default all")
    options = parser.parse_args()
    seeds = [load(folder) for folder in options.runs]
    for seed, folder in zip(seeds, options.controls, strict=False):
        seed.update({arm: scores for arm, scores in load(folder).items() if arm != POLICY})
    shared = [arm for arm in ORDER if all(arm in seed for seed in seeds)]
    arms = {arm: [seed[arm] for seed in seeds] for arm in shared}
    rows = compare_arms(arms, POLICY, options.overlap, options.tested)
    print(format_arms(arms, rows, POLICY))
    print()
    for row in rows:
        print(
            f"{row['score']} against {row['against']}: gain {row['gain']:+.4f}, better in {row['seeds_better']} of "
            f"{row['seeds']} seeds, p {row['p_value']:.2g}, Holm-adjusted {row['p_adjusted']:.2g}, "
            f"{row['windows']} windows"
        )


if __name__ == "__main__":
    main()
