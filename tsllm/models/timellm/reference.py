"""The prompt as the public Time-LLM code writes it, faults included, for converted checkpoints trained on it.

Statistics come from the normalised window in full precision, the five lags contain lag 0 and mirrored pairs in an
order that rounding decides, the closing tag is misspelt, and prompts are padded with tokens that the model attends to,
so that a forecast depends on its batch mates. Used only under `reference_quirks`.
"""

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from tsllm.models.timellm.prompt import Prompt

DEFAULT_DOMAIN = (
    "The Electricity Transformer Temperature (ETT) is a crucial indicator in the electric power long-term deployment."
)
_MAX_TOKENS = 2048


def write_reference_prompts(rows: Tensor, domain: str, prediction_length: int) -> list[str]:
    """Writes the prompts of normalised windows [N, L]."""
    length = rows.shape[1]
    spectrum = torch.fft.rfft(rows)
    lags = torch.fft.irfft(spectrum * spectrum.conj()).topk(5, dim=-1).indices  # [N, 5]
    median = rows.median(1).values
    change = rows.diff(dim=1).sum(1)
    texts = []
    for k in range(rows.shape[0]):
        texts.append(
            f"<|start_prompt|>Dataset description: {domain}Task description: forecast the next {prediction_length} "
            f"steps given the previous {length} steps information; Input statistics: min value "
            f"{rows[k].min().item()}, max value {rows[k].max().item()}, median value {median[k].item()}, the trend of "
            f"input is {'upward' if change[k] > 0 else 'downward'}, top 5 lags are : {lags[k].tolist()}"
            "<|<end_prompt>|>"
        )
    return texts


def tokenize_reference_prompts(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> Prompt:
    """Tokenizes and pads as the public code does; the padding counts as text."""
    encoded = [tuple(tokenizer(t, truncation=True, max_length=_MAX_TOKENS)["input_ids"]) for t in texts]
    padding = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.pad_token_id
    width = max(map(len, encoded))
    return Prompt((), tuple((*ids, *(padding,) * (width - len(ids))) for ids in encoded), tuple(range(len(encoded))))
