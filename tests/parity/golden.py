"""Finding and reading the parity cases (contract 6: TSLLM_GOLDEN, by default ../shared/golden)."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ.get("TSLLM_GOLDEN", ROOT.parent / "shared" / "golden"))


@dataclass
class Case:
    """One parity case: the reference's arguments, weights, inputs and outputs."""

    name: str
    meta: dict[str, Any]
    state: dict[str, Tensor]
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]

    @property
    def key(self) -> tuple[str, str]:
        """Repository and class of the reference."""
        return self.meta["reference"]["repo"], self.meta["reference"]["class"]


def find_cases() -> list[str]:
    """Returns the names of all cases in the folder."""
    return sorted(path.stem for path in FOLDER.glob("*.json")) if FOLDER.is_dir() else []


def load_case(name: str) -> Case:
    """Reads one case."""
    meta = json.loads((FOLDER / f"{name}.json").read_text())
    blob = load_file(FOLDER / f"{name}.safetensors")
    parts: dict[str, dict[str, Tensor]] = {"state": {}, "in": {}, "out": {}}
    for key, tensor in blob.items():
        part, _, rest = key.partition(".")
        parts[part][rest] = tensor
    return Case(name, meta, parts["state"], parts["in"], parts["out"])
