"""How the cost of TimeLLM grows with each size, next to its own arithmetic; run by `bench_timellm.py --growth`."""

import argparse
import math
import statistics
from pathlib import Path

from timellm_variants import Variant, backbone_folder, clock, count_flops, draw_windows

SIZES = {"context": "context length, steps", "series": "series", "prototypes": "prototypes", "layers": "layers"}
KINDS = {"train": "training step", "infer": "forecast"}
_TOLERANCE = 0.1  # of an exponent, for what a busy machine adds


def grow(arguments: argparse.Namespace) -> list[dict]:
    """Times `default` while one size at a time takes each of `factors` times its value; the others stay.

    Returns:
        One row a size and kind of work: values, CPU seconds (median over rounds), GFLOPs and the fitted exponents.
    """
    rows = []
    for size in SIZES:
        values = sorted({max(1, round(getattr(arguments, size) * factor)) for factor in arguments.factors})
        cases = [argparse.Namespace(**(vars(arguments) | {size: value})) for value in values]
        variants = []
        for case in cases:
            with backbone_folder(arguments.backbone, case.layers) as folder:
                variants.append(Variant("default", case, folder))
        flops = [measure_flops(variant, case) for variant, case in zip(variants, cases, strict=True)]
        seconds = measure_seconds(variants, cases, arguments)
        for kind in KINDS:
            row = {"size": size, "kind": kind, "values": values}
            row["seconds"] = [s[kind] for s in seconds]
            row["gflops"] = [f[kind] / 1e9 for f in flops]
            row["exponent_seconds"] = fit_exponent(values, row["seconds"])
            row["exponent_gflops"] = fit_exponent(values, row["gflops"])
            row["no_worse"] = row["exponent_seconds"] <= row["exponent_gflops"] + _TOLERANCE
            rows.append(row)
            print(format_row(row), flush=True)
    return rows


def measure_flops(variant: Variant, case: argparse.Namespace) -> dict[str, int]:
    """Counts a step and a forecast of new windows, what all windows share being known already."""
    x, y = draw_windows(case, 10**6)
    variant.infer(x)
    x, y = draw_windows(case, 10**6 + 1)
    train = count_flops(lambda: variant.train_step(x, y))
    unseen, _ = draw_windows(case, 10**6 + 2)
    variant.infer(x)  # the prototypes' keys and values are computed once, too
    return {"train": train, "infer": count_flops(lambda: variant.infer(unseen))}


def measure_seconds(variants: list, cases: list, arguments: argparse.Namespace) -> list[dict[str, float]]:
    """Returns median CPU seconds of each case; the cases take turns, so that other load meets all alike."""
    times: list = [{kind: [] for kind in KINDS} for _ in cases]
    for repeat in range(arguments.repeats + 1):
        for variant, case, found in zip(variants, cases, times, strict=True):
            (x, y), (unseen, _) = draw_windows(case, 2 * repeat), draw_windows(case, 2 * repeat + 1)
            train = clock(lambda v=variant, x=x, y=y: v.train_step(x, y), arguments.device)[0]
            infer = clock(lambda v=variant, x=unseen: v.infer(x), arguments.device)[0]
            if repeat:
                found["train"].append(train)
                found["infer"].append(infer)
    return [{kind: statistics.median(values) for kind, values in found.items()} for found in times]


def fit_exponent(sizes: list[int], costs: list[float]) -> float:
    """Returns the slope of log cost over log size by least squares; NaN for a single size."""
    if len(sizes) < 2:
        return math.nan
    x, y = [math.log(s) for s in sizes], [math.log(c) for c in costs]
    return statistics.linear_regression(x, y).slope


def format_row(row: dict) -> str:
    """Writes a row of the table in Markdown."""
    values = " / ".join(f"{v:,}" for v in row["values"])
    seconds = " / ".join(f"{s:.2f}" for s in row["seconds"])
    gflops = " / ".join(f"{g:.0f}" for g in row["gflops"])
    exponents = f"{row['exponent_seconds']:.2f} | {row['exponent_gflops']:.2f}"
    return f"| {SIZES[row['size']]}: {values} | {KINDS[row['kind']]} | {seconds} | {gflops} | {exponents} |"


def format_growth(rows: list[dict]) -> str:
    """Writes the table in Markdown."""
    head = [
        "| size | | CPU seconds | GFLOP | exponent of the seconds | of the arithmetic |",
        "|---|---|---:|---:|---:|---:|",
    ]
    return "".join(line + "\n" for line in [*head, *map(format_row, rows)])


def write_growth(rows: list[dict], path: Path) -> None:
    path.write_text(format_growth(rows))


def print_growth(rows: list[dict]) -> None:
    print("\n" + format_growth(rows))
    worse = [f"{row['size']} ({row['kind']})" for row in rows if not row["no_worse"]]
    print(f"worse than the arithmetic by more than {_TOLERANCE}: {', '.join(worse) or 'nothing'}")
