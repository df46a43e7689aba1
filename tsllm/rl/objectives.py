"""Policy objectives as pure functions of log-probabilities and advantages.

`compute_policy_loss` has every knob; `OBJECTIVES` names the published combinations. A name never means another
algorithm: `build_objective` refuses to change what makes an objective that objective.
"""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tsllm.registry import Registry
from tsllm.rl.advantages import ADVANTAGES

SURROGATES = ("clip", "ratio", "capped", "projection")
AGGREGATIONS = ("sequence", "token", "constant", "total")
LEVELS = ("token", "sequence")


class PolicyLoss(NamedTuple):
    """A loss and what is worth logging about it.

    Attributes:
        loss: Scalar to minimise.
        clip_fraction: Share of tokens whose gradient the clip removes, in 0..1.
        ratio_max: Largest pi / pi_old.
        kl: Mean estimate of KL(pi || reference) by token, in nats (Schulman's k3, see `compute_policy_loss`); 0
            without a reference.
    """

    loss: Tensor
    clip_fraction: Tensor
    ratio_max: Tensor
    kl: Tensor


def compute_policy_loss(
    log_probs: Tensor,
    old_log_probs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    surrogate: str = "clip",
    aggregation: str = "sequence",
    epsilon_low: float = 0.2,
    epsilon_high: float = 0.2,
    ratio_cap: float = 5.0,
    level: str = "token",
    beta: float = 0.0,
    reference_log_probs: Tensor | None = None,
    delta: float | None = None,
    unbiased_kl: bool = False,
    max_length: int | None = None,
    total_tokens: Tensor | float | None = None,
) -> PolicyLoss:
    """Computes the loss of a batch of sequences; a series' "token" is one step of the horizon.

    With ratio `w = pi / pi_old` (of tokens, or of sequences as the mean log-ratio: GSPO, Zheng et al. 2025) and k3 the
    estimate `exp(d) - d - 1`, `d = log ref - log pi`, the loss of a token is

    - `clip`: `-min(w A, clamp(w, 1 - epsilon_low, 1 + epsilon_high) A) + beta k3` (Schulman et al. 2017; DAPO's
      clip-higher with epsilon_high > epsilon_low), with `w` in the first term capped at `delta` if given;
    - `ratio`: `-w A + beta k3`, on policy the gradient of REINFORCE;
    - `capped`: `-stop_gradient(min(w, ratio_cap)) A log pi + beta k3` (CISPO, MiniMax 2025);
    - `projection`: `-((A + 1) log pi - w) + beta k3` with `A + 1` the weights of `compute_preference`. Its gradient
      `-(A + 1 - w) grad log pi` is the centred one while pi = pi_old; later the control variate w follows pi and keeps
      mean zero, so that any number of inner iterations ends at the projection and not beyond it. (With `clip` they
      run on towards pi_old^2 exp(r / temperature), with a fixed -1 without end.)

    Direction of k3: over samples of pi its value estimates KL(pi || reference), without bias. Its gradient does not:
    samples carry none, and what is left, `(1 - ref / pi) grad log pi`, is on average the gradient of
    KL(reference || pi), which covers all that the reference covers. `unbiased_kl` multiplies by w, and the gradient is
    that of KL(pi || reference).

    Aggregation: `sequence` averages tokens in each sequence, then sequences (GRPO); `token` averages all tokens of
    the batch (BNPO); `constant` divides the sum by sequences x `max_length` (Dr. GRPO); `total` divides it by
    `total_tokens`, counted over all batches of a step (DAPO).

    Args:
        log_probs: Of the policy, [N, T].
        old_log_probs: Of the policy that sampled, [N, T].
        advantages: [N], or [N, T] for credit by token.
        mask: 1 for tokens that count, [N, T].
        surrogate: "clip", "ratio", "capped" or "projection".
        aggregation: "sequence", "token", "constant" or "total".
        epsilon_low: Lower clip range.
        epsilon_high: Upper clip range.
        ratio_cap: Largest ratio of "capped".
        level: "token" or "sequence".
        beta: Weight of the KL estimate.
        reference_log_probs: Of the reference policy, [N, T]; needed if beta is not 0.
        delta: Cap of the unclipped ratio (two-sided clipping).
        unbiased_kl: Multiply the KL estimate by the ratio (DeepSeek-V3.2).
        max_length: For "constant".
        total_tokens: For "total".

    Raises:
        ValueError: If a name is unknown, shapes disagree, or an argument that the choice needs is missing.
    """
    _check(log_probs, old_log_probs, advantages, mask, surrogate, aggregation, level)
    mask = mask.to(log_probs.dtype)
    if advantages.ndim == 1:
        advantages = advantages[:, None]  # [N, 1]
    log_ratio = log_probs - old_log_probs.detach()
    if level == "sequence":
        log_ratio = ((log_ratio * mask).sum(-1) / mask.sum(-1).clamp(min=1.0))[:, None]  # [N, 1]
    ratio = log_ratio.exp()
    if surrogate == "capped":
        clipped = (ratio > ratio_cap) & (advantages > 0)
        value = ratio.clamp(max=ratio_cap).detach() * advantages * log_probs
    elif surrogate == "ratio":
        clipped = torch.zeros_like(ratio, dtype=torch.bool)
        value = ratio * advantages
    elif surrogate == "projection":
        clipped = torch.zeros_like(ratio, dtype=torch.bool)
        value = (advantages + 1) * log_probs - ratio
    else:
        value, clipped = _clip(ratio, advantages, epsilon_low, epsilon_high, delta)
    token_loss, kl = -value, torch.zeros_like(log_probs)
    if beta != 0:
        kl = _estimate_kl(log_probs, reference_log_probs, beta) * (ratio if unbiased_kl else 1.0)
        token_loss = token_loss + beta * kl
    loss = _aggregate(token_loss, mask, aggregation, max_length, total_tokens)
    with torch.no_grad():
        count = mask.sum().clamp(min=1.0)
        counted = mask.bool().expand_as(log_probs)
        return PolicyLoss(
            loss,
            (clipped * mask).sum() / count,
            torch.where(counted, ratio, torch.zeros_like(ratio)).max(),
            (kl * mask).sum() / count,
        )


def _clip(
    ratio: Tensor, advantages: Tensor, epsilon_low: float, epsilon_high: float, delta: float | None
) -> tuple[Tensor, Tensor]:
    """Returns the clipped surrogate and where the clip removes the gradient, both [N, T] or [N, 1]."""
    inside = ratio.clamp(1 - epsilon_low, 1 + epsilon_high)
    clipped = ((ratio < 1 - epsilon_low) & (advantages < 0)) | ((ratio > 1 + epsilon_high) & (advantages > 0))
    free = ratio if delta is None else ratio.clamp(max=delta)
    return torch.minimum(free * advantages, inside * advantages), clipped


def _estimate_kl(log_probs: Tensor, reference: Tensor | None, beta: float) -> Tensor:
    """Returns Schulman's k3 of each token, [N, T]."""
    if reference is None:
        raise ValueError(f"beta is {beta}, so reference_log_probs must be given; set beta to 0 to train without")
    distance = reference - log_probs
    return distance.exp() - distance - 1


def _aggregate(
    token_loss: Tensor, mask: Tensor, aggregation: str, max_length: int | None, total: Tensor | float | None
) -> Tensor:
    if aggregation == "sequence":
        return ((token_loss * mask).sum(-1) / mask.sum(-1).clamp(min=1.0)).mean()
    summed = (token_loss * mask).sum()
    if aggregation == "token":
        return summed / mask.sum().clamp(min=1.0)
    if aggregation == "constant":
        if max_length is None:
            raise ValueError("aggregation 'constant' needs max_length, the longest completion in tokens")
        return summed / (len(mask) * max_length)
    if total is None:
        raise ValueError("aggregation 'total' needs total_tokens, the tokens of the whole step")
    return summed / torch.as_tensor(total, dtype=summed.dtype, device=summed.device).clamp(min=1.0)


def _check(
    log_probs: Tensor,
    old: Tensor,
    advantages: Tensor,
    mask: Tensor,
    surrogate: str,
    aggregation: str,
    level: str,
) -> None:
    for name, value, known in (
        ("surrogate", surrogate, SURROGATES),
        ("aggregation", aggregation, AGGREGATIONS),
        ("level", level, LEVELS),
    ):
        if value not in known:
            raise ValueError(f"{name} ({value!r}) must be one of {', '.join(known)}")
    shape = tuple(log_probs.shape)
    fits = tuple(advantages.shape) in (shape, shape[:1])
    if log_probs.ndim != 2 or tuple(old.shape) != shape or tuple(mask.shape) != shape or not fits:
        raise ValueError(
            f"expected log_probs, old_log_probs and mask of one shape [N, T] and advantages [N] or [N, T], found "
            f"{list(shape)}, {list(old.shape)}, {list(mask.shape)} and {list(advantages.shape)}"
        )


@dataclass(frozen=True)
class Objective:
    """A named combination of advantage, surrogate and aggregation.

    Attributes:
        name: As in `OBJECTIVES`.
        paper: Where it was published.
        advantage: A name of `tsllm.rl.advantages.ADVANTAGES`.
        surrogate: See `compute_policy_loss`.
        aggregation: See `compute_policy_loss`.
        knobs: The numbers that a user may change without making it another algorithm.
        epsilon_low: Lower clip range.
        epsilon_high: Upper clip range.
        ratio_cap: Largest ratio of CISPO.
        beta: Weight of the KL to the reference.
        unbiased_kl: Whether the KL's gradient is that of KL(pi || reference), see `compute_policy_loss`.
        temperature: Of the preference weights, in units of the reward.
        dynamic_sampling: Whether groups without spread are replaced by fresh ones.
        mask_truncated: Whether truncated completions are left out of the loss (text).
    """

    name: str
    paper: str
    advantage: str
    surrogate: str
    aggregation: str
    knobs: frozenset[str]
    epsilon_low: float = 0.2
    epsilon_high: float = 0.2
    ratio_cap: float = 5.0
    beta: float = 0.0
    unbiased_kl: bool = False
    temperature: float = 1.0
    dynamic_sampling: bool = False
    mask_truncated: bool = False

    def __post_init__(self) -> None:
        for name in ("epsilon_low", "epsilon_high", "ratio_cap", "temperature"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{self.name}: {name} ({getattr(self, name)}) must be above 0")
        if not self.epsilon_low < 1:
            raise ValueError(f"{self.name}: epsilon_low ({self.epsilon_low}) must be below 1")
        if self.beta < 0:
            raise ValueError(f"{self.name}: beta ({self.beta}) must be at least 0")
        if self.unbiased_kl and self.beta == 0:
            raise ValueError(
                f"{self.name}: unbiased_kl without beta changes nothing; set beta above 0, or leave it out"
            )

    def compute_advantages(self, rewards: Tensor) -> Tensor:
        """Returns the advantages of rewards [B, G] or [B, G, H], same shape, without gradient."""
        return ADVANTAGES.get(self.advantage)(rewards, self.temperature)

    def compute_loss(
        self,
        log_probs: Tensor,
        old_log_probs: Tensor,
        advantages: Tensor,
        mask: Tensor,
        reference_log_probs: Tensor | None = None,
        total_tokens: Tensor | float | None = None,
        max_length: int | None = None,
    ) -> PolicyLoss:
        """Computes the loss of sequences [N, T]; see `compute_policy_loss`.

        `max_length` is by default T; `total_tokens` by default the tokens of this batch.
        """
        return compute_policy_loss(
            log_probs,
            old_log_probs,
            advantages,
            mask,
            surrogate=self.surrogate,
            aggregation=self.aggregation,
            epsilon_low=self.epsilon_low,
            epsilon_high=self.epsilon_high,
            ratio_cap=self.ratio_cap,
            beta=self.beta,
            reference_log_probs=reference_log_probs,
            unbiased_kl=self.unbiased_kl,
            max_length=max_length or log_probs.shape[1],
            total_tokens=mask.sum() if total_tokens is None else total_tokens,
        )


_CLIP = frozenset({"epsilon_low", "epsilon_high"})
_KL = frozenset({"beta", "unbiased_kl"})

OBJECTIVES: Registry[Objective] = Registry(
    "objective",
    {
        "grpo": Objective(
            "grpo", "Shao et al. 2024, arXiv 2402.03300", "zscore", "clip", "sequence", _CLIP | _KL, beta=0.04
        ),
        "dapo": Objective(
            "dapo",
            "Yu et al. 2025, arXiv 2503.14476",
            "zscore",
            "clip",
            "total",
            _CLIP,
            epsilon_high=0.28,
            dynamic_sampling=True,
            mask_truncated=True,
        ),
        "dr_grpo": Objective(
            "dr_grpo", "Liu et al. 2025, arXiv 2503.20783", "center", "clip", "constant", _CLIP | _KL
        ),
        "rloo": Objective(
            "rloo",
            "Ahmadian et al. 2024, arXiv 2402.14740",
            "leave_one_out",
            "ratio",
            "constant",
            _KL,
            beta=0.05,
        ),
        "cispo": Objective(
            "cispo", "MiniMax 2025, arXiv 2506.13585", "zscore", "capped", "total", frozenset({"ratio_cap"})
        ),
        "reward_preference": Objective(
            "reward_preference",
            "the projection on pi_old exp(r / temperature); Peters & Schaal 2007, Abdolmaleki et al. 2018",
            "preference",
            "projection",
            "constant",
            _KL | {"temperature"},
        ),
    },
)


def build_objective(name: str, **changes: Any) -> Objective:
    """Returns the objective `name` with other numbers.

    Args:
        name: A name of `OBJECTIVES`.
        **changes: New values of the objective's knobs; None keeps the published one.

    Raises:
        UnknownNameError: If there is no such objective.
        ValueError: If a change would make it another algorithm.
    """
    objective = OBJECTIVES.get(name)
    changes = {key: value for key, value in changes.items() if value is not None}
    for key, value in changes.items():
        if key not in objective.knobs and getattr(objective, key, None) != value:
            raise ValueError(
                f"{key}={value!r} would make {name!r} another algorithm ({objective.paper}); its knobs are "
                f"{', '.join(sorted(objective.knobs))}; objectives: {', '.join(OBJECTIVES.names())}"
            )
    return replace(objective, **{key: value for key, value in changes.items() if key in objective.knobs})
