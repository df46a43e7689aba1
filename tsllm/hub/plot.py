"""The forecast plot of a model card."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from tsllm.escape import escape_label
from tsllm.types import ID, TARGET, TIME

_SHOWN_SERIES = 3


def draw_forecast(
    history: pd.DataFrame,
    forecast: pd.DataFrame,
    path: str | Path,
    column: str,
    band: Sequence[str] | None = None,
    label: str | None = None,
) -> None:
    """Draws up to three series: at most three horizons of history, the forecast with its band, what happened.

    Args:
        history: Long frame before the cutoff.
        forecast: Long frame of the horizon with what happened in `y`.
        path: PNG to write.
        column: The forecast's column.
        band: Columns of the lower and the upper end of the 80 % band; None = no band.
        label: Name of the forecast in the legend; None = the column's.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = list(forecast[ID].unique())[:_SHOWN_SERIES]
    figure = Figure(figsize=(9, 2.4 * len(names)), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    for axis, name in zip(figure.subplots(len(names), 1, squeeze=False)[:, 0], names, strict=True):
        own = forecast[forecast[ID] == name]
        past = history[history[ID] == name].tail(3 * len(own))
        observed = pd.concat([past[[TIME, TARGET]], own[[TIME, TARGET]]])
        axis.plot(observed[TIME], observed[TARGET], color="0.35", linewidth=1, label="observed")
        axis.plot(own[TIME], own[column], color="tab:blue", linewidth=1.4, label=escape_label(label or column))
        if band:
            low, high = band
            axis.fill_between(own[TIME], own[low], own[high], color="tab:blue", alpha=0.2, linewidth=0, label="80 %")
        axis.set_title(escape_label(name), fontsize=9, loc="left")
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    figure.axes[0].legend(fontsize=8, frameon=False, loc="upper left")
    figure.savefig(path)
