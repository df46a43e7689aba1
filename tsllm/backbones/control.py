"""Control tokens, such as the end of a turn: what a user writes must reach a language model as text."""

from typing import Any


def find_control(tokenizer: Any) -> list[str]:
    """Returns what a tokenizer reads as control tokens wherever it stands, the longest first; perhaps none."""
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    special = {str(token) for token in added if token.special} | set(getattr(tokenizer, "all_special_tokens", ()))
    return sorted(special, key=lambda token: (-len(token), token))


def refuse_control(tokenizer: Any, text: str, name: str) -> None:
    """Refuses a text of a user that holds a control token, which would end or open a turn instead of being read.

    Args:
        tokenizer: The language model's.
        text: What the user wrote.
        name: Of the text in the message.

    Raises:
        ValueError: Naming the token, and how it can stand in the text.
    """
    found = next((token for token in find_control(tokenizer) if token in text), None)
    if found is not None:
        apart = f"{found[0]} {found[1:]}"
        raise ValueError(
            f"{name} holds {found!r}, which the language model takes for a control token, not for text; take it out, "
            f"or write it apart ({apart!r})"
        )
