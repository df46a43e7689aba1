"""Static covariates: what holds for a whole series (the region or the size of a shop), as numbers that models read.

Inside, a static covariate is a covariate that is known ahead, because it never changes: numbers stay one column, texts
become one column of 0 and 1 for each value (`region=north`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from tsllm.data.columns import advise_encoding, is_real, require_columns
from tsllm.types import ID, FrameError

# Column -> its values, if it holds texts; None = it holds numbers.
Static = dict[str, list[str] | None]


def encode_static(df: pd.DataFrame, static: Sequence[str] | Mapping[str, Any]) -> tuple[pd.DataFrame, Static]:
    """Returns a long table with the encoded columns, and what a later table is encoded by.

    Args:
        df: Long table under the names of frames, not yet validated.
        static: Columns; or what an earlier call returned, whose values then count.

    Raises:
        FrameError: If a column is missing, changes within a series, misses a value, or holds a text that the earlier
            table did not hold.
    """
    known: Mapping[str, Any] = static if isinstance(static, Mapping) else {}
    if not static:
        return df, {}
    if set(name_static(known)) and set(name_static(known)) <= set(df.columns):
        return df, dict(known)  # encoded before
    require_columns(df, [ID, *static], "a long frame with static covariates")
    made: dict[str, Any] = {}
    found: Static = {}
    for column in static:
        _check_constant(df, column)
        if known[column] is None if column in known else is_real(df[column]):
            found[column] = None
            continue
        texts = df[column].astype(str)
        values = sorted(set(texts)) if column not in known else list(known[column])
        new = texts[~texts.isin(values)]
        if len(new):
            raise FrameError(
                f"series {df[ID].loc[new.index[0]]!r}: the static covariate {column!r} is {new.iloc[0]!r}, which "
                f"training never saw; it knows {values}: fit again with data that hold it, or put one of these in its "
                f"place: df[{column!r}] = df[{column!r}].replace({new.iloc[0]!r}, {values[0]!r})"
            )
        found[column] = values
        made |= {_name(column, value): (texts == value).astype("float64") for value in values}
    return df.assign(**made), found


def name_static(static: Mapping[str, Any]) -> list[str]:
    """Returns the encoded columns.

    >>> name_static({"size": None, "region": ["north", "south"]})
    ['size', 'region=north', 'region=south']
    """
    return [
        name
        for column, values in static.items()
        for name in ([column] if values is None else [_name(column, value) for value in values])
    ]


def add_static(frame: pd.DataFrame, history: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Returns a frame of later steps with the static columns of its series, as the history has them."""
    last = history.groupby(ID, sort=False)[list(columns)].last()
    return frame.assign(**{column: frame[ID].map(last[column]) for column in columns})


def _name(column: str, value: str) -> str:
    return f"{column}={value}"


def _check_constant(df: pd.DataFrame, column: str) -> None:
    missing = df[column].isna().to_numpy()
    if missing.any():
        at = int(missing.argmax())
        raise FrameError(
            f"series {df[ID].iloc[at]!r}, row {at}: static covariate {column!r} is missing; fill it, or leave it out"
        )
    counts = df.groupby(ID, sort=False)[column].nunique()
    if (counts > 1).any():
        name = counts.index[int(np.argmax(counts.to_numpy() > 1))]
        values = df.loc[df[ID] == name, column].drop_duplicates().tolist()[:2]
        encoded = "" if is_real(df[column]) else f", once it is numbers: {advise_encoding(df[column])}"
        raise FrameError(
            f"series {name!r}: {column!r} changes ({values[0]!r}, then {values[1]!r}), so it is not static; name it "
            f"among covariates (known ahead) or past_covariates{encoded}"
        )
