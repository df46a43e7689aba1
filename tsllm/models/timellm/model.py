"""Time-LLM: patches of a series, reprogrammed into what a frozen language model reads (Jin 2024, ICLR)."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from huggingface_hub import snapshot_download
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers.utils import SAFE_WEIGHTS_NAME

from tsllm.backbones.fingerprint import compute_fingerprint, is_same_model
from tsllm.models.base import ForecastModel
from tsllm.models.inputs import Inputs, RawForecast
from tsllm.models.timellm import adaptation
from tsllm.models.timellm.backbone import Backbone, find_precision, load_backbone
from tsllm.models.timellm.config import HORIZON, PATCH_ENCODER_OPTIONS, TimeLLMConfig, split_reader
from tsllm.models.timellm.prompt import Prompt, PromptTokenizer, compute_statistics, format_tails, write_prefix
from tsllm.models.timellm.readers import build_reader
from tsllm.models.timellm.reference import tokenize_reference_prompts, write_reference_prompts
from tsllm.nn.encoder import Encoder, build_encoder
from tsllm.nn.normalization import InstanceNorm
from tsllm.nn.patching import PatchEmbedding
from tsllm.nn.reprogramming import PROTOTYPES, Reprogramming
from tsllm.progress import quiet_bars

if TYPE_CHECKING:
    from tsllm.data.prepared import PreparedData
    from tsllm.models.timellm.horizon import HorizonReader
    from tsllm.nn.text_reading import TextReader

_PUBLISHED_PATCH = 16  # steps, as in Jin 2024
MERGED = "backbone"  # folder of a merged backbone, beside the model on it


class TimeLLM(ForecastModel):
    """Forecasts each channel from its own window: normalise, cut into patches, reprogram, read, map to the horizon.

    The backbone is loaded by name; what is saved are the trained tensors alone.

    Args:
        config: The configuration. What loading finds out about the backbone is written into it.
        backbone: A loaded backbone instead of `config.backbone`.

    Example:
        `language_model` is a folder, a Hub id or `smollm2-135m`.

        >>> import torch, tsllm
        >>> sizes = {"context_length": 32, "prediction_length": 8, "num_prototypes": 8, "num_backbone_layers": 1}
        >>> config = tsllm.TimeLLMConfig(backbone=language_model, **sizes)
        >>> tsllm.TimeLLM(config)(past_values=torch.randn(2, 32, 1)).predictions.shape
        torch.Size([2, 8, 1])
    """

    config_class = TimeLLMConfig
    config: TimeLLMConfig
    uses_covariates = True
    default_training = {"max_steps": 500}  # a step costs a hundred times a linear model's
    can_be_laid_out = False  # it reads a backbone
    published_config = {"patch_length": _PUBLISHED_PATCH, "patch_stride": 8}
    head_parts = ("head",)

    def __init__(self, config: TimeLLMConfig, backbone: Backbone | None = None) -> None:
        super().__init__(config)
        self.backbone = build_backbone(config) if backbone is None else backbone
        pin_backbone(config, self.backbone)
        width = self.backbone.hidden_size
        self.norm = InstanceNorm()
        self.patch_embedding = PatchEmbedding(config.patch_length, config.patch_stride, config.d_model, config.dropout)
        self.patch_encoder = build_patch_encoder(config)
        self.prototypes = PROTOTYPES.get(config.prototype_mode)(self.backbone.words, config.num_prototypes)
        self.reprogramming = Reprogramming(
            config.d_model, config.num_heads, config.d_ff, width, config.attention_dropout
        )
        self.reader = build_reader(config.patch_reader, width, self.backbone.llm.config.num_attention_heads)
        self.head = nn.Linear(
            config.d_ff * config.num_patches, config.prediction_length * self.output_head.num_parameters
        )
        self.horizon = self._build_horizon(width)
        # Last, so that a model with fresh LoRA equals the frozen one drawn from the same seed.
        adaptation.adapt(self.backbone.llm, config.backbone_mode, config.lora)
        if config.gradient_checkpointing:
            self.backbone.checkpoint_layers()
        # One text a series serves all its windows, so these few are always kept.
        everything = config.prompt_statistics == "series"
        self.backbone.tails.capacity = float("inf") if everything else config.prompt_cache_mb * 1e6
        self._writer: PromptTokenizer | None = None
        self._source: tuple[Any, tuple[Tensor, Tensor]] | None = None
        self._merged = False
        self.post_init()
        self._ignore_frozen()

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        config: Any = None,
        revision: str | None = None,
        **options: Any,
    ) -> Self:
        """Loads a folder or a Hub repository; a backbone that was merged lies in it (`save_merged`).

        Args:
            pretrained_model_name_or_path: A folder or a Hub id.
            config: Used instead of the folder's `config.json`.
            revision: Branch, tag or commit of the Hub repository.
            **options: See `ForecastModel.from_pretrained`.
        """
        source = str(pretrained_model_name_or_path)
        if config is None or not isinstance(config, cls.config_class):
            hub = {k: v for k, v in options.items() if k not in ("device_map", "dtype")}
            config = cls.config_class.from_pretrained(source, revision=revision or "main", **hub)
        if config.backbone == MERGED:
            folder = Path(source)
            if not folder.is_dir():
                token = options.get("token")
                folder = Path(
                    snapshot_download(source, revision=revision, token=token, allow_patterns=[f"{MERGED}/*"])
                )
            config.backbone = str((folder / MERGED).resolve())
        return super().from_pretrained(source, config=config, revision=revision, **options)

    def _build_horizon(self, width: int) -> "HorizonReader | None":
        if not self.config.reads_horizon:
            return None
        from tsllm.models.timellm.horizon import HorizonReader  # the published head needs none

        return HorizonReader(self.config, width, self.output_head.num_parameters)

    def init_weights(self) -> None:
        """Does nothing: the constructors drew all values, and the library would draw parts of the backbone anew."""

    @classmethod
    def config_for(cls, data: "PreparedData") -> dict[str, Any]:
        """Adds what the prompt speaks of: the domain, and the original units of each channel."""
        values = super().config_for(data)
        if data.task.domain:
            values["prompt_domain"] = data.task.domain
        if data.channels:
            loc, scale = data.scaler.loc_scale(data.channels)
            values |= {"series_loc": loc.tolist(), "series_scale": scale.tolist()}
        return values

    @classmethod
    def reads_covariates(cls, given: Mapping[str, Any], named: bool = False) -> bool:
        """Tells whether there are horizon queries: the published head reads no covariates."""
        reader = given.get("reader")
        return named if reader is None else split_reader(str(reader))[1]

    @classmethod
    def default_fields(cls, given: Mapping[str, Any], named: bool = False) -> dict[str, Any]:
        """Returns horizon queries where covariates are named and nobody says which reader."""
        return {"reader": HORIZON} if named and given.get("reader") is None else {}

    @classmethod
    def default_config_for(cls, data: "PreparedData", given: Mapping[str, Any]) -> dict[str, Any]:
        """Returns horizon queries where there are covariates, and patches of whole seasons, side by side.

        A patch is a day for hourly data, a year for monthly ones: 15 tokens instead of 42 for two hourly weeks, and
        the head sees each step of the season at one place. Where somebody asks for either length, or three seasons do
        not fit into the context, the published 16 and 8 stay.
        """
        reader = cls.default_fields({}, named=bool(data.train.covariate_names))
        if {"patch_length", "patch_stride"} & set(given):
            return reader
        season, context = data.task.season, data.train.context_length
        if season == 1 or 3 * season > context:
            return reader
        length = season * max(1, min(_PUBLISHED_PATCH // season, context // (3 * season)))
        return reader | {"patch_length": length, "patch_stride": length}

    def describe_data(self, data: "PreparedData") -> None:
        """Writes the text of each series where `prompt_statistics` is `series`.

        Raises:
            ValueError: If the series are no channels, so that there is no text a channel.
        """
        if self.config.prompt_statistics != "series":
            return
        if not data.channels:
            raise ValueError("prompt_statistics 'series' needs layout 'multivariate'; use 'window' or 'none'")
        values = torch.from_numpy(data.train_values())
        self.describe_series(values.nan_to_num().float(), ~values.isnan())

    def adopt(self, data: "PreparedData") -> None:
        """Takes over domain, units and texts of other data; the prompts are written anew."""
        super().adopt(data)
        self.config.prompt_domain = data.task.domain
        self.forget()

    def forget(self) -> None:
        """Drops the texts that were written and what the backbone computed of them."""
        self._writer = None
        self.backbone.forget()

    def change(self, values: Mapping[str, Any]) -> None:
        """Puts LoRA or trained norms on top of a frozen backbone, or changes the memory of prompts or of training.

        Raises:
            ValueError: Naming the fields that are fixed.
        """
        values = dict(values)
        if "prompt_cache_mb" in values:
            self.config.prompt_cache_mb = values.pop("prompt_cache_mb")
            self.config.check()
        mode = values.pop("backbone_mode", self.config.backbone_mode)
        lora = values.pop("lora", None)
        if values.get("gradient_checkpointing") is True and not self.config.gradient_checkpointing:
            self.config.gradient_checkpointing = True
            self.backbone.checkpoint_layers()
        super().change(values)
        if mode != self.config.backbone_mode:
            self.unfreeze(mode, lora)
        elif lora is not None and mode == "frozen":
            raise ValueError(f"lora is {lora!r}, but the backbone stays frozen; give backbone_mode='lora' with it")
        elif lora is not None:
            super().change({"lora": lora})

    def input_keys(self) -> list[str]:
        """Adds the prompts, which may be tokenised beforehand."""
        return [*super().input_keys(), "prompt"]

    @property
    def text_reader(self) -> "TextReader | None":
        """What reads texts: a part of the horizon queries."""
        return None if self.horizon is None else self.horizon.texts

    def forecast(self, inputs: Inputs) -> RawForecast:
        """Returns head parameters; `extras` is empty, because what the backbone reads is large."""
        rows, loc, scale = self.norm(inputs.past_values, inputs.past_observed_mask)
        rows = rows.transpose(1, 2).flatten(0, 1)  # [B * C, L]
        prompt = inputs.prompt
        if prompt is None:
            prompt = self._write_reference(rows) if self.config.reference_quirks else self.write_prompt(inputs)
        queries = None
        if self.horizon is None:
            parameters = self.read(rows, prompt)  # [B * C, H, parameters]
        else:
            hidden = self.read_patches(rows, prompt)  # [B * C, P, d]
            parameters = self.map_patches(hidden)
            residual, queries = self.horizon(hidden, rows, parameters, inputs)
            parameters = parameters + residual
        parameters = parameters.unflatten(0, (-1, self.config.num_channels))  # [B, C, H, parameters]
        return RawForecast(parameters.transpose(1, 2), loc, scale, queries=queries)

    def answer_texts(self, raw: RawForecast, inputs: Inputs) -> Tensor:
        """Returns what the horizon queries, behind their reading of patches and covariates, add for texts."""
        assert self.text_reader is not None
        facts = raw.describe().transpose(1, 2).flatten(0, 1)  # [B * C, H, parameters + 2]
        residual: Tensor = self.text_reader(raw.queries, facts, *inputs.told)  # [B * C, H, parameters]
        return residual.unflatten(0, (-1, self.config.num_channels)).transpose(1, 2)

    def read(self, rows: Tensor, prompt: Prompt | None) -> Tensor:
        """Maps normalised series [N, L] behind their prompts to head parameters [N, H, K], as published."""
        return self.map_patches(self.read_patches(rows, prompt))

    def read_patches(self, rows: Tensor, prompt: Prompt | None) -> Tensor:
        """Returns the hidden states [N, P, d] of the patches of normalised series [N, L] behind their prompts."""
        patches = self.patch_embedding(rows)  # [N, P, D]
        if self.patch_encoder is not None:
            patches, _ = self.patch_encoder(patches)  # [N, P, D]
        tokens = self.reprogramming(patches, *self._project_prototypes())  # [N, P, d]
        hidden = self.backbone(tokens, prompt) if self.reader is None else self.reader(tokens)  # [N, P, d]
        return hidden.to(tokens.dtype)

    def map_patches(self, hidden: Tensor) -> Tensor:
        """Maps hidden states [N, P, d] to head parameters [N, H, K] by the published flatten head."""
        hidden = hidden[..., : self.config.d_ff]  # [N, P, d_ff]
        flat = hidden.transpose(1, 2).flatten(1)  # [N, d_ff * P]
        return self.head(flat).unflatten(-1, (self.config.prediction_length, -1))  # [N, H, K]

    def _project_prototypes(self) -> tuple[Tensor, Tensor]:
        """Returns the prototypes' keys and values; without gradients they are kept until a weight changes."""
        if self.training or torch.is_grad_enabled():
            return self.reprogramming.project(self.prototypes(self.backbone.words))
        weights = [*self.prototypes.parameters(), *self.reprogramming.parameters()]
        versions = tuple((w.data_ptr(), -1 if w.is_inference() else w._version) for w in weights)
        stamp = versions, find_precision(self.head.weight)
        if self._source is None or self._source[0] != stamp:
            self._source = stamp, self.reprogramming.project(self.prototypes(self.backbone.words))
        return self._source[1]

    def write_prompt(self, inputs: Inputs) -> Prompt | None:
        """Writes and tokenizes the prompts of a batch; None if the prompt is off.

        Raises:
            ValueError: If `prompt_statistics` is `series` and the texts were not written yet.
        """
        config = self.config
        if not config.prompt:
            return None
        writer = self._prompt_writer()
        batch = inputs.past_values.shape[0]
        if config.prompt_statistics == "none":
            return Prompt(writer.prefix)
        if config.prompt_statistics == "window":
            return writer.tokenize(self._describe(inputs))
        if not config.prompt_series:
            raise ValueError(
                "prompt_statistics is 'series', but prompt_series is empty; call describe_series(values) with the "
                "training part first, or set prompt_series"
            )
        return writer.tokenize(list(config.prompt_series) * batch)

    def prompt_prefix(self) -> tuple[int, ...]:
        """Returns the token ids that all prompts begin with."""
        return self._prompt_writer().prefix

    def _write_reference(self, rows: Tensor) -> Prompt:
        texts = write_reference_prompts(rows, self.config.prompt_domain, self.config.prediction_length)
        return tokenize_reference_prompts(self._tokenizer(), texts)

    def _tokenizer(self) -> Any:
        if self.backbone.tokenizer is None:
            raise ValueError("the backbone has no tokenizer to write a prompt with; load one or set prompt: false")
        from tsllm.backbones.control import refuse_control  # native models need none

        refuse_control(self.backbone.tokenizer, self.config.prompt_domain, "prompt_domain")
        return self.backbone.tokenizer

    def _prompt_writer(self) -> PromptTokenizer:
        if self._writer is None:
            config = self.config
            prefix = write_prefix(
                config.prompt_domain,
                config.context_length,
                config.prediction_length,
                config.prompt_statistics != "none",
            )
            self._writer = PromptTokenizer(self._tokenizer(), prefix)
        return self._writer

    def _describe(self, inputs: Inputs) -> list[str]:
        """Writes the statistics of all windows [B, L, C], row by row and channel by channel."""
        values = inputs.past_values.detach().double()
        if inputs.series_scale is not None and inputs.series_loc is not None:
            values = values * inputs.series_scale.double() + inputs.series_loc.double()
        elif self.config.series_scale:
            values = values * values.new_tensor(self.config.series_scale) + values.new_tensor(self.config.series_loc)
        rows = values.transpose(1, 2).flatten(0, 1)  # [B * C, L]
        mask = inputs.past_observed_mask
        mask = None if mask is None else mask.transpose(1, 2).flatten(0, 1)  # [B * C, L]
        return format_tails(compute_statistics(rows, mask, self.config.num_lags))

    def describe_series(self, values: Tensor, mask: Tensor | None = None) -> list[str]:
        """Writes `config.prompt_series`: what the prompt says of each series, for `prompt_statistics: series`.

        Args:
            values: [T, C], the training part in units of the model's input.
            mask: [T, C] bool, True = observed.

        Returns:
            One text a channel.
        """
        inputs = Inputs(values.unsqueeze(0), None if mask is None else mask.unsqueeze(0), None, None, None, None)
        self.config.prompt_series = self._describe(inputs)
        return self.config.prompt_series

    def unfreeze(self, mode: str, lora: dict[str, Any] | None = None) -> "TimeLLM":
        """Starts fine-tuning of a frozen backbone, in place; forecasts stay as they are until the first step.

        Args:
            mode: `lora` or `norms`, see `TimeLLMConfig.backbone_mode`.
            lora: Options of `lora`, see `TimeLLMConfig.lora`.

        Raises:
            ValueError: If the backbone is not frozen, or the options do not fit it.
        """
        config = self.config
        if config.backbone_mode != "frozen" or self._merged:
            raise ValueError(
                f"backbone_mode is {config.backbone_mode!r}, merged {self._merged}; only a frozen backbone can be "
                "unfrozen: start from an artefact that was trained with backbone_mode: frozen"
            )
        config.backbone_mode, config.lora = mode, dict(lora or {})
        try:
            config.check()
            adaptation.adapt(self.backbone.llm, mode, config.lora)
        except ValueError:
            config.backbone_mode, config.lora = "frozen", {}
            raise
        self.backbone.forget()
        self._ignore_frozen()
        return self

    def _ignore_frozen(self) -> None:
        kept = self.trained_state()
        self._keys_to_ignore_on_save = {name for name in self.state_dict() if name not in kept}

    def merge_lora(self) -> "TimeLLM":
        """Adds the low-rank updates to the backbone's weights, in place; forecasts stay equal to rounding.

        The merged model is for forecasting: it can no longer be saved as a small artefact.

        Raises:
            ValueError: If the backbone has no LoRA, or its weights are packed into four bits.
        """
        if self.config.backbone_mode != "lora" or self._merged:
            raise ValueError(
                f"nothing to merge: backbone_mode is {self.config.backbone_mode!r}, merged {self._merged}"
            )
        if self.config.backbone_quantization is not None:
            raise ValueError(
                "LoRA cannot be merged into 4-bit weights: packing them again would round what was learned; forecast "
                "with the adapter as it is, or train with backbone_quantization: null"
            )
        adaptation.merge_lora(self.backbone.llm)
        self.backbone.forget()
        self._merged = True
        return self

    def save_merged(self, folder: str | Path) -> None:
        """Writes a model that stands for itself: the backbone with its updates merged, whole, and this model on it.

        `folder/backbone` is a language model that `AutoModel` loads; `TimeLLM.from_pretrained(folder)` reads it from
        there. This model stays as it is.

        Raises:
            ValueError: If the backbone has no LoRA, or its weights are packed into four bits.
        """
        if self.config.backbone_mode != "lora" or self.config.backbone_quantization is not None:
            raise ValueError(
                f"nothing to merge: backbone_mode is {self.config.backbone_mode!r}, backbone_quantization "
                f"{self.config.backbone_quantization!r}; save_merged needs LoRA on whole weights"
            )
        target = Path(folder)
        llm = copy.deepcopy(self.backbone.llm)
        adaptation.merge_lora(llm)
        with quiet_bars():
            llm.save_pretrained(target / MERGED)
        if self.backbone.tokenizer is not None:
            self.backbone.tokenizer.save_pretrained(target / MERGED)
        config = copy.deepcopy(self.config)
        config.backbone, config.backbone_mode, config.lora, config.num_backbone_layers = MERGED, "frozen", {}, 0
        config.backbone_revision, config.backbone_fingerprint = "", compute_fingerprint(llm, self.backbone.tokenizer)
        config.save_pretrained(target)
        state = {k: v.detach().cpu().contiguous() for k, v in self.state_dict().items() if k[:9] != "backbone."}
        save_file(state, target / SAFE_WEIGHTS_NAME, metadata={"format": "pt"})

    @contextmanager
    def computing_alone(self, alone: bool = True) -> Iterator[None]:
        """Within, every text is read by itself, so that texts seen before or beside it change nothing."""
        before = self.backbone.alone
        self.backbone.alone = before or alone
        try:
            yield
        finally:
            self.backbone.alone = before

    def train(self, mode: bool = True) -> "TimeLLM":
        """Switches the trained parts; the frozen backbone always stays in eval mode."""
        self._source = None
        return super().train(mode)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Loads tensors and forgets what was computed from earlier ones."""
        self._source = None
        self.backbone.forget()
        return super().load_state_dict(*args, **kwargs)

    def _apply(self, fn: Any, recurse: bool = True) -> "TimeLLM":
        self._source = None
        return super()._apply(fn, recurse)

    def trained_state(self) -> dict[str, Tensor]:
        """Returns all tensors but the backbone's frozen ones."""
        trained = {f"backbone.{name}" for name, p in self.backbone.named_parameters() if p.requires_grad}
        # Fine-tuning of the head alone freezes what was adapted before; it stays a part of the model.
        adapted = adaptation.find_adapted(self.backbone.llm, "frozen" if self._merged else self.config.backbone_mode)
        trained |= {f"backbone.llm.{name}" for name in adapted}
        return {k: v for k, v in self.state_dict().items() if not k.startswith("backbone.") or k in trained}

    def save_pretrained(self, save_directory: str | Path, state_dict: dict | None = None, **kwargs: Any) -> None:  # type: ignore[override]
        """Writes `config.json` and the trained tensors, LoRA also in PEFT's own format under `lora/`.

        Raises:
            ValueError: If LoRA was merged into the backbone.
        """
        if self._merged:
            raise ValueError(
                "LoRA was merged into the backbone, so the artefact would lack it; save the model before merge_lora()"
            )
        super().save_pretrained(save_directory, state_dict=state_dict, **kwargs)
        if self.config.backbone_mode == "lora":
            inner = "backbone.llm."
            state = {k.removeprefix(inner): v for k, v in (state_dict or {}).items() if k.startswith(inner)}
            adaptation.save_lora(self.backbone.llm, Path(save_directory) / "lora", self.config, state or None)


def build_patch_encoder(config: TimeLLMConfig) -> Encoder | None:
    """Builds the encoder in front of the reprogramming; None if the configuration asks for none."""
    if not config.patch_encoder:
        return None
    options: dict[str, Any] = PATCH_ENCODER_OPTIONS | config.patch_encoder
    sizes = (options.pop("num_layers"), config.d_model, options.pop("num_heads"), options.pop("d_ff"))
    return build_encoder(*sizes, length=config.num_patches, dropout=config.dropout, **options)


def build_backbone(config: TimeLLMConfig) -> Backbone:
    """Loads the backbone that a configuration names."""
    return load_backbone(
        config.backbone,
        revision=config.backbone_revision,
        num_layers=config.num_backbone_layers,
        weights=config.backbone_weights,
        seed=config.backbone_seed,
        dtype=getattr(torch, config.backbone_dtype),
        quantization=config.backbone_quantization,
        with_tokenizer=config.prompt,
    )


def pin_backbone(config: TimeLLMConfig, backbone: Backbone) -> None:
    """Checks the backbone against what the configuration remembers of it, and fills in what is not known yet.

    Raises:
        ValueError: If the backbone is another one than the artefact was trained with, or too narrow for `d_ff`.
    """
    # A converted checkpoint knows its tokenizer by name only, and converting needs no Hub.
    tokenizer = None if getattr(backbone.tokenizer, "is_lazy", False) else backbone.tokenizer
    width, fingerprint = backbone.hidden_size, compute_fingerprint(backbone.llm, tokenizer)
    if config.backbone_hidden_size and config.backbone_hidden_size != width:
        raise ValueError(
            f"backbone {config.backbone!r} has hidden size {width}, but the artefact was trained with "
            f"{config.backbone_hidden_size}; give the backbone that it was trained with"
        )
    recorded = config.backbone_fingerprint
    if recorded and not is_same_model(recorded, backbone.llm, fingerprint):
        raise ValueError(
            f"backbone {config.backbone!r} has fingerprint {fingerprint}, but the artefact was trained with "
            f"{recorded}: its weights, settings or tokenizer are others; load the revision that it was trained with "
            f"({config.backbone_revision or 'not recorded'}) with its num_backbone_layers and backbone_quantization, "
            "or clear backbone_fingerprint to retrain"
        )
    if config.d_ff > width:
        raise ValueError(f"d_ff ({config.d_ff}) exceeds the backbone's hidden size ({width}); lower d_ff")
    config.backbone_hidden_size, config.backbone_fingerprint = width, fingerprint
    config.backbone_revision = backbone.commit or config.backbone_revision
