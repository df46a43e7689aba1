"""Scalers per series: fitted on the training part only, applied to every part, taken off forecasts."""

import math
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


_SMALLEST = 1e-150  # squares of smaller numbers vanish in float64, and such a series would pass for constant


@dataclass
class StandardScaler:
    """Zero mean and unit variance per series (population variance, as in Time-Series-Library); NaN is skipped.

    What is constant in the training part has no deviation of its own:

    - A target (also a series of zeros) gets scale 1: it scales to 0 and back without NaN, and its scaled errors are
      in original units. They cannot be averaged with those of other series, so `constant_series` names it.
    - A covariate gets the location and the deviation of the whole column over all series: a static covariate (the
      size of a shop) then tells the series apart. If the column is one constant everywhere, it tells nothing: scale 1.

    Attributes:
        stats: column -> series -> its scaling, filled by `fit`.
        constant: column -> series that were constant in the training part.
        panel: column -> the scaling of the whole column over all series, for covariates.
    """

    stats: dict[str, dict[Any, Affine]] = field(default_factory=dict)
    constant: dict[str, list[Any]] = field(default_factory=dict)
    panel: dict[str, Affine] = field(default_factory=dict)
    name: str = field(default="standard", init=False)

    def fit(self, train: pd.DataFrame, columns: Sequence[str] = (TARGET,)) -> "StandardScaler":
        """Computes the statistics of `columns` per series of the training part.

        Raises:
            ValueError: If a series has no observed value to fit on, or values too large or too small to compute with.
        """
        groups = train.groupby(ID, sort=False)
        for column in columns:
            loc, scale = groups[column].mean(), groups[column].std(ddof=0)
            if loc.isna().any():
                raise ValueError(
                    f"series {loc.index[loc.isna()].tolist()[0]!r}: no observed {column!r} in the training part, so it"
                    " cannot be scaled; leave the series out or move the split"
                )
            bad = ~np.isfinite(loc) | ~np.isfinite(scale)
            if bad.any():
                raise ValueError(
                    f"series {loc.index[bad].tolist()[0]!r}: {column!r} is too large to compute its deviation; divide "
                    "it by a power of ten"
                )
            least, most = groups[column].min(), groups[column].max()
            tiny = (least != most) & (np.maximum(least.abs(), most.abs()) < _SMALLEST)
            if tiny.any():
                raise ValueError(
                    f"series {loc.index[tiny].tolist()[0]!r}: {column!r} is too small to compute its deviation "
                    f"(below {_SMALLEST:g}); multiply it by a power of ten"
                )
            constant = is_constant(loc.to_numpy(), scale.to_numpy())
            scale = scale.mask(constant, 1.0)
            if column != TARGET:
                mean, deviation = float(train[column].mean()), float(train[column].std(ddof=0))
                if not is_constant(mean, deviation):
                    self.panel[column] = Affine(mean, deviation)
                    loc, scale = loc.mask(constant, mean), scale.mask(constant, deviation)
            self.stats[column] = {
                series: Affine(float(a), float(b)) for series, a, b in zip(loc.index, loc, scale, strict=True)
            }
            self.constant[column] = loc.index[constant].tolist()
        return self

    def constant_series(self, column: str = TARGET) -> list[Any]:
        """Returns the series that were constant in the training part, whose scaled errors have no common unit."""
        return list(self.constant.get(column, []))

    def extend(self, history: pd.DataFrame, columns: Sequence[str] | None = None) -> "StandardScaler":
        """Adds series that training never saw, scaled by their own history; known ones stay as they are.

        A covariate that is constant in such a history is scaled like those of the training series.

        Args:
            history: Long frame.
            columns: Columns that are scaled; None = the fitted ones.
        """
        new = history[~history[ID].isin(set(self.stats.get(TARGET, ())))]
        if len(new):
            own = type(self)().fit(new, list(self.stats if columns is None else columns))
            for column, by in own.stats.items():
                panel = self.panel.get(column)
                static = set(own.constant.get(column, ())) if panel is not None else set()
                added = {s: panel if panel and s in static else a for s, a in by.items()}
                self.stats.setdefault(column, {}).update(added)
                self.constant.setdefault(column, []).extend(own.constant.get(column, ()))
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
            "constant": {c: [_plain(s) for s in series] for c, series in self.constant.items()},
            "panel": {c: [a.loc, a.scale] for c, a in self.panel.items()},
        }

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> "StandardScaler":
        """Rebuilds a scaler from `to_dict`.

        Raises:
            ValueError: If it is damaged: a location that is no finite number, a scale that is none above 0.
        """
        try:
            stats = {
                column: {row[0]: _read_affine(column, row) for row in rows} for column, rows in state["stats"].items()
            }
            constant = {column: list(series) for column, series in state.get("constant", {}).items()}
            panel = {column: _read_affine(column, ["(all)", *pair]) for column, pair in state.get("panel", {}).items()}
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"the stored scaler is damaged ({error!r}); save the forecaster again") from error
        return cls(stats, constant, panel)

    def _rows(self, df: pd.DataFrame, column: str) -> tuple[np.ndarray, np.ndarray]:
        codes, series = pd.factorize(df[ID])
        loc, scale = self.loc_scale(series, column)
        return loc[codes], scale[codes]  # [rows], [rows]


@dataclass
class IdentityScaler(StandardScaler):
    """Leaves every value as it is, with the interface of a scaler."""

    name: str = field(default="none", init=False)

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
    """Rebuilds any scaler from its `to_dict`.

    Raises:
        ValueError: If it is damaged or of an unknown kind.
    """
    name = state.get("name") if isinstance(state, dict) else None
    if not isinstance(name, str) or name not in SCALERS:
        raise ValueError(f"scaler state has name {name!r}; expected one of {sorted(SCALERS)}")
    return SCALERS[name].from_dict(state)


def is_constant(loc: Any, scale: Any) -> Any:
    """Tells whether a deviation is no more than what rounding in the mean leaves: about 1e-16 of the level."""
    return scale <= 1e-12 * np.maximum(1e-300, np.abs(loc))


def _read_affine(column: str, row: Any) -> Affine:
    """Reads [series, location, scale]."""
    numbers = [x for x in row[1:] if isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x)]
    if len(row) != 3 or len(numbers) != 2 or numbers[1] <= 0:
        raise ValueError(
            f"the stored scaler holds {row!r} for column {column!r}; expected series, a finite location and a finite "
            "scale above 0: the file is damaged, save the forecaster again"
        )
    return Affine(float(numbers[0]), float(numbers[1]))


def _plain(name: Any) -> Any:
    return name.item() if isinstance(name, np.generic) else name
