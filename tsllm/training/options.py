"""Training options before there is a training: checked and merged without the libraries that train."""

from collections.abc import Mapping
from typing import Any

# What a first call gets: some minutes on two cores, stopped early by the validation part.
DEFAULT_TRAINING: dict[str, Any] = {
    "max_steps": 1500,
    "learning_rate": 1e-3,
    "lr_scheduler_type": "cosine",
    "eval_steps": 50,
    "early_stopping_patience": 4,
    "seed": 0,
}


def check_options(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Returns training options as `check_training` does; without any, nothing is imported.

    Raises:
        ArgumentsError: As `check_training`.
    """
    if options is None or options == {}:
        return {}
    from tsllm.training.args import check_training

    return check_training(options)


def merge_training(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the defaults changed by what was given, where it is not overruled by a default of another name.

    Epochs that were asked for take the default number of steps away, and a rhythm of evaluation the default steps.
    """
    kept = dict(defaults)
    if "num_train_epochs" in given and "max_steps" not in given:
        kept.pop("max_steps", None)
    if str(given.get("eval_strategy", "steps")) != "steps" and "eval_steps" not in given:
        kept.pop("eval_steps", None)
    return kept | dict(given)
