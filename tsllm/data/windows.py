"""Windows: a torch data set that cuts context and horizon out of one tensor.

Two layouts. `multivariate` stacks aligned series as the C channels of one sample [L, C], as Time-Series-Library does;
`univariate` gives one series a sample [L, 1] and takes panels of different lengths. In both, a window is a start
position on one long time axis, so a batch is a single gather and nothing is dropped: the last window of each series
always belongs to the set, whatever the stride.
"""

import copy
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset

from tsllm.data.frame import future_frame, infer_freq, series_bounds
from tsllm.data.frequency import Freq, normalize_freq
from tsllm.data.timefeatures import time_features
from tsllm.types import CUTOFF, ID, TARGET, TIME, Batch, FrameError

Layout = Literal["multivariate", "univariate"]


@dataclass(frozen=True)
class Segment:
    """A stretch of the time axis without a break: one series, or all aligned series together.

    Attributes:
        series: The series of each channel.
        start: Where its first (perhaps padded) step lies on the joint axis.
        length: Its steps, with padding.
        padding: Unobserved steps put before its first row.
    """

    series: tuple[Any, ...]
    start: int
    length: int
    padding: int


class WindowDataset(Dataset[Batch]):
    """All windows of `context_length + prediction_length` steps of a validated long frame.

    Args:
        df: Validated long frame (a split part, already scaled if the model wants that).
        context_length: L, steps.
        prediction_length: H, steps.
        layout: "multivariate" (aligned series as channels) or "univariate" (one series a sample).
        stride: Steps from one window's start to the next; the last window of a segment is always added.
        freq: As in `validate_frame`; None infers it.
        covariates: Covariate columns that are known in the future too; they fill `past_covariates` and
            `future_covariates`.
        past_covariates: Covariate columns known up to the cutoff only; they follow in `past_covariates`.
        channels: Order of the series in the multivariate layout; None takes the frame's.
        share_covariates: Multivariate layout: whether all series have the same covariates (holidays), so that each
            needs one column instead of one a series.
        pad_short: Whether a series shorter than a window is padded on the left with unobserved steps (mask False)
            instead of refused; it gives one window then.

    Attributes:
        segments: The stretches that windows are cut from.
        covariate_names: Names of the columns of `past_covariates`, the known ones first.
        num_known_covariates: How many of them `future_covariates` has.
        further: Gives further tensors of the windows `indices` [B] of this set, by name; None = none.

    Raises:
        FrameError: If a series is too short, or the series of a multivariate set do not share their times.
    """

    def __init__(
        self,
        df: pd.DataFrame,
        context_length: int,
        prediction_length: int,
        *,
        layout: Layout = "multivariate",
        stride: int = 1,
        freq: Freq | None = None,
        covariates: Sequence[str] = (),
        past_covariates: Sequence[str] = (),
        channels: Sequence[Any] | None = None,
        share_covariates: bool = False,
        pad_short: bool = False,
    ) -> None:
        for name, value in (("context_length", context_length), ("prediction_length", prediction_length)):
            if value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        if stride < 1:
            raise ValueError(f"stride is {stride}; it must be at least 1")
        if layout not in ("multivariate", "univariate"):
            raise ValueError(f"layout {layout!r} is unknown; choose 'multivariate' or 'univariate'")
        for column in (*covariates, *past_covariates):
            if column not in df.columns:
                raise FrameError(f"covariate {column!r} is not in the frame; found columns {list(df.columns)}")
        self.context_length = context_length
        self.prediction_length = prediction_length
        self.layout = layout
        self.stride = stride
        self.freq = normalize_freq(freq) if freq is not None else infer_freq(df)
        self._pad_short = pad_short
        self._id_dtype = df[ID].dtype
        if layout == "multivariate":
            self._build_multivariate(df, covariates, past_covariates, channels, share_covariates)
        else:
            if channels is not None:
                raise ValueError("channels orders the multivariate layout; the univariate one has a single channel")
            self._build_univariate(df, covariates, past_covariates)
        self._starts, self._segment_of = self._find_windows()
        self._offsets = torch.arange(context_length + prediction_length)
        self.further: Callable[[WindowDataset, Tensor], dict[str, Tensor]] | None = None

    @property
    def num_channels(self) -> int:
        """C: the series in a sample."""
        return int(self._values.shape[1])

    @property
    def num_time_features(self) -> int:
        """F: calendar features a step."""
        return int(self._features.shape[1])

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, index: int) -> Batch:
        if not -len(self) <= index < len(self):
            raise IndexError(f"window {index} of {len(self)}")
        batch: dict[str, Any] = dict(self.gather(torch.tensor([index])))
        return Batch(**{key: value[0] for key, value in batch.items()})  # type: ignore[typeddict-item]

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Gathers a whole batch at once; a DataLoader calls this and hands the result to `collate_windows`."""
        return self.gather(torch.as_tensor(indices))

    def gather(self, indices: Tensor) -> Batch:
        """Returns the windows `indices` [B] as one batch."""
        context = self.context_length
        at = self._starts[indices][:, None] + self._offsets  # [B, L + H]
        values = self._values[at]  # [B, L + H, C]
        past, future = values[:, :context], values[:, context:]
        observed = ~torch.isnan(past)
        features = self._features[at]  # [B, L + H, F]
        batch = Batch(
            past_values=torch.where(observed, past, torch.zeros((), dtype=past.dtype)),
            past_observed_mask=observed,
            past_time_features=features[:, :context],
            future_time_features=features[:, context:],
            future_values=future,
        )
        if self.covariate_names:
            covariates = self._covariates[at]  # [B, L + H, K]
            batch["past_covariates"] = covariates[:, :context]
            if self.num_known_covariates:
                batch["future_covariates"] = covariates[:, context:, : self.num_known_covariates]
        if self.further is not None:
            batch.update(self.further(self, indices))  # type: ignore[typeddict-item]
        return batch

    def count_targets(self) -> Tensor:
        """Returns how many windows have an observed target at each step ahead, for each channel [H, C]."""
        ahead = [self._starts + self.context_length + k for k in range(self.prediction_length)]
        return torch.stack([(~torch.isnan(self._values[at])).sum(0) for at in ahead])

    def keep_first(self, share: float) -> "WindowDataset":
        """Returns a set of the first windows of each segment, a share of them rounded down, at least one.

        Args:
            share: Above 0, at most 1.

        Raises:
            ValueError: If the share lies outside.
        """
        check_share("share", share)
        kept = copy.copy(self)
        counts = torch.bincount(self._segment_of, minlength=len(self.segments))
        firsts = counts.cumsum(0) - counts  # [segments]
        position = torch.arange(len(self)) - firsts[self._segment_of]  # [N]
        most = (counts.double() * share + 1e-9).long().clamp_min(1)
        chosen = position < most[self._segment_of]
        kept._starts, kept._segment_of = self._starts[chosen], self._segment_of[chosen]
        return kept

    def digest(self) -> str:
        """Returns a hash of all that the windows hold: values, covariates, times and where they begin."""
        found = hashlib.sha256(f"{self.context_length} {self.prediction_length} {self.covariate_names}".encode())
        for tensor in (self._values, self._covariates, self._features, self._starts):
            found.update(tensor.contiguous().numpy().tobytes())
        found.update(pd.util.hash_array(np.asarray(self._times)).tobytes())
        return found.hexdigest()[:16]

    def times(self, indices: Tensor) -> np.ndarray:
        """Returns the times of the windows `indices` [B], context and horizon: [B, L + H]."""
        return self._times[(self._starts[indices][:, None] + self._offsets).numpy()]

    def covariate_values(self, indices: Tensor) -> Tensor:
        """Returns the covariates of the windows `indices` [B]: [B, L + H, K], NaN where only the past is known."""
        values = self._covariates[self._starts[indices][:, None] + self._offsets].clone()
        values[:, self.context_length :, self.num_known_covariates :] = torch.nan
        return values

    def window_frame(self) -> pd.DataFrame:
        """Returns one row a window and channel: `window, channel, unique_id, cutoff` (time of the last context step).

        Rows are ordered by window, then channel, as `values.permute(0, 2, 1)` of a forecast [N, H, C] is.
        """
        segment = self._segment_of.numpy()
        ids = np.empty((len(self.segments), self.num_channels), dtype=object)
        for k, s in enumerate(self.segments):
            ids[k] = s.series
        window = np.repeat(np.arange(len(self)), self.num_channels)
        frame = pd.DataFrame(
            {
                "window": window,
                "channel": np.tile(np.arange(self.num_channels), len(self)),
                ID: ids[segment].reshape(-1),  # [N * C]
                CUTOFF: np.repeat(self._times[self._starts.numpy() + self.context_length - 1], self.num_channels),
            }
        )
        frame[ID] = frame[ID].astype(self._id_dtype)
        return frame

    def to_frame(self, columns: dict[str, np.ndarray], indices: Sequence[int] | None = None) -> pd.DataFrame:
        """Dates forecasts: a long frame `unique_id, ds, cutoff` and one column for each array.

        Args:
            columns: name -> array [N, H, C], N windows in the order of `indices`.
            indices: Which windows; None means all, in order.

        Returns:
            N * C * H rows, ordered by window, channel and step.
        """
        chosen = np.arange(len(self)) if indices is None else np.asarray(indices)
        channels, h = self.num_channels, self.prediction_length
        keys = self.window_frame()
        rows = (chosen[:, None] * channels + np.arange(channels)).reshape(-1)  # [N * C]
        keys = keys.iloc[rows]
        at = self._starts.numpy()[keys["window"]][:, None] + self.context_length + np.arange(h)  # [N * C, H]
        out = pd.DataFrame({ID: keys[ID].repeat(h).to_numpy(), TIME: self._times[at].reshape(-1)})
        out[ID] = out[ID].astype(self._id_dtype)
        out[CUTOFF] = keys[CUTOFF].repeat(h).to_numpy()
        for name, array in columns.items():
            expected = (len(chosen), h, channels)
            if array.shape != expected:
                raise ValueError(f"column {name!r} has shape {array.shape}; expected [N, H, C] = {expected}")
            out[name] = np.asarray(array).transpose(0, 2, 1).reshape(-1)  # [N, C, H] -> [N * C * H]
        return out

    def _build_multivariate(
        self,
        df: pd.DataFrame,
        known: Sequence[str],
        past: Sequence[str],
        channels: Sequence[Any] | None,
        share: bool,
    ) -> None:
        series = df[ID].unique().tolist()
        order = series if channels is None else list(channels)
        if sorted(map(str, order)) != sorted(map(str, series)):
            raise FrameError(f"channels are {order}, the frame's series {series}; name each series once")
        rows = {name: slice(first, last) for name, first, last in series_bounds(df)}
        axis = df[TIME].to_numpy()
        times = axis[rows[order[0]]]
        for name in order:
            own = axis[rows[name]]
            if len(own) != len(times) or (own != times).any():
                raise FrameError(
                    f"series {name!r} ({len(own)} steps, {own[0]} to {own[-1]}) and {order[0]!r} ({len(times)} steps, "
                    f"{times[0]} to {times[-1]}) do not share their times; use layout='univariate', or cut them to the"
                    " same range"
                )

        def stack(column: str) -> np.ndarray:
            values = df[column].to_numpy(dtype="float64")
            return np.stack([values[rows[name]] for name in order], axis=1)  # [T, C]

        names: list[str] = []
        columns: list[np.ndarray] = []
        counts = []
        for group in (known, past):
            for column in group:
                stacked = stack(column)
                if share:
                    if not np.array_equal(stacked, np.repeat(stacked[:, :1], len(order), axis=1), equal_nan=True):
                        raise FrameError(
                            f"covariate {column!r} differs between series; pass share_covariates=False, which gives"
                            " each series a column of its own"
                        )
                    names.append(column)
                    columns.append(stacked[:, :1])
                else:
                    names += [f"{name}:{column}" for name in order]
                    columns.append(stacked)
            counts.append(len(names))
        covariates = np.concatenate(columns, axis=1) if columns else np.zeros((len(times), 0))
        self.covariate_names, self.num_known_covariates = tuple(names), counts[0]
        self._store([(tuple(order), 0, len(times))], times, stack(TARGET), covariates)

    def _build_univariate(self, df: pd.DataFrame, known: Sequence[str], past: Sequence[str]) -> None:
        self.covariate_names, self.num_known_covariates = (*known, *past), len(known)
        parts = [((name,), first, last) for name, first, last in series_bounds(df)]
        covariates = df[[*known, *past]].to_numpy(dtype="float64")  # [T_all, K]
        self._store(parts, df[TIME].to_numpy(), df[[TARGET]].to_numpy(dtype="float64"), covariates)

    def _store(
        self,
        parts: list[tuple[tuple[Any, ...], int, int]],
        times: np.ndarray,
        values: np.ndarray,
        covariates: np.ndarray,
    ) -> None:
        """Lays all segments behind one another on one axis, each padded to the length of a window."""
        needed = self.context_length + self.prediction_length
        self.segments: list[Segment] = []
        rows: list[np.ndarray] = []
        start = 0
        for series, first, last in parts:
            padding = max(0, needed - (last - first))
            if padding and not self._pad_short:
                raise FrameError(
                    f"series {series[0]!r} has {last - first} steps, context_length + prediction_length is {needed};"
                    " lower one of the two, leave the series out, or pass pad_short=True (--pad-short)"
                )
            self.segments.append(Segment(series, start, last - first + padding, padding))
            start += last - first + padding
            rows += [np.full(padding, first), np.arange(first, last)]  # a padded step repeats the first one's time
        source = np.concatenate(rows)  # [T_all]
        padded = np.concatenate([np.arange(s.length) < s.padding for s in self.segments])  # [T_all]
        self._times = times[source]

        def lay(array: np.ndarray, filler: float) -> Tensor:
            laid = torch.from_numpy(array[source]).float()  # [T_all, columns]
            laid[torch.from_numpy(padded)] = filler
            return laid

        self._values = lay(values, torch.nan)  # [T_all, C]
        self._covariates = lay(covariates, 0.0)  # [T_all, K]
        self._features = lay(time_features(times, self.freq), 0.0)  # [T_all, F]

    def _find_windows(self) -> tuple[Tensor, Tensor]:
        starts, owners = [], []
        for k, segment in enumerate(self.segments):
            last = segment.length - self.context_length - self.prediction_length
            own = torch.arange(0, last + 1, self.stride)
            if own[-1] != last:
                own = torch.cat([own, torch.tensor([last])])
            starts.append(segment.start + own)
            owners.append(torch.full_like(own, k))
        return torch.cat(starts), torch.cat(owners)


def check_share(name: str, share: Any) -> None:
    """Refuses what is no share of windows.

    Raises:
        ValueError: Naming it.
    """
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share <= 1:
        raise ValueError(f"{name} is {share!r}; it must lie above 0 and at most at 1 (0.1 = a tenth)")


def collate_windows(items: Any) -> Batch:
    """Collates what a DataLoader fetched: a batch that `__getitems__` made already, or a list of single windows."""
    if isinstance(items, dict):
        return items  # type: ignore[return-value]
    return Batch(**{key: torch.stack([item[key] for item in items]) for key in items[0]})  # type: ignore[typeddict-item]


def prediction_windows(
    df: pd.DataFrame,
    context_length: int,
    prediction_length: int,
    *,
    freq: Freq | None = None,
    future: pd.DataFrame | None = None,
    layout: Layout = "multivariate",
    covariates: Sequence[str] = (),
    past_covariates: Sequence[str] = (),
    channels: Sequence[Any] | None = None,
    share_covariates: bool = False,
) -> WindowDataset:
    """Returns one window a series that forecasts the steps after its last row; its `future_values` are NaN.

    Args:
        df: Validated long frame; series shorter than the context are padded with unobserved steps.
        context_length: L, steps.
        prediction_length: H, steps.
        freq: As in `validate_frame`; None infers it.
        future: `unique_id, ds` and the known covariates of the horizon; needed if there are `covariates`.
        layout: As in `WindowDataset`.
        covariates: As in `WindowDataset`.
        past_covariates: As in `WindowDataset`.
        channels: As in `WindowDataset`.
        share_covariates: As in `WindowDataset`.

    Raises:
        FrameError: If known covariates of the horizon are missing.
    """
    used = normalize_freq(freq) if freq is not None else infer_freq(df)
    ahead = future_frame(df, prediction_length, used)
    if covariates:
        if future is None:
            raise FrameError(
                f"the covariates {list(covariates)} must be known over the horizon; pass a frame with {ID!r}, {TIME!r}"
                f" and these columns for the {prediction_length} steps after the last row of each series "
                "(X_df; --future FILE)"
            )
        absent = [c for c in (ID, TIME, *covariates) if c not in future.columns]
        if absent:
            raise FrameError(f"the frame of the future lacks column {absent[0]!r}; found {list(future.columns)}")
        ahead = ahead.merge(future[[ID, TIME, *covariates]], on=[ID, TIME], how="left")
        missing = ahead[list(covariates)].isna().any(axis=1).to_numpy()
        if missing.any():
            row = ahead.iloc[int(missing.argmax())]
            raise FrameError(
                f"series {row[ID]!r}: no covariates for {row[TIME]}; the frame of the future must hold all "
                f"{prediction_length} steps from {ahead[TIME].min()} on"
            )
    ahead[TARGET] = np.nan
    for column in past_covariates:
        ahead[column] = np.nan
    tail = df.groupby(ID, sort=False).tail(context_length)
    columns = [ID, TIME, TARGET, *covariates, *past_covariates]
    joined = pd.concat([tail[columns], ahead[columns]], ignore_index=True)
    position = {name: k for k, name in enumerate(df[ID].unique())}
    joined = joined.iloc[np.argsort(joined[ID].map(position).to_numpy(), kind="stable")].reset_index(drop=True)
    return WindowDataset(
        joined,
        context_length,
        prediction_length,
        layout=layout,
        freq=used,
        covariates=covariates,
        past_covariates=past_covariates,
        channels=channels,
        share_covariates=share_covariates,
        pad_short=True,
    )
