"""tsllm: turn a language model into a forecaster, fine-tune it, and test honestly whether it wins."""

import importlib
from typing import Any

from tsllm.__about__ import __version__

_LAZY = {
    "MODELS": "tsllm.models",
    "build_model": "tsllm.models",
    "Forecaster": "tsllm.forecasting.base",
}

__all__ = ["__version__", *_LAZY]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'tsllm' has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
