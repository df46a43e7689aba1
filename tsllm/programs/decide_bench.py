"""The bench of `tsllm decide` for real series: rolling forecasts, joint paths, decisions before each window."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tsllm import metrics
from tsllm.data.loading import LoadedData, load_frame
from tsllm.data.task import Asked, build_task
from tsllm.decisions import AnyHourAlarm, DecisionProblem
from tsllm.forecasting.model_spec import STEP_REGRESSION, ModelSpec
from tsllm.forecasting.paths import draw_paths, weigh_similar
from tsllm.forecasting.roster import build_forecaster
from tsllm.paired import diebold_mariano
from tsllm.policies.learned import Windows, decide, train_policy
from tsllm.programs.decide_check import read_levels, read_training, solve_hindsight
from tsllm.programs.decide_config import Bench, DecideConfig, Outcome, PolicySpec, Say
from tsllm.types import CUTOFF, ID, TARGET, TIME

LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
NEEDED_KEYS = {"name", "h", "train", "validation", "test"}
PANEL_KEYS = {"min_length", "series", "units", "units_over"}
TABLE_KEYS = ("id_col", "time_col", "target_col", "day_first")
DATA_KEYS = NEEDED_KEYS | PANEL_KEYS | {"step_size", "covariates", "past_covariates", "data_path", *TABLE_KEYS}


class SeriesBench(Bench):
    """Windows of real series; forecasts out of sample throughout, paths from errors before the part that is decided.

    The errors behind the paths of validation windows are those of the training windows; those behind the paths of test
    windows are of training and validation windows. Nothing is chosen on the test part.
    """

    def __init__(self, config: DecideConfig, problem: DecisionProblem, folder: Path, say: Say) -> None:
        self.config, self.problem, self.unit = config, problem, problem.unit
        data = dict(config.data or {})
        check_keys("data", data, DATA_KEYS, NEEDED_KEYS)
        self.h = int(data["h"])
        if int(data.get("step_size", self.h)) < self.h:
            raise ValueError(
                f"data: step_size ({data['step_size']}) is below h ({self.h}); windows would overlap, and the "
                "errors behind the paths would not be known yet when the next window is decided"
            )
        loaded = _read(data)
        rolled = _forecast(config, data, loaded, folder, say)
        rolled = _count_units(rolled, loaded.df, data, problem)
        self.counts = (int(data["train"]), int(data["validation"]), int(data["test"]))
        self.forecast, self.truth, keys = self._split(rolled)
        self.windows = keys
        test = self.truth["test"] = problem.discretise(self.truth["test"])
        self.truth["validation"] = problem.discretise(self.truth["validation"])
        self.hindsight = solve_hindsight(problem, test)
        self.idle = problem.cost(problem.idle(self.h).expand(len(test), -1), test).numpy()
        self._drawn: dict[tuple[str, int], Tensor] = {}

    def _split(self, rolled: pd.DataFrame) -> tuple[dict[str, Tensor], dict[str, Tensor], pd.DataFrame]:
        """Returns forecasts and truths [N, H] by part, series after series, and the keys of the test windows."""
        forecast: dict[str, list[np.ndarray]] = {"train": [], "validation": [], "test": []}
        truth: dict[str, list[np.ndarray]] = {"train": [], "validation": [], "test": []}
        self.series: dict[str, list[np.ndarray]] = {"train": [], "validation": [], "test": []}
        keys = []
        bounds = np.cumsum((0, *self.counts))
        for number, (name, part) in enumerate(rolled.groupby(ID, sort=False)):
            for k, which in enumerate(forecast):
                rows = slice(bounds[k] * self.h, bounds[k + 1] * self.h)
                forecast[which].append(part["forecast"].to_numpy()[rows].reshape(-1, self.h))
                truth[which].append(part[TARGET].to_numpy()[rows].reshape(-1, self.h))
                self.series[which].append(np.full(self.counts[k], number))
            first = part.iloc[bounds[2] * self.h :: self.h]
            keys.append(pd.DataFrame({ID: name, CUTOFF: first[CUTOFF].to_numpy()}))
        stacked = [{w: torch.as_tensor(np.concatenate(v)) for w, v in d.items()} for d in (forecast, truth)]
        return stacked[0], stacked[1], pd.concat(keys, ignore_index=True)

    def paths(self, which: str, seed: int) -> Tensor:
        """Returns joint paths of a part's windows [N, S, H]; drawn once a seed."""
        if (which, seed) not in self._drawn:
            known = ("train",) if which != "test" else ("train", "validation")
            earlier = np.concatenate([self.forecast[w].numpy() for w in known])
            errors = np.concatenate([self.truth[w].numpy() for w in known]) - earlier
            owner = np.concatenate([np.concatenate(self.series[w]) for w in known])
            rng = np.random.default_rng([seed, {"train": 0, "validation": 1, "test": 2}[which]])
            method, width, drawn = self.config.method, self.config.similar, []
            size = self.spread(known) if self.config.pool else {}
            pooled = errors / np.array([size[k] for k in owner])[:, None] if self.config.pool else errors
            for point, number in zip(self.forecast[which].numpy(), np.concatenate(self.series[which]), strict=True):
                own = owner == number
                shapes = pooled * size[number] if self.config.pool else errors[own]
                weights = None if width is None else weigh_similar(point, earlier[own], errors[own], width)
                drawn.append(draw_paths(point, shapes, self.config.n_samples, rng, method=method, weights=weights))
            self._drawn[which, seed] = torch.as_tensor(np.stack(drawn))
        return self._drawn[which, seed]

    def spread(self, parts: Sequence[str]) -> dict[int, float]:
        """Returns the mean absolute error of each series in some parts; where it is 0, the mean over the series."""
        owner = np.concatenate([np.concatenate(self.series[w]) for w in parts])
        error = np.concatenate([(self.truth[w] - self.forecast[w]).abs().mean(1).numpy() for w in parts])
        mean = pd.Series(error).groupby(owner).mean()
        return {int(str(k)): float(v if v > 0 else mean.mean()) for k, v in mean.items()}

    def run(self, spec: PolicySpec, seed: int) -> Outcome:
        """Chooses on validation, decides the test windows one after the other, and settles them."""
        started = time.perf_counter()
        act, notes = self._prepare(spec, seed)
        training = time.perf_counter() - started
        paths = self.paths("test", seed) if spec.kind in ("quantile", "independent", "saa") else None
        started, actions = time.process_time(), []
        for i, forecast in enumerate(self.forecast["test"]):
            actions.append(act(forecast, forecast[None] if paths is None else paths[i]))
        seconds = time.process_time() - started
        cost = self.problem.cost(torch.stack(actions), self.truth["test"])
        if not torch.isfinite(cost).all():
            raise RuntimeError(f"{spec.label} decided beyond the limits of {self.problem.name} in some windows")
        return Outcome(cost.numpy(), seconds, training, notes)

    def _prepare(self, spec: PolicySpec, seed: int) -> tuple[Callable[[Tensor, Tensor], Tensor], dict[str, Any]]:
        problem = self.problem
        if spec.kind == "idle":
            return lambda _, __: problem.idle(self.h), {}
        if spec.kind == "mean":
            return lambda forecast, _: problem.plan(forecast), {}
        if spec.kind == "saa":
            return lambda _, paths: problem.solve(paths), {}
        if spec.kind == "independent":
            generator = torch.Generator().manual_seed(seed)
            return lambda _, paths: problem.solve(permute(paths, generator)), {}
        if spec.kind == "quantile":
            level, costs = self._choose_level(seed, read_levels(spec.options, LEVELS))
            return lambda _, paths: problem.plan(torch.quantile(paths, level, dim=0)), {
                "level": level,
                "validation": costs,
            }
        if spec.kind == "learned":
            return self._learn(spec, seed)
        raise ValueError(f"policy {spec.kind!r} cannot run on {problem.name}")  # `check_policies` comes first

    def _choose_level(self, seed: int, levels: Any) -> tuple[float, dict[str, float]]:
        paths, costs = self.paths("validation", seed), {}
        for level in levels:
            actions = self.problem.plan(torch.quantile(paths, float(level), dim=1))
            costs[str(level)] = float(self.problem.cost(actions, self.truth["validation"]).mean())
        best = min(costs, key=costs.__getitem__)
        return float(best), costs

    def _learn(self, spec: PolicySpec, seed: int) -> tuple[Callable[[Tensor, Tensor], Tensor], dict[str, Any]]:
        settings, simulated = read_training(spec)
        spread = (self.truth["train"] - self.forecast["train"]).std(0)
        train = Windows(self.forecast["train"], self.outcomes(simulated, seed), spread)
        validation = Windows(self.forecast["validation"], self.truth["validation"][:, None], spread)
        policy, log = train_policy(self.problem, train, validation, settings, seed)
        return lambda forecast, _: decide(policy, self.problem, forecast[None])[0], {"log": log}

    def outcomes(self, simulated: bool, seed: int) -> Tensor:
        """Returns what may come true in training windows [N, R, H]: the truth, and paths if `simulated`."""
        truths = self.truth["train"][:, None]
        if simulated:
            truths = torch.cat([truths, self.paths("train", seed)], 1)
        return self.problem.discretise(truths)

    def score(self, seed: int) -> dict[str, Any]:
        """Scores the point forecast, the joint paths, and the same paths with their steps permuted."""
        truth, paths = self.truth["test"], self.paths("test", seed)
        generator = torch.Generator().manual_seed(seed)
        independent = torch.stack([permute(p, generator) for p in paths])
        scores = {"MAE": float(metrics.mae(truth, self.forecast["test"]))}
        scores["CRPS"] = float(metrics.crps_samples(truth, paths.transpose(1, 2)))
        for label, drawn in (("joint", paths), ("independent", independent)):
            scores[f"energy score, {label}"] = float(metrics.energy_score(truth, drawn).mean())
            scores[f"variogram score, {label}"] = float(metrics.variogram_score(truth, drawn).mean())
            for functional in ("max", "sum", "ramp"):
                held = metrics.functional_coverage(truth, drawn, 80, functional)
                scores[f"coverage of the 80 % interval of the {functional}, {label}"] = float(held.mean())
        if isinstance(self.problem, AnyHourAlarm):
            scores |= self._score_event(self.problem, paths, truth)
        return scores

    def _score_event(self, problem: AnyHourAlarm, paths: Tensor, truth: Tensor) -> dict[str, float]:
        """Compares the event's probability from joint paths with that from marginals taken as independent."""
        event = problem.event(truth).double()
        joint = torch.stack([problem.probability(p) for p in paths])
        marginal = torch.stack([problem.independent_probability(p) for p in paths])
        losses = [((p - event) ** 2).numpy() for p in (joint, marginal)]
        scores = {"events": float(event.mean())}
        for label, chance, loss in zip(("joint", "independent"), (joint, marginal), losses, strict=True):
            scores[f"Brier score, {label}"] = float(loss.mean())
            scores[f"calibration error, {label}"] = _calibration_error(chance.numpy(), event.numpy())
            scores[f"mean probability, {label}"] = float(chance.mean())
        by_cutoff = [pd.Series(x).groupby(self.windows[CUTOFF].to_numpy()).mean().to_numpy() for x in losses]
        scores["p of the difference in Brier score"] = diebold_mariano(by_cutoff[0], by_cutoff[1]).p_value
        when = np.unique(self.windows[CUTOFF].to_numpy(), return_inverse=True)[1]
        found = compare_calibration(joint.numpy(), marginal.numpy(), event.numpy(), when)
        scores["p of the difference in calibration error"] = found
        return scores


def _read(data: dict[str, Any]) -> LoadedData:
    columns = [*data.get("covariates", ()), *data.get("past_covariates", ())]
    table = {name: data[name] for name in TABLE_KEYS if name in data}
    loaded = load_frame(str(data["name"]), covariates=columns, data_path=data.get("data_path"), **table)
    if loaded.df[TARGET].isna().any():
        raise ValueError(f"{data['name']} has missing values; decisions need whole paths: fill them first")
    return replace(loaded, df=_choose_series(loaded.df, data))


def _choose_series(frame: pd.DataFrame, data: dict[str, Any]) -> pd.DataFrame:
    """Keeps the series with `min_length` steps, and of those `series`, evenly spaced in their order."""
    sizes = frame.groupby(ID, sort=False).size()
    names = sizes.index[sizes >= int(data.get("min_length", 0))]
    wanted = int(data.get("series", len(names)))
    if not 0 < wanted <= len(names):
        raise ValueError(f"data: {wanted} series are asked for, {len(names)} have min_length; lower one of them")
    chosen = names[np.linspace(0, len(names) - 1, wanted).round().astype(int)]
    return frame[frame[ID].isin(chosen)].reset_index(drop=True)


def _count_units(
    rolled: pd.DataFrame, frame: pd.DataFrame, data: dict[str, Any], problem: DecisionProblem
) -> pd.DataFrame:
    """Counts each window in units of which `data["units"]` are the mean of the last steps before its cutoff.

    Series of different size then fit one problem. Nothing is changed where `units` is not given.

    Raises:
        ValueError: If the mean of some window is not above 0, or there are fewer steps before it.
    """
    if "units" not in data:
        return rolled
    over = int(data.get("units_over", data["h"]))
    means = frame.assign(mean=frame.groupby(ID, sort=False)[TARGET].transform(lambda y: y.rolling(over).mean()))
    keys = means.rename(columns={TIME: CUTOFF})[[ID, CUTOFF, "mean"]]
    merged = rolled.merge(keys, on=[ID, CUTOFF], how="left", validate="many_to_one")
    bad = ~(merged["mean"] > 0)
    if bad.any():
        raise ValueError(
            f"{problem.name}: series {merged[ID][bad].iloc[0]!r} has no mean above 0 over {over} steps before the "
            f"window after {merged[CUTOFF][bad].iloc[0]}; leave it out, raise min_length or change units_over"
        )
    lot = merged.pop("mean") / float(data["units"])
    return merged.assign(forecast=merged["forecast"] / lot, **{TARGET: merged[TARGET] / lot})


def _forecast(config: DecideConfig, data: dict[str, Any], loaded: LoadedData, folder: Path, say: Say) -> pd.DataFrame:
    """Returns rolling forecasts of all windows: `unique_id, cutoff, ds, forecast, y`, kept in the folder."""
    state = json.dumps([config.forecaster, data, len(loaded.df)], sort_keys=True)
    file = folder / f"forecasts-{hashlib.sha256(state.encode()).hexdigest()[:12]}.parquet"
    if not file.is_file():
        rolled = _roll(config, data, loaded, say)
        part = file.with_suffix(f".{os.getpid()}.part")  # two runs may share the folder
        rolled.to_parquet(part)
        part.replace(file)
    return pd.read_parquet(file)


def _roll(config: DecideConfig, data: dict[str, Any], loaded: LoadedData, say: Say) -> pd.DataFrame:
    frame = loaded.df
    h, step = int(data["h"]), int(data.get("step_size", data["h"]))
    total = int(data["train"]) + int(data["validation"]) + int(data["test"])
    refit = int(config.forecaster.get("refit", total))
    parts, started = [], time.perf_counter()
    for first in range(0, total, refit):
        count = min(refit, total - first)
        before = h + (total - 1 - first) * step  # steps from the block's first cutoff to the end
        after = (total - first - count) * step
        past = frame.groupby(ID, sort=False).head(-before).reset_index(drop=True)
        block = frame.groupby(ID, sort=False).head(-after).reset_index(drop=True) if after else frame
        forecaster = _build_forecaster(config, data, loaded)
        forecaster.fit(past, h)
        rolled = forecaster.predict_rolling(block, h, count, step)
        parts.append(rolled.rename(columns={forecaster.alias: "forecast"})[[ID, CUTOFF, TIME, "forecast"]])
    say(f"  forecast {total} windows in {time.perf_counter() - started:.0f} s, fitted every {refit} windows")
    merged = pd.concat(parts).merge(frame[[ID, TIME, TARGET]], on=[ID, TIME], how="left")
    order = {name: k for k, name in enumerate(frame[ID].unique())}
    merged["order"] = merged[ID].map(order)
    return merged.sort_values(["order", CUTOFF, TIME], kind="stable", ignore_index=True).drop(columns="order")


def _build_forecaster(config: DecideConfig, data: dict[str, Any], loaded: LoadedData) -> Any:
    options = {k: v for k, v in config.forecaster.items() if k not in ("refit", "model", "training")}
    name, h = str(config.forecaster.get("model", STEP_REGRESSION)), int(data["h"])
    known, past = tuple(data.get("covariates", ())), tuple(data.get("past_covariates", ()))
    task = build_task(loaded, Asked(h=h, covariates=known, past_covariates=past))
    return build_forecaster(ModelSpec(name, options=options, training=config.forecaster.get("training", {})), task)


def permute(paths: Tensor, generator: torch.Generator) -> Tensor:
    """Permutes each step's samples on their own: the marginals stay exactly, the dependence goes. [S, H]."""
    order = torch.rand(paths.shape, generator=generator).argsort(0)
    return paths.gather(0, order)


def _calibration_error(chance: np.ndarray, event: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error: |mean chance - share of events| by ten equal bins, weighted by their size."""
    which = np.minimum((chance * bins).astype(int), bins - 1)
    return float(
        sum(abs(chance[which == b].mean() - event[which == b].mean()) * (which == b).mean() for b in np.unique(which))
    )


def compare_calibration(
    first: np.ndarray, second: np.ndarray, event: np.ndarray, when: np.ndarray, block: int = 7, draws: int = 1999
) -> float:
    """Tests whether two forecasts of an event are equally calibrated: a permutation test over blocks of cutoffs.

    If they were, it would not matter which of the two made the forecasts of a block.

    Args:
        first: Probabilities [N].
        second: Probabilities [N] of the other forecast.
        event: Whether it happened, 0 or 1, [N].
        when: Number of each row's cutoff, from 0, [N].
        block: Cutoffs that are swapped together, for the dependence of days.
        draws: Random swaps; the least p is 1 / (draws + 1).

    Returns:
        p of the two-sided test.
    """
    rng = np.random.default_rng(0)
    blocks = when // block
    observed = abs(_calibration_error(first, event) - _calibration_error(second, event))
    as_large = 1
    for _ in range(draws):
        swap = (rng.random(int(blocks.max()) + 1) < 0.5)[blocks]
        gap = _calibration_error(np.where(swap, second, first), event)
        gap -= _calibration_error(np.where(swap, first, second), event)
        as_large += abs(gap) >= observed - 1e-12
    return as_large / (draws + 1)


def check_keys(what: str, given: dict[str, Any], known: set[str], needed: set[str]) -> None:
    """Refuses keys that are unknown or missing."""
    wrong, missing = sorted(set(given) - known), sorted(needed - set(given))
    if wrong:
        raise ValueError(f"{what}: unknown key {wrong[0]!r}; known: {', '.join(sorted(known))}")
    if missing:
        raise ValueError(f"{what}: {', '.join(missing)} missing")
