"""What the converters of reference checkpoints share: arguments of the reference, names of tensors, the last steps."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from tsllm.models.base import ForecastModel
from tsllm.models.config import ForecastConfig

LIBRARY = "thuml/Time-Series-Library"
MARKS_PER_FREQUENCY = {"h": 4, "t": 5, "s": 6, "m": 1, "a": 1, "w": 2, "d": 3, "b": 3}
_TASKS = ("long_term_forecast", "short_term_forecast")
Rules = Sequence[tuple[str, str]]


def rename(state: Mapping[str, Tensor], rules: Rules, unused: Iterable[str] = ()) -> dict[str, Tensor]:
    """Renames tensors: every rule whose pattern matches the whole name is applied, one after the other.

    Args:
        state: Tensors by the reference's names.
        rules: Regular expressions and replacements.
        unused: Regular expressions of tensors that the reference holds and never uses; they are left out.
    """
    renamed = {}
    for name, tensor in state.items():
        if any(re.fullmatch(pattern, name) for pattern in unused):
            continue
        new = name
        for pattern, replacement in rules:
            new = re.sub(f"^(?:{pattern})$", replacement, new)
        renamed[new] = tensor.float() if tensor.is_floating_point() else tensor
    return renamed


def count_marks(meta: Mapping[str, Any]) -> int:
    """Returns how many calendar columns the model reads: those of the recorded call, else those of its arguments."""
    if "inputs" in meta:
        marks = meta["inputs"].get("x_mark_enc")
        return int(marks["shape"][-1]) if marks else 0
    options = meta["constructor"]["configs"]
    frequency = str(options.get("freq", "h"))[-1:].lower()
    if frequency not in MARKS_PER_FREQUENCY:
        raise ValueError(f"freq {options['freq']!r} is unknown; expected one of {', '.join(MARKS_PER_FREQUENCY)}")
    if options.get("embed", "timeF") == "timeF":
        return MARKS_PER_FREQUENCY[frequency]
    return 5 if frequency == "t" else 4


def read_options(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the reference's arguments of a forecasting model.

    Raises:
        ValueError: If the checkpoint is of another task.
    """
    options = dict(meta["constructor"]["configs"])
    task = options.get("task_name", _TASKS[0])
    if task not in _TASKS:
        raise ValueError(f"task_name {task!r} is no forecasting task; expected one of {list(_TASKS)}")
    return options


def read_activation(options: Mapping[str, Any], key: str = "activation") -> str:
    """Returns our name of the reference's activation: anything but `relu` means GELU there."""
    return "relu" if str(options.get(key, "gelu")).lower() == "relu" else "gelu"


def read_lengths(options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of our configurations that say how long context and horizon are."""
    return {"context_length": options["seq_len"], "prediction_length": options["pred_len"]}


def finish(model_class: type[ForecastModel], config: ForecastConfig, state: dict[str, Tensor]) -> ForecastModel:
    """Builds the model and loads the renamed tensors, in eval mode.

    Raises:
        ValueError: If tensors are missing, unexpected or of another shape; the text lists them.
    """
    model = model_class(config)
    model.load_trained_state(state, origin="the checkpoint")
    return model.eval()
