"""What a text did to a forecast, to be read by people."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from tsllm.context.effects import Effect, write_effects
from tsllm.context.readers import Idle
from tsllm.types import TIME


@dataclass(frozen=True)
class Explanation:
    """What a text did to the forecast of a series.

    Attributes:
        series: Its name.
        text: What was read.
        effects: What was understood; `write_effects` writes it, `parse_effects` reads it back.
        forecast: Columns `ds, before, after`.
        idle: What changes nothing here, an effect or a sentence that was not read, each with the reason.
        unread: Why the text was not read; empty = it was.
    """

    series: Any
    text: str
    effects: list[Effect]
    forecast: pd.DataFrame
    idle: tuple[Idle, ...] = ()
    unread: str = ""

    def describe(self) -> str:
        """Says what the text does, one effect a line, and what of it does nothing, with the reason."""
        left = "; ".join(f"{effect}: {why}" for effect, why in self.idle)
        if self.effects:
            return write_effects(self.effects) + (f"\n(left out: {left})" if left else "")
        if self.unread:
            return f"(changes nothing, not read: {self.unread})"
        times = self.forecast[TIME]
        if left:
            return f"(changes nothing: {left}; the forecast is of {times.iloc[0]} to {times.iloc[-1]})"
        # The end of a span is the first moment after it.
        end = times.iloc[-1] + (times.iloc[-1] - times.iloc[-2]) if len(times) > 1 else times.iloc[-1]
        return (
            "(changes nothing: no sentence was understood to say what changes and how; write it plainly, such as "
            f"'It is closed from {times.iloc[0]} to {end}.' or 'It is capped at "
            f"{self.forecast['before'].median():.3g}.')"
        )

    def __str__(self) -> str:
        return f"{self.series}: {self.text}\n{self.describe()}\n{self.forecast.to_string(index=False)}"
