"""A training that is interrupted or fails leaves the forecaster as it was."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from tsllm.models.base import ForecastModel


@dataclass(frozen=True)
class KeptModel:
    """What a training changes in a model.

    Attributes:
        state: Its trained tensors, on the CPU.
        config: Fields of its configuration.
        trainable: Names of the parameters that training changes.
    """

    state: dict[str, Tensor]
    config: dict[str, Any]
    trainable: frozenset[str]

    @classmethod
    def of(cls, model: ForecastModel, state: dict[str, Tensor] | None = None) -> "KeptModel":
        """Copies what a training changes; `state` if there is such a copy of its tensors already."""
        if state is None:
            state = {name: tensor.detach().cpu().clone() for name, tensor in model.trained_state().items()}
        config = {name: getattr(model.config, name) for name in sorted(model.config.own_fields())}
        trainable = frozenset(name for name, p in model.named_parameters() if p.requires_grad)
        return cls(state, config, trainable)

    def restore(self, model: ForecastModel, origin: str = "what was kept") -> None:
        """Puts a model back to what it was."""
        model.resize(self.config["context_length"], self.config["prediction_length"])
        for name, value in self.config.items():
            setattr(model.config, name, value)
        model.load_trained_state(self.state, origin=origin)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in self.trainable)


@contextmanager
def unchanged_on_error(
    forecaster: Any, model: ForecastModel | None, state: dict[str, Tensor] | None = None
) -> Iterator[None]:
    """Leaves a forecaster as it was where the block is interrupted (Ctrl-C included) or fails.

    Args:
        forecaster: Its attributes are put back.
        model: Its model, if the block changes that in place.
        state: A copy of the model's trained tensors, if there is one.
    """
    attributes = dict(vars(forecaster))
    kept = None if model is None else KeptModel.of(model, state)
    try:
        yield
    except BaseException:
        vars(forecaster).clear()
        vars(forecaster).update(attributes)
        if kept is not None and model is not None:
            kept.restore(model)
            model.zero_grad(set_to_none=True)
            model.forget()
            model.eval()
        raise
