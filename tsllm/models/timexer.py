"""TimeXer: patches of each series, one global token a series, and exogenous series that it reads (Wang 2024, NeurIPS).

Deliberate deviation: a context that the patch length does not divide is extended at its old end, by repeating the
first value, so that the newest steps always lie in a patch. The reference drops them.
"""

from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tsllm.models.base import ForecastModel
from tsllm.models.config import ForecastConfig, require_divides, require_positive
from tsllm.models.inputs import Inputs, RawForecast
from tsllm.models.losses import Loss, compute_timexer_orthogonal
from tsllm.nn.attention.full import CrossAttention, FullAttention
from tsllm.nn.blocks import build_mixer
from tsllm.nn.dropout import Dropout
from tsllm.nn.embedding import compute_sinusoidal_positions
from tsllm.nn.encoder import FeedForward
from tsllm.nn.normalization import InstanceNorm
from tsllm.nn.patching import patchify

if TYPE_CHECKING:
    from tsllm.data.prepared import PreparedData

AttentionMaps = list[tuple[Tensor, Tensor]]


class TimeXerConfig(ForecastConfig):
    """TimeXer's configuration.

    The paper's three uses: `M` forecasts all channels, each of which reads all others
    (`channels_as_exogenous: true`); `MS` forecasts one channel from covariates (`num_channels: 1`,
    `channels_as_exogenous: false`, the other series as covariates); `S` is `MS` with calendar features only.

    Attributes:
        patch_length: Steps in a patch; patches do not overlap.
        d_model: Width of the tokens.
        num_layers: Number of encoder layers.
        num_heads: Heads of both attentions.
        d_ff: Inner width of the feed-forward parts.
        dropout: Dropout rate of embeddings, attention maps and sublayers.
        head_dropout: Dropout rate on the forecast itself; the reference uses `dropout` here.
        activation: Activation of the feed-forward parts.
        attention: Token mixer over a series' patches and global token, see `tsllm.nn.blocks.build_mixer`.
        instance_norm: Normalise every window and channel by its own mean and deviation.
        channels_as_exogenous: Whether the channels themselves are exogenous tokens, beside covariates and calendar.
        num_static_covariates: How many of the known covariates (the last ones) hold for a whole series; they are not
            normalised by the window, where they are constant.
    """

    model_type = "tsllm_timexer"
    own_losses = {"timexer_orthogonal": Loss(compute_timexer_orthogonal)}

    patch_length: int = 16
    d_model: int = 128
    num_layers: int = 2
    num_heads: int = 8
    d_ff: int = 256
    dropout: float = 0.1
    head_dropout: float = 0.0
    activation: str = "gelu"
    attention: str | dict[str, Any] = "full"
    instance_norm: bool = True
    channels_as_exogenous: bool = True
    num_static_covariates: int = 0

    def check(self) -> None:
        """Checks the values; see the base class."""
        super().check()
        for name in ("patch_length", "d_model", "num_layers", "num_heads", "d_ff"):
            require_positive(self, name)
        require_divides(self, "num_heads", "d_model")
        if self.patch_length > self.context_length:
            raise ValueError(
                f"patch_length ({self.patch_length}) exceeds context_length ({self.context_length}); "
                "lower patch_length or raise context_length"
            )
        if not 0 <= self.num_static_covariates <= self.num_known_covariates:
            raise ValueError(
                f"num_static_covariates ({self.num_static_covariates}) must lie between 0 and num_known_covariates "
                f"({self.num_known_covariates})"
            )
        if not self.num_exogenous:
            raise ValueError(
                "channels_as_exogenous is false, but there is no covariate and no time feature to read; set "
                "num_covariates or num_time_features, or channels_as_exogenous: true"
            )

    @property
    def num_patches(self) -> int:
        """Number of patches of one series."""
        whole, rest = divmod(self.context_length, self.patch_length)
        return whole + (1 if rest and not self.reference_quirks else 0)

    @property
    def num_past_exogenous(self) -> int:
        """Number of exogenous tokens that know the context only."""
        channels = self.num_channels if self.channels_as_exogenous else 0
        return channels + self.num_covariates - self.num_known_covariates + self.num_time_features

    @property
    def num_exogenous(self) -> int:
        """Number of exogenous tokens."""
        return self.num_past_exogenous + self.num_known_covariates


class TimeXerLayer(nn.Module):
    """Self-attention within each series, cross-attention of its global token over the exogenous tokens, feed-forward.

    Args:
        config: The model's configuration.
    """

    def __init__(self, config: TimeXerConfig) -> None:
        super().__init__()
        d_model, heads, dropout = config.d_model, config.num_heads, config.dropout
        self.mixer = build_mixer(config.attention, d_model, heads, config.num_patches + 1, dropout=dropout)
        self.cross_attention = CrossAttention(d_model, heads, dropout=dropout)
        self.feed_forward = FeedForward(d_model, config.d_ff, config.activation, dropout)
        self.norm_mixer = nn.LayerNorm(d_model)
        self.norm_cross = nn.LayerNorm(d_model)
        self.norm_feed_forward = nn.LayerNorm(d_model)
        self.dropout = Dropout(dropout)

    def forward(self, tokens: Tensor, exogenous: Tensor, maps: AttentionMaps | None = None) -> Tensor:
        """Encodes the tokens of all series.

        Args:
            tokens: [B * C, P + 1, D], the global token last.
            exogenous: [B, X, D], one token an exogenous series.
            maps: If given, both attention maps of this layer are appended: [B * C, h, P + 1, P + 1], [B, h, C, X].

        Returns:
            [B * C, P + 1, D].
        """
        mixed, self_map = self._mix(tokens, maps is not None)
        tokens = self.norm_mixer(tokens + self.dropout(mixed))
        series = tokens[:, -1].unflatten(0, (exogenous.shape[0], -1))  # [B, C, D]
        read, cross_map = self._read(series, exogenous, maps is not None)
        series = self.norm_cross(series + self.dropout(read))
        tokens = torch.cat([tokens[:, :-1], series.flatten(0, 1).unsqueeze(1)], dim=1)  # [B * C, P + 1, D]
        if maps is not None and self_map is not None and cross_map is not None:
            maps.append((self_map, cross_map))
        return self.norm_feed_forward(tokens + self.feed_forward(tokens))

    def _mix(self, tokens: Tensor, with_map: bool) -> tuple[Tensor, Tensor | None]:
        """Mixes the tokens of each series: [B * C, P + 1, D], and the map if asked for."""
        if not with_map:
            return self.mixer(tokens), None
        if not isinstance(self.mixer, FullAttention):
            raise TypeError(f"attention maps need attention: full, not {type(self.mixer).__name__}")
        mixed, self_map, _ = self.mixer.attend(tokens)
        return mixed, self_map

    def _read(self, series: Tensor, exogenous: Tensor, with_map: bool) -> tuple[Tensor, Tensor | None]:
        """Reads the exogenous tokens at the global tokens [B, C, D]: [B, C, D], and the map if asked for."""
        if with_map:
            return self.cross_attention.attend(series, exogenous)
        return self.cross_attention(series, exogenous), None


class TimeXer(ForecastModel):
    """Forecasts each channel from its patches and from one token of every exogenous series."""

    config_class = TimeXerConfig
    config: TimeXerConfig
    uses_time_features = True
    uses_covariates = True

    def __init__(self, config: TimeXerConfig) -> None:
        super().__init__(config)
        d_model = config.d_model
        self.patch_embedding = nn.Linear(config.patch_length, d_model, bias=False)
        self.global_tokens = nn.Parameter(torch.randn(config.num_channels, d_model))
        positions = compute_sinusoidal_positions(config.num_patches, d_model)
        self.register_buffer("positions", positions, persistent=False)  # [P, D]
        past, horizon = config.context_length, config.prediction_length
        self.past_embedding = nn.Linear(past, d_model) if config.num_past_exogenous else None
        self.known_embedding = nn.Linear(past + horizon, d_model) if config.num_known_covariates else None
        self.norm = InstanceNorm()
        self.layers = nn.ModuleList(TimeXerLayer(config) for _ in range(config.num_layers))
        self.final_norm = nn.LayerNorm(d_model)
        size = (config.num_patches + 1) * d_model
        self.projection = nn.Linear(size, horizon * self.output_head.num_parameters)
        self.dropout = Dropout(config.dropout)
        self.head_dropout = Dropout(config.head_dropout)
        self.post_init()

    @classmethod
    def config_for(cls, data: "PreparedData") -> dict[str, Any]:
        """Adds how many covariates are static."""
        from tsllm.data.static import name_static  # with pandas, which a model alone does not need

        return super().config_for(data) | {"num_static_covariates": len(name_static(data.task.static))}

    def forecast(self, inputs: Inputs) -> RawForecast:
        """Forecasts every channel; patches and exogenous tokens are the model's only view of the data."""
        return self._forecast(inputs)

    def compute_attention_maps(self, inputs: Inputs) -> AttentionMaps:
        """Returns per layer the maps [B * C, h, P + 1, P + 1] within series and [B, h, C, X] over exogenous tokens."""
        maps: AttentionMaps = []
        self._forecast(inputs, maps)
        return maps

    def cross_attention_weights(self) -> list[dict[str, Tensor]]:
        """Returns per layer the weights [D, D] of the cross-attention's query, key, value and out projections."""
        blocks = [layer.cross_attention for layer in cast("list[TimeXerLayer]", list(self.layers))]
        return [{name: getattr(block, name).weight for name in ("query", "key", "value", "out")} for block in blocks]

    def _forecast(self, inputs: Inputs, maps: AttentionMaps | None = None) -> RawForecast:
        values, loc, scale = inputs.past_values, None, None
        if self.config.instance_norm:
            values, loc, scale = self.norm(values, inputs.past_observed_mask)
        tokens = self._embed_series(values)  # [B * C, P + 1, D]
        exogenous = self._embed_exogenous(values, inputs)  # [B, X, D]
        for layer in self.layers:
            tokens = layer(tokens, exogenous, maps)
        flat = self.final_norm(tokens).flatten(1)  # [B * C, (P + 1) * D]
        out = self.head_dropout(self.projection(flat))  # [B * C, H * parameters]
        out = out.view(values.shape[0], self.config.num_channels, self.config.prediction_length, -1)
        return RawForecast(out.transpose(1, 2), loc, scale)  # [B, H, C, parameters]

    def _embed_series(self, values: Tensor) -> Tensor:
        """Turns series [B, L, C] into patch tokens and a global token each: [B * C, P + 1, D]."""
        config = self.config
        series = values.transpose(1, 2)  # [B, C, L]
        if not config.reference_quirks:
            series = F.pad(series, (-config.context_length % config.patch_length, 0), mode="replicate")
        patches = patchify(series, config.patch_length, config.patch_length)  # [B, C, P, patch_length]
        tokens = self.patch_embedding(patches) + self.positions  # [B, C, P, D]
        whole = self.global_tokens[:, None].expand(values.shape[0], -1, -1, -1)  # [B, C, 1, D]
        return self.dropout(torch.cat([tokens, whole], dim=2).flatten(0, 1))  # [B * C, P + 1, D]

    def _embed_exogenous(self, values: Tensor, inputs: Inputs) -> Tensor:
        """Embeds channels, past covariates, calendar and known covariates as one token each: [B, X, D]."""
        config = self.config
        known = config.num_known_covariates
        past = [values] if config.channels_as_exogenous else []
        if config.num_covariates > known:
            assert inputs.past_covariates is not None
            past.append(self._normalise(inputs.past_covariates[..., known:]))
        if config.num_time_features:
            assert inputs.past_time_features is not None
            past.append(inputs.past_time_features)
        tokens = []
        if self.past_embedding is not None:
            tokens.append(self.past_embedding(torch.cat(past, dim=2).transpose(1, 2)))  # [B, X past, D]
        if self.known_embedding is not None:
            assert inputs.past_covariates is not None
            assert inputs.future_covariates is not None
            whole = torch.cat([inputs.past_covariates[..., :known], inputs.future_covariates], dim=1)  # [B, L + H, K]
            # Normalised over context and horizon: a flag that is constant in the context stays of order one.
            moving = known - config.num_static_covariates
            whole = torch.cat([self._normalise(whole[..., :moving]), whole[..., moving:]], dim=2)
            tokens.append(self.known_embedding(whole.transpose(1, 2)))  # [B, K known, D]
        return self.dropout(torch.cat(tokens, dim=1))

    def _normalise(self, covariates: Tensor) -> Tensor:
        """Normalises covariates [B, T, K] over T like the series themselves."""
        return self.norm(covariates)[0] if self.config.instance_norm and covariates.shape[2] else covariates
