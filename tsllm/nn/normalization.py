"""Reversible instance normalisation (Kim 2022, RevIN) that returns its statistics instead of keeping them."""

import torch
from torch import Tensor, nn


def compute_masked_moments(values: Tensor, mask: Tensor | None, dim: int = 1) -> tuple[Tensor, Tensor]:
    """Computes mean and population variance over the observed entries along `dim`.

    Args:
        values: [B, L, C].
        mask: [B, L, C] bool, True = observed; None = all observed.
        dim: The axis to reduce; it is kept with length 1.

    Returns:
        Mean and variance, both [B, 1, C]; 0 and 0 where nothing was observed.
    """
    if mask is None:
        return values.mean(dim, keepdim=True), values.var(dim, unbiased=False, keepdim=True)
    weights = mask.to(values.dtype)
    count = weights.sum(dim, keepdim=True).clamp_min(1.0)
    mean = (values * weights).sum(dim, keepdim=True) / count
    variance = ((values - mean).square() * weights).sum(dim, keepdim=True) / count
    return mean, variance


class InstanceNorm(nn.Module):
    """Normalises each window and channel by its own mean and standard deviation.

    The statistics are detached. `y = z * scale + loc` undoes the whole step, the affine part included, so a model
    hands `loc` and `scale` to its output head and needs no second call.

    Args:
        num_channels: C, needed for the affine part.
        affine: Learn one weight and one bias a channel.
        subtract_last: Centre on the last observed step instead of the mean.
        eps: Added to the variance, in squared units of the input.
    """

    def __init__(
        self, num_channels: int = 1, affine: bool = False, subtract_last: bool = False, eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.eps = eps
        self.subtract_last = subtract_last
        self.weight = nn.Parameter(torch.ones(num_channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(num_channels)) if affine else None

    def forward(self, values: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Normalises `values`.

        Args:
            values: [B, L, C].
            mask: [B, L, C] bool, True = observed. Unobserved entries become the centre of the normalised window.

        Returns:
            normalised [B, L, C], loc [B, 1, C], scale [B, 1, C].
        """
        mean, variance = compute_masked_moments(values.detach(), mask)
        if self.subtract_last:
            mean = _last_observed(values.detach(), mask)
        loc, scale = mean, (variance + self.eps).sqrt()
        normalised = (values - loc) / scale
        if mask is not None:
            normalised = normalised.masked_fill(~mask, 0.0)
        if self.weight is None or self.bias is None:
            return normalised, loc, scale
        normalised = normalised * self.weight + self.bias
        scale = scale / (self.weight + self.eps**2)
        return normalised, loc - self.bias * scale, scale


def _last_observed(values: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return values[:, -1:]
    steps = torch.arange(1, values.shape[1] + 1, device=values.device).view(1, -1, 1)
    last = (mask * steps).argmax(1, keepdim=True)  # [B, 1, C]
    return values.gather(1, last)
