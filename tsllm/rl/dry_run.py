"""Trying a reward on real windows before anything is trained: its range, its spread, its faults, its time."""

import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tsllm.rl.advantages import compute_spread
from tsllm.rl.rewards.base import Completions, Reward, compute_seasonal_scale
from tsllm.rl.rewards.composite import FunctionReward, WeightedReward, WrongShapeError
from tsllm.rl.rewards.known import Known
from tsllm.rl.rewards.problem import ProblemReward
from tsllm.rl.windows import unfold_problem

CLIPPED_REFUSED, CLIPPED_TOLD = 0.5, 0.05
SKEW_TOLD, FEW = 1.4, 8
FLAT = 1e-6


class RewardError(ValueError):
    """A reward that nothing can be learned from; the text says what was measured and the way out."""


@dataclass(frozen=True)
class DryRun:
    """What a reward did on real windows. Forecasts are the seasonal naive with errors of its own size.

    Attributes:
        name: The reward.
        low: Least value before anything is cut, over all forecasts.
        high: Largest value before anything is cut.
        clipped: Share of values outside the declared range, in 0..1.
        nan: Share of values that are not finite, in 0..1.
        spread: Mean standard deviation within groups, after the cut.
        flat: Share of groups without spread, in 0..1.
        seconds: Time of one call with `rows` groups of `group` forecasts.
        rows: Groups that were judged.
        group: Forecasts in a group.
        problems: Why nothing can be learned from it; empty if something can.
        warnings: What is worth knowing.
    """

    name: str
    low: float
    high: float
    clipped: float
    nan: float
    spread: float
    flat: float
    seconds: float
    rows: int
    group: int
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def check(self) -> "DryRun":
        """Returns itself, or refuses the reward.

        Raises:
            RewardError: If there are problems.
        """
        if self.problems:
            raise RewardError(f"reward {self.name}: " + "; ".join(self.problems))
        return self

    def summary(self) -> str:
        """Returns the outcome in a line."""
        return (
            f"reward {self.name} on {self.rows} windows x {self.group} forecasts: {self.low:.4g} to {self.high:.4g}, "
            f"spread within groups {self.spread:.3g}, flat groups {self.flat:.0%}, clipped {self.clipped:.0%}, "
            f"{1e3 * self.seconds:.1f} ms a call"
        )


@dataclass
class _Found:
    """Values of a reward and of its terms on the same problem."""

    value: Tensor  # [R, G]
    seconds: float
    terms: list[tuple[Reward, Tensor]] = field(default_factory=list)  # before the cut, where they count


def dry_run(
    reward: Reward,
    windows: Any,
    *,
    season: int,
    group: int = 16,
    num_windows: int = 32,
    scale_rewards: bool = False,
    seed: int = 0,
) -> DryRun:
    """Tries a reward on evenly spaced windows.

    Args:
        reward: The reward.
        windows: A `tsllm.rl.windows.ScaledWindows`.
        season: Steps in a season.
        group: Forecasts in a group.
        num_windows: Windows that are tried.
        scale_rewards: Whether advantages will be divided by the group's spread: a skewed spread is then told.
        seed: Of the forecasts.

    Returns:
        What was measured; `DryRun.check` refuses what cannot be trained on.

    Raises:
        RewardError: If the reward raises, or returns another shape than [B, G] (or [B, G, H] by step).
        ValueError: If no window has an observed target.
    """
    chosen = torch.linspace(0, len(windows) - 1, min(num_windows, len(windows))).round().long()
    target, history = unfold_problem(windows.gather(chosen))  # [R, H], [R, L]
    known = windows.find_known(chosen, reward.asks) if reward.asks else None
    judged = ~target.isnan().all(1)
    if not bool(judged.any()):
        raise ValueError("none of the windows has an observed target; nothing can be rewarded")
    target, history = target[judged], history[judged]
    known = None if known is None else known.take(judged)
    samples = draw_forecasts(history, target.shape[1], season, group, torch.Generator().manual_seed(seed))
    return judge_reward(reward, samples, target, history, season, known=known, scale_rewards=scale_rewards)


def judge_reward(
    reward: Reward,
    samples: Tensor,
    target: Tensor,
    history: Tensor,
    season: int,
    *,
    completions: Completions | None = None,
    known: Known | None = None,
    scale_rewards: bool = False,
) -> DryRun:
    """Measures a reward on given forecasts; see `dry_run`.

    Raises:
        RewardError: If the reward raises, or returns another shape.
    """
    problem = (samples, target, history, season, completions)
    # One row first: an error in a user's code shows at once, whatever a whole call costs.
    few = (
        None
        if completions is None
        else Completions(completions.num_values[:1], completions.num_tokens[:1], completions.max_tokens)
    )
    first = torch.zeros(1, dtype=torch.long)
    _call(reward, (samples[:1], target[:1], history[:1], season, few), known and known.take(first))
    began = time.perf_counter()
    value = _call(reward, problem, known)
    seconds = time.perf_counter() - began
    observed = target.isfinite()
    valid = samples.isfinite().all(-1)
    terms = []
    for term in [t for _, t in reward.terms] if isinstance(reward, WeightedReward) else [reward]:
        raw = term.measure(*problem, **term.tell(known))
        counts = valid[..., None] & observed[:, None] if raw.ndim == 3 else valid
        terms.append((term, raw.detach()[counts.expand_as(raw)].double()))
    skew = describe_skew(value, samples.nan_to_num(), target) if scale_rewards else ""
    return _describe(reward, _Found(value.detach().double(), seconds, terms), skew)


def name_place(error: Exception) -> str:
    """Returns the line of a reward's own code that raised, as " (file:line: code)"; empty if there is none."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if "/tsllm/rl/" not in f.filename.replace("\\", "/")]
    return f" ({own[-1].filename}:{own[-1].lineno}: {own[-1].line})" if own else ""


def _call(reward: Reward, problem: Sequence[Any], known: Known | None) -> Tensor:
    try:
        return reward(*problem, **reward.tell(known))
    except Exception as error:
        said = str(error)
        if not isinstance(error, WrongShapeError):
            said = f"{name_reward(reward)} raised {type(error).__name__}: {error}{name_place(error)}"
        samples, target, history = (list(x.shape) for x in problem[:3])
        raise RewardError(
            f"reward {said}; it was called with samples {samples}, target {target} and history {history}, NaN where "
            "target and history are missing"
        ) from error


def _describe(reward: Reward, found: _Found, skew: str) -> DryRun:
    problems: list[str] = []
    warnings: list[str] = []
    clipped = nan = 0.0
    low, high = float("inf"), -float("inf")
    for term, raw in found.terms:
        name = name_reward(term) if isinstance(reward, WeightedReward) else "it"
        finite = raw[raw.isfinite()]
        bad = 1 - len(finite) / max(len(raw), 1)
        if len(finite):
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
        room = 1e-6 * (term.high - term.low)  # rounding is no cut
        outside = float(((finite < term.low - room) | (finite > term.high + room)).double().mean())
        outside = outside if len(finite) else 0.0
        nan, clipped = max(nan, bad), max(clipped, outside)
        if bad > 0:
            problems.append(
                f"{name} is NaN or infinite for {bad:.0%} of finite forecasts"
                + (
                    " (missing targets are NaN: use nanmean, or leave them out)"
                    if isinstance(term, FunctionReward)
                    else ""
                )
            )
        elif outside > CLIPPED_TOLD:
            text = (
                f"{name} measures {float(finite.min()):.4g} to {float(finite.max()):.4g}, but its range is "
                f"[{term.low:g}, {term.high:g}], so that {outside:.0%} are cut; declare low and high that hold, or "
                "divide by the scale of the history"
            )
            (problems if outside >= CLIPPED_REFUSED else warnings).append(text)
    value = found.value  # [R, G]
    spread = compute_spread(value)
    flat = float((spread <= FLAT).double().mean())
    if not problems and flat == 1.0:
        problems.append(
            f"all forecasts of a group earn the same in all {len(value)} windows "
            f"({float(value.min()):.4g} to {float(value.max()):.4g}); there is nothing to learn from"
        )
    elif flat > 0.5:
        warnings.append(f"{flat:.0%} of the groups are flat: their forecasts all earn the same")
    if skew:
        warnings.append(skew)
    return DryRun(
        name_reward(reward), low, high, clipped, nan, float(spread.mean()), flat, found.seconds, len(value),
        value.shape[1], tuple(problems), tuple(warnings),
    )  # fmt: skip


def describe_skew(rewards: Tensor, samples: Tensor, target: Tensor) -> str:
    """Returns a warning if z-scored advantages would move the optimum: the spread within groups is skewed.

    Dividing by the spread weighs each window by its inverse. That does no harm where windows spread alike whether the
    truth lies above or below the forecast; under asymmetric costs the dear side spreads most and then counts least.

    Args:
        rewards: [R, G].
        samples: [R, G, H], finite.
        target: [R, H], NaN where missing.
    """
    spread = compute_spread(rewards.double())
    error = (samples.mean(1) - target).nanmean(1)  # [R]
    above, below = (spread[(side > 0) & (spread > FLAT)] for side in (error, -error))
    if min(len(above), len(below)) < FEW:
        return ""
    over, under = float(above.median()), float(below.median())
    if max(over, under) < SKEW_TOLD * min(over, under):
        return ""
    return (
        f"the reward's spread within groups is skewed ({over:.3g} where forecasts lie above the truth, {under:.3g} "
        "where they lie below), and dividing by it moves the optimum; set scale_rewards: false"
    )


def draw_forecasts(history: Tensor, horizon: int, season: int, group: int, generator: torch.Generator) -> Tensor:
    """Draws forecasts such as an untrained policy makes: the seasonal naive, with errors of about its own size.

    Args:
        history: [R, L], NaN where missing.
        horizon: H.
        season: Steps in a season.
        group: G.
        generator: Of the errors.

    Returns:
        [R, G, H], finite.
    """
    observed = history.isfinite()
    filled = torch.where(observed, history, 0.0)
    level = filled.sum(1, keepdim=True) / observed.sum(1, keepdim=True).clamp(min=1)
    filled = torch.where(observed, history, level)
    period = min(season, history.shape[1])
    steps = history.shape[1] - period + torch.arange(horizon) % period
    scale = compute_seasonal_scale(torch.where(observed, history, 0.0), observed, season)  # [R]
    noise = torch.randn(len(history), group, horizon, generator=generator, dtype=history.dtype)
    # A shift of the whole path beside errors by step, as forecasts are wrong in level too.
    shift = torch.randn(len(history), group, 1, generator=generator, dtype=history.dtype)
    return filled[:, steps][:, None] + scale[:, None, None] * (noise + shift) / 2  # [R, G, H]


def name_reward(reward: Reward) -> str:
    """Returns what a reward is called in messages."""
    if isinstance(reward, FunctionReward):
        return getattr(reward.function, "__qualname__", repr(reward.function))
    if isinstance(reward, WeightedReward):
        return " + ".join(name_reward(term) for _, term in reward.terms)
    return (
        reward.problem.name or type(reward.problem).__name__
        if isinstance(reward, ProblemReward)
        else type(reward).__name__
    )
