"""Rewards of forecasts, by name: larger is better, the truth is never beaten, the scale comes from the history."""

from collections.abc import Mapping, Sequence
from typing import Any

from tsllm.registry import Registry
from tsllm.rl.rewards import composite
from tsllm.rl.rewards.accuracy import NegativeMAE, NegativeMASE, NegativeMSE
from tsllm.rl.rewards.base import Completions, Reward
from tsllm.rl.rewards.composite import FunctionReward, WeightedReward
from tsllm.rl.rewards.decision import BatteryProfit, Direction, Newsvendor, PeakTiming
from tsllm.rl.rewards.known import FACTS, Known
from tsllm.rl.rewards.problem import ProblemReward
from tsllm.rl.rewards.scores import Energy, IntervalScore, Pinball
from tsllm.rl.rewards.shape import Correlation, NegativeDTW, SeasonalityAgreement, TrendAgreement
from tsllm.rl.rewards.text import FormatValidity, Length, SoftOverlong, score_completions

REWARDS: Registry[type[Reward]] = Registry(
    "reward",
    {
        "energy": Energy,
        "mae": NegativeMAE,
        "mse": NegativeMSE,
        "mase": NegativeMASE,
        "pinball": Pinball,
        "interval_score": IntervalScore,
        "direction": Direction,
        "peak_timing": PeakTiming,
        "correlation": Correlation,
        "dtw": NegativeDTW,
        "trend": TrendAgreement,
        "seasonality": SeasonalityAgreement,
        "newsvendor": Newsvendor,
        "battery_profit": BatteryProfit,
        "format": FormatValidity,
        "length": Length,
        "soft_overlong": SoftOverlong,
    },
)


def build_reward(spec: str | Mapping[str, Any] | Sequence[Any]) -> Reward:
    """Builds a reward from a name, a dotted path, a mapping with name, weight and options, or a list of such.

    A decision problem of `tsllm.decisions.PROBLEMS`, or one's own by dotted path, is a reward too: minus its regret.

    >>> from tsllm import build_reward
    >>> build_reward({"name": "any_hour_alarm", "threshold": 6000, "miss_cost": 5, "bound": 5}).low
    -5.0
    >>> build_reward({"name": "newsvendor", "under": 2.0})
    Newsvendor(additive=True, bound=200.0, high=0.0, low=-200.0, over=1.0, under=2.0)

    Raises:
        UnknownNameError: If a name is not in `REWARDS`.
        ValueError: If options do not fit or a dotted path leads nowhere.
    """
    return composite.build_reward(spec, REWARDS)


__all__ = [
    "FACTS",
    "REWARDS",
    "Completions",
    "FunctionReward",
    "Known",
    "ProblemReward",
    "Reward",
    "WeightedReward",
    "build_reward",
    "score_completions",
]
