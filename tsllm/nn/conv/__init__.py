"""Convolutions over time [B, C, L] -> [B, C, L]."""

from tsllm.nn.channel_block import ChannelBlock
from tsllm.nn.conv.gated_tanh import GatedTanh, MultiScaleGatedTanh
from tsllm.nn.conv.inception import DilatedInception, GatedInception
from tsllm.nn.conv.local import LocalRepresentation
from tsllm.nn.conv.padded import Conv
from tsllm.registry import Registry

CONVS: Registry[type[ChannelBlock]] = Registry(
    "convolution",
    {
        "conv": Conv,
        "inception": DilatedInception,
        "gated_inception": GatedInception,
        "gtu": GatedTanh,
        "mgtu": MultiScaleGatedTanh,
        "local": LocalRepresentation,
    },
)

__all__ = ["CONVS", "ChannelBlock"]
