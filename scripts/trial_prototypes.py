"""Compares ways to learn the prototypes, at equal steps and at equal time, on ETTh1 with several seeds.

    python scripts/trial_prototypes.py --data $TSLLM_DATA/ETTh1.csv --trials gram:1e-3 direct:1e-4 --seeds 0 1 2

A trial is `mode:learning-rate-of-the-prototypes`; everything else learns at --lr. Each run starts from the same draw
of its seed, trains on the training part and is measured on fixed windows of the validation part; the test part is
not touched. Writes one JSON line a run to --output, and skips runs that are there already.
"""

import argparse
import json
import time
from pathlib import Path

import pandas as pd
import torch

from tsllm.models import build_model

TRAIN, VALIDATION = 12 * 30 * 24, 16 * 30 * 24  # rows; the ETT borders


def load_values(path: Path) -> torch.Tensor:
    """Returns ETTh1 scaled by its training part, [time, channel]."""
    values = torch.tensor(pd.read_csv(path).iloc[:, 1:].to_numpy()).float()
    train = values[:TRAIN]
    return (values - train.mean(0)) / train.std(0, unbiased=False)


def draw(values: torch.Tensor, low: int, high: int, length: int, count: int, generator: torch.Generator):
    """Draws univariate windows [count, length, 1] within the rows low to high."""
    starts = torch.randint(low, high - length + 1, (count,), generator=generator)
    channels = torch.randint(0, values.shape[1], (count,), generator=generator)
    return values[starts[:, None] + torch.arange(length), channels[:, None]].unsqueeze(-1)


@torch.no_grad()
def measure(model, windows: torch.Tensor, context: int) -> float:
    model.eval()
    errors = [
        (model(past_values=part[:, :context]).predictions - part[:, context:]).square().mean(dim=(1, 2))
        for part in windows.split(64)
    ]
    model.train()
    return torch.cat(errors).mean().item()


def run(arguments, values: torch.Tensor, mode: str, rate: float, seed: int) -> dict:
    torch.manual_seed(seed)
    context, horizon = arguments.context, arguments.horizon
    model = build_model(
        "timellm",
        backbone=arguments.backbone,
        num_backbone_layers=arguments.layers,
        context_length=context,
        prediction_length=horizon,
        prompt=False,
        prototype_mode=mode,
        num_prototypes=arguments.prototypes,
    )
    model.train()
    prototypes = [p for p in model.prototypes.parameters() if p.requires_grad]
    known = {id(p) for p in prototypes}
    others = [p for p in model.parameters() if p.requires_grad and id(p) not in known]
    groups = [{"params": others, "lr": arguments.lr}]
    if rate:
        groups.append({"params": prototypes, "lr": rate})
    optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
    generator = torch.Generator().manual_seed(seed)
    fixed = torch.Generator().manual_seed(1234)
    length = context + horizon
    validation = draw(values, TRAIN - context, VALIDATION, length, arguments.windows, fixed)
    curve, wall, cpu = [], 0.0, 0.0
    for step in range(1, arguments.steps + 1):
        begin, begin_cpu = time.perf_counter(), time.process_time()
        batch = draw(values, 0, TRAIN, length, arguments.batch, generator)
        loss = model(past_values=batch[:, :context], future_values=batch[:, context:]).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([*others, *prototypes], 1.0)
        optimizer.step()
        wall, cpu = wall + time.perf_counter() - begin, cpu + time.process_time() - begin_cpu
        if step % arguments.every == 0:
            curve.append([step, round(cpu, 2), round(measure(model, validation, context), 5)])
    return {"mode": mode, "rate": rate, "lr": arguments.lr, "seed": seed, "wall": round(wall, 1), "curve": curve}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--trials", nargs="+", default=["gram:1e-3"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--every", type=int, default=20, help="steps between measurements")
    parser.add_argument("--batch", type=int, default=16, help="series in a step")
    parser.add_argument("--windows", type=int, default=512, help="validation windows")
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--horizon", type=int, default=96)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--prototypes", type=int, default=1000)
    parser.add_argument("--backbone", default="smollm2-135m")
    parser.add_argument("--lr", type=float, default=1e-3, help="of everything but the prototypes")
    parser.add_argument("--output", type=Path, default=Path("runs/trial_prototypes.jsonl"))
    arguments = parser.parse_args()
    values = load_values(arguments.data)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    lines = arguments.output.read_text().splitlines() if arguments.output.exists() else []
    done = {(r["mode"], r["rate"], r["lr"], r["seed"]) for r in map(json.loads, lines)}
    for trial in arguments.trials:
        mode, _, rate = trial.partition(":")
        for seed in arguments.seeds:
            key = (mode, float(rate or 0), arguments.lr, seed)
            if key in done:
                continue
            result = run(arguments, values, mode, float(rate or 0), seed)
            with arguments.output.open("a") as file:
                file.write(json.dumps(result) + "\n")
            print(trial, seed, result["curve"][-1], flush=True)


if __name__ == "__main__":
    main()
