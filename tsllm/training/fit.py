"""`NeuralForecaster`: any model of the table, trained on a frame in one call.

It is the way of the Python session and of the command line; recipes drive the same trainer from a YAML file.
"""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
import torch
from transformers import PrinterCallback, TrainerCallback, TrainerControl, TrainerState

from tsllm.data.frame import infer_freq, validate_frame
from tsllm.data.frequency import Freq
from tsllm.data.scaling import build_scaler
from tsllm.data.splits import ByLastSteps, split_frame
from tsllm.data.windows import Layout, WindowDataset
from tsllm.forecasting.neural import NeuralPredictor
from tsllm.forecasting.spec import ForecasterSpec, default_season
from tsllm.models import MODELS
from tsllm.models.base import ForecastModel
from tsllm.training.args import ForecastTrainingArguments
from tsllm.training.supervised import find_sizes, read_model_config
from tsllm.training.trainer import ForecastTrainer
from tsllm.types import ID, TARGET, TIME

Progress = Callable[[int, int, dict[str, float]], None]  # step, steps in all, what was logged

# What a first call gets: some minutes on two cores, stopped early by the validation part.
DEFAULT_TRAINING: dict[str, Any] = {
    "max_steps": 500,
    "learning_rate": 1e-3,
    "lr_scheduler_type": "cosine",
    "eval_steps": 50,
    "early_stopping_patience": 4,
    "seed": 0,
}


class NeuralForecaster:
    """A neural model as a `Forecaster` that trains.

    Args:
        model: A name of `tsllm.models.MODELS` ("timellm", "dlinear" ...), or a saved folder or Hub id whose weights
            are where training starts.
        h: Steps ahead; None = what `fit` is asked for.
        alias: Name of the forecast column; empty = the model's class name.
        freq: pandas alias or integer step; None infers it.
        layout: "multivariate" (aligned series as channels), "univariate" (one series a sample), or "auto":
            multivariate if the series share their times.
        season: Steps in a season; None = the customary one of the frequency.
        covariates: Columns known over the horizon.
        past_covariates: Columns known up to the cutoff only.
        share_covariates: As in `WindowDataset`.
        scaler: "standard" or "none"; fitted on the training part only.
        val_size: Steps at the end of each series that are kept for early stopping and for the intervals of point
            heads; None = a tenth, at least `h`; 0 = none.
        max_val_windows: Validation windows are strided so that there are at most so many; the last one always counts.
        max_seconds: Training stops after so many seconds; the log's last step then says where. None = no limit.
        training: Fields of `ForecastTrainingArguments` (`max_steps`, `learning_rate`, `seed` ...) besides
            `DEFAULT_TRAINING`.
        batch_size: Series per forward pass when predicting, see `NeuralPredictor`.
        new_series: As in `NeuralPredictor`.
        pad_short: As in `NeuralPredictor`; also pads training series.
        **config: Fields of the model's configuration (`context_length`, `head`, `backbone` ...).

    Attributes:
        predictor: The trained forecaster; None before `fit`.
        log: What training logged (`step`, `loss`, `eval_loss` ...), in order.
        seconds: What the last `fit` took.
        progress: A function that is told each logged step of training, or None.

    Raises:
        UnknownNameError: If the model is neither in the table nor a folder or Hub id.
    """

    def __init__(
        self,
        model: str = "timellm",
        h: int | None = None,
        *,
        alias: str = "",
        freq: Freq | None = None,
        layout: Literal["auto", "multivariate", "univariate"] = "auto",
        season: int | None = None,
        covariates: Sequence[str] = (),
        past_covariates: Sequence[str] = (),
        share_covariates: bool = False,
        scaler: str = "standard",
        val_size: int | None = None,
        max_val_windows: int = 256,
        max_seconds: float | None = None,
        training: Mapping[str, Any] | None = None,
        batch_size: int = 256,
        new_series: Literal["raise", "history"] = "raise",
        pad_short: bool = False,
        **config: Any,
    ) -> None:
        self._start: NeuralPredictor | None = None
        if model not in MODELS:
            if not (Path(model).is_dir() or "/" in model):
                MODELS.get(model)  # raises with the nearest names
            if config:
                raise ValueError(f"{model} brings its own configuration; leave out {sorted(config)}")
            self._start = NeuralPredictor.from_pretrained(model)
        self.model, self.h, self.config = model, h, dict(config)
        self.alias = alias or (MODELS.get(model).__name__ if self._start is None else self._start.alias)
        self.freq, self.layout, self.season, self.scaler = freq, layout, season, scaler
        self.covariates, self.past_covariates = list(covariates), list(past_covariates)
        self.share_covariates, self.val_size, self.pad_short = share_covariates, val_size, pad_short
        self.max_val_windows, self.max_seconds = max_val_windows, max_seconds
        self.training = {**DEFAULT_TRAINING, **(training or {})}
        self.batch_size, self.new_series = batch_size, new_series
        self.predictor: NeuralPredictor | None = None
        self.log: list[dict[str, Any]] = []
        self.seconds = 0.0
        self.progress: Progress | None = None

    def fit(self, df: pd.DataFrame, h: int | None = None, val_size: int | None = None) -> Self:
        """Trains on all but the last `val_size` steps of each series and remembers `df` as the history.

        Args:
            df: Long or wide frame.
            h: Steps ahead; must agree with the constructor's if both are given.
            val_size: Overrides the constructor's.

        Raises:
            FrameError: If the frame breaks the contract or a series is too short.
            ValueError: If horizon or sizes do not fit.
        """
        started = time.perf_counter()
        frame = validate_frame(df, freq=self.freq, covariates=[*self.covariates, *self.past_covariates])
        horizon = self._choose_horizon(h)
        spec, train_frame, train, validation = self._prepare(
            frame, horizon, self.val_size if val_size is None else val_size
        )
        model = self._build_model(train, train_frame, spec)
        self.log = train_model(model, train, validation, self.training, self.progress, self.max_seconds)
        self.predictor = NeuralPredictor(
            model, spec, batch_size=self.batch_size, new_series=self.new_series, pad_short=self.pad_short
        )
        if validation is not None and not self.predictor.is_probabilistic:
            self.predictor.calibrate(validation)
        self.predictor.history = frame
        self.seconds = time.perf_counter() - started
        return self

    def predict(
        self,
        df: pd.DataFrame | None = None,
        h: int | None = None,
        level: Sequence[float] | None = None,
        X_df: pd.DataFrame | None = None,
    ) -> pd.DataFrame:
        """Forecasts the steps after each series; see `NeuralPredictor.predict`."""
        return self._trained().predict(df, h, level, X_df)

    def predict_rolling(
        self, df: pd.DataFrame, h: int, n_windows: int, step_size: int, level: Sequence[float] | None = None
    ) -> pd.DataFrame:
        """Forecasts from several cutoffs at once; see `NeuralPredictor.predict_rolling`."""
        return self._trained().predict_rolling(df, h, n_windows, step_size, level)

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes the artefact; `NeuralPredictor.from_pretrained` or `NeuralForecaster(folder)` read it."""
        self._trained().save_pretrained(folder)

    def _trained(self) -> NeuralPredictor:
        if self.predictor is None:
            if self._start is not None:
                return self._start
            raise ValueError(f"{self.alias} is not trained: call fit(df) first, or load a saved folder")
        return self.predictor

    def _choose_horizon(self, h: int | None) -> int:
        fixed = self._start.prediction_length if self._start is not None else self.h
        if fixed is None and h is None:
            raise ValueError(f"{self.alias} needs a horizon: NeuralForecaster(..., h=24) or fit(df, h=24)")
        if fixed is not None and h is not None and h > fixed:
            raise ValueError(f"fit is asked for h={h}, but {self.alias} is made for h={fixed}")
        return int(fixed or h or 0)

    def _prepare(
        self, frame: pd.DataFrame, horizon: int, val_size: int | None
    ) -> tuple[ForecasterSpec, pd.DataFrame, WindowDataset, WindowDataset | None]:
        """Returns the description, the scaled training part, and the windows of training and validation."""
        context = self._context_length(horizon)
        shortest = int(frame.groupby(ID, sort=False).size().min())
        held = max(horizon, shortest // 10) if val_size is None else val_size
        if held and held < horizon:
            raise ValueError(f"val_size is {held}, less than the horizon of {horizon}; give 0 or at least {horizon}")
        splits = split_frame(frame, ByLastSteps(test=held), context) if held else None
        train_frame = frame if splits is None else splits.train
        columns = [TARGET, *self.covariates, *self.past_covariates]
        if self._start is not None:
            spec = self._start.spec
            scaler = spec.load_scaler()
        else:
            scaler = build_scaler(self.scaler).fit(train_frame, columns)
            spec = self._build_spec(frame, scaler.to_dict(), held)
        cut: dict[str, Any] = {
            "layout": spec.layout,
            "freq": spec.freq,
            "covariates": spec.covariates,
            "past_covariates": spec.past_covariates,
            "share_covariates": spec.share_covariates,
            "channels": list(spec.channels) if spec.layout == "multivariate" else None,
            "pad_short": self.pad_short,
        }
        scaled = scaler.transform(train_frame)
        train = WindowDataset(scaled, context, horizon, **cut)
        if splits is None:
            return spec, scaled, train, None
        num_segments = 1 if spec.layout == "multivariate" else frame[ID].nunique()
        stride = max(1, -(-(held - horizon + 1) * num_segments // self.max_val_windows))
        validation = WindowDataset(scaler.transform(splits.test), context, horizon, stride=stride, **cut)
        return spec, scaled, train, validation

    def _context_length(self, horizon: int) -> int:
        if self._start is not None:
            return self._start.context_length
        default = MODELS.get(self.model).config_class.context_length
        return int(self.config.get("context_length", default))

    def _build_spec(self, frame: pd.DataFrame, scaler: dict[str, Any], held: int) -> ForecasterSpec:
        freq = infer_freq(frame) if self.freq is None else self.freq
        layout: Layout = choose_layout(frame) if self.layout == "auto" else self.layout
        series = frame[ID].unique().tolist()
        return ForecasterSpec(
            alias=self.alias,
            freq=freq,
            layout=layout,
            season=default_season(freq) if self.season is None else self.season,
            channels=series if layout == "multivariate" else [],
            covariates=self.covariates,
            past_covariates=self.past_covariates,
            share_covariates=self.share_covariates,
            scaler=scaler,
            data={
                "series": len(series),
                "first": str(frame[TIME].min()),
                "last": str(frame[TIME].max()),
                "validation_steps": held,
            },
        )

    def _build_model(self, train: WindowDataset, train_frame: pd.DataFrame, spec: ForecasterSpec) -> ForecastModel:
        if self._start is not None:
            return self._start.model
        model_class = MODELS.get(self.model)
        config_class = model_class.config_class
        given = {k: v for k, v in self.config.items() if k != "context_length"}
        values: dict[str, Any] = {}
        if {"series_loc", "series_scale"} <= config_class.own_fields() and spec.layout == "multivariate":
            # Prompts speak in the series' own units.
            loc, scale = spec.load_scaler().loc_scale(spec.channels)
            values |= {"series_loc": loc.tolist(), "series_scale": scale.tolist()}
        values |= read_model_config(config_class, given) | find_sizes(model_class, train)
        torch.manual_seed(int(self.training["seed"]))
        model = model_class(config_class(**values))
        if values.get("prompt_statistics") == "series":
            if spec.layout != "multivariate":
                raise ValueError("prompt_statistics 'series' needs layout 'multivariate'; use 'window' or 'none'")
            groups = dict(iter(train_frame.groupby(ID, sort=False)[TARGET]))
            scaled = np.stack([groups[name].to_numpy() for name in spec.channels], axis=1)  # [T, C]
            observed = torch.from_numpy(~np.isnan(scaled))
            model.describe_series(torch.from_numpy(np.nan_to_num(scaled)).float(), observed)  # type: ignore[operator]
        return model


def choose_layout(frame: pd.DataFrame) -> Layout:
    """Returns "multivariate" if all series share their times, else "univariate"."""
    spans = frame.groupby(ID, sort=False)[TIME].agg(["min", "max", "size"])
    return "multivariate" if len(spans.drop_duplicates()) == 1 else "univariate"


def train_model(
    model: ForecastModel,
    train: WindowDataset,
    validation: WindowDataset | None,
    training: Mapping[str, Any],
    progress: Progress | None = None,
    max_seconds: float | None = None,
) -> list[dict[str, Any]]:
    """Trains `model` in place, ends with the weights of the best validation loss, and returns the log.

    Args:
        model: The model.
        train: Training windows.
        validation: Validation windows; None = no early stopping, the last weights stay.
        training: Fields of `ForecastTrainingArguments`.
        progress: Is told each logged step.
        max_seconds: Training stops after so many seconds, after one last validation; None = no limit.
    """
    options: dict[str, Any] = {
        "disable_tqdm": True,
        "save_only_model": True,
        "logging_steps": 50,
        "dataloader_pin_memory": torch.cuda.is_available(),
    } | dict(training)
    if validation is None:
        options |= {"eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False}
        options.pop("eval_steps", None)
    elif "eval_steps" in options:
        options |= {"eval_strategy": "steps", "save_strategy": "steps", "save_steps": options["eval_steps"]}
    with tempfile.TemporaryDirectory() as folder:
        options.setdefault("output_dir", folder)
        trainer = ForecastTrainer(model, ForecastTrainingArguments(**options), train, validation)
        trainer.remove_callback(PrinterCallback)
        if max_seconds is not None:
            trainer.add_callback(TimeLimit(max_seconds))
        if progress is not None:
            trainer.add_callback(ProgressLine(progress))
        trainer.train()
    model.eval()
    return list(trainer.state.log_history)


class ProgressLine(TrainerCallback):
    """Tells each log line to a function as `step, total, values`.

    Args:
        tell: What hears it.
    """

    def __init__(self, tell: Progress) -> None:
        self.tell = tell

    def on_log(
        self,
        args: Any,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Passes on loss and validation loss."""
        values = {k: float(v) for k, v in (logs or {}).items() if k in ("loss", "eval_loss")}
        if values:
            self.tell(state.global_step, state.max_steps, values)


class TimeLimit(TrainerCallback):
    """Ends training after a number of seconds, with a last validation so that the newest weights can be the best.

    Args:
        seconds: The limit.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.started = 0.0

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Starts the clock."""
        self.started = time.perf_counter()

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Looks at the clock."""
        if time.perf_counter() - self.started >= self.seconds:
            control.should_evaluate = control.should_save = str(args.eval_strategy) != "no"
            control.should_training_stop = True
