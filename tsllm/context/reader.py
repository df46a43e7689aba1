"""A learned reader: a small head on the frozen hidden states of a text gives each mention its role.

Nothing is generated freely. Numbers and moments are copied from the text, and the head may only choose among the roles
that the grammar allows for a mention of that kind, so that whatever it says can be carried out.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tsllm.backbones.trust import check_json
from tsllm.backbones.weights import read_header
from tsllm.context.reading import ALLOWED, ROLES, STATEMENTS, Reading
from tsllm.context.states import EncodedText, TextEncoder
from tsllm.files import replace_folder, write_json

KINDS = tuple(ALLOWED)
WEIGHTS, CONFIG = "model.safetensors", "reader.json"


@dataclass(frozen=True)
class ReaderConfig:
    """Sizes of the head, and the backbone that it was trained on.

    Attributes:
        backbone: Name of the language model.
        backbone_weights: "pretrained", or "spectrum" for random directions with the same singular values.
        num_backbone_layers: Layers of it that run.
        dtype: What it computes in: "float32", or "bfloat16", which halves the time on processors that have it.
        hidden_size: Width of its states.
        d_model: Width of the head.
        num_layers: Layers of the head, which reads in both directions.
        num_heads: Attention heads of each.
        dropout: On the way in and in the layers.
        fingerprint: Tells the backbone's weights from others.
    """

    backbone: str = "smollm2-135m"
    backbone_weights: str = "pretrained"
    num_backbone_layers: int = 8
    dtype: str = "float32"
    hidden_size: int = 576
    d_model: int = 96
    num_layers: int = 2
    num_heads: int = 4
    dropout: float = 0.1
    fingerprint: str = ""

    def __post_init__(self) -> None:
        for f in fields(self):
            value, kind = getattr(self, f.name), type(f.default)
            whole = isinstance(value, int) and not isinstance(value, bool)
            fits = whole if kind is int else isinstance(value, kind) or (kind is float and whole)
            if not fits:
                raise ValueError(f"{f.name} is {value!r}; it must be of type {kind.__name__}")
        for name in ("hidden_size", "d_model", "num_layers", "num_heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.num_backbone_layers < 0:
            raise ValueError(f"num_backbone_layers is {self.num_backbone_layers}; give 0 for all, or a number of them")
        if self.backbone_weights not in ("pretrained", "spectrum"):
            raise ValueError(f"backbone_weights is {self.backbone_weights!r}; choose pretrained or spectrum")
        if self.dtype not in ("float32", "bfloat16"):
            raise ValueError(f"dtype is {self.dtype!r}; choose float32 or bfloat16")
        if self.d_model % self.num_heads or self.d_model % 2:
            raise ValueError(f"d_model ({self.d_model}) must be even and a multiple of num_heads ({self.num_heads})")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; it must lie in [0, 1)")


@dataclass(frozen=True)
class ReaderBatch:
    """Texts as tensors: N texts of T tokens, M mentions, K sentences in all.

    Attributes:
        states: [N, T, d].
        mask: True where there is a token [N, T].
        mention_pool: Row k averages the tokens of mention k over the flattened texts [M, N * T].
        mention_kinds: [M].
        sentence_pool: [K, N * T].
    """

    states: Tensor
    mask: Tensor
    mention_pool: Tensor
    mention_kinds: Tensor
    sentence_pool: Tensor


class ReaderHead(nn.Module):
    """Reads hidden states in both directions and scores roles of mentions and statements of sentences."""

    allowed: Tensor

    def __init__(self, config: ReaderConfig) -> None:
        super().__init__()
        self.config = config
        d = config.d_model
        self.norm = nn.LayerNorm(config.hidden_size)
        self.project = nn.Linear(config.hidden_size, d)
        self.drop = nn.Dropout(config.dropout)
        layer = nn.TransformerEncoderLayer(
            d, config.num_heads, 2 * d, config.dropout, batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, config.num_layers, enable_nested_tensor=False)
        self.kind = nn.Embedding(len(KINDS), d)
        self.role = nn.Sequential(nn.Linear(2 * d, d), nn.GELU(), nn.Linear(d, len(ROLES)))
        self.statement = nn.Sequential(nn.Linear(d, d), nn.GELU(), nn.Linear(d, len(STATEMENTS)))
        allowed = torch.tensor([[role in ALLOWED[kind] for role in ROLES] for kind in KINDS])
        self.register_buffer("allowed", allowed, persistent=False)

    def forward(self, batch: ReaderBatch) -> tuple[Tensor, Tensor]:
        """Returns scores of roles [M, roles], minus infinity where the grammar forbids, and of statements [K, 4]."""
        x = self.drop(self.project(self.norm(batch.states)))  # [N, T, d_model]
        x = x + _build_positions(x.shape[1], x.shape[2])
        x = self.layers(x, src_key_padding_mask=~batch.mask)
        flat = x.flatten(0, 1)  # [N * T, d_model]
        mentions = torch.cat([batch.mention_pool @ flat, self.kind(batch.mention_kinds)], 1)  # [M, 2 * d_model]
        roles = self.role(mentions).masked_fill(~self.allowed[batch.mention_kinds], float("-inf"))
        return roles, self.statement(batch.sentence_pool @ flat)


def _build_positions(length: int, width: int) -> Tensor:
    """Sinusoidal positions [length, width] (Vaswani 2017), at a tenth of their size."""
    rates = torch.exp(-np.log(10000.0) * torch.arange(0, width, 2) / width)
    angles = torch.arange(length)[:, None] * rates
    return 0.1 * torch.stack([angles.sin(), angles.cos()], -1).flatten(1)


def build_batch(encoded: Sequence[EncodedText], readings: Sequence[Reading]) -> ReaderBatch:
    """Pads texts and finds the tokens of their mentions and sentences."""
    length = max(len(e.states) for e in encoded)
    width = encoded[0].states.shape[1]
    states = torch.zeros(len(encoded), length, width)
    mask = torch.zeros(len(encoded), length, dtype=torch.bool)
    mentions, kinds, sentences = [], [], []
    for n, (entry, reading) in enumerate(zip(encoded, readings, strict=True)):
        states[n, : len(entry.states)] = torch.from_numpy(entry.states).float()
        mask[n, : len(entry.states)] = True
        for mention in reading.mentions:
            mentions.append(_find_tokens(entry.offsets, mention.start, mention.end) + n * length)
            kinds.append(KINDS.index(mention.kind))
        sentences += [_find_tokens(entry.offsets, *place) + n * length for place in reading.sentences]
    total = len(encoded) * length
    return ReaderBatch(
        states, mask, _pool(mentions, total), torch.tensor(kinds, dtype=torch.long), _pool(sentences, total)
    )


def _find_tokens(offsets: np.ndarray, start: int, end: int) -> np.ndarray:
    """Returns the tokens that share a character with a place."""
    return np.flatnonzero((offsets[:, 0] < end) & (offsets[:, 1] > start))


def _pool(groups: list[np.ndarray], total: int) -> Tensor:
    pool = torch.zeros(len(groups), total)
    for row, tokens in enumerate(groups):
        pool[row, torch.from_numpy(tokens)] = 1 / max(1, len(tokens))
    return pool


def compute_loss(head: ReaderHead, batch: ReaderBatch, readings: Sequence[Reading]) -> Tensor:
    """Cross-entropy of roles plus that of statements."""
    roles, statements = head(batch)
    wanted = torch.tensor([ROLES.index(role) for r in readings for role in r.roles], dtype=torch.long)
    stated = torch.tensor([STATEMENTS.index(s) for r in readings for s in r.statements], dtype=torch.long)
    loss = F.cross_entropy(statements, stated)
    return loss + F.cross_entropy(roles, wanted) if len(wanted) else loss


class LearnedReader:
    """A frozen language model and its trained head.

    Args:
        encoder: The frozen model.
        head: The trained part.

    Raises:
        ValueError: If the head was trained on other weights.
    """

    def __init__(self, encoder: TextEncoder, head: ReaderHead) -> None:
        if head.config.fingerprint and head.config.fingerprint != encoder.fingerprint:
            raise ValueError(
                f"the reader was trained on weights with fingerprint {head.config.fingerprint}, but the backbone "
                f"{head.config.backbone!r} has {encoder.fingerprint}; load that model or train a new reader"
            )
        self.encoder, self.head = encoder, head.eval()

    @torch.no_grad()
    def read(self, text: str) -> Reading:
        """Gives roles to the mentions of a text.

        Raises:
            ValueError: If the text is longer than the model can read.
        """
        reading = Reading.open(text)
        if not reading.sentences:
            return reading
        roles, statements = self.head(build_batch(self.encoder.encode([text]), [reading]))
        return Reading(
            text, reading.mentions, [ROLES[k] for k in roles.argmax(-1)], reading.sentences,
            [STATEMENTS[k] for k in statements.argmax(-1)],
        )  # fmt: skip

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes the head and what it was trained on into a folder; the backbone is not copied."""
        with replace_folder(folder, (WEIGHTS, CONFIG)) as staging:
            save_file({k: v.contiguous() for k, v in self.head.state_dict().items()}, staging / WEIGHTS)
            write_json(staging / CONFIG, asdict(self.head.config))

    @staticmethod
    def load_head(folder: str | Path) -> ReaderHead:
        """Reads a head; the caller gives it the backbone that `head.config` names.

        Raises:
            FileNotFoundError: If the folder holds no reader.
            OSError: If one of its files is damaged.
            ValueError: If its settings are impossible, or do not fit the weights.
        """
        folder = Path(folder)
        missing = [name for name in (WEIGHTS, CONFIG) if not (folder / name).is_file()]
        if missing:
            raise FileNotFoundError(f"{folder} holds no reader: {', '.join(missing)} missing; train one first")
        given = check_json(folder / CONFIG) or {}
        unknown = sorted(set(given) - {f.name for f in fields(ReaderConfig)})
        if unknown:
            raise ValueError(f"{folder / CONFIG} has unknown settings {unknown}; train the reader again")
        config = ReaderConfig(**given)
        # Sizes are held against the file's before memory is taken for them.
        header = read_header(folder / WEIGHTS)
        largest = max(config.hidden_size, config.d_model, config.num_layers)
        if largest > max(header.largest, len(header.shapes)):
            raise ValueError(f"{folder / CONFIG} asks for a size of {largest}, which {WEIGHTS} does not hold")
        with torch.device("meta"):
            wanted = {name: tuple(t.shape) for name, t in ReaderHead(config).state_dict().items()}
        if wanted != header.shapes:
            wrong = sorted(k for k in {*wanted, *header.shapes} if wanted.get(k) != header.shapes.get(k))
            raise ValueError(f"{folder / WEIGHTS} does not fit {CONFIG}: {wrong[0]} has another shape or is missing")
        head = ReaderHead(config)
        head.load_state_dict(load_file(folder / WEIGHTS))
        return head
