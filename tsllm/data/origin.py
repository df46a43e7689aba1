"""Where the rows and columns of a long frame stand in the table that a user gave, for the texts of errors."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from tsllm.types import ID, TARGET, TIME


@dataclass(frozen=True)
class Origin:
    """The table as its owner knows it.

    Attributes:
        rows: Position in that table of each row of the long frame [rows].
        time: What the time column is called there.
        wide: Whether each series is a column there.
        table: What the table is called in advice.
    """

    rows: np.ndarray
    time: str = TIME
    wide: bool = False
    table: str = "df"

    def take(self, order: np.ndarray) -> "Origin":
        """Returns the origin of the rows in another order."""
        return replace(self, rows=self.rows[order])

    def place(self, ids: pd.Series, at: int) -> str:
        """Names series and row of the long frame's row `at`."""
        return f"series {name_of(ids, at)!r}, row {self.rows[at]}"

    @property
    def times(self) -> str:
        """The time column in Python, as advice has it: df['ds']."""
        return f"{self.table}[{self.time!r}]"

    def column(self, column: Any, series: Any) -> Any:
        """Returns what a column is called in the table: in a wide one, the target of a series has the series' name."""
        return series if self.wide and column == TARGET else column

    @property
    def keys(self) -> list[str]:
        """The columns that tell one row of the table from another."""
        return [self.time] if self.wide else [ID, self.time]


def name_of(ids: pd.Series, at: int) -> Any:
    """Returns the name of the series in row `at`, as a plain Python value."""
    name = ids.iloc[at]
    return name.item() if isinstance(name, np.generic) else name
