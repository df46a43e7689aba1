"""Which words of a text mattered: a forecast with the text is compared with forecasts without each part of it."""

import re
from typing import Any

import numpy as np
import pandas as pd

from tsllm.context.contract import TEXT, Context
from tsllm.context.lexer import split_sentences
from tsllm.data.frame import validate_frame
from tsllm.forecasting.base import Forecaster
from tsllm.types import ID

UNITS = ("sentence", "word")


def weigh_words(
    forecaster: Forecaster, df: pd.DataFrame, context: Any, unit: str = "sentence", h: int | None = None,
    X_df: pd.DataFrame | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Deletes each sentence or word of each text in turn, and tells how far the forecast of its series moves.

    Args:
        forecaster: One whose `predict` takes `context`: `ContextForecaster`, or a Time-LLM that reads texts.
        df: The history.
        context: As `predict` takes it.
        unit: `sentence`, or `word` (a forecast for each word of each text).
        h: As in `Forecaster.predict`.
        X_df: As in `Forecaster.predict`.

    Returns:
        One row a part: `unique_id`, `row` (of the texts), `part`, `change` (mean absolute difference of the forecast
        with the text and without that part, in the units of the series), and `share` of the change that the whole
        text makes (NaN where it makes none); parts that depend on one another may each have all of it.

    Raises:
        FrameError: If the texts do not fit the data.
        ValueError: If the unit is unknown, or a text is too long for the reader.

    Example:
        >>> import pandas as pd, tsllm
        >>> df = pd.DataFrame({"unique_id": "a", "ds": pd.date_range("2024", periods=28), "y": [8.0] * 28})
        >>> told = tsllm.ContextForecaster(tsllm.SeasonalNaive(7)).fit(df, 2)
        >>> text = "The shop is old. Closed on 30 January 2024: sales are 0."
        >>> weigh_words(told, df, text)[["part", "change", "share"]].values.tolist()
        [['The shop is old.', 0.0, 0.0], ['Closed on 30 January 2024: sales are 0.', 4.0, 1.0]]
    """
    if unit not in UNITS:
        raise ValueError(f"unit is {unit!r}; choose one of {', '.join(UNITS)}")
    table = Context.read(context, validate_frame(df), timeless=True).table

    def forecast(texts: pd.Series) -> pd.DataFrame:
        options: dict[str, Any] = {"context": table.assign(text=texts)}
        return forecaster.predict(df, h, None, X_df, **options)

    whole = forecast(table[TEXT])
    rows = []
    for number, (name, text) in enumerate(zip(table[ID], table[TEXT], strict=True)):
        parts = _find_parts(text, unit)
        if not parts:
            continue
        own = (whole[ID] == name).to_numpy()
        with_text = whole.loc[own, forecaster.alias].to_numpy(float)

        def measure(
            rest: str, number: int = number, own: np.ndarray = own, with_text: np.ndarray = with_text
        ) -> float:
            without = table[TEXT].copy()
            without.iloc[number] = rest
            return float(np.abs(forecast(without).loc[own, forecaster.alias].to_numpy(float) - with_text).mean())

        total = measure("")
        for first, last in parts:
            change = measure(f"{text[:first]}{text[last:]}".strip())
            share = change / total if total > 0 else np.nan
            rows.append({ID: name, "row": number, "part": text[first:last], "change": change, "share": share})
    return pd.DataFrame(rows, columns=[ID, "row", "part", "change", "share"])


def _find_parts(text: str, unit: str) -> list[tuple[int, int]]:
    """Returns the places of the parts of a text, without the spaces around them."""
    if unit == "word":
        return [match.span() for match in re.finditer(r"\S+", text)]
    return [
        (first + len(part) - len(part.lstrip()), first + len(part.rstrip()))
        for first, last in split_sentences(text)
        if (part := text[first:last]).strip()
    ]
