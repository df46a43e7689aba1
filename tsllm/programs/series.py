"""The programs of the supervised recipes: read, build, train, test, write; and PatchTST's pre-training before that."""

import contextlib
import copy
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from transformers import set_seed
from transformers.utils import SAFE_WEIGHTS_NAME
from transformers.utils import logging as library_logging

from tsllm.backbones.trust import check_json
from tsllm.data.facts import holds, parse_time
from tsllm.data.prepared import PreparedData, Strides, prepare_data
from tsllm.data.scaling import StandardScaler
from tsllm.data.splits import split_frame
from tsllm.data.target import TargetScale
from tsllm.data.task import Asked, TaskError, build_task, load_data
from tsllm.files import lock_folder
from tsllm.hub.spec import ANY_FREQ, ForecasterSpec, check_saved, find_file
from tsllm.models import find_model_class
from tsllm.models.base import COVARIATE_READERS, ForecastModel
from tsllm.programs.artefacts import TrainingRun, describe_run, describe_spec, prepare_output_dir, write_run
from tsllm.programs.told import ContextArguments, tell_parts
from tsllm.training.args import ArgumentsError, DataArguments, ForecastTrainingArguments, ModelArguments
from tsllm.training.build import build_for_data
from tsllm.training.pretraining import PretrainingArguments, PretrainingTrainer, build_pretraining
from tsllm.training.scores import score_seasonal_naive
from tsllm.training.trainer import ForecastTrainer, find_checkpoint
from tsllm.types import ID, TARGET, TIME

PRETRAINING = "pretraining"  # folder of the first stage


def prepare_series(
    model: type[ForecastModel],
    args: DataArguments,
    earlier: ForecasterSpec | None = None,
    pretrained: str | Path | None = None,
    model_config: Mapping[str, Any] | None = None,
) -> PreparedData:
    """Loads, splits, scales and cuts the series that a recipe names.

    Args:
        model: The model that will read them.
        args: What is read and how.
        earlier: Of the artefact that training starts from; its lengths, layout, covariates and padding count, and
            what is asked for must agree with them.
        pretrained: That artefact.
        model_config: Fields of the model's configuration that were given; they may decide whether it reads covariates.

    Raises:
        TaskError: If the arguments do not fit the data or the model.
        FrameError: As `load_frame` and `WindowDataset`.
    """
    asked = args.asked()
    reads = model.uses_covariates  # what was trained before tells by its own covariates
    if earlier is None:
        reads = model.reads_covariates(model_config or {}, named=asked.names_covariates)
    if not reads:
        if asked.names_covariates:
            named = [*(asked.covariates or ()), *(asked.past_covariates or ()), *(asked.static or ())]
            deaf = model.find_deaf_option(model_config or {})
            who = f"the model with {deaf}: {(model_config or {})[deaf]}" if deaf else "the model"
            way = f"{deaf} out" if deaf else f"choose a model that reads them ({COVARIATE_READERS})"
            raise TaskError(f"{who} reads no covariates, but {named} were asked for; leave them out or {way}")
        asked = replace(asked, covariates=(), past_covariates=())
    # A model for every series has no scaler, and reads and forecasts what it is asked for.
    is_for_any = earlier is not None and earlier.freq == ANY_FREQ
    if earlier is not None:
        assert pretrained is not None
        asked = replace(asked, layout=asked.layout or earlier.layout)
        asked = replace(asked, share_covariates=_keep_sharing(asked, earlier, pretrained))
        if not is_for_any:
            asked = _take_lengths(asked, pretrained)
        if asked.covariates is None and asked.past_covariates is None:
            asked = replace(
                asked, covariates=earlier.ahead, past_covariates=earlier.past_covariates, static=earlier.static
            )
    loaded = load_data(args.dataset, asked, data_path=args.data_path, targets=args.targets)
    task = build_task(loaded, asked)
    scale = _choose_scale(args, earlier, pretrained)
    if earlier is not None:
        earlier.check_task(task)
        task = task if is_for_any else replace(task, pads_short=earlier.pad_short)
    scaler: str | StandardScaler = args.scaler
    if earlier is not None and not is_for_any:
        if earlier.scaler["name"] != args.scaler:
            raise TaskError(f"scaler is {args.scaler!r}, but {pretrained} was trained with {earlier.scaler['name']!r}")
        train = scale.forward(split_frame(loaded.df, task.split, task.context_length).train)
        scaler = earlier.continue_scaler(loaded.df, train, [TARGET, *task.covariates, *task.past_covariates])
    data = prepare_data(
        loaded,
        task,
        scaler=scaler,
        strides=Strides(args.train_stride, args.validation_stride, args.test_stride),
        pad_short=task.pads_short,
        time_features=args.time_features,
        target_scale=scale,
    )
    if data.test is None:
        raise TaskError("the split leaves no test part; give it some steps")
    if earlier is not None:
        _refuse_seen(earlier, data)
    return data


def _refuse_seen(earlier: ForecasterSpec, data: PreparedData) -> None:
    """Refuses a test part that the model was trained or chosen on before.

    Raises:
        TaskError: Naming the series and the step.
    """
    for name, group in data.loaded.df.groupby(ID, sort=False):
        times, values = group[TIME].to_numpy(), group[TARGET].to_numpy(dtype=np.float64)
        end = times[data.borders[name].validation - 1]
        for read in earlier.data.find(name):
            if holds(times, values, read) and parse_time(read.last, times) > end:
                raise TaskError(
                    f"the saved model was trained or chosen on series {name!r} up to {read.last}, but its test part "
                    f"begins after {end}; give a split whose test part is later, or start from an earlier model"
                )


def _keep_sharing(asked: Asked, earlier: ForecasterSpec, pretrained: str | Path) -> bool:
    """Returns whether series share their covariates, as in the model that training starts from.

    Raises:
        TaskError: If that was asked for and the model does not.
    """
    if asked.share_covariates and not earlier.share_covariates:
        raise TaskError(f"share_covariates is true, but {pretrained} was trained without; leave it out")
    return earlier.share_covariates


def _choose_scale(args: DataArguments, earlier: ForecasterSpec | None, pretrained: str | Path | None) -> TargetScale:
    """Returns the scale of the target: as asked for, else as in the model that training starts from.

    Raises:
        TaskError: If another transform was asked for than that model learned.
    """
    saved = TargetScale() if earlier is None else TargetScale(**earlier.target_scale)
    scale = args.target_scale(saved.to_dict())
    if earlier is not None and scale.transform != saved.transform:
        raise TaskError(
            f"transform is {scale.transform!r}, but {pretrained} was trained with {saved.transform!r}; leave it out, "
            "or train a new model"
        )
    return scale


def _take_lengths(asked: Asked, pretrained: str | Path) -> Asked:
    """Returns what is asked with the lengths of the model that training starts from.

    Raises:
        TaskError: If others were asked for.
    """
    path = find_file(pretrained, "config.json")
    config = {} if path is None else check_json(path) or {}
    given = {"context_length": asked.context_length, "prediction_length": asked.h}
    for name, length in given.items():
        if length is not None and length != config.get(name, length):
            raise TaskError(
                f"{name} is {length}, but {pretrained} was trained with {config[name]}; leave it out, or train a new "
                "model"
            )
    known = {name: config.get(name, length) for name, length in given.items()}
    return replace(asked, context_length=known["context_length"], h=known["prediction_length"])


def run_supervised(
    model_args: ModelArguments,
    data_args: DataArguments,
    args: ForecastTrainingArguments,
    recipe: str = "",
    score_start: bool = True,
    told: ContextArguments | None = None,
) -> TrainingRun:
    """Trains a model on a data set, tests it once and writes the artefact.

    Args:
        model_args: Which model.
        data_args: Which data.
        args: How it is trained; `max_steps: 0` tests without training.
        recipe: Name of the recipe, for the model card.
        score_start: Whether a `pretrained` start is tested too, before the first step.
        told: Texts that are read in training and test; None = none.

    Raises:
        FrameError: If the texts do not fit the data, or do not say when they were published.
        ValueError: If the arguments do not fit one another.
        FileExistsError: If the output folder holds another run.
    """
    library_logging.enable_progress_bar()
    model_class = find_model_class(model_args.model)
    with hold_output_dir(args) as folder:
        earlier = read_start(model_args.pretrained)
        data = prepare_series(model_class, data_args, earlier, model_args.pretrained, model_args.model_config)
        # The model's initial weights and the order of batches follow from the seed alone.
        set_seed(args.seed)
        model = build_for_data(model_args.model, model_args.model_config, data, pretrained=model_args.pretrained)
        if told is not None:
            tell_parts(model, data, told, data_args.day_first)
        trainer = ForecastTrainer(model, args, data.train, data.validation, data.scaler)
        start = None if model_args.pretrained is None or not score_start else _score(trainer, data.test, "start")
        trainer.train(args.resume_from_checkpoint)
        run = finish_series(trainer, data, model_args.model, folder, earlier, {"start": start})
        write_run(run, trainer, recipe)
    return run


def finish_series(
    trainer: ForecastTrainer,
    data: PreparedData,
    name: str,
    folder: Path,
    earlier: ForecasterSpec | None,
    more: dict[str, Any],
) -> TrainingRun:
    """Tests a trained model once and puts together what is told of the run.

    Args:
        trainer: After training.
        data: What it was trained on.
        name: Of the model.
        folder: Output folder.
        earlier: Of the artefact that training started from; None = fresh weights.
        more: Further entries of `metrics.json`.
    """
    began = time.monotonic()
    test = _score(trainer, data.test, "test")
    model = trainer.accelerator.unwrap_model(trainer.model)
    spec = describe_spec(data, type(model).__name__, pad_short=data.task.pads_short)
    assert data.test is not None
    metrics = {
        "test": test,
        "validation": _score(trainer, data.validation, "validation") if data.validation is not None else None,
        "seasonal_naive": score_seasonal_naive(data.test, spec.season, data.scaler),
        "scaled": spec.scaler["name"] != "none",
        "transform": data.target_scale.transform,
        "test_seconds": round(time.monotonic() - began, 3),
    }
    return TrainingRun(
        model=model,
        spec=spec if earlier is None else _go_on(spec, earlier, data),
        data=data,
        metrics=metrics | describe_run(trainer, data, name) | more,
        history=trainer.state.log_history,
        output_dir=folder,
        is_main=trainer.is_world_process_zero(),
    )


def _go_on(spec: ForecasterSpec, earlier: ForecasterSpec, data: PreparedData) -> ForecasterSpec:
    """Returns the description with what the artefact that training started from was trained on and told to do."""
    return replace(
        spec,
        data=earlier.data.extend(data.describe()),
        alias=earlier.alias,
        h=earlier.h,
        new_series=earlier.new_series,
        licence=earlier.licence,
    )


@contextlib.contextmanager
def hold_output_dir(args: Any) -> Any:
    """Prepares the output folder and holds it against a second run until this one has ended.

    Raises:
        FileExistsError: If it holds checkpoints of another run and nobody said what to do with them.
        BusyFolderError: If another run writes into it.
    """
    resume = bool(args.resume_from_checkpoint)
    folder = Path(args.output_dir or ".")
    with lock_folder(folder) if args.should_save else contextlib.nullcontext():
        with args.main_process_first(desc="preparing the output folder"):
            prepare_output_dir(folder, resume=resume or not args.should_save, overwrite=args.overwrite_output_dir)
        yield folder


def read_start(pretrained: str | Path | None) -> ForecasterSpec | None:
    """Returns the description of the artefact that training starts from; None if it is none of a forecaster.

    Raises:
        FileNotFoundError: If there is no such folder.
    """
    if pretrained is None:
        return None
    check_saved(str(pretrained))
    try:
        return ForecasterSpec.load(pretrained)
    except OSError:
        return None  # an encoder that was only pre-trained


def run_pretraining(
    pretraining: PretrainingArguments,
    model_args: ModelArguments,
    data_args: DataArguments,
    args: ForecastTrainingArguments,
    recipe: str = "",
) -> TrainingRun:
    """Pre-trains the encoder into `<output_dir>/pretraining`, then trains and tests the forecaster in `output_dir`.

    With `resume_from_checkpoint` a finished pre-training is used as it is, an unfinished one goes on.

    Raises:
        ArgumentsError: If the model is not PatchTST, or the arguments do not fit one another.
        FileExistsError: If the output folder holds another run.
    """
    if model_args.model != "patchtst" or model_args.pretrained:
        raise ArgumentsError(
            f"this recipe pre-trains patchtst from scratch, got model {model_args.model!r} and pretrained "
            f"{model_args.pretrained!r}; use train_native for these"
        )
    folder = Path(args.output_dir or ".") / PRETRAINING
    resume = bool(args.resume_from_checkpoint)
    if not (resume and (folder / SAFE_WEIGHTS_NAME).is_file()):
        _pretrain(pretraining, model_args, data_args, args, folder)
    forecaster_args = args
    if resume and not _has_checkpoint(args):
        forecaster_args = copy.copy(args)
        forecaster_args.resume_from_checkpoint = None
    tuned = ModelArguments(model="patchtst", model_config=model_args.model_config, pretrained=str(folder))
    # Its head is new, so a score of the start would say nothing.
    return run_supervised(tuned, data_args, forecaster_args, recipe, score_start=False)


def _pretrain(
    pretraining: PretrainingArguments,
    model_args: ModelArguments,
    data_args: DataArguments,
    args: ForecastTrainingArguments,
    folder: Path,
) -> None:
    """Pre-trains and writes the model with the best validation loss."""
    stage = copy.copy(args)
    stage.output_dir = str(folder)
    stage.num_train_epochs = pretraining.pretraining_epochs
    stage.learning_rate = pretraining.pretraining_learning_rate or args.learning_rate
    stage.resume_from_checkpoint = bool(args.resume_from_checkpoint) and _has_checkpoint(stage)
    with args.main_process_first(desc="preparing the output folder"):
        prepare_output_dir(
            folder,
            resume=bool(args.resume_from_checkpoint) or not args.should_save,
            overwrite=args.overwrite_output_dir,
        )
    data = prepare_series(find_model_class(model_args.model), data_args, model_config=model_args.model_config)
    set_seed(args.seed)
    model = build_pretraining(model_args.model_config, data, pretraining.mask_ratio)
    trainer = PretrainingTrainer(model, stage, data.train, data.validation)
    trainer.train(stage.resume_from_checkpoint)
    trainer.save_model(str(folder))


def _has_checkpoint(args: ForecastTrainingArguments) -> bool:
    try:
        find_checkpoint(args.output_dir or ".", args.world_size)
    except FileNotFoundError:
        return False
    return True


def _score(trainer: ForecastTrainer, windows: Any, prefix: str) -> dict[str, float]:
    found = trainer.evaluate(windows, metric_key_prefix=prefix)
    names = ("runtime", "samples_per_second", "steps_per_second", "model_preparation_time")
    scores = {k.removeprefix(f"{prefix}_"): v for k, v in found.items() if k.startswith(f"{prefix}_")}
    return {k: v for k, v in scores.items() if k not in names}
