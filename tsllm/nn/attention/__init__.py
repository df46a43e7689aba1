"""Token mixers [B, L, D] -> [B, L, D], one a file; the table names them for configurations."""

from tsllm.nn.attention.additive import AdditiveAttention
from tsllm.nn.attention.agent import AgentAttention
from tsllm.nn.attention.base import TokenMixer
from tsllm.nn.attention.baselines import Pooling, TimeLinear
from tsllm.nn.attention.causal_window import GrowingWindows, WindowAttention
from tsllm.nn.attention.full import FullAttention
from tsllm.nn.attention.log_sparse import LogSparseAttention
from tsllm.nn.attention.pyramidal import PyramidalAttention
from tsllm.nn.attention.recurrent import GruMixer, LstmMixer
from tsllm.nn.attention.relu_linear import ReluLinearAttention
from tsllm.nn.attention.trend_aware import TrendAwareAttention
from tsllm.registry import Registry

ATTENTION: Registry[type[TokenMixer]] = Registry(
    "attention",
    {
        "full": FullAttention,
        "agent": AgentAttention,
        "relu_linear": ReluLinearAttention,
        "additive": AdditiveAttention,
        "trend_aware": TrendAwareAttention,
        "log_sparse": LogSparseAttention,
        "window": WindowAttention,
        "growing_windows": GrowingWindows,
        "pyramidal": PyramidalAttention,
        "lstm": LstmMixer,
        "gru": GruMixer,
        "pooling": Pooling,
        "time_linear": TimeLinear,
    },
)

__all__ = ["ATTENTION", "TokenMixer"]
