"""A complete program for `bench_timellm.py --external`: a linear forecaster that obeys the interface.

Copy it to measure another implementation: what is to be replaced are `build`, `train` and `infer`. It needs nothing of
this project; timellm_external.py describes the interface.
"""

import json
import sys
import time

import numpy as np
import torch
from torch import nn


def build(spec: dict) -> dict:
    """Builds the model and its optimiser from the specification."""
    torch.set_num_threads(spec["threads"])
    model = nn.Linear(spec["context_length"], spec["prediction_length"]).to(spec["device"])
    return {
        "model": model,
        "optimizer": torch.optim.Adam(model.parameters(), lr=spec["learning_rate"]),
        "device": spec["device"],
    }


def train(state: dict, x: torch.Tensor, y: torch.Tensor) -> None:
    """Makes one step on x [N, L, 1] and y [N, H, 1]."""
    loss = nn.functional.mse_loss(state["model"](x.squeeze(-1)), y.squeeze(-1))
    state["optimizer"].zero_grad()
    loss.backward()
    state["optimizer"].step()


@torch.no_grad()
def infer(state: dict, x: torch.Tensor) -> torch.Tensor:
    """Forecasts [N, H, 1] from x [N, L, 1]."""
    return state["model"](x.squeeze(-1)).unsqueeze(-1)


def load(path: str, device: str) -> torch.Tensor:
    return torch.from_numpy(np.load(path)).to(device)


def answer(state: dict, request: dict) -> dict:
    """Does what one request asks, and times it."""
    inputs = [load(request[name], state["device"]) for name in ("x", "y") if name in request]
    synchronize = torch.cuda.synchronize if state["device"].startswith("cuda") else (lambda: None)
    synchronize()
    cpu, wall = time.process_time(), time.perf_counter()
    result = train(state, *inputs) if request["do"] == "train" else infer(state, *inputs)
    synchronize()
    seconds = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}
    if result is not None:
        np.save(request["forecast"], result.cpu().numpy())
    return seconds


def main() -> None:
    state: dict = {}
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "build":
            state, reply = build(request["spec"]), {}
        else:
            reply = {} if request["do"] == "stop" else answer(state, request)
        print(json.dumps(reply), flush=True)
        if request["do"] == "stop":
            return


if __name__ == "__main__":
    main()
