"""PatchTST: patches of each channel as the tokens of one shared encoder (Nie 2023, ICLR), and its pre-training.

Pre-training (section 3.2 of the paper) hides patches and reconstructs them; `PatchTST.from_pretrained` of such a
folder swaps the head for a forecasting one, trained alone (`linear_probe`) or together with the encoder.
"""

import logging
from pathlib import Path
from typing import Any, Self, cast

import torch
from torch import Tensor, nn
from transformers import AutoConfig

from tsllm.models.base import ForecastModel
from tsllm.models.config import ForecastConfig, require_divides, require_positive
from tsllm.models.inputs import Inputs, RawForecast, fill_missing
from tsllm.models.losses import Loss, compute_patchtst_uniform
from tsllm.nn.blocks import split_spec
from tsllm.nn.dropout import Dropout
from tsllm.nn.embedding import compute_sinusoidal_positions
from tsllm.nn.encoder import NormKind, NormPosition, build_encoder
from tsllm.nn.linear import ChannelLinear
from tsllm.nn.normalization import InstanceNorm
from tsllm.nn.patching import compute_num_patches, patchify
from tsllm.types import ForecastOutput

logger = logging.getLogger(__name__)

POSITIONS = ("sinusoidal", "learned", "frozen")


class PatchTSTConfig(ForecastConfig):
    """PatchTST's configuration.

    Attributes:
        patch_length: Steps in a patch.
        patch_stride: Steps from one patch's start to the next.
        end_padding: Repeat the last value `patch_stride` times first, so that the newest steps lie in two patches;
            otherwise the patches end at the newest step and an oldest remainder of less than a stride is not read.
        d_model: Width of the tokens.
        num_layers: Number of encoder layers.
        num_heads: Heads of full attention.
        d_ff: Inner width of the feed-forward parts.
        dropout: Dropout rate of embedding, attention maps and sublayers.
        head_dropout: Dropout rate on the flattened tokens in front of the forecasting head.
        activation: Activation of the feed-forward parts.
        attention: Token mixer over the patches of a channel, see `tsllm.nn.blocks.build_mixer`.
        gate: Gate on what the mixer of each layer returns, see `tsllm.nn.blocks.build_gate`; None = none.
        conv: Convolution in front of the mixer of each layer; None = none.
        residual_attention: Add the attention scores of the layer below to those of each layer.
        norm: `layer` or `batch` norm in the encoder layers.
        norm_position: `post`, `pre` or `stream`, see `tsllm.nn.encoder.EncoderLayer`.
        final_norm: Norm after the last layer: `layer`, `batch` or `none`.
        positions: `sinusoidal`, `learned`, or `frozen` (a table like the learned one that training leaves alone).
        embedding_bias: Whether the patch embedding has a bias.
        individual_embedding: One patch embedding a channel.
        individual_head: One forecasting head a channel.
        instance_norm: Normalise every window and channel by its own mean and deviation.
        affine_norm: Learn a weight and a bias a channel in the instance norm.
        linear_probe: Train the head alone; the encoder stays as it is, its dropout and batch statistics included.
    """

    model_type = "tsllm_patchtst"
    own_losses = {"patchtst_uniform": Loss(compute_patchtst_uniform)}

    patch_length: int = 16
    patch_stride: int = 8
    end_padding: bool = True
    d_model: int = 128
    num_layers: int = 3
    num_heads: int = 8
    d_ff: int = 256
    dropout: float = 0.1
    head_dropout: float = 0.0
    activation: str = "gelu"
    attention: str | dict[str, Any] = "full"
    gate: str | dict[str, Any] | None = None
    conv: str | dict[str, Any] | None = None
    residual_attention: bool = False
    norm: str = "layer"
    norm_position: str = "post"
    final_norm: str = "batch"
    positions: str = "sinusoidal"
    embedding_bias: bool = False
    individual_embedding: bool = False
    individual_head: bool = False
    instance_norm: bool = True
    affine_norm: bool = False
    linear_probe: bool = False

    def check(self) -> None:
        """Checks the values; see the base class."""
        super().check()
        for name in ("patch_length", "patch_stride", "d_model", "num_layers", "num_heads", "d_ff"):
            require_positive(self, name)
        require_divides(self, "num_heads", "d_model")
        if self.patch_length > self.context_length:
            raise ValueError(
                f"patch_length ({self.patch_length}) exceeds context_length ({self.context_length}); "
                "lower patch_length or raise context_length"
            )
        if self.positions not in POSITIONS:
            raise ValueError(f"unknown positions {self.positions!r}; expected one of {list(POSITIONS)}")
        if self.final_norm not in ("layer", "batch", "none"):
            raise ValueError(f"unknown final_norm {self.final_norm!r}; expected 'layer', 'batch' or 'none'")
        plain = split_spec(self.attention)[0] == "full" and self.gate is None and self.conv is None
        if self.loss == "patchtst_uniform" and not plain:
            raise ValueError(
                "loss 'patchtst_uniform' reads softmax maps, which only attention 'full' without gate and conv has; "
                f"got attention {self.attention!r}, gate {self.gate!r}, conv {self.conv!r}"
            )

    @property
    def num_patches(self) -> int:
        """Number of patches of one channel."""
        padding = self.patch_stride if self.end_padding else 0
        return compute_num_patches(self.context_length, self.patch_length, self.patch_stride, padding)


class PatchTSTPretrainingConfig(PatchTSTConfig):
    """Configuration of the pre-training; `prediction_length`, `head` and `loss` are not read.

    Attributes:
        mask_ratio: Share of the patches of each sample and channel that are hidden; int(P (1 - mask_ratio)) stay.
    """

    model_type = "tsllm_patchtst_pretraining"
    no_texts = "pre-training reconstructs patches and forecasts nothing that a text could be about"

    end_padding: bool = False
    positions: str = "learned"
    embedding_bias: bool = True
    norm: str = "batch"
    final_norm: str = "none"
    patch_length: int = 12
    patch_stride: int = 12
    mask_ratio: float = 0.4

    def check(self) -> None:
        """Checks the values; see the base class."""
        super().check()
        if not 0 < self.mask_ratio < 1:
            raise ValueError(f"mask_ratio must lie in (0, 1), got {self.mask_ratio}")
        if self.patch_stride < self.patch_length:
            logger.warning(
                "patch_stride %d is below patch_length %d: hidden values can be read from overlapping patches; set "
                "both to the same value",
                self.patch_stride,
                self.patch_length,
            )


class PatchEncoder(nn.Module):
    """Patches of all channels to encoded tokens; what pre-training and forecasting share.

    Args:
        config: The model's configuration.
    """

    def __init__(self, config: PatchTSTConfig) -> None:
        super().__init__()
        channels = config.num_channels if config.individual_embedding else None
        self.embedding = ChannelLinear(config.patch_length, config.d_model, channels, config.embedding_bias)
        if config.positions == "sinusoidal":
            table = compute_sinusoidal_positions(config.num_patches, config.d_model)
            self.register_buffer("positions", table, persistent=False)
        else:
            table = torch.empty(config.num_patches, config.d_model).uniform_(-0.02, 0.02)
            self.positions = nn.Parameter(table, requires_grad=config.positions == "learned")
        self.dropout = Dropout(config.dropout)
        self.encoder = build_encoder(
            config.num_layers,
            config.d_model,
            config.num_heads,
            config.d_ff,
            length=config.num_patches,
            attention=config.attention,
            gate=config.gate,
            conv=config.conv,
            dropout=config.dropout,
            activation=config.activation,
            norm=cast(NormKind, config.norm),
            norm_position=cast(NormPosition, config.norm_position),
            final_norm=None if config.final_norm == "none" else cast(NormKind, config.final_norm),
            residual_attention=config.residual_attention,
        )

    def embed(self, patches: Tensor) -> Tensor:
        """Embeds patches [B, C, P, patch_length] as tokens [B * C, P, D]."""
        return self.dropout(self.embedding(patches) + self.positions).flatten(0, 1)  # [B * C, P, D]

    def forward(self, patches: Tensor, output_attentions: bool = False) -> tuple[Tensor, list[Tensor]]:
        """Encodes patches [B, C, P, patch_length]: tokens [B * C, P, D] and, if asked for, maps [B * C, h, P, P]."""
        return self.encoder(self.embed(patches), output_attentions=output_attentions)


class _PatchModel(ForecastModel):
    """What both models do before the encoder."""

    config: PatchTSTConfig
    norm: InstanceNorm
    backbone: PatchEncoder

    def _cut(self, values: Tensor) -> Tensor:
        """Cuts series [B, L, C] into patches [B, C, P, patch_length]."""
        config = self.config
        series = values.transpose(1, 2)  # [B, C, L]
        if config.end_padding:
            return patchify(series, config.patch_length, config.patch_stride, config.patch_stride)
        rest = (config.context_length - config.patch_length) % config.patch_stride
        return patchify(series[..., rest:], config.patch_length, config.patch_stride)

    def _normalise(self, values: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None, Tensor | None]:
        return self.norm(values, mask) if self.config.instance_norm else (values, None, None)

    def _build_norm(self) -> InstanceNorm:
        return InstanceNorm(self.config.num_channels, affine=self.config.instance_norm and self.config.affine_norm)


class PatchTST(_PatchModel):
    """Forecasts each channel from its own patches; all channels share the encoder."""

    config_class = PatchTSTConfig

    def __init__(self, config: PatchTSTConfig) -> None:
        super().__init__(config)
        self.norm = self._build_norm()
        self.backbone = PatchEncoder(config)
        channels = config.num_channels if config.individual_head else None
        size = config.num_patches * config.d_model
        self.head = ChannelLinear(size, config.prediction_length * self.output_head.num_parameters, channels)
        self.head_dropout = Dropout(config.head_dropout)
        if config.linear_probe:
            self.backbone.requires_grad_(False)
            self.norm.requires_grad_(False)
        self.post_init()

    def train(self, mode: bool = True) -> Self:
        """Sets the training mode; a probed encoder stays in evaluation mode."""
        super().train(mode)
        if self.config.linear_probe:
            self.backbone.eval()
        return self

    def forecast(self, inputs: Inputs) -> RawForecast:
        """Forecasts; `extras["attention_maps"]` holds one [B * C, h, P, P] a layer if the loss reads them."""
        with_maps = self.loss_name == "patchtst_uniform"
        values, loc, scale = self._normalise(inputs.past_values, inputs.past_observed_mask)
        tokens, maps = self.backbone(self._cut(values), with_maps)  # [B * C, P, D]
        flat = self.head_dropout(tokens.flatten(1).unflatten(0, (values.shape[0], -1)))  # [B, C, P * D]
        out = self.head(flat).unflatten(-1, (self.config.prediction_length, -1))  # [B, C, H, parameters]
        return RawForecast(out.transpose(1, 2), loc, scale, {"attention_maps": maps} if with_maps else {})

    def compute_attention_maps(self, inputs: Inputs) -> list[Tensor]:
        """Returns one softmax map [B * C, h, P, P] a layer; rows sum to 1.

        Raises:
            TypeError: If the token mixer is not full attention.
        """
        values, _, _ = self._normalise(inputs.past_values, inputs.past_observed_mask)
        return self.backbone(self._cut(values), output_attentions=True)[1]

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> Self:  # type: ignore[override]
        """Loads a forecaster, or the encoder of a pre-training under a fresh forecasting head.

        Args:
            pretrained_model_name_or_path: A folder or a Hub id of a `PatchTST` or a `PatchTSTPretraining`.
            **options: As in the base class; `config` decides the horizon, the head and `linear_probe`.
        """
        hub = {k: v for k, v in options.items() if k not in ("config", "device_map", "dtype")}
        hub["revision"] = hub.get("revision") or "main"
        stored = AutoConfig.from_pretrained(str(pretrained_model_name_or_path), trust_remote_code=False, **hub)
        if not isinstance(stored, PatchTSTPretrainingConfig):
            return super().from_pretrained(pretrained_model_name_or_path, **options)
        given = options.pop("config", None)
        pretraining = PatchTSTPretraining.from_pretrained(pretrained_model_name_or_path, **options)
        changes = {} if given is None else {name: getattr(given, name) for name in PatchTSTConfig.own_fields()}
        return cls.from_pretraining(pretraining, **changes)

    @classmethod
    def from_pretraining(cls, pretraining: "PatchTSTPretraining", **changes: Any) -> Self:
        """Puts a fresh forecasting head on a pre-trained encoder.

        Args:
            pretraining: The pre-trained model; it is left as it is.
            **changes: Configuration fields that differ, such as `prediction_length` or `linear_probe`.

        Raises:
            ValueError: If a change alters the encoder, so that its weights do not fit.
        """
        fields = {name: getattr(pretraining.config, name) for name in PatchTSTConfig.own_fields()}
        model = cls(PatchTSTConfig(**(fields | changes)))
        kept = {k: v for k, v in pretraining.state_dict().items() if k.startswith(("backbone.", "norm."))}
        fresh = {k: v for k, v in model.state_dict().items() if k.startswith(("head.", "texts."))}
        model.load_trained_state(kept | fresh, origin="the pre-training")
        return model.eval()


class PatchTSTPretraining(_PatchModel):
    """Reconstructs hidden patches from the visible ones (Nie 2023, section 3.2)."""

    config_class = PatchTSTPretrainingConfig
    config: PatchTSTPretrainingConfig

    def __init__(self, config: PatchTSTPretrainingConfig) -> None:
        super().__init__(config)
        self.norm = self._build_norm()
        self.backbone = PatchEncoder(config)
        self.head_dropout = Dropout(config.head_dropout)
        self.reconstruction = nn.Linear(config.d_model, config.patch_length)
        self.post_init()

    def forward(  # type: ignore[override]
        self,
        past_values: Tensor,
        past_observed_mask: Tensor | None = None,
        noise: Tensor | None = None,
        future_values: Tensor | None = None,
    ) -> ForecastOutput:
        """Hides patches and reconstructs them.

        Args:
            past_values: [B, L, C].
            past_observed_mask: [B, L, C] bool, True = observed; missing entries are not counted in the loss.
            noise: [B, C, P] uniform draws; the patches with the smallest stay visible. None = drawn here.
            future_values: Not read; the batches of a forecaster hold it.

        Returns:
            `loss` in normalised units, and in `extras` the normalised `patches`, their `reconstruction` and which
            entries were `counted`, all [B, C, P, patch_length], and which patches were `hidden` [B, C, P].

        Raises:
            ValueError: If a shape does not fit the configuration.
        """
        config = self.config
        expected = [past_values.shape[0], config.context_length, config.num_channels]
        if list(past_values.shape) != expected:
            raise ValueError(f"past_values has shape {list(past_values.shape)}, expected {expected}")
        values, mask = fill_missing(past_values, past_observed_mask)
        patches = self._cut(self._normalise(values, mask)[0])  # [B, C, P, patch_length]
        if noise is None:
            noise = torch.rand(patches.shape[:3], device=patches.device)
        visible, hidden = mask_patches(patches, noise, config.mask_ratio)
        reconstruction = self.reconstruct(visible)
        counted = hidden.unsqueeze(-1).expand_as(patches)
        if mask is not None:
            counted = counted & self._cut(mask.to(patches.dtype)).bool()
        loss = compute_reconstruction_loss(reconstruction, patches.detach(), counted)
        extras = {"patches": patches, "reconstruction": reconstruction, "hidden": hidden, "counted": counted}
        return ForecastOutput(loss=loss, extras=extras)

    def reconstruct(self, patches: Tensor) -> Tensor:
        """Maps patches [B, C, P, patch_length], hidden ones zero, to patches of the same shape."""
        tokens, _ = self.backbone(patches)  # [B * C, P, D]
        return self.reconstruction(self.head_dropout(tokens)).unflatten(0, patches.shape[:2])


def mask_patches(patches: Tensor, noise: Tensor, mask_ratio: float) -> tuple[Tensor, Tensor]:
    """Sets the patches with the largest noise to zero.

    Args:
        patches: [B, C, P, patch_length].
        noise: [B, C, P].
        mask_ratio: int(P (1 - mask_ratio)) patches of each sample and channel stay.

    Returns:
        Patches [B, C, P, patch_length], hidden ones exactly 0, and `hidden` [B, C, P] bool.

    Raises:
        ValueError: If `noise` does not hold one number a patch.
    """
    if noise.shape != patches.shape[:3]:
        raise ValueError(f"noise has shape {list(noise.shape)}, expected {list(patches.shape[:3])}")
    num_visible = int(patches.shape[2] * (1 - mask_ratio))
    order = noise.argsort(dim=2, stable=True)
    hidden = torch.ones_like(noise, dtype=torch.bool).scatter(2, order[..., :num_visible], False)
    return patches.masked_fill(hidden.unsqueeze(-1), 0.0), hidden


def compute_reconstruction_loss(reconstruction: Tensor, patches: Tensor, counted: Tensor) -> Tensor:
    """Mean squared error over the counted entries, those of hidden patches.

    Args:
        reconstruction: [B, C, P, patch_length].
        patches: [B, C, P, patch_length].
        counted: [B, C, P, patch_length] bool.

    Returns:
        Scalar; 0 (still attached to the graph) if nothing counts.
    """
    error = (reconstruction.float() - patches.float()).square()
    return torch.where(counted, error, 0.0).sum() / counted.sum().clamp_min(1)
