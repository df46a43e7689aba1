"""Layer-wise proximal clipping: each layer's gradient is drawn towards a quantile of its own recent norms.

For L_clip = sum_i max(0, |g_i| - tau_i)^2 over layers i, the proximal map of lam * L_clip at g_i keeps the direction
and sets the norm to (|g_i| + 2 lam tau_i) / (1 + 2 lam) where |g_i| > tau_i: a soft version of clipping that becomes
the hard one as lam grows. Nothing is differentiated twice.
"""

import math
import re
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState


@dataclass(frozen=True)
class LayerClipOptions:
    """How strongly and against what is clipped.

    Attributes:
        lam: Strength; 0 does nothing, infinity clips hard.
        quantile: tau of a layer is this quantile of its recent norms.
        window: How many recent steps count.
        warmup: Steps that are only observed.
    """

    lam: float = math.inf
    quantile: float = 0.9
    window: int = 100
    warmup: int = 10

    def __post_init__(self) -> None:
        if self.lam < 0 or math.isnan(self.lam):
            raise ValueError(f"lam must not be negative, got {self.lam}")
        if not 0 < self.quantile <= 1:
            raise ValueError(f"quantile must lie in (0, 1], got {self.quantile}")
        if not 1 <= self.warmup <= self.window:
            raise ValueError(f"warmup must lie in 1..window ({self.window}), got {self.warmup}")


def group_by_layer(model: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Groups the trainable parameters: numbered blocks (`...layers.3`) each, all else by its module."""
    groups: dict[str, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        block = re.match(r"(.*?\.\d+)\.", name)
        key = block[1] if block else name.rpartition(".")[0] or name
        groups.setdefault(key, []).append(parameter)
    return groups


def compute_norm(parameters: list[nn.Parameter]) -> Tensor:
    """Returns the Euclidean norm of the joint gradient (a scalar; 0 without gradients)."""
    norms = [p.grad.detach().float().norm() for p in parameters if p.grad is not None]
    return torch.stack(norms).norm() if norms else torch.zeros(())


def compute_proximal_norm(norm: float, threshold: float, lam: float) -> float:
    """Returns the norm after the proximal map; never above `norm`."""
    if norm <= threshold:
        return norm
    return threshold if math.isinf(lam) else (norm + 2 * lam * threshold) / (1 + 2 * lam)


class LayerClip(TrainerCallback, ExportableState):
    """Applies the proximal map before each optimiser step; set `max_grad_norm: 0` beside it.

    All ranks see the same reduced gradients, so they clip alike. A norm that is not finite is clipped to the
    threshold by zeroing it and is never remembered. The recent norms are part of checkpoints.

    Attributes:
        last: Of the last step: `layer_clip/loss` (L_clip before the map), `layer_clip/clipped` (share of layers),
            `layer_clip/nonfinite`.
    """

    def __init__(self, **options: Any) -> None:
        self.options = LayerClipOptions(**options)
        self.recent: dict[str, deque[float]] = {}
        self.last: dict[str, float] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Refuses settings under which gradients are scaled or clipped already."""
        if args.max_grad_norm:
            raise ValueError(
                f"layer_clip replaces the global clipping: set max_grad_norm to 0, not {args.max_grad_norm}"
            )
        if args.fp16:
            raise ValueError("layer_clip would see loss-scaled gradients under fp16; use bf16 or float32")

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Clips the gradients of `model` in place."""
        self.clip(kwargs["model"])

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        """Adds the last step's numbers to the log."""
        if logs is not None and "loss" in logs:
            logs.update(self.last)
            state.log_history[-1].update(self.last)  # the library writes the history before it asks callbacks

    def clip(self, model: nn.Module) -> None:
        """Clips all layers of `model` and remembers their norms."""
        groups = group_by_layer(model)
        norms = torch.stack([compute_norm(parameters) for parameters in groups.values()]).tolist()
        loss, clipped, nonfinite = 0.0, 0, 0
        for (name, parameters), norm in zip(groups.items(), norms, strict=True):
            recent = self.recent.setdefault(name, deque(maxlen=self.options.window))
            if not math.isfinite(norm):
                nonfinite += 1
                _scale(parameters, 0.0)
                continue
            if len(recent) >= self.options.warmup:
                threshold = float(np.quantile(recent, self.options.quantile))
                if norm > threshold:
                    loss += (norm - threshold) ** 2
                    clipped += 1
                    _scale(parameters, compute_proximal_norm(norm, threshold, self.options.lam) / norm)
            recent.append(norm)
        share = clipped / max(len(groups), 1)
        self.last = {"layer_clip/loss": loss, "layer_clip/clipped": share, "layer_clip/nonfinite": float(nonfinite)}

    def state(self) -> dict[str, Any]:
        """Returns what a checkpoint holds."""
        return {
            "args": dict(vars(self.options)),
            "attributes": {"recent_norms": self.recent_norms},
        }

    @property
    def recent_norms(self) -> dict[str, list[float]]:
        """The remembered norms, as plain lists."""
        return {name: list(norms) for name, norms in self.recent.items()}

    @recent_norms.setter
    def recent_norms(self, norms: dict[str, list[float]]) -> None:
        self.recent = {name: deque(values, maxlen=self.options.window) for name, values in norms.items()}


def _scale(parameters: list[nn.Parameter], factor: float) -> None:
    for parameter in parameters:
        if parameter.grad is not None:
            if factor == 0.0:
                parameter.grad.zero_()  # 0 * inf would be NaN
            else:
                parameter.grad.mul_(factor)
