"""When the models of a comparison are fitted, and on which steps: sentences that follow from the configuration."""

from collections.abc import Sequence

from tsllm.evaluation.budget import BudgetRule, describe_own_budgets
from tsllm.evaluation.config import CompareConfig
from tsllm.evaluation.findings import join_words
from tsllm.forecasting.model_spec import ModelSpec


def describe_refits(config: CompareConfig) -> str:
    """Says how often models are fitted, in words behind "were fitted"."""
    if isinstance(config.refit, bool):
        return "anew at each window" if config.refit else "once, on the steps before the first cutoff"
    return f"anew at each {config.refit}th window"


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
    chosen += [own] if (own := describe_own_budgets(config.models)) else []
    return " ".join(chosen)


def find_anew(models: Sequence[ModelSpec]) -> list[str]:
    """Names the models that are estimated anew with each forecast, whatever `refit` says of trained ones."""
    return [m.name for m in models if _is_estimated(m)]


def find_once(models: Sequence[ModelSpec]) -> list[str]:
    """Names the statistical models that are estimated when the trained ones are fitted, and then run on."""
    return [m.name for m in models if m.keeps_estimates]


def describe_days(config: CompareConfig) -> str:
    """Says whether trained and statistical models learn from the same steps; empty where there are not both."""
    anew, once = find_anew(config.models), find_once(config.models)
    trained = [m.name for m in config.models if m.is_trainable]
    if not trained or not (anew or once):
        return ""
    held = any(entry.val_size != 0 for entry in config.data) and not _retrains(config.budget)
    windows = max(entry.n_windows for entry in config.data)
    several = windows > 1 or any(entry.split or entry.task for entry in config.data)
    later = [*anew] if several and config.refit is not True else []
    said = []
    if later:
        verb = "learns" if len(later) == 1 else "learn"
        said.append(f"{join_words(later)} {verb} from later steps than the trained models, up to each cutoff.")
    if held:
        said.append("The validation steps, the last ones before the cutoff, teach the trained models no weights.")
    if not said:
        return "Trained and statistical models learn from the same steps."
    rest = [name for name in [*once, *anew] if name not in later]
    if later and rest and not held:
        said.append(f"{join_words([*rest, 'the trained models'])} learn from the same steps.")
    return " ".join(said)


def _retrains(budget: BudgetRule | None) -> bool:
    return budget is not None and budget.retrain


def _is_estimated(spec: ModelSpec) -> bool:
    return (spec.kind == "statistical" and not spec.keeps_estimates) or any(map(_is_estimated, spec.members))
