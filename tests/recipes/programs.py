"""Runs a recipe as its users do, in a process of its own, or inside the test's process where that costs too much."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ROOT / "recipes"


def load_recipe(name: str) -> Any:
    """Imports `recipes/<name>.py`, which is no package; recipes find one another, as when they are launched."""
    if str(RECIPES) not in sys.path:
        sys.path.insert(0, str(RECIPES))
    spec = importlib.util.spec_from_file_location(f"recipe_{name}", RECIPES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def launch_sharded(folder: Path, name: str, *arguments: str) -> subprocess.Popen:
    """Starts a recipe on two CPU processes that share its parameters by FSDP; see `fsdp_on_cpu.py`."""
    text = (RECIPES / "accelerate" / "fsdp.yaml").read_text(encoding="utf-8")
    (folder / "fsdp_cpu.yaml").write_text(text.replace("use_cpu: false", "use_cpu: true"))
    return launch(name, *arguments, config_file=str(folder / "fsdp_cpu.yaml"), through="tests/recipes/fsdp_on_cpu.py")


def launch(
    name: str,
    *arguments: str,
    config_file: str | None = None,
    through: str | None = None,
    processes: int = 1,
) -> subprocess.Popen:
    """Starts `accelerate launch recipes/<name>.py ...` from the project's root in a process group of its own."""
    plain = ["--num_processes", str(processes), "--num_machines", "1"]
    plain += ["--mixed_precision", "no", "--dynamo_backend", "no"]
    how = ["--config_file", str(RECIPES / "accelerate" / config_file)] if config_file else plain
    program = [f"recipes/{name}.py"] if through is None else [through, name]
    command = [sys.executable, "-m", "accelerate.commands.launch", *how, *program, *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen, seconds: float = 240) -> str:
    """Waits for a started recipe and returns its output; a failure shows the output's end."""
    output, _ = process.communicate(timeout=seconds)
    assert process.returncode == 0, output[-4000:]
    return output
