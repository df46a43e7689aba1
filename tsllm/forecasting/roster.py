"""The roster: from a name in Python, a command line or a YAML file to a forecaster."""

from tsllm.data.task import ForecastTask
from tsllm.forecasting.base import Forecaster
from tsllm.forecasting.builders import build_spec
from tsllm.forecasting.ensemble import build_ensemble
from tsllm.forecasting.model_spec import ModelSpec


def build_forecaster(spec: ModelSpec, task: ForecastTask, seed: int = 0) -> Forecaster:
    """Builds the forecaster of a specification for a task.

    The options `transform`, `non_negative` and `integer` are for every kind of model (`Forecaster.scale_target`).

    Raises:
        ValueError: If the name is nothing known, or options do not fit.
        ImportError: If the package behind it is not installed.
        OSError: If a saved or pretrained model cannot be loaded.
    """
    return build_spec(spec, task, seed, build_ensemble)
