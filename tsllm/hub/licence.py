"""Which licence a card names: the one asked for, else what backbone and data allow to say; never a guess."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tsllm.backbones.trust import refuse_code
from tsllm.hub.spec import find_file
from tsllm.models.timellm.config import split_reader

# The language models that tsllm names by itself, as their owners publish them.
_BACKBONES = {
    "openai-community/gpt2": "mit",
    "HuggingFaceTB/SmolLM2-135M-Instruct": "apache-2.0",
    "smollm2-135m": "apache-2.0",
}
_CREATIVE_COMMONS = re.compile(r"CC[ -]?(BY(?:-(?:NC|ND|SA))*|0)[ -](\d\.\d)", re.IGNORECASE)


@dataclass(frozen=True)
class Licence:
    """A licence as the Hub abbreviates it, and why it is that one.

    Attributes:
        name: "apache-2.0", "mit", "other", "unknown" ...
        reason: A sentence for the card.
    """

    name: str
    reason: str

    @property
    def metadata(self) -> dict[str, Any]:
        """The entries of the card's header."""
        more = {"license_name": "see-model-card", "license_link": "README.md"} if self.name == "other" else {}
        return {"license": self.name, **more}


def check_licence(licence: str | None) -> str:
    """Returns a licence as asked for; empty = none was.

    Raises:
        ValueError: If it is no abbreviation, such as "apache-2.0".
    """
    if licence is None or licence == "":
        return ""
    if not isinstance(licence, str) or not re.fullmatch(r"[a-z0-9][a-z0-9.\-]*", licence):
        raise ValueError(f"licence is {licence!r}; write it as the Hub does: apache-2.0, mit, cc-by-4.0, other ...")
    return licence


def derive_licence(asked: str, backbone: str | None, data: Sequence[str]) -> Licence:
    """Returns the licence of trained weights.

    Args:
        asked: What their owner said; empty = nothing.
        backbone: Name of the language model behind them; None = none.
        data: Licence of each data set of others that they were trained on, as `Source` writes it; own data have none.

    Example:
        >>> derive_licence("", None, ["CC BY-ND 4.0"]).name, derive_licence("", "smollm2-135m", []).name
        ('cc-by-nd-4.0', 'apache-2.0')
        >>> derive_licence("", "smollm2-135m", ["CC BY-ND 4.0"]).name, derive_licence("", None, []).name
        ('other', 'unknown')
    """
    if asked:
        return Licence(asked, "as its owner says")
    sources: dict[str, str] = {}
    if backbone is not None:
        sources[f"the language model {backbone}"] = find_backbone_licence(backbone)
    for text in dict.fromkeys(filter(None, data)):
        sources[f"data under: {text}"] = _abbreviate(text)
    if not sources:
        return Licence("unknown", "trained on own data; its owner names one with `licence=`")
    told = ", ".join(f"{what} ({name})" if name else what for what, name in sources.items())
    names = set(sources.values())
    if len(names) == 1 and names != {""}:
        return Licence(names.pop(), f"as that of {told}")
    if names == {""} and backbone is not None and len(sources) == 1:
        return Licence("unknown", f"it depends on {told}, whose licence is not known here")
    return Licence("other", f"it depends on {told}; its owner decides, and names one with `licence=`")


def find_language_model(config: Mapping[str, Any]) -> str:
    """Returns the name of the pretrained language model that a model reads series or texts with; empty if none.

    One with random weights, or one that is taken away, has read nothing and does not count.

    Args:
        config: Fields of the model's configuration.

    Example:
        >>> find_language_model({"text_backbone": "smollm2-135m", "text_layers": 8})
        'smollm2-135m'
        >>> find_language_model({"backbone": "smollm2-135m", "reader": "horizon-none", "text_layers": 0})
        ''
    """
    if not config.get("backbone"):
        return str(config.get("text_backbone") or "") if config.get("text_weights") != "random" else ""
    is_read = split_reader(config.get("reader", "llm"))[0] == "llm" or bool(config.get("text_layers"))
    return str(config["backbone"]) if is_read and config.get("backbone_weights") != "random" else ""


def find_backbone_licence(backbone: str) -> str:
    """Returns the licence that a language model's card names; empty if there is none at hand."""
    if backbone in _BACKBONES:
        return _BACKBONES[backbone]
    from huggingface_hub import ModelCard

    try:
        with refuse_code(backbone):
            card = find_file(backbone, "README.md")
        found = None if card is None else ModelCard.load(str(Path(card)), ignore_metadata_errors=True).data.license
    except (OSError, ValueError):
        return ""
    return found if isinstance(found, str) else ""


def _abbreviate(text: str) -> str:
    """Returns the abbreviation of a licence text; empty if it names none."""
    found = _CREATIVE_COMMONS.search(text)
    if found is None:
        return ""
    return f"cc{found[1]}-{found[2]}" if found[1] == "0" else f"cc-{found[1].lower()}-{found[2]}"
