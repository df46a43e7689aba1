"""A trained model as a forecaster of frames: scale, cut windows, predict in batches, un-scale, date."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tsllm.backbones.trust import load_config
from tsllm.data.frame import future_frame, validate_frame
from tsllm.data.scaling import StandardScaler
from tsllm.data.windows import WindowDataset, prediction_windows
from tsllm.forecasting.base import compute_quantile_levels, name_interval_columns
from tsllm.forecasting.spec import Calibration, ForecasterSpec
from tsllm.models import MODELS
from tsllm.models.base import ForecastModel
from tsllm.types import CUTOFF, ID, TARGET, TIME, Batch, FrameError


@dataclass
class NeuralPredictor:
    """A model with frozen weights as a `Forecaster`; its `fit` only remembers the history.

    `tsllm.NeuralForecaster` is the one that trains.

    Attributes:
        model: The trained model.
        spec: How frames become its batches and back.
        calibration: Conformal half-widths for models without a distribution.
        batch_size: Series that go through the model at once, a window of C channels counting C; bounds the memory,
            however many there are. A window is never cut, so panels of many series want `layout="univariate"`.
        new_series: What to do with a series that the scaler never saw: "raise", or "history" to fit its scaling on
            the history that is given.
        pad_short: Whether a series shorter than the context is padded with unobserved steps instead of refused.
        history: What `fit` was given.
        perturb: Changes each batch before the model reads it, for ablations; None = nothing.
        progress: Is told after each batch how many windows are done, and of how many; None = nobody.
    """

    model: ForecastModel
    spec: ForecasterSpec
    calibration: Calibration | None = None
    batch_size: int = 256
    new_series: Literal["raise", "history"] = "raise"
    pad_short: bool = False
    history: pd.DataFrame | None = field(default=None, repr=False)
    perturb: Callable[[Batch], Batch] | None = field(default=None, repr=False)
    progress: Callable[[int, int], None] | None = field(default=None, repr=False)

    @property
    def alias(self) -> str:
        """Name of the forecast column."""
        return self.spec.alias

    @alias.setter
    def alias(self, alias: str) -> None:
        self.spec.alias = alias

    @property
    def context_length(self) -> int:
        """L, steps read."""
        return self.model.config.context_length

    @property
    def prediction_length(self) -> int:
        """H, steps forecast at most."""
        return self.model.config.prediction_length

    @classmethod
    def from_pretrained(
        cls, source: str | Path, *, revision: str | None = None, device: str | None = None, **options: Any
    ) -> Self:
        """Loads an artefact folder or a Hub repository.

        Args:
            source: Folder or Hub id.
            revision: Branch, tag or commit of the Hub repository.
            device: Where the model goes; None = CPU.
            **options: `batch_size`, `new_series`, `pad_short`, `progress`.

        Raises:
            OSError: If a file is not there or damaged.
            ValueError: If files do not fit together.
        """
        spec = ForecasterSpec.load(source, revision)
        model = load_model(source, revision=revision)
        if device is not None:
            torch.nn.Module.to(model, device)
        return cls(model=model, spec=spec, calibration=Calibration.load(source, revision), **options)

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes `config.json`, `model.safetensors`, `forecaster.json` and the calibration if there is one."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        self.model.save_pretrained(folder)
        self.spec.save(folder)
        if self.calibration is not None:
            self.calibration.save(folder)

    def fit(self, df: pd.DataFrame, h: int | None = None) -> Self:
        """Remembers `df` as the history to forecast from; the weights stay as they are."""
        self._check_horizon(h)
        self.history = self._validate(df)
        return self

    def predict(
        self,
        df: pd.DataFrame | None = None,
        h: int | None = None,
        level: Sequence[float] | None = None,
        X_df: pd.DataFrame | None = None,
    ) -> pd.DataFrame:
        """Forecasts the `h` steps after each series; see `Forecaster.predict`.

        Raises:
            ValueError: If the horizon is longer than the model's or the level cannot be given.
            FrameError: If the history does not fit: other series, too short, covariates of the future missing.
        """
        h = self._check_horizon(h)
        if df is None:
            if self.history is None:
                raise ValueError(f"{self.alias} has no history: call fit(df), or predict(df=...)")
            history = self.history
        else:
            history = self._validate(df)
        self._check_length(history, self.context_length, "the context")
        scaler = self._scaler_for(history)
        future = None if X_df is None else self._scale_future(X_df, scaler)
        # Only the contexts are scaled and copied, so long histories cost no more than short ones.
        contexts = history.groupby(ID, sort=False).tail(self.context_length)
        windows = prediction_windows(
            scaler.transform(contexts),
            self.context_length,
            self.prediction_length,
            freq=self.spec.freq,
            future=future,
            layout=self.spec.layout,
            covariates=self.spec.covariates,
            past_covariates=self.spec.past_covariates,
            channels=self._channels(),
            share_covariates=self.spec.share_covariates,
        )
        return self._forecast_frame(windows, scaler, h, level).drop(columns=CUTOFF)

    def predict_rolling(
        self, df: pd.DataFrame, h: int, n_windows: int, step_size: int, level: Sequence[float] | None = None
    ) -> pd.DataFrame:
        """Forecasts from the last `n_windows` cutoffs of each series, all cutoffs batched; weights stay frozen.

        Known covariates of the horizon are read from `df` itself.

        Args:
            df: Whole series; the last cutoff lies `h` steps before the end.
            h: Steps ahead.
            n_windows: How many cutoffs.
            step_size: Steps between cutoffs.
            level: Coverage of central intervals in per cent.

        Returns:
            Frame `unique_id, ds, cutoff, <alias>, ...`, sorted by series, cutoff and time.
        """
        h = self._check_horizon(h)
        df = self._validate(df)
        span = h + (n_windows - 1) * step_size
        needed = self.context_length + span
        if self.pad_short and df.groupby(ID, sort=False).size().min() < needed:
            return self._predict_one_by_one(df, h, n_windows, step_size, level)
        self._check_length(df, needed, "context and test part")
        scaler = self._scaler_for(df.groupby(ID, sort=False).head(-span) if self.new_series == "history" else df)
        frame = scaler.transform(df.groupby(ID, sort=False).tail(needed))
        if h < self.prediction_length:
            frame = self._extend(frame, self.prediction_length - h)
        windows = WindowDataset(
            frame.reset_index(drop=True),
            self.context_length,
            self.prediction_length,
            layout=self.spec.layout,
            stride=step_size,
            freq=self.spec.freq,
            covariates=self.spec.covariates,
            past_covariates=self.spec.past_covariates,
            channels=self._channels(),
            share_covariates=self.spec.share_covariates,
        )
        return self._forecast_frame(windows, scaler, h, level)

    def calibrate(self, windows: WindowDataset) -> Self:
        """Computes conformal half-widths from validation windows in scaled units, for a head without distribution."""
        residuals = []
        for batch in self._iterate(windows):
            predictions = self._run(batch)[0]
            residuals.append(batch["future_values"] - predictions)
        self.calibration = Calibration.from_residuals(torch.cat(residuals))
        return self

    @property
    def is_probabilistic(self) -> bool:
        """Whether the head itself knows quantiles."""
        return self.model.config.head != "point"

    def _iterate(self, windows: WindowDataset) -> Iterator[Batch]:
        """Yields the windows in order, as many at a time as have `batch_size` series together, but at least one."""
        size = max(1, self.batch_size // self.model.config.num_channels)
        for start in range(0, len(windows), size):
            end = min(start + size, len(windows))
            yield windows.gather(torch.arange(start, end))
            if self.progress is not None:
                self.progress(end, len(windows))

    def _run(self, batch: Batch, quantile_levels: list[float] | None = None) -> tuple[Tensor, Tensor | None]:
        """Returns predictions [B, H, C] and quantiles [B, H, C, Q] on the CPU, without gradients."""
        if self.perturb is not None:
            batch = self.perturb(batch)
        inputs = {k: v for k, v in batch.items() if k != "future_values"}
        if not self.model.config.num_time_features:
            inputs = {k: v for k, v in inputs.items() if "time_features" not in k}
        device = next(self.model.parameters()).device
        self.model.eval()
        with torch.inference_mode():
            output = self.model(**{k: v.to(device) for k, v in inputs.items()})  # type: ignore[attr-defined]
            quantiles = self.model.compute_quantiles(output, quantile_levels) if quantile_levels else None
        predictions = output.predictions
        assert predictions is not None
        return predictions.float().cpu(), None if quantiles is None else quantiles.float().cpu()

    def _forecast_frame(
        self, windows: WindowDataset, scaler: StandardScaler, h: int, level: Sequence[float] | None
    ) -> pd.DataFrame:
        levels = compute_quantile_levels(level)
        from_head = levels if self.is_probabilistic else None
        points, bounds = [], []
        for batch in self._iterate(windows):
            predictions, quantiles = self._run(batch, from_head)
            points.append(predictions)
            if quantiles is not None:
                bounds.append(quantiles)
        centre = torch.cat(points)  # [N, H, C]
        columns: dict[str, Tensor] = {self.alias: centre}
        names = name_interval_columns(self.alias, level)
        if bounds:
            columns |= dict(zip(names, torch.cat(bounds).unbind(-1), strict=True))
        elif level:
            columns |= self._conformal_columns(centre, level)
        frame = windows.to_frame({k: np.asarray(v, dtype=np.float64) for k, v in columns.items()})
        frame = frame[np.tile(np.arange(self.prediction_length) < h, len(frame) // self.prediction_length)]
        frame = scaler.inverse_transform(frame, list(columns))
        self._check_finite(frame, list(columns))
        return frame.sort_values([ID, CUTOFF, TIME], kind="stable", ignore_index=True)

    def _conformal_columns(self, centre: Tensor, level: Sequence[float]) -> dict[str, Tensor]:
        if self.calibration is None:
            raise ValueError(
                f"{self.alias} has a point head and was not calibrated, so it gives no intervals; fit with validation "
                "data, call calibrate(windows), or train with head='quantile' or 'student_t'"
            )
        columns = {}
        for lv in level:
            low, high = name_interval_columns(self.alias, [lv])
            half = self.calibration.half_width(lv)
            columns[low], columns[high] = centre - half, centre + half
        return columns

    def _check_finite(self, frame: pd.DataFrame, columns: list[str]) -> None:
        bad = ~np.isfinite(frame[columns].to_numpy()).all(axis=1)
        if bad.any():
            row = frame.iloc[int(bad.argmax())]
            raise FloatingPointError(
                f"{self.alias} forecasts a non-finite value for series {row[ID]!r} at {row[TIME]} ({int(bad.sum())} "
                f"of {len(frame)} rows); its training diverged, or the history holds extreme values"
            )

    def _channels(self) -> list[Any] | None:
        return list(self.spec.channels) if self.spec.layout == "multivariate" else None

    def _validate(self, df: pd.DataFrame) -> pd.DataFrame:
        spec = self.spec
        return validate_frame(df, freq=spec.freq, covariates=[*spec.covariates, *spec.past_covariates])

    def _scaler_for(self, history: pd.DataFrame) -> StandardScaler:
        """Returns the stored scaler, with new series added from their history if that is wanted."""
        scaler = self.spec.load_scaler()
        if self.new_series == "history":
            columns = list(scaler.stats)
            known = set(scaler.stats[TARGET])
            new = history[~history[ID].isin(known)]
            if len(new):
                own = type(scaler)().fit(new, columns)
                for column in columns:
                    scaler.stats[column] |= own.stats[column]
        return scaler

    def _scale_future(self, future: pd.DataFrame, scaler: StandardScaler) -> pd.DataFrame:
        absent = [c for c in (ID, TIME, *self.spec.covariates) if c not in future.columns]
        if absent:
            raise FrameError(f"X_df lacks column {absent[0]!r}; found {list(future.columns)}")
        return scaler.transform(future, list(self.spec.covariates))

    def _check_horizon(self, h: int | None) -> int:
        if h is None:
            return self.prediction_length
        if not 1 <= h <= self.prediction_length:
            raise ValueError(
                f"h is {h}, but {self.alias} forecasts 1 to {self.prediction_length} steps; train with a larger h"
            )
        if h < self.prediction_length and self.spec.covariates:
            raise ValueError(
                f"h is {h}, but {self.alias} reads known covariates over its whole horizon of "
                f"{self.prediction_length} steps; ask for h={self.prediction_length}"
            )
        return h

    def _check_length(self, df: pd.DataFrame, needed: int, what: str) -> None:
        sizes = df.groupby(ID, sort=False).size()
        if self.pad_short or sizes.min() >= needed:
            return
        raise FrameError(
            f"series {sizes.idxmin()!r} has {sizes.min()} steps, {what} needs {needed} ({int((sizes < needed).sum())} "
            "series are too short); give more history, lower context_length, or pass pad_short=True"
        )

    def _extend(self, frame: pd.DataFrame, steps: int) -> pd.DataFrame:
        ahead = future_frame(frame, steps, self.spec.freq)
        return pd.concat([frame, ahead], ignore_index=True).sort_values([ID, TIME], kind="stable")

    def _predict_one_by_one(
        self, df: pd.DataFrame, h: int, n_windows: int, step_size: int, level: Sequence[float] | None
    ) -> pd.DataFrame:
        parts = []
        for k in range(n_windows):
            ahead = h + (n_windows - 1 - k) * step_size
            history = df.groupby(ID, sort=False).head(-ahead)
            steps = df.groupby(ID, sort=False).tail(ahead).groupby(ID, sort=False).head(self.prediction_length)
            part = self.predict(history, h, level, steps if self.spec.covariates else None)
            part.insert(2, CUTOFF, part[ID].map(history.groupby(ID)[TIME].last()))
            parts.append(part)
        return pd.concat(parts).sort_values([ID, CUTOFF, TIME], kind="stable", ignore_index=True)


def load_model(source: str | Path, *, revision: str | None = None) -> ForecastModel:
    """Loads the model of an artefact folder or a Hub repository, whatever its class.

    Raises:
        OSError: If the folder holds no model.
        ValueError: If its class is none of `MODELS`.
    """
    if not Path(source).exists() and str(source).startswith((".", "/", "~")):
        raise OSError(f"no folder {source}; give the output folder of a training run or a Hub id")
    config = load_config(str(source), revision=revision or "main")
    for _, model_class in MODELS.items():
        if model_class.config_class is type(config):
            return model_class.from_pretrained(source, config=config, revision=revision)
    known = ", ".join(f"{name} ({m.config_class.model_type})" for name, m in MODELS.items())
    raise ValueError(f"{source} holds a {config.model_type!r} model, which is no forecaster of tsllm; known: {known}")
