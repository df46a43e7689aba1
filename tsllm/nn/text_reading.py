"""Queries, one a step of the horizon, read a memory or the hidden states of texts, and answer by a residual."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tsllm.nn.attention.full import CrossAttention
from tsllm.nn.dropout import Dropout
from tsllm.nn.encoder import FeedForward
from tsllm.nn.lens import Lens, shorten_width
from tsllm.nn.older_state import OlderState

SMALL = 0.02  # deviation of the first places, as language models draw theirs
TOKEN_DEVIATION = 3.0  # of a token's features; Adam, whose steps are fixed, learns to read so many times as fast


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


class TextSummary(nn.Module):
    """What a text says, in a few numbers: heads weigh its tokens, each in its own way, and a narrow layer joins them.

    The states are frozen, so that only the weights of the tokens are computed for every token; all maps are of what
    the heads gather, which is as little for a long text as for a short one.

    Args:
        width: Of the shortened hidden states, d'.
        num_heads: S; together they gather `d_model` numbers.
        d_model: D.
        d_ff: Numbers of the narrow layer, through which everything must pass that a text says.
        count: Numbers that come out.
        dropout: Rate on the narrow layer.
    """

    def __init__(self, width: int, num_heads: int, d_model: int, d_ff: int, count: int, dropout: float) -> None:
        super().__init__()
        self.score = nn.Linear(width, num_heads, bias=False)
        nn.init.normal_(self.score.weight, std=0.1 / TOKEN_DEVIATION)
        values = torch.randn(num_heads, width, d_model // num_heads) * width**-0.5
        self.values = nn.Parameter(values / TOKEN_DEVIATION)
        self.norm = nn.LayerNorm(d_model)
        self.narrow = nn.Linear(d_model, d_ff)
        self.out = nn.Linear(d_ff, count)
        self.dropout = Dropout(dropout)

    def forward(self, states: Tensor, real: Tensor) -> Tensor:
        """Sums up texts [U, T, d'], each of whose real tokens [U, T] is one or more: [U, count]."""
        scores = self.score(states).masked_fill(~real.unsqueeze(-1), float("-inf"))  # [U, T, S]
        gathered = torch.bmm(scores.softmax(dim=1).transpose(1, 2), states)  # [U, S, d']
        heads = torch.bmm(gathered.transpose(0, 1), self.values)  # [S, U, D / S]
        joined = self.norm(heads.transpose(0, 1).flatten(1))  # [U, D]
        return self.out(self.dropout(F.gelu(self.narrow(joined))))  # type: ignore[no-any-return]


class TextReader(OlderState):
    """The queries read the hidden states of texts, and answer by a residual of their own.

    A text is summed up once a batch, however many windows and steps read it. Its summary scales and shifts what each
    step says of itself (a FiLM layer, Perez 2018, equation 1), so that a step can tell whether it lies in the hours
    that the text is about; what several texts say of a step is added. A step of which nothing is told is computed to
    the bit as if there were no texts, whatever its neighbours and its batch mates are told.

    Args:
        hidden_size: Width d of the hidden states.
        num_parameters: K', numbers that the output head wants a step.
        num_calendar: F, waves of the calendar a step.
        d_model: Width D of the queries.
        num_heads: Heads that read a text.
        d_ff: Numbers through which everything passes that a text says, and inner width of the feed-forward part.
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
        self.summary = TextSummary(shorten_width(hidden_size), num_heads, d_model, d_ff, 2 * d_model, dropout)
        self.calendar = nn.Linear(num_calendar, d_model, bias=False)  # a text speaks of times
        self.norm = nn.LayerNorm(d_model)
        self.query = nn.Linear(d_model, d_model)
        self.out = nn.Linear(d_model, d_model)
        self.dropout = Dropout(dropout)
        self.norm_feed_forward = nn.LayerNorm(d_model)
        self.feed_forward = FeedForward(d_model, d_ff, dropout=dropout)
        self.answer = AffineAnswer(d_model, num_parameters)

    @property
    def is_silent(self) -> bool:
        """Whether nothing was learned of texts, so that none changes a forecast."""
        return not any(bool(parameter.any()) for parameter in self.answer.value.parameters())

    def convert_state(self, state: dict[str, Tensor], prefix: str) -> None:
        """Refuses the branch of an older version, whose steps read the tokens by one or two layers of attention.

        Raises:
            ValueError: If the state holds one.
        """
        if any(name.startswith((f"{prefix}layer.", f"{prefix}layers.")) for name in state):
            raise ValueError(
                "the model reads texts by a branch of an older version, which this one does not have; train it again "
                "with the same texts, or use it with the version that trained it"
            )

    def forward(
        self, queries: Tensor, facts: Tensor, calendar: Tensor, states: Tensor, rows: Tensor, lengths: Tensor,
        mask: Tensor,
    ) -> Tensor:  # fmt: skip
        """Computes the residual.

        Args:
            queries: One a window, channel and step [B * C, H, D].
            facts: What is forecast, and its units [B * C, H, K' + 2].
            calendar: Waves of day, week and year at the steps of the horizon [B, H, F].
            states: Shortened hidden states of up to R texts a window [B, R, T, d'].
            rows: Which text each is [B, R]; equal numbers are equal texts.
            lengths: Tokens of each text [B, R], 1 or more where it is read.
            mask: [B, C, H, R], True = the text is about this step.

        Returns:
            [B * C, H, K'], zero at steps of which nothing is told.
        """
        residual = queries.new_zeros(*queries.shape[:2], facts.shape[-1] - 2)
        asking = mask.any(dim=-1).flatten().nonzero()[:, 0]  # [Q], of B * C * H
        if not len(asking):
            return residual
        said = self._sum_up(states.to(queries.dtype), rows, lengths, mask)  # [B, R, 2 * D]
        said = torch.bmm(mask.flatten(1, 2).to(said.dtype), said)  # [B, C * H, 2 * D]
        scale, shift = said.flatten(0, 1).index_select(0, asking).chunk(2, dim=-1)  # [Q, D] each
        waves = self.calendar(calendar.to(queries.dtype)).unsqueeze(1)  # [B, 1, H, D]
        asked = (queries.unflatten(0, mask.shape[:2]) + waves).flatten(0, 2).index_select(0, asking)  # [Q, D]
        found = F.gelu(self.query(self.norm(asked)) * scale + shift)  # [Q, D]
        asked = asked + self.dropout(self.out(found))
        asked = asked + self.feed_forward(self.norm_feed_forward(asked))
        answer = self.answer(asked, facts.flatten(0, 1).index_select(0, asking))  # [Q, K']
        return residual.flatten(0, 1).index_copy(0, asking, answer).view_as(residual)

    def _sum_up(self, states: Tensor, rows: Tensor, lengths: Tensor, mask: Tensor) -> Tensor:
        """Sums up each distinct text that is read, once: [B, R, 2 * D], any numbers where nobody reads."""
        read = mask.flatten(1, 2).any(dim=1).flatten().nonzero()[:, 0]  # [P], of B * R
        distinct, found = rows.flatten()[read].unique(return_inverse=True)  # [U], [P]
        first = found.new_zeros(len(distinct)).scatter_(0, found, torch.arange(len(found), device=found.device))
        texts = read[first]  # [U]
        real = torch.arange(states.shape[2], device=texts.device) < lengths.flatten()[texts].unsqueeze(1)  # [U, T]
        summaries = self.summary(states.flatten(0, 1).index_select(0, texts), real)  # [U, 2 * D]
        place = read.new_zeros(rows.numel()).index_copy_(0, read, found)  # [B * R]
        return summaries.index_select(0, place).view(*rows.shape, -1)


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

    def forward(
        self, facts: Tensor, calendar: Tensor, states: Tensor, rows: Tensor, lengths: Tensor, mask: Tensor
    ) -> Tensor:
        """Computes the residual.

        Args:
            facts: What is forecast, and its units [B, H, C, num_facts].
            calendar: See `TextReader`, as the others.
            states: [B, R, T, d'].
            rows: [B, R].
            lengths: [B, R].
            mask: [B, C, H, R].

        Returns:
            [B, H, C, K'], zero at steps of which nothing is told.
        """
        facts = facts.transpose(1, 2)  # [B, C, H, num_facts]
        queries = self.steps + self.channels[:, None] + self.facts(facts)  # [B, C, H, D]
        residual = self.reader(queries.flatten(0, 1), facts.flatten(0, 1), calendar, states, rows, lengths, mask)
        return residual.unflatten(0, facts.shape[:2]).transpose(1, 2)  # [B, H, C, K']
