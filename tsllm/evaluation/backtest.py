"""Rolling-origin back-test: the same windows for every forecaster, failures counted, costs measured."""

import copy
import logging
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from tsllm.context.contract import load_texts
from tsllm.data.columns import is_table
from tsllm.data.frame import usable_covariates, validate_frame
from tsllm.data.frequency import Freq
from tsllm.data.names import ColumnNames
from tsllm.data.task import Asked
from tsllm.evaluation.leakage import check_saved_model
from tsllm.evaluation.named import build_named
from tsllm.evaluation.told import tell_models
from tsllm.evaluation.windows import Windows
from tsllm.forecasting.base import Forecaster, name_interval_columns, read_levels
from tsllm.forecasting.model_spec import ModelSpec
from tsllm.hub.spec import check_alias
from tsllm.progress import Bar
from tsllm.types import CUTOFF, ID, TIME

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Failure:
    """A fit or a forecast that raised.

    Attributes:
        model: Alias.
        stage: "fit" or "predict".
        cutoff: The cutoff, or None if all cutoffs were lost.
        error: Type and text.
        windows: How many windows (series x cutoffs) have no forecast because of it.
    """

    model: str
    stage: str
    cutoff: Any
    error: str
    windows: int


@dataclass
class Cost:
    """What a model took in a back-test.

    Attributes:
        fit_seconds: All fits together.
        predict_seconds: All forecasts together.
        windows: Windows forecast (series x cutoffs).
        trained_parameters: Parameters that training changes; None if the model does not say.
        total_parameters: All parameters, a frozen backbone's included.
    """

    fit_seconds: float = 0.0
    predict_seconds: float = 0.0
    windows: int = 0
    trained_parameters: int | None = None
    total_parameters: int | None = None

    @property
    def milliseconds_per_window(self) -> float:
        """Forecast latency of a window, batched as in the back-test."""
        return 1000 * self.predict_seconds / self.windows if self.windows else float("nan")


@dataclass
class BacktestResult:
    """What a back-test gives.

    Attributes:
        frame: `unique_id, ds, cutoff, y` and the forecasts; sorted by series, cutoff and time; a window without a
            forecast holds NaN.
        models: Aliases in the order asked for.
        h: Steps ahead.
        level: Levels of the intervals.
        failures: What raised.
        costs: Alias -> cost.
        fitted: Alias -> the forecaster as it was fitted last.
    """

    frame: pd.DataFrame
    models: list[str]
    h: int
    level: list[float]
    failures: list[Failure] = field(default_factory=list)
    costs: dict[str, Cost] = field(default_factory=dict)
    fitted: dict[str, Forecaster] = field(default_factory=dict)

    def count_failed(self, model: str) -> int:
        """Returns how many windows of `model` have no forecast."""
        values = self.frame[model].to_numpy(dtype=float).reshape(-1, self.h)  # [windows, H]
        return int((~np.isfinite(values)).any(axis=1).sum())


def backtest(
    df: pd.DataFrame,
    models: Sequence[Forecaster | ModelSpec | Mapping[str, Any] | str],
    h: int,
    n_windows: int = 1,
    step_size: int | None = None,
    level: Sequence[float] | None = None,
    refit: bool | int = False,
    freq: Freq | None = None,
    *,
    verbose: bool = True,
    id_col: str | None = None,
    time_col: str | None = None,
    target_col: str | None = None,
    context: Any = None,
    timeless: bool = False,
    reader: Any = None,
    covariates: Sequence[str] | None = None,
    past_covariates: Sequence[str] | None = None,
    static: Sequence[str] | None = None,
    season: int | None = None,
) -> pd.DataFrame:
    """Forecasts the last `n_windows` windows of each series with every model.

    Args:
        df: Long frame with all columns that the models read, or a wide one.
        models: Forecasters, each of which is copied, so that the given ones stay as they are; or names ("timexer"),
            mappings and `ModelSpec`s as in `tsllm.compare`.
        h: Steps ahead.
        n_windows: Cutoffs.
        step_size: Steps between cutoffs; None = `h`, windows that do not overlap.
        level: Coverage of central intervals in per cent.
        refit: False = fit once, before the first cutoff, and forecast every window with frozen parameters; True = fit
            at each cutoff; an integer k = fit at each k-th cutoff. Local statistical models estimate anew in any case.
        freq: As in `validate_frame`.
        verbose: Whether more than two seconds show a bar, in a terminal or a notebook.
        id_col: Column that names the series, if not `unique_id`.
        time_col: Column of the times, if not `ds` or `date`.
        target_col: Column of the values, if not `y`.
        context: What was known: one text, a mapping series -> text, or a frame `unique_id, text` with optional
            `published, start, end`, or the path of such a table. Each model then stands there twice, plain and as
            `NAME+context`; a cutoff reads what was published by then.
        timeless: Whether texts without `published` may be read at every cutoff; else they are refused.
        reader: Who reads: "rules", the folder of a trained reader, or a reader as `ContextForecaster` takes it; None =
            the model itself if it can, else the rules.
        covariates: Columns known over the horizon, for models given by name; a built forecaster was told its own.
        past_covariates: Columns known up to the cutoff, likewise.
        static: Columns with one value a series, likewise.
        season: Steps in a season, likewise; None = by frequency.

    Returns:
        Frame `unique_id, ds, cutoff, y` (or as the columns of `df` were named), one column a model and its interval
        bounds. `attrs["failures"]` lists what raised, and a warning says so.

    Raises:
        FrameError: If the frame breaks the contract or a series is too short for the windows; if texts do not fit the
            data, or one does not say when it was published.
        LeakageError: If a saved model was trained on test windows.
        ValueError: If `timeless` or `reader` is given without `context`, or a model is told something already; if
            covariates are named for built forecasters, or no model reads them.
        RuntimeError: If every model failed everywhere.

    Example:
        >>> import pandas as pd, tsllm
        >>> df = pd.DataFrame({"shop": "A", "day": range(12), "sold": [float(t % 3) for t in range(12)]})
        >>> names = {"id_col": "shop", "time_col": "day", "target_col": "sold"}
        >>> windows = tsllm.backtest(df, [tsllm.SeasonalNaive(3)], h=3, n_windows=2, **names)
        >>> windows[["cutoff", "sold", "SeasonalNaive"]].iloc[0].tolist()
        [5.0, 0.0, 0.0]
    """
    names = ColumnNames.of(id_col, time_col, target_col).resolve(df)
    with names.speaking(), Bar("back-test", verbose=verbose) as bar:
        read = names.read(df, strict=True)
        words: dict[str, Any] = {
            "covariates": covariates,
            "past_covariates": past_covariates,
            "static": static,
            "season": season,
        }
        built: Sequence[Forecaster]
        if _are_named(models, words):
            read, built = build_named(read, models, Asked(h=h, freq=freq, **words), n_windows, step_size)
        else:
            built = models  # type: ignore[assignment]
        _check_asked(built, refit)
        if context is not None:
            texts = names.read_texts(context) if is_table(context) else context
            texts = load_texts(texts, names) if isinstance(texts, str) else texts
            built = tell_models(built, read, texts, timeless=timeless, reader=reader, freq=freq, h=h)
        elif timeless or reader is not None:
            raise ValueError(f"{'timeless' if timeless else 'reader'} has no effect without context; leave it out")
        tell = lambda text: bar.update(label=text)  # noqa: E731
        result = run_backtest(read, built, h, n_windows, step_size, level, refit, freq, progress=tell)
    frame = names.write(result.frame)
    frame.attrs["failures"] = [vars(failure) for failure in result.failures]
    return frame


def run_backtest(
    df: pd.DataFrame,
    models: Sequence[Forecaster],
    h: int,
    n_windows: int = 1,
    step_size: int | None = None,
    level: Sequence[float] | None = None,
    refit: bool | int = False,
    freq: Freq | None = None,
    progress: Callable[[str], None] | None = None,
    copies: bool = True,
    guard: bool = True,
) -> BacktestResult:
    """As `backtest`, with failures, costs and the fitted models.

    `progress` is told what happens; without `copies` the given forecasters themselves are fitted, which spares the
    memory of a second large model. Without `guard` nobody looks what saved models were trained on, because the caller
    did.
    """
    step = h if step_size is None else step_size
    _check_asked(models, refit)
    aliases = [model.alias for model in models]
    levels = sorted(read_levels(level))
    check_aliases(aliases, levels)
    df = validate_frame(df, freq=freq, covariates=usable_covariates(df), keep_others=True)
    windows = Windows.of(df, h, n_windows, step)
    if guard:
        _warn_of_leakage(models, windows)
    frame = windows.keys.copy()
    result = BacktestResult(frame, aliases, h, levels)
    for model in models:
        tell = progress or (lambda _: None)
        columns = [model.alias, *name_interval_columns(model.alias, levels)]
        own: Any = copy.deepcopy(model) if copies else model
        own.expect_levels(levels)
        forecast, cost, fitted = _run_model(own, windows, levels, refit, result.failures, tell)
        result.costs[model.alias], result.fitted[model.alias] = cost, fitted
        for column in columns:
            frame[column] = forecast[column].to_numpy()
        _count_missing(result, model.alias)
    lost = [a for a in aliases if frame[a].isna().all()]
    if lost == aliases:
        raise RuntimeError("every model failed: " + "; ".join(f"{f.model}: {f.error}" for f in result.failures[:5]))
    for alias in aliases:
        failed = result.count_failed(alias)
        if failed:
            first = next(f for f in result.failures if f.model == alias)
            warnings.warn(
                f"{alias} failed in {failed} of {len(frame) // h} windows (first: {first.error}); its columns are NaN "
                "there",
                stacklevel=2,
            )
    return result


def _are_named(models: Any, words: Mapping[str, Any]) -> bool:
    """Tells whether models are given by name.

    Raises:
        ValueError: If some are and some are not, or built ones are to be told what they read.
    """
    if isinstance(models, str | Mapping | ModelSpec):
        raise ValueError(f"models is {models!r}; give a list: [{models!r}]")
    named = [] if isinstance(models, Forecaster) else [isinstance(m, str | Mapping | ModelSpec) for m in models]
    if any(named) and not all(named):
        raise ValueError("models holds names and built forecasters; give one or the other")
    given = next((word for word, value in words.items() if value is not None), None)
    if given is not None and not any(named):
        raise ValueError(
            f"{given} is for models given by name; these are built already, so say it there: "
            f"tsllm.NeuralForecaster('timexer', {given}=...)"
        )
    return any(named)


def _check_asked(models: Sequence[Forecaster], refit: bool | int) -> None:
    """Raises a ValueError unless `models` is a list of forecasters and `refit` says each how many cutoffs."""
    if isinstance(models, Forecaster):
        raise ValueError(f"models is one forecaster, {models.alias}; give a list: [model]")
    if not models:
        raise ValueError("models is empty; give at least one forecaster")
    for model in models:
        if not isinstance(model, Forecaster):
            raise ValueError(
                f"{model!r} is no forecaster; give built ones, such as tsllm.SeasonalNaive(season=24), or names"
            )
    if not isinstance(refit, bool) and (not isinstance(refit, int) or refit < 1):
        raise ValueError(f"refit is {refit!r}; give True, False, or each how many cutoffs (at least 1)")


def _count_missing(result: BacktestResult, alias: str) -> None:
    """Counts windows without a finite forecast that nobody raised for as failures, as if the model had."""
    told = sum(failure.windows for failure in result.failures if failure.model == alias)
    missing = result.count_failed(alias) - told
    if missing > 0:
        error = f"ValueError: the forecast is missing or not finite in {missing} windows"
        result.failures.append(Failure(alias, "predict", None, error, missing))


def _warn_of_leakage(models: Sequence[Forecaster], windows: Windows) -> None:
    """Looks at what saved models were trained on.

    Raises:
        LeakageError: If one was trained on test windows.
    """
    for model in models:
        if model.trained_on:
            said = check_saved_model(model.alias, model.trained_on, windows)
            if said:
                warnings.warn(said, stacklevel=3)


def check_aliases(aliases: Sequence[str], level: Sequence[float]) -> None:
    """Refuses forecasters whose columns could be taken for one another's, or for the keys and the truth.

    Raises:
        ValueError: Naming the column.
    """
    columns: dict[str, str] = {}
    for alias in aliases:
        check_alias(alias)
        for column in (alias, *name_interval_columns(alias, level)):
            if column in columns:
                raise ValueError(
                    f"two models have the alias {alias!r}; give each its own: Model(..., alias='...')"
                    if columns[column] == alias
                    else f"{columns[column]!r} and {alias!r} both have a column {column!r}; give one another alias"
                )
            columns[column] = alias


def _run_model(
    model: Any,
    windows: Windows,
    level: list[float],
    refit: bool | int,
    failures: list[Failure],
    tell: Callable[[str], None],
) -> tuple[pd.DataFrame, Cost, Any]:
    """Returns the forecasts in the rows of `windows.keys`, what they cost, and the fitted model."""
    columns = [model.alias, *name_interval_columns(model.alias, level)]
    cost = Cost()
    every = windows.n_windows if refit is False else int(refit)
    blocks = [range(k, min(k + every, windows.n_windows)) for k in range(0, windows.n_windows, every)]
    parts = []
    for block in blocks:
        tell(f"{model.alias}: fit" + (f" {block.start + 1}/{windows.n_windows}" if len(blocks) > 1 else ""))
        started = time.perf_counter()
        try:
            model.fit(windows.history(block.start), windows.h)
        except Exception as error:
            lost = windows.num_series * len(block)
            failures.append(Failure(model.alias, "fit", None, _describe(error), lost))
            logger.warning("%s: fit failed: %s", model.alias, _describe(error))
            continue
        finally:
            cost.fit_seconds += time.perf_counter() - started
        tell(f"{model.alias}: forecast {len(block)} window{'s' if len(block) > 1 else ''}")
        started = time.perf_counter()
        parts += _forecast_block(model, windows, block, level, failures)
        cost.predict_seconds += time.perf_counter() - started
    cost.trained_parameters, cost.total_parameters = model.count_parameters()
    keys = windows.keys[[ID, TIME, CUTOFF]]
    if not parts:
        return keys.assign(**dict.fromkeys(columns, np.nan)), cost, model
    made = pd.concat(parts, ignore_index=True)
    forecast = keys.merge(made, on=[ID, TIME, CUTOFF], how="left", validate="one_to_one")
    cost.windows = int(forecast[model.alias].notna().sum()) // windows.h
    return forecast, cost, model


def _forecast_block(
    model: Any, windows: Windows, block: range, level: list[float], failures: list[Failure]
) -> list[pd.DataFrame]:
    """Forecasts the cutoffs of `block`: all at once if the model can, else (or if that raises) one after the other.

    Each part has the rows of `windows.keys` that it forecasts: `unique_id, ds, cutoff` and the model's columns.
    """
    columns = [model.alias, *name_interval_columns(model.alias, level)]
    if len(block) > 1 and model.rolls_at_once:
        df = windows.df
        behind = (windows.n_windows - block.stop) * windows.step
        if behind:
            df = df.groupby(ID, sort=False).head(-behind).reset_index(drop=True)
        try:
            made = model.predict_rolling(df, windows.h, len(block), windows.step, level or None)
            return [_take_columns(made, windows.keys, columns)]
        except Exception as error:
            logger.warning("%s: all windows at once failed (%s); trying one by one", model.alias, _describe(error))
    parts = []
    for k in block:
        try:
            part = model.predict(windows.history(k), windows.h, level or None, windows.future(k))
            due = windows.num_series * windows.h
            if len(part) != due:
                raise ValueError(f"{model.alias} gave {len(part)} rows, {due} were due")
            part = part.assign(**{CUTOFF: part[ID].map(windows.cutoff_times(k))})
            parts.append(_take_columns(part, windows.keys, columns))
        except Exception as error:
            cutoff = windows.cutoff_times(k).max()
            failures.append(Failure(model.alias, "predict", cutoff, _describe(error), windows.num_series))
            logger.warning("%s: forecast from %s failed: %s", model.alias, cutoff, _describe(error))
    return parts


def _take_columns(made: pd.DataFrame, keys: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Returns the forecasts of the rows that are due, as numbers.

    Raises:
        ValueError: If a row appears twice, or a forecast is no number.
        KeyError: If a column is missing.
    """
    at = [ID, TIME, CUTOFF]
    found = keys[at].merge(made[[*at, *columns]], on=at, validate="one_to_one")
    return found.astype(dict.fromkeys(columns, float))


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def read_costs(costs: Mapping[str, Cost]) -> pd.DataFrame:
    """Returns the costs as a table, one row a model."""
    rows = [
        {
            "model": alias,
            "fit_seconds": c.fit_seconds,
            "predict_seconds": c.predict_seconds,
            "ms_per_window": c.milliseconds_per_window,
            "trained_parameters": c.trained_parameters,
            "total_parameters": c.total_parameters,
        }
        for alias, c in costs.items()
    ]
    return pd.DataFrame(rows)
