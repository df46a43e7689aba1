"""What an adapter must be that training goes on from: one that writes the same, and was asked in the same way."""

import logging
from pathlib import Path

from tsllm.backbones.trust import check_json
from tsllm.forecasting.spoken import SpokenSettings
from tsllm.text.loading import fetch_folder
from tsllm.text.settings import SETTINGS, SPOKEN_SETTINGS
from tsllm.training.args import ArgumentsError, read_dataclass

logger = logging.getLogger(__name__)
_FILES = {"numbers": SETTINGS, "effects": SPOKEN_SETTINGS}


def check_start(adapter: str | Path | None, writes: str) -> None:
    """Refuses an adapter that was trained to write something else; one that says nothing of it passes.

    Raises:
        ArgumentsError: Naming the adapter, what it writes and what is asked for.
    """
    if adapter is None:
        return
    folder = fetch_folder(adapter)
    for written, name in _FILES.items():
        if written != writes and (folder / name).is_file() and not (folder / _FILES[writes]).is_file():
            raise ArgumentsError(
                f"{adapter} was trained to write {written} ({name}), but this run writes {writes}; give an adapter "
                f"that writes {writes}, or none"
            )


def check_spoken_start(adapter: str | Path | None, asked: SpokenSettings) -> None:
    """Compares how an adapter that says effects was trained with how it is to go on; a difference is logged.

    Raises:
        ArgumentsError: If it writes no effects.
        ValueError: If it was asked in other words than this version asks.
    """
    check_start(adapter, "effects")
    if adapter is None:
        return
    file = fetch_folder(adapter) / SPOKEN_SETTINGS
    given = check_json(file)
    if given is None:
        return
    before = read_dataclass(SpokenSettings, given, str(file), "max_tokens")
    for name in ("constrained", "copies", "kinds"):
        then, now = getattr(before, name), getattr(asked, name)
        if then != now:
            logger.warning("%s was trained with %s %s, and goes on with %s", adapter, name, then, now)
