"""Test scores of decisions: by window and channel, in original units, with calibration."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tsllm import metrics
from tsllm.models.base import ForecastModel
from tsllm.rl.rewards import Known, Reward
from tsllm.rl.rollout import seeded
from tsllm.rl.windows import ScaledWindows, fold_channels, unfold_problem
from tsllm.training.scores import CRPS_LEVELS

PIT_LEVELS = tuple(k / 20 for k in range(1, 20))


def score_decisions(
    model: ForecastModel,
    windows: ScaledWindows,
    rewards: Mapping[str, Reward],
    season: int,
    *,
    keys: frozenset[str],
    num_samples: int = 100,
    batch_size: int = 64,
    seed: int = 0,
    quantiles: Mapping[str, float] | None = None,
) -> dict[str, np.ndarray]:
    """Scores the point forecasts as decisions and the distributions as forecasts.

    Args:
        model: The model; it is put into eval mode.
        windows: All of them are scored, in order.
        rewards: Scored on the point forecast; a group-wise one on samples (`Reward.utility`).
        season: Steps in a season.
        keys: The tensors of a batch that the model reads.
        num_samples: Samples a window for group-wise rewards.
        batch_size: Windows a forward pass.
        seed: Of the samples.
        quantiles: Further decisions: name -> level; the decision is then that quantile, and the entry
            `<reward>@<name>`.

    Returns:
        Name -> [N, C]: each reward (larger is better), and `mae`, `crps` (original units), `coverage_80`; `pit` is
        [N, C, 20], the share of a window's steps in each twentieth of the predictive distribution. NaN where a window
        and channel have no observed target.
    """
    device = next(model.parameters()).device
    model.eval()
    found: dict[str, list[Tensor]] = {}
    for number, indices in enumerate(torch.arange(len(windows)).split(batch_size)):
        batch: dict[str, Any] = {k: v.to(device) for k, v in windows.gather(indices).items()}  # type: ignore[attr-defined]
        with torch.no_grad(), seeded(seed, number):
            output = model(**{k: v for k, v in batch.items() if k in keys and k != "future_values"})
            asked = frozenset().union(*(reward.asks for reward in rewards.values()))
            facts = windows.find_known(indices, asked) if asked else None
            scored = _score_batch(model, output, batch, rewards, season, num_samples, quantiles or {}, facts)
        for name, value in scored.items():
            found.setdefault(name, []).append(value.cpu())
    channels = windows.windows.num_channels
    return {
        name: torch.cat(values).unflatten(0, (-1, channels)).double().numpy()  # [N, C, ...]
        for name, values in found.items()
    }


def _score_batch(
    model: ForecastModel,
    output: Any,
    batch: Mapping[str, Tensor],
    rewards: Mapping[str, Reward],
    season: int,
    num_samples: int,
    quantiles: Mapping[str, float],
    facts: Known | None,
) -> dict[str, Tensor]:
    target, history = unfold_problem(batch)  # [R, H], [R, L]
    loc, scale = batch["series_loc"], batch["series_scale"]
    known = ~target.isnan().all(1)
    point = fold_channels(output.predictions * scale + loc)  # [R, H]
    levels = sorted({*CRPS_LEVELS, *PIT_LEVELS, *quantiles.values()})
    table = model.compute_quantiles(output, levels) * scale[..., None] + loc[..., None]  # [B, H, C, Q]
    table = fold_channels(table.movedim(-1, 0)).movedim(1, -1)  # [R, H, Q]
    decisions = {"": point} | {f"@{name}": table[..., levels.index(level)] for name, level in quantiles.items()}
    scored: dict[str, Tensor] = {}
    samples = None

    def judge(reward: Reward, function: Any, forecasts: Tensor) -> Tensor:
        value = torch.full(known.shape, torch.nan, dtype=forecasts.dtype, device=forecasts.device)
        if bool(known.any()):
            told = None if facts is None else facts.take(known)
            found = function(forecasts[known], target[known], history[known], season, **reward.tell(told))
            value[known] = found if found.ndim == 1 else found[:, 0]
        return value

    for name, reward in rewards.items():
        if reward.group_wise:
            if samples is None:
                samples = fold_channels(output.distribution.sample((num_samples,)) * scale + loc)  # [R, G, H]
            scored[name] = judge(reward, reward.utility, samples)
            continue
        for suffix, decision in decisions.items():
            scored[name + suffix] = judge(reward, reward, decision[:, None])
    crps_columns = [levels.index(level) for level in CRPS_LEVELS]
    observed = ~target.isnan()
    low, high = table[..., levels.index(0.1)], table[..., levels.index(0.9)]
    by_step = {
        "mae": (target - point).abs(),
        "crps": metrics.crps_quantiles(target, table[..., crps_columns], CRPS_LEVELS, dim=()),
        "coverage_80": ((target >= low) & (target <= high)).to(point.dtype),
    }
    count = observed.sum(1)
    for name, value in by_step.items():
        scored[name] = torch.where(observed, value, 0.0).sum(1) / count  # 0 / 0 = NaN: no observed target
    cuts = table[..., [levels.index(level) for level in PIT_LEVELS]]  # [R, H, 19]
    place = (target[..., None] > cuts).sum(-1)  # [R, H], 0..19
    share = torch.nn.functional.one_hot(place, len(PIT_LEVELS) + 1) * observed[..., None]  # [R, H, 20]
    scored["pit"] = share.sum(1) / count[:, None]
    return scored
