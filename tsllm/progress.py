"""One way to show progress: a bar for whatever takes more than two seconds, in a terminal or a notebook alone."""

import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

DELAY = 2.0  # seconds before a bar appears
QUIET = "TSLLM_QUIET"  # of the environment: any text keeps bars away

_shown: Any = None  # the one display of the process, with a line for each task
_silent = 0  # how many blocks are running that were told to be silent


class Bar:
    """One task; it appears once it has taken `DELAY` seconds, and is gone when it is done.

    Args:
        label: What is done, such as "DLinear: training".
        total: Steps in all; None = not known.
        verbose: False shows nothing, neither here nor in what runs within the block.
    """

    def __init__(self, label: str, total: int | None = None, verbose: bool = True) -> None:
        self.label, self.total, self.done = label, total, 0
        self._values: dict[str, float] = {}
        self._silences = not verbose
        self._hidden = self._silences or _silent > 0 or not can_show()
        self._began = time.monotonic()
        self._task: Any = None
        self._owns = False

    def __enter__(self) -> "Bar":
        global _silent
        _silent += self._silences
        self._began = time.monotonic()
        return self

    def __exit__(self, *error: object) -> None:
        global _silent
        _silent -= self._silences
        self.close()

    def update(self, done: int | None = None, label: str | None = None, **values: float) -> None:
        """Says how far it is.

        Args:
            done: Steps done.
            label: What is done now; None = as before.
            **values: Figures to show, such as `loss`; those told before stay.
        """
        self.done = self.done if done is None else done
        self.label = label or self.label
        self._values |= values
        if self._hidden:
            return
        taken = time.monotonic() - self._began
        if self._task is None:
            if taken < DELAY:
                return
            self._open()
        _shown.update(
            self._task,
            total=self.total,
            completed=self.done,
            description=self.label,
            figures=write_figures(self._values),
            left=write_left(taken, self.done, self.total),
        )

    def close(self) -> None:
        """Takes the bar away."""
        global _shown
        if self._task is None:
            return
        _shown.refresh()
        _shown.remove_task(self._task)
        self._task = None
        if self._owns:
            _shown.stop()
            _shown = None

    def _open(self) -> None:
        global _shown
        if _shown is None:
            _shown, self._owns = _build_display(), True
            _shown.start()
        self._task = _shown.add_task(self.label, total=self.total, figures="", left="")


def can_show() -> bool:
    """Tells whether there is somebody who could see a bar: a terminal or a notebook."""
    if os.environ.get(QUIET):
        return False
    stream = _find_stream()
    return bool(stream is not None and stream.isatty()) or "ipykernel" in sys.modules


def _find_stream() -> Any:
    """Returns where bars are shown."""
    return sys.stderr


def write_figures(values: Mapping[str, float]) -> str:
    """Writes figures beside a bar.

    >>> write_figures({"loss": 0.51239, "eval_loss": 0.4})
    'loss 0.5124  validation 0.4000'
    """
    names = {"eval_loss": "validation"}
    return "  ".join(f"{names.get(name, name)} {value:.4f}" for name, value in values.items())


def write_left(taken: float, done: int, total: int | None) -> str:
    """Writes the time left, by the seconds that the steps so far took.

    >>> write_left(30.0, 100, 500), write_left(30.0, 0, None)
    ('2:00 left', '0:30')
    """
    if not total or not done:
        return f"{int(taken) // 60}:{int(taken) % 60:02d}"
    left = round(taken / done * (total - done))
    return f"{left // 60}:{left % 60:02d} left"


def _build_display() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}", markup=False),
        TextColumn("{task.fields[left]}", markup=False),
        console=Console(file=_find_stream()),
        transient=True,
    )


@contextmanager
def quiet_bars() -> Iterator[None]:
    """Keeps transformers from showing bars of its own, such as "Loading weights" and "Writing model shards"."""
    from transformers.utils import logging as library_logging

    shown = library_logging.is_progress_bar_enabled()
    library_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            library_logging.enable_progress_bar()


@contextmanager
def quiet_rotation() -> Iterator[None]:
    """Keeps transformers from warning of checkpoints that were written within one second, which it orders by step."""
    source = logging.getLogger("transformers.trainer_utils")
    source.addFilter(_is_no_mtime)
    try:
        yield
    finally:
        source.removeFilter(_is_no_mtime)


def _is_no_mtime(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("mtime may not be reliable")
