"""Output heads: from K parameters a step to predictions, quantiles or a distribution in the input's units.

A model emits `parameters [B, H, C, K]` in its normalised space together with `loc` and `scale` [B, 1, C] (or None);
every head here is affine-equivariant, so de-normalising is exact.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Distribution, Normal, StudentT

from tsllm.nn.distributions import AutoregressiveNormal, Binned
from tsllm.registry import Registry


class HeadOutput(NamedTuple):
    """Predictions [B, H, C], quantiles [B, H, C, Q] or None, distribution over [B, H, C] or None."""

    predictions: Tensor
    quantiles: Tensor | None = None
    distribution: Distribution | None = None


class OutputHead(Protocol):
    """What every head offers; heads hold no trainable parameters."""

    num_parameters: int
    losses: tuple[str, ...]  # the losses that train all its parameters, the default first

    def to_output(self, parameters: Tensor, loc: Tensor | None, scale: Tensor | None) -> HeadOutput:
        """Turns normalised parameters [B, H, C, K] into a forecast in the input's units."""
        ...

    def compute_quantiles(self, output: HeadOutput, levels: Sequence[float]) -> Tensor:
        """Returns the quantiles [B, H, C, len(levels)] of a forecast.

        Raises:
            ValueError: If the head cannot give them.
        """
        ...


def _affine(values: Tensor, loc: Tensor | None, scale: Tensor | None) -> Tensor:
    values = values if scale is None else values * scale
    return values if loc is None else values + loc


class PointOutput:
    """One number a step."""

    num_parameters = 1
    losses = ("mse", "mae", "smooth_l1", "huber", "smape")

    def to_output(self, parameters: Tensor, loc: Tensor | None, scale: Tensor | None) -> HeadOutput:
        """Returns predictions only."""
        return HeadOutput(_affine(parameters.squeeze(-1), loc, scale))

    def compute_quantiles(self, output: HeadOutput, levels: Sequence[float]) -> Tensor:
        """A point head knows no quantiles.

        Raises:
            ValueError: Always.
        """
        raise ValueError(
            f"a point head has no quantiles (asked for {list(levels)}); train with head: quantile or student_t, "
            "or let the forecaster calibrate conformal intervals"
        )


class QuantileOutput:
    """The quantiles at fixed levels; crossing ones are put in order (Chernozhukov 2010).

    Args:
        levels: Levels in (0, 1), ascending, 0.5 among them (the point forecast).
    """

    losses = ("quantile",)

    def __init__(self, levels: Sequence[float]) -> None:
        levels = list(levels)
        if not levels or sorted(set(levels)) != levels or not all(0 < q < 1 for q in levels) or 0.5 not in levels:
            raise ValueError(f"quantile_levels must ascend within (0, 1) and hold 0.5, got {levels}")
        self.levels = levels
        self.num_parameters = len(levels)

    def to_output(self, parameters: Tensor, loc: Tensor | None, scale: Tensor | None) -> HeadOutput:
        """Returns ordered quantiles and the median."""
        loc, scale = (None if x is None else x.unsqueeze(-1) for x in (loc, scale))
        quantiles = _affine(parameters, loc, scale).sort(-1).values  # [B, H, C, Q]
        return HeadOutput(quantiles[..., self.levels.index(0.5)], quantiles)

    def compute_quantiles(self, output: HeadOutput, levels: Sequence[float]) -> Tensor:
        """Interpolates linearly between trained levels.

        Raises:
            ValueError: If a level lies outside the trained ones.
        """
        assert output.quantiles is not None
        outside = [q for q in levels if not self.levels[0] - 1e-9 <= q <= self.levels[-1] + 1e-9]
        if outside:
            raise ValueError(
                f"quantile levels {outside} lie outside the trained range [{self.levels[0]}, {self.levels[-1]}]; "
                "ask for a narrower interval or train with wider quantile_levels"
            )
        known = np.asarray(self.levels)
        columns = []
        for level in levels:
            right = int(np.clip(np.searchsorted(known, level - 1e-9), 1, len(known) - 1)) if len(known) > 1 else 0
            left = max(right - 1, 0)
            width = known[right] - known[left]
            weight = float(np.clip((level - known[left]) / width, 0, 1)) if width > 0 else 0.0
            columns.append(torch.lerp(output.quantiles[..., left], output.quantiles[..., right], weight))
        return torch.stack(columns, -1)


class GaussianOutput:
    """A normal distribution a step; `min_scale` is the floor of its deviation in normalised units."""

    num_parameters = 2
    losses = ("nll",)

    def __init__(self, min_scale: float = 1e-3) -> None:
        self.min_scale = min_scale

    def to_output(self, parameters: Tensor, loc: Tensor | None, scale: Tensor | None) -> HeadOutput:
        """Returns the distribution and its mean."""
        mean, raw = parameters.float().unbind(-1)
        deviation = F.softplus(raw) + self.min_scale
        mean, deviation = _affine(mean, loc, scale), _affine(deviation, None, None if scale is None else scale.abs())
        return HeadOutput(mean, None, Normal(mean, deviation, validate_args=False))

    def compute_quantiles(self, output: HeadOutput, levels: Sequence[float]) -> Tensor:
        """Returns exact quantiles."""
        assert isinstance(output.distribution, Normal)
        tau = torch.as_tensor(levels, dtype=output.predictions.dtype, device=output.predictions.device)
        z = torch.special.ndtri(tau)
        return output.distribution.loc.unsqueeze(-1) + output.distribution.scale.unsqueeze(-1) * z


class StudentTOutput:
    """A Student-t distribution a step with at least `min_df` degrees of freedom (above 2: finite variance)."""

    num_parameters = 3
    losses = ("nll",)

    def __init__(self, min_scale: float = 1e-3, min_df: float = 2.01) -> None:
        self.min_scale = min_scale
        self.min_df = min_df

    def to_output(self, parameters: Tensor, loc: Tensor | None, scale: Tensor | None) -> HeadOutput:
        """Returns the distribution and its median."""
        centre, raw, raw_df = parameters.float().unbind(-1)
        deviation = F.softplus(raw) + self.min_scale
        df = F.softplus(raw_df) + self.min_df
        centre = _affine(centre, loc, scale)
        deviation = _affine(deviation, None, None if scale is None else scale.abs())
        return HeadOutput(centre, None, StudentT(df, centre, deviation, validate_args=False))

    def compute_quantiles(self, output: HeadOutput, levels: Sequence[float]) -> Tensor:
        """Returns exact quantiles (scipy; no gradient)."""
        assert isinstance(output.distribution, StudentT)
        df = output.distribution.df.detach().cpu().numpy()[..., None]
        from scipy import stats  # half a second that only this needs

        z = torch.as_tensor(stats.t.ppf(np.asarray(levels), df)).to(output.predictions)  # [B, H, C, Q]
        return output.distribution.loc.unsqueeze(-1) + output.distribution.scale.unsqueeze(-1) * z


class AutoregressiveGaussianOutput(GaussianOutput):
    """Normal marginals with AR(1) noise along the horizon, so that sampled paths are coherent.

    `max_correlation` bounds the correlation of neighbouring steps. As a loss, the likelihood is that of the whole
    path; a missing target counts as if it lay at its mean.
    """

    num_parameters = 3

    def __init__(self, min_scale: float = 1e-3, max_correlation: float = 0.99) -> None:
        super().__init__(min_scale)
        if not 0 < max_correlation < 1:
            raise ValueError(f"max_correlation ({max_correlation}) must lie in (0, 1)")
        self.max_correlation = max_correlation

    def to_output(self, parameters: Tensor, loc: Tensor | None, scale: Tensor | None) -> HeadOutput:
        """Returns the distribution of paths and its mean."""
        marginal = super().to_output(parameters[..., :2], loc, scale)
        assert isinstance(marginal.distribution, Normal)
        correlation = self.max_correlation * parameters[..., 2].float().tanh()
        # A negative scale would turn the noise round at every step alike, which leaves its correlation as it is.
        paths = AutoregressiveNormal(marginal.predictions, marginal.distribution.scale, correlation)
        return HeadOutput(marginal.predictions, None, paths)


class BinsOutput:
    """A categorical distribution over quantised values a step, with exponential tails.

    Args:
        num_bins: K, at least 3.
        limit: The outermost edges lie at -limit and limit in the normalised space.
        tail: Mean distance beyond the outermost edges, in the normalised space.

    Raises:
        ValueError: If a number is out of its range.
    """

    losses = ("nll",)

    def __init__(self, num_bins: int = 64, limit: float = 4.0, tail: float = 1.0) -> None:
        if num_bins < 3 or not limit > 0 or not tail > 0:
            raise ValueError(
                f"bins: num_bins ({num_bins}) must be at least 3, limit ({limit}) and tail ({tail}) above 0"
            )
        self.num_parameters, self.limit, self.tail = num_bins, limit, tail

    def to_output(self, parameters: Tensor, loc: Tensor | None, scale: Tensor | None) -> HeadOutput:
        """Returns the distribution and its median."""
        logits = parameters.float()
        edges = torch.linspace(-self.limit, self.limit, self.num_parameters - 1, device=logits.device)
        zero, one = logits.new_zeros(()), logits.new_ones(())
        distribution = Binned(
            logits, edges, zero if loc is None else loc, one if scale is None else scale.abs(), self.tail
        )
        return HeadOutput(distribution.icdf(torch.full_like(logits[..., 0], 0.5)), None, distribution)

    def compute_quantiles(self, output: HeadOutput, levels: Sequence[float]) -> Tensor:
        """Returns exact quantiles."""
        assert isinstance(output.distribution, Binned)
        tau = torch.as_tensor(levels, dtype=output.predictions.dtype, device=output.predictions.device)
        shape = (len(tau), *output.predictions.shape)
        grid = tau.reshape(-1, *[1] * output.predictions.ndim).expand(shape)
        return output.distribution.icdf(grid).movedim(0, -1)  # [B, H, C, Q]


OUTPUTS: Registry[Any] = Registry(
    "head",
    {
        "point": PointOutput,
        "quantile": QuantileOutput,
        "gaussian": GaussianOutput,
        "student_t": StudentTOutput,
        "ar_gaussian": AutoregressiveGaussianOutput,
        "bins": BinsOutput,
    },
)


def build_output(head: str, quantile_levels: Sequence[float], head_kwargs: dict[str, Any] | None = None) -> OutputHead:
    """Builds the head called `head`; only `quantile` reads `quantile_levels`."""
    options = dict(head_kwargs or {})
    if head == "quantile":
        options.setdefault("levels", list(quantile_levels))
    return OUTPUTS.get(head)(**options)
