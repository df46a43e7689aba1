import pytest
import torch

from tsllm.nn.patching import PatchEmbedding, compute_num_patches, patchify


def test_patches_of_ten_steps_cut_by_hand():
    patches = patchify(torch.arange(10.0), patch_length=4, patch_stride=3, end_padding=3)
    assert patches.tolist() == [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9], [9, 9, 9, 9]]


def test_without_padding_the_incomplete_patch_is_left_out():
    patches = patchify(torch.arange(9.0), patch_length=4, patch_stride=3)
    assert patches.tolist() == [[0, 1, 2, 3], [3, 4, 5, 6]]


def test_leading_axes_are_kept_and_the_input_stays_as_it_was():
    values = torch.randn(2, 3, 20)
    before = values.clone()
    patches = patchify(values, 8, 4, 4)
    assert patches.shape == (2, 3, 5, 8)
    assert torch.equal(patches[1, 2], patchify(values[1, 2], 8, 4, 4))
    assert torch.equal(values, before)


def test_the_notes_example_has_64_patches():
    assert compute_num_patches(512, 16, 8, 8) == 64
    assert patchify(torch.randn(28, 512), 16, 8, 8).shape == (28, 64, 16)


def test_a_patch_longer_than_the_series_is_refused():
    with pytest.raises(ValueError, match=r"patch_length \(32\) exceeds the series \(24 steps"):
        patchify(torch.randn(24), 32, 8)


def test_embedding_equals_a_loop_over_the_circle_of_patches():
    layer = PatchEmbedding(patch_length=4, patch_stride=2, d_model=5).eval()
    series = torch.randn(2, 12)
    patches = patchify(series, 4, 2, 2)  # [2, P, 4]
    count = patches.shape[1]
    expected = torch.zeros(2, count, 5)
    for p in range(count):
        for k in range(3):
            expected[:, p] += patches[:, (p + k - 1) % count] @ layer.conv.weight[:, :, k].T
    torch.testing.assert_close(layer(series), expected)
