"""PatchCast: one model for series of any length, frequency and scale, made to be pre-trained on many of them.

Patches of the context and empty patches of the horizon are the tokens of one sequence, as in Chronos-2 and Moirai
(Ansari 2025, Woo 2024); what is forecast at a horizon patch is the change against the seasonal naive, in units of the
window's own seasonal change. So the season is an input, and a series that repeats itself costs the network nothing.
"""

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tsllm.backbones.fingerprint import compute_fingerprint
from tsllm.models.base import ForecastModel
from tsllm.models.config import ForecastConfig, require_divides, require_positive
from tsllm.models.inputs import Inputs, RawForecast
from tsllm.models.timellm.adaptation import adapt, find_adapted, save_lora
from tsllm.models.timellm.backbone import Backbone, load_backbone
from tsllm.models.timellm.config import BACKBONE_MODES, BACKBONE_WEIGHTS, check_lora
from tsllm.nn.encoder import FeedForward, TokenLayerNorm, build_encoder
from tsllm.nn.reprogramming import PROTOTYPES, Reprogramming
from tsllm.nn.seasonal import SeasonalView, view_seasons

if TYPE_CHECKING:
    from tsllm.data.prepared import PreparedData

NUM_LAGS = 3
STEP_FEATURES = 5 + 2 * NUM_LAGS  # value, observed, change over a season, the lags and which are known, the phase
WINDOW_FEATURES = 9


class PatchCastConfig(ForecastConfig):
    """PatchCast's configuration.

    Attributes:
        patch_length: Steps in a patch.
        season: Steps in a season where the batch names none; 1 = none.
        d_model: Width of the tokens.
        num_layers: Encoder layers of one's own, each reading all tokens.
        num_heads: Heads of attention, also of the reprogramming.
        d_ff: Inner width of the feed-forward parts.
        dropout: Dropout rate of the encoder.
        backbone: A language model that reads the tokens behind the encoder (packaged name, folder or Hub id); empty =
            none. Its answer is added to the tokens.
        backbone_revision: Commit on the Hub.
        backbone_fingerprint: Filled in when first loaded; another model under the same name is an error afterwards.
        backbone_weights: `pretrained`, or for controls `random` and `spectrum` (see `TimeLLMConfig`).
        backbone_seed: Seed of random weights.
        backbone_mode: What of it is trained: `frozen`, `lora` or `norms` (see `TimeLLMConfig`).
        lora: Options of `lora`, see `TimeLLMConfig.lora`.
        num_backbone_layers: Keep the first k layers; 0 = all.
        num_prototypes: Word prototypes that tokens are reprogrammed to.
        head_width: Width of a head of the reprogramming.
    """

    model_type = "tsllm_patchcast"
    no_texts = "PatchCast forecasts any horizon, and a branch that reads texts has a place for each step of one"

    context_length: int = 512
    prediction_length: int = 32
    patch_length: int = 8
    season: int = 1
    d_model: int = 128
    num_layers: int = 4
    num_heads: int = 4
    d_ff: int = 256
    dropout: float = 0.0
    backbone: str = ""
    backbone_revision: str = ""
    backbone_fingerprint: str = ""
    backbone_weights: str = "pretrained"
    backbone_seed: int = 0
    backbone_mode: str = "frozen"
    lora: dict[str, Any] = field(default_factory=dict)
    num_backbone_layers: int = 2
    num_prototypes: int = 256
    head_width: int = 32

    def check(self) -> None:
        """Checks the values; see the base class."""
        super().check()
        for name in ("patch_length", "season", "d_model", "num_heads", "d_ff", "num_prototypes", "head_width"):
            require_positive(self, name)
        require_divides(self, "num_heads", "d_model")
        for name in ("num_layers", "num_backbone_layers"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 0:
                raise ValueError(f"{name} must be an integer >= 0, got {getattr(self, name)!r}")
        if self.patch_length > self.context_length:
            raise ValueError(
                f"patch_length ({self.patch_length}) exceeds context_length ({self.context_length}); "
                "lower patch_length or raise context_length"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {self.dropout}")
        if self.backbone_weights not in BACKBONE_WEIGHTS:
            raise ValueError(
                f"backbone_weights must be one of {', '.join(BACKBONE_WEIGHTS)}, got {self.backbone_weights!r}"
            )
        if self.backbone_mode not in BACKBONE_MODES:
            raise ValueError(f"backbone_mode must be one of {', '.join(BACKBONE_MODES)}, got {self.backbone_mode!r}")
        check_lora(self.backbone_mode, self.lora)
        if self.backbone_mode != "frozen" and not self.backbone:
            raise ValueError(
                f"backbone_mode is {self.backbone_mode!r}, but there is no language model inside; name one as "
                "backbone, or leave backbone_mode out"
            )

    @property
    def num_context_patches(self) -> int:
        """Patches of the longest context."""
        return -(-self.context_length // self.patch_length)

    @property
    def num_horizon_patches(self) -> int:
        """Patches of the horizon."""
        return -(-self.prediction_length // self.patch_length)


class PatchCast(ForecastModel):
    """Forecasts each channel from its own patches, in the light of its season.

    Steps before the first observed one are cut off, so that short series cost little in a long context.

    Args:
        config: The configuration.
        backbone: A loaded backbone instead of `config.backbone`.
    """

    config_class = PatchCastConfig
    config: PatchCastConfig
    uses_season = True
    can_be_laid_out = False  # it may read a backbone
    head_parts = ("norm", "head_inner", "head")

    def __init__(self, config: PatchCastConfig, backbone: Backbone | None = None) -> None:
        super().__init__(config)
        width = config.d_model
        self.embedding = nn.Linear(config.patch_length * STEP_FEATURES, width)
        self.embedding_inner = FeedForward(width, config.d_ff)
        self.window_embedding = nn.Linear(WINDOW_FEATURES, width)
        positions = config.num_context_patches + config.num_horizon_patches
        self.positions = nn.Parameter(torch.empty(positions, width).normal_(0, 0.02))
        self.encoder = build_encoder(
            config.num_layers,
            width,
            config.num_heads,
            config.d_ff,
            dropout=config.dropout,
            norm_position="pre",
        )
        self.reader = LanguageReader(config, backbone) if config.backbone else None
        self.norm = TokenLayerNorm(width)
        self.head_inner = FeedForward(width, config.d_ff)
        self.head = nn.Linear(width, config.patch_length * self.output_head.num_parameters)
        self.post_init()
        if self.reader is not None:
            # Last, so that a model with fresh LoRA equals the frozen one drawn from the same seed.
            self._adapt(self.reader)

    @classmethod
    def config_for(cls, data: "PreparedData") -> dict[str, Any]:
        """Returns the sizes that the data decide, and their season."""
        return super().config_for(data) | {"season": data.task.season}

    def adopt(self, data: "PreparedData") -> None:
        """Takes over the season of other data; their lengths must be its own (`resize`)."""
        self.config.season = data.task.season
        super().adopt(data)

    def resize(self, context_length: int, prediction_length: int) -> None:
        """Changes the lengths in place: all weights but the positions fit any; see `stretch_positions`."""
        config = self.config
        border = config.num_context_patches
        past, ahead = self.positions[:border].detach(), self.positions[border:].detach()
        config.context_length, config.prediction_length = context_length, prediction_length
        config.check()
        parts = [
            stretch_positions(past.flip(0), config.num_context_patches).flip(0),
            stretch_positions(ahead, config.num_horizon_patches),
        ]
        self.positions = nn.Parameter(torch.cat(parts))

    def init_weights(self) -> None:
        """Does nothing: the constructors drew all values."""

    def forecast(self, inputs: Inputs) -> RawForecast:
        """Returns head parameters whose location is the seasonal naive."""
        config = self.config
        batch, _, channels = inputs.past_values.shape
        values = inputs.past_values.transpose(1, 2).flatten(0, 1)  # [N, L] with N = B * C
        observed = inputs.past_observed_mask
        mask = torch.ones_like(values, dtype=torch.bool)
        if observed is not None:
            mask = observed.transpose(1, 2).flatten(0, 1)  # [N, L]
        season = inputs.season
        if season is None:
            season = torch.full((batch,), config.season, device=values.device)
        season = season.long().repeat_interleave(channels)  # [N]
        values, mask = self._cut(values, mask)
        view = view_seasons(values, mask, season, config.prediction_length, NUM_LAGS)
        tokens, real = self._embed(values, mask, season, view)  # [N, P, D], [N, P]
        tokens, _ = self.encoder(tokens, real)
        if self.reader is not None:
            tokens = tokens + self.reader(tokens, real)
        tokens = self.norm(tokens[:, -config.num_horizon_patches :])  # [N, P horizon, D]
        steps = self.head(tokens + self.head_inner(tokens)).unflatten(-1, (config.patch_length, -1)).flatten(1, 2)
        parameters = steps[:, : config.prediction_length].unflatten(0, (batch, channels))  # [B, C, H, K]
        loc = view.naive.unflatten(0, (batch, channels)).transpose(1, 2)  # [B, H, C]
        return RawForecast(parameters.transpose(1, 2), loc, view.scale.view(batch, 1, channels))

    def _cut(self, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Cuts off whole patches that no row observed, and pads [N, L] on the left to whole patches."""
        length, size = values.shape[1], self.config.patch_length
        seen = mask.any(0)
        first = int(seen.int().argmax()) if bool(seen.any()) else length - 1
        kept = -(-(length - first) // size) * size
        missing = kept - length
        if missing > 0:
            return nn.functional.pad(values, (missing, 0)), nn.functional.pad(mask, (missing, 0))
        return values[:, -kept:], mask[:, -kept:]

    def _embed(self, values: Tensor, mask: Tensor, season: Tensor, view: SeasonalView) -> tuple[Tensor, Tensor]:
        """Embeds context and horizon: tokens [N, P, D] and which of them are real [N, P]."""
        config = self.config
        horizon = config.num_horizon_patches * config.patch_length
        steps = compute_step_features(values, mask, season, view)  # [N, L + H, F]
        steps = nn.functional.pad(steps, (0, 0, 0, horizon - config.prediction_length))
        patches = steps.unflatten(1, (-1, config.patch_length)).flatten(2)  # [N, P, patch_length * F]
        tokens = self.embedding(patches)
        window = self.window_embedding(compute_window_features(values, mask, season, view))  # [N, D]
        tokens = tokens + self.positions[-tokens.shape[1] :] + window.unsqueeze(1)
        tokens = tokens + self.embedding_inner(tokens)
        real = mask.unflatten(1, (-1, config.patch_length)).any(2)  # [N, P context]
        return tokens, nn.functional.pad(real, (0, config.num_horizon_patches), value=True)

    def change(self, values: Mapping[str, Any]) -> None:
        """Puts LoRA or trained norms on top of the frozen language model inside; nothing else can be changed.

        Args:
            values: `backbone_mode` and `lora`; forecasts stay as they are until the first step of training.

        Raises:
            ValueError: Naming the fields that are fixed, or why the language model cannot be adapted.
        """
        config, asked = self.config, dict(values)
        mode, lora = asked.pop("backbone_mode", config.backbone_mode), asked.pop("lora", None)
        super().change(asked)
        if mode == config.backbone_mode:
            if lora is not None:
                check_lora(mode, lora)
                super().change({"lora": lora})
            return
        if config.backbone_mode != "frozen":
            raise ValueError(
                f"backbone_mode is {config.backbone_mode!r} and cannot become {mode!r}; start from an artefact that "
                "was trained with backbone_mode: frozen"
            )
        config.backbone_mode, config.lora = mode, dict(lora or {})
        try:
            config.check()
            assert self.reader is not None
            self._adapt(self.reader)
        except ValueError:
            config.backbone_mode, config.lora = "frozen", {}
            raise

    def _adapt(self, reader: "LanguageReader") -> None:
        """Makes trainable what the configuration says of the backbone; what stays frozen is not saved."""
        adapt(reader.backbone.llm, self.config.backbone_mode, self.config.lora)
        kept = self.trained_state()
        self._keys_to_ignore_on_save = {name for name in self.state_dict() if name not in kept}

    def trained_state(self) -> dict[str, Tensor]:
        """Returns all tensors but the backbone's frozen ones."""
        state, inner = self.state_dict(), "reader.backbone."
        if self.reader is None:
            return state
        adapted = find_adapted(self.reader.backbone.llm, self.config.backbone_mode)
        return {k: v for k, v in state.items() if not k.startswith(inner) or k.removeprefix(f"{inner}llm.") in adapted}

    def save_pretrained(self, save_directory: str | Path, state_dict: dict | None = None, **kwargs: Any) -> None:  # type: ignore[override]
        """Writes `config.json` and the trained tensors, LoRA also in PEFT's own format under `lora/`."""
        super().save_pretrained(save_directory, state_dict=state_dict, **kwargs)
        if self.config.backbone_mode == "lora" and self.reader is not None:
            inner = "reader.backbone.llm."
            state = {k.removeprefix(inner): v for k, v in (state_dict or {}).items() if k.startswith(inner)}
            save_lora(self.reader.backbone.llm, Path(save_directory) / "lora", self.config, state or None)


class LanguageReader(nn.Module):
    """A frozen language model that reads reprogrammed tokens (Jin 2024), mapped back to their width.

    Args:
        config: The configuration.
        backbone: A loaded backbone instead of the one named there.
    """

    def __init__(self, config: PatchCastConfig, backbone: Backbone | None = None) -> None:
        super().__init__()
        self.backbone = backbone or load_backbone(
            config.backbone,
            revision=config.backbone_revision,
            num_layers=config.num_backbone_layers,
            weights=config.backbone_weights,
            seed=config.backbone_seed,
            with_tokenizer=False,
        )
        fingerprint = compute_fingerprint(self.backbone.llm)
        if config.backbone_fingerprint not in ("", fingerprint):
            raise ValueError(
                f"backbone {config.backbone!r} has fingerprint {fingerprint}, but the artefact was trained with "
                f"{config.backbone_fingerprint}: the weights are others; load the ones that it was trained with"
            )
        config.backbone_fingerprint = fingerprint
        config.backbone_revision = self.backbone.commit or config.backbone_revision
        width = self.backbone.hidden_size
        self.prototypes = PROTOTYPES.get("direct")(self.backbone.words, config.num_prototypes)
        self.norm = TokenLayerNorm(config.d_model)
        self.reprogramming = Reprogramming(config.d_model, config.num_heads, config.head_width, width)
        self.out_norm = TokenLayerNorm(width)
        self.out = nn.Linear(width, config.d_model)

    def forward(self, tokens: Tensor, real: Tensor) -> Tensor:
        """Reads tokens [N, P, D]; `real` [N, P] hides padding, which stands in front."""
        source = self.reprogramming.project(self.prototypes(self.backbone.words))
        read = self.reprogramming(self.norm(tokens), *source)  # [N, P, d]
        positions = (real.long().cumsum(1) - 1).clamp_min(0)
        hidden = self.backbone.llm(
            inputs_embeds=read, attention_mask=real.long(), position_ids=positions, use_cache=False
        ).last_hidden_state
        return self.out(self.out_norm(hidden.to(tokens.dtype)))  # [N, P, D]


def stretch_positions(positions: Tensor, count: int) -> Tensor:
    """Returns so many positions [count, D], counted from the cutoff: the first ones, the last repeated where they end.

    >>> stretch_positions(torch.tensor([[1.0], [2.0]]), 3).flatten().tolist()
    [1.0, 2.0, 2.0]
    """
    kept = positions[:count]
    return torch.cat([kept, kept[-1:].expand(count - len(kept), -1)])


def compute_step_features(values: Tensor, mask: Tensor, season: Tensor, view: SeasonalView) -> Tensor:
    """Returns what is known of each step of context and horizon: [N, L + H, STEP_FEATURES].

    Values are distances to the window's level in units of its seasonal change, through asinh, which is a line near 0
    and a logarithm far from it.
    """
    length, horizon = values.shape[1], view.naive.shape[1]

    def squash(x: Tensor) -> Tensor:
        return torch.asinh(x / (2 * view.scale))

    known = nn.functional.pad(mask, (0, horizon), value=False)  # [N, L + H]
    level = torch.where(mask, squash(values - view.loc), 0.0)
    level = nn.functional.pad(level, (0, horizon))
    lags = torch.where(
        view.lags_observed, torch.asinh((view.lags - view.loc[..., None]) / (2 * view.scale[..., None])), 0
    )
    newest = torch.cat([values, view.lags[:, length:, 0]], 1)
    older = torch.cat([view.lags[:, :length, 0], view.lags[:, length:, 1]], 1)
    both = torch.cat(
        [mask & view.lags_observed[:, :length, 0], view.lags_observed[:, length:, :2].all(-1)],
        1,
    )
    change = torch.where(both, squash(newest - older), 0.0)
    steps = torch.arange(length + horizon, device=values.device) - length
    angle = 2 * torch.pi * steps / season[:, None]  # [N, L + H]
    seasonal = (season > 1)[:, None]
    phase = torch.stack([angle.sin() * seasonal, angle.cos() * seasonal], -1)
    parts = [level, known.to(values.dtype), change]
    return torch.cat([torch.stack(parts, -1), lags, view.lags_observed.to(values.dtype), phase], -1)


def compute_window_features(values: Tensor, mask: Tensor, season: Tensor, view: SeasonalView) -> Tensor:
    """Returns what is known of each window as a whole: [N, WINDOW_FEATURES], all of order 1."""
    count = mask.sum(1, keepdim=True).clamp_min(1)
    scale, loc = view.scale, view.loc

    def average(x: Tensor, where: Tensor) -> Tensor:
        return torch.where(where, x, 0.0).sum(1, keepdim=True) / where.sum(1, keepdim=True).clamp_min(1)

    mean = average(values, mask)
    deviation = average((values - mean).abs(), mask)
    neighbours = torch.cat([torch.zeros_like(mask[:, :1]), mask[:, 1:] & mask[:, :-1]], 1)
    steps = average((values - values.roll(1, 1)).abs(), neighbours)
    low = torch.where(mask, values, torch.inf).amin(1, keepdim=True)
    high = torch.where(mask, values, -torch.inf).amax(1, keepdim=True)
    anything = mask.any(1, keepdim=True)
    low, high = torch.where(anything, low, loc), torch.where(anything, high, loc)
    features = [
        season[:, None].to(values.dtype).log() / 3,
        count.to(values.dtype).log() / 5,
        (steps / scale + 1e-3).log() / 3,
        (deviation / scale + 1e-3).log() / 3,
        torch.asinh((low - loc) / scale) / 3,
        torch.asinh((high - loc) / scale) / 3,
        torch.asinh(loc / scale) / 5,
        average((values == 0).to(values.dtype), mask),
        (count / season[:, None]).to(values.dtype).log() / 3,
    ]
    return torch.cat(features, 1)
