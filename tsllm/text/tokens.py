"""A request as tokens, opened as the language model was trained to read a text."""

from collections.abc import Sequence
from typing import Any


def find_opening(tokenizer: Any) -> list[int]:
    """Returns the tokens that a tokenizer puts in front of a text by itself, such as Llama's BOS; mostly none."""
    opened, plain = (tokenizer("a", add_special_tokens=own)["input_ids"] for own in (True, False))
    places = [i for i in range(len(opened)) if opened[i : i + len(plain)] == plain]
    return list(opened[: places[-1]]) if places else []


def encode_requests(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Tokenises requests that a completion follows: with what opens a text, once, and nothing that would end it.

    TRL's trainers open a text so, too, and so training and use read the same tokens.

    Args:
        tokenizer: The language model's.
        texts: Requests; a chat template's words may hold the opening already.

    Returns:
        One list of token ids a request.
    """
    opening = find_opening(tokenizer)
    encoded = [list(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]
    return [ids if ids[: len(opening)] == opening else opening + ids for ids in encoded]
