"""When the models of a comparison are fitted, and on which steps: sentences that follow from the configuration."""

from collections.abc import Sequence
from typing import NamedTuple

from tsllm.evaluation.budget import BudgetRule, describe_own_budgets
from tsllm.evaluation.config import CompareConfig
from tsllm.evaluation.findings import join_words
from tsllm.evaluation.methods import EACH_WINDOW
from tsllm.forecasting.model_spec import ModelSpec


class Cuts(NamedTuple):
    """One data set.

    Attributes:
        windows: How many cutoffs.
        held: Whether steps before the first are held for validation.
    """

    windows: int
    held: bool


def describe_refits(config: CompareConfig) -> str:
    """Says how often models are fitted, in words behind "were fitted"."""
    if config.refit is False:
        return "once, on the steps before the first cutoff"
    every = int(config.refit)
    if every == 1:
        return EACH_WINDOW
    ending = "th" if every // 10 % 10 == 1 else {1: "st", 2: "nd", 3: "rd"}.get(every % 10, "th")
    return f"anew at each {every}{ending} window"


def describe_selection(config: CompareConfig) -> str:
    """Says how settings and lengths of training were chosen; empty if as given."""
    chosen = []
    if config.look_backs:
        lengths = join_words([str(n) for n in config.look_backs])
        chosen.append(f"Look-back of every trained model: the best on validation among {lengths} steps.")
    if config.budget is not None:
        chosen.append(config.budget.describe())
    if config.tune is not None:
        chosen.append(config.tune.describe())
    if config.max_seconds:
        chosen.append(f"Training budget: {config.max_seconds:g} seconds for each model and seed.")
    ruled = config.budget is not None or config.tune is not None
    chosen += [own] if (own := describe_own_budgets(config.models, ruled)) else []
    return " ".join(chosen)


def find_anew(models: Sequence[ModelSpec]) -> list[str]:
    """Names the models that are estimated anew with each forecast, whatever `refit` says of trained ones."""
    return [name for m in models for name in _name_anew(m)]


def find_once(models: Sequence[ModelSpec]) -> list[str]:
    """Names the statistical models that are estimated when the trained ones are fitted, and then run on."""
    named = []
    for spec in models:
        members = [f"{name} in {spec.name}" for name in find_once(spec.members)]
        named += members or ([spec.name] if spec.keeps_estimates else [])
    return named


def describe_days(config: CompareConfig, cuts: Sequence[Cuts]) -> str:
    """Says whether trained and statistical models learn from the same steps; empty where there are not both.

    Args:
        config: The comparison.
        cuts: Of its data sets.
    """
    anew, once = find_anew(config.models), find_once(config.models)
    trained = [m for m in config.models if m.is_trainable]
    if not trained or not (anew or once):
        return ""
    several = [cut.windows > 1 for cut in cuts]
    later = anew if any(several) and describe_refits(config) != EACH_WINDOW else []
    kept = [m.name for m in trained if _holds(m, config.budget)] if any(cut.held for cut in cuts) else []
    said = []
    if later:
        verb = "learns" if len(later) == 1 else "learn"
        learn = f"{join_words(later)} {verb} from later steps than the trained models, up to each cutoff."
        said.append(learn if all(several) else f"Where there are several cutoffs, {learn}")
    if kept:
        whom = "the trained models" if len(kept) == len(trained) else join_words(kept)
        said.append(f"The validation steps, the last ones before the cutoff, teach {whom} no weights.")
    if not said:
        return "Trained and statistical models learn from the same steps."
    rest = [name for name in [*once, *anew] if name not in later]
    if later and rest and not kept:
        said.append(f"{join_words([*rest, 'the trained models'])} learn from the same steps.")
    return " ".join(said)


def _holds(spec: ModelSpec, budget: BudgetRule | None) -> bool:
    """Tells whether a trained model keeps its validation steps out of training."""
    retrained = spec.kind == "native" and budget is not None and budget.retrain
    return not retrained and spec.options.get("val_size") != 0


def _name_anew(spec: ModelSpec) -> list[str]:
    if spec.kind == "statistical":
        return [] if spec.keeps_estimates else [spec.name]
    members = find_anew(spec.members)
    if spec.is_seeded or spec.keeps_estimates:  # it is fitted once itself
        return [f"{name} in {spec.name}" for name in members]
    return [spec.name] if members else []
