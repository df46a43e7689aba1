"""iTransformer: each series as one token, attention across the series (Liu 2024, ICLR)."""

from typing import Any

import torch
from torch import Tensor, nn

from tsllm.models.base import ForecastModel
from tsllm.models.config import ForecastConfig, require_divides, require_positive
from tsllm.models.inputs import Inputs, RawForecast
from tsllm.models.losses import Loss, compute_itransformer_orthogonal
from tsllm.nn.dropout import Dropout
from tsllm.nn.encoder import build_encoder
from tsllm.nn.normalization import InstanceNorm


class ITransformerConfig(ForecastConfig):
    """iTransformer's configuration.

    Attributes:
        d_model: Width of the tokens.
        num_layers: Number of encoder layers.
        num_heads: Heads of full attention.
        d_ff: Inner width of the feed-forward parts.
        dropout: Dropout rate of embedding, attention maps and sublayers.
        activation: Activation of the feed-forward parts.
        attention: Token mixer over the series, see `tsllm.nn.blocks.build_mixer`.
        instance_norm: Normalise every window and channel by its own mean and deviation.
    """

    model_type = "tsllm_itransformer"
    own_losses = {"itransformer_orthogonal": Loss(compute_itransformer_orthogonal)}

    d_model: int = 128
    num_layers: int = 2
    num_heads: int = 8
    d_ff: int = 256
    dropout: float = 0.1
    activation: str = "gelu"
    attention: str | dict[str, Any] = "full"
    instance_norm: bool = True

    def check(self) -> None:
        """Checks the values; see the base class."""
        super().check()
        for name in ("d_model", "num_layers", "num_heads", "d_ff"):
            require_positive(self, name)
        require_divides(self, "num_heads", "d_model")


class ITransformer(ForecastModel):
    """Forecasts all channels at once; calendar features are further tokens.

    Without a token mixer that depends on their number, the weights fit any number of channels.
    """

    config_class = ITransformerConfig
    config: ITransformerConfig
    uses_time_features = True

    def __init__(self, config: ITransformerConfig) -> None:
        super().__init__(config)
        self.norm = InstanceNorm()
        self.embedding = nn.Linear(config.context_length, config.d_model)
        self.dropout = Dropout(config.dropout)
        self.encoder = build_encoder(
            config.num_layers,
            config.d_model,
            config.num_heads,
            config.d_ff,
            length=config.num_channels + config.num_time_features,
            attention=config.attention,
            dropout=config.dropout,
            activation=config.activation,
            final_norm="layer",
        )
        self.projection = nn.Linear(config.d_model, config.prediction_length * self.output_head.num_parameters)
        self.post_init()

    def forecast(self, inputs: Inputs) -> RawForecast:
        """Forecasts; `extras["tokens"]` [B, C, D] are the embedded channels if the loss reads them."""
        values, loc, scale = self._normalise(inputs)
        tokens = self.embed(values, inputs.past_time_features)  # [B, C + F, D]
        encoded, _ = self.encoder(self.dropout(tokens))
        channels = self.config.num_channels
        out = self.projection(encoded[:, :channels])  # [B, C, H * parameters]
        out = out.unflatten(-1, (self.config.prediction_length, -1)).transpose(1, 2)  # [B, H, C, parameters]
        extras = {"tokens": tokens[:, :channels]} if self.loss_name == "itransformer_orthogonal" else {}
        return RawForecast(out, loc, scale, extras)

    def embed(self, values: Tensor, time_features: Tensor | None) -> Tensor:
        """Embeds the histories of channels [B, L, C] and calendar features [B, L, F] as tokens [B, C + F, D]."""
        if time_features is not None and self.config.num_time_features:
            values = torch.cat([values, time_features], dim=2)  # [B, L, C + F]
        return self.embedding(values.transpose(1, 2))  # [B, C + F, D]

    def compute_attention_maps(self, inputs: Inputs) -> list[Tensor]:
        """Returns one softmax map [B, h, C + F, C + F] a layer; rows sum to 1.

        Raises:
            TypeError: If the token mixer is not full attention.
        """
        values, _, _ = self._normalise(inputs)
        tokens = self.dropout(self.embed(values, inputs.past_time_features))
        return self.encoder(tokens, output_attentions=True)[1]

    def _normalise(self, inputs: Inputs) -> tuple[Tensor, Tensor | None, Tensor | None]:
        if not self.config.instance_norm:
            return inputs.past_values, None, None
        return self.norm(inputs.past_values, inputs.past_observed_mask)
