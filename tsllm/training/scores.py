"""Test and validation scores: sums a window and channel, from which every average over observed targets is exact.

A forecast of 720 steps would fill memory if all of them were kept; these sums are [N, C, columns] and give scaled and
original units at once, because an error scales with its series.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from tsllm import metrics
from tsllm.data.scaling import StandardScaler
from tsllm.models.base import ForecastModel
from tsllm.types import ID, ForecastOutput

CRPS_LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
COLUMNS = ("count", "loss", "mse", "mae")
QUANTILE_COLUMNS = ("crps", "coverage_80", "width_80")
_POWER = {"mse": 2, "mae": 1, "crps": 1, "width_80": 1}  # how a score grows with the unit of its series


def compute_scores(model: ForecastModel, output: ForecastOutput, target: Tensor) -> Tensor:
    """Sums each score over the horizon.

    Args:
        model: The model, for the quantiles of its head.
        output: Its forecast with the loss.
        target: [B, H, C], NaN = missing.

    Returns:
        [B, C, columns] in float64 (float32 where the device has no float64), in the order of `COLUMNS` and, for
        heads that know quantiles, `QUANTILE_COLUMNS`.
    """
    assert output.predictions is not None
    assert output.loss is not None
    target = target.float() if target.device.type == "mps" else target.double()
    predictions = output.predictions.to(target)
    count = (~torch.isnan(target)).sum(1).to(target)  # [B, C]
    columns = [count, count * output.loss.to(target)]
    values = [metrics.mse(target, predictions, dim=()), metrics.mae(target, predictions, dim=())]
    if model.config.head != "point":
        levels = sorted({*CRPS_LEVELS})
        quantiles = model.compute_quantiles(output, levels).to(target)  # [B, H, C, Q]
        low, high = quantiles[..., 0], quantiles[..., -1]
        values += [
            metrics.crps_quantiles(target, quantiles, levels, dim=()),
            metrics.coverage(target, low, high, dim=()),
            metrics.interval_width(target, low, high, dim=()),
        ]
    columns += [_sum_observed(value, target) for value in values]
    return torch.stack(columns, -1)  # [B, C, columns]


def reduce_scores(scores: np.ndarray, scale: np.ndarray | None = None) -> dict[str, float]:
    """Averages the sums of `compute_scores`.

    Args:
        scores: [N, C, columns].
        scale: Scale of the series of each window and channel [N, C]; gives `*_original` besides, in the series' units.

    Raises:
        ValueError: If no target is observed.
    """
    names = COLUMNS + QUANTILE_COLUMNS if scores.shape[-1] > len(COLUMNS) else COLUMNS
    sums = dict(zip(names, np.moveaxis(scores.astype(np.float64), -1, 0), strict=True))
    total = sums.pop("count").sum()
    if total == 0:
        raise ValueError("no target of this part is observed, so it cannot be scored")
    found = {name: float(value.sum() / total) for name, value in sums.items()}
    if scale is not None:
        for name, power in _POWER.items():
            if name in sums:
                found[f"{name}_original"] = float((sums[name] * scale**power).sum() / total)
    return found


def _sum_observed(values: Tensor, target: Tensor) -> Tensor:
    """Sums [B, H, C] over the observed steps; a forecast that is NaN there makes the sum NaN."""
    return torch.where(torch.isnan(target), torch.zeros_like(values), values).sum(1)  # [B, C]


def find_window_scales(windows: Any, scaler: StandardScaler) -> np.ndarray:
    """Returns the scale of the series of each window and channel [N, C]."""
    return scaler.loc_scale(windows.window_frame()[ID])[1].reshape(len(windows), windows.num_channels)


def score_seasonal_naive(windows: Any, season: int, scaler: StandardScaler) -> dict[str, float] | None:
    """Scores the forecast that repeats the last season of each context, over all windows.

    Returns:
        `mse`, `mae` and both in original units; None if the context is shorter than a season, or if a context has
        missing values, which this forecast cannot bridge.
    """
    if windows.context_length < season:
        return None
    steps = windows.context_length - season + torch.arange(windows.prediction_length) % season  # [H]
    sums = []
    for indices in torch.arange(len(windows)).split(512):
        batch = windows.gather(indices)
        if not batch["past_observed_mask"].all():
            return None
        target = batch["future_values"].double()
        forecast = batch["past_values"].double()[:, steps]  # [B, H, C]
        squared, absolute = metrics.mse(target, forecast, dim=()), metrics.mae(target, forecast, dim=())
        count = (~torch.isnan(target)).sum(1).double()
        columns = [count, torch.zeros_like(count), _sum_observed(squared, target), _sum_observed(absolute, target)]
        sums.append(torch.stack(columns, -1))  # [B, C, columns]
    found = reduce_scores(torch.cat(sums).numpy(), find_window_scales(windows, scaler))
    found.pop("loss")
    return found
