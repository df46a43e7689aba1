"""Scalers per series: fitted on the training part only, applied to every part, taken off forecasts."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from tsllm.types import ID, TARGET


@dataclass(frozen=True)
class Affine:
    """One series' scaling: scaled = (value - loc) / scale."""

    loc: float
    scale: float


@dataclass
class StandardScaler:
    """Zero mean and unit variance per series (population variance, as in Time-Series-Library); NaN is skipped.

    A constant column gets scale 1, so that it scales to 0 and back without NaN.

    Attributes:
        stats: column -> series -> its scaling, filled by `fit`.
    """

    stats: dict[str, dict[Any, Affine]] = field(default_factory=dict)
    name: str = field(default="standard", init=False)

    def fit(self, train: pd.DataFrame, columns: Sequence[str] = (TARGET,)) -> "StandardScaler":
        """Computes the statistics of `columns` per series of the training part.

        Raises:
            ValueError: If a series has no observed value to fit on.
        """
        groups = train.groupby(ID, sort=False)
        for column in columns:
            loc, scale = groups[column].mean(), groups[column].std(ddof=0)
            if loc.isna().any():
                raise ValueError(
                    f"series {loc.index[loc.isna()].tolist()[0]!r}: no observed {column!r} in the training part, so it"
                    " cannot be scaled; leave the series out or move the split"
                )
            # Rounding in the mean leaves a residual of about 1e-16 relative to the level in a constant column.
            constant = scale.to_numpy() <= 1e-12 * np.maximum(1e-300, np.abs(loc.to_numpy()))
            scale = scale.mask(constant, 1.0)
            self.stats[column] = {
                series: Affine(float(a), float(b)) for series, a, b in zip(loc.index, loc, scale, strict=True)
            }
        return self

    def loc_scale(self, series: Iterable[Any], column: str = TARGET) -> tuple[np.ndarray, np.ndarray]:
        """Returns the location and scale [series] of each of `series`, float64.

        Raises:
            ValueError: If the scaler was not fitted, or not on that series.
        """
        if column not in self.stats:
            raise ValueError(f"the scaler is not fitted on column {column!r}; fitted: {sorted(self.stats)}")
        known = self.stats[column]
        found = []
        for name in series:
            if name not in known:
                raise ValueError(
                    f"series {name!r} is unknown to the scaler, which was fitted on {len(known)} series; fit it on a"
                    " training part that holds the series"
                )
            found.append(known[name])
        return np.array([a.loc for a in found], float), np.array([a.scale for a in found], float)

    def transform(self, df: pd.DataFrame, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Returns a copy of `df` with the fitted `columns` (default: all fitted ones that it has) scaled."""
        out = df.copy()
        for column in [c for c in self.stats if c in df.columns] if columns is None else columns:
            loc, scale = self._rows(df, column)
            out[column] = (df[column].to_numpy() - loc) / scale
        return out

    def inverse_transform(
        self, df: pd.DataFrame, columns: Sequence[str] = (TARGET,), *, like: str = TARGET
    ) -> pd.DataFrame:
        """Returns a copy of `df` with `columns` (forecasts, quantiles) back in the original units of `like`."""
        loc, scale = self._rows(df, like)
        out = df.copy()
        for column in columns:
            out[column] = df[column].to_numpy() * scale + loc
        return out

    def inverse_values(self, values: np.ndarray, series: Sequence[Any], *, shift: bool = True) -> np.ndarray:
        """Takes the scaling off an array [..., channel] whose last axis follows `series`.

        Args:
            values: Scaled values; for errors, widths and standard deviations, which have no level, set `shift` False.
            series: The series of each channel [channel].
            shift: Whether to add the location.
        """
        loc, scale = self.loc_scale(series)
        return values * scale + loc if shift else values * scale

    def to_dict(self) -> dict[str, Any]:
        """Returns the scaler as plain JSON types; series names keep their type (str or int)."""
        return {
            "name": self.name,
            "stats": {c: [[_plain(s), a.loc, a.scale] for s, a in by.items()] for c, by in self.stats.items()},
        }

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> "StandardScaler":
        """Rebuilds a scaler from `to_dict`."""
        return cls(stats={c: {s: Affine(a, b) for s, a, b in rows} for c, rows in state["stats"].items()})

    def _rows(self, df: pd.DataFrame, column: str) -> tuple[np.ndarray, np.ndarray]:
        codes, series = pd.factorize(df[ID])
        loc, scale = self.loc_scale(series, column)
        return loc[codes], scale[codes]  # [rows], [rows]


class IdentityScaler(StandardScaler):
    """Leaves every value as it is, with the interface of a scaler."""

    def __init__(self, stats: dict[str, dict[Any, Affine]] | None = None) -> None:
        super().__init__(stats=stats or {})
        self.name = "none"

    def fit(self, train: pd.DataFrame, columns: Sequence[str] = (TARGET,)) -> "IdentityScaler":
        """Remembers the series, with location 0 and scale 1."""
        self.stats = {c: {s: Affine(0.0, 1.0) for s in train[ID].unique()} for c in columns}
        return self


SCALERS: dict[str, type[StandardScaler]] = {"standard": StandardScaler, "none": IdentityScaler}


def build_scaler(name: str) -> StandardScaler:
    """Builds an unfitted scaler by name ("standard" or "none").

    Raises:
        ValueError: If there is none of that name.
    """
    if name not in SCALERS:
        raise ValueError(f"scaler {name!r} is unknown; choose one of {sorted(SCALERS)}")
    return SCALERS[name]()


def load_scaler(state: dict[str, Any]) -> StandardScaler:
    """Rebuilds any scaler from its `to_dict`."""
    if state.get("name") not in SCALERS:
        raise ValueError(f"scaler state has name {state.get('name')!r}; expected one of {sorted(SCALERS)}")
    return SCALERS[state["name"]].from_dict(state)


def _plain(name: Any) -> Any:
    return name.item() if isinstance(name, np.generic) else name
