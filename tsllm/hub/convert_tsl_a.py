"""Converts reference checkpoints of DLinear, PatchTST (supervised and self-supervised), iTransformer and UNetTSF.

Each function takes the reference's own arguments and tensors and returns our model. Weights that the reference holds
but never uses are named here and left out; any other left-over or missing tensor is an error.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from tsllm.hub.convert_common import LIBRARY, count_marks, finish, read_activation, read_lengths, read_options, rename
from tsllm.models.base import ForecastModel
from tsllm.models.dlinear import DLinear, DLinearConfig
from tsllm.models.itransformer import ITransformer, ITransformerConfig
from tsllm.models.patchtst import PatchTST, PatchTSTConfig, PatchTSTPretraining, PatchTSTPretrainingConfig
from tsllm.models.unet_tsf import UNetTSF, UNetTSFConfig

PATCHTST_REPO = "yuqinie98/PatchTST"
UNET_REPO = "lichuustc/UnetTSF"
Converter = Callable[[Mapping[str, Any], Mapping[str, Tensor]], ForecastModel]

_ENCODER = r"encoder\.attn_layers\.(\d+)\."
_DEFAULT_STRIDE = 8  # the library's own, which its configurations do not carry
_SSL_DEFAULTS: dict[str, Any] = {
    "n_layers": 3,
    "d_model": 128,
    "n_heads": 16,
    "shared_embedding": True,
    "d_ff": 256,
    "attn_dropout": 0.0,
    "dropout": 0.0,
    "act": "gelu",
    "res_attention": True,
    "pre_norm": False,
    "learn_pe": True,
    "pe": "zeros",
    "head_dropout": 0.0,
    "head_type": "prediction",
    "individual": False,
}


def read_arguments(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments of the constructor beside `configs`, whatever group they stand in."""
    groups = meta["constructor"].items()
    found: dict[str, Any] = {}
    for _, group in sorted((name, g) for name, g in groups if name != "configs" and isinstance(g, Mapping)):
        found |= group
    return found


def stack_channels(state: Mapping[str, Tensor], lists: str) -> dict[str, Tensor]:
    """Stacks the tensors of module lists with one entry a channel.

    Args:
        state: Tensors by the reference's names.
        lists: Regular expression of the lists' names; `<list>.3.weight` is channel 3 of `<list>.weight`.

    Returns:
        The same tensors with each list's entries as one tensor [C, ...].

    Raises:
        ValueError: If channels are missing.
    """
    result: dict[str, Tensor] = {}
    groups: dict[str, dict[int, Tensor]] = {}
    for name, tensor in state.items():
        match = re.fullmatch(rf"({lists})\.(\d+)\.(weight|bias)", name)
        if match is None:
            result[name] = tensor
        else:
            groups.setdefault(f"{match[1]}.{match[3]}", {})[int(match[2])] = tensor
    for name, channels in groups.items():
        if sorted(channels) != list(range(len(channels))):
            raise ValueError(f"the checkpoint holds {name} of the channels {sorted(channels)}; some are missing")
        result[name] = torch.stack([channels[i] for i in range(len(channels))])
    return result


def _library_encoder(prefix: str) -> list[tuple[str, str]]:
    """Rules from the library's encoder layers to ours, which stand under `prefix`."""
    layer = rf"{prefix}layers.\1."
    projections = [
        (_ENCODER + rf"attention\.{name}_projection\.(\w+)", layer + rf"mixer.{name}.\2")
        for name in ("query", "key", "value", "out")
    ]
    return [
        *projections,
        (_ENCODER + r"conv1\.(\w+)", layer + r"feed_forward.up.\2"),
        (_ENCODER + r"conv2\.(\w+)", layer + r"feed_forward.down.\2"),
        (_ENCODER + r"norm1\.(\w+)", layer + r"norm_mixer.\2"),
        (_ENCODER + r"norm2\.(\w+)", layer + r"norm_feed_forward.\2"),
    ]


def _squeeze_convolutions(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Turns the library's convolutions of width 1 [out, in, 1] into linear maps [out, in]."""
    return {
        k: v.squeeze(-1) if k.endswith(("feed_forward.up.weight", "feed_forward.down.weight")) else v
        for k, v in state.items()
    }


def _patches_first(weight: Tensor, width: int) -> Tensor:
    """Reorders a head's columns from the reference's flattened [D, P] to our [P, D]: [..., out, P * D]."""
    return weight.unflatten(-1, (width, -1)).transpose(-1, -2).flatten(-2)


def convert_dlinear(meta: Mapping[str, Any], state: Mapping[str, Tensor]) -> ForecastModel:
    """Builds DLinear from `models.DLinear.Model`; one map a channel is seen from the tensors."""
    options = read_options(meta)
    stacked = stack_channels(state, r"Linear_(?:Seasonal|Trend)")
    rules = [(r"Linear_Seasonal\.(\w+)", r"season.\1"), (r"Linear_Trend\.(\w+)", r"trend.\1")]
    config = DLinearConfig(
        **read_lengths(options),
        num_channels=options["enc_in"],
        moving_average=options["moving_avg"],
        individual=any(re.match(r"Linear_Seasonal\.\d", name) for name in state),
        reference_quirks=True,
    )
    return finish(DLinear, config, rename(stacked, rules))


def convert_patchtst(meta: Mapping[str, Any], state: Mapping[str, Tensor]) -> ForecastModel:
    """Builds PatchTST from `models.PatchTST.Model`.

    Raises:
        ValueError: If patch length and stride do not fit the tensors.
    """
    options = read_options(meta)
    arguments = options | read_arguments(meta)
    patch_length, patch_stride = find_patching(arguments, state)
    config = PatchTSTConfig(
        **read_lengths(options),
        num_channels=options["enc_in"],
        patch_length=patch_length,
        patch_stride=patch_stride,
        d_model=options["d_model"],
        num_layers=options["e_layers"],
        num_heads=options["n_heads"],
        d_ff=options["d_ff"],
        dropout=options["dropout"],
        head_dropout=options["dropout"],
        activation=read_activation(options),
        reference_quirks=True,
    )
    rules = [
        (r"patch_embedding\.value_embedding\.weight", "backbone.embedding.weight"),
        *_library_encoder("backbone.encoder."),
        (r"encoder\.norm\.1\.(\w+)", r"backbone.encoder.final_norm.norm.\1"),
        (r"head\.linear\.(\w+)", r"head.\1"),
    ]
    renamed = _squeeze_convolutions(rename(state, rules, [r".*position_embedding\.pe"]))
    if "head.weight" in renamed:
        renamed["head.weight"] = _patches_first(renamed["head.weight"], config.d_model)
    return finish(PatchTST, config, _add_counters(renamed, r".*final_norm\.norm"))


def find_patching(arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> tuple[int, int]:
    """Returns patch length and stride, from the arguments or else from the tensors.

    Raises:
        ValueError: If the stride is not given and more than one, or none, fits the tensors.
    """
    names = ("patch_embedding.value_embedding.weight", "head.linear.weight")
    lacking = [name for name in names if name not in state]
    if lacking:
        raise ValueError(f"the checkpoint lacks {lacking}; is it one of a PatchTST forecaster?")
    width, length = state[names[0]].shape
    if "stride" in arguments:
        return length, arguments["stride"]
    patches, steps = state[names[1]].shape[1] // width, arguments["seq_len"] - length
    fitting = [stride for stride in range(1, arguments["seq_len"] + 1) if steps // stride + 2 == patches]
    if _DEFAULT_STRIDE in fitting or len(fitting) == 1:
        return length, _DEFAULT_STRIDE if _DEFAULT_STRIDE in fitting else fitting[0]
    raise ValueError(f"{patches} patches of {length} steps fit the strides {fitting}; add `stride` to the arguments")


def _add_counters(state: dict[str, Tensor], norms: str) -> dict[str, Tensor]:
    """Gives batch norms the step counter that old checkpoints lack; no forecast depends on it."""
    result = dict(state)
    for name in state:
        match = re.fullmatch(rf"({norms})\.running_mean", name)
        if match is not None:
            result.setdefault(f"{match[1]}.num_batches_tracked", torch.tensor(0))
    return result


def convert_itransformer(meta: Mapping[str, Any], state: Mapping[str, Tensor]) -> ForecastModel:
    """Builds iTransformer from `models.iTransformer.Model`, which normalises whatever `use_norm` says."""
    options = read_options(meta)
    config = ITransformerConfig(
        **read_lengths(options),
        num_channels=options["enc_in"],
        num_time_features=count_marks(meta),
        d_model=options["d_model"],
        num_layers=options["e_layers"],
        num_heads=options["n_heads"],
        d_ff=options["d_ff"],
        dropout=options["dropout"],
        activation=read_activation(options),
        reference_quirks=True,
    )
    rules = [
        (r"enc_embedding\.value_embedding\.(\w+)", r"embedding.\1"),
        *_library_encoder("encoder."),
        (r"encoder\.norm\.(\w+)", r"encoder.final_norm.\1"),
    ]
    return finish(ITransformer, config, _squeeze_convolutions(rename(state, rules)))


def convert_unet_tsf(meta: Mapping[str, Any], state: Mapping[str, Tensor]) -> ForecastModel:
    """Builds UNetTSF from `models.Time_Unet.Model`; its layer norms are never called."""
    options = dict(meta["constructor"]["configs"])
    stages = options["stage_num"]
    config = UNetTSFConfig(
        **read_lengths(options),
        num_channels=options["enc_in"],
        num_stages=stages,
        pool_kernel=options["stage_pool_kernel"],
        pool_stride=options["stage_pool_stride"],
        pool_padding=options["stage_pool_padding"],
        individual=bool(options["individual"]),
        reference_quirks=True,
    )
    stacked = stack_channels(state, r"(?:down|up)_blocks\.\d+\.Linear_channel")
    # The reference lists the upward maps from the coarsest stage on.
    up = [(rf"up_blocks\.{i}\.Linear_channel\.(\w+)", rf"up.{stages - 2 - i}.\1") for i in range(stages - 1)]
    rules = [
        (r"revin_layer\.affine_(\w+)", r"norm.\1"),
        (r"down_blocks\.(\d+)\.Linear_channel\.(\w+)", r"down.\1.\2"),
        *up,
    ]
    return finish(UNetTSF, config, rename(stacked, rules, [r"(?:down|up)_blocks\.\d+\.ln\.\w+"]))


def convert_patchtst_ssl(meta: Mapping[str, Any], state: Mapping[str, Tensor]) -> ForecastModel:
    """Builds the self-supervised PatchTST: `PatchTSTPretraining` or, with a prediction head, `PatchTST`.

    The reference normalises outside of the model, so the result does not normalise at all; set
    `config.instance_norm` for use with its `RevInCB`.

    Raises:
        ValueError: If its head neither reconstructs nor forecasts.
    """
    options: dict[str, Any] = _SSL_DEFAULTS | read_arguments(meta)
    head = options["head_type"]
    if head not in ("pretrain", "prediction"):
        raise ValueError(f"head_type {head!r} does not forecast; expected 'pretrain' or 'prediction'")
    heads, width = options["n_heads"], options["d_model"]
    covered = options["patch_len"] + options["stride"] * (options["num_patch"] - 1)
    fields: dict[str, Any] = {
        "context_length": meta.get("inputs", {}).get("x", {}).get("shape", [0, covered])[1],
        "num_channels": options["c_in"],
        "patch_length": options["patch_len"],
        "patch_stride": options["stride"],
        "end_padding": False,
        "d_model": width,
        "num_layers": options["n_layers"],
        "num_heads": heads,
        "d_ff": options["d_ff"],
        "dropout": options["dropout"],
        "head_dropout": options["head_dropout"],
        "activation": read_activation(options, "act"),
        "attention": {"type": "full", "dropout": options["attn_dropout"]},
        "residual_attention": options["res_attention"],
        "norm": "batch",  # the reference does not hand its argument `norm` on
        "norm_position": "stream" if options["pre_norm"] else "post",
        "final_norm": "none",
        "positions": "learned" if options["learn_pe"] and options["pe"] is not None else "frozen",
        "embedding_bias": True,
        "individual_embedding": not options["shared_embedding"],
        "instance_norm": bool(options.get("revin", False)),
        "reference_quirks": True,
    }
    renamed = _rename_ssl(state, options)
    if head == "pretrain":
        pretraining = PatchTSTPretrainingConfig(**fields, mask_ratio=options.get("mask_ratio", 0.4))
        return finish(PatchTSTPretraining, pretraining, renamed)
    config = PatchTSTConfig(
        **fields, prediction_length=options["target_dim"], individual_head=bool(options["individual"])
    )
    return finish(PatchTST, config, renamed)


def _rename_ssl(state: Mapping[str, Tensor], options: Mapping[str, Any]) -> dict[str, Tensor]:
    """Renames the tensors of the self-supervised code and puts its attention scale into the queries."""
    width, num_heads = options["d_model"], options["n_heads"]
    head = "reconstruction" if options["head_type"] == "pretrain" else "head"
    layer, ours = r"backbone\.encoder\.layers\.(\d+)\.", r"backbone.encoder.layers.\1."
    rules = [
        (r"backbone\.W_P\.(\w+)", r"backbone.embedding.\1"),
        (r"backbone\.W_pos", "backbone.positions"),
        (layer + r"self_attn\.W_Q\.(\w+)", ours + r"mixer.query.\2"),
        (layer + r"self_attn\.W_K\.(\w+)", ours + r"mixer.key.\2"),
        (layer + r"self_attn\.W_V\.(\w+)", ours + r"mixer.value.\2"),
        (layer + r"self_attn\.to_out\.0\.(\w+)", ours + r"mixer.out.\2"),
        (layer + r"norm_attn\.1\.(\w+)", ours + r"norm_mixer.norm.\2"),
        (layer + r"norm_ffn\.1\.(\w+)", ours + r"norm_feed_forward.norm.\2"),
        (layer + r"ff\.0\.(\w+)", ours + r"feed_forward.up.\2"),
        (layer + r"ff\.3\.(\w+)", ours + r"feed_forward.down.\2"),
        (r"head\.linears?\.(\w+)", rf"{head}.\1"),
    ]
    scale = re.compile(layer + r"self_attn\.sdp_attn\.scale")
    renamed = rename(stack_channels(state, r"backbone\.W_P|head\.linears"), rules, [scale.pattern])
    for name, tensor in state.items():
        match = scale.fullmatch(name)
        if match is None:
            continue
        # A trained scale differs from ours, 1 / sqrt(D / heads).
        factor = tensor.float() * (width // num_heads) ** 0.5
        for kind in ("weight", "bias"):
            query = f"backbone.encoder.layers.{match[1]}.mixer.query.{kind}"
            if query in renamed:
                renamed[query] = renamed[query] * factor
    if "backbone.positions" in renamed:  # one number a patch stands for the whole width
        table = renamed["backbone.positions"].expand(options["num_patch"], width)
        renamed["backbone.positions"] = table.contiguous()
    if "head.weight" in renamed:
        renamed["head.weight"] = _patches_first(renamed["head.weight"], width)
    return _add_counters(renamed, r".*\.norm")


CONVERTERS: dict[tuple[str, str], Converter] = {
    (LIBRARY, "models.DLinear.Model"): convert_dlinear,
    (LIBRARY, "models.PatchTST.Model"): convert_patchtst,
    (LIBRARY, "models.iTransformer.Model"): convert_itransformer,
    (PATCHTST_REPO, "src.models.patchTST.PatchTST"): convert_patchtst_ssl,
    (UNET_REPO, "models.Time_Unet.Model"): convert_unet_tsf,
}
