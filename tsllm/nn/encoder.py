"""The stack of encoder layers: any token mixer, a feed-forward part, residuals and norms.

With `attention="full"`, `norm="layer"`, `norm_position="post"` and GELU it computes what the encoder of the
Time-Series-Library computes, whose 1x1 convolutions are the two linear maps of the feed-forward part.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, cast

import torch.nn.functional as F
from torch import Tensor, nn

from tsllm.nn.attention.base import TokenBatchNorm
from tsllm.nn.attention.full import FullAttention
from tsllm.nn.blocks import build_mixer
from tsllm.nn.dropout import Dropout
from tsllm.nn.older_state import OlderState, fold_affine

Spec = str | Mapping[str, Any]
NormKind = Literal["layer", "batch"]
NormPosition = Literal["post", "pre", "stream"]
NORM_POSITIONS = ("post", "pre", "stream")
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "relu": F.relu, "silu": F.silu}


class TokenLayerNorm(nn.LayerNorm):
    """Layer norm of each token [B, L, D]; the mask is not read."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Normalises x [B, L, D] token by token."""
        return super().forward(x)


def build_norm(kind: str, d_model: int, affine: bool = True) -> TokenLayerNorm | TokenBatchNorm:
    """Builds a norm over tokens [B, L, D] that is called with (x, mask).

    Args:
        kind: "layer" or "batch".
        d_model: Width D of the tokens.
        affine: Whether each feature is scaled and shifted afterwards.

    Raises:
        ValueError: If `kind` is neither "layer" nor "batch".
    """
    if kind == "layer":
        return TokenLayerNorm(d_model, elementwise_affine=affine)
    if kind == "batch":
        return TokenBatchNorm(d_model, affine)
    raise ValueError(f"unknown norm {kind!r}; expected 'layer' or 'batch'")


class FeedForward(nn.Module):
    """Two linear maps with an activation between, applied to each token alone.

    Args:
        d_model: Width D of the tokens.
        d_ff: Inner width.
        activation: One of `ACTIVATIONS`.
        dropout: Dropout rate after the activation and after the second map.

    Raises:
        ValueError: If the activation is unknown.
    """

    def __init__(self, d_model: int, d_ff: int, activation: str = "gelu", dropout: float = 0.0) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f"unknown activation {activation!r}; expected one of {sorted(ACTIVATIONS)}")
        self.activation = ACTIVATIONS[activation]
        self.up = nn.Linear(d_model, d_ff)
        self.down = nn.Linear(d_ff, d_model)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Maps tokens [..., D] -> [..., D]."""
        hidden = self.dropout(self.activation(self.up(x)))  # [..., d_ff]
        return self.dropout(self.down(hidden))  # [..., D]


class EncoderLayer(nn.Module):
    """One token mixer and one feed-forward part, each with a residual and a norm.

    Args:
        mixer: A token mixer [B, L, D] -> [B, L, D].
        d_model: Width D of the tokens.
        d_ff: Inner width of the feed-forward part.
        dropout: Dropout rate after the mixer and inside the feed-forward part.
        activation: Activation of the feed-forward part.
        norm: "layer" or "batch".
        norm_position: "post" normalises after each residual sum; "pre" normalises what enters a sublayer and leaves
            the stream alone; "stream" replaces the stream itself by its normalised form in front of each sublayer,
            which is what the self-supervised PatchTST code calls pre-norm.
        affine_end: Whether the norm after the feed-forward part scales and shifts; a batch norm behind it would take
            both away.

    Raises:
        ValueError: If norm, position or activation is unknown.
    """

    def __init__(
        self,
        mixer: nn.Module,
        d_model: int,
        d_ff: int,
        dropout: float = 0.0,
        activation: str = "gelu",
        norm: NormKind = "layer",
        norm_position: NormPosition = "post",
        affine_end: bool = True,
    ) -> None:
        super().__init__()
        if norm_position not in NORM_POSITIONS:
            raise ValueError(f"unknown norm_position {norm_position!r}; expected one of {list(NORM_POSITIONS)}")
        self.norm_position = norm_position
        self.mixer = mixer
        self.feed_forward = FeedForward(d_model, d_ff, activation, dropout)
        self.norm_mixer = build_norm(norm, d_model)
        self.norm_feed_forward = build_norm(norm, d_model, affine_end)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Encodes tokens [B, L, D] -> [B, L, D]; mask [B, L], True = real token."""
        stream, entering = self._enter(x, self.norm_mixer, mask)
        stream = stream + self.dropout(self.mixer(entering, mask))
        return self._finish(stream, mask)

    def attend(
        self, x: Tensor, mask: Tensor | None = None, previous_scores: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Like `forward`, but returns tokens, attention maps [B, h, L, L] and scores [B, h, L, L].

        Args:
            x: Tokens [B, L, D].
            mask: [B, L], True = real token.
            previous_scores: Scores of the layer below, for residual attention.

        Raises:
            TypeError: If the mixer is not full attention, which alone has maps.
        """
        if not isinstance(self.mixer, FullAttention):
            raise TypeError(
                f"attention maps and residual attention need attention 'full', not {type(self.mixer).__name__}; "
                "set attention: full without gate and conv, or do not ask for maps"
            )
        stream, entering = self._enter(x, self.norm_mixer, mask)
        mixed, maps, scores = self.mixer.attend(entering, mask, previous_scores)
        return self._finish(stream + self.dropout(mixed), mask), maps, scores

    def _finish(self, stream: Tensor, mask: Tensor | None) -> Tensor:
        """Norm and feed-forward sublayer after the residual sum of the mixer: [B, L, D] -> [B, L, D]."""
        if self.norm_position == "post":
            stream = self.norm_mixer(stream, mask)
        stream, entering = self._enter(stream, self.norm_feed_forward, mask)
        stream = stream + self.feed_forward(entering)
        return self.norm_feed_forward(stream, mask) if self.norm_position == "post" else stream

    def _enter(self, x: Tensor, norm: nn.Module, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Returns the residual stream and what enters the sublayer, both [B, L, D]."""
        if self.norm_position == "post":
            return x, x
        normalised = norm(x, mask)
        return (normalised, normalised) if self.norm_position == "stream" else (x, normalised)


class Encoder(OlderState):
    """Encoder layers in a row, optionally with carried attention scores and a closing norm.

    Args:
        layers: The layers, lowest first.
        final_norm: A norm called with (x, mask) after the last layer, or None.
        residual_attention: Whether each layer adds the attention scores of the layer below to its own.

    Raises:
        TypeError: If `residual_attention` is asked for with a mixer other than full attention.
    """

    def __init__(
        self, layers: list[EncoderLayer], final_norm: nn.Module | None = None, residual_attention: bool = False
    ) -> None:
        super().__init__()
        for index, layer in enumerate(layers):
            if residual_attention and not isinstance(layer.mixer, FullAttention):
                raise TypeError(
                    f"residual_attention needs full attention, but layer {index} mixes by "
                    f"{type(layer.mixer).__name__}; set attention: full or residual_attention: false"
                )
        self.layers = nn.ModuleList(layers)
        self.final_norm = final_norm
        self.residual_attention = residual_attention

    def forward(
        self, x: Tensor, mask: Tensor | None = None, output_attentions: bool = False
    ) -> tuple[Tensor, list[Tensor]]:
        """Encodes tokens.

        Args:
            x: Tokens [B, L, D].
            mask: [B, L], True = real token.
            output_attentions: Whether to return the softmax maps; slower, since fused attention keeps none.

        Returns:
            Tokens [B, L, D] and one map [B, h, L, L] a layer (an empty list if not asked for).

        Raises:
            TypeError: If maps are asked for and a layer has none.
        """
        maps: list[Tensor] = []
        scores: Tensor | None = None
        for layer in cast("list[EncoderLayer]", list(self.layers)):
            if output_attentions or self.residual_attention:
                x, layer_map, new_scores = layer.attend(x, mask, scores)
                scores = new_scores if self.residual_attention else None
                if output_attentions:
                    maps.append(layer_map)
            else:
                x = layer(x, mask)
        if self.final_norm is not None:
            x = self.final_norm(x, mask)
        return x, maps

    def convert_state(self, state: dict[str, Tensor], prefix: str) -> None:
        """Folds scale and shift of the last layer's norm into the batch norm that follows at once."""
        if not isinstance(self.final_norm, TokenBatchNorm) or not len(self.layers):
            return
        last = len(self.layers) - 1
        layer = cast(EncoderLayer, self.layers[last])
        if layer.norm_position != "post":
            return
        inner = ".norm" if isinstance(layer.norm_feed_forward, TokenBatchNorm) else ""
        source = f"{prefix}layers.{last}.norm_feed_forward{inner}"
        fold_affine(state, source, f"{prefix}final_norm.norm", self.final_norm.norm.eps)


def build_encoder(
    num_layers: int,
    d_model: int,
    num_heads: int,
    d_ff: int,
    *,
    length: int | None = None,
    attention: Spec = "full",
    gate: Spec | None = None,
    conv: Spec | None = None,
    dropout: float = 0.0,
    activation: str = "gelu",
    norm: NormKind = "layer",
    norm_position: NormPosition = "post",
    final_norm: NormKind | None = None,
    residual_attention: bool = False,
) -> Encoder:
    """Builds an encoder from a configuration.

    Args:
        num_layers: Number of layers.
        d_model: Width D of the tokens.
        num_heads: Number of heads, for the mixers that have heads.
        d_ff: Inner width of the feed-forward parts.
        length: Number of tokens L, for mixers whose parameters depend on it; None if it varies.
        attention: Specification of the token mixer, see `tsllm.nn.blocks.build_mixer`.
        gate: Specification of a channel gate on what the mixer returns, or None.
        conv: Specification of a convolution in front of the mixer, or None.
        dropout: Dropout rate of the layers and of full attention.
        activation: Activation of the feed-forward parts.
        norm: "layer" or "batch".
        norm_position: "post", "pre" or "stream", see `EncoderLayer`.
        final_norm: Norm after the last layer, or None.
        residual_attention: Whether attention scores are carried from layer to layer.

    Raises:
        ValueError: If a specification does not fit; the text says why.
    """
    parts = [part for part in (conv, attention, gate) if part is not None]
    spec: Spec = parts[0] if len(parts) == 1 else {"type": "sequence", "blocks": parts}
    layers = [
        EncoderLayer(
            build_mixer(spec, d_model, num_heads, length, dropout=dropout),
            d_model,
            d_ff,
            dropout=dropout,
            activation=activation,
            norm=norm,
            norm_position=norm_position,
            affine_end=index < num_layers - 1 or final_norm != "batch" or norm_position != "post",
        )
        for index in range(num_layers)
    ]
    closing = None if final_norm is None else build_norm(final_norm, d_model)
    return Encoder(layers, closing, residual_attention)
