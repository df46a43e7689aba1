"""Trains a model of the public Time-Series-Library on our windows of ETTh1, by that library's own protocol.

python scripts/train_reference.py --reference ../Time-Series-Library --model TimeXer --data $TSLLM_DATA/ETTh1.csv \
    --set d_model=256 d_ff=1024 e_layers=1 batch_size=16 --seed 2021
Shows what the public code reaches on this machine, next to what is published: Adam, squared error, the rate halved
each epoch from the third on, validation after each epoch, the best epoch's weights tested on every test window.
"""

import argparse
import copy
import importlib
import importlib.util
import json
import sys
import time
import types
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from tsllm.data.windows import WindowDataset, collate_windows
from tsllm.models import MODELS
from tsllm.programs.series import prepare_series
from tsllm.training.args import DataArguments
from tsllm.training.schedules import type1

LOSSES = {"mse": nn.functional.mse_loss, "mae": nn.functional.l1_loss}
DEFAULTS: dict[str, Any] = {
    "task_name": "long_term_forecast", "label_len": 48, "enc_in": 7, "dec_in": 7, "c_out": 7, "d_model": 512,
    "n_heads": 8, "e_layers": 2, "d_layers": 1, "d_ff": 2048, "moving_avg": 25, "factor": 3, "dropout": 0.1,
    "embed": "timeF", "freq": "h", "activation": "gelu", "features": "M", "use_norm": 1, "top_k": 5, "num_kernels": 6,
    "patch_len": 16, "channel_independence": 1, "decomp_method": "moving_avg", "down_sampling_layers": 0,
    "down_sampling_window": 1, "down_sampling_method": None, "use_future_temporal_feature": 0, "individual": False,
    "output_attention": False, "batch_size": 32, "learning_rate": 1e-4, "train_epochs": 10, "patience": 3,
}  # fmt: skip


def build(name: str, folder: str, options: dict[str, Any]) -> nn.Module:
    """Builds a model from the library's folder; packages that it imports but never calls here are left empty."""
    for package in ("reformer_pytorch", "einops"):
        if importlib.util.find_spec(package) is None:
            sys.modules[package] = types.ModuleType(package)
            sys.modules[package].__getattr__ = lambda _name: None  # type: ignore[method-assign]
    sys.path.insert(0, folder)
    model: nn.Module = importlib.import_module(f"models.{name}").Model(SimpleNamespace(**options))
    return model


def predict(model: nn.Module, batch: dict[str, Tensor], options: dict[str, Any]) -> Tensor:
    """Runs the library's forward on one of our batches: [B, H, C]."""
    past, marks = batch["past_values"], batch["past_time_features"]
    label = options["label_len"]
    decoder = torch.cat([past[:, past.shape[1] - label :], torch.zeros_like(batch["future_values"])], 1)
    later = torch.cat([marks[:, marks.shape[1] - label :], batch["future_time_features"]], 1)
    out: Tensor = model(past.clone(), marks, decoder, later)
    return out[:, -options["pred_len"] :]


@torch.no_grad()
def evaluate(model: nn.Module, windows: WindowDataset, options: dict[str, Any]) -> dict[str, float]:
    """Returns mean squared and absolute error over all windows."""
    model.eval()
    squared = absolute = count = 0.0
    for batch in DataLoader(windows, 64, collate_fn=collate_windows):
        error = predict(model, batch, options) - batch["future_values"]
        squared += error.square().sum().item()
        absolute += error.abs().sum().item()
        count += error.numel()
    return {"mse": squared / count, "mae": absolute / count}


def train(model: nn.Module, data: Any, options: dict[str, Any], loss: str, seed: int) -> dict[str, Any]:
    """Trains with early stopping and tests the best epoch."""
    optimizer = torch.optim.Adam(model.parameters(), lr=options["learning_rate"])
    order = torch.Generator().manual_seed(seed)
    loader = DataLoader(data.train, options["batch_size"], shuffle=True, generator=order, collate_fn=collate_windows)
    best: tuple[float, int, dict[str, Tensor]] = (float("inf"), -1, {})
    for epoch in range(options["train_epochs"]):
        for group in optimizer.param_groups:
            group["lr"] = options["learning_rate"] * type1(epoch, options["train_epochs"])
        model.train()
        for batch in loader:
            optimizer.zero_grad()
            LOSSES[loss](predict(model, batch, options), batch["future_values"]).backward()
            optimizer.step()
        found = evaluate(model, data.validation, options)
        print(json.dumps({"epoch": epoch + 1, "validation": found}), flush=True)
        if found[loss] < best[0]:
            best = (found[loss], epoch, copy.deepcopy(model.state_dict()))
        elif epoch - best[1] >= options["patience"]:
            break
    model.load_state_dict(best[2])
    return {"best_epoch": best[1] + 1, "test": evaluate(model, data.test, options)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", required=True, help="folder of Time-Series-Library")
    parser.add_argument("--model", required=True, help="name of its model, as TimeXer")
    parser.add_argument("--data", required=True, help="ETTh1.csv")
    parser.add_argument("--context-length", type=int, default=96)
    parser.add_argument("--prediction-length", type=int, default=720)
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="the library's options")
    parser.add_argument("--loss", choices=list(LOSSES), default="mse")
    parser.add_argument("--seed", type=int, default=2021)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    given = {name: _read(value) for name, _, value in (pair.partition("=") for pair in args.set)}
    options = DEFAULTS | {"seq_len": args.context_length, "pred_len": args.prediction_length} | given
    data = prepare_series(
        MODELS.get("dlinear"),
        DataArguments(
            dataset="etth1", data_path=args.data, context_length=args.context_length,
            prediction_length=args.prediction_length,
        )
    )  # fmt: skip
    began = time.perf_counter()
    result = train(build(args.model, args.reference, options), data, options, args.loss, args.seed)
    seconds = time.perf_counter() - began
    print(json.dumps({"model": args.model, "seed": args.seed, "set": given, **result, "seconds": seconds}), flush=True)


def _read(value: str) -> Any:
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value


if __name__ == "__main__":
    main()
