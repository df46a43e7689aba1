"""Forecasting tasks that others define: fev's task files, GIFT-Eval's folders and rules.

A task is a data set with a horizon, evaluation windows and metrics. `load_fev_tasks` reads fev's YAML and
`gift_eval_task` applies GIFT-Eval's rules to a folder. `Task.windows` gives each window's history and truth as long
frames and counts the series that are too short for it.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from tsllm.data.frequency import Freq, normalize_freq
from tsllm.data.rows import FREQ, has_series_rows, number_lists, read_folder, rows_to_long
from tsllm.types import ID, TARGET, TIME, FrameError

DECILES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)

# Names that older fev files use.
_OLD_NAMES = {
    "num_rolling_windows": "num_windows",
    "rolling_step_size": "window_step_size",
    "cutoff": "initial_cutoff",
    "target_column": "target",
    "multiple_target_columns": "generate_univariate_targets_from",
}
_GIFT_HORIZONS = {"M": 12, "W": 8, "D": 30, "H": 48, "T": 48, "S": 60}
_GIFT_M4_HORIZONS = {"A": 6, "Q": 8, "M": 18, "W": 13, "D": 14, "H": 48}
_GIFT_TERMS = {"short": 1, "medium": 10, "long": 15}
_GIFT_TEST_SHARE = 0.1
_GIFT_MAX_WINDOWS = 20
_SEASONS = {"S": 3600, "T": 1440, "H": 24, "D": 1, "W": 1, "M": 12, "B": 5, "Q": 4, "A": 1}
_KINDS = {
    "s": "S",
    "min": "T",
    "h": "H",
    "D": "D",
    "B": "B",
    "W": "W",
    "ME": "M",
    "MS": "M",
    "QE": "Q",
    "QS": "Q",
    "YE": "A",
    "YS": "A",
}


@dataclass(frozen=True)
class Task:
    """One task; the fields are those of a fev task under the same names, with fev's defaults.

    Attributes:
        dataset_path: Parquet or Arrow file, folder, or Hub id.
        dataset_config: Configuration of a Hub data set.
        horizon: Steps ahead.
        num_windows: Evaluation windows.
        initial_cutoff: Where the first window's future begins: a position (negative from the end) or the last time of
            its past; None puts the last window at the end of the series.
        window_step_size: Steps, or a pandas offset, from one window to the next; None means the horizon.
        min_context_length: Fewest steps of history; a window leaves shorter series out.
        max_context_length: Most steps of history, the latest ones; None keeps all.
        seasonality: Steps in a season, for scaled metrics.
        eval_metric: Metric by which models are ranked.
        extra_metrics: Further metrics.
        quantile_levels: Levels to forecast.
        id_column: Column of series names.
        timestamp_column: Column of times.
        target: Target column, or several of a multivariate task.
        generate_univariate_targets_from: Columns that become series of their own, or "__ALL__".
        known_dynamic_columns: Covariates known over the horizon.
        past_dynamic_columns: Covariates known up to the cutoff.
        static_columns: Columns with one value a series; no model here reads them.
        task_name: Name in reports.
    """

    dataset_path: str
    dataset_config: str | None = None
    horizon: int = 1
    num_windows: int = 1
    initial_cutoff: int | str | None = None
    window_step_size: int | str | None = None
    min_context_length: int = 1
    max_context_length: int | None = None
    seasonality: int = 1
    eval_metric: str | dict[str, Any] = "MASE"
    extra_metrics: Sequence[str | dict[str, Any]] = ()
    quantile_levels: Sequence[float] = ()
    id_column: str = "id"
    timestamp_column: str = "timestamp"
    target: str | Sequence[str] = "target"
    generate_univariate_targets_from: Sequence[str] | str | None = None
    known_dynamic_columns: Sequence[str] = ()
    past_dynamic_columns: Sequence[str] = ()
    static_columns: Sequence[str] = ()
    task_name: str | None = None

    def __post_init__(self) -> None:
        for name in ("horizon", "num_windows", "min_context_length", "seasonality"):
            if getattr(self, name) < 1:
                raise ValueError(f"task {self.name!r}: {name} is {getattr(self, name)}; it must be at least 1")
        if isinstance(self.window_step_size, int) and self.window_step_size < 1:
            raise ValueError(f"task {self.name!r}: window_step_size is {self.window_step_size}; it must be 1 or more")
        if isinstance(self.window_step_size, str) and not isinstance(self.initial_cutoff, str):
            raise ValueError(
                f"task {self.name!r}: window_step_size {self.window_step_size!r} is an offset, so initial_cutoff"
                f" must be a date, not {self.initial_cutoff!r}"
            )
        latest = -self.horizon - (self.num_windows - 1) * self.step if isinstance(self.step, int) else 0
        if isinstance(self.initial_cutoff, int) and latest < self.initial_cutoff < 0:
            raise ValueError(
                f"task {self.name!r}: initial_cutoff {self.initial_cutoff} leaves too few steps for {self.num_windows}"
                f" windows; it must be at most {latest}"
            )

    @property
    def name(self) -> str:
        """Name in reports: `task_name`, else the configuration, else the file's two parent folders."""
        return self.task_name or self.dataset_config or "/".join(Path(self.dataset_path).parts[-3:-1])

    @property
    def step(self) -> int | str:
        """Steps, or an offset, from one window to the next."""
        return self.horizon if self.window_step_size is None else self.window_step_size

    @property
    def covariates(self) -> list[str]:
        """All covariate columns, the known ones first."""
        return [*self.known_dynamic_columns, *self.past_dynamic_columns]

    def to_long(self, table: Any) -> pd.DataFrame:
        """Turns the task's raw pyarrow table, rows of series or long, into long columns (not validated yet)."""
        if not has_series_rows(table):
            raw = table.to_pandas().rename(columns={self.id_column: ID, self.timestamp_column: TIME})
            if not isinstance(self.target, str):
                keep = [ID, TIME, *self.covariates]
                long = raw.melt(keep, value_vars=list(self.target), var_name="_column", value_name=TARGET)
                long[ID] = long[ID].astype(str) + "_" + long.pop("_column")
                return long[[ID, TIME, TARGET, *self.covariates]]
            raw = raw.rename(columns={self.target: TARGET})
            return raw[[ID, TIME, TARGET, *self.covariates]].assign(**{ID: raw[ID].astype(str)})
        targets: Sequence[str] | None = [self.target] if isinstance(self.target, str) else sorted(self.target)
        if self.generate_univariate_targets_from is not None:
            chosen = self.generate_univariate_targets_from
            if chosen == "__ALL__":
                chosen = number_lists(table, [*self.covariates, self.timestamp_column])
            targets = list(chosen)
        return rows_to_long(
            table,
            id_column=self.id_column,
            time_column=self.timestamp_column if self.timestamp_column in table.column_names else None,
            targets=targets,
            covariates=self.covariates,
        )

    def cutoffs(self, times: np.ndarray, freq: Freq) -> list[int]:
        """Returns, for one series, how many steps lie before each window's future.

        Args:
            times: Ascending times of the series [time].
            freq: Its frequency.
        """
        if isinstance(self.initial_cutoff, str):
            return [int(np.searchsorted(times, at, side="right")) for at in self._cutoff_times(freq)]
        assert isinstance(self.step, int)
        first = self.initial_cutoff
        if first is None:
            first = -self.horizon - (self.num_windows - 1) * self.step
        return [(len(times) if first < 0 else 0) + first + k * self.step for k in range(self.num_windows)]

    def windows(self, df: pd.DataFrame, freq: Freq) -> Iterator["TaskWindow"]:
        """Yields the evaluation windows of a validated long frame, in time order.

        Raises:
            FrameError: If a window is left without any series.
        """
        groups = []
        for name, group in df.groupby(ID, sort=False):
            groups.append((name, group, self.cutoffs(group[TIME].to_numpy(), freq)))
        for k in range(self.num_windows):
            past, future, left_out = [], [], []
            for name, group, cutoffs in groups:
                cut = cutoffs[k]
                if cut < self.min_context_length or len(group) - cut < self.horizon:
                    left_out.append(name)
                    continue
                begin = 0 if self.max_context_length is None else max(0, cut - self.max_context_length)
                past.append(group.iloc[begin:cut])
                future.append(group.iloc[cut : cut + self.horizon])
            if not past:
                raise FrameError(
                    f"task {self.name!r}: no series has {self.min_context_length} steps before and {self.horizon}"
                    f" after the cutoff of window {k}; lower min_context_length, horizon or num_windows"
                )
            yield TaskWindow(
                k, pd.concat(past, ignore_index=True), pd.concat(future, ignore_index=True), tuple(left_out)
            )

    def _cutoff_times(self, freq: Freq) -> list[np.datetime64]:
        first = pd.Timestamp(str(self.initial_cutoff))
        if isinstance(self.step, str):
            offset = pd.tseries.frequencies.to_offset(str(normalize_freq(self.step)))
        else:
            offset = pd.tseries.frequencies.to_offset(str(freq))
            offset = offset * self.step if offset is not None else None
        # An anchored offset would move the first cutoff itself onto its axis.
        return [(first if k == 0 else first + k * offset).to_datetime64() for k in range(self.num_windows)]


@dataclass(frozen=True)
class TaskWindow:
    """One evaluation window.

    Attributes:
        index: Its number, from 0.
        past: History of each series, long.
        future: The `horizon` steps after it, with the truth in `y`, long.
        left_out: Series that are too short for this window.
    """

    index: int
    past: pd.DataFrame = field(repr=False)
    future: pd.DataFrame = field(repr=False)
    left_out: tuple[Any, ...] = ()


def load_fev_tasks(path: str | Path) -> list[Task]:
    """Reads the tasks of a fev benchmark file (YAML with a list under `tasks`).

    Raises:
        ValueError: If the file has another form, or a task an unknown key.
    """
    content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    if not isinstance(content, dict) or not isinstance(content.get("tasks"), list):
        raise ValueError(f"{path} is no task file: expected a list under the key 'tasks'")
    known = {f.name for f in fields(Task)}
    tasks = []
    for number, entry in enumerate(content["tasks"]):
        renamed = {_OLD_NAMES.get(key, key): value for key, value in entry.items() if key != "lead_time"}
        unknown = sorted(set(renamed) - known)
        if unknown:
            raise ValueError(f"{path}, task {number}: unknown key {unknown[0]!r}; known: {', '.join(sorted(known))}")
        tasks.append(Task(**renamed))
    return tasks


def gift_eval_task(folder: str | Path, term: str = "short", *, name: str | None = None) -> Task:
    """Applies GIFT-Eval's rules to a folder of its data: horizon by frequency and term, windows over the last tenth.

    Args:
        folder: Folder with `item_id, start, freq, target` rows.
        term: "short", "medium" (ten times the short horizon) or "long" (fifteen times).
        name: Data set name such as "m4_weekly" or "electricity/15T"; None takes the last folder, and the one above it
            too where the last is a frequency. Names with "m4" get
            the horizons of that competition and one window.

    Raises:
        ValueError: If the term is unknown or the frequency has no horizon in GIFT-Eval.
    """
    if term not in _GIFT_TERMS:
        raise ValueError(f"term {term!r} is unknown; choose one of {', '.join(_GIFT_TERMS)}")
    name = _name_gift(Path(folder)) if name is None else name
    table = read_folder(folder)
    freq = str(table.column(FREQ)[0].as_py())
    kind, _ = _kind_of(freq)
    horizons = _GIFT_M4_HORIZONS if "m4" in name else _GIFT_HORIZONS
    if kind not in horizons:
        raise ValueError(
            f"GIFT-Eval has no horizon for frequency {freq!r} of {name!r}; it knows {', '.join(horizons)}"
        )
    horizon = horizons[kind] * _GIFT_TERMS[term]
    long = rows_to_long(table)
    shortest = int(long.groupby(ID, sort=False).size().min())
    windows = 1 if "m4" in name else min(max(1, math.ceil(_GIFT_TEST_SHARE * shortest / horizon)), _GIFT_MAX_WINDOWS)
    return Task(
        dataset_path=str(folder),
        horizon=horizon,
        num_windows=windows,
        seasonality=season_of(freq),
        eval_metric="MASE",
        extra_metrics=("WQL",),
        quantile_levels=DECILES,
        id_column="item_id",
        task_name=f"{name}/{term}",
    )


def _name_gift(folder: Path) -> str:
    """Returns the name of a data set of GIFT-Eval: its folder's, with the one above it if that is a frequency."""
    is_freq = re.fullmatch(r"\d*[A-Z](-[A-Z]{3})?", folder.name) is not None
    return f"{folder.parent.name}/{folder.name}" if is_freq else folder.name


def season_of(freq: Freq) -> int:
    """Returns the steps in a frequency's customary season (GluonTS's table): "h" 24, "15min" 96, "MS" 12, "D" 1."""
    if isinstance(normalize_freq(freq), int):
        return 1
    kind, count = _kind_of(str(freq))
    season = _SEASONS[kind]
    return season // count if season % count == 0 else 1


def _kind_of(freq: str) -> tuple[str, int]:
    """Returns the kind of a frequency ("T", "H", "D", ...) and how many units it steps."""
    offset = pd.tseries.frequencies.to_offset(str(normalize_freq(freq)))
    assert offset is not None
    unit = offset.name.split("-")[0]
    if unit not in _KINDS:
        raise ValueError(f"freq {freq!r} has no customary season; known units: {', '.join(_KINDS)}")
    return _KINDS[unit], offset.n
