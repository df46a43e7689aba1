"""Distributions of forecasts that torch lacks: quantised bins, and Gaussian paths with autocorrelated noise."""

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Normal, constraints

NO_SHAPE = torch.Size()


class Binned(Distribution):
    """Piecewise constant density over bins with exponential tails; a categorical policy over a continuous value.

    K bins are cut by K - 1 edges. The inner bins have a constant density; the first and the last are exponential and
    reach to infinity, so that every value has a finite log-density. Ratios of two such policies are ratios of bin
    probabilities; what lies inside a bin is noise that no parameter moves.

    Args:
        logits: Of the bins, [..., K].
        edges: Ascending, in the normalised space, [K - 1].
        loc: Value = normalised value * scale + loc; [...] or broadcastable.
        scale: Above 0; as `loc`.
        tail: Mean distance from the outermost edges in the first and the last bin, in the normalised space.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}
    support = constraints.real
    has_rsample = False

    def __init__(self, logits: Tensor, edges: Tensor, loc: Tensor, scale: Tensor, tail: float) -> None:
        self.log_weights = logits.log_softmax(-1)  # [..., K]
        self.edges, self.tail = edges.to(logits), tail
        self.loc, self.scale = (x.expand(logits.shape[:-1]) for x in (loc, scale))
        super().__init__(logits.shape[:-1], validate_args=False)

    @property
    def mean(self) -> Tensor:
        """Returns the mean, [...]."""
        middles = (self.edges[1:] + self.edges[:-1]) / 2  # [K - 2]
        ends = torch.stack([self.edges[0] - self.tail, self.edges[-1] + self.tail])
        centres = torch.cat([ends[:1], middles, ends[1:]])  # [K]
        return (self.log_weights.exp() * centres).sum(-1) * self.scale + self.loc

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns log-densities of values [..., *batch]."""
        z = (value - self.loc) / self.scale
        bins = torch.bucketize(z.detach().contiguous(), self.edges)  # [..., *batch], 0..K - 1
        weights = self.log_weights.expand(*z.shape, -1).gather(-1, bins.unsqueeze(-1)).squeeze(-1)
        inner = bins.clamp(1, len(self.edges) - 1)
        width = self.edges[inner] - self.edges[inner - 1]
        beyond = torch.maximum(self.edges[0] - z, z - self.edges[-1]).clamp(min=0)
        is_tail = (bins == 0) | (bins == len(self.edges))
        tail = torch.full_like(z, self.tail)
        density = torch.where(is_tail, -beyond / tail - tail.log(), -width.log())
        return weights + density - self.scale.log()

    def sample(self, sample_shape: Any = NO_SHAPE) -> Tensor:
        """Draws values [*sample_shape, *batch]."""
        with torch.no_grad():
            uniform = torch.rand(self._extended_shape(sample_shape), dtype=self.loc.dtype, device=self.loc.device)
            return self.icdf(uniform)

    def icdf(self, value: Tensor) -> Tensor:
        """Returns the quantiles at levels [..., *batch] in (0, 1)."""
        top = self.log_weights.exp().cumsum(-1)  # [*batch, K]
        top = top / top[..., -1:]
        flat = value.reshape(-1, *self.batch_shape).movedim(0, -1).contiguous()  # [*batch, n]
        bins = torch.searchsorted(top.contiguous(), flat).clamp(max=top.shape[-1] - 1)  # [*batch, n]
        weight = self.log_weights.exp().gather(-1, bins)
        below = top.gather(-1, bins) - weight
        share = ((flat - below) / weight.clamp(min=1e-12)).clamp(1e-6, 1 - 1e-6)  # place inside the bin
        inner = bins.clamp(1, len(self.edges) - 1)
        left, right = self.edges[inner - 1], self.edges[inner]
        z = left + share * (right - left)
        z = torch.where(bins == 0, self.edges[0] + self.tail * share.log(), z)
        z = torch.where(bins == len(self.edges), self.edges[-1] - self.tail * (1 - share).log(), z)
        found = z.movedim(-1, 0).reshape(value.shape)
        return found * self.scale + self.loc

    def entropy(self) -> Tensor:
        """Returns the differential entropy in nats, [...]."""
        weights = self.log_weights.exp()
        widths = (self.edges[1:] - self.edges[:-1]).log()
        end = torch.full_like(widths[:1], self.tail).log() + 1
        inside = torch.cat([end, widths, end])  # [K], entropy of each bin's own density
        return (weights * (inside - self.log_weights)).sum(-1) + self.scale.log()


class AutoregressiveNormal(Normal):
    """Gaussian paths over the horizon whose standardised noise is an AR(1) process; marginals are plain normals.

    `x_t = loc_t + scale_t e_t`, `e_t = phi_t e_{t-1} + sqrt(1 - phi_t^2) n_t`, `e_0 = n_0`. `log_prob` gives each
    step's log-density *given the steps before it*, whose sum over the horizon is that of the path.

    Args:
        loc: Means [B, H, C].
        scale: Standard deviations [B, H, C].
        correlation: phi in (-1, 1), [B, H, C]; the first step's is not read.
    """

    def __init__(self, loc: Tensor, scale: Tensor, correlation: Tensor) -> None:
        self.correlation = correlation
        super().__init__(loc, scale, validate_args=False)

    def rsample(self, sample_shape: Any = NO_SHAPE) -> Tensor:
        """Draws paths [*sample_shape, B, H, C] with gradients."""
        shape = self._extended_shape(sample_shape)
        noise = torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        fresh = (1 - self.correlation.square()).sqrt()
        error = noise[..., 0, :]
        path = [error]
        for step in range(1, shape[-2]):
            error = self.correlation[:, step] * error + fresh[:, step] * noise[..., step, :]
            path.append(error)
        return self.loc + self.scale * torch.stack(path, -2)  # [*sample_shape, B, H, C]

    def sample(self, sample_shape: Any = NO_SHAPE) -> Tensor:
        """Draws paths [*sample_shape, B, H, C]."""
        with torch.no_grad():
            return self.rsample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns each step's log-density given the steps before, [..., B, H, C]."""
        error = (value - self.loc) / self.scale
        before = torch.cat([torch.zeros_like(error[..., :1, :]), error[..., :-1, :]], -2)
        # The first step has no step before it: there the correlation is 0.
        phi = torch.cat([torch.zeros_like(self.correlation[..., :1, :]), self.correlation[..., 1:, :]], -2)
        fresh = (1 - phi.square()).sqrt()
        return Normal(phi * before, fresh, validate_args=False).log_prob(error) - self.scale.log()

    def entropy(self) -> Tensor:
        """Returns each step's conditional entropy in nats, [B, H, C]; their sum is the path's."""
        phi = torch.cat([torch.zeros_like(self.correlation[..., :1, :]), self.correlation[..., 1:, :]], -2)
        return super().entropy() + (1 - phi.square()).log() / 2
