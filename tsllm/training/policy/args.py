"""Arguments of reward optimisation."""

from dataclasses import dataclass, field, replace
from typing import Any

from tsllm.rl.objectives import Objective, build_objective
from tsllm.rl.rewards import Reward, build_reward
from tsllm.rl.rollout import CREDITS
from tsllm.training.args import ArgumentsError, ForecastTrainingArguments


@dataclass
class PolicyArguments:
    """What is rewarded and how the policy learns from it.

    Attributes:
        objective: A name of `tsllm.rl.objectives.OBJECTIVES`.
        reward: A name of `tsllm.rl.rewards.REWARDS`, a dotted path to one's own, a mapping with name, weight and
            options, or a list of such.
        num_samples: G, forecasts in a group.
        num_iterations: Optimiser steps on each rollout.
        epsilon_low: Lower clip range; null = the objective's.
        epsilon_high: Upper clip range; null = the objective's.
        ratio_cap: Largest ratio of CISPO; null = the objective's.
        beta: Weight of the KL to the supervised start; null = the objective's.
        unbiased_kl: Follow the gradient of KL(policy || start) instead of KL(start || policy), which the usual
            estimate follows (`tsllm.rl.objectives.compute_policy_loss`).
        preference_temperature: Of `reward_preference`, in units of the reward; null = the objective's.
        scale_rewards: For `grpo`, `dapo` and `cispo`: divide by the group's spread as published. It weighs windows by
            1 / spread, so that under asymmetric costs the policy converges elsewhere (newsvendor whose best quantile
            is .875: .53), and it makes forecasters over-confident. False only centres, and the metrics say so.
        credit: "auto" gives steps their own reward where it is additive, "path" whole paths theirs, "step" demands
            an additive reward.
        temperature: Factor of the spread that forecasts are sampled with; below 1 they stay nearer to the point
            forecast, from which decisions are made.
        fixed_spread: Train the location alone, so that a reward cannot raise itself by collapsing the distribution.
        entropy_coef: Weight of the mean entropy by step, added to what is maximised.
        nll_coef: Weight of the supervised negative log-likelihood, added to the loss.
        min_group_spread: Groups whose rewards spread by no more than this are flat; dynamic sampling replaces them.
        max_refills: Rounds of replacement in a step; afterwards such groups are left out of the loss.
        reward_workers: Processes that compute rewards; 0 = none besides this.
        eval_samples: Forecasts drawn a window to score a distribution in evaluation.
    """

    objective: str = "grpo"
    reward: Any = field(default="energy", metadata={"help": "name, dotted path, mapping or list of mappings"})
    num_samples: int = 64
    num_iterations: int = 1
    epsilon_low: float | None = None
    epsilon_high: float | None = None
    ratio_cap: float | None = None
    beta: float | None = None
    unbiased_kl: bool = False
    preference_temperature: float | None = None
    scale_rewards: bool = False
    credit: str = "auto"
    temperature: float = 1.0
    fixed_spread: bool = False
    entropy_coef: float = 0.0
    nll_coef: float = 0.0
    min_group_spread: float = 1e-6
    max_refills: int = 3
    reward_workers: int = 0
    eval_samples: int = 100

    def __post_init__(self) -> None:
        for name, least in (("num_samples", 2), ("num_iterations", 1), ("max_refills", 0), ("eval_samples", 2)):
            if getattr(self, name) < least:
                raise ArgumentsError(f"{name} is {getattr(self, name)}; it must be at least {least}")
        for name in ("entropy_coef", "nll_coef", "min_group_spread", "reward_workers"):
            if getattr(self, name) < 0:
                raise ArgumentsError(f"{name} is {getattr(self, name)}; it must be at least 0")
        if not self.temperature > 0:
            raise ArgumentsError(f"temperature is {self.temperature}; it must be above 0")
        if self.credit not in CREDITS:
            raise ArgumentsError(f"credit is {self.credit!r}; choose one of {', '.join(CREDITS)}")
        reward = self.build_reward()
        if reward.scores_text:
            raise ArgumentsError(f"reward {self.reward!r} judges text, but a series policy writes none")
        if self.credit == "step" and not reward.additive:
            raise ArgumentsError(f"credit is 'step', but reward {self.reward!r} judges whole paths; set credit: path")
        if not self.is_direct:
            self.build_objective()
        elif not reward.differentiable:
            raise ArgumentsError(f"objective is 'direct', but reward {self.reward!r} has no useful gradient")

    @property
    def is_direct(self) -> bool:
        """Whether the reward's own gradient is followed through the samples: the control, no policy gradient."""
        return self.objective == "direct"

    def build_reward(self) -> Reward:
        """Returns the reward.

        Raises:
            ValueError: As `tsllm.rl.rewards.build_reward`.
        """
        return build_reward(self.reward)

    def build_objective(self) -> Objective:
        """Returns the objective with its knobs.

        Raises:
            ValueError: If a knob would make it another algorithm.
        """
        objective = build_objective(
            self.objective,
            epsilon_low=self.epsilon_low,
            epsilon_high=self.epsilon_high,
            ratio_cap=self.ratio_cap,
            beta=self.beta,
            unbiased_kl=self.unbiased_kl or None,
            temperature=self.preference_temperature,
        )
        if self.scale_rewards or objective.advantage != "zscore":
            return objective
        return replace(objective, name=f"{objective.name}, centred rewards", advantage="center")


@dataclass
class PolicyTrainingArguments(ForecastTrainingArguments):
    """`ForecastTrainingArguments` with the defaults of reward optimisation.

    Attributes:
        max_steps: Optimiser steps.
    """

    output_dir: str | None = field(default="runs/policy", metadata={"help": "folder of checkpoints and artefacts"})
    learning_rate: float = 1e-4
    max_steps: int = 200
    eval_strategy: Any = "steps"
    eval_steps: float | None = 50
    save_strategy: str = field(default="steps", metadata={"help": "'no', steps, epoch or best"})
    save_steps: float = 50
    metric_for_best_model: str | None = "reward"
    greater_is_better: bool | None = True
    logging_steps: float = 10
    early_stopping_patience: int = 0

    def __post_init__(self) -> None:
        if self.lr_schedule is not None:
            raise ArgumentsError("lr_schedule counts epochs, but a policy trains by steps; use lr_scheduler_type")
        super().__post_init__()
