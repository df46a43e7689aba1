"""The windows of a back-test: which steps are forecast from which cutoffs."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from tsllm.forecasting.base import check_count
from tsllm.types import CUTOFF, ID, TARGET, TIME, FrameError


@dataclass(frozen=True)
class Windows:
    """The windows of a back-test.

    Attributes:
        df: Validated long frame.
        h: Steps ahead.
        n_windows: Cutoffs.
        step: Steps between cutoffs.
        keys: `unique_id, ds, cutoff, y` of every forecast that is due.
    """

    df: pd.DataFrame
    h: int
    n_windows: int
    step: int
    keys: pd.DataFrame

    @classmethod
    def of(cls, df: pd.DataFrame, h: int, n_windows: int, step: int) -> "Windows":
        """Finds the windows.

        Raises:
            FrameError: If a series has no step before its first cutoff.
            ValueError: If a number is no count.
        """
        for name, value in (("h", h), ("n_windows", n_windows), ("step_size", step)):
            check_count(name, value)
        span = h + (n_windows - 1) * step
        sizes = df.groupby(ID, sort=False).size()
        if sizes.min() <= span:
            raise FrameError(
                f"series {sizes.idxmin()!r} has {sizes.min()} steps; {n_windows} windows of {h} steps, {step} apart, "
                f"need more than {span}; ask for fewer windows or leave the series out"
            )
        rows, cutoffs = [], []
        for end in np.cumsum(sizes.to_numpy()):
            first = end - span + step * np.arange(n_windows)  # [windows]
            rows.append((first[:, None] + np.arange(h)).reshape(-1))
            cutoffs.append(np.repeat(first - 1, h))
        at = np.concatenate(rows)
        keys = df.iloc[at][[ID, TIME, TARGET]].reset_index(drop=True)
        keys.insert(2, CUTOFF, df[TIME].to_numpy()[np.concatenate(cutoffs)])
        return cls(df, h, n_windows, step, keys)

    def history(self, k: int) -> pd.DataFrame:
        """Returns all rows up to cutoff `k` (0 = the first)."""
        ahead = self.h + (self.n_windows - 1 - k) * self.step
        return self.df.groupby(ID, sort=False).head(-ahead).reset_index(drop=True)

    def future(self, k: int) -> pd.DataFrame:
        """Returns the covariates of the `h` steps after cutoff `k`, without the target."""
        ahead = self.h + (self.n_windows - 1 - k) * self.step
        groups = self.df.groupby(ID, sort=False).tail(ahead).groupby(ID, sort=False)
        return groups.head(self.h).drop(columns=TARGET).reset_index(drop=True)

    def cutoff_times(self, k: int) -> pd.Series:
        """Returns the time of cutoff `k` of each series."""
        return self.history(k).groupby(ID, sort=False)[TIME].last()

    @property
    def num_series(self) -> int:
        """How many series there are."""
        return len(self.keys) // (self.h * self.n_windows)
