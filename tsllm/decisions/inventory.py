"""Base stock with lead time, lost sales and order cost over several stages, with recourse."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tsllm.decisions.base import DecisionProblem, check_amounts, normalise_weights


@dataclass(frozen=True)
class Stock:
    """What is known when an order is placed.

    Attributes:
        stage: From 0.
        stages: How many there are.
        on_hand: Units in stock after today's arrival, [...].
        pipeline: Orders on the way, oldest first, [..., max(lead_time - 1, 0)].
        seen: Demand of the stages before, [..., stage].
    """

    stage: int
    stages: int
    on_hand: Tensor
    pipeline: Tensor
    seen: Tensor

    def position(self) -> Tensor:
        """Returns the units on hand and on the way, [...]."""
        return self.on_hand + self.pipeline.sum(-1)


Decide = Callable[[Stock], Tensor]  # orders [...], whole units


class Inventory(DecisionProblem):
    """Order whole units at each stage; what is demanded and not there is lost.

    In a stage: the order of `lead_time` stages ago arrives (with lead time 0 the one just placed); an order is placed;
    demand takes what is there. Costs: `order_cost` for each order, `unit_cost` a unit ordered, `holding` for each unit
    left, `shortage` for each unit of demand that was lost. The store holds `capacity` units; what does not fit when it
    arrives is paid for and lost. An action is the row of orders [H]; a policy with recourse (`run`) makes it while
    demand comes true, and is settled by the same `cost`.

    >>> import torch
    >>> problem = Inventory(lead_time=1, holding=1.0, shortage=9.0, order_cost=2.0, capacity=10, start=3)
    >>> demand = torch.tensor([2.0, 4.0, 1.0], dtype=torch.float64)
    >>> problem.cost(torch.tensor([3.0, 0.0, 0.0], dtype=torch.float64), demand).item()  # 2 + 1 + 0 + 9
    12.0
    >>> orders, cost = problem.hindsight(demand)  # 4 units at once: the last waits a stage, cheaper than 2
    >>> orders.tolist(), cost.item()
    ([4.0, 0.0, 0.0], 4.0)

    Args:
        lead_time: Stages from order to arrival.
        holding: Cost of a unit left at the end of a stage.
        shortage: Cost of a unit of lost demand.
        order_cost: Cost of an order of any size; 0 for none.
        unit_cost: Cost of a unit ordered; 0 for none.
        capacity: Units that the store holds, and the largest order.
        start: Units on hand before the first stage.
        unit: Unit of the costs.
    """

    name = "inventory"

    def __init__(
        self,
        lead_time: int = 0,
        holding: float = 1.0,
        shortage: float = 9.0,
        order_cost: float = 0.0,
        unit_cost: float = 0.0,
        capacity: int = 50,
        start: int = 0,
        unit: str = "cost",
    ) -> None:
        check_amounts(self.name, holding=holding, shortage=shortage, capacity=capacity)
        for name, value in (("lead_time", lead_time), ("capacity", capacity), ("start", start)):
            if not isinstance(value, int) or value < 0:
                raise ValueError(f"inventory: {name} is {value!r}; it must be a whole number of at least 0")
        if min(order_cost, unit_cost) < 0 or start > capacity:
            raise ValueError("inventory: order_cost and unit_cost must be at least 0 and start at most the capacity")
        self.lead_time, self.holding, self.shortage, self.unit = lead_time, holding, shortage, unit
        self.order_cost, self.unit_cost, self.capacity, self.start = order_cost, unit_cost, capacity, start

    def is_feasible(self, action: Tensor) -> Tensor:
        """Tells which orders [..., H] are whole numbers from 0 to `capacity`."""
        return ((action >= 0) & (action <= self.capacity) & (action == action.round())).all(-1)

    def _cost(self, action: Tensor, path: Tensor) -> Tensor:
        return self.stage_costs(action, path).sum(-1)

    def stage_costs(self, action: Tensor, path: Tensor) -> Tensor:
        """Computes the cost of each stage, [..., H]: of the order placed in it, of what is left and what is lost.

        Raises:
            ValueError: If demand is negative.
        """
        if (path < 0).any():
            raise ValueError("inventory: demand must be at least 0")
        stock = torch.full_like(action[..., 0] + path[..., 0], float(self.start))
        costs = []
        for stage in range(path.shape[-1]):
            order = action[..., stage]
            if stage >= self.lead_time:
                stock = (stock + action[..., stage - self.lead_time]).clamp(max=self.capacity)
            after = stock - path[..., stage]
            stock = after.clamp(min=0)
            paid = self.order_cost * (order > 0) + self.unit_cost * order
            costs.append(paid + self.holding * stock + self.shortage * (-after).clamp(min=0))
        return torch.stack(costs, -1)

    def discretise(self, path: Tensor) -> Tensor:
        """Returns demand rounded to whole units, and none where it is negative."""
        return path.round().clamp(min=0)

    def plan(self, path: Tensor) -> Tensor:
        """Plans for a forecast as if certain, in whole units."""
        return self.hindsight(self.discretise(path))[0]

    def hindsight(self, path: Tensor) -> tuple[Tensor, Tensor]:
        """Solves the dynamic programme over the stock for each known demand [..., H]; ties order less.

        Raises:
            ValueError: If demand is not in whole units of at least 0.
        """
        self._check_path(path)
        if (path < 0).any() or (path != path.round()).any():
            raise ValueError(
                "inventory: hindsight needs demand in whole units of at least 0; scale and round it first"
            )
        level = torch.arange(self.capacity + 1, dtype=path.dtype, device=path.device)
        value = torch.zeros(*path.shape[:-1], self.capacity + 1, dtype=path.dtype, device=path.device)
        targets = []
        for stage in reversed(range(path.shape[-1])):
            after = level - path[..., stage, None]  # [..., J], J units before demand
            left = after.clamp(min=0)
            value = value.gather(-1, left.long()) + self.holding * left + self.shortage * (after.clamp(max=0).abs())
            keep = level.long().expand(value.shape)
            if stage >= self.lead_time:
                value, keep = self._raise_stock(value, level, keep)
            targets.append(keep)
        stock = torch.full((*path.shape[:-1], 1), self.start, dtype=torch.long, device=path.device)
        best, arrivals = value.gather(-1, stock)[..., 0], []
        for stage, target in enumerate(reversed(targets)):
            raised = target.gather(-1, stock)
            arrivals.append(raised - stock)
            stock = (raised - path[..., stage, None].long()).clamp(min=0)
        arrived = torch.cat(arrivals, -1).to(path.dtype)  # [..., H]
        lead = min(self.lead_time, path.shape[-1])
        return torch.cat([arrived[..., lead:], torch.zeros_like(arrived[..., :lead])], -1), best

    def _raise_stock(self, value: Tensor, level: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the best value [..., I] and the stock that I is raised to, given the value [..., J] on hand."""
        paid = (value + self.unit_cost * level).flip(-1)
        low, where = paid.cummin(-1)
        low, where = low.flip(-1), self.capacity - where.flip(-1)  # best over J' >= J
        raised = torch.cat([low[..., 1:], torch.full_like(low[..., :1], torch.inf)], -1)
        raised = raised + self.order_cost - self.unit_cost * level
        to = torch.cat([where[..., 1:], where[..., -1:]], -1)
        better = raised < value
        return torch.where(better, raised, value), torch.where(better, to, keep)

    def solve(self, paths: Tensor, weights: Tensor | None = None) -> Tensor:
        """Finds orders [H] that are cheap on average over paths: one stage, no recourse.

        Starts from the plans of the mean and of every path, then changes one order, or moves an order between two
        stages, as long as that helps. The result is a local optimum (checked against enumeration in the tests).
        """
        chances = normalise_weights(paths, weights)
        demand = paths.clamp(min=0)
        mean = (chances[:, None] * demand).sum(0, keepdim=True)
        quantiles = torch.quantile(demand, torch.tensor([0.6, 0.75, 0.9], dtype=demand.dtype), dim=0)
        starts = self.plan(torch.cat([mean, quantiles, demand[:20]]))
        costs = self._average(starts, demand, chances)
        return self.improve(starts[costs.argmin()], demand, chances)

    def improve(self, orders: Tensor, paths: Tensor, weights: Tensor | None = None, first: int = 0) -> Tensor:
        """Changes one order, or moves one between two stages, as long as that lowers the average cost over paths.

        Args:
            orders: To begin with [H].
            paths: Demand [S, H].
            weights: Probabilities of the paths [S]; None = equal.
            first: Stage from which on orders may change; those before have been placed.

        Returns:
            Orders [H].
        """
        chances, best = normalise_weights(paths, weights), orders
        lowest = self._average(best[None], paths, chances)[0]
        while True:
            moves = self._neighbours(best, first)
            costs = self._average(moves, paths, chances)
            if costs.min() >= lowest - 1e-9 * lowest.abs():
                return best
            best, lowest = moves[costs.argmin()], costs.min()

    def _average(self, actions: Tensor, paths: Tensor, chances: Tensor) -> Tensor:
        return torch.cat([(self.cost(part[:, None], paths) * chances).sum(-1) for part in actions.split(256)])

    def _neighbours(self, orders: Tensor, first: int) -> Tensor:
        """Returns all orders that differ in one stage, or in which a part of one stage's order is moved to another.

        Stages before `first` are left alone.
        """
        horizon, sizes = len(orders), torch.arange(self.capacity + 1, dtype=orders.dtype)
        single = orders.repeat(horizon, len(sizes), 1)  # [H, C + 1, H]
        for stage in range(horizon):
            single[stage, :, stage] = sizes
        moved = []
        for source in torch.nonzero(orders[first:])[:, 0].tolist():
            for amount in {1.0, float(orders[first + source])}:
                shift = orders.repeat(horizon, 1)
                shift[:, first + source] -= amount
                shift[torch.arange(horizon), torch.arange(horizon)] += amount
                moved.append(shift[first:])
        return torch.cat([single[first:].reshape(-1, horizon), *moved]).clamp(max=self.capacity)

    def run(self, decide: Decide, path: Tensor) -> Tensor:
        """Lets a policy with recourse order while demand comes true; it never sees the stages to come.

        Args:
            decide: `Stock -> orders [...]`, whole units from 0 to `capacity`.
            path: Demand [..., H].

        Returns:
            Orders [..., H], an action like any other.
        """
        stock = torch.full_like(path[..., 0], float(self.start))
        ahead = torch.zeros(*path.shape[:-1], max(self.lead_time - 1, 0), dtype=path.dtype)
        orders = []
        for stage in range(path.shape[-1]):
            order = decide(Stock(stage, path.shape[-1], stock, ahead, path[..., :stage])).to(path.dtype)
            orders.append(order)
            stock, ahead = self.step(stock, ahead, order, path[..., stage])
        return torch.stack(orders, -1)

    def step(self, on_hand: Tensor, pipeline: Tensor, order: Tensor, demand: Tensor) -> tuple[Tensor, Tensor]:
        """Moves on to the next stage after its arrival: new units on hand and the new pipeline."""
        if self.lead_time == 0:
            return ((on_hand + order).clamp(max=self.capacity) - demand).clamp(min=0), pipeline
        left = (on_hand - demand).clamp(min=0)
        queue = torch.cat([pipeline, order[..., None]], -1)
        return (left + queue[..., 0]).clamp(max=self.capacity), queue[..., 1:]


@dataclass(frozen=True)
class DemandChain:
    """Demand that follows an observed regime: a Markov chain, so that the optimum can be computed.

    Attributes:
        transition: P(next regime | regime), [Z, Z].
        chances: P(demand | regime) for 0, 1, ..., [Z, D].
        start: P(first regime), [Z].
    """

    transition: Tensor
    chances: Tensor
    start: Tensor

    def __post_init__(self) -> None:
        for name, table in (("transition", self.transition), ("chances", self.chances), ("start", self.start)):
            if (table < 0).any() or not torch.allclose(table.sum(-1), torch.ones_like(table.sum(-1))):
                raise ValueError(f"DemandChain: {name} must hold probabilities that sum to 1 along its last axis")

    def sample(self, count: int, stages: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draws paths of demand and of the regimes behind them, both [count, stages]."""
        regime = torch.multinomial(self.start, count, replacement=True, generator=generator)
        demand, regimes = [], []
        for _ in range(stages):
            regimes.append(regime)
            demand.append(torch.multinomial(self.chances[regime], 1, generator=generator)[:, 0])
            regime = torch.multinomial(self.transition[regime], 1, generator=generator)[:, 0]
        return torch.stack(demand, -1).double(), torch.stack(regimes, -1)


@dataclass(frozen=True)
class DynamicOptimum:
    """The best policy for a demand chain.

    Attributes:
        cost: Its expected cost.
        orders: Stage -> order for [regime, on hand, pipeline ...].
    """

    cost: float
    orders: list[Tensor]

    def decide(self, stock: Stock, regime: Tensor) -> Tensor:
        """Returns the best orders [...] for what is known and the regime of this stage [...]."""
        index = (regime, stock.on_hand.long(), *stock.pipeline.long().unbind(-1))
        return self.orders[stock.stage][index]


def solve_dynamic(problem: Inventory, chain: DemandChain, stages: int) -> DynamicOptimum:
    """Computes the best policy with recourse by backward induction over regime, stock and pipeline; exact.

    The regime of a stage is known before its order is placed, its demand is not.

    Args:
        problem: Its lead time decides the size: (capacity + 1)^max(lead_time, 1) states for each regime.
        chain: Demand.
        stages: How many.
    """
    size, lead = problem.capacity + 1, problem.lead_time
    level = torch.arange(size, dtype=torch.float64)
    demand = torch.arange(chain.chances.shape[1], dtype=torch.float64)
    after = level[:, None] - demand  # [J, D]
    stage_cost = problem.holding * after.clamp(min=0) + problem.shortage * (-after).clamp(min=0)
    expected = chain.chances @ stage_cost.T  # [Z, J]
    moves = torch.zeros(len(chain.start), size, size, dtype=torch.float64)  # [Z, J, left]
    left = after.clamp(min=0).long()
    for regime, chances in enumerate(chain.chances):
        moves[regime].scatter_add_(1, left, chances.expand(size, -1))
    fits = (level[:, None] + level).clamp(max=problem.capacity).long()  # [units, arriving]
    paid = problem.order_cost * (level > 0) + problem.unit_cost * level  # [order]
    value = torch.zeros(len(chain.start), size, *[size] * max(lead - 1, 0), dtype=torch.float64)
    orders = []
    for _ in range(stages):
        ahead = torch.einsum("yz,z...->y...", chain.transition, value)
        if lead == 0:
            total = expected + torch.einsum("zjk,zk->zj", moves, ahead)
            options = total[:, fits] + paid  # [Z, I, order]
        else:
            ahead = ahead[:, fits]  # [Z, left, oldest, ...]: the last of these axes is the order placed now
            options = torch.einsum("zjk,zk...->zj...", moves, ahead)
            options = options + expected.reshape(*expected.shape, *[1] * lead) + paid
        value, choice = options.min(-1)
        orders.append(choice)
    at_start = value[:, problem.start].reshape(len(value), -1)[:, 0]  # [Z], nothing on the way
    return DynamicOptimum(float((chain.start * at_start).sum()), orders[::-1])


def fit_base_stock(problem: Inventory, paths: Tensor) -> tuple[int, int]:
    """Finds the (s, S) policy that is cheapest on average over paths [N, H]: at a position up to s, order up to S.

    All pairs are tried.
    """
    pairs = torch.tensor([(s, top) for top in range(problem.capacity + 1) for s in range(top)], dtype=paths.dtype)
    costs = torch.cat(
        [problem.cost(problem.run(base_stock(p[:, :1], p[:, 1:]), paths[None].expand(len(p), -1, -1)), paths).mean(-1)
         for p in pairs.split(64)]
    )  # fmt: skip
    s, top = pairs[costs.argmin()].tolist()
    return int(s), int(top)


def base_stock(s: Tensor | float, top: Tensor | float) -> Decide:
    """Returns the policy that raises the position to `top` when it is at most `s`."""

    def decide(stock: Stock) -> Tensor:
        position = stock.position()
        return torch.where(position <= s, top - position, torch.zeros_like(position)).clamp(min=0)

    return decide


def replan(problem: Inventory, paths: Tensor, path: Tensor) -> Tensor:
    """Orders by sample average approximation that is made anew at each stage, for the demand seen so far.

    The paths are weighed by how much their first stages resemble it (Bertsimas & Kallus 2020): `exp(-d / 2)` with d
    the mean squared distance in units of the paths' variance.

    Args:
        problem: The problem.
        paths: Demand that may come [S, H].
        path: The demand that comes true [H]; the order of a stage depends on the stages before alone.

    Returns:
        Orders [H].
    """
    orders = problem.solve(paths)
    for stage in range(1, len(path)):
        seen = path[:stage]
        unit = paths[:, :stage].var(0, correction=0).mean().clamp(min=1e-9)
        distance = (paths[:, :stage] - seen).square().mean(1) / unit
        likely = torch.exp((distance.min() - distance) / 2)
        told = torch.cat([seen.expand(len(paths), -1), paths[:, stage:]], 1)
        orders = problem.improve(orders, told, likely, stage)
    return orders
