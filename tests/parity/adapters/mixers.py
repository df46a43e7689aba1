"""Parity adapters of token mixers and of the pyramid."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.parity.golden import Case
from tests.parity.loading import (
    Outputs,
    State,
    find_option,
    fold_nodes,
    load_renamed,
    read_kwargs,
    split_qkv,
    unfold_nodes,
)
from tsllm.nn.attention.base import merge_heads, split_heads
from tsllm.nn.attention.causal_window import GrowingWindows, WindowAttention
from tsllm.nn.attention.full import FullAttention, compute_scores, softmax_scores
from tsllm.nn.attention.pyramidal import CoarsenConv, CoarseScaleConstruction, PyramidalLayer, build_pyramid
from tsllm.nn.attention.relu_linear import ReluLinearAttention
from tsllm.nn.attention.trend_aware import TrendAwareAttention

ACTIVATIONS = {
    "relu": F.relu,
    "relu6": F.relu6,
    "hswish": F.hardswish,
    "silu": F.silu,
    "gelu": partial(F.gelu, approximate="tanh"),
}  # efficientvit's own names; any other means none


def _fold_norm(state: State, prefix: str) -> State:
    """Folds the batch norm `prefix.norm` of a convolution without activation into its weights."""
    if f"{prefix}.norm.weight" not in state:
        return state
    scale = state[f"{prefix}.norm.weight"] / (state[f"{prefix}.norm.running_var"] + 1e-5).sqrt()
    shift = state[f"{prefix}.norm.bias"] - state[f"{prefix}.norm.running_mean"] * scale
    bias = state.get(f"{prefix}.conv.bias", torch.zeros_like(shift)) * scale + shift
    rest = {k: v for k, v in state.items() if not k.startswith(prefix + ".")}
    weight = state[f"{prefix}.conv.weight"]
    return rest | {f"{prefix}.conv.weight": weight * scale.view(-1, 1, 1, 1), f"{prefix}.conv.bias": bias}


def _pair(value) -> tuple:
    return tuple(value) if isinstance(value, list | tuple) else (value, value)


def relu_linear(case: Case) -> Outputs:
    args = read_kwargs(
        case,
        heads=None,
        heads_ratio=1.0,
        dim=8,
        use_bias=False,
        norm=(None, "bn2d"),
        act_func=(None, None),
        kernel_func="relu",
        scales=(5,),
        eps=1e-15,
    )
    (norm_in, norm_out), (act_in, act_out) = _pair(args["norm"]), _pair(args["act_func"])
    assert args["kernel_func"] == "relu", f"only ReLU features are ours, the case has {args['kernel_func']!r}"
    assert {norm_in, norm_out} <= {None, "bn2d", "ln2d"}, f"norms must be None, bn2d or ln2d, got {args['norm']}"
    x = case.inputs["x"]
    heads = args["heads"] or int(args["in_channels"] // args["dim"] * args["heads_ratio"])
    state = _fold_norm(case.state, "qkv") if norm_in == "bn2d" else case.state
    wants_bias, qkv_bias = "qkv.conv.bias" in state, _pair(args["use_bias"])[0]
    block = ReluLinearAttention(
        args["in_channels"],
        heads,
        args["dim"],
        args["scales"],
        qkv_bias=wants_bias,
        out_bias=_pair(args["use_bias"])[1] and norm_out != "bn2d",
        batch_norm=norm_out == "bn2d",
        num_outputs=args["out_channels"],
        grid=x.shape[2:],
        eps=args["eps"],
    )
    # ours keeps per head q, k, v as three rows of one set, as theirs does: head, then (q, k, v), then width
    names = {"qkv.conv": "qkv", "proj.conv": "out", "proj.norm": "norm.norm"}
    for index in range(len(args["scales"])):
        names |= {
            f"aggreg.{index}.0": f"scales.{index}.depthwise",
            f"aggreg.{index}.1": f"scales.{index}.pointwise",
        }
        if wants_bias and not qkv_bias:  # the folded norm made a bias where the convolutions have none
            width = 3 * heads * args["dim"]
            zeros = {f"aggreg.{index}.{k}.bias": torch.zeros(width) for k in (0, 1)}
            state = state | zeros
    layer_norms = {side: _take_layer_norm(state, f"{side}.norm") for side in ("qkv", "proj")}
    load_renamed(block, {k: v for k, v in state.items() if ".norm." not in k or norm_out == "bn2d"}, names)
    if norm_in == "ln2d" or act_in:
        block.qkv.register_forward_hook(lambda _m, _i, y: _finish(y, layer_norms["qkv"], act_in))
    y = _finish(block(x.flatten(2).transpose(1, 2)), layer_norms["proj"], act_out)
    return {"y": y.transpose(1, 2).unflatten(2, x.shape[2:])}


def _take_layer_norm(state: State, prefix: str) -> tuple[Tensor, Tensor] | None:
    """Weight and bias of a layer norm over channels; None if there is a batch norm or nothing."""
    if f"{prefix}.weight" not in state or f"{prefix}.running_mean" in state:
        return None
    return state[f"{prefix}.weight"], state[f"{prefix}.bias"]


def _finish(y: Tensor, layer_norm: tuple[Tensor, Tensor] | None, activation: str | None) -> Tensor:
    """What follows a pointwise map of tokens [B, L, D]."""
    y = y if layer_norm is None else F.layer_norm(y, y.shape[-1:], *layer_norm)
    return ACTIVATIONS[activation](y) if activation in ACTIVATIONS else y


def _read_segments(case: Case, lengths: dict[str, int]) -> list[tuple[list[int] | None, list[int] | None]]:
    """Which readings of "several joined segments" the case allows, for queries and keys.

    Args:
        case: The case; its call may state `query_multi_segment` and `key_multi_segment`.
        lengths: Steps of "query" and of "key".

    Returns:
        Lengths of the weeks, days and hours of queries and of keys, None for one block. Several readings only if the
        call does not say and the lengths allow them.
    """
    args = read_kwargs(case)
    names = ("num_of_weeks", "num_of_days", "num_of_hours")
    segments = [n for n in (args.get(name, 0) * args.get("points_per_hour", 0) for name in names) if n > 0]
    allowed = []
    for side, length in lengths.items():
        stated = find_option(case.meta, f"{side}_multi_segment")
        fits = len(segments) > 1 and sum(segments) == length
        allowed.append([segments, None] if stated is None and fits else [segments if stated else None])
    # the reference knows no joined queries over one block of keys
    return [(q, k) for q in allowed[0] for k in allowed[1] if q is None or k is not None]


def trend_aware(convolution: str):
    @torch.no_grad()
    def run(case: Case) -> Outputs:
        args = read_kwargs(case, kernel_size=3)
        block = TrendAwareAttention(args["d_model"], args["nb_head"], args["kernel_size"], convolution=convolution)
        names = {"linears.0": "value", "linears.1": "out"}
        names |= {
            "conv1Ds_aware_temporal_context.0": "query.conv",
            "conv1Ds_aware_temporal_context.1": "key.conv",
            "query_conv1Ds_aware_temporal_context": "query.conv",
            "key_conv1Ds_aware_temporal_context": "key.conv",
        }
        load_renamed(block, case.state, names)
        q, k, v = _read_sequences(case)  # [B, nodes, T, D]
        mask = _astgnn_mask(case, q.shape[1])

        def attend(segments) -> Outputs:
            y, maps = block.attend(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), mask, *segments)
            return {"y": y.unflatten(0, q.shape[:2]), "attn": maps.unflatten(0, q.shape[:2])}

        readings = [attend(s) for s in _read_segments(case, {"query": q.shape[2], "key": k.shape[2]})]
        # A call that does not say how it read the sequences is told by what came out.
        return min(readings, key=lambda reading: float((reading["y"] - case.outputs["y"]).abs().max()))

    return run


def _read_sequences(case: Case) -> list[Tensor]:
    """Queries, keys and values; the only input is all three."""
    inputs = {name: x for name, x in case.inputs.items() if name != "mask"}
    if len(inputs) == 1:
        return list(inputs.values()) * 3
    return [inputs.get(name, inputs.get(name[0])) for name in ("query", "key", "value")]


def _astgnn_mask(case: Case, nodes: int) -> Tensor | None:
    """Allowed pairs, [1 or B * nodes, 1, Tq, Tk]; None if the case has no mask."""
    mask = case.inputs.get("mask")
    if mask is None:
        return None
    mask = mask != 0
    return mask.unsqueeze(1) if mask.shape[0] == 1 else mask.repeat_interleave(nodes, dim=0).unsqueeze(1)


def plain_attention(case: Case) -> Outputs:
    """ASTGNN's ordinary attention between three sequences, by the projections of full attention."""
    args = read_kwargs(case)
    block = FullAttention(args["d_model"], args["nb_head"])
    names = {f"linears.{index}": name for index, name in enumerate(("query", "key", "value", "out"))}
    load_renamed(block, case.state, names)
    q, k, v = _read_sequences(case)
    parts = zip((block.query, block.key, block.value), (q, k, v), strict=True)
    queries, keys, values = (split_heads(project(x.flatten(0, 1)), args["nb_head"]) for project, x in parts)
    maps = softmax_scores(compute_scores(queries, keys), _astgnn_mask(case, q.shape[1]))
    y = block.out(merge_heads(maps @ values))
    return {"y": y.unflatten(0, q.shape[:2]), "attn": maps.unflatten(0, q.shape[:2])}


def ct_msa(case: Case) -> Outputs:
    args = read_kwargs(case)
    block = GrowingWindows(
        args["dim"], args["num_time"], args["heads"], [args["window_size"]] * args["depth"], args["mlp_dim"]
    )
    names, state = {"pos_embedding": "positions"}, dict(case.state)
    for index in range(args["depth"]):
        state = split_qkv(
            state, f"layers.{index}.0.qkv", *(f"layers.{index}.0.{n}" for n in ("query", "key", "value"))
        )
        for name in ("query", "key", "value"):
            names[f"layers.{index}.0.{name}"] = f"attentions.{index}.{name}"
        names |= {
            f"layers.{index}.0.proj": f"attentions.{index}.out",
            f"layers.{index}.1.norm": f"feed_forwards.{index}.0",
            f"layers.{index}.1.fn.net.0": f"feed_forwards.{index}.1",
            f"layers.{index}.1.fn.net.3": f"feed_forwards.{index}.4",
        }
    load_renamed(block, state, names)
    x = case.inputs["x"]  # [B, D, nodes, T]
    y = block(fold_nodes(x).transpose(1, 2)).transpose(1, 2)
    return {"y": unfold_nodes(y, x.shape[2])}


def window_attention(case: Case) -> Outputs:
    args = read_kwargs(case, heads=2, window_size=1, qkv_bias=False, qk_scale=None, causal=True)
    x = case.inputs["x"]
    window = args["window_size"] if args["window_size"] > 0 else x.shape[1]
    block = WindowAttention(args["dim"], args["heads"], window, causal=args["causal"], qkv_bias=args["qkv_bias"])
    names = {"query": "query", "key": "key", "value": "value", "proj": "out"}
    state = split_qkv(case.state, "qkv")
    if args["qk_scale"]:  # our scores are always divided by the root of the head width
        factor = args["qk_scale"] * (args["dim"] // args["heads"]) ** 0.5
        state |= {key: state[key] * factor for key in ("query.weight", "query.bias") if key in state}
    return {"y": load_renamed(block, state, names)(x)}


# --- the pyramid ---


def coarse_scales(kind: str):
    def run(case: Case) -> Outputs:
        args = read_kwargs(case)
        windows = args["window_size"]
        windows = list(windows) if isinstance(windows, list | tuple) else [windows] * 3
        bottleneck = args["d_inner"] if kind == "bottleneck" else None
        block = CoarseScaleConstruction(args["d_model"], windows, kind, bottleneck)
        names = {"up": "up", "down": "down", "norm": "norm"}
        for index in range(len(windows)):
            names |= {
                f"conv_layers.{index}.downConv": f"convs.{index}.conv",
                f"conv_layers.{index}.norm": f"convs.{index}.norm",
            }
        return {"y": load_renamed(block, case.state, names)(case.inputs["x"])}

    return run


def pyramid_mask(case: Case) -> Outputs:
    args = read_kwargs(case)
    pyramid = build_pyramid(args["input_size"], args["window_size"], args["inner_size"])
    return {
        "blocked": ~pyramid.allowed(),
        "sizes": torch.tensor(pyramid.sizes),
        "refer": pyramid.ancestors()[None, :, :, None],
    }


def coarsening(case: Case) -> Outputs:
    args = read_kwargs(case)
    block = CoarsenConv(args["c_in"], args["window_size"])
    return {"y": load_renamed(block, case.state, {"downConv": "conv", "norm": "norm"})(case.inputs["x"])}


def refer_points(case: Case) -> Outputs:
    args = read_kwargs(case)
    sizes, windows = args["all_sizes"], args["window_size"]
    refer = build_pyramid(int(sizes[0]), windows, inner_size=1).ancestors()[None, :, :, None]
    return dict.fromkeys(("y", "refer", "indexes"), refer)


def pyramid_decoder_layer(case: Case) -> Outputs:
    """A layer whose queries, keys and values are named Q, K and V; keys and values are one sequence."""
    inputs = {name.lower(): x for name, x in case.inputs.items()}
    assert torch.equal(inputs["k"], inputs["v"]), "our layer reads keys and values from one sequence"
    return pyramid_layer(case, inputs["q"], inputs["k"], inputs.get("mask", inputs.get("slf_attn_mask")))


def pyramid_layer(
    case: Case, x: Tensor | None = None, context: Tensor | None = None, mask: Tensor | None = None
) -> Outputs:
    args = read_kwargs(case, normalize_before=True)
    official = "slf_attn.w_qs.weight" in case.state
    if official:
        block = PyramidalLayer(
            args["d_model"],
            args["n_head"],
            args["d_inner"],
            d_key=args["d_k"],
            d_value=args["d_v"],
            norm_position="query" if args["normalize_before"] else "post",
        )
        projections = {"w_qs": "query", "w_ks": "key", "w_vs": "value", "fc": "out"}
    else:
        position = "pre" if args["normalize_before"] else "post"
        block = PyramidalLayer(
            args["d_model"],
            args["n_head"],
            args["d_inner"],
            norm_position=position,
            attention_residual=False,
            qkv_bias=True,
        )
        projections = {
            f"{name}_projection": ours
            for name, ours in (("query", "query"), ("key", "key"), ("value", "value"), ("out", "out"))
        }
    names = {f"slf_attn.{theirs}": f"attention.{ours}" for theirs, ours in projections.items()}
    names |= {"slf_attn.layer_norm": "norm_attention", "pos_ffn.layer_norm": "norm_feed_forward"}
    names |= {"pos_ffn.w_1": "up", "pos_ffn.w_2": "down"}
    load_renamed(block, case.state, names)
    if x is None:
        x, mask = case.inputs["x"], case.inputs.get("mask")
    y, maps = block.attend(x, None if mask is None else mask == 0, context)
    return {"y": y, "attn": maps}


TSLIB = "thuml/Time-Series-Library"
PYRAFORMER = "ant-research/Pyraformer"
ASTGNN = "guoshnBJTU/ASTGNN"
TREND = "MultiHeadAttentionAwareTemporalContex_"

ADAPTERS = {
    ("mit-han-lab/efficientvit", "LiteMLA"): relu_linear,
    (ASTGNN, f"{TREND}q1d_k1d"): trend_aware("centred"),
    (ASTGNN, f"{TREND}qc_kc"): trend_aware("causal"),
    (ASTGNN, f"{TREND}qc_k1d"): trend_aware("causal_query"),
    (ASTGNN, "MultiHeadAttention"): plain_attention,
    ("yoshall/AirFormer", "CT_MSA"): ct_msa,
    ("yoshall/AirFormer", "TemporalAttention"): window_attention,
    (TSLIB, "layers.Pyraformer_EncDec.get_mask"): pyramid_mask,
    (PYRAFORMER, "pyraformer.Layers.get_mask"): pyramid_mask,
    (TSLIB, "layers.Pyraformer_EncDec.EncoderLayer"): pyramid_layer,
    (PYRAFORMER, "pyraformer.Layers.EncoderLayer"): pyramid_layer,
    (PYRAFORMER, "pyraformer.Layers.DecoderLayer"): pyramid_decoder_layer,
    (PYRAFORMER, "pyraformer.Layers.ConvLayer"): coarsening,
    (PYRAFORMER, "pyraformer.Layers.refer_points"): refer_points,
    (TSLIB, "layers.Pyraformer_EncDec.ConvLayer"): coarsening,
    (TSLIB, "layers.Pyraformer_EncDec.refer_points"): refer_points,
    (TSLIB, "layers.Pyraformer_EncDec.Bottleneck_Construct"): coarse_scales("bottleneck"),
    (PYRAFORMER, "pyraformer.Layers.Bottleneck_Construct"): coarse_scales("bottleneck"),
    (PYRAFORMER, "pyraformer.Layers.Conv_Construct"): coarse_scales("conv"),
    (PYRAFORMER, "pyraformer.Layers.MaxPooling_Construct"): coarse_scales("max"),
    (PYRAFORMER, "pyraformer.Layers.AvgPooling_Construct"): coarse_scales("average"),
}
