"""A trained model on other data: without training, as a model for every series; and what fine-tuning it changes."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

import pandas as pd

from tsllm.data.loading import LoadedData
from tsllm.data.names import ColumnNames
from tsllm.data.prepared import Strides, hold_out_end, prepare_data
from tsllm.data.target import TargetScale
from tsllm.data.task import Asked, build_task
from tsllm.forecasting.trained import TrainedForecaster, read_later_frame
from tsllm.forecasting.undo import unchanged_on_error
from tsllm.forecasting.zero_shot import ZeroShotForecaster
from tsllm.hub.spec import Calibration, ForecasterSpec
from tsllm.models.base import ForecastModel
from tsllm.types import ID, FrameError

FINE_TUNE = ("all", "head", "none")


def check_fine_tune(fine_tune: str | None) -> None:
    """Refuses what is none of `FINE_TUNE`; None = not said.

    Raises:
        ValueError: Naming it.
    """
    if fine_tune not in (None, *FINE_TUNE):
        raise ValueError(f"fine_tune is {fine_tune!r}; choose one of {', '.join(FINE_TUNE)}")


def choose_trained(model: ForecastModel, trainable: frozenset[str], fine_tune: str) -> None:
    """Lets training change all weights that were trained, or those of the head alone.

    Args:
        model: The model.
        trainable: Names of its parameters that pre-training changed; a frozen backbone's are not among them.
        fine_tune: "all" or "head".

    Raises:
        ValueError: If the model does not say what its head is.
    """
    parts = type(model).head_parts
    if fine_tune == "head" and not parts:
        raise ValueError(f"{type(model).__name__} does not say which weights are its head; use fine_tune='all'")
    for name, parameter in model.named_parameters():
        in_head = name.partition(".")[0] in parts
        parameter.requires_grad_(name in trainable and (fine_tune == "all" or in_head))


class TransferableForecaster(TrainedForecaster):
    """A trained forecaster that goes over to data it was not trained on.

    Attributes:
        max_val_windows: Validation windows at most.
    """

    max_val_windows: int = 256
    _zero_shot: ZeroShotForecaster | None = None  # forecasts until a model for every series is fitted

    @property
    def is_zero_shot(self) -> bool:
        """Whether it is a model for every series that was not fitted yet."""
        return self._zero_shot is not None

    def transfer(self, df: pd.DataFrame, val_size: int | None = None) -> Self:
        """Takes over another data set without training: its scaler, season and texts; the weights stay as they are.

        Args:
            df: Long or wide frame of the same frequency; all but its last `val_size` steps fit the scaler. It becomes
                the history.
            val_size: Overrides the constructor's; these steps calibrate the intervals of a point head.

        Raises:
            FrameError: If the frame breaks the contract, has another frequency, or other numbers of aligned series.
            ValueError: If nothing is trained yet.
        """
        spec = self._require_model()
        assert self.model is not None
        if self._zero_shot is not None:
            self._as_zero_shot().update(df)
            return self
        with unchanged_on_error(self, self.model):
            self._transfer(df, spec, val_size)
        return self

    def _transfer(self, df: pd.DataFrame, spec: ForecasterSpec, val_size: int | None) -> None:
        assert self.model is not None
        loaded = LoadedData("", read_later_frame(df, spec, self.alias), spec.freq, static=self.static)
        asked = Asked(
            h=self.prediction_length,
            context_length=self.context_length,
            freq=spec.freq,
            layout=spec.layout,
            covariates=spec.covariates,
            past_covariates=spec.past_covariates,
            share_covariates=spec.share_covariates,
            val_size=self._asked.val_size if val_size is None else val_size,
        )
        task = build_task(loaded, asked)
        data = prepare_data(
            replace(loaded, df=self.target_scale.forward(loaded.df)),
            task,
            split=hold_out_end(loaded.df, task),
            scaler=str(spec.scaler["name"]),
            strides=Strides(validation=None, max_validation=self.max_val_windows),
            channels=match_channels(loaded.df, spec, self.alias),
            pad_short=self._pads(),
        )
        data.time_features = bool(self.model.config.num_time_features)
        self.model.adopt(data)
        taken = replace(spec, season=task.season, channels=data.channels, scaler=data.scaler.to_dict())
        self._take(self.model, taken, None)
        if data.validation is not None and not self.is_probabilistic:
            self.calibrate(data.validation)
        self.history = loaded.df

    def update(self, df: pd.DataFrame) -> Self:
        """Takes `df` as the new history; see `TrainedForecaster.update`."""
        if self._zero_shot is None:
            return super().update(df)
        self._as_zero_shot().update(df)
        return self

    def predict(
        self,
        df: pd.DataFrame | None = None,
        h: int | None = None,
        level: Sequence[float] | None = None,
        X_df: pd.DataFrame | None = None,
        context: Any = None,
    ) -> pd.DataFrame:
        """Forecasts the `h` steps after each series; see `TrainedForecaster.predict` and `ZeroShotForecaster`."""
        if self._zero_shot is None:
            return super().predict(df, h, level, X_df, context)
        if context is not None:
            self.refuse_context()
        return self._as_zero_shot().predict(df, h or self._h, level, X_df)

    def predict_rolling(
        self, df: pd.DataFrame, h: int, n_windows: int, step_size: int, level: Sequence[float] | None = None
    ) -> pd.DataFrame:
        """Forecasts from the last `n_windows` cutoffs of each series; see `Forecaster.predict_rolling`."""
        if self._zero_shot is None:
            return super().predict_rolling(df, h, n_windows, step_size, level)
        return self._as_zero_shot().predict_rolling(df, h, n_windows, step_size, level)

    def _take(self, model: ForecastModel, spec: ForecasterSpec, calibration: Calibration | None) -> None:
        self.model, self.spec, self.calibration = model, spec, calibration
        self.names, self.static = self.names or ColumnNames.from_dict(spec.names), dict(spec.static)
        self.target_scale, self.licence = TargetScale(**spec.target_scale), self.licence or spec.licence
        self.new_series = self.new_series or spec.new_series
        self.pad_short = spec.pad_short if self.pad_short is None else self.pad_short
        self._name_covariates(spec.covariates, spec.past_covariates)

    def _name_covariates(self, known: Sequence[str] | None, past: Sequence[str] | None) -> None:
        self.covariates, self.past_covariates = list(known or ()), list(past or ())

    def _as_zero_shot(self) -> ZeroShotForecaster:
        """Returns the forecaster of series never seen, with the name and the scale that this one has now."""
        assert self._zero_shot is not None
        self._zero_shot.alias, self._zero_shot.target_scale = self.alias, self.target_scale
        return self._zero_shot


def match_channels(df: pd.DataFrame, spec: ForecasterSpec, alias: str) -> list[Any] | None:
    """Returns which series is which channel of a saved multivariate model; None for a univariate one.

    Raises:
        FrameError: If there are more or fewer series than the model has channels.
    """
    if spec.layout != "multivariate":
        return None
    channels, series = spec.channels, df[ID].unique().tolist()
    if set(map(str, channels)) == set(map(str, series)):
        return list(channels)
    if len(series) != len(channels):
        raise FrameError(
            f"{alias} reads {len(channels)} aligned series as channels of one sample, the data have {len(series)}; "
            "give as many, or start from a model trained with layout='univariate'"
        )
    return series
