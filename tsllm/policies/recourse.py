"""A policy with recourse for the inventory problem: a small network that orders at each stage, trained by rewards."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from tsllm.decisions.inventory import DemandChain, Inventory, Stock
from tsllm.rl.objectives import OBJECTIVES, build_objective

Draw = Callable[[int, torch.Generator], tuple[Tensor, Tensor]]  # count -> demand [N, H], what is known [N, H, K]


@dataclass(frozen=True)
class RecourseTraining:
    """How an ordering policy is trained.

    Attributes:
        method: A name of `tsllm.rl.objectives.OBJECTIVES`.
        steps: Gradient steps.
        batch: Demand paths a step.
        group: Rollouts of the policy on each path (G); they meet the same demand.
        learning_rate: Of Adam at first; it falls to a twentieth along a cosine.
        hidden: Width of the two hidden layers.
        eval_every: Steps between looks at the validation cost; the best network is kept.
        objective: Knobs of the objective.
    """

    method: str = "dapo"
    steps: int = 600
    batch: int = 8
    group: int = 64
    learning_rate: float = 3e-3
    hidden: int = 64
    eval_every: int = 50
    objective: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        OBJECTIVES.get(self.method)
        for name in ("steps", "batch", "hidden", "eval_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.group < 2 or self.learning_rate <= 0:
            raise ValueError("group must be at least 2 and learning_rate above 0")


class OrderPolicy(nn.Module):
    """Stage, stock, pipeline and what else is known -> chances of ordering 0, 1, ..., capacity units.

    Args:
        problem: Gives sizes.
        stages: How many there are.
        known: Numbers that are known at each stage besides the stock (K): a regime, forecasts, errors so far.
        hidden: Width of the two hidden layers.
        generator: Of the first weights.
    """

    def __init__(self, problem: Inventory, stages: int, known: int, hidden: int, generator: torch.Generator) -> None:
        super().__init__()
        self.capacity = problem.capacity
        width = stages + 1 + max(problem.lead_time - 1, 0) + known
        sizes = [width, hidden, hidden, problem.capacity + 1]
        linears = [nn.Linear(a, b) for a, b in pairwise(sizes)]
        self.layers = nn.ModuleList(linears)
        with torch.no_grad():
            for layer in linears:
                layer.weight.normal_(0, layer.in_features**-0.5, generator=generator)
                layer.bias.zero_()
            linears[-1].weight.mul_(0.1)  # begins close to indifferent

    def forward(self, stock: Stock, known: Tensor) -> Tensor:
        """Returns the logits of the orders, [..., capacity + 1]; `known` is [..., K]."""
        stage = nn.functional.one_hot(torch.tensor(stock.stage), stock.stages).expand(*stock.on_hand.shape, -1)
        amounts = torch.cat([stock.on_hand[..., None], stock.pipeline], -1) / self.capacity * 4 - 2
        x = torch.cat([stage, amounts, known], -1).float()
        for layer in self.layers[:-1]:
            x = torch.tanh(layer(x))
        return self.layers[-1](x)


def order_with(policy: OrderPolicy, problem: Inventory, demand: Tensor, known: Tensor) -> Tensor:
    """Runs a policy without noise: the most likely order at each stage, [N, H] and [N, H, K] -> orders [N, H]."""
    with torch.no_grad():
        return problem.run(lambda stock: policy(stock, known[:, stock.stage]).argmax(-1), demand)


def draw_from_chain(chain: DemandChain, stages: int) -> Draw:
    """Returns a source of simulated demand; known is the regime of each stage, one-hot."""

    def draw(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        demand, regimes = chain.sample(count, stages, generator)
        return demand, nn.functional.one_hot(regimes, len(chain.start))

    return draw


def draw_from_paths(forecast: Tensor, paths: Tensor, spread: Tensor, ahead: int, level: float) -> Draw:
    """Returns a source of demand that windows of real series may have: a random window, one of its paths.

    Args:
        forecast: Of each window [N, H], in whole units.
        paths: What may come true [N, R, H].
        spread: Size of the forecast's errors in each window [N].
        ahead: As in `read_progress`.
        level: As in `read_progress`.
    """

    def draw(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        rows = torch.randint(len(forecast), (count,), generator=generator)
        demand = paths[rows, torch.randint(paths.shape[1], (count,), generator=generator)]
        return demand, read_progress(forecast[rows], demand, spread[rows], ahead, level)

    return draw


def read_progress(forecast: Tensor, demand: Tensor, spread: Tensor, ahead: int, level: float) -> Tensor:
    """Returns what is known at each stage when an order is placed, [N, H, ahead + 4].

    Forecasts of this and the next stages (0 beyond the last) and of all later ones together, the last error, the mean
    error so far and the spread; in units of `level`. The demand of a stage and later is not read.

    Args:
        forecast: Made before the first stage [N, H].
        demand: What came true [N, H].
        spread: Size of the forecast's errors [N].
        ahead: How many forecasts stand by themselves.
        level: What counts as one, such as the mean demand.
    """
    count, horizon = forecast.shape
    padded = torch.cat([forecast, forecast.new_zeros(count, ahead)], 1)
    coming = padded.unfold(1, ahead, 1)[:, :horizon]  # [N, H, ahead]
    later = padded.flip(1).cumsum(1).flip(1)[:, ahead : ahead + horizon] / horizon  # [N, H]
    error = torch.cat([forecast.new_zeros(count, 1), (demand - forecast)[:, :-1]], 1)  # [N, H], of the stage before
    seen = torch.arange(horizon, dtype=forecast.dtype).clamp(min=1)
    rest = torch.stack([later, error, error.cumsum(1) / seen, spread[:, None].expand(-1, horizon)], -1)
    return torch.cat([coming - level, rest], -1) / level


def train_orders(
    problem: Inventory,
    draw: Draw,
    stages: int,
    settings: RecourseTraining,
    seed: int,
    held_out: tuple[Tensor, Tensor] | None = None,
) -> tuple[OrderPolicy, list[dict[str, float]]]:
    """Trains an ordering policy on simulated demand; each order is judged by the costs from its stage on.

    The advantage compares rollouts of a group stage by stage; all meet the same demand.

    Args:
        problem: The problem.
        draw: Source of demand.
        stages: H.
        settings: How it is trained.
        seed: Of weights and draws.
        held_out: Validation demand [N, H] and what is known [N, H, K]; None = 1,000 draws.

    Returns:
        The policy that was cheapest on validation, and the log `step, validation`.
    """
    generator = torch.Generator().manual_seed(seed)
    width = draw(1, torch.Generator().manual_seed(0))[1].shape[-1]
    policy = OrderPolicy(problem, stages, width, settings.hidden, generator)
    objective = build_objective(settings.method, **settings.objective)
    optimizer = torch.optim.Adam(policy.parameters(), lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps, settings.learning_rate / 20)
    held = draw(1000, generator) if held_out is None else held_out
    reference = copy.deepcopy(policy) if objective.beta else None
    best, lowest, log = copy.deepcopy(policy.state_dict()), torch.inf, []
    for step in range(settings.steps + 1):
        if step % settings.eval_every == 0 or step == settings.steps:
            cost = float(problem.cost(order_with(policy, problem, *held), held[0]).mean())
            log.append({"step": step, "validation": cost})
            if cost < lowest:
                best, lowest = copy.deepcopy(policy.state_dict()), cost
        if step == settings.steps:
            break
        drawn, facts = draw(settings.batch, generator)
        demand = drawn[:, None].expand(-1, settings.group, -1)
        known = facts[:, None].expand(-1, settings.group, -1, -1)
        log_probs, rewards, kept = _roll_out(policy, problem, demand, known, generator, reference)
        to_go = rewards.flip(-1).cumsum(-1).flip(-1)  # [B, G, H]
        advantages = objective.compute_advantages(to_go).float().flatten(0, 1)
        flat = log_probs.flatten(0, 1)  # [B G, H]
        loss = objective.compute_loss(
            flat,
            flat.detach(),
            advantages,
            torch.ones_like(flat),
            reference_log_probs=None if kept is None else kept.flatten(0, 1),
        ).loss
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    policy.load_state_dict(best)
    return policy, log


def _roll_out(
    policy: OrderPolicy,
    problem: Inventory,
    demand: Tensor,
    known: Tensor,
    generator: torch.Generator,
    reference: OrderPolicy | None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Samples orders; returns their log-probabilities, minus the costs of each stage, and those of the reference.

    All are [B, G, H].
    """
    log_probs, kept = [], []

    def decide(stock: Stock) -> Tensor:
        now = known[..., stock.stage, :]
        chances = policy(stock, now).log_softmax(-1)  # [B, G, C + 1]
        picked = torch.multinomial(chances.detach().exp().flatten(0, 1), 1, generator=generator)
        order = picked.reshape(*chances.shape[:-1], 1)
        log_probs.append(chances.gather(-1, order)[..., 0])
        if reference is not None:
            with torch.no_grad():
                kept.append(reference(stock, now).log_softmax(-1).gather(-1, order)[..., 0])
        return order[..., 0]

    orders = problem.run(decide, demand)
    costs = problem.stage_costs(orders, demand)
    return torch.stack(log_probs, -1), -costs, torch.stack(kept, -1) if kept else None
