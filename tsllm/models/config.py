"""The configuration that every forecasting model has."""

import typing
from collections.abc import Mapping
from dataclasses import field, fields
from typing import Any, ClassVar, NamedTuple

from transformers import PreTrainedConfig

from tsllm.models.losses import LOSSES, Loss
from tsllm.nn.heads import build_output

_LIBRARY_KEYS = {
    "_attn_implementation_internal",
    "_experts_implementation_internal",
    "_name_or_path",
    "attn_implementation",
    "experts_implementation",
    "model_type",
    "name_or_path",
    "num_labels",
    "output_attentions",
    "tie_word_embeddings",
    "torch_dtype",
    "use_cache",
}  # what transformers itself writes into or passes through a config.json

BACKBONE_WEIGHTS = ("pretrained", "random", "spectrum")
TEXT_OPTIONS = {"d_model": 64, "num_heads": 4, "d_ff": 64, "dropout": 0.1}


class TextSource(NamedTuple):
    """The language model that reads texts for a forecaster.

    Attributes:
        backbone: A packaged name, a folder or a Hub id.
        revision: Commit on the Hub.
        weights: `pretrained`, `random` or `spectrum`.
        seed: Of random weights.
        hidden_size: Width d of its hidden states.
    """

    backbone: str
    revision: str
    weights: str
    seed: int
    hidden_size: int


class ForecastConfig(PreTrainedConfig):
    """The fields that every model's configuration has; unknown keys are errors.

    Attributes:
        context_length: L, steps read.
        prediction_length: H, steps forecast.
        num_channels: C, series read and forecast together.
        num_time_features: F, calendar features a step; 0 = none.
        num_covariates: K, covariates a step in `past_covariates`.
        num_known_covariates: How many of them (the first ones) are known for the horizon too (`future_covariates`).
        head: `point`, `quantile`, `gaussian`, `student_t` ... (`tsllm.nn.heads.OUTPUTS`).
        head_kwargs: Options of the head.
        quantile_levels: Levels of the `quantile` head.
        loss: A name from `tsllm.models.losses.LOSSES`; empty = the head's own.
        loss_kwargs: Options of the loss.
        reference_quirks: Reproduce the faults of the public reference code. Only parity work sets it.
        text_layers: Layers of a language model, from the first on, whose frozen hidden states of a text are read; 0 =
            no texts are. 8 of SmolLM2's 30 served well.
        text_backbone: That language model: a packaged name (`smollm2-135m`), a local folder or a Hub id. An artefact
            remembers which one it is and holds none of its weights.
        text_revision: Commit (or branch, tag) on the Hub; resolved to a commit once loaded, and saved so.
        text_weights: `pretrained`; for ablations `random` (an untrained model of the same architecture) or `spectrum`
            (random weights with the singular values of the pretrained ones), both of seed 0.
        text_hidden_size: Filled in when the model is built.
        text_fingerprint: Filled in when texts are first read, checked afterwards.
        text_reader: Options of the branch that reads: d_model, num_heads, d_ff, dropout.
    """

    model_type = "tsllm"
    # Losses that need what only this model exposes, by name.
    own_losses: ClassVar[Mapping[str, Loss]] = {}
    no_texts: ClassVar[str] = ""  # why such a model cannot read texts; empty = it can

    context_length: int = 96
    prediction_length: int = 24
    num_channels: int = 1
    num_time_features: int = 0
    num_covariates: int = 0
    num_known_covariates: int = 0
    head: str = "point"
    head_kwargs: dict[str, Any] = field(default_factory=dict)
    quantile_levels: list[float] = field(default_factory=lambda: [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
    loss: str = ""
    loss_kwargs: dict[str, Any] = field(default_factory=dict)
    reference_quirks: bool = False
    text_layers: int = 0
    text_backbone: str = ""
    text_revision: str = ""
    text_weights: str = "pretrained"
    text_hidden_size: int = 0
    text_fingerprint: str = ""
    text_reader: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self, **kwargs: Any) -> None:
        unknown = sorted(set(kwargs) - _LIBRARY_KEYS)
        if unknown:
            known = ", ".join(sorted(type(self).own_fields()))
            raise ValueError(f"{type(self).__name__} does not know {unknown}; known: {known}")
        super().__post_init__(**kwargs)
        self._refuse_truth_values()
        self.check()

    def _refuse_truth_values(self) -> None:
        """Refuses true and false where a number or a text belongs; Python counts them as 1 and 0."""
        for f in fields(self):
            kinds = set(typing.get_args(f.type) or (f.type,))
            value = getattr(self, f.name)
            is_own = f.name in self.own_fields() and bool not in kinds and kinds & {int, float, str}
            if is_own and isinstance(value, bool):
                raise ValueError(f"{f.name} must be a number or a text, got {value}")

    @classmethod
    def own_fields(cls) -> set[str]:
        """Returns the names of the fields that this project defines, without those of transformers."""
        return {f.name for f in fields(cls)} - {f.name for f in fields(PreTrainedConfig)}

    @classmethod
    def find_loss(cls, name: str) -> Loss:
        """Returns the loss called `name`: one of the model's own, or a general one.

        Raises:
            UnknownNameError: If there is none.
        """
        return cls.own_losses[name] if name in cls.own_losses else LOSSES.get(name)

    def check(self) -> None:
        """Checks the values; a subclass calls this first and then checks its own.

        Raises:
            ValueError: Naming the field, the value and what is allowed.
        """
        for name in ("context_length", "prediction_length", "num_channels"):
            require_positive(self, name)
        for name in (
            "num_time_features",
            "num_covariates",
            "num_known_covariates",
            "text_layers",
            "text_hidden_size",
        ):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 0:
                raise ValueError(f"{name} must be an integer >= 0, got {value!r}")
        if self.num_known_covariates > self.num_covariates:
            raise ValueError(
                f"num_known_covariates ({self.num_known_covariates}) exceeds num_covariates ({self.num_covariates})"
            )
        head = build_output(self.head, self.quantile_levels, self.head_kwargs)
        own = list(self.own_losses) if "mse" in head.losses else []
        if self.loss and self.loss not in (*head.losses, *own):
            if not any(self.loss in config.own_losses for config in ForecastConfig.__subclasses__()):
                LOSSES.get(self.loss)  # raises with the nearest names, unless it is a loss that does not fit
            raise ValueError(
                f"loss {self.loss!r} does not fit head {self.head!r} of model {self.model_type!r}; "
                f"this head trains with {', '.join([*head.losses, *own])}"
            )
        name = self.loss or head.losses[0]
        options = self.find_loss(name).options
        unknown = sorted(set(self.loss_kwargs) - set(options))
        if unknown:
            raise ValueError(f"loss_kwargs holds {unknown}, but loss {name!r} takes {options or 'no options'}")
        self.check_texts()

    def check_texts(self) -> None:
        """Checks what is said of texts; Time-LLM, whose own language model reads them, has its own rules.

        Raises:
            ValueError: Naming the field, the value and what is allowed.
        """
        if self.no_texts and self.text_layers:
            raise ValueError(f"text_layers is {self.text_layers}, but {self.no_texts}; leave it out")
        if self.text_layers and not self.text_backbone:
            raise ValueError(
                f"text_layers is {self.text_layers}, but text_backbone names no language model that reads the texts; "
                "set text_backbone, such as smollm2-135m"
            )
        for name in ("text_backbone", "text_revision", "text_reader"):
            if getattr(self, name) and not self.text_layers:
                raise ValueError(
                    f"{name} is given but text_layers is 0, so no text is read; set text_layers, such as 8"
                )
        if self.text_weights not in BACKBONE_WEIGHTS:
            raise ValueError(f"text_weights must be one of {', '.join(BACKBONE_WEIGHTS)}, got {self.text_weights!r}")
        if self.text_weights != "pretrained" and not self.text_layers:
            raise ValueError(
                f"text_weights is {self.text_weights!r} but text_layers is 0, so no text is read; drop one"
            )
        check_reader_options("text_reader", self.text_reader, TEXT_OPTIONS)

    @property
    def text_source(self) -> TextSource:
        """The language model that reads texts for this model."""
        return TextSource(self.text_backbone, self.text_revision, self.text_weights, 0, self.text_hidden_size)

    def note_text_source(self, fingerprint: str, commit: str) -> None:
        """Remembers which language model read.

        Args:
            fingerprint: Of its layers that were read.
            commit: Of its Hub repository; empty for a local one.
        """
        self.text_fingerprint, self.text_revision = fingerprint, commit or self.text_revision


def require_positive(config: Any, name: str) -> None:
    """Raises ValueError unless the field `name` holds an integer above 0."""
    value = getattr(config, name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}")


def require_divides(config: Any, divisor: str, dividend: str) -> None:
    """Raises ValueError unless the field `divisor` divides the field `dividend`."""
    low, high = getattr(config, divisor), getattr(config, dividend)
    if high % low:
        raise ValueError(f"{divisor} ({low}) must divide {dividend} ({high})")


def check_reader_options(name: str, given: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Checks options of queries that read by attention.

    Args:
        name: Of the field.
        given: Its value.
        defaults: All options.

    Raises:
        ValueError: Naming the field, the option, its value and what is allowed.
    """
    unknown = sorted(set(given) - set(defaults))
    if unknown:
        raise ValueError(f"{name} does not know {unknown}; known: {', '.join(defaults)}")
    options = {**defaults, **given}
    for option in sorted(set(options) - {"dropout"}):
        value = options[option]
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name}.{option} must be a positive integer, got {value!r}")
    if options["d_model"] % options["num_heads"]:
        raise ValueError(f"{name}: num_heads ({options['num_heads']}) must divide d_model ({options['d_model']})")
    if not 0 <= options["dropout"] < 1:
        raise ValueError(f"{name}.dropout must lie in [0, 1), got {options['dropout']}")
