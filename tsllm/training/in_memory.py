"""Options of a training in memory, which keeps no checkpoints: what follows from them, and what has no effect."""

from collections.abc import Mapping
from typing import Any

# Of recipes, which keep checkpoints; a training in memory throws them away.
_OF_RECIPES = ("save_strategy", "save_steps", "resume_from_checkpoint", "overwrite_output_dir")


def complete_training(options: Mapping[str, Any], *, validates: bool = True) -> dict[str, Any]:
    """Returns the options of a training in memory: checkpoints follow validation, by steps if `eval_steps` is given.

    Args:
        options: What is asked for, with defaults.
        validates: Whether there is a validation part; without one nothing is evaluated, and the last weights stay.
    """
    kept = dict(options)
    if not validates:
        kept.pop("eval_steps", None)
        return kept | {"eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False}
    if "eval_steps" in kept:
        kept |= {"eval_strategy": "steps", "save_strategy": "steps", "save_steps": kept["eval_steps"]}
    elif str(kept.get("eval_strategy", "epoch")) == "steps":
        kept |= {"save_strategy": "steps", "save_steps": kept.get("logging_steps", 50)}
    return kept


def refuse_idle_training(given: Mapping[str, Any]) -> None:
    """Refuses options that would have no effect on a training in memory.

    Raises:
        ValueError: Naming the option and why.
    """
    for name in _OF_RECIPES:
        if given.get(name) not in (None, False):
            raise ValueError(
                f"{name} has no effect: checkpoints follow validation (eval_steps, eval_strategy) and go once the "
                "best weights are loaded; leave it out, or train by a recipe, which keeps them"
            )
    if "eval_steps" in given and str(given.get("eval_strategy", "steps")) != "steps":
        raise ValueError(
            f"eval_strategy is {str(given['eval_strategy'])!r}, so eval_steps has no effect; leave one of them out"
        )
    if str(given.get("eval_strategy", "")) == "no" and given.get("early_stopping_patience"):
        raise ValueError("eval_strategy is 'no', so early_stopping_patience has no effect; leave one of them out")
    if given.get("max_steps", -1) >= 0 and given.get("num_train_epochs") is not None:
        raise ValueError(
            f"max_steps ({given['max_steps']}) ends training, so num_train_epochs has no effect; leave one of them out"
        )
