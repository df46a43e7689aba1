"""Column names of frames, the tensors of a batch and what a model returns.

Letters in shape comments: B batch, L context steps, H horizon steps, C channels, F time features, K covariates,
P patches, D model width, Q quantiles, S prototypes, G samples in a group, T completion tokens.
"""

from dataclasses import dataclass
from typing import Any, TypedDict

import torch
from torch import Tensor
from transformers.utils import ModelOutput

ID = "unique_id"
TIME = "ds"
TARGET = "y"
CUTOFF = "cutoff"


class FrameError(ValueError):
    """A frame that breaks the contract; the text names series, row and the way out."""


class Batch(TypedDict, total=False):
    """The tensors that a model reads; every key but `past_values` may be absent."""

    past_values: Tensor  # [B, L, C], missing entries are 0
    past_observed_mask: Tensor  # [B, L, C] bool, True = observed
    past_time_features: Tensor  # [B, L, F]
    future_time_features: Tensor  # [B, H, F]
    past_covariates: Tensor  # [B, L, K]
    future_covariates: Tensor  # [B, H, K]
    future_values: Tensor  # [B, H, C], NaN = missing target, skipped by every loss
    series_loc: Tensor  # [B, 1, C], original value = value * series_scale + series_loc
    series_scale: Tensor  # [B, 1, C]
    text_states: Tensor  # [B, R, T, d'], of up to R texts a window
    text_rows: Tensor  # [B, R], which text each is
    text_mask: Tensor  # [B, C, H, R, T] bool, True = the token is of a text about this step
    text_calendar: Tensor  # [B, H, F']


@dataclass
class ForecastOutput(ModelOutput):
    """What every model returns.

    Attributes:
        loss: Scalar in the units of the model's input, present if `future_values` was given.
        predictions: Point forecast [B, H, C]: the mean for `point`, the median for distributional heads.
        quantiles: [B, H, C, Q], non-decreasing over Q, or None for a point head.
        distribution: A `torch.distributions.Distribution` with batch shape [B, H, C], or None.
        extras: What a model exposes besides (attention maps, tokens, components), by name.
    """

    loss: Tensor | None = None
    predictions: Tensor | None = None
    quantiles: Tensor | None = None
    distribution: torch.distributions.Distribution | None = None
    extras: dict[str, Any] | None = None
