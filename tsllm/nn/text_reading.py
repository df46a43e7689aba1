"""Queries, one a step of the horizon, read a memory or the hidden states of texts, and answer by a residual."""

from collections.abc import Iterator
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tsllm.nn.attention.base import merge_heads, split_heads
from tsllm.nn.attention.full import CrossAttention, FullAttention, mix_values
from tsllm.nn.dropout import Dropout
from tsllm.nn.encoder import FeedForward
from tsllm.nn.lens import Lens, shorten_width
from tsllm.nn.older_state import OlderState

SMALL = 0.02  # deviation of the first places, as language models draw theirs
READING_LAYERS = 2


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

    def look_up(self, queries: Tensor, places: Tensor, keys: Tensor, values: Tensor, allowed: Tensor) -> Tensor:
        """Does what `forward` does for some queries alone, with keys and values of the memory that were mapped before.

        Args:
            queries: Those that ask, of all N * H [Q, D].
            places: Which they are, numbers n * H + h [Q].
            keys: [N, M, D].
            values: [N, M, D].
            allowed: [N, 1, H, M], True = may be read, some of each query's.

        Returns:
            [Q, D].
        """
        read, shape = self.read, (allowed.shape[0], allowed.shape[2], -1)
        asked = read.query(self.norm_read(queries))  # [Q, D]
        asked = asked.new_zeros(shape[0] * shape[1], asked.shape[1]).index_copy(0, places, asked).view(shape)
        q, k, v = (split_heads(part, read.num_heads) for part in (asked, keys, values))
        mixed = mix_values(q, k, v, allowed)  # [N, h, H, d]
        found = read.out(merge_heads(mixed).flatten(0, 1).index_select(0, places))  # [Q, D]
        queries = queries + self.dropout(found)
        return queries + self.feed_forward(self.norm_feed_forward(queries))


class _Gated(nn.Module):
    """Numbers of queries and a gate, sigmoid(gate) in front of them; the map to the numbers starts at zero."""

    def __init__(self, d_model: int, count: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(d_model)
        self.gate = nn.Linear(d_model, 1)
        self.value = nn.Linear(d_model, count)
        nn.init.zeros_(self.value.weight)
        nn.init.zeros_(self.value.bias)

    def open(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the gate [..., 1] and the numbers [..., count] of queries [..., D]."""
        queries = self.norm(queries)
        return torch.sigmoid(self.gate(queries)), self.value(queries)


class Answer(_Gated):
    """What queries add to the forecast: sigmoid(gate) * value, zero at first.

    Args:
        d_model: Width D of the queries.
        num_parameters: K', numbers that the output head wants a step.
    """

    def __init__(self, d_model: int, num_parameters: int) -> None:
        super().__init__(d_model, num_parameters)

    def forward(self, queries: Tensor) -> Tensor:
        """Maps queries [N, H, D] to a residual [N, H, K']."""
        gate, value = self.open(queries)
        return gate * value


class AffineAnswer(_Gated):
    """What a text adds to a forecast: sigmoid(gate) * (an affine function of what is forecast), zero at first.

    The function is of the forecast as it stands in the window's units (f, with y = location + scale * f) and in those
    of the series: value + rate * f + level * location / scale + amount / scale. So a text that says "at the cap", "by
    half" or "five more" asks for numbers that do not depend on the window.

    Args:
        d_model: Width D of the queries.
        num_parameters: K', numbers that the output head wants a step.
    """

    def __init__(self, d_model: int, num_parameters: int) -> None:
        super().__init__(d_model, 4 * num_parameters)

    def forward(self, queries: Tensor, facts: Tensor) -> Tensor:
        """Maps queries [Q, D] and what is forecast [Q, K' + 2] to a residual [Q, K']."""
        gate, numbers = self.open(queries)
        forecast, location, log_scale = facts[..., :-2], facts[..., -2:-1], facts[..., -1:]
        inverse = (-log_scale).exp()
        value, rate, level, amount = numbers.chunk(4, dim=-1)  # [Q, K'] each
        return gate * (value + rate * forecast + level * (location * inverse) + amount * inverse)


class TextReader(OlderState):
    """The queries read the hidden states of texts, and answer by a residual of their own.

    Texts have an attention of their own instead of places in the common memory, so that a step of which nothing is
    told is computed to the bit as if there were no texts, whatever its neighbours and its batch mates are told. The
    tokens of a text see each other once, alone and once a batch, however many windows read it.

    Args:
        hidden_size: Width d of the hidden states.
        num_parameters: K', numbers that the output head wants a step.
        num_calendar: F, waves of the calendar a step.
        d_model: Width D of the queries.
        num_heads: Heads of the attention.
        d_ff: Inner width of the feed-forward parts.
        dropout: Rate on all sublayers.
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
        self.lens = Lens(hidden_size)
        self.embed = nn.Linear(shorten_width(hidden_size), d_model)
        self.norm_mix = nn.LayerNorm(d_model)
        self.mix = FullAttention(d_model, num_heads)  # without dropout on its maps it runs fused
        self.norm_tokens = nn.LayerNorm(d_model)
        self.calendar = nn.Linear(num_calendar, d_model, bias=False)  # a text speaks of times
        self.layers = nn.ModuleList(HorizonLayer(d_model, num_heads, d_ff, dropout) for _ in range(READING_LAYERS))
        self.answer = AffineAnswer(d_model, num_parameters)

    @property
    def reading_layers(self) -> list[HorizonLayer]:
        """The layers by their type."""
        return cast(list[HorizonLayer], list(self.layers))

    @property
    def is_silent(self) -> bool:
        """Whether nothing was learned of texts, so that none changes a forecast."""
        return not any(bool(parameter.any()) for parameter in self.answer.value.parameters())

    def convert_state(self, state: dict[str, Tensor], prefix: str) -> None:
        """Refuses the branch of an older version, which had one reading layer.

        Raises:
            ValueError: If the state holds one.
        """
        if f"{prefix}layer.read.query.weight" in state:
            raise ValueError(
                "the model reads texts by a branch of an older version, which this one does not have; train it again "
                "with the same texts, or use it with the version that trained it"
            )

    def forward(
        self, queries: Tensor, facts: Tensor, calendar: Tensor, states: Tensor, rows: Tensor, mask: Tensor
    ) -> Tensor:
        """Computes the residual.

        Args:
            queries: One a window, channel and step [B * C, H, D].
            facts: What is forecast, and its units [B * C, H, K' + 2].
            calendar: Waves of day, week and year at the steps of the horizon [B, H, F].
            states: Shortened hidden states of up to R texts a window [B, R, T, d'].
            rows: Which text each is [B, R]; equal numbers are equal texts.
            mask: [B, C, H, R, T], True = the token is of a text about this step.

        Returns:
            [B * C, H, K'], zero at steps of which nothing is told.
        """
        cells, order, readable = find_told(mask)
        residual = queries.new_zeros(*queries.shape[:2], facts.shape[-1] - 2)
        if not len(cells):
            return residual
        windows = cells // mask.shape[1]  # [M]
        tokens, place = self._encode(states.to(queries.dtype), rows, mask.flatten(1, 2).any(dim=1))
        read = place.flatten(1).index_select(0, windows).gather(1, order)  # [M, K]
        told = readable.any(dim=2)  # [M, H]
        allowed = (readable | ~told.unsqueeze(-1)).unsqueeze(1)  # [M, 1, H, K]
        # Steps of which nothing is told ask nothing.
        asking = told.flatten().nonzero()[:, 0]  # [Q], of M * H
        steps = torch.arange(told.shape[1], device=cells.device)
        of_series, of_window = (
            (part.unsqueeze(1) * told.shape[1] + steps).flatten().index_select(0, asking) for part in (cells, windows)
        )  # [Q], of B * C * H and of B * H
        waves = calendar.to(queries.dtype).flatten(0, 1)
        asked = queries.flatten(0, 1).index_select(0, of_series)  # [Q, D]
        asked = asked + self.calendar(waves).index_select(0, of_window)
        for layer, (keys, values) in zip(self.reading_layers, self._map(tokens, read), strict=True):
            asked = layer.look_up(asked, asking, keys, values, allowed)  # [Q, D]
        answer = self.answer(asked, facts.flatten(0, 1).index_select(0, of_series))  # [Q, K']
        return residual.flatten(0, 1).index_copy(0, of_series, answer).view_as(residual)

    def _encode(self, states: Tensor, rows: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """Encodes each distinct text that is read once, its real tokens alone.

        Args:
            states: [B, R, T, d'].
            rows: [B, R].
            real: [B, R, T], True = a token of a text that is read.

        Returns:
            Tokens [N, D] of the distinct texts, and which of them stands at each place [B, R, T] (any where none is
            real).
        """
        read = real.any(dim=2).flatten().nonzero()[:, 0]  # [P]
        distinct, found = rows.flatten()[read].unique(return_inverse=True)  # [U], [P]
        first = found.new_zeros(len(distinct)).scatter_(0, found, torch.arange(len(found), device=found.device))
        texts = read[first]  # [U]
        own = real.flatten(0, 1)[texts]  # [U, T]
        used = own.flatten().nonzero()[:, 0]  # [N], in the padded texts
        width = real.shape[2]
        there = (texts.unsqueeze(1) * width + torch.arange(width, device=texts.device)).flatten()[used]  # [N]
        embedded = self.embed(states.flatten(0, 2).index_select(0, there))  # [N, D]
        tokens = self.norm_tokens(embedded + self._mix(self.norm_mix(embedded), own, used))  # [N, D]
        number = used.new_zeros(own.numel()).index_copy_(0, used, torch.arange(len(used), device=used.device))
        place = used.new_zeros(real.shape[0] * real.shape[1], width)
        return tokens, place.index_copy_(0, read, number.view(own.shape)[found]).view(real.shape)

    def _mix(self, tokens: Tensor, own: Tensor, used: Tensor) -> Tensor:
        """Lets the tokens [N, D] of each text see each other; `own` [U, T] = real, `used` [N] = where they stand."""
        mix = self.mix
        projections = (mix.query, mix.key, mix.value)
        weight = torch.cat([projection.weight for projection in projections])
        mapped = F.linear(tokens, weight, torch.cat([projection.bias for projection in projections]))  # [N, 3 * D]
        padded = mapped.new_zeros(own.numel(), mapped.shape[1]).index_copy(0, used, mapped)
        parts = padded.view(*own.shape, -1).chunk(3, dim=-1)  # [U, T, D] each
        q, k, v = (split_heads(part, mix.num_heads) for part in parts)
        mixed = mix_values(q, k, v, own[:, None, None])  # [U, h, T, d]
        return mix.out(merge_heads(mixed).flatten(0, 1).index_select(0, used))  # type: ignore[no-any-return]

    def _map(self, tokens: Tensor, places: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields keys and values [M, L, D] of each layer for what cells read [M, L] of the tokens [N, D].

        They are computed once for a token, however many windows read it.
        """
        projections = [part for layer in self.reading_layers for part in (layer.read.key, layer.read.value)]
        weight = torch.cat([projection.weight for projection in projections])
        mapped = F.linear(tokens, weight, torch.cat([projection.bias for projection in projections]))  # [N, 4 * D]
        gathered = mapped.index_select(0, places.flatten()).view(*places.shape, -1)  # [M, L, 4 * D]
        parts = gathered.chunk(len(projections), dim=-1)
        yield from zip(parts[::2], parts[1::2], strict=True)


def find_told(mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Finds the series of windows that are told something, and the tokens that each reads: its own, not padding.

    Args:
        mask: [B, C, H, R, T], as in `TextReader`.

    Returns:
        Cells, numbers b * C + c [M]; their tokens, numbers r * T + t [M, K], K being the most that one reads, filled
        up with others; and which of those each step may read [M, H, K].
    """
    flat = mask.flatten(0, 1).flatten(2)  # [B * C, H, R * T]
    seen = flat.any(dim=1)  # [B * C, R * T]
    cells = seen.any(dim=1).nonzero()[:, 0]  # [M]
    seen = seen[cells]
    most = int(seen.sum(dim=1).max()) if len(cells) else 0
    order = seen.int().argsort(dim=1, descending=True, stable=True)[:, :most]  # [M, K]
    readable = flat[cells].gather(2, order.unsqueeze(1).expand(-1, flat.shape[1], -1))  # [M, H, K]
    return cells, order, readable


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

    def forward(self, facts: Tensor, calendar: Tensor, states: Tensor, rows: Tensor, mask: Tensor) -> Tensor:
        """Computes the residual.

        Args:
            facts: What is forecast, and its units [B, H, C, num_facts].
            calendar: See `TextReader`, as the others.
            states: [B, R, T, d'].
            rows: [B, R].
            mask: [B, C, H, R, T].

        Returns:
            [B, H, C, K'], zero at steps of which nothing is told.
        """
        facts = facts.transpose(1, 2)  # [B, C, H, num_facts]
        queries = self.steps + self.channels[:, None] + self.facts(facts)  # [B, C, H, D]
        residual = self.reader(queries.flatten(0, 1), facts.flatten(0, 1), calendar, states, rows, mask)
        return residual.unflatten(0, facts.shape[:2]).transpose(1, 2)  # [B, H, C, K']
