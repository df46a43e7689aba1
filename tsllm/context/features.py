"""What a reader's head sees of a sentence: states of a frozen language model, averaged over and beside a mention."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tsllm.context.plain import PlainSentence
from tsllm.context.reading import ALLOWED
from tsllm.context.states import EncodedText

KINDS = tuple(ALLOWED)
NEAR = 5  # tokens on either side of a mention that tell what it is
LAST = 2  # tokens at the end of a sentence, which have seen all of it


@dataclass(frozen=True)
class Features:
    """Features of M mentions and K sentences.

    Attributes:
        mentions: Averages over the mention, what is before it and behind it, and the end of its sentence, float16
            [M, 4, d].
        kinds: Index of the mention's kind in `KINDS` [M].
        sentences: Average, largest values and end of a sentence, float16 [K, 3, d].
        counts: Mentions of each sentence [K].
    """

    mentions: Tensor
    kinds: Tensor
    sentences: Tensor
    counts: tuple[int, ...]


def build_features(encoded: Sequence[EncodedText], sentences: Sequence[PlainSentence]) -> Features:
    """Averages the states of sentences.

    Args:
        encoded: States of the text of each sentence.
        sentences: At least one.
    """
    mentions, whole, kinds = [], [], []
    for entry, sentence in zip(encoded, sentences, strict=True):
        said = entry.offsets[:, 1] > 1  # not the line break in front, nor a token that begins each text
        states, offsets = torch.from_numpy(entry.states[said]).float(), entry.offsets[said]
        end = states[-LAST:].mean(0)
        whole.append(torch.stack([states.mean(0), states.amax(0), end]).half())
        for place, kind in zip(sentence.places, sentence.kinds, strict=True):
            first, last = _find_tokens(offsets, place)
            before, behind = states[max(0, first - NEAR) : first], states[last : last + NEAR]
            parts = [states[first:last].mean(0), _average(before), _average(behind), end]
            mentions.append(torch.stack(parts).half())
            kinds.append(KINDS.index(kind))
    width = encoded[0].states.shape[1]
    return Features(
        torch.stack(mentions) if mentions else torch.zeros(0, 4, width, dtype=torch.float16),
        torch.tensor(kinds, dtype=torch.long),
        torch.stack(whole),
        tuple(len(sentence.kinds) for sentence in sentences),
    )


def _average(states: Tensor) -> Tensor:
    """Averages over tokens; zeros where there are none."""
    return states.sum(0) / max(1, len(states))


def _find_tokens(offsets: np.ndarray, place: tuple[int, int]) -> tuple[int, int]:
    """Returns the first token that shares a character with a place, and the one behind the last."""
    shared = np.flatnonzero((offsets[:, 0] < place[1]) & (offsets[:, 1] > place[0]))
    return int(shared[0]), int(shared[-1]) + 1
