"""Parity adapters of single blocks: build ours from the case's arguments, load the reference's weights, run."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.parity.golden import Case
from tsllm.nn.attention.additive import AdditiveAttention
from tsllm.nn.attention.agent import AgentAttention
from tsllm.nn.attention.base import merge_heads, split_heads
from tsllm.nn.attention.causal_window import GrowingWindows, WindowAttention
from tsllm.nn.attention.full import FullAttention, compute_scores, softmax_scores
from tsllm.nn.attention.pyramidal import CoarseScaleConstruction, PyramidalLayer, build_pyramid
from tsllm.nn.attention.relu_linear import ReluLinearAttention
from tsllm.nn.attention.trend_aware import TrendAwareAttention
from tsllm.nn.conv.gated_tanh import GatedTanh, MultiScaleGatedTanh
from tsllm.nn.conv.inception import DilatedInception, GatedInception
from tsllm.nn.conv.local import LocalRepresentation
from tsllm.nn.gating.cbam import Cbam
from tsllm.nn.gating.channel import PooledChannelGate, SqueezeExcitation
from tsllm.nn.gating.coordinate import CoordinateAttention
from tsllm.nn.gating.dual import ChannelAffinity, PositionAttention
from tsllm.nn.gating.selective_kernel import SelectiveKernel
from tsllm.nn.gating.spatial import SpatialGate
from tsllm.nn.gating.triplet import TripletAttention

State = dict[str, Tensor]
Outputs = dict[str, Tensor]
TIMM_ACTIVATIONS = {"relu": F.relu, "gelu": F.gelu, "silu": F.silu, None: lambda x: x}


def _kwargs(case: Case, **defaults):
    """The constructor arguments of the case over the reference's defaults."""
    return {**defaults, **case.meta["constructor"].get("kwargs", {})}


def _load(block: nn.Module, state: State, names: dict[str, str]) -> nn.Module:
    """Loads the reference's tensors under our names (their prefix -> ours); every one of ours must be met."""
    found = {}
    for key, tensor in state.items():
        prefix = max((p for p in names if key == p or key.startswith(p + ".")), key=len, default=None)
        if prefix is not None:
            found[names[prefix] + key[len(prefix) :]] = tensor
    own = block.state_dict()
    missing = sorted(key for key in own if key not in found and not key.endswith("num_batches_tracked"))
    assert not missing, f"no reference tensor for {missing}; the case holds {sorted(state)}"
    extra = sorted(set(found) - set(own))
    assert not extra, f"the reference has {extra}, ours has not"
    block.load_state_dict({key: tensor.reshape(own[key].shape) for key, tensor in found.items()}, strict=False)
    return block.eval()


def _split_qkv(state: State, name: str, query: str = "query", key: str = "key", value: str = "value") -> State:
    """Splits one joint projection into three."""
    result = {k: v for k, v in state.items() if not k.startswith(name + ".")}
    for kind in ("weight", "bias"):
        if f"{name}.{kind}" in state:
            for part, tensor in zip((query, key, value), state[f"{name}.{kind}"].chunk(3), strict=True):
                result[f"{part}.{kind}"] = tensor
    return result


def _by_node(x: Tensor) -> Tensor:
    """[B, C, nodes, T] -> [B * nodes, C, T]."""
    return x.transpose(1, 2).flatten(0, 1)


def _to_nodes(x: Tensor, nodes: int) -> Tensor:
    """[B * nodes, C, T] -> [B, C, nodes, T]."""
    return x.unflatten(0, (-1, nodes)).transpose(1, 2)


# --- channel and spatial attention ---


def squeeze_excitation(case: Case) -> Outputs:
    args = _kwargs(case, reduction=16)
    block = SqueezeExcitation(args["channel"], args["reduction"])
    _load(block, case.state, {"fc.0": "squeeze", "fc.2": "excite"})
    return {"y": block(case.inputs["x"])}


def _make_divisible(value: float, divisor: int, round_limit: float) -> int:
    """Nearest multiple of the divisor, at least one of it and not below `round_limit` of the value (timm's rule)."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < round_limit * value else rounded


def _cbam_hidden(args: dict) -> int:
    return args["rd_channels"] or _make_divisible(args["channels"] * args["rd_ratio"], args["rd_divisor"], 0.0)


CBAM_DEFAULTS = {"rd_ratio": 1 / 16, "rd_channels": None, "rd_divisor": 1, "mlp_bias": False, "spatial_kernel_size": 7}


def cbam(case: Case) -> Outputs:
    args = _kwargs(case, **CBAM_DEFAULTS)
    kernel = args["spatial_kernel_size"]
    block = Cbam(args["channels"], d_hidden=_cbam_hidden(args), bias=args["mlp_bias"], kernel_size=kernel, dims=2)
    names = {
        "channel.fc1": "channel.mlp.0",
        "channel.fc2": "channel.mlp.2",
        "spatial.conv.conv": "spatial.conv",
        "spatial.conv.bn": "spatial.norm.norm",
    }
    return {"y": _load(block, case.state, names)(case.inputs["x"])}


def cbam_channel(case: Case) -> Outputs:
    args = _kwargs(case, **CBAM_DEFAULTS)
    block = PooledChannelGate(args["channels"], d_hidden=_cbam_hidden(args), bias=args["mlp_bias"])
    return {"y": _load(block, case.state, {"fc1": "mlp.0", "fc2": "mlp.2"})(case.inputs["x"])}


def cbam_spatial(case: Case) -> Outputs:
    block = SpatialGate(kernel_size=_kwargs(case, kernel_size=7)["kernel_size"], dims=2)
    return {"y": _load(block, case.state, {"conv.conv": "conv", "conv.bn": "norm.norm"})(case.inputs["x"])}


def _selective_hidden(args: dict, outputs: int) -> int:
    return args["rd_channels"] or _make_divisible(outputs * args["rd_ratio"], args["rd_divisor"], 0.9)


def selective_kernel(case: Case) -> Outputs:
    args = _kwargs(
        case,
        out_channels=None,
        kernel_size=None,
        dilation=1,
        groups=1,
        rd_ratio=1 / 16,
        rd_channels=None,
        rd_divisor=8,
        keep_3x3=True,
        split_input=True,
        stride=1,
    )
    assert args["stride"] == 1, "a selective kernel keeps its input's size; stride must be 1"
    outputs = args["out_channels"] or args["in_channels"]
    kernels = args["kernel_size"] or [3, 5]
    block = SelectiveKernel(
        args["in_channels"],
        kernels if isinstance(kernels, list) else [kernels] * 2,
        dilated=args["keep_3x3"],
        split_input=args["split_input"],
        groups=args["groups"],
        dilation=args["dilation"],
        d_hidden=_selective_hidden(args, outputs),
        num_outputs=outputs,
        dims=2,
    )
    names = {"attn.fc_reduce": "fusion.squeeze", "attn.bn": "fusion.norm.norm", "attn.fc_select": "fusion.select"}
    for index in range(len(block.branches)):
        names[f"paths.{index}.conv"] = f"branches.{index}.conv"
        names[f"paths.{index}.bn"] = f"branches.{index}.norm.norm"
    _load(block, case.state, names)
    weights = block.fusion.compute_weights(block.compute_branches(case.inputs["x"]))  # [m, B, C, 1, 1]
    return {"y": block(case.inputs["x"]), "weights": weights.transpose(0, 1)}


def coordinate(case: Case) -> Outputs:
    args = _kwargs(case, reduction=32)
    assert args["inp"] == args["oup"], "the reference itself runs only with as many outputs as inputs"
    block = CoordinateAttention(args["inp"], args["reduction"])
    names = {"conv1": "squeeze", "bn1": "norm.norm", "conv_h": "rows", "conv_w": "columns"}
    return {"y": _load(block, case.state, names)(case.inputs["x"])}


def triplet(case: Case) -> Outputs:
    x = case.inputs["x"]
    block = TripletAttention(x.shape[1], spatial=not _kwargs(case, no_spatial=False)["no_spatial"])
    names = {}
    for theirs, ours in (("cw", "across_rows"), ("hc", "across_columns"), ("hw", "across_channels")):
        names |= {f"{theirs}.conv.conv": f"{ours}.conv", f"{theirs}.conv.bn": f"{ours}.norm.norm"}
    return {"y": _load(block, case.state, names)(x)}


def position_attention(case: Case) -> Outputs:
    channels = _kwargs(case)["in_dim"]
    block = PositionAttention(channels, channels // 8)
    names = {"query_conv": "query", "key_conv": "key", "value_conv": "value", "gamma": "gamma"}
    return {"y": _load(block, case.state, names)(case.inputs["x"])}


def channel_affinity(case: Case) -> Outputs:
    block = ChannelAffinity(_kwargs(case)["in_dim"])
    return {"y": _load(block, case.state, {"gamma": "gamma"})(case.inputs["x"])}


# --- token mixers ---


def agent_attention(case: Case) -> Outputs:
    args = _kwargs(case, qkv_bias=True, agent_num=49)
    block = AgentAttention(
        args["dim"],
        args["num_heads"],
        args["agent_num"],
        bias="full",
        qkv_bias=args["qkv_bias"],
        grid=args["window_size"],
    )
    state = _split_qkv(case.state, "qkv")
    for key in ("ha_bias", "wa_bias"):  # [1, h, rows, columns, n] -> [h, n, rows, columns]
        state[key] = state[key][0].movedim(-1, 1).contiguous()
    names = {"query": "query", "key": "key", "value": "value", "proj": "out", "dwc": "conv"}
    names |= {"an_bias": "bias_gather.table", "ah_bias": "bias_gather.axes.0", "aw_bias": "bias_gather.axes.1"}
    names |= {"na_bias": "bias_hand_out.table", "ha_bias": "bias_hand_out.axes.0", "wa_bias": "bias_hand_out.axes.1"}
    return {"y": _load(block, state, names)(case.inputs["x"])}


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
    args = _kwargs(
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
    supported = args["kernel_func"] == "relu" and act_in is None and {norm_in, norm_out} <= {None, "bn2d"}
    assert supported, f"only ReLU features, batch norms and no activation on q, k, v are ours: {args}"
    x = case.inputs["x"]
    heads = args["heads"] or int(args["in_channels"] // args["dim"] * args["heads_ratio"])
    state = _fold_norm(case.state, "qkv")
    wants_bias, qkv_bias = "qkv.conv.bias" in state, _pair(args["use_bias"])[0]
    block = ReluLinearAttention(
        args["in_channels"],
        heads,
        args["dim"],
        args["scales"],
        qkv_bias=wants_bias,
        out_bias=_pair(args["use_bias"])[1],
        batch_norm=norm_out == "bn2d",
        num_outputs=args["out_channels"],
        grid=x.shape[2:],
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
    _load(block, state, names)
    y = block(x.flatten(2).transpose(1, 2)).transpose(1, 2).unflatten(2, x.shape[2:])
    return {"y": TIMM_ACTIVATIONS[act_out](y)}


def additive(case: Case) -> Outputs:
    args = _kwargs(case, in_dims=512, token_dim=256, num_heads=2)
    block = AdditiveAttention(args["in_dims"], args["num_heads"], args["token_dim"])
    names = {"to_query": "query", "to_key": "key", "w_g": "weight", "Proj": "mix", "final": "out"}
    return {"y": _load(block, case.state, names)(case.inputs["x"])}


def local_representation(case: Case) -> Outputs:
    args = _kwargs(case, kernel_size=3, use_layer_scale=True, hidden_dim=None)
    hidden = args["hidden_dim"] or (64 if case.key[1] == "ConvEncoder" else None)
    block = LocalRepresentation(args["dim"], args["kernel_size"], hidden, args["use_layer_scale"], dims=2)
    names = {
        "dwconv": "depthwise",
        "norm": "norm.norm",
        "pwconv1": "up",
        "pwconv2": "down",
        "layer_scale": "scale",
    }
    return {"y": _load(block, case.state, names)(case.inputs["x"])}


def _segments(args: dict, length: int) -> list[int]:
    """Lengths of weeks, days and hours in front of `length` tokens."""
    sizes = [args[name] * args["points_per_hour"] for name in ("num_of_weeks", "num_of_days", "num_of_hours")]
    present = [size for size in sizes if size > 0]
    assert sum(present) <= length, f"segments {sizes} do not fit {length} tokens"
    return present


def _option(case: Case, name: str, default: bool = False) -> bool:
    """A call option, wherever the case states it."""
    places = [case.meta, case.meta["constructor"], case.meta["constructor"].get("kwargs", {}), case.meta.get("extra")]
    for key in ("call_kwargs", "options", "forward_kwargs", "call_options"):
        places += [place.get(key) for place in places[:2]]
    for place in places:
        if isinstance(place, dict) and name in place:
            return bool(place[name])
    return default or f"{name}=True" in case.meta.get("call", "").replace(" ", "")


def trend_aware(convolution: str):
    def run(case: Case) -> Outputs:
        args = _kwargs(case, kernel_size=3)
        block = TrendAwareAttention(args["d_model"], args["nb_head"], args["kernel_size"], convolution=convolution)
        names = {"linears.0": "value", "linears.1": "out"}
        names |= {
            "conv1Ds_aware_temporal_context.0": "query.conv",
            "conv1Ds_aware_temporal_context.1": "key.conv",
            "query_conv1Ds_aware_temporal_context": "query.conv",
            "key_conv1Ds_aware_temporal_context": "key.conv",
        }
        _load(block, case.state, names)
        q, k, v = (case.inputs[name] for name in ("q", "k", "v"))  # [B, nodes, T, D]
        query_segments = _segments(args, q.shape[2]) if _option(case, "query_multi_segment") else None
        key_segments = _segments(args, k.shape[2]) if _option(case, "key_multi_segment") else None
        y, maps = block.attend(
            q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), _astgnn_mask(case), query_segments, key_segments
        )
        shape = q.shape[:2]
        return {"y": y.unflatten(0, shape), "attn": maps.unflatten(0, shape)}

    return run


def _astgnn_mask(case: Case) -> Tensor | None:
    """Allowed pairs, [1 or B * nodes, 1, Tq, Tk]; None if the case has no mask."""
    mask = case.inputs.get("mask")
    if mask is None:
        return None
    mask = mask != 0
    nodes = case.inputs["q"].shape[1]
    return mask.unsqueeze(1) if mask.shape[0] == 1 else mask.repeat_interleave(nodes, dim=0).unsqueeze(1)


def plain_attention(case: Case) -> Outputs:
    """ASTGNN's ordinary attention between three sequences, by the projections of full attention."""
    args = _kwargs(case)
    block = FullAttention(args["d_model"], args["nb_head"])
    names = {f"linears.{index}": name for index, name in enumerate(("query", "key", "value", "out"))}
    _load(block, case.state, names)
    q, k, v = (case.inputs[name] for name in ("q", "k", "v"))
    parts = zip((block.query, block.key, block.value), (q, k, v), strict=True)
    queries, keys, values = (split_heads(project(x.flatten(0, 1)), args["nb_head"]) for project, x in parts)
    maps = softmax_scores(compute_scores(queries, keys), _astgnn_mask(case))
    y = block.out(merge_heads(maps @ values))
    return {"y": y.unflatten(0, q.shape[:2]), "attn": maps.unflatten(0, q.shape[:2])}


def ct_msa(case: Case) -> Outputs:
    args = _kwargs(case)
    block = GrowingWindows(
        args["dim"], args["num_time"], args["heads"], [args["window_size"]] * args["depth"], args["mlp_dim"]
    )
    names, state = {"pos_embedding": "positions"}, dict(case.state)
    for index in range(args["depth"]):
        state = _split_qkv(
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
    _load(block, state, names)
    x = case.inputs["x"]  # [B, D, nodes, T]
    y = block(_by_node(x).transpose(1, 2)).transpose(1, 2)
    return {"y": _to_nodes(y, x.shape[2])}


def window_attention(case: Case) -> Outputs:
    args = _kwargs(case, heads=2, window_size=1, qkv_bias=False, qk_scale=None, causal=True)
    assert args["qk_scale"] is None, "the scale of our scores is 1 / sqrt(head width)"
    x = case.inputs["x"]
    window = args["window_size"] if args["window_size"] > 0 else x.shape[1]
    block = WindowAttention(args["dim"], args["heads"], window, causal=args["causal"], qkv_bias=args["qkv_bias"])
    names = {"query": "query", "key": "key", "value": "value", "proj": "out"}
    return {"y": _load(block, _split_qkv(case.state, "qkv"), names)(x)}


# --- the pyramid ---


def coarse_scales(kind: str):
    def run(case: Case) -> Outputs:
        args = _kwargs(case)
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
        return {"y": _load(block, case.state, names)(case.inputs["x"])}

    return run


def pyramid_mask(case: Case) -> Outputs:
    args = _kwargs(case)
    pyramid = build_pyramid(args["input_size"], args["window_size"], args["inner_size"])
    return {
        "blocked": ~pyramid.allowed(),
        "sizes": torch.tensor(pyramid.sizes),
        "refer": pyramid.ancestors()[None, :, :, None],
    }


def pyramid_layer(case: Case) -> Outputs:
    args = _kwargs(case, normalize_before=True)
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
    _load(block, case.state, names)
    mask = case.inputs.get("mask")
    y, maps = block.attend(case.inputs["x"], None if mask is None else mask == 0)
    return {"y": y, "attn": maps}


# --- convolutions ---


def _branch_names(prefix: str, ours: str, count: int = 4) -> dict[str, str]:
    return {f"{prefix}tconv.{index}": f"{ours}branches.{index}.conv" for index in range(count)}


def dilated_inception(case: Case) -> Outputs:
    args = _kwargs(case, dilation_factor=2)
    width = args["cout"] // 4 * 4  # what the reference does not lose
    block = DilatedInception(args["cin"], dilation=args["dilation_factor"], padding="none", num_outputs=width)
    _load(block, case.state, _branch_names("", ""))
    x = case.inputs["x"]
    return {"y": _to_nodes(block(_by_node(x)), x.shape[2])}


def _pointwise(state: State, name: str, x: Tensor) -> Tensor:
    return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"])


def gated_inception_network(case: Case) -> Outputs:
    """The temporal network around our gated inception: ours computes every `gated.k`, plain maps the rest."""
    args = _kwargs(case, dilation_exponential=1, conv_channels=32, residual_channels=32, layers=3)
    assert not args["gcn_true"], "graph convolutions are not ours; the case must run with gcn_true=False"
    state, x = case.state, case.inputs["x"]
    growth, layers = args["dilation_exponential"], args["layers"]
    field = 1 + 6 * sum(growth**level for level in range(layers))
    x = F.pad(x, (max(0, field - x.shape[3]), 0))
    skip = _pointwise(state, "skip0", x)
    x = _pointwise(state, "start_conv", x)
    outputs = {}
    for index in range(layers):
        outputs[f"tconv_in.{index}"] = x
        block = GatedInception(
            x.shape[1], dilation=growth**index, padding="none", num_outputs=args["conv_channels"] // 4 * 4
        )
        names = _branch_names(f"filter_convs.{index}.", "extract.") | _branch_names(f"gate_convs.{index}.", "select.")
        gated = _to_nodes(_load(block, state, names)(_by_node(x)), x.shape[2])
        outputs[f"gated.{index}"] = gated
        skip = skip + _pointwise(state, f"skip_convs.{index}", gated)
        x = _pointwise(state, f"residual_convs.{index}", gated) + x[..., -gated.shape[3] :]
        weight, bias = state.get(f"norm.{index}.weight"), state.get(f"norm.{index}.bias")
        x = F.layer_norm(x, x.shape[1:], weight, bias, 1e-5)
    y = F.relu(skip + _pointwise(state, "skipE", x))
    outputs["y"] = _pointwise(state, "end_conv_2", F.relu(_pointwise(state, "end_conv_1", y)))
    return outputs


def gated_tanh(case: Case) -> Outputs:
    args = _kwargs(case, time_strides=1)
    block = GatedTanh(args["in_channels"], args["kernel_size"], padding="none")
    _load(block, case.state, {"con2out": "conv.conv"})
    x = case.inputs["x"]
    y = _to_nodes(block(_by_node(x)), x.shape[2])
    return {"y": y[..., :: args["time_strides"]]}


def multi_scale_gated_tanh(case: Case) -> Outputs:
    """The multi-scale unit alone, fed with what the recorded graph convolution gave it."""
    args = _kwargs(case)
    x = case.outputs["mgtu_in"]  # [B, C, nodes, T]
    residual = case.inputs["x"].shape[2] != 1
    block = MultiScaleGatedTanh(x.shape[1], args["num_of_timesteps"], residual=residual)
    names = {f"gtu{kernel}.con2out": f"units.{index}.conv.conv" for index, kernel in enumerate((3, 5, 7))}
    _load(block, case.state, names | {"fcmy.0": "linear"})
    series, nodes = _by_node(x), x.shape[2]
    scales = block.compute_scales(series)
    outputs = {f"gtu{k}": _to_nodes(scale, nodes) for k, scale in zip((3, 5, 7), scales, strict=True)}
    outputs["fc"] = _to_nodes(block.linear(torch.cat(scales, dim=-1)), nodes)
    outputs["mgtu_out"] = _to_nodes(block(series), nodes)
    return outputs


TSLIB = "thuml/Time-Series-Library"
PYRAFORMER = "ant-research/Pyraformer"
TIMM = "huggingface/pytorch-image-models"
SWIFT = "Amshaker/SwiftFormer"
ASTGNN = "guoshnBJTU/ASTGNN"
TREND = "MultiHeadAttentionAwareTemporalContex_"

ADAPTERS = {
    ("moskomule/senet.pytorch", "SELayer"): squeeze_excitation,
    (TIMM, "CbamModule"): cbam,
    (TIMM, "ChannelAttn"): cbam_channel,
    (TIMM, "SpatialAttn"): cbam_spatial,
    (TIMM, "SelectiveKernel"): selective_kernel,
    ("Andrew-Qibin/CoordAttention", "CoordAtt"): coordinate,
    ("landskape-ai/triplet-attention", "TripletAttention"): triplet,
    ("junfu1115/DANet", "PAM_Module"): position_attention,
    ("junfu1115/DANet", "CAM_Module"): channel_affinity,
    ("LeapLabTHU/Agent-Attention", "AgentAttention"): agent_attention,
    ("mit-han-lab/efficientvit", "LiteMLA"): relu_linear,
    (SWIFT, "EfficientAdditiveAttnetion"): additive,
    (SWIFT, "SwiftFormerLocalRepresentation"): local_representation,
    (SWIFT, "ConvEncoder"): local_representation,
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
    (TSLIB, "layers.Pyraformer_EncDec.Bottleneck_Construct"): coarse_scales("bottleneck"),
    (PYRAFORMER, "pyraformer.Layers.Bottleneck_Construct"): coarse_scales("bottleneck"),
    (PYRAFORMER, "pyraformer.Layers.Conv_Construct"): coarse_scales("conv"),
    (PYRAFORMER, "pyraformer.Layers.MaxPooling_Construct"): coarse_scales("max"),
    (PYRAFORMER, "pyraformer.Layers.AvgPooling_Construct"): coarse_scales("average"),
    ("nnzhan/MTGNN", "dilated_inception"): dilated_inception,
    ("nnzhan/MTGNN", "gtnet"): gated_inception_network,
    ("SYLan2019/DSTAGNN", "GTU"): gated_tanh,
    ("SYLan2019/DSTAGNN", "DSTAGNN_block"): multi_scale_gated_tanh,
}
