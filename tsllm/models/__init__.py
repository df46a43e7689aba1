"""Forecasting models, by name."""

from typing import Any

from transformers import AutoConfig, AutoModel

from tsllm.models.base import ForecastConfig, ForecastModel
from tsllm.models.dlinear import DLinear
from tsllm.models.itransformer import ITransformer
from tsllm.models.patchcast import PatchCast
from tsllm.models.patchtst import PatchTST, PatchTSTPretraining
from tsllm.models.pyraformer import Pyraformer
from tsllm.models.recurrent import Recurrent
from tsllm.models.timellm import TimeLLM
from tsllm.models.timemixer import TimeMixer
from tsllm.models.timesnet import TimesNet
from tsllm.models.timexer import TimeXer
from tsllm.models.unet_tsf import UNetTSF
from tsllm.registry import Registry

MODELS: Registry[type[ForecastModel]] = Registry(
    "model",
    {
        "dlinear": DLinear,
        "patchtst": PatchTST,
        "itransformer": ITransformer,
        "timesnet": TimesNet,
        "timexer": TimeXer,
        "timemixer": TimeMixer,
        "unet_tsf": UNetTSF,
        "recurrent": Recurrent,
        "pyraformer": Pyraformer,
        "timellm": TimeLLM,
        "patchcast": PatchCast,
    },
)


def build_model(name: str, **config: Any) -> ForecastModel:
    """Builds the model called `name` from keyword arguments of its configuration."""
    model_class = MODELS.get(name)
    return model_class(model_class.config_class(**config))


_ALL: list[type[ForecastModel]] = [PatchTSTPretraining, *(thing for _, thing in MODELS.items())]
for _model in _ALL:
    AutoConfig.register(_model.config_class.model_type, _model.config_class, exist_ok=True)
    AutoModel.register(_model.config_class, _model, exist_ok=True)

__all__ = ["MODELS", "ForecastConfig", "ForecastModel", "build_model"]
