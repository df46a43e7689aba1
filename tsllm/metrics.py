"""The one definition of every metric: training, rewards and evaluation all call these functions.

Arguments are numpy arrays or torch tensors (one kind a call); the result is of the same kind, in float64 for numpy and
in the tensor's own floating type for torch. A target that is NaN is missing: it is skipped, and `count_observed` says
how many were not. A forecast that is NaN where the target is observed makes the result NaN, so that it cannot hide.

Every function takes `dim`: None averages over everything, an integer or a tuple averages over these dimensions, and
the empty tuple `()` returns the values unreduced. Where nothing is observed the result is NaN.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

Array = TypeVar("Array", np.ndarray, Tensor)
Dim = int | tuple[int, ...] | None


def count_observed(y: Array) -> int:
    """Returns how many targets are there (not NaN)."""
    return int((~torch.isnan(_tensor(y))).sum())


def mse(y: Array, y_hat: Array, *, dim: Dim = None) -> Array:
    """Mean squared error, in squared units of `y`."""
    return _reduce(lambda t, f: (t - f) ** 2, y, y_hat, dim=dim)


def mae(y: Array, y_hat: Array, *, dim: Dim = None) -> Array:
    """Mean absolute error, in units of `y`."""
    return _reduce(lambda t, f: (t - f).abs(), y, y_hat, dim=dim)


def rmse(y: Array, y_hat: Array, *, dim: Dim = None) -> Array:
    """Root of the mean squared error over `dim`, in units of `y`."""
    return mse(y, y_hat, dim=dim) ** 0.5


def bias(y: Array, y_hat: Array, *, dim: Dim = None) -> Array:
    """Mean of forecast minus target, in units of `y`; positive means that forecasts are too high."""
    return _reduce(lambda t, f: f - t, y, y_hat, dim=dim)


def smape(y: Array, y_hat: Array, *, dim: Dim = None) -> Array:
    """Symmetric mean absolute percentage error in 0..200 (the M competitions' range); 0 / 0 counts as 0.

    Makridakis (1993): 200 |y - f| / (|y| + |f|). utilsforecast's `smape` is this divided by 200.
    """

    def error(t: Tensor, f: Tensor) -> Tensor:
        total = t.abs() + f.abs()
        return torch.where(total == 0, torch.zeros_like(total), 200 * (t - f).abs() / total)

    return _reduce(error, y, y_hat, dim=dim)


def seasonal_error(y_train: Array, season: int, *, power: int = 1, dim: int = -1) -> Array:
    """Mean absolute error of the seasonal naive in the training part, the denominator of MASE.

    Hyndman & Koehler (2006): mean over t of |y_t - y_(t - season)|^power; pairs with a missing value are skipped.

    Args:
        y_train: Training values with time along `dim`.
        season: Steps in a season; 1 for the naive method.
        power: 1 for MASE, 2 for the squared errors of RMSSE.
        dim: The time dimension.

    Raises:
        ValueError: If the training part is not longer than a season.
    """
    values = _tensor(y_train)
    length = values.shape[dim]
    if season < 1 or length <= season:
        raise ValueError(f"season is {season} and the training part has {length} steps; it needs more than one season")
    ahead, behind = values.narrow(dim, season, length - season), values.narrow(dim, 0, length - season)
    return _like(((ahead - behind).abs() ** power).nanmean(dim), y_train)


def mase(y: Array, y_hat: Array, scale: Array | float, *, dim: Dim = None) -> Array:
    """Mean absolute scaled error: absolute error over `scale`, which comes from `seasonal_error`.

    Args:
        y: Targets.
        y_hat: Forecasts.
        scale: One scale for each series, in a shape that broadcasts against `y`. A scale of 0 (a series that repeats
            itself exactly) has no MASE: the result is NaN there.
        dim: As for all metrics.
    """

    def error(t: Tensor, f: Tensor, s: Tensor) -> Tensor:
        return (t - f).abs() / torch.where(s == 0, torch.full_like(s, torch.nan), s)

    return _reduce(error, y, y_hat, scale, dim=dim)


def rmsse(y: Array, y_hat: Array, scale: Array | float, *, dim: Dim = None) -> Array:
    """Root mean squared scaled error (M5): root of the squared error over `scale`, averaged before the root.

    Args:
        y: Targets.
        y_hat: Forecasts.
        scale: `seasonal_error(..., power=2)` of each series, broadcast against `y`; 0 gives NaN.
        dim: As for all metrics.
    """

    def error(t: Tensor, f: Tensor, s: Tensor) -> Tensor:
        return (t - f) ** 2 / torch.where(s == 0, torch.full_like(s, torch.nan), s)

    return _reduce(error, y, y_hat, scale, dim=dim) ** 0.5


def wape(y: Array, y_hat: Array, *, dim: Dim = None) -> Array:
    """Weighted absolute percentage error as a share: summed absolute error over summed |y|; NaN if all are 0."""
    return _divide(mae(y, y_hat, dim=dim), _reduce(lambda t, _: t.abs(), y, y, dim=dim))


def pinball(y: Array, y_hat: Array, level: float, *, dim: Dim = None) -> Array:
    """Pinball loss of one quantile forecast, in units of `y`: max(q (y - f), (q - 1) (y - f)).

    Args:
        y: Targets.
        y_hat: Forecasts of the quantile.
        level: The quantile's level q in (0, 1).
        dim: As for all metrics.
    """
    _check_levels([level])
    return _reduce(lambda t, f: torch.maximum(level * (t - f), (level - 1) * (t - f)), y, y_hat, dim=dim)


def quantile_loss(y: Array, quantiles: Array, levels: Sequence[float], *, dim: Dim = None) -> Array:
    """Pinball loss averaged over the levels, in units of `y`; half of `crps_quantiles`.

    Args:
        y: Targets [...].
        quantiles: Forecasts [..., quantile].
        levels: Their levels in (0, 1) [quantile].
        dim: Dimensions of `y`, as for all metrics.
    """
    _check_quantiles(quantiles, levels)

    def error(t: Tensor, q: Tensor) -> Tensor:
        u = t[..., None] - q  # [..., Q]
        tau = torch.as_tensor(levels, dtype=u.dtype, device=u.device)
        return torch.maximum(tau * u, (tau - 1) * u).mean(-1)

    return _reduce(error, y, quantiles, dim=dim, trailing=True)


def wql(y: Array, quantiles: Array, levels: Sequence[float], *, dim: Dim = None) -> Array:
    """Weighted quantile loss: twice the summed pinball loss over the summed |y|, averaged over the levels.

    Park et al. (2022), as GluonTS's `mean_weighted_sum_quantile_loss` and fev compute it. NaN if all targets are 0.
    """
    return _divide(2 * quantile_loss(y, quantiles, levels, dim=dim), _reduce(lambda t, _: t.abs(), y, y, dim=dim))


def scaled_quantile_loss(
    y: Array, quantiles: Array, levels: Sequence[float], scale: Array | float, *, dim: Dim = None
) -> Array:
    """Scaled quantile loss (fev's SQL): twice the pinball loss over `scale`, averaged over the levels.

    Args:
        y: Targets [...].
        quantiles: Forecasts [..., quantile].
        levels: Their levels in (0, 1) [quantile].
        scale: `seasonal_error` of each series, broadcast against `y`; 0 gives NaN.
        dim: Dimensions of `y`, as for all metrics.
    """
    loss = 2 * quantile_loss(y, quantiles, levels, dim=())

    def error(_: Tensor, per_step: Tensor, s: Tensor) -> Tensor:
        return per_step / torch.where(s == 0, torch.full_like(s, torch.nan), s)

    return _reduce(error, y, loss, scale, dim=dim)


def crps_quantiles(y: Array, quantiles: Array, levels: Sequence[float], *, dim: Dim = None) -> Array:
    """CRPS approximated by twice the mean pinball loss over evenly spread levels, in units of `y`.

    Gneiting & Ranjan (2011): CRPS is twice the integral of the pinball loss over the levels.
    """
    return 2 * quantile_loss(y, quantiles, levels, dim=dim)


def crps_samples(y: Array, samples: Array, *, fair: bool = False, dim: Dim = None) -> Array:
    """CRPS of an ensemble, in units of `y`: E|X - y| - E|X - X'| / 2.

    Gneiting & Raftery (2007). Sorting makes the second term O(m log m): the sum over pairs of |x_i - x_j| is
    2 sum_i (2 i - m + 1) x_(i) with i from 0.

    Args:
        y: Targets [...].
        samples: Draws [..., sample].
        fair: Divides the spread by m (m - 1) instead of m^2 (Ferro, 2014), which is unbiased for the distribution that
            the draws come from; needs two draws. Otherwise the exact CRPS of the empirical distribution.
        dim: Dimensions of `y`, as for all metrics.
    """
    m = samples.shape[-1]
    if m < (2 if fair else 1):
        raise ValueError(f"{m} samples are too few; the {'fair ' if fair else ''}CRPS needs {2 if fair else 1}")

    def error(t: Tensor, x: Tensor) -> Tensor:
        ordered = x.sort(dim=-1).values
        weights = 2 * torch.arange(m, dtype=x.dtype, device=x.device) - (m - 1)
        pairs = 2 * (ordered * weights).sum(-1)
        return (x - t[..., None]).abs().mean(-1) - pairs / (2 * m * (m - 1 if fair else m))

    return _reduce(error, y, samples, dim=dim, trailing=True)


def coverage(y: Array, lo: Array, hi: Array, *, dim: Dim = None) -> Array:
    """Share of targets within [lo, hi], in 0..1; a good 80 % interval has .8."""

    def inside(t: Tensor, low: Tensor, high: Tensor) -> Tensor:
        value = ((t >= low) & (t <= high)).to(t.dtype)
        return torch.where(torch.isnan(low) | torch.isnan(high), torch.full_like(value, torch.nan), value)

    return _reduce(inside, y, lo, hi, dim=dim)


def interval_width(y: Array, lo: Array, hi: Array, *, dim: Dim = None) -> Array:
    """Mean of hi - lo where the target is observed, in units of `y`."""
    return _reduce(lambda _, low, high: high - low, y, lo, hi, dim=dim)


def interval_score(y: Array, lo: Array, hi: Array, level: float, *, dim: Dim = None) -> Array:
    """Winkler's interval score, in units of `y`, lower is better (Gneiting & Raftery, 2007, eq. 43).

    Args:
        y: Targets.
        lo: Lower bounds.
        hi: Upper bounds.
        level: Nominal coverage in percent, such as 80; misses cost 2 / alpha per unit with alpha = 1 - level / 100.
        dim: As for all metrics.
    """
    if not 0 < level < 100:
        raise ValueError(f"level is {level}; give the coverage in percent, between 0 and 100")
    weight = 2 / (1 - level / 100)

    def error(t: Tensor, low: Tensor, high: Tensor) -> Tensor:
        return (high - low) + weight * ((low - t).clamp(min=0) + (t - high).clamp(min=0))

    return _reduce(error, y, lo, hi, dim=dim)


def energy_score(y: Array, samples: Array, *, fair: bool = False) -> Array:
    """Energy score of joint sample paths, in units of `y`: E||X - y|| - E||X - X'|| / 2 (Gneiting & Raftery, 2007).

    The CRPS of whole paths, lower is better; for one step it is `crps_samples`. It judges location and spread more
    sharply than dependence: read `variogram_score` beside it.

    Args:
        y: Targets [..., H]; a path with a missing step scores NaN, as it has no norm.
        samples: Draws [..., sample, H].
        fair: As in `crps_samples`.

    Returns:
        Scores [...], unreduced.
    """
    t, x = _paths(y, samples)
    m = x.shape[-2]
    if m < (2 if fair else 1):
        raise ValueError(f"{m} samples are too few; the {'fair ' if fair else ''}energy score needs {1 + fair}")
    to_truth = torch.linalg.vector_norm(x - t[..., None, :], dim=-1).mean(-1)
    flat = x.reshape(-1, *x.shape[-2:])  # [windows, sample, H]; one window at a time, so that memory stays M^2
    exact = "donot_use_mm_for_euclid_dist"
    pairs = torch.stack([torch.cdist(one, one, compute_mode=exact).sum() for one in flat]).reshape(t.shape[:-1])
    return _like(to_truth - pairs / (2 * m * (m - 1 if fair else m)), y)


def variogram_score(y: Array, samples: Array, *, order: float = 0.5) -> Array:
    """Variogram score of joint sample paths: mean over pairs of steps of (|y_i - y_j|^p - E|X_i - X_j|^p)^2.

    Scheuerer & Hamill (2015) with equal weights, divided by the number of pairs i != j. It sees the dependence between
    steps, and is blind to a constant added to the whole path. Lower is better; in units of `y` to the power 2 p.

    Args:
        y: Targets [..., H], H >= 2; a path with a missing step scores NaN.
        samples: Draws [..., sample, H].
        order: p.

    Returns:
        Scores [...], unreduced.
    """
    t, x = _paths(y, samples)
    steps = t.shape[-1]
    if steps < 2 or order <= 0:
        raise ValueError(f"the variogram score needs 2 steps and an order above 0; found {steps} and {order}")
    total = torch.zeros_like(t[..., 0])
    for gap in range(1, steps):
        truth = (t[..., gap:] - t[..., :-gap]).abs() ** order
        expected = ((x[..., gap:] - x[..., :-gap]).abs() ** order).mean(-2)
        total = total + ((truth - expected) ** 2).sum(-1)
    return _like(2 * total / (steps * (steps - 1)), y)


def functional_coverage(
    y: Array, samples: Array, level: float, functional: str | Callable[[Tensor], Tensor] = "max"
) -> Array:
    """Whether a number computed from the true path lies in the central interval of the sample paths', 1 or 0.

    Marginal intervals can be right and those of the day's peak, total or steepest ramp wrong: this tells. Average it
    over windows and compare with `level` / 100.

    Args:
        y: Targets [..., H]; a path with a missing step gives NaN.
        samples: Draws [..., sample, H].
        level: Coverage in per cent.
        functional: "max", "min", "sum", "ramp" (largest |change| from step to step), or a function [..., H] -> [...].

    Returns:
        1, 0 or NaN, [...].
    """
    if not 0 < level < 100:
        raise ValueError(f"level is {level}; give the coverage in percent, between 0 and 100")
    if isinstance(functional, str) and functional not in PATH_FUNCTIONALS:
        raise ValueError(f"functional {functional!r} must be one of {', '.join(PATH_FUNCTIONALS)}, or a function")
    compute = PATH_FUNCTIONALS[functional] if isinstance(functional, str) else functional
    t, x = _paths(y, samples)
    truth, drawn = compute(t), compute(x)  # [...], [..., M]
    tails = torch.tensor([0.5 - level / 200, 0.5 + level / 200], dtype=drawn.dtype, device=drawn.device)
    low, high = torch.quantile(drawn, tails, dim=-1)
    inside = ((truth >= low) & (truth <= high)).to(truth.dtype)
    return _like(torch.where(torch.isnan(truth) | torch.isnan(low), torch.full_like(inside, torch.nan), inside), y)


# Numbers that a decision may hang on, computed from whole paths [..., H].
PATH_FUNCTIONALS: dict[str, Callable[[Tensor], Tensor]] = {
    "max": lambda path: path.amax(-1),
    "min": lambda path: path.amin(-1),
    "sum": lambda path: path.sum(-1),
    "ramp": lambda path: path.diff(dim=-1).abs().amax(-1),
}


def skill(score: float, baseline: float) -> float:
    """Share of the baseline's score that a model saves: 1 - score / baseline.

    1 is perfect, 0 as good as the baseline, below 0 worse. Two scores of 0 tie (0); any error against a perfect
    baseline is minus infinity.
    """
    if baseline == 0:
        return 0.0 if score == 0 else float("-inf")
    return 1.0 - score / baseline


# Metrics of a point forecast that need nothing but targets and forecasts.
POINT_METRICS: dict[str, Callable[..., Any]] = {
    "mse": mse,
    "mae": mae,
    "rmse": rmse,
    "bias": bias,
    "smape": smape,
    "wape": wape,
}


def _reduce(error: Callable[..., Tensor], y: Any, *forecasts: Any, dim: Dim, trailing: bool = False) -> Any:
    """Evaluates `error` on tensors and averages it over the observed targets along `dim`.

    With `trailing`, the forecasts have one more axis than the targets (quantiles, samples), which `error` takes away.
    """
    targets = _tensor(y)
    shape = tuple(forecasts[0].shape)
    if tuple(targets.shape) != (shape[:-1] if trailing else shape):
        raise ValueError(
            f"targets have shape {tuple(targets.shape)}, forecasts {shape}; nothing is broadcast: they must agree"
            + (", but for the forecasts' last axis" if trailing else "")
        )
    values = error(targets, *(_tensor(f, targets) for f in forecasts))
    if values.shape != targets.shape:
        raise ValueError(
            f"targets have shape {tuple(targets.shape)}, the errors {tuple(values.shape)}; make them agree"
        )
    missing = torch.isnan(targets)
    if dim == ():
        return _like(values.masked_fill(missing, torch.nan), y)
    dims = tuple(range(values.dim())) if dim is None else dim
    count = (~missing).sum(dims).to(values.dtype)
    return _like(values.masked_fill(missing, 0).sum(dims) / count, y)  # 0 / 0 is NaN: nothing was observed


def _paths(y: Any, samples: Any) -> tuple[Tensor, Tensor]:
    """Returns targets [..., H] and samples [..., sample, H] as tensors."""
    t = _tensor(y)
    x = _tensor(samples, t)
    if x.dim() != t.dim() + 1 or x.shape[:-2] != t.shape[:-1] or x.shape[-1:] != t.shape[-1:]:
        raise ValueError(
            f"targets have shape {tuple(t.shape)}, sample paths {tuple(x.shape)}; expected [..., H] and "
            "[..., sample, H]"
        )
    return t, x


def _divide(value: Any, total: Any) -> Any:
    """Divides, with NaN where `total` is 0."""
    if isinstance(value, Tensor):
        return torch.where(total == 0, torch.full_like(value, torch.nan), value / total)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(total == 0, np.nan, value / total)[()]


def _tensor(values: Any, like: Tensor | None = None) -> Tensor:
    if isinstance(values, Tensor):
        return values if values.is_floating_point() else values.to(torch.get_default_dtype())
    if like is not None and not isinstance(values, np.ndarray):
        return torch.as_tensor(values, dtype=like.dtype, device=like.device)
    array = np.asarray(values, dtype=np.float64, order="C")
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def _like(values: Tensor, y: Any) -> Any:
    return values if isinstance(y, Tensor) else values.numpy()[()]


def _check_levels(levels: Sequence[float]) -> None:
    wrong = [q for q in levels if not 0 < q < 1]
    if wrong:
        raise ValueError(f"quantile level {wrong[0]} lies outside (0, 1)")


def _check_quantiles(quantiles: Any, levels: Sequence[float]) -> None:
    _check_levels(levels)
    if quantiles.shape[-1] != len(levels):
        raise ValueError(
            f"quantiles have {quantiles.shape[-1]} entries on the last axis, but there are {len(levels)} levels"
        )
