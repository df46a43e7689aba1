"""The border of every forecaster: frames come in under the user's column names and scale, and leave under them.

`Forecaster` puts `at_border` around the methods of each subclass that take frames, so that a forecaster itself, also
one of somebody's own, only ever sees `unique_id, ds, y`, the target on the scale that was asked for.
"""

import functools
import inspect
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pandas as pd

from tsllm.data.columns import as_pandas, is_real, is_table
from tsllm.data.frame import to_long
from tsllm.types import ID, TARGET

# The methods that take or give frames.
FRAMED = (
    "fit",
    "update",
    "transfer",
    "predict",
    "predict_rolling",
    "simulate",
    "predict_and_explain",
    "explain_context",
    "check_context",
)


# Those that take values and give forecasts; the others are made of these.
SCALED = ("fit", "update", "predict", "predict_rolling")
FORECASTS = ("predict", "predict_rolling")
TOLD = ("fit", "predict")  # those that take `context` where texts are read


def at_border(method: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the method with its frames translated where a user calls it; calls from within stay as they are."""
    signature = inspect.signature(method)
    more = next((name for name, p in signature.parameters.items() if p.kind is p.VAR_KEYWORD), "")

    told = method.__name__ in TOLD and "context" not in signature.parameters and not more
    whole = _complete(method, signature) if method.__name__ in FORECASTS else method
    scaled = _scale_target(whole, signature) if method.__name__ in SCALED else method

    @functools.wraps(method)
    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        if told and kwargs.pop("context", None) is not None:
            self.refuse_context()
        names = self.names
        if not names or self._inside:
            return scaled(self, *args, **kwargs)
        given = signature.bind(self, *args, **kwargs).arguments
        rest = given.pop(more, {})
        df = given.get("df")
        translated = self._named if df is None else names.describes(df)
        self._inside = True
        try:
            with names.speaking() if translated else nullcontext():
                result = scaled(**_read(given, names), **rest)
        finally:
            self._inside = False
        if method.__name__ in ("fit", "update", "transfer"):
            self._named = translated
        return _write(result, names) if translated else result

    return run


def _scale_target(method: Callable[..., Any], signature: inspect.Signature) -> Callable[..., Any]:
    """Returns the method of a forecaster that does not scale by itself with its target transformed, and back."""

    @functools.wraps(method)
    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        scale = self.target_scale
        if not scale or self._scaling or self.scales_target:
            return method(self, *args, **kwargs)
        given = signature.bind(self, *args, **kwargs).arguments
        learns = method.__name__ in ("fit", "update")
        if not learns and given.get("df") is None and self._scaled != scale.transform:
            raise ValueError(f"{self.alias} was fitted on another scale ({self._scaled!r}); call fit(df) again")
        if given.get("df") is not None:
            df = as_pandas(given["df"])
            df = df if ID in df.columns else to_long(df)
            # What is no number is told by the forecaster itself.
            given["df"] = scale.forward(df) if TARGET in df.columns and is_real(df[TARGET]) else df
        self._scaling = True
        try:
            result = method(**given)
        finally:
            self._scaling = False
        if learns:
            self._scaled = scale.transform
        if isinstance(result, pd.DataFrame):
            own = (self.alias, f"{self.alias}-lo-", f"{self.alias}-hi-")
            return scale.backward(result, [c for c in result.columns if c == own[0] or str(c).startswith(own[1:])])
        return result

    return run


def _complete(method: Callable[..., Any], signature: inspect.Signature) -> Callable[..., Any]:
    """Returns the method of a forecast with the intervals that a point forecaster does not give as missing values."""

    @functools.wraps(method)
    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = method(self, *args, **kwargs)
        level = signature.bind(self, *args, **kwargs).arguments.get("level")
        return self._complete_levels(result, level)

    return run


def _read(given: dict[str, Any], names: Any) -> dict[str, Any]:
    """Returns the arguments with every frame under the names of frames."""
    read = {"df": names.read, "X_df": names.read_later, "context": names.read_texts}
    frames = {name: read[name](value) for name, value in given.items() if name in read and _is_frame(value, name)}
    return given | frames


def _is_frame(value: Any, name: str) -> bool:
    return is_table(value) if name == "context" else value is not None


def _write(result: Any, names: Any) -> Any:
    if isinstance(result, pd.DataFrame):
        return names.write(result)
    if isinstance(result, tuple):
        return tuple(_write(part, names) for part in result)
    return result
