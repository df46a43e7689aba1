"""Trains a reader of texts on synthetic pairs: a small head over hidden states that are computed once."""

import logging
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from tsllm.context.pairs import write_pairs
from tsllm.context.reader import LearnedReader, ReaderConfig, ReaderHead, build_batch, compute_loss
from tsllm.context.reading import NONE, Reading
from tsllm.context.states import EncodedText
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
        num_pairs: Synthetic texts to train on.
        wide: Whether further wordings are trained on (`tsllm.context.wordings_more`).
        num_validation: Synthetic texts of wordings held out.
        max_steps: Optimiser steps.
        batch_size: Texts a step.
        learning_rate: Peak of a one-cycle schedule.
        seed: Of texts, weights and batches.
        cache_gb: Bound of the hidden states kept on disk, gigabytes.
    """

    output_dir: str = field(metadata={"help": "Where the reader goes."})
    backbone: str = "smollm2-135m"
    backbone_weights: str = "pretrained"
    num_backbone_layers: int = 8
    dtype: str = "float32"
    num_pairs: int = 6000
    wide: bool = False
    num_validation: int = 400
    max_steps: int = 2000
    batch_size: int = 32
    learning_rate: float = 1e-3
    seed: int = 0
    cache_gb: float = 2.0

    def __post_init__(self) -> None:
        if self.backbone_weights not in {"pretrained", "spectrum"}:
            raise ValueError(f"backbone_weights is {self.backbone_weights!r}; expected pretrained or spectrum")
        if self.dtype not in {"float32", "bfloat16"}:
            raise ValueError(f"dtype is {self.dtype!r}; expected float32 or bfloat16")
        wrong = [n for n in ("num_pairs", "num_validation", "max_steps", "batch_size") if getattr(self, n) < 1]
        if wrong:
            raise ValueError(f"{wrong[0]} is {getattr(self, wrong[0])}; it must be at least 1")


def run_reader_training(args: ReaderArguments) -> dict[str, Any]:
    """Trains and saves a reader; returns what `metrics.json` says."""
    start = time.perf_counter()
    torch.manual_seed(args.seed)
    where = (args.backbone, args.backbone_weights, args.num_backbone_layers, args.dtype)
    encoder = open_encoder(*where, cache_gb=args.cache_gb)
    parts = {
        "train": write_pairs(args.num_pairs, args.seed, wide=args.wide),
        "seen": write_pairs(args.num_validation, args.seed + 1),
        "held_out": write_pairs(args.num_validation, args.seed + 2, held_out=True),
    }
    encoded = {name: encoder.encode([r.text for r in readings], _tell) for name, readings in parts.items()}
    encoding = time.perf_counter() - start
    config = ReaderConfig(*where, hidden_size=encoder.width, fingerprint=encoder.fingerprint)
    head = train_head(config, encoded["train"], parts["train"], args)
    reader = LearnedReader(encoder, head)
    metrics: dict[str, Any] = {name: score_reader(head, encoded[name], parts[name]) for name in ("seen", "held_out")}
    metrics |= {"steps": args.max_steps, "seed": args.seed, "seconds": time.perf_counter() - start}
    metrics |= {
        "encoding_seconds": encoding,
        "backbone_weights": args.backbone_weights,
        "texts": args.num_pairs,
        "wide": args.wide,
    }
    reader.save_pretrained(args.output_dir)
    write_metrics(args.output_dir, metrics)
    return metrics


def _tell(done: int) -> None:
    if done % 512 < 16:
        logger.info("encoded %d texts", done)


def train_head(
    config: ReaderConfig, encoded: list[EncodedText], readings: list[Reading], args: ReaderArguments
) -> ReaderHead:
    """Trains a head on encoded texts; batches are drawn of texts of similar length."""
    head = ReaderHead(config)
    rng = np.random.default_rng(args.seed)
    optimizer = torch.optim.AdamW(head.parameters(), lr=args.learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.learning_rate, total_steps=args.max_steps)
    order = np.argsort([len(e.states) for e in encoded], kind="stable")
    head.train()
    total = 0.0
    for step in range(1, args.max_steps + 1):
        first = int(rng.integers(max(1, len(order) - 8 * args.batch_size)))
        rows = rng.choice(order[first : first + 8 * args.batch_size], min(args.batch_size, len(order)), replace=False)
        chosen = [readings[k] for k in rows]
        loss = compute_loss(head, build_batch([encoded[k] for k in rows], chosen), chosen)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        total += loss.item()
        if step % 100 == 0:
            logger.info("step %d: loss %.3f", step, total / 100)
            total = 0.0
    return head.eval()


@torch.no_grad()
def score_reader(head: ReaderHead, encoded: list[EncodedText], readings: list[Reading]) -> dict[str, float]:
    """Returns shares in 0..1: mentions and sentences right, of those that play a part, and texts right throughout."""
    counts = dict.fromkeys(("role", "role_told", "statement_told", "text"), 0.0)
    totals = dict.fromkeys(counts, 0)
    for entry, reading in zip(encoded, readings, strict=True):
        if not reading.sentences:
            continue
        scores = head(build_batch([entry], [reading]))
        said = [_name(scores[0].argmax(-1), "role"), _name(scores[1].argmax(-1), "statement")]
        right = [a == b for a, b in zip(said[0], reading.roles, strict=True)]
        stated = [a == b for a, b in zip(said[1], reading.statements, strict=True)]
        told = [ok for ok, role in zip(right, reading.roles, strict=True) if role != NONE]
        declared = [ok for ok, s in zip(stated, reading.statements, strict=True) if s != NONE]
        found = (right, told, declared, [all(right) and all(stated)])
        for name, values in zip(counts, found, strict=True):
            counts[name] += sum(values)
            totals[name] += len(values)
    return {name: counts[name] / max(1, totals[name]) for name in counts}


def _name(indices: torch.Tensor, what: str) -> list[str]:
    from tsllm.context.reading import ROLES, STATEMENTS

    names = ROLES if what == "role" else STATEMENTS
    return [names[int(k)] for k in indices]
