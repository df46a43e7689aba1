"""Opening readers of texts: a trained head with the frozen language model that it was trained on, or the rules."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tsllm.backbones.pretrained import cache_folder
from tsllm.context.parser import read_by_rules
from tsllm.context.reader import LearnedReader
from tsllm.context.readers import ProseReader, read_in_turn
from tsllm.context.states import StateStore, TextEncoder
from tsllm.hub.spec import find_file, is_hub_id
from tsllm.hub.told import RULES
from tsllm.near import find_near
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


def split_reader(name: str | Path) -> tuple[bool, str]:
    """Takes the name of a reader apart: whether the rules read first, and who reads then (empty = nobody).

    Raises:
        ValueError: If rules are named and nobody behind them.
        FileNotFoundError: If there is no such folder, and the name is much like that of the rules.

    Example:
        >>> split_reader("rules"), split_reader("runs/reader"), split_reader("rules+runs/reader")
        ((True, ''), (False, 'runs/reader'), (True, 'runs/reader'))
    """
    if str(name) == RULES:
        return True, ""
    first, plus, second = str(name).partition("+")
    if first != RULES or not plus:
        _refuse_misspelt(str(name), first)
        return False, str(name)
    if second in ("", RULES):
        raise ValueError(f"reader is {name}; write {RULES}+FOLDER, with the folder of a trained reader, or {RULES}")
    return True, second


def _refuse_misspelt(name: str, first: str) -> None:
    """Refuses a name that is written like the rules', where there is no such folder."""
    if not Path(name).exists() and find_near(first, [RULES]):
        raise FileNotFoundError(
            f"reader is {name}, and there is no such folder; did you mean {name.replace(first, RULES, 1)}?"
        )


def check_reader(name: str | Path) -> None:
    """Looks whether `open_reader` could open a reader, without loading its language model.

    Raises:
        FileNotFoundError: If the folder holds no reader.
        OSError: If one of its files is damaged.
        ValueError: If its settings are impossible, or it cannot stand behind the rules.
    """
    rules, other = split_reader(name)
    if not other:
        return
    if not _speaks(other):
        LearnedReader.load_head(other)
    elif rules:
        _refuse_speaker(other)


def _refuse_speaker(name: str) -> None:
    raise ValueError(
        f"{name} holds a language model that says effects of whole texts, so that it cannot take the sentences that "
        f"the rules leave; give it alone (reader {name}), or the folder of a trained reader behind {RULES}+"
    )


def open_reader(name: str | Path) -> OpenReader:
    """Opens a reader by name.

    Args:
        name: "rules"; the folder of a trained one, a head or a language model that says effects (a Hub id will do for
            that); or "rules+FOLDER": the rules, and where they find nothing in a sentence, a trained head.

    Raises:
        FileNotFoundError: If the folder holds no reader.
        OSError: If the language model of one that says effects cannot be loaded.
        ValueError: As `load_reader`; or if the name is none.
    """
    rules, other = split_reader(name)
    if not other:
        return OpenReader(read_by_rules)
    if _speaks(other):
        if rules:
            _refuse_speaker(other)
        from tsllm.forecasting.spoken import SpokenReader

        return OpenReader(SpokenReader.from_pretrained(other))
    reader = load_reader(other)
    return OpenReader(read_in_turn(read_by_rules, reader.read) if rules else reader.read, reader.encoder.check_length)
