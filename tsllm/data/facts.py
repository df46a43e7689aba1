"""What a model has read: series by name, first and last time, and a hash of the values.

The facts travel with every artefact. The model card shows them, the leakage guard compares them with the windows of a
test, and going on from a saved model tells by them whether a series is the one that it was trained on.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import numpy as np
import pandas as pd

from tsllm.data.frame import series_bounds
from tsllm.types import TARGET, TIME

ANY = "*"  # a series whose name is not known


@dataclass(frozen=True)
class SeriesRead:
    """The stretch of one series that a model was trained or chosen on.

    Attributes:
        first: Time of its first step, as text.
        last: Time of its last step, as text.
        steps: How many steps it has.
        digest: Hash of its values in original units (`hash_values`); empty = not known.
    """

    first: str
    last: str
    steps: int
    digest: str = ""


@dataclass
class DataRead:
    """One data set that a model was trained or chosen on.

    Attributes:
        name: As it was asked for; empty for a frame without a name.
        series: Name of the series, as text -> what was read of it.
        licence: Licence of the data; empty = not known.
        origin: Where they come from.
        domain: What they are.
        cutoffs: Where the parts of the split end, for one series: `train_end`, `validation_end`, `test_end`,
            `of_series`; empty if there was no split.
        windows: Part of the split -> how many windows it had.
    """

    name: str = ""
    series: dict[str, SeriesRead] = field(default_factory=dict)
    licence: str = ""
    origin: str = ""
    domain: str = ""
    cutoffs: dict[str, str] = field(default_factory=dict)
    windows: dict[str, int] = field(default_factory=dict)

    @property
    def first(self) -> str:
        """The earliest time of all series."""
        return min((read.first for read in self.series.values()), key=sort_time, default="")

    @property
    def last(self) -> str:
        """The latest time of all series."""
        return max((read.last for read in self.series.values()), key=sort_time, default="")

    def summarise(self) -> dict[str, Any]:
        """Returns what a model card says of these data, in plain types; what is not known is left out."""
        facts: dict[str, Any] = {
            "name": self.name,
            "domain": self.domain,
            "origin": self.origin,
            "licence": self.licence,
        }
        facts |= {"num_series": len(self.series), "first": self.first, "last": self.last}
        return {k: v for k, v in (facts | {"cutoffs": self.cutoffs}).items() if v}


@dataclass
class TrainingFacts:
    """Everything that a model was ever trained or chosen on, the earliest first.

    Attributes:
        reads: One entry a training.
    """

    reads: list[DataRead] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.reads)

    @property
    def newest(self) -> DataRead:
        """The data of the last training; an empty entry if there was none."""
        return self.reads[-1] if self.reads else DataRead()

    def extend(self, read: DataRead) -> "TrainingFacts":
        """Returns the facts with one more training; the same one again replaces itself."""
        return TrainingFacts([known for known in self.reads if known != read] + [read])

    def find(self, series: Any) -> Iterator[SeriesRead]:
        """Yields what was read of a series, training after training."""
        for read in self.reads:
            if str(series) in read.series:
                yield read.series[str(series)]

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON types."""
        return {
            "reads": [
                {k: v for k, v in asdict(read).items() if v and k != "series"}
                | {"series": {n: [s.first, s.last, s.steps, s.digest] for n, s in read.series.items()}}
                for read in self.reads
            ]
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Self:
        """Rebuilds the facts from `to_dict`.

        Raises:
            ValueError: If `state` has another form.
        """
        try:
            return cls(
                [
                    DataRead(**(read | {"series": {n: SeriesRead(*s) for n, s in read["series"].items()}}))
                    for read in state.get("reads", [])
                ]
            )
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"the training facts are damaged ({error}); save the forecaster again") from error


def from_names(old: Mapping[str, Any], series: Iterable[Any] = ()) -> TrainingFacts:
    """Returns the facts of an artefact of an older version, which named its data and their ends, but not the values.

    Args:
        old: What it said: `name`, `first`, `last`, `licence`, `origin`, `domain`, `cutoffs`.
        series: Names of its series; empty = not known, which the entry `ANY` stands for.
    """
    if not old:
        return TrainingFacts()
    cutoffs = {str(k): str(v) for k, v in dict(old.get("cutoffs", {})).items()}
    last = cutoffs.get("validation_end") or str(old.get("last", ""))
    names = [str(name) for name in series] or [ANY]
    kept: dict[str, Any] = {k: str(old[k]) for k in ("name", "licence", "origin", "domain") if old.get(k)}
    read = SeriesRead(str(old.get("first", "")), last, 0)
    return TrainingFacts([DataRead(**kept, series=dict.fromkeys(names, read), cutoffs=cutoffs)])


def read_series(df: pd.DataFrame, ends: Mapping[Any, int] | None = None) -> dict[str, SeriesRead]:
    """Returns what reading a frame amounts to.

    Args:
        df: Validated long frame in original units.
        ends: Series -> how many of its first steps were read; None = all.
    """
    times, values = df[TIME].to_numpy(), df[TARGET].to_numpy(dtype=np.float64)
    found = {}
    for name, start, stop in series_bounds(df):
        end = stop if ends is None else start + ends[name]
        if end > start:
            bounds = (write_time(times[start]), write_time(times[end - 1]))
            found[str(name)] = SeriesRead(*bounds, end - start, hash_values(values[start:end]))
    return found


def hash_values(values: np.ndarray) -> str:
    """Returns a hash of a series' values [time]; every missing value counts alike."""
    plain = np.where(np.isnan(values), np.nan, values).astype("<f8")
    return hashlib.blake2b(plain.tobytes(), digest_size=8).hexdigest()


def hash_stretch(times: np.ndarray, values: np.ndarray, read: SeriesRead) -> str | None:
    """Returns the hash of the values [time] in the stretch that was read; None if the series does not cover it."""
    start = pd.Index(times).get_indexer([parse_time(read.first, times)])[0]
    end = start + read.steps
    if read.steps < 1 or start < 0 or end > len(times) or write_time(times[end - 1]) != read.last:
        return None
    return hash_values(values[start:end])


def holds(times: np.ndarray, values: np.ndarray, read: SeriesRead) -> bool:
    """Tells whether a series [time] holds, in the same place, exactly the values that were read."""
    return bool(read.digest) and hash_stretch(times, values, read) == read.digest


def write_time(time: Any) -> str:
    """Writes a time as the facts hold it: an integer step as a number, a date as pandas writes a Timestamp."""
    return str(int(time)) if np.issubdtype(np.asarray(time).dtype, np.integer) else str(pd.Timestamp(time))


def parse_time(text: str, like: np.ndarray) -> Any:
    """Reads a time of the facts as the type of `like`; None if it is no such time."""
    try:
        return int(text) if np.issubdtype(like.dtype, np.integer) else pd.Timestamp(text)
    except ValueError:
        return None


def sort_time(text: str) -> Any:
    """Returns what times of the facts are ordered by: steps as numbers, dates as text."""
    return (0, int(text), "") if text.lstrip("-").isdigit() else (1, 0, text)
