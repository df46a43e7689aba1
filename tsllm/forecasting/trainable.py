"""How a forecaster is trained on a frame: from fresh weights, or further from those that were saved."""

import time
from dataclasses import dataclass, replace
from typing import Any, Self

import pandas as pd
import torch

from tsllm.context.contract import Context
from tsllm.data.facts import TrainingFacts
from tsllm.data.frame import find_last_times
from tsllm.data.loading import LoadedData
from tsllm.data.prepared import PreparedData, Strides, hold_out_end, prepare_data
from tsllm.data.scaling import StandardScaler
from tsllm.data.task import Asked, ForecastTask, TaskError, build_task, load_given
from tsllm.data.windows import WindowDataset
from tsllm.forecasting.few_shot import TransferableForecaster, choose_trained, match_channels
from tsllm.forecasting.undo import KeptModel
from tsllm.hub.spec import ANY_FREQ, ForecasterSpec
from tsllm.models.base import ForecastModel
from tsllm.types import ID, TARGET


@dataclass(frozen=True)
class Start:
    """A trained model as it was loaded: where every training begins.

    Attributes:
        model: Its weights and the fields of its configuration.
        spec: Its description.
    """

    model: KeptModel
    spec: ForecasterSpec

    @property
    def is_for_any(self) -> bool:
        """Whether it is a model for every series, which brings no scaler, frequency or horizon of its own."""
        return self.spec.freq == ANY_FREQ


class TrainableForecaster(TransferableForecaster):
    """A forecaster that a training gives its model.

    Attributes:
        name: The model: a name of the table, or the folder or Hub id of a saved one.
        config: Fields of its configuration that somebody chose.
        training: Options of the training.
        scaler: "standard" or "none".
        train_share: Share of the training windows that are trained on.
        fine_tune: What training changes in a saved model; None = "all".
        context: Texts for every training that is given none.
        timeless: Whether texts without `published` may be read at every cutoff.
    """

    name: str
    config: dict[str, Any]
    training: dict[str, Any]
    scaler: str
    train_share: float
    fine_tune: str | None
    context: Any
    timeless: bool
    _start: Start | None
    _told: Context | None

    def _read(self, df: pd.DataFrame) -> LoadedData:
        """Validates the frame of a training."""
        if self._start is not None and not self._start.is_for_any:
            frame = self._validate(df, known_series=False)
            return LoadedData("", frame, self._freq_of(frame), static=self.static)
        loaded = load_given(df, self._asked)
        self.static = loaded.static or self.static
        return replace(loaded, static=self.static)

    def _find_task(self, loaded: LoadedData, h: int | None, val_size: int | None) -> ForecastTask:
        asked = self._asked if val_size is None else replace(self._asked, val_size=val_size)
        if self._start is None:
            fixed = self._asked.h
            if fixed is None and h is None:
                raise TaskError(f"{self.alias} needs a horizon: NeuralForecaster(..., h=24) or fit(df, h=24)")
            if fixed is not None and h is not None:
                if h > fixed:
                    raise TaskError(f"fit is asked for h={h}, but {self.alias} is made for h={fixed}")
                self._check_part(h, fixed)
            return build_task(loaded, replace(asked, h=fixed or h))
        if self._start.is_for_any:
            lengths = self._start.model.config
            context = asked.context_length or lengths["context_length"]
            steps = h or asked.h or lengths["prediction_length"]
            task = build_task(loaded, replace(asked, h=steps, context_length=context, layout="univariate"))
            return replace(task, pads_short=bool(self.pad_short))
        self._check_horizon(h)
        spec = self._start.spec
        known = any(spec.knows(name, group) for name, group in loaded.df.groupby(ID, sort=False))
        task = build_task(
            loaded,
            Asked(
                h=self.prediction_length,
                context_length=self.context_length,
                freq=loaded.freq,
                season=spec.season,
                layout=spec.layout,
                covariates=spec.covariates,
                past_covariates=spec.past_covariates,
                share_covariates=spec.share_covariates,
                val_size=asked.val_size,
                domain=spec.data.newest.domain if known else "",
            ),
        )
        return replace(task, pads_short=bool(self.pad_short))

    def _train(self, loaded: LoadedData, task: ForecastTask, started: float) -> Self:
        from tsllm.training.build import build_for_data, train_model

        data = self._prepare(loaded, task)
        torch.manual_seed(int(self.training["seed"]))
        model = self._restart(data) if self._start is not None else build_for_data(self.name, self.config, data)
        for part in (data.train, data.validation):
            if part is not None and self._told is not None:
                self._tell_told(part, self._told, model, learns=part is data.train)
        label = f"{self.alias}: training" if self.verbose else ""
        self.log = train_model(model, data, self.training, self.progress, self.max_seconds, label)
        earlier = TrainingFacts() if self._start is None else self._start.spec.data
        spec = ForecasterSpec(
            alias=self.alias,
            freq=task.freq,
            layout=task.layout,
            season=task.season,
            channels=data.channels,
            covariates=list(task.covariates),
            past_covariates=list(task.past_covariates),
            static=self.static,
            target_scale=self.target_scale.to_dict(),
            share_covariates=task.share_covariates,
            scaler=data.scaler.to_dict(),
            data=earlier.extend(data.describe()),
            pad_short=self._pad_of(task),
        )
        self._zero_shot = None
        self._take(model, spec, None)
        if data.validation is not None and not self.is_probabilistic:
            self.calibrate(data.validation)
        self.history = loaded.df
        self.seconds = time.perf_counter() - started
        return self

    def _pad_of(self, task: ForecastTask) -> bool:
        return task.pads_short if self.pad_short is None else self.pad_short

    def _prepare(self, loaded: LoadedData, task: ForecastTask) -> PreparedData:
        """Splits, scales and cuts what a training reads."""
        return prepare_data(
            loaded,
            task,
            split=hold_out_end(loaded.df, task),
            scaler=self._choose_scaler(loaded.df, task),
            strides=Strides(validation=None, max_validation=self.max_val_windows),
            channels=self._continue_channels(loaded.df),
            pad_short=self._pad_of(task),
            train_share=self.train_share,
            target_scale=self.target_scale,
        )

    def _tell(self, windows: WindowDataset, df: pd.DataFrame, context: Any = None, h: int | None = None) -> None:
        told = self._told if context is None else Context.read(context, df, timeless=True)
        standing = context is None and self.context is not None  # texts for many cutoffs, which may lie ahead
        if told is None and standing:
            told = Context.read(self.context, df, timeless=self.timeless)
        if told is not None:
            if h is not None and not standing:
                told.refuse_outside(df, find_last_times(df, h, self._freq_of(df)))
                told.warn_of_unread(df)
            from tsllm.forecasting.texts import warn_of_silence

            assert self.model is not None
            self._tell_told(windows, told, self.model)
            warn_of_silence(self.alias, self.model, told)

    def tell(self, context: Any, timeless: bool = False) -> Self:
        """Takes texts for every later `fit` that is given none, as the constructor does, and for forecasts before it.

        Raises:
            ValueError: If the model reads no texts.
        """
        if not self.reads_texts:
            self.refuse_context()
        self.context, self.timeless, self._told = context, timeless, None
        return self

    @property
    def reads_texts(self) -> bool:
        """Whether the model itself reads texts, so that `fit` and `predict` take `context`."""
        return super().reads_texts if self.model is not None else bool(self.config.get("text_layers"))

    def _tell_told(self, windows: WindowDataset, told: Context, model: ForecastModel, learns: bool = False) -> None:
        """Gives windows the hidden states of what may be read at their cutoffs."""
        if not model.config.text_layers:
            self.refuse_context()
        from tsllm.forecasting.texts import ToldWindows, open_text_encoder

        encoder, reader = open_text_encoder(model.config), model.text_reader
        assert reader is not None
        windows.further = ToldWindows(windows, told, encoder, reader.lens, learns)

    def _restart(self, data: PreparedData) -> ForecastModel:
        """Puts the model back to what was saved and lets it take over what the new data decide."""
        from tsllm.training.build import check_calibration

        model, start = self.model, self._start
        assert model is not None
        assert start is not None
        start.model.restore(model, self.name)
        if start.is_for_any:
            model.resize(data.task.context_length, data.task.h)
        choose_trained(model, start.model.trainable, self.fine_tune or "all")
        data.time_features = bool(model.config.num_time_features)
        model.adopt(data)
        check_calibration(data, model.config)
        return model

    def _continue_channels(self, df: pd.DataFrame) -> list[Any] | None:
        """Returns the order of the channels in further training; None where the frame's own order counts.

        Raises:
            FrameError: If there are more or fewer series than the model has channels.
        """
        return None if self._start is None else match_channels(df, self._start.spec, self.alias)

    def _choose_scaler(self, df: pd.DataFrame, task: ForecastTask) -> str | StandardScaler:
        """Returns the scaler of a training: by name for a new one; of further training, fitted."""
        if self._start is None or self._start.is_for_any:
            return self.scaler
        border = hold_out_end(df, task)
        train = df[df.groupby(ID, sort=False).cumcount(ascending=False) >= border.validation]
        train = self.target_scale.forward(train)
        return self._start.spec.continue_scaler(df, train, [TARGET, *task.covariates, *task.past_covariates])
