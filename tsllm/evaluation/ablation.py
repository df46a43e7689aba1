"""Does the language model help? The reprogrammed model beside itself without one, with equal budgets.

Tan et al. (2024), "Are Language Models Actually Useful for Time Series Forecasting?", replace the language model by
nothing, one attention layer or one transformer block. Here also: untrained weights, weights with the pretrained
spectrum only, no prompt, prototypes and history shuffled when forecasting.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import torch

from tsllm.evaluation.findings import describe_help, read_rows
from tsllm.forecasting.model_spec import ModelSpec
from tsllm.forecasting.neural import NeuralForecaster
from tsllm.models.timellm import TimeLLM
from tsllm.models.timellm.config import HORIZON, split_reader
from tsllm.types import Batch

# Variant -> (what it changes in the configuration, what it is).
VARIANTS: dict[str, tuple[dict[str, Any], str]] = {
    "noLLM": ({"reader": "none", "prompt": False}, "no language model: patches go straight to the head"),
    "attention": ({"reader": "attention", "prompt": False}, "one trained attention layer in its place"),
    "block": ({"reader": "block", "prompt": False}, "one trained transformer block in its place"),
    "random": ({"backbone_weights": "random"}, "the same architecture with untrained weights"),
    "spectrum": ({"backbone_weights": "spectrum"}, "random weights with the pretrained singular values"),
    "noPrompt": ({"prompt": False}, "the language model without a prompt"),
}
# Variant -> (kind of perturbation, what it is); the trained model itself, disturbed when it forecasts.
PERTURBATIONS: dict[str, tuple[str, str]] = {
    "shuffledPrototypes": ("prototypes", "each prototype's key answers with another one's value"),
    "shuffledInput": ("input", "the history's steps in random order"),
}


def build_ablations(spec: ModelSpec) -> list[ModelSpec]:
    """Returns the variants of a reprogrammed model, with its training budget.

    Raises:
        ValueError: If the model is not `timellm`.
    """
    if spec.model != "timellm":
        raise ValueError(f"only timellm has a language model to take away, {spec.name} is {spec.model!r}")
    made = []
    for variant, (changes, _) in VARIANTS.items():
        options = {k: v for k, v in spec.options.items() if changes.get("prompt", True) or not k.startswith("prompt")}
        if "reader" in changes and _reads_horizon(spec):  # only the language model is taken away
            changes = changes | {"reader": f"{HORIZON}-{changes['reader']}"}
        named: dict[str, Any] = {"alias": f"{spec.name}-{variant}", "variant": variant, "variant_of": spec.name}
        made.append(replace(spec, options=options | changes, **named))
    for variant, (kind, _) in PERTURBATIONS.items():
        named = {"alias": f"{spec.name}-{variant}", "variant": variant, "variant_of": spec.name}
        made.append(replace(spec, perturb=kind, **named))
    return made


def _reads_horizon(spec: ModelSpec) -> bool:
    """Tells whether a model has horizon queries, by its reader or because it is to read covariates."""
    named = str(spec.options.get("reader", ""))
    return split_reader(named)[1] if named else bool(spec.covariates)


def perturb_forecaster(forecaster: NeuralForecaster, kind: str, seed: int) -> NeuralForecaster:
    """Disturbs a trained forecaster in place: its history (`input`) or keys against values (`prototypes`)."""
    if kind == "input":
        forecaster.perturb = InputShuffler(seed)
        return forecaster
    if not isinstance(forecaster.model, TimeLLM):
        raise ValueError(f"{forecaster.alias} has no prototypes to shuffle")
    reprogramming: Any = forecaster.model.reprogramming
    project, generator = reprogramming.project, torch.Generator().manual_seed(seed)

    def project_shuffled(prototypes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        keys, values = project(prototypes)  # [h, S, w] each
        order = torch.randperm(values.shape[-2], generator=generator.manual_seed(seed)).to(values.device)
        return keys, values.index_select(-2, order)

    reprogramming.project = project_shuffled
    return forecaster


class InputShuffler:
    """Puts the steps of each history into random order, the same one for all channels of a window.

    Args:
        seed: Of the orders.
    """

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, batch: Batch) -> Batch:
        """Returns the batch with each window's steps in an order of its own."""
        past = batch["past_values"]  # [B, L, C]
        order = torch.rand(past.shape[:2], generator=self.generator).argsort(1)[..., None]  # [B, L, 1]
        changed = dict(batch)
        for name in ("past_values", "past_observed_mask"):
            value: torch.Tensor = batch[name]  # type: ignore[literal-required]
            changed[name] = value.gather(1, order.expand_as(value))
        return Batch(**changed)  # type: ignore[typeddict-item]


def explain_variant(spec: ModelSpec) -> str:
    """Returns what a variant is; one of a user's own is explained by the name of its variant alone."""
    return (VARIANTS | PERTURBATIONS).get(spec.variant, ({}, spec.variant))[1]


def is_without_llm(spec: ModelSpec) -> bool:
    """Tells whether a model has no pretrained language model: the question is asked of these variants."""
    return not spec.perturb and (spec.model != "timellm" or _lacks_llm(spec.options))


def _lacks_llm(options: Mapping[str, Any]) -> bool:
    """Tells whether these options of `timellm` leave no pretrained language model."""
    reads = split_reader(str(options.get("reader", "llm")))[0] == "llm"
    return not reads or options.get("backbone_weights", "pretrained") != "pretrained"


def describe_verdict(
    model: str, pairs: pd.DataFrame, variants: Sequence[ModelSpec], unconverged: Sequence[str] = ()
) -> list[str]:
    """Answers whether the pretrained language model helps, as far as the paired tests go.

    Args:
        model: Alias of the whole model.
        pairs: `compare_to(losses, model)`: the variants against the whole model; "worse" = the whole one is better.
        variants: The models that are variants of it. Those of `VARIANTS` without a pretrained language model that are
            not among them count as not run, so that "every variant" is never said of some.
        unconverged: Models that did not converge.
    """
    specs = {spec.name: spec for spec in variants}
    rows = [r for r in read_rows(pairs) if r["model"] in specs and is_without_llm(specs[r["model"]])]
    explained = {r["model"]: explain_variant(specs[r["model"]]) for r in rows}
    not_run = [spec.name for spec in variants if is_without_llm(spec) and spec.name not in explained]
    known = {spec.variant for spec in variants}
    absent = [name for name, (changes, _) in VARIANTS.items() if _lacks_llm(changes) and name not in known]
    not_run += [f"{model}-{name}" for name in absent]
    return describe_help(model, rows, explained, not_run, unconverged)
