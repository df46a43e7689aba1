"""What a training or a measurement leaves in its folder for readers: metrics, log and card, written here alone."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tsllm.files import write_json

METRICS_FILE = "metrics.json"
HISTORY_FILE = "history.json"
CARD_FILE = "README.md"


def write_metrics(folder: str | Path, metrics: Mapping[str, Any]) -> None:
    """Writes `metrics.json` into a folder, in place of one that is there.

    Args:
        folder: A folder that exists.
        metrics: Scores and facts; a NumPy number becomes a number, NaN and infinities become null.
    """
    write_json(Path(folder) / METRICS_FILE, dict(metrics))


def add_metrics(folder: str | Path, **more: Any) -> None:
    """Adds entries to the `metrics.json` of a folder; an entry of the same name is replaced.

    Args:
        folder: A folder that holds one.
        **more: The entries, as in `write_metrics`.

    Raises:
        OSError: If there is none.
    """
    path = Path(folder) / METRICS_FILE
    write_metrics(folder, json.loads(path.read_text(encoding="utf-8")) | more)


def write_history(folder: str | Path, history: Sequence[Mapping[str, Any]]) -> None:
    """Writes `history.json`: what training logged, one entry a logged step, in order."""
    write_json(Path(folder) / HISTORY_FILE, list(history))


def write_card_file(folder: str | Path, card: object) -> Path:
    """Writes a card, a `ModelCard` or its text, as `README.md` and returns its path."""
    (Path(folder) / CARD_FILE).write_text(str(card), encoding="utf-8", newline="")
    return Path(folder) / CARD_FILE
