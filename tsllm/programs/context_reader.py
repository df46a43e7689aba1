"""Trains a reader of texts on synthetic pairs: a small head over hidden states that are computed once."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tsllm.context.features import Features, build_features
from tsllm.context.pairs import FOLDS, write_clauses, write_pairs
from tsllm.context.plain import PlainSentence, simplify
from tsllm.context.reader import LearnedReader, ReaderConfig, ReaderHead
from tsllm.context.reading import NONE, ROLES, STATEMENTS, Reading
from tsllm.context.states import TextEncoder
from tsllm.forecasting.readers import open_encoder
from tsllm.hub.record import write_metrics

logger = logging.getLogger(__name__)


@dataclass
class ReaderArguments:
    """Settings of the recipe `train_context_reader`.

    Attributes:
        output_dir: Where the reader goes.
        backbone: Language model: a packaged name, a folder or a Hub id.
        backbone_weights: "pretrained"; "spectrum" for the control with random directions.
        num_backbone_layers: Layers of it that run; 0 = all.
        dtype: What it computes in: "float32", or "bfloat16", which halves the time on processors that have it.
        num_pairs: Synthetic texts of a draw, to train on.
        num_clauses: Short sentences beside them, each about one effect.
        own_texts: Whether each member is trained on a draw of its own, so that the vote averages over texts, too.
        wide: Whether further wordings are trained on (`tsllm.context.wordings_more`).
        fold: Which fifth of the wordings is held out: 4, or 3 for development, where 4 stays unseen, too.
        num_validation: Synthetic texts of wordings held out.
        num_members: Heads that are trained apart and vote.
        confidence: Probability below which a reader keeps silent.
        max_steps: Optimiser steps of each member.
        batch_size: Mentions, and sentences, a step.
        learning_rate: Peak of a one-cycle schedule.
        seed: Of texts, weights and batches.
        cache_gb: Bound of the hidden states kept on disk, gigabytes.
    """

    output_dir: str = field(metadata={"help": "Where the reader goes."})
    backbone: str = "smollm2-135m"
    backbone_weights: str = "pretrained"
    num_backbone_layers: int = 16
    dtype: str = "float32"
    num_pairs: int = 2000
    num_clauses: int = 3200
    own_texts: bool = True
    wide: bool = True
    fold: int = 4
    num_validation: int = 120
    num_members: int = 3
    confidence: float = 0.0
    max_steps: int = 500
    batch_size: int = 256
    learning_rate: float = 2e-3
    seed: int = 0
    cache_gb: float = 2.0

    def __post_init__(self) -> None:
        if self.backbone_weights not in {"pretrained", "spectrum"}:
            raise ValueError(f"backbone_weights is {self.backbone_weights!r}; expected pretrained or spectrum")
        if self.dtype not in {"float32", "bfloat16"}:
            raise ValueError(f"dtype is {self.dtype!r}; expected float32 or bfloat16")
        if self.fold not in FOLDS:
            raise ValueError(f"fold is {self.fold}; choose 4, or 3 for development")
        if not 0 <= self.confidence < 1:
            raise ValueError(f"confidence is {self.confidence}; it must lie in [0, 1)")
        wrong = [
            n
            for n in ("num_pairs", "num_validation", "num_members", "max_steps", "batch_size")
            if getattr(self, n) < 1
        ]
        if wrong:
            raise ValueError(f"{wrong[0]} is {getattr(self, wrong[0])}; it must be at least 1")


@dataclass(frozen=True)
class ToldSentence:
    """A sentence with the roles of its mentions and what it states."""

    plain: PlainSentence
    roles: tuple[str, ...]
    statement: str


@dataclass(frozen=True)
class EncodedSentences:
    """Sentences with what they tell, and their features."""

    sentences: Sequence[ToldSentence]
    features: Features


def run_reader_training(args: ReaderArguments) -> dict[str, Any]:
    """Trains and saves a reader; returns what `metrics.json` says."""
    start = time.perf_counter()
    where = (args.backbone, args.backbone_weights, args.num_backbone_layers, args.dtype)
    encoder = open_encoder(*where, cache_gb=args.cache_gb)
    draws = [encode_sentences(encoder, sentences) for sentences in draw_sentences(args)]
    parts = {
        "seen": write_pairs(args.num_validation, args.seed + 1, fold=args.fold),
        "held_out": write_pairs(args.num_validation, args.seed + 2, held_out=True, fold=args.fold),
    }
    scored = {name: encode_sentences(encoder, collect_sentences(readings)) for name, readings in parts.items()}
    encoding = time.perf_counter() - start
    config = ReaderConfig(
        *where, hidden_size=encoder.width, num_members=args.num_members, confidence=args.confidence,
        fingerprint=encoder.fingerprint,
    )  # fmt: skip
    torch.manual_seed(args.seed)
    head = train_head(config, draws, args)
    reader = LearnedReader(encoder, head)
    metrics: dict[str, Any] = {name: score_reader(head, part) for name, part in scored.items()}
    metrics |= {"steps": args.max_steps, "seed": args.seed, "seconds": time.perf_counter() - start}
    metrics |= {
        "encoding_seconds": encoding,
        "backbone_weights": args.backbone_weights,
        "texts": args.num_pairs,
        "clauses": args.num_clauses,
        "sentences": [len(draw.sentences) for draw in draws],
        "own_texts": args.own_texts,
        "fold": args.fold,
        "wide": args.wide,
    }
    reader.save_pretrained(args.output_dir)
    write_metrics(args.output_dir, metrics)
    return metrics


def _tell(done: int) -> None:
    if done % 512 < 16:
        logger.info("encoded %d sentences", done)


def draw_seeds(seed: int, number: int) -> list[int]:
    """Returns the seeds of `number` draws of texts: `seed` itself, and others that no small seed shares.

    Example:
        >>> draw_seeds(0, 3), draw_seeds(1, 2)
        ([0, 3964924996, 3141116543], [1, 1189033389])
    """
    return [seed] + [int(np.random.SeedSequence((seed, k)).generate_state(1)[0]) for k in range(1, number)]


def draw_sentences(args: ReaderArguments) -> list[list[ToldSentence]]:
    """Returns the training sentences of each member, or those of all in one list."""
    options: dict[str, Any] = {"wide": args.wide, "fold": args.fold}
    return [
        collect_sentences(
            write_pairs(args.num_pairs, seed, **options) + write_clauses(args.num_clauses, seed + 3, **options)
        )
        for seed in draw_seeds(args.seed, args.num_members if args.own_texts else 1)
    ]


def collect_sentences(readings: Sequence[Reading]) -> list[ToldSentence]:
    """Returns the distinct sentences of texts, in order, with the roles of their mentions."""
    found: dict[str, ToldSentence] = {}
    for reading in readings:
        pairs = list(zip(reading.mentions, reading.roles, strict=True))
        for plain, place, statement in zip(simplify(reading), reading.sentences, reading.statements, strict=True):
            roles = tuple(role for m, role in pairs if place[0] <= m.start and m.end <= place[1])
            found.setdefault(plain.text, ToldSentence(plain, roles, statement))
    return list(found.values())


def encode_sentences(encoder: TextEncoder, sentences: Sequence[ToldSentence]) -> EncodedSentences:
    """Computes the features of sentences once, through the encoder's store."""
    plain = [sentence.plain for sentence in sentences]
    return EncodedSentences(sentences, build_features(encoder.encode([p.text for p in plain], _tell), plain))


def train_head(config: ReaderConfig, draws: Sequence[EncodedSentences], args: ReaderArguments) -> ReaderHead:
    """Trains each member of a head by itself, on cross-entropy of roles plus that of statements.

    Args:
        config: Sizes of the head.
        draws: Training sentences, one draw for each member, or one for all.
        args: Steps, sizes of batches, rate and seed.
    """
    head = ReaderHead(config)
    rng = np.random.default_rng(args.seed)
    head.train()
    shared = [*draws] * len(head.members) if len(draws) == 1 else draws
    for number, (member, draw) in enumerate(zip(head.members, shared, strict=True), 1):
        loss = _train_member(member, draw, args, rng)
        logger.info("member %d of %d: %d steps, last loss %.3f", number, config.num_members, args.max_steps, loss)
    return head.eval()


def _train_member(member: nn.Module, draw: EncodedSentences, args: ReaderArguments, rng: np.random.Generator) -> float:
    """Returns the loss of the last step."""
    roles = torch.tensor([ROLES.index(role) for s in draw.sentences for role in s.roles], dtype=torch.long)
    statements = torch.tensor([STATEMENTS.index(s.statement) for s in draw.sentences], dtype=torch.long)
    optimizer = torch.optim.AdamW(member.parameters(), lr=args.learning_rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.learning_rate, total_steps=args.max_steps)
    for _ in range(args.max_steps):
        batch, of_mentions, of_sentences = _draw(draw.features, args.batch_size, rng)
        scored, stated = member(batch)
        loss = F.cross_entropy(scored, roles[of_mentions]) + F.cross_entropy(stated, statements[of_sentences])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return loss.item()


def _draw(features: Features, size: int, rng: np.random.Generator) -> tuple[Features, Tensor, Tensor]:
    """Draws mentions, and sentences, each `size` at most and apart from each other; returns their numbers too."""
    mentions, sentences = (
        torch.from_numpy(rng.choice(len(part), min(size, len(part)), replace=False))
        for part in (features.mentions, features.sentences)
    )
    batch = Features(features.mentions[mentions], features.kinds[mentions], features.sentences[sentences], ())
    return batch, mentions, sentences


@torch.no_grad()
def score_reader(head: ReaderHead, part: EncodedSentences) -> dict[str, float]:
    """Returns shares in 0..1 of what is right.

    `role` and `statement` are of mentions and sentences that play a part, `told` of whole sentences that tell of an
    effect or its time, `quiet` of whole sentences that say nothing.
    """
    found, stated = head.decide(part.features)
    right: dict[str, list[bool]] = {name: [] for name in ("role", "statement", "told", "quiet")}
    given = iter(found)
    for sentence, statement in zip(part.sentences, stated, strict=True):
        said = [next(given) for _ in sentence.roles]
        right["role"] += [a == b for a, b in zip(said, sentence.roles, strict=True) if b != NONE]
        if sentence.statement != NONE:
            right["statement"].append(statement == sentence.statement)
        silent = sentence.statement == NONE and all(role == NONE for role in sentence.roles)
        right["quiet" if silent else "told"].append(statement == sentence.statement and said == list(sentence.roles))
    return {name: sum(values) / max(1, len(values)) for name, values in right.items()}
