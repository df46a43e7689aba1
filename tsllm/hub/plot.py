"""The forecast plot of a model card."""

from pathlib import Path

import pandas as pd

from tsllm.forecasting.base import name_interval_columns
from tsllm.forecasting.neural import NeuralPredictor
from tsllm.types import ID, TARGET, TIME

_SHOWN_SERIES = 3


def plot_forecast(predictor: NeuralPredictor, frame: pd.DataFrame, path: str | Path) -> None:
    """Draws the last horizon of up to three series: history, forecast with its 80 % band, what happened.

    Args:
        predictor: The forecaster.
        frame: Long frame in original units; its last horizon is forecast from what lies before.
        path: PNG to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    h, context = predictor.prediction_length, predictor.context_length
    groups = frame.groupby(ID, sort=False)
    history, ahead = groups.head(-h), groups.tail(h)
    level = [80] if predictor.is_probabilistic or predictor.calibration is not None else None
    covariates = predictor.spec.covariates
    known = ahead[[ID, TIME, *covariates]] if covariates else None
    tail = history.groupby(ID, sort=False).tail(context).reset_index(drop=True)
    forecast = predictor.predict(tail, level=level, X_df=known)
    names = list(frame[ID].unique())[:_SHOWN_SERIES]
    figure = Figure(figsize=(9, 2.4 * len(names)), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    for axis, name in zip(figure.subplots(len(names), 1, squeeze=False)[:, 0], names, strict=True):
        past = tail[tail[ID] == name].tail(max(h, min(context, 3 * h)))
        future, own = ahead[ahead[ID] == name], forecast[forecast[ID] == name]
        axis.plot(past[TIME], past[TARGET], color="0.35", linewidth=1)
        axis.plot(future[TIME], future[TARGET], color="0.35", linewidth=1, label="observed")
        axis.plot(own[TIME], own[predictor.alias], color="tab:blue", linewidth=1.4, label=predictor.alias)
        if level:
            low, high = name_interval_columns(predictor.alias, level)
            axis.fill_between(own[TIME], own[low], own[high], color="tab:blue", alpha=0.2, linewidth=0, label="80 %")
        axis.set_title(str(name), fontsize=9, loc="left")
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    figure.axes[0].legend(fontsize=8, frameon=False, loc="upper left")
    figure.savefig(path)
