"""The published protocols by name: `tsllm.benchmark`, and what `tsllm benchmark` runs."""

import importlib
from typing import Any

from tsllm.registry import Registry

# Name -> module and function; options are those of the function.
BENCHMARKS: Registry[str] = Registry(
    "benchmark",
    {
        "zero-shot": "tsllm.evaluation.zero_shot_report:run_benchmark_zero_shot",
        "long-term": "tsllm.evaluation.long_term_report:long_term",
        "short-term": "tsllm.evaluation.short_term:short_term",
        "gift-eval": "tsllm.evaluation.relative:gift_eval",
        "fev": "tsllm.evaluation.relative:fev",
        "cik": "tsllm.programs.benchmark_cik:run_cik",
    },
)


def benchmark(name: str, *args: Any, **options: Any) -> Any:
    """Runs a published protocol; results are kept in a folder, and a stopped run goes on.

    Args:
        name: "zero-shot" (series never seen: models, `sets`, `output_dir`), "long-term" (data, models, `horizons`,
            `seeds` ...), "short-term" (a folder like M4's, models, `max_series` ...), "gift-eval" (a folder, models,
            `terms` ...), "fev" (a task file, models, `tasks` ...) or "cik" (forecasts that need a text: the file, the
            output folder, `model`, `arms` ...).
        *args: Of the protocol.
        **options: Of the protocol; `help(tsllm.find_benchmark(name))` lists them.

    Returns:
        What the protocol gives.

    Raises:
        UnknownNameError: If there is no such benchmark.

    Example:
        >>> import tsllm
        >>> tsllm.benchmark("zero-shots", ["AutoTheta"])
        Traceback (most recent call last):
        ...
        tsllm.registry.UnknownNameError: unknown benchmark 'zero-shots'; did you mean 'zero-shot'? ...
    """
    return find_benchmark(name)(*args, **options)


def find_benchmark(name: str) -> Any:
    """Returns the function behind a benchmark.

    Raises:
        UnknownNameError: If there is none.

    Example:
        >>> import tsllm
        >>> tsllm.find_benchmark("zero-shot").__name__
        'run_benchmark_zero_shot'
    """
    module, _, function = BENCHMARKS.get(name).partition(":")
    return getattr(importlib.import_module(module), function)
