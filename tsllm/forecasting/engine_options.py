"""Options of models that another package builds, checked before anything runs."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from tsllm.near import find_near


def check_engine_options(model_class: type[Any], options: Mapping[str, Any], decided: Sequence[str]) -> None:
    """Refuses options that a model of neuralforecast does not take; it would tell so only when it is trained.

    Args:
        model_class: Its class; what it takes beyond its own arguments goes to the trainer of pytorch_lightning.
        options: Name -> value.
        decided: Arguments that the forecaster decides, which are no options.

    Raises:
        ValueError: Naming the option, and the nearest ones that there are.
    """
    parameters = inspect.signature(model_class).parameters
    known = {name for name, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        try:
            from pytorch_lightning import Trainer
        except ImportError:  # then the package cannot be there either, and says so itself
            return
        known |= set(inspect.signature(Trainer).parameters)
    known -= set(decided)
    for name in options:
        if name in decided:
            raise ValueError(f"{model_class.__name__}: {name} is no option here; the data and the entry decide it")
        if name not in known:
            near = find_near(name, known)
            hint = f"did you mean {', '.join(near)}?" if near else f"it takes {', '.join(sorted(known))}"
            raise ValueError(f"{model_class.__name__} has no option {name!r}; {hint}")
