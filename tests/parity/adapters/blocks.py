"""Parity adapters of gates and convolutions."""

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.parity.golden import Case
from tests.parity.loading import Outputs, State, fold_nodes, load_renamed, read_kwargs, unfold_nodes
from tsllm.nn.attention.additive import AdditiveAttention
from tsllm.nn.conv.gated_tanh import GatedTanh, MultiScaleGatedTanh
from tsllm.nn.conv.inception import DilatedInception, GatedInception
from tsllm.nn.conv.local import LocalRepresentation
from tsllm.nn.conv.padded import PaddedConv
from tsllm.nn.gating.cbam import Cbam
from tsllm.nn.gating.channel import PooledChannelGate, SqueezeExcitation
from tsllm.nn.gating.coordinate import CoordinateAttention
from tsllm.nn.gating.dual import ChannelAffinity, PositionAttention
from tsllm.nn.gating.fusion import SelectiveFusion
from tsllm.nn.gating.selective_kernel import SelectiveKernel
from tsllm.nn.gating.spatial import SpatialGate
from tsllm.nn.gating.triplet import FaceGate, TripletAttention


def squeeze_excitation(case: Case) -> Outputs:
    args = read_kwargs(case, reduction=16)
    block = SqueezeExcitation(args["channel"], args["reduction"])
    load_renamed(block, case.state, {"fc.0": "squeeze", "fc.2": "excite"})
    return {"y": block(case.inputs["x"])}


def _make_divisible(value: float, divisor: int, round_limit: float) -> int:
    """Nearest multiple of the divisor, at least one of it and not below `round_limit` of the value (timm's rule)."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < round_limit * value else rounded


def _cbam_hidden(args: dict) -> int:
    return args["rd_channels"] or _make_divisible(args["channels"] * args["rd_ratio"], args["rd_divisor"], 0.0)


CBAM_DEFAULTS = {"rd_ratio": 1 / 16, "rd_channels": None, "rd_divisor": 1, "mlp_bias": False, "spatial_kernel_size": 7}


def cbam(case: Case) -> Outputs:
    args = read_kwargs(case, **CBAM_DEFAULTS)
    kernel = args["spatial_kernel_size"]
    block = Cbam(args["channels"], d_hidden=_cbam_hidden(args), bias=args["mlp_bias"], kernel_size=kernel, dims=2)
    names = {
        "channel.fc1": "channel.mlp.0",
        "channel.fc2": "channel.mlp.2",
        "spatial.conv.conv": "spatial.conv",
        "spatial.conv.bn": "spatial.norm.norm",
    }
    return {"y": load_renamed(block, case.state, names)(case.inputs["x"])}


def cbam_channel(light: bool, prefix: str = ""):
    def run(case: Case) -> Outputs:
        args = read_kwargs(case, **CBAM_DEFAULTS)
        block = PooledChannelGate(args["channels"], d_hidden=_cbam_hidden(args), bias=args["mlp_bias"], light=light)
        names = {f"{prefix}fc1": "mlp.0", f"{prefix}fc2": "mlp.2"}
        return {"y": load_renamed(block, case.state, names)(case.inputs["x"])}

    return run


def _spread_over_both_pools(state: State, prefix: str) -> State:
    """The light form convolves the mean of both maps; ours convolves both, here with half the weight each."""
    name = f"{prefix}conv.conv.weight"
    return {**state, name: state[name].repeat(1, 2, 1, 1) / 2}


def cbam_spatial(light: bool):
    def run(case: Case) -> Outputs:
        block = SpatialGate(kernel_size=read_kwargs(case, kernel_size=7)["kernel_size"], dims=2)
        state = _spread_over_both_pools(case.state, "") if light else case.state
        return {"y": load_renamed(block, state, {"conv.conv": "conv", "conv.bn": "norm.norm"})(case.inputs["x"])}

    return run


def cbam_light(case: Case) -> Outputs:
    """The light channel gate, then the light spatial one."""
    passed = cbam_channel(True, "channel.")(case)["y"]
    kernel = read_kwargs(case, **CBAM_DEFAULTS)["spatial_kernel_size"]
    state = _spread_over_both_pools(case.state, "spatial.")
    names = {"spatial.conv.conv": "conv", "spatial.conv.bn": "norm.norm"}
    return {"y": load_renamed(SpatialGate(kernel_size=kernel, dims=2), state, names)(passed)}


def _selective_hidden(args: dict, outputs: int) -> int:
    return args["rd_channels"] or _make_divisible(outputs * args["rd_ratio"], args["rd_divisor"], 0.9)


def selective_kernel(case: Case) -> Outputs:
    args = read_kwargs(
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
    load_renamed(block, case.state, names)
    weights = block.fusion.compute_weights(block.compute_branches(case.inputs["x"]))  # [m, B, C, 1, 1]
    return {"y": block(case.inputs["x"]), "weights": weights.transpose(0, 1)}


def selective_weights(case: Case) -> Outputs:
    """The weights of the branches alone, from branches [B, paths, C, H, W]."""
    args = read_kwargs(case, num_paths=2, attn_channels=32)
    block = SelectiveFusion(args["channels"], args["num_paths"], args["attn_channels"])
    load_renamed(block, case.state, {"fc_reduce": "squeeze", "bn": "norm.norm", "fc_select": "select"})
    weights = block.compute_weights(case.inputs["x"].unbind(1)).transpose(0, 1)
    return {"y": weights, "weights": weights}


def coordinate(case: Case) -> Outputs:
    args = read_kwargs(case, reduction=32)
    assert args["inp"] == args["oup"], "the reference itself runs only with as many outputs as inputs"
    block = CoordinateAttention(args["inp"], args["reduction"])
    names = {"conv1": "squeeze", "bn1": "norm.norm", "conv_h": "rows", "conv_w": "columns"}
    return {"y": load_renamed(block, case.state, names)(case.inputs["x"])}


def triplet(case: Case) -> Outputs:
    """The class, under the names of the repository's root and under those of its model folder."""
    x = case.inputs["x"]
    block = TripletAttention(x.shape[1], spatial=not read_kwargs(case, no_spatial=False)["no_spatial"])
    names = {}
    faces = {"across_rows": ("cw", "ChannelGateH"), "across_columns": ("hc", "ChannelGateW")}
    for ours, (root, folder) in (faces | {"across_channels": ("hw", "SpatialGate")}).items():
        for theirs in (f"{root}.conv", f"{folder}.spatial"):
            names |= {f"{theirs}.conv": f"{ours}.conv", f"{theirs}.bn": f"{ours}.norm.norm"}
    return {"y": load_renamed(block, case.state, names)(x)}


def face_gate(case: Case) -> Outputs:
    names = {"spatial.conv": "conv", "spatial.bn": "norm.norm"}
    return {"y": load_renamed(FaceGate(kernel_size=7), case.state, names)(case.inputs["x"])}


def position_attention(case: Case) -> Outputs:
    channels = read_kwargs(case)["in_dim"]
    block = PositionAttention(channels, channels // 8)
    names = {"query_conv": "query", "key_conv": "key", "value_conv": "value", "gamma": "gamma"}
    return {"y": load_renamed(block, case.state, names)(case.inputs["x"])}


def channel_affinity(case: Case) -> Outputs:
    block = ChannelAffinity(read_kwargs(case)["in_dim"])
    return {"y": load_renamed(block, case.state, {"gamma": "gamma"})(case.inputs["x"])}


LOCAL = {"dwconv": "depthwise", "norm": "norm.norm", "pwconv1": "up", "pwconv2": "down", "layer_scale": "scale"}
ADDITIVE = {"to_query": "query", "to_key": "key", "w_g": "weight", "Proj": "mix", "final": "out"}


def local_representation(case: Case) -> Outputs:
    args = read_kwargs(case, kernel_size=3, use_layer_scale=True, hidden_dim=None)
    hidden = args["hidden_dim"] or (64 if case.key[1] == "ConvEncoder" else None)
    block = LocalRepresentation(args["dim"], args["kernel_size"], hidden, args["use_layer_scale"], dims=2)
    return {"y": load_renamed(block, case.state, LOCAL)(case.inputs["x"])}


def additive(case: Case) -> Outputs:
    args = read_kwargs(case, in_dims=512, token_dim=256, num_heads=2)
    block = AdditiveAttention(args["in_dims"], args["num_heads"], args["token_dim"])
    return {"y": load_renamed(block, case.state, ADDITIVE)(case.inputs["x"])}


def swiftformer_encoder(case: Case) -> Outputs:
    """Our local representation and additive attention; norm and pointwise maps around them are torch's own."""
    args = read_kwargs(case, mlp_ratio=4.0, use_layer_scale=True)
    width, state, x = args["dim"], case.state, case.inputs["x"]
    local = LocalRepresentation(width, 3, None, True, dims=2)
    x = load_renamed(local, state, {f"local_representation.{k}": v for k, v in LOCAL.items()})(x)
    attention = AdditiveAttention(width, 1, width)
    load_renamed(attention, state, {f"attn.{k}": v for k, v in ADDITIVE.items()})
    mixed = attention(x.flatten(2).transpose(1, 2)).transpose(1, 2).unflatten(2, x.shape[2:])
    one = torch.ones(1)
    x = x + state.get("layer_scale_1", one) * mixed
    norm = (state[f"linear.norm1.{name}"] for name in ("running_mean", "running_var", "weight", "bias"))
    hidden = F.gelu(_pointwise(state, "linear.fc1", F.batch_norm(x, *norm)))
    return {"y": x + state.get("layer_scale_2", one) * _pointwise(state, "linear.fc2", hidden)}


def dilated_convolution(case: Case) -> Outputs:
    args = read_kwargs(case, dilation_factor=2)
    block = PaddedConv(args["cin"], args["cout"], 7, args["dilation_factor"], "none")
    x = case.inputs["x"]
    return {"y": unfold_nodes(load_renamed(block, case.state, {"tconv": "conv"})(fold_nodes(x)), x.shape[2])}


def _branch_names(prefix: str, ours: str, count: int = 4) -> dict[str, str]:
    return {f"{prefix}tconv.{index}": f"{ours}branches.{index}.conv" for index in range(count)}


def dilated_inception(case: Case) -> Outputs:
    args = read_kwargs(case, dilation_factor=2)
    width = args["cout"] // 4 * 4  # what the reference does not lose
    block = DilatedInception(args["cin"], dilation=args["dilation_factor"], padding="none", num_outputs=width)
    load_renamed(block, case.state, _branch_names("", ""))
    x = case.inputs["x"]
    return {"y": unfold_nodes(block(fold_nodes(x)), x.shape[2])}


def _pointwise(state: State, name: str, x: Tensor) -> Tensor:
    return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"])


def gated_inception_network(case: Case) -> Outputs:
    """The temporal network around our gated inception: ours computes every `gated.k`, plain maps the rest."""
    args = read_kwargs(case, dilation_exponential=1, conv_channels=32, residual_channels=32, layers=3)
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
        gated = unfold_nodes(load_renamed(block, state, names)(fold_nodes(x)), x.shape[2])
        outputs[f"gated.{index}"] = gated
        skip = skip + _pointwise(state, f"skip_convs.{index}", gated)
        x = _pointwise(state, f"residual_convs.{index}", gated) + x[..., -gated.shape[3] :]
        weight, bias = state.get(f"norm.{index}.weight"), state.get(f"norm.{index}.bias")
        x = F.layer_norm(x, x.shape[1:], weight, bias, 1e-5)
    y = F.relu(skip + _pointwise(state, "skipE", x))
    outputs["y"] = _pointwise(state, "end_conv_2", F.relu(_pointwise(state, "end_conv_1", y)))
    return outputs


def gated_tanh(case: Case) -> Outputs:
    args = read_kwargs(case, time_strides=1)
    block = GatedTanh(args["in_channels"], args["kernel_size"], padding="none")
    load_renamed(block, case.state, {"con2out": "conv.conv"})
    x = case.inputs["x"]
    y = unfold_nodes(block(fold_nodes(x)), x.shape[2])
    return {"y": y[..., :: args["time_strides"]]}


def multi_scale_gated_tanh(case: Case) -> Outputs:
    """The multi-scale unit alone, fed with what the recorded graph convolution gave it."""
    args = read_kwargs(case)
    x = case.outputs["mgtu_in"]  # [B, C, nodes, T]
    residual = case.inputs["x"].shape[2] != 1
    block = MultiScaleGatedTanh(x.shape[1], args["num_of_timesteps"], residual=residual)
    names = {f"gtu{kernel}.con2out": f"units.{index}.conv.conv" for index, kernel in enumerate((3, 5, 7))}
    load_renamed(block, case.state, names | {"fcmy.0": "linear"})
    series, nodes = fold_nodes(x), x.shape[2]
    scales = block.compute_scales(series)
    outputs = {f"gtu{k}": unfold_nodes(scale, nodes) for k, scale in zip((3, 5, 7), scales, strict=True)}
    outputs["fc"] = unfold_nodes(block.linear(torch.cat(scales, dim=-1)), nodes)
    outputs["mgtu_out"] = unfold_nodes(block(series), nodes)
    return outputs


TIMM = "huggingface/pytorch-image-models"
SWIFT = "Amshaker/SwiftFormer"

ADAPTERS = {
    ("moskomule/senet.pytorch", "SELayer"): squeeze_excitation,
    (TIMM, "CbamModule"): cbam,
    (TIMM, "ChannelAttn"): cbam_channel(light=False),
    (TIMM, "SpatialAttn"): cbam_spatial(light=False),
    (TIMM, "LightCbamModule"): cbam_light,
    (TIMM, "LightChannelAttn"): cbam_channel(light=True),
    (TIMM, "LightSpatialAttn"): cbam_spatial(light=True),
    (TIMM, "SelectiveKernelAttn"): selective_weights,
    (TIMM, "SelectiveKernel"): selective_kernel,
    ("Andrew-Qibin/CoordAttention", "CoordAtt"): coordinate,
    ("landskape-ai/triplet-attention", "TripletAttention"): triplet,
    ("landskape-ai/triplet-attention", "SpatialGate"): face_gate,
    ("junfu1115/DANet", "PAM_Module"): position_attention,
    ("junfu1115/DANet", "CAM_Module"): channel_affinity,
    (SWIFT, "SwiftFormerLocalRepresentation"): local_representation,
    (SWIFT, "ConvEncoder"): local_representation,
    (SWIFT, "EfficientAdditiveAttnetion"): additive,
    (SWIFT, "SwiftFormerEncoder"): swiftformer_encoder,
    ("nnzhan/MTGNN", "dilated_1D"): dilated_convolution,
    ("nnzhan/MTGNN", "dilated_inception"): dilated_inception,
    ("nnzhan/MTGNN", "gtnet"): gated_inception_network,
    ("SYLan2019/DSTAGNN", "GTU"): gated_tanh,
    ("SYLan2019/DSTAGNN", "DSTAGNN_block"): multi_scale_gated_tanh,
}
