"""Weights of a language model in four bits (NF4 with double quantisation, Dettmers 2023), through bitsandbytes."""

from typing import Any

import torch
from transformers import BitsAndBytesConfig
from transformers.utils import is_bitsandbytes_available

QUANTIZATIONS = ("4bit",)
_WITHOUT = "or load the weights whole (backbone_quantization: null, load_in_4bit: false), which costs memory only"


def build_quantization(compute_dtype: torch.dtype) -> Any:
    """Returns transformers' configuration of 4-bit weights: matrices of linear layers, not embeddings and norms.

    Args:
        compute_dtype: dtype that products are computed in.

    Raises:
        ImportError: If bitsandbytes is missing or too old.
        RuntimeError: If there is no CUDA device.
    """
    if not is_bitsandbytes_available():
        raise ImportError(
            f"4-bit weights need bitsandbytes 0.46.1 or newer: pip install 'tsllm[quantization]'; {_WITHOUT}"
        )
    require_cuda()
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute_dtype,
    )


def require_cuda() -> None:
    """Refuses a CPU, on which bitsandbytes 0.50 loses gradients without an error.

    There it repacks a matrix for inference when first read without gradients, and the repacked one has no backward.

    Raises:
        RuntimeError: If there is no CUDA device.
    """
    if not torch.cuda.is_available():
        raise RuntimeError(f"4-bit weights need a CUDA device, and none was found; use a machine with one, {_WITHOUT}")
