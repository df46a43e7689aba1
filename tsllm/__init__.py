"""tsllm: turn a language model into a forecaster, fine-tune it, and test honestly whether it wins.

Names are imported when they are first used, so `import tsllm` costs nothing; `transformers.AutoModel` knows the models
from then on.
"""

import importlib
from typing import Any

from tsllm.__about__ import __version__
from tsllm.registration import register_with_transformers

_LAZY = {
    "ContextForecaster": "tsllm.forecasting.context",
    "DATASETS": "tsllm.data.sources",
    "Ensemble": "tsllm.forecasting.ensemble",
    "Forecaster": "tsllm.forecasting.base",
    "MODELS": "tsllm.models",
    "NeuralForecaster": "tsllm.forecasting.neural",
    "SeasonalNaive": "tsllm.forecasting.naive",
    "StatisticalForecaster": "tsllm.forecasting.statistical",
    "TextForecaster": "tsllm.forecasting.text",
    "TimeLLM": "tsllm.models.timellm",
    "TimeLLMConfig": "tsllm.models.timellm",
    "ablate": "tsllm.evaluation.api",
    "benchmark": "tsllm.programs.benchmark",
    "backtest": "tsllm.evaluation.backtest",
    "build_model": "tsllm.models",
    "build_reward": "tsllm.rl.rewards",
    "compare": "tsllm.evaluation.api",
    "evaluate": "tsllm.evaluation.evaluate",
    "fill_gaps": "tsllm.data.frame",
    "find_benchmark": "tsllm.programs.benchmark",
    "future_frame": "tsllm.data.frame",
    "load_frame": "tsllm.data.loading",
    "plot": "tsllm.evaluation.plotting",
    "ZeroShotForecaster": "tsllm.forecasting.zero_shot",
    "push_to_hub": "tsllm.hub.package",
    "simulate": "tsllm.forecasting.paths",
}

__all__ = ["__version__", *_LAZY]

register_with_transformers()


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'tsllm' has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
