"""Checkpoints of public reference code as models of this library.

`from_reference` takes what describes a reference model and its tensors; `load_checkpoint` and `describe_reference`
make both from files that Time-Series-Library, PatchTST, UNetTSF, Pyraformer or the official Time-LLM left behind.
"""

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from tsllm.hub import convert_tsl_a, convert_tsl_b
from tsllm.hub.convert_timellm import convert_timellm
from tsllm.registry import Registry, UnknownNameError

TIME_LLM_REPO = "KimMeen/Time-LLM"
CONVERTERS: dict[tuple[str, str], Any] = {
    **convert_tsl_a.CONVERTERS,
    **convert_tsl_b.CONVERTERS,
    (TIME_LLM_REPO, "models.TimeLLM.Model"): convert_timellm,
}
_CONSTRUCTORS = {  # where a reference's constructor expects its arguments; `configs` = one namespace
    convert_tsl_a.PATCHTST_REPO: "kwargs",
    "ant-research/Pyraformer": "opt",
}


def from_reference(meta: Mapping[str, Any], state: Mapping[str, Tensor]) -> nn.Module:
    """Builds our model with the weights, and the faults, of a reference model.

    Args:
        meta: `reference` holds `repo` and `class`, `constructor` the reference's own arguments (`configs`, `kwargs` or
            `opt`); `inputs`, if there, the shapes of a recorded call.
        state: The reference's tensors under its own names.

    Raises:
        ValueError: If the reference is unknown, an argument does not fit, or tensors are missing or left over; the
            text lists them.
    """
    key = meta["reference"]["repo"], meta["reference"]["class"]
    if key not in CONVERTERS:
        known = "; ".join(f"{repo} {name}" for repo, name in CONVERTERS)
        raise ValueError(f"no conversion for {key[0]} {key[1]}; known: {known}")
    state = strip_wrapper(state)
    try:
        model: nn.Module = CONVERTERS[key](meta, state)
    except UnknownNameError:
        raise
    except KeyError as error:
        raise ValueError(f"the arguments of {key[0]} {key[1]} lack {error}; add it to the arguments' file") from error
    return model


def strip_wrapper(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Removes the prefix `module.` that data-parallel training puts before every name."""
    prefix = "module."
    if state and all(name.startswith(prefix) for name in state):
        return {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return dict(state)


def name_references() -> Registry[tuple[str, str]]:
    """Returns short names of the reference models: `PatchTST`, `PatchTST-ssl`, `TimeLLM` ..."""
    named: dict[str, tuple[str, str]] = {}
    for repo, path in CONVERTERS:
        module, name = path.split(".")[-2:]
        short = module if name == "Model" else name
        suffix = {convert_tsl_a.PATCHTST_REPO: "-ssl", "ant-research/Pyraformer": "-official"}.get(repo, "")
        short = "Pyraformer" if short == "Pyraformer_LR" else "UNetTSF" if short == "Time_Unet" else short
        named[short + suffix] = (repo, path)
    return Registry("reference model", named)


def describe_reference(model: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Builds the `meta` of `from_reference` for a checkpoint.

    Args:
        model: A name of `name_references`.
        arguments: The reference's own arguments, such as the namespace that its `run.py` prints.

    Raises:
        UnknownNameError: If there is no such model.
    """
    repo, path = name_references().get(model)
    return {
        "reference": {"repo": repo, "class": path},
        "constructor": {_CONSTRUCTORS.get(repo, "configs"): dict(arguments)},
    }


def load_arguments(path: str | Path) -> dict[str, Any]:
    """Reads a reference's arguments from JSON or YAML.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it does not hold a mapping.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"no arguments {file}; write the reference's own arguments as JSON or YAML")
    text = file.read_text(encoding="utf-8")
    try:
        loaded = json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
    except (json.JSONDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{file} is no valid {file.suffix[1:] or 'YAML'}: {error}") from error
    if not isinstance(loaded, dict):
        raise ValueError(f"{file} must hold a mapping argument: value, found {type(loaded).__name__}")
    return loaded


def load_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """Reads the tensors of a `.pth` or `.safetensors` file; pickled code is never run.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds anything but tensors by name.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"no checkpoint {file}")
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        loaded = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError) as error:
        raise ValueError(
            f"{file} cannot be read as tensors only ({str(error).splitlines()[0]}); save it again with "
            "torch.save(model.state_dict(), path)"
        ) from error
    for name in ("state_dict", "model", "model_state_dict", "module"):
        if isinstance(loaded, dict) and isinstance(loaded.get(name), dict):
            loaded = loaded[name]
            break
    if not isinstance(loaded, Mapping) or not loaded or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise ValueError(f"{file} must hold a state_dict (tensors by name), found {type(loaded).__name__}")
    return dict(loaded)
