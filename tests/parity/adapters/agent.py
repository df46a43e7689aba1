"""Parity adapters of agent attention: windows (Swin, CSWin), class token (DeiT), joined keys and values (PVT).

All are called `AgentAttention`; a case's tensors and arguments tell which one it is.
"""

import math
import re

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.parity.golden import Case
from tests.parity.loading import Outputs, State, find_option, load_renamed, read_kwargs, split_parts, split_qkv
from tsllm.nn.attention.agent import AgentAttention

NAMES = {"query": "query", "key": "key", "value": "value", "proj": "out", "dwc": "conv", "get_v": "conv"}
NAMES |= {"sr": "reduce.conv", "norm": "reduce.norm", "ac_bias": "bias_gather.classes"}
NAMES |= {"an_bias": "bias_gather.table", "ah_bias": "bias_gather.axes.0", "aw_bias": "bias_gather.axes.1"}
NAMES |= {"na_bias": "bias_hand_out.table", "ha_bias": "bias_hand_out.axes.0", "wa_bias": "bias_hand_out.axes.1"}
NAMES |= {"ca_bias": "bias_hand_out.classes"}
AGENTS_LAST = ("ha_bias", "wa_bias", "ca_bias")  # [1, h, rows, columns, n], ours are [h, n, rows, columns]


def agent_attention(case: Case) -> Outputs:
    args = read_kwargs(case, qkv_bias="qkv.bias" in case.state or "q.bias" in case.state, agent_num=49)
    state = dict(case.state)
    for key in ("ah_bias", "aw_bias"):
        state[key] = state[key][0]  # [h, n, rows, columns]
    for key in AGENTS_LAST:
        if key in state:
            state[key] = state[key][0].movedim(-1, 1).contiguous()
    if "get_v.weight" in state:
        return {"y": _cross_windows(case, args, state)}
    x = case.inputs["x"]
    state = split_parts(split_qkv(state, "qkv"), "kv", ("key", "value"))
    state = {re.sub(r"^q\.", "query.", key): tensor for key, tensor in state.items()}
    class_tokens = state["ac_bias"].shape[-1] if "ac_bias" in state else 0
    ratio = args.get("sr_ratio", 1)
    grid = _find_grid(case, x.shape[1] - class_tokens)
    options = {"num_class_tokens": class_tokens, "reduction": ratio, "grid": grid, "qkv_bias": args["qkv_bias"]}
    if _is_resized(case):
        shape, bias = _resize_biases(state, args, grid), "resized"
        options |= {"table_size": grid, "kernel_size": args.get("kernel_size", 3)}
        _rescale(state, args)
    else:
        shape, bias = args["agent_num"], "full"
    block = AgentAttention(args["dim"], args.get("num_heads", 8), shape, bias=bias, **options)
    return {"y": load_renamed(block, state, NAMES)(x)}


def _find_grid(case: Case, tokens: int) -> tuple[int, int]:
    """Rows and columns of the call; a square if the case does not say."""
    stated = find_option(case.meta, "hw_shape")
    rows, columns = find_option(case.meta, "H"), find_option(case.meta, "W")
    if stated is not None and not isinstance(stated, str):
        rows, columns = stated
    if rows is None:
        pairs = re.findall(r"(\d+)\s*,\s*(\d+)", str(case.meta.get("call", "")))
        rows, columns = next(((int(a), int(b)) for a, b in pairs if int(a) * int(b) == tokens), (None, None))
    if rows is None:
        rows = columns = math.isqrt(tokens)
    assert rows * columns == tokens, f"{tokens} tokens do not fill {rows} rows and {columns} columns"
    return rows, columns


def _is_resized(case: Case) -> bool:
    """Whether the class is that of detection and segmentation, which resizes its biases to the image at hand."""
    args = read_kwargs(case)
    file = str(case.meta["reference"].get("file", ""))
    return "downstream_agent_shape" in args or "input_resolution" in args or "downstream/" in file


def _resize_biases(state: State, args: dict, grid: tuple[int, int]) -> tuple[int, int]:
    """Puts tables of the size of the grid, with the terms per axis in them, for as many agents as the call has."""
    shape = tuple(args.get("downstream_agent_shape", (7, 7)))
    for table, first, second in (("an_bias", "ah_bias", "aw_bias"), ("na_bias", "ha_bias", "wa_bias")):
        parts = state[table], state.pop(first) + state.pop(second)  # [h, n, rows, columns] each
        state[table] = sum(_resize_agents(_resize(part, grid), shape) for part in parts)
    return shape


def _resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear")


def _resize_agents(bias: Tensor, shape: tuple[int, int]) -> Tensor:
    """[h, n, rows, columns] for agents on a square -> [h, n', rows, columns] for agents on `shape`."""
    side, grid = math.isqrt(bias.shape[1]), bias.shape[2:]
    places = bias.flatten(2).transpose(1, 2).unflatten(2, (side, side))  # [h, N, side, side]
    return _resize(places, shape).flatten(2).transpose(1, 2).unflatten(2, grid).contiguous()


def _rescale(state: State, args: dict) -> None:
    """Our scores are divided by the root of the head width; another power goes into queries and keys alike.

    Agents are means of queries, so that the scores of both attentions change by the same factor.
    """
    width = args["dim"] // args.get("num_heads", 8)
    factor = width ** (args.get("scale", -0.5) + 0.5)
    for key in [k for k in state if k.startswith(("query.", "key."))]:
        state[key] = state[key] * factor**0.5


def _cross_windows(case: Case, args: dict, state: State) -> Tensor:
    """Attention inside windows of a square map, between projected queries, keys and values [3, B, N, D]."""
    inputs = case.inputs
    parts = [inputs[k] for k in "qkv"] if "q" in inputs else list(next(iter(inputs.values())))
    side, split = args["resolution"], args.get("split_size", 7)
    window = {-1: (side, side), 0: (side, split), 1: (split, side)}[args["idx"]]
    width = args["dim"]
    block = AgentAttention(width, args.get("num_heads", 8), args["agent_num"], bias="full", grid=window)
    for name in ("query", "key", "value", "proj"):  # not ours to make: the case begins and ends behind them
        state |= {f"{name}.weight": torch.eye(width), f"{name}.bias": torch.zeros(width)}
    load_renamed(block, state, NAMES)
    rows, columns = side // window[0], side // window[1]

    def cut(x: Tensor) -> Tensor:  # [B, N, D] -> [B * windows, tokens, D]
        x = x.unflatten(1, (rows, window[0], columns, window[1]))
        return x.permute(0, 1, 3, 2, 4, 5).flatten(0, 2).flatten(1, 2)

    mixed = block.mix(*(cut(part) for part in parts))[0]
    mixed = mixed.unflatten(0, (-1, rows, columns)).unflatten(3, window)  # [B, rows, columns, h, w, D]
    return mixed.permute(0, 1, 3, 2, 4, 5).flatten(1, 4)


ADAPTERS = {("LeapLabTHU/Agent-Attention", "AgentAttention"): agent_attention}
