"""TimeMixer: seasons mixed from fine to coarse, trends from coarse to fine, over averaged copies (Wang 2024, ICLR).

Deliberate deviations from the public code, each undone by `reference_quirks`: every series gets the calendar of its
own sample; the Fourier decomposition keeps the strongest waves of each series instead of blanking the first sample;
blocks have their residual in channel-mixing mode too; where a window does not divide the length, the oldest steps
are left out of the coarser scale and not the newest. Down-sampling by convolution is learned, not drawn anew at
every call.
"""

import itertools
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tsllm.models.base import ForecastModel
from tsllm.models.config import ForecastConfig, require_positive
from tsllm.models.inputs import Inputs, RawForecast
from tsllm.nn.decomposition import FourierDecomposition, SeriesDecomposition
from tsllm.nn.dropout import Dropout
from tsllm.nn.embedding import TIME_EMBEDDINGS, TokenEmbedding, build_time_embedding
from tsllm.nn.normalization import InstanceNorm

DECOMPOSITIONS = ("moving_average", "dft")
DOWNSAMPLINGS = ("average", "max", "conv")


class TimeMixerConfig(ForecastConfig):
    """TimeMixer's configuration.

    Attributes:
        d_model: Width of the tokens.
        num_layers: Number of mixing blocks.
        d_ff: Inner width of the pointwise maps.
        dropout: Dropout rate of the embeddings.
        decomposition: `moving_average` or `dft`.
        moving_average: Odd window of the trend in steps.
        top_k: Frequencies of the season, for `dft`.
        channel_mixing: Embed all channels together instead of each alone.
        downsampling_layers: Number of coarser scales.
        downsampling_window: Steps of one scale in a step of the next.
        downsampling: `average`, `max` or `conv`.
        instance_norm: Normalise every window, channel and scale by its own mean and deviation.
        time_embedding: `linear`, or `fixed` / `learned` for integer calendar columns.
    """

    model_type = "tsllm_timemixer"

    d_model: int = 16
    num_layers: int = 2
    d_ff: int = 32
    dropout: float = 0.1
    decomposition: str = "moving_average"
    moving_average: int = 25
    top_k: int = 5
    channel_mixing: bool = False
    downsampling_layers: int = 3
    downsampling_window: int = 2
    downsampling: str = "average"
    instance_norm: bool = True
    time_embedding: str = "linear"

    def check(self) -> None:
        """Checks the values; see the base class."""
        super().check()
        for name in ("d_model", "num_layers", "d_ff", "top_k", "downsampling_window", "moving_average"):
            require_positive(self, name)
        if not isinstance(self.downsampling_layers, int) or self.downsampling_layers < 0:
            raise ValueError(f"downsampling_layers must be an integer >= 0, got {self.downsampling_layers!r}")
        if self.moving_average % 2 == 0:
            raise ValueError(f"moving_average must be odd and positive, got {self.moving_average}")
        for name, allowed in (
            ("decomposition", DECOMPOSITIONS),
            ("downsampling", DOWNSAMPLINGS),
            ("time_embedding", TIME_EMBEDDINGS),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {list(allowed)}, got {getattr(self, name)!r}")
        if self.downsampling_layers > self.context_length.bit_length() or self.scale_lengths[-1] < 1:
            raise ValueError(
                f"context_length ({self.context_length}) has no step left after {self.downsampling_layers} "
                f"downsampling_layers of window {self.downsampling_window}; use fewer or smaller ones"
            )
        faithful = self.decomposition == "dft" and not self.reference_quirks  # the public code ranks across channels
        if faithful and self.top_k > self.scale_lengths[-1] // 2:
            raise ValueError(
                f"top_k ({self.top_k}) exceeds the {self.scale_lengths[-1] // 2} frequencies of the coarsest scale "
                f"({self.scale_lengths[-1]} steps); lower top_k or downsampling_layers"
            )

    @property
    def scale_lengths(self) -> list[int]:
        """Steps of each scale, the finest first."""
        return [self.context_length // self.downsampling_window**i for i in range(self.downsampling_layers + 1)]


class TwoLayerMap(nn.Sequential):
    """Two linear maps over the last axis with GELU between."""

    def __init__(self, in_size: int, hidden_size: int, out_size: int) -> None:
        super().__init__(nn.Linear(in_size, hidden_size), nn.GELU(), nn.Linear(hidden_size, out_size))


class MixingBlock(nn.Module):
    """Decomposes every scale, mixes seasons upwards and trends downwards, adds them (past-decomposable mixing).

    Args:
        config: The model's configuration.
    """

    def __init__(self, config: TimeMixerConfig) -> None:
        super().__init__()
        lengths = config.scale_lengths
        self.decompositions = nn.ModuleList(
            FourierDecomposition(config.top_k, config.reference_quirks)
            if config.decomposition == "dft"
            else SeriesDecomposition(config.moving_average, length)
            for length in lengths
        )
        pairs = list(itertools.pairwise(lengths))
        self.season_maps = nn.ModuleList(TwoLayerMap(fine, coarse, coarse) for fine, coarse in pairs)
        self.trend_maps = nn.ModuleList(TwoLayerMap(coarse, fine, fine) for fine, coarse in pairs)
        width, inner = config.d_model, config.d_ff
        self.part_map = TwoLayerMap(width, inner, width) if config.channel_mixing else None
        has_residual = not (config.channel_mixing and config.reference_quirks)
        self.out_map = TwoLayerMap(width, inner, width) if has_residual else None

    def forward(self, scales: list[Tensor]) -> list[Tensor]:
        """Mixes tokens [N, T_i, D] of all scales, finest first; shapes stay."""
        seasons, trends = [], []
        for tokens, decomposition in zip(scales, self.decompositions, strict=True):
            parts = decomposition(tokens)
            if self.part_map is not None:
                parts = tuple(self.part_map(part) for part in parts)
            seasons.append(parts[0].transpose(1, 2))  # [N, D, T_i]
            trends.append(parts[1].transpose(1, 2))
        for i, season_map in enumerate(self.season_maps):
            seasons[i + 1] = seasons[i + 1] + season_map(seasons[i])
        for i, trend_map in reversed(list(enumerate(self.trend_maps))):
            trends[i] = trends[i] + trend_map(trends[i + 1])
        mixed = [(season + trend).transpose(1, 2) for season, trend in zip(seasons, trends, strict=True)]
        if self.out_map is None:
            return mixed
        lengths = [tokens.shape[1] for tokens in scales]
        added = self.out_map(torch.cat(mixed, dim=1)).split(lengths, dim=1)  # [N, T_i, D]
        return [tokens + part for tokens, part in zip(scales, added, strict=True)]


class TimeMixer(ForecastModel):
    """Forecasts from every scale and adds the forecasts."""

    config_class = TimeMixerConfig
    config: TimeMixerConfig
    uses_time_features = True

    def __init__(self, config: TimeMixerConfig) -> None:
        super().__init__(config)
        channels, width, horizon = config.num_channels, config.d_model, config.prediction_length
        lengths, per_step = config.scale_lengths, self.output_head.num_parameters
        self.norms = nn.ModuleList(InstanceNorm(channels, affine=config.instance_norm) for _ in lengths)
        self.downsample = None
        if config.downsampling == "conv" and config.downsampling_layers:
            window = config.downsampling_window
            self.downsample = nn.Conv1d(
                channels, channels, 3, stride=window, padding=1, padding_mode="circular", bias=False
            )
        self.embedding = TokenEmbedding(channels if config.channel_mixing else 1, width)
        self.time_embedding = build_time_embedding(config.time_embedding, config.num_time_features, width)
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(MixingBlock(config) for _ in range(config.num_layers))
        self.time_maps = nn.ModuleList(nn.Linear(length, horizon) for length in lengths)
        self.projection = nn.Linear(width, (channels if config.channel_mixing else 1) * per_step)
        self.preprocess = SeriesDecomposition(config.moving_average) if config.channel_mixing else None
        mixed = lengths if config.channel_mixing else []
        self.residual_maps = nn.ModuleList(nn.Linear(length, length) for length in mixed)
        self.regression_maps = nn.ModuleList(nn.Linear(length, horizon * per_step) for length in mixed)
        self.post_init()

    def forecast(self, inputs: Inputs) -> RawForecast:
        """Returns the sum over scales; `extras["scales"]` holds each scale's own part [B, H, C, parameters]."""
        series, loc, scale = self._normalise(self._pool(inputs.past_values, inputs.past_observed_mask))
        trends: list[Tensor] = []
        if self.preprocess is not None:
            series, trends = map(list, zip(*(self.preprocess(values) for values in series), strict=True))
        tokens = self._embed(series, inputs.past_time_features)
        for block in self.blocks:
            tokens = block(tokens)
        parts = [self._predict(i, part) for i, part in enumerate(tokens)]  # [B, H, C, parameters]
        for i, trend in enumerate(trends):
            parts[i] = parts[i] + self._regress(i, trend)
        return RawForecast(torch.stack(parts).sum(0), loc, scale, extras={"scales": parts})

    def _pool(self, values: Tensor, mask: Tensor | None) -> list[tuple[Tensor, Tensor | None]]:
        """Returns values [B, T_i, C] and mask of every scale; a coarse step is observed if one of its steps is."""
        scales = [(values, mask)]
        window = self.config.downsampling_window
        for _ in range(self.config.downsampling_layers):
            values, mask = scales[-1]
            values = self._cut(values).transpose(1, 2)  # [B, C, T]
            if self.downsample is not None:
                values = self.downsample(values)
            elif self.config.downsampling == "max":
                values = F.max_pool1d(values, window)
            else:
                values = F.avg_pool1d(values, window)
            if mask is not None:
                mask = F.max_pool1d(self._cut(mask).transpose(1, 2).float(), window).transpose(1, 2) > 0
            scales.append((values.transpose(1, 2), mask))
        return scales

    def _cut(self, steps: Tensor) -> Tensor:
        """Leaves out the oldest steps of [B, T, ...] that fill no window (the reference: the newest)."""
        whole, rest = divmod(steps.shape[1], self.config.downsampling_window)
        if self.config.reference_quirks:
            return steps[:, : whole * self.config.downsampling_window]
        return steps[:, rest:]

    def _normalise(
        self, scales: list[tuple[Tensor, Tensor | None]]
    ) -> tuple[list[Tensor], Tensor | None, Tensor | None]:
        """Normalises every scale by its own statistics; returns those of the finest."""
        if not self.config.instance_norm:
            return [values for values, _ in scales], None, None
        done = [norm(values, mask) for norm, (values, mask) in zip(self.norms, scales, strict=True)]
        return [values for values, _, _ in done], done[0][1], done[0][2]

    def _embed(self, series: list[Tensor], features: Tensor | None) -> list[Tensor]:
        """Embeds every scale [B, T_i, C] -> [B * C, T_i, D], or [B, T_i, D] if channels are mixed."""
        config, tokens = self.config, []
        for i, values in enumerate(series):
            if not config.channel_mixing:
                values = values.transpose(1, 2).flatten(0, 1).unsqueeze(2)  # [B * C, T_i, 1]
            embedded = self.embedding(values)
            if self.time_embedding is not None:
                assert features is not None
                if i:
                    features = self._cut(features)[:, :: config.downsampling_window]  # [B, T_i, F]
                embedded = embedded + self._repeat_for_channels(self.time_embedding(features))
            tokens.append(self.dropout(embedded))
        return tokens

    def _repeat_for_channels(self, calendar: Tensor) -> Tensor:
        """Gives the calendar [B, T, D] of each sample to all its series: [B * C, T, D]."""
        config = self.config
        if config.channel_mixing:
            return calendar
        if config.reference_quirks:
            return calendar.repeat(config.num_channels, 1, 1)
        return calendar.repeat_interleave(config.num_channels, dim=0)

    def _predict(self, scale: int, tokens: Tensor) -> Tensor:
        """Maps tokens [N, T, D] of one scale to its part of the forecast [B, H, C, parameters]."""
        config = self.config
        time_map = cast("nn.Linear", self.time_maps[scale])
        # The maps over time and over width commute; width first costs D times less. The bias of the map over time
        # passes the map over width, hence its factor.
        projected = F.linear(tokens, self.projection.weight).transpose(1, 2)  # [N, K, T]
        ahead = F.linear(projected, time_map.weight)  # [N, K, H]
        width_sum = self.projection.weight.sum(1, keepdim=True)  # [K, 1]
        ahead = ahead + width_sum * time_map.bias + self.projection.bias.unsqueeze(1)
        ahead = ahead.reshape(-1, config.num_channels, self.output_head.num_parameters, config.prediction_length)
        return ahead.permute(0, 3, 1, 2)  # [B, H, C, parameters]

    def _regress(self, scale: int, trend: Tensor) -> Tensor:
        """Maps the trend [B, T, C] of one scale, in channel space, to a forecast [B, H, C, parameters]."""
        residual = self.residual_maps[scale](trend.transpose(1, 2))  # [B, C, T]
        ahead = self.regression_maps[scale](residual)  # [B, C, H * parameters]
        return ahead.unflatten(2, (self.config.prediction_length, -1)).transpose(1, 2)
