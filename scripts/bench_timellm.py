"""Measures a training step and a forecast of TimeLLM against the official computation, in pairs, in one process.

    python scripts/bench_timellm.py                                  # GPT-2 shape, 6 layers, 512 -> 96, 28 series
    python scripts/bench_timellm.py --backbone smollm2-135m --repeats 5
    python scripts/bench_timellm.py --external my_implementation.py  # the interface: scripts/timellm_external.py
    python scripts/bench_timellm.py --growth --series 8 --layers 4   # cost against each size, ours alone
    python scripts/bench_timellm.py --predict 1000                   # latency and throughput of one predict call
    python scripts/bench_timellm.py --quick                          # tiny shapes: does it run?

The variants are those of scripts/timellm_variants.py. Every step but those of `seen` gets windows that were never
seen before. A round runs every variant once, in rotating order; reported are the medians over rounds of CPU seconds
and wall seconds, of each stage, and of the ratios slow / variant within a round, and the GFLOP of matrix products. On
a machine that others use as well, give --threads 1: threads that wait for one another spend CPU seconds.

Peak memory is that of two training steps in a fresh process for each variant, less what it held before the model was
built; on CUDA that of torch's allocator; of an external program its whole resident memory, libraries included.

`--backbone gpt2-shape` is a GPT-2-small of random weights: the cost does not depend on them. Its tokenizer is that of
SmolLM2, which splits numbers into digits, where GPT-2's own takes fewer tokens.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
from timellm_external import External
from timellm_growth import grow, print_growth, write_growth
from timellm_serving import print_serving, serve
from timellm_variants import (
    OPTIONS,
    SIZES,
    STAGES,
    Variant,
    backbone_folder,
    clock,
    count_flops,
    describe_machine,
    draw_windows,
    read_status,
)

QUICK = {"layers": 1, "context": 96, "horizon": 24, "series": 2, "prototypes": 50, "repeats": 1}
# What the project set itself: training and inference so many times cheaper than `slow`, memory at most so much of it.
AIMS = {"default": (4.0, 3.0, 0.35), "series": (5.5, 4.5, 0.35), "none": (5.5, 4.5, 0.35)}


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="gpt2-shape", help="gpt2-shape, a packaged name, a folder or a Hub id")
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--horizon", type=int, default=96)
    parser.add_argument("--series", type=int, default=28, help="series in a step")
    parser.add_argument("--prototypes", type=int, default=1000)
    parser.add_argument("--variants", nargs="+", default=list(OPTIONS), choices=OPTIONS)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", help="of the backbone")
    parser.add_argument("--external", type=Path, help="a program with the interface of scripts/timellm_external.py")
    parser.add_argument("--growth", action="store_true", help="vary each size of `default` instead of comparing")
    parser.add_argument("--factors", type=float, nargs="+", default=[0.5, 1, 2, 4], help="of each size, for --growth")
    parser.add_argument("--predict", type=int, default=0, metavar="N", help="forecast N series with one call instead")
    parser.add_argument("--batch", type=int, default=28, help="series that go through the model at once in --predict")
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--quick", action="store_true", help=f"tiny shapes by default: {QUICK}")
    parser.add_argument("--output", type=Path, default=Path("runs/bench_timellm"))
    parser.add_argument("--measure-memory-of", choices=OPTIONS, help=argparse.SUPPRESS)
    if parser.parse_args(argv).quick:
        parser.set_defaults(**QUICK)
    return parser.parse_args(argv)


def measure(runner: Variant | External, kind: str, windows: tuple, device: str) -> tuple[float, float]:
    """Returns CPU and wall seconds of a step or a forecast."""
    action = runner.train_step if kind == "train" else runner.infer
    return action(*windows) if isinstance(runner, External) else clock(lambda: action(*windows), device)


def compare(arguments: argparse.Namespace, backbone: str) -> dict[str, dict[str, list]]:
    """Times all variants in rounds; the first round warms up and is not counted."""
    runners: dict = {name: Variant(name, arguments, backbone).watch() for name in arguments.variants}
    if arguments.external:
        runners["external"] = External(arguments.external, arguments, backbone)
    rows: dict = {name: {"train": [], "infer": [], "train_stages": [], "infer_stages": []} for name in runners}
    order = list(runners)
    for repeat in range(arguments.repeats + 1):
        start = repeat % len(order)
        for name in [*order[start:], *order[:start]]:
            runner = runners[name]
            drawn = 0 if name == "seen" else repeat
            batches = {
                "train": draw_windows(arguments, 2 * drawn),
                "infer": draw_windows(arguments, 2 * drawn + 1)[:1],
            }
            for kind, windows in batches.items():
                seconds = measure(runner, kind, windows, arguments.device)
                stages = runner.stages.take() if isinstance(runner, Variant) else {}
                if repeat:
                    rows[name][kind].append(seconds)
                    rows[name][f"{kind}_stages"].append(stages)
                print(f"round {repeat} {name:10s} {kind} {seconds[1]:6.2f} s", flush=True)
    for name, runner in runners.items():
        if isinstance(runner, Variant):
            rows[name]["gflop"] = count_work(runner, arguments)
        else:
            rows[name]["peak_mb"] = runner.peak_mb()
            runner.close()
    return rows


def count_work(variant: Variant, arguments: argparse.Namespace) -> dict[str, float]:
    """Returns the GFLOP of a step and of a forecast of windows like those that were timed."""
    first = 0 if variant.name == "seen" else 2 * arguments.repeats + 2
    x, y = draw_windows(arguments, first)
    unseen, _ = draw_windows(arguments, first + 1)
    train = count_flops(lambda: variant.train_step(x, y)) / 1e9
    return {"train": train, "infer": count_flops(lambda: variant.infer(unseen)) / 1e9}


def summarize(rows: dict[str, dict[str, list]]) -> list[dict]:
    """Returns one row a variant: medians, ranges, stages and the ratios to `slow`."""
    table = []
    for name, measured in rows.items():
        row: dict = {"variant": name}
        for kind in ("train", "infer"):
            for k, unit in enumerate(("cpu", "wall")):
                values = [seconds[k] for seconds in measured[kind]]
                row[f"{kind}_{unit}"] = statistics.median(values)
                row[f"{kind}_{unit}_range"] = [min(values), max(values)]
                if "slow" in rows:
                    pairs = zip(rows["slow"][kind], measured[kind], strict=True)
                    ratios = [slow[k] / own[k] for slow, own in pairs]
                    row[f"{kind}_{unit}_ratio"] = statistics.median(ratios)
                    row[f"{kind}_{unit}_ratio_range"] = [min(ratios), max(ratios)]
            row[f"{kind}_stages"] = reduce_stages(measured[f"{kind}_stages"], [t[0] for t in measured[kind]])
        row |= {f"{kind}_gflop": gflop for kind, gflop in measured.get("gflop", {}).items()}
        if "peak_mb" in measured:
            row["peak_mb"] = measured["peak_mb"]
        table.append(row)
    return table


def reduce_stages(rounds: list[dict[str, float]], totals: list[float]) -> dict[str, float]:
    """Returns the median seconds of each stage and of what belongs to none."""
    if not any(rounds):
        return {}
    names = list(dict.fromkeys(name for stages in rounds for name in stages))
    medians = {name: statistics.median(stages.get(name, 0.0) for stages in rounds) for name in names}
    rest = [total - sum(stages.values()) for total, stages in zip(totals, rounds, strict=True)]
    return medians | {"other": max(0.0, statistics.median(rest))}


def measure_memory(name: str, arguments: argparse.Namespace) -> None:
    """Prints the peak of memory of two training steps in this process, in MB."""
    before = read_status("VmRSS")
    variant = Variant(name, arguments, arguments.backbone)
    for seed in range(2):
        variant.train_step(*draw_windows(arguments, seed))
    on_gpu = arguments.device.startswith("cuda")
    peak = torch.cuda.max_memory_allocated() / 2**20 if on_gpu else read_status("VmHWM") - before
    print(json.dumps({"peak_mb": peak}))


def spawn_memory(name: str, arguments: argparse.Namespace, backbone: str) -> float:
    """Measures one variant in a fresh process."""
    command = [sys.executable, __file__, "--measure-memory-of", name, "--backbone", backbone]
    for key in (*SIZES, "threads", "dtype", "device"):
        command += [f"--{key}", str(getattr(arguments, key))]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"measuring the memory of {name} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])["peak_mb"]


def compare_with_aims(table: list[dict]) -> list[dict]:
    """Returns what was aimed at and what was found; CPU seconds, because other load does not count there."""
    rows = {row["variant"]: row for row in table}
    found = []
    for name, (train, infer, memory) in AIMS.items():
        if name not in rows or "slow" not in rows:
            continue
        for kind, aim in (("train", train), ("infer", infer)):
            ratio = rows[name][f"{kind}_cpu_ratio"]
            found.append({"variant": name, "what": f"{kind}, times cheaper", "aim": aim, "found": ratio})
        if "peak_mb" in rows[name]:
            share = rows[name]["peak_mb"] / rows["slow"]["peak_mb"]
            found.append({"variant": name, "what": "share of the memory", "aim": memory, "found": share})
    for row in found:
        row["reached"] = row["found"] <= row["aim"] if row["what"].startswith("share") else row["found"] >= row["aim"]
    return found


def draw_plot(table: list[dict], path: Path) -> None:
    """Draws the CPU seconds of a step and of a forecast by stage, one bar a variant."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 1.6 + 0.45 * len(table)), sharey=True)
    colours = {stage: plt.get_cmap("tab20")(k) for k, stage in enumerate(STAGES)} | {"all": "0.6"}
    for axis, kind, title in zip(axes, ("train", "infer"), ("training step", "forecast"), strict=True):
        longest = max(row[f"{kind}_cpu"] for row in table)
        for position, row in enumerate(table):
            left, total = 0.0, row[f"{kind}_cpu"]
            found = row[f"{kind}_stages"] or {"all": total}
            for stage in [s for s in colours if s in found]:
                seconds = found[stage]
                axis.barh(position, seconds, left=left, color=colours[stage])
                left += seconds
            ratio = row.get(f"{kind}_cpu_ratio")
            label = f"{total:.3g} s" + ("" if ratio is None else f"  ({ratio:.1f}x)")
            axis.text(max(left, total) + 0.02 * longest, position, label, va="center", fontsize=9)
        axis.set_yticks(range(len(table)), [row["variant"] for row in table])
        axis.set(title=title, xlabel="CPU seconds", xlim=(0, 1.35 * longest))
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].invert_yaxis()
    handles = [plt.Rectangle((0, 0), 1, 1, color=colours[stage]) for stage in STAGES]
    figure.legend(handles, STAGES, ncols=4, loc="lower center", fontsize=8, frameon=False)
    figure.tight_layout(rect=(0, 0.75 / figure.get_figheight(), 1, 1))
    figure.savefig(path, dpi=150)
    plt.close(figure)


def print_table(table: list[dict], aims: list[dict]) -> None:
    titles = f"{'CPU s':>9s} {'wall s':>7s} {'x':>5s} {'GFLOP':>7s}"
    print(f"\n{'':10s} {'training step':>31s} {'forecast':>31s}\n{'':10s} {titles} {titles} {'peak MB':>8s}")
    for row in table:
        cells = [
            f"{row[f'{kind}_cpu']:9.2f} {row[f'{kind}_wall']:7.2f} {row.get(f'{kind}_cpu_ratio', 1):5.1f} "
            f"{row.get(f'{kind}_gflop', float('nan')):7.0f}"
            for kind in ("train", "infer")
        ]
        print(f"{row['variant']:10s} {cells[0]} {cells[1]} {row.get('peak_mb', float('nan')):8.0f}")
    for kind in ("train", "infer"):
        shown = [row for row in table if row[f"{kind}_stages"]]
        stages = [stage for stage in STAGES if any(stage in row[f"{kind}_stages"] for row in shown)]
        print(f"\n{kind + ': CPU seconds by stage':36s}" + "".join(f"{row['variant']:>10s}" for row in shown))
        for stage in stages:
            cells = [f"{row[f'{kind}_stages'].get(stage, 0.0):10.3f}" for row in shown]
            print(f"  {stage:34s}" + "".join(cells))
    print()
    for aim in aims:
        verdict = "reached" if aim["reached"] else "missed"
        print(f"{aim['variant']:8s} {aim['what']:22s} aim {aim['aim']:5.2f} found {aim['found']:5.2f} {verdict}")


def main(argv: list[str] | None = None) -> None:
    arguments = parse(argv)
    torch.set_num_threads(arguments.threads)
    if arguments.measure_memory_of:
        measure_memory(arguments.measure_memory_of, arguments)
        return
    settings = {k: str(v) if isinstance(v, Path) else v for k, v in vars(arguments).items()}
    report = {"settings": settings, "machine": describe_machine(arguments.device), "torch": torch.__version__}
    arguments.output.mkdir(parents=True, exist_ok=True)
    name = "bench_timellm"
    if arguments.growth:
        name, report["growth"] = "growth", grow(arguments)
        print_growth(report["growth"])
        write_growth(report["growth"], arguments.output / "growth.md")
    elif arguments.predict:
        name, report["serving"] = "serving", serve(arguments)
        print_serving(report["serving"])
    else:
        with backbone_folder(arguments.backbone, arguments.layers) as folder:
            rows = compare(arguments, folder)
            table = summarize(rows)
            for row in table if not arguments.no_memory else []:
                if row["variant"] in OPTIONS:
                    row["peak_mb"] = spawn_memory(row["variant"], arguments, folder)
        aims = compare_with_aims(table)
        report |= {"table": table, "aims": aims, "rounds": rows}
        print_table(table, aims)
        draw_plot(table, arguments.output / "bench_timellm.png")
    (arguments.output / f"{name}.json").write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
