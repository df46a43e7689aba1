"""Times forward + backward of each token mixer over growing lengths and fits how the time grows.

    python scripts/bench_blocks.py --output_dir runs/bench_blocks

Writes `blocks.json` (every repetition), `blocks.md` (table with fitted exponents) and `blocks.png` (log-log plot).
Rounds go over all blocks and lengths in turn, so that a busy spell of the machine hits all alike; the figure of a
point is the minimum of its rounds, which other load can only raise. On a CPU it counts the processor's time of the
process, not the wall's, so that waiting for a core does not count. The exponent is the slope of log time over log
length, fitted over the lengths from `--fit_from` on, where fixed costs have faded. Blocks that walk step by step are
left out unless named by `--blocks`.
"""

import argparse
import gc
import json
import math
import statistics
import time
from pathlib import Path

import torch

from tsllm.nn.attention import ATTENTION
from tsllm.nn.blocks import build_mixer

DEFAULT_BLOCKS = {
    "full": {"type": "full"},
    "trend_aware": {"type": "trend_aware"},
    "log_sparse": {"type": "log_sparse"},
    "pyramidal": {"type": "pyramidal", "window_sizes": [4, 4, 4]},
    "window": {"type": "window", "window_size": 64},
    "agent": {"type": "agent", "num_agents": 16},
    "relu_linear": {"type": "relu_linear", "scales": [5]},
    "relu_linear (causal)": {"type": "relu_linear", "scales": [5], "causal": True},
    "additive": {"type": "additive"},
    "pooling": {"type": "pooling"},
}


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--output_dir", type=Path, default=Path("runs/bench_blocks"))
    parser.add_argument("--lengths", type=int, nargs="+", default=[256, 512, 1024, 2048, 4096, 8192, 16384])
    parser.add_argument("--blocks", nargs="+", default=None, help="some of the default rows, or names of the table")
    parser.add_argument("--d_model", type=int, default=64)
    parser.add_argument("--num_heads", type=int, default=4)
    parser.add_argument("--batch_size", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--fit_from", type=int, default=2048, help="shortest length that takes part in the fit")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(argv)


def choose_blocks(names: list[str] | None) -> dict[str, dict]:
    if names is None:
        return dict(DEFAULT_BLOCKS)
    return {name: DEFAULT_BLOCKS[name] if name in DEFAULT_BLOCKS else _named(name) for name in names}


def _named(name: str) -> dict:
    ATTENTION.get(name)  # an unknown name lists the nearest ones
    return {"type": name}


def time_once(block: torch.nn.Module, x: torch.Tensor) -> float:
    """Seconds of one forward and backward pass: of the processor on a CPU, of the wall on a GPU."""
    block.zero_grad(set_to_none=True)
    x.grad = None
    if x.is_cuda:
        torch.cuda.synchronize()
    clock = time.perf_counter if x.is_cuda else time.process_time
    start = clock()
    block(x).sum().backward()
    if x.is_cuda:
        torch.cuda.synchronize()
    return clock() - start


def measure(args: argparse.Namespace) -> dict[str, dict[int, list[float]]]:
    """Times every block at every length, in rounds; the first pass of a point warms up and is not counted."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    chosen = choose_blocks(args.blocks)
    seconds: dict[str, dict[int, list[float]]] = {name: {n: [] for n in args.lengths} for name in chosen}
    for index in range(args.rounds):
        for length in args.lengths:
            x = torch.randn(args.batch_size, length, args.d_model, device=args.device, requires_grad=True)
            for name, spec in chosen.items():
                block = build_mixer(spec, args.d_model, args.num_heads, length).to(args.device)
                time_once(block, x)
                seconds[name][length].append(time_once(block, x))
                del block
            gc.collect()
        print(f"round {index + 1} of {args.rounds} done", flush=True)
    return seconds


def fit_exponent(points: dict[int, float]) -> float:
    """Slope of log seconds over log length, by least squares.

    >>> round(fit_exponent({10: 1.0, 100: 100.0, 1000: 10000.0}), 6)
    2.0
    """
    xs, ys = [math.log(n) for n in points], [math.log(s) for s in points.values()]
    x_mean, y_mean = statistics.fmean(xs), statistics.fmean(ys)
    covariance = sum((x - x_mean) * (y - y_mean) for x, y in zip(xs, ys, strict=True))
    return covariance / sum((x - x_mean) ** 2 for x in xs)


def summarise(seconds: dict[str, dict[int, list[float]]], fit_from: int) -> dict[str, dict]:
    summary = {}
    for name, by_length in seconds.items():
        best = {length: min(values) for length, values in by_length.items()}
        fitted = {length: value for length, value in best.items() if length >= fit_from}
        if len(fitted) < 2:
            raise ValueError(f"the fit needs at least two lengths from {fit_from} on; got {sorted(best)}")
        rounds = range(min(len(values) for values in by_length.values()))
        each = [fit_exponent({n: by_length[n][r] for n in fitted}) for r in rounds]
        summary[name] = {"seconds": best, "exponent": fit_exponent(fitted), "exponent_of_each_round": each}
    return summary


def write_table(summary: dict[str, dict], args: argparse.Namespace, path: Path) -> str:
    lengths = args.lengths
    lines = [
        "| block | " + " | ".join(f"{n:,}" for n in lengths) + " | exponent | rounds |",
        "|---|" + "---:|" * (len(lengths) + 2),
    ]
    for name, row in sorted(summary.items(), key=lambda item: item[1]["seconds"][lengths[-1]]):
        times = " | ".join(f"{1000 * row['seconds'][n]:.1f}" for n in lengths)
        spread = f"{min(row['exponent_of_each_round']):.2f}-{max(row['exponent_of_each_round']):.2f}"
        lines.append(f"| {name} | {times} | {row['exponent']:.2f} | {spread} |")
    text = (
        "Milliseconds of forward + backward by length; exponent fitted from "
        f"{args.fit_from:,} on, and its range over the single rounds. d_model {args.d_model}, {args.num_heads} heads, "
        f"batch {args.batch_size}, {args.device}, {args.threads} thread(s), minimum of {args.rounds} rounds, torch "
        f"{torch.__version__}.\n\n" + "\n".join(lines) + "\n"
    )
    path.write_text(text)
    return text


def draw(summary: dict[str, dict], lengths: list[int], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5.5))
    for index, (name, row) in enumerate(summary.items()):
        style = "o-" if index < 10 else "s--"
        axes.loglog(lengths, [row["seconds"][n] for n in lengths], style, label=f"{name} ({row['exponent']:.2f})")
    axes.set_xticks(lengths, [f"{n:,}" for n in lengths])
    axes.minorticks_off()
    axes.set_xlabel("length [tokens]")
    axes.set_ylabel("forward + backward [s]")
    axes.grid(visible=True, alpha=0.3)
    axes.legend(title="block (fitted exponent)", fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def main(argv: list[str] | None = None) -> None:
    args = parse_arguments(argv)
    args.output_dir.mkdir(parents=True, exist_ok=True)
    seconds = measure(args)
    summary = summarise(seconds, args.fit_from)
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(args).items()}
    record = {"settings": settings, "torch": torch.__version__, "seconds": seconds, "summary": summary}
    (args.output_dir / "blocks.json").write_text(json.dumps(record, indent=1))
    print(write_table(summary, args, args.output_dir / "blocks.md"))
    draw(summary, args.lengths, args.output_dir / "blocks.png")


if __name__ == "__main__":
    main()
