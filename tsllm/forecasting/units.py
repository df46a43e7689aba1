"""Whether a later frame is in the units that a model was trained on."""

import warnings

import numpy as np
import pandas as pd

from tsllm.data.scaling import StandardScaler
from tsllm.data.target import TargetScale
from tsllm.types import ID, TARGET

FACTOR = 100.0  # values further off than this are of another order of magnitude


def warn_of_units(alias: str, history: pd.DataFrame, scaler: StandardScaler, target_scale: TargetScale) -> None:
    """Warns of series whose values are of another order of magnitude than those that were trained on.

    Compared are the root mean square of the history and the mean plus a deviation of the training part. A series of
    zeros says nothing.

    Args:
        alias: Of the forecaster.
        history: Validated long frame, in original units.
        scaler: Of the training; it knows every series.
        target_scale: What was done to the target before it was scaled.
    """
    if scaler.name == "none":
        return
    size = history[TARGET].pow(2).groupby(history[ID], sort=False).mean().pow(0.5)
    loc, scale = scaler.loc_scale(size.index)
    back = TargetScale(target_scale.transform).backward_values
    trained = np.maximum(np.abs(back(loc - scale)), np.abs(back(loc + scale)))  # [series]
    ratio = size.to_numpy() / np.maximum(trained, 1e-300)
    odd = (ratio > FACTOR) | ((ratio > 0) & (ratio < 1 / FACTOR))
    if odd.any():
        at = int(odd.argmax())
        warnings.warn(
            f"series {size.index[at]!r} has values of about {size.iloc[at]:.3g}, but {alias} was trained on values of "
            f"about {trained[at]:.3g} ({int(odd.sum())} of {len(odd)} series are so far off) and scales them as then; "
            "give the units of training, or take these data over with transfer(df) or with further training, fit(df)",
            stacklevel=3,
        )
