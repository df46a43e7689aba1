"""Measures a training step and a forecast of TimeLLM against the official computation, in pairs, in one process.

    python scripts/bench_timellm.py                                  # GPT-2 shape, 6 layers, 512 -> 96, 28 series
    python scripts/bench_timellm.py --backbone smollm2-135m --repeats 5
    python scripts/bench_timellm.py --series 8 --layers 2 --growth   # growth with each size, ours alone
    python scripts/bench_timellm.py --external my_implementation.py

Variants: `slow` computes what the official code computes (scripts/timellm_slow.py); `default` is TimeLLM as configured
by default; `series` says the statistics once a series; `none` leaves them out; `no-prompt` has no prompt at all. Every
step gets windows that were never seen before. A round runs every variant once, in rotating order; reported are the
medians over rounds of CPU seconds and wall seconds, and of the ratios slow / variant within a round. Peak memory is
that of a fresh process for each variant, less what it held before the model was built.

An external implementation is a Python file that defines `build(spec) -> (train_step, infer)`: `spec` is a dict with
context_length, prediction_length, num_series, num_layers, backbone (a folder with model and tokenizer) and device;
`train_step(x, y)` makes one full optimiser step and `infer(x)` returns forecasts, x [series, context, 1] and y
[series, horizon, 1] being float32 tensors.

`--backbone gpt2-shape` is a GPT-2-small of random weights: the cost does not depend on them. Its tokenizer is that of
SmolLM2, which splits numbers into digits, where GPT-2's own takes fewer tokens.
"""

import argparse
import importlib.util
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoTokenizer, GPT2Config, GPT2Model

sys.path.insert(0, str(Path(__file__).parent))
from timellm_slow import SlowTimeLLM

from tsllm.models.timellm import TimeLLM, TimeLLMConfig
from tsllm.models.timellm.reference import DEFAULT_DOMAIN
from tsllm.nn.pretrained import SMOLLM2, find_pretrained

VARIANTS = ("slow", "default", "series", "none", "no-prompt")
OPTIONS: dict[str, dict] = {
    "slow": {"prototype_mode": "mapping", "attention_dropout": 0.1, "reference_quirks": True},
    "default": {},
    "series": {"prompt_statistics": "series"},
    "none": {"prompt_statistics": "none"},
    "no-prompt": {"prompt": False},
}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="gpt2-shape", help="gpt2-shape, a packaged name, a folder or a Hub id")
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--horizon", type=int, default=96)
    parser.add_argument("--series", type=int, default=28, help="series in a step")
    parser.add_argument("--prototypes", type=int, default=1000)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", help="of the backbone")
    parser.add_argument("--external", type=Path)
    parser.add_argument("--growth", action="store_true", help="vary each size of `default` instead of comparing")
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--output", type=Path, default=Path("runs/bench_timellm"))
    parser.add_argument("--measure-memory-of", choices=VARIANTS, help=argparse.SUPPRESS)
    return parser.parse_args()


@contextmanager
def backbone_folder(name: str, layers: int) -> Iterator[str]:
    """Yields what `backbone:` takes; the GPT-2 shape is built into a folder that goes away again."""
    if name != "gpt2-shape":
        yield name
        return
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = AutoTokenizer.from_pretrained(find_pretrained(SMOLLM2))
        torch.manual_seed(0)
        GPT2Model(GPT2Config(n_layer=layers, bos_token_id=None, eos_token_id=None)).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        yield folder


def draw_windows(arguments: argparse.Namespace, seed: int) -> tuple[Tensor, Tensor]:
    """Draws windows that nobody saw before: daily and weekly cycles, level, trend and noise; [N, L, 1], [N, H, 1]."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    n, length = arguments.series, arguments.context + arguments.horizon
    steps = torch.arange(length) + draw(n, 1).mul(1000).round()
    values = draw(n, 1) * (steps * (2 * torch.pi / 24)).sin() + draw(n, 1) * (steps * (2 * torch.pi / 168)).cos()
    values = 20 * draw(n, 1).abs() * (values + 0.3 * draw(n, length) + draw(n, 1) * steps / 500) + 50 * draw(n, 1)
    values = values.unsqueeze(-1).to(arguments.device)
    return values[:, : arguments.context], values[:, arguments.context :]


class Variant:
    """A model, its optimiser and the two things that are timed."""

    def __init__(self, name: str, arguments: argparse.Namespace, backbone: str) -> None:
        options = {
            "backbone": backbone,
            "num_backbone_layers": arguments.layers,
            "context_length": arguments.context,
            "prediction_length": arguments.horizon,
            "num_prototypes": arguments.prototypes,
            "backbone_dtype": arguments.dtype,
            "prompt_domain": DEFAULT_DOMAIN,
            # One text serves each series of a batch, however many there are.
            "num_channels": arguments.series if name == "series" else 1,
        }
        torch.manual_seed(0)
        config = TimeLLMConfig(**(options | OPTIONS[name]))
        self.model = SlowTimeLLM(config) if name == "slow" else TimeLLM(config)
        self.model.to(arguments.device)
        self.as_channels = name == "series"
        if self.as_channels:
            self.model.describe_series(draw_windows(arguments, 10**6)[0].squeeze(-1).T)
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adam(self.trained, lr=1e-3)

    def _shape(self, x: Tensor) -> Tensor:
        return x.squeeze(-1).T.unsqueeze(0) if self.as_channels else x

    def train_step(self, x: Tensor, y: Tensor) -> None:
        """Makes one full optimiser step on x [N, L, 1] and y [N, H, 1]."""
        self.model.train()
        loss = self.model(past_values=self._shape(x), future_values=self._shape(y)).loss
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    @torch.no_grad()
    def infer(self, x: Tensor) -> Tensor:
        """Forecasts x [N, L, 1]."""
        self.model.eval()
        return self.model(past_values=self._shape(x)).predictions


def clock(action: Callable[[], object], device: str) -> tuple[float, float]:
    """Returns CPU seconds and wall seconds of an action."""
    synchronize = torch.cuda.synchronize if device.startswith("cuda") else (lambda: None)
    synchronize()
    cpu, wall = time.process_time(), time.perf_counter()
    action()
    synchronize()
    return time.process_time() - cpu, time.perf_counter() - wall


def load_external(path: Path, arguments: argparse.Namespace, backbone: str):
    """Builds an external implementation; see the text at the top."""
    found = importlib.util.spec_from_file_location("external", path)
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    spec = {
        "context_length": arguments.context,
        "prediction_length": arguments.horizon,
        "num_series": arguments.series,
        "num_layers": arguments.layers,
        "backbone": find_pretrained(backbone),
        "device": arguments.device,
    }

    class External:
        train_step, infer = map(staticmethod, module.build(spec))

    return External


def compare(arguments: argparse.Namespace, backbone: str) -> dict:
    """Times all variants in rounds; the first round warms up and is not counted."""
    runners = {name: Variant(name, arguments, backbone) for name in arguments.variants}
    if arguments.external:
        runners["external"] = load_external(arguments.external, arguments, backbone)
    rows: dict[str, dict[str, list]] = {name: {"train": [], "infer": []} for name in runners}
    order = list(runners)
    for repeat in range(arguments.repeats + 1):
        for name in order[repeat % len(order) :] + order[: repeat % len(order)]:
            x, y = draw_windows(arguments, 2 * repeat)
            unseen, _ = draw_windows(arguments, 2 * repeat + 1)
            runner = runners[name]
            train = clock(lambda r=runner, x=x, y=y: r.train_step(x, y), arguments.device)
            infer = clock(lambda r=runner, x=unseen: r.infer(x), arguments.device)
            if repeat:
                rows[name]["train"].append(train)
                rows[name]["infer"].append(infer)
            print(f"round {repeat} {name:10s} train {train[1]:6.2f} s  infer {infer[1]:6.2f} s", flush=True)
    breakdown = {}
    if "default" in runners:
        breakdown = break_down(runners["default"], arguments)
    return {"rows": rows, "breakdown": breakdown}


def break_down(variant: Variant, arguments: argparse.Namespace) -> dict[str, float]:
    """Returns CPU seconds by stage of one training step; stages do not overlap, `other` is what is left."""
    model, seconds = variant.model, {}

    def wrap(owner: object, name: str, stage: str) -> None:
        inner = getattr(owner, name)

        def timed(*args, **kwargs):
            begin = time.process_time()
            try:
                return inner(*args, **kwargs)
            finally:
                seconds[stage] = seconds.get(stage, 0.0) + time.process_time() - begin

        setattr(owner, name, timed)

    stages = [
        (model, "write_prompt", "statistics and tokens of the prompt"),
        (model, "_project_prototypes", "prototypes, keys and values"),
        (model.patch_embedding, "forward", "patch embedding"),
        (model.reprogramming, "forward", "reprogramming attention"),
        (model.backbone, "_prefix_key_values", "prompt: shared prefix"),
        (model.backbone, "_tail_key_values", "prompt: tails"),
        (model.backbone, "_read_patches", "language model on patches"),
        (model.head, "forward", "head"),
        (variant.optimizer, "step", "optimiser"),
        (Tensor, "backward", "backward"),
    ]
    originals = [(owner, name, vars(owner).get(name)) for owner, name, _ in stages]
    for stage in stages:
        wrap(*stage)
    x, y = draw_windows(arguments, 12345)
    total, _ = clock(lambda: variant.train_step(x, y), arguments.device)
    for owner, name, original in originals:
        if original is None:
            delattr(owner, name)
        else:
            setattr(owner, name, original)
    return seconds | {"other": total - sum(seconds.values())}


def measure_memory(name: str, arguments: argparse.Namespace, backbone: str) -> None:
    """Prints the peak of resident memory of two training steps in this process, in MB."""
    before = read_status("VmRSS")
    variant = Variant(name, arguments, backbone)
    for seed in range(2):
        variant.train_step(*draw_windows(arguments, seed))
    print(json.dumps({"peak_mb": read_status("VmHWM") - before}))


def read_status(key: str) -> float:
    """Returns a memory figure of this process in MB (Linux)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) / 1024


def spawn_memory(name: str, arguments: argparse.Namespace, backbone: str) -> float:
    """Measures one variant in a fresh process."""
    command = [sys.executable, __file__, "--measure-memory-of", name, "--backbone", backbone]
    for key in ("layers", "context", "horizon", "series", "prototypes", "threads", "dtype"):
        command += [f"--{key}", str(getattr(arguments, key))]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])["peak_mb"]


def grow(arguments: argparse.Namespace) -> list[dict]:
    """Times `default` while one size at a time is halved and doubled."""
    table = []
    for key in ("context", "series", "prototypes", "layers"):
        centre = getattr(arguments, key)
        for value in (centre // 2, centre, centre * 2):
            sizes = argparse.Namespace(**(vars(arguments) | {key: value}))
            # More layers than the folder has are taken from a fresh one.
            with backbone_folder(arguments.backbone, sizes.layers) as folder:
                variant = Variant("default", sizes, folder)
            times = []
            for seed in range(arguments.repeats + 1):
                x, y = draw_windows(sizes, seed)
                train = clock(lambda v=variant, x=x, y=y: v.train_step(x, y), arguments.device)[0]
                times.append((train, clock(lambda v=variant, x=x: v.infer(x), arguments.device)[0]))
            train, infer = (statistics.median(t[k] for t in times[1:]) for k in (0, 1))
            table.append({"size": key, "value": value, "train_cpu": train, "infer_cpu": infer})
            print(f"{key:10s} {value:6d}  train {train:7.2f}  infer {infer:7.2f} CPU s", flush=True)
    return table


def summarize(result: dict) -> list[dict]:
    """Returns one row a variant: medians, spread and the ratios to `slow`."""
    table = []
    for name, kinds in result["rows"].items():
        row: dict = {"variant": name}
        for kind, times in kinds.items():
            for k, unit in enumerate(("cpu", "wall")):
                values = [t[k] for t in times]
                row[f"{kind}_{unit}"] = statistics.median(values)
                row[f"{kind}_{unit}_range"] = [min(values), max(values)]
                if "slow" in result["rows"]:
                    slow = [t[k] for t in result["rows"]["slow"][kind]]
                    row[f"{kind}_{unit}_ratio"] = statistics.median(s / v for s, v in zip(slow, values, strict=True))
        table.append(row)
    return table


def draw_plot(table: list[dict], path: Path) -> None:
    """Draws CPU seconds of a step and of a forecast, one bar a variant."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), sharey=True)
    for axis, kind, title in zip(axes, ("train", "infer"), ("training step", "forecast"), strict=True):
        seconds = [row[f"{kind}_cpu"] for row in table]
        bars = axis.barh([row["variant"] for row in table], seconds)
        labels = [
            f"{s:.2f} s  ({row.get(f'{kind}_cpu_ratio', 1):.1f}x)" for s, row in zip(seconds, table, strict=True)
        ]
        axis.bar_label(bars, labels, padding=3)
        axis.set(title=title, xlabel="CPU seconds", xlim=(0, 1.45 * max(seconds)))
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].invert_yaxis()
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def print_table(table: list[dict]) -> None:
    print(f"\n{'variant':10s} {'train CPU s':>12s} {'x':>5s} {'infer CPU s':>12s} {'x':>5s} {'peak MB':>8s}")
    for row in table:
        cells = [f"{row[f'{kind}_cpu']:12.2f} {row.get(f'{kind}_cpu_ratio', 1):5.1f}" for kind in ("train", "infer")]
        print(f"{row['variant']:10s} {cells[0]} {cells[1]} {row.get('peak_mb', float('nan')):8.0f}")


def main() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    if arguments.measure_memory_of:
        measure_memory(arguments.measure_memory_of, arguments, arguments.backbone)
        return
    settings = {k: str(v) if isinstance(v, Path) else v for k, v in vars(arguments).items()}
    report = {"settings": settings, "machine": platform.processor() or platform.machine(), "torch": torch.__version__}
    arguments.output.mkdir(parents=True, exist_ok=True)
    if arguments.growth:
        report["growth"] = grow(arguments)
    else:
        with backbone_folder(arguments.backbone, arguments.layers) as folder:
            result = compare(arguments, folder)
            table = summarize(result)
            if not arguments.no_memory and arguments.device == "cpu":
                for row in table:
                    if row["variant"] in VARIANTS:
                        row["peak_mb"] = spawn_memory(row["variant"], arguments, folder)
        report |= {"table": table, "breakdown_train_cpu": result["breakdown"], "rounds": result["rows"]}
        print_table(table)
        for stage, seconds in sorted(result["breakdown"].items(), key=lambda item: -item[1]):
            print(f"  {stage:40s} {seconds:7.2f} CPU s")
        draw_plot(table, arguments.output / "bench_timellm.png")
    name = "growth.json" if arguments.growth else "bench_timellm.json"
    (arguments.output / name).write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
