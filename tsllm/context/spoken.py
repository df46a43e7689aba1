"""How a language model is asked what a text means for a forecast."""

import numpy as np
import pandas as pd

from tsllm.context.applying import Window


def write_request(window: Window, text: str) -> str:
    """Returns the prompt behind which a language model writes effects, one a line, or `none`.

    It says which times are forecast and what the values were in the last season, and then the text as it is.

    Args:
        window: History and times.
        text: What is told.

    Example:
        >>> times = pd.date_range("2024-01-01", periods=6, freq="h")
        >>> print(write_request(Window(np.array([10.0, 14.0, 10.5, 14.0]), times[:4], times[4:], 2), "Closed."))
        Forecast: 2024-01-01 04:00 Monday to 2024-01-01 05:00, 2 steps. Last values: 10.5 to 14, mean 12.25.
        Text: Closed.
        Effects:
    """
    first, last = window.future_times[0], window.future_times[-1]
    recent = window.past[-max(window.season, 1) :]
    recent = recent[np.isfinite(recent)]
    low, high, mean = (recent.min(), recent.max(), recent.mean()) if len(recent) else (np.nan,) * 3
    return (
        f"Forecast: {_write_time(first)} {first.day_name()} to {_write_time(last)}, {len(window.future_times)} steps. "
        f"Last values: {low:.4g} to {high:.4g}, mean {mean:.4g}.\nText: {' '.join(text.split())}\nEffects:"
    )


def write_answer(said: str) -> str:
    """Returns the completion of a prompt: what is to be said, behind a space."""
    return f" {said}"


def _write_time(time: pd.Timestamp) -> str:
    return f"{time:%Y-%m-%d %H:%M}"
