"""The losses that a configuration can name (`loss:`), the general ones and those that belong to one model."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from tsllm.nn import losses as functions
from tsllm.registry import Registry
from tsllm.types import ForecastOutput


@dataclass(frozen=True)
class Loss:
    """A named loss: how it is computed and where it applies.

    Attributes:
        compute: `(model, output, future_values, **loss_kwargs) -> scalar`.
        model_type: The only model that has what the loss needs; None = any.
    """

    compute: Callable[..., Tensor]
    model_type: str | None = None

    def fits(self, head: Any, model_type: str) -> bool:
        """Tells whether this loss can train a model of `model_type` with `head`."""
        if self.model_type is not None:
            return self.model_type == model_type and "mse" in head.losses
        return any(LOSSES.get(name) is self for name in head.losses)


def _of_predictions(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def compute(model: Any, output: ForecastOutput, future_values: Tensor, **options: Any) -> Tensor:  # noqa: ARG001
        return function(output.predictions, future_values, **options)

    return compute


def compute_quantile_loss(model: Any, output: ForecastOutput, future_values: Tensor) -> Tensor:
    """Pinball loss over the levels of the model's quantile head."""
    assert output.quantiles is not None
    return functions.compute_pinball(output.quantiles, future_values, model.output_head.levels)


def compute_nll_loss(model: Any, output: ForecastOutput, future_values: Tensor) -> Tensor:  # noqa: ARG001
    """Negative log-likelihood of the model's distribution."""
    assert output.distribution is not None
    return functions.compute_nll(output.distribution, future_values)


LOSSES: Registry[Loss] = Registry(
    "loss",
    {
        "mse": Loss(_of_predictions(functions.compute_mse)),
        "mae": Loss(_of_predictions(functions.compute_mae)),
        "smooth_l1": Loss(_of_predictions(functions.compute_smooth_l1)),
        "huber": Loss(_of_predictions(functions.compute_huber)),
        "quantile": Loss(compute_quantile_loss),
        "nll": Loss(compute_nll_loss),
    },
)
