"""Agreement of shape: correlation, dynamic time warping, trend and seasonal pattern."""

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from tsllm.rl.rewards.base import Problem, Reward, check_positive, compute_deviation, compute_seasonal_scale


class Correlation(Reward):
    """Pearson correlation of forecast and truth over the horizon.

    Range [-1, 1], 1 for the truth. A forecast without variation relative to the history (below 1e-6 of its standard
    deviation) correlates with nothing and gets 0; where the truth is constant, every forecast gets 0. Blind to level
    and size: combine it with an accuracy reward.

    >>> import torch
    >>> samples = torch.tensor([[[10.0, 20.0, 30.0], [0.0, -1.0, -2.0], [5.0, 5.0, 5.0]]])
    >>> Correlation()(samples, torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[0.0, 1.0]]))
    tensor([[ 1., -1.,  0.]])
    """

    differentiable: ClassVar[bool] = True
    low = -1.0

    def _paths(self, problem: Problem) -> Tensor:
        scale = compute_deviation(problem.history, problem.history_observed)[:, None, None]  # [B, 1, 1]
        weight = problem.observed[:, None].to(torch.float64)  # [B, 1, H]
        count = weight.sum(-1, keepdim=True)

        def standardise(value: Tensor) -> Tensor:
            # float64, as squares of forecasts near the largest float32 must not overflow.
            centred = (value - (value * weight).sum(-1, keepdim=True) / count) * weight
            square = centred.square().sum(-1, keepdim=True) / count
            varied = square > 1e-12
            return torch.where(varied, centred / torch.where(varied, square, 1.0).sqrt(), torch.zeros_like(centred))

        forecast = standardise((problem.samples / scale).double())  # [B, G, H]
        truth = standardise((problem.target[:, None] / scale).double())  # [B, 1, H]
        return ((forecast * truth).sum(-1) / count[..., 0]).to(problem.samples.dtype)


class NegativeDTW(Reward):
    """Minus the dynamic-time-warping distance (Sakoe & Chiba 1978) to the truth, by step.

    Absolute differences in seasonal naive errors of the history, summed along the cheapest monotone alignment inside a
    band, divided by the horizon. Range [-bound, 0], 0 for the truth. Forgives shifts of up to `band` steps. Missing
    steps of the truth match anything at no cost.

    >>> import torch
    >>> history = torch.tensor([[0.0, 1.0, 0.0, 1.0]])  # naive error 1
    >>> samples = torch.tensor([[[0.0, 5.0, 0.0, 0.0], [0.0, 0.0, 5.0, 2.0]]])  # a step early; one step differs by 2
    >>> NegativeDTW(band=1)(samples, torch.tensor([[0.0, 0.0, 5.0, 0.0]]), history)
    tensor([[ 0.0000, -0.5000]])

    Args:
        band: Largest shift in steps.
        bound: Largest scaled difference that counts.

    Raises:
        ValueError: If the band is negative.
    """

    differentiable: ClassVar[bool] = True

    def __init__(self, band: int = 3, bound: float = 50.0) -> None:
        check_positive("dtw", bound=bound)
        if not isinstance(band, int) or band < 0:
            raise ValueError(f"dtw: band ({band!r}) must be a whole number of steps, at least 0")
        self.band, self.bound, self.low, self.high = band, bound, -float(bound), 0.0

    def _paths(self, problem: Problem) -> Tensor:
        scale = compute_seasonal_scale(problem.history, problem.history_observed, problem.season)
        samples = problem.samples / scale[:, None, None]  # [B, G, H]
        target = (problem.target / scale[:, None])[:, None]  # [B, 1, H]
        horizon = samples.shape[-1]
        step = torch.arange(horizon, device=samples.device)
        best_before, best = None, None  # the two diagonals before this one, indexed by the forecast's step
        for diagonal in range(2 * horizon - 1):
            other = diagonal - step  # the truth's step beside each forecast's step
            inside = (other >= 0) & (other < horizon) & ((step - other).abs() <= self.band)  # [H]
            partner = other.clamp(0, horizon - 1)
            cost = (samples - target[..., partner]).abs().clamp(max=self.bound)
            cost = cost * problem.observed[:, None][..., partner]
            if best is None:
                reached = torch.zeros_like(cost)
            else:
                options = [best, functional.pad(best, (1, 0), value=torch.inf)[..., :-1]]
                if best_before is not None:
                    options.append(functional.pad(best_before, (1, 0), value=torch.inf)[..., :-1])
                reached = torch.stack(options).amin(0)
            best_before, best = best, torch.where(inside, cost + reached, torch.inf)  # [B, G, H]
        assert best is not None
        return -best[..., -1] / horizon


class _Decomposed(Reward):
    """Base of the rewards that compare parts of the classical decomposition by trailing moving average."""

    differentiable: ClassVar[bool] = True

    def __init__(self, window: int | None = None, bound: float = 50.0) -> None:
        check_positive(type(self).__name__, bound=bound, **({} if window is None else {"window": window}))
        self.window, self.bound, self.low, self.high = window, bound, -float(bound), 0.0

    def _trends(self, problem: Problem) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the trend of forecasts [B, G, H] and truth [B, 1, H], and the scale [B, 1]."""
        window = self.window or max(problem.season, 2)
        tail = window - 1
        if problem.history.shape[1] < tail:
            raise ValueError(
                f"{type(self).__name__}: a window of {window} steps reaches {tail} steps back, but the history has "
                f"{problem.history.shape[1]}; lower window or lengthen the context"
            )
        start = problem.history.shape[1] - tail
        known = torch.cat([problem.history_observed[:, start:], problem.observed], 1)[:, None]  # [B, 1, tail + H]
        before = problem.history[:, None, start:]  # [B, 1, tail]
        forecast = torch.cat([before.expand(-1, problem.samples.shape[1], -1), problem.samples], -1)
        truth = torch.cat([before, problem.target[:, None]], -1)
        # A missing truth is missing for the forecast as well, so that both averages run over the same steps.
        count = known.unfold(-1, window, 1).sum(-1).clamp(min=1)  # [B, 1, H]
        trends = [(value * known).unfold(-1, window, 1).sum(-1) / count for value in (forecast, truth)]
        scale = compute_seasonal_scale(problem.history, problem.history_observed, problem.season)[:, None]
        return trends[0], trends[1], scale


class TrendAgreement(_Decomposed):
    """Minus the mean absolute difference of the trends of forecast and truth, in seasonal naive errors of the history.

    The trend is the trailing moving average over a season, which begins in the real history. Range [-bound, 0], 0 for
    the truth.

    >>> import torch
    >>> history = torch.tensor([[0.0, 1.0, 0.0, 1.0]])  # naive error 1 at season 1
    >>> samples = torch.tensor([[[2.0, 2.0], [3.0, 1.0]]])  # with window 2: (1.5, 2) and (2, 2)
    >>> TrendAgreement(window=2)(samples, torch.tensor([[3.0, 1.0]]), history)
    tensor([[-0.2500,  0.0000]])

    Args:
        window: Steps of the moving average; by default a season, at least 2.
        bound: Largest scaled difference that counts.
    """

    def _paths(self, problem: Problem) -> Tensor:
        forecast, truth, scale = self._trends(problem)
        weight = problem.observed[:, None].to(forecast.dtype)
        return -((forecast - truth).abs() * weight).sum(-1) / weight.sum(-1) / scale


class SeasonalityAgreement(_Decomposed):
    """Minus the mean absolute difference of what remains without the trend, in seasonal naive errors of the history.

    Range [-bound, 0], 0 for the truth. Compares the pattern around the trailing moving average of a season.

    >>> import torch
    >>> history = torch.tensor([[0.0, 1.0, 0.0, 1.0]])  # naive error 1 at season 1
    >>> samples = torch.tensor([[[2.0, 2.0], [3.0, 1.0]]])  # around the trend: (0.5, 0) and (1, -1)
    >>> SeasonalityAgreement(window=2)(samples, torch.tensor([[3.0, 1.0]]), history)
    tensor([[-0.7500,  0.0000]])

    Args:
        window: Steps of the moving average; by default a season, at least 2.
        bound: Largest scaled difference that counts.
    """

    def _paths(self, problem: Problem) -> Tensor:
        forecast, truth, scale = self._trends(problem)
        rest = (problem.samples - forecast) - (problem.target[:, None] - truth)  # [B, G, H]
        weight = problem.observed[:, None].to(forecast.dtype)
        return -(rest.abs() * weight).sum(-1) / weight.sum(-1) / scale
