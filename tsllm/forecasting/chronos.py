"""Chronos foundation models behind the Forecaster protocol (needs the package chronos-forecasting)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from tsllm.data.frame import future_frame, infer_freq, validate_frame
from tsllm.data.frequency import Freq
from tsllm.forecasting.base import (
    HistoryForecaster,
    compute_quantile_levels,
    count_torch_parameters,
    name_interval_columns,
)
from tsllm.types import ID, TARGET, TIME


class ChronosForecaster(HistoryForecaster):
    """A pretrained Chronos, Chronos-Bolt or Chronos-2 model, as it is: nothing is trained, no covariate is read.

    Ansari et al. (2024), "Chronos: Learning the Language of Time Series". The forecast is the median. Chronos-Bolt and
    Chronos-2 know fixed quantiles; between them the intervals are interpolated, beyond them they are refused, where
    the package itself would repeat the outermost one. Quantiles that cross are put in order step by step
    (Chernozhukov et al., 2010).

    Args:
        model: Hub id ("amazon/chronos-bolt-small") or folder.
        alias: Name of the forecast column; None takes the last part of `model`.
        freq: Frequency of the data; None infers it.
        context_length: Steps of history that the model reads; None = as many as it can.
        num_samples: Paths drawn by a model that samples (Chronos-T5); None = the model's own number.
        batch_size: Series read together.
        seed: Of the draws; two calls of `predict` on the same data give the same forecast.
        revision: Branch, tag or commit of the Hub repository.
        device: Where the model goes.

    Raises:
        ImportError: If chronos-forecasting is not installed.
        OSError: If the model cannot be loaded.
    """

    def __init__(
        self,
        model: str,
        alias: str | None = None,
        *,
        freq: Freq | None = None,
        context_length: int | None = None,
        num_samples: int | None = None,
        batch_size: int = 32,
        seed: int = 0,
        revision: str | None = None,
        device: str = "cpu",
    ) -> None:
        sizes = {"context_length": context_length, "num_samples": num_samples, "batch_size": batch_size}
        for name, value in sizes.items():
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.alias = model.rstrip("/").rpartition("/")[2] if alias is None else alias
        self.freq, self._context_length, self.num_samples = freq, context_length, num_samples
        self.batch_size, self.seed = batch_size, seed
        self.pipeline = _load_pipeline(model, revision, device)
        # Nothing is trained here, so no parameter counts as trained.
        self.model = self.pipeline.inner_model.requires_grad_(False)

    def predict(
        self,
        df: pd.DataFrame | None = None,
        h: int | None = None,
        level: Sequence[float] | None = None,
        X_df: pd.DataFrame | None = None,
    ) -> pd.DataFrame:
        """Forecasts the `h` steps after each series; see `Forecaster.predict`. `X_df` is not read.

        Raises:
            ValueError: If there is no history or no horizon, or an interval is wider than the model's quantiles.
            FloatingPointError: If a forecast is not finite.
        """
        history, steps = self._recall(df, h)
        out = future_frame(history, steps, self.freq if self.freq is not None else infer_freq(history))
        names = [self.alias, *name_interval_columns(self.alias, level)]
        levels = [0.5, *compute_quantile_levels(level)]
        values = [y.to_numpy() for _, y in history.groupby(ID, sort=False)[TARGET]]
        out[names] = self._forecast(values, steps, levels).reshape(-1, len(levels))  # [series * h, Q]
        bad = ~np.isfinite(out[names].to_numpy()).all(axis=1)
        if bad.any():
            row = out.iloc[int(bad.argmax())]
            raise FloatingPointError(
                f"{self.alias} forecasts a non-finite value for series {row[ID]!r} at {row[TIME]} ({int(bad.sum())} "
                f"of {len(out)} rows); the series may hold no observed value"
            )
        return out

    def _validate(self, df: pd.DataFrame) -> pd.DataFrame:
        return validate_frame(df, freq=self.freq, covariates=[])

    def _forecast(self, values: Sequence[np.ndarray], h: int, levels: Sequence[float]) -> np.ndarray:
        """Returns quantiles [series, h, Q] of each history [time]; missing steps are NaN, which the models read."""
        known = getattr(self.pipeline, "quantiles", None)
        options: dict[str, Any] = {} if known is not None else {"num_samples": self.num_samples}
        if known is not None and not min(known) <= min(levels) <= max(levels) <= max(known):
            widest = 100 * (1 - 2 * min(known))
            raise ValueError(
                f"{self.alias} knows quantiles from {min(known):g} to {max(known):g}, so intervals up to {widest:g} "
                f"%; asked for quantiles {sorted(levels)}"
            )
        parts = []
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            for start in range(0, len(values), self.batch_size):
                batch = [torch.from_numpy(self._cut(y)) for y in values[start : start + self.batch_size]]
                found, _ = self.pipeline.predict_quantiles(batch, h, known or sorted(levels), **options)
                # Chronos-2 answers with one tensor [1, h, Q] a series, the others with one for all.
                stacked = torch.cat(list(found)) if isinstance(found, list) else found  # [batch, h, Q]
                parts.append(np.sort(stacked.double().numpy(), axis=-1))
        return _interpolate(np.concatenate(parts), known or sorted(levels), levels)

    def _cut(self, y: np.ndarray) -> np.ndarray:
        return (y if self.context_length is None else y[-self.context_length :]).astype(np.float32)

    @property
    def context_length(self) -> int | None:
        """Steps of history that the model reads; None = as many as it can."""
        return self._context_length

    def count_parameters(self) -> tuple[int | None, int | None]:
        """Returns trained (none) and all parameters."""
        return count_torch_parameters(self.model)


def _interpolate(quantiles: np.ndarray, known: Sequence[float], levels: Sequence[float]) -> np.ndarray:
    """Returns `quantiles` [N, h, known] at `levels` [N, h, levels], linear between neighbours."""
    at = np.interp(levels, known, np.arange(len(known)))  # position among the known ones [levels]
    left = np.minimum(at.astype(int), len(known) - 2) if len(known) > 1 else np.zeros(len(levels), dtype=int)
    right = np.minimum(left + 1, len(known) - 1)
    weight = at - left
    return quantiles[..., left] * (1 - weight) + quantiles[..., right] * weight


def _load_pipeline(model: str, revision: str | None, device: str) -> Any:
    try:
        from chronos import BaseChronosPipeline
    except ImportError as error:
        raise ImportError(
            f"{model} needs chronos-forecasting, which is optional; pip install chronos-forecasting"
        ) from error
    options = {} if revision is None else {"revision": revision}
    try:
        return BaseChronosPipeline.from_pretrained(
            model, device_map=device, dtype=torch.float32, trust_remote_code=False, **options
        )
    except (OSError, ValueError) as error:
        raise OSError(
            f"cannot load the Chronos model {model!r} ({error}); give a folder, or a Hub id that can be reached"
        ) from error
