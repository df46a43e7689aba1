"""What every forecasting model shares: its forward contract and its files."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import SAFE_WEIGHTS_NAME, cached_file

from tsllm.backbones.adapters import load_decoder_config
from tsllm.backbones.reach import reach_hub
from tsllm.backbones.weights import read_header
from tsllm.escape import first_line
from tsllm.models.config import TEXT_OPTIONS, ForecastConfig
from tsllm.models.inputs import NUM_CALENDAR, TEXT_KEYS, Inputs, RawForecast, check_shapes, fill_missing
from tsllm.models.sizes import check_sizes, compare_shapes, find_damaged
from tsllm.nn.heads import HeadOutput, build_output
from tsllm.nn.matmul import fast_matmul
from tsllm.nn.older_state import convert_state
from tsllm.progress import quiet_bars
from tsllm.types import ForecastOutput

if TYPE_CHECKING:
    from tsllm.data.prepared import PreparedData
    from tsllm.nn.text_reading import TextBranch, TextReader

COVARIATE_READERS = "timexer, timellm with reader: horizon"  # for messages


class ForecastModel(PreTrainedModel):
    """Base of all models: `Model(config)`, one forward contract, safetensors only.

    A subclass sets `config_class`, builds its parts in `__init__` and implements `forecast`. It emits
    `self.output_head.num_parameters` numbers a step and channel.
    """

    config_class = ForecastConfig
    config: ForecastConfig
    base_model_prefix = ""
    main_input_name = "past_values"
    uses_time_features: ClassVar[bool] = False
    uses_covariates: ClassVar[bool] = False
    # Training options that this model wants unless somebody says otherwise.
    default_training: ClassVar[Mapping[str, Any]] = {}
    can_be_laid_out: ClassVar[bool] = True  # whether its constructor works without memory, on torch's meta device
    uses_season: ClassVar[bool] = False
    # Fields as published where `default_config_for` chooses others; published protocols ask for these.
    published_config: ClassVar[Mapping[str, Any]] = {}
    head_parts: ClassVar[tuple[str, ...]] = ()  # modules behind the last layer that reads tokens; () = it names none

    def __init__(self, config: ForecastConfig) -> None:
        super().__init__(config)
        fields_given = {name: getattr(config, name) for name in type(config).own_fields()}
        if config.num_covariates and not self.reads_covariates(fields_given):
            raise ValueError(
                f"{type(self).__name__} reads no covariates, but num_covariates is {config.num_covariates}; "
                f"set it to 0 or choose a model that reads them ({COVARIATE_READERS})"
            )
        self.output_head = build_output(config.head, config.quantile_levels, config.head_kwargs)
        self.loss_name = config.loss or self.output_head.losses[0]

    def post_init(self) -> None:
        """Ends the construction. What reads texts comes last, so that all else is drawn as in a model without it."""
        self.texts = self._build_texts()
        super().post_init()

    def _build_texts(self) -> "TextBranch | None":
        config = self.config
        if not config.text_backbone:  # nobody reads texts, or a Time-LLM's own parts do
            return None
        from tsllm.nn.text_reading import TextBranch, TextReader  # most models read none

        if not config.text_hidden_size:
            try:
                found = load_decoder_config(config.text_backbone, config.text_revision)
            except OSError as error:
                raise OSError(
                    f"text_backbone {config.text_backbone!r} cannot be loaded: {first_line(error)}; give the path of "
                    "a local folder, check the name and your access to the Hub, or use smollm2-135m, which needs no "
                    "Hub (--set text_backbone=smollm2-135m on the command line)"
                ) from error
            config.text_hidden_size = found.hidden_size
        options: dict[str, Any] = TEXT_OPTIONS | config.text_reader
        numbers = self.output_head.num_parameters
        reader = TextReader(config.text_hidden_size, numbers, NUM_CALENDAR, **options)
        sizes = (config.prediction_length, config.num_channels, numbers + 2, options["d_model"])
        return TextBranch(reader, *sizes)

    @property
    def text_reader(self) -> "TextReader | None":
        """What reads texts; None if nothing does."""
        return None if self.texts is None else self.texts.reader

    def _init_weights(self, module: torch.nn.Module) -> None:
        """Keeps the initial values that the constructors chose."""

    def get_input_embeddings(self) -> None:  # type: ignore[override]
        """Returns None: series are no tokens, and sharding (FSDP) must not look for a table of them."""

    def get_output_embeddings(self) -> None:  # type: ignore[override]
        """Returns None, as `get_input_embeddings`."""

    @classmethod
    def config_for(cls, data: "PreparedData") -> dict[str, Any]:
        """Returns the configuration fields that the data decide: sizes, for every model.

        A model that must know more of its data adds to them.
        """
        windows = data.train
        reads_time = cls.uses_time_features and data.time_features
        return {
            "context_length": windows.context_length,
            "prediction_length": windows.prediction_length,
            "num_channels": windows.num_channels,
            "num_time_features": windows.num_time_features if reads_time else 0,
            "num_covariates": len(windows.covariate_names),
            "num_known_covariates": windows.num_known_covariates,
        }

    @classmethod
    def reads_covariates(cls, given: Mapping[str, Any], named: bool = False) -> bool:  # noqa: ARG003
        """Tells whether a model reads covariates; here all of a class do, or none.

        Args:
            given: Fields of the configuration that somebody set.
            named: Whether somebody named covariates that it is to read.
        """
        return cls.uses_covariates

    @classmethod
    def default_fields(cls, given: Mapping[str, Any], named: bool = False) -> dict[str, Any]:  # noqa: ARG003
        """Returns fields that follow where nobody set them; here, none do.

        Args:
            given: Fields of the configuration that somebody set.
            named: Whether somebody named covariates that it is to read.
        """
        return {}

    @classmethod
    def find_deaf_option(cls, given: Mapping[str, Any]) -> str:
        """Returns the field by which a model that can read covariates reads none; empty if it never reads any.

        Args:
            given: Fields of the configuration that somebody set.
        """
        for name in given:
            if cls.reads_covariates({k: v for k, v in given.items() if k != name}, named=True):
                return name
        return ""

    @classmethod
    def default_config_for(cls, data: "PreparedData", given: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG003
        """Returns fields with which a new model forecasts such data better than as published; most need none.

        Args:
            data: What it will be trained on.
            given: What somebody asked for, which wins.
        """
        return {}

    def describe_data(self, data: "PreparedData") -> None:
        """Tells the model what it must know of the training data before it is trained; most need nothing."""

    def adopt(self, data: "PreparedData") -> None:
        """Takes over what other data decide, in a model that goes on training with them.

        Raises:
            ValueError: If they have other sizes than the model.
        """
        values = type(self).config_for(data)
        for name, value in values.items():
            saved = getattr(self.config, name)
            if isinstance(value, int) and value != saved:
                raise ValueError(f"{name} of the data is {value}, but the model was built for {saved}")
            setattr(self.config, name, value)
        self.describe_data(data)

    def forget(self) -> None:
        """Drops what was computed from configuration and weights ahead; here, nothing is."""

    def resize(self, context_length: int, prediction_length: int) -> None:
        """Changes the lengths of a trained model in place, where its weights allow that; here, nowhere.

        Args:
            context_length: L, steps.
            prediction_length: H, steps.

        Raises:
            ValueError: If they differ from its own.
        """
        own = (self.config.context_length, self.config.prediction_length)
        if (context_length, prediction_length) != own:
            raise ValueError(
                f"{type(self).__name__} reads {own[0]} steps and forecasts {own[1]}, and its weights fit no others "
                f"({context_length} and {prediction_length} were asked for); ask for its own, or train a new model"
            )

    def change(self, values: Mapping[str, Any]) -> None:
        """Changes configuration fields of a loaded model, where that is possible; here, nowhere.

        Raises:
            ValueError: Naming the fields that are fixed.
        """
        fixed = [name for name, value in values.items() if getattr(self.config, name, None) != value]
        if fixed:
            raise ValueError(
                f"{', '.join(sorted(fixed))} cannot be changed in a saved {type(self).__name__}; train a new "
                "model, or leave that out"
            )

    def input_keys(self) -> list[str]:
        """Returns the tensors of a batch that the model reads."""
        keys = ["past_values", "past_observed_mask", "future_values"]
        if self.config.num_time_features:
            keys += ["past_time_features", "future_time_features"]
        if self.config.num_covariates:
            keys.append("past_covariates")
        if self.config.num_known_covariates:
            keys.append("future_covariates")
        if self.uses_season:
            keys.append("season")
        if self.config.text_layers:
            keys += TEXT_KEYS
        return keys

    def forecast(self, inputs: Inputs) -> RawForecast:
        """Computes head parameters for checked inputs."""
        raise NotImplementedError

    def forward(
        self,
        past_values: Tensor,
        future_values: Tensor | None = None,
        past_observed_mask: Tensor | None = None,
        past_time_features: Tensor | None = None,
        future_time_features: Tensor | None = None,
        past_covariates: Tensor | None = None,
        future_covariates: Tensor | None = None,
        series_loc: Tensor | None = None,
        series_scale: Tensor | None = None,
        prompt: Any = None,
        season: Tensor | None = None,
        text_states: Tensor | None = None,
        text_rows: Tensor | None = None,
        text_mask: Tensor | None = None,
        text_calendar: Tensor | None = None,
    ) -> ForecastOutput:
        """Forecasts, and computes the configured loss if the future is given.

        Args:
            past_values: [B, L, C].
            future_values: [B, H, C]; NaN = missing, not counted in the loss.
            past_observed_mask: [B, L, C] bool, True = observed.
            past_time_features: [B, L, F].
            future_time_features: [B, H, F].
            past_covariates: [B, L, K].
            future_covariates: [B, H, K known].
            series_loc: [B, 1, C]; original value = value * series_scale + series_loc. Only models that speak of
                original units (Time-LLM's prompt) read it.
            series_scale: [B, 1, C], above 0.
            prompt: The batch's prompts, tokenised before; only Time-LLM reads it, which else writes them itself.
            season: [B] integers, steps in a season (1 = none); only models with `uses_season` read it.
            text_states: [B, R, T, d'], what a model's `Lens` made of the hidden states of up to R texts a window;
                None = nothing is told. Only models with `text_layers` read it.
            text_rows: [B, R] integers, which text each is; needed with `text_states`, as what follows.
            text_mask: [B, C, H, R, T] bool, True = the token is of a text about this step.
            text_calendar: [B, H, NUM_CALENDAR], waves of day, week and year at the horizon.

        Raises:
            ValueError: If a shape does not fit the configuration.
        """
        config = self.config
        inputs = Inputs(
            *fill_missing(past_values, past_observed_mask),
            past_time_features,
            future_time_features,
            past_covariates,
            future_covariates,
            series_loc,
            series_scale,
            prompt,
            season,
            text_states,
            text_rows,
            text_mask,
            text_calendar,
        )
        check_shapes(config, inputs, future_values)
        if self.uses_time_features and config.num_time_features and past_time_features is None:
            raise ValueError(
                f"past_time_features is missing; the configuration names {config.num_time_features} of them"
            )
        with fast_matmul():
            raw = self.forecast(inputs)
        if inputs.text_states is not None:
            answer = self.answer_texts(raw, inputs)  # its maps are small, and fastest as torch computes them
            raw = replace(raw, parameters=raw.parameters + answer)
        head = self.output_head.to_output(raw.parameters, raw.loc, raw.scale)
        output = ForecastOutput(
            predictions=head.predictions, quantiles=head.quantiles, distribution=head.distribution, extras=raw.extras
        )
        if future_values is not None:
            loss = config.find_loss(self.loss_name)
            output.loss = loss.compute(self, output, future_values, **config.loss_kwargs)
        return output

    def answer_texts(self, raw: RawForecast, inputs: Inputs) -> Tensor:
        """Returns what texts add to the parameters of a forecast [B, H, C, num_parameters]; zero where none is."""
        assert self.texts is not None
        residual: Tensor = self.texts(raw.describe(), *inputs.told)
        return residual

    def compute_quantiles(self, output: ForecastOutput, levels: list[float]) -> Tensor:
        """Returns the quantiles [B, H, C, len(levels)] of a forecast; a point head raises ValueError."""
        assert output.predictions is not None
        return self.output_head.compute_quantiles(
            HeadOutput(output.predictions, output.quantiles, output.distribution), levels
        )

    @contextmanager
    def computing_alone(self, alone: bool = True) -> Iterator[None]:
        """Within, a batch of one window gives bits that depend on that window alone, not on what was computed before.

        Args:
            alone: False = nothing changes.
        """
        yield

    def trained_state(self) -> dict[str, Tensor]:
        """Returns the tensors that an artefact holds: all but a frozen backbone's."""
        return self.state_dict()

    def save_pretrained(self, save_directory: str | Path, state_dict: dict | None = None, **kwargs: Any) -> None:  # type: ignore[override]
        """Writes `config.json` and `model.safetensors` (and uploads them with `push_to_hub=True`)."""
        kept = self.trained_state().keys()
        state = {k: v for k, v in (state_dict or self.state_dict()).items() if k in kept}
        with quiet_bars():
            super().save_pretrained(save_directory, state_dict=state, **kwargs)

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        config: ForecastConfig | None = None,
        revision: str | None = None,
        device_map: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        **hub: Any,
    ) -> Self:
        """Loads a folder or a Hub repository, from safetensors only.

        Args:
            pretrained_model_name_or_path: A folder or a Hub id.
            config: Used instead of the folder's `config.json`.
            revision: Branch, tag or commit of the Hub repository.
            device_map: A device to move the model to.
            dtype: The dtype to cast the model to.
            **hub: `token`, `cache_dir`, `local_files_only`, `force_download`, `subfolder`.

        Raises:
            OSError: If the folder, the repository or one of its files is not there or is damaged.
            ValueError: If tensors are missing, unexpected, of another shape or not finite; the text lists them.
        """
        source = str(pretrained_model_name_or_path)
        allowed = {"token", "cache_dir", "local_files_only", "force_download", "subfolder", "proxies"}
        hub = {k: v for k, v in hub.items() if k in allowed}
        if config is None or not isinstance(config, cls.config_class):
            config = cls.config_class.from_pretrained(source, revision=revision or "main", **hub)
        weights = _find_weights(source, revision, hub)
        header = read_header(weights)
        check_sizes(cls, config, header, source)
        try:
            state = load_file(weights)
        except (SafetensorError, ValueError) as error:
            raise OSError(
                f"{weights} is damaged or no safetensors file ({error}); download or save it again"
            ) from error
        model = cls(config)
        model.load_trained_state(state, origin=source)
        model.eval()
        if device_map is not None or dtype is not None:
            torch.nn.Module.to(model, device=device_map, dtype=dtype)
        return model

    def load_trained_state(self, state: dict[str, Tensor], origin: str = "the state") -> None:
        """Loads exactly the tensors of `trained_state`; what older states hold beyond them is turned into them.

        Raises:
            ValueError: If tensors are missing, unexpected, of another shape, or no finite floating numbers; the text
                lists them.
        """
        state = convert_state(self, state)
        found, wanted = ({k: tuple(v.shape) for k, v in tensors.items()} for tensors in (state, self.trained_state()))
        problems = compare_shapes(found, wanted) or find_damaged(self, state)
        if problems:
            raise ValueError(
                f"{origin} does not fit {type(self).__name__} with its configuration: {'; '.join(problems)}"
            )
        self.load_state_dict(state, strict=False)


def _find_weights(source: str, revision: str | None, hub: dict[str, Any]) -> str:
    """Returns the path of `model.safetensors`, which must exist; pickled weights are refused."""
    folder = Path(source) / hub.get("subfolder", "")
    if Path(source).is_dir():
        path = folder / SAFE_WEIGHTS_NAME
        if path.is_file():
            return str(path)
        pickles = [p.name for p in folder.iterdir() if p.suffix in {".bin", ".pt", ".pth", ".ckpt"}]
        found = f"; it holds {pickles}, but pickles are refused: see `tsllm convert`" if pickles else ""
        raise OSError(f"{folder} holds no {SAFE_WEIGHTS_NAME}{found}")
    reach_hub()
    try:
        found_path = cached_file(source, SAFE_WEIGHTS_NAME, revision=revision, **hub)
    except Exception as error:  # the transport's own errors are of no common base across its versions
        raise OSError(
            f"cannot load {SAFE_WEIGHTS_NAME} of {source!r} (revision {revision or 'main'}): {error}"
        ) from error
    assert found_path is not None
    return str(found_path)
