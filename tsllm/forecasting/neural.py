"""`NeuralForecaster`: any model of the table, trained on frames, saved, loaded, continued, and forecasting frames."""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tsllm.backbones.trust import load_config
from tsllm.data.facts import TrainingFacts, holds
from tsllm.data.frame import future_frame, infer_freq, validate_frame, validate_future
from tsllm.data.frequency import Freq, normalize_freq
from tsllm.data.prepared import PreparedData, Strides, hold_out_end, prepare_data
from tsllm.data.scaling import StandardScaler, build_scaler
from tsllm.data.sources import LoadedData
from tsllm.data.task import Asked, ForecastTask, TaskError, build_task, load_given
from tsllm.data.windows import WindowDataset, prediction_windows
from tsllm.files import replace_folder
from tsllm.forecasting.base import (
    Forecaster,
    check_count,
    check_windows,
    compute_quantile_levels,
    count_torch_parameters,
    name_interval_columns,
)
from tsllm.hub.artefacts import OWNED, describe_environment, write_description
from tsllm.hub.package import push_package
from tsllm.hub.spec import Calibration, ForecasterSpec, NewSeries
from tsllm.models import find_model_class, is_model_name, known_model_classes, name_model_class
from tsllm.models.base import ForecastModel
from tsllm.training.args import check_training, merge_training
from tsllm.training.build import build_for_data, check_model_config, train_model
from tsllm.types import CUTOFF, ID, TARGET, TIME, Batch, FrameError

# What a first call gets: some minutes on two cores, stopped early by the validation part.
DEFAULT_TRAINING: dict[str, Any] = {
    "max_steps": 500,
    "learning_rate": 1e-3,
    "lr_scheduler_type": "cosine",
    "eval_steps": 50,
    "early_stopping_patience": 4,
    "seed": 0,
}


@dataclass(frozen=True)
class _Start:
    """A trained model as it was loaded: where every training begins."""

    state: dict[str, Tensor]
    spec: ForecasterSpec
    model_config: dict[str, Any]


class NeuralForecaster(Forecaster):
    """A neural forecaster of frames.

    Built by the name of a model, `fit` trains it from fresh weights. Built from a saved folder or a Hub id, it
    forecasts at once, and `fit` trains it further, always from the saved weights. `update` changes the history alone.

    ```python
    forecaster = NeuralForecaster("dlinear", h=24).fit(df)
    forecaster.predict(level=[80])
    forecaster.save_pretrained("my_model")
    NeuralForecaster.from_pretrained("my_model").predict(df)
    ```

    Args:
        model: A name of `tsllm.models.MODELS` ("timellm", "dlinear" ...), the dotted path of a model class of one's
            own, or a saved folder or Hub id. For the last, what the artefact fixes cannot be changed: another value
            is refused by name.
        h: Steps ahead; None = what `fit` is asked for. For a saved model, at most what it was trained for.
        alias: Name of the forecast column; None = the model's class name, or the saved one.
        freq: pandas alias or integer step; None infers it.
        layout: "multivariate" (aligned series as channels), "univariate" (one series a sample), or "auto":
            multivariate if the series share their times.
        season: Steps in a season; None = the customary one of the frequency.
        covariates: Columns known over the horizon.
        past_covariates: Columns known up to the cutoff only.
        share_covariates: As in `WindowDataset`; None = False.
        scaler: "standard" or "none"; fitted on the training part only; None = "standard".
        val_size: Steps at the end of each series that are kept for early stopping and for the intervals of point
            heads; None = a tenth, at least `h`; 0 = none.
        max_val_windows: Validation windows are strided so that there are at most so many; the last one always counts.
        max_seconds: Training stops after so many seconds; the log's last step then says where. None = no limit.
        training: Fields of `ForecastTrainingArguments` (`max_steps`, `num_train_epochs`, `learning_rate`, `seed` ...)
            besides `DEFAULT_TRAINING`; what is given wins. `max_steps: 0` trains nothing.
        batch_size: Series that go through the model at once when predicting, a window of C channels counting C;
            bounds the memory, however many there are. None = 256.
        new_series: What to do with a series that the scaler never saw: "raise", or "history" to fit its scaling on
            the history that is given; None = "raise", or as saved.
        pad_short: Whether a series shorter than the context is padded with unobserved steps instead of refused, in
            training too; None = only where no `context_length` is asked for, or as saved.
        revision: Branch, tag or commit of a Hub repository.
        token: Access token of the Hub; None = the stored one.
        device: Where a loaded model goes; None = CPU.
        **config: Fields of the model's configuration (`context_length`, `head`, `backbone` ...). Of a saved Time-LLM,
            `backbone_mode` and `lora` can be changed: LoRA on top.

    Attributes:
        model: The torch model; None before `fit`.
        spec: How frames become its batches; None before `fit`.
        calibration: Conformal half-widths of a model without a distribution.
        history: What is forecast from unless `predict` is given a frame.
        log: What training logged (`step`, `loss`, `eval_loss` ...), in order.
        seconds: What the last `fit` took.
        perturb: Changes each batch before the model reads it, for ablations; None = nothing.
        told: Is told after each batch of a forecast how many windows are done, and of how many; None = nobody.

    Raises:
        UnknownNameError: If the model is neither in the table nor a class nor a folder or Hub id.
        ValueError: For an option that is unknown, has the wrong type, or cannot be changed.
    """

    rolls_at_once = True

    def __init__(
        self,
        model: str = "timellm",
        h: int | None = None,
        *,
        alias: str | None = None,
        freq: Freq | None = None,
        layout: str | None = None,
        season: int | None = None,
        covariates: Sequence[str] | None = None,
        past_covariates: Sequence[str] | None = None,
        share_covariates: bool | None = None,
        scaler: str | None = None,
        val_size: int | None = None,
        max_val_windows: int = 256,
        max_seconds: float | None = None,
        training: Mapping[str, Any] | None = None,
        batch_size: int = 256,
        new_series: NewSeries | None = None,
        pad_short: bool | None = None,
        revision: str | None = None,
        token: str | bool | None = None,
        device: str | None = None,
        **config: Any,
    ) -> None:
        for name, value in (("batch_size", batch_size), ("max_val_windows", max_val_windows)):
            check_count(name, value)
        if new_series not in (None, "raise", "history"):
            raise ValueError(f"new_series is {new_series!r}; choose 'raise' or 'history'")
        self.training = merge_training(DEFAULT_TRAINING, check_training(training or {}))
        self.max_seconds, self.max_val_windows, self.batch_size = max_seconds, max_val_windows, batch_size
        self.model: ForecastModel | None = None
        self.spec: ForecasterSpec | None = None
        self.calibration: Calibration | None = None
        self.history: pd.DataFrame | None = None
        self.log: list[dict[str, Any]] = []
        self.perturb: Callable[[Batch], Batch] | None = None
        self.told: Callable[[int, int], None] | None = None
        self._facts: dict[str, Any] = {}
        self._start: _Start | None = None
        self.name, self.config = model, dict(config)
        self._asked = Asked(
            h=h,
            context_length=self.config.pop("context_length", None),
            freq=freq,
            season=season,
            layout=layout,
            covariates=covariates,
            past_covariates=past_covariates,
            share_covariates=bool(share_covariates),
            val_size=val_size,
            domain=config.get("prompt_domain"),
        )
        self.scaler, self.new_series, self.pad_short = scaler or "standard", new_series, pad_short
        if is_model_name(model):
            self._check_fresh(alias, {"revision": revision, "token": token, "device": device})
        else:
            _check_source(model)
            fixed = {"freq": freq, "layout": layout, "season": season, "scaler": scaler, "covariates": covariates}
            fixed |= {"past_covariates": past_covariates, "share_covariates": share_covariates}
            self._load(model, revision, token, device, fixed, alias)

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        device: str | None = None,
        **changes: Any,
    ) -> Self:
        """Loads an artefact folder or a Hub repository.

        Args:
            source: Folder or Hub id.
            revision: Branch, tag or commit of the Hub repository.
            token: Access token of the Hub; None = the stored one.
            device: Where the model goes; None = CPU.
            **changes: Options of the constructor that may differ from what was saved: `alias`, a shorter `h`,
                `batch_size`, `new_series`, `pad_short`, `val_size`, `training`, `max_seconds`, `backbone_mode` and
                `lora`.

        Raises:
            OSError: If a file is not there or damaged.
            ValueError: If files do not fit together, or a change is not possible; the text names it.
        """
        if not Path(source).is_dir():
            _check_source(str(source))
        return cls(str(source), revision=revision, token=token, device=device, **changes)

    @classmethod
    def of_model(cls, model: ForecastModel, spec: ForecasterSpec, **options: Any) -> Self:
        """Makes a forecaster of a model that is there already, without training.

        Args:
            model: The model.
            spec: How frames become its batches.
            **options: `batch_size`, `calibration`.
        """
        made = cls.__new__(cls)
        calibration = options.pop("calibration", None)
        cls.__init__(made, name_model_class(type(model)), alias=spec.alias, **options)
        made._begin(model, spec, calibration)
        return made

    def fit(self, df: pd.DataFrame, h: int | None = None, val_size: int | None = None) -> Self:
        """Trains on all but the last `val_size` steps of each series and remembers `df` as the history.

        Args:
            df: Long or wide frame.
            h: Steps ahead; must agree with the constructor's if both are given.
            val_size: Overrides the constructor's.

        Raises:
            FrameError: If the frame breaks the contract, or does not fit a saved model.
            ValueError: If horizon or sizes do not fit.
        """
        if self._start is not None and self.training.get("max_steps") == 0:
            self._check_horizon(h)
            return self.update(df)
        started = time.perf_counter()
        loaded = self._read(df)
        return self._train(loaded, self._find_task(loaded, h, val_size), started)

    def update(self, df: pd.DataFrame) -> Self:
        """Takes `df` as the new history; the weights stay.

        Raises:
            FrameError: If it does not fit the model: other series, another frequency, missing covariates.
        """
        self._require_model()
        history = self._validate(df)
        self._scaler_for(history)
        self.history = history
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
        self._require_model()
        h = self._check_horizon(h)
        compute_quantile_levels(level)
        if df is None and self.history is None:
            raise ValueError(f"{self.alias} has no history: call fit(df), or predict(df=...)")
        history = self._validate(df) if df is not None else self.history
        assert history is not None
        self._check_length(history, self.context_length, "the context")
        scaler = self._scaler_for(history)
        # Only the contexts are scaled and copied, so long histories cost no more than short ones.
        contexts = history.groupby(ID, sort=False).tail(self.context_length)
        windows = prediction_windows(
            scaler.transform(contexts),
            self.context_length,
            self.prediction_length,
            future=self._scale_future(X_df, history, scaler),
            **self._cut(history),
        )
        return self._forecast_frame(windows, scaler, h, level).drop(columns=CUTOFF)

    def predict_rolling(
        self, df: pd.DataFrame, h: int, n_windows: int, step_size: int, level: Sequence[float] | None = None
    ) -> pd.DataFrame:
        """Forecasts from the last `n_windows` cutoffs of each series, all cutoffs batched; weights stay frozen.

        See `Forecaster.predict_rolling`.
        """
        self._require_model()
        h = self._check_horizon(h)
        df = self._validate(df)
        check_windows(df, h, n_windows, step_size)
        span = h + (n_windows - 1) * step_size
        needed = self.context_length + span
        if self._pads() and df.groupby(ID, sort=False).size().min() < needed:
            return super().predict_rolling(df, h, n_windows, step_size, level)
        self._check_length(df, needed, "context and test part")
        scaler = self._scaler_for(df.groupby(ID, sort=False).head(-span))
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
        return self._forecast_frame(windows, scaler, h, level)

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes the artefact: model, description, calibration, `metrics.json`, training log and model card.

        The folder's content is replaced in one step, or stays as it was; files that are none of an artefact stay.

        Raises:
            ValueError: If there is nothing trained to save.
            OSError: If another process writes the folder, or the disk is full.
        """
        self._require_model()
        assert self.model is not None
        with replace_folder(folder, OWNED) as made:
            self.model.save_pretrained(made)
            write_description(
                made,
                spec=self._saved_spec(),
                metrics=self._describe_training(),
                history=self.log,
                calibration=self.calibration,
            )

    def push_to_hub(
        self, repo_id: str, *, private: bool = False, token: str | None = None, revision: str | None = None
    ) -> str:
        """Uploads the artefact in one commit and returns the commit's address.

        Args:
            repo_id: "owner/name"; made if it does not exist.
            private: Whether a new repository is private.
            token: Access token; None = the stored one.
            revision: Branch to commit to; None = main.

        Raises:
            ValueError: If there is nothing trained to upload.
            huggingface_hub.errors.HfHubHTTPError: If the Hub refuses.
        """
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / repo_id.rpartition("/")[2]
            self.save_pretrained(target)
            return push_package(target, repo_id, private=private, token=token, revision=revision)

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
    def prediction_length(self) -> int:
        """H, steps forecast at most; before `fit`, what was asked for (0 = not yet known)."""
        return self.model.config.prediction_length if self.model is not None else self._asked.h or 0

    @property
    def is_probabilistic(self) -> bool:
        """Whether the head itself knows quantiles."""
        self._require_model()
        assert self.model is not None
        return self.model.config.head != "point"

    @property
    def trained_on(self) -> TrainingFacts:
        """What the weights were trained or chosen on where `fit` starts; nothing for a model that starts afresh."""
        if self._start is not None:
            return self._start.spec.data
        return TrainingFacts()

    # How it comes to its model.

    def _check_fresh(self, alias: str | None, of_saved: dict[str, Any]) -> None:
        """Checks the options of a model by name, before any data are there."""
        given = [name for name, value in of_saved.items() if value is not None and name != "device"]
        if given:
            raise ValueError(f"{given[0]} is for a saved model, and {self.name!r} is a model to train; leave it out")
        model_class = find_model_class(self.name)
        self.alias = alias or model_class.__name__
        if self._asked.names_covariates and not model_class.uses_covariates:
            named = [*(self._asked.covariates or ()), *(self._asked.past_covariates or ())]
            raise TaskError(f"{self.name} reads no covariates, but {named} were asked for; leave them out or choose a "
                            "model that reads them (timexer)")  # fmt: skip
        self._name_covariates(self._asked.covariates, self._asked.past_covariates)
        build_scaler(self.scaler)
        check_model_config(self.name, self.config, self._asked.context_length, self._asked.h)

    def _load(
        self,
        source: str,
        revision: str | None,
        token: str | bool | None,
        device: str | None,
        fixed: dict[str, Any],
        alias: str | None,
    ) -> None:
        """Loads a saved forecaster and applies the changes that are possible."""
        spec = ForecasterSpec.load(source, revision, token)
        _refuse_changes(fixed, spec)
        model = load_model(source, revision=revision, token=token)
        calibration = Calibration.load(source, revision, token)
        if self.config or self._asked.context_length is not None:
            asked = self._asked.context_length
            model.change(self.config if asked is None else self.config | {"context_length": asked})
        if device is not None:
            torch.nn.Module.to(model, device)
        self.alias = alias or spec.alias
        self._begin(model, spec, calibration)
        self._check_horizon(self._asked.h)

    def _begin(self, model: ForecastModel, spec: ForecasterSpec, calibration: Calibration | None) -> None:
        """Takes a trained model as what it is and as where further training starts."""
        self._take(model, spec, calibration)
        state = {name: tensor.detach().cpu().clone() for name, tensor in model.trained_state().items()}
        units = {name: getattr(model.config, name) for name in sorted(model.config.own_fields())}
        self._start = _Start(state, spec, units)

    def _take(self, model: ForecastModel, spec: ForecasterSpec, calibration: Calibration | None) -> None:
        self.model, self.spec, self.calibration = model, spec, calibration
        self.new_series = self.new_series or spec.new_series
        self.pad_short = spec.pad_short if self.pad_short is None else self.pad_short
        self._name_covariates(spec.covariates, spec.past_covariates)

    def _name_covariates(self, known: Sequence[str] | None, past: Sequence[str] | None) -> None:
        self.covariates, self.past_covariates = list(known or ()), list(past or ())

    def _read(self, df: pd.DataFrame) -> LoadedData:
        """Validates the frame of a training."""
        if self._start is not None:
            frame = self._validate(df, known_series=False)
            return LoadedData("", frame, self._freq_of(frame))
        return load_given(df, self._asked)

    def _find_task(self, loaded: LoadedData, h: int | None, val_size: int | None) -> ForecastTask:
        asked = self._asked if val_size is None else replace(self._asked, val_size=val_size)
        if self._start is None:
            fixed = self._asked.h
            if fixed is None and h is None:
                raise TaskError(f"{self.alias} needs a horizon: NeuralForecaster(..., h=24) or fit(df, h=24)")
            if fixed is not None and h is not None and h > fixed:
                raise TaskError(f"fit is asked for h={h}, but {self.alias} is made for h={fixed}")
            return build_task(loaded, replace(asked, h=fixed or h))
        self._check_horizon(h)
        spec = self._start.spec
        known = any(self._knows(name, group) for name, group in loaded.df.groupby(ID, sort=False))
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
        pads = task.pads_short if self.pad_short is None else self.pad_short
        data = prepare_data(
            loaded,
            task,
            split=hold_out_end(loaded.df, task),
            scaler=self.scaler if self._start is None else self._continue_scaler(loaded.df, task),
            strides=Strides(validation=None, max_validation=self.max_val_windows),
            channels=self._continue_channels(loaded.df),
            pad_short=pads,
        )
        torch.manual_seed(int(self.training["seed"]))
        model = self._restart(data) if self._start is not None else build_for_data(self.name, self.config, data)
        self.log = train_model(model, data, self.training, self.progress, self.max_seconds)
        earlier = TrainingFacts() if self._start is None else self._start.spec.data
        spec = ForecasterSpec(
            alias=self.alias,
            freq=task.freq,
            layout=task.layout,
            season=task.season,
            channels=data.channels,
            covariates=list(task.covariates),
            past_covariates=list(task.past_covariates),
            share_covariates=task.share_covariates,
            scaler=data.scaler.to_dict(),
            data=earlier.extend(data.describe()),
            pad_short=pads,
        )
        self._take(model, spec, None)
        if data.validation is not None and not self.is_probabilistic:
            self.calibrate(data.validation)
        self.history = loaded.df
        self.seconds = time.perf_counter() - started
        return self

    def _restart(self, data: PreparedData) -> ForecastModel:
        """Puts the model back to what was saved and lets it take over what the new data decide."""
        model, start = self.model, self._start
        assert model is not None
        assert start is not None
        for name, value in start.model_config.items():
            setattr(model.config, name, value)
        model.load_trained_state(start.state, origin=self.name)
        data.time_features = bool(model.config.num_time_features)
        model.adopt(data)
        return model

    def _continue_channels(self, df: pd.DataFrame) -> list[Any] | None:
        """Returns the order of the channels in further training; None where the frame's own order counts.

        Raises:
            FrameError: If there are more or fewer series than the model has channels.
        """
        if self._start is None or self._start.spec.layout != "multivariate":
            return None
        channels, series = self._start.spec.channels, list(df[ID].unique())
        if set(map(str, channels)) == set(map(str, series)):
            return list(channels)
        if len(series) != len(channels):
            raise FrameError(
                f"{self.alias} reads {len(channels)} aligned series as channels of one sample, the data have "
                f"{len(series)}; give as many, or start from a model trained with layout='univariate'"
            )
        return series

    def _continue_scaler(self, df: pd.DataFrame, task: ForecastTask) -> StandardScaler:
        """Returns the scaler of further training: kept for a series that was trained on, fitted for any other.

        A series is the one that was trained on if it holds the values that were read, not if it bears the same name.
        """
        assert self._start is not None
        saved = self._start.spec.load_scaler()
        columns = list(saved.stats) or [TARGET, *task.covariates, *task.past_covariates]
        border = hold_out_end(df, task)
        train = df[df.groupby(ID, sort=False).cumcount(ascending=False) >= border.validation]
        own = type(saved)().fit(train, columns)
        for name, group in df.groupby(ID, sort=False):
            if self._knows(name, group):
                for column in columns:
                    own.stats[column][name] = saved.stats[column].get(name, own.stats[column][name])
        return own

    def _knows(self, name: Any, group: pd.DataFrame) -> bool:
        assert self._start is not None
        times, values = group[TIME].to_numpy(), group[TARGET].to_numpy(dtype=np.float64)
        return any(holds(times, values, read) for read in self._start.spec.data.find(name))

    # What is saved.

    def _saved_spec(self) -> ForecasterSpec:
        assert self.spec is not None
        shorter = self._asked.h if self._start is not None else None
        return replace(
            self.spec,
            alias=self.alias,
            h=shorter if shorter is not None else self.spec.h,
            new_series=self.new_series or "raise",
            pad_short=bool(self.pad_short),
        )

    def _describe_training(self) -> dict[str, Any]:
        """Returns `metrics.json` of a forecaster that had no test part."""
        assert self.model is not None
        assert self.spec is not None
        losses = [e["eval_loss"] for e in self.log if "eval_loss" in e]
        trained, total = self.count_parameters()
        batch = self.training.get("per_device_train_batch_size", 32)
        return {
            "test": None,
            "note": "no test part: all data were trained or chosen on; use a back-test for scores",
            "validation": {"loss": min(losses)} if losses else None,
            "scaled": self.spec.scaler["name"] != "none",
            "windows": 0,
            "seconds": round(self.seconds, 3),
            "steps": max((int(e.get("step", 0)) for e in self.log), default=0),
            "seed": self.training["seed"],
            "model": name_model_class(type(self.model)),
            "dataset": self.spec.data.newest.name,
            "context_length": self.context_length,
            "prediction_length": self.prediction_length,
            "parameters": {"trainable": trained, "total": total},
            "global_batch_size": batch * self.training.get("gradient_accumulation_steps", 1),
            "learning_rate": self.training["learning_rate"],
            "processes": 1,
            "environment": describe_environment(),
        }

    # How frames become batches and back.

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
        frame = validate_frame(df, freq=spec.freq, covariates=[*spec.covariates, *spec.past_covariates])
        if spec.freq is not None:
            check_freq(frame, spec.freq, self.alias)
        if known_series and spec.layout == "multivariate":
            self._check_channels(frame, spec.channels)
        return frame

    def _check_channels(self, frame: pd.DataFrame, channels: list[Any]) -> None:
        given = {str(name) for name in frame[ID].unique()}
        lacking = [c for c in channels if str(c) not in given]
        extra = sorted(given - {str(c) for c in channels})
        if lacking or extra:
            faults = [f"lacks {lacking}"] if lacking else []
            faults += [f"has {extra}"] if extra else []
            raise FrameError(
                f"{self.alias} reads the aligned series {channels} as channels of one sample, but the frame "
                f"{' and '.join(faults)}; give exactly these, or train with layout='univariate', which takes "
                "any series"
            )

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

    def _scale_future(
        self, X_df: pd.DataFrame | None, history: pd.DataFrame, scaler: StandardScaler
    ) -> pd.DataFrame | None:
        spec = self.spec
        assert spec is not None
        if X_df is None or not spec.covariates:
            return None
        keys = future_frame(history, self.prediction_length, self._freq_of(history))
        return scaler.transform(validate_future(X_df, keys, spec.covariates), list(spec.covariates))

    def _check_horizon(self, h: int | None) -> int:
        """Returns how many steps a forecast has."""
        longest = self.prediction_length
        if h is None:
            asked = self._asked.h if self._start is not None else None
            saved = self.spec.h if self.spec is not None else None
            return asked or saved or longest
        check_count("h", h)
        if h > longest:
            raise ValueError(f"h is {h}, but {self.alias} forecasts 1 to {longest} steps; train with a larger h")
        if h < longest and self.covariates:
            raise ValueError(
                f"h is {h}, but {self.alias} reads known covariates over its whole horizon of {longest} steps; ask "
                f"for h={longest}"
            )
        return int(h)

    def _check_length(self, df: pd.DataFrame, needed: int, what: str) -> None:
        sizes = df.groupby(ID, sort=False).size()
        if self._pads() or sizes.min() >= needed:
            return
        raise FrameError(
            f"series {sizes.idxmin()!r} has {sizes.min()} steps, {what} needs {needed} ({int((sizes < needed).sum())} "
            "series are too short); give more history, lower context_length, or pass pad_short=True"
        )

    def _extend(self, frame: pd.DataFrame, steps: int) -> pd.DataFrame:
        ahead = future_frame(frame, steps, self._freq_of(frame))
        return pd.concat([frame, ahead], ignore_index=True).sort_values([ID, TIME], kind="stable")

    # How batches become forecasts.

    def _iterate(self, windows: Any) -> Iterator[Batch]:
        """Yields the windows in order, as many at a time as have `batch_size` series together, but at least one."""
        assert self.model is not None
        size = max(1, self.batch_size // self.model.config.num_channels)
        for start in range(0, len(windows), size):
            end = min(start + size, len(windows))
            yield windows.gather(torch.arange(start, end))
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
        with torch.inference_mode():
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


def check_freq(frame: pd.DataFrame, freq: Freq, alias: str) -> None:
    """Refuses a frame of another frequency than a model was trained on.

    A frame whose rows all lie on the model's axis, but further apart, is not told by `validate_frame`.

    Raises:
        FrameError: Naming both frequencies.
    """
    try:
        found = infer_freq(frame)
    except FrameError:
        return  # too few rows to tell; they lie on the axis
    if found != freq and pd.Index(_step(frame, found)).tolist() != pd.Index(_step(frame, freq)).tolist():
        raise FrameError(
            f"{alias} was trained on freq {freq!r}, the data have {found!r}; resample them, or train a model for this "
            "frequency"
        )


def _step(frame: pd.DataFrame, freq: Freq) -> np.ndarray:
    """Returns the times that follow the first row, by a frequency."""
    return future_frame(frame.head(1), 3, freq)[TIME].to_numpy()


def load_model(source: str | Path, *, revision: str | None = None, token: str | bool | None = None) -> ForecastModel:
    """Loads the model of an artefact folder or a Hub repository, whatever its class.

    Raises:
        OSError: If the folder holds no model.
        ValueError: If its class is none that is known.
    """
    if not Path(source).exists() and str(source).startswith((".", "/", "~")):
        raise OSError(f"no folder {source}; give the output folder of a training run or a Hub id")
    config = load_config(str(source), revision=revision or "main", token=token)
    for model_class in known_model_classes():
        if model_class.config_class is type(config):
            return model_class.from_pretrained(source, config=config, revision=revision, token=token)
    known = ", ".join(f"{name_model_class(m)} ({m.config_class.model_type})" for m in known_model_classes())
    raise ValueError(f"{source} holds a {config.model_type!r} model, which is no forecaster of tsllm; known: {known}")


def _check_source(source: str) -> None:
    """Refuses what is neither a model's name nor could be an artefact."""
    if not (Path(source).is_dir() or "/" in source):
        find_model_class(source)  # raises with the nearest names


def _refuse_changes(fixed: dict[str, Any], spec: ForecasterSpec) -> None:
    """Refuses options that an artefact fixes, unless they say what it says.

    Raises:
        ValueError: Naming the option, the artefact's value and the way out.
    """
    for name, value in fixed.items():
        if value is None:
            continue
        saved = spec.scaler["name"] if name == "scaler" else getattr(spec, name)
        given = normalize_freq(value) if name == "freq" else list(value) if isinstance(value, (list, tuple)) else value
        if given != saved and not (name == "layout" and value == "auto"):
            raise ValueError(
                f"{name} is fixed by the artefact ({saved!r}) and cannot be {value!r}; train a new model, or leave "
                f"{name} out"
            )
