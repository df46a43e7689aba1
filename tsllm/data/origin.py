"""Where the rows and columns of a long frame stand in the table that a user gave, for the texts of errors."""

from dataclasses import dataclass
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
    """

    rows: np.ndarray
    time: str = TIME
    wide: bool = False

    def take(self, order: np.ndarray) -> "Origin":
        """Returns the origin of the rows in another order."""
        return Origin(self.rows[order], self.time, self.wide)

    def place(self, ids: pd.Series, at: int) -> str:
        """Names series and row of the long frame's row `at`."""
        return f"series {name_of(ids, at)!r}, row {self.rows[at]}"

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
