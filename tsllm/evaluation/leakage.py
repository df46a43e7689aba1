"""Guards against knowing the answers: saved models trained on test windows, pretrained models that read them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from tsllm.data.facts import ANY, DataRead, SeriesRead, TrainingFacts, hash_stretch, parse_time
from tsllm.evaluation.saved import find_pretrained_base
from tsllm.evaluation.windows import Windows
from tsllm.forecasting.model_spec import ModelSpec
from tsllm.types import ID, TARGET, TIME

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


def check_saved_model(alias: str, facts: TrainingFacts, windows: Windows, name: str = "") -> str:
    """Compares everything that a saved model was trained on with the first test window.

    Args:
        alias: Of the model.
        facts: What it was trained or chosen on.
        windows: The test windows.
        name: Name of the tested data.

    Returns:
        A sentence for the report; empty if the model is known to have seen nothing.

    Raises:
        LeakageError: If it has read steps beyond the first cutoff of the same series: of the same name, or of the
            same values under another name.
    """
    if not facts:
        return f"{alias} does not say what it was trained on, so it may have seen the test windows."
    firsts = windows.cutoff_times(0)
    said = []
    for read in facts.reads:
        for series, known in _find_tested(read, windows, name):
            end = _read_time(known.last, windows)
            if end is None:
                said.append(
                    f"{alias} was trained on steps up to {known.last or 'an unknown time'}, which cannot be placed on "
                    "the time of these series."
                )
            elif end > firsts[series]:
                raise LeakageError(
                    f"{alias} was trained or chosen on data of series {series!r} up to {known.last}, but the first "
                    f"test window starts after {firsts[series]}; train it on the steps before, or test on later "
                    "windows"
                )
        ends = [_read_time(known.last, windows) for known in read.series.values()]
        later = [end for end in ends if end is not None and end > firsts.min()]
        if later and not is_trained_on(TrainingFacts([read]), windows, name):
            said.append(
                f"{alias} was trained on other series ({read.name or 'unnamed'}) up to {max(later)}, beyond the first "
                f"cutoff ({firsts.min()}); it may have seen these values under other names, or what moves with them."
            )
    return " ".join(dict.fromkeys(said))


def is_trained_on(facts: TrainingFacts, windows: Windows, name: str = "") -> bool:
    """Tells whether a model was trained on the tested series, by name or by value; True where it does not say.

    Args:
        facts: What it was trained on.
        windows: The test windows.
        name: Name of the tested data.
    """
    if not facts:
        return False
    return any(True for read in facts.reads for _ in _find_tested(read, windows, name))


def _find_tested(read: DataRead, windows: Windows, name: str) -> Iterator[tuple[Any, SeriesRead]]:
    """Yields the tested series that a training read, with what it read of them.

    A series of the same name in data of another name, with other values at the same times, is another series.
    """
    spans: dict[tuple[str, str, int], dict[str, SeriesRead]] = {}
    for known in read.series.values():
        if known.digest:
            spans.setdefault((known.first, known.last, known.steps), {})[known.digest] = known
    for series, group in windows.df.groupby(ID, sort=False):
        times, values = group[TIME].to_numpy(), group[TARGET].to_numpy(dtype=np.float64)
        named = read.series.get(str(series), read.series.get(ANY))
        if named is not None:
            digest = hash_stretch(times, values, named) if named.digest else None
            if digest is None or digest == named.digest or (name and read.name == name):
                yield series, named
                continue
        for span, digests in spans.items():
            found = digests.get(hash_stretch(times, values, SeriesRead(*span)) or "")
            if found is not None:
                yield series, found
                break


def _read_time(text: str, windows: Windows) -> Any:
    return parse_time(text, windows.df[TIME].to_numpy()) if text else None


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
            if spec.variant:
                continue
            base = find_pretrained_base(spec)
            if base:
                flags.append(flag_pretraining(spec.name, base, result.prepared.loaded.df, spec.kind))
            cells: Sequence[Mapping[str, Any]] = result.facts.get(spec.name, ())
            flags += [str(cell.get("leakage", "")) for cell in cells]
    return [flag for flag in dict.fromkeys(flags) if flag]
