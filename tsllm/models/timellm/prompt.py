"""The text in front of the patches: what the data are, the task, and each window's statistics.

A prompt is a prefix that all windows share and a short tail of their own, so that only the tail costs something.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

_LAG_DIGITS = 9  # autocorrelations that agree to so many decimals count as tied


@dataclass(frozen=True)
class Statistics:
    """What is said about N windows, in the units of the values they were computed from."""

    minimum: np.ndarray  # [N]
    maximum: np.ndarray  # [N]
    median: np.ndarray  # [N]
    change: np.ndarray  # [N], last minus first observed value
    lags: np.ndarray  # [N, k], steps; -1 = none (constant window)


@torch.no_grad()
def compute_statistics(values: Tensor, mask: Tensor | None, num_lags: int) -> Statistics:
    """Computes the statistics of all windows at once, in double precision.

    Args:
        values: [N, L]; unobserved entries may hold anything finite.
        mask: [N, L] bool, True = observed; None = all.
        num_lags: Lags wanted, k.
    """
    values = values.detach().double()
    if mask is None:
        observed, first, last = values, values[:, 0], values[:, -1]
    else:
        observed = values.masked_fill(~mask, torch.nan)
        steps = torch.arange(values.shape[1], device=values.device)
        first = values.gather(1, torch.where(mask, steps, values.shape[1] - 1).min(1, keepdim=True).values)[:, 0]
        last = values.gather(1, torch.where(mask, steps, 0).max(1, keepdim=True).values)[:, 0]
    low = observed.nan_to_num(nan=torch.inf).amin(1)
    high = observed.nan_to_num(nan=-torch.inf).amax(1)
    count = torch.full_like(low, values.shape[1]).long() if mask is None else mask.sum(1)
    ordered = observed.sort(1).values  # NaN last
    middle = torch.stack([(count - 1).clamp_min(0) // 2, (count // 2).clamp_max(values.shape[1] - 1)], 1)
    median = ordered.gather(1, middle).mean(1)
    empty = count == 0
    rows = torch.stack([low, high, median, last - first]).masked_fill(empty, 0.0)  # [4, N]
    lags = compute_lags(values, mask, num_lags)
    numbers = rows.cpu().numpy()
    return Statistics(numbers[0], numbers[1], numbers[2], numbers[3], lags.cpu().numpy())


def compute_lags(values: Tensor, mask: Tensor | None, num_lags: int) -> Tensor:
    """Finds the lags of the largest circular autocorrelation (Wu 2021, Autoformer, eq. 5).

    Only lags 1 to L / 2 are considered: lag 0 says nothing, and lag L - k is lag k again. Ties go to the smaller lag.

    Args:
        values: [N, L], double precision.
        mask: [N, L] bool; unobserved entries count as the mean.
        num_lags: k; fewer come back if L / 2 is smaller.

    Returns:
        [N, k] integers, the largest autocorrelation first; -1 in rows of constant windows.
    """
    length = values.shape[1]
    weights = torch.ones_like(values) if mask is None else mask.to(values.dtype)
    mean = (values * weights).sum(1, keepdim=True) / weights.sum(1, keepdim=True).clamp_min(1)
    centred = (values - mean) * weights
    spectrum = torch.fft.rfft(centred).abs().square()
    correlation = torch.fft.irfft(spectrum, n=length)[:, : length // 2 + 1]  # [N, L / 2 + 1]
    power = correlation[:, :1]
    level = values.abs().amax(1, keepdim=True)
    constant = power <= length * (1e-12 * level).square()
    ratio = correlation[:, 1:] / power.where(~constant, 1.0)
    order = ratio.mul(10.0**_LAG_DIGITS).round().sort(dim=1, descending=True, stable=True).indices
    return (order[:, :num_lags] + 1).masked_fill(constant, -1)


def format_number(value: float) -> str:
    """Writes a number with three significant digits: 1234.5 -> "1230", -0.04567 -> "-0.0457", 1e-9 -> "1e-09"."""
    rounded = float(f"{value:.3g}")
    if rounded == 0:
        return "0"
    if 1e-5 <= abs(rounded) < 1e9:
        return np.format_float_positional(rounded, trim="-")
    return f"{rounded:.3g}"


def format_tails(statistics: Statistics) -> list[str]:
    """Writes one line a window, ` 1.2 3.4 2 up 24 12`, whose header stands in the shared prefix."""
    tails = []
    for k in range(len(statistics.minimum)):
        change = statistics.change[k]
        trend = "up" if change > 0 else "down" if change < 0 else "flat"
        lags = " ".join(str(lag) for lag in statistics.lags[k] if lag > 0) or "none"
        low, high, median = (
            format_number(float(s[k])) for s in (statistics.minimum, statistics.maximum, statistics.median)
        )
        tails.append(f" {low} {high} {median} {trend} {lags}\n")
    return tails


def write_prefix(domain: str, context_length: int, prediction_length: int, with_tail: bool) -> str:
    """Writes the text that all windows share."""
    domain = f"Dataset description: {domain.strip()}\n" if domain.strip() else ""
    task = (
        f"Task description: forecast the next {prediction_length} steps given the previous {context_length} steps.\n"
    )
    header = "Input statistics (min, max, median, trend, top lags):" if with_tail else ""
    return f"<|start_prompt|>{domain}{task}{header}"


@dataclass(frozen=True)
class Prompt:
    """Token ids of a batch of prompts, on the CPU.

    Attributes:
        prefix: [Tp], shared by all rows.
        tails: U distinct tails, each a tuple of token ids; perhaps only the empty one.
        rows: [N], which tail each row of the batch has; None = all rows have tail 0.
    """

    prefix: tuple[int, ...]
    tails: tuple[tuple[int, ...], ...] = ((),)
    rows: tuple[int, ...] | None = None


def build_prompt(prefix: tuple[int, ...], tails: Sequence[tuple[int, ...]]) -> Prompt:
    """Builds the prompts of rows with the given tails [N], each distinct tail once, in order of appearance."""
    position = {tail: k for k, tail in enumerate(dict.fromkeys(tails))}
    return Prompt(prefix, tuple(position), tuple(position[tail] for tail in tails))


class PromptTokenizer:
    """Turns texts into token ids, remembering the tails it has seen.

    Args:
        tokenizer: The backbone's.
        prefix: The shared text; it begins with the tokenizer's own start token if it has one.
        capacity: Tails remembered.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, prefix: str, capacity: int = 65_536) -> None:
        self._tokenizer = tokenizer
        self._capacity = capacity
        self._seen: OrderedDict[str, tuple[int, ...]] = OrderedDict()
        self.prefix = (*_start_ids(tokenizer), *self._encode([prefix])[0])

    def tokenize(self, tails: Sequence[str]) -> Prompt:
        """Returns the prompts of rows with the given texts as tails."""
        distinct = list(dict.fromkeys(tails))
        fresh = [tail for tail in distinct if tail not in self._seen]
        for tail, ids in zip(fresh, self._encode(fresh), strict=True):
            self._seen[tail] = ids
        for tail in distinct:
            self._seen.move_to_end(tail)
        prompt = build_prompt(self.prefix, [self._seen[tail] for tail in tails])
        while len(self._seen) > self._capacity:
            self._seen.popitem(last=False)
        return prompt

    def _encode(self, texts: list[str]) -> list[tuple[int, ...]]:
        if not texts:
            return []
        return [tuple(ids) for ids in self._tokenizer(texts, add_special_tokens=False)["input_ids"]]


def _start_ids(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    start = tokenizer.bos_token_id
    return (start,) if start is not None and tokenizer("x")["input_ids"][:1] == [start] else ()
