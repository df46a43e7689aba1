"""What tells one language model from another: all its weights, how it computes, how it splits text."""

import hashlib
import json
import re
from typing import Any

import torch
from torch import Tensor, nn

_SAMPLE = 4096  # values of a tensor that entered the fingerprints of format 1 artefacts
# Names of settings that change what a decoder computes from the same weights.
_COMPUTING = re.compile(
    r"head|activation|hidden_act|eps|rope|rotary|theta|norm|scal|multiplier|softcap|window|attn|attention|bias|parallel"
    r"|layer_types"
)
_BOOKKEEPING = re.compile(r"dropout|_implementation|pdrop|^_|output_attentions|initializer|name|classifier")
_PROBES = (
    "Forecast the next 24 steps: min -1.5, max 2.25, median 0.125; 007 1e-05 12,345.678",
    "  two  spaces\tand\n\nlines, Ünïcödé 温度 😀 <|endoftext|></s>[PAD]",
)


@torch.no_grad()
def compute_fingerprint(llm: nn.Module, tokenizer: Any = None) -> str:
    """Computes 16 hexadecimal digits that tell one language model from another.

    Three things enter one SHA-256. Every value of every tensor with its name and shape, rounded to bfloat16, so that
    the number does not depend on the dtype that the weights were loaded in: two bytes a value are hashed, in the order
    of a second for a billion bytes, no more than reading them takes. The settings that change what is computed from
    them (heads, activation, epsilon, rotary positions, windows). And, if prompts are written, the vocabulary and how
    it splits two probe texts. LoRA on top of the weights does not enter. Of matrices that are packed into four bits
    only names and shapes do, because their bytes depend on the device that packed them.

    Args:
        llm: The model, with or without PEFT around it.
        tokenizer: Its tokenizer; None if no text is written for it.
    """
    digest = hashlib.sha256()
    for name, tensor in _base_tensors(llm):
        digest.update(f"{name}{list(tensor.shape)}".encode())
        if tensor.is_floating_point():
            digest.update(_to_bytes(tensor.detach()))
    digest.update(json.dumps(describe_computation(llm.config), sort_keys=True, default=str).encode())
    if tokenizer is not None:
        digest.update(json.dumps(describe_tokenizer(tokenizer), sort_keys=True).encode())
    return digest.hexdigest()[:16]


@torch.no_grad()
def compute_sampled_fingerprint(llm: nn.Module) -> str:
    """Computes the fingerprint that older artefacts recorded: 4096 values of each tensor and nothing else."""
    digest = hashlib.sha256()
    for name, tensor in _base_tensors(llm):
        digest.update(f"{name}{list(tensor.shape)}".encode())
        if tensor.is_floating_point():
            flat = tensor.detach().reshape(-1)
            digest.update(_to_bytes(flat[:: max(1, flat.numel() // _SAMPLE)][:_SAMPLE]))
    return digest.hexdigest()[:16]


def is_same_model(recorded: str, llm: nn.Module, found: str) -> bool:
    """Tells whether a recorded fingerprint is that of this model.

    One that was recorded without the tokenizer, or by an older version from samples, is compared in its own way.

    Args:
        recorded: What an artefact remembers.
        llm: The model.
        found: Its fingerprint with its tokenizer.
    """
    return recorded == found or recorded in (compute_fingerprint(llm), compute_sampled_fingerprint(llm))


def describe_computation(config: Any) -> dict[str, Any]:
    """Returns the settings of a decoder that change what it computes from the same weights, apart from its sizes."""
    settings = config.to_dict()
    return {
        key: value
        for key, value in settings.items()
        if _COMPUTING.search(key) and not _BOOKKEEPING.search(key) and value not in (None, False, [], {})
    }


def describe_tokenizer(tokenizer: Any) -> dict[str, Any]:
    """Returns what a tokenizer does, not how it is stored: its vocabulary and how it splits two texts."""
    vocabulary = "\n".join(f"{token}\t{k}" for token, k in sorted(tokenizer.get_vocab().items()))
    return {
        "vocabulary": hashlib.sha256(vocabulary.encode(errors="surrogatepass")).hexdigest(),
        "probes": [tokenizer(text, add_special_tokens=True)["input_ids"] for text in _PROBES],
    }


def check_tokenizer(tokenizer: Any, where: str, vocabulary_size: int) -> None:
    """Refuses a tokenizer that cannot write a prompt: an empty one, as a folder without its files gives.

    Raises:
        ValueError: If it splits text into nothing or into unknown tokens, or has more tokens than the model.
    """
    ids = tokenizer(_PROBES[0], add_special_tokens=False)["input_ids"]
    unknown = getattr(tokenizer, "unk_token_id", None)
    if not ids or all(k == unknown for k in ids):
        raise ValueError(
            f"the tokenizer of {where!r} reads no text; the folder needs its files (tokenizer.json, or vocab.json and "
            "merges.txt, or tokenizer.model): save it with tokenizer.save_pretrained(folder)"
        )
    if max(ids) >= vocabulary_size:
        raise ValueError(
            f"the tokenizer of {where!r} writes token {max(ids)}, but the model has {vocabulary_size} tokens; they do "
            "not belong together"
        )


def _base_tensors(llm: nn.Module) -> list[tuple[str, Tensor]]:
    named = {_plain_name(name): tensor for name, tensor in llm.named_parameters() if "lora_" not in name}
    return sorted(named.items())


def _to_bytes(tensor: Tensor) -> Any:
    return tensor.to("cpu", torch.bfloat16).contiguous().view(torch.int16).numpy().data.cast("B")


def _plain_name(name: str) -> str:
    """Returns the name that a tensor has without PEFT around its model."""
    return name.removeprefix("base_model.model.").replace(".base_layer.", ".")
