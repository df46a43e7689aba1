"""What can stand where the language model stands, to find out whether it helps (Tan 2024, NeurIPS)."""

from torch import Tensor, nn

from tsllm.nn.blocks import build_mixer
from tsllm.nn.encoder import TokenLayerNorm, build_encoder


class AttentionReader(nn.Module):
    """One attention layer over the patches, with a residual and a norm.

    Args:
        d_model: Width d of a token.
        num_heads: Heads.
    """

    def __init__(self, d_model: int, num_heads: int) -> None:
        super().__init__()
        self.attention = build_mixer("full", d_model, num_heads)
        self.norm = TokenLayerNorm(d_model)

    def forward(self, tokens: Tensor) -> Tensor:
        """Reads tokens [N, P, d]."""
        return self.norm(tokens + self.attention(tokens, None))


class BlockReader(nn.Module):
    """One transformer block over the patches.

    Args:
        d_model: Width d of a token.
        num_heads: Heads.
    """

    def __init__(self, d_model: int, num_heads: int) -> None:
        super().__init__()
        self.encoder = build_encoder(1, d_model, num_heads, 4 * d_model)

    def forward(self, tokens: Tensor) -> Tensor:
        """Reads tokens [N, P, d]."""
        return self.encoder(tokens)[0]


def build_reader(name: str, d_model: int, num_heads: int) -> nn.Module | None:
    """Builds a stand-in for the language model; None for `llm`, which needs none."""
    if name == "llm":
        return None
    if name == "none":
        return nn.Identity()
    return AttentionReader(d_model, num_heads) if name == "attention" else BlockReader(d_model, num_heads)
