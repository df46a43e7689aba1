"""The search for settings: the same number of trials for every trainable model, by validation loss alone.

`tune_model` is the search itself and knows neither data nor forecasters: it asks a sampler for settings, asks
`evaluate` for their validation loss, and keeps each trial on disk. What is searched stands in
`tsllm.evaluation.space`; `validate` measures the loss.
"""

import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tsllm import metrics
from tsllm.data.prepared import hold_out_end
from tsllm.data.splits import split_frame
from tsllm.data.task import ForecastTask
from tsllm.evaluation.config import SAMPLERS
from tsllm.evaluation.prepare import PreparedTask
from tsllm.evaluation.space import (
    Choice,
    Params,
    Range,
    Space,
    Value,
    apply_params,
    build_space,
    draw_spread,
    find_first,
)
from tsllm.evaluation.tables import SeriesScales, WindowArrays
from tsllm.files import telling_damage, write_json
from tsllm.forecasting.base import Forecaster
from tsllm.forecasting.checks import check_forecaster
from tsllm.forecasting.model_spec import ModelSpec
from tsllm.forecasting.roster import build_forecaster
from tsllm.types import ID, TARGET, TIME

logger = logging.getLogger(__name__)

TRIAL_FORMAT = 1
STARTUP_TRIALS = 5
LEVELS = (20.0, 40.0, 60.0, 80.0)


@dataclass(frozen=True)
class Trial:
    """One trial.

    Attributes:
        number: From 0.
        params: Its settings.
        loss: Validation loss; None if it failed.
        seconds: What it took when it was computed.
        error: Why it failed; empty otherwise.
    """

    number: int
    params: Params
    loss: float | None
    seconds: float = 0.0
    error: str = ""


@dataclass(frozen=True)
class TuneResult:
    """What a search found.

    Attributes:
        name: The model.
        space: What was searched.
        trials: In order.
        best: The trial of the least validation loss, the first among equals.
    """

    name: str
    space: Space
    trials: list[Trial]
    best: Trial

    @property
    def at_border(self) -> list[str]:
        """Settings whose best value is the least or the largest that could be tried."""
        return [name for name, value in self.best.params.items() if self.space[name].is_border(value)]

    def describe(self) -> str:
        """Returns the search as a sentence."""
        distinct = len({_write(t.params) for t in self.trials})
        failed = sum(t.loss is None for t in self.trials)
        values = {name: {_write(t.params[name]) for t in self.trials} for name in sorted(self.space)}
        varied = [name for name, seen in values.items() if len(seen) > 1]
        count = f"{len(self.trials)} trial{'s' if len(self.trials) > 1 else ''}"
        said = f"{self.name}: {count}" + (f" of {', '.join(varied)}" if varied else "")
        if len(self.trials) > 1:  # what took one value says nothing of other ones
            same = [f"{name} was {_show(self.trials[0].params[name])}" for name in values if name not in varied]
            said += f" ({', '.join(same)} in all of them)" if same else ""
        said += f", {distinct} of them distinct" if distinct < len(self.trials) else ""
        said += f", {failed} failed" if failed else ""
        chosen = ", ".join(f"{k} {_show(v)}" for k, v in sorted(self.best.params.items()))
        said += f"; trial {self.best.number + 1} has the best validation loss ({self.best.loss:.4g}): {chosen}"
        borders = self.at_border
        return said + (f"; at the border of what was tried: {', '.join(borders)}." if borders else ".")

    def to_frame(self) -> pd.DataFrame:
        """Returns one row a trial: `trial, loss, seconds, error` and the settings."""
        rows = [
            {"trial": t.number + 1, "loss": t.loss, "seconds": t.seconds, "error": t.error, **t.params}
            for t in self.trials
        ]
        return pd.DataFrame(rows)


@dataclass(frozen=True)
class TrialStore:
    """Trials on disk, one JSON file each, named by a hash of everything that the loss depends on.

    Attributes:
        folder: Where they lie.
        about: What the loss depends on besides the model's entry and the settings: fingerprint of the data, windows,
            training budget, seed of the weights.
    """

    folder: Path
    about: Mapping[str, Any] = field(default_factory=dict)

    def load(self, key: Mapping[str, Any]) -> tuple[float, float] | None:
        """Returns loss and seconds of a trial, or None if it is not there.

        Raises:
            OSError: If its file is damaged.
        """
        path = self._path(key)
        if not path.is_file():
            return None
        with telling_damage(path, "remove it, then the trial is run anew"):
            state = json.loads(path.read_text(encoding="utf-8"))
            return float(state["loss"]), float(state["seconds"])

    def save(self, key: Mapping[str, Any], loss: float, seconds: float) -> None:
        """Writes a trial, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self._path(key), {"key": self._whole(key), "loss": loss, "seconds": seconds})

    def _whole(self, key: Mapping[str, Any]) -> dict[str, Any]:
        return {"format": TRIAL_FORMAT, "about": dict(self.about), **key}

    def _path(self, key: Mapping[str, Any]) -> Path:
        return self.folder / f"{hashlib.sha256(_write(self._whole(key)).encode()).hexdigest()[:20]}.json"


def tune_model(
    spec: Any,
    evaluate: Callable[[Params], float],
    space: Space,
    trials: int,
    seed: int,
    store: TrialStore,
    *,
    first: Params | None = None,
    sampler: str = "tpe",
    tell: Callable[[str], None] = lambda _: None,
) -> TuneResult:
    """Searches the settings of the least validation loss.

    The sampler's draws follow from the seed and the losses so far, so a run that goes on after a kill, or with more
    trials, reads those that are there, draws the same settings, and ends with the same result. A trial that fails
    counts, and is tried again by the next run.

    Args:
        spec: What is tuned, a dataclass or a mapping; `name` is its name in messages.
        evaluate: Settings -> validation loss, on one scale for all settings (not the training loss of a space that
            holds losses or heads), from data before the first test cutoff alone.
        space: Name -> what it may be.
        trials: How many.
        seed: Of the sampler.
        store: Where trials are kept.
        first: Settings of the first trial, those of the entry as it is; what lies outside the space is an error.
        sampler: "tpe" (Bergstra et al., 2011; the first five are random), "random", or "sobol" (Sobol, 1967,
            scrambled): few draws that are spread, so that two behind the first trial reach both halves of every
            range, four every quarter.
        tell: Hears what happens.

    Raises:
        ImportError: If optuna is not installed.
        ValueError: If the space is empty, a number is no count, or `first` does not fit.
        RuntimeError: If every trial fails.
    """
    optuna = _require_optuna()
    if trials < 1 or not space:
        raise ValueError(f"{trials} trials over {sorted(space)}; a search needs at least one of each")
    study = optuna.create_study(sampler=_build_sampler(optuna, sampler, seed))
    if first is not None:
        study.enqueue_trial(_check_first(first, space))
    distributions = {name: _build_distribution(optuna, kind) for name, kind in sorted(space.items())}
    if sampler == "sobol":
        for drawn in draw_spread(space, trials, seed):
            study.enqueue_trial(drawn)
    known = asdict(spec) if is_dataclass(spec) and not isinstance(spec, type) else dict(spec)
    name = str(getattr(spec, "name", known.get("name", "model")))
    done: list[Trial] = []
    for number in range(trials):
        asked = study.ask(distributions)
        params: Params = dict(sorted(asked.params.items()))
        trial = _run_trial(number, params, evaluate, store, {"spec": known, "params": params})
        study.tell(asked, trial.loss, state=optuna.trial.TrialState.FAIL if trial.loss is None else None)
        done.append(trial)
        said = f"failed ({trial.error})" if trial.loss is None else f"validation loss {trial.loss:.4g}"
        tell(f"{name}, trial {number + 1}/{trials}: {', '.join(f'{k} {_show(v)}' for k, v in params.items())}: {said}")
    whole = [t for t in done if t.loss is not None]
    if not whole:
        raise RuntimeError(f"{name}: every trial failed; the first: {done[0].error}")
    return TuneResult(name, dict(space), done, min(whole, key=lambda t: (t.loss, t.number)))


def tune_for_task(
    spec: ModelSpec,
    prepared: PreparedTask,
    trials: int,
    seed: int,
    folder: Path,
    changes: Mapping[str, Any] | None = None,
    *,
    sampler: str = "tpe",
    tell: Callable[[str], None] = lambda _: None,
) -> TuneResult:
    """Searches the settings of a model for a data set of a comparison, on the steps before the first test cutoff.

    Args:
        spec: The model's entry; the first trial is the entry as it is.
        prepared: The data set with its test windows, which are not looked at.
        trials: How many.
        seed: Of the draws and of the weights.
        folder: Trials lie in its subfolder `trials`.
        changes: Of the space, as in `build_space`.
        sampler: As in `tune_model`.
        tell: Hears what happens.

    Raises:
        ValueError: Before the first trial, if the entry as it is could not be trained and validated; else as
            `tune_model`.
    """
    task, history = prepared.task, prepared.training
    space = build_space(spec, task, changes)
    check_forecaster(spec, task)
    count_held(task, history)
    split_frame(history, hold_out_end(history, task), task.context_length)

    def evaluate(params: Params) -> float:
        changed = apply_params(spec, params)
        context = changed.options.get("context_length", task.context_length)
        model = build_forecaster(changed, replace(task, context_length=context), seed)
        return validate(model, history, task)

    windows = prepared.windows
    about = {"data": prepared.fingerprint, "task": asdict(task), "seed": seed}
    about |= {"windows": [windows.n_windows, windows.step]}
    store = TrialStore(folder / "trials", about)
    first = find_first(spec, task, space)
    return tune_model(spec, evaluate, space, trials, seed, store, first=first, sampler=sampler, tell=tell)


def check_equal_search(results: Sequence[TuneResult]) -> list[str]:
    """Returns a sentence if models were given unequal numbers of trials; none otherwise."""
    counts = {r.name: len(r.trials) for r in results}
    if len(set(counts.values())) < 2:
        return []
    return ["unequal search: " + ", ".join(f"{name} {count} trials" for name, count in counts.items())]


def count_held(task: ForecastTask, training: pd.DataFrame) -> int:
    """Returns how many steps at the end of each series are held for validation.

    Raises:
        ValueError: If it is none.
    """
    held = hold_out_end(training, task).validation
    if held == 0:
        raise ValueError("a search needs validation steps, but val_size is 0; give at least the horizon")
    return held


def validate(forecaster: Forecaster, training: pd.DataFrame, task: ForecastTask) -> float:
    """Fits a forecaster before the first test cutoff and returns its loss on the validation steps at the end.

    The loss is the mean quantile loss at nine levels over windows `h` apart, each series in units of its seasonal
    naive error before these steps: one scale, whatever a model trains with, reads and emits. The windows are those
    that stop its training early.

    Args:
        forecaster: A forecaster that trains.
        training: The steps before the first test cutoff.
        task: What is forecast.

    Raises:
        ValueError: If nothing is held for validation, or every series is constant.
    """
    held = count_held(task, training)
    forecaster.expect_levels(LEVELS)
    forecaster.fit(training, task.h)
    frame = forecaster.predict_rolling(training, task.h, held // task.h, task.h, list(LEVELS))
    frame = frame.merge(training[[ID, TIME, TARGET]], on=[ID, TIME], how="left", validate="one_to_one")
    arrays = WindowArrays.of(frame, [forecaster.alias], task.h, LEVELS)
    before = training.groupby(ID, sort=False).head(-held)
    scales = SeriesScales.from_training(before, task.season).seasonal_error
    losses = []
    for name in dict.fromkeys(arrays.series):
        if not scales[name] > 0:
            continue  # a constant series has no scale, and nothing to learn
        rows = arrays.series == name
        quantiles = arrays.quantiles[forecaster.alias][rows]  # [N, H, Q]
        losses.append(float(metrics.quantile_loss(arrays.y[rows], quantiles, arrays.quantile_levels)) / scales[name])
    if not losses:
        raise ValueError("every series is constant before the validation steps, so that errors have no scale")
    return float(np.mean(losses))


def _run_trial(
    number: int, params: Params, evaluate: Callable[[Params], float], store: TrialStore, key: Mapping[str, Any]
) -> Trial:
    """Reads a trial from the store, or computes and keeps it."""
    found = store.load(key)
    if found is not None:
        return Trial(number, params, *found)
    started = time.perf_counter()
    try:
        loss = float(evaluate(dict(params)))
        if not math.isfinite(loss):
            raise FloatingPointError(f"the validation loss is {loss}")
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        logger.warning("trial %d with %s failed: %s", number + 1, params, said)
        return Trial(number, params, None, time.perf_counter() - started, said)
    seconds = time.perf_counter() - started
    store.save(key, loss, seconds)
    return Trial(number, params, loss, seconds)


def _check_first(first: Params, space: Space) -> Params:
    outside = [name for name, value in first.items() if name not in space or not space[name].holds(value)]
    if outside:
        raise ValueError(
            f"the first trial's {outside[0]} is {first[outside[0]]!r}, which {space.get(outside[0])} lacks"
        )
    return dict(first)


def _build_sampler(optuna: Any, name: str, seed: int) -> Any:
    if name in ("random", "sobol"):  # what is enqueued comes first: of sobol all, or what the first trial left open
        return optuna.samplers.RandomSampler(seed=seed)
    if name == "tpe":
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS)
    raise ValueError(f"sampler is {name!r}; choose {', '.join(SAMPLERS)}")


def _build_distribution(optuna: Any, kind: Choice | Range) -> Any:
    if isinstance(kind, Choice):
        return optuna.distributions.CategoricalDistribution(kind.values)
    return optuna.distributions.FloatDistribution(kind.low, kind.high, log=kind.log)


def _write(content: Any) -> str:
    return json.dumps(content, sort_keys=True, default=str)


def _show(value: Value) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _require_optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise ImportError("a search needs optuna; pip install 'tsllm[tune]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
