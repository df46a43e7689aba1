"""Windows as text: prompt and standard answer for each training window, built by `datasets` (cached or streamed)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tsllm.nn.matmul import run_fast
from tsllm.text.prompt import TextPrompt
from tsllm.text.tokens import encode_requests
from tsllm.types import ID, TARGET, TIME


@dataclass(frozen=True)
class TextWindows:
    """How a frame becomes rows `prompt, completion, unique_id, cutoff`.

    Attributes:
        prompt: Writes prompts and answers.
        context_length: Steps of history.
        h: Steps of the answer.
        stride: Steps between two windows; the last window of a series always belongs to the set.
        covariates: Columns known over the horizon that enter the prompt.
    """

    prompt: TextPrompt
    context_length: int
    h: int
    stride: int = 1
    covariates: tuple[str, ...] = ()

    def rows(self, df: pd.DataFrame) -> Iterator[dict[str, Any]]:
        """Yields the windows of a validated long frame; a window whose future has gaps is left out (see `count`)."""
        for series, group in df.groupby(ID, sort=False):
            y, ds = group[TARGET].to_numpy(), group[TIME].to_numpy()
            columns = {c: group[c].to_numpy() for c in self.covariates}
            for start in self._starts(len(y)):
                cut, end = start + self.context_length, start + self.context_length + self.h
                history, future = y[start:cut], y[cut:end]
                if np.isnan(future).any() or np.isnan(history).all():
                    continue
                scale = self.prompt.codec.fit(history)
                known = {c: v[start:end] for c, v in columns.items()}
                first = str(pd.Timestamp(ds[cut]) if np.issubdtype(ds.dtype, np.datetime64) else ds[cut])
                yield {
                    "prompt": self.prompt.build(history, self.h, scale, first, known),
                    "completion": self.prompt.build_completion(future, scale, history),
                    "unique_id": str(series),
                    "cutoff": str(ds[cut - 1]),
                }

    def count(self, df: pd.DataFrame) -> tuple[int, int]:
        """Returns the number of windows, and how many of them `rows` leaves out because values are missing."""
        total = kept = 0
        for _, group in df.groupby(ID, sort=False):
            missing = group[TARGET].isna().to_numpy()
            for start in self._starts(len(missing)):
                cut = start + self.context_length
                total += 1
                kept += not (missing[cut : cut + self.h].any() or missing[start:cut].all())
        return total, total - kept

    def _starts(self, length: int) -> list[int]:
        last = length - self.context_length - self.h
        if last < 0:
            return []
        starts = list(range(0, last + 1, self.stride))
        return starts if starts[-1] == last else [*starts, last]


def build_text_dataset(df: pd.DataFrame, windows: TextWindows, streaming: bool = False) -> Any:
    """Builds the windows with `datasets`.

    Args:
        df: Validated long frame.
        windows: How to cut and write.
        streaming: Write each window when it is read (an `IterableDataset`) instead of caching all on disk.

    Raises:
        ValueError: If the frame holds no window.
    """
    from datasets import Dataset, IterableDataset

    if windows.count(df)[0] == 0:
        needed = windows.context_length + windows.h
        longest = int(df.groupby(ID).size().max()) if len(df) else 0
        raise ValueError(
            f"no series has the {needed} steps of a window (context_length {windows.context_length} + h {windows.h}); "
            f"the longest has {longest}; lower context_length"
        )
    source = IterableDataset if streaming else Dataset
    return source.from_generator(_generate, gen_kwargs={"windows": windows, "df": df})


def _generate(windows: TextWindows, df: pd.DataFrame) -> Iterator[dict[str, Any]]:
    yield from windows.rows(df)


@run_fast
@torch.inference_mode()
def score_rows(model: Any, tokenizer: Any, rows: Sequence[dict[str, Any]], batch_size: int = 8) -> np.ndarray:
    """Scores how badly the model does on each window.

    Args:
        model: A causal language model; its mode is left as it is.
        tokenizer: Its tokenizer.
        rows: Windows with `prompt` and `completion`.
        batch_size: Windows read together.

    Returns:
        Mean negative log-likelihood per completion token (the end token included), in nats [len(rows)].
    """
    scores = np.empty(len(rows))
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]["prompt"]) + len(rows[i]["completion"]))
    for start in range(0, len(rows), batch_size):
        chosen = order[start : start + batch_size]
        ids, mask, labels = _collate([rows[i] for i in chosen], tokenizer, model.device)
        logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1].float()
        targets = labels[:, 1:]
        loss = torch.nn.functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none")  # [B, T - 1]
        scores[chosen] = (loss.sum(1) / (targets != -100).sum(1)).cpu().numpy()
    return scores


def _collate(rows: Sequence[dict[str, Any]], tokenizer: Any, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Right-pads, so that plain causal attention never meets a pad; labels cover completion and end token."""
    prompts = encode_requests(tokenizer, [r["prompt"] for r in rows])
    answers = [
        [*tokenizer(r["completion"], add_special_tokens=False)["input_ids"], tokenizer.eos_token_id] for r in rows
    ]
    width = max(len(p) + len(a) for p, a in zip(prompts, answers, strict=True))
    ids = torch.full((len(rows), width), tokenizer.eos_token_id)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for i, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        end = len(prompt) + len(answer)
        ids[i, :end] = torch.tensor(prompt + answer)
        mask[i, :end] = 1
        labels[i, len(prompt) : end] = torch.tensor(answer)
    return ids.to(device), mask.to(device), labels.to(device)


def select_hard_cases(
    scores: np.ndarray, hard_fraction: float, ordinary_share: float, generator: np.random.Generator
) -> np.ndarray:
    """Chooses the worst windows and mixes ordinary ones among them.

    Args:
        scores: One score a window, higher = worse.
        hard_fraction: Share of all windows that count as hard, in (0, 1].
        ordinary_share: Share of the result that is drawn from the other windows, in [0, 1).
        generator: Draws the ordinary ones.

    Returns:
        Indices, ascending, without repetition.
    """
    if not 0 < hard_fraction <= 1 or not 0 <= ordinary_share < 1:
        raise ValueError(
            f"hard_fraction must lie in (0, 1] and ordinary_share in [0, 1), got {hard_fraction} and {ordinary_share}"
        )
    num_hard = max(1, round(hard_fraction * len(scores)))
    order = np.argsort(-scores, kind="stable")
    hard, rest = order[:num_hard], order[num_hard:]
    wanted = round(num_hard * ordinary_share / (1 - ordinary_share))
    ordinary = generator.choice(rest, size=min(wanted, len(rest)), replace=False) if len(rest) else rest
    return np.sort(np.concatenate([hard, ordinary]))
