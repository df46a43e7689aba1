"""Guards against knowing the answers: saved models trained on test windows, pretrained models that read them."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import pandas as pd

from tsllm.evaluation.config import ModelSpec
from tsllm.evaluation.saved import find_pretrained_base
from tsllm.types import CUTOFF, ID, TARGET, TIME

# Start of a model's name -> when its pretraining data end. A series that ends before may be among them.
PRETRAINING_ENDS = {
    "smollm2": "2024-11",
    "huggingfacetb/smollm2": "2024-11",
    "openai-community/gpt2": "2017-12",
    "gpt2": "2017-12",
    "huggyllama/llama": "2022-08",
    "meta-llama/llama-2": "2022-09",
    "meta-llama/llama-3": "2023-12",
    "qwen/qwen2": "2024-06",
    "amazon/chronos-t5": "2024-03",
    "amazon/chronos-bolt": "2024-11",
    "amazon/chronos-2": "2025-10",
}
# Kind of model -> how it would have met the series.
_MEETING = {
    "native": "the texts may contain them, as text and not as this model reads them",
    "saved": "the texts may contain them",
    "text": "the texts may contain them, written as this model writes them",
    "chronos": "the series themselves may be among the training data",
}


class LeakageError(ValueError):
    """A model or a choice that has seen test targets."""


class Trained(Protocol):
    """A forecaster, or its description, that says what it was trained on."""

    alias: str
    data: dict[str, Any]


def check_saved_model(spec: Trained, frame: pd.DataFrame, name: str = "") -> str:
    """Compares what a saved model was trained on with the first test window.

    Args:
        spec: Of the saved model.
        frame: Back-test frame.
        name: Name of the tested data.

    Returns:
        A sentence for the report; empty if the model is known to have seen nothing.

    Raises:
        LeakageError: If its training or validation part reaches beyond the first cutoff of the same series.
    """
    facts = spec.data
    cutoffs = facts.get("cutoffs", {})
    ends = cutoffs.get("validation_end") or facts.get("last")
    firsts = frame.groupby(ID, sort=False)[CUTOFF].min()
    # The last step of all series can be compared with the latest cutoff only.
    first = firsts.get(cutoffs.get("of_series"), firsts.min() if "validation_end" in cutoffs else firsts.max())
    if ends is None:
        return f"{spec.alias} does not say what it was trained on, so it may have seen the test windows."
    try:
        known = int(ends) if frame[CUTOFF].dtype.kind == "i" else pd.Timestamp(ends)
    except ValueError:
        return f"{spec.alias} was trained on steps up to {ends}, which cannot be placed on the time of these series."
    if known <= first:
        return ""
    if is_trained_on(spec, list(firsts.index), name):
        raise LeakageError(
            f"{spec.alias} was trained or chosen on data up to {known}, but the first test window starts after "
            f"{first}; train it on the steps before, or test on later windows"
        )
    return (
        f"{spec.alias} was trained on other series ({facts.get('name') or 'unnamed'}) up to {known}, beyond the first "
        f"cutoff ({first}); it may have seen these values under other names, or what moves with them."
    )


def is_trained_on(spec: Trained, series: Sequence[Any], name: str = "") -> bool:
    """Tells whether a model was trained on these series, as far as it says; True where it does not say.

    Args:
        spec: Of the saved model.
        series: Names of the tested ones.
        name: Name of the tested data.
    """
    own = spec.data.get("name")
    if own is not None and own == name:
        return True
    named = spec.data.get("series", ())  # names, or how many there were
    scaled = [row[0] for row in getattr(spec, "scaler", {}).get("stats", {}).get(TARGET, ())]
    known = {str(s) for s in [*(named if isinstance(named, list) else ()), *getattr(spec, "channels", ()), *scaled]}
    return not known or bool(known & {str(s) for s in series})


def flag_pretraining(name: str, backbone: str, df: pd.DataFrame, kind: str = "native") -> str:
    """Says whether a language or foundation model's pretraining may contain the series.

    Args:
        name: Alias of the model.
        backbone: Name of what was pretrained.
        df: The series.
        kind: `ModelSpec.kind`.

    Returns:
        A sentence; empty if the series begin after the pretraining ended.
    """
    data = "data" if kind == "chronos" else "texts"
    if df[TIME].dtype.kind != "M":
        return f"{name}: the series carry no dates, so it is open whether the pretraining of {backbone} contains them."
    starts = [start for start in PRETRAINING_ENDS if backbone.lower().startswith(start)]
    if not starts:
        return f"{name}: when the pretraining {data} of {backbone} end is not known here; they may contain the series."
    ends = PRETRAINING_ENDS[max(starts, key=len)]
    if df[TIME].min() > pd.Timestamp(ends):
        return ""
    return (
        f"{name}: {backbone} was pretrained on {data} up to {ends}, the series start in {df[TIME].min():%Y-%m}; if "
        f"they were published, {_MEETING[kind]}."
    )


def find_flags(results: Sequence[Any], models: Sequence[ModelSpec]) -> list[str]:
    """Returns what is to be said of saved and pretrained models on all data sets of a comparison."""
    flags = []
    for result in results:
        for spec in models:
            if spec.role == "ablation":
                continue
            base = find_pretrained_base(spec)
            if base:
                flags.append(flag_pretraining(spec.name, base, result.prepared.loaded.df, spec.kind))
            cells: Sequence[Mapping[str, Any]] = result.facts.get(spec.name, ())
            flags += [str(cell.get("leakage", "")) for cell in cells]
    return [flag for flag in dict.fromkeys(flags) if flag]
