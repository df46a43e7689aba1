"""The losses that a configuration can name (`loss:`): a table of general ones, and those that one model declares."""

import functools
import inspect
from collections.abc import Callable, Sequence
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
    """

    compute: Callable[..., Tensor]

    @property
    def options(self) -> list[str]:
        """The names that `loss_kwargs` may hold."""
        parameters = inspect.signature(self.compute).parameters.values()
        return [p.name for p in parameters if p.default is not inspect.Parameter.empty]


def _of_predictions(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    @functools.wraps(function)  # the signature tells `Loss.options` which options there are
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


def compute_timexer_orthogonal(
    model: Any, output: ForecastOutput, future_values: Tensor, lam: float = 1e-4, targets: Sequence[str] | None = None
) -> Tensor:
    """MSE + lam * orthogonality of TimeXer's cross-attention weights.

    Args:
        model: It has `cross_attention_weights()`, a mapping of projections [out, in] a layer.
        output: Its forecast.
        future_values: [B, H, C].
        lam: Weight of the penalty; a square layer starts at 0.56 d_model.
        targets: Projections among query, key, value, out; None = all.
    """
    targets = functions.PROJECTIONS if targets is None else targets
    penalty = functions.compute_orthogonality(model.cross_attention_weights(), targets)
    return functions.compute_mse(_predictions(output), future_values) + lam * penalty


def compute_timesnet_spectral(
    model: Any,  # noqa: ARG001
    output: ForecastOutput,
    future_values: Tensor,
    alpha: float = 1.0,
    beta: float = 0.5,
    window: int | None = None,
    eps: float = 1e-6,
) -> Tensor:
    """Squared error summed over channels, times alpha, + beta * change of the forecast's spectrum over time.

    Args:
        model: Not read.
        output: A forecast.
        future_values: [B, H, C].
        alpha: Weight of the error, which is C times the MSE.
        beta: Weight of the spectral term.
        window: Steps of the sliding window; None = min(16, H).
        eps: See `compute_spectral_variation`.
    """
    error = future_values.shape[2] * functions.compute_mse(_predictions(output), future_values)
    return alpha * error + beta * functions.compute_spectral_variation(_predictions(output), window, eps)


def compute_patchtst_uniform(
    model: Any,  # noqa: ARG001
    output: ForecastOutput,
    future_values: Tensor,
    gamma: float = 0.01,
    reduce: str = "marginal",
) -> Tensor:
    """MAE + gamma * divergence of attention from uniform.

    Args:
        model: Not read.
        output: A forecast with `extras["attention_maps"]`, one [B * C, h, P, P] a layer.
        future_values: [B, H, C].
        gamma: Weight of the divergence.
        reduce: "marginal" or "row", see `compute_attention_uniformity`.
    """
    assert output.extras is not None
    divergence = functions.compute_attention_uniformity(output.extras["attention_maps"], reduce)
    return functions.compute_mae(_predictions(output), future_values) + gamma * divergence


def compute_itransformer_orthogonal(
    model: Any,  # noqa: ARG001
    output: ForecastOutput,
    future_values: Tensor,
    mu: float | None = None,
    normalize: bool = True,
    ord: str = "fro",
    threshold: float = 1.0,
) -> Tensor:
    """Smooth L1 + mu * distance of the channels' tokens from an orthonormal set.

    Args:
        model: Not read.
        output: A forecast with `extras["tokens"]` [B, C, D].
        future_values: [B, H, C].
        mu: Weight of the distance; None = 1e-2 for tokens of length 1, else 1e-6.
        normalize: Scale tokens to length 1; False is the notes' literal form, which grows like d_model^2 / 9.
        ord: "fro" or "spectral".
        threshold: Error up to which the loss is quadratic.
    """
    assert output.extras is not None
    mu = (1e-2 if normalize else 1e-6) if mu is None else mu
    distance = functions.compute_token_correlation(output.extras["tokens"], normalize, ord)
    return functions.compute_smooth_l1(_predictions(output), future_values, threshold) + mu * distance


def compute_dlinear_trend(
    model: Any,  # noqa: ARG001
    output: ForecastOutput,
    future_values: Tensor,
    lam: float = 0.1,
    reduction: str = "mean",
) -> Tensor:
    """Half the squared error of the forecast + lam * that of the trend branch alone.

    Args:
        model: Not read.
        output: A forecast with `extras["trend"]` [B, H, C].
        future_values: [B, H, C].
        lam: Weight of the trend branch's error.
        reduction: "mean", or "literal" as the notes have it, a sum over horizon and channels.
    """
    assert output.extras is not None
    error = functions.compute_half_squares(_predictions(output), future_values, reduction)
    return error + lam * functions.compute_half_squares(output.extras["trend"], future_values, reduction)


def _predictions(output: ForecastOutput) -> Tensor:
    assert output.predictions is not None
    return output.predictions


LOSSES: Registry[Loss] = Registry(
    "loss",
    {
        "mse": Loss(_of_predictions(functions.compute_mse)),
        "mae": Loss(_of_predictions(functions.compute_mae)),
        "smooth_l1": Loss(_of_predictions(functions.compute_smooth_l1)),
        "huber": Loss(_of_predictions(functions.compute_huber)),
        "smape": Loss(_of_predictions(functions.compute_smape)),
        "quantile": Loss(compute_quantile_loss),
        "nll": Loss(compute_nll_loss),
    },
)
