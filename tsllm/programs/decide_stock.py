"""The benches of `tsllm decide` for the inventory problem, where policies may order stage by stage."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tsllm.decisions import DemandChain, Inventory, solve_dynamic
from tsllm.decisions.inventory import base_stock, fit_base_stock, replan
from tsllm.policies.recourse import (
    RecourseTraining,
    draw_from_chain,
    draw_from_paths,
    order_with,
    read_progress,
    train_orders,
)
from tsllm.programs.decide_bench import LEVELS, SeriesBench, check_keys, permute
from tsllm.programs.decide_check import build_settings, read_levels, solve_hindsight
from tsllm.programs.decide_config import Bench, DecideConfig, Outcome, PolicySpec
from tsllm.types import CUTOFF, ID

DEMAND_KEYS = {"transition", "means", "start", "stages", "paths", "test", "largest"}


class StockBench(SeriesBench):
    """Windows of real series that are demand; adds policies with recourse, which see demand come true."""

    problem: Inventory

    def run(self, spec: PolicySpec, seed: int) -> Outcome:
        """Chooses or trains on training and validation windows; a policy with recourse orders stage by stage."""
        if spec.kind not in ("base_stock", "orders", "replan"):
            return super().run(spec, seed)
        started = time.perf_counter()
        act, notes = {"base_stock": self._stock_up, "orders": self._train, "replan": self._replan}[spec.kind](
            spec, seed
        )
        training = time.perf_counter() - started
        started = time.process_time()
        orders = act()
        seconds = time.process_time() - started
        return Outcome(self.problem.cost(orders, self.truth["test"]).numpy(), seconds, training, notes)

    def _stock_up(self, spec: PolicySpec, seed: int) -> tuple[Callable[[], Tensor], dict[str, Any]]:
        outcomes = self.outcomes(True, seed).flatten(0, 1)
        generator = torch.Generator().manual_seed(seed)
        chosen = outcomes[torch.randperm(len(outcomes), generator=generator)[:1000]]
        low, top = fit_base_stock(self.problem, chosen)
        return lambda: self.problem.run(base_stock(low, top), self.truth["test"]), {"s": low, "S": top}

    def _train(self, spec: PolicySpec, seed: int) -> tuple[Callable[[], Tensor], dict[str, Any]]:
        settings = build_settings(RecourseTraining, dict(spec.options), spec.label)
        problem, ahead = self.problem, min(self.problem.lead_time + 2, self.h)
        level = float(self.truth["train"].mean())
        spread = {part: self._spread_of(part) for part in ("train", "validation", "test")}
        draw = draw_from_paths(self.forecast["train"], self.outcomes(True, seed), spread["train"], ahead, level)

        def known(part: str) -> tuple[Tensor, Tensor]:
            truth = self.truth[part]
            return truth, read_progress(self.forecast[part], truth, spread[part], ahead, level)

        policy, log = train_orders(problem, draw, self.h, settings, seed, known("validation"))
        return lambda: order_with(policy, problem, *known("test")), {"log": log}

    def _replan(self, spec: PolicySpec, seed: int) -> tuple[Callable[[], Tensor], dict[str, Any]]:
        paths = self.problem.discretise(self.paths("test", seed))
        rows = zip(self.truth["test"], paths, strict=True)
        return lambda: torch.stack([replan(self.problem, drawn, truth) for truth, drawn in rows]), {}

    def _spread_of(self, part: str) -> Tensor:
        """Returns the size of earlier errors of each window's series [N]."""
        size = self.spread(("train",) if part != "test" else ("train", "validation"))
        return torch.tensor([size[int(k)] for k in np.concatenate(self.series[part])], dtype=torch.float64)


class DemandBench(Bench):
    """Simulated demand of a Markov chain, whose optimum dynamic programming gives."""

    def __init__(self, config: DecideConfig, problem: Inventory) -> None:
        demand = dict(config.demand or {})
        check_keys("demand", demand, DEMAND_KEYS, {"transition", "means", "start", "stages"})
        self.problem, self.unit, self.stages = problem, problem.unit, int(demand["stages"])
        largest = int(demand.get("largest", 3 * max(demand["means"])))
        self.chain = DemandChain(
            torch.tensor(demand["transition"], dtype=torch.float64),
            torch.stack([_poisson(float(mean), largest) for mean in demand["means"]]),
            torch.tensor(demand["start"], dtype=torch.float64),
        )
        self.n_samples, self.count = config.n_samples, int(demand.get("paths", 300))
        self.path, self.regimes = self._sample(int(demand.get("test", 2000)), 10**6)
        self.hindsight = solve_hindsight(problem, self.path)
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
            settings = build_settings(RecourseTraining, dict(spec.options), spec.label)
            policy, log = train_orders(problem, draw_from_chain(chain, self.stages), self.stages, settings, seed)
            known = torch.nn.functional.one_hot(self.regimes, len(chain.start))
            return lambda: order_with(policy, problem, self.path, known), {"log": log}
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
            plans, notes = self._best_level(groups, read_levels(spec.options, LEVELS), seed)
        elif spec.kind == "saa":
            plans, notes = [problem.solve(g[: self.n_samples]) for g in groups], {}
        elif spec.kind == "independent":
            generator = torch.Generator().manual_seed(seed)
            plans, notes = [problem.solve(permute(g[: self.n_samples], generator)) for g in groups], {}
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


def _poisson(mean: float, largest: int) -> Tensor:
    count = torch.arange(largest + 1, dtype=torch.float64)
    chances = (count * np.log(mean) - mean - torch.lgamma(count + 1)).exp()
    return chances / chances.sum()
