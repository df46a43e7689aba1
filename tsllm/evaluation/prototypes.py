"""Which word prototypes the patches of a reprogrammed model attend to, and which words lie near them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tsllm.backbones.pretrained import find_pretrained
from tsllm.forecasting.neural import NeuralForecaster
from tsllm.models.timellm.model import TimeLLM
from tsllm.types import ID

MAX_SERIES, MAX_WINDOWS = 20, 16  # bound the time of a picture


@dataclass(frozen=True)
class PrototypeAttention:
    """Mean attention of a reprogrammed model over windows and heads.

    Attributes:
        weights: [P, S]; the row of each patch sums to 1.
        starts: First step of each patch, counted from the first step of the context [P].
        patch_length: Steps in a patch.
        context_length: Steps read.
        words: Prototype -> nearest words with their cosine similarity; empty without a tokenizer.
        windows: How many windows (series and cutoffs) the mean is over.
    """

    weights: np.ndarray
    starts: np.ndarray
    patch_length: int
    context_length: int
    words: dict[int, list[tuple[str, float]]]
    windows: int

    def find_top(self, count: int) -> list[int]:
        """Returns the prototypes with the largest mean attention, the largest first."""
        return np.argsort(-self.weights.mean(0), kind="stable")[:count].tolist()

    def count_effective(self) -> float:
        """Returns over how many prototypes a patch spreads its attention: exp of the entropy, mean over patches."""
        weights = np.clip(self.weights, 1e-30, None)
        return float(np.exp(-(weights * np.log(weights)).sum(1)).mean())


def compute_prototype_attention(
    source: str | Path, df: pd.DataFrame, h: int, n_windows: int, step_size: int, top: int = 10
) -> PrototypeAttention:
    """Loads a trained Time-LLM and averages its attention over the last windows of each series.

    Args:
        source: Folder or Hub id.
        df: The series, with the covariates that it reads.
        h: Steps ahead.
        n_windows: Cutoffs, at most 16 of which are used.
        step_size: Steps between cutoffs.
        top: Prototypes that are named by words.

    Raises:
        TypeError: If the model is no Time-LLM.
        OSError: If it or its backbone cannot be loaded.
    """
    forecaster = NeuralForecaster.from_pretrained(source, pad_short=True)
    model = forecaster.model
    if not isinstance(model, TimeLLM):
        raise TypeError(f"{source} holds a {type(model).__name__}, which has no prototypes")
    total = torch.zeros(model.config.num_patches, model.config.num_prototypes, dtype=torch.float64)
    rows = 0

    def listen(module: Any, inputs: tuple[Tensor, ...]) -> None:
        nonlocal rows
        patches, keys, _ = inputs
        rows += len(patches)
        for part in patches.split(8):  # [8, P, D]; all at once would take [N, heads, P, S]
            total.add_(module.attend(part, keys).mean(1).sum(0).double().cpu())  # [P, S]

    assert forecaster.spec is not None
    kept = df if forecaster.spec.layout == "multivariate" else df[df[ID].isin(df[ID].unique()[:MAX_SERIES])]
    handle = model.reprogramming.register_forward_pre_hook(listen)
    try:
        forecaster.predict_rolling(kept.reset_index(drop=True), h, min(n_windows, MAX_WINDOWS), step_size)
    finally:
        handle.remove()
    weights = (total / rows).numpy()
    config = model.config
    found = PrototypeAttention(
        weights=weights,
        starts=np.arange(config.num_patches) * config.patch_stride,
        patch_length=config.patch_length,
        context_length=config.context_length,
        words={},
        windows=rows,
    )
    tokenizer = model.backbone.tokenizer or _load_tokenizer(config.backbone, config.backbone_revision)
    if tokenizer is not None:
        with torch.no_grad():
            prototypes = model.prototypes(model.backbone.words)
        named = find_nearest_words(prototypes, model.backbone.words, found.find_top(top), tokenizer)
        # A folder without tokenizer files gives one that writes nothing.
        found.words.update({prototype: words for prototype, words in named.items() if words})
    return found


@torch.no_grad()
def find_nearest_words(
    prototypes: Tensor, words: Tensor, chosen: Sequence[int], tokenizer: Any, count: int = 3
) -> dict[int, list[tuple[str, float]]]:
    """Returns the words whose embeddings point most in the direction of a prototype, both taken from their mean.

    What all prototypes, or all words, have in common tells them not apart and would name all of them alike.

    Args:
        prototypes: [S, d].
        words: Word embeddings [V, d].
        chosen: Prototypes to name.
        tokenizer: Of the language model.
        count: Words for each.

    Returns:
        Prototype -> words with their cosine similarity, the nearest first.
    """
    rows = (prototypes - prototypes.mean(0))[list(chosen)].float()  # [K, d]
    table = (words - words.mean(0)).float()
    similarity = torch.nn.functional.normalize(rows, dim=-1) @ torch.nn.functional.normalize(table, dim=-1).T  # [K, V]
    values, tokens = similarity.topk(min(4 * count, len(table)))
    named = {}
    for prototype, row, near in zip(chosen, tokens.tolist(), values.tolist(), strict=True):
        written = [(_write_token(tokenizer, token), value) for token, value in zip(row, near, strict=True)]
        unique = {text: value for text, value in reversed(written) if text}
        named[prototype] = sorted(unique.items(), key=lambda pair: -pair[1])[:count]
    return named


def _write_token(tokenizer: Any, token: int) -> str:
    """Writes a token for a picture; empty if it would show nothing: blanks, control characters, halves of letters."""
    text = tokenizer.decode([token]).strip()
    return text if text.isprintable() and "\ufffd" not in text else ""


def _load_tokenizer(backbone: str, revision: str) -> Any:
    from tsllm.backbones.trust import load_tokenizer

    try:
        return load_tokenizer(find_pretrained(backbone), revision=revision or "main")
    except (OSError, ValueError):
        return None  # a backbone without a tokenizer has no words to name prototypes with
