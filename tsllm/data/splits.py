"""Chronological splits: rules that say where the training part ends and the test part begins.

Every rule gives, per series, three borders `train_end <= validation_end <= test_end`, counted in steps from the start
of the series. The parts hold the *targets*; validation and test frames begin `context_length` steps earlier, so that
their first window forecasts the first step after the border.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd

from tsllm.data.frame import series_bounds
from tsllm.types import TIME


@dataclass(frozen=True)
class Borders:
    """Ends of the three parts of one series, in steps from its start; what lies after `test` is not used."""

    train: int
    validation: int
    test: int


class SplitRule(Protocol):
    """A rule that finds the borders of one series from its ascending times [time]."""

    def borders(self, times: np.ndarray) -> Borders:
        """Returns the borders of the series."""
        ...


@dataclass(frozen=True)
class ByCounts:
    """So many steps of training, validation and test from the start; what follows is left out and reported."""

    train: int
    validation: int
    test: int

    def borders(self, times: np.ndarray) -> Borders:
        """Returns the borders.

        Raises:
            ValueError: If the series is shorter than the three parts together.
        """
        total = self.train + self.validation + self.test
        if len(times) < total:
            raise ValueError(
                f"the split needs {self.train} + {self.validation} + {self.test} = {total} steps, the series has "
                f"{len(times)}; use a split by fractions"
            )
        return Borders(self.train, self.train + self.validation, total)


@dataclass(frozen=True)
class ByFractions:
    """Shares of training and test; validation is the rest (the borders that Time-Series-Library uses for own data)."""

    train: float = 0.7
    validation: float = 0.1
    test: float = 0.2

    def __post_init__(self) -> None:
        parts = (self.train, self.validation, self.test)
        if min(parts) < 0 or abs(sum(parts) - 1) > 1e-9:
            raise ValueError(f"the fractions are {parts}; they must be at least 0 and add up to 1")

    def borders(self, times: np.ndarray) -> Borders:
        """Returns the borders: train and test are rounded down, validation takes what is left."""
        n = len(times)
        # 170 * 0.7 is 118.99999999999999 in binary: whole products stay whole (Time-Series-Library takes 118 here).
        train, test = int(n * self.train + 1e-9), int(n * self.test + 1e-9)
        if self.validation == 0:
            train = n - test
        return Borders(train, n - test, n)


@dataclass(frozen=True)
class ByDates:
    """Validation and test begin at given times (the first step not before them); dates or integer steps."""

    validation: Any
    test: Any
    end: Any = None

    def borders(self, times: np.ndarray) -> Borders:
        """Returns the borders.

        Raises:
            ValueError: If the dates are not in order or lie outside the series.
        """
        bounds = [_as_time(b, times) for b in (self.validation, self.test, self.end) if b is not None]
        cuts = [int(np.searchsorted(times, b, side="left")) for b in bounds]
        if self.end is None:
            cuts.append(len(times))
        train, validation, test = cuts
        if not 0 < train <= validation < test:
            raise ValueError(
                f"validation from {self.validation}, test from {self.test} and end {self.end} leave parts of {train}, "
                f"{validation - train} and {test - validation} steps of a series from {times[0]} to {times[-1]}; "
                "choose ascending dates within the series"
            )
        return Borders(train, validation, test)


@dataclass(frozen=True)
class ByLastSteps:
    """The last `test` steps are test, the `validation` steps before them validation, all the rest training."""

    test: int
    validation: int = 0

    def borders(self, times: np.ndarray) -> Borders:
        """Returns the borders.

        Raises:
            ValueError: If nothing is left for training.
        """
        n = len(times)
        if n <= self.test + self.validation:
            raise ValueError(
                f"the last {self.validation} + {self.test} steps are validation and test, but the series has only {n};"
                " lower them or leave the series out"
            )
        return Borders(n - self.test - self.validation, n - self.test, n)


def by_last_windows(n_windows: int, h: int, step_size: int | None = None, validation: int = 0) -> ByLastSteps:
    """Returns the rule whose test part holds exactly `n_windows` rolling origins of `h` steps, `step_size` apart."""
    step = h if step_size is None else step_size
    if n_windows < 1 or h < 1 or step < 1:
        raise ValueError(f"n_windows {n_windows}, h {h} and step_size {step} must all be at least 1")
    return ByLastSteps(test=h + (n_windows - 1) * step, validation=validation)


def ett_rule(steps_per_hour: int = 1) -> ByCounts:
    """Returns the borders of the ETT files: 12, 4 and 4 months of 30 days."""
    month = 30 * 24 * steps_per_hour
    return ByCounts(12 * month, 4 * month, 4 * month)


@dataclass(frozen=True)
class Splits:
    """The parts of a frame.

    Attributes:
        train: All steps before the training border.
        validation: Validation targets with the context before them; empty if the rule has no validation.
        test: Test targets with the context before them.
        borders: series -> its borders.
        unused: Steps after the test part, over all series.
    """

    train: pd.DataFrame
    validation: pd.DataFrame
    test: pd.DataFrame
    borders: dict[Any, Borders]
    unused: int


def compute_borders(df: pd.DataFrame, rule: SplitRule) -> dict[Any, Borders]:
    """Returns the borders of each series of a validated long frame.

    Raises:
        ValueError: As the rule does, with the series' name.
    """
    found = {}
    times = df[TIME].to_numpy()
    for series, first, last in series_bounds(df):
        try:
            found[series] = rule.borders(times[first:last])
        except ValueError as error:
            raise ValueError(f"series {series!r}: {error}") from error
    return found


def split_frame(df: pd.DataFrame, rule: SplitRule, context_length: int) -> Splits:
    """Cuts a validated long frame into its parts.

    Args:
        df: Validated long frame.
        rule: Where to cut.
        context_length: Steps before each border that validation and test bring along for their first window. A series
            with fewer steps before a border brings all it has.

    Returns:
        The parts, in the row order of `df`.
    """
    if context_length < 0:
        raise ValueError(f"context_length is {context_length}; it cannot be negative")
    borders = compute_borders(df, rule)
    bounds = series_bounds(df)
    lengths = np.array([last - first for _, first, last in bounds])
    position = np.concatenate([np.arange(n) for n in lengths])

    def border(of: Callable[[Borders], int]) -> np.ndarray:
        return np.repeat([of(borders[series]) for series, _, _ in bounds], lengths)

    train, validation, test = border(lambda b: b.train), border(lambda b: b.validation), border(lambda b: b.test)

    def part(keep: np.ndarray) -> pd.DataFrame:
        return df[keep].reset_index(drop=True)

    return Splits(
        train=part(position < train),
        validation=part((position >= train - context_length) & (position < validation) & (validation > train)),
        test=part((position >= validation - context_length) & (position < test) & (test > validation)),
        borders=borders,
        unused=int((position >= test).sum()),
    )


def _as_time(bound: Any, times: np.ndarray) -> Any:
    if np.issubdtype(times.dtype, np.integer):
        return int(bound)
    return pd.Timestamp(bound).to_datetime64()
