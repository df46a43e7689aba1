"""Ends a run of reward optimisation in which nothing can be learned, and says why."""

import logging
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback

logger = logging.getLogger(__name__)

IDLE_STEPS = 10


class IdleWatch(TrainerCallback):
    """Stops a run whose first `IDLE_STEPS` optimiser steps had no gradient from the reward.

    It watches until the first step that learned something: a policy that has converged may well stand still later.

    Args:
        accelerator: Of the trainer; all processes must come to the same end.
        reward: The reward, for the reason: its `low` and `high`.
        advice: What to do where everything earns the least reward; empty = what is right for numbers.
    """

    def __init__(self, accelerator: Any, reward: Any, advice: str = "") -> None:
        self.accelerator, self.reward, self.advice = accelerator, reward, advice
        self.steps, self.groups, self.flat, self.learned = 0, 0, 0, False
        self.low, self.high = float("inf"), -float("inf")

    def note(self, rewards: Tensor, flat: Tensor) -> None:
        """Takes in the rewards [R, G] of a rollout and which of its groups are flat [R]."""
        if self.learned or not len(rewards):
            return
        self.groups, self.flat = self.groups + len(flat), self.flat + int(flat.sum())
        self.low, self.high = min(self.low, float(rewards.min())), max(self.high, float(rewards.max()))

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Counts steps without a gradient.

        Raises:
            RuntimeError: After `IDLE_STEPS` of them from the start, with the reason.
        """
        if self.learned:
            return
        peaks = [p.grad.abs().max() for p in model.parameters() if p.grad is not None and p.grad.numel()]
        # A NaN is no zero: what diverges is another callback's business.
        moving = bool(peaks) and bool((torch.stack([x.float() for x in peaks]) != 0).any())
        told = self.groups == 0 or self.flat < self.groups
        found = torch.tensor(float(moving and told), device=self.accelerator.device)
        self.learned = bool(self.accelerator.gather(found[None]).any())
        self.steps += 1
        if not self.learned and self.steps >= IDLE_STEPS:
            raise RuntimeError(self.describe())

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Tells of a run that was too short to be stopped."""
        if self.steps and not self.learned:
            logger.warning(self.describe())

    def describe(self) -> str:
        """Returns the reason and the way out."""
        text = f"nothing was learned in {self.steps} steps: "
        if self.groups == 0 or self.flat < self.groups:
            return text + (
                "the reward has no gradient in the trained parameters; check that the head is trained, that targets "
                "are observed and that the reward depends on the forecast"
            )
        text += f"in all {self.groups} groups all forecasts earn the same reward ({self.low:g} to {self.high:g}"
        reward = self.reward
        at = [end for end in (reward.low, reward.high) if self.low == self.high == end]
        if self.advice and at == [reward.low]:
            return f"{text}), the least that there is; {self.advice}"
        if at:
            return text + (
                f"), which is the end of its range [{reward.low:g}, {reward.high:g}]: it is cut there; "
                "widen low and high, or divide the reward by the scale of the history"
            )
        return text + "); use a reward that tells forecasts apart, or a policy that spreads more (temperature)"
