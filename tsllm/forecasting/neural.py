"""`NeuralForecaster`: any model of the table, trained on frames, saved, loaded, continued, and forecasting frames."""

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import pandas as pd
import torch
from torch import Tensor

from tsllm.data.facts import TrainingFacts
from tsllm.data.frequency import Freq, normalize_freq
from tsllm.data.prepared import PreparedData, Strides, hold_out_end, prepare_data
from tsllm.data.scaling import StandardScaler, build_scaler
from tsllm.data.sources import LoadedData
from tsllm.data.task import Asked, ForecastTask, TaskError, build_task, load_given
from tsllm.files import replace_folder
from tsllm.forecasting.base import check_count, check_seconds
from tsllm.forecasting.loading import load_model
from tsllm.forecasting.trained import TrainedForecaster
from tsllm.hub.artefacts import OWNED, describe_environment, write_description
from tsllm.hub.package import push_package
from tsllm.hub.spec import ANY_FREQ, Calibration, ForecasterSpec, NewSeries
from tsllm.models import find_model_class, is_model_name, name_model_class
from tsllm.models.base import ForecastModel
from tsllm.training.args import check_training, merge_training
from tsllm.training.build import build_for_data, check_calibration, check_model_config, train_model
from tsllm.types import ID, TARGET, FrameError

# What a first call gets: some minutes on two cores, stopped early by the validation part.
DEFAULT_TRAINING: dict[str, Any] = {
    "max_steps": 1500,
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


class NeuralForecaster(TrainedForecaster):
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
        batch_invariant: Whether every window is computed by itself, so that a forecast is the same to the bit
            whichever other series are asked for; without it, it is the same to rounding.
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
        batch_invariant: bool = False,
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
        check_seconds(max_seconds)
        for name, flag in (("pad_short", pad_short), ("batch_invariant", batch_invariant)):
            if flag is not None and not isinstance(flag, bool):
                raise ValueError(f"{name} is {flag!r}; it must be True or False")
        self.max_seconds, self.max_val_windows, self.batch_size = max_seconds, max_val_windows, batch_size
        self.batch_invariant = batch_invariant
        self.log: list[dict[str, Any]] = []
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
            share_covariates=False if share_covariates is None else share_covariates,
            val_size=val_size,
            domain=config.get("prompt_domain"),
        )
        self._h = h
        self.scaler, self.new_series, self.pad_short = scaler or "standard", new_series, pad_short
        self._given = check_training(training or {})
        self.training = merge_training(DEFAULT_TRAINING, self._given)
        if is_model_name(model):
            self.training = merge_training(
                {**DEFAULT_TRAINING, **find_model_class(model).default_training}, self._given
            )
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
                `batch_size`, `batch_invariant`, `new_series`, `pad_short`, `val_size`, `training`, `max_seconds`,
                `backbone_mode` and `lora`.

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
            h: Steps ahead, at most as many as the constructor's; a forecast has so many unless it is asked for others.
            val_size: Overrides the constructor's.

        Raises:
            FrameError: If the frame breaks the contract, or does not fit a saved model.
            ValueError: If horizon or sizes do not fit.
        """
        if self._start is not None and self.training.get("max_steps") == 0:
            self._h = self._check_horizon(h)
            return self.update(df)
        started = time.perf_counter()
        loaded = self._read(df)
        task = self._find_task(loaded, h, val_size)
        self._train(loaded, task, started)
        self._h = h or self._asked.h or self._h
        return self

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

    @property
    def trained_on(self) -> TrainingFacts:
        """What the weights were trained or chosen on where `fit` starts; nothing for a model that starts afresh."""
        if self._start is not None:
            return self._start.spec.data
        return TrainingFacts()

    # How it comes to its model.

    def _check_fresh(self, alias: str | None, of_saved: dict[str, Any]) -> None:
        """Checks the options of a model by name, before any data are there."""
        given = [name for name, value in of_saved.items() if value is not None]
        if given:
            raise ValueError(f"{given[0]} is for a saved model, and {self.name!r} is a model to train; leave it out")
        model_class = find_model_class(self.name)
        self.alias = model_class.__name__ if alias is None else alias
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
        if revision is not None and Path(source).is_dir():
            raise ValueError(f"revision is for a Hub repository, and {source} is a folder; leave it out")
        spec = ForecasterSpec.load(source, revision, token)
        if spec.freq == ANY_FREQ:
            raise ValueError(
                f"{source} forecasts series of any frequency; recipes/pretrain_series.py trains it; load it with "
                "tsllm.ZeroShotForecaster.from_pretrained"
            )
        _refuse_changes(fixed, spec)
        model = load_model(source, revision=revision, token=token)
        calibration = Calibration.load(source, revision, token)
        if self.config or self._asked.context_length is not None:
            asked = self._asked.context_length
            model.change(self.config if asked is None else self.config | {"context_length": asked})
        if device is not None:
            torch.nn.Module.to(model, device)
        self.alias = spec.alias if alias is None else alias
        self._begin(model, spec, calibration)

    def _begin(self, model: ForecastModel, spec: ForecasterSpec, calibration: Calibration | None) -> None:
        """Takes a trained model as what it is and as where further training starts."""
        self._choose_training(type(model))
        self._take(model, spec, calibration)
        state = {name: tensor.detach().cpu().clone() for name, tensor in model.trained_state().items()}
        units = {name: getattr(model.config, name) for name in sorted(model.config.own_fields())}
        self._start = _Start(state, spec, units)
        self._h = self._check_horizon(self._asked.h or spec.h)

    def _choose_training(self, model_class: type[ForecastModel]) -> None:
        self.training = merge_training({**DEFAULT_TRAINING, **model_class.default_training}, self._given)

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
            if fixed is not None and h is not None:
                if h > fixed:
                    raise TaskError(f"fit is asked for h={h}, but {self.alias} is made for h={fixed}")
                self._check_part(h, fixed)
            return build_task(loaded, replace(asked, h=fixed or h))
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
        check_calibration(data, model.config)
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
        """Returns the scaler of further training."""
        assert self._start is not None
        border = hold_out_end(df, task)
        train = df[df.groupby(ID, sort=False).cumcount(ascending=False) >= border.validation]
        return self._start.spec.continue_scaler(df, train, [TARGET, *task.covariates, *task.past_covariates])

    # What is saved.

    def _saved_spec(self) -> ForecasterSpec:
        assert self.spec is not None
        return replace(
            self.spec,
            alias=self.alias,
            h=self._h if self._h != self.prediction_length else None,
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
