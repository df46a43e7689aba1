"""Fusion of several inputs of one shape by learned weights: convex, many-input and selective."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tsllm.nn.channel_block import PointwiseLinear, PositionBatchNorm, hide_positions, pool_mean


class Fusion(nn.Module):
    """Joins m inputs [B, C, *positions] into one of the same shape.

    Attributes:
        causal: Whether the weights at a step depend on that step and earlier ones only.
        mixes: What the fusion itself mixes, see `ChannelBlock`.

    Args:
        num_channels: Number of channels C.
        num_inputs: Number of inputs m.

    Raises:
        ValueError: If there is no input.
    """

    causal: bool = False
    mixes: frozenset[str] = frozenset({"time", "channel"})

    def __init__(self, num_channels: int, num_inputs: int) -> None:
        super().__init__()
        if num_inputs < 1:
            raise ValueError(f"a fusion needs at least one input, got {num_inputs}")
        self.num_channels = num_channels
        self.num_inputs = num_inputs

    def compute_weights(self, inputs: Sequence[Tensor], mask: Tensor | None = None) -> Tensor:
        """Returns weights [m, B, C, *positions or 1...] that sum to 1 over the inputs."""
        raise NotImplementedError

    def forward(self, inputs: Sequence[Tensor], mask: Tensor | None = None) -> Tensor:
        """Joins the inputs.

        Args:
            inputs: m tensors [B, C, *positions].
            mask: [B, *positions], True = real.

        Raises:
            ValueError: If their number is not the one the fusion was built for.
        """
        if len(inputs) != self.num_inputs:
            raise ValueError(f"{type(self).__name__} was built for {self.num_inputs} inputs, got {len(inputs)}")
        weights = self.compute_weights(inputs, mask)
        return hide_positions((weights * torch.stack(list(inputs))).sum(dim=0), mask)


class MeanFusion(Fusion):
    """The plain mean, without parameters."""

    causal = True
    mixes = frozenset()

    def compute_weights(self, inputs: Sequence[Tensor], mask: Tensor | None = None) -> Tensor:
        """Returns 1 / m for each input."""
        return torch.full_like(torch.stack(list(inputs)), 1.0 / self.num_inputs)


class ConvexFusion(Fusion):
    """Convex fusion of two: a = sigmoid(W [x1; x2] + b) at every position, y = a x1 + (1 - a) x2.

    Args:
        num_channels: Number of channels C.
        num_inputs: Must be 2.
        combine: "sum" adds the two weighted parts, "multiply" multiplies them, "concat" maps their concatenation
            back to C channels.

    Raises:
        ValueError: If there are not two inputs or `combine` is unknown.
    """

    causal = True
    mixes = frozenset({"channel"})

    def __init__(
        self, num_channels: int, num_inputs: int = 2, combine: Literal["sum", "multiply", "concat"] = "sum"
    ) -> None:
        super().__init__(num_channels, num_inputs)
        if num_inputs != 2:
            raise ValueError(
                f"convex fusion joins exactly two inputs, got {num_inputs}; use 'sigmoid_softmax' or 'selective'"
            )
        if combine not in ("sum", "multiply", "concat"):
            raise ValueError(f"convex fusion: unknown combine {combine!r}; expected 'sum', 'multiply' or 'concat'")
        self.combine = combine
        self.gate = PointwiseLinear(2 * num_channels, num_channels)
        self.join = PointwiseLinear(2 * num_channels, num_channels) if combine == "concat" else None

    def compute_weights(self, inputs: Sequence[Tensor], mask: Tensor | None = None) -> Tensor:
        """Returns a and 1 - a, stacked: [2, B, C, *positions]."""
        first = torch.sigmoid(self.gate(torch.cat(list(inputs), dim=1)))  # [B, C, *positions]
        return torch.stack([first, 1.0 - first])

    def forward(self, inputs: Sequence[Tensor], mask: Tensor | None = None) -> Tensor:
        """Joins two inputs [B, C, *positions]; mask [B, *positions], True = real."""
        if self.combine == "sum":
            return super().forward(inputs, mask)
        parts = self.compute_weights(inputs, mask) * torch.stack(list(inputs))  # [2, B, C, *positions]
        if self.join is None:
            return hide_positions(parts[0] * parts[1], mask)
        return hide_positions(self.join(torch.cat([parts[0], parts[1]], dim=1)), mask)


class SigmoidSoftmaxFusion(Fusion):
    """Fusion of many: each input has its own gate, a softmax over the inputs lets them compete, per channel.

    s_i = mean of x_i over positions, g_i = sigmoid(W_i s_i + b_i), w = softmax over i of g_i / temperature. Since the
    gates lie in (0, 1), at temperature 1 a weight stays within (1 / (1 + (m-1) e), e / (e + m-1)).

    Args:
        num_channels: Number of channels C.
        num_inputs: Number of inputs m.
        temperature: Below 1 sharpens the softmax, which is mild by itself.
        use_sigmoid: Without the sigmoid the softmax sees W_i s_i + b_i and may be as sharp as it likes.
        shared: Whether one matrix serves all inputs.
        reduction: If given, W_i is a pair of maps through C // reduction channels with a ReLU between.

    Raises:
        ValueError: If the temperature is not positive or the reduction leaves no channel.
    """

    def __init__(
        self,
        num_channels: int,
        num_inputs: int,
        temperature: float = 1.0,
        use_sigmoid: bool = True,
        shared: bool = False,
        reduction: int | None = None,
    ) -> None:
        super().__init__(num_channels, num_inputs)
        if temperature <= 0:
            raise ValueError(f"sigmoid_softmax fusion: temperature must be positive, got {temperature}")
        if reduction is not None and num_channels // reduction < 1:
            raise ValueError(
                f"sigmoid_softmax fusion: reduction ({reduction}) leaves nothing of {num_channels} channels; lower it"
            )
        self.temperature = temperature
        self.use_sigmoid = use_sigmoid
        self.gates = nn.ModuleList(self._build_gate(reduction) for _ in range(1 if shared else num_inputs))

    def _build_gate(self, reduction: int | None) -> nn.Module:
        """Builds W_i: one linear map, or a pair with a ReLU between."""
        if reduction is None:
            return PointwiseLinear(self.num_channels, self.num_channels)
        width = self.num_channels // reduction
        first, second = PointwiseLinear(self.num_channels, width), PointwiseLinear(width, self.num_channels)
        return nn.Sequential(first, nn.ReLU(), second)

    def compute_weights(self, inputs: Sequence[Tensor], mask: Tensor | None = None) -> Tensor:
        """Returns weights [m, B, C, 1...]."""
        gates = [
            self.gates[index % len(self.gates)](pool_mean(part, mask))  # [B, C, 1...]
            for index, part in enumerate(inputs)
        ]
        logits = torch.stack(gates)  # [m, B, C, 1...]
        logits = torch.sigmoid(logits) if self.use_sigmoid else logits
        return torch.softmax(logits / self.temperature, dim=0)


class SelectiveFusion(Fusion):
    """Selective-kernel rule (Li et al., CVPR 2019): the sum of all inputs decides their weights, per channel.

    z = relu(BN(W mean(sum_k U_k))), a_k = softmax over k of A_k z.

    Args:
        num_channels: Number of channels C.
        num_inputs: Number of inputs m.
        d_hidden: Width d of z; max(C // reduction, 32) if None.
        reduction: See `d_hidden`.
    """

    def __init__(self, num_channels: int, num_inputs: int, d_hidden: int | None = None, reduction: int = 16) -> None:
        super().__init__(num_channels, num_inputs)
        width = max(num_channels // reduction, 32) if d_hidden is None else d_hidden
        self.squeeze = PointwiseLinear(num_channels, width, bias=False)
        self.norm = PositionBatchNorm(width)
        self.select = PointwiseLinear(width, num_inputs * num_channels, bias=False)

    def compute_weights(self, inputs: Sequence[Tensor], mask: Tensor | None = None) -> Tensor:
        """Returns weights [m, B, C, 1...]."""
        total = torch.stack(list(inputs)).sum(dim=0)  # [B, C, *positions]
        z = F.relu(self.norm(self.squeeze(pool_mean(total, mask))))  # [B, d, 1...]
        logits = self.select(z).unflatten(1, (self.num_inputs, self.num_channels))  # [B, m, C, 1...]
        return torch.softmax(logits, dim=1).movedim(1, 0)  # [m, B, C, 1...]
