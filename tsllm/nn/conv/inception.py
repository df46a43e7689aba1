"""Dilated inception and its gated form (MTGNN, Wu et al., KDD 2020)."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from tsllm.nn.channel_block import ChannelBlock, hide_positions
from tsllm.nn.conv.padded import PaddedConv, Padding

COMBINES = ("concat", "sum", "softmax")


class DilatedInception(ChannelBlock):
    """Parallel convolutions of different kernels with one dilation.

    Args:
        num_channels: Number of channels C that come in.
        kernel_sizes: Kernel of each branch.
        dilation: Steps between two taps, for all branches.
        combine: "concat" gives every branch its share of the outputs (the paper); "sum" adds branches of full width;
            "softmax" adds them with learned weights that sum to 1.
        padding: "causal" keeps the length; "none" cuts every branch to the shortest, aligned at the right, which
            shortens the series by (max kernel - 1) * dilation.
        num_outputs: Number of channels that come out; C if None.

    Raises:
        ValueError: If an option is unknown or the outputs cannot be shared out evenly.
    """

    ranks = frozenset({1})
    causal = True

    def __init__(
        self,
        num_channels: int,
        kernel_sizes: Sequence[int] = (2, 3, 6, 7),
        dilation: int = 1,
        combine: Literal["concat", "sum", "softmax"] = "concat",
        padding: Padding = "causal",
        num_outputs: int | None = None,
    ) -> None:
        super().__init__()
        if combine not in COMBINES:
            raise ValueError(f"inception: unknown combine {combine!r}; expected one of {list(COMBINES)}")
        if padding not in ("causal", "none"):
            raise ValueError(f"inception: padding must be 'causal' or 'none' (kernels may be even), got {padding!r}")
        outputs = num_channels if num_outputs is None else num_outputs
        count = len(kernel_sizes)
        if combine == "concat" and outputs % count:
            raise ValueError(
                f"inception: {outputs} channels cannot be shared by {count} kernels without losing some; choose a "
                "multiple, other kernel_sizes, or combine: sum"
            )
        self.combine = combine
        self.trims = padding == "none"
        self.shortening = (max(kernel_sizes) - 1) * dilation if self.trims else 0
        width = outputs // count if combine == "concat" else outputs
        self.branches = nn.ModuleList(
            PaddedConv(num_channels, width, kernel, dilation, padding) for kernel in kernel_sizes
        )
        self.logits = nn.Parameter(torch.zeros(count)) if combine == "softmax" else None

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Convolves x [B, C, L]; mask [B, L], True = real step. Returns [B, C', L], or shorter for "none".

        Raises:
            ValueError: If the series is too short for unpadded kernels, or masked while the length changes.
        """
        if x.shape[-1] <= self.shortening:
            raise ValueError(
                f"inception without padding needs at least {self.shortening + 1} steps, got {x.shape[-1]}; pad on "
                "the left, lower the dilation, or use padding: causal"
            )
        if self.trims and mask is not None:
            raise ValueError("inception without padding changes the length and takes no mask; use padding: causal")
        x = hide_positions(x, mask)
        outputs = [branch(x) for branch in self.branches]
        shortest = min(output.shape[-1] for output in outputs)
        outputs = [output[..., -shortest:] for output in outputs]  # [B, C'', L']
        if self.combine == "concat":
            return hide_positions(torch.cat(outputs, dim=1), mask)
        stacked = torch.stack(outputs)  # [m, B, C', L']
        if self.logits is None:
            return hide_positions(stacked.sum(dim=0), mask)
        weights = torch.softmax(self.logits, dim=0)  # [m]
        return hide_positions(torch.einsum("m,mbcl->bcl", weights, stacked), mask)


class GatedInception(ChannelBlock):
    """tanh of one dilated inception times the sigmoid of another: extraction times selection, |y| < 1.

    Args:
        num_channels: Number of channels C that come in.
        kernel_sizes: Kernel of each branch.
        dilation: Steps between two taps.
        combine: See `DilatedInception`.
        padding: "causal" or "none".
        num_outputs: Number of channels that come out; C if None.
    """

    ranks = frozenset({1})
    causal = True

    def __init__(
        self,
        num_channels: int,
        kernel_sizes: Sequence[int] = (2, 3, 6, 7),
        dilation: int = 1,
        combine: Literal["concat", "sum", "softmax"] = "concat",
        padding: Padding = "causal",
        num_outputs: int | None = None,
    ) -> None:
        super().__init__()
        self.extract = DilatedInception(num_channels, kernel_sizes, dilation, combine, padding, num_outputs)
        self.select = DilatedInception(num_channels, kernel_sizes, dilation, combine, padding, num_outputs)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Convolves x [B, C, L]; mask [B, L], True = real step. Returns [B, C', L], or shorter for "none"."""
        return hide_positions(torch.tanh(self.extract(x, mask)) * torch.sigmoid(self.select(x, mask)), mask)


def compute_receptive_field(num_layers: int, growth: int, max_kernel: int = 7) -> int:
    """Receptive field in steps of stacked inceptions with dilations 1, growth, growth^2, ...

    >>> compute_receptive_field(3, 2)
    43
    """
    return 1 + (max_kernel - 1) * sum(growth**level for level in range(num_layers))
