"""From a folder or a Hub repository to a torch model, whatever its class."""

import os
from pathlib import Path

from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from tsllm.backbones.trust import check_json, load_config
from tsllm.hub.spec import find_file
from tsllm.models import find_model_class, known_model_classes, name_model_class
from tsllm.models.base import ForecastModel

OWN_MODELS = "TSLLM_MODELS"  # of the environment: dotted paths of model classes of one's own, separated by commas


def check_hub_options(source: str | Path, revision: str | None, token: str | bool | None) -> None:
    """Refuses options of a Hub repository where a folder is named.

    Raises:
        ValueError: Naming the option.
    """
    for name, value in (("revision", revision), ("token", token)):
        if value is not None and Path(source).is_dir():
            raise ValueError(f"{name} is for a Hub repository, and {source} is a folder; leave it out")


def load_model(source: str | Path, *, revision: str | None = None, token: str | bool | None = None) -> ForecastModel:
    """Loads the model of an artefact folder or a Hub repository, whatever its class.

    Raises:
        OSError: If the folder holds no model.
        ValueError: If its class is none that is known.
    """
    if not Path(source).exists() and str(source).startswith((".", "/", "~")):
        raise OSError(f"no folder {source}; give the output folder of a training run or a Hub id")
    _know_type(str(source), revision, token)
    config = load_config(str(source), revision=revision or "main", token=token)
    for model_class in known_model_classes():
        if model_class.config_class is type(config):
            return model_class.from_pretrained(source, config=config, revision=revision, token=token)
    known = ", ".join(f"{name_model_class(m)} ({m.config_class.model_type})" for m in known_model_classes())
    raise ValueError(f"{source} holds a {config.model_type!r} model, which is no forecaster of tsllm; known: {known}")


def _know_type(source: str, revision: str | None, token: str | bool | None) -> None:
    """Sees to it that the class of a saved model of one's own is known.

    An artefact cannot name code that is to run; whoever loads it can.

    Raises:
        ValueError: If the type is unknown; the text says how to name the class.
    """
    for path in filter(None, map(str.strip, os.environ.get(OWN_MODELS, "").split(","))):
        find_model_class(path)
    found = find_file(source, "config.json", revision, token)
    config = {} if found is None else check_json(found) or {}
    known = config.get("model_type")
    if isinstance(known, str) and known not in CONFIG_MAPPING and "auto_map" not in config:
        raise ValueError(
            f"{source} holds a model of type {known!r}, which no class known here has; if it is one of your own, name "
            f"its class first: {OWN_MODELS}=my_module.MyModel in the environment, or "
            "tsllm.models.find_model_class('my_module.MyModel') in Python"
        )
