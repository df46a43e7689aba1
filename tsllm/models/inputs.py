"""What goes into a forecasting model and what it computes: checked tensors and raw head parameters."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tsllm.models.config import ForecastConfig
from tsllm.nn.lens import shorten_width
from tsllm.nn.normalization import compute_masked_moments

NUM_CALENDAR = 34  # waves of day, week and year at a step that texts speak of
TEXT_KEYS = ("text_states", "text_rows", "text_mask", "text_calendar")


@dataclass
class Inputs:
    """Checked input of `ForecastModel.forecast`.

    Missing context steps stand at the observed mean of their window and channel, and the mask is None when
    everything was observed.
    """

    past_values: Tensor  # [B, L, C]
    past_observed_mask: Tensor | None  # [B, L, C] bool
    past_time_features: Tensor | None  # [B, L, F]
    future_time_features: Tensor | None  # [B, H, F]
    past_covariates: Tensor | None  # [B, L, K]
    future_covariates: Tensor | None  # [B, H, K known]
    series_loc: Tensor | None = None  # [B, 1, C]
    series_scale: Tensor | None = None  # [B, 1, C]
    prompt: Any = None
    season: Tensor | None = None  # [B] integers
    text_states: Tensor | None = None  # [B, R, T, d']
    text_rows: Tensor | None = None  # [B, R] integers
    text_mask: Tensor | None = None  # [B, C, H, R, T] bool
    text_calendar: Tensor | None = None  # [B, H, NUM_CALENDAR]

    @property
    def told(self) -> tuple[Tensor | None, ...]:
        """What a `TextReader` reads: calendar, states, rows and mask."""
        return self.text_calendar, self.text_states, self.text_rows, self.text_mask


@dataclass
class RawForecast:
    """What a model computes: head parameters in its normalised space and how to leave that space."""

    parameters: Tensor  # [B, H, C, num_parameters]
    loc: Tensor | None = None  # [B, 1, C], or [B, H, C] if it differs from step to step
    scale: Tensor | None = None  # [B, 1, C]
    extras: dict[str, Any] = field(default_factory=dict)
    queries: Tensor | None = None  # [B * C, H, D], of a model whose own queries read texts

    def describe(self) -> Tensor:
        """Returns what is forecast, and its units: [B, H, C, num_parameters + 2], without gradients."""
        shape = self.parameters.shape[:-1]
        loc = self.parameters.new_zeros(shape) if self.loc is None else self.loc.expand(shape)
        scale = self.parameters.new_ones(shape) if self.scale is None else self.scale.expand(shape)
        units = torch.stack([loc, scale.log()], dim=-1)  # [B, H, C, 2]
        return torch.cat([self.parameters, units], dim=-1).detach()


def fill_missing(past_values: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Puts missing entries of [B, L, C] at the observed mean of their window and channel."""
    if mask is None:
        return past_values, None
    if mask.shape != past_values.shape:
        raise ValueError(
            f"past_observed_mask has shape {list(mask.shape)}, expected that of past_values {list(past_values.shape)}"
        )
    mask = mask.bool()
    mean, _ = compute_masked_moments(torch.where(mask, past_values, 0.0), mask)
    return torch.where(mask, past_values, mean), mask


def _expect_texts(config: ForecastConfig, inputs: Inputs) -> dict[str, tuple[Tensor | None, list[int]]]:
    """Returns the shapes that tensors of texts must have, which come together or not at all."""
    found = {name: getattr(inputs, name) for name in TEXT_KEYS}
    missing = [name for name, tensor in found.items() if tensor is None]
    if len(missing) == len(found):
        return {}
    if not config.text_layers:
        raise ValueError(
            "text_states is given, but the configuration reads no texts; leave it out, or take a model with "
            "text_layers"
        )
    if missing:
        raise ValueError(f"{missing[0]} is missing; {', '.join(TEXT_KEYS[:-1])} and {TEXT_KEYS[-1]} belong together")
    states, batch = inputs.text_states, inputs.past_values.shape[0]
    assert states is not None
    texts, tokens = list(states.shape[1:2]), list(states.shape[2:3])
    width = shorten_width(config.text_source.hidden_size)
    return {
        "text_states": (states, [batch, *texts, *tokens, width]),
        "text_rows": (inputs.text_rows, [batch, *texts]),
        "text_mask": (inputs.text_mask, [batch, config.num_channels, config.prediction_length, *texts, *tokens]),
        "text_calendar": (inputs.text_calendar, [batch, config.prediction_length, NUM_CALENDAR]),
    }


def check_shapes(config: ForecastConfig, inputs: Inputs, future_values: Tensor | None) -> None:
    """Checks every tensor against the configuration.

    Raises:
        ValueError: Naming the tensor, its shape and the expected one.
    """
    past = inputs.past_values
    if past.dim() != 3:
        raise ValueError(f"past_values has shape {list(past.shape)}, expected [batch, context_length, num_channels]")
    batch, length, horizon = past.shape[0], config.context_length, config.prediction_length
    expected: dict[str, tuple[Tensor | None, list[int]]] = {
        "past_values": (past, [batch, length, config.num_channels]),
        "future_values": (future_values, [batch, horizon, config.num_channels]),
        "past_time_features": (inputs.past_time_features, [batch, length, config.num_time_features]),
        "future_time_features": (inputs.future_time_features, [batch, horizon, config.num_time_features]),
        "past_covariates": (inputs.past_covariates, [batch, length, config.num_covariates]),
        "future_covariates": (inputs.future_covariates, [batch, horizon, config.num_known_covariates]),
        "series_loc": (inputs.series_loc, [batch, 1, config.num_channels]),
        "series_scale": (inputs.series_scale, [batch, 1, config.num_channels]),
        "season": (inputs.season, [batch]),
    } | _expect_texts(config, inputs)
    for name, (tensor, shape) in expected.items():
        if tensor is not None and list(tensor.shape) != shape:
            raise ValueError(f"{name} has shape {list(tensor.shape)}, expected {shape} by the configuration")
    if config.num_covariates and inputs.past_covariates is None:
        raise ValueError(f"past_covariates is missing; the configuration names {config.num_covariates}")
    if config.num_known_covariates and inputs.future_covariates is None:
        raise ValueError(f"future_covariates is missing; the configuration names {config.num_known_covariates}")
