"""Opening readers of texts: a trained head with the frozen language model that it was trained on, or the rules."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tsllm.backbones.pretrained import cache_folder
from tsllm.context.parser import read_by_rules
from tsllm.context.reader import LearnedReader
from tsllm.context.readers import ProseReader
from tsllm.context.states import StateStore, TextEncoder
from tsllm.hub.spec import find_file, is_hub_id
from tsllm.hub.told import RULES
from tsllm.text.settings import SPOKEN_SETTINGS


@dataclass(frozen=True)
class OpenReader:
    """A reader as `ContextForecaster` takes it.

    Attributes:
        read: Gives roles to the prose of a text.
        check_length: Refuses texts that it cannot take in; None = it takes all.
    """

    read: ProseReader
    check_length: Callable[[str, str], None] | None = None


def open_encoder(
    backbone: str, weights: str, num_layers: int, dtype: str = "float32", *, cache_gb: float = 2.0, seed: int = 0
) -> TextEncoder:
    """Loads a frozen model with the usual store of hidden states."""
    import torch

    from tsllm.models.timellm.backbone import load_backbone

    loaded = load_backbone(backbone, num_layers=num_layers, weights=weights, seed=seed, dtype=getattr(torch, dtype))
    store = StateStore(cache_folder() / "context_states", int(cache_gb * 2**30)) if cache_gb > 0 else None
    return TextEncoder(loaded.llm, loaded.tokenizer, store)


def load_reader(folder: str | Path, *, cache_gb: float = 2.0) -> LearnedReader:
    """Loads a trained reader with the backbone that it names.

    Raises:
        FileNotFoundError: If the folder holds no reader.
        OSError: If one of its files is damaged.
        ValueError: If its settings are impossible, or the backbone's weights are others than those it was trained on.
    """
    head = LearnedReader.load_head(folder)
    c = head.config
    encoder = open_encoder(c.backbone, c.backbone_weights, c.num_backbone_layers, c.dtype, cache_gb=cache_gb)
    return LearnedReader(encoder, head)


def _speaks(name: str | Path) -> bool:
    """Tells whether a folder or a Hub repository holds a language model that says effects."""
    if Path(name).is_dir() or not is_hub_id(str(name)):
        return (Path(name) / SPOKEN_SETTINGS).is_file()
    return find_file(str(name), SPOKEN_SETTINGS) is not None


def check_reader(name: str | Path) -> None:
    """Looks whether `open_reader` could open a reader, without loading its language model.

    Raises:
        FileNotFoundError: If the folder holds no reader.
        OSError: If one of its files is damaged.
        ValueError: If its settings are impossible.
    """
    if str(name) != RULES and not _speaks(name):
        LearnedReader.load_head(name)


def open_reader(name: str | Path) -> OpenReader:
    """Opens a reader by name: "rules", or the folder of a trained one, a head or a language model that says effects.

    A language model that says effects is also opened by its Hub id.

    Raises:
        FileNotFoundError: If the folder holds no reader.
        OSError: If the language model of one that says effects cannot be loaded.
        ValueError: As `load_reader`.
    """
    if str(name) == RULES:
        return OpenReader(read_by_rules)
    if _speaks(name):
        from tsllm.forecasting.spoken import SpokenReader

        return OpenReader(SpokenReader.from_pretrained(name))
    reader = load_reader(name)
    return OpenReader(reader.read, reader.encoder.check_length)
