"""What each window is told: texts as frozen hidden states, beside the window's own tensors."""

import logging
import math
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tsllm.backbones.control import refuse_control
from tsllm.backbones.pretrained import cache_folder
from tsllm.context.contract import END, START, TEXT, Context
from tsllm.context.states import StateStore, TextEncoder
from tsllm.data.windows import WindowDataset
from tsllm.models.config import ForecastConfig, TextSource
from tsllm.models.inputs import NUM_CALENDAR
from tsllm.models.timellm.backbone import load_backbone
from tsllm.nn.lens import Lens, shorten_width
from tsllm.types import CUTOFF, ID, FrameError

logger = logging.getLogger(__name__)

_WAVES = (
    (86_400, 12),
    (7 * 86_400, 3),
    (31_556_952, 2),
)  # seconds of a period, and how many harmonics of it: 12 tell hours apart
_CHUNK = 4096


class ToldWindows:
    """Gives windows the states of what their series are told (`WindowDataset.further`).

    Args:
        windows: The set that it is made for.
        told: The texts.
        encoder: Turns texts into states; every distinct text is computed once.
        lens: Of the model, which shortens them.
        learns: Whether these are windows of training, whose texts a lens that has seen none is fitted to.

    Raises:
        FrameError: If the data count their steps, or a text does not say when it was published.
        ValueError: If a text is longer than the language model can read, or holds one of its control tokens.
    """

    def __init__(
        self, windows: WindowDataset, told: Context, encoder: TextEncoder, lens: Lens, learns: bool = False
    ) -> None:
        self._read, used = find_rows(windows, told)
        logger.info(
            "%d of %d texts are read by some of %d windows; the others are published later, or about other times",
            used["row"].nunique(), int((told.table[TEXT] != "").sum()), len(windows),
        )  # fmt: skip
        for text, row in zip(used[TEXT], used["row"], strict=True):
            encoder.check_length(text, f"the text of context row {row}")
            refuse_control(encoder.tokenizer, text, f"the text of context row {row}")
        places = {text: k for k, text in enumerate(dict.fromkeys(used[TEXT]))}
        states = [torch.from_numpy(entry.states) for entry in encoder.encode(list(places))]
        if learns and states and not lens.is_fitted:
            lens.fit(states)
        self._bank = lens(torch.cat(states)).cpu() if states else torch.zeros(0, shorten_width(encoder.width))
        self._lengths = torch.tensor([len(part) for part in states], dtype=torch.int64)  # [U]
        self._firsts = self._lengths.cumsum(0) - self._lengths  # [U], where each begins in the bank
        self._place = [places[text] for text in used[TEXT]]
        self._start, self._end = (used[name].to_numpy() for name in (START, END))

    def __call__(self, windows: WindowDataset, indices: Tensor) -> dict[str, Tensor]:
        """Returns the tensors of `TEXT_KEYS` of a batch; none if nothing is told.

        Args:
            windows: The set.
            indices: [B].
        """
        channels = windows.num_channels
        told = [
            (b, c, row)
            for b, window in enumerate(indices.tolist())
            for c in range(channels)
            for row in self._read.get(window * channels + c, ())
        ]
        if not told:
            return {}
        times = windows.times(indices)[:, windows.context_length :]  # [B, H]
        slots: list[dict[int, int]] = [{} for _ in range(len(indices))]  # of a window: text -> its place r
        for b, _, row in told:
            slots[b].setdefault(self._place[row], len(slots[b]))
        rows = torch.tensor([[*own, *[0] * (max(map(len, slots)) - len(own))] for own in slots])  # [B, R]
        window, channel, of = (np.array(column) for column in zip(*told, strict=True))  # [P] each
        slot = np.array([slots[b][self._place[row]] for b, _, row in told])
        start, end, ahead = self._start[of][:, None], self._end[of][:, None], times[window]  # [P, 1], [P, H]
        about = (np.isnat(start) | (start <= ahead)) & (np.isnat(end) | (end > ahead))  # [P, H]
        shape = (len(indices), channels, rows.shape[1])
        cell = torch.from_numpy(np.ravel_multi_index((window, channel, slot), shape))
        count = torch.zeros(math.prod(shape), times.shape[1]).index_add_(0, cell, torch.from_numpy(about).float())
        read = (count > 0).view(*shape, -1)  # [B, C, R, H]
        lengths = self._lengths[rows]  # [B, R]
        tokens = torch.arange(int(lengths.max()))
        places = (self._firsts[rows].unsqueeze(-1) + tokens).clamp_max(len(self._bank) - 1)  # [B, R, T]
        real = tokens < lengths.unsqueeze(-1)  # [B, R, T]
        return {
            "text_states": self._bank[places],
            "text_rows": rows,
            "text_mask": read.transpose(2, 3).unsqueeze(-1) & real[:, None, None],
            "text_calendar": compute_waves(times),
        }


def warn_of_silence(alias: str, model: Any, told: Context) -> None:
    """Warns that texts are given to a model that was trained without any, and so has nothing to say to them."""
    if (told.table[TEXT] != "").any() and model.text_reader.is_silent:
        logger.warning(
            "%s was trained without texts, so that none changes its forecast; train it with them (fit(df, "
            "context=...), tsllm fit --context), or have effects read (ContextForecaster, --reader rules)", alias
        )  # fmt: skip


def find_rows(windows: WindowDataset, told: Context) -> tuple[dict[int, tuple[int, ...]], pd.DataFrame]:
    """Returns which texts windows read.

    Returns:
        window * C + channel -> places in what is read, without those that are told nothing; and what is read
        (`Context.rows_of_windows`).

    Raises:
        FrameError: See `ToldWindows`.
    """
    parts = [told.table.iloc[:0][[TEXT, START, END]].assign(row=0)]
    if not (told.table[TEXT] != "").any():
        return {}, parts[0]
    keys = windows.window_frame()
    edges = [windows.context_length - 1, windows.context_length, -1]
    times = np.concatenate([windows.times(part)[:, edges] for part in torch.arange(len(windows)).split(_CHUNK)])
    if not np.issubdtype(times.dtype, np.datetime64):
        raise FrameError("texts speak of dates, but the data count their steps; give dates in `ds`, or no context")
    step = pd.Timedelta(times[0, 1] - times[0, 0])
    ahead = np.repeat(times[:, 1:], windows.num_channels, axis=0)  # [N * C, 2]
    read: dict[int, tuple[int, ...]] = {}
    cutoffs = keys[CUTOFF].to_numpy()
    for name, all_cells in keys.groupby(ID, sort=False).indices.items():
        for start in range(0, len(all_cells), _CHUNK):
            cells = np.asarray(all_cells)[start : start + _CHUNK]
            rows, reads = told.rows_of_windows(name, cutoffs[cells], ahead[cells, 0], ahead[cells, 1], step)
            places = sum(map(len, parts)) + np.arange(len(rows))
            read |= {int(cells[k]): tuple(places[reads[k]].tolist()) for k in np.flatnonzero(reads.any(axis=1))}
            parts.append(rows)
    return read, pd.concat(parts, ignore_index=True)


def compute_waves(times: np.ndarray) -> Tensor:
    """Returns sines and cosines of day, week and year [B, H, 34] at times [B, H], weeks beginning on Monday."""
    monday = np.datetime64("1970-01-05", "s")
    seconds = (times.astype("datetime64[s]") - monday).astype(np.float64)  # [B, H]
    waves = [2 * np.pi * k * seconds / period for period, count in _WAVES for k in range(1, count + 1)]
    angles = np.stack(waves, axis=-1)  # [B, H, 17]
    made = np.concatenate([np.sin(angles), np.cos(angles)], axis=-1)
    assert made.shape[-1] == NUM_CALENDAR
    return torch.from_numpy(made).float()


@lru_cache(maxsize=2)
def _open_encoder(source: TextSource, num_layers: int) -> tuple[TextEncoder, str]:
    loaded = load_backbone(
        source.backbone, revision=source.revision, weights=source.weights, seed=source.seed, num_layers=num_layers
    )
    encoder = TextEncoder(loaded.llm, loaded.tokenizer, StateStore(cache_folder() / "context_states"), opens=True)
    return encoder, loaded.commit


def open_text_encoder(config: ForecastConfig) -> TextEncoder:
    """Loads the language model that reads texts for a model, and notes which one it is.

    Args:
        config: Of the model, with `text_layers`.

    Raises:
        ValueError: If its weights are others than those that the model was trained with.
        OSError: If it cannot be loaded.
    """
    source = config.text_source
    encoder, commit = _open_encoder(source, config.text_layers)
    if config.text_fingerprint not in ("", encoder.fingerprint):
        raise ValueError(
            f"backbone {source.backbone!r} has fingerprint {encoder.fingerprint} over its first {config.text_layers} "
            f"layers, but the model learned to read texts with {config.text_fingerprint}; load that one"
        )
    config.note_text_source(encoder.fingerprint, commit)
    return encoder
