"""LSTM (Hochreiter and Schmidhuber, 1997) and GRU (Cho et al., 2014) as token mixers: gates along time."""

from typing import Literal

import torch
from torch import Tensor, nn

from tsllm.nn.attention.base import TokenMixer, hide_masked


class Recurrent(TokenMixer):
    """A recurrent layer over the tokens; a masked token is passed over as if it were not there.

    Args:
        d_model: Width D of tokens and state.
        num_layers: Number of layers.
        dropout: Dropout rate between layers.
    """

    causal = True
    cost: Literal["linear", "loglinear", "quadratic"] = "linear"
    cell: type[nn.LSTM] | type[nn.GRU]

    def __init__(self, d_model: int, num_layers: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        between = dropout if num_layers > 1 else 0.0
        self.recurrent = self.cell(d_model, d_model, num_layers, batch_first=True, dropout=between)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mixes tokens [B, L, D] -> [B, L, D]; mask [B, L], True = real token."""
        if mask is None:
            return self.recurrent(x)[0]
        # real tokens move to the front, so that what is masked comes after all of them and cannot reach them
        order = torch.argsort((~mask).to(torch.uint8), dim=1, stable=True).unsqueeze(-1).expand_as(x)  # [B, L, D]
        states = self.recurrent(x.gather(1, order))[0]  # [B, L, D]
        return hide_masked(torch.zeros_like(states).scatter(1, order, states), mask)


class LstmMixer(Recurrent):
    """A long short-term memory over the tokens."""

    cell = nn.LSTM


class GruMixer(Recurrent):
    """A gated recurrent unit over the tokens."""

    cell = nn.GRU
