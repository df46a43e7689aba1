"""Training losses as pure functions; a NaN in the target marks a missing value, which no loss counts."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def compute_masked_mean(values: Tensor, target: Tensor) -> Tensor:
    """Averages `values` over the entries whose target is not NaN.

    Args:
        values: [B, H, C] or [B, H, C, Q], one number an entry; may be NaN where the target is.
        target: [B, H, C].

    Returns:
        Scalar; 0 (still attached to the graph) if every target is missing.
    """
    observed = ~torch.isnan(target)
    while observed.dim() < values.dim():
        observed = observed.unsqueeze(-1)
    observed = observed.expand_as(values)
    return torch.where(observed, values, 0.0).sum() / observed.sum().clamp_min(1)


def _pointwise(loss: Callable[[Tensor, Tensor], Tensor], predictions: Tensor, target: Tensor) -> Tensor:
    # Missing targets are replaced before the loss, not after it: 0 * NaN would poison the gradient.
    safe = torch.where(torch.isnan(target), predictions.detach(), target).float()
    return compute_masked_mean(loss(predictions.float(), safe), target)


def compute_mse(predictions: Tensor, target: Tensor) -> Tensor:
    """Mean squared error over observed entries of [B, H, C]."""
    return _pointwise(lambda p, t: (p - t).square(), predictions, target)


def compute_mae(predictions: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error over observed entries of [B, H, C]."""
    return _pointwise(lambda p, t: (p - t).abs(), predictions, target)


def compute_smooth_l1(predictions: Tensor, target: Tensor, threshold: float = 1.0) -> Tensor:
    """Smooth L1: quadratic below `threshold` (then divided by it), linear above."""
    return _pointwise(lambda p, t: F.smooth_l1_loss(p, t, reduction="none", beta=threshold), predictions, target)


def compute_huber(predictions: Tensor, target: Tensor, threshold: float = 1.0) -> Tensor:
    """Huber loss (Huber 1964): quadratic below `threshold`, linear above."""
    return _pointwise(lambda p, t: F.huber_loss(p, t, reduction="none", delta=threshold), predictions, target)


def compute_pinball(quantiles: Tensor, target: Tensor, levels: Sequence[float]) -> Tensor:
    """Quantile loss (Koenker and Bassett 1978), mean over entries and levels.

    Args:
        quantiles: [B, H, C, Q].
        target: [B, H, C].
        levels: The Q levels, each in (0, 1).
    """
    tau = torch.as_tensor(levels, dtype=torch.float32, device=quantiles.device)
    wide = target.unsqueeze(-1)
    safe = torch.where(torch.isnan(wide), quantiles.detach(), wide).float()
    error = safe - quantiles.float()
    return compute_masked_mean(torch.maximum(tau * error, (tau - 1) * error), target)


def compute_nll(distribution: torch.distributions.Distribution, target: Tensor) -> Tensor:
    """Mean negative log-likelihood of the observed entries of [B, H, C], in nats."""
    safe = torch.where(torch.isnan(target), distribution.mean.detach().nan_to_num(), target).float()
    return compute_masked_mean(-distribution.log_prob(safe), target)
