"""Hidden states of texts, computed once by a frozen language model and kept on disk up to a bound."""

import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tsllm.backbones.fingerprint import compute_fingerprint

_BATCH_TOKENS = 2048


@dataclass(frozen=True)
class EncodedText:
    """What a frozen model made of a text.

    Attributes:
        states: Hidden states [T, d], float16.
        offsets: First character and the one behind the last of each token [T, 2].
    """

    states: np.ndarray
    offsets: np.ndarray


class StateStore:
    """Files of hidden states in a folder, the least recently used ones dropped when they outgrow a bound.

    Args:
        folder: Where the files lie; made if it is not there.
        max_bytes: Bound of all files together.

    Raises:
        ValueError: If the bound is not positive.
    """

    def __init__(self, folder: str | Path, max_bytes: int = 2 << 30) -> None:
        if max_bytes <= 0:
            raise ValueError(f"max_bytes is {max_bytes}; it must be positive")
        self.folder, self.max_bytes = Path(folder), max_bytes
        self.folder.mkdir(parents=True, exist_ok=True)
        self._sizes = {path.name: path.stat().st_size for path in self._sorted_files()}  # oldest use first

    def _sorted_files(self) -> list[Path]:
        return sorted(self.folder.glob("*.npz"), key=lambda path: (path.stat().st_mtime_ns, path.name))

    @property
    def num_bytes(self) -> int:
        """Size of all files."""
        return sum(self._sizes.values())

    @staticmethod
    def build_key(text: str, fingerprint: str, layer: int) -> str:
        """Returns the file name of a text under a model's weights and layer."""
        return hashlib.sha256(f"{fingerprint}\0{layer}\0{text}".encode()).hexdigest()[:32] + ".npz"

    def get(self, key: str) -> EncodedText | None:
        """Returns what is kept under a key, and counts it as used; None if it is not there."""
        path = self.folder / key
        try:
            with np.load(path) as file:
                entry = EncodedText(file["states"], file["offsets"])
            os.utime(path)
        except (OSError, ValueError, KeyError, EOFError):
            self._sizes.pop(key, None)
            return None
        self._sizes[key] = self._sizes.pop(key, 0) or path.stat().st_size
        return entry

    def put(self, key: str, entry: EncodedText) -> None:
        """Keeps an entry, whole or not at all; one larger than the bound is not kept."""
        with tempfile.NamedTemporaryFile(dir=self.folder, suffix=".part", delete=False) as file:
            np.savez(file, states=entry.states, offsets=entry.offsets)
        size = Path(file.name).stat().st_size
        if size > self.max_bytes:
            Path(file.name).unlink()
            return
        self._sizes.pop(key, None)
        while self.num_bytes + size > self.max_bytes:
            oldest = next(iter(self._sizes))
            (self.folder / oldest).unlink(missing_ok=True)
            del self._sizes[oldest]
        Path(file.name).rename(self.folder / key)
        self._sizes[key] = size


class TextEncoder:
    """Turns texts into hidden states of a frozen decoder, through a store if there is one.

    Args:
        llm: A bare decoder of transformers, cut to the layers that are read; its output is the last layer's.
        tokenizer: Its fast tokenizer.
        store: Where results are kept; None = nowhere.
        opens: Whether the language model reads its opening token in front of a text, where it has one. Decoders park
            attention on their first token, whose state then says little of the word there ("08:00 to 14:00: ...").
    """

    def __init__(self, llm: Any, tokenizer: Any, store: StateStore | None = None, opens: bool = False) -> None:
        self.llm, self.tokenizer, self.store = llm.eval(), tokenizer, store
        opening = [] if tokenizer.bos_token_id is None else [int(tokenizer.bos_token_id)]
        comes_anyway = tokenizer("a")["input_ids"][:1] == opening
        self.opening = opening if opens and not comes_anyway else []
        self.fingerprint = compute_fingerprint(llm)
        self.layer = int(llm.config.num_hidden_layers)
        self.dtype = str(next(llm.parameters()).dtype)
        self.max_tokens = int(getattr(llm.config, "max_position_embeddings", 1024)) - len(self.opening)

    @property
    def width(self) -> int:
        """Numbers in a hidden state."""
        return int(self.llm.config.hidden_size)

    def check_length(self, text: str, name: str = "the text") -> None:
        """Refuses a text that the model cannot read whole.

        Raises:
            ValueError: With the name, the length and the way out.
        """
        number = len(self.tokenizer(text)["input_ids"])
        if number > self.max_tokens:
            raise ValueError(
                f"{name} has {number} tokens, but the model reads {self.max_tokens}; shorten it or take a model that "
                f"reads more (it begins {text[:40]!r})"
            )

    def encode(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> list[EncodedText]:
        """Returns the hidden states of each text; each distinct text is computed once.

        Raises:
            ValueError: If a text is longer than the model can read.
        """
        found: dict[str, EncodedText] = {}
        fresh: list[tuple[list[int], np.ndarray, str]] = []
        for text in dict.fromkeys(texts):
            entry = self.store.get(self._key(text)) if self.store is not None else None
            if entry is not None:
                found[text] = entry
                continue
            self.check_length(text)
            tokens = self.tokenizer(text, return_offsets_mapping=True)
            fresh.append((tokens["input_ids"], np.array(tokens["offset_mapping"], np.int32).reshape(-1, 2), text))
        fresh.sort(key=lambda item: len(item[0]))
        done = 0
        while done < len(fresh):
            size = max(1, _BATCH_TOKENS // max(1, len(fresh[min(done + 32, len(fresh) - 1)][0])))
            part = fresh[done : done + min(size, 32)]
            for (_, offsets, text), states in zip(
                part, self._run([self.opening + ids for ids, _, _ in part]), strict=True
            ):
                found[text] = EncodedText(states[len(self.opening) :], offsets)
                if self.store is not None:
                    self.store.put(self._key(text), found[text])
            done += len(part)
            if progress is not None:
                progress(done)
        return [found[text] for text in texts]

    def _key(self, text: str) -> str:
        opening = "".join(f" {token}" for token in self.opening)
        return StateStore.build_key(text, f"{self.fingerprint} {self.dtype}{opening}", self.layer)

    @torch.no_grad()
    def _run(self, ids: list[list[int]]) -> list[np.ndarray]:
        """Runs token ids padded on the right, which a causal model never sees; returns float16 states [T, d] each."""
        width = max(1, *map(len, ids))
        padded = torch.tensor([[*row, *[0] * (width - len(row))] for row in ids])  # [B, T]
        hidden = self.llm(input_ids=padded, use_cache=False).last_hidden_state  # [B, T, d]
        return [hidden[k, : len(row)].float().half().numpy() for k, row in enumerate(ids)]
