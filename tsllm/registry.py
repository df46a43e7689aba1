"""Named tables of things that a configuration can ask for."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any, Generic, TypeVar

from tsllm.near import find_near

T = TypeVar("T")


class UnknownNameError(KeyError):
    """A name that a registry does not hold; its text lists the nearest names."""

    def __str__(self) -> str:
        return str(self.args[0])


class Registry(Generic[T]):
    """A table name -> thing that refuses duplicates and explains unknown names.

    Args:
        kind: What the table holds, in the singular, for messages ("model", "reward").
        entries: The literal table.

    Example:
        >>> import tsllm
        >>> "dlinear" in tsllm.MODELS, tsllm.MODELS.get("dlinear").__name__
        (True, 'DLinear')
        >>> tsllm.DATASETS.get("etth1").prediction_length
        96
    """

    def __init__(self, kind: str, entries: Mapping[str, T] | None = None) -> None:
        self.kind = kind
        self._entries: dict[str, T] = dict(entries or {})

    def add(self, name: str, thing: T) -> T:
        """Adds an entry and returns it.

        Raises:
            ValueError: If the name is taken.
        """
        if name in self._entries:
            raise ValueError(f"the {self.kind} {name!r} is registered already; choose another name")
        self._entries[name] = thing
        return thing

    def get(self, name: str) -> T:
        """Returns the entry called `name`.

        Raises:
            UnknownNameError: If there is none; the text lists the nearest names.
        """
        if name in self._entries:
            return self._entries[name]
        near = find_near(str(name), self._entries, cutoff=0.4)
        hint = f"did you mean {', '.join(map(repr, near))}? " if near else ""
        raise UnknownNameError(f"unknown {self.kind} {name!r}; {hint}known: {', '.join(self.names())}")

    def names(self) -> list[str]:
        """Returns all names, sorted."""
        return sorted(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def items(self) -> list[tuple[str, T]]:
        """Returns the pairs (name, thing) in table order."""
        return list(self._entries.items())


def refuse_unknown(given: Any, cls: type[Any], what: str, *needed: str) -> None:
    """Refuses a mapping that does not fit a dataclass.

    Args:
        given: What should be a mapping of its fields.
        cls: The dataclass.
        what: What the mapping is, for the message.
        *needed: Fields that must be there.

    Raises:
        ValueError: For unknown and missing keys, and for what is no mapping.
    """
    if not isinstance(given, Mapping):
        raise ValueError(f"{what} is {given!r}; it must be a mapping of {', '.join(f.name for f in fields(cls))}")
    known = [f.name for f in fields(cls)]
    unknown = sorted(str(key) for key in given if key not in known)
    missing = [n for n in needed if n not in given]
    if unknown or missing:
        meant = [f"{near[0]} for {name}" for name in unknown if (near := find_near(name, known, n=1))]
        hint = f"did you mean {', '.join(meant)}? " if meant else ""
        raise ValueError(f"{what} {describe_faults(unknown, missing)}; {hint}known keys: {', '.join(known)}")


def describe_faults(unknown: Sequence[str], missing: Sequence[str]) -> str:
    """Says which keys of a mapping are unknown and which it lacks.

    >>> describe_faults(["windos"], [])
    "has unknown keys ['windos']"
    >>> describe_faults(["dta"], ["data"])
    "has unknown keys ['dta'] and lacks ['data']"
    """
    faults = [f"has unknown keys {list(unknown)}"] if unknown else []
    return " and ".join([*faults, *([f"lacks {list(missing)}"] if missing else [])])
