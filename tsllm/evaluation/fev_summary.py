"""Results as fev writes them: the columns of its evaluation summary, with its definitions of the metrics.

fev scores each window on its own, with the seasonal error of that window's past, and averages over windows; items
whose seasonal error is undefined or zero are left out of scaled metrics. A quantile metric is the mean over levels.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tsllm.data.benchmarks import Task
from tsllm.evaluation.prepare import PreparedTask
from tsllm.evaluation.tables import WindowArrays
from tsllm.types import ID, TARGET, TIME

if TYPE_CHECKING:
    from tsllm.evaluation.compare import TaskResult

# The version whose columns and definitions these are; its leaderboards refuse rows without one.
FEV_VERSION = "0.10.0"


@dataclass(frozen=True)
class FevWindow:
    """One window of all series, for scoring.

    Attributes:
        y: Targets [N, H].
        point: Point forecasts [N, H].
        quantiles: [N, H, Q].
        levels: [Q].
        seasonal: Mean absolute seasonal error of each series' past [N].
        seasonal_squared: Mean squared one [N].
        epsilon: The least denominator.
    """

    y: np.ndarray
    point: np.ndarray
    quantiles: np.ndarray
    levels: np.ndarray
    seasonal: np.ndarray
    seasonal_squared: np.ndarray
    epsilon: float = 0.0

    @property
    def error(self) -> np.ndarray:
        """Target minus point forecast [N, H]."""
        return self.y - self.point

    def quantile_loss(self) -> np.ndarray:
        """Returns twice the pinball loss [N, H, Q]."""
        gap = self.y[..., None] - self.quantiles
        return 2 * np.abs(gap * ((gap <= 0) - self.levels))

    def divide(self, values: np.ndarray, by: np.ndarray) -> np.ndarray:
        """Divides values [N, ...] by a number for each series [N], at least epsilon."""
        return values / np.maximum(by, self.epsilon).reshape(-1, *[1] * (values.ndim - 1))

    def weigh(self, value: float) -> float:
        """Divides by the mean absolute target, at least epsilon."""
        return value / max(float(np.nanmean(np.abs(self.y))), self.epsilon)


def _mean(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else float("nan")


def _scaled_quantile_loss(window: FevWindow) -> float:
    scaled = window.divide(window.quantile_loss(), window.seasonal)  # [N, H, Q]
    return float(np.mean([_mean(scaled[..., q]) for q in range(scaled.shape[-1])]))


# Metric -> its value for a window.
METRICS: dict[str, Callable[[FevWindow], float]] = {
    "MAE": lambda w: float(np.nanmean(np.abs(w.error))),
    "MSE": lambda w: float(np.nanmean(w.error**2)),
    "RMSE": lambda w: float(np.sqrt(np.nanmean(w.error**2))),
    "MASE": lambda w: _mean(w.divide(np.abs(w.error), w.seasonal)),
    "RMSSE": lambda w: float(np.sqrt(_mean(w.divide(w.error**2, w.seasonal_squared)))),
    "WAPE": lambda w: w.weigh(float(np.nanmean(np.abs(w.error)))),
    "MAPE": lambda w: _mean(np.abs(w.error) / np.abs(w.y)),
    "SMAPE": lambda w: _mean(2 * np.abs(w.error) / (np.abs(w.y) + np.abs(w.point))),
    "MQL": lambda w: float(np.nanmean(w.quantile_loss())),
    "WQL": lambda w: w.weigh(float(np.nanmean(w.quantile_loss()))),
    "SQL": _scaled_quantile_loss,
}
QUANTILE_METRICS = ("MQL", "WQL", "SQL")
# Of a task with several targets fev takes these target by target; here each target is a series, pooled with the rest.
POOLED_METRICS = ("RMSE", "RMSSE", "WAPE", "WQL")


def describe_task(prepared: PreparedTask, level_quantiles: Sequence[float]) -> Task:
    """Returns the data set as a fev task: its own, or one that says the same; MASE ranks."""
    if prepared.loaded.task is not None:
        return prepared.loaded.task
    windows, task = prepared.windows, prepared.task
    return Task(
        dataset_path=prepared.name,
        horizon=windows.h,
        num_windows=windows.n_windows,
        window_step_size=windows.step,
        seasonality=task.season,
        extra_metrics=("WQL", "SQL") if level_quantiles else (),
        quantile_levels=tuple(level_quantiles),
        id_column=ID,
        timestamp_column=TIME,
        target=TARGET,
        known_dynamic_columns=task.covariates,
        past_dynamic_columns=task.past_covariates,
        task_name=prepared.name,
    )


def write_fev_summary(results: Sequence["TaskResult"]) -> pd.DataFrame:
    """Returns one row a data set and model, in the columns of fev's evaluation summary.

    Scores and times are means over seeds. A model that lacks a window has no scores, as fev takes complete forecasts
    only; a metric that needs quantiles that were not forecast is missing too. The fingerprint is that of the frame
    here, not the one that fev computes of its own tables.
    """
    rows: list[dict[str, Any]] = []
    for result in results:
        prepared, run = result.prepared, result.runs[0]
        arrays = [WindowArrays.of(r.frame, r.models, r.h, r.level) for r in result.runs]
        task = describe_task(prepared, arrays[0].quantile_levels)
        scales = compute_seasonal_errors(prepared)
        names = [_read_metric(metric) for metric in (task.eval_metric, *task.extra_metrics)]
        for model in run.models:
            scores = {name: _score(name, options, arrays, model, task, scales) for name, options in names}
            costs = [r.costs[model] for r in result.runs]
            facts: Mapping[str, Any] = next(iter(result.facts[model]), {})
            rows.append(
                {"model_name": model}
                | _describe_fields(task)
                | {
                    "test_error": scores[names[0][0]],
                    "training_time_s": float(np.mean([c.fit_seconds for c in costs])),
                    "inference_time_s": float(np.mean([c.predict_seconds for c in costs])),
                    "num_forecasts": len(arrays[0].series),
                    "dataset_fingerprint": prepared.fingerprint,
                    "trained_on_this_dataset": "steps" in facts or bool(facts.get("trained_on")),
                    "fev_version": FEV_VERSION,
                }
                | scores
            )
    return pd.DataFrame(rows)


def compute_seasonal_errors(prepared: PreparedTask) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean absolute and mean squared seasonal errors of each window's past, both [series, windows]."""
    windows, season, task = prepared.windows, prepared.task.season, prepared.loaded.task
    longest = task.max_context_length if task is not None else None
    found = np.full((2, windows.num_series, windows.n_windows), np.nan)
    for i, (_, y) in enumerate(windows.df.groupby(ID, sort=False)[TARGET]):
        values = y.to_numpy(dtype=float)
        gaps = np.abs(values[season:] - values[:-season])
        for k in range(windows.n_windows):
            end = len(values) - windows.h - (windows.n_windows - 1 - k) * windows.step
            first = 0 if longest is None else max(0, end - longest)
            past = gaps[first : max(first, end - season)]
            if np.isfinite(past).any():
                found[:, i, k] = np.nanmean(past), np.nanmean(past**2)
    return found[0], found[1]


def _score(
    name: str,
    options: Mapping[str, Any],
    arrays: Sequence[WindowArrays],
    model: str,
    task: Task,
    scales: tuple[np.ndarray, np.ndarray],
) -> float | None:
    """Returns the mean of a metric over windows and seeds; None if it cannot be had."""
    several = not isinstance(task.target, str) and len(task.target) > 1
    if name not in METRICS or (several and name in POOLED_METRICS):
        return None
    if any(np.isnan(a.forecasts[model]).any() for a in arrays):
        return None
    at: list[int] = []
    if name in QUANTILE_METRICS:
        wanted = [np.isclose(arrays[0].quantile_levels, q) for q in sorted(task.quantile_levels)]
        if not wanted or not all(match.any() for match in wanted):
            return None
        at = [int(match.argmax()) for match in wanted]
    n_windows = scales[0].shape[1]
    values = []
    for one in arrays:
        quantiles = one.quantiles[model][..., at] if at else np.empty((*one.y.shape, 0))
        for k in range(n_windows):
            rows = slice(k, None, n_windows)  # windows of a series follow one another
            window = FevWindow(
                y=one.y[rows],
                point=one.forecasts[model][rows],
                quantiles=quantiles[rows],
                levels=np.asarray(sorted(task.quantile_levels)),
                seasonal=scales[0][:, k],
                seasonal_squared=scales[1][:, k],
                epsilon=float(options.get("epsilon", 0.0)),
            )
            with np.errstate(divide="ignore", invalid="ignore"):
                values.append(METRICS[name](window))
    return float(np.mean(values))


def _read_metric(metric: str | Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    if isinstance(metric, str):
        return metric.upper(), {}
    return str(metric["name"]).upper(), metric


def _describe_fields(task: Task) -> dict[str, Any]:
    """Returns the task's fields as fev fills them in; lists, which its readers expect in CSV files."""
    fields = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(task).items()}
    step = task.step
    cutoff = task.initial_cutoff
    if cutoff is None and isinstance(step, int):
        cutoff = -task.horizon - (task.num_windows - 1) * step
    levels = sorted(task.quantile_levels)
    return fields | {
        "initial_cutoff": cutoff,
        "window_step_size": step,
        "quantile_levels": levels,
        "task_name": task.name,
    }
