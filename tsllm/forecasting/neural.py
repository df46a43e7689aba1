"""`NeuralForecaster`: any model of the table, trained on frames, saved, loaded, continued, and forecasting frames."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import pandas as pd
import torch

from tsllm.context.contract import Context
from tsllm.data.facts import TrainingFacts
from tsllm.data.frequency import Freq
from tsllm.data.scaling import build_scaler
from tsllm.data.task import Asked, TaskError
from tsllm.data.windows import check_share
from tsllm.files import replace_folder
from tsllm.forecasting.base import check_count, check_seconds
from tsllm.forecasting.few_shot import check_fine_tune
from tsllm.forecasting.loading import check_hub_options, load_model
from tsllm.forecasting.refusals import (
    check_source,
    refuse_changes,
    refuse_idle,
    refuse_unadapted,
    refuse_unknown,
    refuse_unvalidated,
)
from tsllm.forecasting.trainable import Start, TrainableForecaster
from tsllm.forecasting.undo import KeptModel, unchanged_on_error
from tsllm.forecasting.zero_shot import ZeroShotForecaster
from tsllm.hub.artefacts import OWNED, describe_environment, write_description
from tsllm.hub.licence import check_licence
from tsllm.hub.spec import ANY_FREQ, Calibration, ForecasterSpec, NewSeries, check_saved
from tsllm.models import find_model_class, is_model_name, name_model_class
from tsllm.models.base import COVARIATE_READERS, ForecastModel
from tsllm.training.options import DEFAULT_TRAINING, check_options, merge_training


class NeuralForecaster(TrainableForecaster):
    """A neural forecaster of frames.

    Built by the name of a model, `fit` trains it from fresh weights. Built from a saved folder or a Hub id, it
    forecasts at once, and `fit` trains it further, always from the saved weights. `update` changes the history alone.
    A model that was pre-trained for every series (recipes/pretrain_series.py) forecasts any frame before `fit`, as
    `ZeroShotForecaster` does; `fit` then is few-shot fine-tuning with lengths, frequency and scaler of the new data.

    Args:
        model: A name of `tsllm.models.MODELS` ("timellm", "dlinear" ...), the dotted path of a model class of one's
            own, or a saved folder or Hub id; a folder that is called like a model is given as a path ("./dlinear").
            What an artefact fixes cannot be changed: another value is refused by name.
        h: Steps ahead; None = what `fit` is asked for. For a saved model, at most what it was trained for.
        alias: Name of the forecast column; None = the model's class name, or the saved one.
        freq: pandas alias or integer step; None infers it.
        layout: "multivariate" (aligned series as channels), "univariate" (one series a sample), or "auto":
            multivariate if the series share their times.
        season: Steps in a season; None = the customary one of the frequency, 1 where times are whole numbers. A frame
            brings no customs of a named data set: give its season and `context_length`, or forecast it by name.
        covariates: Columns known over the horizon.
        past_covariates: Columns known up to the cutoff only.
        static: Columns with one value a series, numbers or texts, such as its region; nothing is asked of them over
            the horizon. For models that read covariates.
        share_covariates: As in `WindowDataset`; None = False.
        scaler: "standard" or "none"; fitted on the training part only; None = "standard".
        val_size: Steps at the end of each series that are kept for early stopping and for the intervals of point
            heads; None = a tenth, at least `h`; 0 = none: nothing is validated (options of validation such as
            `eval_steps` are refused), and the last weights stay.
        train_share: Share of the training windows that are trained on, the first of each series; the scaler and the
            validation part stay as they are (few-shot). 1 = all.
        fine_tune: What `fit` changes in a saved model: "all" weights that were trained, the "head" alone, or "none"
            (it only takes the history); None = "all".
        max_val_windows: Validation windows are strided so that there are at most so many; the last one always counts.
        max_seconds: Training stops after so many seconds; the log's last step then says where. None = no limit.
        training: Fields of `ForecastTrainingArguments` (`max_steps`, `num_train_epochs`, `learning_rate`, `seed` ...)
            besides `DEFAULT_TRAINING`; what is given wins. `max_steps: 0` trains nothing. Fields that would have no
            effect are refused: `save_strategy` and other fields of recipes, epochs beside `max_steps`.
        batch_size: Series that go through the model at once when predicting, a window of C channels counting C;
            bounds the memory, however many there are. None = 256.
        batch_invariant: Whether every window is computed by itself, so that a forecast is the same to the bit
            whichever other series are asked for; without it, it is the same to rounding.
        new_series: What to do with a series that the scaler never saw: "raise", or "history" to fit its scaling on
            the history that is given; None = "raise", or as saved.
        pad_short: Whether a series shorter than the context is padded with unobserved steps instead of refused, in
            training too; None = only where no `context_length` is asked for, or as saved.
        transform: "log1p" (values from 0), "asinh" (both signs) or "none": the target is learned and forecast on this
            scale, and forecasts are taken back; None = "none", or as saved. See `scale_target`.
        non_negative: Whether forecasts below 0 become 0; None = no, or as saved.
        integer: Whether forecasts are rounded to whole numbers; None = no, or as saved.
        id_col: What the column of the series is called in the frames that it is given; None = `unique_id`, or as
            saved. Forecasts get the names back, see `name_columns`.
        time_col: The same for the times, `ds`.
        target_col: The same for the values, `y`.
        verbose: Whether training and forecasts of more than two seconds show a bar, in a terminal or a notebook.
        context: Texts for every `fit` that is given none, as in `predict`; of a model with `text_layers`. A window
            reads what was published by its cutoff, so they must be dated unless `timeless`.
        timeless: Whether texts without `published` may be read at every cutoff.
        revision: Branch, tag or commit of a Hub repository.
        token: Access token of the Hub; None = the stored one.
        device: Where a loaded model goes; None = CPU.
        **config: Fields of the model's configuration (`context_length`, `head`, `backbone` ...). Of a saved Time-LLM
            or PatchCast, `backbone_mode` and `lora` can be changed: LoRA on top.

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
        ValueError: For an option that is unknown, has the wrong type, or cannot be changed; for `context` or
            `timeless` where the model reads no texts.

    Example:
        >>> import pandas as pd, tsllm
        >>> df = pd.DataFrame({"unique_id": "a", "ds": range(96), "y": [float(t % 8) for t in range(96)]})
        >>> forecaster = tsllm.NeuralForecaster("dlinear", h=8, context_length=24, training={"max_steps": 20})
        >>> list(forecaster.fit(df).predict(level=[50]).columns)
        ['unique_id', 'ds', 'DLinear', 'DLinear-lo-50', 'DLinear-hi-50']
        >>> forecaster.save_pretrained("my_model")
        >>> len(tsllm.NeuralForecaster.from_pretrained("my_model").predict(df))
        8
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
        static: Sequence[str] | None = None,
        share_covariates: bool | None = None,
        scaler: str | None = None,
        val_size: int | None = None,
        train_share: float = 1.0,
        fine_tune: str | None = None,
        max_val_windows: int = 256,
        max_seconds: float | None = None,
        training: Mapping[str, Any] | None = None,
        batch_size: int = 256,
        batch_invariant: bool = False,
        new_series: NewSeries | None = None,
        pad_short: bool | None = None,
        transform: str | None = None,
        non_negative: bool | None = None,
        integer: bool | None = None,
        id_col: str | None = None,
        time_col: str | None = None,
        target_col: str | None = None,
        verbose: bool = True,
        context: Any = None,
        timeless: bool = False,
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
        check_share("train_share", train_share)
        check_fine_tune(fine_tune)
        for name, flag in (("pad_short", pad_short), ("batch_invariant", batch_invariant)):
            if flag is not None and not isinstance(flag, bool):
                raise ValueError(f"{name} is {flag!r}; it must be True or False")
        self.max_seconds, self.max_val_windows, self.batch_size = max_seconds, max_val_windows, batch_size
        self.batch_invariant, self.verbose = batch_invariant, verbose
        if (id_col, time_col, target_col) != (None, None, None):
            self.name_columns(id_col, time_col, target_col)
        scale: dict[str, Any] = {"transform": transform, "non_negative": non_negative, "integer": integer}
        scale = {key: value for key, value in scale.items() if value is not None}
        self.scale_target(**scale)
        self.log: list[dict[str, Any]] = []
        self.train_share, self.fine_tune = train_share, fine_tune
        self._start = None
        self._zero_shot = None
        self.name, self.config = model, dict(config)
        self._asked = Asked(
            h=h,
            context_length=self.config.pop("context_length", None),
            freq=freq,
            season=season,
            layout=layout,
            covariates=covariates,
            past_covariates=past_covariates,
            static=static,
            share_covariates=False if share_covariates is None else share_covariates,
            val_size=val_size,
            domain=config.get("prompt_domain"),
        )
        self._h = h
        self.context, self.timeless = context, timeless
        self._told: Context | None = None
        self.scaler, self.new_series, self.pad_short = scaler or "standard", new_series, pad_short
        self._given = check_options(training)
        refuse_unvalidated(self._given, val_size)
        self.training = merge_training(DEFAULT_TRAINING, self._given)
        if is_model_name(model):
            self.training = merge_training(
                {**DEFAULT_TRAINING, **find_model_class(model).default_training}, self._given
            )
            of_saved = {"revision": revision, "token": token, "device": device, "fine_tune": fine_tune}
            self._check_fresh(alias, of_saved)
        else:
            check_source(model)
            fixed = {"freq": freq, "layout": layout, "season": season, "scaler": scaler, "covariates": covariates}
            fixed |= {"static": static, "past_covariates": past_covariates, "share_covariates": share_covariates}
            refuse_idle(self._given, val_size, max_seconds, fine_tune, train_share)
            refuse_unadapted(fine_tune, config)
            self._load(model, revision, token, device, fixed | {"transform": transform}, alias)
            self.scale_target(**(self.target_scale.to_dict() | scale))
        if (timeless or context is not None) and not self.reads_texts:
            self.refuse_context("timeless" if timeless else "context")

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
            source: Folder or Hub id; a folder that is called like a model too.
            revision: Branch, tag or commit of the Hub repository.
            token: Access token of the Hub; None = the stored one.
            device: Where the model goes; None = CPU.
            **changes: Options of the constructor that may differ from what was saved: `alias`, a shorter `h`,
                `batch_size`, `batch_invariant`, `non_negative`, `integer`, `id_col`, `time_col`, `target_col`,
                `new_series`, `pad_short`, `val_size`, `training`, `max_seconds`, `train_share`, `fine_tune`,
                `backbone_mode` and `lora`; for a model for every series also `freq`, `season`, `scaler`,
                `context_length` and any `h`.

        Raises:
            OSError: If a file is not there or damaged.
            ValueError: If files do not fit together, or a change is not possible; the text names it.
        """
        check_saved(source)
        given = str(source)
        # As a path it cannot be taken for the name of a model.
        given = given if "/" in given else os.path.join(os.curdir, given)
        return cls(given, revision=revision, token=token, device=device, **changes)

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

    def fit(self, df: pd.DataFrame, h: int | None = None, val_size: int | None = None, context: Any = None) -> Self:
        """Trains on all but the last `val_size` steps of each series and remembers `df` as the history.

        Args:
            df: Long or wide frame.
            h: Steps ahead, at most as many as the constructor's; a forecast has so many unless it is asked for others.
            val_size: Overrides the constructor's.
            context: Overrides the constructor's.

        Raises:
            FrameError: If the frame breaks the contract, or does not fit a saved model; or the texts do not fit the
                data, or do not say when they were published.
            ValueError: If horizon or sizes do not fit.
        """
        given = self.context if context is None else context
        if self._start is not None and (self.training.get("max_steps") == 0 or self.fine_tune == "none"):
            refuse_idle(self._given, val_size, None, self.fine_tune, self.train_share)
            if self._zero_shot is None:
                self._h = self._check_horizon(h)
                self.update(df)
                assert self.history is not None
                self._told = None if given is None else Context.read(given, self.history, timeless=self.timeless)
                return self
            if given is not None:
                self.refuse_context()
            self._h = h or self._h
            self._as_zero_shot().fit(df, self._h)
            return self
        refuse_unvalidated(self._given, val_size)
        started = time.perf_counter()
        start = self._start
        # A copy of the weights is there already unless a training has changed them since.
        state = start.model.state if start is not None and self.spec is start.spec else None
        with unchanged_on_error(self, None if start is None else self.model, state):
            loaded = self._read(df)
            self._told = None if given is None else Context.read(given, loaded.df, timeless=self.timeless)
            task = self._find_task(loaded, h, val_size)
            self._train(loaded, task, started)
            self._h = h or self._asked.h or self._h
        return self

    def check_data(self, df: pd.DataFrame, h: int | None = None) -> None:
        """Checks that `fit` could read a frame, without training.

        Args:
            df: As for `fit`.
            h: As for `fit`.

        Raises:
            FrameError: As `fit`.
            ValueError: As `fit`.
        """
        loaded = self._read(df)
        self._prepare(loaded, self._find_task(loaded, h, None))

    def save_pretrained(self, folder: str | Path, *, licence: str | None = None) -> None:
        """Writes the artefact: model, description, calibration, `metrics.json`, training log and model card.

        The folder's content is replaced in one step, or stays as it was; files that are none of an artefact stay.

        Args:
            folder: Where.
            licence: Of the weights, as the Hub abbreviates it; None = what was said before, else what backbone and
                data allow to say.

        Raises:
            ValueError: If there is nothing trained to save.
            OSError: If another process writes the folder, or the disk is full.
        """
        self._require_model()
        assert self.model is not None
        self.licence = check_licence(licence) or self.licence
        if self._zero_shot is not None:
            self._as_zero_shot().save_pretrained(folder)
            return
        with replace_folder(folder, OWNED) as made:
            self.model.save_pretrained(made)
            write_description(
                made,
                spec=self._saved_spec(),
                metrics=self._describe_training(),
                history=self.log,
                calibration=self.calibration,
            )

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
        if self._asked.names_covariates and not model_class.reads_covariates(self.config, named=True):
            asked = self._asked
            named = [*(asked.covariates or ()), *(asked.past_covariates or ()), *(asked.static or ())]
            deaf = model_class.find_deaf_option(self.config)
            who = f"{self.name} with {deaf}: {self.config[deaf]}" if deaf else self.name
            way = f"{deaf} out" if deaf else f"choose a model that reads them ({COVARIATE_READERS})"
            raise TaskError(f"{who} reads no covariates, but {named} were asked for; leave them out or {way}")
        self._name_covariates(self._asked.covariates, self._asked.past_covariates)
        build_scaler(self.scaler)
        from tsllm.training.build import check_model_config

        refuse_unknown(self.config, model_class, type(self), saved=False)
        asked = self._asked
        check_model_config(self.name, self.config, asked.context_length, asked.h, asked.names_covariates)

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
        check_hub_options(source, revision, token)
        spec = ForecasterSpec.load(source, revision, token)
        if self.new_series == "history" and spec.layout == "multivariate":
            raise ValueError(
                f"new_series has no effect on {spec.alias}: its series are the channels of one sample, and it takes "
                "no others; leave it out, or train with layout='univariate'"
            )
        is_for_any = spec.freq == ANY_FREQ
        if is_for_any:  # frequency, season, scaler and transform are those of the data
            fixed = {k: v for k, v in fixed.items() if k not in ("freq", "season", "scaler", "transform")}
        refuse_changes(fixed, spec)
        model = load_model(source, revision=revision, token=token)
        refuse_unknown(self.config, type(model), NeuralForecaster)
        calibration = Calibration.load(source, revision, token)
        if is_for_any:
            model.change(self.config)
        elif self.config or self._asked.context_length is not None:
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
        self._start = Start(KeptModel.of(model), spec)
        if not self._start.is_for_any:
            self._h = self._check_horizon(self._asked.h or spec.h)
            return
        if model.config.head == "quantile":
            freq, season = self._asked.freq, self._asked.season
            self._zero_shot = ZeroShotForecaster(
                model, spec, self.alias, freq=freq, season=season, batch_size=self.batch_size
            )

    def _choose_training(self, model_class: type[ForecastModel]) -> None:
        self.training = merge_training({**DEFAULT_TRAINING, **model_class.default_training}, self._given)

    # What is saved.

    def _saved_spec(self) -> ForecasterSpec:
        assert self.spec is not None
        return replace(
            self.spec,
            alias=self.alias,
            h=self._h if self._h != self.prediction_length else None,
            new_series=self.new_series or "raise",
            pad_short=bool(self.pad_short),
            names=self.names.to_dict(),
            target_scale=self.target_scale.to_dict(),
            licence=self.licence,
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
