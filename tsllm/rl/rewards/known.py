"""What a reward can be told of the windows that it judges besides their numbers: who, when, under which covariates."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Known:
    """Facts about the B rows of a problem; None where nobody knows them. A user's reward asks for them by name.

    Attributes:
        unique_id: The series, object array [B].
        ds: Times of the horizon, array [B, H].
        history_ds: Times of the context, array [B, L].
        cutoff: Time of the last context step, array [B].
        covariates: Name -> [B, L + H] in the units that the model reads, NaN over the horizon where only the past is
            known.
        context: Text that was known at the cutoff, object array [B]; empty where there is none.
        loc: Location of the model's units, [B]: value = model's value * scale + loc.
        scale: Scale of the model's units, [B].
    """

    unique_id: np.ndarray | None = None
    ds: np.ndarray | None = None
    history_ds: np.ndarray | None = None
    cutoff: np.ndarray | None = None
    covariates: Mapping[str, Tensor] | None = None
    context: np.ndarray | None = None
    loc: Tensor | None = None
    scale: Tensor | None = None

    def names(self) -> frozenset[str]:
        """Returns the names of the facts that are there."""
        return frozenset(name for name in FACTS if getattr(self, name) is not None)

    def take(self, rows: Tensor) -> "Known":
        """Returns the facts of some rows.

        Args:
            rows: Mask [B] or indices.
        """
        at = rows.cpu().numpy()
        return replace(self, **{name: _take(getattr(self, name), rows, at) for name in self.names()})

    def to(self, device: torch.device) -> "Known":
        """Returns the facts with their tensors on a device."""
        tensors = {"loc": self.loc, "scale": self.scale}
        moved: dict[str, Any] = {k: v.to(device) for k, v in tensors.items() if v is not None and v.device != device}
        if self.covariates is not None and any(v.device != device for v in self.covariates.values()):
            moved["covariates"] = {name: value.to(device) for name, value in self.covariates.items()}
        return replace(self, **moved) if moved else self

    def get(self, asked: Iterable[str]) -> dict[str, Any]:
        """Returns name -> fact of those asked for that are there."""
        return {name: getattr(self, name) for name in sorted(self.names() & frozenset(asked))}


FACTS = tuple(field.name for field in fields(Known))


def _take(fact: Any, rows: Tensor, at: np.ndarray) -> Any:
    if isinstance(fact, Mapping):
        return {name: value[rows.to(value.device)] for name, value in fact.items()}
    return fact[rows.to(fact.device)] if isinstance(fact, Tensor) else fact[at]


class AnyCovariate(dict[str, Tensor]):
    """Covariates that are zero under every name, for trying out rewards without data.

    Args:
        rows: B.
        steps: L + H.
    """

    def __init__(self, rows: int, steps: int) -> None:
        super().__init__()
        self.rows, self.steps = rows, steps

    def __missing__(self, name: str) -> Tensor:
        return torch.zeros(self.rows, self.steps)


def make_known(rows: int, length: int, horizon: int) -> Known:
    """Makes facts about made-up hourly series, for trying out rewards without data."""
    times = np.datetime64("2024-01-01T00", "h") + np.arange(length + horizon)
    times = np.broadcast_to(times.astype("datetime64[ns]"), (rows, length + horizon))
    return Known(
        unique_id=np.array([f"series-{row}" for row in range(rows)], dtype=object),
        ds=times[:, length:],
        history_ds=times[:, :length],
        cutoff=times[:, length - 1],
        covariates=AnyCovariate(rows, length + horizon),
        context=np.array([""] * rows, dtype=object),
        loc=torch.zeros(rows),
        scale=torch.ones(rows),
    )
