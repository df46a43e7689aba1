"""Arguments of the recipes: dataclasses filled from YAML and the command line, checked strictly.

`--config file.yaml` (or `--config=file.yaml`) gives the values, `--key value`, `--key=value` and `key=value` override
them, and a dotted key reaches into a mapping (`model_config.d_model=64`). The use is TRL's, but one parser serves
machines with and without TRL, and values from YAML are held to the same types as those from the command line.
"""

import enum
import inspect
import math
import re
import sys
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

import yaml
from transformers import HfArgumentParser, SchedulerType, TrainingArguments
from transformers.integrations import get_reporting_integration_callbacks
from transformers.trainer_utils import IntervalStrategy, SaveStrategy
from transformers.training_args import OptimizerNames
from transformers.utils import is_torch_bf16_gpu_available

from tsllm.data.names import ColumnNames
from tsllm.data.target import TargetScale
from tsllm.data.task import Asked
from tsllm.near import find_near
from tsllm.progress import can_show
from tsllm.registry import refuse_unknown
from tsllm.training.in_memory import complete_training, refuse_idle_training

T = TypeVar("T")
_KEY_VALUE = re.compile(r"([A-Za-z_][\w.]*)=(.*)", re.DOTALL)
_HELP = {"-h", "--help"}


class ArgumentsError(ValueError):
    """A key or a value that the arguments do not allow; its text says what is."""


class _Token(str):
    """A value from the command line: text whose type the field decides."""


@dataclass
class ModelArguments:
    """Which model is trained.

    Attributes:
        model: A name from `tsllm.models.MODELS`.
        model_config: Fields of the model's configuration, without those that the data decide (lengths, channels).
        pretrained: Folder or Hub id of one of our artefacts to start from; its configuration is then used, changed by
            `model_config`.
    """

    model: str = field(default="timellm", metadata={"help": "a name of tsllm.models.MODELS"})
    model_config: dict[str, Any] = field(default_factory=dict, metadata={"help": "fields of its configuration"})
    pretrained: str | None = field(default=None, metadata={"help": "artefact to start from: folder or Hub id"})


@dataclass
class DataArguments:
    """Which series are read and how they are cut into windows.

    Attributes:
        dataset: A name of `tsllm.data.sources.DATASETS`, a CSV, Parquet or Arrow file, or a Hub id.
        data_path: File to read a named data set from, instead of its usual place.
        freq: pandas alias or integer step; None = the data set's own, or inferred.
        targets: Columns of a wide table that are series; None = all.
        id_col: Column that names the series, if not `unique_id`.
        time_col: Column of the times, if not `ds` or `date`.
        target_col: Column of the values, if not `y`.
        day_first: Whether 03/04/2024 is the third of April; None refuses dates that no row settles.
        covariates: Columns known over the horizon; None = the data set's own if the model reads them, [] = none.
        past_covariates: Columns known up to the cutoff only; None and [] as above.
        static: Columns with one value a series, numbers or texts; None = none.
        share_covariates: All series have the same covariates, so that a multivariate sample holds them once.
        time_features: Whether a model that can read calendar features does so.
        context_length: L, steps; None = the data set's custom, or by frequency.
        season: Steps in the main season; None = the data set's, or by frequency.
        prediction_length: H, steps; None = the data set's custom.
        layout: `multivariate` (aligned series are the channels of a sample), `univariate` (one series a sample) or
            `auto` (None) = multivariate where the series are aligned.
        split: None = the data set's custom, else [.7, .1, .2]; a list of three fractions; a mapping with `validation`
            and `test` times (and `end`); or a mapping with `train`, `validation`, `test` counts of steps.
        scaler: `standard` (per series, fitted on the training part) or `none`.
        transform: `log1p` or `asinh` of the target, before it is scaled; None = none, or as the saved model has it.
        non_negative: Whether forecasts below 0 become 0; None = no, or as the saved model has it.
        integer: Whether forecasts are rounded to whole numbers; None as above.
        train_stride: Steps between the starts of training windows.
        validation_stride: The same for validation.
        test_stride: The same for test; published tables use 1.
    """

    dataset: str = field(default="", metadata={"help": "name of DATASETS, a file, or a Hub id"})
    data_path: str | None = field(default=None, metadata={"help": "file to read a named data set from"})
    freq: str | int | None = None
    targets: list[str] | None = None
    id_col: str | None = None
    time_col: str | None = None
    target_col: str | None = None
    day_first: bool | None = None
    covariates: list[str] | None = None
    past_covariates: list[str] | None = None
    static: list[str] | None = None
    share_covariates: bool = False
    time_features: bool = field(default=True, metadata={"help": "calendar features for models that read them"})
    context_length: int | None = field(default=None, metadata={"help": "L, steps"})
    prediction_length: int | None = field(default=None, metadata={"help": "H, steps"})
    season: int | None = field(default=None, metadata={"help": "steps in the main season"})
    layout: str | None = field(default=None, metadata={"help": "auto, multivariate or univariate"})
    split: list[float] | dict[str, Any] | None = None
    scaler: str = "standard"
    transform: str | None = field(default=None, metadata={"help": "log1p, asinh or none"})
    non_negative: bool | None = None
    integer: bool | None = None
    train_stride: int = 1
    validation_stride: int = 1
    test_stride: int = 1

    def __post_init__(self) -> None:
        if not self.dataset:
            raise ArgumentsError("dataset is missing; give a name of tsllm.data.sources.DATASETS, a file or a Hub id")
        for name in ("train_stride", "validation_stride", "test_stride"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ArgumentsError(f"{name} is {value}; it must be at least 1")
        self.asked()
        self.target_scale()

    def target_scale(self, saved: Mapping[str, Any] | None = None) -> TargetScale:
        """Returns the scale of the target; what nobody says is as `saved` has it.

        Raises:
            ValueError: For an unknown transform.
        """
        return TargetScale(**{**(saved or {}), **self._said_scale()})

    def refuse_scale(self, why: str) -> None:
        """Refuses what was said about the target's scale, where nothing would come of it.

        Args:
            why: What the recipe does instead, the end of the sentence.

        Raises:
            ArgumentsError: Naming the argument.
        """
        for name, value in self._said_scale().items():
            if value not in ("none", False):
                raise ArgumentsError(f"{name} is {value!r}, but {why}; leave it out")

    def _said_scale(self) -> dict[str, Any]:
        names = ("transform", "non_negative", "integer")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def asked(self) -> Asked:
        """Returns what is asked of the data.

        Raises:
            TaskError: For an impossible value.
        """
        return Asked(
            h=self.prediction_length,
            context_length=self.context_length,
            freq=self.freq,
            season=self.season,
            layout=self.layout,
            covariates=self.covariates,
            past_covariates=self.past_covariates,
            static=self.static,
            share_covariates=self.share_covariates,
            split=self.split,
            names=ColumnNames.of(self.id_col, self.time_col, self.target_col),
            day_first=self.day_first,
        )


# Fields whose smallest sensible value the library does not check; max_steps -1 is its word for "by epochs".
_LEAST = {
    "max_steps": -1,
    "num_train_epochs": 0,
    "per_device_train_batch_size": 1,
    "per_device_eval_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "learning_rate": 0,
    "eval_steps": 1,
    "logging_steps": 1,
    "early_stopping_patience": 0,
    "early_stopping_threshold": 0,
    "warmup_steps": 0,
    "weight_decay": 0,
    "max_grad_norm": 0,
    "seed": 0,
    "data_seed": 0,
}
SCHEDULES = ("type1", "type3", "epoch_cosine")
_CHOICES: dict[str, Sequence[str]] = {
    "lr_schedule": SCHEDULES,
    "lr_scheduler_type": [m.value for m in SchedulerType],
    "optim": [m.value for m in OptimizerNames],
    "eval_strategy": [m.value for m in IntervalStrategy],
    "logging_strategy": [m.value for m in IntervalStrategy],
    "save_strategy": [m.value for m in SaveStrategy],
    "train_sampling_strategy": ("random", "group_by_length"),
    # What a validation measures; the last three of heads that know quantiles.
    "metric_for_best_model": ("loss", "mse", "mae", "crps", "coverage_80", "width_80"),
}


@dataclass
class ForecastTrainingArguments(TrainingArguments):
    """`transformers.TrainingArguments` with the defaults of forecasting and a few fields more.

    Attributes:
        lr_schedule: A schedule of the forecasting literature by epoch: `type1` (two whole epochs, then halved for
            each), `type3` (four whole epochs, then times 0.9 for each), `epoch_cosine` (half a cosine); None =
            `lr_scheduler_type`, by step.
        lr_falls: Steps after which a constant rate falls to three tenths; None = never.
        early_stopping_patience: Evaluations without a better validation metric after which training ends; 0 = never.
        early_stopping_threshold: What counts as better, in units of the metric.
        overwrite_output_dir: Delete checkpoints that an earlier run left in `output_dir`.
        layer_clip: Options of `tsllm.training.aids.layer_clip.LayerClip` (lam, quantile, window, warmup); needs
            max_grad_norm: 0. None = off.
        group_sampler: Options of `tsllm.training.aids.group_sampler` (beta, floor, num_draws, season, num_probes):
            series that lag behind the seasonal naive are drawn more often. None = off.
        prompt_store: Time-LLM's prompts of all training windows are tokenised once, into a memory-mapped file in
            `output_dir`; a step then waits for no statistics. `train_sampling_strategy: group_by_length` implies it.
    """

    output_dir: str | None = field(default="runs/series", metadata={"help": "folder of checkpoints and artefacts"})
    per_device_train_batch_size: int = 32
    per_device_eval_batch_size: int = 64
    num_train_epochs: float = 10.0
    learning_rate: float = 1e-4
    lr_scheduler_type: str = field(default="constant", metadata={"help": "by step: constant, cosine, linear ..."})
    lr_schedule: str | None = field(default=None, metadata={"help": f"by epoch: {', '.join(SCHEDULES)}"})
    lr_falls: list[int] | None = field(default=None, metadata={"help": "steps after which the rate falls to 0.3"})
    max_grad_norm: float = field(default=1.0, metadata={"help": "0 = no clipping"})
    eval_strategy: str = field(default="epoch", metadata={"help": "'no', steps or epoch"})
    save_strategy: str = field(default="epoch", metadata={"help": "'no', steps, epoch or best"})
    save_total_limit: int | None = 1
    load_best_model_at_end: bool = True
    metric_for_best_model: str | None = "loss"
    greater_is_better: bool | None = False
    logging_strategy: str = field(default="steps", metadata={"help": "'no', steps or epoch"})
    logging_steps: float = 50
    logging_nan_inf_filter: bool = False
    report_to: str | list[str] | None = field(default="none", metadata={"help": "tensorboard, wandb ..."})
    remove_unused_columns: bool = False
    label_names: list[str] | None = field(default_factory=lambda: ["future_values"])
    restore_callback_states_from_checkpoint: bool = True
    resume_from_checkpoint: str | bool | None = field(  # type: ignore[assignment]
        default=None, metadata={"help": "bare = the last, or a folder"}
    )
    early_stopping_patience: int = 3
    early_stopping_threshold: float = 0.0
    overwrite_output_dir: bool = False
    layer_clip: dict[str, Any] | None = None
    group_sampler: dict[str, Any] | None = None
    prompt_store: bool = field(default=False, metadata={"help": "tokenise all prompts once, into a file"})

    def __post_init__(self) -> None:
        if self.lr_schedule is not None and self.lr_schedule not in SCHEDULES:
            raise ArgumentsError(f"lr_schedule is {self.lr_schedule!r}; choose one of {', '.join(SCHEDULES)}")
        self._check_falls()
        if self.early_stopping_patience < 0:
            raise ArgumentsError(f"early_stopping_patience is {self.early_stopping_patience}; 0 turns it off")
        if not 0 <= self.seed < 2**32:
            raise ArgumentsError(f"seed is {self.seed}; it must be at least 0 and below 2**32")
        _check_aids(self.layer_clip, self.group_sampler)
        if self.layer_clip is not None and self.max_grad_norm:
            raise ArgumentsError(
                f"layer_clip replaces the global clipping: set max_grad_norm to 0, not {self.max_grad_norm}"
            )
        if str(self.eval_strategy) == "no":
            # Without evaluation there is no best checkpoint to stop for or to load.
            self.load_best_model_at_end, self.metric_for_best_model = False, None
            self.early_stopping_patience = 0
        if self.disable_tqdm is None:
            self.disable_tqdm = not can_show()  # a bar in a file is thousands of lines
        super().__post_init__()
        try:
            get_reporting_integration_callbacks(self.report_to)
        except ValueError as error:
            raise ArgumentsError(f"report_to is {self.report_to!r}: {error}") from error

    def _check_falls(self) -> None:
        if not self.lr_falls:
            return
        if self.lr_schedule is not None or str(self.lr_scheduler_type).rpartition(".")[2].lower() != "constant":
            raise ArgumentsError(
                f"lr_falls are falls of a constant rate, but lr_schedule is {self.lr_schedule!r} and "
                f"lr_scheduler_type {self.lr_scheduler_type!r}; leave lr_falls out, or set lr_scheduler_type: constant"
            )
        if any(isinstance(step, bool) or not isinstance(step, int) or step < 1 for step in self.lr_falls):
            raise ArgumentsError(f"lr_falls are {self.lr_falls}; give steps of at least 1")


def _check_aids(layer_clip: Mapping[str, Any] | None, group_sampler: Mapping[str, Any] | None) -> None:
    """Refuses unknown options of the training aids, and impossible values.

    Raises:
        ArgumentsError: Naming the aid.
    """
    from tsllm.training.aids.group_sampler import check_group_sampler
    from tsllm.training.aids.layer_clip import LayerClipOptions

    checks = (("layer_clip", layer_clip, LayerClipOptions), ("group_sampler", group_sampler, check_group_sampler))
    for name, options, check in checks:
        try:
            check(**(options or {}))
        except (TypeError, ValueError) as error:
            raise ArgumentsError(f"{name} is {options}: {error}") from error


def read_dataclass(cls: type[T], given: Any, what: str, *needed: str) -> T:
    """Builds a dataclass from a mapping, each value held to its field's type.

    Args:
        cls: The dataclass.
        given: A mapping of its fields.
        what: What the mapping is, for messages.
        *needed: Fields that must be there.

    Raises:
        ValueError: For what is no mapping, unknown and missing keys, and values of the wrong type.
    """
    refuse_unknown(given, cls, what, *needed)
    hints = typing.get_type_hints(cls)
    return cls(**{k: coerce(v, hints[k], f"{what}: {k}") for k, v in given.items()})


def check_training(options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns options of a training in memory, with each value held to its field's type.

    The arguments of the training are built once, so that what could not be trained with is refused here.

    Args:
        options: Fields of `ForecastTrainingArguments`.

    Raises:
        ArgumentsError: For unknown fields, wrong types, impossible values, and fields that would have no effect; the
            text names them.
    """
    hints = typing.get_type_hints(ForecastTrainingArguments)
    known = [f.name for f in fields(ForecastTrainingArguments) if f.init]
    if not isinstance(options, Mapping):
        raise ArgumentsError(f"training is {options!r}; give a mapping of options, such as {{'max_steps': 100}}")
    unknown = [key for key in options if key not in known]
    if unknown:
        raise ArgumentsError("; ".join(_explain_unknown(key, known, "training option") for key in unknown))
    read = {key: coerce(value, hints[key], f"training.{key}") for key, value in options.items()}
    for key, value in read.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ArgumentsError(f"training.{key} is {value}; give a finite number")
    for key, least in _LEAST.items():
        if read.get(key) is not None and read[key] < least:
            raise ArgumentsError(f"training.{key} is {read[key]}; it must be at least {least}")
    if read.get("num_train_epochs") == 0 and read.get("max_steps", -1) < 0:
        raise ArgumentsError("training.num_train_epochs is 0; to train nothing, give max_steps: 0 instead")
    for key, choices in _CHOICES.items():
        if read.get(key) is not None and str(read[key]).removeprefix("eval_") not in choices:
            raise ArgumentsError(f"training.{key} is {read[key]!r}; choose one of {', '.join(choices)}")
    try:
        refuse_idle_training(read)
        ForecastTrainingArguments(**({"output_dir": "."} | complete_training(read)))
    except (TypeError, ValueError) as error:
        raise ArgumentsError(f"training: {error}") from error
    return read


def parse_arguments(classes: Sequence[type[Any]], argv: Sequence[str] | None = None) -> tuple[Any, ...]:
    """Builds one object of each dataclass from YAML and the command line.

    Args:
        classes: Dataclasses; their field names must not collide.
        argv: The command line without the program; None = `sys.argv[1:]`.

    Raises:
        ArgumentsError: For unknown keys and values of the wrong type; the text names key, value and what is allowed.
        SystemExit: After `--help`.
    """
    tokens = list(sys.argv[1:] if argv is None else argv)
    if _HELP & set(tokens):
        HfArgumentParser(_documented(classes)).print_help()
        raise SystemExit(0)
    paths, overrides = split_tokens(tokens)
    values: dict[str, Any] = {}
    for path in paths:
        values.update(load_yaml(path))
    for key, value in overrides:
        _assign(values, key, value)
    return build_arguments(classes, values)


def split_tokens(tokens: Sequence[str]) -> tuple[list[str], list[tuple[str, Any]]]:
    """Splits a command line into configuration files and overrides `(key, value)`; a bare flag has the value True.

    Raises:
        ArgumentsError: For a token that is no option.
    """
    pairs: list[tuple[str, Any]] = []
    rest = list(tokens)
    while rest:
        token = rest.pop(0)
        given = _KEY_VALUE.fullmatch(token.removeprefix("--"))
        if given:
            pairs.append((given[1], _Token(given[2])))
            continue
        if not token.startswith("--"):
            raise ArgumentsError(f"cannot read {token!r}; write --key value, --key=value or key=value")
        taken: list[str] = []
        # A bare flag may stand before `key=value`; a value of that form is written --key=value.
        while rest and not rest[0].startswith("--") and not _KEY_VALUE.fullmatch(rest[0]):
            taken.append(rest.pop(0))
        value: Any = True if not taken else _Token(taken[0]) if len(taken) == 1 else [_Token(t) for t in taken]
        pairs.append((token[2:].replace("-", "_"), value))
    paths = [str(value) for key, value in pairs if key == "config"]
    if "True" in paths:
        raise ArgumentsError("--config needs a file")
    return paths, [(key, value) for key, value in pairs if key != "config"]


def load_yaml(path: str | Path) -> dict[str, Any]:
    """Reads a YAML mapping; a key that appears twice is an error.

    Raises:
        FileNotFoundError: If there is no such file.
        ArgumentsError: If it is a folder, no UTF-8 text or no YAML mapping.
    """
    loaded = read_yaml(path)
    if not isinstance(loaded, dict):
        raise ArgumentsError(f"{path} must hold a mapping key: value, found {describe_kind(loaded)}")
    return loaded


def read_yaml(path: str | Path) -> Any:
    """Reads a YAML file, whatever it holds.

    Raises:
        FileNotFoundError: If there is no such file.
        ArgumentsError: If it is a folder, no UTF-8 text or no YAML.
    """
    file = Path(path)
    if file.is_dir():
        raise ArgumentsError(f"{file} is a folder; give the YAML file itself")
    if not file.is_file():
        raise FileNotFoundError(f"no configuration {file}; those of the project are under recipes/configs")
    try:
        return yaml.load(file.read_text(encoding="utf-8"), Loader=_UniqueLoader)
    except UnicodeDecodeError as error:
        raise ArgumentsError(f"{file} is no UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except yaml.YAMLError as error:
        raise ArgumentsError(f"{file} is no valid YAML: {error}") from error
    except RecursionError as error:
        raise ArgumentsError(f"{file} is no valid YAML: its lists or mappings lie too deep in each other") from error


class _UniqueLoader(yaml.SafeLoader):
    """Refuses a key that appears twice, of which plain YAML keeps the last in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        # `<<` merges another mapping, and may be overridden by what follows.
        own = [key for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        keys = [self.construct_object(key, deep=True) for key in own]
        twice = sorted({str(key) for key in keys if keys.count(key) > 1})
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"the key {twice[0]!r} appears twice", node.start_mark)
        return super().construct_mapping(node, deep=True)


def build_arguments(classes: Sequence[type[Any]], values: Mapping[str, Any]) -> tuple[Any, ...]:
    """Builds the dataclasses from `values`, each value held to its field's type.

    Raises:
        ArgumentsError: As `parse_arguments`.
    """
    known = [f.name for c in classes for f in fields(c) if f.init]
    unknown = [key for key in values if key not in known]
    if unknown:
        raise ArgumentsError("; ".join(_explain_unknown(key, known) for key in unknown))
    built = []
    for cls in classes:
        hints = typing.get_type_hints(cls)
        own = {f.name for f in fields(cls) if f.init}
        read = {k: coerce(v, hints[k], k) for k, v in values.items() if k in own}
        if issubclass(cls, TrainingArguments):
            _refuse_half_precision(read)
        built.append(cls(**read))
    return tuple(built)


def _refuse_half_precision(read: Mapping[str, Any]) -> None:
    """Refuses `bf16` where nothing computes in it, with the ways out."""
    if read.get("bf16") and not read.get("use_cpu") and not is_torch_bf16_gpu_available():
        raise ArgumentsError(
            "bf16 is true, but no GPU here computes in bfloat16; add --bf16 false to train in float32, or "
            "--use_cpu true for bfloat16 on the CPU"
        )


def coerce(value: Any, hint: Any, name: str) -> Any:
    """Returns `value` as the type `hint`, or raises; only lossless readings are allowed ("1e-4" is a float).

    Raises:
        ArgumentsError: Naming `name`, the value and the type.
    """
    for option in _options(hint):
        found = _read(value, option, name)
        if found is not MISSING:
            return found
    wanted = join_words(dict.fromkeys(name for option in _options(hint) for name in _type_names(option)))
    quoting = "; YAML reads a bare no, yes, on or off as a truth value: quote it" if isinstance(value, bool) else ""
    shown = "null" if value is None else f"{value!r} ({describe_kind(value)})"
    raise ArgumentsError(f"{name} is {shown}; it must be {wanted}{quoting}")


def join_words(words: Iterable[str]) -> str:
    """Joins words as in a sentence.

    >>> join_words(["a", "b", "c"])
    'a, b or c'
    """
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last


def describe_kind(value: Any) -> str:
    """Returns what a value of a configuration is, in the words of YAML."""
    if value is None:
        return "nothing"
    kinds = {bool: "truth value", str: "text", int: "whole number", float: "number", dict: "mapping", list: "list"}
    return next((word for kind, word in kinds.items() if isinstance(value, kind)), type(value).__name__)


def _options(hint: Any) -> list[Any]:
    """Returns the alternatives of a union: null first, text last, because every token can be read as text."""
    options = list(typing.get_args(hint)) if typing.get_origin(hint) in (Union, types.UnionType) else [hint]
    return sorted(options, key=lambda o: (o is not type(None), o is str))


def _read(value: Any, hint: Any, name: str) -> Any:
    """Returns `value` as the plain type `hint`, or MISSING if it is none."""
    origin = typing.get_origin(hint) or hint
    if hint is str:
        return str(value) if isinstance(value, str) else MISSING
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return value if isinstance(value, hint) or value in [m.value for m in hint] else MISSING
    if isinstance(value, _Token):
        value = _parse_token(value, hint)
    if hint is Any:
        return value
    if hint is type(None):
        return None if value is None else MISSING
    if hint is bool:
        return value if isinstance(value, bool) else MISSING
    if hint is int:
        return value if isinstance(value, int) and not isinstance(value, bool) else MISSING
    if hint is float:
        return _read_float(value)
    if origin is Literal:
        return value if value in typing.get_args(hint) else MISSING
    if origin is dict:
        return value if isinstance(value, dict) else MISSING
    if origin in (list, tuple, Sequence):
        if isinstance(value, str) or not isinstance(value, (list, tuple)):
            return MISSING
        inner = (typing.get_args(hint) or (Any,))[0]
        return [coerce(v, inner, f"{name}[{i}]") for i, v in enumerate(value)]
    return value if isinstance(hint, type) and isinstance(value, hint) else MISSING


def _parse_token(token: str, hint: Any) -> Any:
    try:
        value = yaml.load(token, Loader=_UniqueLoader)
    except yaml.YAMLError:
        return str(token)
    origin = typing.get_origin(hint) or hint
    if origin is list and not isinstance(value, list | dict):
        return [_Token(token)]  # a list of one needs no brackets on the command line
    return value


def _read_float(value: Any) -> Any:
    if isinstance(value, bool):
        return MISSING
    if isinstance(value, (int, float)):
        try:
            return float(value)
        except OverflowError:  # a whole number of more than 308 digits
            return MISSING
    # YAML 1.1 reads 1e-4 as text because it lacks a point.
    if isinstance(value, str) and re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", value):
        return float(value)
    return MISSING


def _assign(values: dict[str, Any], key: str, value: Any) -> None:
    """Sets a dotted key; intermediate mappings are made."""
    *path, last = key.split(".")
    at = values
    for part in path:
        at = at.setdefault(part, {})
        if not isinstance(at, dict):
            raise ArgumentsError(f"{key} reaches into {part}, which is no mapping but {at!r}")
    at[last] = value if not path else _plain(value)


def _plain(value: Any) -> Any:
    """Reads a token inside a mapping, where no field gives a type, as YAML does (and 1e-4 as a number)."""
    if isinstance(value, list):
        return [_plain(v) for v in value]
    if not isinstance(value, _Token):
        return value
    number = _read_float(str(value))
    parsed = _parse_token(value, Any)
    return number if isinstance(parsed, str) and number is not MISSING else parsed


def _explain_unknown(key: str, known: Iterable[str], what: str = "argument") -> str:
    near = find_near(key, known)
    hint = f"; did you mean {', '.join(near)}?" if near else "; --help of a recipe lists all"
    return f"unknown {what} {key!r}{hint} (fields of the model belong under model_config)"


_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    dict: "a mapping",
    Any: "anything",
    type(None): "null",
}
_PLURALS = {bool: "truth values", int: "whole numbers", float: "numbers", str: "texts", dict: "mappings"}


def _type_names(hint: Any) -> list[str]:
    """Returns what a type allows, in the words of YAML; of a choice, each of its values."""
    origin, inner = typing.get_origin(hint) or hint, typing.get_args(hint)
    if hint in _WORDS or origin in _WORDS:
        return [_WORDS[hint if hint in _WORDS else origin]]
    if origin is Literal:
        return [str(choice) if choice is not None else "null" for choice in inner]
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return [str(member.value) for member in hint]
    if origin in (list, tuple, Sequence):
        of = _PLURALS.get(typing.get_origin(inner[0]) or inner[0]) if inner else None
        return [f"a list of {of}" if of else "a list"]
    return [getattr(hint, "__name__", str(hint))]


def _documented(classes: Sequence[type[Any]]) -> list[Any]:
    """Returns the dataclasses for the help text; argparse knows no unions of list and dict, which show as text."""
    shown: list[Any] = []
    for cls in classes:
        namespace: dict[str, Any] = {"__doc__": cls.__doc__, "__annotations__": {}}
        told = read_attributes(cls)
        for f in fields(cls):
            if f.init:
                default = f.default if f.default is not MISSING else None
                namespace["__annotations__"][f.name] = str
                text = {"help": told[f.name].replace("%", "%%")} if f.name in told else {}
                namespace[f.name] = field(default=default, metadata=text | dict(f.metadata))
        shown.append(dataclass(type(cls.__name__, (), namespace)))
    return shown


def read_attributes(cls: type[Any]) -> dict[str, str]:
    """Returns what the docstrings of a class and its bases say of attributes: name -> text, in one line each."""
    found: dict[str, str] = {}
    for one in cls.__mro__:
        _, _, listed = inspect.cleandoc(one.__doc__ or "").partition("\nAttributes:\n")
        for entry in re.split(r"\n(?=    \w)", "\n" + listed.split("\n\n")[0]):
            name, colon, text = entry.strip().partition(":")
            if colon and name.isidentifier():
                found.setdefault(name, " ".join(text.split()))
    return found
