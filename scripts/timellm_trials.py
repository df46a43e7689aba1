"""What trials of training Time-LLM share: windows of ETTh1, one start for every mode, validation, results in files.

The training part is the usual first twelve months, validation the following four; the test part is not touched.
"""

import argparse
import json
import time
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from tsllm.models.timellm import TimeLLM

TRAIN, VALIDATION = 12 * 30 * 24, 16 * 30 * 24  # rows; the ETT borders


def load_values(path: Path) -> Tensor:
    """Returns ETTh1 scaled by its training part, [time, channel]."""
    values = torch.tensor(pd.read_csv(path).iloc[:, 1:].to_numpy()).float()
    train = values[:TRAIN]
    return (values - train.mean(0)) / train.std(0, unbiased=False)


def draw(values: Tensor, low: int, high: int, length: int, count: int, generator: torch.Generator) -> Tensor:
    """Draws univariate windows [count, length, 1] within the rows low to high."""
    starts = torch.randint(low, high - length + 1, (count,), generator=generator)
    channels = torch.randint(0, values.shape[1], (count,), generator=generator)
    return values[starts[:, None] + torch.arange(length), channels[:, None]].unsqueeze(-1)


def draw_validation(values: Tensor, context: int, horizon: int, count: int) -> Tensor:
    """Draws the validation windows [count, L + H, 1], the same for every run."""
    generator = torch.Generator().manual_seed(1234)
    return draw(values, TRAIN - context, VALIDATION, context + horizon, count, generator)


@torch.no_grad()
def measure(model: TimeLLM, windows: Tensor, context: int, batch: int = 64) -> float:
    """Returns the mean squared error of forecasts from windows [N, L + H, 1], in scaled units."""
    model.eval()
    errors = [
        (model(past_values=part[:, :context]).predictions - part[:, context:]).square().mean(dim=(1, 2))
        for part in windows.split(batch)
    ]
    model.train()
    return torch.cat(errors).mean().item()


@torch.no_grad()
def start_like(model: TimeLLM, mapped: TimeLLM) -> None:
    """Gives `model` the trained values of `mapped`, whose prototypes come from a mapping layer, in its own terms."""
    own, given = dict(model.named_parameters()), dict(mapped.named_parameters())
    for name, parameter in own.items():
        if name in given and parameter.requires_grad:
            parameter.copy_(given[name])
    place_prototypes(model, mapped.prototypes(mapped.backbone.words))


@torch.no_grad()
def place_prototypes(model: TimeLLM, prototypes: Tensor) -> None:
    """Lets the prototypes [S, d] of `model` begin here, unless a mapping layer makes them."""
    if model.config.prototype_mode == "direct":
        model.prototypes.prototypes.copy_(prototypes)
    elif model.config.prototype_mode == "gram":
        model.prototypes.initial.copy_(prototypes)
        model.prototypes.coefficients.zero_()


class Stopwatch:
    """Adds up CPU and wall seconds of what happens inside."""

    def __init__(self) -> None:
        self.cpu = self.wall = 0.0

    def __enter__(self) -> None:
        self._begin = time.process_time(), time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.cpu += time.process_time() - self._begin[0]
        self.wall += time.perf_counter() - self._begin[1]


class Results:
    """Runs that ended, one JSON line each, so that a program goes on where it was stopped.

    Args:
        path: The file; its folder is made.
        settings: What all runs of this call share; runs with others are kept, and passed over.
    """

    def __init__(self, path: Path, settings: dict) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.settings = json.loads(json.dumps(settings, default=str))
        lines = path.read_text().splitlines() if path.exists() else []
        self.rows = [row for row in map(json.loads, lines) if row.get("settings") == self.settings]

    def find(self, **key: object) -> dict | None:
        """Returns the run with these values, or None."""
        return next((row for row in self.rows if all(row[name] == value for name, value in key.items())), None)

    def add(self, row: dict) -> None:
        """Writes a run that ended."""
        self.rows.append(row | {"settings": self.settings})
        with self.path.open("a") as file:
            file.write(json.dumps(self.rows[-1]) + "\n")


def collect_settings(arguments: argparse.Namespace, names: tuple[str, ...]) -> dict:
    """Returns the arguments that runs must share to be comparable."""
    return {name: getattr(arguments, name) for name in names}
