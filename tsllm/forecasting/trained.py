"""A trained model behind frames: validate, scale, cut windows, compute in batches, un-scale, date."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tsllm.data.columns import as_pandas
from tsllm.data.frame import check_contexts, future_frame, infer_freq, validate_frame, validate_future
from tsllm.data.frequency import Freq
from tsllm.data.scaling import StandardScaler
from tsllm.data.static import Static, add_static, encode_static, name_static
from tsllm.data.target import TargetScale
from tsllm.data.task import Asked
from tsllm.data.windows import WindowDataset, prediction_windows
from tsllm.forecasting.base import (
    Forecaster,
    check_count,
    check_windows,
    compute_quantile_levels,
    count_torch_parameters,
    name_interval_columns,
)
from tsllm.forecasting.batching import split_batches
from tsllm.forecasting.units import warn_of_units
from tsllm.hub.spec import ANY_FREQ, Calibration, ForecasterSpec, NewSeries
from tsllm.models.base import ForecastModel
from tsllm.progress import Bar
from tsllm.types import CUTOFF, ID, TARGET, TIME, Batch, FrameError


class TrainedForecaster(Forecaster):
    """What a forecaster does once it has a model: `NeuralForecaster` adds how it comes to it.

    Attributes:
        model: The torch model; None before there is one.
        spec: How frames become its batches; None before there is a model.
        calibration: Conformal half-widths of a model without a distribution.
        history: What is forecast from unless `predict` is given a frame.
        batch_size: Series that go through the model at once.
        batch_invariant: Whether every window is computed by itself.
        new_series: What to do with a series that the scaler never saw.
        pad_short: Whether a series shorter than the context is padded.
        perturb: Changes each batch before the model reads it, for ablations; None = nothing.
        static: How static covariates are encoded.
        told: Is told after each batch of a forecast how many windows are done, and of how many; None = nobody.
    """

    rolls_at_once = True
    scales_target = True

    model: ForecastModel | None = None
    spec: ForecasterSpec | None = None
    calibration: Calibration | None = None
    history: pd.DataFrame | None = None
    batch_size: int = 256
    batch_invariant: bool = False
    new_series: NewSeries | None = None
    pad_short: bool | None = None
    perturb: Callable[[Batch], Batch] | None = None
    static: Static = {}
    told: Callable[[int, int], None] | None = None
    _asked: Asked = Asked()
    _h: int | None = None  # steps that a forecast has unless it is asked for others; None = the model's horizon

    def scale_target(self, transform: str = "none", *, non_negative: bool = False, integer: bool = False) -> Self:
        """Says on which scale the target is forecast; see `Forecaster.scale_target`.

        Raises:
            ValueError: If the model was trained on another scale.
        """
        fixed = self.spec is not None and self.spec.freq != ANY_FREQ
        saved = TargetScale(**self.spec.target_scale).transform if self.spec is not None and fixed else None
        if saved not in (None, transform):
            raise ValueError(f"{self.alias} was trained with transform {saved!r}, so it cannot be {transform!r}")
        return super().scale_target(transform, non_negative=non_negative, integer=integer)

    def update(self, df: pd.DataFrame) -> Self:
        """Takes `df` as the new history; the weights stay.

        Raises:
            FrameError: If it does not fit the model: other series, another frequency, missing covariates.
        """
        self._require_model()
        history = self._validate(df)
        warn_of_units(self.alias, history, self._scaler_for(self.target_scale.forward(history)), self.target_scale)
        self.history = history
        return self

    def predict(
        self,
        df: pd.DataFrame | None = None,
        h: int | None = None,
        level: Sequence[float] | None = None,
        X_df: pd.DataFrame | None = None,
        context: Any = None,
    ) -> pd.DataFrame:
        """Forecasts the `h` steps after each series; see `Forecaster.predict`.

        Args:
            df: As in `Forecaster.predict`.
            h: As in `Forecaster.predict`.
            level: As in `Forecaster.predict`.
            X_df: As in `Forecaster.predict`.
            context: What is told of the future, for a model that reads texts: one text, a mapping series -> text, or
                a frame (`tsllm.context.contract.Context.read`); None = what `fit` was given.

        Raises:
            ValueError: If the horizon is longer than the model's, the level cannot be given, or the model reads no
                texts.
            FrameError: If the history does not fit: other series, too short, covariates of the future missing.
        """
        self._require_model()
        h = self._check_horizon(h)
        compute_quantile_levels(level)
        if df is None and self.history is None:
            raise ValueError(f"{self.alias} has no history: call fit(df), or predict(df=...)")
        history = self._validate(df) if df is not None else self.history
        assert history is not None
        self._check_length(history, self.context_length, "the context")
        check_contexts(history, self.context_length)
        given, history = history, self.target_scale.forward(history)
        scaler = self._scaler_for(history)
        if df is not None:
            warn_of_units(self.alias, given, scaler, self.target_scale)
        # Only the contexts are scaled and copied, so long histories cost no more than short ones.
        contexts = history.groupby(ID, sort=False).tail(self.context_length)
        windows = prediction_windows(
            scaler.transform(contexts),
            self.context_length,
            self.prediction_length,
            future=self._scale_future(X_df, history, scaler),
            **self._cut(history),
        )
        self._tell(windows, history, context, h)
        return self._forecast_frame(windows, scaler, h, level).drop(columns=CUTOFF)

    def predict_rolling(
        self, df: pd.DataFrame, h: int, n_windows: int, step_size: int, level: Sequence[float] | None = None
    ) -> pd.DataFrame:
        """Forecasts from the last `n_windows` cutoffs of each series, all cutoffs batched; weights stay frozen.

        See `Forecaster.predict_rolling`.
        """
        h = self._check_horizon(h) if self.model is not None else h
        found = self.cut_rolling(df, h, n_windows, step_size)
        if found is None:
            return super().predict_rolling(self._validate(df), h, n_windows, step_size, level)
        return self._forecast_frame(*found, h, level)

    def cut_rolling(
        self, df: pd.DataFrame, h: int, n_windows: int, step_size: int
    ) -> tuple[WindowDataset, StandardScaler] | None:
        """Returns the scaled windows of the last `n_windows` cutoffs of each series, and what scaled them.

        Targets beyond `h` are missing where the model's horizon is longer.

        Args:
            df: Whole series; the last cutoff lies `h` steps before the end.
            h: Steps ahead, at most the model's.
            n_windows: How many cutoffs.
            step_size: Steps between cutoffs.

        Returns:
            None where a series is shorter than windows and context together but may be padded: its windows have
            contexts of different lengths.

        Raises:
            FrameError: If a series is too short.
        """
        self._require_model()
        h = self._check_horizon(h)
        df = self._validate(df)
        check_windows(df, h, n_windows, step_size)
        span = h + (n_windows - 1) * step_size
        needed = self.context_length + span
        if self._pads() and df.groupby(ID, sort=False).size().min() < needed:
            return None
        self._check_length(df, needed, "context and test part")
        given, df = df, self.target_scale.forward(df)
        scaler = self._scaler_for(df.groupby(ID, sort=False).head(-span))
        warn_of_units(self.alias, given.groupby(ID, sort=False).head(-span), scaler, self.target_scale)
        frame = scaler.transform(df.groupby(ID, sort=False).tail(needed))
        if h < self.prediction_length:
            frame = self._extend(frame, self.prediction_length - h)
        windows = WindowDataset(
            frame.reset_index(drop=True),
            self.context_length,
            self.prediction_length,
            stride=step_size,
            **self._cut(df),
        )
        self._tell(windows, df)
        return windows, scaler

    def forecast_windows(self, windows: WindowDataset) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields predictions and targets [B, H, C] of the windows in order, in their scaled units; NaN = missing."""
        self._require_model()
        for batch in self._iterate(windows):
            yield self._run(batch)[0], batch["future_values"]

    def _tell(self, windows: WindowDataset, df: pd.DataFrame, context: Any = None, h: int | None = None) -> None:
        """Gives windows what is told of their series.

        Args:
            windows: Of contexts and horizons.
            df: The history that they are of.
            context: Texts for this forecast; None = those that stand.
            h: Steps after the history that are forecast; None = none, its own end is.

        Raises:
            ValueError: If texts are given to a model that reads none.
        """
        if context is not None:
            self.refuse_context()

    @property
    def reads_texts(self) -> bool:
        """Whether the model itself reads texts, so that `fit` and `predict` take `context`."""
        return self.model is not None and bool(self.model.config.text_layers)

    def calibrate(self, windows: Any) -> Self:
        """Computes conformal half-widths from validation windows in scaled units, for a head without distribution."""
        residuals = []
        for batch in self._iterate(windows):
            predictions = self._run(batch)[0]
            residuals.append(batch["future_values"] - predictions)
        self.calibration = Calibration.from_residuals(torch.cat(residuals))
        return self

    def count_parameters(self) -> tuple[int | None, int | None]:
        """Returns trained and all parameters; None before `fit`."""
        return (None, None) if self.model is None else count_torch_parameters(self.model)

    @property
    def context_length(self) -> int:  # type: ignore[override]
        """L, steps read; before `fit`, what was asked for (0 = not yet known)."""
        return self.model.config.context_length if self.model is not None else self._asked.context_length or 0

    @property
    def known_ahead(self) -> list[str]:
        """Covariates whose values over the horizon must be given; static ones need not."""
        return list(self.covariates if self.spec is None else self.spec.ahead)

    @property
    def prediction_length(self) -> int:
        """H, steps forecast at most; before `fit`, what was asked for (0 = not yet known)."""
        return self.model.config.prediction_length if self.model is not None else self._asked.h or 0

    @property
    def is_probabilistic(self) -> bool:
        """Whether the head itself knows quantiles."""
        self._require_model()
        assert self.model is not None
        return self.model.config.head != "point"

    def _require_model(self) -> ForecasterSpec:
        if self.model is None or self.spec is None:
            raise ValueError(f"{self.alias} is not trained: call fit(df) first, or load a saved folder")
        return self.spec

    def _pads(self) -> bool:
        return bool(self.pad_short)

    def _freq_of(self, df: pd.DataFrame) -> Freq:
        assert self.spec is not None
        return self.spec.freq if self.spec.freq is not None else infer_freq(df)

    def _cut(self, df: pd.DataFrame) -> dict[str, Any]:
        """Returns how windows are cut."""
        spec = self.spec
        assert spec is not None
        return {
            "freq": self._freq_of(df),
            "layout": spec.layout,
            "covariates": spec.covariates,
            "past_covariates": spec.past_covariates,
            "channels": list(spec.channels) if spec.layout == "multivariate" else None,
            "share_covariates": spec.share_covariates,
        }

    def _validate(self, df: pd.DataFrame, known_series: bool = True) -> pd.DataFrame:
        """Validates a later frame as strictly as the first one, and against what the model was trained for.

        Raises:
            FrameError: As `validate_frame`; also for another frequency, and for other aligned series.
        """
        spec = self.spec
        assert spec is not None
        frame = read_later_frame(df, spec, self.alias)
        if known_series and spec.layout == "multivariate":
            check_channels(frame, spec.channels, self.alias)
        return frame

    def _scaler_for(self, history: pd.DataFrame) -> StandardScaler:
        """Returns the stored scaler, with new series added from their history if that is wanted.

        Raises:
            FrameError: If there are new series and nobody said what to do with them.
        """
        assert self.spec is not None
        scaler = self.spec.load_scaler()
        known = set(scaler.stats.get(TARGET, {}))
        new = history[~history[ID].isin(known)]
        if not len(new):
            return scaler
        if self.new_series != "history":
            self._check_type(history, known)
            names = [str(name) for name in new[ID].unique()]
            shown = ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")
            raise FrameError(
                f"{self.alias} was not trained on series {shown} ({len(names)} new of {history[ID].nunique()}); pass "
                "new_series='history' (--new-series) to scale them by their own history"
            )
        columns = list(scaler.stats) or [TARGET, *self.spec.covariates, *self.spec.past_covariates]
        own = type(scaler)().fit(new, columns)
        for column in columns:
            scaler.stats.setdefault(column, {}).update(own.stats[column])
        return scaler

    def _check_type(self, history: pd.DataFrame, known: set[Any]) -> None:
        """Refuses series that have the names of training in another type, numbers there and texts here.

        Raises:
            FrameError: Naming both types.
        """
        own, given = {str(name): type(name).__name__ for name in known}, history[ID].astype(object).unique()
        for name in given:
            if name not in known and str(name) in own:
                found, saved = type(name).__name__, own[str(name)]
                csv = "; in a CSV every name is text, in Parquet it keeps its type" if saved == "int" else ""
                raise FrameError(
                    f"{self.alias} was trained on series {name} as {saved}, the frame has it as {found}; convert it "
                    f"with df[{ID!r}] = df[{ID!r}].astype({saved}){csv}"
                )

    def _scale_future(
        self, X_df: pd.DataFrame | None, history: pd.DataFrame, scaler: StandardScaler
    ) -> pd.DataFrame | None:
        spec = self.spec
        assert spec is not None
        if not spec.covariates:
            return None
        if X_df is None and spec.ahead:
            raise FrameError(
                f"the covariates {spec.ahead} must be known over the horizon; pass a frame with {ID!r}, {TIME!r} and "
                f"these columns for the {self.prediction_length} steps after the last row of each series "
                "(X_df; --future FILE)"
            )
        keys = future_frame(history, self.prediction_length, self._freq_of(history))
        given = keys if X_df is None else validate_future(X_df, keys, spec.ahead)
        return scaler.transform(add_static(given, history, name_static(spec.static)), list(spec.covariates))

    def _check_horizon(self, h: int | None) -> int:
        """Returns how many steps a forecast has."""
        longest = self.prediction_length
        if h is None:
            return self._h or longest
        check_count("h", h)
        if h > longest:
            raise ValueError(f"h is {h}, but {self.alias} forecasts 1 to {longest} steps; train with a larger h")
        self._check_part(h, longest)
        return int(h)

    def _check_part(self, h: int, longest: int) -> None:
        """Refuses a part of the horizon where covariates are read over the whole of it."""
        spec = self.spec
        if h < longest and (self.covariates if spec is None else spec.ahead):
            raise ValueError(
                f"h is {h}, but {self.alias} reads known covariates over its whole horizon of {longest} steps; ask "
                f"for h={longest}"
            )

    def _check_length(self, df: pd.DataFrame, needed: int, what: str) -> None:
        sizes = df.groupby(ID, sort=False).size()
        if self._pads() or sizes.min() >= needed:
            return
        raise FrameError(
            f"series {sizes.idxmin()!r} has {sizes.min()} steps, {what} needs {needed} ({int((sizes < needed).sum())} "
            "series are too short); give more history, lower context_length, or pass pad_short=True (--pad-short)"
        )

    def _extend(self, frame: pd.DataFrame, steps: int) -> pd.DataFrame:
        ahead = future_frame(frame, steps, self._freq_of(frame))
        if self.spec is not None:
            ahead = add_static(ahead, frame, name_static(self.spec.static))
        return pd.concat([frame, ahead], ignore_index=True).sort_values([ID, TIME], kind="stable")

    # How batches become forecasts.

    def _iterate(self, windows: Any) -> Iterator[Batch]:
        """Yields the windows in order, as many at a time as have `batch_size` series together, but at least one."""
        assert self.model is not None
        channels = self.model.config.num_channels
        with Bar(f"{self.alias}: forecasting", len(windows), self.verbose) as bar:
            for start, end in split_batches(len(windows), channels, self.batch_size, self.batch_invariant):
                yield windows.gather(torch.arange(start, end))
                bar.update(end)
                if self.told is not None:
                    self.told(end, len(windows))

    def _run(self, batch: Batch, quantile_levels: list[float] | None = None) -> tuple[Tensor, Tensor | None]:
        """Returns predictions [B, H, C] and quantiles [B, H, C, Q] on the CPU, without gradients."""
        model = self.model
        assert model is not None
        if self.perturb is not None:
            batch = self.perturb(batch)
        read = set(model.input_keys()) - {"future_values"}
        device = next(model.parameters()).device
        model.eval()
        with torch.inference_mode(), model.computing_alone(self.batch_invariant):
            inputs = {k: v.to(device) for k, v in batch.items() if k in read}  # type: ignore[attr-defined]
            output = model(**inputs)
            quantiles = model.compute_quantiles(output, quantile_levels) if quantile_levels else None
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
        frame = self.target_scale.backward(scaler.inverse_transform(frame, list(columns)), list(columns))
        self._check_finite(frame, list(columns))
        return frame.sort_values([ID, CUTOFF, TIME], kind="stable", ignore_index=True)

    def _conformal_columns(self, centre: Tensor, level: Sequence[float]) -> dict[str, Tensor]:
        if self.calibration is None:
            raise ValueError(
                f"{self.alias} has a point head and was not calibrated, so it gives no intervals; fit with validation "
                "data (val_size, --val-size), call calibrate(windows), or train with head='quantile' or 'student_t' "
                "(--set head=quantile)"
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


def check_channels(frame: pd.DataFrame, channels: list[Any], alias: str) -> None:
    """Refuses a frame that has other series than a model's channels, or whose series end at different times.

    Raises:
        FrameError: Naming the series.
    """
    given = {str(name) for name in frame[ID].unique()}
    lacking = [c for c in channels if str(c) not in given]
    extra = sorted(given - {str(c) for c in channels})
    if lacking or extra:
        faults = [f"lacks {lacking}"] if lacking else []
        faults += [f"has {extra}"] if extra else []
        raise FrameError(
            f"{alias} reads the aligned series {channels} as channels of one sample, but the frame "
            f"{' and '.join(faults)}; give exactly these, or train with layout='univariate' (--layout), "
            "which takes others with new_series='history' (--new-series)"
        )
    ends = frame.groupby(ID, sort=False)[TIME].last().sort_values(kind="stable")
    if ends.nunique() > 1:
        raise FrameError(
            f"{alias} reads the aligned series {channels} as channels of one sample, but series "
            f"{ends.index[0]!r} ends at {ends.iloc[0]} and {ends.index[-1]!r} at {ends.iloc[-1]}; cut them to the "
            "same end, or train with layout='univariate'"
        )


def read_later_frame(df: pd.DataFrame, spec: ForecasterSpec, alias: str) -> pd.DataFrame:
    """Validates a frame for a trained model as strictly as the first one.

    Raises:
        FrameError: As `validate_frame`; a frame of another frequency is told as that.
    """
    covariates = [*spec.covariates, *spec.past_covariates]
    df = encode_static(as_pandas(df), spec.static)[0]
    try:
        return validate_frame(df, freq=spec.freq, covariates=covariates)
    except FrameError as error:
        found = _find_other_freq(df, covariates)
        if spec.freq is None or found is None or found == spec.freq:
            raise
        raise FrameError(
            f"{alias} was trained on freq {spec.freq!r}, the data have {found!r}; resample them, or train a model for "
            "this frequency"
        ) from error


def _find_other_freq(df: pd.DataFrame, covariates: Sequence[str]) -> Freq | None:
    """Returns the frequency of a frame that is sound by its own; None if it is not."""
    try:
        return infer_freq(validate_frame(df, covariates=covariates))
    except FrameError:
        return None
