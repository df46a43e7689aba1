"""History, forecasts and bands of any forecast frame in one call: `tsllm.plot`."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from tsllm.data.columns import require_columns
from tsllm.data.frame import validate_frame
from tsllm.data.names import ColumnNames
from tsllm.escape import escape_label
from tsllm.evaluation.evaluate import find_models
from tsllm.evaluation.figures import add_legend, draw_panel, new_figure
from tsllm.forecasting.base import read_levels
from tsllm.types import CUTOFF, ID, TARGET, TIME, FrameError

_SHOWN_SERIES = 4
_SHOWN_HORIZONS = 3


def plot(
    df: Any,
    forecasts: Any,
    *,
    models: Sequence[str] | None = None,
    level: Sequence[float] | None = None,
    series: Sequence[Any] | None = None,
    context: int | None = None,
    id_col: str | None = None,
    time_col: str | None = None,
    target_col: str | None = None,
) -> Any:
    """Draws the end of the history, the forecasts and their bands, one panel a series.

    Args:
        df: Long or wide frame with the history; steps beyond the forecast's start are drawn as observed, too.
        forecasts: Table `unique_id, ds`, one column a model and its interval bounds, as `predict` gives; or a
            back-test frame, of which the last cutoff of each series is drawn.
        models: Which models; None = all.
        level: Which bands, in per cent; None = each model's widest, [] = none. A model without the band has only its
            line.
        series: Which series; None = the first four, which the title then says.
        context: Steps of history; None = three times the horizon.
        id_col: Column that names the series in both frames, if not `unique_id`.
        time_col: Column of the times, if not `ds`.
        target_col: Column of the values, if not `y`.

    Returns:
        A matplotlib figure; in a notebook it shows itself, `figure.savefig("forecast.png")` writes it.

    Raises:
        FrameError: If a column or the history of a series is missing.
        ValueError: If a model, level or series is unknown, or `context` is negative.

    Example:
        >>> import pandas as pd, tsllm
        >>> df = pd.DataFrame({"ds": pd.date_range("2024", periods=48, freq="h"), "load": range(48)})
        >>> forecasts = tsllm.SeasonalNaive(24).fit(df, 12).predict(level=[80])
        >>> len(tsllm.plot(df, forecasts).axes)
        1
    """
    names = ColumnNames.of(id_col, time_col, target_col)
    with names.speaking():
        return _plot(names.read(df), names.read_later(forecasts), models, level, series, context)


def _plot(
    df: Any,
    forecasts: pd.DataFrame,
    models: Sequence[str] | None,
    level: Sequence[float] | None,
    series: Sequence[Any] | None,
    context: int | None,
) -> Any:
    hint = "; where they have other names, say id_col=... and time_col=..."
    require_columns(forecasts, [ID, TIME], "a forecast frame", hint)
    if len(forecasts) == 0:
        raise FrameError("the forecast frame is empty; there is nothing to draw")
    offered = find_models(forecasts)
    chosen = _choose(models, list(offered), "model")
    bands = _choose_bands({alias: offered[alias] for alias in chosen}, level)
    every = list(forecasts[ID].unique())
    names = _choose(every[:_SHOWN_SERIES] if series is None else series, every, "series")
    if context is not None and (not isinstance(context, int) or context < 0):
        raise ValueError(f"context is {context!r}; it must be a whole number of at least 0 steps")
    history = validate_frame(df, covariates=[])
    figure, axes = new_figure(len(names), 1, height=2.2 * len(names) + 0.5, squeeze=False)
    for ax, name in zip(axes[:, 0], names, strict=True):
        window = forecasts[forecasts[ID] == name].sort_values(TIME, kind="stable")
        if CUTOFF in window:
            window = window[window[CUTOFF] == window[CUTOFF].max()]
        own = history[history[ID] == name]
        if own.empty:
            raise FrameError(f"df has no history of series {name!r}; its series are {list(history[ID].unique()[:5])}")
        start, end = window[TIME].iloc[0], window[TIME].iloc[-1]
        past = own[own[TIME] < start].tail(_SHOWN_HORIZONS * len(window) if context is None else context)
        later = window if TARGET in window else own[(own[TIME] >= start) & (own[TIME] <= end)]
        observed = pd.concat([past[[TIME, TARGET]], later[[TIME, TARGET]]])
        draw_panel(ax, observed, window, bands, window[CUTOFF].iloc[0] if CUTOFF in window else start)
        ax.set_title(escape_label(name), fontsize=9, loc="left")
    add_legend(figure, axes[0, 0])
    if series is None and len(every) > len(names):
        figure.suptitle(f"{len(names)} of {len(every)} series", fontsize=9)
    return figure


def _choose(asked: Sequence[Any] | None, known: list[Any], what: str) -> list[Any]:
    """Returns what was asked for, or all.

    Raises:
        ValueError: If something is unknown, nothing is left, or a name stands where a list is expected.
    """
    if isinstance(asked, str):
        raise ValueError(f"{what} {asked!r} is one name; give a list: [{asked!r}]")
    chosen = known if asked is None else list(dict.fromkeys(asked))
    absent = [name for name in chosen if name not in known]
    if absent or not chosen:
        shown = ", ".join(map(str, known[:10])) + (" ..." if len(known) > 10 else "")
        raise ValueError(f"no {what} {absent[0]!r}; there are {shown}" if absent else f"no {what} is named: {shown}")
    return chosen


def _choose_bands(offered: dict[str, list[float]], level: Sequence[float] | None) -> dict[str, list[float]]:
    """Returns the levels drawn for each model, the widest first."""
    known = sorted({lv for levels in offered.values() for lv in levels})
    absent = [lv for lv in read_levels(level) if lv not in known]
    if absent:
        raise ValueError(f"no model has an interval of {absent[0]:g} %; the frame holds the levels {known}")
    if level is None:
        return {alias: levels[-1:] for alias, levels in offered.items()}
    return {alias: [lv for lv in reversed(levels) if lv in level] for alias, levels in offered.items()}
