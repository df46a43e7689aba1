"""The scale on which a target is forecast (logarithms), and what a forecast may be: not below 0, whole numbers."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from tsllm.types import ID, TARGET, TIME, FrameError

Transform = Literal["none", "log1p", "asinh"]
_FORWARD: dict[str, Callable[[Any], Any]] = {"none": np.asarray, "log1p": np.log1p, "asinh": np.arcsinh}
_BACKWARD: dict[str, Callable[[Any], Any]] = {"none": np.asarray, "log1p": np.expm1, "asinh": np.sinh}


@dataclass(frozen=True)
class TargetScale:
    """How a target is transformed before it is forecast, and what is made of a forecast after.

    Every step is monotone, so quantiles and interval bounds stay what they are. A point forecast becomes the
    transformed one taken back: of a mean on the log scale, that is below the mean, and nearer to the median.

    Attributes:
        transform: "log1p", log(1 + y), for values from 0 that grow in proportion; "asinh" for such of both signs;
            "none".
        non_negative: Whether forecasts below 0 become 0.
        integer: Whether forecasts are rounded to the nearest whole number, for counts.
    """

    transform: Transform = "none"
    non_negative: bool = False
    integer: bool = False

    def __post_init__(self) -> None:
        if self.transform not in get_args(Transform):
            raise ValueError(f"transform is {self.transform!r}; choose one of {', '.join(get_args(Transform))}")
        for name in ("non_negative", "integer"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be True or False")

    def __bool__(self) -> bool:
        """Whether it does anything."""
        return bool(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields that differ from their defaults."""
        return {name: value for name, value in asdict(self).items() if value != getattr(type(self), name)}

    def forward(self, df: pd.DataFrame) -> pd.DataFrame:
        """Returns a long frame with its target transformed; missing values stay.

        Raises:
            FrameError: If a value cannot be transformed, or is none that a forecast may be.
        """
        if not self:
            return df
        y = df[TARGET].to_numpy(dtype=np.float64)
        for asked, bad, why in (
            (self.transform == "log1p", y <= -1, "log1p takes values above -1; take asinh"),
            (self.non_negative, y < 0, "non_negative says that none is below 0; leave it out"),
            (self.integer, np.mod(y, 1) > 0, "integer says that all are whole; leave it out"),
        ):
            if asked and bad.any():
                row = df.iloc[int(bad.argmax())]
                raise FrameError(f"series {row[ID]!r}: {TARGET!r} is {row[TARGET]:g} at {row[TIME]}, but {why}")
        return df.assign(**{TARGET: self.transform_values(y)})

    def transform_values(self, values: Any) -> Any:
        """Returns values on the scale of the forecast, whatever the shape."""
        return _FORWARD[self.transform](values)

    def backward_values(self, values: Any) -> Any:
        """Returns forecasts in the units of the data, whatever the shape; what overflows is infinite."""
        with np.errstate(over="ignore"):
            out = _BACKWARD[self.transform](values)
        out = np.maximum(out, 0.0) if self.non_negative else out
        return np.rint(out) + 0.0 if self.integer else out

    def backward(self, frame: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
        """Returns a forecast frame with `columns` in the units of the data.

        Raises:
            FloatingPointError: If a forecast is too large to be taken back.
        """
        if not self:
            return frame
        made = self.backward_values(frame[list(columns)].to_numpy(dtype=np.float64))
        lost = (np.isinf(made) & np.isfinite(frame[list(columns)].to_numpy(dtype=np.float64))).any(axis=1)
        if lost.any():
            row = frame.iloc[int(lost.argmax())]
            raise FloatingPointError(
                f"the forecast of series {row[ID]!r} at {row[TIME]} is too large to take {self.transform} back; the "
                "training diverged, or the history holds extreme values"
            )
        return frame.assign(**dict(zip(columns, made.T, strict=True)))


AS_IT_IS = TargetScale()  # nothing is done
