"""What a forecaster refuses before it loads or trains: options unknown, without effect, or fixed by an artefact."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tsllm.data.frequency import normalize_freq
from tsllm.data.target import TargetScale
from tsllm.hub.spec import ForecasterSpec, check_saved
from tsllm.models import find_model_class
from tsllm.models.base import ForecastModel
from tsllm.near import find_near


def check_source(source: str) -> None:
    """Refuses what is neither a model's name nor could be an artefact."""
    if not (Path(source).is_dir() or "/" in source):
        find_model_class(source)  # raises with the nearest names
    check_saved(source)


def refuse_unknown(
    options: Mapping[str, Any], model: type[ForecastModel], forecaster: type[Any], saved: bool = True
) -> None:
    """Refuses options that neither the constructor nor the model's configuration has.

    Args:
        options: What was given.
        model: The class of the model.
        forecaster: Whose constructor it is.
        saved: Whether the model was saved before, for the message.

    Raises:
        ValueError: With the nearest name.
    """
    named = [name for name, p in inspect.signature(forecaster).parameters.items() if p.kind is p.KEYWORD_ONLY]
    known = ["h", *named, *sorted(model.config_class.own_fields())]
    for name in options:
        if name not in known:
            near = find_near(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
            raise ValueError(f"unknown option {name!r} of {'a saved ' if saved else ''}{model.__name__}; {hint}")


def refuse_idle(
    training: Mapping[str, Any],
    val_size: int | None,
    max_seconds: float | None,
    fine_tune: str | None = None,
    train_share: float = 1.0,
) -> None:
    """Refuses options of a training where a saved model is given new history alone.

    Raises:
        ValueError: Naming the option that would have no effect.
    """
    if training.get("max_steps") != 0 and fine_tune != "none":
        return
    kept = ("seed",) if fine_tune == "none" else ("max_steps", "seed")
    idle = [name for name in training if name not in kept]
    idle += [name for name, value in (("val_size", val_size), ("max_seconds", max_seconds)) if value is not None]
    idle += ["train_share"] if train_share != 1 else []
    if idle:
        why = "fine_tune is 'none'" if fine_tune == "none" else "max_steps is 0"
        raise ValueError(f"{why}, so nothing is trained and {idle[0]} has no effect; leave one of them out")


def refuse_unadapted(fine_tune: str | None, changes: Mapping[str, Any]) -> None:
    """Refuses to adapt a language model that training then does not change.

    Raises:
        ValueError: Naming the option that would have no effect.
    """
    idle = [name for name in ("backbone_mode", "lora") if name in changes]
    if fine_tune in ("head", "none") and idle:
        raise ValueError(
            f"fine_tune is {fine_tune!r}, so the language model is not trained and {idle[0]} has no effect; leave one "
            "of them out"
        )


# What says when, how or by what a model is validated; 0, False and "no" ask for nothing.
OF_VALIDATION = (
    "early_stopping_patience",
    "early_stopping_threshold",
    "eval_steps",
    "eval_strategy",
    "eval_delay",
    "eval_on_start",
    "per_device_eval_batch_size",
    "load_best_model_at_end",
    "metric_for_best_model",
    "greater_is_better",
)


def refuse_unvalidated(training: Mapping[str, Any], val_size: int | None) -> None:
    """Refuses options of validation where nothing is validated.

    Raises:
        ValueError: Naming the option that would have no effect.
    """
    if val_size != 0:
        return
    idle = [name for name in OF_VALIDATION if training.get(name) and str(training[name]) != "no"]
    if idle:
        raise ValueError(f"val_size is 0, so nothing is validated and {idle[0]} has no effect; leave one of them out")


def refuse_changes(fixed: dict[str, Any], spec: ForecasterSpec) -> None:
    """Refuses options that an artefact fixes, unless they say what it says.

    Raises:
        ValueError: Naming the option, the artefact's value and the way out.
    """
    for name, value in fixed.items():
        if value is None:
            continue
        saved: Any
        if name == "transform":
            saved = TargetScale(**spec.target_scale).transform
        else:
            saved = spec.scaler["name"] if name == "scaler" else getattr(spec, name)
        saved = list(saved) if name == "static" else saved
        given = normalize_freq(value) if name == "freq" else list(value) if isinstance(value, (list, tuple)) else value
        if given != saved and not (name == "layout" and value == "auto"):
            raise ValueError(
                f"{name} is fixed by the artefact ({saved!r}) and cannot be {value!r}; train a new model, or leave "
                f"{name} out"
            )
