"""What a sentence is read as, written short: days are those of the month in which the forecast begins.

The second of May 2024 is a Thursday, the first of January a Monday.
"""

import re

import numpy as np
import pandas as pd

from tsllm.context.applying import Window
from tsllm.context.readers import sort_effects


def _make_window(first: str, steps: int, freq: str) -> Window:
    times = pd.date_range(first, periods=steps, freq=freq)
    past = pd.date_range(end=times[0], periods=481, freq=freq)[:-1]
    return Window(np.arange(480.0), past, times, 7)


HOURS = _make_window("2024-05-02", 240, "h")
DAYS = _make_window("2024-05-02", 14, "D")
WEEK = _make_window("2024-01-01", 7, "D")
MONTHS = _make_window("2024-01-01", 12, "MS")
FROM_TEN = _make_window("2024-05-02 10:00", 72, "h")


def understand(text: str, window: Window = HOURS) -> tuple[str, str]:
    """Returns the effects of a text ("set 0 from 3 08:00 to 3 14:00 | ..."), and why something in it is not read."""
    effects, idle = sort_effects(text, window)
    month = f"{window.future_times[0]:%Y-%m}-0?"
    return " | ".join(re.sub(month, "", str(effect)) for effect in effects), "; ".join(why for _, why in idle)


def check_silent(text: str, reason: str, window: Window = HOURS) -> None:
    """Checks that a text changes nothing, and that `reason` is among the reasons; empty = there is none."""
    effects, reasons = understand(text, window)
    assert effects == ""
    assert reason in reasons if reason else reasons == ""
