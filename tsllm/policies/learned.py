"""Policies that are trained on the decision itself: a small network that says which path to plan against.

Every policy answers with a path [H]; the problem's own planner turns it into an action, so that limits always hold and
one network serves every problem. For a battery any full discharge is the plan for some path, so nothing is lost.
Four ways to train the same network: `direct` (gradient through the planner); `perturbed` (the cost averaged over
noise of fixed size, Berthet et al. 2020: its gradient through the planner, or by the score function where that has
none); `spo_plus` (an upper bound of the regret, Elmachtoub & Grigas 2022); and any objective of `tsllm.rl` (rewards of
sampled paths; needs no gradient).
"""

import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from tsllm.decisions.base import DecisionProblem
from tsllm.rl.objectives import OBJECTIVES, build_objective

GRADIENT_METHODS = ("direct", "perturbed", "spo_plus")
BAD = -1e30  # reward of an infeasible action, far below any other; advantages stay finite


@dataclass(frozen=True)
class Training:
    """How a policy network is trained.

    Attributes:
        method: "direct", "perturbed", "spo_plus" or a name of `tsllm.rl.objectives.OBJECTIVES`.
        steps: Gradient steps.
        batch: Windows a step.
        group: Paths sampled for each window (G); noises averaged by "perturbed".
        scenarios: Outcomes that each action is judged on, drawn from the window's paths (K). With one outcome, the
            z-score of GRPO and DAPO divides away how costly it was and pulls a newsvendor's quantile towards the
            median; the mean over several keeps it.
        learning_rate: Of Adam.
        hidden: Width of the hidden layer.
        noise: First standard deviation of sampled paths, and that of "perturbed" throughout, in units of the
            forecast's errors at each step.
        weight_decay: Of AdamW.
        eval_every: Steps between looks at the validation cost; the best network is kept.
        objective: Knobs of the objective (`temperature`, `beta` ...).
    """

    method: str = "dapo"
    steps: int = 400
    batch: int = 32
    group: int = 64
    scenarios: int = 1
    learning_rate: float = 1e-3
    hidden: int = 32
    noise: float = 0.5
    weight_decay: float = 1e-2
    eval_every: int = 25
    objective: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.method not in (*GRADIENT_METHODS, *OBJECTIVES.names()):
            raise ValueError(
                f"method {self.method!r} must be one of {', '.join((*GRADIENT_METHODS, *OBJECTIVES.names()))}"
            )
        for name in ("steps", "batch", "scenarios", "hidden", "eval_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.group < 2 or self.noise <= 0 or self.learning_rate <= 0:
            raise ValueError("group must be at least 2, noise and learning_rate above 0")


@dataclass(frozen=True)
class Windows:
    """Windows that a policy learns from or is chosen on.

    Attributes:
        forecast: Point forecasts [N, H], made out of sample.
        paths: What may come true [N, R, H]: the truth, or the truth and simulated paths.
        spread: Standard deviation of earlier errors at each step [H]; the network's unit.
    """

    forecast: Tensor
    paths: Tensor
    spread: Tensor

    def __post_init__(self) -> None:
        n, h = self.forecast.shape
        if self.paths.ndim != 3 or self.paths.shape[0] != n or self.paths.shape[2] != h or self.spread.shape != (h,):
            raise ValueError(
                f"forecast [N, H], paths [N, R, H] and spread [H] do not fit: {list(self.forecast.shape)}, "
                f"{list(self.paths.shape)}, {list(self.spread.shape)}"
            )


class PathPolicy(nn.Module):
    """Forecast -> path to plan against: the forecast plus a correction that starts at zero.

    Args:
        windows: Give centre and unit of the inputs.
        hidden: Width of the hidden layer.
        noise: First standard deviation of samples, in units of `windows.spread`.
        generator: Of the first weights.
    """

    centre: Tensor
    scale: Tensor
    spread: Tensor

    def __init__(self, windows: Windows, hidden: int, noise: float, generator: torch.Generator) -> None:
        super().__init__()
        horizon = windows.forecast.shape[1]
        self.register_buffer("centre", windows.forecast.mean(0))
        self.register_buffer("scale", windows.forecast.std(0).clamp(min=1e-9))
        self.register_buffer("spread", windows.spread.clamp(min=1e-9))
        self.inner = nn.Linear(horizon, hidden, dtype=torch.float64)
        self.outer = nn.Linear(hidden, horizon, dtype=torch.float64)
        with torch.no_grad():
            self.inner.weight.normal_(0, horizon**-0.5, generator=generator)
            self.inner.bias.zero_()
            self.outer.weight.zero_()
            self.outer.bias.zero_()
        self.log_noise = nn.Parameter(torch.full((horizon,), noise, dtype=torch.float64).log())

    def forward(self, forecast: Tensor) -> Tensor:
        """Returns the correction in units of the spread, [B, H] -> [B, H]."""
        return self.outer(torch.tanh(self.inner((forecast - self.centre) / self.scale)))

    def path(self, forecast: Tensor, correction: Tensor) -> Tensor:
        """Returns paths in the unit of the series; `correction` [..., H] broadcasts against `forecast`."""
        return forecast + self.spread * correction

    def log_prob(self, mean: Tensor, correction: Tensor) -> Tensor:
        """Computes the log-density of each step of sampled corrections [B, G, H] around means [B, H]."""
        return torch.distributions.Normal(mean[:, None], self.log_noise.exp()).log_prob(correction)


def decide(policy: PathPolicy, problem: DecisionProblem, forecast: Tensor) -> Tensor:
    """Returns the actions of a policy without noise, [B, H] -> [B, A]."""
    with torch.no_grad():
        return problem.plan(policy.path(forecast, policy(forecast)))


def train_policy(
    problem: DecisionProblem, train: Windows, validation: Windows, settings: Training, seed: int
) -> tuple[PathPolicy, list[dict[str, float]]]:
    """Trains a policy and keeps the network that is cheapest on validation, the start (plug-in mean) among them.

    Returns:
        The policy and the log: `step`, `validation` (mean cost), `flat` (share of groups without spread).

    Raises:
        ValueError: If the method needs a gradient or a loss that the problem does not have.
        RuntimeError: If no group of a reward objective has spread for `eval_every` steps: nothing would be learned.
    """
    check_method(problem, settings.method)
    generator = torch.Generator().manual_seed(seed)
    policy = PathPolicy(train, settings.hidden, settings.noise, generator)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    unit = problem.regret(problem.plan(train.forecast), train.paths[:, 0]).mean().clamp(min=1e-12)
    best, lowest = copy.deepcopy(policy.state_dict()), torch.inf
    log: list[dict[str, float]] = []
    flat: list[float] = []
    for step in range(settings.steps + 1):
        if step % settings.eval_every == 0:
            cost = float(problem.cost(decide(policy, problem, validation.forecast), validation.paths[:, 0]).mean())
            share = sum(flat) / len(flat) if flat else 0.0
            log.append({"step": step, "validation": cost, "flat": share})
            if flat and share == 1.0:
                raise RuntimeError(
                    f"no group of the last {len(flat)} steps has any spread of rewards, so that nothing is learned; "
                    f"raise noise ({settings.noise}) or group ({settings.group})"
                )
            flat = []
            if cost < lowest:
                best, lowest = copy.deepcopy(policy.state_dict()), cost
        if step == settings.steps:
            break
        rows = torch.randint(len(train.forecast), (settings.batch,), generator=generator)
        picks = torch.randint(train.paths.shape[1], (settings.batch, settings.scenarios), generator=generator)
        loss, share = _compute_loss(
            policy, problem, train.forecast[rows], train.paths[rows[:, None], picks], unit, settings, generator
        )
        flat.append(share)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
    policy.load_state_dict(best)
    return policy, log


def check_method(problem: DecisionProblem, method: str) -> None:
    """Refuses a training method that the problem does not offer.

    Raises:
        ValueError: Naming what the problem lacks and what would do.
    """
    missing = {
        "direct": None if problem.differentiable else "the gradient of the plan",
        "spo_plus": None if problem.bounds_regret else "the SPO+ loss",
    }.get(method)
    if missing is not None:
        raise ValueError(
            f"{method} needs {missing}, which {problem.name or type(problem).__name__} does not have; use one of "
            f"{', '.join(('perturbed', *OBJECTIVES.names()))}"
        )


def _compute_loss(
    policy: PathPolicy,
    problem: DecisionProblem,
    forecast: Tensor,
    truth: Tensor,
    unit: Tensor,
    settings: Training,
    generator: torch.Generator,
) -> tuple[Tensor, float]:
    """Returns the loss of a batch and the share of groups without spread; `truth` is [B, K, H]."""
    mean = policy(forecast)  # [B, H]
    if settings.method == "direct":
        return problem.cost(problem.plan(policy.path(forecast, mean))[:, None], truth).mean() / unit, 0.0
    if settings.method == "spo_plus":
        return problem.spo_plus(policy.path(forecast, mean)[:, None], truth).mean() / unit, 0.0
    noise = torch.randn(len(forecast), settings.group, forecast.shape[1], generator=generator, dtype=torch.float64)
    if settings.method == "perturbed":
        drawn = policy.path(forecast[:, None], mean[:, None] + settings.noise * noise)  # [B, G, H]
        cost = problem.cost(problem.plan(drawn)[:, :, None], truth[:, None]).mean(-1) / unit  # [B, G]
        if problem.differentiable:
            return cost.mean(), 0.0
        excess = (cost - cost.mean(1, keepdim=True)).detach() * settings.group / (settings.group - 1)
        return (excess * (noise * mean[:, None]).sum(-1)).mean() / settings.noise, float(
            (excess == 0).all(1).double().mean()
        )
    correction = (mean[:, None] + policy.log_noise.exp() * noise).detach()  # [B, G, H]
    with torch.no_grad():
        actions = problem.plan(policy.path(forecast[:, None], correction))
        rewards = problem.reward(actions[:, :, None], truth[:, None]).mean(-1) / unit  # [B, G]
        rewards = torch.where(torch.isfinite(rewards), rewards, torch.full_like(rewards, BAD))
    objective = build_objective(settings.method, **settings.objective)
    spread = rewards.std(1)
    used = spread > 1e-12 if objective.dynamic_sampling else torch.ones_like(spread, dtype=torch.bool)
    flat = float((spread <= 1e-12).double().mean())
    if not used.any():
        return 0.0 * mean.sum(), flat
    advantages = objective.compute_advantages(rewards[used]).reshape(-1)
    log_probs = policy.log_prob(mean, correction)[used].flatten(0, 1)  # [B G, H]
    reference = None
    if objective.beta:
        with torch.no_grad():  # the start is the reference: no correction, the first noise
            first = torch.distributions.Normal(torch.zeros_like(mean[:, None]), settings.noise)
            reference = first.log_prob(correction)[used].flatten(0, 1)
    found = objective.compute_loss(
        log_probs, log_probs.detach(), advantages, torch.ones_like(log_probs), reference_log_probs=reference
    )
    return found.loss, flat
