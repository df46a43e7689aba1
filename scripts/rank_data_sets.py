"""Ranks models over the data sets of several comparisons, and draws Demsar's critical-difference diagram.

    python scripts/rank_data_sets.py docs/results/data/scores-*.csv --models SeasonalNaive DLinear PatchTST TimeLLM

Reads the tables of scores that comparisons write (`scores-NAME.csv`, one a data set) and ranks by the
relative MAE, as the reports do. A model has a rank if it forecast every window of every set; the others are named.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from tsllm.evaluation.figures import draw_critical_difference
from tsllm.evaluation.significance import FriedmanNemenyi, friedman_nemenyi
from tsllm.evaluation.summary import MIN_BLOCKS


def read_blocks(paths: Sequence[Path], models: Sequence[str], metric: str) -> tuple[pd.DataFrame, list[str]]:
    """Returns the scores [data set, model] of models that forecast everything, and the names of the others.

    Args:
        paths: Tables of scores, one a data set.
        models: Models to rank; none = all of the first table.
        metric: Column of the scores; lower is better.

    Raises:
        ValueError: If a table lacks a column.
    """
    tables = {}
    for path in paths:
        table = pd.read_csv(path)
        missing = {"model", "failed", metric} - set(table)
        if missing:
            raise ValueError(f"{path} has no column {', '.join(sorted(missing))}; give tables of scores")
        tables[path.stem] = table.set_index("model")
    wanted = list(models) or list(next(iter(tables.values())).index)
    ranked = [m for m in wanted if all(m in t.index and t["failed"][m] == 0 for t in tables.values())]
    return pd.DataFrame({name: t.loc[ranked, metric] for name, t in tables.items()}).T, sorted({*wanted} - {*ranked})


def describe(ranks: FriedmanNemenyi, left_out: Sequence[str]) -> str:
    """Returns the ranks as lines of text."""
    rows = sorted(ranks.mean_ranks.items(), key=lambda one: one[1])
    lines = [f"{model:28s} {rank:.2f}" for model, rank in rows]
    lines.append(
        f"{ranks.blocks} data sets, Friedman p = {ranks.p_value:.3f}, "
        f"critical difference {ranks.critical_difference:.2f} at {100 * ranks.alpha:g} %"
    )
    if left_out:
        lines.append(f"no rank, not on every data set: {', '.join(left_out)}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scores", nargs="+", type=Path, help="tables of scores, one a data set")
    parser.add_argument("--models", nargs="*", default=[], help="models to rank; default: all of the first table")
    parser.add_argument("--metric", default="relative_mae", help="column; lower is better")
    parser.add_argument("--output", type=Path, help="write the diagram to this SVG")
    asked = parser.parse_args(arguments)
    blocks, left_out = read_blocks(asked.scores, asked.models, asked.metric)
    if len(blocks) < MIN_BLOCKS or blocks.shape[1] < 3:
        raise SystemExit(
            f"{len(blocks)} data sets and {blocks.shape[1]} models that forecast all of them; ranks take {MIN_BLOCKS} "
            "data sets and 3 models"
        )
    ranks = friedman_nemenyi(blocks)
    print(describe(ranks, left_out))
    if asked.output:
        asked.output.write_text(draw_critical_difference(ranks).svg)


if __name__ == "__main__":
    main()
