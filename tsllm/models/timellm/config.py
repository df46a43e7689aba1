"""Time-LLM's configuration."""

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from tsllm.backbones.quantization import QUANTIZATIONS
from tsllm.models.config import (
    BACKBONE_WEIGHTS,
    TEXT_OPTIONS,
    ForecastConfig,
    TextSource,
    check_reader_options,
    require_positive,
)
from tsllm.nn.patching import compute_num_patches
from tsllm.nn.reprogramming import PROTOTYPES

BACKBONE_MODES = ("frozen", "lora", "norms")
BACKBONE_DTYPES = ("float32", "bfloat16", "float16")
PATCH_READERS = ("llm", "none", "attention", "block")
HORIZON = "horizon"
READERS = (*PATCH_READERS, HORIZON, *(f"{HORIZON}-{name}" for name in PATCH_READERS[1:]))
PROMPT_STATISTICS = ("window", "series", "none")
PATCH_ENCODER_OPTIONS = {"num_layers": 1, "num_heads": 4, "d_ff": 64, "attention": "full", "gate": None, "conv": None}
HORIZON_OPTIONS = TEXT_OPTIONS | {"d_ff": 128, "num_layers": 1}
LORA_OPTIONS = {
    "r": 8,
    "lora_alpha": 16,
    "lora_dropout": 0.0,
    "target_modules": None,
    "use_rslora": False,
    "use_dora": False,
}


class TimeLLMConfig(ForecastConfig):
    """Which language model is reprogrammed and how.

    >>> import tsllm
    >>> tsllm.TimeLLMConfig(context_length=96, prediction_length=24, patch_length=16, head="quantile").patch_length
    16

    Attributes:
        backbone: A packaged name (`smollm2-135m`), a local folder or a Hub id of a decoder, or of a PEFT adapter,
            whose updates are then merged into its base model.
        backbone_revision: Commit (or branch, tag) on the Hub; resolved to a commit once loaded, and saved so.
        backbone_fingerprint: Filled in when first loaded; another model under the same name is an error afterwards.
        backbone_hidden_size: Filled in when first loaded, checked afterwards.
        backbone_weights: `pretrained`; for ablations `random` (an untrained model of the same architecture) or
            `spectrum` (random weights with the singular values of the pretrained ones).
        backbone_seed: Seed of random weights.
        reader: What reads the reprogrammed patches: `llm`, and the published head maps them to the horizon; for
            ablations `none`, one fresh trained `attention` layer or one fresh trained transformer `block` (Tan 2024),
            all of which read no prompt. `horizon`: `llm`, then horizon queries that also read covariates
            (`tsllm.models.timellm.horizon`); `horizon-none`, `horizon-attention`, `horizon-block` are its ablations.
            With `text_layers` they read texts as well, through the same backbone.
        horizon_reader: Options of the horizon queries: d_model, num_heads, num_layers, d_ff, dropout.
        backbone_dtype: dtype of the backbone; the trained parts stay float32.
        backbone_quantization: `4bit` packs the backbone's matrices into four bits (extra `quantization`), for memory
            on a GPU; the model then cannot be merged. None = whole weights.
        num_backbone_layers: Keep the first k layers; 0 = all.
        backbone_mode: `frozen`; `lora` trains low-rank updates; `norms` trains layer norms and position embeddings
            (Zhou 2023, GPT4TS).
        lora: Options of `lora`: r, lora_alpha, lora_dropout; target_modules (names, a regular expression or
            `all-linear`); use_rslora (Kalajdzievski 2023: alpha / sqrt(r)), use_dora (Liu 2024: length and direction
            of each column apart).
        gradient_checkpointing: Recompute the backbone's layers in the backward pass: less memory, a third more time.
        patch_length: Steps in a patch.
        patch_stride: Steps between patches.
        d_model: Width of an embedded patch.
        patch_encoder: Options of an encoder over the patches in front of the reprogramming: num_layers, num_heads,
            d_ff, attention, gate, conv (`tsllm.nn.encoder.build_encoder`); empty = none, as published.
        num_heads: Heads of the reprogramming attention.
        d_ff: Width of one such head, and the number of the backbone's output features that the forecast head reads.
        num_prototypes: S.
        prototype_mode: How the prototypes are learned: `mapping`, `direct` or `gram` (`tsllm.nn.reprogramming`).
        dropout: Rate on patch embeddings.
        attention_dropout: Rate on the weights of the reprogramming attention; above 0, training cannot fuse it.
        prompt: Whether a text prompt precedes the patches.
        prompt_domain: What the data are, for the prompt; empty = left out.
        prompt_statistics: `window` describes each window, `series` each series once (`prompt_series`), or `none`.
        prompt_series: One text a channel for `series`; `TimeLLM.describe_series` writes it.
        num_lags: Autocorrelation lags named in the prompt, at most L / 2; 0 = none. The published prompt names five:
            lag 0 and two pairs k, L - k, which say the same. The default names three different ones.
        series_loc: One number a channel: original value = value * series_scale + series_loc. The prompt speaks in
            original units; without it, in the units of the model's input. A batch may carry its own instead.
        series_scale: One number a channel.
        prompt_cache_mb: Memory for keys and values of the prompts of windows seen before; 0 = only what all windows
            share is kept. Worth it where windows come back and few enough exist.
    """

    model_type = "tsllm_timellm"

    backbone: str = "openai-community/gpt2"
    backbone_revision: str = ""
    backbone_fingerprint: str = ""
    backbone_hidden_size: int = 0
    backbone_weights: str = "pretrained"
    backbone_seed: int = 0
    reader: str = "llm"
    horizon_reader: dict[str, Any] = field(default_factory=dict)
    backbone_dtype: str = "float32"
    backbone_quantization: str | None = None
    num_backbone_layers: int = 6
    backbone_mode: str = "frozen"
    lora: dict[str, Any] = field(default_factory=dict)
    gradient_checkpointing: bool = False
    patch_length: int = 16
    patch_stride: int = 8
    d_model: int = 32
    patch_encoder: dict[str, Any] = field(default_factory=dict)
    num_heads: int = 8
    d_ff: int = 32
    num_prototypes: int = 1000
    prototype_mode: str = "direct"
    dropout: float = 0.1
    attention_dropout: float = 0.0
    prompt: bool = True
    prompt_domain: str = ""
    prompt_statistics: str = "window"
    prompt_series: list[str] = field(default_factory=list)
    num_lags: int = 3
    series_loc: list[float] = field(default_factory=list)
    series_scale: list[float] = field(default_factory=list)
    prompt_cache_mb: int = 0

    @property
    def reads_horizon(self) -> bool:
        """Whether horizon queries read patches and covariates beside the published head."""
        return split_reader(self.reader)[1]

    @property
    def patch_reader(self) -> str:
        """What reads the reprogrammed patches: `llm`, `none`, `attention` or `block`."""
        return split_reader(self.reader)[0]

    @property
    def num_patches(self) -> int:
        """P, patches of a window with its end padding."""
        return compute_num_patches(self.context_length, self.patch_length, self.patch_stride, self.patch_stride)

    def check(self) -> None:
        """Checks the values; see the base class."""
        super().check()
        for name in ("patch_length", "patch_stride", "d_model", "num_heads", "d_ff", "num_prototypes"):
            require_positive(self, name)
        for name, allowed in (
            ("backbone_mode", BACKBONE_MODES),
            ("backbone_weights", BACKBONE_WEIGHTS),
            ("backbone_dtype", BACKBONE_DTYPES),
            ("reader", READERS),
            ("prompt_statistics", PROMPT_STATISTICS),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        PROTOTYPES.get(self.prototype_mode)
        for name in ("num_backbone_layers", "num_lags", "prompt_cache_mb", "backbone_hidden_size"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 0:
                raise ValueError(f"{name} must be an integer >= 0, got {getattr(self, name)!r}")
        for name in ("dropout", "attention_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must lie in [0, 1), got {getattr(self, name)}")
        if not self.backbone:
            raise ValueError("backbone is empty; name a packaged model (smollm2-135m), a local folder or a Hub id")
        if self.patch_reader != "llm" and (self.prompt or self.backbone_mode != "frozen"):
            raise ValueError(
                f"reader {self.reader!r} reads no prompt and trains no backbone; "
                "set prompt: false and backbone_mode: frozen"
            )
        self._check_quantization()
        self._check_patches()
        self._check_horizon()
        unknown = sorted(set(self.patch_encoder) - set(PATCH_ENCODER_OPTIONS))
        if unknown:
            raise ValueError(f"patch_encoder does not know {unknown}; known: {', '.join(PATCH_ENCODER_OPTIONS)}")
        check_lora(self.backbone_mode, self.lora)
        self._check_series()

    def _check_quantization(self) -> None:
        if self.backbone_quantization is None:
            return
        if self.backbone_quantization not in QUANTIZATIONS:
            raise ValueError(
                f"backbone_quantization must be null or {', '.join(QUANTIZATIONS)}, got {self.backbone_quantization!r}"
            )
        if self.backbone_weights != "pretrained":
            raise ValueError(
                f"backbone_quantization packs pretrained weights, but backbone_weights is {self.backbone_weights!r}; "
                "set backbone_quantization: null"
            )

    def _check_patches(self) -> None:
        if self.patch_length > self.context_length:
            raise ValueError(
                f"patch_length ({self.patch_length}) exceeds context_length ({self.context_length}); "
                "lower patch_length or raise context_length"
            )

    def _check_horizon(self) -> None:
        if not self.reads_horizon:
            if self.num_covariates:
                raise ValueError(
                    f"reader {self.reader!r} reads no covariates, but num_covariates is {self.num_covariates}; set "
                    "reader: horizon, or leave the covariates out"
                )
            for name in ("horizon_reader", "text_layers"):
                if getattr(self, name):
                    raise ValueError(f"{name} is given but reader is {self.reader!r}; set reader: horizon")
        check_reader_options("horizon_reader", self.horizon_reader, HORIZON_OPTIONS)

    def check_texts(self) -> None:
        """Refuses a second language model: the horizon queries read texts through the one that is reprogrammed."""
        for name, own in (
            ("text_backbone", "backbone"),
            ("text_revision", "backbone_revision"),
            ("text_weights", "backbone_weights"),
            ("text_hidden_size", "backbone_hidden_size"),
            ("text_reader", "horizon_reader"),
        ):
            if getattr(self, name) != getattr(ForecastConfig, name, {}):
                raise ValueError(f"{name} is given, but Time-LLM reads texts through its own backbone; set {own}")

    @property
    def text_source(self) -> TextSource:
        """The reprogrammed language model, which reads the texts too."""
        own = (self.backbone, self.backbone_revision, self.backbone_weights)
        return TextSource(*own, self.backbone_seed, self.backbone_hidden_size)

    def note_text_source(self, fingerprint: str, commit: str) -> None:
        """Remembers which layers read; the commit stands in `backbone_revision` since the backbone was loaded."""
        self.text_fingerprint = fingerprint

    def _check_series(self) -> None:
        for name in ("series_loc", "series_scale", "prompt_series"):
            given = getattr(self, name)
            if given and len(given) != self.num_channels:
                raise ValueError(f"{name} has {len(given)} entries, expected one a channel ({self.num_channels})")
        if bool(self.series_loc) != bool(self.series_scale):
            raise ValueError("series_loc and series_scale belong together; give both or none")
        if any(scale <= 0 for scale in self.series_scale):
            raise ValueError(f"series_scale must be positive, got {self.series_scale}")
        if self.prompt_series and self.prompt_statistics != "series":
            raise ValueError(
                f"prompt_series is given but prompt_statistics is {self.prompt_statistics!r}; set it to 'series'"
            )


def split_reader(reader: str) -> tuple[str, bool]:
    """Returns what reads the patches (`llm`, `none` ...), and whether horizon queries read on from there."""
    first, _, rest = reader.partition("-")
    return (rest or "llm", True) if first == HORIZON else (reader, False)


def check_lora(backbone_mode: str, lora: Mapping[str, Any]) -> None:
    """Checks options of low-rank updates.

    Args:
        backbone_mode: What of the backbone is trained.
        lora: Fields of `LORA_OPTIONS` that differ from them.

    Raises:
        ValueError: If they have no effect or are unknown.
    """
    if lora and backbone_mode != "lora":
        raise ValueError(f"lora options are given but backbone_mode is {backbone_mode!r}; set backbone_mode: lora")
    unknown = sorted(set(lora) - set(LORA_OPTIONS))
    if unknown:
        raise ValueError(f"lora does not know {unknown}; known: {', '.join(LORA_OPTIONS)}")
