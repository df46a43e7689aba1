"""Runs another implementation of Time-LLM, in a process of its own, for bench_timellm.py.

The program given to `--external` is started once: a `*.py` file by this Python, anything else by itself, so a shell
script may choose another environment. It reads one JSON object a line from its standard input and answers each with
one on its standard output; lines that do not begin with `{` are passed on and count for nothing.

    {"do": "build", "spec": {...}}                         ->  {}
    {"do": "train", "x": "x.npy", "y": "y.npy"}            ->  {"wall": seconds, "cpu": seconds}
    {"do": "infer", "x": "x.npy", "forecast": "f.npy"}     ->  {"wall": seconds, "cpu": seconds}
    {"do": "stop"}                                         ->  {}

`spec` holds context_length, prediction_length, num_series, num_prototypes, num_layers, backbone (a folder with model
and tokenizer), device, threads and learning_rate. `train` makes one full optimiser step on x [num_series,
context_length, 1] and y [num_series, prediction_length, 1], `infer` writes forecasts of the shape of y to the path
that it is given; all files are float32. The seconds are those of the step, without reading and writing files,
on a GPU with a synchronisation at both ends. An answer `{"error": "text"}` ends the benchmark. external_linear.py is a
complete program.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from timellm_variants import read_status
from torch import Tensor

from tsllm.backbones.pretrained import find_pretrained

_SLACK = 0.25  # seconds that an exchange may take beyond the step


class External:
    """The program, its answers, and its memory.

    Args:
        path: The program.
        sizes: As for `timellm_variants.Variant`, and `threads`.
        backbone: What `backbone:` takes.

    Raises:
        RuntimeError: If the program ends, answers what is none, or reports an error.
    """

    name = "external"

    def __init__(self, path: Path, sizes: argparse.Namespace, backbone: str) -> None:
        if not path.is_file():
            raise FileNotFoundError(f"--external {path}: no such file")
        command = [sys.executable, str(path)] if path.suffix == ".py" else [str(path.resolve())]
        self.folder = tempfile.TemporaryDirectory()
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        spec = {
            "context_length": sizes.context,
            "prediction_length": sizes.horizon,
            "num_series": sizes.series,
            "num_prototypes": sizes.prototypes,
            "num_layers": sizes.layers,
            "backbone": find_pretrained(backbone),
            "device": sizes.device,
            "threads": sizes.threads,
            "learning_rate": 1e-3,
        }
        self.shape = (sizes.series, sizes.horizon, 1)
        self._ask(do="build", spec=spec)

    def train_step(self, x: Tensor, y: Tensor) -> tuple[float, float]:
        """Makes one step; returns CPU and wall seconds as the program reports them."""
        return self._time(do="train", x=self._write("x", x), y=self._write("y", y))

    def infer(self, x: Tensor) -> tuple[float, float]:
        """Forecasts; returns CPU and wall seconds as the program reports them."""
        target = Path(self.folder.name) / "forecast.npy"
        target.unlink(missing_ok=True)
        seconds = self._time(do="infer", x=self._write("x", x), forecast=str(target))
        found = np.load(target)
        if found.shape != self.shape or not np.isfinite(found).all():
            raise RuntimeError(f"the external forecast has shape {found.shape}, expected {self.shape}, all finite")
        return seconds

    def peak_mb(self) -> float:
        """Returns the peak of its resident memory in MB, libraries included."""
        return read_status("VmHWM", self.process.pid)

    def close(self) -> None:
        """Stops the program."""
        if self.process.poll() is None:
            self._ask(do="stop")
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()
        self.folder.cleanup()

    def _write(self, name: str, values: Tensor) -> str:
        path = Path(self.folder.name) / f"{name}.npy"
        np.save(path, values.to("cpu", torch.float32).numpy())
        return str(path)

    def _time(self, **request: str) -> tuple[float, float]:
        begin = time.perf_counter()
        answer = self._ask(**request)
        seen = time.perf_counter() - begin
        wall, cpu = float(answer["wall"]), float(answer["cpu"])
        if not 0.9 * (seen - _SLACK) <= wall <= seen:
            raise RuntimeError(f"the external program reports {wall:.3f} s for what took {seen:.3f} s: {request}")
        return cpu, wall

    def _ask(self, **request: object) -> dict:
        with suppress(BrokenPipeError):  # it has ended; its status tells more
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        for line in self.process.stdout:
            if not line.startswith("{"):
                print(f"external: {line}", end="", file=sys.stderr)
                continue
            answer = json.loads(line)
            if "error" in answer:
                raise RuntimeError(f"the external program failed at {request}: {answer['error']}")
            return answer
        raise RuntimeError(f"the external program ended with status {self.process.wait()} at {request}")
