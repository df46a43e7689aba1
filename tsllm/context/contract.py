"""What is known and told: texts for series, checked, and handed out only to forecasts that may have read them."""

import hashlib
import json
import logging
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tsllm.context.times import read_text_times, refuse_doubled
from tsllm.data.columns import as_pandas, is_table
from tsllm.data.names import OWN, ColumnNames
from tsllm.data.reading import SUFFIXES, read_table
from tsllm.types import ID, TIME, FrameError

if TYPE_CHECKING:
    from tsllm.context.notes import Note

TEXT, PUBLISHED, START, END = "text", "published", "start", "end"
TIMES = (PUBLISHED, START, END)
COLUMNS = (ID, TEXT, *TIMES)
MAPPING = ".json"  # ending of a file with a mapping series -> text
logger = logging.getLogger(__name__)
_EXCEPT = re.compile(
    r"\b(?:except|excepting|excluding|besides|(?:all|every\w*|any\w*) but|(?:other|rather) than|apart from|aside from)"
    r"(?: for| in| at)?(?: the)?(?: series)? [\"'`]?$",
    re.IGNORECASE,
)
LengthCheck = Callable[[str, str], None]  # text, its name in messages


@dataclass(frozen=True)
class Context:
    """Texts of series.

    Attributes:
        table: Columns `unique_id, text, published, start, end`, one row a text; NaT where a time is not given.
        timeless: Whether a text without `published` may be read at every cutoff.
    """

    table: pd.DataFrame
    timeless: bool = False

    @classmethod
    def read(
        cls,
        context: Any,
        df: pd.DataFrame,
        *,
        last: Mapping[Any, Any] | None = None,
        timeless: bool = False,
        check_length: LengthCheck | None = None,
    ) -> "Context":
        """Checks what a user gave.

        Args:
            context: None; one text for all series, or for those that it names (`find_named`); a mapping series ->
                text; or a frame `unique_id, text` with optional columns `published` (from when it may be read),
                `start`, `end` (the times it is about), also as a list of its rows. A missing text is an empty one.
            df: The validated history: which series and times there are.
            last: Series -> the last time that is forecast of it (`tsllm.data.frame.find_last_times`), which no row
                that may be read starts after; None = no check of `start` at that side.
            timeless: Whether texts without `published` may be read at every cutoff.
            check_length: Refuses a text that the reader cannot take in whole.

        Raises:
            FrameError: Naming the row or series: unknown series, a text that is none, an unreadable time, one that is
                a number, has a time zone or may put the day or the month first, `end` before `start`, times outside
                the data, unknown or doubled columns.
            ValueError: If a text is too long for the reader.
        """
        table = _tabulate(context, list(df[ID].unique()))
        if isinstance(table[ID].dtype, pd.CategoricalDtype):
            table[ID] = table[ID].astype(table[ID].cat.categories.dtype)
        known = set(df[ID])
        table[ID] = _match_type(table[ID], known)
        table[TEXT] = table[TEXT].astype(object).where(table[TEXT].notna(), "")
        for row, (name, text) in enumerate(zip(table[ID], table[TEXT], strict=True)):
            if name not in known:
                raise FrameError(
                    f"context row {row} is about series {name!r}, which the data do not hold; they hold "
                    f"{', '.join(map(repr, sorted(known, key=str)[:5]))}{' ...' if len(known) > 5 else ''}"
                )
            if not isinstance(text, str):
                raise FrameError(
                    f'context row {row} (series {name!r}): the text is {text!r}; give a string, "" for none'
                )
            refuse_broken(text, f"the text of context row {row} (series {name!r})")
            if check_length is not None and text:
                check_length(text, f"the text of series {name!r}")
        texts = table[TEXT].astype(object)  # no rows at all have no type
        table[TEXT] = texts.where(texts.str.strip() != "", "")  # blanks say nothing
        table = read_text_times(table, TIMES)
        told = cls(table, timeless)
        told.refuse_outside(df, last)
        return told

    def refuse_outside(self, df: pd.DataFrame, last: Mapping[Any, Any] | None = None) -> None:
        """Refuses a row about times that its series does not have; one published after its end is not read anyway.

        Args:
            df: The validated history.
            last: As in `read`.

        Raises:
            FrameError: Naming row, series and both times.
        """
        timed = self.table[self.table[list(TIMES)].notna().any(axis=1)]
        if len(timed) and not pd.api.types.is_datetime64_any_dtype(df[TIME]):
            raise FrameError(
                f"context row {timed.index[0]} (series {timed[ID].iloc[0]!r}) has a time, but the data count their "
                "steps; leave `published`, `start` and `end` away, or give dates in `ds`"
            )
        rows = self.table[self.table[[START, END]].notna().any(axis=1)]
        if rows.empty:
            return
        spans = df.groupby(ID, sort=False)[TIME].agg(["min", "max"]).to_dict("index")
        for row, name, _, published, start, end in rows.itertuples():
            place, span = f"context row {row} (series {name!r})", spans[name]
            if end < start:
                raise FrameError(f"{place} ends at {end}, before it starts at {start}")
            if start == end:
                raise FrameError(
                    f"{place} starts and ends at {start}, so it is about no time: `end` is the first moment that it "
                    "is not about any more; give a later one, or leave it out"
                )
            if end < span["min"]:
                raise FrameError(f"{place} ends at {end}, before the series begins at {span['min']}; leave it out")
            if last is not None and start > last[name] and not published > span["max"]:
                raise FrameError(
                    f"{place} starts at {start}, but the last time that could be meant is {last[name]}, h steps after "
                    "the end of the series; mend the time, leave the row out or raise h"
                )

    def digest(self) -> str:
        """Returns a hash of the texts, their times and whether they are timeless."""
        rows = self.table.to_json(orient="values", date_format="iso", date_unit="ns")
        return hashlib.sha256(f"{self.timeless} {rows}".encode()).hexdigest()[:16]

    def notes_at(self, cutoffs: Mapping[Any, Any]) -> "dict[Any, list[Note]]":
        """Returns what series may read, each at a cutoff of its own: series -> its notes, in the order given.

        Args:
            cutoffs: Series -> the last time of its history; others read nothing.

        Raises:
            FrameError: As `refuse_undated`.
        """
        table = self.table[self.table[TEXT] != ""]
        if table.empty or not cutoffs:
            return {}
        self.refuse_undated(max(cutoffs.values()))
        latest, published = table[ID].map(cutoffs), table[PUBLISHED]
        dated = published.notna()
        early = dated.copy()
        early[dated] = published[dated] <= latest[dated]  # steps that are counted cannot be compared with a date
        return _list_notes(table[latest.notna() & (early | ~dated)])

    def find_unread(self, df: pd.DataFrame) -> pd.DataFrame:
        """Returns the rows that a forecast from the end of the history may not read: those published after it.

        Args:
            df: The history.

        Returns:
            Rows of the table, with the column `last`: the end of the series.
        """
        rows = self.table.assign(last=self.table[ID].map(df.groupby(ID, sort=False)[TIME].last()))
        late = rows[PUBLISHED].notna() & (rows[TEXT] != "")
        return rows[late & rows[PUBLISHED].gt(rows["last"])] if late.any() else rows[late]

    def warn_of_unread(self, df: pd.DataFrame) -> None:
        """Warns of the rows that `find_unread` returns, if there are any."""
        unread = self.find_unread(df)
        if len(unread):
            first = next(unread.itertuples())
            logger.warning(
                "%d of %d texts not read: published after the end of the data; context row %d (series %r) was "
                "published at %s, and the series ends at %s", len(unread), int((self.table[TEXT] != "").sum()),
                first.Index, getattr(first, ID), first.published, first.last,
            )  # fmt: skip

    def rows_of_windows(
        self, name: Any, cutoffs: np.ndarray, firsts: np.ndarray, lasts: np.ndarray, step: pd.Timedelta
    ) -> tuple[pd.DataFrame, np.ndarray]:
        """Returns what windows of a series tell a model that reads texts itself.

        A window reads what was published by its cutoff, is about a time of its horizon (a text without `start` and
        `end` is about every time; `end` is the first moment that it is not about), and is not over by its words. A
        text with `published` has dates where it counts from there (`tsllm.context.dated.list_versions`).

        Args:
            name: Of the series.
            cutoffs: Last times of the contexts [N].
            firsts: First times of the horizons [N].
            lasts: Last times of the horizons [N].
            step: From one time to the next.

        Returns:
            Columns `text, start, end, row`, a line for each version of a text that some window may read, `row` being
            its row in the table [V]; and which of them each window reads, at most one of a row, bool [N, V].

        Raises:
            FrameError: As `refuse_undated`.
        """
        from tsllm.context.dated import list_versions  # a forecast without texts reads no times

        self.refuse_undated(cutoffs[0])
        rows = self.table[(self.table[ID] == name) & (self.table[TEXT] != "")]
        published, start, end = (rows[column].to_numpy() for column in (PUBLISHED, START, END))
        may_read = np.isnat(published) | (published <= cutoffs[:, None])  # [N, R]
        may_read &= np.isnat(start) | (start <= lasts[:, None])
        may_read &= np.isnat(end) | (end > firsts[:, None])
        found: list[tuple[Any, ...]] = []
        reads: list[np.ndarray] = []
        read = np.flatnonzero(may_read.any(axis=0))
        for k, note in zip(read, _list_notes(rows.iloc[read]).get(name, ()), strict=True):
            for version in list_versions(note, step):
                open_ = may_read[:, k].copy()  # [N]
                open_ &= True if version.since is None else firsts >= version.since.to_datetime64()
                open_ &= True if version.until is None else firsts < version.until.to_datetime64()
                if open_.any():
                    found.append((version.text, start[k], end[k], rows.index[k]))
                    reads.append(open_)
        told = pd.DataFrame(found, columns=[TEXT, START, END, "row"])
        return told.astype({START: start.dtype, END: end.dtype}), np.array(reads, bool).reshape(-1, len(cutoffs)).T

    def refuse_undated(self, cutoff: Any) -> None:
        """Refuses a text that does not say when it was published, unless it is declared timeless.

        Raises:
            FrameError: Naming the row and the cutoff that could not tell.
        """
        open_rows = self.table[PUBLISHED].isna() & (self.table[TEXT] != "")
        if open_rows.any() and not self.timeless:
            row = int(open_rows.to_numpy().argmax())
            raise FrameError(
                f"context row {row} (series {self.table[ID].iloc[row]!r}) does not say when it was published, so a "
                f"forecast from an earlier cutoff than {cutoff} cannot tell whether it may read it; add a column "
                "`published`, or declare the texts timeless (timeless=True, on the command line --timeless)"
            )


def refuse_broken(text: str, name: str) -> None:
    """Refuses a text that no file can hold, with half of a surrogate pair.

    Raises:
        FrameError: With the name, the place and the way out.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise FrameError(
            f"{name} has {text[error.start]!r} at character {error.start}, half of a character that takes two; drop "
            "it with text.encode(errors='ignore').decode()"
        ) from error


def find_named(text: str, ids: Sequence[Any]) -> list[Any]:
    """Returns the series that one text is about: those that it names, or all if it names none or all of them.

    A name counts as a whole word in the spelling of the data; one that is a number or a single character only behind
    the word "series". It is logged if some series are left out, and if a name stands there in another spelling, which
    does not count.

    Args:
        text: Any text.
        ids: Names of the series.

    Raises:
        FrameError: If the text excepts a series that it names ("all but north"), so that the rule would turn it round,
            or if its sentences name different series.

    Example:
        >>> find_named("The north is closed on Friday.", ["north", "south"])
        ['north']
        >>> find_named("Closed on Friday.", ["north", "south"])
        ['north', 'south']
    """
    likely = sorted((name for name in ids if str(name) and str(name) in text), key=lambda name: -len(str(name)))
    if len(ids) == 1:
        return list(ids)
    _tell_near(text, ids, likely)
    if not likely:
        return list(ids)
    # Longer names come first, so that `north-east` does not count as `north`.
    words = "|".join(
        (rf"(?<=[Ss]eries ){re.escape(name)}" if len(name) == 1 or _is_number(name) else re.escape(name))
        for name in map(str, likely)
    )
    found = list(re.finditer(rf"(?<![\w-])(?:{words})(?!\w|-\w|[.,]\d)", text))
    excepted = next((m[0] for m in found if _EXCEPT.search(text[: m.start()])), None)
    if excepted is not None:
        raise FrameError(
            f"the text excepts series {excepted!r}, and one text cannot say which series it is about then; give a "
            "mapping series -> text, or a table with a row for each series"
        )
    _refuse_mixed(text, found)
    named = {m[0] for m in found}
    chosen = [name for name in ids if str(name) in named]
    if not chosen or len(chosen) == len(ids):
        return list(ids)
    shown = ", ".join(repr(name) for name in chosen[:5]) + (" ..." if len(chosen) > 5 else "")
    logger.warning(
        "the text names series %s, so it is read for %d of %d series; a mapping or a table says otherwise", shown,
        len(chosen), len(ids),
    )  # fmt: skip
    return chosen


def _tell_near(text: str, ids: Sequence[Any], spelled: Sequence[Any]) -> None:
    """Logs a name that stands in a text in nearly its spelling, which names no series then.

    Blanks, hyphens, underscores, capitals and zeros in front of a number make no difference ("product 3" for
    `Product 03`).

    Args:
        text: Any text.
        ids: Names of the series.
        spelled: Those that stand there as they are.
    """
    condensed = _condense(text)
    for name in ids:
        letters = re.sub(r"[\s_-]", "", str(name))
        if name in spelled or len(letters) < 2 or _is_number(letters) or _condense(str(name)) not in condensed:
            continue
        parts = re.findall(r"\d+|\D", letters)
        pattern = r"[ _-]*".join(f"0*{part.lstrip('0')}" if part.isdecimal() else re.escape(part) for part in parts)
        near = re.search(rf"(?<![\w-]){pattern}(?!\w|-\w)", text, re.IGNORECASE)
        if near is not None:
            logger.warning(
                "the text says %r, which is no series: it is called %r; write it so if the text is about that one "
                "alone (a text that names no series is read for all of them)", near[0], name,
            )  # fmt: skip
            return


def _condense(text: str) -> str:
    """Returns a text without what makes no difference in names, and without any zero."""
    return re.sub(r"[\s_0-]", "", text).lower()


def _refuse_mixed(text: str, found: Sequence[re.Match[str]]) -> None:
    """Refuses a text whose sentences name different series: each series would be told what is said of the others.

    So are parts of a sentence that each say what happens, or when: "north is closed today, and south tomorrow".
    """
    ends = [m.end() for m in re.finditer(r"[.!?](?=\s)|\n", text)]
    sentences: dict[int, set[str]] = {}
    for m in found:
        sentences.setdefault(sum(end <= m.start() for end in ends), set()).add(m[0])
    for what, groups in (("sentence", list(sentences.values())), ("part", _list_named_parts(text, found))):
        first, *others = groups or [set()]
        other = next((names for names in others if names != first), None)
        if other is not None:
            raise FrameError(
                f"one {what} of the text is about {', '.join(sorted(first))}, another about "
                f"{', '.join(sorted(other))}, and one text is read as a whole; give a mapping series -> text, or a "
                "table with a row for each series"
            )


def _list_named_parts(text: str, found: Sequence[re.Match[str]]) -> list[set[str]]:
    """Returns the names in each part of a sentence that says what happens, or when; others belong to the next one."""
    if len({m[0] for m in found}) < 2:
        return []
    from tsllm.context.parser import list_told  # a text that names at most one series is not read here

    groups: list[set[str]] = []
    waiting: set[str] = set()
    for (first, last), tells in list_told(text, [m.span() for m in found]):
        waiting |= {m[0] for m in found if first <= m.start() < last}
        if tells and waiting:
            groups.append(waiting)
            waiting = set()
    return groups


def _is_number(name: str) -> bool:
    return re.fullmatch(r"[\d.,:+-]+", name) is not None


def _match_type(names: pd.Series, known: set[Any]) -> pd.Series:
    """Returns names of series as the data have them: read from a file or a key of JSON, a number is a text."""
    written = {str(name): name for name in known if not isinstance(name, str)}
    return names.map(lambda name: written.get(name, name) if isinstance(name, str) and name not in known else name)


def _names_file(context: str, *suffixes: str) -> bool:
    return Path(context).suffix.lower() in suffixes and not any(c.isspace() for c in context)


def _load_mapping(path: Path) -> dict[str, Any]:
    """Reads a JSON object series -> text.

    Raises:
        FileNotFoundError: If there is no such file.
        FrameError: If it holds none, or names a series twice.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    return _read_mapping(path.read_text(encoding="utf-8"), str(path))


def _read_mapping(written: str, where: str) -> dict[str, Any]:
    def read_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        doubled = next((name for k, (name, _) in enumerate(pairs) if name in dict(pairs[:k])), None)
        if doubled is not None:
            raise FrameError(f"{where} names series {doubled!r} twice; give a table with a row for each text")
        return dict(pairs)

    try:
        found = json.loads(written, object_pairs_hook=read_once)
    except json.JSONDecodeError as error:
        raise FrameError(f"{where} is no JSON ({error}); write a mapping series -> text") from error
    if not isinstance(found, dict):
        raise FrameError(f"{where} holds a {type(found).__name__}; write a mapping series -> text")
    return found


def load_texts(context: str, names: ColumnNames | None = None, day_first: bool | None = None) -> Any:
    """Returns the texts that a command or a YAML file names: a text as it is, or from its path a table or a mapping.

    Args:
        context: A text, a mapping series -> text in JSON, the path of a table, or that of a JSON file with a mapping.
        names: What the columns of the data are called; None = by our words.
        day_first: As in `validate_frame`.

    Raises:
        FileNotFoundError: If a name that ends like a table's is no file.
        FrameError: If a table has no column of texts or series, or a time in it cannot be read or can be read in two
            ways, or a JSON file holds no mapping.
    """
    if _names_file(context, MAPPING):
        return _load_mapping(Path(context))
    if context.lstrip().startswith("{"):
        return _read_mapping(context, "the context")
    if not (_names_file(context, *SUFFIXES) or os.path.exists(context)):
        return context
    names = names or OWN
    table = names.read_texts(read_table(context, names=names))
    for column in (ID, TEXT):
        if column not in table:
            wanted = names.id_col if column == ID else column
            raise FrameError(f"{context} has no column {wanted!r}, only {', '.join(map(str, table.columns))}")
    for column in [name for name in TIMES if name in table]:
        table[column] = table[column].replace("", None)
    return read_text_times(table, TIMES, day_first=day_first)


def write_notes(notes: "Sequence[Note]") -> str:
    """Writes notes as one text, one a line, each behind the times that it is about."""
    return "\n".join(map(str, notes))


def _list_notes(table: pd.DataFrame) -> "dict[Any, list[Note]]":
    from tsllm.context.notes import Note  # a forecast without texts needs none

    notes: dict[Any, list[Note]] = {}
    rows = table.loc[table[TEXT] != "", [ID, TEXT, PUBLISHED, START, END]]
    for name, text, *times in rows.itertuples(index=False, name=None):
        notes.setdefault(name, []).append(Note.read(text, *times))
    return notes


def _tabulate(context: Any, ids: list[Any]) -> pd.DataFrame:
    if context is None:
        rows: list[dict[str, Any]] = []
    elif isinstance(context, str):
        if _names_file(context, *SUFFIXES, MAPPING):
            raise FrameError(
                f"the text is {context!r}, the name of a file; read it first: "
                f"context=tsllm.context.contract.load_texts({context!r})"
            )
        rows = [{ID: name, TEXT: context} for name in find_named(context, ids)]
    elif is_table(context) or (isinstance(context, list) and all(isinstance(row, Mapping) for row in context)):
        context = (
            as_pandas(context) if is_table(context) else pd.DataFrame(context, columns=None if context else COLUMNS)
        )
        refuse_doubled(context)
        unknown = [str(column) for column in context.columns if column not in COLUMNS]
        missing = [column for column in (ID, TEXT) if column not in context.columns]
        if unknown or missing:
            raise FrameError(
                f"the context frame has columns {list(context.columns)}; it needs unique_id and text, and may have "
                f"published, start and end{f'; unknown: {unknown}' if unknown else ''}"
            )
        return context.reindex(columns=COLUMNS).reset_index(drop=True)
    elif isinstance(context, Mapping):
        rows = [{ID: name, TEXT: text} for name, text in context.items()]
    else:
        raise FrameError(f"context is a {type(context).__name__}; give a text, a mapping series -> text, or a frame")
    return pd.DataFrame(rows, columns=COLUMNS)
