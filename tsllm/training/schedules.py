"""Learning-rate schedules: by epoch, as experiments of the forecasting literature use them, and falls at steps."""

import math
from collections.abc import Callable, Sequence

import torch
from torch.optim.lr_scheduler import LambdaLR

from tsllm.registry import Registry

FALL = 0.3  # what a fall leaves of the rate


def type1(epoch: int, epochs: float) -> float:  # noqa: ARG001
    """Halves the rate with every epoch from the third on: 1, 1, 1/2, 1/4 ... (Time-Series-Library's default)."""
    return 0.5 ** max(0, epoch - 1)


def type3(epoch: int, epochs: float) -> float:  # noqa: ARG001
    """Keeps the rate for four epochs, then multiplies it by 0.9 each epoch (Time-Series-Library)."""
    return 0.9 ** max(0, epoch - 3)


def epoch_cosine(epoch: int, epochs: float) -> float:
    """Half a cosine over the epochs, in steps of one."""
    return 0.5 * (1 + math.cos(math.pi * min(1.0, epoch / epochs)))


EPOCH_SCHEDULES: Registry[Callable[[int, float], float]] = Registry(
    "schedule by epoch", {"type1": type1, "type3": type3, "epoch_cosine": epoch_cosine}
)


def build_epoch_schedule(name: str, optimizer: torch.optim.Optimizer, steps_per_epoch: int, epochs: float) -> LambdaLR:
    """Builds a scheduler that is stepped after each optimiser step and changes the rate between epochs."""
    factor = EPOCH_SCHEDULES.get(name)

    # A function, not an object: the scheduler's state then holds numbers only and loads with weights_only.
    def of_step(step: int) -> float:
        return factor(step // steps_per_epoch, epochs)

    return LambdaLR(optimizer, of_step)


def build_falls(falls: Sequence[int], optimizer: torch.optim.Optimizer) -> LambdaLR:
    """Builds a scheduler whose rate is constant but for falls to three tenths.

    Args:
        falls: Steps after which it falls; the same step twice is two falls.
        optimizer: Whose rate it is.

    >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    >>> schedule, rates = build_falls([2], optimizer), []
    >>> for _ in range(4):
    ...     rates += schedule.get_last_lr()
    ...     optimizer.step()
    ...     schedule.step()
    >>> rates
    [1.0, 1.0, 0.3, 0.3]
    """

    def of_step(step: int) -> float:
        return FALL ** sum(step >= fall for fall in falls)

    return LambdaLR(optimizer, of_step)
