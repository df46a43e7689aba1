"""The benches of `tsllm decide`: real series with rolling forecasts and joint paths, and simulated demand."""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tsllm import metrics
from tsllm.data.sources import LoadedData, load_frame
from tsllm.data.task import Asked, build_task
from tsllm.decisions import AnyHourAlarm, DecisionProblem, DemandChain, Inventory, build_problem, solve_dynamic
from tsllm.decisions.inventory import base_stock, fit_base_stock
from tsllm.decisions.learned import Training, Windows, decide, train_policy
from tsllm.decisions.recourse import RecourseTraining, order_with, train_orders
from tsllm.forecasting.paths import draw_paths, weigh_similar
from tsllm.forecasting.regression import StepRegression
from tsllm.forecasting.roster import ModelSpec, build_forecaster
from tsllm.paired import diebold_mariano
from tsllm.programs.decide import Bench, DecideConfig, Outcome, PolicySpec, Say
from tsllm.types import CUTOFF, ID, TARGET, TIME

LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
TABLE_KEYS = ("id_col", "time_col", "target_col", "day_first")
DATA_KEYS = {"name", "h", "step_size", "train", "validation", "test", "covariates", "past_covariates", "data_path"}
DATA_KEYS |= set(TABLE_KEYS)
DEMAND_KEYS = {"transition", "means", "start", "stages", "paths", "test", "largest"}


def build_bench(config: DecideConfig, folder: Path, say: Say) -> Bench:
    """Builds the bench of a configuration; forecasts are kept in the folder."""
    options = dict(config.problem)
    problem = build_problem(options.pop("name"), options)
    if config.data is not None:
        return SeriesBench(config, problem, folder, say)
    if not isinstance(problem, Inventory):
        raise ValueError(f"demand is for the inventory problem; {problem.name} needs data")
    return DemandBench(config, problem)


class SeriesBench(Bench):
    """Windows of real series; forecasts out of sample throughout, paths from errors before the part that is decided.

    The errors behind the paths of validation windows are those of the training windows; those behind the paths of test
    windows are of training and validation windows. Nothing is chosen on the test part.
    """

    def __init__(self, config: DecideConfig, problem: DecisionProblem, folder: Path, say: Say) -> None:
        self.config, self.problem, self.unit = config, problem, problem.unit
        data = dict(config.data or {})
        _check_keys("data", data, DATA_KEYS, {"name", "h", "train", "validation", "test"})
        self.h = int(data["h"])
        rolled = _forecast(config, data, _read(data), folder, say)
        self.counts = (int(data["train"]), int(data["validation"]), int(data["test"]))
        self.forecast, self.truth, keys = self._split(rolled)
        self.windows = keys
        test = self.truth["test"]
        self.hindsight = problem.hindsight(test)[1].numpy()
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
            for point, number in zip(self.forecast[which].numpy(), np.concatenate(self.series[which]), strict=True):
                own = owner == number
                weights = None if width is None else weigh_similar(point, earlier[own], errors[own], width)
                drawn.append(
                    draw_paths(point, errors[own], self.config.n_samples, rng, method=method, weights=weights)
                )
            self._drawn[which, seed] = torch.as_tensor(np.stack(drawn))
        return self._drawn[which, seed]

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
            return lambda _, paths: problem.solve(_permute(paths, generator)), {}
        if spec.kind == "quantile":
            level, costs = self._choose_level(seed, spec.options.get("levels", LEVELS))
            return lambda _, paths: problem.plan(torch.quantile(paths, level, dim=0)), {
                "level": level,
                "validation": costs,
            }
        if spec.kind == "learned":
            return self._learn(spec, seed)
        raise ValueError(f"policy {spec.kind!r} needs simulated demand; leave it out or give demand instead of data")

    def _choose_level(self, seed: int, levels: Any) -> tuple[float, dict[str, float]]:
        paths, costs = self.paths("validation", seed), {}
        for level in levels:
            actions = self.problem.plan(torch.quantile(paths, float(level), dim=1))
            costs[str(level)] = float(self.problem.cost(actions, self.truth["validation"]).mean())
        best = min(costs, key=costs.__getitem__)
        return float(best), costs

    def _learn(self, spec: PolicySpec, seed: int) -> tuple[Callable[[Tensor, Tensor], Tensor], dict[str, Any]]:
        options = dict(spec.options)
        simulated = bool(options.pop("simulated", False))
        settings = _build(Training, options, spec.label)
        spread = (self.truth["train"] - self.forecast["train"]).std(0)
        truths = self.truth["train"][:, None]
        if simulated:
            truths = torch.cat([truths, self.paths("train", seed)], 1)
        train = Windows(self.forecast["train"], truths, spread)
        validation = Windows(self.forecast["validation"], self.truth["validation"][:, None], spread)
        policy, log = train_policy(self.problem, train, validation, settings, seed)
        return lambda forecast, _: decide(policy, self.problem, forecast[None])[0], {"log": log}

    def score(self, seed: int) -> dict[str, Any]:
        """Scores the point forecast, the joint paths, and the same paths with their steps permuted."""
        truth, paths = self.truth["test"], self.paths("test", seed)
        generator = torch.Generator().manual_seed(seed)
        independent = torch.stack([_permute(p, generator) for p in paths])
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
        return scores


class DemandBench(Bench):
    """Simulated demand of a Markov chain, whose optimum dynamic programming gives."""

    def __init__(self, config: DecideConfig, problem: Inventory) -> None:
        demand = dict(config.demand or {})
        _check_keys("demand", demand, DEMAND_KEYS, {"transition", "means", "start", "stages"})
        self.problem, self.unit, self.stages = problem, problem.unit, int(demand["stages"])
        largest = int(demand.get("largest", 3 * max(demand["means"])))
        self.chain = DemandChain(
            torch.tensor(demand["transition"], dtype=torch.float64),
            torch.stack([_poisson(float(mean), largest) for mean in demand["means"]]),
            torch.tensor(demand["start"], dtype=torch.float64),
        )
        self.n_samples, self.count = config.n_samples, int(demand.get("paths", 300))
        self.path, self.regimes = self._sample(int(demand.get("test", 2000)), 10**6)
        self.hindsight = problem.hindsight(self.path)[1].numpy()
        self.idle = problem.cost(problem.idle(self.stages).expand(len(self.path), -1), self.path).numpy()
        self.windows = pd.DataFrame({ID: "demand", CUTOFF: np.arange(len(self.path))})

    def run(self, spec: PolicySpec, seed: int) -> Outcome:
        """Chooses or trains on simulated demand of this seed, decides the test paths and settles them."""
        started = time.perf_counter()
        act, notes = self._prepare(spec, seed)
        training = time.perf_counter() - started
        started = time.process_time()
        orders = act()
        seconds = time.process_time() - started
        return Outcome(self.problem.cost(orders, self.path).numpy(), seconds, training, notes)

    def _prepare(self, spec: PolicySpec, seed: int) -> tuple[Callable[[], Tensor], dict[str, Any]]:
        problem, chain = self.problem, self.chain
        if spec.kind == "idle":
            return lambda: problem.idle(self.stages).expand(len(self.path), -1), {}
        if spec.kind == "dynamic":
            optimum = solve_dynamic(problem, chain, self.stages)
            notes = {"expected cost": optimum.cost}
            return lambda: problem.run(lambda s: optimum.decide(s, self.regimes[:, s.stage]), self.path), notes
        if spec.kind == "orders":
            settings = _build(RecourseTraining, dict(spec.options), spec.label)
            policy, log = train_orders(problem, chain, self.stages, settings, seed)
            return lambda: order_with(policy, problem, self.path, self.regimes), {"log": log}
        paths, regimes = self._sample(self.count, seed)
        if spec.kind == "base_stock":
            low, top = fit_base_stock(problem, paths)
            return lambda: problem.run(base_stock(low, top), self.path), {"s": low, "S": top}
        groups = [paths[regimes[:, 0] == k] for k in range(len(chain.start))]
        if any(len(g) == 0 for g in groups):
            raise ValueError(f"none of {self.count} simulated paths begins in some regime; raise demand.paths")
        if spec.kind == "mean":
            plans, notes = [problem.plan(g.mean(0)) for g in groups], {}
        elif spec.kind == "quantile":
            plans, notes = self._best_level(groups, spec.options.get("levels", LEVELS), seed)
        elif spec.kind == "saa":
            plans, notes = [problem.solve(g[: self.n_samples]) for g in groups], {}
        elif spec.kind == "independent":
            generator = torch.Generator().manual_seed(seed)
            plans, notes = [problem.solve(_permute(g[: self.n_samples], generator)) for g in groups], {}
        else:
            raise ValueError(f"policy {spec.kind!r} needs data; leave it out or give data instead of demand")
        table = torch.stack(plans)
        return lambda: table[self.regimes[:, 0]], {**notes, "plans": table.tolist()}

    def _best_level(self, groups: list[Tensor], levels: Any, seed: int) -> tuple[list[Tensor], dict[str, Any]]:
        held, first = self._sample(1000, seed + 10**5)
        costs = {}
        for level in levels:
            plans = torch.stack([self.problem.plan(torch.quantile(g, float(level), dim=0)) for g in groups])
            costs[float(level)] = float(self.problem.cost(plans[first[:, 0]], held).mean())
        best = min(costs, key=costs.__getitem__)
        return [self.problem.plan(torch.quantile(g, best, dim=0)) for g in groups], {"level": best}

    def _sample(self, count: int, seed: int) -> tuple[Tensor, Tensor]:
        return self.chain.sample(count, self.stages, torch.Generator().manual_seed(seed))


def _read(data: dict[str, Any]) -> LoadedData:
    columns = [*data.get("covariates", ()), *data.get("past_covariates", ())]
    table = {name: data[name] for name in TABLE_KEYS if name in data}
    loaded = load_frame(str(data["name"]), covariates=columns, data_path=data.get("data_path"), **table)
    if loaded.df[TARGET].isna().any():
        raise ValueError(f"{data['name']} has missing values; decisions need whole paths: fill them first")
    return loaded


def _forecast(config: DecideConfig, data: dict[str, Any], loaded: LoadedData, folder: Path, say: Say) -> pd.DataFrame:
    """Returns rolling forecasts of all windows: `unique_id, cutoff, ds, forecast, y`, kept in the folder."""
    state = json.dumps([config.forecaster, data, len(loaded.df)], sort_keys=True)
    file = folder / f"forecasts-{hashlib.sha256(state.encode()).hexdigest()[:12]}.parquet"
    if not file.is_file():
        rolled = _roll(config, data, loaded, say)
        part = file.with_suffix(".part")
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
    name, h = str(config.forecaster.get("model", "StepRegression")), int(data["h"])
    known, past = tuple(data.get("covariates", ())), tuple(data.get("past_covariates", ()))
    if name == "StepRegression":
        return StepRegression(h, **{"period": h, "covariates": known, "past_covariates": past, **options})
    task = build_task(loaded, Asked(h=h, covariates=known, past_covariates=past))
    return build_forecaster(ModelSpec(name, options=options, training=config.forecaster.get("training", {})), task)


def _permute(paths: Tensor, generator: torch.Generator) -> Tensor:
    """Permutes each step's samples on their own: the marginals stay exactly, the dependence goes. [S, H]."""
    order = torch.rand(paths.shape, generator=generator).argsort(0)
    return paths.gather(0, order)


def _calibration_error(chance: np.ndarray, event: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error: |mean chance - share of events| by ten equal bins, weighted by their size."""
    which = np.minimum((chance * bins).astype(int), bins - 1)
    return float(
        sum(abs(chance[which == b].mean() - event[which == b].mean()) * (which == b).mean() for b in np.unique(which))
    )


def _poisson(mean: float, largest: int) -> Tensor:
    count = torch.arange(largest + 1, dtype=torch.float64)
    chances = (count * np.log(mean) - mean - torch.lgamma(count + 1)).exp()
    return chances / chances.sum()


def _build(settings: type[Any], options: dict[str, Any], label: str) -> Any:
    known = [f.name for f in fields(settings)]
    wrong = sorted(set(options) - set(known))
    if wrong:
        raise ValueError(f"{label}: unknown option {wrong[0]!r}; known: {', '.join(known)}")
    return settings(**options)


def _check_keys(what: str, given: dict[str, Any], known: set[str], needed: set[str]) -> None:
    wrong, missing = sorted(set(given) - known), sorted(needed - set(given))
    if wrong:
        raise ValueError(f"{what}: unknown key {wrong[0]!r}; known: {', '.join(sorted(known))}")
    if missing:
        raise ValueError(f"{what}: {', '.join(missing)} missing")
