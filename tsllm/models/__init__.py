"""Forecasting models, by name."""

import importlib
from typing import Any

from transformers import AutoConfig, AutoModel

from tsllm.models.base import ForecastModel
from tsllm.models.config import ForecastConfig
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
    """Builds the model called `name` from keyword arguments of its configuration.

    Raises:
        UnknownNameError: If there is no such model.
        ValueError: If a field is unknown or impossible.

    Example:
        >>> import torch, tsllm
        >>> model = tsllm.build_model("dlinear", context_length=48, prediction_length=12)
        >>> model(past_values=torch.randn(2, 48, 3)[..., :1]).predictions.shape
        torch.Size([2, 12, 1])
    """
    model_class = find_model_class(name)
    return model_class(model_class.config_class(**config))


def is_model_name(name: str) -> bool:
    """Tells whether a name is one of the table, or the dotted path of a model class of one's own."""
    if name in MODELS:
        return True
    found = _import_dotted(name)
    return isinstance(found, type) and issubclass(found, ForecastModel)


def find_model_class(name: str) -> type[ForecastModel]:
    """Returns a model class by its name in the table, or by a dotted path such as "my_package.my_module.MyModel".

    A class of one's own is made known to `AutoConfig` and `AutoModel`, so that its artefacts load from then on.

    Raises:
        UnknownNameError: If it is neither; the text lists the nearest names.
        ValueError: If the path leads to something else.
    """
    if name in MODELS or "." not in name:
        return MODELS.get(name)
    found = _import_dotted(name)
    if not (isinstance(found, type) and issubclass(found, ForecastModel)):
        what = "cannot be imported" if found is None else f"is {found!r}"
        raise ValueError(
            f"model {name!r} {what}; give a name of the table ({', '.join(MODELS.names())}) or the dotted path of a "
            "subclass of tsllm.models.ForecastModel"
        )
    _register(found)
    return found


def name_model_class(model_class: type[ForecastModel]) -> str:
    """Returns the name by which `find_model_class` finds a class."""
    for name, known in MODELS.items():
        if known is model_class:
            return name
    return f"{model_class.__module__}.{model_class.__qualname__}"


def _import_dotted(name: str) -> Any:
    """Returns what a dotted path leads to; None if nothing can be imported there."""
    module, _, attribute = name.rpartition(".")
    if not module or not all(part.isidentifier() for part in name.split(".")):
        return None
    try:
        return getattr(importlib.import_module(module), attribute, None)
    except ModuleNotFoundError as error:
        if error.name and (module == error.name or module.startswith(f"{error.name}.")):
            return None
        raise


def _register(model_class: type[ForecastModel]) -> None:
    config_class = model_class.config_class
    if config_class.model_type in {known.config_class.model_type for known in _ALL if known is not model_class}:
        raise ValueError(
            f"{model_class.__qualname__} has the configuration of another model ({config_class.__name__}); give it one"
            " of its own with its own model_type"
        )
    AutoConfig.register(config_class.model_type, config_class, exist_ok=True)
    AutoModel.register(config_class, model_class, exist_ok=True)
    if model_class not in _ALL:
        _ALL.append(model_class)


def known_model_classes() -> list[type[ForecastModel]]:
    """Returns the classes whose artefacts can be loaded: the table's and those of one's own named so far."""
    return list(_ALL)


_ALL: list[type[ForecastModel]] = []
_register(PatchTSTPretraining)
for _, _model in MODELS.items():
    _register(_model)

__all__ = [
    "MODELS",
    "ForecastConfig",
    "ForecastModel",
    "build_model",
    "find_model_class",
    "is_model_name",
    "name_model_class",
]
