"""Models of a back-test that are told texts, and which texts changed no forecast, and why."""

from collections.abc import Sequence
from copy import copy
from typing import Any

import numpy as np
import pandas as pd

from tsllm.context.contract import TEXT, Context
from tsllm.context.readers import EffectSpeaker
from tsllm.data.frequency import default_season
from tsllm.evaluation.idle import Place, Sorted, explain_silence, find_places, list_horizons, shorten
from tsllm.forecasting.base import Forecaster
from tsllm.forecasting.context import ContextForecaster
from tsllm.forecasting.readers import OpenReader, open_reader
from tsllm.hub.told import RULES
from tsllm.types import CUTOFF, ID

_SHOWN = 5  # texts that are named


def tell_models(
    models: Sequence[Forecaster],
    df: pd.DataFrame,
    context: Any,
    *,
    timeless: bool = False,
    reader: Any = None,
    freq: Any = None,
    season: int | None = None,
    h: int | None = None,
) -> list[Forecaster]:
    """Returns the models and, behind each, the same one told what was known, as `NAME+context`.

    Args:
        models: Forecasters without texts.
        df: The data.
        context: One text, a mapping series -> text, or a frame `unique_id, text[, published, start, end]`.
        timeless: Whether texts without `published` may be read at every cutoff.
        reader: Who reads: "rules", the folder of a trained reader, "rules+FOLDER", or a reader as `ContextForecaster`
            takes it (a model that reads texts itself does both); None = the model itself if it can, else the rules.
        freq: Frequency of the data; None infers it.
        season: Steps in a season; None = by frequency.
        h: Steps after each series that a text may be about; None = any.

    Raises:
        FrameError: If the texts do not fit the data, or one does not say when it was published.
        ValueError: If a model is told something already, or a text is too long for the reader.
    """
    own = next((model.alias for model in models if isinstance(model, ContextForecaster)), None)
    if own is not None:
        raise ValueError(f"{own} has a reader and texts of its own; leave context (--context) out, or name its base")
    opened = (
        OpenReader(reader) if callable(reader) or isinstance(reader, EffectSpeaker) else open_reader(reader or RULES)
    )
    options: dict[str, Any] = {"timeless": timeless, "freq": freq, "season": season}
    told: list[Forecaster] = []
    for model in models:
        made: Any = ContextForecaster(model, opened.read, context=context, check_length=opened.check_length, **options)
        if not told:
            made.check_context(df, h)
        if reader is None and model.reads_texts:
            made = copy(model)  # whoever trains it copies it again, weights and all
            made.alias = f"{model.alias}+context"
            made.tell(context, timeless)
        told += [model, made]
    return told


def describe_idle_texts(frame: pd.DataFrame, models: Sequence[ContextForecaster], df: pd.DataFrame, freq: Any) -> str:
    """Says which texts changed no forecast of any model; "" if each changed one.

    Args:
        frame: Result of the back-test, with the columns of each model and of its base.
        models: The told models; all are told the same.
        df: The validated data.
        freq: Their frequency.

    Returns:
        One sentence.
    """
    idle: dict[str, str] | None = None
    count = 0
    for model in models:
        reasons, count = _find_idle(frame, model, df, freq)
        idle = reasons if idle is None else {text: why for text, why in reasons.items() if text in idle}
    return write_idle(idle, count) if idle else ""


def write_idle(idle: dict[str, str], count: int) -> str:
    """Says which texts changed no forecast.

    Args:
        idle: Text -> why.
        count: How many different texts there are.
    """
    named = [f"{shorten(text)!r} ({why})" for text, why in list(idle.items())[:_SHOWN]]
    more = f" and {len(idle) - _SHOWN} more" if len(idle) > _SHOWN else ""
    texts = "the text" if count == 1 else f"{len(idle)} of {count} texts"
    return f"{texts[0].upper()}{texts[1:]} changed no forecast of this back-test: {'; '.join(named)}{more}"


def _find_idle(
    frame: pd.DataFrame, model: ContextForecaster, df: pd.DataFrame, freq: Any
) -> tuple[dict[str, str], int]:
    """Returns the texts that changed nothing with the reason, and how many different texts there are."""
    told = Context.read(model.context, df, timeless=model.timeless).table
    told = told[told[TEXT].str.strip() != ""]
    changed = _find_changed(frame, model)
    season, horizons = model.season or default_season(freq), list_horizons(frame)

    def reads(place: Place) -> Sorted:
        return place.sort(df, season, model.reader)

    reasons: dict[str, str] = {}
    for text, group in told.groupby(TEXT, sort=False):
        rows: Any = group.to_dict("records")
        # Other texts of the series may have changed the rest, so that each is read alone.
        places = [place for row in rows for place in find_places(row, horizons) if (row[ID], place.cutoff) in changed]
        if not any(reads(place)[0] for place in places):
            reasons[str(text)] = explain_silence(rows, horizons, reads)
    return reasons, told[TEXT].nunique()


def _find_changed(frame: pd.DataFrame, model: ContextForecaster) -> set[tuple[Any, Any]]:
    """Returns the pairs (series, cutoff) in which a model's forecast or an interval differs from its base's."""
    ours = [
        c for c in frame.columns if c == model.alias or str(c).startswith((f"{model.alias}-lo-", f"{model.alias}-hi-"))
    ]
    theirs = [f"{model.base.alias}{str(c)[len(model.alias) :]}" for c in ours]
    differs = ~np.isclose(frame[ours].to_numpy(float), frame[theirs].to_numpy(float), rtol=0, atol=0, equal_nan=True)
    rows = frame.loc[differs.any(1), [ID, CUTOFF]].drop_duplicates()
    return set(rows.itertuples(index=False, name=None))
