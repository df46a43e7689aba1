"""Queries, one a step of the horizon, read a memory or the hidden states of texts, and answer by a residual."""

import torch
from torch import Tensor, nn

from tsllm.nn.attention.full import CrossAttention
from tsllm.nn.dropout import Dropout
from tsllm.nn.encoder import FeedForward

SMALL = 0.02  # deviation of the first places, as language models draw theirs


class HorizonLayer(nn.Module):
    """Queries read the memory, then a feed-forward part; norms in front, residuals around.

    Args:
        d_model: Width D of queries and memory.
        num_heads: Heads of the cross-attention.
        d_ff: Inner width of the feed-forward part.
        dropout: Rate on both sublayers.
    """

    def __init__(self, d_model: int, num_heads: int, d_ff: int, dropout: float) -> None:
        super().__init__()
        self.norm_read = nn.LayerNorm(d_model)
        self.read = CrossAttention(d_model, num_heads)  # without dropout on its maps it runs fused
        self.norm_feed_forward = nn.LayerNorm(d_model)
        self.feed_forward = FeedForward(d_model, d_ff, dropout=dropout)
        self.dropout = Dropout(dropout)

    def forward(self, queries: Tensor, memory: Tensor, mask: Tensor | None = None) -> Tensor:
        """Reads `memory` [N, M, D] at `queries` [N, H, D] -> [N, H, D]; `mask` [N, H, M], True = may be read."""
        queries = queries + self.dropout(self.read(self.norm_read(queries), memory, mask))
        return queries + self.feed_forward(self.norm_feed_forward(queries))


class Answer(nn.Module):
    """What queries add to the forecast: sigmoid(gate) * value; the map to the value starts at zero.

    Args:
        d_model: Width D of the queries.
        num_parameters: K', numbers that the output head wants a step.
    """

    def __init__(self, d_model: int, num_parameters: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(d_model)
        self.gate = nn.Linear(d_model, 1)
        self.value = nn.Linear(d_model, num_parameters)
        nn.init.zeros_(self.value.weight)
        nn.init.zeros_(self.value.bias)

    def forward(self, queries: Tensor) -> Tensor:
        """Maps queries [N, H, D] to a residual [N, H, K']."""
        queries = self.norm(queries)
        return torch.sigmoid(self.gate(queries)) * self.value(queries)


class TextReader(nn.Module):
    """The queries read the hidden states of texts, and answer by a residual of their own.

    Texts have an attention of their own instead of places in the common memory, so that a step of which nothing is
    told is computed to the bit as if there were no texts, whatever its neighbours and its batch mates are told.

    Args:
        hidden_size: Width d of the hidden states.
        num_parameters: K', numbers that the output head wants a step.
        num_calendar: F, waves of the calendar a step.
        d_model: Width D of the queries.
        num_heads: Heads of the cross-attention.
        d_ff: Inner width of the feed-forward part.
        dropout: Rate on both sublayers.
    """

    def __init__(
        self,
        hidden_size: int,
        num_parameters: int,
        num_calendar: int,
        d_model: int,
        num_heads: int,
        d_ff: int,
        dropout: float,
    ) -> None:
        super().__init__()
        # Nothing trained in front of the map: no gradient then flows through the wide states.
        self.norm = nn.LayerNorm(hidden_size, elementwise_affine=False)
        self.embed = nn.Linear(hidden_size, d_model)
        self.calendar = nn.Linear(num_calendar, d_model, bias=False)  # a text speaks of times
        self.layer = HorizonLayer(d_model, num_heads, d_ff, dropout)
        self.answer = Answer(d_model, num_parameters)

    @property
    def is_silent(self) -> bool:
        """Whether nothing was learned of texts, so that none changes a forecast."""
        return not any(bool(parameter.any()) for parameter in self.answer.value.parameters())

    def forward(self, queries: Tensor, calendar: Tensor, states: Tensor, mask: Tensor) -> Tensor:
        """Computes the residual.

        Args:
            queries: [N, H, D].
            calendar: Waves of day, week and year at the steps of the horizon [N, H, F].
            states: Hidden states of the texts [N, T, d].
            mask: [N, H, T], True = the token is of a text about this step.

        Returns:
            [N, H, K'], zero at steps of which nothing is told.
        """
        told = mask.any(dim=2)  # [N, H]
        rows = told.any(dim=1).nonzero()[:, 0]  # [M]
        residual = queries.new_zeros(*queries.shape[:2], self.answer.value.out_features)
        if not len(rows):
            return residual
        mask = mask[rows]
        tokens = self.embed(self.norm(states[rows].to(queries.dtype)))  # [M, T, D]
        asking = queries[rows] + self.calendar(calendar[rows].to(queries.dtype))
        asking = self.layer(asking, tokens, mask)  # [M, H, D]
        answer = self.answer(asking).masked_fill(~told[rows].unsqueeze(-1), 0.0)  # [M, H, K']
        return residual.index_copy(0, rows, answer)


class TextBranch(nn.Module):
    """Makes any forecaster read texts: one query a step and channel, and what the reader answers it.

    A query says which step and channel it is of, and what is forecast there. It is told the units of the window too,
    so that a text about a level ("held at 9") can be answered in a space that is normalised by window.

    Args:
        reader: Reads the texts.
        prediction_length: H, steps of the horizon.
        num_channels: C.
        num_facts: Numbers that describe a step's forecast and its units.
        d_model: Width D of the reader's queries.
    """

    def __init__(
        self, reader: TextReader, prediction_length: int, num_channels: int, num_facts: int, d_model: int
    ) -> None:
        super().__init__()
        self.steps = nn.Parameter(SMALL * torch.randn(prediction_length, d_model))
        self.channels = nn.Parameter(SMALL * torch.randn(num_channels, d_model))
        self.facts = nn.Linear(num_facts, d_model, bias=False)
        self.reader = reader

    def forward(self, facts: Tensor, calendar: Tensor, states: Tensor, mask: Tensor) -> Tensor:
        """Computes the residual.

        Args:
            facts: What is forecast, and its units [B, H, C, num_facts].
            calendar: Waves of day, week and year at the steps of the horizon [B, H, F].
            states: Hidden states of the texts [B, C, T, d].
            mask: [B, C, H, T], True = the token is of a text about this step.

        Returns:
            [B, H, C, K'], zero at steps of which nothing is told.
        """
        batch, _, channels, _ = facts.shape
        queries = self.steps + self.channels[:, None] + self.facts(facts).transpose(1, 2)  # [B, C, H, D]
        calendar = calendar.repeat_interleave(channels, dim=0)  # [B * C, H, F]
        residual = self.reader(queries.flatten(0, 1), calendar, states.flatten(0, 1), mask.flatten(0, 1))
        return residual.unflatten(0, (batch, channels)).transpose(1, 2)  # [B, H, C, K']
