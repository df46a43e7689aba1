"""Token mixers [B, L, D] -> [B, L, D], one a file; the table names them for configurations."""

from tsllm.nn.attention.base import TokenMixer
from tsllm.nn.attention.full import FullAttention
from tsllm.nn.attention.pyramidal import PyramidalAttention
from tsllm.registry import Registry

ATTENTION: Registry[type[TokenMixer]] = Registry(
    "attention",
    {
        "full": FullAttention,
        "pyramidal": PyramidalAttention,
    },
)

__all__ = ["ATTENTION", "TokenMixer"]
