"""Time of a training step of each native forecaster, next to the public reference code on the same shapes.

python scripts/bench_native.py --reference ../Time-Series-Library --unet ../UnetTSF
Both sides see the same batch; steps alternate between them, and the median counts. Without `--reference` only our own
times are shown. Packages that the reference imports but never calls here are replaced by empty modules.
"""

import argparse
import importlib.util
import json
import statistics
import sys
import time
import types
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from tsllm.models import build_model

WIDE = {"d_model": 128, "num_heads": 8, "num_layers": 2, "d_ff": 256, "dropout": 0.1}
MODELS: dict[str, dict[str, Any]] = {
    "dlinear": {"moving_average": 25},
    "patchtst": {**WIDE, "patch_length": 16, "patch_stride": 8, "head_dropout": 0.1},
    "itransformer": {**WIDE, "num_time_features": 4},
    "timesnet": {
        "d_model": 16,
        "d_ff": 32,
        "num_layers": 2,
        "top_k": 5,
        "num_kernels": 6,
        "dropout": 0.1,
        "num_time_features": 4,
    },
    "timexer": {**WIDE, "patch_length": 16, "head_dropout": 0.1, "num_time_features": 4},
    "timemixer": {
        "d_model": 16,
        "d_ff": 32,
        "num_layers": 2,
        "downsampling_layers": 3,
        "downsampling_window": 2,
        "moving_average": 25,
        "dropout": 0.1,
    },
    "pyraformer": {**WIDE, "window_sizes": [4, 4], "inner_size": 5, "num_time_features": 4},
    "unet_tsf": {"num_stages": 3},
}
REFERENCES = {
    "dlinear": "DLinear",
    "patchtst": "PatchTST",
    "itransformer": "iTransformer",
    "timesnet": "TimesNet",
    "timexer": "TimeXer",
    "timemixer": "TimeMixer",
    "pyraformer": "Pyraformer",
}
CHANNELS, FEATURES = 7, 4


def build_reference(name: str, args: argparse.Namespace) -> nn.Module | None:
    """Builds the reference's model of the same sizes; None if its code was not given."""
    sizes = MODELS[name]
    options = {
        "task_name": "long_term_forecast",
        "seq_len": args.context_length,
        "label_len": 48,
        "pred_len": args.prediction_length,
        "enc_in": CHANNELS,
        "dec_in": CHANNELS,
        "c_out": CHANNELS,
        "d_model": sizes.get("d_model", 128),
        "n_heads": sizes.get("num_heads", 8),
        "e_layers": sizes.get("num_layers", 2),
        "d_layers": 1,
        "d_ff": sizes.get("d_ff", 256),
        "moving_avg": 25,
        "factor": 1,
        "dropout": 0.1,
        "embed": "timeF",
        "freq": "h",
        "activation": "gelu",
        "features": "M",
        "use_norm": 1,
        "top_k": 5,
        "num_kernels": 6,
        "patch_len": 16,
        "channel_independence": 1,
        "decomp_method": "moving_avg",
        "down_sampling_layers": 3,
        "down_sampling_window": 2,
        "down_sampling_method": "avg",
        "use_future_temporal_feature": 0,
        "individual": False,
        "stage_num": 3,
        "stage_pool_kernel": 3,
        "stage_pool_stride": 2,
        "stage_pool_padding": 0,
    }
    folder, module = (args.unet, "Time_Unet") if name == "unet_tsf" else (args.reference, REFERENCES.get(name))
    if not folder or module is None:
        return None
    for loaded in [m for m in sys.modules if m.split(".")[0] in ("models", "layers", "utils")]:
        del sys.modules[loaded]
    sys.path.insert(0, folder)
    try:
        return importlib.import_module(f"models.{module}").Model(SimpleNamespace(**options))
    finally:
        sys.path.remove(folder)


def make_step(model: nn.Module, predict: Callable[[], torch.Tensor], target: torch.Tensor) -> Callable[[], None]:
    """Returns a training step: forward, mean squared error, backward, Adam."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    model.train()

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.mse_loss(predict(), target).backward()
        optimizer.step()

    return step


def measure(steps: dict[str, Callable[[], None]], repeats: int) -> dict[str, float]:
    """Returns the median seconds of each step; they take turns, so that other load meets all alike."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for round_ in range(repeats + 2):
        for name, step in steps.items():
            began = time.perf_counter()
            step()
            if round_ >= 2:
                times[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in times.items()}


def bench(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Measures one model."""
    torch.manual_seed(0)
    sizes = {"context_length": args.context_length, "prediction_length": args.prediction_length}
    ours = build_model(name, **sizes, num_channels=CHANNELS, **MODELS[name])
    past = torch.randn(args.batch, args.context_length, CHANNELS)
    target = torch.randn(args.batch, args.prediction_length, CHANNELS)
    marks = torch.rand(args.batch, args.context_length, FEATURES) - 0.5
    more = {"past_time_features": marks} if ours.config.num_time_features else {}
    if more and name == "pyraformer":
        more["future_time_features"] = torch.rand(args.batch, args.prediction_length, FEATURES) - 0.5
    steps = {"ours": make_step(ours, lambda: ours(past_values=past, **more).predictions, target)}
    reference = build_reference(name, args)
    if reference is not None:
        given = (past,) if name == "unet_tsf" else (past, marks if more else None, None, None)
        # Some of the library's models change their input in place, so each step gets a copy.
        steps["reference"] = make_step(reference, lambda: reference(given[0].clone(), *given[1:]), target)
    found: dict[str, Any] = {"model": name} | measure(steps, args.repeats)
    if reference is not None:
        found["ratio"] = found["ours"] / found["reference"]
        found["parameters"] = [sum(p.numel() for p in m.parameters() if p.requires_grad) for m in (ours, reference)]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", help="folder of Time-Series-Library")
    parser.add_argument("--unet", help="folder of UnetTSF")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--context-length", type=int, default=96)
    parser.add_argument("--prediction-length", type=int, default=720)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for package in ("reformer_pytorch", "einops"):
        if importlib.util.find_spec(package) is None:
            sys.modules[package] = types.ModuleType(package)
            sys.modules[package].__getattr__ = lambda _name: None  # type: ignore[method-assign]
    for name in args.models:
        print(json.dumps(bench(name, args)), flush=True)


if __name__ == "__main__":
    main()
