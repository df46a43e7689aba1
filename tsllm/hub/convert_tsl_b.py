"""Converts reference checkpoints of TimesNet, TimeXer, TimeMixer and Pyraformer.

Each function takes the reference's own arguments and tensors and returns our model with its faults reproduced. Weights
that the reference holds but never uses are named here and left out; any other left-over or missing tensor is an error.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from tsllm.hub.convert_common import (
    LIBRARY,
    count_marks,
    finish,
    read_activation,
    read_lengths,
    read_options,
    rename,
)
from tsllm.models.base import ForecastModel
from tsllm.models.pyraformer import Pyraformer, PyraformerConfig
from tsllm.models.timemixer import TimeMixer, TimeMixerConfig
from tsllm.models.timesnet import TimesNet, TimesNetConfig
from tsllm.models.timexer import TimeXer, TimeXerConfig

PYRAFORMER = "ant-research/Pyraformer"
_POSITIONS = r".*position_embedding\.pe"  # computed tables, the same for every checkpoint
_ATTENTION = [
    (rf"(.*)\.{name}_projection\.(weight|bias)", rf"\1.{name}.\2") for name in ("query", "key", "value", "out")
]


def read_time_embedding(options: Mapping[str, Any]) -> str:
    """Returns our name of the reference's `embed`: anything but `timeF` and `fixed` means learned tables there."""
    return {"timeF": "linear", "fixed": "fixed"}.get(options.get("embed", "timeF"), "learned")


def _embedding_rules(prefix: str, tokens: str, calendar: str) -> list[tuple[str, str]]:
    """Rules for the reference's embedding called `prefix`: our names of its values' part and of its calendar."""
    start = re.escape(prefix)
    return [
        (rf"{start}\.value_embedding\.tokenConv\.(\w+)", rf"{tokens}.conv.\1"),
        (rf"{start}\.temporal_embedding\.embed\.weight", f"{calendar}.weight"),
        (rf"{start}\.temporal_embedding\.(\w+)_embed\.(?:emb\.)?weight", rf"{calendar}.tables.\1.weight"),
    ]


def convert_timexer(meta: Mapping[str, Any], state: Mapping[str, Tensor]) -> ForecastModel:
    """Builds TimeXer from `models.TimeXer.Model`; features `MS` and `S` make the last series the only target."""
    options = read_options(meta)
    all_channels = options.get("features", "M") == "M"
    patch_length, width = options["patch_len"], options["d_model"]
    config = TimeXerConfig(
        **read_lengths(options),
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
        activation=read_activation(options),
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
    return finish(TimeXer, config, renamed)


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
        **read_lengths(options),
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
        *_embedding_rules("enc_embedding", "embedding", "time_embedding"),
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
    return finish(TimeMixer, config, rename(state, rules, unused))


INCEPTION = [  # the two inceptions of a reference block
    (r"(.*\.)?conv\.0\.kernels\.(.*)", r"\g<1>inception.up.branches.\2"),
    (r"(.*\.)?conv\.2\.kernels\.(.*)", r"\g<1>inception.down.branches.\2"),
]


def read_timesnet(options: Mapping[str, Any], num_time_features: int) -> TimesNetConfig:
    """Translates the arguments of `models.TimesNet.Model` and of its block."""
    return TimesNetConfig(
        **read_lengths(options),
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
        *_embedding_rules("enc_embedding", "embedding.tokens", "embedding.calendar"),
        (r"predict_linear\.(\w+)", r"time_map.\1"),
        *INCEPTION,
        (r"model\.(\d+)\.(.*)", r"blocks.\1.\2"),
    ]
    unused = [_POSITIONS] + ([] if config.num_time_features else [r"enc_embedding\.temporal_embedding\..*"])
    return finish(TimesNet, config, rename(state, rules, unused))


_PYRAMID = [  # the coarse-scale construction, the same in the port and in the official code
    (r"encoder\.conv_layers\.conv_layers\.(\d+)\.downConv\.(\w+)", r"construct.convs.\1.conv.\2"),
    (r"encoder\.conv_layers\.conv_layers\.(\d+)\.norm\.(\w+)", r"construct.convs.\1.norm.\2"),
    (r"encoder\.conv_layers\.(up|down|norm)\.(\w+)", r"construct.\1.\2"),
]
_FEED_FORWARD = [
    (r"(.*)\.pos_ffn\.w_1\.(\w+)", r"\1.up.\2"),
    (r"(.*)\.pos_ffn\.w_2\.(\w+)", r"\1.down.\2"),
    (r"(.*)\.pos_ffn\.layer_norm\.(\w+)", r"\1.norm_feed_forward.\2"),
]


def convert_pyraformer(meta: Mapping[str, Any], state: Mapping[str, Tensor]) -> ForecastModel:
    """Builds Pyraformer from `models.Pyraformer.Model`, the library's port.

    Its windows are fixed by the task, unless the recorded arguments give others, and its calendar is always looked up
    in learned tables of integers.
    """
    options = read_options(meta)
    short = options.get("task_name") == "short_term_forecast"
    given = {**options, **meta["constructor"].get("kwargs", {})}
    config = PyraformerConfig(
        **read_lengths(options),
        num_channels=options["enc_in"],
        num_time_features=4 if count_marks(meta) else 0,
        d_model=options["d_model"],
        num_layers=options["e_layers"],
        num_heads=options["n_heads"],
        d_ff=options["d_ff"],
        dropout=options["dropout"],
        window_sizes=[2, 2] if short else list(given.get("window_size", [4, 4])),
        inner_size=given.get("inner_size", 5),
        d_bottleneck=options["d_model"] // 4,
        prediction_token=False,
        attention_residual=False,
        qkv_bias=True,
        instance_norm=short,
        time_embedding="learned",
        reference_quirks=True,
    )
    rules = [
        *_embedding_rules("encoder.enc_embedding", "embedding.tokens", "embedding.calendar"),
        *_PYRAMID,
        *_ATTENTION,
        *_FEED_FORWARD,
        (r"encoder\.layers\.(\d+)\.slf_attn\.(.*)", r"layers.\1.attention.\2"),
        (r"encoder\.(layers\..*)", r"\1"),
    ]
    unused = [_POSITIONS] + ([] if config.num_time_features else [r"encoder\.enc_embedding\.temporal_embedding\..*"])
    renamed = rename(state, rules, unused)
    kernel = renamed.get("embedding.tokens.conv.weight")
    if kernel is not None:  # the port's embedding has no bias
        renamed["embedding.tokens.conv.bias"] = kernel.new_zeros(len(kernel))
    return finish(Pyraformer, config, renamed)


def convert_pyraformer_official(meta: Mapping[str, Any], state: Mapping[str, Tensor]) -> ForecastModel:
    """Builds Pyraformer from `pyraformer.Pyraformer_LR.Model`, the authors' code for long horizons."""
    options = dict(meta["constructor"]["opt"])
    constructions = {
        "Bottleneck_Construct": "bottleneck",
        "Conv_Construct": "conv",
        "MaxPooling_Construct": "max",
        "AvgPooling_Construct": "average",
    }
    windows = options["window_size"]
    windows = json.loads(windows) if isinstance(windows, str) else windows
    custom = options["embed_type"] == "CustomEmbedding"
    construction = constructions[options["CSCM"]]
    config = PyraformerConfig(
        context_length=options["input_size"],
        prediction_length=options["predict_step"],
        num_channels=options["enc_in"],
        num_time_features=options["covariate_size"] + 1 if custom else 4,
        d_model=options["d_model"],
        num_layers=options["n_layer"],
        num_heads=options["n_head"],
        d_ff=options["d_inner_hid"],
        d_key=options["d_k"],
        d_value=options["d_v"],
        dropout=options["dropout"],
        window_sizes=[windows] * 3 if isinstance(windows, int) else list(windows),
        inner_size=options["inner_size"],
        construction=construction,
        d_bottleneck=options["d_bottleneck"] if construction == "bottleneck" else None,
        decoder={"FC": "gather", "attention": "attention"}[options["decoder"]],
        truncate=bool(options["truncate"]) and options["decoder"] == "attention",
        instance_norm=False,
        num_series=options["seq_num"] if custom else 0,
        reference_quirks=True,
    )
    rules: list[tuple[str, str]] = []
    for part, ours in (("encoder.enc_embedding", "embedding"), ("decoder.dec_embedding", "decoder.embedding")):
        rules += _embedding_rules(part, f"{ours}.tokens", f"{ours}.calendar")
        rules += [(rf"{part}\.temporal_embedding\.(weight|bias)", rf"{ours}.calendar.\1")]
        rules += [(rf"{part}\.temporal_embedding\.embed\.bias", f"{ours}.calendar.bias")]
        rules += [(rf"{part}\.seqid_embedding\.weight", f"{ours}.series.weight")]
    short = {"w_qs": "query", "w_ks": "key", "w_vs": "value", "fc": "out"}
    rules += [
        *_PYRAMID,
        *_FEED_FORWARD,
        *((rf"(.*)\.slf_attn\.{name}\.(\w+)", rf"\1.attention.{ours}.\2") for name, ours in short.items()),
        (r"(.*)\.slf_attn\.layer_norm\.(\w+)", r"\1.norm_attention.\2"),
        (r"encoder\.(layers\..*)", r"\1"),
        (r"predictor\.linear\.weight", "projection.weight"),
    ]
    renamed = rename(state, rules, [_POSITIONS])
    for ours in ("embedding", "decoder.embedding"):  # two biases of a sum are one
        second = renamed.pop(f"{ours}.calendar.bias", None)
        if second is not None:
            renamed[f"{ours}.tokens.conv.bias"] = renamed[f"{ours}.tokens.conv.bias"] + second
    predictor = renamed.get("projection.weight")
    if predictor is not None:  # the official predictor has no bias
        renamed["projection.bias"] = predictor.new_zeros(len(predictor))
    return finish(Pyraformer, config, renamed)


CONVERTERS: dict[tuple[str, str], Callable[[Mapping[str, Any], Mapping[str, Tensor]], ForecastModel]] = {
    (LIBRARY, "models.Pyraformer.Model"): convert_pyraformer,
    (PYRAFORMER, "pyraformer.Pyraformer_LR.Model"): convert_pyraformer_official,
    (LIBRARY, "models.TimesNet.Model"): convert_timesnet,
    (LIBRARY, "models.TimeXer.Model"): convert_timexer,
    (LIBRARY, "models.TimeMixer.Model"): convert_timemixer,
}
