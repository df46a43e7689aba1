"""A model pre-trained on many series as a forecaster of series that it has never seen: nothing is fitted."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tsllm.data.facts import TrainingFacts
from tsllm.data.frame import future_frame, infer_freq, series_bounds, validate_frame
from tsllm.data.frequency import Freq, default_season, tell_no_season
from tsllm.data.target import TargetScale
from tsllm.files import replace_folder
from tsllm.forecasting.base import (
    HistoryForecaster,
    check_count,
    check_windows,
    compute_quantile_levels,
    count_torch_parameters,
    name_interval_columns,
)
from tsllm.forecasting.loading import load_model
from tsllm.hub.artefacts import OWNED, describe_environment, write_description
from tsllm.hub.licence import check_licence
from tsllm.hub.record import HISTORY_FILE, METRICS_FILE
from tsllm.hub.spec import ANY_FREQ, ForecasterSpec, find_file
from tsllm.models.base import ForecastModel
from tsllm.types import CUTOFF, ID, TARGET, TIME, FrameError


class ZeroShotForecaster(HistoryForecaster):
    """Forecasts any frame, new series and frequencies included, with a model that normalises each window itself.

    No scaler and no prompt of other data is ever applied. A history longer than the model's context is cut, a shorter
    one padded with unobserved steps. Horizons beyond the model's own are rolled: the history goes on with each of its
    quantile paths, and the quantiles of what follows are taken over all of them, as Chronos-2 does (Ansari 2025).

    Args:
        model: The trained model, with a head that knows quantiles.
        spec: What the artefact says.
        alias: Name of the forecast column; None = as saved.
        freq: Frequency of the data; None infers it from each frame.
        season: Steps in a season; None = the customary one of the frequency.
        batch_size: Series that go through the model at once.

    Raises:
        ValueError: If the model has a point head, or several channels.

    Example:
        `recipes/pretrain_series.py` trains such a model; this one is untrained.

        >>> import pandas as pd, tsllm
        >>> from tsllm.hub.spec import ForecasterSpec
        >>> model = tsllm.build_model("patchcast", context_length=32, prediction_length=8, head="quantile")
        >>> cast = tsllm.ZeroShotForecaster(model, ForecasterSpec("Cast", "any", "univariate"))
        >>> df = pd.DataFrame({"unique_id": "new", "ds": range(20), "y": [float(t % 4) for t in range(20)]})
        >>> len(cast.predict(df, h=12))
        12
    """

    rolls_at_once = True

    def __init__(
        self,
        model: ForecastModel,
        spec: ForecasterSpec,
        alias: str | None = None,
        *,
        freq: Freq | None = None,
        season: int | None = None,
        batch_size: int = 256,
    ) -> None:
        if model.config.head != "quantile" or model.config.num_channels != 1:
            raise ValueError(
                f"zero-shot forecasts need one channel and head: quantile; the model has {model.config.num_channels} "
                f"channel(s) and head {model.config.head!r}"
            )
        for name, value in (("season", season), ("batch_size", batch_size)):
            if value is not None:
                check_count(name, value)
        self.model, self.spec = model.eval(), spec
        self.metrics: dict[str, Any] = {}
        self.alias = alias or spec.alias
        self.freq, self.season, self.batch_size = freq, season, batch_size

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        device: str | None = None,
        **options: Any,
    ) -> Self:
        """Loads an artefact folder or a Hub repository.

        Args:
            source: Folder or Hub id.
            revision: Branch, tag or commit of the Hub repository.
            token: Access token of the Hub; None = the stored one.
            device: Where the model goes; None = CPU.
            **options: `alias`, `freq`, `season`, `batch_size`.

        Raises:
            OSError: If a file is not there or damaged.
            ValueError: If the artefact is one of certain series, not for all.
        """
        spec = ForecasterSpec.load(source, revision, token)
        if spec.freq != ANY_FREQ:
            raise ValueError(
                f"{source} was trained on series of freq {spec.freq!r}, not for every series; load it with "
                "NeuralForecaster.from_pretrained, or train one with recipes/pretrain_series.py"
            )
        model = load_model(source, revision=revision, token=token)
        if device is not None:
            torch.nn.Module.to(model, device)
        made = cls(model, spec, **options)
        made.metrics = _read(find_file(source, METRICS_FILE, revision, token), {})
        made.log = _read(find_file(source, HISTORY_FILE, revision, token), [])
        made.licence, made.target_scale = spec.licence, TargetScale(**spec.target_scale)
        return made

    def save_pretrained(self, folder: str | Path, *, licence: str | None = None) -> None:
        """Writes the artefact with metrics and card, whole or not at all.

        Args:
            folder: Where.
            licence: Of the weights, as the Hub abbreviates it; None = what was said before, else what backbone and
                data allow to say.
        """
        self.licence = check_licence(licence) or self.licence
        trained, total = self.count_parameters()
        metrics = {
            "test": None,
            "note": "what its pre-training measured was not kept beside it",
            "validation": None,
            "scaled": False,
            "windows": 0,
            "seconds": 0.0,
            "steps": 0,
            "seed": 0,
            "parameters": {"trainable": trained, "total": total},
            "processes": 1,
            "environment": describe_environment(),
        } | self.metrics
        with replace_folder(folder, OWNED) as made:
            self.model.save_pretrained(made)
            spec = replace(self.spec, licence=self.licence, target_scale=self.target_scale.to_dict())
            write_description(made, spec=spec, metrics=metrics, history=list(self.log))

    @property
    def context_length(self) -> int:
        """L, steps read at most."""
        return self.model.config.context_length

    @property
    def prediction_length(self) -> int:
        """H, steps forecast at once."""
        return self.model.config.prediction_length

    @property
    def trained_on(self) -> TrainingFacts:
        """What it was trained on."""
        return self.spec.data

    def count_parameters(self) -> tuple[int | None, int | None]:
        """Returns trained and total parameters."""
        return count_torch_parameters(self.model)

    def predict(
        self,
        df: pd.DataFrame | None = None,
        h: int | None = None,
        level: Sequence[float] | None = None,
        X_df: pd.DataFrame | None = None,
    ) -> pd.DataFrame:
        """Forecasts the `h` steps after each series; `h` None = the model's horizon, `X_df` is not read.

        Raises:
            ValueError: If there is no history, or a level is wider than the model's quantiles.
            FrameError: If the history breaks the contract, or a series has no observed value.
            FloatingPointError: If a forecast is not finite.
        """
        if h is None and self._h is None:
            h = self.prediction_length
        history, steps = self._recall(df, h)
        freq = self._freq_of(history)
        out = future_frame(history, steps, freq)
        series = {name: y.to_numpy(dtype=np.float64) for name, y in history.groupby(ID, sort=False)[TARGET]}
        return self._fill(out, list(series), list(series.values()), steps, freq, level)

    def predict_rolling(
        self, df: pd.DataFrame, h: int, n_windows: int, step_size: int, level: Sequence[float] | None = None
    ) -> pd.DataFrame:
        """Forecasts from the last `n_windows` cutoffs of each series, all cutoffs batched.

        See `Forecaster.predict_rolling`.
        """
        df = self._validate(df)
        check_windows(df, h, n_windows, step_size)
        names, contexts, rows = [], [], []
        for name, first, last in series_bounds(df):
            y = df[TARGET].to_numpy(dtype=np.float64)[first:last]
            for end in range(len(y) - h - (n_windows - 1) * step_size, len(y) - h + 1, step_size):
                names.append(name)
                contexts.append(y[max(0, end - self.context_length) : end])
                rows.append(first + end + np.arange(h))
        at = np.stack(rows)  # [windows, h]
        times = df[TIME].to_numpy()
        out = df.iloc[at.reshape(-1)][[ID, TIME]].reset_index(drop=True)
        out[CUTOFF] = times[at[:, 0] - 1].repeat(h)
        return self._fill(out, names, contexts, h, self._freq_of(df), level)

    def _freq_of(self, df: pd.DataFrame) -> Freq:
        return self.freq if self.freq is not None else infer_freq(df)

    def _fill(
        self,
        out: pd.DataFrame,
        names: Sequence[Any],
        contexts: Sequence[np.ndarray],
        h: int,
        freq: Freq,
        level: Sequence[float] | None,
    ) -> pd.DataFrame:
        """Writes the forecasts of each context, of the series `names`, into the rows of `out`, h each."""
        for name, y in zip(names, contexts, strict=True):
            if np.isnan(y[-self.context_length :]).all():
                raise FrameError(
                    f"series {name!r} has no observed value among its last {self.context_length} steps, so there is "
                    "nothing to forecast from; leave it out"
                )
        levels = [0.5, *compute_quantile_levels(level)]
        if self.season is None and isinstance(freq, int) and self.model.uses_season:
            tell_no_season(self.alias)
        season = default_season(freq) if self.season is None else self.season
        found = self.forecast(contexts, h, season, levels)  # [series, h, Q]
        columns = [self.alias, *name_interval_columns(self.alias, level)]
        out[columns] = found.reshape(-1, len(levels))
        bad = ~np.isfinite(out[columns].to_numpy()).all(axis=1)
        if bad.any():
            raise FloatingPointError(
                f"{self.alias} forecasts a non-finite value for series {out[ID].iloc[int(bad.argmax())]!r} "
                f"({int(bad.sum())} of {len(out)} rows); its history may hold extreme values"
            )
        return out

    def forecast(self, series: Sequence[np.ndarray], h: int, season: int, levels: Sequence[float]) -> np.ndarray:
        """Forecasts arrays [time] (NaN = missing): quantiles [series, h, levels], in the order given."""
        result = np.empty((len(series), h, len(levels)))
        for chosen in self._batches(series):
            paths = self._roll([series[k] for k in chosen], h, season)  # [batch, h, Q]
            head = self.model.output_head
            known = self.model.config.quantile_levels
            middle = paths[..., known.index(0.5)]
            result[chosen] = head.compute_quantiles(_Quantiles(middle, paths), list(levels)).numpy()  # type: ignore[arg-type]
        return result

    def _batches(self, series: Sequence[np.ndarray]) -> Iterator[list[int]]:
        """Yields series of like length together, because short ones cost less."""
        order = np.argsort([min(len(y), self.context_length) for y in series], kind="stable").tolist()
        for start in range(0, len(order), self.batch_size):
            yield order[start : start + self.batch_size]

    def _roll(self, series: Sequence[np.ndarray], h: int, season: int) -> Tensor:
        """Returns the quantiles [N, h, Q] at the model's own levels, block by block."""
        context = torch.from_numpy(np.stack([_pad(y, self.context_length) for y in series]))  # [N, L] float64
        blocks = [self._run(context, season)]  # [N, H, Q]
        paths = context[:, None]  # [N, 1, L]
        while sum(block.shape[1] for block in blocks) < h:
            newest = blocks[-1].transpose(1, 2)  # [N, Q, H]
            paths = torch.cat([paths.expand(-1, newest.shape[1], -1), newest], 2)[..., -self.context_length :]
            found = torch.cat([self._run(part, season) for part in paths.flatten(0, 1).split(self.batch_size)])
            pooled = found.unflatten(0, paths.shape[:2]).transpose(1, 2).flatten(2)  # [N, H, Q * Q]
            blocks.append(self._pool(pooled))
        return torch.cat(blocks, 1)[:, :h]

    def _pool(self, values: Tensor) -> Tensor:
        """Returns the quantiles [N, H, Q] of values [N, H, Q * Q] that come from Q paths of Q levels.

        Each path and each of its values stands for the probability around its own level.
        """
        levels = torch.tensor(self.model.config.quantile_levels, dtype=values.dtype)
        edges = torch.cat([levels.new_zeros(1), (levels[1:] + levels[:-1]) / 2, levels.new_ones(1)])
        weight = (edges.diff()[:, None] * edges.diff()).flatten()  # [Q * Q]
        ordered, order = values.sort(-1)
        mass = weight[order]
        reached = mass.cumsum(-1) - mass / 2  # [N, H, Q * Q]
        at = torch.searchsorted(reached, levels.expand(*reached.shape[:2], -1).contiguous())
        at = at.clamp(1, values.shape[-1] - 1)
        low, high = reached.gather(-1, at - 1), reached.gather(-1, at)
        share = ((levels - low) / (high - low).clamp_min(1e-12)).clamp(0, 1)
        return torch.lerp(ordered.gather(-1, at - 1), ordered.gather(-1, at), share)

    @torch.inference_mode()
    def _run(self, context: Tensor, season: int) -> Tensor:
        """Runs the model on contexts [N, L], NaN = missing: quantiles [N, H, Q] in float64.

        Values are centred and scaled in float64 first, so that large levels lose no digits in the model's float32.
        """
        mask = ~context.isnan()
        count = mask.sum(1, keepdim=True).clamp_min(1)
        loc = torch.where(mask, context, 0.0).sum(1, keepdim=True) / count
        scale = torch.where(mask, (context - loc).abs(), 0.0).sum(1, keepdim=True) / count
        scale = torch.where(scale > 1e-12 * loc.abs(), scale, torch.where(loc != 0, loc.abs(), 1.0))
        keeps_zero = self.model.uses_season  # such a model also reads how far away zero is
        shift = torch.zeros_like(loc) if keeps_zero else loc
        scaled = torch.where(mask, (context - shift) / scale, 0.0)
        device = next(self.model.parameters()).device
        inputs: dict[str, Any] = {
            "past_values": scaled.float().unsqueeze(-1).to(device),
            "past_observed_mask": mask.unsqueeze(-1).to(device),
        }
        if self.model.uses_season:
            inputs["season"] = torch.full((len(context),), season, device=device)
        quantiles = self.model(**inputs).quantiles  # [N, H, 1, Q]
        assert quantiles is not None
        return quantiles.squeeze(2).double().cpu() * scale[..., None] + shift[..., None]

    def _validate(self, df: pd.DataFrame) -> pd.DataFrame:
        return validate_frame(df, freq=self.freq, covariates=[])


def _read(path: Path | None, default: Any) -> Any:
    """Returns the content of a JSON file of an artefact; the default if it is not there or of another kind."""
    try:
        content = default if path is None else json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return default
    return content if isinstance(content, type(default)) else default


class _Quantiles:
    """What a quantile head reads of a forecast.

    Args:
        predictions: [N, h].
        quantiles: [N, h, Q].
    """

    def __init__(self, predictions: Tensor, quantiles: Tensor) -> None:
        self.predictions, self.quantiles = predictions, quantiles


def _pad(y: np.ndarray, length: int) -> np.ndarray:
    """Returns the last `length` steps of y [time], padded on the left with NaN."""
    kept = y[-length:]
    return np.concatenate([np.full(length - len(kept), np.nan), kept])
