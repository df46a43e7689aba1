"""Seasonal lags and scales of windows whose seasons differ from row to row."""

from typing import NamedTuple

import torch
from torch import Tensor


class SeasonalView(NamedTuple):
    """What the same phase of earlier seasons held, for every step of context and horizon.

    Attributes:
        lags: [N, L + H, K], the value one to K seasons back; for a step of the horizon, of the last seasons observed.
        lags_observed: [N, L + H, K] bool.
        naive: [N, H], the last observed value of each phase; the last observed value where a phase has none.
        loc: [N, 1], mean of the last season, of what was observed of it.
        scale: [N, 1], mean absolute change from season to season; above 0.
    """

    lags: Tensor
    lags_observed: Tensor
    naive: Tensor
    loc: Tensor
    scale: Tensor


def view_seasons(values: Tensor, mask: Tensor, season: Tensor, horizon: int, num_lags: int = 3) -> SeasonalView:
    """Finds the lags of each row's own season.

    The scale is the denominator of MASE (Hyndman & Koehler 2006) over the window, so a loss in its units is a scaled
    one; where no pair of seasons was observed, that of the neighbouring steps. A fiftieth of the mean absolute
    deviation is added, so that a window that repeats itself exactly does not blow up.

    Args:
        values: [N, L]; values at unobserved steps are not read.
        mask: [N, L] bool, True = observed.
        season: [N] integers, steps in a season; 1 = none.
        horizon: H.
        num_lags: K.
    """
    length = values.shape[1]
    values = torch.where(mask, values, torch.zeros_like(values))
    steps = torch.arange(length + horizon, device=values.device)
    ahead = (steps - length).clamp_min(0)  # [L + H], 0 in the context
    # A step of the horizon looks back past the seasons that lie within the horizon themselves.
    inside = ahead // season[:, None]  # [N, L + H]
    back = torch.arange(1, num_lags + 1, device=values.device)  # [K]
    source = steps[:, None] - (inside[..., None] + back) * season[:, None, None]  # [N, L + H, K]
    at = source.clamp_min(0).flatten(1)
    lags = values.gather(1, at).view_as(source)
    seen = mask.gather(1, at).view_as(source) & (source >= 0)
    lags = torch.where(seen, lags, torch.zeros_like(lags))
    last = _find_last(values, mask)  # [N, 1]
    naive = last.expand(-1, horizon)
    for k in reversed(range(num_lags)):
        naive = torch.where(seen[:, length:, k], lags[:, length:, k], naive)
    recent = mask & (torch.arange(length, device=values.device) >= length - season[:, None])
    loc = torch.where(recent.any(1, keepdim=True), _average(values, recent), last)
    return SeasonalView(lags, seen, naive, loc, _find_scale(values, mask, lags[:, :length, 0], seen[:, :length, 0]))


def _find_last(values: Tensor, mask: Tensor) -> Tensor:
    """Returns the last observed value of each row [N, 1]; 0 where nothing was observed."""
    steps = torch.arange(1, values.shape[1] + 1, device=values.device)
    return values.gather(1, (mask * steps).argmax(1, keepdim=True))


def _average(values: Tensor, mask: Tensor) -> Tensor:
    """Averages the entries of each row [N, L] that the mask holds: [N, 1]; 0 where it holds none."""
    return torch.where(mask, values, torch.zeros_like(values)).sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp(
        min=1
    )


def _find_scale(values: Tensor, mask: Tensor, lag: Tensor, lag_observed: Tensor) -> Tensor:
    pairs = mask & lag_observed  # [N, L]
    seasonal = _average((values - lag).abs(), pairs)
    neighbours = torch.zeros_like(mask)
    neighbours[:, 1:] = mask[:, 1:] & mask[:, :-1]
    steps = _average((values - values.roll(1, 1)).abs(), neighbours)
    change = torch.where(pairs.any(1, keepdim=True), seasonal, steps)
    scale = change + 0.02 * _average((values - _average(values, mask)).abs(), mask)
    size = _average(values.abs(), mask)
    # Rounding leaves changes of about 1e-7 of the level in a constant window.
    return torch.where(scale > 1e-6 * size, scale, torch.where(size > 0, size, torch.ones_like(size)))
