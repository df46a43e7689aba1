"""From steps to tokens: values, positions and calendar marks (Vaswani 2017; Zhou 2021, Informer)."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from tsllm.nn.dropout import Dropout

TimeEmbeddingKind = Literal["linear", "fixed", "learned"]
TIME_EMBEDDINGS = ("linear", "fixed", "learned")
CALENDAR_SIZES = {"month": 13, "day": 32, "weekday": 7, "hour": 24, "minute": 4}  # in the order of the columns


def compute_sinusoidal_positions(length: int, d_model: int) -> Tensor:
    """Computes PE[t, 2i] = sin(t / 10000^(2i/D)), PE[t, 2i+1] = cos of the same (Vaswani 2017, section 3.5).

    Args:
        length: Number of positions.
        d_model: Width D; may be odd, then the last sine has no cosine.

    Returns:
        [length, D], float32.
    """
    steps = torch.arange(length).float().unsqueeze(1)
    frequencies = (torch.arange(0, d_model, 2).float() * -(math.log(10000.0) / d_model)).exp()
    table = torch.zeros(length, d_model)
    table[:, 0::2] = torch.sin(steps * frequencies)
    table[:, 1::2] = torch.cos(steps * frequencies[: d_model // 2])
    return table


class TokenEmbedding(nn.Module):
    """Embeds each step with its two neighbours by a convolution; first and last step are neighbours.

    Args:
        num_channels: Number of channels C that come in.
        d_model: Width D of the tokens.
        bias: Whether the convolution has a bias.
    """

    def __init__(self, num_channels: int, d_model: int, bias: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv1d(num_channels, d_model, 3, padding=1, padding_mode="circular", bias=bias)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_in", nonlinearity="leaky_relu")

    def forward(self, values: Tensor) -> Tensor:
        """Embeds values [B, L, C] -> [B, L, D]."""
        return self.conv(values.transpose(1, 2)).transpose(1, 2)  # [B, L, D]


class CalendarEmbedding(nn.Module):
    """Sum of look-ups of integer calendar columns: month, day, weekday, hour and optionally quarter of an hour.

    Args:
        num_features: Number of columns, 4 or 5.
        d_model: Width D.
        learned: Whether the tables are trained; otherwise they are sinusoidal.

    Raises:
        ValueError: If the number of columns is neither 4 nor 5.
    """

    def __init__(self, num_features: int, d_model: int, learned: bool) -> None:
        super().__init__()
        if num_features not in (4, 5):
            raise ValueError(
                "calendar tables read the integer columns month, day, weekday, hour and optionally minute (in "
                f"quarters), so num_time_features must be 4 or 5, got {num_features}; use time_embedding: linear else"
            )
        sizes = dict(list(CALENDAR_SIZES.items())[:num_features])
        self.tables = nn.ModuleDict({name: nn.Embedding(size, d_model) for name, size in sizes.items()})
        if not learned:
            for table in self.tables.values():
                assert isinstance(table, nn.Embedding)
                table.weight = nn.Parameter(
                    compute_sinusoidal_positions(table.num_embeddings, d_model), requires_grad=False
                )

    def forward(self, features: Tensor) -> Tensor:
        """Embeds columns [B, L, 4 or 5] of integers -> [B, L, D].

        Raises:
            ValueError: If a column holds fractions, which a table would silently truncate.
        """
        index = features.long()
        if features.is_floating_point() and not torch.equal(index.to(features.dtype), features):
            raise ValueError(
                "calendar tables need integer columns (month, day, weekday, hour), but the time features hold "
                "fractions; use time_embedding: linear for features in [-0.5, 0.5]"
            )
        return torch.stack([table(index[..., i]) for i, table in enumerate(self.tables.values())]).sum(0)


def build_time_embedding(kind: str, num_features: int, d_model: int) -> nn.Module | None:
    """Builds the embedding of calendar marks [B, L, F] -> [B, L, D]; None without marks.

    Args:
        kind: "linear" for features in [-0.5, 0.5], "fixed" or "learned" for integer columns.
        num_features: F.
        d_model: Width D.

    Raises:
        ValueError: If the kind is unknown.
    """
    if kind not in TIME_EMBEDDINGS:
        raise ValueError(f"unknown time_embedding {kind!r}; expected one of {list(TIME_EMBEDDINGS)}")
    if num_features == 0:
        return None
    if kind == "linear":
        return nn.Linear(num_features, d_model, bias=False)
    return CalendarEmbedding(num_features, d_model, learned=kind == "learned")


class StepEmbedding(nn.Module):
    """Embeds steps as the sum of their values, their position, their calendar and the series they belong to.

    Args:
        num_channels: Number of channels C.
        d_model: Width D.
        length: Largest number of steps.
        num_features: Calendar columns F, the series' number not counted.
        time_embedding: See `build_time_embedding`.
        num_series: Number of series with a learned vector each; 0 = none. Their number stands in a last column.
        bias: Whether the embedding of the values has a bias.
        dropout: Dropout rate on the result.
    """

    positions: Tensor

    def __init__(
        self,
        num_channels: int,
        d_model: int,
        length: int,
        num_features: int = 0,
        time_embedding: str = "linear",
        num_series: int = 0,
        bias: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.tokens = TokenEmbedding(num_channels, d_model, bias)
        self.calendar = build_time_embedding(time_embedding, num_features, d_model)
        self.series = nn.Embedding(num_series, d_model) if num_series else None
        self.register_buffer("positions", compute_sinusoidal_positions(length, d_model), persistent=False)  # [L, D]
        self.dropout = Dropout(dropout)

    def forward(self, values: Tensor, features: Tensor | None = None) -> Tensor:
        """Embeds values [B, L, C] and features [B, L, F (+ 1)] -> [B, L, D]."""
        embedded = self.tokens(values) + self.positions[: values.shape[1]]
        if self.series is not None:
            assert features is not None
            embedded = embedded + self.series(features[..., -1].long())
            features = features[..., :-1]
        if self.calendar is not None:
            embedded = embedded + self.calendar(features)
        return self.dropout(embedded)
