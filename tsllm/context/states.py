"""Hidden states of texts, computed once by a frozen language model and kept on disk up to a bound."""

import hashlib
import logging
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tsllm.backbones.fingerprint import compute_fingerprint
from tsllm.context.contract import refuse_broken

logger = logging.getLogger(__name__)
_BATCH_TOKENS = 2048
_KEPT, _PART = ".npz", ".part"
_STALE = 3600 * 10**9  # nanoseconds; no file takes an hour to write
_SHARES = 8  # processes on one folder among which the bound holds to the byte


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

    Several processes may use one folder, and the bound holds for all files in it.

    Args:
        folder: Where the files lie; made if it is not there.
        max_bytes: Bound of all files together; older files beyond it are dropped at once.

    Raises:
        ValueError: If the bound is not positive.
    """

    def __init__(self, folder: str | Path, max_bytes: int = 2 << 30) -> None:
        if max_bytes <= 0:
            raise ValueError(f"max_bytes is {max_bytes}; it must be positive")
        self.folder, self.max_bytes = Path(folder), max_bytes
        self._room = 0  # bytes that may be written before the folder is looked at again
        self._told = False  # whether a warning has said that nothing is kept
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._make_room()
        except OSError as error:
            self._warn(error)

    @property
    def num_bytes(self) -> int:
        """Size of all files."""
        return sum(size for _, _, size in self._list_files())

    @staticmethod
    def build_key(text: str, fingerprint: str, layer: int, tokens: Any = ()) -> str:
        """Returns the file name of a text under a model's weights and layer, and the tokens that it is split into."""
        return hashlib.sha256(f"{fingerprint}\0{layer}\0{tokens}\0{text}".encode()).hexdigest()[:32] + ".npz"

    def get(self, key: str) -> EncodedText | None:
        """Returns what is kept under a key, and counts it as used; None if it is not there, or damaged."""
        path = self.folder / key
        try:
            with np.load(path) as file:
                entry = EncodedText(file["states"], file["offsets"])
        except Exception:  # damaged bytes raise errors of zip, zlib, numpy and struct alike; they are computed again
            return None
        if len(entry.states) != len(entry.offsets) or not np.isfinite(entry.states).all():
            return None
        with suppress(OSError):  # a folder that may only be read
            self._mark_used(path)
        return entry

    def put(self, key: str, entry: EncodedText) -> None:
        """Keeps an entry, whole or not at all; one larger than the bound is not kept.

        Where the disk takes none, a warning says so once, and nothing is kept.
        """
        try:
            self._write(key, entry)
        except OSError as error:
            self._warn(error)

    def _warn(self, error: OSError) -> None:
        if not self._told:
            logger.warning(
                "hidden states of texts are not kept in %s (%s), and are computed again each time; mend or free the "
                "disk, or give another folder", self.folder, error,
            )  # fmt: skip
        self._told = True

    def _write(self, key: str, entry: EncodedText) -> None:
        with tempfile.NamedTemporaryFile(dir=self.folder, suffix=_PART, delete=False) as file:
            path = Path(file.name)
        try:
            with path.open("wb") as file:
                np.savez(file, states=entry.states, offsets=entry.offsets)
            size = path.stat().st_size
            if size > self.max_bytes:
                return
            self._room -= size
            if self._room < 0:
                self._make_room()
            self._mark_used(path)
            path.rename(self.folder / key)
        finally:
            path.unlink(missing_ok=True)

    def _mark_used(self, path: Path) -> None:
        now = time.time_ns()  # finer than what the file system itself writes
        os.utime(path, ns=(now, now))

    def _list_files(self) -> list[tuple[int, str, int]]:
        """Returns time of last use, name and size of all files, also of those that are being written."""
        found = []
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if entry.name.endswith((_KEPT, _PART)):
                    with suppress(FileNotFoundError):  # another process has just dropped it
                        state = entry.stat()
                        found.append((state.st_mtime_ns, entry.name, state.st_size))
        return found

    def _make_room(self) -> None:
        """Drops what a broken process left behind, and the least recently used files until the rest fits."""
        files, stale = sorted(self._list_files()), time.time_ns() - _STALE
        total = sum(size for _, _, size in files)
        for used, name, size in files:
            left_over = name.endswith(_PART) and used < stale
            if left_over or (name.endswith(_KEPT) and total > self.max_bytes):
                (self.folder / name).unlink(missing_ok=True)
                total -= size
        # Of what is left a share: others may write too before they look.
        self._room = (self.max_bytes - total) // _SHARES


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
            ValueError: With the name, the length and the way out; or for half of a surrogate pair.
        """
        refuse_broken(text, name)
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
            self.check_length(text)
            tokens = self.tokenizer(text, return_offsets_mapping=True)
            ids, offsets = tokens["input_ids"], np.array(tokens["offset_mapping"], np.int32).reshape(-1, 2)
            entry = self.store.get(self._key(text, ids, offsets)) if self.store is not None else None
            if entry is not None:
                found[text] = entry
            else:
                fresh.append((ids, offsets, text))
        fresh.sort(key=lambda item: len(item[0]))
        done = 0
        while done < len(fresh):
            size = max(1, _BATCH_TOKENS // max(1, len(fresh[min(done + 32, len(fresh) - 1)][0])))
            part = fresh[done : done + min(size, 32)]
            run = self._run([self.opening + ids for ids, _, _ in part])
            for (ids, offsets, text), states in zip(part, run, strict=True):
                found[text] = EncodedText(states[len(self.opening) :], offsets)
                if self.store is not None:
                    self.store.put(self._key(text, ids, offsets), found[text])
            done += len(part)
            if progress is not None:
                progress(done)
        return [found[text] for text in texts]

    def _key(self, text: str, ids: list[int], offsets: np.ndarray) -> str:
        # Another tokenizer splits the text in another way, or numbers its parts so.
        tokens = (self.opening + ids, offsets.tolist())
        return StateStore.build_key(text, f"{self.fingerprint} {self.dtype}", self.layer, tokens)

    @torch.no_grad()
    def _run(self, ids: list[list[int]]) -> list[np.ndarray]:
        """Runs token ids padded on the right, which a causal model never sees; returns float16 states [T, d] each."""
        width = max(1, *map(len, ids))
        padded = torch.tensor([[*row, *[0] * (width - len(row))] for row in ids])  # [B, T]
        hidden = self.llm(input_ids=padded, use_cache=False).last_hidden_state  # [B, T, d]
        return [hidden[k, : len(row)].float().half().numpy() for k, row in enumerate(ids)]
