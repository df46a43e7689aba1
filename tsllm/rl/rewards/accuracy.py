"""Point accuracy: negative absolute, squared and scaled errors. Additive; each is 0 for the truth.

As the only reward these collapse a distribution onto one path: the expected absolute error of a sample is least for
a point mass at the median. Use `energy` where the spread matters.
"""

from typing import ClassVar

from torch import Tensor

from tsllm.rl.rewards.base import Problem, Reward, check_positive, compute_deviation, compute_seasonal_scale


class NegativeMAE(Reward):
    """Minus the mean absolute error, in standard deviations of the history.

    Range [-bound, 0], 0 for the truth. Each step's error is cut at `bound`.

    >>> import torch
    >>> history = torch.tensor([[0.0, 2.0, 0.0, 2.0]])  # standard deviation 1
    >>> samples = torch.tensor([[[1.0, 1.0], [1.0, 4.0]]])
    >>> NegativeMAE()(samples, torch.tensor([[1.0, 2.0]]), history)  # errors (0, 1) and (0, 2)
    tensor([[-0.5000, -1.0000]])

    Args:
        bound: Largest scaled error that counts.
    """

    differentiable: ClassVar[bool] = True

    def __init__(self, bound: float = 50.0) -> None:
        check_positive("mae", bound=bound)
        self.bound, self.low, self.high, self.additive = bound, -float(bound), 0.0, True

    def _steps(self, problem: Problem) -> Tensor:
        scale = compute_deviation(problem.history, problem.history_observed)[:, None, None]  # [B, 1, 1]
        return -(problem.samples - problem.target[:, None]).abs() / scale


class NegativeMSE(Reward):
    """Minus the mean squared error, in variances of the history.

    Range [-bound, 0], 0 for the truth. Each step's squared error is cut at `bound`.

    >>> import torch
    >>> history = torch.tensor([[0.0, 2.0, 0.0, 2.0]])  # variance 1
    >>> samples = torch.tensor([[[1.0, 1.0], [1.0, 4.0]]])
    >>> NegativeMSE()(samples, torch.tensor([[1.0, 2.0]]), history)  # squared errors (0, 1) and (0, 4)
    tensor([[-0.5000, -2.0000]])

    Args:
        bound: Largest scaled squared error that counts.
    """

    differentiable: ClassVar[bool] = True

    def __init__(self, bound: float = 250.0) -> None:
        check_positive("mse", bound=bound)
        self.bound, self.low, self.high, self.additive = bound, -float(bound), 0.0, True

    def _steps(self, problem: Problem) -> Tensor:
        scale = compute_deviation(problem.history, problem.history_observed)[:, None, None]  # [B, 1, 1]
        return -((problem.samples - problem.target[:, None]) / scale).square()


class NegativeMASE(Reward):
    """Minus the mean absolute scaled error (Hyndman & Koehler 2006): in errors of the in-sample seasonal naive.

    Range [-bound, 0], 0 for the truth; -1 is as bad as the seasonal naive forecast was on the history.

    >>> import torch
    >>> history = torch.tensor([[0.0, 1.0, 2.0, 5.0]])  # |2 - 0| and |5 - 1|: mean 3 at season 2
    >>> samples = torch.tensor([[[3.0, 6.0], [0.0, 6.0]]])
    >>> NegativeMASE()(samples, torch.tensor([[3.0, 6.0]]), history, season=2)
    tensor([[ 0.0000, -0.5000]])

    Args:
        bound: Largest scaled error that counts.
    """

    differentiable: ClassVar[bool] = True

    def __init__(self, bound: float = 50.0) -> None:
        check_positive("mase", bound=bound)
        self.bound, self.low, self.high, self.additive = bound, -float(bound), 0.0, True

    def _steps(self, problem: Problem) -> Tensor:
        scale = compute_seasonal_scale(problem.history, problem.history_observed, problem.season)
        return -(problem.samples - problem.target[:, None]).abs() / scale[:, None, None]
