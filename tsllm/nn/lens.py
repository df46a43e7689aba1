"""Hidden states of texts made short: what training reads of them."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

DIRECTIONS = 128
_LEAST_DEVIATION = 1e-4  # of the features' mean; less is rounding
_LEAST_VARIANCE = 1e-6  # of the largest direction's


def shorten_width(hidden_size: int) -> int:
    """Returns the width of a shortened hidden state."""
    return min(hidden_size, DIRECTIONS)


class Lens(nn.Module):
    """Shortens hidden states: each feature in its own deviations, then along the principal directions of all.

    A few features of a language model are ten times as large as the others, so that a map of them as they are learns
    slowly and generalises badly. A state is shortened once for each text, so that training never handles it whole.

    Args:
        hidden_size: Width d of the hidden states.

    Example:
        >>> lens = Lens(2)
        >>> lens.fit([torch.tensor([[0.0, 3.0], [200.0, 3.0]]), torch.tensor([[0.0, 1.0], [200.0, 1.0]])])
        >>> lens(torch.tensor([100.0, 2.0])).tolist()
        [0.0, 0.0]
    """

    centre: Tensor
    directions: Tensor

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(hidden_size))
        self.register_buffer("directions", torch.zeros(hidden_size, shorten_width(hidden_size)))

    @property
    def is_fitted(self) -> bool:
        """Whether texts were seen."""
        return bool(self.directions.any())

    @torch.no_grad()
    def fit(self, states: Sequence[Tensor]) -> None:
        """Finds centre and directions.

        Args:
            states: Hidden states of each text [T, d]. Shortened, their features vary by 1 on the average; directions
                in which they do not vary are not read.
        """
        tokens = torch.cat(list(states)).float()  # [M, d]
        centre = tokens.mean(0)
        centred = tokens - centre
        deviation = centred.square().mean(0).sqrt()
        deviation = deviation.clamp_min(_LEAST_DEVIATION * float(deviation.mean()) + 1e-12)
        centred = centred / deviation
        variances, found = torch.linalg.eigh((centred.T @ centred / len(centred)).double())  # ascending
        count = self.directions.shape[1]
        variances, found = variances[-count:].flip(0), found[:, -count:].flip(1)  # [d'], [d, d']
        kept = found * (variances > _LEAST_VARIANCE * variances[0]) / variances.mean().clamp_min(1e-12).sqrt()
        self.centre.copy_(centre)
        self.directions.copy_(kept / deviation[:, None])

    @torch.no_grad()
    def forward(self, states: Tensor) -> Tensor:
        """Shortens states [..., d] to [..., d'], on the device of the lens."""
        return (states.to(self.centre) - self.centre) @ self.directions
