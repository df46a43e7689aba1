"""How long our TimeLLM needs to become as good as the official computation is after 100 steps on ETTh1, 512 -> 96.

    python scripts/time_to_quality.py --data $TSLLM_DATA/ETTh1.csv --seeds 0
    python scripts/time_to_quality.py --data $TSLLM_DATA/ETTh1.csv --modes default none --rates 1e-3 3e-3

Every run of a seed starts from the same trained values and sees the same windows in the same order. `slow`
(scripts/timellm_slow.py) trains first, for --steps with each of --slow-rates. Then the other modes of
scripts/timellm_variants.py train with each of --rates until they meet its best error, or have made --max-steps.
Reported are CPU and wall seconds of training up to the first measurement that meets a target, for two of them: the
error of `slow` after its last step (`last`), and its best one, at the time at which it had it (`best`). Measuring on
fixed windows of the validation part costs no time here; the test part is not touched.

Writes one JSON line a run to --output and skips runs that are there already.
"""

import argparse
import statistics
from pathlib import Path

import torch
from timellm_slow import SlowTimeLLM
from timellm_trials import (
    TRAIN,
    Results,
    Stopwatch,
    collect_settings,
    draw,
    draw_validation,
    load_values,
    measure,
    start_like,
)
from timellm_variants import OPTIONS, backbone_folder
from torch import Tensor

from tsllm.models.timellm import TimeLLM, TimeLLMConfig
from tsllm.models.timellm.reference import DEFAULT_DOMAIN

SHARED = ("backbone", "layers", "context", "horizon", "prototypes", "batch", "windows", "steps", "every", "threads")
MODES = ("default", "none", "no-prompt")


def build(arguments: argparse.Namespace, mode: str, seed: int) -> TimeLLM:
    """Builds a mode of a seed; all of one seed have the same trained values."""

    def make(name: str) -> TimeLLM:
        torch.manual_seed(seed)
        options = {
            "backbone": arguments.folder,
            "num_backbone_layers": arguments.layers,
            "context_length": arguments.context,
            "prediction_length": arguments.horizon,
            "num_prototypes": arguments.prototypes,
            "prompt_domain": DEFAULT_DOMAIN,
        }
        config = TimeLLMConfig(**(options | OPTIONS[name]))
        return SlowTimeLLM(config) if name == "slow" else TimeLLM(config)

    slow = make("slow")
    if mode == "slow":
        return slow.train()
    model = make(mode)
    start_like(model, slow)
    return model.train()


def run(
    arguments: argparse.Namespace, values: Tensor, mode: str, rate: float, seed: int, target: float | None
) -> dict:
    """Trains one mode until it meets the target, or for all its steps; returns its curve of step, seconds, error."""
    model = build(arguments, mode, seed)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=rate)
    context, length = arguments.context, arguments.context + arguments.horizon
    validation = draw_validation(values, context, arguments.horizon, arguments.windows)
    generator, watch = torch.Generator().manual_seed(seed), Stopwatch()
    curve: list[list[float]] = []
    steps = arguments.steps if mode == "slow" else arguments.max_steps
    every = arguments.slow_every if mode == "slow" else arguments.every
    for step in range(1, steps + 1):
        with watch:
            batch = draw(values, 0, TRAIN, length, arguments.batch, generator)
            loss = model(past_values=batch[:, :context], future_values=batch[:, context:]).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if step % every == 0 or step == steps:
            error = measure(model, validation, context, batch=32)
            curve.append([step, round(watch.cpu, 3), round(watch.wall, 3), round(error, 5)])
            print(
                f"seed {seed} {mode} {rate:g}: step {step}, {watch.cpu:.1f} CPU s, validation {error:.4f}", flush=True
            )
            if target is not None and error <= target:
                break
    return {"mode": mode, "rate": rate, "seed": seed, "target": target, "curve": curve}


def find_target(rows: list[dict], seed: int, kind: str = "best") -> list[float] | None:
    """Returns step, CPU, wall seconds and error of the best measurement of `slow` with this seed, or the last ones."""
    curves = [row["curve"] for row in rows if row["mode"] == "slow" and row["seed"] == seed]
    points = [point for curve in curves for point in (curve if kind == "best" else curve[-1:])]
    return min(points, key=lambda point: point[3]) if points else None


def find_arrival(row: dict, target: float) -> list[float] | None:
    """Returns the first measurement of a run that is at most the target."""
    return next((point for point in row["curve"] if point[3] <= target), None)


def summarize(rows: list[dict], kind: str) -> list[dict]:
    """Returns one row a mode and seed: its fastest rate, when it met the target, and how much sooner than `slow`."""
    table = []
    for mode in dict.fromkeys(row["mode"] for row in rows if row["mode"] != "slow"):
        for seed in dict.fromkeys(row["seed"] for row in rows if row["mode"] == mode):
            slow = find_target(rows, seed, kind)
            if slow is None:
                continue
            runs = [row for row in rows if row["mode"] == mode and row["seed"] == seed]
            arrived = [(row, find_arrival(row, slow[3])) for row in runs]
            met = [(point[1], row["rate"], point) for row, point in arrived if point is not None]
            found = {"mode": mode, "seed": seed, "kind": kind, "target": slow[3]}
            found |= {"slow_cpu": slow[1], "slow_wall": slow[2]}
            found |= {"met": bool(met), "best": min(p[3] for row in runs for p in row["curve"])}
            if met:
                _, rate, (step, cpu, wall, _) = min(met)
                found |= {"rate": rate, "step": step, "cpu": cpu, "wall": wall}
                found |= {"cpu_ratio": slow[1] / cpu, "wall_ratio": slow[2] / wall}
            table.append(found)
    return table


def print_table(table: list[dict]) -> None:
    """Prints the table in Markdown, and the median ratio of each mode."""
    print("\n| mode | seed | target | MSE | slow, CPU s | rate | steps | CPU s | ratio, CPU | ratio, wall |")
    print("|---|---:|---|---:|---:|---:|---:|---:|---:|---:|")
    for row in table:
        head = f"| {row['mode']} | {row['seed']} | {row['kind']} | {row['target']:.4f} | {row['slow_cpu']:.0f} |"
        if row["met"]:
            tail = f" {row['rate']:g} | {row['step']} | {row['cpu']:.1f} | {row['cpu_ratio']:.1f} |"
            print(f"{head}{tail} {row['wall_ratio']:.1f} |")
        else:
            print(f"{head} not met: best {row['best']:.4f} | | | | |")
    for mode, kind in dict.fromkeys((row["mode"], row["kind"]) for row in table):
        rows = [row for row in table if (row["mode"], row["kind"]) == (mode, kind)]
        ratios = [row["cpu_ratio"] if row["met"] else 0.0 for row in rows]
        print(f"{mode}, {kind}: median ratio {statistics.median(ratios):.1f}, {len(ratios)} seeds (0 = never met)")


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--modes", nargs="+", default=["default"], choices=MODES)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--slow-rates", nargs="+", type=float, default=[1e-3])
    parser.add_argument("--rates", nargs="+", type=float, default=[1e-3])
    parser.add_argument("--steps", type=int, default=100, help="of `slow`")
    parser.add_argument("--max-steps", type=int, default=400, help="of the other modes")
    parser.add_argument("--every", type=int, default=10, help="steps between measurements")
    parser.add_argument("--slow-every", type=int, default=25, help="steps between measurements of `slow`")
    parser.add_argument("--batch", type=int, default=8, help="series in a step")
    parser.add_argument("--windows", type=int, default=128, help="validation windows")
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--horizon", type=int, default=96)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--prototypes", type=int, default=1000)
    parser.add_argument("--backbone", default="smollm2-135m", help="as in scripts/bench_timellm.py")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--output", type=Path, default=Path("runs/time_to_quality.jsonl"))
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    arguments = parse(argv)
    torch.set_num_threads(arguments.threads)
    values = load_values(arguments.data)
    results = Results(arguments.output, collect_settings(arguments, SHARED))
    with backbone_folder(arguments.backbone, arguments.layers) as arguments.folder:
        for seed in arguments.seeds:
            for mode, rates in [("slow", arguments.slow_rates), *((m, arguments.rates) for m in arguments.modes)]:
                slow = find_target(results.rows, seed)
                for rate in rates:
                    if results.find(mode=mode, rate=rate, seed=seed) is None:
                        target = slow[3] if slow and mode != "slow" else None
                        results.add(run(arguments, values, mode, rate, seed, target))
    print_table([row for kind in ("last", "best") for row in summarize(results.rows, kind)])


if __name__ == "__main__":
    main()
