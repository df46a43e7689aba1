"""Guards against knowing the answers: saved models trained on test windows, language models that read them."""

from typing import Any

import pandas as pd

from tsllm.forecasting.spec import ForecasterSpec
from tsllm.types import CUTOFF, TIME

# Start of a backbone's name -> when its pretraining texts end. A series that ends before may be among them.
PRETRAINING_ENDS = {
    "smollm2": "2024-11",
    "huggingfacetb/smollm2": "2024-11",
    "openai-community/gpt2": "2017-12",
    "gpt2": "2017-12",
    "huggyllama/llama": "2022-08",
    "meta-llama/llama-2": "2022-09",
    "meta-llama/llama-3": "2023-12",
    "qwen/qwen2": "2024-06",
    "amazon/chronos": "2024-03",
}


class LeakageError(ValueError):
    """A model or a choice that has seen test targets."""


def check_saved_model(spec: ForecasterSpec, frame: pd.DataFrame) -> str:
    """Compares what a saved model was trained on with the first test window.

    Args:
        spec: Of the saved model.
        frame: Back-test frame.

    Returns:
        A sentence for the report; empty if the model is known to have seen nothing.

    Raises:
        LeakageError: If its training or validation part reaches beyond the first cutoff.
    """
    facts = spec.data
    ends = facts.get("cutoffs", {}).get("validation_end") or facts.get("last")
    first = frame[CUTOFF].min()
    if ends is None:
        return f"{spec.alias} does not say what it was trained on, so it may have seen the test windows."
    known = int(ends) if frame[TIME].dtype.kind == "i" else pd.Timestamp(ends)
    if known > first:
        raise LeakageError(
            f"{spec.alias} was trained or chosen on data up to {known}, but the first test window starts after "
            f"{first}; train it on the steps before, or test on later windows"
        )
    return ""


def flag_pretraining(name: str, backbone: str, df: pd.DataFrame) -> str:
    """Says whether a language model's pretraining may contain the series.

    Args:
        name: Alias of the model.
        backbone: Its backbone's name.
        df: The series.

    Returns:
        A sentence; empty if the series begin after the pretraining ended.
    """
    if df[TIME].dtype.kind != "M":
        return f"{name}: the series carry no dates, so it is open whether the pretraining of {backbone} contains them."
    ends = next((end for start, end in PRETRAINING_ENDS.items() if backbone.lower().startswith(start)), None)
    if ends is None:
        return f"{name}: when the pretraining texts of {backbone} end is not known here; they may contain the series."
    if df[TIME].min() > pd.Timestamp(ends):
        return ""
    return (
        f"{name}: {backbone} was pretrained on texts up to {ends}, the series start in {df[TIME].min():%Y-%m}; if "
        "they were published, the texts may contain them, as text and not as this model reads them."
    )


def find_flags(results: Any, models: Any) -> list[str]:
    """Returns the sentences of all language models of a comparison on all its data sets."""
    flags = []
    for result in results:
        for spec in models:
            backbone = spec.options.get("backbone", "openai-community/gpt2") if spec.model == "timellm" else ""
            untrained = spec.options.get("backbone_weights") == "random" or spec.options.get("reader", "llm") != "llm"
            if backbone and spec.role != "ablation" and not untrained:
                flags.append(flag_pretraining(spec.name, backbone, result.prepared.loaded.df))
    return [flag for flag in dict.fromkeys(flags) if flag]
