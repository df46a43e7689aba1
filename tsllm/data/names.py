"""What the columns of a user's table are called: translated here, once, on the way in and on the way out.

Inside, a long frame is always `unique_id, ds, y` and the covariates. A table with `series, date, value` is read under
these names at the border (`ColumnNames.read`), errors are told in the names of the table (`ColumnNames.speaking`), and
forecasts get its names back (`ColumnNames.write`).
"""

import logging
import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import pandas as pd

from tsllm.data.columns import WIDE_TIME_NAMES, as_pandas
from tsllm.near import find_near
from tsllm.types import CUTOFF, ID, TARGET, TIME, FrameError

logger = logging.getLogger(__name__)

_OPTIONS = {"id_col": "--id", "time_col": "--time", "target_col": "--target"}
# A name of frames in the text of an error: quoted, or as a word of its own; not the name of a series.
_SPOKEN = rf"(?<!series )'({ID}|{TIME}|{TARGET})'|(?<![\w'])({ID}|{TIME})(?![\w'])"
# The call that an error advises, up to its closing bracket; it needs the names of the table as options.
_CALLED = r"fill_gaps\(df, freq=[^()]*(?=\))"
# Names that forecasts need for themselves.
_TAKEN = (CUTOFF, "sample")


@dataclass(frozen=True)
class ColumnNames:
    """The names that a table has for the series, the time and the target.

    Attributes:
        id_col: Column that names the series. A table without it is one series if `target_col` is given, else wide.
        time_col: Column of the times.
        target_col: Column of the values.
    """

    id_col: str = ID
    time_col: str = TIME
    target_col: str = TARGET

    def __post_init__(self) -> None:
        given = [getattr(self, f.name) for f in fields(self)]
        for name, value in zip(_OPTIONS, given, strict=True):
            if not isinstance(value, str) or not value.strip():
                raise FrameError(f"{name} is {value!r}; give the name of a column")
            if value in _TAKEN:
                raise FrameError(f"{name} is {value!r}, which forecasts need for themselves; rename the column")
        doubled = [value for value in given if given.count(value) > 1]
        if doubled:
            raise FrameError(f"{doubled[0]!r} is named for two of id_col, time_col and target_col; name it once")

    @classmethod
    def of(
        cls, id_col: str | None = None, time_col: str | None = None, target_col: str | None = None
    ) -> "ColumnNames":
        """Builds the names from what was said; None = as frames have it."""
        given = {"id_col": id_col, "time_col": time_col, "target_col": target_col}
        return cls(**{name: value for name, value in given.items() if value is not None})

    @classmethod
    def from_dict(cls, state: Mapping[str, str]) -> "ColumnNames":
        """Rebuilds the names from `to_dict`.

        Raises:
            FrameError: If there are others, or one is no name.
        """
        unknown = sorted(set(state) - set(_OPTIONS))
        if unknown:
            raise FrameError(f"the stored columns have an unknown entry {unknown[0]!r}; save the forecaster again")
        return cls(**state)

    def to_dict(self) -> dict[str, str]:
        """Returns the names that differ from those of frames."""
        return {name: value for name, value in asdict(self).items() if value != getattr(type(self), name)}

    def __bool__(self) -> bool:
        """Whether any name differs from that of frames."""
        return bool(self.to_dict())

    def resolve(self, df: Any) -> "ColumnNames":
        """Returns the names with `date` as the time's where a table has no other time; own names stay as they are."""
        columns = _columns(df)
        dated = bool(self) and self.time_col == TIME and TIME not in columns and "date" in columns
        return replace(self, time_col="date") if dated and "date" not in self.to_dict().values() else self

    @property
    def texts(self) -> tuple[str, ...]:
        """The columns that hold names of series, which are text whatever they look like."""
        return (self.id_col, ID)

    @property
    def times(self) -> tuple[str, ...]:
        """The columns that hold times."""
        return (self.time_col, *WIDE_TIME_NAMES)

    def describes(self, df: Any) -> bool:
        """Tells whether a table is to be translated: it has these names, or not those of frames either."""
        columns = set(_columns(df))
        keys = {ID: self.id_col, TIME: self.time_col} if self.id_col != ID or self.time_col != TIME else {}
        changed = {own: name for own, name in (keys or {TARGET: self.target_col}).items() if own != name}
        own = columns | ({TIME} if "date" in columns else set())
        return bool(self) and not all(name not in columns and key in own for key, name in changed.items())

    def names_series(self, df: Any) -> bool:
        """Tells whether a table has a column that names the series."""
        return self.id_col in _columns(df)

    def read(self, df: Any, *, strict: bool = False) -> pd.DataFrame:
        """Returns a table under the names of frames; covariates keep theirs, wide tables stay wide.

        A further column that has a name of frames (`y` beside a target `value`) is left out, and the log says so.

        Args:
            df: Long or wide table.
            strict: Whether a table that has the names of frames already is an error; else it is returned as it is.

        Raises:
            FrameError: If a named column is missing; the text has the nearest name.
        """
        if not (bool(self) if strict else self.describes(df)):
            return as_pandas(df)
        df = self._rename(df)
        if self.target_col != TARGET and ID not in df.columns:
            # One series without a name: its target's name is the best there is.
            self._refuse_several(df)
            df = df.assign(**{ID: self.target_col})
        return df

    def read_later(self, df: Any) -> pd.DataFrame:
        """Returns a table of the horizon under the names of frames; it needs no target.

        Raises:
            FrameError: If the time column is missing.
        """
        return self._rename(df, known_id=False) if self.describes(df) else as_pandas(df)

    def read_texts(self, table: Any) -> pd.DataFrame:
        """Returns a table of texts, one a row, under the name of frames for the series."""
        table = as_pandas(table)
        return table.rename(columns={self.id_col: ID}) if ID not in table.columns else table

    def write(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Returns a forecast frame under the names of the table.

        Raises:
            FrameError: If a forecast has the name of a key of the table.
        """
        renamed = {ID: self.id_col, TIME: self.time_col, TARGET: self.target_col}
        renamed = {own: name for own, name in renamed.items() if own in frame.columns and own != name}
        doubled = [name for name in renamed.values() if name in frame.columns and name not in renamed]
        if doubled:
            raise FrameError(f"the forecast is called {doubled[0]!r}, as a column of the table is; give another alias")
        return frame.rename(columns=renamed)

    @contextmanager
    def speaking(self) -> Iterator[None]:
        """Tells errors of the block in the names of the table."""
        try:
            yield
        except (ValueError, ArithmeticError) as error:
            if self and len(error.args) == 1 and isinstance(error.args[0], str):
                error.args = (self.translate(error.args[0]),)
            raise

    def translate(self, text: str) -> str:
        """Returns a text about frames in the names of the table; names of series stay, an advised call is told them.

        >>> ColumnNames("shop", "day", "sales").translate("series 'y', row 3: ds 9 appears twice, 'y' is missing")
        "series 'y', row 3: day 9 appears twice, 'sales' is missing"
        """
        names = {ID: self.id_col, TIME: self.time_col, TARGET: self.target_col}

        def replace(found: re.Match[str]) -> str:
            return repr(names[found[1]]) if found[1] else names[found[2]]

        options = "".join(f", {option}={name!r}" for option, name in self.to_dict().items())
        return re.sub(_CALLED, lambda found: found[0] + options, re.sub(_SPOKEN, replace, text))

    def _rename(self, df: Any, known_id: bool = True) -> pd.DataFrame:
        df = as_pandas(df)
        keys = [name for name in df.index.names if name in (self.id_col, self.time_col) and name not in df.columns]
        df = df.reset_index(level=keys) if keys else df
        # In a wide table the time is the only key; a name that was given must be there.
        if self.id_col != ID and known_id:
            self._require(df, self.id_col, "id_col")
        if self.time_col != TIME:
            self._require(df, self.time_col, "time_col")
        if self.target_col != TARGET and known_id:
            self._require(df, self.target_col, "target_col")
        wanted = {self.id_col: ID, self.time_col: TIME, self.target_col: TARGET}
        wanted = {name: own for name, own in wanted.items() if name in df.columns and name != own}
        hidden = [own for own in wanted.values() if own in df.columns and own not in wanted]
        for column in hidden:
            named = next(name for name, own in wanted.items() if own == column)
            logger.warning("column %r is left out: %r was named in its place", column, named)
        return df.drop(columns=hidden).rename(columns=wanted)

    def _refuse_several(self, df: pd.DataFrame) -> None:
        """Refuses a table of which the target was named and the series were not, if it holds several."""
        if TIME not in df.columns or not df[TIME].duplicated().any():
            return
        from tsllm.data.guess import guess_names

        named = guess_names(df).get(ID)
        if named is not None:
            raise FrameError(
                f"{self.time_col} {df.loc[df[TIME].duplicated(), TIME].iloc[0]} appears twice, so the table holds "
                f"several series; name the column that tells them apart: --id {shlex.quote(str(named))} (in Python "
                f"id_col={named!r})"
            )

    def _require(self, df: pd.DataFrame, column: str, option: str) -> None:
        if column in df.columns:
            return
        found = [str(name) for name in df.columns]
        near = find_near(str(column), found, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise FrameError(f"there is no column {column!r} ({option}, {_OPTIONS[option]}); found columns {found}{hint}")


def _columns(df: Any) -> list[Any]:
    """Returns the columns of a table of any kind, with the names of its index."""
    columns = list(getattr(df, "columns", ()))
    names = getattr(df, "column_names", None)  # Arrow
    columns = list(names) if isinstance(names, list) else columns
    return columns + [name for name in getattr(getattr(df, "index", None), "names", ()) if name is not None]


OWN = ColumnNames()
