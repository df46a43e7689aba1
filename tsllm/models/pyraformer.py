"""Pyraformer: attention over a pyramid of scales at a cost linear in the length (Liu 2022, ICLR).

The context is embedded step by step, coarser scales are built on top, every node reads its neighbours, children and
parent, and the forecast is read off the newest step's node on each scale (or by a small decoder).

Deliberate deviations: an instance norm, without which shifted series are far off; calendar features enter through a
linear map. In the port of the Time-Series-Library features in [-0.5, 0.5] address tables of integers, so all of them
become row 0; `reference_quirks` reproduces that.
"""

from typing import cast

import torch
from torch import Tensor, nn

from tsllm.models.base import ForecastModel
from tsllm.models.config import ForecastConfig, require_divides, require_positive
from tsllm.models.inputs import Inputs, RawForecast
from tsllm.nn.attention.pyramidal import (
    CONSTRUCTIONS,
    CoarseScaleConstruction,
    Construction,
    Pyramid,
    PyramidalLayer,
    build_pyramid,
)
from tsllm.nn.embedding import TIME_EMBEDDINGS, StepEmbedding
from tsllm.nn.normalization import InstanceNorm

DECODERS = ("gather", "attention")


class PyraformerConfig(ForecastConfig):
    """Pyraformer's configuration.

    Attributes:
        d_model: Width of the nodes.
        num_layers: Number of encoder layers.
        num_heads: Heads of the attentions.
        d_ff: Inner width of the feed-forward parts.
        d_key: Width of queries and keys a head; None = d_model / num_heads.
        d_value: Width of values a head; None = d_model / num_heads.
        dropout: Dropout rate.
        window_sizes: Children of a node, for each scale above the finest.
        inner_size: Nodes of its own scale that a node reads, itself included.
        construction: How coarser scales are made: `bottleneck`, `conv`, `max` or `average`.
        d_bottleneck: Width inside the `bottleneck`; None = d_model / 4.
        decoder: `gather` maps the newest step's nodes of all scales to the horizon; `attention` lets one token for
            every horizon step read the pyramid.
        truncate: Let the `attention` decoder read the finest scale only.
        prediction_token: Append an empty step, the first of the horizon, to the context (`gather` only).
        attention_residual: Residual and norm around the attention; the library's port has none.
        qkv_bias: Biases of queries, keys and values; the library's port has them.
        dense_attention: Compute with an N x N mask instead of gathering neighbours; same numbers at quadratic cost.
        instance_norm: Normalise every window and channel by its own mean and deviation.
        time_embedding: `linear`, or `fixed` / `learned` for integer calendar columns.
        num_series: Series with a learned vector each, whose number stands in the last time feature; 0 = none.
    """

    model_type = "tsllm_pyraformer"

    d_model: int = 64
    num_layers: int = 2
    num_heads: int = 4
    d_ff: int = 128
    d_key: int | None = None
    d_value: int | None = None
    dropout: float = 0.1
    window_sizes: list[int] | tuple[int, ...] = (4, 4)
    inner_size: int = 5
    construction: str = "bottleneck"
    d_bottleneck: int | None = None
    decoder: str = "gather"
    truncate: bool = False
    prediction_token: bool = True
    attention_residual: bool = True
    qkv_bias: bool = False
    dense_attention: bool = False
    instance_norm: bool = True
    time_embedding: str = "linear"
    num_series: int = 0

    def check(self) -> None:
        """Checks the values; see the base class."""
        super().check()
        self.window_sizes = list(self.window_sizes)  # what a config.json can hold
        for name in ("d_model", "num_layers", "num_heads", "d_ff", "inner_size"):
            require_positive(self, name)
        for name in ("d_key", "d_value", "d_bottleneck"):
            if getattr(self, name) is not None:
                require_positive(self, name)
        if self.d_key is None or self.d_value is None:
            require_divides(self, "num_heads", "d_model")
        for name, allowed in (
            ("construction", CONSTRUCTIONS),
            ("decoder", DECODERS),
            ("time_embedding", TIME_EMBEDDINGS),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {list(allowed)}, got {getattr(self, name)!r}")
        if self.truncate and self.decoder != "attention":
            raise ValueError(
                f"truncate concerns the attention decoder, but decoder is {self.decoder!r}; set it to false"
            )
        if self.num_series < 0 or (self.num_series and not self.num_time_features):
            raise ValueError(
                f"num_series ({self.num_series}) must be 0, or positive with the series' number as the last time "
                f"feature, but num_time_features is {self.num_time_features}"
            )
        self.build_pyramid()

    def build_pyramid(self) -> Pyramid:
        """Returns the shape of the pyramid; raises ValueError if the context is too short for it."""
        return build_pyramid(self.context_length + self.num_tokens, self.window_sizes, self.inner_size)

    @property
    def num_tokens(self) -> int:
        """Number of empty steps after the context."""
        return 1 if self.decoder == "gather" and self.prediction_token else 0


class PyraformerDecoder(nn.Module):
    """One token for every horizon step, which reads the encoder's nodes, then these and the tokens before it.

    Args:
        config: The model's configuration.
    """

    def __init__(self, config: PyraformerConfig) -> None:
        super().__init__()
        self.embedding = build_embedding(config, config.prediction_length)
        self.layers = nn.ModuleList(build_layer(config) for _ in range(2))

    def forward(self, values: Tensor, features: Tensor | None, nodes: Tensor) -> Tensor:
        """Decodes.

        Args:
            values: [B, H, C], zeros in forecasting.
            features: [B, H, F], calendar of the horizon.
            nodes: [B, N, D], what the encoder made.

        Returns:
            [B, H, D].
        """
        first, second = cast("list[PyramidalLayer]", list(self.layers))
        tokens, _ = first.attend(self.embedding(values, features), context=nodes)  # [B, H, D]
        horizon = tokens.shape[1]
        allowed = torch.ones(horizon, nodes.shape[1] + horizon, dtype=torch.bool, device=nodes.device)
        tokens, _ = second.attend(tokens, allowed.tril(nodes.shape[1]), torch.cat([nodes, tokens], dim=1))
        return tokens


def build_embedding(config: PyraformerConfig, length: int) -> StepEmbedding:
    """Builds the embedding of `length` steps."""
    features = config.num_time_features - (1 if config.num_series else 0)
    return StepEmbedding(
        config.num_channels,
        config.d_model,
        length,
        num_features=features,
        time_embedding=config.time_embedding,
        num_series=config.num_series,
        bias=True,
        dropout=config.dropout,
    )


def build_layer(config: PyraformerConfig) -> PyramidalLayer:
    """Builds a layer of the encoder or the decoder."""
    return PyramidalLayer(
        config.d_model,
        config.num_heads,
        config.d_ff,
        d_key=config.d_key,
        d_value=config.d_value,
        dropout=config.dropout,
        attention_residual=config.attention_residual,
        qkv_bias=config.qkv_bias,
    )


class Pyraformer(ForecastModel):
    """Forecasts from the pyramid of nodes over the context."""

    config_class = PyraformerConfig
    config: PyraformerConfig
    can_be_laid_out = False  # it computes tables of what attends to what
    uses_time_features = True
    allowed: Tensor | None
    newest: Tensor
    newest_reads: Tensor

    def __init__(self, config: PyraformerConfig) -> None:
        super().__init__(config)
        self.pyramid = config.build_pyramid()
        self.norm = InstanceNorm()
        self.embedding = build_embedding(config, config.context_length + config.num_tokens)
        self.construct = CoarseScaleConstruction(
            config.d_model, config.window_sizes, cast("Construction", config.construction), config.d_bottleneck
        )
        self.layers = nn.ModuleList(build_layer(config) for _ in range(config.num_layers))
        self.register_buffer("newest", self.pyramid.ancestors()[-1], persistent=False)  # [scales]
        self.register_buffer("newest_reads", _allowed_rows(self.pyramid, self.newest), persistent=False)  # [scales, N]
        allowed = self.pyramid.allowed() if config.dense_attention else None
        self.register_buffer("allowed", allowed, persistent=False)  # [N, N]
        per_step = config.num_channels * self.output_head.num_parameters
        if config.decoder == "attention":
            self.decoder: PyraformerDecoder | None = PyraformerDecoder(config)
            self.projection = nn.Linear(config.d_model, per_step)
        else:
            self.decoder = None
            size = len(self.pyramid.sizes) * config.d_model
            self.projection = nn.Linear(size, config.prediction_length * per_step)
        self.post_init()

    def forecast(self, inputs: Inputs) -> RawForecast:
        """Appends the prediction token, normalises, and maps what the pyramid holds to the horizon."""
        config = self.config
        values, loc, scale = inputs.past_values, None, None
        if config.instance_norm:
            values, loc, scale = self.norm(values, inputs.past_observed_mask)
        features, ahead = inputs.past_time_features, inputs.future_time_features
        if config.num_time_features and ahead is None and (config.num_tokens or config.decoder == "attention"):
            raise ValueError(
                f"future_time_features is missing; the configuration names {config.num_time_features} time features "
                "and the model reads them for the horizon too"
            )
        empty = values.new_zeros(values.shape[0], config.prediction_length, config.num_channels)  # [B, H, C]
        if config.num_tokens:
            values = torch.cat([values, empty[:, : config.num_tokens]], dim=1)  # [B, L + 1, C]
            if features is not None and ahead is not None:
                features = torch.cat([features, ahead[:, : config.num_tokens]], dim=1)
        return RawForecast(self.compute_parameters(values, features, empty, ahead), loc, scale)

    def compute_parameters(
        self, values: Tensor, features: Tensor | None, decoder_values: Tensor, decoder_features: Tensor | None
    ) -> Tensor:
        """Maps what encoder and decoder read to the head's parameters.

        Args:
            values: [B, L (+ 1), C], the context and the prediction token if there is one.
            features: [B, L (+ 1), F], their calendar.
            decoder_values: [B, H, C], zeros in forecasting; only the attention decoder reads it.
            decoder_features: [B, H, F].

        Returns:
            [B, H, C, parameters].
        """
        shape = (self.config.prediction_length, self.config.num_channels, -1)
        nodes = self.construct(self.embedding(values, self._integers(features)))  # [B, N, D]
        if self.decoder is None:
            newest = self._encode(nodes, newest_only=True)  # [B, scales, D]
            return self.projection(newest.flatten(1)).unflatten(1, shape)  # [B, H, C, parameters]
        nodes = self._encode(nodes)
        if self.config.truncate:
            nodes = nodes[:, : self.pyramid.sizes[0]]
        ahead = self.decoder(decoder_values, self._integers(decoder_features), nodes)  # [B, H, D]
        return self.projection(ahead).unflatten(2, shape[1:])  # [B, H, C, parameters]

    def _encode(self, nodes: Tensor, newest_only: bool = False) -> Tensor:
        """Runs all layers: [B, N, D], or [B, scales, D] for the newest step's nodes only."""
        layers = cast("list[PyramidalLayer]", list(self.layers))
        # The last layer need not compute nodes that nobody reads.
        for layer in layers[:-1] if newest_only else layers:
            nodes = layer(nodes, self.pyramid) if self.allowed is None else layer.attend(nodes, self.allowed)[0]
        if newest_only:
            nodes, _ = layers[-1].attend(nodes[:, self.newest], self.newest_reads, context=nodes)
        return nodes

    def _integers(self, features: Tensor | None) -> Tensor | None:
        """Truncates fractional calendar features as the reference's tables do; otherwise leaves them alone."""
        if features is None or not self.config.reference_quirks or self.config.time_embedding == "linear":
            return features
        return features.long()


def _allowed_rows(pyramid: Pyramid, nodes: Tensor) -> Tensor:
    """Says for one node a scale, finest first, which nodes it reads: [scales, N] bool."""
    rows = torch.zeros(len(nodes), pyramid.num_nodes, dtype=torch.bool)
    for level, node in enumerate(nodes.tolist()):
        index, valid = pyramid.neighbours(level)
        position = node - pyramid.start(level)
        rows[level, index[position][valid[position]]] = True
    return rows
