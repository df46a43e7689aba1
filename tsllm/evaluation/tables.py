"""From a back-test frame to tables: scores in original and scaled units, skill by step, wins, losses by window."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tsllm import metrics
from tsllm.evaluation.backtest import BacktestResult
from tsllm.forecasting.base import compute_quantile_levels, name_interval_columns
from tsllm.types import CUTOFF, ID, TARGET, TIME

# Column -> (what it is, whether lower is better); the report's legend.
LEGEND: dict[str, tuple[str, bool]] = {
    "mae": ("mean absolute error, original units", True),
    "rmse": ("root mean squared error, original units", True),
    "mse": ("mean squared error, squared original units", True),
    "smape": ("symmetric percentage error, 0 to 200", True),
    "relative_mae": (
        "MAE over the reference's, geometric mean over series where it errs, each within .01 to 100",
        True,
    ),
    "mase": ("absolute error over that of the seasonal naive in the training part", True),
    "scaled_mae": ("absolute error over the series' standard deviation in the training part", True),
    "scaled_mse": ("squared error over the series' variance in the training part", True),
    "wql": ("weighted quantile loss (CRPS over the mean absolute target)", True),
    "crps": ("continuous ranked probability score from the quantiles, original units", True),
    "coverage": ("share of targets inside the interval", False),
    "width": ("mean width of the interval, original units", True),
    "skill": ("share of the seasonal naive's MAE that is saved", False),
    "win_rate": ("share of duels against the other models, window by window, that are won (MAE)", False),
    "failed": ("windows without a forecast, counted in each series", True),
}

# Formats of the cost columns in reports.
COST_FORMATS = {
    "fit_seconds": ",.1f",
    "predict_seconds": ",.1f",
    "ms_per_window": ",.1f",
    "peak_memory_mb": ",.0f",
    "artefact_mb": ",.2f",
    "trained_parameters": ",.0f",
    "total_parameters": ",.0f",
    "look_back": ",.0f",
    "steps": ",.0f",
}


# A deviation below this share of the series' level is rounding: the series is constant.
_ROUNDING = 1e-12
# fev bounds relative scores so, that one series cannot rule a mean.
_LEAST_RATIO, _MOST_RATIO = 0.01, 100.0


@dataclass(frozen=True)
class SeriesScales:
    """What turns errors of a series into scaled ones, from the steps before the first cutoff only.

    A series that is constant there has no deviation, one that repeats itself exactly no seasonal error: NaN stands in
    the tables, scaled averages leave these series out, and `describe_left_out` counts them.

    Attributes:
        deviation: series -> standard deviation (population), NaN = none.
        seasonal_error: series -> mean absolute error of the seasonal naive, NaN = none.
    """

    deviation: dict[Any, float]
    seasonal_error: dict[Any, float]

    @classmethod
    def from_training(cls, df: pd.DataFrame, season: int) -> "SeriesScales":
        """Computes the scales from the training part of a validated frame."""
        deviation: dict[Any, float] = {}
        errors: dict[Any, float] = {}
        for name, y in df.groupby(ID, sort=False)[TARGET]:
            least = _ROUNDING * float(y.abs().max())
            for table, value in (
                (deviation, float(y.std(ddof=0))),
                (errors, float(metrics.seasonal_error(y.to_numpy(), season))),
            ):
                table[name] = value if value > least else np.nan
        return cls(deviation, errors)

    def describe_left_out(self) -> list[str]:
        """Says which scaled averages leave series out, how many and why; empty if none does."""
        said = []
        for leaves, table, why in (
            ("Scaled errors and tests leave", self.deviation, "constant"),
            ("MASE leaves", self.seasonal_error, "free of seasonal differences"),
        ):
            names = [str(name) for name, value in table.items() if np.isnan(value)]
            if names:
                shown = ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")
                said.append(
                    f"{leaves} out {len(names)} of {len(table)} series, whose training "
                    f"part is {why}, so that nothing can be scaled by it: {shown}."
                )
        return said


@dataclass(frozen=True)
class WindowArrays:
    """A back-test frame as arrays, one row a window (series and cutoff).

    Attributes:
        series: [N].
        cutoffs: [N].
        y: Targets [N, H].
        forecasts: Alias -> [N, H].
        quantiles: Alias -> [N, H, Q]; empty without levels.
        quantile_levels: [Q].
    """

    series: np.ndarray
    cutoffs: np.ndarray
    y: np.ndarray
    forecasts: dict[str, np.ndarray]
    quantiles: dict[str, np.ndarray]
    quantile_levels: list[float]

    @classmethod
    def of(cls, frame: pd.DataFrame, models: Sequence[str], h: int, level: Sequence[float] = ()) -> "WindowArrays":
        """Reshapes a frame whose rows are sorted by series, cutoff and time, h rows a window.

        Raises:
            ValueError: If the rows are not so.
        """
        keys = frame[[ID, CUTOFF]].to_numpy().reshape(-1, h, 2) if len(frame) % h == 0 else None
        if keys is None or (keys != keys[:, :1]).any():
            raise ValueError(f"the frame does not hold {h} consecutive rows a window; sort it by series, cutoff, time")
        order = np.argsort([*compute_quantile_levels(level), 0.5])

        def block(column: str) -> np.ndarray:
            return frame[column].to_numpy(dtype=float).reshape(-1, h)  # [N, H]

        quantiles = {}
        if level:
            for alias in models:
                names = [*name_interval_columns(alias, level), alias]
                quantiles[alias] = np.stack([block(names[i]) for i in order], -1)  # [N, H, Q]
        return cls(
            series=frame[ID].to_numpy()[::h],
            cutoffs=frame[CUTOFF].to_numpy()[::h],
            y=block(TARGET),
            forecasts={alias: block(alias) for alias in models},
            quantiles=quantiles,
            quantile_levels=sorted([*compute_quantile_levels(level), 0.5]) if level else [],
        )

    def scale_of(self, table: dict[Any, float]) -> np.ndarray:
        """Returns the series' entry of `table` for each window [N, 1]."""
        return np.array([table[name] for name in self.series], dtype=float)[:, None]

    def in_scaled_units(self, scales: SeriesScales) -> "WindowArrays":
        """Divides targets and forecasts by the deviation of their series; series that have none are left out."""
        deviation = self.scale_of(scales.deviation)  # [N, 1]
        kept = np.isfinite(deviation[:, 0])
        forecasts = {k: (v / deviation)[kept] for k, v in self.forecasts.items()}
        return WindowArrays(
            self.series[kept], self.cutoffs[kept], (self.y / deviation)[kept], forecasts, {}, self.quantile_levels[:0]
        )


def describe_unobserved(frame: pd.DataFrame) -> list[str]:
    """Says which windows no metric can count, because none of their targets was observed; empty if there is none."""
    seen = frame[TARGET].notna().groupby([frame[ID], frame[CUTOFF]], sort=False).any()
    lost = seen[~seen].index.get_level_values(0)
    if not len(lost):
        return []
    names = [str(name) for name in lost.unique()]
    shown = ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")
    return [
        f"All metrics leave out {len(lost)} of {len(seen)} windows (counted in each series) without an observed "
        f"target, of series: {shown}."
    ]


def score(result: BacktestResult, scales: SeriesScales, baseline: str | None = "SeasonalNaive") -> pd.DataFrame:
    """Computes every metric of every model over all windows.

    A model that failed somewhere is scored on the windows it has; `failed` says how many it lacks, and such a row must
    not be ranked against complete ones. `skill` and `relative_mae` are over the windows that the baseline has too.

    Args:
        result: The back-test.
        scales: From `SeriesScales.from_training` on the steps before the first cutoff.
        baseline: Alias that `skill` refers to; None or absent = no skill.

    Returns:
        One row a model in the order of the back-test: `model` and the columns of `LEGEND` that apply.
    """
    arrays = WindowArrays.of(result.frame, result.models, result.h, result.level)
    widest = max(result.level) if result.level else None
    wins = compute_win_rates(arrays)
    rows = []
    for alias in result.models:
        done = ~np.isnan(arrays.forecasts[alias]).any(axis=1)  # [N]
        row: dict[str, Any] = {"model": alias, "failed": int((~done).sum())}
        if done.any():
            row |= _score_model(arrays, alias, done, scales, widest)
            row["win_rate"] = wins.get(alias, np.nan)
        rows.append(row)
    table = pd.DataFrame(rows)
    if baseline in result.models:
        table["skill"] = [_compute_skill(arrays, alias, str(baseline)) for alias in table["model"]]
        relative = compute_relative(arrays, str(baseline), find_incomparable(arrays, str(baseline), scales))
        table["relative_mae"] = [relative[alias] for alias in table["model"]]
    known = [c for c in LEGEND if c in table.columns]
    return table[["model", *known]]


def rank_rows(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Sorts models by a metric, least first; those that lack windows come last, whatever they scored on the others."""
    return table.assign(_lacks=table["failed"] > 0).sort_values(["_lacks", metric]).drop(columns="_lacks")


def find_incomplete(table: pd.DataFrame) -> list[str]:
    """Returns the models that lack the forecast of a window, in the order of the rows; they have no rank."""
    return [str(m) for m in table.loc[table["failed"] > 0, "model"]]


def _compute_skill(arrays: WindowArrays, alias: str, baseline: str) -> float:
    """Returns the share of the baseline's MAE that a model saves, over the windows that both forecast; NaN = none."""
    own, reference = arrays.forecasts[alias], arrays.forecasts[baseline]
    both = ~np.isnan(own).any(axis=1) & ~np.isnan(reference).any(axis=1)  # [N]
    if not both.any():
        return float("nan")
    y = arrays.y[both]
    return float(metrics.skill(float(metrics.mae(y, own[both])), float(metrics.mae(y, reference[both]))))


def _score_model(
    arrays: WindowArrays, alias: str, done: np.ndarray, scales: SeriesScales, widest: float | None
) -> dict[str, float]:
    y, forecast = arrays.y[done], arrays.forecasts[alias][done]  # [N, H]
    deviation = arrays.scale_of(scales.deviation)[done]
    seasonal = arrays.scale_of(scales.seasonal_error)[done]
    row = {name: float(metrics.POINT_METRICS[name](y, forecast)) for name in ("mae", "rmse", "mse", "smape")}
    known = np.isfinite(seasonal[:, 0])
    row["mase"] = float(metrics.mase(y[known], forecast[known], np.broadcast_to(seasonal[known], y[known].shape)))
    known = np.isfinite(deviation[:, 0])
    scaled, forecast_scaled = (y / deviation)[known], (forecast / deviation)[known]  # [N', H]
    row["scaled_mae"] = float(metrics.mae(scaled, forecast_scaled))
    row["scaled_mse"] = float(metrics.mse(scaled, forecast_scaled))
    if widest is not None:
        quantiles = arrays.quantiles[alias][done]  # [N, H, Q]
        if np.isnan(quantiles[..., 0]).all():  # a point forecaster, whose bounds are missing
            return row | dict.fromkeys(("wql", "crps", "coverage", "width"), np.nan)
        row["wql"] = float(metrics.wql(y, quantiles, arrays.quantile_levels))
        row["crps"] = float(metrics.crps_quantiles(y, quantiles, arrays.quantile_levels))
        row["coverage"] = float(metrics.coverage(y, quantiles[..., 0], quantiles[..., -1]))
        row["width"] = float(metrics.interval_width(y, quantiles[..., 0], quantiles[..., -1]))
    return row


def compute_window_losses(arrays: WindowArrays, metric: str = "mae") -> pd.DataFrame:
    """Returns the mean loss of each window: `unique_id, cutoff` and one column a model; NaN = failed.

    Args:
        arrays: The windows.
        metric: "mae", "mse", "smape", or "crps" for models with intervals.

    Raises:
        ValueError: If the metric is unknown, or there are no intervals for it.
    """
    if metric not in ("mae", "mse", "smape", "crps"):
        raise ValueError(f"metric {metric!r} has no loss by window; choose mae, mse, smape or crps")
    if metric == "crps" and not arrays.quantiles:
        raise ValueError("crps needs forecasts with intervals; back-test with level=[...]")
    losses = pd.DataFrame({ID: arrays.series, CUTOFF: arrays.cutoffs})
    for alias, forecast in arrays.forecasts.items():
        if metric == "crps":
            losses[alias] = metrics.crps_quantiles(
                arrays.y, arrays.quantiles[alias], arrays.quantile_levels, dim=1
            )  # [N]
        else:
            losses[alias] = metrics.POINT_METRICS[metric](arrays.y, forecast, dim=1)
    return losses


def compute_win_rates(arrays: WindowArrays) -> dict[str, float]:
    """Returns for each model the share of duels that it wins: window by window, against each other model, by MAE.

    A tie is half a win; a window that one of the two lacks is no duel.
    """
    losses = compute_window_losses(arrays).drop(columns=[ID, CUTOFF])
    rates = {}
    for alias in losses.columns:
        points, duels = 0.0, 0
        for other in losses.columns.drop(alias):
            gap = (losses[other] - losses[alias]).dropna()
            points += float((gap > 0).sum() + 0.5 * (gap == 0).sum())
            duels += len(gap)
        rates[alias] = points / duels if duels else float("nan")
    return rates


def find_incomparable(arrays: WindowArrays, baseline: str, scales: SeriesScales) -> list[Any]:
    """Returns the series that say nothing of errors relative to the baseline's, in the order of the windows.

    The baseline makes no error there, but for rounding, or the training part is constant.
    """
    errors = compute_window_losses(arrays)[[ID, baseline]].assign(level=np.nanmax(np.abs(arrays.y), axis=1, initial=0))
    by_series = errors.groupby(ID, sort=False).agg({baseline: "mean", "level": "max"})
    exact = by_series[baseline] <= _ROUNDING * by_series["level"]
    return [name for name in by_series.index if exact[name] or np.isnan(scales.deviation.get(name, 1.0))]


def describe_incomparable(arrays: WindowArrays, baseline: str, scales: SeriesScales) -> list[str]:
    """Says how many series the relative MAE leaves out, and why; empty if none."""
    names = [str(name) for name in find_incomparable(arrays, baseline, scales)]
    if not names:
        return []
    shown = ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")
    return [
        f"The relative MAE leaves out {len(names)} of {len(set(arrays.series))} series, where {baseline} makes no "
        f"error or the training part is constant: {shown}."
    ]


def compute_relative(arrays: WindowArrays, baseline: str, left_out: Sequence[Any] = ()) -> dict[str, float]:
    """Returns for each model its MAE over the baseline's, as the geometric mean over series.

    The mean of fev and GIFT-Eval over tasks, here over series: no series weighs more than another, whatever its units
    or its training part. Ratios are taken within .01 and 100, as in fev. Over the windows that both forecast; a series
    where the baseline makes no error on them is left out.

    Args:
        arrays: The windows.
        baseline: Alias of the reference.
        left_out: Series that do not count, from `find_incomparable`.

    Returns:
        Alias -> ratio, NaN where no series is left.

    Raises:
        ValueError: If the baseline is none of the models.
    """
    if baseline not in arrays.forecasts:
        raise ValueError(f"baseline {baseline!r} is none of {list(arrays.forecasts)}")
    losses = compute_window_losses(arrays)
    found = {}
    for alias in arrays.forecasts:
        columns = list(dict.fromkeys([alias, baseline]))
        means = losses.dropna(subset=columns).groupby(ID, sort=False)[columns].mean()
        means = means[~means.index.isin(left_out) & (means[baseline] > 0)]
        ratio = np.clip(means[alias].to_numpy() / means[baseline].to_numpy(), _LEAST_RATIO, _MOST_RATIO)
        found[alias] = float(np.exp(np.log(ratio).mean())) if len(ratio) else float("nan")
    return found


def find_ruling_series(losses: pd.DataFrame, share: float = 0.5) -> tuple[str, float] | None:
    """Returns the series that alone makes up more than `share` of the mean loss of all models, and its share.

    Args:
        losses: From `compute_window_losses` in scaled units.
        share: Of the summed loss, 0 to 1.

    Returns:
        None if there is none, or fewer than four series.
    """
    models = [c for c in losses.columns if c not in (ID, CUTOFF)]
    sums = losses.groupby(ID, sort=False)[models].mean().mean(axis=1)
    if len(sums) < 4 or not sums.sum() > 0:
        return None
    largest = float(sums.max() / sums.sum())
    return (str(sums.idxmax()), largest) if largest > share else None


def compute_step_skill(arrays: WindowArrays, baseline: str) -> pd.DataFrame:
    """Returns the share of the baseline's MAE that each model saves at each step: `step` (1 ... H) and the models.

    Raises:
        ValueError: If the baseline is none of the models.
    """
    if baseline not in arrays.forecasts:
        raise ValueError(f"baseline {baseline!r} is none of {list(arrays.forecasts)}")
    table = pd.DataFrame({"step": np.arange(1, arrays.y.shape[1] + 1)})
    for alias, forecast in arrays.forecasts.items():
        both = ~np.isnan(forecast).any(1) & ~np.isnan(arrays.forecasts[baseline]).any(1)
        own = metrics.mae(arrays.y[both], forecast[both], dim=0)  # [H]
        reference = metrics.mae(arrays.y[both], arrays.forecasts[baseline][both], dim=0)
        table[alias] = [metrics.skill(a, b) for a, b in zip(own, reference, strict=True)]
    return table


def training_part(df: pd.DataFrame, result: BacktestResult) -> pd.DataFrame:
    """Returns the rows of `df` up to each series' first cutoff."""
    first = result.frame.groupby(ID, sort=False)[CUTOFF].min()
    return df[df[TIME] <= df[ID].map(first)].reset_index(drop=True)
