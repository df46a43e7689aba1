"""A forecaster with texts as a folder: `context.json`, `base/` (its own artefact) and `reader/` (a trained head)."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tsllm.backbones.trust import check_json
from tsllm.context.contract import COLUMNS, TEXT, TIMES
from tsllm.context.parser import read_by_rules
from tsllm.context.reader import LearnedReader
from tsllm.context.readers import EffectSpeaker, ProseReader, ReadInTurn
from tsllm.context.times import read_text_times
from tsllm.data.columns import as_pandas
from tsllm.data.frequency import Freq, normalize_freq
from tsllm.data.names import ColumnNames
from tsllm.data.target import TargetScale
from tsllm.files import write_json
from tsllm.forecasting.base import check_count
from tsllm.forecasting.readers import OpenReader, load_reader
from tsllm.hub.spec import check_alias
from tsllm.hub.told import CONTEXT_FILE, LEARNED, RULES, SPOKEN
from tsllm.training.args import read_dataclass
from tsllm.types import ID

if TYPE_CHECKING:
    from tsllm.forecasting.spoken import SpokenReader

FORMAT = 1
_MOST_SAMPLES = 100_000  # a forged file must not ask for all memory


@dataclass(frozen=True)
class ContextSettings:
    """What a folder says of a `ContextForecaster` besides its base and its reader.

    Attributes:
        alias: Name of the forecast column.
        readers: "rules", "learned", or both in their order; or "spoken".
        freq: Frequency of the data; None = inferred.
        season: Steps in a season; None = by frequency.
        timeless: Whether texts without `published` may be read at every cutoff.
        samples: Paths a series.
        seed: Of the draws.
        standing: Whether the texts serve every `fit`, and not the one before saving alone.
        texts: One text for all series, or rows `unique_id, text[, published, start, end]`; None = none.
        names: What the columns of the user's tables are called (`ColumnNames.to_dict`).
        target_scale: How the target is transformed (`TargetScale`), where that is said of this forecaster.
        format: Version of this file.
    """

    alias: str
    readers: list[str] = field(default_factory=lambda: [RULES])
    freq: Freq | None = None
    season: int | None = None
    timeless: bool = False
    samples: int = 200
    seed: int = 0
    standing: bool = False
    texts: Any = None
    names: dict[str, str] = field(default_factory=dict)
    target_scale: dict[str, Any] = field(default_factory=dict)
    format: int = FORMAT

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            raise ValueError(f"{CONTEXT_FILE} has format {self.format}, this version reads {FORMAT}; update tsllm")
        check_alias(self.alias)
        twice = len(set(self.readers)) < len(self.readers)
        if self.readers != [SPOKEN] and (not self.readers or twice or set(self.readers) - {RULES, LEARNED}):
            raise ValueError(
                f"{CONTEXT_FILE} has readers {self.readers}; choose {RULES}, {LEARNED} or both, each once, or {SPOKEN}"
            )
        if self.freq is not None:
            normalize_freq(self.freq)
        for name in ("season", "samples"):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name))
        if self.samples > _MOST_SAMPLES:
            raise ValueError(f"{CONTEXT_FILE} has samples {self.samples}; at most {_MOST_SAMPLES} are drawn")
        if self.seed < 0:
            raise ValueError(f"{CONTEXT_FILE} has seed {self.seed}; it must be at least 0")
        _check_texts(self.texts)
        ColumnNames.from_dict(self.names)
        try:
            TargetScale(**self.target_scale)
        except TypeError as error:
            raise ValueError(f"{CONTEXT_FILE} has a target_scale that is none ({error})") from error

    def read_texts(self) -> Any:
        """Returns the texts as `ContextForecaster` takes them."""
        return pd.DataFrame(self.texts, columns=list(COLUMNS)) if isinstance(self.texts, list) else self.texts

    def save(self, folder: Path) -> None:
        """Writes `context.json`."""
        write_json(folder / CONTEXT_FILE, asdict(self))

    @classmethod
    def load(cls, folder: Path) -> "ContextSettings":
        """Reads `context.json`.

        Raises:
            OSError: If it is missing or damaged.
            ValueError: If it has unknown fields or impossible values.
        """
        given = check_json(folder / CONTEXT_FILE)
        if given is None:
            raise FileNotFoundError(f"{folder} holds no {CONTEXT_FILE}; ContextForecaster.save_pretrained writes it")
        return read_dataclass(cls, given, str(folder / CONTEXT_FILE), "alias", "format")


def _check_texts(texts: Any) -> None:
    if texts is None or isinstance(texts, str):
        return
    good = isinstance(texts, list) and all(
        isinstance(row, Mapping) and {ID, TEXT} <= set(row) <= set(COLUMNS) and isinstance(row[ID], str | int)
        and all(isinstance(row.get(name), str | None) for name in (TEXT, *TIMES))
        for row in texts
    )  # fmt: skip
    if not good:
        raise ValueError(f"{CONTEXT_FILE} has texts that are no text and no rows {', '.join(COLUMNS)}")


def write_texts(context: Any) -> Any:
    """Returns texts, in any shape that a user may give, as JSON can hold them."""
    if context is None or isinstance(context, str):
        return context
    if isinstance(context, Mapping):
        return [{ID: _plain(name), TEXT: text} for name, text in context.items()]
    rows = []
    table = pd.DataFrame(context) if isinstance(context, list) else as_pandas(context)
    table = read_text_times(table.reindex(columns=list(COLUMNS)), TIMES)
    for row in table.to_dict("records"):
        times = {name: str(row[name]) for name in TIMES if not pd.isna(row[name])}
        rows.append({ID: _plain(row[ID]), TEXT: row[TEXT]} | times)
    return rows


def _plain(name: Any) -> Any:
    return name.item() if isinstance(name, np.generic) else name


def name_readers(reader: ProseReader) -> tuple[list[str], "LearnedReader | SpokenReader | None"]:
    """Returns what a folder says of a reader, and the trained one in it.

    Raises:
        NotImplementedError: If it is a function of one's own, which no folder can hold.
    """
    if isinstance(reader, EffectSpeaker):
        from tsllm.forecasting.spoken import SpokenReader

        if isinstance(reader, SpokenReader):
            return [SPOKEN], reader
    parts = reader.readers if isinstance(reader, ReadInTurn) else (reader,)
    names, learned = [], None
    for part in parts:
        owner = getattr(part, "__self__", None)
        if part is read_by_rules:
            names.append(RULES)
        elif isinstance(owner, LearnedReader) and learned in (None, owner):
            names.append(LEARNED)
            learned = owner
        elif isinstance(part, EffectSpeaker):
            raise NotImplementedError(
                f"a {type(part).__name__} is a reader of one's own, which no folder can hold; save with the rules, a "
                "LearnedReader or a SpokenReader, or save the base alone (forecaster.base.save_pretrained)"
            )
        else:
            raise NotImplementedError(
                f"the reader {part!r} is a function of one's own, which no folder can hold; save with the rules or a "
                "LearnedReader, or save the base alone (forecaster.base.save_pretrained)"
            )
    return names, learned


def open_readers(names: list[str], folder: Path) -> OpenReader:
    """Opens the readers that a folder names, the trained one from `folder`.

    Raises:
        FileNotFoundError: If a trained reader is named and not there.
        OSError: If the language model that says effects cannot be loaded.
        ValueError: As `load_reader`.
    """
    if names == [SPOKEN]:
        from tsllm.forecasting.spoken import SpokenReader

        return OpenReader(SpokenReader.from_pretrained(folder))
    trained = load_reader(folder) if LEARNED in names else None
    readers = [read_by_rules if name == RULES or trained is None else trained.read for name in names]
    check = None if trained is None else trained.encoder.check_length
    return OpenReader(readers[0] if len(readers) == 1 else ReadInTurn(readers), check)
