"""Patches: overlapping pieces of a series, and their embedding (Nie 2023, PatchTST; Jin 2024, Time-LLM)."""

import torch.nn.functional as F
from torch import Tensor, nn

from tsllm.nn.dropout import Dropout


def compute_num_patches(length: int, patch_length: int, patch_stride: int, end_padding: int = 0) -> int:
    """Returns how many patches `patchify` cuts out of `length` steps.

    Raises:
        ValueError: If a patch is longer than the padded series.
    """
    if patch_length > length + end_padding:
        raise ValueError(
            f"patch_length ({patch_length}) exceeds the series ({length} steps, end padding {end_padding}); "
            "lower patch_length or raise context_length"
        )
    return (length + end_padding - patch_length) // patch_stride + 1


def patchify(values: Tensor, patch_length: int, patch_stride: int, end_padding: int = 0) -> Tensor:
    """Cuts series into overlapping patches.

    Args:
        values: [..., L].
        patch_length: Steps in a patch.
        patch_stride: Steps from one patch's start to the next.
        end_padding: Repetitions of the last value appended first; the published models use `patch_stride`.

    Returns:
        [..., P, patch_length]; a view of `values` if nothing is appended.
    """
    compute_num_patches(values.shape[-1], patch_length, patch_stride, end_padding)
    if end_padding:
        lead = values.shape[:-1]
        values = F.pad(values.reshape(-1, 1, values.shape[-1]), (0, end_padding), mode="replicate")
        values = values.view(*lead, -1)  # [..., L + end_padding]
    return values.unfold(-1, patch_length, patch_stride)  # [..., P, patch_length]


class PatchEmbedding(nn.Module):
    """Embeds patches by a convolution over the patch axis (Jin 2024, section 3.1).

    The values of a patch are the channels of the convolution, its kernel spans three neighbouring patches and the
    axis is circular: the first and the last patch are neighbours.

    Args:
        patch_length: Steps in a patch.
        patch_stride: Steps between patches; also the repetitions of the last value at the end.
        d_model: Width D of an embedded patch.
        dropout: Dropout rate on the result.
    """

    def __init__(self, patch_length: int, patch_stride: int, d_model: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.patch_length = patch_length
        self.patch_stride = patch_stride
        self.conv = nn.Conv1d(patch_length, d_model, 3, padding=1, padding_mode="circular", bias=False)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_in", nonlinearity="leaky_relu")
        self.dropout = Dropout(dropout)

    def forward(self, values: Tensor) -> Tensor:
        """Embeds series [N, L] as patches [N, P, D]."""
        patches = patchify(values, self.patch_length, self.patch_stride, self.patch_stride)  # [N, P, patch_length]
        embedded = self.conv(patches.transpose(1, 2)).transpose(1, 2)  # [N, P, D]
        return self.dropout(embedded)
