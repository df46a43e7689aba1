"""TimesNet: a series folded at its strongest periods into maps, convolved in two directions (Wu 2023, ICLR).

Deliberate deviation: every sample is folded at its own periods. The public code averages the spectra over the batch,
so a forecast there depends on the other samples; `reference_quirks` reproduces that.
"""

from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tsllm.models.base import ForecastModel
from tsllm.models.config import ForecastConfig, require_positive
from tsllm.models.inputs import Inputs, RawForecast
from tsllm.models.losses import Loss, compute_timesnet_spectral
from tsllm.nn.blocks import build_map_block
from tsllm.nn.conv.map_inception import INCEPTIONS, MapInception, convolve_same
from tsllm.nn.embedding import TIME_EMBEDDINGS, StepEmbedding
from tsllm.nn.normalization import InstanceNorm

MAP_POSITIONS = ("after", "instead")


class TimesNetConfig(ForecastConfig):
    """TimesNet's configuration.

    Attributes:
        d_model: Width of the tokens.
        num_layers: Number of blocks.
        d_ff: Channels between the two inceptions of a block.
        top_k: Periods at which a series is folded.
        num_kernels: Kernels of sizes 1, 3, 5, ... in an inception.
        inception: `square` kernels, or `cross` for kernels along rows and along columns, see `MapInception`.
        dropout: Dropout rate of the embedding.
        time_embedding: `linear`, or `fixed` / `learned` for integer calendar columns.
        map_block: Specification of a block over the folded maps, see `tsllm.nn.blocks.build_map_block`; None = none.
        map_block_position: `after` the second inception, or `instead` of both.
    """

    model_type = "tsllm_timesnet"
    own_losses = {"timesnet_spectral": Loss(compute_timesnet_spectral)}

    d_model: int = 16
    num_layers: int = 2
    d_ff: int = 32
    top_k: int = 5
    num_kernels: int = 6
    inception: str = "square"
    dropout: float = 0.1
    time_embedding: str = "linear"
    map_block: str | dict[str, Any] | None = None
    map_block_position: str = "after"

    def check(self) -> None:
        """Checks the values; see the base class."""
        super().check()
        for name in ("d_model", "num_layers", "d_ff", "top_k", "num_kernels"):
            require_positive(self, name)
        if self.inception not in INCEPTIONS:
            raise ValueError(f"inception must be one of {list(INCEPTIONS)}, got {self.inception!r}")
        if self.time_embedding not in TIME_EMBEDDINGS:
            raise ValueError(f"time_embedding must be one of {list(TIME_EMBEDDINGS)}, got {self.time_embedding!r}")
        if self.map_block_position not in MAP_POSITIONS:
            raise ValueError(
                f"map_block_position must be one of {list(MAP_POSITIONS)}, got {self.map_block_position!r}"
            )
        if self.map_block is None and self.map_block_position == "instead":
            raise ValueError("map_block_position is 'instead', but map_block names no block; set map_block")
        frequencies = (self.context_length + self.prediction_length) // 2
        if self.top_k > frequencies:
            raise ValueError(
                f"top_k ({self.top_k}) exceeds the {frequencies} frequencies of context and horizon together; lower it"
            )


def find_periods(x: Tensor, top_k: int, batch_average: bool = False) -> tuple[Tensor, Tensor]:
    """Finds the strongest periods of multivariate series (Wu 2023, eq. 1); the level, frequency 0, does not count.

    Args:
        x: [B, T, D].
        top_k: Number of periods k, at most T // 2.
        batch_average: Choose common periods from the spectrum averaged over the batch, as the public code does.

    Returns:
        Periods in steps [B, k], integers, and the amplitude of each in each sample [B, k], averaged over D.
    """
    amplitudes = torch.fft.rfft(x.float(), dim=1).abs().mean(-1)  # [B, T // 2 + 1]
    ranking = amplitudes.detach()
    ranking = ranking.mean(0, keepdim=True) if batch_average else ranking
    frequencies = ranking[:, 1:].topk(top_k, dim=1).indices + 1  # [B or 1, k]
    frequencies = frequencies.expand(len(x), -1)
    return x.shape[1] // frequencies, amplitudes.gather(1, frequencies)


class FoldedInception(nn.Module):
    """Two inceptions with GELU between, on maps of several sizes that share one merge of the kernels.

    Args:
        d_model: Channels in and out.
        d_ff: Channels between.
        num_kernels: Kernels of an inception.
        kind: Kind of the inceptions.
    """

    def __init__(self, d_model: int, d_ff: int, num_kernels: int, kind: Literal["square", "cross"] = "square") -> None:
        super().__init__()
        self.up = MapInception(d_model, num_kernels, d_ff, kind)
        self.down = MapInception(d_ff, num_kernels, d_model, kind)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Convolves each map [n, D, rows, columns]; shapes stay."""
        up, down = self.up.merge(), self.down.merge()
        return [convolve_same(F.gelu(convolve_same(x, *up)), *down) for x in maps]


class TimesBlock(nn.Module):
    """Folds series at their strongest periods, convolves the maps, adds what comes back weighted by the amplitudes.

    Args:
        config: The model's configuration.
    """

    def __init__(self, config: TimesNetConfig) -> None:
        super().__init__()
        self.top_k = config.top_k
        self.batch_average = config.reference_quirks
        replaced = config.map_block is not None and config.map_block_position == "instead"
        self.inception: FoldedInception | None = None
        if not replaced:
            kind = cast(Literal["square", "cross"], config.inception)
            self.inception = FoldedInception(config.d_model, config.d_ff, config.num_kernels, kind)
        self.map_block = None if config.map_block is None else build_map_block(config.map_block, config.d_model)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Convolves x [B, T, D]; returns [B, T, D], the periods [B, k] and their amplitudes [B, k]."""
        periods, amplitudes = find_periods(x, self.top_k, self.batch_average)
        weights = torch.softmax(amplitudes, dim=1).to(x.dtype)  # [B, k]
        # One map size per distinct period of the batch; the series that share it are convolved together.
        distinct = periods.unique()
        shared = periods.unsqueeze(-1) == distinct  # [B, k, distinct]
        members = shared.any(1)  # [B, distinct]
        strength = (weights.unsqueeze(-1) * shared).sum(1)  # [B, distinct]
        rows = [members[:, i].nonzero().squeeze(1) for i in range(len(distinct))]
        maps = [_fold(x[row], period) for row, period in zip(rows, distinct.tolist(), strict=True)]
        if self.inception is not None:
            maps = self.inception(maps)
        if self.map_block is not None:
            maps = [self.map_block(part) for part in maps]
        result = x
        for i, (row, part) in enumerate(zip(rows, maps, strict=True)):
            unfolded = part.permute(0, 2, 3, 1).flatten(1, 2)[:, : x.shape[1]]  # [n, T, D]
            result = result.index_add(0, row, unfolded * strength[row, i, None, None])
        return result, periods, amplitudes


def _fold(x: Tensor, period: int) -> Tensor:
    """Folds x [n, T, D] into maps [n, D, rows, period], one period a row, zeros after the end."""
    padded = F.pad(x, (0, 0, 0, -x.shape[1] % period))
    return padded.unflatten(1, (-1, period)).permute(0, 3, 1, 2)  # [n, D, rows, period]


class TimesNet(ForecastModel):
    """Extends the embedded context over the horizon by a linear map, then refines both by periodic blocks."""

    config_class = TimesNetConfig
    config: TimesNetConfig
    uses_time_features = True

    def __init__(self, config: TimesNetConfig) -> None:
        super().__init__(config)
        width, length, horizon = config.d_model, config.context_length, config.prediction_length
        self.norm = InstanceNorm()
        self.embedding = StepEmbedding(
            config.num_channels,
            width,
            length,
            num_features=config.num_time_features,
            time_embedding=config.time_embedding,
            dropout=config.dropout,
        )
        self.time_map = nn.Linear(length, length + horizon)
        self.blocks = nn.ModuleList(TimesBlock(config) for _ in range(config.num_layers))
        self.layer_norm = nn.LayerNorm(width)
        self.projection = nn.Linear(width, config.num_channels * self.output_head.num_parameters)
        self.post_init()

    def forecast(self, inputs: Inputs) -> RawForecast:
        """Forecasts; `extras` holds per block the `periods` [B, k] in steps and their `amplitudes` [B, k]."""
        values, loc, scale = self.norm(inputs.past_values, inputs.past_observed_mask)
        tokens = self.embedding(values, inputs.past_time_features)  # [B, L, D]
        tokens = self.time_map(tokens.transpose(1, 2)).transpose(1, 2)  # [B, L + H, D]
        periods, amplitudes = [], []
        for block in cast("list[TimesBlock]", list(self.blocks)):
            tokens, block_periods, block_amplitudes = block(tokens)
            tokens = self.layer_norm(tokens)
            periods.append(block_periods)
            amplitudes.append(block_amplitudes)
        ahead = self.projection(tokens[:, -self.config.prediction_length :])  # [B, H, C * parameters]
        ahead = ahead.unflatten(2, (self.config.num_channels, -1))  # [B, H, C, parameters]
        return RawForecast(ahead, loc, scale, extras={"periods": periods, "amplitudes": amplitudes})
