"""The one signature of every reward, and what all of them share: validation, missing values, bounds, the scale."""

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from tsllm.rl.rewards.known import FACTS, Known


@dataclass(frozen=True)
class Completions:
    """What is known about the texts behind a group of forecasts; absent for policies that do not write text.

    Attributes:
        num_values: How many numbers each completion held, [B, G].
        num_tokens: How many tokens each completion took, [B, G].
        max_tokens: The longest completion that the sampler allows, in tokens.
    """

    num_values: Tensor
    num_tokens: Tensor
    max_tokens: int


@dataclass(frozen=True)
class Problem:
    """Checked inputs of a reward, free of NaN.

    Attributes:
        samples: Forecasts [B, G, H]; non-finite rows are 0 throughout and marked in `valid`.
        valid: Whether all H values of a forecast are finite, [B, G].
        target: Truth [B, H]; missing steps are 0 and marked in `observed`.
        observed: Whether the truth is known, [B, H].
        history: Context [B, L]; missing steps are 0 and marked in `history_observed`.
        history_observed: Whether the context is known, [B, L].
        season: Steps in a season.
        completions: The texts behind the forecasts, if any.
        known: Series, dates, covariates and so on of the rows, as far as the reward asks for them.
    """

    samples: Tensor
    valid: Tensor
    target: Tensor
    observed: Tensor
    history: Tensor
    history_observed: Tensor
    season: int
    completions: Completions | None
    known: Known = field(default_factory=Known)

    def last_value(self) -> Tensor:
        """Returns the last observed value of the history, [B]; 0 where the history holds none."""
        steps = torch.arange(self.history.shape[1], device=self.history.device)
        last = torch.where(self.history_observed, steps, -1).amax(dim=1)  # [B]
        value = self.history.gather(1, last.clamp(min=0)[:, None])[:, 0]  # [B]
        return torch.where(last >= 0, value, torch.zeros_like(value))


def compute_deviation(history: Tensor, observed: Tensor) -> Tensor:
    """Computes the population standard deviation of each history; 1 where it is 0 (constant or empty history).

    Args:
        history: [B, L], 0 where missing.
        observed: [B, L].

    Returns:
        Scale [B], positive, in the unit of the series.
    """
    count = observed.sum(1).clamp(min=1)
    mean = (history * observed).sum(1) / count
    deviation = (((history - mean[:, None]) * observed).square().sum(1) / count).sqrt()
    return _positive_or(deviation, torch.ones_like(deviation), mean)


def compute_seasonal_scale(history: Tensor, observed: Tensor, season: int) -> Tensor:
    """Computes the mean absolute error of the in-sample seasonal naive forecast (Hyndman & Koehler 2006, MASE).

    Histories that are no longer than a season, or repeat exactly, fall back on their standard deviation, and constant
    ones on 1, so that the scale is positive and never depends on a forecast.

    Args:
        history: [B, L], 0 where missing.
        observed: [B, L].
        season: Steps in a season.

    Returns:
        Scale [B], positive, in the unit of the series.
    """
    deviation = compute_deviation(history, observed)
    if history.shape[1] <= season:
        return deviation
    both = observed[:, season:] & observed[:, :-season]
    change = ((history[:, season:] - history[:, :-season]).abs() * both).sum(1) / both.sum(1).clamp(min=1)
    return _positive_or(change, deviation, history.abs().amax(1))


def _positive_or(scale: Tensor, otherwise: Tensor, level: Tensor) -> Tensor:
    # A constant history of 0.1 has a rounding-error deviation; relative to its level that is still zero.
    floor = 16 * torch.finfo(scale.dtype).eps * level.abs()
    return torch.where(scale > floor, scale, otherwise)


class Reward:
    """Base of all rewards: `reward(samples, target, history, season)` -> one number for each forecast.

    A reward that must know more than numbers names it in `asks` and finds it in `problem.known`.

    A family implements `_paths`, or `_steps` if it is additive over steps. The base checks shapes, gives `low` to
    every forecast with a non-finite value, leaves missing targets out, and keeps the result inside [low, high].

    Attributes:
        low: The least reward; also what an invalid forecast gets.
        high: The largest reward.
        additive: Whether the reward is a mean over steps of terms that depend on that step's value alone.
        group_wise: Whether a forecast's reward depends on the other forecasts of its group.
        differentiable: Whether `utility` has a useful gradient with respect to the samples.
        scores_text: Whether the reward judges the text rather than the numbers.
        asks: Names of `tsllm.rl.rewards.known.Known` that the reward reads.
        optional: Those of them without which it still works.
    """

    low: float = 0.0
    high: float = 1.0
    additive: bool = False
    group_wise: ClassVar[bool] = False
    differentiable: ClassVar[bool] = False
    scores_text: ClassVar[bool] = False
    asks: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset()

    def __call__(
        self,
        samples: Tensor,
        target: Tensor,
        history: Tensor,
        season: int = 1,
        completions: Completions | None = None,
        known: Known | None = None,
    ) -> Tensor:
        """Scores a group of forecasts of each series; larger is better.

        Args:
            samples: Forecasts [B, G, H] in the unit of the series; a row with a NaN or an infinity is invalid.
            target: Truth [B, H]; NaN marks missing steps, which are left out.
            history: Context [B, L]; NaN marks missing steps. The only source of scale.
            season: Steps in a season.
            completions: Counts of the texts behind the forecasts, for rewards on text.
            known: Facts about the rows, for rewards that ask for some.

        Returns:
            Rewards [B, G] in [low, high].

        Raises:
            ValueError: If shapes disagree, the season is below 1, a row of `target` has no observed step, or a fact
                that the reward asks for is not known.
        """
        problem = self._check(samples, target, history, season, completions, known)
        if self.additive:
            steps = self._bound(self._steps(problem), problem.valid[..., None])  # [B, G, H]
            weight = problem.observed[:, None].to(steps.dtype)  # [B, 1, H]
            return (steps * weight).sum(-1) / weight.sum(-1)  # [B, G]
        return self._bound(self._paths(problem), problem.valid)

    def per_step(
        self,
        samples: Tensor,
        target: Tensor,
        history: Tensor,
        season: int = 1,
        completions: Completions | None = None,
        known: Known | None = None,
    ) -> Tensor:
        """Scores every step of every forecast, for credit by step; the mean over observed steps is the reward.

        Args:
            samples: See `__call__`.
            target: See `__call__`.
            history: See `__call__`.
            season: See `__call__`.
            completions: See `__call__`.
            known: See `__call__`.

        Returns:
            Rewards [B, G, H] in [low, high]; 0 where the target is missing.

        Raises:
            TypeError: If the reward is not additive.
            ValueError: As `__call__`.
        """
        if not self.additive:
            raise TypeError(f"{type(self).__name__} judges whole forecasts; it has no reward by step")
        problem = self._check(samples, target, history, season, completions, known)
        steps = self._bound(self._steps(problem), problem.valid[..., None])  # [B, G, H]
        return steps * problem.observed[:, None]

    def measure(
        self,
        samples: Tensor,
        target: Tensor,
        history: Tensor,
        season: int = 1,
        completions: Completions | None = None,
        known: Known | None = None,
    ) -> Tensor:
        """Returns what is computed before anything is cut at `low` and `high`, for trying a reward out.

        Returns:
            [B, G], or [B, G, H] of an additive reward; not finite where the reward itself is not.
        """
        problem = self._check(samples, target, history, season, completions, known)
        return self._steps(problem) if self.additive else self._paths(problem)

    def utility(
        self, samples: Tensor, target: Tensor, history: Tensor, season: int = 1, known: Known | None = None
    ) -> Tensor:
        """Scores a group as a whole: what direct gradient ascent through the samples maximises, [B].

        For most rewards this is the mean over the group. A group-wise reward overrides it where its mean is not the
        functional whose score-function gradient it estimates.
        """
        return self(samples, target, history, season, known=known).mean(1)

    def tell(self, known: Known | None) -> dict[str, Any]:
        """Returns the keyword `known` for a call of this reward, if it asks for facts."""
        return {"known": known} if self.asks else {}

    def _check(
        self,
        samples: Tensor,
        target: Tensor,
        history: Tensor,
        season: int,
        completions: Completions | None,
        known: Known | None,
    ) -> Problem:
        known = known or Known()
        unknown = sorted(self.asks - frozenset(FACTS))
        missing = sorted(self.asks - self.optional - known.names())
        if unknown or missing:
            raise ValueError(
                f"{type(self).__name__} asks for {', '.join(unknown or missing)}, which "
                f"{'no reward can have' if unknown else 'is not known here'}; "
                f"{', '.join(FACTS if unknown else sorted(known.names())) or 'nothing besides the numbers'} "
                f"{'can be had' if unknown else 'is'}"
            )
        return check_problem(samples, target, history, season, completions, known)

    def _steps(self, problem: Problem) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} must implement _steps(problem) -> [B, G, H]")

    def _paths(self, problem: Problem) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} must implement _paths(problem) -> [B, G]")

    def _bound(self, value: Tensor, valid: Tensor) -> Tensor:
        # Overflow inside a reward (inf - inf) is a bad forecast as well, hence `isfinite` on the value itself.
        kept = valid & value.isfinite()
        bounded = torch.where(kept, value.clamp(self.low, self.high), torch.full_like(value, self.low))
        return bounded + 0.0  # turns the -0 of a perfect forecast into 0

    def __repr__(self) -> str:
        options = ", ".join(
            f"{name}={value!r}"
            for name, value in sorted(vars(self).items())
            if name[0] != "_" and name not in ("asks", "optional")
        )
        return f"{type(self).__name__}({options})"


def check_problem(
    samples: Tensor,
    target: Tensor,
    history: Tensor,
    season: int,
    completions: Completions | None,
    known: Known | None = None,
) -> Problem:
    """Checks a reward's inputs and separates missing and invalid values from numbers.

    Raises:
        ValueError: If shapes disagree, the season is below 1, or a row of `target` has no observed step.
    """
    if samples.ndim != 3 or target.ndim != 2 or history.ndim != 2:
        raise ValueError(
            f"expected samples [B, G, H], target [B, H] and history [B, L], found shapes {list(samples.shape)}, "
            f"{list(target.shape)} and {list(history.shape)}; fold channels into B first"
        )
    batch, group, horizon = samples.shape
    if group == 0 or target.shape != (batch, horizon) or history.shape[0] != batch:
        raise ValueError(
            f"samples {list(samples.shape)} want at least one forecast, target [{batch}, {horizon}] and history "
            f"[{batch}, L], found target {list(target.shape)} and history {list(history.shape)}; a forecast of "
            "another length is never cut or padded"
        )
    if season < 1:
        raise ValueError(f"season ({season}) must be at least 1 step")
    observed, seen = target.isfinite(), history.isfinite()
    if not bool(observed.any(1).all()):
        rows = (~observed.any(1)).nonzero()[:, 0].tolist()
        raise ValueError(f"rows {rows[:5]} of target have no observed step; leave such windows out before scoring")
    for name in ("num_values", "num_tokens") if completions is not None else ():
        counts = getattr(completions, name)
        if tuple(counts.shape) != (batch, group):
            raise ValueError(f"completions.{name} must have shape [{batch}, {group}], found {list(counts.shape)}")
    valid = samples.isfinite().all(-1)  # [B, G]
    return Problem(
        samples=torch.where(valid[..., None], samples, torch.zeros_like(samples)),
        valid=valid,
        target=torch.where(observed, target, torch.zeros_like(target)).to(samples.dtype),
        observed=observed,
        history=torch.where(seen, history, torch.zeros_like(history)).to(samples.dtype),
        history_observed=seen,
        season=season,
        completions=completions,
        known=(known or Known()).to(samples.device),
    )


def check_positive(owner: str, **values: float) -> None:
    """Raises ValueError unless every value is a finite number above 0."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
            raise ValueError(f"{owner}: {name} ({value!r}) must be a finite number above 0")
