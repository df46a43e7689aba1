"""From the rewards of a group to advantages; pure functions over dimension 1, the group.

All take rewards [B, G] (one for each forecast) or [B, G, H] (one for each step of each forecast) and return the same
shape. None carries a gradient.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from tsllm.registry import Registry

STD_FLOOR = 1e-4  # TRL's; keeps groups without spread finite


def compute_zscore(rewards: Tensor, temperature: float = 1.0) -> Tensor:
    """`(r - mean) / (std + 1e-4)` with the unbiased standard deviation (GRPO, Shao et al. 2024, section 4.1.2).

    It weighs each window by 1 / spread: under asymmetric costs the optimum moves (newsvendor .875 -> .53), and
    forecasters grow over-confident (arXiv 2508.11800); prefer `center`.
    """
    del temperature
    rewards = rewards.detach()
    if rewards.shape[1] == 1:
        return torch.zeros_like(rewards)
    return (rewards - rewards.mean(1, keepdim=True)) / (rewards.std(1, keepdim=True) + STD_FLOOR)


def compute_centered(rewards: Tensor, temperature: float = 1.0) -> Tensor:
    """`r - mean` (Dr. GRPO, Liu et al. 2025): the policy gradient with the group's mean as baseline, times 1 - 1/G."""
    del temperature
    rewards = rewards.detach()
    return rewards - rewards.mean(1, keepdim=True)


def compute_leave_one_out(rewards: Tensor, temperature: float = 1.0) -> Tensor:
    """`r_i - mean of the others` (RLOO, Kool et al. 2019, Ahmadian et al. 2024): unbiased; `center` times G/(G-1)."""
    del temperature
    rewards = rewards.detach()
    group = rewards.shape[1]
    if group < 2:
        raise ValueError("the leave-one-out baseline needs groups of at least 2 forecasts; raise num_samples")
    return (rewards - rewards.mean(1, keepdim=True)) * (group / (group - 1))


def compute_preference(rewards: Tensor, temperature: float = 1.0) -> Tensor:
    """`G * softmax(r / temperature) - 1`: projection on the KL-regularised optimum `pi_old exp(r / temperature) / Z`.

    The M-step of reward-weighted regression (Peters & Schaal 2007) and MPO (Abdolmaleki et al. 2018), centred: the
    subtracted 1 leaves the mean gradient as it is and lowers its variance. For large temperatures it tends to
    `(r - mean) / temperature`.

    Raises:
        ValueError: If the temperature is not positive.
    """
    return compute_preference_weights(rewards, temperature) * rewards.shape[1] - 1


def compute_preference_weights(rewards: Tensor, temperature: float) -> Tensor:
    """Computes `softmax(r / temperature)` over the group.

    Raises:
        ValueError: If the temperature is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"temperature ({temperature}) must be above 0")
    return (rewards.detach() / temperature).softmax(1)


def compute_effective_sample_size(weights: Tensor) -> Tensor:
    """Computes `1 / sum w^2` of weights that sum to 1 over the group (Kish 1965); from 1 to G.

    Args:
        weights: [B, G] or [B, G, H].

    Returns:
        [B] or [B, H].
    """
    return 1 / weights.square().sum(1)


def compute_spread(rewards: Tensor) -> Tensor:
    """Computes the unbiased standard deviation of each group's rewards, [B, G] -> [B]; 0 for groups of one."""
    return rewards.std(1) if rewards.shape[1] > 1 else torch.zeros_like(rewards[:, 0])


ADVANTAGES: Registry[Callable[[Tensor, float], Tensor]] = Registry(
    "advantage",
    {
        "zscore": compute_zscore,
        "center": compute_centered,
        "leave_one_out": compute_leave_one_out,
        "preference": compute_preference,
    },
)
