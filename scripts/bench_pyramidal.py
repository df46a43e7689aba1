"""Measures what pyramidal attention costs as the length grows: time and memory of a training step of its encoder.

    python scripts/bench_pyramidal.py --output_dir runs/bench_pyramidal

One row a length: two Pyraformer layers over the pyramid of that many steps, forward and backward, once gathering the
neighbours of every node ("linear") and, up to `--longest_dense`, by a masked N x N matrix ("dense"), with the largest
difference of their results. Every point runs in a process of its own. Time is the processor's (minimum of the rounds),
memory the growth of the process over what it held before the step, at its peak (on CUDA: the allocator's peak).
Columns "x" give the ratio to the length before; doubling the length should double both. Writes `pyramidal.json` and
`pyramidal.md`.
"""

import argparse
import json
import multiprocessing
import resource
import time
from pathlib import Path

import torch

from tsllm.nn.attention.pyramidal import PyramidalLayer, build_pyramid


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--output_dir", type=Path, default=Path("runs/bench_pyramidal"))
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 1024, 2048, 4096, 8192, 16384])
    parser.add_argument("--longest_dense", type=int, default=4096)
    parser.add_argument("--window_sizes", type=int, nargs="+", default=[4, 4, 4])
    parser.add_argument("--inner_size", type=int, default=5)
    parser.add_argument("--d_model", type=int, default=64)
    parser.add_argument("--num_heads", type=int, default=4)
    parser.add_argument("--num_layers", type=int, default=2)
    parser.add_argument("--batch_size", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(argv)


class Step:
    """A training step of the encoder at one length; `dense` chooses the masked matrix."""

    def __init__(self, options: argparse.Namespace, length: int) -> None:
        torch.manual_seed(options.seed)
        self.pyramid = build_pyramid(length, options.window_sizes, options.inner_size)
        width = options.d_model
        self.layers = torch.nn.ModuleList(
            PyramidalLayer(width, options.num_heads, 2 * width) for _ in range(options.num_layers)
        ).to(options.device)
        self.nodes = torch.randn(options.batch_size, self.pyramid.num_nodes, width, device=options.device)
        self.device = options.device

    def forward(self, dense: bool) -> torch.Tensor:
        """Returns the encoded nodes [B, N, D]."""
        nodes = self.nodes
        allowed = self.pyramid.allowed().to(self.device) if dense else None
        for layer in self.layers:
            nodes = layer.attend(nodes, allowed)[0] if dense else layer(nodes, self.pyramid)
        return nodes

    def __call__(self, dense: bool) -> None:
        """Runs forward and backward once."""
        self.layers.zero_grad()
        self.forward(dense).square().mean().backward()
        if self.device != "cpu":
            torch.cuda.synchronize()


def peak_bytes(device: str) -> int:
    """Peak of the process (kilobytes of Linux, turned into bytes) or of the CUDA allocator."""
    if device != "cpu":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(options: argparse.Namespace, length: int, dense: bool, results: multiprocessing.SimpleQueue) -> None:
    """Measures one point and puts seconds, bytes and, for dense, the difference to the linear form."""
    torch.set_num_threads(1)
    step = Step(options, length)
    clock = time.process_time if options.device == "cpu" else time.perf_counter
    held = peak_bytes(options.device)
    seconds = []
    for _ in range(options.rounds):
        start = clock()
        step(dense)
        seconds.append(clock() - start)
    grown = peak_bytes(options.device) - held
    with torch.no_grad():
        difference = (step.forward(True) - step.forward(False)).abs().max().item() if dense else None
    results.put({"seconds": min(seconds), "bytes": grown, "difference": difference})


def run_point(options: argparse.Namespace, length: int, dense: bool) -> dict:
    """Runs `measure` in a fresh process, so that its peak of memory is its own."""
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    process = context.Process(target=measure, args=(options, length, dense, results))
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"the process for length {length} ended with code {process.exitcode}; is memory enough?")
    return {"length": length, "form": "dense" if dense else "linear"} | results.get()


def write_table(rows: list[dict]) -> str:
    """Returns the rows as Markdown."""
    lines = ["| form | length | ms a step | x | peak MiB | x | largest difference |", "|---|---|---|---|---|---|---|"]
    for before, row in zip([None, *rows], rows, strict=False):
        same = before is not None and before["form"] == row["form"]
        slower = f"{row['seconds'] / before['seconds']:.2f}" if same else ""
        larger = f"{row['bytes'] / before['bytes']:.2f}" if same and before["bytes"] else ""
        difference = "" if row["difference"] is None else f"{row['difference']:.1e}"
        lines.append(
            f"| {row['form']} | {row['length']} | {row['seconds'] * 1e3:.1f} | {slower} | "
            f"{row['bytes'] / 2**20:.1f} | {larger} | {difference} |"
        )
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> None:
    options = parse_arguments(argv)
    points = [(length, False) for length in options.lengths]
    points += [(length, True) for length in options.lengths if length <= options.longest_dense]
    rows = []
    for length, dense in points:
        rows.append(run_point(options, length, dense))
        print(rows[-1], flush=True)
    options.output_dir.mkdir(parents=True, exist_ok=True)
    settings = {name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()}
    (options.output_dir / "pyramidal.json").write_text(json.dumps({"settings": settings, "rows": rows}, indent=1))
    (options.output_dir / "pyramidal.md").write_text(write_table(rows))
    print(write_table(rows))


if __name__ == "__main__":
    main()
