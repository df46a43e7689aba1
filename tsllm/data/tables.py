"""CSV text as a table: every row as wide as the header, names as they were written, numbers correctly rounded.

Text is never interpreted: a series may be called `007`, `1e5`, `NA` or `=cmd|' /C calc'!A0`, and comes back as it went
in, from forecasts too. Such a forecast file is data, not a spreadsheet: open it as text there.
"""

import csv
import io
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from tsllm.data.names import OWN, ColumnNames
from tsllm.types import FrameError

# What stands for a missing value in a column of numbers, as pandas reads it; in a column of text it is text.
_MISSING = ("", "#N/A", "#NA", "-", "-NaN", "-nan", "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null")
_OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}


def read_csv(path: str | os.PathLike[str], names: ColumnNames = OWN) -> pd.DataFrame:
    """Reads a CSV file (UTF-8, commas, a header).

    The column of the series (`unique_id` unless `names` say otherwise) stays text. Another column becomes numbers if
    every cell is one or missing, truth values if every cell is one, integers if it is the time and counts; else it
    stays text, which nobody minds who does not ask for it. A column without a name is called `Unnamed: 0`, as pandas
    does.

    Raises:
        FrameError: If it is empty or no UTF-8, if names are doubled, or a row is longer or shorter than the header.
    """
    file = Path(path)
    text = _decode(file.read_bytes(), file)
    header = _read_header(text, file)
    if '"' in text:
        _check_quotes(text, file)
    options = {
        "read_options": arrow_csv.ReadOptions(use_threads=False, block_size=len(text.encode()) + 1024),
        "parse_options": arrow_csv.ParseOptions(newlines_in_values='"' in text),
        "convert_options": arrow_csv.ConvertOptions(
            column_types={name: pa.string() for name in header}, strings_can_be_null=False
        ),
    }
    try:
        table = arrow_csv.read_csv(io.BytesIO(text.encode()), **options)
    except pa.ArrowException as error:
        raise FrameError(f"{file} cannot be read as CSV: {_explain(str(error))}") from error
    columns = {name or f"Unnamed: {k}": _convert(table.column(k), name, names) for k, name in enumerate(header)}
    return pd.DataFrame(columns)


def _decode(data: bytes, file: Path) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise FrameError(f"{file} is UTF-16 text; save it as UTF-8 (iconv -f utf-16 -t utf-8)")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FrameError(
            f"{file} is no UTF-8 text (byte {data[error.start]:#04x} at position {error.start}); save it as UTF-8, for"
            " example with iconv -f latin1 -t utf-8"
        ) from None
    if "\0" in text:
        raise FrameError(f"{file} holds zero bytes, so it is no CSV text; a compressed or binary file?")
    if not text.strip():
        raise FrameError(f"{file} is empty; expected a header and at least one row")
    return text


def _read_header(text: str, file: Path) -> list[str]:
    try:
        names = next(row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row)
    except (csv.Error, StopIteration) as error:
        raise FrameError(f"the header of {file} cannot be read as CSV ({error})") from error
    if len(names) == 1:
        for separator, what in _OTHER_SEPARATORS.items():
            if separator in names[0]:
                raise FrameError(f"{file} is separated by {what}; save it with commas (and decimal points)")
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise FrameError(f"column {doubled[0]!r} appears twice in the header of {file}; rename or drop one")
    return names


def _check_quotes(text: str, file: Path) -> None:
    """Refuses quotes that are never closed, behind which the reader would hide all further rows in one cell."""
    try:
        for _ in csv.reader(io.StringIO(text, newline=""), strict=True):
            pass
    except csv.Error as error:
        raise FrameError(
            f"{file} has a quote that is not closed or not doubled ({error}); mend or remove it"
        ) from error


def _explain(message: str) -> str:
    message = message.removeprefix("CSV parse error: ").strip()
    return f"{message}; every row must have as many cells as the header, counted from row 1"


def _convert(column: pa.ChunkedArray, name: str, names: ColumnNames) -> Any:
    """Returns a column of text as what it is, see `read_csv`."""
    text = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if name in names.texts:
        return pd.Series(pc.if_else(pc.equal(text, ""), None, text).to_pylist(), dtype=object)
    trimmed = pc.utf8_trim_whitespace(text)
    missing = pc.is_in(trimmed, pa.array(_MISSING))
    present = trimmed.filter(pc.invert(missing))
    kind = pa.int64() if name in names.times and len(present) == len(text) else pa.float64()
    for target in dict.fromkeys((kind, pa.float64())):
        try:
            return pc.if_else(missing, None, trimmed).cast(target).to_pandas()
        except pa.ArrowInvalid:
            continue
    lowered = pc.utf8_lower(trimmed)
    if pc.all(pc.is_in(lowered, pa.array(["true", "false"]))).as_py():
        return pc.equal(lowered, "true").to_pandas()
    if name in names.times:
        text = pc.if_else(missing, None, text)
    return pd.Series(text.to_pylist(), dtype=object)
