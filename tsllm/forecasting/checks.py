"""Checks of an entry of the roster before weights or data are loaded."""

import inspect
import json
from dataclasses import fields, replace
from typing import Any

import torch

from tsllm.backbones.pretrained import UnreachableError, check_pretrained
from tsllm.data.task import ForecastTask
from tsllm.forecasting.base import check_count
from tsllm.forecasting.builders import build_single, check_own, take_scale
from tsllm.forecasting.loading import check_hub_options
from tsllm.forecasting.model_spec import ModelSpec, reads_texts
from tsllm.forecasting.readers import check_reader
from tsllm.forecasting.saved import find_base, find_members
from tsllm.hub.ensemble import EnsembleSpec
from tsllm.hub.spec import ANY_FREQ, ForecasterSpec, check_saved, find_file
from tsllm.hub.told import BASE, CONTEXT_FILE, ITSELF, READS_ITSELF, RULES
from tsllm.models import find_model_class
from tsllm.text.settings import SETTINGS


def check_forecaster(spec: ModelSpec, task: ForecastTask) -> None:
    """Checks an entry for a task, as far as that goes without loading weights or data.

    Raises:
        ValueError: If it could not be built, or its configuration does not fit the task.
        FileNotFoundError: If its reader's folder holds none.
    """
    spec = take_scale(spec)[0]
    if spec.reader not in ("", ITSELF):
        check_reader(spec.reader)
    if spec.kind == "saved":
        check_saved(spec.source)
    if spec.reader == ITSELF and not reads_texts(spec):
        raise ValueError(f"reader is {ITSELF}, but {spec.model} reads no texts as it is; {_advise_reader(spec)}")
    if spec.kind == "saved":
        _check_saved_for(spec, task)
        return
    if spec.kind == "few-shot":
        check_saved(spec.source)
        start = ForecasterSpec.load(spec.source, spec.options.get("revision"), spec.options.get("token"))
        if start.freq != ANY_FREQ:
            _check_covariates(spec, start, task)
    if spec.kind == "own":
        check_own(spec.model, spec.options)
        return
    if spec.kind == "text":
        _check_text(spec)
        return
    if spec.kind == "ensemble":
        check_ensemble(spec, task)
        return
    if spec.kind == "chronos":
        check_pretrained(spec.source, "chronos")
        check_device(spec.options.get("device"))
        return  # it loads what it is made of
    build_single(replace(spec, reader=""), task)
    if spec.kind == "native":
        given = {k: v for k, v in spec.options.items() if k in find_model_class(spec.model).config_class.own_fields()}
        context = given.pop("context_length", task.context_length)
        from tsllm.training.build import check_model_config

        check_model_config(spec.model, given, context, task.h, named=bool(spec.covariates))


def is_absent(spec: ModelSpec, error: Exception) -> bool:
    """Tells whether an entry is right but cannot run here, so that others run and it counts as failed.

    Its package is not installed, or it is a model of others whose weights cannot be had.

    Args:
        spec: The entry.
        error: What `check_forecaster` raised.
    """
    return isinstance(error, ImportError) or (spec.kind == "chronos" and isinstance(error, UnreachableError))


def _advise_reader(spec: ModelSpec) -> str:
    """Says what would have the texts of a model read that reads none itself."""
    if spec.kind == "native":
        return f"give it options: {READS_ITSELF}, or take reader: {RULES}"
    if spec.kind in ("saved", "few-shot"):
        return f"take reader: {RULES}, or train one with {READS_ITSELF}"
    return f"take reader: {RULES}"


def _check_saved_for(spec: ModelSpec, task: ForecastTask) -> None:
    """Checks a saved model's description against a task.

    Raises:
        ValueError: If it is of another frequency, forecasts fewer steps, or reads covariates that are not named.
        OSError: If it has no description.
    """
    revision = spec.options.get("revision")
    check_hub_options(spec.source, revision, spec.options.get("token"))
    if find_file(spec.source, CONTEXT_FILE, revision) is not None:
        if spec.reader:
            raise ValueError(f"{spec.source} brings its own reader; leave `reader` out, or name {spec.source}/{BASE}")
        from tsllm.text.loading import fetch_folder

        base = find_base(fetch_folder(spec.source, revision))
        options = {name: value for name, value in spec.options.items() if name not in ("revision", "token")}
        _check_saved_for(replace(spec, model=base, options=options), task)
        return
    if find_file(spec.source, SETTINGS, revision) is not None:
        return
    several = EnsembleSpec.find(spec.source, revision)
    if several is not None:
        options = {name: value for name, value in spec.options.items() if name not in ("revision", "token")}
        for member in find_members(spec.source, several, revision):
            _check_saved_for(replace(spec, model=member, options=options), task)
        return
    saved = ForecasterSpec.load(spec.source, revision)
    known: tuple[str, ...] = ("revision", "token", "device", "batch_size")
    known += ("freq", "season") if saved.freq == ANY_FREQ else ("batch_invariant", "new_series", "pad_short")
    idle = sorted(set(spec.options) - set(known))
    if idle:
        raise ValueError(f"option {idle[0]!r} has no effect on a saved model that is used as it is; it takes {known}")
    if "batch_size" in spec.options:
        check_count("batch_size", spec.options["batch_size"])
    if spec.options.get("new_series") not in (None, "raise", "history"):
        raise ValueError(f"new_series is {spec.options['new_series']!r}; choose 'raise' or 'history'")
    if spec.options.get("new_series") == "history" and saved.layout == "multivariate":
        raise ValueError("new_series has no effect: its series are the channels of one sample; leave it out")
    for name in ("batch_invariant", "pad_short"):
        if not isinstance(spec.options.get(name, False), bool):
            raise ValueError(f"{name} is {spec.options[name]!r}; it must be true or false")
    check_device(spec.options.get("device"))
    if saved.freq == ANY_FREQ:
        return
    if saved.freq != task.freq:
        raise ValueError(f"it was trained on freq {saved.freq!r}, the data have {task.freq!r}; leave it out")
    config = find_file(spec.source, "config.json", revision)
    longest = None if config is None else json.loads(config.read_text(encoding="utf-8")).get("prediction_length")
    if longest is not None and longest < task.h:
        raise ValueError(f"it forecasts 1 to {longest} steps, the comparison asks for {task.h}; train with a larger h")
    _check_covariates(spec, saved, task)


def _check_covariates(spec: ModelSpec, saved: ForecasterSpec, task: ForecastTask) -> None:
    """Checks that a saved model gets the covariates that it reads, and that no others are asked for.

    Raises:
        ValueError: Naming them.
    """
    reads = [*saved.covariates, *saved.past_covariates]
    if spec.covariates is not None and spec.covariates != bool(reads):
        raise ValueError(
            f"covariates is {spec.covariates}, but a saved model reads what it was trained with "
            f"({', '.join(reads) or 'no covariates'}); leave covariates out of its entry"
        )
    offered = {*task.covariates, *task.past_covariates}
    lacking = [name for name in (*saved.covariates, *saved.past_covariates) if name not in offered]
    if lacking:
        raise ValueError(
            f"it reads the covariates {lacking}, which are not named for {task.name or 'the data'}; name them "
            "(--covariates, --past-covariates on the command line; covariates: [...], past_covariates: [...] of a "
            "data entry in a file)"
        )


def check_device(device: Any) -> None:
    """Refuses what is no device of this machine; None = not said.

    Raises:
        ValueError: Naming it.
    """
    if device is None:
        return
    try:
        torch.empty(0, device=device)
    except (RuntimeError, TypeError, AssertionError) as error:
        said = str(error).splitlines()[0]
        raise ValueError(f"device is {device!r}, which cannot be used here ({said}); cpu can") from error


def _check_text(spec: ModelSpec) -> None:
    """Checks the options of a text model before its language model is loaded.

    Raises:
        ValueError: If an option is unknown, the language model is a folder that is not there, or vLLM cannot do it.
        ImportError: If vLLM is asked for and not installed.
    """
    from tsllm.forecasting.text import TextForecaster
    from tsllm.text.generate import SamplingOptions
    from tsllm.text.served import TRANSFORMERS, VLLM, check_engine

    known = {f.name for f in fields(SamplingOptions)} | {"language_model", "adapter", "revision", "device", "engine"}
    known |= set(inspect.signature(TextForecaster).parameters) - {"model", "tokenizer", "h", "options", "facts"}
    unknown = sorted(set(spec.options) - known)
    if unknown:
        raise ValueError(f"text has no option {unknown[0]!r}; it has {', '.join(sorted(known))}")
    engine, constrained = spec.options.get("engine", TRANSFORMERS), spec.options.get("constrained", True)
    check_engine(engine, constrained=constrained, adapter=spec.options.get("adapter"))
    if engine == VLLM and "device" in spec.options:
        raise ValueError("device has no effect with engine: vllm, which chooses its own; leave it out")
    for name in ("language_model", "adapter"):
        if spec.options.get(name):
            check_pretrained(str(spec.options[name]), name)
    check_device(spec.options.get("device"))


def check_ensemble(spec: ModelSpec, task: ForecastTask) -> None:
    """Checks an ensemble and each of its members.

    Raises:
        ValueError: If it has no members, an unknown option, or a member that could not be built.
    """
    if not spec.members:
        raise ValueError("an ensemble has members: ensemble:AutoETS+dlinear, or options: {members: [A, B]}")
    known = {"members", "weights", "n_windows"}
    unknown = sorted(set(spec.options) - known)
    if unknown:
        raise ValueError(f"ensemble has no option {unknown[0]!r}; it has {', '.join(sorted(known))}")
    names = [member.name for member in spec.members]
    doubled = [name for name in names if names.count(name) > 1]
    if doubled:
        raise ValueError(f"two members have the alias {doubled[0]!r}; give each its own, or name it once")
    for member in spec.members:
        check_forecaster(member, task)
