"""Horizon queries: every step of the horizon reads, by gated cross-attention, all that is known.

The published head (Jin 2024, section 3.1) maps the patches behind the language model to the horizon and has no place
for what is known of the future. Here one query a step reads a memory of those patches and of covariates of past and
horizon, and adds a residual to that head's forecast.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tsllm.models.config import TEXT_OPTIONS
from tsllm.models.inputs import NUM_CALENDAR, Inputs
from tsllm.models.timellm.config import HORIZON_OPTIONS, TimeLLMConfig
from tsllm.nn.normalization import InstanceNorm
from tsllm.nn.patching import patchify
from tsllm.nn.text_reading import SMALL, Answer, HorizonLayer, TextReader


class CovariateEmbedding(nn.Module):
    """Normalises covariates by window and embeds them as tokens and as parts of the queries.

    Known covariates are normalised over context and horizon, as in TimeXer, the others over the context. The levels
    that this takes away are embedded on their own: they hold what is constant in a window (a static covariate).

    Args:
        config: Sizes: K covariates, the first `num_known_covariates` of which are known ahead.
        patch_length: Steps in a token.
        d_model: Width D.
    """

    def __init__(self, config: TimeLLMConfig, patch_length: int, d_model: int) -> None:
        super().__init__()
        self.context_length, self.patch_length = config.context_length, patch_length
        self.num_known = known = config.num_known_covariates
        self.norm = InstanceNorm()
        self.past = nn.Linear(config.num_covariates * patch_length, d_model, bias=False)
        self.levels = nn.Linear(config.num_covariates, d_model, bias=False)
        self.future = nn.Linear(known * patch_length, d_model) if known else None
        self.steps = nn.Linear(known, d_model, bias=False) if known else None

    def forward(self, past: Tensor, future: Tensor | None) -> tuple[Tensor, Tensor | None, Tensor]:
        """Embeds covariates.

        Args:
            past: [B, L, K].
            future: [B, H, K known]; None if no covariate is known ahead.

        Returns:
            Tokens of the context [B, P, D], tokens of the horizon [B, P', D] or None, and what the queries are told:
            [B, H, D], or [B, 1, D] if no covariate is known ahead.
        """
        contexts, levels, ahead = [], [], None
        if self.num_known:
            assert future is not None
            whole, level, _ = self.norm(torch.cat([past[..., : self.num_known], future], dim=1))  # [B, L + H, known]
            contexts.append(whole[:, : self.context_length])
            ahead = whole[:, self.context_length :]  # [B, H, known]
            levels.append(level)
        if past.shape[2] > self.num_known:
            rest, level, _ = self.norm(past[..., self.num_known :])
            contexts.append(rest)
            levels.append(level)
        tokens = self.past(cut_tokens(torch.cat(contexts, dim=2), self.patch_length))  # [B, P, D]
        told = self.levels(torch.cat(levels, dim=2))  # [B, 1, D]
        if ahead is None or self.future is None or self.steps is None:
            return tokens, None, told
        return tokens, self.future(cut_tokens(ahead, self.patch_length, at_end=True)), told + self.steps(ahead)


class HorizonReader(nn.Module):
    """One query a step of the horizon reads patches and covariates; its answer is a residual to the forecast.

    A query says which step and channel it is of, what the covariates are at that step, and what the head forecasts
    there. The memory holds the hidden states of the reprogrammed patches, tokens of the window's own values and
    covariates, and tokens of what is known of the horizon. The answer's map to its value starts at zero, so that the
    model begins as the one without a reader.

    Args:
        config: The model's configuration.
        hidden_size: Width d of the hidden states.
        num_parameters: K', numbers that the output head wants a step.
    """

    def __init__(self, config: TimeLLMConfig, hidden_size: int, num_parameters: int) -> None:
        super().__init__()
        options: dict[str, Any] = HORIZON_OPTIONS | config.horizon_reader
        width, dropout = options["d_model"], options["dropout"]
        context, horizon = config.context_length, config.prediction_length
        self.num_channels = config.num_channels
        self.patch_length = min(config.patch_length, horizon)
        self.norm_hidden = nn.LayerNorm(hidden_size)
        self.hidden = nn.Linear(hidden_size, width)
        self.values = nn.Linear(self.patch_length, width)
        self.covariates = CovariateEmbedding(config, self.patch_length, width) if config.num_covariates else None
        ahead = -(-horizon // self.patch_length) if config.num_known_covariates else 0
        self.places = nn.Parameter(SMALL * torch.randn(-(-context // self.patch_length) + ahead, width))  # [M', D]
        self.steps = nn.Parameter(SMALL * torch.randn(horizon, width))
        self.channels = nn.Parameter(SMALL * torch.randn(config.num_channels, width))
        self.forecast = nn.Linear(num_parameters, width, bias=False)
        self.layers = nn.ModuleList(
            HorizonLayer(width, options["num_heads"], options["d_ff"], dropout) for _ in range(options["num_layers"])
        )
        self.answer = Answer(width, num_parameters)
        of_texts = {name: config.horizon_reader.get(name, value) for name, value in TEXT_OPTIONS.items()}
        self.texts = TextReader(hidden_size, num_parameters, NUM_CALENDAR, **of_texts) if config.text_layers else None

    def forward(self, hidden: Tensor, rows: Tensor, forecast: Tensor, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """Computes the residual.

        Args:
            hidden: Hidden states of the patches [B * C, P, d].
            rows: Normalised series [B * C, L].
            forecast: What the head says, in the normalised space [B * C, H, K']; no gradient flows back into it.
            inputs: Covariates.

        Returns:
            What is added to the forecast [B * C, H, K'], and the queries behind the reading [B * C, H, D], which may
            read texts next.
        """
        own = self.values(cut_tokens(rows.unsqueeze(-1), self.patch_length))  # [B * C, P', D]
        queries = self.steps + self.channels[:, None]  # [C, H, D]
        queries = queries.repeat(rows.shape[0] // self.num_channels, 1, 1)  # [B * C, H, D]
        tokens = [own]
        if self.covariates is not None:
            assert inputs.past_covariates is not None
            context, ahead, told = self.covariates(inputs.past_covariates, inputs.future_covariates)
            tokens = [own + self._for_channels(context)]
            tokens += [] if ahead is None else [self._for_channels(ahead)]
            queries = queries + self._for_channels(told)
        queries = queries + self.forecast(forecast.detach())
        memory = torch.cat([self.hidden(self.norm_hidden(hidden)), torch.cat(tokens, dim=1) + self.places], dim=1)
        for layer in self.layers:
            queries = layer(queries, memory)
        return self.answer(queries), queries

    def _for_channels(self, tokens: Tensor) -> Tensor:
        """Gives every channel of a sample the sample's tokens: [B, T, D] -> [B * C, T, D]."""
        return tokens.repeat_interleave(self.num_channels, dim=0)


def cut_tokens(values: Tensor, length: int, at_end: bool = False) -> Tensor:
    """Cuts columns [N, T, K] into joint pieces of `length` steps: [N, T / length rounded up, K * length].

    Where `length` does not divide T, the oldest value is repeated in front, so that the newest step ends a piece; with
    `at_end`, the last value behind.
    """
    missing = -values.shape[1] % length
    columns = F.pad(values.transpose(1, 2), (0, missing) if at_end else (missing, 0), mode="replicate")
    return patchify(columns, length, length).transpose(1, 2).flatten(2)
