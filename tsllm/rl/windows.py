"""Windows as rewards judge them: original units, and the facts about each window and channel."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tsllm.data.scaling import StandardScaler
from tsllm.rl.rewards.known import Known
from tsllm.types import CUTOFF, ID, Batch


class ScaledWindows:
    """A window set whose batches also say how to leave scaled units, and which windows they hold.

    A batch has besides `series_loc` and `series_scale`, [B, 1, C], and `window`, the numbers of its windows [B].

    Args:
        windows: A `WindowDataset`.
        scaler: Of its series.
    """

    def __init__(self, windows: Any, scaler: StandardScaler) -> None:
        self.windows = windows
        self.keys = windows.window_frame()
        loc, scale = scaler.loc_scale(self.keys[ID])
        self.loc, self.scale = (
            torch.from_numpy(x.reshape(len(windows), 1, windows.num_channels)).float() for x in (loc, scale)
        )

    def __len__(self) -> int:
        return len(self.windows)

    def gather(self, indices: Tensor) -> Batch:
        """Returns the windows `indices` [B] as one batch."""
        batch: dict[str, Any] = dict(self.windows.gather(indices))
        batch |= {"series_loc": self.loc[indices], "series_scale": self.scale[indices], "window": indices}
        return batch  # type: ignore[return-value]

    def find_known(self, indices: Tensor, asked: Iterable[str]) -> Known:
        """Returns facts about the rows (windows times channels, as `unfold_problem` orders them) of some windows.

        Args:
            indices: Numbers of the windows, [B].
            asked: Names of the facts; what nobody knows stays out.
        """
        asked, indices = frozenset(asked), indices.cpu()
        channels, length = self.windows.num_channels, self.windows.context_length
        rows = (indices[:, None] * channels + torch.arange(channels)).flatten().numpy()  # [B * C]
        keys = self.keys.iloc[rows]
        facts: dict[str, Any] = {}
        if "unique_id" in asked:
            facts["unique_id"] = keys[ID].to_numpy(dtype=object)
        if "cutoff" in asked:
            facts["cutoff"] = keys[CUTOFF].to_numpy()
        if asked & {"ds", "history_ds"}:
            times = np.repeat(self.windows.times(indices), channels, axis=0)  # [B * C, L + H]
            facts |= {"ds": times[:, length:], "history_ds": times[:, :length]}
        if asked & {"loc", "scale"}:
            facts |= {"loc": self.loc[indices].flatten(), "scale": self.scale[indices].flatten()}
        if "covariates" in asked and self.windows.covariate_names:
            facts["covariates"] = self._find_covariates(indices, keys[ID].to_numpy(dtype=object))
        if "context" in asked and (texts := getattr(self.windows, "context_texts", None)) is not None:
            facts["context"] = np.repeat(np.asarray(texts, dtype=object)[indices.numpy()], channels)
        return Known(**{name: value for name, value in facts.items() if name in asked})

    def _find_covariates(self, indices: Tensor, series: np.ndarray) -> dict[str, Tensor]:
        """Returns name -> [B * C, L + H]; a column that is one series' own stands in that series' rows alone."""
        windows = self.windows
        values = windows.covariate_values(indices)  # [B, L + H, K]
        found: dict[str, Tensor] = {}
        for k, column in enumerate(windows.covariate_names):
            owner, _, name = str(column).rpartition(":") if windows.layout == "multivariate" else ("", "", column)
            own = values[..., k].repeat_interleave(windows.num_channels, 0)  # [B * C, L + H]
            if not owner:
                found[name] = own
                continue
            place = found.setdefault(name, torch.full_like(own, torch.nan))
            at = torch.from_numpy(np.array([str(s) == owner for s in series]))
            place[at] = own[at]
        return found


def fold_channels(values: Tensor) -> Tensor:
    """Makes a row of each window and channel: [G, B, H, C] -> [B * C, G, H], [B, H, C] -> [B * C, H]."""
    if values.ndim == 3:
        return values.transpose(1, 2).flatten(0, 1)  # [B * C, H]
    return values.permute(1, 3, 0, 2).flatten(0, 1)  # [B * C, G, H]


def unfold_problem(batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Returns target [B * C, H] and history [B * C, L] of a batch in original units, NaN where missing."""
    loc, scale = batch["series_loc"], batch["series_scale"]
    history = batch["past_values"] * scale + loc
    history = history.masked_fill(~batch["past_observed_mask"].bool(), torch.nan)
    return fold_channels(batch["future_values"] * scale + loc), fold_channels(history)
