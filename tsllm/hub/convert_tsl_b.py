"""Converts reference checkpoints of TimesNet, TimeXer, TimeMixer and Pyraformer.

Each function takes the reference's own arguments and tensors and returns our model with its faults reproduced. Weights
that the reference holds but never uses are named here and left out; any other left-over or missing tensor is an error.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from tsllm.models.base import ForecastConfig, ForecastModel
from tsllm.models.timemixer import TimeMixer, TimeMixerConfig
from tsllm.models.timesnet import TimesNet, TimesNetConfig
from tsllm.models.timexer import TimeXer, TimeXerConfig

LIBRARY = "thuml/Time-Series-Library"
MARKS_PER_FREQUENCY = {"h": 4, "t": 5, "s": 6, "m": 1, "a": 1, "w": 2, "d": 3, "b": 3}
_TASKS = ("long_term_forecast", "short_term_forecast")
_POSITIONS = r".*position_embedding\.pe"  # computed tables, the same for every checkpoint
_ATTENTION = [
    (rf"(.*)\.{name}_projection\.(weight|bias)", rf"\1.{name}.\2") for name in ("query", "key", "value", "out")
]
Rules = Sequence[tuple[str, str]]


def rename(state: Mapping[str, Tensor], rules: Rules, unused: Iterable[str] = ()) -> dict[str, Tensor]:
    """Renames tensors: every rule whose pattern matches the whole name is applied, one after the other.

    Args:
        state: Tensors by the reference's names.
        rules: Regular expressions and replacements.
        unused: Regular expressions of tensors that the reference holds and never uses; they are left out.
    """
    renamed = {}
    for name, tensor in state.items():
        if any(re.fullmatch(pattern, name) for pattern in unused):
            continue
        new = name
        for pattern, replacement in rules:
            new = re.sub(f"^(?:{pattern})$", replacement, new)
        renamed[new] = tensor.float() if tensor.is_floating_point() else tensor
    return renamed


def count_marks(meta: Mapping[str, Any]) -> int:
    """Returns how many calendar columns the model reads: those of the recorded call, else those of its arguments."""
    if "inputs" in meta:
        marks = meta["inputs"].get("x_mark_enc")
        return int(marks["shape"][-1]) if marks else 0
    options = meta["constructor"]["configs"]
    frequency = str(options.get("freq", "h"))[-1:].lower()
    if frequency not in MARKS_PER_FREQUENCY:
        raise ValueError(f"freq {options['freq']!r} is unknown; expected one of {', '.join(MARKS_PER_FREQUENCY)}")
    if options.get("embed", "timeF") == "timeF":
        return MARKS_PER_FREQUENCY[frequency]
    return 5 if frequency == "t" else 4


def read_options(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the reference's arguments of a forecasting model.

    Raises:
        ValueError: If the checkpoint is of another task.
    """
    options = dict(meta["constructor"]["configs"])
    task = options.get("task_name", _TASKS[0])
    if task not in _TASKS:
        raise ValueError(f"task_name {task!r} is no forecasting task; expected one of {list(_TASKS)}")
    return options


def read_time_embedding(options: Mapping[str, Any]) -> str:
    """Returns our name of the reference's `embed`: anything but `timeF` and `fixed` means learned tables there."""
    return {"timeF": "linear", "fixed": "fixed"}.get(options.get("embed", "timeF"), "learned")


def _calendar_rules(prefix: str) -> list[tuple[str, str]]:
    """Rules for the reference's calendar embedding called `prefix`."""
    start = re.escape(prefix)
    return [
        (rf"{start}\.embed\.(weight|bias)", r"time_embedding.\1"),
        (rf"{start}\.(\w+)_embed\.(?:emb\.)?weight", r"time_embedding.tables.\1.weight"),
    ]


def _activation(options: Mapping[str, Any]) -> str:
    return "relu" if options.get("activation", "gelu") == "relu" else "gelu"


def _finish(model_class: type[ForecastModel], config: ForecastConfig, state: dict[str, Tensor]) -> ForecastModel:
    model = model_class(config)
    model.load_trained_state(state, origin="the checkpoint")
    return model.eval()


def convert_timexer(meta: Mapping[str, Any], state: Mapping[str, Tensor]) -> ForecastModel:
    """Builds TimeXer from `models.TimeXer.Model`; features `MS` and `S` make the last series the only target."""
    options = read_options(meta)
    all_channels = options.get("features", "M") == "M"
    patch_length, width = options["patch_len"], options["d_model"]
    config = TimeXerConfig(
        context_length=options["seq_len"],
        prediction_length=options["pred_len"],
        num_channels=options["enc_in"] if all_channels else 1,
        num_covariates=0 if all_channels else options["enc_in"] - 1,
        num_time_features=count_marks(meta),
        patch_length=patch_length,
        d_model=width,
        num_layers=options["e_layers"],
        num_heads=options["n_heads"],
        d_ff=options["d_ff"],
        dropout=options["dropout"],
        head_dropout=options["dropout"],
        activation=_activation(options),
        instance_norm=bool(options["use_norm"]),
        channels_as_exogenous=all_channels,
        reference_quirks=True,
    )
    layer = r"encoder\.layers\.(\d+)\."
    rules = [
        (r"en_embedding\.value_embedding\.weight", "patch_embedding.weight"),
        (r"en_embedding\.glb_token", "global_tokens"),
        (r"ex_embedding\.value_embedding\.(\w+)", r"past_embedding.\1"),
        *_ATTENTION,
        (layer + r"self_attention\.(.*)", r"layers.\1.mixer.\2"),
        (layer + r"cross_attention\.(.*)", r"layers.\1.cross_attention.\2"),
        (layer + r"conv1\.(\w+)", r"layers.\1.feed_forward.up.\2"),
        (layer + r"conv2\.(\w+)", r"layers.\1.feed_forward.down.\2"),
        (layer + r"norm1\.(\w+)", r"layers.\1.norm_mixer.\2"),
        (layer + r"norm2\.(\w+)", r"layers.\1.norm_cross.\2"),
        (layer + r"norm3\.(\w+)", r"layers.\1.norm_feed_forward.\2"),
        (r"encoder\.norm\.(\w+)", r"final_norm.\1"),
        (r"head\.linear\.(\w+)", r"projection.\1"),
    ]
    unused = [_POSITIONS] if config.num_past_exogenous else [_POSITIONS, r"ex_embedding\..*"]
    renamed = rename(state, rules, unused)
    for name, tensor in renamed.items():
        if name.endswith(("feed_forward.up.weight", "feed_forward.down.weight")):
            renamed[name] = tensor.squeeze(-1)  # a convolution of width 1
    if "global_tokens" in renamed:
        renamed["global_tokens"] = renamed["global_tokens"][0, :, 0]  # [C, D]
    if "projection.weight" in renamed:  # the reference flattens [D, P + 1], we flatten [P + 1, D]
        weight = renamed["projection.weight"]
        renamed["projection.weight"] = weight.unflatten(1, (width, -1)).transpose(1, 2).flatten(1)
    return _finish(TimeXer, config, renamed)


def convert_timemixer(meta: Mapping[str, Any], state: Mapping[str, Tensor]) -> ForecastModel:
    """Builds TimeMixer from `models.TimeMixer.Model`.

    Raises:
        ValueError: If the checkpoint down-samples by `conv`, whose weights the reference draws at every call.
    """
    options = read_options(meta)
    methods = {"avg": "average", "max": "max"}
    if options["down_sampling_method"] not in methods:
        raise ValueError(
            f"down_sampling_method {options['down_sampling_method']!r} cannot be converted; the reference runs "
            f"{list(methods)}, and draws the weights of 'conv' anew at every call"
        )
    mixing = not options["channel_independence"]
    num_scales = options["down_sampling_layers"]
    config = TimeMixerConfig(
        context_length=options["seq_len"],
        prediction_length=options["pred_len"],
        num_channels=options["enc_in"],
        num_time_features=count_marks(meta),
        d_model=options["d_model"],
        num_layers=options["e_layers"],
        d_ff=options["d_ff"],
        dropout=options["dropout"],
        decomposition={"moving_avg": "moving_average", "dft_decomp": "dft"}[options["decomp_method"]],
        moving_average=options["moving_avg"],
        top_k=options["top_k"],
        channel_mixing=mixing,
        downsampling_layers=num_scales,
        downsampling_window=options["down_sampling_window"],
        downsampling=methods[options["down_sampling_method"]],
        instance_norm=bool(options["use_norm"]),
        time_embedding=read_time_embedding(options),
        reference_quirks=True,
    )
    block = r"pdm_blocks\.(\d+)\."
    upwards = [  # the reference lists the maps of the trend from the coarsest scale on
        (
            rf"{block}mixing_multi_scale_trend\.up_sampling_layers\.{i}\.(.*)",
            rf"blocks.\1.trend_maps.{num_scales - 1 - i}.\2",
        )
        for i in range(num_scales)
    ]
    rules = [
        (r"enc_embedding\.value_embedding\.tokenConv\.weight", "embedding.conv.weight"),
        *_calendar_rules("enc_embedding.temporal_embedding"),
        (r"normalize_layers\.(\d+)\.affine_(\w+)", r"norms.\1.\2"),
        (block + r"mixing_multi_scale_season\.down_sampling_layers\.(.*)", r"blocks.\1.season_maps.\2"),
        *upwards,
        (block + r"cross_layer\.(.*)", r"blocks.\1.part_map.\2"),
        (block + r"out_cross_layer\.(.*)", r"blocks.\1.out_map.\2"),
        (r"predict_layers\.(.*)", r"time_maps.\1"),
        (r"projection_layer\.(\w+)", r"projection.\1"),
        (r"out_res_layers\.(.*)", r"residual_maps.\1"),
        (r"regression_layers\.(.*)", r"regression_maps.\1"),
    ]
    unused = [_POSITIONS, block + r"layer_norm\.\w+"]
    unused += [block + r"out_cross_layer\..*"] if mixing else []
    unused += [] if config.num_time_features else [r"enc_embedding\.temporal_embedding\..*"]
    unused += [] if config.instance_norm else [r"normalize_layers\..*"]
    return _finish(TimeMixer, config, rename(state, rules, unused))


INCEPTION = [  # the two inceptions of a reference block
    (r"(.*\.)?conv\.0\.kernels\.(.*)", r"\g<1>inception.up.branches.\2"),
    (r"(.*\.)?conv\.2\.kernels\.(.*)", r"\g<1>inception.down.branches.\2"),
]


def read_timesnet(options: Mapping[str, Any], num_time_features: int) -> TimesNetConfig:
    """Translates the arguments of `models.TimesNet.Model` and of its block."""
    return TimesNetConfig(
        context_length=options["seq_len"],
        prediction_length=options["pred_len"],
        num_channels=options["enc_in"],
        num_time_features=num_time_features,
        d_model=options["d_model"],
        num_layers=options["e_layers"],
        d_ff=options["d_ff"],
        top_k=options["top_k"],
        num_kernels=options["num_kernels"],
        dropout=options["dropout"],
        time_embedding=read_time_embedding(options),
        reference_quirks=True,
    )


def convert_timesnet(meta: Mapping[str, Any], state: Mapping[str, Tensor]) -> ForecastModel:
    """Builds TimesNet from `models.TimesNet.Model`."""
    config = read_timesnet(read_options(meta), count_marks(meta))
    rules = [
        (r"enc_embedding\.value_embedding\.tokenConv\.weight", "embedding.conv.weight"),
        *_calendar_rules("enc_embedding.temporal_embedding"),
        (r"predict_linear\.(\w+)", r"time_map.\1"),
        *INCEPTION,
        (r"model\.(\d+)\.(.*)", r"blocks.\1.\2"),
    ]
    unused = [_POSITIONS] + ([] if config.num_time_features else [r"enc_embedding\.temporal_embedding\..*"])
    return _finish(TimesNet, config, rename(state, rules, unused))


CONVERTERS: dict[tuple[str, str], Callable[[Mapping[str, Any], Mapping[str, Tensor]], ForecastModel]] = {
    (LIBRARY, "models.TimesNet.Model"): convert_timesnet,
    (LIBRARY, "models.TimeXer.Model"): convert_timexer,
    (LIBRARY, "models.TimeMixer.Model"): convert_timemixer,
}
