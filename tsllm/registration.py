"""Makes `transformers.AutoModel` know this project's models once it is asked for, without importing it early."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tsllm.imports import run_around_import, watch_imports

AUTO = "transformers.models.auto.modeling_auto"


@contextmanager
def _register_afterwards() -> Iterator[None]:
    """Imports `tsllm.models`, which registers its classes, after the module is there."""
    yield
    importlib.import_module("tsllm.models")


def register_with_transformers() -> None:
    """Registers now if `AutoModel` is loaded already, else as soon as it is."""
    if AUTO in sys.modules:
        importlib.import_module("tsllm.models")
        return
    run_around_import(AUTO, _register_afterwards)
    watch_imports()
