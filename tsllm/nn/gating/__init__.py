"""Gates over channels and positions [B, C, L] or [B, C, H, W], and the fusion of several inputs."""

from tsllm.nn.channel_block import ChannelBlock
from tsllm.nn.gating.cbam import Cbam, CbamMlp
from tsllm.nn.gating.channel import PooledChannelGate, SqueezeExcitation
from tsllm.nn.gating.coordinate import CoordinateAttention
from tsllm.nn.gating.dual import ChannelAffinity, PositionAttention
from tsllm.nn.gating.fusion import ConvexFusion, Fusion, MeanFusion, SelectiveFusion, SigmoidSoftmaxFusion
from tsllm.nn.gating.selective_kernel import SelectiveKernel
from tsllm.nn.gating.self_gate import SelfGate
from tsllm.nn.gating.spatial import SpatialGate
from tsllm.nn.gating.triplet import TripletAttention
from tsllm.registry import Registry

GATES: Registry[type[ChannelBlock]] = Registry(
    "gate",
    {
        "se": SqueezeExcitation,
        "channel_gate": PooledChannelGate,
        "spatial_gate": SpatialGate,
        "cbam": Cbam,
        "cbam_mlp": CbamMlp,
        "selective_kernel": SelectiveKernel,
        "coordinate": CoordinateAttention,
        "triplet": TripletAttention,
        "position": PositionAttention,
        "channel_affinity": ChannelAffinity,
        "self_gate": SelfGate,
    },
)

FUSIONS: Registry[type[Fusion]] = Registry(
    "fusion",
    {
        "convex": ConvexFusion,
        "sigmoid_softmax": SigmoidSoftmaxFusion,
        "selective": SelectiveFusion,
        "mean": MeanFusion,
    },
)

__all__ = ["FUSIONS", "GATES", "ChannelBlock", "Fusion"]
