"""Reprogramming: patches of a series read word prototypes of a language model (Jin 2024, Time-LLM, section 3.1).

The S prototypes P [S, d] are few mixtures of the word embeddings E [V, d]. Three ways to learn them, which reach the
same functions (each class of `PROTOTYPES` is one):

- `mapping`, as published: P = W E + b with a trained W [S, V].
- `direct`: P itself is trained.
- `gram`: P = P0 + Z R with a trained Z and the fixed R = (E'E + 11')^(1/2). A step of gradient descent on W and b
  moves P by the gradient times (E'E + 11'), and so does one on Z, without ever touching the V words.
"""

import math

import torch
from torch import Tensor, nn

from tsllm.nn.attention.full import mix_values
from tsllm.registry import Registry


class MappingPrototypes(nn.Module):
    """Prototypes as trained mixtures of all words, P = W E + b.

    Args:
        words: Word embeddings E [V, d]; they are not kept.
        num_prototypes: S.
    """

    def __init__(self, words: Tensor, num_prototypes: int) -> None:
        super().__init__()
        self.mapping = nn.Linear(words.shape[0], num_prototypes)

    def forward(self, words: Tensor) -> Tensor:
        """Mixes words [V, d] into prototypes [S, d]."""
        return torch.addmm(self.mapping.bias.unsqueeze(1), self.mapping.weight, words.to(self.mapping.weight.dtype))


class DirectPrototypes(nn.Module):
    """Prototypes that are trained themselves, starting where the mapping layer would start.

    Args:
        words: Word embeddings E [V, d]; they are not kept.
        num_prototypes: S.
    """

    def __init__(self, words: Tensor, num_prototypes: int) -> None:
        super().__init__()
        self.prototypes = nn.Parameter(draw_mixtures(words, num_prototypes))

    def forward(self, words: Tensor) -> Tensor:
        """Returns the prototypes [S, d]; `words` are not read."""
        return self.prototypes


class GramPrototypes(nn.Module):
    """Prototypes P0 + Z R, trained through Z, with the preconditioning that the mapping layer has.

    Args:
        words: Word embeddings E [V, d]; only R = (E'E + 11')^(1/2) is kept.
        num_prototypes: S.
    """

    root: Tensor
    initial: Tensor

    def __init__(self, words: Tensor, num_prototypes: int) -> None:
        super().__init__()
        self.coefficients = nn.Parameter(torch.zeros(num_prototypes, words.shape[1]))
        self.register_buffer("initial", draw_mixtures(words, num_prototypes))
        self.register_buffer("root", compute_gram_root(words), persistent=False)

    def forward(self, words: Tensor) -> Tensor:
        """Returns the prototypes [S, d]; `words` are not read."""
        return torch.addmm(self.initial, self.coefficients, self.root)


PROTOTYPES: Registry[type[nn.Module]] = Registry(
    "prototype_mode", {"mapping": MappingPrototypes, "direct": DirectPrototypes, "gram": GramPrototypes}
)


@torch.no_grad()
def draw_mixtures(words: Tensor, num_prototypes: int, chunk: int = 128) -> Tensor:
    """Draws W E + b with W and b as a fresh `nn.Linear(V, S)` has them.

    Args:
        words: E [V, d].
        num_prototypes: S.
        chunk: Prototypes drawn at a time, which bounds the memory for W.

    Returns:
        [S, d], float32.
    """
    words = words.float()
    bound = 1 / math.sqrt(words.shape[0])
    parts = []
    for start in range(0, num_prototypes, chunk):
        count = min(chunk, num_prototypes - start)
        weight = torch.empty(count, words.shape[0], device=words.device).uniform_(-bound, bound)
        bias = torch.empty(count, 1, device=words.device).uniform_(-bound, bound)
        parts.append(torch.addmm(bias, weight, words))
    return torch.cat(parts)  # [S, d]


@torch.no_grad()
def compute_gram_root(words: Tensor) -> Tensor:
    """Computes the symmetric root (E'E + 11')^(1/2) [d, d] in double precision; returned in float32."""
    gram = words.double().T @ words.double() + 1.0  # [d, d]
    values, vectors = torch.linalg.eigh(gram)
    return ((vectors * values.clamp_min(0).sqrt()) @ vectors.T).float()


class Reprogramming(nn.Module):
    """Multi-head cross-attention of patches onto prototypes.

    Each head has its own width `head_width`, which need not be `d_model / num_heads`.

    Args:
        d_model: Width D of a patch.
        num_heads: h.
        head_width: Width w of a head.
        d_source: Width d of a prototype and of the result.
        dropout: Dropout rate on the attention weights.
    """

    def __init__(self, d_model: int, num_heads: int, head_width: int, d_source: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.query = nn.Linear(d_model, num_heads * head_width)
        self.key = nn.Linear(d_source, num_heads * head_width)
        self.value = nn.Linear(d_source, num_heads * head_width)
        self.out = nn.Linear(num_heads * head_width, d_source)

    def project(self, prototypes: Tensor) -> tuple[Tensor, Tensor]:
        """Projects prototypes [S, d] to keys and values, both [h, S, w]; they are the same for every batch."""
        keys = self.key(prototypes).unflatten(-1, (self.num_heads, -1))  # [S, h, w]
        values = self.value(prototypes).unflatten(-1, (self.num_heads, -1))  # [S, h, w]
        return keys.transpose(0, 1), values.transpose(0, 1)

    def forward(self, patches: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Lets patches read prototypes.

        Args:
            patches: [N, P, D].
            keys: [h, S, w] of `project`.
            values: [h, S, w] of `project`.

        Returns:
            [N, P, d].
        """
        queries = self.query(patches).unflatten(-1, (self.num_heads, -1))  # [N, P, h, w]
        # All patches of the batch are queries to one and the same source.
        folded = queries.flatten(0, 1).transpose(0, 1).unsqueeze(0)  # [1, h, N * P, w]
        dropout = self.dropout if self.training else 0.0
        mixed = mix_values(folded, keys.unsqueeze(0), values.unsqueeze(0), dropout=dropout)
        mixed = mixed.squeeze(0).transpose(0, 1).flatten(1)  # [N * P, h * w]
        return self.out(mixed).view(*patches.shape[:2], -1)  # [N, P, d]

    def attend(self, patches: Tensor, keys: Tensor) -> Tensor:
        """Returns the attention weights [N, h, P, S] of `forward`, each row summing to 1 (for plots and checks)."""
        queries = self.query(patches).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # [N, h, P, w]
        return (queries @ keys.transpose(-1, -2) / math.sqrt(keys.shape[-1])).softmax(-1)
