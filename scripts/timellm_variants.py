"""What the Time-LLM benchmarks share: the variants that are measured, windows for them, clocks and counters.

Variants: `slow` computes what the official code computes (timellm_slow.py); `default` is TimeLLM as configured by
default; `seen` is the same on windows that come back, whose prompts are kept; `series` says the statistics once a
series; `none` leaves them out; `no-prompt` has no prompt at all.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count
from transformers import AutoTokenizer, GPT2Config, GPT2Model

sys.path.insert(0, str(Path(__file__).parent))
from timellm_slow import SlowTimeLLM

from tsllm.backbones.pretrained import SMOLLM2, find_pretrained
from tsllm.models.timellm import TimeLLM, TimeLLMConfig
from tsllm.models.timellm.reference import DEFAULT_DOMAIN

OPTIONS: dict[str, dict] = {
    "slow": {"prototype_mode": "mapping", "attention_dropout": 0.1, "reference_quirks": True},
    "default": {},
    "seen": {"prompt_cache_mb": 4000},
    "series": {"prompt_statistics": "series"},
    "none": {"prompt_statistics": "none"},
    "no-prompt": {"prompt": False},
}
SIZES = ("layers", "context", "horizon", "series", "prototypes")
STAGES = (
    "statistics, text, tokens",
    "prompt: shared prefix",
    "prompt: tails",
    "prototypes, their keys and values",
    "patch embedding",
    "reprogramming attention",
    "language model",
    "head",
    "backward",
    "optimiser",
    "other",
)


@contextmanager
def backbone_folder(name: str, layers: int) -> Iterator[str]:
    """Yields what `backbone:` takes; the GPT-2 shape is built into a folder that goes away again."""
    if name != "gpt2-shape":
        yield name
        return
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = AutoTokenizer.from_pretrained(find_pretrained(SMOLLM2), trust_remote_code=False)
        torch.manual_seed(0)
        GPT2Model(GPT2Config(n_layer=layers, bos_token_id=None, eos_token_id=None)).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        yield folder


def draw_windows(sizes: argparse.Namespace, seed: int) -> tuple[Tensor, Tensor]:
    """Draws windows of daily and weekly cycles, level, trend and noise: [N, L, 1] and [N, H, 1]."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    n, length = sizes.series, sizes.context + sizes.horizon
    steps = torch.arange(length) + draw(n, 1).mul(1000).round()
    values = draw(n, 1) * (steps * (2 * torch.pi / 24)).sin() + draw(n, 1) * (steps * (2 * torch.pi / 168)).cos()
    values = 20 * draw(n, 1).abs() * (values + 0.3 * draw(n, length) + draw(n, 1) * steps / 500) + 50 * draw(n, 1)
    values = values.unsqueeze(-1).to(sizes.device)
    return values[:, : sizes.context], values[:, sizes.context :]


class StageClock:
    """Adds up the seconds of the parts of a computation: CPU seconds, or on CUDA wall seconds with a synchronisation.

    Parts that are timed must not contain one another.
    """

    def __init__(self, device: str) -> None:
        self.cuda = device.startswith("cuda")
        self.seconds: dict[str, float] = {}

    def now(self) -> float:
        """Returns the clock in seconds."""
        if not self.cuda:
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Adds what happens inside to a stage."""
        begin = self.now()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + self.now() - begin

    def wrap(self, owner: object, name: str, stage: str) -> None:
        """Times each call of a method from now on."""
        inner = getattr(owner, name)

        def timed(*args, **kwargs):
            with self.time(stage):
                return inner(*args, **kwargs)

        setattr(owner, name, timed)

    def take(self) -> dict[str, float]:
        """Returns what was added up and begins anew."""
        taken, self.seconds = self.seconds, {}
        return taken


class Variant:
    """A model, its optimiser, and the two things that are timed.

    Args:
        name: A key of `OPTIONS`.
        sizes: `SIZES`, `device` and `dtype`.
        backbone: What `backbone:` takes.
    """

    def __init__(self, name: str, sizes: argparse.Namespace, backbone: str) -> None:
        options = {
            "backbone": backbone,
            "num_backbone_layers": sizes.layers,
            "context_length": sizes.context,
            "prediction_length": sizes.horizon,
            "num_prototypes": sizes.prototypes,
            "backbone_dtype": sizes.dtype,
            "prompt_domain": DEFAULT_DOMAIN,
            # One text serves each series of a batch, however many there are.
            "num_channels": sizes.series if name == "series" else 1,
        }
        torch.manual_seed(0)
        config = TimeLLMConfig(**(options | OPTIONS[name]))
        self.name = name
        self.model = SlowTimeLLM(config) if name == "slow" else TimeLLM(config)
        self.model.to(sizes.device)
        self.as_channels = name == "series"
        if self.as_channels:
            self.model.describe_series(draw_windows(sizes, 10**6)[0].squeeze(-1).T)
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adam(self.trained, lr=1e-3)
        self.stages = StageClock(sizes.device)

    def watch(self) -> "Variant":
        """Times the stages of each call from now on, see `StageClock`."""
        for owner, method, stage in find_stages(self.model):
            self.stages.wrap(owner, method, stage)
        return self

    def _shape(self, x: Tensor) -> Tensor:
        return x.squeeze(-1).T.unsqueeze(0) if self.as_channels else x

    def train_step(self, x: Tensor, y: Tensor) -> None:
        """Makes one full optimiser step on x [N, L, 1] and y [N, H, 1]."""
        self.model.train()
        loss = self.model(past_values=self._shape(x), future_values=self._shape(y)).loss
        self.optimizer.zero_grad()
        with self.stages.time("backward"):
            loss.backward()
        with self.stages.time("optimiser"):
            self.optimizer.step()

    @torch.no_grad()
    def infer(self, x: Tensor) -> Tensor:
        """Forecasts x [N, L, 1]."""
        self.model.eval()
        return self.model(past_values=self._shape(x)).predictions


def find_stages(model: TimeLLM) -> list[tuple[object, str, str]]:
    """Returns owner, method and name of the stages of a forward pass; none contains another."""
    shared: list[tuple[object, str, str]] = [
        (model.patch_embedding, "forward", "patch embedding"),
        (model.head, "forward", "head"),
    ]
    if isinstance(model, SlowTimeLLM):
        return [
            *shared,
            (model, "_write_reference", "statistics, text, tokens"),
            (model.prototypes.mapping, "forward", "prototypes, their keys and values"),
            (model, "_reprogram", "reprogramming attention"),
            (model.backbone.llm, "forward", "language model"),
        ]
    return [
        *shared,
        (model, "write_prompt", "statistics, text, tokens"),
        (model, "_project_prototypes", "prototypes, their keys and values"),
        (model.reprogramming, "forward", "reprogramming attention"),
        (model.backbone, "_prefix_key_values", "prompt: shared prefix"),
        (model.backbone, "_tail_key_values", "prompt: tails"),
        (model.backbone, "_read_patches", "language model"),
    ]


def clock(action: Callable[[], object], device: str) -> tuple[float, float]:
    """Returns CPU seconds and wall seconds of an action."""
    synchronize = torch.cuda.synchronize if device.startswith("cuda") else (lambda: None)
    synchronize()
    cpu, wall = time.process_time(), time.perf_counter()
    action()
    synchronize()
    return time.process_time() - cpu, time.perf_counter() - wall


def count_flops(action: Callable[[], object]) -> int:
    """Returns the FLOPs of matrix products, convolutions and attention; the CPU's fused attention counts in full."""

    def forward(query, key, value, *_args, **_kwargs) -> int:
        return sdpa_flop_count(query, key, value)

    def backward(grad, query, key, value, *_args, **_kwargs) -> int:
        return sdpa_backward_flop_count(grad, query, key, value)

    attention = {
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: forward,
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: backward,
    }
    with FlopCounterMode(display=False, custom_mapping=attention) as counter:
        action()
    return counter.get_total_flops()


def read_status(key: str, process: int | str = "self") -> float:
    """Returns a memory figure of a process in MB (Linux)."""
    line = next(s for s in Path(f"/proc/{process}/status").read_text().splitlines() if s.startswith(key))
    return int(line.split()[1]) / 1024


def reset_peak() -> None:
    """Makes `VmHWM` of this process begin anew (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")


def describe_machine(device: str) -> str:
    """Returns the processor, or the GPU, and the threads."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    names = [s.split(":")[1].strip() for s in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in s]
    threads = torch.get_num_threads()
    return f"{names[0] if names else 'CPU'}, {len(names)} cores, {threads} thread{'s' if threads > 1 else ''} used"
